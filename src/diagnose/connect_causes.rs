//! Why connects fail: what the way they ended proves, and what leaves it open.
//!
//! Input: the traced ends of connects to one destination, and the ICMP messages that the namespace counted. Output: causes
//! with their weights. Not here: what is bad, and attempts that no trace saw.

use std::net::IpAddr;

use crate::diagnose::callers;
use crate::diagnose::connect_harm::{PATIENT_MS, Seen, patience_ms};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::event::ResetReason;
use crate::model::traced::{ConnectFailure, Connects, Resets, SentFor, Stray, TracedInterval};
use crate::model::{Endpoint, Errno, NetnsId};
use crate::text;

/// What makes connects fail.
pub const CAUSES: &[Cause] = &[
    Cause {
        id: "refused",
        text: "nothing listens on that port there, or a filter answers with RST in its place",
        predicts: "a RST answers each SYN at once",
        refuted_by: "a connect that is answered otherwise, or a listener for it on this host",
        decided_by: "`ss -ltn` on the peer: a listener on this address and port; if it is there, rules with `reject with tcp reset`",
    },
    Cause {
        id: "answered-here",
        text: "this host resets them itself: a rule (REDIRECT, DNAT) or a local route sends them to an address of its own where nothing \
               listens",
        predicts: "this host sent as many resets for a port without a listener, which nobody called by that address",
        refuted_by: "no such resets of this host",
        decided_by: "`nft list ruleset` (nat, output), `iptables -t nat -S OUTPUT`, `ip route get` the address",
    },
    Cause {
        id: "refused-by-some",
        text: "a part of them is refused: one of several hosts behind the address does not listen, or the service comes and goes",
        predicts: "a RST answers some SYNs, and a handshake others",
        refuted_by: "a RST for each while nothing of the service is heard",
        decided_by: "the listener and its age on each host behind the address; `ip neigh` for an address that two hosts have",
    },
    Cause {
        id: "turned-away",
        text: "the service is there, and a limit turns more connections away: a filter that answers with RST, or a full backlog of a \
               system that does (Windows)",
        predicts: "a RST answers SYNs while open connections to this very port are served, or others succeed",
        refuted_by: "a RST for each while nothing of the service is heard",
        decided_by: "rules that reject with tcp-reset above a limit, at the peer and on the way: `nft -a list ruleset`, `iptables -vnL` \
                     (connlimit, hashlimit)",
    },
    Cause {
        id: "came-up",
        text: "the service was not listening, and is now (a start, a restart)",
        predicts: "a RST answers each SYN up to some moment, and a handshake each one after it",
        refuted_by: "a RST after a handshake",
        decided_by: "the age of the listener's process on the peer",
    },
    Cause {
        id: "rejected",
        text: "a firewall or a router rejects them with ICMP",
        predicts: "ECONNREFUSED without a RST, or as many ICMP messages (destination unreachable) as failures or SYNs",
        refuted_by: "a RST for each attempt, or no ICMP message",
        decided_by: "`tcpdump icmp or icmp6`: who sends the message; `nft list ruleset` there",
    },
    Cause {
        id: "rejected-here",
        text: "a rule of this host itself rejects them on their way out (OUTPUT)",
        predicts: "they end at once, and this host gets no more ICMP messages (destination unreachable) than it sends itself",
        refuted_by: "messages that come from elsewhere, or none",
        decided_by: "`nft list ruleset` and `iptables -vnL OUTPUT` in the network namespace of the program: a counter that grows",
    },
    Cause {
        id: "unreachable",
        text: "the host or its network cannot be reached",
        predicts: "EHOSTUNREACH, ENETUNREACH or EACCES: no neighbour answers, or a router says so; or as many ICMP messages as SYNs",
        refuted_by: "a segment of the peer",
        decided_by: "`ip neigh`, `ip route get`, `tcpdump icmp or icmp6`",
    },
    Cause {
        id: "hops-run-out",
        text: "their packets run out of hops on the way: a TTL that is too small, or routers that send them in a circle",
        predicts: "EHOSTUNREACH, while as many ICMP messages (time exceeded) come, and none that says unreachable",
        refuted_by: "no such message",
        decided_by: "`traceroute -n` to the address, which shows a circle; `sysctl net.ipv4.ip_default_ttl`",
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
/// A router of Linux sends one message a second to a host, and a few more at first (`net.ipv4.route.error_cost`); fewer are of something
/// else.
const MESSAGE_MS: u64 = 1250;
const MESSAGES: u64 = 2;
/// A cause of fewer of the failures is not named (policy).
const SHARE_OF_CAUSE: u64 = 10;

/// How the connects to one destination ended, beside what else is known of that time.
pub struct Ends<'a> {
    connects: &'a Connects,
    /// About as many ICMP messages (destination unreachable) came from elsewhere as attempts may have ended by.
    icmp: bool,
    /// About as many came as attempts ended at once, and this host had sent them itself.
    own: bool,
    /// About as many messages came that say that the hops ran out, and none that says unreachable.
    out_of_hops: bool,
    /// Of these messages, so many came between the samples.
    pub messages: u64,
    told: Told,
    /// Some succeeded, and it is not over: the service was there meanwhile.
    at_times: bool,
    /// Open connections there were heard meanwhile.
    works_beside: bool,
    /// Repeated SYNs failed to be sent.
    stays_here: bool,
    /// The failures are over.
    is_over: bool,
    /// Connections there that were open got a RST meanwhile: the service had been there before.
    was_there: bool,
    /// A listener of this host takes what goes to the destination, in both samples.
    listens_here: bool,
    /// Where this host itself answered them.
    pub answered_here: Option<Endpoint>,
}

/// Causes that a failure leaves, the likeliest first, each with its part of the belief. One alone is proven.
type Left = &'static [(&'static str, f64)];

