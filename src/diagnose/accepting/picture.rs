//! What is seen of those who should accept on a listener, and what it says of each cause.
//!
//! Input: a view, the listener's queue and its owner. Output: a [`Picture`], which weighs a cause by its name. Not here: words and
//! steps.

use super::backends::Backends;
use super::holders::{Reach, reach};
use super::workers::{self, Worker};
use crate::diagnose::callers;
use crate::diagnose::hypothesis::Weight;
use crate::diagnose::listen_drops;
use crate::diagnose::listener_owner::{self, Owner};
use crate::diagnose::queues::Queue;
use crate::diagnose::rate::Rate;
use crate::diagnose::reader::{MOSTLY, SOMETIMES};
use crate::diagnose::threads::{self, syscall_name};
use crate::diagnose::view::View;
use crate::diagnose::wait_state::{self, Class};
use crate::model::counter::Counter;
use crate::model::snapshot::{CpuQuota, ProcessFacts, ThreadState};
use crate::model::{Endpoint, Process, RowKind, Socket};

/// A program that accepts fewer connections a second is slow, whatever comes: a loop that does nothing else accepts tens
/// of thousands (policy).
const SLOW_PER_SECOND: f64 = 100.0;

/// Who is at the head of a queue for so long waits for a loop that is late (policy).
const STANDING_MS: u64 = 100;

/// How many connections a second a queue has let through at most: whoever is at its head has waited for all that were before it,
/// and no more fit (first in, first out). `None` where the head has not waited for long, in either sample.
fn at_most_per_second(view: &View<'_>, queue: &Queue<'_>) -> Option<(u64, u64)> {
    // Of several listeners each has its own order.
    let before = view.queues_before()?.get(queue.netns, queue.local).filter(|_| queue.listeners.len() == 1)?;
    let of = |queue: &Queue<'_>| {
        let waits_ms = queue.oldest_wait_ms().filter(|ms| *ms >= STANDING_MS)?;
        Some(((queue.capacity()? * 1000).div_ceil(waits_ms), waits_ms))
    };
    let ((then, then_ms), (now, now_ms)) = (of(before)?, of(queue)?);
    Some((then.max(now), then_ms.min(now_ms)))
}

/// How many connections of a queue were accepted between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub at_least: u64,
    /// There were no more: some of those who waited before still wait, and a queue is first in, first out.
    pub is_exact: bool,
    /// Of those who waited before nobody does.
    pub is_emptied: bool,
}

impl Taken {
    #[must_use]
    pub fn is_none(self) -> bool {
        self.is_exact && self.at_least == 0
    }
}

/// How many connections were accepted between the samples: those that wait no more, without those that were reset while
/// they waited, whose places stay taken; and where nobody waits since before, also those that came and were accepted
/// meanwhile, and the places that a queue which was full in between has free now. `None`: not known, as of a queue where
/// nobody waited.
#[must_use]
pub fn taken(view: &View<'_>, queue: &Queue<'_>) -> Option<Taken> {
    let before = view.queues_before()?.get(queue.netns, queue.local)?;
    let still =
        |s: &Socket| view.at(s.netns, s.four_tuple()).is_some_and(|now| now.is_unaccepted() && now.cookie == s.cookie);
    let left = before.waiting.iter().filter(|s| !still(s)).count();
    let dead = |q: &Queue<'_>| q.queued().saturating_sub(q.waiting.len() as u64);
    let of_waiting = (left as u64).saturating_sub(dead(queue).saturating_sub(dead(before)));
    let stands = left < before.waiting.len();
    let is_emptied = !stands;
    // Of several listeners some may be stuck and others accept.
    let came = if stands && queue.listeners.len() == 1 { 0 } else { came_and_accepted(view, queue) };
    let drained = if stands { 0 } else { drained(view, queue) };
    let at_least = (of_waiting + came).max(drained);
    (stands || at_least > 0).then_some(Taken { at_least, is_exact: stands && came == 0, is_emptied })
}

