//! The rules on what open connections are used for, on the real kernel: pools that grow, answers that do not come,
//! requests that never end, transfers that a buffer limits. Input: helpers as either end. Output: who is named with which
//! numbers, and what stays silent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use tcpstate::diagnose::{self, Diagnosis, Severity, Thresholds, View};
use tcpstate::model::Snapshot;

use crate::harness::helper::Helper;
use crate::harness::sock::Sock;
use crate::harness::veth::{Side, VethPair};
use crate::harness::{Netns, diag, finish, in_netns, skip, wait_for};
use crate::judge::{number, once, only, pause, silent, snapshot, twice};

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn a_pool_that_grows_beside_unused_connections_is_named_and_one_at_rest_is_not() {
    in_netns(|ns| {
        let rule = ["connection-pool-growth"];
        let (mut server, mut client) = (Helper::start(ns), Helper::start(ns));
        client.rename(b"pooler");
        let listener = server.make("listen 8300 64").remove(0);
        let mut pool = client.connect(loopback(8300), 25);
        server.accept(&listener, 25);
        let asked = once(ns, &rule);
        assert_eq!(asked.findings, []);
        pause(1300);
        // At rest: nothing is opened.
        silent(&twice(ns, &rule, || pause(300)));
        let diagnosis = twice(ns, &rule, || {
            pool.extend(client.connect(loopback(8300), 3));
            server.accept(&listener, 3);
        });
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(client.pid())), "{finding:#?}");
        assert_eq!(finding.subject.destination.map(|d| d.to_string()).as_deref(), Some("127.0.0.1:8300"));
        let counts = ["connections", "unused", "opened", "closed"].map(|name| number(finding, name));
        assert_eq!(counts, [28, 25, 3, 0], "{finding:#?}");
        assert!((1300..20_000).contains(&number(finding, "oldest_unused_ms")), "{finding:#?}");
        // Churn beside the pool: as many are closed as opened.
        silent(&twice(ns, &rule, || {
            for row in pool.drain(25..) {
                client.close(&row);
            }
            client.connect(loopback(8300), 3);
        }));
    });
}

/// Thresholds in seconds instead of several.
fn impatient(now: &Snapshot, before: Option<&Snapshot>, rule: &str) -> Diagnosis {
    let mut thresholds = Thresholds::default();
    thresholds.set("slow-request-seconds", 1.0).expect("a threshold");
    diagnose::run(&View::new(now, before, &thresholds), Some(&[rule]))
}

#[test]
fn an_address_that_answers_nobody_is_named_when_its_clients_give_up_and_another_answers() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let rule = ["no-answer"];
        let other = SocketAddr::from((Side::Far.v6(), 8310));
        // The kernel of the far side takes the requests of both, a program answers those of the other address only.
        let (silent_one, answering) =
            wire.far.run(|| (Sock::listening(Side::Far.at(8310), 16), Sock::listening(other, 16)));
        let ask = |to| {
            let client = Sock::connected(to, None);
            client.send(10);
            client
        };
        let mut asked: Vec<Sock> = (0..4).map(|_| ask(Side::Far.at(8310))).collect();
        let good: Vec<(Sock, Sock)> = (0..3).map(|_| (ask(other), answering.accept())).collect();
        pause(1200);
        // They wait, and that may be what they want.
        silent(&once(ns, &rule));
        for client in asked.drain(..3) {
            client.close();
        }
        pause(1100);
        silent(&once(ns, &rule));
        for (client, server) in &good {
            server.receive(10);
            server.send(10);
            client.receive(10);
        }
        let diagnosis = once(ns, &rule);
        let finding = only(&diagnosis);
        assert_eq!(
            (finding.severity, finding.subject.pid),
            (Severity::Warning, Some(std::process::id())),
            "{finding:#?}"
        );
        assert_eq!(finding.subject.destination.map(|d| d.to_string()).as_deref(), Some("10.77.0.2:8310"));
        let counts = ["waiting", "given_up", "answers_here", "answers_elsewhere"].map(|name| number(finding, name));
        assert_eq!(counts, [1, 3, 0, 3], "{finding:#?}");
        assert!((2300..20_000).contains(&number(finding, "longest_wait_ms")), "{finding:#?}");
        // One answer, however late, and it is only slow.
        let server = silent_one.accept();
        server.send(1);
        pause(50);
        silent(&once(ns, &rule));
    });
}

