//! Connections that end without an answer, on snapshots made by hand.

#[cfg(test)]
use super::*;
use crate::diagnose::testkit::{NETNS, World, info, listen, row};
use crate::model::event::ResetReason;
use crate::model::snapshot::Netns;
use crate::model::traced::{Accepted, ConnectFailure, Ends, Resets, SentFor, TracedInterval};

fn at(port: u16) -> Endpoint {
    Endpoint::new("10.0.0.1".parse().unwrap(), port)
}

/// A server with so many idle connections, two samples, and how others ended meanwhile.
fn server(port: u16, cmdline: &str, idle: u16, counts: Counts) -> World {
    let mut world = World::new();
    let listener = listen(&format!("10.0.0.1:{port}"), 0, 128);
    world.hold(7, "app", 3, listener.inode).add(listener);
    for n in 0..idle {
        let socket = row(State::Established, &format!("10.0.0.1:{port}"), &format!("10.0.0.9:{}", 40_000 + n));
        let socket = info(socket, &[("bytes_sent", 90), ("bytes_received", 90)]);
        world.hold(7, "app", 4 + u32::from(n), socket.inode).add(socket);
    }
    let facts = world.now.processes.get_mut(&7).unwrap();
    facts.cmdline = cmdline.split(' ').map(str::to_owned).collect();
    world.later(2000);
    ended(&mut world, at(port), true, counts);
    world
}

fn ended(world: &mut World, service: Endpoint, served_here: bool, counts: Counts) {
    let ends = vec![Ends::new(NETNS, service, served_here, counts)];
    world.now.traced = Some(TracedInterval { duration_ms: 2000, ends, ..TracedInterval::default() });
}

fn first(finding: &Finding) -> &str {
    finding.causes.left[0].cause.id
}

const CRASHES: Counts =
    Counts { answered: 0, given_up: 0, unanswered: 6, brief: 0, message: Some(0), at_once: Some(0) };
const TURNED_AWAY: Counts =
    Counts { answered: 6, given_up: 0, unanswered: 0, brief: 6, message: Some(6), at_once: Some(0) };

#[test]
fn a_worker_that_dies_at_each_request_is_told_by_its_new_processes() {
    let mut world = server(8000, "gunicorn", 0, CRASHES);
    let same = world.check(check).findings.remove(0);
    assert_eq!(same.severity, Severity::Info, "it may only take data in");
    assert!(same.causes.ruled_out.iter().any(|(cause, _)| cause.id == "worker-dies"), "{same:#?}");
    assert_eq!(first(&same), "no-answer-due");
    let listener = world.now.sockets[0].inode;
    world.hold(9, "app", 3, listener);
    let started = world.check(check).findings.remove(0);
    assert_eq!(started.severity, Severity::Info, "one for a connection, as inetd starts it");
    world.now.processes.get_mut(&9).unwrap().running_ms = Some(100);
    let finding = world.check(check).findings.remove(0);
    assert_eq!((first(&finding), finding.subject.listener), ("worker-dies", Some(at(8000))));
    assert_eq!(finding.severity, Severity::High);
    assert!(finding.summary.contains("closed 6 of 6 connections within 2.0 s without a byte"), "{}", finding.summary);
    assert!(finding.summary.ends_with("; 1 process behind it began meanwhile"), "{}", finding.summary);
    assert!(finding.remedy[0].starts_with("Find what ends the workers"));
}

#[test]
fn only_the_connections_of_the_program_that_got_nothing_are_told_to_be_its() {
    let program = |pid, comm: &str| Program { pid, comm: comm.into(), processes: 1 };
    let (none, served) = (Counts { unanswered: 20, ..Counts::default() }, Counts { answered: 23, ..Counts::default() });
    let mut world = World::new();
    world.later(2000);
    ended(&mut world, at(80), false, Counts { answered: 23, unanswered: 20, ..Counts::default() });
    let ends = &mut world.now.traced.as_mut().unwrap().ends[0];
    ends.callers = vec![(program(7, "batchd"), none), (program(9, "curl"), served)];
    let finding = world.check(check).findings.remove(0);
    assert_eq!(
        finding.summary,
        "10.0.0.1:80 closed 20 of 20 connections of batchd (7) within 2.0 s without a byte of an answer; 23 of others got one"
    );
    assert_eq!(finding.severity, Severity::Warning);
    world.now.traced.as_mut().unwrap().ends[0].callers[1].1.unanswered = 1;
    let both = world.check(check).findings.remove(0);
    assert!(both.summary.starts_with("10.0.0.1:80 closed 20 of 43 connections within"), "{}", both.summary);
    // One of them began before the trace.
    world.now.traced.as_mut().unwrap().ends[0].callers =
        vec![(program(7, "batchd"), Counts { unanswered: 19, ..none })];
    let most = world.check(check).findings.remove(0);
    let told = "10.0.0.1:80 closed 20 of 43 connections, 19 of them of batchd (7), within";
    assert!(most.summary.starts_with(told), "{}", most.summary);
    assert_eq!(most.subject.comm.as_deref(), Some("batchd"));
}

