//! How many handshakes a listener dropped between the samples.
//!
//! Input: the drop counters of LISTEN rows, and what their namespace counts. Output: a lower and an upper bound. Not here:
//! which queue was full.
//!
//! The counter of a listener is not that of dropped handshakes alone: an RST that finds no connection any more is dropped
//! by the listener of its port (`tcp_rcv_state_process` in `net/ipv4/tcp_input.c`), and clients that close with answers
//! under way send many. `ListenDrops` counts handshakes alone (`tcp_listendrop` in `include/net/tcp.h`), of all listeners.

use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::{Socket, State};

/// Handshakes that one listener dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewDrops {
    /// 0 where those that the namespace counted may be of other listeners.
    pub at_least: u64,
    pub at_most: u64,
}

/// `None` without a second sample, or where the source has no such counter.
#[must_use]
pub fn between(view: &View<'_>, listener: &Socket) -> Option<NewDrops> {
    let own = growth(view, listener)?;
    let Some(all) = view.delta(listener.netns, Counter::TcpExtListenDrops) else {
        return Some(NewDrops { at_least: own, at_most: own });
    };
    let at_most = own.min(all);
    if at_most == 0 {
        return Some(NewDrops { at_least: 0, at_most });
    }
    let (mut together, mut others, mut other_full) = (0, 0, false);
    for queue in view.queues().all().iter().filter(|q| q.netns == listener.netns) {
        let grown: u64 = queue.listeners.iter().filter_map(|l| growth(view, l)).sum();
        if queue.local == listener.local {
            together += grown;
        } else {
            others += grown;
            other_full |= queue.is_over_limit();
        }
    }
    // More than handshakes grew the counters. That of the namespace was read a moment before or after those of the rows,
    // so the last one or two may be of either.
    let of_others = together + others > all && (others > 0 || other_full);
    Some(NewDrops { at_least: if of_others { 0 } else { at_most }, at_most })
}

/// Growth of a listener's own counter. One that a cookie does not find in the sample before is new, and so are all its
/// drops.
fn growth(view: &View<'_>, listener: &Socket) -> Option<u64> {
    view.before?;
    let drops = |row: &Socket| row.skmem?.drops.map(u64::from);
    let earlier = view.earlier(listener).filter(|e| e.state == State::Listen);
    let before = match earlier {
        Some(earlier) => drops(earlier)?,
        None => listener.cookie.map(|_| 0)?,
    };
    Some(drops(listener)?.saturating_sub(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, listen};
    use crate::diagnose::thresholds::Thresholds;
    use crate::model::SkMem;

    /// Two listeners whose counters grew so much, and what the namespace counts.
    fn bounds(grown: [u32; 2], all: Option<u64>) -> Vec<NewDrops> {
        let with = |port: u16, drops| Socket {
            skmem: Some(SkMem { drops: Some(drops), ..SkMem::default() }),
            ..listen(&format!("0.0.0.0:{port}"), 0, 8)
        };
        let mut world = World::new();
        world.add(with(80, 5)).add(with(81, 5));
        if all.is_some() {
            world.counter(Counter::TcpExtListenDrops, 10);
        }
        world.later(2000);
        for (i, n) in grown.into_iter().enumerate() {
            world.now.sockets[i].skmem = Some(SkMem { drops: Some(5 + n), ..SkMem::default() });
        }
        if let Some(all) = all {
            world.counter(Counter::TcpExtListenDrops, 10 + all);
        }
        let view = View::new(&world.now, world.before.as_ref(), &world.thresholds);
        world.now.sockets.iter().map(|l| between(&view, l).unwrap()).collect()
    }

    fn exactly(n: u64) -> NewDrops {
        NewDrops { at_least: n, at_most: n }
    }

    #[test]
    fn what_the_namespace_did_not_count_was_no_handshake() {
        assert_eq!(bounds([0, 457], Some(0)), [exactly(0), exactly(0)], "resets alone");
        assert_eq!(bounds([9, 0], Some(9)), [exactly(9), exactly(0)]);
        assert_eq!(bounds([9, 5], Some(14)), [exactly(9), exactly(5)]);
        let unknown = |at_most| NewDrops { at_least: 0, at_most };
        assert_eq!(bounds([9, 457], Some(9)), [unknown(9), unknown(9)]);
        assert_eq!(bounds([9, 457], Some(10)), [unknown(9), unknown(10)], "one that came while the counters were read");
        assert_eq!(bounds([9, 0], Some(8)), [exactly(8), exactly(0)]);
        assert_eq!(bounds([9, 2], None), [exactly(9), exactly(2)], "nothing is known of the namespace");
    }

    #[test]
    fn one_sample_tells_nothing() {
        let mut world = World::new();
        world.add(listen("0.0.0.0:80", 0, 8));
        let thresholds = Thresholds::default();
        let view = View::new(&world.now, None, &thresholds);
        assert_eq!(between(&view, &world.now.sockets[0]), None);
    }
}
