//! The configs that Docker, containerd and Podman really write (`specconv/tests/cases`), run as they are: all that is changed
//! is the cgroup's name, the files they bind, and the filter where this version refuses it.

use serde_json::{Value, json};

use crate::require;
use crate::support::{Bundle, has_capability, is_root};

#[track_caller]
fn engine(config: &str) {
    let mut bundle = Bundle::new();
    let token = bundle.id().to_owned();
    let mut spec: Value = serde_json::from_str(config).unwrap();
    spec["linux"]["cgroupsPath"] = json!(format!("/{token}"));
    for mount in spec["mounts"].as_array().unwrap() {
        let source = mount["source"].as_str().unwrap_or_default();
        if mount["type"] == "bind" && !source.starts_with('/') {
            let file = bundle.path().join(source);
            if source.ends_with("shm") || source.ends_with("data") {
                std::fs::create_dir_all(&file).unwrap();
            } else {
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(&file, "from the engine\n").unwrap();
            }
        }
    }
    if !has_capability(24) {
        // Engines raise limits and lower scores as they are used to.
        let process = spec["process"].as_object_mut().unwrap();
        process.remove("rlimits");
        process.remove("oomScoreAdj");
    }
    bundle.spec = spec;
    bundle.create().ok();
    bundle.start().ok();
    bundle.wait_for_status("running");
    // Not every engine's config has a PATH.
    let script = "/bin/ls /proc/self/fd > /dev/null && echo alive; /bin/cat /etc/hosts 2> /dev/null; true";
    let outcome = bundle.exec_with(&[], &["/bin/sh", "-c", script]).ok();
    assert!(outcome.stdout.starts_with("alive\n"), "{outcome}");
    let binds_hosts =
        bundle.spec["mounts"].as_array().unwrap().iter().any(|mount| mount["destination"] == "/etc/hosts");
    assert_eq!(outcome.stdout.contains("from the engine"), binds_hosts, "{outcome}");
    bundle.finish_off();
    bundle.assert_gone();
}

macro_rules! engines {
    ($($test:ident: $file:literal,)*) => {
        $(#[test]
        fn $test() {
            require!(is_root(), "root of the host");
            engine(include_str!(concat!("../../specconv/tests/cases/", $file)));
        })*
    };
}

engines! {
    containerd_1_6: "containerd-1.6.json",
    containerd_1_7: "containerd-1.7.json",
    docker_20_10: "docker-20.10.json",
    docker_26_1: "docker-26.1.json",
    podman_4_3: "podman-4.3.json",
    podman_5_4: "podman-5.4.json",
}
