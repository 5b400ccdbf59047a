//! What the records around the end of a socket say of it: its cookie, its error, and the state in which a reset met it.
//!
//! Input: records in the order of their times. Output: facts about one change to CLOSE, or one reset. Not here: reading
//! records; the destroy events of sock_diag.
//!
//! Every path that ends a socket by an error sets `sk_err` and goes to CLOSE; then, if a process holds the socket, it reports
//! the error (`tcp_done_with_error`, `net/ipv4/tcp_input.c`; before Linux 6.11 some report it first). So around a CLOSE
//!
//! * a report with the same ends tells the error, or that the process has taken it already;
//! * a reset that was accepted just before gives the error of its state (`tcp_reset`), also where no process holds the socket;
//! * without either there was no error, except in the states in which sockets are that no process holds: there the FIN, or
//!   data before it, may have been given up after repetitions. Whether anything was repeated the destroy event tells.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use super::event::{Record, What};
use super::faults::{Fault, Seen};
use crate::model::event::ONE_CALL_NS;
use crate::model::transition::Transition;
use crate::model::{Endpoint, Errno, LastError, State};

type Tuple = (Endpoint, Endpoint);

/// Facts by socket, each with its time.
#[derive(Default)]
pub(super) struct Join {
    destroyed: FxHashMap<u64, VecDeque<(u64, u64)>>,
    errors: FxHashMap<Tuple, Vec<(u64, i32)>>,
    resets: FxHashMap<(u64, Tuple), Vec<u64>>,
    closed: FxHashMap<u64, Vec<(u64, State)>>,
    /// Times of reports and resets that explained a change: they explain no other.
    used: FxHashSet<u64>,
}

