//! How many rows have an owner, and the gap where some have none.

use super::gap::{Capability, Gap, Missing, WayOut, Why};
use super::owner::{OwnerStatus, OwnerTable, Unlisted};
use super::rights::Looker;

/// How many owners are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Coverage {
    by_status: [u64; OwnerStatus::ALL.len()],
}

impl Coverage {
    pub fn add(&mut self, status: OwnerStatus) {
        self.by_status[status as usize] += 1;
    }

    /// Adds what is known of other sockets.
    pub fn merge(&mut self, other: &Coverage) {
        for (mine, theirs) in self.by_status.iter_mut().zip(other.by_status) {
            *mine += theirs;
        }
    }

    #[must_use]
    pub fn get(&self, status: OwnerStatus) -> u64 {
        self.by_status[status as usize]
    }

    /// The gap for unknown owners, if there are any.
    #[must_use]
    pub fn gap(&self, owners: &OwnerTable, looker: Looker) -> Option<Gap> {
        let known = self.get(OwnerStatus::Known);
        let hidden = self.get(OwnerStatus::NoPermission) + self.get(OwnerStatus::OtherPidns);
        let raced = self.get(OwnerStatus::Raced);
        let all = known + hidden + raced;
        if hidden > 0 {
            // Processes that are not listed count as one.
            let refused = owners.unreadable - u32::from(owners.unlisted.is_some()).min(owners.unreadable);
            let way_out = match owners.unlisted {
                // The group of `gid=` sees hidden processes, and may still not read their descriptors.
                None | Some(Unlisted::Hidden) => looker.way_out(Capability::READ_DESCRIPTORS),
                Some(Unlisted::NoProc) => WayOut::MountProc,
                Some(Unlisted::PidNamespace) => WayOut::HostProc,
            };
            let denial = looker.denial(Capability::READ_DESCRIPTORS);
            let why = Why::Descriptors { refused, denial, unlisted: owners.unlisted };
            return Some(Gap::new(Missing::Owners { known, of: all }, why, way_out));
        }
        (raced > 0).then(|| Gap::new(Missing::Owners { known, of: all }, Why::Raced { sockets: raced }, WayOut::None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::capability::Denial;
    use crate::model::rights::Rights;

    const NOBODY: Looker = Looker::here(Rights { is_root: false, effective: 0 });
    const ROOT: Looker = Looker::here(Rights { is_root: true, effective: u64::MAX });
    const RECORDED: Looker = Looker { rights: None, is_recorded: true };

    #[test]
    fn a_gap_has_what_is_hidden_before_what_raced() {
        let mut coverage = Coverage::default();
        let mut owners = OwnerTable::default();
        assert_eq!(coverage.gap(&owners, NOBODY), None);
        coverage.add(OwnerStatus::Known);
        coverage.add(OwnerStatus::Kernel);
        assert_eq!(coverage.gap(&owners, NOBODY), None);
        coverage.add(OwnerStatus::Raced);
        let gap = |of, why, way_out| Some(Gap::new(Missing::Owners { known: 1, of }, why, way_out));
        assert_eq!(coverage.gap(&owners, NOBODY), gap(2, Why::Raced { sockets: 1 }, WayOut::None));
        coverage.add(OwnerStatus::NoPermission);
        owners.unreadable = 4;
        let why = |refused, denial, unlisted| Why::Descriptors { refused, denial, unlisted };
        assert_eq!(coverage.gap(&owners, NOBODY), gap(3, why(4, Denial::NotRoot, None), WayOut::READ_DESCRIPTORS));
        assert_eq!(coverage.gap(&owners, ROOT), gap(3, why(4, Denial::Forbidden, None), WayOut::None));
        let recorded = WayOut::RecordWith(Capability::READ_DESCRIPTORS);
        assert_eq!(coverage.gap(&owners, RECORDED), gap(3, why(4, Denial::NotRoot, None), recorded));
        for (unlisted, way_out) in [
            (Unlisted::NoProc, WayOut::MountProc),
            (Unlisted::Hidden, WayOut::READ_DESCRIPTORS),
            (Unlisted::PidNamespace, WayOut::HostProc),
        ] {
            // Processes that are not listed count as one unreadable process.
            owners.unlisted = Some(unlisted);
            assert_eq!(coverage.gap(&owners, NOBODY), gap(3, why(3, Denial::NotRoot, Some(unlisted)), way_out));
        }
        owners.unlisted = Some(Unlisted::Hidden);
        assert_eq!(
            coverage.gap(&owners, ROOT),
            gap(3, why(3, Denial::Forbidden, Some(Unlisted::Hidden)), WayOut::None)
        );
    }
}
