//! Windows that stay at zero, on snapshots made by hand.

#[cfg(test)]
use super::*;
use crate::diagnose::testkit::{World, info, listen, row, timer, unheld};
use crate::model::TimerKind;
use crate::model::snapshot::{Inspection, ThreadState};

/// Shut for so long, in a probe period of a minute or less.
fn shut(port: u16, since_ms: u64, fields: &[(&str, u64)]) -> Socket {
    let base =
        Socket { send_q_bytes: Some(65_536), ..row(State::Established, &format!("10.0.0.1:{port}"), "10.0.0.2:9000") };
    let waits = |n: u32| 200u64 << n;
    let backoff = (0..9).find(|n| (0..=*n).map(waits).sum::<u64>() > since_ms).unwrap_or(9);
    let left = (0..=backoff).map(waits).sum::<u64>().saturating_sub(since_ms);
    let mut all = vec![
        ("last_data_sent_ms", since_ms + 50),
        ("rwnd_limited_us", (since_ms + 5) * 1000),
        ("last_ack_recv_ms", 300),
        ("rto_us", 200_000),
        ("backoff", u64::from(backoff)),
    ];
    all.extend(fields);
    timer(info(base, &all), TimerKind::ZeroWindowProbe, u32::try_from(left).unwrap(), 0)
}

fn world(rows: impl IntoIterator<Item = Socket>) -> World {
    let mut world = World::new();
    for socket in rows {
        world.hold(812, "writer", u32::from(socket.local.port), socket.inode).add(socket);
    }
    world
}

#[test]
fn the_writer_is_named_with_how_long_and_how_much() {
    let outcome = world([shut(5000, 62_000, &[]), shut(5001, 11_000, &[])]).check(check);
    let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
    assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
    assert_eq!(
        finding.summary,
        "writer (812) cannot send on 2 connections with 10.0.0.2:9000 for at least 62 s, 128 KiB waiting: the peer \
         keeps its window at zero"
    );
    assert_eq!(finding.lasting_ms, Some(Measure::AtLeast(62_000)));
}

#[test]
fn a_server_that_takes_nothing_is_a_warning_after_a_minute() {
    assert_eq!(world([shut(5000, 59_999, &[])]).check(check).findings[0].severity, Severity::Info);
    assert_eq!(world([shut(5000, 60_000, &[])]).check(check).findings[0].severity, Severity::Warning);
    let gone = shut(5000, 20_000, &[]);
    let timer = gone.timer.map(|t| crate::model::Timer { retransmits: 2, ..t });
    let gone = Socket { timer, ..gone };
    assert!(world([gone]).check(check).findings[0].summary.contains("no longer answers"));
}

/// A server on port 80 of which `n` clients do not read, with these calls of its threads.
fn clients(n: u16, send_q: u32, threads: &[(libc::c_long, u64)]) -> World {
    let mut world = World::new();
    world.add(listen("10.0.0.1:80", 0, 128)).hold(812, "server", 3, 80 << 16);
    for port in 5000..5000 + n {
        let at = |s: Socket| Socket { send_q_bytes: Some(send_q), ..s };
        let base = row(State::Established, "10.0.0.1:80", &format!("10.0.0.2:{port}"));
        let shut = shut(port, 90_000, &[]);
        let socket = at(Socket { timer: shut.timer, info: shut.info.clone(), ..base });
        world.hold(812, "server", u32::from(port), socket.inode).add(socket);
    }
    let thread = |(call, arg): &(libc::c_long, u64)| ThreadState {
        tid: 812,
        name: "main".into(),
        state: Some('S'),
        wchan: None,
        syscall: u64::try_from(*call).ok(),
        syscall_arg0: Some(*arg),
    };
    let inspection = Inspection { threads: threads.iter().map(thread).collect(), ..Inspection::default() };
    world.now.processes.get_mut(&812).unwrap().inspection = Some(inspection);
    world
}