/// Connections of the listener that somebody has accepted and that did not exist before.
fn came_and_accepted(view: &View<'_>, queue: &Queue<'_>) -> u64 {
    let is_new = |s: &&Socket| {
        s.local.port == queue.local.port
            && s.netns == queue.netns
            && s.kind == RowKind::Full
            && s.state.has_peer()
            && s.cookie.is_some()
            && s.inode.is_some()
            && !s.is_unaccepted()
            && view.earlier(s).is_none()
            && callers::listening(view, s.netns, s.local).is_some_and(|at| at.local == queue.local)
    };
    view.now.sockets.iter().filter(is_new).count() as u64
}

/// The places that are free now in a queue that was full since the sample before: it dropped handshakes.
fn drained(view: &View<'_>, queue: &Queue<'_>) -> u64 {
    let [listener] = queue.listeners[..] else { return 0 };
    let overflowed = view.delta(queue.netns, Counter::TcpExtListenOverflows).is_some_and(|n| n > 0);
    let dropped = listen_drops::between(view, listener).is_some_and(|drops| drops.at_least > 0);
    if overflowed && dropped { queue.capacity().unwrap_or(0).saturating_sub(queue.queued()) } else { 0 }
}

/// What is seen of those who should accept.
pub struct Picture<'a, 'o> {
    owner: &'o Owner<'a>,
    pub workers: Vec<Worker<'a>>,
    /// Every thread of the servers that was seen.
    threads: Vec<&'a ThreadState>,
    /// Some server may wait in a way that does not show.
    hidden: bool,
    /// Other listeners in whose `accept()` threads wait.
    pub elsewhere: Vec<Endpoint>,
    /// Threads that wait there.
    pub threads_elsewhere: usize,
    /// Accepted connections of this listener that its holders have.
    pub accepted: u64,
    /// Threads that stand in a read or write on an accepted connection.
    in_connection: usize,
    pub taken: Option<Taken>,
    /// It takes no more than so many a second, as whoever waits has waited for so long in both samples.
    pub slow: Option<(u64, u64)>,
    pub interval_ms: Option<u64>,
    reach: Reach,
    /// Listeners that are looked at together.
    listeners: usize,
    /// No control group of the servers is frozen.
    is_thawed: bool,
    /// How often a quota kept the servers from running: the one that was throttled least.
    pub cpu_quota: Option<CpuQuota>,
    /// The control groups of every server were seen: without a quota then they have none.
    has_seen_groups: bool,
    /// The services that all of them wait for.
    pub backends: Option<Backends>,
    /// Those who hold it got the listener by socket activation.
    pub is_activated: bool,
}

/// Processes, each once.
#[must_use]
pub fn unique(mut processes: Vec<&Process>) -> Vec<&Process> {
    processes.sort_by_key(|p| p.pid);
    processes.dedup_by_key(|p| p.pid);
    processes
}

#[must_use]
pub fn picture<'a, 'o>(
    view: &View<'a>,
    owner: &'o Owner<'a>,
    queue: &Queue<'_>,
    listeners: &[&Socket],
) -> Picture<'a, 'o> {
    let accepted = workers::accepted(view, owner, queue);
    let mut picture = Picture {
        owner,
        accepted: accepted.values().map(|held| held.len() as u64).sum(),
        workers: workers::workers(view, owner, queue, listeners, accepted),
        threads: Vec::new(),
        hidden: false,
        elsewhere: Vec::new(),
        threads_elsewhere: 0,
        in_connection: 0,
        // What waits is not known by listener: that others of the port accept says nothing of these.
        taken: if listeners.len() < queue.listeners.len() { None } else { taken(view, queue) },
        slow: at_most_per_second(view, queue).filter(|(rate, _)| *rate as f64 <= SLOW_PER_SECOND),
        interval_ms: view.interval_ms(),
        reach: reach(view, listeners, &unique(listeners.iter().flat_map(|l| view.processes(l)).collect())),
        listeners: listeners.len(),
        is_thawed: owner.pids.iter().all(|pid| view.process(*pid).is_some_and(is_thawed)),
        cpu_quota: cpu_quota(view, &owner.pids),
        has_seen_groups: owner.pids.iter().all(|pid| view.process(*pid).is_some_and(ProcessFacts::has_seen_groups)),
        backends: None,
        is_activated: owner.holders.iter().any(|pid| view.process(*pid).is_some_and(|f| f.is_activated == Some(true))),
    };
    let inspected: Vec<_> = picture.workers.iter().filter_map(|w| Some((w.pid, w.inspection?))).collect();
    for (pid, inspection) in inspected {
        picture.threads.extend(&inspection.threads);
        picture.hidden |= inspection.io_urings > 0 || inspection.threads_not_read > 0;
        for thread in &inspection.threads {
            picture.place(view, pid, thread, listeners);
        }
    }
    picture.backends = Backends::of(view, queue, &picture.workers);
    picture.elsewhere.sort_unstable();
    picture.elsewhere.dedup();
    picture
}

