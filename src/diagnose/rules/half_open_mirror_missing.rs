//! Both ends of this connection are on this host, and one of them no longer exists.
//!
//! Input: held connections between two addresses of this host. Output: one finding per owner of those whose other half is in
//! no table that was read. Not here: connections whose other half is seen under another name.
//!
#![doc = include_str!("../../../docs/rules/half-open-mirror-missing.md")]

use std::net::IpAddr;

use rustc_hash::FxHashSet;

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::callers;
use crate::diagnose::finding::{Evidence, Finding, Severity, Topic};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::listener_owner::Owner;
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::snapshot::Snapshot;
use crate::model::sysctl::TCP_FIN_TIMEOUT_MS;
use crate::model::{Endpoint, NetnsId, Process, Socket, State, TcpInfo};
use crate::text;

pub(super) const RULE: Rule =
    rule!("half-open-mirror-missing", Established, Two, "the other half on this host is gone", check, [TEXT])
        .title("other half gone")
        .identity(Identity::ProgramAndDestination)
        .topic(Topic::Keepalive)
        .causes(CAUSES)
        .cost(5);

const TEXT: Text = Text {
    why: "The other half ended without a FIN or RST that reached this one: it was destroyed, its namespace went \
          away, or its segments were dropped. This half waits for something that cannot come; only a write, or a \
          keepalive probe, makes it learn.",
    remedy: &[
        "Find what happened to the other half: a container that was removed, a process killed with its namespace, a \
         firewall rule between namespaces, a full accept queue that dropped the end of a handshake",
        "In the surviving program set read timeouts, a heartbeat, or SO_KEEPALIVE with a short TCP_KEEPIDLE",
        "Close the connection in the surviving program, or restart it",
    ],
    avoid: &[
        "Don't tune anything: no sysctl finds a dead half sooner on a socket without keepalive",
        "Don't take it for a leak of the process before the other half is explained",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "half-gone",
        text: "the other half ended, and its last word was lost or never sent",
        predicts: "the address is served here, no lonely row carried the same bytes, or what we send is not answered",
        refuted_by: "an acknowledgement between the samples",
        decided_by: "a write or a keepalive probe: it is answered by RST, or by nothing",
    },
    Cause {
        id: "renamed",
        text: "both addresses were rewritten (DNAT with MASQUERADE, IPVS), and the half lives under another name",
        predicts: "nobody listens at the address in this namespace",
        refuted_by: "a listener at this very address, siblings whose halves are where the address is, or data that nobody \
                     acknowledges",
        decided_by: "`conntrack -L -p tcp`; `nft list ruleset`; `ipvsadm -Ln`",
    },
    Cause {
        id: "handshake-dropped",
        text: "a full accept queue dropped the end of the handshake, so that the half never was",
        predicts: "a client that never received a byte, and a listener that has dropped some",
        refuted_by: "bytes that were received, or a listener that never dropped any",
        decided_by: "listener-drops-since-open and accept-queue-overflow of that listener",
    },
];

/// One repetition may be an accident of time.
const UNANSWERED: u8 = 2;

const STATES: [State; 3] = [State::Established, State::CloseWait, State::FinWait2];

pub(super) fn check(view: &View<'_>) -> Outcome {
    let places = Places::new(view);
    let candidates = view.now.sockets.iter().filter(|s| peers::is_held(s, &STATES) && places.leads_here(s));
    let mut alone: Vec<&Socket> = candidates.filter(|s| view.mirror(s).is_none() && !is_forgotten(view, s)).collect();
    if alone.is_empty() {
        return Outcome::default();
    }
    if view.now.netns.iter().any(|n| n.incomplete) {
        return Outcome::not_checked("the tables were not read completely, so that a missing half proves nothing");
    }
    Places::drop_rewritten(view, &mut alone);
    if alone.is_empty() {
        return Outcome::default();
    }
    if view.before.is_none() {
        return Outcome::wants_second(format!(
            "{} between addresses of this host without the other half",
            text::count(alone.len() as u64, "connection", "connections")
        ));
    }
    // A connection that is being made or ended is half in the table for a moment, and in no second sample.
    alone.retain(|s| view.earlier(s).is_some_and(|e| STATES.contains(&e.state) && view.mirror_before(s).is_none()));
    alone.retain(|s| !is_reserved(view, s));
    drop_answered(view, &mut alone);
    drop_renamed(view, &mut alone);
    // Their server never heard the end of the handshake: accept-queue-overflow has them.
    alone.retain(|s| !callers::called(view, s).is_some_and(|q| callers::overflows(view, q)));
    if alone.is_empty() {
        return Outcome::default();
    }
    let ends = Peers::new(view);
    let groups = ends.groups(alone, false);
    let mut findings = Vec::new();
    for group in groups {
        // What is proven is not made less by what is not.
        let (proven, open) = group.rows.iter().partition(|s| is_proven(view, &places, s));
        let parts = [proven, open].into_iter().filter(|rows: &Vec<&Socket>| !rows.is_empty());
        findings.extend(parts.map(|rows| finding(view, &ends, &places, &Group { rows, ..group.clone() })));
    }
    Outcome::findings(findings)
}

