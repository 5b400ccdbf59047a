//! Changes of state as a stream, from the best source that works here.
//!
//! Comes in: which source is wanted. Goes out: [`Transition`]s in their order, what was lost, and one line for each
//! better source that does not work here. Never here: what a change means, output.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::bpf::trace::{Actor as BpfActor, Lost, Task, Tracer, TransitionRecord};
use super::{Error, Live, Query};
use crate::model::transition::{Actor, By, Transition};
use crate::model::{Endpoint, Gap, Socket, State, StateSet};

/// After a wake-up the records of this time are taken together: one wake-up a record costs more than the record.
const GATHER: Duration = Duration::from_millis(2);

/// What a trace is read from.
pub enum Changes {
    /// A BPF program on the kernel's tracepoint: every change, of all network namespaces.
    Bpf(Box<Tracer>),
    /// Differences of two dumps: this network namespace, and only what lasts from one look to the next.
    Poll(Box<Poll>),
}

impl Changes {
    /// The BPF program.
    ///
    /// # Errors
    /// One line why it cannot run here, with the way out.
    pub fn bpf(ring_bytes: usize, netns: Option<u32>) -> Result<Changes, Gap> {
        match Tracer::open_netns(ring_bytes, netns) {
            Ok(tracer) => Ok(Changes::Bpf(Box::new(tracer))),
            Err(why) => Err(Gap::new("no trace from a BPF program", why.to_string(), why.hint())),
        }
    }

    /// Differences of dumps taken this often.
    ///
    /// # Errors
    /// When no dump can be taken.
    pub fn poll(live: Live, interval: Duration) -> Result<Changes, Error> {
        let mut poll = Poll { live, interval, due_ns: 0, known: FxHashMap::default(), round: 0, troubles: Vec::new() };
        poll.look(&mut |_| ())?;
        poll.troubles.clear();
        Ok(Changes::Poll(Box::new(poll)))
    }

    /// The key that JSON prints.
    #[must_use]
    pub fn via(&self) -> &'static str {
        match self {
            Changes::Bpf(_) => "bpf",
            Changes::Poll(_) => "poll",
        }
    }

    /// What this source cannot see.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        match self {
            Changes::Bpf(tracer) => tracer
                .processes_unknown()
                .map(|why| Gap::new("processes are not named", why.to_string(), why.hint()))
                .into_iter()
                .collect(),
            Changes::Poll(poll) => {
                let mut gaps = vec![Gap::new(
                    "changes between two looks, processes, and other network namespaces are not seen",
                    format!("the sockets are looked at every {} ms", poll.interval.as_millis()),
                    "run as root, for the BPF program; or give a shorter --interval",
                )];
                gaps.extend(poll.live.lacks());
                gaps
            }
        }
    }

    /// Waits up to `patience` for changes and hands out those that came. A signal ends the wait.
    ///
    /// # Errors
    /// When the source fails.
    pub fn next(&mut self, patience: Duration, each: &mut dyn FnMut(Transition)) -> io::Result<Vec<Gap>> {
        match self {
            Changes::Bpf(tracer) => {
                if tracer.poll(patience)? {
                    std::thread::sleep(GATHER);
                }
                // Both clocks are read together; the wall clock may be set while a trace runs.
                let (wall_us, now_ns) = (jiff::Timestamp::now().as_microsecond(), monotonic_ns());
                tracer.drain(&mut |record| each(transition(record, wall_us, now_ns)));
                Ok(Vec::new())
            }
            Changes::Poll(poll) => {
                let wait = Duration::from_nanos(poll.due_ns.saturating_sub(monotonic_ns()));
                if wait > patience {
                    std::thread::sleep(patience);
                    return Ok(Vec::new());
                }
                std::thread::sleep(wait);
                poll.look(each).map_err(io::Error::other)?;
                Ok(std::mem::take(&mut poll.troubles))
            }
        }
    }

    /// What was lost since the beginning; a poller does not know what it did not see.
    #[must_use]
    pub fn lost(&self) -> Option<Lost> {
        match self {
            Changes::Bpf(tracer) => Some(tracer.lost()),
            Changes::Poll(_) => None,
        }
    }
}

fn transition(r: &TransitionRecord, wall_us: i64, now_ns: u64) -> Transition {
    let ago_us = i64::try_from(now_ns.saturating_sub(r.monotonic_ns) / 1000).unwrap_or(0);
    let actor = |task: &Task| Actor { pid: task.tgid, comm: task.comm() };
    let by = match &r.actor {
        BpfActor::Process(task) => By::Process(actor(task)),
        BpfActor::KernelThread(task) => By::KernelThread(actor(task)),
        BpfActor::Network => By::Network,
        BpfActor::UnknownProcess => By::UnknownProcess,
    };
    Transition {
        at_us: wall_us - ago_us,
        monotonic_ns: r.monotonic_ns,
        netns: u64::from(r.netns),
        cookie: r.cookie.map(std::num::NonZeroU64::get),
        address: None,
        family: r.family,
        local: r.local,
        peer: r.peer,
        old: Some(r.old),
        new: r.new,
        by: Some(by),
        by_call: r.is_by_call(),
        traffic: r.traffic,
    }
}

/// `CLOCK_MONOTONIC`, as `bpf_ktime_get_ns` reads it.
fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// A socket from one look to the next: its cookie, or its addresses where the source has no cookies.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Identity {
    Cookie(u64),
    Tuple(Endpoint, Endpoint),
}

struct Seen {
    round: u64,
    state: State,
    family: crate::model::Family,
    local: Endpoint,
    peer: Endpoint,
}

/// The state of a poller.
pub struct Poll {
    live: Live,
    interval: Duration,
    due_ns: u64,
    known: FxHashMap<Identity, Seen>,
    round: u64,
    troubles: Vec<Gap>,
}

impl Poll {
    /// Looks once and hands out what is different from the look before.
    fn look(&mut self, each: &mut dyn FnMut(Transition)) -> Result<(), Error> {
        let now_ns = monotonic_ns();
        self.due_ns = now_ns + u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        let (at_us, netns) = (jiff::Timestamp::now().as_microsecond(), self.live.netns());
        self.round += 1;
        let (round, known) = (self.round, &mut self.known);
        let change = |id: Identity, seen: &Seen, old: Option<State>, new: State| Transition {
            at_us,
            monotonic_ns: now_ns,
            netns,
            cookie: match id {
                Identity::Cookie(cookie) => Some(cookie),
                Identity::Tuple(..) => None,
            },
            address: None,
            family: seen.family,
            local: seen.local,
            peer: seen.peer,
            old,
            new,
            by: None,
            by_call: false,
            traffic: None,
        };
        let mut gaps = Vec::new();
        self.live.sockets(&Query::states(StateSet::ALL), &mut gaps, &mut |s| {
            let id = identity(s);
            let now = Seen { round, state: s.state, family: s.family, local: s.local, peer: s.peer };
            let before = known.get(&id).map(|seen| seen.state);
            if before != Some(s.state) {
                each(change(id, &now, before, s.state));
            }
            known.insert(id, now);
            ControlFlow::Continue(())
        })?;
        // What an incomplete dump does not show may still be there.
        if gaps.is_empty() {
            known.retain(|id, seen| {
                let there = seen.round == round;
                if !there {
                    each(change(*id, seen, Some(seen.state), State::Close));
                }
                there
            });
        }
        self.troubles.extend(gaps);
        Ok(())
    }
}

fn identity(s: &Socket) -> Identity {
    match s.cookie {
        Some(cookie) if cookie != 0 => Identity::Cookie(cookie),
        _ => Identity::Tuple(s.local, s.peer),
    }
}
