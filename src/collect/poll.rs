//! Changes of state as the differences of two looks, without any right.
//!
//! Comes in: a source of dumps and how often to look. Goes out: [`Transition`]s, and how many connections were never seen.
//! Never here: a change that no look shows.
//!
//! Between looks the kernel's last words are listened to ([`Farewells`]): they tell what a connection carried, and of
//! connections that lived and ended between two looks that there were any.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use rustc_hash::FxHashMap;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::clock::monotonic_ns;
use super::error::Error;
use super::live::Live;
use super::netlink::destroyed::{DestroyEvent, Farewells};
use super::query::Query;
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::transition::{Traffic, Transition};
use crate::model::{Endpoint, Family, Gap, NetnsId, RowKind, Socket, State, StateSet};

/// A socket from one look to the next, in its namespace: its cookie, or its addresses where the source has no cookies.
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
    interval: Duration,
    due_ns: u64,
    known: FxHashMap<Identity, Seen>,
    /// TIME_WAIT objects that the last look showed for the first time: made without a cookie, they do not have that of the
    /// socket that they remain of.
    remains: FxHashMap<Tuple, Identity>,
    round: u64,
    troubles: Vec<Gap>,
    farewells: Vec<Farewells>,
    /// Farewells of connections that no look has shown so far; the next may show what remains of them.
    strays: FxHashMap<Tuple, Option<Traffic>>,
    unseen: u64,
    /// Farewells that found no room, as far as that was told.
    missed: u64,
}

impl Poll {
    /// Looks for the first time.
    ///
    /// # Errors
    /// When no dump can be taken.
    pub fn begin(live: Live, interval: Duration) -> Result<Poll, Error> {
        let open =
            |space: &super::netns::NetnsHandle| space.inside(|| Farewells::open(space.inode)).and_then(|opened| opened);
        // Without them traffic and what no look shows stay unknown.
        let farewells: Option<Vec<Farewells>> = live.spaces().map(|space| open(space).ok()).collect();
        let mut poll = Poll {
            farewells: farewells.unwrap_or_default(),
            live,
            interval,
            due_ns: 0,
            known: FxHashMap::default(),
            remains: FxHashMap::default(),
            round: 0,
            troubles: Vec::new(),
            strays: FxHashMap::default(),
            unseen: 0,
            missed: 0,
        };
        poll.look(&mut |_| ())?;
        // Whose end was before the first look is none that a look could have shown.
        (poll.unseen, poll.troubles) = (0, Vec::new());
        Ok(poll)
    }

    /// Where it looks.
    #[must_use]
    pub fn place(&self) -> String {
        match self.live.spaces().len() {
            1 => "one network namespace".into(),
            n => format!("{n} network namespaces"),
        }
    }

    /// What this source cannot see.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = vec![Gap::new(
            Missing::ChangesBetweenSamples,
            Why::Sampled { interval_ms: self.interval.as_millis() },
            WayOut::BpfOrInterval,
        )];
        gaps.extend(self.live.gaps(&Query::states(StateSet::ALL)));
        gaps.extend(self.live.lacks());
        gaps
    }

    /// Waits up to `patience` for the next look, and hands out what it shows. With no patience it looks at once.
    ///
    /// # Errors
    /// When the source fails.
    pub fn next(&mut self, patience: Duration, each: &mut dyn FnMut(Transition)) -> io::Result<Vec<Gap>> {
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
            if !self.listen(due.min(left))? {
                return Ok(Vec::new());
            }
            left = left.saturating_sub(Duration::from_nanos(monotonic_ns().saturating_sub(before)));
        }
        self.look(each).map_err(io::Error::other)?;
        Ok(std::mem::take(&mut self.troubles))
    }

    /// Connections that were never seen; `None` if the kernel does not tell, or had no room to.
    #[must_use]
    pub fn unseen(&self) -> Option<u64> {
        (!self.farewells.is_empty() && self.missed == 0).then_some(self.unseen)
    }

    /// Waits, and takes what is said meanwhile. False when a signal came.
    fn listen(&mut self, time: Duration) -> io::Result<bool> {
        let time =
            Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() };
        let mut fds: Vec<PollFd<'_>> = self.farewells.iter().map(|f| PollFd::new(f, PollFlags::IN)).collect();
        match poll(&mut fds, Some(&time)) {
            Err(rustix::io::Errno::INTR) => return Ok(false),
            other => other?,
        };
        self.hear()?;
        Ok(true)
    }

    /// Takes what was said so far.
    fn hear(&mut self) -> io::Result<()> {
        let Poll { farewells, known, remains, strays, unseen, .. } = self;
        for farewell in farewells {
            farewell.drain(&mut |f| take(&f, known, remains, strays, unseen))?;
        }
        let missed: u64 = self.farewells.iter().filter_map(Farewells::lost).sum();
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

    /// Looks once and hands out what is different from the look before.
    fn look(&mut self, each: &mut dyn FnMut(Transition)) -> Result<(), Error> {
        self.hear().map_err(|e| Error::new("listen to destroyed sockets", "", e))?;
        let now_ns = monotonic_ns();
        self.due_ns = now_ns + u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        let at_us = jiff::Timestamp::now().as_microsecond();
        self.round += 1;
        self.remains.clear();
        let (round, known, remains, strays) = (self.round, &mut self.known, &mut self.remains, &mut self.strays);
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
                    None => drop(remains.insert(tuple, id)),
                }
            }
            let (netns, family, local, peer) = (s.netns, s.family, s.local, s.peer);
            let now = Seen { round, state: s.state, netns, family, local, peer, traffic };
            if state != Some(s.state) {
                each(change(id, &now, state, s.state));
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
                    each(change(*id, seen, Some(seen.state), State::Close));
                }
                there
            });
        }
        self.troubles.extend(gaps);
        Ok(())
    }
}

/// Finds out whose last words these are.
fn take(
    f: &DestroyEvent,
    known: &mut FxHashMap<Identity, Seen>,
    remains: &mut FxHashMap<Tuple, Identity>,
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
    if let Some(seen) = remains.remove(&tuple).and_then(|id| known.get_mut(&id)) {
        seen.traffic = traffic(seen.state);
        return;
    }
    // Without addresses nothing can remain of it, and with those of another that one has nothing left.
    let lost = f.peer.port == 0 || strays.insert(tuple, traffic(State::TimeWait)).is_some();
    *unseen += u64::from(lost);
}

fn identity(s: &Socket) -> Identity {
    match s.cookie {
        Some(cookie) if cookie != 0 => Identity::Cookie(s.netns, cookie),
        _ => Identity::Tuple((s.netns, s.local, s.peer)),
    }
}
