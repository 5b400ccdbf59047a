//! Rows that are kept for later, in a sixth of their size.
//!
//! Input: rows in any order. Output: each of them again, by its place. Most of a row is like the rows around it (its
//! namespace, one of its addresses, its limits, what is unknown), so a row keeps the words in which it differs from the
//! first of its list, as [`crate::model::tcp_info`] does with the structure of the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::addr::{Endpoint, Family};
use crate::model::id::{Inode, NetnsId};
use crate::model::socket::{Congestion, RowKind, SkMem, Socket, Timer, TimerKind};
use crate::model::state::State;
use crate::model::tcp_info::{Info, Packing};

/// A row without its `tcp_info`, in words.
const WORDS: usize = 40;

/// Rows by their place, in the order in which they came.
#[derive(Default)]
pub struct RowList {
    full: Vec<Part>,
    /// The part that takes rows.
    open: Open,
}

/// Up to [`Packing::ROWS`] rows.
struct Part {
    first: [u32; WORDS],
    entries: Box<[Entry]>,
    words: Box<[u32]>,
    /// Empty where no row has one.
    infos: Box<[Option<Info>]>,
}

/// One row of a part.
#[derive(Clone, Copy)]
struct Entry {
    /// A bit for each word that is not that of the first row, the low half first.
    differs: [u32; 2],
    /// Where these words begin.
    start: u16,
}

#[derive(Default)]
struct Open {
    first: Option<[u32; WORDS]>,
    entries: Vec<Entry>,
    words: Vec<u32>,
    infos: Packing,
    has_info: Vec<bool>,
}

impl RowList {
    pub fn push(&mut self, socket: &Socket) {
        let Open { first, entries, words, infos, has_info } = &mut self.open;
        let row = words_of(socket);
        let first = first.get_or_insert(row);
        // At most 64 rows of 40 words.
        let start = u16::try_from(words.len()).unwrap_or(u16::MAX);
        let mut differs = 0u64;
        for (place, (word, of_first)) in row.iter().zip(first).enumerate() {
            differs |= u64::from(word != of_first) << place;
        }
        let mut left = differs;
        while left != 0 {
            words.push(row[left.trailing_zeros() as usize]);
            left &= left - 1;
        }
        #[allow(clippy::cast_possible_truncation, reason = "the two halves")]
        let differs = [differs as u32, (differs >> 32) as u32];
        entries.push(Entry { differs, start });
        has_info.push(socket.info.is_some());
        if let Some(info) = socket.info.as_deref() {
            infos.push(info);
        }
        if entries.len() == Packing::ROWS {
            self.full.push(self.open.close());
        }
    }

    /// No row follows.
    pub fn finish(&mut self) {
        if !self.open.entries.is_empty() {
            self.full.push(self.open.close());
        }
    }

    /// The row at a place, after [`RowList::finish`]; `None` where there is none.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<Socket> {
        let part = self.full.get(place / Packing::ROWS)?;
        let row = place % Packing::ROWS;
        let Entry { differs: [low, high], start } = *part.entries.get(row)?;
        let mut words = part.first;
        let mut left = u64::from(high) << 32 | u64::from(low);
        for word in &part.words[usize::from(start)..] {
            if left == 0 {
                break;
            }
            words[left.trailing_zeros() as usize] = *word;
            left &= left - 1;
        }
        Some(Socket { info: part.infos.get(row).cloned().flatten(), ..socket_of(words) })
    }
}

impl Open {
    /// What it has, without room for more.
    fn close(&mut self) -> Part {
        let mut infos = self.infos.finish();
        let infos = if self.has_info.contains(&true) {
            self.has_info.iter().map(|has| if *has { infos.next() } else { None }).collect()
        } else {
            Box::default()
        };
        let part = Part {
            first: self.first.take().unwrap_or([0; WORDS]),
            entries: self.entries.as_slice().into(),
            words: self.words.as_slice().into(),
            infos,
        };
        self.entries.clear();
        self.words.clear();
        self.has_info.clear();
        part
    }
}

/// An address in words, and whether it is one of IPv6.
fn words_of_addr(addr: IpAddr) -> ([u32; 4], bool) {
    match addr {
        IpAddr::V4(addr) => ([addr.to_bits(), 0, 0, 0], false),
        IpAddr::V6(addr) => (quarters(addr.to_bits()), true),
    }
}

