//! Parts of a recording, and a recording that is kept: `format-1.tcps.zst` was written by the first version of format 1, and every
//! later version reads it. It is of a host `web3`: 30 snapshots, one a second; a program that opens and does not close one
//! connection after the other from the fourth second on, and connects to a closed port from the third to the ninth.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use tcpstate::capture::Capture;
use tcpstate::model::State;

use crate::harness::{Netns, finish, in_netns};
use crate::json::{assert_valid, validator};
use crate::product::{self, document};
use crate::states::{self, Ports};
use crate::tidy::root;

pub(super) fn kept() -> String {
    root().join("tests/it/record/format-1.tcps.zst").to_str().expect("a path").to_owned()
}

fn lines(ns: &Netns, args: &[&str]) -> Vec<Json> {
    let output = finish(&mut product::with(ns, args));
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn seconds(json: &Json) -> f64 {
    let at: jiff::Timestamp = json.as_str().expect("a time").parse().expect("a time");
    at.as_millisecond() as f64 / 1000.0
}

#[test]
fn every_version_reads_the_first_format() {
    let file = std::fs::File::open(kept()).expect("the recording");
    let mut capture = Capture::open(std::io::BufReader::new(file)).expect("a capture");
    assert_eq!((capture.entries().len(), capture.damage()), (30, &[][..]));
    let mut leaked = Vec::new();
    for place in 0..30 {
        let snapshot = capture.read(place).expect("a snapshot").snapshot;
        assert_eq!((&*snapshot.host, snapshot.netns.len()), ("web3", 1));
        let listen = snapshot.sockets.iter().filter(|s| s.state == State::Listen).count();
        assert_eq!(listen, 2, "snapshot {place}");
        let info = |s: &&tcpstate::model::Socket| s.state == State::CloseWait && s.info.is_some();
        leaked.push(snapshot.sockets.iter().filter(info).count());
        assert!(snapshot.owners.processes.iter().any(|p| p.comm == "python3"), "{:?}", snapshot.owners.processes);
        assert_eq!(snapshot.traced.is_some(), place > 0);
    }
    assert!(leaked[0] == 0 && leaked[29] > 90 && leaked.is_sorted(), "{leaked:?}");
}

#[test]
fn the_doctor_tells_when_each_finding_came_and_went() {
    in_netns(|ns| {
        let found =
            document(&finish(&mut product::with(ns, &["doctor", "--from", &kept(), "--since", "1h", "--json"])));
        assert_valid(&validator(Some("doctor")), &found, "doctor --since");
        let course = &found["course"];
        assert_eq!(
            (&course["snapshots"], &course["looks"]),
            (&30.into(), &16.into()),
            "a look each 2 s, and at the last"
        );
        let begin = seconds(&course["since"]);
        let of = |id: &str| {
            let runs = course["findings"].as_array().expect("findings");
            runs.iter().find(|run| run["id"] == id).unwrap_or_else(|| panic!("{id}: {course}")).clone()
        };
        let refused = of("connect-failures/? to 127.0.0.1:9999");
        let [spell] = &refused["spells"].as_array().expect("spells")[..] else { panic!("{refused}") };
        let (first, last) = (seconds(&spell["first_seen"]) - begin, seconds(&spell["last_seen"]) - begin);
        assert!((1.0..5.0).contains(&first) && (6.0..10.0).contains(&last), "{first} to {last}");
        assert!(spell["gone_at"].is_string());
        let leak = of("close-wait-leak/python3");
        let spell = &leak["spells"][0];
        assert!(seconds(&spell["first_seen"]) - begin > 3.0 && spell["gone_at"].is_null(), "{leak}");
        let [at_first, most] = ["first", "most"].map(|key| leak["sockets"][key].as_u64().expect("a count"));
        assert!(at_first < most / 2 && leak["sockets"]["most"] == leak["sockets"]["last"], "{leak}");
        // Every finding of the course is told with what to do, and in one incident.
        let ids = |list: &Json| -> BTreeSet<String> {
            list.as_array().expect("a list").iter().map(|f| f["id"].as_str().expect("an id").to_owned()).collect()
        };
        assert_eq!(ids(&found["findings"]), ids(&course["findings"]));
        // A part of it has not what came later.
        let early = ["doctor", "--from", &kept(), "--until", "26s", "--json"];
        let early = document(&finish(&mut product::with(ns, &early)));
        assert!(!ids(&early["course"]["findings"]).contains("close-wait-leak/python3"), "{}", early["course"]);
        let text = finish(product::with(ns, &["doctor", "--from", &kept(), "--since", "1h"]).env("COLUMNS", "80"));
        let text = String::from_utf8(text.stdout).expect("text");
        for part in ["web3, 2026-", "30 snapshots, 16 looks", "FROM", "  seen      since ", "at first, "] {
            assert!(text.contains(part), "{part}: {text}");
        }
    });
}

#[test]
fn a_replay_finds_the_same_as_the_doctor_and_a_trace_the_same_changes() {
    in_netns(|ns| {
        let watch = lines(ns, &["watch", "--from", &kept(), "--json"]);
        let schema = validator(Some("watch"));
        for line in &watch {
            assert_valid(&schema, line, "watch --from");
        }
        let of = |kind: &str| watch.iter().filter(|line| line["type"] == kind).cloned().collect::<Vec<_>>();
        let snapshots = of("snapshot");
        assert_eq!(
            (snapshots.len(), &snapshots[0]["host"], &snapshots[0]["source"]),
            (30, &"web3".into(), &"capture".into())
        );
        assert_eq!((&of("end")[0]["reason"], &of("end")[0]["samples"]), (&"end".into(), &30.into()));
        let findings: BTreeSet<String> =
            of("finding").iter().map(|f| f["rule"].as_str().expect("a rule").into()).collect();
        assert!(findings.contains("close-wait-leak") && findings.contains("connect-failures"), "{findings:?}");
        // Both count the same sockets that came to be half closed.
        let arrived = |line: &Json| line["type"] == "transition" && line["to"] == "close_wait";
        let watched = watch.iter().filter(|line| arrived(line)).count();
        let traced = lines(ns, &["trace", "--from", &kept(), "--json", "state", "close-wait"]);
        let schema = validator(Some("line"));
        for line in &traced {
            assert_valid(&schema, line, "trace --from");
        }
        let changes = traced.iter().filter(|line| line["type"] == "transition").count();
        let at_end = snapshots[29]["states"]["close_wait"].as_u64().expect("a count");
        assert_eq!((watched as u64, changes as u64), (at_end, at_end));
        let end = traced.last().expect("an end");
        assert_eq!((&end["type"], end["duration_ms"].as_u64().map(|ms| ms / 1000)), (&"end".into(), Some(28)));
        // Every fifth second of the last ten.
        let few =
            lines(ns, &["watch", "--from", &kept(), "--json", "--since", "10s", "--interval", "5s", "--no-findings"]);
        assert_eq!(few.iter().filter(|line| line["type"] == "snapshot").count(), 3);
    });
}

#[test]
fn what_is_found_live_is_found_in_the_recording() {
    in_netns(|ns| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.tcps.zst");
        let file = file.to_str().expect("a path");
        let record = product::with(ns, &["record", file, "--duration", "10s"]).spawn().expect("start record");
        let watch = product::with(ns, &["watch", "--json", "--count", "11"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("start watch");
        std::thread::sleep(std::time::Duration::from_millis(2500));
        let _kept =
            states::close_wait(ns, Ports::server(7900), 30, states::CloseWait::EofRead, states::PeerEnd::HalfClosed);
        let live = watch.wait_with_output().expect("watch");
        let output = record.wait_with_output().expect("record");
        assert!(output.status.success());
        let seen = |text: &str| -> Vec<(String, f64)> {
            let lines = text.lines().map(|line| serde_json::from_str::<Json>(line).expect("JSON"));
            let found = lines.filter(|line| line["type"] == "finding" && line["event"] == "seen");
            let mut seen: Vec<_> =
                found.map(|f| (f["id"].as_str().expect("an id").to_owned(), seconds(&f["first_seen"]))).collect();
            seen.sort_by(|a, b| a.0.cmp(&b.0));
            seen.dedup_by(|a, b| a.0 == b.0);
            seen
        };
        let live = seen(&String::from_utf8(live.stdout).expect("text"));
        let replay = finish(&mut product::with(ns, &["watch", "--from", file, "--json"]));
        let replay = seen(&String::from_utf8(replay.stdout).expect("text"));
        assert!(!live.is_empty(), "this proves nothing: {live:?}");
        let ids = |seen: &[(String, f64)]| seen.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&replay), ids(&live));
        for ((id, at), (_, live)) in replay.iter().zip(&live) {
            assert!((at - live).abs() <= 4.0, "{id}: {at} for {live}; the rules run each 3 s");
        }
    });
}

#[test]
fn what_no_recording_can_answer_is_refused() {
    in_netns(|ns| {
        let (kept, text) = (kept(), root().join("tests/it/record/ss-tan.txt"));
        let text = text.to_str().expect("a path");
        for (args, why) in [
            (&["trace", "--from", &kept, "--resets"][..], "how many resets"),
            (&["trace", "--from", &kept, "--via", "bpf"], "--via bpf needs the running system"),
            (&["trace", "--since", "5m"], "give --from FILE"),
            (&["watch", "--since", "5m"], "give --from FILE"),
            (&["watch", "--from", &kept, "--trace"], "needs the running system"),
            (&["doctor", "--from", &kept, "--since", "5s", "--once"], "leave out --once"),
            (&["doctor", "--from", &kept, "--since", "5s", "--until", "9s"], "before it"),
            (&["doctor", "--from", &kept, "--until", "2001-01-01T00:00:00Z"], "before the recording begins"),
            (&["doctor", "--from", text, "--since", "5m"], "is a single snapshot"),
        ] {
            let output = finish(&mut product::with(ns, args));
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{args:?}: {said}");
            assert!(said.contains(why), "{args:?}: {said}");
        }
    });
}
