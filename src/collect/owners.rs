//! Finding the processes that hold sockets: which method, and the resulting table.
//!
//! Output: an [`OwnerTable`], and the method that was used. The walks are `proc::owners` and `bpf::owners`; no open
//! source of sockets is needed, so a thread can run this beside a dump.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::collect::bpf;
use crate::collect::containers::Containers;
use crate::collect::error::Error;
use crate::collect::proc::{self, ProcRoot};
use crate::collect::query::LARGE_TABLE;
use crate::cores;
use crate::model::{Holder, Inode, OwnerTable, Process};

/// How to find the processes that hold sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OwnersVia {
    /// One BPF pass where many descriptors are open and BPF is permitted, else the walk over `/proc`.
    #[default]
    Auto,
    Proc,
    Bpf,
}

/// How owners were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    Bpf,
    Proc,
}

impl Route {
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Route::Bpf => "bpf",
            Route::Proc => "proc",
        }
    }
}

/// How the owners were found, and why that way, for `--explain-plan`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRoute {
    pub via: Route,
    pub why: String,
}

/// Open files of the host above which one BPF pass (about 2 ms to load, 0.3 us a file) beats the walk over `/proc` (3 us a
/// descriptor).
const FILES_FOR_BPF: u64 = 2000;

/// A table of owners, and how it was found.
pub type Found = (OwnerTable, OwnerRoute);

/// A search for owners: done, or running in a thread.
pub enum Search {
    Done(Box<Result<Found, Error>>),
    Running(JoinHandle<Result<Found, Error>>),
}

impl Search {
    /// A search that is already done.
    #[must_use]
    pub fn known(table: OwnerTable, route: OwnerRoute) -> Search {
        Search::Done(Box::new(Ok((table, route))))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// As [`Finder::find`].
    pub fn finish(self) -> Result<Found, Error> {
        match self {
            Search::Done(found) => *found,
            Search::Running(thread) => thread
                .join()
                .unwrap_or_else(|_| Err(Error::new("find owners", "", io::Error::other("the search thread was lost")))),
        }
    }
}

/// Descriptors for which memory is reserved at once.
const MOST_RESERVED: u64 = 4 << 20;

/// What finds owners.
#[derive(Clone, Debug)]
pub struct Finder {
    pub(super) root: ProcRoot,
    pub(super) via: OwnersVia,
    /// Whether to read the cgroups of processes that hold sockets.
    pub(super) cgroups: bool,
    pub(super) containers: Arc<Containers>,
    pub(super) files: OnceLock<Option<u64>>,
    /// The caller needs processes only; a table of half the size will do.
    pub without_descriptors: bool,
}

impl Finder {
    /// Open files of the host, read when first needed.
    fn files(&self) -> Option<u64> {
        *self.files.get_or_init(|| proc::counters::system(&self.root).files_used)
    }

    /// Searches for the owners of all sockets; in its own thread when the host has so many open files that this
    /// pays.
    #[must_use]
    pub fn start(self) -> Search {
        let many = self.files().is_some_and(|n| n >= LARGE_TABLE);
        if many && cores::count() > 1 {
            let beside = self.clone();
            if let Ok(thread) = cores::start_detached(move || beside.find(None)) {
                return Search::Running(thread);
            }
        }
        Search::Done(Box::new(self.find(None)))
    }

    /// Every process that holds a TCP socket (with the walk over `/proc`: any socket); with `wanted`, only of those
    /// inodes.
    ///
    /// # Errors
    /// When the process list cannot be read, or BPF was required and is unavailable.
    pub fn find(&self, wanted: Option<&FxHashSet<Inode>>) -> Result<Found, Error> {
        let files = self.files();
        let many = files.is_none_or(|n| n >= FILES_FOR_BPF);
        let why_not = match self.via {
            OwnersVia::Proc => "it was requested".into(),
            OwnersVia::Auto if !self.root.is_own() => {
                format!("BPF sees this host, not {}", self.root.path().display())
            }
            OwnersVia::Auto if !many => {
                let files = files.map_or("few".into(), |n| n.to_string());
                format!("{files} open files on the host: a walk is faster than loading a program")
            }
            via => match self.by_bpf(wanted) {
                Ok(table) => {
                    let why = if via == OwnersVia::Bpf {
                        "it was requested".into()
                    } else {
                        format!("{} open files on the host", files.unwrap_or(0))
                    };
                    return Ok((table, OwnerRoute { via: Route::Bpf, why }));
                }
                Err(why) if via == OwnersVia::Bpf => {
                    return Err(Error::new("find owners by BPF", "", io::Error::other(why.to_string()))
                        .hint("use `--owners-via proc` to read /proc/PID/fd instead"));
                }
                Err(why) => format!("no BPF: {why}"),
            },
        };
        let walked = proc::owners::walk(&self.root, wanted)?;
        // The walk is faster, and is refused where BPF may be permitted: with file capabilities, and under hidepid.
        if walked.unreadable > 0
            && self.via == OwnersVia::Auto
            && self.root.is_own()
            && !many
            && let Ok(table) = self.by_bpf(wanted)
        {
            return Ok((table, OwnerRoute { via: Route::Bpf, why: "/proc does not show every process".into() }));
        }
        let mut table = TableBuilder::new(self, walked.records.len());
        for record in &walked.records {
            table.add(record.inode, record.pid, record.fd);
        }
        let mut table = table.finish(walked.unreadable);
        table.unlisted = walked.unlisted;
        Ok((table, OwnerRoute { via: Route::Proc, why: why_not }))
    }

