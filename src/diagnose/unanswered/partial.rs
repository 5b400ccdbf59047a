//! A filter that lets a part of the connections to a port through: by their rate, their number, or their source.
//!
//! Input: the attempts, and the connections to the same port. Output: how those that work differ from those that wait, and what
//! that says of such a filter and of a full queue, which look alike. Not here: the other causes.

use rustc_hash::FxHashSet;

use crate::diagnose::hypothesis::{Cause, Weight};
use crate::diagnose::view::View;
use crate::model::{Socket, State, TcpInfo};

pub const FILTER: Cause = Cause {
    id: "partly-filtered",
    text: "a filter lets only a part of them through: by rate, number or source",
    predicts: "connections to this very port work and are served, others get no answer; or all that work have another source address",
    refuted_by: "no connection of this host to the port that is open",
    decided_by: "`nft -a list ruleset` and `iptables -vnL` at the peer, between, and here: rules with limit, hashlimit, connlimit or \
                 `ct count` whose counter grows; `tcpdump` at the peer: the SYNs arrive",
};

/// Fewer attempts may all have one source by chance.
const SAME_SOURCE: usize = 2;

/// So many that wait for their first byte are the queue itself, or all workers (policy).
const MANY: u64 = 3;

/// How the connections to the port stand beside the attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Those whose peer was heard since the attempts began.
    pub working: u64,
    /// Of these, those that are not over.
    pub open: u64,
    /// Of these, those that got data of the program at the other end: none waits in its accept queue.
    pub served: u64,
    /// Those that asked for something and got nothing: they may wait there.
    pub unserved: u64,
    /// Those that are open or were given up, were heard at any time, asked for something and got nothing.
    pub waiting: u64,
    /// Those that were opened and served between the samples.
    pub served_at_once: u64,
    /// Every attempt comes from an address from which nobody is answered.
    is_other_source: bool,
    /// Any that is open, or was until lately.
    is_open: bool,
}

impl Beside {
    /// `working` and `open`: connections to the port that were heard since the attempts (`rows`) began, and at any time.
    #[must_use]
    pub fn of(view: &View<'_>, rows: &[&Socket], working: &[&Socket], open: &[&Socket]) -> Beside {
        let has =
            |s: &Socket, field: fn(&TcpInfo) -> Option<u64>| s.info.as_deref().and_then(field).is_some_and(|n| n > 0);
        // A program that closed its end had accepted it.
        let is_served = |s: &&&Socket| s.state == State::TimeWait || has(s, TcpInfo::bytes_received);
        // One that is closed here and not there was given up: its program has no more than the kernel's word.
        let asked_in_vain = |s: &&&Socket| s.state == State::FinWait2 || !is_served(s) && has(s, TcpInfo::bytes_sent);
        let count = |wanted: &dyn Fn(&&&Socket) -> bool| working.iter().filter(wanted).count() as u64;
        let served = count(&is_served);
        let is_new = |s: &Socket| view.before.is_some() && view.earlier(s).is_none_or(|e| e.state == State::SynSent);
        let sources = |rows: &[&Socket]| -> FxHashSet<_> { rows.iter().map(|s| s.local.addr.to_canonical()).collect() };
        let is_other_source =
            rows.len() >= SAME_SOURCE && !working.is_empty() && sources(rows).is_disjoint(&sources(working));
        Beside {
            working: working.len() as u64,
            open: working.iter().filter(|s| s.state != State::TimeWait).count() as u64,
            served,
            unserved: count(&asked_in_vain),
            waiting: open.iter().filter(|s| s.state != State::TimeWait).filter(asked_in_vain).count() as u64,
            served_at_once: count(&|s| is_served(s) && is_new(s)),
            is_other_source,
            is_open: !open.is_empty(),
        }
    }

    /// Whether each of those that work was served.
    #[must_use]
    pub fn all_served(&self) -> bool {
        self.working > 0 && self.served == self.working
    }

    /// What it says of [`FILTER`]; `is_queue_free`: the listener's own queue was read and has room.
    #[must_use]
    pub fn weigh(&self, is_queue_free: bool) -> Weight {
        match self {
            _ if !self.is_open => Weight::Refuted("no connection of this host to the port is open".into()),
            _ if self.is_other_source => Weight::Possible(0.7),
            _ if is_queue_free => Weight::Possible(0.6),
            _ if self.unserved > 0 || self.waiting > 0 => Weight::Possible(0.15),
            _ if self.served_at_once > 0 || self.all_served() => Weight::Possible(0.5),
            _ if self.working > 0 => Weight::Possible(0.3),
            _ => Weight::Possible(0.1),
        }
    }

    /// What it says of a full accept queue that cannot be read: it takes no heed of the source, and who waits in it gets nothing.
    #[must_use]
    pub fn weigh_queue(&self, was_answered: bool) -> Weight {
        Weight::Possible(match self {
            _ if self.is_other_source => 0.1,
            _ if self.waiting >= MANY => 1.0,
            _ if self.unserved > 0 || self.waiting > 0 => 0.65,
            _ if self.served_at_once > 0 => 0.2,
            _ if self.all_served() => 0.3,
            _ if self.working > 0 || was_answered => 0.5,
            _ => 0.1,
        })
    }
}
