//! Cgroups below a container's own, as `exec --cgroup` names them: `[controller[,controller]:]path`.

use std::path::{Component, Path, PathBuf};

use super::Saved;
use crate::error::{Error, Kind, Result};

impl Saved {
    /// The container's cgroup with some of its directories replaced by ones below them. Pure.
    ///
    /// A path without a controller is for every hierarchy, and then there is no other. A path may not leave the container's cgroup,
    /// and is compared part by part: `../web2` is no more below `web` than `..` is (T25). Controllers that share a
    /// hierarchy go together.
    ///
    /// # Errors
    /// runc's words: `bad sub cgroup path`, `unknown controller`, `missing <controller>: prefix`, and a controller
    /// that is named twice.
    pub fn inner(&self, asked: &[String]) -> Result<Saved> {
        let mut inner = Saved { made: Vec::new(), ..self.clone() };
        let mut named: Vec<&str> = Vec::new();
        for word in asked {
            let (controllers, path) = word.split_once(':').unwrap_or(("", word));
            if !word.contains(':') {
                if asked.len() > 1 {
                    return Err(invalid(format!("invalid --cgroup argument: {word} (missing <controller>: prefix)")));
                }
                for place in inner.paths.values_mut() {
                    *place = below(place, path)?;
                }
                return Ok(inner);
            }
            if controllers.split(',').any(str::is_empty) {
                return Err(invalid(format!("invalid --cgroup argument: {word} (empty <controller> prefix)")));
            }
            for controller in controllers.split(',') {
                if named.contains(&controller) {
                    let why = format!("controller {controller} specified multiple times");
                    return Err(invalid(format!("invalid --cgroup argument(s): {why}")));
                }
                named.push(controller);
                let Some(base) = self.paths.get(controller) else {
                    return Err(invalid(format!("unknown controller {controller} in --cgroup {word}")));
                };
                let below = below(base, path)?;
                for (known, place) in &mut inner.paths {
                    if self.paths.get(known) == Some(base) {
                        place.clone_from(&below);
                    }
                }
            }
        }
        Ok(inner)
    }
}

fn below(base: &Path, path: &str) -> Result<PathBuf> {
    let mut place = base.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => place.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(invalid(format!("bad sub cgroup path: {path}")));
            }
        }
    }
    Ok(place)
}

fn invalid(sentence: String) -> Error {
    Error::new(Kind::Invalid, sentence)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn saved(paths: &[(&str, &str)]) -> Saved {
        let paths = paths.iter().map(|(name, path)| ((*name).to_owned(), PathBuf::from(path))).collect();
        Saved { paths, made: vec!["/made".into()], ..Saved::default() }
    }

    fn v1() -> Saved {
        saved(&[("cpu", "/c/web"), ("cpuacct", "/c/web"), ("pids", "/p/web")])
    }

    fn asked(saved: &Saved, words: &[&str]) -> Result<Saved> {
        saved.inner(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn version_one_names_its_controllers() {
        let inner = asked(&v1(), &["pids:a/b"]).unwrap();
        assert_eq!(inner.paths["pids"], Path::new("/p/web/a/b"));
        assert_eq!(inner.paths["cpu"], Path::new("/c/web"));
        assert!(inner.made.is_empty(), "nothing of it is ours to remove");
        let inner = asked(&v1(), &["cpu,pids:/x"]).unwrap();
        assert_eq!(inner.paths["cpuacct"], Path::new("/c/web/x"), "one hierarchy has one cgroup for a process");
        assert_eq!(inner.paths["pids"], Path::new("/p/web/x"));
        let inner = asked(&v1(), &["/x"]).unwrap();
        let places: Vec<_> = inner.paths.values().map(|place| place.display().to_string()).collect();
        assert_eq!(places, ["/c/web/x", "/c/web/x", "/p/web/x"], "a bare path is for all of them");
    }

    #[test]
    fn version_two_has_one_tree() {
        let v2 = saved(&[("", "/sys/fs/cgroup/web")]);
        assert_eq!(asked(&v2, &["a"]).unwrap().paths[""], Path::new("/sys/fs/cgroup/web/a"));
        assert!(asked(&v2, &["a", "b"]).is_err());
        assert!(asked(&v2, &["pids:a"]).unwrap_err().to_string().contains("unknown controller pids"));
    }

    #[test]
    fn t25_nothing_leads_out() {
        for bad in ["pids:..", "pids:../web2", "pids:/../..", "pids:a/../../b", ".."] {
            assert!(asked(&v1(), &[bad]).unwrap_err().to_string().starts_with("bad sub cgroup path"), "{bad}");
        }
        for bad in [["a", "b"].as_slice(), &["a", "cpu:b"], &[":a"], &["cpu,:a"], &["nosuch:a"], &["cpu:a", "cpu:b"]] {
            assert!(asked(&v1(), bad).is_err(), "{bad:?}");
        }
    }
}
