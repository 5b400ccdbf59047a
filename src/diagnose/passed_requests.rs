//! Requests that a program passed on: the connections of its own on which it asked somebody else and waits for the answer.
//!
//! Input: requests that a program has read and not answered, by holder. Output: its connections that wait, and how many of the requests
//! one of them was asked for, by the kernel's stamps: what came on one was sent on the other then. Not here: what it means, and the
//! ends that a relay passes on (`relay`).

use rustc_hash::FxHashSet;

use crate::aggregate::Role;
use crate::diagnose::finding::most_frequent;
use crate::diagnose::last_word;
use crate::diagnose::peers::{self, Group};
use crate::diagnose::view::View;
use crate::model::{Socket, State};

/// A request is passed on within this: a turn of the program's loop, a connect, and ticks of the clock (policy).
const PASSED_WITHIN_MS: u64 = 100;
/// Stamps of one moment may be in two ticks of the kernel's clock (`HZ` 100).
const TICK_MS: u64 = 10;
/// Percent of the requests that were passed on, for all of them to wait for that.
const MOST_PERCENT: u64 = 75;
/// Fewer may be chance.
const FEW: u64 = 3;
const NAMED: usize = 5;

/// What programs wait for themselves.
#[derive(Default)]
pub struct Upstream<'a> {
    /// Whether any of the programs is known: only then no connection means that there is none.
    pub is_known: bool,
    /// Their connections on which they had the last word, or that do not open.
    pub waiting: Vec<&'a Socket>,
    /// Requests that have one of these of their own.
    pub passed_on: u64,
}

impl<'a> Upstream<'a> {
    /// The requests, by the process that has read them.
    #[must_use]
    pub fn of(view: &View<'a>, requests: &[Group<'_>]) -> Upstream<'a> {
        let mut upstream = Upstream::default();
        for group in requests {
            let Some(owner) = group.owner else { continue };
            upstream.is_known = true;
            // A program that calls itself holds the other ends of the requests too.
            let callers: FxHashSet<_> =
                group.rows.iter().map(|s| (s.peer.normalised(), s.local.normalised())).collect();
            let is_caller = |s: &Socket| callers.contains(&(s.local.normalised(), s.peer.normalised()));
            let mut own: Vec<(&Socket, Asked)> = view
                .rows()
                .filter(|(s, role)| matches!(role, Role::Client | Role::Unknown) && s.state.has_peer())
                .filter(|(s, _)| !is_caller(s))
                .filter_map(|(s, _)| Some((s, waits(s)?)))
                .filter(|(s, _)| view.holding(s).any(|p| p.pid == owner.pid))
                .collect();
            upstream.waiting.extend(own.iter().map(|(s, _)| *s));
            for asked_ms in group.rows.iter().filter_map(|s| Some(last_word::of(s)?.ago_ms)) {
                // It was sent on after it came.
                let is_its = |asked: Asked| match asked {
                    Asked::Ago(ms) => ms <= asked_ms + TICK_MS && asked_ms.saturating_sub(ms) <= PASSED_WITHIN_MS,
                    Asked::Nothing => false,
                };
                if let Some(at) = own.iter().position(|(_, asked)| is_its(*asked)) {
                    own.swap_remove(at);
                    upstream.passed_on += 1;
                }
            }
        }
        upstream
    }

    /// Whether most of so many requests wait for what they were passed on to.
    #[must_use]
    pub fn carries_most(&self, of: usize) -> bool {
        self.passed_on >= FEW && self.passed_on * 100 >= of as u64 * MOST_PERCENT
    }

    /// Where they lead: an endpoint, or an address with several ports; `None` where that is not one.
    #[must_use]
    pub fn to(&self) -> Option<String> {
        let to = peers::common_peer(&self.waiting)?;
        Some(if to.port == 0 { to.addr.to_string() } else { to.to_string() })
    }

    /// To whom they lead, with their numbers.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        most_frequent(self.waiting.iter().map(|s| s.peer.normalised().to_string()), NAMED)
    }
}

/// What a connection that waits for its peer was used for.
#[derive(Clone, Copy)]
enum Asked {
    /// It does not open.
    Nothing,
    Ago(u64),
}

/// Whether a connection waits for its peer, and since when.
fn waits(socket: &Socket) -> Option<Asked> {
    if socket.state == State::SynSent {
        return Some(Asked::Nothing);
    }
    if !peers::is_held(socket, &[State::Established]) || socket.recv_q_bytes > 0 {
        return None;
    }
    last_word::unanswered_ms(socket).map(Asked::Ago)
}
