//! Connects by destination: what processes of one name did is one, and attempts of before the trace find their program.
//!
//! Input and output: groups of connects. Not here: how they are counted.

use crate::model::traced::{Connects, Program, Waited};
use crate::model::{Endpoint, NetnsId};

/// Destinations together, and in them the processes of one name.
pub(super) fn order(connects: &Connects) -> (Option<NetnsId>, Endpoint, Option<&str>, Option<u32>) {
    (connects.netns, connects.to, connects.comm(), connects.program.as_ref().map(|p| p.pid))
}

/// Attempts that began before the trace belong to the program that calls this destination, if there is only one. They come
/// in order.
pub(super) fn adopt(connects: &mut [Connects]) {
    for to_one in connects.chunk_by_mut(|a, b| (a.netns, a.to) == (b.netns, b.to)) {
        let mut programs = to_one.iter().filter_map(|c| c.program.as_ref());
        let Some(first) = programs.next() else { continue };
        if programs.any(|other| other.comm != first.comm) {
            continue;
        }
        let program = Program { processes: 0, ..first.clone() };
        for unknown in to_one.iter_mut().filter(|c| c.program.is_none()) {
            unknown.program = Some(program.clone());
        }
    }
}

/// Adds what other processes of the same name did.
pub(in crate::aggregate) fn merge(into: &mut Connects, other: &Connects) {
    // Between the failures of two processes lies another time than either has.
    into.pauses_ms =
        if into.failures() > 0 && other.failures() > 0 { None } else { into.pauses_ms.or(other.pauses_ms) };
    // Of two processes the one that failed last tells what came after.
    let last = |c: &Connects| c.failed_at_ms.map(|(_, last)| last);
    into.succeeded_since = match last(into).cmp(&last(other)) {
        std::cmp::Ordering::Less => other.succeeded_since,
        std::cmp::Ordering::Equal => into.succeeded_since + other.succeeded_since,
        std::cmp::Ordering::Greater => into.succeeded_since,
    };
    into.succeeded += other.succeeded;
    into.succeeded_late = into.succeeded_late.zip(other.succeeded_late).map(|(a, b)| a + b);
    for (kind, n) in &other.failed {
        match into.failed.iter_mut().find(|(known, _)| known == kind) {
            Some((_, count)) => *count += n,
            None => into.failed.push((*kind, *n)),
        }
    }
    let span = |a: Option<(u64, u64)>, b: Option<(u64, u64)>| match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    };
    into.waited_ms = span(into.waited_ms, other.waited_ms);
    into.failed_at_ms = span(into.failed_at_ms, other.failed_at_ms);
    into.answered_ms = span(into.answered_ms, other.answered_ms);
    into.succeeded_at_ms = span(into.succeeded_at_ms, other.succeeded_at_ms);
    for more in &other.waits {
        match into.waits.iter_mut().find(|w| w.failure == more.failure) {
            Some(w) => *w = Waited::new(w.failure, span(w.ms, more.ms), w.at_least_ms.max(more.at_least_ms)),
            None => into.waits.push(*more),
        }
    }
    if let (Some(program), Some(more)) = (&mut into.program, &other.program) {
        program.processes += more.processes;
    }
}