#[test]
fn requests_that_were_read_are_owed_when_clients_give_up() {
    in_netns(|ns| {
        let rule = ["answers-owed"];
        let listener = Sock::listening(loopback(8330), 16);
        let mut asked: Vec<(Sock, Sock)> =
            (0..6).map(|_| (Sock::connected(loopback(8330), None), listener.accept())).collect();
        for (client, server) in &asked {
            client.send(20);
            server.receive(20);
        }
        pause(5100);
        silent(&once(ns, &rule));
        let close = |(client, server): (Sock, Sock)| {
            client.close();
            server
        };
        let left: Vec<Sock> = asked.drain(..3).map(close).collect();
        pause(100);
        let diagnosis = once(ns, &rule);
        let finding = only(&diagnosis);
        assert_eq!(
            (finding.severity, finding.subject.pid),
            (Severity::Warning, Some(std::process::id())),
            "{finding:#?}"
        );
        assert_eq!(finding.subject.listener.map(|at| at.to_string()).as_deref(), Some("127.0.0.1:8330"));
        let counts = ["waiting", "given_up_and_not_closed", "never_got_a_byte", "answers_here"];
        assert_eq!(counts.map(|name| number(finding, name)), [3, 3, 3, 0], "{finding:#?}");
        assert!((5100..15_000).contains(&number(finding, "longest_wait_ms")), "{finding:#?}");
        // Two are left.
        asked[0].1.send(1);
        silent(&once(ns, &rule));
        drop(left);
    });
}

#[test]
fn requests_that_never_end_are_named_when_others_wait_behind_them() {
    in_netns(|ns| {
        let rule = "slow-requests";
        let listener = Sock::listening(loopback(8320), 16);
        let slow: Vec<(Sock, Sock)> =
            (0..5).map(|_| (Sock::connected(loopback(8320), None), listener.accept())).collect();
        let spare = (Sock::connected(loopback(8320), None), listener.accept());
        for _ in 0..3 {
            for (client, server) in &slow {
                client.send(20);
                server.receive(20);
            }
        }
        pause(1100);
        let before = snapshot(ns);
        let early = impatient(&before, None, rule);
        assert_eq!(early.findings, [], "nobody waits: {early:#?}");
        let waiting: Vec<Sock> = (0..2).map(|_| Sock::connected(loopback(8320), None)).collect();
        let fresh = impatient(&snapshot(ns), None, rule);
        assert_eq!(fresh.findings, [], "they wait for a moment: {fresh:#?}");
        pause(1100);
        let diagnosis = impatient(&snapshot(ns), None, rule);
        let finding = only(&diagnosis);
        assert_eq!(
            (finding.severity, finding.subject.pid),
            (Severity::Warning, Some(std::process::id())),
            "{finding:#?}"
        );
        assert_eq!(finding.subject.listener.map(|at| at.to_string()).as_deref(), Some("127.0.0.1:8320"));
        let counts = ["unfinished", "accepted", "answered", "accept_queue"].map(|name| number(finding, name));
        assert_eq!(counts, [5, 6, 0, 2], "{finding:#?}");
        // With the thresholds of every day these are young.
        silent(&once(ns, &[rule]));
        // Two are answered: three are left.
        slow[0].1.send(1);
        slow[1].1.send(1);
        assert_eq!(impatient(&snapshot(ns), None, rule).findings, []);
        drop((waiting, spare));
    });
}

/// Sends without a pause until told to stop, to a reader that rests after each `most` bytes; ends when all of it is read.
fn pump((from, to): &(Sock, Sock), stop: &AtomicBool, most: usize, rest_ms: u64) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                from.send(4096);
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) || to.unread() > 0 {
            match to.unread() as usize {
                0 => pause(1),
                n => {
                    to.receive(n.min(most));
                    pause(rest_ms);
                }
            }
        }
    });
}

#[test]
fn a_transfer_to_a_slow_reader_waits_for_its_window_and_a_quick_exchange_for_nothing() {
    in_netns(|ns| {
        let rule = ["window-limited", "sndbuf-limited"];
        let listener = Sock::listening(loopback(8330), 8);
        listener.set_receive_buffer(8192);
        let bulk = (Sock::connected(loopback(8330), None), listener.accept());
        let quick = (Sock::connected(loopback(8330), None), listener.accept());
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| pump(&bulk, &stop, 4096, 5));
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    quick.0.send(512);
                    quick.1.receive(512);
                    pause(1);
                }
            });
            pause(500);
            let diagnosis = twice(ns, &rule, || pause(1000));
            stop.store(true, Ordering::Relaxed);
            let finding = only(&diagnosis);
            assert_eq!((finding.rule, finding.severity), ("window-limited", Severity::Info), "{finding:#?}");
            assert_eq!((number(finding, "transfers"), finding.subject.pid), (1, Some(std::process::id())));
            assert!(number(finding, "moved_bytes") >= 64 * 1024, "{finding:#?}");
            assert!(finding.causes.left.iter().any(|h| h.cause.id == "reader-slow"), "{finding:#?}");
        });
    });
}

