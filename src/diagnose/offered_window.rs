//! The window that a receiver offers: when it is used up, and what keeps that of a connection here from growing.
//!
//! Input: connections here that receive, with their buffers and the settings of their host. Output: [`Filled`]. Not here: what the
//! sender of a transfer says of its peer's window (`window-limited`).

use crate::diagnose::limited::{self, MOVED_BYTES};
use crate::diagnose::peers;
use crate::diagnose::view::View;
use crate::model::sysctl::Sysctl;
use crate::model::{NetnsId, Socket, State, TcpInfo};
use crate::text;

/// Percent of a window per round trip from which on nothing else can limit.
const WHOLE: u64 = 70;
/// The same for a window of so few segments.
const WHOLE_OF_FEW: u64 = 50;
const FEW_SEGMENTS: u32 = 4;
/// Fewer windows, or fewer bytes, are no transfer (policy).
pub const WINDOWS: u64 = 8;
pub const LEAST_BYTES: u64 = 16 * 1024;
/// A window this large without scaling is as large as it can be, but for a part of a segment.
pub const UNSCALED_BYTES: u32 = 60_000;
/// `TCP_INIT_CWND`.
const INITIAL_SEGMENTS: u32 = 10;
/// A receiver's window limits nothing that anybody notices on a shorter path (policy).
const LONG_US: u32 = 5000;

/// What the kernel made of a receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// Below what a connection begins with (`sock_init_data`, `tcp_init_sock`), or below what the kernel would have made of it,
    /// so `SO_RCVBUF` was set.
    Fixed(u32),
    /// The third number of `tcp_rmem`: where growth ends (`tcp_rcv_space_adjust`).
    AtLimit(u32),
    Other,
}

#[must_use]
pub fn buffer(view: &View<'_>, receiver: &Socket) -> Option<Buffer> {
    let bytes = receiver.skmem?.rcvbuf_bytes;
    let rmem = view.netns(receiver.netns)?.sysctls.get(Sysctl::Ipv4TcpRmem)?;
    let [_, first, most] = rmem.as_slice() else { return None };
    Some(match u64::from(bytes) {
        n if n < *first => Buffer::Fixed(bytes),
        n if n == *most => Buffer::AtLimit(bytes),
        n if n < *most && is_kept_small(view, receiver, n == *first) => Buffer::Fixed(bytes),
        _ => Buffer::Other,
    })
}

/// Whether the kernel would have let the buffer grow, and did not. When more was read in a round trip than ever before, it makes
/// room for at least twice that, unless the program has set the size (`tcp_rcv_space_adjust`).
fn is_kept_small(view: &View<'_>, receiver: &Socket, as_it_began: bool) -> bool {
    let of = || {
        let info = receiver.info.as_deref()?;
        let read = info.rcv_space_bytes().filter(|_| info.rcv_rtt_us() >= Some(LONG_US))?;
        // What it begins with is a guess and no measurement (`tcp_init_buffer_space`).
        let measured = read > info.advmss_bytes().filter(|mss| *mss > 0)?.checked_mul(INITIAL_SEGMENTS)?;
        let grows = view.netns(receiver.netns)?.sysctl(Sysctl::Ipv4TcpModerateRcvbuf);
        let may_grow = grows.map_or(!as_it_began, |n| n != 0);
        Some(measured && may_grow && u64::from(receiver.skmem?.rcvbuf_bytes) < u64::from(read) * 2)
    };
    of() == Some(true)
}

/// From how many percent on a window counts as used up. The acknowledgement of one or two segments may be delayed, which a
/// window of a few waits for again and again.
#[must_use]
pub fn whole(window: u32, mss: Option<u32>) -> u64 {
    match mss.filter(|mss| *mss > 0) {
        Some(mss) if window <= mss.saturating_mul(FEW_SEGMENTS) => WHOLE_OF_FEW,
        _ => WHOLE,
    }
}

#[must_use]
pub fn in_segments(window: u32, mss: Option<u32>) -> u32 {
    mss.filter(|mss| *mss > 0 && *mss <= window).map_or(window, |mss| window - window % mss)
}

/// Whether this host itself does without window scaling.
#[must_use]
pub fn scales_not(view: &View<'_>, netns: Option<NetnsId>) -> bool {
    view.netns(netns).and_then(|n| n.sysctl(Sysctl::Ipv4TcpWindowScaling)) == Some(0)
}

/// What keeps the window that a connection here receives from growing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    Unscaled,
    /// The smallest and the largest of such buffers.
    Fixed(u32, u32),
    AtLimit(u32),
}

