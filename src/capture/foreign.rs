//! What other tools printed, as a snapshot: `ss`, `netstat`, `lsof`.
//!
//! Input: saved text. Output: rows with what the text tells, and gaps for what it does not. `/proc/net/tcp` is read by
//! `collect`. Partial `tcp_info` is not taken: it knows no unknown field, and zeros would be lies.

use rustc_hash::FxHashMap;

use crate::model::gap::{Attribute, Missing, WayOut, Why};
use crate::model::snapshot::Netns;
use crate::model::{
    Endpoint, Family, Gap, Holder, Inode, OwnerTable, Process, RowKind, SkMem, Snapshot, Socket, Source, State, Timer,
    TimerKind,
};

/// The tool that printed a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Ss,
    Netstat,
    Lsof,
}

impl Tool {
    /// By the line with the names of the columns.
    #[must_use]
    pub fn of(text: &str) -> Option<Tool> {
        text.lines().take(20).find_map(|line| {
            let has = |words: &[&str]| words.iter().all(|word| line.contains(word));
            match () {
                () if has(&["Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port"]) => Some(Tool::Ss),
                () if has(&["Proto", "Recv-Q", "Send-Q", "Local Address", "Foreign Address"]) => Some(Tool::Netstat),
                () if has(&["COMMAND", "PID", "FD", "TYPE", "DEVICE", "NODE", "NAME"]) => Some(Tool::Lsof),
                () => None,
            }
        })
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Tool::Ss => "ss",
            Tool::Netstat => "netstat",
            Tool::Lsof => "lsof",
        }
    }
}

/// A descriptor of a process.
type Owner = (u32, String, u32);

#[derive(Default)]
struct Row {
    socket: Socket,
    owners: Vec<Owner>,
}

/// The snapshot that such a text is. Lines that are no rows of TCP sockets are counted, not guessed at.
#[must_use]
pub fn snapshot(text: &str, tool: Tool) -> Snapshot {
    let mut rows: Vec<Row> = Vec::new();
    let (mut unread, mut lines) = (0, 0);
    let has_processes = match tool {
        Tool::Ss => text.contains("users:(("),
        // It names the process of a socket, but not its descriptor.
        Tool::Netstat => false,
        Tool::Lsof => true,
    };
    for line in text.lines().skip_while(|line| !is_heading(line)).filter(|line| !is_heading(line)) {
        let row = match tool {
            // What `-i`, `-m` and `-e` add to the row before.
            Tool::Ss if line.starts_with([' ', '\t']) => {
                if let Some(row) = rows.last_mut() {
                    line.split_whitespace().for_each(|word| add(row, word));
                }
                continue;
            }
            Tool::Ss => ss(line),
            Tool::Netstat => netstat(line),
            Tool::Lsof => lsof(line),
        };
        match row {
            Parsed::Row(row) => rows.push(*row),
            Parsed::Other => {}
            Parsed::Unread => unread += 1,
        }
        lines += 1;
    }
    if tool == Tool::Lsof {
        rows = joined(rows);
    }
    let mut snapshot = assemble(rows, has_processes);
    if unread > 0 {
        let missing = Missing::Lines { missing: unread, of: lines };
        snapshot.gaps.push(Gap::new(
            missing,
            Why::Malformed { path: format!("the text of {}", tool.name()) },
            WayOut::None,
        ));
    }
    snapshot
}

fn is_heading(line: &str) -> bool {
    ["State ", "Netid ", "Proto ", "COMMAND "].iter().any(|start| line.starts_with(start))
}

enum Parsed {
    Row(Box<Row>),
    /// Of another protocol, or no row.
    Other,
    Unread,
}

impl Parsed {
    fn of(row: Option<Row>) -> Parsed {
        row.map_or(Parsed::Unread, |row| Parsed::Row(Box::new(row)))
    }
}

/// What ss calls sockets that are not TCP (`proto_name` and the like in `misc/ss.c` of iproute2).
const OTHER_NETIDS: [&str; 16] = [
    "udp", "raw", "dccp", "sctp", "mptcp", "icmp6", "u_str", "u_dgr", "u_seq", "nl", "p_raw", "p_dgr", "v_str",
    "v_dgr", "ti_st", "xdp",
];

