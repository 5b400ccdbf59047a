//! What became of connects, and who was reset and repeated to: events summed up by destination and process.
//!
//! Input: [`Event`]s in order. Output: a [`TracedInterval`]. Bounded: events of groups beyond the limit are only counted.

mod destinations;
mod ends;
mod listeners;
mod settled;
mod strays;

use std::hash::Hash;
use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

pub(super) use self::destinations::merge;
use self::destinations::{adopt, order};
use self::ends::{BRIEF_BYTES, CutOff, End, EndSums, Silent, count};
pub(super) use self::settled::most_unserved_first;
use self::strays::Strays;
use crate::aggregate::service::{Beside, Conn, Sides, Whose};
use crate::model::event::{ResetReceived, ResetSent, Retransmit, Sighting};
use crate::model::traced::{ConnectFailure, Connects, Program, Retransmits, SentFor, TracedInterval, Waited};
use crate::model::transition::{Actor, By, Transition};
use crate::model::{Endpoint, Errno, Event, LastError, NetnsId, State};
use listeners::Listeners;

/// The reset of a socket that ends comes sooner, as far as events of several cores are out of order (policy).
const FOLLOWS_NS: u64 = 1_000_000_000;

/// Groups of each kind, and attempts that wait: a few hundred bytes each.
const GROUPS: usize = 8192;
/// Who closes sooner after the handshake has not waited for an answer: what it sent needs none.
const WAITED_NS: u64 = 1_000_000_000;
/// No server has so short a limit on the time until a request comes (policy).
const SOON_NS: u64 = 300_000_000;
/// What ended sooner after its handshake has not been used before, and a pause of the other length lies between the peer's FIN
/// and the write that meets it: who goes on sending meets it sooner (policy).
const USED_NS: u64 = 500_000_000;
const REUSED_NS: u64 = 20_000_000;
/// No timeout of a program is so short, and no answer takes so little on its way: what ended so was told something.
const AT_ONCE_NS: u64 = 10_000_000;
/// The kernel repeats a SYN after a second (`TCP_TIMEOUT_INIT`); its timer is never early.
const REPEATED_NS: u64 = 1_000_000_000;

type Place = (Option<NetnsId>, Endpoint);
/// The connection's service, why a reset was sent (`None`: it came), and the process that sent it, or whose connection it ended.
type ResetGroup = (Whose, Option<SentFor>, Option<u32>);

/// An attempt that waits for its answer.
struct Attempt {
    begun_ns: u64,
    actor: Option<Actor>,
    /// A RST came for it.
    reset: bool,
}

#[derive(Default)]
struct Sums {
    actor: Option<Actor>,
    succeeded: u64,
    succeeded_late: u64,
    failed: FxHashMap<ConnectFailure, u64>,
    waited_ns: Option<(u64, u64)>,
    failed_at_ns: Option<(u64, u64)>,
    pauses_ns: Option<(u64, u64)>,
    succeeded_since: u64,
    waits: FxHashMap<ConnectFailure, Waits>,
    answered_ns: Option<(u64, u64)>,
    succeeded_at_ns: Option<(u64, u64)>,
}

/// The shortest and the longest of those that began since the trace did, and the least that the longest of the others waited.
#[derive(Clone, Copy, Default)]
struct Waits {
    ns: Option<(u64, u64)>,
    at_least_ns: Option<u64>,
}

#[derive(Default)]
struct ResetSums {
    actor: Option<Actor>,
    count: u64,
    open: u64,
    unanswered: u64,
    after_fin: u64,
    in_use: u64,
    fresh: u64,
    /// Those that were sent to after the peer's FIN: late where the service is here.
    late: u64,
    /// Those that were cut off before they had answered, or got an answer: each is one at one end only.
    silent: u64,
    waited: u64,
}

#[derive(Default)]
struct Repeated {
    handshake: u64,
    segments: u64,
    closing: u64,
    failed: u64,
}

/// Who closed a socket, and when it ended.
struct Closer {
    actor: Actor,
    gone_ns: Option<u64>,
}