#[test]
fn what_a_client_does_not_read_is_its_choice_until_it_takes_what_others_need() {
    let severity = |world: &World| world.check(check).findings[0].severity;
    let (poll, send) = ((libc::SYS_ppoll, 9), |port| (libc::SYS_sendto, port));
    assert_eq!(severity(&clients(9, 1 << 20, &[poll])), Severity::Info);
    assert_eq!(severity(&clients(10, 1 << 20, &[poll])), Severity::Warning, "many at once");
    assert_eq!(severity(&clients(8, 4 << 20, &[poll])), Severity::Warning, "32 MiB");
    assert_eq!(severity(&clients(1, 9, &[send(5000), poll])), Severity::Info, "a thread of its own");
    let pool = [send(5000), send(5001), send(5002), send(5003), poll];
    assert_eq!(severity(&clients(4, 9, &pool)), Severity::Warning, "four of five threads");
    assert_eq!(severity(&clients(3, 9, &pool[1..])), Severity::Info);
    let mut only = clients(1, 9, &[send(5000)]);
    assert_eq!(severity(&only), Severity::Warning, "its only thread");
    only.now.sockets[0].recv_q_bytes = 1;
    assert_eq!(severity(&only), Severity::High, "and somebody waits to be accepted");
    // Another worker is free to accept.
    for pid in [813, 814] {
        only.hold(pid, "server", 3, 80 << 16);
    }
    assert_eq!(severity(&only), Severity::Info);
}

#[test]
fn a_reader_on_this_host_is_named_with_the_writer() {
    let mut world = world([shut(5000, 12_000, &[])]);
    let far = Socket { recv_q_bytes: 4000, ..row(State::Established, "10.0.0.2:9000", "10.0.0.1:5000") };
    let far = info(far, &[("bytes_received", 9000)]);
    world.hold(900, "reader", 9, far.inode).add(far).add(listen("10.0.0.2:9000", 0, 8));
    assert_eq!(world.check(check).findings[0].severity, Severity::Info, "it reads, if slowly");
    world.now.processes.get_mut(&900).unwrap().state = Some('T');
    let outcome = world.check(check);
    assert_eq!(outcome.findings[0].severity, Severity::Warning);
    let finding = &outcome.findings[0];
    assert_eq!((finding.subject.pid, &finding.subject.pids[..]), (Some(812), &[812, 900][..]));
    assert!(
        finding.summary.ends_with("reader (900) on this host does not read: the reader is stopped or frozen"),
        "{}",
        finding.summary
    );
    assert!(finding.causes.is("reader-halted"));
    assert_eq!(finding.next, "tcpstate list -o -i --pid 812 --peer 10.0.0.2:9000", "its rows, not those of the reader");
    // Whose queue is empty has read: a moment later the window is open, or something is wrong.
    world.now.sockets[1].recv_q_bytes = 0;
    let read = world.check(check);
    assert!(read.findings.is_empty() && read.wants_second.is_some(), "{read:?}");
}

#[test]
fn what_the_other_end_does_not_show_is_listed() {
    let left = |rows: Vec<Socket>, acked: Option<u64>| -> Vec<&'static str> {
        let mut world = world(rows);
        if let Some(acked) = acked {
            world.later(2000);
            assert!(world.now.sockets[0].info.as_mut().unwrap().set("bytes_acked", acked));
        }
        world.check(check).findings[0].causes.left.iter().map(|h| h.cause.id).collect()
    };
    let one = || vec![shut(5000, 20_000, &[])];
    assert_eq!(
        left(one(), None),
        ["reader-stuck", "reader-slow", "reader-holds-back", "reader-halted", "window-not-reopened"]
    );
    assert_eq!(left(one(), Some(0)), left(one(), None));
    assert_eq!(
        left(one(), Some(1)),
        ["reader-slow", "reader-holds-back", "window-not-reopened"],
        "the window opened in between"
    );
    let gone = |probes| {
        let row = shut(5000, 20_000, &[]);
        let timer = row.timer.map(|t| crate::model::Timer { retransmits: probes, ..t });
        vec![Socket { timer, ..row }]
    };
    assert_eq!(left(gone(2), None), ["peer-gone"]);
    assert!(left(gone(1), None).contains(&"peer-gone") && left(gone(1), None).len() == 6);
}

#[test]
fn a_stuck_server_on_this_host_is_high_after_a_minute() {
    let severity = |since, taken: u64, serves: bool| {
        let mut world = world([shut(5000, since, &[])]);
        let far = Socket { recv_q_bytes: 4000, ..row(State::Established, "10.0.0.2:9000", "10.0.0.1:5000") };
        let far = info(far, &[("bytes_received", 4000 + taken)]);
        world.hold(900, "reader", 9, far.inode).add(far);
        if serves {
            world.add(listen("10.0.0.2:9000", 0, 8));
        }
        world.check(check).findings[0].severity
    };
    assert_eq!((severity(59_999, 0, true), severity(60_000, 0, true)), (Severity::Warning, Severity::High));
    assert_eq!(severity(60_000, 1, true), Severity::Info, "it reads, if slowly");
    assert_eq!(severity(60_000, 0, false), Severity::Info, "a client reads when it likes");
}

