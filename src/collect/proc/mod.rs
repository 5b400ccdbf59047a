//! What `/proc` tells: the socket table of kernels without `sock_diag`, and who holds which descriptor.
//!
//! Comes in: the root of a proc file system. Goes out: sockets, owners, counters. Never here: writing to it.

pub mod cgroups;
pub mod counters;
pub mod mounts;
pub mod net_tcp;
pub mod owners;
pub mod parts;
pub mod processes;

use std::path::{Path, PathBuf};

/// The root of a proc file system: `/proc`, or a host's mounted elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcRoot(PathBuf);

impl Default for ProcRoot {
    fn default() -> ProcRoot {
        ProcRoot(PathBuf::from("/proc"))
    }
}

impl ProcRoot {
    pub fn new(path: impl Into<PathBuf>) -> ProcRoot {
        ProcRoot(path.into())
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether it is this system's own `/proc`, in which our own pids mean something.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.0 == Path::new("/proc")
    }

    /// The folder with the network tables of the namespace in question.
    ///
    /// Our own is `thread-self/net`: `/proc/net` is that of the main thread, whichever thread reads it. In a host's
    /// proc mounted elsewhere `net` would be the reader's, so process 1 stands for the host.
    #[must_use]
    pub fn net(&self) -> PathBuf {
        if self.is_own() {
            return self.0.join("thread-self/net");
        }
        let of_init = self.0.join("1/net");
        if of_init.is_dir() { of_init } else { self.0.join("net") }
    }
}
