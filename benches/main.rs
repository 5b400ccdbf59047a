//! `cargo bench`: how far tcpstate is from the least work the kernel allows, and from its peers, in one run.
//!
//! Comes in: options after `--`. Goes out: one table per population, with the ratio to the floor, the budget and the
//! verdict of every row. Never here: a pass or fail by time; the tests do not depend on the speed of a machine.
//!
//! Reading order: [`population`] makes the sockets, [`floor`] is the least work, [`subjects`] lists what is measured
//! and runs it, [`report`] makes the tables. This binary starts itself again in roles (`role:...`) for everything that
//! has to happen in another process: holding sockets, and the floors, so that a floor starts a process as any subject
//! does.
#![allow(
    clippy::disallowed_methods,
    clippy::exit,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unsafe_code,
    reason = "a benchmark measures with the clock, asks the kernel itself and prints"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of a table with three digits, and addresses that wrap on purpose"
)]
#![allow(clippy::doc_markdown, reason = "TCP states are words here, not items")]

mod floor;
mod netns;
mod population;
mod report;
mod subjects;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use tcpstate::text::grouped;

use crate::population::{Plan, Population};
use crate::report::{Outcome, Section};
use crate::subjects::{ALL, Expected, FLOOR, IDLE, NAMESPACES, Program, Runner, Subject, WALK};

/// A round may not be worth starting when the whole run would take longer than the three minutes promised.
const LONGEST_SECTION: Duration = Duration::from_secs(45);
/// The share of its time that a floor, which sleeps never, may wait for a core before the tables say so.
const BUSY: f64 = 0.1;
const FEWEST_ROUNDS: usize = 3;
const ROUNDS_OF_SLOW: usize = 2;
const PERFORMANCE_PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PERFORMANCE.md");

