//! Network namespaces: finding them, and running work inside one.
//!
//! Input: `/proc/PID/ns/net`, `/proc/PID/task/TID/ns/net`, mounts of namespaces, descriptors that refer to one.
//! Output: every distinct namespace once, with its name and a descriptor to enter it by.
//!
//! A thread that has entered another namespace does nothing else and ends: only this guarantees that no later query
//! goes to the wrong one.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxHashSet;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::collect::containers::Containers;
use crate::collect::error::{self, Error};
use crate::collect::netns_words::{self, Lookup};
use crate::collect::proc::mounts::{Mounted, mounted};
use crate::collect::proc::{self, ProcRoot, counters};
use crate::collect::rights;
use crate::cores;
use crate::model::gap::{Capability, Missing, WayOut, Why};
use crate::model::id::{HOST, netns_label};
use crate::model::{Gap, NetnsId, Unlisted};

/// Where `ip netns` keeps names; the second is usually a link to the first.
pub(super) const NAMED: [&str; 2] = ["/run/netns", "/var/run/netns"];
/// Up to this many open files on the host, descriptors are searched for namespaces that nothing else holds (3 us
/// each).
const FILES_SEARCHED: u64 = 50_000;
/// Our own descriptors besides one per namespace, and those of the namespaces found until the limit is next checked.
const SPARE_DESCRIPTORS: u64 = 384;

/// The way out where no thread can be made.
const NO_THREAD: &str =
    "each network namespace is entered in a thread of its own; raise the limit of threads (pids.max, ulimit -u)";

/// A namespace that can be entered, or at least tried.
#[derive(Clone, Debug)]
pub struct NetnsHandle {
    pub inode: Option<NetnsId>,
    /// Name below `/run/netns`; the host's has one too.
    pub name: Option<String>,
    /// `None` for the namespace of this process, which needs no entering.
    handle: Option<Arc<OwnedFd>>,
}

impl NetnsHandle {
    /// The namespace of this process.
    #[must_use]
    pub fn current(inode: Option<NetnsId>) -> NetnsHandle {
        NetnsHandle { inode, name: None, handle: None }
    }

    /// Another one, with the descriptor to enter it by; without one, that of this process.
    pub(super) fn opened(inode: NetnsId, handle: Option<Arc<OwnedFd>>) -> NetnsHandle {
        NetnsHandle { inode: Some(inode), name: None, handle }
    }

    pub(super) fn named(self, name: Option<String>) -> NetnsHandle {
        NetnsHandle { name, ..self }
    }

    /// Whether it is the namespace of this process.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.handle.is_none()
    }

    /// Runs something inside, in its own thread unless this is our namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn inside<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R, Error> {
        let Some(handle) = &self.handle else { return Ok(work()) };
        let entered = std::thread::scope(|scope| {
            let inside = || {
                move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok::<R, rustix::io::Errno>(work())
            };
            cores::start(scope, inside).map(std::thread::ScopedJoinHandle::join)
        });
        let fail = |e| Error::new("enter the network namespace", self.label(), e);
        match entered {
            Ok(Ok(result)) => {
                result.map_err(|e| fail(e.into()).hint("that takes CAP_SYS_ADMIN in the user namespace that owns it"))
            }
            Ok(Err(_)) => Err(fail(io::Error::other("the thread inside was lost"))),
            // This thread stays in its namespace: returning takes a privilege that it may lack.
            Err(e) => Err(fail(io::Error::other(format!("cannot start a thread: {}", error::reason(&e))))
                .hint(NO_THREAD)
                .no_thread()),
        }
    }

    /// Its name, or its number.
    #[must_use]
    pub fn label(&self) -> String {
        netns_label(self.name.as_deref(), self.inode)
    }
}

/// What `--netns` selects.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wanted {
    All,
    /// A name below `/run/netns`, a process id, an inode, a path, or a container or pod.
    One(String),
    /// Those of the containers and pods that match both words; `*` matches anything.
    Members {
        container: Option<String>,
        pod: Option<String>,
    },
}

