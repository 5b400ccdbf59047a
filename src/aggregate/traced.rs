//! What a trace adds to the samples: which process sent the first FIN, and what happened between two samples.
//!
//! Input: [`Transition`]s of a source that misses none, or counts what it misses. Output: sums since the start, the
//! changes since the last sample, closers. Bounded: closers beyond the bound are only counted.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::aggregate::tracker::Matrix;
use crate::model::transition::{Actor, By, Transition};
use crate::model::{Event, LastError, NetnsId, State};

/// Closers kept from one sample to the next: a few megabytes.
const CLOSERS: usize = 50_000;

/// Connections that a trace has seen since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TracedSums {
    /// Opened: what `ActiveOpens` and `PassiveOpens` count.
    pub opened: u64,
    /// Left a TIME_WAIT or small FIN_WAIT2: what `TW` and `TWKilled` count. Inferred from the state that went to
    /// CLOSE, because the kernel's tracepoint does not report it; a reset in FIN_WAIT2 counts as one where the source does
    /// not know the error of the socket.
    pub remainders: u64,
}

/// A process that closed a connection, by the cookie that the connection's timewait socket has too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloserOf {
    pub netns: Option<NetnsId>,
    pub cookie: u64,
    pub actor: Actor,
}

/// The changes since they were last taken.
#[derive(Debug, Default)]
pub struct Since {
    pub matrix: Matrix,
    pub changes: u64,
    /// Of the sockets that went to CLOSE from a state in which the FINs of both ends would have ended them: those
    /// that an error ended.
    pub cut: Matrix,
    /// Some of those did not say.
    pub unsure: bool,
}

/// What has been traced and not been taken yet.
#[derive(Debug, Default)]
pub struct Traced {
    /// Namespaces that are watched; records of others are ignored. Empty: all.
    netns: FxHashSet<Option<NetnsId>>,
    pub sums: TracedSums,
    since: Since,
    pub closers: Vec<CloserOf>,
    /// Closers beyond the bound.
    pub closers_dropped: u64,
    /// Closers of sockets that ended without a cookie, so that they match no row.
    pub closers_without_cookie: u64,
    /// Closers of sockets whose cookie is unknown until their end, by kernel address.
    nameless: FxHashMap<u64, Actor>,
}

impl Traced {
    #[must_use]
    pub fn new(netns: impl IntoIterator<Item = Option<NetnsId>>) -> Traced {
        Traced { netns: netns.into_iter().collect(), ..Traced::default() }
    }

    /// Another namespace that is watched.
    pub fn watch(&mut self, netns: Option<NetnsId>) {
        self.netns.insert(netns);
    }

    /// Adds one event.
    pub fn observe(&mut self, event: &Event) {
        if let Event::Change(change) = event {
            self.add(change);
        }
    }

    /// Adds one change.
    pub fn add(&mut self, t: &Transition) {
        use State::{Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent};
        if !self.netns.is_empty() && !self.netns.contains(&t.netns) {
            return;
        }
        self.since.changes += 1;
        self.since.matrix.add(t.old, Some(t.new), 1);
        let cut = matches!(t.error, Some(LastError::Errno(_)));
        if let (Some(FinWait2 | Closing | LastAck), Close) = (t.old, t.new) {
            self.since.cut.add(t.old, Some(Close), u64::from(cut));
            self.since.unsure |= t.error.is_none();
        }
        match (t.old, t.new) {
            (Some(Close), SynSent) | (Some(Listen), SynRecv) => self.sums.opened += 1,
            (Some(FinWait2 | Closing), Close) if !cut => self.sums.remainders += 1,
            // Only close, shutdown or process exit does this (`tcp_close_state`).
            (Some(Established | SynRecv), FinWait1) | (Some(CloseWait), LastAck) if t.by_call => {
                if let Some(By::Process(actor)) = t.by {
                    self.closed(t, actor);
                }
            }
            _ => {}
        }
        if self.nameless.is_empty() {
            return;
        }
        match (t.old, t.new, t.address) {
            (_, Close, Some(address)) => match (self.nameless.remove(&address), t.cookie) {
                (Some(actor), Some(_)) => self.closed(t, actor),
                (Some(_), None) => self.closers_without_cookie += 1,
                (None, _) => {}
            },
            // The end of the previous socket at this address was lost.
            (Some(Close), SynSent, Some(address)) | (Some(Listen), SynRecv, Some(address)) => {
                self.nameless.remove(&address);
            }
            _ => {}
        }
    }

    fn closed(&mut self, t: &Transition, actor: Actor) {
        match (t.cookie, t.address) {
            (Some(cookie), _) if self.closers.len() < CLOSERS => {
                self.closers.push(CloserOf { netns: t.netns, cookie, actor });
            }
            (None, Some(address)) if self.nameless.len() < CLOSERS => {
                self.nameless.insert(address, actor);
            }
            (None, None) => self.closers_without_cookie += 1,
            _ => self.closers_dropped += 1,
        }
    }

    /// The closers since this was last called.
    pub fn take_closers(&mut self) -> Vec<CloserOf> {
        std::mem::take(&mut self.closers)
    }

    /// The changes since this was last called.
    pub fn take_since(&mut self) -> Since {
        std::mem::take(&mut self.since)
    }

