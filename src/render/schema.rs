//! The JSON Schema (2020-12) of every document, made from the tables that the documents are made from and committed
//! as `docs/schema/v1.json`. The tests validate real output against it, with no other fields allowed.
//!
//! Circle with `watch`, `json`: the schema is put together from those of the documents, which share its parts.

use serde_json::{Map, Value as Json, json};

use crate::diagnose::Severity;
use crate::model::column::{COLUMNS, Type};
use crate::model::event::ResetReason;
use crate::model::gap::Missing;
use crate::model::{Source, State, TcpInfo};
use crate::render::json::SCHEMA;
use crate::render::json::fields::{self, Field, Presence};

mod diff;
mod explain;
mod export;
mod fan;
mod hosts;
mod kill;
mod summary;
mod trace;

/// The schema of the documents of `summary`, `list`, `doctor`, `explain`, `kill`, `export` and `fan`, and of the lines of
/// `list --format jsonl` and `trace --json`.
#[must_use]
pub fn schema() -> Json {
    let mut schema = documents();
    if let Some(Json::Object(definitions)) = schema.get_mut("$defs") {
        definitions.extend(explain::definitions().into_iter().map(|(name, schema)| (name.to_owned(), schema)));
        definitions.extend(crate::render::watch::schema::definitions());
    }
    schema
}

fn documents() -> Json {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        "oneOf": [
            { "$ref": "#/$defs/summary" },
            { "$ref": "#/$defs/list" },
            { "$ref": "#/$defs/doctor" },
            { "$ref": "#/$defs/explain" },
            { "$ref": "#/$defs/kill" },
            { "$ref": "#/$defs/export" },
            { "$ref": "#/$defs/diff" },
            { "$ref": "#/$defs/fan" },
        ],
        "$defs": {
            "gap": hosts::of_host(gap(), &[]),
            "states": states(),
            "endpoint": object(vec![("addr", json!({ "type": "string" })), ("port", port())], &[]),
            "four_tuple": object(vec![
                ("local", reference("endpoint")),
                ("peer", reference("endpoint")),
                ("ifindex", nullable("integer")),
            ], &[]),
            "user": object(vec![("uid", count()), ("name", nullable("string"))], &[]),
            "group": summary::group(),
            "rest": summary::rest(),
            "process": object(vec![
                ("comm", nullable("string")),
                ("pids", json!({ "type": "array", "items": count() })),
                ("short_lived", json!({ "type": "boolean" })),
                ("unit", nullable("string")),
                ("container", nullable("string")),
                ("pod", nullable("string")),
                ("owner_status", json!({ "type": "string" })),
            ], &["short_lived", "unit", "container", "pod", "owner_status"]),
            "socket": object(socket(), &[sometimes(fields::SOCKET), vec!["host"]].concat()),
            "columns": object(columns(), &keys(&columns())),
            "finding": finding(),
            "summary": summary::summary(),
            "list": list(),
            "doctor": doctor(),
            "kill": kill::kill(),
            "export": export::export(),
            "diff": diff::diff(),
            "fan": fan::fan(),
            "line": { "oneOf": [
                { "$ref": "#/$defs/header_line" },
                { "$ref": "#/$defs/socket_line" },
                { "$ref": "#/$defs/columns_line" },
                { "$ref": "#/$defs/gap_line" },
                { "$ref": "#/$defs/end_line" },
                { "$ref": "#/$defs/trace_header_line" },
                { "$ref": "#/$defs/transition_line" },
                { "$ref": "#/$defs/life_line" },
                { "$ref": "#/$defs/reset_sent_line" },
                { "$ref": "#/$defs/reset_received_line" },
                { "$ref": "#/$defs/retransmit_line" },
                { "$ref": "#/$defs/lost_line" },
                { "$ref": "#/$defs/matrix_line" },
                { "$ref": "#/$defs/trace_end_line" },
            ] },
            "header_line": line("header", hosts::head("list", Vec::new()), &["hosts"]),
            "socket_line": line("socket", socket(), &[sometimes(fields::SOCKET), vec!["host"]].concat()),
            "columns_line": line("socket", columns(), &keys(&columns())),
            "gap_line": line("gap", with_host(gap()), &["host"]),
            "end_line": line("end", vec![("total", count()), ("left_out", left_out())], &["left_out"]),
            "trace_header_line": line("header", trace::head(), &[]),
            "transition_line": line("transition", trace::transition(), &[]),
            "life_line": line("life", trace::life(), &[]),
            "reset_sent_line": line("reset_sent", trace::fault(), &[]),
            "reset_received_line": line("reset_received", trace::fault(), &[]),
            "retransmit_line": line("retransmit", trace::fault(), &[]),
            "lost_line": line("lost", vec![("records", count()), ("total", count())], &[]),
            "matrix_line": line("matrix", trace::matrix(), &[]),
            "trace_end_line": line("end", trace::end(), &[]),
        }
    })
}

