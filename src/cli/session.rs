//! One run over the kernel: the source that the flags name, and the head of its documents.
//!
//! Input: the common flags. Output: the source, heads and notes. Rows come from `collect::scan`, findings from
//! `diagnose`.

use std::io::Write;

use anyhow::{anyhow, bail};
use jiff::Timestamp;
use serde_json::Value as Json;

use crate::capture::Recorded;
use crate::cli::args::{Common, Origin, OwnersArg, SourceArg};
use crate::cli::env::Env;
use crate::cli::history::History;
use crate::cli::saved::{self, Opened, Saved};
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
use crate::render::json::{self as out, Head, HeadOfHost};
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
    /// Opens the one source that the flags name.
    pub(crate) fn open(common: &Common) -> anyhow::Result<Session> {
        let mut sessions = Session::open_all(common)?;
        match (sessions.pop(), sessions.is_empty()) {
            (Some(session), true) => Ok(session),
            (last, _) => {
                let hosts = sessions.iter().chain(&last).map(|session| session.live.host().name.as_str());
                Err(several(&hosts.collect::<Vec<_>>()))
            }
        }
    }

    /// Opens the sources that the flags name: this host, or every one that was recorded.
    pub(crate) fn open_all(common: &Common) -> anyhow::Result<Vec<Session>> {
        if common.replay.from.is_empty() {
            if common.replay.host.is_some() {
                bail!("--host is of captures; give --from FILE");
            }
            return Session::of_this_host(common).map(|session| vec![session]);
        }
        let Opened { hosts, mut notes } = saved::open(&common.replay)?;
        let is_one = hosts.len() == 1;
        let (mut sessions, mut failed) = (Vec::new(), None);
        for saved in hosts {
            match Session::of_saved(saved, common, is_one) {
                Ok(session) => sessions.push(session),
                Err(error) if is_one => return Err(error),
                // The others can be read.
                Err(error) => {
                    notes.push(format!("{error:#}"));
                    failed = Some(error);
                }
            }
        }
        let Some(first) = sessions.first_mut() else {
            return Err(failed.unwrap_or_else(|| anyhow!("--from names no file")));
        };
        notes.append(&mut first.notes);
        first.notes = notes;
        Ok(sessions)
    }

    fn of_saved(saved: Saved, common: &Common, is_one: bool) -> anyhow::Result<Session> {
        match saved {
            Saved::Capture(mut history) => {
                let (recorded, notes) = history.now()?;
                let session = Session::replay(recorded, &of_host(common, history.host().filter(|_| !is_one)))?;
                Ok(Session { history: Some(history), notes, ..session })
            }
            Saved::Text(snapshot, note) => {
                let common = of_host(common, Some(snapshot.host.as_str()).filter(|_| !is_one));
                let session = Session::replay(Recorded { snapshot: *snapshot, ..Recorded::default() }, &common)?;
                Ok(Session { notes: note.into_iter().collect(), ..session })
            }
        }
    }

    fn of_this_host(common: &Common) -> anyhow::Result<Session> {
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
        let names = names.with_owners(live.containers(), live.root().clone()).on(&live.host().name);
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
        let names = SystemNames::recorded(names).on(&snapshot.host);
        Ok(Session {
            live: Live::replay(snapshot),
            owners: OwnerTable::default(),
            names,
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
        self.names = SystemNames::recorded(names).on(&snapshot.host);
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
            host: Some(host.name.clone()),
            kernel: Some(host.kernel.clone()),
            source: self.live.source().key(),
            netns: self.live.netns().map(NetnsId::get),
            hosts: Vec::new(),
        }
    }

    /// What a document of several hosts says of this one.
    pub(crate) fn head_of_host(&self) -> HeadOfHost {
        let host = self.live.host();
        HeadOfHost { host: host.name.clone(), kernel: host.kernel.clone(), taken_at: self.taken_at.to_string() }
    }

    /// When what is shown was read, in milliseconds since the epoch.
    pub(crate) fn taken_at_ms(&self) -> u64 {
        u64::try_from(self.taken_at.as_millisecond()).unwrap_or(0)
    }

    /// The time of day in UTC, for the head line of a screen.
    pub(crate) fn clock(&self) -> String {
        format!("{} UTC", text::time_of_day(self.taken_at_ms()))
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
            env.note(note)?;
        }
        Ok(())
    }
}

