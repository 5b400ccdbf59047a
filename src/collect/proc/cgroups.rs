//! Unit, container and pod of a process, and whether its control group is frozen.
//!
//! Input: a process that holds a socket. Output: the same with what its cgroup and, for docker-proxy, its arguments
//! say. What a path means is in `model::cgroup`.
//!
//! Circle with `containers`, `netns`: both read below a `ProcRoot`, which is in this folder; this file names the
//! container of a process, and reads paths as the mount table writes them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::collect::containers::Containers;
use crate::collect::netns::unescape;
use crate::collect::proc::ProcRoot;
use crate::model::cgroup::Runtime;
use crate::model::{Process, cgroup};

/// Reads the cgroup of a process into it. What cannot be read stays unknown.
pub fn identify(root: &ProcRoot, containers: &Containers, process: &mut Process) {
    let folder = root.path().join(process.pid.to_string());
    let text = std::fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
    process.identity = cgroup::of_process(&text);
    containers.name(&mut process.identity);
    if process.identity.container.is_none() && process.comm == "docker-proxy" {
        let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
        let Some(behind) = behind_proxy(&line) else { return };
        let (id, name) = containers.behind(behind.ip()).unwrap_or_else(|| (behind.to_string(), None));
        process.identity.container = Some(id);
        process.identity.container_name = name;
        process.identity.runtime = Some(Runtime::Docker);
    }
}

/// Where cgroup version 2 is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub at: PathBuf,
    /// The cgroup at the mount, as seen from our cgroup namespace.
    pub top: PathBuf,
}

/// The mount of version 2: alone at `/sys/fs/cgroup`, or beside version 1 at `/sys/fs/cgroup/unified`. `ip netns exec`
/// mounts a `/sys` of its own without it; then it is that of process 1.
#[must_use]
pub fn mount(root: &ProcRoot) -> Option<Mount> {
    let of = |process: &str| mount_in(&std::fs::read_to_string(root.path().join(process).join("mountinfo")).ok()?);
    of("self").or_else(|| {
        let mount = of("1")?;
        let at = root.path().join("1/root").join(mount.at.strip_prefix("/").unwrap_or(&mount.at));
        Some(Mount { at, ..mount })
    })
}

fn mount_in(mountinfo: &str) -> Option<Mount> {
    mountinfo.lines().find_map(|line| {
        // id, parent, device, root, mount point, options, tags ... - type, source, options.
        let (left, right) = line.split_once(" - ")?;
        let mut words = left.split(' ').skip(3);
        let (top, at) = (words.next()?, words.next()?);
        right.starts_with("cgroup2 ").then(|| Mount { at: unescape(at).into(), top: unescape(top).into() })
    })
}

/// Whether the cgroup of a process, or one above it, is frozen (`cgroup.events`; the kernel answers from memory). `None`
/// before Linux 5.2, and when the cgroup is not below the mount.
#[must_use]
pub fn is_frozen(root: &ProcRoot, mount: &Mount, pid: u32) -> Option<bool> {
    let text = std::fs::read_to_string(root.path().join(format!("{pid}/cgroup"))).ok()?;
    let path = Path::new(text.lines().find_map(|line| line.strip_prefix("0::"))?);
    let below = path.strip_prefix(&mount.top).ok()?;
    if below.components().any(|c| c == std::path::Component::ParentDir) {
        return None;
    }
    let events = std::fs::read_to_string(mount.at.join(below).join("cgroup.events")).ok()?;
    match events.lines().find_map(|line| line.strip_prefix("frozen "))?.trim() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// The container that a docker-proxy forwards to, by its address: `-container-ip 172.17.0.2 -container-port 80`.
fn behind_proxy(cmdline: &[u8]) -> Option<SocketAddr> {
    let words: Vec<&str> = cmdline.split(|b| *b == 0).filter_map(|w| std::str::from_utf8(w).ok()).collect();
    let after = |name: &str| {
        words.iter().enumerate().find_map(|(at, word)| {
            // Go accepts one dash or two, and the value in the same word or the next.
            match word.strip_prefix('-')?.trim_start_matches('-').strip_prefix(name)? {
                "" => words.get(at + 1).copied(),
                rest => rest.strip_prefix('='),
            }
        })
    };
    Some(SocketAddr::new(after("container-ip")?.parse().ok()?, after("container-port")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_behind_a_proxy_is_in_its_arguments() {
        let line = "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 \
                    -container-port 80 ";
        let line = line.replace(' ', "\0");
        let behind = |line: &[u8]| behind_proxy(line).map(|a| a.to_string());
        assert_eq!(behind(line.as_bytes()).as_deref(), Some("172.17.0.2:80"));
        let other = b"docker-proxy\0--container-ip=fd00::2\0--container-port=80\0";
        assert_eq!(behind(other).as_deref(), Some("[fd00::2]:80"));
        assert_eq!(behind_proxy(b"docker-proxy\0-container-ip\0"), None);
        assert_eq!(behind_proxy(b""), None);
    }

    #[test]
    fn version_2_is_found_alone_beside_version_1_and_below_a_container() {
        let mount = |line: &str| mount_in(line).map(|m| (m.at.display().to_string(), m.top.display().to_string()));
        let found = |at: &str, top: &str| Some((at.to_owned(), top.to_owned()));
        let line = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount(line), found("/sys/fs/cgroup", "/"));
        let hybrid =
            format!("29 24 0:25 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n{}", line.replace("cgroup rw", "c\\0402 rw"));
        assert_eq!(mount(&hybrid), found("/sys/fs/c 2", "/"));
        assert_eq!(mount(&line.replace(" / ", " /a/b ")), found("/sys/fs/cgroup", "/a/b"));
        assert_eq!(mount("29 24 0:25 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids"), None);
    }

    #[test]
    fn a_cgroup_is_frozen_when_its_events_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let frozen = |top: &str, cgroup: &str, events: &str| {
            write("proc/7/cgroup", cgroup);
            write("cgroup/web.service/cgroup.events", events);
            let mount = Mount { at: folder.path().join("cgroup"), top: top.into() };
            is_frozen(&ProcRoot::new(folder.path().join("proc")), &mount, 7)
        };
        let both = "6:freezer:/\n0::/web.service\n";
        assert_eq!(frozen("/", both, "populated 1\nfrozen 1\n"), Some(true));
        assert_eq!(frozen("/", both, "populated 1\nfrozen 0\n"), Some(false));
        assert_eq!(frozen("/a", "0::/a/web.service\n", "populated 1\nfrozen 1\n"), Some(true));
        assert_eq!(frozen("/", both, "populated 1\n"), None, "before 5.2");
        assert_eq!(frozen("/", "6:freezer:/web.service\n", "frozen 1\n"), None, "version 1 alone");
        assert_eq!(frozen("/", "0::/../web.service\n", "frozen 1\n"), None, "outside of our namespace");
        assert_eq!(frozen("/b", both, "frozen 1\n"), None, "not below the mount");
    }

    #[test]
    fn a_process_that_is_gone_stays_unknown() {
        let mut process = Process { pid: u32::MAX, comm: "docker-proxy".into(), ..Process::default() };
        let root = ProcRoot::default();
        identify(&root, &Containers::new(&root), &mut process);
        assert_eq!(process.identity, cgroup::Identity::default());
    }
}
