//! New connections that a service ends as soon as they come, as the rules find them in what was traced. Input: a server at its
//! limit, and servers that are well. Output: `closed-without-answer`, or nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value as Json;

use super::bpf_works;
use crate::harness::script::Script;
use crate::harness::{Netns, finish, in_netns};

/// A server that keeps its first four connections. Arguments: port, what it does with all others.
const FULL: &str = r#"
import os, socket, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()
port, how = int(sys.argv[1]), sys.argv[2]
L = socket.create_server(("127.0.0.1", port), backlog=64)
print("listens", flush=True)
kept = [L.accept()[0] for _ in range(4)]
while True:
    c = L.accept()[0]
    try:
        if how == "line": c.sendall(b"Exceeded MaxStartups\r\n")
        if how == "greets": c.sendall(b"220 ready\r\n"); c.recv(9)
        if how == "serves": c.recv(9); c.sendall(b"ok")
    except OSError: pass
    c.close()
"#;

/// What the doctor finds there while clients come, each with what it says first.
fn found(ns: &Netns, port: u16, how: &str, says: &[u8]) -> Option<Json> {
    let mut server = Script::start(ns, FULL, &[&port.to_string(), how])?;
    assert_eq!(server.line(), "listens");
    let connect = || TcpStream::connect(("127.0.0.1", port)).expect("connect");
    let kept: Vec<TcpStream> = (0..4).map(|_| connect()).collect();
    let done = AtomicBool::new(false);
    let come = || {
        while !done.load(Ordering::Relaxed) {
            let mut client = connect();
            // A server that has ended it may answer with a reset.
            let _ = client.write_all(says);
            // Of one that greets the client knows enough.
            let _ = if how == "greets" { client.read(&mut [0; 99]) } else { client.read_to_end(&mut Vec::new()) };
            drop(client);
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let output = std::thread::scope(|threads| {
        threads.spawn(|| ns.run(come));
        let words = ["doctor", "--json", "--interval", "1s", "--rule", "closed-without-answer"];
        let output = finish(ns.product().args(words));
        done.store(true, Ordering::Relaxed);
        output
    });
    drop(kept);
    let report: Json = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    Some(report["findings"].get(0).cloned().unwrap_or(Json::Null))
}

#[test]
fn a_server_at_its_limit_that_ends_what_comes_is_found_and_one_that_is_asked_first_is_not() {
    in_netns(|ns| {
        if !bpf_works(ns) {
            return;
        }
        for (port, how) in [(17_070, "line"), (17_071, "at once")] {
            let Some(finding) = found(ns, port, how, b"") else { return };
            assert_eq!(
                (&finding["rule"], &finding["severity"]),
                (&"closed-without-answer".into(), &"warning".into()),
                "{how}"
            );
            assert_eq!(finding["subject"]["comm"], "python3", "{finding}");
            assert_eq!(finding["hypotheses"][0]["cause"], "own-limit", "{finding}");
            assert!(finding["evidence"]["ended_at_once"].as_u64() >= Some(3), "{finding}");
            assert_eq!(finding["evidence"]["unused_meanwhile"], 4, "{finding}");
        }
        for (port, how, says) in [(17_072, "serves", &b"question"[..]), (17_073, "greets", b"")] {
            let Some(nothing) = found(ns, port, how, says) else { return };
            assert_eq!(nothing, Json::Null, "{how}");
        }
    });
}
