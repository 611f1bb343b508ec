//! Network devices moved into the container (config-linux.md#network-devices).

use std::process::Command;

use serde_json::json;

use crate::require;
use crate::support::{Bundle, is_root};

/// A veth pair in the host's namespace whose first end has an address; gone with the test, whatever happened.
struct Pair(String, String);

impl Pair {
    fn new(tag: &str) -> Pair {
        let number = std::process::id() % 100_000;
        let pair = Pair(format!("o{tag}a{number}"), format!("o{tag}b{number}"));
        assert!(ip(&["link", "add", &pair.0, "type", "veth", "peer", "name", &pair.1]).0);
        assert!(ip(&["addr", "add", "10.210.3.2/24", "dev", &pair.0]).0);
        pair
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        ip(&["link", "del", &self.1]);
    }
}

fn ip(args: &[&str]) -> (bool, String) {
    let output = Command::new("ip").args(args).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_device_moves_in_under_its_new_name_with_its_address() {
    require!(is_root(), "root of the host");
    let pair = Pair::new("m");
    let mut bundle = Bundle::sh("ip addr show eth7");
    bundle.edit(|spec| spec["linux"]["netDevices"] = json!({&pair.0: {"name": "eth7"}}));
    let inside = bundle.output();
    assert!(inside.contains("inet 10.210.3.2/24") && inside.contains(",UP"), "{inside}");
    bundle.assert_gone();
}

#[test]
fn a_template_gets_a_number_that_is_free() {
    require!(is_root(), "root of the host");
    let (first, second) = (Pair::new("t"), Pair::new("v"));
    let mut bundle = Bundle::sh("ls /sys/class/net | grep eth");
    bundle.edit(|spec| {
        spec["linux"]["netDevices"] = json!({&first.0: {"name": "eth%d"}, &second.0: {"name": "eth%d"}});
    });
    assert_eq!(bundle.output(), "eth0\neth1");
    bundle.assert_gone();
}

#[test]
fn a_failed_create_gives_devices_back() {
    require!(is_root(), "root of the host");
    let pair = Pair::new("u");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| {
        spec["linux"]["netDevices"] = json!({&pair.0: {"name": "eth7"}});
        spec["hooks"]["createRuntime"] = json!([{"path": "/bin/false"}]);
    });
    bundle.create().fails();
    let (there, device) = ip(&["addr", "show", &pair.0]);
    assert!(there && device.contains("inet 10.210.3.2/24"), "{device}");
    bundle.assert_gone();
}

#[test]
fn a_missing_device_is_named() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["netDevices"] = json!({"nosuch0": {}}));
    bundle.create().fails_with("nosuch0");
    bundle.assert_gone();
}
