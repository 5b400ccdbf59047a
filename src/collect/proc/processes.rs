//! What is known of the processes that hold sockets, and, for those named in a finding, what they do with them.
//!
//! Input: pids. Output: [`ProcessFacts`] and [`Inspection`]; what could not be read is `None`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rustc_hash::FxHashSet;

use crate::collect::proc::groups::Groups;
use crate::collect::proc::{ProcRoot, mounts, parts};
use crate::model::resources::Descriptors;
use crate::model::snapshot::{EpollWatch, Inspection, ProcessFacts, ThreadState};
use crate::model::{Inode, NetnsId};

/// Threads examined per process; a larger pool is more of the same.
const THREADS_READ: usize = 64;

/// Uninterruptible sleep (proc(5)). Such a thread may hold the lock of its address space, and a reader of the
/// command line or the mappings would block on it.
const UNINTERRUPTIBLE: char = 'D';

/// Name of a process, if it exists.
#[must_use]
pub fn name(root: &ProcRoot, pid: u32) -> Option<String> {
    let comm = std::fs::read(root.path().join(pid.to_string()).join("comm")).ok()?;
    Some(String::from_utf8_lossy(comm.strip_suffix(b"\n").unwrap_or(&comm)).into_owned())
}

/// Whether a process of this name runs on this host.
#[must_use]
pub fn is_running(comm: &str) -> bool {
    let root = ProcRoot::default();
    pids(&root).any(|pid| name(&root, pid).is_some_and(|name| name == comm))
}

/// The names of the processes that run on this host, with their pids.
#[must_use]
pub fn names() -> BTreeMap<String, Vec<u32>> {
    let root = ProcRoot::default();
    let mut names: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for pid in pids(&root) {
        if let Some(name) = name(&root, pid) {
            names.entry(name).or_default().push(pid);
        }
    }
    names
}

/// The systemd units that have a process on this host.
#[must_use]
pub fn units() -> BTreeSet<String> {
    let root = ProcRoot::default();
    pids(&root).filter_map(|pid| Groups::of(&root, pid)?.identity().unit).collect()
}

/// The processes of the host, as far as /proc shows them.
pub fn pids(root: &ProcRoot) -> impl Iterator<Item = u32> {
    let folders = std::fs::read_dir(root.path()).into_iter().flatten().flatten();
    folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok())
}

/// Facts of some processes; vanished ones are left out.
#[must_use]
pub fn facts(root: &ProcRoot, pids: impl Iterator<Item = u32>) -> BTreeMap<u32, ProcessFacts> {
    let uptime_ms = uptime_ms(root);
    pids.filter_map(|pid| Some((pid, process(root, pid, uptime_ms)?))).collect()
}

/// How long these have run, in their order; `None` where that is not known.
#[must_use]
pub fn running_ms(root: &ProcRoot, pids: impl Iterator<Item = u32>) -> Vec<Option<u64>> {
    let uptime_ms = uptime_ms(root);
    let of = |pid: u32| {
        let stat = procfs::process::Process::new_with_root(root.path().join(pid.to_string())).ok()?.stat().ok()?;
        Some(since_start(uptime_ms?, stat.starttime))
    };
    pids.map(of).collect()
}

/// Start time counts clock ticks, 100 per second on every architecture that Linux reports to user space.
const fn since_start(uptime_ms: u64, start_ticks: u64) -> u64 {
    uptime_ms.saturating_sub(start_ticks.saturating_mul(10))
}

fn process(root: &ProcRoot, pid: u32, uptime_ms: Option<u64>) -> Option<ProcessFacts> {
    let folder = root.path().join(pid.to_string());
    let process = procfs::process::Process::new_with_root(folder.clone()).ok()?;
    let stat = process.stat().ok()?;
    let Descriptors { used, soft, hard, .. } = descriptors_of(&process, &folder, &mut { usize::MAX });
    let running_ms = uptime_ms.map(|up| since_start(up, stat.starttime));
    Some(ProcessFacts {
        pid,
        state: Some(stat.state),
        threads: u32::try_from(stat.num_threads).ok(),
        parent: u32::try_from(stat.ppid).ok(),
        running_ms,
        fd_used: used,
        fd_soft: soft,
        fd_hard: hard,
        exe: process.exe().ok().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned())),
        cmdline: if stat.state == UNINTERRUPTIBLE { Vec::new() } else { process.cmdline().unwrap_or_default() },
        inspection: None,
        frozen: None,
        cpu_quota: None,
        is_activated: None,
        group_memory: None,
        is_go: None,
        netns: std::fs::metadata(folder.join("ns/net"))
            .ok()
            .and_then(|m| NetnsId::new(std::os::unix::fs::MetadataExt::ino(&m))),
    })
}

