//! Rules about descriptors on the real kernel: sockets of dead connections, a table that is nearly full, a descriptor in
//! flight. Input: small Python programs and helpers. Output: who is named, with which numbers.

use std::time::Duration;

use tcpstate::diagnose::{Evidence, Severity};
use tcpstate::model::{Snapshot, State};

use super::{count, evidence, judge, list, only, snapshot};
use crate::harness::helper::Helper;
use crate::harness::script::Script;
use crate::harness::sock::Sock;
use crate::harness::{in_netns, wait_for};

/// A socket that is made now and connected when told.
const CONNECTS_LATER: &str = r#"
import socket, sys
s = socket.socket(); s.settimeout(10)
print("made", flush=True)
sys.stdin.readline()
s.connect(("127.0.0.1", int(sys.argv[1])))
print("connected", flush=True)
sys.stdin.readline()
"#;

#[test]
fn descriptors_of_dead_connections_are_found_by_two_scans() {
    in_netns(|ns| {
        let mut server = Helper::start(ns);
        let listener = server.make("listen 7350 128").remove(0);
        let clients: Vec<Sock> = (0..7).map(|_| Sock::connected(listener.local, None)).collect();
        let held = server.accept(&listener, 7);
        let Some(mut late) = Script::start(ns, CONNECTS_LATER, &["7350"]) else { return };
        assert_eq!(late.line(), "made");
        let mut clients = clients.into_iter();
        // Dropped: reset. Two connections stay alive.
        for client in clients.by_ref().take(5) {
            drop(client);
        }
        let rows_of = |snapshot: &Snapshot| {
            snapshot
                .sockets
                .iter()
                .filter(|s| s.local.port == 7350 && s.state == State::Established && s.inode.is_some())
                .count()
        };
        let (live, mut first) = wait_for("five dead connections", || {
            let (live, now) = snapshot();
            let alive = rows_of(&now);
            if alive == 2 { Ok((live, now)) } else { Err(alive.to_string()) }
        });
        let once = judge(&live, &mut first, None, &["closed-socket-fd-leak"]);
        assert!(
            once.findings.is_empty() && !once.wants_second.is_empty(),
            "few of a large limit only suspect: {once:#?}"
        );
        let suspects = |s: &Snapshot, pid: u32| {
            let closed = s.closed_tcp.as_ref().expect("looked for");
            closed.iter().filter(|h| s.owners.process(h).pid == pid).count()
        };
        assert_eq!(
            (suspects(&first, server.pid()), suspects(&first, late.pid())),
            (5, 1),
            "not yet connected looks alike"
        );
        // With a small limit one scan speaks, and says how sure it is.
        let mut small = first.clone();
        small.processes.get_mut(&server.pid()).expect("its facts").fd_soft = Some(256);
        let once = judge(&live, &mut small, None, &["closed-socket-fd-leak"]);
        assert_eq!((only(&once).severity, only(&once).confidence), (Severity::Info, 0.5), "{once:#?}");
        late.go_on();
        assert_eq!(late.line(), "connected");
        // One more dies, and the server closes one of the dead.
        drop(clients.next());
        let dead = held.iter().find(|row| {
            let inode = row.inode.expect("held");
            !first.sockets.iter().any(|s| s.inode == tcpstate::model::Inode::new(inode))
        });
        server.close(dead.expect("a dead one"));
        std::thread::sleep(Duration::from_secs(2));
        let (live, mut second) = snapshot();
        let diagnosis = judge(&live, &mut second, Some(&first), &["closed-socket-fd-leak"]);
        let finding = only(&diagnosis);
        assert_eq!(finding.subject.pid, Some(server.pid()), "{finding:#?}");
        // Four are dead in both scans; one went and one came.
        assert_eq!((count(finding, "closed_tcp"), finding.confidence), (4, 0.7), "{finding:#?}");
        assert_eq!(*evidence(finding, "growth"), Evidence::Text("+0".into()));
        assert_eq!(rows_of(&second), 1, "only one connection of the server's is listed");
    });
}

/// Six workers that keep three connections each which were reset; three of them get one more when told.
const WORKERS_KEEP: &str = r#"
import os, socket, struct, sys
L = socket.create_server(("127.0.0.1", 7380), backlog=64)
def reset(n):
    for _ in range(n):
        c = L.accept()[0]; c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); c.close()
workers, pipes = [], []
for n in range(6):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        L.close(); os.close(w)
        kept = [socket.create_connection(("127.0.0.1", 7380)) for _ in range(3)]
        while os.read(r, 1): kept.append(socket.create_connection(("127.0.0.1", 7380)))
        os._exit(0)
    os.close(r); workers.append(pid); pipes.append(w)
reset(18)
print("reset", flush=True)
sys.stdin.readline()
for w in pipes[:3]: os.write(w, b"x")
reset(3)
print("more", flush=True)
sys.stdin.readline()
for pid in workers: os.kill(pid, 9)
"#;

