//! How the window that a peer offers goes on while a transfer uses it up: it stands, or it moves.
//!
//! Input: both samples of a row, and looks at it that were taken in a row after them. Output: [`Course`]. Not here: why.
//!
//! A receiver offers what is free in its buffer (`__tcp_select_window`). Whoever reads at once leaves all of it free, so that each
//! acknowledgement offers the same number, to the byte; of a window that somebody leaves unread data in, each offers another.

use crate::diagnose::view::View;
use crate::model::{Socket, TcpInfo};

/// Fewer looks are none.
const LOOKS: usize = 6;
/// The window is a multiple of its scale; one of fewer units may be the same twice by chance.
const UNITS: u32 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// The largest one that was seen, and in how many of so many looks.
    Stands { bytes: u32, in_looks: usize, of: usize },
    /// Seldom twice the same.
    Moves { least: u32, most: u32 },
}

/// `None`: too few looks, nothing was acknowledged meanwhile, or neither of both.
#[must_use]
pub fn course(view: &View<'_>, socket: &Socket) -> Option<Course> {
    let looks = view.window_looks(socket);
    let acked = looks.last()?.acked_bytes.saturating_sub(looks.first()?.acked_bytes);
    let window = |s: &Socket| s.info.as_deref()?.snd_wnd_bytes();
    let mut seen: Vec<u32> = looks.iter().map(|look| look.window_bytes).collect();
    seen.extend(window(socket));
    seen.extend(view.earlier(socket).and_then(window));
    let (least, most) = (*seen.iter().min()?, *seen.iter().max()?);
    // A window of which nothing is used cannot move.
    if looks.len() < LOOKS || acked < u64::from(most / 2) {
        return None;
    }
    let (of, in_looks) = (seen.len(), seen.iter().filter(|bytes| **bytes == most).count());
    let unit = 1u32 << peers_scale(socket)?;
    if in_looks * 4 >= of * 3 {
        return (most / unit >= UNITS).then_some(Course::Stands { bytes: most, in_looks, of });
    }
    (in_looks * 4 <= of && least < most - most / 8).then_some(Course::Moves { least, most })
}

/// By how many bits the windows of the peer are shifted (`snd_wscale`).
#[must_use]
pub fn peers_scale(socket: &Socket) -> Option<u8> {
    socket.info.as_deref().and_then(TcpInfo::wscale).map(|both| both & 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, row};
    use crate::diagnose::thresholds::Thresholds;
    use crate::model::State;
    use crate::model::snapshot::WindowLook;

    /// What looks at these windows say, of which so much was acknowledged in each.
    fn of(windows: &[u32], acked_each: u64, scale: u64) -> Option<Course> {
        let fields = [("snd_wnd_bytes", u64::from(windows[0])), ("wscale", 0x70 + scale)];
        let socket = info(row(State::Established, "10.0.0.1:40000", "10.0.0.2:80"), &fields);
        let mut world = World::new();
        let looks = (0..).zip(&windows[1..]).map(|(n, window_bytes)| WindowLook {
            after_ms: n * 25,
            window_bytes: *window_bytes,
            acked_bytes: n * acked_each,
        });
        let looks: Vec<WindowLook> = looks.collect();
        world.now.windows.insert((socket.netns, socket.four_tuple()), looks);
        world.add(socket);
        let thresholds = Thresholds::default();
        course(&View::new(&world.now, None, &thresholds), &world.now.sockets[0])
    }

    #[test]
    fn a_window_stands_when_nearly_all_looks_see_the_same_and_moves_when_they_seldom_do() {
        let same = [80_896; 8];
        assert_eq!(of(&same, 9000, 10), Some(Course::Stands { bytes: 80_896, in_looks: 8, of: 8 }));
        let mut busy = same;
        (busy[2], busy[5]) = (62_464, 79_872);
        assert_eq!(of(&busy, 9000, 10), Some(Course::Stands { bytes: 80_896, in_looks: 6, of: 8 }));
        busy[3] = 70_656;
        assert_eq!(of(&busy, 9000, 10), None, "five of eight are neither");
        let moves = [64_512, 70_656, 78_848, 82_944, 94_208, 66_560, 80_896, 71_680];
        assert_eq!(of(&moves, 9000, 10), Some(Course::Moves { least: 64_512, most: 94_208 }));
        let hardly = [80_000, 79_000, 78_500, 79_500, 78_000, 77_500, 79_200, 78_800];
        assert_eq!(of(&hardly, 9000, 0), None, "by less than an eighth");
    }

    #[test]
    fn a_window_says_nothing_when_it_is_not_used_or_is_looked_at_seldom_or_has_few_units() {
        assert_eq!(of(&[80_896; 8], 5000, 10), None, "less than half of it was acknowledged");
        assert_eq!(of(&[80_896; 6], 90_000, 10), None, "five looks");
        assert!(of(&[80_896; 7], 90_000, 10).is_some());
        assert_eq!(of(&[80_896; 8], 9000, 13), None, "nine units of 8 KiB");
    }
}
