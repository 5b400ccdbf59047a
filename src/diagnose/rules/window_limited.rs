//! A transfer waits for the window of its receiver, not for the network.
//!
//! Input: transfers that the kernel's clock says the window held back, and receivers here whose buffer is fixed. Output:
//! one finding per program. Not here: a window that is shut and stays so (`zero-window-peer`).
//!
#![doc = include_str!("../../../docs/rules/window-limited.md")]

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::limited::{self, Limited, MOVED_BYTES};
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::sysctl::Sysctl;
use crate::model::{Socket, State, TcpInfo};
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

const TEXT: Text = Text {
    why: "A sender may have one window under way in each round trip, so window over round trip is the fastest that this \
          transfer can be. More bandwidth does not help it.",
    remedy: &[LET_IT_GROW, RAISE, READ, LEAVE],
    avoid: &[
        "Don't raise tcp_wmem or SO_SNDBUF: the sender has more than it may send",
        "Don't set SO_RCVBUF to a large number: it also stops the kernel from fitting the buffer to the path",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "reader-slow",
        text: "the receiving program takes the data more slowly than it comes",
        predicts: "the window would carry several times as much in a round trip",
        refuted_by: "a whole window is moved in each round trip",
        decided_by: "Recv-Q on the receiver: `tcpstate list -m -i`",
    },
    Cause {
        id: "buffer-fixed",
        text: "the receiving program has fixed its buffer (SO_RCVBUF), and the window cannot grow",
        predicts: "a whole window is moved in each round trip, and the buffer is not what the kernel begins with or more",
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
];

/// Percent of a window per round trip from which on nothing else can limit, and below which the window does not.
const WHOLE: u64 = 70;
const PART: u64 = 30;

pub(super) fn check(view: &View<'_>) -> Outcome {
    if view.before.is_none() {
        return match limited::suspects(view, TcpInfo::rwnd_limited_us) {
            0 => Outcome::default(),
            n => {
                Outcome::wants_second(format!("whether the window limits {}", text::count(n, "transfer", "transfers")))
            }
        };
    }
    let limited = limited::transfers(view, TcpInfo::rwnd_limited_us);
    let receivers: Vec<&Socket> = view.now.sockets.iter().filter(|s| receives_a_window(view, s)).collect();
    if limited.is_empty() && receivers.is_empty() {
        return Outcome::default();
    }
    let ends = Peers::new(view);
    let senders = ends.groups(limited.iter().map(|l| l.socket), false);
    let mut findings: Vec<Finding> = senders.iter().map(|g| of_sender(view, g, &limited)).collect();
    findings.extend(ends.groups(receivers, false).iter().map(|g| of_receiver(view, g)));
    Outcome::findings(ranking::alike(findings))
}

/// What the kernel made of a receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Buffer {
    /// Below what a connection begins with, so `SO_RCVBUF` was set (`sock_init_data`, `tcp_init_sock`).
    Fixed(u32),
    /// The third number of `tcp_rmem`: where growth ends (`tcp_rcv_space_adjust`).
    AtLimit(u32),
    Other,
}

fn buffer(view: &View<'_>, receiver: &Socket) -> Option<Buffer> {
    let bytes = receiver.skmem?.rcvbuf_bytes;
    let rmem = view.netns(receiver.netns)?.sysctls.get(Sysctl::Ipv4TcpRmem)?;
    let [_, first, most] = rmem.as_slice() else { return None };
    Some(match u64::from(bytes) {
        n if n < *first => Buffer::Fixed(bytes),
        n if n == *most => Buffer::AtLimit(bytes),
        _ => Buffer::Other,
    })
}

