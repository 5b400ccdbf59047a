//! Lives on their way out: a reset that this host sends comes just after the change that it explains.
//!
//! Input: lives in the order of their ends, and resets. Output: the same lives in the same order, with the reset. Not here:
//! what a life is.

use std::collections::VecDeque;

use crate::aggregate::lives::{End, EndedBy, Life};
use crate::model::State;
use crate::model::event::{ONE_CALL_NS, ResetSent};
use crate::model::transition::Transition;

/// A life that waits.
struct Held {
    life: Life,
    /// Of the socket, in the kernel's memory.
    address: Option<u64>,
    /// Its reset may still come.
    waits: bool,
    ended_ns: u64,
    round: u64,
}

/// The lives that were not taken yet.
#[derive(Default)]
pub struct Endings {
    held: VecDeque<Held>,
    round: u64,
}

impl Endings {
    /// Adds a life that has ended with this change. It waits where a reset may explain it: no error does, although the
    /// source tells errors, or data that came after close() cut it off: in FIN_WAIT2 that looks like TIME_WAIT, and in
    /// FIN_WAIT1 and FIN_WAIT2 also like a reset that came (`tcp_rcv_state_process` calls `tcp_reset`).
    pub fn add(&mut self, life: Life, t: &Transition) {
        let closed = matches!(t.old, Some(State::FinWait1 | State::FinWait2));
        let late_data = closed && life.ended_by == Some(EndedBy::ResetReceived);
        let open = life.ended_by.is_none() || life.inferred || late_data;
        let waits = open && t.error.is_some() && t.address.is_some();
        self.held.push_back(Held { life, address: t.address, waits, ended_ns: t.monotonic_ns, round: self.round });
    }

    /// Gives a reset to the life that it explains.
    pub fn reset(&mut self, reset: &ResetSent) {
        if let Some(held) = self.held.iter_mut().find(|h| h.waits && h.address == reset.at.address) {
            held.life.ended_by = Some(EndedBy::ResetSent(reset.reason));
            (held.life.ended, held.life.inferred) = (Some(End::Cut), false);
            held.waits = false;
        }
    }

    /// A change comes: what ended long before it waits no more, nor what had its address, which is another socket's now.
    pub fn pass(&mut self, t: &Transition) {
        for held in &mut self.held {
            let late = t.monotonic_ns.saturating_sub(held.ended_ns) > ONE_CALL_NS;
            held.waits &= !late && held.address != t.address;
        }
    }

    /// The next life that needs not wait.
    pub fn next(&mut self) -> Option<Life> {
        if self.held.front()?.waits { None } else { self.held.pop_front().map(|h| h.life) }
    }

    /// Ends a round: what has waited for a whole one waits no more. `last`: nothing does.
    pub fn turn(&mut self, last: bool) {
        for held in self.held.iter_mut().filter(|h| last || h.round < self.round) {
            held.waits = false;
        }
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{ResetReason, Sighting};
    use crate::model::transition::By;
    use crate::model::{Endpoint, Errno, Family, LastError};

    fn end(address: u64, ns: u64, old: State, error: Option<LastError>) -> (Life, Transition) {
        let at = Endpoint::new([10, 0, 0, 1].into(), 80);
        let t = Transition {
            at_us: 0,
            monotonic_ns: ns,
            netns: None,
            cookie: None,
            address: Some(address),
            family: Family::V4,
            local: at,
            peer: at,
            old: Some(old),
            new: State::Close,
            by: Some(By::Network),
            by_call: false,
            traffic: None,
            error,
        };
        let mut lives = crate::aggregate::lives::Lives::default();
        lives.add(&Transition { old: Some(State::Established), new: old, ..t });
        (lives.add(&t).1.unwrap(), t)
    }

    fn reset(address: u64, ns: u64) -> ResetSent {
        let (_, t) = end(address, ns, State::Established, None);
        ResetSent { at: Sighting::of(&t), reason: Some(ResetReason::AbortOnData) }
    }

    #[test]
    fn a_reset_explains_the_life_before_it_and_the_order_stays() {
        let nothing = Some(LastError::Nothing);
        let mut endings = Endings::default();
        for (life, t) in [
            end(0xa0, 1, State::FinWait2, nothing),
            end(0xb0, 2, State::Established, nothing),
            end(0xc0, 3, State::LastAck, nothing),
        ] {
            endings.add(life, &t);
        }
        assert!(endings.next().is_none(), "the first may be a TIME_WAIT or not");
        endings.reset(&reset(0xa0, 4));
        let first = endings.next().unwrap();
        assert_eq!(first.ended_by, Some(EndedBy::ResetSent(Some(ResetReason::AbortOnData))));
        assert_eq!((first.ended, first.inferred), (Some(End::Cut), false));
        assert!(endings.next().is_none());
        let later = |address, ns| end(address, ns, State::Established, nothing).1;
        endings.pass(&later(0xd0, ONE_CALL_NS + 2));
        assert!(endings.next().is_none());
        endings.pass(&later(0xd0, ONE_CALL_NS + 3));
        assert_eq!(endings.next().unwrap().ended_by, None);
        assert_eq!(endings.next().unwrap().ended_by, Some(EndedBy::Fin));
        // Without later events the rounds release it.
        let (life, t) = end(0xa0, 9, State::FinWait2, nothing);
        endings.add(life.clone(), &t);
        endings.turn(false);
        assert!(endings.next().is_none());
        endings.turn(false);
        assert_eq!(endings.next().unwrap().ended, Some(End::TimeWait));
        endings.add(life, &t);
        endings.turn(true);
        assert!(endings.next().is_some());
        // The kernel ends it as if the peer had sent the reset.
        let (life, t) = end(0xa0, 9, State::FinWait1, Some(LastError::Errno(Errno::ECONNRESET)));
        assert_eq!(life.ended_by, Some(EndedBy::ResetReceived));
        endings.add(life.clone(), &t);
        endings.reset(&reset(0xa0, 10));
        assert_eq!(endings.next().unwrap().ended_by, Some(EndedBy::ResetSent(Some(ResetReason::AbortOnData))));
        endings.add(life, &t);
        endings.turn(true);
        assert_eq!(endings.next().unwrap().ended_by, Some(EndedBy::ResetReceived));
        // The next socket has the same address, and sends a reset.
        let (life, t) = end(0xa0, 9, State::FinWait2, nothing);
        endings.add(life, &t);
        endings.pass(&later(0xa0, 10));
        endings.reset(&reset(0xa0, 11));
        assert_eq!(endings.next().unwrap().ended, Some(End::TimeWait));
        // A source that tells no errors has nothing to wait for.
        let (life, t) = end(0xa0, 9, State::FinWait2, None);
        endings.add(life, &t);
        assert!(endings.next().is_some());
    }
}
