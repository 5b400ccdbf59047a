//! The schema of `fan --json`.

use serde_json::{Value as Json, json};

use super::{count, nullable, object, start};
use crate::render::fan::Outcome;

pub(super) fn fan() -> Json {
    let outcomes = Outcome::ALL.map(Outcome::key);
    let host = object(
        vec![
            ("host", json!({ "type": "string" })),
            ("outcome", json!({ "enum": outcomes })),
            ("exit_code", nullable("integer")),
            ("took_ms", count()),
            ("error", nullable("string")),
            ("answer", nullable("object")),
        ],
        &[],
    );
    let mut fields = start("fan");
    fields.push(("hosts", json!({ "type": "array", "items": host })));
    object(fields, &[])
}