    /// The same in one BPF pass, or why BPF is unavailable.
    ///
    /// # Errors
    /// As [`bpf::owners::socket_holders`].
    pub fn by_bpf(&self, wanted: Option<&FxHashSet<Inode>>) -> Result<OwnerTable, bpf::Unavailable> {
        // A descriptor is an open file, unless processes share one: the table need not grow while it is filled, and
        // its unused pages take no memory.
        let files = self.files().unwrap_or(0).min(MOST_RESERVED);
        let mut table = TableBuilder::new(self, usize::try_from(files).unwrap_or(0));
        bpf::owners::socket_holders(&mut |held| {
            if let Some(inode) = Inode::new(held.inode).filter(|inode| wanted.is_none_or(|w| w.contains(inode))) {
                table.add(inode, held.tgid, held.fd);
            }
        })?;
        Ok(table.finish(0))
    }

    /// Name and user of a process; a vanished one keeps its pid and an empty name.
    fn process(&self, pid: u32) -> Process {
        let folder = self.root.path().join(pid.to_string());
        let comm = std::fs::read(folder.join("comm")).unwrap_or_default();
        let comm = String::from_utf8_lossy(comm.strip_suffix(b"\n").unwrap_or(&comm)).into_owned();
        let uid =
            procfs::process::Process::new_with_root(folder).and_then(|p| p.status()).ok().map(|status| status.ruid);
        let mut process = Process { pid, comm, uid, ..Process::default() };
        if self.cgroups {
            proc::cgroups::identify(&self.root, &self.containers, &mut process);
        }
        process
    }
}

/// A table being built. Processes are named at the end: reading their files would slow the walk.
struct TableBuilder<'f> {
    finder: &'f Finder,
    pids: Vec<u32>,
    index: FxHashMap<u32, u32>,
    last: Option<(u32, u32)>,
    holders: Vec<Holder>,
    pairs: Vec<(u32, u32)>,
}

impl<'f> TableBuilder<'f> {
    fn new(finder: &'f Finder, capacity: usize) -> TableBuilder<'f> {
        let (holders, pairs) = if finder.without_descriptors { (0, capacity) } else { (capacity, 0) };
        TableBuilder {
            finder,
            pids: Vec::new(),
            index: FxHashMap::default(),
            last: None,
            holders: Vec::with_capacity(holders),
            pairs: Vec::with_capacity(pairs),
        }
    }

    fn add(&mut self, inode: Inode, pid: u32, fd: u32) {
        let process = match self.last {
            Some((last, process)) if last == pid => process,
            _ => *self.index.entry(pid).or_insert_with(|| {
                self.pids.push(pid);
                u32::try_from(self.pids.len() - 1).unwrap_or(u32::MAX)
            }),
        };
        self.last = Some((pid, process));
        if !self.finder.without_descriptors {
            self.holders.push(Holder { inode: Some(inode), process, fd });
        } else if let Ok(inode) = u32::try_from(inode.get()) {
            // The kernel numbers sockets with 32 bits (get_next_ino in fs/inode.c), and reports 32 (idiag_inode).
            self.pairs.push((inode, process));
        }
    }

    /// Sorts processes by id, and with them the holders of a socket: several threads walk, and two runs would
    /// otherwise name a different one first.
    fn order(&mut self) {
        if self.pids.is_sorted() {
            return;
        }
        let mut order: Vec<u32> = (0..).take(self.pids.len()).collect();
        order.sort_unstable_by_key(|at| self.pids[*at as usize]);
        let mut place = vec![0; order.len()];
        for (new, old) in (0..).zip(&order) {
            place[*old as usize] = new;
        }
        self.pids.sort_unstable();
        for process in self.holders.iter_mut().map(|h| &mut h.process).chain(self.pairs.iter_mut().map(|(_, p)| p)) {
            *process = place[*process as usize];
        }
    }

    fn finish(mut self, unreadable: u32) -> OwnerTable {
        self.order();
        let processes = self.pids.iter().map(|pid| self.finder.process(*pid)).collect();
        if self.finder.without_descriptors {
            OwnerTable::of_processes(processes, self.pairs, unreadable)
        } else {
            OwnerTable::new(processes, self.holders, unreadable)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_come_in_the_order_of_their_process_ids() {
        let mut finder = Finder {
            root: ProcRoot::default(),
            via: OwnersVia::Proc,
            cgroups: false,
            containers: Arc::new(Containers::new(&ProcRoot::default())),
            files: OnceLock::new(),
            without_descriptors: false,
        };
        for without_descriptors in [false, true] {
            finder.without_descriptors = without_descriptors;
            let mut table = TableBuilder::new(&finder, 0);
            for (inode, pid) in [(7, 900_003), (7, 900_001), (8, 900_003), (7, 900_002), (8, 900_001)] {
                table.add(Inode::new(inode).unwrap(), pid, 3);
            }
            let table = table.finish(0);
            let pids =
                |inode| table.holders(Inode::new(inode)).iter().map(|h| table.process(h).pid).collect::<Vec<_>>();
            assert_eq!(pids(7), [900_001, 900_002, 900_003]);
            assert_eq!(pids(8), [900_001, 900_003]);
        }
    }
}