#[test]
fn full_size_segments_that_die_are_told_apart_from_a_host_that_died() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let rules = "add table inet f; add chain inet f i { type filter hook input priority 0; }; \
                     add rule inet f i meta length > 1200 drop";
        if !finish(wire.far.command("nft").arg(rules)).status.success() {
            return skip("nft cannot filter here");
        }
        let rule = ["mtu-black-hole"];
        let listener = wire.far.run(|| Sock::listening(Side::Far.at(8350), 8));
        let pairs: Vec<(Sock, Sock)> =
            (0..2).map(|_| (Sock::connected(Side::Far.at(8350), None), listener.accept())).collect();
        for _ in 0..5 {
            for (server, client) in &pairs {
                server.send(100);
                client.receive(100);
            }
        }
        for (server, _) in &pairs {
            server.send(20_000);
        }
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // The client goes on: its small segments arrive.
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    pairs[0].1.send(10);
                    pairs[0].0.receive(10);
                    pause(100);
                }
            });
            wait_for_repeats(ns, 4);
            done.store(true, Ordering::Relaxed);
        });
        let diagnosis = once(ns, &rule);
        let finding = only(&diagnosis);
        assert_eq!(
            (finding.severity, finding.subject.pid),
            (Severity::Warning, Some(std::process::id())),
            "{finding:#?}"
        );
        assert_eq!(finding.causes.left[0].cause.id, "mtu-black-hole", "{finding:#?}");
        assert_eq!((number(finding, "count"), number(finding, "mtu_probing")), (2, 0), "{finding:#?}");
        assert!(number(finding, "heard_on_them") >= 1, "{finding:#?}");
        assert!((1400..=1460).contains(&number(finding, "segment_bytes")), "{finding:#?}");
    });
}

#[test]
fn a_host_that_died_before_a_large_answer_is_no_mtu_black_hole() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let listener = wire.far.run(|| Sock::listening(Side::Far.at(8360), 8));
        let (server, client) = (Sock::connected(Side::Far.at(8360), None), listener.accept());
        for _ in 0..5 {
            server.send(100);
            client.receive(100);
        }
        wire.cut(Side::Far);
        wire.cut(Side::Near);
        server.send(20_000);
        wait_for_repeats(ns, 4);
        silent(&once(ns, &["mtu-black-hole"]));
        assert_eq!(only(&once(ns, &["dead-peer-retransmit"])).rule, "dead-peer-retransmit");
    });
}

/// Waits until every segment that is repeated was repeated so often.
fn wait_for_repeats(ns: &Netns, repeats: u8) {
    wait_for("repetitions", || {
        pause(100);
        let rows = ns.run(diag::dump);
        let least = rows.iter().filter_map(|r| r.timer.filter(|t| t.kind == 1)).map(|t| t.retransmits).min();
        if least >= Some(repeats) { Ok(()) } else { Err(format!("{least:?}")) }
    });
}

/// Loss that a queue of this host makes, and the same that the path makes: the counters of this host tell which.
#[test]
fn segments_that_a_queue_of_this_host_drops_are_told_from_those_that_the_path_loses() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let rule = ["lossy-destination"];
        let tc = |words: &str| finish(ns.command("tc").args(words.split(' '))).status.success();
        let far = |rules: &str| finish(wire.far.command("nft").arg(rules)).status.success();
        // A segment is cut into packets here, of which the short queue takes a few.
        if !tc("qdisc add dev near0 root tbf rate 40mbit burst 8k limit 16k") {
            return skip("tc cannot shape here");
        }
        let listener = wire.far.run(|| Sock::listening(Side::Far.at(8370), 8));
        let transfer = |prepare: &dyn Fn()| {
            let pair = (Sock::connected(Side::Far.at(8370), None), listener.accept());
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| pump(&pair, &stop, 65_536, 0));
                prepare();
                pause(300);
                let diagnosis = twice(ns, &rule, || pause(1500));
                stop.store(true, Ordering::Relaxed);
                diagnosis
            })
        };
        let diagnosis = transfer(&|| ());
        let here = only(&diagnosis);
        assert_eq!(here.causes.left[0].cause.id, "this-host", "{here:#?}");
        let drops = format!("{:?}", here.evidence);
        assert!(drops.contains("near0 qdisc drops"), "{here:#?}");
        assert!(tc("qdisc del dev near0 root"));
        if !far("add table inet f; add chain inet f i { type filter hook input priority 0; }") {
            return skip("nft cannot filter here");
        }
        let diagnosis = transfer(&|| {
            assert!(far("add rule inet f i tcp dport 8370 numgen random mod 20 == 0 drop"), "nft drops at random");
        });
        let path = only(&diagnosis);
        assert!(path.causes.left.iter().all(|h| h.cause.id != "this-host"), "{path:#?}");
        assert!(!format!("{:?}", path.evidence).contains("near0"), "{path:#?}");
    });
}
