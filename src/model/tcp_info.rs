//! `struct tcp_info`, read by length.
//!
//! Input: the bytes of `INET_DIAG_INFO`, of any kernel. Output: one accessor per field, `None` where this kernel's
//! structure ends before it. The rules interpret the values.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Bytes kept: what Linux 6.18 sends. The tail of a longer structure is dropped.
const CAPACITY: usize = 280;

/// `struct tcp_info` (`include/uapi/linux/tcp.h`), kept as raw bytes: decoding is a copy, and the shorter structure
/// of an older kernel yields `None`, never zero.
#[derive(Clone, PartialEq, Eq)]
pub struct TcpInfo {
    len: u16,
    bytes: [u8; CAPACITY],
}

impl Default for TcpInfo {
    fn default() -> TcpInfo {
        TcpInfo { len: 0, bytes: [0; CAPACITY] }
    }
}

/// The value of a field; the kernel uses some numbers for "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// This kernel's structure ends before the field.
    Unknown,
    /// Nothing was measured, or set, yet.
    NotYet,
    /// There is no limit.
    Unlimited,
    Value(u64),
}

impl Reading {
    /// The number, if it is one.
    #[must_use]
    pub const fn value(self) -> Option<u64> {
        match self {
            Reading::Value(value) => Some(value),
            Reading::Unknown | Reading::NotYet | Reading::Unlimited => None,
        }
    }

    /// Whether there is no limit; `None` where this kernel does not report it.
    #[must_use]
    pub const fn is_unlimited(self) -> Option<bool> {
        match self {
            Reading::Unknown => None,
            Reading::Unlimited => Some(true),
            Reading::NotYet | Reading::Value(_) => Some(false),
        }
    }
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $kind:ident @ $offset:literal $($mark:ident $at:literal)?;)*) => {
        /// One function per field, with the numbers that mean "none" decoded.
        pub mod reading {
            use super::{Reading, TcpInfo};

            $(#[must_use] pub fn $name(info: &TcpInfo) -> Reading {
                match info.$name().map(u64::from) {
                    None => Reading::Unknown,
                    $(Some($at) => Reading::$mark,)?
                    Some(value) => Reading::Value(value),
                }
            })*
        }

        impl TcpInfo {
            $($(#[$doc])* #[must_use] pub fn $name(&self) -> Option<$kind> {
                const SIZE: usize = size_of::<$kind>();
                let bytes = self.as_bytes().get($offset..$offset + SIZE)?;
                bytes.try_into().ok().map($kind::from_ne_bytes)
            })*

            /// Every field with its name and decoded value, in the order of the structure.
            pub fn for_each_reading(&self, mut each: impl FnMut(&'static str, Reading)) {
                $(each(stringify!($name), reading::$name(self));)*
            }

            /// Every field with its name and raw number, in the order of the structure.
            pub fn for_each(&self, mut each: impl FnMut(&'static str, Option<u64>)) {
                $(each(stringify!($name), self.$name().map(u64::from));)*
            }

            /// Names of all fields, in the order of the structure.
            pub const FIELDS: &'static [&'static str] = &[$(stringify!($name)),*];

            /// Sets a field by name, extending the structure to reach it, for tests. False if there is no such field
            /// or the value does not fit.
            pub fn set(&mut self, field: &str, value: u64) -> bool {
                match field {
                    $(stringify!($name) => {
                        const SIZE: usize = size_of::<$kind>();
                        #[allow(irrefutable_let_patterns, reason = "some fields are as wide as the value")]
                        let Ok(value) = $kind::try_from(value) else { return false };
                        self.bytes[$offset..$offset + SIZE].copy_from_slice(&value.to_ne_bytes());
                        self.len = self.len.max(length($offset + SIZE));
                        true
                    })*
                    _ => false,
                }
            }
        }
    };
}

