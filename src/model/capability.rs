//! Capabilities of a process that the kernel asks for before it shows something.
//!
//! Not here: which of them this program has (`rights`).

/// A capability (`include/uapi/linux/capability.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    NetAdmin,
    SysPtrace,
    DacReadSearch,
    Bpf,
    Perfmon,
    SysAdmin,
}

impl Capability {
    pub const ALL: [Capability; 6] = [
        Capability::NetAdmin,
        Capability::SysPtrace,
        Capability::DacReadSearch,
        Capability::Bpf,
        Capability::Perfmon,
        Capability::SysAdmin,
    ];

    /// Its own bit of `CapEff`.
    #[must_use]
    pub const fn bit(self) -> u64 {
        match self {
            Capability::NetAdmin => 1 << 12,
            Capability::SysPtrace => 1 << 19,
            Capability::DacReadSearch => 1 << 2,
            Capability::Bpf => 1 << 39,
            Capability::Perfmon => 1 << 38,
            Capability::SysAdmin => 1 << 21,
        }
    }

    /// The bits of `CapEff` of which each gives it: some larger ones include it (`bpf_capable`, `perfmon_capable`).
    #[must_use]
    pub const fn granted_by(self) -> u64 {
        const DAC_OVERRIDE: u64 = 1 << 1;
        match self {
            Capability::NetAdmin | Capability::SysPtrace | Capability::SysAdmin => self.bit(),
            Capability::DacReadSearch => self.bit() | DAC_OVERRIDE,
            Capability::Bpf | Capability::Perfmon => self.bit() | Capability::SysAdmin.bit(),
        }
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Capability::NetAdmin => "CAP_NET_ADMIN",
            Capability::SysPtrace => "CAP_SYS_PTRACE",
            Capability::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Capability::Bpf => "CAP_BPF",
            Capability::Perfmon => "CAP_PERFMON",
            Capability::SysAdmin => "CAP_SYS_ADMIN",
        }
    }
}

impl Capability {
    /// What it takes to read any process's descriptors.
    pub const READ_DESCRIPTORS: &'static [Capability] = &[Capability::SysPtrace, Capability::DacReadSearch];
    /// What it takes to load a tracing program.
    pub const BPF: &'static [Capability] = &[Capability::Bpf, Capability::Perfmon];
}

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(u8);

/// Why the kernel refuses descriptors of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Denial {
    /// They belong to another user, and this one is not root.
    NotRoot,
    /// Root without these capabilities.
    Lacks(Capabilities),
    /// Root with all that it takes: a security module, or a user namespace above, forbids it.
    Forbidden,
}

impl Capabilities {
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.into_iter().filter(move |c| self.0 & (1 << *c as u8) != 0)
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(all: I) -> Capabilities {
        Capabilities(all.into_iter().fold(0, |set, c| set | (1 << c as u8)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_each_capability_once() {
        let set: Capabilities = Capability::ALL.into_iter().chain(Capability::ALL).collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), Capability::ALL);
        assert!(Capabilities::default().is_empty() && !set.is_empty());
    }
}
