//! A kernel setting on this host is dangerous for TCP, has no effect, or does not do what its name suggests.
//!
//! Input: the settings of the namespaces that were read, and what grew between two samples. Output: one finding per
//! dangerous or useless setting. Not here: a bundle of settings to copy.
//!
#![doc = include_str!("../../../docs/rules/sysctl-hazard.md")]

use std::collections::BTreeMap;

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::snapshot::Netns;
use crate::model::sysctl::{RESERVED_PORTS, Sysctl, TCP_FIN_TIMEOUT_MS, TCP_RTO_MAX_MS};
use crate::model::{Process, Socket, State};
use crate::text;

pub(super) const RULE: Rule = rule!(
    "sysctl-hazard",
    System,
    OneOrTwo,
    "a kernel setting is dangerous or has no effect",
    check,
    [
        LISTENERS,
        TW_RECYCLE,
        TW_REUSE,
        SYNCOOKIES,
        TW_BUCKETS,
        RETRIES2,
        FIN_TIMEOUT,
        ABORT_ON_OVERFLOW,
        SOMAXCONN,
        SYN_BACKLOG
    ]
)
.title("risky setting")
.identity(Identity::Object);

const FIND_IT: &str = "Find what sets it: `grep -rs {name} /etc/sysctl.conf /etc/sysctl.d /run/sysctl.d`";
const ONE_CHANGE: &str = "Don't replace one bundle of settings with another: change one thing for one measured symptom";

const LISTENERS: Text = Text {
    why: "While the service is down an outgoing connection of any program may take its port. The service then fails \
          to start with EADDRINUSE, although nothing else listens there.",
    remedy: &[
        "Move the service to a port outside the range",
        "Or reserve the port, beside those that are reserved already: net.ipv4.ip_local_reserved_ports={ports}",
        "Nothing to do for a port that the kernel chose (a program that listens on port 0)",
    ],
    avoid: &["Don't narrow ip_local_port_range for this: outgoing connections need it"],
};

const TW_RECYCLE: Text = Text {
    why: "The kernel then remembers one timestamp per peer address and drops SYNs that look older. Clients behind \
          one NAT have different clocks, so some of them cannot connect; Linux 4.12 removed the setting for that.",
    remedy: &["Set tcp_tw_recycle to 0 and remove the line that sets it", FIND_IT],
    avoid: &["Don't set tcp_tw_recycle, ever", ONE_CHANGE],
};

const TW_REUSE: Text = Text {
    why: "A port in TIME_WAIT may be taken again only when timestamps tell old segments from new ones. Without them \
          the setting does nothing.",
    remedy: &[
        "Set net.ipv4.tcp_timestamps back to 1",
        "Reuse connections, so that ports need not be taken again",
        FIND_IT,
    ],
    avoid: &["Don't turn timestamps off", ONE_CHANGE],
};

const SYNCOOKIES: Text = Text {
    why: "With cookies a listener answers SYNs although its queue is full; without them it drops them, and a small \
          flood shuts out everybody.",
    remedy: &["Set tcp_syncookies back to 1", FIND_IT],
    avoid: &["Don't turn SYN cookies off", ONE_CHANGE],
};

const TW_BUCKETS: Text = Text {
    why: "Beyond this number connections are closed without TIME_WAIT, so late segments may reach a new connection. \
          A TIME_WAIT costs about 300 bytes: lowering the limit saves nothing.",
    remedy: &["Set tcp_max_tw_buckets back to the default", "Reduce the churn: see time-wait-bucket-overflow", FIND_IT],
    avoid: &["Don't lower tcp_max_tw_buckets to clean up TIME_WAIT", ONE_CHANGE],
};

const RETRIES2: Text = Text {
    why: "It says how often a segment is repeated before the connection ends. RFC 1122 asks for 100 s at least, \
          which takes 8.",
    remedy: &[
        "Set tcp_retries2 to 8 or more, 15 by default",
        "Set TCP_USER_TIMEOUT in the application that wants to know sooner",
        FIND_IT,
    ],
    avoid: &["Don't set tcp_retries2 below 8", ONE_CHANGE],
};

