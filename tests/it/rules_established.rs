//! The rules on open connections, on the real kernel: readers that do not read, peers that do not answer, halves that
//! vanished. Comes in: helpers as either end, a wire that can be cut. Goes out: who is named at both ends, with which
//! numbers, and what stays silent. Never here: ten seconds of waiting; the thresholds that are policy are set lower.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tcpstate::diagnose::{self, Diagnosis, Finding, Severity, Thresholds, View};
use tcpstate::model::{Snapshot, State};

use crate::harness::helper::Helper;
use crate::harness::sock::Sock;
use crate::harness::veth::{Side, VethPair};
use crate::harness::{Netns, diag, finish, in_netns, skip, wait_for};
use crate::judge::{calm, judge, number, once, only, pause, silent, snapshot, twice};
use crate::states::link::{self, Last};
use crate::states::{self, Ports};

const RULES: [&str; 6] = [
    "dead-peer-retransmit",
    "zero-window-peer",
    "recv-queue-stuck",
    "send-queue-stuck",
    "idle-no-keepalive",
    "half-open-mirror-missing",
];

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Thresholds in seconds instead of tens of seconds.
fn impatient() -> Thresholds {
    let mut thresholds = Thresholds::default();
    for (name, seconds) in
        [("zero-window-warn-seconds", 1.0), ("zero-window-high-seconds", 30.0), ("queue-stuck-seconds", 1.0)]
    {
        thresholds.set(name, seconds).expect("a threshold");
    }
    thresholds
}

fn judge_soon(now: &Snapshot, before: Option<&Snapshot>, rules: &[&str]) -> Diagnosis {
    diagnose::run(&View::new(now, before, &impatient()), Some(rules))
}

#[track_caller]
fn of<'a>(diagnosis: &'a Diagnosis, rule: &str) -> &'a Finding {
    diagnosis.findings.iter().find(|f| f.rule == rule).unwrap_or_else(|| panic!("no {rule} in {diagnosis:#?}"))
}

/// Buffers so small that a few kilobytes fill both.
fn small_buffers(ns: &Netns) {
    ns.set_sysctl("ipv4/tcp_rmem", "4096 8192 8192");
    ns.set_sysctl("ipv4/tcp_wmem", "4096 65536 65536");
}

/// A reader that never reads and a writer that has filled its buffer, each in a process of its own.
fn stuck_pair(ns: &Netns, port: u16) -> (Helper, Helper) {
    small_buffers(ns);
    let (mut reader, mut writer) = (Helper::start(ns), Helper::start(ns));
    reader.rename(b"reader");
    writer.rename(b"writer");
    let listener = reader.make(&format!("listen {port} 8")).remove(0);
    let client = writer.connect(loopback(port), 1).remove(0);
    reader.accept(&listener, 1);
    writer.ask(&format!("send {} 20000", client.fd.expect("held")));
    wait_for("a zero window", || {
        let shut = ns.run(diag::dump).iter().any(|r| r.timer.is_some_and(|t| t.kind == 4));
        if shut { Ok(()) } else { Err("no probe timer".into()) }
    });
    // The first probe, after 200 ms, still carries what was left of the window.
    pause(500);
    (reader, writer)
}

#[test]
fn a_reader_that_does_not_read_is_named_from_both_sides() {
    in_netns(|ns| {
        let started = Instant::now();
        let (reader, writer) = stuck_pair(ns, 8200);
        // The window at zero a moment ago: with the thresholds of every day nobody is alarmed.
        calm(&twice(ns, &RULES, || pause(600)));
        pause(600);
        let before = snapshot(ns);
        pause(600);
        let now = snapshot(ns);
        let diagnosis = judge_soon(&now, Some(&before), &RULES);
        let both = {
            let mut pids = vec![reader.pid(), writer.pid()];
            pids.sort_unstable();
            pids
        };
        let found: Vec<&str> = diagnosis.findings.iter().map(|f| f.rule).collect();
        assert_eq!(found, ["recv-queue-stuck", "zero-window-peer"], "{diagnosis:#?}");

        let send = of(&diagnosis, "zero-window-peer");
        assert_eq!(
            (send.severity, send.subject.pid, &send.subject.pids),
            (Severity::Warning, Some(writer.pid()), &both)
        );
        assert_eq!(send.subject.destination.map(|d| d.to_string()).as_deref(), Some("127.0.0.1:8200"));
        let end = format!("reader ({}) on this host does not read", reader.pid());
        assert!(send.summary.starts_with(&format!("writer ({})", writer.pid())), "{}", send.summary);
        assert!(send.summary.ends_with(&end), "{}", send.summary);
        assert_eq!(number(send, "peers_that_do_not_answer"), 0, "the reader's kernel answers: {send:#?}");
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).expect("a short time");
        assert!((1000..=elapsed_ms).contains(&number(send, "lasted_ms")), "{elapsed_ms}: {send:#?}");
        let waits = number(send, "send_queue_bytes");

        let recv = of(&diagnosis, "recv-queue-stuck");
        assert_eq!((recv.severity, recv.subject.pid, &recv.subject.pids), (Severity::High, Some(reader.pid()), &both));
        assert!(recv.summary.contains(&format!("written by writer ({})", writer.pid())), "{}", recv.summary);
        assert_eq!(number(recv, "peers_blocked"), 1, "{recv:#?}");
        assert_eq!(number(recv, "unread_bytes") + waits, 20_000, "{recv:#?}");
        assert_eq!(recv.inspect.first().map(|(pid, _)| *pid), Some(reader.pid()));
    });
}

