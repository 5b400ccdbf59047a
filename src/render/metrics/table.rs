//! The metrics: a line for each, and how its series are made of the facts.

use std::borrow::Cow;

use super::kernel::KERNEL;
use super::{Chapter, Facts, Metric};
use crate::diagnose::{Finding, Severity};
use crate::model::column::Names;
use crate::model::{Endpoint, Family, NetnsId, State};
use crate::watch::{Held, Measures, Verdicts, Whose};

/// Every metric.
pub const METRICS: &[Chapter] = &[
    Chapter {
        title: "The exporter",
        text: "Each collection serves all scrapes until the next one. A part that failed has no series but `success` 0.",
        metrics: EXPORTER,
    },
    Chapter {
        title: "Sockets by state",
        text: "States are spelled as node_exporter spells them, and `bound_inactive` besides, where the kernel lists it.",
        metrics: STATES,
    },
    Chapter {
        title: "Programs",
        text: "The programs with the most sockets, and the others added up as `process=\"other\"`. `owner` says how the program \
               is known: `known` is read from the descriptor or traced, `likely` is a guess from the listener or the \
               destination, anything else says why there is none, as `owner_status` in JSON does.",
        metrics: PROGRAMS,
    },
    Chapter {
        title: "Listeners",
        text: "One series for each listening address; several sockets on it (`SO_REUSEPORT`) have a queue each. A queue is \
               full when it exceeds its limit. What a listener dropped counts from when it was opened.",
        metrics: LISTENERS,
    },
    Chapter {
        title: "Local ports",
        text: "Connections from one address to one destination share the range of local ports; the fullest pair is shown. \
               With `--peers` several of the fullest pairs are shown, with the labels `source` and `destination`.",
        metrics: PORTS,
    },
    Chapter {
        title: "Limits",
        text: "Limits of the kernel beside what is used of them, so that a query can divide one by the other. What the kernel does \
               not show here has no series.",
        metrics: LIMITS,
    },
    Chapter {
        title: "Counters of the kernel",
        text: "Sums over the network namespaces in view, each counted since it was made.",
        metrics: KERNEL,
    },
    Chapter {
        title: "Traced",
        text: "Only while changes are traced, since the exporter started. Where `tcpstate_trace_lost_events_total` grows they \
               are lower bounds.",
        metrics: TRACED,
    },
    Chapter {
        title: "Findings",
        text: "What the rules of the doctor find. There are no such series before the rules have run, or while they cannot run \
               (`tcpstate_gap{what=\"findings\"}`).",
        metrics: FINDINGS,
    },
];

const EXPORTER: &[Metric] = &[
    Metric::gauge(
        "tcpstate_build_info",
        &["version"],
        "Always 1. The label is the version of tcpstate.",
        |facts, points| {
            points.add(&[("version", facts.run.version)], 1);
        },
    ),
    Metric::gauge(
        "tcpstate_host_info",
        &["host", "kernel", "source"],
        "Always 1. The labels are the host, its kernel, and where sockets are read from.",
        |f, p| {
            if let Some(frame) = f.frame {
                p.add(&[("host", &frame.host), ("kernel", &frame.kernel), ("source", frame.source)], 1);
            }
        },
    ),
    Metric::gauge("tcpstate_collection_interval_seconds", &[], "Time between two collections.", |facts, points| {
        points.add(&[], seconds(facts.run.interval_ms));
    }),
    Metric::counter("tcpstate_collections_total", &[], "Collections since the exporter started.", |facts, points| {
        points.add(&[], facts.run.collections);
    }),
    Metric::counter(
        "tcpstate_collections_skipped_total",
        &[],
        "Intervals skipped because the collection before had not ended.",
        |f, p| {
            p.add(&[], f.run.skipped);
        },
    ),
    Metric::gauge(
        "tcpstate_collection_timestamp_seconds",
        &[],
        "When the last collection began, since the epoch.",
        |facts, points| {
            points.add_known(facts.frame.map(|frame| seconds(frame.taken_at_ms)));
        },
    ),
    Metric::gauge(
        "tcpstate_scrape_collector_duration_seconds",
        &["collector"],
        "How long this collector took the last time.",
        |f, p| {
            for collected in &f.run.collectors {
                p.add(&[("collector", collected.name)], collected.seconds);
            }
        },
    ),
    Metric::gauge(
        "tcpstate_scrape_collector_success",
        &["collector"],
        "1 if this collector succeeded the last time, else 0.",
        |f, p| {
            for collected in &f.run.collectors {
                p.add(&[("collector", collected.name)], u64::from(collected.is_done));
            }
        },
    ),
    Metric::gauge(
        "tcpstate_gap",
        &["what"],
        "1 for each thing that could not be seen; `what` is the key `missing` of `gaps` in JSON.",
        |facts, points| {
            let mut keys: Vec<&str> = facts.frame.iter().flat_map(|f| &f.gaps).map(|gap| gap.missing.key()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                points.add(&[("what", key)], 1);
            }
        },
    ),
];

