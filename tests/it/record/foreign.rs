//! Saved output of the real tools (iproute2 6.1.0, net-tools 2.10, lsof 4.95.0), all of one moment of one namespace: two
//! listeners, open connections, one with unread bytes, one not accepted, one half closed, one in TIME_WAIT.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use tcpstate::diagnose::{RULES, Samples};

use crate::harness::{Netns, finish, in_netns};
use crate::product::{self, document};
use crate::tidy::root;

const TEXTS: [&str; 9] = [
    "ss-tan",
    "ss-tanp",
    "ss-tanpioem",
    "ss-tuna",
    "netstat-tan",
    "netstat-tanpo",
    "netstat-tuna",
    "lsof",
    "proc-net-tcp",
];

fn path(name: &str) -> String {
    root().join(format!("tests/it/record/{name}.txt")).to_str().expect("a path").to_owned()
}

#[track_caller]
fn list(ns: &Netns, name: &str) -> Json {
    let output = finish(&mut product::with(ns, &["list", "--from", &path(name), "--json"]));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    document(&output)
}

fn rows(list: &Json) -> BTreeSet<String> {
    let row = |s: &Json| format!("{} {} {} {}", s["state"], s["local"], s["peer"], s["recv_q_bytes"]);
    list["sockets"].as_array().expect("sockets").iter().map(row).collect()
}

fn with_status(list: &Json, status: &str) -> usize {
    list["sockets"].as_array().expect("sockets").iter().filter(|s| s["owner_status"] == status).count()
}

#[test]
fn every_tool_tells_the_same_rows() {
    in_netns(|ns| {
        let all = rows(&list(ns, "ss-tan"));
        assert_eq!(all.len(), 13, "{all:?}");
        for name in TEXTS {
            let found = list(ns, name);
            crate::json::assert_valid(&crate::json::validator(Some("list")), &found, name);
            assert_eq!(found["source"], "text", "{name}");
            if name == "lsof" {
                // It has neither queues nor what no process holds.
                assert_eq!(found["total"], 11, "{name}");
            } else {
                assert_eq!(rows(&found), all, "{name}");
            }
            let gaps = found["gaps"].to_string();
            assert!(gaps.contains("the saved text does not have it"), "{name}: {gaps}");
            for command in ["summary", "doctor"] {
                let output = finish(&mut product::with(ns, &[command, "--from", &path(name), "--json"]));
                let found = document(&output);
                crate::json::assert_valid(&crate::json::validator(Some(command)), &found, name);
            }
        }
    });
}

#[test]
fn what_a_text_tells_is_known_and_what_it_does_not_is_not() {
    in_netns(|ns| {
        let extended = list(ns, "ss-tanpioem");
        assert_eq!((with_status(&extended, "known"), with_status(&extended, "not_accepted")), (11, 1), "{extended}");
        assert!(extended["sockets"].as_array().unwrap().iter().all(|s| s["cookie"].is_string()));
        let named = list(ns, "ss-tanp");
        assert_eq!((with_status(&named, "known"), with_status(&named, "not_accepted")), (11, 0), "{named}");
        let unknown = named["sockets"].as_array().unwrap().iter().filter(|s| s["inode"].is_null()).count();
        assert_eq!(unknown, 12, "all but TIME_WAIT, whose inode is known to be none");
        let bare = list(ns, "ss-tan");
        assert_eq!((with_status(&bare, "not_collected"), with_status(&bare, "not_accepted")), (13, 0), "{bare}");
        let lsof = list(ns, "lsof");
        assert_eq!(
            (with_status(&lsof, "known"), lsof["sockets"][0]["owners"][0]["comm"].as_str()),
            (11, Some("python3"))
        );
    });
}

#[test]
fn one_moment_lists_the_rules_that_compare_two() {
    in_netns(|ns| {
        let doctor = |args: &[&str]| {
            let text = path("ss-tan");
            let words = [&["doctor", "--json", "--from", &text], args].concat();
            let found = document(&finish(&mut product::with(ns, &words)));
            let not_checked = found["not_checked"].as_array().expect("a list").iter();
            not_checked.map(|entry| entry["rule"].as_str().expect("a rule").to_owned()).collect::<BTreeSet<_>>()
        };
        let two = RULES.iter().filter(|rule| rule.samples == Samples::Two).map(|rule| rule.id.to_owned());
        let two: BTreeSet<String> = two.collect();
        let missing: Vec<_> = two.difference(&doctor(&[])).cloned().collect();
        assert!(!two.is_empty() && missing.is_empty(), "{missing:?}");
        assert_eq!(doctor(&["--rule", "abort-storm"]), BTreeSet::from(["abort-storm".to_owned()]));
    });
}

#[test]
fn what_is_no_such_text_is_refused_in_one_line() {
    in_netns(|ns| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x");
        for text in ["", "\u{0}\u{1}", "State\n", "hello\nworld\n", "  sl  local_address\n"] {
            std::fs::write(&file, text).expect("a file");
            let output = finish(&mut product::with(ns, &["list", "--from", file.to_str().expect("a path"), "--json"]));
            let said = String::from_utf8_lossy(&output.stderr);
            // A heading without rows is a host without sockets.
            if output.status.success() {
                assert_eq!((text, &document(&output)["total"]), ("  sl  local_address\n", &Json::from(0)));
            } else {
                assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{text:?}: {said}");
            }
        }
    });
}
