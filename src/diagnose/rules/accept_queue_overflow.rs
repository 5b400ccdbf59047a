//! A listener's queue of finished connections is full and the kernel drops new ones, because the program does not call
//! `accept()` fast enough.
//!
//! Input: LISTEN rows with their own drops, the namespace's counters. Output: one finding per listening endpoint. Not here:
//! why the owner does not accept (`accepting`).
//!
#![doc = include_str!("../../../docs/rules/accept-queue-overflow.md")]

use rustc_hash::FxHashMap;

use crate::diagnose::Outcome;
use crate::diagnose::accepting::{self, RESERVED};
use crate::diagnose::callers;
use crate::diagnose::finding::{Evidence, Finding, Severity, Topic};
use crate::diagnose::listen_drops;
use crate::diagnose::listener_owner::{self, Owner};
use crate::diagnose::queues::{self, Queue};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::sysctl::Sysctl;
use crate::model::{Endpoint, NetnsId, Socket, State};
use crate::text;

pub(super) const RULE: Rule = rule!(
    "accept-queue-overflow",
    Listeners,
    OneOrTwo,
    "the accept queue is full, clients are dropped",
    check,
    [TEXT, RESERVED]
)
.topic(Topic::AcceptQueue)
.title("accept queue overflow")
.identity(Identity::Listener)
.causes(accepting::CAUSES)
.cost(1);

const TEXT: Text = Text {
    why: "The kernel finishes handshakes by itself and parks the connections until accept(); it holds one more than \
          the backlog. When that is full it drops SYNs and last ACKs in silence, so that clients connect after 1 s, \
          3 s, 7 s, or believe they are connected when the server has never seen them.",
    remedy: &[
        "Find out why accept() is late: a blocked loop, too few workers, a CPU limit, no free descriptor, a stopped \
         process",
        "Give the port more workers, or one listener per worker with SO_REUSEPORT",
        "If bursts are real, raise the listen() backlog in the application and net.core.somaxconn, then restart it: \
         the limit is taken when listen() is called",
    ],
    avoid: &[
        "Don't raise tcp_max_syn_backlog: it is another queue, and without effect while SYN cookies are on",
        "Don't raise somaxconn alone: the application's backlog and a new listen() decide",
        "Don't set tcp_abort_on_overflow=1: it turns a retry that may succeed into a reset",
    ],
};

/// How one LISTEN row stands.
struct Stand<'a> {
    row: &'a Socket,
    severity: Severity,
    /// Segments that this listener dropped between the samples.
    new_drops: Option<u64>,
    dropped: bool,
    full: bool,
    confidence: f64,
    because: &'static str,
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let queues = view.queues().all();
    let mut outcome = Outcome::default();
    if !queues.is_empty() && queues.iter().all(|q| q.capacity().is_none()) {
        return Outcome::not_checked(format!("source {} does not tell the backlog of a listener", view.now.source));
    }
    let mut found: Vec<(&Queue<'_>, Vec<Stand<'_>>)> = Vec::new();
    for queue in queues {
        let mut stands: Vec<Stand<'_>> = queue.listeners.iter().filter_map(|row| stand(view, queue, row)).collect();
        stands.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| b.new_drops.cmp(&a.new_drops)));
        if !stands.is_empty() {
            found.push((queue, stands));
        }
        if view.before.is_none() && outcome.wants_second.is_none() {
            outcome.wants_second = suspicion(view, queue);
        }
    }
    let callers = if found.is_empty() { FxHashMap::default() } else { callers::local_callers(view) };
    outcome.findings = ranking::alike(found.iter().map(|(q, stands)| finding(view, q, stands, &callers)).collect());
    outcome
}

/// What one sample alone makes worth a second one.
fn suspicion(view: &View<'_>, queue: &Queue<'_>) -> Option<String> {
    let overflowed =
        view.netns(queue.netns).and_then(|n| n.counter(Counter::TcpExtListenOverflows)).is_some_and(|n| n > 0);
    let suspect = queue.listeners.iter().any(|l| {
        // A fast server has emptied its queue between two bursts.
        let dropped_before = overflowed && drops(l).map_or(l.recv_q_bytes > 0, |n| n > 0);
        queues::is_over_limit(l) || half_full(l) || dropped_before
    });
    let limit = queue.capacity().map_or_else(|| "?".to_owned(), text::grouped);
    let queued = text::grouped(queue.queued());
    suspect.then(|| match queue.queued() {
        0 => format!("{} has dropped clients since it was opened, when is not known", queue.local),
        _ => format!("{queued} of {limit} places in the accept queue of {} are taken", queue.local),
    })
}