/// The start of a document that is of no source.
fn start(command: &str) -> Vec<(&'static str, Json)> {
    vec![
        ("schema", json!({ "const": SCHEMA })),
        ("command", json!({ "const": command })),
        ("version", json!({ "type": "string" })),
        ("taken_at", time()),
    ]
}

fn head(command: &str) -> Vec<(&'static str, Json)> {
    let mut fields = start(command);
    fields.push(("host", json!({ "type": "string" })));
    fields.push(("kernel", json!({ "type": "string" })));
    fields.push(("source", source()));
    fields.push(("netns", nullable("integer")));
    fields
}

fn doctor() -> Json {
    let of_one = vec![
        ("sockets", count()),
        ("interval_ms", nullable("integer")),
        ("traced", or_null(&traced())),
        ("course", or_null(&course())),
    ];
    let mut fields = hosts::head("doctor", of_one);
    fields.push(("rules", count()));
    fields.push(("sockets", count()));
    fields.push(("interval_ms", nullable("integer")));
    fields.push(("traced", or_null(&traced())));
    fields.push(("findings", findings()));
    fields.push(("incidents", json!({ "type": "array", "items": incident() })));
    fields.push(("course", json!({ "oneOf": [{ "type": "null" }, course()] })));
    let not_checked = vec![("rule", json!({ "type": "string" })), ("why", json!({ "type": "string" }))];
    let not_checked = hosts::of_host(not_checked, &[]);
    fields.push(("not_checked", json!({ "type": "array", "items": not_checked })));
    fields.push(("gaps", gaps()));
    shortened(fields)
}

/// What was found when, over a part of a recording.
fn course() -> Json {
    let time = || json!({ "type": "string", "format": "date-time" });
    let list = |fields: Vec<(&str, Json)>| json!({ "type": "array", "items": object(fields, &[]) });
    let gone = json!({ "type": ["string", "null"], "format": "date-time" });
    let spells = list(vec![("first_seen", time()), ("last_seen", time()), ("gone_at", gone)]);
    let sockets = object(vec![("first", count()), ("most", count()), ("last", count())], &[]);
    let finding =
        vec![("id", json!({ "type": "string" })), ("spells", spells), ("looks", count()), ("sockets", sockets)];
    object(
        vec![
            ("since", time()),
            ("until", time()),
            ("snapshots", count()),
            ("looks", count()),
            ("findings", list(finding)),
        ],
        &[],
    )
}

