//! What runs out first: accept queues, descriptors, local ports, memory, beside the groups of a summary.
//!
//! Input: facts of processes and of the host. Output: what concerns one group, and how urgent that is. Not here: reading any
//! of it, or judging more than a share of a limit.

use crate::aggregate::accept_queue::AcceptQueue;
use crate::aggregate::groups::{Group, Grouping, KeyValue};
use crate::aggregate::key::Key;
use crate::aggregate::local_ports::PortUse;
use crate::aggregate::roles::Listeners;
use crate::model::NetnsId;
use crate::model::resources::{Descriptors, TcpMemory};

/// What is limited, beside the counts of a summary.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// By the index of the process in the owner table; empty where owners are not known.
    pub descriptors: Vec<Descriptors>,
    /// From this share of its limit on a process comes first.
    pub near_percent: f64,
    /// Of what the whole host or namespace has; `None` where only some sockets were counted.
    pub host: Option<HostResources>,
}

/// What whole namespaces and the host have.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostResources {
    /// The fullest range of local ports; `None` without a connection, and where the range is not known.
    pub ports: Option<PortUse>,
    /// Whether the range of some namespace is known.
    pub knows_ports: bool,
    pub memory: Option<TcpMemory>,
    pub page_bytes: u64,
}

/// What is limited, and the listeners with their queues.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    pub resources: &'a Resources,
    pub listeners: &'a Listeners,
}

impl Limits<'_> {
    /// The accept queues of some groups of listeners; `None` where nothing listens any more.
    #[must_use]
    pub fn queue(&self, groups: &[&Group]) -> Option<AcceptQueue> {
        let queues = groups.iter().filter_map(|group| self.queue_of(group));
        queues.reduce(|mut all, queue| {
            all.merge(&queue);
            all
        })
    }

    fn queue_of(&self, group: &Group) -> Option<AcceptQueue> {
        let mut netns: Option<NetnsId> = None;
        let mut at = None;
        for value in &group.values {
            match value {
                KeyValue::Netns(inode) => netns = Some(*inode),
                KeyValue::Endpoint(endpoint) => at = Some(*endpoint),
                _ => {}
            }
        }
        Some(self.listeners.at(netns, at?)?.queue)
    }

    /// The process of some groups that is nearest to its limit, as an index into the owner table.
    #[must_use]
    pub fn fullest(&self, groups: &[&Group]) -> Option<(u32, Descriptors)> {
        let processes = groups.iter().flat_map(|group| &group.values).filter_map(|value| match value {
            KeyValue::Processes(indices) | KeyValue::ShortLived(indices) => Some(indices),
            _ => None,
        });
        let of = |index: &u32| Some((*index, *self.resources.descriptors.get(*index as usize)?));
        let share = |d: &Descriptors| d.percent().unwrap_or(-1.0);
        // Of several that are alike, as of those that could not be read, the first.
        processes.flatten().filter_map(of).reduce(|a, b| if share(&b.1) > share(&a.1) { b } else { a })
    }

    /// How urgent a group is; 0: not at all, and its size decides.
    fn urgency(&self, key: Key, group: &Group) -> u64 {
        match key {
            Key::Listener => u64::from(self.queue(&[group]).is_some_and(|q| q.full > 0)),
            Key::Process => {
                let percent = self.fullest(&[group]).and_then(|(_, d)| d.percent());
                // In tenths of a percent, and never 0.
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "positive, and it saturates"
                )]
                percent.filter(|p| *p >= self.resources.near_percent).map_or(0, |percent| 1 + (percent * 10.0) as u64)
            }
            _ => 0,
        }
    }

    /// The groups of a crossing, the most urgent ones first unless another order was asked for: the first `top`, and those
    /// below the cut.
    #[must_use]
    pub fn split<'g>(&self, grouping: &'g Grouping, top: usize) -> (Vec<&'g Group>, Vec<&'g Group>) {
        let mut groups = grouping.ordered();
        if let Some(key @ (Key::Listener | Key::Process)) = grouping.keys.last()
            && grouping.wanted.order.is_none()
        {
            groups.sort_by_cached_key(|group| std::cmp::Reverse(self.urgency(*key, group)));
        }
        let cut = groups.split_off(top.min(groups.len()));
        (groups, cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::state_counts::Counts;
    use crate::model::sysctl::PORT_RANGE;
    use crate::model::{Endpoint, Socket, State};

    fn group(value: KeyValue) -> Group {
        Group { values: vec![value], host: 0, counts: Counts::default(), sums: None }
    }

    #[test]
    fn a_group_of_processes_is_as_urgent_as_the_one_nearest_to_its_limit() {
        let open = |used, soft| Descriptors { used: Some(used), soft: Some(soft), ..Descriptors::default() };
        let descriptors = vec![open(79, 100), Descriptors::default(), open(90, 100), open(80, 100), open(7, 1)];
        let resources = Resources { descriptors, near_percent: 80.0, ..Resources::default() };
        let limits = Limits { resources: &resources, listeners: &Listeners::new(PORT_RANGE) };
        let of = |indices: &[u32]| group(KeyValue::Processes(indices.to_vec()));
        let urgency = |indices: &[u32]| limits.urgency(Key::Process, &of(indices));
        assert_eq!([&[0][..], &[1], &[0, 2, 3], &[3], &[4]].map(urgency), [0, 0, 901, 801, 0]);
        let fullest = |indices: &[u32]| limits.fullest(&[&of(indices)]);
        assert_eq!(fullest(&[0, 1, 2]).unwrap().0, 2);
        assert_eq!(fullest(&[1]), Some((1, Descriptors::default())), "unknown, and said so");
        assert_eq!(limits.fullest(&[&group(KeyValue::None)]), None);
    }

    #[test]
    fn a_full_accept_queue_is_urgent() {
        let local = Endpoint::new("0.0.0.0".parse().unwrap(), 80);
        let full = Socket { state: State::Listen, local, recv_q_bytes: 6, send_q_bytes: Some(5), ..Socket::default() };
        let mut listeners = Listeners::new(PORT_RANGE);
        listeners.add(&full);
        let limits = Limits { resources: &Resources::default(), listeners: &listeners };
        let at = group(KeyValue::Endpoint(local));
        let gone = group(KeyValue::Endpoint(Endpoint::new(local.addr, 81)));
        assert_eq!(limits.queue(&[&gone, &at]).map(|q| q.fullest), Some((6, Some(5))));
        assert_eq!((limits.urgency(Key::Listener, &at), limits.urgency(Key::Destination, &at)), (1, 0));
        assert_eq!((limits.queue(&[&gone]), limits.urgency(Key::Listener, &gone)), (None, 0));
    }
}
