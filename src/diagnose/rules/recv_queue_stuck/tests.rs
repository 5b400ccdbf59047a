//! Readers that leave data unread, on snapshots made by hand.

#[cfg(test)]
use super::*;
use crate::diagnose::testkit::{World, info, listen, row, timer, unheld, with_info};
use crate::model::snapshot::{EpollWatch, Inspection, ThreadState};
use crate::model::{Inode, SkMem, TimerKind};

fn unread(port: u16, bytes: u32, taken: u64, last_data_ms: u64) -> Socket {
    let peer = format!("10.0.0.2:{port}");
    let base = Socket { recv_q_bytes: bytes, ..row(State::Established, "10.0.0.1:80", &peer) };
    let fields = [
        ("bytes_received", taken + u64::from(bytes)),
        ("last_data_recv_ms", last_data_ms),
        ("last_data_sent_ms", last_data_ms + 5),
        ("rcv_wnd_bytes", 9000),
    ];
    let skmem = SkMem { rmem_alloc_bytes: bytes * 2, rcvbuf_bytes: 131_072, ..SkMem::default() };
    Socket { skmem: Some(skmem), ..info(base, &fields) }
}

fn world(rows: impl IntoIterator<Item = Socket>) -> World {
    let mut world = World::new();
    for socket in rows {
        world.hold(812, "server", u32::from(socket.peer.port), socket.inode).add(socket);
    }
    world
}

/// The same rows two seconds later, as `then` leaves them.
fn later(mut world: World, then: impl Fn(&mut Socket)) -> World {
    world.later(2000);
    for socket in &mut world.now.sockets {
        if let Some(info) = socket.info.as_mut() {
            let age = u64::from(info.last_data_recv_ms().unwrap_or(0));
            assert!(info.set("last_data_recv_ms", age + 2000) && info.set("last_data_sent_ms", age + 2005));
        }
        then(socket);
    }
    world
}

fn inspected(world: &mut World, threads: &[libc::c_long], watch: Option<EpollWatch>) {
    let thread = |call: &libc::c_long| ThreadState {
        tid: 812,
        name: "main".into(),
        state: Some('S'),
        wchan: None,
        syscall: u64::try_from(*call).ok(),
        syscall_arg0: Some(3),
    };
    let inspection = Inspection {
        epoll_sets: u32::from(watch.is_some()),
        watches: watch.into_iter().collect(),
        threads: threads.iter().map(thread).collect(),
        ..Inspection::default()
    };
    let facts = world.now.processes.get_mut(&812).unwrap();
    (facts.inspection, facts.frozen) = (Some(inspection), Some(false));
}

/// A listener on port 80, so that the rows of the others are accepted ones.
fn served(rows: impl IntoIterator<Item = Socket>) -> World {
    let mut world = world(rows);
    world.add(listen("10.0.0.1:80", 0, 128));
    world
}

fn severity(world: &World) -> Option<Severity> {
    world.check(check).findings.first().map(|f| f.severity)
}

#[test]
fn clients_that_gave_up_unread_are_hurt_where_the_reader_is_stuck() {
    let gone = |port, acked, state| {
        let mut socket = Socket { state, ..unread(port, 28, 27, 3000) };
        assert!(socket.info.as_mut().unwrap().set("bytes_acked", acked));
        socket
    };
    let stuck = |rows: Vec<Socket>| {
        let mut world = later(served(rows), |_| {});
        let watch = |inode| EpollWatch { epoll_fd: 4, target_fd: 5000, inode: Some(inode), events: 0x19 };
        let watches: Vec<EpollWatch> = world.now.sockets.iter().filter_map(|s| s.inode).map(watch).collect();
        inspected(&mut world, &[libc::SYS_futex], None);
        let facts = world.now.processes.get_mut(&812).unwrap().inspection.as_mut().unwrap();
        (facts.epoll_sets, facts.watches) = (1, watches);
        world.check(check).findings
    };
    let found = stuck((5000..5004).map(|port| gone(port, 200, State::CloseWait)).collect());
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].severity, Severity::High, "{found:#?}");
    assert!(found[0].summary.contains("; the clients gave up"), "{}", found[0].summary);
    assert!(found[0].next.contains("established,close-wait"), "{}", found[0].next);
    // One that never got anything sends and closes: nothing is owed to it.
    assert_eq!(stuck((5000..5004).map(|port| gone(port, 1, State::CloseWait)).collect()), []);
}

