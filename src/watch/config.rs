//! What is decided once for the whole of a watch.

use crate::diagnose::Thresholds;

/// Settings for the whole watch.
#[derive(Clone, Debug)]
pub struct Config {
    pub with_owners: bool,
    /// Run the rules periodically.
    pub with_findings: bool,
    /// Trace changes where this is permitted and cheap.
    pub trace: bool,
    /// Fail where changes cannot be traced, and trace whatever it costs.
    pub insist_on_trace: bool,
    /// Maximum number of tracked sockets.
    pub track: usize,
    pub thresholds: Thresholds,
    /// The options that make the next command of a finding read the same sockets.
    pub scope: String,
}
