//! So many sockets have no process any more that the kernel resets them, and their unsent data is lost.
//!
//! Input: the host's number of orphans and its limit. Output: one finding. Not here: why the orphans stay (their states
//! have rules of their own).
//!
#![doc = include_str!("../../../docs/rules/orphan-limit.md")]

use std::collections::BTreeMap;

use crate::diagnose::Outcome;
use crate::diagnose::closing::{self, Place};
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::{Socket, State};
use crate::text;

pub(super) const RULE: Rule = rule!(
    "orphan-limit",
    Closing,
    OneOrTwo,
    "too many sockets without a process, the kernel resets them",
    check,
    [TEXT]
)
.title("orphans near limit")
.identity(Identity::Object)
.states(&[State::FinWait1, State::LastAck, State::Closing]);

const TEXT: Text = Text {
    why: "A socket that the application has closed keeps its send buffer until the peer has taken it or the kernel \
          gives up. Beyond a limit for the whole host the kernel resets such connections and drops their data.",
    remedy: &[
        "Find which they are: FIN_WAIT1 behind a zero window are slow readers, with retransmissions vanished peers",
        "In the application: write timeouts, and read to EOF with a time limit before close()",
        "Set TCP_USER_TIMEOUT on the sockets",
        "Then raise net.ipv4.tcp_max_orphans; each orphan may cost 64 KiB",
    ],
    avoid: &[
        "Don't lower tcp_max_orphans: it throws data of well-behaved clients away",
        "Don't use SO_LINGER with a time of zero to have fewer orphans: that is the same loss, always",
    ],
};

const COUNTER: Counter = Counter::TcpExtTcpAbortOnMemory;

pub(super) fn check(view: &View<'_>) -> Outcome {
    let (Some(orphans), limit) = closing::orphans(view) else {
        return Outcome::not_checked("the number of orphans could not be read from /proc/net/sockstat");
    };
    if orphans == 0 {
        return Outcome::default();
    }
    let Some(limit) = limit.filter(|l| *l > 0) else {
        return Outcome::not_checked(format!(
            "the host has {orphans} orphans, and tcp_max_orphans is shown only in its initial network namespace"
        ));
    };
    let deltas: Vec<u64> = view.now.netns.iter().filter_map(|n| view.delta(n.inode, COUNTER)).collect();
    let aborts = (!deltas.is_empty()).then(|| deltas.iter().sum::<u64>());
    // `tcp_out_of_resources` compares the number shifted by 0, 1 or 2 with the limit.
    let severity = if aborts.is_some_and(|n| n > 0) && closing::orphans_near_limit(view) {
        Severity::Critical
    } else if orphans >= limit {
        Severity::High
    } else if closing::orphans_near_limit(view) {
        Severity::Warning
    } else {
        return Outcome::default();
    };
    let mut outcome = Outcome::findings(vec![finding(view, orphans, limit, aborts, severity)]);
    let ever = view.now.netns.iter().filter_map(|n| n.counter(COUNTER)).any(|n| n > 0);
    if view.before.is_none() && (ever || severity > Severity::Warning) {
        outcome.wants_second = Some("near the limit of orphans; does the kernel reset connections now?".into());
    }
    outcome
}

