//! The last samples, as far back as memory allows, and what a chart shows of them. Older frames shrink: only the newest
//! keep the rows of a drill-down, and the others keep the largest groups only.
//!
//! Input: frames. Output: any of them again, and a value of each over time ([`Series`]). Not here: how it is drawn.

use std::collections::VecDeque;

use crate::aggregate::Matrix;
use crate::model::State;
use crate::watch::{Frame, GroupId};

/// Samples that are kept: five minutes of them at one a second, one minute at five a second. After the first minute
/// of the busiest watch the ring is full and memory stops growing.
pub const SAMPLES: usize = 300;
/// Newest samples that keep the rows of a drill-down.
const WITH_ROWS: usize = 2;

/// Groups that an older sample keeps: all samples together take a few megabytes, however many processes there are.
const OLD_GROUPS: usize = 20;

/// A change a second is a mean over this time: the kernel expires TIME_WAIT in bursts.
pub const SMOOTHED_MS: u64 = 5000;

/// A rate of all connections, as the kernel counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    Opened,
    Failed,
    Resets,
}

impl Rate {
    pub const ALL: [Rate; 3] = [Rate::Opened, Rate::Failed, Rate::Resets];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Rate::Opened => "opened/s",
            Rate::Failed => "failed/s",
            Rate::Resets => "resets/s",
        }
    }
}

/// What a chart can show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Series {
    State(State),
    Group(GroupId),
    Rate(Rate),
}

impl Series {
    /// Its value in a sample; `None` where it is not known.
    #[must_use]
    pub fn value(&self, frame: &Frame) -> Option<f64> {
        match self {
            Series::State(state) => Some(frame.all().get(*state) as f64),
            Series::Group(id) => {
                let groups = frame.groups.as_ref()?;
                let group = groups.rows.iter().find(|group| group.id == *id)?;
                Some(group.counts.total() as f64)
            }
            Series::Rate(rate) => {
                let ledger = &frame.ledger;
                let n = match rate {
                    Rate::Opened => ledger.opened.total(),
                    Rate::Failed => ledger.attempt_fails,
                    Rate::Resets => ledger.resets,
                };
                Some(n? as f64 * 1000.0 / frame.elapsed_ms.filter(|ms| *ms > 0)? as f64)
            }
        }
    }
}

/// What moved between samples.
#[derive(Clone, Debug, Default)]
pub struct Moves {
    /// As the samples show it.
    pub seen: Matrix,
    /// As traced; `None`: not all the time.
    pub traced: Option<Matrix>,
    /// Of these, the ends that were cut off; `None`: the trace does not tell.
    pub cut: Option<Matrix>,
    /// Connections that no sample showed, traced or not; `None`: not known.
    pub unseen: Option<u64>,
    /// The kernel's own counts.
    pub active: Option<u64>,
    pub passive: Option<u64>,
    pub resets: Option<u64>,
    /// Only a share of the sockets was tracked: what the samples show is an estimate.
    pub sampled: bool,
    /// Records of the trace were lost.
    pub lost: bool,
    pub ms: u64,
}

impl Moves {
    /// Between a sample and the one before it; `None` for the first.
    fn of(frame: &Frame, before: Option<&Frame>) -> Option<Moves> {
        let mut seen = Matrix::default();
        seen.add_times(&frame.matrix, frame.scale);
        let trace = frame.trace.as_ref();
        // Counted since a trace began: one that began anew may have lost fewer.
        let lost = |frame: &Frame| frame.trace.as_ref().map_or(0, |trace| trace.lost);
        let opened = &frame.ledger.opened;
        Some(Moves {
            seen,
            traced: trace.and_then(|trace| trace.matrix.clone()),
            cut: trace.and_then(|trace| trace.cut.clone()),
            unseen: opened.unseen.map(|unseen| unseen + opened.traced),
            active: frame.ledger.active_opens,
            passive: frame.ledger.passive_opens,
            resets: frame.ledger.resets,
            sampled: frame.scale > 1,
            lost: lost(frame) > 0 && before.is_none_or(|before| lost(before) != lost(frame)),
            ms: frame.elapsed_ms.filter(|ms| *ms > 0)?,
        })
    }

