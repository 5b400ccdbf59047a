//! The harness and the factory, held against witnesses: `ss`, `/proc`, a dump decoded here, and `/proc/PID/fd`. Comes
//! in: nothing. Goes out: the certainty that a test built on them fails for the product's reasons. Never here: the
//! product.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tcpstate::model::state::State;

use crate::harness::diag::{self, Row};
use crate::harness::helper::{Helper, process_state, socket_fds, wait_for_end};
use crate::harness::oracle::Witness;
use crate::harness::veth::{Side, VethPair};
use crate::harness::{Netns, finish, in_netns, netns, skip, wait_for};
use crate::states::{self, CloseWait, Ends, Expected, Family, First, Held, Others, PeerEnd, Ports, differences, link};

/// Holds a situation against every witness; the namespace must hold nothing else.
#[track_caller]
fn check(ns: &Netns, held: &Held) {
    check_rows(ns, &held.rows);
}

#[track_caller]
fn check_rows(ns: &Netns, rows: &[Expected]) {
    for witness in [Witness::Netlink, Witness::Proc, Witness::Ss] {
        match witness.hear(ns) {
            Ok(seen) => {
                let complaints = differences(rows, &seen, witness, Others::None);
                assert!(complaints.is_empty(), "{witness:?}:\n{}", complaints.join("\n"));
            }
            Err(reason) => skip(&reason),
        }
    }
}

fn census(rows: &[Row]) -> BTreeMap<State, usize> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row.state).or_default() += 1;
    }
    counts
}

/// The rows of a dump in which one end is this port.
fn at_port(ns: &Netns, port: u16) -> Vec<Row> {
    let mut rows = ns.run(diag::dump);
    rows.retain(|row| row.local.port() == port || row.peer.port() == port);
    rows
}

#[test]
fn all_states_are_there_three_times_alike() {
    in_netns(|_| {
        let mut counts = Vec::new();
        for _ in 0..3 {
            let ns = Netns::new();
            let held = states::all_states(&ns);
            for state in State::ALL {
                // `Close` is a socket that no table shows.
                assert!(state == State::Close || held.census().contains_key(&state), "no {state}");
            }
            check(&ns, &held);
            counts.push((held.census(), held.rows.len()));
        }
        assert_eq!(counts[0], counts[1]);
        assert_eq!(counts[1], counts[2]);
    });
}

/// A way to make a promise wrong.
type Spoil = fn(&mut Vec<Expected>);

/// The comparison itself: each way in which a promise can be wrong is noticed, by every witness.
#[test]
fn a_wrong_promise_is_noticed() {
    in_netns(|ns| {
        let held = states::unread(ns, Ports::server(7000), 1, 10);
        let ways: [(&str, Spoil); 6] = [
            ("another state", |rows| rows[0].state = State::CloseWait),
            ("another address", |rows| rows[0].local.set_port(9)),
            ("another receive queue", |rows| rows[1].recv_q = Some(11)),
            ("another send queue", |rows| rows[0].send_q = Some(1)),
            ("a row too few", |rows| drop(rows.pop())),
            ("a row twice", |rows| rows.push(rows[0].clone())),
        ];
        for witness in [Witness::Netlink, Witness::Proc, Witness::Ss] {
            let seen = match witness.hear(ns) {
                Ok(seen) => seen,
                Err(reason) => return skip(&reason),
            };
            for (name, spoil) in ways {
                let mut rows = held.rows.clone();
                spoil(&mut rows);
                assert!(!differences(&rows, &seen, witness, Others::None).is_empty(), "{witness:?}: {name}");
            }
            let mut rows = held.rows.clone();
            rows[0].inode = None;
            assert!(!differences(&rows, &seen, witness, Others::None).is_empty(), "{witness:?}: no inode");
            rows = held.rows.clone();
            rows.pop();
            assert!(differences(&rows, &seen, witness, Others::Allowed).is_empty(), "{witness:?}: others allowed");
        }
    });
}