fn addr_of(words: [u32; 4], is_v6: bool) -> IpAddr {
    if is_v6 { Ipv6Addr::from_bits(whole(words)).into() } else { Ipv4Addr::from_bits(words[0]).into() }
}

fn quarters(number: u128) -> [u32; 4] {
    #[allow(clippy::cast_possible_truncation, reason = "the four quarters")]
    [96, 64, 32, 0].map(|shift| (number >> shift) as u32)
}

fn whole(words: [u32; 4]) -> u128 {
    words.iter().fold(0, |number, word| number << 32 | u128::from(*word))
}

fn halves(number: u64) -> [u32; 2] {
    let [.., high, low] = quarters(number.into());
    [high, low]
}

fn both([high, low]: [u32; 2]) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn words_of(socket: &Socket) -> [u32; WORDS] {
    let Socket { netns, family, state, kind, local, peer, ifindex, cookie, timer, .. } = socket;
    let Socket { recv_q_bytes, send_q_bytes, uid, inode, shutdown, v6only, mark, cgroup, .. } = socket;
    let Socket { sockopt, tos, tclass, congestion, skmem, md5_key, ulp, mptcp, .. } = socket;
    let (local_addr, local_v6) = words_of_addr(local.addr);
    let (peer_addr, peer_v6) = words_of_addr(peer.addr);
    let memory = skmem.unwrap_or_default();
    let flags = [
        *family == Family::V6,
        local_v6,
        peer_v6,
        ifindex.is_some(),
        cookie.is_some(),
        timer.is_some(),
        send_q_bytes.is_some(),
        uid.is_some(),
        shutdown.is_some(),
        v6only.is_some(),
        *v6only == Some(true),
        mark.is_some(),
        cgroup.is_some(),
        sockopt.is_some(),
        tos.is_some(),
        tclass.is_some(),
        congestion.is_some(),
        skmem.is_some(),
        memory.drops.is_some(),
        *md5_key,
        *ulp,
        *mptcp,
    ];
    let flags = flags.iter().rev().fold(0, |bits, flag| bits << 1 | u32::from(*flag));
    let kind = RowKind::ALL.iter().position(|k| k == kind).and_then(|n| u8::try_from(n).ok()).unwrap_or(0);
    let (timer_kind, remaining_ms, retransmits) =
        timer.map_or((0, 0, 0), |t| (t.kind.kernel(), t.remaining_ms, t.retransmits));
    let kinds = u32::from_ne_bytes([state.kernel(), kind, timer_kind, retransmits]);
    let small = u32::from_ne_bytes([shutdown.unwrap_or(0), tos.unwrap_or(0), tclass.unwrap_or(0), 0]);
    let mut name = [0; 16];
    let congestion = congestion.as_ref().map_or("", Congestion::as_str);
    name[..congestion.len()].copy_from_slice(congestion.as_bytes());
    let name = quarters(u128::from_be_bytes(name));
    let [netns, cookie, inode, cgroup] =
        [netns.map_or(0, NetnsId::get), cookie.unwrap_or(0), inode.map_or(0, Inode::get), cgroup.unwrap_or(0)]
            .map(halves);
    [
        flags,
        kinds,
        small,
        u32::from(local.port) << 16 | u32::from(peer.port),
        local_addr[0],
        local_addr[1],
        local_addr[2],
        local_addr[3],
        peer_addr[0],
        peer_addr[1],
        peer_addr[2],
        peer_addr[3],
        netns[0],
        netns[1],
        cookie[0],
        cookie[1],
        inode[0],
        inode[1],
        cgroup[0],
        cgroup[1],
        ifindex.unwrap_or(0),
        remaining_ms,
        *recv_q_bytes,
        send_q_bytes.unwrap_or(0),
        uid.unwrap_or(0),
        mark.unwrap_or(0),
        sockopt.unwrap_or(0).into(),
        name[0],
        name[1],
        name[2],
        name[3],
        memory.rmem_alloc_bytes,
        memory.rcvbuf_bytes,
        memory.wmem_alloc_bytes,
        memory.sndbuf_bytes,
        memory.fwd_alloc_bytes,
        memory.wmem_queued_bytes,
        memory.optmem_bytes,
        memory.backlog_bytes,
        memory.drops.unwrap_or(0),
    ]
}

