//! Connections of one program to one destination become more and more, while those it has stand unused.
//!
//! Input: open connections of two samples, with the stamps of their data. Output: one finding per process and
//! destination, or per listener and client where the client is elsewhere. Not here: what fails when descriptors or
//! ports are gone (`fd-exhaustion`, `ephemeral-port-exhaustion`).
//!
#![doc = include_str!("../../../docs/rules/connection-pool-growth.md")]

use std::cell::OnceCell;
use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::descriptors;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::last_word::{self, By};
use crate::diagnose::listener_owner::{self, Owner};
use crate::diagnose::measure::Measure;
use crate::diagnose::peers;
use crate::diagnose::places::{self, Key, Place};
use crate::diagnose::programs;
use crate::diagnose::ranking;
use crate::diagnose::rate::Rate;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::{Endpoint, NetnsId, Socket, State};
use crate::text;

pub(super) const RULE: Rule = rule!(
    "connection-pool-growth",
    Established,
    Two,
    "connections to one destination become more while those that are there stand unused",
    check,
    [TEXT]
)
.states(&[State::Established])
.title("unused connections grow")
.identity(Identity::ProgramAndDestination)
.causes(CAUSES)
.cost(3);

const RETURN: &str = "Give each connection back where it was taken: close() or release in a `finally`, `with` or \
                      `defer`, also after errors; read and close the body of every HTTP answer";
const BOUND: &str = "Set a maximum size and an idle timeout for the pool, and log where a connection was taken that is \
                     out for too long (leak detection)";
const SHARE: &str = "Make one pool or client object per process, not one per request";
const ASK: &str = "Ask whether the peers still have them: `ss -tn` there, or keepalive in the server, which ends those that \
                   are gone";
const SERVER: &str =
    "On the server: an idle timeout and a limit per client (idle_session_timeout, wait_timeout, maxclients)";

const TEXT: Text = Text {
    why: "A pool opens a connection only when none of its own is free. This program opens new ones beside many that \
          nobody uses, so what it took does not come back; it ends when descriptors, ports or the server's limit do.",
    remedy: &[RETURN, BOUND, SHARE, ASK, SERVER],
    avoid: &[
        "Don't raise the descriptor limit or the server's max_connections alone: it buys time",
        "Don't rely on tcp_keepalive_time where the peers still have these connections: keepalive ends only what is dead",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "not-given-back",
        text: "connections are taken and never given back",
        predicts: "what is unused stays unused while new ones are opened, without an end",
        refuted_by: "the growth ends at a size that is configured",
        decided_by: "`tcpstate doctor --interval 60s`; the leak detection of the pool",
    },
    Cause {
        id: "pool-fills",
        text: "a pool is filled to the size that is configured",
        predicts: "all of them were opened in the last moments, and the growth ends",
        refuted_by: "they have been opened for a minute or longer",
        decided_by: "the pool's minimum size against the number of connections",
    },
    Cause {
        id: "one-per-session",
        text: "each connection is a session of its own that waits for the peer (subscriptions, websockets, a load test)",
        predicts: "each of them said something once: it logged in, subscribed or upgraded",
        refuted_by: "no byte was ever sent on them",
        decided_by: "what the program is for; whether the protocol lets the server speak first",
    },
    Cause {
        id: "peer-gone",
        text: "the peer has closed them, and its FIN or RST never came (a filter, or a host that vanished)",
        predicts: "seen from the server only; the client has none of them any more",
        refuted_by: "a client on this host, or one that answers on them",
        decided_by: "`ss -tn` on the client; one keepalive probe, which its host answers with a RST or not at all",
    },
];

/// Unused connections beside which nobody opens new ones on purpose (policy): more than what browsers keep and what
/// most pools begin with.
const UNUSED: usize = 20;
/// New ones between the samples that are growth and not an accident.
const OPENED: u64 = 2;
/// Unused before the first sample for so long: a connection between two requests is not.
const RESTED_MS: u64 = 1000;
/// In one sample: somebody was active so lately that a second sample may show growth.
const LATELY_MS: u64 = 10_000;
/// Growth for so long is no start of a pool (policy).
const LONG_MS: u64 = 60_000;
/// A limit that is reached within this is as good as reached (policy).
const NEAR_MS: u64 = 30_000;
/// So many are more than any pool is configured to hold at its start (policy).
const MANY: usize = 1000;
/// Into so many parts the time since the oldest stamp is cut, each of which must have one, for growth to be steady.
const PARTS: u64 = 6;

