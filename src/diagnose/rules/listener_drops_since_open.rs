//! A listener has dropped connection attempts since it was opened: in the past, or still.
//!
//! Input: the drop counter of each LISTEN row. Output: one finding per listening endpoint. Not here: drops that a full
//! accept queue makes now (`accept-queue-overflow`), or a full SYN queue (`syn-queue-pressure`).
//!
#![doc = include_str!("../../../docs/rules/listener-drops-since-open.md")]

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::listen_drops;
use crate::diagnose::listener_owner::{self, Owner};
use crate::diagnose::measure::Measure;
use crate::diagnose::queues::Queue;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::syn_queue;
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::{Socket, State};
use crate::text;

pub(super) const RULE: Rule = rule!(
    "listener-drops-since-open",
    Listeners,
    OneOrTwo,
    "a listener dropped connection attempts since it was opened",
    check,
    [TEXT]
)
.states(&[State::Listen])
.title("dropped connects")
.identity(Identity::Listener);

const WATCH: &str = "Watch whether it grows: `tcpstate watch` shows an overflow while it lasts";
const BURSTS: &str =
    "If bursts made it, raise the listen() backlog and net.core.somaxconn, and let the accept loop do nothing else";
const ROOM: &str =
    "If it grows while both queues have room, look at memory, routes and what ICMP says: `nstat -az` and `dmesg`";
const ROUTE: &str = "Give this host a route back to its clients: `ip route get CLIENT` fails now; a default route, or one to their network";

const TEXT: Text = Text {
    why: "The kernel counts for each listener the SYNs and last ACKs that it dropped. Clients of those waited a second or \
          more, or gave up; the counter does not say when.",
    remedy: &[WATCH, BURSTS, ROOM, ROUTE],
    avoid: &[
        "Don't take the number for clients: a client that repeats its SYN counts each time",
        "Don't raise tcp_max_syn_backlog for it: the accept queue is another one",
    ],
};

/// So many in an interval are no chance (policy).
const SEVERAL: u64 = 3;

/// What a listener dropped: its own counter, which counts resets for connections that are over too, and at most what
/// the namespace counts of handshakes alone.
struct Drops {
    since_open: u64,
    /// The listener's own counter is larger.
    at_most: bool,
    /// Growth between the samples.
    new: Option<u64>,
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let queues = view.queues().all().iter();
    let found = queues.filter_map(|queue| Some(finding(view, queue, &drops(view, queue)?)));
    Outcome::findings(found.collect())
}

/// The drops of an endpoint, when there are any.
fn drops(view: &View<'_>, queue: &Queue<'_>) -> Option<Drops> {
    let of = |socket: &Socket| socket.skmem?.drops.map(u64::from);
    let own: u64 = queue.listeners.iter().filter_map(|l| of(l)).sum();
    let new = queue.listeners.iter().map(|l| Some(listen_drops::between(view, l)?.at_least)).sum();
    let all = view.netns(queue.netns).and_then(|n| n.counter(Counter::TcpExtListenDrops));
    let since_open = own.min(all.unwrap_or(own));
    (since_open > 0).then_some(Drops { since_open, at_most: since_open < own, new })
}

