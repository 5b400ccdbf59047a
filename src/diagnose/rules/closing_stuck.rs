//! Both sides closed at the same time, and the peer does not acknowledge our FIN.
//!
//! Comes in: CLOSING rows. Goes out: one finding per listener or destination, with the direction in which packets are
//! lost. Never here: ordinary loss.
//!
#![doc = include_str!("../../../docs/rules/closing-stuck.md")]

use crate::diagnose::Outcome;
use crate::diagnose::closing::{self, Group};
use crate::diagnose::finding::{Evidence, Finding};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::{Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("closing-stuck", Closing, One, "both closed at once, our FIN is not acknowledged", check, [TEXT])
        .states(&[State::Closing])
        .title("FIN unacknowledged")
        .identity(Identity::Place);

const TEXT: Text = Text {
    why: "Both ends sent a FIN before they received the other's. The peer's FIN arrived and the ACK of ours did not, \
          so that the kernel repeats ours until it gives up; normally this state is passed in one round trip.",
    remedy: &[
        "Nothing, when they are few",
        "If the peer's packets arrive, find what loses ours: an outgoing filter, asymmetric routing, a firewall that \
         dropped the flow after the first FIN, reverse-path checks at the peer",
        "If nothing arrives, the peer or the path is gone altogether",
        "Compare packet captures of both ends",
    ],
    avoid: &[
        "Don't change tcp_fin_timeout or tcp_max_orphans: neither delivers a FIN",
        "Don't search in the application: both ends have closed",
    ],
};

pub(super) fn check(view: &View<'_>) -> Outcome {
    let groups = closing::groups(view, |s| s.state == State::Closing && closing::is_stuck(view, s));
    Outcome::findings(ranking::worst(groups.iter().map(|group| finding(view, group)).collect()))
}

/// Whether the peer was heard within our own timeout, which has backed off as its FIN's has: its segments arrive.
fn is_heard(socket: &Socket) -> Option<bool> {
    let info = socket.info.as_deref()?;
    Some(u64::from(info.last_ack_recv_ms()?) * 1000 <= u64::from(info.rto_us()?))
}

fn finding(view: &View<'_>, group: &Group<'_>) -> Finding {
    let heard: Vec<bool> = group.rows.iter().filter_map(|s| is_heard(s)).collect();
    let one_way = heard.iter().filter(|h| **h).count();
    let shut = group.rows.iter().any(|s| closing::is_window_shut(s));
    let (cause, direction) = if one_way * 2 > heard.len() && !shut {
        ("the peer's packets arrive and ours do not".to_owned(), "one way: ours are lost")
    } else if shut || heard.is_empty() {
        (closing::cause(view, group), "unknown")
    } else {
        (closing::cause(view, group), "both ways, or the peer is gone")
    };
    let n = text::count(group.rows.len() as u64, "connection", "connections");
    let summary = format!("{n} {}, closed by both ends at once, cannot finish: {cause}", group.place.words());
    let finding = RULE
        .finding(closing::severity(view, group), 0.9, summary)
        .because("our FIN was repeated or refused more often than loss explains")
        .subject(closing::subject(view, group))
        .evidence("loss", Evidence::Text(direction.into()));
    closing::evidence(view, finding, group)
        .next(format!("tcpstate list --state closing -o -i {}", group.place.selection()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::finding::Severity;
    use crate::diagnose::testkit::{World, info, row, timer, unheld};
    use crate::model::TimerKind;

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
    fn ordinary_loss_is_silent() {
        assert_eq!(world(2, 100).check(check), Outcome::default());
    }
}
