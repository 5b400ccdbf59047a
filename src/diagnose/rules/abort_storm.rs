//! An unusual share of connections ends by reset instead of an orderly close.
//!
//! Input: the growth of the counters of resets and of new connections. Output: one finding per namespace, with the split
//! by cause. Not here: a single reset; harm, which counters cannot tell; and whose connections they were is a guess, and
//! said to be one.
//!
#![doc = include_str!("../../../docs/rules/abort-storm.md")]

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::listener_owner;
use crate::diagnose::measure::Share;
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::snapshot::Netns;
use crate::model::{NetnsId, Process, Socket, State};
use crate::text;

pub(super) const RULE: Rule = rule!("abort-storm", System, Two, "many connections end by reset", check, [TEXT])
    .title("resets")
    .identity(Identity::Object)
    .causes(CAUSES);

const READ_TO_EOF: &str = "Read to EOF before close(): a server that answers an error without reading the rest of the request resets the \
     connection";
const SHUTDOWN_FIRST: &str = "Or call shutdown() for writing, read for a short time, then close()";
const NO_LINGER: &str = "Remove SO_LINGER with a time of zero, and close only when the peer sends no more";
const ON_PURPOSE: &str = "If a load tester or a health check does it on purpose, nothing is wrong";
const VANISHED: &str = "See dead-peer-retransmit for which peers are silent, and check the path to them, filters on it too: a keepalive \
     probe is answered by a segment without data";
const NO_MEMORY: &str = "See orphan-limit and tcp-memory-pressure for what runs out";
const NO_LINGER2: &str = "Remove a negative TCP_LINGER2 from the program";
const PEERS: &str = "Check the peers: a server that restarts or closes with unread data, or the idle limit of a load balancer; if none \
     sends them, a device between does";
const RETIRE: &str = "Retire listeners in order: stop accepting, drain the queue, then close; tcp_migrate_req=1 helps with \
     SO_REUSEPORT";

const TEXT: Text = Text {
    why: "FIN says that everything was sent; RST says forget it, so data in flight, and data that was received and \
          not yet read, may be lost. Users see \"connection reset by peer\", often at the end of a response.",
    remedy: &[READ_TO_EOF, SHUTDOWN_FIRST, NO_LINGER, ON_PURPOSE, VANISHED, NO_MEMORY, NO_LINGER2, PEERS, RETIRE],
    avoid: &[
        "Don't drop RSTs in a firewall: the other side then waits for minutes",
        "Don't use SO_LINGER with a time of zero to avoid TIME_WAIT: it resets, and loses data",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "closed-unread",
        text: "local programs closed with unread data",
        predicts: "TCPAbortOnClose grows with the resets",
        refuted_by: "TCPAbortOnClose does not grow",
        decided_by: "`strace -e trace=read,recvfrom,close` of the program, or Recv-Q just before the end",
    },
    Cause {
        id: "closed-by-reset",
        text: "local programs closed by reset (linger 0), or while data still came",
        predicts: "TCPAbortOnData grows with the resets",
        refuted_by: "TCPAbortOnData does not grow",
        decided_by: "SO_LINGER in the program; health checks and load testers set it on purpose",
    },
    Cause {
        id: "peers-silent",
        text: "peers stopped answering, or their answers were lost on the way",
        predicts: "TCPAbortOnTimeout grows",
        refuted_by: "TCPAbortOnTimeout does not grow",
        decided_by: "dead-peer-retransmit and fin-wait1-stuck, which name those peers; a filter that drops segments without data, as \
                     answers to keepalive probes are",
    },
    Cause {
        id: "no-memory",
        text: "the kernel had no memory, or too many orphans",
        predicts: "TCPAbortOnMemory grows",
        refuted_by: "TCPAbortOnMemory does not grow",
        decided_by: "orphan-limit and tcp-memory-pressure",
    },
    Cause {
        id: "linger-expired",
        text: "TCP_LINGER2 was negative",
        predicts: "TCPAbortOnLinger grows",
        refuted_by: "TCPAbortOnLinger does not grow",
        decided_by: "TCP_LINGER2 in the program",
    },
    Cause {
        id: "peers-reset",
        text: "the peers sent the resets, or a device between",
        predicts: "more connections end by reset than the counters of this host explain",
        refuted_by: "the counters of this host explain every reset",
        decided_by: "`tcpdump 'tcp[tcpflags] & tcp-rst != 0'`, or the tracepoint tcp:tcp_receive_reset",
    },
];

