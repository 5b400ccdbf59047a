//! Remedies of the rules on CLOSE_WAIT, descriptors and owners. Input: programs that keep what their peers closed, and the same
//! programs that do not. Output: the first step of each finding, and silence about the program that follows it.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use tcpstate::model::State;

use super::{Doctor, cured, stopped, told, wait_for_rows};
use crate::harness::helper::Helper;
use crate::harness::netns::is_real_root;
use crate::harness::script::Script;
use crate::harness::sock::Sock;
use crate::harness::{Netns, diag, finish, in_netns, skip, wait_for};
use crate::judge::pause;

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// What is there has been there for minutes.
fn later(ns: &Netns) -> Doctor<'_> {
    Doctor { older: Duration::from_secs(300), ..Doctor::of(ns) }
}

/// A server with a limit of descriptors, which answers every word. Arguments: port, limit, and whether it `closes` a connection at
/// its end or its error, or `keeps` it.
const SERVER: &str = r#"
import resource, socket, sys, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
L = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
held = []
def serve(a):
    held.append(a)
    try:
        while a.recv(4096): a.sendall(b"answer")
    except OSError: pass
    if sys.argv[3] == "closes":
        held.remove(a); a.close()
def loop():
    while True: threading.Thread(target=serve, args=(L.accept()[0],), daemon=True).start()
threading.Thread(target=loop, daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
"#;

fn server(ns: &Netns, port: u16, limit: u16, how: &str) -> Option<Script> {
    let mut script = Script::start(ns, SERVER, &[&port.to_string(), &limit.to_string(), how])?;
    assert_eq!(script.line(), "ready");
    Some(script)
}

fn clients(port: u16, count: usize) -> Vec<Sock> {
    (0..count).map(|_| Sock::connected(loopback(port), None)).collect()
}

#[test]
pub fn a_server_that_continues_closes_what_its_clients_closed() {
    in_netns(|ns| {
        let Some(server) = server(ns, 7100, 1024, "closes") else { return };
        let held = clients(7100, 4);
        // Each is accepted before the server stops.
        super::wait_for_no_queue(ns);
        stopped(&server);
        held.into_iter().for_each(Sock::close);
        wait_for_rows(ns, State::CloseWait, 4);
        told(&later(ns).look(), "close-wait-leak", "Let the process continue (SIGCONT, or detach the debugger)");
        server.signal(Signal::CONT);
        wait_for_rows(ns, State::CloseWait, 0);
        cured(&later(ns).looks(|| pause(100)), "close-wait-leak");
    });
}

#[test]
pub fn a_server_that_closes_at_eof_keeps_nothing() {
    in_netns(|ns| {
        for (port, how) in [(7110, "keeps"), (7111, "closes")] {
            let Some(script) = server(ns, port, 1024, how) else { return };
            clients(port, 8).into_iter().for_each(Sock::close);
            if how == "keeps" {
                wait_for_rows(ns, State::CloseWait, 8);
                super::wait_for_no_queue(ns);
                // The end counts as one unread byte until the server has seen it.
                wait_for("every end to be read", || {
                    let unread = ns.run(diag::dump).iter().filter(|r| r.recv_q > 0).count();
                    if unread == 0 { Ok(()) } else { Err(unread.to_string()) }
                });
                let step = "Close the connection when read() returns 0 and on every error";
                told(&later(ns).look(), "close-wait-leak", step);
            } else {
                wait_for_rows(ns, State::CloseWait, 0);
                cured(&later(ns).look(), "close-wait-leak");
            }
            drop(script);
        }
    });
}

/// A pool of connections to a server that closes the idle ones. Arguments: port, and whether the pool `keeps` them or `evicts`
/// those that can be read although nothing was asked.
const POOL: &str = r#"
import select, socket, sys
pool = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(12)]
for c in pool: c.sendall(b"q"); c.recv(1)
print("ready", flush=True)
sys.stdin.readline()
if sys.argv[2] == "evicts":
    while pool:
        for c in select.select(pool, [], [])[0]: pool.remove(c); c.close()
print("looked", flush=True)
sys.stdin.readline()
"#;

#[test]
pub fn a_pool_that_evicts_keeps_no_stale_connections() {
    in_netns(|ns| {
        let mut backend = Helper::start(ns);
        for (port, how) in [(7120, "keeps"), (7121, "evicts")] {
            let listener = backend.make(&format!("listen {port} 64")).remove(0);
            let Some(mut pool) = Script::start(ns, POOL, &[&port.to_string(), how]) else { return };
            let rows = backend.accept(&listener, 12);
            for row in &rows {
                backend.ask(&format!("receive {} 1", row.fd.expect("held")));
                backend.ask(&format!("send {} 1", row.fd.expect("held")));
            }
            assert_eq!(pool.line(), "ready");
            for row in &rows {
                backend.close(row);
            }
            wait_for_rows(ns, State::CloseWait, 12);
            pool.go_on();
            assert_eq!(pool.line(), "looked");
            let diagnosis = later(ns).look();
            if how == "keeps" {
                told(&diagnosis, "close-wait-leak", "Make the pool validate or evict idle connections");
            } else {
                cured(&diagnosis, "close-wait-leak");
            }
        }
    });
}

