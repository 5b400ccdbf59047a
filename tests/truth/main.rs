//! How true the diagnosis is: cases with real programs, each judged right, partly, missed, wrong or a false alarm.
//!
//! `cargo test` runs the cases that take less than ten seconds, and fails on one that got worse than docs/TRUTH.md says,
//! among others and again alone: the programs and the kernel are real, and so are the moments they need.
//! `cargo test --test truth -- --all --write` runs all of them and writes that page. A name, or a part of it, selects.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::exit,
    reason = "a test program: it prints, and asks the kernel itself"
)]

mod case;
mod judge;
mod run;
mod script;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use case::Case;
use run::Outcome;
use table::Row;

/// Cases that are made at the same time: most of their time they wait.
const AT_ONCE: usize = 4;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| words.iter().any(|w| w == flag);
    if has("--list") {
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = words.iter().filter(|w| !w.starts_with('-') && w.parse::<u32>().is_err()).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases = match read_all(&root.join("tests/truth/cases")) {
        Ok(cases) => cases,
        Err(why) => {
            println!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let chosen: Vec<&Case> = cases
        .iter()
        .filter(|c| {
            if wanted.is_empty() { has("--all") || c.is_fast() } else { wanted.iter().any(|w| c.name.contains(*w)) }
        })
        .collect();
    if let Some(why) = cannot_run() {
        println!("truth: skipped: {why}");
        return if std::env::var_os("TCPSTATE_TESTS_REQUIRE_KERNEL").is_some() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    println!("truth: {} of {} cases", chosen.len(), cases.len());
    let rows = run_all(&chosen, has("--verbose") || !wanted.is_empty());
    let page = root.join("docs/TRUTH.md");
    if has("--write") {
        if let Err(e) = std::fs::write(&page, table::page(&rows)) {
            println!("cannot write {}: {e}", page.display());
            return ExitCode::FAILURE;
        }
        return ExitCode::SUCCESS;
    }
    println!("{}", table::totals(&rows));
    let known = table::verdicts(&std::fs::read_to_string(page).unwrap_or_default());
    let mut worse = 0;
    for row in rows.iter().filter(|row| row.is_worse_than(&known)) {
        println!("worse than docs/TRUTH.md: {}", row.line());
        let alone = chosen.iter().find(|case| case.name == row.name).map(|case| run_all(&[*case], true));
        let is_worse = alone.iter().flatten().all(|row| row.is_worse_than(&known));
        println!("{} alone: {}", row.name, if is_worse { "worse again" } else { "as the page says" });
        worse += usize::from(is_worse);
    }
    println!("{} passed, {worse} failed", rows.len() - worse);
    if worse == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read_all(folder: &Path) -> Result<Vec<Case>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("cannot read {}: {e}", folder.display()))?;
    let mut scripts: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    scripts.retain(|path| path.extension().is_some_and(|e| e == "sh"));
    scripts.sort();
    scripts.iter().map(|script| Case::read(script)).collect()
}

/// Why no case can be made here.
fn cannot_run() -> Option<String> {
    let probe = std::process::Command::new("unshare").args(["-n", "true"]).status();
    match probe {
        Ok(status) if status.success() && rustix::process::geteuid().is_root() => None,
        _ => Some("making network namespaces needs root".to_owned()),
    }
}

fn run_all(cases: &[&Case], verbose: bool) -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let rows: Mutex<Vec<Row>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(cases.len()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(number) else { break };
                    let mut outcome = run::run(case, number);
                    // A script that failed for want of time or a port may do better alone.
                    if matches!(&outcome, Outcome::NotRun(why) if why.contains("script")) {
                        outcome = run::run(case, number + cases.len());
                    }
                    let row = Row::new(case, outcome);
                    if verbose || row.is_bad() {
                        println!("{}", row.line());
                    }
                    if let Ok(mut rows) = rows.lock() {
                        rows.push(row);
                    }
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_default();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}
