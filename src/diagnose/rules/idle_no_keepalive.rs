//! Connections have been silent for hours and nothing checks whether the peer still exists.
//!
//! Comes in: held connections without any timer. Goes out: one finding per owner of those silent for longer than
//! keepalive would permit. Never here: whether the peer is gone; only a segment can tell.
//!
#![doc = include_str!("../../../docs/rules/idle-no-keepalive.md")]

use crate::diagnose::Outcome;
use crate::diagnose::closing;
use crate::diagnose::descriptors::Share;
use crate::diagnose::finding::{Evidence, Finding, Severity, Topic};
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::sysctl::Sysctl;
use crate::model::{NetnsId, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("idle-no-keepalive", Established, One, "silent for hours and never checked", check, [TEXT])
        .states(&[State::Established])
        .topic(Topic::Keepalive)
        .title("idle, no keepalive")
        .identity(Identity::Program);

const TEXT: Text = Text {
    why: "TCP has no heartbeat unless a program asks for one. If the peer lost power, or a NAT or firewall between \
          forgot the flow, an idle connection looks alive forever, and only the next write finds out.",
    remedy: &[
        "Turn SO_KEEPALIVE on in the application, with TCP_KEEPIDLE below the idle limit of the NAT or firewall",
        "Or send a heartbeat of the application's own protocol: it also finds a peer that is alive and stuck",
        "On a server, close what has been silent for too long",
        "Set TCP_USER_TIMEOUT with it, for the time when data is unacknowledged",
    ],
    avoid: &[
        "Don't only change tcp_keepalive_time: it is the default of sockets that turned keepalive on",
        "Don't kill idle connections blindly: a pool or a subscription may be idle by design",
    ],
};

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut idle = Vec::new();
    let (mut without_ages, mut without_limit) = (0u64, 0u64);
    // Rows come by namespace, so that the sysctl is looked up once for each.
    let mut limit: (Option<Option<NetnsId>>, Option<u64>) = (None, None);
    for socket in view.now.sockets.iter().filter(|s| is_unwatched(s)) {
        if limit.0 != Some(socket.netns) {
            limit = (Some(socket.netns), keepalive_ms(view, socket.netns));
        }
        match (idle_ms(socket), limit.1) {
            (None, _) => without_ages += 1,
            (Some(_), None) => without_limit += 1,
            (Some(ms), Some(limit)) if ms >= limit && !is_paired(view, socket) => idle.push(socket),
            _ => {}
        }
    }
    if idle.is_empty() {
        return if without_limit > 0 {
            Outcome::not_checked("net.ipv4.tcp_keepalive_time, the limit that counts, could not be read")
        } else if without_ages > 0 {
            Outcome::not_checked(format!(
                "this source does not tell how long {} silent",
                text::count(without_ages, "unwatched connection has been", "unwatched connections have been")
            ))
        } else {
            Outcome::default()
        };
    }
    let groups = Peers::new(view).groups(idle, false);
    Outcome::findings(ranking::alike(groups.iter().map(|g| finding(view, g)).collect()))
}

/// No timer although nothing is under way: SO_KEEPALIVE is off (`tcp_set_keepalive`).
fn is_unwatched(socket: &Socket) -> bool {
    socket.timer.is_none() && socket.send_q_bytes == Some(0) && peers::is_held(socket, &[State::Established])
}

/// Neither data nor an acknowledgement for so long.
fn idle_ms(socket: &Socket) -> Option<u64> {
    let info = socket.info.as_deref()?;
    Some(u64::from(info.last_heard_ms()?))
}

fn keepalive_ms(view: &View<'_>, netns: Option<NetnsId>) -> Option<u64> {
    view.netns(netns)?.sysctl(Sysctl::Ipv4TcpKeepaliveTime).map(|seconds| seconds.saturating_mul(1000))
}

/// Whether the other end is seen on this host: then its end is told by the kernel, and there is nothing to check.
fn is_paired(view: &View<'_>, socket: &Socket) -> bool {
    view.mirror(socket).is_some()
}