#[test]
fn one_sample_of_a_stuck_reader_is_weak_and_what_it_does_is_told() {
    in_netns(|ns| {
        let (reader, writer) = stuck_pair(ns, 8210);
        wait_for("data of a second ago", || {
            let diagnosis = judge_soon(&snapshot(ns), None, &["recv-queue-stuck"]);
            if diagnosis.findings.is_empty() {
                return Err("nothing yet".into());
            }
            assert!(diagnosis.wants_second.len() == 1 && only(&diagnosis).confidence < 0.7, "{diagnosis:#?}");
            Ok(())
        });
        // The same from the command line, with a look into the reader.
        let output =
            finish(ns.product().args(["doctor", "--json", "--interval", "500ms", "--rule", "recv-queue-stuck"]));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
        let finding = &report["findings"][0];
        assert_eq!(finding["subject"]["pid"], reader.pid(), "{report:#}");
        assert_eq!(finding["evidence"]["doing_class"], "no_epoll", "{report:#}");
        assert!(finding["evidence"]["threads"].is_array(), "{report:#}");
        drop(writer);
    });
}

#[test]
fn a_send_queue_that_stands_for_a_moment_is_explained_by_its_cause() {
    in_netns(|ns| {
        let (reader, writer) = stuck_pair(ns, 8220);
        let diagnosis = twice(ns, &["send-queue-stuck"], || pause(800));
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(writer.pid())), "{finding:#?}");
        assert!(finding.causes.is("peer-window"), "{finding:#?}");
        assert!(number(finding, "not_sent_bytes") > 1000 && number(finding, "in_flight_bytes") == 0, "{finding:#?}");
        assert!(number(finding, "limited_by_window_between_samples_ms") >= 700, "{finding:#?}");
        drop(reader);
    });
}

/// The near miss of all of them: a connection in steady use, one whose reader is slow and one that is idle.
#[test]
fn connections_in_use_are_silent() {
    in_netns(|ns| {
        small_buffers(ns);
        let listener = Sock::listening(loopback(8230), 8);
        let busy = (Sock::connected(loopback(8230), None), listener.accept());
        let slow = (Sock::connected(loopback(8230), None), listener.accept());
        let _idle = (Sock::connected(loopback(8230), None), listener.accept());
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    busy.0.send(512);
                    busy.1.receive(512);
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            // The writer is always ahead of its reader: the window is zero most of the time.
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    slow.0.send(2048);
                }
            });
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    slow.1.receive(2048);
                    std::thread::sleep(Duration::from_millis(20));
                }
                // What the writer is still waiting to send.
                while slow.1.unread() > 0 {
                    slow.1.receive(slow.1.unread() as usize);
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            pause(1200);
            let before = snapshot(ns);
            let first = judge_soon(&before, None, &RULES);
            pause(1500);
            let now = snapshot(ns);
            stop.store(true, Ordering::Relaxed);
            assert_eq!(first.findings, [], "{first:#?}");
            silent(&judge_soon(&now, Some(&before), &RULES));
        });
    });
}

/// Waits until so many rows have been repeated so often.
fn wait_for_repeats(ns: &Netns, rows: usize, repeats: u8) {
    wait_for("retransmissions", || {
        let seen = ns.run(diag::dump);
        let of = seen.iter().filter(|r| {
            r.state == State::Established && r.timer.is_some_and(|t| t.kind == 1 && t.retransmits >= repeats)
        });
        let ready = of.count();
        if ready >= rows { Ok(()) } else { Err(format!("{ready} of {rows}")) }
    });
}

