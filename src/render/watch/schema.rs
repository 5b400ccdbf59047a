//! The JSON Schema of the lines of `watch`: definitions that `render::schema` adds to its own. The tests validate
//! real lines, with no other fields allowed.
#![allow(clippy::needless_pass_by_value, reason = "schemas are made in place and handed on")]

use serde_json::{Map, Value as Json, json};

use crate::render::schema::{self, count, nullable, or_null, reference, severity, time};

/// The definitions: `watch`, which is any line, and what it refers to.
#[must_use]
pub fn definitions() -> Map<String, Json> {
    let mut map = Map::new();
    let kinds = ["watch_snapshot", "watch_transition", "watch_finding", "watch_gap", "watch_end"];
    map.insert("watch".into(), json!({ "oneOf": kinds.map(reference) }));
    map.insert("watch_snapshot".into(), snapshot());
    map.insert("watch_transition".into(), transition());
    map.insert("watch_finding".into(), finding());
    map.insert("watch_gap".into(), line("gap", schema::gap()));
    map.insert(
        "watch_end".into(),
        line(
            "end",
            vec![
                ("samples", count()),
                ("reason", json!({ "enum": ["count", "signal", "end"] })),
                ("since_start", or_null(&reference("ledger"))),
            ],
        ),
    );
    map.insert("ledger".into(), ledger());
    map
}

fn snapshot() -> Json {
    let change = object(vec![("from", nullable("string")), ("to", nullable("string")), ("count", count())]);
    let median = object(vec![("min", count()), ("max", count())]);
    let stay = object(vec![("count", count()), ("mean_ms", count()), ("median_ms", median), ("max_ms", count())]);
    let group = object(vec![("group", json!({})), ("total", count()), ("states", reference("states"))]);
    let rest = or_null(&object(vec![("groups", count()), ("total", count())]));
    let groups = object(vec![("by", text()), ("rows", json!({ "type": "array", "items": group })), ("other", rest)]);
    let owners = object(vec![("exact", count()), ("traced", count()), ("likely", count()), ("unknown", count())]);
    let trace = object(vec![("via", text()), ("changes", count()), ("lost", count())]);
    line(
        "snapshot",
        vec![
            ("schema", json!({ "const": "tcpstate/1" })),
            ("seq", count()),
            ("taken_at", time()),
            ("host", text()),
            ("kernel", text()),
            ("source", schema::source()),
            ("interval_ms", count()),
            ("elapsed_ms", nullable("integer")),
            ("sample_us", count()),
            ("dump_us", count()),
            ("skipped", count()),
            ("filter", text()),
            ("total", count()),
            ("states", reference("states")),
            ("changes", json!({ "type": "array", "items": change })),
            ("accounts", reference("ledger")),
            ("since_start", reference("ledger")),
            ("trace", or_null(&trace)),
            ("time_wait_owners", or_null(&owners)),
            ("stays", json!({ "type": "object", "additionalProperties": stay })),
            ("groups", or_null(&groups)),
            ("tracked", object(vec![("rows", count()), ("one_in", count())])),
        ],
    )
}

fn transition() -> Json {
    line(
        "transition",
        vec![
            ("taken_at", time()),
            ("seq", count()),
            ("netns", nullable("integer")),
            ("cookie", json!({ "type": ["string", "null"], "pattern": "^0x[0-9a-f]+$" })),
            ("local", reference("endpoint")),
            ("peer", reference("endpoint")),
            ("from", nullable("string")),
            ("to", nullable("string")),
            ("dwell_ms", nullable("integer")),
            ("owner", nullable("string")),
        ],
    )
}

/// The finding itself is the doctor's.
fn finding() -> Json {
    json!({
        "type": "object",
        "properties": {
            "type": { "const": "finding" },
            "event": { "enum": ["seen", "gone"] },
            "first_seen": time(),
            "last_seen": time(),
            "gone_at": { "type": ["string", "null"], "format": "date-time" },
            "rule": text(),
            "severity": severity(),
        },
        "required": ["type", "event", "first_seen", "last_seen", "rule", "severity", "summary", "evidence", "next"],
    })
}

fn ledger() -> Json {
    let flow = object(vec![
        ("seen", count()),
        ("traced", count()),
        ("unseen", nullable("integer")),
        ("total", nullable("integer")),
    ]);
    object(vec![
        ("elapsed_ms", count()),
        ("opened", flow.clone()),
        ("time_wait", flow),
        ("ended", nullable("integer")),
        ("active_opens", nullable("integer")),
        ("passive_opens", nullable("integer")),
        ("resets", nullable("integer")),
        ("attempt_fails", nullable("integer")),
    ])
}

fn line(kind: &str, mut fields: Vec<(&str, Json)>) -> Json {
    fields.insert(0, ("type", json!({ "const": kind })));
    object(fields)
}

fn object(fields: Vec<(&str, Json)>) -> Json {
    schema::object(fields, &[])
}

fn text() -> Json {
    json!({ "type": "string" })
}
