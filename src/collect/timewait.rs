//! What is left of a closed socket, looked up one at a time.
//!
//! Input: namespaces, and the cookie and addresses of a socket. Output: the state of the table's entry for it.

use rustc_hash::FxHashMap;

use super::live::Live;
use super::netlink::{Attributes, Channel};
use super::netns::NetnsHandle;
use crate::model::{Endpoint, Family, FourTuple, NetnsId, State};

/// Open channels into the namespaces in view, each opened by its first look-up.
pub struct TimewaitLookup {
    spaces: Vec<NetnsHandle>,
    channels: FxHashMap<Option<NetnsId>, Option<Channel>>,
}

impl TimewaitLookup {
    /// Uses the namespaces of `live`.
    #[must_use]
    pub fn of(live: &Live) -> TimewaitLookup {
        TimewaitLookup { spaces: live.spaces().cloned().collect(), channels: FxHashMap::default() }
    }

    /// The state of the object with this cookie; `None` when there is none, or the namespace cannot be queried. A
    /// TIME_WAIT object has the cookie of its socket (`inet_twsk_alloc`), so it is this one and not a later one.
    pub fn state(
        &mut self,
        netns: Option<NetnsId>,
        family: Family,
        (local, peer): (Endpoint, Endpoint),
        cookie: u64,
    ) -> Option<State> {
        let space = self.spaces.iter().find(|space| space.inode == netns)?;
        let open = || space.inside(|| Channel::open(netns)).and_then(|channel| channel).ok();
        let channel = self.channels.entry(netns).or_insert_with(open).as_mut()?;
        let tuple = FourTuple { local, peer, ifindex: 0 };
        Some(channel.lookup(family, tuple, cookie, Attributes::NONE).ok()??.state)
    }
}
