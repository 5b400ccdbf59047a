//! Sums and quantiles per group: bytes, retransmissions, queues, round-trip times.
//!
//! Input: sockets, one at a time. Output: a value per measure, `None` where no socket of the group has it: unknown is not
//! zero. Sockets are not kept: round-trip times are exact up to [`EXACT`] of them, then counted in buckets of 6 % width.

use crate::model::column::{Kind, Needs};
use crate::model::{Socket, State};

/// What can be summed over a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    BytesSent,
    BytesAcked,
    BytesReceived,
    BytesRetrans,
    RetransShare,
    RttMedian,
    RttP99,
    Unacked,
    SendQ,
    RecvQ,
}

impl Sum {
    pub const ALL: [Sum; 10] = [
        Sum::BytesSent,
        Sum::BytesAcked,
        Sum::BytesReceived,
        Sum::BytesRetrans,
        Sum::RetransShare,
        Sum::RttMedian,
        Sum::RttP99,
        Sum::Unacked,
        Sum::SendQ,
        Sum::RecvQ,
    ];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Sum::BytesSent => "bytes-sent",
            Sum::BytesAcked => "bytes-acked",
            Sum::BytesReceived => "bytes-received",
            Sum::BytesRetrans => "bytes-retrans",
            Sum::RetransShare => "retrans-share",
            Sum::RttMedian => "rtt-median",
            Sum::RttP99 => "rtt-p99",
            Sum::Unacked => "unacked",
            Sum::SendQ => "send-q",
            Sum::RecvQ => "recv-q",
        }
    }

    /// The key in JSON.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Sum::BytesSent => "bytes_sent",
            Sum::BytesAcked => "bytes_acked",
            Sum::BytesReceived => "bytes_received",
            Sum::BytesRetrans => "bytes_retrans",
            Sum::RetransShare => "retrans_share",
            Sum::RttMedian => "rtt_median_us",
            Sum::RttP99 => "rtt_p99_us",
            Sum::Unacked => "unacked",
            Sum::SendQ => "send_q_bytes",
            Sum::RecvQ => "recv_q_bytes",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Sum> {
        let word = word.trim().to_ascii_lowercase().replace('_', "-");
        Sum::ALL.into_iter().find(|s| s.name() == word)
    }

    /// The kind of value; a share is [`Amount::Share`] and has none.
    #[must_use]
    pub const fn kind(self) -> Option<Kind> {
        match self {
            Sum::RetransShare => None,
            Sum::RttMedian | Sum::RttP99 => Some(Kind::Micros),
            Sum::Unacked => Some(Kind::Count),
            _ => Some(Kind::Bytes),
        }
    }

    /// What it needs of the kernel beyond the bare row.
    #[must_use]
    pub const fn needs(self) -> Needs {
        match self {
            Sum::SendQ | Sum::RecvQ => Needs::NONE,
            _ => Needs::INFO,
        }
    }
}

/// A value of a group.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Amount {
    Number(u64),
    /// From 0 to 1.
    Share(f64),
}

/// A sum of what some sockets have: `None` until one has it.
#[derive(Clone, Copy, Debug, Default)]
struct Total(Option<u64>);

impl Total {
    fn add(&mut self, more: Option<u64>) {
        if let Some(more) = more {
            self.0 = Some(self.0.unwrap_or(0).saturating_add(more));
        }
    }
}

/// The sums of one group.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// Sockets with `tcp_info`.
    measured: u64,
    bytes_sent: Total,
    bytes_acked: Total,
    bytes_received: Total,
    bytes_retrans: Total,
    /// Bytes sent by the sockets that also tell what they retransmitted.
    sent_with_retrans: Total,
    unacked: Total,
    send_q: Total,
    recv_q: Total,
    rtt: Quantiles,
}

impl Sums {
    /// Adds a socket; round-trip times only where they are wanted, because they take memory.
    pub fn add(&mut self, socket: &Socket, with_rtt: bool) {
        // On LISTEN the queues are connections, not bytes.
        if socket.state != State::Listen {
            self.send_q.add(socket.send_q_bytes.map(u64::from));
            self.recv_q.add(Some(u64::from(socket.recv_q_bytes)));
        }
        let Some(info) = socket.info.as_deref().filter(|_| socket.state.has_peer()) else { return };
        self.measured += 1;
        let (sent, retrans) = (info.bytes_sent(), info.bytes_retrans());
        self.bytes_sent.add(sent);
        self.bytes_retrans.add(retrans);
        self.sent_with_retrans.add(sent.filter(|_| retrans.is_some()));
        self.bytes_acked.add(info.bytes_acked());
        self.bytes_received.add(info.bytes_received());
        self.unacked.add(info.unacked().map(u64::from));
        if let Some(rtt) = info.rtt_us().filter(|_| with_rtt) {
            self.rtt.add(rtt);
        }
    }

