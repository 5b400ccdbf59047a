//! Traced ends of connects, counters, and attempts in two looks, as findings.

#[cfg(test)]
use super::*;
use crate::diagnose::testkit::{NETNS, World, info, listen, row, timer};
use crate::model::TimerKind;
use crate::model::event::ResetReason;
use crate::model::traced::{ConnectFailure, Program, Resets, Retransmits, SentFor, Stray, Waited};

fn to(text: &str) -> Endpoint {
    let at: std::net::SocketAddr = text.parse().unwrap();
    Endpoint::new(at.ip(), at.port())
}

fn connects(destination: &str, comm: &str, succeeded: u64, failed: &[(ConnectFailure, u64)]) -> Connects {
    Connects {
        program: Some(Program { pid: 812, comm: comm.into(), processes: 1 }),
        succeeded,
        failed: failed.to_vec(),
        waited_ms: Some((0, 1)),
        failed_at_ms: Some((5, 1990)),
        ..Connects::none(NETNS, to(destination))
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
    let outage = Connects { waited_ms: Some((1000, 1004)), ..connects("10.0.0.9:443", "java", 0, &[(GivenUp, 20)]) };
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
    let left = |connects| left(&one(vec![connects]));
    assert_eq!(left(group(9)), ["refused-by-some", "refused", "turned-away"]);
    let partly = one(vec![group(90)]);
    assert_eq!(left(group(90)), ["refused-by-some", "turned-away"]);
    assert!(partly.remedy[0].contains("hosts behind 10.0.0.9"));
    // It came up; or it was away, or another host had the address, for a moment.
    let up = || Connects {
        failed_at_ms: Some((5, 500)),
        succeeded_since: 90,
        succeeded_at_ms: Some((501, 1990)),
        ..group(90)
    };
    assert_eq!(left(up()), ["came-up"]);
    assert_eq!(left(Connects { succeeded_at_ms: Some((1, 1990)), ..up() }), ["came-up", "refused-by-some"]);
    // Too early to call it over, and yet no failure came after a success.
    let just_up = || Connects { failed_at_ms: Some((5, 1900)), succeeded_since: 9, ..group(9) };
    let works = Connects { succeeded_at_ms: Some((1910, 1990)), ..just_up() };
    assert_eq!(left(works), ["came-up", "refused-by-some"]);
    assert_eq!(left(Connects { succeeded_at_ms: Some((1000, 1990)), ..just_up() })[0], "refused-by-some");
}

fn left(finding: &Finding) -> Vec<&'static str> {
    finding.causes.left.iter().map(|h| h.cause.id).collect()
}

/// An open connection there whose peer was just heard.
fn heard(to: &str) -> Socket {
    info(row(State::Established, "10.0.0.1:40000", to), &[("last_ack_recv_ms", 10), ("last_data_recv_ms", 10)])
}

#[test]
fn a_service_that_answers_open_connections_is_not_called_absent() {
    let mut world = traced(vec![connects("10.0.0.9:6379", "python3", 0, &[(Refused, 42)])]);
    world.add(heard("10.0.0.9:6380"));
    assert_eq!(left(&world.check(check).findings[0]), ["refused"], "another port");
    world.add(heard("10.0.0.9:6379"));
    let finding = world.check(check).findings.remove(0);
    assert_eq!(left(&finding), ["turned-away", "refused", "refused-by-some"]);
    assert!(finding.causes.left[0].confidence <= 0.5 && finding.remedy[0].contains("connlimit"), "{finding:#?}");
    // A listener of this host, which is there in both looks.
    let mut here = traced(vec![connects("127.0.0.1:6379", "python3", 0, &[(Refused, 42)])]);
    here.add(listen("127.0.0.1:6379", 0, 5));
    assert_eq!(left(&here.check(check).findings[0]), ["refused"], "it came meanwhile");
    here.later(2000);
    let finding = here.check(check).findings.remove(0);
    assert_eq!(left(&finding), ["turned-away", "refused-by-some"]);
    assert!(finding.causes.ruled_out.iter().any(|(c, why)| c.id == "refused" && why.contains("on this host")));
}

