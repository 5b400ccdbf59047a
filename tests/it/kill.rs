//! `tcpstate kill` on the real kernel. Comes in: sockets that match beside sockets that do not. Goes out: what is left, and
//! that it still passes data.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tcpstate::collect::destroy::Destroyer;
use tcpstate::collect::netlink::{Attributes, Channel};
use tcpstate::collect::proc::ProcRoot;
use tcpstate::collect::{Live, SourceChoice};
use tcpstate::model::fate::Fate;
use tcpstate::model::state::State;
use tcpstate::model::{Endpoint, Family, FourTuple, Socket};

use crate::harness::diag::{self, Row};
use crate::harness::helper::Helper;
use crate::harness::sock::Sock;
use crate::harness::{Netns, finish, in_netns, oracle, skip, wait_for};
use crate::json::{assert_valid, validator};
use crate::product;
use crate::states::{self, Ports};
use crate::tidy::{program_lines, read, rust_files};

/// Runs it, and returns the document and the exit code.
#[track_caller]
fn kill(ns: &Netns, words: &[&str]) -> (Json, i32) {
    let words = [&["kill", "--json"], words].concat();
    let output = finish(&mut product::with(ns, &words));
    assert!(output.stderr.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    let document = product::document(&output);
    assert_valid(&validator(Some("kill")), &document, &words.join(" "));
    assert!(validator(None).is_valid(&document), "{words:?}: more than one kind of document, or none");
    (document, output.status.code().expect("an exit code"))
}

/// Planned, destroyed, gone, changed, refused.
fn counts(document: &Json) -> [u64; 5] {
    ["planned", "destroyed", "gone", "changed", "refused"].map(|key| document[key].as_u64().expect("a count"))
}

fn on(rows: &[Row], port: u16, state: State) -> usize {
    rows.iter().filter(|row| row.state == state && row.local.port() == port).count()
}

#[test]
fn the_leak_of_one_process_goes_and_a_thousand_others_pass_data() {
    in_netns(|ns| {
        let mut healthy = Helper::start(ns);
        let pairs = healthy.make("established 7100 1000");
        let (mut leaking, mut other) = (Helper::start(ns), Helper::start(ns));
        leaking.make("close_wait 7000 250 eof_read closed");
        other.make("close_wait 7001 20 eof_read closed");
        let filter = format!("close-wait and pid = {}", leaking.pid());
        let (shown, code) = kill(ns, &[&filter]);
        assert_eq!((counts(&shown), code, &shown["executed"]), ([250, 0, 0, 0, 0], 0, &Json::Bool(false)));
        assert_eq!(on(&ns.run(diag::dump), 7000, State::CloseWait), 250, "shown only");
        let (done, code) = kill(ns, &["--yes", &filter]);
        assert_eq!((counts(&done), code), ([0, 250, 0, 0, 0], 0));
        let rows = ns.run(diag::dump);
        let left = [(7000, State::CloseWait), (7001, State::CloseWait), (7100, State::Established)];
        assert_eq!(left.map(|(port, state)| on(&rows, port, state)), [0, 20, 1000]);
        assert_eq!(on(&rows, 7000, State::Listen), 1);
        let fd = |at: usize| pairs[at].fd.expect("a descriptor");
        let clients = (0..pairs.len()).filter(|at| pairs[*at].what == "established/client");
        assert_eq!(clients.clone().count(), 1000);
        for at in clients {
            assert_eq!((pairs[at].local, pairs[at].peer), (pairs[at + 1].peer, pairs[at + 1].local));
            healthy.ask(&format!("send {} 1", fd(at)));
            healthy.ask(&format!("receive {} 1", fd(at + 1)));
        }
        // What the text warns of: the leak is still there, and a rule sees it.
        let words = ["doctor", "--once", "--json", "--rule", "closed-socket-fd-leak"];
        let findings = product::document(&finish(&mut product::with(ns, &words)));
        let pids: Vec<u64> = findings["findings"]
            .as_array()
            .expect("findings")
            .iter()
            .filter_map(|f| f["subject"]["pid"].as_u64())
            .collect();
        assert_eq!(pids, [u64::from(leaking.pid())], "{findings:#}");
    });
}

const NONE: Attributes = Attributes::NONE;

fn cookie(socket: &Socket) -> u64 {
    socket.cookie.expect("sock_diag tells it")
}

/// How the kernel shows a socket of a test now.
#[track_caller]
fn listed(channel: &mut Channel, sock: &Sock) -> Socket {
    let endpoint = |at: SocketAddr| Endpoint::new(at.ip(), at.port());
    let tuple = FourTuple { local: endpoint(sock.local()), peer: endpoint(sock.peer()), ifindex: 0 };
    let found = channel.lookup(Family::V4, tuple, sock.cookie(), NONE).expect("a look-up");
    found.expect("a row of the socket")
}

#[test]
fn a_later_socket_with_the_same_addresses_and_ports_is_never_destroyed() {
    in_netns(|_| {
        let live = Live::open(SourceChoice::Netlink, ProcRoot::default()).expect("sock_diag");
        let mut channel = Channel::open(live.netns()).expect("sock_diag");
        let server = Sock::listening(SocketAddr::from(([127, 0, 0, 1], 7000)), 16);
        let (to, from) = (server.local(), SocketAddr::from(([127, 0, 0, 1], 17000)));
        let pair = || {
            let client = Sock::connected(to, Some(from));
            let accepted = server.accept();
            (client, accepted)
        };
        let (mut client, mut accepted) = pair();
        let first = listed(&mut channel, &accepted);
        let mut destroyer = Destroyer::open(&live, std::iter::once(&first)).expect("root may");
        let start = Instant::now();
        let mut fates = [0u32; 2];
        for round in 0..10_000 {
            // Either end may be the one that is listed; each is in place of another by the time that it is to go.
            let old = listed(&mut channel, if round % 2 == 0 { &accepted } else { &client });
            drop((client, accepted));
            // A child that a parallel test starts holds both ends until its `exec`.
            wait_for("the end of the old socket", || {
                match channel.lookup(Family::V4, old.four_tuple(), cookie(&old), NONE) {
                    Ok(None) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            });
            (client, accepted) = pair();
            assert_eq!(destroyer.destroy(&old), Fate::Gone, "round {round}");
            client.send(1);
            accepted.receive(1);
            // One that is still itself goes, so that the fate of the others means something.
            if round % 100 == 0 {
                let now = listed(&mut channel, &accepted);
                assert_eq!(destroyer.destroy(&now), Fate::Destroyed, "round {round}");
                assert_eq!((accepted.state(), client.state()), (State::Close, State::Close), "round {round}");
                drop((client, accepted));
                (client, accepted) = pair();
                fates[1] += 1;
            }
            fates[0] += 1;
        }
        assert_eq!(fates, [10_000, 100]);
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        // In another state than the listed one it stays, too.
        let open = listed(&mut channel, &accepted);
        client.shutdown();
        accepted.wait(State::CloseWait);
        assert_eq!(destroyer.destroy(&open), Fate::Changed(State::CloseWait));
        accepted.send(1);
        client.receive(1);
    });
}

#[test]
fn without_the_right_nothing_is_destroyed_and_one_line_says_so() {
    in_netns(|ns| {
        if !product::can_be_another_user() {
            return skip("only root can be another user");
        }
        let held = states::established(ns, Ports::server(7000), 3);
        let before = ns.run(diag::dump);
        for words in [
            &["kill", "--yes", "sport = :7000"][..],
            &["kill", "sport = :7000"],
            &["kill", "--yes", "--json", "established"],
        ] {
            let (mut command, _binary) = product::with_user(ns, 65534, words);
            let output = finish(&mut command);
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{complaint}");
            assert!(complaint.lines().count() == 1 && complaint.contains("CAP_NET_ADMIN"), "{complaint}");
        }
        assert_eq!(ns.run(diag::dump), before);
        drop(held);
    });
}

#[test]
fn what_is_dangerous_takes_a_word_of_its_own() {
    in_netns(|ns| {
        let held = states::together(ns, |held| {
            held.merge(states::time_wait(ns, Ports::server(7001), 3, states::First::Server));
            held.merge(states::established(ns, Ports::server(7002), 2));
            held.merge(states::bound_inactive(ns, Ports::server(7003)));
        });
        // Timers go on.
        let cookies = || ns.run(diag::dump).iter().filter_map(|row| row.cookie).collect::<BTreeSet<u64>>();
        let before = cookies();
        for (words, why) in [
            (&["kill", "--yes"][..], "without a filter"),
            (&["kill", "--yes", "all"], "without a filter"),
            (&["kill", "--yes", "--source", "proc", "established"], "cookies"),
        ] {
            let output = finish(&mut product::with(ns, words));
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), complaint.lines().count()), (Some(2), 1), "{words:?}: {complaint}");
            assert!(complaint.contains(why), "{complaint}");
        }
        let text = product::text(ns, &["kill", "sport = :7002"]);
        for part in ["2 sockets would be destroyed", "2 peers get a RST", "closed-socket-fd-leak", "--listen", "--yes"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let reasons = |document: &Json| -> Vec<String> {
            let targets = document["targets"].as_array().expect("targets").iter();
            targets.filter_map(|target| target["reason"].as_str().map(str::to_owned)).collect()
        };
        for (filter, reason, n) in
            [("sport = :7001 and time-wait", "time_wait", 3), ("sport = :7001 and listen", "listener", 1)]
        {
            let (document, code) = kill(ns, &["--yes", filter]);
            assert_eq!((counts(&document), code), ([0, 0, 0, 0, n], 1), "{filter}");
            assert!(reasons(&document).iter().all(|r| r == reason), "{document:#}");
        }
        let bound = kill(ns, &["--yes", "--listen", "--force", "bound-inactive"]).0;
        assert!(reasons(&bound).iter().all(|r| r == "bound_inactive"), "{bound:#}");
        assert_eq!(cookies(), before, "nothing went so far");
        assert_eq!(kill(ns, &["--yes", "--force", "sport = :7001 and time-wait"]).1, 0);
        assert_eq!(kill(ns, &["--yes", "--listen", "sport = :7001 and listen"]).1, 0);
        let rows = ns.run(diag::dump);
        assert_eq!([on(&rows, 7001, State::TimeWait), on(&rows, 7001, State::Listen)], [0, 0]);
        assert_eq!(on(&rows, 7002, State::Established), 2);
        let text = product::text(ns, &["kill", "--yes", "dst 192.0.2.1"]);
        assert_eq!(text, "0 destroyed, 0 gone before, 0 changed, 0 refused\n");
        drop(held);
    });
}