/// `ESTAB 0 0 10.0.0.1:22 10.0.0.9:50000 users:(("sshd",pid=1,fd=4)) timer:(keepalive,1min,0)`.
fn ss(line: &str) -> Parsed {
    // Names of processes may have spaces.
    let (before, named, after) = named(line);
    let mut words = before.split_whitespace().chain(after.split_whitespace()).peekable();
    if words.next_if(|word| OTHER_NETIDS.contains(word)).is_some() {
        return Parsed::Other;
    }
    words.next_if_eq(&"tcp");
    Parsed::of((|| {
        let state = State::parse(words.next()?)?;
        let (recv_q, send_q) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (local, peer) = (endpoint(words.next()?)?, endpoint(words.next()?)?);
        let mut row = Row { socket: socket(state, local, peer), owners: users(named) };
        (row.socket.recv_q_bytes, row.socket.send_q_bytes) = (recv_q, Some(send_q));
        words.for_each(|word| add(&mut row, word));
        Some(row)
    })())
}

/// `tcp 0 0 10.0.0.1:22 10.0.0.9:50000 ESTABLISHED 812/sshd: root keepalive (5.00/0/0)`.
fn netstat(line: &str) -> Parsed {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [proto, recv_q, send_q, local, peer, state, ..] = &words[..] else { return Parsed::Other };
    if !matches!(*proto, "tcp" | "tcp6") {
        return Parsed::Other;
    }
    Parsed::of((|| {
        let state = State::parse(state)?;
        let mut row = Row { socket: socket(state, endpoint(local)?, endpoint(peer)?), owners: Vec::new() };
        row.socket.recv_q_bytes = recv_q.parse().ok()?;
        // Of a listener it is always 0, not the backlog limit.
        row.socket.send_q_bytes = if state == State::Listen { None } else { Some(send_q.parse().ok()?) };
        if proto.ends_with('6') {
            row.socket.family = Family::V6;
        }
        Some(row)
    })())
}

/// `sshd 812 root 4u IPv4 12345 0t0 TCP 10.0.0.1:22->10.0.0.9:50000 (ESTABLISHED)`.
fn lsof(line: &str) -> Parsed {
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some(node) = words.iter().position(|word| *word == "TCP") else { return Parsed::Other };
    Parsed::of((|| {
        let kind = words[..node].iter().rposition(|word| matches!(*word, "IPv4" | "IPv6"))?;
        let inode = words.get(kind + 1)?.parse().ok().and_then(Inode::new);
        let fd = words.get(kind.checked_sub(1)?)?.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
        let pid = words[1..kind].iter().find_map(|word| word.parse().ok())?;
        let (local, peer) = match words.get(node + 1)?.split_once("->") {
            Some((local, peer)) => (endpoint(local)?, endpoint(peer)?),
            None => (endpoint(words[node + 1])?, Endpoint::UNSPECIFIED_V4),
        };
        let state = words.get(node + 2).map(|word| word.trim_matches(['(', ')']));
        let mut row = Row { socket: socket(State::parse(state?)?, local, peer), owners: Vec::new() };
        row.socket.inode = inode;
        row.socket.family = if words[kind] == "IPv6" { Family::V6 } else { Family::V4 };
        row.owners.push((pid, words[0].replace("\\x20", " "), fd));
        Some(row)
    })())
}

/// lsof has a line per descriptor: those of one inode are one socket.
fn joined(rows: Vec<Row>) -> Vec<Row> {
    let mut places: FxHashMap<Inode, usize> = FxHashMap::default();
    let mut all: Vec<Row> = Vec::new();
    for row in rows {
        if let Some(place) = row.socket.inode.and_then(|inode| places.get(&inode)) {
            all[*place].owners.extend(row.owners);
        } else {
            places.extend(row.socket.inode.map(|inode| (inode, all.len())));
            all.push(row);
        }
    }
    all
}

fn socket(state: State, local: Endpoint, peer: Endpoint) -> Socket {
    let family = Family::of(local.addr);
    let nobody = Endpoint { port: peer.port, ..Endpoint::UNSPECIFIED_V6 };
    let peer = if peer.addr.is_unspecified() && family == Family::V6 { nobody } else { peer };
    let kind = RowKind::decide(state, (state == State::TimeWait).then_some(TimerKind::TimeWait), None);
    Socket { family, state, kind, local, peer, ..Socket::default() }
}

/// `10.0.0.1:22`, `[::1]:22`, `*:80`, `::1:22` (netstat), `fe80::1%eth0:22`.
fn endpoint(text: &str) -> Option<Endpoint> {
    let (addr, port) = text.rsplit_once(':')?;
    let port = if port == "*" { 0 } else { port.parse().ok()? };
    let addr = addr.trim_matches(['[', ']']);
    let addr = addr.split_once('%').map_or(addr, |(addr, _)| addr).trim_end_matches(']');
    let addr = if addr == "*" { "::" } else { addr };
    Some(Endpoint::new(addr.parse().ok()?, port))
}