#[test]
fn one_failure_at_each_of_several_destinations_is_told_where_nothing_succeeds() {
    let failed = |to: &str, how| connects(to, "curl", 0, &[(how, 1)]);
    let told = |of: Vec<Connects>| traced(of).check(check).findings.pop().map(|f| (f.severity, f.summary));
    let two = |how| vec![failed("192.0.2.10:80", how), failed("192.0.2.11:443", how)];
    assert_eq!(
        told(two(Error(Errno::EHOSTUNREACH))),
        Some((Severity::Warning, "2 of 2 connects of curl (812) failed, at 2 destinations, within 2.0 s".into()))
    );
    assert_eq!(told(two(Refused)), None, "the network works");
    assert_eq!(told(two(Error(Errno::EHOSTUNREACH))[..1].to_vec()), None);
    let works = connects("10.0.0.9:443", "app", 1, &[]);
    assert_eq!(told([two(Error(Errno::EHOSTUNREACH)), vec![works]].concat()), None, "others succeed");
}

#[test]
fn what_this_host_resets_itself_is_no_fault_of_the_peer() {
    let sent = |at: &str, count| {
        let reason = Some(SentFor::Reason(ResetReason::NoSocket));
        Resets { sent: reason, count, ..Resets::none(NETNS, to(at), true) }
    };
    let with_from = |resets: Vec<Resets>, more: Option<Connects>, from: &str| {
        let refused = connects("10.0.0.9:80", "curl", 0, &[(Refused, 19)]);
        let mut world = traced(std::iter::once(refused).chain(more).collect());
        let sent = world.now.traced.as_mut().unwrap();
        sent.strays = resets.iter().map(|r| Stray::new(NETNS, r.service, to(from), r.count)).collect();
        sent.resets = resets;
        world.now.netns[0].addresses.push("10.0.0.1".parse().unwrap());
        world.check(check).findings.remove(0)
    };
    let with = |resets, more| with_from(resets, more, "10.0.0.1:40000");
    let finding = with(vec![sent("127.0.0.1:15001", 38)], None);
    assert!(finding.causes.is("answered-here"), "{:?}", finding.causes);
    assert!(
        finding
            .summary
            .ends_with("were refused; this host itself reset them, at 127.0.0.1:15001, where nothing listens"),
        "{}",
        finding.summary
    );
    assert!(finding.remedy[0].starts_with("Find what on this host sends 10.0.0.9:80 to 127.0.0.1:15001"));
    assert!(with(vec![sent("10.0.0.9:80", 19)], None).causes.is("answered-here"), "a local route");
    let caller = connects("127.0.0.1:15001", "probe", 0, &[(Refused, 19)]);
    for (case, resets, more) in [
        ("somebody calls it there", vec![sent("127.0.0.1:15001", 19)], Some(caller)),
        ("two candidates", vec![sent("127.0.0.1:15001", 19), sent("127.0.0.1:15006", 19)], None),
        ("few", vec![sent("127.0.0.1:15001", 3)], None),
    ] {
        assert!(with(resets, more).causes.is("refused"), "{case}");
    }
    let others = with_from(vec![sent("10.0.0.1:8443", 19)], None, "10.9.9.9:40000");
    assert!(others.causes.is("refused"), "from outside, as many by chance");
}

#[test]
fn a_service_that_cut_its_connections_and_refused_for_a_moment_may_be_two_hosts() {
    let flip = Connects {
        failed_at_ms: Some((1, 2)),
        succeeded_since: 6,
        succeeded_at_ms: Some((200, 201)),
        ..connects("10.0.0.9:6379", "python3", 6, &[(Refused, 6)])
    };
    let mut world = traced(vec![flip]);
    assert_eq!(left(&world.check(check).findings[0]), ["came-up"]);
    let cut = Resets { count: 6, open: 6, ..Resets::none(NETNS, to("10.0.0.9:6379"), false) };
    world.now.traced.as_mut().unwrap().resets.push(cut);
    let finding = world.check(check).findings.remove(0);
    assert_eq!(left(&finding), ["came-up", "refused-by-some"]);
    assert!(finding.summary.ends_with("were refused, the last one 1.9 s ago; it works since"), "{}", finding.summary);
    assert!(
        finding.causes.ruled_out.iter().all(|(_, why)| !why.contains("0 of 6 failures ended so") || why.len() < 30)
    );
}

