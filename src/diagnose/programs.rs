//! What to set in which program: advice beyond the general remedy.
//!
//! Comes in: a finding with a topic and a process. Goes out: the same finding with the exact setting. Never here:
//! guessing a program by anything but its own traces.

use crate::diagnose::finding::Finding;
use crate::diagnose::view::View;

/// Adds what is known about the program at fault.
pub fn advise(_finding: &mut Finding, _view: &View<'_>) {}
