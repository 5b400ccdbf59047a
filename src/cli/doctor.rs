//! `tcpstate doctor`: the diagnosis.
//!
//! Comes in: its arguments. Goes out: a report, JSON, or the line of a monitoring plugin. Takes one snapshot, and a
//! second one only if a rule that might fire needs it. Never here: a rule.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::{Value as Json, json};

use crate::cli::args::DoctorArgs;
use crate::cli::config;
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::cli::trace;
use crate::collect::changes::Changes;
use crate::diagnose::view::Inspected;
use crate::diagnose::words;
use crate::diagnose::{self, Diagnosis, RULES, Samples, Severity, Thresholds, View};
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::snapshot::KnownOwner;
use crate::model::transition::By;
use crate::model::{Gap, NetnsId, Snapshot, State};
use crate::render::{json as out, report};

/// Room for 60,000 changes that were not read yet.
const TRACE_RING_BYTES: usize = 8 << 20;

/// The pause between the two snapshots when none is given.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);

pub(crate) fn run(args: &DoctorArgs, env: &mut Env) -> anyhow::Result<Exit> {
    let settings = config::load(args, env)?;
    if args.show_thresholds {
        env.stdout.write_all(settings.table().as_bytes())?;
        return Ok(Exit::Done);
    }
    let wanted = rules(&args.rule)?;
    let min = severity("--min-severity", &args.min_severity)?;
    let fail_on = severity("--fail-on", &args.fail_on)?;
    let result = examine(args, wanted.as_deref(), &settings.thresholds);
    let (mut session, mut diagnosis, snapshot) = match result {
        Ok(done) => done,
        // A monitoring system asks for UNKNOWN when the check itself failed.
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
        let findings: Vec<Json> = diagnosis.findings.iter().filter(|f| f.severity >= min).map(out::finding).collect();
        map.insert("rules".into(), json!(judged));
        map.insert("sockets".into(), json!(snapshot.sockets.len()));
        map.insert("interval_ms".into(), json!(session.interval_ms));
        map.insert("findings".into(), json!(findings));
        map.insert("not_checked".into(), out::not_checked(&diagnosis));
        map.insert("gaps".into(), out::gaps(&session.gaps));
        out::write_document(&mut env.stdout, &Json::Object(map))?;
    } else {
        let mut text = String::new();
        let style = env.style(args.common.color);
        if session.live.spaces().len() > 1 {
            name_namespaces(&mut diagnosis, &session);
        }
        report::write_report(&mut text, &diagnosis, min, snapshot.sockets.len(), judged, style);
        env.stdout.write_all(text.as_bytes())?;
        session.print_gaps(env, &args.common)?;
    }
    if args.common.strict && !session.gaps.is_empty() {
        return Ok(Exit::Failed);
    }
    // The process ends here: giving a hundred thousand rows back one by one first would take as long as a rule.
    std::mem::forget(snapshot);
    Ok(if diagnosis.findings.iter().any(|f| f.severity >= fail_on) { Exit::Found } else { Exit::Done })
}

/// Among several namespaces, says of every finding where it is; JSON has it as `subject.netns`.
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
    let closers = match &args.trace {
        Some(text) => closers(trace::duration("--trace", text)?, &mut session)?,
        None => BTreeMap::new(),
    };
    let started = Instant::now();
    let mut first = session.live.snapshot(owners)?;
    first.known_owners.extend(closers.clone());
    let mut diagnosis = judge(&session, &mut first, None, wanted, thresholds);
    let asked = args.interval.as_deref().map(interval).transpose()?;
    let worth = asked.is_some() || !diagnosis.wants_second.is_empty();
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
    std::thread::sleep(asked.unwrap_or(DEFAULT_INTERVAL).saturating_sub(started.elapsed()));
    let mut second = session.live.snapshot(owners)?;
    second.known_owners.extend(closers);
    session.interval_ms = Some(second.monotonic_ms.saturating_sub(first.monotonic_ms));
    let mut diagnosis = judge(&session, &mut second, Some(&first), wanted, thresholds);
    for (rule, why) in std::mem::take(&mut diagnosis.wants_second) {
        diagnosis.not_checked.push((rule, format!("needs another sample: {why}")));
    }
    Ok((session, diagnosis, second))
}

