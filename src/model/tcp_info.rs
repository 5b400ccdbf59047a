//! `struct tcp_info`, read by length.
//!
//! Input: the bytes of `INET_DIAG_INFO`, of any kernel. Output: one accessor per field, `None` where this kernel's
//! structure ends before it. The rules interpret the values.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Bytes kept: what Linux 6.18 sends. The tail of a longer structure is dropped.
const CAPACITY: usize = 280;

/// The same in words, of which the structure consists: every field is in one, or is two of them.
const WORDS: usize = CAPACITY / 4;
/// How many of them the bits of a number tell.
const BITS: usize = u32::BITS as usize;

/// `struct tcp_info` (`include/uapi/linux/tcp.h`), kept as the kernel sent it: the shorter structure of an older kernel
/// yields `None`, never zero. It is whole, or an entry of an [`InfoList`].
#[derive(Clone)]
pub struct TcpInfo(Kept);

#[derive(Clone)]
enum Kept {
    Whole(Box<Whole>),
    Listed(Arc<InfoList>, u32),
}

/// What is beyond the length is zero.
#[derive(Clone)]
struct Whole {
    len: u16,
    words: [u32; WORDS],
}

impl Whole {
    const EMPTY: Whole = Whole { len: 0, words: [0; WORDS] };
}

impl Default for TcpInfo {
    fn default() -> TcpInfo {
        TcpInfo(Kept::Whole(Box::new(Whole::EMPTY)))
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
                self.read($offset).map($kind::from_ne_bytes)
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
                        self.write::<SIZE>($offset, value.to_ne_bytes());
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
        let bytes = &bytes[..bytes.len().min(CAPACITY)];
        let whole = self.whole();
        let mut words = whole.words.iter_mut();
        let full = bytes.chunks_exact(4);
        let rest = full.remainder();
        for (four, word) in full.zip(words.by_ref()) {
            *word = u32::from_ne_bytes([four[0], four[1], four[2], four[3]]);
        }
        if !rest.is_empty()
            && let Some(word) = words.next()
        {
            let mut four = [0; 4];
            four[..rest.len()].copy_from_slice(rest);
            *word = u32::from_ne_bytes(four);
        }
        // A scratch row is loaded again and again, nearly always with the same length.
        if usize::from(whole.len) > bytes.len() {
            words.for_each(|word| *word = 0);
        }
        whole.len = length(bytes.len());
    }

