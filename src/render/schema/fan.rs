//! The schema of `fan --json`.

use serde_json::{Value as Json, json};

use super::{count, nullable, object};
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
    object(
        vec![
            ("schema", json!({ "const": "tcpstate/1" })),
            ("command", json!({ "const": "fan" })),
            ("version", json!({ "type": "string" })),
            ("taken_at", json!({ "type": "string", "format": "date-time" })),
            ("hosts", json!({ "type": "array", "items": host })),
        ],
        &[],
    )
}
