//! The sockets behind a line: which they are, and the same in the filter language.
//!
//! Input: a state, a group or a finding. Output: a [`Drill`], and the conditions of the command that lists the same. Not
//! here: reading them.

use crate::aggregate::Key;
use crate::diagnose::{Finding, Rows};
use crate::model::column::NoNames;
use crate::model::{State, StateSet};
use crate::render::watch::group_label;
use crate::watch::{Frame, GroupId, Lines, RowsOf};

/// A list of sockets, opened from a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Drill {
    pub title: String,
    pub of: RowsOf,
    /// The same in the filter language, for the command to run next; of a finding, what its sockets have in common.
    pub filter: Vec<String>,
}

/// The longest list of cookies that a filter may be (see docs/filter.md).
const LONGEST: usize = 60_000;

impl Drill {
    /// Whether these are its rows. For a moment after another list was opened the frame still has those of the one before.
    pub(super) fn has(&self, lines: &Lines) -> bool {
        lines.of.as_ref().is_none_or(|of| **of == self.of)
    }

    /// The conditions of the command that lists the same sockets, and what is to be said of it where it lists others. What
    /// the sockets have in common serves where it selects just them, else their cookies do.
    pub(super) fn conditions(&self, frame: Option<&Frame>) -> (Vec<String>, Option<String>) {
        let lines = frame.and_then(|f| f.lines.as_ref()).filter(|lines| self.has(lines));
        let (is_same, cookies, otherwise) = if let Some(id) = &self.of.finding {
            let sighting = frame.and_then(|f| f.findings.iter().find(|s| s.finding.id == *id));
            let is_same = lines.and_then(|lines| lines.of_finding).is_some_and(|of| of.is_selection);
            (is_same, sighting.and_then(|s| s.finding.sockets.cookies()), "it lists others too".to_owned())
        } else if let Some((_, id)) = &self.of.group {
            let is_same = lines.and_then(|lines| lines.is_as_command) == Some(true);
            (is_same, lines.and_then(|lines| all_cookies(lines)), more_than(id))
        } else {
            (true, None, String::new())
        };
        if is_same {
            return (self.filter.clone(), None);
        }
        let list = cookies.map(|all| all.iter().map(|cookie| format!("{cookie:#x}")).collect::<Vec<_>>().join(","));
        match list.filter(|list| list.len() <= LONGEST) {
            Some(list) => (vec![format!("cookie = {list}")], None),
            None => (self.filter.clone(), Some(otherwise)),
        }
    }
}

/// The cookies of rows that are all there.
fn all_cookies(lines: &Lines) -> Option<Vec<u64>> {
    let is_whole = lines.is_as_command.is_some() && lines.lines.len() as u64 == lines.total && lines.total > 0;
    if is_whole { lines.lines.iter().map(|line| line.socket.cookie).collect() } else { None }
}

/// What the command of a group lists that is not open.
fn more_than(id: &GroupId) -> String {
    match id {
        GroupId::Owner(label) => format!("it lists what every {} holds now", name(label)),
        GroupId::ShortLived(comm) => format!("it lists what every {comm} holds now"),
        GroupId::Likely(_) | GroupId::None => "it lists everything".to_owned(),
        _ => "it may list others too".to_owned(),
    }
}

/// The name in the label of a process.
fn name(label: &str) -> &str {
    label.split('(').next().unwrap_or(label)
}

/// The sockets in a state.
pub(super) fn of_state(state: State) -> Drill {
    Drill {
        title: state.name().to_owned(),
        of: RowsOf { rows: Rows { states: Some(StateSet::of(&[state])), ..Rows::default() }, ..RowsOf::default() },
        filter: vec![format!("state {}", state.key().replace('_', "-"))],
    }
}

/// The sockets of a group.
pub(super) fn of_group(by: Key, id: &GroupId) -> Drill {
    let text = |t: &str| format!("\"{}\"", t.replace('"', "*"));
    let filter = match (by, id) {
        (_, GroupId::Owner(label)) => format!("process = {}", text(name(label))),
        (_, GroupId::ShortLived(comm)) => format!("process = {}", text(comm)),
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
        of: RowsOf { group: Some((by, id.clone())), ..RowsOf::default() },
        filter: [filter, netns].into_iter().filter(|part| !part.is_empty()).collect(),
    }
}

/// The sockets of a finding; none if it is about a setting, a counter, or what is gone.
pub(super) fn of_finding(finding: &Finding, several: bool) -> Option<Drill> {
    let rows = finding.rows();
    let filter = rows.filter(several);
    let id = (!finding.sockets.is_empty()).then(|| finding.id.clone())?;
    let subject = &finding.subject;
    let beside = if subject.pids.is_empty() { subject.pid.into_iter().collect() } else { subject.pids.clone() };
    Some(Drill { title: finding.rule.to_owned(), of: RowsOf { rows, group: None, finding: Some(id), beside }, filter })
}
