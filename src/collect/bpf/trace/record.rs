//! A record of the trace programs: where it has which field, and the event that it describes.
//!
//! Input: the bytes that a program wrote to the ring. Output: an [`Event`]. Not here: the programs that write them
//! (`program`, `faults`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::collect::clock::Now;
use crate::model::event::{ResetReason, ResetReceived, ResetSent, Retransmit, Sighting};
use crate::model::transition::{Actor, By, Comm, Traffic, Transition, is_by_call};
use crate::model::{Endpoint, Errno, Event, Family, LastError, NetnsId, State};

// Where a field is in a record; nothing is padded.
pub(super) const TIME: i32 = 0;
/// 0: none.
pub(super) const COOKIE: i32 = 8;
pub(super) const LOCAL: i32 = 16;
pub(super) const PEER: i32 = 32;
pub(super) const NETNS: i32 = 48;
pub(super) const TGID: i32 = 52;
/// Where the socket is in the kernel's memory.
pub(super) const ADDRESS: i32 = 56;
pub(super) const COMM: i32 = 64;
pub(super) const COMM_BYTES: i32 = 16;
pub(super) const FAMILY: i32 = 80;
/// `inet_sport`, network byte order.
pub(super) const SPORT: i32 = 82;
/// `skc_num`, host byte order.
pub(super) const NUM: i32 = 84;
/// `skc_dport`, network byte order.
pub(super) const DPORT: i32 = 86;
pub(super) const OLD: i32 = 88;
pub(super) const NEW: i32 = 89;
/// 0 or 1.
pub(super) const OWNED: i32 = 90;
/// Which of the programs wrote it: [`CHANGE`], ...
pub(super) const KIND: i32 = 91;
pub(super) const TASK_FLAGS: i32 = 92;
/// `bytes_sent`, `bytes_retrans` and `bytes_received` of `struct tcp_sock`, at CLOSE; else 0.
pub(super) const SENT: i32 = 96;
pub(super) const RETRANSMITTED: i32 = 104;
pub(super) const RECEIVED: i32 = 112;
/// The lower half of `sk_flags`, at CLOSE; else 0.
pub(super) const SOCK_FLAGS: i32 = 120;
/// Of a change `sk_err`, at CLOSE; of a reset its reason; of a repeated segment why it did not leave.
pub(super) const VALUE: i32 = 124;
pub(super) const RECORD: usize = 128;
/// Where a record begins on the program's stack.
pub(super) const BASE: i32 = -128;
const _: () = assert!(BASE.unsigned_abs() as usize == RECORD);

pub(super) const CHANGE: i32 = 0;
pub(super) const RESET_SENT: i32 = 1;
pub(super) const RESET_RECEIVED: i32 = 2;
pub(super) const RETRANSMIT: i32 = 3;

pub(super) const AF_INET: i32 = 2;
pub(super) const AF_INET6: i32 = 10;
pub(super) const IPPROTO_TCP: i32 = 6;
/// Bit of `sk_flags` that `tcp_fin` sets: the peer's FIN has come (`SOCK_DONE`, `include/net/sock.h`).
const SOCK_DONE: u32 = 1 << 1;
/// `PF_KTHREAD`, `include/linux/sched.h`.
const PF_KTHREAD: u32 = 0x0020_0000;

/// What a reader knows beside the bytes.
pub(super) struct Reading<'a> {
    /// Whether task numbers mean something here.
    pub pids_known: bool,
    pub now: Now,
    /// The kernel's reasons of resets by number; `None`: it passes none.
    pub reasons: Option<&'a [(u32, ResetReason)]>,
    /// Whether the kernel says why a repeated segment did not leave.
    pub failures: bool,
}

