//! One run over the kernel: the source, the owners, the gaps, and the rows in between.
//!
//! Comes in: the common flags and what a command needs. Goes out: rows with owners, each exactly once. Never here: what
//! happens to a row.

use std::cell::{Cell, OnceCell};
use std::io::Write;
use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::bail;
use rustc_hash::FxHashSet;

use crate::aggregate::{Coverage, Listeners};
use crate::cli::args::{Common, OwnersArg, SourceArg};
use crate::cli::env::Env;
use crate::collect::names::SystemNames;
use crate::collect::netns::Wanted;
use crate::collect::owners::Search;
use crate::collect::plan::{self, Namespaces, Plan};
use crate::collect::proc::ProcRoot;
use crate::collect::{self, Ahead, Families, Live, OwnerRoute, OwnersVia, Query, SourceChoice};
use crate::diagnose::{self, Diagnosis, Thresholds};
use crate::filter::{self, Abilities, Expr};
use crate::model::column::{Needs, Row};
use crate::model::gap::{Capability, Missing, WayOut, Why};
use crate::model::sysctl::PORT_RANGE;
use crate::model::{Gap, Inode, NetnsId, OwnerStatus, OwnerTable, RowKind, Snapshot, Socket, Source, State, StateSet};
use crate::render::json::Head;
use crate::text;

/// Rows without an owner that are held back until a second look; more than these are given as they are.
const HELD_BACK: usize = 10_000;

/// What to ask for: a filter, what the columns need, and what this kernel has turned out to understand.
pub(crate) struct Work {
    filter: Expr,
    pub needs: Needs,
    abilities: Abilities,
}

impl Work {
    /// Asks for less, if it can be that which the kernel refused: it tells marks only to CAP_NET_ADMIN, and cgroups only
    /// since Linux 5.9.
    fn lower(&mut self, why: &collect::Error) -> bool {
        let ability = match why {
            _ if why.is_permission() => &mut self.abilities.mark,
            _ if why.is_invalid() => &mut self.abilities.cgroup,
            _ => return false,
        };
        std::mem::replace(ability, false)
    }
}

/// The same divided between the kernel and this program.
struct Divided {
    plan: Plan,
    pushed: Option<Expr>,
    residual: Option<Expr>,
}

/// A source that was opened, and what is known besides sockets.
pub(crate) struct Session {
    pub live: Live,
    owners: Owners,
    pub names: SystemNames,
    pub gaps: Vec<Gap>,
    pub coverage: Coverage,
    /// Time between two snapshots, where two were taken.
    pub interval_ms: Option<u64>,
    /// The options that make another command look at the same sockets.
    pub scope: String,
    taken_at: jiff::Timestamp,
}

/// The owners, which a thread may still be looking for; they are waited for when the first row needs them.
#[derive(Default)]
struct Owners {
    search: Cell<Option<Search>>,
    route: Cell<Option<OwnerRoute>>,
    table: OnceCell<OwnerTable>,
}

impl Owners {
    fn get(&self) -> Result<&OwnerTable, collect::Error> {
        if let Some(search) = self.search.take() {
            let (table, route) = search.finish()?;
            self.route.set(Some(route));
            // Nobody has asked before, as a search was still there.
            drop(self.table.set(table));
        }
        Ok(self.table.get_or_init(OwnerTable::default))
    }
}

impl Session {
    /// Opens the source that the flags name.
    pub(crate) fn open(common: &Common) -> anyhow::Result<Session> {
        let choice = match common.origin.source {
            SourceArg::Auto => SourceChoice::Auto,
            SourceArg::Netlink => SourceChoice::Netlink,
            SourceArg::Proc => SourceChoice::Proc,
        };
        let root = common.origin.proc_root.clone().map_or_else(ProcRoot::default, ProcRoot::new);
        let mut live = Live::open(choice, root)?;
        live.owners_via = match common.owners_via {
            OwnersArg::Auto => OwnersVia::Auto,
            OwnersArg::Proc => OwnersVia::Proc,
            OwnersArg::Bpf => OwnersVia::Bpf,
        };
        if !common.origin.netns.is_empty() {
            if common.origin.proc_root.is_some() {
                bail!("--netns enters namespaces of this host, and --proc-root shows another's; give one");
            }
            let wanted = |word: &String| match word.as_str() {
                "all" => Wanted::All,
                _ => Wanted::One(word.clone()),
            };
            live.enter(&common.origin.netns.iter().map(wanted).collect::<Vec<_>>())?;
        }
        let names = if common.origin.netns.is_empty() {
            SystemNames::default()
        } else {
            SystemNames::of(live.spaces().cloned())
        };
        let names = names.with_owners(live.containers(), live.root().clone());
        Ok(Session {
            live,
            owners: Owners::default(),
            names,
            gaps: Vec::new(),
            coverage: Coverage::default(),
            interval_ms: None,
            scope: scope(common),
            taken_at: jiff::Timestamp::now(),
        })
    }

