//! One row of the kernel's table: a socket, a request or a TIME_WAIT socket.
//!
//! Facts as a collector decoded them, `None` for what the source lacks, plus a few derived values that are exact by
//! the kernel's own rules (cited at each). Owners are in [`crate::model::owner`].

use crate::model::addr::{Endpoint, Family, FourTuple};
use crate::model::id::{Inode, NetnsId};
use crate::model::state::State;
use crate::model::tcp_info::Info;

/// `TCP_TIMEWAIT_LEN` (`include/net/tcp.h`): how long TIME_WAIT lasts, whatever the value of `tcp_fin_timeout`.
pub const TIME_WAIT_MS: u32 = 60_000;

/// The kind of kernel object behind a row; it decides which fields mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RowKind {
    /// A full socket (`struct tcp_sock`).
    Full,
    /// The small object left in TIME_WAIT, and in FIN_WAIT2 after the application has closed (`struct
    /// inet_timewait_sock`).
    TimeWaitMini,
    /// A request socket: an unfinished handshake.
    Request,
    /// Bound, but neither listening nor connected.
    BoundInactive,
}

impl RowKind {
    pub const ALL: [RowKind; 4] = [RowKind::Full, RowKind::TimeWaitMini, RowKind::Request, RowKind::BoundInactive];

    /// Derives the kind from what the kernel reports.
    ///
    /// `INET_DIAG_SHUTDOWN` is sent for every full socket and for nothing else (`net/ipv4/inet_diag.c`,
    /// `inet_diag_msg_attrs_fill`); where the source has no attributes (`/proc/net/tcp`) pass `has_shutdown: None`
    /// and the timer decides.
    #[must_use]
    pub fn decide(state: State, timer: Option<TimerKind>, has_shutdown: Option<bool>) -> RowKind {
        let mini = has_shutdown != Some(true);
        match (state, timer) {
            (State::BoundInactive | State::Close, _) => RowKind::BoundInactive,
            (State::TimeWait, _) => RowKind::TimeWaitMini,
            (State::FinWait2, Some(TimerKind::TimeWait)) if mini => RowKind::TimeWaitMini,
            (State::SynRecv, _) if has_shutdown == Some(false) => RowKind::Request,
            (State::SynRecv, Some(TimerKind::Retransmit)) if mini => RowKind::Request,
            _ => RowKind::Full,
        }
    }

    /// The key that JSON prints.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            RowKind::Full => "full",
            RowKind::TimeWaitMini => "time_wait_mini",
            RowKind::Request => "request",
            RowKind::BoundInactive => "bound_inactive",
        }
    }
}

/// The running timer of the socket (`idiag_timer`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimerKind {
    /// 1: retransmission, RACK or tail loss probe.
    Retransmit,
    /// 2: keepalive, or the FIN_WAIT2 timer of an orphan.
    Keepalive,
    /// 3: the remaining life of a TIME_WAIT or FIN_WAIT2 timewait socket.
    TimeWait,
    /// 4: zero-window probe (ss: `persist`).
    ZeroWindowProbe,
    /// 5: delayed ACK, reported by kernels after 6.18; it may hide that no other timer runs.
    DelayedAck,
    /// A number newer than this program.
    Unknown(u8),
}

impl TimerKind {
    /// Every named timer, and one for all unnamed.
    pub const ALL: [TimerKind; 6] = [
        TimerKind::Retransmit,
        TimerKind::Keepalive,
        TimerKind::TimeWait,
        TimerKind::ZeroWindowProbe,
        TimerKind::DelayedAck,
        TimerKind::Unknown(u8::MAX),
    ];

    /// The timer for a kernel number; 0 is no timer.
    #[must_use]
    pub const fn from_kernel(number: u8) -> Option<TimerKind> {
        Some(match number {
            0 => return None,
            1 => TimerKind::Retransmit,
            2 => TimerKind::Keepalive,
            3 => TimerKind::TimeWait,
            4 => TimerKind::ZeroWindowProbe,
            5 => TimerKind::DelayedAck,
            n => TimerKind::Unknown(n),
        })
    }