impl<'a> Ends<'a> {
    #[must_use]
    pub fn new(view: &View<'_>, traced: &TracedInterval, connects: &'a Connects, seen: Seen) -> Ends<'a> {
        let at_times = connects.succeeded > 1 && !seen.is_over;
        let messages = messages(view, connects.netns, connects.to.addr).unwrap_or(0);
        Ends {
            connects,
            icmp: icmp_came(view, traced, connects),
            own: tells_itself(view, traced, connects),
            out_of_hops: out_of_hops(view, traced, connects),
            messages,
            told: told_of_syns(view, traced, connects, messages),
            at_times,
            works_beside: !seen.is_over && seen.works_beside,
            stays_here: stays_here(traced, connects),
            is_over: seen.is_over,
            was_there: connects.failed_again() || seen.was_cut,
            listens_here: listens_here(view, connects),
            answered_here: answered_here(view, traced, connects),
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

    /// Where this host itself answered them, as the end of a sentence.
    #[must_use]
    pub fn here_words(&self) -> String {
        self.answered_here
            .map_or_else(String::new, |at| format!("; this host itself reset them, at {at}, where nothing listens"))
    }

    /// The errno of others that ended beside those of which none is known.
    fn errno_beside(&self) -> Option<ConnectFailure> {
        let is = |kind: &ConnectFailure| matches!(kind, ConnectFailure::Errno(e) if *e != Errno::ETIMEDOUT);
        self.connects.failed.iter().map(|(kind, _)| *kind).find(is)
    }

    /// A router answers those that their program gave up: as many messages as SYNs came, or one of the others learned it.
    fn told_softly(&self) -> bool {
        let is_unreachable = |f| matches!(f, ConnectFailure::Errno(Errno::ENETUNREACH | Errno::EHOSTUNREACH));
        let beside = self.errno_beside().is_some_and(is_unreachable) && !self.at_times && !self.works_beside;
        self.told == Told::Each || beside
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
            // They may be of other packets.
            _ if self.told == Told::Limited => &[("unreachable", 0.45), ("no-answer", 0.4), ("rejected", 0.15)],
            _ => &[("no-answer", 1.0)],
        }
    }

