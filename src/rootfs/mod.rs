//! What the container sees as /.