#[test]
fn one_listener_of_many_on_a_port_goes_also_in_another_namespace() {
    in_netns(|ns| {
        let there = Netns::new();
        let held = states::reuseport(&there, Ports::server(7000), 8, 0);
        for row in held.rows.iter().take(3) {
            let filter = format!("listen and inode = {}", row.inode.expect("an inode"));
            let path = there.path().display().to_string();
            let (document, code) = kill(ns, &["--yes", "--listen", "--netns", &path, &filter]);
            assert_eq!((counts(&document), code), ([0, 1, 0, 0, 0], 0), "{document:#}");
        }
        let rows = there.run(diag::dump);
        let inodes: Vec<u64> = rows.iter().filter_map(|row| row.inode).collect();
        assert_eq!(on(&rows, 7000, State::Listen), 5);
        assert!(held.rows.iter().skip(3).all(|row| inodes.contains(&row.inode.expect("an inode"))));
    });
}

/// Starts a program in a terminal of its own, answers its question, and prints its exit code.
const ANSWERS: &str = r#"
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
seen = b""
while True:
    try:
        part = os.read(fd, 4096)
    except OSError:
        break
    if not part:
        break
    asked = b"[y/N]" in seen
    seen += part
    if not asked and b"[y/N]" in seen:
        os.write(fd, sys.argv[1].encode() + b"\n")
