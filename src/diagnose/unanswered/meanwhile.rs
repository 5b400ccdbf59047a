//! What became of other connects to the same port, or of the same programs, between the samples.
//!
//! Input: the sums of a trace; without one, rows that are new in the second sample. Output: [`Meanwhile`]. Not here: what it says of a
//! cause.

use rustc_hash::FxHashSet;

use crate::diagnose::connect_causes::RESOLUTION_MS;
use crate::diagnose::view::View;
use crate::model::errno::Errno;
use crate::model::traced::{ConnectFailure, Connects};
use crate::model::{Endpoint, Family, NetnsId, Socket, State};

/// Connects that ended while the attempts wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meanwhile {
    /// Connects to the same address and port that were answered.
    pub answered: u64,
    /// Of these, so many only after their SYN had been repeated; only a trace tells.
    pub late: Option<u64>,
    /// The attempts began before all of these ended.
    pub is_since: bool,
    /// Connects there that ended because a router said that the host cannot be reached, after it had looked for it.
    pub unreachable: u64,
    /// Connections there that were reset though their request had no answer.
    pub cut: u64,
    /// Connects of the same programs to the same port, over the other family and of other addresses of this one, that were answered.
    pub other_family: u64,
    pub other_addresses: u64,
}

impl Meanwhile {
    /// `programs`: who makes the attempts; `working`: rows of connections to the port that were heard since they began.
    #[must_use]
    pub fn of(
        view: &View<'_>,
        (netns, to): (Option<NetnsId>, Endpoint),
        programs: &FxHashSet<&str>,
        working: &[&Socket],
        since_ms: u64,
    ) -> Meanwhile {
        let Some(traced) = &view.now.traced else {
            let is_new =
                |s: &&&Socket| view.before.is_some() && view.earlier(s).is_none_or(|e| e.state == State::SynSent);
            let answered = working.iter().filter(is_new).count() as u64;
            return Meanwhile { answered, is_since: true, ..Meanwhile::default() };
        };
        let here = || traced.connects.iter().filter(move |c| c.netns == netns && c.to == to);
        let of_program = |c: &&Connects| c.comm().is_some_and(|comm| programs.contains(comm));
        let elsewhere = |same_family: bool| -> u64 {
            let fits = |c: &&Connects| {
                (c.netns, c.to.port) == (netns, to.port)
                    && c.to != to
                    && (Family::of(c.to.addr) == Family::of(to.addr)) == same_family
            };
            traced.connects.iter().filter(fits).filter(of_program).map(|c| c.succeeded).sum()
        };
        let resets = traced
            .resets
            .iter()
            .filter(|r| (r.netns, r.service) == (netns, to) && !r.served_here && r.sent.is_none() && r.unanswered > 0);
        Meanwhile {
            answered: here().map(|c| c.succeeded).sum(),
            late: here().map(|c| c.succeeded_late).sum(),
            is_since: since_ms >= traced.duration_ms,
            unreachable: here().map(unreachable).sum(),
            cut: resets.map(|r| r.unanswered).sum(),
            other_family: elsewhere(false),
            other_addresses: elsewhere(true),
        }
    }
}

/// How many of these failed because a router looked for the host in vain.
fn unreachable(connects: &Connects) -> u64 {
    if connects.longest_wait_ms().is_none_or(|ms| ms < RESOLUTION_MS) {
        return 0;
    }
    let is = |kind: ConnectFailure| kind == ConnectFailure::Errno(Errno::EHOSTUNREACH);
    connects.failed.iter().filter(|(kind, _)| is(*kind)).map(|(_, n)| n).sum()
}