impl Wanted {
    /// Whether it may mean another namespace later. Numbers and paths mean one for good: a process id may be given again.
    #[must_use]
    pub fn may_change(&self) -> bool {
        match self {
            Wanted::All | Wanted::Members { .. } => true,
            Wanted::One(word) => netns_words::is_name(word),
        }
    }
}

/// The namespaces to scan, each with what the visit read, and what is missing.
#[derive(Debug)]
pub struct Found<T> {
    pub spaces: Vec<(NetnsHandle, T)>,
    pub gaps: Vec<Gap>,
    /// Namespaces that exist but could not be entered.
    pub refused: u32,
}

impl<T> Default for Found<T> {
    fn default() -> Found<T> {
        Found { spaces: Vec::new(), gaps: Vec::new(), refused: 0 }
    }
}

/// Finds the selected namespaces; each is returned once, and entered once to `look`. `own` is the inode of this
/// process's namespace.
///
/// # Errors
/// When a named namespace does not exist or cannot be entered.
pub fn find<T: Send>(
    wanted: &[Wanted],
    root: &ProcRoot,
    own: Option<NetnsId>,
    containers: &Containers,
    look: &(dyn Fn() -> T + Sync),
) -> Result<Found<T>, Error> {
    if wanted.contains(&Wanted::All) {
        return all(root, own, look);
    }
    let names = names();
    let lookup = Lookup::new(root, own, &names, containers);
    let mut found = Found::default();
    for one in wanted {
        for space in lookup.wanted(one)? {
            if !found.spaces.iter().any(|(s, _)| s.inode == space.inode) {
                // A named one that cannot be entered is an error, because nothing else was requested.
                let seen = space.inside(look)?;
                found.spaces.push((space, seen));
            }
        }
    }
    Ok(found)
}

/// Finds them again: those that are held are kept while anything else leads to them.
///
/// # Errors
/// When the processes cannot be listed.
pub(super) fn find_again(
    wanted: &[Wanted],
    root: &ProcRoot,
    own: Option<NetnsId>,
    containers: &Containers,
    held: &[NetnsHandle],
) -> Result<Vec<NetnsHandle>, Error> {
    let names = names();
    let ours = held.iter().filter_map(|s| s.handle.as_ref().map(AsRawFd::as_raw_fd)).collect();
    let mut search = Search { ours, program: program(Path::new("/proc/self")), ..Search::new(None) };
    for path in mounts(root) {
        search.take(&path);
    }
    search.processes(root, false)?;
    let is_found = |search: &Search, space: &NetnsHandle| space.is_own() || search.handles.contains_key(&space.inode);
    if held.iter().any(|s| !is_found(&search, s)) && may_search_files(root) {
        search.processes(root, true)?;
    }
    let mut now: Vec<NetnsHandle> = held.iter().filter(|s| is_found(&search, s)).cloned().collect();
    let is_new = |now: &[NetnsHandle], inode: NetnsId| now.iter().all(|s| s.inode != Some(inode)) && Some(inode) != own;
    if wanted.contains(&Wanted::All) {
        for (inode, handle) in search.handles {
            if let (Some(inode), Some(handle)) = (inode, handle)
                && is_new(&now, inode)
            {
                now.push(NetnsHandle::opened(inode, Some(Arc::new(handle))).named(names.get(&inode).cloned()));
            }
        }
        return Ok(now);
    }
    let lookup = Lookup::new(root, own, &names, containers);
    for one in wanted {
        // A container that does not run at this moment has none.
        for space in lookup.wanted(one).unwrap_or_default() {
            if space.inode.is_some_and(|inode| is_new(&now, inode)) {
                now.push(space);
            }
        }
    }
    Ok(now)
}

/// Whether descriptors may be searched too.
fn may_search_files(root: &ProcRoot) -> bool {
    counters::system(root).files_used.is_some_and(|n| n <= FILES_SEARCHED)
}

