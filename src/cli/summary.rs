//! `tcpstate summary`: counts per state and family, the largest groups. Sockets are counted, not kept.

use std::io::Write;
use std::ops::ControlFlow;

use anyhow::bail;
use clap::Args;
use serde_json::{Map, Value as Json, json};

use crate::aggregate::{By, Census, Counts, Direction, Grouping, Key, Listeners, Sum, Wanted, counts};
use crate::cli::args::{Common, Selection};
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::parse::ChosenSum;
use crate::cli::select;
use crate::cli::session::Session;
use crate::cli::{config, parse};
use crate::collect::owners::Search;
use crate::collect::plan::{self, Plan};
use crate::collect::scan;
use crate::collect::{Ahead, Families};
use crate::diagnose::{self, Finding};
use crate::model::column::Needs;
use crate::model::gap::{CounterMismatch, Missing, WayOut, Why};
use crate::model::sysctl::PORT_RANGE;
use crate::model::{Gap, RowKind, Source, State, StateSet};
use crate::render::json::{self as out, Unseen};
use crate::render::report;
use crate::render::summary as screen;

/// The groups shown by default: JSON name, title, key.
const DEFAULT_GROUPS: [(&str, &str, Key); 3] = [
    ("listeners", "LISTENERS", Key::Listener),
    ("destinations", "DESTINATIONS", Key::Destination),
    ("processes", "PROCESSES", Key::Process),
];

/// Up to this many sockets, `summary` also runs the rules.
const JUDGED_SOCKETS: u64 = 10_000;

const EXAMPLES: &str = "\
Examples:
  tcpstate summary                          states, listeners, destinations, processes
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
    let mut by: Vec<Key> = Vec::new();
    for key in &args.by {
        if !by.contains(key) {
            by.push(*key);
        }
    }
    let mut session = Session::open(&args.common)?;
    let filter = select::of_command_line(&args.selection, &session.names, env)?;
    if args.counts && !filter.is_all() {
        bail!("--counts counts everything; without it a filter is applied");
    }
    let keys_want_owners = by.is_empty() || by.iter().any(|k| k.needs_owners());
    let owners_wanted = !args.common.no_owners && !args.counts && (keys_want_owners || filter.needs().owners);
    if let Some(key) = by.iter().find(|k| args.common.no_owners && k.needs_owners()) {
        bail!("--by {} needs socket owners; remove --no-owners", key.name());
    }
    let several = session.live.spaces().len() > 1;
    let keys = |keys: &[Key]| if several { Key::apart(keys) } else { keys.to_vec() };
    if let Some(twice) = by.iter().find(|k| by.iter().filter(|other| other.name() == k.name()).count() > 1) {
        bail!("--by has {} twice; give one of them", twice.name());
    }
    let wanted = wanted(args);
    let needs = wanted.all().fold(Needs::NONE, |needs, sum| needs.union(sum.needs()));
    let groupings = if args.counts {
        Vec::new()
    } else if by.is_empty() {
        DEFAULT_GROUPS
            .iter()
            .filter(|(.., key)| owners_wanted || !key.needs_owners())
            .map(|(.., key)| {
                let mut grouping = Grouping::new(keys(&[*key])).wanting(wanted.clone());
                grouping.skip_none = true;
                grouping
            })
            .collect()
    } else {
        vec![Grouping::new(keys(&by)).wanting(wanted)]
    };
    let judged = owners_wanted && by.is_empty() && filter.is_all();
    let search = owners_wanted.then(|| {
        let cgroups = args.common.json || filter.needs().cgroups || by.iter().any(|k| k.needs_cgroups());
        // The rules need descriptors, and run on small tables only.
        let may_judge = judged && session.live.large_tables() == 0;
        session.live.search_owners(cgroups, filter.needs().owners || may_judge)
    });
    if args.explain_plan {
        let text = if args.counts && session.live.spaces().len() == 1 {
            scan::explain(&mut session.live, &counts_plan(), None, None)
        } else {
            session.scan(&filter, needs, search, &args.common)?.explain()?
        };
        env.stdout.write_all(text.as_bytes())?;
        if !groupings.is_empty() {
            env.stdout.write_all(b"before: one request for the listeners, which decide roles; it walks no table\n")?;
        }
        if judged {
            writeln!(
                env.stdout,
                "after: of up to {JUDGED_SOCKETS} sockets all attributes, for the rules of the doctor"
            )?;
        }
        return Ok(Exit::Done);
    }
    // Counting states needs no roles.
    let listeners = if groupings.is_empty() { Listeners::new(PORT_RANGE) } else { session.listeners()? };
    let mut census = Census::new(listeners, groupings);
    if !args.counts || !count(&mut session, &mut census)? {
        let scan = session.scan(&filter, needs, search, &args.common)?;
        let (_, scanned) = scan.rows(|row| {
            census.add(row);
            ControlFlow::<()>::Continue(())
        })?;
        session.keep(scanned);
    }
    let findings = if judged { findings(&mut session, &census, env)? } else { Vec::new() };
    if args.common.json {
        print_json(args, &by, &session, &census, &findings, env)?;
    } else {
        print_screen(args, &by, &session, &census, &findings, env)?;
        session.print_gaps(env, &args.common)?;
    }
    Ok(if args.common.strict && !session.gaps.is_empty() { Exit::Failed } else { Exit::Done })
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
fn findings(session: &mut Session, census: &Census, env: &mut Env) -> anyhow::Result<Vec<Finding>> {
    let total = census.all().total();
    if total > JUDGED_SOCKETS {
        session.gaps.push(Gap::new(Missing::Findings, Why::TooManySockets { sockets: total }, WayOut::RunDoctor));
        return Ok(Vec::new());
    }
    let thresholds = config::files(env)?.thresholds;
    let owners = match &session.live.owner_route {
        Some(route) if session.owners.knows_descriptors() => Search::known(session.owners.clone(), route.clone()),
        _ => session.live.finder().start(),
    };
    let mut snapshot = session.live.snapshot_with(Some(owners))?;
    Ok(session.examine(&mut snapshot, None, None, &thresholds).findings)
}