    /// Restarts the sums; closers stay.
    pub fn restart(&mut self) {
        self.sums = TracedSums::default();
        self.take_since();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Endpoint, Errno, Family, NetnsId};

    fn change(netns: u64, cookie: u64, old: State, new: State, by: By) -> Transition {
        let at = |port| Endpoint::new([127, 0, 0, 1].into(), port);
        Transition {
            at_us: 0,
            monotonic_ns: 0,
            netns: NetnsId::new(netns),
            cookie: Some(cookie),
            address: None,
            family: Family::V4,
            local: at(40_000),
            peer: at(80),
            old: Some(old),
            new,
            by_call: matches!(by, By::Process(_)),
            by: Some(by),
            traffic: None,
            error: None,
        }
    }

    #[test]
    fn a_life_counts_once_and_its_closer_is_the_one_that_called() {
        use State::{Close, CloseWait, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent};
        let curl = || By::Process(Actor { pid: 7, comm: "curl".into() });
        let mut traced = Traced::new([NetnsId::new(1)]);
        for (cookie, old, new, by) in [
            (1, Close, SynSent, curl()),
            (2, Listen, SynRecv, By::Network),
            (2, SynRecv, Established, By::Network),
            (1, SynSent, Established, By::Network),
            (1, Established, FinWait1, curl()),
            (2, Established, CloseWait, By::Network),
            (1, FinWait1, FinWait2, By::Network),
            (2, CloseWait, LastAck, By::Process(Actor { pid: 8, comm: "nginx".into() })),
            (1, FinWait2, Close, By::Network),
            (2, LastAck, Close, By::Network),
        ] {
            traced.add(&change(1, cookie, old, new, by));
            traced.add(&change(2, cookie, old, new, by));
        }
        assert_eq!(traced.sums, TracedSums { opened: 2, remainders: 1 }, "of one namespace alone");
        let closers: Vec<(u64, u32)> = traced.take_closers().iter().map(|c| (c.cookie, c.actor.pid)).collect();
        assert_eq!(closers, [(1, 7), (2, 8)]);
        assert_eq!(traced.take_since().changes, 10);
        assert_eq!(traced.take_since().changes, 0);
        traced.restart();
        assert_eq!(traced.sums, TracedSums::default());
    }

    #[test]
    fn what_an_error_ended_left_no_remainder() {
        let end = |old, error| Transition { error, ..change(1, 1, old, State::Close, By::Network) };
        let reset = Some(LastError::Errno(Errno::ECONNRESET));
        let mut traced = Traced::default();
        for (old, error) in [
            (State::FinWait2, Some(LastError::Nothing)),
            (State::FinWait2, reset),
            (State::LastAck, reset),
            (State::Established, reset),
        ] {
            traced.add(&end(old, error));
        }
        assert_eq!(traced.sums.remainders, 1);
        let since = traced.take_since();
        let cut = |old| since.cut.get(Some(old), Some(State::Close));
        assert_eq!([cut(State::FinWait2), cut(State::LastAck), cut(State::Established)], [1, 1, 0]);
        assert!(!since.unsure);
        traced.add(&end(State::Closing, None));
        assert!(traced.take_since().unsure && traced.sums.remainders == 2);
    }

    #[test]
    fn a_cookie_that_comes_with_the_end_names_the_closer_then() {
        let curl = By::Process(Actor { pid: 7, comm: "curl".into() });
        let at = |old, new, by, cookie| Transition { address: Some(0xa0), cookie, ..change(1, 0, old, new, by) };
        let mut traced = Traced::default();
        traced.add(&at(State::Established, State::FinWait1, curl, None));
        assert_eq!(traced.take_closers(), []);
        traced.add(&at(State::FinWait2, State::Close, By::Network, Some(9)));
        assert_eq!(traced.take_closers().iter().map(|c| (c.cookie, c.actor.pid)).collect::<Vec<_>>(), [(9, 7)]);
        assert!(traced.nameless.is_empty());
    }

    #[test]
    fn a_socket_that_ends_without_a_cookie_is_counted_apart_from_those_beyond_the_bound() {
        let curl = By::Process(Actor { pid: 7, comm: "curl".into() });
        let at = |old, new, by| Transition { address: Some(0xa0), cookie: None, ..change(1, 0, old, new, by) };
        let mut traced = Traced::default();
        traced.add(&at(State::Established, State::FinWait1, curl));
        traced.add(&at(State::FinWait2, State::Close, By::Network));
        assert_eq!((traced.closers_without_cookie, traced.closers_dropped, traced.closers.len()), (1, 0, 0));
        // The end of the first is lost, and another socket reuses its address.
        traced.add(&at(State::Established, State::FinWait1, curl));
        traced.add(&at(State::Close, State::SynSent, curl));
        traced.add(&Transition { cookie: Some(9), ..at(State::FinWait2, State::Close, By::Network) });
        assert_eq!((traced.closers_without_cookie, traced.closers.len()), (1, 0));
    }

    #[test]
    fn closers_are_bounded_and_those_beyond_are_counted() {
        let mut traced = Traced::default();
        for cookie in 0..CLOSERS as u64 + 5 {
            let by = By::Process(Actor { pid: 7, comm: "ab".into() });
            traced.add(&change(1, cookie, State::Established, State::FinWait1, by));
        }
        assert_eq!((traced.closers.len(), traced.closers_dropped), (CLOSERS, 5));
    }
}
