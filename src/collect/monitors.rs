//! What a container's monitor (conmon) says of its container: it is no part of it, but was started for it alone.
//!
//! Input: the arguments of conmon, and who started a process. Output: the id of the container, the name that it was started with, and
//! the folder in which Podman or CRI-O keeps the containers. Not here: what is in that folder (`containers`).

use std::path::Path;

use rustc_hash::FxHashMap;

use crate::collect::proc::groups::{Groups, ancestors};
use crate::collect::proc::{ProcRoot, processes};
use crate::model::cgroup::{Identity, Runtime};
use crate::model::pattern;

/// The name of the process.
pub const COMM: &str = "conmon";

/// What the arguments of a monitor say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    pub id: String,
    pub runtime: Runtime,
    /// The name at the start of the container, which may have been renamed since.
    pub name: Option<String>,
    /// The folder with a folder for each container: `/var/lib/containers/storage/overlay-containers`.
    pub folder: Option<String>,
}

impl Monitor {
    /// Reads arguments that are separated by NUL: `conmon -c ID -b FOLDER/ID/userdata -n NAME ...`.
    #[must_use]
    pub fn of(cmdline: &[u8]) -> Option<Monitor> {
        let words: Vec<&str> = cmdline.split(|b| *b == 0).filter_map(|w| std::str::from_utf8(w).ok()).collect();
        let after = |short: &str, long: &str| {
            let place = words.iter().position(|w| *w == short || *w == long)?;
            words.get(place + 1).copied().filter(|w| !w.is_empty())
        };
        let id = after("-c", "--cid").filter(|id| pattern::is_id(id))?;
        let folder = after("-b", "--bundle").and_then(|b| Path::new(b).parent()?.parent()?.to_str());
        let exit = after("--exit-dir", "--exit-dir").unwrap_or_default();
        Some(Monitor {
            id: id.to_owned(),
            // CRI-O's keep their exit codes in `/var/run/crio/exits`, Podman's in `libpod/exits` or where it is told to.
            runtime: if exit.contains("/crio/") { Runtime::CriO } else { Runtime::Podman },
            name: after("-n", "--name").map(str::to_owned),
            folder: folder.filter(|f| f.starts_with('/')).map(str::to_owned),
        })
    }
}

/// What is known of a process: from its cgroups, else from the monitor that started it. Podman without root gives a container no
/// cgroup where these are of version 1. `None` when it has ended.
#[must_use]
pub fn identity(root: &ProcRoot, pid: u32) -> Option<Identity> {
    let identity = Groups::of(root, pid)?.identity();
    if identity.container.is_some() || identity.pod.is_some() || !is_in_other_user_namespace(root, pid) {
        return Some(identity);
    }
    let monitor = ancestors(root, &pid.to_string()).into_iter().find_map(|ancestor| {
        let folder = root.path().join(ancestor);
        let name = std::fs::read_to_string(folder.join("comm")).ok()?;
        if name.trim_end() == COMM { Monitor::of(&std::fs::read(folder.join("cmdline")).ok()?) } else { None }
    });
    Some(match monitor {
        Some(monitor) => Identity { container: Some(monitor.id), runtime: Some(monitor.runtime), ..identity },
        None => identity,
    })
}

/// Only these can be in a container that root did not make; unknown where it may not be read.
fn is_in_other_user_namespace(root: &ProcRoot, pid: u32) -> bool {
    let namespace = |of: &str| rustix::fs::stat(root.path().join(of).join("ns/user")).ok().map(|stat| stat.st_ino);
    let own = namespace("self");
    own.is_some() && namespace(&pid.to_string()).is_some_and(|other| Some(other) != own)
}

/// The monitors that run, by the id of their container. Any user may read arguments, unless processes are hidden.
#[must_use]
pub fn running(root: &ProcRoot) -> FxHashMap<String, Monitor> {
    let mut found = FxHashMap::default();
    for pid in processes::pids(root) {
        if processes::name(root, pid).is_none_or(|name| name != COMM) {
            continue;
        }
        let line = std::fs::read(root.path().join(format!("{pid}/cmdline"))).unwrap_or_default();
        if let Some(monitor) = Monitor::of(&line) {
            found.insert(monitor.id.clone(), monitor);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_a_monitor_name_its_container() {
        let id = "ab".repeat(32);
        let bundle = format!("/data/storage/overlay-containers/{id}/userdata");
        let of = |words: &[&str]| Monitor::of(words.join("\0").as_bytes());
        let podman = [
            "/usr/bin/conmon",
            "--api-version",
            "1",
            "-c",
            &id,
            "-u",
            &id,
            "-r",
            "/usr/bin/runc",
            "-b",
            &bundle,
            "-n",
            "web",
        ];
        let monitor = of(&podman).unwrap();
        assert_eq!((monitor.id.as_str(), monitor.runtime), (id.as_str(), Runtime::Podman));
        assert_eq!(
            (monitor.name.as_deref(), monitor.folder.as_deref()),
            (Some("web"), Some("/data/storage/overlay-containers"))
        );
        let crio = of(&["conmon", "--cid", &id, "--exit-dir", "/var/run/crio/exits", "-b", "relative"]).unwrap();
        assert_eq!((crio.runtime, crio.name, crio.folder), (Runtime::CriO, None, None));
        for words in
            [vec!["conmon"], vec!["conmon", "-c"], vec!["conmon", "-c", "web"], vec!["conmon", "-n", "web"], vec![]]
        {
            assert_eq!(of(&words), None, "{words:?}");
        }
    }
}