#[test]
fn a_moment_an_open_window_an_orphan_and_a_late_writer_are_silent() {
    let orphan = unheld(Socket { state: State::FinWait1, shutdown: Some(3), ..shut(5002, 90_000, &[]) });
    let rows = [
        shut(5000, 9_999, &[]),
        // Corked: the timer runs, the window is open.
        shut(5001, 90_000, &[("snd_wnd_bytes", 1)]),
        orphan,
        // The last data left long ago, and the first probe is still to come: it was written just now.
        shut(5003, 90_000, &[("backoff", 0)]),
        Socket { send_q_bytes: Some(0), ..shut(5004, 90_000, &[]) },
    ];
    assert_eq!(world(rows).check(check), Outcome::default());
}

#[test]
fn a_source_without_times_is_not_judged() {
    let outcome = world([Socket { info: None, ..shut(5000, 0, &[]) }]).check(check);
    assert!(outcome.findings.is_empty() && outcome.not_checked.is_some());
}

/// A reader of another namespace that has taken all before the first of two samples, and the window as its kernel offers it.
fn taken(offered: (u64, u64), unread: (u32, u32)) -> World {
    let mut world = world([shut(5000, 12_000, &[("segs_in", 9)])]);
    let far = |n: u64, unread| {
        let far = Socket { recv_q_bytes: unread, ..row(State::Established, "10.0.0.2:9000", "10.0.0.1:5000") };
        info(far, &[("bytes_received", 9000), ("rcv_wnd_bytes", n)])
    };
    let before = far(offered.0, unread.0);
    world.hold(900, "reader", 9, before.inode).add(before).later(2000);
    world.now.sockets[1] = far(offered.1, unread.1);
    world
}

#[test]
fn a_window_that_stays_shut_after_all_was_read_is_not_the_readers_fault() {
    let mut world = taken((65_536, 65_536), (0, 0));
    let outcome = world.check(check);
    let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
    assert!(finding.causes.is("window-not-reopened"), "{finding:#?}");
    assert_eq!(
        (finding.severity, finding.subject.pid, &finding.subject.pids[..]),
        (Severity::Info, Some(812), &[812, 900][..]),
        "the next probe may bring it"
    );
    assert!(
        finding.summary.ends_with("reader (900) has read all and offers 64 KiB, and here the window stays at zero"),
        "{}",
        finding.summary
    );
    assert_eq!(finding.remedy[..2], [COMPARE, USER_TIMEOUT]);
    assert!(finding.evidence.contains(&("answers_since", Evidence::Count(0))));
    // An answer to a probe came meanwhile: no update was lost, each of them is.
    assert!(world.now.sockets[0].info.as_mut().unwrap().set("segs_in", 10));
    let finding = world.check(check).findings.remove(0);
    assert!(finding.evidence.contains(&("answers_since", Evidence::Count(1))), "{finding:#?}");
    assert_eq!((finding.severity, &finding.remedy[1][..]), (Severity::Warning, AGAIN));
    // It opens now; it had been full a moment ago; the kernel of the reader has not offered anything yet.
    for silent in [taken((0, 65_536), (0, 0)), taken((65_536, 65_536), (1, 0)), taken((65_536, 0), (0, 0))] {
        assert_eq!(silent.check(check).findings, []);
    }
    // Data is left again: the reader is what it was.
    assert!(!taken((65_536, 65_536), (0, 1)).check(check).findings[0].causes.is("window-not-reopened"));
}

#[test]
fn an_old_kernel_that_received_two_gibibytes_may_be_deaf_for_windows() {
    let first = |kernel: &str, received: u64| {
        let mut world = world([shut(5000, 20_000, &[("bytes_received", received)])]);
        world.now.kernel = kernel.into();
        world.check(check).findings.remove(0)
    };
    let deaf = first("4.19.0-10-amd64", 1 << 31);
    assert_eq!(deaf.causes.left[0].cause.id, "window-not-reopened");
    assert_eq!(deaf.remedy[0], OLD_KERNEL);
    let leads = |finding: &Finding| finding.causes.left[0].cause.id;
    assert_eq!(leads(&first("4.19.0-10-amd64", (1 << 31) - 1)), "reader-stuck");
    assert_eq!(leads(&first("5.10.0", 1 << 31)), "reader-stuck");
    assert_eq!(leads(&first("?", 1 << 31)), "reader-stuck", "nobody knows");
}
