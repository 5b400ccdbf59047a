//! Resets of one service, on snapshots made by hand.

#[cfg(test)]
use super::*;
use crate::diagnose::testkit::{NETNS, World, info, listen, row};
use crate::model::State;
use crate::model::conntrack::{Conntrack, NatPorts, Tracked};
use crate::model::snapshot::Netns;
use crate::model::sysctl::Sysctl;
use crate::model::traced::{ConnectFailure, Connects, Counts, Program, Resets, Stray};

fn at(text: &str) -> Endpoint {
    let at: std::net::SocketAddr = text.parse().unwrap();
    Endpoint::new(at.ip(), at.port())
}

fn resets(service: &str, served_here: bool, sent: Option<ResetReason>, count: u64) -> Resets {
    let program = sent.map(|_| Program { pid: 7, comm: "app".into(), processes: 1 });
    let sent = sent.map(SentFor::Reason);
    Resets { sent, program, count, ..Resets::none(NETNS, at(service), served_here) }
}

fn world(resets: Vec<Resets>, succeeded: u64) -> World {
    let mut world = World::new();
    world.add(listen("10.0.0.1:80", 0, 128)).hold(7, "app", 3, 80 << 16).later(2000);
    let connects = Connects {
        program: Some(Program { pid: 812, comm: "curl".into(), processes: 1 }),
        succeeded,
        ..Connects::none(NETNS, at("10.0.0.9:443"))
    };
    let traced = TracedInterval { duration_ms: 2000, resets, connects: vec![connects], ..TracedInterval::default() };
    world.now.traced = Some(traced);
    world
}

fn one(resets: Vec<Resets>, succeeded: u64) -> Finding {
    let mut outcome = world(resets, succeeded).check(check);
    assert_eq!(outcome.findings.len(), 1, "{outcome:#?}");
    outcome.findings.remove(0)
}

#[test]
fn a_server_that_closes_with_unread_data_is_named_with_the_reason() {
    let finding = one(vec![resets("10.0.0.1:80", true, Some(ResetReason::AbortOnClose), 40)], 0);
    assert_eq!((finding.severity, finding.subject.listener), (Severity::Info, Some(at("10.0.0.1:80"))));
    assert_eq!(
        finding.summary,
        "app (7) reset 40 connections to 10.0.0.1:80 within 2.0 s: its process closes with unread data"
    );
    assert!(finding.causes.is("closed-unread") && finding.remedy[0].starts_with("In app (7): read to EOF"));
}

#[test]
fn what_a_process_that_ended_left_is_its_ends_fault_and_no_linger() {
    let sent = || {
        let reasons = [ResetReason::Disconnected, ResetReason::AbortOnClose, ResetReason::NoSocket];
        reasons.map(|reason| resets("10.0.0.1:80", true, Some(reason), 10)).to_vec()
    };
    let mut again = world(sent(), 0);
    let listener = again.now.sockets.iter_mut().find(|s| s.state == State::Listen).unwrap();
    listener.cookie = Some(9_999);
    let finding = again.check(check).findings.remove(0);
    assert!(finding.causes.is("restarted"), "{:?}", finding.causes);
    assert_eq!(
        finding.summary,
        "30 connections to 10.0.0.1:80 were reset within 2.0 s: the process that serves ended, and its kernel resets \
         what it left; another was started"
    );
    assert!(finding.remedy[0].starts_with("Look why the process that serves 10.0.0.1:80 ends"), "{:?}", finding.remedy);
    assert!(!one(sent(), 0).causes.is("restarted"), "the same listener");
    let clients = vec![resets("10.0.0.1:80", false, Some(ResetReason::Disconnected), 30)];
    let mut by_clients = world(clients, 0);
    by_clients.now.sockets.iter_mut().for_each(|s| s.cookie = Some(9_999));
    let told = by_clients.check(check).findings;
    assert!(told.iter().all(|f| !f.causes.is("restarted")), "{told:#?}");
}

/// Resets that came for connections of a program.
fn came_for(pid: u32, comm: &str, count: u64) -> Resets {
    let program = Some(Program { pid, comm: comm.into(), processes: 1 });
    Resets { program, open: count, ..resets("10.0.0.9:443", false, None, count) }
}