fn all<T: Send>(root: &ProcRoot, own: Option<NetnsId>, look: &(dyn Fn() -> T + Sync)) -> Result<Found<T>, Error> {
    let mut found = Found::default();
    let (names, rights) = (names(), rights::own());
    let (Search { handles, closed, broken, .. }, deep) = Search::everywhere(root, own)?;
    if closed > 0 {
        let wanted = &[Capability::SysPtrace];
        let has = rights.is_root && rights.has(Capability::SysPtrace);
        let why = if has { Why::Forbidden } else { Why::Capability(Capability::SysPtrace) };
        found.gaps.push(Gap::new(Missing::ProcessNetns { processes: closed }, why, rights.way_out(wanted)));
    }
    match proc::owners::horizon(root) {
        Some(reason @ Unlisted::PidNamespace) => {
            found.gaps.push(Gap::new(Missing::UnlistedNetns, Why::Unlisted(reason), WayOut::HostPidNamespace));
        }
        Some(reason @ Unlisted::Hidden) => {
            let way_out = rights.way_out(&[Capability::SysPtrace]);
            found.gaps.push(Gap::new(Missing::UnlistedNetns, Why::Unlisted(reason), way_out));
        }
        Some(Unlisted::NoProc) | None => {}
    }
    if let Some(why) = broken {
        found.gaps.push(Gap::new(Missing::SomeNetns, Why::Error(why), WayOut::RaiseOpenFiles));
    }
    if !deep {
        found.gaps.push(Gap::new(
            Missing::NetnsHeldByFd,
            Why::TooManyOpenFiles { limit: FILES_SEARCHED },
            WayOut::NetnsByPath,
        ));
    }
    let mut refused = Vec::new();
    let mut failure = None;
    for (inode, handle) in handles {
        let space =
            NetnsHandle { inode, name: inode.and_then(|id| names.get(&id).cloned()), handle: handle.map(Arc::new) };
        match space.inside(look) {
            Ok(seen) if space.is_own() => found.spaces.insert(0, (space, seen)),
            Ok(seen) => found.spaces.push((space, seen)),
            Err(e) => {
                failure = Some(e);
                refused.push(space.label());
            }
        }
    }
    found.refused = u32::try_from(refused.len()).unwrap_or(u32::MAX);
    if let Some(failure) = failure {
        let error = failure.why();
        let (why, way_out) = if failure.is_permission() {
            (Why::EnterRefused { error }, rights.way_out(&[Capability::SysAdmin]))
        } else {
            (Why::Error(error), if failure.is_no_thread() { WayOut::MoreThreads } else { WayOut::None })
        };
        refused.truncate(5);
        found.gaps.push(Gap::new(Missing::ClosedNetns { count: found.refused, names: refused }, why, way_out));
    }
    Ok(found)
}

/// The namespace with this number, if something that may be read leads to it.
///
/// # Errors
/// When the processes cannot be listed.
pub(super) fn by_inode(root: &ProcRoot, inode: NetnsId) -> Result<Option<OwnedFd>, Error> {
    let (mut search, _) = Search::everywhere(root, None)?;
    Ok(search.handles.remove(&Some(inode)).flatten())
}

struct Search {
    /// Namespaces by inode; `None` for our own.
    handles: BTreeMap<Option<NetnsId>, Option<OwnedFd>>,
    /// Processes whose links we may not read.
    closed: u32,
    /// Why something that exists could not be opened.
    broken: Option<String>,
    /// Descriptors of this process by which it holds namespaces itself.
    ours: FxHashSet<RawFd>,
    /// The file of this program, where what other processes of it hold does not count: they look too.
    program: Option<(u64, u64)>,
}

impl Search {
    fn new(own: Option<NetnsId>) -> Search {
        Search {
            handles: BTreeMap::from([(own, None)]),
            closed: 0,
            broken: None,
            ours: FxHashSet::default(),
            program: None,
        }
    }

    /// Looks wherever a namespace can be held: mounts, processes, threads, and descriptors unless there are too many (then
    /// the second is false).
    fn everywhere(root: &ProcRoot, own: Option<NetnsId>) -> Result<(Search, bool), Error> {
        let mut search = Search::new(own);
        for path in mounts(root) {
            search.take(&path);
        }
        let deep = may_search_files(root);
        search.processes(root, deep)?;
        Ok((search, deep))
    }

