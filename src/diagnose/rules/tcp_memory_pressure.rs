//! The buffers of all TCP sockets of this host together are near the limit, or over it.
//!
//! Input: the pages of all TCP buffers of the host, their three limits, the counters of the namespaces. Output: one finding
//! for the host. Not here: UDP, and the limits of cgroups.
//!
#![doc = include_str!("../../../docs/rules/tcp-memory-pressure.md")]

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::diagnose::Outcome;
use crate::diagnose::closing;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::peers::Peers;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::resources::{MemoryLimits, TcpMemory};
use crate::model::{Process, Socket};
use crate::text;

pub(super) const RULE: Rule =
    rule!("tcp-memory-pressure", System, OneOrTwo, "the TCP buffers of the host are near their limit", check, [TEXT])
        .title("TCP memory short")
        .identity(Identity::Object)
        .cause();

const TEXT: Text = Text {
    why: "All TCP sockets of a host share one budget. Above pressure the kernel shrinks windows and throws away what \
          it may from receive queues until the use is below min again; above max it drops data and kills orphans.",
    remedy: &[
        "Find the biggest holders: programs that do not read (recv-queue-stuck), peers that do not read \
         (zero-window-peer), orphans (orphan-limit)",
        "Limit connections and buffers in the application: a maximum of clients, write timeouts, no large SO_SNDBUF \
         or SO_RCVBUF",
        "Lower the maximum of tcp_rmem and tcp_wmem if very many connections are by design",
        "Last, raise net.ipv4.tcp_mem, in pages, if the memory is really there",
    ],
    avoid: &[
        "Don't raise tcp_rmem or tcp_wmem: more buffer per socket makes it worse",
        "Don't lower tcp_max_orphans to save memory: it loses data",
    ],
};

const TOP: usize = 5;
/// From this part of the level of pressure on it is near.
const NEAR_PERCENT: u64 = 90;
/// Counters that grow when buffers are short, shown as evidence.
const COUNTERS: [(&str, Counter); 4] = [
    ("prune_called", Counter::TcpExtPruneCalled),
    ("receive_queue_collapsed", Counter::TcpExtTcpRcvCollapsed),
    ("receive_queue_drops", Counter::TcpExtTcpRcvQDrop),
    ("zero_window_drops", Counter::TcpExtTcpZeroWindowDrop),
];

/// What the host has and may have, in pages.
#[derive(Clone, Copy)]
struct Budget {
    used: u64,
    min: u64,
    pressure: u64,
    max: u64,
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let grown = |counter| view.now.netns.iter().filter_map(|n| view.delta(n.inode, counter)).sum::<u64>();
    // The counter counts orphans too that were killed for their number.
    let aborted = if closing::orphans_near_limit(view) { 0 } else { grown(Counter::TcpExtTcpAbortOnMemory) };
    let harm = Harm {
        entered: grown(Counter::TcpExtTcpMemoryPressures),
        aborted,
        thrown_away: COUNTERS.iter().map(|(_, counter)| grown(*counter)).sum(),
    };
    let Some(budget) = budget(view) else {
        // Inside a container only the counters tell, and they need two samples.
        if harm.entered > 0 {
            return Outcome::findings(vec![finding(view, None, harm)]);
        }
        return Outcome::not_checked(
            "tcp_mem or the use of it cannot be read here: the initial network namespace alone shows the limits",
        );
    };
    let near = budget.used * 100 >= budget.pressure * NEAR_PERCENT;
    if !near && harm.entered == 0 && (harm.aborted == 0 || budget.used <= budget.min) {
        return Outcome::default();
    }
    let mut outcome = Outcome::findings(vec![finding(view, Some(budget), harm)]);
    if view.before.is_none() {
        outcome.wants_second = Some("TCP buffers are near the level of pressure; is data thrown away?".into());
    }
    outcome
}

/// What happened between the samples.
#[derive(Clone, Copy)]
struct Harm {
    /// Times that the host came under pressure.
    entered: u64,
    /// Connections that were killed for memory.
    aborted: u64,
    /// Queues that were collapsed, pruned or dropped.
    thrown_away: u64,
}

