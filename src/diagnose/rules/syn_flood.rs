//! The half-open connections of a listener look like a SYN flood: many sources that never finish the handshake.
//!
//! Input: the pressure on each SYN queue. Output: one finding per listening endpoint whose pressure looks like an attack. Not
//! here: pressure of any other kind.
//!
#![doc = include_str!("../../../docs/rules/syn-flood.md")]

use crate::diagnose::Outcome;
use crate::diagnose::finding::Finding;
use crate::diagnose::listener_owner::{self, Owner};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Rule, Text, rule};
use crate::diagnose::syn_queue::{AttackKind, CAUSES, Pressure, assess, evidence, next, outcome_words};
use crate::diagnose::view::View;
use crate::model::State;
use crate::text;

pub(super) const RULE: Rule =
    rule!("syn-flood", Listeners, Two, "the half-open connections look like an attack", check, [TEXT])
        .states(&[State::Listen, State::SynRecv])
        .title("SYN flood")
        .causes(CAUSES);

const TEXT: Text = Text {
    why: "A SYN costs its sender one packet, often with a forged address, and the server an entry that waits for an \
          ACK that never comes. With SYN cookies real clients still get in; what hurts then is the packet rate.",
    remedy: &[
        "Make sure that real clients get in: cookies received, new connections",
        "Rate-limit or scrub upstream: provider, load balancer, or SYNPROXY on a firewall in front",
        "Drop what is certainly junk as early as possible (nftables, XDP)",
        "Keep net.ipv4.tcp_syncookies=1, or turn it on",
    ],
    avoid: &[
        "Don't switch SYN cookies off, and don't raise tcp_max_syn_backlog with them on",
        "Don't set tcp_synack_retries=0: it punishes clients on lossy links",
        "Don't block the sources one by one: they are probably forged and may be your users'",
    ],
};

pub(super) fn check(view: &View<'_>) -> Outcome {
    let assessment = assess(view);
    let floods = assessment.pressures.iter().filter(|p| p.flavour == AttackKind::Flood);
    Outcome {
        findings: ranking::alike(floods.map(|p| finding(view, p)).collect()),
        wants_second: assessment.wants_second,
        not_checked: assessment.not_checked,
        ..Outcome::default()
    }
}

fn finding(view: &View<'_>, p: &Pressure<'_>) -> Finding {
    let at = p.queue.local;
    let owner = Owner::of(view, &p.queue.listeners);
    let summary = format!(
        "{at} ({}) looks like the target of a SYN flood: {} half-open connections from {} addresses, {} of them \
         without an answer to a repeated SYN-ACK; {}",
        listener_owner::name(owner.as_ref()),
        text::grouped(p.queue.half_open.len() as u64),
        text::grouped(p.sources as u64),
        text::grouped(p.repeated),
        outcome_words(p)
    );
    let finding = RULE
        .finding(p.severity, 0.6, summary)
        .because("forged sources, a broken way back and broken clients can look alike");
    evidence(view, finding, p, owner.as_ref()).next(next(at))
}

#[cfg(test)]
mod tests {
    use super::super::syn_queue_pressure;
    use super::super::syn_queue_pressure::tests::world;
    use super::*;
    use crate::diagnose::finding::Severity;
    use crate::model::counter::Counter;

    #[test]
    fn many_silent_sources_whose_cookies_do_not_return_are_a_flood() {
        let mut flood = world(40, 1, true);
        flood.later(2000).counter(Counter::TcpExtSyncookiesSent, 500).counter(Counter::TcpExtSyncookiesRecv, 3);
        let outcome = flood.check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
        assert_eq!(
            finding.summary,
            "0.0.0.0:80 (server (812)) looks like the target of a SYN flood: 40 half-open connections from 40 \
             addresses, 40 of them without an answer to a repeated SYN-ACK; 500 SYNs were answered with a SYN cookie"
        );
        let left: Vec<_> = finding.causes.left.iter().map(|h| h.cause.id).collect();
        assert_eq!(left, ["flood", "return-path"], "they look alike from here");
        assert!(flood.check(syn_queue_pressure::check).findings.is_empty(), "told once");
    }

    #[test]
    fn cookies_warn_drops_are_high_and_a_full_accept_queue_is_critical() {
        let severity = |drops: u64, queued: u32| {
            let mut flood = world(40, 1, true);
            flood.now.sockets[0].recv_q_bytes = queued;
            flood
                .later(2000)
                .counter(Counter::TcpExtSyncookiesSent, 500)
                .counter(Counter::TcpExtTcpReqQFullDrop, drops);
            let own = crate::model::SkMem { drops: Some(u32::try_from(drops).unwrap()), ..Default::default() };
            flood.now.sockets[0].skmem = Some(own);
            flood.check(check).findings[0].severity
        };
        assert_eq!((severity(0, 0), severity(1, 0)), (Severity::Warning, Severity::High));
        assert_eq!((severity(0, 39), severity(0, 40)), (Severity::Warning, Severity::Critical));
    }

    #[test]
    fn a_flood_that_displaces_its_own_rows_shows_by_the_cookies_that_do_not_return() {
        let mut flood = world(40, 1, true);
        for socket in flood.now.sockets.iter_mut().filter(|s| s.timer.is_some()).take(18) {
            socket.timer.as_mut().unwrap().retransmits = 0;
        }
        flood.later(500).counter(Counter::TcpExtSyncookiesSent, 500).counter(Counter::TcpExtSyncookiesRecv, 3);
        assert_eq!(flood.check(check).findings.len(), 1);
        flood.counter(Counter::TcpExtSyncookiesSent, 60);
        assert_eq!(flood.check(check).findings, [], "too few cookies to tell");
        assert_eq!(world(40, 1, true).check(check).findings.len(), 1, "full of repeated rows in one sample");
    }

    #[test]
    fn one_network_a_burst_and_answered_syn_acks_are_none() {
        for (repeats, spread, received) in [(1, false, 3), (1, true, 450), (0, true, 3)] {
            let mut other = world(40, repeats, spread);
            other
                .later(500)
                .counter(Counter::TcpExtSyncookiesSent, 500)
                .counter(Counter::TcpExtSyncookiesRecv, received);
            assert_eq!(other.check(check).findings, [], "{repeats} {spread} {received}");
            assert_eq!(other.check(syn_queue_pressure::check).findings.len(), 1);
        }
    }
}
