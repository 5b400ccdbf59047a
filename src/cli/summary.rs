//! `tcpstate summary`: counts per state and family, the largest groups, what is limited, and what changed in an interval.
//! Sockets are counted, not kept.

mod hosts;

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use serde_json::{Map, Value as Json, json};

use crate::aggregate::short_lived::SHORT_MS;
use crate::aggregate::{
    By, Census, Change, Counts, Direction, Grouping, HostResources, Key, Legend, Limits, Listeners, LocalPorts, Look,
    Resources, Sum, Wanted, counts,
};
use crate::cli::args::{Common, Selection};
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::parse::ChosenSum;
use crate::cli::select;
use crate::cli::session::{self, Session};
use crate::cli::{config, parse};
use crate::collect::clock::monotonic_ms;
use crate::collect::owners::Search;
use crate::collect::plan::{self, Plan};
use crate::collect::scan;
use crate::collect::{Ahead, Families};
use crate::diagnose::{self, Diagnosis, Thresholds};
use crate::filter::Expr;
use crate::model::column::Needs;
use crate::model::gap::{CounterMismatch, Missing, WayOut, Why};
use crate::model::resources::TcpMemory;
use crate::model::snapshot::Netns;
use crate::model::sysctl::PORT_RANGE;
use crate::model::{Gap, RowKind, Source, State, StateSet};
use crate::render::groups::{self, GroupTable};
use crate::render::json::{self as out, Unseen};
use crate::render::summary::{self as screen, Header, Screen};
use crate::watch;

/// The groups shown by default: JSON name, title, key; the first of several hosts only.
const DEFAULT_GROUPS: [(&str, &str, Key); 4] = [
    ("hosts", "HOSTS", Key::Host),
    ("listeners", "LISTENERS", Key::Listener),
    ("destinations", "DESTINATIONS", Key::Destination),
    ("processes", "PROCESSES", Key::Process),
];

/// Up to this many sockets, `summary` also runs the rules.
const JUDGED_SOCKETS: u64 = 10_000;
/// Most processes that are asked for their age, which takes some 10 µs each.
const ASKED: usize = 2000;

const EXAMPLES: &str = "\
Examples:
  tcpstate summary                          states, listeners, destinations, processes
  tcpstate summary --interval 1s            and what changed in a second: states, resets, retransmissions
  tcpstate summary --no-owners              without looking into processes: faster
  tcpstate summary --by peer-addr           who has how many connections, and in which states
  tcpstate summary --by listener,peer-addr --state established --top 20
  tcpstate summary --by peer-addr/24 -c bytes-sent,retrans-share,rtt-p99 --sort -retrans-share
  tcpstate summary --json | jq .states.close_wait";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SummaryArgs {
    #[command(flatten)]
    pub selection: Selection,
    /// Cross states with these keys, separated by commas; addresses also by prefix, as in peer-addr/24 or peer-addr/24/48
    #[arg(long, value_name = "KEYS", value_delimiter = ',', value_parser = parse::key(), help_heading = "Output")]
    pub by: Vec<Key>,
    /// Sum these up instead of the states, separated by commas; +NAME keeps the states
    #[arg(long, short = 'c', value_name = "COLUMNS", value_delimiter = ',', value_parser = parse::sum())]
    #[arg(conflicts_with = "counts", help_heading = "Output")]
    pub columns: Vec<ChosenSum>,
    /// Order groups by `total` or one of these columns; -NAME for the largest first
    #[arg(long, value_name = "COLUMN", value_parser = parse::group_order(), allow_hyphen_values = true)]
    #[arg(hide_possible_values = true, conflicts_with = "counts", help_heading = "Output")]
    pub sort: Option<(By, Direction)>,
    /// Count states only: ESTABLISHED is taken from the kernel's counters instead of being dumped
    #[arg(long, conflicts_with = "by", help_heading = "Output")]
    pub counts: bool,
    /// Look twice, TIME apart, and show what changed per second
    #[arg(long, value_name = "TIME", value_parser = parse::interval, help_heading = "Output")]
    pub interval: Option<Duration>,
    /// Show the query sent to the kernel, then exit
    #[arg(long, help_heading = "Output")]
    pub explain_plan: bool,
    /// How many groups to show; the rest are added up
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true, help_heading = "Output")]
    pub top: usize,
    #[command(flatten)]
    pub common: Common,
}

