//! Both sides closed at the same time, and the peer does not acknowledge our FIN.
//!
//! Input: CLOSING rows. Output: one finding per listener or destination, with the direction in which packets are lost. Not
//! here: ordinary loss.
//!
#![doc = include_str!("../../../docs/rules/closing-stuck.md")]

use crate::diagnose::Outcome;
use crate::diagnose::closing::causes::{CAUSES, Facts, is_heard};
use crate::diagnose::closing::{self, Group, Limits};
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::hypothesis::Weighed;
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::State;
use crate::text;

pub(super) const RULE: Rule =
    rule!("closing-stuck", Closing, OneOrTwo, "both closed at once, our FIN is not acknowledged", check, [TEXT])
        .states(&[State::Closing])
        .title("FIN unacknowledged")
        .identity(Identity::Place)
        .causes(CAUSES);

const FEW: &str = "Nothing, when they are few: they end by themselves";
const OURS_LOST: &str = "If the peer's packets arrive, find what loses ours: an outgoing filter, asymmetric routing, a \
                         firewall that dropped the flow after the first FIN, reverse-path checks at the peer";
const ALL_LOST: &str = "If nothing arrives, the peer or the path is gone altogether";
const CAPTURES: &str = "Compare packet captures of both ends";

const TEXT: Text = Text {
    why: "Both ends sent a FIN before they received the other's. The peer's FIN arrived and the ACK of ours did not, \
          so that the kernel repeats ours until it gives up; normally this state is passed in one round trip.",
    remedy: &[FEW, OURS_LOST, ALL_LOST, CAPTURES],
    avoid: &[
        "Don't change tcp_fin_timeout or tcp_max_orphans: neither delivers a FIN",
        "Don't search in the application: both ends have closed",
    ],
};

pub(super) fn check(view: &View<'_>) -> Outcome {
    let groups = closing::groups(view, |s| s.state == State::Closing && closing::is_stuck(view, s));
    let facts = Facts::new(view, &groups);
    let severities = Limits::new(view).severities(&groups);
    let findings = groups.iter().zip(severities).map(|(group, s)| finding(view, group, s, facts.weigh(view, group)));
    Outcome::findings(ranking::alike(findings.collect()))
}

fn finding(view: &View<'_>, group: &Group<'_>, severity: Severity, causes: Weighed) -> Finding {
    let heard: Vec<bool> = group.rows.iter().filter_map(|s| is_heard(s)).collect();
    let one_way = heard.iter().filter(|h| **h).count();
    let shut = group.rows.iter().any(|s| closing::is_zero_window(s));
    let ours_lost = one_way * 2 > heard.len() && !shut;
    let (seen, direction) = if ours_lost {
        ("the peer's packets arrive and ours do not".to_owned(), "one way: ours are lost")
    } else if shut || heard.is_empty() {
        (closing::words(view, group, &causes), "unknown")
    } else {
        (closing::words(view, group, &causes), "both ways, or the peer is gone")
    };
    let n = text::count(group.rows.len() as u64, "connection", "connections");
    let summary = format!("{n} {}, closed by both ends at once, cannot finish: {seen}", group.place.words());
    let few = (severity == Severity::Info).then_some(FEW);
    let steps = few.into_iter().chain([if ours_lost { OURS_LOST } else { ALL_LOST }, CAPTURES]);
    let finding = RULE
        .finding(severity, 0.9, summary)
        .steps(steps)
        .because("our FIN was repeated or refused more often than loss explains")
        .causes(causes)
        .subject(closing::subject(view, group))
        .evidence("loss", Evidence::Text(direction.into()));
    closing::evidence(view, finding, group)
        .next(format!("tcpstate list --state closing -o -i {}", group.place.selection()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, row, timer, unheld};
    use crate::model::sysctl::Sysctl;
    use crate::model::{Socket, TimerKind};

    fn world(retries: u8, last_ack_recv_ms: u64) -> World {
        let mut world = World::new();
        let base = Socket { shutdown: Some(3), ..unheld(row(State::Closing, "10.0.0.1:40000", "10.0.0.9:80")) };
        let fields = [("rto_us", 3_200_000), ("last_ack_recv_ms", last_ack_recv_ms), ("backoff", retries.into())];
        world.add(timer(info(base, &fields), TimerKind::Retransmit, 500, retries));
        world
    }

    #[test]
    fn the_peer_s_silence_tells_the_direction() {
        let finding = world(4, 1700).check(check).findings.remove(0);
        assert_eq!(finding.severity, Severity::Info);
        assert!(finding.summary.ends_with("cannot finish: the peer's packets arrive and ours do not"), "{finding:?}");
        let finding = world(4, 9000).check(check).findings.remove(0);
        assert!(finding.summary.ends_with("was last heard 9.0 s ago"), "{finding:?}");
        assert_eq!(finding.subject.destination.unwrap().to_string(), "10.0.0.9:80");
    }

    #[test]
    fn a_packet_heard_within_our_timeout_excludes_a_peer_that_is_gone() {
        let left = |heard_ms| {
            let finding = world(4, heard_ms).check(check).findings.remove(0);
            finding.causes.left.iter().map(|h| h.cause.id).collect::<Vec<_>>()
        };
        assert_eq!(left(3200), ["ours-lost", "local-drop"]);
        assert_eq!(left(3201), ["peer-gone", "flow-forgotten", "local-drop"]);
    }

    #[test]
    fn a_quarter_of_the_orphan_limit_warns() {
        let of = |limit| {
            let finding = world(4, 9).sysctl(Sysctl::Ipv4TcpMaxOrphans, &[limit]).check(check).findings.remove(0);
            (finding.severity, finding.remedy.iter().any(|step| step == FEW))
        };
        assert_eq!((of(4), of(5)), ((Severity::Warning, false), (Severity::Info, true)));
    }

    #[test]
    fn ordinary_loss_is_silent() {
        assert_eq!(world(2, 100).check(check), Outcome::default());
    }
}
