//! Hooks (config.md#posix-platform-hooks).

use oci_spec::runtime as oci;

use crate::field::refuse;
use crate::{Hook, Hooks, Invalid, process};

/// Names of the kinds, in the order of the lifecycle.
pub(crate) const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// All hooks, in order.
pub(crate) fn hooks(hooks: &oci::Hooks) -> Result<Hooks, Invalid> {
    let [prestart, create_runtime, create_container, start_container, poststart, poststop] = KINDS;
    Ok(Hooks {
        // oci-spec marks it as deprecated, and so does the specification; engines still write it.
        #[allow(deprecated)]
        prestart: of_kind(prestart, hooks.prestart())?,
        create_runtime: of_kind(create_runtime, hooks.create_runtime())?,
        create_container: of_kind(create_container, hooks.create_container())?,
        start_container: of_kind(start_container, hooks.start_container())?,
        poststart: of_kind(poststart, hooks.poststart())?,
        poststop: of_kind(poststop, hooks.poststop())?,
    })
}

fn of_kind(kind: &str, hooks: &Option<Vec<oci::Hook>>) -> Result<Vec<Hook>, Invalid> {
    hooks.iter().flatten().enumerate().map(|(index, hook)| one(kind, index, hook)).collect()
}

fn one(kind: &str, index: usize, hook: &oci::Hook) -> Result<Hook, Invalid> {
    if !hook.path().is_absolute() {
        return refuse(
            format_args!("hooks.{kind}[{index}].path"),
            format_args!("{:?} is not an absolute path", hook.path()),
        );
    }
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds) => match u32::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Some(seconds),
            _ => {
                return refuse(
                    format_args!("hooks.{kind}[{index}].timeout"),
                    format_args!("{seconds} seconds: it must be above zero, and fit 32 bits"),
                );
            }
        },
    };
    if let Some(env) = hook.env() {
        for (entry, text) in env.iter().enumerate() {
            process::env_entry(format_args!("hooks.{kind}[{index}].env[{entry}]"), text)?;
        }
    }
    Ok(Hook {
        path: hook.path().clone(),
        args: hook.args().clone().unwrap_or_default(),
        env: hook.env().clone(),
        timeout,
    })
}
