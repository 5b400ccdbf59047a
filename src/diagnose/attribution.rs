//! Who most likely left a TIME_WAIT or an orphan behind, with how much certainty and why.
//!
//! Comes in: a view. Goes out: candidates. Never here: a bare claim.
