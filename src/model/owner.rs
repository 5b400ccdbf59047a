//! Which processes hold a socket, or why none can be named.
//!
//! Input: processes and (inode, process, fd) triples from `collect`. Output: every holder of a socket, or the reason
//! why there is none.

use std::collections::HashMap;

use crate::model::cgroup::Identity;
use crate::model::id::Inode;
use crate::model::socket::{RowKind, Socket};
use crate::model::state::State;

/// A process that holds at least one socket.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Process {
    pub pid: u32,
    /// `/proc/PID/comm`, at most 15 bytes, set by the process itself: sanitise it for terminals.
    pub comm: String,
    /// Real user id of the process; `None` when it could not be read.
    pub uid: Option<u32>,
    /// Unit, container and pod, as far as known. For a docker-proxy, the container it forwards to.
    pub identity: Identity,
}

/// One descriptor of one process that refers to a socket inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Holder {
    /// `None` where only the processes are known.
    pub inode: Option<Inode>,
    /// Index into [`OwnerTable::processes`].
    pub process: u32,
    pub fd: u32,
}

/// Why a socket has these owners, or none (JSON: `owner_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OwnerStatus {
    /// At least one process holds it.
    Known,
    /// It waits in a listener's queue; no process has it yet.
    NotAccepted,
    /// The application has closed it; the kernel finishes the connection.
    Orphaned,
    /// TIME_WAIT: the kernel keeps no owner.
    TimeWait,
    /// No readable process holds it, but not every process is readable.
    NoPermission,
    /// No process of this PID namespace holds it, and all of these are readable: one of another PID namespace has it.
    OtherPidns,
    /// It is held from a network namespace that was not scanned.
    OtherNetns,
    /// No process holds it and it still exists: a kernel socket (NFS, CIFS), a descriptor in flight or an io_uring
    /// direct descriptor.
    Kernel,
    /// It appeared or vanished between the two scans.
    Raced,
    /// Owners were not requested.
    NotCollected,
}

impl OwnerStatus {
    pub const ALL: [OwnerStatus; 10] = [
        OwnerStatus::Known,
        OwnerStatus::NotAccepted,
        OwnerStatus::Orphaned,
        OwnerStatus::TimeWait,
        OwnerStatus::NoPermission,
        OwnerStatus::OtherPidns,
        OwnerStatus::OtherNetns,
        OwnerStatus::Kernel,
        OwnerStatus::Raced,
        OwnerStatus::NotCollected,
    ];

    /// The key that JSON prints.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            OwnerStatus::Known => "known",
            OwnerStatus::NotAccepted => "not_accepted",
            OwnerStatus::Orphaned => "orphaned",
            OwnerStatus::TimeWait => "time_wait",
            OwnerStatus::NoPermission => "no_permission",
            OwnerStatus::OtherPidns => "other_pidns",
            OwnerStatus::OtherNetns => "other_netns",
            OwnerStatus::Kernel => "kernel",
            OwnerStatus::Raced => "raced",
            OwnerStatus::NotCollected => "not_collected",
        }
    }

    /// Whether an empty list means "no holder" and not "unknown".
    #[must_use]
    pub const fn holders_are_known(self) -> bool {
        match self {
            OwnerStatus::Known
            | OwnerStatus::NotAccepted
            | OwnerStatus::Orphaned
            | OwnerStatus::TimeWait
            | OwnerStatus::Kernel => true,
            OwnerStatus::NoPermission
            | OwnerStatus::OtherPidns
            | OwnerStatus::OtherNetns
            | OwnerStatus::Raced
            | OwnerStatus::NotCollected => false,
        }
    }

    /// What tables print in place of a process.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            OwnerStatus::Known => "known",
            OwnerStatus::NotAccepted => "(not accepted)",
            OwnerStatus::Orphaned => "(orphaned)",
            OwnerStatus::TimeWait => "(time wait)",
            OwnerStatus::NoPermission => "(no permission)",
            OwnerStatus::OtherPidns => "(other PID namespace)",
            OwnerStatus::OtherNetns => "(other netns)",
            OwnerStatus::Kernel => "(kernel)",
            OwnerStatus::Raced => "(came or went)",
            OwnerStatus::NotCollected => "-",
        }
    }

    /// What the row alone says about its owner: `Some` when no process can hold it.
    #[must_use]
    pub fn without_holder(socket: &Socket) -> Option<OwnerStatus> {
        match socket.kind {
            // A FIN_WAIT2 timewait socket is an orphan: the application has closed, the peer has not.
            RowKind::TimeWaitMini if socket.state == State::FinWait2 => return Some(OwnerStatus::Orphaned),
            RowKind::TimeWaitMini => return Some(OwnerStatus::TimeWait),
            RowKind::Request => return Some(OwnerStatus::NotAccepted),
            RowKind::Full | RowKind::BoundInactive => {}
        }
        if socket.inode.is_some() {
            return None;
        }
        Some(match (socket.state, socket.shutdown) {
            // Closed by the application in both directions, or in a state that only close() leads to.
            (_, Some(3)) | (State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck, _) => {
                OwnerStatus::Orphaned
            }
            (State::TimeWait, _) => OwnerStatus::TimeWait,
            _ => OwnerStatus::NotAccepted,
        })
    }
}

