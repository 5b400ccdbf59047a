//! Changes of state as a stream, from the best source that works here.
//!
//! Comes in: which source is wanted. Goes out: [`Transition`]s in their order, what was lost, and one line for each
//! better source that does not work here. Never here: what a change means, output.

use std::io;
use std::time::Duration;

use super::bpf;
use super::bpf::trace::{Actor as BpfActor, Lost, Task, Tracer, TransitionRecord};
use super::clock::{GATHER, monotonic_ns};
use super::error::Error;
use super::live::Live;
use super::poll::Poll;
use super::tracefs::Tracefs;
use crate::model::gap::{Missing, Tracer as Source, WayOut, Why};
use crate::model::transition::{Actor, By, Transition};
use crate::model::{Gap, NetnsId};

fn without_processes(why: &bpf::Unavailable) -> Gap {
    Gap::new(Missing::TraceProcesses, Why::Error(why.to_string()), why.way_out())
}

/// What a trace is read from.
pub enum Changes {
    /// A BPF program on the kernel's tracepoint: every change, of all network namespaces.
    Bpf(Box<Tracer>),
    /// The kernel's trace file system: every change, of all network namespaces, which it does not tell apart.
    Tracefs(Box<Tracefs>),
    /// Differences of two dumps: this network namespace, and only what lasts from one look to the next.
    Poll(Box<Poll>),
}

impl Changes {
    /// The BPF program.
    ///
    /// # Errors
    /// One line why it cannot run here, with the way out.
    pub fn bpf(ring_bytes: usize, netns: Option<u32>) -> Result<Changes, Gap> {
        Changes::bpf_among(ring_bytes, netns.as_slice())
    }

    /// The BPF program, restricted to these network namespaces if any are given.
    ///
    /// # Errors
    /// As [`Changes::bpf`].
    pub fn bpf_among(ring_bytes: usize, netns: &[u32]) -> Result<Changes, Gap> {
        match Tracer::open_among(ring_bytes, netns) {
            Ok(tracer) => Ok(Changes::Bpf(Box::new(tracer))),
            Err(why) => Err(Gap::new(Missing::Trace(Some(Source::Bpf)), Why::Error(why.to_string()), why.way_out())),
        }
    }

    /// The kernel's trace file system; with `ends`, cookies and traffic are told of sockets that end. The filter is one of
    /// the kernel's event filters.
    ///
    /// # Errors
    /// One line why it cannot be used here, with the way out.
    pub fn tracefs(ring_bytes: usize, ends: bool, filter: Option<&str>) -> Result<Changes, Gap> {
        match Tracefs::open(ring_bytes, ends, filter) {
            Ok(tracer) => Ok(Changes::Tracefs(Box::new(tracer))),
            Err(why) => {
                Err(Gap::new(Missing::Trace(Some(Source::Tracefs)), Why::Error(why.to_string()), why.way_out()))
            }
        }
    }

    /// Differences of dumps taken this often.
    ///
    /// # Errors
    /// When no dump can be taken.
    pub fn poll(live: Live, interval: Duration) -> Result<Changes, Error> {
        Ok(Changes::Poll(Box::new(Poll::begin(live, interval)?)))
    }

    /// The key that JSON prints.
    #[must_use]
    pub fn via(&self) -> &'static str {
        match self {
            Changes::Bpf(_) => "bpf",
            Changes::Tracefs(_) => "tracefs",
            Changes::Poll(_) => "poll",
        }
    }

    /// What this source cannot see.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        match self {
            Changes::Bpf(tracer) => tracer.processes_unknown().map(without_processes).into_iter().collect(),
            Changes::Tracefs(tracer) => {
                let mut gaps = vec![Gap::new(Missing::TraceNetns, Why::Tracepoint, WayOut::UseBpf)];
                gaps.extend(tracer.processes_unknown().map(without_processes));
                gaps
            }
            Changes::Poll(poll) => poll.gaps(),
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
            Changes::Tracefs(tracer) => {
                tracer.next(patience, each)?;
                Ok(Vec::new())
            }
            Changes::Poll(poll) => poll.next(patience, each),
        }
    }

    /// What was lost since the beginning; a poller does not know what it did not see.
    #[must_use]
    pub fn lost(&self) -> Option<Lost> {
        match self {
            Changes::Bpf(tracer) => Some(tracer.lost()),
            Changes::Tracefs(tracer) => Some(Lost { ring_full: tracer.lost(), nested: None }),
            Changes::Poll(_) => None,
        }
    }

    /// Connections that a poller never saw, as the kernel told when their sockets were destroyed; `None` where that is not
    /// known, and from sources that see every change.
    #[must_use]
    pub fn unseen(&self) -> Option<u64> {
        match self {
            Changes::Bpf(_) | Changes::Tracefs(_) => None,
            Changes::Poll(poll) => poll.unseen(),
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
        netns: NetnsId::new(r.netns.into()),
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
