//! What this program may do, and what would help it where that is not enough.
//!
//! Input: whether it is root, and its effective capabilities. Output: the way out of a gap. Root in a container lacks most
//! capabilities, so that being told to run as root would be no help.

use crate::model::capability::{Capabilities, Capability, Denial};
use crate::model::gap::WayOut;

/// Root or not, and the effective capabilities (`CapEff`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    pub is_root: bool,
    /// One bit for each, as in `include/uapi/linux/capability.h`.
    pub effective: u64,
}

impl Rights {
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        self.effective & capability.granted_by() != 0
    }

    /// The capabilities that it was given themselves, of those that this program can use.
    #[must_use]
    pub fn held(self) -> Capabilities {
        Capability::ALL.into_iter().filter(|c| self.effective & c.bit() != 0).collect()
    }

    /// Those of some capabilities that it lacks.
    #[must_use]
    pub fn lacks(self, wanted: &[Capability]) -> Capabilities {
        wanted.iter().filter(|c| !self.has(**c)).copied().collect()
    }

    /// What helps where these capabilities are needed: to be root, or as root those that it lacks. Nothing where it has
    /// them all.
    #[must_use]
    pub fn way_out(self, wanted: &'static [Capability]) -> WayOut {
        if !self.is_root {
            return WayOut::RootOr(wanted);
        }
        let lacks = self.lacks(wanted);
        if lacks.is_empty() { WayOut::None } else { WayOut::Grant(lacks) }
    }

    /// Why what takes these capabilities is refused.
    #[must_use]
    pub fn denial(self, wanted: &[Capability]) -> Denial {
        let lacks = self.lacks(wanted);
        if !self.is_root {
            Denial::NotRoot
        } else if lacks.is_empty() {
            Denial::Forbidden
        } else {
            Denial::Lacks(lacks)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_told_what_it_lacks_and_never_to_be_root() {
        let needs = &[Capability::SysPtrace, Capability::DacReadSearch];
        let nobody = Rights { is_root: false, effective: 0 };
        assert_eq!((nobody.way_out(needs), nobody.denial(needs)), (WayOut::RootOr(needs), Denial::NotRoot));
        // What podman gives a container: DAC_OVERRIDE opens folders too.
        let container = Rights { is_root: true, effective: 0x8004_05fb };
        let ptrace: Capabilities = [Capability::SysPtrace].into_iter().collect();
        assert_eq!((container.way_out(needs), container.denial(needs)), (WayOut::Grant(ptrace), Denial::Lacks(ptrace)));
        assert!(container.has(Capability::DacReadSearch) && container.held().is_empty(), "one that includes it");
        let all = Rights { is_root: true, effective: u64::MAX };
        assert_eq!((all.way_out(needs), all.denial(needs)), (WayOut::None, Denial::Forbidden));
        let none = Rights { is_root: true, effective: 0 };
        assert_eq!(none.lacks(needs).iter().collect::<Vec<_>>(), needs);
    }
}
