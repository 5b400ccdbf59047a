//! Names for kernel numbers: users, interfaces, cgroups and network namespaces. Each is looked up once and cached;
//! no network name service is used that the system would not use itself.

use std::cell::{OnceCell, RefCell};
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use rustix::fs::{Mode, OFlags};

use crate::collect::containers::Containers;
use crate::collect::interfaces;
use crate::collect::kernel_users;
use crate::collect::monitors;
use crate::collect::netns::{self, NetnsHandle};
use crate::collect::netns_owners;
use crate::collect::proc::ProcRoot;
use crate::collect::proc::groups::Mounts;
use crate::filter::Resolver;
use crate::model::cgroup::{self, Identity};
use crate::model::column::Names;
use crate::model::kernel_user::{self, KernelUser, Listed};
use crate::model::names::NameTable;
use crate::model::{NetnsId, Socket};

/// What a process belongs to, and when that was read.
type Known = (Instant, Option<Rc<Identity>>);
type Cache<K> = RefCell<FxHashMap<K, Option<Rc<str>>>>;

/// The names of this system.
#[derive(Default)]
pub struct SystemNames {
    users: Cache<u32>,
    /// By namespace and number: every namespace counts its interfaces from 1.
    interfaces: Cache<(Option<NetnsId>, u32)>,
    cgroups: Cache<u64>,
    identities: RefCell<FxHashMap<u64, Option<Rc<Identity>>>>,
    /// Names of containers; without them, their ids are used.
    containers: Option<Arc<Containers>>,
    /// The kernel's own connections, loaded when a row first needs them.
    kernel: OnceCell<Vec<Listed>>,
    root: ProcRoot,
    /// Read again for one that is not in it: namespaces come while a watch runs.
    namespaces: RefCell<FxHashMap<NetnsId, Option<Rc<str>>>>,
    /// Whose namespaces are.
    owners: RefCell<Option<NetnsOwners>>,
    /// What processes belong to.
    processes: RefCell<FxHashMap<u32, Known>>,
    cgroup_mount: OnceCell<Option<CgroupMount>>,
    /// Namespaces other than our own that rows come from.
    spaces: Vec<NetnsHandle>,
    /// Whether no row is from our own.
    only_foreign: bool,
    /// The names that a capture has; nothing is looked up here then.
    recorded: Option<Box<NameTable>>,
    host: Option<String>,
}

/// Whose namespaces are: one walk over the processes, good for some time.
struct NetnsOwners {
    until: Instant,
    of: FxHashMap<NetnsId, Rc<Identity>>,
}

/// How long it holds what a process or a namespace belongs to: numbers are given again.
const FRESH: Duration = Duration::from_secs(1);
/// A walk over the processes is good for as many times as long as it took.
const WALKS_APART: u32 = 20;
/// Processes of which it is remembered at most.
const MOST_PROCESSES: usize = 10_000;

/// Where cgroup version 2 is mounted.
struct CgroupMount {
    at: PathBuf,
    /// An open directory in it, for `open_by_handle_at`.
    dir: OwnedFd,
}

impl SystemNames {
    /// The same, with the names of containers and of the kernel's own connections.
    #[must_use]
    pub fn with_owners(mut self, containers: Arc<Containers>, root: ProcRoot) -> SystemNames {
        (self.containers, self.root) = (Some(containers), root);
        self
    }

    /// The same of the rows of a host.
    #[must_use]
    pub fn on(mut self, host: &str) -> SystemNames {
        self.host = Some(host.to_owned());
        self
    }

    /// The names that were recorded.
    #[must_use]
    pub fn recorded(table: NameTable) -> SystemNames {
        SystemNames { recorded: Some(Box::new(table)), ..SystemNames::default() }
    }

    /// Names that are valid in these namespaces.
    #[must_use]
    pub fn of(spaces: impl Iterator<Item = NetnsHandle>) -> SystemNames {
        let mut names = SystemNames::default();
        names.follow(spaces);
        names
    }

    /// What a change belongs to: its process, while that can be read, else the one container or pod of the namespace.
    pub fn belongs(&self, netns: Option<NetnsId>, pid: Option<u32>) -> Option<Rc<Identity>> {
        pid.and_then(|pid| self.of_process(pid)).or_else(|| self.netns_identity(netns?))
    }

    fn of_process(&self, pid: u32) -> Option<Rc<Identity>> {
        let mut known = self.processes.borrow_mut();
        if let Some((at, identity)) = known.get(&pid)
            && at.elapsed() < FRESH
        {
            return identity.clone();
        }
        let identity = match monitors::identity(&self.root, pid) {
            Some(mut identity) => {
                if let Some(containers) = &self.containers {
                    containers.name(&mut identity);
                }
                Some(Rc::new(identity))
            }
            // It has ended: what was read before is still true of it.
            None => known.get(&pid).and_then(|(_, identity)| identity.clone()),
        };
        if known.len() >= MOST_PROCESSES {
            known.retain(|_, (at, _)| at.elapsed() < FRESH);
        }
        known.insert(pid, (Instant::now(), identity.clone()));
        identity
    }

