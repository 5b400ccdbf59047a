//! `tcpstate doctor`: the diagnosis, as a report, JSON, or the line of a monitoring plugin.
//!
//! Takes one snapshot, and a second one only if a rule that might fire needs it.

mod hosts;
mod over;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use serde_json::{Value as Json, json};

use crate::cli::args::{Common, Origin};
use crate::cli::config;
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::interval::IntervalTrace;
use crate::cli::parse::{self, Assignment};
use crate::cli::session::Session;
use crate::cli::stretch::{Range, Stretch};
use crate::diagnose::{Diagnosis, RULES, Rule, Samples, Severity, Thresholds};
use crate::model::{Gap, Snapshot, Source, State};
use crate::render::{course, gap as words, json as out, report};
use crate::watch::Course;

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
  tcpstate doctor --from now.tcps.zst --since 10m    what came and went in the last 10 minutes of a recording

Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 wrong usage or nothing could be read; \
with --nagios 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, mut_args(Range::without_at))]
pub struct DoctorArgs {
    /// Take a second sample after this time [default: 2s, and only if a rule needs it or a trace is permitted]
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
    /// Do not trace between the two samples; without this option they are traced where that is permitted
    #[arg(long, conflicts_with = "trace", help_heading = "Diagnosis")]
    pub no_trace: bool,
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
    #[command(flatten)]
    pub range: Range,
    #[command(flatten)]
    pub common: Common,
}

/// What was looked at, and what the rules say.
struct Examined {
    session: Session,
    diagnosis: Diagnosis,
    snapshot: Snapshot,
    /// Over a part of a recording: what was found when.
    course: Option<Course>,
}

pub(crate) fn run(args: &DoctorArgs, env: &mut Env) -> anyhow::Result<Exit> {
    let settings = config::load(args, env)?;
    if args.show_thresholds {
        env.stdout.write_all(settings.table().as_bytes())?;
        return Ok(Exit::Done);
    }
    let wanted = (!args.rule.is_empty()).then(|| args.rule.clone());
    let mut opened = match open(args) {
        Ok(opened) => opened,
        Err(error) => return failed(error, args, env),
    };
    let asked = Asked { args, wanted: wanted.as_deref(), thresholds: &settings.thresholds };
    if opened.hosts.len() > 1 {
        return hosts::run(opened, &asked, env);
    }
    let Some(source) = opened.hosts.pop() else { bail!("there is no host") };
    let Examined { mut session, mut diagnosis, snapshot, course } = match asked.examine(source) {
        Ok(done) => done,
        Err(error) => return failed(error, args, env),
    };
    session.notes.append(&mut opened.notes);
    let min = args.min_severity;
    let judged = asked.rules();
    if args.nagios {
        let (code, text) = report::nagios(&diagnosis, &perfdata(&snapshot));
        env.stdout.write_all(text.as_bytes())?;
        return Ok(Exit::Nagios(code));
    }
    if let Some(to) = env.json(args.common.json) {
        let mut map = out::head(&session.head("doctor"));
        map.insert("rules".into(), json!(judged));
        map.insert("sockets".into(), json!(snapshot.sockets.len()));
        map.insert("interval_ms".into(), json!(session.interval_ms));
        map.insert("traced".into(), out::traced(snapshot.traced.as_ref()));
        map.insert("findings".into(), out::findings(&diagnosis, min));
        map.insert("incidents".into(), incidents(&diagnosis, min, &snapshot, course.as_ref()));
        map.insert("course".into(), json!(course.as_ref().map(course::document)));
        map.insert("not_checked".into(), out::not_checked(&diagnosis));
        map.insert("gaps".into(), out::gaps(&session.gaps));
        out::write_document(to, &Json::Object(map))?;
    }
    if env.wants_text(args.common.json) {
        let mut text = String::new();
        write_text(&mut text, &asked, &session, &mut diagnosis, (&snapshot, course.as_ref()), env);
        env.stdout.write_all(text.as_bytes())?;
        session.print_gaps(env, &args.common)?;
    } else {
        session.print_notes(env)?;
    }
    if args.common.strict && !session.gaps.is_empty() {
        return Ok(Exit::Failed);
    }
    if env.document.is_none() {
        // The process ends here: freeing a hundred thousand rows one by one would take as long as a rule.
        std::mem::forget(snapshot);
    }
    Ok(asked.exit(&diagnosis))
}

/// A monitoring system expects UNKNOWN when the check itself failed.
fn failed(error: anyhow::Error, args: &DoctorArgs, env: &mut Env) -> anyhow::Result<Exit> {
    if !args.nagios {
        return Err(error);
    }
    writeln!(env.stdout, "TCPSTATE UNKNOWN - {error:#}")?;
    Ok(Exit::Nagios(3))
}

/// What is looked at: a moment, or a part of a recording.
enum Sample {
    Moment(Box<Session>),
    Part(Box<Stretch>),
}

/// Every host that is looked at, and which were left out, in sentences.
struct Opened {
    hosts: Vec<Sample>,
    notes: Vec<String>,
}

