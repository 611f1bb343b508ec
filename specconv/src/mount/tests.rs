#![allow(clippy::unwrap_used)]
use super::*;

fn attributes(options: &[&str]) -> (Attributes, Attributes) {
    let options: Vec<String> = options.iter().map(|text| text.to_string()).collect();
    let read = read_options(0, &options, (&[], &[])).unwrap();
    (read.own.finish(), read.recursive.finish())
}

fn own(options: &[&str]) -> (u64, u64) {
    let (own, _) = attributes(options);
    (own.set, own.clear)
}

#[test]
fn the_table_is_sorted_so_that_it_can_be_searched() {
    assert!(OPTIONS.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn the_later_of_two_opposites_wins() {
    assert_eq!(own(&["ro"]), (MOUNT_ATTR_RDONLY, 0));
    assert_eq!(own(&["ro", "rw"]), (0, MOUNT_ATTR_RDONLY));
    assert_eq!(own(&["rw", "ro"]), (MOUNT_ATTR_RDONLY, 0));
    assert_eq!(own(&["nosuid", "nodev", "noexec", "suid"]), (MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID));
}

#[test]
fn access_time_is_one_field() {
    let all = MOUNT_ATTR__ATIME;
    assert_eq!(own(&["noatime"]), (MOUNT_ATTR_NOATIME, all));
    assert_eq!(own(&["relatime"]), (0, all));
    assert_eq!(own(&["strictatime"]), (MOUNT_ATTR_STRICTATIME, all));
    assert_eq!(own(&["atime"]), (0, all));
    // As mount(2) with the same flags: strict before never before relative, whatever the order.
    assert_eq!(own(&["noatime", "relatime"]), (MOUNT_ATTR_NOATIME, all));
    assert_eq!(own(&["strictatime", "noatime"]), (MOUNT_ATTR_STRICTATIME, all));
    assert_eq!(own(&["noatime", "atime"]), (0, all));
    // To wish no longer is not to wish the contrary.
    assert_eq!(own(&["norelatime"]), (0, 0));
    assert_eq!(own(&["nostrictatime"]), (0, 0));
    assert_eq!(own(&["relatime", "norelatime"]), (0, 0));
    assert_eq!(own(&["nodiratime"]), (MOUNT_ATTR_NODIRATIME, 0));
}

#[test]
fn attributes_for_the_tree_stand_apart() {
    let (own, tree) = attributes(&["rro", "nosuid", "rnosymfollow", "rnoatime", "rdev"]);
    assert_eq!((own.set, own.clear), (MOUNT_ATTR_NOSUID, 0));
    assert_eq!(tree.set, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSYMFOLLOW | MOUNT_ATTR_NOATIME);
    assert_eq!(tree.clear, MOUNT_ATTR__ATIME | MOUNT_ATTR_NODEV);
}

#[test]
fn data_is_split_where_the_kernel_would_split_it() {
    let mut found = Vec::new();
    data(0, 7, r#"size=1m,mode=755,,context="a:b,c",lowerdir=/a\,b,nr"#, &mut found).unwrap();
    let found: Vec<_> = found.iter().map(|option| (option.key.as_str(), option.value.as_deref())).collect();
    let expected = [
        ("size", Some("1m")),
        ("mode", Some("755")),
        ("context", Some("\"a:b,c\"")),
        ("lowerdir", Some("/a\\,b")),
        ("nr", None),
    ];
    assert_eq!(found, expected);
    assert!(data(0, 0, "=x", &mut Vec::new()).is_err());
}

#[test]
fn destinations_are_cleaned_by_their_words() {
    for (written, clean) in
        [("/a/", "/a"), ("/a/.", "/a"), ("//x", "/x"), ("a/../../b", "/b"), ("/..", "/"), (".", "/")]
    {
        assert_eq!(cleaned(Path::new(written)), Path::new(clean), "{written}");
    }
}

#[test]
fn a_relative_range_is_looked_up_in_one_line() {
    let maps = [IdMap { container: 0, host: 100_000, size: 10 }, IdMap { container: 10, host: 5000, size: 10 }];
    assert_eq!(id_range("@0-5-3", &maps), Ok(IdMap { container: 0, host: 100_005, size: 3 }));
    assert_eq!(id_range("0-5-3", &maps), Ok(IdMap { container: 0, host: 5, size: 3 }));
    assert!(id_range("@0-9-2", &maps).is_err());
    assert!(id_range("@0-20-1", &maps).is_err());
    for bad in ["", "0-1", "0-1-2-3", "0-+1-2", "0-1-", "a-b-c", "0-1-4294967296"] {
        assert!(id_range(bad, &maps).is_err(), "{bad}");
    }
}
