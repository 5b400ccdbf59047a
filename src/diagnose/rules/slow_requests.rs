//! A few clients hold many connections with requests that never end: a few bytes now and then, and no answer is due yet.
//!
//! Input: accepted connections, the queue of their listener. Output: one finding per listener. Not here: connections on
//! which nothing was ever sent (browsers keep such), and programs that do not read (`recv-queue-stuck`).
//!
#![doc = include_str!("../../../docs/rules/slow-requests.md")]

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Finding, Severity, most_frequent};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::last_word;
use crate::diagnose::listener_owner::{self, Owner};
use crate::diagnose::measure::Measure;
use crate::diagnose::peers;
use crate::diagnose::queues::Queue;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::{NetnsId, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("slow-requests", Established, OneOrTwo, "a few clients hold many unfinished requests", check, [TEXT])
        .states(&[State::Established])
        .title("unfinished requests")
        .identity(Identity::Listener)
        .causes(CAUSES);

const LIMIT_TIME: &str = "Limit the time for a whole request, not only between two bytes: RequestReadTimeout (apache), \
                          client_header_timeout (nginx), timeout http-request (haproxy)";
const LIMIT_CLIENT: &str = "Limit connections per client address: limit_conn (nginx), `ct count` (nftables)";
const FRONT: &str = "Put a proxy with an event loop in front of a server that has one worker per connection";

const TEXT: Text = Text {
    why: "A server with a worker per connection waits for the end of each request. Clients that send a few bytes now and \
          then keep it waiting without an end, at hardly any cost of their own.",
    remedy: &[LIMIT_TIME, LIMIT_CLIENT, FRONT],
    avoid: &[
        "Don't add workers or raise the backlog alone: the same clients take those too",
        "Don't raise tcp_max_syn_backlog or turn on SYN cookies: these handshakes are complete",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "held-open",
        text: "the clients hold them open, on purpose or by a fault of theirs",
        predicts: "few addresses with many connections each, a few bytes at a time",
        refuted_by: "as many addresses as connections",
        decided_by: "what they send: `tcpdump -A` of one of them",
    },
    Cause {
        id: "slow-path",
        text: "the path of these clients loses or delays what they send",
        predicts: "a long round trip, segments out of order",
        refuted_by: "a round trip below 200 ms and no segment out of order",
        decided_by: "rtt and rcv-ooopack of the connections",
    },
    Cause {
        id: "one-way-stream",
        text: "the protocol has no answers (logs, metrics), and these are its senders",
        predicts: "no connection of the listener is ever answered",
        refuted_by: "other connections of the listener are answered",
        decided_by: "what listens there",
    },
];

/// A request of this size or more is not held at its beginning: servers refuse longer headers.
const HEADER_BYTES: u64 = 8192;
/// It comes in so many pieces or more.
const PIECES: u32 = 3;
/// Unfinished requests of one listener that are a pattern (policy), and fewer where others wait for them.
const MANY: usize = 20;
const SOME: usize = 4;
/// In the mean so many or more of one address.
const PER_SOURCE: usize = 4;
/// A client that shares the path with nobody slow.
const SHORT_RTT_US: u32 = 200_000;

pub(super) fn check(view: &View<'_>) -> Outcome {
    // Few listeners have unfinished requests: what else they accepted is looked at only for those.
    let mut unfinished: FxHashMap<Place, Vec<(&Socket, u64)>> = FxHashMap::default();
    for (socket, place) in accepted(view) {
        if let Some(ms) = unfinished_ms(view, socket) {
            unfinished.entry(place).or_default().push((socket, ms));
        }
    }
    unfinished.retain(|_, rows| rows.len() >= SOME);
    if unfinished.is_empty() {
        return Outcome::default();
    }
    let mut others: FxHashMap<Place, Accepted> = FxHashMap::default();
    for (socket, place) in accepted(view).filter(|(_, place)| unfinished.contains_key(place)) {
        let of_place = others.entry(place).or_default();
        of_place.all += 1;
        of_place.answered += usize::from(last_word::has_sent(socket) == Some(true));
    }
    let mut findings: Vec<Finding> = unfinished
        .into_iter()
        .filter_map(|(place, rows)| {
            let (netns, index) = place;
            let queue = view.queues().get(netns, view.listeners(netns).get(index).local)?;
            let accepted = others.get(&place).copied().unwrap_or_default();
            Case::of(view, queue, rows, accepted).map(|case| case.finding(view))
        })
        .collect();
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.summary.cmp(&b.summary)));
    Outcome::findings(findings)
}