/// So many clients that asked, waited for some time, and closed 2 s ago; nobody ever read or answered them.
fn ignored(n: u16, waited_ms: u64, threads: &[libc::c_long]) -> World {
    let gone = |port| {
        let socket = Socket { state: State::CloseWait, ..unread(port, 47, 0, waited_ms) };
        with_info(socket, &[("last_ack_recv_ms", 0), ("bytes_received", 47)])
    };
    let mut world = later(served((5000..5000 + n).map(gone)), |s| {
        if let Some(info) = s.info.as_mut() {
            assert!(info.set("last_ack_recv_ms", 2000));
        }
    });
    if !threads.is_empty() {
        inspected(&mut world, threads, None);
    }
    world
}

#[test]
fn clients_that_were_never_answered_count_where_nobody_can_read_them() {
    let futex = [libc::SYS_futex, libc::SYS_accept4];
    let found = ignored(4, 3000, &futex).check(check).findings;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].severity, found[0].causes.is("threads-blocked")), (Severity::High, true), "{found:#?}");
    assert_eq!(
        found[0].summary,
        "server (812) has left 188 bytes unread on 4 connections with 10.0.0.2, the oldest for at least 5.0 s; the \
         clients gave up: all its threads wait for a lock, a signal or a new client"
    );
    assert_eq!(severity(&ignored(4, 900, &futex)), None, "they closed at the end of what they said");
    // A thread at work may come to them.
    assert_eq!(severity(&ignored(4, 3000, &[libc::SYS_futex, libc::SYS_clock_nanosleep])), None);
    // Nobody has looked at the program yet, or may.
    assert_eq!((severity(&ignored(4, 30_000, &[])), severity(&ignored(2, 30_000, &[]))), (Some(Severity::Info), None));
    let mut pool = ignored(4, 9000, &[libc::SYS_epoll_wait, libc::SYS_futex, libc::SYS_futex]);
    pool.now.processes.get_mut(&812).unwrap().inspection.as_mut().unwrap().epoll_sets = 1;
    let found = pool.check(check).findings;
    assert_eq!(found[0].severity, Severity::High, "{found:#?}");
    assert!(found[0].causes.left.iter().any(|h| h.cause.id == "pool-blocked"), "{found:#?}");
}

#[test]
fn two_sides_that_only_write_wait_for_each_other() {
    let found = |waited_ms, call, window| {
        let row = |port| {
            let base = unread(port, 90_000, 9000, waited_ms);
            let skmem = SkMem { rmem_alloc_bytes: 90_000, rcvbuf_bytes: 131_072, ..SkMem::default() };
            let socket = Socket { send_q_bytes: Some(90_000), skmem: Some(skmem), ..base };
            timer(with_info(socket, &[("rcv_wnd_bytes", window)]), TimerKind::ZeroWindowProbe, 900, 3)
        };
        let mut world = later(served([row(5000), row(5001)]), |_| {});
        inspected(&mut world, &[call, call], None);
        let threads = &mut world.now.processes.get_mut(&812).unwrap().inspection.as_mut().unwrap().threads;
        for (thread, fd) in threads.iter_mut().zip([5000, 5001]) {
            thread.syscall_arg0 = Some(fd);
        }
        world.check(check).findings.remove(0)
    };
    let both = found(9000, libc::SYS_sendto, 0);
    assert_eq!((both.severity, both.causes.is("both-write")), (Severity::Warning, true), "{both:#?}");
    assert!(both.summary.contains(", the oldest for at least 11 s; ") && both.remedy[0] == BOTH, "{both:#?}");
    assert_eq!(found(3000, libc::SYS_sendto, 0).severity, Severity::Info, "a moment");
    assert!(!found(9000, libc::SYS_sendto, 9000).causes.is("both-write"), "the peer can still send");
    assert!(!found(9000, libc::SYS_clock_nanosleep, 0).causes.is("both-write"));
}

#[test]
fn requests_that_nobody_ever_read_hurt_their_clients() {
    let outcome = later(served([unread(5000, 100, 0, 11_000), unread(5001, 100, 0, 3000)]), |_| {}).check(check);
    let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
    assert_eq!((finding.severity, finding.confidence, finding.subject.pid), (Severity::High, 0.95, Some(812)));
    assert_eq!(
        finding.summary,
        "server (812) has left 200 bytes unread on 2 connections with 10.0.0.2, the oldest for at least 13 s"
    );
    assert_eq!(finding.lasting_ms, Some(Measure::AtLeast(13_000)));
    assert_eq!(finding.inspect, [(812, [5000, 5001].map(|n| Inode::new((80 << 16) + n).unwrap()).to_vec())]);
    // Just below, and answered since: a server that only writes.
    assert_eq!(severity(&later(served([unread(5000, 100, 0, 7999)]), |_| {})), Some(Severity::Info));
    assert_eq!(severity(&later(served([unread(5000, 100, 0, 8000)]), |_| {})), Some(Severity::High));
    let answered = later(served([unread(5000, 100, 0, 11_000)]), |s| {
        if let Some(info) = s.info.as_mut() {
            assert!(info.set("last_data_sent_ms", 12_999));
        }
    });
    assert_eq!(severity(&answered), Some(Severity::Info));
}

