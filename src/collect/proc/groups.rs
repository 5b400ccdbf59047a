//! The control groups of a process, and where their folders are.
//!
//! Input: `/proc/PID/cgroup`, and the mount tables of this process and of process 1. Output: the group of a process and those
//! above it, in version 2 and in the hierarchies of version 1. Not here: what their files say (`cgroups`, `group_memory`), and
//! what a path means (`model::cgroup`).

use std::cmp::Reverse;
use std::path::{Component, Path, PathBuf};

use crate::collect::proc::ProcRoot;
use crate::collect::proc::mounts::{Mounted, mounted};
use crate::model::cgroup::{self, Identity};

/// Where a hierarchy is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub at: PathBuf,
    /// The group at the mount, as seen from our cgroup namespace.
    pub top: PathBuf,
}

/// A control group that has a folder here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub folder: PathBuf,
    /// Its path below the mount.
    pub path: String,
}

impl Mount {
    /// The group at a path, then those above it up to the mount; empty where the mount does not show it.
    fn groups(&self, path: &str) -> Vec<Group> {
        let Ok(below) = Path::new(path).strip_prefix(&self.top) else { return Vec::new() };
        // Outside of our namespace.
        if below.components().any(|c| c == Component::ParentDir) || !self.at.join(below).is_dir() {
            return Vec::new();
        }
        let group = |below: &Path| Group {
            folder: self.at.join(below),
            path: Path::new("/").join(below).to_string_lossy().into_owned(),
        };
        below.ancestors().map(group).collect()
    }
}

/// The processes above this one whose mounts are looked at.
const ANCESTORS: usize = 8;

/// The mounts of the hierarchies that are read: ours first, then those of process 1 and of whoever started us. A container has
/// mounted its own groups alone, and `ip netns exec` a `/sys` without any; process 1 of the host has mounted all, and who is not
/// allowed to enter its root may enter that of the shell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// Version 2: alone at `/sys/fs/cgroup`, or beside version 1 at `/sys/fs/cgroup/unified`.
    pub two: Vec<Mount>,
    /// The controllers of version 1.
    pub cpu: Vec<Mount>,
    pub memory: Vec<Mount>,
}

impl Mounts {
    #[must_use]
    pub fn find(root: &ProcRoot) -> Mounts {
        let table = |process: &str| std::fs::read_to_string(root.path().join(process).join("mountinfo")).ok();
        let own = table("self").unwrap_or_default();
        let mut found = Mounts::default();
        found.add(&own, Path::new("/"));
        // The ids of mounts differ in every mount namespace, so equal tables are of one.
        let mut seen = vec![own];
        for process in std::iter::once("1".to_owned()).chain(ancestors(root, "self")) {
            let Some(other) = table(&process).filter(|other| !seen.contains(other)) else { continue };
            let base = root.path().join(process).join("root");
            // Any user may read the table, and not everybody enters the root.
            if !base.join(".").is_dir() {
                continue;
            }
            found.add(&other, &base);
            seen.push(other);
        }
        found
    }

    /// The mount of version 2 alone.
    #[must_use]
    pub fn unified(root: &ProcRoot) -> Option<Mount> {
        Mounts::find(root).two.into_iter().next()
    }

