//! The accept queues of one listening endpoint, added up.
//!
//! Input: its LISTEN rows, several with `SO_REUSEPORT` or on several devices. Output: who waits, what fits, what was dropped.

use crate::model::Socket;

/// The accept queues of one listening endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptQueue {
    /// Sockets that listen there; each has a queue of its own.
    pub sockets: u32,
    /// Sockets whose queue is full.
    pub full: u32,
    /// Connections that wait for accept(), in all queues.
    pub waiting: u64,
    /// Connections in the fullest queue, and its limit, which it may exceed by one; `None` where the source does not tell it.
    pub fullest: (u32, Option<u32>),
    /// What these sockets dropped since they were opened; `None` where that is not told of each.
    pub drops: Option<u64>,
}

impl AcceptQueue {
    /// The queue of one listener.
    #[must_use]
    pub fn of(listener: &Socket) -> AcceptQueue {
        AcceptQueue {
            sockets: 1,
            full: u32::from(listener.has_full_accept_queue()),
            waiting: listener.recv_q_bytes.into(),
            fullest: (listener.recv_q_bytes, listener.backlog()),
            drops: listener.skmem.and_then(|m| m.drops).map(u64::from),
        }
    }

    /// Adds those of other listeners on the same endpoint.
    pub fn merge(&mut self, other: &AcceptQueue) {
        self.sockets += other.sockets;
        self.full += other.full;
        self.waiting += other.waiting;
        self.drops = self.drops.zip(other.drops).map(|(a, b)| a + b);
        // By the share that is taken: waiting / (limit + 1), without a division.
        let part = |a: (u32, Option<u32>), b: (u32, Option<u32>)| u64::from(a.0) * (u64::from(b.1.unwrap_or(0)) + 1);
        if part(other.fullest, self.fullest) > part(self.fullest, other.fullest) {
            self.fullest = other.fullest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SkMem, State};

    fn listener(waiting: u32, limit: u32, drops: Option<u32>) -> AcceptQueue {
        AcceptQueue::of(&Socket {
            state: State::Listen,
            recv_q_bytes: waiting,
            send_q_bytes: Some(limit),
            skmem: drops.map(|n| SkMem { drops: Some(n), ..SkMem::default() }),
            ..Socket::default()
        })
    }

    #[test]
    fn the_fullest_of_several_queues_is_shown_and_their_drops_are_added() {
        let mut all = listener(3, 128, Some(2));
        all.merge(&listener(6, 5, Some(355)));
        all.merge(&listener(100, 511, Some(0)));
        let expected = AcceptQueue { sockets: 3, full: 1, waiting: 109, fullest: (6, Some(5)), drops: Some(357) };
        assert_eq!(all, expected);
        all.merge(&listener(0, 128, None));
        assert_eq!((all.drops, all.fullest), (None, (6, Some(5))), "unknown is not zero");
    }
}
