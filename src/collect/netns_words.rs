//! The network namespace that a word means: whatever people have at hand, and what any output here prints.
//!
//! Input: a name of `ip netns`, a process id, an inode, `net:[INODE]`, `(host)`, a path, or a container or pod by name or id.
//! Output: handles to enter by. Not here: searching for all namespaces (`netns`).
//!
//! Circle with `netns`: what a word means is one way to find a namespace; an inode is looked for among all.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::collect::containers::Containers;
use crate::collect::error::Error;
use crate::collect::members::{Member, members};
use crate::collect::netns::{self, NAMED, NetnsHandle, Wanted};
use crate::collect::proc::ProcRoot;
use crate::collect::rights;
use crate::model::NetnsId;
use crate::model::capability::Capability;
use crate::model::cgroup::Identity;
use crate::model::id::HOST;

/// The largest process id that a kernel can be set to (`PID_MAX_LIMIT` of include/linux/threads.h); namespaces are
/// numbered above.
const PID_MAX: u64 = 4 << 20;

const FORMS: &str = "give a name of `ip netns list`, a process id, an inode, a path, a container, a pod or `all`; \
                     `tcpstate summary --netns all --by netns,container` shows them";
/// What it takes to follow the links of other users' processes: root is not told to be root.
fn for_others() -> &'static str {
    let lacks = rights::own().is_root && !rights::own().has(Capability::SysPtrace);
    if lacks {
        "it takes CAP_SYS_PTRACE (a container: --cap-add SYS_PTRACE)"
    } else {
        "other users' processes take root"
    }
}

/// Whether a word is looked up as a name: not a path, a number, or the host's.
pub(super) fn is_name(word: &str) -> bool {
    let is_number = word.parse::<u64>().is_ok() || netns::inode_of(word).is_some();
    let is_path = word.starts_with(['/', '.']) || (word.contains('/') && Path::new(word).exists());
    !(is_number || is_path || word == HOST)
}

