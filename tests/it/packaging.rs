//! What is shipped beside the program for a fleet: rules and alerts of Prometheus, a dashboard, a unit, a manifest. Comes in: the
//! files of packaging/. Goes out: names and pages that lead nowhere, and what `promtool` and systemd say. Never here: the network.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value as Json;
use tcpstate::render::metrics::METRICS;

use crate::harness::helper::Helper;
use crate::harness::oracle::installed;
use crate::harness::{finish, in_netns, skip};
use crate::product;
use crate::tidy::{read, root};

const RULES: &str = "packaging/prometheus/rules.yml";
const ALERTS: &str = "packaging/prometheus/alerts.yml";

/// What follows a key, on every line that has it.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines()
        .filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix(key)?.strip_prefix(": "))
        .collect()
}

/// Words of an expression that name a metric or a recorded series.
fn names(text: &str) -> BTreeSet<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(|c| !is_word(c)).filter(|word| word.contains("tcpstate_")).collect()
}

/// Every query of the dashboard.
fn queries(json: &Json, found: &mut Vec<String>) {
    match json {
        Json::Object(map) => {
            found.extend(map.get("expr").and_then(Json::as_str).map(str::to_owned));
            map.values().for_each(|value| queries(value, found));
        }
        Json::Array(items) => items.iter().for_each(|item| queries(item, found)),
        _ => {}
    }
}

fn dashboard() -> Vec<String> {
    let json: Json = serde_json::from_str(&read("packaging/grafana/tcpstate.json")).expect("JSON");
    let mut found = Vec::new();
    queries(&json, &mut found);
    assert!(found.len() >= 15, "{}", found.len());
    found
}

#[test]
fn every_name_in_a_query_is_a_metric_or_a_recorded_series() {
    let (rules, alerts) = (read(RULES), read(ALERTS));
    let recorded: BTreeSet<&str> = values(&rules, "record").into_iter().collect();
    let metrics: BTreeSet<&str> =
        METRICS.iter().flat_map(|chapter| chapter.metrics).map(|metric| metric.name).collect();
    let known = |name: &&str| recorded.contains(name) || metrics.contains(name);
    let queries = dashboard().join("\n");
    let code = read("docs/fleet.md").lines().filter(|l| l.starts_with("| ")).collect::<Vec<_>>().join("\n");
    for (file, text) in [(RULES, &rules), (ALERTS, &alerts), ("the dashboard", &queries), ("docs/fleet.md", &code)] {
        let names = names(text);
        let unknown: Vec<_> = names.iter().filter(|name| !known(name)).collect();
        assert!(names.len() > 4 && unknown.is_empty(), "{file}: {unknown:?}");
    }
    assert!(!known(&"tcpstate_socket"));
}

#[test]
fn every_alert_has_a_page_and_is_tested_firing_and_silent() {
    let (alerts, tests) = (read(ALERTS), read("packaging/prometheus/alerts_test.yml"));
    let names = values(&alerts, "alert");
    let pages = values(&alerts, "runbook_url");
    assert!(names.len() >= 14 && names.len() == pages.len(), "{names:?} {pages:?}");
    for page in pages {
        let path = page.trim_matches('\'').split("/latest/source/").nth(1).expect("a page of the published package");
        // The page of a rule, whichever it is.
        let path = path.replace("{{ $labels.rule }}", "close-wait-leak");
        assert!(root().join(&path).is_file(), "{page}");
    }
    let tested = values(&tests, "name");
    for name in names {
        for how in ["fires", "is silent"] {
            assert!(tested.contains(&format!("{name} {how}").as_str()), "{name} {how}");
        }
    }
    let silent = values(&tests, "exp_alerts").len();
    assert_eq!(tested.len(), 2 * silent, "half of them expect no alert");
}

#[test]
fn promtool_accepts_the_rules_and_their_tests() {
    if !installed("promtool") {
        return skip("promtool (prometheus) is not installed");
    }
    let promtool = |args: &[&str]| {
        let output = finish(Command::new("promtool").current_dir(root().join("packaging/prometheus")).args(args));
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "promtool {args:?}: {said}");
    };
    promtool(&["check", "rules", "rules.yml", "alerts.yml"]);
    promtool(&["test", "rules", "alerts_test.yml"]);
    // The queries of the dashboard as rules: so their syntax is checked too.
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("dashboard.yml");
    let rules: Vec<Json> = dashboard()
        .iter()
        .map(|query| {
            let query = query.replace("$__rate_interval", "5m").replace("$instance", ".*");
            serde_json::json!({ "record": "x", "labels": { "query": query }, "expr": query })
        })
        .collect();
    let text = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string();
    std::fs::write(&file, text).expect("write");
    promtool(&["check", "rules", file.to_str().expect("a path")]);
}

