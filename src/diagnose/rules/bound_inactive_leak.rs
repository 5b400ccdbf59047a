//! A program binds sockets to ports and neither listens nor connects, so those ports are lost for everybody.
//!
//! Input: rows that are bound and do nothing. Output: one finding per owner. Not here: a socket on its way from
//! bind() to connect().
//!
#![doc = include_str!("../../../docs/rules/bound-inactive-leak.md")]

use std::collections::BTreeMap;

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Severity, Subject};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::ranking;
use crate::diagnose::rate::Rate;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::{NetnsId, Socket, Source, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("bound-inactive-leak", System, OneOrTwo, "ports are bound and not used", check, [TEXT])
        .states(&[State::BoundInactive])
        .title("ports kept bound")
        .identity(Identity::Program)
        .causes(CAUSES);

const TEXT: Text = Text {
    why: "The socket was bound and then neither listened nor connected. Its port is denied to everybody's connect() \
          for as long as the descriptor stays open.",
    remedy: &["Close the socket when connect() or listen() fails", "Bind late, or set IP_BIND_ADDRESS_NO_PORT"],
    avoid: &["Don't set SO_REUSEADDR everywhere: it allows conflicts and closes nothing"],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "leak",
        text: "the program does not close the socket when connect() or listen() fails",
        predicts: "the same rows stay, and more come",
        refuted_by: "other rows at each look",
        decided_by: "a second look: `tcpstate doctor --interval 60s --rule bound-inactive-leak`",
    },
    Cause {
        id: "reserved",
        text: "the program keeps the ports for later on purpose",
        predicts: "the same rows at each look, and as many",
        refuted_by: "rows that become more",
        decided_by: "the configuration of the program: a range of ports that it hands out",
    },
    Cause {
        id: "on-the-way",
        text: "sockets on their way from bind() to connect()",
        predicts: "other rows at each look",
        refuted_by: "the same rows in two samples",
        decided_by: "a second look",
    },
];

/// Which causes are left: `stayed` of `rows` were bound before; nothing is known of it without a second sample.
fn causes(stayed: Option<usize>, rows: usize, growing: bool) -> Weighed {
    let refuted = |why: &str| Weight::Refuted(why.to_owned());
    Weighed::of(CAUSES, |cause| match (cause.id, stayed) {
        ("leak", Some(0)) => refuted("none of them was there before"),
        ("leak", _) if growing => Weight::Possible(0.9),
        ("leak", _) => Weight::Possible(0.4),
        ("reserved", _) if growing => refuted("they become more"),
        ("reserved", Some(0)) => refuted("none of them was there before"),
        ("reserved", _) => Weight::Possible(0.4),
        (_, Some(n)) if growing || n == rows => refuted("the same ones stay"),
        (_, Some(0)) => Weight::Proven,
        _ => Weight::Possible(0.2),
    })
}

/// Namespace, process and user of a socket.
type Owner = (Option<NetnsId>, Option<u32>, Option<u32>);
/// Programs that keep ports for others on purpose.
const RESERVERS: [&str; 3] = ["portreserve", "rpcbind", "systemd"];
/// Percent of the usable ports from which on the loss matters.
const SHARE_PERCENT: f64 = 1.0;
/// Percent of the usable ports whose loss will hurt others.
const MUCH_PERCENT: f64 = 25.0;
/// New ones that are no chance: a socket on its way from bind() to connect() looks the same.
const MORE: usize = 3;
/// So many before growth is worth a second look.
const SUSPECT: usize = 16;