#[test]
fn what_one_waited_is_not_said_of_those_that_began_before_the_trace() {
    let kinds = [(GivenUp, 13), (AtOnce, 1)];
    let waits = vec![Waited::new(GivenUp, None, Some(1900)), Waited::new(AtOnce, Some((0, 1)), None)];
    let group = Connects { waits, ..connects("203.0.113.9:80", "curl", 0, &kinds) };
    let mut world = traced(vec![group]);
    let finding = world.check(check).findings.remove(0);
    assert!(
        finding.summary.ends_with("were given up by the program (the longest after 1.9 s or more) without an answer"),
        "{}",
        finding.summary
    );
    assert!(finding.evidence.contains(&("waited_min_ms", Evidence::Unknown)));
    assert!(finding.evidence.contains(&("waited_max_ms", Evidence::Millis(1900))));
    assert_eq!(finding.severity, Severity::High);
    // Those that ended soon after the trace began may have waited for long.
    let soon = |ms| Connects {
        waits: vec![Waited::new(GivenUp, ms, Some(500))],
        ..connects("203.0.113.9:80", "curl", 0, &[(GivenUp, 4)])
    };
    let unknown = one(vec![soon(None)]);
    assert!(unknown.severity == Severity::High && unknown.causes.is("no-answer"), "{unknown:#?}");
    assert_eq!(one(vec![soon(Some((20, 50)))]).severity, Severity::Info, "it gives up on purpose");
    // Each SYN, first or repeated, was answered by a router that knows no way.
    for (counter, n) in [(Counter::TcpActiveOpens, 14), (Counter::TcpExtTcpSynRetrans, 26)] {
        world.counter(counter, n);
        world.before.as_mut().unwrap().netns[0].counters.insert(counter, 0);
    }
    icmp(&mut world, 38, 0);
    let told = world.check(check).findings.remove(0);
    assert_eq!(left(&told)[..2], ["unreachable", "rejected"]);
    assert!(told.summary.contains("as many ICMP messages came as SYNs left"), "{}", told.summary);
    // Fewer may be of other packets.
    icmp(&mut world, 2, 0);
    assert_eq!(left(&world.check(check).findings[0])[..2], ["unreachable", "no-answer"], "one a second, as routers do");
    icmp(&mut world, 1, 0);
    assert_eq!(left(&world.check(check).findings[0])[0], "no-answer");
    // One of them learned it.
    world.now.traced.as_mut().unwrap().connects[0].failed[1] = (Error(Errno::ENETUNREACH), 1);
    assert_eq!(left(&world.check(check).findings[0])[0], "unreachable");
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
    let group = Connects { waited_ms: Some((0, waited_ms)), ..connects("10.0.0.9:443", "psql", 0, &[(GivenUp, 16)]) };
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
    assert!(rejected.summary.contains("as many ICMP messages came") && !rejected.summary.contains("without an answer"));
    // Too few, of this host's own making, or after a time that a program waits.
    for other in [given_up(0, 12, 0), given_up(0, 17, 9), given_up(300, 17, 0)] {
        assert!(other.causes.left.iter().all(|h| h.cause.id != "rejected"), "{:?}", other.causes);
        assert_eq!(other.causes.left[0].cause.id, "no-answer");
        assert!(other.causes.left.iter().any(|h| h.cause.id == "impatient"));
    }
    assert!(given_up(1000, 0, 0).causes.is("no-answer"));
}

#[test]
fn who_is_told_by_his_own_host_meets_a_rule_of_it() {
    let leads = |kind, received, sent| {
        let group = Connects { waited_ms: Some((0, 0)), ..connects("10.0.0.9:443", "psql", 0, &[(kind, 16)]) };
        let mut world = traced(vec![group]);
        icmp(&mut world, received, sent);
        let finding = world.check(check).findings.remove(0);
        (finding.causes.left[0].cause.id, finding.causes.named().is_some())
    };
    for kind in [ConnectFailure::AtOnce, GivenUp, Error(Errno::ECONNREFUSED)] {
        assert_eq!(leads(kind, 17, 17), ("rejected-here", false), "{kind:?}");
        // From elsewhere, for fewer of them, or beside others that it sends to its neighbours.
        for (received, sent) in [(34, 17), (12, 12), (17, 34)] {
            assert_ne!(leads(kind, received, sent).0, "rejected-here", "{kind:?}: {received}, {sent}");
        }
    }
}

