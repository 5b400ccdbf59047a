//! Why connections end by reset, as data: the causes, and what the kernel's reason and the trace prove of them.
//!
//! Input: traced resets of one service. Output: how many of them a cause explains. Not here: who sends them, and whom it hurts.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::diagnose::callers;
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::reset_owners::Owners;
use crate::diagnose::view::View;
use crate::model::event::ResetReason;
use crate::model::sysctl::Sysctl;
use crate::model::traced::{ConnectFailure, Connects, Resets, SentFor, TracedInterval};
use crate::model::{Endpoint, NetnsId, Socket, State};
use crate::text;

pub const CAUSES: &[Cause] = &[
    Cause {
        id: "closed-unread",
        text: "its process closes with unread data",
        predicts: "the kernel's reason is abort_on_close",
        refuted_by: "another reason",
        decided_by: "`strace -e trace=read,recvfrom,close` of the process",
    },
    Cause {
        id: "gave-up",
        text: "it had asked, got no answer, and gave up waiting",
        predicts: "the end that asked cuts them off, and had not received a byte",
        refuted_by: "bytes that had come",
        decided_by: "the time limit of the program that asked, and what the other end does meanwhile: the finding no-answer",
    },
    Cause {
        id: "cut-off",
        text: "its process cuts them off with SO_LINGER 0",
        predicts: "the kernel's reason is disconnected",
        refuted_by: "another reason",
        decided_by: "SO_LINGER in the program; health checks and load testers set it on purpose",
    },
    Cause {
        id: "closed-too-early",
        text: "its process closes connections on which the other end still sends",
        predicts: "the kernel's reason is abort_on_data",
        refuted_by: "another reason",
        decided_by: "the limits for idle connections of both ends; requests that are answered before they were read whole",
    },
    Cause {
        id: "closed-before",
        text: "it had closed the connections itself some time before, and the other end sent on them all the same",
        predicts: "the kernel's reason is timewait: FIN_WAIT2 is left of the connection",
        refuted_by: "another reason",
        decided_by: "the keep-alive timeout of the server against the idle time of the client's pool; a TLS close_notify \
                     that comes late does the same, and hurts nobody",
    },
    Cause {
        id: "late-answer",
        text: "the client had closed them, or given them up, before all of the answer had come",
        predicts: "the client's kernel answers what the service sends with abort_on_data, timewait or no_socket",
        refuted_by: "a service that closed first",
        decided_by: "the time limits of the client against the time that the service takes; clients that end, or that need no \
                     more of the answer, do the same",
    },
    Cause {
        id: "used-after-close",
        text: "the peer had closed the connections before, and the program here used them again",
        predicts: "they had carried data, were in CLOSE_WAIT for a while when the program wrote, and the reset ended them with EPIPE",
        refuted_by: "the reset came before any FIN of the peer, or to a connection that was new",
        decided_by: "the idle time of the pool against the keep-alive timeout of the server; a TLS close_notify of our own \
                     does the same, and hurts nobody",
    },
    Cause {
        id: "turned-away",
        text: "the service ends new connections before it serves them (a limit or an access rule of its own, a worker that dies)",
        predicts: "they end within a second of the handshake, and carry no more than a line",
        refuted_by: "connections that had been in use",
        decided_by: "the log of the service; its limits on clients, workers and descriptors; `tcpstate doctor` on its host",
    },
    Cause {
        id: "not-known",
        text: "segments come for connections that it does not have",
        predicts: "the kernel's reason is no_socket",
        refuted_by: "another reason",
        decided_by: "what was restarted, and whether a device between forgot the connections or sends them elsewhere",
    },
    Cause {
        id: "no-listener",
        text: "nothing here listens on that address and port",
        predicts: "the kernel's reason is no_socket, and the port has no listener",
        refuted_by: "a listener of the port",
        decided_by: "`ss -ltn` of the port",
    },
    Cause {
        id: "restarted",
        text: "the process that serves ended, and its kernel resets what it left; another was started",
        predicts: "the listener is another one than in the first sample, or a trace saw several of the port closed",
        refuted_by: "the same listener in both samples",
        decided_by: "the exit status and the log of the service (`journalctl -u`), `dmesg` for a process that was killed",
    },
    Cause {
        id: "kernel",
        text: "the kernel gives them up: memory, orphans, keepalive, TCP_LINGER2",
        predicts: "the kernel's reason is abort_on_memory, keepalive_timeout or abort_on_linger",
        refuted_by: "another reason",
        decided_by: "orphan-limit, tcp-memory-pressure, and the socket options of the program",
    },
    Cause {
        id: "untranslated",
        text: "answers pass a translation (NAT) untranslated, as its connection tracking takes them for invalid, and whoever gets \
               them resets what it does not know",
        predicts: "segments come to ports of these connections from an address that nobody called; `invalid` of \
                   /proc/net/stat/nf_conntrack grows at the host that translates",
        refuted_by: "no such segment",
        decided_by: "`conntrack -S` at the host that translates; `sysctl net.netfilter.nf_conntrack_log_invalid=6` there logs \
                     each packet with the reason",
    },
    Cause {
        id: "idle-cut",
        text: "they had been idle, and a device between, or the peer, knew them no more",
        predicts: "nothing was said on them for a second or more in the first sample, and the next request was answered by a reset",
        refuted_by: "resets in the middle of traffic",
        decided_by: "the idle limits of NAT, firewall and load balancer on the way; `tcpstate trace --resets` on the other side",
    },
    Cause {
        id: "outside",
        text: "the peer sends them, or a device between",
        predicts: "they come, and no socket of this host sent them",
        refuted_by: "this host sent as many",
        decided_by: "`tcpstate trace --resets` on the other side",
    },
];