/// Descriptors that one look at many processes counts where the kernel does not tell their number: about 10 ms.
const DESCRIPTORS_COUNTED: usize = 10_000;

/// Descriptors of some processes and their limits, in the same order; of a process that is gone nothing is known.
#[must_use]
pub fn descriptors(root: &ProcRoot, pids: impl Iterator<Item = u32>) -> Vec<Descriptors> {
    let mut room = DESCRIPTORS_COUNTED;
    let of = |pid: u32| {
        let folder = root.path().join(pid.to_string());
        let Ok(process) = procfs::process::Process::new_with_root(folder.clone()) else {
            return Descriptors::default();
        };
        descriptors_of(&process, &folder, &mut room)
    };
    pids.map(of).collect()
}

fn descriptors_of(process: &procfs::process::Process, folder: &Path, room: &mut usize) -> Descriptors {
    let limit = |value: procfs::process::LimitValue| match value {
        procfs::process::LimitValue::Value(n) => Some(n),
        procfs::process::LimitValue::Unlimited => None,
    };
    let files = process.limits().ok().map(|l| l.max_open_files);
    let soft = files.as_ref().and_then(|f| limit(f.soft_limit));
    let fd = folder.join("fd");
    let used = used_descriptors(&fd, room);
    Descriptors {
        used: used
            .map(|used| soft.filter(|soft| used >= *soft).and_then(|soft| within(&fd, used, soft)).unwrap_or(used)),
        soft,
        hard: files.as_ref().and_then(|f| limit(f.hard_limit)),
    }
}

/// Descriptors with numbers below the limit, if some of these are free: the limit is one of numbers (`alloc_fd`), and a
/// process may inherit higher ones.
fn within(fd: &Path, used: u64, soft: u64) -> Option<u64> {
    use rustix::fs::{Mode, OFlags, RawDir, SeekFrom};
    let folder = rustix::fs::open(fd, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // The offset of a number is itself and two, for `.` and `..` (`proc_readfd_common`): those below are not listed.
    rustix::fs::seek(&folder, SeekFrom::Start(soft + 2)).ok()?;
    let mut buffer = Vec::with_capacity(8192);
    let mut entries = RawDir::new(&folder, buffer.spare_capacity_mut());
    let mut beyond = 0;
    while let Some(entry) = entries.next() {
        beyond += u64::from(entry.ok()?.file_name().to_bytes().first().is_some_and(u8::is_ascii_digit));
    }
    Some(used.saturating_sub(beyond)).filter(|within| *within < soft)
}

/// Descriptors in use: the size of the directory since Linux 6.2 (`proc_fd_getattr`), else a count, as long as there is
/// room for it.
fn used_descriptors(fd: &Path, room: &mut usize) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    // The size may be readable without the right to list, and is as accurate.
    match std::fs::metadata(fd) {
        Ok(meta) if meta.size() > 0 => Some(meta.size()),
        _ => {
            let counted = std::fs::read_dir(fd).ok()?.take(room.saturating_add(1)).count();
            let known = counted <= *room;
            *room = room.saturating_sub(counted);
            known.then_some(counted as u64)
        }
    }
}

fn uptime_ms(root: &ProcRoot) -> Option<u64> {
    let text = std::fs::read_to_string(root.path().join("uptime")).ok()?;
    let seconds: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    // Uptime is positive and far below 2^53 milliseconds.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked by what an uptime is")]
    Some((seconds * 1000.0) as u64)
}