#[test]
fn a_peer_that_does_not_answer_is_named_and_keepalive_probes_are_not_data() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        ns.set_sysctl("ipv4/tcp_retries2", "8");
        let held = link::unreachable(&wire, 8240, 2, &[Last::Sent(100), Last::Keepalive]);
        let fresh = snapshot(ns);
        if fresh.sockets.iter().all(|s| s.timer.is_none_or(|t| t.retransmits < 3)) {
            silent(&judge(&fresh, None, &["dead-peer-retransmit"]));
        }
        wait_for_repeats(ns, 2, 3);
        let diagnosis = once(ns, &["dead-peer-retransmit"]);
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, number(finding, "count")), (Severity::Warning, 2), "{finding:#?}");
        assert_eq!(finding.subject.pid, Some(std::process::id()));
        let peer = finding.subject.destination.map(|d| d.to_string());
        assert_eq!(peer.as_deref(), Some("10.77.0.2:8240"));
        assert_eq!(number(finding, "send_queue_bytes"), 200);
        assert!((1000..20_000).contains(&number(finding, "peer_silence_ms")), "{finding:#?}");
        // 8 retries: 102.2 s in all.
        assert!((80_000..=101_500).contains(&number(finding, "gives_up_in_ms")), "{finding:#?}");
        drop(held);
    });
}

#[test]
fn keepalive_probes_without_an_answer_are_told_until_one_comes() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let rule = ["keepalive-unanswered"];
        let listener = wire.far.run(|| Sock::listening(Side::Far.at(8260), 8));
        let clients: Vec<Sock> = ns.run(|| (0..3).map(|_| Sock::connected(Side::Far.at(8260), None)).collect());
        let _servers: Vec<Sock> = clients.iter().map(|_| listener.accept()).collect();
        for client in &clients {
            client.set_keepalive(Duration::from_secs(1), Duration::from_secs(1));
        }
        pause(1500);
        silent(&once(ns, &rule));
        wire.cut(Side::Far);
        let finding = wait_for("three connections without an answer", || {
            let found = once(ns, &rule).findings;
            let all = found.into_iter().find(|f| number(f, "connections") == 3);
            all.ok_or_else(|| "fewer".to_owned())
        });
        assert_eq!(
            (finding.severity, finding.subject.pid),
            (Severity::Warning, Some(std::process::id())),
            "{finding:#?}"
        );
        assert_eq!(finding.causes.left[0].cause.id, "peer-gone", "{finding:#?}");
        wire.mend(Side::Far);
        wait_for("an answer", || {
            let found = once(ns, &rule).findings;
            if found.is_empty() { Ok(()) } else { Err(format!("{found:#?}")) }
        });
    });
}

/// Sets an option that the harness has no name for.
fn set_option(sock: &Sock, level: libc::c_int, name: libc::c_int, value: *const libc::c_void, length: usize) {
    let length = libc::socklen_t::try_from(length).expect("a short option");
    // SAFETY: the kernel reads `length` bytes, which every caller gives the size of.
    let result = unsafe { libc::setsockopt(sock.fd(), level, name, value, length) };
    assert_eq!(result, 0, "setsockopt {level} {name}: {}", std::io::Error::last_os_error());
}

/// Makes a socket deaf: a filter that accepts no segment stands before it (`tcp_filter`).
fn deafen(sock: &Sock) {
    let mut program = [libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 }];
    let program = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    set_option(sock, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const program).cast(), size_of_val(&program));
}

#[test]
fn a_deaf_peer_on_this_host_is_named_beside_the_writer() {
    in_netns(|ns| {
        let mut writer = Helper::start(ns);
        let listener = Sock::listening(loopback(8250), 8);
        let client = writer.connect(loopback(8250), 1).remove(0);
        let server = listener.accept();
        deafen(&server);
        writer.ask(&format!("send {} 300", client.fd.expect("held")));
        wait_for_repeats(ns, 1, 3);
        let diagnosis = once(ns, &["dead-peer-retransmit"]);
        let finding = only(&diagnosis);
        let mut both = vec![writer.pid(), std::process::id()];
        both.sort_unstable();
        assert_eq!((finding.subject.pid, &finding.subject.pids), (Some(writer.pid()), &both), "{finding:#?}");
        assert!(finding.summary.contains(&format!("({}) of this host", std::process::id())), "{}", finding.summary);
        assert_eq!(number(finding, "send_queue_bytes"), 300);
    });
}

#[test]
fn silence_beyond_the_keepalive_time_is_found_where_nothing_checks() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let rule = ["idle-no-keepalive"];
        let listener = wire.far.run(|| Sock::listening(Side::Far.at(8260), 8));
        let clients: Vec<Sock> = (0..3).map(|_| Sock::connected(Side::Far.at(8260), None)).collect();
        let servers: Vec<Sock> = (0..3).map(|_| listener.accept()).collect();
        clients[2].set_keepalive(Duration::from_secs(3600), Duration::from_secs(75));
        // Both ends here: whoever ends says so.
        let pair = states::established(ns, Ports::server(8261), 2);
        silent(&once(ns, &rule));
        ns.set_sysctl("ipv4/tcp_keepalive_time", "1");
        pause(1100);
        let diagnosis = once(ns, &rule);
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(std::process::id())), "{finding:#?}");
        assert_eq!(number(finding, "count"), 2, "{finding:#?}");
        assert!((1000..20_000).contains(&number(finding, "idle_min_ms")), "{finding:#?}");
        assert_eq!(number(finding, "keepalive_time_ms"), 1000);
        // A word from the peer, and one of them is fresh again.
        servers[0].send(1);
        clients[0].receive(1);
        let after = once(ns, &rule);
        assert_eq!(number(only(&after), "count"), 1);
        drop(pair);
    });
}