/// The quota of the process that was throttled least; `None` when one of them has none.
fn cpu_quota(view: &View<'_>, pids: &[u32]) -> Option<CpuQuota> {
    let quotas: Option<Vec<CpuQuota>> = pids.iter().map(|pid| view.process(*pid)?.cpu_quota).collect();
    quotas?.into_iter().min_by(|a, b| a.share().unwrap_or(0.0).total_cmp(&b.share().unwrap_or(0.0)))
}

/// Whether no freezer holds a process: its control group says so, or a thread sleeps in another place.
fn is_thawed(facts: &ProcessFacts) -> bool {
    let sleeps = || facts.inspection.as_ref().is_some_and(|i| i.threads.iter().any(|t| t.wchan.is_some()));
    !wait_state::is_frozen(facts) && (facts.frozen == Some(false) || sleeps())
}

impl Picture<'_, '_> {
    /// Notes in which socket's call a thread stands.
    fn place(&mut self, view: &View<'_>, pid: u32, thread: &ThreadState, listeners: &[&Socket]) {
        let Some(socket) = wait_state::called_socket(view, pid, thread) else { return };
        let accepts = thread.syscall.and_then(syscall_name).is_some_and(|call| call.starts_with("accept"));
        if accepts && !listeners.iter().any(|l| l.inode == socket.inode) {
            self.threads_elsewhere += 1;
            self.elsewhere.push(socket.local);
        } else if (threads::reads(thread) || threads::writes(thread))
            && listeners.iter().any(|l| l.local.port == socket.local.port)
        {
            self.in_connection += 1;
        }
    }

    /// The listeners in whose `accept()` threads wait, in words.
    pub fn others(&self) -> Vec<String> {
        self.elsewhere.iter().map(ToString::to_string).collect()
    }

    /// Where the threads stand, when that is one call: ` (in clock_nanosleep)`.
    pub fn stand(&self) -> String {
        let mut calls: Vec<&str> = self.threads.iter().filter_map(|t| t.syscall.and_then(syscall_name)).collect();
        calls.sort_unstable();
        calls.dedup();
        match calls[..] {
            [one] => format!(" (in {one})"),
            _ => String::new(),
        }
    }

    /// Where all of its threads stand, if that is one call, it is none in which a server waits for work, and none of those who waited
    /// was accepted: `in flock (locks_lock_inode_wait)`.
    pub fn stands_elsewhere(&self) -> Option<String> {
        let first = self.threads.first().filter(|t| t.syscall.is_some() && self.may_take_none())?;
        let call = first.syscall.and_then(syscall_name).unwrap_or_default();
        let at = threads::stand(first);
        let waits_for_work = threads::is_epoll_wait(first) || threads::is_poll(first) || call.starts_with("accept");
        (!waits_for_work && self.threads.iter().all(|t| threads::stand(t) == at)).then_some(at)
    }

    fn classes(&self) -> impl Iterator<Item = Class> {
        self.workers.iter().filter_map(|w| w.class)
    }

    fn all(&self, wanted: &[Class]) -> bool {
        self.is_inspected() && self.classes().all(|class| wanted.contains(&class))
    }

    fn any(&self, wanted: &[Class]) -> bool {
        self.classes().any(|class| wanted.contains(&class))
    }

    /// Something is seen of what they do.
    pub fn is_inspected(&self) -> bool {
        self.classes().next().is_some()
    }

