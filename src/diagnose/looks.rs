//! How a look must be made to see more than this one.
//!
//! Input: who took the snapshot, and which processes it lists. Output: words for the step of a remedy. Nobody is told to be what
//! he was: root that lacks a capability is told which, and for what was recorded it is said of the recorder.

use crate::diagnose::view::View;
use crate::model::Unlisted;
use crate::model::capability::{Capabilities, Capability};
use crate::model::rights::Needs;
use crate::text;

/// What to do again, in words that begin a sentence.
#[must_use]
pub fn again(view: &View<'_>) -> &'static str {
    if view.now.looker.is_recorded { "Record" } else { "Run tcpstate doctor" }
}

/// How that must be done so that every process can be looked into: `as root, or with CAP_SYS_PTRACE and ...`. `None` where rights do
/// not help.
#[must_use]
pub fn with_rights(view: &View<'_>) -> Option<String> {
    match view.now.looker.needs(Capability::READ_DESCRIPTORS) {
        Needs::Nothing => None,
        Needs::Root => Some(as_root(Capability::READ_DESCRIPTORS)),
        Needs::Grant(lacks) => {
            Some(format!("with {} (a container: {})", text::capabilities(lacks), text::container_options(lacks)))
        }
    }
}

/// The step of a finding whose process could not be looked into.
pub const LOOK_AGAIN: &str = "{again} {how}: what the threads of the owner wait for names the cause";

/// The same with the rights that it takes.
#[must_use]
pub fn step(view: &View<'_>, how: &str) -> String {
    LOOK_AGAIN.replace("{again}", again(view)).replace("{how}", how)
}

/// The same where the process in question may be one that is not listed.
#[must_use]
pub fn with_all_processes(view: &View<'_>) -> Option<String> {
    let host = "in the host's PID namespace";
    match (view.now.owners.unlisted, view.now.looker.needs(Capability::READ_DESCRIPTORS)) {
        (Some(Unlisted::PidNamespace), Needs::Nothing) => Some(format!("{host} (a container: --pid=host)")),
        (Some(Unlisted::PidNamespace), Needs::Root) => {
            Some(format!("{host} (a container: --pid=host), {}", as_root(Capability::READ_DESCRIPTORS)))
        }
        (Some(Unlisted::PidNamespace), Needs::Grant(lacks)) => Some(format!(
            "{host} and with {} (a container: --pid=host {})",
            text::capabilities(lacks),
            text::container_options(lacks)
        )),
        (Some(Unlisted::NoProc), _) => Some("with a proc file system at /proc".to_owned()),
        (Some(Unlisted::Hidden) | None, _) => with_rights(view),
    }
}

fn as_root(wanted: &[Capability]) -> String {
    let all: Capabilities = wanted.iter().copied().collect();
    format!("as root, or with {}", text::capabilities(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::World;
    use crate::model::rights::{Looker, Rights};

    #[test]
    fn nobody_is_told_to_be_what_he_was() {
        let nobody = Some(Rights { is_root: false, effective: 0 });
        let container = Some(Rights { is_root: true, effective: 0x8004_05fb });
        let all = Some(Rights { is_root: true, effective: u64::MAX });
        let root = "as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH";
        for (rights, unlisted, told) in [
            (None, None, Some(root)),
            (nobody, None, Some(root)),
            (nobody, Some(Unlisted::Hidden), Some(root)),
            (container, None, Some("with CAP_SYS_PTRACE (a container: --cap-add SYS_PTRACE)")),
            (
                container,
                Some(Unlisted::PidNamespace),
                Some(
                    "in the host's PID namespace and with CAP_SYS_PTRACE (a container: --pid=host --cap-add SYS_PTRACE)",
                ),
            ),
            (all, Some(Unlisted::PidNamespace), Some("in the host's PID namespace (a container: --pid=host)")),
            (all, None, None),
        ] {
            for (is_recorded, verb) in [(false, "Run tcpstate doctor"), (true, "Record")] {
                let mut world = World::new();
                world.now.looker = Looker { rights, is_recorded };
                world.now.owners.unlisted = unlisted;
                let view = View::new(&world.now, None, &world.thresholds);
                assert_eq!(with_all_processes(&view).as_deref(), told, "{rights:?} {unlisted:?}");
                assert_eq!(again(&view), verb);
            }
        }
    }
}
