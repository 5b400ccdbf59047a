//! `tcpstate doctor`: the diagnosis, as a report, JSON, or the line of a monitoring plugin.
//!
//! Takes one snapshot, and a second one only if a rule that might fire needs it.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value as Json, json};

use crate::aggregate::attribution::OwnerEvidence;
use crate::cli::args::Common;
use crate::cli::config;
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::parse::{self, Assignment};
use crate::cli::session::Session;
use crate::collect::changes::{self, Faults, Scope};
use crate::diagnose::{Diagnosis, RULES, Samples, Severity, Thresholds};
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::snapshot::KnownOwner;
use crate::model::transition::By;
use crate::model::{Event, Gap, NetnsId, Snapshot, State};
use crate::render::{json as out, report};

/// Room for 60,000 unread changes.
const TRACE_RING_BYTES: usize = 8 << 20;

/// The pause between the two snapshots when none is given.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  tcpstate doctor                           one look, and a second one if something needs it
  tcpstate doctor --interval 10s            two looks, ten seconds apart
  tcpstate doctor --once --json             one look, for scripts
  tcpstate doctor --rule close-wait-leak    one rule; `tcpstate explain` lists them
  tcpstate doctor --nagios                  as a monitoring plugin: exit 0 to 3, perfdata
  tcpstate doctor --fail-on high            exit 1 only for findings at high or above

Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 wrong usage or nothing could be read.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub common: Common,
    /// Take a second sample after this time [default: 2s, and only if a rule needs it]
    #[arg(long, value_name = "TIME", value_parser = parse::interval, conflicts_with = "once")]
    #[arg(help_heading = "Diagnosis")]
    pub interval: Option<Duration>,
    /// Take one sample only
    #[arg(long, help_heading = "Diagnosis")]
    pub once: bool,
    /// Trace for this time first, to learn which end closed the connections in TIME_WAIT; needs the privileges of
    /// `trace --via bpf`
    #[arg(long, value_name = "TIME", value_parser = parse::duration, help_heading = "Diagnosis")]
    pub trace: Option<Duration>,
    /// Only these rules, separated by commas
    #[arg(long, value_name = "RULES", value_delimiter = ',', value_parser = parse::rule())]
    #[arg(hide_possible_values = true, help_heading = "Diagnosis")]
    pub rule: Vec<&'static str>,
    /// Set a threshold
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse::threshold, help_heading = "Diagnosis")]
    pub threshold: Vec<Assignment>,
    /// Print every threshold, its value and its origin
    #[arg(long, help_heading = "Diagnosis")]
    pub show_thresholds: bool,
    /// Show findings at or above this severity
    #[arg(long, value_name = "SEVERITY", value_parser = parse::severity(), default_value = "info")]
    #[arg(help_heading = "Output")]
    pub min_severity: Severity,
    /// Show every finding in full, with its evidence under the JSON keys
    #[arg(long, short = 'v', conflicts_with = "json", help_heading = "Output")]
    pub verbose: bool,
    /// Exit with 1 for findings at or above this severity
    #[arg(long, value_name = "SEVERITY", value_parser = parse::severity(), default_value = "warning")]
    #[arg(help_heading = "Output")]
    pub fail_on: Severity,
    /// Print one line with perfdata and exit with 0 to 3, like a monitoring plugin
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    pub nagios: bool,
}

pub(crate) fn run(args: &DoctorArgs, env: &mut Env) -> anyhow::Result<Exit> {
    let settings = config::load(args, env)?;
    if args.show_thresholds {
        env.stdout.write_all(settings.table().as_bytes())?;
        return Ok(Exit::Done);
    }
    let wanted = (!args.rule.is_empty()).then(|| args.rule.clone());
    let min = args.min_severity;
    let result = examine(args, wanted.as_deref(), &settings.thresholds);
    let (mut session, mut diagnosis, snapshot) = match result {
        Ok(done) => done,
        // A monitoring system expects UNKNOWN when the check itself failed.
        Err(error) if args.nagios => {
            writeln!(env.stdout, "TCPSTATE UNKNOWN - {error:#}")?;
            return Ok(Exit::Nagios(3));
        }
        Err(error) => return Err(error),
    };
    session.gaps.extend(snapshot.gaps.iter().cloned());
    if snapshot.owners.collected {
        let root = rustix::process::geteuid().is_root();
        session.gaps.extend(diagnosis.coverage.gap(&snapshot.owners, root));
    }
    let judged = wanted.as_ref().map_or(RULES.len(), Vec::len);
    if args.nagios {
        let (code, text) = report::nagios(&diagnosis, &perfdata(&snapshot));
        env.stdout.write_all(text.as_bytes())?;
        return Ok(Exit::Nagios(code));
    }
    if args.common.json {
        let mut map = out::head(&session.head("doctor"));
        map.insert("rules".into(), json!(judged));
        map.insert("sockets".into(), json!(snapshot.sockets.len()));
        map.insert("interval_ms".into(), json!(session.interval_ms));
        map.insert("findings".into(), out::findings(&diagnosis, min));
        map.insert("incidents".into(), out::incidents(&diagnosis, min, snapshot.taken_at_ms));
        map.insert("not_checked".into(), out::not_checked(&diagnosis));
        map.insert("gaps".into(), out::gaps(&session.gaps));
        out::write_document(&mut env.stdout, &Json::Object(map))?;
    } else {
        let mut text = String::new();
        let style = env.style(args.common.color);
        if session.live.spaces().len() > 1 {
            name_namespaces(&mut diagnosis, &session);
        }
        let shown =
            report::Shown { at_least: min, sockets: snapshot.sockets.len(), rules: judged, verbose: args.verbose };
        report::write_report(&mut text, &diagnosis, shown, style);
        env.stdout.write_all(text.as_bytes())?;
        session.print_gaps(env, &args.common)?;
    }
    if args.common.strict && !session.gaps.is_empty() {
        return Ok(Exit::Failed);
    }
    // The process ends here: freeing a hundred thousand rows one by one would take as long as a rule.
    std::mem::forget(snapshot);
    Ok(if diagnosis.findings.iter().any(|f| f.severity >= args.fail_on) { Exit::No } else { Exit::Done })
}