/// The row of these words.
fn socket_of(words: [u32; WORDS]) -> Socket {
    let [flags, kinds, small, ports, rest @ ..] = words;
    let [l0, l1, l2, l3, p0, p1, p2, p3, rest @ ..] = rest;
    let [n0, n1, c0, c1, i0, i1, g0, g1, rest @ ..] = rest;
    let [ifindex, remaining_ms, recv_q_bytes, send_q, uid, mark, sockopt, rest @ ..] = rest;
    let [a0, a1, a2, a3, memory @ ..] = rest;
    let [rmem_alloc_bytes, rcvbuf_bytes, wmem_alloc_bytes, sndbuf_bytes, fwd_alloc_bytes, memory @ ..] = memory;
    let [wmem_queued_bytes, optmem_bytes, backlog_bytes, drops] = memory;
    let [state, kind, timer_kind, retransmits] = kinds.to_ne_bytes();
    let [shutdown, tos, tclass, _] = small.to_ne_bytes();
    // In the order of `words_of`.
    let mut left = flags;
    let mut flag = || {
        let is_set = left & 1 != 0;
        left >>= 1;
        is_set
    };
    let family = if flag() { Family::V6 } else { Family::V4 };
    let (local, peer) = (addr_of([l0, l1, l2, l3], flag()), addr_of([p0, p1, p2, p3], flag()));
    let [local_port, peer_port] = [ports >> 16, ports & 0xffff].map(|port| u16::try_from(port).unwrap_or(0));
    let kind = RowKind::ALL.get(usize::from(kind)).copied().unwrap_or(RowKind::Full);
    Socket {
        netns: NetnsId::new(both([n0, n1])),
        family,
        state: State::from_kernel(state),
        kind,
        local: Endpoint::new(local, local_port),
        peer: Endpoint::new(peer, peer_port),
        ifindex: flag().then_some(ifindex),
        cookie: flag().then(|| both([c0, c1])),
        timer: flag()
            .then(|| Some(Timer { kind: TimerKind::from_kernel(timer_kind)?, remaining_ms, retransmits }))
            .flatten(),
        recv_q_bytes,
        send_q_bytes: flag().then_some(send_q),
        uid: flag().then_some(uid),
        inode: Inode::new(both([i0, i1])),
        shutdown: flag().then_some(shutdown),
        v6only: {
            let (is_known, is_only) = (flag(), flag());
            is_known.then_some(is_only)
        },
        mark: flag().then_some(mark),
        cgroup: flag().then(|| both([g0, g1])),
        sockopt: flag().then(|| u16::try_from(sockopt).unwrap_or(0)),
        tos: flag().then_some(tos),
        tclass: flag().then_some(tclass),
        congestion: flag().then(|| Congestion::new(&whole([a0, a1, a2, a3]).to_be_bytes())),
        skmem: {
            let (is_known, has_drops) = (flag(), flag());
            is_known.then(|| SkMem {
                rmem_alloc_bytes,
                rcvbuf_bytes,
                wmem_alloc_bytes,
                sndbuf_bytes,
                fwd_alloc_bytes,
                wmem_queued_bytes,
                optmem_bytes,
                backlog_bytes,
                drops: has_drops.then_some(drops),
            })
        },
        md5_key: flag(),
        ulp: flag(),
        mptcp: flag(),
        info: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TcpInfo;

    /// A row in which every field has a value of its own.
    fn every_field(n: u32) -> Socket {
        let small = u8::try_from(n % 200).unwrap();
        let mut info = TcpInfo::default();
        assert!(info.set("rtt_us", n.into()));
        Socket {
            netns: NetnsId::new(u64::from(n) << 31),
            family: Family::V6,
            state: State::from_kernel(small),
            kind: RowKind::ALL[n as usize % 4],
            local: Endpoint::at(&format!("[2001:db8::{n:x}]:{}", 65_535 - n)),
            peer: Endpoint::at(&format!("10.0.{small}.1:{n}")),
            ifindex: Some(n + 2),
            cookie: Some(u64::from(n) << 40 | 3),
            timer: Some(Timer {
                kind: TimerKind::from_kernel(small % 7 + 1).unwrap(),
                remaining_ms: n + 4,
                retransmits: small,
            }),
            recv_q_bytes: n + 5,
            send_q_bytes: Some(n + 6),
            uid: Some(n + 7),
            inode: Inode::new(u64::from(n) << 33),
            shutdown: Some(small % 4),
            v6only: Some(n.is_multiple_of(2)),
            mark: Some(n + 8),
            cgroup: Some(u64::from(n) << 34 | 9),
            sockopt: Some(0x8000 | u16::from(small)),
            tos: Some(small),
            tclass: Some(small / 2),
            congestion: Some(Congestion::new(if n.is_multiple_of(2) { b"cubic" } else { b"abcdefghijklmno" })),
            skmem: Some(SkMem {
                rmem_alloc_bytes: n + 10,
                rcvbuf_bytes: n + 11,
                wmem_alloc_bytes: n + 12,
                sndbuf_bytes: n + 13,
                fwd_alloc_bytes: n + 14,
                wmem_queued_bytes: n + 15,
                optmem_bytes: n + 16,
                backlog_bytes: n + 17,
                drops: (!n.is_multiple_of(3)).then_some(n + 18),
            }),
            md5_key: n.is_multiple_of(5),
            ulp: n.is_multiple_of(3),
            mptcp: n.is_multiple_of(7),
            info: Some(info.into()),
        }
    }

    /// The same with one field as it is by default, by turns.
    fn lacking(n: u32) -> Socket {
        let (mut socket, none) = (every_field(n), Socket::default());
        let lose: [&dyn Fn(&mut Socket); 21] = [
            &|s| s.netns = none.netns,
            &|s| s.family = none.family,
            &|s| s.local = none.local,
            &|s| s.peer = none.peer,
            &|s| s.ifindex = none.ifindex,
            &|s| s.cookie = none.cookie,
            &|s| s.timer = none.timer,
            &|s| s.send_q_bytes = none.send_q_bytes,
            &|s| s.uid = none.uid,
            &|s| s.inode = none.inode,
            &|s| s.shutdown = none.shutdown,
            &|s| s.v6only = none.v6only,
            &|s| s.mark = none.mark,
            &|s| s.cgroup = none.cgroup,
            &|s| s.sockopt = none.sockopt,
            &|s| s.tos = none.tos,
            &|s| s.tclass = none.tclass,
            &|s| s.congestion = none.congestion,
            &|s| s.skmem = none.skmem,
            &|s| s.info.clone_from(&none.info),
            &|s| *s = Socket::default(),
        ];
        lose[n as usize % lose.len()](&mut socket);
        socket
    }

    #[test]
    fn every_row_is_what_it_was() {
        let mut list = RowList::default();
        let wanted: Vec<Socket> =
            (0..1000u32).map(|n| if n.is_multiple_of(3) { every_field(n) } else { lacking(n) }).collect();
        for socket in &wanted {
            list.push(socket);
        }
        list.finish();
        for (place, wanted) in wanted.iter().enumerate() {
            assert_eq!(list.get(place).as_ref(), Some(wanted), "{place}");
        }
        assert_eq!(list.get(wanted.len()), None);
        assert_eq!(RowList::default().get(0), None);
    }

    #[test]
    fn rows_of_one_server_take_a_sixth() {
        let mut list = RowList::default();
        for n in 0..6400u32 {
            let [cookie, inode] = [n, n + 40_000].map(u64::from);
            list.push(&Socket {
                peer: Endpoint::at(&format!("10.0.{}.{}:{}", n >> 8, n & 255, 1000 + n)),
                cookie: Some(cookie),
                inode: Inode::new(inode),
                uid: Some(1000),
                ..Socket::default()
            });
        }
        let bytes: usize =
            list.full.iter().map(|p| size_of_val(p) + size_of_val(&*p.entries) + size_of_val(&*p.words)).sum();
        assert!(bytes / 6400 <= 36 && size_of::<Socket>() >= 6 * 36, "{} bytes a row", bytes / 6400);
    }
}