pub(super) fn check(view: &View<'_>) -> Outcome {
    let groups = places::with_at_least(view, UNUSED);
    if groups.is_empty() {
        return Outcome::default();
    }
    let inbound = Inbound::new(view);
    let Some(before) = view.before else { return suspects(view, &groups, &inbound) };
    let before = places::counts(view, before, &groups);
    let mut grown: Vec<Growth<'_, '_>> = groups
        .iter()
        .filter_map(|(key, rows)| Growth::of(view, *key, rows, before.get(key).copied().unwrap_or(0), &inbound))
        .collect();
    grown.sort_by_key(|g| (std::cmp::Reverse(g.unused.len()), g.rows.first().map(|s| s.four_tuple())));
    Outcome::findings(ranking::alike(grown.iter().map(|g| g.finding(view)).collect()))
}

/// How many connections that it accepted each process has open, counted when it is first asked: a relay has one for each
/// that it opened.
struct Inbound<'v, 'a> {
    view: &'v View<'a>,
    counts: OnceCell<FxHashMap<Option<u32>, usize>>,
}

impl<'v, 'a> Inbound<'v, 'a> {
    fn new(view: &'v View<'a>) -> Inbound<'v, 'a> {
        Inbound { view, counts: OnceCell::new() }
    }

    fn of(&self, pid: Option<u32>) -> usize {
        let counts = self.counts.get_or_init(|| {
            let mut counts = FxHashMap::default();
            for (socket, role) in self.view.rows() {
                if matches!(role, Role::Server(_) | Role::FormerServer) && socket.state == State::Established {
                    *counts.entry(self.view.holder(socket).map(|p| p.pid)).or_default() += 1;
                }
            }
            counts
        });
        counts.get(&pid).copied().unwrap_or(0)
    }
}

/// Nothing is under way, and the end that would use it next is the one that asks: a request that waits for its answer
/// is in use.
fn rested_ms(place: &Place, socket: &Socket) -> Option<u64> {
    let last = last_word::of(socket)?;
    let waits_for = match place {
        Place::To { .. } => By::Us,
        Place::From { .. } => By::Peer,
    };
    let at_rest = socket.recv_q_bytes == 0 && socket.send_q_bytes == Some(0);
    (at_rest && last.by != waits_for).then_some(last.ago_ms)
}

/// Whether the process relays: it has an accepted connection for each of these.
fn relays(place: &Place, unused: usize, inbound: &Inbound<'_, '_>) -> bool {
    match place {
        Place::To { pid, .. } => inbound.of(*pid) >= unused,
        Place::From { .. } => false,
    }
}

/// What one sample cannot tell: whether they become more.
fn suspects(view: &View<'_>, groups: &FxHashMap<Key, Vec<&Socket>>, inbound: &Inbound<'_, '_>) -> Outcome {
    let most = groups.iter().filter_map(|((_, place), rows)| {
        let rested: Vec<u64> = rows.iter().filter_map(|s| rested_ms(place, s)).collect();
        let unused = rested.iter().filter(|ms| **ms >= RESTED_MS).count();
        let lately = rested.iter().min().is_some_and(|ms| *ms <= LATELY_MS);
        let told_by_client = matches!(place, Place::From { .. }) && rows.iter().any(|s| view.mirror(s).is_some());
        let suspect = unused >= UNUSED && lately && !told_by_client && !relays(place, unused, inbound);
        suspect.then_some(unused)
    });
    match most.max() {
        Some(n) => Outcome::wants_second(format!(
            "whether {} become more",
            text::count(n as u64, "unused connection", "unused connections")
        )),
        None => Outcome::default(),
    }
}

/// A place whose unused connections become more.
struct Growth<'v, 'a> {
    netns: Option<NetnsId>,
    place: Place,
    rows: &'v [&'a Socket],
    unused: Vec<&'a Socket>,
    opened: u64,
    closed: u64,
    rate: Rate,
    /// For how long connections have been added steadily and not used again since.
    steady_ms: u64,
    oldest_ms: u64,
    /// No byte was ever sent on any of them.
    is_mute: bool,
}

