//! This side has closed, and the peer does not acknowledge our FIN or refuses to take the data before it.
//!
//! Comes in: FIN_WAIT1 rows. Goes out: one finding per listener or destination. Never here: ordinary loss.
//!
#![doc = include_str!("../../../docs/rules/fin-wait1-stuck.md")]

use crate::diagnose::Outcome;
use crate::diagnose::closing::{self, Group};
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::sysctl::Sysctl;
use crate::model::{Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("fin-wait1-stuck", Closing, One, "the peer does not acknowledge our FIN or data", check, [TEXT])
        .states(&[State::FinWait1])
        .title("close not acknowledged")
        .identity(Identity::Place);

const TEXT: Text = Text {
    why: "close() returns at once; the FIN and the data before it are still to be delivered, and the kernel keeps \
          the socket and its send buffer until the peer takes them or it gives up. Such orphans have a limit for the \
          whole host.",
    remedy: &[
        "Check the peer and the path to it; if the peer is on this host, check the process that does not read",
        "In the application: shutdown(), read until EOF with a time limit, then close()",
        "Set TCP_USER_TIMEOUT on the sockets: it ends unacknowledged data and window probes alike",
        "Last, on a host with a great many of them, lower net.ipv4.tcp_orphan_retries",
    ],
    avoid: &[
        "Don't change tcp_fin_timeout: it is for FIN_WAIT2",
        "Don't lower tcp_max_orphans: the kernel then resets connections and throws data away",
    ],
};

pub(super) fn check(view: &View<'_>) -> Outcome {
    let groups = closing::groups(view, |s| s.state == State::FinWait1 && closing::is_stuck(view, s));
    let limits = Limits::new(view);
    let total_weighs = limits.weigh(groups.iter().flat_map(|g| g.rows.iter().copied()));
    // The limits are of the host: when all of them together weigh, the largest group is where to begin.
    let findings = groups.iter().enumerate().map(|(place, group)| {
        let weighs = limits.weigh(group.rows.iter().copied()) || (total_weighs && place == 0);
        finding(view, group, &limits, if weighs { Severity::Warning } else { Severity::Info })
    });
    Outcome::findings(ranking::worst(findings.collect()))
}

/// What such connections use up; `None` where a namespace does not show the host's limits.
struct Limits {
    orphans: Option<u64>,
    memory_bytes: Option<u64>,
    orphan_percent: f64,
}

impl Limits {
    fn new(view: &View<'_>) -> Limits {
        let pages = view.now.netns.iter().find_map(|n| n.sysctls.get(Sysctl::Ipv4TcpMem)?.get(2).copied());
        let page_bytes = Some(view.now.system.page_bytes).filter(|b| *b > 0);
        Limits {
            orphans: closing::orphans(view).1,
            memory_bytes: pages.zip(page_bytes).map(|(pages, bytes)| pages.saturating_mul(bytes)),
            orphan_percent: view.thresholds.orphan_warn_percent,
        }
    }

    fn weigh<'a>(&self, rows: impl Iterator<Item = &'a Socket> + Clone) -> bool {
        let orphans = rows.clone().filter(|s| s.is_orphan()).count() as f64;
        let memory = closing::send_memory_bytes(rows) as f64;
        self.orphans.is_some_and(|limit| orphans > 0.0 && orphans * 100.0 >= limit as f64 * self.orphan_percent)
            || self.memory_bytes.is_some_and(|limit| memory > 0.0 && memory * 100.0 >= limit as f64)
    }
}