pub(crate) fn run(args: &SummaryArgs, env: &mut Env) -> anyhow::Result<Exit> {
    if args.interval.is_some() {
        args.common.replay.refuse("summary --interval")?;
    }
    let mut sessions = Session::open_all(&args.common)?;
    let filters = select::of_each(&args.selection, &args.common.origin, &sessions, env)?;
    let jobs = filters.into_iter().map(|filter| Job::new(args, &sessions, filter));
    let jobs = jobs.collect::<anyhow::Result<Vec<Job<'_>>>>()?;
    if let (Some(job), Some(session), true) = (jobs.first(), sessions.first_mut(), args.explain_plan) {
        let has_groups = !job.groupings().is_empty();
        job.explain(session, has_groups, env)?;
        return Ok(Exit::Done);
    }
    let (job, seen) = match (&jobs[..], &mut sessions[..]) {
        ([job], [session]) => (job, look(job, session, env)?),
        ([job, ..], all) => (job, hosts::look(&jobs, all)?),
        ([], _) => return Ok(Exit::Done),
    };
    if let Some(to) = env.json(args.common.json) {
        print_json(job, &sessions, &seen, to)?;
    }
    if env.wants_text(args.common.json) {
        print_screen(job, &sessions, &seen, env)?;
        session::print_gaps(&sessions, env, &args.common)?;
    } else {
        sessions.iter().try_for_each(|session| session.print_notes(env))?;
    }
    // That rules judge one host at a time is no part that is missing of this one.
    let is_missing = |gap: &Gap| gap.why != Why::SeveralHosts;
    let has_gaps = sessions.iter().any(|session| session.gaps.iter().any(is_missing));
    Ok(if args.common.strict && has_gaps { Exit::Failed } else { Exit::Done })
}

/// Counts what is on this host, or on one that was recorded.
fn look(job: &Job<'_>, session: &mut Session, env: &mut Env) -> anyhow::Result<Seen> {
    let (args, groupings) = (job.args, job.groupings());
    let thresholds = if job.is_default() { config::files(env)?.thresholds } else { Thresholds::default() };
    let before = match args.interval {
        Some(interval) => {
            let started = Instant::now();
            let look = job.first_look(session)?;
            std::thread::sleep(interval.saturating_sub(started.elapsed()));
            session.begin_again();
            Some(look)
        }
        None => None,
    };
    let search = job.search(session);
    // Counting states needs no roles.
    let mut visits = if groupings.is_empty() { Vec::new() } else { session.live.visits() };
    let listeners =
        if groupings.is_empty() { Listeners::new(PORT_RANGE) } else { watch::listeners(&mut session.live, &visits)? };
    let mut census = Census::new(listeners, groupings);
    if job.is_whole() {
        session.live.add_limits(&mut visits);
        census.ports = Some(LocalPorts::new(&visits));
    }
    let mut look = before.as_ref().map(|_| begin(session));
    job.scan(session, &mut census, job.needs, search)?;
    fold_short_lived(&mut census, session);
    if job.is_default() {
        session.tell_queue_gaps();
    }
    if let Some(look) = &mut look {
        look.counts = census.all();
    }
    let change = before.zip(look).map(|(before, after)| Change::between(before, after));
    let diagnosis = if job.is_judged() { diagnosis(session, &census, &thresholds)? } else { Diagnosis::default() };
    let resources = job.is_default().then(|| job.resources(session, &census, &visits, &thresholds));
    Ok(Seen { census, resources, change, diagnosis })
}

/// What a summary is asked for.
struct Job<'a> {
    args: &'a SummaryArgs,
    /// Whether it is one of several hosts.
    of_hosts: bool,
    /// Whether the rows are of several network namespaces, of some host.
    of_netns: bool,
    by: Vec<Key>,
    filter: Expr,
    needs: Needs,
    owners_wanted: bool,
}

/// What a summary found.
struct Seen {
    census: Census,
    resources: Option<Resources>,
    change: Option<Change>,
    diagnosis: Diagnosis,
}

