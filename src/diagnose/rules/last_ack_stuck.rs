//! Both sides have closed, and the peer does not acknowledge our FIN, the last segment that matters.
//!
//! Input: LAST_ACK rows. Output: one finding per listener or destination. Not here: ordinary loss.
//!
#![doc = include_str!("../../../docs/rules/last-ack-stuck.md")]

use crate::diagnose::Outcome;
use crate::diagnose::closing::causes::{CAUSES, Facts};
use crate::diagnose::closing::{self, Group, Limits};
use crate::diagnose::finding::{Finding, Severity};
use crate::diagnose::hypothesis::Weighed;
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::State;
use crate::text;

pub(super) const RULE: Rule =
    rule!("last-ack-stuck", Closing, OneOrTwo, "the peer closed first and does not acknowledge our FIN", check, [TEXT])
        .states(&[State::LastAck])
        .title("last FIN unacknowledged")
        .identity(Identity::Place)
        .causes(CAUSES);

const TEXT: Text = Text {
    why: "The peer closed first and we closed after it; the ACK of our FIN would end the connection. Without it the \
          kernel repeats the FIN until it gives up.",
    remedy: &[
        "Nothing, when they are few: they end by themselves",
        "Many to one peer: check whether that host restarted, or ends by vanishing (power off, container killed)",
        "Many behind one device: check its timeout for half-closed flows",
        "On this host, check for firewall rules that drop packets in conntrack state INVALID",
    ],
    avoid: &[
        "Don't change tcp_fin_timeout: it is for FIN_WAIT2",
        "Don't lower tcp_max_orphans, or tcp_orphan_retries, for a handful of rows",
    ],
};

pub(super) fn check(view: &View<'_>) -> Outcome {
    let groups = closing::groups(view, |s| s.state == State::LastAck && closing::is_stuck(view, s));
    let facts = Facts::new(view, &groups);
    let severities = Limits::new(view).severities(&groups);
    let findings = groups.iter().zip(severities).map(|(group, s)| finding(view, group, s, facts.weigh(view, group)));
    Outcome::findings(ranking::alike(findings.collect()))
}

fn finding(view: &View<'_>, group: &Group<'_>, severity: Severity, causes: Weighed) -> Finding {
    let n = text::count(group.rows.len() as u64, "connection", "connections");
    let summary = format!(
        "{n} {}, closed by both ends, cannot finish: {}",
        group.place.words(),
        closing::words(view, group, &causes)
    );
    // The first step is for few.
    let steps = &TEXT.remedy[usize::from(severity > Severity::Info)..];
    let finding = RULE
        .finding(severity, 0.9, summary)
        .steps(steps.iter().copied())
        .because("the last FIN was repeated or refused more often than loss explains")
        .causes(causes)
        .subject(closing::subject(view, group));
    closing::evidence(view, finding, group)
        .next(format!("tcpstate list --state last-ack -o -i {}", group.place.selection()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::finding::Evidence;
    use crate::diagnose::testkit::{World, info, row, timer, unheld};
    use crate::model::sysctl::Sysctl;
    use crate::model::{Socket, TimerKind};

    fn orphan(client: u16, retries: u8) -> Socket {
        let base = unheld(row(State::LastAck, &format!("10.0.0.1:{client}"), "10.0.0.9:80"));
        let fields = [("backoff", u64::from(retries)), ("last_ack_recv_ms", 12_500)];
        timer(info(Socket { shutdown: Some(3), recv_q_bytes: 1, ..base }, &fields), TimerKind::Retransmit, 500, retries)
    }

    fn world(rows: u16, retries: u8) -> World {
        let mut world = World::new();
        for n in 0..rows {
            world.add(orphan(40_000 + n, retries));
        }
        world
    }

    #[test]
    fn they_are_an_explanation_however_many_go_to_one_peer() {
        let outcome = world(40, 3).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!(finding.severity, Severity::Info);
        assert_eq!(
            finding.summary,
            "40 connections to 10.0.0.9:80, closed by both ends, cannot finish: the peer does not acknowledge the FIN \
             and was last heard 12 s ago"
        );
        assert!(finding.evidence.contains(&("peers", Evidence::List(vec!["10.0.0.9: 40".into()]))));
        assert_eq!(finding.causes.left.first().map(|h| h.cause.id), Some("peer-gone"));
    }

    #[test]
    fn ordinary_loss_is_silent_and_a_quarter_of_the_orphan_limit_warns() {
        assert_eq!(world(20, 2).check(check), Outcome::default());
        let severity =
            |limit| world(10, 3).sysctl(Sysctl::Ipv4TcpMaxOrphans, &[limit]).check(check).findings[0].severity;
        assert_eq!((severity(40), severity(41)), (Severity::Warning, Severity::Info));
    }
}