#[test]
fn a_long_queue_proves_no_more_than_the_interval() {
    // Half a minute without a segment: a reader that takes 64 KiB every 5 s looks the same.
    let row = || [unread(5000, 100_000, 900_000, 30_000)];
    for slow in [served(row()), world(row())] {
        let slow = later(slow, |s| {
            s.skmem = Some(SkMem { rmem_alloc_bytes: 9, rcvbuf_bytes: 9, ..SkMem::default() });
        });
        let finding = &slow.check(check).findings[0];
        assert_eq!((finding.severity, finding.lasting_ms), (Severity::Info, Some(Measure::AtLeast(2000))));
    }
    // Whoever reads takes four kilobytes at once.
    let short = |bytes| severity(&later(served([unread(5000, bytes, 9000, 30_000)]), |_| {}));
    assert_eq!((short(4096), short(4097)), (Some(Severity::Warning), Some(Severity::Info)));
    let mut longer = served([unread(5000, 100_000, 900_000, 30_000)]);
    longer.later(10_000);
    assert_eq!(severity(&longer), Some(Severity::Warning), "ten seconds between the samples prove ten seconds");
}

#[test]
fn a_worker_at_work_and_the_end_of_a_request_are_information() {
    let with = |n: u16, threads: &[libc::c_long]| {
        let mut world = later(served((0..n).map(|p| unread(5000 + p, 100, 100, 20_000))), |_| {});
        inspected(&mut world, threads, None);
        severity(&world)
    };
    assert_eq!(with(1, &[libc::SYS_clock_nanosleep]), Some(Severity::Info));
    assert_eq!(with(2, &[libc::SYS_clock_nanosleep]), Some(Severity::High), "two wait for one thread");
    assert_eq!(with(1, &[libc::SYS_futex]), Some(Severity::High), "a lock that nobody lets go");
    let end = |bytes| severity(&later(served([unread(5000, bytes, 100, 20_000)]), |_| {}));
    assert_eq!((end(64), end(65)), (Some(Severity::Info), Some(Severity::Warning)));
}

#[test]
fn workers_of_one_program_are_one_finding() {
    let mut world = World::new();
    world.add(listen("10.0.0.1:80", 0, 128));
    for n in 0..6 {
        let socket = unread(5000 + n, 8, 100, 20_000);
        world.hold(812 + u32::from(n), "php-fpm", 4, socket.inode).add(socket);
    }
    let outcome = later(world, |_| {}).check(check);
    let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
    assert_eq!((finding.severity, finding.subject.pids.len()), (Severity::Info, 6));
    assert!(finding.summary.starts_with("php-fpm (812) and 5 more have left 48 bytes"), "{}", finding.summary);
}

#[test]
fn a_stopped_server_hurts_its_clients_and_a_stopped_client_nobody() {
    let stopped = |accepted: bool, n: u16, waited| {
        let rows = (0..n).map(|p| unread(5000 + p, 90_000, 500_000, waited));
        let mut world = later(if accepted { served(rows) } else { world(rows) }, |_| {});
        world.now.processes.get_mut(&812).unwrap().state = Some('T');
        let finding = world.check(check).findings.remove(0);
        assert!(finding.causes.is("stopped") && finding.remedy[0] == RESUME, "{finding:?}");
        finding.severity
    };
    assert_eq!((stopped(true, 1, 8000), stopped(true, 1, 7999)), (Severity::High, Severity::Warning));
    assert_eq!((stopped(false, 4, 90_000), stopped(false, 5, 90_000)), (Severity::Info, Severity::Warning));
    let mut frozen = later(served([unread(5000, 100, 0, 20_000)]), |_| {});
    frozen.now.processes.get_mut(&812).unwrap().frozen = Some(true);
    let finding = frozen.check(check).findings.remove(0);
    assert!(finding.severity == Severity::High && finding.causes.is("frozen") && finding.remedy[0] == THAW);
}

#[test]
fn a_client_that_cannot_read_is_a_warning_when_its_loop_is_stuck() {
    let client = |threads: &[libc::c_long], full: bool| {
        let mut world = later(world([unread(5000, 100, 0, 20_000)]), |s| {
            assert!(s.info.as_mut().unwrap().set("rcv_wnd_bytes", if full { 0 } else { 9000 }));
        });
        let inode = Inode::new((80 << 16) + 5000);
        inspected(&mut world, threads, Some(EpollWatch { epoll_fd: 4, target_fd: 5000, inode, events: 0x19 }));
        severity(&world)
    };
    assert_eq!(client(&[libc::SYS_futex], true), Some(Severity::Warning));
    assert_eq!(client(&[libc::SYS_futex], false), Some(Severity::Info), "the peer can still send");
}

