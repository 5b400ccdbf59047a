//! Captures of several hosts. Comes in: the same sockets, recorded as those of different hosts. Goes out: whether every command says
//! whose they are, and mixes no two.

use std::path::Path;

use serde_json::Value as Json;
use tcpstate::model::Snapshot;

use super::{series, written};
use crate::harness::{Netns, finish, in_netns};
use crate::json::{assert_valid, validator};
use crate::product::{self, document};

/// A folder with a capture of `web1`, and one of `web2` in a folder of its own, which has a process of another name and fewer
/// sockets. Returns what the last snapshots have.
fn two_hosts(ns: &Netns, folder: &Path) -> (Snapshot, Snapshot) {
    let of = |host: &str, series: &[Snapshot], comm: Option<&str>| -> Vec<Snapshot> {
        let renamed = series.iter().cloned().map(|mut snapshot| {
            snapshot.host = host.into();
            if let Some(comm) = comm {
                snapshot.owners.processes.iter_mut().for_each(|process| process.comm = comm.into());
                snapshot.sockets.truncate(2);
            }
            snapshot
        });
        renamed.collect()
    };
    let all = series(ns, 3);
    let (first, second) = (of("web1", &all, None), of("web2", &all, Some("other")));
    assert!(first[2].sockets.len() > second[2].sockets.len() && !first[2].owners.processes.is_empty());
    // The first host has begun another file.
    std::fs::write(folder.join("a.tcps.zst"), written(&first[..1], true)).expect("a file");
    std::fs::write(folder.join("b.tcps.zst"), written(&first[1..], false)).expect("a file");
    std::fs::create_dir(folder.join("web2")).expect("a folder");
    std::fs::write(folder.join("web2/a.tcps.zst"), written(&second, true)).expect("a file");
    (first[2].clone(), second[2].clone())
}

