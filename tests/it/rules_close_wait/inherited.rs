//! `close-wait-inherited-fd` on the real kernel. Input: servers that start a child while they have a connection. Output: the
//! child where only it keeps the connection, otherwise the server.

use std::time::Duration;

use tcpstate::diagnose::Severity;
use tcpstate::model::State;

use super::{RULES, age, age_all, age_processes, count, judge, list, only, snapshot};
use crate::harness::helper::Helper;
use crate::harness::script::Script;
use crate::harness::{in_netns, wait_for};

/// A server that starts a child while it has a connection, and closes the connection.
/// Arguments: port, whether the child inherits it, whether the client closes too.
const STARTS_A_CHILD: &str = r#"
import os, socket, subprocess, sys
port, inherits, closes = int(sys.argv[1]), sys.argv[2] == "inherits", sys.argv[3] == "closes"
L = socket.socket(); L.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); L.bind(("127.0.0.1", port)); L.listen(16)
c = socket.create_connection(L.getsockname()); a, _ = L.accept()
os.set_inheritable(a.fileno(), inherits)
child = subprocess.Popen(["sleep", "60"], close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
if inherits: a.close()
if closes: c.close()
print(child.pid, flush=True)
sys.stdin.readline()
child.kill(); child.wait()
"#;

/// The child has `exec`ed when it is called what it is, and has loaded its libraries when it sleeps.
fn wait_for_name(pid: u32, name: &str) {
    wait_for("the child's program", || {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if comm.trim_end() == name && stat.contains(") S ") { Ok(()) } else { Err(format!("{comm}{stat}")) }
    });
}

#[test]
fn a_child_that_keeps_what_its_server_closed_is_named() {
    in_netns(|ns| {
        let Some(mut server) = Script::start(ns, STARTS_A_CHILD, &["7340", "inherits", "closes"]) else { return };
        let helper: u32 = server.line().parse().expect("a process id");
        wait_for_name(helper, "sleep");
        let (live, mut now) = snapshot();
        assert!(judge(&live, &mut now.clone(), None, &RULES[..3]).findings.is_empty(), "younger than a minute");
        age_all(&mut now, Duration::from_secs(300));
        let diagnosis = judge(&live, &mut now, None, &RULES[..3]);
        let finding = only(&diagnosis);
        assert_eq!((finding.rule, finding.subject.pid), ("close-wait-inherited-fd", Some(helper)));
        assert_eq!((finding.severity, finding.confidence), (Severity::Info, 0.8), "{finding:#?}");
        assert_eq!(count(finding, "close_wait"), 1);
        assert!(list(finding, "owners")[0].contains(&server.pid().to_string()), "{finding:#?}");
        assert_eq!(finding.subject.listener.map(|l| l.port), Some(7340));
    });
}

#[test]
fn a_connection_that_only_a_child_keeps_open_is_found_before_the_peer_closes() {
    in_netns(|ns| {
        let Some(mut server) = Script::start(ns, STARTS_A_CHILD, &["7341", "inherits", "stays"]) else { return };
        let helper: u32 = server.line().parse().expect("a process id");
        wait_for_name(helper, "sleep");
        let (live, mut now) = snapshot();
        let young = judge(&live, &mut now.clone(), None, &["close-wait-inherited-fd"]);
        assert!(young.findings.is_empty(), "the child has only just begun: {young:#?}");
        // Both have been as they are for ten minutes.
        now.sockets.iter_mut().filter(|s| s.state == State::Established).for_each(|s| age(s, Duration::from_secs(600)));
        age_processes(&mut now, Duration::from_secs(600));
        let diagnosis = judge(&live, &mut now, None, &["close-wait-inherited-fd"]);
        let finding = only(&diagnosis);
        assert_eq!((finding.subject.pid, count(finding, "established")), (Some(helper), 1), "{finding:#?}");
    });
}

#[test]
fn workers_of_one_program_and_close_on_exec_are_not_inheritance() {
    in_netns(|ns| {
        // The same program under another name: prefork.
        let mut master = Helper::start(ns);
        master.make("close_wait 7342 5 eof_read closed");
        let worker = master.fork(Some(b"worker"));
        // Close-on-exec: the server itself is the one that does not close.
        let Some(mut server) = Script::start(ns, STARTS_A_CHILD, &["7343", "cloexec", "closes"]) else { return };
        let child: u32 = server.line().parse().expect("a process id");
        wait_for_name(child, "sleep");
        let (live, mut now) = snapshot();
        age_all(&mut now, Duration::from_secs(300));
        let diagnosis = judge(&live, &mut now, None, &RULES[..3]);
        let mut named: Vec<(&str, Option<u32>)> = diagnosis.findings.iter().map(|f| (f.rule, f.subject.pid)).collect();
        named.sort_unstable();
        let mut expected = [("close-wait-leak", Some(master.pid())), ("close-wait-leak", Some(server.pid()))];
        expected.sort_unstable();
        assert_eq!(named, expected, "{diagnosis:#?}");
        let shared = diagnosis.findings.iter().find(|f| f.subject.pid == Some(master.pid())).expect("the master");
        assert!(shared.subject.pids.contains(&worker), "{shared:#?}");
    });
}

/// A server that closes each connection after its answer, with a child for each that has a copy. Arguments: port, what the child is:
/// `sleep`, or a shell that waits for a handler on its standard input.
const ONE_CHILD_EACH: &str = r#"
import os, socket, subprocess, sys
L = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=16)
clients, children = [], []
for _ in range(4):
    clients.append(socket.create_connection(L.getsockname())); clients[-1].sendall(b"q")
    c, _ = L.accept(); c.recv(1); c.sendall(b"a"); c.set_inheritable(True)
    what = ["sleep", "60"] if sys.argv[2] == "sleep" else ["sh", "-c", "sleep 60 <&%d; true" % c.fileno()]
    children.append(subprocess.Popen(what, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0))
    c.close()
