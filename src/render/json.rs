//! JSON, schema `tcpstate/1`: the format that scripts rely on (docs/json.md).
//!
//! Input: rows, counts, gaps. Output: one document, or one object per line. Numbers are numbers, units are in the
//! keys, unknown is `null`, 64-bit ids are hex strings. A schema number only gets additions. The types below are the
//! format, so that a rename in the model changes no script.

mod columns;
pub(crate) mod fields;
pub(crate) mod object;
pub mod rows;
mod socket;
mod summary;
mod traced;

pub use summary::{Summary, group_rows, summary};
pub use traced::traced;

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::aggregate::Counts;
use crate::diagnose::{self, Diagnosis, Evidence, Finding, Measure, Severity};
use crate::model::column::Row;
use crate::model::{Endpoint, Gap, NetnsId, State, StateSet};
use crate::render::gap;
use crate::text;

/// The schema of every document.
pub const SCHEMA: &str = "tcpstate/1";

/// The start of every document.
#[derive(Clone, Debug, Serialize)]
pub struct Head {
    pub schema: &'static str,
    pub command: &'static str,
    pub version: &'static str,
    /// RFC 3339, UTC.
    pub taken_at: String,
    /// `None` of several hosts, which are named below then.
    pub host: Option<String>,
    pub kernel: Option<String>,
    /// `netlink` or `proc`; for a trace also `bpf`, `tracefs`.
    pub source: &'static str,
    /// Inode of the network namespace that was read.
    pub netns: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HeadOfHost>,
}

/// One of several hosts in a document.
#[derive(Clone, Debug, Serialize)]
pub struct HeadOfHost {
    pub host: String,
    pub kernel: String,
    pub taken_at: String,
}

/// Says of every entry of a list which host it is of.
#[must_use]
pub fn on_host(list: Json, host: &str) -> Vec<Json> {
    let Json::Array(list) = list else { return Vec::new() };
    let of_host = |entry| match entry {
        Json::Object(map) => Json::Object([("host".to_owned(), json!(host))].into_iter().chain(map).collect()),
        other => other,
    };
    list.into_iter().map(of_host).collect()
}

/// The gaps as JSON.
#[must_use]
pub fn gaps(gaps: &[Gap]) -> Json {
    gaps.iter().map(gap::object).collect()
}

/// Counts per state, every state present; `null` for those that this source cannot see.
#[must_use]
pub fn states(counts: &Counts, unseen: StateSet) -> Json {
    let mut map = Map::new();
    for state in State::ALL {
        let n = counts.get(state);
        let value = if n == 0 && unseen.contains(state) { Json::Null } else { json!(n) };
        map.insert(state.key().into(), value);
    }
    if counts.unknown() > 0 {
        map.insert("unknown".into(), json!(counts.unknown()));
    }
    Json::Object(map)
}

/// An endpoint as JSON.
#[must_use]
pub fn endpoint(endpoint: Endpoint) -> Json {
    json!({ "addr": endpoint.addr.to_string(), "port": endpoint.port })
}

/// A moment in milliseconds since the epoch, as RFC 3339; `null` out of the range of dates.
#[must_use]
pub fn stamp(ms: u64) -> Json {
    text::timestamp(ms).map_or(Json::Null, |at| json!(at.to_string()))
}

/// The start of a document that is of no source.
#[must_use]
pub fn start(command: &'static str, taken_at: &str) -> Map<String, Json> {
    let mut map = Map::new();
    map.insert("schema".into(), json!(SCHEMA));
    map.insert("command".into(), json!(command));
    map.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
    map.insert("taken_at".into(), json!(taken_at));
    map
}

/// A head as the map that a document starts from.
#[must_use]
pub fn head(head: &Head) -> Map<String, Json> {
    match serde_json::to_value(head) {
        Ok(Json::Object(map)) => map,
        _ => Map::new(),
    }
}

/// Which states a summary could not see.
#[derive(Clone, Copy, Debug)]
pub struct Unseen(pub StateSet);

/// A whole socket, as in `list`.
///
/// # Errors
/// Never on sound data: the text of a socket is JSON.
pub(crate) fn socket_value(row: &Row<'_>) -> io::Result<Json> {
    let mut text = Vec::new();
    socket::write(&mut text, None, false, row)?;
    Ok(serde_json::from_slice(&text)?)
}

