//! Connects to one destination are answered only when their SYN is repeated: each takes a second longer.
//!
//! Input: the sums of a trace between two samples; without one, counters and rows in SYN_SENT. Output: a finding per program and
//! destination. Not here: connects that fail (`connect-failures`).
//!
#![doc = include_str!("../../../docs/rules/late-connects.md")]

use std::collections::BTreeMap;

use crate::diagnose::Outcome;
use crate::diagnose::callers;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::loss;
use crate::diagnose::reach::Reach;
use crate::diagnose::retries;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::traced_program;
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::sysctl::Sysctl;
use crate::model::traced::{Connects, TracedInterval};
use crate::model::{Endpoint, NetnsId, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("late-connects", Connecting, Two, "connects are answered only when the SYN is repeated", check, [TEXT])
        .states(&[State::SynSent])
        .title("late connects")
        .identity(Identity::ProgramAndDestination)
        .causes(CAUSES)
        .traced();

const ECN: &str = "Ask for no ECN, and see whether connects are quick again: net.ipv4.tcp_ecn = 2 (the default), `ip route show` for \
                   `features ecn`; then mend the device that drops such SYNs";
const FAST_OPEN: &str = "Let the program connect without TCP Fast Open, and mend the device that drops SYNs with data";
const FILTER: &str = "Find what drops the first SYN on the way to {addr}: `tcpdump -ni any 'tcp[13] & 2 != 0'` here and there; rules with \
                      a limit (`nft -a list ruleset`), devices that hold SYNs back";
const QUEUE: &str = "On {addr} compare Recv-Q and Send-Q of the listener (`ss -ltn`), and see whether `nstat -az \
                     TcpExtListenOverflows` grows: its program accepts too slowly";
const LOSS: &str = "Measure loss to {addr}: `mtr -T -P {port} {addr}`, drops in `ip -s link`";
const KEEP: &str = "Until then keep connections open and use them again: only the first request pays";

const TEXT: Text = Text {
    why: "The kernel repeats a SYN after one second, so a connect whose first SYN is lost takes a second longer than it should, and \
          succeeds. No error is seen anywhere; users wait.",
    remedy: &[ECN, FAST_OPEN, FILTER, QUEUE, LOSS, KEEP],
    avoid: &[
        "Don't raise the connect timeout: nothing times out",
        "Don't lower tcp_syn_retries: the repetition is what succeeds",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "ecn-filtered",
        text: "a device on the way drops SYNs that ask for ECN; the repeated SYN does not ask",
        predicts: "each connect is late, by one repetition, and this host asks for ECN (net.ipv4.tcp_ecn = 1)",
        refuted_by: "connects that are answered at once",
        decided_by: "`sysctl net.ipv4.tcp_ecn=2` for a moment; `tcpdump 'tcp[13] & 0xc2 == 0xc2'` at the peer",
    },
    Cause {
        id: "fast-open-filtered",
        text: "a device on the way drops SYNs with data (TCP Fast Open); the repeated SYN has none",
        predicts: "each connect is late, and TCPFastOpenActiveFail grows by as many",
        refuted_by: "TCPFastOpenActiveFail does not grow",
        decided_by: "`nstat -az TcpExtTCPFastOpenActiveFail`; the program without Fast Open",
    },
    Cause {
        id: "first-syn-dropped",
        text: "a filter on the way drops the first SYN of each and lets the repetition through",
        predicts: "each connect is late, by one repetition",
        refuted_by: "connects that are answered at once",
        decided_by: "`tcpdump` of SYNs at both ends: the first does not arrive, the second does",
    },
    Cause {
        id: "peer-accept-queue-full",
        text: "the accept queue of the peer is full again and again, and SYNs are dropped meanwhile",
        predicts: "some connects are late, by one repetition or several",
        refuted_by: "the listener's own queue, where it can be read",
        decided_by: "`ss -ltn` on the peer: Recv-Q above Send-Q, or ListenOverflows grows",
    },
    Cause {
        id: "lossy-path",
        text: "the path loses segments",
        predicts: "some connects are late and others are not; data is repeated too",
        refuted_by: "each of many first SYNs is lost, and hardly one that is repeated",
        decided_by: "`mtr -T` to the port; drops in `ip -s link` on both hosts",
    },
    Cause {
        id: "slow-path",
        text: "the way there and back takes longer than a second, so the SYN is repeated needlessly",
        predicts: "the round trip of open connections is a second or more",
        refuted_by: "a shorter round trip",
        decided_by: "`ping`, `tcpstate list -i`: min-rtt",
    },
];

/// Fewer late connects are ordinary loss (policy).
const LATE: u64 = 3;
/// Where so many were lost the first time and none the second, chance did not do it.
const NO_CHANCE: u64 = 5;
/// So many attempts that wait for half a second at a destination that answered in the last minute are worth a second look (policy).
const SLOW: u64 = 2;
const SLOW_MS: u64 = 500;
const LATELY_MS: u64 = 60_000;
/// The kernel repeats a SYN after so long (`TCP_TIMEOUT_INIT`).
const REPEATED_MS: u64 = 1000;
/// Connects that a counter must have seen begin, and SYNs repeated for each hundred of them (policy).
const OPENED: u64 = 5;
const REPEATED_PERCENT: u64 = 80;

pub(super) fn check(view: &View<'_>) -> Outcome {
    if view.before.is_none() {
        return Outcome { wants_second: suspicion(view), ..Outcome::default() };
    }
    match view.now.traced.as_ref() {
        Some(traced) => {
            let findings = traced.connects.iter().filter_map(|connects| late(view, traced, connects));
            Outcome::findings(findings.collect())
        }
        None => Outcome::findings(view.now.netns.iter().filter_map(|n| counted(view, n.inode)).collect()),
    }
}

/// One look cannot know when attempts are answered: what makes a second one worth its time.
fn suspicion(view: &View<'_>) -> Option<String> {
    let is_slow = |s: &Socket| retries::syn_sent_ms(s, view.netns(s.netns)).0 >= Some(SLOW_MS);
    let slow = view.now.sockets.iter().filter(|s| s.state == State::SynSent && is_slow(s));
    let mut places: BTreeMap<(Option<NetnsId>, Endpoint), u64> = BTreeMap::new();
    for socket in slow {
        *places.entry((socket.netns, socket.peer.normalised())).or_default() += 1;
    }
    places.retain(|_, waiting| *waiting >= SLOW);
    let reach = Reach::new(view, places.keys().copied());
    let answers = |(netns, to): &(Option<NetnsId>, Endpoint)| reach.to(*netns, *to, LATELY_MS).next().is_some();
    places.keys().any(answers).then(|| "whether attempts are answered only when their SYN is repeated".to_owned())
}

/// What the rows of open connections there say.
struct Open {
    /// The shortest round trip ever, and the shortest of now, of those whose data was acknowledged: that of a repeated SYN is not
    /// known.
    rtt_ms: Option<(u64, u64)>,
    /// The queue of this host that takes them, and whether it drops.
    overflows: Option<bool>,
}

impl Open {
    fn of(view: &View<'_>, netns: Option<NetnsId>, to: Endpoint) -> Open {
        let of = |s: &&Socket| s.netns == netns && s.peer.port == to.port && s.peer.normalised() == to;
        let rtt = |s: &Socket| {
            let info = s.info.as_deref().filter(|i| i.bytes_received() > Some(0) && i.bytes_acked() > Some(1))?;
            let now = u64::from(info.rtt_us()?) / 1000;
            Some((now.min(u64::from(info.min_rtt_us()?) / 1000), now))
        };
        let home = callers::home(view, netns, to.addr);
        let queue = home.and_then(|home| callers::listening(view, home.inode, to));
        Open {
            rtt_ms: view.now.sockets.iter().filter(of).filter_map(rtt).reduce(|a, b| (a.0.min(b.0), a.1.min(b.1))),
            overflows: queue.map(|q| callers::overflows(view, q)),
        }
    }
}

/// `all`: no connect whose beginning is known was answered sooner; `late`: so many were late; `repeated`: so many SYNs were sent again.
fn weigh(
    view: &View<'_>,
    netns: Option<NetnsId>,
    to: Endpoint,
    (all, late, repeated): (bool, u64, u64),
    fins_pass: Option<&str>,
) -> Weighed {
    let open = Open::of(view, netns, to);
    let ecn = view.netns(netns).and_then(|n| n.sysctl(Sysctl::Ipv4TcpEcn));
    let fast_open = view.delta(netns, Counter::TcpExtTcpFastOpenActiveFail);
    let sooner = || Weight::Refuted("others are answered at once".to_owned());
    Weighed::of(CAUSES, |cause| match (cause.id, open.overflows) {
        ("slow-path", _) => match open.rtt_ms {
            Some((least, _)) if least >= REPEATED_MS => Weight::Proven,
            Some((_, now)) if now >= REPEATED_MS => Weight::Possible(0.7),
            Some((_, now)) => Weight::Refuted(format!("the round trip of open connections is {}", text::duration(now))),
            None => Weight::Possible(0.05),
        },
        ("peer-accept-queue-full", Some(true)) => Weight::Proven,
        ("peer-accept-queue-full", Some(false)) => Weight::Refuted("its queue on this host drops nothing".to_owned()),
        ("peer-accept-queue-full", None) if fins_pass.is_some() => Weight::Possible(0.8),
        ("peer-accept-queue-full", None) => Weight::Possible(if all { 0.15 } else { 0.35 }),
        ("ecn-filtered", _) => match ecn {
            _ if !all => sooner(),
            Some(1) => Weight::Possible(0.6),
            // A route or the congestion control may ask for it.
            _ => Weight::Possible(0.05),
        },
        ("fast-open-filtered", _) => match fast_open {
            Some(0) => Weight::Refuted("TCPFastOpenActiveFail does not grow".to_owned()),
            Some(n) if n * 2 >= repeated => Weight::Possible(0.9),
            _ => Weight::Possible(0.05),
        },
        ("first-syn-dropped", _) if !all => sooner(),
        ("first-syn-dropped", _) => Weight::Possible(0.3),
        ("lossy-path", _) if all && late >= NO_CHANCE => Weight::Refuted(format!(
            "each of {} was answered when its SYN was repeated, and none before",
            text::count(late, "connect", "connects")
        )),
        _ => match fins_pass {
            Some(why) => Weight::Refuted(why.to_owned()),
            None => Weight::Possible(if all { 0.2 } else { 0.5 }),
        },
    })
}

fn step(cause: &str) -> &'static str {
    match cause {
        "ecn-filtered" => ECN,
        "fast-open-filtered" => FAST_OPEN,
        "peer-accept-queue-full" => QUEUE,
        "lossy-path" | "slow-path" => LOSS,
        _ => FILTER,
    }
}

