//! Segments that pass a translation (NAT) untranslated, so that whoever gets them has no socket for them and answers with RST.
//!
//! Input: traced segments without a socket, rows of both samples, tracking tables. Output: [`Untranslated`]. Not here: the
//! connections that are reset so (`reset-source`).
//!
//! Connection tracking translates what belongs to an entry. What it takes for invalid (a sequence number or an acknowledgement outside
//! of the window, `tcp_in_window`) it neither translates nor drops: that is left to the rules of the host, and most have none. At the
//! client such an answer has the wrong source; with a translated source it ends at the host that translates.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::diagnose::callers;
use crate::diagnose::translation;
use crate::diagnose::view::View;
use crate::model::conntrack::Connection;
use crate::model::snapshot::{Asked, Netns};
use crate::model::traced::{Stray, TracedInterval};
use crate::model::{Endpoint, NetnsId, Socket, State};
use crate::text;

/// So many ports of connections with one address are no chance.
const PORTS: usize = 3;

/// The answers of one service that were not translated.
#[derive(Clone, Debug)]
pub struct Untranslated<'v> {
    /// The namespace that has no socket for them.
    netns: Option<NetnsId>,
    /// What its clients call.
    pub service: Endpoint,
    /// Who answers.
    pub from: Endpoint,
    pub segments: u64,
    /// The namespace that translates the connections, and how many packets it found invalid between the samples.
    pub by: Option<(&'v Netns, u64)>,
}

impl Untranslated<'_> {
    /// Whether these are answers of the service that a namespace calls, or that it is itself.
    #[must_use]
    pub fn is_of(&self, view: &View<'_>, place: (Option<NetnsId>, Endpoint)) -> bool {
        [self.service, self.from].iter().any(|at| callers::place(view, self.netns, *at) == place)
    }

    /// By whom, as far as it is seen.
    #[must_use]
    pub fn words(&self) -> String {
        match self.by {
            Some((netns, invalid)) => format!(
                " (network namespace {} translates them, and found {} invalid)",
                netns.label(),
                text::count(invalid, "packet", "packets")
            ),
            None => format!(" (they come from {})", self.from),
        }
    }
}

/// How many packets the tracking of a namespace found invalid between the samples.
fn invalid(view: &View<'_>, netns: &Netns) -> Option<u64> {
    let before = view.before?.netns(netns.inode)?.conntrack?.invalid?;
    Some(netns.conntrack?.invalid?.saturating_sub(before))
}

/// Those of a trace, and what is worth asking about them.
#[must_use]
pub fn find<'v>(view: &'v View<'_>, traced: &TracedInterval) -> (Vec<Untranslated<'v>>, Asked) {
    let mut asked = Asked::default();
    if traced.strays.is_empty() {
        return (Vec::new(), asked);
    }
    let mut found = at_clients(view, traced, &mut asked);
    found.extend(at_gateways(view, traced, &mut asked));
    (found, asked)
}

/// Answers that reach a client with another source than it called: they come to the port of a connection with somebody else, from
/// where the client has never called.
fn at_clients<'v>(view: &'v View<'_>, traced: &TracedInterval, asked: &mut Asked) -> Vec<Untranslated<'v>> {
    let wanted: FxHashSet<_> = traced.strays.iter().map(|s| (s.netns, s.local)).collect();
    // Of all peers that were called those matter from which something strayed here.
    let senders: FxHashSet<_> = traced.strays.iter().map(|s| (s.netns, s.peer)).collect();
    let mut called: FxHashSet<(Option<NetnsId>, Endpoint)> = traced.connects.iter().map(|c| (c.netns, c.to)).collect();
    let mut of_port: FxHashMap<(Option<NetnsId>, Endpoint), Endpoint> = FxHashMap::default();
    let rows = view.before.into_iter().flat_map(|b| &b.sockets).chain(&view.now.sockets);
    for socket in rows.filter(|s| s.state.has_peer() && s.state != State::SynSent) {
        let (local, peer) = (socket.local.normalised(), socket.peer.normalised());
        if senders.contains(&(socket.netns, peer)) {
            called.insert((socket.netns, peer));
        }
        if wanted.contains(&(socket.netns, local)) {
            of_port.insert((socket.netns, local), peer);
        }
    }
    let unknown = |s: &&Stray| !called.contains(&(s.netns, s.peer));
    let mut groups: BTreeMap<(Option<NetnsId>, Endpoint, Endpoint), FxHashSet<Endpoint>> = BTreeMap::new();
    for stray in traced.strays.iter().filter(unknown) {
        if let Some(service) = of_port.get(&(stray.netns, stray.local)) {
            groups.entry((stray.netns, *service, stray.peer)).or_default().insert(stray.local);
        }
    }
    groups.retain(|_, ports| ports.len() >= PORTS);
    let mut found: Vec<Untranslated<'v>> = Vec::new();
    for ((netns, service, from), ports) in groups {
        let of_both = |s: &&Socket| s.netns == netns && s.peer.normalised() == service;
        let open: Vec<&Socket> = view.now.sockets.iter().filter(of_both).collect();
        let connections = translation::connections(view, &open);
        let by = connections.iter().find_map(|c| translator(view, *c, from));
        asked.connections.extend(connections);
        let all = traced.strays.iter().filter(|s| (s.netns, s.peer) == (netns, from) && ports.contains(&s.local));
        found.push(Untranslated { netns, service, from, segments: all.map(|s| s.count).sum(), by });
    }
    found.sort_by_key(|u| (std::cmp::Reverse(u.segments), u.netns, u.service, u.from));
    found
}

/// The namespace in whose table a connection goes to that address instead, if packets were invalid there.
fn translator<'v>(view: &'v View<'_>, connection: Connection, to: Endpoint) -> Option<(&'v Netns, u64)> {
    let entry = view.tracked(connection)??;
    let netns = view.now.netns(connection.0)?;
    let invalid = invalid(view, netns).filter(|n| *n > 0 && entry.sent_to == to)?;
    Some((netns, invalid))
}

/// Answers that end at the host which gave the connections its own address (SNAT, MASQUERADE).
fn at_gateways<'v>(view: &'v View<'_>, traced: &TracedInterval, asked: &mut Asked) -> Vec<Untranslated<'v>> {
    let mut found: Vec<Untranslated<'v>> = Vec::new();
    for netns in &view.now.netns {
        let Some(invalid) = invalid(view, netns).filter(|n| *n > 0) else { continue };
        let strays: Vec<&Stray> = traced.strays.iter().filter(|s| s.netns == netns.inode).collect();
        let has_own = |s: &Stray| view.now.sockets.iter().any(|r| r.netns == s.netns && r.peer.normalised() == s.peer);
        let mut peers: Vec<Endpoint> = strays.iter().map(|s| s.peer).collect();
        peers.sort_unstable();
        peers.dedup();
        for from in peers {
            let of_peer: Vec<&&Stray> = strays.iter().filter(|s| s.peer == from).collect();
            if of_peer.len() < PORTS || has_own(of_peer[0]) {
                continue;
            }
            asked.translators.push(netns.inode);
            let is_translated = |s: &&&Stray| {
                view.nat_ports(netns.inode)
                    .iter()
                    .any(|n| (n.source, n.to) == (s.local.addr, from) && (n.lowest..=n.highest).contains(&s.local.port))
            };
            let segments: u64 = of_peer.iter().map(|s| s.count).sum();
            if of_peer.iter().filter(|s| is_translated(s)).count() >= PORTS && invalid >= segments {
                let by = Some((netns, invalid));
                found.push(Untranslated { netns: netns.inode, service: from, from, segments, by });
            }
        }
    }
    found
}
