//! The rules on listeners and on connecting, on the real kernel: accept queues that overflow, stand, or hold the dead;
//! one stuck worker of several; SYN queues; connects without an answer. Comes in: helpers as servers, so that the owner
//! is exact. Goes out: who is named, with which numbers, and what stays silent. Never here: how a situation is made
//! (but for those that no other test needs).

use std::net::SocketAddr;

use tcpstate::collect::proc::ProcRoot;
use tcpstate::collect::{Live, SourceChoice};
use tcpstate::diagnose::{self, Diagnosis, Severity, Thresholds};
use tcpstate::model::State;

use crate::harness::helper::Helper;
use crate::harness::sock::Sock;
use crate::harness::veth::{Side, VethPair};
use crate::harness::{Netns, diag, finish, in_netns, skip, wait_for};
use crate::judge::{calm, judge, number, once, only, pause, silent, snapshot, twice, words};
use crate::states::{self, Expected, Ports, link};

const QUEUE_RULES: [&str; 5] = [
    "accept-queue-overflow",
    "accept-queue-stalled",
    "accept-queue-dead-entries",
    "close-wait-unaccepted",
    "reuseport-imbalance",
];

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A helper that listens and does nothing more.
fn server(ns: &Netns, port: u16, backlog: u16) -> (Helper, Expected) {
    let mut helper = Helper::start(ns);
    let listener = helper.make(&format!("listen {port} {backlog}")).remove(0);
    (helper, listener)
}

fn clients(ns: &Netns, port: u16, count: u16) -> Vec<Sock> {
    ns.run(|| (0..count).map(|_| Sock::connected(loopback(port), None)).collect())
}

/// Attempts that the queue has no room for.
fn beyond(ns: &Netns, port: u16, count: u16) -> Vec<Sock> {
    ns.run(|| (0..count).map(|_| Sock::connecting(loopback(port), None)).collect())
}

/// Connections in the queue of a listener, by its port and inode.
fn queued(ns: &Netns, port: u16, inode: Option<u64>) -> u32 {
    let rows = ns.run(diag::dump);
    let of =
        |r: &&diag::Row| r.state == State::Listen && r.local.port() == port && (inode.is_none() || r.inode == inode);
    rows.iter().filter(of).map(|r| r.recv_q).sum()
}

fn wait_for_queue(ns: &Netns, port: u16, length: u32) {
    wait_for("the queue", || match queued(ns, port, None) {
        n if n == length => Ok(()),
        n => Err(n.to_string()),
    });
}

#[test]
fn of_two_listeners_with_drops_only_the_one_that_drops_now_is_named() {
    in_netns(|ns| {
        let rule = ["accept-queue-overflow"];
        let (guilty, _) = server(ns, 7000, 3);
        let (mut innocent, listener) = server(ns, 7001, 2);
        // The second one dropped before, and accepts again.
        let mut kept = clients(ns, 7001, 3);
        kept.extend(beyond(ns, 7001, 2));
        innocent.accept(&listener, 3);
        pause(1100); // Until the two that were dropped have repeated their SYN and got in.
        innocent.accept(&listener, 2);
        wait_for_queue(ns, 7001, 0);
        let look = once(ns, &rule);
        assert!(look.findings.is_empty() && look.wants_second.len() == 1, "it may drop again at any time: {look:#?}");

        let empty = snapshot(ns);
        kept.extend(clients(ns, 7000, 4));
        kept.extend(beyond(ns, 7000, 4));
        let full = snapshot(ns);
        let diagnosis = judge(&full, Some(&empty), &rule);
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Critical, Some(guilty.pid())), "drops now");
        assert_eq!(finding.subject.listener.map(|l| l.to_string()).as_deref(), Some("127.0.0.1:7000"));
        assert!((4..=8).contains(&number(finding, "new_drops")), "{finding:#?}");
        assert_eq!((number(finding, "accept_queue"), number(finding, "backlog")), (4, 3));
        assert_eq!(number(finding, "local_callers"), 4);
        assert_eq!(finding.inspect, [(guilty.pid(), vec![finding_inode(&full, 7000)])]);
        assert!(finding.confidence >= 0.97, "the drops are the listener's own");
        pause(1100);
        let diagnosis = twice(ns, &rule, || {});
        assert!(only(&diagnosis).severity >= Severity::High, "full in two samples: {diagnosis:#?}");

        drop(kept);
        drop(innocent);
    });
}

