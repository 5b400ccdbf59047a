//! The schema of `diff`.

use serde_json::{Value as Json, json};

use super::{count, gaps, hosts, nullable, object, reference, shortened};
use crate::model::State;

pub(super) fn diff() -> Json {
    let text = || json!({ "type": "string" });
    let state = || json!({ "enum": State::ALL.iter().map(|s| s.key()).chain(["unknown"]).collect::<Vec<_>>() });
    let side = || {
        // Several hosts have several.
        let at = json!({ "type": ["string", "null"], "format": "date-time" });
        object(vec![("taken_at", at), ("host", nullable("string")), ("total", count()), ("name", text())], &[])
    };
    let sides = || object(vec![("before", count()), ("after", count())], &[]);
    let states = State::ALL.iter().map(|s| (s.key(), sides())).collect();
    let share = vec![
        ("comm", nullable("string")),
        ("before", count()),
        ("after", count()),
        ("appeared", count()),
        ("vanished", count()),
    ];
    let list = |more: Vec<(&'static str, Json)>| {
        let mut fields = vec![
            ("netns", nullable("integer")),
            ("state", state()),
            ("local", reference("endpoint")),
            ("peer", reference("endpoint")),
            ("cookie", nullable("string")),
            ("recv_q_bytes", count()),
            ("send_q_bytes", nullable("integer")),
            ("comm", nullable("string")),
        ];
        fields.extend(more);
        json!({ "type": "array", "items": hosts::of_host(fields, &[]) })
    };
    let mut fields = hosts::head("diff", Vec::new());
    fields.push(("before", side()));
    fields.push(("after", side()));
    fields.push(("changed", json!({ "type": "boolean" })));
    fields.push(("states", object(states, &[])));
    let step = hosts::of_host(vec![("from", state()), ("to", state()), ("count", count())], &[]);
    fields.push(("moves", json!({ "type": "array", "items": step })));
    fields.push(("processes", json!({ "type": "array", "items": hosts::of_host(share, &[]) })));
    fields.push(("appeared", list(Vec::new())));
    fields.push(("vanished", list(Vec::new())));
    fields.push(("moved", list(vec![("state_before", state())])));
    let queues = vec![("recv_q_bytes_before", count()), ("send_q_bytes_before", nullable("integer"))];
    fields.push(("grew", list(queues)));
    fields.push(("gaps", gaps()));
    shortened(fields)
}
