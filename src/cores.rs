//! The cores of this machine, and work over long lists that all of them share.
//!
//! Comes in: a list and what to do with each of it. Goes out: the answers, in the order of the list. Never here: what the
//! work is about.

/// Things in a list above which a second thread saves more than it costs.
pub const LARGE: usize = 10_000;

/// Cores that this process may use.
#[must_use]
pub fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Applies `f` to everything in a list; to a long one on all cores.
pub fn map<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = if items.len() < LARGE { 1 } else { count() };
    if threads <= 1 {
        return items.iter().map(f).collect();
    }
    let (own, others) = items.split_at(items.len().div_ceil(threads));
    let f = &f;
    std::thread::scope(|scope| {
        let parts = others.chunks(own.len());
        let parts: Vec<_> = parts.map(|part| scope.spawn(move || part.iter().map(f).collect::<Vec<R>>())).collect();
        let mut answers = Vec::with_capacity(items.len());
        answers.extend(own.iter().map(f));
        for part in parts {
            match part.join() {
                Ok(more) => answers.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        answers
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_any_length_keeps_its_order() {
        for len in [0, 1, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE + 7] {
            let items: Vec<usize> = (0..len).collect();
            assert_eq!(map(&items, |n| n * 2), items.iter().map(|n| n * 2).collect::<Vec<_>>(), "{len}");
        }
    }
}