impl<'a> Job<'a> {
    fn new(args: &'a SummaryArgs, sessions: &[Session], filter: Expr) -> anyhow::Result<Job<'a>> {
        let mut by: Vec<Key> = Vec::new();
        for key in &args.by {
            if !by.contains(key) {
                by.push(*key);
            }
        }
        if args.counts && !filter.is_all() {
            bail!("--counts counts everything; without it a filter is applied");
        }
        let keys_want_owners = by.is_empty() || by.iter().any(|k| k.needs_owners());
        let owners_wanted = !args.common.no_owners && !args.counts && (keys_want_owners || filter.needs().owners);
        if let Some(key) = by.iter().find(|k| args.common.no_owners && k.needs_owners()) {
            bail!("--by {} needs socket owners; remove --no-owners", key.name());
        }
        if let Some(twice) = by.iter().find(|k| by.iter().filter(|other| other.name() == k.name()).count() > 1) {
            bail!("--by has {} twice; give one of them", twice.name());
        }
        let needs = wanted(args).all().fold(Needs::NONE, |needs, sum| needs.union(sum.needs()));
        let of_hosts = sessions.len() > 1;
        let of_netns = sessions.iter().any(|session| session.live.spaces().len() > 1);
        Ok(Job { args, of_hosts, of_netns, by, filter, needs, owners_wanted })
    }

    /// Whether the groups are those that nobody chose.
    fn is_default(&self) -> bool {
        self.by.is_empty() && !self.args.counts
    }

    /// Whether every socket is counted in these groups.
    fn is_whole(&self) -> bool {
        self.is_default() && self.filter.is_all()
    }

    /// Whether rules may run.
    fn is_judged(&self) -> bool {
        self.owners_wanted && self.is_whole()
    }

    fn default_groups(&self) -> &'static [(&'static str, &'static str, Key)] {
        &DEFAULT_GROUPS[usize::from(!self.of_hosts)..]
    }

    fn groupings(&self) -> Vec<Grouping> {
        let keys = |keys: &[Key]| Key::apart(keys, self.of_netns, self.of_hosts);
        let wanted = wanted(self.args);
        if self.args.counts {
            return Vec::new();
        }
        if !self.by.is_empty() {
            return vec![Grouping::new(keys(&self.by)).wanting(wanted)];
        }
        let shown = self.default_groups().iter().filter(|(.., key)| self.owners_wanted || !key.needs_owners());
        let grouping = |(.., key): &(&str, &str, Key)| {
            let mut grouping = Grouping::new(keys(&[*key])).wanting(wanted.clone());
            grouping.skip_none = true;
            grouping
        };
        shown.map(grouping).collect()
    }

    /// Starts the search for owners, where they are wanted.
    fn search(&self, session: &mut Session) -> Option<Search> {
        if !self.owners_wanted {
            return None;
        }
        let needs = self.filter.needs();
        let cgroups = self.args.common.json || needs.cgroups || self.by.iter().any(|k| k.needs_cgroups());
        // The rules need descriptors, and run on small tables only.
        let may_judge = self.is_judged() && session.live.large_tables() == 0;
        Some(session.live.search_owners(cgroups, needs.owners || may_judge))
    }

    fn explain(&self, session: &mut Session, has_groups: bool, env: &mut Env) -> anyhow::Result<()> {
        let text = if self.args.counts && session.live.spaces().len() == 1 {
            scan::explain(&mut session.live, &counts_plan(), None, None)
        } else {
            let search = self.search(session);
            session.scan(&self.filter, self.needs, search, &self.args.common)?.explain()?
        };
        env.stdout.write_all(text.as_bytes())?;
        if has_groups {
            env.stdout.write_all(b"before: one request for the listeners, which decide roles; it walks no table\n")?;
        }
        if self.is_judged() {
            writeln!(
                env.stdout,
                "after: of up to {JUDGED_SOCKETS} sockets all attributes, for the rules of the doctor"
            )?;
        }
        Ok(())
    }

    /// States and counters, to compare with.
    fn first_look(&self, session: &mut Session) -> anyhow::Result<Look> {
        let needs = self.filter.needs();
        let search = needs.owners.then(|| session.live.search_owners(needs.cgroups, true));
        let mut look = begin(session);
        let mut census = Census::new(Listeners::new(PORT_RANGE), Vec::new());
        let told = session.gaps.len();
        self.scan(session, &mut census, Needs::NONE, search)?;
        // What this look could not see, the second one reports.
        session.gaps.truncate(told);
        look.counts = census.all();
        Ok(look)
    }

    /// Counts every row.
    fn scan(
        &self,
        session: &mut Session,
        census: &mut Census,
        needs: Needs,
        search: Option<Search>,
    ) -> anyhow::Result<()> {
        if self.args.counts && count(session, census)? {
            return Ok(());
        }
        let scan = session.scan(&self.filter, needs, search, &self.args.common)?;
        let (_, scanned) = scan.rows(|row| {
            census.add(row);
            ControlFlow::<()>::Continue(())
        })?;
        session.keep(scanned);
        Ok(())
    }

