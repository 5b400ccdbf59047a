//! A transfer waits for the window of its receiver, not for the network.
//!
//! Input: transfers that the kernel's clock says the window held back, and receivers here whose buffer is fixed. Output:
//! one finding per program. Not here: a window that is shut and stays so (`zero-window-peer`).
//!
#![doc = include_str!("../../../docs/rules/window-limited.md")]

use crate::diagnose::Outcome;
use crate::diagnose::cut_window;
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::limited::{self, Limited, MOVED_BYTES};
use crate::diagnose::offered_window::{
    Buffer, Filled, LEAST_BYTES, UNSCALED_BYTES, WINDOWS, buffer, filled, in_segments, offered, reasons, scales_not,
    whole,
};
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::diagnose::window_course::{self, Course};
use crate::model::conntrack::Connection;
use crate::model::snapshot::Asked;
use crate::model::{NetnsId, Socket, State, TcpInfo};
use crate::text;

pub(super) const RULE: Rule =
    rule!("window-limited", Established, Two, "the receiver's window limits a transfer", check, [TEXT])
        .states(&[State::Established])
        .title("limited by the window")
        .identity(Identity::ProgramAndDestination)
        .causes(CAUSES);

const LET_IT_GROW: &str = "In the receiving program: do not set SO_RCVBUF, so that the kernel lets the buffer grow with the \
                           path";
const RAISE: &str = "If the buffer is at the limit of its host, raise the third number of net.ipv4.tcp_rmem there above rate \
                     times round trip";
const READ: &str = "If the receiver reads slowly, look at what it does with the data: a disk, a pipe, one thread";

const LEAVE: &str = "If the path is full, leave the window: a larger one makes the queue longer and moves no more";

const SCALE_HERE: &str = "Set net.ipv4.tcp_window_scaling = 1 on this host, and open the connections anew";
const SCALE: &str = "Find which host has net.ipv4.tcp_window_scaling = 0, or which device between removes the option from \
                     SYNs; set it to 1 there, and open the connections anew";

const CUT: &str = "Compare the window scale of the SYN-ACK on both sides of each firewall and load balancer on the way (`tcpdump -v \
                   'tcp[tcpflags] & tcp-syn != 0'`): the device that clears it must pass it, or take the option out of both SYNs";

const TEXT: Text = Text {
    why: "A sender may have one window under way in each round trip, so window over round trip is the fastest that this \
          transfer can be. More bandwidth does not help it.",
    remedy: &[LET_IT_GROW, RAISE, SCALE_HERE, SCALE, CUT, READ, LEAVE],
    avoid: &[
        "Don't raise tcp_wmem or SO_SNDBUF: the sender has more than it may send",
        "Don't set SO_RCVBUF to a large number: it also stops the kernel from fitting the buffer to the path",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "reader-slow",
        text: "the receiving program takes the data more slowly than it comes",
        predicts: "data waits at the receiver, and its window becomes smaller",
        refuted_by: "an empty Recv-Q at the receiver, a window as large as it can be, or one that is used up and stands at the same \
                     number",
        decided_by: "Recv-Q on the receiver: `tcpstate list -m -i`",
    },
    Cause {
        id: "buffer-fixed",
        text: "the receiving program has fixed its buffer (SO_RCVBUF), and the window cannot grow",
        predicts: "a whole window is moved in each round trip, and the buffer is not what the kernel begins with or more; from the \
                   sender the window stands, and its scale fits the buffer and no more when that was set before the handshake",
        refuted_by: "a buffer that grows",
        decided_by: "rcvbuf on the receiver against the numbers of net.ipv4.tcp_rmem",
    },
    Cause {
        id: "buffer-at-limit",
        text: "the receive buffer has grown to the limit of its host (net.ipv4.tcp_rmem)",
        predicts: "a whole window is moved in each round trip, and the buffer is the third number of tcp_rmem",
        refuted_by: "a buffer below that limit",
        decided_by: "rcvbuf on the receiver against the numbers of net.ipv4.tcp_rmem",
    },
    Cause {
        id: "path-full",
        text: "the path is full, and its queue makes the round trip long",
        predicts: "the round trip is twice the shortest one or more",
        refuted_by: "a round trip near the shortest one",
        decided_by: "rtt against min-rtt: `tcpstate list -i`",
    },
    Cause {
        id: "no-window-scaling",
        text: "window scaling is off, so that no window is above 64 KiB",
        predicts: "the connection has no wscale, and the window stands at nearly 64 KiB",
        refuted_by: "wscale on the connection, or a smaller window",
        decided_by: "`sysctl net.ipv4.tcp_window_scaling` on both hosts; the SYN on both sides of a firewall",
    },
    Cause {
        id: "window-cut",
        text: "the peer's windows arrive without their scale: a device between cleared it in the handshake",
        predicts: "the window is never a whole segment, the peer goes on acknowledging, and its scale is 0",
        refuted_by: "a window of a segment or more",
        decided_by: "the window scale of the SYN-ACK on both sides of each device between",
    },
];

