//! Unit, container and pod of a process, and whether its control group is frozen or short of CPU.
//!
//! Input: a process that holds a socket. Output: the same with what its cgroup and, for docker-proxy and conmon, its
//! arguments say. What a path means is in `model::cgroup`.
//!
//! Circle with `containers`, `monitors`: they read below a `ProcRoot`, which is in this folder; this file names the
//! container of a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::collect::containers::Containers;
use crate::collect::monitors::{self, Monitor};
use crate::collect::proc::ProcRoot;
use crate::collect::proc::mounts::unescape;
use crate::model::cgroup::Runtime;
use crate::model::snapshot::CpuQuota;
use crate::model::{Process, cgroup};

/// Reads the cgroup of a process into it. What cannot be read stays unknown.
pub fn identify(root: &ProcRoot, containers: &Containers, process: &mut Process) {
    let folder = root.path().join(process.pid.to_string());
    let text = std::fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
    process.identity = cgroup::of_process(&text);
    containers.name(&mut process.identity);
    if process.identity.container.is_some() {
        return;
    }
    if process.comm == monitors::COMM {
        let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
        let Some(monitor) = Monitor::of(&line) else { return };
        process.identity.container = Some(monitor.id);
        process.identity.runtime = Some(monitor.runtime);
        process.identity.pod = cgroup::pod_of_monitor(&text);
        containers.name(&mut process.identity);
    } else if process.comm == "docker-proxy" {
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
    find(root, mount_in)
}

/// The mount of version 1's memory controller, found likewise.
#[must_use]
pub fn memory_mount(root: &ProcRoot) -> Option<Mount> {
    find(root, |text| controller_mount_in(text, "memory"))
}

fn find(root: &ProcRoot, in_text: fn(&str) -> Option<Mount>) -> Option<Mount> {
    let of = |process: &str| in_text(&std::fs::read_to_string(root.path().join(process).join("mountinfo")).ok()?);
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

/// What kept a process from running, of all its control groups that have a quota the one that was throttled most
/// (`cpu.stat`, version 2 and 1). `None` without a quota, or where none of the groups is seen.
#[must_use]
pub fn cpu_quota(root: &ProcRoot, pid: u32) -> Option<CpuQuota> {
    let groups = std::fs::read_to_string(root.path().join(format!("{pid}/cgroup"))).ok()?;
    let quota = |process: &str, base: &Path| {
        let text = std::fs::read_to_string(root.path().join(process).join("mountinfo")).ok()?;
        let of = |mount: Mount, path: &str| most_throttled(&base.join(relative(&mount.at)), &mount.top, path);
        let second = || of(mount_in(&text)?, groups.lines().find_map(|line| line.strip_prefix("0::"))?);
        let first = || of(controller_mount_in(&text, "cpu")?, groups.lines().find_map(cpu_group)?);
        second().or_else(first)
    };
    quota("self", Path::new("/")).or_else(|| quota("1", &root.path().join("1/root")))
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// The path of a process in the hierarchy of version 1 that has the controller `cpu`: `4:cpu,cpuacct:/web`.
fn cpu_group(line: &str) -> Option<&str> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    controllers.split(',').any(|c| c == "cpu").then_some(path)
}

/// Where version 1 has a controller.
fn controller_mount_in(mountinfo: &str, controller: &str) -> Option<Mount> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut kind = right.split(' ');
        let is_it = kind.next()? == "cgroup" && kind.nth(1)?.split(',').any(|option| option == controller);
        let mut words = left.split(' ').skip(3);
        let (top, at) = (words.next()?, words.next()?);
        is_it.then(|| Mount { at: unescape(at).into(), top: unescape(top).into() })
    })
}

/// The group of this path and those above it: a quota of any of them holds.
fn most_throttled(at: &Path, top: &Path, path: &str) -> Option<CpuQuota> {
    let below = Path::new(path).strip_prefix(top).ok()?;
    if below.components().any(|c| c == std::path::Component::ParentDir) {
        return None;
    }
    let quota = |group: &Path| cpu_stat(&std::fs::read_to_string(at.join(group).join("cpu.stat")).ok()?);
    let quotas = below.ancestors().filter_map(quota);
    quotas.max_by(|a, b| a.share().unwrap_or(0.0).total_cmp(&b.share().unwrap_or(0.0)))
}

/// `None` of a group without a quota: its periods are not counted.
fn cpu_stat(text: &str) -> Option<CpuQuota> {
    let of = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
    let quota = CpuQuota { periods: of("nr_periods ")?, throttled: of("nr_throttled ")? };
    (quota.periods > 0).then_some(quota)
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
    fn the_quota_of_any_group_above_holds_in_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let stat = |periods: u64, throttled: u64| {
            format!("usage_usec 5\nnr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec 9\n")
        };
        write("two/web/cpu.stat", &stat(100, 90));
        write("two/web/app/cpu.stat", &stat(0, 0));
        write("two/free/cpu.stat", "usage_usec 5\n");
        let two = dir.path().join("two");
        let quota = |path: &str| most_throttled(&two, Path::new("/"), path).map(|q| (q.periods, q.throttled));
        assert_eq!([quota("/web/app"), quota("/free"), quota("/gone")], [Some((100, 90)), None, None]);
        assert_eq!(quota("/../web"), None, "outside of what is mounted");
        let line = |at: &str, kind: &str, options: &str| format!("30 24 0:26 / {at} rw - {kind} {kind} rw,{options}\n");
        let cpu = line("/sys/fs/cgroup/cpu", "cgroup", "cpu,cpuacct");
        let found = controller_mount_in(&(line("/sys/fs/cgroup/cpuset", "cgroup", "cpuset") + &cpu), "cpu").unwrap();
        assert_eq!(found.at, Path::new("/sys/fs/cgroup/cpu"));
        assert!(controller_mount_in(&line("/sys/fs/cgroup", "cgroup2", "nsdelegate"), "cpu").is_none());
        assert_eq!(cpu_group("4:cpu,cpuacct:/web"), Some("/web"));
        assert_eq!([cpu_group("5:cpuset:/web"), cpu_group("0::/web")], [None, None]);
        let few = CpuQuota { periods: 5, throttled: 5 };
        assert_eq!([few.share(), cpu_stat(&stat(40, 10)).unwrap().share()], [None, Some(0.25)]);
    }

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
