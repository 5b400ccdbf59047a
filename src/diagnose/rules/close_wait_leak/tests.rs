//! Connections in CLOSE_WAIT that leak, or only stand, on snapshots made by hand.

#[cfg(test)]
use super::*;
use crate::diagnose::Evidence;
use crate::diagnose::testkit::{World, info, listen, row, timer, unheld};
use crate::model::snapshot::{Inspection, ThreadState};
use crate::model::{Process, Socket, TimerKind};

/// A CLOSE_WAIT row whose FIN came so long ago, an answer of ours 5 s before it and the request just before that.
fn gone_for(ms: u64, local: &str, peer: &str) -> Socket {
    let times = [
        ("last_ack_recv_ms", ms),
        ("last_data_recv_ms", ms + 5010),
        ("last_data_sent_ms", ms + 5000),
        ("bytes_sent", 100),
        ("bytes_received", 900),
    ];
    info(row(State::CloseWait, local, peer), &times)
}

fn ms(ages_s: &[u64]) -> Vec<u64> {
    ages_s.iter().map(|s| s * 1000).collect()
}

/// A server with one connection per age that it answered and that its client closed.
fn server(ages_ms: &[u64]) -> World {
    let mut world = World::new();
    world.add(listen("0.0.0.0:80", 0, 128)).hold(812, "server", 3, 80 << 16);
    for (n, age) in ages_ms.iter().enumerate() {
        let socket = gone_for(*age, "10.0.0.1:80", &format!("10.0.0.9:{}", 40_000 + n));
        let inode = socket.inode;
        world.add(socket).hold(812, "server", 4 + u32::try_from(n).unwrap(), inode);
    }
    world
}

/// The same, but each client sent its FIN with the request, and nothing was answered.
fn half_closed_at(ages_ms: &[u64]) -> World {
    let mut world = server(ages_ms);
    for (socket, ms) in world.now.sockets[1..].iter_mut().zip(ages_ms) {
        let info = socket.info.as_mut().unwrap();
        for (field, value) in [("last_data_recv_ms", *ms), ("last_data_sent_ms", ms + 3000), ("bytes_sent", 0)] {
            assert!(info.set(field, value));
        }
    }
    world
}

/// A client of 10.0.0.9:443 with one connection per age, of which so much is unread.
fn client(ages_ms: &[u64], recv_q: u32) -> World {
    let mut world = World::new();
    for (n, age) in ages_ms.iter().enumerate() {
        let socket = gone_for(*age, &format!("10.0.0.1:{}", 40_000 + n), "10.0.0.9:443");
        let inode = socket.inode;
        let fd = 5 + u32::try_from(n).unwrap();
        world.add(Socket { recv_q_bytes: recv_q, ..socket }).hold(700, "client", fd, inode);
    }
    world
}

#[test]
fn many_that_are_seconds_old_are_told_from_one_look() {
    let one =
        |n: u64, oldest_ms: u64| server(&(0..n).map(|i| oldest_ms * i / (n - 1)).collect::<Vec<_>>()).check(check);
    let outcome = one(84, 10_000);
    let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
    assert_eq!((finding.severity, finding.confidence), (Severity::Info, 0.6));
    assert_eq!(
        finding.summary,
        "server (812) keeps 75 of 84 connections on 0.0.0.0:80 open that the other side closed, those for a second or \
         more, the oldest for 10 s, 7 % of its 1,024 descriptors; they were answered and read to EOF, and not closed"
    );
    assert!(outcome.wants_second.is_some());
    assert_eq!((one(34, 10_000).findings, one(84, 7000).findings), (vec![], vec![]));
}

/// The world as a sample 2 s later, in which the rows younger than that are new.
fn twice(mut world: World) -> World {
    world.later(2000);
    let before = world.before.as_mut().unwrap();
    before.sockets.retain(|s| s.state != State::CloseWait || s.state_age().is_none_or(|a| a.min_ms >= 2000));
    world
}

fn only(outcome: &Outcome) -> &Finding {
    let [finding] = &outcome.findings[..] else { panic!("{outcome:#?}") };
    finding
}

fn has(finding: &Finding, name: &str, value: &Evidence) -> bool {
    finding.evidence.iter().any(|(n, v)| *n == name && v == value)
}

fn leading(finding: &Finding) -> &str {
    finding.causes.left.first().map_or("", |h| h.cause.id)
}