const STATES: &[Metric] =
    &[Metric::gauge("tcpstate_sockets", &["family", "state"], "TCP sockets in this state.", |facts, points| {
        let Some(frame) = facts.frame else { return };
        for family in Family::ALL {
            let counts = &frame.counts[family as usize];
            for state in State::ALL.into_iter().filter(|state| counts.get(*state) > 0 || !frame.unseen.contains(*state))
            {
                points.add(&[("family", family.key()), ("state", state.key())], counts.get(state));
            }
            if counts.unknown() > 0 {
                points.add(&[("family", family.key()), ("state", "unknown")], counts.unknown());
            }
        }
    })];

const OF_PROGRAM: &[&str] = &["process", "unit", "container", "pod", "owner"];

const PROGRAMS: &[Metric] = &[
    Metric::gauge(
        "tcpstate_program_sockets",
        &["process", "unit", "container", "pod", "owner", "state"],
        "Sockets of the program in this state; a state without sockets has no series.",
        |facts, points| {
            each_program(facts, |labels, held| {
                for state in State::ALL.into_iter().filter(|state| held.counts.get(*state) > 0) {
                    points.add(&[labels, &[("state", state.key())]].concat(), held.counts.get(state));
                }
            });
        },
    ),
    Metric::gauge(
        "tcpstate_program_recv_queue_bytes",
        OF_PROGRAM,
        "Bytes received that the program has not read yet; a FIN counts as one byte.",
        |facts, points| each_program(facts, |labels, held| points.add(labels, held.recv_q_bytes)),
    ),
    Metric::gauge(
        "tcpstate_program_send_queue_bytes",
        OF_PROGRAM,
        "Bytes written by the program that the peers have not acknowledged yet.",
        |facts, points| each_program(facts, |labels, held| points.add(labels, held.send_q_bytes)),
    ),
    Metric::gauge(
        "tcpstate_program_close_wait_oldest_seconds",
        OF_PROGRAM,
        "Age in CLOSE_WAIT of the oldest such connection, counted from when the exporter first saw it there.",
        |facts, points| {
            each_program(facts, |labels, held| {
                if let Some(ms) = held.close_wait_ms {
                    points.add(labels, seconds(ms));
                }
            });
        },
    ),
];

const OF_LISTENER: &[&str] = &["address", "port", "process", "netns"];