#[test]
fn an_answer_to_anybody_shows_that_answers_are_due_and_without_one_nothing_is_wrong() {
    let found = |got: u64| {
        let mut world = World::new();
        let socket = row(State::Established, "10.0.0.9:40000", "10.0.0.1:8000");
        world.add(info(socket, &[("bytes_sent", 90), ("bytes_received", got)])).later(2000);
        ended(&mut world, at(8000), false, CRASHES);
        world.check(check).findings.remove(0)
    };
    let (silent, answers) = (found(0), found(1));
    assert_eq!((silent.severity, first(&silent)), (Severity::Info, "no-answer-due"));
    assert!(silent.remedy[0].starts_with("If 10.0.0.1:8000 only takes in"), "{:?}", silent.remedy);
    assert_eq!(answers.severity, Severity::High);
    assert!(answers.causes.ruled_out.iter().any(|(cause, _)| cause.id == "no-answer-due"));
}

#[test]
fn the_same_loopback_port_of_another_namespace_is_another_service() {
    let found = |netns| {
        let mut world = World::new();
        world.now.netns.push(Netns { inode: NetnsId::new(2), ..Netns::default() });
        let client = row(State::Established, "127.0.0.1:40000", "127.0.0.1:8000");
        let client = info(client, &[("bytes_sent", 90), ("bytes_received", 90)]);
        world.add(Socket { netns, ..client }).later(2000);
        ended(&mut world, Endpoint::new([127, 0, 0, 1].into(), 8000), false, CRASHES);
        world.check(check).findings.remove(0)
    };
    let (same, other) = (found(NETNS), found(NetnsId::new(2)));
    let open = |f: &Finding| f.evidence.iter().find(|(name, _)| *name == "open").map(|(_, value)| value.clone());
    assert_eq!((same.severity, open(&same)), (Severity::High, Some(Evidence::Count(1))));
    assert_eq!((other.severity, open(&other)), (Severity::Info, Some(Evidence::Count(0))), "nobody else was answered");
}

#[test]
fn a_few_or_a_small_part_without_an_answer_are_silent() {
    let severity = |counts| server(8000, "app", 0, counts).check(check).findings.first().map(|f| f.severity);
    assert_eq!(severity(Counts { unanswered: 2, ..CRASHES }), None);
    assert_eq!(severity(Counts { answered: 54, ..CRASHES }), Some(Severity::Warning));
    assert_eq!(severity(Counts { answered: 55, ..CRASHES }), None, "under a tenth");
    assert_eq!(severity(Counts { answered: 6, ..CRASHES }), Some(Severity::High));
}

#[test]
fn a_server_at_the_limit_of_its_command_line_turns_its_clients_away() {
    let cmdline = "postgres -c max_connections=30";
    let finding = server(5432, cmdline, 29, TURNED_AWAY).check(check).findings.remove(0);
    assert_eq!(finding.severity, Severity::High);
    assert!(finding.causes.is("own-limit"), "{:?}", finding.causes);
    assert!(finding.summary.ends_with("29 of the 30 that its command line permits are open"), "{}", finding.summary);
    assert!(server(5432, cmdline, 26, TURNED_AWAY).check(check).findings.is_empty(), "not reached");
    let served = Counts { answered: 13, ..TURNED_AWAY };
    assert!(server(5432, cmdline, 29, served).check(check).findings.is_empty(), "most sessions work");
}

#[test]
fn seen_from_a_client_a_database_that_closes_after_a_line_beside_unused_connections_is_a_warning() {
    let found = |port: u16, idle: u16| {
        let mut world = World::new();
        for n in 0..idle {
            let socket = row(State::Established, &format!("10.0.0.9:{}", 40_000 + n), &format!("10.0.0.1:{port}"));
            let socket = info(socket, &[("bytes_sent", 90), ("bytes_received", 90)]);
            world.hold(812, "api", 4 + u32::from(n), socket.inode).add(socket);
        }
        world.later(2000);
        ended(&mut world, at(port), false, TURNED_AWAY);
        let api = Program { pid: 812, comm: "api".into(), processes: 1 };
        world.now.traced.as_mut().unwrap().ends[0].callers = vec![(api, TURNED_AWAY)];
        world.check(check).findings
    };
    let finding = &found(5432, 29)[0];
    assert_eq!((finding.severity, first(finding)), (Severity::Warning, "own-limit"));
    assert_eq!(
        finding.summary,
        "10.0.0.1:5432 closed 6 of 6 connections of api (812) after a few bytes within 2.0 s; 29 others to it stand \
         open, 29 unused"
    );
    assert!(found(80, 29).is_empty(), "HTTP closes after short answers too, and these had theirs");
    assert!(found(5432, 9).is_empty());
}