#[test]
fn what_only_comes_is_a_leak_within_seconds_and_its_end_is_told() {
    // 20 a second for 6 s.
    let ages: Vec<u64> = (1..120).map(|n| n * 50).collect();
    for (world, who) in [
        (client(&ages, 0), "client (700) does not close connections to 10.0.0.9:443 that the other side closed"),
        (client(&ages, 1), "client (700) does not close"),
        (client(&ages, 5000), "client (700) does not close"),
        (server(&ages), "server (812) does not close connections on 0.0.0.0:80 that the other side closed"),
    ] {
        let once = world.check(check);
        assert!(once.findings.is_empty() && once.wants_second.is_some(), "{once:?}");
        let outcome = twice(world).check(check);
        let leak = only(&outcome);
        assert!(leak.summary.starts_with(who), "{}", leak.summary);
        assert!(leak.summary.contains("119 in CLOSE_WAIT, 20 a second more"), "{}", leak.summary);
        assert!(leak.summary.contains("out of descriptors in about 51 s"), "{}", leak.summary);
        assert_eq!((leak.severity, leading(leak)), (Severity::High, "leak"), "EMFILE within the hour");
    }
}

#[test]
fn what_the_rows_show_tells_a_leak_from_a_reader_that_is_stuck() {
    let ages: Vec<u64> = (1..120).map(|n| n * 50).collect();
    let locked = |world: &mut World, pid: u32| {
        let thread = ThreadState {
            tid: pid,
            name: "main".into(),
            state: Some('S'),
            wchan: None,
            syscall: u64::try_from(libc::SYS_futex).ok(),
            syscall_arg0: Some(0),
        };
        let facts = world.now.processes.get_mut(&pid).unwrap();
        facts.inspection = Some(Inspection { threads: vec![thread], ..Inspection::default() });
    };
    // The answers of new connections were read: it does not wait for something else, whatever its threads show.
    let mut reads = client(&ages, 1);
    locked(&mut reads, 700);
    assert_eq!(leading(only(&twice(reads).check(check))), "leak");
    // Requests of which no byte was ever read: no worker has taken them.
    let mut untaken = server(&ages);
    for socket in untaken.now.sockets.iter_mut().filter(|s| s.state == State::CloseWait) {
        socket.recv_q_bytes = 900;
        assert!(socket.info.as_mut().unwrap().set("bytes_sent", 0));
    }
    let outcome = twice(untaken).check(check);
    assert_eq!(leading(only(&outcome)), "reader-stuck", "{:#?}", only(&outcome).causes.left);
    assert!(only(&outcome).remedy[0].starts_with("Find what blocks the reader"), "{:?}", only(&outcome).remedy);
}

#[test]
fn one_a_second_is_found_and_one_that_goes_for_each_that_comes_is_not() {
    let ages: Vec<u64> = (0..20).map(|n| 500 + n * 1000).collect();
    let slow = twice(client(&ages, 0));
    let outcome = slow.check(check);
    assert_eq!(only(&outcome).severity, Severity::Warning, "two are no measured rate");
    assert!(only(&outcome).causes.is("leak"));
    let mut churns = slow;
    for n in 0..2 {
        let left = gone_for(9000, &format!("10.0.0.1:{}", 50_000 + n), "10.0.0.9:443");
        let inode = left.inode;
        churns.hold(700, "client", 90 + n, inode);
        let owners = churns.now.owners.clone();
        let before = churns.before.as_mut().unwrap();
        before.sockets.push(left);
        before.owners = owners;
    }
    assert_eq!(churns.check(check), Outcome::default());
}

#[test]
fn a_burst_a_filling_pool_and_too_few_are_no_leak() {
    let burst: Vec<u64> = (0..60).map(|n| 1500 + n * 20).collect();
    assert_eq!(twice(client(&burst, 0)).check(check), Outcome::default(), "all connections within a second");
    let filling: Vec<u64> = (0..31).map(|n| n * 190).collect();
    assert_eq!(twice(client(&filling, 1)).check(check), Outcome::default(), "a pool of 31");
    let more: Vec<u64> = (0..32).map(|n| n * 185).collect();
    assert_eq!(only(&twice(client(&more, 1)).check(check)).severity, Severity::High, "no pool has 32");
    let few: Vec<u64> = (0..15).map(|n| n * 390).collect();
    assert_eq!(twice(client(&few, 0)).check(check), Outcome::default());
}

