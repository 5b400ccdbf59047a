//! The kernel dropped data that had already arrived: a receive buffer was full, or its memory was limited.
//!
//! Input: counters of data that was dropped for want of room, the drops of single sockets, and what limits the memory of their
//! process. Output: one finding per
//! process whose sockets dropped, else one for the namespace. Not here: drops of listeners.
//!
#![doc = include_str!("../../../docs/rules/rcvbuf-pruning.md")]

use crate::diagnose::Outcome;
use crate::diagnose::closing;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::receive_room::{CAUSES, Filling, was_refused, words_of_limit};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::counter::{Counter, SockStat};
use crate::model::snapshot::{GroupMemory, Netns};
use crate::model::sysctl::Sysctl;
use crate::model::{RowKind, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("rcvbuf-pruning", System, Two, "the kernel dropped data that had arrived", check, [TEXT])
        .title("dropped on arrival")
        .identity(Identity::Program)
        .causes(CAUSES);

const HOST_IS_SHORT: &str =
    "Check tcp-memory-pressure first: the whole host is short of buffers, which hits every socket";
const FASTER_READER: &str = "Make the reader faster: recv-queue-stuck shows what blocks it";
const PATH: &str = "Find what loses or reorders segments on the way: `mtr -T` to the peer, drops in `ip -s link`";
const BATCH: &str = "Let the peer write in larger pieces: each small segment takes a buffer of its own";
const RCVBUF: &str = "Remove a hard-coded SO_RCVBUF: it switches auto-tuning off and fixes the buffer";
const LIMIT: &str = "Raise the limit that the finding names: memory.kmem.tcp.limit_in_bytes of the control group (version 1), \
                     memory.max (version 2, MemoryMax= of a unit); or move what else fills it to another group";
const RMEM: &str = "Last, raise the third number of net.ipv4.tcp_rmem, the maximum of auto-tuning";

const TEXT: Text = Text {
    why: "When a receive buffer is full, or memory for it is refused, the kernel squeezes what is in it, then drops \
          out-of-order data, then new data. The peer must send again what was dropped, which costs time and bandwidth.",
    remedy: &[HOST_IS_SHORT, LIMIT, FASTER_READER, PATH, BATCH, RCVBUF, RMEM],
    avoid: &[
        "Don't set a huge minimum or default of tcp_rmem: every idle socket would count with it",
        "Don't give larger buffers to a reader that does not read",
    ],
};

/// So many segments that were dropped, and such a share of those that came, cost throughput (policy).
const MANY_DROPS: u64 = 10;
const DROPPED_PERCENT: u64 = 1;
/// A limit of memory is reached with so many percent of it in use: the next segments do not fit.
const NEAR_PERCENT: u64 = 95;
/// Memory of so many times the bytes in the queue is overhead.
const OVERHEAD: u64 = 4;

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
    Outcome::findings(findings)
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

/// Whether the whole host is short of buffers, so that no single reader is to blame; `None` where a namespace does not
/// show it.
fn host_is_short(view: &View<'_>) -> Option<bool> {
    let used = view.now.netns.iter().find_map(|n| n.sockstat(SockStat::TcpMem))?;
    let pressure = view.now.netns.iter().find_map(|n| n.sysctls.get(Sysctl::Ipv4TcpMem)?.get(1).copied())?;
    Some(used > pressure)
}

/// What two samples show of the connections that dropped.
struct Picture<'v> {
    filling: Filling,
    /// What limits the memory of the process, if it was looked at.
    limit: Option<&'v GroupMemory>,
    /// The kernel lowered the window of one because memory was refused.
    was_refused: bool,
    host_is_short: Option<bool>,
    /// The program took some bytes of them.
    took: Option<bool>,
    /// Data waits now.
    waits: bool,
    /// The memory is mostly overhead.
    overhead: Option<bool>,
    /// Segments out of order came.
    disordered: Option<bool>,
    /// A buffer grew.
    grew: Option<bool>,
    new_drops: u64,
    /// Segments that came.
    arrived: Option<u64>,
}

