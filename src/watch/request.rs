//! What one sample contains beside counts: the filter, the groups, the rows.
//!
//! Input: the options and keys of a user. Output: a [`SampleRequest`] for the sampler. Not here: how it is answered.

use super::rows::RowRequest;
use crate::aggregate::Key;
use crate::filter::Expr;

/// What one sample shall contain beside counts.
#[derive(Clone, Debug)]
pub struct SampleRequest {
    pub filter: Expr,
    pub interval_ms: u64,
    pub by: Option<Key>,
    /// Groups that are kept; the others are summed.
    pub top: usize,
    pub rows: Option<RowRequest>,
    /// Every change of one socket.
    pub events: bool,
}
