//! Recordings of real sockets. Comes in: states of the factory, series of snapshots, the program. Goes out: whether what is
//! read is what was seen. Never here: the format, byte by byte.

use std::io::Cursor;

use serde_json::Value as Json;
use tcpstate::capture::{Capture, Recorded, Writer};
use tcpstate::collect::proc::ProcRoot;
use tcpstate::collect::{Live, SourceChoice};
use tcpstate::diagnose::{self, Diagnosis, Thresholds, View};
use tcpstate::model::{Snapshot, Socket};

use crate::harness::{Netns, finish, in_netns};
use crate::product::{self, document};
use crate::states::{self, Ports};

/// Files that end anywhere, have flipped bits, or found no room.
mod damage;
/// What ss, netstat, lsof and the kernel print, saved.
mod foreign;
/// Every command over every kept capture.
mod golden;
/// Captures of several hosts.
mod hosts;
/// Pages, tables and support bundles.
mod page;
/// Parts of a recording, played and judged.
mod stretch;

fn live(ns: &Netns) -> Live {
    ns.run(|| Live::open(SourceChoice::Netlink, ProcRoot::default()).expect("open the kernel's tables"))
}

/// A snapshot with what the rules say of it, as the doctor and the recorder take it.
fn judged(ns: &Netns, live: &mut Live, before: Option<&Snapshot>) -> (Snapshot, Diagnosis) {
    ns.run(|| {
        let mut now = live.snapshot(true).expect("a snapshot");
        let diagnosis = live.diagnose(&mut now, before, None, &Thresholds::default());
        (now, diagnosis)
    })
}

/// The bytes of a series, with an index or without.
pub(crate) fn written(series: &[Snapshot], with_index: bool) -> Vec<u8> {
    let (mut writer, mut bytes, names) = (Writer::default(), Vec::new(), Recorded::default().names);
    for snapshot in series {
        bytes.extend(writer.snapshot(snapshot, &names).expect("compress"));
        writer.written();
    }
    if with_index {
        bytes.extend(writer.index().expect("compress"));
    }
    bytes
}

/// A few snapshots of a namespace with a leak, between which connections come and go.
pub(crate) fn series(ns: &Netns, snapshots: usize) -> Vec<Snapshot> {
    let _kept = states::close_wait(ns, Ports::server(7100), 2, states::CloseWait::EofRead, states::PeerEnd::HalfClosed);
    let mut live = live(ns);
    let mut series = Vec::new();
    for n in 0..snapshots {
        let held = states::established(ns, Ports::server(7200 + u16::try_from(n).unwrap()), 1);
        series.push(ns.run(|| live.snapshot(true).expect("a snapshot")));
        drop(held);
    }
    series
}

/// A row without its ages, and its ages.
fn apart(socket: &Socket) -> (String, Vec<u64>) {
    let mut row = socket.clone();
    let mut ages = Vec::new();
    if let Some(timer) = &mut row.timer {
        ages.push(u64::from(std::mem::take(&mut timer.remaining_ms)));
    }
    if let Some(info) = &mut row.info {
        for field in ["last_data_sent_ms", "last_data_recv_ms", "last_ack_recv_ms"] {
            let mut age = None;
            info.for_each(|name, value| age = if name == field { value } else { age });
            ages.extend(age);
            info.set(field, 0);
        }
    }
    (format!("{row:?}"), ages)
}

fn sorted(snapshot: &Snapshot) -> Vec<(String, Vec<u64>)> {
    let mut rows: Vec<_> = snapshot.sockets.iter().map(apart).collect();
    rows.sort();
    rows
}

/// Everything that is no row.
fn facts(snapshot: &Snapshot) -> String {
    let mut snapshot = snapshot.clone();
    snapshot.sockets.clear();
    // Both know whose rights they show, and one that it is a recording.
    snapshot.looker.is_recorded = true;
    for process in snapshot.processes.values_mut() {
        // Within the tolerance of an age.
        process.running_ms = process.running_ms.map(|_| 0);
    }
    format!("{snapshot:#?}")
}

#[track_caller]
fn same(read: &Snapshot, seen: &Snapshot, tolerance_ms: u64) {
    similar_text(&facts(read), &facts(seen));
    let (read, seen) = (sorted(read), sorted(seen));
    assert_eq!(read.len(), seen.len());
    for (read, seen) in read.iter().zip(&seen) {
        assert_eq!(read.0, seen.0);
        let near = |(a, b): (&u64, &u64)| a.abs_diff(*b) <= tolerance_ms;
        assert!(read.1.iter().zip(&seen.1).all(near), "{:?} for {:?}: {}", read.1, seen.1, read.0);
    }
}

#[track_caller]
fn similar_text(read: &str, seen: &str) {
    for (at, (read, seen)) in read.lines().zip(seen.lines()).enumerate() {
        assert_eq!(read, seen, "line {at}");
    }
    assert_eq!(read.len(), seen.len());
}

