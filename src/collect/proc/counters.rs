//! Counters and sysctls of a network namespace, and the few numbers of the whole host.
//!
//! Comes in: the text of `/proc/net/{snmp,netstat,sockstat,sockstat6}` and of the files below `/proc/sys/net`. Goes out:
//! numbers by name; what this kernel does not have is absent. Never here: differences.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::collect::proc::ProcRoot;
use crate::model::snapshot::{Netns, System};

/// The sysctls that rules read, below `/proc/sys/net`.
const SYSCTLS: &[&str] = &[
    "core/somaxconn",
    "ipv4/ip_local_port_range",
    "ipv4/tcp_abort_on_overflow",
    "ipv4/tcp_ehash_entries",
    "ipv4/tcp_fin_timeout",
    "ipv4/tcp_keepalive_intvl",
    "ipv4/tcp_keepalive_probes",
    "ipv4/tcp_keepalive_time",
    "ipv4/tcp_max_orphans",
    "ipv4/tcp_max_syn_backlog",
    "ipv4/tcp_max_tw_buckets",
    "ipv4/tcp_mem",
    "ipv4/tcp_migrate_req",
    "ipv4/tcp_orphan_retries",
    "ipv4/tcp_retries1",
    "ipv4/tcp_retries2",
    "ipv4/tcp_rmem",
    "ipv4/tcp_rto_max_ms",
    "ipv4/tcp_syn_linear_timeouts",
    "ipv4/tcp_syn_retries",
    "ipv4/tcp_synack_retries",
    "ipv4/tcp_syncookies",
    "ipv4/tcp_timestamps",
    "ipv4/tcp_tw_recycle",
    "ipv4/tcp_tw_reuse",
    "ipv4/tcp_tw_reuse_delay",
    "ipv4/tcp_wmem",
];

/// Reads everything about the namespace that `root.net()` shows. Sysctls are those of the reader's namespace, which is
/// the same one unless a host's `/proc` is mounted elsewhere.
#[must_use]
pub fn netns(root: &ProcRoot, inode: u64, name: Option<String>) -> Netns {
    let net = root.net();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let counters = counters(root);
    let sockstat = sockstat(root);
    let below = root.path().join("sys/net");
    let mut sysctls = BTreeMap::new();
    for name in SYSCTLS {
        let values: Result<Vec<u64>, _> = read(&below.join(name)).split_ascii_whitespace().map(signed).collect();
        if let Ok(values) = values
            && !values.is_empty()
        {
            sysctls.insert((*name).to_owned(), values);
        }
    }
    Netns {
        inode,
        name,
        counters,
        sockstat,
        sysctls,
        reserved_ports: port_ranges(&read(&below.join("ipv4/ip_local_reserved_ports"))),
        addresses: addresses(&read(&net.join("fib_trie")), &read(&net.join("if_inet6"))),
        incomplete: false,
    }
}

/// `/proc/net/sockstat` and `sockstat6`: `TCP:inuse`, `TCP:tw`, `TCP6:inuse`.
#[must_use]
pub fn sockstat(root: &ProcRoot) -> BTreeMap<String, u64> {
    let mut numbers = BTreeMap::new();
    for file in ["sockstat", "sockstat6"] {
        named_pairs(&std::fs::read_to_string(root.net().join(file)).unwrap_or_default(), &mut numbers);
    }
    numbers
}

/// Whether the namespace of the reader certainly has no TCP socket of any kind, by counts that cost a fortieth of a walk
/// over its tables: no socket that a process or the kernel holds (`sock_inuse_add` in net/core/sock.c), none in the tables,
/// no TIME_WAIT. Requests for connections are counted nowhere, but without a segment that came there is none. The reader must
/// have no socket there itself; where a count is of the whole host, as before Linux 4.16, the answer is no.
#[must_use]
pub fn is_without_sockets(root: &ProcRoot, sockstat: &BTreeMap<String, u64>) -> bool {
    let none = |name: &str| sockstat.get(name) == Some(&0);
    if !none("sockets:used")
        || !none("TCP:inuse")
        || !none("TCP:tw")
        || sockstat.get("TCP6:inuse").is_some_and(|n| *n > 0)
    {
        return false;
    }
    let mut counters = BTreeMap::new();
    pairs_of_lines(&std::fs::read_to_string(root.net().join("snmp")).unwrap_or_default(), &mut counters);
    counters.get("Tcp:InSegs") == Some(&0)
}

/// The counters alone, for who reads them several times a second.
#[must_use]
pub fn counters(root: &ProcRoot) -> BTreeMap<String, u64> {
    let net = root.net();
    let mut counters = BTreeMap::new();
    for file in ["snmp", "netstat"] {
        pairs_of_lines(&std::fs::read_to_string(net.join(file)).unwrap_or_default(), &mut counters);
    }
    counters
}

/// Numbers of the whole host.
#[must_use]
pub fn system(root: &ProcRoot) -> System {
    let text = std::fs::read_to_string(root.path().join("sys/fs/file-nr")).unwrap_or_default();
    let mut words = text.split_ascii_whitespace().map(|w| w.parse().ok());
    let (used, _, max) = (words.next().flatten(), words.next(), words.next().flatten());
    System { files_used: used, files_max: max, page_bytes: page_bytes() }
}

/// The size of a page.
///
/// Not by `rustix::param`, which reads the auxiliary vector and panics before Linux 6.4 where `/proc/self/auxv` is closed: to a
/// program with file capabilities, and where `/proc` is covered.
fn page_bytes() -> u64 {
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
fn pairs_of_lines(text: &str, out: &mut BTreeMap<String, u64>) {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let Some((group, names)) = names.split_once(':') else { continue };
        let Some((again, values)) = values.split_once(':') else { continue };
        if group != again || !matches!(group, "Tcp" | "TcpExt") {
            continue;
        }
        for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
            if let Ok(value) = value.parse() {
                out.insert(format!("{group}:{name}"), value);
            }
        }
    }
}

/// `TCP: inuse 5 orphan 0`.
fn named_pairs(text: &str, out: &mut BTreeMap<String, u64>) {
    for line in text.lines() {
        let Some((group, rest)) = line.split_once(':') else { continue };
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        for pair in words.chunks_exact(2) {
            if let Ok(value) = pair[1].parse() {
                out.insert(format!("{group}:{}", pair[0]), value);
            }
        }
    }
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
        let mut out = BTreeMap::new();
        pairs_of_lines("Ip: A\nIp: 1\nTcp: CurrEstab MaxConn\nTcp: 5 -1\nTcpExt: TW\nTcpExt: 9\nTcpExt: odd", &mut out);
        assert_eq!(out.get("Tcp:CurrEstab"), Some(&5));
        assert_eq!(out.get("TcpExt:TW"), Some(&9));
        assert!(!out.contains_key("Tcp:MaxConn") && !out.contains_key("Ip:A"));
        named_pairs("sockets: used 3\nTCP: inuse 5 orphan 1 tw 2 alloc 9 mem 4\n", &mut out);
        assert_eq!((out.get("TCP:orphan"), out.get("TCP:mem")), (Some(&1), Some(&4)));
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
