//! Why connects fail: what the way they ended proves, and what leaves it open.
//!
//! Input: the traced ends of connects to one destination, and the ICMP messages that the namespace counted. Output: causes
//! with their weights. Not here: what is bad, and attempts that no trace saw.

use crate::diagnose::connect_harm::{PATIENT_MS, Seen};
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
        id: "unreachable-by-some",
        text: "one of several hosts behind the address cannot be reached",
        predicts: "EHOSTUNREACH for some after a second or more, when a router has looked for the host in vain, and handshakes for others",
        refuted_by: "the same end for each",
        decided_by: "a connect to each host behind the address; `tcpdump icmp or icmp6` and `ip neigh` on the router or balancer",
    },
    Cause {
        id: "no-answer",
        text: "nothing answers",
        predicts: "ETIMEDOUT, or the program closes the socket before the handshake ends",
        refuted_by: "a RST or an ICMP message for each attempt, or others to the same port that are answered meanwhile",
        decided_by: "`tcpdump` at the peer: whether the SYNs arrive, and whether a SYN-ACK leaves",
    },
    Cause {
        id: "backend-silent",
        text: "one of several hosts behind the address does not answer",
        predicts: "some connects are answered at once, others never",
        refuted_by: "none is answered",
        decided_by: "a connect to each host behind the address; on the balancer `ipvsadm -Ln` or `conntrack -L -p tcp --orig-dst` \
                     the address",
    },
    Cause {
        id: "part-passes",
        text: "a filter, a NAT or a full queue lets only a part of them through",
        predicts: "open connections work, and of the new ones none or only so many in a time",
        refuted_by: "none is answered",
        decided_by: "rules with a limit (`nft -a list ruleset`, `iptables -vnL`) and `conntrack -S` on the way, `ss -ltn` at the peer",
    },
    Cause {
        id: "lossy-path",
        text: "the path loses segments",
        predicts: "some connects are answered only after a second or more, when the SYN was repeated",
        refuted_by: "none is answered",
        decided_by: "`mtr -T` to the port; drops in `ip -s link` on both hosts",
    },
    Cause {
        id: "not-leaving",
        text: "the SYNs do not leave this host",
        predicts: "each repeated SYN fails to be sent",
        refuted_by: "repeated SYNs that were sent",
        decided_by: "`ip route get`, rules of OUTPUT (`nft list ruleset`), `tc -s qdisc`",
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
/// An ICMP message after so long is no filter's, which answers at once: a router could not resolve the address (3 requests
/// a second apart, `net/ipv4/arp.c`).
pub const RESOLUTION_MS: u64 = 1000;
/// A cause of fewer of the failures is not named (policy).
const SHARE_OF_CAUSE: u64 = 10;

/// How the connects to one destination ended, beside what else is known of that time.
pub struct Ends<'a> {
    connects: &'a Connects,
    /// About as many ICMP messages (destination unreachable) came from elsewhere as attempts may have ended by.
    icmp: bool,
    /// Some succeeded, and it is not over: the service was there meanwhile.
    at_times: bool,
    /// Open connections there were heard meanwhile.
    works_beside: bool,
    /// Repeated SYNs failed to be sent.
    stays_here: bool,
}

/// Causes that a failure leaves, the likeliest first, each with its part of the belief. One alone is proven.
type Left = &'static [(&'static str, f64)];

