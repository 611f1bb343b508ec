#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

#[test]
fn paths_name_units() {
    let of = |wish, instance| {
        unit(wish, "web", instance).map(|(unit, slice)| (unit.name.clone(), slice.clone(), unit.path(&slice)))
    };
    let case = |wish, instance| {
        let (name, slice, path) = of(wish, instance).unwrap();
        (name, slice, path.unwrap())
    };
    let system = Instance::System;
    let told = |name: &str, slice: &str, path: &str| (name.to_owned(), slice.to_owned(), path.to_owned());
    assert_eq!(case(None, system), told("runc-web.scope", "system.slice", "system.slice/runc-web.scope"));
    assert_eq!(case(Some(""), Instance::User), told("runc-web.scope", "user.slice", "user.slice/runc-web.scope"));
    assert_eq!(case(Some(":docker:1"), system), told("docker-1.scope", "system.slice", "system.slice/docker-1.scope"));
    assert_eq!(
        case(Some("kube-pod.slice:cri:1"), system),
        told("cri-1.scope", "kube-pod.slice", "kube.slice/kube-pod.slice/cri-1.scope")
    );
    assert_eq!(case(Some("-.slice::1"), system), told("1.scope", "-.slice", "1.scope"));
    assert_eq!(case(Some("a.slice:x:a-b.slice"), system), told("a-b.slice", "a.slice", "a.slice/a-b.slice"));
    for bad in ["/a/b", "a:b", "a:b:c:d", "::", ":x:a/b", ":x:a b", "::-.slice", ":: .."] {
        let refused = of(Some(bad), system);
        assert!(refused.as_ref().is_err() || refused.as_ref().unwrap().2.is_err() || bad == "::", "{bad}: {refused:?}");
    }
    let error = of(Some("/a/b"), system).unwrap_err().to_string();
    assert!(error.contains("expected cgroupsPath to be of format \"slice:prefix:name\""), "{error}");
}

#[test]
fn slices_lie_in_slices() {
    let cases =
        [("a.slice", Some("a.slice")), ("a-b-c.slice", Some("a.slice/a-b.slice/a-b-c.slice")), ("-.slice", Some(""))];
    for (slice, path) in cases {
        assert_eq!(expand(slice).ok().as_deref(), path, "{slice}");
    }
    for bad in ["", "a", ".slice", "a--b.slice", "-a.slice", "a-.slice", "a/b.slice", "..-..slice"] {
        assert!(expand(bad).unwrap_err().to_string().contains("invalid slice name"), "{bad}");
    }
}

#[test]
fn systemd_manages_what_is_above_its_own_scope() {
    assert_eq!(managed("0::/init.scope\n"), "");
    assert_eq!(managed("9:name=systemd:/lxc/a/init.scope\n1:cpu:/x\n0::/b/init.scope\n"), "/lxc/a");
    assert_eq!(managed("0::/somewhere\n"), "");
}
