//! The JSON Schema of every document, made from the tables that the documents are made from.
//!
//! Comes in: nothing. Goes out: a JSON Schema (2020-12), committed as `docs/schema/v1.json`. Never here: a field that no
//! document has; the tests validate real output against it with nothing else allowed.

use serde_json::{Map, Value as Json, json};

use crate::diagnose::Severity;
use crate::model::gap::Missing;
use crate::model::{OwnerStatus, Source, State, TcpInfo};

mod trace;

/// The schema of the documents of `summary`, `list` and `doctor`, and of the lines of
/// `list --format jsonl` and `trace --json`.
#[must_use]
pub fn schema() -> Json {
    let mut schema = documents();
    if let Some(Json::Object(definitions)) = schema.get_mut("$defs") {
        definitions.extend(crate::render::watch::schema::definitions());
    }
    schema
}

fn documents() -> Json {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tcpstate/1",
        "oneOf": [
            { "$ref": "#/$defs/summary" },
            { "$ref": "#/$defs/list" },
            { "$ref": "#/$defs/doctor" },
        ],
        "$defs": {
            "gap": object(gap(), &[]),
            "states": states(),
            "endpoint": object(vec![("addr", json!({ "type": "string" })), ("port", port())], &[]),
            "four_tuple": object(vec![
                ("local", reference("endpoint")),
                ("peer", reference("endpoint")),
                ("ifindex", nullable("integer")),
            ], &[]),
            "user": object(vec![("uid", count()), ("name", nullable("string"))], &[]),
            "group": group(),
            "rest": { "oneOf": [ { "type": "null" }, object(vec![
                ("groups", count()),
                ("total", count()),
                ("states", reference("states")),
            ], &[]) ] },
            "process": object(vec![
                ("comm", nullable("string")),
                ("pids", json!({ "type": "array", "items": count() })),
                ("unit", nullable("string")),
                ("container", nullable("string")),
                ("pod", nullable("string")),
                ("owner_status", json!({ "type": "string" })),
            ], &["unit", "container", "pod", "owner_status"]),
            "socket": object(socket(), SOMETIMES),
            "finding": finding(),
            "summary": summary(),
            "list": list(),
            "doctor": doctor(),
            "line": { "oneOf": [
                { "$ref": "#/$defs/header_line" },
                { "$ref": "#/$defs/socket_line" },
                { "$ref": "#/$defs/gap_line" },
                { "$ref": "#/$defs/end_line" },
                { "$ref": "#/$defs/trace_header_line" },
                { "$ref": "#/$defs/transition_line" },
                { "$ref": "#/$defs/life_line" },
                { "$ref": "#/$defs/lost_line" },
                { "$ref": "#/$defs/matrix_line" },
                { "$ref": "#/$defs/trace_end_line" },
            ] },
            "header_line": line("header", head("list"), &[]),
            "socket_line": line("socket", socket(), SOMETIMES),
            "gap_line": line("gap", gap(), &[]),
            "end_line": line("end", vec![("total", count())], &[]),
            "trace_header_line": line("header", trace::head(), &[]),
            "transition_line": line("transition", trace::transition(), &[]),
            "life_line": line("life", trace::life(), &[]),
            "lost_line": line("lost", vec![("records", count()), ("total", count())], &[]),
            "matrix_line": line("matrix", trace::matrix(), &[]),
            "trace_end_line": line("end", trace::end(), &[]),
        }
    })
}

/// The fields of a socket that are there only when they were asked for and the kernel gave them.
const SOMETIMES: &[&str] = &["kernel_user", "congestion", "tos", "tclass", "skmem", "tcp_info"];

fn head(command: &str) -> Vec<(&'static str, Json)> {
    vec![
        ("schema", json!({ "const": "tcpstate/1" })),
        ("command", json!({ "const": command })),
        ("version", json!({ "type": "string" })),
        ("taken_at", json!({ "type": "string", "format": "date-time" })),
        ("host", json!({ "type": "string" })),
        ("kernel", json!({ "type": "string" })),
        ("source", source()),
        ("netns", nullable("integer")),
    ]
}