impl<'a> Ends<'a> {
    #[must_use]
    pub fn new(view: &View<'_>, traced: &TracedInterval, connects: &'a Connects, seen: Seen) -> Ends<'a> {
        let at_times = connects.succeeded > 1 && !seen.is_over;
        Ends {
            connects,
            icmp: icmp_came(view, traced, connects),
            at_times,
            works_beside: !seen.is_over && seen.works_beside,
            stays_here: stays_here(traced, connects),
        }
    }

    /// Those that their program gave up were told by ICMP: at once, sooner than by any timeout.
    ///
    /// While connect() still holds the socket, as with a router on the same host, the kernel only notes the error: the
    /// program learns it and closes the socket, and the trace sees a program that gave up (`tcp_v4_err`, `sk_err_soft`).
    #[must_use]
    pub fn told_by_icmp(&self) -> bool {
        let first = self.connects.failed.first().map(|(kind, _)| *kind);
        self.icmp && (ended_at_once(self.connects) || first == Some(ConnectFailure::AtOnce))
    }

    /// The errno of others that ended beside those of which none is known.
    fn errno_beside(&self) -> Option<ConnectFailure> {
        let is = |kind: &ConnectFailure| matches!(kind, ConnectFailure::Errno(e) if *e != Errno::ETIMEDOUT);
        self.connects.failed.iter().map(|(kind, _)| *kind).find(is)
    }

    /// What is left of attempts that nobody answered.
    fn silent(&self) -> Left {
        let answered = self.at_times && self.connects.succeeded * SHARE_OF_CAUSE >= self.connects.failures();
        match self.connects {
            _ if self.stays_here => &[("not-leaving", 1.0)],
            c if answered && c.succeeded_late > Some(0) => {
                &[("lossy-path", 0.5), ("part-passes", 0.35), ("backend-silent", 0.15)]
            }
            _ if answered => &[("backend-silent", 0.5), ("part-passes", 0.35), ("lossy-path", 0.15)],
            _ if self.works_beside => &[("part-passes", 0.7), ("backend-silent", 0.2), ("lossy-path", 0.1)],
            _ => &[("no-answer", 1.0)],
        }
    }

    /// How most of them ended, as half a sentence.
    #[must_use]
    pub fn manner(&self) -> String {
        let connects = self.connects;
        let waited = connects.waited_ms.map_or_else(String::new, |(shortest, longest)| {
            if shortest / 100 == longest / 100 {
                format!(" after {}", text::duration(longest))
            } else {
                format!(" after {} to {}", text::duration(shortest), text::duration(longest))
            }
        });
        match connects.failed.first().map(|(kind, _)| *kind) {
            Some(ConnectFailure::Refused) => "were refused".into(),
            Some(ConnectFailure::GivenUp | ConnectFailure::AtOnce) if self.told_by_icmp() => {
                "ended at once, while as many ICMP messages came (destination unreachable)".into()
            }
            Some(ConnectFailure::GivenUp) => format!("were given up by the program{waited} without an answer"),
            Some(ConnectFailure::AtOnce) => "failed at once, with an error that the trace did not see".into(),
            Some(ConnectFailure::NoPort) => "found no free local port".into(),
            Some(ConnectFailure::Errno(Errno::ECONNREFUSED)) => "were rejected by ICMP".into(),
            Some(ConnectFailure::Errno(Errno::ETIMEDOUT)) => format!("timed out{waited}"),
            Some(ConnectFailure::Errno(errno)) => match errno.text() {
                Some(text) => format!("failed with {errno} ({text})"),
                None => format!("failed with {errno}"),
            },
            None => "failed".into(),
        }
    }

    /// For how long the longest waited.
    fn waited_ms(&self) -> Option<u64> {
        self.connects.waited_ms.map(|(_, longest)| longest)
    }

    fn left(&self, failure: ConnectFailure) -> Left {
        let connects = self.connects;
        // If it was there only before the last failure, it may just have ended.
        let partly = connects.succeeded * SHARE_OF_CAUSE >= connects.failures() || connects.succeeded_since > 0;
        let by_router = self.at_times && self.connects.longest_wait_ms().is_some_and(|ms| ms >= RESOLUTION_MS);
        // Beside failures of another kind it stays the program's word.
        let alone = connects.failed.iter().all(|(kind, _)| *kind == ConnectFailure::GivenUp);
        let too_early = alone && self.waited_ms().is_some_and(|ms| ms < PATIENT_MS);
        match failure {
            ConnectFailure::Refused if !self.at_times => &[("refused", 1.0)],
            ConnectFailure::Refused if partly => &[("refused-by-some", 1.0)],
            ConnectFailure::Refused => &[("refused-by-some", 0.6), ("refused", 0.4)],
            ConnectFailure::NoPort => &[("no-local-port", 1.0)],
            ConnectFailure::GivenUp if self.told_by_icmp() => BY_ICMP,
            ConnectFailure::AtOnce => match self.errno_beside() {
                _ if self.icmp => BY_ICMP,
                Some(errno) => self.left(errno),
                None => &[("rejected", 0.5), ("unreachable", 0.3), ("impatient", 0.2)],
            },
            ConnectFailure::GivenUp if too_early => &[("no-answer", 0.7), ("impatient", 0.3)],
            ConnectFailure::GivenUp | ConnectFailure::Errno(Errno::ETIMEDOUT) => self.silent(),
            ConnectFailure::Errno(Errno::EHOSTUNREACH) if by_router => {
                &[("unreachable-by-some", 0.8), ("rejected", 0.1), ("unreachable", 0.1)]
            }
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
            ("no-answer", _) if self.works_beside || self.connects.succeeded > 0 && n == 0 => {
                "others to the same port are answered meanwhile".to_owned()
            }
            ("backend-silent" | "part-passes" | "lossy-path", _)
                if !self.works_beside && self.connects.succeeded == 0 =>
            {
                "none is answered".to_owned()
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

/// Whether nearly all segments that were repeated to the address failed to be sent.
fn stays_here(traced: &TracedInterval, connects: &Connects) -> bool {
    let to = (connects.netns, connects.to.addr);
    let of: Vec<_> = traced.retransmits.iter().filter(|r| (r.netns, r.peer) == to).collect();
    let (all, failed): (u64, u64) =
        (of.iter().map(|r| r.handshake + r.segments).sum(), of.iter().map(|r| r.failed).sum());
    failed > 0 && failed * 100 >= all * AS_MANY_PERCENT
}

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
        ConnectFailure::AtOnce => true,
        ConnectFailure::GivenUp => ended_at_once(connects),
        ConnectFailure::Refused | ConnectFailure::NoPort => false,
    };
    connects.failed.iter().filter(|(kind, _)| may(*kind)).map(|(_, n)| n).sum()
}
