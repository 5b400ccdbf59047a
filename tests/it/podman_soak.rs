//! Containers that restart, are renamed and removed, and lose their NAT rule, under all commands at once. Comes in: real
//! containers for 15 s, or for as long as `TCPSTATE_TESTS_SOAK_SECONDS` says. Goes out: no finding that is not true, and every
//! container that came in what `watch` and `trace` said. Never here: how fast that is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::container_follow::Background;
use crate::harness::podman::{NETWORK, Podman};
use crate::harness::{Netns, finish, in_netns, netns, skip, wait_for};
use crate::podman::{name, talk};
use crate::product;

/// `watch` looks for namespaces at the latest after 5 s, and a look over a busy host may take a while.
const SEEN_WITHIN: Duration = Duration::from_secs(8);
/// Names and owners are looked up again after 10 s each, and no more often than their cost allows.
const RENAME_SEEN_WITHIN: Duration = Duration::from_secs(30);
/// Ports of these containers, and of no others.
const PORTS: [&str; 3] = ["7085", "7086", "7087"];

/// One life of a container.
#[derive(Debug)]
struct Life {
    name: String,
    /// Its id, and names that it had before.
    others: Vec<String>,
    netns: u64,
    began: Instant,
    lasted: Option<Duration>,
}

/// What was done and seen.
struct Soak<'n> {
    ns: &'n Netns,
    podman: Podman<'n>,
    lives: Vec<Life>,
    /// The rules that spoke of ours at warning or above, and from where.
    harmful: BTreeSet<String>,
    /// The rule of a port was lost: who came meanwhile waits in the monitor's queue, also after it is there again.
    is_lost: bool,
    looks: BTreeMap<&'static str, u64>,
}

impl Soak<'_> {
    fn netns_of(&self, container: &str) -> u64 {
        let path = format!("/proc/{}/ns/net", self.podman.pid(container));
        std::fs::metadata(path).expect("the namespace of a container").ino()
    }

    fn came(&mut self, container: &str) {
        let netns = self.netns_of(container);
        let others = vec![self.podman.run(&["inspect", "-f", "{{.Id}}", container])];
        self.lives.push(Life { name: container.to_owned(), others, netns, began: Instant::now(), lasted: None });
    }

    /// Waits until the container has its listener.
    fn listens(&self, container: &str) {
        wait_for("its listener", || {
            let rows = product::json(self.ns, &["list", "-l", "--json", "-N", container]);
            if rows["total"] == 1 { Ok(()) } else { Err(rows["total"].to_string()) }
        });
    }

    fn ended(&mut self, container: &str) {
        let life = self.lives.iter_mut().rev().find(|life| life.name == container).expect("it came");
        life.lasted = Some(life.began.elapsed());
    }

    /// The number of a namespace that has ended is another's soon, so numbers say nothing of what was told before.
    fn is_ours(&self, from: &str, finding: &Value) -> bool {
        let (netns, container) = (finding["subject"]["netns"].as_u64(), finding["subject"]["container"].as_str());
        let is = |life: &Life| {
            let named = |name: &String| container == Some(name.as_str());
            let lives = from != "watch" && life.lasted.is_none();
            named(&life.name) || life.others.iter().any(named) || lives && Some(life.netns) == netns
        };
        netns == Some(self.ns.inode()) || self.lives.iter().any(is)
    }

    /// What harms and is ours, of the findings of a document or of a line.
    fn judge<'v>(&mut self, from: &'static str, findings: impl Iterator<Item = &'v Value>) {
        let ours: Vec<&Value> = findings.filter(|f| self.is_ours(from, f)).collect();
        for finding in ours {
            let harms =
                !matches!(finding["severity"].as_str(), Some("info")) || finding["rule"] == "half-open-mirror-missing";
            let is_true = self.is_lost && finding["hypotheses"][0]["cause"] == "nat-rule-gone";
            if harms && !is_true {
                self.harmful.insert(format!("{from}: {} {}", finding["severity"], finding["summary"]));
            }
        }
    }

    /// `doctor` and `list` once.
    fn look(&mut self) -> Value {
        let doctor = finish(product::with(self.ns, &["doctor", "--json"]).args(["--netns", "all", "--interval", "1s"]));
        let document = product::document(&doctor);
        self.judge("doctor", document["findings"].as_array().expect("findings").iter());
        *self.looks.entry("doctor").or_default() += 1;
        // Whoever runs at this moment is listed under its name.
        let list = product::json(self.ns, &["list", "-l", "--json", "--netns", "all"]);
        for life in self.lives.iter().filter(|life| life.lasted.is_none()) {
            let rows = list["sockets"].as_array().expect("rows");
            let own: Vec<&Value> = rows.iter().filter(|row| row["netns"].as_u64() == Some(life.netns)).collect();
            let named = own.iter().all(|row| row["owners"][0]["container"] == life.name.as_str());
            assert!(!own.is_empty() && named, "{life:?}: {own:#?}");
        }
        *self.looks.entry("list").or_default() += 1;
        document
    }
}