fn print_json(
    args: &SummaryArgs,
    by: &[Key],
    session: &Session,
    census: &Census,
    findings: &[Finding],
    env: &mut Env,
) -> anyhow::Result<()> {
    let unseen = Unseen(session.unseen());
    let mut groups = Map::new();
    if by.is_empty() {
        let mut other = Map::new();
        for (name, _, key) in DEFAULT_GROUPS {
            let Some(grouping) = census.groupings.iter().find(|g| g.keys.ends_with(&[key])) else {
                groups.insert(name.into(), Json::Null);
                other.insert(name.into(), Json::Null);
                continue;
            };
            let (rows, rest) = out::grouping(grouping, args.top, &session.owners, &session.names, unseen);
            groups.insert(name.into(), Json::Array(rows));
            other.insert(name.into(), rest);
        }
        groups.insert("other".into(), Json::Object(other));
    } else if let Some(grouping) = census.groupings.first() {
        let (rows, rest) = out::grouping(grouping, args.top, &session.owners, &session.names, unseen);
        let names: Vec<_> = grouping.keys.iter().map(|k| k.label()).collect();
        groups.insert("by".into(), json!({ "keys": names, "rows": rows, "other": rest }));
    }
    let findings: Vec<Json> = findings.iter().map(out::finding).collect();
    let document =
        out::summary(&session.head("summary"), census, unseen, Json::Object(groups), &findings, &session.gaps);
    out::write_document(&mut env.stdout, &document)?;
    Ok(())
}

fn print_screen(
    args: &SummaryArgs,
    by: &[Key],
    session: &Session,
    census: &Census,
    findings: &[Finding],
    env: &mut Env,
) -> anyhow::Result<()> {
    let style = env.style(args.common.color);
    let mut text = String::new();
    let host = session.live.host();
    let header = screen::Header {
        host: &host.name,
        kernel: &host.kernel,
        source: session.live.source().key(),
        time: &session.clock(),
    };
    screen::write_states(&mut text, &header, census, Unseen(session.unseen()), style);
    for grouping in &census.groupings {
        let title = DEFAULT_GROUPS
            .iter()
            .find(|(.., key)| by.is_empty() && grouping.keys.ends_with(&[*key]))
            .map_or_else(|| screen::title(&grouping.keys), |(_, title, _)| (*title).to_owned());
        let states = args.columns.first().is_none_or(|first| first.adds);
        screen::write_groups(&mut text, &title, grouping, args.top, &session.owners, &session.names, states, style);
    }
    report::write_brief(&mut text, &diagnose::beyond(&session.gaps, findings), style);
    env.stdout.write_all(text.as_bytes())?;
    Ok(())
}