/// A server that starts a program while it has a connection, and closes the connection when its client has left. Arguments:
/// port, whether the program `inherits` it.
const STARTS_A_PROGRAM: &str = r#"
import socket, subprocess, sys
L = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=16)
c = socket.create_connection(L.getsockname()); a, _ = L.accept()
a.set_inheritable(sys.argv[2] == "inherits")
child = subprocess.Popen(["sleep", "60"], close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
c.close(); a.recv(1); a.close()
print("closed", flush=True)
sys.stdin.readline()
child.kill(); child.wait()
"#;

#[test]
pub fn close_on_exec_leaves_the_connection_to_its_server() {
    in_netns(|ns| {
        let rule = "close-wait-inherited-fd";
        for (port, how) in [("7130", "inherits"), ("7131", "close-on-exec")] {
            let Some(mut script) = Script::start(ns, STARTS_A_PROGRAM, &[port, how]) else { return };
            assert_eq!(script.line(), "closed");
            if how == "inherits" {
                wait_for_rows(ns, State::CloseWait, 1);
                told(&later(ns).look(), rule, "Open the sockets of python3 (");
            } else {
                wait_for_rows(ns, State::CloseWait, 0);
                cured(&later(ns).look(), rule);
            }
        }
    });
}

#[test]
pub fn descriptors_closed_on_errors_too_leave_nothing_behind() {
    in_netns(|ns| {
        let rule = "closed-socket-fd-leak";
        for (port, how) in [(7140, "keeps"), (7141, "closes")] {
            let Some(script) = server(ns, port, 1024, how) else { return };
            let held = clients(port, 10);
            super::wait_for_no_queue(ns);
            // Dropped: reset.
            drop(held);
            wait_for_rows(ns, State::Established, 0);
            let diagnosis = Doctor::of(ns).looks(|| pause(2000));
            if how == "keeps" {
                told(&diagnosis, rule, "Close the descriptor on every error path: ECONNRESET, EPIPE");
            } else {
                cured(&diagnosis, rule);
            }
            drop(script);
        }
    });
}

#[test]
pub fn without_the_leak_the_descriptors_last() {
    in_netns(|ns| {
        for (port, how) in [(7150, "keeps"), (7151, "closes")] {
            let Some(script) = server(ns, port, 64, how) else { return };
            for _ in 0..5 {
                clients(port, 10).into_iter().for_each(Sock::close);
                super::wait_for_no_queue(ns);
            }
            let diagnosis = Doctor::of(ns).look();
            if how == "keeps" {
                let step = "Fix the leak: see close-wait-leak and closed-socket-fd-leak for this process";
                told(&diagnosis, "fd-exhaustion", step);
            } else {
                cured(&diagnosis, "fd-exhaustion");
            }
            drop(script);
        }
    });
}

/// A client of the server above that takes a connection for each request from a pool. Arguments: port, whether it `gives` each
/// back or `keeps` it.
const TAKES: &str = r#"
import socket, sys
free, taken = [], []
def request():
    c = free.pop() if free else socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    c.sendall(b"login"); c.recv(16); (free if sys.argv[2] == "gives" else taken).append(c)
for n in (25, 5):
    for _ in range(n): request()
    print("asked", flush=True)
    sys.stdin.readline()
"#;

#[test]
pub fn a_pool_gets_its_connections_back_and_stays_small() {
    in_netns(|ns| {
        for (port, how) in [(7160, "keeps"), (7161, "gives")] {
            let Some(script) = server(ns, port, 1024, "closes") else { return };
            let Some(mut client) = Script::start(ns, TAKES, &[&port.to_string(), how]) else { return };
            assert_eq!(client.line(), "asked");
            // What nobody asked for a second is unused.
            pause(1100);
            let diagnosis = Doctor::of(ns).looks(|| {
                client.go_on();
                assert_eq!(client.line(), "asked");
            });
            if how == "keeps" {
                let step = "Give each connection back where it was taken: close() or release";
                told(&diagnosis, "connection-pool-growth", step);
            } else {
                cured(&diagnosis, "connection-pool-growth");
            }
            drop((client, script));
        }
    });
}

#[test]
pub fn root_sees_whose_the_sockets_are() {
    if !is_real_root() {
        return skip("only root can become another user");
    }
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        helper.make("established 7170 2");
        let doctor = |command: &mut std::process::Command| {
            let output = finish(command.args(["doctor", "--json", "--once", "--rule", "unattributed-sockets"]));
            serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
        };
        // By descriptor: another user may not be permitted to walk to the build directory.
        let program = std::fs::File::open(env!("CARGO_BIN_EXE_tcpstate")).expect("open the program");
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&program));
        let report = doctor(&mut ns.command_as(65_534, path));
        let first = &report["findings"][0]["remedy"][0];
        assert_eq!(first, "Run as root, or give the program CAP_SYS_PTRACE", "{report:#}");
        let report = doctor(&mut ns.product());
        assert_eq!(report["findings"], serde_json::json!([]), "{report:#}");
    });
}
