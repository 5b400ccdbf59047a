//! A transfer waits for room in its own send buffer for most of the time.
//!
//! Input: transfers that the kernel's clock says the send buffer held back. Output: one finding per program. Not here: a
//! queue that does not move (`send-queue-stuck`).
//!
#![doc = include_str!("../../../docs/rules/sndbuf-limited.md")]

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::limited::{self, Limited};
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::sysctl::Sysctl;
use crate::model::{Socket, State, TcpInfo};
use crate::text;

pub(super) const RULE: Rule =
    rule!("sndbuf-limited", Established, Two, "the sender's own buffer limits a transfer", check, [TEXT])
        .states(&[State::Established])
        .title("limited by the send buffer")
        .identity(Identity::ProgramAndDestination)
        .causes(CAUSES);

const LET_IT_GROW: &str = "In the sending program: do not set SO_SNDBUF, so that the kernel lets the buffer grow with the \
                           path";
const RAISE: &str = "If the buffer is at its limit, raise the third number of net.ipv4.tcp_wmem above twice rate times \
                     round trip";
const KEEP_WRITING: &str = "If the program writes late, let it wait for EPOLLOUT and write at once, with data at hand";

const LEAVE: &str = "If the round trip grew under load, look at the path and the receiver first: a larger buffer makes a queue longer and \
                     moves no more";

const TEXT: Text = Text {
    why: "What was sent stays in the buffer until it is acknowledged, so a buffer smaller than what the path holds leaves \
          the path empty for a part of each round trip.",
    remedy: &[LET_IT_GROW, RAISE, KEEP_WRITING, LEAVE],
    avoid: &[
        "Don't raise tcp_rmem here: it is the buffer for what we receive",
        "Don't set SO_SNDBUF to a large number: it also stops the kernel from fitting the buffer to the path",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "buffer-fixed",
        text: "the program has fixed its send buffer (SO_SNDBUF)",
        predicts: "a buffer below twice the congestion window, which the kernel would have made larger",
        refuted_by: "a buffer of twice the congestion window or more",
        decided_by: "`ss -tm`: tb against cwnd times mss; `strace -e setsockopt`",
    },
    Cause {
        id: "buffer-at-limit",
        text: "the send buffer has grown to the limit of the host (net.ipv4.tcp_wmem)",
        predicts: "a buffer as large as the third number of tcp_wmem",
        refuted_by: "a buffer below that limit",
        decided_by: "sndbuf against the numbers of net.ipv4.tcp_wmem",
    },
    Cause {
        id: "writes-late",
        text: "the program writes late after there was room again",
        predicts: "a buffer that the kernel fits to the path, and times without data to send",
        refuted_by: "a buffer that is too small by itself",
        decided_by: "`perf trace -e sendto,write`: the time between the calls",
    },
    Cause {
        id: "late-acknowledgements",
        text: "acknowledgements come late: a queue on the path, or a receiver that reads late",
        predicts: "the round trip is twice the shortest one or more",
        refuted_by: "a round trip near the shortest one",
        decided_by: "rtt against min-rtt: `tcpstate list -i`",
    },
];

pub(super) fn check(view: &View<'_>) -> Outcome {
    if view.before.is_none() {
        return match limited::suspects(view, TcpInfo::sndbuf_limited_us, limited::MOST) {
            0 => Outcome::default(),
            n => Outcome::wants_second(format!(
                "whether the send buffer limits {}",
                text::count(n, "transfer", "transfers")
            )),
        };
    }
    let limited = limited::transfers(view, TcpInfo::sndbuf_limited_us);
    if limited.is_empty() {
        return Outcome::default();
    }
    let groups = Peers::new(view).groups(limited.iter().map(|l| l.socket), false);
    Outcome::findings(ranking::alike(groups.iter().map(|g| finding(view, g, &limited)).collect()))
}

/// A buffer of this many congestion windows is what the kernel makes room for (`tcp_sndbuf_expand`).
const WINDOWS: u64 = 2;

fn weigh(view: &View<'_>, socket: &Socket) -> Weighed {
    let buffer = socket.skmem.map(|m| u64::from(m.sndbuf_bytes));
    let info = socket.info.as_deref();
    let segments = info.and_then(TcpInfo::snd_cwnd).zip(info.and_then(TcpInfo::snd_mss_bytes));
    let fitted = segments.map(|(cwnd, mss)| WINDOWS * u64::from(cwnd) * u64::from(mss));
    let most = view.netns(socket.netns).and_then(|n| n.sysctls.get(Sysctl::Ipv4TcpWmem)?.get(2).copied());
    let (Some(buffer), Some(fitted), Some(most)) = (buffer, fitted, most) else {
        return Weighed::of(CAUSES, |_| Weight::Possible(0.3));
    };
    let at_limit = buffer >= most;
    let path = limited::acknowledges_late(socket);
    let path_has_room = matches!(path, Weight::Refuted(_));
    Weighed::of(CAUSES, |cause| match cause.id {
        "late-acknowledgements" => path.clone(),
        "buffer-fixed" if !at_limit && buffer < fitted && path_has_room => Weight::Proven,
        "buffer-fixed" if !at_limit && buffer < fitted => Weight::Possible(0.5),
        "buffer-fixed" => {
            let buffer = text::count(buffer, "byte", "bytes");
            Weight::Refuted(format!("the buffer is {buffer}, as large as the kernel makes it"))
        }
        "buffer-at-limit" if at_limit => Weight::Possible(0.8),
        "buffer-at-limit" => Weight::Refuted(format!("the buffer is {} bytes", text::of(buffer, most))),
        _ => Weight::Possible(0.3),
    })
}

