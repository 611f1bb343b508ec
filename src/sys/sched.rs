//! Scheduling, priorities, affinity, limits, memory policy, personality.
