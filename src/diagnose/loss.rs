//! What share of the segments to each peer was sent again between the samples, and what speaks for other reasons than loss.
//!
//! Input: `tcp_info` of connections in both samples, and of those that began between them. Output: sums per peer address.
//! Not here: peers that answer nothing, whose every repetition is in vain, and what is bad.

/// The causes.
mod causes;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::aggregate::Role;
use crate::diagnose::delivery;
use crate::diagnose::measure::Share;
use crate::diagnose::view::View;
use crate::model::traced::{Retransmits, TracedInterval};
use crate::model::{NetnsId, Socket, TcpInfo};
use crate::text;

pub use causes::CAUSES;

/// What went to one address.
#[derive(Clone, Debug, Default)]
pub struct Sent<'a> {
    /// Connections that sent data between the samples.
    pub rows: Vec<&'a Socket>,
    /// Segments with data, repetitions included (`data_segs_out`).
    pub segments: u64,
    /// Of these, repetitions (`total_retrans`).
    pub repeated: u64,
    /// Repetitions that the peer had already, as it said (`dsack_dups`).
    pub needless: u64,
    /// Of the repetitions, those on connections of ours that have sent one segment of their own so far: their first data.
    pub first_words: u64,
    /// Those connections.
    pub begun: u64,
    /// Microseconds in which the peer's window let nothing more go.
    pub window_us: u64,
    /// Timeouts: nothing was acknowledged for a whole one (`total_rto`); `None` before Linux 6.7.
    pub timeouts: Option<u64>,
}

impl Sent<'_> {
    /// Segments that the path lost, at most: they were repeated, and the peer did not say that it had them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.repeated.saturating_sub(self.needless)
    }

    /// What share of all segments that is.
    #[must_use]
    pub fn share(&self) -> Option<Share> {
        Share::of(self.lost(), self.segments)
    }

    /// Adds another address.
    pub fn add(&mut self, other: &Self) {
        self.rows.extend_from_slice(&other.rows);
        self.segments += other.segments;
        self.repeated += other.repeated;
        self.needless += other.needless;
        self.first_words += other.first_words;
        self.begun += other.begun;
        self.window_us += other.window_us;
        self.timeouts = self.timeouts.zip(other.timeouts).map(|(a, b)| a + b);
    }

    /// The median of the smoothed round trips, and the shortest round trip of that connection. Far apart, they show a queue.
    #[must_use]
    pub fn round_trips_ms(&self) -> Option<(u64, u64)> {
        let mut times: Vec<(u32, u32)> = self.rows.iter().filter_map(|s| round_trips(s)).collect();
        times.sort_unstable();
        let (now, least) = times.get(times.len() / 2)?;
        Some((u64::from(*now) / 1000, u64::from(*least) / 1000))
    }
}

/// So many FINs a path would have lost that loses as many of them as of the handshakes, and so many times fewer were sent again (policy).
/// A program that gives up closes with data unacknowledged, which counts as a FIN too.
const FINS: u64 = 10;
const FEWER: u64 = 3;

/// What shows that a queue in front of accept() drops, and no path: handshakes and first data are sent again, and hardly a FIN of the
/// same connections is.
#[must_use]
pub fn fins_pass(traced: &TracedInterval, repeated: &Retransmits) -> Option<String> {
    let here = |netns, addr| (netns, addr) == (repeated.netns, repeated.peer);
    let reached: u64 = traced.connects.iter().filter(|c| here(c.netns, c.to.addr)).map(|c| c.succeeded).sum();
    let ends = traced.ends.iter().filter(|e| !e.served_here && here(e.netns, e.service.addr)).map(|e| e.counts);
    let ended: u64 = ends.map(|c| c.answered + c.unanswered + c.given_up).sum();
    let (lost, fins) = (repeated.handshake, repeated.closing);
    // Of both, the repetitions were sent besides.
    let expected = lost * (ended + fins) / (reached + lost).max(1);
    (expected >= FINS && expected >= fins * FEWER).then(|| {
        let handshakes = text::count(lost, "repetition", "repetitions");
        format!(
            "{} took {handshakes}, and {} only {fins}",
            text::count(reached, "handshake", "handshakes"),
            text::count(ended, "FIN", "FINs")
        )
    })
}