fn finding(view: &View<'_>, orphans: u64, limit: u64, aborts: Option<u64>, severity: Severity) -> Finding {
    let rows: Vec<&Socket> = view.active().filter(|s| s.is_orphan()).collect();
    let mut states: BTreeMap<State, u64> = BTreeMap::new();
    for row in &rows {
        *states.entry(row.state).or_default() += 1;
    }
    let groups = closing::groups(view, Socket::is_orphan);
    let percent = orphans as f64 * 100.0 / limit as f64;
    let killed = match aborts {
        Some(n) if n > 0 => format!(": the kernel reset {} meanwhile", text::count(n, "connection", "connections")),
        _ if severity == Severity::High => ": the kernel resets what is closed from now on".to_owned(),
        _ => ": the kernel may reset those whose peer is silent".to_owned(),
    };
    let most = groups
        .first()
        .map_or_else(String::new, |g| format!(", most {} ({})", g.place.words(), text::grouped(g.rows.len() as u64)));
    let mut subject = Subject { object: Some("net.ipv4.tcp_max_orphans".into()), ..Subject::default() };
    if let Some(group) = groups.first() {
        match group.place {
            Place::Listener(at) => subject.listener = Some(at),
            Place::Destination(at) => subject.destination = Some(at),
            Place::Peer(_) => {}
        }
    }
    let seen = rows.len() as u64;
    let places = groups.iter().take(5).map(|g| format!("{}: {}", g.place.words(), g.rows.len())).collect();
    RULE.finding(
        severity,
        0.97,
        format!(
            "{} of at most {} orphaned sockets ({percent:.0} %){most}{killed}",
            text::grouped(orphans),
            text::grouped(limit)
        ),
    )
    .because("both numbers are the kernel's own")
    .subject(subject)
    .about(rows.iter().copied())
    .evidence("orphans", Evidence::Count(orphans))
    .evidence("tcp_max_orphans", Evidence::Count(limit))
    .evidence("percent", Evidence::Percent(percent))
    .evidence("new_aborts_on_memory", Evidence::count(aborts))
    .evidence("orphan_rows_seen", Evidence::Count(seen))
    .evidence("orphans_elsewhere", Evidence::Count(orphans.saturating_sub(seen)))
    .evidence("states", Evidence::List(states.iter().map(|(state, n)| format!("{state}: {n}")).collect()))
    .evidence("places", Evidence::List(places))
    .evidence("peers", closing::peers_evidence(&rows))
    .evidence("send_memory_bytes", Evidence::Bytes(closing::send_memory_bytes(rows.iter().copied())))
    .next("tcpstate list --state fin-wait1,last-ack,closing -o -m")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, row, unheld};
    use crate::model::counter::{SockStat, SockStats};
    use crate::model::sysctl::Sysctl;

    fn world(orphans: u64) -> World {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4TcpMaxOrphans, &[100]).counter(COUNTER, 0);
        world.now.netns[0].sockstat.insert(SockStat::TcpOrphan, orphans);
        for client in [40_000, 40_001] {
            let row = unheld(row(State::FinWait1, &format!("10.0.0.1:{client}"), "10.0.0.9:80"));
            world.add(Socket { shutdown: Some(3), ..row });
        }
        world
    }

    #[test]
    fn severity_follows_the_shifts_of_the_kernel_s_own_test() {
        assert_eq!(world(24).check(check), Outcome::default());
        for (orphans, severity) in
            [(25, Severity::Warning), (49, Severity::Warning), (99, Severity::Warning), (100, Severity::High)]
        {
            assert_eq!(world(orphans).check(check).findings[0].severity, severity, "{orphans}");
        }
        let finding = world(25).check(check).findings.remove(0);
        assert!(finding.summary.starts_with("25 of at most 100 orphaned sockets (25 %), most to 10.0.0.9:80 (2)"));
        assert!(finding.evidence.contains(&("orphans_elsewhere", Evidence::Count(23))));
    }

    #[test]
    fn aborts_are_critical_only_when_orphans_can_be_the_reason() {
        let mut few = world(3);
        few.later(2000).counter(COUNTER, 7);
        assert_eq!(few.check(check), Outcome::default(), "memory pressure has a rule of its own");
        let mut many = world(30);
        many.later(2000).counter(COUNTER, 7);
        let finding = many.check(check).findings.remove(0);
        assert!(finding.severity == Severity::Critical && finding.summary.contains("reset 7 connections"));
        let mut suspect = world(30);
        suspect.counter(COUNTER, 7);
        assert!(suspect.check(check).wants_second.is_some());
    }

    #[test]
    fn a_container_that_hides_the_limit_says_so() {
        let mut world = world(30);
        world.now.netns[0].sysctls.remove(Sysctl::Ipv4TcpMaxOrphans);
        assert!(world.check(check).not_checked.unwrap().contains("30 orphans"));
        world.now.netns[0].sockstat.insert(SockStat::TcpOrphan, 0);
        assert_eq!(world.check(check), Outcome::default());
        world.now.netns[0].sockstat = SockStats::default();
        assert!(world.check(check).not_checked.is_some());
    }
}
