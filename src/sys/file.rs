//! Files and directories by handle.