/// With several namespaces, every finding shows its own; in JSON it is `subject.netns`.
fn name_namespaces(diagnosis: &mut Diagnosis, session: &Session) {
    for finding in &mut diagnosis.findings {
        let Some(space) = session.live.spaces().find(|s| s.inode.is_some() && s.inode == finding.subject.netns) else {
            continue;
        };
        finding.summary = format!("{} (network namespace {})", finding.summary, space.label());
    }
}

/// Takes the snapshots and runs the rules.
fn examine(
    args: &DoctorArgs,
    wanted: Option<&[&str]>,
    thresholds: &Thresholds,
) -> anyhow::Result<(Session, Diagnosis, Snapshot)> {
    let mut session = Session::open(&args.common)?;
    let owners = !args.common.no_owners;
    session.live.cgroups = owners;
    let closers = match args.trace {
        Some(time) => closers(time, &mut session)?,
        None => BTreeMap::new(),
    };
    let started = Instant::now();
    let mut first = session.live.snapshot(owners)?;
    first.known_owners.extend(closers.clone());
    let mut diagnosis = session.examine(&mut first, None, wanted, thresholds);
    let worth = args.interval.is_some() || !diagnosis.wants_second.is_empty();
    if args.once || !worth {
        let suspects = std::mem::take(&mut diagnosis.wants_second);
        for (rule, why) in suspects {
            diagnosis.not_checked.push((rule, format!("needs a second sample: {why}")));
        }
        if args.once {
            let two = RULES.iter().filter(|r| r.samples == Samples::Two && wanted.is_none_or(|w| w.contains(&r.id)));
            for rule in two {
                if !diagnosis.not_checked.iter().any(|(id, _)| *id == rule.id) {
                    diagnosis.not_checked.push((rule.id, "needs a second sample".into()));
                }
            }
        }
        return Ok((session, diagnosis, first));
    }
    std::thread::sleep(args.interval.unwrap_or(DEFAULT_INTERVAL).saturating_sub(started.elapsed()));
    let mut second = session.live.snapshot(owners)?;
    second.known_owners.extend(closers);
    session.interval_ms = Some(second.monotonic_ms.saturating_sub(first.monotonic_ms));
    let mut diagnosis = session.examine(&mut second, Some(&first), wanted, thresholds);
    for (rule, why) in std::mem::take(&mut diagnosis.wants_second) {
        diagnosis.not_checked.push((rule, format!("needs another sample: {why}")));
    }
    Ok((session, diagnosis, second))
}

/// Which end sent the first FIN of each connection, traced for this time; a gap if it cannot be traced.
fn closers(time: Duration, session: &mut Session) -> anyhow::Result<BTreeMap<(Option<NetnsId>, u64), KnownOwner>> {
    let mut found = BTreeMap::new();
    let scope = session.live.netns().map_or(Scope::Host, |id| Scope::Among(vec![Some(id)]));
    let mut changes = match changes::bpf(TRACE_RING_BYTES, scope, Faults::NONE) {
        Ok(changes) => changes,
        Err(gap) => {
            session.gaps.push(gap);
            return Ok(found);
        }
    };
    session.gaps.extend(changes.gaps());
    let started = Instant::now();
    loop {
        let left = time.saturating_sub(started.elapsed());
        changes.drain(left, &mut |event| {
            let Event::Change(t) = event else { return };
            let closes = t.new == State::FinWait1 && t.by_call;
            if let (true, Some(cookie), Some(By::Process(actor))) = (closes, t.cookie, &t.by) {
                let owner = KnownOwner {
                    pid: actor.pid,
                    comm: actor.comm.to_string(),
                    confidence: OwnerEvidence::Traced.confidence(),
                    reason: "it sent the first FIN, as traced".into(),
                };
                found.insert((t.netns, cookie), owner);
            }
        })?;
        if left.is_zero() {
            break;
        }
    }
    let lost = changes.lost().map_or(0, |l| l.total());
    if lost > 0 {
        let missing = Missing::Closers { connections: None };
        session.gaps.push(Gap::new(missing, Why::ChangesLost { lost }, WayOut::None));
    }
    Ok(found)
}

fn perfdata(snapshot: &Snapshot) -> Vec<(String, u64)> {
    let mut counts = crate::aggregate::Counts::default();
    for socket in &snapshot.sockets {
        counts.add(socket.state);
    }
    let mut data: Vec<(String, u64)> = State::ALL.iter().map(|s| (s.key().to_owned(), counts.get(*s))).collect();
    data.push(("total".into(), counts.total()));
    data
}