fn stand<'a>(view: &View<'a>, queue: &Queue<'a>, row: &'a Socket) -> Option<Stand<'a>> {
    let backlog = row.backlog()?;
    let full = queues::is_over_limit(row);
    let oldest = queue.oldest_wait_ms();
    let waits_long = oldest.is_some_and(|ms| ms as f64 >= view.thresholds.accept_wait_high_seconds * 1000.0);
    // Rows younger than the first repetition of a SYN are a burst that the next accept() may take.
    let lasting = oldest.is_none_or(|ms| ms >= queues::INITIAL_RTO_MS);
    if view.before.is_none() {
        return (full && lasting).then_some(Stand {
            row,
            severity: if waits_long { Severity::High } else { Severity::Info },
            new_drops: None,
            dropped: false,
            full,
            confidence: 0.8,
            because: "the queue is over its limit in one sample",
        });
    }
    let earlier = view.earlier(row).filter(|e| e.state == State::Listen);
    let full_before = earlier.is_some_and(queues::is_over_limit);
    // A queue that was not seen full is blamed only for what no other listener can have dropped.
    let new_drops = listen_drops::between(view, row).map(|d| if full || full_before { d.at_most } else { d.at_least });
    let overflows = view.delta(queue.netns, Counter::TcpExtListenOverflows);
    let dropped = match new_drops {
        Some(n) => n > 0 && overflows != Some(0),
        None => overflows.is_some_and(|n| n > 0) && row.recv_q_bytes >= backlog,
    };
    let moves =
        !queue.waiting.is_empty() && !queue.waiting.iter().any(|s| view.earlier(s).is_some_and(Socket::is_unaccepted));
    let grows = earlier.is_some_and(|e| row.recv_q_bytes > e.recv_q_bytes);
    let fills = half_full(row) && earlier.is_some_and(half_full) && (grows || lasting) && !moves;
    let severity = if dropped && full {
        Severity::Critical
    } else if dropped || (full && full_before && !moves && lasting) || (full && waits_long) {
        Severity::High
    } else if fills || (full && (full_before || lasting)) {
        Severity::Warning
    } else {
        return None;
    };
    // The listener's drops count those of its SYN queue too (`tcp_listendrop` in `include/net/tcp.h`).
    let syn_queue =
        view.delta(queue.netns, Counter::TcpExtTcpReqQFullDrop).is_some_and(|n| n > 0) && !full && !full_before;
    let (confidence, because) = match (dropped, new_drops) {
        (true, Some(_)) if syn_queue => (0.8, "some of the drops may be of the SYN queue"),
        (true, Some(_)) if overflows.is_some() => (0.97, "the drops are those of this very listener"),
        (true, Some(_)) => (0.8, "the listener dropped; the namespace's counters could not be read"),
        (true, None) => (0.8, "the drops are those of the whole namespace; this queue is at its limit"),
        (false, _) => (0.97, "the queue's length and limit are the kernel's own, in two samples"),
    };
    Some(Stand { row, severity, new_drops, dropped, full, confidence, because })
}

/// Clients on this host that believe to be connected, and of whom the server knows at most half a handshake.
fn unheard(view: &View<'_>, queue: &Queue<'_>) -> u64 {
    let clients = view.now.sockets.iter().filter(|s| {
        s.state == State::Established
            && s.peer.port == queue.local.port
            && view.mirror(s).is_none_or(|m| m.state == State::SynRecv)
    });
    clients.filter(|s| callers::called(view, s).is_some_and(|q| q.local == queue.local)).count() as u64
}

fn drops(row: &Socket) -> Option<u64> {
    row.skmem?.drops.map(u64::from)
}

/// Half of the limit or more; a single connection is no queue.
fn half_full(row: &Socket) -> bool {
    row.backlog().is_some_and(|limit| row.recv_q_bytes >= 2 && u64::from(row.recv_q_bytes) * 2 >= u64::from(limit))
}