    /// The listeners, by which roles are told.
    pub(crate) fn listeners(&mut self) -> anyhow::Result<Listeners> {
        let mut listeners = Listeners::within(self.live.ephemeral_ports());
        // What this pass could not see, the pass over all sockets reports too.
        self.live.sockets(&Query::states(StateSet::LISTEN), &mut Vec::new(), &mut |socket| {
            listeners.add(socket);
            ControlFlow::Continue(())
        })?;
        Ok(listeners)
    }

    /// Begins to look for the processes that hold sockets, and into their cgroups if a column needs it. Where nobody asks
    /// for descriptors, the table takes half the memory.
    pub(crate) fn look_for_owners(&mut self, cgroups: bool, descriptors: bool) {
        self.live.cgroups = cgroups;
        let mut finder = self.live.finder();
        finder.without_descriptors = !descriptors;
        self.owners.search.set(Some(finder.start()));
    }

    /// Waits for the owners.
    fn settle_owners(&mut self) -> anyhow::Result<()> {
        self.owners.get()?;
        if let Some(route) = self.owners.route.take() {
            self.live.owner_route = Some(route);
        }
        Ok(())
    }

    /// The owners that rows were given with; an empty table if nobody looked for them.
    pub(crate) fn owners(&self) -> &OwnerTable {
        self.owners.table.get_or_init(OwnerTable::default)
    }

    /// Works out what to ask for rows that match the filter, with these needs.
    pub(crate) fn plan(&mut self, filter: &Expr, needs: Needs, common: &Common) -> anyhow::Result<Work> {
        let needs = needs.union(filter.needs());
        if filter.needs().owners && common.no_owners {
            bail!("the filter needs socket owners; remove --no-owners");
        }
        let netlink = self.live.source() == Source::Netlink;
        if filter.is_kernel_only() && !netlink {
            bail!("only the kernel knows `autobound`, and {} is not asked by sock_diag", self.live.source().key());
        }
        let filter = if filter.is_kernel_only() {
            let range = self.live.ephemeral_ports().first().map_or(PORT_RANGE, |(_, range)| *range);
            filter.clone().autobound_within(range)
        } else {
            filter.clone()
        };
        Ok(Work { filter, needs, abilities: Abilities { mark: true, cgroup: true } })
    }

    /// The passes and what is left to check, for this source and what the kernel understands.
    fn divide(&self, work: &Work) -> anyhow::Result<Divided> {
        let families = work.filter.family_bound().map_or(Families::Both, Families::Only);
        if self.live.source() != Source::Netlink {
            // /proc/net/tcp is read whole whatever is asked of it, and tells no more the second time.
            let plan = plan::plan(work.filter.state_bound(), families, work.needs, &[]).in_one_pass();
            return Ok(Divided { plan, pushed: None, residual: (!work.filter.is_all()).then(|| work.filter.clone()) });
        }
        let compiled = filter::compile(&work.filter, work.abilities);
        if let Some(why) = compiled.unpushable {
            bail!("filter: {why}");
        }
        let plan = plan::plan(compiled.states, families, work.needs, &compiled.program);
        Ok(Divided { plan, pushed: compiled.pushed, residual: compiled.residual })
    }