fn round_trips(socket: &Socket) -> Option<(u32, u32)> {
    let info = socket.info.as_deref()?;
    Some((info.rtt_us().filter(|us| *us > 0)?, info.min_rtt_us().filter(|us| *us != u32::MAX)?))
}

/// How much a field grew between the samples; of a connection that began between them, all of it.
fn between(view: &View<'_>, socket: &Socket, field: fn(&TcpInfo) -> Option<u64>) -> Option<u64> {
    match view.earlier(socket) {
        Some(_) => view.grown(socket, field),
        None => field(socket.info.as_deref()?),
    }
}

/// What went to each address, where something arrived too.
#[must_use]
pub fn by_address<'a>(view: &View<'a>) -> BTreeMap<(Option<NetnsId>, IpAddr), Sent<'a>> {
    let mut sent: BTreeMap<_, Sent<'a>> = BTreeMap::new();
    let Some(interval_ms) = view.interval_ms() else { return sent };
    // One that has sent may be at rest by now, and most of those at rest have not.
    let sends = |s: &&Socket| {
        let ago_ms = s.info.as_deref().and_then(TcpInfo::last_data_sent_ms);
        s.state.has_peer() && ago_ms.is_some_and(|ms| u64::from(ms) <= interval_ms)
    };
    for socket in view.now.sockets.iter().filter(sends) {
        let Some(segments) = between(view, socket, |i| i.data_segs_out().map(u64::from)).filter(|n| *n > 0) else {
            continue;
        };
        let grown = |field| between(view, socket, field);
        let Some(repeated) = grown(|i| i.total_retrans().map(u64::from)) else { continue };
        // Where nothing arrives, loss is no word for it: the peer is dead, or what leads to it.
        let arrives = grown(|i| i.delivered().map(u64::from)).or_else(|| grown(TcpInfo::bytes_acked));
        if arrives.is_none_or(|n| n == 0) || delivery::is_unanswered(view, socket) || delivery::has_only_its_fin(socket)
        {
            continue;
        }
        let to = sent
            .entry((socket.netns, socket.peer.normalised().addr))
            .or_insert_with(|| Sent { timeouts: Some(0), ..Sent::default() });
        to.rows.push(socket);
        to.segments += segments;
        to.repeated += repeated.min(segments);
        to.needless += grown(|i| i.dsack_dups().map(u64::from)).unwrap_or(0).min(repeated);
        to.window_us += grown(TcpInfo::rwnd_limited_us).unwrap_or(0);
        // The repetitions count a SYN that was sent again, too.
        let ever = |field: fn(&TcpInfo) -> Option<u32>| socket.info.as_deref().and_then(field);
        let own = ever(TcpInfo::data_segs_out).zip(ever(TcpInfo::total_retrans));
        if own.is_some_and(|(sent, again)| sent <= again + 1) && view.role(socket) == Role::Client {
            to.begun += 1;
            to.first_words += repeated.min(segments);
        }
        let timeouts = grown(|i| i.total_rto().map(u64::from));
        to.timeouts = to.timeouts.zip(timeouts).map(|(a, b)| a + b);
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::NETNS;
    use crate::model::Endpoint;
    use crate::model::traced::{Connects, Counts, Ends};

    #[test]
    fn a_path_that_loses_handshakes_loses_as_many_fins() {
        let at = Endpoint::new("10.9.0.2".parse().unwrap(), 80);
        let passes = |handshake, closing, ended| {
            let connects = Connects { succeeded: 60, ..Connects::none(NETNS, at) };
            let counts = Counts { answered: ended, ..Counts::default() };
            let ends = vec![Ends::new(NETNS, at, false, counts)];
            let traced = TracedInterval { connects: vec![connects], ends, ..TracedInterval::default() };
            let repeated = Retransmits { netns: NETNS, peer: at.addr, handshake, segments: 80, closing, failed: 0 };
            fins_pass(&traced, &repeated)
        };
        assert_eq!(passes(40, 2, 58).unwrap(), "60 handshakes took 40 repetitions, and 58 FINs only 2");
        assert_eq!(passes(40, 12, 58), None, "FINs are lost too");
        assert_eq!(passes(40, 0, 20), None, "too few have ended");
        assert_eq!(passes(4, 0, 58), None, "too few handshakes were repeated");
    }
}
