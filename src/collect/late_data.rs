//! Resets that the kernel reports as received although none came.
//!
//! Input: the events of a source. Output: the same without them, in their order but for received resets that wait a moment.
//! Not here: what a reset means.
//!
//! Data that comes for a socket after close() is answered by a RST. In FIN_WAIT1 and FIN_WAIT2 the kernel then ends the socket
//! as if a RST had come (`tcp_rcv_state_process` in `net/ipv4/tcp_input.c` calls `tcp_reset`), so `tcp:tcp_receive_reset`
//! reports one, just before `tcp:tcp_send_reset` reports the one that there is, of the same socket. So one that is received in
//! these states waits for that.

use std::io;
use std::time::Duration;

use super::change_source::{Lost, Scope, Source};
use super::clock::monotonic_ns;
use crate::model::event::{ResetReceived, ResetSent};
use crate::model::transition::Via;
use crate::model::{Event, Gap, State};

/// One call in the kernel reports both; it may be interrupted.
const APART: Duration = Duration::from_millis(5);

/// A source whose received resets came.
pub(super) struct WithoutLateData<S> {
    source: S,
    held: Held,
}

/// Resets that may not have come, in their order.
#[derive(Default)]
struct Held(Vec<ResetReceived>);

impl Held {
    /// Passes on an event, or holds it, or drops one that was held.
    fn pass(&mut self, event: Event, each: &mut dyn FnMut(Event)) {
        if !self.0.is_empty() {
            if let Event::ResetSent(ResetSent { at, .. }) = &event {
                self.0.retain(|held| held.at.address != at.address || at.address.is_none());
            }
            self.release(event.monotonic_ns(), each);
        }
        match event {
            Event::ResetReceived(reset) if matches!(reset.at.state, Some(State::FinWait1 | State::FinWait2)) => {
                self.0.push(reset);
            }
            other => each(other),
        }
    }

    /// Passes on those that nothing has explained up to this time.
    fn release(&mut self, now_ns: u64, each: &mut dyn FnMut(Event)) {
        let apart_ns = u64::try_from(APART.as_nanos()).unwrap_or(u64::MAX);
        let ripe = self.0.iter().take_while(|held| now_ns.saturating_sub(held.at.monotonic_ns) >= apart_ns).count();
        self.0.drain(..ripe).for_each(|reset| each(Event::ResetReceived(reset)));
    }
}

impl<S: Source> WithoutLateData<S> {
    pub fn new(source: S) -> WithoutLateData<S> {
        WithoutLateData { source, held: Held::default() }
    }
}

impl<S: Source> Source for WithoutLateData<S> {
    fn via(&self) -> Via {
        self.source.via()
    }

    fn source(&self) -> &'static str {
        self.source.source()
    }

    fn scope(&self) -> Scope {
        self.source.scope()
    }

    fn gaps(&self) -> Vec<Gap> {
        self.source.gaps()
    }

    fn drain(&mut self, patience: Duration, each: &mut dyn FnMut(Event)) -> io::Result<Vec<Gap>> {
        let WithoutLateData { source, held } = self;
        let mut troubles = source.drain(patience, &mut |event| held.pass(event, each))?;
        held.release(monotonic_ns(), each);
        // Whoever does not wait may ask no more.
        if patience.is_zero() && !held.0.is_empty() {
            std::thread::sleep(APART);
            troubles.extend(source.drain(patience, &mut |event| held.pass(event, each))?);
            held.release(monotonic_ns(), each);
        }
        Ok(troubles)
    }

    fn lost(&self) -> Option<Lost> {
        self.source.lost()
    }

    fn unseen(&self) -> Option<u64> {
        self.source.unseen()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{ResetReason, Sighting};
    use crate::model::{Endpoint, Family};

    const APART_NS: u64 = 5_000_000;

    fn at(address: u64, monotonic_ns: u64, state: State) -> Sighting {
        let end = Endpoint::new([10, 0, 0, 1].into(), 80);
        Sighting {
            at_us: 0,
            monotonic_ns,
            netns: None,
            cookie: None,
            address: Some(address),
            family: Family::V4,
            local: end,
            peer: end,
            state: Some(state),
            by: None,
        }
    }

    fn received(address: u64, ns: u64, state: State) -> Event {
        Event::ResetReceived(ResetReceived { at: at(address, ns, state) })
    }

    fn sent(address: u64, ns: u64) -> Event {
        Event::ResetSent(ResetSent { at: at(address, ns, State::Close), reason: Some(ResetReason::AbortOnData) })
    }

    #[test]
    fn a_reset_that_this_host_sends_for_late_data_was_not_received() {
        let passed = |events: &[Event]| {
            let (mut held, mut passed) = (Held::default(), Vec::new());
            for event in events {
                held.pass(*event, &mut |event| passed.push(event));
            }
            (passed, held.0.len())
        };
        for state in [State::FinWait1, State::FinWait2] {
            assert_eq!(passed(&[received(1, 5, state), sent(1, 20)]), (vec![sent(1, 20)], 0));
            let later = sent(2, 5 + APART_NS);
            assert_eq!(
                passed(&[received(1, 5, state), sent(2, 6)]),
                (vec![sent(2, 6)], 1),
                "it may still be explained"
            );
            assert_eq!(passed(&[received(1, 5, state), later]), (vec![received(1, 5, state), later], 0));
        }
        // Nobody can have closed these.
        let open = [received(1, 5, State::Established), received(2, 6, State::CloseWait)];
        assert_eq!(passed(&open), (open.to_vec(), 0));
    }
}
