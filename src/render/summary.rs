//! The screen of `summary`: counts per state, the largest groups, what is limited, what changed, what is wrong.
//!
//! Input: what was counted and read. Output: text of 80 columns or less; from 120 columns on tables stand side by side.

use std::fmt::Write;

use anstyle::Style as Ansi;
use comfy_table::Cell;

use crate::aggregate::{Census, Change, HostResources};
use crate::diagnose::measure::Share;
use crate::diagnose::{Diagnosis, Incident};
use crate::model::column::Names;
use crate::model::counter::Counter;
use crate::model::{Family, Gap, State};
use crate::render::grid::{lines_of, number, right, small_table, visible};
use crate::render::groups::GroupTable;
use crate::render::style::{self, Style};
use crate::render::{gap, json::Unseen, report, sanitize};
use crate::text;

/// From this width on, tables stand side by side where two fit.
const WIDE: usize = 120;
/// Columns between two tables.
const BETWEEN: usize = 4;
/// From this share of a range of ports on it is marked.
const NEAR_PERCENT: f64 = 80.0;
/// Columns of the names before a sentence.
const LABEL: usize = 13;

/// Where the answer is from.
pub struct Header<'a> {
    pub host: &'a str,
    /// `None` where there are several hosts.
    pub kernel: Option<&'a str>,
    pub source: &'a str,
    pub time: &'a str,
}

/// What a summary shows.
pub struct Screen<'a> {
    pub header: Header<'a>,
    pub census: &'a Census,
    pub unseen: Unseen,
    pub tables: Vec<GroupTable<'a>>,
    /// What whole namespaces and the host have.
    pub host: Option<&'a HostResources>,
    /// The names of namespaces, where there are several.
    pub netns: Option<&'a dyn Names>,
    /// Since an earlier look.
    pub change: Option<&'a Change>,
    /// Whether a filter chose the sockets; the kernel counts those of all.
    pub is_filtered: bool,
    pub diagnosis: &'a Diagnosis,
    /// Those of the diagnosis that are shown.
    pub incidents: Vec<&'a Incident>,
}

/// Appends the screen.
pub fn write(out: &mut String, screen: &Screen<'_>, style: Style) {
    let Header { host, kernel, source, time } = screen.header;
    let kernel = kernel.map_or_else(String::new, |kernel| format!("kernel {}, ", sanitize::clean(kernel)));
    let total = text::count(screen.census.all().total(), "TCP socket", "TCP sockets");
    // Writing into a String cannot fail.
    let _ = writeln!(
        out,
        "{}{}  {}",
        style.heading(&format!("{total} on ")),
        style.heading(&sanitize::clean(host)),
        style.dim(&format!("{kernel}{source}, {time}"))
    );
    let states = states(screen, style);
    let tables = screen.tables.iter().map(|table| table.lines(style));
    push_blocks(out, std::iter::once(states).chain(tables).filter(|lines| !lines.is_empty()).collect(), style);
    let mut sentences: Vec<(&str, String, Ansi)> = Vec::new();
    sentences.extend(screen.change.map(|change| ("PER SECOND", per_second(change, screen.is_filtered), Ansi::new())));
    if let Some(host) = screen.host {
        sentences.extend(local_ports(host, screen.netns));
        sentences.push(("TCP MEMORY", tcp_memory(host), Ansi::new()));
    }
    if !sentences.is_empty() {
        out.push('\n');
    }
    for (label, sentence, ansi) in sentences {
        let mut lines = String::new();
        style.push_wrapped(&mut lines, [LABEL; 2], &sanitize::clean(&sentence), ansi);
        out.push_str(&style.heading(label));
        out.push_str(&lines[label.len()..]);
    }
    report::write_brief(out, screen.diagnosis, &screen.incidents, style);
}

