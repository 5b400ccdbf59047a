//! Both sides have closed, and the peer does not acknowledge our FIN, the last segment that matters.
//!
//! Comes in: LAST_ACK rows. Goes out: one finding per listener or destination. Never here: ordinary loss.
//!
#![doc = include_str!("../../../docs/rules/last-ack-stuck.md")]

use crate::diagnose::Outcome;
use crate::diagnose::closing::{self, Group};
use crate::diagnose::finding::Finding;
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::State;
use crate::text;

pub(super) const RULE: Rule =
    rule!("last-ack-stuck", Closing, One, "the peer closed first and does not acknowledge our FIN", check, [TEXT])
        .states(&[State::LastAck])
        .title("last FIN unacknowledged")
        .identity(Identity::Place);

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
    Outcome::findings(ranking::worst(groups.iter().map(|group| finding(view, group)).collect()))
}

fn finding(view: &View<'_>, group: &Group<'_>) -> Finding {
    let n = text::count(group.rows.len() as u64, "connection", "connections");
    let summary =
        format!("{n} {}, closed by both ends, cannot finish: {}", group.place.words(), closing::cause(view, group));
    let finding = RULE
        .finding(closing::severity(view, group), 0.9, summary)
        .because("the last FIN was repeated or refused more often than loss explains")
        .subject(closing::subject(view, group));
    closing::evidence(view, finding, group)
        .next(format!("tcpstate list --state last-ack -o -i {}", group.place.selection()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::finding::{Evidence, Severity};
    use crate::diagnose::testkit::{World, info, row, timer, unheld};
    use crate::model::counter::SockStat;
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
    fn few_are_an_explanation_and_many_to_one_peer_a_warning() {
        let outcome = world(9, 3).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!(finding.severity, Severity::Info);
        assert_eq!(
            finding.summary,
            "9 connections to 10.0.0.9:80, closed by both ends, cannot finish: the peer does not acknowledge the FIN \
             and was last heard 12 s ago"
        );
        assert!(finding.evidence.contains(&("peers", Evidence::List(vec!["10.0.0.9: 9".into()]))));
        assert_eq!(world(10, 3).check(check).findings[0].severity, Severity::Warning);
    }

    #[test]
    fn ordinary_loss_is_silent_and_the_orphan_limit_makes_few_matter() {
        assert_eq!(world(20, 2).check(check), Outcome::default());
        let mut limit = world(1, 4);
        limit.sysctl(Sysctl::Ipv4TcpMaxOrphans, &[400]).now.netns[0].sockstat.insert(SockStat::TcpOrphan, 100);
        assert_eq!(limit.check(check).findings[0].severity, Severity::Warning);
        limit.now.netns[0].sockstat.insert(SockStat::TcpOrphan, 99);
        assert_eq!(limit.check(check).findings[0].severity, Severity::Info);
    }
}
