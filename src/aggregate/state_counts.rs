//! How many sockets are in which state.

use crate::model::State;

/// Sockets per state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts([u64; State::SLOTS]);

impl Counts {
    pub fn add(&mut self, state: State) {
        self.0[state.index()] += 1;
    }

    pub fn add_many(&mut self, state: State, n: u64) {
        self.0[state.index()] += n;
    }

    pub fn merge(&mut self, other: &Counts) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    #[must_use]
    pub fn get(&self, state: State) -> u64 {
        self.0[state.index()]
    }

    /// Sockets whose state number is newer than this program.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.0[State::SLOTS - 1]
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