/// Percent of a window per round trip below which the window does not limit.
const PART: u64 = 30;
/// Percent of the interval from which on a window that is used up limits: a sender that paces itself (BBR) waits for less.
const USED_UP: u64 = 25;
/// A window below this is hardly the limit of a host: the kernel sets the third number of `tcp_rmem` to 4 MiB or more, to less
/// only where memory is short (`tcp_init`).
const LOWERED_BYTES: u32 = 512 * 1024;
/// The scale of a host that lets a buffer grow: the largest buffer that anybody may have decides it, 208 KiB unless somebody
/// lowered both `net.core.rmem_max` and `tcp_rmem` (`tcp_select_initial_window`). Less is of a program that set its own.
const SCALE_OF_HOST: u8 = 2;

pub(super) fn check(view: &View<'_>) -> Outcome {
    if view.before.is_none() {
        return match limited::suspects(view, TcpInfo::rwnd_limited_us, USED_UP) {
            0 => Outcome::default(),
            n => {
                Outcome::wants_second(format!("whether the window limits {}", text::count(n, "transfer", "transfers")))
            }
        };
    }
    let mut limited = limited::transfers_from(view, TcpInfo::rwnd_limited_us, USED_UP, LEAST_BYTES);
    limited
        .retain(|l| l.percent >= limited::MOST && l.moved_bytes >= MOVED_BYTES || Offered::of(view, l).is_used_up(l));
    let receivers: Vec<&Socket> = view.now.sockets.iter().filter(|s| filled(view, s).is_some()).collect();
    let creeping = cut_window::creeping(view);
    if limited.is_empty() && receivers.is_empty() && creeping.is_empty() {
        return Outcome::default();
    }
    let ends = Peers::new(view);
    let senders = ends.groups(limited.iter().map(|l| l.socket), false);
    let mut findings: Vec<Finding> = senders.iter().map(|g| of_sender(view, g, &limited)).collect();
    let undecided = senders.iter().filter_map(|g| undecided(view, g, &limited)).collect();
    findings.extend(ends.groups(creeping.iter().map(|l| l.socket), false).iter().map(|g| of_cut(view, g, &creeping)));
    findings.extend(ends.groups(receivers, false).iter().filter_map(|g| of_receiver(view, g)));
    let asked = Asked { windows: undecided, ..Asked::default() };
    Outcome { asked, ..Outcome::findings(ranking::alike(findings)) }
}

