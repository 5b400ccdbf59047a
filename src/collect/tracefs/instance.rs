//! A trace of our own inside tracefs, which takes nothing from anybody else's and is gone when we are.
//!
//! Comes in: where tracefs is mounted (or nothing: then it is mounted for this process alone). Goes out: a directory below
//! `instances/`, removed on drop; those that a run left behind that was killed are removed first. Never here: what is
//! traced in it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::process::{Pid, test_kill_process};

use super::Unavailable;
use crate::collect::proc::mounts::mounted;

/// Names of instances begin so; the number of the process follows.
const NAME: &str = "tcpstate-";
/// Traces of one process at a time, and of processes that have one number in different pid namespaces.
const SAME_NUMBER: u32 = 16;
/// A process that began so much later than the instance was made did not make it: the clocks differ by less.
const CLOCKS_DIFFER_SECS: f64 = 2.0;

/// Clock ticks per second in what the kernel reports to user space, on every architecture that Rust supports
/// (`USER_HZ` in include/asm-generic/param.h).
const USER_HZ: f64 = 100.0;

/// A directory below `instances/`.
#[derive(Debug)]
pub struct Instance {
    /// Of tracefs itself, for what is not in an instance.
    root: OwnedFd,
    name: String,
    dir: OwnedFd,
}

