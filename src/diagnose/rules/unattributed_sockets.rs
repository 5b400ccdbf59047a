//! Some sockets belong to a descriptor of somebody, but no process could be named for them.
//!
//! Input: sockets with an inode for which no process was found. Output: one finding, an explanation. Not here: an
//! accusation.
//!
#![doc = include_str!("../../../docs/rules/unattributed-sockets.md")]

use std::collections::BTreeSet;

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Severity, Subject, most_frequent};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::capability::Capability;
use crate::model::rights::Needs;
use crate::model::{OwnerStatus, RowKind, Socket, Unlisted, kernel_user};
use crate::text;

pub(super) const RULE: Rule =
    rule!("unattributed-sockets", System, One, "no process could be named for some sockets", check, [TEXT])
        .title("sockets of unknown owner")
        .identity(Identity::Object)
        .causes(CAUSES)
        .about_owners();

const PRIVILEGE: &str = "Run as root, or give the program CAP_SYS_PTRACE";
const GRANT: &str = "Give the program {capabilities}, which root lacks here (a container: {options})";
const RECORD: &str = "Record as root, or with CAP_SYS_PTRACE";
const RECORD_GRANTED: &str = "Record with {capabilities}, which root lacked there (a container: {options})";
const FORBIDDEN: &str =
    "Root is refused here: look from the host, or at the log of the security module (AppArmor, SELinux)";
const NAMESPACES: &str = "In a container, run in the pid and network namespace of the program, or on the host";
const CGROUP: &str = "Use the uid and the cgroup of the finding: they name the service where no process can be named";

const TEXT: Text = Text {
    why: "The kernel keeps an inode only while something refers to the socket, so somebody has it: a process that \
          may not be inspected, or no process at all, as with a file system of the kernel's own.",
    remedy: &[PRIVILEGE, GRANT, RECORD, RECORD_GRANTED, FORBIDDEN, NAMESPACES, CGROUP],
    avoid: &[
        "Don't call them a leak: something refers to every one of them",
        "Don't destroy them: connections of network file systems are among them",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "no-permission",
        text: "their descriptors may not be read",
        predicts: "processes whose descriptors are closed to us",
        refuted_by: "every process could be read",
        decided_by: "the same look with CAP_SYS_PTRACE, which root of a host has",
    },
    Cause {
        id: "kernel-socket",
        text: "the kernel itself has them (NFS, CIFS, iSCSI, Ceph)",
        predicts: "a port of such a service, and no process after a second look",
        refuted_by: "a process that holds them, found with more rights",
        decided_by: "`mount`, `iscsiadm -m session`: who is the peer",
    },
    Cause {
        id: "ktls",
        text: "they carry TLS in the kernel",
        predicts: "an upper layer protocol on the socket",
        refuted_by: "none on any of them",
        decided_by: "`ss -ti`: `tcp-ulp-tls`",
    },
    Cause {
        id: "in-flight",
        text: "the descriptor is in flight over a unix socket, or in a table of io_uring",
        predicts: "no process after a second look, and a program that passes descriptors or uses io_uring",
        refuted_by: "descriptors that may not be read explain them all",
        decided_by: "uid and cgroup of the sockets: what that program does",
    },
    Cause {
        id: "other-pid-namespace",
        text: "a process of another pid namespace has them, or /proc hides it",
        predicts: "a container, or /proc mounted with hidepid",
        refuted_by: "descriptors that may not be read explain them all",
        decided_by: "the same look on the host",
    },
];

