//! The JSON contract: every document against the schema, the schema against its committed copy, the manual page against
//! the schema. Comes in: real documents of every command. Goes out: no key unknown to the schema, and none undocumented.
//! Never here: the values; other areas hold those against the kernel.

use std::collections::BTreeSet;
use std::path::Path;

use jsonschema::Validator;
use serde_json::{Map, Value as Json, json};
use tcpstate::aggregate::{Key, Sum};
use tcpstate::diagnose::{Diagnosis, Evidence, Finding, Severity, Subject};
use tcpstate::model::Endpoint;
use tcpstate::model::column::{self, COLUMNS};
use tcpstate::model::state::State;
use tcpstate::model::tcp_info::TcpInfo;
use tcpstate::render::{json as out, schema};

use crate::harness::{Netns, finish, in_netns};
use crate::product;
use crate::states;

/// The schema, or one definition of it.
pub(crate) fn validator(definition: Option<&str>) -> Validator {
    let mut schema = schema::schema();
    if let Some(name) = definition {
        let map = schema.as_object_mut().expect("an object");
        map.remove("oneOf");
        map.insert("$ref".into(), json!(format!("#/$defs/{name}")));
    }
    jsonschema::validator_for(&schema).expect("a schema")
}

#[track_caller]
pub(crate) fn assert_valid(validator: &Validator, document: &Json, what: &str) {
    let complaints: Vec<String> =
        validator.iter_errors(document).map(|e| format!("{} at {}", e, e.instance_path())).collect();
    assert!(complaints.is_empty(), "{what}: {}", complaints.join("\n"));
}

/// What `list`, `summary` and `doctor` print over every state, by every source and flag that changes their shape.
fn documents(ns: &Netns) -> Vec<(String, Json)> {
    let keys: Vec<&str> = Key::ALL.iter().map(|k| k.name()).collect();
    let mut lines: Vec<Vec<&str>> = [
        "list",
        "list -i -m",
        "list -tanopiem",
        "list --no-owners",
        "list --source proc",
        "list --source proc -i -m",
        "list -e",
        "list --limit 0",
        "list --sort -recv-q --limit 3",
        "list -c state,peer",
        "list -c +age,rtt,rto --no-owners",
        "list -c process,ulp --source proc",
        "summary",
        "summary --no-owners",
        "summary --counts",
        "summary --source proc",
        "summary --top 1",
        "doctor --once",
        "doctor --interval 100ms",
        "doctor --once --source proc --no-owners",
        "explain",
        "explain machine",
        "explain close-wait",
        "explain recv-q",
        "explain rtt",
        "explain close-wait-leak",
        "explain bind 127.0.0.1:9",
        "explain bind 0.0.0.0:43210",
        "explain bind [::]:43210 --source proc",
    ]
    .iter()
    .map(|line| line.split(' ').collect())
    .collect();
    let columns: Vec<&str> = COLUMNS.iter().map(|c| c.name).collect();
    let columns = columns.join(",");
    lines.push(vec!["list", "-c", &columns]);
    lines.push(vec!["list", "--no-owners", "--source", "proc", "-c", &columns]);
    lines.extend(keys.iter().map(|key| vec!["summary", "--top", "2", "--by", key]));
    let all = keys.join(",");
    lines.push(vec!["summary", "--by", &all]);
    let sums = Sum::ALL.map(Sum::name).join(",");
    lines.push(vec!["summary", "--top", "1", "-c", &sums]);
    lines.push(vec![
        "summary",
        "--by",
        "peer-addr/24,local-addr/16/48",
        "-c",
        &sums,
        "--sort",
        "-rtt-p99",
        "--top",
        "1",
    ]);
    lines.push(vec!["summary", "--by", "state", "-c", &sums, "--source", "proc"]);
    lines
        .into_iter()
        .map(|mut words| {
            words.push("--json");
            let name = words.join(" ");
            let output = finish(&mut product::with(ns, &words));
            assert!(matches!(output.status.code(), Some(0 | 1)), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            (name, product::document(&output))
        })
        .collect()
}

#[test]
fn every_document_is_what_the_schema_says_and_nothing_else() {
    in_netns(|ns| {
        let _held = states::all_states(ns);
        let any = validator(None);
        let documents = documents(ns);
        let mut refused = 0;
        for (name, document) in &documents {
            let command = name.split(' ').next().unwrap();
            assert_eq!(document["command"], command);
            assert_valid(&validator(Some(command)), document, name);
            assert!(any.is_valid(document), "{name}: more than one kind of document, or none");
        }
        // A key that the schema does not know is refused, wherever it stands, and so is a key that is missing.
        for name in ["list -i -m --json", "summary --json", "summary --top 1 --json", "doctor --once --json"] {
            let (_, document) = documents.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name}"));
            let mut small = document.clone();
            if let Some(sockets) = small.get_mut("sockets").and_then(Json::as_array_mut) {
                sockets.truncate(8);
            }
            assert!(any.is_valid(&small), "{name}");
            refused += refuses_changes(&any, &small, name, |_, _| false);
        }
        assert!(refused > 500, "{refused}");
    });
}

