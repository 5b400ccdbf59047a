//! What `/proc` provides: the socket table for kernels without `sock_diag`, descriptors and their holders, counters.
//! Read only.

pub(crate) mod cgroups;
pub(crate) mod conntrack;
pub(crate) mod counters;
pub(crate) mod group_memory;
pub(crate) mod groups;
pub(crate) mod ipvs;
pub(crate) mod mounts;
pub(crate) mod net_tcp;
pub(crate) mod owners;
pub(crate) mod parts;
pub(crate) mod processes;

#[cfg(test)]
pub(crate) mod testkit;

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

    /// Whether it is this system's own `/proc`, in which our own pids are valid.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.0 == Path::new("/proc")
    }

    /// The folder with the network tables of the namespace.
    ///
    /// Our own is `thread-self/net`: `/proc/net` is that of the main thread, whichever thread reads it. In a host's
    /// proc mounted elsewhere `net` would be the reader's, so process 1 represents the host.
    #[must_use]
    pub fn net(&self) -> PathBuf {
        if self.is_own() {
            return self.0.join("thread-self/net");
        }
        let of_init = self.0.join("1/net");
        if of_init.is_dir() { of_init } else { self.0.join("net") }
    }
}
