//! The schema of `kill`.

use serde_json::{Value as Json, json};

use super::{count, gaps, head, nullable, object, reference};
use crate::model::State;
use crate::model::fate::Fate;

pub(super) fn kill() -> Json {
    let states: Vec<Json> = State::ALL.iter().map(|s| json!(s.key())).chain([Json::Null]).collect();
    let target = object(
        vec![
            ("outcome", json!({ "enum": Fate::KEYS })),
            ("reason", nullable("string")),
            ("state_now", json!({ "enum": states })),
            ("resets_peer", json!({ "type": "boolean" })),
            ("socket", reference("socket")),
        ],
        &[],
    );
    let mut fields = head("kill");
    fields.push(("executed", json!({ "type": "boolean" })));
    fields.push(("targets", json!({ "type": "array", "items": target })));
    fields.push(("total", count()));
    fields.extend(Fate::KEYS.map(|key| (key, count())));
    fields.push(("gaps", gaps()));
    object(fields, &[])
}