/// Whether the address is a published port of a container: its monitor, or Docker's daemon, only reserves it, so that the other half
/// has the container's address.
fn is_reserved(view: &View<'_>, socket: &Socket) -> bool {
    let queue = callers::called(view, socket);
    queue.and_then(|q| Owner::of(view, &q.listeners)).is_some_and(|owner| owner.may_reserve)
}

/// Takes out what a peer answers, and all others of the same place: a half that is gone cannot acknowledge, so the halves
/// have other names (DNAT and MASQUERADE of a published port).
fn drop_answered(view: &View<'_>, alone: &mut Vec<&Socket>) {
    let Some(interval) = view.interval_ms() else { return };
    let is_answered = |s: &Socket| view.heard_ms(s).is_some_and(|ms| ms <= interval);
    let place = |s: &Socket| {
        let end = if view.role(s) == Role::Client { s.peer } else { s.local };
        (s.netns, end.normalised())
    };
    let answered: FxHashSet<_> = alone.iter().filter(|s| is_answered(s)).map(|s| place(s)).collect();
    alone.retain(|s| !answered.contains(&place(s)));
}

/// Takes out the rows whose other half a lonely row of any namespace may be: it stands at the other end of a connection, and
/// what it sent and received is what this one received and sent. Rewritten addresses leave the bytes as they are.
fn drop_renamed(view: &View<'_>, alone: &mut Vec<&Socket>) {
    if alone.is_empty() {
        return;
    }
    let bytes = |s: &Socket| Some((s.info.as_deref()?.bytes_acked()?, s.info.as_deref()?.bytes_received()?));
    let lonely: Vec<(&Socket, Role, (u64, u64))> = view
        .rows()
        .filter(|(s, _)| s.state.has_peer() && view.mirror(s).is_none())
        .filter_map(|(s, role)| Some((s, role, bytes(s)?)))
        .collect();
    // A SYN and a FIN count as one byte each, at one of the ends.
    let near = |a: u64, b: u64| a.abs_diff(b) <= 2;
    alone.retain(|s| {
        let (Some((acked, received)), role) = (bytes(s), view.role(s)) else { return true };
        !lonely.iter().any(|(other, its, (a, r))| {
            let opposite = *its != role || !matches!(role, Role::Client | Role::Server(_));
            opposite && !std::ptr::eq(*other, *s) && near(acked, *r) && near(received, *a)
        })
    });
}

/// Whether the half is seen to be gone: the address is served in this namespace, so that nothing leads elsewhere, its siblings
/// have their halves where the address is, or what we send is not answered.
fn is_proven(view: &View<'_>, places: &Places, socket: &Socket) -> bool {
    let served = match view.role(socket) {
        _ if places.is_beside_pairs(socket) => true,
        Role::Server(_) => true,
        _ => callers::called(view, socket).is_some_and(|q| q.netns == socket.netns),
    };
    served || is_unanswered(socket)
}

/// A segment or a probe was repeated: a host that is its own peer loses none.
fn is_unanswered(socket: &Socket) -> bool {
    socket.timer.is_some_and(|t| t.retransmits >= UNANSWERED)
}