#[test]
fn a_client_that_closes_first_after_an_error_of_postgres_was_turned_away_too() {
    let closes_first = |port, message| {
        let counts = Counts { answered: 6, brief: 1, message: Some(message), ..Counts::default() };
        server(port, "postgres -c max_connections=30", 29, counts).check(check).findings
    };
    let found = closes_first(5432, 6);
    assert_eq!(found[0].severity, Severity::High, "{found:#?}");
    assert!(found[0].summary.contains("answered 6 of 6 connections with a message and no session"), "{found:#?}");
    assert!(closes_first(5432, 2).is_empty(), "sessions of usual length");
    assert!(closes_first(6379, 6).is_empty(), "a client that asks for one value ends its session itself");
}

/// A server with idle connections of 10.0.0.9, whose new ones of this address end as soon as they came.
fn full(port: u16, idle: u16, from: [u8; 4], counts: Counts, came: u64) -> World {
    let mut world = server(port, "app", idle, counts);
    let traced = world.now.traced.as_mut().unwrap();
    let accepted = Accepted { netns: NETNS, local_port: port, peer: from.into(), count: came, at_ms: (10, 1900) };
    traced.accepted.push(accepted);
    world
}

const ENDED_AT_ONCE: Counts =
    Counts { answered: 6, given_up: 0, unanswered: 0, brief: 6, message: Some(0), at_once: Some(6) };

#[test]
fn new_connections_that_end_as_soon_as_they_came_beside_unused_ones_are_turned_away() {
    let found = |world: World| world.check(check).findings.pop();
    let finding = found(full(2222, 5, [10, 0, 0, 9], ENDED_AT_ONCE, 6)).unwrap();
    assert_eq!((finding.severity, first(&finding)), (Severity::Warning, "own-limit"));
    assert_eq!(
        finding.summary,
        "app (7) at 10.0.0.1:2222 ended 6 of 6 new connections within 2.0 s as soon as they came, with a line at most; 5 \
         others to it stand open, 5 unused"
    );
    assert!(finding.remedy[0].starts_with("Free what holds the connections of 10.0.0.1:2222"), "{:?}", finding.remedy);
    // Others than those who hold connections: a rule may keep them out, as it should.
    let banned = found(full(2222, 5, [192, 0, 2, 1], ENDED_AT_ONCE, 6)).unwrap();
    assert_eq!(banned.severity, Severity::Info);
    let of = |f: &Finding, id| f.causes.left.iter().find(|h| h.cause.id == id).map_or(0.0, |h| h.confidence);
    assert!(first(&banned) == "refuses" && of(&finding, "refuses") < 0.2, "{banned:#?}");
    for (what, world) in [
        ("nobody stays", full(2222, 2, [10, 0, 0, 9], ENDED_AT_ONCE, 6)),
        ("most stay", full(2222, 5, [10, 0, 0, 9], ENDED_AT_ONCE, 13)),
        ("two", full(2222, 5, [10, 0, 0, 9], Counts { at_once: Some(2), ..ENDED_AT_ONCE }, 2)),
        ("captures that do not tell", full(2222, 5, [10, 0, 0, 9], Counts { at_once: None, ..ENDED_AT_ONCE }, 6)),
    ] {
        assert_eq!(found(world), None, "{what}");
    }
    let busy = found({
        let mut world = full(2222, 5, [10, 0, 0, 9], ENDED_AT_ONCE, 6);
        for socket in world.now.sockets.iter_mut().skip(1) {
            *socket = info(socket.clone(), &[("bytes_sent", 91), ("bytes_received", 90)]);
        }
        world
    });
    assert_eq!(busy, None, "none of them is unused");
}