/// What was traced between the two samples.
fn traced() -> Json {
    let text = || json!({ "type": "string" });
    let list = |fields: Vec<(&str, Json)>| json!({ "type": "array", "items": object(fields, &[]) });
    let flag = || json!({ "type": "boolean" });
    let process = || or_null(&object(vec![("comm", text()), ("pid", count()), ("processes", count())], &[]));
    let reasons: Vec<Json> = ResetReason::KEYS.iter().map(|key| json!(key)).chain([Json::Null]).collect();
    object(
        vec![
            ("duration_ms", count()),
            ("lost", count()),
            ("not_grouped", count()),
            ("closed_here_first", count()),
            (
                "connects",
                list(vec![
                    ("netns", nullable("integer")),
                    ("destination", reference("endpoint")),
                    ("process", process()),
                    ("succeeded", count()),
                    ("failed", list(vec![("how", text()), ("count", count())])),
                ]),
            ),
            (
                "resets",
                list(vec![
                    ("netns", nullable("integer")),
                    ("service", reference("endpoint")),
                    ("served_here", flag()),
                    ("sent", flag()),
                    ("reason", json!({ "enum": reasons })),
                    ("process", process()),
                    ("count", count()),
                    ("open", count()),
                    ("unanswered", count()),
                ]),
            ),
            (
                "retransmits",
                list(vec![
                    ("netns", nullable("integer")),
                    ("peer", text()),
                    ("handshake", count()),
                    ("segments", count()),
                    ("failed", count()),
                ]),
            ),
        ],
        &[],
    )
}

fn incident() -> Json {
    let text = || json!({ "type": "string" });
    hosts::of_host(
        vec![
            ("id", text()),
            ("severity", severity()),
            ("title", text()),
            ("since", nullable("string")),
            ("exhausted_at", nullable("string")),
            ("cause", text()),
            ("consequences", json!({ "type": "array", "items": text() })),
        ],
        &[],
    )
}

/// A number with its precision.
fn measure() -> Json {
    let kind = json!({ "enum": ["exact", "at_least", "range", "estimate"] });
    let known = object(vec![("kind", kind), ("value", count()), ("at_most", count())], &["at_most"]);
    or_null(&known)
}

fn finding() -> Json {
    let text = || json!({ "type": "string" });
    let steps = || json!({ "type": "array", "items": text() });
    let at = || or_null(&reference("endpoint"));
    let subject = object(
        vec![
            ("netns", nullable("integer")),
            ("pid", nullable("integer")),
            ("comm", nullable("string")),
            ("pids", json!({ "type": "array", "items": count() })),
            ("uid", nullable("integer")),
            ("unit", nullable("string")),
            ("container", nullable("string")),
            ("pod", nullable("string")),
            ("listener", at()),
            ("destination", at()),
            ("source", nullable("string")),
            ("object", nullable("string")),
        ],
        &[],
    );
    let hypothesis = object(
        vec![
            ("cause", text()),
            ("text", text()),
            ("confidence", json!({ "type": "number", "minimum": 0, "maximum": 1 })),
            ("decided_by", text()),
        ],
        &[],
    );
    let ruled_out = object(vec![("cause", text()), ("why", text())], &[]);
    // Each rule has its own names; its page lists them.
    let evidence = json!({
        "type": "object",
        "propertyNames": { "pattern": "^[a-z][a-z0-9_]*$" },
        "additionalProperties": { "type": ["number", "string", "array", "null"], "items": text() },
    });
    hosts::of_host(
        vec![
            ("id", text()),
            ("rule", text()),
            ("severity", severity()),
            ("confidence", json!({ "type": "number", "minimum": 0, "maximum": 1 })),
            ("confidence_reason", text()),
            ("summary", text()),
            ("subject", subject),
            ("lasting_ms", measure()),
            ("exhausted_in_ms", measure()),
            ("hypotheses", json!({ "type": "array", "items": hypothesis })),
            ("ruled_out", json!({ "type": "array", "items": ruled_out })),
            ("evidence", evidence),
            ("why", text()),
            ("remedy", steps()),
            ("avoid", steps()),
            ("next", text()),
            ("first_seen", time()),
            ("last_seen", time()),
        ],
        // What looks again and again has them.
        &["first_seen", "last_seen"],
    )
}