#[test]
fn requests_that_were_half_closed_are_at_work_until_their_number_hurts() {
    let old: Vec<u64> = std::iter::repeat_n(64_000, 14).collect();
    let outcome = half_closed_at(&old).check(check);
    assert_eq!((only(&outcome).severity, leading(only(&outcome))), (Severity::Info, "half-closed-at-work"));
    let coming = |n: u64| twice(half_closed_at(&(0..n).map(|i| i * 60_000 / n).collect::<Vec<u64>>())).check(check);
    assert_eq!(coming(102), Outcome::default(), "jobs of a minute or more that come, 10 % of 1024");
    let outcome = coming(103);
    assert_eq!(only(&outcome).causes.named(), None, "either is possible");
    assert_eq!(only(&outcome).severity, Severity::High);
}

#[test]
fn clients_on_this_host_that_hold_on_for_their_answer_are_no_warning() {
    let mut world = half_closed_at(&(0..200).map(|i| i * 300).collect::<Vec<u64>>());
    for n in 0..200 {
        world.add(row(State::FinWait2, &format!("10.0.0.9:{}", 40_000 + n), "10.0.0.1:80"));
    }
    let outcome = twice(world).check(check);
    assert_eq!((only(&outcome).severity, only(&outcome).confidence), (Severity::Info, 0.6));
}

#[test]
fn ages_show_a_leak_that_is_slow() {
    // One every 20 minutes over two hours; 1004 descriptors are free, so it takes two weeks.
    let outcome = server(&ms(&[600, 1800, 3600, 4200, 5400, 6600, 7500, 8100])).check(check);
    let leak = only(&outcome);
    assert_eq!((leak.severity, leak.confidence), (Severity::Warning, 0.85));
    assert!(
        leak.summary.contains("8 in CLOSE_WAIT, about 2.7 an hour more, the oldest for 2 h, out of"),
        "{}",
        leak.summary
    );
    let seven = server(&ms(&[600, 1800, 3600, 4200, 5400, 7500, 8100])).check(check);
    assert_eq!(only(&seven).severity, Severity::Info);
}

#[test]
fn severity_without_growth_needs_half_of_the_limit() {
    let burst = |n: usize| server(&vec![300_000; n]).check(check);
    for (n, severity) in [(10, Severity::Info), (511, Severity::Info), (512, Severity::Warning)] {
        assert_eq!(only(&burst(n)).severity, severity, "{n} of 1024");
    }
    let mut full = server(&vec![300_000; 200]);
    full.now.processes.get_mut(&812).unwrap().fd_used = Some(1024);
    assert_eq!(only(&full.check(check)).severity, Severity::Critical, "EMFILE, and a fifth is this");
}

#[test]
fn idle_pools_are_explanations_and_a_body_that_is_unread_beside_them_is_no_pool() {
    for (recv_q, words) in
        [(1, "EOF is unread"), (32, "the last 31 bytes or fewer of each and EOF are unread"), (301, "last 300")]
    {
        let outcome = client(&ms(&[70, 90, 110, 400]), recv_q).check(check);
        let finding = only(&outcome);
        assert_eq!((finding.severity, leading(finding)), (Severity::Info, "stale-pool"));
        assert!(finding.summary.contains(words), "{}", finding.summary);
        assert!(finding.remedy[0].contains("evict idle connections"), "{:?}", finding.remedy);
    }
    assert_eq!(only(&client(&[300_000; 30], 1).check(check)).severity, Severity::Info, "30 of 1024 harm nobody");
    let mut mixed = client(&[300_000; 30], 32);
    for socket in mixed.now.sockets.iter_mut().take(10) {
        socket.recv_q_bytes = 32_001;
    }
    let outcome = mixed.check(check);
    let told: Vec<(&str, bool)> =
        outcome.findings.iter().map(|f| (leading(f), f.summary.contains("312 KiB and EOF"))).collect();
    assert_eq!(told, [("stale-pool", false), ("reader-stuck", true)]);
}

#[test]
fn younger_rows_of_the_kind_are_counted_beside_those_of_a_minute() {
    let outcome = client(&ms(&[70, 70, 59, 20]), 1).check(check);
    assert_eq!(
        only(&outcome).summary,
        "client (700) keeps 2 of 4 connections to 10.0.0.9:443 open that the other side closed, those for a minute \
         or more, the oldest for 70 s; EOF is unread"
    );
    assert_eq!(client(&ms(&[59]), 1).check(check), Outcome::default());
}

#[test]
fn what_sends_is_at_work() {
    let with = |change: fn(&mut Socket)| {
        let mut world = server(&[300_000]);
        change(&mut world.now.sockets[1]);
        world.check(check)
    };
    assert_eq!(with(|s| s.send_q_bytes = Some(10)), Outcome::default(), "bytes still go out");
    let sends = |s: &mut Socket| assert!(s.info.as_mut().unwrap().set("last_data_sent_ms", 2000));
    assert_eq!(with(sends), Outcome::default(), "it sent two seconds ago");
    assert_eq!(with(|s| *s = unheld(s.clone())), Outcome::default(), "not accepted");
    let mut answering = server(&[300_000]);
    answering.later(2000);
    assert!(answering.now.sockets[1].info.as_mut().unwrap().set("bytes_sent", 500));
    assert_eq!(answering.check(check), Outcome::default(), "bytes_sent grows");
}