impl Instance {
    /// Makes one, after those that are nobody's any more are removed.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn make() -> Result<Instance, Unavailable> {
        let root = tracefs()?;
        let failed = |what: String| move |source: Errno| Unavailable::Instance { what, source: source.into() };
        let instances =
            rustix::fs::openat(&root, "instances", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(failed("open instances".into()))?;
        sweep(instances.as_fd());
        let own = std::process::id();
        for nth in 1..=SAME_NUMBER {
            let name = if nth == 1 { format!("{NAME}{own}") } else { format!("{NAME}{own}-{nth}") };
            let path = format!("instances/{name}");
            let make = || rustix::fs::mkdirat(&root, &path, Mode::RWXU);
            let made = match make() {
                // That of another process of this number, or one of ours; the kernel keeps what is open.
                Err(Errno::EXIST) if rustix::fs::unlinkat(&root, &path, AtFlags::REMOVEDIR).is_err() => continue,
                Err(Errno::EXIST) => make(),
                other => other,
            };
            made.map_err(failed(format!("make {path}")))?;
            let dir =
                rustix::fs::openat(&root, &path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            match dir {
                Ok(dir) => return Ok(Instance { root, name, dir }),
                Err(e) => {
                    // What cannot be opened is of no use; if it cannot be removed either, the next run does it.
                    let _ = rustix::fs::unlinkat(&root, &path, AtFlags::REMOVEDIR);
                    return Err(failed(format!("open {path}"))(e));
                }
            }
        }
        Err(Unavailable::Instance {
            what: format!("make instances/{NAME}{own}"),
            source: io::Error::from(Errno::EXIST),
        })
    }

    /// Opens a file of it.
    pub fn open(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.dir, path, flags | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Reads a file of it.
    pub fn read(&self, path: &str) -> io::Result<String> {
        read(&self.open(path, OFlags::RDONLY)?)
    }

    /// Writes a word into a file of it.
    pub fn write(&self, path: &str, word: &str) -> io::Result<()> {
        rustix::io::write(self.open(path, OFlags::WRONLY | OFlags::TRUNC)?, word.as_bytes())?;
        Ok(())
    }

    /// The names of the CPUs that it has rings for, sooner or later: all that may ever be there.
    pub fn cpus(&self) -> io::Result<Vec<String>> {
        let dir = self.open("per_cpu", OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut cpus: Vec<(u32, String)> = Vec::new();
        for entry in Dir::read_from(&dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some(number) = name.strip_prefix("cpu").and_then(|n| n.parse().ok()) {
                cpus.push((number, name));
            }
        }
        cpus.sort_unstable();
        Ok(cpus.into_iter().map(|(_, name)| name).collect())
    }

    /// Reads a file of tracefs that is not the instance's.
    pub fn read_global(&self, path: &str) -> io::Result<String> {
        read(&rustix::fs::openat(&self.root, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Refused while one of its files is open: whoever holds an `Instance` closes those first. Left behind, it is
        // removed by the next run.
        let _ = rustix::fs::unlinkat(&self.root, format!("instances/{}", self.name), AtFlags::REMOVEDIR);
    }
}

/// Some of the kernel's files give only what fits the first read (`show_header`, `kernel/trace/trace_events.c`), so that
/// one has room for everything.
fn read(file: &OwnedFd) -> io::Result<String> {
    let (mut text, mut part) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        match rustix::io::read(file, &mut part[..]) {
            Ok(0) => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Ok(length) => text.extend_from_slice(part.get(..length).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Removes the instances whose process is gone.
fn sweep(instances: BorrowedFd<'_>) {
    let Ok(entries) = Dir::read_from(instances) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = maker(&name.to_string_lossy()) else { continue };
        let made = rustix::fs::statat(instances, name, AtFlags::SYMLINK_NOFOLLOW);
        if made.is_ok_and(|stat| is_left(pid, stat.st_ctime as f64)) {
            // The kernel refuses while somebody reads it, such as a process of another pid namespace.
            let _ = rustix::fs::unlinkat(instances, name, AtFlags::REMOVEDIR);
        }
    }
}

/// The process that an instance is named after.
fn maker(name: &str) -> Option<i32> {
    name.strip_prefix(NAME)?.split('-').next()?.parse().ok().filter(|pid| *pid > 0)
}

/// Whether the process that made an instance at that time (seconds of the epoch) has ended.
fn is_left(pid: i32, made_secs: f64) -> bool {
    if u32::try_from(pid) == Ok(std::process::id()) {
        return false;
    }
    if Pid::from_raw(pid).is_none_or(|pid| test_kill_process(pid) == Err(Errno::SRCH)) {
        return true;
    }
    // The number may belong to another process by now.
    let began = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| began_secs(&stat));
    let seconds = |clock| {
        let now = rustix::time::clock_gettime(clock);
        now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
    };
    let made_ago = seconds(rustix::time::ClockId::Realtime) - made_secs;
    began.is_some_and(|began| made_ago > seconds(rustix::time::ClockId::Boottime) - began + CLOCKS_DIFFER_SECS)
}

/// When a process began, in seconds since the host did: the 22nd word of `/proc/PID/stat`.
fn began_secs(stat: &str) -> Option<f64> {
    let ticks: f64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some(ticks / USER_HZ)
}

/// A directory that is tracefs.
fn tracefs() -> Result<OwnedFd, Unavailable> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut refused = None;
    for path in candidates(&text) {
        let dir = rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        match dir {
            Ok(dir) if rustix::fs::fstatfs(&dir).is_ok_and(|fs| fs.f_type == libc::TRACEFS_MAGIC) => return Ok(dir),
            Err(e) => refused = refused.or(Some((path, e))),
            Ok(_) => {}
        }
    }
    if let Some((path, source)) = refused {
        return Err(Unavailable::Closed { path, source: source.into() });
    }
    // Seen by nobody else, and gone with its last descriptor.
    let mount = || -> Result<OwnedFd, Errno> {
        let fs = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&fs)?;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    };
    mount().map_err(|source| Unavailable::NotMounted(source.into()))
}

/// Where tracefs is, or appears when somebody looks: below debugfs.
fn candidates(mountinfo: &str) -> Vec<PathBuf> {
    let (mut direct, mut below) = (Vec::new(), Vec::new());
    for mount in mounted(mountinfo).filter(|mount| mount.root() == Path::new("/")) {
        match mount.kind {
            "tracefs" => direct.push(mount.at()),
            "debugfs" => below.push(mount.at().join("tracing")),
            _ => {}
        }
    }
    direct.extend(below);
    direct
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_tracefs_come_before_those_below_debugfs() {
        let text = "30 23 0:7 / /sys/kernel/debug rw - debugfs debugfs rw\n31 23 0:12 / /sys/kernel/tracing rw - tracefs t rw\n\
                    32 23 0:12 /events /srv/part rw - tracefs t rw\nbad\n33 23 0:12 / /a\\040b rw shared:1 - tracefs t rw\n";
        let paths: Vec<String> = candidates(text).iter().map(|p| p.display().to_string()).collect();
        assert_eq!(paths, ["/sys/kernel/tracing", "/a b", "/sys/kernel/debug/tracing"]);
    }

    #[test]
    fn an_instance_belongs_to_the_process_in_its_name_while_that_one_lives() {
        assert_eq!((maker("tcpstate-812"), maker("tcpstate-812-2")), (Some(812), Some(812)));
        for other in ["tcpstate-", "tcpstate-x", "tcpstate--1", "tcpstate-0", "other-812", "tcpstate812"] {
            assert_eq!(maker(other), None, "{other}");
        }
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec as f64;
        assert!(!is_left(i32::try_from(std::process::id()).unwrap(), 0.0), "ours");
        // The first process began when the host did: before everything that is newer, and after what is older.
        assert!(!is_left(1, now));
        assert!(is_left(1, 0.0), "another process has the number now");
        assert!(is_left(i32::MAX, now));
        assert_eq!(began_secs("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 500 9"), Some(5.0));
    }
}