/// Talks through a published port until it is told to stop, and counts the answers.
fn chat(to: &str, stop: &AtomicBool, answers: &AtomicU64) {
    let mut client: Option<TcpStream> = None;
    while !stop.load(Ordering::Relaxed) {
        let mut byte = [0];
        let said = client.as_mut().is_some_and(|c| c.write_all(b"x").is_ok() && c.read_exact(&mut byte).is_ok());
        if said {
            answers.fetch_add(1, Ordering::Relaxed);
        } else {
            client = talk(to).ok();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn containers_that_restart_move_and_end_are_followed_by_all_commands_at_once() {
    if !netns::is_real_root() {
        return skip("only root runs containers with networks");
    }
    let _following = netns::following_all();
    in_netns(|ns| {
        let podman = match Podman::new(ns) {
            Ok(podman) => podman,
            Err(why) => return skip(&why),
        };
        let wanted = std::env::var("TCPSTATE_TESTS_SOAK_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(15);
        let time = Duration::from_secs(wanted);
        let mut soak =
            Soak { ns, podman, lives: Vec::new(), harmful: BTreeSet::new(), is_lost: false, looks: BTreeMap::new() };
        let mut shop = name("shop");
        let published = ["--network", NETWORK, "-p", "127.0.0.1:9010:7085", "-p", "9011:7085"];
        let started = soak.podman.start(&[&["--name", &shop], &published[..]].concat(), &["echo", "7085"]);
        started.unwrap_or_else(|why| panic!("{why}"));
        soak.came(&shop);
        wait_for("answers", || Ok((talk("127.0.0.1:9010")?, talk("127.0.0.1:9011")?)));
        let watch = ["watch", "--json", "-i", "500ms", "--netns", "all", "--by", "container", "--top", "1000"];
        let watch = Background::start(ns, &watch);
        let ports = PORTS.map(|port| format!("sport = :{port}")).join(" or ");
        let trace = Background::start(ns, &["trace", "--json", "--netns", "all", &ports]);
        watch.wait_for("the first sample", |line| line["type"] == "snapshot");
        trace.wait_for("the header", |line| line["type"] == "header");
        let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| chat("127.0.0.1:9010", &stop, &answers));
            scope.spawn(|| chat("127.0.0.1:9011", &stop, &answers));
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| live(&mut soak, &mut shop, time)));
            stop.store(true, Ordering::Relaxed);
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        assert!(answers.load(Ordering::Relaxed) > 20, "the published ports answered");
        nothing_is_lost(&mut soak, &watch, &trace);
        if time >= RENAME_SEEN_WITHIN * 2 {
            let lines = watch.lines();
            let last = lines.iter().rev().find(|line| line["type"] == "snapshot").expect("a sample").to_string();
            assert!(last.contains(&shop), "{shop}: {last}");
        }
        assert!(soak.harmful.is_empty(), "{:#?}", soak.harmful);
        println!(
            "{} lives, {} answers, {:?} looks, {} lines of watch, {} of trace",
            soak.lives.len(),
            answers.load(Ordering::Relaxed),
            soak.looks,
            watch.lines().len(),
            trace.lines().len()
        );
    });
}

/// Restarts, removals, a rename, and once a lost NAT rule, until the time is over.
fn live(soak: &mut Soak<'_>, shop: &mut String, time: Duration) {
    let start = Instant::now();
    let crashing = name("crashing");
    let options = ["--name", &crashing, "--network", NETWORK];
    soak.podman.start(&options, &["echo", "7086"]).unwrap_or_else(|why| panic!("{why}"));
    soak.came(&crashing);
    soak.listens(&crashing);
    let mut round = 0;
    while start.elapsed() < time {
        round += 1;
        let brief = name("brief");
        let options = ["--name", &brief, "--network", NETWORK];
        soak.podman.start(&options, &["echo", "7087"]).unwrap_or_else(|why| panic!("{why}"));
        soak.came(&brief);
        soak.listens(&brief);
        soak.look();
        soak.ended(&brief);
        soak.podman.run(&["rm", "-f", "-t", "0", &brief]);
        // Half of the time is left for a watch to see the last name.
        if start.elapsed() < time / 2 {
            let renamed = name("renamed");
            soak.podman.run(&["rename", shop, &renamed]);
            for life in soak.lives.iter_mut().filter(|life| life.name == *shop) {
                life.others.push(std::mem::replace(&mut life.name, renamed.clone()));
            }
            *shop = renamed;
        }
        if !soak.is_lost {
            lose_the_rule(soak, shop);
        }
        soak.ended(&crashing);
        soak.podman.run(&["restart", "-t", "0", &crashing]);
        soak.came(&crashing);
        if round % 3 == 1 {
            // Long enough for a watch to find it.
            std::thread::sleep(SEEN_WITHIN.min(time / 2));
        }
        soak.listens(&crashing);
        soak.look();
    }
}

/// A firewall is loaded again: a client waits in the monitor's queue, and that is told. The cure lets new ones through; who came
/// meanwhile stays in the queue, as the finding says.
fn lose_the_rule(soak: &mut Soak<'_>, shop: &str) {
    soak.is_lost = true;
    let flushed = finish(soak.ns.command("iptables").args(["-t", "nat", "-F", "NETAVARK-HOSTPORT-DNAT"]));
    assert!(flushed.status.success(), "{flushed:?}");
    let waiting = TcpStream::connect("127.0.0.1:9011").expect("conmon's queue takes it");
    wait_for("the finding", || {
        let document = soak.look();
        let findings = document["findings"].as_array().expect("findings");
        let is = |f: &Value| f["rule"] == "accept-queue-stalled" && f["subject"]["container"] == shop;
        let found = findings.iter().find(|f| is(f)).ok_or("not yet")?;
        assert_eq!(found["hypotheses"][0]["cause"], "nat-rule-gone", "{found:#}");
        Ok(())
    });
    drop(waiting);
    soak.podman.run(&["network", "reload", shop]);
    wait_for("an answer", || talk("127.0.0.1:9011"));
    // Who came meanwhile gives up, and stays in a queue that nobody empties: no harm any more.
    wait_for("the end of the harm", || {
        let document = product::document(&finish(&mut product::with(soak.ns, &["doctor", "--json"])));
        let findings = document["findings"].as_array().expect("findings");
        let is = |f: &&Value| f["severity"] != "info" && f["hypotheses"][0]["cause"] == "nat-rule-gone";
        findings.iter().find(is).map_or(Ok(()), |f| Err(f.to_string()))
    });
}

/// Every life that lasted long enough is a group of `watch`, or in a gap that says what came; `trace` saw each listener, or says what it
/// lost. No finding of `watch` is false.
fn nothing_is_lost(soak: &mut Soak<'_>, watch: &Background, trace: &Background) {
    let lines = watch.lines();
    let findings = lines.iter().filter(|line| line["type"] == "finding");
    let told: Vec<Value> = findings.filter(|f| f["event"] != "gone").cloned().collect();
    // The lost rule is told while it lasts; its cause is in the line.
    soak.judge("watch", told.iter());
    let gaps: Vec<&str> =
        lines.iter().filter(|l| l["missing"] == "netns_before").filter_map(|l| l["what"].as_str()).collect();
    let groups: BTreeSet<&str> = lines
        .iter()
        .filter_map(|line| line["groups"]["rows"].as_array())
        .flatten()
        .filter_map(|row| row["group"].as_str())
        .collect();
    for life in &soak.lives {
        let number = life.netns.to_string();
        let is_told = gaps.iter().any(|gap| {
            gap.contains(&number)
                || life.others.iter().chain([&life.name]).any(|name| gap.contains(name.as_str()))
                || gap.contains(" more) ")
        });
        let lasted = life.lasted.unwrap_or_else(|| life.began.elapsed());
        let is_group = std::iter::once(&life.name).chain(&life.others).any(|name| groups.contains(name.as_str()));
        let is_seen = is_group || is_told;
        assert!(is_seen || lasted < SEEN_WITHIN, "watch lost {life:?} of {lasted:?}: {groups:?} {gaps:?}");
    }
    let lines = trace.lines();
    assert_eq!(lines.first().map(|head| &head["via"]), Some(&"bpf".into()), "no BPF here");
    let lost = lines.iter().any(|line| line["type"] == "gap" && line["missing"] == "traced_changes");
    for life in soak.lives.iter().skip(1) {
        let is = |line: &&Value| line["new"] == "listen" && line["netns"].as_u64() == Some(life.netns);
        let seen = lines.iter().find(is);
        assert!(seen.is_some() || lost, "trace lost {life:?}");
        let named = seen.is_none_or(|line| line["container_id"].is_string());
        assert!(named, "{life:?}: {seen:?}");
    }
}
