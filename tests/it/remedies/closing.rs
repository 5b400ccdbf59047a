//! Remedies of the rules on connections that cannot finish. Input: readers that are stopped, peers that do not close, a wire
//! that can be cut. Output: the first step of each finding, and silence after it.
//!
//! The kernel gives an orphan up after 102 s; where a test waits for that it has `tcp_orphan_retries` set to 3.

use std::net::SocketAddr;
use std::time::Duration;

use tcpstate::model::State;

use super::{Doctor, cured, stopped, told, wait_for_repeats, wait_for_rows};
use crate::harness::helper::Helper;
use crate::harness::script::Script;
use crate::harness::sock::Sock;
use crate::harness::veth::{Side, VethPair};
use crate::harness::{Netns, in_netns, skip, wait_for};
use crate::judge::pause;
use crate::states::link::{self, Last};

#[test]
pub fn a_reader_that_continues_takes_what_the_orphans_have_left() {
    in_netns(|ns| {
        let rule = "fin-wait1-stuck";
        let Some(reader) = super::reader(ns, 8000) else { return };
        let mut writer = Helper::start(ns);
        let clients = writer.connect(SocketAddr::from(([127, 0, 0, 1], 8000)), 2);
        stopped(&reader);
        for client in &clients {
            writer.ask(&format!("send {} 20000", client.fd.expect("held")));
            writer.close(client);
        }
        let ill = wait_for("orphans that are stuck", || {
            let diagnosis = Doctor::of(ns).look();
            let found = diagnosis.findings.iter().any(|f| f.rule == rule);
            if found { Ok(diagnosis) } else { Err("none yet".to_owned()) }
        });
        let check =
            "Check the peer and the path to it; if the peer is on this host, check the process that does not read";
        let finding = told(&ill, rule, check);
        // Checked: the finding names it.
        assert!(finding.summary.contains(&format!("({}) on this host does not read", reader.pid())), "{finding:#?}");
        reader.signal(rustix::process::Signal::CONT);
        wait_for_rows(ns, State::FinWait1, 0);
        cured(&Doctor::of(ns).looks(|| pause(100)), rule);
    });
}

/// A client that says with its FIN that the request is complete. Arguments: port, and `waits` for the end of the answer, or
/// has a `deadline` for it.
const HALF_CLOSES: &str = r#"
import socket, sys
s = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(3)]
for c in s: c.sendall(b"request"); c.shutdown(socket.SHUT_WR)
print("asked", flush=True)
if sys.argv[2] == "deadline":
    for c in s:
        c.settimeout(0.3)
        try:
            while c.recv(4096): pass
        except TimeoutError: pass
        c.close()
    print("closed", flush=True)
sys.stdin.readline()
"#;

#[test]
pub fn a_time_limit_after_shutdown_ends_the_wait() {
    in_netns(|ns| {
        let rule = "fin-wait2-held";
        let mut backend = Helper::start(ns);
        for (port, how) in [(8010, "waits"), (8011, "deadline")] {
            let listener = backend.make(&format!("listen {port} 8")).remove(0);
            let Some(mut client) = Script::start(ns, HALF_CLOSES, &[&port.to_string(), how]) else { return };
            assert_eq!(client.line(), "asked");
            let taken = backend.accept(&listener, 3);
            wait_for_rows(ns, State::FinWait2, 3);
            // The answer never comes.
            let doctor = Doctor { older: Duration::from_secs(60), ..Doctor::of(ns) };
            if how == "waits" {
                told(&doctor.look(), rule, "After shutdown() read until EOF with a time limit, then close()");
            } else {
                assert_eq!(client.line(), "closed");
                cured(&doctor.look(), rule);
            }
            drop(client);
            for row in &taken {
                backend.close(row);
            }
            wait_for_rows(ns, State::FinWait2, 0);
        }
    });
}