/// Why processes may exist that the process list lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unlisted {
    /// There is no process list.
    NoProc,
    /// Other users' processes are hidden (`hidepid`).
    Hidden,
    /// It has the processes of one PID namespace only, not those of its ancestors.
    PidNamespace,
}

/// Every process that holds a socket, and which sockets.
#[derive(Clone, Debug, Default)]
pub struct OwnerTable {
    pub processes: Vec<Process>,
    /// Sorted by inode, then process, then descriptor.
    holders: Vec<Holder>,
    /// Open addressing from an inode to one more than the index of its first holder. A binary search costs one cache
    /// miss a step, which was a quarter of the time of a long list.
    index: Vec<u32>,
    /// Replaces the two above where descriptors do not matter.
    compact: Compact,
    /// Processes whose descriptors could not be read.
    pub unreadable: u32,
    /// Why there may be more than were read; they count as one unreadable process.
    pub unlisted: Option<Unlisted>,
    /// False when owners were not requested.
    pub collected: bool,
    /// Whether a second scan tried to find the sockets without an owner.
    settled: bool,
    /// Inodes that two scans found without a holder though they still exist, sorted.
    unheld: Vec<Inode>,
}

impl OwnerTable {
    /// Builds the table; holders come in any order.
    #[must_use]
    pub fn new(processes: Vec<Process>, mut holders: Vec<Holder>, unreadable: u32) -> OwnerTable {
        holders.sort_unstable();
        holders.dedup();
        let index = index(&holders);
        OwnerTable { processes, holders, index, unreadable, collected: true, ..OwnerTable::default() }
    }

    /// Builds a table of half the size without descriptors: its holders have no inode, and descriptor 0. The pairs
    /// are (inode, index of a process), in any order.
    #[must_use]
    pub fn of_processes(processes: Vec<Process>, pairs: Vec<(u32, u32)>, unreadable: u32) -> OwnerTable {
        let compact = Compact::new(pairs, processes.len());
        OwnerTable { processes, compact, unreadable, collected: true, ..OwnerTable::default() }
    }

    /// Whether the table knows which descriptors refer to a socket.
    #[must_use]
    pub fn knows_descriptors(&self) -> bool {
        self.compact.entries.is_empty()
    }

    /// Adds what a second scan found, and records the inodes that exist and have no holder.
    pub fn settle(&mut self, later: OwnerTable, mut unheld: Vec<Inode>) {
        let known: HashMap<u32, u32> = self.processes.iter().map(|p| p.pid).zip(0..).collect();
        // A process that the second scan finds again is the same process; otherwise groups would split in two.
        let places: Vec<u32> = later
            .processes
            .into_iter()
            .map(|process| {
                known.get(&process.pid).copied().unwrap_or_else(|| {
                    self.processes.push(process);
                    u32::try_from(self.processes.len() - 1).unwrap_or(u32::MAX)
                })
            })
            .collect();
        self.holders.extend(
            later.holders.iter().filter_map(|h| Some(Holder { process: *places.get(h.process as usize)?, ..*h })),
        );
        self.holders.sort_unstable();
        self.holders.dedup();
        // A compact table stays as it is and keeps these few beside it.
        self.index = index(&self.holders);
        self.unheld.append(&mut unheld);
        self.unheld.sort_unstable();
        self.settled = true;
    }

    /// Whether two scans found no holder for this inode.
    #[must_use]
    pub fn is_settled(&self, inode: Option<Inode>) -> bool {
        self.settled && inode.is_some_and(|inode| self.unheld.binary_search(&inode).is_ok())
    }

    /// The inodes that two scans found without a holder though they still exist; `None`: there was no second scan.
    #[must_use]
    pub fn unheld(&self) -> Option<&[Inode]> {
        self.settled.then_some(&self.unheld)
    }