/// A finding as JSON.
#[must_use]
pub fn finding(finding: &Finding) -> Json {
    let s = &finding.subject;
    let evidence: Map<String, Json> =
        finding.evidence.iter().map(|(name, value)| ((*name).to_owned(), evidence(value))).collect();
    let hypotheses: Vec<Json> = finding
        .causes
        .left
        .iter()
        .map(|h| {
            json!({
                "cause": h.cause.id,
                "text": h.cause.text,
                "confidence": (h.confidence * 100.0).round() / 100.0,
                "decided_by": h.cause.decided_by,
            })
        })
        .collect();
    let ruled_out: Vec<Json> =
        finding.causes.ruled_out.iter().map(|(cause, why)| json!({ "cause": cause.id, "why": why })).collect();
    json!({
        "id": finding.id,
        "rule": finding.rule,
        "severity": finding.severity.key(),
        "confidence": finding.confidence,
        "confidence_reason": finding.confidence_reason,
        "summary": finding.summary,
        "subject": {
            "netns": s.netns.map(NetnsId::get), "pid": s.pid, "comm": s.comm, "pids": s.pids, "uid": s.uid, "unit": s.unit,
            "container": s.container, "pod": s.pod,
            "listener": s.listener.map(endpoint), "destination": s.destination.map(endpoint),
            "source": s.source.map(|a| a.to_string()), "object": s.object,
        },
        "lasting_ms": finding.lasting_ms.map(measure),
        "exhausted_in_ms": finding.exhausted_in_ms.map(measure),
        "hypotheses": hypotheses,
        "ruled_out": ruled_out,
        "evidence": evidence,
        "why": finding.why,
        "remedy": finding.remedy,
        "avoid": finding.avoid,
        "next": finding.next,
    })
}

/// A number with its precision: `{"kind": "at_least", "value": 5000}`; a range has `value` and `at_most`.
fn measure(measure: Measure<u64>) -> Json {
    let mut map = Map::new();
    map.insert("kind".into(), json!(measure.kind()));
    map.insert("value".into(), json!(measure.low()));
    if let Measure::Range(_, high) = measure {
        map.insert("at_most".into(), json!(high));
    }
    Json::Object(map)
}

/// The findings that a severity selects: those at or above it, and the cause of an incident that is.
#[must_use]
pub fn findings(diagnosis: &Diagnosis, at_least: Severity) -> Json {
    diagnosis
        .findings
        .iter()
        .enumerate()
        .filter(|(i, _)| diagnosis.is_shown(*i, at_least))
        .map(|(_, f)| finding(f))
        .collect()
}

/// The incidents at or above a severity; times are relative to when the snapshot was taken.
#[must_use]
pub fn incidents(diagnosis: &Diagnosis, at_least: Severity, taken_at_ms: u64) -> Json {
    let of = |i: usize| &diagnosis.findings[i];
    diagnosis
        .incidents
        .iter()
        .filter(|incident| incident.severity >= at_least)
        .map(|incident| {
            let cause = of(incident.cause);
            let left = incident.members().filter_map(|i| of(i).exhausted_in_ms?.proven()).min();
            let consequences: Vec<&str> = incident
                .consequences
                .iter()
                .filter(|i| diagnosis.is_shown(**i, at_least))
                .map(|i| of(*i).id.as_str())
                .collect();
            json!({
                "id": cause.id,
                "severity": incident.severity.key(),
                "title": diagnose::title(cause.rule),
                "since": cause.lasting_ms.and_then(Measure::proven).map(|ms| stamp(taken_at_ms.saturating_sub(ms))),
                "exhausted_at": left.map(|ms| stamp(taken_at_ms.saturating_add(ms))),
                "cause": cause.id,
                "consequences": consequences,
            })
        })
        .collect()
}

fn evidence(value: &Evidence) -> Json {
    match value {
        Evidence::Count(n) | Evidence::Bytes(n) | Evidence::Millis(n) => json!(n),
        // Two digits are all that such a number is good for.
        Evidence::PerSecond(n) | Evidence::Percent(n) => json!((n * 100.0).round() / 100.0),
        Evidence::Text(text) => json!(text),
        Evidence::List(items) => json!(items),
        Evidence::Unknown => Json::Null,
    }
}

/// The rules that could not be evaluated.
#[must_use]
pub fn not_checked(diagnosis: &Diagnosis) -> Json {
    diagnosis.not_checked.iter().map(|(rule, why)| json!({ "rule": rule, "why": why })).collect()
}

/// Writes a whole document, indented, and a line end.
///
/// # Errors
/// When the stream fails.
pub fn write_document(out: &mut dyn Write, document: &Json) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    out.write_all(b"\n")
}

/// Writes one line with its type first.
///
/// # Errors
/// When the stream fails.
pub fn line(out: &mut dyn Write, kind: &str, fields: Map<String, Json>) -> io::Result<()> {
    let mut map = Map::new();
    map.insert("type".into(), json!(kind));
    map.extend(fields);
    serde_json::to_writer(&mut *out, &map)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_that_cannot_be_seen_are_null() {
        let mut counts = Counts::default();
        counts.add(State::Listen);
        let json = states(&counts, StateSet::of(&[State::BoundInactive]));
        assert_eq!((json["listen"].as_u64(), json["bound_inactive"].is_null()), (Some(1), true));
        assert_eq!(json.as_object().unwrap().len(), State::ALL.len());
    }
}
