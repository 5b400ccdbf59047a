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

/// No program has a timeout so short: something told it (policy).
const AT_ONCE_MS: u64 = 10;
/// What two counts over about the same time may differ by (policy).
const AS_MANY_PERCENT: u64 = 80;
/// No usual round trip is longer (policy); the kernel repeats a SYN after 1 s.
const PATIENT_MS: u64 = 900;
/// A cause of fewer of the failures is not named (policy).
const SHARE_OF_CAUSE: u64 = 10;
/// The cause that a failure proves.
#[must_use]
pub fn cause_of(failure: ConnectFailure) -> &'static str {
    match failure {
        ConnectFailure::Refused => "refused",
        ConnectFailure::NoPort => "no-local-port",
        ConnectFailure::GivenUp | ConnectFailure::Errno(Errno::ETIMEDOUT) => "no-answer",
        ConnectFailure::Errno(Errno::ECONNREFUSED) => "rejected",
        ConnectFailure::Errno(_) => "unreachable",
    }
}

/// Whether about as many ICMP messages (destination unreachable) came from elsewhere as attempts of this family ended by
/// one, or may have.
///
/// While connect() still holds the socket, as with a router on the same host, the kernel only notes the error: the program
/// learns it and closes the socket, and the trace sees a program that gave up (`tcp_v4_err`, `sk_err_soft`).
#[must_use]
pub fn icmp_came(view: &View<'_>, traced: &TracedInterval, connects: &Connects) -> bool {
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

/// Sooner than any timeout.
#[must_use]
pub fn ended_at_once(connects: &Connects) -> bool {
    connects.waited_ms.is_some_and(|(_, longest)| longest <= AT_ONCE_MS)
}

/// Most failures prove their cause. An ICMP message has two, a rule or a missing way; and who gives up early may have had no
/// time for an answer.
#[must_use]
pub fn weigh(connects: &Connects, icmp: bool, over: bool) -> Weighed {
    let failed = connects.failures();
    let told = icmp && ended_at_once(connects);
    let waited = connects.waited_ms.map(|(_, longest)| longest);
    let given_up: u64 =
        connects.failed.iter().filter(|(kind, _)| *kind == ConnectFailure::GivenUp).map(|(_, n)| n).sum();
    // The service was there meanwhile; if only before the last failure, it may just have ended.
    let at_times = connects.succeeded > 1 && !over;
    let partly = at_times && (connects.succeeded * SHARE_OF_CAUSE >= failed || connects.succeeded_since > 0);
    // Beside failures of another kind it stays the program's word.
    let too_early = !told && waited.is_some_and(|ms| ms < PATIENT_MS) && given_up == failed;
    Weighed::of(CAUSES, |cause| {
        let of = |kind: &ConnectFailure| match (cause.id, *kind) {
            ("refused", ConnectFailure::Refused) => !partly,
            ("refused-by-some", ConnectFailure::Refused) => at_times,
            ("rejected" | "unreachable", ConnectFailure::GivenUp) => told,
            ("no-answer", ConnectFailure::GivenUp) => !told,
            ("impatient", ConnectFailure::GivenUp) => too_early,
            ("rejected", ConnectFailure::Errno(errno)) if errno != Errno::ETIMEDOUT => {
                icmp || errno == Errno::ECONNREFUSED
            }
            (id, kind) => cause_of(kind) == id,
        };
        let n: u64 = connects.failed.iter().filter(|(kind, _)| of(kind)).map(|(_, n)| n).sum();
        if n * SHARE_OF_CAUSE < failed {
            return Weight::Refuted(match (cause.id, waited) {
                ("refused", _) if partly => {
                    format!("{} to it succeeded meanwhile", text::count(connects.succeeded, "connect", "connects"))
                }
                ("no-answer", _) if told => "as many ICMP messages came (destination unreachable)".to_owned(),
                ("impatient", Some(ms)) if given_up > 0 && ms >= PATIENT_MS => {
                    format!("it waits for {}", text::duration(ms))
                }
                _ => format!("{n} of {} ended so", text::count(failed, "failure", "failures")),
            });
        }
        match cause.id {
            "refused" if at_times => Weight::Possible(0.4),
            "refused-by-some" if !partly => Weight::Possible(0.6),
            "rejected" if icmp => Weight::Possible(0.6),
            "unreachable" if icmp => Weight::Possible(0.4),
            "no-answer" if too_early => Weight::Possible(0.7),
            "impatient" => Weight::Possible(0.3),
            _ => Weight::Proven,
        }
    })
}
