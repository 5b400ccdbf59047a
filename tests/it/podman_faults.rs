//! Faults inside real containers, told from the host. Comes in: containers of podman that leak, stall, do not read, run out of
//! ports, or call nobody. Goes out: findings with the right container, process and side, and the rows of their commands. Never
//! here: what is healthy ([`crate::podman`]).

use std::collections::BTreeMap;
use std::process::Output;

use serde_json::Value;

use crate::harness::podman::{NETWORK, Podman};
use crate::harness::{Netns, finish, in_netns, skip, wait_for};
use crate::podman::name;
use crate::product;

/// Containers with a fault each, all of one host.
struct Sick<'n> {
    podman: Podman<'n>,
    /// Name of each container by what it does.
    names: BTreeMap<&'static str, String>,
}

impl<'n> Sick<'n> {
    fn new(ns: &'n Netns) -> Result<Sick<'n>, String> {
        let mut sick = Sick { podman: Podman::new(ns)?, names: BTreeMap::new() };
        for (kind, words) in
            [("leak", ["leak", "80"]), ("stall", ["stall", "80"]), ("mute", ["mute", "80"]), ("deaf", ["echo", "80"])]
        {
            sick.start(kind, &[], &words)?;
        }
        // Whoever dials this one is not heard.
        let pid = sick.pid("deaf");
        let drop_all = ["-t", &pid, "-n", "iptables", "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP"];
        let dropping = finish(std::process::Command::new("nsenter").args(drop_all));
        if !dropping.status.success() {
            return Err(format!("no iptables in a container's namespace: {dropping:?}"));
        }
        let [leak, stall, mute, deaf] = ["leak", "stall", "mute", "deaf"].map(|kind| sick.address(kind));
        sick.start("closer", &[], &["close", &leak, "80", "40"])?;
        sick.start("caller", &[], &["hold", &stall, "80", "17"])?;
        sick.start("filler", &[], &["fill", &mute, "80", "3"])?;
        sick.start("dialer", &[], &["dial", &deaf, "80", "12"])?;
        let range = ["--sysctl", "net.ipv4.ip_local_port_range=40000 40063"];
        sick.start("ports", &range, &["hold", &leak, "80", "64"])?;
        Ok(sick)
    }

    fn start(&mut self, kind: &'static str, options: &[&str], words: &[&str]) -> Result<(), String> {
        let name = name(kind);
        self.podman.start(&[&["--name", &name, "--network", NETWORK], options].concat(), words)?;
        self.names.insert(kind, name);
        Ok(())
    }

    fn address(&self, kind: &str) -> String {
        self.podman.address(&self.names[kind])
    }

    fn pid(&self, kind: &str) -> String {
        self.podman.pid(&self.names[kind])
    }

    /// The options that name the namespaces of all of them.
    fn scope(&self) -> Vec<&str> {
        self.names.values().flat_map(|name| ["-N", name]).collect()
    }

    /// The doctor in the namespace of one of them.
    fn doctor_of(&self, ns: &Netns, kind: &str) -> Value {
        product::document(&finish(&mut product::with(ns, &["doctor", "--json", "-N", &self.names[kind]])))
    }

    fn doctor(&self, ns: &Netns, more: &[&str]) -> Value {
        let words = [&["doctor", "--json"], &self.scope()[..], more].concat();
        product::document(&finish(&mut product::with(ns, &words)))
    }
}

/// What one finding of a rule and a container must be.
struct Wanted {
    rule: &'static str,
    /// Whose finding it is, by kind.
    kind: &'static str,
    /// The container that has the rows, and how many.
    rows: (&'static str, usize),
    state: &'static str,
}

const WANTED: [Wanted; 7] = [
    Wanted { rule: "accept-queue-overflow", kind: "stall", rows: ("stall", 1), state: "listen" },
    Wanted { rule: "accept-queue-stalled", kind: "stall", rows: ("stall", 1), state: "listen" },
    Wanted { rule: "recv-queue-stuck", kind: "mute", rows: ("mute", 3), state: "established" },
    Wanted { rule: "zero-window-peer", kind: "filler", rows: ("filler", 3), state: "established" },
    Wanted { rule: "syn-sent-pileup", kind: "dialer", rows: ("dialer", 12), state: "syn_sent" },
    Wanted { rule: "ephemeral-port-exhaustion", kind: "ports", rows: ("ports", 64), state: "established" },
    // Who does not close is the subject; the rows are those of who has closed.
    Wanted { rule: "fin-wait2-orphan-pileup", kind: "leak", rows: ("closer", 40), state: "fin_wait2" },
];

/// The command of a finding, as it is written, through a shell on the host; as JSON.
fn pasted(ns: &Netns, finding: &Value) -> Output {
    let next = finding["next"].as_str().expect("a command");
    let words = next.strip_prefix("tcpstate ").unwrap_or_else(|| panic!("another program: {next}"));
    let mut shell = ns.command("sh");
    shell.args(["-c", &format!("exec \"$0\" {words} --json"), env!("CARGO_BIN_EXE_tcpstate")]);
    finish(&mut shell)
}

/// The container of the processes of a namespace, by its inode.
fn netns_of(sick: &Sick<'_>, kind: &str) -> u64 {
    let path = format!("/proc/{}/ns/net", sick.pid(kind));
    std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).expect("the namespace of a container"))
}

