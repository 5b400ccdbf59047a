//! Why data that had arrived was dropped, and whether its receive buffer had room.
//!
//! Input: connections in both samples, the limit of a control group. Output: facts and words for `rcvbuf-pruning`. Not here:
//! which cause is left.

use crate::diagnose::hypothesis::Cause;
use crate::diagnose::view::View;
use crate::model::Socket;
use crate::model::snapshot::GroupMemory;
use crate::text;

pub const CAUSES: &[Cause] = &[
    Cause {
        id: "host-memory",
        text: "the whole host is short of TCP memory",
        predicts: "the pages in use are above the second number of tcp_mem",
        refuted_by: "fewer pages in use",
        decided_by: "`mem` in /proc/net/sockstat of the initial namespace against net.ipv4.tcp_mem",
    },
    Cause {
        id: "group-memory",
        text: "its control group has reached the limit of its memory",
        predicts: "drops while the buffer has room, and a limit that is reached again and again",
        refuted_by: "no limit on the group or above it, or one that was never reached",
        decided_by: "memory.kmem.tcp.max_usage_in_bytes of its group (version 1); max of memory.events (version 2)",
    },
    Cause {
        id: "not-read",
        text: "the program does not read",
        predicts: "data waits in both samples, and none was taken",
        refuted_by: "bytes that were taken between the samples",
        decided_by: "recv-queue-stuck, which shows what blocks it",
    },
    Cause {
        id: "slow-reader",
        text: "the program reads more slowly than data comes",
        predicts: "bytes are taken, and the buffer is full all the same",
        refuted_by: "no byte that was taken, or an empty queue",
        decided_by: "Recv-Q over several looks: `tcpstate watch`",
    },
    Cause {
        id: "small-segments",
        text: "many small segments: their overhead fills the buffer before the window is used",
        predicts: "the memory is many times the bytes in the queue",
        refuted_by: "memory of less than four times the queue",
        decided_by: "`rmem_alloc` against Recv-Q in `tcpstate list -m`",
    },
    Cause {
        id: "out-of-order",
        text: "loss or reordering on the way fills the buffer with data that has to wait",
        predicts: "OfoPruned grows, and out-of-order segments come",
        refuted_by: "no out-of-order segment between the samples",
        decided_by: "`rcv_ooopack` in `tcpstate list -i`; `mtr -T` to the peer",
    },
    Cause {
        id: "small-buffer",
        text: "the receive buffer is too small: fixed by SO_RCVBUF, or by the maximum of tcp_rmem",
        predicts: "a full buffer that does not grow, and a program that reads",
        refuted_by: "a buffer that grew between the samples",
        decided_by: "the buffer in `tcpstate list -m` against net.ipv4.tcp_rmem and SO_RCVBUF in the program",
    },
];

/// To so many segments the kernel lowers the window that it would offer when it is short of memory, and to fewer when the
/// buffer itself is full (`tcp_adjust_rcv_ssthresh`, `tcp_clamp_window`).
const SHORT_SEGMENTS: u32 = 4;

/// Where the memory of a receive buffer stands, in both samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// One is three quarters full or more.
    Full,
    /// None is half full: its size did not limit, as far as it was seen.
    Roomy,
    Between,
}

impl Filling {
    #[must_use]
    pub fn of(view: &View<'_>, rows: &[&Socket]) -> Filling {
        let both = rows.iter().flat_map(|s| [Some(*s), view.earlier(s)]).flatten();
        let percents = both.filter_map(|s| s.skmem).filter(|m| m.rcvbuf_bytes > 0);
        let percents = percents.map(|m| u64::from(m.rmem_alloc_bytes) * 100 / u64::from(m.rcvbuf_bytes));
        match percents.max() {
            Some(75..) => Filling::Full,
            Some(..50) => Filling::Roomy,
            _ => Filling::Between,
        }
    }

    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Filling::Full => ", because the receive buffer was full",
            Filling::Roomy => ", though the receive buffer has room",
            Filling::Between => "",
        }
    }
}

/// Whether the kernel lowered the window of a connection because memory for it was refused.
#[must_use]
pub fn was_refused(socket: &Socket) -> bool {
    let of = || {
        let info = socket.info.as_deref()?;
        let least = info.advmss_bytes()?.checked_mul(SHORT_SEGMENTS)?;
        Some(least > 0 && info.rcv_ssthresh_bytes()? == least)
    };
    of() == Some(true)
}

/// `/web.service may use 128 KiB of TCP memory, has used 144 KiB at most`.
#[must_use]
pub fn words_of_limit(found: &GroupMemory) -> Option<String> {
    let of = if found.tcp_alone { "TCP memory" } else { "memory" };
    let limit = text::bytes(found.limit_bytes?);
    let most = found.most_bytes.map_or_else(
        || format!(", uses {}", text::bytes(found.used_bytes)),
        |most| format!(", has used {} at most", text::bytes(most)),
    );
    let hits = found.hits.map_or_else(String::new, |n| format!(", reached it {}", text::count(n, "time", "times")));
    Some(format!("{} may use {limit} of {of}{most}{hits}", found.group))
}