/// The transfers of a group.
fn of_group<'l, 'v>(group: &Group<'_>, all: &'l [Limited<'v>]) -> impl Iterator<Item = &'l Limited<'v>> {
    all.iter().filter(|l| group.rows.iter().any(|s| std::ptr::eq(*s, l.socket)))
}

/// The transfer whose window is worth further looks: the largest one of a group, where only the sender is seen.
fn undecided(view: &View<'_>, group: &Group<'_>, limited: &[Limited<'_>]) -> Option<Connection> {
    let largest = of_group(group, limited).max_by_key(|l| l.moved_bytes)?;
    let is_open = view.mirror(largest.socket).is_none() && weigh(view, largest).named().is_none();
    is_open.then(|| (largest.socket.netns, largest.socket.four_tuple()))
}

/// The window that the receiver of a transfer offers.
struct Offered {
    /// The larger one of both samples, in whole segments: a part of one is not sent.
    bytes: Option<u32>,
    /// It is much the same in both.
    steady: bool,
    min_rtt_us: Option<u32>,
    /// It is as large as it can be without scaling, which the connection has not.
    unscaled: bool,
}

impl Offered {
    fn of(view: &View<'_>, transfer: &Limited<'_>) -> Offered {
        let info = transfer.socket.info.as_deref();
        let window = |s: &Socket| s.info.as_deref()?.snd_wnd_bytes();
        let (now, before) = (window(transfer.socket), view.earlier(transfer.socket).and_then(window));
        let span = now.zip(before).map(|(a, b)| (a.min(b), a.max(b)));
        Offered {
            bytes: span.map(|(_, most)| in_segments(most, info.and_then(TcpInfo::snd_mss_bytes))),
            steady: span.is_some_and(|(least, most)| least.saturating_mul(2) >= most),
            min_rtt_us: info.and_then(TcpInfo::min_rtt_us).filter(|us| *us > 0),
            unscaled: info.and_then(TcpInfo::has_window_scaling) == Some(false)
                && span.is_some_and(|(least, _)| least >= UNSCALED_BYTES),
        }
    }

    fn carried(&self, bytes_per_s: u64, rtt_us: Option<u32>) -> Option<u64> {
        limited::window_percent(bytes_per_s, rtt_us?, self.bytes?)
    }

    fn is_often_moved(&self, transfer: &Limited<'_>) -> bool {
        self.bytes.is_some_and(|bytes| transfer.moved_bytes >= u64::from(bytes).saturating_mul(WINDOWS))
    }

    /// Whether a whole window is moved in each round trip. A queue and a receiver that delays its ACKs make the round trip
    /// longer, so only the shortest one proves it; of a window that comes and goes nothing does.
    fn is_used_up(&self, transfer: &Limited<'_>) -> bool {
        self.steady
            && self.is_often_moved(transfer)
            && self.carried(transfer.bytes_per_s, self.min_rtt_us).is_some_and(|percent| {
                percent
                    >= whole(self.bytes.unwrap_or(0), transfer.socket.info.as_deref().and_then(TcpInfo::snd_mss_bytes))
            })
    }
}

/// What one transfer says of the causes.
fn weigh(view: &View<'_>, transfer: &Limited<'_>) -> Weighed {
    let info = transfer.socket.info.as_deref();
    let offered = Offered::of(view, transfer);
    let whole = offered.is_used_up(transfer);
    let rtt_us = info.and_then(TcpInfo::rtt_us).filter(|us| *us > 0);
    let part = offered.carried(transfer.bytes_per_s, rtt_us).filter(|percent| *percent < PART);
    let mirror = view.mirror(transfer.socket);
    let receiver = mirror.and_then(|receiver| buffer(view, receiver));
    let unread = mirror.map(|m| m.skmem.map_or(m.recv_q_bytes > 0, |mem| m.recv_q_bytes >= mem.rcvbuf_bytes / 4));
    // The end of the receiver says more than its window.
    let course = if mirror.is_none() { window_course::course(view, transfer.socket) } else { None };
    let far_below = |percent: u64| {
        Weight::Refuted(format!("the window would carry {} times as much in a round trip", 100 / percent.max(1)))
    };
    let seen = receiver.unwrap_or(Buffer::Other);
    let scaled = info.and_then(TcpInfo::has_window_scaling);
    Weighed::of(CAUSES, |cause| match (cause.id, seen) {
        ("reader-slow", _) if whole && offered.unscaled => {
            Weight::Refuted("the window is as large as it can be without scaling".into())
        }
        ("reader-slow", _) if whole && unread == Some(false) => {
            Weight::Refuted("nothing waits to be read at the receiver".into())
        }
        ("reader-slow", _) if unread == Some(true) || part.is_some() => Weight::Possible(0.8),
        ("reader-slow", _) => match course {
            Some(Course::Stands { bytes, in_looks, of }) if whole => Weight::Refuted(format!(
                "the window is used up and stands at {} in {in_looks} of {of} looks, which unread data would make move",
                text::count(bytes.into(), "byte", "bytes")
            )),
            Some(Course::Moves { .. }) => Weight::Possible(0.8),
            // What a reader leaves of the window is used up, too.
            _ => Weight::Possible(if whole { 0.3 } else { 0.5 }),
        },
        ("no-window-scaling", _) if scaled == Some(true) => Weight::Refuted("the connection has window scaling".into()),
        ("no-window-scaling", _) if !offered.unscaled => Weight::Refuted("the window is well below 64 KiB".into()),
        _ if part.is_some() => far_below(part.unwrap_or(1)),
        ("no-window-scaling", _) if whole => Weight::Proven,
        ("path-full", _) if whole => Weight::Refuted("a whole window is moved in the shortest round trip".into()),
        ("buffer-fixed", Buffer::Fixed(_)) | ("buffer-at-limit", Buffer::AtLimit(_)) if whole => Weight::Proven,
        ("buffer-fixed", Buffer::AtLimit(bytes)) => {
            Weight::Refuted(format!("the buffer is the {} of tcp_rmem", text::count(bytes.into(), "byte", "bytes")))
        }
        ("buffer-at-limit", Buffer::Fixed(bytes)) => {
            let bytes = text::count(bytes.into(), "byte", "bytes");
            Weight::Refuted(format!("the buffer is {bytes}, and the kernel would make a larger one"))
        }
        ("window-cut", _) => Weight::Refuted("the window is of segments".into()),
        ("buffer-fixed" | "buffer-at-limit", Buffer::Other) if mirror.is_none() => {
            of_a_buffer(cause, transfer.socket, &offered, whole, course)
        }
        // Every host lets it grow to megabytes, unless somebody lowered that.
        ("buffer-at-limit", _) if offered.bytes.is_some_and(|n| n < LOWERED_BYTES) => Weight::Possible(0.1),
        _ => Weight::Possible(0.3),
    })
}

/// What the sender alone can say of the receiver's buffer.
fn of_a_buffer(cause: &Cause, socket: &Socket, offered: &Offered, whole: bool, course: Option<Course>) -> Weight {
    let is_fixed = cause.id == "buffer-fixed";
    let scale = window_course::peers_scale(socket).filter(|scale| *scale < SCALE_OF_HOST);
    let has_scale = socket.info.as_deref().and_then(TcpInfo::has_window_scaling) == Some(true);
    let is_small = offered.bytes.is_some_and(|n| n < LOWERED_BYTES);
    match (scale.filter(|_| has_scale), course) {
        // Linux that lets the buffer grow agrees on 2 or more; other systems may not.
        (Some(_), _) if !is_fixed => Weight::Possible(0.1),
        (_, Some(Course::Moves { .. })) => Weight::Possible(0.1),
        (_, Some(Course::Stands { .. })) if whole => Weight::Possible(match (is_fixed, is_small) {
            (true, true) => 0.7,
            (false, false) => 0.6,
            (true, false) => 0.3,
            (false, true) => 0.1,
        }),
        (Some(_), _) if whole => Weight::Possible(0.5),
        // Every host lets it grow to megabytes, unless somebody lowered that.
        _ => Weight::Possible(if !is_fixed && is_small { 0.1 } else { 0.3 }),
    }
}

/// What helps against each cause.
fn step(view: &View<'_>, netns: Option<NetnsId>, cause: &str) -> &'static str {
    match cause {
        "reader-slow" => READ,
        "buffer-fixed" => LET_IT_GROW,
        "buffer-at-limit" => RAISE,
        "path-full" => LEAVE,
        "window-cut" => CUT,
        _ if scales_not(view, netns) => SCALE_HERE,
        _ => SCALE,
    }
}

/// The cause in the words of a headline.
fn words(view: &View<'_>, netns: Option<NetnsId>, cause: &Cause) -> String {
    let here = cause.id == "no-window-scaling" && scales_not(view, netns);
    format!("{}{}", cause.text, if here { " (net.ipv4.tcp_window_scaling = 0 on this host)" } else { "" })
}

fn of_sender(view: &View<'_>, group: &Group<'_>, limited: &[Limited<'_>]) -> Finding {
    let moved: u64 = of_group(group, limited).map(|l| l.moved_bytes).sum();
    let rate: u64 = of_group(group, limited).map(|l| l.bytes_per_s).sum();
    let largest = of_group(group, limited).max_by_key(|l| l.moved_bytes);
    let info = largest.and_then(|l| l.socket.info.as_deref());
    let (window, rtt_us) = (info.and_then(TcpInfo::snd_wnd_bytes), info.and_then(TcpInfo::rtt_us));
    let causes = largest.map(|l| weigh(view, l)).unwrap_or_default();
    let percent = largest.map_or(0, |l| l.percent);
    let n = group.rows.len() as u64;
    let why = causes.named().map_or_else(String::new, |cause| format!(": {}", words(view, group.netns, cause)));
    let steps: Vec<&str> = causes.left.iter().map(|h| step(view, group.netns, h.cause.id)).collect();
    let summary = format!(
        "{} sends {} a second on {} {} and waits for the peer's window {percent} % of the time{why}",
        group.name(view),
        text::bytes(rate),
        text::count(n, "connection", "connections"),
        peers::with_whom(&group.rows),
    );
    RULE.finding(Severity::Info, 0.95, summary)
        .because("the kernel counts the time in which it had data to send and the window did not let it")
        .causes(causes)
        .steps(steps)
        .subject(group.subject(view))
        .about(group.rows.iter().copied())
        .evidence("transfers", Evidence::Count(n))
        .evidence("limited_percent", Evidence::Percent(percent as f64))
        .evidence("moved_bytes", Evidence::Bytes(moved))
        .evidence("bytes_per_second", Evidence::Bytes(rate))
        .evidence("window_bytes", window.map_or(Evidence::Unknown, |n| Evidence::Bytes(n.into())))
        .evidence(
            "window_scale",
            Evidence::count(largest.and_then(|l| window_course::peers_scale(l.socket)).map(u64::from)),
        )
        .evidence("rtt_ms", Evidence::millis(rtt_us.map(|us| u64::from(us) / 1000)))
        .next(format!("tcpstate list --state established -i -m{}", group.selection()))
}

/// `backup (812) sends 240 bytes a second on 1 connection with 10.0.0.2:80: the peer's window is 64 bytes, less than a segment`.
fn of_cut(view: &View<'_>, group: &Group<'_>, creeping: &[Limited<'_>]) -> Finding {
    let of_group = || of_group(group, creeping);
    let rate: u64 = of_group().map(|l| l.bytes_per_s).sum();
    let least = |value: fn(&TcpInfo) -> Option<u32>| group.rows.iter().filter_map(|s| value(s.info.as_deref()?)).min();
    let (window, mss) = (least(TcpInfo::snd_wnd_bytes), least(TcpInfo::snd_mss_bytes));
    let scale = group.rows.iter().filter_map(|s| window_course::peers_scale(s)).max();
    let causes = group.rows.first().map(|s| cut_window::weigh(CAUSES, s)).unwrap_or_default();
    let n = group.rows.len() as u64;
    let summary = format!(
        "{} sends {} a second on {} {}: the peer's window is {}, less than a segment",
        group.name(view),
        text::bytes(rate),
        text::count(n, "connection", "connections"),
        peers::with_whom(&group.rows),
        text::bytes(window.unwrap_or(0).into()),
    );
    let steps: Vec<&str> = causes.left.iter().map(|h| step(view, group.netns, h.cause.id)).collect();
    RULE.finding(Severity::Warning, 0.9, summary)
        .because("the window, what is sent at a time and what is acknowledged are exact; no reader opens a window so")
        .causes(causes)
        .steps(steps)
        .subject(group.subject(view))
        .about(group.rows.iter().copied())
        .evidence("transfers", Evidence::Count(n))
        .evidence("limited_percent", Evidence::Percent(of_group().map(|l| l.percent).max().unwrap_or(0) as f64))
        .evidence("moved_bytes", Evidence::Bytes(of_group().map(|l| l.moved_bytes).sum()))
        .evidence("bytes_per_second", Evidence::Bytes(rate))
        .evidence("window_bytes", window.map_or(Evidence::Unknown, |n| Evidence::Bytes(n.into())))
        .evidence("window_scale", Evidence::count(scale.map(u64::from)))
        .evidence("segment_size", Evidence::count(mss.map(u64::from)))
        .next(format!("tcpstate list --state established -i -m{}", group.selection()))
}

fn of_receiver(view: &View<'_>, group: &Group<'_>) -> Option<Finding> {
    let reasons = reasons(view, &group.rows);
    let (main, _) = *reasons.first()?;
    let received: u64 = group.rows.iter().filter_map(|s| view.grown(s, TcpInfo::bytes_received)).sum();
    let rate = view.interval_ms().map_or(0, |ms| received.saturating_mul(1000) / ms);
    let n = group.rows.len() as u64;
    let why: Vec<String> = reasons
        .iter()
        .map(|(what, of)| match what.words(view, group.netns) {
            words if reasons.len() == 1 => words,
            words => format!("{words} ({})", text::of(*of, n)),
        })
        .collect();
    let summary = format!(
        "{} receives {} a second on {} {}, one window in each round trip: {}",
        group.name(view),
        text::bytes(rate),
        text::count(n, "connection", "connections"),
        peers::with_whom(&group.rows),
        why.join("; "),
    );
    let least = |value: fn(&Socket) -> Option<u64>| {
        group.rows.iter().filter_map(|s| value(s)).min().map_or(Evidence::Unknown, Evidence::Bytes)
    };
    let rtt_ms = group.rows.iter().filter_map(|s| Some(u64::from(s.info.as_deref()?.rcv_rtt_us()?) / 1000)).max();
    let finding = RULE
        .finding(Severity::Info, 0.9, summary)
        .because(if reasons.len() == 1 { main.because() } else { "no window can grow, and what came fills each" })
        .causes(excluding(&reasons))
        .steps(reasons.iter().map(|(what, _)| step(view, group.netns, what.cause())))
        .subject(group.subject(view))
        .about(group.rows.iter().copied())
        .evidence("transfers", Evidence::Count(n))
        .evidence("moved_bytes", Evidence::Bytes(received))
        .evidence("bytes_per_second", Evidence::Bytes(rate))
        .evidence("receive_buffer_bytes", least(|s| Some(s.skmem?.rcvbuf_bytes.into())))
        .evidence("window_bytes", least(|s| Some(offered(s.info.as_deref()?)?.into())))
        .evidence("rtt_ms", Evidence::millis(rtt_ms))
        .next(format!("tcpstate list --state established -i -m{}", group.selection()));
    Some(finding)
}

/// Each reason is proven of its connections; what excludes the other causes.
fn excluding(reasons: &[(Filled, u64)]) -> Weighed {
    let has = |cause: &str| reasons.iter().any(|(what, _)| what.cause() == cause);
    Weighed::of(CAUSES, |cause| match cause.id {
        id if has(id) => Weight::Proven,
        "reader-slow" => Weight::Refuted("the program reads what comes".into()),
        "path-full" => Weight::Possible(0.3),
        "window-cut" => Weight::Refuted("this host offers the window, and it is of segments".into()),
        "no-window-scaling" => Weight::Refuted("the connection has window scaling, or a window below 64 KiB".into()),
        "buffer-fixed" if has("buffer-at-limit") => {
            Weight::Refuted("the buffer is the third number of tcp_rmem".into())
        }
        "buffer-at-limit" if has("buffer-fixed") => Weight::Refuted("the kernel would make a larger one".into()),
        _ => Weight::Refuted("a larger buffer would offer no larger window".into()),
    })
}

#[cfg(test)]
mod tests;