/// A row and a descriptor are one socket when the kernel gives both the same cookie.
#[test]
fn rows_are_of_the_sockets_held() {
    in_netns(|ns| {
        let held = states::all_states(ns);
        let seen = ns.run(diag::dump);
        let mut compared = 0;
        for want in held.rows.iter().filter(|row| row.fd.is_some()) {
            let sock = held.sock(want);
            let row = seen.iter().find(|row| row.inode == want.inode);
            if let Some(row) = row {
                assert_eq!(row.cookie, Some(sock.cookie()), "{want:?}");
                compared += 1;
            }
            // To its own process a socket that is only bound says CLOSE.
            let state = if want.state == State::BoundInactive { State::Close } else { want.state };
            assert_eq!(sock.state(), state, "{want:?}");
        }
        assert!(compared > 30, "{compared}");
    });
}

#[test]
fn every_state_lasts() {
    in_netns(|ns| {
        let held = states::all_states(ns);
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(2500) {
            check(ns, &held);
            std::thread::sleep(Duration::from_millis(100));
        }
    });
}

#[test]
fn dropping_a_situation_leaves_nothing() {
    in_netns(|ns| {
        let held = states::all_states(ns);
        drop(held);
        wait_for("an empty namespace", || {
            let mut left = ns.run(diag::dump);
            // What no descriptor holds cannot be closed: TIME_WAIT, and the small FIN_WAIT2.
            left.retain(|row| !matches!(row.state, State::TimeWait));
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    });
}

/// A way to make a situation, and some of what it must then hold.
type Situation = (&'static str, fn(&Netns) -> Held, &'static [(State, usize)]);

const WAY_UP: [Situation; 6] = [
    (
        "listeners that share a port",
        |ns| states::reuseport(ns, Ports::server(7000), 3, 30),
        &[(State::Listen, 3), (State::Established, 60)],
    ),
    ("keepalive", |ns| states::keepalive(ns, Ports::server(7000), 5), &[(State::Listen, 1), (State::Established, 10)]),
    ("unread data", |ns| states::unread(ns, Ports::server(7000), 5, 1000), &[(State::Established, 10)]),
    ("zero window", |ns| states::zero_window(ns, Ports::server(7000), 50), &[(State::Established, 100)]),
    (
        "full accept queue",
        |ns| states::accept_queue_full(ns, Ports::server(7000), 8, 5),
        &[(State::Established, 18), (State::SynSent, 5)],
    ),
    (
        "handshakes under way",
        |ns| states::syn_recv(ns, Ports::server(7000), 50),
        &[(State::Established, 50), (State::SynRecv, 50)],
    ),
];

const WAY_DOWN: [Situation; 8] = [
    (
        "CLOSE_WAIT leak",
        |ns| states::close_wait(ns, Ports::server(7000), 250, CloseWait::EofRead, PeerEnd::Closed),
        &[(State::CloseWait, 250), (State::FinWait2, 250)],
    ),
    (
        "CLOSE_WAIT, read to the last byte",
        |ns| states::close_wait(ns, Ports::server(7000), 2, CloseWait::DataReadToTheLast(100), PeerEnd::HalfClosed),
        &[(State::CloseWait, 2), (State::FinWait2, 2)],
    ),
    (
        "CLOSE_WAIT, not accepted",
        |ns| {
            let ports = Ports::server(7000).family(Family::Mapped);
            states::close_wait(ns, ports, 200, CloseWait::NotAccepted, PeerEnd::Closed)
        },
        &[(State::CloseWait, 200)],
    ),
    (
        "CLOSE_WAIT, peer gone",
        |ns| states::close_wait(ns, Ports::server(7000), 3, CloseWait::EofUnread, PeerEnd::Gone),
        &[(State::CloseWait, 3), (State::Listen, 1)],
    ),
    (
        "TIME_WAIT",
        |ns| states::time_wait(ns, Ports::fixed(7000, 20_000), 500, First::Server),
        &[(State::TimeWait, 500), (State::Listen, 1)],
    ),
    (
        "orphans with pending data",
        |ns| states::fin_wait1(ns, Ports::server(7000), 10, Ends::Closed),
        &[(State::FinWait1, 10), (State::Established, 10)],
    ),
    (
        "LAST_ACK",
        |ns| states::last_ack(ns, Ports::server(7000).family(Family::V6), 10, Ends::Closed),
        &[(State::LastAck, 10), (State::FinWait2, 10)],
    ),
    (
        "CLOSING",
        |ns| states::closing(ns, Ports::server(7000).family(Family::Mapped), 10),
        &[(State::Closing, 10), (State::FinWait2, 10)],
    ),
];

/// Each in a namespace of its own, held against every witness.
#[track_caller]
fn check_situations(situations: &[Situation]) {
    for (name, make, counts) in situations {
        let ns = Netns::new();
        let start = Instant::now();
        let held = make(&ns);
        println!("{name}: {} rows in {:?}", held.rows.len(), start.elapsed());
        for (state, count) in *counts {
            assert_eq!(held.census().get(state), Some(count), "{name}: {state}");
        }
        check(&ns, &held);
    }
}

#[test]
fn situations_on_the_way_up_are_what_they_say() {
    in_netns(|_| check_situations(&WAY_UP));
}

#[test]
fn situations_on_the_way_down_are_what_they_say() {
    in_netns(|_| check_situations(&WAY_DOWN));
}

#[test]
fn a_panic_leaves_no_helper_behind() {
    in_netns(|_| {
        let (send, receive) = std::sync::mpsc::channel();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            in_netns(|ns| {
                let mut helper = Helper::start(ns);
                helper.make("all_states");
                send.send([helper.pid(), helper.fork(None)]).unwrap();
                panic!("on purpose");
            });
        }));
        assert!(outcome.is_err());
        for pid in receive.recv().unwrap() {
            wait_for_end(pid);
        }
    });
}

