//! What a process or the host has of something that is limited: descriptors, and memory for TCP.

use crate::model::counter::SockStat;
use crate::model::snapshot::Netns;
use crate::model::sysctl::Sysctl;

/// Descriptors beyond the limit are fewer than this part of it when they were inherited (policy).
const INHERITED_PART: u64 = 16;

/// Descriptors of a process; each number is `None` when it could not be read, and a limit also when there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Descriptors {
    pub used: Option<u64>,
    /// Soft and hard `RLIMIT_NOFILE`.
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

impl Descriptors {
    /// How full the soft limit is; `None` also for a limit that was lowered on purpose.
    #[must_use]
    pub fn percent(&self) -> Option<f64> {
        let (used, soft) = self.used.zip(self.soft).filter(|(used, soft)| !is_lowered(*used, *soft))?;
        // A limit of 0 lets no descriptor be opened at all.
        Some(if soft == 0 { 100.0 } else { used as f64 * 100.0 / soft as f64 })
    }
}

/// Whether the limit was lowered while the process ran: no call opens a descriptor beyond it (`alloc_fd`), so use well above
/// it was there before. A sandbox does that on purpose: sshd sets 1 before anybody has logged in. A few that a process
/// inherited, with numbers beyond its limit, leave the limit as full as it is.
#[must_use]
pub fn is_lowered(used: u64, soft: u64) -> bool {
    used > soft + soft / INHERITED_PART
}

/// Memory that all TCP sockets of the host have, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpMemory {
    pub used: u64,
    /// `None` outside of the initial network namespace, which alone shows them.
    pub limits: Option<MemoryLimits>,
}

/// The three numbers of `tcp_mem`, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryLimits {
    /// Below this the kernel does not save.
    pub min: u64,
    /// Above this it shrinks windows and queues.
    pub pressure: u64,
    /// Above this it drops data.
    pub max: u64,
}

impl TcpMemory {
    /// As far as one of these namespaces shows it: the use is that of the host in every one.
    #[must_use]
    pub fn of(namespaces: &[Netns]) -> Option<TcpMemory> {
        let used = namespaces.iter().find_map(|n| n.sockstat(SockStat::TcpMem))?;
        let limits = namespaces.iter().find_map(|n| match n.sysctls.get(Sysctl::Ipv4TcpMem)?[..] {
            [min, pressure, max] if max > 0 => Some(MemoryLimits { min, pressure, max }),
            _ => None,
        });
        Some(TcpMemory { used, limits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_was_lowered_on_purpose_is_not_full() {
        let percent = |used, soft| Descriptors { used: Some(used), soft: Some(soft), hard: None }.percent();
        assert_eq!(
            (percent(512, 1024), percent(1024, 1024), percent(1088, 1024)),
            (Some(50.0), Some(100.0), Some(106.25))
        );
        assert_eq!((percent(7, 1), percent(1089, 1024), percent(0, 0)), (None, None, Some(100.0)));
        assert_eq!(Descriptors { used: None, soft: Some(1024), hard: None }.percent(), None);
    }

    #[test]
    fn memory_is_that_of_the_host_and_limits_are_those_of_the_namespace_that_shows_them() {
        let mut inside = Netns::default();
        assert_eq!(TcpMemory::of(&[inside.clone()]), None);
        inside.sockstat.insert(SockStat::TcpMem, 12);
        assert_eq!(TcpMemory::of(&[inside.clone()]), Some(TcpMemory { used: 12, limits: None }));
        let mut initial = inside.clone();
        initial.sysctls.insert(Sysctl::Ipv4TcpMem, vec![100, 200, 300]);
        let limits = MemoryLimits { min: 100, pressure: 200, max: 300 };
        assert_eq!(TcpMemory::of(&[inside, initial]), Some(TcpMemory { used: 12, limits: Some(limits) }));
    }
}