fn budget(view: &View<'_>) -> Option<Budget> {
    let TcpMemory { used, limits, .. } = TcpMemory::of(&view.now.netns)?;
    let MemoryLimits { min, pressure, max, .. } = limits?;
    Some(Budget { used, min, pressure, max })
}

fn severity(budget: Option<Budget>, harm: Harm) -> Severity {
    if harm.aborted > 0 || budget.is_some_and(|b| b.used > b.max) {
        return Severity::Critical;
    }
    let pressed = harm.entered > 0 || budget.is_some_and(|b| b.used > b.pressure);
    // Below pressure a queue is pruned for its own limit, which has a rule of its own.
    if pressed && harm.thrown_away > 0 { Severity::High } else { Severity::Warning }
}

fn finding(view: &View<'_>, budget: Option<Budget>, harm: Harm) -> Finding {
    let severity = severity(budget, harm);
    let Harm { entered, aborted, thrown_away } = harm;
    let page_bytes = view.now.system.page_bytes;
    let size = |pages: u64| match page_bytes {
        0 => format!("{pages} pages"),
        bytes => text::bytes(pages.saturating_mul(bytes)),
    };
    let holders = Holders::new(view);
    let top = holders.owners.first().map_or_else(String::new, |(name, bytes)| {
        format!(", most of what is seen here in {name} ({})", text::bytes(*bytes))
    });
    let summary = match budget {
        Some(b) if b.used > b.max => {
            let (used, max) = (size(b.used), size(b.max));
            format!("TCP buffers of this host take {used}, above the limit of {max}: data is dropped{top}")
        }
        Some(b) if aborted > 0 => format!(
            "the kernel killed {} for lack of memory, TCP buffers of this host take {} of at most {}{top}",
            text::count(aborted, "connection", "connections"),
            size(b.used),
            size(b.max)
        ),
        Some(b) if b.used > b.pressure => format!(
            "TCP buffers of this host take {}, above the pressure level of {}: {}{top}",
            size(b.used),
            size(b.pressure),
            if thrown_away > 0 { "received data is thrown away" } else { "windows shrink" }
        ),
        Some(b) if entered > 0 => {
            let (used, max) = (size(b.used), size(b.max));
            format!("TCP buffers of this host came under pressure just now and take {used} of at most {max}{top}")
        }
        Some(b) => format!(
            "TCP buffers of this host take {}: pressure begins at {} and data is dropped at {}{top}",
            size(b.used),
            size(b.pressure),
            size(b.max)
        ),
        None => format!("TCP buffers of this host came under memory pressure between the samples{top}"),
    };
    let subject = Subject { object: Some("net.ipv4.tcp_mem".into()), ..Subject::default() };
    let mut finding = RULE
        .finding(severity, if budget.is_some() { 0.97 } else { 0.9 }, summary)
        .because("the kernel's own account against its own limits")
        .subject(subject);
    if let Some(b) = budget {
        let of = |pages: u64| match page_bytes {
            0 => Evidence::Text(size(pages)),
            bytes => Evidence::Bytes(pages.saturating_mul(bytes)),
        };
        finding = finding
            .evidence("tcp_memory_bytes", of(b.used))
            .evidence("tcp_memory_min_bytes", of(b.min))
            .evidence("tcp_memory_pressure_bytes", of(b.pressure))
            .evidence("tcp_memory_max_bytes", of(b.max))
            .evidence("share_of_max_percent", Evidence::Percent(b.used as f64 * 100.0 / b.max as f64));
    }
    finding = finding
        .evidence("top_processes", Evidence::List(holders.list(&holders.owners)))
        .evidence("top_peers", Evidence::List(holders.list(&holders.peers)))
        .evidence("seen_bytes", Evidence::Bytes(holders.seen_bytes))
        .evidence("orphans_bytes", Evidence::Bytes(holders.orphan_bytes));
    if view.before.is_some() {
        let sum = |counter| view.now.netns.iter().filter_map(|n| view.delta(n.inode, counter)).reduce(|a, b| a + b);
        finding = finding
            .evidence("pressure_entered", Evidence::count(sum(Counter::TcpExtTcpMemoryPressures)))
            .evidence("under_pressure_ms", Evidence::millis(sum(Counter::TcpExtTcpMemoryPressuresChrono)))
            .evidence("killed_for_memory", Evidence::count(sum(Counter::TcpExtTcpAbortOnMemory)));
        for (name, counter) in COUNTERS {
            finding = finding.evidence(name, Evidence::count(sum(counter)));
        }
    }
    finding.next("tcpstate list -m -p")
}

