//! Transfers that creep because the peer's window is never a whole segment, though the peer goes on acknowledging.
//!
//! Input: rows of two samples. Output: those transfers, and what the window scale says of the cause. Not here: a window of zero
//! (`zero-window-peer`), and one that is small for its path alone (`window-limited`).

use crate::diagnose::hypothesis::{Weighed, Weight};
use crate::diagnose::limited::{self, Limited};
use crate::diagnose::view::View;
use crate::model::{Socket, TcpInfo};

/// Percent of the interval in which the window held the transfer back.
const NEARLY_ALL: u64 = 90;
/// Segments that show how large they are.
const SEGMENTS: u64 = 3;

/// The transfers that move less than half a segment at a time. A receiver opens its window by whole segments or not at all
/// (RFC 9293 section 3.8.6.2.2), so that a reader, however slow, makes no row of such small steps.
#[must_use]
pub fn creeping<'a>(view: &View<'a>) -> Vec<Limited<'a>> {
    let mut all = limited::transfers_from(view, TcpInfo::rwnd_limited_us, NEARLY_ALL, 1);
    all.retain(|l| is_creeping(view, l) == Some(true));
    all
}

fn is_creeping(view: &View<'_>, transfer: &Limited<'_>) -> Option<bool> {
    let window = |s: &Socket| s.info.as_deref()?.snd_wnd_bytes();
    let (now, before) = (window(transfer.socket)?, window(view.earlier(transfer.socket)?)?);
    let mss = transfer.socket.info.as_deref()?.snd_mss_bytes()?;
    let is_tiny = |bytes: u32| bytes > 0 && bytes < mss / 2;
    let segments = view.grown(transfer.socket, |i| i.data_segs_out().map(u64::from))?;
    let each = transfer.moved_bytes / segments.max(1);
    Some(is_tiny(now) && is_tiny(before) && segments >= SEGMENTS && each <= u64::from(now.max(before)))
}

/// What the connection says of the causes of `window-limited`.
#[must_use]
pub fn weigh(causes: &'static [crate::diagnose::hypothesis::Cause], socket: &Socket) -> Weighed {
    let info = socket.info.as_deref();
    // The peer's scale is the lower half: what its windows are shifted by.
    let scale = info.and_then(TcpInfo::wscale).map(|both| both & 15);
    Weighed::of(causes, |cause| match cause.id {
        "window-cut" => Weight::Possible(if scale == Some(0) { 0.8 } else { 0.3 }),
        "buffer-fixed" => Weight::Possible(0.2),
        "reader-slow" => Weight::Refuted("the window opens by less than a segment each time".into()),
        "path-full" => Weight::Refuted("the window is less than a segment".into()),
        "no-window-scaling" => Weight::Refuted("the window is well below 64 KiB".into()),
        _ => Weight::Refuted("such a buffer offers many segments".into()),
    })
}