/// Sums since the beginning.
#[derive(Default)]
pub struct Outcomes {
    /// Namespaces that are watched; events of others are ignored. Empty: all.
    netns: FxHashSet<Option<NetnsId>>,
    began_ns: u64,
    /// By the socket's address in the kernel.
    waiting: FxHashMap<u64, Attempt>,
    connects: FxHashMap<(Place, Option<u32>), Sums>,
    resets: FxHashMap<ResetGroup, ResetSums>,
    /// Sockets that their process cut off while an answer was due, of either end, or soon after the handshake: their resets follow.
    cut_off: FxHashMap<u64, CutOff>,
    /// Who closed a socket that may still be sent to: the kernel answers that, in nobody's name.
    closers: FxHashMap<u64, Closer>,
    /// When the peer had closed, by the socket's address in the kernel.
    fins: FxHashMap<u64, u64>,
    repeated: FxHashMap<(Option<NetnsId>, IpAddr), Repeated>,
    /// What became of listeners, and who came to them.
    listeners: Listeners,
    /// When connections were made, by either end, by the socket's address in the kernel.
    opened: FxHashMap<u64, u64>,
    sides: Sides,
    /// By service, and the process that had connected.
    ends: FxHashMap<(Whose, Option<u32>), EndSums>,
    closed_here_first: u64,
    strays: Strays,
    not_grouped: u64,
}

impl Outcomes {
    /// Begins now, on the monotonic clock.
    #[must_use]
    pub fn new(netns: impl IntoIterator<Item = Option<NetnsId>>, began_ns: u64) -> Outcomes {
        Outcomes { netns: netns.into_iter().collect(), began_ns, ..Outcomes::default() }
    }

    /// Another namespace that is watched.
    pub fn watch(&mut self, netns: Option<NetnsId>) {
        self.netns.insert(netns);
    }

    /// Adds one event.
    pub fn add(&mut self, event: &Event) {
        match event {
            Event::Change(t) if self.is_watched(t.netns) => self.changed(t),
            Event::ResetSent(ResetSent { at, reason }) if self.is_watched(at.netns) => {
                self.strays.add(at, *reason);
                self.reset(at, Some(reason.map_or(SentFor::Unknown, SentFor::Reason)));
            }
            Event::ResetReceived(ResetReceived { at }) if self.is_watched(at.netns) => {
                if at.state != Some(State::SynSent) {
                    self.reset(at, None);
                } else if let Some(attempt) = at.address.and_then(|address| self.waiting.get_mut(&address)) {
                    attempt.reset = true;
                }
            }
            Event::Retransmit(again) if self.is_watched(again.at.netns) => self.repeated(again),
            _ => {}
        }
    }

    fn is_watched(&self, netns: Option<NetnsId>) -> bool {
        self.netns.is_empty() || self.netns.contains(&netns)
    }

