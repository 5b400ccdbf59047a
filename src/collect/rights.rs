//! What this program may do.
//!
//! Input: the kernel's word (`capget`). Output: [`Rights`]. Not here: what a gap says of them (`model::rights`).

use rustix::thread::CapabilitySet;

use crate::model::rights::Rights;

/// The rights of this thread.
#[must_use]
pub fn own() -> Rights {
    // The call fails for no thread of ours.
    let effective = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    Rights { is_root: rustix::process::geteuid().is_root(), effective: effective.bits() }
}
