//! Tables so large that threads read them. Comes in: some ten thousand sockets of a private namespace. Goes out: that
//! every row is there once, whoever receives it, and that ending early ends everything. Never here: how fast it is (the
//! benchmark measures that).

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::process::Stdio;

use tcpstate::collect::netlink::request::Walk;
use tcpstate::collect::netlink::{Attributes, Channel, Request};
use tcpstate::model::{State, StateSet};

use crate::harness::sock::Sock;
use crate::harness::{Netns, in_netns};
use crate::product;

/// More than the sockets from which on a second thread receives.
const CONNECTIONS: usize = 10_500;
const BOUND: usize = 300;

/// Sockets in TIME_WAIT by real connections to a few listeners, and what is held beside them.
fn populate() -> Vec<Sock> {
    let mut held = Vec::new();
    let listeners: Vec<Sock> = (0..5u16).map(|i| Sock::listening(at(7800 + i), 16)).collect();
    for i in 0..CONNECTIONS {
        let listener = &listeners[i % listeners.len()];
        let client = Sock::connected(listener.local(), None);
        let server = listener.accept();
        // Who closes first keeps TIME_WAIT.
        client.close();
        server.receive_eof();
        server.close();
    }
    for _ in 0..20 {
        held.push(Sock::connected(listeners[0].local(), None));
        held.push(listeners[0].accept());
    }
    held.extend((0..BOUND).map(|_| Sock::bound(at(0))));
    held.extend(listeners);
    held
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// How often each row is there, by cookie and state.
type Rows = BTreeMap<(u64, State), usize>;

fn request(states: StateSet) -> Request {
    Request { walk: Walk::Both, states, attributes: Attributes::NONE, bytecode: Vec::new() }
}

fn alone(ns: &Netns) -> Rows {
    let mut rows = Rows::new();
    let report = channel(ns).dump(&request(StateSet::ALL), &mut |s| {
        *rows.entry((s.cookie.expect("a cookie"), s.state)).or_default() += 1;
        ControlFlow::Continue(())
    });
    assert_eq!(report.expect("a dump").incomplete, None);
    rows
}

fn channel(ns: &Netns) -> Channel {
    Channel::open(tcpstate::model::NetnsId::new(ns.inode())).expect("a channel")
}

#[test]
fn two_questions_at_once_give_the_rows_of_one() {
    in_netns(|ns| {
        let _held = populate();
        let expected = alone(ns);
        let bound = StateSet::of(&[State::BoundInactive]);
        assert_eq!(expected.keys().filter(|(_, state)| *state == State::BoundInactive).count(), BOUND);
        for bytes in [0, 1 << 20, 64 << 20] {
            let mut rows = Rows::new();
            let (mut main, mut second) = (channel(ns), channel(ns));
            let beside = request(bound);
            // Twice on the same channels: nothing of the first answer may be left in them.
            for _ in 0..2 {
                rows.clear();
                let report = main
                    .dump_ahead(&request(bound.complement()), Some((&mut second, &beside)), bytes, &mut |s| {
                        *rows.entry((s.cookie.expect("a cookie"), s.state)).or_default() += 1;
                        ControlFlow::Continue(())
                    })
                    .expect("both dumps");
                assert_eq!((report.incomplete, report.stopped), (None, false));
                assert_eq!(report.rows, expected.len() as u64);
                assert!(rows == expected, "{} rows, {} expected", rows.len(), expected.len());
            }
            // Whoever has enough is not kept waiting, and nobody is left behind.
            for enough in [1, 5000, expected.len() - BOUND + 1] {
                let mut seen = 0;
                let report = channel(ns)
                    .dump_ahead(&request(bound.complement()), Some((&mut channel(ns), &beside)), bytes, &mut |_| {
                        seen += 1;
                        if seen == enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                    })
                    .expect("the beginning of both dumps");
                assert!(report.stopped && seen == enough, "{seen} of {enough}");
            }
        }
    });
}

#[test]
fn the_program_gives_every_row_of_a_large_table_once() {
    in_netns(|ns| {
        let _held = populate();
        let expected = alone(ns);
        let list = product::json(ns, &["list", "--json"]);
        let mut rows = Rows::new();
        for row in product::sockets(&list) {
            *rows.entry((0, row.state)).or_default() += 1;
        }
        let mut by_state = Rows::new();
        for (_, state) in expected.keys() {
            *by_state.entry((0, *state)).or_default() += 1;
        }
        assert_eq!(rows, by_state);
        let summary = product::json(ns, &["summary", "--json", "--by", "process,local-port"]);
        assert_eq!(summary["total"].as_u64(), Some(expected.len() as u64), "{summary}");
        assert_eq!(summary["states"]["bound_inactive"].as_u64(), Some(BOUND as u64));
        let groups = &summary["groups"]["by"];
        let total = |group: &serde_json::Value| group["total"].as_u64().expect("a total");
        let sum: u64 = groups["rows"].as_array().expect("rows").iter().map(total).sum();
        assert_eq!(sum + total(&groups["other"]), expected.len() as u64, "totals are always equal");
        let plan = product::text(ns, &["summary", "--no-owners", "--explain-plan"]);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        assert_eq!(plan.contains("threads: a second one receives in 1 of 1"), cores > 1, "{plan}");
        let mut reader = product::with(ns, &["list"]).stdout(Stdio::piped()).spawn().expect("start the program");
        let mut first = [0; 64];
        reader.stdout.take().expect("its output").read_exact(&mut first).expect("its first line");
        assert!(reader.wait().expect("its end").success(), "a closed pipe is success");
    });
}

#[test]
fn counting_processes_needs_no_descriptors_and_says_the_same() {
    in_netns(|ns| {
        let held = populate();
        let summary = product::json(ns, &["summary", "--json", "--by", "process"]);
        let ours = u64::from(std::process::id());
        let rows = summary["groups"]["by"]["rows"].as_array().expect("rows");
        // A child that a parallel test starts may hold some of them too, until it executes its program.
        let mine =
            rows.iter().filter(|g| g["process"]["pids"].as_array().is_some_and(|all| all.contains(&ours.into())));
        let total: u64 = mine.map(|g| g["total"].as_u64().expect("a total")).sum();
        assert_eq!(total, held.len() as u64, "{summary}");
    });
}

#[test]
fn sorted_rows_are_those_of_the_kernel_in_another_order() {
    in_netns(|ns| {
        let _held = populate();
        let rows = |more: &[&str]| -> Vec<serde_json::Value> {
            let words = [&["list", "--json", "-c", "cookie,local,send-q,state,pid"][..], more].concat();
            product::json(ns, &words)["sockets"].as_array().expect("sockets").clone()
        };
        let mut plain = rows(&[]);
        let by_id = |rows: &mut Vec<serde_json::Value>| rows.sort_by_key(|row| row["cookie"].to_string());
        by_id(&mut plain);
        for column in ["local", "-send-q", "state", "-pid"] {
            let mut sorted = rows(&[&format!("--sort={column}")]);
            if column == "-send-q" {
                assert!(sorted.is_sorted_by_key(|row| std::cmp::Reverse(row["send_q_bytes"].as_u64())), "{column}");
            }
            by_id(&mut sorted);
            assert!(sorted == plain, "{column}: {} rows, {} expected", sorted.len(), plain.len());
        }
    });
}
