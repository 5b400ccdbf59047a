//! Attempts that nobody answers, on snapshots made by hand.

#[cfg(test)]
use super::*;
use crate::diagnose::testkit::{World, info, listen, row, time_wait, timer, unheld};
use crate::model::TimerKind;
use crate::model::sysctl::Sysctl;

fn attempt(client: u16, to: &str, repeats: u8) -> Socket {
    timer(row(State::SynSent, &format!("10.0.0.1:{client}"), to), TimerKind::Retransmit, 500, repeats)
}

/// Attempts of pid 812, which holds as many other sockets.
fn world(rows: u16, to: &str, repeats: u8) -> World {
    let mut world = World::new();
    for n in 0..rows {
        let socket = attempt(40_000 + n, to, repeats);
        world.hold(812, "client", 3 + u32::from(n), socket.inode).add(socket);
    }
    for n in 0..=rows {
        let other = row(State::Established, &format!("10.0.0.1:{}", 30_000 + n), "10.5.5.5:5432");
        world.hold(812, "client", 300 + u32::from(n), other.inode).add(other);
    }
    world.sysctl(Sysctl::Ipv4TcpSynLinearTimeouts, &[4]).sysctl(Sysctl::Ipv4TcpSynRetries, &[6]);
    world
}

#[test]
fn numbers_come_from_the_timer_and_severity_from_the_count() {
    let outcome = world(4, "10.9.9.9:443", 6).check(check);
    let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
    assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
    assert_eq!(
        finding.summary,
        "4 connection attempts of client (812) to 10.9.9.9:443 have no answer, the oldest after 10 s"
    );
    assert!(finding.evidence.contains(&("oldest_ms", Evidence::Millis(10_500))));
    assert!(finding.evidence.contains(&("gives_up_within_ms", Evidence::Millis(120_500))));
    assert_eq!(world(5, "10.9.9.9:443", 2).check(check).findings[0].severity, Severity::High);
}

/// A connection to the destination whose peer was heard so long ago.
fn works(client: u16, ms: u64) -> Socket {
    let base = row(State::Established, &format!("10.0.0.1:{client}"), "10.9.9.9:443");
    info(base, &[("last_ack_recv_ms", ms), ("last_data_recv_ms", ms)])
}

#[test]
fn proven_success_lowers_the_severity_and_half_of_the_owner_s_sockets_raise_it() {
    let severity = |n, heard_ms: &[u64]| {
        let mut world = world(n, "10.9.9.9:443", 6);
        for (client, ms) in (50_000..).zip(heard_ms) {
            world.add(works(client, *ms));
        }
        world.check(check).findings[0].severity
    };
    // The attempts began 10.5 s ago.
    assert_eq!(severity(5, &[10_501]), Severity::High, "silent since before the attempts");
    assert_eq!(severity(5, &[10_500]), Severity::Warning);
    assert_eq!(severity(1, &[10; 9]), Severity::Warning);
    assert_eq!(severity(1, &[10; 10]), Severity::Info, "one attempt beside ten that work");
    assert_eq!(severity(5, &[10; 50]), Severity::Warning, "five attempts");
    let mut half = world(2, "10.9.9.9:443", 2);
    half.now.sockets.pop();
    assert_eq!(half.check(check).findings[0].severity, Severity::High);
    let mut single = World::new();
    let only = attempt(40_000, "10.9.9.9:443", 3);
    single.hold(812, "curl", 3, only.inode).add(only);
    assert_eq!(single.check(check).findings[0].severity, Severity::Warning, "one attempt of one program");
}

#[test]
fn for_some_seconds_a_port_that_answered_may_be_behind_a_lossy_path() {
    let severity = |n, repeats, heard_ms: Option<u64>| {
        let mut world = world(n, "10.9.9.9:443", repeats);
        world.now.sockets.extend(heard_ms.map(|ms| works(50_000, ms)));
        world.check(check).findings[0].severity
    };
    // Two repetitions are 2.5 s, four 4.5 s, five 6.5 s, six 10.5 s.
    assert_eq!(severity(9, 2, None), Severity::High, "nobody was ever answered");
    assert_eq!(severity(9, 4, Some(20_000)), Severity::Info, "answered 20 s ago");
    assert_eq!(severity(9, 4, Some(64_501)), Severity::High, "answered more than a minute before");
    assert_eq!(severity(9, 5, Some(20_000)), Severity::High);
    assert_eq!((severity(1, 5, Some(20_000)), severity(9, 5, Some(10))), (Severity::Info, Severity::Info));
    assert_eq!((severity(1, 6, Some(20_000)), severity(9, 6, Some(10))), (Severity::Warning, Severity::Warning));
    // A queue of this host that is full is no loss.
    let mut full = world(2, "10.0.0.1:80", 2);
    full.now.netns[0].addresses = vec!["10.0.0.1".parse().unwrap()];
    full.add(listen("0.0.0.0:80", 5, 4)).add(time_wait("10.0.0.1:50000", "10.0.0.1:80", 59_900));
    assert_eq!(full.check(check).findings[0].severity, Severity::Warning);
}

