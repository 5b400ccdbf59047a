//! Connects of one program to one destination fail, and most leave no row that a look could find.
//!
//! Input: the sums of a trace between two samples; without one, rows in SYN_SENT of both and counters. Output: a finding per
//! program and destination, with how they fail and what share of them.
//!
#![doc = include_str!("../../../docs/rules/connect-failures.md")]

use std::collections::BTreeMap;

use crate::diagnose::Outcome;
use crate::diagnose::connect_causes::{CAUSES, Ends};
use crate::diagnose::connect_harm::{FEW, Seen, severity};
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::hypothesis::{Weighed, Weight};
use crate::diagnose::measure::Share;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::traced_program;
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::traced::{Connects, TracedInterval};
use crate::model::{Endpoint, NetnsId, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("connect-failures", Connecting, Two, "connects to one destination fail", check, [TEXT, COUNTED, UNROUTED])
        .states(&[State::SynSent])
        .title("failing connects")
        .identity(Identity::ProgramAndDestination)
        .causes(CAUSES)
        .traced();

const LISTENER: &str = "On {addr} check that the service runs and listens on port {port} of that address: `ss -ltnp`";
const BEHIND: &str =
    "Find which of the hosts behind {addr} refuses, and look there: `ss -ltnp`, the restarts of the service";
const REJECT: &str =
    "Find who rejects: `tcpdump -ni any icmp or icmp6`, then its rules (`nft list ruleset`, security groups)";
const ROUTE: &str = "Check the way to {addr}: `ip route get {addr}`, `ip neigh show {addr}`";
const SILENT: &str = "Check that {addr} runs and that nothing drops port {port}: security groups, firewalls, the accept queue of \
                      the listener there (`ss -ltn`: Recv-Q above Send-Q)";
const BACKEND: &str =
    "Connect to each host behind {addr} itself, and take the one that does not answer out of the balancer";
const PART: &str = "Find what lets only a part through to port {port}: rules with a limit (`nft -a list ruleset`), the NAT on the way \
                    (`conntrack -S`), the accept queue of the listener (`ss -ltn`)";
const LOSS: &str = "Measure loss to {addr}: `mtr -T -P {port} {addr}`, drops in `ip -s link`";
const WAY_OUT: &str = "Check the way out: `ip route get {addr}`, rules of OUTPUT (`nft list ruleset`), `tc -s qdisc`";
const PORTS: &str = "Reuse connections, or spread them over more addresses: see ephemeral-port-exhaustion";
const PATIENCE: &str = "Compare the program's connect timeout with the round trip to {addr}; a timeout below 1 s does not survive one \
                        lost SYN";
const BACK_OFF: &str = "Let the program wait longer after each failure, with jitter, so that it does not meet a service that \
                        comes back with a storm";
const WHO: &str =
    "Find the destination: run `doctor` as root, which traces failed connects, or `tcpstate trace` meanwhile";

const TEXT: Text = Text {
    why: "A connect that fails leaves no socket behind, so tables of sockets look healthy while every call of the program fails.",
    remedy: &[LISTENER, BEHIND, REJECT, ROUTE, SILENT, PATIENCE, PORTS, BACKEND, PART, LOSS, WAY_OUT, BACK_OFF],
    avoid: &["Don't lengthen the connect timeout to cure this: callers wait longer for the same failure"],
};

const COUNTED: Text = Text {
    why: "The kernel counts attempts that fail and not where they go; without a trace the destination is known only while a \
          socket waits.",
    remedy: &[WHO, SILENT],
    avoid: &["Don't lengthen the connect timeout before the destination is known"],
};

/// Attempts that a counter must have seen fail, and their share of those begun, in percent (policy).
const COUNTED_FAILURES: u64 = 20;
const COUNTED_PERCENT: f64 = 90.0;
/// So many connects without a route are no accident; one for so many that were begun is worth a second look (policy).
const UNROUTED_FAILURES: u64 = 3;
const UNROUTED_SHARE: u64 = 20;

const UNROUTED: Text = Text {
    why: "A connect() to an address without a route fails at once: no socket changes its state, nothing is sent, and no trace of sockets \
          sees it. The kernel only counts it, together with datagrams, and with segments of open connections, that find no route.",
    remedy: &[
        "Find the program and the address: the log of one whose connects fail so says 'Network is unreachable'; `strace -f -e \
         trace=connect -p PID`, `perf trace -e connect`",
        "Look what the routes leave out: `ip route`, `ip rule`, `ip route get` the address; a VPN or an interface that is down takes its \
         routes with it",
    ],
    avoid: &["Don't add a default route before the address is known: it may send private traffic to the internet"],
};

fn check(view: &View<'_>) -> Outcome {
    if view.before.is_none() {
        return Outcome { wants_second: suspicion(view), ..Outcome::default() };
    }
    let mut findings = view.now.traced.as_ref().map_or_else(|| untraced(view), |traced| traced_findings(view, traced));
    findings.extend(view.now.netns.iter().filter_map(|netns| unrouted(view, netns.inode)));
    Outcome::findings(findings)
}

/// Connects and packets that found no route. A connect ends so before anything happens.
fn unrouted(view: &View<'_>, netns: Option<NetnsId>) -> Option<Finding> {
    let failed = view.delta(netns, Counter::IpOutNoRoutes).filter(|n| *n >= FEW)?;
    let interval = view.interval_ms()?;
    let summary = format!(
        "{} of this network namespace found no route within {}",
        text::count(failed, "connect or packet", "connects or packets"),
        text::duration(interval),
    );
    // One lookup of a name tries each of its addresses.
    let severity = if failed >= UNROUTED_FAILURES { Severity::Warning } else { Severity::Info };
    let finding = RULE
        .finding(severity, 0.7, summary)
        .because("OutNoRoutes of IPv4 grew; it tells neither the program nor whether they were connects")
        .text(&UNROUTED)
        .subject(Subject { netns, object: Some("no route".to_owned()), ..Subject::default() })
        .evidence("failed", Evidence::Count(failed))
        .next("ip route");
    Some(finding)
}

fn step(cause: &str) -> &'static str {
    match cause {
        "refused" => LISTENER,
        "refused-by-some" => BEHIND,
        "rejected" => REJECT,
        "unreachable" => ROUTE,
        "no-local-port" => PORTS,
        "impatient" => PATIENCE,
        "backend-silent" | "unreachable-by-some" => BACKEND,
        "part-passes" => PART,
        "lossy-path" => LOSS,
        "not-leaving" => WAY_OUT,
        _ => SILENT,
    }
}

