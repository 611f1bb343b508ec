//! What commands print: the JSON and the tables, in runc's shapes.

use std::ffi::{CString, OsString};
use std::fmt::Display;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, bail};

use crate::container::{Container, OciState};
use crate::program;
use crate::sys::process::Ended;
use crate::sys::spawn;

/// Writes to standard output as it stands.
///
/// # Errors
/// Nobody reads it any more.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("cannot write to standard output")
}

/// `state`: indented by two spaces, no line end after it.
pub fn state(state: &OciState) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(state)?)
}

/// `list --format json`: one line; `null` for nothing, as a nil slice of Go is written.
pub fn list_json(states: &[OciState]) -> anyhow::Result<String> {
    if states.is_empty() {
        return Ok("null\n".into());
    }
    Ok(serde_json::to_string(states)? + "\n")
}

/// `list`: columns as Go's tabwriter makes them with width 12 and padding 3.
pub fn list_table(states: &[OciState]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from)];
    rows.extend(states.iter().map(|state| {
        [
            state.id.clone(),
            state.pid.to_string(),
            state.status.to_string(),
            state.bundle.display().to_string(),
            state.created.clone(),
            state.owner.clone(),
        ]
    }));
    table(&rows)
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [12; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + 3);
        }
    }
    let mut text = String::new();
    for row in rows {
        let last = N - 1;
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            // The last column is not padded.
            let width = if at == last { 0 } else { width };
            let _never_fails = write!(text, "{cell:width$}");
        }
        text.push('\n');
    }
    text
}

/// `ps --format json`: `[1,2,3]`.
pub fn ps_json(pids: &[i32]) -> anyhow::Result<String> {
    if pids.is_empty() {
        return Ok("null\n".into());
    }
    Ok(serde_json::to_string(pids)? + "\n")
}

/// `ps`: what the host's ps(1) prints with these arguments, without the rows of other processes.
///
/// # Errors
/// There is no ps(1), it fails, or it prints no column `PID`.
pub fn ps_table(pids: &[i32], arguments: &[String]) -> anyhow::Result<String> {
    // containerd may send an empty word when it has no options.
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
    if arguments.is_empty() {
        arguments.push("-ef");
    }
    let path = program::find("ps", &std::env::var("PATH").unwrap_or_default()).context("cannot run ps")?;
    let args: Vec<CString> =
        std::iter::once(&"ps").chain(&arguments).map(|word| CString::new(*word)).collect::<Result<_, _>>()?;
    let variable = |(name, value): (OsString, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
    let env: Vec<CString> = std::env::vars_os().map(variable).map(CString::new).collect::<Result<_, _>>()?;
    let said = spawn::output(&CString::new(path.into_os_string().into_vec())?, &args, &env).context("cannot run ps")?;
    if said.ended != Ended::Exited(0) {
        bail!("ps: {}: {}", said.ended, String::from_utf8_lossy(&said.stderr).trim_end());
    }
    rows_of(&String::from_utf8_lossy(&said.stdout), pids)
}

pub(crate) fn rows_of(printed: &str, pids: &[i32]) -> anyhow::Result<String> {
    let mut lines = printed.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|title| title == "PID");
    let column = column.context("couldn't find PID field in ps output")?;
    let mut text = format!("{header}\n");
    for line in lines {
        let Some(pid) = line.split_whitespace().nth(column) else { continue };
        let pid: i32 = pid.parse().with_context(|| format!("unable to parse pid: {pid:?} in ps output"))?;
        if pids.contains(&pid) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

/// The state as `list` tells it: with the name of the owner, or `#uid`.
pub fn listed(container: &Container, accounts: &str) -> crate::Result<OciState> {
    let mut state = container.state()?;
    let uid = container.owner()?;
    state.owner = account(accounts, uid).map_or_else(|| format!("#{uid}"), str::to_owned);
    Ok(state)
}

/// The name of a user in the text of the host's passwd(5).
pub(crate) fn account(accounts: &str, uid: u32) -> Option<&str> {
    let uid = uid.to_string();
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)? == uid).then_some(name)
    })
}

/// What was built: whoever builds says it in the environment.
pub const COMMIT: &str = match option_env!("ORLOP_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// `--version`. Called as runc, the first line is what go-runc and dockerd look for.
pub fn version(program: &str) -> String {
    let ours = env!("CARGO_PKG_VERSION");
    let version = if program == "runc" { format!("1.3.0+orlop.{ours}") } else { ours.to_owned() };
    format!("{program} version {version}\ncommit: {COMMIT}\nspec: {}\n", crate::hooks::OCI_VERSION)
}

/// The first line of a complaint of clap's, without its prefix.
pub fn complaint(error: &impl Display) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::container::Status;

    fn web() -> OciState {
        OciState {
            oci_version: "1.0.2",
            id: "web".into(),
            pid: 4711,
            status: Status::Running,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-11-21T23:40:00.5Z".into(),
            annotations: BTreeMap::new(),
            owner: String::new(),
        }
    }

    #[test]
    fn state_is_what_runc_prints() {
        let expected = r#"{
  "ociVersion": "1.0.2",
  "id": "web",
  "pid": 4711,
  "status": "running",
  "bundle": "/b",
  "rootfs": "/b/rootfs",
  "created": "2026-11-21T23:40:00.5Z",
  "owner": ""
}"#;
        assert_eq!(state(&web()).unwrap(), expected);
        let mut noted = web();
        noted.annotations.insert("a".into(), "b".into());
        assert!(state(&noted).unwrap().contains("  \"annotations\": {\n    \"a\": \"b\"\n  },\n  \"owner\""));
    }

    #[test]
    fn lists() {
        assert_eq!(list_json(&[]).unwrap(), "null\n");
        let json = list_json(&[web()]).unwrap();
        assert!(json.starts_with(r#"[{"ociVersion":"1.0.2","id":"web","pid":4711,"status":"running","bundle":"/b","#));
        assert!(json.ends_with("}]\n"));
        assert_eq!(
            list_table(&[]),
            "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n",
            "runc's header, byte for byte"
        );
        assert_eq!(
            list_table(&[OciState { id: "a-name-of-20-letters".into(), owner: "root".into(), ..web() }]),
            "ID                     PID         STATUS      BUNDLE      CREATED                  OWNER\n\
             a-name-of-20-letters   4711        running     /b          2026-11-21T23:40:00.5Z   root\n"
        );
    }

    #[test]
    fn processes() {
        assert_eq!(ps_json(&[1, 2, 3]).unwrap(), "[1,2,3]\n");
        let printed = "UID   PID  CMD\nroot    1  init\nroot   12  sh\n";
        assert_eq!(rows_of(printed, &[12]).unwrap(), "UID   PID  CMD\nroot   12  sh\n");
        assert!(rows_of("UID CMD\n", &[]).is_err());
        assert!(rows_of("PID\nx\n", &[]).is_err());
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(ps_table(&[own], &[String::new()]).unwrap().lines().count(), 2);
    }

    #[test]
    fn owners() {
        let accounts = "root:x:0:0::/:/bin/sh\nbroken\n:x:5:5::/:\n1000:x:7:7::/:\nme:x:1000:1000::/:\n";
        assert_eq!(account(accounts, 0), Some("root"));
        assert_eq!(account(accounts, 1000), Some("me"));
        assert_eq!(account(accounts, 5), None);
    }

    #[test]
    fn versions() {
        assert!(version("runc").starts_with("runc version 1."));
        assert!(version("orlop").starts_with("orlop version "));
        assert!(version("runc").contains("\ncommit: "));
        assert!(version("runc").ends_with("\nspec: 1.3.0\n"));
    }
}