    fn changed(&mut self, t: &Transition) {
        let actor = t.by.as_ref().and_then(By::actor).copied();
        match (t.old, t.new) {
            (Some(State::Close), State::SynSent) => {
                let Some(address) = t.address else { return };
                if self.waiting.len() >= GROUPS {
                    self.not_grouped += 1;
                    return;
                }
                self.waiting.insert(address, Attempt { begun_ns: t.monotonic_ns, actor, reset: false });
                self.sides.forget(address);
            }
            (Some(State::SynSent), new) => {
                if let Some(address) = t.address.filter(|_| new == State::Established && self.opened.len() < GROUPS) {
                    self.opened.insert(address, t.monotonic_ns);
                }
                let attempt = t.address.and_then(|address| self.waiting.remove(&address));
                if let Some(address) = t.address.filter(|_| new == State::Established) {
                    self.sides.began(address, false, attempt.as_ref().and_then(|a| a.actor), t.monotonic_ns);
                }
                let failure = (new == State::Close).then(|| failure(t, attempt.as_ref()));
                // Who closes a socket that began before the trace is who had opened it, or nobody knows.
                let given_up =
                    actor.filter(|_| matches!(failure, Some(ConnectFailure::GivenUp | ConnectFailure::AtOnce)));
                let caller = attempt.as_ref().and_then(|a| a.actor).or(given_up);
                self.ended(t, caller, attempt.map(|a| a.begun_ns), failure);
            }
            (Some(State::SynRecv), State::Established) => self.came(t),
            (Some(State::Listen), State::Close) => self.listeners.end(t, &mut self.not_grouped),
            (Some(State::Established | State::SynRecv), State::FinWait1) => {
                self.closed_here_first += 1;
                if let Some((address, actor)) = t.address.zip(actor).filter(|_| self.closers.len() < GROUPS) {
                    self.closers.insert(address, Closer { actor, gone_ns: None });
                }
            }
            (Some(State::Established), State::CloseWait) => {
                if let Some(address) = t.address.filter(|_| self.fins.len() < GROUPS) {
                    self.fins.insert(address, t.monotonic_ns);
                }
            }
            (Some(State::Established | State::CloseWait), State::Close) => match t.error {
                Some(LastError::Nothing) => self.closed_silently(t),
                Some(LastError::Errno(Errno::ECONNRESET | Errno::EPIPE)) => self.cut(t),
                _ => {}
            },
            (Some(old @ (State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck)), State::Close) => {
                self.closed(t, old != State::LastAck);
            }
            _ => {}
        }
        if let Some(address) = t.address.filter(|_| t.new == State::Close) {
            self.opened.remove(&address);
            self.sides.ended(address, t.monotonic_ns);
            self.fins.remove(&address);
            if let Some(closer) = self.closers.get_mut(&address) {
                closer.gone_ns = Some(t.monotonic_ns);
            }
        }
        if let Some(address) = t.address.filter(|_| t.new == State::Established) {
            self.closers.remove(&address);
        }
    }

    /// A connection ended with FINs of both sides, or with ours alone.
    fn closed(&mut self, t: &Transition, we_first: bool) {
        let Some((sent, received)) = t.traffic.and_then(|of| Some((of.sent_bytes, of.received_bytes?))) else { return };
        let seen = |map: &FxHashMap<u64, u64>| t.address.and_then(|address| map.get(&address)).copied();
        let opened_ns = seen(&self.opened);
        let since = |ns: u64| opened_ns.map(|opened| ns.saturating_sub(opened));
        // The peer's FIN may have been here for long.
        let fin_ns = if we_first { None } else { seen(&self.fins) };
        let at_once = since(fin_ns.unwrap_or(t.monotonic_ns)).is_some_and(|ns| ns < SOON_NS);
        if sent + received == 0 && !at_once {
            return;
        }
        let lately = since(t.monotonic_ns).is_some_and(|ns| ns < WAITED_NS);
        let (whose, actor) = self.whose(Conn::new(t.netns, t.local, t.peer), t.address, t.old);
        // Who sent the first FIN is the only process that is known of what came.
        let closer = || self.closers.get(&t.address.filter(|_| we_first)?).map(|closer| closer.actor);
        let actor = actor.or_else(closer);
        let key = (whose, actor.map(|a| a.pid));
        let Some(sums) = group(&mut self.ends, key, &mut self.not_grouped) else { return };
        sums.actor = actor;
        count(&mut sums.called, End { asked: sent, answered: received, service_first: !we_first, lately, at_once });
        count(&mut sums.served, End { asked: received, answered: sent, service_first: we_first, lately, at_once });
    }

    /// The service of a connection, and the process that opened it here. With many groups, all processes are one, and what the trace
    /// did not see begin is told at once.
    fn whose(&self, conn: Conn, address: Option<u64>, state: Option<State>) -> (Whose, Option<Actor>) {
        let (whose, actor) = self.sides.whose(conn, address, state);
        match whose {
            _ if self.resets.len().max(self.ends.len()) < GROUPS / 2 => (whose, actor),
            Whose::Untold(conn) => (Whose::Told(conn.guessed()), None),
            Whose::Told(_) => (whose, None),
        }
    }

