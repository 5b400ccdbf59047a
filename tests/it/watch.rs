//! `tcpstate watch` against connections whose number and end are known. Comes in: the product's JSON lines. Goes out:
//! that its accounts are those of the test, to the last connection. Never here: a tolerance.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;

use crate::harness::helper::Helper;
use crate::harness::sock::Sock;
use crate::harness::{Netns, PATIENCE, in_netns, wait_for};
use crate::trace::bpf_works;

/// The screen in a real terminal.
mod screen;
/// Processes that come and go.
mod short_lived;
/// Every view in every size of a window.
mod sizes;
/// Hours in a minute: many sockets, many looks.
mod soak;
/// The sockets of a finding, by cookie.
mod sockets;
/// The real terminal.
mod tmux;

/// A running `watch --json`; killed when dropped.
struct Watch {
    child: Child,
    lines: Receiver<Json>,
    seen: Vec<Json>,
}

impl Watch {
    #[track_caller]
    fn start(ns: &Netns, args: &[&str]) -> Watch {
        let mut command: Command = ns.product();
        command.args(["watch", "--json"]).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("start watch");
        let lines = read(child.stdout.take().expect("its output"));
        let mut watch = Watch { child, lines, seen: Vec::new() };
        watch.snapshots(1);
        watch
    }

    /// Waits for so many more snapshots, and returns the last.
    #[track_caller]
    fn snapshots(&mut self, n: usize) -> Json {
        let deadline = Instant::now() + PATIENCE;
        let mut left = n;
        loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(wait).expect("another snapshot");
            self.seen.push(line.clone());
            if line["type"] == "snapshot" {
                left -= 1;
                if left == 0 {
                    return line;
                }
            }
        }
    }

    /// Takes what has come, waits for two looks more, and returns the second: its counters were read when all was
    /// quiet already.
    #[track_caller]
    fn quiet(&mut self) -> Json {
        self.seen.extend(self.lines.try_iter());
        self.snapshots(2)
    }

    /// Ends it in order, and returns everything it said.
    #[track_caller]
    fn end(mut self) -> Vec<Json> {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("signal watch");
        let status = wait_for("the end of watch", || self.child.try_wait().expect("waitpid").ok_or("it runs".into()));
        assert!(status.success(), "{status}");
        self.seen.extend(self.lines.iter());
        assert_eq!(self.seen.last().map(|l| &l["type"]), Some(&"end".into()), "the last line says that it is the last");
        std::mem::take(&mut self.seen)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(stdout: ChildStdout) -> Receiver<Json> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let json = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
            if send.send(json).is_err() {
                break;
            }
        }
    });
    receive
}

fn number(json: &Json) -> u64 {
    json.as_u64().unwrap_or_else(|| panic!("{json} is no count"))
}

/// What the test did.
#[derive(Default, Debug)]
struct Done {
    opened: u64,
    closed_by_client: u64,
    closed_by_server: u64,
    reset: u64,
    refused: u64,
}