#[test]
fn timers_are_those_of_the_situation() {
    in_netns(|ns| {
        let mut held = states::keepalive(ns, Ports::server(7000), 1);
        held.merge(states::zero_window(ns, Ports::server(7001), 1));
        held.merge(states::syn_sent(ns, Ports::server(7002), 1));
        held.merge(states::time_wait(ns, Ports::server(7003), 1, First::Client));
        let rows = ns.run(diag::dump);
        for (what, kind) in [
            ("keepalive/client", 2),
            ("zero_window/client", 4),
            ("accept_queue_full/refused", 1),
            ("time_wait/client", 3),
        ] {
            let want = held.rows_of(what).next().expect(what);
            let row = rows.iter().find(|r| (r.local, r.peer) == (want.local, want.peer)).expect(what);
            assert_eq!(row.timer.map(|t| t.kind), Some(kind), "{what}");
        }
    });
}

/// A thousand sockets in six processes, one of which forked: what they say they opened is what `/proc` says they hold.
#[test]
fn a_thousand_sockets_in_six_processes() {
    in_netns(|ns| {
        let mut helpers: Vec<Helper> = (0..6).map(|_| Helper::start(ns)).collect();
        let mut rows: Vec<Expected> = Vec::new();
        for (i, helper) in helpers.iter_mut().enumerate() {
            // 6 listeners, 497 connections, both ends.
            let connections = if i == 5 { 82 } else { 83 };
            rows.extend(helper.make(&format!("established {} {connections}", 7000 + i)));
        }
        assert_eq!(rows.len(), 1000);
        let child = helpers[3].fork(Some(b"heir"));
        let mut holders: BTreeSet<(u32, i32, u64)> = BTreeSet::new();
        for pid in helpers.iter().map(Helper::pid).chain([child]) {
            holders.extend(socket_fds(&format!("/proc/{pid}/fd")).into_iter().map(|(fd, inode)| (pid, fd, inode)));
        }
        let mut reported: BTreeSet<(u32, i32, u64)> = rows
            .iter()
            .map(|row| (row.pid.expect("a holder"), row.fd.expect("a descriptor"), row.inode.expect("an inode")))
            .collect();
        assert_eq!(reported.len(), 1000);
        let shared: Vec<_> = reported.iter().filter(|r| r.0 == helpers[3].pid()).map(|r| (child, r.1, r.2)).collect();
        assert_eq!(shared.len(), 167);
        reported.extend(shared);
        assert_eq!(holders, reported);
        check_rows(ns, &rows);
        let pids: Vec<u32> = helpers.iter().map(Helper::pid).chain([child]).collect();
        drop(helpers);
        for pid in pids {
            wait_for_end(pid);
        }
    });
}