/// See `CAUSES`.
fn causes(view: &View<'_>, places: &Places, rows: &[&Socket]) -> Weighed {
    let refuted = |why: &str| Weight::Refuted(why.to_owned());
    let queues: Vec<_> = rows.iter().filter_map(|s| callers::called(view, s)).collect();
    let drops = queues.iter().flat_map(|q| &q.listeners).map(|l| l.skmem?.drops.map(u64::from)).sum::<Option<u64>>();
    let received = rows.iter().any(|s| s.info.as_deref().and_then(TcpInfo::bytes_received).is_some_and(|n| n > 0));
    let server = rows.iter().all(|s| matches!(view.role(s), Role::Server(_)));
    Weighed::of(CAUSES, |cause| match cause.id {
        "half-gone" => Weight::Possible(if is_proven(view, places, rows[0]) { 0.8 } else { 0.3 }),
        "renamed" if rows.iter().all(|s| is_unanswered(s)) => refuted("nobody acknowledges what we send"),
        "renamed" if rows.iter().any(|s| places.is_beside_pairs(s)) => {
            refuted("others to the same address and port have their halves in the namespace of the address")
        }
        "renamed" if rows.iter().all(|s| is_proven(view, places, s)) => {
            refuted("the address is served in this namespace")
        }
        "renamed" => Weight::Possible(0.7),
        _ if received => refuted("bytes were received"),
        _ if server => refuted("the connection was accepted"),
        _ if queues.is_empty() => refuted("nobody listens at the address here"),
        _ => match drops {
            Some(0) => refuted("the listener never dropped any"),
            Some(_) => Weight::Possible(0.6),
            None => Weight::Possible(0.2),
        },
    })
}

/// A CLOSE_WAIT whose peer may be gone by now: its FIN_WAIT2 has ended by itself.
fn is_forgotten(view: &View<'_>, socket: &Socket) -> bool {
    let limit = view.fin_timeout_ms(socket.netns).min(TCP_FIN_TIMEOUT_MS);
    let oldest = |s: &Socket| s.state_age().and_then(|a| a.max_ms);
    // Without an age it may be any.
    socket.state == State::CloseWait && oldest(socket).is_none_or(|ms| ms >= limit)
}

/// Which addresses lead to this host, and which rewriting may hide the other half.
struct Places {
    local: FxHashSet<(Option<NetnsId>, IpAddr)>,
    /// Every namespace that a known process lives in was read.
    all_read: bool,
    /// Destinations, each as a namespace calls it, that are seen to lead straight into another one.
    pairs: FxHashSet<(Option<NetnsId>, Endpoint)>,
}

impl Places {
    fn new(view: &View<'_>) -> Places {
        let of = |n: &crate::model::snapshot::Netns| {
            let inode = n.inode;
            n.addresses.iter().map(move |a| (inode, a.to_canonical())).collect::<Vec<_>>()
        };
        let local = view.now.netns.iter().flat_map(of).collect();
        Places { pairs: pairs(view, &local), all_read: all_read(view.now), local }
    }

    /// Whether the other half, if there is one, is in a table that was read.
    fn leads_here(&self, socket: &Socket) -> bool {
        self.is_local(socket) || self.is_beside_pairs(socket)
    }

    /// Whether other connections to the same place have their halves in another namespace that was read.
    fn is_beside_pairs(&self, socket: &Socket) -> bool {
        self.pairs.contains(&(socket.netns, socket.peer.normalised()))
    }

    /// Whether the peer's address is one of the row's own namespace. An address of another one proves nothing: the same
    /// may exist elsewhere in the network.
    ///
    /// An outgoing connection to an address that is not a loopback one may have been led into a namespace that was not
    /// read (DNAT, IPVS, published ports of containers), where its other half is; loopback is not, as a rule.
    fn is_local(&self, socket: &Socket) -> bool {
        let peer = socket.peer.addr.to_canonical();
        peer.is_loopback() || self.all_read && self.local.contains(&(socket.netns, peer))
    }

    /// Takes out the rows whose other half exists under another name: a redirected client is seen by the server with
    /// its own address and port, and the client sees another port than the server's.
    fn drop_rewritten(view: &View<'_>, alone: &mut Vec<&Socket>) {
        // The ends that somebody may see, and which of them somebody does.
        let ends: FxHashSet<Endpoint> =
            alone.iter().flat_map(|s| [s.local.normalised(), s.peer.normalised()]).collect();
        let addresses: FxHashSet<IpAddr> = ends.iter().map(|e| e.addr).collect();
        let wanted = |end: Endpoint| Some(end.normalised()).filter(|e| addresses.contains(&e.addr) && ends.contains(e));
        let (mut calls, mut called): (FxHashSet<Endpoint>, FxHashSet<Endpoint>) = Default::default();
        for socket in view.now.sockets.iter().filter(|s| s.state.has_peer()) {
            called.extend(wanted(socket.peer));
            calls.extend(wanted(socket.local));
        }
        alone.retain(|s| {
            let somebody_sees_us = || called.contains(&s.local.normalised());
            let the_caller_exists = || calls.contains(&s.peer.normalised());
            match view.role(s) {
                Role::Client => !somebody_sees_us(),
                Role::Server(_) | Role::FormerServer => !the_caller_exists(),
                _ => !somebody_sees_us() && !the_caller_exists(),
            }
        });
    }
}

