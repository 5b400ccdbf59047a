//! The schema of `/findings.json` of `export`.

use serde_json::{Value as Json, json};

use super::{findings, gaps, head, object};

pub(super) fn export() -> Json {
    let mut fields = head("export");
    fields.push(("judged_at", json!({ "type": ["string", "null"], "format": "date-time" })));
    fields.push(("findings", findings()));
    fields.push(("gaps", gaps()));
    object(fields, &[])
}
