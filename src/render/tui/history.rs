//! The last samples, as far back as memory allows. Older frames shrink: only the newest keep the rows of a
//! drill-down, and the others keep the largest groups only.

use std::collections::VecDeque;

use crate::model::State;
use crate::watch::Frame;

/// Samples that are kept: five minutes of them at one a second, one minute at five a second. After the first minute
/// of the busiest watch the ring is full and memory stops growing.
pub const SAMPLES: usize = 300;
/// Newest samples that keep the rows of a drill-down.
const WITH_ROWS: usize = 2;

/// Groups that an older sample keeps: all samples together take a few megabytes, however many processes there are.
const OLD_GROUPS: usize = 20;

/// The ring.
#[derive(Debug, Default)]
pub struct History {
    frames: VecDeque<Frame>,
}

impl History {
    /// Takes the newest sample.
    pub fn push(&mut self, frame: Frame) {
        // A new filter starts a new count: earlier counts are not comparable.
        if self.frames.back().is_some_and(|last| last.filter != frame.filter || frame.seq <= last.seq) {
            self.frames.clear();
        }
        if self.frames.len() == SAMPLES {
            self.frames.pop_front();
        }
        self.frames.push_back(frame);
        if let Some(old) = self.frames.len().checked_sub(WITH_ROWS + 1)
            && let Some(frame) = self.frames.get_mut(old)
        {
            frame.lines = None;
            if let Some(groups) = &mut frame.groups {
                groups.keep(OLD_GROUPS);
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.frames.len()
    }

    #[must_use]
    pub fn latest(&self) -> Option<&Frame> {
        self.frames.back()
    }

    /// The sample with this number, or the nearest one left.
    #[must_use]
    pub fn at(&self, seq: u64) -> Option<&Frame> {
        self.frames.get(self.place(seq)?)
    }

    fn place(&self, seq: u64) -> Option<usize> {
        let first = self.frames.front()?.seq;
        let offset = usize::try_from(seq.saturating_sub(first)).unwrap_or(usize::MAX);
        Some(offset.min(self.frames.len() - 1))
    }

    /// How many sockets were in a state, at the `n` samples up to number `seq`, oldest first.
    #[must_use]
    pub fn curve(&self, state: State, seq: u64, n: usize) -> Vec<u64> {
        let Some(end) = self.place(seq) else { return Vec::new() };
        let start = (end + 1).saturating_sub(n);
        self.frames.range(start..=end).map(|f| f.all().get(state)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testkit;

    #[test]
    fn the_ring_is_bounded_and_old_looks_have_no_rows() {
        let mut history = History::default();
        for seq in 1..=SAMPLES as u64 + 50 {
            let mut frame = Frame { seq, ..testkit::frame() };
            let groups = frame.groups.as_mut().unwrap();
            groups.rows = groups.rows.iter().cycle().take(60).cloned().collect();
            history.push(frame);
        }
        assert_eq!(history.len(), SAMPLES);
        let groups = |seq| history.at(seq).and_then(|f| f.groups.clone()).unwrap();
        let (old, new) = (groups(300), groups(350));
        assert_eq!((old.rows.len(), old.rest.unwrap().0, new.rows.len()), (20, 49, 60));
        assert_eq!(history.latest().map(|f| f.seq), Some(350));
        assert_eq!(history.at(1).map(|f| f.seq), Some(51), "the oldest that is left");
        assert_eq!(history.at(300).map(|f| (f.seq, f.lines.is_some())), Some((300, false)));
        assert!(history.latest().is_some_and(|f| f.lines.is_some()));
        assert_eq!(history.curve(State::CloseWait, 350, 3), [34, 34, 34]);
        history.push(Frame { seq: 1, filter: "dport = :443".into(), ..testkit::frame() });
        assert_eq!(history.len(), 1, "another filter is another count");
    }
}