    /// Adds what moved at another time. What is unknown for a part is unknown for the whole.
    fn add(&mut self, other: &Moves) {
        let both = |a: Option<u64>, b: Option<u64>| Some(a? + b?);
        let merged = |a: &mut Option<Matrix>, b: &Option<Matrix>| match (a.as_mut(), b) {
            (Some(a), Some(b)) => a.add_times(b, 1),
            _ => *a = None,
        };
        self.seen.add_times(&other.seen, 1);
        merged(&mut self.traced, &other.traced);
        merged(&mut self.cut, &other.cut);
        self.unseen = both(self.unseen, other.unseen);
        self.active = both(self.active, other.active);
        self.passive = both(self.passive, other.passive);
        self.resets = both(self.resets, other.resets);
        self.sampled |= other.sampled;
        self.lost |= other.lost;
        self.ms += other.ms;
    }
}

/// The ring.
#[derive(Debug, Default)]
pub struct History {
    frames: VecDeque<Frame>,
    /// The samples of the filter that the watch began with, while another is in effect.
    base: Option<VecDeque<Frame>>,
}

impl History {
    /// Takes the newest sample. The sampler starts over with each filter; here numbers go on.
    pub fn push(&mut self, mut frame: Frame) {
        if self.frames.back().is_some_and(|last| last.filter != frame.filter) {
            self.change_filter(&frame);
        }
        if let Some(last) = self.frames.back() {
            frame.seq = last.seq + 1;
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

    /// A new filter starts a new count, because earlier counts are not comparable; the first one finds its own again.
    fn change_filter(&mut self, frame: &Frame) {
        let left = std::mem::take(&mut self.frames);
        match self.base.take() {
            None => self.base = Some(left),
            Some(base) if base.back().is_some_and(|last| last.filter == frame.filter) => self.frames = base,
            base => self.base = base,
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

    /// The samples up to number `seq`, at most `n`, oldest first.
    fn until(&self, seq: u64, n: usize) -> impl DoubleEndedIterator<Item = &Frame> {
        let end = self.place(seq).map_or(0, |place| place + 1);
        self.frames.range(end.saturating_sub(n)..end)
    }

    /// A value at the `n` samples up to number `seq`, oldest first, with the time of each in milliseconds since the epoch.
    #[must_use]
    pub fn curve(&self, series: &Series, seq: u64, n: usize) -> Vec<(u64, Option<f64>)> {
        self.until(seq, n).map(|frame| (frame.taken_at_ms, series.value(frame))).collect()
    }

    /// Change of a value per second over the last seconds up to number `seq`; `None` before the second sample.
    #[must_use]
    pub fn slope(&self, series: &Series, seq: u64) -> Option<f64> {
        let now = self.at(seq)?;
        let near = |frame: &&Frame| now.taken_at_ms.saturating_sub(frame.taken_at_ms) <= SMOOTHED_MS;
        let before = self.until(seq, SAMPLES).rev().skip(1).take_while(near).last().or_else(|| {
            // Samples that are further apart than the mean is long.
            self.until(seq, 2).next().filter(|frame| frame.seq != seq)
        })?;
        let ms = now.taken_at_ms.saturating_sub(before.taken_at_ms);
        let change = series.value(now)? - series.value(before)?;
        (ms > 0).then(|| change * 1000.0 / ms as f64)
    }

    /// The samples that reach back as far as this from number `seq`, newest first.
    fn within(&self, seq: u64, ms: u64) -> impl Iterator<Item = &Frame> {
        let now = self.at(seq).map_or(0, |frame| frame.taken_at_ms);
        let near = move |frame: &&Frame| frame.seq == seq || now.saturating_sub(frame.taken_at_ms) < ms;
        self.until(seq, SAMPLES).rev().take_while(near)
    }

    /// What moved between a sample and the one before it.
    fn moved(&self, frame: &Frame) -> Option<Moves> {
        let before = self.place(frame.seq).and_then(|place| self.frames.get(place.checked_sub(1)?));
        Moves::of(frame, before)
    }

    /// What moved in the time before number `seq`, or in as much of it as there are samples.
    #[must_use]
    pub fn moves(&self, seq: u64, ms: u64) -> Option<Moves> {
        let mut all = self.within(seq, ms).filter_map(|frame| self.moved(frame));
        let mut sum = all.next()?;
        all.for_each(|moves| sum.add(&moves));
        Some(sum)
    }

    /// What moved between each two of the `n` samples up to number `seq`, oldest first, with the time of the later.
    pub fn each_moves(&self, seq: u64, n: usize) -> impl Iterator<Item = (u64, Option<Moves>)> {
        self.until(seq, n).map(|frame| (frame.taken_at_ms, self.moved(frame)))
    }

    /// Sockets per second that entered a state and that left it, over the same time.
    #[must_use]
    pub fn flow(&self, state: State, seq: u64) -> Option<(f64, f64)> {
        let (mut entered, mut left, mut ms) = (0, 0, 0);
        for frame in self.within(seq, SMOOTHED_MS) {
            let Some(elapsed_ms) = frame.elapsed_ms else { continue };
            entered += frame.matrix.entered(state) * frame.scale;
            left += frame.matrix.left(state) * frame.scale;
            ms += elapsed_ms;
        }
        (ms > 0).then(|| (entered as f64 * 1000.0 / ms as f64, left as f64 * 1000.0 / ms as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::{TraceStatus, testkit};

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
        let curve = history.curve(&Series::State(State::CloseWait), 350, 3);
        assert_eq!(curve.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [Some(34.0); 3]);
        history.push(Frame { seq: 1, filter: "dport = :443".into(), ..testkit::frame() });
        assert_eq!(history.len(), 1, "another filter is another count");
        history.push(Frame { seq: 1, filter: "dport = :80".into(), ..testkit::frame() });
        assert_eq!(history.len(), 1);
        history.push(Frame { seq: 1, ..testkit::frame() });
        assert_eq!(history.len(), SAMPLES, "without a filter the history is as it was");
        history.push(Frame { seq: 2, ..testkit::frame() });
        assert_eq!(history.latest().map(|f| f.seq), Some(352));
        assert_eq!(history.at(350).map(|f| f.seq), Some(350));
    }
    #[test]
    fn moves_are_summed_and_what_is_unknown_for_a_part_is_unknown() {
        let mut history = History::default();
        for seq in 1..=100 {
            let mut frame = Frame { seq, ..testkit::frame() };
            frame.taken_at_ms += seq * 1000;
            frame.elapsed_ms = (seq > 1).then_some(1000);
            frame.scale = if seq == 90 { 2 } else { 1 };
            let matrix = Some(Matrix::default());
            frame.trace =
                (seq > 50).then_some(TraceStatus { via: "bpf", changes: 0, lost: 0, cut: matrix.clone(), matrix });
            frame.ledger.resets = (seq != 60).then_some(2);
            history.push(frame);
        }
        let five = history.moves(100, 5000).unwrap();
        let closed = |moves: &Moves| moves.seen.get(Some(State::Established), Some(State::CloseWait));
        assert_eq!((closed(&five), five.ms, five.resets, five.traced.is_some()), (5, 5000, Some(10), true));
        let minute = history.moves(100, 60_000).unwrap();
        assert_eq!((closed(&minute), minute.ms, minute.active), (61, 60_000, Some(18 * 60)));
        assert!(minute.traced.is_none() && minute.cut.is_none() && minute.resets.is_none());
        assert_eq!(history.moves(3, 60_000).unwrap().ms, 2000, "as much as there is");
        assert!(history.moves(1, 60_000).is_none());
        assert_eq!(history.each_moves(100, 2).filter_map(|(_, moves)| Some(closed(&moves?))).sum::<u64>(), 2);
    }

    #[test]
    fn a_leak_has_a_slope_and_what_is_unknown_has_none() {
        let mut history = History::default();
        let leak = Series::State(State::CloseWait);
        for seq in 1..=20 {
            let mut frame = Frame { seq, ..testkit::frame() };
            frame.taken_at_ms += seq * 1000;
            frame.counts[0].add_many(State::CloseWait, seq * 3);
            frame.ledger.resets = None;
            history.push(frame);
        }
        assert_eq!(history.slope(&leak, 20), Some(3.0));
        assert_eq!(history.slope(&leak, 1), None, "nothing to compare with");
        assert_eq!(history.slope(&Series::State(State::Established), 20), Some(0.0));
        assert_eq!(history.slope(&Series::Rate(Rate::Resets), 20), None, "unknown is not zero");
        assert_eq!(history.flow(State::CloseWait, 20), Some((1.0, 0.0)));
        let group = Series::Group(GroupId::Text("none of this name".into()));
        assert_eq!(history.curve(&group, 20, 2).iter().map(|(_, n)| *n).collect::<Vec<_>>(), [None, None]);
    }
}
