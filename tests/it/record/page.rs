//! What is handed over: the page on a recording, its rows as tables, and what a support bundle has.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value as Json;

use super::stretch::kept;
use crate::harness::{Netns, finish, in_netns};
use crate::product::{self, document};
use crate::tidy::root;

fn output(ns: &Netns, args: &[&str]) -> String {
    let output = finish(&mut product::with(ns, args));
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_page_tells_what_the_doctor_tells() {
    in_netns(|ns| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("incident.html");
        let path = path.to_str().expect("a path");
        assert_eq!(output(ns, &["report", &kept(), "-o", path]), "");
        let (html, markdown) = (std::fs::read_to_string(path).expect("the page"), output(ns, &["report", &kept()]));
        let found =
            document(&finish(&mut product::with(ns, &["doctor", "--from", &kept(), "--since", "1h", "--json"])));
        let findings = found["findings"].as_array().expect("findings");
        assert!(findings.len() > 2);
        for finding in findings {
            let escaped = finding["summary"].as_str().expect("a summary").replace('\'', "&#39;");
            assert!(html.contains(&escaped), "{escaped}");
            // Of findings that follow from another one the page has the sentence alone.
            let first =
                finding["summary"].as_str().expect("a summary").split(' ').take(3).collect::<Vec<_>>().join(" ");
            assert!(markdown.contains(&first.replace('_', "\\_")), "{first}: {markdown}");
        }
        // States and rates as curves; every socket of the last snapshot in the table.
        assert!(html.matches("<svg").count() >= 4 && html.contains("<h2>Sockets by state</h2>"));
        let list = document(&finish(&mut product::with(ns, &["list", "--from", &kept(), "--json"])));
        let rows = html.matches("<tr><td>").count();
        assert!(rows as u64 >= list["total"].as_u64().expect("a count"), "{rows}");
        assert!(markdown.contains("| CLOSE_WAIT | 0 |") && markdown.contains("python3(7)"), "{markdown}");
        // A part of it, and what cannot be.
        let early = output(ns, &["report", &kept(), "--until", "26s"]);
        assert!(!early.contains("CLOSE_WAIT") && early.contains("LISTEN"), "{early}");
        for (args, why) in [
            (&["report", "/dev/null"][..], "neither a capture"),
            (&["report", &kept(), "-o", "/proc/nowhere.html"], "cannot write"),
        ] {
            let output = finish(&mut product::with(ns, args));
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{args:?}: {said}");
            assert!(said.contains(why), "{said}");
        }
    });
}

#[test]
fn rows_count_as_the_summary_does_at_every_instant() {
    in_netns(|ns| {
        let mut by_time: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for line in output(ns, &["convert", &kept(), "--to", "jsonl"]).lines() {
            let row: Json = serde_json::from_str(line).expect("JSON");
            assert_eq!(row["host"], "web3");
            let of = |key: &str| row[key].as_str().expect("text").to_owned();
            *by_time.entry(of("taken_at")).or_default().entry(of("state")).or_default() += 1;
        }
        assert_eq!(by_time.len(), 30);
        for at in [0, 14, 29] {
            let (time, states) = by_time.iter().nth(at).expect("a time");
            let summary =
                document(&finish(&mut product::with(ns, &["summary", "--from", &kept(), "--at", time, "--json"])));
            let summed = summary["states"].as_object().expect("states").iter();
            let summed: BTreeMap<String, u64> =
                summed.filter_map(|(state, n)| Some((state.clone(), n.as_u64().filter(|n| *n > 0)?))).collect();
            assert_eq!(states, &summed, "{time}");
        }
        // CSV has the same rows, in folders by host and day; what is there is not written over.
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_str().expect("a path");
        let args = ["convert", &kept(), "--to", "csv", "-o", path, "--since", "5s", "state", "listen"];
        assert_eq!(output(ns, &args), "");
        let day = by_time.keys().next().expect("a time").split('T').next().expect("a day").to_owned();
        let file = folder.path().join(format!("host=web3/date={day}/format-1.csv"));
        let text = std::fs::read_to_string(&file).expect("the rows");
        let head = text.lines().next().expect("a head");
        assert!(head.starts_with("taken_at,host,state,"), "{head}");
        assert!(text.lines().skip(1).all(|line| line.contains(",web3,listen,")), "{text}");
        assert_eq!(text.lines().count(), 1 + 2 * 6);
        assert_eq!(file.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
        let again = finish(&mut product::with(ns, &args));
        let said = String::from_utf8_lossy(&again.stderr);
        assert!(again.status.code() == Some(2) && said.contains("cannot create"), "{said}");
    });
}

#[test]
fn a_support_bundle_is_read_by_what_tells_most() {
    in_netns(|ns| {
        let folder = tempfile::tempdir().expect("a folder");
        let bundle = folder.path().join("sosreport-web3");
        let networking = bundle.join("sos_commands/networking");
        std::fs::create_dir_all(&networking).expect("a folder");
        for (from, to) in [("netstat-tan", "netstat_-W_-neopa"), ("ss-tanpioem", "ss_-peaonmi")] {
            let text = root().join(format!("tests/it/record/{from}.txt"));
            std::fs::copy(text, networking.join(to)).expect("copy");
        }
        std::fs::write(bundle.join("hostname"), "web3\n").expect("write");
        let path = folder.path().to_str().expect("a path");
        let found = finish(&mut product::with(ns, &["list", "--from", path, "--json"]));
        let list = document(&found);
        assert_eq!((&list["host"], &list["source"], &list["total"]), (&"web3".into(), &"text".into(), &13.into()));
        let told = finish(&mut product::with(ns, &["summary", "--from", path]));
        assert!(String::from_utf8_lossy(&told.stderr).contains("ss_-peaonmi"), "which file it was");
        // With neither a recording nor such a file there is nothing to read.
        std::fs::remove_dir_all(&networking).expect("remove");
        let none = finish(&mut product::with(ns, &["list", "--from", path]));
        assert_eq!(none.status.code(), Some(2), "{}", String::from_utf8_lossy(&none.stderr));
    });
}
