//! Keys that sign segments (TCP MD5, TCP-AO): a host drops a SYN in silence whose signature is missing, wrong, or not expected.
//!
//! Input: the attempts, the listener where it can be read, and the counters of its namespace. Output: a weight. Not here: what a key
//! is, which nobody reads.

use crate::diagnose::hypothesis::{Cause, Weight};
use crate::diagnose::queues::Queue;
use crate::diagnose::reach;
use crate::diagnose::view::View;
use crate::model::Socket;
use crate::model::counter::Counter;
use crate::model::snapshot::Netns;
use crate::text;

pub const MISMATCH: Cause = Cause {
    id: "key-mismatch",
    text: "a key that signs segments (TCP MD5 or TCP-AO) is set on one side only, or is another one",
    predicts: "on the host that has the address a counter of dropped signatures grows (TCPMD5NotFound, TCPMD5Unexpected, \
               TCPMD5Failure, TCPAORequired, TCPAOKeyNotFound, TCPAOBad), and `ss -tni` shows `md5keys` as root",
    refuted_by: "no such counter grows there while SYNs are repeated, or neither side has a key",
    decided_by: "`nstat -az 'TcpExtTCPMD5*' 'TcpExtTCPAO*'` twice on the host that has the address; the keys of both \
                 sides (BGP: `password`)",
};

/// What a host counts when it drops a segment for its signature (`tcp_inbound_hash`).
const DROPPED: [Counter; 6] = [
    Counter::TcpExtTcpMd5Failure,
    Counter::TcpExtTcpMd5NotFound,
    Counter::TcpExtTcpMd5Unexpected,
    Counter::TcpExtTcpAoBad,
    Counter::TcpExtTcpAoKeyNotFound,
    Counter::TcpExtTcpAoRequired,
];
/// Protocols that are signed as a rule: BGP, MSDP, LDP.
const SIGNED_PORTS: [u16; 3] = [179, 639, 646];

/// Whether a key is set on one of these; `None` where the kernel did not tell. It tells the mark under the same condition.
fn have_key(rows: &[&Socket]) -> Option<bool> {
    let any = rows.iter().any(|s| s.md5_key);
    (any || !rows.is_empty() && rows.iter().all(|s| s.mark.is_some())).then_some(any)
}

/// How many segments a namespace dropped for their signatures: between the samples, and ever. A kernel lacks those of the other kind.
fn dropped(view: &View<'_>, netns: &Netns) -> (Option<u64>, Option<u64>) {
    let sum = |of: &dyn Fn(Counter) -> Option<u64>| {
        DROPPED.into_iter().filter_map(of).fold(None, |all: Option<u64>, n| Some(all.unwrap_or(0) + n))
    };
    (sum(&|c| view.delta(netns.inode, c)), sum(&|c| netns.counter(c)))
}

/// What is known of [`MISMATCH`].
///
/// `home`: the namespace that has the address, where it is in view; `working`: connections to the port that are answered.
#[must_use]
pub fn weigh(
    view: &View<'_>,
    rows: &[&Socket],
    working: &[&Socket],
    (home, queue): (Option<&Netns>, Option<&Queue<'_>>),
) -> Weight {
    let ours = have_key(rows);
    let theirs = queue.and_then(|q| have_key(&q.listeners));
    let repeated = reach::repeated(view, rows);
    let (grown, ever) = home.map_or((None, None), |netns| dropped(view, netns));
    let syns = || text::count(repeated, "SYN was", "SYNs were");
    let is_alike = |s: &&&Socket| {
        s.md5_key == (ours == Some(true))
            && rows.iter().any(|r| r.local.addr.to_canonical() == s.local.addr.to_canonical())
    };
    let works = ours.is_some() && working.iter().any(|s| is_alike(&s));
    match (grown, ever) {
        _ if works => Weight::Refuted("a connection from the same address that is signed alike works".into()),
        (_, Some(0)) => {
            Weight::Refuted("the host that has the address never dropped a segment for its signature".into())
        }
        (Some(0), _) if repeated > 0 => {
            Weight::Refuted(format!("{} repeated and none was dropped there for its signature", syns()))
        }
        (Some(n), _) if repeated > 0 && n >= repeated && (ours != Some(false) || theirs != Some(false)) => {
            Weight::Proven
        }
        _ if ours == Some(false) && theirs == Some(false) => Weight::Refuted("neither side has a key".into()),
        (Some(n), _) if n > 0 => Weight::Possible(0.6),
        _ if ours == Some(true) || theirs == Some(true) => Weight::Possible(0.9),
        _ if rows.first().is_some_and(|s| SIGNED_PORTS.contains(&s.peer.port)) => Weight::Possible(0.2),
        _ => Weight::Possible(0.02),
    }
}

/// The drops of the namespace that has the address between the samples, if there are any.
#[must_use]
pub fn evidence(view: &View<'_>, home: Option<&Netns>) -> Option<u64> {
    dropped(view, home?).0.filter(|n| *n > 0)
}