pub(super) fn check(view: &View<'_>) -> Outcome {
    let owners = &view.now.owners;
    // Processes that are not listed count as one.
    let refused = owners.unreadable.saturating_sub(u32::from(owners.unlisted.is_some_and(|u| u != Unlisted::Hidden)));
    if !owners.collected {
        return Outcome::not_checked("owners were not asked for");
    }
    let mut rows: Vec<(&Socket, OwnerStatus)> = Vec::new();
    let mut raced = 0u64;
    // A subflow keeps the inode of an MPTCP socket that was closed, so its inode proves no holder.
    let has_holder = |s: &&Socket| s.inode.is_some() && s.kind == RowKind::Full && !s.mptcp;
    for socket in view.now.sockets.iter().filter(has_holder) {
        match view.owners(socket).0 {
            OwnerStatus::Raced => raced += 1,
            status @ (OwnerStatus::NoPermission
            | OwnerStatus::OtherPidns
            | OwnerStatus::Kernel
            | OwnerStatus::OtherNetns) => {
                rows.push((socket, status));
            }
            _ => {}
        }
    }
    // Sockets that come or go between two looks are there on every busy host.
    let Some((first, _)) = rows.first() else { return Outcome::default() };
    let of = |status| rows.iter().filter(|(_, s)| *s == status).count() as u64;
    let uids: BTreeSet<u32> = rows.iter().filter_map(|(s, _)| s.uid).collect();
    let cgroups: BTreeSet<u64> = rows.iter().filter_map(|(s, _)| s.cgroup).collect();
    let tuple = |s: &Socket| format!("{} {} > {}", s.state, s.local, s.peer);
    let services = most_frequent(rows.iter().filter_map(|(s, _)| kernel_user::by_port(s)).map(str::to_owned), 3);
    let held = view.now.sockets.iter().filter(has_holder).count() as u64;
    let n = rows.len() as u64;
    let summary = format!(
        "no process could be named for {} of {} that somebody holds",
        text::grouped(n),
        text::count(held, "socket", "sockets")
    );
    let mut finding = RULE
        .finding(Severity::Info, 0.97, summary)
        .because("looked for twice; why is a list, not a verdict")
        .about(rows.iter().map(|(s, _)| *s))
        .causes(causes(owners.unreadable, &rows))
        .subject(Subject {
            netns: first.netns,
            uid: uids.first().copied().filter(|_| uids.len() == 1),
            ..Subject::default()
        })
        .evidence("count", Evidence::Count(n))
        .evidence("no_permission", Evidence::Count(of(OwnerStatus::NoPermission)))
        .evidence("other_pid_namespace", Evidence::Count(of(OwnerStatus::OtherPidns)))
        .evidence("held_by_no_process", Evidence::Count(of(OwnerStatus::Kernel)))
        .evidence("other_netns", Evidence::Count(of(OwnerStatus::OtherNetns)))
        .evidence("came_or_went", Evidence::Count(raced))
        .evidence("processes_not_readable", Evidence::Count(owners.unreadable.into()))
        .evidence("uids", Evidence::List(uids.iter().take(5).map(ToString::to_string).collect()));
    if !cgroups.is_empty() {
        let few = cgroups.iter().take(5).map(ToString::to_string).collect();
        finding = finding.evidence("cgroup_ids", Evidence::List(few));
    }
    if !services.is_empty() {
        finding = finding.evidence("kernel_services", Evidence::List(services));
    }
    finding = finding.evidence("sockets", Evidence::List(rows.iter().take(5).map(|(s, _)| tuple(s)).collect()));
    let needs = view.now.looker.needs(Capability::READ_DESCRIPTORS);
    let rights = match (needs, view.now.looker.is_recorded) {
        _ if refused == 0 => None,
        (Needs::Nothing, _) => Some(FORBIDDEN),
        (Needs::Root, false) => Some(PRIVILEGE),
        (Needs::Root, true) => Some(RECORD),
        (Needs::Grant(_), false) => Some(GRANT),
        (Needs::Grant(_), true) => Some(RECORD_GRANTED),
    };
    let mut finding = finding.steps(rights.into_iter().chain([NAMESPACES, CGROUP]));
    if let Needs::Grant(lacks) = needs {
        finding =
            finding.fill("capabilities", text::capabilities(lacks)).fill("options", text::container_options(lacks));
    }
    Outcome::findings(vec![finding.next("tcpstate list -p -e")])
}