fields! {
    /// Kernel number of the state.
    state: u8 @ 0;
    ca_state: u8 @ 1;
    /// Consecutive retransmission timeouts of the oldest segment.
    retransmits: u8 @ 2;
    /// Unanswered zero-window or keepalive probes.
    probes: u8 @ 3;
    backoff: u8 @ 4;
    /// `TCPI_OPT_*`: 1 timestamps, 2 SACK, 4 window scale, 8 ECN, 16 ECN seen, 32 SYN data.
    options: u8 @ 5;
    /// Send scale in the low half, receive scale in the high half.
    wscale: u8 @ 6;
    flags: u8 @ 7;
    rto_us: u32 @ 8;
    ato_us: u32 @ 12 NotYet 0;
    snd_mss_bytes: u32 @ 16;
    rcv_mss_bytes: u32 @ 20;
    unacked: u32 @ 24;
    sacked: u32 @ 28;
    lost: u32 @ 32;
    retrans: u32 @ 36;
    fackets: u32 @ 40;
    /// Milliseconds since data was last sent or retransmitted; meaningless in SYN_SENT; wraps at 49.7 days.
    last_data_sent_ms: u32 @ 44;
    last_ack_sent_ms: u32 @ 48;
    last_data_recv_ms: u32 @ 52;
    last_ack_recv_ms: u32 @ 56;
    pmtu_bytes: u32 @ 60;
    rcv_ssthresh_bytes: u32 @ 64;
    rtt_us: u32 @ 68 NotYet 0;
    rttvar_us: u32 @ 72;
    /// `TCP_INFINITE_SSTHRESH` until a loss sets it.
    snd_ssthresh: u32 @ 76 NotYet 0x7fff_ffff;
    /// Congestion window in segments.
    snd_cwnd: u32 @ 80;
    advmss_bytes: u32 @ 84;
    reordering: u32 @ 88;
    rcv_rtt_us: u32 @ 92 NotYet 0;
    rcv_space_bytes: u32 @ 96;
    total_retrans: u32 @ 100;
    pacing_rate_bytes_per_s: u64 @ 104 Unlimited 0xffff_ffff_ffff_ffff;
    max_pacing_rate_bytes_per_s: u64 @ 112 Unlimited 0xffff_ffff_ffff_ffff;
    bytes_acked: u64 @ 120;
    bytes_received: u64 @ 128;
    segs_out: u32 @ 136;
    segs_in: u32 @ 140;
    notsent_bytes: u32 @ 144;
    /// All bits are set until the first measurement.
    min_rtt_us: u32 @ 148 NotYet 0xffff_ffff;
    data_segs_in: u32 @ 152;
    data_segs_out: u32 @ 156;
    delivery_rate_bytes_per_s: u64 @ 160;
    busy_time_us: u64 @ 168;
    rwnd_limited_us: u64 @ 176;
    sndbuf_limited_us: u64 @ 184;
    delivered: u32 @ 192;
    delivered_ce: u32 @ 196;
    bytes_sent: u64 @ 200;
    bytes_retrans: u64 @ 208;
    dsack_dups: u32 @ 216;
    reord_seen: u32 @ 220;
    rcv_ooopack: u32 @ 224;
    snd_wnd_bytes: u32 @ 228;
    rcv_wnd_bytes: u32 @ 232;
    rehash: u32 @ 236;
    total_rto: u16 @ 240;
    total_rto_recoveries: u16 @ 242;
    total_rto_time_ms: u32 @ 244;
    received_ce: u32 @ 248;
    delivered_e1_bytes: u32 @ 252;
    delivered_e0_bytes: u32 @ 256;
    delivered_ce_bytes: u32 @ 260;
    received_e1_bytes: u32 @ 264;
    received_e0_bytes: u32 @ 268;
    received_ce_bytes: u32 @ 272;
}

impl TcpInfo {
    /// Takes the bytes of a `tcp_info`, of any length.
    pub fn load(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(CAPACITY);
        self.bytes[..len].copy_from_slice(&bytes[..len]);
        self.len = length(len);
    }

    /// The bytes as received, up to what is kept.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether both ends use timestamps (`TCPI_OPT_TIMESTAMPS`).
    #[must_use]
    pub fn has_timestamps(&self) -> Option<bool> {
        self.options().map(|o| o & 1 != 0)
    }