/// Who holds the memory of the rows that are seen: those of this namespace, while the budget is the host's.
struct Holders {
    owners: Vec<(String, u64)>,
    peers: Vec<(String, u64)>,
    seen_bytes: u64,
    orphan_bytes: u64,
}

impl Holders {
    fn new(view: &View<'_>) -> Holders {
        let ends = Peers::new(view);
        let mut owners: FxHashMap<u32, (&Process, u64)> = FxHashMap::default();
        let mut peers: FxHashMap<IpAddr, u64> = FxHashMap::default();
        let (mut seen_bytes, mut orphan_bytes) = (0u64, 0u64);
        for socket in &view.now.sockets {
            let bytes = memory_bytes(socket);
            if bytes == 0 {
                continue;
            }
            seen_bytes += bytes;
            *peers.entry(socket.peer.addr.to_canonical()).or_default() += bytes;
            if socket.is_orphan() {
                orphan_bytes += bytes;
            } else if let Some(process) = ends.owner(socket) {
                owners.entry(process.pid).or_insert((process, 0)).1 += bytes;
            }
        }
        let mut owners: Vec<(String, u64)> = owners.into_values().map(|(p, bytes)| (text::name(p), bytes)).collect();
        let mut peers: Vec<(String, u64)> = peers.into_iter().map(|(addr, bytes)| (addr.to_string(), bytes)).collect();
        for list in [&mut owners, &mut peers] {
            list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            list.truncate(TOP);
        }
        Holders { owners, peers, seen_bytes, orphan_bytes }
    }

    fn list(&self, of: &[(String, u64)]) -> Vec<String> {
        let percent = |bytes: u64| (bytes * 100).checked_div(self.seen_bytes).unwrap_or(0);
        of.iter().map(|(name, bytes)| format!("{name}: {}, {} %", text::bytes(*bytes), percent(*bytes))).collect()
    }
}

