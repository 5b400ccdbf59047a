//! What requests that nobody answers may mean: the pictures that they make, the causes of each, and how bad it is.
//!
//! Input: a picture and what was counted beside it. Output: weighed causes, a severity and its reason. Not here: which picture it is
//! (`silence`, and the rule).

use crate::diagnose::finding::Severity;
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::text;

pub const CAUSES: &[Cause] = &[
    Cause {
        id: "program-stuck",
        text: "the program behind the address, or a part of it (one worker, what accepts), is stopped, stuck or full",
        predicts: "no request is answered, or whole connections never get a byte while others are answered; it does not \
                   close what its clients gave up",
        refuted_by: "an answer on the same connections, later",
        decided_by: "`tcpstate doctor` on that host; a request by hand with a deadline",
    },
    Cause {
        id: "backend-behind-it",
        text: "a balancer or proxy at that address waits for a backend of its own",
        predicts: "some requests to the address are answered and others never",
        refuted_by: "the address belongs to the program itself",
        decided_by: "the balancer's list of backends and its log of timeouts",
    },
    Cause {
        id: "long-request",
        text: "the requests are long ones (a long poll, a blocking read, a heavy query)",
        predicts: "the program waits and does not give up",
        refuted_by: "it closed connections before an answer came",
        decided_by: "what was asked: the program's log, or the query on the server",
    },
];

/// What the requests of a destination have met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picture {
    /// Clients give up, and nothing was answered here while others on the port were.
    SilentAddress,
    /// Clients give up, and nothing at all was answered.
    SilentToAll,
    /// Clients give up on connections that never got a byte, and others are answered.
    SilentInPart,
    /// Connections were answered at their pace, and none is since one instant.
    StoppedAtOnce,
    /// The same of several processes of one program: they may also be workers whose queue is empty.
    AllWait,
    /// They wait, which may be what was asked for.
    Waits,
}

/// What was counted of the requests of a destination.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    pub picture: Picture,
    /// Clients that closed before an answer came.
    pub given_up: u64,
    /// Answers, and connections that ended in order.
    pub answers_here: u64,
    /// Several first requests have waited for long without a byte.
    pub has_silent_connections: bool,
    pub is_traced: bool,
}

impl Silence {
    /// What may be behind it: without somebody who gave up nothing tells a stuck program from long requests.
    #[must_use]
    pub fn causes(&self) -> Weighed {
        let silent = matches!(self.picture, Picture::SilentAddress | Picture::SilentToAll);
        Weighed::of(CAUSES, |cause| match (cause.id, self.picture) {
            ("program-stuck", _) if silent => Weight::Possible(0.8),
            ("program-stuck", Picture::StoppedAtOnce) => Weight::Possible(0.6),
            ("program-stuck", Picture::AllWait) => Weight::Possible(0.45),
            // Others are answered at once, and whole connections never; or a client found that it takes too long.
            ("program-stuck", Picture::SilentInPart) => Weight::Possible(0.5),
            ("program-stuck", _) if self.given_up > 0 => Weight::Possible(0.5),
            ("program-stuck", _) => Weight::Possible(if self.has_silent_connections { 0.35 } else { 0.3 }),
            ("long-request", _) if silent => {
                let n = text::count(self.given_up, "connection was", "connections were");
                Weight::Refuted(format!("{n} closed before the peer's program did anything"))
            }
            ("long-request", Picture::SilentInPart | Picture::StoppedAtOnce) => Weight::Possible(0.2),
            ("long-request", Picture::AllWait) => Weight::Possible(0.35),
            ("long-request", _) if self.given_up > 0 => Weight::Possible(0.25),
            ("long-request", _) => Weight::Possible(0.45),
            _ => Weight::Possible(if self.answers_here > 0 || self.given_up > 0 { 0.3 } else { 0.2 }),
        })
    }

    /// How bad it is, how certain, and why.
    #[must_use]
    pub fn judged(&self) -> (Severity, f64, &'static str) {
        match self.picture {
            Picture::SilentAddress => (
                Severity::Warning,
                0.85,
                "the peer's kernel acknowledged the requests and the ends of connections, its program did nothing with \
                 either; the others on the port prove that answers are quick",
            ),
            Picture::SilentToAll if self.is_traced => (
                Severity::High,
                0.85,
                "a trace saw clients close what was never answered; no connection to the address got a byte meanwhile",
            ),
            Picture::SilentToAll => (
                Severity::Warning,
                0.7,
                "connections were closed here and not by the peer's program, and none of those that wait ever got a byte",
            ),
            Picture::SilentInPart => (
                Severity::Warning,
                0.75,
                "whole connections never got a byte while others are answered, and their clients gave up",
            ),
            Picture::StoppedAtOnce => (
                Severity::Warning,
                0.7,
                "they were answered many times sooner before, and all requests are younger than the last answer",
            ),
            Picture::AllWait => (
                Severity::Info,
                0.5,
                "they were answered many times sooner before, and all requests are younger than the last answer; so do \
                 workers wait that have emptied their queue",
            ),
            Picture::Waits => {
                (Severity::Info, 0.5, "that nothing came is exact; whether an answer is due the program knows")
            }
        }
    }
}
