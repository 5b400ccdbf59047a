//! Connections tracked from change to change.
//!
//! Input: [`Transition`]s in order. Output: how long each connection was in the state it leaves, and a [`Life`] for
//! each that has ended. Bounded: beyond the limit, those that changed least recently are dropped.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::model::cgroup::Identity;
use crate::model::event::{ResetReason, Sighting};
use crate::model::transition::{Actor, By, Traffic, Transition};
use crate::model::{Endpoint, Errno, Family, LastError, NetnsId, State};

/// Connections tracked at the same time; 200 bytes each.
pub const FOLLOWED: usize = 200_000;

/// Which end opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// This end called connect().
    Local(Option<Actor>),
    /// A SYN arrived at a local listener.
    Peer,
}

/// Which end closed a connection first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closer {
    /// This end sent the first FIN.
    Local(Option<Actor>),
    /// The peer did.
    Peer,
    /// No FIN came first: a reset, sent or received, or a timeout.
    Abort,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It left a TIME_WAIT object: inferred from the state that went to CLOSE, unless that was TIME_WAIT itself.
    TimeWait,
    /// The last ACK arrived: LAST_ACK went to CLOSE.
    Closed,
    /// It was aborted: a reset or a timeout.
    Cut,
    /// It was never established.
    Failed,
}

impl End {
    /// The key that JSON prints.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            End::TimeWait => "time_wait",
            End::Closed => "closed",
            End::Cut => "cut",
            End::Failed => "failed",
        }
    }
}

/// What ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The FINs of both ends; who sent the first is [`Life::closed_first`].
    Fin,
    /// This host sent a RST.
    ResetSent(Option<ResetReason>),
    /// The peer sent one to a connection.
    ResetReceived,
    /// The peer sent one in answer to the SYN.
    Refused,
    /// The process closed the socket before the handshake ended.
    GivenUp,
    /// No local port was free.
    NoPort,
    /// Any other error: a timeout, ICMP.
    Error(Errno),
}

impl EndedBy {
    /// Every key, for the schema.
    pub const KEYS: [&'static str; 7] =
        ["fin", "reset_sent", "reset_received", "refused", "given_up", "no_port", "error"];

    /// The key that JSON prints.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            EndedBy::Fin => "fin",
            EndedBy::ResetSent(_) => "reset_sent",
            EndedBy::ResetReceived => "reset_received",
            EndedBy::Refused => "refused",
            EndedBy::GivenUp => "given_up",
            EndedBy::NoPort => "no_port",
            EndedBy::Error(_) => "error",
        }
    }
}

/// A connection that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    pub at_us: i64,
    pub netns: Option<NetnsId>,
    pub cookie: Option<u64>,
    pub family: Family,
    pub local: Endpoint,
    pub peer: Endpoint,
    /// `None`: it existed before the trace.
    pub opened: Option<Opener>,
    /// `None`: not seen, or there was nothing to close.
    pub closed_first: Option<Closer>,
    /// `None`: polling saw it vanish from a state in which a connection can end in more than one way.
    pub ended: Option<End>,
    /// `None`: the source does not tell.
    pub ended_by: Option<EndedBy>,
    /// [`Life::ended`] is inferred, not observed.
    pub inferred: bool,
    /// From the first change to the last; `None` when the first was not seen.
    pub duration_ns: Option<u64>,
    /// The states in the order of entry.
    pub states: Vec<(State, u64)>,
    /// The traffic it carried; `None`: the source does not report it.
    pub traffic: Option<Traffic>,
    /// Every change was seen: each began in the state in which the previous one ended.
    pub complete: bool,
    /// Unit, container and pod of this end, where the caller knows them.
    pub identity: Option<Rc<Identity>>,
}

/// One connection that has not ended.
struct Open {
    begun_ns: u64,
    last_ns: u64,
    state: State,
    opened: Option<Opener>,
    closed_first: Option<Closer>,
    established: bool,
    /// A RST was sent for it, or came.
    reset: Option<EndedBy>,
    complete: bool,
    local: Endpoint,
    peer: Endpoint,
    states: Vec<(State, u64)>,
}

