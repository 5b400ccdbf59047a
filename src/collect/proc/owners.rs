//! Which process holds which socket: the walk over `/proc/PID/fd`.
//!
//! Input: the root of a proc file system and, if only some matter, their inodes. Output: one record per descriptor
//! that is a socket, and how many processes could not be read.
//!
//! Processes come and go while this runs: a vanished one is not an error. A process whose threads do not share one
//! descriptor table is walked thread by thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustc_hash::FxHashSet;
use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::collect::error::Error;
use crate::collect::proc::ProcRoot;
use crate::collect::rights;
use crate::cores;
use crate::model::{Inode, Unlisted};

/// One descriptor that refers to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub pid: u32,
    pub fd: u32,
    pub inode: Inode,
}

/// The result of a walk.
#[derive(Clone, Debug, Default)]
pub struct Walked {
    pub records: Vec<Record>,
    /// Processes whose descriptors may not be read; kernel threads do not count.
    pub unreadable: u32,
    /// Why there may be more processes than were listed; they count as one unreadable process.
    pub unlisted: Option<Unlisted>,
}

/// Process directories per worker below which a second thread costs more than it saves.
const PROCESSES_PER_WORKER: usize = 8;
/// `PF_KTHREAD` (`include/linux/sched.h`).
const PF_KTHREAD: u64 = 0x0020_0000;

/// Walks every process; with `wanted`, only descriptors of those inodes are reported.
///
/// # Errors
/// When the root itself cannot be read.
pub fn walk(root: &ProcRoot, wanted: Option<&FxHashSet<Inode>>) -> Result<Walked, Error> {
    visit(root, wanted, false)
}

/// How many processes cannot be read; one descriptor of each is tried.
///
/// # Errors
/// As [`walk`].
pub fn unreadable(root: &ProcRoot) -> Result<(u32, Option<Unlisted>), Error> {
    let walked = visit(root, None, true)?;
    Ok((walked.unreadable, walked.unlisted))
}

fn visit(root: &ProcRoot, wanted: Option<&FxHashSet<Inode>>, probe: bool) -> Result<Walked, Error> {
    let fail = |e: Errno| {
        Error::new("read", root.path().display().to_string(), e.into()).hint("is a proc file system mounted there?")
    };
    let dir = match open_dir(rustix::fs::CWD, root.path()) {
        // Sockets come from elsewhere, and are useful without their owners.
        Err(Errno::NOENT) if root.is_own() => {
            return Ok(Walked { unreadable: 1, unlisted: Some(Unlisted::NoProc), ..Walked::default() });
        }
        other => other.map_err(fail)?,
    };
    let mut pids = Vec::with_capacity(512);
    numbers(dir.as_fd(), |pid, _| pids.push(pid)).map_err(fail)?;
    let workers = cores::count().min(pids.len() / PROCESSES_PER_WORKER).max(1);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut walker = Walker { root: dir.as_fd(), own: root.is_own(), wanted, probe, found: Walked::default() };
        while let Some(pid) = pids.get(next.fetch_add(1, Ordering::Relaxed)) {
            walker.process(*pid);
        }
        walker.found
    };
    let mut parts = Vec::with_capacity(workers);
    std::thread::scope(|scope| {
        // Workers that cannot be started leave their share to the others.
        let others: Vec<_> = (1..workers).map_while(|_| cores::start(scope, work).ok()).collect();
        parts.push(work());
        // A worker cannot fail; if one is lost, its processes are a gap.
        parts.extend(others.into_iter().map(|t| t.join().unwrap_or(Walked { unreadable: 1, ..Walked::default() })));
    });
    let mut all = parts.pop().unwrap_or_default();
    // How many are not listed is unknown.
    all.unlisted = unlisted(dir.as_fd(), &pids);
    all.unreadable += u32::from(all.unlisted.is_some());
    for part in parts {
        all.records.extend(part.records);
        all.unreadable += part.unreadable;
    }
    Ok(all)
}

/// Why the process list of a root may be incomplete.
pub fn horizon(root: &ProcRoot) -> Option<Unlisted> {
    let dir = open_dir(rustix::fs::CWD, root.path()).ok()?;
    let mut pids = Vec::with_capacity(512);
    numbers(dir.as_fd(), |pid, _| pids.push(pid)).ok()?;
    unlisted(dir.as_fd(), &pids)
}