/// With `-c` an object has these columns and nothing else, by their keys, in a document and in lines.
#[test]
fn chosen_columns_are_the_only_keys() {
    in_netns(|ns| {
        let _held = states::all_states(ns);
        let keys =
            |socket: &Json| -> BTreeSet<String> { socket.as_object().expect("an object").keys().cloned().collect() };
        let all: Vec<&str> = COLUMNS.iter().map(|c| c.name).collect();
        for names in [&["state", "peer"][..], &["rtt", "process", "ulp"], &all] {
            let wanted: BTreeSet<String> =
                names.iter().map(|n| column::find(n).expect("a column").json.key.to_owned()).collect();
            let chosen = names.join(",");
            let document = product::json(ns, &["list", "-c", &chosen, "--json"]);
            let sockets = document["sockets"].as_array().expect("a list");
            assert!(sockets.len() > 8 && sockets.iter().all(|s| keys(s) == wanted), "{chosen}");
            assert_eq!(document["total"], sockets.len());
            let text = product::text(ns, &["list", "-c", &chosen, "--format", "jsonl"]);
            let lines: Vec<Json> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
            let mut wanted = wanted;
            wanted.insert("type".into());
            let mut sockets = lines.iter().filter(|l| l["type"] == "socket");
            assert!(sockets.clone().count() > 8 && sockets.all(|s| keys(s) == wanted), "{chosen}");
        }
        // A key of another type, or one that no column has, is refused.
        let validator = validator(Some("columns"));
        assert!(validator.is_valid(&json!({ "state": "listen", "rtt_us": null, "pids": [1], "cookie": "0x1" })));
        for wrong in [json!({ "rtt_us": "5" }), json!({ "pids": 1 }), json!({ "cookie": 1 }), json!({ "rtt": 5 })] {
            assert!(!validator.is_valid(&wrong), "{wrong}");
        }
    });
}

/// Adds a key to, and takes each key from, every object of a document that is valid; each must make it invalid, except
/// where `free` says that any key may stand there or be missing. Returns how many changes were refused.
fn refuses_changes(
    validator: &Validator,
    document: &Json,
    name: &str,
    free: impl Fn(&str, Option<&str>) -> bool,
) -> usize {
    let mut places = Vec::new();
    objects(document, String::new(), &mut places);
    let mut refused = 0;
    for place in places {
        let at = |document: &mut Json| -> Map<String, Json> {
            document.pointer(&place).and_then(Json::as_object).cloned().expect("an object")
        };
        let mut changed = document.clone();
        let original = at(&mut changed);
        let mut try_with = |map: Map<String, Json>, key: Option<&str>, what: String| {
            // The evidence of a finding has the names that its rule gives it.
            if place.ends_with("/evidence") || free(&place, key) {
                return;
            }
            *changed.pointer_mut(&place).expect("an object") = Json::Object(map);
            assert!(!validator.is_valid(&changed), "{name}: valid {what} at `{place}`");
            refused += 1;
        };
        let mut more = original.clone();
        more.insert("surprise".into(), json!(1));
        try_with(more, None, "with a surprise".into());
        for key in original.keys() {
            let mut less = original.clone();
            less.remove(key);
            // What a socket or a group tells only when asked for may be missing.
            let sometimes = [
                "kernel_user",
                "exposure",
                "congestion",
                "tos",
                "tclass",
                "skmem",
                "ulp",
                "tcp_info",
                "listeners",
                "destinations",
            ];
            let sometimes = sometimes.contains(&key.as_str())
                || ["processes", "other", "process", "listener", "destination"].contains(&key.as_str())
                || ["accept_queue", "descriptors"].contains(&key.as_str())
                || (place.contains("/process")
                    && ["short_lived", "unit", "container", "pod", "owner_status"].contains(&key.as_str()));
            if !sometimes {
                try_with(less, Some(key), format!("without `{key}`"));
            }
        }
    }
    refused
}