/// What a word behind the addresses tells of a row of ss.
fn add(row: &mut Row, word: &str) {
    let Some((key, value)) = word.split_once(':') else { return };
    match key {
        "uid" => row.socket.uid = value.parse().ok(),
        "ino" => row.socket.inode = value.parse().ok().and_then(Inode::new),
        "sk" => row.socket.cookie = u64::from_str_radix(value, 16).ok(),
        "timer" => row.socket.timer = timer(value),
        "skmem" => row.socket.skmem = memory(value),
        _ => {}
    }
}

/// What stands before the processes of a row, they, and what stands behind: `users:(("sshd",pid=1,fd=4))`.
fn named(line: &str) -> (&str, &str, &str) {
    let parts = || {
        let (before, rest) = line.split_once("users:(")?;
        let end = rest.rfind(",fd=").and_then(|at| Some(at + rest[at..].find("))")?))?;
        Some((before, &rest[..end], &rest[end + 2..]))
    };
    parts().unwrap_or((line, "", ""))
}

/// `("nginx",pid=812,fd=6),("nginx",pid=813,fd=6`; a name may have anything but `",pid=`.
fn users(text: &str) -> Vec<Owner> {
    let one = |part: &str| {
        let (name, rest) = part.rsplit_once("\",pid=")?;
        let (pid, fd) = rest.split_once(",fd=")?;
        let fd = fd.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((pid.parse().ok()?, name.trim_start_matches(['(', ',', '"']).to_owned(), fd.parse().ok()?))
    };
    text.split("),(").filter_map(one).collect()
}

/// `(keepalive,1min59sec,0)`, `(on,5.200ms,1)`, `(timewait,44sec,0)` (`print_ms_timer` of iproute2).
fn timer(text: &str) -> Option<Timer> {
    let mut parts = text.trim_matches(['(', ')']).split(',');
    let (name, left, retransmits) = (parts.next()?, parts.next()?, parts.next()?);
    let kind = TimerKind::ALL.into_iter().find(|kind| kind.ss_name() == name)?;
    let (minutes, rest) = left.split_once("min").unwrap_or(("0", left));
    let ms = match (rest.strip_suffix("sec"), rest.strip_suffix("ms")) {
        (Some(seconds), _) => seconds.parse::<u32>().ok()?.checked_mul(1000)?,
        (_, Some(ms)) => match ms.split_once('.') {
            Some((seconds, ms)) => seconds.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(ms.parse().ok()?)?,
            None => ms.parse().ok()?,
        },
        (None, None) if rest.is_empty() => 0,
        (None, None) => return None,
    };
    let minutes: u32 = minutes.parse().ok()?;
    let remaining_ms = minutes.checked_mul(60_000)?.checked_add(ms)?;
    Some(Timer { kind, remaining_ms, retransmits: retransmits.parse().ok()? })
}

/// `(r0,rb131072,t0,tb87040,f0,w0,o0,bl0,d0)`.
fn memory(text: &str) -> Option<SkMem> {
    let parts: FxHashMap<&str, u32> = text
        .trim_matches(['(', ')'])
        .split(',')
        .filter_map(|part| {
            let digits = part.find(|c: char| c.is_ascii_digit())?;
            Some((&part[..digits], part[digits..].parse().ok()?))
        })
        .collect();
    let of = |name| parts.get(name).copied();
    Some(SkMem {
        rmem_alloc_bytes: of("r")?,
        rcvbuf_bytes: of("rb")?,
        wmem_alloc_bytes: of("t")?,
        sndbuf_bytes: of("tb")?,
        fwd_alloc_bytes: of("f")?,
        wmem_queued_bytes: of("w")?,
        optmem_bytes: of("o")?,
        backlog_bytes: of("bl")?,
        drops: of("d"),
    })
}

