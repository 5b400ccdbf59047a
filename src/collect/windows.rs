//! How the window that a peer offers goes on: single transfers, looked at several times in a row.
//!
//! Input: connections that a rule asks about. Output: their windows and what was acknowledged, each time. Not here: what that says.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::clock::monotonic_ms;
use super::live::Live;
use super::netlink::{Attributes, Channel};
use crate::model::conntrack::Connection;
use crate::model::snapshot::{WindowLook, Windows};
use crate::model::{Family, NetnsId, TcpInfo};

/// Twelve looks are a quarter of a second: some round trips of a long path.
const LOOKS: usize = 12;
const APART: Duration = Duration::from_millis(25);
/// Of more connections than these, one says what the others would.
const MOST: usize = 16;
/// `INET_DIAG_NOCOOKIE`: any socket with these addresses.
const ANY_COOKIE: u64 = u64::MAX;

/// Looks at the windows of connections. One that ends, or cannot be read, has fewer looks or none.
pub(super) fn look(live: &Live, wanted: &[Connection]) -> Windows {
    let mut windows = Windows::new();
    let wanted = &wanted[..wanted.len().min(MOST)];
    let mut channels: FxHashMap<Option<NetnsId>, Channel> = FxHashMap::default();
    for (netns, _) in wanted {
        let space = live.spaces().find(|space| space.inode == *netns && !channels.contains_key(netns));
        if let Some(Ok(Ok(channel))) = space.map(|space| space.inside(|| Channel::open(space.inode))) {
            channels.insert(*netns, channel);
        }
    }
    if channels.is_empty() {
        return windows;
    }
    let started = monotonic_ms();
    for turn in 0..LOOKS {
        if turn > 0 {
            std::thread::sleep(APART);
        }
        for connection in wanted {
            let (netns, tuple) = *connection;
            let Some(channel) = channels.get_mut(&netns) else { continue };
            let family = Family::of(tuple.local.addr);
            let Ok(Some(row)) = channel.lookup(family, tuple, ANY_COOKIE, Attributes::INFO) else { continue };
            let Some((window_bytes, acked_bytes)) = row.info.as_deref().and_then(read) else { continue };
            let after_ms = monotonic_ms().saturating_sub(started);
            windows.entry(*connection).or_default().push(WindowLook { after_ms, window_bytes, acked_bytes });
        }
    }
    windows
}

fn read(info: &TcpInfo) -> Option<(u32, u64)> {
    info.snd_wnd_bytes().zip(info.bytes_acked())
}
