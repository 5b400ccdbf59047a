//! What changed between two samples of the table: arrivals, departures, and changes of state.
//!
//! Input: every row of a sample, then the end of the sample. Output: the matrix of transitions, arrivals and
//! departures, dwell times, and what was known of each row before (above all its owner). The caller supplies the
//! time of a sample.
//!
//! A row is identified by its namespace and cookie, which the kernel copies from a request to its socket
//! (`inet_csk_clone_lock`) and from a socket to its TIME_WAIT (`inet_twsk_alloc`); a source without cookies is keyed
//! by four-tuple. What happened and was undone between two samples is in [`crate::aggregate::flows`].
//!
//! Memory is bounded: above the cap only one key in 2, 4, 8... is tracked, chosen by its hash, so that tracked rows
//! are still tracked from arrival to departure, and rates can be scaled up.
#![allow(clippy::iter_over_hash_type, reason = "every entry is treated alike, in whichever order")]

use rustc_hash::{FxHashMap, FxHasher};
use std::hash::{Hash, Hasher};

pub use crate::aggregate::matrix::{Dwell, Matrix};
use crate::aggregate::owner::{OwnerId, SetId};
use crate::model::{FourTuple, NetnsId, RowKind, Socket, State};

/// Default limit of tracked rows: about 15 MB.
pub const DEFAULT_CAP: usize = 200_000;

/// Events kept per sample; more are only counted.
const EVENTS: usize = 100_000;

/// How long the rows of an earlier selection are remembered: twice the time of a TIME_WAIT.
const ATTIC_MS: u64 = 120_000;

/// Identifies a row across samples: the namespace, and the cookie or, where the source has none, a number assigned
/// to its four-tuple. Small, because every row of every sample is looked up by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    netns: Option<NetnsId>,
    id: u64,
}

impl Key {
    /// Whether it is among the one in 2^shift that are tracked.
    fn is_followed(&self, shift: u32) -> bool {
        if shift == 0 {
            return true;
        }
        let mut hasher = FxHasher::default();
        self.hash(&mut hasher);
        // The low bits of this hash choose the bucket; the middle ones are as good and independent of it.
        (hasher.finish() >> 20).trailing_zeros() >= shift
    }
}

/// Which part of a connection's life a row is, as the kernel's counters see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// LISTEN, bound, closed: no connection.
    Idle,
    /// A request: `PassiveOpens` counts it when it becomes a socket (`tcp_create_openreq_child`).
    Request,
    /// A full socket with a peer: counted by `ActiveOpens` or `PassiveOpens`.
    Connection,
    /// TIME_WAIT, or the small FIN_WAIT2 before it: counted by `TW` or `TWKilled` (`inet_twsk_schedule`).
    Remainder,
}

impl Phase {
    #[must_use]
    pub fn of(socket: &Socket) -> Phase {
        match (socket.kind, socket.state) {
            (RowKind::Request, _) => Phase::Request,
            (RowKind::TimeWaitMini, _) | (_, State::TimeWait) => Phase::Remainder,
            (RowKind::BoundInactive, _) | (_, State::Listen | State::Close | State::BoundInactive) => Phase::Idle,
            (RowKind::Full, _) => Phase::Connection,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    phase: Phase,
    /// The entry into the state was seen, not only the state.
    since_known: bool,
    /// Whether it is among the sockets that the user asked for.
    member: bool,
    /// Its owner is known from a trace.
    traced: bool,
    /// Consecutive samples without it.
    missed: u8,
    owner: OwnerId,
    seen: u32,
    since_ms: u64,
    first_ms: u64,
}

/// What is known of a row besides the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// False beyond the cap: nothing is known then.
    pub followed: bool,
    /// The dump returned this row before; it must not be counted twice.
    pub repeated: bool,
    /// The state at the previous sample; `None` for a new row.
    pub was: Option<State>,
    /// Whether it matched at the previous sample; new rows count as matching until shown otherwise.
    pub was_member: bool,
    pub owner: OwnerId,
    /// The owner was traced closing it.
    pub traced: bool,
    /// The time of this sample.
    pub seen_ms: u64,
    /// When it was first seen, and since when it has been in its state.
    pub first_ms: u64,
    pub since_ms: u64,
    /// Whether it was seen entering the state; otherwise it entered at `since_ms` or earlier.
    pub since_known: bool,
    left_after_ms: Option<u64>,
}

impl Tracked {
    /// The previous sample did not have it.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.was.is_none() && self.since_known && self.first_ms == self.seen_ms
    }
}