    /// Gives every matching row once, and compiles the filter anew if the kernel refuses a part of it.
    pub(crate) fn rows(
        &mut self,
        work: &mut Work,
        each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> anyhow::Result<()> {
        loop {
            let mut divided = self.divide(work)?;
            for pass in &mut divided.plan.passes {
                pass.query.ahead = Ahead::Rows;
            }
            let search = self.owners.search.take();
            if let (Some(first), Some(Search::Running(_))) = (divided.plan.passes.first_mut(), &search) {
                first.query.ahead = Ahead::Start;
            }
            self.owners.search.set(search);
            let refused = match self.passes(&divided.plan, divided.residual.as_ref(), each) {
                Err(e) => e,
                done => return done,
            };
            let Some(why) = refused.downcast_ref::<collect::Error>() else { return Err(refused) };
            // Nothing was given yet.
            if !work.lower(why) {
                return Err(refused);
            }
        }
    }

    /// Gives every row of the passes once. Rows whose owner is not known are looked at a second time and come last.
    fn passes(
        &mut self,
        plan: &Plan,
        residual: Option<&Expr>,
        each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> anyhow::Result<()> {
        // A filter over owners can only be judged when the owner is settled.
        let (early, late) = match residual {
            Some(filter) if filter.needs().owners => (None, Some(filter)),
            other => (other, None),
        };
        let mut held: Vec<Socket> = Vec::new();
        let mut missing: FxHashSet<Inode> = FxHashSet::default();
        let (owners, names, coverage) = (&self.owners, &self.names, &mut self.coverage);
        let mut stopped = false;
        let mut lost = None;
        let marks = residual.is_some_and(Expr::uses_mark);
        let mut unmarked = false;
        let started = Instant::now();
        for (i, pass) in plan.passes.iter().enumerate() {
            // A later pass sees what has moved into its states meanwhile, which an earlier one has given already.
            let since_ms = if i == 0 { 0 } else { u64::try_from(started.elapsed().as_millis()).unwrap_or(0) };
            self.live.sockets(&pass.query, &mut self.gaps, &mut |socket| {
                if i > 0 && socket.state_age().and_then(|a| a.max_ms).is_some_and(|ms| ms < since_ms) {
                    return ControlFlow::Continue(());
                }
                let owners = match owners.get() {
                    Ok(table) => table,
                    Err(why) => {
                        lost = Some(why);
                        return ControlFlow::Break(());
                    }
                };
                let row = Row::new(socket, owners, names);
                unmarked |= marks && socket.mark.is_none() && socket.kind == RowKind::Full;
                if early.is_some_and(|filter| !filter.matches(&row)) {
                    return ControlFlow::Continue(());
                }
                let second_look = owners.collected && owners.unreadable <= FEW_UNREADABLE;
                if second_look && may_settle(&row) && held.len() < HELD_BACK {
                    missing.extend(socket.inode);
                    held.push(socket.clone());
                    return ControlFlow::Continue(());
                }
                if late.is_some_and(|filter| !filter.matches(&row)) {
                    return ControlFlow::Continue(());
                }
                coverage.add(row.status);
                let flow = each(&row);
                stopped = flow.is_break();
                flow
            })?;
            if let Some(why) = lost {
                return Err(why.into());
            }
            if stopped {
                break;
            }
        }
        if unmarked {
            let (why, way_out) = match self.live.source() {
                Source::Netlink => (Why::Capability(Capability::NetAdmin), WayOut::NET_ADMIN),
                Source::Proc => (Why::ProcNetTcp, WayOut::SourceNetlink { since: None }),
            };
            self.gaps.push(Gap::new(Missing::Marks, why, way_out));
        }
        self.gaps.extend(plan.passes.iter().flat_map(|pass| self.live.gaps(&pass.query)));
        // Two passes may miss the same thing.
        let mut seen = FxHashSet::default();
        self.gaps.retain(|gap| seen.insert(gap.clone()));
        self.settle_owners()?;
        let mut nobody = OwnerTable::default();
        let owners = self.owners.table.get_mut().unwrap_or(&mut nobody);
        if !held.is_empty() {
            self.live.settle(owners, &missing)?;
        }
        for socket in &held {
            let row = Row::new(socket, owners, &self.names);
            if late.is_some_and(|filter| !filter.matches(&row)) {
                continue;
            }
            self.coverage.add(row.status);
            if each(&row).is_break() {
                break;
            }
        }
        let root = rustix::process::geteuid().is_root();
        self.gaps.extend(self.coverage.gap(owners, root));
        Ok(())
    }

    /// Examines a snapshot of this source.
    pub(crate) fn examine(
        &self,
        now: &mut Snapshot,
        before: Option<&Snapshot>,
        wanted: Option<&[&str]>,
        thresholds: &Thresholds,
    ) -> Diagnosis {
        let inspect = |snapshot: &Snapshot, pids: &[u32]| self.live.inspect(snapshot, pids);
        diagnose::examine(now, before, wanted, thresholds, inspect).within(&self.scope)
    }

    /// Prints what the kernel would be asked.
    pub(crate) fn explain(&mut self, work: &mut Work, env: &mut Env) -> anyhow::Result<()> {
        // What the kernel refuses to check it refuses before the first row: a question for listeners shows it.
        let Divided { plan, pushed, residual } = loop {
            let divided = self.divide(work)?;
            let Some(pass) = divided.plan.passes.first().filter(|pass| !pass.query.bytecode.is_empty()) else {
                break divided;
            };
            let probe = Query { states: StateSet::LISTEN, ahead: Ahead::No, ..pass.query.clone() };
            match self.live.sockets(&probe, &mut Vec::new(), &mut |_| ControlFlow::Continue(())) {
                Err(why) if work.lower(&why) => {}
                _ => break divided,
            }
        };
        self.explain_plan(&plan, pushed.as_ref(), residual.as_ref(), env)
    }

    /// The same for passes that no filter made.
    pub(crate) fn explain_plan(
        &mut self,
        plan: &Plan,
        pushed: Option<&Expr>,
        residual: Option<&Expr>,
        env: &mut Env,
    ) -> anyhow::Result<()> {
        self.settle_owners()?;
        let (large, empty) = (self.live.large_tables(), self.live.empty_namespaces());
        let owners = self.live.owner_route.as_ref();
        let words = |expr: Option<&Expr>| expr.map(ToString::to_string);
        let text = plan::explain(
            plan,
            self.live.source(),
            self.live.two_passes(),
            Namespaces { seen: self.live.spaces().len(), empty, refused: self.live.netns_not_scanned(), large },
            owners,
            &words(pushed).unwrap_or_default(),
            words(residual).as_deref(),
        );
        env.stdout.write_all(text.as_bytes())?;
        Ok(())
    }

    /// What every JSON document begins with.
    pub(crate) fn head(&self, command: &'static str) -> Head {
        let host = self.live.host();
        Head {
            schema: crate::render::json::SCHEMA,
            command,
            version: env!("CARGO_PKG_VERSION"),
            taken_at: self.taken_at.to_string(),
            host: host.name.clone(),
            kernel: host.kernel.clone(),
            source: self.live.source().key(),
            netns: self.live.netns().map(NetnsId::get),
        }
    }

    /// The time of day in UTC, for the head line of a screen.
    pub(crate) fn clock(&self) -> String {
        self.taken_at.strftime("%H:%M:%S UTC").to_string()
    }

    /// Which states this source cannot see.
    pub(crate) fn unseen(&self) -> StateSet {
        if self.gaps.iter().any(|g| g.missing == Missing::BoundInactive) {
            StateSet::of(&[State::BoundInactive])
        } else {
            StateSet::EMPTY
        }
    }

    /// Prints the gaps as notes, for output that people read.
    pub(crate) fn print_gaps(&self, env: &mut Env, common: &Common) -> anyhow::Result<()> {
        let style = env.note_style(common.color);
        let mut text = String::new();
        crate::render::summary::write_gaps(&mut text, &self.gaps, style);
        env.stdout.flush()?;
        env.stderr.write_all(text.as_bytes())?;
        Ok(())
    }
}

/// The options by which a command looks elsewhere than here, as one types them.
pub(crate) fn scope(common: &Common) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@".contains(c);
    let word = |text: &str| if text.chars().all(plain) { text.to_owned() } else { text::quoted(text) };
    let spaces = common.origin.netns.iter().map(|name| format!("--netns {}", word(name)));
    let root = common.origin.proc_root.iter().map(|path| format!("--proc-root {}", word(&path.display().to_string())));
    spaces.chain(root).collect::<Vec<_>>().join(" ")
}

/// Whether a second look can tell more of a row. A listener lives long: where some process is closed to us, it is that
/// one's, and not a newcomer that the first look missed.
fn may_settle(row: &Row<'_>) -> bool {
    match row.status {
        OwnerStatus::Raced => true,
        OwnerStatus::NoPermission => row.socket.state != State::Listen,
        _ => false,
    }
}

/// Up to so many unreadable processes, a second look is worth its time: even root is refused a process or two.
const FEW_UNREADABLE: u32 = 4;
