//! Which addresses lose full-size segments on the way while small ones pass, with the proof that they live.
//!
//! Input: connections that repeat a segment. Output: those of one address, when all of them repeat full-size segments
//! after small ones were acknowledged, and the peer was heard since. Not here: an address that nobody hears.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::diagnose::delivery;
use crate::diagnose::reach::{self, Reach};
use crate::diagnose::segment_size;
use crate::diagnose::silent_peer;
use crate::diagnose::view::View;
use crate::model::{Endpoint, NetnsId, Socket, State, TcpInfo};

/// An address to which full-size segments die.
#[derive(Clone, Debug)]
pub struct BlackHole<'a> {
    pub rows: Vec<&'a Socket>,
    /// Of the rows: the peer was heard on them since the first of them began to repeat.
    pub heard: u64,
    /// Others to the address that were heard since.
    pub others: u64,
}

/// Every black hole that is proven, by address.
#[must_use]
pub fn black_holes<'a>(view: &View<'a>) -> BTreeMap<(Option<NetnsId>, IpAddr), BlackHole<'a>> {
    let mut by_peer: BTreeMap<(Option<NetnsId>, IpAddr), Vec<&Socket>> = BTreeMap::new();
    for socket in view.active().filter(|s| delivery::repeats(view, s) && view.mirror(s).is_none()) {
        by_peer.entry((socket.netns, socket.peer.normalised().addr)).or_default().push(socket);
    }
    // One that repeats less than a full-size segment, or was acknowledged large ones, speaks against it.
    by_peer.retain(|_, rows| rows.iter().all(|s| segment_size::is_about_size(s)));
    if by_peer.is_empty() {
        return BTreeMap::new();
    }
    let reach = Reach::new(view, by_peer.keys().map(|(netns, addr)| (*netns, Endpoint::new(*addr, 0))));
    by_peer.into_iter().filter_map(|(place, rows)| Some((place, proven(view, &reach, place, rows)?))).collect()
}

fn proven<'a>(
    view: &View<'a>,
    reach: &Reach<'_, 'a>,
    (netns, addr): (Option<NetnsId>, IpAddr),
    rows: Vec<&'a Socket>,
) -> Option<BlackHole<'a>> {
    let began = rows.iter().filter_map(|s| silent_peer::repeating_ms(s)).max()?;
    let heard = rows.iter().filter(|s| view.heard_ms(s).is_some_and(|ms| ms < began)).count() as u64;
    let others: Vec<&Socket> = reach
        .address(netns, addr, began)
        .filter(|s| s.state == State::Established && !rows.iter().any(|r| std::ptr::eq(*r, *s)))
        .collect();
    // A full-size segment that another one got through refutes it.
    let large = |s: &Socket| {
        let bytes = view.grown(s, TcpInfo::bytes_acked)?;
        let segments = view.grown(s, |i| i.delivered().map(u64::from)).filter(|n| *n > 1)?;
        Some(bytes * 10 >= segments * 9 * u64::from(s.info.as_deref()?.snd_mss_bytes()?))
    };
    let works_large = others.iter().any(|s| large(s) == Some(true));
    // A filter drops one service, whatever the size; that others pass says nothing then.
    let (own, theirs) = (one_port(&rows, |s| s.local.port), one_port(&rows, |s| s.peer.port));
    let is_alike =
        |s: &&&Socket| own.is_none_or(|port| s.local.port == port) && theirs.is_none_or(|port| s.peer.port == port);
    let alike: Vec<&&Socket> = others.iter().filter(is_alike).collect();
    let with_row = alike.iter().filter(|s| view.earlier(s).is_none()).count() as u64;
    let ports = match (&own, &theirs) {
        (None, None) => (None, None),
        (own, theirs) => (Some(own.as_slice()), Some(theirs.as_slice())),
    };
    let without_row = reach::traced(view, (netns, addr), began, ports).saturating_sub(with_row);
    let others = alike.len() as u64 + without_row;
    let is_proven = !works_large && (heard > 0 || others > 1 && rows.len() > 1);
    is_proven.then_some(BlackHole { rows, heard, others })
}

/// The port that all of them have.
fn one_port(rows: &[&Socket], port: impl Fn(&Socket) -> u16) -> Option<u16> {
    let first = rows.first().map(|s| port(s))?;
    rows.iter().all(|s| port(s) == first).then_some(first)
}
