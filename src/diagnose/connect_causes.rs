//! Why connects fail: what the way they ended proves, and what leaves it open.
//!
//! Input: the traced ends of connects to one destination, and the ICMP messages that the namespace counted. Output: causes
//! with their weights. Not here: what is bad, and attempts that no trace saw.

use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::view::View;
use crate::model::Errno;
use crate::model::counter::Counter;
use crate::model::traced::{ConnectFailure, Connects, TracedInterval};
use crate::text;

/// What makes connects fail.
pub const CAUSES: &[Cause] = &[
    Cause {
        id: "refused",
        text: "nothing listens on that port there",
        predicts: "a RST answers each SYN at once",
        refuted_by: "a connect that is answered otherwise",
        decided_by: "`ss -ltn` on the peer: a listener on this address and port",
    },
    Cause {
        id: "refused-by-some",
        text: "a part of them is refused: one of several hosts behind the address does not listen, or the service comes and goes",
        predicts: "a RST answers some SYNs, and a handshake others",
        refuted_by: "a RST for each, or no RST any more",
        decided_by: "the listener and its age on each host behind the address; `ip neigh` for an address that two hosts have",
    },
    Cause {
        id: "rejected",
        text: "a firewall or a router rejects them",
        predicts: "ECONNREFUSED without a RST, or as many ICMP messages (destination unreachable) as failures",
        refuted_by: "a RST for each attempt, or no ICMP message",
        decided_by: "`tcpdump icmp or icmp6`: who sends the message; `nft list ruleset` there",
    },
    Cause {
        id: "unreachable",
        text: "the host or its network cannot be reached",
        predicts: "EHOSTUNREACH, ENETUNREACH or EACCES: no neighbour answers, or a router says so",
        refuted_by: "a segment of the peer",
        decided_by: "`ip neigh`, `ip route get`, `tcpdump icmp or icmp6`",
    },
    Cause {
        id: "no-answer",
        text: "nothing answers",
        predicts: "ETIMEDOUT, or the program closes the socket before the handshake ends",
        refuted_by: "a RST or an ICMP message for each attempt",
        decided_by: "`tcpdump` at the peer: whether the SYNs arrive, and whether a SYN-ACK leaves",
    },
    Cause {
        id: "impatient",
        text: "the program gives up before an answer can come",
        predicts: "it closes the socket sooner than the SYN is repeated, which is after 1 s",
        refuted_by: "attempts that waited for nearly a second or longer",
        decided_by: "its connect timeout beside the round trip: `ping`, `tcpstate list -i`",
    },
    Cause {
        id: "no-local-port",
        text: "this host has no free port left for the destination",
        predicts: "the socket never gets a local port",
        refuted_by: "attempts with a local port",
        decided_by: "`tcpstate explain ephemeral-port-exhaustion`",
    },
];

/// No program has a timeout so short: something told it (policy). On a busy host it closes the socket some time after it was
/// told.
const AT_ONCE_MS: u64 = 100;
/// What two counts over about the same time may differ by (policy).
const AS_MANY_PERCENT: u64 = 80;
/// No usual round trip is longer (policy); the kernel repeats a SYN after 1 s.
const PATIENT_MS: u64 = 900;
/// A cause of fewer of the failures is not named (policy).
const SHARE_OF_CAUSE: u64 = 10;

/// How the connects to one destination ended, beside what else is known of that time.
pub struct Ends<'a> {
    connects: &'a Connects,
    /// About as many ICMP messages (destination unreachable) came from elsewhere as attempts may have ended by.
    icmp: bool,
    /// Some succeeded, and it is not over: the service was there meanwhile.
    at_times: bool,
}

/// Causes that a failure leaves, the likeliest first, each with its part of the belief. One alone is proven.
type Left = &'static [(&'static str, f64)];