/// Identifies one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum SocketKey {
    /// Its kernel address, which another socket may reuse once it is closed.
    Address(u64),
    /// Its namespace and its cookie.
    Cookie(Option<NetnsId>, u64),
}

impl SocketKey {
    fn of(t: &Transition) -> Option<SocketKey> {
        // A socket may get its cookie only at its end.
        t.address.map(SocketKey::Address).or_else(|| t.cookie.map(|cookie| SocketKey::Cookie(t.netns, cookie)))
    }
}

/// All connections that have not ended.
pub struct Lives {
    open: FxHashMap<SocketKey, Open>,
    limit: usize,
    forgotten: u64,
}

impl Default for Lives {
    fn default() -> Lives {
        Lives::new(FOLLOWED)
    }
}

impl Lives {
    /// Tracks at most this many connections.
    #[must_use]
    pub fn new(limit: usize) -> Lives {
        Lives { open: FxHashMap::default(), limit: limit.max(2), forgotten: 0 }
    }

    /// Connections dropped to stay within the limit: those that changed least recently.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Applies one change. Returns the time spent in the old state, and the life if this was its end.
    pub fn add(&mut self, t: &Transition) -> (Option<u64>, Option<Life>) {
        let Some(key) = SocketKey::of(t) else { return (None, None) };
        // A listener is not a connection: it has a time in LISTEN but no life.
        let ends = t.new == State::Close;
        if ends {
            let Some(mut open) = self.open.remove(&key) else { return (None, None) };
            let spent = open.step(t);
            let life = (t.old != Some(State::Listen) && open.state != State::Listen).then(|| open.end(t));
            return (spent, life);
        }
        // A socket begins with these; whatever is known under its key ended unseen.
        let begins = matches!((t.old, t.new), (Some(State::Close), _) | (Some(State::Listen), State::SynRecv));
        if begins {
            self.open.remove(&key);
        }
        if let Some(open) = self.open.get_mut(&key) {
            let spent = open.step(t);
            open.state = t.new;
            return (spent, None);
        }
        if self.open.len() >= self.limit {
            self.forget_half();
        }
        self.open.insert(key, Open::begin(t));
        (None, None)
    }

    /// Notes a reset of a connection that has not ended yet.
    pub fn reset(&mut self, at: &Sighting, by: EndedBy) {
        let key = at.address.map(SocketKey::Address);
        if let Some(open) = key.and_then(|key| self.open.get_mut(&key)) {
            open.reset = Some(by);
        }
    }

    fn forget_half(&mut self) {
        let mut times: Vec<u64> = self.open.values().map(|o| o.last_ns).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let (median, before) = (*median, self.open.len());
        self.open.retain(|_, o| o.last_ns > median);
        self.forgotten += (before - self.open.len()) as u64;
    }
}

impl Open {
    fn begin(t: &Transition) -> Open {
        let process = || t.by.as_ref().and_then(By::actor).filter(|_| t.by_call).copied();
        let opened = match (t.old, t.new) {
            (Some(State::Close), State::SynSent) => Some(Opener::Local(process())),
            (Some(State::Listen | State::SynRecv), _) => Some(Opener::Peer),
            _ => None,
        };
        let mut open = Open {
            begun_ns: t.monotonic_ns,
            last_ns: t.monotonic_ns,
            state: t.new,
            complete: opened.is_some(),
            opened,
            closed_first: None,
            established: false,
            reset: None,
            local: t.local,
            peer: t.peer,
            states: Vec::new(),
        };
        open.observe(t);
        open
    }