/// What this host counts when it ends a connection by reset: the name of the evidence, the counter, the cause.
const COUNTERS: [(&str, Counter, &str); 5] = [
    ("closed_with_unread_data", Counter::TcpExtTcpAbortOnClose, "closed-unread"),
    ("closed_by_reset", Counter::TcpExtTcpAbortOnData, "closed-by-reset"),
    ("timed_out", Counter::TcpExtTcpAbortOnTimeout, "peers-silent"),
    ("no_memory", Counter::TcpExtTcpAbortOnMemory, "no-memory"),
    ("linger_expired", Counter::TcpExtTcpAbortOnLinger, "linger-expired"),
];

/// What helps against each cause.
fn steps(cause: &str) -> &'static [&'static str] {
    match cause {
        "closed-unread" => &[READ_TO_EOF, SHUTDOWN_FIRST],
        "closed-by-reset" => &[NO_LINGER, ON_PURPOSE],
        "peers-silent" => &[VANISHED],
        "no-memory" => &[NO_MEMORY],
        "linger-expired" => &[NO_LINGER2],
        _ => &[PEERS, RETIRE],
    }
}

/// A connection with data this recently, or one that is being made, shows that the namespace is in use.
const IN_USE_MS: u32 = 10_000;
/// Resets since the namespace was made that ask for a second sample by themselves.
const MANY_RESETS: u64 = 20;

pub(super) fn check(view: &View<'_>) -> Outcome {
    if view.before.is_none() {
        return match view.now.netns.iter().find_map(|n| suspicion(view, n)) {
            Some(why) => Outcome::wants_second(why),
            None => Outcome::default(),
        };
    }
    let findings = view.now.netns.iter().filter_map(|n| finding(view, n));
    Outcome::findings(findings.collect())
}

/// What a single sample has: totals since the namespace was made, and whether anything goes on now.
fn suspicion(view: &View<'_>, netns: &Netns) -> Option<String> {
    let resets = netns.counter(Counter::TcpEstabResets)?;
    let opened = netns.counter(Counter::TcpActiveOpens)? + netns.counter(Counter::TcpPassiveOpens)?;
    let percent = if opened == 0 { 100.0 } else { resets as f64 * 100.0 / opened as f64 };
    // Connections that end by reset leave no row behind, so that a storm may show in no row: a history is worth a look.
    let history = resets >= MANY_RESETS;
    if resets == 0 || percent < view.thresholds.abort_percent || !(history || is_in_use(view, netns.inode)) {
        return None;
    }
    Some(format!("{percent:.0} % of all connections so far ended by reset"))
}

fn is_in_use(view: &View<'_>, netns: Option<NetnsId>) -> bool {
    let recent = |age: Option<u32>| age.is_some_and(|ms| ms < IN_USE_MS);
    view.now.sockets.iter().filter(|s| s.netns == netns).any(|s| match s.state {
        State::SynSent | State::SynRecv => true,
        State::Listen => false,
        _ => s.info.as_deref().is_some_and(|i| recent(i.last_data_sent_ms()) && recent(i.last_data_recv_ms())),
    })
}