fn finding(view: &View<'_>, group: &Group<'_>, limited: &[Limited<'_>]) -> Finding {
    let of_group = || limited.iter().filter(|l| group.rows.iter().any(|s| std::ptr::eq(*s, l.socket)));
    let moved: u64 = of_group().map(|l| l.moved_bytes).sum();
    let rate: u64 = of_group().map(|l| l.bytes_per_s).sum();
    let largest = of_group().max_by_key(|l| l.moved_bytes);
    let causes = largest.map(|l| weigh(view, l.socket)).unwrap_or_default();
    let percent = largest.map_or(0, |l| l.percent);
    let info = largest.and_then(|l| l.socket.info.as_deref());
    let buffer = largest.and_then(|l| l.socket.skmem).map(|m| u64::from(m.sndbuf_bytes));
    let n = group.rows.len() as u64;
    let why = causes.named().map_or_else(String::new, |cause| format!(": {}", cause.text));
    let summary = format!(
        "{} sends {} a second on {} {} and waits for its own send buffer {percent} % of the time{why}",
        group.name(view),
        text::bytes(rate),
        text::count(n, "connection", "connections"),
        peers::with_whom(&group.rows),
    );
    let step = match causes.left.first().map(|h| h.cause.id) {
        Some("buffer-at-limit") => RAISE,
        Some("writes-late") => KEEP_WRITING,
        Some("late-acknowledgements") => LEAVE,
        _ => LET_IT_GROW,
    };
    RULE.finding(Severity::Info, 0.95, summary)
        .because("the kernel counts the time in which the program wanted to write and its buffer was full")
        .causes(causes)
        .steps([step])
        .subject(group.subject(view))
        .about(group.rows.iter().copied())
        .evidence("transfers", Evidence::Count(n))
        .evidence("limited_percent", Evidence::Percent(percent as f64))
        .evidence("moved_bytes", Evidence::Bytes(moved))
        .evidence("bytes_per_second", Evidence::Bytes(rate))
        .evidence("send_buffer_bytes", buffer.map_or(Evidence::Unknown, Evidence::Bytes))
        .evidence("cwnd_segments", Evidence::count(info.and_then(TcpInfo::snd_cwnd).map(u64::from)))
        .evidence("rtt_ms", Evidence::millis(info.and_then(TcpInfo::rtt_us).map(|us| u64::from(us) / 1000)))
        .next(format!("tcpstate list --state established -i -m{}", group.selection()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, row};
    use crate::model::SkMem;

    /// A transfer with 40 segments of 1,000 bytes in its congestion window.
    fn sends(held_ms: u64, sndbuf: Option<u32>) -> World {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4TcpWmem, &[4096, 16_384, 4_194_304]);
        let fields = [("snd_cwnd", 40), ("snd_mss_bytes", 1000), ("rtt_us", 50_000), ("min_rtt_us", 49_000)];
        let socket = Socket {
            send_q_bytes: Some(30_000),
            skmem: sndbuf.map(|n| SkMem { sndbuf_bytes: n, ..SkMem::default() }),
            ..info(row(State::Established, "10.0.0.1:40000", "10.0.0.2:80"), &fields)
        };
        world.hold(812, "backup", 3, socket.inode).add(socket).later(2000);
        let info = world.now.sockets[0].info.as_mut().unwrap();
        assert!(info.set("bytes_acked", 1_000_000) && info.set("sndbuf_limited_us", held_ms * 1000));
        world
    }

    #[test]
    fn a_buffer_that_the_kernel_would_have_made_larger_is_fixed() {
        let causes = |sndbuf| sends(1500, sndbuf).check(check).findings.remove(0).causes;
        assert!(causes(Some(79_999)).is("buffer-fixed"));
        assert!(causes(Some(80_000)).is("writes-late"));
        assert_eq!(causes(Some(4_194_304)).left[0].cause.id, "buffer-at-limit");
        assert_eq!(causes(None).left.len(), 4);
        let mut queue = sends(1500, Some(50_000));
        assert!(queue.now.sockets[0].info.as_mut().unwrap().set("min_rtt_us", 400));
        let finding = queue.check(check).findings.remove(0);
        assert_eq!(
            (finding.causes.left[0].cause.id, &finding.remedy[..]),
            ("late-acknowledgements", &[LEAVE.to_owned()][..])
        );
    }

    #[test]
    fn half_of_the_interval_is_an_explanation_and_less_is_silent() {
        let outcome = sends(1000, Some(50_000)).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(812)));
        assert!(finding.summary.ends_with("50 % of the time: the program has fixed its send buffer (SO_SNDBUF)"));
        assert_eq!(finding.remedy, [LET_IT_GROW]);
        assert_eq!(sends(999, Some(50_000)).check(check), Outcome::default());
    }
}