#[test]
fn own_keepalive_hides_the_age_so_a_second_look_decides() {
    let mut world = server(&[300_000]);
    let socket = world.now.sockets[1].clone();
    world.now.sockets[1] = info(
        timer(socket, TimerKind::Keepalive, 5000, 0),
        &[("last_ack_recv_ms", 4000), ("last_data_recv_ms", 300_000), ("last_data_sent_ms", 300_000)],
    );
    let once = world.check(check);
    assert!(once.findings.is_empty() && once.wants_second.is_some(), "{once:?}");
    let outcome = world.later(2000).check(check);
    assert!((only(&outcome).confidence - 0.6).abs() < 1e-9);
    assert!(has(only(&outcome), "oldest_possible_age_ms", &Evidence::Millis(300_000)), "{outcome:?}");
    // It was established in the sample before: the FIN has only just come.
    world.before.as_mut().unwrap().sockets[1].state = State::Established;
    assert_eq!(world.check(check), Outcome::default());
}

#[test]
fn a_stopped_owner_is_said_and_comes_first_in_the_remedy() {
    let mut world = server(&[300_000]);
    world.now.processes.get_mut(&812).unwrap().state = Some('T');
    let outcome = world.check(check);
    assert!(only(&outcome).summary.ends_with("the process is stopped"));
    assert!(only(&outcome).remedy[0].contains("SIGCONT"));
}

#[test]
fn what_the_owner_does_is_part_of_the_evidence_once_it_was_inspected() {
    let mut world = server(&[300_000]);
    let inspection = Inspection { epoll_sets: 1, ..Inspection::default() };
    world.now.processes.get_mut(&812).unwrap().inspection = Some(inspection);
    let outcome = world.check(check);
    assert!(has(only(&outcome), "doing_class", &Evidence::Text("in_no_epoll_set".into())), "{outcome:?}");
    assert_eq!(only(&outcome).topic, Some(Topic::CloseWaitServer));
}

#[test]
fn a_thread_that_waits_for_a_lock_is_why_a_request_stays_unread() {
    let mut world = server(&[300_000]);
    world.now.sockets[1].recv_q_bytes = 5000;
    let thread = |call: libc::c_long| ThreadState {
        tid: 812,
        name: "server".into(),
        state: Some('S'),
        wchan: None,
        syscall: u64::try_from(call).ok(),
        syscall_arg0: Some(3),
    };
    for call in [libc::SYS_flock, libc::SYS_clock_nanosleep] {
        let inspection = Inspection { threads: vec![thread(call)], ..Inspection::default() };
        world.now.processes.get_mut(&812).unwrap().inspection = Some(inspection);
        let outcome = world.check(check);
        let certain = only(&outcome).causes.left[0].confidence > 0.7;
        assert_eq!((leading(only(&outcome)), certain), ("reader-stuck", call == libc::SYS_flock), "{outcome:?}");
    }
}

#[test]
fn the_master_of_a_prefork_server_is_named_once_for_all_holders() {
    let mut world = server(&[300_000, 400_000]);
    for socket in world.now.sockets.clone() {
        world.hold(813, "server", 9, socket.inode);
    }
    world.now.processes.get_mut(&813).unwrap().parent = Some(812);
    let outcome = world.check(check);
    assert_eq!((only(&outcome).subject.pid, &only(&outcome).subject.pids[..]), (Some(812), &[812, 813][..]));
}

#[test]
fn an_owner_that_may_not_be_seen_is_a_user() {
    let mut world = World::new();
    world.add(gone_for(300_000, "10.0.0.1:80", "10.0.0.9:40000"));
    world.now.owners = crate::model::OwnerTable::new(Vec::<Process>::new(), Vec::new(), 3);
    let outcome = world.check(check);
    assert_eq!((only(&outcome).subject.pid, only(&outcome).subject.uid), (None, Some(1000)));
    assert!(has(only(&outcome), "owner", &Evidence::Text("no permission".into())), "{outcome:?}");
}

#[test]
fn without_tcp_info_the_rule_cannot_judge() {
    let mut world = server(&[300_000]);
    world.now.sockets[1].info = None;
    assert!(world.check(check).not_checked.is_some());
}
