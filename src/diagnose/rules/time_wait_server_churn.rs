//! A server on this host closes connections first, so it keeps the TIME_WAIT that a client could have kept.
//!
//! Input: TIME_WAIT rows of our listeners. Output: one explanation per listener. Not here: an alarm over a count; what
//! harms is `timewait-syn-rejects` and `time-wait-bucket-overflow`.
//!
#![doc = include_str!("../../../docs/rules/time-wait-server-churn.md")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::attribution;
use crate::diagnose::callers;
use crate::diagnose::finding::{Evidence, Severity, Subject, Topic};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::peers;
use crate::diagnose::rate::Rate;
use crate::diagnose::rule::{Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::{Endpoint, FourTuple, NetnsId, Socket, State, TcpInfo};
use crate::text;

pub(super) const RULE: Rule =
    rule!("time-wait-server-churn", Ports, One, "a server closes first and keeps the TIME_WAIT", check, [TEXT])
        .states(&[State::TimeWait])
        .title("server closes first")
        .topic(Topic::TimeWaitServer)
        .causes(CAUSES);

const TEXT: Text = Text {
    why: "The side that closes first keeps TIME_WAIT for 60 s. On a server that costs a few hundred bytes each and \
          no ephemeral port, and a newer SYN may take the connection over at once.",
    remedy: &[
        "To have less of it, leave keep-alive on and let clients or the load balancer close",
        "Look for `Connection: close` and for health checks that open a connection each time",
    ],
    avoid: &[
        "Don't set tcp_tw_reuse for this: it does nothing for incoming connections",
        "Don't set tcp_tw_recycle: it drops clients behind NAT",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "closes-after-answer",
        text: "the server ends each connection after its answer",
        predicts: "no accepted connection of the listener is at rest",
        refuted_by: "accepted connections at rest in both samples",
        decided_by: "the answers: `Connection: close`, HTTP/1.0, a limit of requests per connection",
    },
    Cause {
        id: "idle-limit",
        text: "its idle limit ends connections before the clients do",
        predicts: "accepted connections at rest beside those that end",
        refuted_by: "none at rest, or those that end begin between two samples",
        decided_by: "the server's keep-alive timeout against that of the clients or the load balancer",
    },
    Cause {
        id: "probes",
        text: "health checks connect anew each time",
        predicts: "a few peers that make all of them",
        refuted_by: "many peers",
        decided_by: "the addresses of the peers, and the interval of their checks",
    },
];

const RESTING_MS: u32 = 1000;
/// So many peers are clients and no balancers that check.
const FEW_PEERS: usize = 4;

/// Which causes are left: `resting` accepted connections of the listener that did nothing for a while, and whether those that
/// ended had lived through the time between two samples.
fn causes(resting: usize, peers: usize, lived: Option<Lived>) -> Weighed {
    let refuted = |why: &str| Weight::Refuted(why.to_owned());
    Weighed::of(CAUSES, |cause| match cause.id {
        "closes-after-answer" => Weight::Possible(match lived {
            _ if resting == 0 => 0.7,
            Some(Lived::Longer) => 0.3,
            _ => 0.5,
        }),
        "idle-limit" if resting == 0 => refuted("no accepted connection is at rest"),
        "idle-limit" => match lived {
            Some(Lived::Briefly) => {
                refuted("those that ended began after the sample before, sooner than an idle limit ends them")
            }
            Some(Lived::Longer) => Weight::Possible(0.5),
            None => Weight::Possible(0.3),
        },
        _ if peers > FEW_PEERS => refuted("they are of many peers"),
        _ => Weight::Possible(0.2),
    })
}

/// How long connections that ended between two samples had lived.
#[derive(Clone, Copy)]
enum Lived {
    /// Nine tenths of them, or more, had begun after the first one.
    Briefly,
    /// Half of them, or more, were there in the first one.
    Longer,
}

/// `None` without a second sample, or where hardly any ended.
fn lived(view: &View<'_>, rows: &[&Socket]) -> Option<Lived> {
    let before = view.before?;
    let interval = view.interval_ms().filter(|ms| *ms >= BETWEEN_MS)?;
    let at = rows.first()?.local.port;
    let there: FxHashMap<FourTuple, State> =
        before.sockets.iter().filter(|s| s.local.port == at).map(|s| (s.four_tuple(), s.state)).collect();
    let ended = rows.iter().filter(|s| s.state_age().is_some_and(|age| age.min_ms < interval));
    let was = ended.map(|s| there.get(&s.four_tuple())).filter(|was| *was != Some(&State::TimeWait));
    let (mut all, mut open) = (0, 0);
    for was_there in was {
        all += 1;
        open += usize::from(was_there.is_some());
    }
    match () {
        () if all < SEVERAL => None,
        () if open * 10 <= all => Some(Lived::Briefly),
        () => (open * 2 >= all).then_some(Lived::Longer),
    }
}

/// Idle limits are whole seconds; shorter samples say nothing of them.
const BETWEEN_MS: u64 = 1500;
/// So many ends between two samples say how long such connections live.
const SEVERAL: usize = 5;

/// Fewer are not worth a line.
const WORTH: usize = 100;

/// Why no process is named: the listener is gone, or its owner cannot be read.
fn nobody(view: &View<'_>, netns: Option<NetnsId>, at: Endpoint) -> String {
    match callers::listening(view, netns, at) {
        Some(queue) => format!("the listener belongs to {}", peers::nobody(view, queue.listeners.first().copied())),
        None => "nothing listens there any more".to_owned(),
    }
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut by_listener: BTreeMap<(Option<NetnsId>, Endpoint), Vec<&Socket>> = BTreeMap::new();
    for (socket, role) in view.restless_rows() {
        if let (State::TimeWait, Role::Server(i)) = (socket.state, role) {
            let at = view.listeners(socket.netns).get(i).local;
            by_listener.entry((socket.netns, at)).or_default().push(socket);
        }
    }
    let mut findings = Vec::new();
    for ((netns, at), rows) in by_listener {
        if rows.len() < WORTH {
            continue;
        }
        let mut peers: FxHashMap<IpAddr, usize> = FxHashMap::default();
        for row in &rows {
            *peers.entry(row.peer.normalised().addr).or_default() += 1;
        }
        let mut peers: Vec<(IpAddr, usize)> = peers.into_iter().collect();
        peers.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let owners = attribution::attribute(view, &rows);
        let lead = owners.first();
        let one = lead.filter(|c| c.pids.len() == 1);
        let who = match lead {
            Some(c) if c.pids.len() == 1 => text::named(&c.comm, c.pid).to_string(),
            Some(c) => c.comm.clone(),
            None => "the server".to_owned(),
        };
        let rate = Rate::of_new_rows(view, rows.iter().copied());
        let pace = rate.map_or_else(String::new, |rate| format!(", {rate} now"));
        findings.push(
            RULE.finding(
                Severity::Info,
                lead.map_or(0.5, |c| c.confidence),
                format!(
                    "{who} on {at} closes its connections first: {} ended so in the last minute{pace}; what is \
                     left in TIME_WAIT harms nobody",
                    text::grouped(rows.len() as u64)
                ),
            )
            .because(lead.map_or_else(|| nobody(view, netns, at), |c| c.reason.clone()))
            .causes(causes(resting(view, netns, at), peers.len(), lived(view, &rows)))
            .about(rows.iter().copied())
            .subject(Subject {
                netns,
                pid: one.map(|c| c.pid),
                comm: lead.map(|c| c.comm.clone()),
                pids: lead.map(|c| c.pids.clone()).unwrap_or_default(),
                listener: Some(at),
                ..Subject::default()
            })
            .evidence("time_wait", Evidence::Count(rows.len() as u64))
            .evidence("new_per_second", rate.map_or(Evidence::Unknown, |r| Evidence::PerSecond(r.per_second())))
            .evidence("peers", Evidence::Count(peers.len() as u64))
            .evidence("top_peers", Evidence::List(peers.iter().take(3).map(|(a, n)| format!("{a}: {n}")).collect()))
            .evidence("owners", Evidence::List(attribution::in_words(&owners)))
            .next(if at.addr.is_unspecified() {
                format!("tcpstate summary --by peer-addr state time-wait and sport = :{}", at.port)
            } else {
                format!("tcpstate summary --by peer-addr state time-wait and src {at}")
            }),
        );
    }
    Outcome::findings(findings)
}

/// Accepted connections of a listener on which nothing came for a second.
fn resting(view: &View<'_>, netns: Option<NetnsId>, at: Endpoint) -> usize {
    let rests = |s: &Socket| s.info.as_deref().and_then(TcpInfo::last_data_recv_ms).is_none_or(|ms| ms >= RESTING_MS);
    let ours = |s: &&Socket| {
        s.netns == netns && s.state == State::Established && s.local.port == at.port && s.inode.is_some() && rests(s)
    };
    view.now.sockets.iter().filter(ours).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, listen, row, time_wait};

    fn world(count: usize) -> World {
        let mut world = World::new();
        world.add(listen("0.0.0.0:80", 0, 511)).hold(9, "nginx", 6, 80 << 16);
        for i in 0..count {
            let peer = format!("10.1.{}.{}:{}", i / 60_000, 1, 1024 + i % 60_000);
            world.add(time_wait("10.0.0.1:80", &peer, 30_000));
        }
        world
    }

    #[test]
    fn connections_at_rest_and_the_number_of_peers_tell_why() {
        let left = |resting, peers, lived| -> Vec<_> {
            causes(resting, peers, lived).left.iter().map(|h| h.cause.id).collect()
        };
        assert_eq!(left(0, 5, None), ["closes-after-answer"]);
        assert_eq!(left(0, 4, None), ["closes-after-answer", "probes"]);
        assert_eq!(left(1, 5, None), ["closes-after-answer", "idle-limit"]);
        assert_eq!(left(1, 5, Some(Lived::Briefly)), ["closes-after-answer"]);
        assert_eq!(left(1, 5, Some(Lived::Longer)), ["idle-limit", "closes-after-answer"]);
    }

    #[test]
    fn what_an_idle_limit_ends_was_there_before() {
        let cause = |was_there: bool| {
            let mut world = world(200);
            world.later(2000);
            for i in 0..20u16 {
                let peer = format!("10.2.0.1:{}", 40_000 + i);
                world.add(time_wait("10.0.0.1:80", &peer, 59_000));
                if was_there {
                    let open = row(State::Established, "10.0.0.1:80", &peer);
                    world.before.as_mut().unwrap().sockets.push(open);
                }
            }
            world.add(row(State::Established, "10.0.0.1:80", "10.3.0.1:5000"));
            world.check(check).findings[0].causes.left[0].cause.id
        };
        assert_eq!((cause(true), cause(false)), ("idle-limit", "closes-after-answer"));
    }

    #[test]
    fn many_are_explained_and_few_are_not_mentioned() {
        let outcome = world(3000).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(9)));
        // No TIME_WAIT has the wildcard as its own address.
        assert_eq!(finding.next, "tcpstate summary --by peer-addr state time-wait and sport = :80");
        assert_eq!(world(WORTH - 1).check(check), Outcome::default());
    }

    #[test]
    fn no_count_makes_it_more_than_an_explanation() {
        let outcome = world(40_000).check(check);
        assert_eq!(outcome.findings[0].severity, Severity::Info);
        assert!(outcome.findings[0].summary.starts_with("nginx (9) on 0.0.0.0:80"), "{outcome:?}");
        // Workers share a listener: nobody can tell which of them closed.
        let mut workers = world(200);
        workers.hold(10, "nginx", 6, 80 << 16);
        let finding = workers.check(check).findings.remove(0);
        assert_eq!((finding.subject.pid, finding.subject.pids.len()), (None, 2));
    }
}