/// What one process does with its sockets, and whether it is a Go program; `None` without permission, or when it is
/// gone. Descriptors known to be `sockets`, out of all in use, are not read again.
#[must_use]
pub fn inspect(
    root: &ProcRoot,
    pid: u32,
    sockets: &FxHashSet<u32>,
    used: Option<u64>,
) -> Option<(Inspection, Option<bool>)> {
    let folder = root.path().join(pid.to_string());
    let mut inspection = Inspection::default();
    for (fd, link) in others(&folder.join("fd"), sockets, used)? {
        let link = link.to_string_lossy();
        if link == "anon_inode:[eventpoll]" {
            inspection.epoll_sets += 1;
            let text = std::fs::read_to_string(folder.join("fdinfo").join(fd.to_string())).unwrap_or_default();
            inspection.watches.extend(text.lines().filter_map(|line| watch(fd, line)));
        } else if link == "anon_inode:[io_uring]" {
            inspection.io_urings += 1;
        } else if let Some(jar) = parts::jar(&link) {
            inspection.parts.push(jar.to_owned());
        }
    }
    let mut tids: Vec<u32> = std::fs::read_dir(folder.join("task"))
        .ok()?
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    tids.sort_unstable();
    inspection.threads_not_read = u32::try_from(tids.len().saturating_sub(THREADS_READ)).unwrap_or(u32::MAX);
    inspection.threads = tids.iter().take(THREADS_READ).map(|tid| thread(&folder, *tid)).collect();
    // Reading the mappings blocks on a lock that is held by a thread mapping a file of a dead server.
    let waits = inspection.threads.iter().any(|thread| thread.state == Some(UNINTERRUPTIBLE));
    let maps = if waits { None } else { std::fs::read_to_string(folder.join("maps")).ok() }.unwrap_or_default();
    inspection.parts.extend(parts::mapped(&maps));
    inspection.parts.sort_unstable();
    inspection.parts.dedup();
    if inspection.epoll_sets == 0 && inspection.io_urings == 0 && tids.len() == 1 {
        inspection.imports_accept = imports_accept(root, &folder, &maps);
    }
    let is_go = parts::has_go_heap(&maps).or_else(|| is_go(root, &folder, &maps));
    Some((inspection, is_go))
}

/// Whether anything that the process runs imports `accept()`; `None` when a file is not on a local disk, or was
/// replaced.
fn imports_accept(root: &ProcRoot, folder: &Path, maps: &str) -> Option<bool> {
    if !parts::is_dynamic(maps) {
        return None;
    }
    let mut imports = false;
    for path in parts::code(maps) {
        let file = folder.join("root").join(path.trim_start_matches('/'));
        imports |= is_on_disk(root, folder, maps, path).then(|| parts::imports_accept(&file)).flatten()?;
    }
    Some(imports)
}

/// Whether its executable is Go's; `None` also when it is on a file system that may block.
fn is_go(root: &ProcRoot, folder: &Path, maps: &str) -> Option<bool> {
    let exe = folder.join("exe");
    let path = std::fs::read_link(&exe).ok()?;
    if is_on_disk(root, folder, maps, path.to_str()?) { parts::is_go(&exe) } else { None }
}

/// Whether a mapped file is on a local disk or in memory.
fn is_on_disk(root: &ProcRoot, folder: &Path, maps: &str, path: &str) -> bool {
    let Some(device) = mounts::device_of(maps, path) else { return false };
    // A file in a container may be mapped from a file system that only the host has mounted.
    let of = |folder: &Path| mounts::is_local(&std::fs::read_to_string(folder.join("mountinfo")).ok()?, device);
    of(folder).or_else(|| of(&root.path().join("self"))) == Some(true)
}

/// Free descriptor numbers tried before all descriptors are listed.
const MOST_TRIED: usize = 4096;
/// Numbers tried beyond the highest known one.
const BEYOND: u32 = 64;