impl<'a> Ends<'a> {
    #[must_use]
    pub fn new(view: &View<'_>, traced: &TracedInterval, connects: &'a Connects, over: bool) -> Ends<'a> {
        let at_times = connects.succeeded > 1 && !over;
        Ends { connects, icmp: icmp_came(view, traced, connects), at_times }
    }

    /// Those that their program gave up were told by ICMP: at once, sooner than by any timeout.
    ///
    /// While connect() still holds the socket, as with a router on the same host, the kernel only notes the error: the
    /// program learns it and closes the socket, and the trace sees a program that gave up (`tcp_v4_err`, `sk_err_soft`).
    #[must_use]
    pub fn told_by_icmp(&self) -> bool {
        self.icmp && ended_at_once(self.connects)
    }

    /// For how long the longest waited.
    fn waited_ms(&self) -> Option<u64> {
        self.connects.waited_ms.map(|(_, longest)| longest)
    }

    fn left(&self, failure: ConnectFailure) -> Left {
        let connects = self.connects;
        // If it was there only before the last failure, it may just have ended.
        let partly = connects.succeeded * SHARE_OF_CAUSE >= connects.failures() || connects.succeeded_since > 0;
        // Beside failures of another kind it stays the program's word.
        let alone = connects.failed.iter().all(|(kind, _)| *kind == ConnectFailure::GivenUp);
        let too_early = alone && self.waited_ms().is_some_and(|ms| ms < PATIENT_MS);
        match failure {
            ConnectFailure::Refused if !self.at_times => &[("refused", 1.0)],
            ConnectFailure::Refused if partly => &[("refused-by-some", 1.0)],
            ConnectFailure::Refused => &[("refused-by-some", 0.6), ("refused", 0.4)],
            ConnectFailure::NoPort => &[("no-local-port", 1.0)],
            ConnectFailure::GivenUp if self.told_by_icmp() => BY_ICMP,
            ConnectFailure::GivenUp if too_early => &[("no-answer", 0.7), ("impatient", 0.3)],
            ConnectFailure::GivenUp | ConnectFailure::Errno(Errno::ETIMEDOUT) => &[("no-answer", 1.0)],
            ConnectFailure::Errno(Errno::ECONNREFUSED) => &[("rejected", 1.0)],
            ConnectFailure::Errno(_) if self.icmp => BY_ICMP,
            ConnectFailure::Errno(_) => &[("unreachable", 1.0)],
        }
    }

    /// The likeliest cause of most of the failures.
    #[must_use]
    pub fn leading(&self) -> Option<&'static str> {
        let (kind, _) = self.connects.failed.first()?;
        self.left(*kind).first().map(|(cause, _)| *cause)
    }

    /// The causes by their share of the failures. Where each failure proves one, so do all.
    #[must_use]
    pub fn weigh(&self) -> Weighed {
        let failed = self.connects.failures();
        let is_proof = self.connects.failed.iter().all(|(kind, _)| self.left(*kind).len() == 1);
        Weighed::of(CAUSES, |cause| {
            let (mut n, mut belief) = (0, 0.0);
            for (kind, of_kind) in &self.connects.failed {
                if let Some((_, part)) = self.left(*kind).iter().find(|(id, _)| *id == cause.id) {
                    n += of_kind;
                    belief += *of_kind as f64 * part;
                }
            }
            if n * SHARE_OF_CAUSE < failed {
                Weight::Refuted(self.excluded(cause.id, n))
            } else if is_proof {
                Weight::Proven
            } else {
                Weight::Possible(belief / failed as f64)
            }
        })
    }

    /// What excludes a cause that so many failures fit.
    fn excluded(&self, cause: &str, n: u64) -> String {
        let has = |wanted| self.connects.failed.iter().any(|(kind, _)| *kind == wanted);
        match (cause, self.waited_ms()) {
            ("refused", _) if self.at_times && has(ConnectFailure::Refused) => {
                format!("{} to it succeeded meanwhile", text::count(self.connects.succeeded, "connect", "connects"))
            }
            ("no-answer", _) if self.told_by_icmp() => {
                "as many ICMP messages came (destination unreachable)".to_owned()
            }
            ("impatient", Some(ms)) if has(ConnectFailure::GivenUp) && ms >= PATIENT_MS => {
                format!("it waits for {}", text::duration(ms))
            }
            _ => format!("{n} of {} ended so", text::count(self.connects.failures(), "failure", "failures")),
        }
    }
}

/// The codes of ICMP messages are not counted: a rule that rejects, or a router that knows no way.
const BY_ICMP: Left = &[("rejected", 0.6), ("unreachable", 0.4)];

fn ended_at_once(connects: &Connects) -> bool {
    connects.waited_ms.is_some_and(|(_, longest)| longest <= AT_ONCE_MS)
}

/// Whether about as many ICMP messages (destination unreachable) came from elsewhere as attempts of this family ended by
/// one, or may have.
fn icmp_came(view: &View<'_>, traced: &TracedInterval, connects: &Connects) -> bool {
    let is_v4 = connects.to.addr.is_ipv4();
    let (received, sent) = if is_v4 {
        (Counter::IcmpInDestUnreachs, Counter::IcmpOutDestUnreachs)
    } else {
        (Counter::Icmp6InDestUnreachs, Counter::Icmp6OutDestUnreachs)
    };
    let of = |counter| view.delta(connects.netns, counter);
    let (Some(received), Some(sent)) = (of(received), of(sent)) else { return false };
    let alike = traced.connects.iter().filter(|c| c.netns == connects.netns && c.to.addr.is_ipv4() == is_v4);
    let ended: u64 = alike.map(by_icmp_at_most).sum();
    // The trace begins before the first sample and ends after the second.
    let came = received.saturating_sub(sent) * traced.duration_ms;
    ended > 0 && came * 100 >= ended * view.interval_ms().unwrap_or_default() * AS_MANY_PERCENT
}

/// Failures that an ICMP message may have caused.
fn by_icmp_at_most(connects: &Connects) -> u64 {
    let may = |kind: ConnectFailure| match kind {
        ConnectFailure::Errno(errno) => errno != Errno::ETIMEDOUT,
        ConnectFailure::GivenUp => ended_at_once(connects),
        ConnectFailure::Refused | ConnectFailure::NoPort => false,
    };
    connects.failed.iter().filter(|(kind, _)| may(*kind)).map(|(_, n)| n).sum()
}
