//! Changes of state as the differences of two samples, for users without any privilege.
//!
//! Input: a source of dumps, and the interval. Output: [`Transition`]s, and how many connections were never seen. Not here: a
//! change that no sample shows.
//!
//! Between samples the kernel's destroy events are read ([`Farewells`]): they have the bytes of a connection, and count
//! those that lived and ended between two samples.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use rustc_hash::FxHashMap;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::change_source::{Lost, Replay, Request, Scope, Source};
use super::clock::monotonic_ns;
use super::error::Error;
use super::live::{Live, SourceChoice};
use super::netlink::destroyed::{DestroyEvent, Farewells};
use super::proc::ProcRoot;
use super::query::Query;
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::transition::{Traffic, Transition, Via};
use crate::model::{Endpoint, Event, Family, Gap, NetnsId, RowKind, Socket, State, StateSet};

/// A socket from one sample to the next, in its namespace: its cookie, or its addresses where the source has no cookies.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Identity {
    Cookie(Option<NetnsId>, u64),
    Tuple(Tuple),
}

type Tuple = (Option<NetnsId>, Endpoint, Endpoint);

struct Seen {
    round: u64,
    state: State,
    netns: Option<NetnsId>,
    family: Family,
    local: Endpoint,
    peer: Endpoint,
    traffic: Option<Traffic>,
}

/// The state of a poller.
pub struct Poll {
    live: Live,
    /// Of a recording: where the next snapshot comes from.
    replay: Option<Replay>,
    ended: bool,
    interval: Duration,
    due_ns: u64,
    known: FxHashMap<Identity, Seen>,
    /// TIME_WAIT sockets that are new in the last sample: made without a cookie, they do not have that of the connection.
    timewait: FxHashMap<Tuple, Identity>,
    round: u64,
    troubles: Vec<Gap>,
    destroy_events: Vec<Farewells>,
    /// Destroyed connections that no sample has shown so far; the next may show their TIME_WAIT.
    strays: FxHashMap<Tuple, Option<Traffic>>,
    unseen: u64,
    /// Destroy events that found no room, as far as the kernel counts them.
    missed: u64,
}

impl Poll {
    /// Takes the first sample.
    ///
    /// # Errors
    /// When no dump can be taken.
    pub fn begin(request: &mut Request) -> Result<Poll, Error> {
        let live = match request.live.take() {
            Some(live) => live,
            None => Live::open(SourceChoice::Auto, ProcRoot::default())?,
        };
        // Without them traffic, and what no sample shows, stay unknown.
        let destroy_events: Option<Vec<Farewells>> = match live.recorded() {
            Some(_) => None,
            None => live.spaces().map(|space| open(space).ok()).collect(),
        };
        let mut poll = Poll {
            destroy_events: destroy_events.unwrap_or_default(),
            live,
            replay: request.replay.take(),
            ended: false,
            interval: request.interval,
            due_ns: 0,
            known: FxHashMap::default(),
            timewait: FxHashMap::default(),
            round: 0,
            troubles: Vec::new(),
            strays: FxHashMap::default(),
            unseen: 0,
            missed: 0,
        };
        poll.sample(&mut |_| ())?;
        // Sockets destroyed before the first dump are not counted as unseen.
        (poll.unseen, poll.troubles) = (0, Vec::new());
        Ok(poll)
    }

