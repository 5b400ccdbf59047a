//! A set of numbers that come in runs, such as inodes and cookies, which the kernel counts up.

use rustc_hash::FxHashMap;

/// 64 numbers per entry, so that a run of a hundred thousand stays within the nearest cache.
#[derive(Clone, Debug, Default)]
pub struct Numbers(FxHashMap<u64, u64>);

impl Numbers {
    /// Adds a number; false if it was present.
    pub fn insert(&mut self, number: u64) -> bool {
        let bits = self.0.entry(number >> 6).or_default();
        let bit = 1 << (number & 63);
        let new = *bits & bit == 0;
        *bits |= bit;
        new
    }

    /// Adds the cookie of a row; false if that row was there before. A dump may repeat a row, or return it before and
    /// after it has moved. A cookie is unique on a host (`__sock_gen_cookie`), and what inherits it is the same connection;
    /// without one, or with 0, nothing tells rows apart.
    pub fn is_new(&mut self, cookie: Option<u64>) -> bool {
        cookie.is_none_or(|cookie| cookie == 0 || self.insert(cookie))
    }

    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.0.get(&(number >> 6)).is_some_and(|bits| bits & (1 << (number & 63)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_a_cookie_are_never_repetitions() {
        let mut seen = Numbers::default();
        let rows = [Some(7), None, Some(0), Some(7), None, Some(0)].map(|cookie| seen.is_new(cookie));
        assert_eq!(rows, [true, true, true, false, true, true]);
    }

    #[test]
    fn runs_ends_and_far_numbers_are_distinct() {
        let mut set = Numbers::default();
        let numbers = [0, 1, 63, 64, 65, 1 << 40, u64::MAX];
        for n in numbers {
            assert!(set.insert(n) && !set.insert(n), "{n}");
        }
        for n in [2, 62, 66, 127, 128, (1 << 40) + 1, u64::MAX - 1] {
            assert!(!set.contains(n), "{n}");
        }
        assert!(numbers.iter().all(|n| set.contains(*n)));
    }
}