fn finding_inode(snapshot: &tcpstate::model::Snapshot, port: u16) -> tcpstate::model::Inode {
    let listener = snapshot.sockets.iter().find(|s| s.state == State::Listen && s.local.port == port);
    listener.expect("the listener").inode.expect("an inode")
}

#[test]
fn connections_that_wait_a_second_are_told_with_the_oldest_wait() {
    in_netns(|ns| {
        let (mut helper, listener) = server(ns, 7100, 128);
        let oldest = clients(ns, 7100, 1);
        oldest[0].send(100);
        pause(250);
        let younger = clients(ns, 7100, 2);
        silent(&twice(ns, &QUEUE_RULES, || pause(100)));
        pause(1000);
        let suspicion = once(ns, &["accept-queue-stalled"]);
        assert!(suspicion.findings.is_empty() && suspicion.wants_second.len() == 1, "{suspicion:#?}");
        let diagnosis = twice(ns, &QUEUE_RULES, || pause(200));
        let finding = only(&diagnosis);
        assert_eq!((finding.rule, finding.severity), ("accept-queue-stalled", Severity::Warning));
        assert_eq!(finding.subject.pid, Some(helper.pid()));
        assert!((1500..2900).contains(&number(finding, "oldest_wait_ms")), "{finding:#?}");
        assert_eq!((number(finding, "waiting"), number(finding, "unread_bytes")), (3, 100));
        assert_eq!(words(finding, "owner_state"), "S");
        // A client that gave up waiting; the others are accepted, and what moves is no stall.
        for client in oldest {
            client.close();
        }
        let diagnosis = twice(ns, &QUEUE_RULES, || pause(100));
        assert!(diagnosis.findings.iter().any(|f| f.rule == "close-wait-unaccepted"), "{diagnosis:#?}");
        helper.accept(&listener, 3);
        silent(&twice(ns, &QUEUE_RULES, || {}));
        drop(younger);
    });
}

/// The server is stopped as it stands while clients keep coming: every rule names it, and says that it is stopped.
#[test]
fn a_stopped_server_under_load_is_said_to_be_stopped() {
    in_netns(|ns| {
        let (helper, _) = server(ns, 7200, 4);
        helper.stop();
        let mut waiting = clients(ns, 7200, 5);
        waiting.extend(beyond(ns, 7200, 3));
        pause(1100);
        let diagnosis = twice(ns, &QUEUE_RULES, || {
            waiting.extend(beyond(ns, 7200, 3));
            pause(100);
        });
        let rules: Vec<&str> = diagnosis.findings.iter().map(|f| f.rule).collect();
        assert_eq!(rules, ["accept-queue-overflow", "accept-queue-stalled"], "{diagnosis:#?}");
        for finding in &diagnosis.findings {
            assert_eq!(finding.subject.pid, Some(helper.pid()));
            assert_eq!(words(finding, "owner_state"), "T");
            let stopped = format!("tcpstate-helper ({}) is stopped by a signal (state T)", helper.pid());
            assert!(finding.summary.contains(&stopped), "{}", finding.summary);
        }
        helper.resume();
    });
}

#[test]
fn resets_in_the_queue_leave_dead_entries_and_fins_do_not() {
    in_netns(|ns| {
        let rule = ["accept-queue-dead-entries"];
        let (mut helper, listener) = server(ns, 7300, 4);
        let mut waiting = clients(ns, 7300, 4);
        silent(&twice(ns, &rule, || {}));
        waiting.pop().expect("a client").close();
        silent(&twice(ns, &rule, || {}));
        waiting.truncate(1); // Dropped: reset.
        wait_for_queue(ns, 7300, 4);
        let suspicion = once(ns, &rule);
        assert!(suspicion.findings.is_empty() && suspicion.wants_second.len() == 1, "{suspicion:#?}");
        let diagnosis = twice(ns, &rule, || {});
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(helper.pid())));
        assert_eq!((number(finding, "dead"), number(finding, "accept_queue")), (2, 4));
        helper.accept(&listener, 4);
        silent(&twice(ns, &rule, || {}));
    });
}