#[test]
fn one_sample_is_weak_and_asks_for_a_second() {
    let outcome = served([unread(5000, 100, 0, 10_000)]).check(check);
    assert_eq!((outcome.findings[0].severity, outcome.findings[0].confidence), (Severity::Warning, 0.6));
    assert!(outcome.wants_second.is_some());
    for row in [unread(5000, 100, 0, 9999), unread(5000, 90_000, 9, 99_000)] {
        let silent = served([row]).check(check);
        assert!(silent.findings.is_empty() && silent.wants_second.is_some());
    }
    assert_eq!(served([unread(5000, 100, 0, 999)]).check(check), Outcome::default());
}

#[test]
fn readers_however_slow_are_silent() {
    // It took some, and as much came again; all was read; another layer takes the data; nobody accepted it yet.
    let slow = later(world([unread(5000, 100, 0, 20_000)]), |s| {
        assert!(s.info.as_mut().unwrap().set("bytes_received", 150));
    });
    assert_eq!(slow.check(check), Outcome::default());
    let drained = later(world([unread(5000, 100, 0, 20_000)]), |s| s.recv_q_bytes = 0);
    assert_eq!(drained.check(check), Outcome::default());
    let tls = Socket { ulp: true, ..unread(5000, 100, 0, 20_000) };
    let leak = Socket { state: State::CloseWait, ..unread(5001, 100, 0, 20_000) };
    assert_eq!(later(world([tls, unheld(unread(5002, 9, 0, 20_000)), leak]), |_| {}).check(check), Outcome::default());
    // It came after the first sample: `earlier` had nothing to read.
    let mut fresh = world([unread(5000, 0, 100, 20_000)]);
    fresh.later(2000).now.sockets[0] = unread(5000, 100, 100, 1000);
    assert_eq!(fresh.check(check), Outcome::default());
}

#[test]
fn a_relay_whose_own_peer_does_not_read_only_explains() {
    let full = Socket { send_q_bytes: Some(9), ..row(State::Established, "10.0.0.1:7000", "10.0.0.7:90") };
    let full = timer(info(full, &[]), TimerKind::ZeroWindowProbe, 200, 0);
    let outcome = later(served([unread(5000, 100, 0, 20_000), full]), |_| {}).check(check);
    assert!(outcome.findings[0].severity == Severity::Info && outcome.findings[0].causes.is("back-pressure"));
    assert!(outcome.findings[0].remedy[0].contains("zero-window-peer"));
}

#[test]
fn the_writer_on_this_host_and_what_the_reader_does_are_told() {
    let mut world = later(world([unread(5000, 100, 0, 20_000)]), |_| {});
    let far = row(State::Established, "10.0.0.2:5000", "10.0.0.1:80");
    world.hold(900, "client", 9, far.inode).add(far);
    let watch = EpollWatch { epoll_fd: 4, target_fd: 5000, inode: Inode::new((80 << 16) + 5000), events: 1 << 30 };
    let inspection = Inspection { epoll_sets: 1, watches: vec![watch], ..Inspection::default() };
    world.now.processes.get_mut(&812).unwrap().inspection = Some(inspection);
    let outcome = world.check(check);
    let finding = &outcome.findings[0];
    assert_eq!(finding.subject.pids, [812, 900]);
    assert!(finding.summary.contains("written by client (900) on this host"), "{}", finding.summary);
    assert!(finding.evidence.contains(&("doing_class", Evidence::Text("oneshot_not_rearmed".into()))));
    assert!(finding.remedy[0].contains("EPOLL_CTL_MOD"));
}

#[test]
fn without_tcp_info_two_equal_queues_are_enough() {
    let bare = || Socket { info: None, ..unread(5000, 100, 0, 0) };
    assert!(world([bare()]).check(check).wants_second.is_some());
    assert_eq!(later(world([bare()]), |_| {}).check(check).findings.len(), 1);
    assert_eq!(later(world([bare()]), |s| s.recv_q_bytes = 99).check(check), Outcome::default());
}

#[test]
fn what_cannot_be_seen_has_no_list_of_equal_causes_and_rights_as_its_first_step() {
    let mut world = World::new();
    for n in 0..3 {
        world.add(unread(5000 + n, 90, 9, 20_000));
    }
    let mut now = later(world, |_| ());
    now.now.owners.unreadable = 40;
    let finding = now.check(check).findings.remove(0);
    assert!(finding.causes.left.is_empty(), "{:?}", finding.causes.left);
    assert!(finding.remedy[0].starts_with("Run tcpstate doctor as root"), "{:?}", finding.remedy);
}