/// Why a process list may be incomplete.
fn unlisted(root: BorrowedFd<'_>, pids: &[u32]) -> Option<Unlisted> {
    if pids.is_empty() {
        return Some(Unlisted::NoProc);
    }
    // The kernel's own threads are processes of the initial PID namespace alone: kthreadd is its second one.
    if pids.contains(&2) && is_kernel_thread(root, 2) {
        return None;
    }
    // Every PID namespace has its process 1. Where it is not listed (`hidepid`, proc_pid_readdir in fs/proc/base.c),
    // others are hidden too.
    if !pids.contains(&1) {
        return Some(Unlisted::Hidden);
    }
    // The first of them may be unreadable; we are in the same namespace, unless /proc is that of others.
    let namespace = |of: &str| rustix::fs::statat(root, of, AtFlags::empty()).ok();
    let stat = namespace("1/ns/pid").or_else(|| namespace("self/ns/pid"))?;
    (stat.st_ino != rights::PID_NS_INIT_INO).then_some(Unlisted::PidNamespace)
}

struct Walker<'a> {
    root: BorrowedFd<'a>,
    own: bool,
    wanted: Option<&'a FxHashSet<Inode>>,
    /// Only check whether descriptors can be read.
    probe: bool,
    found: Walked,
}

impl Walker<'_> {
    fn process(&mut self, pid: u32) {
        let mut path = PathBuffer::default();
        let before = self.found.records.len();
        match self.descriptors(pid, path.set(&[&pid, &"fd"])) {
            Err(Errno::ACCESS | Errno::PERM) => {
                if !self.is_kernel_thread(pid) {
                    self.found.unreadable += 1;
                }
                return;
            }
            Err(_) => return,
            Ok(()) => {}
        }
        if self.probe {
            return;
        }
        // A link count of 3 is one thread: `.`, `..` and itself.
        let tasks = path.set(&[&pid, &"task"]);
        if rustix::fs::statat(self.root, tasks, AtFlags::empty()).is_ok_and(|s| s.st_nlink > 3) {
            self.threads(pid, before);
        }
    }

    /// Walks the threads that have their own descriptor table (`unshare(CLONE_FILES)`).
    fn threads(&mut self, pid: u32, before: usize) {
        let mut path = PathBuffer::default();
        let Ok(tasks) = open_dir(self.root, path.set(&[&pid, &"task"])) else { return };
        let mut apart = Vec::new();
        let own = self.own;
        let listed = numbers(tasks.as_fd(), |tid, _| {
            if tid != pid && own && !share_descriptors(pid, tid) {
                apart.push(tid);
            }
        });
        if listed.is_err() || apart.is_empty() {
            return;
        }
        for tid in apart {
            // The thread may be gone, which does not matter.
            let _ = self.descriptors(pid, path.set(&[&pid, &"task", &tid, &"fd"]));
        }
        self.found.records[before..].sort_unstable();
        let mut tail = self.found.records.split_off(before);
        tail.dedup();
        self.found.records.append(&mut tail);
    }

    fn descriptors(&mut self, pid: u32, path: &str) -> Result<(), Errno> {
        let dir = open_dir(self.root, path)?;
        let mut target = [std::mem::MaybeUninit::uninit(); 40];
        let mut denied = None;
        let mut tried = false;
        numbers(dir.as_fd(), |fd, name| {
            if denied.is_some() || (self.probe && std::mem::replace(&mut tried, true)) {
                return;
            }
            match rustix::fs::readlinkat_raw(dir.as_fd(), name, &mut target[..]) {
                Ok((link, _)) => {
                    if let Some(inode) = socket_inode(link)
                        && self.wanted.is_none_or(|w| w.contains(&inode))
                    {
                        self.found.records.push(Record { pid, fd, inode });
                    }
                }
                Err(e @ (Errno::ACCESS | Errno::PERM)) => denied = Some(e),
                // Closed since the directory was read.
                Err(_) => {}
            }
        })?;
        denied.map_or(Ok(()), Err)
    }

    /// Kernel threads hold no descriptors, so they need not count as unreadable.
    fn is_kernel_thread(&self, pid: u32) -> bool {
        is_kernel_thread(self.root, pid)
    }
}

