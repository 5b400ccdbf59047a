//! The sockets behind a line: which they are, and the same in the filter language.
//!
//! Input: a state, a group or a finding. Output: a [`Drill`]. Not here: reading them.

use crate::aggregate::Key;
use crate::diagnose::{Finding, Rows};
use crate::model::column::NoNames;
use crate::model::{State, StateSet};
use crate::render::watch::group_label;
use crate::watch::GroupId;

/// A list of sockets, opened from a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Drill {
    pub title: String,
    pub rows: Rows,
    pub group: Option<(Key, GroupId)>,
    /// The same in the filter language, for the command to run next.
    pub filter: Vec<String>,
}

/// The sockets in a state.
pub(super) fn of_state(state: State) -> Drill {
    Drill {
        title: state.name().to_owned(),
        rows: Rows { states: Some(StateSet::of(&[state])), ..Rows::default() },
        group: None,
        filter: vec![format!("state {}", state.key().replace('_', "-"))],
    }
}

/// The sockets of a group.
pub(super) fn of_group(by: Key, id: &GroupId) -> Drill {
    let text = |t: &str| format!("\"{}\"", t.replace('"', "*"));
    let name = |label: &str| text(label.split('(').next().unwrap_or(label));
    let filter = match (by, id) {
        (_, GroupId::Owner(label)) => format!("process = {}", name(label)),
        (_, GroupId::Nobody(status)) => format!("owner-status = {}", status.key().replace('_', "-")),
        (Key::Listener, GroupId::Endpoint(at, _)) => format!("sport = :{}", at.port),
        (_, GroupId::Endpoint(at, _)) => format!("dst {at}"),
        (_, GroupId::User(uid)) => format!("user = {uid}"),
        (_, GroupId::Text(value)) => format!("{} = {}", by.name(), text(value)),
        (_, GroupId::Likely(_) | GroupId::None) => String::new(),
    };
    let netns = match id {
        GroupId::Endpoint(_, Some(inode)) => format!("netns = {inode}"),
        _ => String::new(),
    };
    let title = match id {
        GroupId::User(uid) => format!("user {uid}"),
        other => format!("{} {}", by.name(), group_label(other, &NoNames)),
    };
    Drill {
        title,
        rows: Rows::default(),
        group: Some((by, id.clone())),
        filter: [filter, netns].into_iter().filter(|part| !part.is_empty()).collect(),
    }
}

/// The sockets of a finding; none if it is about a limit or a setting.
pub(super) fn of_finding(finding: &Finding, several: bool) -> Option<Drill> {
    let rows = finding.rows();
    let filter = rows.filter(several);
    (!rows.is_all()).then(|| Drill { title: finding.rule.to_owned(), rows, group: None, filter })
}