#[test]
fn helpers_play_their_roles() {
    in_netns(|ns| {
        let mut server = Helper::start(ns);
        let mut client = Helper::start(ns);
        // One holds the listener, another the clients.
        let listener = server.make("listen 7000 16").remove(0);
        let clients = client.connect(SocketAddr::from(([127, 0, 0, 1], 7000)), 3);
        let accepted = server.accept(&listener, 2);
        assert_eq!((clients.len(), accepted.len()), (3, 2));
        assert!(accepted.iter().all(|row| row.pid == Some(server.pid())));
        let waiting = Witness::Netlink.hear(ns).unwrap().into_iter().filter(|r| r.inode.is_none()).count();
        assert_eq!(waiting, 1, "the third connection is in the accept queue");
        client.close(&clients[0]);
        wait_for("CLOSE_WAIT", || {
            let rows = at_port(ns, clients[0].local.port());
            if rows.iter().any(|r| r.state == State::CloseWait) { Ok(()) } else { Err(format!("{rows:?}")) }
        });

        // Its name is any bytes, and it is the process's name.
        let name = b"\x1b[31m\xff)\n 1 R";
        server.rename(name);
        let comm = std::fs::read(format!("/proc/{}/comm", server.pid())).unwrap();
        assert_eq!(comm.strip_suffix(b"\n").unwrap(), name);

        // A socket that only one thread's descriptor table holds.
        let (thread, apart) = client.make_apart("bound_inactive 7500");
        let inode = apart[0].inode.unwrap();
        let pid = client.pid();
        assert!(!socket_fds(&format!("/proc/{pid}/fd")).values().any(|i| *i == inode));
        assert!(socket_fds(&format!("/proc/{pid}/task/{thread}/fd")).values().any(|i| *i == inode));

        // Stopped, and on.
        server.stop();
        assert_eq!(process_state(server.pid()), 'T');
        server.resume();
        server.ask("ready");

        // Sockets that come and go without pause.
        server.ask("churn 7600");
        wait_for("churn", || match at_port(ns, 7600).len() {
            0 | 1 => Err("only the listener".to_string()),
            _ => Ok(()),
        });
        assert!(server.ask("calm").number.unwrap() > 0);

        // Ends by itself.
        client.ask("exit_after 30");
        wait_for_end(client.pid());
        assert!(client.try_ask("ready").is_err());
    });
}

#[test]
fn helpers_of_other_users_are_theirs() {
    in_netns(|ns| {
        if !netns::is_real_root() {
            return skip("only root can start a helper as another user");
        }
        let mut helper = Helper::start_as(ns, 1234);
        let rows = helper.make("close_wait 7000+17000 1 eof_read closed");
        assert!(rows.iter().any(|row| row.state == State::CloseWait));
        check_rows(ns, &rows);
        let seen = ns.run(diag::dump);
        assert!(seen.iter().all(|row| row.uid == Some(if row.inode.is_some() { 1234 } else { 0 })), "{seen:?}");
    });
}

#[test]
fn a_helper_can_make_every_situation_by_name() {
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        let mut rows = Vec::new();
        for situation in [
            "all_states",
            "listen 8000/mapped 5",
            "only_v6 8001",
            "reuseport 8002 2 4",
            "established 8003/v6 1",
            "keepalive 8004 1",
            "unread 8005 1 10",
            "zero_window 8006 1",
            "accept_queue_full 8007 2 1",
            "syn_sent 8008 1",
            "syn_recv 8009 1",
            "bound_inactive 8010",
            "fin_wait1 8011 1 held",
            "fin_wait2 8012 1",
            "fin_wait2_orphan 8013 1",
            "close_wait 8014 1 data_unread:7 half_closed",
            "close_wait 8015 1 data_read_to_the_last:7 closed",
            "close_wait 8016 1 not_accepted closed",
            "closing 8017 1",
            "last_ack 8018 1 held",
            "time_wait 8019+18019/mapped 1 server",
        ] {
            rows.extend(helper.make(situation));
        }
        check_rows(ns, &rows);
    });
}