fn traced_findings(view: &View<'_>, traced: &TracedInterval) -> Vec<Finding> {
    let failing = traced.connects.iter().filter(|c| c.failures() >= FEW);
    failing.map(|connects| traced_finding(view, traced, connects)).collect()
}

fn traced_finding(view: &View<'_>, traced: &TracedInterval, connects: &Connects) -> Finding {
    let (failed, attempts) = (connects.failures(), connects.failures() + connects.succeeded);
    let seen = Seen::of(view, traced, connects);
    let ends = Ends::new(view, traced, connects, seen);
    let causes = ends.weigh();
    let cause = ends.leading();
    let program = connects.program.as_ref();
    let who = program.map_or_else(|| "a process that is not known".to_owned(), traced_program::name);
    let past = seen.past(traced, connects);
    let summary = format!(
        "{} of {} of {who} to {} within {} {}{past}",
        text::grouped(failed),
        text::count(attempts, "connect", "connects"),
        connects.to,
        text::duration(traced.duration_ms),
        ends.manner(),
    );
    let steps: Vec<&str> = causes.left.iter().map(|h| step(h.cause.id)).take(2).chain([BACK_OFF]).collect();
    let kinds = connects.failed.iter().map(|(kind, n)| format!("{} ({n})", kind.key())).collect();
    let share = Share::of(failed, attempts).map_or(Evidence::Unknown, |s| Evidence::Percent(s.percent()));
    let waited = |which: fn((u64, u64)) -> u64| Evidence::millis(connects.waited_ms.map(which));
    let lost = traced.lost + traced.not_grouped;
    let confidence = if lost == 0 { 0.95 } else { 0.8 };
    let reason = if lost == 0 {
        "each attempt and its end were traced".to_owned()
    } else {
        format!("attempts and their ends were traced; {} were lost to the trace", text::count(lost, "event", "events"))
    };
    RULE.finding(severity(view, traced, connects, seen, (cause, ends.told_by_icmp())), confidence, summary)
        .because(reason)
        .subject(traced_program::caller(view, connects.netns, connects.to, program))
        .causes(causes)
        .evidence("failed", Evidence::Count(failed))
        .evidence("succeeded", Evidence::Count(connects.succeeded))
        .evidence("failed_percent", share)
        .evidence("failed_with", Evidence::List(kinds))
        .evidence("waited_min_ms", waited(|(shortest, _)| shortest))
        .evidence("waited_max_ms", waited(|(_, longest)| longest))
        .evidence("traced_ms", Evidence::Millis(traced.duration_ms))
        .evidence("events_lost", Evidence::Count(lost))
        .steps(steps)
        .fill("addr", connects.to.addr)
        .fill("port", connects.to.port)
        .next(format!("tcpstate trace --failed dst {}", connects.to))
}

