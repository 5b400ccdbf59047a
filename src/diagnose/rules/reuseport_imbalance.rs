//! Several listeners share one port through SO_REUSEPORT and one of them is stuck while the others idle.
//!
//! Input: LISTEN rows that share one endpoint and device. Output: one finding per such group, with why the stuck one does not
//! accept. Not here: a group whose every queue is in trouble (that is an overflow, not an imbalance).
//!
#![doc = include_str!("../../../docs/rules/reuseport-imbalance.md")]

use std::collections::BTreeMap;

use crate::diagnose::Outcome;
use crate::diagnose::accepting;
use crate::diagnose::finding::{Evidence, Finding, Severity, Topic};
use crate::diagnose::listener_owner::{self, Owner};
use crate::diagnose::queues::{self, Queue};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::sysctl::Sysctl;
use crate::model::{Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("reuseport-imbalance", Listeners, Two, "one of several listeners on a port is stuck", check, [TEXT])
        .states(&[State::Listen])
        .topic(Topic::AcceptQueue)
        .title("stuck worker")
        .causes(accepting::CAUSES);

const TEXT: Text = Text {
    why: "With SO_REUSEPORT the kernel hashes each connection to one listener and does not look at the queues. A \
          worker that is stuck gets its share all the same, and those clients wait while other workers idle.",
    remedy: &[
        "Check where that worker's threads are blocked, then restart or replace it",
        "Drain it first: closing a listener resets the connections in its queue, unless net.ipv4.tcp_migrate_req=1",
        "If it happens often, share one listening socket among the workers (EPOLLEXCLUSIVE), so that a free worker \
         accepts",
    ],
    avoid: &[
        "Don't count on round-robin: it is a hash of addresses and ports",
        "Don't add workers as a cure: the stuck one still gets its share",
    ],
};

/// What sets one listener apart from its group.
#[derive(Clone, Copy, PartialEq)]
enum Sign {
    Drops(u64),
    Full,
    Waits,
    Share,
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut findings = Vec::new();
    for queue in view.queues().all().iter().filter(|q| q.listeners.len() > 1) {
        // The kernel groups by device too (`reuseport_add_sock` through `inet_reuseport_add_sock`).
        let mut groups: BTreeMap<u32, Vec<&Socket>> = BTreeMap::new();
        for listener in &queue.listeners {
            groups.entry(listener.ifindex.unwrap_or(0)).or_default().push(listener);
        }
        for group in groups.into_values().filter(|g| g.len() > 1) {
            if view.before.is_none() {
                if suspicious(view, queue, &group) {
                    outcome.wants_second.get_or_insert_with(|| {
                        format!("the queues of the {} listeners on {} differ", group.len(), queue.local)
                    });
                }
                continue;
            }
            let stuck: Vec<(&Socket, Sign)> =
                group.iter().filter_map(|row| Some((*row, sign(view, queue, &group, row)?))).collect();
            if !stuck.is_empty() {
                findings.push(finding(view, queue, &group, stuck));
            }
        }
    }
    outcome.findings = ranking::alike(findings);
    outcome
}

/// The shortest queue among the others.
fn shortest_other(group: &[&Socket], row: &Socket) -> u32 {
    group.iter().filter(|l| !std::ptr::eq(**l, row)).map(|l| l.recv_q_bytes).min().unwrap_or(u32::MAX)
}

fn suspicious(view: &View<'_>, queue: &Queue<'_>, group: &[&Socket]) -> bool {
    group.iter().any(|row| {
        let idle_other = shortest_other(group, row) <= 1 && row.recv_q_bytes > shortest_other(group, row);
        (queues::is_over_limit(row) && idle_other)
            || beyond_share(view, group, row)
            || (waits_alone(group, row) && queue.oldest_wait_ms().is_some_and(|ms| ms >= queues::INITIAL_RTO_MS))
    })
}

/// Whether only this listener has a queue, so that everything that waits is its own.
fn waits_alone(group: &[&Socket], row: &Socket) -> bool {
    row.recv_q_bytes > 0 && group.iter().all(|l| std::ptr::eq(*l, row) || l.recv_q_bytes == 0)
}

/// Whether a queue is longer than a fair hash makes it: binomial, n connections over k listeners.
fn beyond_share(view: &View<'_>, group: &[&Socket], row: &Socket) -> bool {
    let all: f64 = group.iter().map(|l| f64::from(l.recv_q_bytes)).sum();
    let share = 1.0 / group.len() as f64;
    let sigma = (all * share * (1.0 - share)).sqrt();
    f64::from(row.recv_q_bytes) - all * share > view.thresholds.imbalance_sigma * sigma
}

fn sign(view: &View<'_>, queue: &Queue<'_>, group: &[&Socket], row: &Socket) -> Option<Sign> {
    let earlier = view.earlier(row).filter(|e| e.state == State::Listen)?;
    let drops = |s: &Socket| s.skmem?.drops.map(u64::from);
    let new_drops = drops(row).zip(drops(earlier)).map_or(0, |(now, then)| now.saturating_sub(then));
    let other = shortest_other(group, row);
    let idle_other = other <= 1 && other < row.recv_q_bytes;
    if new_drops > 0 && idle_other && view.delta(queue.netns, Counter::TcpExtListenOverflows) != Some(0) {
        return Some(Sign::Drops(new_drops));
    }
    if idle_other && queues::is_over_limit(row) && queues::is_over_limit(earlier) {
        return Some(Sign::Full);
    }
    let before: Vec<&Socket> = group.iter().filter_map(|l| view.earlier(l)).collect();
    if before.len() < group.len() {
        return None;
    }
    let stood = || {
        queue.waiting.iter().any(|s| {
            queues::wait_ms(s).is_some_and(|ms| ms >= queues::INITIAL_RTO_MS)
                && view.earlier(s).is_some_and(Socket::is_unaccepted)
        })
    };
    if waits_alone(group, row) && waits_alone(&before, earlier) && stood() {
        return Some(Sign::Waits);
    }
    (beyond_share(view, group, row) && beyond_share(view, &before, earlier)).then_some(Sign::Share)
}

/// See "Severity" on the page.
fn severity(view: &View<'_>, queue: &Queue<'_>, sign: Sign, drops: u64) -> Severity {
    let waited = queue.oldest_wait_ms().unwrap_or(0) as f64;
    match sign {
        _ if drops > 0 => Severity::High,
        // Everything that waits is this listener's.
        Sign::Waits if waited >= view.thresholds.accept_wait_high_seconds * 1000.0 => Severity::High,
        Sign::Share if waited < view.thresholds.accept_wait_warn_seconds * 1000.0 => Severity::Info,
        _ => Severity::Warning,
    }
}

fn finding(view: &View<'_>, queue: &Queue<'_>, group: &[&Socket], mut stuck: Vec<(&Socket, Sign)>) -> Finding {
    let dropped = |sign: &Sign| if let Sign::Drops(n) = sign { *n } else { 0 };
    stuck.sort_by_key(|(row, sign)| std::cmp::Reverse((dropped(sign), row.recv_q_bytes)));
    let (worst, worst_sign) = stuck[0];
    let owner = Owner::of(view, &[worst]);
    let who = listener_owner::name(owner.as_ref());
    let drops: u64 = stuck.iter().map(|(_, sign)| dropped(sign)).sum();
    let severity = severity(view, queue, worst_sign, drops);
    let (confidence, because) = match worst_sign {
        Sign::Drops(_) | Sign::Full => (0.95, "the kernel tells queue and drops of each listener"),
        Sign::Waits => (0.9, "only one listener has a queue, in two samples"),
        Sign::Share => (0.6, "the queues differ by more than a fair hash makes them"),
    };
    let rest = group
        .iter()
        .filter(|l| !stuck.iter().any(|(s, _)| std::ptr::eq(*s, **l)))
        .map(|l| l.recv_q_bytes)
        .max()
        .unwrap_or(0);
    let rest = text::grouped(rest.into());
    let halted = owner.as_ref().and_then(|o| o.halted).map_or_else(String::new, |why| format!(" and is {why}"));
    let why = accepting::why(view, owner.as_ref(), queue, &[worst]);
    let lost = if drops > 0 {
        format!(", {}", text::count(drops, "SYN was dropped", "SYNs were dropped"))
    } else {
        String::new()
    };
    let verb = if stuck.len() == 1 { "is" } else { "are" };
    let summary = format!(
        "{} of {} listeners on {} {verb} stuck: {who} has {} waiting{halted}, the others at most {rest}{lost}",
        stuck.len(),
        group.len(),
        queue.local,
        text::count(worst.recv_q_bytes.into(), "connection", "connections"),
    );
    // Stuck ones first, then the rest in the kernel's order.
    let mut order: Vec<&Socket> = stuck.iter().map(|(row, _)| *row).collect();
    order.extend(group.iter().copied().filter(|l| !stuck.iter().any(|(s, _)| std::ptr::eq(*s, *l))));
    let live = live_by_listener(view, queue, &order);
    let lines = order.iter().zip(&live).take(16).map(|(l, live)| {
        let drops = stuck.iter().find(|(s, _)| std::ptr::eq(*s, *l)).map_or(0, |(_, sign)| dropped(sign));
        let live = live.map_or_else(String::new, |n| format!(", {} accepted", text::grouped(n)));
        let limit = l.backlog().map_or_else(|| "?".to_owned(), |n| text::grouped(n.into()));
        let name = listener_owner::name(Owner::of(view, &[l]).as_ref());
        let [waiting, drops] = [l.recv_q_bytes.into(), drops].map(text::grouped);
        format!("{name}: {waiting} waiting, limit {limit}, {drops} new drops{live}")
    });
    let finding = RULE
        .finding(severity, confidence, summary)
        .because(because)
        .subject(listener_owner::subject(view, owner.as_ref(), queue.netns, queue.local))
        .about(group.iter().chain(&queue.waiting).copied())
        .evidence("stuck_listeners", Evidence::Count(stuck.len() as u64))
        .evidence("listeners", Evidence::Count(group.len() as u64))
        .evidence("accept_queue", Evidence::Count(worst.recv_q_bytes.into()))
        .evidence("backlog", Evidence::count(worst.backlog().map(u64::from)))
        .evidence("new_drops", Evidence::Count(drops))
        .evidence("oldest_wait_ms", Evidence::millis(queue.oldest_wait_ms()))
        .evidence("owner_state", owner.as_ref().map_or(Evidence::Unknown, |o| listener_owner::owner_states(view, o)))
        .evidence("each", Evidence::List(lines.collect()))
        .evidence(
            "tcp_migrate_req",
            Evidence::count(view.netns(queue.netns).and_then(|n| n.sysctl(Sysctl::Ipv4TcpMigrateReq))),
        );
    let rows: Vec<&Socket> = stuck.iter().map(|(row, _)| *row).collect();
    why.onto(listener_owner::inspect_owners(finding, view, &rows, Owner::of(view, &rows).as_ref()), owner.as_ref())
        .next(format!("tcpstate list -l -e -m -p --local {}", queue.local))
}

/// How many accepted connections of the endpoint each listener's owner holds; `None` where owners share listeners.
fn live_by_listener(view: &View<'_>, queue: &Queue<'_>, listeners: &[&Socket]) -> Vec<Option<u64>> {
    let mut of_pid: BTreeMap<u32, Option<usize>> = BTreeMap::new();
    for (place, listener) in listeners.iter().enumerate() {
        for pid in Owner::of(view, &[listener]).map_or_else(Vec::new, |o| o.pids) {
            of_pid.entry(pid).and_modify(|p| *p = None).or_insert(Some(place));
        }
    }
    let alone = |place: usize| of_pid.values().any(|p| *p == Some(place));
    let mut counts: Vec<Option<u64>> = (0..listeners.len()).map(|place| alone(place).then_some(0)).collect();
    let known = view.listeners(queue.netns);
    let held = view.now.sockets.iter().filter(|s| {
        s.inode.is_some() && s.netns == queue.netns && s.local.port == queue.local.port && s.state.has_peer()
    });
    for socket in held {
        if known.matching(queue.netns, socket.local).is_none_or(|i| known.get(i).local != queue.local) {
            continue;
        }
        for process in view.processes(socket).iter().take(1) {
            if let Some(count) = of_pid.get(&process.pid).copied().flatten().and_then(|p| counts[p].as_mut()) {
                *count += 1;
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row, unheld};
    use crate::model::SkMem;

    /// Listeners on :80 with these queues and a limit of 8; pids from 900 on.
    fn world(queues: &[u32]) -> World {
        let mut world = World::new();
        for (n, queue) in (0u32..).zip(queues) {
            let inode = 80_000 + u64::from(n);
            let drops = SkMem { drops: Some(0), ..SkMem::default() };
            let listener = listen("0.0.0.0:80", *queue, 8);
            world
                .add(Socket {
                    inode: crate::model::Inode::new(inode),
                    cookie: Some(inode),
                    skmem: Some(drops),
                    ..listener
                })
                .hold(900 + n, "worker", 3, inode);
        }
        world.counter(Counter::TcpExtListenOverflows, 0);
        world
    }

    fn waiting(world: &mut World, wait_ms: u64) {
        let child = unheld(row(State::Established, "10.0.0.1:80", "10.0.0.9:40000"));
        world.add(info(child, &[("last_data_sent_ms", wait_ms)]));
    }

    #[test]
    fn a_full_queue_beside_idle_ones_names_its_worker() {
        let mut world = world(&[0, 9, 1]);
        world.now.processes.get_mut(&901).unwrap().state = Some('T');
        let outcome = world.later(2000).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(901)));
        assert_eq!(
            finding.summary,
            "1 of 3 listeners on 0.0.0.0:80 is stuck: worker (901) has 9 connections waiting and is stopped by a \
             signal (state T), the others at most 1"
        );
        world.now.sockets[1].skmem = Some(SkMem { drops: Some(12), ..SkMem::default() });
        world.counter(Counter::TcpExtListenOverflows, 12);
        let outcome = world.check(check);
        assert_eq!(outcome.findings[0].severity, Severity::High);
        assert!(outcome.findings[0].evidence.contains(&("new_drops", Evidence::Count(12))));
    }

    #[test]
    fn who_waits_for_three_seconds_is_hurt_and_a_longer_queue_alone_hurts_nobody() {
        let waits = |ms| {
            let mut world = world(&[0, 1, 0, 0]);
            waiting(&mut world, ms);
            let finding = world.later(2000).check(check).findings.remove(0);
            (finding.severity, finding.causes.named().map(|c| c.id))
        };
        assert_eq!((waits(2999), waits(3000)), ((Severity::Warning, None), (Severity::High, None)));
        let share = |ms| {
            let mut world = world(&[1, 8, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
            world.now.sockets[1].send_q_bytes = Some(128);
            waiting(&mut world, ms);
            world.later(2000).check(check).findings.remove(0).severity
        };
        assert_eq!((share(999), share(1000)), (Severity::Info, Severity::Warning));
    }

    #[test]
    fn a_stopped_worker_is_named_as_such() {
        let mut world = world(&[0, 9, 1]);
        world.now.processes.get_mut(&901).unwrap().state = Some('T');
        assert!(world.later(2000).check(check).findings[0].causes.is("stopped"));
    }

    #[test]
    fn one_that_waits_alone_is_found_before_its_queue_is_full() {
        let mut world = world(&[0, 1, 0, 0]);
        waiting(&mut world, 1500);
        assert!(world.check(check).wants_second.is_some());
        let outcome = world.later(2000).check(check);
        assert_eq!(outcome.findings[0].subject.pid, Some(901), "{outcome:?}");
    }

    #[test]
    fn counts_alone_must_be_beyond_chance() {
        // 60 over 3: the share is 20, a standard deviation 3.65.
        let limit = |mut world: World| {
            world.now.sockets.iter_mut().for_each(|s| s.send_q_bytes = Some(128));
            world
        };
        assert_eq!(limit(world(&[18, 19, 23])).later(2000).check(check), Outcome::default());
        assert_eq!(limit(world(&[12, 14, 34])).later(2000).check(check), Outcome::default());
        let outcome = limit(world(&[12, 12, 36])).later(2000).check(check);
        assert_eq!(outcome.findings[0].subject.pid, Some(902));
        assert!(outcome.findings[0].confidence < 0.7);
    }

    #[test]
    fn shared_queues_full_groups_and_devices_are_no_imbalance() {
        let mut shared = World::new();
        shared.add(listen("0.0.0.0:80", 9, 8)).hold(900, "worker", 3, 80 << 16).hold(901, "worker", 3, 80 << 16);
        assert_eq!(shared.later(2000).check(check), Outcome::default());
        assert_eq!(world(&[9, 9, 9]).later(2000).check(check), Outcome::default(), "all are stuck: an overflow");
        let mut devices = world(&[9, 0]);
        devices.now.sockets[0].ifindex = Some(2);
        assert_eq!(devices.later(2000).check(check), Outcome::default());
        assert_eq!(world(&[0, 1, 0]).check(check), Outcome::default());
    }
}