    fn came(&mut self, t: &Transition) {
        if let Some(address) = t.address {
            if self.opened.len() < GROUPS {
                self.opened.insert(address, t.monotonic_ns);
            }
            self.sides.began(address, true, None, t.monotonic_ns);
        }
        self.listeners.came(t, &mut self.not_grouped);
    }

    fn ended(&mut self, t: &Transition, caller: Option<Actor>, begun_ns: Option<u64>, failure: Option<ConnectFailure>) {
        let key = ((t.netns, t.peer.normalised()), caller.map(|a| a.pid));
        let began_ns = self.began_ns;
        let Some(sums) = group(&mut self.connects, key, &mut self.not_grouped) else { return };
        sums.actor = sums.actor.or(caller);
        let at = t.monotonic_ns;
        let waited = begun_ns.map(|begun| at.saturating_sub(begun));
        let Some(failure) = failure else {
            sums.succeeded += 1;
            sums.succeeded_since += 1;
            sums.succeeded_late += u64::from(waited.is_some_and(|ns| ns >= REPEATED_NS));
            sums.answered_ns = waited.map(|ns| spread(sums.answered_ns, ns)).or(sums.answered_ns);
            sums.succeeded_at_ns = Some(spread(sums.succeeded_at_ns, at));
            return;
        };
        *sums.failed.entry(failure).or_default() += 1;
        sums.succeeded_since = 0;
        if let Some((_, last)) = sums.failed_at_ns {
            sums.pauses_ns = Some(spread(sums.pauses_ns, at.saturating_sub(last)));
        }
        sums.failed_at_ns = Some(spread(sums.failed_at_ns, at));
        let waits = sums.waits.entry(failure).or_default();
        if let Some(waited) = waited {
            sums.waited_ns = Some(spread(sums.waited_ns, waited));
            waits.ns = Some(spread(waits.ns, waited));
        } else {
            waits.at_least_ns = waits.at_least_ns.max(Some(at.saturating_sub(began_ns)));
        }
    }

    /// Remembers whose process ended it while an answer was due: its own, although something had come, or that of the service
    /// that it had asked; and what ended as soon as it had begun. Its reset follows.
    fn closed_silently(&mut self, t: &Transition) {
        let Some((sent, received)) = t.traffic.and_then(|of| Some((of.sent_bytes, of.received_bytes?))) else { return };
        let silent = match (sent, received) {
            (0, 1..) => Some(Silent::Server),
            (1.., 0) => Some(Silent::Client),
            _ => None,
        };
        let opened_ns = t.address.and_then(|address| self.opened.get(&address));
        let fresh = sent <= BRIEF_BYTES && opened_ns.is_some_and(|ns| t.monotonic_ns.saturating_sub(*ns) < WAITED_NS);
        let is_known = silent.is_some() || fresh;
        if let Some(address) = t.address.filter(|_| is_known && self.cut_off.len() < GROUPS) {
            self.cut_off.insert(address, CutOff { silent, fresh, at_ns: t.monotonic_ns });
        }
    }

    /// A reset ended a connection that was open.
    fn cut(&mut self, t: &Transition) {
        let (whose, actor) = self.whose(Conn::new(t.netns, t.local, t.peer), t.address, t.old);
        let key = (whose, None, actor.map(|a| a.pid));
        let seen = |map: &FxHashMap<u64, u64>| t.address.and_then(|a| map.get(&a)).copied();
        let since = |ns: u64| t.monotonic_ns.saturating_sub(ns);
        let (opened_ns, fin_ns) = (seen(&self.opened), seen(&self.fins));
        let received = t.traffic.and_then(|of| of.received_bytes);
        // One of before the trace is older than what it saw of it.
        let is_used = received.is_some_and(|n| n > 0)
            && opened_ns.map_or(since(self.began_ns) >= USED_NS / 5, |ns| since(ns) >= USED_NS);
        let after_fin = t.old == Some(State::CloseWait);
        let Some(sums) = group(&mut self.resets, key, &mut self.not_grouped) else { return };
        sums.actor = actor;
        sums.open += 1;
        sums.after_fin += u64::from(after_fin && is_used && since(fin_ns.unwrap_or(self.began_ns)) >= REUSED_NS);
        sums.in_use += u64::from(!after_fin);
        sums.late += u64::from(after_fin);
        sums.fresh +=
            u64::from(opened_ns.is_some_and(|ns| since(ns) < WAITED_NS) && received.is_some_and(|n| n <= BRIEF_BYTES));
        let unanswered = t.traffic.is_some_and(|of| of.sent_bytes > 0) && received == Some(0);
        sums.unanswered += u64::from(unanswered);
    }