/// The descriptors not known to be sockets. Listing a table makes the kernel build an entry for each (2 us); numbers
/// are allocated from the lowest, so few gaps exist between those of the sockets, and these are tried.
fn others(folder: &Path, sockets: &FxHashSet<u32>, used: Option<u64>) -> Option<Vec<(u32, PathBuf)>> {
    let known = sockets.len() as u64;
    let highest = sockets.iter().max().copied().unwrap_or(0).saturating_add(BEYOND);
    let missing = (highest as usize).saturating_sub(sockets.len());
    if let Some(used) = used.filter(|used| *used >= known && missing <= MOST_TRIED) {
        let read = |fd: u32| Some((fd, std::fs::read_link(folder.join(fd.to_string())).ok()?));
        let found: Vec<_> = (0..=highest).filter(|fd| !sockets.contains(fd)).filter_map(read).collect();
        if found.len() as u64 + known >= used {
            return Some(found);
        }
    }
    // More are known than the process has: a thread has its own table, and the numbers belong to several.
    let skip = used.is_none_or(|used| used >= known);
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let numbered = entries.filter_map(|e| Some((e.file_name().to_str()?.parse::<u32>().ok()?, e.path())));
    let others = numbered.filter(|(fd, _)| !skip || !sockets.contains(fd));
    Some(others.filter_map(|(fd, path)| Some((fd, std::fs::read_link(path).ok()?))).collect())
}

/// `tfd:        9 events: 80000019 data: 9  pos:0 ino:5e80 sdev:9`; the inode is hexadecimal, and absent before 4.14.
fn watch(epoll_fd: u32, line: &str) -> Option<EpollWatch> {
    let mut words = line.strip_prefix("tfd:")?.split_ascii_whitespace();
    let target_fd = words.next()?.parse().ok()?;
    let mut events = None;
    let mut inode = None;
    while let Some(word) = words.next() {
        if word == "events:" {
            events = u32::from_str_radix(words.next()?, 16).ok();
        } else if let Some(hex) = word.strip_prefix("ino:") {
            inode = u64::from_str_radix(hex, 16).ok().and_then(Inode::new);
        }
    }
    Some(EpollWatch { epoll_fd, target_fd, inode, events: events? })
}

fn thread(folder: &Path, tid: u32) -> ThreadState {
    let task = folder.join("task").join(tid.to_string());
    let read = |name: &str| std::fs::read_to_string(task.join(name)).ok();
    let stat = read("stat").unwrap_or_default();
    let (name, state) = match (stat.find('('), stat.rfind(')')) {
        (Some(open), Some(close)) if open < close => {
            (stat[open + 1..close].to_owned(), stat[close + 1..].trim_start().chars().next())
        }
        _ => (String::new(), None),
    };
    let syscall = read("syscall").unwrap_or_default();
    let mut words = syscall.split_ascii_whitespace();
    ThreadState {
        tid,
        name,
        state,
        wchan: read("wchan").filter(|w| !w.is_empty() && w != "0"),
        syscall: words.next().and_then(|w| w.parse().ok()),
        syscall_arg0: words.next().and_then(|w| u64::from_str_radix(w.trim_start_matches("0x"), 16).ok()),
    }
}

/// Whether the environment says that listeners were handed to this very process: `LISTEN_PID` of sd_listen_fds(3).
#[must_use]
pub fn is_activated(root: &ProcRoot, pid: u32) -> Option<bool> {
    let environment = std::fs::read(root.path().join(format!("{pid}/environ"))).ok()?;
    let wanted = format!("LISTEN_PID={pid}");
    Some(environment.split(|b| *b == 0).any(|word| word == wanted.as_bytes()))
}