/// Rows in SYN_SENT by destination.
fn attempts<'a>(rows: &'a [Socket]) -> BTreeMap<(Option<NetnsId>, Endpoint), Vec<&'a Socket>> {
    let mut places: BTreeMap<_, Vec<&'a Socket>> = BTreeMap::new();
    for socket in rows.iter().filter(|s| s.state == State::SynSent && s.cookie.is_some()) {
        places.entry((socket.netns, socket.peer.normalised())).or_default().push(socket);
    }
    places
}

/// Whether any connection to this destination was ever more than an attempt.
fn is_reached(rows: &[Socket], (netns, to): (Option<NetnsId>, Endpoint)) -> bool {
    let is_attempt = |s: &Socket| matches!(s.state, State::SynSent | State::Listen | State::Close);
    rows.iter().any(|s| s.netns == netns && s.peer.normalised() == to && !is_attempt(s))
}

/// One look cannot know that attempts fail: what makes a second one worth its time.
fn suspicion(view: &View<'_>) -> Option<String> {
    let enough = view.thresholds.connect_failures;
    let waits = attempts(&view.now.sockets)
        .iter()
        .any(|(place, rows)| rows.len() as f64 >= enough && !is_reached(&view.now.sockets, *place));
    let counted = view.now.netns.iter().any(|netns| {
        let count = |counter| netns.counter(counter);
        let (Some(failed), Some(opened)) = (count(Counter::TcpAttemptFails), count(Counter::TcpActiveOpens)) else {
            return false;
        };
        failed >= COUNTED_FAILURES && failed * 2 >= opened
    });
    let unrouted = view.now.netns.iter().any(|netns| {
        let count = |counter| netns.counter(counter).unwrap_or(0);
        let n = count(Counter::IpOutNoRoutes);
        n >= UNROUTED_FAILURES && n * UNROUTED_SHARE >= count(Counter::TcpActiveOpens)
    });
    (waits || counted || unrouted)
        .then(|| "whether attempts that wait are ever answered, and how many fail between two looks".to_owned())
}