    /// How most of them ended, as half a sentence.
    #[must_use]
    pub fn manner(&self) -> String {
        let connects = self.connects;
        // What others waited for says nothing of these.
        let first = connects.failed.first().and_then(|(kind, _)| connects.waited(*kind));
        let waited = first.map_or_else(String::new, |w| match (w.ms, w.at_least_ms) {
            (_, Some(_)) => {
                let longest = w.longest_ms().unwrap_or_default();
                format!(" (the longest after {} or more)", text::duration(longest))
            }
            (Some((shortest, longest)), None) if shortest / 100 == longest / 100 => {
                format!(" after {}", text::duration(longest))
            }
            (Some((shortest, longest)), None) => {
                format!(" after {} to {}", text::duration(shortest), text::duration(longest))
            }
            (None, None) => String::new(),
        });
        match connects.failed.first().map(|(kind, _)| *kind) {
            Some(ConnectFailure::Refused) => "were refused".into(),
            Some(ConnectFailure::GivenUp | ConnectFailure::AtOnce) if self.told_by_icmp() => {
                "ended at once, while as many ICMP messages came (destination unreachable)".into()
            }
            Some(ConnectFailure::GivenUp) if self.told == Told::Each => format!(
                "were given up by the program{waited}, while as many ICMP messages came as SYNs left (destination unreachable)"
            ),
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

    /// The failures are over, or at least none came after a success.
    fn works_now(&self) -> bool {
        let c = self.connects;
        self.is_over || c.succeeded > 1 && c.succeeded_at_ms.is_some() && c.succeeded_since > 0 && !c.failed_again()
    }

    /// What is left of those that a RST answered.
    fn refused(&self) -> Left {
        let c = self.connects;
        // If it was there only before the last failure, it may just have ended.
        let partly = c.succeeded * SHARE_OF_CAUSE >= c.failures() || c.succeeded_since > 0;
        match self {
            _ if self.answered_here.is_some() => &[("answered-here", 1.0)],
            // One moment of failures is a restart, or the moment in which the other of two hosts had the address.
            _ if self.works_now() && self.was_there => &[("came-up", 0.6), ("refused-by-some", 0.4)],
            _ if self.is_over => &[("came-up", 1.0)],
            _ if self.works_now() => &[("came-up", 0.7), ("refused-by-some", 0.3)],
            // A full queue of Linux drops SYNs.
            _ if self.listens_here => &[("turned-away", 0.8), ("refused-by-some", 0.2)],
            _ if self.at_times && partly && self.works_beside => &[("refused-by-some", 0.5), ("turned-away", 0.5)],
            _ if self.at_times && partly => &[("refused-by-some", 0.8), ("turned-away", 0.2)],
            _ if self.at_times => &[("refused-by-some", 0.5), ("refused", 0.35), ("turned-away", 0.15)],
            // Who stops listening may go on to serve those that it has.
            _ if self.works_beside => &[("turned-away", 0.5), ("refused", 0.25), ("refused-by-some", 0.25)],
            _ => &[("refused", 1.0)],
        }
    }

    fn left(&self, failure: ConnectFailure) -> Left {
        let connects = self.connects;
        let by_router = self.at_times && self.connects.longest_wait_ms().is_some_and(|ms| ms >= RESOLUTION_MS);
        // Beside failures of another kind it stays the program's word.
        let alone = connects.failed.iter().all(|(kind, _)| *kind == ConnectFailure::GivenUp);
        let too_early = alone && patience_ms(connects).is_some_and(|ms| ms < PATIENT_MS);
        match failure {
            ConnectFailure::Refused => self.refused(),
            ConnectFailure::NoPort => &[("no-local-port", 1.0)],
            ConnectFailure::GivenUp if self.own && ended_at_once(connects) => BY_OWN_RULE,
            ConnectFailure::GivenUp if self.told_by_icmp() => BY_ICMP,
            ConnectFailure::AtOnce => match self.errno_beside() {
                _ if self.own => BY_OWN_RULE,
                _ if self.icmp => BY_ICMP,
                Some(errno) => self.left(errno),
                None => &[("rejected", 0.5), ("unreachable", 0.3), ("impatient", 0.2)],
            },
            ConnectFailure::GivenUp if self.told_softly() => SOFTLY,
            ConnectFailure::GivenUp if too_early => &[("no-answer", 0.7), ("impatient", 0.3)],
            ConnectFailure::GivenUp | ConnectFailure::Errno(Errno::ETIMEDOUT) => self.silent(),
            // Both messages make this errno, and a neighbour that does not answer sends the other one to itself.
            ConnectFailure::Errno(Errno::EHOSTUNREACH) if self.out_of_hops => &[("hops-run-out", 1.0)],
            ConnectFailure::Errno(Errno::EHOSTUNREACH) if by_router => {
                &[("unreachable-by-some", 0.8), ("rejected", 0.1), ("unreachable", 0.1)]
            }
            ConnectFailure::Errno(Errno::ECONNREFUSED) if self.own => BY_OWN_RULE,
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
        let succeeded = |n| format!("{} to it succeeded", text::count(n, "connect", "connects"));
        match (cause, patience_ms(self.connects)) {
            ("answered-here", _) => "this host sent no such resets".to_owned(),
            (_, _) if self.answered_here.is_some() => "this host itself reset them".to_owned(),
            ("refused" | "came-up", _) if self.listens_here => "a listener for it is on this host".to_owned(),
            ("refused", _) if self.works_now() => format!("{} since", succeeded(self.connects.succeeded_since)),
            ("refused", _) if self.at_times && has(ConnectFailure::Refused) => {
                format!("{} meanwhile", succeeded(self.connects.succeeded))
            }
            ("refused-by-some", _) if self.works_now() => "none was refused since".to_owned(),
            ("turned-away", _) if self.works_now() => "none was refused since".to_owned(),
            ("came-up", _) if self.connects.failed_again() => "some were refused after others had succeeded".to_owned(),
            ("came-up", _) if self.connects.succeeded == 0 => "none succeeded".to_owned(),
            ("refused-by-some" | "turned-away", _) if has(ConnectFailure::Refused) => {
                "each was refused, and nothing of the service is heard".to_owned()
            }
            ("no-answer", _) if self.works_beside || self.connects.succeeded > 0 && n == 0 => {
                "others to the same port are answered meanwhile".to_owned()
            }
            ("backend-silent" | "part-passes" | "lossy-path", _)
                if !self.works_beside && self.connects.succeeded == 0 =>
            {
                "none is answered".to_owned()
            }
            ("no-answer", _) if self.told_by_icmp() || self.told == Told::Each => {
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
/// Others may have sent as many as this host did.
const BY_OWN_RULE: Left = &[("rejected-here", 0.8), ("rejected", 0.2)];
/// Since Linux 6.9 a router that knows no way ends no attempt (RFC 1122 section 4.2.3.9, `tcp_v4_err`), and most rules that reject
/// still do.
const SOFTLY: Left = &[("unreachable", 0.6), ("rejected", 0.2), ("no-answer", 0.2)];

/// Whether a listener of this host takes what goes to the destination, in both samples.
fn listens_here(view: &View<'_>, connects: &Connects) -> bool {
    let home = callers::home(view, connects.netns, connects.to.addr);
    let queue = home.and_then(|home| callers::listening(view, home.inode, connects.to));
    queue.is_some_and(|q| view.queues_before().is_some_and(|before| before.get(q.netns, q.local).is_some()))
}

/// Where this host itself reset connects to an address that is none of its own: as many resets for a port on which nothing listens,
/// at an address that nobody called. A rule translated them, or a local route took them.
fn answered_here(view: &View<'_>, traced: &TracedInterval, connects: &Connects) -> Option<Endpoint> {
    let refused = connects.failed.iter().find(|(kind, _)| *kind == ConnectFailure::Refused).map(|(_, n)| *n)?;
    if callers::home(view, connects.netns, connects.to.addr.to_canonical()).is_some() {
        return None;
    }
    let is_called = |at: Endpoint| traced.connects.iter().any(|c| c.netns == connects.netns && c.to == at);
    let is_theirs = |r: &&Resets| {
        let is_for_nobody = r.sent == Some(SentFor::Reason(ResetReason::NoSocket)) && r.netns == connects.netns;
        let service = r.service;
        // From outside nobody calls loopback; elsewhere the resets may be of somebody else.
        let by_us = |s: &&Stray| {
            s.netns == r.netns
                && s.local == service
                && callers::home(view, s.netns, s.peer.addr.to_canonical()).is_some()
        };
        let own: u64 = traced.strays.iter().filter(by_us).map(|s| s.count).sum();
        let fits = if service.addr.is_loopback() { r.count * 2 >= refused } else { own * 2 >= refused };
        is_for_nobody
            && fits
            && callers::listening(view, r.netns, service).is_none()
            && (service == connects.to || !is_called(service))
    };
    let mut theirs = traced.resets.iter().filter(is_theirs).map(|r| r.service);
    theirs.next().filter(|_| theirs.next().is_none())
}

/// Whether nearly all segments that were repeated to the address failed to be sent.
fn stays_here(traced: &TracedInterval, connects: &Connects) -> bool {
    let to = (connects.netns, connects.to.addr);
    let of: Vec<_> = traced.retransmits.iter().filter(|r| (r.netns, r.peer) == to).collect();
    let (all, failed): (u64, u64) =
        (of.iter().map(|r| r.handshake + r.segments).sum(), of.iter().map(|r| r.failed).sum());
    failed > 0 && failed * 100 >= all * AS_MANY_PERCENT
}

fn ended_at_once(connects: &Connects) -> bool {
    let given_up = connects.waited(ConnectFailure::GivenUp);
    given_up.is_some_and(|w| w.ms.is_some() && w.longest_ms().is_some_and(|ms| ms <= AT_ONCE_MS))
}

/// How many ICMP messages (destination unreachable) of this family came from elsewhere between the samples.
fn messages(view: &View<'_>, netns: Option<NetnsId>, to: IpAddr) -> Option<u64> {
    unreachables(view, netns, to).map(|(received, sent)| received.saturating_sub(sent))
}

/// How many of this family it received between the samples, and sent.
fn unreachables(view: &View<'_>, netns: Option<NetnsId>, to: IpAddr) -> Option<(u64, u64)> {
    let (received, sent) = if to.is_ipv4() {
        (Counter::IcmpInDestUnreachs, Counter::IcmpOutDestUnreachs)
    } else {
        (Counter::Icmp6InDestUnreachs, Counter::Icmp6OutDestUnreachs)
    };
    view.delta(netns, received).zip(view.delta(netns, sent))
}

/// What ICMP messages say of SYNs that nobody answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// About as many came as SYNs left.
    Each,
    /// As many as a router that limits them sends.
    Limited,
    Nothing,
}

/// SYNs of the namespace that had no answer are those that were begun, and the repetitions.
fn told_of_syns(view: &View<'_>, traced: &TracedInterval, connects: &Connects, messages: u64) -> Told {
    if !is_steady(view, messages) {
        return Told::Nothing;
    }
    let of = |counter| view.delta(connects.netns, counter);
    let sent = of(Counter::TcpActiveOpens).zip(of(Counter::TcpExtTcpSynRetrans)).map(|(opened, again)| opened + again);
    let answered: u64 = traced.connects.iter().filter(|c| c.netns == connects.netns).map(|c| c.succeeded).sum();
    match sent.map(|sent| sent.saturating_sub(answered)) {
        Some(syns) if syns > 0 && messages * 100 >= syns * AS_MANY_PERCENT => Told::Each,
        _ => Told::Limited,
    }
}

/// As many messages as a router that limits them sends in that time.
fn is_steady(view: &View<'_>, messages: u64) -> bool {
    messages >= MESSAGES && view.interval_ms().is_some_and(|ms| messages * MESSAGE_MS >= ms)
}

/// The causes of attempts that wait in two looks, of which no trace saw the ends: `netns`, where they go, and whether some waited until
/// their SYN was repeated.
#[must_use]
pub fn of_waiting(view: &View<'_>, netns: Option<NetnsId>, to: IpAddr, waits: bool) -> Weighed {
    let messages = messages(view, netns, to);
    let failed = view.delta(netns, Counter::TcpExtTcpRetransFail);
    Weighed::of(CAUSES, |cause| match (cause.id, messages) {
        ("no-answer", Some(n)) if is_steady(view, n) => Weight::Possible(0.4),
        ("no-answer", _) => Weight::Possible(0.85),
        ("unreachable", Some(n)) if is_steady(view, n) => Weight::Possible(0.45),
        ("rejected", Some(n)) if is_steady(view, n) => Weight::Possible(0.15),
        ("unreachable" | "rejected", Some(0)) => Weight::Refuted("no ICMP message came that says so".to_owned()),
        ("unreachable" | "rejected", _) => Weight::Possible(0.05),
        ("impatient", _) if waits => Weight::Refuted("some waited until their SYN was repeated, or longer".to_owned()),
        // For how long each waited is not known.
        ("impatient", _) => Weight::Possible(0.15),
        ("not-leaving", _) if failed == Some(0) && waits => {
            Weight::Refuted("no repetition failed to be sent".to_owned())
        }
        ("not-leaving", _) => Weight::Possible(0.05),
        ("refused" | "refused-by-some" | "turned-away" | "came-up", _) => {
            Weight::Refuted("a RST ends an attempt at once, and these waited".to_owned())
        }
        ("no-local-port", _) => Weight::Refuted("they have a local port".to_owned()),
        _ => Weight::Refuted("no connection to it is seen that works".to_owned()),
    })
}

/// Whether about as many ICMP messages (destination unreachable) came from elsewhere as attempts of this family ended by
/// one, or may have.
fn icmp_came(view: &View<'_>, traced: &TracedInterval, connects: &Connects) -> bool {
    let Some(messages) = messages(view, connects.netns, connects.to.addr) else { return false };
    explain(view, traced, connects, messages)
}

/// Whether this host itself sent about as many, and got no others. One to itself counts as sent and as received.
fn tells_itself(view: &View<'_>, traced: &TracedInterval, connects: &Connects) -> bool {
    let Some((received, sent)) = unreachables(view, connects.netns, connects.to.addr) else { return false };
    let as_many = |a: u64, b: u64| a * 100 >= b * AS_MANY_PERCENT;
    as_many(received, sent) && as_many(sent, received) && explain(view, traced, connects, sent)
}

fn out_of_hops(view: &View<'_>, traced: &TracedInterval, connects: &Connects) -> bool {
    let counter = if connects.to.addr.is_ipv4() { Counter::IcmpInTimeExcds } else { Counter::Icmp6InTimeExcds };
    let expired = view.delta(connects.netns, counter).filter(|n| *n > 0);
    let unreachable = unreachables(view, connects.netns, connects.to.addr);
    unreachable == Some((0, 0)) && expired.is_some_and(|n| explain(view, traced, connects, n))
}

/// Whether so many messages are about as many as the attempts that one may have ended.
fn explain(view: &View<'_>, traced: &TracedInterval, connects: &Connects, messages: u64) -> bool {
    let is_v4 = connects.to.addr.is_ipv4();
    let alike = traced.connects.iter().filter(|c| c.netns == connects.netns && c.to.addr.is_ipv4() == is_v4);
    let ended: u64 = alike.map(by_icmp_at_most).sum();
    // The trace begins before the first sample and ends after the second.
    let came = messages * traced.duration_ms;
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