#[test]
fn faults_in_containers_are_told_with_their_container_and_the_commands_show_their_rows() {
    in_netns(|ns| {
        let sick = match Sick::new(ns) {
            Ok(sick) => sick,
            Err(why) => return skip(&why),
        };
        // By the names of the containers, and as everybody looks.
        for scope in [Vec::new(), vec!["--netns", "all"]] {
            let doctor = wait_for("all findings", || {
                let doctor = if scope.is_empty() {
                    sick.doctor(ns, &[])
                } else {
                    product::document(&finish(product::with(ns, &["doctor", "--json"]).args(&scope)))
                };
                let lacks: Vec<&str> =
                    WANTED.iter().filter(|w| find(&doctor, &sick, w).is_none()).map(|w| w.rule).collect();
                if lacks.is_empty() { Ok(doctor) } else { Err(format!("without {lacks:?}")) }
            });
            for wanted in &WANTED {
                check(ns, &sick, &doctor, wanted);
            }
            only_what_is_wrong(&sick, &doctor);
            incidents_stay_apart(&sick, &doctor);
        }
        what_the_sick_have_of_limits(ns, &sick);
        // The clients go, and who waited in the queue is left.
        sick.podman.run(&["rm", "-f", "-t", "0", &sick.names["caller"]]);
        let unaccepted = wait_for("a queue of those who gave up", || {
            let doctor = sick.doctor_of(ns, "stall");
            let findings = doctor["findings"].as_array().expect("findings").clone();
            findings.into_iter().find(|f| f["rule"] == "close-wait-unaccepted").ok_or_else(|| "none".to_owned())
        });
        assert_eq!(unaccepted["subject"]["container"], sick.names["stall"].as_str(), "{unaccepted:#}");
    });
}

/// The finding of a rule about a container of ours.
fn find<'d>(doctor: &'d Value, sick: &Sick<'_>, wanted: &Wanted) -> Option<&'d Value> {
    let findings = doctor["findings"].as_array().expect("findings");
    let is = |f: &&Value| f["rule"] == wanted.rule && f["subject"]["container"] == sick.names[wanted.kind].as_str();
    findings.iter().find(is)
}

fn check(ns: &Netns, sick: &Sick<'_>, doctor: &Value, wanted: &Wanted) {
    let finding = find(doctor, sick, wanted).expect("waited for");
    let subject = &finding["subject"];
    // The process is that of the host's numbers.
    assert_eq!(subject["pid"].as_u64().map(|pid| pid.to_string()), Some(sick.pid(wanted.kind)), "{finding:#}");
    assert_eq!(subject["netns"].as_u64(), Some(netns_of(sick, wanted.kind)), "{finding:#}");
    let (holder, count) = wanted.rows;
    let there = netns_of(sick, holder);
    if holder != wanted.kind {
        assert_eq!(finding["evidence"]["closed_in_netns"], there.to_string(), "{finding:#}");
        let summary = finding["summary"].as_str().expect("text");
        assert!(summary.contains("closed in another network namespace of this host"), "{summary}");
    }
    let output = pasted(ns, finding);
    assert!(output.status.success(), "{}: {output:?}", finding["next"]);
    let shown = product::document(&output);
    let rows = shown["sockets"].as_array().expect("rows");
    let strange: Vec<&Value> =
        rows.iter().filter(|row| row["netns"].as_u64() != Some(there) || row["state"] != wanted.state).collect();
    assert!(strange.is_empty() && rows.len() == count, "{}: {} rows, {strange:#?}", finding["next"], rows.len());
    if wanted.kind == "mute" {
        // The reader and the writer, in two containers.
        let both = [sick.pid("mute"), sick.pid("filler")].map(|pid| pid.parse::<u64>().expect("a number"));
        let mut pids: Vec<u64> = subject["pids"].as_array().expect("pids").iter().filter_map(Value::as_u64).collect();
        pids.sort_unstable();
        let mut wanted = both.to_vec();
        wanted.sort_unstable();
        assert_eq!(pids, wanted, "{finding:#}");
    }
    if wanted.kind == "ports" {
        assert_eq!(finding["evidence"]["port_range"], "40000-40063", "its own range: {finding:#}");
    }
}

