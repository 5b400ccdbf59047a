//! The queues of every listener: who waits to be accepted, who has not finished the handshake, who should accept.
//!
//! Comes in: the rows of a snapshot, in one pass. Goes out: one [`Queue`] per listening endpoint, and its owner in
//! words. Never here: judgement.

use rustc_hash::FxHashMap;

use crate::aggregate::Listeners;
use crate::diagnose::doing;
use crate::diagnose::finding::{Evidence, Finding, Subject};
use crate::diagnose::view::View;
use crate::model::snapshot::Snapshot;
use crate::model::{Endpoint, Process, RowKind, Socket, State};

/// `TCP_TIMEOUT_INIT` (`include/net/tcp.h`): the first repetition of a SYN or SYN-ACK comes after this.
pub const INITIAL_RTO_MS: u64 = 1000;

/// Programs that hold a listener for somebody else until he is started.
const ACTIVATORS: [&str; 4] = ["systemd", "inetd", "xinetd", "launchd"];

/// One listening endpoint with everything that stands in its queues.
#[derive(Clone, Debug)]
pub struct Queue<'a> {
    pub netns: u64,
    pub local: Endpoint,
    /// LISTEN rows: several with `SO_REUSEPORT`, or on several devices.
    pub listeners: Vec<&'a Socket>,
    /// Finished connections that nobody has accepted. Which of several listeners has them no row tells.
    pub waiting: Vec<&'a Socket>,
    /// Request sockets: handshakes under way.
    pub half_open: Vec<&'a Socket>,
}

impl Queue<'_> {
    /// Connections that the listeners say wait, dead ones included.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.listeners.iter().map(|l| u64::from(l.recv_q_bytes)).sum()
    }

    /// How many connections fit: the kernel tests "greater than" (`sk_acceptq_is_full` in `include/net/sock.h`), so
    /// that each listener holds one more than its limit. `None` when the source does not tell the limit.
    #[must_use]
    pub fn capacity(&self) -> Option<u64> {
        self.listeners.iter().map(|l| Some(u64::from(l.backlog()?) + 1)).sum()
    }

    /// The longest wait for `accept()`, as far as rows tell it.
    #[must_use]
    pub fn oldest_wait_ms(&self) -> Option<u64> {
        self.waiting.iter().filter_map(|s| wait_ms(s)).max()
    }

    /// Whether some listener's queue is over its limit.
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        self.listeners.iter().any(|l| is_over_limit(l))
    }
}

/// Whether the accept queue of this listener is full.
#[must_use]
pub fn is_over_limit(listener: &Socket) -> bool {
    listener.backlog().is_some_and(|limit| listener.recv_q_bytes > limit)
}

/// For how long a connection has waited to be accepted: nobody can have sent on it, so the stamp is that of its making
/// (`tcp_create_openreq_child` in `net/ipv4/tcp_minisocks.c`).
#[must_use]
pub fn wait_ms(waiting: &Socket) -> Option<u64> {
    waiting.info.as_deref()?.last_data_sent_ms().map(u64::from)
}

/// Every queue of a snapshot.
#[derive(Clone, Debug)]
pub struct Queues<'a> {
    all: Vec<Queue<'a>>,
    places: FxHashMap<(u64, Endpoint), u32>,
    unmatched: FxHashMap<u64, u64>,
}

impl<'a> Queues<'a> {
    /// Sorts the rows of a snapshot into the queues of its listeners.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot, listeners: &FxHashMap<u64, Listeners>) -> Queues<'a> {
        let mut queues = Queues { all: Vec::new(), places: FxHashMap::default(), unmatched: FxHashMap::default() };
        for socket in snapshot.sockets.iter().filter(|s| s.state == State::Listen) {
            let place = *queues.places.entry((socket.netns, socket.local)).or_insert_with(|| {
                queues.all.push(Queue {
                    netns: socket.netns,
                    local: socket.local,
                    listeners: Vec::new(),
                    waiting: Vec::new(),
                    half_open: Vec::new(),
                });
                u32::try_from(queues.all.len() - 1).unwrap_or(u32::MAX)
            });
            queues.all[place as usize].listeners.push(socket);
        }
        for socket in &snapshot.sockets {
            let request = socket.kind == RowKind::Request;
            if !request && !socket.is_unaccepted() {
                continue;
            }
            let place = listeners.get(&socket.netns).and_then(|l| {
                let at = l.get(l.matching(socket.netns, socket.local)?).local;
                queues.places.get(&(socket.netns, at)).copied()
            });
            match place.map(|p| &mut queues.all[p as usize]) {
                Some(queue) if request => queue.half_open.push(socket),
                Some(queue) => queue.waiting.push(socket),
                None if request => {}
                None => *queues.unmatched.entry(socket.netns).or_default() += 1,
            }
        }
        queues
    }

    #[must_use]
    pub fn all(&self) -> &[Queue<'a>] {
        &self.all
    }

    /// The queue of a listening endpoint.
    #[must_use]
    pub fn get(&self, netns: u64, listener: Endpoint) -> Option<&Queue<'a>> {
        self.all.get(*self.places.get(&(netns, listener))? as usize)
    }

    /// Connections of a namespace that wait in a queue which no address tells: a transparent proxy's.
    #[must_use]
    pub fn unmatched(&self, netns: u64) -> u64 {
        self.unmatched.get(&netns).copied().unwrap_or(0)
    }
}

/// Who should accept on a listener.
#[derive(Clone, Debug)]
pub struct Owner<'a> {
    pub process: &'a Process,
    /// Every process that holds it, sorted.
    pub pids: Vec<u32>,
    /// Only a program that starts services on demand holds it.
    pub is_activator: bool,
    /// Why the owner cannot run at all: every holder is stopped, traced, or stuck in the kernel.
    pub halted: Option<&'static str>,
}