#[test]
fn whose_connections_were_reset_is_not_who_else_connects_there() {
    let finding = one(vec![came_for(7, "pool", 20)], 20);
    assert!(
        finding.summary.starts_with("20 connections of pool (7) to 10.0.0.9:443 were reset within"),
        "{finding:#?}"
    );
    assert_eq!(finding.subject.comm.as_deref(), Some("app"), "the process of that pid");
    let unknown = one(vec![resets("10.0.0.9:443", false, None, 20)], 20);
    assert!(unknown.summary.starts_with("20 connections of this host to 10.0.0.9:443 were reset"), "{unknown:#?}");
    assert_eq!((unknown.subject.comm, unknown.subject.destination), (None, Some(at("10.0.0.9:443"))));
    let both = one(vec![came_for(7, "pool", 20), came_for(9, "curl", 5)], 20);
    let of_each = "25 connections to 10.0.0.9:443, 20 of pool (7) and 5 of curl (9), were reset within";
    assert!(both.summary.starts_with(of_each), "{}", both.summary);
    let by =
        |pid, comm: &str| Resets { sent: Some(SentFor::Reason(ResetReason::Disconnected)), ..came_for(pid, comm, 6) };
    let sent = one(vec![by(7, "pool"), by(9, "nc")], 20);
    let of_each = "clients on this host reset 12 connections to 10.0.0.9:443, 6 of pool (7) and 6 of nc (9), within";
    assert!(sent.summary.starts_with(of_each), "{}", sent.summary);
}

#[test]
fn a_peer_that_resets_before_it_answers_hurts_the_caller() {
    let came = |unanswered| Resets { unanswered, ..came_for(812, "curl", 20) };
    let finding = one(vec![came(20)], 20);
    assert_eq!((finding.severity, finding.subject.comm.as_deref()), (Severity::Warning, Some("curl")));
    assert!(finding.causes.is("outside"), "{finding:#?}");
    assert!(
        finding.summary.starts_with("20 connections of curl (812) to 10.0.0.9:443 were reset"),
        "{}",
        finding.summary
    );
    let cut = |n| Resets { in_use: n, ..came(0) };
    assert_eq!((one(vec![cut(5)], 20).severity, one(vec![cut(4)], 20).severity), (Severity::Warning, Severity::Info));
    // After an answer, few, or a small part of all: an explanation at most.
    assert_eq!(one(vec![came(0)], 20).severity, Severity::Info);
    assert_eq!(one(vec![came(4)], 20).severity, Severity::Info);
    assert_eq!(one(vec![came(20)], 201).severity, Severity::Info);
    assert!(world(vec![resets("10.0.0.9:443", false, None, 4)], 4).check(check).findings.is_empty());
}

#[test]
fn what_one_end_sends_and_the_other_gets_is_one_story() {
    let sent = resets("10.0.0.1:80", true, Some(ResetReason::AbortOnClose), 10);
    let came = Resets { open: 10, unanswered: 10, ..resets("10.0.0.1:80", false, None, 10) };
    let mut world = world(vec![sent, came], 0);
    world.now.netns[0].addresses.push("10.0.0.1".parse().unwrap());
    let findings = world.check(check).findings;
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].severity, Severity::Warning);
    assert!(findings[0].causes.is("closed-unread"));
}

#[test]
fn the_same_loopback_port_of_another_namespace_is_another_service() {
    let at_loopback = "127.0.0.1:6379";
    let came = Resets { open: 10, fresh: 10, unanswered: 10, ..resets(at_loopback, false, None, 10) };
    let severity = |netns| {
        let mut world = world(vec![came.clone()], 0);
        world.now.netns.push(Netns { inode: NetnsId::new(2), ..Netns::default() });
        let counts = Counts { answered: 30, ..Counts::default() };
        let traced = world.now.traced.as_mut().unwrap();
        traced.ends.push(Ends::new(netns, at(at_loopback), false, counts));
        let connects = &mut traced.connects[0];
        (connects.netns, connects.to, connects.succeeded) = (netns, at(at_loopback), 40);
        world.check(check).findings.remove(0).severity
    };
    assert_eq!((severity(NETNS), severity(NetnsId::new(2))), (Severity::Warning, Severity::High));
}

#[test]
fn a_server_that_answers_a_part_of_its_clients_with_a_reset_alone_hurts_them() {
    let sent = Resets { unanswered: 10, ..resets("10.0.0.1:80", true, Some(ResetReason::AbortOnClose), 10) };
    let severity = |opened| {
        let mut world = world(vec![sent.clone()], 0);
        world.before.as_mut().unwrap().netns[0].counters.insert(Counter::TcpPassiveOpens, 0);
        world.counter(Counter::TcpPassiveOpens, opened);
        world.check(check).findings[0].severity
    };
    assert_eq!((severity(100), severity(101)), (Severity::Warning, Severity::Info));
}