    fn runs(&self) -> bool {
        self.threads.iter().any(|t| t.state == Some('R') && t.syscall.is_none())
    }

    /// The thread that runs the loop, in most programs the first one, is at work in the program itself.
    fn main_runs(&self) -> bool {
        self.mains_at_work() > 0
    }

    fn mains_at_work(&self) -> usize {
        let runs = |t: &&&ThreadState| t.state == Some('R') && t.syscall.is_none();
        self.threads.iter().filter(runs).filter(|t| self.owner.pids.contains(&t.tid)).count()
    }

    /// Each server has a connection and none of them can take another one.
    pub fn workers_busy(&self) -> bool {
        let workers = &self.workers;
        let all_compute = self.mains_at_work() == workers.len();
        if !self.is_inspected() || all_compute || !workers.iter().all(Worker::serves) {
            return false;
        }
        match &workers[..] {
            [one] => one.polls_alone() || (!self.threads.is_empty() && self.threads.len() == self.in_connection),
            several => several.iter().all(Worker::has_one_per_thread),
        }
    }

    /// Connections that wait and that the servers made themselves.
    pub fn own_calls(&self) -> u64 {
        self.workers.iter().map(|w| w.own_calls() as u64).sum()
    }

    /// Every server waits for an answer to its own call, which only one of them could give.
    fn calls_itself(&self) -> bool {
        let waits = |w: &Worker<'_>| w.is_away() && w.waits_for_itself();
        self.is_inspected() && self.may_take_none() && self.workers.iter().all(waits)
    }

    /// Nothing shows that some connection was accepted between the samples.
    fn may_take_none(&self) -> bool {
        self.taken.is_none_or(Taken::is_none)
    }

    /// A thread wants to run, and the quota of its control group kept it from that in half of all periods or more.
    fn is_throttled(&self) -> bool {
        self.throttled_share() >= MOSTLY && self.threads.iter().any(|t| t.state == Some('R'))
    }

    /// A thread wants to run, and whether a quota keeps it from that could not be read.
    fn may_be_throttled(&self) -> bool {
        !self.has_seen_groups && self.threads.iter().any(|t| t.state == Some('R'))
    }

    fn throttled_share(&self) -> f64 {
        self.cpu_quota.and_then(CpuQuota::share).unwrap_or(0.0)
    }

    pub fn is_halted(&self) -> bool {
        self.owner.halted.is_some()
    }

