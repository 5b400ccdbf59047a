//! What each process that serves a listener has in hand: connections that it accepted, calls of its own to the very
//! listener, and where its threads stand meanwhile.
//!
//! Input: a view, who serves the listener, and its queue. Output: one [`Worker`] per server, and what all of them have in
//! common. Not here: which cause that makes (`picture`).

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::diagnose::delivery;
use crate::diagnose::last_word::{self, By};
use crate::diagnose::listener_owner::{self, Owner};
use crate::diagnose::queues::Queue;
use crate::diagnose::threads;
use crate::diagnose::view::View;
use crate::diagnose::wait_state::Class;
use crate::model::snapshot::{Inspection, ThreadState};
use crate::model::{Inode, RowKind, Socket, State};
use crate::text;

/// A younger silence is a pause.
const IDLE_MS: u64 = 1000;
/// Parents that are asked for before a process counts as a stranger.
const GENERATIONS: usize = 8;

/// A process that serves a listener.
pub struct Worker<'a> {
    pub pid: u32,
    /// What it does with the listener; `None` when it was not inspected.
    pub class: Option<Class>,
    pub inspection: Option<&'a Inspection>,
    /// Connections of the listener that it accepted.
    pub accepted: Vec<&'a Socket>,
    /// The numbers under which it has them.
    fds: Vec<u32>,
    /// Those on which a thread stands in a call, and whether it writes.
    in_calls: Vec<(&'a Socket, bool)>,
    /// Connections to the listener that wait in its queue and that this process, or one that it started, has made.
    calls: Vec<Call>,
}

/// The end of a connection to the listener that a server, or its child, holds.
#[derive(Clone, Copy)]
struct Call {
    /// `None` when a child has it.
    fd: Option<u32>,
    inode: Option<Inode>,
}

/// Connections by the process that holds them.
pub type Accepted<'a> = FxHashMap<u32, Vec<&'a Socket>>;

/// The servers of a listener, with what they accepted.
#[must_use]
pub fn workers<'a>(
    view: &View<'a>,
    owner: &Owner<'a>,
    queue: &Queue<'_>,
    listeners: &[&Socket],
    mut accepted: Accepted<'a>,
) -> Vec<Worker<'a>> {
    let mut calls = calls(view, owner, queue);
    let worker = |(at, pid): (usize, &u32)| {
        let is_looked_at = at < listener_owner::MOST_INSPECTED;
        let facts = view.process(*pid).filter(|_| is_looked_at);
        let class = facts.and_then(|_| listener_owner::does(view, *pid, listeners)).map(|doing| doing.class);
        let accepted = accepted.remove(pid).unwrap_or_default();
        let holders = accepted.iter().flat_map(|s| view.owners(s).1);
        let inspection = facts.and_then(|f| f.inspection.as_ref());
        let in_calls = accepted.iter().filter_map(|s| {
            let fds = view.owners(s).1.iter().filter(|h| view.now.owners.process(h).pid == *pid).map(|h| h.fd);
            Some((*s, writes(inspection?, fds)?))
        });
        Worker {
            pid: *pid,
            class,
            inspection,
            in_calls: in_calls.collect(),
            fds: holders.filter(|h| view.now.owners.process(h).pid == *pid).map(|h| h.fd).collect(),
            accepted,
            calls: calls.remove(pid).unwrap_or_default(),
        }
    };
    owner.pids.iter().enumerate().map(worker).collect()
}

/// Accepted connections of the port, by each process that holds the listener.
#[must_use]
pub fn accepted<'a>(view: &View<'a>, owner: &Owner<'_>, queue: &Queue<'_>) -> Accepted<'a> {
    let mut accepted = Accepted::default();
    let of_queue = view.now.sockets.iter().filter(|s| {
        // Few rows have the port, so nothing else is asked of most.
        s.local.port == queue.local.port
            && s.netns == queue.netns
            && s.kind == RowKind::Full
            && s.state.has_peer()
            && s.inode.is_some()
            && !s.is_unaccepted()
    });
    for socket in of_queue {
        for process in view.holding(socket).filter(|p| owner.holders.contains(&p.pid)) {
            accepted.entry(process.pid).or_default().push(socket);
        }
    }
    accepted
}