/// What is known of the two ends beside the resets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    /// The service would be here, and nothing listens there.
    pub deaf: bool,
    /// The service is here, and its listener is not the one of the first sample.
    pub restarted: bool,
    /// Attempts to connect that clients here gave up.
    pub given_up: u64,
    /// Connections of clients here that were idle in the first sample, and are gone in the second.
    pub idle: u64,
}

/// The namespace of a service, and its address and port.
pub type Place = (Option<NetnsId>, Endpoint);

/// Fewer in an interval are no pattern (policy).
pub const MANY: u64 = 5;
/// A pause that traffic does not have (policy).
const IDLE_MS: u64 = 1000;

impl Ends {
    /// What else is known of a service and of its clients here.
    #[must_use]
    pub fn of(view: &View<'_>, traced: &TracedInterval, place: Place, idle: &FxHashMap<Place, u64>) -> Ends {
        let (netns, service) = place;
        let calls = |c: &&Connects| c.to == service && callers::place(view, c.netns, c.to) == place;
        let given_up = |c: &Connects| -> u64 {
            let is = |kind: ConnectFailure| matches!(kind, ConnectFailure::GivenUp | ConnectFailure::AtOnce);
            c.failed.iter().filter(|(kind, _)| is(*kind)).map(|(_, n)| n).sum()
        };
        Ends {
            restarted: callers::is_restarted(view, netns, service),
            deaf: !is_of_a_client(view, netns, service) && callers::listening(view, netns, service).is_none(),
            given_up: traced.connects.iter().filter(calls).map(given_up).sum(),
            idle: idle.get(&place).copied().unwrap_or(0),
        }
    }
}

/// How many connections to each of these services had been in use, rested, and are no more.
#[must_use]
pub fn idle(view: &View<'_>, services: &FxHashSet<Endpoint>) -> FxHashMap<Place, u64> {
    let mut idle: FxHashMap<Place, u64> = FxHashMap::default();
    let rows = view.before.into_iter().flat_map(|before| &before.sockets);
    for socket in rows.filter(|s| services.contains(&s.peer.normalised()) && is_idle(view, s)) {
        *idle.entry(callers::place(view, socket.netns, socket.peer.normalised())).or_default() += 1;
    }
    idle
}

/// Whether a connection had been in use, rested, and is no more.
fn is_idle(view: &View<'_>, socket: &Socket) -> bool {
    let rests = || {
        let info = socket.info.as_deref().filter(|i| i.bytes_received() > Some(0))?;
        Some(u64::from(info.last_data_sent_ms()?.min(info.last_data_recv_ms()?)) >= IDLE_MS)
    };
    socket.state == State::Established
        && rests() == Some(true)
        && view.at(socket.netns, socket.four_tuple()).is_none_or(|now| now.cookie != socket.cookie)
}

/// Whether the kernel gives this port to clients: where both ends have such a port, the lower one is not the service for sure.
fn is_of_a_client(view: &View<'_>, netns: Option<NetnsId>, at: Endpoint) -> bool {
    let range = view.netns(netns).and_then(|n| n.sysctls.get(Sysctl::Ipv4IpLocalPortRange));
    let port = u64::from(at.port);
    range
        .is_none_or(|range| range.first().is_none_or(|from| port >= *from) && range.get(1).is_none_or(|to| port <= *to))
}