    /// The same from now on in these namespaces.
    pub fn follow(&mut self, spaces: impl Iterator<Item = NetnsHandle>) {
        let spaces: Vec<NetnsHandle> = spaces.collect();
        self.only_foreign = !spaces.iter().any(NetnsHandle::is_own);
        self.spaces = spaces.into_iter().filter(|s| !s.is_own()).collect();
    }
}

fn cached<K: Copy + Eq + std::hash::Hash>(
    cache: &Cache<K>,
    key: K,
    look_up: impl FnOnce() -> Option<String>,
) -> Option<Rc<str>> {
    if let Some(known) = cache.borrow().get(&key) {
        return known.clone();
    }
    let name: Option<Rc<str>> = look_up().map(Rc::from);
    cache.borrow_mut().insert(key, name.clone());
    name
}

impl Names for SystemNames {
    fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    fn user(&self, uid: u32) -> Option<Rc<str>> {
        cached(&self.users, uid, || match &self.recorded {
            Some(table) => table.users.get(&uid).cloned(),
            None => login_name(uid),
        })
    }

    fn interface(&self, netns: Option<NetnsId>, ifindex: u32) -> Option<Rc<str>> {
        cached(&self.interfaces, (netns, ifindex), || {
            if let Some(table) = &self.recorded {
                return table.interfaces.get(&(netns, ifindex)).cloned();
            }
            let look_up = || interfaces::name_of(ifindex);
            match self.spaces.iter().find(|s| s.inode == netns) {
                Some(space) => space.inside(look_up).ok()?,
                None => look_up(),
            }
        })
    }

    fn cgroup(&self, id: u64) -> Option<Rc<str>> {
        cached(&self.cgroups, id, || match &self.recorded {
            Some(table) => table.cgroups.get(&id).cloned(),
            None => cgroup_path(self.cgroup_mount.get_or_init(cgroup_mount).as_ref()?, id),
        })
    }

    fn identity(&self, id: u64) -> Option<Rc<Identity>> {
        if let Some(table) = &self.recorded {
            return table.identities.get(&id).cloned().map(Rc::new);
        }
        if let Some(known) = self.identities.borrow().get(&id) {
            return known.clone();
        }
        let identity = Names::cgroup(self, id).map(|path| {
            let mut identity = cgroup::of_path(&path);
            if let Some(containers) = &self.containers {
                containers.name(&mut identity);
            }
            Rc::new(identity)
        });
        self.identities.borrow_mut().insert(id, identity.clone());
        identity
    }

    fn netns_identity(&self, inode: NetnsId) -> Option<Rc<Identity>> {
        if let Some(table) = &self.recorded {
            return table.netns_identities.get(&inode).cloned().map(Rc::new);
        }
        let containers = self.containers.as_ref()?;
        let mut known = self.owners.borrow_mut();
        let started = Instant::now();
        if let Some(owners) = known.as_ref().filter(|owners| started < owners.until) {
            return owners.of.get(&inode).cloned();
        }
        let found = netns_owners::owners(&self.root, containers);
        let of = found.into_iter().map(|(inode, identity)| (inode, Rc::new(identity))).collect();
        let until = Instant::now() + FRESH.max(started.elapsed() * WALKS_APART);
        known.insert(NetnsOwners { until, of }).of.get(&inode).cloned()
    }

    fn netns(&self, inode: NetnsId) -> Option<Rc<str>> {
        if let Some(known) = self.namespaces.borrow().get(&inode) {
            return known.clone();
        }
        if let Some(table) = &self.recorded {
            return table.netns.get(&inode).map(|name| Rc::from(name.as_str()));
        }
        let mut known = self.namespaces.borrow_mut();
        known.extend(netns::names().into_iter().map(|(inode, name)| (inode, Some(Rc::from(name)))));
        known.entry(inode).or_insert(None).clone()
    }

    fn kernel_user(&self, socket: &Socket) -> Option<KernelUser> {
        let listed = || if self.recorded.is_some() { Vec::new() } else { kernel_users::listed(&self.root) };
        kernel_user::find(socket, self.kernel.get_or_init(listed))
    }
}

/// The mount of cgroup version 2, opened.
fn cgroup_mount() -> Option<CgroupMount> {
    let at = Mounts::unified(&ProcRoot::default())?.at;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(&at, flags, Mode::empty()).ok()?;
    Some(CgroupMount { at, dir })
}