    /// Waits, and applies the destroy events that come meanwhile. False when a signal came.
    fn wait(&mut self, time: Duration) -> io::Result<bool> {
        let time =
            Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() };
        let mut fds: Vec<PollFd<'_>> = self.destroy_events.iter().map(|f| PollFd::new(f, PollFlags::IN)).collect();
        match poll(&mut fds, Some(&time)) {
            Err(rustix::io::Errno::INTR) => return Ok(false),
            other => other?,
        };
        self.apply_destroyed()?;
        Ok(true)
    }

    /// Applies the destroy events so far.
    fn apply_destroyed(&mut self) -> io::Result<()> {
        let Poll { destroy_events, known, timewait, strays, unseen, .. } = self;
        for source in destroy_events {
            source.drain(&mut |event| apply(&event, known, timewait, strays, unseen))?;
        }
        let missed: u64 = self.destroy_events.iter().filter_map(Farewells::lost).sum();
        if missed > self.missed {
            self.troubles.push(Gap::new(
                Missing::DestroyEvents { lost: missed - self.missed },
                Why::BufferFull,
                WayOut::ShorterInterval,
            ));
            self.missed = missed;
        }
        Ok(())
    }

    /// Follows the namespaces that came, and leaves those that ended.
    fn look_again(&mut self) {
        let news = self.live.look_again();
        if news.is_empty() {
            return;
        }
        self.troubles.extend(news);
        let had_events = !self.destroy_events.is_empty();
        let live = &self.live;
        self.destroy_events.retain(|of| live.spaces().any(|space| space.inode == of.netns()));
        for space in live.spaces().filter(|_| had_events) {
            if self.destroy_events.iter().any(|of| of.netns() == space.inode) {
                continue;
            }
            match open(space) {
                Ok(events) => self.destroy_events.push(events),
                // A part of them would be taken for all.
                Err(_) => return self.destroy_events.clear(),
            }
        }
    }

    /// Takes a sample and reports what differs from the one before.
    fn sample(&mut self, each: &mut dyn FnMut(Event)) -> Result<(), Error> {
        self.apply_destroyed().map_err(|e| Error::new("read destroy events of sockets", "", e))?;
        self.look_again();
        let (at_ms, now_ns) = self.live.clock();
        self.due_ns = now_ns + u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        let recorded = self.live.recorded().and_then(|_| i64::try_from(at_ms).ok());
        let at_us = recorded.map_or_else(|| jiff::Timestamp::now().as_microsecond(), |ms| ms.saturating_mul(1000));
        self.round += 1;
        self.timewait.clear();
        let (round, known, timewait, strays) = (self.round, &mut self.known, &mut self.timewait, &mut self.strays);
        let change = |id: Identity, seen: &Seen, old: Option<State>, new: State| Transition {
            at_us,
            monotonic_ns: now_ns,
            netns: seen.netns,
            cookie: match id {
                Identity::Cookie(_, cookie) => Some(cookie),
                Identity::Tuple(_) => None,
            },
            address: None,
            family: seen.family,
            local: seen.local,
            peer: seen.peer,
            old,
            new,
            by: None,
            by_call: false,
            traffic: seen.traffic.filter(|_| new == State::Close),
            error: None,
        };
        let mut gaps = Vec::new();
        self.live.sockets(&Query::states(StateSet::ALL), &mut gaps, &mut |s| {
            let id = identity(s);
            let before = known.get(&id);
            let state = before.map(|seen| seen.state);
            let mut traffic = before.and_then(|seen| seen.traffic);
            if before.is_none() && s.kind == RowKind::TimeWaitMini {
                let tuple = (s.netns, s.local, s.peer);
                match strays.remove(&tuple) {
                    Some(carried) => traffic = carried,
                    None => drop(timewait.insert(tuple, id)),
                }
            }
            let (netns, family, local, peer) = (s.netns, s.family, s.local, s.peer);
            let now = Seen { round, state: s.state, netns, family, local, peer, traffic };
            if state != Some(s.state) {
                each(Event::Change(change(id, &now, state, s.state)));
            }
            known.insert(id, now);
            ControlFlow::Continue(())
        })?;
        self.unseen += strays.len() as u64;
        strays.clear();
        // What an incomplete dump does not show may still be there.
        if gaps.is_empty() {
            known.retain(|id, seen| {
                let there = seen.round == round;
                if !there {
                    each(Event::Change(change(*id, seen, Some(seen.state), State::Close)));
                }
                there
            });
        }
        self.troubles.extend(gaps);
        Ok(())
    }
}

/// The destroy events of a namespace.
fn open(space: &super::netns::NetnsHandle) -> Result<Farewells, Error> {
    space.inside(|| Farewells::open(space.inode)).and_then(|opened| opened)
}

