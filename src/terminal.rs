//! Terminals: allocation, console socket, foreground copying.
