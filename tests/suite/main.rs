//! Black-box tests: the real binary on the real kernel, one module a topic.
//!
//! `cargo test --test suite` tests orlop; `ORLOP_UNDER_TEST=/usr/sbin/runc cargo test --test suite` asks another runtime
//! the same questions (`tests/expected_differences.toml` lists where it answers otherwise, and `cargo peers` compares).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod cgroups;
mod cgroups_v2;
mod containerd;
mod delegated;
mod descriptors;
mod devices;
mod docker;
mod engines;
mod errors;
mod events;
mod exec;
mod hooks;
mod host_mounts;
mod labels;
mod library;
mod lifecycle;
mod mounts;
mod namespaces;
mod network;
mod notify;
mod older_kernels;
mod ordinary_user;
mod podman;
mod process;
mod resources;
mod rootless;
mod seccomp;
mod systemd;
mod update;
mod user_namespaces;
mod words;