impl<'v> Picture<'v> {
    fn new(view: &'v View<'_>, group: Option<&Group<'_>>, ofo_pruned: u64) -> Picture<'v> {
        let rows: &[&Socket] = group.map_or(&[], |g| &g.rows);
        let process = group.and_then(|g| g.owner).and_then(|p| view.process(p.pid));
        let pairs = || rows.iter().filter_map(|s| Some((*s, view.earlier(s)?)));
        let some = |of: fn(&Socket) -> Option<u64>| {
            pairs().filter_map(|(now, before)| Some(of(now)? > of(before)?)).reduce(|a, b| a || b)
        };
        let segments = |s: &Socket| s.info.as_deref()?.segs_in().map(u64::from);
        let memory = rows.iter().filter_map(|s| s.skmem).map(|m| u64::from(m.rmem_alloc_bytes)).reduce(|a, b| a + b);
        let queued: u64 = rows.iter().map(|s| u64::from(s.recv_q_bytes)).sum();
        let disordered = some(|s| s.info.as_deref()?.rcv_ooopack().map(u64::from));
        Picture {
            filling: Filling::of(view, rows),
            limit: process.and_then(|p| p.group_memory.as_ref()),
            was_refused: rows.iter().any(|s| was_refused(s)),
            host_is_short: host_is_short(view),
            took: some(Socket::consumed_bytes),
            waits: queued > 0,
            overhead: memory.filter(|bytes| *bytes > 0).map(|bytes| bytes >= queued.saturating_mul(OVERHEAD)),
            disordered: if ofo_pruned > 0 { Some(true) } else { disordered },
            grew: some(|s| s.skmem.map(|m| m.rcvbuf_bytes.into())),
            new_drops: rows.iter().filter_map(|s| new_drops(view, s)).sum(),
            arrived: pairs()
                .filter_map(|(now, before)| Some(segments(now)?.saturating_sub(segments(before)?)))
                .reduce(|a, b| a + b),
        }
    }

    /// See "Severity" on the page.
    fn severity(&self, lost: u64) -> Severity {
        let share = self.arrived.is_some_and(|n| self.new_drops * 100 >= n * DROPPED_PERCENT);
        let many = self.new_drops >= MANY_DROPS && share && self.took == Some(true);
        if lost > 0 && (many || self.host_is_short == Some(true)) { Severity::Warning } else { Severity::Info }
    }

    /// What is known of the limit of the control group.
    fn group_memory(&self) -> Weight {
        let Some(found) = self.limit else {
            return Weight::Possible(if self.filling == Filling::Roomy { 0.3 } else { 0.05 });
        };
        let Some(limit) = found.limit_bytes else {
            return Weight::Refuted("no control group of the program limits its memory".to_owned());
        };
        // What is in use goes up and down with each segment.
        let most = found.most_bytes.unwrap_or(0).max(found.used_bytes);
        let near = most.saturating_mul(100) >= limit.saturating_mul(NEAR_PERCENT);
        let reached = near || found.hits.is_some_and(|n| n > 0);
        let roomy = self.filling == Filling::Roomy;
        match self.host_is_short {
            _ if !reached && (found.hits.is_some() || found.most_bytes.is_some()) => {
                Weight::Refuted("the limit of its control group was never reached".to_owned())
            }
            _ if !reached => Weight::Possible(0.1),
            Some(false) if roomy && self.was_refused && found.tcp_alone => Weight::Proven,
            _ if roomy && self.was_refused => Weight::Possible(2.0),
            _ if roomy => Weight::Possible(0.8),
            _ => Weight::Possible(0.3),
        }
    }

    fn weigh(&self, cause: &'static Cause) -> Weight {
        let refuted = |why: &str| Weight::Refuted(why.to_owned());
        // A buffer that has room in both samples may have been full in between.
        let belief = |of: f64| Weight::Possible(if self.filling == Filling::Roomy { 0.1 } else { of });
        match cause.id {
            "group-memory" => self.group_memory(),
            "host-memory" => match self.host_is_short {
                Some(true) => Weight::Proven,
                Some(false) => refuted("the TCP memory in use is below the second number of tcp_mem"),
                None => Weight::Possible(0.1),
            },
            "not-read" => match self.took {
                Some(true) => refuted("bytes were taken between the samples"),
                Some(false) if self.waits => Weight::Possible(0.9),
                Some(false) => refuted("nothing waits to be read"),
                None => Weight::Possible(0.3),
            },
            "slow-reader" => match self.took {
                Some(true) if self.waits => belief(0.6),
                Some(true) => belief(0.3),
                Some(false) => refuted("no byte was taken between the samples"),
                None => Weight::Possible(0.3),
            },
            "small-segments" => match self.overhead {
                Some(true) => belief(0.5),
                Some(false) => refuted("the memory is less than four times the bytes in the queue"),
                None => Weight::Possible(0.1),
            },
            "out-of-order" => match self.disordered {
                Some(true) if self.filling == Filling::Roomy => Weight::Possible(0.2),
                Some(true) => Weight::Possible(0.6),
                Some(false) => refuted("no segment came out of order"),
                None => Weight::Possible(0.2),
            },
            _ => match (self.grew, self.took) {
                (Some(true), _) => refuted("a buffer grew between the samples"),
                (_, Some(false)) => refuted("a larger buffer would be full too, as nothing is read"),
                _ => belief(0.3),
            },
        }
    }
}

/// What helps against each cause.
fn step(cause: &str) -> &'static [&'static str] {
    match cause {
        "host-memory" => &[HOST_IS_SHORT],
        "group-memory" => &[LIMIT],
        "not-read" | "slow-reader" => &[FASTER_READER],
        "small-segments" => &[BATCH],
        "out-of-order" => &[PATH],
        _ => &[RCVBUF, RMEM],
    }
}