    /// Adds the namespace at a path; anything else, or a vanished one, is skipped.
    fn take(&mut self, path: &Path) {
        if self.handles.len().is_multiple_of(256) {
            make_room(self.handles.len() as u64);
        }
        match open(path) {
            Ok(Some((inode, handle))) => {
                self.handles.entry(Some(inode)).or_insert(Some(handle));
            }
            Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                self.broken = Some(error::reason(&e));
            }
            _ => {}
        }
    }

    /// Adds the target of a link, if it is a new namespace; returns whether the link could be read.
    fn link(&mut self, path: &Path) -> io::Result<()> {
        if let Some(inode) = link_inode(path)?
            && !self.handles.contains_key(&Some(inode))
        {
            self.take(path);
        }
        Ok(())
    }

    fn processes(&mut self, root: &ProcRoot, deep: bool) -> Result<(), Error> {
        let fail = |e| Error::new("read", root.path().display().to_string(), e);
        let this = std::process::id().to_string();
        for entry in std::fs::read_dir(root.path()).map_err(fail)?.flatten() {
            let name = entry.file_name();
            if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
                continue;
            }
            let folder = entry.path();
            match self.link(&folder.join("ns/net")) {
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                    // A kernel thread has no command line, and its namespace does not matter.
                    let words = std::fs::read(folder.join("cmdline")).unwrap_or_default();
                    self.closed += u32::from(!words.is_empty());
                    continue;
                }
                Err(_) => continue,
                Ok(()) => {}
            }
            let is_this = name.to_str() == Some(&this);
            if !is_this && self.program.is_some() && program(&folder) == self.program {
                continue;
            }
            // A thread may have its own namespace.
            self.each(&folder.join("task"), "ns/net", false, true);
            if deep {
                self.each(&folder.join("fd"), "", is_this, false);
            }
        }
        Ok(())
    }

    fn each(&mut self, folder: &Path, below: &str, of_ours: bool, skip_single: bool) {
        use std::os::unix::fs::MetadataExt;
        // A link count of 3 means one thread, in the namespace of the process.
        if skip_single && std::fs::metadata(folder).is_ok_and(|m| m.nlink() <= 3) {
            return;
        }
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let number = || entry.file_name().to_str().and_then(|name| name.parse().ok());
            if of_ours && number().is_some_and(|fd: RawFd| self.ours.contains(&fd)) {
                continue;
            }
            // What has exited or was closed meanwhile holds nothing.
            let _ = if below.is_empty() { self.link(&entry.path()) } else { self.link(&entry.path().join(below)) };
        }
    }
}

/// Device and inode of the file that a process runs, if that may be read.
fn program(process: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(process.join("exe")).ok().map(|file| (file.dev(), file.ino()))
}