impl<'v, 'a> Growth<'v, 'a> {
    fn of(
        view: &View<'a>,
        (netns, place): Key,
        rows: &'v [&'a Socket],
        before: u64,
        inbound: &Inbound<'_, '_>,
    ) -> Option<Growth<'v, 'a>> {
        let interval_ms = view.interval_ms()?;
        let kept = rows.iter().filter(|s| view.earlier(s).is_some()).count() as u64;
        let opened = rows.len() as u64 - kept;
        let closed = before.saturating_sub(kept);
        if opened < OPENED || closed * 4 > opened {
            return None;
        }
        let rested: Vec<(&Socket, u64)> = rows.iter().filter_map(|s| Some((*s, rested_ms(&place, s)?))).collect();
        let unused: Vec<&Socket> =
            rested.iter().filter(|(_, ms)| *ms >= interval_ms + RESTED_MS).map(|(s, _)| *s).collect();
        // The client's end knows the program that opens them.
        let told_by_client =
            matches!(place, Place::From { .. }) && unused.first().is_some_and(|s| view.mirror(s).is_some());
        if unused.len() < UNUSED || unused.len() * 2 < rows.len() || told_by_client {
            return None;
        }
        if relays(&place, unused.len(), inbound) {
            return None;
        }
        let stamps: Vec<u64> = rested.iter().map(|(_, ms)| *ms).collect();
        let oldest_ms = stamps.iter().copied().max()?;
        Some(Growth {
            netns,
            place,
            rows,
            opened,
            closed,
            rate: Rate::of(opened, interval_ms)?,
            steady_ms: if is_steady(&stamps, oldest_ms) { oldest_ms } else { 0 },
            oldest_ms,
            is_mute: unused.iter().all(|s| last_word::of(s).is_some_and(|last| last.by == By::Nobody)),
            unused,
        })
    }

    fn causes(&self) -> Weighed {
        Weighed::of(CAUSES, |cause| match cause.id {
            "pool-fills" if self.steady_ms >= LONG_MS => {
                Weight::Refuted(format!("they have been opened for {}", text::duration(self.steady_ms)))
            }
            "pool-fills" => Weight::Possible(if self.unused.len() >= MANY { 0.05 } else { 0.3 }),
            "one-per-session" if self.is_mute => Weight::Refuted("no byte was ever sent on them".to_owned()),
            "one-per-session" => Weight::Possible(0.25),
            "peer-gone" if matches!(self.place, Place::To { .. }) => {
                Weight::Refuted("the program itself holds them open".to_owned())
            }
            "peer-gone" => Weight::Possible(0.3),
            _ => Weight::Possible(0.6),
        })
    }

    fn finding(&self, view: &View<'a>) -> Finding {
        match self.place {
            Place::To { destination, pid } => self.of_client(view, destination, pid),
            Place::From { listener, client } => self.of_server(view, listener, client),
        }
    }

    fn of_client(&self, view: &View<'a>, destination: Endpoint, pid: Option<u32>) -> Finding {
        let process = pid.and_then(|_| view.holder(self.rows[0]));
        let who = process.map_or_else(|| peers::nobody(view, self.rows.first().copied()), text::name);
        let per_second = self.rate.per_second();
        let share = pid.map(|pid| descriptors::Share::new(view, pid, self.unused.len() as u64, Some(per_second)));
        let emfile_ms = share.and_then(|s| s.emfile_in_ms);
        let sources: std::collections::BTreeSet<IpAddr> = self.rows.iter().map(|s| s.local.addr).collect();
        let ports = view.netns(self.netns).filter(|_| sources.len() == 1).map(|n| u64::from(n.usable_ports()));
        let ports_ms = ports.map(|usable| self.rate.lasts_ms(usable.saturating_sub(self.rows.len() as u64)));
        let (left_ms, limit) = match (emfile_ms, ports_ms) {
            (Some(fd), Some(port)) if port < fd => (Some(port), "local ports to it"),
            (Some(fd), _) => (Some(fd), "descriptors"),
            (None, port) => (port, "local ports to it"),
        };
        let summary =
            format!("{who} opens {} to {destination} and closes {}: {}", self.rate, self.closed_words(), self.words());
        let mut subject = match process {
            Some(process) => view.subject_of(process, self.netns),
            None => Subject { netns: self.netns, uid: self.rows[0].uid, ..Subject::default() },
        };
        subject.destination = Some(destination);
        let selection = pid.map_or_else(String::new, |pid| format!(" --pid {pid}"));
        let finding = self.about(left_ms, limit, summary, view).subject(subject).steps([RETURN, BOUND, SHARE]);
        let finding = match share {
            Some(share) => share.onto(finding),
            None => finding,
        };
        finding.next(format!("tcpstate list --state established -i{selection} --peer {destination}"))
    }

    fn of_server(&self, view: &View<'a>, listener: Endpoint, client: IpAddr) -> Finding {
        let queue = view.queues().get(self.netns, listener);
        let owner = queue.and_then(|q| Owner::of(view, &q.listeners));
        let limit = owner.as_ref().and_then(|o| programs::connection_limit(&view.process(o.process.pid)?.cmdline));
        let of_listener = view
            .rows()
            .filter(|(s, role)| {
                s.netns == self.netns
                    && s.state == State::Established
                    && matches!(role, Role::Server(i) if view.listeners(s.netns).get(*i).local == listener)
            })
            .count() as u64;
        let left_ms = limit.map(|limit| self.rate.lasts_ms(limit.saturating_sub(of_listener)));
        let of = limit.map_or_else(String::new, |n| format!(", of {} that its command line permits", text::grouped(n)));
        let summary = format!(
            "{client} opens {} to {listener} ({}) and closes {}: {}{of}",
            self.rate,
            listener_owner::name(owner.as_ref()),
            self.closed_words(),
            self.words(),
        );
        let mut subject = listener_owner::subject(view, owner.as_ref(), self.netns, listener);
        subject.destination = Some(Endpoint::new(client, 0));
        self.about(left_ms, "connections that the server permits", summary, view)
            .subject(subject)
            .evidence("connections_of_listener", Evidence::Count(of_listener))
            .evidence("connection_limit", Evidence::count(limit))
            .steps([ASK, RETURN, BOUND, SERVER])
            .next(format!("tcpstate list --state established -i --local {listener} dst {client}"))
    }

    /// The limit comes at once, and these have used more of it than is left: no pool is made so large.
    fn is_near(&self, left_ms: Option<u64>) -> bool {
        left_ms
            .is_some_and(|ms| ms <= NEAR_MS && self.rate.per_second() * ms as f64 <= self.unused.len() as f64 * 1000.0)
    }

    /// What both ends tell alike.
    fn about(&self, left_ms: Option<u64>, limit: &str, summary: String, view: &View<'_>) -> Finding {
        let soon = left_ms.is_some_and(|ms| (ms as f64) < view.thresholds.fd_eta_high_hours * 3_600_000.0);
        let lasts = self.steady_ms >= LONG_MS || self.unused.len() >= MANY;
        let severity = if soon && (lasts || self.is_near(left_ms)) { Severity::Warning } else { Severity::Info };
        let summary = match left_ms.filter(|_| soon) {
            Some(ms) => format!("{summary}; at this rate {limit} last for {}", text::duration(ms)),
            None => summary,
        };
        RULE.finding(severity, if lasts { 0.9 } else { 0.7 }, summary)
            .because(
                "two samples show what was opened, closed and not used; whether it ends at a size that somebody chose \
                 does not show",
            )
            .causes(self.causes())
            .about(self.rows.iter().copied())
            .lasting(view.interval_ms().map(|interval| Measure::AtLeast(interval.max(self.steady_ms))))
            .exhausted_in(left_ms.filter(|_| soon).map(Measure::Estimate))
            .evidence("connections", Evidence::Count(self.rows.len() as u64))
            .evidence("unused", Evidence::Count(self.unused.len() as u64))
            .evidence("opened", Evidence::Count(self.opened))
            .evidence("closed", Evidence::Count(self.closed))
            .evidence("opened_per_second", Evidence::PerSecond(self.rate.per_second()))
            .evidence("oldest_unused_ms", Evidence::Millis(self.oldest_ms))
            .evidence("steady_ms", Evidence::Millis(self.steady_ms))
    }

    fn closed_words(&self) -> String {
        if self.closed == 0 { "none".to_owned() } else { text::grouped(self.closed) }
    }

    /// `1,580 of 1,660 stand unused, the oldest for 5.0 s`.
    fn words(&self) -> String {
        let never = if self.is_mute { "never sent a byte" } else { "stand unused" };
        format!(
            "{} of {} {never}, the oldest for {}",
            text::grouped(self.unused.len() as u64),
            text::grouped(self.rows.len() as u64),
            text::duration(self.oldest_ms)
        )
    }
}

