//! Short-lived processes of one command as one group.
//!
//! Input: a crossing by process, and how long processes have run. Output: the same crossing, with those that began a
//! moment ago together: each of them has a socket or two, and the long-lived ones would be lost among them.

use std::collections::BTreeMap;

use crate::aggregate::groups::{Group, Grouping, KeyValue};
use crate::aggregate::key::Key;
use crate::model::OwnerTable;

/// A process is short-lived no longer than this.
pub const SHORT_MS: u64 = 10_000;
/// From this many groups of one command on it is worth asking how old its processes are.
const MANY: usize = 3;

/// A group with the key under which it is kept.
type Kept = (Box<[u8]>, Group);

impl Grouping {
    /// The processes, as indices into the owner table, of commands that have many groups.
    #[must_use]
    pub fn crowds(&self, owners: &OwnerTable) -> Vec<u32> {
        let mut by_comm: BTreeMap<&str, (usize, Vec<u32>)> = BTreeMap::new();
        for value in self.groups.values().flat_map(|group| &group.values) {
            if let KeyValue::Processes(indices) = value
                && let Some(comm) = command(indices, owners)
            {
                let (groups, all) = by_comm.entry(comm).or_default();
                *groups += 1;
                all.extend(indices);
            }
        }
        let mut crowds: Vec<u32> =
            by_comm.into_values().filter(|(groups, _)| *groups >= MANY).flat_map(|(_, all)| all).collect();
        crowds.sort_unstable();
        crowds.dedup();
        crowds
    }

    /// Puts groups of short-lived processes of one command together.
    pub fn fold_short_lived(&mut self, owners: &OwnerTable, is_short_lived: impl Fn(u32) -> bool) {
        let Some(at) = self.keys.iter().position(|key| *key == Key::Process) else { return };
        let short = |value: &KeyValue| match value {
            KeyValue::Processes(indices) if indices.iter().all(|i| is_short_lived(*i)) => command(indices, owners),
            _ => None,
        };
        let mut together: BTreeMap<(&str, Vec<KeyValue>), Vec<Kept>> = BTreeMap::new();
        let taken: Vec<Kept> = self.groups.extract_if(|_, group| short(&group.values[at]).is_some()).collect();
        for (key, group) in taken {
            let Some(comm) = short(&group.values[at]) else { continue };
            let mut values = group.values.clone();
            values[at] = KeyValue::None;
            together.entry((comm, values)).or_default().push((key, group));
        }
        for groups in together.into_values() {
            let is_one = groups.len() == 1;
            let folded = groups.into_iter().reduce(|(key, mut all), (_, group)| {
                if let (KeyValue::Processes(of_all), KeyValue::Processes(more)) =
                    (&mut all.values[at], &group.values[at])
                {
                    of_all.extend(more);
                }
                all.counts.merge(&group.counts);
                if let (Some(all), Some(sums)) = (&mut all.sums, &group.sums) {
                    all.merge(sums);
                }
                (key, all)
            });
            let Some((key, mut group)) = folded else { continue };
            if let (KeyValue::Processes(indices), false) = (&mut group.values[at], is_one) {
                indices.sort_unstable();
                indices.dedup();
                group.values[at] = KeyValue::ShortLived(std::mem::take(indices));
            }
            self.groups.insert(key, group);
        }
    }
}

/// The name that all of these have.
fn command<'a>(indices: &[u32], owners: &'a OwnerTable) -> Option<&'a str> {
    let mut names = indices.iter().map(|i| owners.processes[*i as usize].comm.as_str());
    let first = names.next()?;
    names.all(|name| name == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::Role;
    use crate::aggregate::roles::Listeners;
    use crate::model::column::{NoNames, Row};
    use crate::model::sysctl::PORT_RANGE;
    use crate::model::{Holder, Inode, OwnerStatus, Process, Socket, State};

    #[test]
    fn short_lived_processes_of_one_command_are_one_group_and_the_others_stay() {
        let process = |pid, comm: &str| Process { pid, comm: comm.into(), ..Process::default() };
        let processes: Vec<Process> = (1..=4).map(|pid| process(pid, "curl")).chain([process(9, "nginx")]).collect();
        let holders: Vec<Holder> =
            (0..5).map(|i| Holder { inode: Inode::new(u64::from(i) + 1), process: i, fd: 3 }).collect();
        let owners = OwnerTable::new(processes, holders, 0);
        let listeners = Listeners::new(PORT_RANGE);
        let mut grouping = Grouping::new(vec![Key::Process]);
        for i in 0..5 {
            let socket = Socket { state: State::Established, inode: Inode::new(i + 1), ..Socket::default() };
            let holders = owners.holders(socket.inode);
            let status = OwnerStatus::Known;
            let row = Row { socket: &socket, status, holders, owners: &owners, names: &NoNames };
            grouping.add(&row, Role::Unknown, &listeners);
        }
        let curls: Vec<u32> = (0..4).collect();
        assert_eq!(grouping.crowds(&owners), curls, "one nginx is no crowd");
        grouping.fold_short_lived(&owners, |i| i != 2);
        let (groups, _) = grouping.split(9);
        let shown: Vec<(&KeyValue, u64)> = groups.iter().map(|g| (&g.values[0], g.counts.total())).collect();
        let one = |i| KeyValue::Processes(vec![i]);
        assert_eq!(shown, [(&KeyValue::ShortLived(vec![0, 1, 3]), 3), (&one(2), 1), (&one(4), 1)]);
    }
}
