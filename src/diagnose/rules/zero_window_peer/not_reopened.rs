//! Windows that stay at zero although the reader has taken all.
//!
//! Input: writers whose probe timer runs, with the other half in view and its queue empty. Output: one finding per program that
//! writes. Not here: readers that leave data unread.

use super::{AGAIN, COMPARE, OLD_KERNEL, RULE, USER_TIMEOUT};
use crate::diagnose::closing;
use crate::diagnose::delivery::zero_window_ms;
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::hypothesis::{Weighed, Weight};
use crate::diagnose::measure::Measure;
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::view::View;
use crate::model::{Socket, TcpInfo};
use crate::text;

/// Before this release a connection that receives much in a row and sends nothing forgets where its last window came from
/// (`snd_wl1` in `tcp_rcv_established`).
const MENDED: (u32, u32) = (5, 10);
/// From so many bytes on what it remembers lies behind what comes, so that each window counts as old.
const WRAPS: u64 = 1 << 31;

/// Whether the kernel of this host may ignore the windows of a connection: it is old, and received so much.
pub(super) fn may_be_deaf(view: &View<'_>, socket: &Socket) -> bool {
    let mut numbers = view.now.kernel.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else { return false };
    (major, minor) < MENDED && socket.info.as_deref().and_then(TcpInfo::bytes_received) >= Some(WRAPS)
}

/// Those whose other half had read all, and offered room, in both samples. In between there was time for the segment that says so,
/// and the probe timer has not seen it.
pub(super) fn findings<'a>(view: &View<'a>, shut: Vec<&'a Socket>) -> Vec<Finding> {
    let offers = |reader: &Socket| {
        let window = reader.info.as_deref()?.rcv_wnd_bytes()?;
        (reader.recv_q_bytes == 0 && window > 0).then_some(window)
    };
    let is_lost = |s: &&'a Socket| {
        let both = || Some((offers(view.mirror(s)?)?, offers(view.mirror_before(s)?)?));
        let was_shut = || Some(view.earlier(s)?.info.as_deref()?.snd_wnd_bytes()? == 0);
        both().is_some() && was_shut() == Some(true)
    };
    let lost: Vec<&'a Socket> = shut.into_iter().filter(is_lost).collect();
    Peers::new(view).groups(lost, true).iter().map(|group| finding(view, group)).collect()
}

fn finding(view: &View<'_>, group: &Group<'_>) -> Finding {
    let rows = &group.rows;
    let lasted = rows.iter().filter_map(|s| zero_window_ms(s)).max().unwrap_or(0);
    let send_q = rows.iter().map(|s| s.send_q_bytes.map(u64::from)).sum::<Option<u64>>();
    let offered = rows.iter().filter_map(|s| view.mirror(s)?.info.as_deref()?.rcv_wnd_bytes()).max().unwrap_or(0);
    let answers = rows.iter().filter_map(|s| view.grown(s, |i| i.segs_in().map(u64::from))).sum();
    let next_probe = rows.iter().filter_map(|s| s.timer.map(|t| u64::from(t.remaining_ms))).min();
    let n = rows.len() as u64;
    let waiting = send_q.map_or_else(String::new, |b| format!(", {} waiting", text::bytes(b)));
    let reader = group.other.map_or_else(|| "the other end".to_owned(), text::name);
    let lasting = Measure::AtLeast(lasted);
    let summary = format!(
        "{} cannot send on {} {} for {}{waiting}: {reader} has read all and offers {}, and here the window stays at zero",
        group.name(view),
        text::count(n, "connection", "connections"),
        peers::with_whom(rows),
        lasting.text(text::duration),
        text::bytes(offered.into()),
    );
    let causes = Weighed::of(super::CAUSES, |cause| match cause.id {
        "window-not-reopened" => Weight::Proven,
        "peer-gone" => Weight::Refuted("the other half is in view".into()),
        _ => Weight::Refuted("the reader has left nothing unread".into()),
    });
    let is_old = rows.iter().any(|s| may_be_deaf(view, s));
    let steps = [COMPARE]
        .into_iter()
        .chain(is_old.then_some(OLD_KERNEL))
        .chain((answers > 0).then_some(AGAIN))
        .chain([USER_TIMEOUT]);
    // The update may have been lost once, and the next probe brings it.
    let severity = if answers > 0 { Severity::Warning } else { Severity::Info };
    let mut subject = group.subject(view);
    subject.pids = peers::both(group.owner, group.other);
    RULE.finding(severity, 0.9, summary)
        .because(if answers > 0 {
            "both ends were read twice, and answers of the peer came in between: none opened the window"
        } else {
            "both ends were read twice: what one offers does not reach the other; the next probe tells whether it ever does"
        })
        .subject(subject)
        .about(rows.iter().copied())
        .causes(causes)
        .steps(steps)
        .lasting(Some(lasting))
        .evidence("count", Evidence::Count(n))
        .evidence("lasted_ms", Evidence::Millis(lasted))
        .evidence("send_queue_bytes", send_q.map_or(Evidence::Unknown, Evidence::Bytes))
        .evidence("offered_bytes", Evidence::Bytes(offered.into()))
        .evidence("answers_since", Evidence::Count(answers))
        .evidence("next_probe_ms", Evidence::millis(next_probe))
        .evidence("peers", closing::peers_evidence(rows))
        .next(format!("tcpstate list -o -i{}", group.selection()))
}
