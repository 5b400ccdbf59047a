//! A program takes a whole local port for each outgoing connection, because it calls `bind()` with port 0 before
//! `connect()`.
//!
//! Comes in: client rows with the parity of their ports. Goes out: one finding per process that burns whole ports. Never
//! here: a claim stronger than parity allows.
//!
#![doc = include_str!("../../../docs/rules/bind-before-connect.md")]

use std::collections::{BTreeMap, BTreeSet};

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Severity};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::{NetnsId, Socket};

pub(super) const RULE: Rule =
    rule!("bind-before-connect", Ports, One, "a program takes a whole port per outgoing connection", check, [TEXT])
        .cost(3);

const TEXT: Text = Text {
    why: "bind() with port 0 must find a port that is free towards every destination and keeps it for itself; a port \
          that connect() chooses is shared between destinations. So the range lasts for far fewer connections.",
    remedy: &[
        "Set IP_BIND_ADDRESS_NO_PORT on the socket before bind()",
        "Or don't bind: let routing choose the source address",
    ],
    avoid: &["Don't set ip_autobind_reuse=1: it moves the failure from bind() to connect()"],
};

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut by_owner: BTreeMap<(Option<NetnsId>, u32), Vec<&Socket>> = BTreeMap::new();
    for (socket, role) in view.rows() {
        if role != Role::Client || socket.inode.is_none() {
            continue;
        }
        if let Some(process) = view.holder(socket) {
            by_owner.entry((socket.netns, process.pid)).or_default().push(socket);
        }
    }
    let mut findings = Vec::new();
    for ((netns, pid), rows) in by_owner {
        let Some(facts) = view.netns(netns) else { continue };
        let (low, high) = facts.port_range();
        let rows: Vec<&Socket> = rows.into_iter().filter(|s| (low..=high).contains(&s.local.port)).collect();
        if (rows.len() as f64) < view.thresholds.bind_rows {
            continue;
        }
        let other = |port: u16| port % 2 != low % 2;
        let odd = rows.iter().filter(|s| other(s.local.port)).count();
        if odd * 10 < rows.len() * 9 {
            continue;
        }
        let own_parity = used_ports(view, netns).iter().filter(|p| !other(**p)).count();
        let no_port = rows.iter().any(|s| s.bind_address_no_port() == Some(true));
        let usable = facts.usable_ports();
        // With the other half nearly full connect() takes these ports as well.
        if own_parity * 2 >= usable as usize / 2 || no_port {
            continue;
        }
        let Some(process) = view.holder(rows[0]) else { continue };
        let share = rows.len() as f64 * 100.0 / f64::from(usable.max(1));
        let severity = if share >= view.thresholds.bind_port_percent { Severity::Warning } else { Severity::Info };
        findings.push(
            RULE.finding(severity,
                0.6,
                format!(
                    "{} ({pid}) seems to bind a port before it connects: each of its {} connections takes a port from everybody",
                    process.comm,
                    rows.len()
                ),
            )
            .because("its ports have the parity that bind() gives out, not that of connect()")
            .subject(view.subject_of(process, netns))
            .evidence("connections", Evidence::Count(rows.len() as u64))
            .evidence("ports_of_bind_parity", Evidence::Count(odd as u64))
            .evidence("share_of_ports_percent", Evidence::Percent(share))
            .evidence("ports_usable", Evidence::Count(usable.into()))
            .next(format!("tcpstate list -c state,local,peer,bind-no-port --pid {pid}")),
        );
    }
    Outcome::findings(ranking::worst(findings))
}

/// The ports of all clients of a namespace that still hold theirs.
fn used_ports(view: &View<'_>, netns: Option<NetnsId>) -> BTreeSet<u16> {
    let clients = view.rows().filter(|(s, role)| *role == Role::Client && s.inode.is_some() && s.netns == netns);
    clients.map(|(s, _)| s.local.port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, row};
    use crate::model::State;
    use crate::model::sysctl::Sysctl;

    fn world(step: u16, count: u16, no_port: bool) -> World {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4IpLocalPortRange, &[20_000, 20_199]);
        for i in 0..count {
            let mut socket = row(
                State::Established,
                &format!("10.0.0.1:{}", 20_001 + i * step),
                &format!("10.9.0.{}:443", i % 9 + 1),
            );
            socket.sockopt = Some(if no_port { 0x100 } else { 0 });
            let inode = socket.inode;
            world.add(socket).hold(5, "client", u32::from(i), inode);
        }
        world
    }

    #[test]
    fn ports_of_the_other_parity_give_it_away() {
        let outcome = world(2, 20, false).check(check);
        assert_eq!((outcome.findings[0].severity, outcome.findings[0].subject.pid), (Severity::Info, Some(5)));
        assert_eq!(world(2, 60, false).check(check).findings[0].severity, Severity::Warning);
    }

    #[test]
    fn mixed_parity_few_rows_or_the_option_are_silent() {
        for quiet in [world(1, 20, false), world(2, 15, false), world(2, 20, true)] {
            assert_eq!(quiet.check(check), Outcome::default());
        }
    }
}