    /// The kernel's number for this timer.
    #[must_use]
    pub const fn kernel(self) -> u8 {
        match self {
            TimerKind::Retransmit => 1,
            TimerKind::Keepalive => 2,
            TimerKind::TimeWait => 3,
            TimerKind::ZeroWindowProbe => 4,
            TimerKind::DelayedAck => 5,
            TimerKind::Unknown(n) => n,
        }
    }

    /// The key that JSON prints.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            TimerKind::Retransmit => "retransmit",
            TimerKind::Keepalive => "keepalive",
            TimerKind::TimeWait => "time_wait",
            TimerKind::ZeroWindowProbe => "zero_window_probe",
            TimerKind::DelayedAck => "delayed_ack",
            TimerKind::Unknown(_) => "unknown",
        }
    }

    /// The word that ss prints.
    #[must_use]
    pub const fn ss_name(self) -> &'static str {
        match self {
            TimerKind::Retransmit => "on",
            TimerKind::Keepalive => "keepalive",
            TimerKind::TimeWait => "timewait",
            TimerKind::ZeroWindowProbe => "persist",
            TimerKind::DelayedAck => "delack",
            TimerKind::Unknown(_) => "unknown",
        }
    }
}

/// A running timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    pub kind: TimerKind,
    /// Milliseconds until it fires (`idiag_expires`); 0 while a TIME_WAIT waits for the timer wheel.
    pub remaining_ms: u32,
    /// `idiag_retrans`: retransmissions of the oldest segment, or unanswered probes; SYN-ACKs of a request.
    pub retransmits: u8,
}

/// Socket memory (`INET_DIAG_SKMEMINFO`, `sk_get_meminfo` in `net/core/sock.c`), in bytes except the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SkMem {
    pub rmem_alloc_bytes: u32,
    pub rcvbuf_bytes: u32,
    pub wmem_alloc_bytes: u32,
    pub sndbuf_bytes: u32,
    pub fwd_alloc_bytes: u32,
    pub wmem_queued_bytes: u32,
    pub optmem_bytes: u32,
    pub backlog_bytes: u32,
    /// Segments dropped by this socket; on a LISTEN row its own accept and SYN queue drops. Absent before Linux 4.7.
    pub drops: Option<u32>,
}

/// One row, as reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Socket {
    /// Inode of the network namespace; `None` if it is not known.
    pub netns: Option<NetnsId>,
    pub family: Family,
    pub state: State,
    pub kind: RowKind,
    pub local: Endpoint,
    pub peer: Endpoint,
    /// Scope of a link-local address, or the device of `SO_BINDTODEVICE`; 0 for none, `None` if the source has no
    /// such field (`/proc/net/tcp`).
    pub ifindex: Option<u32>,
    /// The socket's cookie; it survives into TIME_WAIT. `None` if the source has no such field.
    pub cookie: Option<u64>,
    pub timer: Option<Timer>,
    /// Unread bytes, a FIN counting as one; on LISTEN the connections waiting for `accept()`.
    pub recv_q_bytes: u32,
    /// Unacknowledged and unsent bytes, SYN and FIN counting as one each; on LISTEN the backlog limit, which
    /// `/proc/net/tcp` lacks (`None`).
    pub send_q_bytes: Option<u32>,
    /// Owner uid; `None` where the kernel keeps none (TIME_WAIT, request sockets).
    pub uid: Option<u32>,
    /// Inode of the socket file; `None` when no file refers to it.
    pub inode: Option<Inode>,
    /// Bit 0 receive side shut down, bit 1 send side (`INET_DIAG_SHUTDOWN`); full sockets only.
    pub shutdown: Option<u8>,
    pub v6only: Option<bool>,
    /// `SO_MARK`; the kernel reports it only with `CAP_NET_ADMIN`.
    pub mark: Option<u32>,
    /// cgroup v2 id: the inode number of the cgroup directory.
    pub cgroup: Option<u64>,
    /// `INET_DIAG_SOCKOPT`, the first two bytes (`struct inet_diag_sockopt`).
    pub sockopt: Option<u16>,
    pub tos: Option<u8>,
    pub tclass: Option<u8>,
    /// Congestion control algorithm.
    pub congestion: Option<Congestion>,
    pub skmem: Option<SkMem>,
    /// Whether a key is set that signs its segments (`TCP_MD5SIG`). The kernel tells it beside `tcp_info`, and only with
    /// `CAP_NET_ADMIN`: `false` may mean unknown.
    pub md5_key: bool,
    /// Whether `INET_DIAG_ULP_INFO` is present: kTLS or an MPTCP subflow. The kernel sends it only beside `tcp_info`, see
    /// [`Socket::has_ulp`].
    pub ulp: bool,
    /// Whether that names MPTCP: the socket is a subflow. It has the inode of its MPTCP socket, on Linux 6.18 also after that
    /// was closed.
    pub mptcp: bool,
    pub info: Option<Info>,
}