print(children[0].pid, flush=True)
sys.stdin.readline()
for child in children: os.killpg(child.pid, 9); child.wait()
"#;

/// The same some time later.
fn later(mut now: tcpstate::model::Snapshot, seconds: u64) -> tcpstate::model::Snapshot {
    now.sockets.iter_mut().filter(|s| s.state == State::Established).for_each(|s| age(s, Duration::from_secs(seconds)));
    age_processes(&mut now, Duration::from_secs(seconds));
    now
}

#[test]
fn tools_that_keep_open_what_their_server_closed_are_a_warning_and_handlers_are_not() {
    in_netns(|ns| {
        let Some(mut server) = Script::start(ns, ONE_CHILD_EACH, &["7344", "sleep"]) else { return };
        let first: u32 = server.line().parse().expect("a process id");
        wait_for_name(first, "sleep");
        let (live, now) = snapshot();
        assert!(judge(&live, &mut now.clone(), None, &["close-wait-inherited-fd"]).findings.is_empty(), "just closed");
        let diagnosis = judge(&live, &mut later(now, 5), None, &["close-wait-inherited-fd"]);
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, count(finding, "established")), (Severity::Warning, 4), "{finding:#?}");
        assert!(finding.summary.ends_with("; no FIN was sent"), "{}", finding.summary);
        drop(server);
        let Some(mut server) = Script::start(ns, ONE_CHILD_EACH, &["7345", "handler"]) else { return };
        let shell: u32 = server.line().parse().expect("a process id");
        wait_for_name(shell, "sh");
        let (live, now) = snapshot();
        let diagnosis = judge(&live, &mut later(now, 600), None, &["close-wait-inherited-fd"]);
        assert!(diagnosis.findings.is_empty(), "a handler on its standard input: {diagnosis:#?}");
    });
}

/// A program that calls a service, closes the connection, and has started a child meanwhile. Arguments: port, whether it
/// starts the child `before` the last answer comes.
const CALLS_AND_STARTS: &str = r#"
import socket, subprocess, sys, time
L = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=16)
c = socket.create_connection(L.getsockname()); c.set_inheritable(True); a, _ = L.accept()
start = lambda: subprocess.Popen(["sleep", "60"], close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
if sys.argv[2] == "before": child = start(); time.sleep(0.2)
c.sendall(b"q"); a.recv(1); a.sendall(b"a"); c.recv(1)
if sys.argv[2] != "before": time.sleep(0.05); child = start()
c.close()
print(child.pid, flush=True)
sys.stdin.readline()
child.kill(); child.wait()
"#;

#[test]
fn a_connection_that_a_program_left_to_its_child_is_found_if_the_child_never_used_it() {
    in_netns(|ns| {
        for (port, when) in [("7346", "after"), ("7347", "before")] {
            let Some(mut program) = Script::start(ns, CALLS_AND_STARTS, &[port, when]) else { return };
            let child: u32 = program.line().parse().expect("a process id");
            wait_for_name(child, "sleep");
            let (live, now) = snapshot();
            let diagnosis = judge(&live, &mut later(now, 5), None, &["close-wait-inherited-fd"]);
            if when == "after" {
                let finding = only(&diagnosis);
                assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(child)), "{finding:#?}");
                assert!(list(finding, "owners")[0].contains(&program.pid().to_string()), "{finding:#?}");
            } else {
                assert!(diagnosis.findings.is_empty(), "whose it is cannot be told: {diagnosis:#?}");
            }
        }
    });
}