/// How many of these prove a cause, by the kernel's reason and by what the trace saw of the connections.
#[must_use]
pub fn proven(cause: &str, resets: &Resets, ends: Ends) -> u64 {
    let Some(SentFor::Reason(reason)) = resets.sent else {
        return if cause == "gave-up" { resets.waited } else { 0 };
    };
    let of_client = !resets.served_here;
    let named = match reason {
        ResetReason::AbortOnClose => "closed-unread",
        ResetReason::Disconnected | ResetReason::DisconnectWithData => match cause {
            "gave-up" => return resets.waited,
            "cut-off" => return resets.count.saturating_sub(resets.waited),
            _ => return 0,
        },
        ResetReason::AbortOnData | ResetReason::TimeWait if of_client => "late-answer",
        // The SYN-ACKs of attempts that are over.
        ResetReason::NoSocket if of_client && ends.given_up * 2 >= resets.count => "late-answer",
        ResetReason::AbortOnData => "closed-too-early",
        ResetReason::TimeWait => "closed-before",
        ResetReason::NoSocket if ends.deaf && !of_client => "no-listener",
        ResetReason::NoSocket => "not-known",
        ResetReason::AbortOnMemory | ResetReason::KeepaliveTimeout | ResetReason::AbortOnLinger => "kernel",
        _ => return 0,
    };
    if cause == named { resets.count } else { 0 }
}

/// A cause of fewer is not named, in percent of the resets (policy).
const SHARE_OF_CAUSE: u64 = 10;

/// The resets of one service, from both sides as far as they are seen.
#[derive(Debug)]
pub struct Story<'a> {
    /// Of the service.
    pub netns: Option<NetnsId>,
    pub service: Endpoint,
    pub sent: Vec<&'a Resets>,
    pub came: Vec<&'a Resets>,
    pub ends: Ends,
    /// Segments of these connections that were not translated.
    pub untranslated: u64,
}

impl<'a> Story<'a> {
    /// Whether this is the service that an address and port means in a namespace.
    #[must_use]
    pub fn is_called(&self, view: &View<'_>, from: Option<NetnsId>, to: Endpoint) -> bool {
        to == self.service && callers::place(view, from, to).0 == self.netns
    }

    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.iter().map(|r| r.count).sum()
    }

    #[must_use]
    pub fn came(&self) -> u64 {
        self.came.iter().map(|r| r.count).sum()
    }

    /// A reset that one end sends and the other gets is seen twice. What answers segments that were not translated is none of these
    /// connections.
    #[must_use]
    pub fn count(&self) -> u64 {
        let ended = self.ended();
        if self.is_untranslated() && ended > 0 { ended } else { self.sent().max(self.came()) }
    }

    /// Connections that a RST ended: at both ends where somebody between sends them.
    fn ended(&self) -> u64 {
        let came = |here| self.came.iter().filter(|r| r.served_here == here).map(|r| r.count).sum::<u64>();
        came(true).max(came(false))
    }

    /// Clients that had sent something and were reset before anything came back.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        let of = |all: &[&Resets], served_here| -> u64 {
            all.iter().filter(|r| r.served_here == served_here).map(|r| r.unanswered).sum()
        };
        of(&self.came, false).max(of(&self.sent, true))
    }

    /// Connections that their peer had closed, and that were used again: at the client's end, or by what the server's
    /// kernel says.
    #[must_use]
    pub fn reused(&self) -> u64 {
        self.seen(|r| r.after_fin).max(self.sent_for("closed-before"))
    }

    /// A sum over those that came.
    #[must_use]
    pub fn seen(&self, of: fn(&Resets) -> u64) -> u64 {
        self.came.iter().map(|r| of(r)).sum()
    }

    /// New connections of clients here that got no more than a line.
    #[must_use]
    pub fn fresh(&self) -> u64 {
        self.came.iter().filter(|r| !r.served_here).map(|r| r.fresh).sum()
    }

    /// Connections of clients here that were cut while the service had not closed them.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        self.came.iter().filter(|r| !r.served_here).map(|r| r.in_use).sum()
    }

    /// Connections that clients here cut off as no answer came.
    #[must_use]
    pub fn waited(&self) -> u64 {
        self.sent.iter().map(|r| r.waited).sum()
    }

    /// The clients' ends on this host: whose connections were reset, or who reset them.
    pub fn owners(&self) -> Owners<'a> {
        let ours = if self.outsiders() * 2 <= self.count() { &self.sent } else { &self.came };
        Owners::of(ours.iter().copied().filter(|r| !r.served_here))
    }

    /// Whether half of them or more are explained by segments that were not translated.
    #[must_use]
    pub fn is_untranslated(&self) -> bool {
        self.untranslated > 0 && self.untranslated * 2 >= self.ended()
    }

    /// Those that came, and that nobody here has sent.
    #[must_use]
    pub fn outsiders(&self) -> u64 {
        self.came().saturating_sub(self.sent())
    }

    /// Who sent most.
    #[must_use]
    pub fn sender(&self) -> Option<&'a Resets> {
        self.sent.iter().copied().max_by_key(|r| r.count)
    }

    /// Whether the kernel gave the reason of all that were sent here.
    #[must_use]
    pub fn reasons_known(&self) -> bool {
        self.sent.iter().all(|r| matches!(r.sent, Some(SentFor::Reason(_))))
    }

    /// How many were sent for reasons that prove a cause.
    #[must_use]
    pub fn sent_for(&self, cause: &str) -> u64 {
        self.sent.iter().map(|r| proven(cause, r, self.ends)).sum()
    }
}