    /// Records what a change shows by itself, whatever is already known.
    fn observe(&mut self, t: &Transition) {
        let seen = |s: State| {
            !matches!(s, State::SynSent | State::SynRecv | State::Close | State::Listen | State::BoundInactive)
        };
        self.established |= t.old.is_some_and(seen) || seen(t.new);
        // The port of connect() is chosen after its first change.
        if t.local.port != 0 {
            self.local = t.local;
        }
        if t.peer.port != 0 {
            self.peer = t.peer;
        }
        if self.closed_first.is_some() {
            return;
        }
        let process = || t.by.as_ref().and_then(By::actor).filter(|_| t.by_call).copied();
        self.closed_first = match (t.old, t.new) {
            (Some(State::Established | State::SynRecv), State::FinWait1) => Some(Closer::Local(process())),
            // The states between two samples may have been missed.
            (Some(State::Established), State::FinWait2 | State::Closing | State::TimeWait) => Some(Closer::Local(None)),
            (Some(State::Established | State::SynRecv), State::CloseWait | State::LastAck) => Some(Closer::Peer),
            // Polling cannot know how a vanished socket ended.
            (Some(State::Established), State::Close) if t.by.is_some() => Some(Closer::Abort),
            _ => None,
        };
    }

    /// The time in the state that is left, if no change was missed.
    fn step(&mut self, t: &Transition) -> Option<u64> {
        let spent = (t.old == Some(self.state)).then(|| t.monotonic_ns.saturating_sub(self.last_ns));
        match spent {
            Some(ns) => self.states.push((self.state, ns)),
            None => self.complete = false,
        }
        self.last_ns = t.monotonic_ns;
        self.observe(t);
        spent
    }

    fn ended_by(&self, t: &Transition, ended: Option<End>, errno: Option<Errno>) -> Option<EndedBy> {
        let attempt = t.old == Some(State::SynSent);
        match (errno, ended) {
            (Some(Errno::ECONNREFUSED), _) if attempt && self.reset.is_some() => Some(EndedBy::Refused),
            (Some(Errno::ECONNRESET | Errno::EPIPE), _) => Some(EndedBy::ResetReceived),
            // A keepalive that is not answered sends a RST too, and that is not what ended it.
            (Some(errno), _) => Some(EndedBy::Error(errno)),
            (None, _) if t.error.is_none() => None,
            (None, Some(End::TimeWait | End::Closed)) => Some(EndedBy::Fin),
            (None, _) if attempt && t.local.port == 0 => Some(EndedBy::NoPort),
            (None, _) if attempt => Some(EndedBy::GivenUp),
            (None, _) => self.reset,
        }
    }