fn finding(view: &View<'_>, group: &Group<'_>) -> Finding {
    let rows = &group.rows;
    let n = rows.len() as u64;
    let ages = || rows.iter().filter_map(|s| idle_ms(s));
    let (shortest, longest) = (ages().min().unwrap_or(0), ages().max().unwrap_or(0));
    let share = group.owner.map(|p| Share::new(view, p.pid, n, None)).unwrap_or_default();
    let much = share.percent.is_some_and(|p| p >= view.thresholds.fd_high_percent);
    let severity = if much { Severity::Warning } else { Severity::Info };
    let summary = format!(
        "{} keeps {} {} that nothing ever checks, silent for up to {}{}",
        group.name(view),
        text::count(n, "connection", "connections"),
        peers::with_whom(rows),
        text::duration(longest),
        share.words(n)
    );
    let finding = RULE
        .finding(severity, 0.9, summary)
        .because(
            "no timer runs, so keepalive is off: with it the silence could not have lasted so long; whether the \
                  peer is gone is not known (0.4)",
        )
        .subject(group.subject(view))
        .about(rows.iter().copied())
        .evidence("count", Evidence::Count(n))
        .evidence("idle_max_ms", Evidence::Millis(longest))
        .evidence("idle_min_ms", Evidence::Millis(shortest))
        .evidence("keepalive_time_ms", Evidence::millis(keepalive_ms(view, group.netns)))
        .evidence("peers", closing::peers_evidence(rows));
    share.onto(finding).next(format!("tcpstate list --state established -o -i{}", group.selection()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, row, timer, unheld};
    use crate::model::TimerKind;
    use crate::model::sysctl::Sysctls;

    const LIMIT_MS: u64 = 7_200_000;

    fn idle(port: u16, ack_ms: u64, data_ms: u64) -> Socket {
        let base = row(State::Established, "10.0.0.1:5432", &format!("10.0.0.2:{port}"));
        info(base, &[("last_ack_recv_ms", ack_ms), ("last_data_recv_ms", data_ms)])
    }

    fn world(rows: impl IntoIterator<Item = Socket>) -> World {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4TcpKeepaliveTime, &[7200]);
        for socket in rows {
            world.hold(812, "postgres", u32::from(socket.peer.port), socket.inode).add(socket);
        }
        world
    }

    #[test]
    fn the_owner_is_named_and_half_of_its_descriptors_is_a_warning() {
        let outcome = world([idle(5000, LIMIT_MS, 9_000_000), idle(5001, 10_800_000, 99_000_000)]).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!(
            (finding.severity, finding.subject.pid, finding.topic),
            (Severity::Info, Some(812), Some(Topic::Keepalive))
        );
        assert_eq!(
            finding.summary,
            "postgres (812) keeps 2 connections with 10.0.0.2 that nothing ever checks, silent for up to 3 h, \
             less than 1 % of its 1,024 descriptors"
        );
        assert!(finding.evidence.contains(&("idle_min_ms", Evidence::Millis(LIMIT_MS))));
        // 12 idle entries of a pool are no harm; half of 1024 descriptors is.
        let severity = |n| {
            let mut world = world((0..n).map(|n| idle(5000 + n, LIMIT_MS, LIMIT_MS)));
            world.now.processes.get_mut(&812).unwrap().fd_used = Some(600);
            world.check(check).findings[0].severity
        };
        assert_eq!((severity(511), severity(512)), (Severity::Info, Severity::Warning));
    }

    #[test]
    fn what_is_watched_busy_or_young_is_silent() {
        let far = row(State::Established, "10.0.0.2:5009", "10.0.0.1:5432");
        let rows = [
            idle(5000, LIMIT_MS - 1, 90_000_000),
            idle(5001, 90_000_000, 5),
            timer(idle(5002, 1000, 90_000_000), TimerKind::Keepalive, 900, 0),
            Socket { send_q_bytes: Some(1), ..idle(5003, 90_000_000, 90_000_000) },
            unheld(idle(5004, 90_000_000, 90_000_000)),
            // Its other end is on this host, and says so when it ends.
            idle(5009, 90_000_000, 90_000_000),
            info(far, &[("last_ack_recv_ms", 5), ("last_data_recv_ms", 5)]),
        ];
        assert_eq!(world(rows).check(check), Outcome::default());
    }

    #[test]
    fn the_limit_is_the_namespace_s_own_and_what_is_missing_is_said() {
        let mut short = world([idle(5000, 5000, 5000)]);
        assert_eq!(short.sysctl(Sysctl::Ipv4TcpKeepaliveTime, &[5]).check(check).findings.len(), 1);
        let mut unreadable = world([idle(5000, LIMIT_MS, LIMIT_MS)]);
        unreadable.now.netns[0].sysctls = Sysctls::default();
        assert!(unreadable.check(check).not_checked.is_some_and(|w| w.contains("tcp_keepalive_time")));
        let bare = world([Socket { info: None, ..idle(5000, 0, 0) }]).check(check);
        assert!(bare.not_checked.is_some());
        assert_eq!(World::new().check(check), Outcome::default());
    }
}