fn summary() -> Json {
    let groups = |keys: &[&str]| {
        let map: Map<String, Json> = keys
            .iter()
            .map(|k| {
                let rows = json!({ "type": ["array", "null"], "items": reference("group") });
                ((*k).to_owned(), rows)
            })
            .collect();
        map
    };
    let names = ["listeners", "destinations", "processes"];
    let mut properties = groups(&names);
    let rest: Map<String, Json> = names.iter().map(|k| ((*k).to_owned(), reference("rest"))).collect();
    properties.insert(
        "other".into(),
        json!({ "type": "object", "properties": rest, "required": names, "additionalProperties": false }),
    );
    properties.insert(
        "by".into(),
        object(
            vec![
                ("keys", json!({ "type": "array", "items": { "type": "string" } })),
                ("rows", json!({ "type": "array", "items": reference("group") })),
                ("other", reference("rest")),
            ],
            &[],
        ),
    );
    let mut fields = head("summary");
    fields.push(("total", count()));
    fields.push(("states", reference("states")));
    fields.push(("families", object(vec![("ipv4", reference("states")), ("ipv6", reference("states"))], &[])));
    fields.push(("groups", json!({ "type": "object", "properties": properties, "additionalProperties": false })));
    fields.push(("findings", findings()));
    fields.push(("gaps", gaps()));
    object(fields, &[])
}

fn doctor() -> Json {
    let mut fields = head("doctor");
    fields.push(("rules", count()));
    fields.push(("sockets", count()));
    fields.push(("interval_ms", nullable("integer")));
    fields.push(("findings", findings()));
    let not_checked = object(vec![("rule", json!({ "type": "string" })), ("why", json!({ "type": "string" }))], &[]);
    fields.push(("not_checked", json!({ "type": "array", "items": not_checked })));
    fields.push(("gaps", gaps()));
    object(fields, &[])
}

fn finding() -> Json {
    let text = || json!({ "type": "string" });
    let steps = || json!({ "type": "array", "items": text() });
    let at = || json!({ "oneOf": [reference("endpoint"), { "type": "null" }] });
    let severities: Vec<&str> = Severity::ALL.iter().map(|s| s.key()).collect();
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
    // Each rule has its own names; its page lists them.
    let evidence = json!({
        "type": "object",
        "propertyNames": { "pattern": "^[a-z][a-z0-9_]*$" },
        "additionalProperties": { "type": ["number", "string", "array", "null"], "items": text() },
    });
    object(
        vec![
            ("rule", text()),
            ("severity", json!({ "enum": severities })),
            ("confidence", json!({ "type": "number", "minimum": 0, "maximum": 1 })),
            ("confidence_reason", text()),
            ("summary", text()),
            ("subject", subject),
            ("evidence", evidence),
            ("why", text()),
            ("remedy", steps()),
            ("avoid", steps()),
            ("next", text()),
        ],
        &[],
    )
}

fn list() -> Json {
    let mut fields = head("list");
    fields.push(("sockets", json!({ "type": "array", "items": reference("socket") })));
    fields.push(("total", count()));
    fields.push(("gaps", gaps()));
    object(fields, &[])
}

