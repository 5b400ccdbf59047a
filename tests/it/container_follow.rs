//! Containers that come, work and end while they are looked at. Comes in: cgroups and namespaces in the shape of podman's,
//! made after the program has started. Goes out: their rows and changes with the container, and what came and ended as
//! gaps. Never here: a runtime.

use std::fs::File;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::container_words::Container;
use crate::harness::helper::Helper;
use crate::harness::{Netns, PATIENCE, finish, in_netns, netns, skip};
use crate::product;

/// The program in the background, with its lines in a file.
pub struct Background {
    child: Child,
    lines: tempfile::NamedTempFile,
}

impl Background {
    pub fn start(ns: &Netns, args: &[&str]) -> Background {
        let lines = tempfile::NamedTempFile::new().expect("a file");
        let out = File::create(lines.path()).expect("open it");
        let child = product::with(ns, args).stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).spawn();
        Background { child: child.expect("start the program"), lines }
    }

    /// Whole JSON lines so far.
    pub fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.lines.path()).expect("read the lines");
        text.split_inclusive('\n').filter_map(|line| serde_json::from_str(line.strip_suffix('\n')?).ok()).collect()
    }

    /// A look over all namespaces of a busy host may take seconds, and is paced by what it takes.
    pub fn wait_for(&self, what: &str, is: impl Fn(&Value) -> bool) {
        let start = Instant::now();
        loop {
            let lines = self.lines();
            if lines.iter().any(&is) {
                return;
            }
            let gaps: Vec<&Value> = lines.iter().filter(|l| l["type"] == "gap").collect();
            assert!(start.elapsed() < PATIENCE * 3, "waited for {what}: {} lines, {gaps:?}", lines.len());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether that gap names the namespace, by its number or its container, or has more than it names: the other tests make
/// namespaces too.
fn is_gap(line: &Value, missing: &str, names: &[&str]) -> bool {
    let what = line["what"].as_str().unwrap_or_default();
    let may_have_it = names.iter().any(|name| what.contains(name)) || what.contains(" more) ");
    line["type"] == "gap" && line["missing"] == missing && may_have_it
}

#[test]
fn a_watch_and_a_poll_follow_a_container_that_starts_after_them() {
    if !netns::is_real_root() {
        return skip("only root makes cgroups");
    }
    let _following = netns::following_all();
    in_netns(|outside| {
        let watch = ["watch", "--json", "-i", "500ms", "--netns", "all", "--by", "container", "sport = :7311"];
        let watch = Background::start(outside, &[&watch[..], &["--no-findings", "--no-trace"]].concat());
        let poll = Background::start(outside, &["trace", "--json", "--via", "poll", "--netns", "all", "sport = :7311"]);
        watch.wait_for("the first sample", |line| line["type"] == "snapshot");
        poll.wait_for("the header", |line| line["type"] == "header");
        let mut container = match Container::empty(11) {
            Ok(container) => container,
            Err(why) => return skip(&why),
        };
        let id = container.id.clone();
        // It is found before its process is in the cgroup, or after.
        let number = format!("net:[{}]", container.ns.inode());
        let names = [id.as_str(), &number];
        // What a namespace has when it is found first is no change.
        for follower in [&watch, &poll] {
            follower.wait_for("the gap of what came", |line| is_gap(line, "netns_before", &names));
        }
        container.listen(7311);
        watch.wait_for("the group", |line| {
            let rows = line["groups"]["rows"].as_array();
            rows.is_some_and(|rows| rows.iter().any(|row| row["group"] == id.as_str()))
        });
        poll.wait_for("the listener", |line| {
            line["new"] == "listen"
                && line["netns"].as_u64() == Some(container.ns.inode())
                && line["container"] == id.as_str()
        });
        drop(container);
        watch.wait_for("the gap of what ended", |line| is_gap(line, "netns_after", &names));
        poll.wait_for("the gap of what ended", |line| is_gap(line, "netns_after", &names));
        let before = watch.lines().len();
        let start = Instant::now();
        let is_without = |line: &Value| line["type"] == "snapshot" && !line.to_string().contains(&id);
        while !watch.lines().iter().skip(before).any(is_without) {
            assert!(start.elapsed() < PATIENCE * 3, "waited for a sample without it");
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

#[test]
fn a_container_that_is_named_is_followed_over_its_restart() {
    if !netns::is_real_root() {
        return skip("only root makes cgroups");
    }
    in_netns(|outside| {
        let first = match Container::start(12, 7312) {
            Ok(container) => container,
            Err(why) => return skip(&why),
        };
        let id = first.id.clone();
        let args = ["watch", "--json", "-i", "200ms", "--container", &id[..12], "--no-findings", "--no-trace"];
        let watch = Background::start(outside, &args);
        watch.wait_for("its listener", |line| line["states"]["listen"] == 1);
        drop(first);
        watch.wait_for("its end", |line| is_gap(line, "netns_after", &[&id]));
        let again = Container::start(12, 7312).expect("the same container again");
        watch.wait_for("its new namespace", |line| is_gap(line, "netns_before", &[&id]));
        drop(again);
    });
}

#[test]
fn changes_carry_their_container_and_are_filtered_by_it() {
    if !netns::is_real_root() {
        return skip("only root makes cgroups and traces");
    }
    in_netns(|outside| {
        let mut container = match Container::start(13, 7313) {
            Ok(container) => container,
            Err(why) => return skip(&why),
        };
        let other = Netns::new();
        let mut noise = Helper::start(&other);
        // A few hundred a second: a ring that fills faster than a debug build reads is another test.
        container.helper.ask("beat 7317");
        noise.ask("beat 7314");
        let id = container.id.as_str();
        let filter = format!("container = {}", &id[..12]);
        for args in [
            ["trace", "--json", "--duration", "600ms", filter.as_str()].as_slice(),
            &["trace", "--json", "--duration", "600ms", "--container", id],
            &["trace", "--json", "--life", "--duration", "600ms", &filter],
            &["trace", "--json", "--resets", "--duration", "600ms", &filter],
        ] {
            let output = finish(&mut product::with(outside, args));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if lines.first().is_some_and(|head| head["via"] != "bpf") {
                return skip("no BPF here: another source does not carry the process and the namespace");
            }
            let shown: Vec<&Value> = lines.iter().filter(|line| line.get("container").is_some()).collect();
            assert!(!shown.is_empty(), "{args:?}: {text}");
            for line in shown {
                assert_eq!(
                    (&line["container_id"], &line["netns"]),
                    (&id.into(), &container.ns.inode().into()),
                    "{line}"
                );
            }
        }
        // In words there is a column, and a filter that nothing can match is refused.
        let output = finish(&mut product::with(outside, &["trace", "--duration", "300ms", &filter]));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let heading: Vec<&str> = text.lines().next().unwrap_or_default().split('\t').collect();
        let at = heading.iter().position(|name| *name == "CONTAINER").unwrap_or_else(|| panic!("{text}"));
        assert_eq!(text.lines().nth(1).and_then(|line| line.split('\t').nth(at)), Some(&id[..12]), "{text}");
        let output = finish(&mut product::with(outside, &["trace", "--duration", "1s", "recv-q > 5"]));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        container.helper.ask("calm");
        noise.ask("calm");
    });
}

#[test]
fn what_no_process_holds_belongs_to_the_only_container_of_its_namespace() {
    if !netns::is_real_root() {
        return skip("only root makes cgroups");
    }
    in_netns(|outside| {
        let mut container = match Container::start(14, 7315) {
            Ok(container) => container,
            Err(why) => return skip(&why),
        };
        container.helper.make("time_wait 7316 20 server");
        let of = |state: &str| {
            let path = container.ns.path().display().to_string();
            let args = ["list", "-H", "--format", "tsv", "-c", "container", "-N", &path, "-s", state];
            String::from_utf8_lossy(&finish(&mut product::with(outside, &args)).stdout).into_owned()
        };
        let remains = of("time-wait");
        assert!(remains.lines().count() >= 20 && remains.lines().all(|line| line == container.id), "{remains}");
        let args = ["summary", "--json", "--by", "container", "-N", &container.id];
        let groups = product::json(outside, &args);
        let rows = groups["groups"]["by"]["rows"].as_array().expect("rows");
        assert_eq!((rows.len(), &rows[0]["container"]), (1, &container.id.as_str().into()), "{groups:#}");
        // With a process of the host in the same namespace it may be either's.
        let guest = Helper::start(&container.ns);
        assert!(of("time-wait").lines().all(|line| line == "-"), "{}", of("time-wait"));
        drop(guest);
    });
}