fn late(view: &View<'_>, traced: &TracedInterval, connects: &Connects) -> Option<Finding> {
    let late = connects.succeeded_late.filter(|n| *n >= LATE)?;
    // Of those that had begun before the trace it is not known.
    let all = connects.answered_ms.is_some_and(|(quickest, _)| quickest >= REPEATED_MS);
    if !all && late * 2 < connects.succeeded || connects.failures() >= connects.succeeded {
        return None;
    }
    let of_peer = traced.retransmits.iter().find(|r| (r.netns, r.peer) == (connects.netns, connects.to.addr));
    // A queue in front of accept() drops handshakes and no FIN.
    let fins_pass = of_peer.and_then(|repeated| loss::fins_pass(traced, repeated));
    let causes = weigh(view, connects.netns, connects.to, (all, late, late), fins_pass.as_deref());
    let program = connects.program.as_ref();
    let who = program.map_or_else(|| "a process that is not known".to_owned(), traced_program::name);
    let range = connects.answered_ms.map_or_else(String::new, |(quickest, slowest)| {
        let (quickest, slowest) = (text::duration(quickest), text::duration(slowest));
        match quickest == slowest {
            true => format!(", after {quickest}"),
            false if all => format!(", after {quickest} to {slowest}"),
            // The quickest was one that was answered at once.
            false => format!(", the slowest after {slowest}"),
        }
    });
    let all_of = if all { " (all that were seen to begin)" } else { "" };
    // On a long path the first SYN is answered, and its repetition is not needed.
    let how = if causes.is("slow-path") { "after a second or more" } else { "only when the SYN was repeated" };
    let summary = format!(
        "{} of {} of {who} to {} within {} were answered {how}{all_of}{range}",
        text::grouped(late),
        text::count(connects.succeeded, "connect", "connects"),
        connects.to,
        text::duration(traced.duration_ms),
    );
    let finding = finding(severity(&causes), (0.9, summary), causes, connects.to)
        .because("each connect and its end were traced")
        .subject(traced_program::caller(view, connects.netns, connects.to, program))
        .evidence("late", Evidence::Count(late))
        .evidence("succeeded", Evidence::Count(connects.succeeded))
        .evidence("quickest_ms", Evidence::millis(connects.answered_ms.map(|(quickest, _)| quickest)))
        .evidence("slowest_ms", Evidence::millis(connects.answered_ms.map(|(_, slowest)| slowest)))
        .evidence("failed", Evidence::Count(connects.failures()));
    Some(finding)
}