/// Counts per state.
fn states(screen: &Screen<'_>, style: Style) -> Vec<String> {
    let (census, unseen) = (screen.census, screen.unseen.0);
    let all = census.all();
    let mut table = small_table(style);
    let mut head = vec![Cell::new(style.heading("STATE")), right(&style.heading("TOTAL"))];
    head.extend(screen.change.map(|_| right(&style.heading("CHANGE/s"))));
    head.extend(["IPV4", "IPV6"].map(|family| right(&style.heading(family))));
    table.set_header(head);
    let change = |by: i64| screen.change.map(|change| right(&text::signed_rate(change.per_second(by as f64))));
    let (mut shown, mut none) = (0, 0);
    for state in State::ALL {
        let (n, by) = (all.get(state), screen.change.map_or(0, |change| change.of(state)));
        if n == 0 && by == 0 {
            none += usize::from(!unseen.contains(state));
            continue;
        }
        shown += 1;
        let mut row = vec![Cell::new(style.paint(style::state(state), state.name())), number(n)];
        row.extend(change(by));
        row.extend(Family::ALL.iter().map(|f| number(census.family(*f).get(state))));
        table.add_row(row);
    }
    if all.unknown() > 0 {
        shown += 1;
        let mut row = vec![Cell::new("UNKNOWN STATE"), number(all.unknown())];
        row.extend(screen.change.map(|_| right("")));
        row.extend(Family::ALL.iter().map(|f| number(census.family(*f).unknown())));
        table.add_row(row);
    }
    let mut lines = if shown > 0 { lines_of(&table) } else { Vec::new() };
    match (shown, none) {
        (_, 0) => {}
        (0, _) => lines.push(style.dim("none in any state")),
        (_, 1) => lines.push(style.dim("none in 1 other state")),
        (_, n) => lines.push(style.dim(&format!("none in {n} other states"))),
    }
    let hidden = unseen.iter().filter(|s| all.get(*s) == 0);
    lines.extend(hidden.map(|state| style.dim(&format!("{} could not be counted here", state.name()))));
    lines
}

/// What the kernel counted between two looks.
fn per_second(change: &Change, is_filtered: bool) -> String {
    let of = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), |n| text::rate(Some(change.per_second(n as f64))));
    let counted = |counter| of(change.counted(counter));
    let share = change.retransmitted_share().filter(|share| *share > 0.0);
    let share = share.map_or_else(String::new, |share| format!(" ({:.1} %)", share * 100.0));
    format!(
        "{}begun {}, failed {}, cut off {}, RST sent {}, retransmitted {}{share}, dropped by listeners {}",
        if is_filtered { "all sockets, filter or not: " } else { "" },
        of(change.opened()),
        counted(Counter::TcpAttemptFails),
        counted(Counter::TcpEstabResets),
        counted(Counter::TcpOutRsts),
        counted(Counter::TcpRetransSegs),
        counted(Counter::TcpExtListenDrops)
    )
}

/// The fullest range of local ports; nothing without a connection.
fn local_ports(host: &HostResources, names: Option<&dyn Names>) -> Option<(&'static str, String, Ansi)> {
    const NAME: &str = "LOCAL PORTS";
    if !host.knows_ports {
        return Some((NAME, "unknown".to_owned(), Ansi::new()));
    }
    let ports = host.ports?;
    let (blocked, usable) = (ports.blocked().into(), ports.usable.into());
    let share = Share::of(blocked, usable).map_or_else(String::new, |share| format!(" ({share})"));
    let netns = names.zip(ports.netns).map_or_else(String::new, |(names, inode)| match names.netns(inode) {
        Some(name) => format!("{name}: "),
        None => format!("{inode}: "),
    });
    let (source, destination) = (ports.source, ports.destination);
    let text = format!("{netns}fullest from {source} to {destination}: {} in use{share}", text::of(blocked, usable));
    let ansi = if ports.fill_percent() >= NEAR_PERCENT { style::FULL } else { Ansi::new() };
    Some((NAME, text, ansi))
}

/// What TCP has of its memory, and its three limits.
fn tcp_memory(host: &HostResources) -> String {
    let bytes = |pages: u64| text::bytes(pages.saturating_mul(host.page_bytes));
    let Some(memory) = host.memory else { return "unknown".to_owned() };
    let used = bytes(memory.used);
    let Some(limits) = memory.limits else {
        return format!("{used}; limits visible only in the initial network namespace");
    };
    let [min, pressure, max] = [limits.min, limits.pressure, limits.max].map(bytes);
    format!("{used} of {max}; the kernel saves memory from {pressure} on, until it is below {min}")
}

/// Appends tables, each below an empty line; where two fit beside each other, they stand so.
fn push_blocks(out: &mut String, blocks: Vec<Vec<String>>, style: Style) {
    let width = |lines: &[String]| lines.iter().map(|line| visible(line)).max().unwrap_or(0);
    let mut blocks = blocks.into_iter().peekable();
    while let Some(left) = blocks.next() {
        out.push('\n');
        let column = width(&left) + BETWEEN;
        let beside = blocks.next_if(|right| style.width.is_some_and(|w| w >= WIDE && column + width(right) <= w));
        let right = beside.unwrap_or_default();
        for row in 0..left.len().max(right.len()) {
            let (left, right) = (left.get(row).map_or("", String::as_str), right.get(row));
            out.push_str(left);
            if let Some(right) = right {
                out.extend(std::iter::repeat_n(' ', column - visible(left)));
                out.push_str(right);
            }
            out.push('\n');
        }
    }
}

