//! The schema of what documents of several hosts have more: who they are, and whose an entry is.

use serde_json::{Value as Json, json};

use super::{nullable, object, time};

/// The start of a document that may be of several hosts.
pub(super) fn head(command: &str, more: Vec<(&'static str, Json)>) -> Vec<(&'static str, Json)> {
    let mut fields = super::head(command);
    for (key, schema) in &mut fields {
        if ["host", "kernel"].contains(key) {
            *schema = nullable("string");
        }
    }
    let text = || json!({ "type": "string" });
    let mut of_one = vec![("host", text()), ("kernel", text()), ("taken_at", time())];
    of_one.extend(more);
    fields.push(("hosts", json!({ "type": "array", "items": object(of_one, &[]) })));
    fields
}

/// An object that names its host where there are several.
pub(super) fn of_host(mut fields: Vec<(&'static str, Json)>, optional: &[&str]) -> Json {
    fields.push(("host", json!({ "type": "string" })));
    object(fields, &[optional, &["host"]].concat())
}