impl<'a> Owner<'a> {
    /// The owner of some listeners, the process to look at first before the others; `None` when nobody is known.
    #[must_use]
    pub fn of(view: &View<'a>, listeners: &[&Socket]) -> Option<Owner<'a>> {
        let mut holders: Vec<&'a Process> = listeners.iter().flat_map(|l| view.processes(l)).collect();
        holders.sort_by_key(|p| (is_activator(p), p.pid));
        holders.dedup_by_key(|p| p.pid);
        let process = *holders.first()?;
        let is_activator = is_activator(process);
        // A service manager keeps a copy of the listener; whether it runs says nothing of the service.
        let workers: Vec<&Process> =
            holders.iter().copied().filter(|p| self::is_activator(p) == is_activator).collect();
        let states: Vec<Option<&'static str>> = workers.iter().map(|p| halted(view, p.pid)).collect();
        let halted = if states.iter().all(Option::is_some) { states.first().copied().flatten() } else { None };
        let mut pids: Vec<u32> = workers.iter().map(|p| p.pid).collect();
        pids.sort_unstable();
        Some(Owner { process, pids, is_activator, halted })
    }

    /// `server (812)`, `nginx (812 and 7 more)`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.pids.len() {
            0 | 1 => format!("{} ({})", self.process.comm, self.process.pid),
            n => format!("{} ({} and {} more)", self.process.comm, self.process.pid, n - 1),
        }
    }
}

/// Whether it is a program that holds listeners for what it starts.
#[must_use]
pub fn is_activator(process: &Process) -> bool {
    ACTIVATORS.contains(&process.comm.as_str())
}

/// Why a process cannot run, from the letter of its state.
fn halted(view: &View<'_>, pid: u32) -> Option<&'static str> {
    match view.process(pid)?.state? {
        'T' => Some("stopped by a signal (state T)"),
        't' => Some("stopped by a debugger (state t)"),
        // Any disk access passes through D: only one that lasts means something.
        'D' if view.before.is_none_or(|b| b.processes.get(&pid).is_some_and(|p| p.state == Some('D'))) => {
            Some("stuck in the kernel (state D)")
        }
        _ => None,
    }
}

/// The owner's name, or words for nobody in particular.
#[must_use]
pub fn name(owner: Option<&Owner<'_>>) -> String {
    owner.map_or_else(|| "its owner".to_owned(), Owner::name)
}

/// A subject that names the listener and whoever should accept on it.
#[must_use]
pub fn subject(view: &View<'_>, owner: Option<&Owner<'_>>, netns: u64, listener: Endpoint) -> Subject {
    let bare = || Subject { netns: (netns != 0).then_some(netns), ..Subject::default() };
    let named = owner.map_or_else(bare, |o| view.subject_of(o.process, netns));
    let pids = owner.map(|o| o.pids.clone()).filter(|p| p.len() > 1).unwrap_or_default();
    Subject { listener: Some(listener), pids, ..named }
}

/// The state letters of the owners, when they are known: `T`, or `S 7, T 1` of several.
#[must_use]
pub fn owner_states(view: &View<'_>, owner: &Owner<'_>) -> Evidence {
    let mut letters: std::collections::BTreeMap<char, usize> = std::collections::BTreeMap::new();
    for state in owner.pids.iter().filter_map(|pid| view.process(*pid)?.state) {
        *letters.entry(state).or_default() += 1;
    }
    match letters.len() {
        0 => Evidence::Unknown,
        1 => Evidence::Text(letters.keys().collect()),
        _ => Evidence::Text(letters.iter().map(|(s, n)| format!("{s} {n}")).collect::<Vec<_>>().join(", ")),
    }
}

/// Asks for a look at what the first owners do with their listeners (a pool is alike beyond a few), and says it once they
/// were looked at.
#[must_use]
pub fn inspect_owners(
    mut finding: Finding,
    view: &View<'_>,
    listeners: &[&Socket],
    owner: Option<&Owner<'_>>,
) -> Finding {
    for pid in owner.iter().flat_map(|o| &o.pids).take(4) {
        let theirs: Vec<&Socket> =
            listeners.iter().copied().filter(|l| view.processes(l).iter().any(|p| p.pid == *pid)).collect();
        finding = finding.inspect(*pid, &theirs);
        if !finding.evidence.iter().any(|(name, _)| *name == "doing")
            && let Some(doing) = doing::doing(view, *pid, &theirs)
        {
            finding = doing.onto(finding);
        }
    }
    finding
}

/// How many connection attempts that nobody answers each queue of this host has, from the callers' side.
#[must_use]
pub fn local_callers(view: &View<'_>) -> FxHashMap<(u64, Endpoint), u64> {
    let mut callers = FxHashMap::default();
    for socket in view.now.sockets.iter().filter(|s| s.state == State::SynSent) {
        if let Some(queue) = called(view, socket) {
            *callers.entry((queue.netns, queue.local)).or_default() += 1;
        }
    }
    callers
}

/// The queue of this host that a socket's peer address leads to.
#[must_use]
pub fn called<'v>(view: &'v View<'_>, socket: &Socket) -> Option<&'v Queue<'v>> {
    let peer = socket.peer.addr.to_canonical();
    let own = crate::aggregate::roles::is_local(socket)
        || view.netns(socket.netns).is_some_and(|n| n.addresses.contains(&peer));
    let netns = if own {
        socket.netns
    } else {
        view.now.netns.iter().find(|n| n.addresses.contains(&peer) && !peer.is_loopback())?.inode
    };
    let listeners = view.listeners(netns);
    let at = listeners.get(listeners.matching(netns, socket.peer)?).local;
    view.queues().get(netns, at)
}
