//! Whom failing connects hurt: whether they are over, hidden by another address, or most of what a program does.
//!
//! Input: the traced ends of connects to one destination beside all others. Output: [`Seen`], and a severity. Not here: why they fail.

use crate::diagnose::finding::Severity;
use crate::diagnose::measure::Share;
use crate::diagnose::view::View;
use crate::model::traced::{ConnectFailure, Connects, Resets, TracedInterval};
use crate::model::{State, StateSet};
use crate::text;

/// What fails once belongs to the network.
pub const FEW: u64 = 2;
/// Failures that cost so little are hidden by an attempt at another address (policy).
const QUICK_MS: u64 = 500;
/// After this many times the usual pause between two failures, and at least so long, they are over (policy).
const PAUSES: u64 = 10;
const QUIET_MS: u64 = 200;
/// A health check tries at a steady pace, no faster than this: the longest pause is not twice the shortest (policy).
const CHECK_MS: u64 = 100;
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
    /// They are refused at the steady pace of a timer, while the same process reaches the same port at other addresses: the health checks
    /// of one server of several.
    pub is_check: bool,
    /// Open connections to the destination were heard since the trace began.
    pub works_beside: bool,
    /// Open connections to the destination got a RST: the service had been there before.
    pub was_cut: bool,
}

impl Seen {
    #[must_use]
    pub fn of(view: &View<'_>, traced: &TracedInterval, connects: &Connects) -> Seen {
        Seen {
            is_over: is_over(traced, connects),
            falls_back: falls_back(traced, connects),
            is_check: is_check(traced, connects),
            works_beside: works_beside(view, traced, connects),
            was_cut: was_cut(traced, connects),
        }
    }

    /// Why they hurt nobody, as the end of a headline.
    #[must_use]
    pub fn past(self, traced: &TracedInterval, connects: &Connects) -> String {
        if self.is_over {
            let (_, last) = connects.failed_at_ms.unwrap_or_default();
            format!(", the last one {} ago; it works since", text::duration(traced.duration_ms.saturating_sub(last)))
        } else if self.is_check {
            "; at a steady pace, as health checks are, while it reaches this port at other addresses".to_owned()
        } else if self.falls_back {
            "; the program reaches the port at another address at once".to_owned()
        } else {
            String::new()
        }
    }
}

fn is_over(traced: &TracedInterval, connects: &Connects) -> bool {
    let Some((first, last)) = connects.failed_at_ms else { return false };
    let pause = last.saturating_sub(first) / connects.failures().saturating_sub(1).max(1);
    let quiet = traced.duration_ms.saturating_sub(last);
    connects.succeeded_since > 0 && quiet >= QUIET_MS.max(PAUSES * pause)
}

/// How many connects of the same program reached the same port at other addresses.
fn reached_elsewhere(traced: &TracedInterval, connects: &Connects) -> u64 {
    let elsewhere = |c: &&Connects| {
        (c.netns, c.to.port) == (connects.netns, connects.to.port)
            && c.to != connects.to
            && c.comm().is_some()
            && c.comm() == connects.comm()
    };
    traced.connects.iter().filter(elsewhere).map(|c| c.succeeded).sum()
}

fn falls_back(traced: &TracedInterval, connects: &Connects) -> bool {
    let at_least = connects.waits.iter().filter_map(|w| w.at_least_ms).max();
    let longest = connects.waited_ms.map(|(_, longest)| longest.max(at_least.unwrap_or(0)));
    longest.is_some_and(|ms| ms <= QUICK_MS) && reached_elsewhere(traced, connects) * 2 >= connects.failures()
}

fn is_check(traced: &TracedInterval, connects: &Connects) -> bool {
    let refused = connects.failed.iter().all(|(kind, _)| *kind == ConnectFailure::Refused);
    let alone = connects.program.as_ref().is_some_and(|p| p.processes == 1) && connects.succeeded == 0;
    let steady = connects.pauses_ms.is_some_and(|(least, most)| least >= CHECK_MS && most < 2 * least);
    refused && alone && steady && reached_elsewhere(traced, connects) >= FEW
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

fn was_cut(traced: &TracedInterval, connects: &Connects) -> bool {
    let of = |r: &&Resets| (r.netns, r.service) == (connects.netns, connects.to) && !r.served_here && r.sent.is_none();
    traced.resets.iter().filter(of).any(|r| r.open > 0)
}

/// For how long the longest that its program gave up had waited; `None` where all had begun before the trace, and no longer is known to
/// have passed than a program without patience waits.
#[must_use]
pub fn patience_ms(connects: &Connects) -> Option<u64> {
    let given_up = connects.waited(ConnectFailure::GivenUp)?;
    given_up.longest_ms().filter(|ms| given_up.ms.is_some() || *ms >= PATIENT_MS)
}

/// Failures that are errors for whoever waited: not a refusal, which programs that poll for a service expect, and not an attempt
/// that a program may have given up on purpose.
fn errors(connects: &Connects, told: bool) -> u64 {
    let patient = patience_ms(connects).is_none_or(|ms| ms >= PATIENT_MS);
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
    if !many && !hurts || seen.is_over || seen.falls_back || seen.is_check {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::NETNS;
    use crate::model::Endpoint;
    use crate::model::traced::Program;

    fn connects(
        addr: &str,
        succeeded: u64,
        failed: &[(ConnectFailure, u64)],
        pauses_ms: Option<(u64, u64)>,
    ) -> Connects {
        Connects {
            program: Some(Program { pid: 812, comm: "haproxy".into(), processes: 1 }),
            succeeded,
            failed: failed.to_vec(),
            failed_at_ms: Some((5, 1990)),
            pauses_ms,
            ..Connects::none(NETNS, Endpoint::new(addr.parse().unwrap(), 80))
        }
    }

    #[test]
    fn refused_checks_of_one_server_of_several_are_those_of_a_timer() {
        let is = |pauses, siblings, failed: &[(ConnectFailure, u64)]| {
            let stopped = connects("10.0.0.4", 0, failed, pauses);
            let groups = vec![connects("10.0.0.2", siblings, &[], None), stopped.clone()];
            is_check(&TracedInterval { duration_ms: 2000, connects: groups, ..TracedInterval::default() }, &stopped)
        };
        let refused = [(ConnectFailure::Refused, 10)];
        assert!(is(Some((195, 230)), 2, &refused));
        assert!(!is(Some((195, 230)), 1, &refused), "the others of the pool do not work");
        assert!(!is(Some((1, 600)), 2, &refused), "as users come");
        assert!(!is(Some((20, 30)), 2, &refused), "faster than any check");
        assert!(!is(None, 2, &refused));
        assert!(!is(Some((195, 230)), 2, &[(ConnectFailure::GivenUp, 10)]), "whoever waits is hurt");
    }
}
