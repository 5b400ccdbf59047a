//! Tracing, end to end. Comes in: connections on loopback whose closers are known. Goes out: a judgement on every line
//! of `trace --json`. Never here: the tracer's inside (`src/collect/bpf` tests that).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;
use tcpstate::model::gap::Missing;
use tcpstate::model::transition::Via;
use tcpstate::render::gap;

use crate::harness::sock::Sock;
use crate::harness::{Netns, PATIENCE, descriptors, in_netns, skip, wait_for};
use crate::json::{assert_valid, validator};
use crate::product;

/// How a trace ends, and how it goes on after its reader slept.
mod ends;
/// What ended connections that fail in every way.
mod failures;
/// Data that comes after the socket was closed.
mod late;
/// What each connection carried in its whole life.
mod lives;
/// New connections that their server ends as soon as they come.
mod sent_away;

/// A running trace that writes into memory; killed when dropped.
struct Trace {
    child: Child,
    out: File,
}

impl Trace {
    /// Starts it and waits until it traces.
    fn start(mut command: Command) -> Trace {
        let out = File::from(memfd_create("trace", MemfdFlags::CLOEXEC).expect("memory"));
        command.stdout(out.try_clone().expect("dup")).stderr(Stdio::null()).stdin(Stdio::null());
        let trace = Trace { child: command.spawn().expect("start the trace"), out };
        wait_for("the header", || trace.text().contains('\n').then_some(()).ok_or_else(|| "nothing".into()));
        trace
    }

    fn text(&self) -> String {
        // The offset is shared with the writer: read by position.
        let mut bytes = vec![0; usize::try_from(self.out.metadata().expect("stat").len()).expect("length")];
        std::os::unix::fs::FileExt::read_exact_at(&self.out, &mut bytes, 0).expect("read");
        String::from_utf8(bytes).expect("text")
    }

    /// Interrupts it and returns its lines, every one checked against the schema.
    fn interrupt(mut self) -> Vec<Json> {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("interrupt");
        assert!(exit(&mut self.child).success(), "an interrupt is a good end");
        lines(&self.text())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn exit(child: &mut Child) -> ExitStatus {
    wait_for("the trace to end", || child.try_wait().expect("waitpid").ok_or_else(|| "it runs".into()))
}

fn lines(text: &str) -> Vec<Json> {
    let valid = validator(Some("line"));
    let lines: Vec<Json> =
        text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
    for line in &lines {
        assert_valid(&valid, line, &line.to_string());
    }
    assert_eq!((&lines[0]["type"], &lines.last().unwrap()["type"]), (&"header".into(), &"end".into()));
    lines
}

fn of<'l>(lines: &'l [Json], kind: &str) -> Vec<&'l Json> {
    lines.iter().filter(|l| l["type"] == kind).collect()
}

/// Whether BPF programs may be loaded; where not, polling is all there is to test.
pub(crate) fn bpf_works(ns: &Netns) -> bool {
    works(ns, "bpf")
}

