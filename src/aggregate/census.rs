//! The census: how many sockets are in which state, family and group. Sockets arrive one at a time and are not kept.

use crate::aggregate::groups::Grouping;
use crate::aggregate::local_ports::LocalPorts;
use crate::aggregate::roles::Listeners;
use crate::aggregate::state_counts::Counts;
use crate::model::column::Row;
use crate::model::{Coverage, Family};

/// Everything that `summary` counts.
pub struct Census {
    pub counts: [Counts; 2],
    pub coverage: Coverage,
    pub groupings: Vec<Grouping>,
    pub listeners: Listeners,
    /// Counted where it is set.
    pub ports: Option<LocalPorts>,
}

impl Census {
    #[must_use]
    pub fn new(listeners: Listeners, groupings: Vec<Grouping>) -> Census {
        Census { counts: [Counts::default(); 2], coverage: Coverage::default(), groupings, listeners, ports: None }
    }

    /// Counts one socket in every table.
    pub fn add(&mut self, row: &Row<'_>) {
        self.counts[row.socket.family as usize].add(row.socket.state);
        self.coverage.add(row.status);
        if self.groupings.is_empty() && self.ports.is_none() {
            return;
        }
        let role = self.listeners.role(row.socket);
        if let Some(ports) = &mut self.ports {
            ports.add(row.socket, role);
        }
        for grouping in &mut self.groupings {
            grouping.add(row, role, &self.listeners);
        }
    }

    /// Adds what was counted on another host, by the same keys.
    pub fn merge(&mut self, other: Census) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            mine.merge(theirs);
        }
        self.coverage.merge(&other.coverage);
        for (mine, theirs) in self.groupings.iter_mut().zip(other.groupings) {
            mine.merge(theirs);
        }
    }

    #[must_use]
    pub fn family(&self, family: Family) -> &Counts {
        &self.counts[family as usize]
    }

    /// Both families together.
    #[must_use]
    pub fn all(&self) -> Counts {
        let mut all = self.counts[0];
        all.merge(&self.counts[1]);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::groups::KeyValue;
    use crate::aggregate::key::Key;
    use crate::model::column::NoNames;
    use crate::model::sysctl::PORT_RANGE;
    use crate::model::{Endpoint, OwnerTable, Socket, State};

    fn row(state: State, sport: u16, dport: u16) -> Socket {
        let addr = "10.0.0.1".parse().unwrap();
        Socket {
            state,
            local: Endpoint::new(addr, sport),
            peer: Endpoint::new("10.9.9.9".parse().unwrap(), dport),
            uid: Some(u32::from(dport)),
            ..Socket::default()
        }
    }

    #[test]
    fn totals_are_equal_whatever_the_crossing_and_the_cut() {
        let mut listeners = Listeners::new(PORT_RANGE);
        listeners.add(&row(State::Listen, 80, 0));
        let groupings = Key::ALL.iter().flat_map(|a| Key::ALL.iter().map(|b| Grouping::new(vec![*a, *b]))).collect();
        let mut census = Census::new(listeners, groupings);
        let owners = OwnerTable::default();
        let mut n = 0;
        for i in 0..500u16 {
            for state in [State::Established, State::TimeWait, State::CloseWait] {
                let socket = row(state, if i % 2 == 0 { 80 } else { 40_000 + i }, 50_000 + i % 7);
                census.add(&Row::new(&socket, &owners, &NoNames));
                n += 1;
            }
        }
        assert_eq!(census.all().total(), n);
        for grouping in &census.groupings {
            for top in [0, 1, 3, 1000] {
                let (groups, cut) = grouping.split(top);
                let sum: u64 = groups.iter().map(|g| g.counts.total()).sum();
                let rest = grouping.rest(&cut).map_or(0, |rest| rest.counts.total());
                assert_eq!(sum + rest, n, "{:?} top {top}", grouping.keys);
                assert!(groups.len() <= top);
            }
        }
    }

    #[test]
    fn memory_grows_with_groups_and_not_with_sockets() {
        let mut census = Census::new(Listeners::new(PORT_RANGE), vec![Grouping::new(vec![Key::PeerPort])]);
        let owners = OwnerTable::default();
        for i in 0..10_000u16 {
            let socket = row(State::Established, i, 443);
            census.add(&Row::new(&socket, &owners, &NoNames));
        }
        assert_eq!(census.groupings[0].len(), 1);
        let (groups, _) = census.groupings[0].split(5);
        assert_eq!(groups[0].values, [KeyValue::Port(443)]);
        assert_eq!(groups[0].counts.get(State::Established), 10_000);
    }
}