#[test]
pub fn a_peer_that_closes_too_leaves_no_remainders() {
    in_netns(|ns| {
        let rule = "fin-wait2-orphan-pileup";
        let mut backend = Helper::start(ns);
        let rows = backend.make("fin_wait2_orphan 8020 12");
        pause(1100);
        told(&Doctor::of(ns).look(), rule, "Fix the program at the other end: it does not close after our FIN");
        rows.iter().filter(|r| r.state == State::CloseWait).for_each(|row| backend.close(row));
        wait_for_rows(ns, State::FinWait2, 0);
        cured(&Doctor::of(ns).looks(|| pause(100)), rule);
    });
}

/// Connections that their peer closed first, and whose last segments are lost.
fn last_acks(wire: &VethPair<'_>, port: u16, count: u16) -> crate::states::Held {
    let held = link::unreachable(wire, port, count, &[Last::ClosedAfterPeer]);
    wait_for_repeats(wire.near, State::LastAck, usize::from(count), 3);
    held
}

#[test]
pub fn a_few_last_acks_end_by_themselves() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        ns.set_sysctl("ipv4/tcp_orphan_retries", "3");
        let held = last_acks(&wire, 8030, 2);
        told(&Doctor::of(ns).look(), "last-ack-stuck", "Nothing, when they are few: they end by themselves");
        wait_for_rows(ns, State::LastAck, 0);
        cured(&Doctor::of(ns).look(), "last-ack-stuck");
        drop(held);
    });
}

#[test]
pub fn many_last_acks_end_when_the_peer_is_back() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let held = last_acks(&wire, 8031, 10);
        let ill = Doctor::of(ns).look();
        let finding = told(&ill, "last-ack-stuck", "Nothing, when they are few");
        assert!(finding.remedy[1].starts_with("Many to one peer: check whether that host"), "{finding:#?}");
        wire.mend(Side::Near);
        wire.mend(Side::Far);
        wait_for_rows(ns, State::LastAck, 0);
        cured(&Doctor::of(ns).look(), "last-ack-stuck");
        drop(held);
    });
}

/// Both ends close while only our packets are lost.
fn in_closing(ns: &Netns, wire: &VethPair<'_>, port: u16, count: u16) -> Vec<Sock> {
    let listener = wire.far.run(|| Sock::listening(Side::Far.at(port), 16));
    let clients: Vec<Sock> = ns.run(|| (0..count).map(|_| Sock::connected(Side::Far.at(port), None)).collect());
    let servers: Vec<Sock> = clients.iter().map(|_| listener.accept()).collect();
    wire.cut(Side::Near);
    // The FIN goes now: close() alone waits for a child of a parallel test that has a copy of the descriptor.
    clients.iter().for_each(Sock::shutdown);
    clients.into_iter().for_each(Sock::close);
    servers.iter().for_each(Sock::shutdown);
    wait_for_repeats(ns, State::Closing, usize::from(count), 3);
    servers
}

#[test]
pub fn a_few_in_closing_end_by_themselves() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        ns.set_sysctl("ipv4/tcp_orphan_retries", "3");
        let servers = in_closing(ns, &wire, 8040, 1);
        told(&Doctor::of(ns).look(), "closing-stuck", "Nothing, when they are few");
        wait_for_rows(ns, State::Closing, 0);
        cured(&Doctor::of(ns).look(), "closing-stuck");
        drop(servers);
    });
}

#[test]
pub fn many_in_closing_end_when_ours_arrive_again() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        let servers = in_closing(ns, &wire, 8041, 10);
        let ill = Doctor::of(ns).look();
        let finding = told(&ill, "closing-stuck", "Nothing, when they are few");
        assert!(finding.remedy[1].starts_with("If the peer's packets arrive, find what loses ours"), "{finding:#?}");
        wire.mend(Side::Near);
        wait_for_rows(ns, State::Closing, 0);
        cured(&Doctor::of(ns).look(), "closing-stuck");
        drop(servers);
    });
}