/// Nobody is kept waiting by a repetition that was not needed.
fn severity(causes: &Weighed) -> Severity {
    if causes.is("slow-path") { Severity::Info } else { Severity::Warning }
}

fn finding(severity: Severity, (confidence, summary): (f64, String), causes: Weighed, to: Endpoint) -> Finding {
    let steps: Vec<&str> = causes.left.iter().map(|h| step(h.cause.id)).take(3).chain([KEEP]).collect();
    RULE.finding(severity, confidence, summary)
        .causes(causes)
        .steps(steps)
        .fill("addr", to.addr)
        .fill("port", to.port)
        .next(format!("tcpstate trace dst {to}"))
}

/// What counters and the rows that wait tell: nearly each connect repeats its SYN, and the destination answers.
fn counted(view: &View<'_>, netns: Option<NetnsId>) -> Option<Finding> {
    let opened = view.delta(netns, Counter::TcpActiveOpens).filter(|n| *n >= OPENED)?;
    let repeated = view.delta(netns, Counter::TcpExtTcpSynRetrans).filter(|n| *n * 100 >= opened * REPEATED_PERCENT)?;
    if view.delta(netns, Counter::TcpAttemptFails)? > 0 {
        return None;
    }
    // The counter has repeated SYN-ACKs too.
    let repeats =
        |s: &Socket| s.netns == netns && s.state == State::SynRecv && s.timer.is_some_and(|t| t.retransmits > 0);
    if view.now.sockets.iter().chain(view.before.into_iter().flat_map(|b| &b.sockets)).any(repeats) {
        return None;
    }
    let waiting: Vec<&Socket> =
        view.now.sockets.iter().filter(|s| s.netns == netns && s.state == State::SynSent).collect();
    // One that repeats its SYN again is not answered at once after the first repetition.
    if waiting.iter().any(|s| s.timer.is_some_and(|t| t.retransmits > 1)) {
        return None;
    }
    let to =
        waiting.first().map(|s| s.peer.normalised()).filter(|to| waiting.iter().all(|s| s.peer.normalised() == *to))?;
    let interval = view.interval_ms()?;
    let reach = Reach::new(view, [(netns, to)].into_iter());
    // An old connection that is heard says nothing of new ones.
    let is_new = |s: &&Socket| view.earlier(s).is_none_or(|e| e.state == State::SynSent);
    let answered = reach.to(netns, to, interval).filter(is_new).count() as u64;
    if answered < LATE {
        return None;
    }
    let causes = weigh(view, netns, to, (true, LATE, repeated), None);
    let summary = format!(
        "{} for {} that this network namespace began within {}: those to {to} are answered late",
        text::count(repeated, "SYN was repeated", "SYNs were repeated"),
        text::count(opened, "connect", "connects"),
        text::duration(interval),
    );
    let finding = finding(severity(&causes), (0.6, summary), causes, to)
        .because("counters have as many repetitions as connects, none fails, and the destination that others wait for answers")
        .subject(Subject { netns, destination: Some(to), ..Subject::default() })
        .about(waiting.iter().copied())
        .evidence("opened", Evidence::Count(opened))
        .evidence("syn_retransmissions", Evidence::Count(repeated))
        .evidence("waiting", Evidence::Count(waiting.len() as u64))
        .evidence("heard", Evidence::Count(answered));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{NETNS, World, info, row, time_wait, timer};
    use crate::model::TimerKind;
    use crate::model::traced::{ConnectFailure, Program};

    fn connects(succeeded: u64, late: u64, quickest: u64) -> Connects {
        Connects {
            program: Some(Program { pid: 812, comm: "curl".into(), processes: 1 }),
            succeeded,
            succeeded_late: Some(late),
            answered_ms: Some((quickest, 1190)),
            succeeded_at_ms: Some((1, 1900)),
            ..Connects::none(NETNS, Endpoint::new("10.0.0.9".parse().unwrap(), 80))
        }
    }

    fn traced(connects: Connects) -> World {
        let mut world = World::new();
        world.counter(Counter::TcpExtTcpFastOpenActiveFail, 3).sysctl(Sysctl::Ipv4TcpEcn, &[1]).later(2000);
        let connects = vec![connects];
        world.now.traced = Some(TracedInterval { duration_ms: 2000, connects, ..TracedInterval::default() });
        world
    }

    fn left(world: &World) -> Vec<&'static str> {
        world.check(check).findings[0].causes.left.iter().map(|h| h.cause.id).collect()
    }

    #[test]
    fn connects_that_are_answered_when_repeated_are_late() {
        let mut world = traced(connects(10, 5, 1010));
        let finding = world.check(check).findings.remove(0);
        assert_eq!((finding.severity, finding.subject.comm.as_deref()), (Severity::Warning, Some("curl")));
        assert_eq!(
            finding.summary,
            "5 of 10 connects of curl (812) to 10.0.0.9:80 within 2.0 s were answered only when the SYN was repeated (all that were \
             seen to begin), after 1.0 s to 1.1 s"
        );
        let of_half = traced(connects(10, 5, 3)).check(check).findings.remove(0);
        assert!(of_half.summary.ends_with("when the SYN was repeated, the slowest after 1.1 s"), "{}", of_half.summary);
        assert_eq!(left(&world)[..2], ["ecn-filtered", "first-syn-dropped"]);
        assert!(
            finding.causes.ruled_out.iter().any(|(c, _)| c.id == "lossy-path") && finding.remedy[0].contains("ECN")
        );
        world.sysctl(Sysctl::Ipv4TcpEcn, &[2]);
        assert_eq!(left(&world)[0], "first-syn-dropped");
        world.counter(Counter::TcpExtTcpFastOpenActiveFail, 8);
        assert_eq!(left(&world)[0], "fast-open-filtered");
    }

    #[test]
    fn a_part_that_is_late_is_loss_or_a_queue_and_a_few_are_nothing() {
        assert_eq!(left(&traced(connects(10, 5, 1)))[0], "lossy-path");
        for silent in [connects(100, 5, 1), connects(3, 2, 1010), connects(100, 49, 1)] {
            assert_eq!(traced(silent).check(check).findings, []);
        }
        let failing = Connects { failed: vec![(ConnectFailure::GivenUp, 9)], ..connects(9, 9, 1010) };
        assert_eq!(traced(failing).check(check).findings, [], "told by another rule");
    }

    #[test]
    fn a_way_that_takes_more_than_a_second_hurts_nobody() {
        let mut world = traced(connects(10, 10, 1200));
        let open = row(State::Established, "10.0.0.1:40000", "10.0.0.9:80");
        let of = |rtt_us| [("min_rtt_us", rtt_us), ("rtt_us", rtt_us + 9), ("bytes_received", 9), ("bytes_acked", 9)];
        world.add(info(open, &of(1_200_000)));
        let finding = world.check(check).findings.remove(0);
        assert!(finding.severity == Severity::Info && finding.causes.is("slow-path"), "{finding:#?}");
        // The round trip of a repeated SYN means nothing.
        let open = || row(State::Established, "10.0.0.1:40000", "10.0.0.9:80");
        world.now.sockets = vec![info(open(), &[("min_rtt_us", 1_200_000), ("rtt_us", 1_200_000), ("bytes_acked", 1)])];
        assert_eq!(world.check(check).findings[0].severity, Severity::Warning);
        world.now.sockets = vec![info(open(), &of(20_000))];
        let quick = world.check(check).findings.remove(0);
        assert!(quick.causes.ruled_out.iter().any(|(c, _)| c.id == "slow-path"), "{quick:#?}");
    }

    #[test]
    fn some_that_wait_for_long_where_others_are_answered_are_worth_a_second_look() {
        let wants = |waiting: u16, remaining_ms, answered: bool| {
            let mut world = World::new();
            for port in 0..waiting {
                let base = row(State::SynSent, &format!("10.0.0.1:{}", 40_000 + port), "10.0.0.9:80");
                world.add(timer(base, TimerKind::Retransmit, remaining_ms, 0));
            }
            if answered {
                world.add(time_wait("10.0.0.1:41000", "10.0.0.9:80", 59_900));
            }
            world.check(check).wants_second.is_some()
        };
        assert!(wants(2, 400, true));
        assert!(!wants(1, 400, true) && !wants(2, 600, true) && !wants(2, 400, false));
    }

    #[test]
    fn without_a_trace_counters_and_those_that_wait_tell() {
        let looks = |repeated: u64, failed: u64, repeats: u8, answered: u16| {
            let mut world = World::new();
            for counter in [Counter::TcpActiveOpens, Counter::TcpExtTcpSynRetrans, Counter::TcpAttemptFails] {
                world.counter(counter, 7);
            }
            world.later(2000).counter(Counter::TcpActiveOpens, 17).counter(Counter::TcpExtTcpSynRetrans, 7 + repeated);
            world.counter(Counter::TcpAttemptFails, 7 + failed);
            let waiting = row(State::SynSent, "10.0.0.1:40000", "10.0.0.9:80");
            world.add(timer(waiting, TimerKind::Retransmit, 500, repeats));
            for port in 0..answered {
                world.add(time_wait(&format!("10.0.0.1:{}", 41_000 + port), "10.0.0.9:80", 59_900));
            }
            world.check(check).findings
        };
        let found = looks(9, 0, 0, 3);
        assert_eq!((found.len(), found[0].severity), (1, Severity::Warning));
        assert!(found[0].confidence < 0.7);
        for silent in [looks(7, 0, 0, 3), looks(9, 1, 0, 3), looks(9, 0, 2, 3), looks(9, 0, 0, 2)] {
            assert_eq!(silent, []);
        }
    }
}