impl Filled {
    /// The id of the cause.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Filled::Unscaled => "no-window-scaling",
            Filled::Fixed(..) => "buffer-fixed",
            Filled::AtLimit(_) => "buffer-at-limit",
        }
    }

    /// As half a sentence.
    #[must_use]
    pub fn words(self, view: &View<'_>, netns: Option<NetnsId>) -> String {
        match self {
            Filled::Unscaled if scales_not(view, netns) => {
                "window scaling is off (net.ipv4.tcp_window_scaling = 0 on this host)".into()
            }
            Filled::Unscaled => "window scaling is off on it".into(),
            Filled::Fixed(least, most) if least == most => {
                format!("it has fixed its buffer at {} (SO_RCVBUF)", text::bytes(most.into()))
            }
            Filled::Fixed(least, most) => {
                let (least, most) = (text::bytes(least.into()), text::bytes(most.into()));
                format!("it has fixed its buffers at {least} to {most} (SO_RCVBUF)")
            }
            Filled::AtLimit(bytes) => {
                let bytes = text::bytes(bytes.into());
                format!("its buffer is at the limit of this host, {bytes} (third number of net.ipv4.tcp_rmem)")
            }
        }
    }

    /// How it is known.
    #[must_use]
    pub const fn because(self) -> &'static str {
        match self {
            Filled::Unscaled => "the handshake agreed on no scaling, and what came fills the largest window without it",
            Filled::Fixed(..) => {
                "the buffer is smaller than the kernel makes it for what is read in a round trip, and what came fills its window"
            }
            Filled::AtLimit(_) => "the kernel makes no larger buffer, and what came fills its window",
        }
    }
}

/// The window that a connection here offers. Without scaling the field has what the kernel would offer (`tcp_select_window`).
#[must_use]
pub fn offered(info: &TcpInfo) -> Option<u32> {
    let bytes = info.rcv_wnd_bytes()?;
    Some(if info.has_window_scaling() == Some(false) { bytes.min(u16::MAX.into()) } else { bytes })
}

/// Whether a connection here receives a whole window that cannot grow in each round trip, reads what comes, and its sender is
/// elsewhere. Only with timestamps is the receiver's round trip measured and not a guess from the window itself
/// (`tcp_rcv_rtt_measure`).
#[must_use]
pub fn filled(view: &View<'_>, socket: &Socket) -> Option<Filled> {
    let is = || {
        let info = socket.info.as_deref().filter(|i| i.has_timestamps() == Some(true))?;
        let received = view.grown(socket, TcpInfo::bytes_received).filter(|n| *n >= LEAST_BYTES)?;
        let is_scaled = info.has_window_scaling() != Some(false);
        let window = offered(info)?;
        let earlier = offered(view.earlier(socket)?.info.as_deref()?)?;
        let kept = buffer(view, socket)?;
        let rtt_us = info.rcv_rtt_us()?;
        let what = match kept {
            Buffer::Fixed(bytes) => Filled::Fixed(bytes, bytes),
            _ if rtt_us < LONG_US => return None,
            _ if !is_scaled && window.min(earlier) >= UNSCALED_BYTES => Filled::Unscaled,
            Buffer::AtLimit(bytes) => Filled::AtLimit(bytes),
            Buffer::Other => return None,
        };
        let usable = in_segments(window.max(earlier), info.rcv_mss_bytes());
        let enough = received >= MOVED_BYTES || received >= u64::from(usable) * WINDOWS;
        let rate = received.saturating_mul(1000) / view.interval_ms()?;
        let percent = limited::window_percent(rate, rtt_us, usable)?;
        let reads = socket.recv_q_bytes < socket.skmem?.rcvbuf_bytes / 4;
        (enough && percent >= whole(usable, info.rcv_mss_bytes()) && reads).then_some(what)
    };
    is().filter(|_| peers::is_held(socket, &[State::Established]) && view.mirror(socket).is_none())
}

/// What keeps the windows of these from growing, with how many have it, the most frequent first.
#[must_use]
pub fn reasons(view: &View<'_>, rows: &[&Socket]) -> Vec<(Filled, u64)> {
    let mut reasons: Vec<(Filled, u64)> = Vec::new();
    for what in rows.iter().filter_map(|s| filled(view, s)) {
        match reasons.iter_mut().find(|(known, _)| known.cause() == what.cause()) {
            Some((known, n)) => {
                if let (Filled::Fixed(least, most), Filled::Fixed(bytes, _)) = (&mut *known, what) {
                    (*least, *most) = (bytes.min(*least), bytes.max(*most));
                }
                *n += 1;
            }
            None => reasons.push((what, 1)),
        }
    }
    reasons.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    reasons
}
