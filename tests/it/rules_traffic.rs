//! The rules on what open connections are used for, on the real kernel: pools that grow, answers that do not come,
//! requests that never end, transfers that a buffer limits. Input: helpers as either end. Output: who is named with which
//! numbers, and what stays silent.

use std::net::SocketAddr;

use tcpstate::diagnose::Severity;

use crate::harness::helper::Helper;
use crate::harness::in_netns;
use crate::judge::{number, once, only, pause, silent, twice};

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn a_pool_that_grows_beside_unused_connections_is_named_and_one_at_rest_is_not() {
    in_netns(|ns| {
        let rule = ["connection-pool-growth"];
        let (mut server, mut client) = (Helper::start(ns), Helper::start(ns));
        client.rename(b"pooler");
        let listener = server.make("listen 8300 64").remove(0);
        let mut pool = client.connect(loopback(8300), 25);
        server.accept(&listener, 25);
        let asked = once(ns, &rule);
        assert_eq!(asked.findings, []);
        pause(1300);
        // At rest: nothing is opened.
        silent(&twice(ns, &rule, || pause(300)));
        let diagnosis = twice(ns, &rule, || {
            pool.extend(client.connect(loopback(8300), 3));
            server.accept(&listener, 3);
        });
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(client.pid())), "{finding:#?}");
        assert_eq!(finding.subject.destination.map(|d| d.to_string()).as_deref(), Some("127.0.0.1:8300"));
        let counts = ["connections", "unused", "opened", "closed"].map(|name| number(finding, name));
        assert_eq!(counts, [28, 25, 3, 0], "{finding:#?}");
        assert!((1300..20_000).contains(&number(finding, "oldest_unused_ms")), "{finding:#?}");
        // Churn beside the pool: as many are closed as opened.
        silent(&twice(ns, &rule, || {
            for row in pool.drain(25..) {
                client.close(&row);
            }
            client.connect(loopback(8300), 3);
        }));
    });
}
