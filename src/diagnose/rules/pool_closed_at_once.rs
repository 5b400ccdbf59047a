//! The other side closed all connections of a pool in one instant, and the program still holds them.
//!
//! Input: CLOSE_WAIT rows that a program opened and has not read to their end. Output: one finding per process and
//! destination. Not here: connections that are closed one by one (`close-wait-leak`).
//!
#![doc = include_str!("../../../docs/rules/pool-closed-at-once.md")]

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::close_wait::{self, Unread};
use crate::diagnose::finding::{Evidence, Finding, Severity, Topic};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::measure::Measure;
use crate::diagnose::peers::{Group, Peers};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::{Endpoint, Socket, State};
use crate::text;

pub(super) const RULE: Rule = rule!(
    "pool-closed-at-once",
    CloseWait,
    One,
    "all connections of a pool were closed by the peer in one instant, and are still held",
    check,
    [TEXT]
)
.states(&[State::CloseWait])
.title("pool of dead connections")
.topic(Topic::CloseWait)
.identity(Identity::ProgramAndDestination)
.causes(CAUSES);

const TEXT: Text = Text {
    why: "The FIN of each of them has arrived, and nobody has read it. A pool that does not look before it lends a connection \
          hands out one dead connection after the other, and each use fails.",
    remedy: &[
        "Empty the pool now, or restart the program: whatever is in it is dead",
        "Let the pool test a connection before it lends it (pre-ping, test on borrow), or watch idle ones for their end",
        "After one failed use let it drop every connection that is older than the failure, and retry what is idempotent",
    ],
    avoid: &[
        "Don't turn on keepalive for this: the FIN has arrived, and the program has not read it",
        "Don't retry on the next connection of the same pool: it is as dead",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "sessions-ended",
        text: "the server ended all sessions at once: a restart, a failover, or an administrator",
        predicts: "one instant, whenever each was used last; often a last line that says so",
        refuted_by: "connections that idled equally long before",
        decided_by: "the server's log at that time; how long its process has run",
    },
    Cause {
        id: "idle-sweep",
        text: "the server looks at idle connections now and then, and closed those over its limit together",
        predicts: "connections in use were spared",
        refuted_by: "a last line that names another reason",
        decided_by: "the server's idle timeout against the idle times here",
    },
];

/// A pool, and no accident (policy).
const POOL: usize = 5;
/// So many milliseconds are one instant for a server that ends its sessions (policy).
const INSTANT_MS: u64 = 100;
/// A pool that watches its connections has closed them by then (policy).
const KEPT_MS: u64 = 10_000;
/// Idle times that differ by so much were not cut by one limit: beside last words, and beside a bare FIN, which servers also
/// send on a round that they make each second.
const IDLE_SPREAD_MS: u64 = 50;
const IDLE_SPREAD_MUTE_MS: u64 = 2000;

fn check(view: &View<'_>) -> Outcome {
    let dead = view.restless_rows().filter(|(s, role)| *role == Role::Client && close_wait::is_held(s));
    let unheard = dead.map(|(s, _)| s).filter(|s| matches!(Unread::of(s, true), Unread::Eof | Unread::LastWords));
    let rows: Vec<&Socket> = unheard.collect();
    if rows.len() < POOL {
        return Outcome::default();
    }
    let ends = Peers::new(view);
    let mut findings = Vec::new();
    for group in ends.groups(rows, false) {
        let mut rows = group.rows.clone();
        rows.sort_by_key(|s| s.peer.normalised());
        for to_one in rows.chunk_by(|a, b| a.peer.normalised() == b.peer.normalised()) {
            let Some(end) = End::of(to_one) else { continue };
            let to = to_one[0].peer.normalised();
            if !is_renewed(view, &ends, &group, to) {
                findings.push(finding(view, &Group { rows: to_one.to_vec(), ..group.clone() }, to, &end));
            }
        }
    }
    Outcome::findings(ranking::alike(findings))
}

/// Whether the pool has opened new connections there, so that it has noticed.
fn is_renewed(view: &View<'_>, ends: &Peers<'_, '_>, group: &Group<'_>, to: Endpoint) -> bool {
    let pid = group.owner.map(|p| p.pid);
    view.rows().any(|(s, _)| {
        s.state == State::Established
            && s.netns == group.netns
            && s.peer.normalised() == to
            && ends.owner(s).map(|p| p.pid) == pid
    })
}

/// How the connections of a pool ended.
struct End {
    /// Since the last of them.
    ago_ms: u64,
    /// Between the first end and the last one.
    within_ms: u64,
    /// How long the one that was used last and the one that was used first had been idle.
    idle_ms: (u64, u64),
    last_words: u64,
}

