//! The programs against the running kernel: owners against a walk of /proc, the trace against connections that the
//! test makes itself, in private network namespaces.
//!
//! A kernel that does not allow BPF skips them, with the reason printed. No traffic leaves a private namespace.
#![allow(clippy::items_after_statements, reason = "a test declares a helper where it uses it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::owners::{SocketFd, socket_holders};
use super::testkit::{
    Child, gettid, in_private_netns, kernel_or_skip, pipe, unshare_descriptors, with_own_descriptors,
};
use super::trace::Tracer;
use crate::collect::change_source::{Faults, Source};
use crate::model::transition::{By, Transition};
use crate::model::{Endpoint, Family, NetnsId, State};

const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";

/// Every (thread group, descriptor, inode) of a socket whose inode is in `inodes`, the slow way.
fn walk_proc(inodes: &BTreeSet<u64>) -> BTreeSet<(u32, u32, u64)> {
    let mut found = BTreeSet::new();
    let numbers = |dir: &str| -> Vec<u32> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
    };
    for tgid in numbers("/proc") {
        for tid in numbers(&format!("/proc/{tgid}/task")) {
            for fd in numbers(&format!("/proc/{tgid}/task/{tid}/fd")) {
                let link = fs::read_link(format!("/proc/{tgid}/task/{tid}/fd/{fd}")).unwrap_or_default();
                let inode = link.to_str().and_then(|l| l.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
                if let Some(inode) = inode.filter(|i| inodes.contains(i)) {
                    found.insert((tgid, fd, inode));
                }
            }
        }
    }
    found
}

fn inode(socket: &impl AsRawFd) -> u64 {
    fs::metadata(format!("/proc/thread-self/fd/{}", socket.as_raw_fd())).unwrap().ino()
}

fn holders_of(inodes: &BTreeSet<u64>) -> Vec<SocketFd> {
    let mut found = Vec::new();
    let stats = socket_holders(&mut |d| {
        if inodes.contains(&d.inode) {
            found.push(d);
        }
    })
    .unwrap();
    assert!(stats.descriptors >= found.len() as u64);
    found
}

#[test]
fn owners_are_those_of_proc_over_fork_and_unshared_threads() {
    let Some(()) = kernel_or_skip("owners_are_those_of_proc_over_fork_and_unshared_threads") else { return };
    with_own_descriptors(|| {
        let shared = TcpListener::bind(V4).unwrap();
        let twice = shared.try_clone().unwrap();
        let six = TcpListener::bind(V6).unwrap();
        let go = pipe();
        let copy: OwnedFd = shared.try_clone().unwrap().into();
        let child = Child::that_closes(&copy, &go);

        let (to_main, from_thread) = mpsc::channel();
        let (to_thread, until) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            unshare_descriptors();
            let own = TcpListener::bind(V4).unwrap();
            to_main.send((gettid(), own.as_raw_fd(), inode(&own))).unwrap();
            let _ = until.recv();
        });
        let (tid, own_fd, own_inode) = from_thread.recv().unwrap();

        let inodes = BTreeSet::from([inode(&shared), inode(&six), own_inode]);
        assert_eq!(inodes.len(), 3);
        let seen = holders_of(&inodes);
        let by_proc = walk_proc(&inodes);
        drop(to_thread);
        thread.join().unwrap();
        drop(go);
        let (me, child_pid) = (std::process::id(), child.0.cast_unsigned());
        drop(child);

        let as_set: BTreeSet<_> = seen.iter().map(|d| (d.tgid, d.fd, d.inode)).collect();
        assert_eq!(as_set, by_proc);
        assert_eq!(as_set.len(), seen.len(), "no descriptor of a process twice");
        // The child has every descriptor at the same number, in its own table.
        for (tgid, tables) in [(me, [gettid(), tid]), (child_pid, [child_pid; 2])] {
            for fd in [shared.as_raw_fd(), twice.as_raw_fd(), copy.as_raw_fd()] {
                let fd = fd.cast_unsigned();
                let found = seen.iter().find(|d| (d.tgid, d.fd, d.inode) == (tgid, fd, inode(&shared))).unwrap();
                assert!(tables.contains(&found.tid), "process {tgid} fd {fd}: {found:?}");
            }
        }
        // The thread's own socket, named with the thread.
        let own: Vec<_> = seen.iter().filter(|d| d.inode == own_inode).collect();
        assert_eq!(own.len(), 1);
        assert_eq!((own[0].tgid, own[0].tid, own[0].fd), (me, tid, own_fd.cast_unsigned()));
    });
}

#[test]
fn a_path_of_a_unix_socket_is_not_a_socket() {
    let Some(()) = kernel_or_skip("a_path_of_a_unix_socket_is_not_a_socket") else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let held = rustix::fs::open(&path, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    let number = rustix::fs::fstat(&held).unwrap().st_ino;
    let me = std::process::id();
    let same_fd = |d: &SocketFd| (d.tgid, d.tid) == (me, me) && d.fd == held.as_raw_fd().cast_unsigned();
    assert!(!holders_of(&BTreeSet::from([number])).iter().any(same_fd));
}

/// Makes one connection and closes it gracefully, the client first: ten transitions in a fixed order.
fn connect_and_close(listener: &TcpListener) -> (SocketAddr, SocketAddr) {
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, client_addr) = listener.accept().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
    let server_addr = server.local_addr().unwrap();
    drop(server);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    (client_addr, server_addr)
}