/// One change of one socket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StateChange {
    pub netns: Option<NetnsId>,
    pub cookie: Option<u64>,
    pub tuple: FourTuple,
    /// `None`: the previous sample did not have it.
    pub from: Option<State>,
    /// `None`: it is gone.
    pub to: Option<State>,
    /// How long it was in `from`, if it was seen entering it; accurate to one interval at either end.
    pub dwell_ms: Option<u64>,
    pub owner: OwnerId,
}

/// What one sample showed besides the rows.
#[derive(Clone, Debug, Default)]
pub struct Tick {
    /// Since the previous sample; `None` for the first.
    pub elapsed_ms: Option<u64>,
    /// Changes of the sockets that were asked for.
    pub matrix: Matrix,
    /// New connections, in any state by now, asked for or not.
    pub opened: u64,
    /// New rows in TIME_WAIT or in the small FIN_WAIT2, asked for or not.
    pub remainders: u64,
    /// Full sockets with a peer in this sample, asked for or not.
    pub connections: u64,
    /// Rows that are tracked.
    pub followed: u64,
    /// One key in 2^shift is tracked.
    pub shift: u32,
    pub events: Vec<StateChange>,
    /// Events beyond the limit.
    pub events_dropped: u64,
}

impl Tick {
    /// The factor for counts of tracked rows.
    #[must_use]
    pub fn scale(&self) -> u64 {
        1 << self.shift
    }
}

/// All tracked rows.
pub struct Tracker {
    rows: FxHashMap<Key, Entry>,
    /// Addresses of the rows, kept only where events must name them after they are gone.
    tuples: FxHashMap<Key, FourTuple>,
    /// Numbers assigned to rows without a cookie.
    numbers: FxHashMap<(Option<NetnsId>, FourTuple), u64>,
    last_number: u64,
    /// Rows have no cookies.
    numbered: bool,
    cap: usize,
    shift: u32,
    sample: u32,
    now_ms: u64,
    before_ms: Option<u64>,
    tick: Tick,
    pub dwell: [Dwell; State::SLOTS],
    /// Keep every change as an event; set it before the first sample.
    pub keep_events: bool,
    /// The kernel's hash table is so small that a dump under churn misses rows (several share a bucket, and the dump
    /// resumes by position in it): then a row is gone only when two samples miss it.
    pub tolerant: bool,
    /// Rows that were tracked under another selection, until when: what was known of them is still valid.
    retired: FxHashMap<Key, Entry>,
    attic_until_ms: u64,
    /// New rows of this sample are not arrivals: the tracked share was just raised.
    admitting: bool,
}

impl Tracker {
    #[must_use]
    pub fn new(cap: usize) -> Tracker {
        Tracker {
            rows: FxHashMap::default(),
            tuples: FxHashMap::default(),
            numbers: FxHashMap::default(),
            last_number: 0,
            numbered: false,
            cap: cap.max(2),
            shift: 0,
            sample: 0,
            now_ms: 0,
            before_ms: None,
            tick: Tick::default(),
            dwell: [Dwell::default(); State::SLOTS],
            keep_events: false,
            tolerant: false,
            retired: FxHashMap::default(),
            attic_until_ms: 0,
            admitting: false,
        }
    }

    /// An empty tracker with the same settings, for another selection. Rows that it meets again keep their owner and
    /// age; those without cookies cannot be recognised.
    #[must_use]
    pub fn renewed(self) -> Tracker {
        let mut retired = self.retired;
        if retired.len() + self.rows.len() > self.cap {
            retired.clear();
        }
        if !self.numbered {
            retired.extend(self.rows);
        }
        Tracker {
            keep_events: self.keep_events,
            tolerant: self.tolerant,
            retired,
            attic_until_ms: self.now_ms + ATTIC_MS,
            ..Tracker::new(self.cap)
        }
    }

