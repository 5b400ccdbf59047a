//! Connections in a listener that only reserves a published port: no NAT rule led them to the container.
//!
//! Input: an owner that never accepts (conmon, dockerd). Output: the cause, its words and what to do. Not here: whose container it is
//! (`collect`).

use crate::diagnose::finding::Finding;
use crate::diagnose::hypothesis::{Weighed, Weight};
use crate::diagnose::listener_owner::{DOCKER, Owner};
use crate::diagnose::rule::Text;

/// The cause's id.
pub const NAT_RULE_GONE: &str = "nat-rule-gone";

/// Instead of a rule's own text.
pub const RESERVED: Text = Text {
    why: "Podman's conmon, and Docker's daemon without its userland proxy, bind a published port so that no other program takes it, \
          and never accept: a NAT rule leads clients to the container before they reach this socket. Whoever is in its queue met \
          no such rule, and waits for ever.",
    remedy: &[
        "Write the NAT rules again: {reload}",
        "Find what removed them: `nft flush ruleset`, `iptables -F` or a reload of the firewall (firewalld, ufw, nftables.service)",
        "Let the clients connect again: those that wait here stay here",
    ],
    avoid: &[
        "Don't look at the program in the container: these connections never reached it",
        "Don't raise a backlog, and don't end who holds the port: neither makes anybody accept",
    ],
};

/// It is the only cause: whoever is in the queue met no rule. Whether the rule was removed, or does not match these clients, only the
/// ruleset tells.
pub fn weighed() -> Weighed {
    let mut weighed = Weighed::of(super::CAUSES, |cause| match cause.id {
        NAT_RULE_GONE => Weight::Proven,
        _ => Weight::Refuted(String::new()),
    });
    weighed.ruled_out.clear();
    weighed
}

/// `conmon (31) only reserves the port for container web: no NAT rule led them to it`.
pub fn words(owner: &Owner<'_>) -> String {
    let whose = owner.process.identity.short_label().map_or_else(String::new, |name| format!(" for container {name}"));
    format!("{} only reserves the port{whose}: no NAT rule led them to it", owner.name())
}

/// The text that fits.
pub fn onto(finding: Finding, owner: Option<&Owner<'_>>) -> Finding {
    let container = owner.and_then(|o| o.process.identity.short_label()).unwrap_or("CONTAINER");
    let by_docker = owner.is_some_and(|o| o.process.comm == DOCKER);
    let reload = if by_docker {
        "restart the daemon, `systemctl restart docker` (with `live-restore` containers go on meanwhile)".to_owned()
    } else {
        format!("`podman network reload {container}` (`--all` for every container)")
    };
    finding.text(&RESERVED).fill("reload", reload)
}

#[cfg(test)]
mod tests {
    use super::super::{CAUSES, why};
    use super::*;
    use crate::diagnose::Severity;
    use crate::diagnose::testkit::{World, info, listen, row, unheld};
    use crate::diagnose::view::View;
    use crate::model::snapshot::{EpollWatch, Inspection, ThreadState};
    use crate::model::{Inode, State};

    /// A listener of port 9011 with one connection that waits, held by these programs.
    fn world(holders: &[&str]) -> World {
        let mut world = World::new();
        world.add(listen("0.0.0.0:9011", 1, 4096));
        for (pid, comm) in (10..).zip(holders) {
            world.hold(pid, comm, 5, 9011 << 16);
        }
        let waiting = unheld(row(State::Established, "127.0.0.1:9011", "127.0.0.1:40000"));
        world.add(info(waiting, &[("last_data_sent_ms", 5000)]));
        world
    }

    fn judged(world: &World, see: impl Fn(&super::super::Why, &Owner<'_>)) {
        let view = View::new(&world.now, None, &world.thresholds);
        let queue = &view.queues().all()[0];
        let owner = Owner::of(&view, &queue.listeners).unwrap();
        see(&why(&view, Some(&owner), queue, &queue.listeners), &owner);
    }

    #[test]
    fn a_monitor_that_holds_a_queue_means_that_the_rule_is_gone() {
        let mut named = world(&["conmon"]);
        judged(&named, |why, owner| {
            assert!(why.weighed.is(NAT_RULE_GONE) && why.weighed.ruled_out.is_empty());
            assert_eq!(why.acts(Some(owner), ""), "conmon (10) only reserves the port: no NAT rule led them to it");
        });
        named.now.owners.processes[0].identity.container = Some("ab".repeat(32));
        judged(&named, |why, owner| {
            assert!(
                why.acts(Some(owner), "").contains("for container abababababab: no NAT rule led"),
                "{:?}",
                why.words
            );
            let finding = onto(Finding::new("r", Severity::High, 1.0, ""), Some(owner));
            assert!(finding.remedy[0].contains("`podman network reload abababababab`"), "{:?}", finding.remedy);
        });
    }

    /// The daemon holds the listeners of its API too, which its runtime watches.
    #[test]
    fn the_docker_daemon_reserves_what_it_does_not_watch() {
        let of = |watched: bool| {
            let mut world = world(&["dockerd"]);
            let watch = EpollWatch { epoll_fd: 4, target_fd: 5, inode: Inode::new(9011 << 16), events: 1 };
            let thread = ThreadState {
                tid: 10,
                name: "dockerd".into(),
                state: Some('S'),
                wchan: Some("futex".into()),
                syscall: Some(202),
                syscall_arg0: Some(0),
            };
            let watches = if watched { vec![watch] } else { Vec::new() };
            let inspection = Inspection { epoll_sets: 1, watches, threads: vec![thread], ..Inspection::default() };
            world.now.processes.get_mut(&10).unwrap().inspection = Some(inspection);
            world
        };
        judged(&of(false), |why, owner| {
            assert!(owner.is_reserver && why.weighed.is(NAT_RULE_GONE), "{:?}", why.words);
            let finding = onto(Finding::new("r", Severity::High, 1.0, ""), Some(owner));
            assert!(finding.remedy[0].contains("`systemctl restart docker`"), "{:?}", finding.remedy);
        });
        judged(&of(true), |_, owner| assert!(!owner.is_reserver));
    }

    #[test]
    fn a_program_that_holds_it_too_can_accept() {
        judged(&world(&["conmon", "server"]), |why, owner| {
            assert!(!owner.is_reserver && !why.weighed.is(NAT_RULE_GONE));
            assert!(why.weighed.ruled_out.iter().all(|(cause, _)| cause.id != NAT_RULE_GONE));
        });
        assert_eq!(CAUSES.iter().filter(|c| c.id == NAT_RULE_GONE).count(), 1);
    }
}