fn assemble(rows: Vec<Row>, has_processes: bool) -> Snapshot {
    let mut processes: Vec<Process> = Vec::new();
    let mut places: FxHashMap<u32, u32> = FxHashMap::default();
    let (mut holders, mut sockets) = (Vec::new(), Vec::new());
    let tells_inodes = rows.iter().any(|row| row.socket.inode.is_some());
    let has_cookies = rows.iter().any(|row| row.socket.cookie.is_some());
    let has_memory = rows.iter().any(|row| row.socket.skmem.is_some());
    for (place, mut row) in (0..).zip(rows) {
        // A row without one would be an orphan, or not accepted: the text does not say so.
        let may_be_held = matches!(row.socket.kind, RowKind::Full | RowKind::BoundInactive);
        if row.socket.inode.is_none() && may_be_held && (!tells_inodes || !row.owners.is_empty()) {
            row.socket.inode = Inode::new(Inode::UNTOLD + place);
        }
        for (pid, comm, fd) in row.owners {
            let process = *places.entry(pid).or_insert_with(|| {
                processes.push(Process { pid, comm, ..Process::default() });
                u32::try_from(processes.len() - 1).unwrap_or(u32::MAX)
            });
            holders.push(Holder { inode: row.socket.inode, process, fd });
        }
        sockets.push(row.socket);
    }
    // Whoever printed it may not have seen every process.
    let owners = if has_processes { OwnerTable::new(processes, holders, 1) } else { OwnerTable::default() };
    let mut lacks = vec![Attribute::TcpInfo, Attribute::Congestion, Attribute::Tos];
    if !has_memory {
        lacks.push(Attribute::SkMemInfo);
    }
    let gap = |missing| Gap::new(missing, Why::SavedText, WayOut::Record);
    let mut gaps = vec![gap(Missing::Attributes(lacks)), gap(Missing::BoundInactive)];
    if !has_cookies {
        gaps.push(gap(Missing::SockDiagFields));
    }
    let netns = vec![Netns::default()];
    Snapshot { source: Source::Text, netns, sockets, owners, gaps, ..Snapshot::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SS: &str = r#"State    Recv-Q Send-Q Local Address:Port Peer Address:PortProcess
LISTEN   0      128          0.0.0.0:22        0.0.0.0:*    users:(("sshd",pid=1,fd=3)) uid:0 ino:55 sk:1f cgroup:/a <->
	 skmem:(r0,rb131072,t0,tb16384,f0,w0,o0,bl0,d7) cubic cwnd:10
ESTAB    4      2      10.0.0.1%eth0:22      10.0.0.9:50000 users:(("a b",pid=2,fd=4),("x",pid=3,fd=5)) ino:56 sk:20
	 timer:(keepalive,1min59sec,2)
TIME-WAIT 0     0        [::1]:80            [::1]:5        timer:(timewait,44sec,0) sk:21
CLOSE-WAIT 1    0        [::ffff:10.0.0.1]:80 [::ffff:10.0.0.2]:7 ino:0 sk:22
broken line of some kind
"#;

    #[test]
    fn rows_of_ss_have_what_the_text_tells() {
        assert_eq!(Tool::of(SS), Some(Tool::Ss));
        let found = snapshot(SS, Tool::Ss);
        let states: Vec<State> = found.sockets.iter().map(|s| s.state).collect();
        assert_eq!(states, [State::Listen, State::Established, State::TimeWait, State::CloseWait]);
        let [listen, open, waits, unaccepted] = &found.sockets[..] else { panic!("{found:?}") };
        assert_eq!((listen.backlog(), listen.uid, listen.cookie), (Some(128), Some(0), Some(0x1f)));
        assert_eq!(listen.skmem.and_then(|m| m.drops), Some(7));
        assert_eq!(open.timer.map(|t| (t.remaining_ms, t.retransmits)), Some((119_000, 2)));
        let (_, holders) = found.owners.of(open);
        let names: Vec<&str> = holders.iter().map(|h| found.owners.process(h).comm.as_str()).collect();
        assert_eq!(names, ["a b", "x"]);
        assert_eq!((waits.kind, waits.inode, waits.family), (RowKind::TimeWaitMini, None, Family::V6));
        assert_eq!((unaccepted.inode, unaccepted.is_unaccepted()), (None, true), "`-e` tells that it has none");
        assert!(found.gaps.iter().any(|g| g.missing == Missing::Lines { missing: 1, of: 5 }), "{:?}", found.gaps);
    }

    #[test]
    fn what_a_text_does_not_tell_makes_no_orphan() {
        let text = "State Recv-Q Send-Q Local Address:Port Peer Address:Port\nESTAB 0 0 10.0.0.1:1 10.0.0.2:2\n";
        let found = snapshot(text, Tool::Ss);
        assert!(!found.sockets[0].is_unaccepted() && !found.sockets[0].is_orphan());
        assert!(!found.owners.collected);
    }

    #[test]
    fn timers_are_read_as_ss_prints_them() {
        for (text, ms) in
            [("5.200ms", 5200), ("200ms", 200), ("12sec", 12_000), ("2min", 120_000), ("1min59sec", 119_000)]
        {
            assert_eq!(timer(&format!("(on,{text},1)")).map(|t| t.remaining_ms), Some(ms), "{text}");
        }
        assert_eq!((timer("(on,soon,1)"), timer("(on,99999999min,1)"), timer("")), (None, None, None));
    }

    #[test]
    fn netstat_and_lsof_are_read() {
        let text = "Active Internet connections (servers and established)\n\
            Proto Recv-Q Send-Q Local Address           Foreign Address         State       PID/Program name    \n\
            tcp        0      0 0.0.0.0:22              0.0.0.0:*               LISTEN      1/sshd: /usr/sbin \n\
            tcp6       1      0 ::1:80                  ::1:5000                CLOSE_WAIT  -                   \n\
            udp        0      0 0.0.0.0:68              0.0.0.0:*                           7/dhclient\n";
        assert_eq!(Tool::of(text), Some(Tool::Netstat));
        let found = snapshot(text, Tool::Netstat);
        assert_eq!(found.sockets.len(), 2, "{found:?}");
        assert_eq!((found.sockets[0].backlog(), found.sockets[1].recv_q_bytes), (None, 1));
        assert!(!found.owners.collected);
        let text = "COMMAND PID USER FD TYPE DEVICE SIZE/OFF NODE NAME\n\
            nginx 1 root 6u IPv4 4711 0t0 TCP *:80 (LISTEN)\n\
            nginx 2 www 6u IPv4 4711 0t0 TCP *:80 (LISTEN)\n\
            curl 9 me 5u IPv6 4712 0t0 TCP [::1]:5000->[::1]:80 (SYN_SENT)\n";
        let found = snapshot(text, Tool::of(text).unwrap());
        assert_eq!(found.sockets.len(), 2, "{found:?}");
        assert_eq!(found.owners.of(&found.sockets[0]).1.len(), 2);
        assert_eq!(found.sockets[1].inode, Inode::new(4712));
    }

    /// Printed by the real tools (iproute2 6.1.0, net-tools 2.10, lsof 4.95.0) at one moment of one namespace.
    const SAVED: [&str; 8] = [
        include_str!("../../tests/it/record/ss-tan.txt"),
        include_str!("../../tests/it/record/ss-tanp.txt"),
        include_str!("../../tests/it/record/ss-tanpioem.txt"),
        include_str!("../../tests/it/record/ss-tuna.txt"),
        include_str!("../../tests/it/record/netstat-tan.txt"),
        include_str!("../../tests/it/record/netstat-tanpo.txt"),
        include_str!("../../tests/it/record/netstat-tuna.txt"),
        include_str!("../../tests/it/record/lsof.txt"),
    ];

    #[test]
    fn every_tool_tells_the_same_rows() {
        let read = |text: &str| snapshot(text, Tool::of(text).unwrap());
        let rows = |found: &Snapshot| {
            let row = |s: &Socket| format!("{} {} {} {}", s.state, s.local, s.peer, s.recv_q_bytes);
            let mut rows: Vec<String> = found.sockets.iter().map(row).collect();
            rows.sort();
            rows
        };
        let all = rows(&read(SAVED[0]));
        assert_eq!(all.len(), 13, "{all:#?}");
        for text in SAVED {
            let found = read(text);
            let unread = found.gaps.iter().any(|gap| matches!(gap.missing, Missing::Lines { .. }));
            assert!(!unread, "{:?}", found.gaps);
            if Tool::of(text) == Some(Tool::Lsof) {
                // It has neither queues nor what no process holds.
                assert_eq!(found.sockets.len(), 11);
            } else {
                assert_eq!(rows(&found), all);
            }
        }
        let unaccepted = |text: &str| read(text).sockets.iter().filter(|s| s.is_unaccepted()).count();
        // Only `-e` tells that a row has no file.
        assert_eq!(SAVED.map(unaccepted), [0, 0, 1, 0, 0, 0, 0, 0]);
        let held = |text: &str| {
            let found = read(text);
            found.sockets.iter().filter(|s| !found.owners.of(s).1.is_empty()).count()
        };
        assert_eq!(SAVED.map(held), [0, 11, 11, 0, 0, 0, 0, 11]);
    }
}