/// Drains until `enough` returns true, or for at most 5 seconds.
fn collect(tracer: &mut Tracer, enough: impl Fn(&[Transition]) -> bool) -> Vec<Transition> {
    let end = Instant::now() + Duration::from_secs(5);
    let mut records = Vec::new();
    while !enough(&records) && Instant::now() < end {
        tracer.wait(Duration::from_millis(20)).unwrap();
        tracer.take(&mut |event| records.extend(event.change().copied()));
    }
    records
}

use State::{Close, CloseWait, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent};

const CLIENT: [(State, State); 5] =
    [(Close, SynSent), (SynSent, Established), (Established, FinWait1), (FinWait1, FinWait2), (FinWait2, Close)];
const SERVER: [(State, State); 5] =
    [(Listen, SynRecv), (SynRecv, Established), (Established, CloseWait), (CloseWait, LastAck), (LastAck, Close)];

/// Beside other tracers the kernel passes over a program now and then, and counts it: then it is looked at again.
fn every_transition_is_seen_once(address: &str, family: Family) {
    assert!((0..5).any(|_| is_seen_once(address, family)), "records were lost five times");
}

/// Whether nothing was lost; then each transition is there once.
fn is_seen_once(address: &str, family: Family) -> bool {
    const CONNECTIONS: usize = 200;
    in_private_netns(|netns| {
        let mut tracer = Tracer::open(4 << 20, &[netns], Faults::NONE).unwrap();
        assert!(tracer.gaps().is_empty());
        let listener = TcpListener::bind(address).unwrap();
        let addresses: Vec<_> = (0..CONNECTIONS).map(|_| connect_and_close(&listener)).collect();
        let server_addr = listener.local_addr().unwrap();
        drop(listener);
        let records = collect(&mut tracer, |r| r.len() >= CONNECTIONS * 10 + 2);
        if tracer.lost().total() > 0 {
            return false;
        }
        assert_eq!(records.len(), CONNECTIONS * 10 + 2);

        let mut by_cookie: BTreeMap<u64, Vec<&Transition>> = BTreeMap::new();
        for record in &records {
            assert_eq!((record.netns, record.family), (NetnsId::new(netns.into()), family));
            by_cookie.entry(record.cookie.unwrap()).or_default().push(record);
        }
        assert!(
            by_cookie.values().all(|life| life.iter().all(|r| r.address.is_some() && r.address == life[0].address))
        );
        assert_eq!(by_cookie.len(), 2 * CONNECTIONS + 1);
        let mut ends = BTreeSet::new();
        for (cookie, life) in &by_cookie {
            let steps: Vec<_> = life.iter().map(|r| (r.old.unwrap(), r.new)).collect();
            assert!(life.is_sorted_by_key(|r| r.monotonic_ns), "cookie {cookie:#x}");
            let last = life[life.len() - 1];
            let end = (last.local.addr, last.local.port, last.peer.port);
            assert_eq!((last.local.addr, last.peer.addr.is_loopback()), (server_addr.ip(), steps.len() == 5));
            if steps.len() == 2 {
                assert_eq!(steps, [(Close, Listen), (Listen, Close)]);
                assert_eq!((last.local.port, last.peer.port), (server_addr.port(), 0));
            } else {
                let expected = if last.local.port == server_addr.port() { SERVER } else { CLIENT };
                assert_eq!(steps, expected, "cookie {cookie:#x}");
                assert!(ends.insert(end));
            }
            for record in life.iter().filter(|r| r.by_call) {
                let Some(By::Process(actor)) = record.by else { panic!("{record:?}") };
                assert_eq!(actor.pid, std::process::id(), "{record:?}");
            }
            for record in life.iter().filter(|r| (r.old, r.new) == (Some(Listen), SynRecv)) {
                assert_eq!(record.by, Some(By::Network));
            }
        }
        for (client, server) in addresses {
            assert!(ends.contains(&(client.ip(), client.port(), server.port())));
            assert!(ends.contains(&(server.ip(), server.port(), client.port())));
        }
        true
    })
}

#[test]
fn every_ipv4_transition_is_seen_once_with_its_maker() {
    let Some(()) = kernel_or_skip("every_ipv4_transition_is_seen_once_with_its_maker") else { return };
    every_transition_is_seen_once(V4, Family::V4);
}

#[test]
fn every_ipv6_transition_is_seen_once_with_its_maker() {
    let Some(()) = kernel_or_skip("every_ipv6_transition_is_seen_once_with_its_maker") else { return };
    every_transition_is_seen_once(V6, Family::V6);
}