#[test]
fn only_what_works_counts_and_young_attempts_are_the_rest() {
    let mut world = world(6, "10.9.9.9:443", 3);
    world.add(attempt(45_000, "10.9.9.9:443", 1)).add(works(50_000, 100)).add(works(50_001, 60_000));
    let orphan = Socket { state: State::FinWait1, shutdown: Some(3), ..unheld(works(50_002, 60_000)) };
    world.add(orphan);
    let outcome = world.check(check);
    let finding = &outcome.findings[0];
    assert!(finding.evidence.contains(&("connections_that_work", Evidence::Count(1))), "{finding:?}");
    assert_eq!(
        finding.summary,
        "6 of 7 connection attempts of client (812) to 10.9.9.9:443 have no answer, the oldest after 3.5 s, while 1 \
         connection to it works"
    );
    assert!(outcome.wants_second.is_some(), "queue, filter or path");
    assert!(finding.remedy[0].contains("Recv-Q") && finding.remedy[1].contains("lets only a part through"));
    assert!(finding.remedy[2].contains("10.9.9.9 itself or one behind it"));
}

#[test]
fn some_whose_two_syns_had_no_answer_are_told_before_their_program_gives_up() {
    let outcome = world(3, "10.9.9.9:443", 1).check(check);
    let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.summary.ends_with("have no answer, the oldest after 1.5 s"), "{}", finding.summary);
    assert_eq!(world(9, "10.9.9.9:443", 1).check(check).findings[0].severity, Severity::Warning);
}

#[test]
fn ordinary_loss_is_silent() {
    // The second SYN was sent a moment ago.
    let answered_soon = |rows| {
        let mut world = world(rows, "10.9.9.9:443", 1);
        world.now.sockets.iter_mut().filter_map(|s| s.timer.as_mut()).for_each(|t| t.remaining_ms = 800);
        world
    };
    assert_eq!(answered_soon(50).check(check), Outcome::default());
    assert_eq!(world(2, "10.9.9.9:443", 1).check(check), Outcome::default());
    let mut heard = world(50, "10.9.9.9:443", 1);
    heard.add(works(50_000, 60_000));
    assert_eq!(heard.check(check), Outcome::default(), "it answers, or did");
    assert_eq!(World::new().check(check), Outcome::default());
}

#[test]
fn a_cause_is_in_the_headline_only_when_it_is_proven() {
    let mut full = world(1, "10.0.0.1:80", 2);
    full.now.netns[0].addresses = vec!["10.0.0.1".parse().unwrap()];
    full.add(listen("0.0.0.0:80", 5, 4)).hold(900, "server", 3, 80 << 16);
    let outcome = full.check(check);
    let summary = &outcome.findings[0].summary;
    assert!(summary.ends_with(": the accept queue of server (900) on this host is full"), "{summary}");
    assert_eq!(outcome.wants_second, None);
    let mut port = world(1, "10.9.9.9:443", 2);
    port.add(time_wait("10.0.0.1:50000", "10.9.9.9:80", 59_900));
    let finding = port.check(check).findings.remove(0);
    assert_eq!((finding.causes.left[0].cause.id, finding.causes.named()), ("port-filtered", None));
    assert!(finding.summary.ends_with("the oldest after 2.5 s"), "{}", finding.summary);
    let mut mark = world(2, "10.9.9.9:443", 2);
    mark.now.sockets[..2].iter_mut().for_each(|s| s.mark = Some(0x10));
    assert!(mark.check(check).findings[0].evidence.contains(&("all_have", Evidence::Text("mark 0x10".into()))));
}

#[test]
fn a_scanner_is_one_explanation() {
    let scan = |count: u16, old: u16| {
        let mut world = World::new();
        for n in 0..count {
            let socket = attempt(40_000 + n, &format!("10.{n}.0.1:22"), if n < old { 2 } else { 0 });
            world.hold(812, "masscan", 3 + u32::from(n), socket.inode).add(socket);
        }
        world
    };
    // Most of those of a program that gives up after some seconds are young.
    let young = scan(16, 3).check(check);
    let [finding] = &young.findings[..] else { panic!("{young:?}") };
    assert!(finding.severity == Severity::Info && finding.summary.contains("tries 3 destinations once each"));
    assert_eq!(scan(15, 3).check(check).findings.len(), 3);
    let world = scan(16, 16);
    let outcome = world.check(check);
    let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
    assert_eq!(finding.severity, Severity::Info);
    assert!(finding.summary.starts_with("masscan (812) tries 16 destinations once each"));
}