/// A listener: its namespace, and its place in the list there.
type Place = (Option<NetnsId>, u32);

/// What a listener accepted and somebody holds.
#[derive(Clone, Copy, Default)]
struct Accepted {
    all: usize,
    answered: usize,
}

fn accepted<'v, 'a>(view: &'v View<'a>) -> impl Iterator<Item = (&'a Socket, Place)> + use<'v, 'a> {
    view.rows().filter_map(|(socket, role)| match role {
        Role::Server(index) if peers::is_held(socket, &[State::Established]) => Some((socket, (socket.netns, index))),
        _ => None,
    })
}

/// For how long a request has come in without an end: nobody answered it, so the stamp of our data is that of the
/// accepted connection.
fn unfinished_ms(view: &View<'_>, socket: &Socket) -> Option<u64> {
    let info = socket.info.as_deref()?;
    let received = info.bytes_received().filter(|n| (1..HEADER_BYTES).contains(n))?;
    let grew = view.earlier(socket).and_then(|e| Some(received > e.info.as_deref()?.bytes_received()?));
    let in_pieces = info.data_segs_in()? >= PIECES || grew == Some(true);
    let is_read = socket.recv_q_bytes == 0;
    let age_ms = u64::from(info.last_data_sent_ms()?);
    let is_old = age_ms as f64 >= view.thresholds.slow_request_seconds * 1000.0;
    (last_word::has_sent(socket) == Some(false) && in_pieces && is_read && is_old).then_some(age_ms)
}

/// The unfinished requests of one listener.
struct Case<'v, 'a> {
    queue: &'v Queue<'a>,
    rows: Vec<&'a Socket>,
    accepted: usize,
    answered: usize,
    oldest_ms: u64,
    sources: usize,
    /// How long the first of those who wait to be accepted has waited.
    others_wait_ms: Option<u64>,
}