/// One line of `list --format jsonl`; a reader must ignore types that it does not know.
fn line(kind: &str, fields: Vec<(&'static str, Json)>, optional: &[&str]) -> Json {
    let mut all = vec![("type", json!({ "const": kind }))];
    all.extend(fields);
    object(all, optional)
}

/// Where sockets are read.
pub(crate) fn source() -> Json {
    json!({ "enum": Source::ALL.map(Source::key) })
}

pub(crate) fn gap() -> Vec<(&'static str, Json)> {
    vec![
        ("missing", json!({ "enum": Missing::KEYS })),
        ("what", json!({ "type": "string" })),
        ("why", json!({ "type": "string" })),
        ("hint", nullable("string")),
    ]
}

fn group() -> Json {
    let text = json!({ "type": ["string", "null"] });
    let at = json!({ "oneOf": [reference("endpoint"), { "type": "null" }] });
    let fields = vec![
        ("total", count()),
        ("states", reference("states")),
        ("state", text.clone()),
        ("family", text.clone()),
        ("local", at.clone()),
        ("peer", at.clone()),
        ("listener", at.clone()),
        ("destination", at),
        ("local-addr", text.clone()),
        ("peer-addr", text.clone()),
        ("local-port", port()),
        ("peer-port", port()),
        ("four-tuple", reference("four_tuple")),
        ("process", reference("process")),
        ("user", json!({ "oneOf": [reference("user"), { "type": "null" }] })),
        ("netns", nullable("integer")),
        ("unit", text.clone()),
        ("container", text.clone()),
        ("pod", text),
    ];
    let optional: Vec<&str> = fields.iter().map(|(k, _)| *k).filter(|k| !matches!(*k, "total" | "states")).collect();
    object(fields, &optional)
}

fn states() -> Json {
    let mut fields: Vec<(&str, Json)> = State::ALL.iter().map(|s| (s.key(), nullable("integer"))).collect();
    fields.push(("unknown", count()));
    object(fields, &["unknown"])
}

fn socket() -> Vec<(&'static str, Json)> {
    let statuses: Vec<&str> = OwnerStatus::ALL.iter().map(|s| s.key()).collect();
    let owner = object(
        vec![
            ("pid", count()),
            ("comm", json!({ "type": "string" })),
            ("fd", count()),
            ("uid", nullable("integer")),
            ("unit", nullable("string")),
            ("container", nullable("string")),
            ("container_id", nullable("string")),
            ("runtime", nullable("string")),
            ("pod", nullable("string")),
            ("pod_uid", nullable("string")),
        ],
        &[],
    );
    let timer = object(
        vec![
            (
                "kind",
                json!({ "enum": ["retransmit", "keepalive", "time_wait", "zero_window_probe", "delayed_ack", "unknown"] }),
            ),
            ("remaining_ms", count()),
            ("retransmits", count()),
        ],
        &[],
    );
    let age = object(vec![("min", count()), ("max", nullable("integer"))], &[]);
    let info = object(TcpInfo::FIELDS.iter().map(|f| (*f, nullable("integer"))).collect(), &[]);
    let skmem = [
        "rmem_alloc_bytes",
        "rcvbuf_bytes",
        "wmem_alloc_bytes",
        "sndbuf_bytes",
        "fwd_alloc_bytes",
        "wmem_queued_bytes",
        "optmem_bytes",
        "backlog_bytes",
        "drops",
    ];
    let skmem = object(skmem.iter().map(|f| (*f, nullable("integer"))).collect(), &[]);
    let or_null = |schema: Json| json!({ "oneOf": [schema, { "type": "null" }] });
    let hex = json!({ "type": ["string", "null"], "pattern": "^0x[0-9a-f]+$" });
    vec![
        ("netns", nullable("integer")),
        ("family", json!({ "enum": ["ipv4", "ipv6"] })),
        ("state", json!({ "type": "string" })),
        ("kind", json!({ "enum": ["full", "time_wait_mini", "request", "bound_inactive"] })),
        ("local", reference("endpoint")),
        ("peer", reference("endpoint")),
        ("ifindex", nullable("integer")),
        ("recv_q_bytes", count()),
        ("send_q_bytes", nullable("integer")),
        ("uid", nullable("integer")),
        ("inode", count()),
        ("cookie", hex.clone()),
        ("timer", or_null(timer)),
        ("shutdown", nullable("integer")),
        ("v6only", nullable("boolean")),
        ("mark", nullable("integer")),
        ("cgroup_id", hex),
        ("owners", json!({ "type": "array", "items": owner })),
        ("owner_status", json!({ "enum": statuses })),
        (
            "kernel_user",
            object(
                vec![
                    ("name", json!({ "type": "string" })),
                    ("confidence", json!({ "type": "number", "minimum": 0, "maximum": 1 })),
                    ("reason", json!({ "type": "string" })),
                ],
                &[],
            ),
        ),
        ("state_age_ms", or_null(age)),
        ("congestion", json!({ "type": "string" })),
        ("tos", count()),
        ("tclass", count()),
        ("skmem", skmem),
        ("tcp_info", info),
    ]
}

fn findings() -> Json {
    json!({ "type": "array", "items": reference("finding") })
}

fn gaps() -> Json {
    json!({ "type": "array", "items": reference("gap") })
}

fn count() -> Json {
    json!({ "type": "integer", "minimum": 0 })
}

fn port() -> Json {
    json!({ "type": "integer", "minimum": 0, "maximum": 65535 })
}

fn nullable(kind: &str) -> Json {
    json!({ "type": [kind, "null"] })
}

fn reference(name: &str) -> Json {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn object(fields: Vec<(&str, Json)>, optional: &[&str]) -> Json {
    let required: Vec<String> =
        fields.iter().map(|(k, _)| (*k).to_owned()).filter(|k| !optional.contains(&k.as_str())).collect();
    let properties: Map<String, Json> = fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}