/// Name of a congestion control algorithm, at most 15 bytes (`TCP_CA_NAME_MAX`), held inline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Congestion {
    len: u8,
    name: [u8; 15],
}

impl Congestion {
    /// Takes the bytes up to the first NUL; non-ASCII bytes become `?`.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Congestion {
        let mut name = [0; 15];
        let mut len = 0;
        for (slot, byte) in name.iter_mut().zip(bytes.iter().take_while(|b| **b != 0)) {
            *slot = if byte.is_ascii_graphic() { *byte } else { b'?' };
            len += 1;
        }
        Congestion { len, name }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.name[..usize::from(self.len)]).unwrap_or("?")
    }
}

impl std::fmt::Debug for Congestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Default for Socket {
    fn default() -> Socket {
        Socket {
            netns: None,
            family: Family::V4,
            state: State::Close,
            kind: RowKind::Full,
            local: Endpoint::UNSPECIFIED_V4,
            peer: Endpoint::UNSPECIFIED_V4,
            ifindex: None,
            cookie: None,
            timer: None,
            recv_q_bytes: 0,
            send_q_bytes: None,
            uid: None,
            inode: None,
            shutdown: None,
            v6only: None,
            mark: None,
            cgroup: None,
            sockopt: None,
            tos: None,
            tclass: None,
            congestion: None,
            skmem: None,
            md5_key: false,
            ulp: false,
            mptcp: false,
            info: None,
        }
    }
}

/// What we sent is acknowledged within this time on nearly every path; what was lost is sent, and stamped, again.
const ACKNOWLEDGED_WITHIN_MS: u64 = 1000;

/// A duration known exactly, or only between two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgeBracket {
    pub min_ms: u64,
    /// `None`: no upper bound is known.
    pub max_ms: Option<u64>,
}

impl AgeBracket {
    #[must_use]
    pub const fn exact(ms: u64) -> AgeBracket {
        AgeBracket { min_ms: ms, max_ms: Some(ms) }
    }

    #[must_use]
    pub fn is_exact(self) -> bool {
        self.max_ms == Some(self.min_ms)
    }
}

impl Socket {
    #[must_use]
    pub fn four_tuple(&self) -> FourTuple {
        FourTuple { local: self.local, peer: self.peer, ifindex: self.ifindex.unwrap_or(0) }
    }

    /// Whether the application has closed it while the kernel still works on it (sock_diag: `ino == 0`, shut down
    /// both ways, still a full socket).
    #[must_use]
    pub fn is_orphan(&self) -> bool {
        self.kind == RowKind::Full
            && self.inode.is_none()
            && (self.shutdown == Some(3)
                || matches!(self.state, State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck))
    }

