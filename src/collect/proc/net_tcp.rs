//! `/proc/net/tcp` and `/proc/net/tcp6`.
//!
//! Input: the text of a table. Output: sockets, and how many lines could not be parsed. It lacks cookie, interface,
//! `tcp_info`, mark, cgroup and the backlog limit, and it repeats rows when the table changes during the read.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

use crate::model::{Endpoint, Family, Inode, NetnsId, RowKind, Socket, State, Timer, TimerKind};

/// The kernel returns at most a page per read; a larger buffer saves nothing, a smaller one costs calls.
const BUFFER_BYTES: usize = 64 * 1024;

/// The result of reading a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub rows: u64,
    pub unreadable_lines: u64,
    pub stopped: bool,
}

/// Parses the text of a table.
///
/// # Errors
/// When reading fails.
pub fn parse(
    mut text: impl Read,
    family: Family,
    netns: Option<NetnsId>,
    sink: &mut dyn FnMut(&Socket) -> ControlFlow<()>,
) -> io::Result<Table> {
    let mut table = Table::default();
    let mut socket = Socket { netns, family, ..Socket::default() };
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut filled = 0;
    let mut header = true;
    loop {
        let n = match text.read(&mut buffer[filled..]) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        filled += n;
        let mut start = 0;
        while let Some(len) = buffer[start..filled].iter().position(|b| *b == b'\n') {
            let line = &buffer[start..start + len];
            start += len + 1;
            if std::mem::take(&mut header) {
                continue;
            }
            if parse_line(line, &mut socket).is_none() {
                table.unreadable_lines += 1;
                continue;
            }
            table.rows += 1;
            if sink(&socket).is_break() {
                table.stopped = true;
                return Ok(table);
            }
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        if n == 0 || filled == buffer.len() {
            // A last line without its end means a truncated table. A line longer than the buffer, or a missing
            // header, means it is not a table: the kernel writes the header even when there is no socket.
            table.unreadable_lines += u64::from(filled > 0 || header);
            return Ok(table);
        }
    }
}

/// One line: `sl local remote st tx:rx tr:when retrnsmt uid timeout inode ...` (`get_tcp4_sock`, `get_openreq4` and
/// `get_timewait4_sock` in `net/ipv4/tcp_ipv4.c`).
fn parse_line(line: &[u8], socket: &mut Socket) -> Option<()> {
    let mut words = line.split(|b| *b == b' ').filter(|w| !w.is_empty());
    words.next()?.strip_suffix(b":")?;
    let (local, peer) = (words.next()?, words.next()?);
    socket.state = State::from_kernel(u8::try_from(hex(words.next()?)?).ok()?);
    let (tx, rx) = split(words.next()?, b':')?;
    let (timer, when) = split(words.next()?, b':')?;
    let retransmits = hex(words.next()?)?;
    let uid = decimal(words.next()?)?;
    words.next()?;
    socket.inode = Inode::new(decimal(words.next()?)?.into());
    socket.local = endpoint(local, socket.family)?;
    socket.peer = endpoint(peer, socket.family)?;
    let timer = TimerKind::from_kernel(u8::try_from(hex(timer)?).ok()?);
    // Expiry is in USER_HZ, 100 per second on every architecture.
    let remaining_ms = hex(when)?.saturating_mul(10);
    socket.timer =
        timer.map(|kind| Timer { kind, remaining_ms, retransmits: u8::try_from(retransmits).unwrap_or(u8::MAX) });
    socket.kind = RowKind::decide(socket.state, timer, None);
    socket.recv_q_bytes = hex(rx)?;
    socket.send_q_bytes = match socket.state {
        State::Listen => None,
        _ => Some(hex(tx)?),
    };
    socket.uid = match socket.kind {
        RowKind::TimeWaitMini | RowKind::Request => None,
        _ => Some(uid),
    };
    Some(())
}

fn endpoint(text: &[u8], family: Family) -> Option<Endpoint> {
    let (addr, port) = split(text, b':')?;
    let port = u16::try_from(hex(port)?).ok()?;
    // Each group of eight digits is a word in memory order, printed as a number of this machine.
    let word = |group: &[u8]| hex(group).map(u32::to_ne_bytes);
    let addr = match (family, addr.len()) {
        (Family::V4, 8) => IpAddr::V4(Ipv4Addr::from(word(addr)?)),
        (Family::V6, 32) => {
            let mut bytes = [0; 16];
            for (slot, group) in bytes.chunks_exact_mut(4).zip(addr.chunks_exact(8)) {
                slot.copy_from_slice(&word(group)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(Endpoint { addr, port })
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let i = text.iter().position(|b| *b == at)?;
    Some((&text[..i], &text[i + 1..]))
}

fn hex(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    digits.iter().try_fold(0u32, |n, d| Some(n << 4 | char::from(*d).to_digit(16)?))
}

fn decimal(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |n, d| n.checked_mul(10)?.checked_add(char::from(*d).to_digit(10)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 08 00000000:00000001 02:000001F4 00000000     0        0 4712 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:1F90 0100007F:C351 06 00000000:00000000 03:0000176F 00000000     0        0 0 3 0000000000000000
   3: 0100007F:1F90 0100007F:C352 03 00000000:00000000 01:00000064 00000002     0        0 0 1 0000000000000000
";

    #[cfg(target_endian = "little")]
    #[test]
    fn rows_of_every_kind_read_as_the_kernel_wrote_them() {
        let mut rows = Vec::new();
        let table = parse(V4.as_bytes(), Family::V4, NetnsId::new(3), &mut |s| {
            rows.push(s.clone());
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!((table.rows, table.unreadable_lines), (4, 0));
        let [listen, close_wait, time_wait, request] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((listen.accept_queue(), listen.backlog(), listen.uid), (Some(3), None, Some(1000)));
        assert_eq!(listen.local.to_string(), "127.0.0.1:8080");
        assert_eq!(
            (close_wait.state, close_wait.recv_q_bytes, close_wait.inode),
            (State::CloseWait, 1, Inode::new(4712))
        );
        assert_eq!(close_wait.timer.unwrap().remaining_ms, 5000);
        assert_eq!((time_wait.kind, time_wait.uid), (RowKind::TimeWaitMini, None));
        assert_eq!(time_wait.timer.unwrap().remaining_ms, 59_990);
        assert_eq!((request.kind, request.timer.unwrap().retransmits), (RowKind::Request, 2));
        assert!(rows.iter().all(|r| r.cookie.is_none() && r.netns == NetnsId::new(3)));
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn ipv6_addresses_keep_their_word_order() {
        let text = "head\n   0: 0000000000000000FFFF00000100000A:0050 B80D01200000000000000000010000FF:0001 01 \
                    00000000:00000000 00:00000000 00000000     0        0 9 1 0 20 4 30 10 -1\n";
        let mut seen = String::new();
        parse(text.as_bytes(), Family::V6, None, &mut |s| {
            seen = s.four_tuple().to_string();
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(seen, "[::ffff:10.0.0.1]:80 > [2001:db8::ff00:1]:1");
    }

    #[test]
    fn a_table_cut_anywhere_is_reported_and_never_panics() {
        for len in 0..V4.len() {
            let table = parse(&V4.as_bytes()[..len], Family::V4, None, &mut |_| ControlFlow::Continue(())).unwrap();
            let cut = !V4[..len].ends_with('\n');
            assert_eq!(table.unreadable_lines, u64::from(cut), "cut at {len}");
        }
        let garbage = "head\nnot a row\n\u{1b}[31m\n   0: zz\n";
        let table = parse(garbage.as_bytes(), Family::V4, None, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!((table.rows, table.unreadable_lines), (0, 3));
    }
}
