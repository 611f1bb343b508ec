//! What `update` makes of the resources that a container has.
//!
//! Both are JSON as the specification writes `linux.resources`, and so is what comes out: the container remembers it
//! for the next update. What the request leaves out stays. Three fields are bound to others (runc's rules):
//! quota, period and burst are written together, so a quota alone keeps the period that stands; so are memory and
//! swap, whose limit counts both; and `cpu.idle` without shares takes the shares back, as the kernel does.

use serde_json::{Map, Value};

use crate::{Invalid, Resources, convert_resources, spec};

/// What an update changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Every resource as it is to be from now on: JSON, for [`update`] the next time.
    pub remembered: Vec<u8>,
    /// What is to be written: what was asked for, and what is bound to it.
    pub changes: Resources,
    /// Whether the device rules become others.
    pub devices_change: bool,
}

/// The JSON of a config's `linux.resources`; `{}` where it has none.
///
/// # Errors
/// A document that is not JSON.
pub fn resources_of_config(config: &[u8]) -> Result<Vec<u8>, Invalid> {
    let config: Value = spec::read(config, "")?;
    Ok(written(config.pointer("/linux/resources").filter(|found| found.is_object()).unwrap_or(&Map::new().into())))
}

/// Merges a request (`asked`) into the resources that a container has (`current`); both are `linux.resources` objects.
///
/// # Errors
/// What is refused in the request, or in what both make together: a limit of swap below the one of memory.
pub fn update(current: &[u8], asked: &[u8]) -> Result<Update, Invalid> {
    // Its shape first: what follows may then overlook what is of another type.
    let _shape: spec::Resources = spec::read(asked, FIELD)?;
    let asked: Map<String, Value> = spec::read(asked, FIELD)?;
    let mut merge = Merge { all: spec::read(current, FIELD)?, changes: Map::new() };
    for (section, wish) in &asked {
        match (section.as_str(), wish) {
            ("memory", Value::Object(wish)) => merge.memory(wish),
            ("cpu", Value::Object(wish)) => merge.cpu(wish),
            ("blockIO", Value::Object(wish)) => merge.block_io(wish),
            ("pids" | "unified", Value::Object(wish)) => merge.fields(section, wish, |_, value| !value.is_null()),
            ("rdma", Value::Object(wish)) => merge.rdma(wish),
            ("network", Value::Object(wish)) => {
                merge.fields(section, wish, |key, value| key == "classID" && is_said(value));
                merge.list(Some("network"), "priorities", wish.get("priorities"), &["name"]);
            }
            ("hugepageLimits", list) => merge.list(None, section, Some(list), &["pageSize"]),
            _ => {}
        }
    }
    let devices_change = merge.devices(asked.get("devices"));
    let changes = convert_resources(&written(&merge.changes.into()))?;
    let remembered = written(&merge.all.into());
    convert_resources(&remembered)?;
    Ok(Update { remembered, changes, devices_change })
}

const FIELD: &str = "linux.resources";

/// What a list of `blockIO` is keyed by.
const DEVICE: &[&str] = &["major", "minor"];

