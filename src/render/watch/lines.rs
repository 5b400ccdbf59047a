//! One JSON object per line: `snapshot`, `transition`, `finding`, `gap`, `end` (docs/watch.md).

use std::io::{self, Write};

use serde_json::{Map, Value as Json, json};

use crate::aggregate::flows::{Flow, Ledger};
use crate::aggregate::tracker::StateChange;
use crate::model::{Gap, NetnsId, State};
use crate::render::gap;
use crate::render::json::{self, stamp};
use crate::watch::{Frame, FrameGroup, GroupId, Sighting, TimeWaitOwners, TraceStatus};

fn state(state: Option<State>) -> Json {
    match state {
        None => Json::Null,
        Some(State::Unknown(n)) => json!(format!("unknown({n})")),
        Some(named) => json!(named.key()),
    }
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}

/// Writes the line of a sample.
///
/// # Errors
/// When the stream fails.
pub fn snapshot_line(out: &mut dyn Write, frame: &Frame) -> io::Result<()> {
    let changes: Vec<Json> = frame
        .matrix
        .changes()
        .into_iter()
        .map(|(from, to, n)| json!({ "from": state(from), "to": state(to), "count": n * frame.scale }))
        .collect();
    let stays: Map<String, Json> = frame
        .times_in_state
        .iter()
        .map(|s| {
            let median = json!({ "min": s.median_ms.0, "max": s.median_ms.1 });
            let stay = json!({ "count": s.count, "mean_ms": s.mean_ms, "median_ms": median, "max_ms": s.max_ms });
            (s.state.key().to_owned(), stay)
        })
        .collect();
    let groups = frame.groups.as_ref().map(|groups| {
        let rows: Vec<Json> = groups
            .rows
            .iter()
            .map(|g| json!({ "group": group(g), "total": g.counts.total(), "states": json::states(&g.counts, frame.unseen) }))
            .collect();
        let rest = groups.rest.as_ref().map(|(n, c)| json!({ "groups": n, "total": c.total() }));
        json!({ "by": groups.by.name(), "rows": rows, "other": rest })
    });
    let map = object(json!({
        "schema": json::SCHEMA,
        "seq": frame.seq,
        "taken_at": stamp(frame.taken_at_ms),
        "host": &*frame.host,
        "kernel": &*frame.kernel,
        "source": frame.source,
        "interval_ms": frame.interval_ms,
        "elapsed_ms": frame.elapsed_ms,
        "sample_us": frame.sample_us,
        "dump_us": frame.dump_us,
        "skipped": frame.skipped,
        "filter": &*frame.filter,
        "total": frame.all().total(),
        "states": json::states(&frame.all(), frame.unseen.union(frame.shown.complement())),
        "changes": changes,
        "accounts": ledger(&frame.ledger),
        "since_start": ledger(&frame.since_start),
        "trace": frame.trace.as_ref().map(trace),
        "time_wait_owners": frame.time_wait_owners.map(time_wait_owners),
        "stays": stays,
        "groups": groups,
        "tracked": { "rows": frame.followed, "one_in": frame.scale },
    }));
    json::line(out, "snapshot", map)
}

fn trace(t: &TraceStatus) -> Json {
    json!({ "via": t.via, "changes": t.changes, "lost": t.lost })
}

fn time_wait_owners(a: TimeWaitOwners) -> Json {
    json!({ "exact": a.exact, "traced": a.traced, "likely": a.likely, "unknown": a.unknown })
}

fn ledger(ledger: &Ledger) -> Json {
    let flow = |f: &Flow| json!({ "seen": f.seen, "traced": f.traced, "unseen": f.unseen, "total": f.total() });
    json!({
        "elapsed_ms": ledger.elapsed_ms,
        "opened": flow(&ledger.opened),
        "time_wait": flow(&ledger.time_wait),
        "ended": ledger.ended,
        "active_opens": ledger.active_opens,
        "passive_opens": ledger.passive_opens,
        "resets": ledger.resets,
        "attempt_fails": ledger.attempt_fails,
    })
}

fn group(group: &FrameGroup) -> Json {
    match &group.id {
        GroupId::Owner(label) => json!({ "process": &**label }),
        GroupId::ShortLived(comm) => json!({ "process": null, "short_lived": &**comm, "processes": group.processes }),
        GroupId::Likely(comm) => json!({ "process": null, "likely": &**comm }),
        GroupId::Nobody(status) => json!({ "process": null, "owner_status": status.key() }),
        GroupId::Endpoint(endpoint, netns) => {
            let mut at = json::endpoint(*endpoint);
            if let Some(inode) = netns {
                at["netns"] = json!(inode.get());
            }
            at
        }
        GroupId::User(uid) => json!({ "uid": uid }),
        GroupId::Text(text) => json!(&**text),
        GroupId::None => Json::Null,
    }
}

