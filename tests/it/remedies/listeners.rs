//! Remedies of the rules on listeners. Input: servers that accept, slowly or not at all, and a wire that can be cut.
//! Output: the first step of each finding, and silence after it.

use std::net::{SocketAddr, TcpListener};

use rustix::process::{Pid, Signal, kill_process};
use tcpstate::diagnose::Severity;
use tcpstate::model::State;

use super::{Doctor, cured, stopped, told, wait_for_repeats, wait_for_rows};
use crate::harness::script::Script;
use crate::harness::sock::Sock;
use crate::harness::veth::{Side, VethPair};
use crate::harness::{Netns, diag, in_netns, skip, wait_for};
use crate::judge::pause;

/// A server. Arguments: port, backlog, and how it accepts: `at-once` has a thread for each client, `slow` works for the
/// first client in the loop that should accept the next, `never` only listens.
const SERVER: &str = r#"
import socket, sys, threading, time
port, backlog, how = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
L = socket.socket(); L.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
L.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
L.bind(("127.0.0.1", port)); L.listen(backlog)
def serve(a):
    try:
        while a.recv(4096): pass
    except OSError: pass
    a.close()
def loop():
    while how != "never":
        a, _ = L.accept()
        if how == "slow": time.sleep(60)
        threading.Thread(target=serve, args=(a,), daemon=True).start()
threading.Thread(target=loop, daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
"#;

fn server(ns: &Netns, port: u16, backlog: u16, how: &str) -> Option<Script> {
    let mut script = Script::start(ns, SERVER, &[&port.to_string(), &backlog.to_string(), how])?;
    assert_eq!(script.line(), "ready");
    Some(script)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn clients(ns: &Netns, port: u16, count: usize) -> Vec<Sock> {
    ns.run(|| (0..count).map(|_| Sock::connected(loopback(port), None)).collect())
}

/// Attempts for which the queue may have no room.
fn attempts(ns: &Netns, port: u16, count: usize) -> Vec<Sock> {
    ns.run(|| (0..count).map(|_| Sock::connecting(loopback(port), None)).collect())
}

/// Waits until nothing waits to be accepted, and no attempt for an answer.
#[track_caller]
fn wait_for_an_empty_queue(ns: &Netns) {
    wait_for_rows(ns, State::SynSent, 0);
    super::wait_for_no_queue(ns);
}

#[test]
pub fn a_server_that_continues_empties_its_full_queue() {
    in_netns(|ns| {
        let Some(server) = server(ns, 7000, 4, "at-once") else { return };
        stopped(&server);
        let mut held = clients(ns, 7000, 5);
        let load = || {
            let more = attempts(ns, 7000, 3);
            pause(1200);
            more
        };
        let ill = Doctor::of(ns).looks(|| held.extend(load()));
        assert!(told(&ill, "accept-queue-overflow", "Let it continue: `kill -CONT ").severity >= Severity::High);
        server.signal(Signal::CONT);
        wait_for_an_empty_queue(ns);
        let well = Doctor::of(ns).looks(|| held.extend(load()));
        cured(&well, "accept-queue-overflow");
    });
}

#[test]
pub fn slow_work_beside_the_accept_loop_keeps_nobody_waiting() {
    in_netns(|ns| {
        for (port, how) in [(7010, "slow"), (7011, "at-once")] {
            let Some(server) = server(ns, port, 16, how) else { return };
            let held = clients(ns, port, 4);
            pause(1200);
            let diagnosis = Doctor::of(ns).looks(|| pause(300));
            if how == "slow" {
                let finding = told(&diagnosis, "accept-queue-stalled", "Check where the owner's threads are blocked");
                // What the step would look at is there already.
                assert!(format!("{:?}", finding.evidence).contains("nanosleep"), "{finding:#?}");
            } else {
                cured(&diagnosis, "accept-queue-stalled");
            }
            drop((held, server));
        }
    });
}

#[test]
pub fn a_server_that_accepts_at_once_keeps_no_dead_entries() {
    in_netns(|ns| {
        for (port, how) in [(7020, "never"), (7021, "at-once")] {
            let Some(server) = server(ns, port, 4, how) else { return };
            let mut held = clients(ns, port, 4);
            // Dropped: reset, while they wait.
            held.truncate(1);
            let diagnosis = Doctor::of(ns).looks(|| pause(100));
            if how == "never" {
                told(&diagnosis, "accept-queue-dead-entries", "Make accept() faster");
            } else {
                cured(&diagnosis, "accept-queue-dead-entries");
            }
            drop(server);
        }
    });
}

#[test]
pub fn clients_that_left_are_let_go_when_the_server_continues() {
    in_netns(|ns| {
        let Some(server) = server(ns, 7030, 16, "at-once") else { return };
        stopped(&server);
        clients(ns, 7030, 3).into_iter().for_each(Sock::close);
        pause(1100);
        let ill = Doctor::of(ns).looks(|| pause(200));
        told(&ill, "close-wait-unaccepted", "Let it continue: `kill -CONT ");
        server.signal(Signal::CONT);
        wait_for_rows(ns, State::CloseWait, 0);
        clients(ns, 7030, 3).into_iter().for_each(Sock::close);
        cured(&Doctor::of(ns).looks(|| pause(200)), "close-wait-unaccepted");
    });
}

/// A server that starts a helper and ends. Arguments: port, whether the helper inherits the listener.
const STARTS_A_HELPER: &str = r#"
import socket, subprocess, sys
L = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=8)
L.set_inheritable(sys.argv[2] == "inherits")
helper = subprocess.Popen(["sleep", "60"], close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(helper.pid, flush=True)
sys.stdin.readline()
"#;

/// A process that ends with the test at the latest.
struct Ends(u32);

impl Drop for Ends {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0).ok().and_then(Pid::from_raw).expect("a process id");
        let _ = kill_process(pid, Signal::KILL);
    }
}

