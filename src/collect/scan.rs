//! Rows with owners, each exactly once: the passes for a filter and its needs, and the second search for owners.
//!
//! Input: a source, a filter, what the columns need. Output: matching rows as they arrive, then the owners and a
//! [`Gap`] for what could not be seen.
//!
//! A row without a known owner after the first walk is held back, searched for once more, and comes last: this
//! separates `raced` from `kernel` without keeping all rows. The kernel may refuse part of a filter (marks without
//! CAP_NET_ADMIN, cgroups before Linux 5.9); it does so before the first row, and the rest of the filter is tried.

use std::ops::ControlFlow;
use std::time::Instant;

use rustc_hash::FxHashSet;

use crate::collect::clock::millis;
use crate::collect::error::Error;
use crate::collect::live::Live;
use crate::collect::owners::{OwnerRoute, Search};
use crate::collect::plan::{self, Plan};
use crate::collect::query::{Ahead, Families, Query};
use crate::collect::rights;
use crate::filter::{self, Abilities, Expr};
use crate::model::column::{Names, Needs, Row};
use crate::model::gap::{Capability, Missing, WayOut, Why};
use crate::model::snapshot::Netns;
use crate::model::sysctl::PORT_RANGE;
use crate::model::{Coverage, Gap, Inode, OwnerStatus, OwnerTable, RowKind, Socket, Source, State, StateSet};

/// Rows without an owner held back for the second search; any more are passed on as they are.
const HELD_BACK: usize = 10_000;
/// Up to this many unreadable processes, a second search is worth its time: even root is refused one or two.
const FEW_UNREADABLE: u32 = 4;

/// One scan of a source.
pub struct Scan<'l> {
    live: &'l mut Live,
    names: &'l dyn Names,
    filter: Expr,
    needs: Needs,
    /// What this kernel turned out to support in filters.
    abilities: Abilities,
    owners: PendingOwners,
    gaps: Vec<Gap>,
}

/// The result of a scan besides its rows.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Scanned {
    /// The owners of the rows; empty if none were requested.
    pub owners: OwnerTable,
    pub gaps: Vec<Gap>,
}

/// The owners, which a thread may still be searching for; the first row that needs them waits.
#[derive(Default)]
struct PendingOwners {
    search: Option<Search>,
    route: Option<OwnerRoute>,
    table: OwnerTable,
}

impl PendingOwners {
    fn get(&mut self) -> Result<&mut OwnerTable, Error> {
        if self.search.is_some()
            && let Some(search) = self.search.take()
        {
            let (table, route) = search.finish()?;
            (self.table, self.route) = (table, Some(route));
        }
        Ok(&mut self.table)
    }
}

/// A filter split between the kernel and this program.
struct Divided {
    plan: Plan,
    pushed: Option<Expr>,
    residual: Option<Expr>,
}

/// What the passes leave to the second search.
#[derive(Default)]
struct DeferredRows {
    sockets: Vec<Socket>,
    missing: FxHashSet<Inode>,
}