fn written(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Engines write 0 and "" for what they leave unset.
fn is_said(value: &Value) -> bool {
    !(value.is_null() || value == &Value::from(0) || value == &Value::from(""))
}

struct Merge {
    /// Everything.
    all: Map<String, Value>,
    /// What is to be written.
    changes: Map<String, Value>,
}

/// Changes a member that is an object; one that is anything else gives way, and an empty one is left out.
fn within<R>(map: &mut Map<String, Value>, key: &str, change: impl FnOnce(&mut Map<String, Value>) -> R) -> R {
    let mut inner = match map.remove(key) {
        Some(Value::Object(inner)) => inner,
        _ => Map::new(),
    };
    let done = change(&mut inner);
    if !inner.is_empty() {
        map.insert(key.to_owned(), inner.into());
    }
    done
}

fn take_over(map: &mut Map<String, Value>, fields: &Map<String, Value>) {
    map.extend(fields.iter().map(|(key, value)| (key.clone(), value.clone())));
}

impl Merge {
    /// Takes over fields of a section that say something.
    fn fields(&mut self, section: &str, wish: &Map<String, Value>, says: impl Fn(&str, &Value) -> bool) {
        let said = wish.iter().filter(|(key, value)| says(key, value));
        let said: Map<String, Value> = said.map(|(key, value)| (key.clone(), value.clone())).collect();
        within(&mut self.all, section, |all| take_over(all, &said));
        within(&mut self.changes, section, |changes| take_over(changes, &said));
    }

    /// Writes fields together: if one of them changes, those that stand are written again.
    fn bound(&mut self, section: &str, fields: &[&str]) {
        let Self { all, changes } = self;
        within(changes, section, |changes| {
            if !fields.iter().any(|field| changes.contains_key(*field)) {
                return;
            }
            for field in fields {
                if let Some(value) = all.get(section).and_then(|all| all.get(field)) {
                    changes.insert((*field).to_owned(), value.clone());
                }
            }
        });
    }

    fn memory(&mut self, wish: &Map<String, Value>) {
        let lifts = wish.get("limit") == Some(&Value::from(-1)) && !wish.get("swap").is_some_and(is_said);
        // 0 is a swappiness; whether usage is checked is a matter of this request alone.
        self.fields("memory", wish, |key, value| match key {
            "checkBeforeUpdate" => false,
            "swappiness" => !value.is_null(),
            _ => is_said(value),
        });
        if lifts {
            within(&mut self.all, "memory", |all| all.insert("swap".to_owned(), Value::from(-1)));
        }
        self.bound("memory", &["limit", "swap"]);
        if let Some(check) = wish.get("checkBeforeUpdate") {
            within(&mut self.changes, "memory", |changes| {
                changes.insert("checkBeforeUpdate".to_owned(), check.clone())
            });
        }
    }

    fn cpu(&mut self, wish: &Map<String, Value>) {
        self.fields("cpu", wish, |key, value| match key {
            "idle" | "burst" => !value.is_null(),
            _ => is_said(value),
        });
        let asks = |field| wish.get(field).is_some_and(|value| !value.is_null());
        if asks("idle") && !wish.get("shares").is_some_and(is_said) {
            within(&mut self.all, "cpu", |all| all.remove("shares"));
        }
        self.bound("cpu", &["quota", "period", "burst"]);
        self.bound("cpu", &["shares", "idle"]);
    }

    fn block_io(&mut self, wish: &Map<String, Value>) {
        self.fields("blockIO", wish, |_, value| !value.is_array() && is_said(value));
        for (list, items) in wish.iter().filter(|(_, items)| items.is_array()) {
            self.list(Some("blockIO"), list, Some(items), DEVICE);
        }
    }

    fn rdma(&mut self, wish: &Map<String, Value>) {
        for (device, limits) in wish {
            let Value::Object(limits) = limits else { continue };
            for map in [&mut self.all, &mut self.changes] {
                within(map, "rdma", |rdma| within(rdma, device, |all| take_over(all, limits)));
            }
        }
    }

    /// Takes over the items of a list: one for a thing that has an item already changes that.
    fn list(&mut self, section: Option<&str>, list: &str, items: Option<&Value>, keys: &[&str]) {
        let items = items.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if items.is_empty() {
            return;
        }
        for map in [&mut self.all, &mut self.changes] {
            match section {
                Some(section) => within(map, section, |map| upsert(map, list, items, keys)),
                None => upsert(map, list, items, keys),
            }
        }
    }

    /// New rules take the place of the old ones. The same ones again change nothing: engines send the config's along,
    /// and other programs (those for GPUs) may have added to what it allows.
    fn devices(&mut self, wish: Option<&Value>) -> bool {
        let Some(wish) = wish.filter(|wish| wish.as_array().is_some_and(|rules| !rules.is_empty())) else {
            return false;
        };
        if self.all.get("devices") == Some(wish) {
            return false;
        }
        self.all.insert("devices".to_owned(), wish.clone());
        self.changes.insert("devices".to_owned(), wish.clone());
        true
    }
}

fn upsert(map: &mut Map<String, Value>, list: &str, items: &[Value], keys: &[&str]) {
    let mut merged = match map.remove(list) {
        Some(Value::Array(merged)) => merged,
        _ => Vec::new(),
    };
    for item in items {
        let same = |old: &&mut Value| keys.iter().all(|key| old.get(key) == item.get(key));
        match (merged.iter_mut().find(same), item) {
            (Some(Value::Object(old)), Value::Object(item)) => take_over(old, item),
            _ => merged.push(item.clone()),
        }
    }
    map.insert(list.to_owned(), merged.into());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Limit, Swap};
    use serde_json::json;

    fn merged(current: Value, asked: Value) -> Update {
        update(&written(&current), &written(&asked)).unwrap()
    }

    fn remembered(update: &Update) -> Value {
        serde_json::from_slice(&update.remembered).unwrap()
    }

    #[test]
    fn what_is_not_asked_for_stays_and_is_not_written() {
        let current = json!({"memory": {"limit": 100, "swap": 300}, "pids": {"limit": 5}, "cpu": {"cpus": "0"}});
        let update = merged(current.clone(), json!({"cpu": {"shares": 512, "cpus": ""}, "pids": null, "memory": {}}));
        let mut expected = current;
        expected["cpu"]["shares"] = json!(512);
        assert_eq!(remembered(&update), expected);
        assert_eq!(update.changes.cpu.shares, Some(512));
        assert_eq!((update.changes.cpu.cpus, update.changes.pids, update.changes.memory.limit), (None, None, None));
    }

    #[test]
    fn quota_period_and_burst_go_together() {
        let cases = [
            (json!({"period": 50_000}), json!({"quota": 20_000}), (Some(20_000), Some(50_000))),
            (json!({"quota": 20_000}), json!({"period": 50_000}), (Some(20_000), Some(50_000))),
            (json!({"quota": 20_000, "period": 1000}), json!({"quota": 0, "period": 0}), (None, None)),
            (json!({"quota": 20_000, "period": 1000}), json!({"quota": 7, "period": 2000}), (Some(7), Some(2000))),
            (json!({}), json!({"quota": 7}), (Some(7), None)),
        ];
        for (current, asked, (quota, period)) in cases {
            let changes = merged(json!({"cpu": current}), json!({"cpu": asked})).changes;
            assert_eq!((changes.cpu.quota, changes.cpu.period), (quota.map(Limit::Max), period), "{asked}");
        }
        let update = update(b"{\"cpu\":{\"burst\":500}}", b"{\"cpu\":{\"quota\":400}}");
        assert!(update.unwrap_err().to_string().contains("cpu.burst"));
    }

    #[test]
    fn memory_and_swap_go_together() {
        let swap = |current: Value, asked: Value| {
            update(&written(&json!({"memory": current})), &written(&json!({"memory": asked})))
                .map(|update| (update.changes.memory.limit, update.changes.memory.swap))
        };
        let both = json!({"limit": 100, "swap": 300});
        assert_eq!(swap(both.clone(), json!({"limit": 200})).unwrap(), (Some(Limit::Max(200)), Some(Swap::Bytes(100))));
        assert_eq!(swap(both.clone(), json!({"swap": 100})).unwrap(), (Some(Limit::Max(100)), Some(Swap::Bytes(0))));
        assert_eq!(
            swap(both.clone(), json!({"limit": -1})).unwrap(),
            (Some(Limit::Unlimited), Some(Swap::Unlimited)),
            "memory without a limit lifts the one of swap too"
        );
        assert!(swap(both, json!({"limit": 400})).unwrap_err().to_string().contains("must not be below"));
        assert!(swap(json!({}), json!({"swap": 100})).unwrap_err().to_string().contains("without memory limit"));
    }

    #[test]
    fn idle_takes_the_shares_back() {
        let update = merged(json!({"cpu": {"shares": 512}}), json!({"cpu": {"idle": 1}}));
        assert_eq!(remembered(&update), json!({"cpu": {"idle": 1}}));
        let update = merged(json!({"cpu": {"idle": 1}}), json!({"cpu": {"shares": 512}}));
        assert_eq!(update.changes.cpu.idle, Some(1), "an idle group has no weight: whoever writes it must know");
        let update = merged(json!({"cpu": {"shares": 512}}), json!({"cpu": {"idle": 0, "shares": 3}}));
        assert_eq!(remembered(&update), json!({"cpu": {"idle": 0, "shares": 3}}));
    }

    #[test]
    fn lists_are_changed_item_by_item() {
        let current = json!({
            "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}, {"major": 8, "minor": 1, "rate": 2}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "rdma": {"mlx": {"hcaHandles": 1}}
        });
        let asked = json!({
            "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 9}, {"major": 7, "minor": 0, "rate": 3}],
                "weight": 50},
            "hugepageLimits": [{"pageSize": "1GB", "limit": 2}],
            "rdma": {"mlx": {"hcaObjects": 2}},
            "network": {"priorities": [{"name": "lo", "priority": 3}]},
            "unified": {"memory.high": "5"}
        });
        let update = merged(current, asked.clone());
        let all = remembered(&update);
        let rates: Vec<_> =
            all["blockIO"]["throttleReadBpsDevice"].as_array().unwrap().iter().map(|d| &d["rate"]).collect();
        assert_eq!(rates, [1, 9, 3]);
        assert_eq!(all["hugepageLimits"].as_array().unwrap().len(), 2);
        assert_eq!(all["rdma"], json!({"mlx": {"hcaHandles": 1, "hcaObjects": 2}}));
        let expected = crate::convert_resources(&written(&asked)).unwrap();
        assert_eq!(update.changes, expected, "only what was asked is written");
    }

    #[test]
    fn devices_are_replaced_as_a_whole_unless_they_are_the_same() {
        let rules = json!([{"allow": false, "access": "rwm"}]);
        let others = json!([{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]);
        assert!(!merged(json!({"devices": rules}), json!({"devices": rules})).devices_change);
        assert!(!merged(json!({"devices": rules}), json!({"devices": []})).devices_change);
        assert!(!merged(json!({"devices": rules}), json!({})).devices_change);
        let update = merged(json!({"devices": rules}), json!({"devices": others}));
        assert!(update.devices_change);
        assert_eq!(remembered(&update)["devices"], others);
        assert_eq!(update.changes.devices.len(), 1);
    }

    #[test]
    fn checks_are_for_one_request_and_zeros_that_mean_something_count() {
        let update = merged(json!({}), json!({"memory": {"limit": 5, "checkBeforeUpdate": true, "swappiness": 0}}));
        assert!(update.changes.memory.check_before_update);
        assert_eq!(remembered(&update), json!({"memory": {"limit": 5, "swappiness": 0}}));
        let update = merged(json!({"pids": {"limit": 9}}), json!({"pids": {"limit": 0}, "cpu": {"burst": 0}}));
        assert_eq!((update.changes.pids, update.changes.cpu.burst), (Some(Limit::Max(0)), Some(0)));
    }

    #[test]
    fn what_is_refused_names_its_field() {
        let refused = |asked: &str| update(b"{}", asked.as_bytes()).unwrap_err().to_string();
        assert!(refused("{\"memory\": 5}").contains("linux.resources.memory"));
        assert!(refused("{\"blockIO\": {\"weight\": 5}}").contains("linux.resources.blockIO.weight"));
        assert!(refused("[]").contains("linux.resources"));
        assert!(refused("").contains("linux.resources"));
    }

    #[test]
    fn a_config_may_have_none() {
        assert_eq!(resources_of_config(b"{}").unwrap(), b"{}");
        assert_eq!(resources_of_config(b"{\"linux\":{\"resources\":null}}").unwrap(), b"{}");
        let config = b"{\"linux\":{\"resources\":{\"pids\":{\"limit\":3}}}}";
        assert_eq!(resources_of_config(config).unwrap(), b"{\"pids\":{\"limit\":3}}");
    }
}
