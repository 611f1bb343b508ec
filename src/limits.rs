//! Limits of the process itself: rlimits, scheduling, I/O priority, affinity, memory policy, OOM score, personality.