#[test]
fn the_stuck_worker_of_a_reuseport_group_is_named() {
    in_netns(|ns| {
        let rule = ["reuseport-imbalance"];
        let mut workers: Vec<(Helper, Expected)> = (0..3)
            .map(|_| {
                let mut helper = Helper::start(ns);
                let listener = helper.make("reuseport 7400 1 0").remove(0);
                (helper, listener)
            })
            .collect();
        // The hash is the kernel's: connect until the one that will be stuck has some of them.
        let mut held = Vec::new();
        wait_for("connections for each worker", || {
            held.extend(clients(ns, 7400, 4));
            let shares: Vec<u32> = workers.iter().map(|(_, l)| queued(ns, 7400, l.inode)).collect();
            if shares.iter().all(|n| *n >= 2) { Ok(()) } else { Err(format!("{shares:?}")) }
        });
        let stuck = workers[1].0.pid();
        let left = queued(ns, 7400, workers[1].1.inode);
        for (place, (helper, listener)) in workers.iter_mut().enumerate() {
            if place != 1 {
                let waiting = u16::try_from(queued(ns, 7400, listener.inode)).expect("a few");
                helper.accept(listener, waiting);
            }
        }
        pause(1100);
        let suspicion = once(ns, &rule);
        assert!(suspicion.findings.is_empty() && suspicion.wants_second.len() == 1, "{suspicion:#?}");
        let diagnosis = twice(ns, &rule, || pause(100));
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(stuck)), "{finding:#?}");
        assert_eq!(number(finding, "accept_queue"), u64::from(left));
        assert_eq!((number(finding, "stuck_listeners"), number(finding, "listeners")), (1, 3));
        // Once it accepts too there is nothing to tell.
        let (helper, listener) = &mut workers[1];
        helper.accept(listener, u16::try_from(left).expect("a few"));
        silent(&twice(ns, &rule, || {}));
    });
}

/// One queue that two processes share is no group of listeners: it can stand, but not be uneven.
#[test]
fn a_shared_listener_has_no_imbalance() {
    in_netns(|ns| {
        let (mut helper, _) = server(ns, 7410, 8);
        let child = helper.fork(None);
        let held = clients(ns, 7410, 9);
        pause(1100);
        silent(&twice(ns, &["reuseport-imbalance"], || {}));
        let diagnosis = twice(ns, &["accept-queue-stalled"], || {});
        let mut both = vec![helper.pid(), child];
        both.sort_unstable();
        assert_eq!(only(&diagnosis).subject.pids, both);
        drop(held);
    });
}

/// Handshakes that wait for data keep no SYN-ACK waiting: they are no pressure, however many.
#[test]
fn deferred_accepts_are_no_pressure() {
    in_netns(|ns| {
        let held = states::syn_recv(ns, Ports::server(7500), 80);
        let diagnosis = twice(ns, &["syn-queue-pressure", "syn-flood"], || pause(1600));
        assert_eq!(held.rows_of("syn_recv/request").count(), 80);
        silent(&diagnosis);
    });
}