print("asked" if b"[y/N]" in seen else "not asked", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn a_terminal_is_asked_and_only_a_yes_is_one() {
    in_netns(|ns| {
        if !oracle::installed("python3") {
            return skip("python3 is not installed");
        }
        let held = states::established(ns, Ports::server(7000), 2);
        let product = env!("CARGO_BIN_EXE_tcpstate");
        for (answer, left) in [("", 2), ("maybe", 2), ("n", 2), ("y", 0)] {
            let mut command = ns.command("python3");
            let output =
                finish(command.args(["-c", ANSWERS, answer, product, "kill", "sport = :7000 and established"]));
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(said.trim(), "asked 0", "{answer}: {}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(on(&ns.run(diag::dump), 7000, State::Established), left, "{answer}");
        }
        drop(held);
    });
}

/// Every other command only reads.
#[test]
fn only_kill_can_destroy() {
    let allowed = [
        "src/collect/destroy.rs",
        "src/collect/netlink/stream.rs",
        "src/collect/netlink/request.rs",
        "src/cli/kill.rs",
    ];
    let words = ["Destroyer", ".destroy(", "encode_destroy", "SOCK_DESTROY"];
    let mut users = BTreeSet::new();
    for file in rust_files("src") {
        let text = read(&file);
        if program_lines(&text).iter().any(|(_, line)| words.iter().any(|word| line.contains(word))) {
            users.insert(file.display().to_string());
        }
    }
    assert_eq!(users.into_iter().collect::<Vec<_>>(), {
        let mut all = allowed;
        all.sort_unstable();
        all
    });
}