/// What words are looked up in.
pub(super) struct Lookup<'a> {
    pub root: &'a ProcRoot,
    /// The namespace of this process.
    pub own: Option<NetnsId>,
    pub names: &'a BTreeMap<NetnsId, String>,
    pub containers: &'a Containers,
    /// Who is in a container or pod: one walk over the processes, however many words there are.
    members: OnceCell<Vec<Member>>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(
        root: &'a ProcRoot,
        own: Option<NetnsId>,
        names: &'a BTreeMap<NetnsId, String>,
        containers: &'a Containers,
    ) -> Lookup<'a> {
        Lookup { root, own, names, containers, members: OnceCell::new() }
    }

    fn members(&self) -> Vec<Member> {
        self.members.get_or_init(|| members(self.root, self.containers)).clone()
    }

    /// The namespaces that a part of the selection means; of all namespaces none, which are searched for otherwise.
    ///
    /// # Errors
    /// When there are none, or none can be opened.
    pub(super) fn wanted(&self, one: &Wanted) -> Result<Vec<NetnsHandle>, Error> {
        match one {
            Wanted::One(word) => self.named(word),
            Wanted::Members { container, pod } => self.of(container.as_deref(), pod.as_deref()),
            Wanted::All => Ok(Vec::new()),
        }
    }

    /// The namespaces that a word means: one, unless the processes of a container have several.
    ///
    /// # Errors
    /// When nothing has that name, several containers have, or it cannot be opened.
    fn named(&self, word: &str) -> Result<Vec<NetnsHandle>, Error> {
        let below = |folder: &&str| Path::new(folder).join(word);
        if word == HOST
            && let Some((inode, _)) = self.names.iter().find(|(_, name)| *name == HOST)
            && let Some(found) = self.numbered(*inode)?
        {
            return Ok(vec![found]);
        }
        if word.starts_with(['/', '.']) || word.contains('/') && Path::new(word).exists() {
            return self.open(Path::new(word)).map(|one| vec![one]);
        }
        if !word.contains('/')
            && let Some(path) = NAMED.iter().map(below).find(|p| p.exists())
        {
            return self.open(&path).map(|one| vec![one]);
        }
        let number = word.parse::<u64>().ok();
        if let Some(inode) = netns::inode_of(word).or_else(|| NetnsId::new(number.filter(|n| *n > PID_MAX)?))
            && let Some(found) = self.numbered(inode)?
        {
            return Ok(vec![found]);
        }
        if number.is_some_and(|n| n <= PID_MAX) {
            return self.open(&self.of_process(word)).map(|one| vec![one]);
        }
        let found = self.member_of(word)?;
        if found.is_empty() {
            let none = io::Error::other("no namespace, container or pod is called that");
            return Err(Error::new("find the network namespace", word, none).hint(FORMS));
        }
        self.of_members(word, &found)
    }

    /// The namespaces of the containers and pods that match both.
    ///
    /// # Errors
    /// When there are none, or none can be opened.
    fn of(&self, container: Option<&str>, pod: Option<&str>) -> Result<Vec<NetnsHandle>, Error> {
        let mut found = self.members();
        found.retain(|m| m.identity.is_member(container, pod));
        let what = match (container, pod) {
            (Some(container), Some(pod)) => format!("{container} in pod {pod}"),
            (one, other) => one.or(other).unwrap_or_default().to_owned(),
        };
        if found.is_empty() {
            let (operation, hint) = if container.is_some() {
                ("find the container", "`tcpstate summary --netns all --by container` shows those with sockets")
            } else {
                ("find the pod", "`tcpstate summary --netns all --by pod` shows those with sockets")
            };
            return Err(Error::new(operation, what, io::Error::other("no running one is called that")).hint(hint));
        }
        self.of_members(&what, &found)
    }

    fn of_process(&self, pid: &str) -> PathBuf {
        self.root.path().join(pid).join("ns/net")
    }

    /// The namespace with that number, if there is one.
    fn numbered(&self, inode: NetnsId) -> Result<Option<NetnsHandle>, Error> {
        if Some(inode) == self.own {
            return Ok(Some(NetnsHandle::current(Some(inode)).named(self.names.get(&inode).cloned())));
        }
        let handle = netns::by_inode(self.root, inode)?;
        Ok(handle.map(|handle| self.handle(inode, handle)))
    }

    /// The processes of the one container or pod that a word names.
    fn member_of(&self, word: &str) -> Result<Vec<Member>, Error> {
        let word = word.strip_prefix("container:").unwrap_or(word);
        let mut found = self.members();
        let ways: [fn(&Identity, &str) -> bool; 3] = [Identity::is_container, Identity::is_in_pod, Identity::is_pod];
        let Some(is) = ways.into_iter().find(|is| found.iter().any(|m| is(&m.identity, word))) else {
            return Ok(Vec::new());
        };
        found.retain(|m| is(&m.identity, word));
        // Several containers of a pod are in one namespace; of two pods any may be meant.
        let whole = |identity: &Identity| match (&identity.pod, &identity.container) {
            (Some(pod), _) => (Some(pod.clone()), None),
            (None, container) => (None, container.clone()),
        };
        let several: BTreeMap<_, String> = found.iter().map(|m| (whole(&m.identity), full_name(&m.identity))).collect();
        if several.len() > 1 && !word.contains('*') {
            let names: Vec<&str> = several.values().map(String::as_str).take(5).collect();
            let why = format!("{} are called that: {}", several.len(), names.join(", "));
            return Err(Error::new("choose the container", word, io::Error::other(why))
                .hint("give one of these, or take all with --container"));
        }
        Ok(found)
    }

    /// The namespaces of these processes; one that has ended meanwhile is none.
    fn of_members(&self, word: &str, found: &[Member]) -> Result<Vec<NetnsHandle>, Error> {
        let (mut handles, mut seen, mut failure) = (Vec::new(), BTreeSet::new(), None);
        for member in found {
            let path = self.of_process(&member.pid.to_string());
            match netns::link_inode(&path) {
                Ok(Some(inode)) if seen.contains(&inode) => continue,
                Ok(_) => {}
                Err(e) => {
                    failure = Some(Error::new("read the network namespace of", word, e).hint(for_others()));
                    continue;
                }
            }
            match self.open(&path) {
                Ok(handle) => {
                    seen.extend(handle.inode);
                    handles.push(handle);
                }
                Err(e) => failure = Some(e),
            }
        }
        match failure {
            Some(failure) if handles.is_empty() => Err(failure),
            _ => Ok(handles),
        }
    }

    fn open(&self, path: &Path) -> Result<NetnsHandle, Error> {
        let shown = path.display().to_string();
        let opened = netns::open(path).map_err(|e| {
            let hint = if e.kind() == io::ErrorKind::PermissionDenied { for_others() } else { FORMS };
            Error::new("open the network namespace", shown.clone(), e).hint(hint)
        })?;
        let Some((inode, handle)) = opened else {
            return Err(Error::new("use", shown, io::Error::other("it is not a network namespace")).hint(FORMS));
        };
        Ok(self.handle(inode, handle))
    }

    fn handle(&self, inode: NetnsId, handle: std::os::fd::OwnedFd) -> NetnsHandle {
        let entered = (Some(inode) != self.own).then(|| Arc::new(handle));
        NetnsHandle::opened(inode, entered).named(self.names.get(&inode).cloned())
    }
}

/// `POD/CONTAINER`, or the id where names would not tell it from another.
fn full_name(identity: &Identity) -> String {
    let container = identity.container.as_deref().map(|id| id.get(..12).unwrap_or(id));
    match (identity.pod_label(), identity.container_label()) {
        (Some(pod), Some(container)) => format!("{pod}/{container}"),
        (pod, _) => pod.or(container).unwrap_or_default().to_owned(),
    }
}