fn finding(view: &View<'_>, netns: &Netns) -> Option<Finding> {
    let grown = |counter| view.delta(netns.inode, counter);
    let resets = grown(Counter::TcpEstabResets)?;
    let per_second = view.rate(netns.inode, Counter::TcpEstabResets)?;
    let opened = grown(Counter::TcpActiveOpens)? + grown(Counter::TcpPassiveOpens)?;
    // Connections that were opened earlier may end now: more than were opened is no share of them.
    let share = Share::of(resets, opened);
    let percent = share.map_or(100.0, Share::percent);
    if resets == 0 || percent < view.thresholds.abort_percent || per_second < view.thresholds.abort_per_second {
        return None;
    }
    let split = COUNTERS.map(|(name, counter, cause)| (name, cause, grown(counter)));
    // What no counter of ours explains came from the peers. One that timed out or was killed without memory need not
    // have been open, so that the parts may exceed the whole.
    let ours: u64 = split.iter().filter_map(|(_, _, n)| *n).sum();
    let received = resets.saturating_sub(ours);
    let causes = causes(&split, received);
    // Where both ends are on this host the same reset is sent by one and received by the other.
    let largest = split.iter().filter_map(|(_, cause, n)| Some((*cause, (*n)?))).max_by_key(|(_, n)| *n);
    let largest = largest.filter(|(_, n)| *n > 0 && *n * 10 >= received * 9).map_or("peers-reset", |(cause, _)| cause);
    let cause = CAUSES.iter().find(|c| c.id == largest).map_or("", |c| c.text);
    let of = share.map_or_else(String::new, |share| format!(", {share} of those opened"));
    let mut summary = format!(
        "{} ended by reset in {} ({per_second:.1} per second{of}): mostly {cause}",
        text::count(resets, "connection", "connections"),
        text::duration(view.interval_ms()?)
    );
    let suspects = vanished(view, netns.inode);
    let listening = listening(view, netns.inode);
    let mut first = suspects.first().map(|(process, _)| *process);
    let mut because = "the kernel's counters are exact; whose connections they were they do not say (0.5)".to_owned();
    // HAProxy closes connections to its servers with SO_LINGER 0, to spare its ports.
    if let ("closed-by-reset", Some(proxy)) = (largest, listening.iter().find(|p| p.comm == "haproxy")) {
        first = Some(proxy);
        summary.push_str(purpose_of_haproxy(view, netns.inode));
    } else if first.is_none()
        && grown(Counter::TcpPassiveOpens)? * 10 >= opened * 9
        && let Some(only) = listening.first().filter(|p| listening.iter().all(|o| o.comm == p.comm))
    {
        first = Some(only);
        because = format!("the kernel's counters are exact; {} is the only program that listens here (0.5)", only.comm);
    }
    let subject = match first {
        Some(process) => view.subject_of(process, netns.inode),
        None => Subject { netns: netns.inode, ..Subject::default() },
    };
    let mut finding = RULE
        .finding(Severity::Info, 0.8, summary)
        .because(because)
        .causes(causes)
        .subject(subject)
        .evidence("resets", Evidence::Count(resets))
        .evidence("resets_per_second", Evidence::PerSecond(per_second))
        .evidence("opened", Evidence::Count(opened))
        .evidence("share_of_opened_percent", share.map_or(Evidence::Unknown, |s| Evidence::Percent(s.percent())))
        .evidence("received_or_unexplained", Evidence::Count(received));
    for (name, _, n) in split {
        finding = finding.evidence(name, Evidence::count(n));
    }
    finding = finding.evidence("resets_sent", Evidence::count(grown(Counter::TcpOutRsts)));
    if !suspects.is_empty() {
        let list = suspects.iter().take(5).map(|(p, n)| format!("{}: {n}", text::name(p))).collect();
        finding = finding.evidence("vanished_without_time_wait", Evidence::List(list));
    }
    let steps = steps(largest).iter().copied();
    Some(finding.steps(steps).next("tcpstate doctor --interval 10s --rule abort-storm"))
}

/// What HAProxy resets its connections for, as far as a trace saw whether an answer was due.
fn purpose_of_haproxy(view: &View<'_>, netns: Option<NetnsId>) -> &'static str {
    let traced = view.now.traced.iter().flat_map(|traced| &traced.resets);
    let own = traced.filter(|r| r.netns == netns && r.sent.is_some() && !r.served_here);
    let own = own.filter(|r| r.program.as_ref().is_some_and(|p| p.comm == "haproxy"));
    let (count, waited) = own.fold((0, 0), |(n, waited), r| (n + r.count, waited + r.waited));
    match (count, waited * 2 >= count) {
        (0, _) => {
            "; haproxy closes so what it gives up, as a health check without an answer, and idle connections to its servers"
        }
        (_, true) => "; haproxy gave up waiting for an answer on them: a health check, or a request",
        (_, false) => "; haproxy does so with idle connections to its servers, on purpose",
    }
}

/// What each counter says of its cause: all that grew are left, each with its part.
fn causes(split: &[(&str, &str, Option<u64>)], received: u64) -> Weighed {
    Weighed::of(CAUSES, |cause| {
        if cause.id == "peers-reset" {
            return match received {
                0 => Weight::Refuted("the counters of this host explain every reset".into()),
                n => Weight::Possible(n as f64),
            };
        }
        match split.iter().find(|(_, id, _)| *id == cause.id).and_then(|(_, _, n)| *n) {
            Some(0) => Weight::Refuted("its counter did not grow".into()),
            Some(n) => Weight::Possible(n as f64),
            None => Weight::Possible(0.1),
        }
    })
}

/// The owners of the listeners of a namespace, in the order of their rows.
fn listening<'a>(view: &View<'a>, netns: Option<NetnsId>) -> Vec<&'a Process> {
    let listeners = view.active().filter(|s| s.netns == netns && s.state == State::Listen);
    listeners.filter_map(|s| listener_owner::Owner::of(view, &[s])).map(|o| o.process).collect()
}