/// What one transfer says of the causes.
fn weigh(view: &View<'_>, transfer: &Limited<'_>) -> Weighed {
    let info = transfer.socket.info.as_deref();
    let window = info.and_then(TcpInfo::snd_wnd_bytes);
    let carries = |rtt: fn(&TcpInfo) -> Option<u32>| {
        limited::window_percent(transfer.bytes_per_s, info.and_then(rtt).filter(|us| *us > 0)?, window?)
    };
    // A queue and a receiver that delays its ACKs make the round trip longer, so only the shortest one proves that the
    // window is used up, and the present one that it is not.
    let whole = carries(TcpInfo::min_rtt_us).is_some_and(|percent| percent >= WHOLE);
    let part = carries(TcpInfo::rtt_us).filter(|percent| *percent < PART);
    let receiver = view.mirror(transfer.socket).and_then(|receiver| buffer(view, receiver));
    let far_below = |percent: u64| {
        Weight::Refuted(format!("the window would carry {} times as much in a round trip", 100 / percent.max(1)))
    };
    let seen = receiver.unwrap_or(Buffer::Other);
    Weighed::of(CAUSES, |cause| match (cause.id, seen) {
        ("reader-slow", _) if whole => Weight::Refuted("a whole window is moved in each round trip".into()),
        ("reader-slow", _) => Weight::Possible(if part.is_some() { 0.8 } else { 0.5 }),
        _ if part.is_some() => far_below(part.unwrap_or(1)),
        ("path-full", _) if whole => Weight::Refuted("a whole window is moved in the shortest round trip".into()),
        ("buffer-fixed", Buffer::Fixed(_)) | ("buffer-at-limit", Buffer::AtLimit(_)) if whole => Weight::Proven,
        ("buffer-fixed", Buffer::AtLimit(bytes)) => {
            Weight::Refuted(format!("the buffer is the {} of tcp_rmem", text::count(bytes.into(), "byte", "bytes")))
        }
        ("buffer-at-limit", Buffer::Fixed(bytes)) => {
            let bytes = text::count(bytes.into(), "byte", "bytes");
            Weight::Refuted(format!("the buffer is {bytes}, below what a connection begins with"))
        }
        _ => Weight::Possible(0.3),
    })
}

