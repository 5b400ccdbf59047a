//! Changes by their two ends, and times by their length. Sums only.

use crate::model::State;

/// How often each change was seen. A host shows some twenty of the two hundred possible ones, and a screen keeps
/// hundreds of these matrices.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Matrix {
    /// Sorted by [`Matrix::place`]; no cell is 0.
    cells: Vec<((u8, u8), u64)>,
}

impl Matrix {
    /// "Did not exist", and "gone".
    const NONE: u8 = Matrix::small(State::SLOTS);

    fn index(state: Option<State>) -> u8 {
        state.map_or(Matrix::NONE, |s| Matrix::small(s.index()))
    }

    const fn small(index: usize) -> u8 {
        #[allow(clippy::cast_possible_truncation, reason = "there are 13 states")]
        let small = index as u8;
        small
    }

    fn place(from: Option<State>, to: Option<State>) -> (u8, u8) {
        (Matrix::index(from), Matrix::index(to))
    }

    pub fn add(&mut self, from: Option<State>, to: Option<State>, n: u64) {
        self.add_at(Matrix::place(from, to), n);
    }

    fn add_at(&mut self, place: (u8, u8), n: u64) {
        match self.cells.binary_search_by_key(&place, |c| c.0) {
            Ok(at) => self.cells[at].1 += n,
            Err(at) if n > 0 => self.cells.insert(at, (place, n)),
            Err(_) => {}
        }
    }

    /// Adds each count of another this many times.
    pub fn add_times(&mut self, other: &Matrix, times: u64) {
        for (place, n) in &other.cells {
            self.add_at(*place, *n * times);
        }
    }

    #[must_use]
    pub fn get(&self, from: Option<State>, to: Option<State>) -> u64 {
        let place = Matrix::place(from, to);
        self.cells.binary_search_by_key(&place, |c| c.0).map_or(0, |at| self.cells[at].1)
    }

    fn sum(&self, wanted: impl Fn(u8, u8) -> bool) -> u64 {
        self.cells.iter().filter(|((from, to), _)| wanted(*from, *to)).map(|(_, n)| n).sum()
    }

    /// How many entered a state, from anywhere.
    #[must_use]
    pub fn entered(&self, state: State) -> u64 {
        self.sum(|_, to| to == Matrix::index(Some(state)))
    }

    /// How many left a state, to anywhere.
    #[must_use]
    pub fn left(&self, state: State) -> u64 {
        self.sum(|from, _| from == Matrix::index(Some(state)))
    }

    #[must_use]
    pub fn arrivals(&self) -> u64 {
        self.sum(|from, _| from == Matrix::NONE)
    }

    #[must_use]
    pub fn departures(&self) -> u64 {
        self.sum(|_, to| to == Matrix::NONE)
    }

    /// Every change that was seen, in the order of the states; `None` is "did not exist" and "gone". Unknown state
    /// numbers share one cell and appear as state 0.
    #[must_use]
    pub fn changes(&self) -> Vec<(Option<State>, Option<State>, u64)> {
        let state = |i: u8| match i {
            Matrix::NONE => None,
            i => Some(State::ALL.get(usize::from(i)).copied().unwrap_or(State::Unknown(0))),
        };
        self.cells.iter().map(|((from, to), n)| (state(*from), state(*to), *n)).collect()
    }
}

/// How long sockets stayed in a state, for those seen entering and leaving it.
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

    /// The two durations between which the median lies.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_counted_in_its_place_and_in_the_sums() {
        let (listen, established) = (Some(State::Listen), Some(State::Established));
        let mut one = Matrix::default();
        for (from, to, n) in
            [(None, listen, 1), (None, established, 2), (established, None, 3), (established, listen, 0)]
        {
            one.add(from, to, n);
        }
        let mut both = Matrix::default();
        both.add(Some(State::Unknown(99)), None, 5);
        both.add_times(&one, 1);
        assert_eq!((both.get(None, established), both.get(established, listen)), (2, 0));
        assert_eq!((both.arrivals(), both.departures()), (3, 8));
        assert_eq!((both.entered(State::Established), both.left(State::Established)), (2, 3));
        let changes = both.changes();
        assert_eq!(changes.len(), 4, "what was never seen has no place");
        assert!(changes.contains(&(Some(State::Unknown(0)), None, 5)) && changes.contains(&(None, listen, 1)));
        assert_eq!(changes.iter().map(|c| c.2).sum::<u64>(), 11);
    }
}