fn open(args: &DoctorArgs) -> anyhow::Result<Opened> {
    let replay = &args.common.replay;
    let opened = if args.range.is_named() {
        if args.once || args.trace.is_some() {
            bail!("--since and --until compare recorded snapshots; leave out --once and --trace");
        }
        let (stretches, notes) = Stretch::open_all(replay, args.range)?;
        Opened { hosts: stretches.into_iter().map(|stretch| Sample::Part(Box::new(stretch))).collect(), notes }
    } else {
        let sessions = Session::open_all(&args.common)?.into_iter();
        Opened { hosts: sessions.map(|session| Sample::Moment(Box::new(session))).collect(), notes: Vec::new() }
    };
    if args.nagios && opened.hosts.len() > 1 {
        bail!("--nagios is of one host; add --host NAME");
    }
    Ok(opened)
}

/// What the rules are asked.
struct Asked<'a> {
    args: &'a DoctorArgs,
    wanted: Option<&'a [&'static str]>,
    thresholds: &'a Thresholds,
}

impl Asked<'_> {
    /// How many there are.
    fn rules(&self) -> usize {
        self.wanted.map_or(RULES.len(), <[_]>::len)
    }

    /// Looks at a host.
    fn examine(&self, sample: Sample) -> anyhow::Result<Examined> {
        let Asked { args, wanted, thresholds } = self;
        let mut examined = match sample {
            Sample::Moment(session) => {
                let (session, diagnosis, snapshot) = examine(args, *session, *wanted, thresholds)?;
                // Of a stretch each look is taken by itself: who is gone by its end is in it too.
                let diagnosis = of_members(diagnosis, &args.common.origin, &snapshot);
                Examined { session, diagnosis, snapshot, course: None }
            }
            Sample::Part(stretch) => {
                let over::Over { session, course, diagnosis, last } =
                    over::examine(*stretch, args, *wanted, thresholds)?;
                Examined { session, diagnosis, snapshot: last, course: Some(course) }
            }
        };
        let (snapshot, session) = (&examined.snapshot, &mut examined.session);
        session.gaps.extend(snapshot.gaps.iter().cloned());
        if snapshot.owners.collected {
            session.gaps.extend(examined.diagnosis.coverage.gap(&snapshot.owners, session.live.looker()));
        }
        Ok(examined)
    }

    fn exit(&self, diagnosis: &Diagnosis) -> Exit {
        if diagnosis.findings.iter().any(|f| f.severity >= self.args.fail_on) { Exit::No } else { Exit::Done }
    }
}

/// The incidents; over a part of a recording with the times at which they were there.
fn incidents(diagnosis: &Diagnosis, min: Severity, snapshot: &Snapshot, course: Option<&Course>) -> Json {
    let mut incidents = out::incidents(diagnosis, min, snapshot.taken_at_ms);
    if let Some(course) = course {
        course::settle_times(&mut incidents, course);
    }
    incidents
}

/// Appends the report of a host.
fn write_text(
    text: &mut String,
    asked: &Asked<'_>,
    session: &Session,
    diagnosis: &mut Diagnosis,
    (snapshot, course): (&Snapshot, Option<&Course>),
    env: &Env,
) {
    let args = asked.args;
    if session.live.spaces().len() > 1 {
        name_namespaces(diagnosis, session);
    }
    let ran = report::Ran {
        sockets: snapshot.sockets.len(),
        rules: asked.rules(),
        one_look: session.interval_ms.is_none() && course.is_none(),
        may_look_again: args.once && session.history.is_none(),
        at_end: course.is_some(),
    };
    let course = course.map(|course| (course, snapshot.host.as_str()));
    let shown = report::Shown { at_least: args.min_severity, ran, verbose: args.verbose, course };
    report::write_report(text, diagnosis, shown, env.style(args.common.color));
}