/// The destinations to which a connection leads into the namespace that has their address, under its own name and with the
/// bytes of its half: nothing rewrites what goes there, and the halves of its siblings are in that table too.
fn pairs(view: &View<'_>, local: &FxHashSet<(Option<NetnsId>, IpAddr)>) -> FxHashSet<(Option<NetnsId>, Endpoint)> {
    if view.now.netns.len() < 2 {
        return FxHashSet::default();
    }
    let is_pair = |s: &Socket| {
        let Some(half) = view.mirror(s).filter(|half| half.netns != s.netns) else { return false };
        local.contains(&(half.netns, s.peer.addr.to_canonical())) && is_same_talk(s, half)
    };
    let opened = view.rows().filter(|(s, role)| {
        s.state == State::Established && matches!(role, Role::Client | Role::Unknown) && !s.peer.addr.is_loopback()
    });
    opened.filter(|(s, _)| is_pair(s)).map(|(s, _)| (s.netns, s.peer.normalised())).collect()
}

/// Whether two halves of equal names belong together: each received no more than the other sent.
fn is_same_talk(one: &Socket, other: &Socket) -> bool {
    let (Some(a), Some(b)) = (one.info.as_deref(), other.info.as_deref()) else { return false };
    let fits = |received: Option<u64>, sent: Option<u64>| received.zip(sent).is_some_and(|(r, s)| 0 < r && r <= s);
    fits(a.bytes_received(), b.bytes_sent()) && fits(b.bytes_received(), a.bytes_sent())
}

/// Whether no process that is known, and none that may not be looked into, can be in a namespace that was not read.
fn all_read(snapshot: &Snapshot) -> bool {
    snapshot.netns_not_scanned == 0
        && snapshot.owners.collected
        && snapshot.owners.unreadable == 0
        && snapshot.processes.values().all(|p| p.netns.is_some_and(|n| snapshot.netns(Some(n)).is_some()))
}

fn finding<'a>(view: &View<'a>, ends: &Peers<'_, 'a>, places: &Places, group: &Group<'_>) -> Finding {
    let rows = &group.rows;
    let n = rows.len() as u64;
    let proven = is_proven(view, places, rows[0]);
    let certain = proven && rows.iter().all(|s| s.state == State::CloseWait);
    let once = once_there(view, ends, rows[0]);
    let far = once.map_or_else(String::new, |p| format!(" ({} serves that end)", text::name(p)));
    let what = if proven { "no longer exists" } else { "is not seen" };
    let summary = format!(
        "{} holds {} {} on this host whose other half {what}{far}",
        group.name(view),
        text::count(n, "connection", "connections"),
        peers::with_whom(rows),
    );
    let silence = crate::diagnose::closing::silence_ms(rows);
    let mut states: Vec<&str> = rows.iter().map(|s| s.state.key()).collect();
    states.sort_unstable();
    states.dedup();
    let tuples = rows.iter().take(5).map(|s| s.four_tuple().to_string()).collect();
    let unacknowledged = rows.iter().filter_map(|s| s.send_q_bytes).map(u64::from).sum();
    let subject = group.subject(view);
    let (severity, confidence, because) = match (proven, certain) {
        (true, true) => (
            Severity::Warning,
            0.97,
            "two samples without the other half, sooner than the kernel would have dropped it by itself",
        ),
        (true, false) if places.is_beside_pairs(rows[0]) => (
            Severity::Warning,
            0.85,
            "two samples without the other half in the namespace where others to the same address have theirs",
        ),
        (true, false) => (Severity::Warning, 0.85, "two samples without the other half, where its address is served"),
        _ => (Severity::Info, 0.6, "two samples without the other half; rewritten addresses would hide it"),
    };
    let finding = RULE
        .finding(severity, confidence, summary)
        .because(because)
        .causes(causes(view, places, rows))
        .about(rows.iter().copied())
        .subject(crate::diagnose::Subject { pids: peers::both(group.owner, once), ..subject })
        .evidence("count", Evidence::Count(n))
        .evidence("connections", Evidence::List(tuples))
        .evidence("states", Evidence::List(states.into_iter().map(str::to_owned).collect()))
        .evidence("silent_max_ms", Evidence::millis(silence.map(|(longest, _)| longest)))
        .evidence("unacknowledged_bytes", Evidence::Bytes(unacknowledged))
        .evidence("namespaces_read", Evidence::Count(view.now.netns.len() as u64));
    finding.next(format!("tcpstate list -o -i{}", group.selection()))
}