const LISTENERS: &[Metric] = &[
    Metric::gauge("tcpstate_listener_sockets", OF_LISTENER, "Sockets that listen on this address.", |facts, points| {
        each_listener(facts, |labels, listener| points.add(labels, u64::from(listener.queue.sockets)));
    }),
    Metric::gauge(
        "tcpstate_listener_accept_queue",
        OF_LISTENER,
        "Connections waiting for accept() in the fullest queue of this address.",
        |facts, points| {
            each_listener(facts, |labels, listener| points.add(labels, u64::from(listener.queue.fullest.0)));
        },
    ),
    Metric::gauge(
        "tcpstate_listener_accept_queue_limit",
        OF_LISTENER,
        "The limit (backlog) of that queue.",
        |facts, points| {
            each_listener(facts, |labels, listener| {
                if let Some(limit) = listener.queue.fullest.1 {
                    points.add(labels, u64::from(limit));
                }
            });
        },
    ),
    Metric::gauge(
        "tcpstate_listener_full_queues",
        OF_LISTENER,
        "Accept queues of this address that are full.",
        |facts, points| {
            each_listener(facts, |labels, listener| points.add(labels, u64::from(listener.queue.full)));
        },
    ),
    Metric::gauge(
        "tcpstate_listener_waiting",
        OF_LISTENER,
        "Connections waiting for accept() in all queues of this address together.",
        |f, p| {
            each_listener(f, |labels, listener| p.add(labels, listener.queue.waiting));
        },
    ),
    Metric::gauge(
        "tcpstate_listener_syn_recv",
        OF_LISTENER,
        "Connections in SYN_RECV: the handshake is not complete.",
        |facts, points| {
            each_listener(facts, |labels, listener| points.add(labels, listener.syn_recv));
        },
    ),
    Metric::counter(
        "tcpstate_listener_drops_total",
        OF_LISTENER,
        "Handshakes dropped since the listeners were opened.",
        |facts, points| {
            each_listener(facts, |labels, listener| {
                if let Some(drops) = listener.queue.drops {
                    points.add(labels, drops);
                }
            });
        },
    ),
    Metric::gauge(
        "tcpstate_listeners_not_shown",
        &[],
        "Listening addresses without series of their own, beyond `--top`.",
        |facts, points| {
            points.add_known(measures(facts).map(|m| m.other_listeners));
        },
    ),
];

const PORTS: &[Metric] = &[
    Metric::gauge(
        "tcpstate_local_ports_taken",
        &["source", "destination", "netns"],
        "Local ports that connect() cannot choose any more.",
        |facts, points| each_range(facts, |labels, ports| points.add(labels, u64::from(ports.blocked()))),
    ),
    Metric::gauge(
        "tcpstate_local_ports_usable",
        &["source", "destination", "netns"],
        "Local ports that connect() may choose from: ip_local_port_range without the reserved ones.",
        |facts, points| each_range(facts, |labels, ports| points.add(labels, u64::from(ports.usable))),
    ),
];

const LIMITS: &[Metric] = &[
    Metric::gauge("tcpstate_memory_bytes", &[], "Memory of all TCP sockets of the host.", |facts, points| {
        let limits = measures(facts).map(|m| m.limits);
        points.add_known(limits.and_then(|l| Some(l.memory?.used.saturating_mul(l.page_bytes))));
    }),
    Metric::gauge(
        "tcpstate_memory_limit_bytes",
        &["limit"],
        "The three limits of net.ipv4.tcp_mem, in bytes.",
        |facts, points| {
            let Some(limits) = measures(facts).map(|m| m.limits) else { return };
            let Some(memory) = limits.memory.and_then(|m| m.limits) else { return };
            for (name, pages) in [("min", memory.min), ("pressure", memory.pressure), ("max", memory.max)] {
                points.add(&[("limit", name)], pages.saturating_mul(limits.page_bytes));
            }
        },
    ),
    Metric::gauge(
        "tcpstate_orphans",
        &[],
        "Sockets of the host that their programs closed, not ended yet.",
        |facts, points| {
            points.add_known(measures(facts).and_then(|m| m.limits.orphans));
        },
    ),
    Metric::gauge(
        "tcpstate_orphans_limit",
        &[],
        "Number of orphans above which the kernel resets them (tcp_max_orphans).",
        |f, p| {
            p.add_known(measures(f).and_then(|m| m.limits.orphans_limit));
        },
    ),
    Metric::gauge(
        "tcpstate_time_wait_limit",
        &[],
        "How many sockets in TIME_WAIT the namespace may have (tcp_max_tw_buckets).",
        |f, p| {
            p.add_known(measures(f).and_then(|m| m.limits.time_wait_limit));
        },
    ),
];

