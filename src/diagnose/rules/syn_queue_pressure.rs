//! A listener has more half-open connections than it can hold, so SYNs are answered with cookies or dropped.
//!
//! Input: the pressure on each SYN queue. Output: one finding per listening endpoint, unless it looks like a flood.
//!
#![doc = include_str!("../../../docs/rules/syn-queue-pressure.md")]

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
    rule!("syn-queue-pressure", Listeners, OneOrTwo, "half-open connections reach the listener's limit", check, [TEXT])
        .states(&[State::Listen, State::SynRecv])
        .title("SYN queue full")
        .causes(CAUSES);

const ACCEPT: &str = "If the accept queue is full too, begin there: a server that does not accept fills both";
const BURST: &str = "For a real burst, raise the backlog in the application and net.core.somaxconn, then restart it";
const WAY_BACK: &str = "If clients never finish, check the way of our SYN-ACKs (routing, rp_filter, firewalls)";
const COOKIES: &str = "Keep net.ipv4.tcp_syncookies=1, or turn it on";

const TEXT: Text = Text {
    why: "A half-open connection waits for the third packet of the handshake, normally one round trip. When the \
          queue, as long as the listener's backlog, is full the kernel answers with SYN cookies, which may lose \
          options, or drops the SYN.",
    remedy: &[ACCEPT, BURST, WAY_BACK, COOKIES],
    avoid: &[
        "Don't raise tcp_max_syn_backlog while SYN cookies are on: it has no effect",
        "Don't switch SYN cookies off: the kernel then drops the SYNs that do not fit",
        "Don't set tcp_synack_retries=0: one lost SYN-ACK then costs a client a whole timeout",
    ],
};

pub(super) fn check(view: &View<'_>) -> Outcome {
    let assessment = assess(view);
    let ours = assessment.pressures.iter().filter(|p| p.flavour != AttackKind::Flood);
    Outcome {
        findings: ranking::alike(ours.map(|p| finding(view, p)).collect()),
        wants_second: assessment.wants_second,
        not_checked: assessment.not_checked,
        ..Outcome::default()
    }
}

fn finding(view: &View<'_>, p: &Pressure<'_>) -> Finding {
    let at = p.queue.local;
    let owner = Owner::of(view, &p.queue.listeners);
    let causes = p.causes();
    let flavour = match causes.named() {
        Some(cause) => format!("; {}", cause.text),
        None if p.unanswered => format!("; {} got no answer to a repeated SYN-ACK", text::grouped(p.repeated)),
        None => String::new(),
    };
    let summary = format!(
        "{} half-open connections stand before {at} ({}), of which {} fit: {}{flavour}",
        text::grouped(p.queue.half_open.len() as u64),
        listener_owner::name(owner.as_ref()),
        text::grouped(p.limit),
        outcome_words(p)
    );
    let finding = RULE
        .finding(p.severity, 0.8, summary)
        .because("queue and limit are the kernel's; the counters are those of the namespace");
    let mut steps: Vec<&str> = causes.left.iter().map(|h| step(h.cause.id)).chain([COOKIES]).collect();
    steps.dedup();
    evidence(view, finding.steps(steps), p, owner.as_ref()).next(next(at))
}