    /// Begins a sample.
    pub fn begin(&mut self, now_ms: u64) {
        if now_ms > self.attic_until_ms {
            self.retired = FxHashMap::default();
        }
        self.before_ms = (self.sample > 0).then_some(self.now_ms);
        self.sample += 1;
        self.now_ms = now_ms.max(self.now_ms);
        let events = std::mem::take(&mut self.tick.events);
        self.tick = Tick { elapsed_ms: self.before_ms.map(|b| self.now_ms - b), events, ..Tick::default() };
        self.tick.events.clear();
        // Well below the cap again: track twice as many. The new rows that this admits are not arrivals.
        self.admitting = self.shift > 0 && self.rows.len() < self.cap / 4;
        if self.admitting {
            self.shift -= 1;
        }
    }

    fn key(&mut self, socket: &Socket) -> Key {
        let netns = socket.netns;
        if let Some(id) = socket.cookie {
            return Key { netns, id };
        }
        self.numbered = true;
        let next = self.last_number + 1;
        let id = *self.numbers.entry((netns, socket.four_tuple())).or_insert(next);
        self.last_number = self.last_number.max(id);
        Key { netns, id }
    }

    /// Takes one row and returns what was known of it.
    pub fn track(&mut self, socket: &Socket) -> Tracked {
        let key = self.key(socket);
        let mut tracked = Tracked {
            followed: false,
            repeated: false,
            was: None,
            was_member: true,
            owner: OwnerId::NOT_SOUGHT,
            traced: false,
            seen_ms: self.now_ms,
            first_ms: self.now_ms,
            since_ms: self.now_ms,
            since_known: self.sample > 1 && !self.admitting,
            left_after_ms: None,
        };
        if !key.is_followed(self.shift) {
            return tracked;
        }
        let phase = Phase::of(socket);
        let before = self.rows.get_mut(&key).map(|entry| {
            let old = *entry;
            tracked.repeated = old.seen == self.sample;
            if tracked.repeated {
                // Even if it has changed since: one row per sample, or populations and changes would not match.
                return old;
            }
            entry.missed = 0;
            entry.seen = self.sample;
            if old.state != socket.state {
                entry.since_ms = self.now_ms;
                entry.since_known = true;
            }
            entry.state = socket.state;
            entry.phase = phase;
            tracked = Tracked {
                followed: true,
                repeated: false,
                was: Some(old.state),
                was_member: old.member,
                owner: old.owner,
                traced: old.traced,
                seen_ms: self.now_ms,
                first_ms: old.first_ms,
                since_ms: entry.since_ms,
                since_known: entry.since_known,
                left_after_ms: (old.state != socket.state && old.since_known).then(|| self.now_ms - old.since_ms),
            };
            old
        });
        if before.is_none() {
            tracked.followed = true;
            if let Some(known) = self.retired.remove(&key) {
                (tracked.owner, tracked.traced, tracked.first_ms) = (known.owner, known.traced, known.first_ms);
                if known.state == socket.state {
                    (tracked.since_ms, tracked.since_known) = (known.since_ms, known.since_known);
                }
            }
            if self.keep_events {
                self.tuples.insert(key, socket.four_tuple());
            }
            self.rows.insert(
                key,
                Entry {
                    state: socket.state,
                    phase,
                    since_known: tracked.since_known,
                    member: true,
                    traced: tracked.traced,
                    missed: 0,
                    owner: tracked.owner,
                    seen: self.sample,
                    since_ms: tracked.since_ms,
                    first_ms: tracked.first_ms,
                },
            );
            if self.rows.len() > self.cap {
                self.thin_out();
            }
        }
        if tracked.repeated || self.sample == 1 || (self.admitting && before.is_none()) {
            return tracked;
        }
        let was = before.map_or(Phase::Idle, |b| b.phase);
        let counted = |p| matches!(p, Phase::Connection | Phase::Remainder);
        self.tick.opened += u64::from(counted(phase) && !counted(was));
        self.tick.remainders += u64::from(phase == Phase::Remainder && was != Phase::Remainder);
        tracked
    }

    /// Tracks only half of the keys from now on.
    fn thin_out(&mut self) {
        while self.rows.len() > self.cap && self.shift < 20 {
            self.shift += 1;
            let shift = self.shift;
            self.rows.retain(|key, _| key.is_followed(shift));
            self.tuples.retain(|key, _| key.is_followed(shift));
        }
    }

