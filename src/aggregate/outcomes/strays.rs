//! Segments that found no socket, by the addresses and ports that they had.
//!
//! Input: resets that this host sent. Output: the most frequent ones. Bounded. Not here: what became of the connections.

use rustc_hash::FxHashMap;

use crate::model::event::{ResetReason, Sighting};
use crate::model::traced::Stray;
use crate::model::{Endpoint, NetnsId};

/// Different ones that are counted, and how many are told.
const COUNTED: usize = 4096;
const TOLD: usize = 256;

#[derive(Default)]
pub(super) struct Strays(FxHashMap<(Option<NetnsId>, Endpoint, Endpoint), u64>);

impl Strays {
    /// Counts a reset, if it answered a segment without a socket.
    pub(super) fn add(&mut self, at: &Sighting, reason: Option<ResetReason>) {
        let key = (at.netns, at.local.normalised(), at.peer.normalised());
        if reason == Some(ResetReason::NoSocket) && (self.0.len() < COUNTED || self.0.contains_key(&key)) {
            *self.0.entry(key).or_default() += 1;
        }
    }

    pub(super) fn list(&self) -> Vec<Stray> {
        let all = self.0.iter().map(|((netns, local, peer), n)| Stray::new(*netns, *local, *peer, *n));
        let mut all: Vec<Stray> = all.collect();
        all.sort_by_key(|s| (std::cmp::Reverse(s.count), s.netns, s.peer, s.local));
        all.truncate(TOLD);
        all
    }
}
