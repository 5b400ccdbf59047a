//! One run over the kernel: the source that the flags name, and the head of its documents.
//!
//! Input: the common flags. Output: the source, heads and notes. Rows come from `collect::scan`, findings from
//! `diagnose`.

use std::io::Write;

use anyhow::bail;
use jiff::Timestamp;

use crate::capture::Recorded;
use crate::cli::args::{Common, Origin, OwnersArg, SourceArg};
use crate::cli::env::Env;
use crate::cli::history::History;
use crate::cli::saved::{self, Saved};
use crate::collect::names::SystemNames;
use crate::collect::netns::Wanted;
use crate::collect::owners::Search;
use crate::collect::proc::ProcRoot;
use crate::collect::replay::keep_namespaces;
use crate::collect::scan::{Scan, Scanned};
use crate::collect::{Live, OwnersVia, SourceChoice};
use crate::diagnose::{Diagnosis, Thresholds};
use crate::filter::Expr;
use crate::model::column::Needs;
use crate::model::gap::Missing;
use crate::model::snapshot::Netns;
use crate::model::{Gap, NetnsId, OwnerTable, Snapshot, State, StateSet};
use crate::render::json::Head;
use crate::text;
use crate::watch::listener_query;

/// A source that was opened, and what is known besides sockets.
pub(crate) struct Session {
    pub live: Live,
    /// The owners of the rows; empty if none were requested.
    pub owners: OwnerTable,
    pub names: SystemNames,
    pub gaps: Vec<Gap>,
    /// Time between two snapshots, where two were taken.
    pub interval_ms: Option<u64>,
    /// What is read instead of this host.
    pub history: Option<History>,
    /// What of it could not be read, in sentences.
    pub notes: Vec<String>,
    /// The options that make another command read the same sockets.
    pub scope: String,
    taken_at: Timestamp,
}

impl Session {
    /// Opens the source that the flags name.
    pub(crate) fn open(common: &Common) -> anyhow::Result<Session> {
        if let Some(path) = &common.replay.from {
            return match saved::open(path, common.replay.at)? {
                Saved::Capture(mut history) => {
                    let (recorded, notes) = history.now()?;
                    let session = Session::replay(recorded, common)?;
                    Ok(Session { history: Some(history), notes, ..session })
                }
                Saved::Text(snapshot, note) => {
                    let session = Session::replay(Recorded { snapshot: *snapshot, ..Recorded::default() }, common)?;
                    Ok(Session { notes: note.into_iter().collect(), ..session })
                }
            };
        }
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
        let origin = &common.origin;
        if !origin.netns.is_empty() && origin.proc_root.is_some() {
            bail!("--netns enters namespaces of this host, and --proc-root shows another's; give one");
        }
        // Another host's namespaces cannot be entered; there the two only select rows.
        let enters = origin.names_netns() && origin.proc_root.is_none();
        if enters {
            live.enter(&wanted(origin))?;
        }
        let names = if enters { SystemNames::of(live.spaces().cloned()) } else { SystemNames::default() };
        let names = names.with_owners(live.containers(), live.root().clone());
        Ok(Session {
            live,
            owners: OwnerTable::default(),
            names,
            gaps: Vec::new(),
            interval_ms: None,
            history: None,
            notes: Vec::new(),
            scope: scope(common),
            taken_at: Timestamp::now(),
        })
    }

    /// Opens a recorded snapshot.
    pub(crate) fn replay(recorded: Recorded, common: &Common) -> anyhow::Result<Session> {
        let Recorded { mut snapshot, names } = recorded;
        let taken_at = text::timestamp(snapshot.taken_at_ms).unwrap_or_default();
        let mut scope = scope(common);
        if common.replay.at.is_some() {
            scope += &format!(" --at {taken_at}");
        }
        let known: Vec<String> = snapshot.netns.iter().map(Netns::label).collect();
        if let Some(word) = keep_namespaces(&mut snapshot, &common.origin.netns).first() {
            let known = known.join(", ");
            bail!("--netns {word}: the capture has no such network namespace; it has {known}");
        }
        Ok(Session {
            live: Live::replay(snapshot),
            owners: OwnerTable::default(),
            names: SystemNames::recorded(names),
            gaps: Vec::new(),
            interval_ms: None,
            history: None,
            notes: Vec::new(),
            scope,
            taken_at,
        })
    }

