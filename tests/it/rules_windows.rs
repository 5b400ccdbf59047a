//! The rules on windows and on translated connections that need the look of two ends, or several looks, on the real kernel. Comes in:
//! two namespaces and a wire. Goes out: the cause that is named. Never here: long paths (`tests/truth`).

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value as Json;
use tcpstate::collect::proc::ProcRoot;
use tcpstate::collect::{Live, SourceChoice};
use tcpstate::model::State;
use tcpstate::model::snapshot::Asked;

use crate::harness::script::Script;
use crate::harness::sock::Sock;
use crate::harness::veth::{Side, VethPair};
use crate::harness::{Netns, finish, in_netns, skip, wait_for};
use crate::judge::pause;

/// Both ends of a wire; nothing, and a skip, where there can be none.
fn wire(ns: &Netns) -> Option<VethPair<'_>> {
    VethPair::new(ns).map_err(|reason| skip(&reason)).ok()
}

/// Whether nft takes these rules.
fn takes(ns: &Netns, rules: &str) -> bool {
    finish(ns.command("nft").arg(rules)).status.success()
}

/// What the program says of these namespaces.
#[track_caller]
fn doctor(of: &[&Netns], arguments: &[&str]) -> Json {
    let mut command: Command = of[0].product();
    command.args(["doctor", "--json"]);
    for ns in of {
        command.args(["--netns", &ns.inode().to_string()]);
    }
    let output = finish(command.args(arguments));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The causes that are left of the first finding.
fn causes(report: &Json) -> Vec<&str> {
    let left = report["findings"][0]["hypotheses"].as_array();
    left.into_iter().flatten().filter_map(|h| h["cause"].as_str()).collect()
}

#[test]
fn the_window_of_a_transfer_is_looked_at_again_and_again() {
    in_netns(|ns| {
        let Some(wire) = wire(ns) else { return };
        let listener = wire.far.run(|| Sock::listening(Side::Far.at(8360), 8));
        listener.set_receive_buffer(65_536);
        let client = ns.run(|| Sock::connected(Side::Far.at(8360), None));
        let server = listener.accept();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    client.send(4096);
                    server.receive(4096);
                }
            });
            let looks = ns.run(|| {
                let mut live =
                    Live::open(SourceChoice::Netlink, ProcRoot::default()).expect("open the kernel's tables");
                let snapshot = live.snapshot(false).expect("take a snapshot");
                let row = snapshot.sockets.iter().find(|s| s.state == State::Established).expect("the client");
                let connection = (row.netns, row.four_tuple());
                let mut asked = Asked::default();
                asked.windows.push(connection);
                live.inspect(&snapshot, &asked).windows.remove(&connection).expect("looks")
            });
            stop.store(true, Ordering::Relaxed);
            assert_eq!(looks.len(), 12, "{looks:?}");
            let (first, last) = (looks[0], looks[11]);
            assert!(looks.is_sorted_by_key(|l| (l.after_ms, l.acked_bytes)), "{looks:?}");
            assert!(last.after_ms >= 11 * 25 && last.acked_bytes > first.acked_bytes, "{looks:?}");
            // It reads all: each window is that of an empty buffer.
            let most = looks.iter().map(|l| l.window_bytes).max().expect("twelve");
            assert!((16_384..=131_072).contains(&most), "{looks:?}");
        });
    });
}

#[test]
fn a_window_that_a_device_keeps_at_zero_is_not_the_readers_fault() {
    in_netns(|ns| {
        let Some(wire) = wire(ns) else { return };
        let listener = wire.far.run(|| Sock::listening(Side::Far.at(8361), 8));
        let client = ns.run(|| Sock::connected(Side::Far.at(8361), None));
        let server = listener.accept();
        let zero = "add table ip f; add chain ip f o { type filter hook output priority 0; }; \
                    add rule ip f o tcp sport 8361 tcp window set 0";
        if !takes(&wire.far, zero) {
            return skip("nft cannot change a window here");
        }
        // The answer to this shuts the window.
        client.send(1);
        server.receive(1);
        client.send_at_once(60_000);
        let arguments =
            ["--interval", "800ms", "--rule", "zero-window-peer", "--threshold", "zero-window-warn-seconds=1"];
        let report = wait_for("a window that stays at zero", || {
            let report = doctor(&[ns, &wire.far], &arguments);
            if causes(&report).is_empty() { Err(format!("{report:#}")) } else { Ok(report) }
        });
        assert_eq!(causes(&report), ["window-not-reopened"], "{report:#}");
        let finding = &report["findings"][0];
        assert_eq!(
            (&finding["severity"], finding["subject"]["pid"].as_u64()),
            (&"warning".into(), Some(std::process::id().into()))
        );
        assert!(finding["evidence"]["offered_bytes"].as_u64() > Some(10_000), "{report:#}");
    });
}