pub(super) fn check(view: &View<'_>) -> Outcome {
    if view.now.source != Source::Netlink {
        return Outcome::not_checked("/proc/net/tcp does not list bound sockets");
    }
    let mut outcome = Outcome::default();
    let mut by_owner: BTreeMap<Owner, Vec<&Socket>> = BTreeMap::new();
    for socket in view.active().filter(|s| s.state == State::BoundInactive) {
        let pid = view.holder(socket).map(|p| p.pid);
        by_owner.entry((socket.netns, pid, socket.uid)).or_default().push(socket);
    }
    let mut findings = Vec::new();
    for ((netns, pid, uid), rows) in by_owner {
        let Some(facts) = view.netns(netns) else { continue };
        let process = view.holder(rows[0]);
        if process.is_some_and(|p| RESERVERS.contains(&p.comm.as_str())) {
            continue;
        }
        let (low, high) = facts.port_range();
        let inside = rows.iter().filter(|s| (low..=high).contains(&s.local.port)).count();
        let usable = facts.usable_ports();
        let share = inside as f64 * 100.0 / f64::from(usable.max(1));
        // Those that were bound at the first look and still are, and how many came on top.
        let stayed = rows.iter().filter(|s| view.earlier(s).is_some_and(|e| e.state == State::BoundInactive)).count();
        let growth = if view.before.is_some() { rows.len() - stayed } else { 0 };
        let gone = view.before.map_or(0, |before| {
            let same = |s: &&Socket| s.state == State::BoundInactive && (s.netns, s.uid) == (netns, uid);
            before.sockets.iter().filter(same).count().saturating_sub(stayed)
        });
        let growing = stayed >= SUSPECT && growth >= MORE && gone * 4 <= growth;
        let many = share >= SHARE_PERCENT && inside >= SUSPECT;
        if !(many || growing) {
            if view.before.is_none() && rows.len() >= SUSPECT {
                outcome.wants_second =
                    Some(format!("{} sockets of one owner are bound and do nothing", text::grouped(rows.len() as u64)));
            }
            continue;
        }
        let who = process.map_or_else(
            || uid.map_or_else(|| "an unknown process".to_owned(), |uid| format!("a process of user {uid}")),
            text::name,
        );
        let more = Some(growth as u64).filter(|_| growing).and_then(|n| Rate::of(n, view.interval_ms()?));
        let more = more.map_or_else(String::new, |rate| format!(", {rate} more"));
        let mut ports: Vec<u16> = rows.iter().map(|s| s.local.port).collect();
        ports.sort_unstable();
        let subject =
            process.map_or_else(|| Subject { netns, uid, ..Subject::default() }, |p| view.subject_of(p, netns));
        findings.push(
            RULE.finding(
                if growing || share >= MUCH_PERCENT { Severity::Warning } else { Severity::Info },
                if growing { 0.9 } else { 0.8 },
                format!(
                    "{who} keeps {} bound that neither listen nor connect{more}",
                    text::count(rows.len() as u64, "port", "ports")
                ),
            )
            .because("the kernel lists them as bound and inactive")
            .causes(causes(view.before.map(|_| stayed), rows.len(), growing))
            .subject(subject)
            .about(rows.iter().copied())
            .evidence("count", Evidence::Count(rows.len() as u64))
            .evidence("in_ephemeral_range", Evidence::Count(inside as u64))
            .evidence("share_of_ports_percent", Evidence::Percent(share))
            .evidence("growth", if view.before.is_some() { Evidence::Count(growth as u64) } else { Evidence::Unknown })
            .evidence("ports", Evidence::List(ports.iter().take(8).map(ToString::to_string).collect()))
            .next(pid.map_or_else(
                || "tcpstate list --state bound-inactive".to_owned(),
                |pid| format!("tcpstate list --state bound-inactive --pid {pid}"),
            )),
        );
    }
    outcome.findings = ranking::alike(findings);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, row};
    use crate::model::sysctl::Sysctl;

    fn bound(world: &mut World, ports: std::ops::Range<u16>, comm: &str) {
        for port in ports {
            let socket = row(State::BoundInactive, &format!("10.0.0.1:{port}"), "0.0.0.0:0");
            let inode = socket.inode;
            world.add(socket).hold(5, comm, u32::from(port), inode);
        }
    }

    #[test]
    fn two_samples_tell_a_leak_from_ports_that_are_kept_and_from_passers_by() {
        let left = |stayed, rows, growing| -> Vec<_> {
            causes(stayed, rows, growing).left.iter().map(|h| h.cause.id).collect()
        };
        assert_eq!(left(None, 20, false), ["leak", "reserved", "on-the-way"]);
        assert_eq!(left(Some(20), 23, true), ["leak"]);
        assert_eq!(left(Some(20), 20, false), ["leak", "reserved"]);
        assert_eq!(left(Some(19), 20, false), ["leak", "reserved", "on-the-way"]);
        assert_eq!(left(Some(0), 20, false), ["on-the-way"]);
    }

    #[test]
    fn a_share_of_the_range_or_growth_is_a_leak() {
        let mut world = World::new();
        bound(&mut world, 40_000..40_300, "app");
        let outcome = world.check(check);
        assert_eq!((outcome.findings[0].severity, outcome.findings[0].subject.pid), (Severity::Info, Some(5)));
        let small = |world: &mut World, ports: u64| {
            world.sysctl(Sysctl::Ipv4IpLocalPortRange, &[40_000, 39_999 + ports]);
        };
        small(&mut world, 1201);
        assert_eq!(world.check(check).findings[0].severity, Severity::Info);
        small(&mut world, 1200);
        assert_eq!(world.check(check).findings[0].severity, Severity::Warning, "a quarter of the range");
        let mut world = World::new();
        bound(&mut world, 40_000..40_020, "app");
        assert!(world.check(check).wants_second.is_some());
        world.later(2000);
        assert!(world.check(check).findings.is_empty(), "neither many nor growing");
        bound(&mut world, 40_020..40_022, "app");
        assert!(world.check(check).findings.is_empty(), "two may be about to connect");
        bound(&mut world, 40_022..40_025, "app");
        assert_eq!(world.check(check).findings[0].severity, Severity::Warning);
    }

    #[test]
    fn a_few_and_those_kept_on_purpose_are_silent() {
        let mut world = World::new();
        bound(&mut world, 40_000..40_005, "app");
        assert_eq!(world.check(check), Outcome::default());
        let mut world = World::new();
        bound(&mut world, 40_000..40_300, "portreserve");
        assert_eq!(world.check(check), Outcome::default());
    }
}
