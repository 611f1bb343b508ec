//! Programs of cgroup v2 (bpf(2)).
