//! Traps from the history of container runtimes, each sprung on the real binary: `cargo test --test security`.
//!
//! `docs/cve.md` has a row for each hole that became known in runc, crun, youki and their neighbours; its last columns name
//! the tests here, and where each was seen red. `ORLOP_UNDER_TEST=/usr/sbin/runc cargo test --test security` asks a peer.
//!
//! A trap is a [`trap::Trap`]: a bundle (it *is* a [`support::Bundle`], so everything of that works), a canary tree beside
//! the rootfs (`bundle/outside`: `../outside` of a link in the rootfs, `../../outside` one directory deeper), and sentinels
//! of the host ([`host::Host`]). After **every command** of the runtime both are compared with what they were before, also
//! when the command failed; so the message tells at which step something outside was touched.
//!
//! ```text
//! require!(is_root(), "root of the host");
//! let mut trap = Trap::new();                        // program: true; Trap::sh("script") for a shell script
//! symlink(trap.canary.path(), trap.rootfs("m"));     // set it
//! trap.mount(json!({...}));                          // any method of Bundle
//! let life = trap.survive();                         // run; then create, start, exec, kill, delete: compared each time
//! life.said(|text| assert!(...));                    // what the program wrote, in run and in exec, where it ran at all
//! trap.refused("words of the error");                // instead: run and create must fail, say so, and leave nothing
//! trap.works();                                      // the positive twin: as survive, and every step must succeed
//! trap.create(); trap.start(); trap.exec("..");      // or step by step: the words of Bundle, compared as well
//! trap.compare("what was done");                     // or by hand, after something else
//! ```
//!
//! A test runs in mount, network, UTS and IPC namespaces of its own (of its thread), with a `/dev` of its own, so that a
//! runtime that falls into a trap does this machine no harm: it chowns a `/dev/null` that nobody else has. The mounts there
//! are shared with each other, as systemd has them, so that a mount that leaks out of a container is seen. What is global in
//! the kernel (`core_pattern`) is put back when it was found changed.
//!
//! Tests are named `tNN_cve_YYYY_NNNN_words` after their recipe (T01 to T60 of security.md) and the first CVE they stand
//! for; `register.rs` holds `docs/cve.md` to them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod host;
#[allow(dead_code, reason = "its words are for tests to come as well")]
mod trap;

mod destinations;
mod fakes;
mod fallback;
mod hooks;
mod image;
mod kernel;
mod leaks;
mod payload;
mod privileges;
mod refusals;
mod register;
mod runtime_files;
mod state_folder;
mod strings;
