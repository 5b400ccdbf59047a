//! Metrics for Prometheus and what reads its formats: OpenMetrics and the text format 0.0.4.
//!
//! Input: a sample, what the rules say, how the collection went ([`Facts`]). Output: [`Series`], which can be written in
//! both formats. The metrics are one table ([`METRICS`]); docs/metrics.md is made of it.

pub mod findings;
mod kernel;
mod page;
mod table;
#[cfg(test)]
mod tests;

pub use page::write_page;
pub use table::METRICS;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::model::column::Names;
use crate::model::counter::Counter;
use crate::watch::{Frame, Verdicts};

/// The media type of each format.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric is what it is for as long as its name stays.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// As Prometheus shows it. The unit is its end: `_seconds`, `_bytes`; a counter ends with `_total`.
    pub name: &'static str,
    pub kind: Kind,
    /// Every label that a series of it may have. One that does not apply is left out.
    pub labels: &'static [&'static str],
    pub help: &'static str,
    from: Origin,
}

/// What its number does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows, until what counts it begins anew.
    Counter,
}

/// Where its number comes from.
#[derive(Clone, Copy)]
enum Origin {
    Facts(fn(&Facts<'_>, &mut Points)),
    /// The kernel counts it.
    Kernel(Counter),
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Facts(_) => f.write_str("Facts"),
            Origin::Kernel(counter) => write!(f, "Kernel({counter})"),
        }
    }
}

/// Metrics of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Chapter {
    pub title: &'static str,
    pub text: &'static str,
    pub metrics: &'static [Metric],
}

/// How the collections go.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub version: &'static str,
    pub interval_ms: u64,
    /// Collections so far.
    pub collections: u64,
    /// Intervals that passed without one.
    pub skipped: u64,
    /// Label destinations and sources of connections.
    pub with_peers: bool,
    pub collectors: Vec<Collected>,
}

/// How a part of the latest collection went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Collected {
    pub name: &'static str,
    pub seconds: f64,
    pub is_done: bool,
}

/// What metrics are made of. What could not be read has none.
pub struct Facts<'a> {
    pub run: &'a Run,
    /// `None` when the latest sample failed.
    pub frame: Option<&'a Frame>,
    /// `None` where the rules are not run, or failed.
    pub verdicts: Option<&'a Verdicts>,
    pub names: &'a dyn Names,
}

/// A number of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Whole(u64),
    Real(f64),
}

type Labels = Vec<(&'static str, String)>;

/// The series of one metric.
#[derive(Clone, Debug, Default)]
struct Points(Vec<(Labels, Number)>);

impl Points {
    /// A series; labels without a value are left out.
    fn add(&mut self, labels: &[(&'static str, &str)], number: impl Into<Number>) {
        let labels = labels.iter().filter(|(_, value)| !value.is_empty());
        self.0.push((labels.map(|(key, value)| (*key, (*value).to_owned())).collect(), number.into()));
    }

    /// A series without labels, where the number is known.
    fn add_known(&mut self, number: Option<impl Into<Number>>) {
        if let Some(number) = number {
            self.add(&[], number);
        }
    }
}

impl From<u64> for Number {
    fn from(n: u64) -> Number {
        Number::Whole(n)
    }
}

impl From<f64> for Number {
    fn from(n: f64) -> Number {
        Number::Real(n)
    }
}

/// All series of one moment.
#[derive(Debug)]
pub struct Series(Vec<(&'static Metric, Points)>);

impl Series {
    /// The series of every metric that has a number.
    #[must_use]
    pub fn of(facts: &Facts<'_>) -> Series {
        let counters = facts.frame.and_then(|frame| frame.measures.as_ref()).map(|m| &m.counters);
        let points = |metric: &'static Metric| {
            let mut points = Points::default();
            match metric.from {
                Origin::Facts(read) => read(facts, &mut points),
                Origin::Kernel(counter) => points.add_known(counters.and_then(|all| all.get(counter).copied())),
            }
            (metric, points)
        };
        let all = METRICS.iter().flat_map(|chapter| chapter.metrics);
        Series(all.map(points).filter(|(_, points)| !points.0.is_empty()).collect())
    }

    /// As OpenMetrics 1.0.
    ///
    /// # Errors
    /// Never on sound data.
    pub fn openmetrics(self: &std::sync::Arc<Series>) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry())?;
        Ok(out)
    }

    /// In the text format 0.0.4.
    ///
    /// # Errors
    /// Never on sound data.
    pub fn prometheus(self: &std::sync::Arc<Series>) -> Result<String, fmt::Error> {
        let mut out = String::new();
        prometheus_text::encode(&mut out, &self.registry())?;
        Ok(out)
    }

    fn registry(self: &std::sync::Arc<Series>) -> Registry {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(std::sync::Arc::clone(self)));
        registry
    }
}

impl Collector for Series {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (metric, points) in &self.0 {
            let (name, unit) = metric.parts();
            let kind = match metric.kind {
                Kind::Gauge => MetricType::Gauge,
                Kind::Counter => MetricType::Counter,
            };
            let mut family = encoder.encode_descriptor(name, metric.help, unit.as_ref(), kind)?;
            for (labels, number) in &points.0 {
                let mut series = family.encode_family(labels)?;
                match (metric.kind, *number) {
                    (Kind::Counter, Number::Whole(n)) => series.encode_counter::<NoLabels, u64, u64>(&n, None)?,
                    (Kind::Counter, Number::Real(n)) => series.encode_counter::<NoLabels, f64, u64>(&n, None)?,
                    (Kind::Gauge, Number::Whole(n)) => series.encode_gauge(&i64::try_from(n).unwrap_or(i64::MAX))?,
                    (Kind::Gauge, Number::Real(n)) => series.encode_gauge(&n)?,
                }
            }
        }
        Ok(())
    }
}

type NoLabels = [(&'static str, &'static str); 0];

impl Metric {
    const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        read: fn(&Facts<'_>, &mut Points),
    ) -> Metric {
        Metric { name, kind: Kind::Gauge, labels, help, from: Origin::Facts(read) }
    }

    const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        read: fn(&Facts<'_>, &mut Points),
    ) -> Metric {
        Metric { name, kind: Kind::Counter, labels, help, from: Origin::Facts(read) }
    }

    const fn kernel(name: &'static str, counter: Counter, help: &'static str) -> Metric {
        Metric { name, kind: Kind::Counter, labels: &[], help, from: Origin::Kernel(counter) }
    }

    /// The counter of the kernel that it shows.
    #[must_use]
    pub fn kernel_counter(&self) -> Option<Counter> {
        match self.from {
            Origin::Kernel(counter) => Some(counter),
            Origin::Facts(_) => None,
        }
    }

    /// The name without what the encoders add, and the unit.
    fn parts(&self) -> (&'static str, Option<Unit>) {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        for (suffix, unit) in [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes)] {
            if let Some(name) = name.strip_suffix(suffix) {
                return (name, Some(unit));
            }
        }
        (name, None)
    }
}