/// Clients that call a service again and again, five times a second for each of six connections.
const CLIENTS: &str = r#"
import socket,sys,threading,time
def w():
    while 1:
        s=socket.create_connection(("10.77.9.9",80))
        try:
            while 1: s.sendall(b"x"*50); s.recv(99); time.sleep(.05)
        except OSError: s.close()
for i in range(6): threading.Thread(target=w,daemon=True).start(); time.sleep(.1)
print("ready",flush=True); sys.stdin.read()
"#;

/// What sends a segment far beyond the window on each connection of the service each second, until its input ends.
const BEYOND: &str = concat!(
    "import os,sys,threading\nthreading.Thread(target=lambda:(sys.stdin.read(),os._exit(0)),daemon=True).start()\n",
    include_str!("../truth/beyond.py")
);

/// The service.
const SERVICE: &str = r#"
import socket,sys,threading
l=socket.create_server(("10.77.1.2",8080),backlog=99)
def h(s):
    try:
        while m:=s.recv(99): s.sendall(m)
    except OSError: pass
def serve():
    while 1: threading.Thread(target=h,args=(l.accept()[0],),daemon=True).start()
threading.Thread(target=serve,daemon=True).start()
print("ready",flush=True); sys.stdin.read()
"#;

#[test]
fn answers_that_pass_a_translation_untranslated_are_named_until_they_are_dropped() {
    in_netns(|ns| {
        let Some(wire) = wire(ns) else { return };
        let behind = Netns::new();
        let ip = |ns: &Netns, line: &str| finish(ns.command("ip").args(line.split(' '))).status.success();
        let link = format!("link add up0 type veth peer name down0 netns {}", behind.path().display());
        let lines = [
            (&wire.far, link.as_str()),
            (&wire.far, "addr add 10.77.1.1/24 dev up0"),
            (&wire.far, "link set up0 up"),
            (&behind, "addr add 10.77.1.2/24 dev down0"),
            (&behind, "link set down0 up"),
            (&behind, "route add default via 10.77.1.1"),
            (ns, "route add 10.77.9.9/32 via 10.77.0.2"),
        ];
        assert!(lines.iter().all(|(ns, line)| ip(ns, line)));
        wire.far.set_sysctl("ipv4/ip_forward", "1");
        let translate = "add table ip n; add chain ip n p { type nat hook prerouting priority -100; }; \
                         add rule ip n p ip daddr 10.77.9.9 tcp dport 80 dnat to 10.77.1.2:8080";
        if !takes(&wire.far, translate) {
            return skip("nft cannot translate here");
        }
        let Some(mut service) = Script::start(&behind, SERVICE, &[]) else { return };
        service.line();
        let beyond = Script::start(&behind, BEYOND, &["8080", "1"]);
        let Some(mut clients) = Script::start(ns, CLIENTS, &[]) else { return };
        clients.line();
        let arguments = ["--interval", "2s", "--rule", "reset-source"];
        let report = wait_for("resets", || {
            let report = doctor(&[ns, &wire.far, &behind], &arguments);
            let nothing = |list: &Json| list.as_array().is_none_or(Vec::is_empty);
            let is_told = !nothing(&report["findings"]) || !nothing(&report["not_checked"]);
            if is_told { Ok(report) } else { Err(format!("{report:#}")) }
        });
        if !report["not_checked"].as_array().is_none_or(Vec::is_empty) {
            return skip("resets are not traced here");
        }
        let found = || report["findings"].as_array().into_iter().flatten();
        assert!(found().all(|f| f["hypotheses"][0]["cause"] == "untranslated"), "{report:#}");
        // The kernel of the clients answers what comes for no socket of theirs, in nobody's name.
        let is_explained = |f: &Json| f["summary"].as_str().is_some_and(|s| s.contains("translates them, and found"));
        assert!(found().any(is_explained), "{report:#}");
        // The remedy: what is invalid is dropped.
        let drop_invalid = "add table ip f; add chain ip f w { type filter hook forward priority 0; }; \
                            add rule ip f w ct state invalid drop";
        assert!(takes(&wire.far, drop_invalid));
        pause(1500);
        let after = doctor(&[ns, &wire.far, &behind], &arguments);
        assert_eq!(after["findings"].as_array().map(Vec::len), Some(0), "{after:#}");
        drop(beyond);
    });
}
