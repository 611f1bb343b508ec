//! Processes: clone, pidfds, exec, prctl, wait.