    fn end(self, t: &Transition) -> Life {
        let errno = if let Some(LastError::Errno(errno)) = t.error { Some(errno) } else { None };
        let ended = match t.old {
            // An error ends it at once, and leaves nothing.
            _ if errno.is_some() => Some(if self.established { End::Cut } else { End::Failed }),
            Some(State::FinWait2 | State::Closing | State::TimeWait) => Some(End::TimeWait),
            Some(State::LastAck) => Some(End::Closed),
            _ if t.by.is_none() => None,
            _ if !self.established => Some(End::Failed),
            _ => Some(End::Cut),
        };
        let ended_by = self.ended_by(t, ended, errno);
        Life {
            at_us: t.at_us,
            netns: t.netns,
            cookie: t.cookie,
            family: t.family,
            local: self.local,
            peer: self.peer,
            duration_ns: self.opened.is_some().then(|| t.monotonic_ns.saturating_sub(self.begun_ns)),
            opened: self.opened,
            closed_first: self.closed_first,
            ended,
            ended_by,
            // Polling sees TIME_WAIT itself.
            inferred: match ended {
                Some(End::TimeWait) => t.old != Some(State::TimeWait),
                Some(_) => t.by.is_none(),
                None => false,
            },
            states: self.states,
            traffic: t.traffic,
            complete: self.complete,
            identity: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(cookie: u64, ns: u64, old: State, new: State) -> Transition {
        let by_call = matches!(
            (old, new),
            (State::Close, State::SynSent) | (State::Established, State::FinWait1) | (State::CloseWait, State::LastAck)
        );
        let by = if by_call { By::Process(Actor { pid: 7, comm: "curl".into() }) } else { By::Network };
        Transition {
            at_us: 0,
            monotonic_ns: ns,
            netns: NetnsId::new(1),
            cookie: Some(cookie),
            address: None,
            family: Family::V4,
            local: Endpoint::new([127, 0, 0, 1].into(), if new == State::SynSent { 0 } else { 4000 }),
            peer: Endpoint::new([127, 0, 0, 1].into(), 80),
            old: Some(old),
            new,
            by: Some(by),
            by_call,
            traffic: None,
            error: None,
        }
    }

    fn walk(lives: &mut Lives, states: &[State]) -> Option<Life> {
        let mut life = None;
        for (i, pair) in states.windows(2).enumerate() {
            life = lives.add(&change(9, 10 * i as u64, pair[0], pair[1])).1;
        }
        life
    }

    #[test]
    fn the_active_end_has_an_opener_a_closer_and_an_inferred_time_wait() {
        use State::{Close, Established, FinWait1, FinWait2, SynSent};
        let curl = Some(Actor { pid: 7, comm: "curl".into() });
        let life =
            walk(&mut Lives::default(), &[Close, SynSent, Established, FinWait1, FinWait2, Close]).expect("a life");
        assert_eq!(life.opened, Some(Opener::Local(curl)));
        assert_eq!(life.closed_first, Some(Closer::Local(curl)));
        assert_eq!((life.ended, life.inferred, life.complete), (Some(End::TimeWait), true, true));
        assert_eq!((life.duration_ns, life.local.port), (Some(40), 4000));
        assert_eq!(life.states, [(SynSent, 10), (Established, 10), (FinWait1, 10), (FinWait2, 10)]);
    }

    #[test]
    fn the_passive_end_and_the_ends_without_a_fin() {
        use State::{Close, CloseWait, Established, LastAck, Listen, SynRecv, SynSent};
        let mut lives = Lives::default();
        let passive = walk(&mut lives, &[Listen, SynRecv, Established, CloseWait, LastAck, Close]).unwrap();
        assert_eq!((passive.opened, passive.closed_first), (Some(Opener::Peer), Some(Closer::Peer)));
        assert_eq!((passive.ended, passive.inferred), (Some(End::Closed), false));
        let reset = walk(&mut lives, &[Close, SynSent, Established, Close]).unwrap();
        assert_eq!((reset.closed_first, reset.ended), (Some(Closer::Abort), Some(End::Cut)));
        let refused = walk(&mut lives, &[Close, SynSent, Close]).unwrap();
        assert_eq!((refused.closed_first, refused.ended), (None, Some(End::Failed)));
        assert_eq!(walk(&mut lives, &[Close, Listen, Close]), None, "a listener is no connection");
    }

    #[test]
    fn an_error_and_a_reset_tell_what_ended_a_connection() {
        use State::{Close, CloseWait, Established, FinWait1, FinWait2, LastAck, SynSent};
        let end = |steps: &[State], error: LastError, reset: Option<EndedBy>| {
            let mut lives = Lives::default();
            let at = |old, new| Transition { address: Some(9), ..change(9, 0, old, new) };
            for pair in steps.windows(2) {
                lives.add(&at(pair[0], pair[1]));
            }
            let last = Transition { error: Some(error), ..at(steps[steps.len() - 1], Close) };
            if let Some(reset) = reset {
                let sighting = Sighting { state: last.old, ..Sighting::of(&last) };
                lives.reset(&sighting, reset);
            }
            let life = lives.add(&last).1.unwrap();
            (life.ended, life.ended_by)
        };
        let errno = LastError::Errno;
        let came = Some(EndedBy::ResetReceived);
        let attempt = [Close, SynSent];
        assert_eq!(end(&attempt, errno(Errno::ECONNREFUSED), came), (Some(End::Failed), Some(EndedBy::Refused)));
        let by_icmp = Some(EndedBy::Error(Errno::ECONNREFUSED));
        assert_eq!(end(&attempt, errno(Errno::ECONNREFUSED), None), (Some(End::Failed), by_icmp));
        assert_eq!(end(&attempt, LastError::Nothing, None), (Some(End::Failed), Some(EndedBy::GivenUp)));
        let open = [Close, SynSent, Established];
        assert_eq!(end(&open, errno(Errno::ECONNRESET), came), (Some(End::Cut), came));
        let timeout = Some(EndedBy::Error(Errno::ETIMEDOUT));
        assert_eq!(end(&open, errno(Errno::ETIMEDOUT), None), (Some(End::Cut), timeout));
        let sent = Some(EndedBy::ResetSent(Some(ResetReason::AbortOnClose)));
        assert_eq!(end(&open, LastError::Nothing, sent), (Some(End::Cut), sent));
        assert_eq!(end(&open, LastError::Nothing, None), (Some(End::Cut), None));
        let first = [Close, SynSent, Established, FinWait1, FinWait2];
        assert_eq!(end(&first, LastError::Nothing, None), (Some(End::TimeWait), Some(EndedBy::Fin)));
        // A reset in FIN_WAIT2 leaves no TIME_WAIT.
        assert_eq!(end(&first, errno(Errno::ECONNRESET), came), (Some(End::Cut), came));
        let second = [Close, SynSent, Established, CloseWait, LastAck];
        assert_eq!(end(&second, LastError::Nothing, None), (Some(End::Closed), Some(EndedBy::Fin)));
    }

    #[test]
    fn a_missed_change_is_marked_and_has_no_duration() {
        use State::{Close, CloseWait, Established, LastAck, SynSent};
        let mut lives = Lives::default();
        lives.add(&change(9, 0, Close, SynSent));
        lives.add(&change(9, 10, SynSent, Established));
        // ESTABLISHED -> CLOSE_WAIT was lost.
        assert_eq!(lives.add(&change(9, 30, CloseWait, LastAck)).0, None);
        let life = lives.add(&change(9, 40, LastAck, Close)).1.unwrap();
        assert!(!life.complete);
        let unseen_start = walk(&mut lives, &[Established, CloseWait, LastAck, Close]).unwrap();
        assert_eq!((unseen_start.opened, unseen_start.duration_ns, unseen_start.complete), (None, None, false));
    }

    #[test]
    fn without_cookies_the_address_identifies_sockets_and_may_be_reused() {
        use State::{Close, Established, SynSent};
        let mut lives = Lives::default();
        let at = |address, ns, old, new, cookie| Transition {
            address: Some(address),
            cookie,
            traffic: (new == Close).then_some(Traffic { sent_bytes: 1, received_bytes: Some(2) }),
            ..change(0, ns, old, new)
        };
        for (ns, address) in [(0, 0xa0), (5, 0xb0)] {
            lives.add(&at(address, ns, Close, SynSent, None));
            lives.add(&at(address, ns + 10, SynSent, Established, None));
        }
        let first = lives.add(&at(0xa0, 30, Established, Close, Some(7))).1.unwrap();
        assert_eq!((first.cookie, first.complete, first.duration_ns), (Some(7), true, Some(30)));
        assert_eq!(first.traffic, Some(Traffic { sent_bytes: 1, received_bytes: Some(2) }));
        // The end of the second was lost, and its slot reused.
        lives.add(&at(0xb0, 50, Close, SynSent, None));
        let third = lives.add(&at(0xb0, 60, SynSent, Close, None)).1.unwrap();
        assert_eq!((third.complete, third.duration_ns, third.ended), (true, Some(10), Some(End::Failed)));
    }

    #[test]
    fn the_oldest_are_forgotten_at_the_limit() {
        let mut lives = Lives::new(10);
        for cookie in 0..25 {
            lives.add(&change(cookie, cookie, State::Close, State::SynSent));
            assert!(lives.open.len() <= 10);
        }
        assert_eq!(lives.forgotten() + lives.open.len() as u64, 25);
        assert!(lives.open.contains_key(&SocketKey::Cookie(NetnsId::new(1), 24)));
    }
}