/// Who sent the first FIN of which connection, as traced for this time; a gap if it cannot be traced.
fn closers(time: Duration, session: &mut Session) -> anyhow::Result<BTreeMap<(Option<NetnsId>, u64), KnownOwner>> {
    let mut found = BTreeMap::new();
    let netns = session.live.netns().and_then(|id| u32::try_from(id.get()).ok());
    let mut changes = match Changes::bpf(TRACE_RING_BYTES, netns) {
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
        changes.next(left, &mut |t| {
            let closes = t.new == State::FinWait1 && t.by_call;
            if let (true, Some(cookie), Some(By::Process(actor))) = (closes, t.cookie, &t.by) {
                let owner = KnownOwner {
                    pid: actor.pid,
                    comm: actor.comm.clone(),
                    confidence: 0.98,
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

/// Runs the rules; if a finding asks what its process does with the sockets, looks, and runs them again.
pub(crate) fn judge(
    session: &Session,
    now: &mut Snapshot,
    before: Option<&Snapshot>,
    wanted: Option<&[&str]>,
    thresholds: &Thresholds,
) -> Diagnosis {
    let inspected = Inspected::new();
    let view = View::new(now, before, thresholds).with_inspected(&inspected);
    let mut diagnosis = diagnose::run(&view, wanted);
    let mut gaps = Vec::new();
    if !diagnosis.inspect.is_empty() {
        let facts = session.live.inspect(now, diagnosis.inspect.iter().copied(), &mut gaps);
        // Nobody has set it before.
        drop(inspected.set(facts));
        diagnosis = diagnose::run(&view, wanted);
    }
    for finding in &mut diagnosis.findings {
        finding.next = words::within(&finding.next, &session.scope);
    }
    now.processes.extend(inspected.into_inner().unwrap_or_default());
    now.gaps.extend(gaps);
    diagnosis
}

/// Findings of one snapshot, for `summary`.
pub(crate) fn brief(session: &Session, snapshot: &mut Snapshot, thresholds: &Thresholds) -> Diagnosis {
    judge(session, snapshot, None, None, thresholds)
}

fn rules(names: &[String]) -> anyhow::Result<Option<Vec<&'static str>>> {
    let mut wanted = Vec::new();
    for name in names.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|n| !n.is_empty()) {
        let Some(rule) = RULES.iter().find(|r| r.id == name.to_ascii_lowercase().replace('_', "-")) else {
            let near = RULES
                .iter()
                .min_by_key(|r| crate::model::column::distance(name, r.id))
                .map_or(String::new(), |r| format!("did you mean `{}`? ", r.id));
            bail!("--rule: `{name}` is not a rule; {near}`tcpstate explain` lists all");
        };
        wanted.push(rule.id);
    }
    Ok((!wanted.is_empty()).then_some(wanted))
}

fn severity(flag: &str, word: &str) -> anyhow::Result<Severity> {
    match Severity::parse(word) {
        Some(severity) => Ok(severity),
        None => bail!("{flag}: `{word}` is not a severity; use info, warning, high or critical"),
    }
}

/// `2s`, `500ms`, `1m`.
pub(crate) fn interval(text: &str) -> anyhow::Result<Duration> {
    let span: jiff::SignedDuration = match text.trim().parse() {
        Ok(span) => span,
        Err(_) => bail!("--interval: `{text}` is not a duration; use a number with a unit, such as 2s or 500ms"),
    };
    match Duration::try_from(span) {
        Ok(duration) if duration >= Duration::from_millis(100) && duration <= Duration::from_secs(86_400) => {
            Ok(duration)
        }
        _ => bail!("--interval: `{text}` is out of range; use 100ms to 1d"),
    }
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
