//! The schema of `explain bind`.

use serde_json::{Value as Json, json};

use super::{count, gaps, head, nullable, object, reference};
use crate::render::binding::assumptions;

/// The document.
pub(super) fn explain() -> Json {
    let mut fields = head("explain");
    fields.push(("bind", bind()));
    fields.push(("gaps", gaps()));
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