fn memory_bytes(socket: &Socket) -> u64 {
    socket.skmem.map_or(0, |m| u64::from(m.rmem_alloc_bytes) + u64::from(m.wmem_queued_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, row, unheld};
    use crate::model::counter::SockStat;
    use crate::model::sysctl::{Sysctl, Sysctls};
    use crate::model::{SkMem, State};

    /// A host of 4 KiB pages with limits of 400, 500 and 600 MiB.
    fn world(used_mib: u64) -> World {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4TcpMem, &[102_400, 128_000, 153_600]);
        world.now.system.page_bytes = 4096;
        world.now.netns[0].sockstat.insert(SockStat::TcpMem, used_mib * 256);
        let with = |socket: Socket, rmem: u32, wmem: u32| {
            let skmem = SkMem { rmem_alloc_bytes: rmem, wmem_queued_bytes: wmem, ..SkMem::default() };
            Socket { skmem: Some(skmem), ..socket }
        };
        let big = with(row(State::Established, "10.0.0.1:80", "10.0.0.2:5000"), 6_000_000, 2_000_000);
        let small = with(row(State::Established, "10.0.0.1:81", "10.0.0.3:5000"), 1_000_000, 0);
        let orphan = unheld(with(row(State::FinWait1, "10.0.0.1:82", "10.0.0.3:5000"), 0, 1_000_000));
        world.hold(812, "server", 3, big.inode).hold(813, "other", 3, small.inode);
        world.add(big).add(small).add(orphan);
        world
    }

    #[test]
    fn each_limit_is_a_step_and_the_biggest_holder_is_named() {
        for (used, severity) in
            [(450, Severity::Warning), (501, Severity::Warning), (600, Severity::Warning), (601, Severity::Critical)]
        {
            let outcome = world(used).check(check);
            assert_eq!(outcome.findings[0].severity, severity, "{used} MiB");
            assert!(outcome.wants_second.is_some());
        }
        let outcome = world(501).check(check);
        let finding = &outcome.findings[0];
        assert_eq!(
            finding.summary,
            "TCP buffers of this host take 501 MiB, above the pressure level of 500 MiB: windows shrink, most of what \
            is seen here in server (812) (7.6 MiB)"
        );
        let list = |name| finding.evidence.iter().find(|(n, _)| *n == name).map(|(_, e)| e.clone());
        let texts = |all: &[&str]| Some(Evidence::List(all.iter().map(|s| (*s).to_owned()).collect()));
        assert_eq!(list("top_processes"), texts(&["server (812): 7.6 MiB, 80 %", "other (813): 976 KiB, 10 %"]));
        assert_eq!(list("top_peers"), texts(&["10.0.0.2: 7.6 MiB, 80 %", "10.0.0.3: 1.9 MiB, 20 %"]));
        assert_eq!(list("orphans_bytes"), Some(Evidence::Bytes(1_000_000)));
        assert_eq!(list("tcp_memory_max_bytes"), Some(Evidence::Bytes(600 << 20)));
    }

    #[test]
    fn far_from_pressure_is_silent_and_old_counters_do_not_matter() {
        let mut calm = world(449);
        calm.counter(Counter::TcpExtTcpMemoryPressures, 7).counter(Counter::TcpExtTcpAbortOnMemory, 7);
        assert_eq!(calm.check(check), Outcome::default());
        assert_eq!(calm.later(2000).check(check), Outcome::default());
        // Below min the kernel kills orphans for their number, not for memory.
        let mut few = world(400);
        few.counter(Counter::TcpExtTcpAbortOnMemory, 7).later(2000).counter(Counter::TcpExtTcpAbortOnMemory, 9);
        assert_eq!(few.check(check), Outcome::default());
    }

    #[test]
    fn data_that_is_thrown_away_under_pressure_is_high() {
        for (used, pressures, dropped, severity) in [
            (501, 0, 0, Severity::Warning),
            (501, 0, 1, Severity::High),
            (499, 0, 1, Severity::Warning),
            (300, 1, 0, Severity::Warning),
            (300, 1, 1, Severity::High),
        ] {
            let mut world = world(used);
            world.counter(Counter::TcpExtTcpMemoryPressures, 1).counter(Counter::TcpExtTcpRcvQDrop, 0).later(2000);
            world
                .counter(Counter::TcpExtTcpMemoryPressures, 1 + pressures)
                .counter(Counter::TcpExtTcpRcvQDrop, dropped);
            assert_eq!(world.check(check).findings[0].severity, severity, "{used} {pressures} {dropped}");
        }
    }

    #[test]
    fn killed_connections_are_critical_unless_orphans_can_be_the_reason() {
        let mut killed = world(450);
        killed.counter(Counter::TcpExtTcpAbortOnMemory, 1).later(2000).counter(Counter::TcpExtTcpAbortOnMemory, 4);
        let outcome = killed.check(check);
        assert_eq!(outcome.findings[0].severity, Severity::Critical);
        assert!(outcome.findings[0].summary.contains("killed 3 connections"), "{}", outcome.findings[0].summary);
        killed.sysctl(Sysctl::Ipv4TcpMaxOrphans, &[100]).now.netns[0].sockstat.insert(SockStat::TcpOrphan, 25);
        assert_eq!(killed.check(check).findings[0].severity, Severity::Warning);
    }

    #[test]
    fn in_a_container_only_the_counters_tell() {
        let mut inside = world(900);
        inside.now.netns[0].sysctls = Sysctls::default();
        assert!(inside.check(check).not_checked.is_some());
        inside.counter(Counter::TcpExtTcpMemoryPressures, 1).later(2000).counter(Counter::TcpExtTcpMemoryPressures, 2);
        assert_eq!(inside.check(check).findings[0].severity, Severity::Warning);
    }
}