/// The path of a cgroup by its id, without walking the hierarchy: the id is the handle of its directory
/// (`kernfs_encode_fh` in fs/kernfs/mount.c). Needs CAP_DAC_READ_SEARCH.
fn cgroup_path(mount: &CgroupMount, id: u64) -> Option<String> {
    /// `struct file_handle` with eight bytes: `FILEID_KERNFS` of include/linux/exportfs.h.
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        id: [u8; 8],
    }
    let mut handle = Handle { bytes: 8, kind: 0xfe, id: id.to_ne_bytes() };
    // SAFETY: the structure has the layout that the kernel reads, states its own size, and outlives the call.
    #[allow(unsafe_code, reason = "no crate in use wraps open_by_handle_at(2)")]
    let fd = unsafe {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        libc::open_by_handle_at(mount.dir.as_raw_fd(), std::ptr::from_mut(&mut handle).cast(), flags)
    };
    if fd < 0 {
        return None;
    }
    // SAFETY: the call returned a descriptor that nothing else has.
    #[allow(unsafe_code, reason = "the call gives a bare number")]
    let dir = unsafe { OwnedFd::from_raw_fd(fd) };
    let path = std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).ok()?;
    let below = path.strip_prefix(&mount.at).ok()?;
    Some(format!("/{}", below.to_string_lossy()))
}

impl Resolver for SystemNames {
    fn port(&self, service: &str) -> Option<u16> {
        let text = std::fs::read_to_string("/etc/services").unwrap_or_default();
        service_port(&text, service).or_else(|| COMMON.iter().find(|(name, _)| *name == service).map(|(_, port)| *port))
    }

    fn interface(&self, name: &str) -> Option<u32> {
        if let Some(table) = &self.recorded {
            return table.interfaces.iter().find(|(_, known)| *known == name).map(|((_, index), _)| *index);
        }
        let look_up = || interfaces::index_of(name);
        match &self.spaces[..] {
            [one] if self.only_foreign => one.inside(look_up).ok()?,
            _ => look_up(),
        }
    }

    fn user(&self, name: &str) -> Option<u32> {
        if let Some(table) = &self.recorded {
            let number = || name.parse().ok();
            return table.users.iter().find(|(_, known)| *known == name).map(|(uid, _)| *uid).or_else(number);
        }
        user_id(name)
    }

    fn cgroup(&self, path: &str) -> Option<u64> {
        use std::os::unix::fs::MetadataExt;
        if let Some(table) = &self.recorded {
            let path = format!("/{}", path.trim_start_matches('/'));
            return table.cgroups.iter().find(|(_, known)| **known == path).map(|(id, _)| *id);
        }
        // Below the mount, as in tables, or in the file system, as in ss. Only the version 2 hierarchy has
        // cgroup.procs and cgroup.controllers everywhere, and sockets carry inodes of that one only.
        let mount = &self.cgroup_mount.get_or_init(cgroup_mount).as_ref()?.at;
        let id = |path: PathBuf| {
            let within = path.join("cgroup.procs").is_file() && path.join("cgroup.controllers").is_file();
            within.then(|| Some(std::fs::metadata(path).ok()?.ino()))?
        };
        id(mount.join(path.trim_start_matches('/')))
            .or_else(|| Some(PathBuf::from(path)).filter(|p| p.starts_with(mount)).and_then(id))
    }

    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        without_modules();
        let ask = || (host, 0).to_socket_addrs().map_or_else(|_| Vec::new(), |a| a.map(|a| a.ip()).collect());
        let mut found: Vec<IpAddr> =
            if ASKS_NOBODY.load(Ordering::Relaxed) { host.parse().into_iter().collect() } else { ask() };
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Whether names of hosts are looked up nowhere.
static ASKS_NOBODY: AtomicBool = AtomicBool::new(false);

/// Looks up no name of a host in this process from now on: who may ask for one may send what it likes to a name server.
#[cfg(feature = "mcp")]
pub(crate) fn ask_nobody() {
    ASKS_NOBODY.store(true, Ordering::Relaxed);
}

/// Well-known services, for systems without `/etc/services` (small containers).
const COMMON: [(&str, u16); 20] = [
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("http", 80),
    ("pop3", 110),
    ("imap2", 143),
    ("imap", 143),
    ("ldap", 389),
    ("https", 443),
    ("submission", 587),
    ("ldaps", 636),
    ("imaps", 993),
    ("pop3s", 995),
    ("ms-sql-s", 1433),
    ("mysql", 3306),
    ("postgresql", 5432),
    ("redis", 6379),
    ("http-alt", 8080),
];

/// The TCP port of a service, or of one of its other names: `name port/tcp alias...`.
fn service_port(services: &str, wanted: &str) -> Option<u16> {
    services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let name = words.next()?;
        let port = words.next()?.strip_suffix("/tcp")?;
        (name == wanted || words.any(|alias| alias == wanted)).then(|| port.parse().ok())?
    })
}