/// The start of the document of these: of several hosts without what only one has.
pub(crate) fn head(sessions: &[Session], command: &'static str) -> anyhow::Result<Head> {
    let [first, others @ ..] = sessions else { bail!("there is no host") };
    let head = first.head(command);
    if others.is_empty() {
        return Ok(head);
    }
    Ok(several_hosts(&head, sessions.iter().map(Session::head_of_host).collect()))
}

/// The start of a document of several hosts.
pub(crate) fn several_hosts(head: &Head, hosts: Vec<HeadOfHost>) -> Head {
    let latest = hosts.iter().map(|host| &host.taken_at).max().cloned().unwrap_or_default();
    Head { taken_at: latest, host: None, kernel: None, netns: None, hosts, ..head.clone() }
}

/// The gaps of these, of several hosts with the host of each.
pub(crate) fn gap_objects(sessions: &[Session]) -> Vec<Json> {
    match sessions {
        [one] => out::gaps(&one.gaps).as_array().cloned().unwrap_or_default(),
        all => all.iter().flat_map(|s| out::on_host(out::gaps(&s.gaps), &s.live.host().name)).collect(),
    }
}

/// What was not seen of hosts, once for all that have it, and what no document has a place for.
pub(crate) fn print_gaps(sessions: &[Session], env: &mut Env, common: &Common) -> anyhow::Result<()> {
    if let [one] = sessions {
        return one.print_gaps(env, common);
    }
    let told = sessions.iter().map(|session| (session.live.host().name.as_str(), &session.gaps[..]));
    print_gaps_of(&told.collect::<Vec<_>>(), env, common)?;
    sessions.iter().try_for_each(|session| session.print_notes(env))
}

/// Gaps by host.
pub(crate) fn print_gaps_of(hosts: &[(&str, &[Gap])], env: &mut Env, common: &Common) -> anyhow::Result<()> {
    let mut told: Vec<(&Gap, Vec<&str>)> = Vec::new();
    for (host, gap) in hosts.iter().flat_map(|(host, gaps)| gaps.iter().map(move |gap| (*host, gap))) {
        match told.iter_mut().find(|(known, _)| *known == gap) {
            Some((_, of)) => of.push(host),
            None => told.push((gap, vec![host])),
        }
    }
    let mut text = String::new();
    for (gap, of) in told {
        let of = if of.len() == hosts.len() { "every host".to_owned() } else { of.join(", ") };
        crate::render::summary::write_gap(&mut text, &of, gap, env.note_style(common.color));
    }
    env.stdout.flush()?;
    env.stderr.write_all(text.as_bytes())?;
    Ok(())
}

/// The options that read one host of several.
pub(crate) fn of_host(common: &Common, host: Option<&str>) -> Common {
    let mut common = common.clone();
    if let Some(host) = host {
        common.replay.host = Some(host.to_owned());
    }
    common
}

/// The error of a command that reads one host.
pub(crate) fn several(hosts: &[&str]) -> anyhow::Error {
    anyhow!(
        "--from names captures of {} hosts ({}), and this reads one: add --host NAME",
        hosts.len(),
        hosts.join(", ")
    )
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
    let host = common.replay.host.iter().map(|name| format!("--host {}", word(name)));
    let from = common.replay.from.iter().map(|path| format!("--from {}", word(&path.display().to_string())));
    let member =
        |option: &'static str, name: &Option<String>| name.as_ref().map(|name| format!("{option} {}", word(name)));
    let members = [member("--container", &origin.container), member("--pod", &origin.pod)].into_iter().flatten();
    let root = origin.proc_root.iter().map(|path| format!("--proc-root {}", word(&path.display().to_string())));
    from.chain(host).chain(spaces).chain(members).chain(root).collect::<Vec<_>>().join(" ")
}