/// Opens connections, lets each live for its time, and ends it in its way. Everything is over when it returns.
fn churn(port: u16, connections: u64) -> Done {
    let listener = Sock::listening(SocketAddr::from(([127, 0, 0, 1], port)), 128);
    let mut done = Done::default();
    let mut alive: Vec<(u64, Sock, Sock)> = Vec::new();
    let end = |kind: u64, client: Sock, server: Sock, done: &mut Done| match kind % 4 {
        0 => {
            client.close();
            server.receive_eof();
            server.close();
            done.closed_by_client += 1;
        }
        1 => {
            server.close();
            client.receive_eof();
            client.close();
            done.closed_by_server += 1;
        }
        _ => {
            let reset_by_client = kind % 4 == 2;
            let (first, second) = if reset_by_client { (client, server) } else { (server, client) };
            // Dropping it resets the connection, and the other end with it.
            drop(first);
            wait_for("the reset", || match second.state() {
                tcpstate::model::State::Close => Ok(()),
                other => Err(other.to_string()),
            });
            drop(second);
            done.reset += 1;
        }
    };
    for i in 0..connections {
        let client = Sock::connected(listener.local(), None);
        let server = listener.accept();
        done.opened += 1;
        // Two in three end at once, between two looks; the others live across one or several.
        if i % 3 > 0 {
            end(i, client, server, &mut done);
        } else {
            alive.push((i, client, server));
            if alive.len() > 20 {
                let (kind, client, server) = alive.remove(0);
                end(kind, client, server, &mut done);
            }
        }
        if i % 10 == 0 {
            let nobody = SocketAddr::from(([127, 0, 0, 1], port + 1));
            assert!(std::net::TcpStream::connect(nobody).is_err());
            done.refused += 1;
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    for (kind, client, server) in alive {
        end(kind, client, server, &mut done);
    }
    done
}

/// The sum of every `changes` entry with this end.
fn changes(lines: &[Json], from: Option<&str>, to: Option<&str>) -> u64 {
    let matches = |value: &Json, wanted: Option<&str>| wanted.is_none_or(|w| value.as_str().unwrap_or("none") == w);
    lines
        .iter()
        .filter(|l| l["type"] == "snapshot")
        .flat_map(|l| l["changes"].as_array().expect("changes"))
        .filter(|c| matches(&c["from"], from) && matches(&c["to"], to))
        .map(|c| number(&c["count"]))
        .sum()
}

#[test]
fn accounts_are_exact_under_churn() {
    in_netns(|ns| {
        let mut runs = vec![("100ms", "--no-trace"), ("330ms", "--no-trace")];
        if bpf_works(ns) {
            runs.extend([("100ms", "--trace"), ("330ms", "--trace")]);
        }
        for (interval, mode) in runs {
            let mut watch = Watch::start(ns, &["--interval", interval, mode]);
            let before = watch.seen[0].clone();
            let done = churn(7000, 600);
            let after = watch.quiet();
            let lines = watch.end();
            let since = &lines.last().expect("an end")["since_start"];
            let (orderly, everything) = (done.closed_by_client + done.closed_by_server, 2 * done.opened + done.refused);
            let told = format!("{interval} {mode}: {done:?} {since}");
            println!("{told}");
            assert_eq!(number(&since["opened"]["total"]), everything, "{told}");
            assert_eq!(number(&since["active_opens"]), done.opened + done.refused, "{told}");
            assert_eq!(number(&since["passive_opens"]), done.opened, "{told}");
            assert_eq!(number(&since["time_wait"]["total"]), orderly, "{told}");
            assert_eq!(number(&since["resets"]), 2 * done.reset, "{told}");
            assert_eq!(number(&since["attempt_fails"]), done.refused, "{told}");
            assert_eq!(number(&since["ended"]), everything - orderly, "{told}");
            assert!(number(&since["opened"]["seen"]) > 0, "{told}");
            // What lives and dies between two looks is in neither; a trace has it all, unless it says that it lost some.
            let traces = mode == "--trace";
            let (rest, none) = if traces { ("traced", "unseen") } else { ("unseen", "traced") };
            assert_eq!(after["trace"].is_null(), !traces, "{after}");
            assert!(!traces || after["trace"]["lost"] == 0, "{after}");
            assert!(number(&since["opened"][rest]) > 0, "{told}");
            assert_eq!((number(&since["opened"][none]), number(&since["time_wait"][none])), (0, 0), "{told}");
            // The parts add up to the sums, line by line and in all.
            let snapshots: Vec<&Json> = lines.iter().filter(|l| l["type"] == "snapshot").collect();
            for flow in ["opened", "time_wait"] {
                for part in ["seen", "traced", "unseen"] {
                    let sum: u64 = snapshots.iter().map(|l| number(&l["accounts"][flow][part])).sum();
                    assert_eq!(sum, number(&since[flow][part]), "{flow} {part}");
                }
            }
            assert_eq!(changes(&lines, None, Some("time_wait")), number(&since["time_wait"]["seen"]));
            let (came, went) = (changes(&lines, Some("none"), None), changes(&lines, None, Some("none")));
            assert_eq!(number(&before["total"]) + came, number(&after["total"]) + went, "arrivals less departures");
            // Every change in the matrix is a line of its own.
            let each = lines.iter().filter(|l| l["type"] == "transition").count() as u64;
            assert_eq!(each, changes(&lines, None, None));
            assert!(snapshots.windows(2).all(|w| number(&w[1]["seq"]) == number(&w[0]["seq"]) + 1));
        }
    });
}

#[test]
fn a_selection_moves_with_its_sockets_and_does_not_claim_what_it_cannot_know() {
    in_netns(|ns| {
        let mut watch = Watch::start(ns, &["--interval", "100ms", "--no-owners", "port", "7000"]);
        let done = churn(7000, 60);
        churn(8000, 60);
        let last = watch.quiet();
        let lines = watch.end();
        let mine = done.closed_by_client + done.closed_by_server;
        assert_eq!(number(&last["states"]["time_wait"]), mine, "{last}");
        assert_eq!(changes(&lines, None, Some("time_wait")), mine);
        let since = &lines.last().expect("an end")["since_start"];
        assert!(since["opened"]["unseen"].is_null() && since["opened"]["total"].is_null(), "{since}");
        let ports: Vec<u64> = lines
            .iter()
            .filter(|l| l["type"] == "transition")
            .flat_map(|l| [number(&l["local"]["port"]), number(&l["peer"]["port"])])
            .collect();
        assert!(!ports.is_empty() && !ports.contains(&8000));
    });
}

#[test]
fn only_what_is_on_screen_is_asked_for() {
    in_netns(|ns| {
        let mut watch = Watch::start(ns, &["--interval", "100ms", "--no-owners", "--state", "TIME_WAIT"]);
        let done = churn(7000, 40);
        let last = watch.quiet();
        let lines = watch.end();
        let mine = done.closed_by_client + done.closed_by_server;
        assert_eq!((number(&last["total"]), number(&last["states"]["time_wait"])), (mine, mine));
        assert!(last["states"]["established"].is_null(), "not asked for is not zero: {last}");
        let since = &lines.last().expect("an end")["since_start"];
        assert_eq!(number(&since["time_wait"]["total"]), mine, "{since}");
        assert!(since["opened"]["total"].is_null() && since["ended"].is_null(), "{since}");
    });
}

/// Clients that live 300 ms per connection leave TIME_WAIT behind: whose?
#[test]
fn owners_of_time_wait_are_right_where_claimed() {
    in_netns(|ns| whose_time_wait(ns, "--no-trace"));
}

/// The same with a trace: all of them, exactly.
#[test]
fn a_trace_names_the_closer_of_every_time_wait() {
    in_netns(|ns| {
        if bpf_works(ns) {
            whose_time_wait(ns, "--trace");
        }
    });
}

fn whose_time_wait(ns: &Netns, mode: &str) {
    let traces = mode == "--trace";
    let mut server = Helper::start(ns);
    server.rename(b"server");
    server.ask("serve 7000");
    server.ask("serve 7001");
    let mut alice = Helper::start(ns);
    let mut bob = Helper::start(ns);
    alice.rename(b"alice");
    bob.rename(b"bob");
    let mut watch = Watch::start(ns, &["--interval", "500ms", "--top", "50", mode]);
    // Each has its own address, so that a row tells who it was.
    let (a, b) = (alice.pid(), bob.pid());
    std::thread::scope(|scope| {
        scope.spawn(|| alice.ask("lives 127.0.0.1:7000 127.0.0.2 120 300 25"));
        scope.spawn(|| bob.ask("lives 127.0.0.1:7001 127.0.0.3 120 300 25"));
    });
    let share = |snapshot: &Json, key| number(&snapshot["time_wait_owners"][key]);
    let mut last = watch.quiet();
    // On a busy machine the last servers may be slow to close their ends.
    let deadline = Instant::now() + PATIENCE;
    while number(&last["since_start"]["time_wait"]["total"]) < 240 && Instant::now() < deadline {
        last = watch.snapshots(1);
    }
    let lines = watch.end();
    let (exact, likely, unknown) = (share(&last, "exact"), share(&last, "likely"), share(&last, "unknown"));
    println!("TIME_WAIT after 300 ms lives at 500 ms looks, {mode}: {exact} exact, {likely} likely, {unknown} unknown");
    let (there, flow) = (number(&last["states"]["time_wait"]), &last["since_start"]["time_wait"]);
    assert_eq!(number(&flow["total"]), 240, "{last}");
    // Now and then one is gone before the next look: a reset ends it (`tcp_timewait_state_process`). The books know.
    let ended = changes(&lines, Some("time_wait"), Some("none")) + number(&flow["unseen"]) + number(&flow["traced"]);
    assert_eq!(there + ended, 240, "{last}");
    assert_eq!(exact + likely + unknown, there, "{last}");
    // How many are met alive, and still alive when the processes are read, is the machine's business: on a busy one none.
    assert_eq!(unknown, 0, "each destination was only ever called by one of them");
    let mut claimed = 0;
    for line in lines.iter().filter(|l| l["type"] == "transition" && l["to"] == "time_wait") {
        let Some(owner) = line["owner"].as_str() else { continue };
        let truth = match line["local"]["addr"].as_str() {
            Some("127.0.0.2") => format!("alice({a})"),
            Some("127.0.0.3") => format!("bob({b})"),
            other => panic!("a TIME_WAIT of {other:?}"),
        };
        assert_eq!(owner, truth, "{line}");
        claimed += 1;
    }
    if traces {
        // One that came into the table between the trace and the row is named at the look after.
        assert_eq!((exact, share(&last, "traced") > 0), (there, true), "{last}");
    } else {
        assert_eq!((claimed, share(&last, "traced")), (exact, 0), "{last}");
    }
    // What is only likely is right here too: 120 of each less those that ended, the exact and the likely ones together.
    let rows = last["groups"]["rows"].as_array().expect("groups");
    let mut named = 0;
    for name in ["alice", "bob"] {
        let of = |key: &str| -> u64 {
            rows.iter()
                .filter(|r| r["group"][key].as_str().is_some_and(|l| l.split('(').next() == Some(name)))
                .map(|r| number(&r["states"]["time_wait"]))
                .sum()
        };
        let its = of("process") + of("likely");
        assert!((120 - ended..=120).contains(&its), "{name}: {rows:?}");
        named += its;
    }
    assert_eq!(named, there, "{rows:?}");
}

/// A connect that is refused leaves no row, so no sample shows it.
#[test]
fn the_rules_judge_what_was_traced_between_their_runs() {
    in_netns(|ns| {
        if !bpf_works(ns) {
            return;
        }
        let mut watch = Watch::start(ns, &["--interval", "500ms"]);
        let nobody = SocketAddr::from(([127, 0, 0, 1], 7009));
        let finding = wait_for("the finding", || {
            for _ in 0..10 {
                assert!(std::net::TcpStream::connect(nobody).is_err());
            }
            watch.snapshots(1);
            let is_it = |line: &&Json| line["type"] == "finding" && line["rule"] == "connect-failures";
            watch.seen.iter().find(is_it).cloned().ok_or_else(|| "none yet".to_owned())
        });
        assert_eq!((&finding["event"], &finding["severity"]), (&"seen".into(), &"warning".into()), "{finding}");
        assert_eq!(finding["subject"]["pid"], std::process::id(), "{finding}");
        assert_eq!(finding["confidence"], 0.95, "the trace has it, and lost nothing: {finding}");
    });
}

#[test]
fn a_closed_pipe_is_success_and_count_ends_by_itself() {
    in_netns(|ns| {
        let mut command = ns.product();
        command.args(["watch", "--plain", "--interval", "100ms", "--no-findings"]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("start watch");
        drop(child.stdout.take());
        let status = wait_for("the end of watch", || child.try_wait().expect("waitpid").ok_or("it runs".into()));
        assert!(status.success(), "{status}");
        let started = Instant::now();
        let output = crate::harness::finish(ns.product().args(["watch", "--plain", "--count", "6", "-i", "100ms"]));
        let took = started.elapsed();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).expect("text");
        assert_eq!(text.split_terminator("\n\n").count(), 6, "{text}");
        assert!(took >= Duration::from_millis(500), "{took:?}");
    });
}