#[test]
pub fn without_its_helper_the_port_is_free_again() {
    in_netns(|ns| {
        for (port, inherits) in [(7040, true), (7041, false)] {
            let words: [&str; 2] = [&port.to_string(), if inherits { "inherits" } else { "close-on-exec" }];
            let Some(mut server) = Script::start(ns, STARTS_A_HELPER, &words) else { return };
            let helper = Ends(server.line().parse().expect("a process id"));
            drop(server);
            if inherits {
                assert!(TcpListener::bind(loopback(port)).is_err(), "the server can start again");
                // A helper may become the server in its first three seconds.
                pause(3100);
                let ill = Doctor::of(ns).look();
                told(&ill, "inherited-listener", &format!("End sleep ({}), which only inherited", helper.0));
                drop(helper);
                wait_for_rows(ns, State::Listen, 0);
            }
            // With the second step, close-on-exec, it need not even end.
            let again = TcpListener::bind(loopback(port)).expect("start the server again");
            cured(&Doctor::of(ns).look(), "inherited-listener");
            drop(again);
        }
    });
}

#[test]
pub fn a_burst_that_fits_the_backlog_drops_nobody() {
    in_netns(|ns| {
        let rule = "listener-drops-since-open";
        for (port, backlog) in [(7050, 2), (7051, 64)] {
            let Some(server) = server(ns, port, backlog, "at-once") else { return };
            // A burst while it does something else for a moment.
            stopped(&server);
            let held = attempts(ns, port, 6);
            server.signal(Signal::CONT);
            wait_for_an_empty_queue(ns);
            let diagnosis = Doctor::of(ns).looks(|| pause(300));
            if backlog == 2 {
                let finding = told(&diagnosis, rule, "Watch whether it grows");
                // Watched: it does not, so that nothing is left to do but for the next burst.
                assert_eq!(finding.severity, Severity::Info, "{finding:#?}");
                assert!(finding.remedy[1].starts_with("If bursts made it, raise the listen() backlog"), "{finding:#?}");
            } else {
                cured(&diagnosis, rule);
            }
            drop((held, server));
        }
    });
}

#[test]
pub fn a_new_worker_in_place_of_the_stuck_one_serves_its_share() {
    in_netns(|ns| {
        let workers = ["at-once", "never", "at-once"].map(|how| server(ns, 7060, 16, how));
        let [Some(first), Some(stuck), Some(third)] = workers else { return };
        let mut held = Vec::new();
        // The hash is the kernel's: until the stuck one has some.
        wait_for("clients of the stuck worker", || {
            held.extend(clients(ns, 7060, 3));
            // What the others have not accepted yet is gone by then.
            pause(50);
            let queues = ns.run(diag::dump);
            let waiting: u32 = queues.iter().filter(|r| r.state == State::Listen).map(|r| r.recv_q).sum();
            if waiting >= 2 { Ok(()) } else { Err(waiting.to_string()) }
        });
        pause(1100);
        let ill = Doctor::of(ns).looks(|| pause(100));
        let finding = told(&ill, "reuseport-imbalance", "Check where that worker's threads are blocked, then restart");
        assert_eq!(finding.subject.pid, Some(stuck.pid()), "{finding:#?}");
        drop(stuck);
        drop(held);
        let Some(second) = server(ns, 7060, 16, "at-once") else { return };
        let held = clients(ns, 7060, 12);
        pause(1100);
        cured(&Doctor::of(ns).looks(|| pause(100)), "reuseport-imbalance");
        drop((first, second, third, held));
    });
}

#[test]
pub fn syn_acks_that_arrive_again_empty_the_syn_queue() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let listener = Sock::listening(Side::Near.at(7070), 15);
        wire.cut(Side::Near);
        // As many as there is room for.
        let call = || wire.far.run(|| (0..16).map(|_| Sock::connecting(Side::Near.at(7070), None)).collect::<Vec<_>>());
        let mut callers = call();
        wait_for_repeats(ns, State::SynRecv, 16, 1);
        let ill = Doctor::of(ns).look();
        told(&ill, "syn-queue-pressure", "If clients never finish, check the way of our SYN-ACKs");
        wire.mend(Side::Near);
        let mut held: Vec<Sock> = (0..16).map(|_| listener.accept()).collect();
        wait_for_rows(ns, State::SynRecv, 0);
        let well = Doctor::of(ns).looks(|| {
            callers.extend(call());
            held.extend((0..16).map(|_| listener.accept()));
        });
        cured(&well, "syn-queue-pressure");
    });
}

#[test]
pub fn a_mended_way_back_lets_the_clients_in() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let listener = Sock::listening(Side::Near.at(7080), 128);
        wire.cut(Side::Near);
        let callers: Vec<Sock> = wire.far.run(|| (0..3).map(|_| Sock::connecting(Side::Near.at(7080), None)).collect());
        wait_for_repeats(ns, State::SynRecv, 3, 3);
        let ill = Doctor::of(ns).looks(|| pause(100));
        told(&ill, "syn-ack-unanswered", "Trace the way back: `ip route get CLIENT` here");
        wire.mend(Side::Near);
        let held: Vec<Sock> = (0..3).map(|_| listener.accept()).collect();
        cured(&Doctor::of(ns).looks(|| pause(100)), "syn-ack-unanswered");
        drop((callers, held));
    });
}