fn objects(value: &Json, at: String, places: &mut Vec<String>) {
    match value {
        Json::Object(map) => {
            for (key, value) in map {
                objects(value, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), places);
            }
            places.push(at);
        }
        Json::Array(items) => {
            for (i, value) in items.iter().enumerate() {
                objects(value, format!("{at}/{i}"), places);
            }
        }
        _ => {}
    }
}

#[test]
fn every_line_is_what_the_schema_says() {
    in_netns(|ns| {
        let _held = states::all_states(ns);
        let line = validator(Some("line"));
        for words in [
            &["list"][..],
            &["list", "-i", "-m"],
            &["list", "--source", "proc"],
            &["list", "--no-owners"],
            &["list", "-c", "state,peer,pid,rtt"],
        ] {
            let words = [words, &["--format", "jsonl"]].concat();
            let text = product::text(ns, &words);
            let lines: Vec<Json> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
            for one in &lines {
                assert_valid(&line, one, &words.join(" "));
            }
            let kinds: Vec<&str> = lines.iter().map(|l| l["type"].as_str().unwrap()).collect();
            assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("header", "end"));
            let sockets = kinds.iter().filter(|k| **k == "socket").count();
            assert_eq!(lines.last().unwrap()["total"], sockets);
            // The same sockets, and the same gaps, as in one document.
            let words: Vec<&str> = words.iter().map(|w| if *w == "jsonl" { "json" } else { w }).collect();
            let document = product::json(ns, &words);
            assert_eq!(document["total"], sockets);
            let gaps: Vec<Json> = lines
                .iter()
                .filter(|l| l["type"] == "gap")
                .map(|l| json!({ "missing": l["missing"], "what": l["what"], "why": l["why"], "hint": l["hint"] }))
                .collect();
            assert_eq!(document["gaps"], json!(gaps));
        }
    });
}

/// A finding with everything in it; what the rules find today may leave parts out.
#[test]
fn a_full_finding_is_what_the_schema_says() {
    let endpoint = Endpoint::new("192.0.2.1".parse().unwrap(), 443);
    let mut subject = Subject::default();
    subject.netns = tcpstate::model::NetnsId::new(4_026_531_840);
    subject.pid = Some(1);
    subject.comm = Some("java".into());
    subject.pids = vec![1, 2];
    subject.uid = Some(0);
    subject.unit = Some("a.service".into());
    subject.container = Some("c".into());
    subject.pod = Some("prod/web-0".into());
    subject.listener = Some(endpoint);
    subject.destination = Some(endpoint);
    subject.source = Some(endpoint.addr);
    subject.object = Some("net.core.somaxconn".into());
    let validator = validator(Some("finding"));
    for (severity, subject) in
        Severity::ALL.into_iter().zip([Subject::default(), subject.clone(), subject.clone(), subject])
    {
        let finding = Finding::new("close-wait-leak", severity, 0.95, "java (1) does not close 250 connections")
            .because("growth in two samples")
            .subject(subject)
            .evidence("count", Evidence::Count(250))
            .evidence("oldest_age_ms", Evidence::Millis(1))
            .evidence("held_bytes", Evidence::Bytes(2))
            .evidence("per_second", Evidence::PerSecond(0.256))
            .evidence("fd_share_percent", Evidence::Percent(24.4))
            .evidence("program", Evidence::Text("java".into()))
            .evidence("destinations", Evidence::List(vec!["a".into()]))
            .evidence("drops", Evidence::Unknown)
            .why("why")
            .remedy(["close"])
            .avoid(["a sysctl"])
            .next("tcpstate list");
        let document = out::finding(&finding);
        assert_valid(&validator, &document, severity.key());
        assert_eq!(document["evidence"]["per_second"], 0.26);
        refuses_changes(&validator, &document, "finding", |place, _| place == "/evidence");
    }
    let mut diagnosis = Diagnosis::default();
    diagnosis.not_checked = vec![("a", "why".into())];
    assert_eq!(out::not_checked(&diagnosis), json!([{ "rule": "a", "why": "why" }]));
}