#[test]
fn what_is_read_is_what_was_seen_and_the_rules_say_the_same() {
    in_netns(|ns| {
        let kept = states::all_states(ns);
        let mut live = live(ns);
        let (first, of_first) = judged(ns, &mut live, None);
        drop(kept);
        let _more = states::established(ns, Ports::server(7300), 20);
        let (second, of_second) = judged(ns, &mut live, Some(&first));
        assert!(!of_first.findings.is_empty() && first.sockets.len() > 20, "this proves nothing: {of_first:#?}");
        for with_index in [true, false] {
            let bytes = written(&[first.clone(), second.clone()], with_index);
            let mut capture = Capture::open(Cursor::new(&bytes)).expect("a capture");
            assert_eq!(capture.entries().len(), 2);
            assert!(capture.entries()[0].key && !capture.entries()[1].key);
            assert_eq!(capture.damage(), []);
            let read = |capture: &mut Capture<_>, place| -> Recorded { capture.read(place).expect("a snapshot") };
            let after = read(&mut capture, 1).snapshot;
            let before = read(&mut capture, 0).snapshot;
            same(&before, &first, 0);
            same(&after, &second, 60);
            let thresholds = Thresholds::default();
            let said = diagnose::run(&View::new(&before, None, &thresholds), None);
            assert_eq!(said.findings, of_first.findings);
            assert_eq!(said.incidents, of_first.incidents);
            let said = diagnose::run(&View::new(&after, Some(&before), &thresholds), None);
            let ids = |d: &Diagnosis| d.findings.iter().map(|f| f.id.clone()).collect::<Vec<_>>();
            assert_eq!(ids(&said), ids(&of_second));
        }
    });
}

#[test]
fn every_reading_command_reads_a_recording() {
    in_netns(|ns| {
        let _kept = states::all_states(ns);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.tcps.zst");
        let file = file.to_str().expect("a path");
        let output = finish(&mut product::with(ns, &["record", file, "--interval", "200ms", "--duration", "2s"]));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("tcpstate: recorded "), "{said}");
        let first = said.lines().next().unwrap_or_default();
        assert_eq!(first, format!("tcpstate: recording a snapshot each 0.2 s to {file}, for 2.0 s"), "{said}");
        let json = |args: &[&str]| {
            let output = finish(&mut product::with(ns, args));
            document(&output)
        };
        let list = json(&["list", "--from", file, "--json"]);
        assert_eq!(list["source"], "capture");
        let rows = |document: &Json| {
            let row = |s: &Json| {
                (s["state"].to_string(), s["local"].to_string(), s["inode"].to_string(), s["owners"].to_string())
            };
            let mut rows: Vec<_> = document["sockets"].as_array().expect("sockets").iter().map(row).collect();
            // What vanishes by itself, and the recorder's own.
            rows.retain(|(state, ..)| state != "\"time_wait\"" && state != "\"syn_recv\"");
            rows.sort();
            rows
        };
        // A child of a parallel test holds our sockets too, until it executes its program: in the recording, or beside it.
        let again = || {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("b.tcps.zst");
            let file = file.to_str().expect("a path");
            let output = finish(&mut product::with(ns, &["record", file, "--duration", "1ms"]));
            assert!(output.status.success(), "{output:?}");
            rows(&json(&["list", "--from", file, "--json"]))
        };
        let mut recorded = rows(&list);
        let is_live = |recorded: &Vec<_>| rows(&json(&["list", "--json"])) == *recorded;
        let is_equal = (0..10).any(|_| {
            let equal = is_live(&recorded);
            if !equal {
                recorded = again();
            }
            equal
        });
        assert!(is_equal, "recorded {recorded:#?}, live {:#?}", rows(&json(&["list", "--json"])));
        let summary = json(&["summary", "--from", file, "--json"]);
        assert_eq!(summary["total"], list["total"]);
        let established = json(&["list", "--from", file, "--json", "state", "established"]);
        assert_eq!(summary["states"]["established"], established["total"]);
        let doctor = json(&["doctor", "--from", file, "--json"]);
        assert_eq!(doctor["sockets"], list["total"]);
        assert!(doctor["interval_ms"].as_u64().is_some_and(|ms| ms > 0), "{}", doctor["interval_ms"]);
        let ids = |document: &Json| {
            let ids = document["findings"].as_array().expect("findings").iter().map(|f| f["id"].to_string());
            ids.collect::<std::collections::BTreeSet<_>>()
        };
        assert!(!ids(&doctor).is_empty());
        let machine = json(&["explain", "machine", "--from", file, "--json"]);
        assert_eq!(machine["states"], summary["states"]);
        let again = json(&["list", "--from", file, "--json", "--at", list["taken_at"].as_str().expect("a time")]);
        assert_eq!(again, list);
        let before = json(&["list", "--from", file, "--json", "--at", "-1ms"]);
        assert!(before["taken_at"].as_str() < list["taken_at"].as_str(), "{}", before["taken_at"]);
        for args in [
            &["kill", "--from", file, "state", "listen"][..],
            &["record", "b", "--from", file],
            &["explain", "bind", "80", "--from", file],
            &["summary", "--interval", "1s", "--from", file],
            &["list", "--from", "/dev/null"],
            &["list", "--from", file, "--at", "2001-01-01T00:00:00Z"],
            &["list", "--from", file, "--netns", "nowhere"],
            &["record", file],
        ] {
            let output = finish(&mut product::with(ns, args));
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{args:?}: {said}");
            assert!(output.stdout.is_empty(), "{args:?}");
        }
        for command in ["kill", "record"] {
            let help = finish(&mut product::with(ns, &[command, "--help"]));
            let help = String::from_utf8_lossy(&help.stdout);
            assert!(help.contains("--proc-root") && !help.contains("--from <") && !help.contains("--at <"), "{help}");
        }
    });
}