    /// What the facts say of a cause.
    pub fn weigh(&self, id: &str) -> Weight {
        let refuted = |why: &str| Weight::Refuted(why.to_owned());
        match id {
            super::reservation::NAT_RULE_GONE => refuted("another program holds the listener"),
            "frozen" | "stopped" | "stuck-in-kernel" => self.weigh_halt(id),
            _ if self.is_halted() => refuted("it does not run at all"),
            "cpu-throttled" => match self.throttled_share() {
                _ if self.is_throttled() => Weight::Proven,
                share if share >= SOMETIMES => Weight::Possible(share),
                _ if self.cpu_quota.is_some() => refuted("its quota is seldom used up"),
                _ if self.may_be_throttled() => Weight::Possible(0.2),
                _ if !self.has_seen_groups => refuted("no thread wants to run"),
                _ => refuted("its control group has no quota"),
            },
            "out-of-descriptors" if self.owner.no_descriptors.is_some() => Weight::Proven,
            "out-of-descriptors" => refuted("descriptors are free"),
            _ if self.owner.no_descriptors.is_some() => refuted("accept() fails without a free descriptor"),
            "busy-loop" | "loop-stuck" | "workers-busy" | "accepts-too-slow" | "arrivals-too-fast"
                if self.is_throttled() =>
            {
                refuted("it gets no more CPU time")
            }
            "inherited-listener" => match self.reach {
                Reach::CannotAccept | Reach::IsTool => Weight::Proven,
                _ if self.accepted > 0 => refuted("it has accepted connections"),
                _ if self.any(&[Class::InCall]) || self.watches() || !self.may_take_none() => {
                    refuted("it watches the listener")
                }
                // Who inherits one has one: of several each has its own program, and what is left over names none of them.
                _ if self.listeners > 1 => refuted("several listeners have the port"),
                _ => Weight::Possible(0.1),
            },
            "accepts-elsewhere" if self.threads_elsewhere > 0 && !self.any(&[Class::InCall]) && !self.watches() => {
                Weight::Proven
            }
            "accepts-elsewhere" => refuted("no thread waits in accept() of another listener, or one does here"),
            "accept-paused" => self.weigh_paused(),
            "edge-not-drained" => self.weigh_edge(),
            "busy-loop" if !self.runs() => refuted("no thread runs"),
            "busy-loop" if self.emptied() => refuted("the queue was emptied meanwhile"),
            "busy-loop" if self.may_take_none() && self.main_runs() && !self.workers_busy() => {
                // One look shows a thread that runs, and not that it does not come back.
                let is_proven = self.taken.is_some() && !self.may_be_throttled();
                if is_proven { Weight::Proven } else { Weight::Possible(0.6) }
            }
            "busy-loop" => Weight::Possible(0.3),
            "calls-itself" if self.calls_itself() => Weight::Proven,
            "calls-itself" if self.own_calls() > 0 => Weight::Possible(0.4),
            "calls-itself" => refuted("none of those that wait was made by its own processes"),
            "waits-for-service" => self.weigh_services(),
            "workers-busy" if self.calls_itself() => refuted("what its workers wait for is this listener"),
            "workers-busy" if self.waits_for_service() => refuted("what its workers wait for is another service"),
            "workers-busy" if self.workers_busy() => Weight::Proven,
            "workers-busy" if self.accepted == 0 => refuted("it holds no accepted connection"),
            "workers-busy" if self.all(&[Class::NoEpoll]) => Weight::Possible(0.3),
            "workers-busy" => refuted("an event loop serves several connections"),
            "loop-stuck" => self.weigh_stuck(),
            "accepts-too-slow" => self.weigh_slow(),
            "arrivals-too-fast" => match self.taken {
                Some(taken) if taken.is_none() => refuted("those who waited before still wait"),
                _ if self.slow.is_some() => refuted("whoever is at the head has waited for long in both samples"),
                _ if self.rate().is_some_and(|rate| rate > SLOW_PER_SECOND) || self.emptied() => Weight::Possible(0.6),
                Some(taken) if taken.is_exact => refuted(
                    "few were accepted while others waited, and a loop that only accepts takes thousands a second",
                ),
                _ => Weight::Possible(0.1),
            },
            _ => refuted("not seen"),
        }
    }

    fn weigh_halt(&self, id: &str) -> Weight {
        let words = match id {
            "frozen" => [listener_owner::FROZEN, listener_owner::FROZEN],
            "stopped" => [listener_owner::STOPPED, listener_owner::DEBUGGED],
            _ => [listener_owner::IN_KERNEL, listener_owner::IN_KERNEL],
        };
        match self.owner.halted {
            Some(halted) if words.contains(&halted) => Weight::Proven,
            Some(halted) => Weight::Refuted(format!("it is {halted}")),
            // Asked of inspected processes only, and not where version 2 of control groups is not seen.
            None if id == "frozen" && !self.is_thawed && !self.runs() && self.may_take_none() => Weight::Possible(0.1),
            None => Weight::Refuted("it runs".to_owned()),
        }
    }

    /// Whether an epoll set would report the listener.
    fn watches(&self) -> bool {
        self.any(&[Class::LoopStuck, Class::LoopIgnores, Class::EdgeNotDrained])
    }

    fn weigh_paused(&self) -> Weight {
        let out = [Class::Forgotten, Class::ReadingOff, Class::OneShotSpent];
        // A runtime registers every socket so, and may be told not to accept.
        if self.stops_on_edge() {
            return Weight::Possible(0.5);
        }
        if !self.any(&out) {
            return Weight::Refuted("the listener is armed, or there is no event loop".to_owned());
        }
        let sure =
            self.all(&out) && !self.hidden && self.threads_elsewhere == 0 && (self.turns() || self.all(&out[1..]));
        if sure { Weight::Proven } else { Weight::Possible(0.5) }
    }

