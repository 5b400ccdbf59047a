//! What was traced between two samples, as JSON.

use serde_json::{Value as Json, json};

use super::endpoint;
use crate::model::NetnsId;
use crate::model::traced::{Program, SentFor, TracedInterval};

/// The groups of each kind that a document has at most.
const MOST: usize = 50;

/// The interval, or null where nothing was traced.
#[must_use]
pub fn traced(interval: Option<&TracedInterval>) -> Json {
    let Some(interval) = interval else { return Json::Null };
    let mut connects: Vec<_> = interval.connects.iter().collect();
    connects.sort_by_key(|c| (std::cmp::Reverse(c.failures()), std::cmp::Reverse(c.succeeded)));
    let failed = |c: &crate::model::traced::Connects| -> Vec<Json> {
        c.failed.iter().map(|(kind, n)| json!({ "how": kind.key(), "count": n })).collect()
    };
    let connects: Vec<Json> = connects
        .iter()
        .take(MOST)
        .map(|c| {
            json!({
                "netns": c.netns.map(NetnsId::get),
                "destination": endpoint(c.to),
                "process": program(c.program.as_ref()),
                "succeeded": c.succeeded,
                "failed": failed(c),
            })
        })
        .collect();
    let resets: Vec<Json> = interval
        .resets
        .iter()
        .take(MOST)
        .map(|r| {
            let reason =
                r.sent.and_then(|sent| if let SentFor::Reason(reason) = sent { Some(reason.key()) } else { None });
            json!({
                "netns": r.netns.map(NetnsId::get),
                "service": endpoint(r.service),
                "served_here": r.served_here,
                "sent": r.sent.is_some(),
                "reason": reason,
                "process": program(r.program.as_ref()),
                "count": r.count,
                "open": r.open,
                "unanswered": r.unanswered,
            })
        })
        .collect();
    let retransmits: Vec<Json> = interval
        .retransmits
        .iter()
        .take(MOST)
        .map(|r| {
            json!({
                "netns": r.netns.map(NetnsId::get),
                "peer": r.peer.to_string(),
                "handshake": r.handshake,
                "segments": r.segments,
                "failed": r.failed,
            })
        })
        .collect();
    json!({
        "duration_ms": interval.duration_ms,
        "lost": interval.lost,
        "not_grouped": interval.not_grouped,
        "closed_here_first": interval.closed_here_first,
        "connects": connects,
        "resets": resets,
        "retransmits": retransmits,
    })
}

fn program(program: Option<&Program>) -> Json {
    program.map_or(Json::Null, |p| json!({ "comm": p.comm, "pid": p.pid, "processes": p.processes }))
}