fn finding(view: &View<'_>, queue: &Queue<'_>, drops: &Drops) -> Finding {
    let at = queue.local;
    let owner = Owner::of(view, &queue.listeners);
    let who = listener_owner::name(owner.as_ref());
    let at_most = if drops.at_most { "at most " } else { "" };
    let n = format!("{at_most}{}", text::count(drops.since_open, "connection attempt", "connection attempts"));
    let delta = |counter| view.delta(queue.netns, counter);
    let grown = drops.new.filter(|new| *new > 0);
    // What other rules tell, with the cause, is no second alarm.
    let told = [Counter::TcpExtListenOverflows, Counter::TcpExtTcpReqQFullDrop];
    // Without SYN cookies the kernel drops at three quarters of tcp_max_syn_backlog, and counts no full queue.
    let is_told = told.into_iter().any(|counter| delta(counter) != Some(0)) || syn_queue::is_half_full(view, queue);
    let hurts = grown.is_some() && !is_told && delta(Counter::TcpExtListenDrops) > Some(0);
    // A SYN-ACK that finds no route is a dropped SYN (`tcp_conn_request`), and one packet without a route.
    let unrouted = delta(Counter::IpOutNoRoutes);
    let has_no_route = hurts && grown.zip(unrouted).is_some_and(|(new, unrouted)| unrouted >= new);
    let severity = match grown {
        Some(new) if hurts && new >= SEVERAL => Severity::High,
        Some(_) if hurts => Severity::Warning,
        _ => Severity::Info,
    };
    let no_route = "this host has no route back to those clients";
    let time = view.interval_ms().map(text::duration);
    let summary = match (grown.map(text::grouped), time) {
        (Some(new), Some(time)) if has_no_route => {
            format!(
                "listener {at} of {who} could not answer {new} of its SYNs in {time}: {no_route}; {n} since it was opened"
            )
        }
        (Some(new), Some(time)) if hurts => {
            format!(
                "listener {at} of {who} dropped {new} in {time} although both its queues have room, {n} since it was opened"
            )
        }
        (Some(new), Some(time)) => {
            format!("listener {at} of {who} dropped {n} since it was opened, {new} of them in {time}")
        }
        (None, Some(time)) => {
            format!("listener {at} of {who} dropped {n} since it was opened, none of them in the last {time}")
        }
        _ => format!("listener {at} of {who} dropped {n} since it was opened"),
    };
    let lasting = grown.and(view.interval_ms()).map(Measure::AtLeast);
    let (confidence, because) = if hurts {
        (0.85, "the listener's own counter grew, and those of its two queues did not")
    } else {
        (0.97, "the counter is the listener's own")
    };
    let because = if hurts && has_no_route {
        "the listener's own counter grew with that of packets without a route"
    } else {
        because
    };
    let steps: &[&str] = match (has_no_route, hurts) {
        (true, _) => &[ROUTE],
        (false, true) => &[ROOM],
        (false, false) => &[WATCH, BURSTS, ROOM],
    };
    RULE.finding(severity, confidence, summary)
        .because(because)
        .steps(steps.iter().copied())
        .lasting(lasting)
        .subject(listener_owner::subject(view, owner.as_ref(), queue.netns, at))
        .about(queue.listeners.iter().copied())
        .evidence("drops_since_open", Evidence::Count(drops.since_open))
        .evidence("new_drops", Evidence::count(drops.new))
        .evidence("accept_queue", Evidence::Count(queue.queued()))
        .evidence("backlog", Evidence::count(queue.capacity().map(|n| n - queue.listeners.len() as u64)))
        .evidence("netns_listen_overflows", Evidence::count(delta(Counter::TcpExtListenOverflows)))
        .evidence("netns_listen_drops", Evidence::count(delta(Counter::TcpExtListenDrops)))
        .evidence("netns_packets_without_route", Evidence::count(delta(Counter::IpOutNoRoutes)))
        .next(format!("tcpstate list -l -m -p --local {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, listen};
    use crate::model::SkMem;

    fn dropped(drops: Option<u32>) -> Socket {
        Socket { skmem: Some(SkMem { drops, ..SkMem::default() }), ..listen("0.0.0.0:80", 0, 8) }
    }

    fn world(drops: u32) -> World {
        let mut world = World::new();
        world.add(dropped(Some(drops))).hold(812, "server", 3, 80 << 16);
        for counter in [Counter::TcpExtListenOverflows, Counter::TcpExtListenDrops, Counter::TcpExtTcpReqQFullDrop] {
            world.counter(counter, drops.into());
        }
        world
    }

    fn grow(world: &mut World, to: u32, counters: &[Counter]) {
        world.later(2000).now.sockets[0] = dropped(Some(to));
        for counter in counters {
            world.counter(*counter, to.into());
        }
    }

    #[test]
    fn old_drops_are_knowledge() {
        let mut world = world(355);
        let one = world.check(check);
        let [finding] = &one.findings[..] else { panic!("{one:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(812)));
        assert!(
            finding.summary.ends_with("dropped 355 connection attempts since it was opened"),
            "{}",
            finding.summary
        );
        assert_eq!(finding.lasting_ms, None);
        let two = world.later(2000).check(check);
        assert!(two.findings[0].summary.ends_with("none of them in the last 2.0 s"), "{}", two.findings[0].summary);
    }

    #[test]
    fn growth_is_high_unless_another_rule_tells_it() {
        let mut routes = world(3);
        grow(&mut routes, 7, &[Counter::TcpExtListenDrops]);
        let finding = &routes.check(check).findings[0];
        assert_eq!((finding.severity, finding.lasting_ms), (Severity::High, Some(Measure::AtLeast(2000))));
        assert!(finding.summary.contains("dropped 4 in 2.0 s although"), "{}", finding.summary);
        for other in [Counter::TcpExtListenOverflows, Counter::TcpExtTcpReqQFullDrop] {
            let mut full = world(3);
            grow(&mut full, 7, &[Counter::TcpExtListenDrops, other]);
            assert_eq!(full.check(check).findings[0].severity, Severity::Info);
        }
    }

    #[test]
    fn answers_that_find_no_route_are_told_from_full_queues() {
        let mut unrouted = world(3);
        unrouted.counter(Counter::IpOutNoRoutes, 3);
        grow(&mut unrouted, 7, &[Counter::TcpExtListenDrops, Counter::IpOutNoRoutes]);
        let finding = &unrouted.check(check).findings[0];
        assert_eq!(finding.severity, Severity::High);
        assert!(
            finding.summary.contains("could not answer 4 of its SYNs in 2.0 s: this host has no route"),
            "{finding:#?}"
        );
        assert!(finding.remedy.len() == 1 && finding.remedy[0].starts_with("Give this host a route"), "{finding:#?}");
        // Fewer packets were without a route than were dropped.
        let mut other = world(3);
        grow(&mut other, 7, &[Counter::TcpExtListenDrops]);
        other.counter(Counter::IpOutNoRoutes, 2);
        assert!(!other.check(check).findings[0].summary.contains("route"));
    }

    #[test]
    fn what_is_no_dropped_handshake_counts_in_the_socket_alone() {
        // RSTs that come to the listener because their connection is over.
        let mut resets = world(0);
        grow(&mut resets, 3559, &[]);
        assert_eq!(resets.check(check), Outcome::default());
        let mut both = world(3);
        grow(&mut both, 7, &[]);
        let finding = &both.check(check).findings[0];
        assert_eq!(finding.severity, Severity::Info);
        assert!(
            finding
                .summary
                .ends_with("dropped at most 3 connection attempts since it was opened, none of them in the last 2.0 s"),
            "{}",
            finding.summary
        );
    }

    #[test]
    fn no_drops_and_no_counter_are_silent() {
        assert_eq!(world(0).check(check), Outcome::default());
        let mut unknown = World::new();
        unknown.add(dropped(None)).add(listen("0.0.0.0:81", 0, 8));
        assert_eq!(unknown.check(check), Outcome::default());
    }
}
