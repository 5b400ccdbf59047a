//! `summary -c`: sums, shares and quantiles per group, beside the rows that they are made of. Comes in: connections that
//! moved known bytes. Goes out: each sum, recomputed from `list --json`. Never here: the arithmetic alone (unit tests).

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::Value as Json;

use crate::harness::{Netns, in_netns, wait_for};
use crate::product;

/// Connections from 127.0.HOST.1 that send this many bytes each, and are answered with ten; all stay open.
fn talk(ns: &Netns, at: SocketAddr, bytes: &[(u8, usize)]) -> Vec<TcpStream> {
    ns.run(|| {
        let listener = TcpListener::bind(at).expect("bind");
        let mut held = Vec::new();
        for (host, count) in bytes {
            let from = SocketAddr::from(([127, 0, *host, 1], 0));
            let client = crate::harness::sock::Sock::connected(at, Some(from));
            let (mut server, _) = listener.accept().expect("accept");
            client.send(*count);
            server.read_exact(&mut vec![0; *count]).expect("read");
            server.write_all(&[7; 10]).expect("write");
            client.receive(10);
            held.push(server);
            std::mem::forget(client);
        }
        held
    })
}

/// The groups of a summary by their key, and its `other`.
fn groups(ns: &Netns, words: &[&str], key: &str) -> (Vec<(String, Json)>, Json) {
    let document = product::json(ns, &[&["summary", "--json"], words].concat());
    let by = &document["groups"]["by"];
    let rows = by["rows"].as_array().expect("rows");
    (rows.iter().map(|g| (g[key].as_str().expect("a key").to_owned(), g.clone())).collect(), by["other"].clone())
}

#[test]
fn sums_are_those_of_the_rows_and_groups_are_ordered_by_them() {
    in_netns(|ns| {
        let at: SocketAddr = "127.0.0.1:7000".parse().unwrap();
        let sent = [(1u8, 1000usize), (1, 2000), (2, 50_000), (3, 1), (3, 2), (3, 3)];
        let _held = talk(ns, at, &sent);
        // Every byte is acknowledged: what was in flight would differ from look to look.
        wait_for("quiet connections", || {
            let rows = product::json(ns, &["list", "--json", "-i", "sport = :7000 and state established"]);
            let rows = rows["sockets"].as_array().expect("rows").clone();
            let quiet = rows.iter().filter(|s| s["tcp_info"]["bytes_acked"] == 10 && s["tcp_info"]["unacked"] == 0);
            if quiet.count() == sent.len() { Ok(()) } else { Err(format!("{rows:?}")) }
        });
        let columns = "bytes-sent,bytes-acked,bytes-received,bytes-retrans,retrans-share,rtt-median,rtt-p99,unacked,send-q,recv-q";
        let filter = "sport = :7000 and state established";
        let words = ["--by", "peer-addr/24", "-c", columns, "--sort", "-bytes-received", filter];
        let (told, other) = groups(ns, &words, "peer-addr");
        let order: Vec<&str> = told.iter().map(|(net, _)| net.as_str()).collect();
        assert_eq!(order, ["127.0.2.0/24", "127.0.1.0/24", "127.0.3.0/24"]);
        assert!(other.is_null());
        let list = product::json(ns, &["list", "--json", "-i", filter]);
        let mut rtts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for socket in list["sockets"].as_array().expect("rows") {
            let addr =
                socket["peer"]["addr"].as_str().expect("an address").rsplit_once('.').expect("IPv4").0.to_owned();
            rtts.entry(format!("{addr}.0/24"))
                .or_default()
                .push(socket["tcp_info"]["rtt_us"].as_u64().expect("an RTT"));
        }
        for (net, group) in &told {
            let host: u8 = net.split('.').nth(2).unwrap().parse().unwrap();
            let bytes: Vec<usize> = sent.iter().filter(|(h, _)| *h == host).map(|(_, n)| *n).collect();
            let n = bytes.len() as u64;
            assert_eq!((group["total"].as_u64(), group["measured"].as_u64()), (Some(n), Some(n)), "{group}");
            assert_eq!(group["bytes_received"].as_u64(), Some(bytes.iter().sum::<usize>() as u64), "{group}");
            assert_eq!(group["bytes_sent"].as_u64(), Some(10 * n), "{group}");
            assert_eq!(group["bytes_acked"].as_u64(), Some(10 * n), "{group}");
            assert_eq!((&group["bytes_retrans"], &group["retrans_share"]), (&0.into(), &0.0.into()), "{group}");
            assert_eq!(
                (&group["unacked"], &group["send_q_bytes"], &group["recv_q_bytes"]),
                (&0.into(), &0.into(), &0.into())
            );
            let mut rtts = rtts[net].clone();
            rtts.sort_unstable();
            let rank = |percent: usize| rtts[(rtts.len() * percent).div_ceil(100) - 1];
            assert_eq!(group["rtt_median_us"].as_u64(), Some(rank(50)), "{group} {rtts:?}");
            assert_eq!(group["rtt_p99_us"].as_u64(), Some(rank(99)), "{group} {rtts:?}");
        }
        // What is below the cut is summed too.
        let words = ["--by", "peer-addr/24", "-c", "bytes-received", "--sort", "bytes-received", "--top", "1", filter];
        let (told, other) = groups(ns, &words, "peer-addr");
        assert_eq!((told[0].0.as_str(), other["bytes_received"].as_u64()), ("127.0.3.0/24", Some(53_000)), "{other}");
        assert!(told[0].1.get("bytes_sent").is_none() && told[0].1.get("rtt_p99_us").is_none());
    });
}

#[test]
fn what_a_group_cannot_have_is_null() {
    in_netns(|ns| {
        let at: SocketAddr = "127.0.0.1:7000".parse().unwrap();
        let _listener = ns.run(|| TcpListener::bind(at).expect("bind"));
        let words = ["--by", "state", "-c", "bytes-sent,rtt-p99,recv-q"];
        let (told, _) = groups(ns, &words, "state");
        let (_, group) = &told[0];
        assert_eq!(group["measured"], 0);
        assert!(
            group["bytes_sent"].is_null() && group["rtt_p99_us"].is_null() && group["recv_q_bytes"].is_null(),
            "{group}"
        );
        let text = product::text(ns, &["summary", "--by", "state", "-c", "bytes-sent"]);
        assert!(text.lines().any(|l| l.starts_with("LISTEN") && l.ends_with('?')), "{text}");
        let refused = crate::harness::finish(&mut product::with(ns, &["summary", "--by", "peer-addr,peer-addr/24"]));
        assert_eq!(refused.status.code(), Some(2));
    });
}