#[test]
fn a_difference_is_of_what_was_done_in_between() {
    in_netns(|ns| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.tcps.zst");
        let file = file.to_str().expect("a path");
        let _stays = states::established(ns, Ports::server(7800), 2);
        let leaves = states::listen(ns, Ports::server(7801), 5);
        let record = product::with(ns, &["record", file, "--duration", "100ms"]).output().expect("record");
        assert!(record.status.success(), "{}", String::from_utf8_lossy(&record.stderr));
        let same = finish(&mut product::with(ns, &["diff", file, file, "--json"]));
        let found = document(&same);
        assert_eq!((same.status.code(), &found["changed"]), (Some(0), &Json::Bool(false)), "{found}");
        drop(leaves);
        let _comes =
            states::close_wait(ns, Ports::server(7802), 3, states::CloseWait::EofRead, states::PeerEnd::HalfClosed);
        let output = finish(&mut product::with(ns, &["diff", file, "--json"]));
        let found = document(&output);
        crate::json::assert_valid(&crate::json::validator(Some("diff")), &found, "diff");
        assert_eq!((output.status.code(), &found["changed"]), (Some(1), &Json::Bool(true)), "{found}");
        let ports = |kind: &str, state: &str| {
            let of = found[kind].as_array().expect("a list").iter().filter(|s| s["state"] == state);
            of.map(|s| s["local"]["port"].as_u64().expect("a port")).collect::<Vec<_>>()
        };
        assert_eq!(ports("vanished", "listen"), [7801]);
        assert_eq!(ports("appeared", "listen"), [7802]);
        assert_eq!(ports("appeared", "close_wait"), [7802; 3]);
        assert_eq!(
            (&found["moves"], found["states"]["close_wait"]["after"].as_u64()),
            (&Json::Array(Vec::new()), Some(3))
        );
        let text = finish(&mut product::with(ns, &["diff", file]));
        let text = String::from_utf8_lossy(&text.stdout);
        assert!(text.contains("APPEARED") && text.contains("VANISHED 1") && text.contains("CLOSE_WAIT"), "{text}");
        let limited = document(&finish(&mut product::with(ns, &["diff", file, "--json", "--limit", "2"])));
        crate::json::assert_valid(&crate::json::validator(Some("diff")), &limited, "diff --limit");
        let appeared = found["appeared"].as_array().expect("a list").len();
        assert_eq!(limited["appeared"].as_array().map(Vec::len), Some(2));
        assert_eq!(limited["left_out"]["appeared"].as_u64(), Some(appeared as u64 - 2), "{limited}");
        let still = finish(&mut product::with(ns, &["diff", "--interval", "100ms"]));
        assert_eq!(still.status.code(), Some(0), "{}", String::from_utf8_lossy(&still.stdout));
    });
}

#[test]
fn a_flight_recorder_keeps_the_newest_files() {
    in_netns(|ns| {
        let folder = tempfile::tempdir().expect("a folder");
        let mine = folder.path().join("notes-20010101T000000Z.txt");
        std::fs::write(&mine, "not a capture").expect("a file");
        let path = folder.path().to_str().expect("a path");
        let args = ["record", path, "--interval", "100ms", "--duration", "2s", "--rotate", "300ms", "--keep", "64k"];
        let output = finish(&mut product::with(ns, &args));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let files: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").map(|e| e.unwrap().path()).collect();
        assert!(files.len() > 2 && mine.exists(), "{files:?}");
        let total: u64 = files.iter().map(|f| f.metadata().unwrap().len()).sum();
        assert!(total < 128 << 10, "{total} bytes in {files:?}");
        let list = finish(&mut product::with(ns, &["list", "--from", path, "--json"]));
        assert_eq!(document(&list)["source"], "capture");
    });
}

#[test]
fn a_filter_is_told_with_what_was_recorded() {
    in_netns(|ns| {
        let _kept = states::established(ns, Ports::server(7400), 3);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.tcps.zst");
        let file = file.to_str().expect("a path");
        let args = ["record", file, "--duration", "100ms", "state", "listen"];
        assert!(finish(&mut product::with(ns, &args)).status.success());
        let list = document(&finish(&mut product::with(ns, &["list", "--from", file, "--json"])));
        assert!(list["sockets"].as_array().unwrap().iter().all(|s| s["state"] == "listen"), "{list}");
        let gaps = list["gaps"].to_string();
        assert!(gaps.contains("only what matches `state listen` was recorded"), "{gaps}");
    });
}
