//! What the devices and queues of a namespace have dropped so far.
//!
//! Input: `/proc/net/dev` and the queueing disciplines. Output: counts above 0 by place; what cannot be read is absent.

use std::collections::BTreeMap;

use crate::collect::interfaces;
use crate::collect::netlink::qdisc;
use crate::collect::proc::ProcRoot;
use crate::model::drops::DropPlace;

type Place = fn(String) -> DropPlace;

/// Columns of `/proc/net/dev` behind the name (`dev_seq_printf_stats`, `net/core/net-procfs.c`).
const COLUMNS: [(usize, Place); 4] = [
    (2, |device| DropPlace::ReceiveErrors { device }),
    (3, |device| DropPlace::ReceiveDropped { device }),
    (10, |device| DropPlace::SendErrors { device }),
    (11, |device| DropPlace::SendDropped { device }),
];

/// Reads the namespace of the calling thread; `None` where nothing could be read.
#[must_use]
pub fn read(root: &ProcRoot) -> Option<BTreeMap<DropPlace, u64>> {
    let mut drops = of_devices(&std::fs::read_to_string(root.net().join("dev")).ok()?);
    // In a host's /proc mounted elsewhere, the disciplines would be ours.
    if root.is_own() {
        for (index, n) in qdisc::drops().unwrap_or_default().into_iter().filter(|(_, n)| *n > 0) {
            if let Some(device) = interfaces::name_of(index) {
                *drops.entry(DropPlace::Qdisc { device }).or_default() += n;
            }
        }
    }
    Some(drops)
}

fn of_devices(text: &str) -> BTreeMap<DropPlace, u64> {
    let mut drops = BTreeMap::new();
    for (device, numbers) in text.lines().filter_map(|line| line.split_once(':')) {
        let numbers: Vec<u64> = numbers.split_ascii_whitespace().map_while(|n| n.parse().ok()).collect();
        for (column, place) in COLUMNS {
            if let Some(n) = numbers.get(column).filter(|n| **n > 0) {
                drops.insert(place(device.trim().to_owned()), *n);
            }
        }
    }
    drops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_drops_of_each_direction_are_told_apart() {
        let text = "Inter-|   Receive    |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n\
                    \x20 eth0: 9 8 7 6 0 0 0 0 5 4 3 2 0 0 0 0\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  odd: x\n";
        let found = of_devices(text);
        let device = || "eth0".to_owned();
        let expected = [
            (DropPlace::ReceiveErrors { device: device() }, 7),
            (DropPlace::ReceiveDropped { device: device() }, 6),
            (DropPlace::SendErrors { device: device() }, 3),
            (DropPlace::SendDropped { device: device() }, 2),
        ];
        assert_eq!(found, expected.into_iter().collect());
    }
}