    /// An edge-triggered loop turns, and whoever waited still waits.
    fn stops_on_edge(&self) -> bool {
        self.all(&[Class::EdgeNotDrained]) && self.turns() && self.may_take_none()
    }

    fn weigh_edge(&self) -> Weight {
        if !self.any(&[Class::EdgeNotDrained]) {
            return Weight::Refuted("the listener is not registered edge-triggered".to_owned());
        }
        Weight::Possible(if self.stops_on_edge() { 0.5 } else { 0.2 })
    }

    /// The event loop turns: a thread waits for events, and no other stands where an accept loop would be blocked.
    fn turns(&self) -> bool {
        let idle = |t: &&ThreadState| threads::is_epoll_wait(t) || threads::is_in_lock(t);
        self.threads.iter().any(|t| threads::is_epoll_wait(t)) && self.threads.iter().all(idle)
    }

    /// Every server stands in a call on a connection to another service, and accepts nothing meanwhile.
    fn waits_for_service(&self) -> bool {
        self.backends.as_ref().is_some_and(Backends::are_proven) && self.may_take_none() && !self.calls_itself()
    }

    fn weigh_services(&self) -> Weight {
        match self.backends {
            _ if self.waits_for_service() => Weight::Proven,
            Some(_) if !self.calls_itself() => Weight::Possible(0.6),
            _ => Weight::Refuted("not every worker waits for a connection that it made".to_owned()),
        }
    }

    fn weigh_stuck(&self) -> Weight {
        if self.waits_for_service() {
            return Weight::Refuted("what it waits for is another service".to_owned());
        }
        if self.calls_itself() {
            return Weight::Refuted("what it waits for is this listener".to_owned());
        }
        if self.workers_busy() {
            return Weight::Refuted("each worker serves a connection".to_owned());
        }
        if self.main_runs() {
            return Weight::Refuted("its thread runs".to_owned());
        }
        if self.emptied() {
            return Weight::Refuted("the queue was emptied meanwhile".to_owned());
        }
        if self.rate().is_some() && !self.any(&[Class::LoopStuck]) {
            return Weight::Refuted("it did accept meanwhile".to_owned());
        }
        if self.all(&[Class::LoopStuck]) && !self.runs() {
            return Weight::Proven;
        }
        if self.any(&[Class::NoEpoll, Class::LoopStuck, Class::Forgotten]) {
            Weight::Possible(0.6)
        } else {
            Weight::Refuted("a thread waits for the listener".to_owned())
        }
    }

    /// How many were accepted between the samples is exact.
    pub fn is_counted(&self) -> bool {
        self.taken.is_some_and(|taken| taken.is_exact)
    }

    /// Connections that were accepted a second: at least so many.
    fn rate(&self) -> Option<f64> {
        Some(Rate::of(self.taken?.at_least, self.interval_ms?)?.per_second())
    }

    /// Nobody waits who waited before, and some were accepted.
    pub fn emptied(&self) -> bool {
        self.slow.is_none() && self.taken.is_some_and(|taken| taken.is_emptied && taken.at_least > 0)
    }

    fn weigh_slow(&self) -> Weight {
        match self.rate() {
            _ if self.workers_busy() => Weight::Refuted("each worker serves a connection".to_owned()),
            _ if self.all(&[Class::LoopStuck]) && !self.runs() => {
                Weight::Refuted("its loop waits for something else".to_owned())
            }
            // The slower it is, the longer somebody has waited: whoever has emptied the queue may have been late once.
            _ if self.emptied() => Weight::Possible(0.3),
            Some(rate) if rate <= SLOW_PER_SECOND && self.may_be_throttled() => Weight::Possible(0.6),
            Some(rate) if rate <= SLOW_PER_SECOND => Weight::Proven,
            Some(_) => Weight::Possible(0.4),
            None if self.taken.is_some_and(Taken::is_none) => Weight::Refuted("none was accepted".to_owned()),
            None => Weight::Possible(0.2),
        }
    }
}