/// The process that the other half belonged to, as far as its listener, or other connections of that end, tell.
fn once_there<'a>(view: &View<'a>, ends: &Peers<'_, 'a>, socket: &Socket) -> Option<&'a Process> {
    if let Some(queue) = callers::called(view, socket) {
        return Owner::of(view, &queue.listeners).map(|o| o.process);
    }
    let earlier = view.mirror_before(socket)?;
    ends.owner(earlier)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{NETNS, World, info, listen, row, time_wait, timer, unheld};
    use crate::model::sysctl::Sysctl;
    use crate::model::{RowKind, TimerKind};

    fn client(port: u16, state: State) -> Socket {
        let shutdown = Some(if state == State::FinWait2 { 2 } else { u8::from(state == State::CloseWait) });
        let base = row(state, &format!("127.0.0.1:{port}"), "127.0.0.1:7000");
        let ages = [("last_ack_recv_ms", 4000), ("last_data_recv_ms", 4000), ("last_data_sent_ms", 4000)];
        Socket { shutdown, ..info(base, &ages) }
    }

    fn server(port: u16) -> Socket {
        row(State::Established, "127.0.0.1:7000", &format!("127.0.0.1:{port}"))
    }

    fn world(rows: impl IntoIterator<Item = Socket>) -> World {
        let mut world = World::new();
        world.add(listen("0.0.0.0:7000", 0, 128)).hold(900, "server", 3, 7000 << 16);
        world.now.netns[0].addresses = vec!["127.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        for socket in rows {
            world.hold(812, "client", u32::from(socket.local.port), socket.inode).add(socket);
        }
        world
    }

    #[test]
    fn the_lonely_half_is_named_and_who_served_the_other() {
        let mut world = world([client(5000, State::Established), client(5001, State::Established), server(5001)]);
        let outcome = world.later(2000).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.confidence, finding.subject.pid), (Severity::Warning, 0.85, Some(812)));
        assert_eq!(finding.subject.pids, [812, 900]);
        assert_eq!(
            finding.summary,
            "client (812) holds 1 connection with 127.0.0.1:7000 on this host whose other half no longer exists \
            (server (900) serves that end)"
        );
        assert!(finding.evidence.contains(&("silent_max_ms", Evidence::Millis(4000))));
    }

    #[test]
    fn a_client_whose_handshake_an_accept_queue_dropped_is_that_queue_s() {
        let mut world = world([client(5000, State::Established)]);
        world.now.sockets[0] = listen("0.0.0.0:7000", 129, 128);
        assert_eq!(world.later(2000).check(check), Outcome::default());
        world.before.as_mut().unwrap().sockets[0].recv_q_bytes = 128;
        world.now.sockets[0].recv_q_bytes = 128;
        assert_eq!(world.check(check).findings.len(), 1, "full and not over the limit");
    }

    #[test]
    fn a_half_that_acknowledges_exists_under_another_name_and_so_do_its_siblings() {
        let alive = |ms| {
            let mut world = world([client(5000, State::Established), client(5001, State::Established)]);
            world.later(2000);
            let heard = [("last_ack_recv_ms", ms), ("last_data_recv_ms", 4000)];
            world.now.sockets[1] = info(world.now.sockets[1].clone(), &heard);
            world.check(check).findings.len()
        };
        assert_eq!((alive(2000), alive(2001)), (0, 1));
    }

    const QUIET: [(&str, u64); 2] = [("last_ack_recv_ms", 90_000), ("last_data_recv_ms", 90_000)];

    /// A client of an address that nobody listens at here, such as a published port.
    fn published(retransmits: u8) -> World {
        let base = row(State::Established, "10.0.0.1:5000", "10.0.0.1:8080");
        let base = info(base, &[QUIET[0], QUIET[1], ("bytes_acked", 301), ("bytes_received", 5000)]);
        let mut world = world([timer(base, TimerKind::Keepalive, 9000, retransmits)]);
        world.now.processes.values_mut().for_each(|p| p.netns = NETNS);
        world
    }

    #[test]
    fn an_idle_connection_to_a_published_port_is_information_until_nobody_answers() {
        let found = |probes| published(probes).later(2000).check(check).findings.remove(0);
        let idle = found(1);
        assert_eq!((idle.severity, idle.confidence), (Severity::Info, 0.6));
        assert!(idle.summary.contains("whose other half is not seen"), "{}", idle.summary);
        let left: Vec<_> = idle.causes.left.iter().map(|h| h.cause.id).collect();
        assert_eq!(left, ["renamed", "half-gone"]);
        let unanswered = found(2);
        assert!(unanswered.severity == Severity::Warning && unanswered.causes.is("half-gone"), "{unanswered:?}");
    }

    #[test]
    fn a_lonely_row_that_carried_the_same_bytes_is_the_other_half() {
        let with = |acked: u64, received: u64, at: &str| {
            let mut world = published(2);
            let far = row(State::Established, at, "172.17.0.1:5000");
            let far = Socket { netns: NetnsId::new(2), ..far };
            world.add(info(far, &[("bytes_acked", acked), ("bytes_received", received)]));
            world.add(Socket { netns: NetnsId::new(2), ..listen("0.0.0.0:80", 0, 8) });
            world.later(2000).check(check).findings.len()
        };
        assert_eq!((with(5000, 300, "172.17.0.2:80"), with(5002, 299, "172.17.0.2:80")), (0, 0));
        assert_eq!((with(5003, 300, "172.17.0.2:80"), with(5000, 298, "172.17.0.2:80")), (1, 1));
    }

    #[test]
    fn a_client_that_never_received_a_byte_may_never_have_been_accepted() {
        let left = |drops, received| {
            let mut world = world([client(5000, State::Established)]);
            world.now.sockets[0].skmem = Some(crate::model::SkMem { drops: Some(drops), ..Default::default() });
            assert!(world.now.sockets[1].info.as_mut().unwrap().set("bytes_received", received));
            let finding = world.later(2000).check(check).findings.remove(0);
            finding.causes.left.iter().map(|h| h.cause.id).collect::<Vec<_>>()
        };
        assert_eq!(left(3, 0), ["half-gone", "handshake-dropped"]);
        assert_eq!(left(0, 0), ["half-gone"]);
        assert_eq!(left(3, 9), ["half-gone"]);
    }

    #[test]
    fn one_sample_only_suspects_and_a_half_that_was_there_before_is_silent() {
        let mut lonely = world([client(5000, State::Established)]);
        let once = lonely.check(check);
        assert!(once.findings.is_empty() && once.wants_second.is_some());
        let mut ending = world([client(5000, State::Established), server(5000)]);
        ending.later(2000).now.sockets.retain(|s| s.peer.port != 5000);
        assert_eq!(ending.check(check), Outcome::default());
        // New in the second sample.
        lonely.later(2000).before.as_mut().unwrap().sockets.truncate(1);
        assert_eq!(lonely.check(check), Outcome::default());
    }

    #[test]
    fn a_young_close_wait_is_certain_and_an_old_one_has_an_explanation() {
        let young = world([client(5000, State::CloseWait)]).later(2000).check(check);
        assert!((young.findings[0].confidence - 0.97).abs() < 1e-9, "{young:?}");
        let mut short = world([client(5000, State::CloseWait)]);
        assert_eq!(short.sysctl(Sysctl::Ipv4TcpFinTimeout, &[4]).later(2000).check(check), Outcome::default());
        assert_eq!(world([client(5000, State::FinWait2)]).later(2000).check(check).findings.len(), 1);
    }

    #[test]
    fn remainders_requests_remote_peers_and_rewritten_addresses_are_silent() {
        let silent = |rows: Vec<Socket>| assert_eq!(world(rows).later(2000).check(check), Outcome::default());
        let remains = unheld(row(State::FinWait2, "127.0.0.1:7000", "127.0.0.1:5000"));
        let mini = Socket { kind: RowKind::TimeWaitMini, ..remains };
        silent(vec![client(5000, State::CloseWait), mini]);
        silent(vec![client(5000, State::Established), time_wait("127.0.0.1:7000", "127.0.0.1:5000", 5000)]);
        silent(vec![client(5000, State::Established), unheld(row(State::SynRecv, "127.0.0.1:7000", "127.0.0.1:5000"))]);
        silent(vec![row(State::Established, "10.0.0.1:5000", "10.0.0.2:7000")]);
        // REDIRECT: the server took it on another port.
        silent(vec![client(5000, State::Established), row(State::Established, "127.0.0.1:15001", "127.0.0.1:5000")]);
        // The dual-stack server's half of an IPv4 client.
        let mapped = row(State::Established, "[::ffff:127.0.0.1]:7000", "[::ffff:127.0.0.1]:5000");
        silent(vec![client(5000, State::Established), mapped]);
    }

    #[test]
    fn addresses_that_may_lead_elsewhere_count_only_when_every_namespace_was_read() {
        let own = || {
            let mut world = world([info(row(State::Established, "10.0.0.1:5000", "10.0.0.1:7000"), &QUIET)]);
            world.now.processes.values_mut().for_each(|p| p.netns = NETNS);
            world
        };
        assert_eq!(own().later(2000).check(check).findings.len(), 1);
        let mut container = own();
        container.now.processes.get_mut(&812).unwrap().netns = NetnsId::new(2);
        assert_eq!(container.later(2000).check(check), Outcome::default());
        let mut unknown = own();
        unknown.now.processes.get_mut(&812).unwrap().netns = None;
        assert_eq!(unknown.later(2000).check(check), Outcome::default());
        let mut closed = own();
        closed.now.netns_not_scanned = 1;
        assert_eq!(closed.later(2000).check(check), Outcome::default());
    }

    /// A connection of 10.0.0.1 to a service in another namespace, and its half there.
    fn far_pair(port: u16, received: u64) -> [Socket; 2] {
        let bytes = |sent: u64, received: u64| [("bytes_sent", sent), ("bytes_received", received)];
        let here = row(State::Established, &format!("10.0.0.1:{port}"), "10.9.0.2:6379");
        let there = row(State::Established, "10.9.0.2:6379", &format!("10.0.0.1:{port}"));
        let there = Socket { netns: NetnsId::new(2), ..info(there, &bytes(received, 40)) };
        [info(here, &bytes(40, received)), there]
    }

    #[test]
    fn beside_a_pair_across_namespaces_a_lonely_half_is_half_open() {
        let found = |pair: &[Socket]| {
            let lonely = row(State::Established, "10.0.0.1:45000", "10.9.0.2:6379");
            let mut world = world([info(lonely, &QUIET)]);
            let far = crate::model::snapshot::Netns {
                inode: NetnsId::new(2),
                addresses: vec!["10.9.0.2".parse().unwrap()],
                ..Default::default()
            };
            world.now.netns.push(far);
            for socket in pair {
                world.add(socket.clone());
            }
            world.later(2000).check(check).findings
        };
        let [finding] = &found(&far_pair(45_001, 9))[..] else { panic!("no finding") };
        assert_eq!((finding.severity, finding.evidence[0].1.clone()), (Severity::Warning, Evidence::Count(1)));
        assert!(finding.causes.is("half-gone"), "{:?}", finding.causes);
        assert!(found(&[]).is_empty(), "the same address may be elsewhere");
        assert!(found(&far_pair(45_001, 0)).is_empty(), "a pair by name alone may be two strangers");
        let elsewhere = Socket { netns: NetnsId::new(3), ..far_pair(45_001, 9)[1].clone() };
        assert!(found(&[far_pair(45_001, 9)[0].clone(), elsewhere]).is_empty(), "not where the address is");
    }

    #[test]
    fn a_client_of_a_published_port_has_its_other_half_in_the_container() {
        let held_by = |comm: &str| {
            let mut world = world([client(5000, State::Established)]);
            let holder = world.now.owners.processes.iter_mut().find(|p| p.pid == 900);
            comm.clone_into(&mut holder.unwrap().comm);
            world.later(2000).check(check).findings.len()
        };
        assert_eq!((held_by("conmon"), held_by("dockerd"), held_by("server")), (0, 0, 1));
    }

    #[test]
    fn an_incomplete_table_proves_nothing() {
        let mut world = world([client(5000, State::Established)]);
        world.now.netns[0].incomplete = true;
        assert!(world.check(check).not_checked.is_some());
    }
}