impl<'v, 'a> Case<'v, 'a> {
    fn of(
        view: &View<'_>,
        queue: &'v Queue<'a>,
        unfinished: Vec<(&'a Socket, u64)>,
        accepted: Accepted,
    ) -> Option<Case<'v, 'a>> {
        let oldest_ms = unfinished.iter().map(|(_, ms)| *ms).max()?;
        let rows: Vec<&Socket> = unfinished.into_iter().map(|(socket, _)| socket).collect();
        let mut addresses: Vec<IpAddr> = rows.iter().map(|s| s.peer.addr.to_canonical()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let was_waiting = view.queues_before().map(|q| q.get(queue.netns, queue.local).is_some_and(|q| q.queued() > 0));
        let waits = |ms: &u64| *ms as f64 >= view.thresholds.accept_wait_warn_seconds * 1000.0;
        let case = Case {
            queue,
            accepted: accepted.all,
            answered: accepted.answered,
            oldest_ms,
            sources: addresses.len(),
            others_wait_ms: queue.oldest_wait_ms().filter(waits).filter(|_| was_waiting != Some(false)),
            rows,
        };
        let few_sources = case.sources * PER_SOURCE <= case.rows.len();
        let enough = case.rows.len() >= if case.holds_others_up() { SOME } else { MANY };
        (few_sources && enough).then_some(case)
    }

    /// Others wait to be accepted while three quarters of the accepted are unfinished requests.
    fn holds_others_up(&self) -> bool {
        self.others_wait_ms.is_some() && self.rows.len() * 4 >= self.accepted * 3
    }

    fn causes(&self) -> Weighed {
        let info = |f: fn(&crate::model::TcpInfo) -> Option<u32>| {
            self.rows.iter().filter_map(move |s| f(s.info.as_deref()?))
        };
        let rtt_us = info(crate::model::TcpInfo::rtt_us).max();
        let disorder: u64 = info(crate::model::TcpInfo::rcv_ooopack).map(u64::from).sum();
        Weighed::of(CAUSES, |cause| match cause.id {
            "slow-path" if rtt_us.is_some_and(|us| us < SHORT_RTT_US) && disorder == 0 => {
                let longest = rtt_us.unwrap_or(0) / 1000;
                Weight::Refuted(format!("their round trip is {longest} ms or less and nothing came out of order"))
            }
            "slow-path" => Weight::Possible(0.3),
            "one-way-stream" if self.answered > 0 => {
                let n = text::count(self.answered as u64, "connection", "connections");
                Weight::Refuted(format!("{n} of the listener were answered"))
            }
            "one-way-stream" => Weight::Possible(if self.holds_others_up() { 0.1 } else { 0.4 }),
            _ => Weight::Possible(0.6),
        })
    }

    fn finding(&self, view: &View<'_>) -> Finding {
        let harm = self.holds_others_up();
        let at = self.queue.local;
        let owner = Owner::of(view, &self.queue.listeners);
        let n = self.rows.len() as u64;
        let received: u64 = self.rows.iter().filter_map(|s| s.info.as_deref()?.bytes_received()).sum();
        let sources = most_frequent(self.rows.iter().map(|s| s.peer.addr.to_canonical().to_string()), 5);
        let whom = match (&self.rows[..], self.sources) {
            ([first, ..], 1) => first.peer.addr.to_canonical().to_string(),
            (_, n) => format!("{} addresses", text::grouped(n as u64)),
        };
        let others = match self.others_wait_ms.filter(|_| harm) {
            Some(ms) => format!(
                "; {} for up to {} to be accepted",
                text::count(self.queue.queued(), "other waits", "others wait"),
                text::duration(ms)
            ),
            None => String::new(),
        };
        let summary = format!(
            "{whom} holds {} of {at} ({}) with requests that do not end, {} in all for up to {}{others}",
            text::count(n, "connection", "connections"),
            listener_owner::name(owner.as_ref()),
            text::bytes(received),
            text::duration(self.oldest_ms),
        );
        let mut subject = listener_owner::subject(view, owner.as_ref(), self.queue.netns, at);
        subject.source = None;
        let severity = if harm { Severity::Warning } else { Severity::Info };
        RULE.finding(severity, if harm { 0.9 } else { 0.6 }, summary)
            .because(if harm {
                "the bytes, their age and who waits behind them are counted by the kernel"
            } else {
                "nobody waits in the accept queue behind them; that the protocol lets clients send for so long is possible"
            })
            .causes(self.causes())
            .lasting(Some(Measure::AtLeast(self.oldest_ms)))
            .subject(subject)
            .about(self.rows.iter().copied())
            .evidence("unfinished", Evidence::Count(n))
            .evidence("accepted", Evidence::Count(self.accepted as u64))
            .evidence("answered", Evidence::Count(self.answered as u64))
            .evidence("received_bytes", Evidence::Bytes(received))
            .evidence("oldest_ms", Evidence::Millis(self.oldest_ms))
            .evidence("sources", Evidence::List(sources))
            .evidence("source_count", Evidence::Count(self.sources as u64))
            .evidence("accept_queue", Evidence::Count(self.queue.queued()))
            .next(format!("tcpstate list --state established -i -p --local {at}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row, unheld};

    fn request(port: u16, from: &str, received: u64, pieces: u64, age_ms: u64) -> Socket {
        let fields = [
            ("bytes_received", received),
            ("data_segs_in", pieces),
            ("last_data_sent_ms", age_ms),
            ("last_data_recv_ms", 300),
            ("rtt_us", 900),
        ];
        info(row(State::Established, "10.0.0.1:80", &format!("{from}:{port}")), &fields)
    }

    fn add(world: &mut World, socket: Socket) {
        world.hold(812, "server", u32::from(socket.peer.port), socket.inode).add(socket);
    }

    /// So many unfinished requests of one address, and so many clients that wait behind them.
    fn world(slow: u16, waiting: u16) -> World {
        let mut world = World::new();
        let listener = listen("10.0.0.1:80", waiting.into(), 128);
        world.hold(812, "server", 3, listener.inode).add(listener);
        for n in 0..slow {
            add(&mut world, request(5000 + n, "10.0.0.9", 60, 5, 5000 + u64::from(n)));
        }
        for n in 0..waiting {
            let client = row(State::Established, "10.0.0.1:80", &format!("10.0.0.7:{}", 6000 + n));
            world.add(unheld(info(client, &[("last_data_sent_ms", 4000)])));
        }
        world
    }

    #[test]
    fn a_few_clients_that_hold_the_workers_while_others_wait_are_a_warning() {
        let outcome = world(4, 2).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
        assert_eq!(
            finding.summary,
            "10.0.0.9 holds 4 connections of 10.0.0.1:80 (server (812)) with requests that do not end, 240 bytes in all \
             for up to 5.0 s; 2 others wait for up to 4.0 s to be accepted"
        );
        let out: Vec<&str> = finding.causes.ruled_out.iter().map(|(cause, _)| cause.id).collect();
        assert_eq!(out, ["slow-path"]);
        assert_eq!(world(3, 2).check(check), Outcome::default());
        // Others are accepted and answered: the queue waits for something else.
        let mut mixed = world(4, 2);
        for n in 0..2 {
            let mut other = request(7000 + n, "10.0.0.8", 900, 3, 9000);
            assert!(other.info.as_mut().unwrap().set("bytes_sent", 10));
            add(&mut mixed, other);
        }
        assert_eq!(mixed.check(check), Outcome::default());
    }

    #[test]
    fn many_without_anybody_behind_them_are_an_explanation() {
        assert_eq!(world(19, 0).check(check), Outcome::default());
        let outcome = world(20, 0).check(check);
        assert_eq!(outcome.findings[0].severity, Severity::Info);
        assert!(outcome.findings[0].causes.left.iter().any(|h| h.cause.id == "one-way-stream"));
        // The queue was empty two seconds ago: nobody waits for long.
        let mut fresh = world(20, 0);
        fresh.later(2000);
        fresh.now.sockets[0].recv_q_bytes = 1;
        assert_eq!(fresh.check(check).findings[0].severity, Severity::Info);
    }

    #[test]
    fn spare_connections_uploads_short_requests_and_log_senders_are_silent() {
        let silent = |change: &dyn Fn(usize, &mut Socket)| {
            let mut world = world(24, 3);
            let slow = world.now.sockets.iter_mut().filter(|s| s.inode.is_some() && s.state == State::Established);
            slow.enumerate().for_each(|(n, s)| change(n, s));
            assert_eq!(world.check(check), Outcome::default());
        };
        let set = |s: &mut Socket, field, value| assert!(s.info.as_mut().unwrap().set(field, value));
        silent(&|_, s| set(s, "bytes_received", 0));
        silent(&|_, s| set(s, "bytes_received", HEADER_BYTES));
        silent(&|_, s| set(s, "data_segs_in", 2));
        silent(&|_, s| set(s, "last_data_sent_ms", 4999));
        silent(&|_, s| set(s, "bytes_sent", 1));
        silent(&|_, s| s.recv_q_bytes = 60);
        silent(&|n, s| s.peer.addr = format!("10.0.1.{}", n / 3).parse().unwrap());
    }
}
