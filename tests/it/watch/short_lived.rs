//! Short-lived processes among long-lived ones. Comes in: processes of one name, some of which end. Goes out: one line for those
//! that come and go, and a line each for those that stay. Never here: a process that only looks ended.

use std::collections::BTreeSet;
use std::net::TcpListener;

use serde_json::Value as Json;

use super::Watch;
use crate::harness::helper::Helper;
use crate::harness::{Netns, in_netns};
use crate::product;

/// A process of this name with one connection.
fn client(ns: &Netns, server: &TcpListener) -> Helper {
    let mut client = Helper::start(ns);
    client.rename(b"curl");
    client.connect(server.local_addr().expect("an address"), 1);
    client
}

#[test]
fn processes_of_one_command_that_come_and_go_are_one_line_and_those_that_stay_keep_theirs() {
    in_netns(|ns| {
        let server = TcpListener::bind("127.0.0.1:0").expect("bind");
        let stays = client(ns, &server);
        let mut watch = Watch::start(ns, &["--by", "process", "--interval", "200ms", "--no-findings"]);
        for _ in 0..3 {
            let goes = client(ns, &server);
            watch.snapshots(2);
            goes.kill();
        }
        let groups = watch.snapshots(3)["groups"]["rows"].clone();
        let groups: Vec<_> = groups.as_array().expect("rows").iter().map(|row| &row["group"]).collect();
        let together: Vec<_> = groups.iter().filter(|g| g["short_lived"] == "curl").collect();
        assert_eq!(together.len(), 1, "{groups:?}");
        assert!(together[0]["processes"].as_u64().is_some_and(|n| (2..=3).contains(&n)), "{groups:?}");
        let own = format!("curl({})", stays.pid());
        assert_eq!(groups.iter().filter(|g| g["process"] == own.as_str()).count(), 1, "{groups:?}");
        let ended = groups.iter().filter(|g| g["process"].as_str().is_some_and(|p| p.starts_with("curl("))).count();
        assert_eq!(ended, 1, "{groups:?}");
    });
}

#[test]
fn a_summary_puts_processes_that_just_began_together() {
    in_netns(|ns| {
        let server = TcpListener::bind("127.0.0.1:0").expect("bind");
        let all: Vec<Helper> = (0..4).map(|_| client(ns, &server)).collect();
        let text = product::text(ns, &["summary", "--by", "process"]);
        assert!(text.lines().any(|line| line.starts_with("curl, 4 processes")), "{text}");
        let summary = product::json(ns, &["summary", "--by", "process", "--json"]);
        let rows = summary["groups"]["by"]["rows"].as_array().expect("rows").clone();
        let told: Vec<&Json> =
            rows.iter().map(|row| &row["process"]).filter(|process| process["comm"] == "curl").collect();
        let [told] = &told[..] else { panic!("{summary}") };
        assert_eq!(told["short_lived"], true, "{summary}");
        let pids: BTreeSet<u64> = told["pids"].as_array().expect("pids").iter().filter_map(Json::as_u64).collect();
        assert_eq!(pids, all.iter().map(|client| client.pid().into()).collect(), "{summary}");
    });
}

#[test]
fn processes_that_share_a_socket_are_not_called_short_lived() {
    in_netns(|ns| {
        let mut server = Helper::start(ns);
        server.rename(b"prefork");
        let open = server.make("listen 0 8");
        server.fork(None);
        let summary = product::json(ns, &["summary", "--by", "process", "--json"]);
        let rows = summary["groups"]["by"]["rows"].as_array().expect("rows").clone();
        let shared = rows.iter().map(|row| &row["process"]).find(|process| process["comm"] == "prefork");
        let shared = shared.unwrap_or_else(|| panic!("{summary}"));
        assert_eq!((shared["pids"].as_array().map(Vec::len), &shared["short_lived"]), (Some(2), &Json::Bool(false)));
        drop(open);
    });
}
