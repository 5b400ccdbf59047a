//! This side has closed, and the peer does not acknowledge our FIN or refuses to take the data before it.
//!
//! Input: FIN_WAIT1 rows. Output: one finding per listener or destination. Not here: ordinary loss.
//!
#![doc = include_str!("../../../docs/rules/fin-wait1-stuck.md")]

use crate::diagnose::Outcome;
use crate::diagnose::closing::causes::{CAUSES, Facts};
use crate::diagnose::closing::{self, Group, Limits};
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::hypothesis::Weighed;
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::State;
use crate::text;

pub(super) const RULE: Rule =
    rule!("fin-wait1-stuck", Closing, OneOrTwo, "the peer does not acknowledge our FIN or data", check, [TEXT])
        .states(&[State::FinWait1])
        .title("close not acknowledged")
        .identity(Identity::Place)
        .causes(CAUSES);

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
    let (limits, facts) = (Limits::new(view), Facts::new(view, &groups));
    let severities = limits.severities(&groups);
    let findings = groups.iter().zip(severities).map(|(group, severity)| {
        let causes = facts.weigh(view, group);
        finding(view, group, &limits, severity, causes)
    });
    Outcome::findings(ranking::alike(findings.collect()))
}

fn finding(view: &View<'_>, group: &Group<'_>, limits: &Limits, severity: Severity, causes: Weighed) -> Finding {
    let n = text::count(group.rows.len() as u64, "closed connection", "closed connections");
    let summary = format!("{n} {} cannot finish: {}", group.place.words(), closing::words(view, group, &causes));
    let mut finding = RULE
        .finding(severity, 0.9, summary)
        .because("the FIN, or data before it, was repeated or refused more often than loss explains")
        .causes(causes)
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
    use crate::model::sysctl::Sysctl;
    use crate::model::{SkMem, Socket, TimerKind};

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
        assert!(world.check(check).findings[0].summary.contains("window at zero"));
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

    #[test]
    fn no_place_is_cut_and_all_together_make_the_largest_a_warning() {
        let mut world = World::new();
        for place in 0..8u16 {
            for n in 0..=u16::from(place == 7) {
                let local = format!("10.0.0.1:{}", 40_000 + place * 10 + n);
                let base = unheld(row(State::FinWait1, &local, &format!("10.0.0.{}:80", 20 + place)));
                let base = Socket { shutdown: Some(3), ..base };
                world.add(timer(info(base, &[("last_ack_recv_ms", 9000)]), TimerKind::Retransmit, 500, 3));
            }
        }
        // Nine orphans are a quarter of 36, and no place has as many.
        let mut severities = |limit| {
            world.sysctl(Sysctl::Ipv4TcpMaxOrphans, &[limit]);
            let found = world.check(check).findings;
            found.iter().map(|f| (f.subject.destination.unwrap().addr.to_string(), f.severity)).collect::<Vec<_>>()
        };
        let warned = |found: &[(String, Severity)]| found.iter().filter(|(_, s)| *s == Severity::Warning).count();
        let quarter = severities(36);
        assert_eq!((quarter.len(), warned(&quarter), quarter[0].0.as_str()), (8, 1, "10.0.0.27"));
        assert_eq!(warned(&severities(37)), 0);
    }
}