/// What a record describes.
pub(super) fn decode(record: &[u8; RECORD], reading: &Reading<'_>) -> Event {
    let double = |at: i32| u64::from_ne_bytes(array(record, at));
    let word = |at: i32| u32::from_ne_bytes(array(record, at));
    let half = |at: i32| u16::from_ne_bytes(array(record, at));
    let byte = |at: i32| array::<1>(record, at)[0];
    let family = if i32::from(half(FAMILY)) == AF_INET6 { Family::V6 } else { Family::V4 };
    let address = |at: i32| match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(array::<4>(record, at))),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(array::<16>(record, at))),
    };
    let actor = Actor { pid: word(TGID), comm: Comm::new(&array::<16>(record, COMM)) };
    let by = match (byte(OWNED), word(TASK_FLAGS) & PF_KTHREAD) {
        (0, _) => By::Network,
        _ if !reading.pids_known => By::UnknownProcess,
        (_, 0) => By::Process(actor),
        _ => By::KernelThread(actor),
    };
    let bound = u16::from_be_bytes(array(record, SPORT));
    let [old, new] = [OLD, NEW].map(|at| State::from_kernel(byte(at)));
    let at = Sighting {
        at_us: reading.now.wall_us_at(double(TIME)),
        monotonic_ns: double(TIME),
        netns: NetnsId::new(word(NETNS).into()),
        cookie: Some(double(COOKIE)).filter(|cookie| *cookie != 0),
        address: Some(double(ADDRESS)).filter(|address| *address != 0),
        family,
        local: Endpoint::new(address(LOCAL), if bound == 0 { half(NUM) } else { bound }),
        peer: Endpoint::new(address(PEER), u16::from_be_bytes(array(record, DPORT))),
        state: Some(old).filter(|_| byte(OLD) != 0),
        by: Some(by),
    };
    match i32::from(byte(KIND)) {
        RESET_SENT => {
            let reason = reading.reasons.map(|known| ResetReason::from_number(known, word(VALUE)));
            Event::ResetSent(ResetSent { at, reason })
        }
        RESET_RECEIVED => Event::ResetReceived(ResetReceived { at }),
        RETRANSMIT => {
            // The kernel writes errors as negative numbers.
            let error = word(VALUE).cast_signed().saturating_abs();
            Event::Retransmit(Retransmit { at, failed: (reading.failures && error != 0).then_some(Errno(error)) })
        }
        _ => {
            // Still the listener's copy: the cookie in it is not the new socket's.
            let unfinished = (old, new, half(DPORT)) == (State::Listen, State::SynRecv, 0);
            let ends = new == State::Close;
            let error = match word(VALUE).cast_signed() {
                0 => LastError::Nothing,
                number => LastError::Errno(Errno(number)),
            };
            let traffic = Traffic {
                sent_bytes: double(SENT).saturating_sub(double(RETRANSMITTED)),
                // The kernel counts the FIN as one.
                received_bytes: Some(double(RECEIVED).saturating_sub(u64::from(word(SOCK_FLAGS) & SOCK_DONE != 0))),
            };
            Event::Change(Transition {
                at_us: at.at_us,
                monotonic_ns: at.monotonic_ns,
                netns: at.netns,
                cookie: at.cookie.filter(|_| !unfinished),
                address: at.address,
                family,
                local: at.local,
                peer: at.peer,
                old: Some(old),
                new,
                by: at.by,
                by_call: is_by_call(old, new),
                traffic: ends.then_some(traffic),
                error: ends.then_some(error),
            })
        }
    }
}