/// Owners of connections that were open in the first sample and are gone in the second without leaving a TIME_WAIT at
/// either end; the one with most of them first. Whoever closes second leaves none either, so this is a hint.
fn vanished<'a>(view: &View<'a>, netns: Option<NetnsId>) -> Vec<(&'a Process, u64)> {
    let Some(before) = view.before else { return Vec::new() };
    let open = before.sockets.iter().filter(|s| s.netns == netns && s.state == State::Established);
    let is_gone = |s: &&Socket| {
        let tuple = s.four_tuple();
        view.at(netns, tuple).is_none() && view.at(netns, tuple.swapped()).is_none()
    };
    let holders = open.filter(is_gone).filter_map(|s| before.owners.of(s).1.first());
    ranking::by_rows(holders.map(|holder| before.owners.process(holder)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row, time_wait};
    use crate::model::traced::{Program, Resets, SentFor, TracedInterval};

    fn world(before: &[(Counter, u64)], now: &[(Counter, u64)]) -> World {
        let mut world = World::new();
        for counter in [Counter::TcpEstabResets, Counter::TcpActiveOpens, Counter::TcpPassiveOpens, Counter::TcpOutRsts]
        {
            world.counter(counter, 1000);
        }
        for (_, counter, _) in COUNTERS {
            world.counter(counter, 1000);
        }
        for (counter, n) in before {
            world.counter(*counter, *n);
        }
        for port in 5000u32..5004 {
            let socket = row(State::Established, &format!("10.0.0.1:{port}"), "10.0.0.2:80");
            world.hold(812, "client", port, socket.inode).add(socket);
        }
        world.later(2000);
        for (counter, n) in now {
            world.counter(*counter, 1000 + n);
        }
        world
    }

    #[test]
    fn the_counters_say_how_many_and_why() {
        let mut world = world(
            &[],
            &[
                (Counter::TcpEstabResets, 30),
                (Counter::TcpActiveOpens, 100),
                (Counter::TcpExtTcpAbortOnClose, 25),
                (Counter::TcpOutRsts, 26),
            ],
        );
        // Two were closed in order.
        world.now.sockets.truncate(1);
        world.add(time_wait("10.0.0.1:5001", "10.0.0.2:80", 59_000));
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(812)));
        assert_eq!(
            finding.summary,
            "30 connections ended by reset in 2.0 s (15.0 per second, 30 % of those opened): mostly local programs \
            closed with unread data"
        );
        assert!(finding.evidence.contains(&("received_or_unexplained", Evidence::Count(5))));
        let list = Evidence::List(vec!["client (812): 2".into()]);
        assert!(finding.evidence.contains(&("vanished_without_time_wait", list)), "{finding:?}");
        assert!(finding.remedy[0] == READ_TO_EOF);
        let left: Vec<_> = finding.causes.left.iter().map(|h| (h.cause.id, (h.confidence * 30.0).round())).collect();
        assert_eq!(left, [("closed-unread", 25.0), ("peers-reset", 5.0)]);
        assert_eq!(finding.causes.ruled_out.len(), 4);
    }

    #[test]
    fn resets_that_no_counter_of_ours_explains_came_from_the_peers() {
        let outcome = world(&[], &[(Counter::TcpEstabResets, 30), (Counter::TcpExtTcpAbortOnData, 3)]).check(check);
        assert!(outcome.findings[0].summary.ends_with("mostly the peers sent the resets, or a device between"));
    }

    #[test]
    fn counters_name_a_cause_that_explains_all_and_never_tell_harm() {
        let found = |counter, n| {
            let grown = [(Counter::TcpEstabResets, 30), (counter, n)];
            world(&[], &grown).check(check).findings.remove(0)
        };
        for (_, counter, cause) in COUNTERS {
            let whole = found(counter, 30);
            assert!(whole.severity == Severity::Info && whole.causes.is(cause), "{whole:?}");
            let part = found(counter, 29);
            assert!(part.severity == Severity::Info && part.causes.left.len() == 2, "{part:?}");
        }
    }

    #[test]
    fn few_resets_a_small_share_and_old_totals_are_silent() {
        let silent = |now: &[(Counter, u64)]| assert_eq!(world(&[], now).check(check), Outcome::default(), "{now:?}");
        silent(&[]);
        silent(&[(Counter::TcpEstabResets, 1)]);
        silent(&[(Counter::TcpEstabResets, 30), (Counter::TcpPassiveOpens, 601)]);
        assert_eq!(
            world(&[], &[(Counter::TcpEstabResets, 30), (Counter::TcpPassiveOpens, 600)]).check(check).findings.len(),
            1
        );
        let mut unknown = world(&[], &[(Counter::TcpEstabResets, 30)]);
        unknown.now.netns[0].counters.remove(Counter::TcpPassiveOpens);
        assert_eq!(unknown.check(check), Outcome::default());
    }

    #[test]
    fn haproxy_resets_its_idle_servers_on_purpose() {
        let counters =
            [(Counter::TcpEstabResets, 100), (Counter::TcpExtTcpAbortOnData, 100), (Counter::TcpActiveOpens, 100)];
        let mut world = world(&[], &counters);
        assert!(!world.check(check).findings[0].summary.contains("haproxy"));
        for side in [Some(&mut world.now), world.before.as_mut()].into_iter().flatten() {
            side.sockets.push(listen("10.0.0.1:80", 0, 128));
        }
        let inode = world.now.sockets.last().unwrap().inode;
        world.hold(30, "haproxy", 5, inode);
        let finding = &world.check(check).findings[0];
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(30)));
        assert!(finding.summary.contains("and idle connections to its servers"), "{}", finding.summary);
        let mut told = |waited| {
            let service = crate::model::Endpoint::new("10.0.0.7".parse().unwrap(), 9001);
            let resets = Resets {
                sent: Some(SentFor::Unknown),
                program: Some(Program { pid: 30, comm: "haproxy".into(), processes: 1 }),
                count: 4,
                waited,
                ..Resets::none(world.now.netns[0].inode, service, false)
            };
            world.now.traced = Some(TracedInterval { resets: vec![resets], ..TracedInterval::default() });
            world.check(check).findings.remove(0).summary
        };
        assert!(told(1).ends_with("with idle connections to its servers, on purpose"), "{}", told(1));
        assert!(
            told(4).ends_with("gave up waiting for an answer on them: a health check, or a request"),
            "{}",
            told(4)
        );
    }

    #[test]
    fn the_only_listener_of_a_namespace_is_named_for_what_was_accepted() {
        let accepted = [(Counter::TcpEstabResets, 100), (Counter::TcpPassiveOpens, 150)];
        let mut world = world(&[], &accepted);
        world.add(listen("0.0.0.0:80", 0, 128)).hold(900, "nginx", 5, 80 << 16);
        let finding = &world.check(check).findings[0];
        assert_eq!((finding.subject.pid, finding.subject.comm.as_deref()), (Some(900), Some("nginx")));
        assert!(finding.confidence_reason.contains("only program that listens"), "{}", finding.confidence_reason);
        world.add(listen("0.0.0.0:81", 0, 128)).hold(901, "other", 5, 81 << 16);
        assert_eq!(world.check(check).findings[0].subject.pid, None);
    }

    #[test]
    fn one_sample_suspects_a_namespace_in_use_with_many_resets_in_its_past() {
        let once = |resets: u64, ages: &[(&str, u64)]| {
            let mut world = World::new();
            world
                .counter(Counter::TcpEstabResets, resets)
                .counter(Counter::TcpActiveOpens, 1000)
                .counter(Counter::TcpPassiveOpens, 0);
            world.add(info(row(State::Established, "10.0.0.1:5000", "10.0.0.2:80"), ages));
            world.check(check).wants_second.is_some()
        };
        let busy = [("last_data_sent_ms", 10), ("last_data_recv_ms", 10)];
        assert!(once(50, &busy) && !once(49, &busy));
        // Without anything going on a few resets of the past say nothing; many may go on unseen, as they leave no row.
        let quiet = [("last_data_sent_ms", 20_000), ("last_data_recv_ms", 20_000)];
        assert!(once(60, &quiet));
        let mut few = World::new();
        few.counter(Counter::TcpEstabResets, 19)
            .counter(Counter::TcpActiveOpens, 40)
            .counter(Counter::TcpPassiveOpens, 0);
        assert_eq!(few.check(check), Outcome::default());
    }
}