    /// Adds those of a mount table whose paths begin at `base`: the first of each kind.
    fn add(&mut self, mountinfo: &str, base: &Path) {
        type Is = fn(&Mounted<'_>) -> bool;
        let kinds: [(&mut Vec<Mount>, Is); 3] = [
            (&mut self.two, |mount| mount.kind == "cgroup2"),
            (&mut self.cpu, |mount| mount.kind == "cgroup" && mount.has_option("cpu")),
            (&mut self.memory, |mount| mount.kind == "cgroup" && mount.has_option("memory")),
        ];
        for (mounts, is_one) in kinds {
            mounts.extend(mounted(mountinfo).find(is_one).map(|mount| {
                let at = mount.at();
                Mount { at: base.join(at.strip_prefix("/").unwrap_or(&at)), top: mount.root() }
            }));
        }
    }
}

/// Who started a process, who started that one, and so on.
pub fn ancestors(root: &ProcRoot, process: &str) -> Vec<String> {
    let parent = |process: &String| {
        let status = std::fs::read_to_string(root.path().join(process).join("status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().to_owned();
        (parent != "0").then_some(parent)
    };
    std::iter::successors(parent(&process.to_owned()), parent).take(ANCESTORS).collect()
}

/// The control groups of a process, as `/proc/PID/cgroup` names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups(String);

impl Groups {
    /// `None` when it has ended. Any user may read them.
    #[must_use]
    pub fn of(root: &ProcRoot, pid: u32) -> Option<Groups> {
        std::fs::read_to_string(root.path().join(format!("{pid}/cgroup"))).ok().map(Groups)
    }

    /// What the paths say of unit, container and pod.
    #[must_use]
    pub fn identity(&self) -> Identity {
        cgroup::of_process(&self.0)
    }

    /// The pod that it is kept in and watches, if it is a monitor.
    #[must_use]
    pub fn pod_of_monitor(&self) -> Option<String> {
        cgroup::pod_of_monitor(&self.0)
    }

    /// Its group of version 2 and those above it, as far as one of the mounts shows them.
    #[must_use]
    pub fn unified(&self, mounts: &Mounts) -> Vec<Group> {
        self.shown(&mounts.two, str::is_empty)
    }

    /// The same in the hierarchy of version 1 that has a controller, which these are the mounts of: `4:cpu,cpuacct:/web`.
    #[must_use]
    pub fn of_controller(&self, name: &str, mounts: &[Mount]) -> Vec<Group> {
        self.shown(mounts, |controllers| controllers.split(',').any(|c| c == name))
    }

    /// The mount that shows the most groups counts; ours where others show no more.
    fn shown(&self, mounts: &[Mount], is_it: impl Fn(&str) -> bool) -> Vec<Group> {
        let path = self.0.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            is_it(controllers).then_some(path)
        });
        let shown =
            |path: &str| mounts.iter().map(|mount| mount.groups(path)).min_by_key(|groups| Reverse(groups.len()));
        path.and_then(shown).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::proc::testkit::write;

    fn line(at: &str, top: &str, kind: &str, options: &str) -> String {
        format!("30 24 0:26 {top} {at} rw,nosuid shared:4 - {kind} {kind} rw,{options}\n")
    }

    fn mounts_of(mountinfo: &str) -> Mounts {
        let mut mounts = Mounts::default();
        mounts.add(mountinfo, Path::new("/"));
        mounts
    }

    fn mount(at: &str, top: &str) -> Vec<Mount> {
        vec![Mount { at: at.into(), top: top.into() }]
    }

    #[test]
    fn version_2_is_found_alone_beside_version_1_and_below_a_container() {
        assert_eq!(mounts_of(&line("/sys/fs/cgroup", "/", "cgroup2", "nsdelegate")).two, mount("/sys/fs/cgroup", "/"));
        let hybrid = line("/sys/fs/cgroup", "/", "tmpfs", "") + &line("/sys/fs/c\\0402", "/", "cgroup2", "");
        assert_eq!(mounts_of(&hybrid).two, mount("/sys/fs/c 2", "/"));
        assert_eq!(mounts_of(&line("/sys/fs/cgroup", "/a/b", "cgroup2", "")).two, mount("/sys/fs/cgroup", "/a/b"));
        assert_eq!(mounts_of(&line("/sys/fs/cgroup/pids", "/", "cgroup", "pids")), Mounts::default());
    }

    #[test]
    fn a_controller_of_version_1_is_found_by_its_whole_name() {
        let cpu = line("/sys/fs/cgroup/cpu", "/", "cgroup", "cpu,cpuacct");
        let found = mounts_of(&(line("/sys/fs/cgroup/cpuset", "/", "cgroup", "cpuset") + &cpu));
        assert_eq!(found, Mounts { cpu: mount("/sys/fs/cgroup/cpu", "/"), ..Mounts::default() });
        let memory = line("/sys/fs/cgroup/memory", "/docker/x", "cgroup", "memory");
        assert_eq!(mounts_of(&memory).memory, mount("/sys/fs/cgroup/memory", "/docker/x"));
    }

    #[test]
    fn a_process_has_its_group_and_those_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write(dir.path(), "two/web/app/cgroup.events", "");
        write(dir.path(), "cpu/web/cpu.stat", "");
        let mounts = |top: &str| {
            let mount = |name: &str| vec![Mount { at: at(name), top: top.into() }];
            Mounts { two: mount("two"), cpu: mount("cpu"), memory: Vec::new() }
        };
        let group = |folder: &str, path: &str| Group { folder: at(folder), path: path.into() };
        let groups = Groups("5:cpuset:/other\n4:cpu,cpuacct:/web\n0::/web/app\n".into());
        let all = [group("two/web/app", "/web/app"), group("two/web", "/web"), group("two/", "/")];
        assert_eq!(groups.unified(&mounts("/")), all);
        assert_eq!(groups.unified(&mounts("/web/app")), [group("two/", "/")], "it is at the mount");
        assert_eq!(groups.unified(&mounts("/db")), [], "not below the mount");
        assert_eq!(groups.of_controller("cpu", &mounts("/").cpu), [group("cpu/web", "/web"), group("cpu/", "/")]);
        assert_eq!(groups.of_controller("memory", &mounts("/").cpu), []);
        for outside in ["0::/../web\n", "6:freezer:/web\n", "0::/gone\n", "odd\n"] {
            assert_eq!(Groups(outside.into()).unified(&mounts("/")), [], "{outside}");
        }
    }

    #[test]
    fn what_a_container_has_not_mounted_is_read_where_process_1_has() {
        let dir = tempfile::tempdir().unwrap();
        let root = ProcRoot::new(dir.path().join("proc"));
        let own = dir.path().join("own").display().to_string();
        write(dir.path(), "own/x", "");
        write(dir.path(), "proc/self/mountinfo", &line(&own, "/pod/us", "cgroup2", ""));
        write(dir.path(), "proc/1/mountinfo", &line("/all", "/", "cgroup2", ""));
        write(dir.path(), "proc/1/root/all/pod/us/x", "");
        write(dir.path(), "proc/1/root/all/pod/them/x", "");
        let mounts = Mounts::find(&root);
        let all = root.path().join("1/root/all");
        assert_eq!(mounts.two, [mount(&own, "/pod/us"), mount(all.to_str().unwrap(), "/")].concat());
        let paths = |group: &str| -> Vec<String> {
            Groups(format!("0::{group}\n")).unified(&mounts).into_iter().map(|group| group.path).collect()
        };
        assert_eq!(paths("/pod/them"), ["/pod/them", "/pod", "/"]);
        assert_eq!(paths("/pod/us"), ["/pod/us", "/pod", "/"], "a limit above us holds too");
        assert_eq!(Mounts::unified(&root), mounts.two.first().cloned());
        // Whoever started us in a network namespace has a mount namespace that shows them.
        std::fs::remove_dir_all(root.path().join("1/root")).unwrap();
        write(dir.path(), "proc/self/status", "Name:\tx\nPPid:\t70\n");
        write(dir.path(), "proc/70/status", "Name:\tip\nPPid:\t60\n");
        write(dir.path(), "proc/70/mountinfo", &line(&own, "/pod/us", "cgroup2", ""));
        write(dir.path(), "proc/60/status", "Name:\tsh\nPPid:\t0\n");
        let first = line("/cpu", "/", "cgroup", "cpu");
        write(dir.path(), "proc/1/mountinfo", &first);
        write(dir.path(), "proc/60/mountinfo", &first);
        write(dir.path(), "proc/60/root/cpu/web/cpu.stat", "");
        let cpu = Mounts::find(&root).cpu;
        assert_eq!(cpu, mount(root.path().join("60/root/cpu").to_str().unwrap(), "/"));
        let web = Groups("4:cpu:/web\n".into()).of_controller("cpu", &cpu);
        assert_eq!(web.first().map(|group| group.path.as_str()), Some("/web"));
        // Process 1 is not always ours to read, and often has the same mounts.
        assert_eq!(paths("/pod/us"), ["/"]);
        assert_eq!(paths("/pod/them"), [""; 0]);
        write(dir.path(), "proc/1/mountinfo", &line(&own, "/pod/us", "cgroup2", ""));
        assert_eq!(Mounts::find(&root).two, mount(&own, "/pod/us"));
    }
}
