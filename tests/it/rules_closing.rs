//! The rules on connections that cannot finish, on the real kernel: peers that do not read, do not acknowledge, do not
//! close. Comes in: helpers and a wire that can be cut. Goes out: who is named, with which numbers, and what stays
//! silent. Never here: sixty seconds of waiting (what the kernel would need so long for is said where it is set).

use tcpstate::diagnose::Severity;
use tcpstate::model::counter::SockStat;
use tcpstate::model::sysctl::Sysctl;
use tcpstate::model::{Snapshot, State};

use crate::harness::helper::Helper;
use crate::harness::script::Script;
use crate::harness::sock::Sock;
use crate::harness::veth::{Side, VethPair};
use crate::harness::{Netns, diag, in_netns, skip, wait_for};
use crate::judge::{judge, number, once, only, pause, silent, snapshot, until_found, words};
use crate::states::link::{self, Last};

/// Waits until every row of this state has been repeated so often.
fn wait_for_repeats(ns: &Netns, state: State, rows: usize, repeats: u8) {
    wait_for("retransmissions", || {
        let seen = ns.run(diag::dump);
        let of = seen.iter().filter(|r| r.state == state && r.timer.is_some_and(|t| t.retransmits >= repeats));
        let ready = of.count();
        if ready >= rows { Ok(()) } else { Err(format!("{ready} of {rows} in {state}")) }
    });
}

#[test]
fn orphans_before_a_shut_window_name_who_does_not_read() {
    in_netns(|ns| {
        let rule = ["fin-wait1-stuck"];
        let mut helper = Helper::start(ns);
        helper.make("fin_wait1 8000 2 closed");
        let diagnosis = until_found(ns, &rule);
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, finding.rule), (Severity::Info, "fin-wait1-stuck"));
        assert_eq!(finding.subject.destination.map(|d| d.to_string()).as_deref(), Some("127.0.0.1:8000"));
        let reader =
            format!("tcpstate-helper ({}) on this host does not read what is left (window at zero)", helper.pid());
        assert!(finding.summary.ends_with(&reader), "{}", finding.summary);
        assert!(number(finding, "orphans") == number(finding, "count") && number(finding, "send_queue_bytes") > 1000);
        assert!(number(finding, "backoff_max") >= 3 && number(finding, "other_end_unread_bytes") > 1000);
        assert_eq!(finding.inspect.first().map(|(pid, _)| *pid), Some(helper.pid()));
    });
}

/// The near miss: the same situation before three probes, and a held one that is acknowledged.
#[test]
fn a_close_that_is_only_slow_is_silent() {
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        helper.make("fin_wait2 8010 2");
        helper.make("time_wait 8011 2 client");
        let rules = ["fin-wait1-stuck", "last-ack-stuck", "closing-stuck", "fin-wait2-held", "fin-wait2-orphan-pileup"];
        silent(&once(ns, &rules));
        helper.make("fin_wait1 8012 2 closed");
        let now = snapshot(ns);
        let backoff = |s: &tcpstate::model::Socket| s.info.as_deref().and_then(tcpstate::model::TcpInfo::backoff);
        // Making it takes some probes' time on a busy machine; then there is nothing to check.
        if now.sockets.iter().all(|s| s.state != State::FinWait1 || backoff(s) < Some(3)) {
            silent(&judge(&now, None, &rules));
        }
    });
}

#[test]
fn a_peer_that_vanished_leaves_fin_wait1_and_last_ack() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let rules = ["fin-wait1-stuck", "last-ack-stuck", "closing-stuck"];
        let held = link::unreachable(&wire, 8100, 2, &[Last::Closed, Last::ClosedAfterPeer]);
        let fresh = snapshot(ns);
        if fresh.sockets.iter().all(|s| s.timer.is_none_or(|t| t.retransmits < 3)) {
            silent(&judge(&fresh, None, &rules));
        }
        wait_for_repeats(ns, State::FinWait1, 2, 3);
        wait_for_repeats(ns, State::LastAck, 2, 3);
        let diagnosis = once(ns, &rules);
        let found: Vec<(&str, Severity, Option<u16>)> =
            diagnosis.findings.iter().map(|f| (f.rule, f.severity, f.subject.destination.map(|d| d.port))).collect();
        assert_eq!(
            found,
            [("fin-wait1-stuck", Severity::Info, Some(8100)), ("last-ack-stuck", Severity::Info, Some(8101))],
            "{diagnosis:#?}"
        );
        for finding in &diagnosis.findings {
            assert_eq!((number(finding, "count"), number(finding, "orphans")), (2, 2), "{finding:#?}");
            assert!(finding.summary.contains("does not acknowledge the FIN and was last heard"), "{}", finding.summary);
            // 8 retries of an orphan: 102.2 s from the first repetition.
            assert!((80_000..=103_000).contains(&number(finding, "ends_within_ms")), "{finding:#?}");
        }
        drop(held);
    });
}