    fn reset(&mut self, at: &Sighting, sent: Option<SentFor>) {
        let (whose, opener) = self.whose(Conn::new(at.netns, at.local, at.peer), at.address, at.state);
        let of = at.address.filter(|_| sent.is_some());
        let cut_off = of.and_then(|address| self.cut_off.remove(&address));
        let silent = cut_off.as_ref().and_then(|cut| cut.silent);
        let closer = of.and_then(|address| self.closers.remove(&address)).map(|closer| closer.actor);
        let actor = at.by.as_ref().and_then(By::actor).copied().filter(|_| sent.is_some());
        let actor = actor.or(closer).or(opener);
        let key = (whose, sent, actor.map(|a| a.pid));
        if let Some(sums) = group(&mut self.resets, key, &mut self.not_grouped) {
            sums.actor = sums.actor.or(actor);
            sums.count += 1;
            sums.silent += u64::from(silent == Some(Silent::Server));
            sums.waited += u64::from(silent == Some(Silent::Client));
            sums.fresh += u64::from(cut_off.is_some_and(|cut| cut.fresh));
        }
    }

    fn repeated(&mut self, again: &Retransmit) {
        let key = (again.at.netns, again.at.peer.normalised().addr);
        let Some(sums) = group(&mut self.repeated, key, &mut self.not_grouped) else { return };
        let is_handshake = matches!(again.at.state, Some(State::SynSent | State::SynRecv));
        sums.handshake += u64::from(is_handshake);
        sums.segments += u64::from(!is_handshake);
        sums.closing += u64::from(matches!(again.at.state, Some(State::FinWait1 | State::Closing | State::LastAck)));
        sums.failed += u64::from(again.failed.is_some());
    }

    /// The sums so far.
    #[must_use]
    pub fn interval(&self, now_ns: u64, lost: u64, resets_traced: bool, beside: &Beside<'_>) -> TracedInterval {
        let mut names: FxHashMap<u32, String> = FxHashMap::default();
        let mut program = |actor: Option<Actor>| {
            let Actor { pid, comm } = actor?;
            let known = || (beside.name)(pid).unwrap_or_else(|| comm.to_string());
            Some(Program { pid, comm: names.entry(pid).or_insert_with(known).clone(), processes: 1 })
        };
        let since = |ns: u64| ns.saturating_sub(self.began_ns) / 1_000_000;
        let mut connects: Vec<Connects> = self
            .connects
            .iter()
            .map(|(((netns, to), _), sums)| Connects {
                netns: *netns,
                to: *to,
                program: program(sums.actor),
                succeeded: sums.succeeded,
                succeeded_late: Some(sums.succeeded_late),
                failed: sums.failed.iter().map(|(kind, n)| (*kind, *n)).collect(),
                waited_ms: sums.waited_ns.map(millis),
                failed_at_ms: sums.failed_at_ns.map(|(a, b)| (since(a), since(b))),
                pauses_ms: sums.pauses_ns.map(millis),
                succeeded_since: sums.succeeded_since,
                waits: waits(&sums.waits),
                answered_ms: sums.answered_ns.map(millis),
                succeeded_at_ms: sums.succeeded_at_ns.map(|(a, b)| (since(a), since(b))),
            })
            .collect();
        connects.sort_by(|a, b| order(a).cmp(&order(b)));
        adopt(&mut connects);
        connects.dedup_by(|later, first| {
            let same = (first.netns, first.to, first.comm()) == (later.netns, later.to, later.comm());
            if same {
                merge(first, later);
            }
            same
        });
        for group in &mut connects {
            group.failed.sort_by_key(|(kind, n)| (std::cmp::Reverse(*n), *kind));
        }
        let facts = self.facts(beside);
        let resets = self.resets(&facts, &mut program);
        let ends = self.ends(&facts, &mut program);
        let mut retransmits: Vec<Retransmits> = self
            .repeated
            .iter()
            .map(|((netns, peer), sums)| Retransmits {
                netns: *netns,
                peer: *peer,
                handshake: sums.handshake,
                segments: sums.segments,
                closing: sums.closing,
                failed: sums.failed,
            })
            .collect();
        retransmits.sort_by_key(|r| (std::cmp::Reverse(r.segments + r.handshake), r.netns, r.peer));
        TracedInterval {
            duration_ms: since(now_ns),
            lost,
            resets_traced,
            connects,
            resets,
            retransmits,
            ends,
            accepted: self.listeners.accepted(since),
            unlistened: self.listeners.closed(),
            closed_here_first: self.closed_here_first,
            strays: self.strays.list(),
            not_grouped: self.not_grouped,
        }
    }