const FIN_TIMEOUT: Text = Text {
    why: "Above 60 s the kernel keeps the full socket for what exceeds 60 s, and then a small one for as long again \
          (tcp_keepalive_timer). It has nothing to do with TIME_WAIT, which lasts 60 s whatever is set.",
    remedy: &["Set tcp_fin_timeout back to 60", "For a longer wait set TCP_LINGER2 on the socket", FIND_IT],
    avoid: &["Don't set tcp_fin_timeout above 60, and don't lower it for the sake of TIME_WAIT", ONE_CHANGE],
};

const ABORT_ON_OVERFLOW: Text = Text {
    why: "When the accept queue is full the kernel otherwise ignores the client's ACK, and the client tries again.",
    remedy: &["Set tcp_abort_on_overflow back to 0", "Make accept() faster: see accept-queue-overflow", FIND_IT],
    avoid: &["Don't set tcp_abort_on_overflow as a fix for a full queue", ONE_CHANGE],
};

const SOMAXCONN: Text = Text {
    why: "The queue of a listener is the smaller of somaxconn and the argument of listen(), at the time of the call. \
          A burst of clients beyond it is dropped.",
    remedy: &[
        "Raise somaxconn together with the backlog of the application, then restart the application: only listen() \
         reads it",
        FIND_IT,
    ],
    avoid: &["Don't raise somaxconn alone: it needs the application's own backlog and a new listen()", ONE_CHANGE],
};

const SYN_BACKLOG: Text = Text {
    why: "With cookies a SYN queue is limited by the backlog of its listener; this number counts only with cookies \
          off (tcp_conn_request).",
    remedy: &[
        "Set tcp_max_syn_backlog back to the default: it changes nothing",
        "If the SYN queue is full raise the backlog and net.core.somaxconn: see syn-queue-pressure",
        FIND_IT,
    ],
    avoid: &["Don't turn SYN cookies off so that it takes effect", ONE_CHANGE],
};

/// RFC 1122 asks for 100 s of retransmissions; so many give 102 s (`tcp_model_timeout`).
const RETRIES2_MIN: u64 = 8;
const FIN_TIMEOUT_S: u64 = TCP_FIN_TIMEOUT_MS / 1000;
/// The default of `somaxconn` before Linux 5.4.
const OLD_SOMAXCONN: u64 = 128;
const LISTENERS_NAMED: usize = 10;

/// A setting that is dangerous, or that does nothing.
struct Hazard {
    sysctl: Sysctl,
    /// Of a value and its namespace.
    is_bad: fn(u64, &Netns) -> bool,
    /// After the name and the value.
    does: fn(u64) -> String,
    harm: Harm,
    text: &'static Text,
}

