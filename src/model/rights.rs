//! What this program may do, and what would help it where that is not enough.
//!
//! Input: whether it is root, and its effective capabilities; whether that was recorded. Output: the way out of a gap. Root in a
//! container lacks most capabilities, so that being told to run as root would be no help.

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

/// Who took a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looker {
    /// `None`: a recording or a text that does not tell.
    pub rights: Option<Rights>,
    /// It was then and perhaps elsewhere: whoever reads it now has other rights, and changes nothing by them.
    pub is_recorded: bool,
}

/// What a look needs to see what takes some capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// It has them all.
    Nothing,
    /// To be root, or to have them; nobody knows of a recording that does not tell.
    Root,
    /// Root without these.
    Grant(Capabilities),
}

impl Looker {
    /// A look at this host with these rights.
    #[must_use]
    pub const fn here(rights: Rights) -> Looker {
        Looker { rights: Some(rights), is_recorded: false }
    }

    /// What it needs for these capabilities.
    #[must_use]
    pub fn needs(self, wanted: &[Capability]) -> Needs {
        match self.rights {
            Some(rights) if rights.is_root => match rights.lacks(wanted) {
                lacks if lacks.is_empty() => Needs::Nothing,
                lacks => Needs::Grant(lacks),
            },
            Some(_) | None => Needs::Root,
        }
    }

    /// The way out of a gap for which these capabilities are needed.
    #[must_use]
    pub fn way_out(self, wanted: &'static [Capability]) -> WayOut {
        let here = self.rights.map_or(WayOut::RootOr(wanted), |rights| rights.way_out(wanted));
        if self.is_recorded { here.when_recorded() } else { here }
    }

    /// Why what takes these capabilities was refused.
    #[must_use]
    pub fn denial(self, wanted: &[Capability]) -> Denial {
        self.rights.map_or(Denial::NotRoot, |rights| rights.denial(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_made_again_with_what_its_recorder_lacked() {
        let needs = Capability::READ_DESCRIPTORS;
        let ptrace: Capabilities = [Capability::SysPtrace].into_iter().collect();
        let of = |rights| Looker { rights, is_recorded: true };
        let container = Rights { is_root: true, effective: 0x8004_05fb };
        let all = Rights { is_root: true, effective: u64::MAX };
        let nobody = Rights { is_root: false, effective: 0 };
        for (rights, way_out, need) in [
            (None, WayOut::RecordWith(needs), Needs::Root),
            (Some(nobody), WayOut::RecordWith(needs), Needs::Root),
            (Some(container), WayOut::RecordGranted(ptrace), Needs::Grant(ptrace)),
            (Some(all), WayOut::None, Needs::Nothing),
        ] {
            assert_eq!((of(rights).way_out(needs), of(rights).needs(needs)), (way_out, need), "{rights:?}");
        }
        assert_eq!(Looker::here(container).way_out(needs), WayOut::Grant(ptrace));
        assert_eq!(Looker::here(nobody).way_out(needs), WayOut::RootOr(needs));
    }

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