/// Connections of a queue that the holders of its listener made themselves, by holder.
fn calls(view: &View<'_>, owner: &Owner<'_>, queue: &Queue<'_>) -> FxHashMap<u32, Vec<Call>> {
    let mut calls: FxHashMap<u32, Vec<Call>> = FxHashMap::default();
    for waiting in &queue.waiting {
        let Some(other_end) = view.mirror(waiting) else { continue };
        let owners = &view.now.owners;
        let callers = view.owners(other_end).1.iter();
        let own = callers.filter_map(|h| {
            let pid = owners.process(h).pid;
            let server = server_of(view, owner, pid)?;
            Some((server, Call { fd: (server == pid).then_some(h.fd), inode: other_end.inode }))
        });
        // One that several processes hold is one call: rather that of a server than that of its child.
        if let Some((server, call)) = own.min_by_key(|(server, call)| (call.fd.is_none(), *server)) {
            calls.entry(server).or_default().push(call);
        }
    }
    calls
}

/// The holder of the listener that a process is, or that started it.
fn server_of(view: &View<'_>, owner: &Owner<'_>, pid: u32) -> Option<u32> {
    let parents = std::iter::successors(Some(pid), |pid| view.process(*pid)?.parent);
    parents.take(GENERATIONS).find(|pid| owner.holders.contains(pid))
}

impl Worker<'_> {
    /// It does not wait for the listener.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self.class {
            // A pool is alike beyond those that were looked at.
            None | Some(Class::NoEpoll | Class::LoopStuck) => true,
            Some(Class::Forgotten) => !self.threads().iter().any(threads::is_epoll_wait),
            Some(_) => false,
        }
    }

    /// It has a client, or an event loop that would be told of one.
    #[must_use]
    pub fn serves_listener(&self) -> bool {
        !self.accepted.is_empty() || self.class == Some(Class::LoopStuck)
    }

    /// It has connections and does not wait for another one. Those of an event loop are in an epoll set, so that they do
    /// not keep it from accepting.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.is_away() && !self.accepted.is_empty() && !self.accepted.iter().any(|s| self.watches(s.inode))
    }

    /// Whether a socket is, or may be, in one of its epoll sets.
    fn watches(&self, inode: Option<Inode>) -> bool {
        self.inspection.is_some_and(|i| i.watches.iter().any(|w| w.inode.is_none() || w.inode == inode))
    }

    /// As many connections as threads, or fewer: one thread serves one. A loop over `poll` has more.
    #[must_use]
    pub fn has_one_per_thread(&self) -> bool {
        let unread = self.inspection.map_or(0, |i| i.threads_not_read as usize);
        self.accepted.len() <= (self.threads().len() + unread).max(1)
    }

    /// Its one thread waits in `poll` on something that is not the listener, else it would accept.
    #[must_use]
    pub fn polls_alone(&self) -> bool {
        matches!(self.threads(), [one] if threads::is_poll(one)) && self.has_one_per_thread()
    }

    #[must_use]
    pub fn own_calls(&self) -> usize {
        self.calls.len()
    }

    /// Its threads wait for answers to its own calls: the only one, or as many as serve connections. A call of one thread
    /// beside others, such as a check of its own health, may have nothing to do with what they wait for, nor does one
    /// whose answer an event loop would be told of.
    #[must_use]
    pub fn waits_for_itself(&self) -> bool {
        if self.inspection.is_none() {
            return !self.calls.is_empty();
        }
        let calls: Vec<Option<u32>> = self.calls.iter().filter(|c| !self.watches(c.inode)).map(|c| c.fd).collect();
        // Whoever waits for a child reads its output from a pipe, or waits for its end.
        let by_child = calls.contains(&None);
        let awaits = |t: &&ThreadState| match threads::called_descriptor(t) {
            Some(fd) => calls.contains(&Some(fd)) || (by_child && !self.fds.contains(&fd)),
            None => threads::is_poll(t) || (by_child && threads::waits_for_child(t)),
        };
        let waiting = self.threads().iter().filter(awaits).count().min(calls.len());
        match self.threads().len() {
            1 => waiting == 1,
            _ => waiting > 1 && waiting >= self.accepted.len(),
        }
    }

    /// A thread stands in a call on a connection that it accepted.
    fn is_in_connection(&self) -> bool {
        self.threads().iter().filter_map(threads::called_descriptor).any(|fd| self.fds.contains(&fd))
    }

    fn threads(&self) -> &[ThreadState] {
        self.inspection.map_or(&[], |i| &i.threads)
    }
}