    pub fn merge(&mut self, other: &Sums) {
        self.measured += other.measured;
        for (mine, theirs) in [
            (&mut self.bytes_sent, other.bytes_sent),
            (&mut self.bytes_acked, other.bytes_acked),
            (&mut self.bytes_received, other.bytes_received),
            (&mut self.bytes_retrans, other.bytes_retrans),
            (&mut self.sent_with_retrans, other.sent_with_retrans),
            (&mut self.unacked, other.unacked),
            (&mut self.send_q, other.send_q),
            (&mut self.recv_q, other.recv_q),
        ] {
            mine.add(theirs.0);
        }
        self.rtt.merge(&other.rtt);
    }

    /// Of how many sockets `tcp_info` was read.
    #[must_use]
    pub fn measured(&self) -> u64 {
        self.measured
    }

    /// The value; `None` where no socket has it.
    #[must_use]
    pub fn get(&self, sum: Sum) -> Option<Amount> {
        let number = match sum {
            Sum::BytesSent => self.bytes_sent.0,
            Sum::BytesAcked => self.bytes_acked.0,
            Sum::BytesReceived => self.bytes_received.0,
            Sum::BytesRetrans => self.bytes_retrans.0,
            Sum::RetransShare => {
                let sent = self.sent_with_retrans.0.filter(|n| *n > 0)?;
                #[allow(clippy::cast_precision_loss, reason = "a share needs no 53 bits")]
                let share = self.bytes_retrans.0? as f64 / sent as f64;
                return Some(Amount::Share(share.min(1.0)));
            }
            Sum::RttMedian => self.rtt.at(50).map(u64::from),
            Sum::RttP99 => self.rtt.at(99).map(u64::from),
            Sum::Unacked => self.unacked.0,
            Sum::SendQ => self.send_q.0,
            Sum::RecvQ => self.recv_q.0,
        };
        number.map(Amount::Number)
    }
}

/// Values of a group that are kept as they are.
const EXACT: usize = 256;
/// Buckets per power of two.
const STEPS: u32 = 16;
const BUCKETS: usize = 29 * STEPS as usize;

/// Quantiles of numbers.
#[derive(Clone, Debug)]
enum Quantiles {
    Exact(Vec<u32>),
    Counted { n: u64, buckets: Box<[u32; BUCKETS]> },
}

impl Default for Quantiles {
    fn default() -> Quantiles {
        Quantiles::Exact(Vec::new())
    }
}

/// Below 16 a value has its own bucket, above it a sixteenth of its power of two.
fn bucket(value: u32) -> usize {
    let power = value.max(STEPS).ilog2() - STEPS.ilog2();
    (power * STEPS + (value >> power)) as usize
}

/// The middle of a bucket.
fn middle(bucket: usize) -> u32 {
    let (bucket, steps) = (bucket as u64, u64::from(STEPS));
    if bucket < 2 * steps {
        return u32::try_from(bucket).unwrap_or(u32::MAX);
    }
    let power = bucket / steps - 1;
    let low = (bucket - power * steps) << power;
    u32::try_from(low + (1 << power) / 2).unwrap_or(u32::MAX)
}

impl Quantiles {
    fn add(&mut self, value: u32) {
        match self {
            Quantiles::Exact(values) if values.len() < EXACT => values.push(value),
            Quantiles::Exact(values) => {
                let mut buckets = Box::new([0; BUCKETS]);
                for value in values.iter().copied().chain([value]) {
                    buckets[bucket(value)] += 1;
                }
                *self = Quantiles::Counted { n: EXACT as u64 + 1, buckets };
            }
            Quantiles::Counted { n, buckets } => {
                *n += 1;
                buckets[bucket(value)] += 1;
            }
        }
    }