#[test]
fn packets_that_run_out_of_hops_are_told_from_a_host_that_cannot_be_reached() {
    let cause = |expired: u64, received| {
        let mut world = traced(vec![connects("10.0.0.9:443", "psql", 0, &[(Error(Errno::EHOSTUNREACH), 16)])]);
        icmp(&mut world, received, 0);
        world.counter(Counter::IcmpInTimeExcds, 3 + expired);
        world.before.as_mut().expect("two samples").netns[0].counters.insert(Counter::IcmpInTimeExcds, 3);
        let finding = world.check(check).findings.remove(0);
        finding.causes.named().map(|c| c.id)
    };
    assert_eq!(cause(16, 0), Some("hops-run-out"));
    assert_eq!(cause(12, 0), Some("unreachable"), "fewer: of a traceroute");
    assert_eq!(cause(16, 1), Some("unreachable"));
    assert_eq!(cause(0, 0), Some("unreachable"));
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
    assert!(finding.summary.ends_with("the last one 1.1 s ago; it works since"), "{}", finding.summary);
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
    assert_eq!(world.check(check).findings[0].severity, Severity::High, "the others are gone");
}

#[test]
fn without_a_trace_a_few_that_provably_wait_are_an_outage_too() {
    let looks = |old: std::ops::Range<u16>, new: std::ops::Range<u16>, repeats: u8| {
        let mut world = World::new();
        world.counter(Counter::TcpAttemptFails, 5);
        waiting(&mut world, old);
        assert!(world.check(check).wants_second.is_some());
        world.later(2000).now.sockets.clear();
        waiting(&mut world, new);
        for socket in &mut world.now.sockets {
            *socket = timer(socket.clone(), TimerKind::Retransmit, 500, repeats);
        }
        world
    };
    let severity = |world: &World| world.check(check).findings.first().map(|f| f.severity);
    assert_eq!(severity(&looks(40_000..40_002, 41_000..41_002, 0)), None, "answers may be on their way");
    assert_eq!(severity(&looks(40_000..40_002, 41_000..41_002, 1)), Some(Severity::Warning));
    assert_eq!(severity(&looks(40_000..40_004, 40_002..40_005, 1)), Some(Severity::Warning), "two of them still wait");
    assert_eq!(severity(&looks(40_000..40_002, 40_001..40_004, 1)), None, "one is gone");
    assert_eq!(severity(&looks(40_000..40_004, 40_002..40_005, 2)), None, "told as a pileup");
    let summary = looks(40_000..40_004, 40_002..40_005, 1).check(check).findings.remove(0).summary;
    assert!(
        summary.starts_with("at least 2 connects to 10.0.0.9:443 ended unanswered within 2.0 s: 3 more wait"),
        "{summary}"
    );
    // A router sends a message a second.
    let mut router = looks(40_000..40_004, 40_002..40_005, 1);
    icmp(&mut router, 0, 0);
    router.counter(Counter::TcpExtTcpRetransFail, 0);
    router.before.as_mut().unwrap().netns[0].counters.insert(Counter::TcpExtTcpRetransFail, 0);
    assert_eq!(left(&router.check(check).findings[0]), ["no-answer"]);
    icmp(&mut router, 2, 0);
    assert_eq!(left(&router.check(check).findings[0]), ["unreachable", "no-answer", "rejected"]);
    // They were told.
    let mut told = looks(40_000..40_004, 40_002..40_005, 1);
    told.counter(Counter::TcpAttemptFails, 7);
    assert_eq!(severity(&told), None);
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
    assert_eq!((grown(1), grown(2), grown(300)), (None, Some(Severity::Info), Some(Severity::Info)));
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

#[test]
fn a_program_that_fails_at_very_many_destinations_is_one_finding_as_bad_as_the_worst() {
    let ports = |many: u16, failures| {
        let of = |port| connects(&format!("10.0.0.9:{port}"), "nmap", 0, &[(Refused, failures)]);
        traced((1..=many).map(of).collect()).check(check).findings
    };
    let scan = ports(16, 2);
    assert_eq!(scan.len(), 1, "{scan:#?}");
    assert_eq!(scan[0].severity, Severity::Info);
    assert_eq!(scan[0].summary, "32 of 32 connects of nmap (812) failed, at 16 destinations, within 2.0 s");
    assert_eq!((scan[0].subject.comm.as_deref(), scan[0].subject.destination), (Some("nmap"), None));
    assert_eq!(ports(15, 2).len(), 15);
    assert!(ports(16, 1).is_empty(), "once each");
    assert_eq!(ports(16, 198)[0].severity, Severity::Warning);
}