/// `N` bytes of a record; all places are constants below its end.
fn array<const N: usize>(record: &[u8; RECORD], at: i32) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(record.iter().skip(at.unsigned_abs() as usize)) {
        *to = *from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as the program would write it: an IPv4 socket going from CLOSE_WAIT to LAST_ACK.
    fn raw() -> [u8; RECORD] {
        let mut r = [0; RECORD];
        let mut put = |at: i32, bytes: &[u8]| r[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        put(TIME, &5_u64.to_ne_bytes());
        put(COOKIE, &0x1008_u64.to_ne_bytes());
        put(LOCAL, &[10, 0, 0, 1]);
        put(PEER, &[10, 0, 0, 2]);
        put(NETNS, &4_026_531_833_u32.to_ne_bytes());
        put(TGID, &812_u32.to_ne_bytes());
        put(ADDRESS, &0xffff_8880_0000_1000_u64.to_ne_bytes());
        put(COMM, b"java\0");
        put(FAMILY, &2_u16.to_ne_bytes());
        put(SPORT, &443_u16.to_be_bytes());
        put(DPORT, &50_000_u16.to_be_bytes());
        put(OLD, &[8]);
        put(NEW, &[9]);
        put(OWNED, &[1]);
        r
    }

    fn read(record: &[u8; RECORD], pids_known: bool) -> Transition {
        let Event::Change(change) = decode(record, &reading(pids_known)) else { panic!("no change") };
        change
    }

    fn reading(pids_known: bool) -> Reading<'static> {
        Reading { pids_known, now: Now::read(), reasons: Some(&[(7, ResetReason::NoSocket)]), failures: true }
    }

    #[test]
    fn a_record_reads_back_field_by_field() {
        let record = read(&raw(), true);
        assert_eq!(record.local.to_string(), "10.0.0.1:443");
        assert_eq!(record.peer.to_string(), "10.0.0.2:50000");
        assert_eq!((record.old, record.new), (Some(State::CloseWait), State::LastAck));
        assert_eq!((record.monotonic_ns, record.netns), (5, NetnsId::new(4_026_531_833)));
        assert_eq!((record.cookie, record.address), (Some(0x1008), Some(0xffff_8880_0000_1000)));
        assert!(record.by_call);
        assert_eq!(record.by, Some(By::Process(Actor { pid: 812, comm: "java".into() })));
    }

    #[test]
    fn nobody_is_named_unless_the_lock_was_held_by_a_process() {
        let mut bytes = raw();
        assert_eq!(read(&bytes, false).by, Some(By::UnknownProcess));
        bytes[TASK_FLAGS as usize..][..4].copy_from_slice(&PF_KTHREAD.to_ne_bytes());
        assert!(matches!(read(&bytes, true).by, Some(By::KernelThread(_))));
        bytes[OWNED as usize] = 0;
        assert_eq!(read(&bytes, true).by, Some(By::Network));
        assert_eq!(read(&bytes, false).by, Some(By::Network));
    }

    #[test]
    fn a_socket_that_is_still_a_copy_of_its_listener_has_no_cookie() {
        let mut bytes = raw();
        bytes[OLD as usize..][..2].copy_from_slice(&[10, 3]);
        assert!(read(&bytes, true).cookie.is_some());
        bytes[DPORT as usize..][..2].fill(0);
        assert_eq!(read(&bytes, true).cookie, None);
        assert_eq!(read(&bytes, true).address, Some(0xffff_8880_0000_1000), "identifies it all the same");
        bytes = raw();
        bytes[COOKIE as usize..][..8].fill(0);
        assert_eq!(read(&bytes, true).cookie, None, "older kernels make none");
    }

    #[test]
    fn what_was_carried_is_reported_at_the_end_without_the_fin_and_without_repetitions() {
        let mut bytes = raw();
        for (at, value) in [(SENT, 700_u64), (RETRANSMITTED, 200), (RECEIVED, 31)] {
            bytes[at as usize..][..8].copy_from_slice(&value.to_ne_bytes());
        }
        bytes[SOCK_FLAGS as usize..][..4].copy_from_slice(&(SOCK_DONE | 1).to_ne_bytes());
        assert_eq!(read(&bytes, true).traffic, None);
        bytes[NEW as usize] = State::Close.kernel();
        assert_eq!(read(&bytes, true).traffic, Some(Traffic { sent_bytes: 500, received_bytes: Some(30) }));
    }

    #[test]
    fn a_socket_ends_with_its_error_or_with_none() {
        let mut bytes = raw();
        assert_eq!(read(&bytes, true).error, None);
        bytes[NEW as usize] = State::Close.kernel();
        assert_eq!(read(&bytes, true).error, Some(LastError::Nothing));
        bytes[VALUE as usize..][..4].copy_from_slice(&libc::ECONNREFUSED.to_ne_bytes());
        assert_eq!(read(&bytes, true).error, Some(LastError::Errno(Errno::ECONNREFUSED)));
    }

    #[test]
    fn resets_and_repeated_segments_read_back() {
        let event = |kind: i32, state: u8, value: i32, reading: &Reading<'_>| {
            let mut bytes = raw();
            (bytes[KIND as usize], bytes[OLD as usize]) = (u8::try_from(kind).unwrap(), state);
            bytes[VALUE as usize..][..4].copy_from_slice(&value.to_ne_bytes());
            decode(&bytes, reading)
        };
        let sent = |state, value, reading: &Reading<'_>| match event(RESET_SENT, state, value, reading) {
            Event::ResetSent(reset) => (reset.at.state, reset.reason),
            other => panic!("{other:?}"),
        };
        let newest = reading(true);
        assert_eq!(sent(0, 7, &newest), (None, Some(ResetReason::NoSocket)));
        assert_eq!(sent(1, 99, &newest).1, Some(ResetReason::Unknown(99)));
        let older = Reading { reasons: None, failures: false, ..reading(true) };
        assert_eq!(sent(7, 0, &older), (Some(State::Close), None));
        let Event::ResetReceived(received) = event(RESET_RECEIVED, 2, 0, &newest) else { panic!("no reset") };
        assert_eq!((received.at.state, received.at.cookie), (Some(State::SynSent), Some(0x1008)));
        let failed = |value, reading: &Reading<'_>| match event(RETRANSMIT, 1, value, reading) {
            Event::Retransmit(again) => again.failed,
            other => panic!("{other:?}"),
        };
        assert_eq!((failed(0, &newest), failed(5, &older)), (None, None));
        assert_eq!(failed(-libc::ENOBUFS, &newest), Some(Errno::ENOBUFS));
    }

    #[test]
    fn ipv6_addresses_and_the_port_of_an_unbound_socket() {
        let mut bytes = raw();
        bytes[FAMILY as usize..][..2].copy_from_slice(&10_u16.to_ne_bytes());
        bytes[LOCAL as usize..][..16].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        bytes[SPORT as usize..][..2].fill(0);
        bytes[NUM as usize..][..2].copy_from_slice(&7_u16.to_ne_bytes());
        let record = read(&bytes, true);
        assert_eq!(record.local.to_string(), "[::1]:7");
        assert_eq!(record.family, Family::V6);
    }
}