/// Which causes are left.
fn causes(unreadable: u32, rows: &[(&Socket, OwnerStatus)]) -> Weighed {
    let refuted = |why: &str| Weight::Refuted(why.to_owned());
    let services = rows.iter().filter(|(s, _)| kernel_user::by_port(s).is_some()).count();
    let layered = rows.iter().filter(|(s, _)| s.ulp).count();
    // Where some process may not be read, it is the first to have them.
    let hidden = rows.iter().all(|(_, status)| *status == OwnerStatus::NoPermission);
    let elsewhere = rows.iter().all(|(_, status)| *status == OwnerStatus::OtherPidns);
    Weighed::of(CAUSES, |cause| match cause.id {
        "no-permission" if unreadable == 0 => refuted("every process could be read"),
        "no-permission" if elsewhere => refuted("every process that is listed could be read"),
        "no-permission" => Weight::Possible(if hidden { 3.0 } else { 0.5 }),
        "kernel-socket" if services > 0 => Weight::Possible(0.6),
        "kernel-socket" if hidden || elsewhere => refuted("no port is one of such a service"),
        "kernel-socket" => Weight::Possible(0.2),
        "ktls" if layered > 0 => Weight::Possible(0.6),
        "ktls" => refuted("none has an upper layer protocol"),
        "other-pid-namespace" if elsewhere => Weight::Possible(3.0),
        _ if hidden => refuted("descriptors that may not be read explain them all"),
        _ => Weight::Possible(0.2),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, row, time_wait, unheld};
    use crate::model::rights::{Looker, Rights};
    use crate::model::{Inode, OwnerTable, Process, State};

    fn world(unreadable: u32, unheld_inodes: &[Inode]) -> World {
        let mut world = World::new();
        world.add(row(State::Established, "10.0.0.1:700", "10.0.0.9:2049"));
        world.add(row(State::Established, "10.0.0.1:701", "10.0.0.9:6000"));
        world.add(unheld(row(State::FinWait1, "10.0.0.1:702", "10.0.0.9:6000")));
        world.add(time_wait("10.0.0.1:703", "10.0.0.9:6000", 5000));
        world.now.owners = OwnerTable::new(Vec::<Process>::new(), Vec::new(), unreadable);
        if !unheld_inodes.is_empty() {
            world.now.owners.settle(OwnerTable::default(), unheld_inodes.to_vec());
        }
        world
    }

    #[test]
    fn sockets_of_closed_processes_are_explained_with_the_way_out() {
        let outcome = world(3, &[]).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!(finding.severity, Severity::Info);
        assert_eq!(finding.summary, "no process could be named for 2 of 2 sockets that somebody holds");
        assert!(finding.evidence.contains(&("no_permission", Evidence::Count(2))));
        assert!(finding.remedy[0].contains("CAP_SYS_PTRACE"));
        let left: Vec<_> = finding.causes.left.iter().map(|h| h.cause.id).collect();
        assert_eq!(left, ["no-permission", "kernel-socket"], "one of the ports is that of NFS");
        assert!(finding.evidence.contains(&("kernel_services", Evidence::List(vec!["nfs (1)".into()]))), "{finding:?}");
    }

    #[test]
    fn root_that_is_refused_is_not_told_to_become_root() {
        let mut world = world(1, &[]);
        let root = |effective| Some(Rights { is_root: true, effective });
        let ptrace = "CAP_SYS_PTRACE, which root lacks here (a container: --cap-add SYS_PTRACE)";
        for (rights, is_recorded, first) in [
            (None, false, PRIVILEGE.to_owned()),
            (Some(Rights { is_root: false, effective: 0 }), false, PRIVILEGE.to_owned()),
            (root(u64::MAX), false, FORBIDDEN.to_owned()),
            (root(0x8004_05fb), false, format!("Give the program {ptrace}")),
            (None, true, RECORD.to_owned()),
            (root(0x8004_05fb), true, format!("Record with {}", ptrace.replace("lacks here", "lacked there"))),
        ] {
            world.now.looker = Looker { rights, is_recorded };
            assert_eq!(world.check(check).findings[0].remedy[0], first, "{rights:?}");
        }
        // Whoever is in another PID namespace is not reached by any right.
        world.now.owners.unlisted = Some(Unlisted::PidNamespace);
        assert_eq!(world.check(check).findings[0].remedy[0], NAMESPACES);
    }

    #[test]
    fn sockets_that_no_process_has_are_told_from_those_that_came_or_went() {
        let first = world(0, &[]).now.sockets[0].inode.unwrap();
        let outcome = world(0, &[first]).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        let left: Vec<_> = finding.causes.left.iter().map(|h| h.cause.id).collect();
        assert_eq!(left, ["kernel-socket", "in-flight", "other-pid-namespace"]);
        for (name, n) in [("count", 1), ("held_by_no_process", 1), ("came_or_went", 1), ("no_permission", 0)] {
            assert!(finding.evidence.contains(&(name, Evidence::Count(n))), "{name}: {:?}", finding.evidence);
        }
    }

    #[test]
    fn a_subflow_of_a_closed_mptcp_socket_is_held_by_nobody() {
        let mut world = world(3, &[]);
        world.now.sockets[0].mptcp = true;
        let outcome = world.check(check);
        assert_eq!(outcome.findings[0].summary, "no process could be named for 1 of 1 socket that somebody holds");
        world.now.sockets[1].mptcp = true;
        assert_eq!(world.check(check), Outcome::default());
    }

    #[test]
    fn owned_sockets_and_those_without_an_inode_are_silent() {
        let mut world = World::new();
        world.add(row(State::Established, "10.0.0.1:700", "10.0.0.9:2049"));
        let inode = world.now.sockets[0].inode;
        world.hold(812, "client", 5, inode);
        world.add(unheld(row(State::FinWait1, "10.0.0.1:702", "10.0.0.9:6000")));
        assert_eq!(world.check(check), Outcome::default());
        assert!(World::new().check(check).not_checked.is_some(), "nobody asked for owners");
    }
}