#[test]
fn dead_descriptors_of_many_workers_are_summed_up() {
    in_netns(|ns| {
        let Some(mut script) = Script::start(ns, WORKERS_KEEP, &[]) else { return };
        assert_eq!(script.line(), "reset");
        let (_, first) = snapshot();
        std::thread::sleep(Duration::from_millis(1600));
        let (live, mut same) = snapshot();
        let told = judge(&live, &mut same, Some(&first), &["closed-socket-fd-leak"]);
        assert!(told.findings.iter().all(|f| f.severity == Severity::Info), "they do not grow: {told:#?}");
        script.go_on();
        assert_eq!(script.line(), "more");
        let (live, mut second) = snapshot();
        let diagnosis = judge(&live, &mut second, Some(&first), &["closed-socket-fd-leak"]);
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, count(finding, "closed_tcp")), (Severity::Warning, 18), "{finding:#?}");
        assert_eq!((count(finding, "processes"), finding.subject.pids.len()), (6, 6));
        let who = format!("6 processes of python3 (children of {}) keep 18 descriptors", script.pid());
        assert!(finding.summary.starts_with(&who), "{}", finding.summary);
    });
}

/// Opens so many of 64 descriptors, four of them sockets in CLOSE_WAIT.
const NEARLY_FULL: &str = r#"
import os, resource, socket, sys
# What it inherited may have numbers beyond the limit, which do not count.
os.closerange(3, 4096)
L = socket.socket(); L.bind(("127.0.0.1", 7360)); L.listen(16)
held = []
for _ in range(4):
    c = socket.create_connection(L.getsockname()); a, _ = L.accept(); c.close(); held.append(a)
while len(os.listdir("/proc/self/fd")) - 1 < int(sys.argv[2]):
    held.append(os.open("/dev/null", os.O_RDONLY))
# Last: counting takes a descriptor too, which a full table does not have.
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
print("ready", flush=True)
sys.stdin.readline()
"#;

#[test]
fn a_process_near_its_limit_is_named_with_what_fills_it() {
    in_netns(|ns| {
        for (limit, severity) in
            [("70", Severity::Info), ("66", Severity::Warning), ("61", Severity::High), ("60", Severity::Critical)]
        {
            let Some(mut script) = Script::start(ns, NEARLY_FULL, &[limit, "60"]) else { return };
            assert_eq!(script.line(), "ready");
            let (live, mut now) = snapshot();
            let diagnosis = judge(&live, &mut now, None, &["fd-exhaustion"]);
            let finding = diagnosis
                .findings
                .iter()
                .find(|f| f.subject.pid == Some(script.pid()))
                .unwrap_or_else(|| panic!("{diagnosis:#?}"));
            assert_eq!((finding.severity, finding.confidence), (severity, 0.97), "{finding:#?}");
            assert_eq!((count(finding, "fd_used"), count(finding, "close_wait"), count(finding, "listen")), (60, 4, 1));
            assert_eq!(count(finding, "other"), 55, "standard streams and files");
        }
        let Some(mut roomy) = Script::start(ns, NEARLY_FULL, &["256", "60"]) else { return };
        assert_eq!(roomy.line(), "ready");
        let (live, mut now) = snapshot();
        let diagnosis = judge(&live, &mut now, None, &["fd-exhaustion"]);
        assert!(diagnosis.findings.iter().all(|f| f.subject.pid != Some(roomy.pid())), "{diagnosis:#?}");
    });
}

/// Sends its end of a connection over a unix socket, and lets go of it: it belongs to nobody until it is received.
const IN_FLIGHT: &str = r#"
import socket, sys
L = socket.socket(); L.bind(("127.0.0.1", 7370)); L.listen(16)
c = socket.create_connection(L.getsockname()); a, _ = L.accept()
print("held", flush=True)
sys.stdin.readline()
left, right = socket.socketpair()
socket.send_fds(left, [b"x"], [a.fileno()]); a.close()
print("sent", flush=True)
sys.stdin.readline()
"#;

#[test]
fn a_descriptor_in_flight_is_explained_and_not_called_a_leak() {
    in_netns(|ns| {
        let Some(mut script) = Script::start(ns, IN_FLIGHT, &[]) else { return };
        assert_eq!(script.line(), "held");
        let (live, mut now) = snapshot();
        assert!(judge(&live, &mut now, None, &["unattributed-sockets"]).findings.is_empty(), "everything has an owner");
        script.go_on();
        assert_eq!(script.line(), "sent");
        let (live, mut now) = snapshot();
        let diagnosis = judge(&live, &mut now, None, &["unattributed-sockets"]);
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, count(finding, "count")), (Severity::Info, 1), "{finding:#?}");
        assert!(list(finding, "sockets")[0].contains("127.0.0.1:7370 > "), "{finding:#?}");
        // Where some process may not be looked into, it could be that one's.
        let cause = if count(finding, "processes_not_readable") > 0 { "no-permission" } else { "in-flight" };
        assert!(finding.causes.left.iter().any(|h| h.cause.id == cause), "{finding:#?}");
    });
}