/// Whether a descriptor of a process is still this socket, and a TCP one by its protocol name (`sockfs_xattr_get` in
/// `net/socket.c`); `None` when it cannot be asked. An MPTCP socket is not: it outlives its subflows, and only
/// subflows are in the TCP tables.
#[must_use]
pub fn is_tcp(root: &ProcRoot, pid: u32, fd: u32, inode: Inode) -> Option<bool> {
    let path = root.path().join(format!("{pid}/fd/{fd}"));
    // A busy process reuses the number within microseconds; asking a file of a dead server would block forever.
    let is_it = || {
        let link = std::fs::read_link(&path).ok()?;
        Some(link.as_os_str().as_encoded_bytes() == format!("socket:[{inode}]").as_bytes())
    };
    if !is_it()? {
        return Some(false);
    }
    let mut name = [0u8; 32];
    let len = rustix::fs::getxattr(&path, "system.sockprotoname", &mut name[..]).ok()?;
    let name = name.get(..len)?;
    if !matches!(name.strip_suffix(b"\0").unwrap_or(name), b"TCP" | b"TCPv6") {
        return Some(false);
    }
    is_it()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, AsRawFd};

    #[test]
    fn epoll_lines_read_with_and_without_an_inode() {
        let line = "tfd:        9 events: 80002019 data:                9  pos:0 ino:5e80 sdev:9";
        let expected = EpollWatch { epoll_fd: 4, target_fd: 9, inode: Inode::new(0x5e80), events: 0x8000_2019 };
        assert_eq!(watch(4, line), Some(expected));
        assert_eq!(watch(4, "tfd: 9 events: 1 data: 9").map(|w| w.inode), Some(None));
        assert_eq!(watch(4, "pos: 0"), None);
        assert_eq!(watch(4, "tfd: x events:"), None);
    }

    #[test]
    fn numbers_beyond_the_limit_do_not_fill_it() {
        // Every number of the listing is one in use, so all limits are tried on our own table.
        let fd = Path::new("/proc/thread-self/fd");
        let numbers: Vec<u64> =
            std::fs::read_dir(fd).unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok()).collect();
        let high = numbers.iter().max().unwrap() + 40;
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let copy = rustix::io::fcntl_dupfd_cloexec(&file, i32::try_from(high).unwrap()).unwrap();
        let at = u64::try_from(copy.as_raw_fd()).unwrap();
        // Tests beside this one open and close files.
        let used = numbers.len() as u64 + 1;
        let found = within(fd, used, at).expect("numbers below the limit are free");
        assert!(found < used, "{found}: number {at} is beyond a limit of {at}");
        assert_eq!(within(fd, at + 1000, at + 1000), None, "as many in use as there are numbers");
        let me = std::process::id();
        assert_eq!(is_activated(&ProcRoot::default(), me), Some(false));
    }

    #[test]
    fn our_own_facts_and_sockets_are_seen() {
        let root = ProcRoot::default();
        let own = std::process::id();
        let facts = facts(&root, [own, 0].into_iter());
        let me = &facts[&own];
        assert_eq!(facts.len(), 1);
        assert!(me.threads >= Some(1) && me.fd_used > Some(2) && me.running_ms.is_some(), "{me:?}");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let fd = |f: i32| u32::try_from(f).unwrap();
        let inode = |file: std::os::fd::BorrowedFd<'_>| Inode::new(rustix::fs::fstat(file).unwrap().st_ino).unwrap();
        let (tcp_inode, udp_inode) = (inode(listener.as_fd()), inode(udp.as_fd()));
        assert_eq!(is_tcp(&root, own, fd(listener.as_raw_fd()), tcp_inode), Some(true));
        assert_eq!(is_tcp(&root, own, fd(listener.as_raw_fd()), udp_inode), Some(false), "another socket by now");
        assert_eq!(is_tcp(&root, own, fd(udp.as_raw_fd()), udp_inode), Some(false));
        assert_eq!(is_tcp(&root, own, 9999, tcp_inode), None);
        assert!(!inspect(&root, own, &FxHashSet::default(), None).unwrap().0.threads.is_empty());
    }

    #[test]
    fn what_is_no_socket_is_found_without_a_list_of_all() {
        let pid = std::process::id();
        let files: Vec<std::fs::File> = (0..3).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let sockets: Vec<std::net::UdpSocket> =
            (0..200).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let numbers: FxHashSet<u32> = sockets.iter().map(|s| u32::try_from(s.as_raw_fd()).unwrap()).collect();
        let last = std::fs::File::open("/dev/null").unwrap();
        let folder = ProcRoot::default().path().join(format!("{pid}/fd"));
        let ours: Vec<u32> = files.iter().chain([&last]).map(|f| u32::try_from(f.as_raw_fd()).unwrap()).collect();
        let used = super::descriptors(&ProcRoot::default(), [pid].into_iter())[0].used;
        for used in [used, None] {
            let found = others(&folder, &numbers, used).unwrap();
            assert!(ours.iter().all(|fd| found.iter().any(|(f, link)| f == fd && link.ends_with("null"))), "{found:?}");
            assert!(found.iter().all(|(fd, _)| !numbers.contains(fd)), "{found:?}");
        }
        // Numbers that cannot all be of this table prove nothing.
        let found = others(&folder, &numbers, Some(100)).unwrap();
        assert!(numbers.iter().all(|n| found.iter().any(|(fd, _)| fd == n)), "{found:?}");
    }
}