fn repository(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    let committed: Json = serde_json::from_str(&repository("docs/schema/v1.json")).expect("JSON");
    assert_eq!(committed, schema::schema(), "run `cargo run -- generate schema > docs/schema/v1.json`");
    // It is a schema by its own rules.
    assert!(jsonschema::meta::is_valid(&committed));
}

/// Every name that a document may contain.
fn property_names(schema: &Json, names: &mut BTreeSet<String>) {
    match schema {
        Json::Object(map) => {
            for (key, value) in map {
                if key == "properties" {
                    names.extend(value.as_object().expect("properties").keys().cloned());
                }
                property_names(value, names);
            }
        }
        Json::Array(items) => items.iter().for_each(|item| property_names(item, names)),
        _ => {}
    }
}

/// Every word that a field may hold, where it holds one of a few.
fn words(schema: &Json, found: &mut BTreeSet<String>) {
    match schema {
        Json::Object(map) => {
            for (key, value) in map {
                if key == "enum" {
                    found.extend(value.as_array().expect("enum").iter().filter_map(|v| v.as_str().map(str::to_owned)));
                }
                words(value, found);
            }
        }
        Json::Array(items) => items.iter().for_each(|item| words(item, found)),
        _ => {}
    }
}

#[test]
fn the_manual_names_every_key_and_every_word() {
    let manual = repository("docs/json.md");
    let manuals = manual.clone() + &repository("docs/watch.md") + &repository("docs/columns.md");
    let schema = schema::schema();
    let (mut names, mut values) = (BTreeSet::new(), BTreeSet::new());
    property_names(&schema, &mut names);
    words(&schema, &mut values);
    assert!(names.len() > 120 && values.len() > 20, "{} {}", names.len(), values.len());
    let missing: Vec<&String> =
        names.iter().chain(&values).filter(|name| !manuals.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "none of docs/json.md, docs/columns.md, docs/watch.md explains {missing:?}");
    // And nothing that is gone: each name in the first cell of a table is a key, a value or a state.
    let known = |name: &str| {
        names.contains(name)
            || values.contains(name)
            || State::ALL.iter().any(|s| s.key() == name)
            || ["header", "socket", "gap", "end", "transition", "life", "matrix", "lost"].contains(&name)
    };
    let mut checked = 0;
    for cell in manual.lines().filter_map(|l| l.strip_prefix("| `")).map(|l| l.split(" |").next().unwrap_or(l)) {
        for name in cell.split('`').step_by(2) {
            assert!(known(name), "docs/json.md explains `{name}`, which no document has");
            checked += 1;
        }
    }
    assert!(checked > 120, "{checked}");
    assert!(TcpInfo::FIELDS.iter().all(|f| names.contains(*f)));
}

/// The examples of the manual are documents.
#[test]
fn the_examples_of_the_manual_are_valid() {
    let manual = repository("docs/json.md");
    let (any, line) = (validator(None), validator(Some("line")));
    let mut examples = 0;
    for block in manual.split("```json\n").skip(1) {
        let text = block.split("```").next().unwrap();
        if let Ok(document) = serde_json::from_str::<Json>(text) {
            assert_valid(&any, &document, text);
            examples += 1;
            continue;
        }
        for one in text.lines() {
            assert_valid(&line, &serde_json::from_str(one).unwrap_or_else(|e| panic!("{one}: {e}")), one);
            examples += 1;
        }
    }
    assert!(examples >= 6, "{examples}");
}