impl Join {
    pub fn of<'r>(records: impl Iterator<Item = &'r Record>) -> Join {
        let mut join = Join::default();
        for record in records {
            let (at, address) = (record.at_ns, record.address);
            match &record.what {
                What::Destroyed { cookie } => join.destroyed.entry(address).or_default().push_back((at, *cookie)),
                What::Change { transition: Transition { old: Some(old), new: State::Close, .. }, .. } => {
                    join.closed.entry(address).or_default().push((at, *old));
                }
                What::Change { .. } => {}
                What::Fault(seen) => match seen.fault {
                    Fault::Error(error) => {
                        join.errors.entry((seen.at.local, seen.at.peer)).or_default().push((at, error));
                    }
                    Fault::ResetReceived => {
                        join.resets.entry((address, (seen.at.local, seen.at.peer))).or_default().push(at);
                    }
                    Fault::ResetSent(_) | Fault::Retransmit(_) => {}
                },
            }
        }
        join
    }

    /// The cookie of a socket that went to CLOSE: it is destroyed after that.
    pub fn cookie(&mut self, address: u64, at_ns: u64) -> Option<u64> {
        let ends = self.destroyed.get_mut(&address)?;
        while ends.front().is_some_and(|(at, _)| *at < at_ns) {
            ends.pop_front();
        }
        ends.front().map(|(_, cookie)| *cookie)
    }

    /// The state in which a reset met the socket: that which it left next.
    pub fn state_at_reset(&self, address: u64, at_ns: u64) -> Option<State> {
        let after = |(at, _): &&(u64, State)| *at >= at_ns && at - at_ns <= ONE_CALL_NS;
        self.closed.get(&address)?.iter().find(after).map(|(_, old)| *old)
    }

    /// The error of a socket that went to CLOSE; `None`: not known. `repeated`: how much of what it sent last was sent again.
    pub fn error(&mut self, t: &Transition, address: u64, repeated: Option<u32>) -> Option<LastError> {
        let at_ns = t.monotonic_ns;
        let was_reset = self.take_reset(address, (t.local, t.peer), at_ns);
        if let Some(error) = self.report(&(t.local, t.peer), at_ns) {
            return (error != 0).then_some(LastError::Errno(Errno(error)));
        }
        let old = t.old?;
        if was_reset {
            return Some(LastError::Errno(match old {
                State::SynSent => Errno::ECONNREFUSED,
                State::CloseWait => Errno::EPIPE,
                _ => Errno::ECONNRESET,
            }));
        }
        match old {
            State::FinWait1 | State::Closing | State::LastAck if repeated != Some(0) => None,
            _ => Some(LastError::Nothing),
        }
    }

    /// Takes the error that was reported nearest to this time; 0: one that the process has taken before it was written.
    fn report(&mut self, ends: &Tuple, at_ns: u64) -> Option<i32> {
        let reports = self.errors.get_mut(ends)?;
        // A message of ICMP is reported too, without an error, before it ends anything.
        let tells = |at: u64, error: i32| at.abs_diff(at_ns) <= ONE_CALL_NS && (error != 0 || at >= at_ns);
        let near = reports.iter().enumerate().filter(|(_, (at, error))| tells(*at, *error));
        let (place, _) = near.min_by_key(|(_, (at, error))| (*error == 0, at.abs_diff(at_ns)))?;
        let (at, error) = reports.remove(place);
        self.used.insert(at);
        Some(error)
    }

    /// Whether a reset met the socket just before. It explains this change only, and only one of the same ends: another
    /// socket may get the place in memory within a millisecond.
    fn take_reset(&mut self, address: u64, ends: Tuple, at_ns: u64) -> bool {
        let Some(times) = self.resets.get_mut(&(address, ends)) else { return false };
        let Some(place) = times.iter().rposition(|at| *at <= at_ns && at_ns - at <= ONE_CALL_NS) else { return false };
        self.used.insert(times.remove(place));
        true
    }

    /// Whether a record may explain a change that comes after this time.
    pub fn may_explain(&self, record: &Record, after_ns: u64) -> bool {
        let of_end = matches!(record.what, What::Fault(Seen { fault: Fault::Error(_) | Fault::ResetReceived, .. }));
        of_end && after_ns.saturating_sub(record.at_ns) <= ONE_CALL_NS && !self.used.contains(&record.at_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Family;
    use crate::model::event::Sighting;

    const AT: u64 = 1_000_000_000;

    fn end(last: u8, port: u16) -> Endpoint {
        Endpoint::new([10, 0, 0, last].into(), port)
    }

    fn change(address: u64, at_ns: u64, old: State) -> Transition {
        Transition {
            at_us: 0,
            monotonic_ns: at_ns,
            netns: None,
            cookie: None,
            address: Some(address),
            family: Family::V4,
            local: end(1, 5000),
            peer: end(2, 80),
            old: Some(old),
            new: State::Close,
            by: None,
            by_call: false,
            traffic: None,
            error: None,
        }
    }

    fn fault(address: u64, at_ns: u64, fault: Fault) -> Record {
        let at = Sighting {
            at_us: 0,
            monotonic_ns: at_ns,
            netns: None,
            cookie: None,
            address: None,
            family: Family::V4,
            local: end(1, 5000),
            peer: end(2, 80),
            state: None,
            by: None,
        };
        Record { at_ns, address, what: What::Fault(Seen { fault, at, tid: None }) }
    }

    fn error(records: &[Record], old: State, repeated: Option<u32>) -> Option<LastError> {
        Join::of(records.iter()).error(&change(9, AT, old), 9, repeated)
    }

    const TIMED_OUT: Option<LastError> = Some(LastError::Errno(Errno::ETIMEDOUT));
    const NOTHING: Option<LastError> = Some(LastError::Nothing);

    #[test]
    fn the_report_nearest_to_the_change_tells_its_error_once() {
        let told = |at| fault(0, at, Fault::Error(libc::ETIMEDOUT));
        assert_eq!(error(&[told(AT + 900)], State::SynSent, None), TIMED_OUT);
        assert_eq!(error(&[told(AT - 900)], State::Established, None), TIMED_OUT, "older kernels report it first");
        assert_eq!(error(&[told(AT + ONE_CALL_NS + 1)], State::SynSent, None), NOTHING);
        let empty = |at| fault(0, at, Fault::Error(0));
        assert_eq!(error(&[empty(AT + 1)], State::SynSent, None), None, "it was taken already");
        assert_eq!(error(&[empty(AT - 1)], State::SynSent, None), NOTHING);
        assert_eq!(error(&[empty(AT - 1), told(AT + 900)], State::SynSent, None), TIMED_OUT, "ICMP");
        // Two sockets with the same ends: in two namespaces, or one after the other.
        let mut join = Join::of([told(AT + 900), fault(0, AT + 100, Fault::Error(libc::ECONNREFUSED))].iter());
        let refused = join.error(&change(9, AT, State::SynSent), 9, None);
        assert_eq!(refused, Some(LastError::Errno(Errno::ECONNREFUSED)));
        assert_eq!(join.error(&change(8, AT + 800, State::SynSent), 8, None), TIMED_OUT);
        assert_eq!(join.error(&change(7, AT + 900, State::SynSent), 7, None), NOTHING);
    }

    #[test]
    fn a_reset_gives_the_error_of_the_state_that_it_met() {
        let reset = [fault(9, AT - 5, Fault::ResetReceived)];
        for (old, errno) in [
            (State::SynSent, Errno::ECONNREFUSED),
            (State::CloseWait, Errno::EPIPE),
            (State::LastAck, Errno::ECONNRESET),
            (State::Established, Errno::ECONNRESET),
        ] {
            assert_eq!(error(&reset, old, None), Some(LastError::Errno(errno)), "{old}");
        }
        assert_eq!(
            error(&[fault(8, AT - 5, Fault::ResetReceived)], State::Established, None),
            NOTHING,
            "another socket"
        );
        // The next socket may have the same place in memory.
        let mut join = Join::of(reset.iter());
        assert!(join.may_explain(&reset[0], AT));
        join.error(&change(9, AT, State::SynSent), 9, None);
        assert!(!join.may_explain(&reset[0], AT));
        assert_eq!(join.error(&change(9, AT + 9, State::Established), 9, None), NOTHING);
        // And it may end before the reset is taken, as one of a namespace that is filtered out is not.
        let mut join = Join::of(reset.iter());
        let next = Transition { local: end(1, 5001), ..change(9, AT, State::LastAck) };
        assert_eq!(join.error(&next, 9, Some(0)), NOTHING);
        let closed = Record {
            at_ns: AT,
            address: 9,
            what: What::Change { transition: change(9, AT, State::FinWait2), tid: None },
        };
        let join = Join::of([closed].iter());
        assert_eq!(join.state_at_reset(9, AT - 5), Some(State::FinWait2));
        assert_eq!((join.state_at_reset(9, AT + 1), join.state_at_reset(8, AT)), (None, None));
    }

    #[test]
    fn what_no_process_holds_has_no_error_only_where_nothing_was_repeated() {
        for old in [State::FinWait1, State::Closing, State::LastAck] {
            assert_eq!(
                [None, Some(3), Some(0)].map(|repeated| error(&[], old, repeated)),
                [None, None, NOTHING],
                "{old}"
            );
        }
        assert_eq!(error(&[], State::FinWait2, None), NOTHING);
    }

    #[test]
    fn a_cookie_is_that_of_the_next_socket_destroyed_at_that_address() {
        let destroyed = |at_ns, cookie| Record { at_ns, address: 9, what: What::Destroyed { cookie } };
        let mut join = Join::of([destroyed(AT - 1, 1), destroyed(AT + 1, 2), destroyed(AT + 5, 3)].iter());
        assert_eq!([AT, AT + 2, AT + 6].map(|at| join.cookie(9, at)), [Some(2), Some(3), None]);
    }
}