#[test]
fn many_last_acks_are_a_warning_when_they_use_up_the_orphans() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let held = link::unreachable(&wire, 8110, 10, &[Last::ClosedAfterPeer]);
        wait_for_repeats(ns, State::LastAck, 10, 3);
        let mut now = snapshot(ns);
        // The limit is the host's and not to be touched: it is written into the snapshot.
        for (limit, severity) in [(40, Severity::Warning), (41, Severity::Info)] {
            now.netns[0].sysctls.insert(Sysctl::Ipv4TcpMaxOrphans, vec![limit]);
            let diagnosis = judge(&now, None, &["last-ack-stuck"]);
            let finding = only(&diagnosis);
            assert_eq!((finding.severity, number(finding, "count")), (severity, 10));
        }
        drop(held);
    });
}

/// Both ends close while only our packets are lost: the peer's FIN arrives, again and again.
#[test]
fn closing_tells_that_only_our_packets_are_lost() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let listener = wire.far.run(|| Sock::listening(Side::Far.at(8120), 8));
        let client = ns.run(|| Sock::connected(Side::Far.at(8120), None));
        let server = listener.accept();
        wire.cut(Side::Near);
        client.close();
        server.shutdown();
        wait_for_repeats(ns, State::Closing, 1, 3);
        let diagnosis = once(ns, &["closing-stuck", "fin-wait1-stuck", "last-ack-stuck"]);
        let finding = only(&diagnosis);
        assert_eq!((finding.rule, finding.severity), ("closing-stuck", Severity::Info));
        assert_eq!(finding.subject.destination.map(|d| d.to_string()).as_deref(), Some("10.77.0.2:8120"));
        assert!(finding.summary.ends_with("the peer's packets arrive and ours do not"), "{finding:#?}");
        assert_eq!(words(finding, "loss"), "one way: ours are lost");
        drop(server);
    });
}

/// A minute of silence, which the kernel would take a minute for: the facts are made older, all else is real.
fn a_minute_later(snapshot: &mut Snapshot) {
    for socket in snapshot.sockets.iter_mut().filter(|s| s.state == State::FinWait2) {
        if let Some(info) = socket.info.as_mut() {
            let silent = u64::from(info.last_ack_recv_ms().expect("told by every kernel"));
            assert!(info.set("last_ack_recv_ms", silent + 60_000));
        }
    }
}

#[test]
fn half_closed_connections_name_both_who_keeps_them_and_who_does_not_close() {
    in_netns(|ns| {
        let rule = ["fin-wait2-held"];
        let mut backend = Helper::start(ns);
        let listener = backend.make("listen 8200 128").remove(0);
        let mut client = Helper::start(ns);
        let rows = client.connect(listener.local, 3);
        backend.accept(&listener, 3);
        for row in &rows[..2] {
            client.ask(&format!("shutdown {}", row.fd.expect("held")));
        }
        wait_for("FIN_WAIT2", || {
            let seen = ns.run(diag::dump).iter().filter(|r| r.state == State::FinWait2).count();
            if seen == 2 { Ok(()) } else { Err(seen.to_string()) }
        });
        let mut now = snapshot(ns);
        silent(&judge(&now, None, &rule));
        a_minute_later(&mut now);
        let diagnosis = judge(&now, None, &rule);
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(client.pid())));
        assert_eq!((number(finding, "count"), number(finding, "with_keepalive")), (2, 0));
        let end = format!("tcpstate-helper ({}) on this host has not closed", backend.pid());
        assert!(finding.summary.ends_with(&end), "{}", finding.summary);
        // Two are half of four descriptors.
        now.processes.get_mut(&client.pid()).expect("its facts").fd_soft = Some(4);
        assert_eq!(only(&judge(&now, None, &rule)).severity, Severity::Warning);
        // A third one comes of age.
        client.ask(&format!("shutdown {}", rows[2].fd.expect("held")));
        wait_for("FIN_WAIT2", || {
            let seen = ns.run(diag::dump).iter().filter(|r| r.state == State::FinWait2).count();
            if seen == 3 { Ok(()) } else { Err(seen.to_string()) }
        });
        let mut later = snapshot(ns);
        a_minute_later(&mut later);
        later.processes.get_mut(&client.pid()).expect("its facts").fd_soft = Some(30);
        assert_eq!(only(&judge(&later, Some(&now), &rule)).severity, Severity::Warning, "it grows, to a tenth");
    });
}

/// Clients that read an answer, say with their FIN that they are done, and wait for the end. Arguments: port, seconds until the
/// server closes, `fork` for a process per connection.
const ASKS_AND_WAITS: &str = r#"
import os, socket, sys, threading, time
port, after = int(sys.argv[1]), float(sys.argv[2])
L = socket.create_server(("127.0.0.1", port), backlog=64)
def serve():
    while 1:
        c = L.accept()[0]; c.recv(9); c.sendall(b"answer")
        threading.Timer(after, c.close).start()
def ask():
    s = socket.create_connection(("127.0.0.1", port)); s.sendall(b"request"); s.recv(9); s.shutdown(socket.SHUT_WR)
    s.recv(9); s.close()
