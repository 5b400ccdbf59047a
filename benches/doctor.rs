//! `cargo bench --bench doctor`: what it costs that `doctor` traces between its two samples.
//!
//! Comes in: options after `--`. Goes out: a table, on standard output or in docs/PERFORMANCE.md. Never here: a pass or fail by
//! time.
//!
//! By turns `doctor` with and without its trace looks at the same load (`stage`), and at none. What the trace adds to its CPU is
//! the difference of both in the same run; what its programs take in the kernel, the kernel counts.
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

use anyhow::{Context, Result};
use clap::Parser;
use rustix::fs::{MemfdFlags, memfd_create};
use stage::{CHANGES, Stage, median, wait};
use tcpstate::text::grouped;

/// Measures the trace of tcpstate doctor.
#[derive(Parser, Debug)]
#[command(name = "cargo bench --bench doctor --")]
struct Options {
    /// Connections a second
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Measurements of which the median is shown
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Measure this build
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_tcpstate"))]
    tcpstate: String,
    /// Put the table into docs/PERFORMANCE.md
    #[arg(long)]
    write_docs: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

const PERFORMANCE_PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PERFORMANCE.md");
const MARKS: [&str; 2] = ["<!-- doctor:begin -->", "<!-- doctor:end -->"];
/// The first sample is taken within this time.
const BEFORE: Duration = Duration::from_millis(600);
/// The load fits between the two samples.
const INTERVAL: &str = "3s";
const LOAD_SECONDS: f64 = 2.0;
/// The interval of a `doctor` without options, in seconds.
const DEFAULT_INTERVAL: f64 = 2.0;
const BPF_STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// Of one core, in percent.
const BUDGET: f64 = 5.0;
/// Of a `doctor` without options, in seconds.
const DEFAULT_BUDGET: f64 = 3.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let outcome = match arguments.get(1).map(String::as_str) {
        Some("role:stage") => stage::play(),
        // `cargo test --all-targets` starts this as well: a test run is no place to measure.
        _ if !arguments.iter().any(|a| a == "--bench" || a == "--help") => {
            println!("nothing is measured in a test run; use `cargo bench --bench doctor`");
            Ok(())
        }
        _ => measure(&Options::parse()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("doctor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One look.
struct Look {
    connections: u64,
    cpu_ms: f64,
    seconds: f64,
    /// Of its BPF programs, as the kernel counts it.
    kernel_ms: f64,
    /// First FINs that the trace saw, and events that it lost.
    seen: u64,
    lost: u64,
}

/// Looks at the load, or at nothing.
fn look(options: &Options, stage: &mut Stage, words: &[&str], loaded: bool) -> Result<Look> {
    let out = File::from(memfd_create("output", MemfdFlags::CLOEXEC)?);
    let mut command = Command::new(&options.tcpstate);
    command.args(["doctor", "--json"]).args(words).stdin(Stdio::null()).stderr(Stdio::null());
    command.stdout(out.try_clone()?);
    netns::tie_to_us(&mut command, Some(stage.namespace.as_fd()));
    let since = Instant::now();
    let child = command.spawn().context("start it")?;
    std::thread::sleep(BEFORE);
    let connections = if loaded {
        stage.play(options.rate * CHANGES, LOAD_SECONDS)?.changes / CHANGES
    } else {
        std::thread::sleep(Duration::from_secs_f64(LOAD_SECONDS));
        0
    };
    let kernel_ms = kernel_ms(child.id());
    let cpu_ms = wait(&child)?;
    let seconds = since.elapsed().as_secs_f64();
    let report: serde_json::Value = serde_json::from_str(&stage::text_of(&out)?).context("read its report")?;
    let number = |key: &str| report["traced"][key].as_u64().unwrap_or(0);
    Ok(Look { connections, cpu_ms, seconds, kernel_ms, seen: number("closed_here_first"), lost: number("lost") })
}

/// The time that the BPF programs of a process have run.
fn kernel_ms(pid: u32) -> f64 {
    let files = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    let times =
        texts.filter_map(|text| text.lines().find_map(|l| l.strip_prefix("run_time_ns:")?.trim().parse::<u64>().ok()));
    times.sum::<u64>() as f64 / 1e6
}

/// The kernel counts the time of BPF programs while this lives.
struct Counting(String);

impl Counting {
    fn begin() -> Result<Counting> {
        let before = std::fs::read_to_string(BPF_STATS).with_context(|| format!("read {BPF_STATS}"))?;
        std::fs::write(BPF_STATS, "1").with_context(|| format!("write {BPF_STATS}"))?;
        Ok(Counting(before))
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let _ = std::fs::write(BPF_STATS, self.0.trim());
    }
}

fn measure(options: &Options) -> Result<()> {
    let _counting = Counting::begin()?;
    let mut stage = Stage::start()?;
    let traced: &[&str] = &["--interval", INTERVAL];
    let untraced: &[&str] = &["--no-trace", "--interval", INTERVAL];
    // With the trace and without it, each under load and without load.
    let cells = [(traced, true), (untraced, true), (traced, false), (untraced, false)];
    let mut looks: [Vec<Look>; 4] = Default::default();
    let mut default = Vec::new();
    for round in 0..options.rounds.max(1) {
        eprintln!("  round {}", round + 1);
        for turn in 0..cells.len() {
            let at = (turn + round) % cells.len();
            let (words, loaded) = cells[at];
            looks[at].push(look(options, &mut stage, words, loaded)?);
        }
        default.push(look(options, &mut stage, &[], true)?.seconds);
    }
    let cpu = |at: usize| median(looks[at].iter().map(|l: &Look| l.cpu_ms));
    let rate = |at: usize| median(looks[at].iter().map(|l| l.connections as f64 / LOAD_SECONDS));
    let fixed_ms = cpu(2) - cpu(3);
    let own_us = (cpu(0) - cpu(1) - fixed_ms).max(0.0) * 1e3 / (rate(0) * LOAD_SECONDS);
    let kernel_us = median(looks[0].iter().map(|l| l.kernel_ms * 1e3 / l.connections as f64));
    let mut table = stage::about();
    table.push_str("| doctor | connections/s | its CPU, ms | its CPU where nothing happens, ms |\n|---|---|---|---|\n");
    for (name, loaded, idle) in [("with its trace", 0, 2), ("without it", 1, 3)] {
        let (rate, loaded, idle) = (grouped(rate(loaded) as u64), cpu(loaded), cpu(idle));
        let _ = writeln!(table, "| {name} | {rate} | {loaded:.0} | {idle:.0} |");
    }
    let sum = |of: fn(&Look) -> u64| grouped(looks[0].iter().map(of).sum::<u64>());
    let (made, seen, lost) = (sum(|l| l.connections), sum(|l| l.seen), sum(|l| l.lost));
    let _ = writeln!(table, "\nOf {made} connections the trace saw {seen}; {lost} events were lost.");
    let percent = |us: f64| us * options.rate as f64 / 1e4;
    let fixed = fixed_ms / (DEFAULT_INTERVAL * 1e3) * 100.0;
    let whole = percent(own_us + kernel_us) + fixed;
    let verdict = |is: f64, budget: f64| if is <= budget { "ok" } else { "OVER" };
    let longest = default.iter().copied().fold(0.0, f64::max);
    let _ = writeln!(
        table,
        "A connection costs {own_us:.2} us in `doctor` and {kernel_us:.2} us in the kernel's programs; to begin and end the trace \
         {fixed_ms:.0} ms.\nAt {} connections/s that is {whole:.1} % of a core in an interval of {DEFAULT_INTERVAL:.0} s \
         (budget {BUDGET:.0} %: {}).\nA `doctor` without options took {:.2} s, {longest:.2} s at most (budget \
         {DEFAULT_BUDGET:.0} s: {}).",
        grouped(options.rate),
        verdict(whole, BUDGET),
        median(default.iter().copied()),
        verdict(longest, DEFAULT_BUDGET)
    );
    println!("{table}");
    if options.write_docs {
        stage::write_docs(PERFORMANCE_PAGE, MARKS, &table)?;
    }
    Ok(())
}