impl Source for Poll {
    fn via(&self) -> Via {
        Via::Poll
    }

    fn source(&self) -> &'static str {
        self.live.source().key()
    }

    fn scope(&self) -> Scope {
        Scope::Among(self.live.spaces().map(|space| space.inode).collect())
    }

    fn gaps(&self) -> Vec<Gap> {
        // What was recorded cannot be traced any more.
        let way_out = if self.replay.is_some() { WayOut::RecordOftener } else { WayOut::BpfOrInterval };
        let why = Why::Sampled { interval_ms: self.interval.as_millis() };
        let mut gaps = vec![Gap::new(Missing::ChangesBetweenSamples, why, way_out)];
        gaps.extend(self.live.gaps(&Query::states(StateSet::ALL)));
        gaps.extend(self.live.lacks());
        gaps
    }

    /// Without patience it takes a sample at once.
    fn drain(&mut self, patience: Duration, each: &mut dyn FnMut(Event)) -> io::Result<Vec<Gap>> {
        if let Some(replay) = &mut self.replay {
            let Some(snapshot) = replay()? else {
                self.ended = true;
                return Ok(Vec::new());
            };
            self.live.turn_to(snapshot);
            self.sample(each).map_err(io::Error::other)?;
            return Ok(std::mem::take(&mut self.troubles));
        }
        let mut left = patience;
        loop {
            let due = Duration::from_nanos(self.due_ns.saturating_sub(monotonic_ns()));
            if patience.is_zero() || due.is_zero() {
                break;
            }
            if left.is_zero() {
                return Ok(Vec::new());
            }
            let before = monotonic_ns();
            // A signal ends the wait.
            if !self.wait(due.min(left))? {
                return Ok(Vec::new());
            }
            left = left.saturating_sub(Duration::from_nanos(monotonic_ns().saturating_sub(before)));
        }
        self.sample(each).map_err(io::Error::other)?;
        Ok(std::mem::take(&mut self.troubles))
    }

    fn lost(&self) -> Option<Lost> {
        None
    }

    fn has_ended(&self) -> bool {
        self.ended
    }

    /// `None` if the kernel sends no destroy events, or had no room for one.
    fn unseen(&self) -> Option<u64> {
        (!self.destroy_events.is_empty() && self.missed == 0).then_some(self.unseen)
    }
}

/// Gives the traffic of a destroyed socket to the connection that it was.
fn apply(
    f: &DestroyEvent,
    known: &mut FxHashMap<Identity, Seen>,
    timewait: &mut FxHashMap<Tuple, Identity>,
    strays: &mut FxHashMap<Tuple, Option<Traffic>>,
    unseen: &mut u64,
) {
    let traffic = |last: State| Traffic {
        sent_bytes: f.sent_bytes,
        // From here on the peer's FIN has come, and counts as a byte.
        received_bytes: Some(f.received_bytes.saturating_sub(u64::from(matches!(
            last,
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait
        )))),
    };
    let traffic = |last: State| (!f.cleared).then(|| traffic(last));
    if let Some(seen) = known.get_mut(&Identity::Cookie(f.netns, f.cookie)) {
        seen.traffic = traffic(seen.state);
        return;
    }
    if !f.connected {
        return;
    }
    let tuple = (f.netns, f.local, f.peer);
    if let Some(seen) = timewait.remove(&tuple).and_then(|id| known.get_mut(&id)) {
        seen.traffic = traffic(seen.state);
        return;
    }
    // Without addresses no TIME_WAIT can be found for it, and of two with the same addresses one is never seen.
    let lost = f.peer.port == 0 || strays.insert(tuple, traffic(State::TimeWait)).is_some();
    *unseen += u64::from(lost);
}

fn identity(s: &Socket) -> Identity {
    match s.cookie {
        Some(cookie) if cookie != 0 => Identity::Cookie(s.netns, cookie),
        _ => Identity::Tuple((s.netns, s.local, s.peer)),
    }
}
