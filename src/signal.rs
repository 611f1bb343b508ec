//! Signals: names and numbers, forwarding, a clean slate before every execve.
