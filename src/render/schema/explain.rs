//! The schema of `explain`: of `bind`, of `machine`, of a topic and of the list of topics.

use serde_json::{Value as Json, json};

use super::{count, gaps, head, nullable, object, reference, shortened};
use crate::render::binding::assumptions;

/// The documents, each by its name in `$defs`.
pub(super) fn definitions() -> Vec<(&'static str, Json)> {
    let names = ["explain_bind", "explain_machine", "explain_topic", "explain_topics"];
    let any = json!({ "oneOf": names.map(reference) });
    let mut bound = head("explain");
    bound.extend([("bind", bind()), ("gaps", gaps())]);
    let mut machine = head("explain");
    machine.extend([("states", reference("states")), ("gaps", gaps())]);
    let mut page = pages();
    page.push(("topic", topic()));
    let mut list = pages();
    list.push(("topics", json!({ "type": "array", "items": object(about(), &[]) })));
    let documents = [bound, machine, page, list].map(shortened);
    std::iter::once(("explain", any)).chain(names.into_iter().zip(documents)).collect()
}

/// The head of a document that reads no socket.
fn pages() -> Vec<(&'static str, Json)> {
    head("explain").into_iter().take(3).collect()
}

fn about() -> Vec<(&'static str, Json)> {
    let text = || json!({ "type": "string" });
    vec![("kind", json!({ "enum": ["state", "topic", "rule", "column"] })), ("name", text()), ("summary", text())]
}

fn topic() -> Json {
    let text = || json!({ "type": "string" });
    let mut column = object(vec![("name", text()), ("unit", text()), ("json_key", text()), ("help", text())], &[]);
    column["type"] = json!(["object", "null"]);
    let mut fields = about();
    fields.extend([("page", nullable("string")), ("column", column), ("more", nullable("string"))]);
    object(fields, &[])
}

fn bind() -> Json {
    let errno = || nullable("string");
    let verdict = || json!({ "enum": ["works", "fails", "depends"] });
    let assumed = || json!({ "type": "array", "items": { "type": "array", "items": { "enum": assumptions() } } });
    let options = json!({ "type": "array", "items": { "enum": ["SO_REUSEADDR", "SO_REUSEPORT", "IPV6_V6ONLY"] } });
    let way = object(vec![("options", options), ("verdict", verdict()), ("errno", errno()), ("if", assumed())], &[]);
    let conflict = object(
        vec![
            ("certain", json!({ "type": "boolean" })),
            ("so_reuseport", nullable("boolean")),
            ("socket", reference("socket")),
        ],
        &[],
    );
    object(
        vec![
            ("local", reference("endpoint")),
            ("uid", count()),
            ("verdict", verdict()),
            ("errno", errno()),
            ("if", assumed()),
            ("free_in_ms", nullable("integer")),
            ("in_local_port_range", json!({ "type": "boolean" })),
            ("ways", json!({ "type": "array", "items": way })),
            ("conflicts", json!({ "type": "array", "items": conflict })),
        ],
        &[],
    )
}
