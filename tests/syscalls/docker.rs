//! A profile as Docker's engine writes it into `config.json`, composed from the public list of names.

use serde_json::{Value, json};

/// The profile that Docker gives a container without capabilities of its own (the names: tests/syscalls).
pub fn docker() -> Value {
    let allowed: Vec<&str> = include_str!("docker-allows.txt").split_whitespace().collect();
    let mut rules = vec![json!({"names": allowed, "action": "SCMP_ACT_ALLOW"})];
    let mut asking = |name: &str, index: u32, op: &str, value: u64, two: u64| {
        let args = json!([{"index": index, "value": value, "valueTwo": two, "op": op}]);
        rules.push(json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": args}));
    };
    for persona in [0, 8, 0x20000, 0x20008, 0xffff_ffff] {
        asking("personality", 0, "SCMP_CMP_EQ", persona, 0);
    }
    asking("socket", 0, "SCMP_CMP_LT", 12, 0);
    for family in (13..=18).chain([21, 22, 24]).chain(26..=33).chain([35, 36, 39]).chain(41..=45) {
        asking("socket", 0, "SCMP_CMP_EQ", family, 0);
    }
    asking("clone", 0, "SCMP_CMP_MASKED_EQ", 0x7e02_0000, 0);
    rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}));
    json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": rules,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]})
}