children = []
threading.Thread(target=serve, daemon=True).start()
def clients():
    for n in range(36):
        if len(sys.argv) > 3:
            pid = os.fork()
            if pid == 0:
                L.close(); ask(); os._exit(0)
            children.append(pid)
        else: threading.Thread(target=ask, daemon=True).start()
        time.sleep(0.12)
        if n == 27: print("grows", flush=True)
threading.Thread(target=clients, daemon=True).start()
sys.stdin.readline()
for pid in children: os.kill(pid, 9)
os._exit(0)
"#;

#[test]
fn half_closed_connections_that_only_come_are_told_before_their_minute() {
    for (after, fork, found) in [("60", false, true), ("60", true, true), ("0.5", false, false)] {
        in_netns(|ns| {
            let rule = ["fin-wait2-held"];
            let args: &[&str] = if fork { &["8210", after, "fork"] } else { &["8210", after] };
            let Some(mut script) = Script::start(ns, ASKS_AND_WAITS, args) else { return };
            assert_eq!(script.line(), "grows");
            let before = snapshot(ns);
            pause(1000);
            let diagnosis = judge(&snapshot(ns), Some(&before), &rule);
            if !found {
                return silent(&diagnosis);
            }
            let finding = only(&diagnosis);
            assert_eq!((finding.severity, finding.causes.left[0].cause.id), (Severity::Warning, "peer-never-closes"));
            assert!((16..=36).contains(&number(finding, "count")), "{finding:#?}");
            assert_eq!(number(finding, "nothing_due"), number(finding, "count"));
            let of =
                if fork { format!(" (children of {})", script.pid()) } else { format!("python3 ({})", script.pid()) };
            assert!(finding.summary.contains(&of) && finding.summary.contains("a second more"), "{}", finding.summary);
            assert!(finding.summary.ends_with("on this host has not closed"), "{}", finding.summary);
        });
    }
}

#[test]
fn remainders_in_fin_wait2_name_the_process_that_does_not_close() {
    in_netns(|ns| {
        let rule = ["fin-wait2-orphan-pileup"];
        let mut backend = Helper::start(ns);
        backend.make("fin_wait2_orphan 8300 12");
        // TIME_WAIT of the same destination is the healthy end; elsewhere it does not count.
        backend.make("time_wait 8301 20 client");
        silent(&once(ns, &rule));
        pause(1200);
        let diagnosis = once(ns, &rule);
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(backend.pid())));
        assert_eq!((number(finding, "count"), number(finding, "time_wait")), (12, 0));
        assert!(finding.confidence >= 0.97 && finding.summary.contains("holds 12 of them in CLOSE_WAIT"));
        // 12 are a quarter of a table of 48.
        ns.set_sysctl("ipv4/tcp_max_tw_buckets", "48");
        assert_eq!(only(&once(ns, &rule)).severity, Severity::Warning);
        ns.set_sysctl("ipv4/tcp_max_tw_buckets", "49");
        assert_eq!(only(&once(ns, &rule)).severity, Severity::Info);
    });
}

#[test]
fn few_remainders_and_many_time_waits_are_silent() {
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        helper.make("fin_wait2_orphan 8310 9");
        helper.make("time_wait 8311 30 client");
        pause(1200);
        silent(&once(ns, &["fin-wait2-orphan-pileup"]));
    });
}

/// The limit is the host's and not to be touched: the orphans are real, their limit is written into the snapshot.
#[test]
fn the_orphan_limit_is_judged_by_the_kernel_s_shifts() {
    in_netns(|ns| {
        let rule = ["orphan-limit"];
        let mut helper = Helper::start(ns);
        helper.make("fin_wait1 8400 3 closed");
        let mut now = snapshot(ns);
        let orphans = now.netns[0].sockstat(SockStat::TcpOrphan).expect("sockstat shows orphans");
        assert!(orphans >= 3, "{orphans}");
        let unlimited = judge(&now, None, &rule);
        assert!(unlimited.findings.is_empty(), "{unlimited:#?}");
        if now.netns[0].sysctl(Sysctl::Ipv4TcpMaxOrphans).is_none() {
            assert!(unlimited.not_checked[0].1.contains("tcp_max_orphans"), "{unlimited:#?}");
        }
        for (limit, severity) in [
            (orphans * 4 + 1, None),
            (orphans * 4, Some(Severity::Warning)),
            (orphans + 1, Some(Severity::Warning)),
            (orphans, Some(Severity::High)),
        ] {
            now.netns[0].sysctls.insert(Sysctl::Ipv4TcpMaxOrphans, vec![limit]);
            let diagnosis = judge(&now, None, &rule);
            assert_eq!(diagnosis.findings.first().map(|f| f.severity), severity, "{orphans} of {limit}");
            if let Some(finding) = diagnosis.findings.first() {
                assert_eq!(number(finding, "orphan_rows_seen"), 3);
                assert_eq!(number(finding, "orphans_elsewhere"), orphans - 3);
                assert!(finding.summary.contains("most to 127.0.0.1:8400 (3)"), "{}", finding.summary);
            }
        }
    });
}