#[test]
fn a_syn_queue_that_is_full_is_told_with_cookies_and_with_drops() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let rules = ["syn-queue-pressure", "syn-flood"];
        let listeners: Vec<Sock> =
            [7510, 7511].into_iter().map(|port| ns.run(|| Sock::listening(Side::Near.at(port), 7))).collect();
        wire.cut(Side::Near);
        let mut callers = Vec::new();
        for (port, cookies, severity, counter) in [
            (7510, "1", Severity::Warning, "cookies_sent"),
            // Without cookies; the requests of the first are still there, and the drops are not theirs.
            (7511, "0", Severity::High, "syn_queue_full_drops"),
        ] {
            ns.set_sysctl("ipv4/tcp_syncookies", cookies);
            silent(&twice(ns, &["syn-flood"], || {}));
            let diagnosis = twice(ns, &rules, || {
                let to = Side::Near.at(port);
                callers = wire.far.run(|| (0..20).map(|_| Sock::connecting(to, None)).collect());
                pause(1300);
            });
            let finding = &diagnosis.findings[0];
            assert_eq!((finding.rule, finding.severity), ("syn-queue-pressure", severity), "{finding:#?}");
            assert_eq!(finding.subject.listener.map(|l| l.port), Some(port));
            assert_eq!((number(finding, "half_open"), number(finding, "limit")), (8, 8));
            assert!(number(finding, counter) >= 12, "{finding:#?}");
            assert_eq!((number(finding, "sources"), number(finding, "syn_ack_repeated")), (1, 8));
            assert!(finding.summary.ends_with("; 8 got no answer to a repeated SYN-ACK"), "{}", finding.summary);
            let left: Vec<_> = finding.causes.left.iter().map(|h| h.cause.id).collect();
            assert_eq!(left, ["return-path", "scanner"]);
            let mut others = Diagnosis::default();
            others.findings = diagnosis.findings[1..].to_vec();
            calm(&others);
            // No attempt goes on that would add to the counters of the next.
            callers.clear();
        }
        drop(listeners);
    });
}

#[test]
fn many_silent_sources_look_like_a_flood_and_few_do_not() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let ip = |ns: &Netns, line: &str| {
            let output = finish(ns.command("ip").args(line.split(' ')));
            assert!(output.status.success(), "ip {line}: {output:?}");
        };
        // The far side may call from any address of 10.88.0.0/16; what is sent there goes to nobody.
        ip(&wire.far, "route add local 10.88.0.0/16 dev lo");
        ip(ns, "neigh replace 10.77.0.99 lladdr 02:00:00:00:00:99 dev near0 nud permanent");
        ip(ns, "route add 10.88.0.0/16 via 10.77.0.99");
        let rules = ["syn-queue-pressure", "syn-flood"];
        let near = Side::Near.at(7520);
        let listener = ns.run(|| Sock::listening(near, 31));
        let mut callers = Vec::new();
        let diagnosis = twice(ns, &rules, || {
            wire.far.run(|| {
                for n in 0..120u8 {
                    let from = SocketAddr::from(([10, 88, n, 1], 0));
                    callers.push(Sock::connecting(near, Some(from)));
                }
            });
            pause(1400);
        });
        let finding = only(&diagnosis);
        assert_eq!((finding.rule, finding.severity), ("syn-flood", Severity::Warning), "{finding:#?}");
        assert_eq!(finding.subject.listener.map(|l| l.port), Some(7520));
        assert_eq!((number(finding, "half_open"), number(finding, "sources")), (32, 32));
        assert!(number(finding, "cookies_sent") >= 88, "{finding:#?}");
        drop(listener);
    });
}

#[test]
fn connects_without_an_answer_are_told_once_they_were_repeated_twice() {
    in_netns(|ns| {
        let rule = ["syn-sent-pileup"];
        let mut helper = Helper::start(ns);
        helper.make("syn_sent 7600 6");
        silent(&once(ns, &rule));
        let diagnosis = crate::judge::until_found(ns, &rule);
        let finding = only(&diagnosis);
        // The listener has one connection, so that not all attempts failed; but they are most of what the helper holds.
        assert_eq!((finding.severity, finding.subject.pid), (Severity::High, Some(helper.pid())));
        assert_eq!(finding.subject.destination.map(|d| d.to_string()).as_deref(), Some("127.0.0.1:7600"));
        assert!(number(finding, "count") >= 1 && number(finding, "repeats_max") == 2, "{finding:#?}");
        assert!((1900..3200).contains(&number(finding, "oldest_ms")), "{finding:#?}");
        let left = number(finding, "oldest_ms") + number(finding, "gives_up_within_ms");
        assert!((125_000..135_000).contains(&left), "{finding:#?}");
        assert!(finding.causes.is("peer-accept-queue-full"), "{finding:#?}");
        let cause = format!("the accept queue of tcpstate-helper ({}) on this host is full", helper.pid());
        assert!(finding.summary.ends_with(&cause), "{}", finding.summary);
    });
}