/// With a container or a pod named, what is found of its processes, and what has no process: a network namespace may be
/// that of others too.
fn of_members(diagnosis: Diagnosis, origin: &Origin, snapshot: &Snapshot) -> Diagnosis {
    if !origin.names_members() {
        return diagnosis;
    }
    let (container, pod) = (origin.container.as_deref(), origin.pod.as_deref());
    let processes = snapshot.owners.processes.iter().filter(|p| p.identity.is_member(container, pod));
    let members: Vec<u32> = processes.map(|p| p.pid).collect();
    diagnosis.retain(|finding| {
        let subject = &finding.subject;
        let mut pids = subject.pid.iter().chain(&subject.pids).peekable();
        pids.peek().is_none() || pids.any(|pid| members.contains(pid))
    })
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
    mut session: Session,
    wanted: Option<&[&str]>,
    thresholds: &Thresholds,
) -> anyhow::Result<(Session, Diagnosis, Snapshot)> {
    let owners = !args.common.no_owners;
    session.live.cgroups = owners;
    if matches!(session.live.source(), Source::Capture | Source::Text) {
        return replayed(args, session, wanted, thresholds);
    }
    let (trace, refused) = match begin_trace(args, &session, wanted) {
        Ok(trace) => (trace, None),
        Err(gap) => (None, Some(gap)),
    };
    let started = Instant::now();
    let mut first = session.live.snapshot(owners)?;
    first.known_owners.extend(trace.as_ref().map(IntervalTrace::closers).unwrap_or_default());
    let mut diagnosis = session.examine(&mut first, None, wanted, thresholds);
    let worth = args.interval.is_some() || trace.is_some() || !diagnosis.wants_second.is_empty();
    if args.once || !worth {
        tell_refusal(args, refused, wanted, &mut session, &mut diagnosis);
        session.gaps.extend(trace.iter().flat_map(IntervalTrace::gaps));
        without_second(&mut diagnosis, wanted, args.once);
        return Ok((session, diagnosis, first));
    }
    std::thread::sleep(args.interval.unwrap_or(DEFAULT_INTERVAL).saturating_sub(started.elapsed()));
    let mut second = session.live.snapshot(owners)?;
    if let Some(trace) = trace {
        second.known_owners.extend(trace.closers());
        second.traced = Some(trace.interval(&[&first, &second]));
        session.gaps.extend(trace.gaps());
    }
    session.interval_ms = Some(second.monotonic_ms.saturating_sub(first.monotonic_ms));
    let mut diagnosis = session.examine(&mut second, Some(&first), wanted, thresholds);
    undecided(&mut diagnosis, "another");
    tell_refusal(args, refused, wanted, &mut session, &mut diagnosis);
    Ok((session, diagnosis, second))
}

/// The same over a recording: the snapshot of the moment, and the one before it.
fn replayed(
    args: &DoctorArgs,
    mut session: Session,
    wanted: Option<&[&str]>,
    thresholds: &Thresholds,
) -> anyhow::Result<(Session, Diagnosis, Snapshot)> {
    if args.trace.is_some() {
        bail!("--trace needs the running system; a capture has what was traced when it was recorded");
    }
    let mut now = session.live.snapshot(true)?;
    let earlier = session.history.as_mut().filter(|_| !args.once).and_then(|history| history.before(args.interval));
    let before = earlier.map(|recorded| recorded.snapshot);
    session.interval_ms = before.as_ref().map(|before| now.monotonic_ms.saturating_sub(before.monotonic_ms));
    let mut diagnosis = session.examine(&mut now, before.as_ref(), wanted, thresholds);
    match before {
        Some(_) => undecided(&mut diagnosis, "another"),
        None => without_second(&mut diagnosis, wanted, true),
    }
    Ok((session, diagnosis, now))
}

/// What a rule wants to see again was not seen.
fn undecided(diagnosis: &mut Diagnosis, which: &str) {
    // They stay: a report tells first what is suspected.
    for (rule, why) in &diagnosis.wants_second {
        diagnosis.not_checked.push((rule, format!("needs {which} sample: {why}")));
    }
}

/// After one sample. `all`: nobody asked the rules that take two whether a second one is worth its time.
fn without_second(diagnosis: &mut Diagnosis, wanted: Option<&[&str]>, all: bool) {
    undecided(diagnosis, "a second");
    let two = RULES.iter().filter(|r| all && r.samples == Samples::Two && wanted.is_none_or(|w| w.contains(&r.id)));
    for rule in two {
        if !diagnosis.not_checked.iter().any(|(id, _)| *id == rule.id) {
            diagnosis.not_checked.push((rule.id, "needs a second sample".into()));
        }
    }
}

/// Begins to trace where it is wanted; why it cannot be done.
fn begin_trace(args: &DoctorArgs, session: &Session, wanted: Option<&[&str]>) -> Result<Option<IntervalTrace>, Gap> {
    // Another host's /proc shows sockets that no trace here sees.
    let elsewhere = args.common.origin.proc_root.is_some();
    let unwanted = args.no_trace || args.once || elsewhere || traced_rules(wanted).next().is_none();
    if args.trace.is_none() && unwanted {
        return Ok(None);
    }
    let trace = IntervalTrace::begin(session)?;
    std::thread::sleep(args.trace.unwrap_or_default());
    trace.restart();
    Ok(Some(trace))
}

/// The rules that judge what was traced.
fn traced_rules(wanted: Option<&[&str]>) -> impl Iterator<Item = &'static Rule> {
    RULES.iter().filter(move |r| r.reads_trace && wanted.is_none_or(|w| w.contains(&r.id)))
}

/// A trace that was asked for and cannot be is a gap; else the report says what it would add.
fn tell_refusal(
    args: &DoctorArgs,
    refused: Option<Gap>,
    wanted: Option<&[&str]>,
    session: &mut Session,
    diagnosis: &mut Diagnosis,
) {
    let Some(gap) = refused else { return };
    if args.trace.is_some() {
        session.gaps.push(gap);
        return;
    }
    let why = format!("what fails between two samples, where and why, takes a trace: {}", words::why(&gap.why));
    for rule in traced_rules(wanted) {
        diagnosis.not_checked.push((rule.id, why.clone()));
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
