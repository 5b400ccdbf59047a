//! Remedies of the rules on open connections. Input: a reader that is stopped, peers that say nothing, a half that vanished.
//! Output: the first step of each finding, and silence after it.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use tcpstate::diagnose::Thresholds;
use tcpstate::model::State;

use super::{Doctor, cured, stopped, told, wait_for_rows};
use crate::harness::helper::Helper;
use crate::harness::script::Script;
use crate::harness::sock::Sock;
use crate::harness::veth::{Side, VethPair};
use crate::harness::{diag, in_netns, skip, wait_for};
use crate::judge::pause;
use crate::rules_established::vanish;

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
pub fn a_reader_that_continues_frees_its_writer() {
    in_netns(|ns| {
        let Some(reader) = super::reader(ns, 8100) else { return };
        let mut writer = Helper::start(ns);
        let client = writer.connect(loopback(8100), 1).remove(0);
        stopped(&reader);
        writer.ask(&format!("send {} 20000", client.fd.expect("held")));
        // The first probe, after 200 ms, still carries what was left of the window.
        pause(600);
        // Seconds instead of tens of them.
        let mut thresholds = Thresholds::default();
        for name in ["zero-window-warn-seconds", "queue-stuck-seconds", "zero-window-high-seconds"] {
            thresholds.set(name, 1.0).expect("a threshold");
        }
        let doctor = Doctor { thresholds, ..Doctor::of(ns) };
        let soon = Doctor::of(ns).looks(|| pause(900));
        told(&soon, "send-queue-stuck", "Check the reader on the other side");
        let ill = doctor.looks(|| pause(1100));
        told(&ill, "recv-queue-stuck", "Continue the process (SIGCONT)");
        let finding = told(&ill, "zero-window-peer", &format!("Find out why python3 ({}) does not read", reader.pid()));
        assert!(finding.remedy[0].ends_with("see recv-queue-stuck for it"), "{finding:#?}");
        reader.signal(Signal::CONT);
        wait_for("everything to be read", || {
            let left: u32 =
                ns.run(diag::dump).iter().filter(|r| r.state == State::Established).map(|r| r.recv_q + r.send_q).sum();
            if left == 0 { Ok(()) } else { Err(left.to_string()) }
        });
        let well = doctor.looks(|| {
            writer.ask(&format!("send {} 20000", client.fd.expect("held")));
            pause(300);
        });
        for rule in ["recv-queue-stuck", "zero-window-peer", "send-queue-stuck"] {
            cured(&well, rule);
        }
    });
}

#[test]
pub fn keepalive_on_the_idle_ones_is_enough() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let listener = wire.far.run(|| Sock::listening(Side::Far.at(8110), 8));
        let clients: Vec<Sock> = (0..3).map(|_| Sock::connected(Side::Far.at(8110), None)).collect();
        let servers: Vec<Sock> = (0..3).map(|_| listener.accept()).collect();
        ns.set_sysctl("ipv4/tcp_keepalive_time", "1");
        pause(1100);
        let step = "Turn SO_KEEPALIVE on in the application, with TCP_KEEPIDLE below the idle limit";
        told(&Doctor::of(ns).look(), "idle-no-keepalive", step);
        for c in &clients {
            c.set_keepalive(Duration::from_secs(30), Duration::from_secs(10));
        }
        cured(&Doctor::of(ns).look(), "idle-no-keepalive");
        // And it finds a peer that is gone, which is what it is for.
        for c in &clients {
            c.set_keepalive(Duration::from_secs(1), Duration::from_secs(1));
        }
        servers.into_iter().for_each(vanish);
        wait_for_rows(ns, State::Established, 0);
    });
}

#[test]
pub fn keepalive_below_the_limit_of_the_path_is_enough() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let listener = wire.far.run(|| Sock::listening(Side::Far.at(8130), 8));
        let clients: Vec<Sock> = (0..3).map(|_| Sock::connected(Side::Far.at(8130), None)).collect();
        let servers: Vec<Sock> = (0..3).map(|_| listener.accept()).collect();
        // Seconds instead of minutes.
        let mut thresholds = Thresholds::default();
        thresholds.set("path-idle-seconds", 2.0).expect("a threshold");
        let doctor = Doctor { thresholds, ..Doctor::of(ns) };
        pause(1200);
        told(&doctor.look(), "path-idle-limit", "Turn SO_KEEPALIVE on in the application, with TCP_KEEPIDLE below");
        for client in &clients {
            client.set_keepalive(Duration::from_secs(1), Duration::from_secs(1));
        }
        pause(1200);
        cured(&doctor.look(), "path-idle-limit");
        drop(servers);
    });
}

/// A client that waits for a word of its server, and closes when there is none to come.
const WAITS: &str = r#"
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
if sys.argv[2] == "keepalive":
    s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
print("connected", flush=True)
try:
    s.recv(10)
except OSError: pass
s.close()
print("closed", flush=True)
sys.stdin.readline()
"#;

#[test]
pub fn a_survivor_with_keepalive_closes_its_half() {
    in_netns(|ns| {
        let rule = "half-open-mirror-missing";
        let listener = Sock::listening(loopback(8120), 8);
        for how in ["plain", "keepalive"] {
            let Some(mut client) = Script::start(ns, WAITS, &["8120", how]) else { return };
            assert_eq!(client.line(), "connected");
            vanish(listener.accept());
            let ill = Doctor::of(ns).looks(|| pause(100));
            let finding = told(&ill, rule, "Find what happened to the other half");
            // It was destroyed here, so that only the survivor can be helped.
            assert!(
                finding.remedy[1]
                    .starts_with("In the surviving program set read timeouts, a heartbeat, or SO_KEEPALIVE")
            );
            if how == "keepalive" {
                assert_eq!(client.line(), "closed");
                cured(&Doctor::of(ns).looks(|| pause(100)), rule);
            }
            // Its input ends only with a signal: the plain one still waits.
            client.signal(Signal::KILL);
        }
    });
}