#[test]
fn namespaces_are_apart_and_reachable_by_path() {
    in_netns(|ns| {
        let other = Netns::new();
        assert_ne!(ns.inode(), other.inode());
        let held = states::listen(&other, Ports::server(7000), 5);
        assert!(ns.run(diag::dump).is_empty());
        check(&other, &held);
        // A program started in it, and its path, name the same namespace.
        let output = finish(other.command("readlink").arg("/proc/self/ns/net"));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("net:[{}]", other.inode()));
        let metadata = std::fs::metadata(other.path()).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::ino(&metadata), other.inode());
        // A setting of one is not a setting of the other.
        other.set_sysctl("ipv4/tcp_fin_timeout", "7");
        assert_eq!(other.sysctl("ipv4/tcp_fin_timeout"), "7");
        assert_eq!(ns.sysctl("ipv4/tcp_fin_timeout"), "60");
        // A panic inside brings the thread back.
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| other.run(|| panic!("on purpose"))));
        assert!(panicked.is_err());
        assert_eq!(Netns::current().inode(), ns.inode());
    });
}

#[test]
fn a_cut_wire_loses_packets() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        // Whole, it carries both families.
        let listener = wire.far.run(|| crate::harness::sock::Sock::listening(SocketAddr::new(Side::Far.v6(), 7000), 5));
        let client = wire.near.run(|| crate::harness::sock::Sock::connected(listener.local(), None));
        client.wait(State::Established);
        drop((client, listener));
        wait_for("an empty wire", || match (wire.near.run(diag::dump).len(), wire.far.run(diag::dump).len()) {
            (0, 0) => Ok(()),
            left => Err(format!("{left:?}")),
        });

        let lasts = [link::Last::Sent(500), link::Last::Closed, link::Last::ClosedAfterPeer, link::Last::Keepalive];
        let mut held = link::unreachable(&wire, 7001, 3, &lasts);
        held.merge(link::syn_black_hole(&wire, 7005, 3));
        held.merge(link::syn_recv_lost(&wire, 7006, 3));
        let counts = held.census();
        let by_state = |state| counts.get(&state).copied().unwrap_or(0);
        assert_eq!(by_state(State::Established), 6);
        assert_eq!([State::FinWait1, State::LastAck, State::SynSent, State::SynRecv].map(by_state), [3; 4]);
        check(wire.near, &held);
        assert_eq!(census(&wire.near.run(diag::dump)), counts);
        // The retransmission timer runs, and fires.
        wait_for("retransmissions", || {
            let rows = at_port(wire.near, 7001);
            let fired = rows.iter().all(|r| r.timer.is_some_and(|t| t.kind == 1 && t.retransmits > 0));
            if fired { Ok(()) } else { Err(format!("{rows:?}")) }
        });
        // Mended, the wire delivers what was held back, and the queues empty.
        wire.mend(Side::Near);
        wait_for("the acknowledgements", || {
            let rows = at_port(wire.near, 7001);
            if rows.iter().all(|r| r.send_q == 0) { Ok(()) } else { Err(format!("{rows:?}")) }
        });
    });
}

#[test]
fn a_row_survives_the_helper_protocol() {
    let mut row = Expected {
        what: "close_wait/eof_read".into(),
        state: State::CloseWait,
        local: "[::ffff:127.0.0.1]:7000".parse().unwrap(),
        peer: "[::1]:17000".parse().unwrap(),
        recv_q: Some(1),
        send_q: None,
        inode: Some(u64::MAX),
        fd: Some(3),
        pid: Some(42),
    };
    for _ in 0..2 {
        assert_eq!(row.to_string().parse(), Ok(row.clone()));
        row = Expected { recv_q: None, inode: None, fd: None, pid: None, ..row };
    }
    assert!("close_wait/eof_read close_wait nowhere".parse::<Expected>().is_err());
}
