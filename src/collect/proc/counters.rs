//! Counters and sysctls of a network namespace, and the few host-wide numbers.
//!
//! Input: the text of `/proc/net/{snmp,snmp6,netstat,sockstat,sockstat6}` and of the files below `/proc/sys/net`. Output:
//! numbers by name; what this kernel lacks is absent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::collect::machine;
use crate::collect::proc::{ProcRoot, conntrack, ipvs};
use crate::model::NetnsId;
use crate::model::counter::{Counter, Counters, SockStat, SockStats};
use crate::model::snapshot::{Machine, Netns, System};
use crate::model::sysctl::{RESERVED_PORTS, Sysctl, Sysctls};

/// Reads everything about the namespace that `root.net()` shows. Sysctls are those of the reader's namespace, which is
/// the same one unless a host's `/proc` is mounted elsewhere.
#[must_use]
pub fn netns(root: &ProcRoot, inode: Option<NetnsId>, name: Option<String>) -> Netns {
    let net = root.net();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let mut counters = counters(root);
    pairs(&read(&net.join("snmp6")), &mut counters);
    let sockstat = sockstat(root);
    Netns {
        inode,
        name,
        counters,
        sockstat,
        sysctls: sysctls(root, Sysctl::ALL),
        reserved_ports: reserved_ports(root),
        addresses: addresses(&read(&net.join("fib_trie")), &read(&net.join("if_inet6"))),
        conntrack: conntrack::read(root),
        virtual_services: ipvs::read(root),
        drops: None,
        incomplete: false,
    }
}

/// Some settings; those that this kernel lacks, or that cannot be read, are absent.
#[must_use]
pub fn sysctls(root: &ProcRoot, wanted: &[Sysctl]) -> Sysctls {
    let below = root.path().join("sys/net");
    let mut sysctls = Sysctls::default();
    for sysctl in wanted {
        let text = std::fs::read_to_string(below.join(sysctl.name())).unwrap_or_default();
        let values: Result<Vec<u64>, _> = text.split_ascii_whitespace().map(signed).collect();
        if let Ok(values) = values
            && !values.is_empty()
        {
            sysctls.insert(*sysctl, values);
        }
    }
    sysctls
}

/// `ip_local_reserved_ports`.
#[must_use]
pub fn reserved_ports(root: &ProcRoot) -> Vec<(u16, u16)> {
    port_ranges(&std::fs::read_to_string(root.path().join("sys/net").join(RESERVED_PORTS)).unwrap_or_default())
}

/// `/proc/net/sockstat` and `sockstat6`.
#[must_use]
pub fn sockstat(root: &ProcRoot) -> SockStats {
    let mut numbers = SockStats::default();
    for file in ["sockstat", "sockstat6"] {
        named_pairs(&std::fs::read_to_string(root.net().join(file)).unwrap_or_default(), &mut numbers);
    }
    numbers
}

/// Whether the reader's namespace certainly has no TCP socket of any kind, by counts that cost a fortieth of a walk
/// over its tables: no socket held by a process or the kernel (`sock_inuse_add` in net/core/sock.c), none in the
/// tables, no TIME_WAIT. Request sockets are counted nowhere, but without an incoming segment there are none. The
/// reader must have no socket there itself; where a count is host-wide, as before Linux 4.16, the answer is no.
#[must_use]
pub fn is_without_sockets(root: &ProcRoot, sockstat: &SockStats) -> bool {
    let none = |count| sockstat.get(count) == Some(&0);
    if !none(SockStat::SocketsUsed)
        || !none(SockStat::TcpInuse)
        || !none(SockStat::TcpTw)
        || sockstat.get(SockStat::Tcp6Inuse).is_some_and(|n| *n > 0)
    {
        return false;
    }
    let mut counters = Counters::default();
    pairs_of_lines(&std::fs::read_to_string(root.net().join("snmp")).unwrap_or_default(), &mut counters);
    counters.get(Counter::TcpInSegs) == Some(&0)
}

/// The counters of TCP and of ICMP over IPv4 alone, for callers that read them several times a second.
#[must_use]
pub fn counters(root: &ProcRoot) -> Counters {
    let net = root.net();
    let mut counters = Counters::default();
    for file in ["snmp", "netstat"] {
        pairs_of_lines(&std::fs::read_to_string(net.join(file)).unwrap_or_default(), &mut counters);
    }
    counters
}

/// Host-wide numbers.
#[must_use]
pub fn system(root: &ProcRoot) -> System {
    let text = std::fs::read_to_string(root.path().join("sys/fs/file-nr")).unwrap_or_default();
    let mut words = text.split_ascii_whitespace().map(|w| w.parse().ok());
    let (used, _, max) = (words.next().flatten(), words.next(), words.next().flatten());
    let machine = if root.is_own() { machine::read() } else { Machine::default() };
    System {
        files_used: used,
        files_max: max,
        page_bytes: page_bytes(),
        machine,
        neighbour_table_full: table_fulls(root),
        softnet_dropped: std::fs::read_to_string(root.net().join("softnet_stat"))
            .ok()
            .and_then(|t| softnet_dropped(&t)),
    }
}

/// The second column of each CPU's line, in hexadecimal (`softnet_seq_show`, `net/core/net-procfs.c`).
fn softnet_dropped(text: &str) -> Option<u64> {
    let of = |line: &str| u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok();
    text.lines().map(of).sum()
}