#[test]
fn data_that_came_after_the_close_is_told_from_a_cut() {
    let cause = |reason| {
        let finding = one(vec![resets("10.0.0.1:80", true, Some(reason), 10)], 0);
        finding.causes.named().map(|cause| cause.id)
    };
    assert_eq!(cause(ResetReason::AbortOnData), Some("closed-too-early"));
    assert_eq!(cause(ResetReason::Disconnected), Some("cut-off"));
}

#[test]
fn a_kernel_without_reasons_leaves_the_causes_open_and_memory_is_a_warning() {
    let unknown = Resets { sent: Some(SentFor::Unknown), ..resets("10.0.0.1:80", true, None, 10) };
    let finding = one(vec![unknown], 0);
    assert!(finding.causes.named().is_none() && finding.causes.left.len() > 2, "{finding:#?}");
    let memory = one(vec![resets("10.0.0.1:80", true, Some(ResetReason::AbortOnMemory), 10)], 0);
    assert_eq!(memory.severity, Severity::Warning);
}

#[test]
fn a_keep_alive_limit_below_the_client_s_is_told_at_both_ends_and_no_nat_is_blamed() {
    let server = one(vec![resets("10.0.0.1:80", true, Some(ResetReason::TimeWait), 8)], 0);
    assert!(server.causes.is("closed-before"), "{server:#?}");
    assert!(server.remedy[0].starts_with("Set the limit for idle connections (keep-alive timeout) of 10.0.0.1:80"));
    let came = |open, after_fin| Resets { after_fin, ..came_for(812, "curl", open) };
    let client = one(vec![came(3, 3)], 20);
    assert!(client.causes.is("used-after-close"), "{client:#?}");
    assert!(client.remedy[0].starts_with("In curl (812): drop a pooled connection"), "{:?}", client.remedy);
    assert!(world(vec![came(3, 2)], 20).check(check).findings.is_empty());
    assert!(one(vec![came(20, 1)], 20).causes.is("outside"));
    assert_eq!(one(vec![came(20, 10)], 20).causes.left[0].cause.id, "used-after-close");
}

#[test]
fn fresh_connections_that_are_cut_point_to_the_service_and_hurt_all_its_clients() {
    let came = |count, unanswered| Resets {
        open: count,
        fresh: count,
        unanswered,
        ..resets("10.0.0.9:443", false, None, count)
    };
    let turned = one(vec![came(20, 20)], 20);
    assert_eq!((turned.severity, turned.causes.left[0].cause.id), (Severity::High, "turned-away"), "{turned:#?}");
    assert!(turned.causes.ruled_out.iter().any(|(cause, _)| cause.id == "used-after-close"));
    assert!(turned.remedy[0].starts_with("Look into the log of 10.0.0.9:443"), "{:?}", turned.remedy);
    // They got a line that says why; or most others are served.
    assert_eq!(one(vec![came(20, 0)], 20).severity, Severity::Warning);
    assert_eq!(one(vec![came(20, 20)], 100).severity, Severity::Warning);
    assert_eq!(one(vec![came(20, 20)], 201).severity, Severity::Info);
}

#[test]
fn a_proxy_that_gives_up_waiting_is_not_to_blame() {
    let sent = |waited| Resets { waited, ..resets("10.0.0.9:443", false, Some(ResetReason::Disconnected), 14) };
    let finding = one(vec![sent(14)], 14);
    assert_eq!(finding.severity, Severity::Warning);
    assert_eq!(
        finding.summary,
        "app (7) reset its 14 connections to 10.0.0.9:443 within 2.0 s: it had asked, got no answer, and gave up waiting"
    );
    assert!(finding.remedy.iter().all(|step| !step.contains("SO_LINGER")), "{:?}", finding.remedy);
    let checks = one(vec![sent(0)], 14);
    assert!(checks.causes.is("cut-off") && checks.severity == Severity::Info, "{checks:#?}");
    let mut hedged = world(vec![sent(14)], 28);
    let counts = Counts { answered: 14, ..Counts::default() };
    let ends = Ends::new(NETNS, at("10.0.0.9:443"), false, counts);
    hedged.now.traced.as_mut().unwrap().ends.push(ends);
    assert_eq!(hedged.check(check).findings[0].severity, Severity::Info, "others are answered");
}

