//! The table as a whole, and hostile names in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::aggregate::{AcceptQueue, Counts, Matrix, PortUse, Taken};
use crate::diagnose::{Finding, Measure as Precise, Severity, Subject};
use crate::model::column::NoNames;
use crate::model::counter::Counters;
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::resources::TcpMemory;
use crate::model::traced::ConnectFailure;
use crate::model::{Endpoint, Gap, NetnsId, OwnerStatus, State, StateSet};
use crate::watch::{Held, Limits, ListenerSum, Measures, OpenIncident, Sighting, TraceStatus, Traffic, Whose, testkit};

/// What a process, a unit or a container may be called.
const HOSTILE: &str = "a\"b\\c\nd} 1\n# TYPE x\u{1b}[31m{é\r\t";

fn held(state: State, n: u64) -> Held {
    let mut counts = Counts::default();
    counts.add_many(state, n);
    let close_wait_ms = (state == State::CloseWait).then_some(90_500);
    Held { counts, recv_q_bytes: 7, send_q_bytes: 8, close_wait_ms }
}

fn measures() -> Measures {
    let name = |text: &str| Some(Arc::from(text));
    let program = Whose::Program {
        comm: HOSTILE.into(),
        unit: name("java.service"),
        container: name(HOSTILE),
        pod: name("shop/java-0"),
    };
    let mut transitions = Matrix::default();
    transitions.add(None, Some(State::SynSent), 3);
    transitions.add(Some(State::Established), Some(State::CloseWait), 2);
    Measures {
        programs: vec![
            (program, held(State::CloseWait, 34)),
            (Whose::Likely("curl".into()), held(State::TimeWait, 5)),
            (Whose::Nobody(OwnerStatus::NotAccepted), held(State::SynRecv, 2)),
        ],
        other_programs: Some(held(State::Established, 12)),
        listeners: vec![ListenerSum {
            netns: NetnsId::new(7),
            local: Endpoint::at("[::]:443"),
            comm: name("nginx"),
            queue: AcceptQueue { sockets: 4, full: 1, waiting: 129, fullest: (129, Some(128)), drops: Some(17) },
            syn_recv: 2,
        }],
        other_listeners: 3,
        ports: vec![
            PortUse {
                netns: NetnsId::new(7),
                source: "10.0.0.5".parse().unwrap(),
                destination: Endpoint::at("10.9.9.9:5432"),
                taken: Taken { live: 20_000, ..Taken::default() },
                bound: 2,
                usable: 28_232,
            };
            2
        ],
        counters: Counter::ALL.iter().enumerate().map(|(i, c)| (*c, i as u64)).collect(),
        limits: Limits {
            memory: Some(TcpMemory::of(&[memory()]).unwrap()),
            page_bytes: 4096,
            orphans: Some(6),
            orphans_limit: Some(131_072),
            time_wait_limit: Some(131_072),
        },
        transitions: Some(transitions),
        several: true,
    }
}

fn memory() -> crate::model::snapshot::Netns {
    let mut netns = crate::model::snapshot::Netns::default();
    netns.sockstat.insert(crate::model::counter::SockStat::TcpMem, 12);
    netns.sysctls.insert(crate::model::sysctl::Sysctl::Ipv4TcpMem, vec![100, 200, 300]);
    netns
}

fn frame() -> Frame {
    let gap = Gap::new(Missing::BoundInactive, Why::ProcNetTcp, WayOut::None);
    Frame {
        measures: Some(Box::new(measures())),
        unseen: StateSet::of(&[State::BoundInactive]),
        trace: Some(TraceStatus { via: "bpf", changes: 5, lost: 1, matrix: None, cut: None }),
        gaps: vec![gap.clone(), gap],
        ..testkit::frame()
    }
}