fn finding(view: &View<'_>, group: &Group<'_>, limits: &Limits, severity: Severity) -> Finding {
    let n = text::count(group.rows.len() as u64, "closed connection", "closed connections");
    let summary = format!("{n} {} cannot finish: {}", group.place.words(), closing::cause(view, group));
    let mut finding = RULE
        .finding(severity, 0.9, summary)
        .because("the FIN, or data before it, was repeated or refused more often than loss explains")
        .subject(closing::subject(view, group));
    finding = closing::evidence(view, finding, group)
        .evidence("tcp_max_orphans", Evidence::count(limits.orphans))
        .evidence("tcp_mem_max_bytes", limits.memory_bytes.map_or(Evidence::Unknown, Evidence::Bytes));
    if let Some((process, mirror, rows)) = closing::other_ends(view, &group.rows).first() {
        finding = finding
            .evidence("other_end", Evidence::Text(format!("{} ({}): {rows}", process.comm, process.pid)))
            .evidence("other_end_unread_bytes", Evidence::Bytes(mirror.recv_q_bytes.into()));
        finding = finding.inspect(process.pid, &[*mirror]);
    }
    finding.next(format!("tcpstate list --state fin-wait1 -o -i -m {}", group.place.selection()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, row, timer, unheld};
    use crate::model::{SkMem, TimerKind};

    fn orphan(client: u16, kind: TimerKind, retries: u8, backoff: u64) -> Socket {
        let base = unheld(row(State::FinWait1, "10.0.0.1:80", &format!("10.0.0.9:{client}")));
        let base = Socket { shutdown: Some(3), send_q_bytes: Some(5001), ..base };
        let memory = SkMem { wmem_queued_bytes: 8192, ..SkMem::default() };
        let fields = [("backoff", backoff), ("last_ack_recv_ms", 9000), ("total_rto_time_ms", 8000)];
        Socket { skmem: Some(memory), ..timer(info(base, &fields), kind, 500, retries) }
    }

    #[test]
    fn orphans_are_grouped_and_their_end_is_foretold() {
        let mut world = World::new();
        world.add(crate::diagnose::testkit::listen("0.0.0.0:80", 0, 128)).hold(812, "server", 3, 80 << 16);
        world.add(orphan(40_000, TimerKind::Retransmit, 3, 3)).add(orphan(40_001, TimerKind::Retransmit, 5, 5));
        world.sysctl(Sysctl::Ipv4TcpOrphanRetries, &[0]);
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(812)));
        assert!(finding.summary.starts_with("2 closed connections of 0.0.0.0:80 cannot finish: the peer does not ack"));
        assert!(finding.evidence.contains(&("ends_within_ms", Evidence::Millis(102_200 - 8000))));
        assert!(finding.evidence.contains(&("retransmissions_max", Evidence::Count(5))));
    }

    #[test]
    fn a_shut_window_counts_by_its_backoff() {
        let mut world = World::new();
        world.add(orphan(40_000, TimerKind::ZeroWindowProbe, 0, 3));
        assert!(world.check(check).findings[0].summary.contains("window shut"));
        let mut young = World::new();
        young.add(orphan(40_000, TimerKind::ZeroWindowProbe, 0, 2));
        assert_eq!(young.check(check), Outcome::default());
    }

    #[test]
    fn loss_and_a_long_last_response_are_silent() {
        let mut world = World::new();
        world.add(orphan(40_000, TimerKind::Retransmit, 2, 2)).add(orphan(40_001, TimerKind::Retransmit, 0, 0));
        world.add(Socket { timer: None, ..orphan(40_002, TimerKind::Retransmit, 9, 9) });
        assert_eq!(world.check(check), Outcome::default());
    }

    #[test]
    fn a_quarter_of_the_orphan_limit_or_a_hundredth_of_the_memory_warns() {
        let world = |sysctl, values: &[u64]| {
            let mut world = World::new();
            world.now.system.page_bytes = 4096;
            world.add(orphan(40_000, TimerKind::Retransmit, 3, 3)).sysctl(sysctl, values);
            world.check(check).findings[0].severity
        };
        assert_eq!(world(Sysctl::Ipv4TcpMaxOrphans, &[4]), Severity::Warning);
        assert_eq!(world(Sysctl::Ipv4TcpMaxOrphans, &[5]), Severity::Info);
        assert_eq!(world(Sysctl::Ipv4TcpMem, &[1, 1, 200]), Severity::Warning);
        assert_eq!(world(Sysctl::Ipv4TcpMem, &[1, 1, 201]), Severity::Info);
    }
}