const TRACED: &[Metric] = &[
    Metric::counter(
        "tcpstate_transitions_total",
        &["from", "to"],
        "Changes of state; `none` means that the socket did not exist before, or does not exist any more.",
        |facts, points| {
            let Some(matrix) = measures(facts).and_then(|m| m.transitions.as_ref()) else { return };
            let key = |state: Option<State>| state.map_or("none", State::key);
            for (from, to, n) in matrix.changes() {
                points.add(&[("from", key(from)), ("to", key(to))], n);
            }
        },
    ),
    Metric::counter(
        "tcpstate_connects_total",
        &[],
        "connect() calls that ended, successfully or not.",
        |facts, points| {
            points.add_known(facts.verdicts.and_then(|v| Some(v.traffic.as_ref()?.connects)));
        },
    ),
    Metric::counter(
        "tcpstate_connect_failures_total",
        &["error"],
        "connect() calls that failed, by how: refused, given_up, at_once, no_port, or the name of the errno.",
        |facts, points| {
            for (failure, n) in
                facts.verdicts.iter().filter_map(|v| v.traffic.as_ref()).flat_map(|t| &t.connects_failed)
            {
                points.add(&[("error", &failure.key())], *n);
            }
        },
    ),
    Metric::counter(
        "tcpstate_traced_resets_total",
        &["direction", "reason"],
        "Resets (RST) of connections, received, or sent with the reason; those that answer a SYN are not counted.",
        |facts, points| {
            let traffic = facts.verdicts.and_then(|v| v.traffic.as_ref()).filter(|t| t.resets_traced);
            for (reason, n) in traffic.iter().flat_map(|t| &t.resets) {
                match reason {
                    Some(reason) => points.add(&[("direction", "sent"), ("reason", reason)], *n),
                    None => points.add(&[("direction", "received")], *n),
                }
            }
        },
    ),
    Metric::counter("tcpstate_trace_lost_events_total", &[], "Events that the trace lost.", |facts, points| {
        points.add_known(facts.frame.and_then(|f| Some(f.trace.as_ref()?.lost)));
    }),
];

const FINDINGS: &[Metric] = &[
    Metric::gauge(
        "tcpstate_rules_timestamp_seconds",
        &[],
        "When the rules last ran, since the epoch.",
        |facts, points| {
            points.add_known(facts.verdicts.and_then(|v| v.judged_at_ms).map(seconds));
        },
    ),
    Metric::gauge("tcpstate_findings", &["severity"], "Present findings by severity.", |facts, points| {
        let Some(verdicts) = facts.verdicts.and_then(Verdicts::current) else { return };
        for severity in Severity::ALL {
            let present = verdicts.present().filter(|s| s.finding.severity == severity);
            points.add(&[("severity", severity.key())], present.count() as u64);
        }
    }),
    Metric::gauge(
        "tcpstate_finding",
        &[
            "id",
            "rule",
            "severity",
            "process",
            "pid",
            "unit",
            "container",
            "pod",
            "listener",
            "source",
            "destination",
            "object",
            "netns",
        ],
        "1 for each present finding; the labels say what and whom it is about.",
        |facts, points| {
            each_finding(facts, |finding, _| {
                let s = &finding.subject;
                let text = |value: Option<Endpoint>| value.map(|at| at.to_string()).unwrap_or_default();
                let several = measures(facts).is_some_and(|m| m.several);
                points.add(
                    &[
                        ("id", &finding.id),
                        ("rule", finding.rule),
                        ("severity", finding.severity.key()),
                        ("process", s.comm.as_deref().unwrap_or_default()),
                        ("pid", &s.pid.map(|pid| pid.to_string()).unwrap_or_default()),
                        ("unit", s.unit.as_deref().unwrap_or_default()),
                        ("container", s.container.as_deref().unwrap_or_default()),
                        ("pod", s.pod.as_deref().unwrap_or_default()),
                        ("listener", &text(s.listener)),
                        ("source", &s.source.map(|a| a.to_string()).unwrap_or_default()),
                        ("destination", &text(s.destination)),
                        ("object", s.object.as_deref().unwrap_or_default()),
                        ("netns", &netns(facts.names, s.netns.filter(|_| several))),
                    ],
                    1,
                );
            });
        },
    ),
    Metric::gauge(
        "tcpstate_finding_since_timestamp_seconds",
        &["id", "rule"],
        "When the finding was first seen, since the epoch.",
        |facts, points| {
            each_finding(facts, |finding, first_ms| {
                points.add(&[("id", &finding.id), ("rule", finding.rule)], seconds(first_ms));
            });
        },
    ),
    Metric::gauge(
        "tcpstate_finding_exhaustion_seconds",
        &["id", "rule"],
        "Least time until the resource of the finding is used up; only where that is proven.",
        |facts, points| {
            each_finding(facts, |finding, _| {
                if let Some(ms) = finding.exhausted_in_ms.and_then(crate::diagnose::Measure::proven) {
                    points.add(&[("id", &finding.id), ("rule", finding.rule)], seconds(ms));
                }
            });
        },
    ),
    Metric::gauge(
        "tcpstate_incident",
        &["id", "rule", "severity"],
        "Number of findings that one fault explains; the labels are of the finding that explains the others.",
        |facts, points| {
            let Some(verdicts) = facts.verdicts.and_then(Verdicts::current) else { return };
            for i in &verdicts.incidents {
                let labels = [("id", i.id.as_str()), ("rule", i.rule), ("severity", i.severity.key())];
                points.add(&labels, i.findings as u64);
            }
        },
    ),
];

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn measures<'a>(facts: &Facts<'a>) -> Option<&'a Measures> {
    facts.frame?.measures.as_deref()
}

