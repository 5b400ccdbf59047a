//! The source of a list of sockets.

use std::fmt;

/// What lists sockets (JSON: `source`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Source {
    /// `sock_diag` over netlink.
    #[default]
    Netlink,
    /// `/proc/net/tcp` and `/proc/net/tcp6`.
    Proc,
    /// A capture that `record` wrote.
    Capture,
    /// What another tool printed: ss, netstat, lsof.
    Text,
}

impl Source {
    /// Every source, for the schema.
    pub const ALL: [Source; 4] = [Source::Netlink, Source::Proc, Source::Capture, Source::Text];

    /// The key that JSON prints.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Source::Netlink => "netlink",
            Source::Proc => "proc",
            Source::Capture => "capture",
            Source::Text => "text",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}