    /// Whether windows of the connection are scaled (`TCPI_OPT_WSCALE`); else none is above 65,535 bytes.
    #[must_use]
    pub fn has_window_scaling(&self) -> Option<bool> {
        self.options().map(|o| o & 4 != 0)
    }
}

impl fmt::Debug for TcpInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("TcpInfo");
        self.for_each(|name, value| {
            if let Some(value) = value {
                out.field(name, &value);
            }
        });
        out.finish()
    }
}

/// A length of at most [`CAPACITY`].
const fn length(bytes: usize) -> u16 {
    #[allow(clippy::cast_possible_truncation, reason = "the capacity fits")]
    let len = bytes as u16;
    len
}

/// The `tcp_info` of a row: its own, or an entry of a list shared by the rows of a large table, because a hundred
/// thousand heap blocks cost more than their content.
#[derive(Clone)]
pub struct Info(Kept);

#[derive(Clone)]
enum Kept {
    Own(Box<TcpInfo>),
    Listed(Arc<Vec<TcpInfo>>, u32),
}

impl Info {
    /// The entry at this index of a list, which must exist.
    #[must_use]
    pub fn listed(list: &Arc<Vec<TcpInfo>>, place: u32) -> Info {
        Info(Kept::Listed(Arc::clone(list), place))
    }
}

impl From<TcpInfo> for Info {
    fn from(info: TcpInfo) -> Info {
        Info(Kept::Own(Box::new(info)))
    }
}

impl Default for Info {
    fn default() -> Info {
        Info::from(TcpInfo::default())
    }
}

impl Deref for Info {
    type Target = TcpInfo;

    fn deref(&self) -> &TcpInfo {
        match &self.0 {
            Kept::Own(info) => info,
            Kept::Listed(list, place) => &list[*place as usize],
        }
    }
}

/// A shared entry is copied before it is changed.
impl DerefMut for Info {
    fn deref_mut(&mut self) -> &mut TcpInfo {
        if let Kept::Listed(list, place) = &self.0 {
            *self = Info::from(list[*place as usize].clone());
        }
        match &mut self.0 {
            Kept::Own(info) => info,
            Kept::Listed(..) => unreachable!("it was made its own"),
        }
    }
}

impl PartialEq for Info {
    fn eq(&self, other: &Info) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_structure_yields_none_at_every_length() {
        let full: Vec<u8> = (0..CAPACITY).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let mut info = TcpInfo::default();
        let mut known_before = 0;
        for len in 0..=full.len() {
            info.load(&full[..len]);
            let mut known = 0;
            info.for_each(|_, value| known += usize::from(value.is_some()));
            assert!(known >= known_before, "length {len}");
            known_before = known;
        }
        assert_eq!(known_before, TcpInfo::FIELDS.len());
        info.load(&full[..104]);
        assert!(info.total_retrans().is_some() && info.pacing_rate_bytes_per_s().is_none());
    }

    #[test]
    fn what_is_shared_is_copied_before_it_is_changed() {
        let mut first = TcpInfo::default();
        assert!(first.set("rtt_us", 1));
        let list = Arc::new(vec![first.clone(), TcpInfo::default()]);
        let mut info = Info::listed(&list, 0);
        let kept = info.clone();
        assert_eq!(info, Info::from(first));
        assert!(info.set("rtt_us", 2));
        assert_eq!((info.rtt_us(), kept.rtt_us(), list[0].rtt_us()), (Some(2), Some(1), Some(1)));
        assert_eq!(Info::listed(&list, 1).rtt_us(), None);
    }

    #[test]
    fn fields_written_by_name_read_back() {
        let mut info = TcpInfo::default();
        assert!(info.set("rtt_us", 1234) && info.set("last_ack_recv_ms", 60_000));
        assert_eq!((info.rtt_us(), info.last_ack_recv_ms()), (Some(1234), Some(60_000)));
        assert_eq!(info.bytes_acked(), None);
        assert!(!info.set("no_such_field", 1) && !info.set("backoff", 256));
    }
}