/// What an expression of jsonnet is, in the folder of the mixin.
fn jsonnet(expression: &str) -> Json {
    let mut command = Command::new("jsonnet");
    let output = finish(command.current_dir(root().join("packaging/mixin")).args(["-e", expression]));
    assert!(output.status.success(), "{expression}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_mixin_is_the_dashboard_the_rules_and_the_alerts_and_can_be_changed() {
    if !installed("jsonnet") {
        return skip("jsonnet is not installed");
    }
    let mixin = "(import 'mixin.libsonnet')";
    let made = jsonnet(&format!("{mixin}.grafanaDashboards['tcpstate.json']"));
    let shipped: Json = serde_json::from_str(&read("packaging/grafana/tcpstate.json")).expect("JSON");
    assert_eq!(made, shipped, "`jsonnet -e` in packaging/mixin makes another packaging/grafana/tcpstate.json");
    for (field, key, file) in [("prometheusRules", "record", RULES), ("prometheusAlerts", "alert", ALERTS)] {
        let groups = jsonnet(&format!("{mixin}.{field}.groups"));
        let rules = groups.as_array().expect("groups").iter().flat_map(|g| g["rules"].as_array().expect("rules"));
        let names: Vec<&str> = rules.map(|rule| rule[key].as_str().expect("a name")).collect();
        assert_eq!(names, values(&read(file), key), "{file}");
    }
    let chosen = "{ _config+:: { host: 'cluster=\"a\"', tags: ['x'] } }";
    let changed = jsonnet(&format!("({mixin} + {chosen}).grafanaDashboards['tcpstate.json']"));
    let mut queries_there = Vec::new();
    queries(&changed, &mut queries_there);
    assert!(queries_there.iter().all(|query| query.contains("cluster=\"a\"")), "{queries_there:?}");
    assert_eq!(changed["tags"], serde_json::json!(["x"]));
}

#[test]
fn systemd_accepts_the_unit() {
    if !installed("systemd-analyze") {
        return skip("systemd-analyze is not installed");
    }
    let [unit, recorder] = ["export", "record"].map(|name| read(format!("packaging/systemd/tcpstate-{name}.service")));
    let dir = tempfile::tempdir().expect("a directory");
    let verify = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).expect("write");
        let output = finish(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success() && said.is_empty(), said)
    };
    let here = |unit: &str| {
        let here = unit.replace("/usr/bin/tcpstate", env!("CARGO_BIN_EXE_tcpstate"));
        assert!(here != unit);
        here
    };
    for (name, unit) in [("tcpstate-export.service", &unit), ("tcpstate-record.service", &recorder)] {
        let (fine, said) = verify(name, &here(unit));
        assert!(fine, "{name}: {said}");
    }
    // The sum of what a unit may still do, as tens of it: docs/fleet.md states it.
    let page = read("docs/fleet.md");
    for name in ["tcpstate-export.service", "tcpstate-record.service"] {
        let output =
            finish(Command::new("systemd-analyze").args(["security", "--offline=true"]).arg(dir.path().join(name)));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let score =
            said.split("exposure level for ").nth(1).and_then(|rest| rest.split(": ").nth(1)?.split(' ').next());
        let score = score.unwrap_or_else(|| panic!("{name}: {said}"));
        assert!(page.contains(&format!("`{name}`: {score}")), "{name}: {score}");
    }
    let here = here(&unit);
    let (fine, _) = verify("wrong.service", &here.replace("ProtectSystem=strict", "ProtectSytem=strict"));
    assert!(!fine, "the check can fail");
}

#[test]
fn the_unit_and_the_manifest_ask_for_the_same_rights_and_start_the_command() {
    let (unit, manifest) =
        (read("packaging/systemd/tcpstate-export.service"), read("packaging/kubernetes/daemonset.yaml"));
    let of_unit: BTreeSet<String> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("AmbientCapabilities="))
        .flat_map(|list| list.split(' '))
        .map(|name| name.trim_start_matches("CAP_").to_owned())
        .collect();
    let line = manifest.lines().find_map(|line| line.trim().strip_prefix("add: [")).expect("capabilities");
    let of_manifest: BTreeSet<String> =
        line.trim_end_matches(']').split(", ").map(|n| n.trim_matches('"').to_owned()).collect();
    assert_eq!(of_unit, of_manifest);
    assert_eq!(of_unit.len(), 4, "{of_unit:?}");
    for line in ["hostNetwork: true", "hostPID: true", "readOnlyRootFilesystem: true", "drop: [\"ALL\"]"] {
        assert!(manifest.contains(line), "{line}");
    }
    assert!(manifest.contains("[\"/tcpstate\", \"export\", \"--listen\""));
}

/// The capabilities that the unit names.
fn rights() -> Vec<String> {
    let unit = read("packaging/systemd/tcpstate-export.service");
    let list = unit.lines().find_map(|line| line.strip_prefix("AmbientCapabilities=")).expect("capabilities");
    list.split(' ').map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect()
}

#[test]
fn with_the_rights_of_the_unit_and_no_others_every_owner_is_known_and_changes_are_traced() {
    if !installed("setpriv") || !product::can_be_another_user() {
        return skip("setpriv (util-linux) is not installed, or this is not root");
    }
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        helper.rename(b"leaky");
        helper.make("close_wait 7000 30 eof_read closed");
        let binary = std::fs::File::open(env!("CARGO_BIN_EXE_tcpstate")).expect("open the program");
        let program = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&binary));
        rustix::io::fcntl_setfd(&binary, rustix::io::FdFlags::empty()).expect("keep it open");
        let with = |rights: &[String], words: &[&str]| {
            let sum = rights.iter().map(|name| format!(",+{name}")).fold("-all".to_owned(), |all, one| all + &one);
            let mut command = ns.command("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
            command.args(["inh-caps", "ambient-caps", "bounding-set"].map(|set| format!("--{set}={sum}")));
            let output = finish(command.arg(&program).args(words).current_dir("/").env_remove("HOME"));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("text")
        };
        let owned = "tcpstate_program_sockets{process=\"leaky\",owner=\"known\",state=\"close_wait\"} 30\n";
        let text = with(&rights(), &["export", "--once"]);
        assert!(text.contains(owned) && !text.contains("tcpstate_gap"), "{text}");
        let text = with(&[], &["export", "--once"]);
        assert!(!text.contains(owned) && text.contains("tcpstate_gap{what=\"owners\"} 1\n"), "{text}");
        // The way by BPF is taken or nothing is: `trace` fails where it cannot.
        let traced = with(&rights(), &["trace", "--via", "bpf", "--this-netns", "--duration", "1", "--json"]);
        assert!(traced.lines().next().is_some_and(|line| line.contains("\"via\":\"bpf\"")), "{traced}");
    });
}
