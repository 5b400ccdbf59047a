//! The schema of `summary`: its groups, what is limited, what changed.

use serde_json::{Map, Value as Json, json};

use super::{count, findings, gaps, hosts, incident, nullable, object, or_null, port, reference, shortened};
use crate::aggregate::{Key, Sum};
use crate::model::State;

pub(super) fn summary() -> Json {
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
    // Of several hosts.
    properties.extend(groups(&["hosts"]));
    let rest: Map<String, Json> =
        names.iter().chain(&["hosts"]).map(|k| ((*k).to_owned(), reference("rest"))).collect();
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
    let mut fields = hosts::head("summary", Vec::new());
    fields.push(("total", count()));
    fields.push(("states", reference("states")));
    fields.push(("families", object(vec![("ipv4", reference("states")), ("ipv6", reference("states"))], &[])));
    fields.push(("change", or_null(&change())));
    fields.push(("groups", json!({ "type": "object", "properties": properties, "additionalProperties": false })));
    fields.push(("local_ports", or_null(&local_ports())));
    fields.push(("tcp_memory", or_null(&tcp_memory())));
    fields.push(("findings", findings()));
    fields.push(("incidents", json!({ "type": "array", "items": incident() })));
    fields.push(("gaps", gaps()));
    shortened(fields)
}

/// What changed since an earlier look.
fn change() -> Json {
    let states = State::ALL.iter().map(|s| (s.key(), nullable("integer"))).collect();
    let mut fields =
        vec![("elapsed_ms", count()), ("total", json!({ "type": "integer" })), ("states", object(states, &[]))];
    let counted = [
        "active_opens",
        "passive_opens",
        "attempt_fails",
        "resets",
        "resets_sent",
        "segments_sent",
        "segments_retransmitted",
        "listen_drops",
    ];
    fields.extend(counted.map(|key| (key, nullable("integer"))));
    object(fields, &[])
}

fn local_ports() -> Json {
    object(
        vec![
            ("netns", nullable("integer")),
            ("source", json!({ "type": "string" })),
            ("destination", reference("endpoint")),
            ("ports_blocked", count()),
            ("ports_usable", count()),
            ("fill_percent", json!({ "type": "number", "minimum": 0 })),
            ("live", count()),
            ("time_wait", count()),
            ("fin_wait2_minis", count()),
            ("bound_or_listening", count()),
            ("time_wait_reusable", count()),
        ],
        &[],
    )
}

fn tcp_memory() -> Json {
    let bytes = ["used_bytes", "min_bytes", "pressure_bytes", "max_bytes"];
    object(bytes.map(|key| (key, nullable("integer"))).to_vec(), &[])
}

/// What is limited, in the default groups.
fn limits() -> Vec<(&'static str, Json)> {
    let queue = object(
        vec![
            ("sockets", count()),
            ("full", count()),
            ("waiting", count()),
            ("fullest_waiting", count()),
            ("fullest_limit", nullable("integer")),
            ("drops", nullable("integer")),
        ],
        &[],
    );
    let descriptors = object(
        vec![
            ("pid", nullable("integer")),
            ("fd_used", nullable("integer")),
            ("fd_soft_limit", nullable("integer")),
            ("fd_hard_limit", nullable("integer")),
            ("used_percent", nullable("number")),
        ],
        &[],
    );
    vec![("accept_queue", or_null(&queue)), ("descriptors", or_null(&descriptors))]
}

pub(super) fn group() -> Json {
    let mut fields = vec![("total", count()), ("states", reference("states"))];
    fields.extend(Key::ALL.iter().map(|key| (key.name(), group_key(*key))));
    fields.extend(sums());
    fields.extend(limits());
    let keys = Key::ALL.iter().map(|key| key.name());
    let optional: Vec<&str> = keys.chain(sums().into_iter().chain(limits()).map(|(key, _)| key)).collect();
    object(fields, &optional)
}

/// The chosen sums of a group.
fn sums() -> Vec<(&'static str, Json)> {
    let of = |sum: &Sum| match sum.kind() {
        None => json!({ "type": ["number", "null"], "minimum": 0, "maximum": 1 }),
        Some(_) => nullable("integer"),
    };
    let sums = Sum::ALL.iter().map(|sum| (sum.key(), of(sum)));
    std::iter::once(("measured", count())).chain(sums).collect()
}

pub(super) fn rest() -> Json {
    let mut fields = vec![("groups", count()), ("total", count()), ("states", reference("states"))];
    fields.extend(sums());
    fields.extend(limits());
    let optional: Vec<&str> = sums().into_iter().chain(limits()).map(|(key, _)| key).collect();
    or_null(&object(fields, &optional))
}

fn group_key(key: Key) -> Json {
    match key {
        Key::Local | Key::Peer | Key::Listener | Key::Destination => or_null(&reference("endpoint")),
        Key::LocalPort => port(),
        Key::PeerPort => or_null(&port()),
        Key::FourTuple => reference("four_tuple"),
        Key::Process => reference("process"),
        Key::User => or_null(&reference("user")),
        Key::Netns => nullable("integer"),
        Key::Host
        | Key::State
        | Key::Family
        | Key::LocalAddr
        | Key::LocalNet(_)
        | Key::PeerAddr
        | Key::PeerNet(_)
        | Key::Unit
        | Key::Container
        | Key::Pod => nullable("string"),
    }
}