/// A name where the namespace has one, else its inode; nothing where there is only one.
fn netns(names: &dyn Names, id: Option<NetnsId>) -> Cow<'static, str> {
    let Some(id) = id else { return Cow::Borrowed("") };
    Cow::Owned(names.netns(id).map_or_else(|| id.to_string(), |name| name.to_string()))
}

fn each_program(facts: &Facts<'_>, mut add: impl FnMut(&[(&'static str, &str)], &Held)) {
    let Some(measures) = measures(facts) else { return };
    for (whose, held) in &measures.programs {
        match whose {
            Whose::Program { comm, unit, container, pod } => {
                let text = |text: &Option<std::sync::Arc<str>>| text.clone().unwrap_or_default();
                let (unit, container, pod) = (text(unit), text(container), text(pod));
                let place = [("unit", &*unit), ("container", &*container), ("pod", &*pod)];
                add(&[&[("process", &**comm)], &place[..], &[("owner", "known")]].concat(), held);
            }
            Whose::Likely(comm) => add(&[("process", comm), ("owner", "likely")], held),
            Whose::Nobody(status) => add(&[("owner", status.key())], held),
        }
    }
    if let Some(held) = &measures.other_programs {
        add(&[("process", "other"), ("owner", "other")], held);
    }
}

fn each_listener(facts: &Facts<'_>, mut add: impl FnMut(&[(&'static str, &str)], &crate::watch::ListenerSum)) {
    let Some(measures) = measures(facts) else { return };
    for listener in &measures.listeners {
        let (address, port) = (listener.local.addr.to_string(), listener.local.port.to_string());
        let netns = netns(facts.names, listener.netns.filter(|_| measures.several));
        let comm = listener.comm.as_deref().unwrap_or_default();
        add(&[("address", &address), ("port", &port), ("process", comm), ("netns", &netns)], listener);
    }
}

fn each_range(facts: &Facts<'_>, mut add: impl FnMut(&[(&'static str, &str)], &crate::aggregate::PortUse)) {
    let Some(measures) = measures(facts) else { return };
    let most = if facts.run.with_peers { usize::MAX } else { 1 };
    for ports in measures.ports.iter().take(most) {
        if facts.run.with_peers {
            let (source, destination) = (ports.source.to_string(), ports.destination.to_string());
            let netns = netns(facts.names, ports.netns.filter(|_| measures.several));
            add(&[("source", &source), ("destination", &destination), ("netns", &netns)], ports);
        } else {
            add(&[], ports);
        }
    }
}

/// Each finding that is there now, and when it was first seen.
fn each_finding(facts: &Facts<'_>, mut add: impl FnMut(&Finding, u64)) {
    let Some(verdicts) = facts.verdicts.and_then(Verdicts::current) else { return };
    for sighting in verdicts.present() {
        add(&sighting.finding, sighting.first_ms);
    }
}