/// Whether it is a thread of the kernel; any user may read `stat`.
fn is_kernel_thread(root: BorrowedFd<'_>, pid: u32) -> bool {
    let mut path = PathBuffer::default();
    let Ok(file) =
        rustix::fs::openat(root, path.set(&[&pid, &"stat"]), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    else {
        return false;
    };
    let mut text = [0; 512];
    let Ok(n) = rustix::io::read(&file, &mut text) else { return false };
    // Fields after the name, which may contain anything: state is the first, flags the seventh.
    let Some(end) = text[..n].iter().rposition(|b| *b == b')') else { return false };
    std::str::from_utf8(&text[end + 1..n])
        .ok()
        .and_then(|rest| rest.split_ascii_whitespace().nth(6)?.parse::<u64>().ok())
        .is_some_and(|flags| flags & PF_KTHREAD != 0)
}

fn open_dir(at: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Calls `each` for every entry whose name is a number.
fn numbers(dir: BorrowedFd<'_>, mut each: impl FnMut(u32, &std::ffi::CStr)) -> Result<(), Errno> {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 16 * 1024];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        if let Some(number) = std::str::from_utf8(entry.file_name().to_bytes()).ok().and_then(|n| n.parse().ok()) {
            each(number, entry.file_name());
        }
    }
    Ok(())
}

/// The inode in `socket:[123]`.
fn socket_inode(link: &[u8]) -> Option<Inode> {
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    Inode::new(std::str::from_utf8(digits).ok()?.parse().ok()?)
}

/// Whether two threads share one descriptor table; true, the normal case, when the kernel does not say.
fn share_descriptors(pid: u32, tid: u32) -> bool {
    const KCMP_FILES: libc::c_long = 2;
    let zero: libc::c_long = 0;
    // SAFETY: kcmp takes five integers and touches no memory of ours.
    #[allow(unsafe_code, reason = "no crate in use wraps kcmp(2)")]
    let result = unsafe {
        libc::syscall(libc::SYS_kcmp, libc::c_long::from(pid), libc::c_long::from(tid), KCMP_FILES, zero, zero)
    };
    result <= 0
}

/// A short path built in place: numbers and words below the root.
#[derive(Default)]
struct PathBuffer(String);

impl PathBuffer {
    fn set(&mut self, parts: &[&dyn std::fmt::Display]) -> &str {
        use std::fmt::Write;
        self.0.clear();
        for (i, part) in parts.iter().enumerate() {
            // Writing into a String cannot fail.
            let _ = write!(self.0, "{}{part}", if i > 0 { "/" } else { "" });
        }
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn only_socket_links_are_sockets() {
        assert_eq!(socket_inode(b"socket:[123]"), Inode::new(123));
        for other in
            [&b"pipe:[123]"[..], b"socket:[]", b"/tmp/socket:[1]", b"socket:[1", b"socket:[99999999999999999999]"]
        {
            assert_eq!(socket_inode(other), None);
        }
    }

    #[test]
    fn our_own_listener_is_found_with_its_descriptor_and_its_duplicate() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let twin = listener.try_clone().unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let inode = socket_inode(link.as_os_str().as_encoded_bytes()).unwrap();
        let wanted: FxHashSet<Inode> = [inode].into_iter().collect();
        let search = || walk(&ProcRoot::default(), Some(&wanted)).unwrap();
        for found in [search(), cores::testkit::without_threads(search)] {
            let mut fds: Vec<i64> = found.records.iter().map(|r| i64::from(r.fd)).collect();
            fds.sort_unstable();
            let mut own = vec![i64::from(listener.as_raw_fd()), i64::from(twin.as_raw_fd())];
            own.sort_unstable();
            assert_eq!(fds, own);
            assert!(found.records.iter().all(|r| r.pid == std::process::id() && r.inode == inode));
        }
    }

    #[test]
    fn a_missing_root_is_an_error_that_names_it() {
        let missing = std::env::temp_dir().join("tcpstate-has-no-such-folder");
        let error = walk(&ProcRoot::new(&missing), None).unwrap_err().to_string();
        let begins = format!("cannot read {}: no such file or directory; ", missing.display());
        assert!(error.starts_with(&begins), "{error}");
    }
}
