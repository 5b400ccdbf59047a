//! A number and what proves it: exact, at least, a range, or an estimate.
//!
//! Three things prove a duration or a rate: a kernel stamp that means exactly that, two samples of our own, or a trace.
//! Rules make a [`Measure`] from one of them, and the words of a headline follow from its variant, so that no sentence
//! claims more than its proof.

use std::fmt;

/// A number with its proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Measure<T> {
    /// A stamp or counter of the kernel says exactly this, or two samples do.
    Exact(T),
    /// It is this or more: two samples enclose this much of it.
    AtLeast(T),
    /// Between the two, both included.
    Range(T, T),
    /// Worked out from what is typical; never the reason for a severity.
    Estimate(T),
}

impl<T: Copy> Measure<T> {
    /// The value that is certain: the lower end; `None` for an estimate.
    #[must_use]
    pub fn proven(self) -> Option<T> {
        match self {
            Measure::Exact(value) | Measure::AtLeast(value) | Measure::Range(value, _) => Some(value),
            Measure::Estimate(_) => None,
        }
    }

    /// The lower end, or the estimate.
    #[must_use]
    pub fn low(self) -> T {
        match self {
            Measure::Exact(value) | Measure::AtLeast(value) | Measure::Range(value, _) | Measure::Estimate(value) => {
                value
            }
        }
    }

    /// The key that JSON prints beside the number.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Measure::Exact(_) => "exact",
            Measure::AtLeast(_) => "at_least",
            Measure::Range(..) => "range",
            Measure::Estimate(_) => "estimate",
        }
    }

    /// `at least 5 s`, `5 s to 8 s`, `about 5 s`: the words that the proof allows.
    pub fn text<D: fmt::Display>(self, value: impl Fn(T) -> D) -> String {
        match self {
            Measure::Exact(v) => value(v).to_string(),
            Measure::AtLeast(v) => format!("at least {}", value(v)),
            Measure::Range(low, high) => format!("{} to {}", value(low), value(high)),
            Measure::Estimate(v) => format!("about {}", value(v)),
        }
    }
}

/// A part of a whole. There is none of nothing, and none of more than everything: `417 %` and `7 of 1` cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    part: u64,
    whole: u64,
}

impl Share {
    /// `None` when the whole is zero or smaller than the part: then the two were not counted over the same thing.
    #[must_use]
    pub fn of(part: u64, whole: u64) -> Option<Share> {
        (whole > 0 && part <= whole).then_some(Share { part, whole })
    }

    /// 0 to 100.
    #[must_use]
    pub fn percent(self) -> f64 {
        self.part as f64 * 100.0 / self.whole as f64
    }
}

impl fmt::Display for Share {
    /// `12 %`, `less than 1 %`; never `0.0 %` of something that is there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.percent() {
            _ if self.part == 0 => f.write_str("none"),
            p if p < 1.0 => f.write_str("less than 1 %"),
            p if p > 99.0 && self.part < self.whole => f.write_str("more than 99 %"),
            p => write!(f, "{p:.0} %"),
        }
    }
}