/// Which causes are left.
#[must_use]
pub fn weigh(story: &Story<'_>) -> Weighed {
    let (all, outside) = (story.count(), story.outsiders());
    let (after_fin, late, fresh) = (story.seen(|r| r.after_fin), story.seen(|r| r.late), story.fresh());
    let reasons_known = story.reasons_known();
    // The reasons of a sender that is seen tell more than the end that got them.
    let unseen = |n: u64| if story.sent() == 0 { n } else { 0 };
    if story.is_untranslated() {
        return Weighed::of(CAUSES, |cause| match cause.id {
            "untranslated" => Weight::Proven,
            _ => Weight::Refuted(format!(
                "{} came untranslated, and a RST answered each",
                text::count(story.untranslated, "segment of these connections", "segments of these connections")
            )),
        });
    }
    // What a process leaves behind when it ends is reset for whatever state it was in.
    let restarted = story.ends.restarted && !story.sent.is_empty() && story.sent.iter().all(|r| r.served_here);
    Weighed::of(CAUSES, |cause| {
        let (n, weight) = match cause.id {
            "restarted" if restarted => (story.sent(), Weight::Proven),
            "closed-unread" | "cut-off" | "closed-too-early" | "not-known" | "no-listener" if restarted => {
                (0, Weight::Proven)
            }
            "idle-cut" if story.ends.idle * 2 >= all && story.in_use() * 2 >= all => {
                (unseen(all), Weight::Possible(0.7))
            }
            "idle-cut" => (0, Weight::Proven),
            "outside" if story.ends.idle * 2 >= all => {
                (outside.saturating_sub(after_fin + late), Weight::Possible(0.3))
            }
            // A new connection that ends at once may have met either, and a device between seldom waits for a handshake.
            "outside" if fresh * 2 >= all => (outside, Weight::Possible(0.4)),
            "outside" => (outside.saturating_sub(after_fin + late), Weight::Possible(0.9)),
            "turned-away" => (unseen(fresh), Weight::Possible(0.6)),
            "used-after-close" => (unseen(after_fin), Weight::Proven),
            "late-answer" => (unseen(late).max(story.sent_for(cause.id)), Weight::Proven),
            "untranslated" => (0, Weight::Proven),
            id => (story.sent_for(id), Weight::Proven),
        };
        let of_receiver =
            matches!(cause.id, "outside" | "used-after-close" | "turned-away" | "idle-cut" | "untranslated");
        if n * 100 >= all * SHARE_OF_CAUSE && n > 0 {
            weight
        } else if !reasons_known && !of_receiver && !restarted && !matches!(cause.id, "no-listener" | "restarted") {
            Weight::Possible(0.2)
        } else {
            Weight::Refuted(refuted(story, cause.id, n, restarted))
        }
    })
}

/// Why a cause is none of most of them.
fn refuted(story: &Story<'_>, cause: &str, n: u64, restarted: bool) -> String {
    let after_fin = story.seen(|r| r.after_fin);
    match cause {
        "used-after-close" => {
            format!("{} had been in use, and in CLOSE_WAIT for a while, when the reset came", text::grouped(after_fin))
        }
        "idle-cut" => format!(
            "{} to it had rested for a second in the first sample, and are gone",
            text::count(story.ends.idle, "connection", "connections")
        ),
        "untranslated" => "no segment came from an address that nobody called".to_owned(),
        "turned-away" => format!("{} of them were new and had got no more than a line", text::grouped(story.fresh())),
        "outside" if after_fin > 0 => format!("{} were in CLOSE_WAIT, and used again", text::grouped(after_fin)),
        "outside" => "this host sent as many as came".to_owned(),
        "restarted" if story.ends.restarted => "the clients sent them".to_owned(),
        "restarted" => "the listener is the one of the first sample, or is not here".to_owned(),
        "closed-unread" | "cut-off" | "closed-too-early" | "not-known" | "no-listener" if restarted => {
            "the process ended, and its kernel resets what it left".to_owned()
        }
        "no-listener" if !story.ends.deaf => "the port has a listener".to_owned(),
        _ if story.sent.is_empty() => "no socket of this host sent one".to_owned(),
        _ => format!("{} of {} that this host sent", text::grouped(n), text::count(story.sent(), "reset", "resets")),
    }
}