#[test]
fn the_closer_is_the_process_that_closed_last() {
    let Some(()) = kernel_or_skip("the_closer_is_the_process_that_closed_last") else { return };
    in_private_netns(|netns| {
        let mut tracer = Tracer::open(1 << 20, &[netns], Faults::NONE).unwrap();
        let listener = TcpListener::bind(V4).unwrap();
        let client: OwnedFd = TcpStream::connect(listener.local_addr().unwrap()).unwrap().into();
        let (mut server, peer) = listener.accept().unwrap();
        let go = pipe();
        let child = Child::that_closes(&client, &go);
        // The child still holds the client's end, so this sends nothing.
        drop(client);
        drop(go);
        assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
        let is_close = |r: &Transition| r.new == FinWait1 && r.local == Endpoint::from(peer);
        let records = collect(&mut tracer, |r| r.iter().any(is_close));
        let closes: Vec<_> = records.iter().filter(|r| is_close(r)).collect();
        assert_eq!(closes.len(), 1);
        let Some(By::Process(actor)) = closes[0].by else { panic!("{:?}", closes[0]) };
        assert_eq!(actor.pid, child.0.cast_unsigned());
        // The child also has a copy of the server's end; once it is gone, the close is ours.
        drop(child);
        let server_end = Endpoint::from(server.local_addr().unwrap());
        drop(server);
        let records = collect(&mut tracer, |r| r.iter().any(|r| r.new == LastAck));
        let last = records.iter().find(|r| r.new == LastAck && r.local == server_end).unwrap();
        let Some(By::Process(actor)) = last.by else { panic!("{last:?}") };
        assert_eq!(actor.pid, std::process::id());
    });
}

#[test]
fn closing_a_listener_names_nobody_for_what_waited_in_its_queue() {
    let Some(()) = kernel_or_skip("closing_a_listener_names_nobody_for_what_waited_in_its_queue") else { return };
    in_private_netns(|netns| {
        let listener = TcpListener::bind(V4).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (waiting, served) =
            (Endpoint::from(client.peer_addr().unwrap()), Endpoint::from(client.local_addr().unwrap()));
        let mut tracer = Tracer::open(1 << 20, &[netns], Faults::NONE).unwrap();
        drop(listener);
        let records = collect(&mut tracer, |r| r.len() >= 3);
        let find = |old, local, peer| {
            let found =
                records.iter().find(|r| r.old == Some(old) && r.new == Close && (r.local, r.peer) == (local, peer));
            found.unwrap_or_else(|| panic!("{records:?}")).by
        };
        assert_eq!(find(Established, waiting, served), Some(By::Network));
        assert_eq!(find(Established, served, waiting), Some(By::Network), "the reset that the other end receives");
        let listening = records.iter().find(|r| r.old == Some(Listen)).unwrap();
        assert!(matches!(listening.by, Some(By::Process(actor)) if actor.pid == std::process::id()));
    });
}

#[test]
fn what_a_full_ring_loses_is_counted_exactly() {
    let Some(()) = kernel_or_skip("what_a_full_ring_loses_is_counted_exactly") else { return };
    const CONNECTIONS: usize = 300;
    in_private_netns(|netns| {
        let mut all = Tracer::open(4 << 20, &[netns], Faults::NONE).unwrap();
        let mut few = Tracer::open(1, &[netns], Faults::NONE).unwrap();
        let listener = TcpListener::bind(V4).unwrap();
        for _ in 0..CONNECTIONS {
            connect_and_close(&listener);
        }
        let made = CONNECTIONS * 10 + 1;
        let complete = collect(&mut all, |r| r.len() >= made).len();
        assert_eq!((complete, all.lost().total()), (made, 0));
        let mut read = 0;
        few.take(&mut |_| read += 1);
        let lost = few.lost();
        assert!(lost.ring_full > 0 && read > 0, "{read} read, {lost:?}");
        assert_eq!(read + lost.total(), made as u64);
        // A drained ring resumes where it stopped.
        drop(listener);
        assert_eq!(collect(&mut few, |r| !r.is_empty()).len(), 1);
        assert_eq!(few.lost(), lost);
    });
}

#[test]
fn the_program_for_older_kernels_reports_the_same() {
    let Some(()) = kernel_or_skip("the_program_for_older_kernels_reports_the_same") else { return };
    in_private_netns(|netns| {
        let mut older = Tracer::open_for_older_kernels(1 << 20, &[netns]).unwrap();
        let mut newer = Tracer::open(1 << 20, &[netns], Faults::NONE).unwrap();
        connect_and_close(&TcpListener::bind(V4).unwrap());
        let story = |tracer: &mut Tracer| {
            let records = collect(tracer, |r| r.len() >= 12);
            records.into_iter().map(|r| (r.local, r.peer, r.old, r.new, r.by, r.traffic, r.address)).collect::<Vec<_>>()
        };
        let (older, newer) = (story(&mut older), story(&mut newer));
        assert_eq!(older.len(), 12);
        assert_eq!(older, newer);
    });
}