    /// Whether it waits in a listener's accept queue: established by the kernel, not yet returned by `accept()`.
    #[must_use]
    pub fn is_unaccepted(&self) -> bool {
        self.kind == RowKind::Full
            && self.inode.is_none()
            && self.shutdown != Some(3)
            && matches!(self.state, State::Established | State::CloseWait | State::SynRecv)
    }

    /// For LISTEN: connections waiting for `accept()`.
    #[must_use]
    pub fn accept_queue(&self) -> Option<u32> {
        (self.state == State::Listen).then_some(self.recv_q_bytes)
    }

    /// Whether no further connection fits into the accept queue (`sk_acceptq_is_full` in `include/net/sock.h`).
    #[must_use]
    pub fn has_full_accept_queue(&self) -> bool {
        self.backlog().is_some_and(|limit| self.recv_q_bytes > limit)
    }

    /// For LISTEN: the backlog limit, `min(listen() argument, somaxconn at that time)`; the queue holds one more.
    #[must_use]
    pub fn backlog(&self) -> Option<u32> {
        if self.state == State::Listen { self.send_q_bytes } else { None }
    }

    /// How long the socket has been in its state, as far as one row can tell.
    ///
    /// * TIME_WAIT: at least 60 s minus the remaining timer; a stray segment re-arms the timer
    ///   (`tcp_timewait_state_process`), so this is a lower bound.
    /// * CLOSE_WAIT: between `last_ack_recv` (the FIN carried an ACK) and `last_data_recv` (a bare FIN never counts
    ///   as data); exact when no keepalive timer runs and nothing of ours can have been acknowledged after the FIN.
    /// * In an accept queue: `last_data_sent`, stamped when the child was created
    ///   (`tcp_create_openreq_child`).
    ///
    /// `None` where one row is not enough, or `tcp_info` was not requested.
    #[must_use]
    pub fn state_age(&self) -> Option<AgeBracket> {
        if self.kind == RowKind::TimeWaitMini {
            let timer = self.timer.filter(|t| t.kind == TimerKind::TimeWait)?;
            return match self.state {
                State::TimeWait => Some(AgeBracket {
                    min_ms: u64::from(TIME_WAIT_MS.saturating_sub(timer.remaining_ms)),
                    max_ms: None,
                }),
                _ => None,
            };
        }
        let info = self.info.as_deref()?;
        if self.state == State::CloseWait {
            let low = u64::from(info.last_ack_recv_ms()?);
            let high = u64::from(info.last_data_recv_ms()?);
            let keepalive = self.timer.is_some_and(|t| t.kind == TimerKind::Keepalive);
            // The last ACK may be that of what we sent then: it came after the FIN, or with it.
            let may_be_ours = u64::from(info.last_data_sent_ms()?) < low + ACKNOWLEDGED_WITHIN_MS;
            if !keepalive && (!may_be_ours || high <= low) {
                return Some(AgeBracket::exact(low));
            }
            return Some(AgeBracket { min_ms: low.min(high), max_ms: Some(high.max(low)) });
        }
        if self.is_unaccepted() {
            return Some(AgeBracket::exact(u64::from(info.last_data_sent_ms()?)));
        }
        None
    }

    /// Bytes the application has read so far, a FIN counting as one: `bytes_received - Recv-Q`.
    #[must_use]
    pub fn consumed_bytes(&self) -> Option<u64> {
        let received = self.info.as_deref()?.bytes_received()?;
        received.checked_sub(u64::from(self.recv_q_bytes))
    }

    /// Whether kTLS or MPTCP is attached to the socket; `None` where `tcp_info` was not requested
    /// (`net/ipv4/inet_diag.c` calls `idiag_get_aux` only with `INET_DIAG_INFO`).
    #[must_use]
    pub fn has_ulp(&self) -> Option<bool> {
        (self.ulp || self.info.is_some()).then_some(self.ulp)
    }