    fn merge(&mut self, other: &Quantiles) {
        match other {
            Quantiles::Exact(values) => values.iter().for_each(|value| self.add(*value)),
            Quantiles::Counted { n, buckets } => {
                let mut sum = (*n, buckets.clone());
                match self {
                    Quantiles::Exact(values) => {
                        sum.0 += values.len() as u64;
                        for value in values {
                            sum.1[bucket(*value)] += 1;
                        }
                    }
                    Quantiles::Counted { n, buckets } => {
                        sum.0 += *n;
                        sum.1.iter_mut().zip(buckets.iter()).for_each(|(mine, theirs)| *mine += theirs);
                    }
                }
                *self = Quantiles::Counted { n: sum.0, buckets: sum.1 };
            }
        }
    }

    /// The smallest value that this many percent do not exceed.
    fn at(&self, percent: u64) -> Option<u32> {
        match self {
            Quantiles::Exact(values) => {
                let mut values = values.clone();
                values.sort_unstable();
                let rank = (values.len() as u64 * percent).div_ceil(100);
                values.get(usize::try_from(rank).ok()?.checked_sub(1)?).copied()
            }
            Quantiles::Counted { n, buckets } => {
                let mut left = (n * percent).div_ceil(100);
                buckets.iter().enumerate().find_map(|(i, count)| {
                    let here = u64::from(*count);
                    if here >= left {
                        return Some(middle(i));
                    }
                    left -= here;
                    None
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TcpInfo;

    #[test]
    fn quantiles_are_exact_in_small_groups_and_near_in_large_ones() {
        let mut small = Quantiles::default();
        assert_eq!(small.at(50), None);
        (1..=100).for_each(|n| small.add(n));
        assert_eq!((small.at(50), small.at(99)), (Some(50), Some(99)));
        let values: Vec<u32> = (0..20_000u32).map(|n| n.wrapping_mul(7919) % 100_000 + 1).collect();
        let (mut whole, mut halves) = (Quantiles::default(), [Quantiles::default(), Quantiles::default()]);
        for (i, value) in values.iter().enumerate() {
            whole.add(*value);
            halves[usize::from(i >= 100)].add(*value);
        }
        let [mut first, second] = halves;
        first.merge(&second);
        let mut sorted = values;
        sorted.sort_unstable();
        for (percent, place) in [(50, sorted.len() / 2), (99, sorted.len() * 99 / 100)] {
            let exact = f64::from(sorted[place]);
            for quantiles in [&whole, &first] {
                let told = f64::from(quantiles.at(percent).unwrap());
                assert!((told - exact).abs() <= exact * 0.04, "{percent}: {told} for {exact}");
            }
        }
    }

    #[test]
    fn every_value_has_a_bucket_near_it() {
        for value in (0..=5000).chain([65_535, 1 << 20, u32::MAX / 2, u32::MAX]) {
            let near = middle(bucket(value));
            let far = f64::from(near.abs_diff(value));
            assert!(bucket(value) < BUCKETS && far <= f64::from(value) / 16.0, "{value}: {near}");
        }
    }

    #[test]
    fn what_no_socket_has_is_unknown_and_not_zero() {
        let mut sums = Sums::default();
        let bare = Socket { state: State::TimeWait, ..Socket::default() };
        sums.add(&bare, true);
        for sum in Sum::ALL {
            let zero = (sum == Sum::RecvQ).then_some(Amount::Number(0));
            assert_eq!(sums.get(sum), zero, "{sum:?}");
        }
        let mut info = TcpInfo::default();
        info.load(&[0; 232]);
        assert!(info.set("bytes_sent", 1000) && info.set("bytes_retrans", 50) && info.set("rtt_us", 700));
        let open = Socket { state: State::Established, info: Some(info.into()), ..Socket::default() };
        sums.add(&open, true);
        let mut other = Sums::default();
        other.add(&open, true);
        sums.merge(&other);
        assert_eq!((sums.measured(), sums.get(Sum::BytesSent)), (2, Some(Amount::Number(2000))));
        assert_eq!(sums.get(Sum::RetransShare), Some(Amount::Share(0.05)));
        assert_eq!(sums.get(Sum::RttMedian), Some(Amount::Number(700)));
        // The queue of a listener counts connections.
        let mut listening = Sums::default();
        listening.add(&Socket { state: State::Listen, send_q_bytes: Some(128), ..Socket::default() }, true);
        assert_eq!((listening.get(Sum::SendQ), listening.get(Sum::RecvQ)), (None, None));
    }
}
