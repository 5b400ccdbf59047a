//! Failures that the test makes itself, in private network namespaces, against what the trace says of them: errno, reason
//! of the reset, process; IPv4 and IPv6.
//!
//! A kernel that does not allow BPF skips them, with the reason printed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, listen, socket_with, sockopt};

use super::testkit::{in_private_netns, kernel_or_skip};
use super::trace::Tracer;
use crate::collect::change_source::{Faults, Source};
use crate::model::event::{ResetReason, ResetReceived, ResetSent, Retransmit};
use crate::model::transition::{By, Transition};
use crate::model::{Errno, Event, LastError, NetnsId, State};

const EACH: usize = 50;

/// Drains until `enough` returns true, or for at most 5 seconds.
fn collect(tracer: &mut Tracer, enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
    let end = Instant::now() + Duration::from_secs(5);
    let mut events = Vec::new();
    while !enough(&events) && Instant::now() < end {
        tracer.wait(Duration::from_millis(20)).unwrap();
        tracer.take(&mut |event| events.push(event));
    }
    assert_eq!(tracer.lost().total(), 0);
    events
}

fn ends(events: &[Event], from: State) -> Vec<Transition> {
    let changes = events.iter().filter_map(|e| e.change().copied());
    changes.filter(|t| (t.old, t.new) == (Some(from), State::Close)).collect()
}

fn sent(events: &[Event]) -> Vec<ResetSent> {
    events.iter().filter_map(|e| if let Event::ResetSent(reset) = e { Some(*reset) } else { None }).collect()
}

fn received(events: &[Event]) -> Vec<ResetReceived> {
    events.iter().filter_map(|e| if let Event::ResetReceived(reset) = e { Some(*reset) } else { None }).collect()
}

fn repeated(events: &[Event]) -> Vec<Retransmit> {
    events.iter().filter_map(|e| if let Event::Retransmit(again) = e { Some(*again) } else { None }).collect()
}

fn is_ours(by: Option<By>) -> bool {
    matches!(by, Some(By::Process(actor)) if actor.pid == std::process::id())
}

/// A connected pair.
fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn both_families(name: &str, work: fn(&str, u32, Tracer)) {
    if kernel_or_skip(name).is_none() {
        return;
    }
    for address in ["127.0.0.1:0", "[::1]:0"] {
        in_private_netns(|netns| {
            let tracer = Tracer::open(4 << 20, &[netns], Faults::ALL).unwrap();
            assert_eq!(tracer.gaps(), []);
            work(address, netns, tracer);
        });
    }
}