fn verdicts() -> Verdicts {
    let subject = Subject {
        netns: NetnsId::new(7),
        pid: Some(812),
        comm: Some(HOSTILE.into()),
        unit: Some("java.service".into()),
        container: Some("java".into()),
        pod: Some("shop/java-0".into()),
        listener: Some(Endpoint::at("0.0.0.0:80")),
        destination: Some(Endpoint::at("10.9.9.9:5432")),
        source: Some("10.0.0.5".parse().unwrap()),
        object: Some("tcp_mem".into()),
        ..Subject::default()
    };
    let finding = |id: &str| {
        let finding = Finding::new("close-wait-leak", Severity::High, 0.95, "34 connections");
        Finding { id: id.into(), ..finding }.subject(subject.clone()).exhausted_in(Some(Precise::AtLeast(61_000)))
    };
    let sighting = |id: &str, gone_ms| Sighting { finding: finding(id), first_ms: 1500, last_ms: 9000, gone_ms };
    Verdicts {
        sightings: Arc::new(vec![sighting("close-wait-leak/java", None), sighting("gone/java", Some(5000))]),
        incidents: vec![OpenIncident {
            id: "close-wait-leak/java".into(),
            rule: "close-wait-leak",
            severity: Severity::High,
            findings: 2,
        }],
        judged_at_ms: Some(9000),
        traffic: Some(Traffic {
            connects: 9,
            connects_failed: [(ConnectFailure::Refused, 4), (ConnectFailure::GivenUp, 1)].into(),
            resets: [(None, 3), (Some("not_specified"), 2)].into(),
            resets_traced: true,
        }),
    }
}

fn run(with_peers: bool) -> Run {
    let done = |name, is_done| Collected { name, seconds: 0.0125, is_done };
    Run {
        version: "0.1.0",
        interval_ms: 15_000,
        collections: 4,
        skipped: 1,
        with_peers,
        collectors: vec![done("sockets", true), done("rules", false)],
    }
}

fn series(frame: Option<&Frame>, verdicts: Option<&Verdicts>, with_peers: bool) -> Arc<Series> {
    Arc::new(Series::of(&Facts { run: &run(with_peers), frame, verdicts, names: &NoNames }))
}