fn json(ns: &Netns, args: &[&str]) -> Json {
    let output = finish(&mut product::with(ns, args));
    assert!(matches!(output.status.code(), Some(0 | 1)), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    document(&output)
}

fn text(ns: &Netns, args: &[&str]) -> String {
    let output = finish(&mut product::with(ns, args));
    assert!(matches!(output.status.code(), Some(0 | 1)), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// How many entries of a list are of a host.
fn of_host(list: &Json, host: &str) -> usize {
    list.as_array().expect("a list").iter().filter(|entry| entry["host"] == host).count()
}

#[test]
fn rows_and_groups_name_their_host_and_have_its_processes() {
    in_netns(|ns| {
        let folder = tempfile::tempdir().expect("a folder");
        let (web1, web2) = two_hosts(ns, folder.path());
        let from = folder.path().to_str().expect("a path");
        let list = json(ns, &["list", "--from", from, "--json"]);
        assert_valid(&validator(Some("list")), &list, "list");
        assert!(list["host"].is_null() && list["hosts"].as_array().expect("hosts").len() == 2, "{list:#}");
        let rows = list["sockets"].as_array().expect("rows");
        assert_eq!(of_host(&list["sockets"], "web1"), web1.sockets.len());
        assert_eq!(of_host(&list["sockets"], "web2"), web2.sockets.len());
        let mut held = 0;
        for row in rows {
            for owner in row["owners"].as_array().expect("owners") {
                held += 1;
                assert_eq!(owner["comm"] == "other", row["host"] == "web2", "{row:#}");
            }
        }
        assert!(held > 0, "no row has an owner");
        // In a table the host comes first; sorting mixes the hosts, and a filter selects one.
        let table = text(ns, &["list", "--from", from, "--sort", "local", "-H"]);
        let hosts: Vec<&str> = table.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(hosts.len(), rows.len());
        assert!(hosts.windows(2).any(|two| two == ["web2", "web1"]), "{table}");
        let locals: Vec<u64> =
            json(ns, &["list", "--from", from, "--sort", "local", "-c", "host,local", "--json"])["sockets"]
                .as_array()
                .expect("rows")
                .iter()
                .filter_map(|row| row["local"]["port"].as_u64())
                .collect();
        assert!(locals.is_sorted() && locals.len() == rows.len(), "{locals:?}");
        let one = text(ns, &["list", "--from", from, "-c", "host", "-H", "host", "=", "web2"]);
        assert_eq!(one.lines().map(str::trim).collect::<Vec<_>>(), vec!["web2"; web2.sockets.len()]);
        // Groups.
        let by = json(ns, &["summary", "--from", from, "--by", "host,state", "--top", "100", "--json"]);
        assert_valid(&validator(Some("summary")), &by, "summary --by");
        for (host, snapshot) in [("web1", &web1), ("web2", &web2)] {
            let groups = by["groups"]["by"]["rows"].as_array().expect("groups");
            for group in groups.iter().filter(|group| group["host"] == host) {
                let state = group["state"].as_str().expect("a state");
                let seen = snapshot.sockets.iter().filter(|socket| socket.state.key() == state).count();
                assert_eq!(group["total"], seen, "{group:#}");
            }
            let sum: u64 = groups.iter().filter(|g| g["host"] == host).filter_map(|g| g["total"].as_u64()).sum();
            assert_eq!(sum, snapshot.sockets.len() as u64);
        }
        // A process is of a host, though nobody asked for it; a state is not.
        let by = json(ns, &["summary", "--from", from, "--by", "process", "--json"]);
        assert_eq!(by["groups"]["by"]["keys"], serde_json::json!(["host", "process"]));
        for group in by["groups"]["by"]["rows"].as_array().expect("groups") {
            let comm = group["process"]["comm"].as_str();
            assert!(comm.is_none_or(|comm| (comm == "other") == (group["host"] == "web2")), "{group:#}");
        }
        let by = json(ns, &["summary", "--from", from, "--by", "state", "--json"]);
        assert_eq!(by["groups"]["by"]["keys"], serde_json::json!(["state"]));
        let whole = json(ns, &["summary", "--from", from, "--json"]);
        assert_valid(&validator(Some("summary")), &whole, "summary");
        assert_eq!(whole["total"], web1.sockets.len() + web2.sockets.len());
        assert_eq!(whole["groups"]["hosts"].as_array().expect("hosts").len(), 2);
        let screen = text(ns, &["summary", "--from", from]);
        assert!(screen.contains("on 2 hosts") && screen.contains("HOSTS") && screen.contains("web2"), "{screen}");
    });
}

#[test]
fn the_doctor_and_the_difference_tell_each_host_apart() {
    in_netns(|ns| {
        let folder = tempfile::tempdir().expect("a folder");
        let (web1, web2) = two_hosts(ns, folder.path());
        let from = folder.path().to_str().expect("a path");
        let ids = |found: &Json, host: Option<&str>| -> Vec<String> {
            let findings = found["findings"].as_array().expect("findings").iter();
            let wanted = findings.filter(|finding| host.is_none_or(|host| finding["host"] == host));
            wanted.map(|finding| finding["id"].as_str().expect("an id").to_owned()).collect()
        };
        for more in [&[][..], &["--since", "1h"]] {
            let mut words = vec!["doctor", "--from", from, "--json"];
            words.extend(more);
            let all = json(ns, &words);
            assert_valid(&validator(Some("doctor")), &all, "doctor");
            assert_eq!(all["hosts"].as_array().expect("hosts").len(), 2);
            let mut found = 0;
            for host in ["web1", "web2"] {
                let mut words = words.clone();
                words.extend(["--host", host]);
                let one = json(ns, &words);
                assert_eq!(one["host"], host);
                assert_eq!(ids(&all, Some(host)), ids(&one, None), "{host}");
                found += ids(&one, None).len();
            }
            assert_eq!(ids(&all, None).len(), found);
            assert!(found > 0, "this proves nothing: {all:#}");
        }
        let report = text(ns, &["doctor", "--from", from]);
        assert!(report.starts_with("web1\n") && report.contains("\nweb2\n"), "{report}");
        // What is to be typed next reads the same host.
        assert!(report.contains("--host web1"), "{report}");
        // Each host is compared with itself.
        let before = format!("{from}@-1ms");
        let difference = json(ns, &["diff", &before, from, "--json"]);
        assert_valid(&validator(Some("diff")), &difference, "diff");
        assert_eq!(difference["after"]["total"], web1.sockets.len() + web2.sockets.len());
        assert_eq!(difference["changed"], true);
        let came = ["web1", "web2"].map(|host| of_host(&difference["appeared"], host));
        assert_eq!(came[0] + came[1], difference["appeared"].as_array().expect("a list").len());
        assert!(came[0] > 0, "this proves nothing: {difference:#}");
        // What reads one host says so.
        for command in [&["watch", "--count", "1"][..], &["trace", "--via", "poll"], &["explain", "machine"]] {
            let mut words = command.to_vec();
            words.extend(["--from", from]);
            let output = finish(&mut product::with(ns, &words));
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains("2 hosts (web1, web2)") && said.contains("--host NAME"), "{said}");
        }
        let machine = json(ns, &["explain", "machine", "--from", from, "--host", "web2", "--json"]);
        assert_eq!(machine["host"], "web2");
        let output = finish(&mut product::with(ns, &["list", "--from", from, "--host", "db*"]));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("--host db*: the captures are of web1, web2"), "{said}");
        // Rows as files name the host once, and `--interval` is of each host: the first and the last snapshot of each are left.
        let rows = text(ns, &["convert", from, "--to", "csv", "--interval", "10s"]);
        let hosts = |name: &str| rows.lines().filter(|line| line.split(',').nth(1) == Some(name)).count();
        assert!(hosts("web2") == 4 && hosts("web1") > 4, "{rows}");
        assert_eq!(rows.lines().next().expect("a header").split(',').filter(|name| *name == "host").count(), 1);
    });
}

#[test]
fn a_folder_may_have_files_that_are_none_and_hosts_with_hostile_names() {
    in_netns(|ns| {
        let folder = tempfile::tempdir().expect("a folder");
        two_hosts(ns, folder.path());
        let mut hostile = series(ns, 1);
        for snapshot in &mut hostile {
            snapshot.host = "x\u{1b}]52;c;aGk=\u{7}".into();
        }
        std::fs::write(folder.path().join("c.tcps.zst"), written(&hostile, true)).expect("a file");
        // A recorder that has just begun, and what a copy as root may bring along: opening it would wait for a writer.
        std::fs::write(folder.path().join("d.tcps.zst"), b"").expect("a file");
        let fifo = folder.path().join("e.tcps.zst");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).expect("a pipe");
        let from = folder.path().to_str().expect("text");
        let hosts = json(ns, &["summary", "--from", from, "--by", "host", "--json"]);
        assert_eq!(hosts["hosts"].as_array().map(Vec::len), Some(3), "{hosts:#}");
        let several = finish(&mut product::with(ns, &["watch", "--from", from]));
        let said = String::from_utf8_lossy(&several.stderr);
        assert!(several.status.code() == Some(2) && said.contains("captures of 3 hosts"), "{said}");
        assert!(!said.contains('\u{1b}') && !said.contains('\u{7}'), "{said:?}");
    });
}