/// Whether a thread in a call on one of these descriptors writes; `None` without such a thread.
fn writes(inspection: &Inspection, mut fds: impl Iterator<Item = u32>) -> Option<bool> {
    let call = |fd: u32| inspection.threads.iter().find(|t| threads::called_descriptor(t) == Some(fd));
    fds.find_map(call).map(threads::writes)
}

/// What clients that hold all workers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// They say nothing, and it is for them to speak.
    Idle,
    /// They sent something, and its reader waits for more: the rest of a request, or the next message.
    Silent,
    /// They do not read what is sent to them.
    Unread,
}

/// The clients that hold all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub how: Hold,
    /// Each of their connections has been silent for so long, or longer; `None` where that is not known.
    pub at_least_ms: Option<u64>,
    /// All are of one address.
    pub from: Option<IpAddr>,
}

impl Held {
    /// What holds a worker: `a connection of 10.0.0.9 that is idle for 9.0 s or more`.
    #[must_use]
    pub fn words(self) -> String {
        let of = self.from.map_or_else(String::new, |addr| format!(" of {addr}"));
        let age = self.at_least_ms.map_or_else(String::new, |ms| format!(" for {} or more", text::duration(ms)));
        match self.how {
            Hold::Idle => format!("a connection{of} that is idle{age}"),
            Hold::Silent => format!("a connection{of} from which it reads, and which has been silent{age}"),
            Hold::Unread => format!("a connection{of} that does not read its answer"),
        }
    }

    /// Whose connections they are.
    #[must_use]
    pub fn client(self) -> String {
        self.from.map_or_else(|| "the clients".to_owned(), |addr| addr.to_string())
    }
}

/// The clients that hold all workers, if they do.
#[must_use]
pub fn held(workers: &[Worker<'_>]) -> Option<Held> {
    let mut clients = workers.iter().flat_map(|w| &w.accepted).map(|s| s.peer.addr.to_canonical());
    let first = clients.next()?;
    let from = clients.all(|addr| addr == first).then_some(first);
    if let Some(ms) = idle_ms(workers) {
        return Some(Held { how: Hold::Idle, at_least_ms: Some(ms), from });
    }
    let (how, at_least_ms) = waited_for(workers)?;
    Some(Held { how, at_least_ms, from })
}

/// What each thread waits for that stands in a call on the connection that it serves, if that is one thing and the client owes it.
fn waited_for(workers: &[Worker<'_>]) -> Option<(Hold, Option<u64>)> {
    let seen: Vec<&Worker<'_>> = workers.iter().filter(|w| w.inspection.is_some()).collect();
    if seen.is_empty() || seen.iter().any(|w| w.accepted.is_empty() || w.in_calls.len() < w.accepted.len()) {
        return None;
    }
    let calls = || seen.iter().flat_map(|w| &w.in_calls);
    if calls().all(|(s, writes)| *writes && delivery::is_zero_window(s)) {
        return Some((Hold::Unread, None));
    }
    let waits = |(s, writes): &(&Socket, bool)| {
        let word = last_word::of(s).filter(|word| word.by == By::Peer && word.ago_ms >= IDLE_MS)?;
        (!writes && s.recv_q_bytes == 0 && s.state == State::Established).then_some(word.ago_ms)
    };
    let ages: Option<Vec<u64>> = calls().map(waits).collect();
    Some((Hold::Silent, Some(ages?.into_iter().min()?)))
}

/// For how long every connection that the workers have has been silent, when it is for the client to speak on each. Where
/// nobody has said a word, the server may owe the first one, unless it reads.
fn idle_ms(workers: &[Worker<'_>]) -> Option<u64> {
    let silent_ms = |worker: &Worker<'_>, s: &Socket| {
        let word = last_word::of(s)?;
        let is_ours = match word.by {
            By::Us | By::Either => true,
            By::Nobody => worker.is_in_connection(),
            By::Peer => false,
        };
        let is_at_rest = s.state == State::Established && s.recv_q_bytes == 0 && s.send_q_bytes.is_none_or(|q| q == 0);
        (is_ours && is_at_rest && word.ago_ms >= IDLE_MS).then_some(word.ago_ms)
    };
    let of = |worker| move |s: &&Socket| silent_ms(worker, s);
    let silences: Option<Vec<u64>> = workers.iter().flat_map(|w| w.accepted.iter().map(of(w))).collect();
    silences?.into_iter().min()
}