#[test]
fn a_client_that_closed_before_the_answer_is_no_idle_limit_and_is_named_only_if_it_is_seen() {
    for reason in [ResetReason::TimeWait, ResetReason::AbortOnData] {
        let mut late = resets("10.0.0.9:443", false, Some(reason), 6);
        late.program = None;
        let finding = one(vec![late], 20);
        assert!(finding.causes.is("late-answer"), "{finding:#?}");
        assert!(finding.summary.starts_with("a client on this host reset its 6 connections"), "{}", finding.summary);
        assert!(finding.remedy[0].starts_with("Compare how long 10.0.0.9:443 takes"), "{:?}", finding.remedy);
    }
    let left = Resets { open: 13, late: 13, ..resets("10.0.0.1:80", true, None, 13) };
    assert!(one(vec![left], 0).causes.is("late-answer"));
    // The SYN-ACKs of attempts that were given up, and those of nobody.
    let mut given_up = world(vec![resets("10.0.0.9:443", false, Some(ResetReason::NoSocket), 6)], 0);
    assert!(given_up.check(check).findings[0].causes.is("not-known"));
    given_up.now.traced.as_mut().unwrap().connects[0].failed = vec![(ConnectFailure::GivenUp, 3)];
    assert!(given_up.check(check).findings[0].causes.is("late-answer"));
}

#[test]
fn connections_that_rested_before_the_reset_point_to_an_idle_limit() {
    let came = Resets { open: 6, in_use: 6, ..resets("10.0.0.9:443", false, None, 6) };
    let first = |rested_ms: u64, received: u64| {
        let mut world = world(vec![came.clone()], 20);
        for port in 0..3 {
            let stamps = [("last_data_sent_ms", 9000), ("last_data_recv_ms", rested_ms), ("bytes_received", received)];
            let socket = info(row(State::Established, &format!("10.0.0.1:{}", 40_000 + port), "10.0.0.9:443"), &stamps);
            world.before.as_mut().unwrap().sockets.push(socket);
        }
        world.check(check).findings[0].causes.left[0].cause.id
    };
    assert_eq!(first(1000, 9), "idle-cut");
    assert_eq!((first(999, 9), first(1000, 0)), ("outside", "outside"));
}

#[test]
fn a_port_without_a_listener_was_neither_restarted_nor_forgotten() {
    let of = |at| {
        let mut world = world(vec![resets(at, true, Some(ResetReason::NoSocket), 9)], 0);
        world.sysctl(Sysctl::Ipv4IpLocalPortRange, &[32_768, 60_999]);
        world.check(check).findings.remove(0)
    };
    let refused = of("10.0.0.1:81");
    assert!(refused.causes.is("no-listener"), "{refused:#?}");
    assert!(refused.remedy[0].starts_with("Start what should serve 10.0.0.1:81"), "{:?}", refused.remedy);
    // Its program listens on another address, or was never told to listen.
    for (other, state, step) in [
        ("127.0.0.1:81", State::Listen, "If the program should serve 10.0.0.1:81: let it listen"),
        ("10.0.0.1:81", State::BoundInactive, "Let the program call listen()"),
    ] {
        let mut world = world(vec![resets("10.0.0.1:81", true, Some(ResetReason::NoSocket), 9)], 0);
        world.sysctl(Sysctl::Ipv4IpLocalPortRange, &[32_768, 60_999]);
        world.add(row(state, other, "0.0.0.0:0"));
        let finding = world.check(check).findings.remove(0);
        assert!(finding.remedy[0].starts_with(step), "{finding:#?}");
        assert!(finding.summary.contains(other), "{}", finding.summary);
    }
    assert!(of("10.0.0.1:80").causes.is("not-known"), "it was restarted");
    assert!(of("10.0.0.1:40000").causes.is("not-known"), "a port of clients");
}

/// Eight connections of curl to 10.0.0.9:443 that were reset, and answers of 10.1.0.5:8443 to the ports of four of them.
fn answered_from_elsewhere(ports: u16) -> World {
    let mut world = world(vec![Resets { in_use: 8, ..came_for(812, "curl", 8) }], 8);
    let traced = world.now.traced.as_mut().unwrap();
    for port in 0..ports {
        traced.strays.push(Stray::new(NETNS, at(&format!("10.0.0.1:{}", 40_000 + port)), at("10.1.0.5:8443"), 2));
        let open = row(State::Established, &format!("10.0.0.1:{}", 40_000 + port), "10.0.0.9:443");
        world.before.as_mut().unwrap().sockets.push(open.clone());
        world.now.sockets.push(open);
    }
    let sent = resets("10.1.0.5:8443", false, Some(ResetReason::NoSocket), u64::from(ports) * 2);
    world.now.traced.as_mut().unwrap().resets.push(Resets { program: None, ..sent });
    world
}