    /// What is limited. Nothing here walks a table.
    fn resources(&self, session: &Session, census: &Census, visits: &[Netns], thresholds: &Thresholds) -> Resources {
        let descriptors = if self.owners_wanted { session.live.descriptors(&session.owners) } else { Vec::new() };
        let near_percent = thresholds.fd_exhaustion_warn_percent;
        let host = census.ports.as_ref().map(|ports| HostResources {
            ports: ports.fullest(),
            knows_ports: ports.is_known(),
            memory: TcpMemory::of(visits),
            page_bytes: session.live.page_bytes(),
        });
        Resources { descriptors, near_percent, host }
    }
}

/// A look that begins now: the counters are read right before the rows.
fn begin(session: &Session) -> Look {
    Look { at_ms: monotonic_ms(), counts: Counts::default(), counters: session.live.counters() }
}

/// Puts the short-lived processes of one command together. Only those of commands with many are asked for their age.
fn fold_short_lived(census: &mut Census, session: &Session) {
    for grouping in &mut census.groupings {
        let crowd = grouping.crowds(&session.owners);
        if crowd.is_empty() || crowd.len() > ASKED {
            continue;
        }
        let pids = crowd.iter().map(|i| session.owners.processes[*i as usize].pid);
        let ages = session.live.running_ms(pids);
        let short: BTreeSet<u32> =
            crowd.iter().zip(ages).filter(|(_, age)| age.is_some_and(|ms| ms < SHORT_MS)).map(|(i, _)| *i).collect();
        grouping.fold_short_lived(&session.owners, |i| short.contains(&i));
    }
}

/// What groups sum up, and by what they are ordered.
fn wanted(args: &SummaryArgs) -> Wanted {
    let mut sums: Vec<Sum> = Vec::new();
    for ChosenSum { sum, .. } in &args.columns {
        if !sums.contains(sum) {
            sums.push(*sum);
        }
    }
    Wanted { sums, order: args.sort }
}

/// All states except ESTABLISHED.
fn counts_plan() -> Plan {
    let mut plan = plan::plan(StateSet::of(&[State::Established]).complement(), Families::Both, Needs::NONE, &[]);
    for pass in &mut plan.passes {
        pass.why = "everything but ESTABLISHED, which sockstat and CurrEstab count";
        pass.query.ahead = Ahead::Rows;
    }
    plan
}

/// Counts without dumping ESTABLISHED; false when the kernel's counters disagree and the rows must be read.
fn count(session: &mut Session, census: &mut Census) -> anyhow::Result<bool> {
    // With many namespaces the counters agree with the tables less often; their rows are read.
    if session.live.source() != Source::Netlink || session.live.spaces().len() != 1 {
        return Ok(false);
    }
    let plan = counts_plan();
    let mut mismatch = CounterMismatch::NoCurrEstab;
    // Connections open and close between the table and the counters; two equal results are not a coincidence.
    for _ in 0..3 {
        let mut counts = [Counts::default(); 2];
        let mut full = [Counts::default(); 2];
        for pass in &plan.passes {
            session.live.sockets(&pass.query, &mut session.gaps, &mut |socket| {
                counts[socket.family as usize].add(socket.state);
                if socket.kind == RowKind::Full {
                    full[socket.family as usize].add(socket.state);
                }
                ControlFlow::Continue(())
            })?;
        }
        match counts::established(&session.live.netns_facts(), &full) {
            Ok(established) => {
                for (counts, n) in counts.iter_mut().zip(established) {
                    counts.add_many(State::Established, n);
                }
                census.counts = counts;
                session.gaps.extend(plan.passes.iter().flat_map(|p| session.live.gaps(&p.query)));
                return Ok(true);
            }
            Err(reason) => mismatch = reason,
        }
    }
    session.gaps.push(Gap::new(Missing::EstablishedCounter, Why::Counters(mismatch), WayOut::None));
    Ok(false)
}

/// Findings from one sample, as long as they cost little beside the summary itself.
fn diagnosis(session: &mut Session, census: &Census, thresholds: &Thresholds) -> anyhow::Result<Diagnosis> {
    let total = census.all().total();
    if total > JUDGED_SOCKETS {
        session.gaps.push(Gap::new(Missing::Findings, Why::TooManySockets { sockets: total }, WayOut::RunDoctor));
        return Ok(Diagnosis::default());
    }
    let owners = match &session.live.owner_route {
        Some(route) if session.owners.knows_descriptors() => Search::known(session.owners.clone(), route.clone()),
        _ => session.live.finder().start(),
    };
    let mut snapshot = session.live.snapshot_with(Some(owners))?;
    Ok(session.examine(&mut snapshot, None, None, thresholds))
}

