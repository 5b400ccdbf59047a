//! A sample of `watch` without a full screen: blocks for people, lines for programs.

mod lines;
pub(crate) mod plain;
pub mod schema;

use crate::model::{OwnerStatus, pattern};
use crate::text;
use crate::watch::{FrameGroup, GroupId, RowOwner};
pub use lines::{end_line, finding_line, gap_line, snapshot_line, transition_line};
pub use plain::write_block;

/// Why there is no owner. A watch does not search for the owner of every new socket at once.
fn nobody(status: OwnerStatus) -> &'static str {
    match status {
        OwnerStatus::NotCollected => "(not searched yet)",
        other => other.words(),
    }
}

/// The text of a cell: `curl(12)`, `curl(12) before`, `curl(12) closed`, `~curl 75%`, `(not accepted)`.
#[must_use]
pub fn owner_text(owner: &RowOwner) -> String {
    match owner {
        RowOwner::Holds(label) => label.to_string(),
        RowOwner::Held(label) => format!("{label} before"),
        RowOwner::Closed(label) => format!("{label} closed"),
        RowOwner::Likely { comm, confidence, .. } => format!("~{comm} {:.0}%", confidence * 100.0),
        RowOwner::Unknown(status) => nobody(*status).to_owned(),
    }
}

/// Why this process is named, in a few words.
#[must_use]
pub fn owner_reason(owner: &RowOwner) -> &'static str {
    match owner {
        RowOwner::Holds(_) => "holds it now",
        RowOwner::Held(_) => "seen before: it held the socket that this is the remainder of",
        RowOwner::Closed(_) => "traced: it closed this end",
        RowOwner::Likely { why, .. } => why,
        RowOwner::Unknown(_) => "",
    }
}

/// The label of a group.
#[must_use]
pub fn group_label(id: &GroupId, names: &dyn crate::model::column::Names) -> String {
    match id {
        GroupId::Owner(label) => label.to_string(),
        GroupId::ShortLived(comm) => format!("{comm}, short-lived"),
        GroupId::Likely(comm) => format!("~{comm} (likely)"),
        GroupId::Nobody(status) => nobody(*status).to_owned(),
        GroupId::Endpoint(endpoint, None) => endpoint.to_string(),
        GroupId::Endpoint(endpoint, Some(inode)) => match names.netns(*inode) {
            Some(name) => format!("{name}  {endpoint}"),
            None => format!("{inode}  {endpoint}"),
        },
        GroupId::User(uid) => names.user(*uid).map_or_else(|| uid.to_string(), |n| n.to_string()),
        // A label of a container or a pod may be an id.
        GroupId::Text(text) => pattern::shortened(text).to_owned(),
        GroupId::None => "(none)".into(),
    }
}

/// The label of a line of groups: that of the group, of processes that come and go with their number.
#[must_use]
pub fn line_label(group: &FrameGroup, names: &dyn crate::model::column::Names) -> String {
    match (&group.id, group.processes) {
        (GroupId::ShortLived(comm), Some(n)) => text::short_lived(comm, n),
        (id, _) => group_label(id, names),
    }
}

/// The time of day of a moment, in UTC, to the tenth of a second.
#[must_use]
pub fn clock(ms: u64) -> String {
    format!("{}.{}", text::time_of_day(ms), ms % 1000 / 100)
}