/// Whether a source can be forced here.
fn works(ns: &Netns, via: &str) -> bool {
    let output = crate::harness::finish(&mut product::with(ns, &["trace", "--via", via, "--duration", "1ms"]));
    if !output.status.success() {
        skip(&format!("no {via} here: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    output.status.success()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closer {
    Client,
    Server,
}

/// Two listeners: the clients of the first close first, and the servers of the second. (Ports of clients come again.)
fn listen() -> [(Closer, TcpListener); 2] {
    listen_at([127, 0, 0, 1])
}

/// Who closes first a connection to this port.
fn closer_by(server_port: &Json) -> Closer {
    match server_port.as_u64() {
        Some(7000) => Closer::Client,
        Some(7001) => Closer::Server,
        other => panic!("no server has port {other:?}"),
    }
}

/// The same on an address of its own, so that a trace of all namespaces can be restricted to it.
fn listen_at(address: [u8; 4]) -> [(Closer, TcpListener); 2] {
    [(Closer::Client, 7000), (Closer::Server, 7001)]
        .map(|(closer, port)| (closer, TcpListener::bind(SocketAddr::from((address, port))).expect("listen")))
}

/// Opens and closes so many connections, one after the other, by turns to the one listener and the other.
///
/// In a thread with a descriptor table of its own: between fork and exec a child that a parallel test starts would hold
/// these sockets too, and be the one that closes them.
fn churn(listeners: &[(Closer, TcpListener)], count: usize) {
    let kept: Vec<_> = listeners.iter().map(|(_, listener)| listener.as_fd()).collect();
    descriptors::with_own(&kept, || {
        connect_and_close(listeners, count);
    });
}

fn connect_and_close(listeners: &[(Closer, TcpListener)], count: usize) {
    for (closer, listener) in listeners.iter().cycle().take(count) {
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
        let (server, _) = listener.accept().expect("accept");
        let (mut first, mut second) = if *closer == Closer::Client { (client, server) } else { (server, client) };
        first.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(second.read(&mut [0]).expect("read"), 0, "the FIN");
        drop(second);
        assert_eq!(first.read(&mut [0]).expect("read"), 0, "the other FIN");
        drop(first);
    }
}

/// Of one connection: five changes at each end.
const CHANGES: usize = 10;

#[test]
fn every_change_is_seen_once_and_every_closer_is_right() {
    in_netns(|ns| {
        if !bpf_works(ns) {
            return;
        }
        let count = std::env::var("TCPSTATE_TESTS_TRACE").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
        let listeners = listen();
        // Room for all of them: how fast a reader is that was not optimised is not the question here.
        let words = ["trace", "--this-netns", "--json", "--ring-size", "64M"];
        let trace = Trace::start(product::with(ns, &words));
        let lives = Trace::start(product::with(ns, &[&words[..], &["--life"]].concat()));
        churn(&listeners, count);
        let (changes, lives) = (trace.interrupt(), lives.interrupt());
        drop(listeners);

        let end = changes.last().unwrap();
        assert_eq!((end["lost"].as_u64(), end["forgotten"].as_u64()), (Some(0), Some(0)), "{end}");
        let mut by_socket: BTreeMap<&str, Vec<&Json>> = BTreeMap::new();
        let all = of(&changes, "transition");
        assert_eq!(all.len(), CHANGES * count);
        assert!(
            all.is_sorted_by_key(
                |t| t["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond() / 10
            )
        );
        for t in all {
            by_socket.entry(t["cookie"].as_str().expect("a cookie")).or_default().push(t);
        }
        assert_eq!(by_socket.len(), 2 * count);
        let me = u64::from(std::process::id());
        for changes in by_socket.values() {
            let words: Vec<(&str, &str)> =
                changes.iter().map(|t| (t["old"].as_str().unwrap(), t["new"].as_str().unwrap())).collect();
            let client = words[0] == ("close", "syn_sent");
            let port = &changes[1][if client { "peer" } else { "local" }]["port"];
            let first = closer_by(port) == if client { Closer::Client } else { Closer::Server };
            let opening: &[(&str, &str)] = if client {
                &[("close", "syn_sent"), ("syn_sent", "established")]
            } else {
                &[("listen", "syn_recv"), ("syn_recv", "established")]
            };
            let closing: &[(&str, &str)] = if first {
                &[("established", "fin_wait1"), ("fin_wait1", "fin_wait2"), ("fin_wait2", "close")]
            } else {
                &[("established", "close_wait"), ("close_wait", "last_ack"), ("last_ack", "close")]
            };
            assert_eq!(words, [opening, closing].concat(), "{changes:?}");
            for t in changes {
                if t["by_call"] == true {
                    assert_eq!(t["process"]["pid"].as_u64(), Some(me), "{t}");
                }
                // Every state but the first began in this trace.
                assert_eq!(t["in_old_us"].is_null(), t == &changes[0], "{t}");
            }
        }
        let ended = of(&lives, "life");
        assert_eq!(ended.len(), 2 * count);
        let mut found = 0;
        for life in ended {
            let client = life["opened_by"] == "local";
            let port = &life[if client { "peer" } else { "local" }]["port"];
            let first = closer_by(port) == if client { Closer::Client } else { Closer::Server };
            assert_eq!(life["complete"], true, "{life}");
            // TIME_WAIT was inferred, and then found under the same cookie, unless that has ended again: there is a limit.
            assert!(first || life["inferred"] == false, "{life}");
            found += usize::from(first && life["inferred"] == false);
            assert_eq!(life["ended"], if first { "time_wait" } else { "closed" }, "{life}");
            assert_eq!(life["closed_first"], if first { "local" } else { "peer" }, "{life}");
            assert_eq!(life["closer"]["pid"].as_u64(), first.then_some(me), "{life}");
            assert_eq!(life["opener"]["pid"].as_u64(), client.then_some(me), "{life}");
            let states = life["states"].as_array().unwrap();
            let sum: u64 = states.iter().map(|s| s["duration_us"].as_u64().unwrap()).sum();
            let whole = life["duration_us"].as_u64().unwrap();
            // Each part is rounded down.
            assert!(states.len() == 4 && sum <= whole && whole - sum <= 4 && whole < 20_000_000, "{life}");
        }
        assert!(found > count / 10, "{found} TIME_WAIT found");
    });
}

/// Nobody reads the trace: the connections do not wait for it, and what it missed is counted to the last one.
#[test]
fn a_reader_that_stops_costs_the_kernel_nothing_and_is_told_what_it_missed() {
    in_netns(|ns| {
        if !bpf_works(ns) {
            return;
        }
        let count = 1000;
        let listeners = listen();
        let mut command = product::with(ns, &["trace", "--this-netns", "--json", "--ring-size", "4k"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("start the trace");
        let mut pipe = child.stdout.take().expect("a pipe");
        let mut text = vec![0; 1];
        pipe.read_exact(&mut text).expect("the header has begun");
        let started = Instant::now();
        churn(&listeners, count);
        assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
        kill_process(Pid::from_child(&child), Signal::INT).expect("interrupt");
        pipe.read_to_end(&mut text).expect("read");
        assert!(exit(&mut child).success());
        let lines = lines(&String::from_utf8(text).unwrap());
        let (lost, end) = (of(&lines, "lost"), lines.last().unwrap());
        let (seen, missed) = (end["transitions"].as_u64().unwrap(), end["lost"].as_u64().unwrap());
        assert!(missed > 0, "the ring holds 30 changes: {end}");
        assert_eq!(seen + missed, (CHANGES * count) as u64, "{end}");
        assert_eq!(lost.iter().map(|l| l["records"].as_u64().unwrap()).sum::<u64>(), missed);
        assert_eq!(lost.last().unwrap()["total"].as_u64(), Some(missed));
    });
}

#[test]
fn without_rights_it_says_so_and_polls() {
    in_netns(|ns| {
        if !product::can_be_another_user() {
            return skip("only root can be another user");
        }
        let words = ["trace", "--json", "--interval", "100ms"];
        let (command, _binary) = product::with_user(ns, 65534, &words);
        let listeners = listen();
        let trace = Trace::start(command);
        let client = TcpStream::connect(listeners[0].1.local_addr().unwrap()).expect("connect");
        let (server, _) = listeners[0].1.accept().expect("accept");
        let shows = |what: &str| {
            let wanted = format!("\"new\":\"{what}\"");
            wait_for(what, || trace.text().contains(&wanted).then_some(()).ok_or_else(|| trace.text()));
        };
        shows("established");
        server.shutdown(Shutdown::Write).expect("shutdown");
        shows("close_wait");
        drop(client);
        shows("time_wait");
        let lines = trace.interrupt();
        assert_eq!((&lines[0]["via"], &lines[0]["source"]), (&"poll".into(), &"netlink".into()));
        let gaps = of(&lines, "gap");
        let why = gaps[0]["why"].as_str().unwrap();
        assert!(why.contains("CAP_BPF") || why.contains("not permitted"), "{why}");
        let missing: Vec<&str> = gaps.iter().map(|g| g["missing"].as_str().unwrap()).collect();
        assert_eq!(missing[..2], ["trace", "trace"], "{gaps:?}");
        assert!(missing.contains(&"changes_between_samples"), "{gaps:?}");
        let port = |t: &Json| t["local"]["port"].as_u64();
        let ends: Vec<_> = of(&lines, "transition").into_iter().filter(|t| port(t) == Some(7000)).collect();
        let path: Vec<_> = ends.iter().map(|t| (t["old"].as_str(), t["new"].as_str().unwrap())).collect();
        assert_eq!(path, [(None, "established"), (Some("established"), "fin_wait2"), (Some("fin_wait2"), "time_wait")]);
        assert!(ends.iter().all(|t| t["by"].is_null() && t["process"].is_null()));
        assert_eq!(lines.last().unwrap()["lost"], Json::Null, "a poller cannot know what it missed");

        for via in [Via::Bpf, Via::Tracefs] {
            let (mut forced, _binary) = product::with_user(ns, 65534, &["trace", "--via", via.key()]);
            let refused = crate::harness::finish(&mut forced);
            assert_eq!(refused.status.code(), Some(2));
            let said = String::from_utf8_lossy(&refused.stderr);
            let what = gap::what(&Missing::Trace(Some(via)));
            assert!(said.lines().count() == 1 && said.contains(&format!("{what}: ")), "{said}");
        }
    });
}

#[test]
fn filters_counts_matrices_and_closed_pipes() {
    in_netns(|ns| {
        if !bpf_works(ns) {
            return;
        }
        let listeners = listen();
        let words = ["trace", "--this-netns", "--json", "--count", "3", "state close-wait and sport = :7000"];
        let mut filtered = Trace::start(product::with(ns, &words));
        let pid = std::process::id().to_string();
        let mine =
            Trace::start(product::with(ns, &["trace", "--this-netns", "--json", "--pid", &pid, "state fin-wait-1"]));
        let matrix = Trace::start(product::with(ns, &["trace", "--this-netns", "--json", "--summary", "1h"]));
        churn(&listeners, 20);
        assert!(exit(&mut filtered.child).success());
        let lines_of = lines(&filtered.text());
        let shown = of(&lines_of, "transition");
        assert_eq!(shown.len(), 3);
        assert!(shown.iter().all(|t| t["new"] == "close_wait" && t["local"]["port"] == 7000), "{shown:?}");
        let mine = mine.interrupt();
        assert_eq!(of(&mine, "transition").len(), 20);
        let matrix = matrix.interrupt();
        let rows = of(&matrix, "matrix")[0]["transitions"].as_array().unwrap();
        let count = |old: &str, new: &str| {
            rows.iter().find(|r| r["old"] == old && r["new"] == new).and_then(|r| r["count"].as_u64())
        };
        assert_eq!((count("established", "fin_wait1"), count("listen", "syn_recv")), (Some(20), Some(20)));
        assert_eq!(rows.len(), CHANGES);
        let mut pipe = product::with(ns, &["trace", "--this-netns"]);
        let mut closed = pipe.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("start");
        closed.stdout.take().expect("a pipe").read_exact(&mut [0]).expect("its first line");
        let ended = wait_for("a trace without a reader to end", || {
            churn(&listeners, 4);
            closed.try_wait().expect("waitpid").ok_or_else(|| "it runs".into())
        });
        assert!(ended.success(), "a closed pipe is a good end");
    });
}

/// A refused connection leaves no row, and its socket no address and no count: it is unseen all the same.
#[test]
fn a_poller_counts_refused_connections_as_unseen() {
    in_netns(|ns| {
        let words = ["trace", "--via", "poll", "--json", "--interval", "200ms"];
        let trace = Trace::start(product::with(ns, &words));
        let failed = Trace::start(product::with(ns, &[&words[..], &["--failed"]].concat()));
        for address in ["127.0.0.1", "::1"].iter().cycle().take(200) {
            std::net::TcpStream::connect((*address, 7800)).expect_err("nobody listens");
        }
        // Neither was ever a connection.
        drop(Sock::new(SocketAddr::from(([127, 0, 0, 1], 7801))));
        drop(Sock::listening(SocketAddr::from(([127, 0, 0, 1], 7802)), 1));
        std::thread::sleep(Duration::from_millis(500));
        let lines = trace.interrupt();
        let seen = of(&lines, "transition").iter().filter(|t| t["new"] == "syn_sent").count() as u64;
        assert_eq!(lines.last().unwrap()["unseen"].as_u64().expect("the kernel tells") + seen, 200, "{lines:?}");
        // That none is shown as failed is said.
        let failed = failed.interrupt();
        let lacks = of(&failed, "gap").into_iter().filter(|gap| gap["missing"] == "tracepoint");
        let said: Vec<&str> = lacks.map(|gap| gap["what"].as_str().expect("words")).collect();
        assert!(of(&failed, "life").is_empty(), "{failed:?}");
        assert_eq!(said, ["nothing of sock:inet_sk_error_report is traced"]);
    });
}

/// The addresses, ports and states of a change, and who made it: what every tracer must tell.
fn facts(t: &Json) -> String {
    let words = ["family", "local", "peer", "old", "new", "by", "by_call", "process"].map(|key| t[key].to_string());
    words.join(" ")
}

/// The same load seen by every source at once. `tracefs` must tell what `bpf` tells but for namespace and cookie; `poll`
/// sees a part, and the connections that it saw and those that it did not are together all that there were.
#[test]
fn every_source_tells_the_same_of_the_same_connections() {
    in_netns(|ns| {
        if !works(ns, "bpf") || !works(ns, "tracefs") {
            return;
        }
        let count = 300;
        let listeners = listen_at([127, 66, 0, 1]);
        let filter = "src 127.66.0.1 or dst 127.66.0.1";
        let start = |via: &[&str]| Trace::start(product::with(ns, &[&["trace", "--json"], via, &[filter]].concat()));
        let bpf = start(&["--via", "bpf", "--this-netns"]);
        let bpf_lives = start(&["--via", "bpf", "--this-netns", "--life"]);
        // It hears all namespaces, those of the tests beside this one too: room for whatever they do.
        let tracefs = start(&["--via", "tracefs", "--ring-size", "64M"]);
        let tracefs_lives = start(&["--via", "tracefs", "--life", "--ring-size", "64M"]);
        let poll = start(&["--via", "poll", "--this-netns", "--interval", "100ms"]);
        churn(&listeners, count - 2);
        // The last words of a socket come a little after it: a look that shows later ones is late enough.
        let remains = |n: usize| {
            let shown = || poll.text().lines().filter(|l| l.contains("\"new\":\"time_wait\"")).count();
            wait_for("TIME_WAIT", || (shown() == n).then_some(()).ok_or_else(|| format!("{} of {n}", shown())));
        };
        remains(count - 2);
        churn(&listeners, 2);
        remains(count);
        let [bpf, bpf_lives, tracefs, tracefs_lives, poll] =
            [bpf, bpf_lives, tracefs, tracefs_lives, poll].map(Trace::interrupt);
        drop(listeners);
        for lines in [&bpf, &bpf_lives, &tracefs, &tracefs_lives] {
            assert_eq!(lines.last().unwrap()["lost"].as_u64(), Some(0), "{:?}", lines.last());
        }
        assert_eq!((&tracefs[0]["via"], &tracefs[0]["source"]), (&"tracefs".into(), &"tracefs".into()));
        assert_eq!(of(&tracefs, "gap")[0]["missing"], "trace_netns", "{tracefs:?}");

        let all = of(&tracefs, "transition");
        assert!(
            all.is_sorted_by_key(
                |t| t["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond() / 10
            )
        );
        assert!(all.iter().all(|t| t["netns"].is_null() && t["cookie"].is_null()));
        let sorted = |lines: &[Json], kind: &str, facts: &dyn Fn(&Json) -> String| {
            let mut rows: Vec<String> = of(lines, kind).into_iter().map(facts).collect();
            rows.sort();
            rows
        };
        assert_eq!(sorted(&bpf, "transition", &facts).len(), CHANGES * count);
        assert_eq!(sorted(&bpf, "transition", &facts), sorted(&tracefs, "transition", &facts));
        let life = |l: &Json| {
            let states: Vec<&Json> = l["states"].as_array().unwrap().iter().map(|s| &s["state"]).collect();
            let words = ["local", "peer", "opened_by", "opener", "closed_first", "closer", "ended", "complete"];
            format!("{} {states:?}", words.map(|key| l[key].to_string()).join(" "))
        };
        assert_eq!(sorted(&bpf_lives, "life", &life).len(), 2 * count);
        assert_eq!(sorted(&bpf_lives, "life", &life), sorted(&tracefs_lives, "life", &life));
        // Cookie and traffic are told by tracefs of those that were destroyed soon after; never others than those of bpf.
        let carried = |l: &Json| {
            [&l["local"], &l["peer"], &l["cookie"], &l["sent_bytes"], &l["received_bytes"]]
                .map(Json::to_string)
                .join(" ")
        };
        let mut exact = sorted(&bpf_lives, "life", &carried);
        // Whether the peer's FIN is in its count tracefs cannot always say.
        let without_received = |l: &&Json| {
            let mut l = (*l).clone();
            l["received_bytes"] = Json::Null;
            carried(&l)
        };
        exact.extend(of(&bpf_lives, "life").iter().map(without_received));
        exact.sort_unstable();
        let told = of(&tracefs_lives, "life").into_iter().filter(|l| !l["sent_bytes"].is_null());
        let told: Vec<String> = told.map(carried).collect();
        assert!(told.len() > count, "{} of {}", told.len(), 2 * count);
        assert!(told.iter().all(|row| exact.binary_search(row).is_ok()), "{told:?}");

        let connected: BTreeMap<String, &Json> = of(&poll, "transition")
            .into_iter()
            .filter(|t| t["peer"]["port"].as_u64() != Some(0))
            .map(|t| (format!("{} {}", t["local"], t["peer"]), t))
            .collect();
        let unseen = poll.last().unwrap()["unseen"].as_u64().expect("the kernel tells");
        assert_eq!(connected.len() as u64 + unseen, 2 * count as u64, "{:?}", poll.last());
        assert!(unseen > 0 && !connected.is_empty(), "{unseen}");
        let real: std::collections::BTreeSet<String> =
            of(&bpf, "transition").into_iter().map(|t| format!("{} {}", t["local"], t["peer"])).collect();
        assert!(connected.keys().all(|tuple| real.contains(tuple)), "{connected:?}");
    });
}

#[test]
fn namespaces_that_are_named_are_traced_and_no_others() {
    in_netns(|outside| {
        if !bpf_works(outside) {
            return;
        }
        let spaces: Vec<Netns> = (0..3).map(|_| Netns::new()).collect();
        let paths: Vec<String> = spaces.iter().map(|ns| ns.path().display().to_string()).collect();
        let listeners: Vec<_> = spaces.iter().map(|ns| ns.run(listen)).collect();
        let two = ["--netns", &paths[0], "--netns", &paths[1]];
        let start = |words: &[&str]| Trace::start(product::with(outside, &[&["trace", "--json"], words].concat()));
        let bpf = start(&two);
        let one = start(&two[..2]);
        let poll = start(&[&["--via", "poll", "--interval", "100ms"], &two[..]].concat());
        let all = start(&["--netns", "all", "--summary", "1h"]);
        for (ns, listeners) in spaces.iter().zip(&listeners) {
            ns.run(|| churn(listeners, 4));
        }
        let named: Vec<u64> = spaces[..2].iter().map(Netns::inode).collect();
        let remains = || {
            let text = poll.text();
            let of = |ns: &u64| text.lines().filter(|l| l.contains("time_wait") && l.contains(&ns.to_string())).count();
            named.iter().map(of).collect::<Vec<_>>()
        };
        wait_for("TIME_WAIT", || (remains() == [4, 4]).then_some(()).ok_or_else(|| format!("{:?}", remains())));
        let [bpf, one, poll, all] = [bpf, one, poll, all].map(Trace::interrupt);
        let count = |lines: &[Json], ns: u64| of(lines, "transition").iter().filter(|t| t["netns"] == ns).count();
        let made = 4 * CHANGES;
        assert_eq!(named.iter().map(|ns| count(&bpf, *ns)).collect::<Vec<_>>(), [made, made]);
        assert_eq!((of(&bpf, "transition").len(), bpf[0]["netns"].as_u64()), (2 * made, None));
        assert_eq!((count(&one, named[0]), of(&one, "transition").len()), (made, made));
        assert_eq!(one[0]["netns"].as_u64(), Some(named[0]));
        let polled = of(&poll, "transition");
        assert!(polled.iter().all(|t| named.contains(&t["netns"].as_u64().unwrap())), "{polled:?}");
        assert!(all.last().unwrap()["transitions"].as_u64().unwrap() >= 3 * made as u64);

        let words = ["trace", "--via", "tracefs", "--netns", &paths[0]];
        let refused = crate::harness::finish(&mut product::with(outside, &words));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(2) && said.contains("have no network namespace"), "{said}");
    });
}