    /// How many bytes of the structure this kernel sent, up to what is kept.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        usize::from(match &self.0 {
            Kept::Whole(whole) => whole.len,
            Kept::Listed(list, place) => list.entries[*place as usize].len,
        })
    }

    /// The structure in words of four bytes; the last one may be cut.
    pub fn words(&self) -> impl Iterator<Item = u32> {
        (0..self.byte_len().div_ceil(4)).map(|place| self.word(place))
    }

    #[inline]
    fn word(&self, place: usize) -> u32 {
        match &self.0 {
            Kept::Whole(whole) => whole.words[place],
            Kept::Listed(list, entry) => list.word(*entry, place),
        }
    }

    /// The bytes of a field; `None` where the structure ends before it does.
    #[inline]
    fn read<const SIZE: usize>(&self, offset: usize) -> Option<[u8; SIZE]> {
        if offset + SIZE > self.byte_len() {
            return None;
        }
        let (place, within) = (offset / 4, offset % 4);
        let mut two = [0; 8];
        two[..4].copy_from_slice(&self.word(place).to_ne_bytes());
        if within + SIZE > 4 {
            two[4..].copy_from_slice(&self.word(place + 1).to_ne_bytes());
        }
        two.get(within..within + SIZE)?.try_into().ok()
    }

    fn write<const SIZE: usize>(&mut self, offset: usize, bytes: [u8; SIZE]) {
        let whole = self.whole();
        for (at, byte) in (offset..).zip(bytes) {
            let word = &mut whole.words[at / 4];
            let mut four = word.to_ne_bytes();
            four[at % 4] = byte;
            *word = u32::from_ne_bytes(four);
        }
        whole.len = whole.len.max(length(offset + SIZE));
    }

    /// What can be changed: an entry of a list is copied first.
    fn whole(&mut self) -> &mut Whole {
        if let Kept::Listed(..) = self.0 {
            let mut whole = Box::new(Whole { len: length(self.byte_len()), ..Whole::EMPTY });
            whole.words.iter_mut().zip(self.words()).for_each(|(to, word)| *to = word);
            self.0 = Kept::Whole(whole);
        }
        match &mut self.0 {
            Kept::Whole(whole) => whole,
            Kept::Listed(..) => unreachable!("it was made whole"),
        }
    }

    /// How long ago the peer was last heard: data, or an acknowledgement.
    #[must_use]
    pub fn last_heard_ms(&self) -> Option<u32> {
        Some(self.last_ack_recv_ms()?.min(self.last_data_recv_ms()?))
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

/// A length of at most [`CAPACITY`], or a place in the words of a full list.
const fn length(bytes: usize) -> u16 {
    debug_assert!(bytes <= Packing::ROWS * WORDS);
    #[allow(clippy::cast_possible_truncation, reason = "both fit")]
    let len = bytes as u16;
    len
}

impl PartialEq for TcpInfo {
    fn eq(&self, other: &TcpInfo) -> bool {
        self.byte_len() == other.byte_len() && self.words().eq(other.words())
    }
}

impl Eq for TcpInfo {}

/// The `tcp_info` of rows that are kept together. Most of it is alike from row to row (segment sizes, windows, what
/// was never measured or never happened), so an entry keeps the words in which it differs from the first one: a third
/// of the structure for a connection that talks, a sixth for one at rest.
pub struct InfoList {
    first: [u32; WORDS],
    entries: Box<[Entry]>,
    words: Box<[u32]>,
}

/// One `tcp_info` of a list.
#[derive(Clone, Copy)]
struct Entry {
    /// A bit for each word that is not that of the first entry.
    differs: [u32; WORDS.div_ceil(BITS)],
    /// Where these words begin in the list of all.
    start: u16,
    len: u16,
}

impl InfoList {
    #[inline]
    fn word(&self, entry: u32, place: usize) -> u32 {
        let Entry { differs, start, .. } = &self.entries[entry as usize];
        let (block, bit) = (place / BITS, place % BITS);
        if differs[block] >> bit & 1 == 0 {
            return self.first[place];
        }
        let before: u32 = differs[..block].iter().map(|bits| bits.count_ones()).sum();
        let beside = (differs[block] & !(u32::MAX << bit)).count_ones();
        self.words[usize::from(*start) + (before + beside) as usize]
    }
}

/// Makes [`InfoList`]s one after the other, of up to [`Packing::ROWS`] entries.
#[derive(Default)]
pub struct Packing {
    first: Option<[u32; WORDS]>,
    entries: Vec<Entry>,
    words: Vec<u32>,
}

impl Packing {
    /// Few enough that rows are in the cache when they get their entry, and that the words are counted in two bytes.
    pub const ROWS: usize = 64;

    /// Adds a `tcp_info`, of which there is room for [`Packing::ROWS`].
    pub fn push(&mut self, info: &TcpInfo) {
        let copy;
        let whole: &Whole = match &info.0 {
            Kept::Whole(whole) => whole,
            Kept::Listed(..) => {
                let mut own = info.clone();
                copy = own.whole().clone();
                &copy
            }
        };
        let first = self.first.get_or_insert(whole.words);
        debug_assert!(self.entries.len() < Packing::ROWS, "the list is full");
        let mut entry = Entry { differs: [0; WORDS.div_ceil(BITS)], start: length(self.words.len()), len: whole.len };
        let blocks = whole.words.chunks(BITS).zip(first.chunks(BITS));
        for (differs, (words, first)) in entry.differs.iter_mut().zip(blocks) {
            for (bit, (word, of_first)) in words.iter().zip(first).enumerate() {
                *differs |= u32::from(word != of_first) << bit;
            }
            let mut left = *differs;
            while left != 0 {
                self.words.push(words[left.trailing_zeros() as usize]);
                left &= left - 1;
            }
        }
        self.entries.push(entry);
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= Packing::ROWS
    }

    /// The entries of a list of those that were added since the last one, in their order.
    pub fn finish(&mut self) -> impl Iterator<Item = Info> + use<> {
        let list = InfoList {
            first: self.first.take().unwrap_or([0; WORDS]),
            entries: self.entries.as_slice().into(),
            words: self.words.as_slice().into(),
        };
        self.entries.clear();
        self.words.clear();
        let (list, places) = (Arc::new(list), 0..);
        let len = list.entries.len();
        places.take(len).map(move |place| Info(TcpInfo(Kept::Listed(Arc::clone(&list), place))))
    }
}

/// The `tcp_info` of a row.
#[derive(Clone, Default, PartialEq)]
pub struct Info(TcpInfo);

impl From<TcpInfo> for Info {
    fn from(info: TcpInfo) -> Info {
        Info(info)
    }
}

impl Deref for Info {
    type Target = TcpInfo;

    fn deref(&self) -> &TcpInfo {
        &self.0
    }
}

impl DerefMut for Info {
    fn deref_mut(&mut self) -> &mut TcpInfo {
        &mut self.0
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
    fn entries_of_a_list_are_what_was_put_in_whatever_their_length() {
        let mut packing = Packing::default();
        assert_eq!(packing.finish().count(), 0);
        // Numbers that differ everywhere, nowhere, and at some places; structures of every length among them.
        let bytes = |n: usize| -> Vec<u8> {
            let byte = |at: usize| if n % 7 < 2 { 0x5a } else { (at * n / 3 + at) % 251 };
            (0..CAPACITY).map(|at| u8::try_from(byte(at)).unwrap()).collect()
        };
        let mut wanted: Vec<TcpInfo> = (0..=CAPACITY)
            .map(|len| {
                let mut info = TcpInfo::default();
                info.load(&bytes(len)[..len]);
                info
            })
            .collect();
        wanted.reverse();
        let mut listed = Vec::new();
        for info in &wanted {
            packing.push(info);
            if packing.is_full() {
                listed.extend(packing.finish());
            }
        }
        listed.extend(packing.finish());
        assert_eq!(listed.len(), wanted.len());
        for (listed, wanted) in listed.iter().zip(&wanted) {
            let all = |info: &TcpInfo| {
                let mut all = vec![(info.byte_len() as u64, None)];
                info.for_each(|_, value| all.push((0, value)));
                all
            };
            assert_eq!(all(listed), all(wanted));
            assert_eq!(**listed, *wanted);
        }
        // What is listed can be listed again.
        listed.iter().take(Packing::ROWS).for_each(|info| packing.push(info));
        assert!(packing.finish().zip(&listed).all(|(again, once)| again == *once));
    }

    #[test]
    fn a_structure_that_is_loaded_again_keeps_nothing_of_the_one_before() {
        let mut info = TcpInfo::default();
        info.load(&[0xff; CAPACITY]);
        info.load(&[1; 102]);
        let mut fresh = TcpInfo::default();
        fresh.load(&[1; 102]);
        assert_eq!(info, fresh);
        assert!(info.set("snd_wnd_bytes", 7) && fresh.set("snd_wnd_bytes", 7));
        assert_eq!((info.total_retrans(), info.snd_wnd_bytes()), (Some(0x0101), Some(7)));
        assert_eq!(info, fresh);
    }

    #[test]
    fn what_is_shared_is_copied_before_it_is_changed() {
        let mut first = TcpInfo::default();
        assert!(first.set("rtt_us", 1));
        let mut packing = Packing::default();
        packing.push(&first);
        packing.push(&TcpInfo::default());
        let mut listed = packing.finish();
        let (mut info, second) = (listed.next().unwrap(), listed.next().unwrap());
        let kept = info.clone();
        assert_eq!(info, Info::from(first));
        assert!(info.set("rtt_us", 2));
        assert_eq!((info.rtt_us(), kept.rtt_us(), second.rtt_us()), (Some(2), Some(1), None));
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