/// Whether connections came all the time: each part of the time since the oldest stamp has a stamp.
fn is_steady(stamps: &[u64], oldest_ms: u64) -> bool {
    let part_of = |stamp: u64| (stamp * PARTS / (oldest_ms + 1)).min(PARTS - 1);
    (0..PARTS).all(|part| stamps.iter().any(|stamp| part_of(*stamp) == part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row, unheld};

    /// A connection of the pool that rested for so long; `said` bytes went each way before.
    fn pooled(n: u16, rested: u64, said: u64) -> Socket {
        spoken(row(State::Established, &format!("10.0.0.1:{}", 40_000 + n), "10.0.0.2:5432"), rested, said)
    }

    fn spoken(socket: Socket, rested: u64, said: u64) -> Socket {
        let fields = [
            ("last_data_sent_ms", rested),
            ("last_data_recv_ms", rested),
            ("bytes_sent", said),
            ("bytes_acked", said + 1),
            ("bytes_received", said),
        ];
        info(socket, &fields)
    }

    /// A pool of `n` connections whose last use was `every` ms apart, and `opened` more two seconds later.
    fn grows(n: u16, every: u64, opened: u16, said: u64) -> World {
        let mut world = World::new();
        for i in 0..n {
            held(&mut world, pooled(i, 1000 + u64::from(n - i) * every, said));
        }
        world.later(2000);
        for socket in &mut world.now.sockets {
            let info = socket.info.as_mut().unwrap();
            for stamp in ["last_data_sent_ms", "last_data_recv_ms"] {
                let age = u64::from(info.last_data_sent_ms().unwrap());
                assert!(info.set(stamp, if stamp == "last_data_sent_ms" { age + 2000 } else { age }));
            }
        }
        for i in 0..opened {
            held(&mut world, pooled(n + i, 2000 * u64::from(opened - i) / u64::from(opened) - 1, said));
        }
        world
    }

    fn held(world: &mut World, socket: Socket) {
        world.hold(812, "app", u32::from(socket.local.port), socket.inode).add(socket);
    }

    #[test]
    fn growth_beside_unused_connections_is_told_with_what_proves_it() {
        let outcome = grows(1500, 2, 80, 0).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
        assert_eq!(finding.subject.destination.map(|d| d.to_string()).as_deref(), Some("10.0.0.2:5432"));
        assert!(
            finding.summary.starts_with(
                "app (812) opens 40 a second to 10.0.0.2:5432 and closes none: 1,500 of 1,580 never sent a byte"
            ),
            "{}",
            finding.summary
        );
        let left: Vec<&str> = finding.causes.left.iter().map(|h| h.cause.id).collect();
        assert_eq!(left, ["not-given-back", "pool-fills"]);
        let spoke = grows(1500, 2, 80, 100).check(check);
        assert!(spoke.findings[0].causes.left.iter().any(|h| h.cause.id == "one-per-session"));
    }

    #[test]
    fn a_warning_needs_long_growth_or_very_many_and_a_limit_that_comes_soon() {
        let severity = |world: &World| world.check(check).findings.first().map(|f| f.severity);
        assert_eq!(severity(&grows(999, 2, 80, 0)), Some(Severity::Info));
        assert_eq!(severity(&grows(1000, 2, 80, 0)), Some(Severity::Warning));
        // One a second for a minute, 1024 descriptors.
        assert_eq!(severity(&grows(57, 1000, 2, 100)), Some(Severity::Warning));
        assert_eq!(severity(&grows(56, 1000, 2, 100)), Some(Severity::Info));
        // As long, but all of an hour ago and two of now: a pool that grew under load and does so again.
        let mut again = grows(57, 1, 2, 100);
        for socket in again.now.sockets.iter_mut().take(57) {
            assert!(socket.info.as_mut().unwrap().set("last_data_recv_ms", 3_600_000));
            assert!(socket.info.as_mut().unwrap().set("last_data_sent_ms", 3_600_000));
        }
        assert_eq!(severity(&again), Some(Severity::Info));
        // 140 of 200 descriptors after 14 s, ten more each second.
        let limited = |fds: u64| {
            let mut world = grows(120, 100, 20, 100);
            let facts = world.now.processes.get_mut(&812).unwrap();
            (facts.fd_used, facts.fd_soft) = (Some(150), Some(fds));
            severity(&world)
        };
        assert_eq!((limited(200), limited(1024)), (Some(Severity::Warning), Some(Severity::Info)));
        let mut far = grows(57, 1000, 2, 100);
        far.now.processes.get_mut(&812).unwrap().fd_soft = Some(1 << 20);
        assert_eq!(severity(&far), Some(Severity::Info), "28,232 ports last for hours");
    }

    #[test]
    fn pools_that_fill_rest_are_used_or_close_are_silent() {
        let silent = |world: &World| assert_eq!(world.check(check), Outcome::default());
        silent(&grows(19, 100, 10, 100));
        assert_eq!(grows(20, 100, 10, 100).check(check).findings.len(), 1);
        silent(&grows(200, 100, 1, 100));
        // As many closed as a quarter of those opened is churn beside a pool.
        let mut churn = grows(40, 100, 4, 100);
        churn.now.sockets.remove(0);
        assert_eq!(churn.check(check).findings.len(), 1);
        churn.now.sockets.remove(0);
        silent(&churn);
        // The others are in use: a request waits, data moved, data waits.
        let mut busy = grows(40, 100, 10, 100);
        for (n, socket) in busy.now.sockets.iter_mut().enumerate().take(21) {
            match n % 3 {
                0 => assert!(socket.info.as_mut().unwrap().set("last_data_recv_ms", 60_000)),
                1 => assert!(socket.info.as_mut().unwrap().set("last_data_recv_ms", 2999)),
                _ => socket.recv_q_bytes = 9,
            }
        }
        silent(&busy);
    }

    #[test]
    fn a_relay_opens_one_for_each_that_it_accepted() {
        let with = |accepted: u16| {
            let mut relay = grows(30, 100, 10, 100);
            relay.add(listen("10.0.0.1:80", 0, 128));
            for n in 0..accepted {
                held(
                    &mut relay,
                    spoken(row(State::Established, "10.0.0.1:80", &format!("10.0.0.9:{}", 30_000 + n)), 9, 9),
                );
            }
            relay.check(check).findings.iter().filter(|f| f.subject.comm.as_deref() == Some("app")).count()
        };
        assert_eq!((with(29), with(30)), (1, 0));
    }

    #[test]
    fn one_sample_asks_for_a_second_only_when_somebody_was_active() {
        let mut world = World::new();
        for n in 0..20 {
            held(&mut world, pooled(n, 60_000, 100));
        }
        assert_eq!(world.check(check), Outcome::default());
        held(&mut world, pooled(20, 10_001, 100));
        assert_eq!(world.check(check), Outcome::default());
        held(&mut world, pooled(21, 10_000, 100));
        assert_eq!(world.check(check).wants_second.as_deref(), Some("whether 22 unused connections become more"));
    }

    /// The same from the server's end, where only the client's address is known.
    fn served(cmdline: &[&str], local_client: bool) -> World {
        let mut world = World::new();
        world.add(listen("10.0.0.2:5432", 0, 128)).hold(700, "postgres", 3, u64::from(5432u16) << 16);
        let add = |world: &mut World, n: u16, rested| {
            let base = row(State::Established, "10.0.0.2:5432", &format!("10.0.0.1:{}", 40_000 + n));
            let socket = spoken(base, rested, 100);
            world.hold(701 + u32::from(n), "postgres", 9, socket.inode).add(socket);
        };
        (0..62).for_each(|n| add(&mut world, n, 3000 + 1000 * u64::from(n)));
        world.later(2000);
        (62..64).for_each(|n| add(&mut world, n, 1000 * u64::from(n - 62)));
        if local_client {
            for n in 0..64 {
                world.add(unheld(row(State::Established, &format!("10.0.0.1:{}", 40_000 + n), "10.0.0.2:5432")));
            }
        }
        world.now.processes.get_mut(&700).unwrap().cmdline = cmdline.iter().map(|w| (*w).to_owned()).collect();
        world
    }

    #[test]
    fn a_server_tells_the_client_and_the_limit_that_its_command_line_has() {
        let outcome = served(&["postgres", "-D", "/d", "-c", "max_connections=100"], false).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(700)));
        assert!(
            finding.summary.starts_with("10.0.0.1 opens 1.0 a second to 10.0.0.2:5432 (postgres"),
            "{}",
            finding.summary
        );
        assert!(finding.summary.contains("62 of 64 stand unused"), "{}", finding.summary);
        assert!(finding.summary.contains("of 100 that its command line permits; at this rate"), "{}", finding.summary);
        // Whether the client still has them cannot be seen from here.
        let may_be_gone = |f: &Finding| f.causes.left.iter().any(|h| h.cause.id == "peer-gone");
        assert!(may_be_gone(finding) && finding.remedy[0] == ASK);
        assert!(!may_be_gone(&grows(1500, 2, 80, 0).check(check).findings[0]));
        let unknown = served(&["postgres", "-D", "/d"], false).check(check);
        assert_eq!(unknown.findings[0].severity, Severity::Info, "no limit is known");
        assert_eq!(served(&["postgres"], true).check(check).findings, [], "the client is here, and tells more");
    }
}
