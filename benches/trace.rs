//! `cargo bench --bench trace`: what it costs to record every change of state, and from which rate on changes are lost.
//!
//! Comes in: options after `--`. Goes out: two tables, on standard output or in docs/PERFORMANCE.md. Never here: a pass or
//! fail by time.
//!
//! A process of its own (`stage`) opens and closes connections over loopback in a private network namespace, at a given rate
//! or as fast as one core can. Every tracer in turn watches the same load and writes to memory. What it says
//! that it saw and lost is compared with what was made. Its CPU is that of the whole process, less what the same process
//! uses when nothing happens; what it costs in the kernel shows as CPU of the load.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    unsafe_code,
    reason = "a command of its own, that asks the kernel and talks to people"
)]
#![allow(dead_code, reason = "netns and stage serve other benches too")]

mod netns;
mod stage;

use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process};
use stage::{Load, PATIENCE, Stage, median, wait};
use tcpstate::text::grouped;

/// Measures tcpstate trace and its peers under one load.
#[derive(Parser, Debug)]
#[command(name = "cargo bench --bench trace --")]
struct Options {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Measurements of which the median is shown
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only tracers whose name contains this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Put the tables into docs/PERFORMANCE.md
    #[arg(long)]
    write_docs: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

const PERFORMANCE_PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PERFORMANCE.md");
const MARKS: [&str; 2] = ["<!-- trace:begin -->", "<!-- trace:end -->"];
/// Changes per second; 0 is as fast as one core can.
const RATES: [u64; 4] = [50_000, 100_000, 200_000, 0];
/// The rate at which CPU is compared: the project's target.
const TARGET: u64 = 100_000;

/// A tracer, and how to read what it says.
struct Subject {
    name: &'static str,
    program: Program,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Tcpstate,
    Bpftrace,
    Bcc,
}

const BPFTRACE: &str = "BEGIN { printf(\"ready\\n\"); } tracepoint:sock:inet_sock_set_state \
    /args->protocol == 6 && (args->sport == 7900 || args->dport == 7900)/ \
    { printf(\"%lld %d %s %s:%d %s:%d %d %d\\n\", nsecs, pid, comm, ntop(args->saddr), args->sport, ntop(args->daddr), \
    args->dport, args->oldstate, args->newstate); }";
/// bpftrace and bcc want tracefs mounted where it usually is.
const WITH_TRACEFS: &str = "mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null; \
    mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null; exec \"$@\"";

const SUBJECTS: [Subject; 8] = [
    ours("tcpstate trace", &["--via", "bpf", "--this-netns"]),
    ours("tcpstate trace --json", &["--via", "bpf", "--this-netns", "--json"]),
    ours("tcpstate trace --life", &["--via", "bpf", "--this-netns", "--life"]),
    ours("tcpstate trace --summary", &["--via", "bpf", "--this-netns", "--summary", "1h"]),
    ours("tcpstate trace --via tracefs", &["--via", "tracefs", "sport = :7900 or dport = :7900"]),
    Subject {
        name: "bpftrace, one printf",
        program: Program::Bpftrace,
        arguments: &["bpftrace", "-e", BPFTRACE],
        environment: &[],
    },
    Subject {
        name: "bcc tcpstates -L",
        program: Program::Bcc,
        arguments: &["tcpstates-bpfcc", "-L", "7900"],
        environment: &[("PYTHONUNBUFFERED", "1")],
    },
    Subject {
        name: "bcc tcplife -L",
        program: Program::Bcc,
        arguments: &["tcplife-bpfcc", "-L", "7900"],
        environment: &[("PYTHONUNBUFFERED", "1")],
    },
];

/// The same with so little room that changes must be lost.
const FORCED: [Subject; 3] = [
    ours("tcpstate trace, ring of 4 KiB", &["--via", "bpf", "--this-netns", "--ring-size", "4k"]),
    // Ends of clients alone, as the kernel can tell those for sure: five of ten changes.
    ours("tcpstate trace --via tracefs, rings of 8 KiB", &["--via", "tracefs", "--ring-size", "4k", "dport = :7900"]),
    Subject {
        name: "bpftrace, rings of one page",
        program: Program::Bpftrace,
        arguments: &["bpftrace", "-e", BPFTRACE],
        environment: &[("BPFTRACE_PERF_RB_PAGES", "1")],
    },
];

const fn ours(name: &'static str, arguments: &'static [&'static str]) -> Subject {
    Subject { name, program: Program::Tcpstate, arguments, environment: &[] }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let outcome = match arguments.get(1).map(String::as_str) {
        Some("role:stage") => stage::play(),
        // `cargo test --all-targets` starts this as well: a test run is no place to measure.
        _ if !arguments.iter().any(|a| a == "--bench" || a == "--help") => {
            println!("nothing is measured in a test run; use `cargo bench --bench trace`");
            Ok(())
        }
        _ => measure(&Options::parse()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trace: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a tracer did.
#[derive(Clone, Copy, Debug)]
struct Run {
    load: Load,
    cpu_ms: f64,
    seen: u64,
    lost: u64,
}

/// Runs a tracer over one load; no load is none to the tracer, for the same time.
fn run(subject: &Subject, stage: &mut Stage, rate: Option<u64>, seconds: f64) -> Result<Run> {
    let memory = |name: &str| memfd_create(name, MemfdFlags::CLOEXEC).map(File::from);
    let (out, errors) = (memory("output")?, memory("errors")?);
    let mut command = match subject.program {
        Program::Tcpstate => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tcpstate"));
            command.arg("trace").args(subject.arguments);
            command
        }
        Program::Bpftrace | Program::Bcc => {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", WITH_TRACEFS, "sh"]).args(subject.arguments);
            command
        }
    };
    command.envs(subject.environment.iter().copied()).stdin(Stdio::null());
    command.stdout(out.try_clone()?).stderr(errors.try_clone()?);
    netns::tie_to_us(&mut command, Some(stage.namespace.as_fd()));
    let mut child = command.spawn().context("start it")?;
    let since = Instant::now();
    loop {
        let text = stage::text_of(&out)? + &stage::text_of(&errors)?;
        if ["trace: from", "\"type\":\"header\"", "ready\n", "SKADDR", "LADDR"].iter().any(|mark| text.contains(mark)) {
            break;
        }
        if child.try_wait()?.is_some() || since.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
            bail!("{}", last.trim());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // It has just started, and some compile until now.
    std::thread::sleep(Duration::from_millis(200));
    let load = if let Some(rate) = rate {
        stage.play(rate, seconds)?
    } else {
        std::thread::sleep(Duration::from_secs_f64(seconds));
        Load { changes: 0, seconds, cpu_ms: 0.0 }
    };
    std::thread::sleep(Duration::from_millis(300));
    kill_process(Pid::from_child(&child), Signal::INT).context("interrupt it")?;
    let cpu_ms = wait(&child)?;
    let (seen, lost) = judge(subject.program, &stage::text_of(&out)?, &stage::text_of(&errors)?);
    Ok(Run { load, cpu_ms, seen, lost })
}

/// How many changes it says it saw and lost.
fn judge(program: Program, out: &str, errors: &str) -> (u64, u64) {
    let before = |text: &str, word: &str| -> u64 {
        let left = text.split(word).next().unwrap_or_default();
        left.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    match program {
        Program::Tcpstate => {
            if let Some(end) = errors.lines().find(|line| line.contains(" shown of ")) {
                return (before(end, " changes"), before(end, " lost"));
            }
            let end = out.lines().last().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let number = |key: &str| end.as_ref().and_then(|end| end.get(key)?.as_u64()).unwrap_or(0);
            (number("transitions"), number("lost"))
        }
        Program::Bpftrace | Program::Bcc => {
            let lost = out.lines().chain(errors.lines()).filter_map(|line| line.split("Lost ").nth(1));
            let lost = lost.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).sum();
            (out.lines().filter(|line| line.contains("7900")).count() as u64, lost)
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    let mut stage = Stage::start()?;
    let mut markdown = stage::about();
    let wanted = |subject: &&Subject| options.only.as_ref().is_none_or(|only| subject.name.contains(only.as_str()));
    let mut bare: Vec<Vec<Load>> = vec![Vec::new(); RATES.len()];
    let subjects: Vec<&Subject> = SUBJECTS.iter().filter(wanted).collect();
    let mut runs: Vec<Result<Vec<Vec<Run>>, String>> =
        subjects.iter().map(|_| Ok(vec![Vec::new(); RATES.len()])).collect();
    let mut idle: Vec<Vec<f64>> = vec![Vec::new(); subjects.len()];
    for round in 0..options.rounds.max(1) {
        for (bare, rate) in bare.iter_mut().zip(RATES) {
            bare.push(stage.play(rate, options.seconds)?);
        }
        for turn in 0..subjects.len() {
            let at = (turn + round) % subjects.len();
            eprintln!("  round {}: {}", round + 1, subjects[at].name);
            let Ok(rows) = &mut runs[at] else { continue };
            let mut all = || -> Result<()> {
                idle[at].push(run(subjects[at], &mut stage, None, options.seconds)?.cpu_ms);
                for (row, rate) in rows.iter_mut().zip(RATES) {
                    row.push(run(subjects[at], &mut stage, Some(rate), options.seconds)?);
                }
                Ok(())
            };
            if let Err(why) = all() {
                runs[at] = Err(format!("{why:#}"));
            }
        }
    }
    let target = RATES.iter().position(|rate| *rate == TARGET).unwrap_or(0);
    let per_100k = |ms: f64, changes: u64| ms * 1e5 / changes as f64;
    let load_cpu = |loads: &mut dyn Iterator<Item = Load>| median(loads.map(|l| per_100k(l.cpu_ms, l.changes)));
    let flat = |loads: &mut dyn Iterator<Item = Load>| median(loads.map(|l| l.changes as f64 / l.seconds));
    markdown.push_str("| tracer | its CPU, ms per 100,000 changes | the load's CPU, ms per 100,000 changes |");
    for rate in RATES.iter().filter(|rate| **rate > 0) {
        let _ = write!(markdown, " lost at {}/s |", grouped(*rate));
    }
    markdown.push_str(" flat out, changes/s | lost then |\n|---|---|---|---|---|---|---|---|\n");
    let bare_cpu = load_cpu(&mut bare[target].iter().copied());
    let bare_flat = flat(&mut bare[RATES.len() - 1].iter().copied());
    let _ = writeln!(markdown, "| none | - | {bare_cpu:.0} | - | - | - | {} | - |", grouped(bare_flat as u64));
    for ((subject, runs), idle) in subjects.iter().zip(&runs).zip(&idle) {
        let runs = match runs {
            Ok(runs) => runs,
            Err(why) => {
                let _ = writeln!(markdown, "| {} | n/a: {why} | | | | | | |", subject.name);
                continue;
            }
        };
        let idle = median(idle.iter().copied());
        let cpu = median(runs[target].iter().map(|r| per_100k((r.cpu_ms - idle).max(0.0), r.load.changes)));
        let load = load_cpu(&mut runs[target].iter().map(|r| r.load));
        let rate = flat(&mut runs[RATES.len() - 1].iter().map(|r| r.load));
        let _ = write!(markdown, "| {} | {cpu:.0} | {load:.0} |", subject.name);
        for (i, row) in runs.iter().enumerate() {
            if i + 1 == RATES.len() {
                let _ = write!(markdown, " {} |", grouped(rate as u64));
            }
            // Of tcplife a line is a connection's end, and no change.
            let counted = !subject.name.contains("tcplife");
            let _ = write!(markdown, " {} |", if counted { share_lost(row) } else { "-".into() });
        }
        markdown.push('\n');
    }
    markdown.push_str("\nLoss forced: as fast as one core can, and hardly any room.\n\n");
    markdown
        .push_str("| tracer | changes made | seen | said to be lost | not accounted for |\n|---|---|---|---|---|\n");
    for subject in FORCED.iter().filter(wanted) {
        eprintln!("  {}", subject.name);
        match run(subject, &mut stage, Some(0), options.seconds) {
            Ok(run) => {
                let ends = if subject.arguments.contains(&"dport = :7900") { 2 } else { 1 };
                let made = run.load.changes / ends;
                let missing = made.cast_signed() - (run.seen + run.lost).cast_signed();
                let [made, seen, lost] = [made, run.seen, run.lost].map(grouped);
                let _ = writeln!(markdown, "| {} | {made} | {seen} | {lost} | {missing} |", subject.name);
            }
            Err(why) => {
                let _ = writeln!(markdown, "| {} | n/a: {why:#} | | | |", subject.name);
            }
        }
    }
    println!("{markdown}");
    if options.write_docs {
        stage::write_docs(PERFORMANCE_PAGE, MARKS, &markdown)?;
    }
    Ok(())
}

/// Lost changes of all rounds, as said, and what is missing beyond that.
fn share_lost(runs: &[Run]) -> String {
    let sum = |of: fn(&Run) -> u64| runs.iter().map(of).sum::<u64>();
    let (made, seen, lost) = (sum(|r| r.load.changes), sum(|r| r.seen), sum(|r| r.lost));
    let silent = made.saturating_sub(seen + lost);
    let percent = |n: u64| n as f64 * 100.0 / made as f64;
    match (lost, silent) {
        (0, 0) => "0".into(),
        (lost, 0) => format!("{:.1} %", percent(lost)),
        (0, silent) => format!("0 said, {} missing", grouped(silent)),
        (lost, silent) => format!("{:.1} %, and {} missing", percent(lost), grouped(silent)),
    }
}