    /// Every holder of a socket inode.
    #[must_use]
    pub fn holders(&self, inode: Option<Inode>) -> &[Holder] {
        let Some(inode) = inode else { return &[] };
        let compact = self.compact.holders(inode);
        if !compact.is_empty() || self.index.is_empty() {
            return compact;
        }
        let mask = self.index.len() - 1;
        let mut slot = slot(inode, mask);
        loop {
            let Some(start) = self.index[slot].checked_sub(1) else { return &[] };
            let found = &self.holders[start as usize..];
            if found[0].inode == Some(inode) {
                let len = found.iter().take_while(|h| h.inode == Some(inode)).count();
                return &found[..len];
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Every holder of every socket, sorted by inode; empty for a table without descriptors.
    #[must_use]
    pub fn all_holders(&self) -> &[Holder] {
        &self.holders
    }

    /// The process of a holder in this table.
    #[must_use]
    pub fn process(&self, holder: &Holder) -> &Process {
        &self.processes[holder.process as usize]
    }

    /// Why a socket that somebody holds has no holder here, where some process was not read.
    #[must_use]
    pub fn hidden(&self) -> OwnerStatus {
        // Processes that are not listed count as one.
        let are_unlisted = self.unlisted == Some(Unlisted::PidNamespace) && self.unreadable <= 1;
        if are_unlisted { OwnerStatus::OtherPidns } else { OwnerStatus::NoPermission }
    }

    /// The holders of a socket, or why it has none.
    #[must_use]
    pub fn of(&self, socket: &Socket) -> (OwnerStatus, &[Holder]) {
        if !self.collected {
            return (OwnerStatus::NotCollected, &[]);
        }
        if let Some(status) = OwnerStatus::without_holder(socket) {
            return (status, &[]);
        }
        let holders = self.holders(socket.inode);
        // A listener lives long: with processes that may not be read it most likely belongs to one of them, and did not come or
        // go meanwhile.
        let lasts = self.unreadable > 0 && socket.state == State::Listen;
        let exists = lasts || !self.settled || self.is_settled(socket.inode);
        let status = match (holders.is_empty(), self.unreadable > 0) {
            (false, _) => OwnerStatus::Known,
            (true, true) if exists => self.hidden(),
            (true, false) if exists && self.settled => OwnerStatus::Kernel,
            (true, _) => OwnerStatus::Raced,
        };
        (status, holders)
    }
}

/// Which processes hold an inode, in eight bytes per inode.
#[derive(Clone, Debug, Default)]
struct Compact {
    /// Inode, and index of its set of holders; sorted.
    entries: Vec<(u32, u32)>,
    /// Where the inodes of each bucket begin; the bucket is the offset from the first inode, shifted.
    buckets: Vec<u32>,
    shift: u32,
    /// One set per process, then the sets of several.
    sets: Vec<Vec<Holder>>,
}

impl Compact {
    /// Minimum mean number of inodes per bucket, and maximum number of buckets.
    const PER_BUCKET: usize = 4;
    const BUCKETS: usize = 1 << 17;

    fn new(mut pairs: Vec<(u32, u32)>, processes: usize) -> Compact {
        pairs.sort_unstable();
        pairs.dedup();
        let holder = |process| Holder { inode: None, process, fd: 0 };
        let mut sets: Vec<Vec<Holder>> = (0..).take(processes).map(|process| vec![holder(process)]).collect();
        let mut shared: HashMap<Vec<u32>, u32> = HashMap::new();
        let (mut from, mut to) = (0, 0);
        while let Some((inode, first)) = pairs.get(from).copied() {
            let len = pairs[from..].iter().take_while(|p| p.0 == inode).count();
            let set = if len == 1 {
                first
            } else {
                let several: Vec<u32> = pairs[from..from + len].iter().map(|p| p.1).collect();
                *shared.entry(several).or_insert_with_key(|several| {
                    sets.push(several.iter().copied().map(holder).collect());
                    u32::try_from(sets.len() - 1).unwrap_or(u32::MAX)
                })
            };
            pairs[to] = (inode, set);
            (from, to) = (from + len, to + 1);
        }
        pairs.truncate(to);
        let mut compact = Compact { entries: pairs, buckets: Vec::new(), shift: 0, sets };
        compact.index();
        compact
    }

    fn index(&mut self) {
        let (Some(first), Some(last)) = (self.entries.first(), self.entries.last()) else { return };
        let wanted = (self.entries.len() / Self::PER_BUCKET).clamp(1, Self::BUCKETS);
        while (last.0 - first.0) >> self.shift >= u32::try_from(wanted).unwrap_or(u32::MAX) {
            self.shift += 1;
        }
        let bucket = |inode: u32| ((inode - first.0) >> self.shift) as usize;
        self.buckets.reserve_exact(bucket(last.0) + 2);
        for (place, entry) in (0u32..).zip(&self.entries) {
            while self.buckets.len() <= bucket(entry.0) {
                self.buckets.push(place);
            }
        }
        self.buckets.push(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
    }

    fn holders(&self, inode: Inode) -> &[Holder] {
        let found = || {
            let inode = u32::try_from(inode.get()).ok()?;
            let bucket = (inode.checked_sub(self.entries.first()?.0)? >> self.shift) as usize;
            let (from, to) = (*self.buckets.get(bucket)?, *self.buckets.get(bucket + 1)?);
            let entries = self.entries.get(from as usize..to as usize)?;
            let place = entries.binary_search_by_key(&inode, |e| e.0).ok()?;
            self.sets.get(entries[place].1 as usize)
        };
        found().map_or(&[], Vec::as_slice)
    }
}

/// Where the search for an inode begins: a multiplicative hash, because inodes come in runs.
fn slot(inode: Inode, mask: usize) -> usize {
    let hash = inode.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    usize::try_from(hash).unwrap_or(0) & mask
}

/// The index of sorted holders, at most half full.
fn index(holders: &[Holder]) -> Vec<u32> {
    if holders.is_empty() {
        return Vec::new();
    }
    let mut index = vec![0; (holders.len() * 2).next_power_of_two()];
    let mask = index.len() - 1;
    let mut last = None;
    for (holder, place) in holders.iter().zip(1u32..) {
        let Some(inode) = holder.inode else { continue };
        if last.replace(inode) == Some(inode) {
            continue;
        }
        let mut at = slot(inode, mask);
        while index[at] != 0 {
            at = (at + 1) & mask;
        }
        index[at] = place;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(inode: u64) -> Socket {
        let inode = Inode::new(inode);
        Socket { inode, state: State::Established, kind: RowKind::Full, shutdown: Some(0), ..Socket::default() }
    }

    #[test]
    fn every_holder_is_named_not_the_first_nor_the_last() {
        let processes = vec![
            Process { pid: 1, comm: "a".into(), ..Process::default() },
            Process { pid: 2, comm: "b".into(), ..Process::default() },
        ];
        let holder = |inode, process, fd| Holder { inode: Inode::new(inode), process, fd };
        let table = OwnerTable::new(processes, vec![holder(9, 1, 4), holder(8, 0, 3), holder(9, 0, 7)], 0);
        let (status, holders) = table.of(&socket(9));
        assert_eq!(status, OwnerStatus::Known);
        assert_eq!(holders, [holder(9, 0, 7), holder(9, 1, 4)]);
        assert_eq!(table.of(&socket(10)).0, OwnerStatus::Raced);
    }

    #[test]
    fn a_process_of_both_looks_is_one_process() {
        let process = |pid| Process { pid, ..Process::default() };
        let holder = |inode, process, fd| Holder { inode: Inode::new(inode), process, fd };
        let mut table = OwnerTable::new(vec![process(1), process(2)], vec![holder(8, 0, 3), holder(9, 1, 4)], 0);
        let later = OwnerTable::new(vec![process(3), process(2)], vec![holder(7, 0, 5), holder(6, 1, 6)], 0);
        table.settle(later, Vec::new());
        assert_eq!(table.processes.iter().map(|p| p.pid).collect::<Vec<_>>(), [1, 2, 3]);
        let pid = |inode| table.process(&table.holders(Inode::new(inode))[0]).pid;
        assert_eq!([6, 7, 8, 9].map(pid), [2, 3, 1, 2]);
    }

    #[test]
    fn every_inode_of_a_large_table_is_found_and_no_other() {
        let holders: Vec<Holder> =
            (1..5000).map(|i| Holder { inode: Inode::new(i * 3), process: 0, fd: u32::try_from(i).unwrap() }).collect();
        let table = OwnerTable::new(vec![Process::default()], holders, 0);
        for inode in 0..20_000 {
            let expected = inode % 3 == 0 && (3..15_000).contains(&inode);
            assert_eq!(!table.holders(Inode::new(inode)).is_empty(), expected, "{inode}");
        }
    }

    #[test]
    fn a_table_without_descriptors_names_the_same_processes() {
        let processes: Vec<Process> = (0..7).map(|pid| Process { pid, ..Process::default() }).collect();
        // Runs as one program opens them, shared sockets, holes, and one far away.
        let mut holders: Vec<Holder> = (1..4000u32)
            .flat_map(|i| {
                let inode = Inode::new(u64::from(i * 2 + i / 1000 * 50_000));
                let others = if i % 11 == 0 { 3 } else { 1 };
                (0..others).map(move |n| Holder { inode, process: (i / 600 + n) % 7, fd: i + n })
            })
            .collect();
        holders.push(Holder { inode: Inode::new(u64::from(u32::MAX)), process: 5, fd: 3 });
        let pairs = holders.iter().rev().map(|h| (u32::try_from(h.inode.unwrap().get()).unwrap(), h.process)).collect();
        let compact = OwnerTable::of_processes(processes.clone(), pairs, 0);
        let full = OwnerTable::new(processes, holders, 0);
        assert!(full.knows_descriptors() && !compact.knows_descriptors());
        let of =
            |table: &OwnerTable, inode| table.holders(Inode::new(inode)).iter().map(|h| h.process).collect::<Vec<_>>();
        for inode in (0..170_000).chain([u64::from(u32::MAX) - 1, u64::from(u32::MAX), u64::from(u32::MAX) + 1]) {
            assert_eq!(of(&compact, inode), of(&full, inode), "{inode}");
        }
        let mut settled = compact;
        let holder = Holder { inode: Inode::new(3), process: 0, fd: 9 };
        settled.settle(
            OwnerTable::new(vec![Process { pid: 6, ..Process::default() }], vec![holder], 0),
            vec![Inode::new(5).unwrap()],
        );
        assert_eq!((of(&settled, 3), of(&settled, 2)), (vec![6], vec![0]));
        assert!(OwnerTable::of_processes(Vec::new(), Vec::new(), 0).holders(Inode::new(1)).is_empty());
    }

    #[test]
    fn the_reason_for_no_owner_follows_the_row() {
        let table = OwnerTable::new(Vec::new(), Vec::new(), 1);
        let with = |state, kind, inode, shutdown| Socket {
            state,
            kind,
            inode: Inode::new(inode),
            shutdown,
            ..Socket::default()
        };
        let status = |s: Socket| table.of(&s).0;
        assert_eq!(status(with(State::TimeWait, RowKind::TimeWaitMini, 0, None)), OwnerStatus::TimeWait);
        assert_eq!(status(with(State::FinWait2, RowKind::TimeWaitMini, 0, None)), OwnerStatus::Orphaned);
        assert_eq!(status(with(State::SynRecv, RowKind::Request, 0, None)), OwnerStatus::NotAccepted);
        assert_eq!(status(with(State::CloseWait, RowKind::Full, 0, Some(1))), OwnerStatus::NotAccepted);
        assert_eq!(status(with(State::FinWait1, RowKind::Full, 0, Some(3))), OwnerStatus::Orphaned);
        assert_eq!(status(with(State::Established, RowKind::Full, 5, Some(0))), OwnerStatus::NoPermission);
        assert_eq!(OwnerTable::default().of(&socket(5)).0, OwnerStatus::NotCollected);
        let mut table = OwnerTable::new(Vec::new(), Vec::new(), 0);
        table.settle(OwnerTable::default(), vec![Inode::new(5).unwrap()]);
        assert_eq!(table.of(&socket(5)).0, OwnerStatus::Kernel);
        assert_eq!(table.of(&socket(6)).0, OwnerStatus::Raced);
    }

    #[test]
    fn a_listener_of_a_process_that_may_not_be_read_has_not_come_or_gone() {
        let row = |state| Socket { state, inode: Inode::new(5), ..Socket::default() };
        let of = |unreadable, state| {
            let mut table = OwnerTable::new(Vec::new(), Vec::new(), unreadable);
            table.settle(OwnerTable::default(), vec![Inode::new(6).unwrap()]);
            table.of(&row(state)).0
        };
        assert_eq!(of(1, State::Listen), OwnerStatus::NoPermission);
        assert_eq!(of(1, State::Established), OwnerStatus::Raced);
        assert_eq!(of(0, State::Listen), OwnerStatus::Raced);
    }

    #[test]
    fn a_holder_in_another_pid_namespace_is_not_one_that_refuses() {
        let of = |unreadable, unlisted| {
            let mut table = OwnerTable::new(Vec::new(), Vec::new(), unreadable);
            table.unlisted = unlisted;
            table.of(&socket(5)).0
        };
        assert_eq!(of(1, Some(Unlisted::PidNamespace)), OwnerStatus::OtherPidns);
        assert_eq!(of(2, Some(Unlisted::PidNamespace)), OwnerStatus::NoPermission, "or one that refused");
        assert_eq!(of(1, Some(Unlisted::Hidden)), OwnerStatus::NoPermission);
    }
}