/// What two samples tell: attempts of which none is the same, and none was answered; and counters.
fn untraced(view: &View<'_>) -> Vec<Finding> {
    let Some(before) = view.before else { return Vec::new() };
    let earlier = attempts(&before.sockets);
    let enough = view.thresholds.connect_failures;
    let mut findings = Vec::new();
    for (place, rows) in attempts(&view.now.sockets) {
        let Some(old) = earlier.get(&place) else { continue };
        let is_new = rows.iter().all(|s| old.iter().all(|o| o.cookie != s.cookie));
        let many = old.len().min(rows.len()) as f64 >= enough;
        let reached = is_reached(&view.now.sockets, place) || is_reached(&before.sockets, place);
        if is_new && many && !reached {
            findings.push(waiting_finding(view, place, old.len() as u64, &rows));
        }
    }
    if findings.is_empty() {
        findings.extend(view.now.netns.iter().filter_map(|netns| counted_finding(view, netns.inode)));
    }
    findings
}

fn waiting_finding(view: &View<'_>, (netns, to): (Option<NetnsId>, Endpoint), gone: u64, rows: &[&Socket]) -> Finding {
    let holder = rows.iter().find_map(|s| view.holder(s));
    let who = holder.map_or_else(String::new, |process| format!(" of {}", text::name(process)));
    let subject = match holder {
        Some(process) => Subject { destination: Some(to), ..view.subject_of(process, netns) },
        None => Subject { netns, destination: Some(to), uid: rows[0].uid, ..Subject::default() },
    };
    let interval = view.interval_ms().unwrap_or_default();
    let summary = format!(
        "at least {}{who} to {to} ended unanswered within {}: none of them is left, {} new ones wait, and no connection to it exists",
        text::count(gone, "connect", "connects"),
        text::duration(interval),
        text::grouped(rows.len() as u64),
    );
    let causes = Weighed::of(CAUSES, |cause| match cause.id {
        "no-answer" => Weight::Possible(0.85),
        // For how long each waited is not known.
        "impatient" => Weight::Possible(0.15),
        "refused" | "rejected" => Weight::Refuted("an answer ends an attempt at once, and these waited".to_owned()),
        _ => Weight::Refuted("they have a local port and were not refused a route".to_owned()),
    });
    RULE.finding(Severity::High, 0.7, summary)
        .because("two looks found different attempts and nothing else; no trace shows their ends")
        .text(&COUNTED)
        .subject(subject)
        .about(rows.iter().copied())
        .causes(causes)
        .evidence("failed", Evidence::Count(gone))
        .evidence("waiting", Evidence::Count(rows.len() as u64))
        .evidence("failed_attempts", Evidence::count(view.delta(netns, Counter::TcpAttemptFails)))
        .evidence("syn_retransmissions", Evidence::count(view.delta(netns, Counter::TcpExtTcpSynRetrans)))
        .steps([SILENT])
        .fill("addr", to.addr)
        .fill("port", to.port)
        .next(format!("sudo tcpstate trace --failed dst {to}"))
}

