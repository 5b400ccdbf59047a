//! The fields of the lines of `trace --json`.

use serde_json::{Value as Json, json};

use super::{count, nullable, object, or_null, reference, time};
use crate::aggregate::lives::EndedBy;
use crate::model::event::ResetReason;
use crate::model::transition::Via;
use crate::model::{Source, State};

/// The header: the documents' own, with how changes are observed.
pub(super) fn head() -> Vec<(&'static str, Json)> {
    let mut fields = super::head("trace");
    for (name, schema) in &mut fields {
        if *name == "source" {
            // A source that compares dumps names the source of the dumps.
            let tracers = Via::ALL.iter().filter(|via| **via != Via::Poll).map(|via| via.key());
            *schema = json!({ "enum": tracers.chain(Source::ALL.map(Source::key)).collect::<Vec<_>>() });
        }
    }
    fields.push(("via", json!({ "enum": Via::ALL.iter().map(|via| via.key()).collect::<Vec<_>>() })));
    fields
}

fn state() -> Json {
    let mut names: Vec<Json> = State::ALL.iter().map(|s| json!({ "const": s.key() })).collect();
    names.push(json!({ "type": "string", "pattern": "^unknown" }));
    json!({ "anyOf": names })
}

/// The connection of a line.
fn connection() -> Vec<(&'static str, Json)> {
    vec![
        ("at", time()),
        ("netns", nullable("integer")),
        ("family", json!({ "enum": ["ipv4", "ipv6"] })),
        ("cookie", json!({ "type": ["string", "null"], "pattern": "^0x[0-9a-f]+$" })),
        ("local", reference("endpoint")),
        ("peer", reference("endpoint")),
    ]
}

/// Whose it is.
fn member() -> Vec<(&'static str, Json)> {
    ["unit", "container", "container_id", "pod"].map(|key| (key, nullable("string"))).into()
}

fn actor() -> Json {
    or_null(&object(vec![("pid", count()), ("comm", json!({ "type": "string" }))], &[]))
}

pub(super) fn transition() -> Vec<(&'static str, Json)> {
    let mut fields = connection();
    fields.extend([
        ("old", or_null(&state())),
        ("new", state()),
        ("in_old_us", nullable("integer")),
        ("by", json!({ "enum": ["process", "kernel_thread", "network", "unknown_process", null] })),
        ("by_call", json!({ "type": "boolean" })),
        ("process", actor()),
    ]);
    fields.extend(member());
    fields
}

pub(super) fn life() -> Vec<(&'static str, Json)> {
    let step = object(vec![("state", state()), ("duration_us", count())], &[]);
    let mut fields = connection();
    fields.extend([
        ("opened_by", json!({ "enum": ["local", "peer", null] })),
        ("opener", actor()),
        ("closed_first", json!({ "enum": ["local", "peer", "abort", null] })),
        ("closer", actor()),
        ("ended", json!({ "enum": ["time_wait", "closed", "cut", "failed", null] })),
        ("ended_by", json!({ "enum": words(&EndedBy::KEYS) })),
        ("errno", nullable("string")),
        ("reset_reason", json!({ "enum": words(ResetReason::KEYS) })),
        ("inferred", json!({ "type": "boolean" })),
        ("duration_us", nullable("integer")),
        ("sent_bytes", nullable("integer")),
        ("received_bytes", nullable("integer")),
        ("states", json!({ "type": "array", "items": step })),
        ("complete", json!({ "type": "boolean" })),
    ]);
    fields.extend(member());
    fields
}

/// Some words, or null.
fn words(words: &[&str]) -> Vec<Json> {
    words.iter().map(|word| json!(word)).chain([Json::Null]).collect()
}

/// A reset or a repeated segment.
pub(super) fn fault() -> Vec<(&'static str, Json)> {
    let mut fields = connection();
    fields.extend([
        ("state", or_null(&state())),
        ("reset_reason", json!({ "enum": words(ResetReason::KEYS) })),
        ("errno", nullable("string")),
        ("by", json!({ "enum": ["process", "kernel_thread", "network", "unknown_process", null] })),
        ("process", actor()),
    ]);
    fields.extend(member());
    fields
}

pub(super) fn matrix() -> Vec<(&'static str, Json)> {
    let row = object(vec![("old", or_null(&state())), ("new", state()), ("count", count())], &[]);
    vec![("duration_ms", count()), ("transitions", json!({ "type": "array", "items": row }))]
}

pub(super) fn end() -> Vec<(&'static str, Json)> {
    vec![
        ("total", count()),
        ("transitions", count()),
        ("lost", nullable("integer")),
        ("unseen", nullable("integer")),
        ("forgotten", count()),
        ("duration_ms", count()),
    ]
}