/// Writes the line of one change of one socket.
///
/// # Errors
/// When the stream fails.
pub fn transition_line(out: &mut dyn Write, frame: &Frame, event: &StateChange) -> io::Result<()> {
    let map = object(json!({
        "taken_at": stamp(frame.taken_at_ms),
        "seq": frame.seq,
        "netns": event.netns.map(NetnsId::get),
        "cookie": event.cookie.map(|c| format!("{c:#x}")),
        "local": json::endpoint(event.tuple.local),
        "peer": json::endpoint(event.tuple.peer),
        "from": state(event.from),
        "to": state(event.to),
        "dwell_ms": event.dwell_ms,
        "owner": event.owner.set().and_then(|set| frame.labels.get(&set)).map(ToString::to_string),
    }));
    json::line(out, "transition", map)
}

/// Writes the line of a finding that appeared, changed or disappeared.
///
/// # Errors
/// When the stream fails.
pub fn finding_line(out: &mut dyn Write, sighting: &Sighting) -> io::Result<()> {
    let mut map = object(json!({
        "event": if sighting.is_gone() { "gone" } else { "seen" },
        "first_seen": stamp(sighting.first_ms),
        "last_seen": stamp(sighting.last_ms),
        "gone_at": sighting.gone_ms.map(stamp),
    }));
    map.extend(object(json::finding(&sighting.finding)));
    json::line(out, "finding", map)
}

/// Writes the line of something that could not be seen.
///
/// # Errors
/// When the stream fails.
pub fn gap_line(out: &mut dyn Write, gap: &Gap) -> io::Result<()> {
    json::line(out, "gap", gap::object(gap))
}

/// Writes the last line, so that a reader knows that nothing is missing.
///
/// # Errors
/// When the stream fails.
pub fn end_line(out: &mut dyn Write, samples: u64, reason: &str, since_start: Option<&Ledger>) -> io::Result<()> {
    let map = object(json!({ "samples": samples, "reason": reason, "since_start": since_start.map(ledger) }));
    json::line(out, "end", map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gap::{Missing, WayOut, Why};
    use crate::watch::testkit;

    #[test]
    fn every_line_is_one_object_with_its_type_first() {
        let frame = testkit::frame();
        let mut out = Vec::new();
        snapshot_line(&mut out, &frame).unwrap();
        for event in &frame.events {
            transition_line(&mut out, &frame, event).unwrap();
        }
        for sighting in frame.findings.iter() {
            finding_line(&mut out, sighting).unwrap();
        }
        gap_line(&mut out, &Gap::new(Missing::Marks, Why::ProcNetTcp, WayOut::None)).unwrap();
        end_line(&mut out, 1, "count", Some(&frame.since_start)).unwrap();
        let text = String::from_utf8(out).unwrap();
        let mut schema = crate::render::schema::schema();
        schema["oneOf"] = json!([{ "$ref": "#/$defs/watch" }]);
        let schema = jsonschema::validator_for(&schema).unwrap();
        let kinds: Vec<String> = text
            .lines()
            .map(|line| {
                assert!(line.starts_with("{\"type\":\""), "{line}");
                let json: Json = serde_json::from_str(line).unwrap();
                let complaints: Vec<String> = schema.iter_errors(&json).map(|e| e.to_string()).collect();
                assert!(complaints.is_empty(), "{complaints:?}: {line}");
                json["type"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(kinds, ["snapshot", "transition", "finding", "finding", "gap", "end"]);
        let first: Json = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first["states"].as_object().unwrap().len(), State::ALL.len());
        assert_eq!(first["accounts"]["opened"], json!({ "seen": 20, "traced": 0, "unseen": 4, "total": 24 }));
        let gone: Vec<Json> = text
            .lines()
            .map(|line| serde_json::from_str::<Json>(line).unwrap())
            .filter(|line| line["type"] == "finding")
            .map(|line| line["gone_at"].clone())
            .collect();
        assert_eq!(gone, [Json::Null, json!("2025-10-09T08:53:20Z")]);
        assert_eq!(first["changes"][0], json!({ "from": "established", "to": "time_wait", "count": 5 }));
    }
}
