//! `/findings.json`: what the rules say by now, as one document.

use serde_json::Value as Json;

use crate::model::Gap;
use crate::render::json::{self, Head, stamp};
use crate::watch::{Sighting, Verdicts};

/// The document; without `verdicts` the rules are not run, or failed.
#[must_use]
pub fn document(head: &Head, verdicts: Option<&Verdicts>, gaps: &[Gap]) -> Json {
    let mut map = json::head(head);
    let current = verdicts.and_then(Verdicts::current);
    map.insert("judged_at".into(), current.and_then(|v| v.judged_at_ms).map_or(Json::Null, stamp));
    map.insert("findings".into(), current.into_iter().flat_map(Verdicts::present).map(finding).collect());
    map.insert("gaps".into(), json::gaps(gaps));
    Json::Object(map)
}

fn finding(sighting: &Sighting) -> Json {
    let mut finding = json::finding(&sighting.finding);
    finding["first_seen"] = stamp(sighting.first_ms);
    finding["last_seen"] = stamp(sighting.last_ms);
    finding
}
