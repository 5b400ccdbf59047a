//! The live stage: a series of samples of the sockets, as frames.
//!
//! Input: an open source, a [`Config`] and what each sample contains ([`SampleRequest`]). Output: a [`Frame`] per
//! sample, with the changes since the previous one, the largest groups, and the findings over time.
#![allow(clippy::disallowed_methods, reason = "budgets of a live stage are measured time")]

mod book;
mod budget;
mod config;
mod course;
mod detail;
pub mod error;
mod frame;
mod grouping;
mod judge;
mod listeners;
pub(crate) mod measures;
mod owners;
mod request;
mod rows;
mod sampler;
mod sightings;
#[cfg(test)]
pub(crate) mod testkit;
mod tracing;

pub use config::Config;
pub use course::{Course, Looks, Run, Spell};
pub use error::Error;
pub use frame::{
    Detail, Frame, FrameGroup, GroupId, Line, Lines, RowOwner, RowsOf, Sighting, TimeWaitOwners, TraceStatus,
};
#[cfg(test)]
pub use frame::{OfFinding, Others};
pub use grouping::{GROUP_KEYS, next_key};
pub use judge::Verdicts;
#[cfg(test)]
pub use judge::{OpenIncident, Traffic};
pub use listeners::{listener_query, listeners};
#[cfg(test)]
pub use measures::Limits;
pub use measures::{Held, ListenerSum, Measures, Whose};
pub use request::{GroupColumn, GroupOrder, SampleRequest};
pub use rows::{DEFAULT_SORT, RowRequest, sort_columns};
pub use sampler::Sampler;