/// Neighbours that found no room, of both families; every namespace shows the sum of the host.
fn table_fulls(root: &ProcRoot) -> Option<u64> {
    let of = |file: &str| {
        let text = std::fs::read_to_string(root.net().join("stat").join(file)).ok()?;
        conntrack::column(&text, "table_fulls")
    };
    match (of("arp_cache"), of("ndisc_cache")) {
        (None, None) => None,
        (four, six) => Some(four.unwrap_or(0).saturating_add(six.unwrap_or(0))),
    }
}

/// The page size.
///
/// Not by `rustix::param`, which reads the auxiliary vector and panics before Linux 6.4 where `/proc/self/auxv` is
/// unreadable: for a program with file capabilities, and where `/proc` is covered.
pub fn page_bytes() -> u64 {
    // SAFETY: sysconf takes a number and touches no memory of ours.
    #[allow(unsafe_code, reason = "no crate in use asks sysconf(3)")]
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}

/// `tcp_ehash_entries` is negative when the table is shared with the parent namespace; its size is what matters.
fn signed(word: &str) -> Result<u64, std::num::ParseIntError> {
    word.parse::<i64>().map(i64::unsigned_abs)
}

/// `Tcp: A B` followed by `Tcp: 1 2`.
fn pairs_of_lines(text: &str, out: &mut Counters) {
    let mut lines = text.lines();
    let mut full = String::new();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let Some((group, names)) = names.split_once(':') else { continue };
        let Some((again, values)) = values.split_once(':') else { continue };
        if group != again {
            continue;
        }
        for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
            if let Some(counter) = Counter::from_name(join(&mut full, group, name))
                && let Ok(value) = value.parse()
            {
                out.insert(counter, value);
            }
        }
    }
}

/// `Icmp6InDestUnreachs  5`, one in a line.
fn pairs(text: &str, out: &mut Counters) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse))
            && let Some(counter) = Counter::from_name(name)
        {
            out.insert(counter, value);
        }
    }
}

/// `TCP: inuse 5 orphan 0`.
fn named_pairs(text: &str, out: &mut SockStats) {
    let mut full = String::new();
    for line in text.lines() {
        let Some((group, rest)) = line.split_once(':') else { continue };
        let mut words = rest.split_ascii_whitespace();
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            if let Some(count) = SockStat::from_name(join(&mut full, group, name))
                && let Ok(value) = value.parse()
            {
                out.insert(count, value);
            }
        }
    }
}

/// `Tcp:CurrEstab`, in a reused buffer.
fn join<'a>(full: &'a mut String, group: &str, name: &str) -> &'a str {
    full.clear();
    full.push_str(group);
    full.push(':');
    full.push_str(name);
    full
}

/// `8080,9000-9010`.
fn port_ranges(text: &str) -> Vec<(u16, u16)> {
    text.trim()
        .split(',')
        .filter_map(|part| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            Some((low.trim().parse().ok()?, high.trim().parse().ok()?))
        })
        .collect()
}

/// Local addresses: in `fib_trie` an address line (`|-- 10.0.0.1`) followed by `/32 host LOCAL`; in `if_inet6` the
/// first word of each line.
fn addresses(fib_trie: &str, if_inet6: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in fib_trie.lines() {
        let line = line.trim_start();
        if let Some(addr) = line.strip_prefix("|-- ") {
            last = addr.trim().parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(last.map(IpAddr::V4));
        }
    }
    for line in if_inet6.lines() {
        let digits = line.split_ascii_whitespace().next().unwrap_or_default();
        if let Ok(bits) = u128::from_str_radix(digits, 16)
            && digits.len() == 32
        {
            found.push(IpAddr::V6(Ipv6Addr::from_bits(bits)));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_keep_their_group_and_what_is_missing_is_absent() {
        let mut out = Counters::default();
        pairs_of_lines(
            "Ip: A CurrEstab\nIp: 1 7\nTcp: CurrEstab OutRsts\nTcp: 5 -1\nTcpExt: TW\nTcpExt: 9\nTcpExt: odd",
            &mut out,
        );
        assert_eq!(out, [(Counter::TcpCurrEstab, 5), (Counter::TcpExtTw, 9)].into_iter().collect());
        let mut out = SockStats::default();
        named_pairs("sockets: used 3\nTCP: inuse 5 orphan 1 tw 2 alloc 9 mem 4\nUDP: inuse 8\n", &mut out);
        assert_eq!((out.get(SockStat::TcpOrphan), out.get(SockStat::TcpMem)), (Some(&1), Some(&4)));
        assert_eq!((out.get(SockStat::TcpInuse), out.get(SockStat::Tcp6Inuse)), (Some(&5), None));
    }

    #[test]
    fn the_drops_of_every_cpu_are_added() {
        assert_eq!(softnet_dropped("0000fe21 00000010 00000003\n0000fe21 00000001 00000000\n"), Some(17));
        assert_eq!(softnet_dropped("0000fe21\n"), None);
    }

    #[test]
    fn reserved_ports_read_as_ranges() {
        assert_eq!(port_ranges("8080,9000-9010\n"), [(8080, 8080), (9000, 9010)]);
        assert_eq!(port_ranges("\n"), []);
    }

    #[test]
    fn local_addresses_come_from_both_families() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n     |-- 10.0.0.1\n        /32 host LOCAL\n";
        let six = "00000000000000000000000000000001 01 80 10 80       lo\nbad\n";
        let found: Vec<String> = addresses(trie, six).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1", "::1"]);
    }
}