#[test]
fn what_is_cut_off_unread_as_soon_as_it_came_counts_too() {
    let world = |fresh: u64, served_here: bool| {
        let mut world = full(6379, 10, [10, 0, 0, 9], Counts::default(), 10);
        let traced = world.now.traced.as_mut().unwrap();
        let sent = served_here.then_some(SentFor::Reason(ResetReason::AbortOnClose));
        let resets = Resets { sent, count: fresh, fresh, ..Resets::none(NETNS, at(6379), served_here) };
        traced.resets = vec![resets];
        (traced.ends, traced.accepted[0].count) = (Vec::new(), fresh);
        world
    };
    let finding = world(10, true).check(check).findings.remove(0);
    assert_eq!((finding.severity, first(&finding)), (Severity::Warning, "own-limit"));
    assert!(finding.summary.contains("10 of 10 new connections"), "{}", finding.summary);
    assert!(finding.summary.contains("with a line at most, 10 of them by reset; 10 others"), "{}", finding.summary);
    assert!(finding.next.contains("--local 10.0.0.1:6379"), "{}", finding.next);
    assert_eq!(world(4, false).check(check).findings[0].severity, Severity::Warning, "seen from a client here");
    assert!(world(5, false).check(check).findings.is_empty(), "reset-source tells these");
}

#[test]
fn a_client_that_is_sent_away_where_the_server_speaks_first_is_a_warning() {
    let found = |port| {
        let mut world = World::new();
        world.later(2000);
        ended(&mut world, at(port), false, ENDED_AT_ONCE);
        let ssh = Program { pid: 812, comm: "ssh".into(), processes: 6 };
        world.now.traced.as_mut().unwrap().ends[0].callers = vec![(ssh, ENDED_AT_ONCE)];
        world.check(check).findings.pop()
    };
    let finding = found(22).unwrap();
    assert_eq!((finding.severity, finding.subject.comm.as_deref()), (Severity::Warning, Some("ssh")));
    assert!(finding.summary.contains("6 of 6 new connections of 'ssh' (6 processes) within"), "{}", finding.summary);
    assert_eq!(found(13), None, "the whole answer of a service that nobody asks");
}

#[test]
fn a_relay_whose_connects_fail_has_nothing_behind_it() {
    let counts = Counts { unanswered: 6, at_once: Some(0), ..Counts::default() };
    let found = |comm: &str| {
        let mut world = server(8080, "app", 0, Counts { answered: 1, ..counts });
        let connects = Connects {
            program: Some(Program { pid: 7, comm: comm.into(), processes: 1 }),
            failed: vec![(ConnectFailure::Refused, 6)],
            ..Connects::none(NETNS, at(9000))
        };
        world.now.traced.as_mut().unwrap().connects = vec![connects];
        world.check(check).findings.remove(0)
    };
    let (relay, other) = (found("app"), found("curl"));
    assert_eq!(first(&relay), "nothing-behind");
    assert!(relay.remedy[0].starts_with("Look at what 10.0.0.1:8080 passes connections on to"), "{:?}", relay.remedy);
    assert!(other.causes.ruled_out.iter().any(|(cause, _)| cause.id == "nothing-behind"), "{other:#?}");
}

#[test]
fn a_line_and_the_end_are_what_a_monitor_of_redis_asks_for() {
    // PING and QUIT beside twenty unused connections.
    assert!(server(6379, "redis-server", 20, TURNED_AWAY).check(check).findings.is_empty());
    assert_eq!(server(5432, "postgres", 20, TURNED_AWAY).check(check).findings[0].severity, Severity::Warning);
}

#[test]
fn where_answers_are_due_by_the_protocol_an_outage_of_all_is_none_of_data_taken_in() {
    let outage = server(8080, "app", 0, CRASHES).check(check).findings.remove(0);
    assert_eq!(outage.severity, Severity::Info, "somebody may want it so");
    assert_ne!(first(&outage), "no-answer-due");
    assert_eq!(server(8000, "app", 0, CRASHES).check(check).findings[0].severity, Severity::Info);
}

#[test]
fn of_processes_that_share_a_listener_the_one_that_closed_is_named() {
    let found = |bad: u64, good: u64| {
        let mut world = server(8000, "app", 0, Counts { answered: 20, ..CRASHES });
        let listener = world.now.sockets[0].inode;
        world.hold(9, "old", 3, listener);
        let of = |pid, comm: &str, unanswered| {
            (Program { pid, comm: comm.into(), processes: 1 }, Counts { unanswered, ..Counts::default() })
        };
        let traced = world.now.traced.as_mut().unwrap();
        traced.ends[0].closers = vec![of(9, "old", bad), of(7, "app", good)];
        world.check(check).findings.remove(0)
    };
    let one = found(6, 0);
    assert_eq!(one.subject.pid, Some(9));
    assert!(one.summary.starts_with("old (9), one of 2 processes at 10.0.0.1:8000, closed 6 of 26"), "{}", one.summary);
    let both = found(4, 2);
    assert_eq!(both.subject.pid, Some(7));
    assert!(both.summary.starts_with("app (7) at 10.0.0.1:8000 closed 6 of 26"), "{}", both.summary);
}
