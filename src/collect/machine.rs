//! What the firmware says the machine is: a cloud's virtual machines say whose they are.
//!
//! Input: `/sys/class/dmi/id`. Output: [`Machine`]; empty where there is no such firmware, or in a host's `/proc` mounted
//! elsewhere.

use std::path::Path;

use crate::model::snapshot::Machine;

/// Reads the machine that this program runs on.
#[must_use]
pub fn read() -> Machine {
    below(Path::new("/sys/class/dmi/id"))
}

fn below(folder: &Path) -> Machine {
    let word = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    Machine { vendor: word("sys_vendor"), bios: word("bios_version"), asset_tag: word("chassis_asset_tag") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_empty_is_not_known() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(below(folder.path()), Machine::default());
        std::fs::write(folder.path().join("sys_vendor"), "Amazon EC2\n").unwrap();
        std::fs::write(folder.path().join("chassis_asset_tag"), "\n").unwrap();
        let machine = Machine { vendor: Some("Amazon EC2".into()), ..Machine::default() };
        assert_eq!(below(folder.path()), machine);
    }
}