fn list() -> Json {
    let mut fields = hosts::head("list", Vec::new());
    // All are whole, or all have the columns of `-c`.
    let either = json!([{ "items": reference("socket") }, { "items": reference("columns") }]);
    fields.push(("sockets", json!({ "type": "array", "anyOf": either })));
    fields.push(("total", count()));
    fields.push(("gaps", gaps()));
    shortened(fields)
}

/// A document that may be shortened: how many entries its lists lack, by their paths.
fn shortened(mut fields: Vec<(&'static str, Json)>) -> Json {
    fields.push(("left_out", left_out()));
    object(fields, &["left_out", "hosts"])
}

fn left_out() -> Json {
    json!({ "type": "object", "additionalProperties": count() })
}

/// One line of `list --format jsonl`; a reader must ignore types that it does not know.
fn line(kind: &str, fields: Vec<(&'static str, Json)>, optional: &[&str]) -> Json {
    let mut all = vec![("type", json!({ "const": kind }))];
    all.extend(fields);
    object(all, optional)
}

/// Where sockets were read.
pub(crate) fn source() -> Json {
    json!({ "enum": Source::ALL.map(Source::key) })
}

pub(crate) fn gap() -> Vec<(&'static str, Json)> {
    vec![
        ("missing", json!({ "enum": Missing::KEYS.as_slice() })),
        ("what", json!({ "type": "string" })),
        ("why", json!({ "type": "string" })),
        ("hint", nullable("string")),
    ]
}

fn states() -> Json {
    let mut fields: Vec<(&str, Json)> = State::ALL.iter().map(|s| (s.key(), nullable("integer"))).collect();
    fields.push(("unknown", count()));
    object(fields, &["unknown"])
}

/// A socket, whole.
fn socket() -> Vec<(&'static str, Json)> {
    let mut all = vec![("host", nullable("string"))];
    all.extend(properties(fields::SOCKET));
    all
}

fn with_host(mut fields: Vec<(&'static str, Json)>) -> Vec<(&'static str, Json)> {
    fields.push(("host", json!({ "type": "string" })));
    fields
}

/// The chosen columns of a socket.
fn columns() -> Vec<(&'static str, Json)> {
    COLUMNS.iter().map(|column| (column.json.key, of_type(column.json.ty, true))).collect()
}

fn properties(table: &[Field]) -> Vec<(&'static str, Json)> {
    table.iter().map(|field| (field.name(), of_type(field.ty, field.presence == Presence::OrNull))).collect()
}

/// The keys that are not always present.
fn sometimes(table: &[Field]) -> Vec<&'static str> {
    table.iter().filter(|field| field.presence == Presence::Sometimes).map(Field::name).collect()
}

fn part(table: &[Field]) -> Json {
    object(properties(table), &sometimes(table))
}

fn of_type(ty: Type, with_null: bool) -> Json {
    let schema = match ty {
        Type::Text if with_null => return nullable("string"),
        Type::Integer if with_null => return nullable("integer"),
        Type::Flag if with_null => return nullable("boolean"),
        Type::Text => json!({ "type": "string" }),
        Type::Integer => count(),
        Type::Flag => json!({ "type": "boolean" }),
        Type::Port => port(),
        Type::Share => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Type::Word(words) => json!({ "enum": words() }),
        Type::Id => {
            let types = if with_null { json!(["string", "null"]) } else { json!("string") };
            return json!({ "type": types, "pattern": "^0x[0-9a-f]+$" });
        }
        Type::Endpoint => reference("endpoint"),
        Type::Age => part(fields::AGE),
        Type::Timer => part(fields::TIMER),
        Type::Owners => json!({ "type": "array", "items": part(fields::OWNER) }),
        Type::KernelUser => part(fields::KERNEL_USER),
        Type::SkMem => part(fields::SKMEM),
        Type::TcpInfo => {
            let mut all: Vec<_> = TcpInfo::FIELDS.iter().map(|name| (*name, nullable("integer"))).collect();
            all.extend(properties(fields::UNLIMITED));
            object(all, &[])
        }
        Type::Texts => json!({ "type": "array", "items": nullable("string") }),
        Type::Integers => json!({ "type": "array", "items": count() }),
    };
    if with_null { or_null(&schema) } else { schema }
}

fn findings() -> Json {
    json!({ "type": "array", "items": reference("finding") })
}

fn gaps() -> Json {
    json!({ "type": "array", "items": reference("gap") })
}

pub(crate) fn count() -> Json {
    json!({ "type": "integer", "minimum": 0 })
}

fn port() -> Json {
    json!({ "type": "integer", "minimum": 0, "maximum": 65535 })
}

pub(crate) fn severity() -> Json {
    json!({ "enum": Severity::ALL.map(Severity::key) })
}

/// A moment.
pub(crate) fn time() -> Json {
    json!({ "type": "string", "format": "date-time" })
}

pub(crate) fn nullable(kind: &str) -> Json {
    json!({ "type": [kind, "null"] })
}

/// What a schema allows, or nothing.
pub(crate) fn or_null(schema: &Json) -> Json {
    json!({ "oneOf": [schema, { "type": "null" }] })
}

pub(crate) fn reference(name: &str) -> Json {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn keys(fields: &[(&'static str, Json)]) -> Vec<&'static str> {
    fields.iter().map(|(key, _)| *key).collect()
}

pub(crate) fn object(fields: Vec<(&str, Json)>, optional: &[&str]) -> Json {
    let required: Vec<String> =
        fields.iter().map(|(k, _)| (*k).to_owned()).filter(|k| !optional.contains(&k.as_str())).collect();
    let properties: Map<String, Json> = fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::column::Whole;

    /// The schema at a path of a socket, without `null`.
    fn at<'s>(root: &'s Json, path: &str) -> Option<&'s Json> {
        let mut here = &root["$defs"]["socket"];
        for key in path.split('.') {
            here = here["properties"].get(key.trim_end_matches("[]"))?;
            if key.ends_with("[]") {
                here = &here["items"];
            }
            if let Some(either) = here.get("oneOf") {
                here = &either[0];
            }
            if let Some(name) = here["$ref"].as_str() {
                here = root.pointer(name.trim_start_matches('#'))?;
            }
        }
        Some(here)
    }

    #[test]
    fn every_column_is_in_json_or_says_why_not() {
        let root = schema();
        let kind = |schema: &Json| schema["type"].as_array().map_or(schema["type"].clone(), |types| types[0].clone());
        for column in COLUMNS {
            let (name, json) = (column.name, &column.json);
            let path = match json.whole {
                Whole::At(path) => path,
                Whole::NotInJson(why) => {
                    assert!(why.len() > 10 && at(&root, json.key).is_none(), "{name}: {why}");
                    continue;
                }
            };
            let there = at(&root, path).unwrap_or_else(|| panic!("{name}: no `{path}` in a socket"));
            let mut here = of_type(json.ty, false);
            if path.contains("[]") {
                here = here["items"].take();
            }
            if let Some(name) = here["$ref"].as_str() {
                here = root.pointer(name.trim_start_matches('#')).unwrap().clone();
            }
            assert_eq!((kind(&here), here.get("enum")), (kind(there), there.get("enum")), "{name}");
        }
        // And every value of a socket has a column, except those that mean nothing alone.
        let shown: Vec<&str> =
            COLUMNS.iter().filter_map(|c| if let Whole::At(path) = c.json.whole { Some(path) } else { None }).collect();
        for field in fields::SOCKET {
            let name = field.name();
            let inside = |path: &&str| path.starts_with(&format!("{name}."));
            assert!(name == "cgroup_id" || shown.contains(&name) || shown.iter().any(inside), "{name}");
        }
    }
}
