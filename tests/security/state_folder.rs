//! The state folder: ids, links planted in it, the fifo.

use std::os::unix::fs::symlink;

use crate::require;
use crate::support::is_root;
use crate::trap::Trap;

/// T40: ids and links in the state directory.
#[test]
fn t40_the_state_folder_is_a_link() {
    require!(is_root(), "root of the host");
    let bundle = Trap::new();
    std::fs::create_dir(bundle.state_root()).unwrap();
    let entry = bundle.state_root().join(bundle.id());
    symlink(bundle.canary.path(), &entry).unwrap();
    bundle.create();
    bundle.delete_force();
    let _ = std::fs::remove_file(&entry);
}

/// T57: the fifo is not in sight, and start works once.
#[test]
fn t57_the_fifo_is_the_runtimes_own() {
    require!(is_root(), "root of the host");
    let mut bundle =
        Trap::sh("find / -xdev -type p 2>/dev/null; ls -l /proc/1/fd | grep -c -e fifo -e state; sleep 1000");
    bundle.args(&["sleep", "1000"]).create().ok();
    bundle.start().ok();
    bundle.wait_for_status("running");
    bundle.start().fails();
    assert_eq!(
        bundle
            .exec("find / -xdev -type p 2>/dev/null | wc -l; ls -l /proc/1/fd | grep -c -e fifo -e state; true")
            .ok()
            .stdout,
        "0\n0\n"
    );
    bundle.finish_off();
}
