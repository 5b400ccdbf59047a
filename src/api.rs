//! What a program that uses this library begins with: a host opened without options, a scan with its owners, a diagnosis.
//!
//! Input: what `collect` and `diagnose` offer, with every part chosen by its caller. Output: the same with the usual choices.
//! Not here: anything that the parts cannot do alone.

use std::fmt;

use crate::collect::changes::Refusal;
use crate::collect::error::Error;
use crate::collect::proc::ProcRoot;
use crate::collect::scan::Scan;
use crate::collect::{Live, SourceChoice};
use crate::diagnose::{self, Diagnosis, Thresholds};
use crate::filter::Expr;
use crate::model::column::{Needs, NoNames};
use crate::model::{Gap, Snapshot};
use crate::render;

impl Live {
    /// Opens this host and the network namespace of the calling thread: `sock_diag`, or `/proc/net/tcp` where that does
    /// not answer (a [`Gap`] of each answer then says what is missing). [`Live::enter`] adds other namespaces.
    ///
    /// # Errors
    /// Never today: [`Live::open`] fails only for a source that was named, and a host without any source fails at the
    /// first scan.
    pub fn here() -> Result<Live, Error> {
        let mut live = Live::open(SourceChoice::Auto, ProcRoot::default())?;
        live.cgroups = true;
        Ok(live)
    }

    /// A scan for rows that match the filter. What the filter needs is added to `needs`; the processes that hold sockets
    /// are searched for if either needs them, in a thread beside the scan.
    ///
    /// # Errors
    /// If the filter asks what this source cannot answer (`autobound` of `/proc/net/tcp`).
    pub fn scan(&mut self, filter: &Expr, needs: Needs) -> Result<Scan<'_>, Error> {
        let all = needs.union(filter.needs());
        let search = all.owners.then(|| self.search_owners(all.cgroups, true));
        let scan = Scan::new(self, &NoNames, filter, needs)?;
        Ok(match search {
            Some(search) => scan.with_owners(search),
            None => scan,
        })
    }

    /// Runs the rules over a snapshot of this host, or only those that `wanted` names by their ids. Rules that compare two
    /// samples (rates, growth) need an earlier snapshot as `before`, usually of two seconds ago; without it they are in
    /// [`Diagnosis::wants_second`] if something points to them.
    ///
    /// If a rule asks what a process does with its sockets, the process is inspected now (descriptors, epoll sets,
    /// threads; within a budget of about 60 ms), and what was found is added to `now`.
    pub fn diagnose(
        &self,
        now: &mut Snapshot,
        before: Option<&Snapshot>,
        wanted: Option<&[&str]>,
        thresholds: &Thresholds,
    ) -> Diagnosis {
        diagnose::examine(now, before, wanted, thresholds, |now, pids| self.inspect(now, pids))
    }
}

/// One line: what is missing, why, and what would help.
impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render::gap::line(self))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unavailable(gap) => gap.fmt(f),
            Refusal::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}