impl<'l> Scan<'l> {
    /// A scan for rows that match the filter, with what columns need besides the filter.
    ///
    /// # Errors
    /// When the filter needs something that this source lacks.
    pub fn new(live: &'l mut Live, names: &'l dyn Names, filter: &Expr, needs: Needs) -> Result<Scan<'l>, Error> {
        let mut filter = filter.clone();
        if filter.is_kernel_only() {
            if live.source() != Source::Netlink {
                let why = format!("only the kernel knows `autobound`, and {} does not ask it", live.source().key());
                return Err(Error::unanswerable(why).hint("use `--source netlink`"));
            }
            let range = live.visits().first().map_or(PORT_RANGE, Netns::port_range);
            filter = filter.autobound_within(range);
        }
        let needs = needs.union(filter.needs());
        let abilities = Abilities { mark: true, cgroup: true };
        Ok(Scan { live, names, filter, needs, abilities, owners: PendingOwners::default(), gaps: Vec::new() })
    }

    /// Uses the owners of this search, which may still run.
    #[must_use]
    pub fn with_owners(mut self, search: Search) -> Scan<'l> {
        self.owners.search = Some(search);
        self
    }

    /// Calls `each` with every matching row once, in the order of the kernel; rows whose owner took a second search come
    /// last.
    ///
    /// # Errors
    /// When the source answers nothing at all, or the search for owners fails.
    pub fn for_each(self, mut each: impl FnMut(&Row<'_>)) -> Result<Scanned, Error> {
        let (_, scanned) = self.rows(|row| {
            each(row);
            ControlFlow::<()>::Continue(())
        })?;
        Ok(scanned)
    }

    /// Calls `each` with every matching row once, until it breaks; returns the value it broke with.
    ///
    /// # Errors
    /// When the source returns nothing at all, or the search for owners fails.
    pub fn rows<E>(mut self, mut each: impl FnMut(&Row<'_>) -> ControlFlow<E>) -> Result<(Option<E>, Scanned), Error> {
        let (mut coverage, mut held) = (Coverage::default(), DeferredRows::default());
        let (divided, mut broke) = loop {
            let mut divided = self.divide()?;
            for pass in &mut divided.plan.passes {
                pass.query.ahead = Ahead::Rows;
            }
            if let (Some(first), Some(Search::Running(_))) = (divided.plan.passes.first_mut(), &self.owners.search) {
                first.query.ahead = Ahead::Start;
            }
            match self.passes(&divided, &mut coverage, &mut held, &mut each) {
                Ok(broke) => break (divided, broke),
                // No row was passed on yet.
                Err(why) if self.lower(&why) => {}
                Err(why) => return Err(why),
            }
        };
        self.gaps.extend(divided.plan.passes.iter().flat_map(|pass| self.live.gaps(&pass.query)));
        // Two passes may miss the same thing.
        let mut seen = FxHashSet::default();
        self.gaps.retain(|gap| seen.insert(gap.clone()));
        self.settle_owners()?;
        if broke.is_none() {
            broke = self.second_search(&held, divided.residual.as_ref(), &mut coverage, &mut each)?;
        }
        self.gaps.extend(coverage.gap(&self.owners.table, self.live.looker()));
        Ok((broke, Scanned { owners: self.owners.table, gaps: self.gaps }))
    }

    /// Passes on every row whose owner needs no second search.
    fn passes<E>(
        &mut self,
        divided: &Divided,
        coverage: &mut Coverage,
        held: &mut DeferredRows,
        each: &mut impl FnMut(&Row<'_>) -> ControlFlow<E>,
    ) -> Result<Option<E>, Error> {
        let residual = divided.residual.as_ref();
        // A filter on owners can only be applied once the owner is settled.
        let (early, late) =
            if residual.is_some_and(|r| r.needs().owners) { (None, residual) } else { (residual, None) };
        let marks = residual.is_some_and(Expr::uses_mark);
        let mut unmarked = false;
        let (owners, names) = (&mut self.owners, self.names);
        let started = Instant::now();
        for (i, pass) in divided.plan.passes.iter().enumerate() {
            // A later pass sees sockets that have moved into its states meanwhile, and that an earlier one has
            // returned.
            let since_ms = if i == 0 { 0 } else { millis(started.elapsed()) };
            let stopped = self.live.sockets_until(&pass.query, &mut self.gaps, |socket| {
                if i > 0 && socket.state_age().and_then(|a| a.max_ms).is_some_and(|ms| ms < since_ms) {
                    return ControlFlow::Continue(());
                }
                let owners = match owners.get() {
                    Ok(table) => &*table,
                    Err(why) => return ControlFlow::Break(Err(why)),
                };
                let row = Row::new(socket, owners, names);
                unmarked |= marks && socket.mark.is_none() && socket.kind == RowKind::Full;
                if early.is_some_and(|filter| !filter.matches(&row)) {
                    return ControlFlow::Continue(());
                }
                let again = owners.collected && owners.unreadable <= FEW_UNREADABLE;
                if again && may_settle(&row) && held.sockets.len() < HELD_BACK {
                    held.missing.extend(socket.inode);
                    held.sockets.push(socket.clone());
                    return ControlFlow::Continue(());
                }
                if late.is_some_and(|filter| !filter.matches(&row)) {
                    return ControlFlow::Continue(());
                }
                coverage.add(row.status);
                each(&row).map_break(Ok)
            })?;
            if let Some(stopped) = stopped {
                return stopped.map(Some);
            }
        }
        if unmarked {
            let (why, way_out) = match self.live.source() {
                Source::Netlink => {
                    (Why::Capability(Capability::NetAdmin), rights::own().way_out(&[Capability::NetAdmin]))
                }
                Source::Text => (Why::SavedText, WayOut::Record),
                Source::Capture => (Why::Capability(Capability::NetAdmin), WayOut::None),
                Source::Proc => (Why::ProcNetTcp, WayOut::SourceNetlink { since: None }),
            };
            self.gaps.push(Gap::new(Missing::Marks, why, way_out));
        }
        Ok(None)
    }

    /// Searches again for the owners of the rows held back, and passes them on.
    fn second_search<E>(
        &mut self,
        held: &DeferredRows,
        residual: Option<&Expr>,
        coverage: &mut Coverage,
        each: &mut impl FnMut(&Row<'_>) -> ControlFlow<E>,
    ) -> Result<Option<E>, Error> {
        if !held.sockets.is_empty() {
            self.live.settle(&mut self.owners.table, &held.missing)?;
        }
        let late = residual.filter(|filter| filter.needs().owners);
        for socket in &held.sockets {
            let row = Row::new(socket, &self.owners.table, self.names);
            if late.is_some_and(|filter| !filter.matches(&row)) {
                continue;
            }
            coverage.add(row.status);
            if let ControlFlow::Break(value) = each(&row) {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The requests that would be sent, as text.
    ///
    /// # Errors
    /// As [`Scan::rows`].
    pub fn explain(mut self) -> Result<String, Error> {
        // The kernel refuses a filter before the first row, so a query for listeners shows it.
        let Divided { plan, pushed, residual } = loop {
            let divided = self.divide()?;
            let Some(pass) = divided.plan.passes.first().filter(|pass| !pass.query.bytecode.is_empty()) else {
                break divided;
            };
            let probe = Query { states: StateSet::LISTEN, ahead: Ahead::No, ..pass.query.clone() };
            match self.live.sockets(&probe, &mut Vec::new(), &mut |_| ControlFlow::Continue(())) {
                Err(why) if self.lower(&why) => {}
                _ => break divided,
            }
        };
        self.settle_owners()?;
        Ok(explain(self.live, &plan, pushed.as_ref(), residual.as_ref()))
    }

    /// Waits for the owners.
    fn settle_owners(&mut self) -> Result<(), Error> {
        self.owners.get()?;
        if let Some(route) = self.owners.route.take() {
            self.live.owner_route = Some(route);
        }
        Ok(())
    }

    /// The passes and what is left to check, for this source and this kernel.
    fn divide(&self) -> Result<Divided, Error> {
        let families = self.filter.family_bound().map_or(Families::Both, Families::Only);
        if self.live.source() != Source::Netlink {
            // /proc/net/tcp is always read whole, and shows no more the second time.
            let plan = plan::plan(self.filter.state_bound(), families, self.needs, &[]).in_one_pass();
            return Ok(Divided { plan, pushed: None, residual: (!self.filter.is_all()).then(|| self.filter.clone()) });
        }
        let compiled = filter::compile(&self.filter, self.abilities);
        if let Some(why) = compiled.unpushable {
            return Err(Error::unanswerable(why));
        }
        let plan = plan::plan(compiled.states, families, self.needs, &compiled.program);
        Ok(Divided { plan, pushed: compiled.pushed, residual: compiled.residual })
    }

    /// Retries with less, if that may be what the kernel refused.
    fn lower(&mut self, why: &Error) -> bool {
        let ability = match why {
            _ if why.is_permission() => &mut self.abilities.mark,
            _ if why.is_invalid() => &mut self.abilities.cgroup,
            _ => return false,
        };
        std::mem::replace(ability, false)
    }
}

/// A plan as text, as this source executes it.
pub fn explain(live: &mut Live, plan: &Plan, pushed: Option<&Expr>, residual: Option<&Expr>) -> String {
    let (large, empty) = (live.large_tables(), live.empty_namespaces());
    let words = |expr: Option<&Expr>| expr.map(ToString::to_string);
    plan::explain(
        plan,
        live.source(),
        live.two_passes(),
        plan::Namespaces { seen: live.spaces().len(), empty, refused: live.netns_not_scanned(), large },
        live.owner_route.as_ref(),
        &words(pushed).unwrap_or_default(),
        words(residual).as_deref(),
    )
}

/// Whether a second search can find more about a row. A listener lives long: where some process cannot be read, it
/// belongs to that one, not to a newcomer that the first search missed.
fn may_settle(row: &Row<'_>) -> bool {
    match row.status {
        OwnerStatus::Raced => true,
        OwnerStatus::NoPermission | OwnerStatus::OtherPidns => row.socket.state != State::Listen,
        _ => false,
    }
}
