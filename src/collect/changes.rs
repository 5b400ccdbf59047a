//! Changes of state as a stream, from the best source that works here.
//!
//! Input: which sources may be used, and a [`Request`]. Output: a running [`Source`]. Not here: what a change means. A new
//! source is a file that implements [`Source`], its names in [`Via`], and its arm in [`begin`].

pub(crate) use super::change_source::Replay;
pub use super::change_source::{Changes, Faults, Lost, Request, Scope, Source};
pub use crate::model::event::{Event, ResetReason, ResetReceived, ResetSent, Retransmit, Sighting};
pub use crate::model::transition::{Actor, By, Comm, Traffic, Transition, Via};

use super::bpf::trace::Tracer;
use super::error::Error;
use super::late_data::WithoutLateData;
use super::poll::Poll;
use super::tracefs::Tracefs;
use crate::model::Gap;
use crate::model::gap::{Missing, WayOut, Why};

/// Why a source cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// It does not work here; another one may.
    Unavailable(Gap),
    /// Nothing can be dumped, so no source is left.
    Failed(Error),
}

impl From<Gap> for Refusal {
    fn from(gap: Gap) -> Refusal {
        Refusal::Unavailable(gap)
    }
}

/// Begins to record with one source.
///
/// # Errors
/// Why it cannot be used, with the way out.
pub fn begin(via: Via, request: &mut Request) -> Result<Box<dyn Source>, Refusal> {
    Ok(match via {
        Via::Bpf => Box::new(WithoutLateData::new(Tracer::begin(request)?)),
        Via::Tracefs => Box::new(WithoutLateData::new(Tracefs::begin(request)?)),
        Via::Poll => Box::new(Poll::begin(request).map_err(Refusal::Failed)?),
    })
}

/// Begins to record with the first of these sources that works here ([`Via::ALL`]: the best first), and returns it with
/// a gap for each better one that does not.
///
/// # Errors
/// Why the last one cannot be used, if none can.
pub fn begin_first(vias: &[Via], request: &mut Request) -> Result<(Box<dyn Source>, Vec<Gap>), Refusal> {
    let mut gaps = Vec::new();
    for via in vias {
        match begin(*via, request) {
            Ok(source) => return Ok((source, gaps)),
            Err(Refusal::Unavailable(gap)) => gaps.push(gap),
            Err(failed) => return Err(failed),
        }
    }
    Err(gaps.pop().unwrap_or_else(|| Gap::new(Missing::Trace(None), Why::NoneNamed, WayOut::None)).into())
}

/// Begins to record with the BPF program, for whoever needs every event of these namespaces.
///
/// # Errors
/// Why it cannot run here, with the way out.
pub fn bpf(ring_bytes: usize, scope: Scope, changes: Changes, faults: Faults) -> Result<Box<dyn Source>, Gap> {
    let request = Request {
        scope,
        ring_bytes,
        lives: false,
        changes,
        faults,
        event_filter: None,
        live: None,
        interval: std::time::Duration::ZERO,
        replay: None,
    };
    Ok(Box::new(WithoutLateData::new(Tracer::begin(&request)?)))
}
