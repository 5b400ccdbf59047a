//! `trace --life`: the bytes of a whole connection. Input: connections whose payload is known and that end in every way.
//! Output: each byte counted once, or no count.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::{Trace, bpf_works, of, works};
use crate::harness::sock::Sock;
use crate::harness::{descriptors, in_netns};
use crate::product;

/// Payload from the client and from the server of connections that end in every way, by the port of the server.
const CARRIED: [(u16, u64, u64); 4] = [(7010, 1000, 54_321), (7011, 3, 0), (7012, 0, 200_000), (7013, 70_000, 1)];

/// Makes them: closed by the client, by the server, by both ends at once, and by a reset.
fn carry() {
    for (port, up, down) in CARRIED {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).expect("listen");
        let mut client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
        let (mut server, _) = listener.accept().expect("accept");
        let pour = |mut to: &TcpStream, bytes: u64| {
            to.write_all(&vec![b'x'; usize::try_from(bytes).expect("a length")]).expect("write");
        };
        std::thread::scope(|scope| {
            scope.spawn(|| pour(&client, up));
            scope.spawn(|| pour(&server, down));
            scope.spawn(|| (&client).take(down).read_to_end(&mut Vec::new()).expect("read"));
            scope.spawn(|| (&server).take(up).read_to_end(&mut Vec::new()).expect("read"));
        });
        match port {
            7010 => {
                client.shutdown(Shutdown::Write).expect("shutdown");
                assert_eq!(server.read(&mut [0]).expect("read"), 0);
                drop(server);
                assert_eq!(client.read(&mut [0]).expect("read"), 0);
            }
            7011 => {
                drop(server);
                assert_eq!(client.read(&mut [0]).expect("read"), 0);
            }
            7012 => {
                // An orphan that is gone before the peer's FIN: nothing may be taken off for that one.
                drop(client);
                assert_eq!(server.read(&mut [0]).expect("read"), 0);
            }
            _ => {
                rustix::net::sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).expect("linger");
                drop(client);
                assert!(server.read(&mut [0]).is_err(), "a reset");
            }
        }
    }
}

#[test]
fn lives_tell_how_much_was_carried_each_byte_once() {
    in_netns(|ns| {
        if !bpf_works(ns) {
            return;
        }
        let trace = Trace::start(product::with(ns, &["trace", "--this-netns", "--json", "--life"]));
        descriptors::with_own(&[], || {
            carry();
        });
        let lines = trace.interrupt();
        let lives = of(&lines, "life");
        assert_eq!(lives.len(), 2 * CARRIED.len(), "{lives:?}");
        for life in lives {
            let client = life["opened_by"] == "local";
            let port = life[if client { "peer" } else { "local" }]["port"].as_u64();
            let (_, up, down) = CARRIED.into_iter().find(|(p, ..)| Some(u64::from(*p)) == port).expect("a server");
            let (sent, received) = if client { (up, down) } else { (down, up) };
            assert_eq!(
                (life["sent_bytes"].as_u64(), life["received_bytes"].as_u64()),
                (Some(sent), Some(received)),
                "{life}"
            );
        }
    });
}

/// A first closer and a reset are where the kernel's counts hold the peer's FIN, or nothing any more.
#[test]
fn lives_by_tracefs_have_true_counts_or_none() {
    in_netns(|ns| {
        if !works(ns, "tracefs") {
            return;
        }
        // It hears all namespaces, and has counts of this one alone.
        let words = ["trace", "--via", "tracefs", "--json", "--life", "--ring-size", "64M"];
        let trace = Trace::start(product::with(ns, &words));
        let reset = SocketAddr::from(([127, 0, 0, 1], 7700));
        descriptors::with_own(&[], || {
            carry();
            let listener = Sock::listening(reset, 4);
            let client = Sock::connected(reset, None);
            let server = listener.accept();
            client.send(1000);
            server.receive(1000);
            // Dropped without a close in order, it sends a reset.
            drop(client);
            std::thread::sleep(Duration::from_millis(100));
            server.close();
        });
        std::thread::sleep(Duration::from_millis(500));
        let lines = trace.interrupt();
        let mut known = 0;
        for life in of(&lines, "life") {
            let client = life["opened_by"] == "local";
            let port = life[if client { "peer" } else { "local" }]["port"].as_u64();
            let carried = CARRIED.into_iter().find(|(p, ..)| Some(u64::from(*p)) == port);
            let (up, down) = carried.map_or((1000, 0), |(_, up, down)| (up, down));
            let (sent, received) = if client { (up, down) } else { (down, up) };
            for (told, truth) in [(&life["sent_bytes"], sent), (&life["received_bytes"], received)] {
                assert!(told.is_null() || told.as_u64() == Some(truth), "{life}");
            }
            known += u32::from(!life["sent_bytes"].is_null());
            if carried.is_none() && client {
                assert!(life["sent_bytes"].is_null(), "a reset has cleared the counts: {life}");
            }
        }
        assert!(known > 0, "{lines:?}");
    });
}
