//! Connections that ended in order, counted by what the client got; and what ends a connection without a FIN.
//!
//! Input: bytes of both directions, and who closed first. Output: [`Counts`].

use crate::model::traced::Counts;
use crate::model::transition::Actor;

/// A line that says why a service takes no more connections is not longer.
pub(super) const BRIEF_BYTES: u64 = 300;
/// No message that says why is shorter; what asks for a password is.
const MESSAGE_BYTES: u64 = 40;

/// Which end of a connection cut it off before it had sent, or got, a byte.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Silent {
    /// Something had come, so this is one if it is the service.
    Server,
    /// It had sent something, so this is one if it is the client.
    Client,
}

/// A socket that its process ended without a FIN.
pub(super) struct CutOff {
    pub(super) silent: Option<Silent>,
    /// Within a second of the handshake, after no more than a line of ours.
    pub(super) fresh: bool,
    pub(super) at_ns: u64,
}

/// How connections ended, if the service is at the other end, and if it is here.
#[derive(Default)]
pub(super) struct EndSums {
    pub(super) actor: Option<Actor>,
    pub(super) called: Counts,
    pub(super) served: Counts,
}

/// How a connection ended, if the service is at one of its ends.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// Bytes of the client, and of the service.
    pub(super) asked: u64,
    pub(super) answered: u64,
    pub(super) service_first: bool,
    /// All of it took less than a second.
    pub(super) lately: bool,
    /// The first FIN followed the handshake at once.
    pub(super) at_once: bool,
}

/// Counts an end by what the client got.
pub(super) fn count(counts: &mut Counts, end: End) {
    let End { asked, answered, service_first, lately, at_once } = end;
    let at_once = at_once && service_first && asked == 0 && answered <= BRIEF_BYTES;
    counts.at_once = Some(counts.at_once.unwrap_or(0) + u64::from(at_once));
    if asked + answered == 0 {
        return;
    }
    counts.answered += u64::from(answered > 0);
    counts.given_up += u64::from(answered == 0 && !service_first && !lately);
    counts.unanswered += u64::from(answered == 0 && service_first);
    counts.brief += u64::from((1..=BRIEF_BYTES).contains(&answered) && service_first);
    let is_message = (MESSAGE_BYTES..=BRIEF_BYTES).contains(&answered);
    counts.message = Some(counts.message.unwrap_or(0) + u64::from(is_message));
}
