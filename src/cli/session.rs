//! One run over the kernel: the source, the owners, the gaps, and the rows in between.
//!
//! Comes in: the common flags and what a command needs. Goes out: rows with owners, each exactly once. Never here: what
//! happens to a row.

use std::io::Write;
use std::ops::ControlFlow;
use std::time::Instant;

use rustc_hash::FxHashSet;

use crate::aggregate::{Coverage, Listeners};
use crate::cli::args::{Common, OwnersArg, SourceArg};
use crate::cli::env::Env;
use crate::collect::names::SystemNames;
use crate::collect::plan::{self, Plan};
use crate::collect::proc::ProcRoot;
use crate::collect::{Live, OwnersVia, Query, Source, SourceChoice};
use crate::model::column::Row;
use crate::model::{Gap, OwnerStatus, OwnerTable, Socket, StateSet};
use crate::render::json::Head;

/// Rows without an owner that are held back until a second look; more than these are given as they are.
const HELD_BACK: usize = 10_000;

/// A source that was opened, and what is known besides sockets.
pub(crate) struct Session {
    pub live: Live,
    pub owners: OwnerTable,
    pub names: SystemNames,
    pub gaps: Vec<Gap>,
    pub coverage: Coverage,
    /// Time between two snapshots, where two were taken.
    pub interval_ms: Option<u64>,
    taken_at: jiff::Timestamp,
}

impl Session {
    /// Opens the source that the flags name.
    pub(crate) fn open(common: &Common) -> anyhow::Result<Session> {
        let choice = match common.source {
            SourceArg::Auto => SourceChoice::Auto,
            SourceArg::Netlink => SourceChoice::Netlink,
            SourceArg::Proc => SourceChoice::Proc,
        };
        let root = common.proc_root.clone().map_or_else(ProcRoot::default, ProcRoot::new);
        let mut live = Live::open(choice, root)?;
        live.owners_via = match common.owners_via {
            OwnersArg::Auto => OwnersVia::Auto,
            OwnersArg::Proc => OwnersVia::Proc,
            OwnersArg::Bpf => OwnersVia::Bpf,
        };
        Ok(Session {
            live,
            owners: OwnerTable::default(),
            names: SystemNames::default(),
            gaps: Vec::new(),
            coverage: Coverage::default(),
            interval_ms: None,
            taken_at: jiff::Timestamp::now(),
        })
    }

    /// The listeners, by which roles are told.
    pub(crate) fn listeners(&mut self) -> anyhow::Result<Listeners> {
        let mut listeners = Listeners::new(self.live.ephemeral_ports());
        // What this pass could not see, the pass over all sockets reports too.
        self.live.sockets(&Query::states(StateSet::LISTEN), &mut Vec::new(), &mut |socket| {
            listeners.add(socket);
            ControlFlow::Continue(())
        })?;
        Ok(listeners)
    }

    /// Looks for the processes that hold sockets.
    pub(crate) fn collect_owners(&mut self) -> anyhow::Result<()> {
        self.owners = self.live.owners(None)?;
        Ok(())
    }

    /// Gives every row of the query once. Rows whose owner is not known are looked at a second time and come last.
    pub(crate) fn rows(
        &mut self,
        plan: &Plan,
        each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> anyhow::Result<()> {
        let mut held: Vec<Socket> = Vec::new();
        let mut missing: FxHashSet<u64> = FxHashSet::default();
        let (owners, names, coverage) = (&self.owners, &self.names, &mut self.coverage);
        let second_look = owners.collected && owners.unreadable <= FEW_UNREADABLE;
        let mut stopped = false;
        let started = Instant::now();
        let whole = [plan::whole(plan)];
        // /proc/net/tcp is read whole whatever is asked of it, and tells no more the second time.
        let passes = if self.live.source() == Source::Proc { &whole[..] } else { &plan.passes };
        for (i, pass) in passes.iter().enumerate() {
            // A later pass sees what has moved into its states meanwhile, which an earlier one has given already.
            let since_ms = if i == 0 { 0 } else { u64::try_from(started.elapsed().as_millis()).unwrap_or(0) };
            self.live.sockets(&pass.query, &mut self.gaps, &mut |socket| {
                if i > 0 && socket.state_age().and_then(|a| a.max_ms).is_some_and(|ms| ms < since_ms) {
                    return ControlFlow::Continue(());
                }
                let row = Row::new(socket, owners, names);
                let unsettled = matches!(row.status, OwnerStatus::Raced | OwnerStatus::NoPermission);
                if second_look && unsettled && held.len() < HELD_BACK {
                    missing.insert(socket.inode);
                    held.push(socket.clone());
                    return ControlFlow::Continue(());
                }
                coverage.add(row.status);
                let flow = each(&row);
                stopped = flow.is_break();
                flow
            })?;
            if stopped {
                break;
            }
        }
        self.gaps.extend(passes.iter().flat_map(|pass| self.live.gaps(&pass.query)));
        // Two passes may miss the same thing.
        let mut seen = FxHashSet::default();
        self.gaps.retain(|gap| seen.insert(gap.clone()));
        if !held.is_empty() {
            self.live.settle(&mut self.owners, &missing)?;
        }
        for socket in &held {
            let row = Row::new(socket, &self.owners, &self.names);
            self.coverage.add(row.status);
            if each(&row).is_break() {
                break;
            }
        }
        let root = rustix::process::geteuid().is_root();
        self.gaps.extend(self.coverage.gap(self.owners.unreadable, root));
        Ok(())
    }

    /// Prints what the kernel would be asked.
    pub(crate) fn explain(&self, plan: &Plan, env: &mut Env) -> anyhow::Result<()> {
        let owners = self.live.owner_route.as_ref();
        let text = plan::explain(plan, self.live.source(), self.live.two_passes(), owners, "", None);
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
            netns: (self.live.netns() != 0).then_some(self.live.netns()),
        }
    }

    /// The time of day in UTC, for the head line of a screen.
    pub(crate) fn clock(&self) -> String {
        self.taken_at.strftime("%H:%M:%S UTC").to_string()
    }

    /// Which states this source cannot see.
    pub(crate) fn unseen(&self) -> StateSet {
        if self.gaps.iter().any(|g| g.what.starts_with("bound_inactive")) {
            StateSet::of(&[crate::model::State::BoundInactive])
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

/// Up to so many unreadable processes, a second look is worth its time: even root is refused a process or two.
const FEW_UNREADABLE: u32 = 4;
