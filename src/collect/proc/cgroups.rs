//! Unit, container and pod of a process, and whether its control group is frozen or short of CPU.
//!
//! Input: a process that holds a socket. Output: the same with what its cgroup and, for docker-proxy and conmon, its
//! arguments say. What a path means is in `model::cgroup`.
//!
//! Circle with `containers`, `monitors`: they read below a `ProcRoot`, which is in this folder; this file names the
//! container of a process.

use std::net::SocketAddr;

use crate::collect::containers::Containers;
use crate::collect::monitors::{self, Monitor};
use crate::collect::proc::ProcRoot;
use crate::collect::proc::groups::{Group, Groups, Mounts};
use crate::model::Process;
use crate::model::cgroup::Runtime;
use crate::model::snapshot::CpuQuota;

/// Reads the cgroup of a process into it. What cannot be read stays unknown.
pub fn identify(root: &ProcRoot, containers: &Containers, process: &mut Process) {
    process.identity = monitors::identity(root, process.pid).unwrap_or_default();
    containers.name(&mut process.identity);
    if process.identity.container.is_some() {
        return;
    }
    let folder = root.path().join(process.pid.to_string());
    if process.comm == monitors::COMM {
        let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
        let Some(monitor) = Monitor::of(&line) else { return };
        process.identity.container = Some(monitor.id);
        process.identity.runtime = Some(monitor.runtime);
        process.identity.pod = Groups::of(root, process.pid).and_then(|groups| groups.pod_of_monitor());
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

/// Whether the cgroup of a process, or one above it, is frozen (`cgroup.events`; the kernel answers from memory). `None`
/// before Linux 5.2, and when no mount shows the cgroup.
#[must_use]
pub fn is_frozen(mounts: &Mounts, groups: &Groups) -> Option<bool> {
    let group = groups.unified(mounts).into_iter().next()?;
    let events = std::fs::read_to_string(group.folder.join("cgroup.events")).ok()?;
    match events.lines().find_map(|line| line.strip_prefix("frozen "))?.trim() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// What kept a process from running, of all its control groups that have a quota the one that was throttled most
/// (`cpu.stat`, version 2 and 1). `None` without a quota, or where none of the groups is seen.
#[must_use]
pub fn cpu_quota(mounts: &Mounts, groups: &Groups) -> Option<CpuQuota> {
    // A controller is of one version at a time.
    most_throttled(&groups.unified(mounts)).or_else(|| most_throttled(&groups.of_controller("cpu", &mounts.cpu)))
}

/// A quota of any of these groups holds.
fn most_throttled(groups: &[Group]) -> Option<CpuQuota> {
    let quota = |group: &Group| cpu_stat(&std::fs::read_to_string(group.folder.join("cpu.stat")).ok()?);
    let quotas = groups.iter().filter_map(quota);
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
    use std::path::Path;

    use super::*;
    use crate::collect::proc::groups::Mount;
    use crate::collect::proc::testkit::write;

    /// Process 7 in these groups, below a mount of version 2 and one of version 1.
    fn seen(folder: &Path, top: &str, cgroup: &str) -> (Mounts, Groups) {
        write(folder, "proc/7/cgroup", cgroup);
        let mount = |at: &str| vec![Mount { at: folder.join(at), top: top.into() }];
        let mounts = Mounts { two: mount("two"), cpu: mount("cpu"), memory: Vec::new() };
        (mounts, Groups::of(&ProcRoot::new(folder.join("proc")), 7).unwrap())
    }

    #[test]
    fn the_quota_of_any_group_above_holds_in_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let stat = |periods: u64, throttled: u64| {
            format!("usage_usec 5\nnr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec 9\n")
        };
        write(dir.path(), "two/web/cpu.stat", &stat(100, 90));
        write(dir.path(), "two/web/app/cpu.stat", &stat(0, 0));
        write(dir.path(), "two/free/cpu.stat", "usage_usec 5\n");
        write(dir.path(), "cpu/old/cpu.stat", &stat(50, 20));
        let quota = |cgroup: &str| {
            let (mounts, groups) = seen(dir.path(), "/", cgroup);
            cpu_quota(&mounts, &groups).map(|q| (q.periods, q.throttled))
        };
        assert_eq!(["0::/web/app\n", "0::/free\n", "0::/gone\n"].map(quota), [Some((100, 90)), None, None]);
        assert_eq!(quota("0::/../web\n"), None, "outside of what is mounted");
        assert_eq!(quota("5:cpuset:/\n4:cpu,cpuacct:/old\n0::/free\n"), Some((50, 20)));
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
    fn a_cgroup_is_frozen_when_its_events_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let frozen = |top: &str, cgroup: &str, events: &str| {
            write(dir.path(), "two/web.service/cgroup.events", events);
            let (mounts, groups) = seen(dir.path(), top, cgroup);
            is_frozen(&mounts, &groups)
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
        assert_eq!(process.identity, crate::model::cgroup::Identity::default());
    }
}
