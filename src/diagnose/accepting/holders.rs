//! Whether anything that holds a listener can accept on it.

use crate::diagnose::listener_owner;
use crate::diagnose::view::View;
use crate::diagnose::wait_state::Uses;
use crate::model::{Process, Socket};

/// Programs of every system that take no connections; where it cannot be seen what they import, a hint.
const TOOLS: [&str; 17] = [
    "awk", "bash", "busybox", "cat", "cp", "dash", "find", "gawk", "grep", "mawk", "sed", "sh", "sleep", "tail", "tee",
    "timeout", "xargs",
];

/// Whether a listener has only holders that cannot accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// No program that holds it imports `accept()`.
    CannotAccept,
    /// What it imports cannot be seen; it is a tool of the system that takes no connections, and sleeps.
    IsTool,
    /// A holder may accept.
    MayAccept,
    /// These have to be inspected first.
    NotInspected,
}

/// Whether any process that holds these listeners can accept on them.
#[must_use]
pub fn reach(view: &View<'_>, listeners: &[&Socket], holders: &[&Process]) -> Reach {
    let mut reach = Reach::CannotAccept;
    if holders.is_empty() {
        return Reach::MayAccept;
    }
    for holder in holders {
        // Who starts services on demand holds the listener for them.
        let may = listener_owner::is_activator(holder) || holder.pid == 1 || !looks_idle(view, holder);
        if may {
            return Reach::MayAccept;
        }
        let Some(facts) = view.process(holder.pid) else { return Reach::MayAccept };
        let Some(inspection) = facts.inspection.as_ref() else {
            reach = Reach::NotInspected;
            continue;
        };
        let unused =
            Uses::new(view, holder.pid).is_some_and(|uses| listeners.iter().all(|l| uses.of(l) == Some(false)));
        let is_tool = facts.exe.as_deref().is_some_and(|exe| TOOLS.contains(&exe));
        match inspection.imports_accept {
            Some(false) => {}
            None if unused && is_tool => reach = if reach == Reach::NotInspected { reach } else { Reach::IsTool },
            _ => return Reach::MayAccept,
        }
    }
    reach
}

/// One thread, and no connection: what a helper that only sleeps has, and few servers.
fn looks_idle(view: &View<'_>, process: &Process) -> bool {
    view.process(process.pid).is_some_and(|f| f.threads.is_none_or(|n| n == 1) && f.state.is_none_or(|s| s != 'R'))
}