/// Lines with a number.
fn numbers(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn names_are_as_prometheus_recommends() {
    let all: Vec<&Metric> = METRICS.iter().flat_map(|chapter| chapter.metrics).collect();
    let names: BTreeSet<&str> = all.iter().map(|m| m.name).collect();
    assert_eq!(names.len(), all.len(), "a name is there twice");
    for Metric { name, kind, labels, help, .. } in all {
        let is_word = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit());
        assert!(name.starts_with("tcpstate_") && is_word(name), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        assert!(labels.iter().all(|label| is_word(label)), "{name}");
        assert!(help.ends_with('.') && !help.contains(['\n', '\\', '|']), "{name}: {help}");
        for unit in ["_ms", "_us", "_milliseconds", "_percent", "_kb", "_count", "_sum", "_bucket"] {
            assert!(!name.trim_end_matches("_total").ends_with(unit), "{name}");
        }
    }
}

#[test]
fn every_metric_has_a_series_with_no_other_labels_than_it_says_and_every_label_is_used() {
    let (frame, verdicts) = (frame(), verdicts());
    for with_peers in [false, true] {
        let series = series(Some(&frame), Some(&verdicts), with_peers);
        let mut seen = BTreeSet::new();
        for (metric, points) in &series.0 {
            let mut unique = BTreeSet::new();
            let mut used: BTreeSet<&str> = BTreeSet::new();
            for (labels, _) in &points.0 {
                used.extend(labels.iter().map(|(key, _)| *key));
                // The two ranges of ports are alike.
                assert!(
                    unique.insert(labels) || metric.name.starts_with("tcpstate_local_ports"),
                    "{} twice",
                    metric.name
                );
            }
            let said: BTreeSet<&str> = metric.labels.iter().copied().collect();
            if with_peers || !metric.name.starts_with("tcpstate_local_ports") {
                assert_eq!(used, said, "{}", metric.name);
            }
            seen.insert(metric.name);
        }
        let all: BTreeSet<&str> = METRICS.iter().flat_map(|c| c.metrics).map(|m| m.name).collect();
        assert_eq!(seen, all);
    }
}

#[test]
fn both_formats_say_the_same() {
    let (frame, verdicts) = (frame(), verdicts());
    let series = series(Some(&frame), Some(&verdicts), false);
    let (open, plain) = (series.openmetrics().unwrap(), series.prometheus().unwrap());
    assert_eq!(numbers(&open), numbers(&plain));
    assert!(open.ends_with("\n# EOF\n") && !plain.contains("# EOF"));
    assert!(open.contains("# TYPE tcpstate_listener_drops counter\n"));
    assert!(plain.contains("# TYPE tcpstate_listener_drops_total counter\n"));
    assert!(open.contains("# UNIT tcpstate_memory_bytes bytes\n"));
    for line in [
        "tcpstate_sockets{family=\"ipv4\",state=\"close_wait\"} 34",
        "tcpstate_program_sockets{process=\"curl\",owner=\"likely\",state=\"time_wait\"} 5",
        "tcpstate_program_sockets{owner=\"not_accepted\",state=\"syn_recv\"} 2",
        "tcpstate_program_sockets{process=\"other\",owner=\"other\",state=\"established\"} 12",
        "tcpstate_listener_accept_queue{address=\"::\",port=\"443\",process=\"nginx\",netns=\"7\"} 129",
        "tcpstate_listener_drops_total{address=\"::\",port=\"443\",process=\"nginx\",netns=\"7\"} 17",
        "tcpstate_local_ports_taken 20002",
        "tcpstate_memory_limit_bytes{limit=\"max\"} 1228800",
        "tcpstate_transitions_total{from=\"none\",to=\"syn_sent\"} 3",
        "tcpstate_connect_failures_total{error=\"refused\"} 4",
        "tcpstate_traced_resets_total{direction=\"sent\",reason=\"not_specified\"} 2",
        "tcpstate_findings{severity=\"high\"} 1",
        "tcpstate_finding_exhaustion_seconds{id=\"close-wait-leak/java\",rule=\"close-wait-leak\"} 61.0",
        "tcpstate_gap{what=\"bound_inactive\"} 1",
        "tcpstate_scrape_collector_success{collector=\"rules\"} 0",
    ] {
        assert!(numbers(&plain).contains(&line), "{line}:\n{plain}");
    }
    assert_eq!(plain.matches("tcpstate_gap{").count(), 1);
}

#[test]
fn a_hostile_name_stays_within_its_quotes() {
    let (frame, verdicts) = (frame(), verdicts());
    let series = series(Some(&frame), Some(&verdicts), true);
    let escaped = "a\\\"b\\\\c\\nd} 1\\n# TYPE x\u{1b}[31m{é\r\t";
    for text in [series.openmetrics().unwrap(), series.prometheus().unwrap()] {
        let of_java = text.split('\n').filter(|line| line.contains("java.service")).count();
        assert_eq!(of_java, 5, "four of the program, one of the finding: {text}");
        assert_eq!(text.matches(escaped).count(), 9, "twice for each of the program, once in the finding: {text}");
        assert!(
            text.split('\n').all(|line| line.is_empty() || line.starts_with("tcpstate_") || line.starts_with("# "))
        );
    }
}

#[test]
fn what_is_not_known_has_no_series() {
    let mut frame = frame();
    let names = |series: &Series| -> BTreeSet<&str> { series.0.iter().map(|(metric, _)| metric.name).collect() };
    let text = series(Some(&frame), None, false).prometheus().unwrap();
    assert!(!text.contains("tcpstate_finding") && !text.contains("tcpstate_connects"), "the rules failed");
    assert!(!text.contains("state=\"bound_inactive\""), "this source does not see it");
    // They ran once, and cannot any more.
    let stale = Verdicts { judged_at_ms: None, ..verdicts() };
    let text = series(Some(&frame), Some(&stale), false).prometheus().unwrap();
    assert!(!text.contains("tcpstate_finding") && !text.contains("tcpstate_incident"), "{text}");
    let measures = frame.measures.as_mut().unwrap();
    (measures.transitions, measures.limits, measures.counters) = (None, Limits::default(), Counters::default());
    measures.listeners[0].queue = AcceptQueue { sockets: 1, ..AcceptQueue::default() };
    measures.ports.clear();
    frame.trace = None;
    let left = names(&series(Some(&frame), None, false));
    for name in [
        "tcpstate_transitions_total",
        "tcpstate_trace_lost_events_total",
        "tcpstate_memory_bytes",
        "tcpstate_orphans",
        "tcpstate_active_opens_total",
        "tcpstate_listener_drops_total",
        "tcpstate_listener_accept_queue_limit",
        "tcpstate_local_ports_usable",
    ] {
        assert!(!left.contains(name), "{name}");
    }
    assert!(left.contains("tcpstate_listener_accept_queue"));
    // The sample failed.
    let left = names(&series(None, None, false));
    let exporter: BTreeSet<&str> = METRICS[0].metrics.iter().map(|m| m.name).collect();
    assert!(left.is_subset(&exporter) && left.contains("tcpstate_scrape_collector_success"), "{left:?}");
}