    /// Begins anew; attempts that wait, and when connections were made, stay.
    pub fn restart(&mut self, now_ns: u64) {
        let (waiting, opened) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.opened));
        let (fins, mut closers) = (std::mem::take(&mut self.fins), std::mem::take(&mut self.closers));
        let (mut cut_off, sides) = (std::mem::take(&mut self.cut_off), std::mem::take(&mut self.sides));
        // No reset of theirs will come: the kernel sends it as it ends the socket.
        let is_recent = |ended_ns: u64| now_ns.saturating_sub(ended_ns) < FOLLOWS_NS;
        closers.retain(|_, closer| closer.gone_ns.is_none_or(is_recent));
        cut_off.retain(|_, cut| is_recent(cut.at_ns));
        let netns = std::mem::take(&mut self.netns);
        *self =
            Outcomes { netns, began_ns: now_ns, waiting, opened, fins, closers, cut_off, sides, ..Outcomes::default() };
    }
}

/// The least and the most, with one more value.
fn spread(so_far: Option<(u64, u64)>, value: u64) -> (u64, u64) {
    so_far.map_or((value, value), |(least, most)| (least.min(value), most.max(value)))
}

fn millis((a, b): (u64, u64)) -> (u64, u64) {
    (a / 1_000_000, b / 1_000_000)
}

fn waits(by_kind: &FxHashMap<ConnectFailure, Waits>) -> Vec<Waited> {
    let of = |(kind, w): (&ConnectFailure, &Waits)| {
        Waited::new(*kind, w.ns.map(millis), w.at_least_ns.map(|ns| ns / 1_000_000))
    };
    let mut waits: Vec<Waited> = by_kind.iter().map(of).collect();
    waits.sort_by_key(|w| w.failure);
    waits
}

/// The sums of a key; `None`: there are too many groups.
fn group<'a, K: Eq + Hash, V: Default>(map: &'a mut FxHashMap<K, V>, key: K, dropped: &mut u64) -> Option<&'a mut V> {
    if map.len() >= GROUPS && !map.contains_key(&key) {
        *dropped += 1;
        return None;
    }
    Some(map.entry(key).or_default())
}

fn failure(t: &Transition, attempt: Option<&Attempt>) -> ConnectFailure {
    match t.error {
        Some(LastError::Errno(Errno::ECONNREFUSED)) if attempt.is_none_or(|a| a.reset) => ConnectFailure::Refused,
        Some(LastError::Errno(errno)) => ConnectFailure::Errno(errno),
        // connect() found no port: the socket never had one.
        _ if t.local.port == 0 => ConnectFailure::NoPort,
        _ if attempt.is_some_and(|a| t.monotonic_ns.saturating_sub(a.begun_ns) < AT_ONCE_NS) => ConnectFailure::AtOnce,
        _ => ConnectFailure::GivenUp,
    }
}

#[cfg(test)]
mod tests;