#[test]
fn a_black_hole_is_told_by_its_destination() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let held = link::syn_black_hole(&wire, 7610, 5);
        wait_for("all to have repeated twice", || {
            let rows = ns.run(diag::dump);
            let ready = rows.iter().filter(|r| r.timer.is_some_and(|t| t.kind == 1 && t.retransmits >= 2)).count();
            if ready == 5 { Ok(()) } else { Err(ready.to_string()) }
        });
        let diagnosis = once(ns, &["syn-sent-pileup"]);
        let finding = only(&diagnosis);
        assert_eq!(finding.severity, Severity::High, "five, and no success");
        assert_eq!(finding.subject.destination.map(|d| d.to_string()).as_deref(), Some("10.77.0.2:7610"));
        assert_eq!((number(finding, "count"), number(finding, "connections_that_work")), (5, 0));
        drop(held);
    });
}

/// A host that is busy and well: connections come and go all the time, and every queue empties.
#[test]
fn a_healthy_busy_host_gets_no_warning() {
    in_netns(|ns| {
        let mut busy = Helper::start(ns);
        busy.ask("churn 7700");
        busy.make("established 7701 50");
        busy.make("time_wait 7702 20 server");
        for _ in 0..5 {
            calm(&twice(
                ns,
                &[
                    "accept-queue-overflow",
                    "accept-queue-stalled",
                    "accept-queue-dead-entries",
                    "reuseport-imbalance",
                    "syn-queue-pressure",
                    "syn-flood",
                    "syn-sent-pileup",
                    "fin-wait1-stuck",
                    "fin-wait2-held",
                    "fin-wait2-orphan-pileup",
                    "last-ack-stuck",
                    "closing-stuck",
                ],
                || pause(100),
            ));
        }
        assert!(busy.ask("calm").number > Some(50));
    });
}

/// A gateway that nobody has: its address is never resolved.
#[test]
fn a_gateway_that_does_not_resolve_is_asked_about_and_named() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(why) => return skip(&why),
        };
        let route = |line: &str| assert!(finish(ns.command("ip").args(line.split(' '))).status.success(), "{line}");
        route("route add 10.78.0.0/16 via 10.77.0.254");
        route("route add 10.79.0.0/16 via 10.77.0.2");
        let rules = ["neighbour-failure", "syn-sent-pileup"];
        let examined = || {
            let (mut now, live) = ns.run(|| {
                let mut live = Live::open(SourceChoice::Netlink, ProcRoot::default()).expect("open");
                (live.snapshot(true).expect("a snapshot"), live)
            });
            ns.run(|| {
                diagnose::examine(&mut now, None, Some(&rules), &Thresholds::default(), |now, asked| {
                    live.inspect(now, asked)
                })
            })
        };
        // A connect fails after three seconds of asking for the address; a new one begins every second.
        let mut attempts = Vec::new();
        let found = wait_for("a finding", || {
            attempts.push(ns.run(|| Sock::connecting("10.78.0.9:443".parse().expect("an address"), None)));
            pause(900);
            let diagnosis = examined();
            let gateway = diagnosis.findings.iter().any(|f| f.rule == "neighbour-failure");
            if gateway { Ok(diagnosis) } else { Err(format!("{diagnosis:#?}")) }
        });
        let finding = found.findings.iter().find(|f| f.rule == "neighbour-failure").expect("a finding");
        assert!(finding.severity >= Severity::Warning, "{finding:#?}");
        assert_eq!(finding.subject.destination.map(|d| d.addr.to_string()).as_deref(), Some("10.77.0.254"));
        assert_eq!(words(finding, "interface"), "near0");
        for attempt in attempts {
            drop(attempt);
        }
        // The other gateway resolves; what is lost beyond it is not its fault.
        wire.cut(Side::Near);
        let lost = ns.run(|| Sock::connecting("10.79.0.9:443".parse().expect("an address"), None));
        pause(2300);
        let diagnosis = examined();
        let rules: Vec<&str> = diagnosis.findings.iter().map(|f| f.rule).collect();
        assert_eq!(rules, ["syn-sent-pileup"], "{diagnosis:#?}");
        let out = &diagnosis.findings[0].causes.ruled_out;
        assert!(out.iter().any(|(cause, _)| cause.id == "gateway-down"), "{out:#?}");
        drop(lost);
    });
}