    /// Whether `IP_BIND_ADDRESS_NO_PORT` is set; `None` where the kernel does not report it.
    #[must_use]
    pub fn bind_address_no_port(&self) -> Option<bool> {
        // struct inet_diag_sockopt: recverr, is_icsk, freebind, hdrincl, mc_loop, transparent, mc_all, nodefrag |
        // bind_address_no_port, recverr_rfc4884, defer_connect.
        self.sockopt.map(|bits| bits & 0x100 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TcpInfo;

    #[test]
    fn kinds_follow_the_shutdown_attribute_and_the_timer() {
        use RowKind::*;
        use TimerKind as T;
        for (state, timer, shutdown, kind) in [
            (State::Established, None, Some(true), Full),
            (State::TimeWait, Some(T::TimeWait), Some(false), TimeWaitMini),
            (State::FinWait2, Some(T::TimeWait), Some(false), TimeWaitMini),
            (State::FinWait2, None, Some(true), Full),
            (State::FinWait2, Some(T::Keepalive), Some(true), Full),
            (State::FinWait2, Some(T::TimeWait), None, TimeWaitMini),
            (State::SynRecv, Some(T::Retransmit), Some(false), Request),
            (State::SynRecv, Some(T::Retransmit), Some(true), Full),
            (State::SynRecv, Some(T::Retransmit), None, Request),
            (State::BoundInactive, None, Some(true), BoundInactive),
        ] {
            assert_eq!(RowKind::decide(state, timer, shutdown), kind, "{state} {timer:?} {shutdown:?}");
        }
    }

    fn close_wait(ack: u32, data: u32, sent: u32, timer: Option<TimerKind>) -> Socket {
        let mut info = TcpInfo::default();
        let mut bytes = [0u8; 232];
        bytes[44..48].copy_from_slice(&sent.to_ne_bytes());
        bytes[52..56].copy_from_slice(&data.to_ne_bytes());
        bytes[56..60].copy_from_slice(&ack.to_ne_bytes());
        info.load(&bytes);
        Socket {
            state: State::CloseWait,
            inode: Inode::new(1),
            shutdown: Some(1),
            timer: timer.map(|kind| Timer { kind, remaining_ms: 5, retransmits: 0 }),
            info: Some(info.into()),
            ..Socket::default()
        }
    }

    #[test]
    fn close_wait_age_is_exact_when_nothing_was_acknowledged_after_the_fin() {
        assert_eq!(close_wait(4608, 9000, 9100, None).state_age(), Some(AgeBracket::exact(4608)));
        let keepalive = close_wait(400, 4500, 4600, Some(TimerKind::Keepalive)).state_age().unwrap();
        assert_eq!((keepalive.min_ms, keepalive.max_ms), (400, Some(4500)));
        let still_sending = close_wait(220, 1244, 200, None).state_age().unwrap();
        assert_eq!((still_sending.min_ms, still_sending.max_ms), (220, Some(1244)));
        // FIN 136 s ago, a byte 66 s ago and its ACK at once: the ACK is no stamp of the FIN.
        let answered = close_wait(66_000, 136_000, 66_001, None).state_age().unwrap();
        assert_eq!((answered.min_ms, answered.max_ms), (66_000, Some(136_000)));
    }

    #[test]
    fn time_wait_age_is_a_lower_bound() {
        let socket = Socket {
            state: State::TimeWait,
            kind: RowKind::TimeWaitMini,
            timer: Some(Timer { kind: TimerKind::TimeWait, remaining_ms: 15_000, retransmits: 0 }),
            ..Socket::default()
        };
        assert_eq!(socket.state_age(), Some(AgeBracket { min_ms: 45_000, max_ms: None }));
    }

    #[test]
    fn congestion_names_are_printable_whatever_the_bytes() {
        assert_eq!(Congestion::new(b"cubic\0\0").as_str(), "cubic");
        assert_eq!(Congestion::new(b"\x1b[31m").as_str(), "?[31m");
        assert_eq!(Congestion::new(&[b'a'; 40]).as_str().len(), 15);
    }
}
