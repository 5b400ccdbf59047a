//! The kernel dropped data that had already arrived, because a receive buffer was full.
//!
//! Comes in: counters of data that was dropped for want of buffer, and the drops of single sockets. Goes out: one
//! finding per process whose sockets dropped, else one for the namespace. Never here: drops of listeners.
//!
#![doc = include_str!("../../../docs/rules/rcvbuf-pruning.md")]

use crate::diagnose::Outcome;
use crate::diagnose::closing;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::counter::{Counter, SockStat};
use crate::model::snapshot::Netns;
use crate::model::sysctl::Sysctl;
use crate::model::{RowKind, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("rcvbuf-pruning", System, Two, "the kernel dropped data that had arrived", check, [TEXT])
        .title("dropped on arrival")
        .identity(Identity::Program);

const HOST_IS_SHORT: &str =
    "Check tcp-memory-pressure first: the whole host is short of buffers, which hits every socket";
const FASTER_READER: &str = "Make the reader faster: recv-queue-stuck shows what blocks it";
const RCVBUF: &str = "Remove a hard-coded SO_RCVBUF: it switches auto-tuning off and fixes the buffer";
const RMEM: &str = "Last, raise the third number of net.ipv4.tcp_rmem, the maximum of auto-tuning";

const TEXT: Text = Text {
    why: "When a receive buffer is full the kernel squeezes what is in it, then drops out-of-order data, then new \
          data. The peer must send again what was dropped, which costs time and bandwidth.",
    remedy: &[HOST_IS_SHORT, FASTER_READER, RCVBUF, RMEM],
    avoid: &[
        "Don't set a huge minimum or default of tcp_rmem: every idle socket would count with it",
        "Don't give larger buffers to a reader that does not read",
    ],
};

/// Evidence name, counter, and whether its growth means that data was thrown away which the peer must repeat.
const COUNTERS: [(&str, Counter, bool); 6] = [
    ("receive_queue_drops", Counter::TcpExtTcpRcvQDrop, true),
    ("pruned", Counter::TcpExtRcvPruned, true),
    ("out_of_order_pruned", Counter::TcpExtOfoPruned, true),
    ("zero_window_drops", Counter::TcpExtTcpZeroWindowDrop, false),
    ("backlog_drops", Counter::TcpExtTcpBacklogDrop, false),
    ("prune_called", Counter::TcpExtPruneCalled, false),
];

pub(super) fn check(view: &View<'_>) -> Outcome {
    if view.before.is_none() {
        let Some((name, _)) = view
            .now
            .netns
            .iter()
            .find_map(|n| COUNTERS.iter().find_map(|(_, c, _)| Some((*c, n.counter(*c).filter(|v| *v > 0)?))))
        else {
            return Outcome::default();
        };
        let full = view.now.sockets.iter().filter(|s| is_short(s)).count() as u64;
        return match full {
            0 => Outcome::default(),
            n => Outcome::wants_second(format!(
                "{name} has counted, and {} a full receive buffer",
                text::count(n, "connection has", "connections have")
            )),
        };
    }
    let mut findings = Vec::new();
    for netns in &view.now.netns {
        let grown: Vec<(&'static str, u64, bool)> = COUNTERS
            .iter()
            .filter_map(|(name, counter, lost)| Some((*name, view.delta(netns.inode, *counter)?, *lost)))
            .collect();
        if grown.iter().all(|(_, n, _)| *n == 0) {
            continue;
        }
        let dropping: Vec<&Socket> = view
            .now
            .sockets
            .iter()
            .filter(|s| s.netns == netns.inode && new_drops(view, s).is_some_and(|n| n > 0))
            .collect();
        if dropping.is_empty() {
            findings.push(finding(view, netns, None, &grown));
            continue;
        }
        let groups = Peers::new(view).groups(dropping, false);
        findings.extend(groups.iter().map(|g| finding(view, netns, Some(g), &grown)));
    }
    Outcome::findings(ranking::worst(findings))
}

fn is_connection(socket: &Socket) -> bool {
    socket.kind == RowKind::Full && socket.state != State::Listen
}

/// Its buffer is full now.
fn is_short(socket: &Socket) -> bool {
    is_connection(socket) && socket.skmem.is_some_and(|m| m.rcvbuf_bytes > 0 && m.rmem_alloc_bytes >= m.rcvbuf_bytes)
}

/// Segments that this connection dropped between the samples (`sk_drops`).
fn new_drops(view: &View<'_>, socket: &Socket) -> Option<u64> {
    let drops = |s: &Socket| s.skmem?.drops.map(u64::from);
    if !is_connection(socket) {
        return None;
    }
    // A connection of which there was no row yet began without drops.
    let before = view.earlier(socket).map_or(Some(0), drops)?;
    Some(drops(socket)?.saturating_sub(before))
}

/// Whether the whole host is short of buffers, so that no single reader is to blame.
fn host_is_short(view: &View<'_>) -> bool {
    let used = view.now.netns.iter().find_map(|n| n.sockstat(SockStat::TcpMem));
    let pressure = view.now.netns.iter().find_map(|n| n.sysctls.get(Sysctl::Ipv4TcpMem)?.get(1).copied());
    matches!((used, pressure), (Some(used), Some(pressure)) if used > pressure)
}

fn finding(view: &View<'_>, netns: &Netns, group: Option<&Group<'_>>, grown: &[(&'static str, u64, bool)]) -> Finding {
    let lost: u64 = grown.iter().filter(|(_, _, lost)| *lost).map(|(_, n, _)| n).sum();
    let severity = if lost > 0 { Severity::Warning } else { Severity::Info };
    let interval = text::duration(view.interval_ms().unwrap_or(0));
    let rows: &[&Socket] = group.map_or(&[], |g| &g.rows);
    let drops: u64 = rows.iter().filter_map(|s| new_drops(view, s)).sum();
    let host = host_is_short(view);
    let summary = match group {
        Some(group) => format!(
            "{} of {} {} dropped {} that had arrived in {interval}: the receive buffer was full",
            text::count(rows.len() as u64, "connection", "connections"),
            group.name(view),
            peers::with_whom(rows),
            text::count(drops, "segment", "segments"),
        ),
        None if lost > 0 => format!(
            "the kernel dropped data that had arrived {} in {interval}, on connections that are not seen any more",
            text::count(lost, "time", "times")
        ),
        None => format!("receive buffers were full and were squeezed within {interval}, nothing is known to be lost"),
    };
    let memory = rows.iter().filter_map(|s| s.skmem);
    let filled = memory.clone().map(|m| u64::from(m.rmem_alloc_bytes)).sum();
    let window = rows.iter().filter_map(|s| s.info.as_deref()?.rcv_wnd_bytes()).min();
    let disordered = rows.iter().filter_map(|s| s.info.as_deref()?.rcv_ooopack()).map(u64::from).reduce(|a, b| a + b);
    let subject = match group {
        Some(group) => group.subject(view),
        None => Subject { netns: netns.inode, ..Subject::default() },
    };
    let mut finding = RULE
        .finding(severity, if group.is_some() { 0.8 } else { 0.5 }, summary)
        .because(match group {
            Some(_) if host => "the sockets' own drop counters grew; the whole host is short of buffers, though",
            Some(_) => "the sockets' own drop counters grew together with the namespace's",
            None => "the namespace's counters grew and no socket that is still there has new drops",
        })
        .subject(subject);
    if group.is_some() {
        finding = finding
            .evidence("sockets_with_drops", Evidence::Count(rows.len() as u64))
            .evidence("new_drops", Evidence::Count(drops))
            .evidence("receive_memory_bytes", Evidence::Bytes(filled))
            .evidence("receive_buffer_bytes", Evidence::Bytes(memory.map(|m| u64::from(m.rcvbuf_bytes)).sum()))
            .evidence("offered_window_min_bytes", window.map_or(Evidence::Unknown, |w| Evidence::Bytes(w.into())))
            .evidence("out_of_order_segments", Evidence::count(disordered))
            .evidence("peers", closing::peers_evidence(rows));
    }
    for (name, n, _) in grown {
        finding = finding.evidence(name, Evidence::Count(*n));
    }
    let first = if host { HOST_IS_SHORT } else { FASTER_READER };
    let selection = group.map_or_else(String::new, Group::selection);
    finding.steps([first, RCVBUF, RMEM]).next(format!("tcpstate list --state established -m -i{selection}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row};
    use crate::model::SkMem;

    fn receiver(port: u16, drops: u32, full: bool) -> Socket {
        let skmem = SkMem {
            rmem_alloc_bytes: if full { 131_072 } else { 100 },
            rcvbuf_bytes: 131_072,
            drops: Some(drops),
            ..SkMem::default()
        };
        let base = info(row(State::Established, "10.0.0.1:80", &format!("10.0.0.2:{port}")), &[]);
        Socket { skmem: Some(skmem), ..base }
    }

    fn world(full: bool) -> World {
        let mut world = World::new();
        for (port, pid) in [(5000, 812), (5001, 813)] {
            let socket = receiver(port, 1, full);
            world.hold(pid, if pid == 812 { "server" } else { "other" }, 3, socket.inode).add(socket);
        }
        for (_, counter, _) in COUNTERS {
            world.counter(counter, 3);
        }
        world
    }

    fn set_drops(world: &mut World, drops: u32) {
        world.now.sockets[0].skmem.as_mut().unwrap().drops = Some(drops);
    }

    #[test]
    fn the_process_whose_sockets_dropped_is_named() {
        let mut world = world(true);
        world.later(2000).counter(Counter::TcpExtTcpRcvQDrop, 5).counter(Counter::TcpExtPruneCalled, 9);
        set_drops(&mut world, 6);
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid, finding.confidence), (Severity::Warning, Some(812), 0.8));
        assert_eq!(
            finding.summary,
            "1 connection of server (812) with 10.0.0.2:5000 dropped 5 segments that had arrived in 2.0 s: the receive \
             buffer was full"
        );
        assert!(finding.evidence.contains(&("receive_queue_drops", Evidence::Count(2))));
        assert!(finding.evidence.contains(&("prune_called", Evidence::Count(6))));
    }

    #[test]
    fn squeezing_alone_is_information_and_without_a_socket_less_sure() {
        let mut squeezed = world(true);
        squeezed.later(2000).counter(Counter::TcpExtPruneCalled, 4);
        let outcome = squeezed.check(check);
        assert_eq!((outcome.findings[0].severity, outcome.findings[0].confidence), (Severity::Info, 0.5));
        squeezed.counter(Counter::TcpExtOfoPruned, 4);
        assert_eq!(squeezed.check(check).findings[0].severity, Severity::Warning);
        // The host as a whole is short.
        squeezed.sysctl(Sysctl::Ipv4TcpMem, &[1, 2, 3]).now.netns[0].sockstat.insert(SockStat::TcpMem, 3);
        set_drops(&mut squeezed, 2);
        assert!(squeezed.check(check).findings[0].remedy[0].contains("tcp-memory-pressure"));
    }

    #[test]
    fn old_counters_drops_of_listeners_and_drops_without_pruning_are_silent() {
        let mut calm = world(false);
        assert_eq!(calm.check(check), Outcome::default(), "counters of the past, no full buffer now");
        calm.later(2000);
        // Segments that a socket refuses for other reasons (old duplicates) count there, too.
        set_drops(&mut calm, 9);
        calm.add(Socket { skmem: receiver(1, 50, true).skmem, ..listen("0.0.0.0:80", 0, 4) });
        assert_eq!(calm.check(check), Outcome::default());
    }

    #[test]
    fn one_sample_suspects_when_a_buffer_is_full_now() {
        assert!(world(true).check(check).wants_second.is_some());
        let mut never = world(true);
        for (_, counter, _) in COUNTERS {
            never.counter(counter, 0);
        }
        assert_eq!(never.check(check), Outcome::default());
    }
}
