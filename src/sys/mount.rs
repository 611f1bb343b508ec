//! The mount API by descriptor (Linux 5.2 and 5.12), and the old mount(2).
