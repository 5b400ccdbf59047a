//! Another service that a server waits for, at the far end of a connection that the server made.
//!
//! Input: a view, a server and its threads. Output: which service, what of it is awaited, and for how long. Not here: whether
//! that is why nobody accepts (`picture`).

use rustc_hash::FxHashSet;

use super::workers::Worker;
use crate::diagnose::callers;
use crate::diagnose::last_word::{self, By};
use crate::diagnose::queues::Queue;
use crate::diagnose::threads;
use crate::diagnose::view::View;
use crate::diagnose::wait_state;
use crate::model::snapshot::{Inspection, ThreadState};
use crate::model::{Endpoint, Inode, Socket, State};
use crate::text;

/// Services that are named.
const NAMED: usize = 2;

/// What is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Awaited {
    /// The answer to a request: the last data of the connection is ours and so old.
    Answer { at_least_ms: u64 },
    /// Room for what waits to be sent.
    Room,
    /// The end of a handshake.
    Handshake,
}

/// A service that a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    pub at: Endpoint,
    pub awaited: Awaited,
    /// The thread stands in a call on this very connection; else it is in `poll`, and no other connection is awaited.
    is_in_call: bool,
    /// The server has a client, or a loop that would accept: it is known to serve the listener.
    is_serving: bool,
    /// As many threads of the server wait so as it has clients, or all: others that wait for a lock are idle.
    is_all: bool,
}

/// What each of several servers waits for: one entry per server.
#[derive(Debug)]
pub struct Backends(Vec<Backend>);

