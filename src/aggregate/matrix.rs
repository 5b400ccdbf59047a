//! Changes by their two ends, and times by their length.
//!
//! Comes in: one change, one time. Goes out: sums. Never here: who changed.

use crate::model::State;

/// States down, states across: how often which change was seen. The last line is "did not exist", the last column "gone".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix(Box<[[u64; Matrix::SIDE]; Matrix::SIDE]>);

impl Default for Matrix {
    fn default() -> Matrix {
        Matrix(Box::new([[0; Matrix::SIDE]; Matrix::SIDE]))
    }
}

impl Matrix {
    const SIDE: usize = State::SLOTS + 1;

    fn index(state: Option<State>) -> usize {
        state.map_or(State::SLOTS, State::index)
    }

    pub fn add(&mut self, from: Option<State>, to: Option<State>, n: u64) {
        self.0[Matrix::index(from)][Matrix::index(to)] += n;
    }

    pub fn merge(&mut self, other: &Matrix) {
        for (mine, theirs) in self.0.iter_mut().flatten().zip(other.0.iter().flatten()) {
            *mine += theirs;
        }
    }

    #[must_use]
    pub fn get(&self, from: Option<State>, to: Option<State>) -> u64 {
        self.0[Matrix::index(from)][Matrix::index(to)]
    }

    /// How many entered a state, from anywhere.
    #[must_use]
    pub fn entered(&self, state: State) -> u64 {
        (0..Matrix::SIDE).map(|from| self.0[from][state.index()]).sum()
    }

    /// How many left a state, to anywhere.
    #[must_use]
    pub fn left(&self, state: State) -> u64 {
        self.0[state.index()].iter().sum()
    }

    #[must_use]
    pub fn arrivals(&self) -> u64 {
        self.0[State::SLOTS].iter().sum()
    }

    #[must_use]
    pub fn departures(&self) -> u64 {
        self.0.iter().map(|line| line[State::SLOTS]).sum()
    }

    /// Every change that was seen, in the order of the states; `None` is "did not exist" and "gone". Unknown state
    /// numbers share one place and come as state 0.
    #[must_use]
    pub fn changes(&self) -> Vec<(Option<State>, Option<State>, u64)> {
        let state = |i: usize| match i {
            State::SLOTS => None,
            i => Some(State::ALL.get(i).copied().unwrap_or(State::Unknown(0))),
        };
        let mut changes = Vec::new();
        for (i, line) in self.0.iter().enumerate() {
            for (j, n) in line.iter().enumerate().filter(|(_, n)| **n > 0) {
                changes.push((state(i), state(j), *n));
            }
        }
        changes
    }
}

/// How long sockets stayed in a state, of those that were seen entering and leaving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Dwell {
    pub count: u64,
    pub sum_ms: u64,
    pub max_ms: u64,
    /// By powers of two of a millisecond.
    buckets: [u32; 32],
}

impl Dwell {
    pub(super) fn add(&mut self, ms: u64) {
        self.count += 1;
        self.sum_ms = self.sum_ms.saturating_add(ms);
        self.max_ms = self.max_ms.max(ms);
        let bucket = (64 - ms.leading_zeros()).min(31) as usize;
        self.buckets[bucket] = self.buckets[bucket].saturating_add(1);
    }

    #[must_use]
    pub fn mean_ms(&self) -> Option<u64> {
        self.sum_ms.checked_div(self.count)
    }

    /// Between which two durations the median lies.
    #[must_use]
    pub fn median_ms(&self) -> Option<(u64, u64)> {
        let half = self.count.div_ceil(2);
        let mut sum = 0;
        for (i, n) in self.buckets.iter().enumerate() {
            sum += u64::from(*n);
            if sum >= half && self.count > 0 {
                return Some((if i == 0 { 0 } else { 1 << (i - 1) }, 1 << i));
            }
        }
        None
    }
}