/// What shows that a setting hurts now. Without it the finding is an explanation.
enum Harm {
    /// Nothing that can be seen here.
    None,
    /// It hurts clients of any server here.
    Servers(Severity),
    /// This counter grew: what it counts, one and many.
    Counter(Counter, Severity, [&'static str; 2]),
    /// Handshakes met a full queue and were reset.
    Overflow(Severity),
    /// A queue that the setting caps is over its limit.
    CappedQueue(Severity),
}

const HAZARDS: &[Hazard] = &[
    Hazard {
        sysctl: Sysctl::Ipv4TcpTwRecycle,
        is_bad: |value, _| value > 0,
        does: |_| "drops clients behind NAT".into(),
        harm: Harm::Servers(Severity::Warning),
        text: &TW_RECYCLE,
    },
    Hazard {
        sysctl: Sysctl::Ipv4TcpTwReuse,
        is_bad: |value, netns| value == 1 && netns.sysctl(Sysctl::Ipv4TcpTimestamps) == Some(0),
        does: |_| "has no effect, because tcp_timestamps is 0".into(),
        harm: Harm::None,
        text: &TW_REUSE,
    },
    Hazard {
        sysctl: Sysctl::Ipv4TcpSyncookies,
        is_bad: |value, _| value == 0,
        does: |_| "lets a full SYN queue drop real clients".into(),
        harm: Harm::Counter(Counter::TcpExtTcpReqQFullDrop, Severity::High, ["SYN was dropped", "SYNs were dropped"]),
        text: &SYNCOOKIES,
    },
    Hazard {
        sysctl: Sysctl::Ipv4TcpMaxTwBuckets,
        is_bad: |value, netns| half_of_buckets(netns).is_some_and(|half| value < half),
        does: |_| "makes connections lose their TIME_WAIT".into(),
        // Its harm has a rule of its own.
        harm: Harm::None,
        text: &TW_BUCKETS,
    },
    Hazard {
        sysctl: Sysctl::Ipv4TcpRetries2,
        is_bad: |value, netns| {
            value < RETRIES2_MIN && netns.sysctl(Sysctl::Ipv4TcpRtoMaxMs).is_none_or(|ms| ms == TCP_RTO_MAX_MS)
        },
        does: |_| "ends connections in short outages".into(),
        harm: Harm::Counter(
            Counter::TcpExtTcpAbortOnTimeout,
            Severity::Warning,
            ["connection was ended", "connections were ended"],
        ),
        text: &RETRIES2,
    },
    Hazard {
        sysctl: Sysctl::Ipv4TcpFinTimeout,
        is_bad: |value, _| value > FIN_TIMEOUT_S,
        does: |value| format!("lets closed sockets wait for about {} s and not {value} s", 2 * (value - FIN_TIMEOUT_S)),
        harm: Harm::None,
        text: &FIN_TIMEOUT,
    },
    Hazard {
        sysctl: Sysctl::Ipv4TcpAbortOnOverflow,
        is_bad: |value, _| value > 0,
        does: |_| "resets clients that meet a full accept queue, and would have tried again".into(),
        harm: Harm::Overflow(Severity::High),
        text: &ABORT_ON_OVERFLOW,
    },
    Hazard {
        sysctl: Sysctl::CoreSomaxconn,
        is_bad: |value, _| value <= OLD_SOMAXCONN,
        does: |_| "caps every accept queue, whatever the programs ask for".into(),
        harm: Harm::CappedQueue(Severity::Warning),
        text: &SOMAXCONN,
    },
    Hazard {
        sysctl: Sysctl::Ipv4TcpMaxSynBacklog,
        is_bad: |value, netns| {
            netns.sysctl(Sysctl::Ipv4TcpSyncookies).is_some_and(|mode| mode > 0)
                && default_syn_backlog(netns).is_some_and(|default| value > default)
        },
        does: |_| "was raised and has no effect while SYN cookies are on".into(),
        harm: Harm::None,
        text: &SYN_BACKLOG,
    },
];

impl Harm {
    /// How bad it is now, and what shows it.
    fn seen(&self, view: &View<'_>, netns: &Netns, value: u64) -> Option<(Severity, String)> {
        let listeners = || view.active().filter(|s| s.state == State::Listen && s.netns == netns.inode);
        match *self {
            Harm::None => None,
            Harm::Servers(severity) => {
                let n = listeners().filter(|s| !s.local.addr.is_loopback()).count();
                (n > 0).then(|| (severity, text::count(n as u64, "listener is concerned", "listeners are concerned")))
            }
            Harm::Counter(counter, severity, [one, many]) => {
                let n = view.delta(netns.inode, counter).filter(|n| *n > 0)?;
                let time = text::duration(view.interval_ms()?);
                Some((severity, format!("{} in the last {time}", text::count(n, one, many))))
            }
            Harm::Overflow(severity) => {
                // A SYN that meets a full queue is dropped all the same, and clients reset embryonic connections too.
                let all = [Counter::TcpExtListenOverflows, Counter::TcpExtEmbryonicRsts, Counter::TcpOutRsts];
                let least = all.into_iter().map(|counter| view.delta(netns.inode, counter)).min()?;
                let n = least.filter(|n| *n > 0)?;
                let many = text::count(n, "handshake was reset", "handshakes were reset");
                Some((severity, format!("up to {many} in the last {}", text::duration(view.interval_ms()?))))
            }
            Harm::CappedQueue(severity) => {
                // A queue with a smaller limit asked for that.
                let full = |s: &&Socket| s.backlog().is_some_and(|max| u64::from(max) == value && s.recv_q_bytes > max);
                let at = listeners().find(full)?.local;
                Some((severity, format!("that of {at} is full")))
            }
        }
    }
}

/// What the kernel gives each namespace: half of the hash buckets (`tcp_sk_init`).
fn half_of_buckets(netns: &Netns) -> Option<u64> {
    netns.sysctl(Sysctl::Ipv4TcpEhashEntries).map(|n| n / 2)
}

/// A 128th of the hash buckets (`tcp_sk_init`).
fn default_syn_backlog(netns: &Netns) -> Option<u64> {
    netns.sysctl(Sysctl::Ipv4TcpEhashEntries).map(|n| (n / 128).max(128))
}

/// What this namespace would have if nobody had set anything.
fn default_of(sysctl: Sysctl, netns: &Netns) -> Option<u64> {
    match sysctl {
        Sysctl::Ipv4TcpMaxTwBuckets => half_of_buckets(netns),
        Sysctl::Ipv4TcpMaxSynBacklog => default_syn_backlog(netns),
        other => other.default_value(),
    }
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    if view.now.netns.iter().all(|n| n.sysctls.is_empty()) {
        return Outcome::not_checked("no setting below /proc/sys/net could be read");
    }
    let mut findings = Vec::new();
    for netns in &view.now.netns {
        findings.extend(HAZARDS.iter().filter_map(|hazard| finding(view, netns, hazard)));
        findings.extend(listeners_in_range(view, netns));
    }
    Outcome::findings(findings)
}

/// `net.ipv4.tcp_tw_reuse` for `ipv4/tcp_tw_reuse`.
fn dotted(file: &str) -> String {
    format!("net.{}", file.replace('/', "."))
}

fn finding(view: &View<'_>, netns: &Netns, hazard: &Hazard) -> Option<Finding> {
    let value = netns.sysctl(hazard.sysctl).filter(|value| (hazard.is_bad)(*value, netns))?;
    let name = dotted(hazard.sysctl.name());
    let default = default_of(hazard.sysctl, netns);
    let usual = default.map_or_else(String::new, |d| format!(" (default {d})"));
    let (severity, harm) = match hazard.harm.seen(view, netns, value) {
        Some((severity, harm)) => (severity, format!(": {harm}")),
        None => (Severity::Info, String::new()),
    };
    let summary = format!("{name} = {value}{usual} {}{harm}", (hazard.does)(value));
    let finding = RULE
        .finding(severity, 0.99, summary)
        .text(hazard.text)
        .fill("name", &name)
        .because("the value was read inside the namespace that is diagnosed")
        .subject(Subject { netns: netns.inode, object: Some(name.clone()), ..Subject::default() })
        .evidence("value", Evidence::Count(value))
        .evidence("default", Evidence::count(default))
        .evidence("file", Evidence::Text(format!("/proc/sys/net/{}", hazard.sysctl.name())))
        .next(format!("sysctl {name}"));
    Some(finding)
}

/// Listeners on ports that an outgoing connection may take.
fn listeners_in_range(view: &View<'_>, netns: &Netns) -> Option<Finding> {
    // Without the sysctl there is no range, only a guess at it.
    netns.sysctls.get(Sysctl::Ipv4IpLocalPortRange)?;
    let (low, high) = netns.port_range();
    let mut listeners: BTreeMap<u16, Option<&Process>> = BTreeMap::new();
    let mut rows = Vec::new();
    for socket in view.active().filter(|s| s.state == State::Listen && s.netns == netns.inode) {
        let port = socket.local.port;
        if (low..=high).contains(&port) && !netns.is_reserved(port) {
            let owner = view.holder(socket);
            let known = listeners.entry(port).or_insert(owner);
            *known = known.or(owner);
            rows.push(socket);
        }
    }
    let (first, owner) = listeners.first_key_value()?;
    let n = listeners.len() as u64;
    let name = |owner: Option<&Process>| owner.map_or_else(|| "?".to_owned(), text::name);
    let line = |(port, owner): (&u16, &_)| format!("{port}: {}", name(*owner));
    let list = listeners.iter().take(LISTENERS_NAMED).map(line).collect();
    let who = match (n, owner) {
        (1, Some(process)) => format!("port {first} of {}", text::name(process)),
        (1, None) => format!("listening port {first}"),
        _ => format!("{n} listening ports, such as {first} of {},", name(*owner)),
    };
    let (lies, is) = if n == 1 { ("lies", "is") } else { ("lie", "are") };
    let object = dotted(RESERVED_PORTS);
    let ports = listeners.keys().take(LISTENERS_NAMED).map(ToString::to_string).collect::<Vec<_>>().join(",");
    Some(
        RULE.finding(
            Severity::Info,
            0.99,
            format!("{who} {lies} in the range of outgoing connections {low}-{high} and {is} not reserved"),
        )
        .because(
            "the range, the reserved ports and the listeners were read; whether a port was chosen on purpose is \
                  not known",
        )
        .subject(Subject { netns: netns.inode, object: Some(object), ..Subject::default() })
        .about(rows)
        .evidence("count", Evidence::Count(n))
        .evidence("listeners", Evidence::List(list))
        .evidence("port_range", Evidence::Text(format!("{low}-{high}")))
        .evidence("file", Evidence::Text(format!("/proc/sys/net/{RESERVED_PORTS}")))
        .fill("ports", ports)
        .next("tcpstate list -l -p"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, listen};

    /// What a host of today has.
    fn defaults() -> World {
        let mut world = World::new();
        for (name, value) in [
            (Sysctl::Ipv4TcpTwReuse, 2),
            (Sysctl::Ipv4TcpTimestamps, 1),
            (Sysctl::Ipv4TcpSyncookies, 1),
            (Sysctl::Ipv4TcpEhashEntries, 262_144),
            (Sysctl::Ipv4TcpMaxTwBuckets, 131_072),
            (Sysctl::Ipv4TcpMaxSynBacklog, 2048),
            (Sysctl::Ipv4TcpFinTimeout, 60),
            (Sysctl::Ipv4TcpAbortOnOverflow, 0),
            (Sysctl::Ipv4TcpRetries2, 15),
            (Sysctl::Ipv4TcpRtoMaxMs, 120_000),
            (Sysctl::Ipv4TcpOrphanRetries, 0),
            (Sysctl::CoreSomaxconn, 4096),
        ] {
            world.sysctl(name, &[value]);
        }
        world.sysctl(Sysctl::Ipv4IpLocalPortRange, &[32_768, 60_999]);
        world.add(listen("0.0.0.0:80", 0, 128)).hold(812, "server", 3, 80 << 16);
        world
    }

    fn found(world: &World) -> Vec<(Severity, String)> {
        let findings = world.check(check).findings;
        findings.into_iter().map(|f| (f.severity, f.subject.object.unwrap())).collect()
    }

    #[test]
    fn the_defaults_are_no_hazard() {
        assert_eq!(defaults().check(check), Outcome::default());
    }

    #[test]
    fn each_hazard_has_its_severity_and_its_near_miss() {
        use Severity::{Info, Warning};
        for (name, bad, near, severity) in [
            (Sysctl::Ipv4TcpTwRecycle, 1, 0, Warning),
            (Sysctl::Ipv4TcpSyncookies, 0, 2, Info),
            (Sysctl::Ipv4TcpMaxTwBuckets, 131_071, 131_072, Info),
            (Sysctl::Ipv4TcpRetries2, 7, 8, Info),
            (Sysctl::Ipv4TcpFinTimeout, 61, 5, Info),
            (Sysctl::Ipv4TcpAbortOnOverflow, 1, 0, Info),
            (Sysctl::CoreSomaxconn, 128, 129, Info),
            (Sysctl::Ipv4TcpMaxSynBacklog, 2049, 128, Info),
        ] {
            assert_eq!(found(defaults().sysctl(name, &[bad])), [(severity, dotted(name.name()))], "{name} = {bad}");
            assert_eq!(found(defaults().sysctl(name, &[near])), [], "{name} = {near}");
        }
    }

    #[test]
    fn settings_are_judged_together_where_they_belong_together() {
        let mut inert = defaults();
        inert.sysctl(Sysctl::Ipv4TcpTwReuse, &[1]);
        assert_eq!(found(&inert), []);
        inert.sysctl(Sysctl::Ipv4TcpTimestamps, &[0]);
        assert_eq!(found(&inert), [(Severity::Info, "net.ipv4.tcp_tw_reuse".into())]);
        // A short maximum of the timeout was chosen with its number of retries.
        let mut deliberate = defaults();
        assert_eq!(
            found(deliberate.sysctl(Sysctl::Ipv4TcpRetries2, &[5]).sysctl(Sysctl::Ipv4TcpRtoMaxMs, &[10_000])),
            []
        );
        // It counts when cookies are off, which is the worse hazard.
        let mut off = defaults();
        off.sysctl(Sysctl::Ipv4TcpMaxSynBacklog, &[8192]).sysctl(Sysctl::Ipv4TcpSyncookies, &[0]);
        assert_eq!(found(&off), [(Severity::Info, "net.ipv4.tcp_syncookies".into())]);
    }

    #[test]
    fn a_small_somaxconn_warns_beside_a_full_queue_that_it_caps() {
        let mut world = defaults();
        world.sysctl(Sysctl::CoreSomaxconn, &[128]).now.sockets[0].recv_q_bytes = 129;
        assert_eq!(found(&world), [(Severity::Warning, "net.core.somaxconn".into())]);
        world.now.sockets[0].recv_q_bytes = 128;
        assert_eq!(found(&world)[0].0, Severity::Info);
        // The program asked for 5.
        world.now.sockets[0] = listen("0.0.0.0:80", 6, 5);
        assert_eq!(found(&world)[0].0, Severity::Info);
    }

    #[test]
    fn what_grows_between_the_samples_shows_the_harm() {
        for (name, bad, counter, severity, said) in [
            (Sysctl::Ipv4TcpSyncookies, 0, Counter::TcpExtTcpReqQFullDrop, Severity::High, "3 SYNs were dropped"),
            (
                Sysctl::Ipv4TcpRetries2,
                5,
                Counter::TcpExtTcpAbortOnTimeout,
                Severity::Warning,
                "3 connections were ended",
            ),
        ] {
            let mut world = defaults();
            world.sysctl(name, &[bad]).counter(counter, 4).later(2000);
            assert_eq!(found(&world)[0].0, Severity::Info, "{name:?} at rest");
            world.counter(counter, 7);
            let finding = world.check(check).findings.remove(0);
            assert_eq!(finding.severity, severity, "{name:?}");
            assert!(finding.summary.contains(&format!("{said} in the last 2.0 s")), "{}", finding.summary);
        }
    }

    #[test]
    fn full_queues_are_harm_of_resets_only_where_resets_were_sent() {
        let all = [Counter::TcpExtListenOverflows, Counter::TcpExtEmbryonicRsts, Counter::TcpOutRsts];
        for (to, severity) in
            [([111, 2, 9], Severity::High), ([111, 2, 0], Severity::Info), ([111, 0, 9], Severity::Info)]
        {
            let mut world = defaults();
            world.sysctl(Sysctl::Ipv4TcpAbortOnOverflow, &[1]);
            for counter in all {
                world.counter(counter, 0);
            }
            world.later(2000);
            for (counter, n) in all.into_iter().zip(to) {
                world.counter(counter, n);
            }
            let finding = world.check(check).findings.remove(0);
            assert_eq!(finding.severity, severity, "{to:?}");
            let said = finding.summary.contains("up to 2 handshakes were reset in the last 2.0 s");
            assert_eq!(said, severity == Severity::High, "{}", finding.summary);
        }
    }

    #[test]
    fn listeners_in_the_range_are_listed_unless_reserved() {
        let mut world = defaults();
        world.add(listen("0.0.0.0:50000", 0, 128)).hold(812, "server", 4, 50_000 << 16);
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!(finding.severity, Severity::Info);
        assert_eq!(
            finding.summary,
            "port 50000 of server (812) lies in the range of outgoing connections 32768-60999 and is not reserved"
        );
        world.add(listen("[::]:50001", 0, 128));
        assert!(world.check(check).findings[0].summary.starts_with(
            "2 listening ports, such as 50000 of server \
                                                                    (812),"
        ));
        world.now.netns[0].reserved_ports = vec![(50_000, 50_001)];
        assert_eq!(found(&world), []);
    }

    #[test]
    fn the_sentence_tells_value_default_and_effect() {
        let outcome = defaults().sysctl(Sysctl::Ipv4TcpFinTimeout, &[65]).check(check);
        assert_eq!(
            outcome.findings[0].summary,
            "net.ipv4.tcp_fin_timeout = 65 (default 60) lets closed sockets wait for about 10 s and not 65 s"
        );
    }

    #[test]
    fn nothing_readable_is_not_checked() {
        assert!(World::new().check(check).not_checked.is_some());
    }
}