/// Makes a socket vanish without a word: closed in repair mode (`__tcp_close`).
pub fn vanish(sock: Sock) {
    let on: libc::c_int = 1;
    set_option(&sock, libc::IPPROTO_TCP, libc::TCP_REPAIR, (&raw const on).cast(), size_of_val(&on));
    sock.close();
}

#[test]
fn a_half_whose_other_half_vanished_is_named_with_who_served_it() {
    in_netns(|ns| {
        let rule = ["half-open-mirror-missing"];
        let mut client = Helper::start(ns);
        let listener = Sock::listening(loopback(8270), 8);
        let rows = client.connect(loopback(8270), 3);
        let mut servers: Vec<Sock> = (0..3).map(|_| listener.accept()).collect();
        silent(&once(ns, &rule));
        silent(&twice(ns, &rule, || pause(50)));
        vanish(servers.remove(0));
        let first = once(ns, &rule);
        assert!(first.findings.is_empty() && first.wants_second.len() == 1, "{first:#?}");
        let diagnosis = twice(ns, &rule, || pause(50));
        let finding = only(&diagnosis);
        let mut both = vec![client.pid(), std::process::id()];
        both.sort_unstable();
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(client.pid())), "{finding:#?}");
        assert_eq!((&finding.subject.pids, number(finding, "count")), (&both, 1), "{finding:#?}");
        let tuple = format!("{} > {}", rows[0].local, rows[0].peer);
        assert!(format!("{:?}", finding.evidence).contains(&tuple), "{finding:#?}");
        assert!((finding.confidence - 0.85).abs() < 1e-9);
        // The peer said goodbye and vanished before the kernel would have forgotten it.
        servers[0].shutdown();
        wait_for("CLOSE_WAIT", || {
            let there = ns.run(diag::dump).iter().any(|r| r.state == State::CloseWait);
            if there { Ok(()) } else { Err("none".into()) }
        });
        silent_but(&twice(ns, &rule, || pause(50)), 1);
        vanish(servers.remove(0));
        client.close(&rows[0]);
        let diagnosis = twice(ns, &rule, || pause(50));
        assert!((only(&diagnosis).confidence - 0.97).abs() < 1e-9, "{diagnosis:#?}");
    });
}

/// One finding, on so many connections.
#[track_caller]
fn silent_but(diagnosis: &Diagnosis, count: u64) {
    assert_eq!(number(only(diagnosis), "count"), count, "{diagnosis:#?}");
}

/// Halves that exist under every other form are no lonely ones: remainders, requests, accept queues.
#[test]
fn halves_in_every_other_form_count() {
    in_netns(|ns| {
        let held = states::all_states(ns);
        let diagnosis = twice(ns, &["half-open-mirror-missing"], || pause(50));
        assert_eq!(diagnosis.findings, [], "{diagnosis:#?}");
        drop(held);
    });
}

#[test]
fn silence_beyond_the_path_s_limit_is_explained_unless_keepalive_comes_first() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(why) => return skip(&why),
        };
        let server = wire.far.run(|| Sock::listening(Side::Far.at(7900), 8));
        let (plain, watched) = (Sock::connected(Side::Far.at(7900), None), Sock::connected(Side::Far.at(7900), None));
        // The kernel counts keepalive in seconds, and the limit is between one and two.
        watched.set_keepalive(Duration::from_secs(1), Duration::from_secs(1));
        pause(1600);
        let of = |seconds: f64| {
            let mut thresholds = Thresholds::default();
            thresholds.set("path-idle-seconds", seconds).expect("a threshold");
            let now = snapshot(ns);
            diagnose::run(&View::new(&now, None, &thresholds), Some(&["path-idle-limit"]))
        };
        let diagnosis = of(1.5);
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, number(finding, "count")), (Severity::Info, 1), "{finding:#?}");
        assert_eq!((number(finding, "never_checked"), number(finding, "beyond_limit")), (1, 1));
        assert!(number(finding, "idle_max_ms") >= 1600);
        silent(&of(60.0));
        silent(&of(0.0));
        // It says nothing, and what it keeps open is answered.
        drop((plain, watched, server));
    });
}
