//! What this program may do, and whether in the namespaces that the host began with.
//!
//! Input: the kernel's word (`capget`, `/proc/self/ns`). Output: [`Rights`]. Not here: what a gap says of them (`model::rights`).

use rustix::thread::CapabilitySet;

use crate::model::rights::Rights;

/// The inodes of the first namespaces of their kinds (`include/uapi/linux/nsfs.h`).
pub const PID_NS_INIT_INO: u64 = 0xefff_fffc;
const USER_NS_INIT_INO: u64 = 0xefff_fffd;

/// The rights of this thread.
#[must_use]
pub fn own() -> Rights {
    // The call fails for no thread of ours.
    let effective = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    Rights { is_root: user() == 0, effective: effective.bits() }
}

/// The user that this program runs as.
#[must_use]
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether this process is in the user namespace that the host began with; `None` where it cannot be read.
#[must_use]
pub fn in_first_user_namespace() -> Option<bool> {
    is_first("/proc/self/ns/user", USER_NS_INIT_INO)
}

/// The same of its PID namespace: one of a container lists its own processes alone.
#[must_use]
pub fn in_first_pid_namespace() -> Option<bool> {
    is_first("/proc/self/ns/pid", PID_NS_INIT_INO)
}

fn is_first(namespace: &str, first: u64) -> Option<bool> {
    Some(rustix::fs::stat(namespace).ok()?.st_ino == first)
}