/// Nothing is said against the container whose clients are to blame, and no finding names a container of ours wrongly.
fn only_what_is_wrong(sick: &Sick<'_>, doctor: &Value) {
    let may: BTreeMap<&str, &[&str]> = [
        ("leak", ["fin-wait2-orphan-pileup", "close-wait-leak", "connection-pool-growth"].as_slice()),
        ("stall", &["accept-queue-overflow", "accept-queue-stalled", "listener-drops-since-open"]),
        ("mute", &["recv-queue-stuck", "rcvbuf-pruning"]),
        ("filler", &["zero-window-peer", "send-queue-stuck"]),
        ("dialer", &["syn-sent-pileup", "no-answer", "connect-failures"]),
        ("ports", &["ephemeral-port-exhaustion", "connection-pool-growth"]),
        ("closer", &[]),
        ("caller", &[]),
        ("deaf", &["syn-queue-pressure"]),
    ]
    .into_iter()
    .collect();
    for finding in doctor["findings"].as_array().expect("findings") {
        let Some(container) = finding["subject"]["container"].as_str() else { continue };
        let Some((kind, _)) = sick.names.iter().find(|(_, name)| *name == container) else { continue };
        let rule = finding["rule"].as_str().expect("a rule");
        assert!(may[kind].contains(&rule), "{kind}: {finding:#}");
    }
}

/// All of them listen on 0.0.0.0:80: what has the same numbers is not the same fault.
fn incidents_stay_apart(sick: &Sick<'_>, doctor: &Value) {
    let together: [&[&str]; 4] = [&["stall"], &["mute", "filler"], &["dialer"], &["leak", "ports"]];
    let findings = doctor["findings"].as_array().expect("findings");
    for incident in doctor["incidents"].as_array().expect("incidents") {
        let members = incident["consequences"].as_array().expect("ids").iter().chain([&incident["cause"]]);
        let of = |id: &Value| {
            let finding = findings.iter().find(|f| f["id"] == *id).unwrap_or_else(|| panic!("no finding {id}"));
            let container = finding["subject"]["container"].as_str()?;
            sick.names.iter().find(|(_, name)| *name == container).map(|(kind, _)| *kind)
        };
        let kinds: Vec<Option<&str>> = members.map(of).collect();
        let Some(first) = kinds.iter().flatten().next() else { continue };
        let mates = together.iter().find(|mates| mates.contains(first)).unwrap_or_else(|| panic!("{kinds:?}"));
        assert!(kinds.iter().all(|kind| kind.is_some_and(|k| mates.contains(&k))), "one incident: {kinds:?}");
    }
}

/// Orphans have their container by their namespace, and descriptors count against the container's own limit.
fn what_the_sick_have_of_limits(ns: &Netns, sick: &Sick<'_>) {
    let closer = &sick.names["closer"];
    let groups = product::json(ns, &["summary", "--json", "--by", "container", "-N", closer]);
    let rows = groups["groups"]["by"]["rows"].as_array().expect("rows");
    assert!(rows.iter().all(|row| row["container"] == closer.as_str()), "{groups:#}");
    let found = wait_for("the leak", || {
        let leak = sick.doctor(ns, &["--once", "--rule", "close-wait-leak"]);
        let findings = leak["findings"].as_array().expect("findings");
        findings.first().cloned().ok_or_else(|| format!("{leak:#}"))
    });
    let evidence = &found["evidence"];
    assert_eq!((&found["subject"]["container"], &evidence["count"]), (&sick.names["leak"].as_str().into(), &40.into()));
    assert_eq!(evidence["fd_soft_limit"], 1024, "its own limit: {found:#}");
}

#[test]
fn equal_addresses_in_two_containers_are_two_connections() {
    in_netns(|ns| {
        let podman = match Podman::new(ns) {
            Ok(podman) => podman,
            Err(why) => return skip(&why),
        };
        let names = ["one", "other"].map(name);
        for container in &names {
            let options = ["--name", container, "--network", "none"];
            podman.start(&options, &["pair", "7080", "47080"]).unwrap_or_else(|why| panic!("{why}"));
        }
        let scope: Vec<&str> = names.iter().flat_map(|name| ["-N", name]).collect();
        let listed = wait_for("both pairs", || {
            let words = [&["list", "--json", "--state", "established"], &scope[..]].concat();
            let document = product::json(ns, &words);
            if document["sockets"].as_array().map(Vec::len) == Some(4) {
                Ok(document)
            } else {
                Err(document.to_string())
            }
        });
        for container in &names {
            let of = |row: &&Value| row["owners"][0]["container"] == container.as_str();
            assert_eq!(listed["sockets"].as_array().expect("rows").iter().filter(of).count(), 2, "{listed:#}");
        }
        let words = [&["summary", "--json", "--by", "four-tuple"], &scope[..]].concat();
        let groups = product::json(ns, &words);
        let rows = groups["groups"]["by"]["rows"].as_array().expect("rows");
        assert!(rows.iter().all(|row| row["total"] == 1), "{groups:#}");
        let plan = product::text(ns, &[&["list", "--explain-plan"], &scope[..]].concat());
        assert!(plan.contains("namespaces: 2") && plan.contains("walks of the table: 2"), "{plan}");
        let doctor = product::document(&finish(product::with(ns, &["doctor", "--json"]).args(&scope)));
        assert_eq!(doctor["findings"], serde_json::json!([]), "{doctor:#}");
    });
}