    /// Records whether the row just taken matches, and counts the change if it does.
    pub fn count(&mut self, socket: &Socket, tracked: &Tracked, member: bool) {
        if !tracked.followed || tracked.repeated {
            return;
        }
        if member != tracked.was_member {
            let key = self.key(socket);
            if let Some(entry) = self.rows.get_mut(&key) {
                entry.member = member;
            }
        }
        let newcomer = tracked.was.is_none();
        if self.sample == 1 || (self.admitting && newcomer) {
            return;
        }
        let from = tracked.was.filter(|_| tracked.was_member);
        let to = member.then_some(socket.state);
        if from == to {
            return;
        }
        if let (Some(state), Some(ms)) = (from, tracked.left_after_ms) {
            self.dwell[state.index()].add(ms);
        }
        self.tick.matrix.add(from, to, 1);
        self.event(StateChange {
            netns: socket.netns,
            cookie: socket.cookie,
            tuple: socket.four_tuple(),
            from,
            to,
            dwell_ms: tracked.left_after_ms,
            owner: tracked.owner,
        });
    }

    fn event(&mut self, event: StateChange) {
        if !self.keep_events {
            return;
        }
        if self.tick.events.len() < EVENTS {
            self.tick.events.push(event);
        } else {
            self.tick.events_dropped += 1;
        }
    }

    /// Records the owner of a row, and whether it comes from a trace.
    pub fn set_owner(&mut self, socket: &Socket, owner: OwnerId, traced: bool) {
        let key = self.key(socket);
        if let Some(entry) = self.rows.get_mut(&key) {
            entry.owner = owner;
            entry.traced = traced;
        }
    }

    /// Ends the sample: rows that it lacked are gone.
    pub fn finish(&mut self) -> &Tick {
        let (sample, now_ms, tolerant, keep) = (self.sample, self.now_ms, self.tolerant, self.keep_events);
        let (tick, dwell, tuples, numbered) = (&mut self.tick, &mut self.dwell, &mut self.tuples, self.numbered);
        let mut connections = 0;
        self.rows.retain(|key, entry| {
            if entry.seen == sample {
                connections += u64::from(entry.phase == Phase::Connection);
                return true;
            }
            if tolerant && entry.missed == 0 {
                entry.missed = 1;
                connections += u64::from(entry.phase == Phase::Connection);
                return true;
            }
            let tuple = tuples.remove(key);
            if entry.member {
                let dwell_ms = entry.since_known.then(|| now_ms - entry.since_ms);
                tick.matrix.add(Some(entry.state), None, 1);
                if let Some(ms) = dwell_ms {
                    dwell[entry.state.index()].add(ms);
                }
                if let Some(tuple) = tuple.filter(|_| tick.events.len() < EVENTS) {
                    tick.events.push(StateChange {
                        netns: key.netns,
                        cookie: (!numbered).then_some(key.id),
                        tuple,
                        from: Some(entry.state),
                        to: None,
                        dwell_ms,
                        owner: entry.owner,
                    });
                } else {
                    tick.events_dropped += u64::from(keep);
                }
            }
            false
        });
        if numbered {
            let rows = &self.rows;
            self.numbers.retain(|(netns, _), id| rows.contains_key(&Key { netns: *netns, id: *id }));
        }
        // A table more than half full, with rows coming and going, eventually doubles at a random moment, when its
        // tombstones run out: better at once.
        if self.rows.len() > self.rows.capacity() / 2 {
            self.rows.reserve(self.rows.len());
        }
        // A flood leaves a table many times larger than its content.
        if self.rows.capacity() > 4096 && self.rows.len() < self.rows.capacity() / 8 {
            self.rows.shrink_to(self.rows.len() * 2);
        }
        tick.connections = connections;
        tick.followed = self.rows.len() as u64;
        tick.shift = self.shift;
        tick
    }

    /// Takes the result of the last sample; it is returned once.
    pub fn take_tick(&mut self) -> Tick {
        std::mem::take(&mut self.tick)
    }

    /// Marks every owner that some row still has.
    pub fn mark_owners(&self, mark: &mut dyn FnMut(SetId)) {
        let rows = self.rows.values().map(|entry| entry.owner);
        let retired = self.retired.values().map(|entry| entry.owner);
        let events = self.tick.events.iter().map(|event| event.owner);
        rows.chain(retired).chain(events).filter_map(OwnerId::set).for_each(mark);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests;