#[test]
fn a_refused_connect_has_its_errno_and_both_resets() {
    both_families("a_refused_connect_has_its_errno_and_both_resets", |address, netns, mut tracer| {
        let nobody = TcpListener::bind(address).unwrap().local_addr().unwrap();
        for _ in 0..EACH {
            assert_eq!(TcpStream::connect(nobody).unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
        }
        let events = collect(&mut tracer, |e| ends(e, State::SynSent).len() >= EACH && sent(e).len() >= EACH);
        let failed = ends(&events, State::SynSent);
        assert_eq!(failed.len(), EACH);
        for end in &failed {
            assert_eq!(end.error, Some(LastError::Errno(Errno::ECONNREFUSED)));
            assert_eq!((end.peer.addr, end.peer.port), (nobody.ip(), nobody.port()));
        }
        // The peer is on this host too: it has no socket, and says so.
        let sent = sent(&events);
        assert_eq!(sent.len(), EACH);
        for reset in &sent {
            assert_eq!((reset.reason, reset.at.state, reset.at.address), (Some(ResetReason::NoSocket), None, None));
            assert_eq!((reset.at.local.addr, reset.at.local.port), (nobody.ip(), nobody.port()));
            assert_eq!(reset.at.netns, NetnsId::new(netns.into()));
            assert!(failed.iter().any(|end| end.local == reset.at.peer), "{reset:?}");
        }
        let received = received(&events);
        assert_eq!(received.len(), EACH);
        assert!(received.iter().all(|r| r.at.state == Some(State::SynSent) && r.at.peer.port == nobody.port()));
        assert!(
            received.iter().all(|r| failed.iter().any(|end| (end.address, end.cookie) == (r.at.address, r.at.cookie)))
        );
    });
}

#[test]
fn a_reset_by_close_has_its_reason_and_its_process() {
    both_families("a_reset_by_close_has_its_reason_and_its_process", |address, _, mut tracer| {
        let listener = TcpListener::bind(address).unwrap();
        for _ in 0..EACH {
            // Unread data, closed by the server.
            let (mut client, server) = pair(&listener);
            client.write_all(b"request").unwrap();
            while rustix::io::ioctl_fionread(&server).unwrap() == 0 {}
            drop(server);
            assert_eq!(client.read(&mut [0]).unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
            // SO_LINGER 0, closed by the client.
            let (client, mut server) = pair(&listener);
            sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
            drop(client);
            assert_eq!(server.read(&mut [0]).unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
        }
        let events =
            collect(&mut tracer, |e| ends(e, State::Established).len() >= 4 * EACH && sent(e).len() >= 2 * EACH);
        let ends = ends(&events, State::Established);
        let local = ends.iter().filter(|end| end.error == Some(LastError::Nothing)).collect::<Vec<_>>();
        let cut = ends.iter().filter(|end| end.error == Some(LastError::Errno(Errno::ECONNRESET))).count();
        assert_eq!((local.len(), cut, ends.len()), (2 * EACH, 2 * EACH, 4 * EACH));
        assert!(local.iter().all(|end| is_ours(end.by)));
        let sent = sent(&events);
        for (reason, port_is_servers) in [(ResetReason::AbortOnClose, true), (ResetReason::Disconnected, false)] {
            let of: Vec<_> = sent.iter().filter(|r| r.reason == Some(reason)).collect();
            assert_eq!(of.len(), EACH, "{reason:?}");
            for reset in of {
                assert!(is_ours(reset.at.by), "{reset:?}");
                let server = listener.local_addr().unwrap().port();
                assert_eq!(reset.at.local.port == server, port_is_servers, "{reset:?}");
                // The same socket, whose change came just before.
                assert!(local.iter().any(|end| end.address == reset.at.address && end.local == reset.at.local));
            }
        }
        assert_eq!((sent.len(), received(&events).len()), (2 * EACH, 2 * EACH));
    });
}

#[test]
fn data_after_close_is_answered_by_a_reset_that_nobody_holds() {
    both_families("data_after_close_is_answered_by_a_reset_that_nobody_holds", |address, _, mut tracer| {
        let listener = TcpListener::bind(address).unwrap();
        for _ in 0..EACH {
            let (mut client, server) = pair(&listener);
            drop(server);
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            client.write_all(b"too late").unwrap();
        }
        let events = collect(&mut tracer, |e| ends(e, State::CloseWait).len() >= EACH);
        let sent = sent(&events);
        assert_eq!(sent.len(), EACH);
        assert!(sent.iter().all(|r| r.at.by == Some(By::Network)), "{sent:?}");
        // The tracepoint fires for the closed socket too when its FIN was acknowledged before (`late_data`).
        let clients = received(&events).into_iter().filter(|r| r.at.state != Some(State::FinWait2));
        assert!(clients.inspect(|r| assert_eq!(r.at.state, Some(State::CloseWait))).count() == EACH);
        let cut = ends(&events, State::CloseWait);
        assert!(
            cut.len() == EACH && cut.iter().all(|end| end.error == Some(LastError::Errno(Errno::EPIPE))),
            "{cut:?}"
        );
    });
}

#[test]
fn a_connect_without_an_answer_is_repeated_and_ends_by_its_process_or_its_timeout() {
    const NAME: &str = "a_connect_without_an_answer_is_repeated_and_ends_by_its_process_or_its_timeout";
    both_families(NAME, |address, _, mut tracer| {
        let address: SocketAddr = address.parse().unwrap();
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let open = || socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
        // A backlog of 0 takes one connection; the SYNs of all others are dropped.
        let full = open();
        rustix::net::bind(&full, &address).unwrap();
        listen(&full, 0).unwrap();
        let to: SocketAddr = rustix::net::getsockname(&full).unwrap().try_into().unwrap();
        let first = TcpStream::connect(to).unwrap();
        let attempts: Vec<_> = (0..2 * EACH)
            .map(|i| {
                let socket = open();
                if i % 2 == 0 {
                    sockopt::set_tcp_user_timeout(&socket, 500).unwrap();
                }
                assert_eq!(connect(&socket, &to), Err(rustix::io::Errno::INPROGRESS));
                socket
            })
            .collect();
        let events = collect(&mut tracer, |e| ends(e, State::SynSent).len() >= EACH);
        let timed_out = ends(&events, State::SynSent);
        assert_eq!(timed_out.len(), EACH);
        for end in &timed_out {
            assert_eq!((end.error, end.by), (Some(LastError::Errno(Errno::ETIMEDOUT)), Some(By::Network)));
        }
        let again = repeated(&events);
        assert!(again.iter().all(|r| r.at.state == Some(State::SynSent) && r.at.peer.port == to.port()));
        assert!(again.len() >= EACH, "{}", again.len());
        drop(attempts);
        let events = collect(&mut tracer, |e| ends(e, State::SynSent).len() >= EACH);
        let given_up = ends(&events, State::SynSent);
        assert_eq!(given_up.len(), EACH);
        for end in &given_up {
            assert!(end.error == Some(LastError::Nothing) && is_ours(end.by) && end.local.port != 0, "{end:?}");
        }
        drop(first);
    });
}
