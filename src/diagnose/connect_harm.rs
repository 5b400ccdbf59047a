//! Whom failing connects hurt: whether they are over, hidden by another address, or most of what a program does.
//!
//! Input: the traced ends of connects to one destination beside all others. Output: [`Seen`], and a severity. Not here: why they fail.

use crate::diagnose::finding::Severity;
use crate::diagnose::measure::Share;
use crate::diagnose::view::View;
use crate::model::traced::{ConnectFailure, Connects, TracedInterval};
use crate::model::{State, StateSet};

/// What fails once belongs to the network.
pub const FEW: u64 = 2;
/// Failures that cost so little are hidden by an attempt at another address (policy).
const QUICK_MS: u64 = 500;
/// After this many times the usual pause between two failures, and at least so long, they are over (policy).
const PAUSES: u64 = 10;
const QUIET_MS: u64 = 200;
/// A program that gives up sooner may do so on purpose: no usual round trip is longer, and the kernel repeats a SYN after 1 s (policy).
pub const PATIENT_MS: u64 = 900;
/// Of a program that fails so often, in percent, somebody is hurt (policy).
const HALF_PERCENT: f64 = 50.0;

/// What the trace and the rows show beside the failures, looked up once for the causes and the severity.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// They have ended: the destination answers since, and none has failed for much longer than before.
    pub is_over: bool,
    /// The same program reaches the same port at another address instead, and loses little time.
    pub falls_back: bool,
    /// Open connections to the destination were heard since the trace began.
    pub works_beside: bool,
}

impl Seen {
    #[must_use]
    pub fn of(view: &View<'_>, traced: &TracedInterval, connects: &Connects) -> Seen {
        Seen {
            is_over: is_over(traced, connects),
            falls_back: falls_back(traced, connects),
            works_beside: works_beside(view, traced, connects),
        }
    }
}

fn is_over(traced: &TracedInterval, connects: &Connects) -> bool {
    let Some((first, last)) = connects.failed_at_ms else { return false };
    let pause = (last - first) / (connects.failures() - 1).max(1);
    let quiet = traced.duration_ms.saturating_sub(last);
    connects.succeeded_since > 0 && quiet >= QUIET_MS.max(PAUSES * pause)
}

fn falls_back(traced: &TracedInterval, connects: &Connects) -> bool {
    let elsewhere = |c: &&Connects| {
        (c.netns, c.to.port) == (connects.netns, connects.to.port)
            && c.to != connects.to
            && c.comm().is_some()
            && c.comm() == connects.comm()
    };
    let reached: u64 = traced.connects.iter().filter(elsewhere).map(|c| c.succeeded).sum();
    reached * 2 >= connects.failures() && connects.waited_ms.is_some_and(|(_, longest)| longest <= QUICK_MS)
}

fn works_beside(view: &View<'_>, traced: &TracedInterval, connects: &Connects) -> bool {
    const OPEN: StateSet = StateSet::of(&[State::Established, State::CloseWait]);
    view.now.sockets.iter().any(|s| {
        s.netns == connects.netns
            && s.peer.port == connects.to.port
            && OPEN.contains(s.state)
            && s.peer.normalised() == connects.to
            && view.heard_ms(s).is_some_and(|ms| ms <= traced.duration_ms)
    })
}

/// Failures that are errors for whoever waited: not a refusal, which programs that poll for a service expect, and not an attempt
/// that a program may have given up on purpose.
fn errors(connects: &Connects, told: bool) -> u64 {
    let patient = connects.waited_ms.is_none_or(|(_, longest)| longest >= PATIENT_MS);
    let is = |kind: ConnectFailure| match kind {
        ConnectFailure::Errno(_) | ConnectFailure::NoPort => true,
        ConnectFailure::GivenUp => patient || told,
        ConnectFailure::AtOnce => told || connects.failed.iter().any(|(k, _)| matches!(k, ConnectFailure::Errno(_))),
        ConnectFailure::Refused => false,
    };
    connects.failed.iter().filter(|(kind, _)| is(*kind)).map(|(_, n)| n).sum()
}

/// Whether half of what the program called anywhere failed, or more.
fn is_most_of_program(traced: &TracedInterval, connects: &Connects) -> bool {
    let same = |c: &&Connects| c.netns == connects.netns && c.comm().is_some() && c.comm() == connects.comm();
    let all: u64 = traced.connects.iter().filter(same).map(|c| c.failures() + c.succeeded).sum();
    Share::of(connects.failures(), all.max(connects.failures())).is_none_or(|share| share.percent() >= HALF_PERCENT)
}

/// `cause`: the likeliest; `told`: an ICMP message told the program.
#[must_use]
pub fn severity(
    view: &View<'_>,
    traced: &TracedInterval,
    connects: &Connects,
    seen: Seen,
    (cause, told): (Option<&str>, bool),
) -> Severity {
    let (failed, thresholds) = (connects.failures(), view.thresholds);
    let share = |n| Share::of(n, failed + connects.succeeded).map_or(100.0, Share::percent);
    let many = failed as f64 >= thresholds.connect_failures && share(failed) >= thresholds.connect_failure_percent;
    let errors = errors(connects, told);
    // A few are enough where they are half of all: how many there are in an interval depends on how long each waits.
    let hurts = errors >= FEW && share(errors) >= HALF_PERCENT;
    let waits = matches!(cause, Some("no-answer" | "unreachable" | "no-local-port" | "not-leaving"));
    if !many && !hurts || seen.is_over || seen.falls_back {
        Severity::Info
    } else if seen.works_beside {
        Severity::Warning
    } else if many && connects.succeeded == 0 && waits || hurts && is_most_of_program(traced, connects) {
        // None came through, or what came was not half of it.
        Severity::High
    } else {
        Severity::Warning
    }
}