/// Another namespace that tracks connections, with so many invalid packets before and now.
fn tracks(world: &mut World, invalid: (u64, u64)) -> Option<NetnsId> {
    let inode = NetnsId::new(2);
    let netns = |n| Netns {
        inode,
        name: Some("router".into()),
        conntrack: Some(Conntrack { entries: Some(9), invalid: Some(n), ..Conntrack::default() }),
        ..Netns::default()
    };
    world.before.as_mut().unwrap().netns.push(netns(invalid.0));
    world.now.netns.push(netns(invalid.1));
    inode
}

#[test]
fn answers_that_come_from_where_nobody_called_were_not_translated() {
    let findings = answered_from_elsewhere(4).check(check).findings;
    let [finding] = &findings[..] else { panic!("{findings:#?}") };
    assert!(finding.causes.is("untranslated"), "{finding:#?}");
    assert!(
        finding.summary.starts_with("8 connections of curl (812) to 10.0.0.9:443 were reset"),
        "{}",
        finding.summary
    );
    assert!(finding.summary.ends_with("(they come from 10.1.0.5:8443)"), "{}", finding.summary);
    assert_eq!(
        (finding.severity, &finding.remedy[..]),
        (Severity::Warning, &[INVALID.to_owned(), BEYOND.to_owned()][..])
    );
    // Two ports may be chance; and so are late segments of somebody who was called.
    let outside = |world: &World| world.check(check).findings.iter().any(|f| f.causes.is("outside"));
    assert!(outside(&answered_from_elsewhere(2)));
    let mut called = answered_from_elsewhere(4);
    called.before.as_mut().unwrap().sockets.push(row(State::TimeWait, "10.0.0.1:50000", "10.1.0.5:8443"));
    assert!(outside(&called));
    let mut few = answered_from_elsewhere(3);
    few.now.traced.as_mut().unwrap().resets[0].count = 20;
    assert!(outside(&few), "six of twenty");
}

#[test]
fn the_namespace_that_translates_is_named_when_its_tracking_finds_packets_invalid() {
    let said = |invalid, sent_to: &str| {
        let mut world = answered_from_elsewhere(4);
        let router = tracks(&mut world, invalid);
        let asked = world.check(check).asked.connections;
        let asked: Vec<_> = asked.into_iter().filter(|(netns, _)| *netns == router).collect();
        assert_eq!(asked.len(), 4, "{asked:?}");
        for connection in asked {
            let entry = Tracked { sent_to: at(sent_to), sent_from: connection.1.local, is_answered: true };
            world.now.tracking.entries.insert(connection, Some(entry));
        }
        world.check(check).findings.remove(0).summary
    };
    let named = said((5, 21), "10.1.0.5:8443");
    assert!(named.ends_with("(network namespace router translates them, and found 16 packets invalid)"), "{named}");
    for other in [said((21, 21), "10.1.0.5:8443"), said((5, 21), "10.0.0.9:443")] {
        assert!(other.ends_with("(they come from 10.1.0.5:8443)"), "{other}");
    }
}

#[test]
fn answers_that_end_at_the_gateway_were_not_translated_back() {
    let of = |invalid, taken: (u16, u16)| {
        let came = Resets { in_use: 8, ..resets("10.0.0.1:80", true, None, 8) };
        let mut world = world(vec![came], 0);
        world.now.netns[0].addresses.push("10.0.0.1".parse().unwrap());
        let gateway = tracks(&mut world, invalid);
        let traced = world.now.traced.as_mut().unwrap();
        for port in 0..4 {
            traced.strays.push(Stray::new(gateway, at(&format!("10.0.0.254:{}", 2000 + port)), at("10.0.0.1:80"), 2));
        }
        let ports = NatPorts {
            source: "10.0.0.254".parse().unwrap(),
            to: at("10.0.0.1:80"),
            taken: 4,
            chosen: 4,
            lowest: taken.0,
            highest: taken.1,
        };
        let first = world.check(check);
        assert_eq!(first.asked.translators.is_empty(), invalid.0 == invalid.1);
        world.now.tracking.ports.insert(gateway, vec![ports]);
        world.check(check).findings.remove(0)
    };
    let finding = of((5, 21), (2000, 2040));
    assert!(
        finding.causes.is("untranslated") && finding.summary.contains("namespace router translates"),
        "{finding:#?}"
    );
    assert!(!of((5, 21), (3000, 3040)).causes.is("untranslated"), "ports of nobody");
    assert!(!of((5, 5), (2000, 2040)).causes.is("untranslated"));
}