    /// Turns to another snapshot of the same recording, of which commands name the moment.
    pub(crate) fn turn_to(&mut self, recorded: Recorded, common: &Common) {
        let Recorded { mut snapshot, names } = recorded;
        self.taken_at = text::timestamp(snapshot.taken_at_ms).unwrap_or_default();
        self.scope = format!("{} --at {}", scope(common), self.taken_at);
        self.names = SystemNames::recorded(names);
        // A namespace that is not there at this moment may come.
        drop(keep_namespaces(&mut snapshot, &common.origin.netns));
        self.live.turn_to(snapshot);
    }

    /// What this source cannot tell of the queues of listeners.
    pub(crate) fn tell_queue_gaps(&mut self) {
        let gaps = self.live.gaps(&listener_query()).into_iter().chain(self.live.lacks());
        self.tell(gaps);
    }

    /// Keeps gaps, each once.
    fn tell(&mut self, gaps: impl IntoIterator<Item = Gap>) {
        for gap in gaps {
            if !self.gaps.contains(&gap) {
                self.gaps.push(gap);
            }
        }
    }

    /// Keeps what another source could not see or read, too.
    pub(crate) fn add_unseen(&mut self, other: Session) {
        self.tell(other.gaps);
        for note in other.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }

    /// Documents and screens are of what is read from now on.
    pub(crate) fn begin_again(&mut self) {
        self.taken_at = Timestamp::now();
    }

    /// A scan for rows that match the filter.
    pub(crate) fn scan(
        &mut self,
        filter: &Expr,
        needs: Needs,
        owners: Option<Search>,
        common: &Common,
    ) -> anyhow::Result<Scan<'_>> {
        if filter.needs().owners && common.no_owners {
            bail!("the filter needs socket owners; remove --no-owners");
        }
        let scan = Scan::new(&mut self.live, &self.names, filter, needs)?;
        Ok(match owners {
            Some(search) => scan.with_owners(search),
            None => scan,
        })
    }

    /// Keeps the results of a scan besides its rows.
    pub(crate) fn keep(&mut self, scanned: Scanned) {
        self.owners = scanned.owners;
        self.tell(scanned.gaps);
    }

    /// Examines a snapshot of this source.
    pub(crate) fn examine(
        &self,
        now: &mut Snapshot,
        before: Option<&Snapshot>,
        wanted: Option<&[&str]>,
        thresholds: &Thresholds,
    ) -> Diagnosis {
        self.live.diagnose(now, before, wanted, thresholds).within(&self.scope, &self.names)
    }

    /// The start of every JSON document.
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

    /// When what is shown was read, in milliseconds since the epoch.
    pub(crate) fn taken_at_ms(&self) -> u64 {
        u64::try_from(self.taken_at.as_millisecond()).unwrap_or(0)
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
        self.print_notes(env)
    }

    /// Prints what no document has a place for.
    pub(crate) fn print_notes(&self, env: &mut Env) -> anyhow::Result<()> {
        env.stdout.flush()?;
        for note in &self.notes {
            writeln!(env.stderr, "note: {note}")?;
        }
        Ok(())
    }
}

/// The namespaces that the options name.
fn wanted(origin: &Origin) -> Vec<Wanted> {
    if origin.netns.is_empty() {
        return vec![Wanted::Members { container: origin.container.clone(), pod: origin.pod.clone() }];
    }
    let one = |word: &String| if word == "all" { Wanted::All } else { Wanted::One(word.clone()) };
    origin.netns.iter().map(one).collect()
}

/// The options that select the namespaces or the host, as one types them.
pub(crate) fn scope(common: &Common) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@".contains(c);
    let word = |text: &str| if text.chars().all(plain) { text.to_owned() } else { text::quoted(text) };
    let origin = &common.origin;
    let spaces = origin.netns.iter().map(|name| format!("--netns {}", word(name)));
    let from = common.replay.from.iter().map(|path| format!("--from {}", word(&path.display().to_string())));
    let member =
        |option: &'static str, name: &Option<String>| name.as_ref().map(|name| format!("{option} {}", word(name)));
    let members = [member("--container", &origin.container), member("--pod", &origin.pod)].into_iter().flatten();
    let root = origin.proc_root.iter().map(|path| format!("--proc-root {}", word(&path.display().to_string())));
    from.chain(spaces).chain(members).chain(root).collect::<Vec<_>>().join(" ")
}