fn of_sender(view: &View<'_>, group: &Group<'_>, limited: &[Limited<'_>]) -> Finding {
    let of_group = || limited.iter().filter(|l| group.rows.iter().any(|s| std::ptr::eq(*s, l.socket)));
    let moved: u64 = of_group().map(|l| l.moved_bytes).sum();
    let rate: u64 = of_group().map(|l| l.bytes_per_s).sum();
    let largest = of_group().max_by_key(|l| l.moved_bytes);
    let info = largest.and_then(|l| l.socket.info.as_deref());
    let (window, rtt_us) = (info.and_then(TcpInfo::snd_wnd_bytes), info.and_then(TcpInfo::rtt_us));
    let causes = largest.map(|l| weigh(view, l)).unwrap_or_default();
    let percent = largest.map_or(0, |l| l.percent);
    let n = group.rows.len() as u64;
    let why = causes.named().map_or_else(String::new, |cause| format!(": {}", cause.text));
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
        .subject(group.subject(view))
        .about(group.rows.iter().copied())
        .evidence("transfers", Evidence::Count(n))
        .evidence("limited_percent", Evidence::Percent(percent as f64))
        .evidence("moved_bytes", Evidence::Bytes(moved))
        .evidence("bytes_per_second", Evidence::Bytes(rate))
        .evidence("window_bytes", window.map_or(Evidence::Unknown, |n| Evidence::Bytes(n.into())))
        .evidence("rtt_ms", Evidence::millis(rtt_us.map(|us| u64::from(us) / 1000)))
        .next(format!("tcpstate list --state established -i -m{}", group.selection()))
}

/// Whether a connection here receives a whole window of a fixed buffer in each round trip, reads what comes, and its
/// sender is elsewhere. Only with timestamps is the receiver's round trip measured and not a guess from the window itself
/// (`tcp_rcv_rtt_measure`).
fn receives_a_window(view: &View<'_>, socket: &Socket) -> bool {
    let is = || {
        let info = socket.info.as_deref().filter(|i| i.has_timestamps() == Some(true))?;
        let received = view.grown(socket, TcpInfo::bytes_received).filter(|n| *n >= MOVED_BYTES)?;
        let Buffer::Fixed(buffer) = buffer(view, socket)? else { return None };
        let rate = received.saturating_mul(1000) / view.interval_ms()?;
        let percent = limited::window_percent(rate, info.rcv_rtt_us()?, info.rcv_wnd_bytes()?)?;
        Some(percent >= WHOLE && socket.recv_q_bytes < buffer / 4)
    };
    peers::is_held(socket, &[State::Established]) && is() == Some(true) && view.mirror(socket).is_none()
}

fn of_receiver(view: &View<'_>, group: &Group<'_>) -> Finding {
    let received: u64 = group.rows.iter().filter_map(|s| view.grown(s, TcpInfo::bytes_received)).sum();
    let rate = view.interval_ms().map_or(0, |ms| received.saturating_mul(1000) / ms);
    let first = group.rows.first();
    let buffer = first.and_then(|s| s.skmem).map(|m| u64::from(m.rcvbuf_bytes));
    let info = first.and_then(|s| s.info.as_deref());
    let n = group.rows.len() as u64;
    let summary = format!(
        "{} receives {} a second on {} {}, one window in each round trip: it has fixed its buffer at {} (SO_RCVBUF)",
        group.name(view),
        text::bytes(rate),
        text::count(n, "connection", "connections"),
        peers::with_whom(&group.rows),
        text::bytes(buffer.unwrap_or(0)),
    );
    RULE.finding(Severity::Info, 0.9, summary)
        .because("the buffer is smaller than any that the kernel makes by itself, and what came fills its window")
        .causes(Weighed::of(CAUSES, |cause| match cause.id {
            "buffer-fixed" => Weight::Proven,
            "reader-slow" => Weight::Refuted("the program reads what comes".into()),
            "path-full" => Weight::Possible(0.3),
            _ => Weight::Refuted("the buffer is below what a connection begins with".into()),
        }))
        .steps([LET_IT_GROW])
        .subject(group.subject(view))
        .about(group.rows.iter().copied())
        .evidence("transfers", Evidence::Count(n))
        .evidence("moved_bytes", Evidence::Bytes(received))
        .evidence("bytes_per_second", Evidence::Bytes(rate))
        .evidence("receive_buffer_bytes", buffer.map_or(Evidence::Unknown, Evidence::Bytes))
        .evidence(
            "window_bytes",
            info.and_then(TcpInfo::rcv_wnd_bytes).map_or(Evidence::Unknown, |n| Evidence::Bytes(n.into())),
        )
        .evidence("rtt_ms", Evidence::millis(info.and_then(TcpInfo::rcv_rtt_us).map(|us| u64::from(us) / 1000)))
        .next(format!("tcpstate list --state established -i -m{}", group.selection()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, row};
    use crate::model::SkMem;

    const RMEM: [u64; 3] = [4096, 131_072, 6_291_456];

    /// A transfer with a window of 50,000 bytes; two seconds later it moved `moved` bytes and was held back `held_ms`.
    fn sends(moved: u64, held_ms: u64, rtt_us: u64) -> World {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4TcpRmem, &RMEM);
        let fields =
            [("snd_wnd_bytes", 50_000), ("rtt_us", rtt_us), ("min_rtt_us", rtt_us), ("bytes_acked", 1_000_000)];
        let socket = Socket {
            send_q_bytes: Some(90_000),
            ..info(row(State::Established, "10.0.0.1:40000", "10.0.0.2:80"), &fields)
        };
        world.hold(812, "backup", 3, socket.inode).add(socket).later(2000);
        let info = world.now.sockets[0].info.as_mut().unwrap();
        assert!(info.set("bytes_acked", 1_000_000 + moved) && info.set("rwnd_limited_us", held_ms * 1000));
        world
    }

    /// The receiver of the same connection, on this host.
    fn received_by(world: &mut World, rcvbuf: u32) {
        let skmem = SkMem { rcvbuf_bytes: rcvbuf, ..SkMem::default() };
        let far = row(State::Established, "10.0.0.2:80", "10.0.0.1:40000");
        world.hold(900, "sink", 4, far.inode).add(Socket { skmem: Some(skmem), ..far });
    }

    #[test]
    fn half_of_the_interval_and_a_real_transfer_are_an_explanation() {
        let outcome = sends(2_000_000, 1800, 50_000).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(812)));
        assert!(finding.summary.contains("waits for the peer's window 90 % of the time"), "{}", finding.summary);
        assert_eq!(sends(2_000_000, 1000, 50_000).check(check).findings.len(), 1);
        assert_eq!(sends(2_000_000, 999, 50_000).check(check), Outcome::default());
        assert_eq!(sends(65_535, 1800, 50_000).check(check), Outcome::default());
    }

    #[test]
    fn a_fixed_buffer_is_named_only_when_it_is_seen_and_the_window_is_used_up() {
        let causes = |moved, rcvbuf: Option<u32>| {
            let mut world = sends(moved, 1800, 50_000);
            if let Some(bytes) = rcvbuf {
                received_by(&mut world, bytes);
            }
            world.check(check).findings.remove(0).causes
        };
        // A whole window per round trip is a million bytes a second.
        assert!(causes(2_000_000, Some(131_071)).is("buffer-fixed"));
        assert!(causes(2_000_000, Some(6_291_456)).is("buffer-at-limit"));
        assert!(causes(2_000_000, Some(131_072)).named().is_none(), "what a connection begins with");
        let unseen = causes(2_000_000, None);
        let left: Vec<&str> = unseen.left.iter().map(|h| h.cause.id).collect();
        assert_eq!(left, ["buffer-fixed", "buffer-at-limit"]);
        assert!(causes(400_000, None).is("reader-slow"), "a fifth of what the window carries");
        let left: Vec<&str> = causes(1_000_000, Some(131_071)).left.iter().map(|h| h.cause.id).collect();
        assert_eq!(left, ["reader-slow", "buffer-fixed", "path-full"], "half of it: any");
        // A whole one in the present round trip, which is long as the receiver delays its ACKs or the path is full.
        let mut late = sends(2_000_000, 1800, 50_000);
        assert!(late.now.sockets[0].info.as_mut().unwrap().set("min_rtt_us", 50));
        assert_eq!(late.check(check).findings[0].causes.left[0].cause.id, "reader-slow");
    }

    #[test]
    fn a_receiver_that_fixed_its_buffer_is_told_where_its_sender_is_elsewhere() {
        let receives = |change: &dyn Fn(&mut Socket)| {
            let mut world = World::new();
            world.sysctl(Sysctl::Ipv4TcpRmem, &RMEM);
            let fields = [("rcv_wnd_bytes", 50_000), ("rcv_rtt_us", 50_000), ("options", 7), ("bytes_received", 9)];
            let skmem = SkMem { rcvbuf_bytes: 100_000, ..SkMem::default() };
            let base = info(row(State::Established, "10.0.0.1:40000", "10.0.0.2:80"), &fields);
            let socket = Socket { skmem: Some(skmem), ..base };
            world.hold(812, "restore", 3, socket.inode).add(socket).later(2000);
            assert!(world.now.sockets[0].info.as_mut().unwrap().set("bytes_received", 2_000_009));
            change(&mut world.now.sockets[0]);
            world.check(check).findings
        };
        let found = receives(&|_| {});
        assert!(found[0].summary.contains("it has fixed its buffer at"), "{}", found[0].summary);
        assert!(found[0].causes.is("buffer-fixed") && found[0].severity == Severity::Info);
        let set = |s: &mut Socket, field, value| assert!(s.info.as_mut().unwrap().set(field, value));
        assert_eq!(receives(&|s| set(s, "options", 6)), [], "no timestamps");
        assert_eq!(receives(&|s| set(s, "rcv_rtt_us", 30_000)), []);
        assert_eq!(receives(&|s| s.recv_q_bytes = 25_000), []);
        assert_eq!(receives(&|s| s.skmem.as_mut().unwrap().rcvbuf_bytes = 131_072), []);
    }
}