fn finding(
    view: &View<'_>,
    queue: &Queue<'_>,
    stands: &[Stand<'_>],
    callers: &FxHashMap<(Option<NetnsId>, Endpoint), u64>,
) -> Finding {
    let worst = &stands[0];
    let (at, netns) = (queue.local, queue.netns);
    let owner = Owner::of(view, &[worst.row]);
    let places = worst.row.backlog().map_or(0, |n| u64::from(n) + 1);
    let filled = format!("{} places", text::of(worst.row.recv_q_bytes.into(), places));
    let drops_in = |n: u64| {
        let time = view.interval_ms().map_or_else(String::new, |ms| format!(" in {}", text::duration(ms)));
        format!("{}{time}", text::count(n, "SYN was dropped", "SYNs were dropped"))
    };
    let taken = accepting::taken(view, queue);
    let why = accepting::why(view, owner.as_ref(), queue, &[worst.row]);
    let acts = why.acts(
        owner.as_ref(),
        match taken {
            Some(taken) if taken.is_none() => "accepted none of them meanwhile",
            Some(taken) if taken.is_emptied => "did not accept fast enough",
            _ => "does not accept fast enough",
        },
    );
    let summary = match worst.new_drops {
        Some(n) if worst.dropped && worst.full => {
            format!("accept queue of {at} overflows ({filled}): {}, {acts}", drops_in(n))
        }
        Some(n) if worst.dropped => format!("accept queue of {at} overflowed ({filled} now): {}, {acts}", drops_in(n)),
        _ if worst.full => format!("accept queue of {at} is full ({filled}), the next client is dropped: {acts}"),
        _ => format!("accept queue of {at} is half full or more in two samples ({filled}): {acts}"),
    };
    let count = |counter| Evidence::count(view.delta(netns, counter));
    let setting = |sysctl| Evidence::count(view.netns(netns).and_then(|n| n.sysctl(sysctl)));
    let repeated = queue.half_open.iter().filter(|s| s.timer.is_some_and(|t| t.retransmits > 0)).count();
    let mut finding = RULE
        .finding(worst.severity, worst.confidence, summary)
        .because(worst.because)
        .subject(listener_owner::subject(view, owner.as_ref(), netns, at))
        .about(stands.iter().map(|s| s.row).chain(queue.waiting.iter().copied()))
        .evidence("accept_queue", Evidence::Count(worst.row.recv_q_bytes.into()))
        .evidence("backlog", Evidence::count(worst.row.backlog().map(u64::from)))
        .evidence("new_drops", Evidence::count(worst.new_drops))
        .evidence("drops_since_listen", Evidence::count(drops(worst.row)))
        .evidence("accepted_at_least", Evidence::count(taken.map(|t| t.at_least)))
        .evidence("oldest_wait_ms", Evidence::millis(queue.oldest_wait_ms()))
        .evidence("owner_state", owner.as_ref().map_or(Evidence::Unknown, |o| listener_owner::owner_states(view, o)))
        .evidence("netns_listen_overflows", count(Counter::TcpExtListenOverflows))
        .evidence("netns_listen_drops", count(Counter::TcpExtListenDrops))
        .evidence("repeated_syn_acks", Evidence::Count(repeated as u64))
        .evidence("local_callers", Evidence::Count(callers.get(&(netns, at)).copied().unwrap_or(0)))
        .evidence("clients_never_heard_of", Evidence::Count(unheard(view, queue)))
        .evidence("somaxconn", setting(Sysctl::CoreSomaxconn))
        .evidence("tcp_abort_on_overflow", setting(Sysctl::Ipv4TcpAbortOnOverflow));
    if queue.listeners.len() > 1 {
        let lines = stands.iter().take(16).map(|s| {
            let name = listener_owner::name(Owner::of(view, &[s.row]).as_ref());
            let drops = s.new_drops.map_or_else(String::new, |n| format!(", {} new drops", text::grouped(n)));
            let [waiting, limit] = [s.row.recv_q_bytes, s.row.backlog().unwrap_or(0)].map(|n| text::grouped(n.into()));
            format!("{name}: {waiting} waiting, limit {limit}{drops}")
        });
        finding = finding
            .evidence("listeners_on_the_port", Evidence::Count(queue.listeners.len() as u64))
            .evidence("listeners_in_trouble", Evidence::List(lines.collect()));
    }
    let rows: Vec<&Socket> = stands.iter().map(|s| s.row).collect();
    why.onto(listener_owner::inspect_owners(finding, view, &rows, Owner::of(view, &rows).as_ref()), owner.as_ref())
        .next(format!("tcpstate list -l -e -m -p --local {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row, unheld};
    use crate::model::SkMem;

    fn dropped(socket: Socket, drops: u32) -> Socket {
        Socket { skmem: Some(SkMem { drops: Some(drops), ..SkMem::default() }), ..socket }
    }

    fn waiting(client: u16, wait_ms: u64) -> Socket {
        let peer = format!("10.0.0.9:{client}");
        info(unheld(row(State::Established, "10.0.0.1:80", &peer)), &[("last_data_sent_ms", wait_ms)])
    }

    /// A listener on :80 with this queue, limit 4, no drops yet, and one on :81 without a care.
    fn world(queue: u32, wait_ms: u64) -> World {
        let mut world = World::new();
        world.add(dropped(listen("0.0.0.0:80", queue, 4), 0)).hold(812, "server", 3, 80 << 16);
        world.add(dropped(listen("0.0.0.0:81", 0, 4), 7)).hold(813, "other", 3, 81 << 16);
        for client in 0..u16::try_from(queue).unwrap() {
            world.add(waiting(40_000 + client, wait_ms));
        }
        world.counter(Counter::TcpExtListenOverflows, 0).counter(Counter::TcpExtListenDrops, 0);
        world
    }

    fn drop_some(world: &mut World, drops: u32) {
        world.now.sockets[0] = dropped(world.now.sockets[0].clone(), drops);
        world.counter(Counter::TcpExtListenOverflows, drops.into()).counter(Counter::TcpExtListenDrops, drops.into());
    }

    #[test]
    fn drops_name_the_listener_that_dropped_and_no_other() {
        let mut world = world(2, 100);
        world.later(2000);
        drop_some(&mut world, 16);
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::High, Some(812)));
        assert_eq!(finding.subject.listener.unwrap().to_string(), "0.0.0.0:80");
        assert!(finding.confidence >= 0.97 && finding.summary.contains("16 SYNs were dropped"), "{finding:?}");
        assert!(finding.evidence.contains(&("new_drops", Evidence::Count(16))));
        assert_eq!(finding.inspect, [(812, vec![crate::model::Inode::new(80 << 16).unwrap()])]);
    }

    #[test]
    fn resets_at_a_listener_beside_one_that_overflows_are_no_drops() {
        let mut world = world(5, 5000);
        world.later(2000).now.sockets[1] = dropped(listen("0.0.0.0:81", 0, 4), 464);
        drop_some(&mut world, 9);
        world.now.sockets[1].cookie = world.before.as_ref().unwrap().sockets[1].cookie;
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!(finding.subject.listener.unwrap().to_string(), "0.0.0.0:80");
        assert!(finding.summary.contains("9 SYNs were dropped"), "{}", finding.summary);
    }

    #[test]
    fn full_in_two_samples_is_high_with_the_cause_and_critical_when_it_drops() {
        let mut world = world(5, 5000);
        world.later(2000).now.processes.get_mut(&812).unwrap().state = Some('T');
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!(finding.severity, Severity::High);
        assert!(finding.causes.is("stopped") && finding.remedy[0].contains("kill -CONT 812"), "{finding:?}");
        assert!(finding.summary.contains("5 of 5 places") && finding.summary.contains("stopped by a signal"));
        drop_some(&mut world, 1);
        assert_eq!(world.check(check).findings[0].severity, Severity::Critical);
        world.now.sockets[0].recv_q_bytes = 4;
        assert_eq!(world.check(check).findings[0].severity, Severity::High, "it has room again");
    }

    #[test]
    fn a_full_queue_of_which_some_were_taken_is_not_said_to_stand() {
        let mut world = world(5, 5000);
        world.later(2000);
        let summary = |world: &World| world.check(check).findings[0].summary.clone();
        assert!(summary(&world).contains("server (812) accepted none of them meanwhile"), "{}", summary(&world));
        for socket in world.now.sockets.iter_mut().filter(|s| s.inode.is_none()).take(2) {
            socket.cookie = socket.cookie.map(|c| c + 1_000_000);
        }
        let slow = "server (812) accepted only 2 of those who waited in 2.0 s";
        assert!(summary(&world).contains(slow), "{}", summary(&world));
        assert!(world.check(check).findings[0].causes.is("accepts-too-slow"));
        drop_some(&mut world, 3);
        world.now.sockets[0].recv_q_bytes = 0;
        world.now.sockets.retain(|s| s.inode.is_some());
        assert!(summary(&world).starts_with("accept queue of 0.0.0.0:80 overflowed (0 of 5 places now): 3 SYNs"));
    }

    #[test]
    fn a_full_queue_that_moves_warns() {
        let mut world = world(5, 1500);
        world.later(2000);
        for socket in world.now.sockets.iter_mut().filter(|s| s.inode.is_none()) {
            socket.cookie = socket.cookie.map(|c| c + 1_000_000);
        }
        assert_eq!(world.check(check).findings[0].severity, Severity::Warning);
    }

    #[test]
    fn a_queue_that_fills_warns_and_one_that_is_half_full_does_not() {
        let mut half = world(2, 999);
        assert_eq!(half.later(2000).check(check), Outcome::default(), "busy, and nobody waits long");
        let mut waits = world(2, 1000);
        assert_eq!(waits.later(2000).check(check).findings[0].severity, Severity::Warning);
        let mut fills = world(2, 100);
        fills.later(2000).now.sockets[0].recv_q_bytes = 3;
        assert_eq!(fills.check(check).findings[0].severity, Severity::Warning);
        for socket in fills.now.sockets.iter_mut().filter(|s| s.inode.is_none()) {
            socket.cookie = socket.cookie.map(|c| c + 1_000_000);
        }
        assert_eq!(fills.check(check), Outcome::default(), "other connections: it is emptied");
        let mut once = world(1, 100);
        once.later(2000).now.sockets[0].recv_q_bytes = 2;
        assert_eq!(once.check(check), Outcome::default());
    }

    #[test]
    fn one_sample_tells_a_lasting_full_queue_and_only_suspects_a_burst() {
        for (wait, severity) in [(1500, Severity::Info), (2999, Severity::Info), (3000, Severity::High)] {
            assert_eq!(world(5, wait).check(check).findings[0].severity, severity, "{wait}");
        }
        let burst = world(5, 20).check(check);
        assert!(burst.findings.is_empty() && burst.wants_second.is_some());
    }

    #[test]
    fn near_misses_are_silent() {
        // At the limit but not over it, once; listen(0) with its one connection, fresh; old drops that do not grow.
        let mut at_limit = world(1, 100);
        at_limit.later(2000).now.sockets[0].recv_q_bytes = 4;
        assert_eq!(at_limit.check(check), Outcome::default());
        let mut zero = World::new();
        zero.add(listen("0.0.0.0:80", 0, 0)).later(2000);
        zero.now.sockets[0].recv_q_bytes = 1;
        zero.add(waiting(40_000, 3));
        assert_eq!(zero.check(check), Outcome::default());
        let mut old = world(0, 0);
        drop_some(&mut old, 90);
        let once = old.check(check);
        assert!(once.findings.is_empty() && once.wants_second.is_some(), "a fast server has emptied it: {once:?}");
        assert_eq!(old.later(2000).check(check), Outcome::default());
        // Drops for lack of memory or of a route are not the accept queue's.
        let mut other = world(0, 0);
        other.later(2000);
        drop_some(&mut other, 3);
        other.counter(Counter::TcpExtListenOverflows, 0);
        assert_eq!(other.check(check), Outcome::default());
    }

    #[test]
    fn without_drops_per_listener_the_counters_and_a_full_queue_are_less_sure() {
        let mut world = world(4, 100);
        world.later(2000).now.sockets[0].skmem = None;
        world.counter(Counter::TcpExtListenOverflows, 3);
        let outcome = world.check(check);
        assert_eq!(outcome.findings.len(), 1, "{outcome:?}");
        assert!((outcome.findings[0].confidence - 0.8).abs() < 1e-9 && outcome.findings[0].severity == Severity::High);
    }

    #[test]
    fn a_source_without_limits_is_not_judged() {
        let mut world = World::new();
        world.add(Socket { send_q_bytes: None, ..listen("0.0.0.0:80", 9, 0) });
        assert!(world.check(check).not_checked.is_some());
    }
}