fn finding(view: &View<'_>, netns: &Netns, group: Option<&Group<'_>>, grown: &[(&'static str, u64, bool)]) -> Finding {
    let lost: u64 = grown.iter().filter(|(_, _, lost)| *lost).map(|(_, n, _)| n).sum();
    let interval = text::duration(view.interval_ms().unwrap_or(0));
    let rows: &[&Socket] = group.map_or(&[], |g| &g.rows);
    let ofo_pruned = grown.iter().find(|(name, ..)| *name == "out_of_order_pruned").map_or(0, |(_, n, _)| *n);
    let picture = Picture::new(view, group, ofo_pruned);
    let drops = picture.new_drops;
    let causes = Weighed::of(CAUSES, |cause| picture.weigh(cause));
    let limit = picture.limit.and_then(words_of_limit);
    let why = match (causes.named(), &limit) {
        (Some(cause), Some(limit)) if cause.id == "group-memory" => format!(": {}, {limit}", cause.text),
        (Some(cause), _) => format!(": {}", cause.text),
        (None, _) => String::new(),
    };
    let summary = match group {
        Some(group) => format!(
            "{} of {} {} dropped {} that had arrived in {interval}{}{why}",
            text::count(rows.len() as u64, "connection", "connections"),
            group.name(view),
            peers::with_whom(rows),
            text::count(drops, "segment", "segments"),
            picture.filling.words(),
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
        .finding(picture.severity(lost), if group.is_some() { 0.8 } else { 0.5 }, summary)
        .because(match group {
            Some(_) => "the sockets' own drop counters grew together with the namespace's",
            None => "the namespace's counters grew and no socket that is still there has new drops",
        })
        .subject(subject)
        .about(rows.iter().copied())
        .causes(causes.clone());
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
    finding = finding.evidence_if("memory_limit", limit.map(Evidence::Text));
    if let Some(group) = group {
        finding = group.inspect(finding);
    }
    let mut steps: Vec<&'static str> = causes.left.iter().flat_map(|h| step(h.cause.id)).copied().collect();
    let mut seen = Vec::new();
    steps.retain(|s| {
        !seen.contains(s) && {
            seen.push(*s);
            true
        }
    });
    let selection = group.map_or_else(String::new, Group::selection);
    finding.steps(steps).next(format!("tcpstate list --state established -m -i{selection}"))
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
        assert_eq!((finding.severity, finding.subject.pid, finding.confidence), (Severity::Info, Some(812), 0.8));
        assert_eq!(
            finding.summary,
            "1 connection of server (812) with 10.0.0.2:5000 dropped 5 segments that had arrived in 2.0 s, because the \
             receive buffer was full"
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
        // The host as a whole is short: a warning from the first byte that was thrown away.
        squeezed.sysctl(Sysctl::Ipv4TcpMem, &[1, 2, 3]).now.netns[0].sockstat.insert(SockStat::TcpMem, 3);
        set_drops(&mut squeezed, 2);
        assert_eq!(squeezed.check(check).findings[0].severity, Severity::Info);
        squeezed.counter(Counter::TcpExtOfoPruned, 4);
        let finding = &squeezed.check(check).findings[0];
        assert!(finding.severity == Severity::Warning && finding.causes.is("host-memory"), "{finding:?}");
        assert!(finding.remedy[0].contains("tcp-memory-pressure") && finding.remedy.len() == 1);
        squeezed.now.netns[0].sockstat.insert(SockStat::TcpMem, 2);
        assert_eq!(squeezed.check(check).findings[0].severity, Severity::Info);
    }

    /// So many of so many segments were dropped within two seconds, and so many bytes were taken.
    fn dropped(drops: u32, segments: u64, taken: u64, unread: u32) -> Finding {
        let mut world = world(true);
        world.later(2000).counter(Counter::TcpExtTcpRcvQDrop, 3 + u64::from(drops));
        set_drops(&mut world, 1 + drops);
        let socket = &mut world.now.sockets[0];
        socket.recv_q_bytes = unread;
        let info = socket.info.as_mut().unwrap();
        assert!(info.set("segs_in", segments) && info.set("bytes_received", taken + u64::from(unread)));
        world.check(check).findings.remove(0)
    }

    #[test]
    fn one_of_a_hundred_segments_of_a_program_that_reads_is_a_warning() {
        let severity = |drops, segments, taken| dropped(drops, segments, taken, 60_000).severity;
        assert_eq!((severity(9, 900, 1), severity(10, 1000, 1)), (Severity::Info, Severity::Warning));
        assert_eq!(severity(10, 1001, 1), Severity::Info, "less than one of a hundred");
        assert_eq!(severity(10, 1000, 0), Severity::Info, "it does not read: recv-queue-stuck says whom that hurts");
    }

    #[test]
    fn the_reader_the_path_and_the_buffer_are_told_apart() {
        let left = |f: &Finding| f.causes.left.iter().map(|h| h.cause.id).collect::<Vec<_>>();
        assert_eq!(left(&dropped(10, 1000, 0, 60_000)), ["not-read", "host-memory", "group-memory"]);
        assert_eq!(left(&dropped(10, 1000, 9, 60_000)), ["slow-reader", "small-buffer", "host-memory", "group-memory"]);
        let overhead = dropped(10, 1000, 9, 100);
        assert_eq!(left(&overhead), ["slow-reader", "small-segments", "small-buffer", "host-memory", "group-memory"]);
        assert_eq!(overhead.remedy, [FASTER_READER, BATCH, RCVBUF, RMEM, HOST_IS_SHORT, LIMIT]);
    }

    #[test]
    fn a_limit_of_the_control_group_is_named_where_the_buffer_has_room() {
        let of = |filled: u32, memory: Option<GroupMemory>| {
            let mut world = world(false);
            world.sysctl(Sysctl::Ipv4TcpMem, &[1, 2, 3]).now.netns[0].sockstat.insert(SockStat::TcpMem, 1);
            world.later(2000).counter(Counter::TcpExtTcpRcvQDrop, 13);
            let info = world.now.sockets[0].info.as_mut().unwrap();
            assert!(info.set("advmss_bytes", 1448) && info.set("rcv_ssthresh_bytes", 5792));
            set_drops(&mut world, 11);
            world.now.sockets[0].skmem.as_mut().unwrap().rmem_alloc_bytes = filled;
            world.now.processes.get_mut(&812).unwrap().group_memory = memory;
            world.check(check).findings.remove(0)
        };
        let group = |most, limit_bytes| {
            Some(GroupMemory {
                group: "/web".into(),
                used_bytes: 0,
                limit_bytes,
                hits: None,
                most_bytes: Some(most),
                tcp_alone: true,
                socket_bytes: Some(0),
            })
        };
        let found = of(0, group(147_456, Some(131_072)));
        assert!(found.causes.is("group-memory") && found.remedy == [LIMIT], "{found:?}");
        assert!(
            found.summary.ends_with(
                "though the receive buffer has room: its control group has reached the limit of its memory, /web may use \
                 128 KiB of TCP memory, has used 144 KiB at most"
            ),
            "{}",
            found.summary
        );
        let full = of(131_072, group(147_456, Some(131_072)));
        assert!(full.causes.named().is_none() && full.summary.contains("because the receive buffer was full"));
        let out = |f: &Finding| f.causes.ruled_out.iter().any(|(c, _)| c.id == "group-memory");
        assert!(out(&of(0, group(147_456, None))) && out(&of(0, group(147_456, Some(200_000)))));
        let unknown = of(0, None);
        assert!(!out(&unknown) && !unknown.summary.contains("was full") && unknown.inspect.len() == 1);
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