/// Measures tcpstate, the floors and the peers on populations of real sockets in a private network namespace.
#[derive(Parser, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line are independent of each other")]
#[command(name = "cargo bench --")]
struct Options {
    /// Sockets of the `established` and the `mix` population
    #[arg(long, default_value_t = 100_000)]
    sockets: usize,
    /// Sockets of the `time-wait` population
    #[arg(long, default_value_t = 200_000)]
    time_wait: usize,
    /// Rounds; fewer are run when they would take too long or the population would expire
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// Measure only commands whose name contains this (floors are always measured)
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Measure only this population: idle, namespaces, established, mix, time-wait, million, million-time-wait
    #[arg(long, value_name = "NAME")]
    population: Option<String>,
    /// A tenth of the sockets, three rounds, no slow peers
    #[arg(long)]
    quick: bool,
    /// Add two populations of a million: ESTABLISHED (takes 5 GiB of kernel memory) and TIME_WAIT
    #[arg(long)]
    million: bool,
    /// Measure this tcpstate instead of the one built here, to compare two versions
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_tcpstate"), hide_default_value = true)]
    tcpstate: PathBuf,
    /// Put the tables into docs/PERFORMANCE.md
    #[arg(long)]
    write_docs: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// One population with what is measured on it.
struct Task {
    name: &'static str,
    title: String,
    plan: Plan,
    subjects: Vec<&'static Subject>,
    rounds: usize,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(&format!("population: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((role, rest)) = arguments.split_first()
        && role.starts_with("role:")
    {
        return run_role(role, rest);
    }
    // `cargo test --all-targets` starts this as well, without `--bench`: a test run is no place to measure.
    if !arguments.iter().any(|argument| argument == "--bench" || argument == "--help") {
        return say("nothing is measured in a test run; use `cargo bench`");
    }
    measure_all(&Options::parse())
}

fn run_role(role: &str, arguments: &[String]) -> Result<()> {
    if role == "role:floor" {
        let name = arguments.first().context("run a floor: which one?")?;
        return say(&floor::run(name)?);
    }
    population::run_role(role, arguments).unwrap_or_else(|| bail!("run {role:?}: unknown role"))
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("write to standard output")
}

/// Progress goes to standard error, so that standard output is the tables and nothing else.
fn progress(line: &str) {
    // Nobody is helped by an end of the run when nobody reads its progress.
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

fn measure_all(options: &Options) -> Result<()> {
    let started = Instant::now();
    let tasks = tasks(options)?;
    let machine = describe_machine();
    say(&machine)?;
    let mut markdown = format!("{machine}\n");
    for task in &tasks {
        let section = measure(task, &options.tcpstate)?;
        say(&section.as_text())?;
        markdown.push('\n');
        markdown.push_str(&section.as_markdown());
    }
    if options.write_docs {
        let page = std::fs::read_to_string(PERFORMANCE_PAGE).context("read docs/PERFORMANCE.md")?;
        let page = report::with_table(&page, &markdown)
            .context("write docs/PERFORMANCE.md: the table:begin and table:end markers are not there")?;
        std::fs::write(PERFORMANCE_PAGE, page).context("write docs/PERFORMANCE.md")?;
        progress("wrote docs/PERFORMANCE.md");
    }
    progress(&format!("took {:.0} s", started.elapsed().as_secs_f64()));
    Ok(())
}

fn tasks(options: &Options) -> Result<Vec<Task>> {
    let scale = if options.quick { 10 } else { 1 };
    let (sockets, time_wait) = (options.sockets / scale, options.time_wait / scale);
    let rounds = if options.quick { options.rounds.min(FEWEST_ROUNDS) } else { options.rounds }.max(1);
    let wanted = |subject: &&'static Subject| {
        subject.program == Program::Floor || options.only.as_ref().is_none_or(|only| subject.name.contains(only))
    };
    let choose = |owners: bool, slow: bool| -> Vec<&'static Subject> {
        let fits = |subject: &&Subject| (owners || !subject.owners) && (slow || !subject.slow);
        ALL.iter().filter(wanted).filter(fits).collect()
    };
    let mut all = vec![
        Task {
            name: "idle",
            title: "An idle host".to_owned(),
            plan: Plan::idle(),
            subjects: IDLE.iter().filter(wanted).collect(),
            rounds: rounds.max(FEWEST_ROUNDS) * 2,
        },
        Task {
            name: "namespaces",
            title: "200 empty namespaces (the floor asks as often: 200 bare walks)".to_owned(),
            plan: Plan::empty_namespaces(200),
            subjects: NAMESPACES.iter().filter(wanted).collect(),
            rounds,
        },
        Task {
            name: "established",
            title: format!("{} ESTABLISHED, 6 processes", grouped(sockets as u64)),
            plan: Plan::established(sockets),
            subjects: choose(true, !options.quick),
            rounds,
        },
        Task {
            name: "mix",
            title: format!("{} sockets as on a busy host with a CLOSE_WAIT leak", grouped(sockets as u64)),
            plan: Plan::mix(sockets),
            subjects: choose(true, false),
            rounds,
        },
        Task {
            name: "time-wait",
            title: format!("{} TIME_WAIT", grouped(time_wait as u64)),
            plan: Plan::time_wait(time_wait),
            subjects: choose(false, false),
            rounds,
        },
    ];
    let million = 1_000_000 / scale;
    let bulk = || choose(false, false).into_iter().filter(|subject| !subject.name.starts_with("netstat")).collect();
    for (name, state, plan) in [
        ("million", "ESTABLISHED", Plan::established(million)),
        ("million-time-wait", "TIME_WAIT", Plan::time_wait(million)),
    ] {
        if options.million || options.population.as_deref() == Some(name) {
            let title = format!("{} {state}", grouped(million as u64));
            all.push(Task { name, title, plan, subjects: bulk(), rounds });
        }
    }
    if let Some(name) = &options.population {
        all.retain(|task| task.name == name);
        if all.is_empty() {
            bail!(
                "measure population {name:?}: known are idle, namespaces, established, mix, time-wait, million, million-time-wait"
            );
        }
    }
    if let Some(only) = &options.only
        && !ALL.iter().chain(IDLE).chain(NAMESPACES).any(|subject| subject.name.contains(only))
    {
        bail!("measure {only:?}: no command has that in its name");
    }
    Ok(all)
}

fn measure(task: &Task, tcpstate: &Path) -> Result<Section> {
    let plan = &task.plan;
    check_memory(plan)?;
    progress(&format!("{}: making the sockets", task.title));
    let sockets_before = sockets_of_the_host()?;
    let population = Population::make(plan).with_context(|| format!("make the population {:?}", task.name))?;
    let before = population.census()?;
    if before.sockets < (plan.sockets() - plan.sockets() / 50) as u64 {
        bail!("make the population {:?}: {} sockets wanted, {} there", task.name, plan.sockets(), before.sockets);
    }
    progress(&format!("{}: made in {:.1} s, measuring", task.title, population.made_in.as_secs_f64()));

    let expected = Expected { sockets: before.sockets, owned: plan.owned() as u64 };
    let (runners, mut outcomes) = prepare(&task.subjects, tcpstate, &population, expected);
    let rounds = run_rounds(task, &population, &runners, &mut outcomes);
    let after = population.census()?;

    let mut about = format!("{}; {rounds} rounds", words(&before));
    if let Some(rate) = population.time_wait_per_second {
        let _ = write!(about, "; made at {} TIME_WAIT/s", grouped(rate));
    }
    if after.sockets != before.sockets {
        let _ = write!(about, "; {} sockets at the end", grouped(after.sockets));
    }
    if let Some(waited) = report::share_waited(&task.subjects, &outcomes)
        && waited > BUSY
    {
        let _ = write!(about, "; the machine was busy: the floor waited {:.0} % of its time", waited * 100.0);
    }
    drop(population);
    wait_until_gone(sockets_before)?;
    Ok(Section { title: task.title.clone(), about, rows: task.subjects.iter().copied().zip(outcomes).collect() })
}

/// TCP sockets in use in all namespaces, TIME_WAIT not counted: `alloc` of `/proc/net/sockstat` is a global number.
fn sockets_of_the_host() -> Result<usize> {
    let sockstat = std::fs::read_to_string("/proc/net/sockstat").context("read /proc/net/sockstat")?;
    let tcp = sockstat.lines().find_map(|line| line.strip_prefix("TCP:")).context("read TCP in /proc/net/sockstat")?;
    let mut fields = tcp.split_whitespace().skip_while(|word| *word != "alloc").skip(1);
    fields.next().and_then(|count| count.parse().ok()).context("read alloc in /proc/net/sockstat")
}

/// The hash table of sockets is one for all namespaces: what is left of this population would be walked, at its own
/// cost, by every measurement of the next.
fn wait_until_gone(before: usize) -> Result<()> {
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(10) {
        // The sockets of others come and go meanwhile. TIME_WAIT goes with its namespace, in the background.
        std::thread::sleep(Duration::from_millis(500));
        if sockets_of_the_host()? <= before + 500 {
            return Ok(());
        }
    }
    progress("sockets of the last population, or of others, stay in the kernel's table: the next figures are high");
    Ok(())
}

/// A socket with its file takes about 4 KiB of kernel memory, a TIME_WAIT half of one KiB.
fn check_memory(plan: &Plan) -> Result<()> {
    let needed_kib = plan.owned() * 4 + plan.sockets() / 2;
    let meminfo = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let available_kib: usize = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?.trim().parse().ok())
        .context("read MemAvailable in /proc/meminfo")?;
    if needed_kib > available_kib / 2 {
        bail!(
            "make {} sockets: about {} MiB needed, {} MiB available; use --sockets with a smaller number",
            plan.sockets(),
            needed_kib / 1024,
            available_kib / 1024
        );
    }
    Ok(())
}

/// Finds every program and looks at its answer once. An answer that is wrong is not measured.
fn prepare<'a>(
    subjects: &[&'a Subject],
    tcpstate: &Path,
    population: &'a Population,
    expected: Expected,
) -> (Vec<Option<Runner<'a>>>, Vec<Outcome>) {
    let mut runners = Vec::with_capacity(subjects.len());
    let mut outcomes = Vec::with_capacity(subjects.len());
    for subject in subjects {
        let checked = Runner::new(subject, tcpstate, population.namespace.as_fd()).and_then(|runner| {
            runner.check(&expected)?;
            Ok(runner)
        });
        match checked {
            Ok(runner) => {
                runners.push(Some(runner));
                outcomes.push(Ok(BTreeMap::new()));
            }
            Err(reason) => {
                progress(&format!("  {}: n/a: {reason}", subject.name));
                runners.push(None);
                outcomes.push(Err(reason));
            }
        }
    }
    (runners, outcomes)
}

/// Runs every subject once a round, each round starting with another one, so that none always follows the same.
fn run_rounds(task: &Task, population: &Population, runners: &[Option<Runner<'_>>], outcomes: &mut [Outcome]) -> usize {
    let measuring_since = Instant::now();
    let mut longest_round = Duration::ZERO;
    for round in 0..task.rounds {
        let now = Instant::now();
        let too_late = population.good_until().is_some_and(|end| now + longest_round > end);
        let too_long = round >= FEWEST_ROUNDS && measuring_since.elapsed() + longest_round > LONGEST_SECTION;
        if round > 0 && (too_late || too_long) {
            return round;
        }
        let mut slow = Duration::ZERO;
        for turn in 0..runners.len() {
            let index = (turn + round) % runners.len();
            let (Some(Some(runner)), Some(outcome)) = (runners.get(index), outcomes.get_mut(index)) else { continue };
            if runner.subject.slow && round >= ROUNDS_OF_SLOW {
                continue;
            }
            let Ok(runs) = outcome else { continue };
            let began = Instant::now();
            match runner.run() {
                Ok(run) => {
                    runs.insert(round, run);
                }
                Err(reason) => *outcome = Err(format!("in round {}: {reason}", round + 1)),
            }
            if runner.subject.slow {
                slow += began.elapsed();
            }
        }
        longest_round = longest_round.max(now.elapsed().saturating_sub(slow));
    }
    task.rounds
}

/// The states of a census, most frequent first, in the kernel's order of numbers.
fn words(census: &floor::Dumped) -> String {
    const NAMES: [&str; floor::STATE_SLOTS] = [
        "unknown",
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
        "SYN_RECV",
        "BOUND_INACTIVE",
        "14",
        "15",
    ];
    let mut parts: Vec<(u64, &str)> =
        census.by_state.iter().copied().zip(NAMES).filter(|(count, _)| *count > 0).collect();
    parts.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    if parts.is_empty() {
        return "no TCP socket".to_owned();
    }
    parts.iter().map(|(count, name)| format!("{} {name}", grouped(*count))).collect::<Vec<_>>().join(", ")
}

/// The hardware and kernel in one line: figures without it mean nothing.
fn describe_machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, model)| model.trim()))
        .unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores of {model}, Linux {}. The floor of every ratio is `{FLOOR}`, the walk `{WALK}`.",
        kernel.trim()
    )
}