/// What numbers mean on each host.
fn legends(sessions: &[Session]) -> Vec<Legend<'_>> {
    sessions.iter().map(|session| Legend { owners: &session.owners, names: &session.names }).collect()
}

/// Which states some source could not see.
fn unseen(sessions: &[Session]) -> Unseen {
    Unseen(sessions.iter().fold(StateSet::EMPTY, |all, session| all.union(session.unseen())))
}

fn print_json(job: &Job<'_>, sessions: &[Session], seen: &Seen, to: &mut dyn Write) -> anyhow::Result<()> {
    let (census, unseen) = (&seen.census, unseen(sessions));
    let (limits, legends) = (limits(seen), legends(sessions));
    let rows = |grouping: &Grouping| out::group_rows(grouping, job.args.top, &legends, unseen, limits);
    let mut groups = Map::new();
    if job.by.is_empty() {
        let mut other = Map::new();
        for (name, _, key) in job.default_groups() {
            let grouping = census.groupings.iter().find(|g| g.keys.ends_with(&[*key]));
            let (shown, rest) = grouping.map_or((Json::Null, Json::Null), |grouping| {
                let (shown, rest) = rows(grouping);
                (Json::Array(shown), rest)
            });
            groups.insert((*name).into(), shown);
            other.insert((*name).into(), rest);
        }
        groups.insert("other".into(), Json::Object(other));
    } else if let Some(grouping) = census.groupings.first() {
        let (rows, rest) = rows(grouping);
        let names: Vec<_> = grouping.keys.iter().map(|k| k.label()).collect();
        groups.insert("by".into(), json!({ "keys": names, "rows": rows, "other": rest }));
    }
    let summary = out::Summary {
        census,
        unseen,
        groups: Json::Object(groups),
        host: seen.resources.as_ref().and_then(|resources| resources.host.as_ref()),
        change: seen.change.as_ref(),
        diagnosis: &seen.diagnosis,
        taken_at_ms: sessions.first().map_or(0, Session::taken_at_ms),
        gaps: session::gap_objects(sessions),
    };
    out::write_document(to, &out::summary(&session::head(sessions, "summary")?, summary))?;
    Ok(())
}

fn print_screen(job: &Job<'_>, sessions: &[Session], seen: &Seen, env: &mut Env) -> anyhow::Result<()> {
    let Some(session) = sessions.first() else { return Ok(()) };
    let style = env.style(job.args.common.color);
    let (host, hosts, times) = (session.live.host(), hosts::many(sessions), hosts::times(sessions));
    let screen = Screen {
        header: Header {
            host: if job.of_hosts { hosts.as_str() } else { host.name.as_str() },
            kernel: (!job.of_hosts).then_some(host.kernel.as_str()),
            source: session.live.source().key(),
            time: &times,
        },
        census: &seen.census,
        unseen: unseen(sessions),
        tables: seen.census.groupings.iter().map(|grouping| table(job, sessions, seen, grouping)).collect(),
        host: seen.resources.as_ref().and_then(|resources| resources.host.as_ref()),
        netns: (!job.of_hosts && session.live.spaces().len() > 1).then_some(&session.names),
        change: seen.change.as_ref(),
        is_filtered: !job.filter.is_all(),
        diagnosis: &seen.diagnosis,
        incidents: diagnose::beyond(&session.gaps, &seen.diagnosis),
    };
    let mut text = String::new();
    screen::write(&mut text, &screen, style);
    env.stdout.write_all(text.as_bytes())?;
    Ok(())
}

fn table<'a>(job: &Job<'_>, sessions: &'a [Session], seen: &'a Seen, grouping: &'a Grouping) -> GroupTable<'a> {
    let named = job.default_groups().iter().find(|(.., key)| job.by.is_empty() && grouping.keys.ends_with(&[*key]));
    GroupTable {
        title: named.map_or_else(|| groups::title(&grouping.keys), |(_, title, _)| (*title).to_owned()),
        grouping,
        top: job.args.top,
        legends: legends(sessions),
        with_states: job.args.columns.first().is_none_or(|first| first.adds),
        limits: limits(seen),
    }
}

fn limits(seen: &Seen) -> Option<Limits<'_>> {
    let resources = seen.resources.as_ref()?;
    Some(Limits { resources, listeners: &seen.census.listeners })
}