impl Backends {
    /// What the servers that were looked at wait for; `None` unless each of them waits for such a service.
    #[must_use]
    pub fn of(view: &View<'_>, queue: &Queue<'_>, workers: &[Worker<'_>]) -> Option<Backends> {
        let seen = workers.iter().filter_map(|worker| Some((worker, worker.inspection?)));
        let all: Option<Vec<Vec<Backend>>> = seen.map(|(worker, seen)| awaited(view, queue, worker, seen)).collect();
        all.map(|all| all.concat()).filter(|all| !all.is_empty()).map(Backends)
    }

    /// Threads were seen in calls on these connections.
    #[must_use]
    pub fn are_seen(&self) -> bool {
        self.0.iter().all(|backend| backend.is_in_call)
    }

    /// The same, of servers that are known to serve the listener.
    #[must_use]
    pub fn are_proven(&self) -> bool {
        self.are_seen() && self.0.iter().all(|backend| backend.is_serving && backend.is_all)
    }

    /// The services, each once.
    #[must_use]
    pub fn services(&self) -> Vec<Endpoint> {
        let mut services: Vec<Endpoint> = self.0.iter().map(|backend| backend.at).collect();
        services.sort_unstable();
        services.dedup();
        services
    }

    /// Each request has been without an answer for so long; `None` when something else is awaited.
    #[must_use]
    pub fn unanswered_ms(&self) -> Option<u64> {
        let age = |backend: &Backend| match backend.awaited {
            Awaited::Answer { at_least_ms } => Some(at_least_ms),
            Awaited::Room | Awaited::Handshake => None,
        };
        self.0.iter().map(age).collect::<Option<Vec<u64>>>()?.into_iter().min()
    }

    /// The services in words.
    #[must_use]
    pub fn names(&self) -> String {
        let services = self.services();
        let more = services.len().saturating_sub(NAMED);
        let named: Vec<String> = services.iter().take(NAMED).map(ToString::to_string).collect();
        let others = if more > 0 { format!(" and {more} more") } else { String::new() };
        named.join(if more > 0 { ", " } else { " and " }) + &others
    }

    /// What is awaited, behind the name of who waits: `waits for an answer of 10.9.0.2:5432, for 9.1 s or more`.
    #[must_use]
    pub fn words(&self) -> String {
        let names = self.names();
        match self.0.iter().map(|backend| backend.awaited).max() {
            Some(Awaited::Room) => format!("waits until {names} takes its data"),
            Some(Awaited::Handshake) => format!("waits for its connect to {names}"),
            _ => {
                let age = text::duration(self.unanswered_ms().unwrap_or(0));
                format!("waits for an answer of {names}, for {age} or more")
            }
        }
    }
}

/// What the threads of a server wait for, when every one that is not idle waits for such a service.
fn awaited(view: &View<'_>, queue: &Queue<'_>, worker: &Worker<'_>, seen: &Inspection) -> Option<Vec<Backend>> {
    if !worker.is_away() || seen.io_urings > 0 || seen.threads_not_read > 0 {
        return None;
    }
    let awake: Vec<&ThreadState> = seen.threads.iter().filter(|thread| !threads::is_in_lock(thread)).collect();
    // Handlers that wait for a lock look like idle ones: one thread that waits for a message is not what holds them.
    let is_all = awake.len() == seen.threads.len() || awake.len() >= worker.accepted.len().max(1);
    let backend = |thread: &&ThreadState| {
        let backend = if threads::called_descriptor(thread).is_some() {
            in_call(view, queue, worker, thread)
        } else if threads::is_poll(thread) && seen.threads.len() == 1 {
            in_poll(view, queue, worker)
        } else {
            None
        };
        backend.map(|backend| Backend { is_all, ..backend })
    };
    awake.iter().map(backend).collect::<Option<Vec<Backend>>>().filter(|all| !all.is_empty())
}

/// What a thread waits for that stands in a call on a socket.
fn in_call(view: &View<'_>, queue: &Queue<'_>, worker: &Worker<'_>, thread: &ThreadState) -> Option<Backend> {
    let socket = wait_state::called_socket(view, worker.pid, thread)?;
    let (reads, writes) = (threads::reads(thread), threads::writes(thread));
    let awaited = match awaited_of(view, queue, socket)? {
        // A send on a socket that connects waits for the handshake, as connect() does.
        Awaited::Handshake if !reads => Awaited::Handshake,
        Awaited::Answer { at_least_ms } if reads => Awaited::Answer { at_least_ms },
        Awaited::Room if writes => Awaited::Room,
        // Data that waits to be sent keeps nobody from waiting for the answer to it.
        Awaited::Room if reads => answer(socket)?,
        _ => return None,
    };
    let is_serving = worker.serves_listener();
    Some(Backend { at: socket.peer.normalised(), awaited, is_in_call: true, is_serving, is_all: false })
}

/// What a process waits for whose only thread is in `poll`: of its connections one alone is owed an answer, and its clients
/// wait for it. A connection that never brought a byte may be one that is only written to.
fn in_poll(view: &View<'_>, queue: &Queue<'_>, worker: &Worker<'_>) -> Option<Backend> {
    let spoke = |s: &&Socket| last_word::of(s).is_some_and(|word| word.by == By::Peer);
    if worker.accepted.is_empty() || !worker.accepted.iter().all(spoke) {
        return None;
    }
    let owners = &view.now.owners;
    let held = owners.all_holders().iter().filter(|h| owners.process(h).pid == worker.pid);
    let inodes: FxHashSet<Inode> = held.filter_map(|h| h.inode).collect();
    let mut found: Option<(Endpoint, Awaited)> = None;
    for socket in view.now.sockets.iter().filter(|s| s.inode.is_some_and(|inode| inodes.contains(&inode))) {
        let Some(awaited) = awaited_of(view, queue, socket) else { continue };
        if found.replace((socket.peer.normalised(), awaited)).is_some() {
            return None;
        }
    }
    let (at, awaited) = found.filter(|(_, awaited)| matches!(awaited, Awaited::Answer { .. }))?;
    Some(Backend { at, awaited, is_in_call: false, is_serving: true, is_all: true })
}

/// What may be awaited on a connection that the server made to somebody else; `None` for all other sockets.
fn awaited_of(view: &View<'_>, queue: &Queue<'_>, socket: &Socket) -> Option<Awaited> {
    let is_accepted = callers::listening(view, socket.netns, socket.local).is_some();
    let calls_itself = callers::called(view, socket).is_some_and(|q| (q.netns, q.local) == (queue.netns, queue.local));
    if is_accepted || calls_itself || !socket.state.has_peer() {
        return None;
    }
    match socket.state {
        State::SynSent => Some(Awaited::Handshake),
        State::Established if socket.recv_q_bytes > 0 => None,
        State::Established if socket.send_q_bytes.is_some_and(|bytes| bytes > 0) => Some(Awaited::Room),
        State::Established => answer(socket),
        _ => None,
    }
}

/// The answer to a request that is older than a moment.
fn answer(socket: &Socket) -> Option<Awaited> {
    last_word::unanswered_ms(socket).map(|at_least_ms| Awaited::Answer { at_least_ms })
}