/// Appends what could not be seen.
pub fn write_gaps(out: &mut String, gaps: &[Gap], style: Style) {
    for gap in gaps {
        let text = format!("note: {}", sanitize::clean(&gap::line(gap)));
        style.push_wrapped(out, [0, 2], &text, style::DIM);
    }
}

/// Appends what could not be seen on some of several hosts.
pub fn write_gap(out: &mut String, hosts: &str, what: &Gap, style: Style) {
    let text = format!("note: {}: {}", sanitize::clean(hosts), sanitize::clean(&gap::line(what)));
    style.push_wrapped(out, [0, 2], &text, style::DIM);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::{Grouping, Key, Legend, Limits, Listeners, LocalPorts, Look, Resources};
    use crate::diagnose::{Finding, Severity};
    use crate::model::column::{NoNames, Row};
    use crate::model::counter::SockStat;
    use crate::model::resources::{Descriptors, TcpMemory};
    use crate::model::snapshot::Netns;
    use crate::model::sysctl::{PORT_RANGE, Sysctl};
    use crate::model::{Endpoint, Holder, Inode, OwnerTable, Process, SkMem, Socket, StateSet};

    fn end(addr: &str, port: u16) -> Endpoint {
        Endpoint::new(addr.parse().unwrap(), port)
    }

    /// A host whose server does not accept, and whose client leaks connections.
    struct World {
        census: Census,
        owners: OwnerTable,
        resources: Resources,
        diagnosis: Diagnosis,
        change: Change,
    }

    fn world(memory_limits: &[u64]) -> World {
        let listening = |port, waiting, limit, drops| Socket {
            state: State::Listen,
            local: end("0.0.0.0", port),
            recv_q_bytes: waiting,
            send_q_bytes: Some(limit),
            skmem: Some(SkMem { drops: Some(drops), ..SkMem::default() }),
            inode: Inode::new(u64::from(port)),
            ..Socket::default()
        };
        let mut rows = vec![listening(443, 0, 511, 0), listening(8080, 129, 128, 1355)];
        let open = |state, at: u16, peer: Endpoint, inode| Socket {
            state,
            local: end("10.0.0.5", at),
            peer,
            inode,
            ..Socket::default()
        };
        let (server, client) = (Inode::new(443), Inode::new(77));
        rows.extend((0..1200).map(|i| open(State::Established, 443, end("10.0.0.7", 1024 + i), server)));
        rows.extend((0..60).map(|i| open(State::Established, 8080, end("10.0.0.8", 1024 + i), server)));
        rows.extend((0..1032).map(|i| open(State::CloseWait, 33_000 + i, end("10.0.0.9", 5432), client)));
        rows.extend((0..1012).map(|i| open(State::TimeWait, 36_000 + i, end("10.0.0.9", 5432), None)));
        let mut netns = Netns::default();
        netns.sysctls.insert(Sysctl::Ipv4IpLocalPortRange, vec![32_768, 60_999]);
        netns.sysctls.insert(Sysctl::Ipv4TcpMem, memory_limits.to_vec());
        netns.sockstat.insert(SockStat::TcpMem, 4000);
        let process = |pid, comm: &str| Process { pid, comm: comm.into(), ..Process::default() };
        let holder = |process, inode| Holder { inode, process, fd: 3 };
        let holders = vec![holder(0, server), holder(0, Inode::new(8080)), holder(1, client)];
        let owners = OwnerTable::new(vec![process(801, "nginx"), process(14_679, "orders-api")], holders, 0);
        let mut listeners = Listeners::new(PORT_RANGE);
        for row in &rows {
            listeners.add(row);
        }
        let grouping = |key| {
            let mut grouping = Grouping::new(vec![key]);
            grouping.skip_none = true;
            grouping
        };
        let keys = [Key::Listener, Key::Destination, Key::Process];
        let mut census = Census::new(listeners, keys.map(grouping).into());
        census.ports = Some(LocalPorts::new([&netns]));
        for row in &rows {
            census.add(&Row::new(row, &owners, &NoNames));
        }
        let of = |used, soft| Descriptors { used: Some(used), soft: Some(soft), ..Descriptors::default() };
        let host = HostResources {
            ports: census.ports.as_ref().unwrap().fullest(),
            knows_ports: true,
            memory: TcpMemory::of(&[netns]),
            page_bytes: 4096,
        };
        let resources =
            Resources { descriptors: vec![of(4161, 65_536), of(1655, 2048)], near_percent: 80.0, host: Some(host) };
        let finding = |severity, summary: &str| Finding::new("close-wait-leak", severity, 0.9, summary);
        let diagnosis = Diagnosis {
            findings: vec![
                finding(
                    Severity::High,
                    "accept queue of 0.0.0.0:8080 is full (129 of 129 places), the next client is dropped",
                ),
                finding(Severity::Warning, "orders-api (14679) does not close connections"),
                finding(Severity::Info, "it follows"),
            ],
            incidents: vec![
                Incident { cause: 0, consequences: vec![], severity: Severity::High },
                Incident { cause: 1, consequences: vec![2], severity: Severity::Warning },
            ],
            ..Diagnosis::default()
        };
        let counters = |n: u64| {
            let counted = [
                Counter::TcpActiveOpens,
                Counter::TcpPassiveOpens,
                Counter::TcpAttemptFails,
                Counter::TcpEstabResets,
                Counter::TcpOutRsts,
                Counter::TcpOutSegs,
                Counter::TcpRetransSegs,
            ];
            counted.into_iter().zip([31, 12, 3, 2, 1, 992, 8]).map(|(c, by)| (c, 1000 + n * by)).collect()
        };
        let mut before = census.all();
        before.add_many(State::SynSent, 4);
        let after = Look { at_ms: 3000, counts: census.all(), counters: counters(1) };
        let change = Change::between(Look { at_ms: 2000, counts: before, counters: counters(0) }, after);
        World { census, owners, resources, diagnosis, change }
    }

    fn drawn(world: &World, with_change: bool, width: Option<usize>) -> String {
        let limits = Limits { resources: &world.resources, listeners: &world.census.listeners };
        let titles = ["LISTENERS", "DESTINATIONS", "PROCESSES"];
        let table = |(grouping, title): (_, &str)| GroupTable {
            title: title.to_owned(),
            grouping,
            top: 10,
            legends: vec![Legend { owners: &world.owners, names: &NoNames }],
            with_states: true,
            limits: Some(limits),
        };
        let screen = Screen {
            header: Header { host: "h\x1b[31m", kernel: Some("6.18"), source: "netlink", time: "11:00:00 UTC" },
            census: &world.census,
            unseen: Unseen(StateSet::of(&[State::BoundInactive])),
            tables: world.census.groupings.iter().zip(titles).map(table).collect(),
            host: world.resources.host.as_ref(),
            netns: None,
            change: with_change.then_some(&world.change),
            is_filtered: false,
            diagnosis: &world.diagnosis,
            incidents: world.diagnosis.incidents.iter().collect(),
        };
        let mut out = String::new();
        write(&mut out, &screen, Style { color: false, width });
        assert!(out.lines().all(|l| !l.ends_with(' ') && !l.contains('\x1b')), "{out}");
        assert!(width.is_none_or(|width| out.lines().all(|l| l.chars().count() <= width)), "{out}");
        out
    }

    #[test]
    fn a_terminal_of_80_columns() {
        insta::assert_snapshot!(drawn(&world(&[91_413, 121_886, 182_826]), false, Some(80)));
    }

    #[test]
    fn on_a_wide_terminal_tables_stand_side_by_side() {
        insta::assert_snapshot!(drawn(&world(&[]), true, Some(120)));
    }

    #[test]
    fn in_a_pipe_sentences_are_lines() {
        let text = drawn(&world(&[91_413, 121_886, 182_826]), true, None);
        let line = |begin: &str| text.lines().find(|l| l.starts_with(begin)).unwrap_or_else(|| panic!("{text}"));
        let words = |begin: &str| line(begin).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words("STATE"), ["STATE", "TOTAL", "CHANGE/s", "IPV4", "IPV6"]);
        assert_eq!(words("SYN_SENT"), ["SYN_SENT", "0", "-4.0", "0", "0"], "what is gone has left");
        assert_eq!(
            line("PER SECOND"),
            "PER SECOND   begun 43, failed 3.0, cut off 2.0, RST sent 1.0, retransmitted 8.0 (0.8 %), dropped by listeners ?"
        );
        assert!(line("BOUND_INACTIVE").ends_with("could not be counted here"), "{text}");
    }
}