/// Nearly everything that was tried failed.
fn counted_finding(view: &View<'_>, netns: Option<NetnsId>) -> Option<Finding> {
    let failed = view.delta(netns, Counter::TcpAttemptFails).filter(|n| *n >= COUNTED_FAILURES)?;
    let opened = view.delta(netns, Counter::TcpActiveOpens)?;
    let share = Share::of(failed, opened).filter(|share| share.percent() >= COUNTED_PERCENT)?;
    let summary = format!(
        "{} of {} that this network namespace began within {} failed at once; where they go needs a trace",
        text::grouped(failed),
        text::count(opened, "connect", "connects"),
        text::duration(view.interval_ms()?),
    );
    let finding = RULE
        .finding(Severity::Warning, 0.6, summary)
        .because("AttemptFails and ActiveOpens grew by nearly the same number")
        .text(&COUNTED)
        .subject(Subject { netns, ..Subject::default() })
        .evidence("failed", Evidence::Count(failed))
        .evidence("opened", Evidence::Count(opened))
        .evidence("failed_percent", Evidence::Percent(share.percent()))
        .steps([WHO])
        .next("sudo tcpstate trace --failed");
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{NETNS, World, info, row};
    use crate::model::Errno;
    use crate::model::traced::{ConnectFailure, Program, Retransmits};

    fn to(text: &str) -> Endpoint {
        let at: std::net::SocketAddr = text.parse().unwrap();
        Endpoint::new(at.ip(), at.port())
    }

    fn connects(destination: &str, comm: &str, succeeded: u64, failed: &[(ConnectFailure, u64)]) -> Connects {
        Connects {
            netns: NETNS,
            to: to(destination),
            program: Some(Program { pid: 812, comm: comm.into(), processes: 1 }),
            succeeded,
            failed: failed.to_vec(),
            waited_ms: Some((0, 1)),
            failed_at_ms: Some((5, 1990)),
            succeeded_since: 0,
            succeeded_late: Some(0),
            pauses_ms: None,
        }
    }

    fn traced(connects: Vec<Connects>) -> World {
        let mut world = World::new();
        world.later(2000);
        world.now.traced = Some(TracedInterval { duration_ms: 2000, connects, ..TracedInterval::default() });
        world
    }

    fn one(connects: Vec<Connects>) -> Finding {
        let mut outcome = traced(connects).check(check);
        assert_eq!(outcome.findings.len(), 1, "{outcome:#?}");
        outcome.findings.remove(0)
    }

    use ConnectFailure::{AtOnce, Errno as Error, GivenUp, Refused};

    #[test]
    fn refused_connects_name_the_program_and_the_cause() {
        let finding = one(vec![connects("10.0.0.9:443", "curl", 0, &[(Refused, 198)])]);
        assert_eq!(finding.severity, Severity::Warning);
        assert!(finding.causes.is("refused"));
        assert_eq!(finding.summary, "198 of 198 connects of curl (812) to 10.0.0.9:443 within 2.0 s were refused");
        assert_eq!(
            (finding.subject.destination, finding.subject.comm.as_deref()),
            (Some(to("10.0.0.9:443")), Some("curl"))
        );
    }

    #[test]
    fn a_timeout_of_the_program_with_no_success_is_high() {
        let outage =
            Connects { waited_ms: Some((1000, 1004)), ..connects("10.0.0.9:443", "java", 0, &[(GivenUp, 20)]) };
        let finding = one(vec![outage]);
        assert_eq!(finding.severity, Severity::High);
        assert!(
            finding.causes.is("no-answer") && finding.summary.contains("given up by the program after 1.0 s"),
            "{finding:#?}"
        );
        let mixed =
            connects("10.0.0.9:443", "java", 100, &[(Error(Errno::ETIMEDOUT), 20), (Error(Errno::EHOSTUNREACH), 5)]);
        let finding = one(vec![mixed]);
        assert_eq!(finding.severity, Severity::Warning);
        let causes = |finding: &Finding| finding.causes.left.iter().map(|h| h.cause.id).collect::<Vec<_>>();
        assert_eq!(causes(&finding)[0], "backend-silent", "others were answered meanwhile");
        let rejected = one(vec![connects("10.0.0.9:443", "java", 0, &[(Error(Errno::ECONNREFUSED), 20)])]);
        assert!(rejected.causes.is("rejected"), "{rejected:#?}");
    }

    #[test]
    fn a_service_that_refuses_a_part_listens_somewhere() {
        let group = |succeeded| connects("10.0.0.9:6379", "redis-cli", succeeded, &[(Refused, 100)]);
        assert!(one(vec![group(0)]).causes.is("refused"));
        assert!(one(vec![group(1)]).causes.is("refused"));
        let ended = one(vec![group(9)]);
        assert_eq!(ended.causes.left.len(), 2, "{ended:#?}");
        let partly = one(vec![group(90)]);
        assert!(partly.causes.is("refused-by-some"), "{partly:#?}");
        assert!(partly.remedy[0].contains("hosts behind 10.0.0.9"));
        // It came up.
        let up = Connects { failed_at_ms: Some((5, 500)), succeeded_since: 90, ..group(90) };
        assert!(one(vec![up]).causes.is("refused"));
    }

    /// So many ICMP messages (destination unreachable) came between the samples, and left.
    fn icmp(world: &mut World, received: u64, sent: u64) {
        for (counter, n) in [(Counter::IcmpInDestUnreachs, received), (Counter::IcmpOutDestUnreachs, sent)] {
            world.counter(counter, 7 + n);
            world.before.as_mut().expect("two samples").netns[0].counters.insert(counter, 7);
        }
    }

    /// Connects that were given up after so long, while so many ICMP messages came, and left.
    fn given_up(waited_ms: u64, received: u64, sent: u64) -> Finding {
        let group =
            Connects { waited_ms: Some((0, waited_ms)), ..connects("10.0.0.9:443", "psql", 0, &[(GivenUp, 16)]) };
        let mut world = traced(vec![group]);
        icmp(&mut world, received, sent);
        world.check(check).findings.remove(0)
    }

    #[test]
    fn who_gives_up_at_once_while_icmp_comes_was_rejected_and_not_left_without_an_answer() {
        let rejected = given_up(24, 17, 0);
        let left: Vec<&str> = rejected.causes.left.iter().map(|h| h.cause.id).collect();
        assert_eq!(left, ["rejected", "unreachable"]);
        assert_eq!(rejected.severity, Severity::High, "each of its connects fails");
        assert!(
            rejected.summary.contains("as many ICMP messages came") && !rejected.summary.contains("without an answer")
        );
        // Too few, of this host's own making, or after a time that a program waits.
        for other in [given_up(0, 12, 0), given_up(0, 17, 9), given_up(300, 17, 0)] {
            assert!(other.causes.left.iter().all(|h| h.cause.id != "rejected"), "{:?}", other.causes);
            assert_eq!(other.causes.left[0].cause.id, "no-answer");
            assert!(other.causes.left.iter().any(|h| h.cause.id == "impatient"));
        }
        assert!(given_up(1000, 0, 0).causes.is("no-answer"));
    }

    #[test]
    fn no_way_to_a_host_and_a_rule_look_alike_when_icmp_comes_from_elsewhere() {
        let group = || connects("10.0.0.9:443", "psql", 0, &[(Error(Errno::EHOSTUNREACH), 16)]);
        let mut world = traced(vec![group()]);
        icmp(&mut world, 20, 20);
        // A neighbour that does not answer: this host tells itself.
        assert!(world.check(check).findings[0].causes.is("unreachable"));
        icmp(&mut world, 20, 0);
        let left: Vec<&str> = world.check(check).findings[0].causes.left.iter().map(|h| h.cause.id).collect();
        assert_eq!(left, ["rejected", "unreachable"]);
    }

    #[test]
    fn failures_that_prove_a_cause_hide_none_that_leave_two() {
        let kinds = [(Refused, 10), (Error(Errno::EHOSTUNREACH), 10)];
        let mut world = traced(vec![connects("10.0.0.9:443", "psql", 0, &kinds)]);
        icmp(&mut world, 20, 0);
        let causes = world.check(check).findings.remove(0).causes;
        let left: Vec<(&str, f64)> = causes.left.iter().map(|h| (h.cause.id, h.confidence)).collect();
        assert_eq!(left, [("refused", 0.5), ("rejected", 0.3), ("unreachable", 0.2)]);
    }

    #[test]
    fn half_of_few_that_end_with_errors_hurt_as_many_do() {
        let errors = |n, succeeded, kind| one(vec![connects("10.0.0.9:443", "psql", succeeded, &[(kind, n)])]);
        let unreachable = Error(Errno::EHOSTUNREACH);
        assert_eq!(errors(2, 0, unreachable).severity, Severity::High);
        assert_eq!(errors(20, 0, unreachable).severity, Severity::High);
        assert_eq!(errors(3, 2, unreachable).severity, Severity::High);
        assert_eq!(errors(2, 3, unreachable).severity, Severity::Info, "less than half");
        assert_eq!(errors(2, 0, Refused).severity, Severity::Info, "who polls for a service is refused");
        // The program reaches others.
        let others = connects("10.0.0.7:443", "psql", 9, &[]);
        let failing = connects("10.0.0.9:5432", "psql", 0, &[(unreachable, 3)]);
        let mut world = traced(vec![others, failing]);
        assert_eq!(world.check(check).findings[0].severity, Severity::Warning);
        // Open connections to the same port work: only a part gets no answer.
        let silent = Connects { waited_ms: Some((6000, 6100)), ..connects("10.0.0.9:443", "psql", 0, &[(GivenUp, 6)]) };
        world = traced(vec![silent]);
        assert!(world.check(check).findings[0].causes.is("no-answer"));
        let open = row(State::Established, "10.0.0.1:40000", "10.0.0.9:443");
        world.add(info(open, &[("last_ack_recv_ms", 10), ("last_data_recv_ms", 10)]));
        let beside = world.check(check).findings.remove(0);
        assert_eq!((beside.severity, beside.causes.left[0].cause.id), (Severity::Warning, "part-passes"));
    }

    #[test]
    fn what_ends_at_once_was_told_and_not_given_up() {
        let alone = one(vec![connects("10.0.0.9:443", "psql", 0, &[(AtOnce, 4)])]);
        assert!(alone.summary.contains("failed at once") && !alone.summary.contains("given up"), "{}", alone.summary);
        assert!(alone.causes.left.iter().all(|h| h.cause.id != "no-answer"));
        let beside = one(vec![connects("10.0.0.9:443", "psql", 0, &[(Error(Errno::EHOSTUNREACH), 1), (AtOnce, 1)])]);
        assert!(beside.causes.is("unreachable") && beside.severity == Severity::High, "{beside:#?}");
    }

    #[test]
    fn a_part_that_gets_no_answer_has_several_causes_and_syns_that_stay_here_one() {
        let of = |succeeded, late| {
            let silent = connects("10.0.0.9:443", "java", succeeded, &[(GivenUp, 8)]);
            let mut world = traced(vec![Connects { succeeded_late: late, waited_ms: Some((9000, 9001)), ..silent }]);
            let finding = world.check(check).findings.remove(0);
            let (netns, peer) = (NETNS, to("10.0.0.9:0").addr);
            let repeated = Retransmits { netns, peer, handshake: 9, segments: 0, closing: 0, failed: 9 };
            world.now.traced.as_mut().unwrap().retransmits.push(repeated);
            assert!(world.check(check).findings[0].causes.is("not-leaving"));
            finding.causes.left[0].cause.id
        };
        assert_eq!((of(6, Some(0)), of(6, Some(2)), of(0, None)), ("backend-silent", "lossy-path", "no-answer"));
    }

    #[test]
    fn one_failure_is_nothing_and_a_few_are_an_explanation() {
        assert!(traced(vec![connects("10.0.0.9:443", "haproxy", 0, &[(Refused, 1)])]).check(check).findings.is_empty());
        assert_eq!(one(vec![connects("10.0.0.9:443", "haproxy", 0, &[(Refused, 4)])]).severity, Severity::Info);
        // A few of very many.
        assert_eq!(one(vec![connects("10.0.0.9:443", "haproxy", 900, &[(GivenUp, 9)])]).severity, Severity::Info);
        assert!(traced(vec![connects("10.0.0.9:443", "haproxy", 900, &[])]).check(check).findings.is_empty());
    }

    #[test]
    fn a_server_that_came_up_and_a_fallback_hurt_nobody() {
        let up = Connects {
            succeeded_since: 5,
            failed_at_ms: Some((5, 900)),
            ..connects("10.0.0.9:6379", "worker", 5, &[(Refused, 90)])
        };
        let finding = one(vec![up.clone()]);
        assert_eq!(finding.severity, Severity::Info);
        assert!(finding.summary.ends_with("it works since 1.1 s"), "{}", finding.summary);
        // Failures and successes in turn are no end.
        let flapping = Connects { failed_at_ms: Some((5, 1990)), ..up };
        assert_eq!(one(vec![flapping]).severity, Severity::Warning);
        let v4 = connects("127.0.0.1:8080", "curl", 40, &[]);
        let v6 = connects("[::1]:8080", "curl", 0, &[(Refused, 40)]);
        assert_eq!(one(vec![v4.clone(), v6.clone()]).severity, Severity::Info);
        // Another program does not help this one, and a fallback after seconds helps nobody.
        let other = connects("127.0.0.1:8080", "wget", 40, &[]);
        assert_eq!(one(vec![other, v6.clone()]).severity, Severity::Warning);
        assert_eq!(one(vec![v4, Connects { waited_ms: Some((900, 2000)), ..v6 }]).severity, Severity::Warning);
    }

    #[test]
    fn lost_events_lower_the_confidence() {
        let mut world = traced(vec![connects("10.0.0.9:443", "curl", 0, &[(Refused, 198)])]);
        let sure = world.check(check).findings[0].confidence;
        world.now.traced.as_mut().unwrap().lost = 3;
        assert!(world.check(check).findings[0].confidence < sure);
    }

    /// Attempts from these ports, with the cookies of their ports.
    fn waiting(world: &mut World, ports: std::ops::Range<u16>) {
        for port in ports {
            world.add(row(State::SynSent, &format!("10.0.0.1:{port}"), "10.0.0.9:443"));
        }
    }

    #[test]
    fn without_a_trace_new_attempts_in_both_looks_and_no_connection_are_an_outage() {
        let mut world = World::new();
        waiting(&mut world, 40_000..40_010);
        assert!(world.check(check).wants_second.is_some());
        world.later(2000).now.sockets.clear();
        waiting(&mut world, 41_000..41_010);
        let findings = world.check(check).findings;
        assert_eq!((findings.len(), findings[0].severity), (1, Severity::High));
        assert_eq!(findings[0].causes.left[0].cause.id, "no-answer");
        assert!(findings[0].confidence < 0.8);
        // One that works, or one that waits since the first look, is another story.
        world.add(row(State::Established, "10.0.0.1:5", "10.0.0.9:443"));
        assert!(world.check(check).findings.is_empty());
        world.now.sockets.pop();
        waiting(&mut world, 40_000..40_001);
        assert!(world.check(check).findings.is_empty());
    }

    #[test]
    fn connects_without_a_route_show_in_a_counter_alone() {
        let grown = |by: u64| {
            let mut world = World::new();
            world.counter(Counter::IpOutNoRoutes, 7);
            assert!(world.check(check).wants_second.is_some());
            world.counter(Counter::TcpActiveOpens, 141);
            assert!(world.check(check).wants_second.is_none(), "of long ago, or rare");
            world.later(2000).counter(Counter::IpOutNoRoutes, 7 + by);
            let untraced = world.check(check).findings;
            world.now.traced = Some(TracedInterval { duration_ms: 2000, ..TracedInterval::default() });
            assert_eq!(world.check(check).findings, untraced, "a trace of sockets sees none of them");
            untraced.first().map(|f| f.severity)
        };
        assert_eq!((grown(1), grown(2), grown(3)), (None, Some(Severity::Info), Some(Severity::Warning)));
    }

    #[test]
    fn without_a_trace_counters_tell_that_nearly_everything_fails() {
        let grown = |failed: u64, opened: u64| {
            let mut world = World::new();
            world.counter(Counter::TcpAttemptFails, 1000).counter(Counter::TcpActiveOpens, 1500);
            assert!(world.check(check).wants_second.is_some());
            world.later(2000);
            world.counter(Counter::TcpAttemptFails, 1000 + failed).counter(Counter::TcpActiveOpens, 1500 + opened);
            world.check(check).findings
        };
        assert_eq!(grown(198, 200).len(), 1);
        // Half of them: curl that falls back from one family to the other.
        assert!(grown(100, 200).is_empty() && grown(19, 19).is_empty());
        // Attempts that others made fail too.
        assert!(grown(200, 100).is_empty());
    }
}