/// Opens a namespace file; `None` when it is another kind of file.
pub(super) fn open(path: &Path) -> io::Result<Option<(NetnsId, OwnedFd)>> {
    // The kind is checked first: opening a pipe or a device at such a path could have effects.
    let probe = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let this = format!("/proc/self/fd/{}", probe.as_raw_fd());
    // A link to a namespace reads `net:[N]`; a mounted one reads as its path, so the kernel is asked.
    if rustix::fs::fstatfs(&probe)?.f_type != libc::NSFS_MAGIC {
        return Ok(None);
    }
    let handle = rustix::fs::open(&this, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let inode = NetnsId::new(rustix::fs::fstat(&handle)?.st_ino).filter(|_| is_network(&handle));
    Ok(inode.map(|inode| (inode, handle)))
}

/// `NS_GET_NSTYPE` of `include/uapi/linux/nsfs.h`, since Linux 4.11.
fn is_network(handle: &OwnedFd) -> bool {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: this ioctl takes no argument and only returns a number.
    #[allow(unsafe_code, reason = "no crate in use wraps this ioctl")]
    let kind = unsafe { libc::ioctl(handle.as_raw_fd(), NS_GET_NSTYPE as _) };
    kind == libc::CLONE_NEWNET
}

/// The inode in `net:[4026531840]`.
pub(super) fn inode_of(link: &str) -> Option<NetnsId> {
    NetnsId::new(link.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()?)
}

/// The inode that a link such as `/proc/1/ns/net` names.
pub(super) fn link_inode(path: &Path) -> io::Result<Option<NetnsId>> {
    Ok(std::fs::read_link(path)?.to_str().and_then(inode_of))
}

/// The namespace that the host began with: that of process 1 of the first PID namespace. `None` inside a container.
fn host() -> Option<NetnsId> {
    let inode = || NetnsId::new(rustix::fs::stat("/proc/1/ns/net").ok()?.st_ino);
    rights::in_first_pid_namespace().filter(|is_first| *is_first).and_then(|_| inode())
}

/// Names below `/run/netns` by inode, and that of the host's.
#[must_use]
pub fn names() -> BTreeMap<NetnsId, String> {
    /// Its number since Linux 6.18; others are above.
    const NET_NS_INIT_INO: u64 = 0xefff_fff9;
    let mut names = BTreeMap::new();
    names.extend([NetnsId::new(NET_NS_INIT_INO), host()].into_iter().flatten().map(|inode| (inode, HOST.to_owned())));
    for folder in NAMED {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if let Ok(Some((inode, _))) = open(&entry.path()) {
                names.entry(inode).or_insert_with(|| entry.file_name().to_string_lossy().into_owned());
            }
        }
    }
    names
}

/// Where namespaces are mounted: `... / /run/netns/a rw - nsfs nsfs rw`, with `net:[N]` as root of the mount.
fn mounts(root: &ProcRoot) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(root.path().join("self/mountinfo")).unwrap_or_default();
    named_in(&text)
}

fn named_in(mountinfo: &str) -> Vec<PathBuf> {
    let is_one = |mount: &Mounted<'_>| mount.kind == "nsfs" && mount.root().to_string_lossy().starts_with("net:[");
    mounted(mountinfo).filter(is_one).map(|mount| mount.at()).collect()
}

/// One descriptor per namespace, or per capture, may exceed the soft limit of 1024; the hard limit may be used.
pub(crate) fn make_room(used: u64) {
    let now = rustix::process::getrlimit(Resource::Nofile);
    if now.current.is_some_and(|soft| soft < used + SPARE_DESCRIPTORS) {
        // If refused, the limit stays, and what does not fit is a gap.
        let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: now.maximum, ..now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_namespaces_are_recognised() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                    90 22 0:4 net:[4026532008] /run/netns/a\\040b rw shared:5 - nsfs nsfs rw\n\
                    91 22 0:4 mnt:[4026532009] /run/m rw - nsfs nsfs rw\nbad\n";
        assert_eq!(named_in(text), [PathBuf::from("/run/netns/a b")]);
        assert_eq!(inode_of("net:[12]"), NetnsId::new(12));
        assert_eq!(inode_of("mnt:[12]"), None);
    }

    #[test]
    fn our_own_namespace_is_found_once_and_needs_no_entering() {
        use std::os::unix::fs::MetadataExt;
        let own = NetnsId::new(std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino());
        let (pid, containers) = (std::process::id().to_string(), Containers::new(&ProcRoot::default()));
        let wanted = [Wanted::One(pid), Wanted::One("/proc/self/ns/net".into())];
        let found = find(&wanted, &ProcRoot::default(), own, &containers, &|| ()).unwrap();
        assert_eq!(found.spaces.len(), 1);
        assert!(found.spaces[0].0.is_own() && found.spaces[0].0.inode == own && found.gaps.is_empty());
        for (word, why) in [("no-such-name", "cannot find"), ("/dev/null", "it is not a network namespace")] {
            let error = find(&[Wanted::One(word.into())], &ProcRoot::default(), own, &containers, &|| ())
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{error}");
        }
        let mnt = find(&[Wanted::One("/proc/self/ns/mnt".into())], &ProcRoot::default(), own, &containers, &|| ());
        assert!(mnt.unwrap_err().to_string().contains("it is not a network namespace"));
    }
}