impl End {
    /// `None`: they ended one by one, or as an idle limit ends them.
    fn of(rows: &[&Socket]) -> Option<End> {
        if rows.len() < POOL {
            return None;
        }
        let mut ended = Vec::new();
        let mut idle = Vec::new();
        for socket in rows {
            let info = socket.info.as_deref()?;
            // The last words came with the FIN; without any the state tells.
            let ago_ms = match Unread::of(socket, true) {
                Unread::LastWords => u64::from(info.last_data_recv_ms()?),
                _ => socket.state_age()?.min_ms,
            };
            ended.push(ago_ms);
            idle.push(u64::from(info.last_data_sent_ms()?).saturating_sub(ago_ms));
        }
        let spread = |of: &[u64]| Some((*of.iter().min()?, *of.iter().max()?));
        let ((last, first), idle_ms) = (spread(&ended)?, spread(&idle)?);
        let last_words = rows.iter().filter(|s| Unread::of(s, true) == Unread::LastWords).count() as u64;
        let end = End { ago_ms: last, within_ms: first - last, idle_ms, last_words };
        let differ_ms = idle_ms.1 - idle_ms.0;
        let least_ms = if last_words == rows.len() as u64 { IDLE_SPREAD_MS } else { IDLE_SPREAD_MUTE_MS };
        let at_once = end.within_ms <= INSTANT_MS && differ_ms >= least_ms.max(2 * end.within_ms);
        (at_once && end.ago_ms >= KEPT_MS).then_some(end)
    }
}

fn finding(view: &View<'_>, group: &Group<'_>, to: Endpoint, end: &End) -> Finding {
    let n = group.rows.len() as u64;
    let words = if end.last_words == n { ", with last words that nobody has read" } else { "" };
    let summary = format!(
        "{} holds {} to {to} that the other side closed in one instant {} ago{words}: each use of them fails",
        group.name(view),
        text::count(n, "connection", "connections"),
        text::duration(end.ago_ms),
    );
    let mut subject = group.subject(view);
    subject.destination = Some(to);
    RULE.finding(Severity::Warning, 0.75, summary)
        .because("the stamps of all ends agree, and those of their last use do not; whether the pool looks before it lends is not seen")
        .causes(Weighed::of(CAUSES, |cause| match cause.id {
            "sessions-ended" => Weight::Possible(if end.last_words == n { 0.85 } else { 0.7 }),
            _ => Weight::Possible(if end.last_words == n { 0.15 } else { 0.3 }),
        }))
        .lasting(Some(Measure::AtLeast(end.ago_ms)))
        .subject(subject)
        .about(group.rows.iter().copied())
        .evidence("count", Evidence::Count(n))
        .evidence("with_last_words", Evidence::Count(end.last_words))
        .evidence("ended_within_ms", Evidence::Millis(end.within_ms))
        .evidence("idle_min_ms", Evidence::Millis(end.idle_ms.0))
        .evidence("idle_max_ms", Evidence::Millis(end.idle_ms.1))
        .next(format!("tcpstate list --state close-wait -p -o -i --peer {to}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, row};

    /// A pool of eight whose connections ended `ended` ms ago and were used last `used` ms ago, each later by its number
    /// times a step; with so much unread.
    fn pool(recv_q: u32, (ended, step): (u64, u64), (used, used_step): (u64, u64)) -> World {
        let mut world = World::new();
        for n in 0..8u16 {
            let (ended, used) = (ended + step * u64::from(n), used + used_step * u64::from(n));
            let fields = [
                ("last_ack_recv_ms", ended),
                ("last_data_recv_ms", if recv_q > 1 { ended } else { used }),
                ("last_data_sent_ms", used),
                ("bytes_sent", 42),
                ("bytes_received", 522),
            ];
            let socket = info(row(State::CloseWait, &format!("10.0.0.1:{}", 40_000 + n), "10.0.0.2:5432"), &fields);
            let socket = Socket { recv_q_bytes: recv_q, ..socket };
            world.hold(812, "api", 5 + u32::from(n), socket.inode).add(socket);
        }
        world
    }

    #[test]
    fn a_pool_whose_server_was_restarted_is_a_warning() {
        let finding = pool(118, (15_500, 3), (19_300, 20)).check(check).findings.remove(0);
        assert_eq!((finding.severity, finding.causes.left[0].cause.id), (Severity::Warning, "sessions-ended"));
        assert_eq!(
            finding.summary,
            "api (812) holds 8 connections to 10.0.0.2:5432 that the other side closed in one instant 15 s ago, with last \
             words that nobody has read: each use of them fails"
        );
        assert_eq!(pool(1, (15_500, 3), (19_300, 400)).check(check).findings.len(), 1, "a bare FIN, used at all times");
    }

    #[test]
    fn limits_of_idle_time_young_ends_and_pools_that_noticed_are_silent() {
        for (case, world) in [
            ("one limit for all", pool(118, (15_500, 12), (19_300, 12))),
            ("one by one", pool(118, (15_500, 100), (19_300, 400))),
            ("just now", pool(118, (9_000, 3), (19_300, 20))),
            ("a round of the server each second", pool(1, (15_500, 3), (19_300, 100))),
            ("an answer is unread", pool(400, (15_500, 3), (19_300, 20))),
            ("read to the end", pool(0, (15_500, 3), (19_300, 400))),
        ] {
            assert_eq!(world.check(check), Outcome::default(), "{case}");
        }
        let mut few = pool(118, (15_500, 3), (19_300, 20));
        few.now.sockets.truncate(4);
        assert_eq!(few.check(check), Outcome::default());
        let mut renewed = pool(118, (15_500, 3), (19_300, 20));
        let socket = row(State::Established, "10.0.0.1:41000", "10.0.0.2:5432");
        renewed.hold(812, "api", 90, socket.inode).add(socket);
        assert_eq!(renewed.check(check), Outcome::default());
    }
}