/// What helps against each cause.
fn step(cause: &str) -> &'static str {
    match cause {
        "accept-queue-full" => ACCEPT,
        "burst" => BURST,
        "flood" => COOKIES,
        _ => WAY_BACK,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::diagnose::finding::{Evidence, Severity};
    use crate::diagnose::testkit::{World, listen, row, timer};
    use crate::model::counter::Counter;
    use crate::model::sysctl::Sysctl;
    use crate::model::{RowKind, SkMem, Socket, TimerKind};

    pub(crate) fn request(peer: &str, remaining_ms: u32, repeats: u8) -> Socket {
        let base = row(State::SynRecv, "10.0.0.1:80", peer);
        let base = Socket { kind: RowKind::Request, inode: None, shutdown: None, uid: None, ..base };
        timer(base, TimerKind::Retransmit, remaining_ms, repeats)
    }

    /// A listener on :80 with backlog 39, and half-open connections from one /24 each where `spread`.
    pub(crate) fn world(rows: u16, repeats: u8, spread: bool) -> World {
        let mut world = World::new();
        let listener = listen("0.0.0.0:80", 0, 39);
        let drops = SkMem { drops: Some(0), ..SkMem::default() };
        world.add(Socket { skmem: Some(drops), ..listener }).hold(812, "server", 3, 80 << 16);
        for n in 0..rows {
            let peer = if spread { format!("10.{n}.1.1:{}", 40_000 + n) } else { format!("10.9.9.9:{}", 40_000 + n) };
            world.add(request(&peer, 800, repeats));
        }
        world.sysctl(Sysctl::Ipv4TcpSyncookies, &[1]);
        for counter in [
            Counter::TcpExtTcpReqQFullDoCookies,
            Counter::TcpExtSyncookiesSent,
            Counter::TcpExtSyncookiesRecv,
            Counter::TcpExtTcpReqQFullDrop,
            Counter::TcpExtListenDrops,
            Counter::TcpExtListenOverflows,
        ] {
            world.counter(counter, 0);
        }
        world
    }

    #[test]
    fn half_full_twice_is_told_and_cookies_warn() {
        let outcome = world(20, 1, false).later(2000).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(812)));
        assert!(
            finding.summary.starts_with("20 half-open connections stand before 0.0.0.0:80 (server (812)), of which 40")
        );
        let left: Vec<_> = finding.causes.left.iter().map(|h| h.cause.id).collect();
        assert_eq!(left, ["return-path", "scanner"]);
        assert!(finding.summary.ends_with("; 20 got no answer to a repeated SYN-ACK"), "{}", finding.summary);
        assert_eq!(finding.remedy, [WAY_BACK, COOKIES]);
        let mut cookies = world(40, 1, false);
        cookies.later(2000).counter(Counter::TcpExtSyncookiesSent, 30).counter(Counter::TcpExtSyncookiesRecv, 29);
        let finding = cookies.check(check).findings.remove(0);
        assert_eq!(finding.severity, Severity::Warning);
        assert!(finding.summary.contains("30 SYNs were answered with a SYN cookie; the clients are real"));
        assert!(finding.causes.is("burst"));
        let half = |received| {
            let mut half = world(40, 1, false);
            half.later(2000)
                .counter(Counter::TcpExtSyncookiesSent, 30)
                .counter(Counter::TcpExtSyncookiesRecv, received);
            half.check(check).findings.remove(0).causes.is("burst")
        };
        assert!(half(15) && !half(14), "half of the cookies");
    }

    #[test]
    fn one_sample_tells_a_full_queue_whose_syn_acks_were_repeated() {
        let outcome = world(40, 1, false).check(check);
        assert_eq!(outcome.findings[0].severity, Severity::Warning);
        assert!(outcome.wants_second.is_some());
        for (rows, repeats) in [(40, 0), (39, 1)] {
            let outcome = world(rows, repeats, false).check(check);
            assert!(outcome.findings.is_empty() && outcome.wants_second.is_some(), "{rows} {repeats}");
        }
    }

    #[test]
    fn drops_are_high_and_a_full_accept_queue_makes_it_critical() {
        let mut drops = world(40, 1, false);
        drops.later(2000).counter(Counter::TcpExtTcpReqQFullDrop, 12).sysctl(Sysctl::Ipv4TcpSyncookies, &[0]);
        drops.now.sockets[0].skmem = Some(SkMem { drops: Some(12), ..SkMem::default() });
        assert_eq!(drops.check(check).findings[0].severity, Severity::High);
        // Another listener of the namespace dropped them.
        drops.now.sockets[0].skmem = Some(SkMem { drops: Some(0), ..SkMem::default() });
        assert_eq!(drops.check(check).findings[0].severity, Severity::Info);
        let mut both = world(40, 1, false);
        both.now.sockets[0].recv_q_bytes = 40;
        both.later(2000).counter(Counter::TcpExtSyncookiesSent, 5);
        let finding = both.check(check).findings.remove(0);
        assert!(finding.severity == Severity::Critical && finding.causes.is("accept-queue-full"), "{finding:?}");
    }

    #[test]
    fn a_queue_with_a_place_free_just_now_is_no_burst() {
        let cause = |dropped: u32, overflowed: u64, drops: u64| {
            let mut world = world(40, 1, false);
            world.later(2000).counter(Counter::TcpExtSyncookiesSent, 10).counter(Counter::TcpExtSyncookiesRecv, 10);
            world.counter(Counter::TcpExtListenOverflows, overflowed).counter(Counter::TcpExtListenDrops, drops);
            world.now.sockets[0].skmem = Some(SkMem { drops: Some(dropped), ..SkMem::default() });
            let finding = world.check(check).findings.remove(0);
            (finding.causes.named().map(|cause| cause.id), finding.severity)
        };
        assert_eq!(cause(12, 12, 12).0, Some("accept-queue-full"), "each drop was an overflow");
        assert_eq!(cause(0, 12, 12), (Some("burst"), Severity::Warning), "another listener's");
        assert_eq!(cause(12, 0, 12).0, Some("burst"), "dropped for another reason");
    }

    #[test]
    fn without_cookies_the_limit_is_that_of_the_sysctl() {
        let mut world = world(4, 1, false);
        world.sysctl(Sysctl::Ipv4TcpSyncookies, &[0]).sysctl(Sysctl::Ipv4TcpMaxSynBacklog, &[4]);
        let finding = world.later(2000).check(check).findings.remove(0);
        assert!(finding.evidence.contains(&("limit", Evidence::Count(4))), "{finding:?}");
    }

    #[test]
    fn deferred_accepts_always_cookies_and_light_traffic_are_silent() {
        let mut deferred = world(39, 0, false);
        assert_eq!(deferred.later(2000).check(check), Outcome::default(), "still not repeated after two seconds");
        let mut one = world(0, 0, false);
        for n in 0..39 {
            one.add(request(&format!("10.9.9.9:{}", 40_000 + n), 1900, 0));
        }
        assert_eq!(one.check(check), Outcome::default());
        let mut always = world(5, 0, false);
        always.sysctl(Sysctl::Ipv4TcpSyncookies, &[2]).later(500).counter(Counter::TcpExtSyncookiesSent, 900);
        assert_eq!(always.check(check), Outcome::default());
        assert_eq!(world(19, 1, false).later(2000).check(check), Outcome::default());
        assert!(world(20, 1, false).check(check).wants_second.is_some());
        assert_eq!(world(19, 1, false).check(check), Outcome::default());
    }
}