/// Keeps a static program from loading modules of the C library: those of the host belong to another build of it, or are missing.
/// Users are then those of `/etc/passwd` (or nscd), hosts those of `/etc/hosts` and DNS, whatever `nsswitch.conf` names.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
pub(crate) fn without_modules() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        for (database, sources) in [(c"passwd", c"files"), (c"hosts", c"files dns")] {
            // SAFETY: the function of nss.h takes two C strings and copies what it keeps.
            #[allow(unsafe_code, reason = "no crate in use declares it")]
            unsafe {
                unsafe extern "C" {
                    fn __nss_configure_lookup(
                        database: *const libc::c_char,
                        sources: *const libc::c_char,
                    ) -> libc::c_int;
                }
                __nss_configure_lookup(database.as_ptr(), sources.as_ptr());
            }
        }
    });
}

/// Other programs ask what `nsswitch.conf` names.
#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub(crate) const fn without_modules() {}

/// The user id for a login name, or for the number itself.
#[must_use]
pub fn user_id(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let name = std::ffi::CString::new(name).ok()?;
    with_entry(|entry, buffer, found| {
        // SAFETY: every pointer refers to memory that outlives the call, and the length is that of the buffer.
        #[allow(unsafe_code, reason = "the name service has no other interface")]
        unsafe {
            libc::getpwnam_r(name.as_ptr(), entry, buffer.as_mut_ptr(), buffer.len(), found)
        }
    })
    .map(|entry| entry.0)
}

fn login_name(uid: u32) -> Option<String> {
    with_entry(|entry, buffer, found| {
        // SAFETY: every pointer refers to memory that outlives the call, and the length is that of the buffer.
        #[allow(unsafe_code, reason = "the name service has no other interface")]
        unsafe {
            libc::getpwuid_r(uid, entry, buffer.as_mut_ptr(), buffer.len(), found)
        }
    })
    .map(|entry| entry.1)
}

/// Runs a `getpw*_r` call with a buffer that grows on demand; returns uid and name.
fn with_entry(
    call: impl Fn(&mut libc::passwd, &mut [libc::c_char], &mut *mut libc::passwd) -> libc::c_int,
) -> Option<(u32, String)> {
    without_modules();
    let mut buffer = vec![0; 1024];
    loop {
        // SAFETY: `passwd` is a plain C structure for which all zeroes is a value.
        #[allow(unsafe_code, reason = "the structure has no constructor")]
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        let error = call(&mut entry, &mut buffer, &mut found);
        if error == libc::ERANGE && buffer.len() < 1 << 20 {
            buffer.resize(buffer.len() * 4, 0);
            continue;
        }
        if error != 0 || found.is_null() || entry.pw_name.is_null() {
            return None;
        }
        // SAFETY: the call succeeded, so `pw_name` is a NUL-terminated string inside `buffer`.
        #[allow(unsafe_code, reason = "the structure holds a C string")]
        let name = unsafe { std::ffi::CStr::from_ptr(entry.pw_name) };
        return Some((entry.pw_uid, name.to_string_lossy().into_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_names_and_other_names() {
        let text = "# x\nhttp 80/tcp www # WorldWideWeb\ndomain 53/udp\ndomain 53/tcp\nbad\n";
        assert_eq!(service_port(text, "www"), Some(80));
        assert_eq!(service_port(text, "domain"), Some(53));
        assert_eq!(service_port(text, "bad"), None);
        assert_eq!(SystemNames::default().port("https"), Some(443));
    }

    #[test]
    fn a_cgroup_is_found_below_the_mount_and_by_its_path_in_the_file_system() {
        let names = SystemNames::default();
        let Some(mount) = cgroup_mount() else {
            assert_eq!(Resolver::cgroup(&names, "/"), None);
            return;
        };
        let root = Resolver::cgroup(&names, "/");
        assert!(root.is_some());
        assert_eq!(Resolver::cgroup(&names, &mount.at.to_string_lossy()), root);
        assert_eq!(Resolver::cgroup(&names, "/no/such/group"), None);
        assert_eq!(Resolver::cgroup(&names, "/etc"), None);
    }

    #[test]
    fn users_read_both_ways() {
        assert_eq!(user_id("root"), Some(0));
        assert_eq!(user_id("4321"), Some(4321));
        assert_eq!(user_id("no-such-user-here"), None);
        let names = SystemNames::default();
        assert_eq!(Names::user(&names, 0).as_deref(), Some("root"));
        assert_eq!(Names::user(&names, 0).as_deref(), Some("root"));
        assert_eq!(Names::interface(&names, None, 1).as_deref(), Some("lo"));
    }
}
