//! Data that comes for a socket that its process has closed. Input: connections whose server closes first, and a request
//! that comes before or after the FIN was acknowledged. Output: the RST that this host sends, and none that it received.
//!
//! In FIN_WAIT2 the kernel ends the closed socket as if a RST had come.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::{Trace, bpf_works, of};
use crate::harness::{descriptors, in_netns};
use crate::product;

const PORT: u16 = 17_470;
const EACH: usize = 20;

#[test]
fn data_for_a_closed_socket_is_a_reset_sent_and_none_received() {
    in_netns(|ns| {
        if !bpf_works(ns) {
            return;
        }
        // What waits for the peer's FIN for longer than TIME_WAIT lasts stays a full socket.
        ns.set_sysctl("ipv4/tcp_fin_timeout", "120");
        let start = |how: &str| Trace::start(product::with(ns, &["trace", "--this-netns", "--json", how]));
        let (lives, resets) = (start("--life"), start("--resets"));
        descriptors::with_own(&[], || {
            for ip in ["127.0.0.1", "::1"] {
                let at = SocketAddr::new(ip.parse().expect("an address"), PORT);
                let listener = TcpListener::bind(at).expect("listen");
                let clients: Vec<TcpStream> = (0..2 * EACH)
                    .map(|i| {
                        let mut client = TcpStream::connect(at).expect("connect");
                        drop(listener.accept().expect("accept"));
                        assert_eq!(client.read(&mut [0]).expect("read"), 0, "the FIN");
                        if i < EACH {
                            client.write_all(b"too late").expect("write");
                        }
                        client
                    })
                    .collect();
                // Longer than an acknowledgement is delayed.
                std::thread::sleep(Duration::from_millis(100));
                for mut client in clients.into_iter().skip(EACH) {
                    client.write_all(b"too late").expect("write");
                }
            }
        });
        let [lives, resets] = [lives, resets].map(Trace::interrupt);
        let port = |line: &serde_json::Value, end: &str| line[end]["port"].as_u64() == Some(PORT.into());
        let lives = of(&lives, "life");
        assert_eq!(lives.len(), 8 * EACH);
        for life in lives {
            let told = (life["ended"].as_str(), life["ended_by"].as_str(), life["reset_reason"].as_str());
            let server = port(life, "local");
            let truth = if server { ("reset_sent", Some("abort_on_data")) } else { ("reset_received", None) };
            assert_eq!(told, (Some("cut"), Some(truth.0), truth.1), "{life}");
            assert_eq!(life["closed_first"], if server { "local" } else { "peer" }, "{life}");
        }
        let (sent, received) = (of(&resets, "reset_sent"), of(&resets, "reset_received"));
        assert_eq!((sent.len(), received.len()), (4 * EACH, 4 * EACH));
        assert!(sent.iter().all(|r| port(r, "local")), "{sent:?}");
        assert!(received.iter().all(|r| port(r, "peer") && r["state"] == "close_wait"), "{received:?}");
    });
}
