//! The page of results: totals, calibration of confidence, every case.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::case::Case;
use crate::judge::{Judged, Said, Verdict};
use crate::run::Outcome;

/// The result of one case.
pub struct Row {
    pub name: String,
    kind: String,
    title: String,
    healthy: bool,
    result: Result<Judged, String>,
}

impl Row {
    #[must_use]
    pub fn new(case: &Case, outcome: Outcome) -> Row {
        Row {
            name: case.name.clone(),
            kind: case.header.kind.clone(),
            title: case.header.title.clone(),
            healthy: case.header.healthy,
            result: match outcome {
                Outcome::Judged(judged) => Ok(judged),
                Outcome::NotRun(why) => Err(why),
            },
        }
    }

    fn word(&self) -> &'static str {
        self.result.as_ref().map_or("not run", |judged| judged.verdict.key())
    }

    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.result.as_ref().map_or(true, |judged| judged.verdict != Verdict::Right)
    }

    #[must_use]
    pub fn line(&self) -> String {
        let why = match &self.result {
            Ok(judged) => judged.why.join("; "),
            Err(why) => why.clone(),
        };
        format!("{:11} {}: {why}", self.word(), self.name)
    }

    /// A case that the page calls right, and is not; where a skip counts as a failure, also one that could not be made.
    #[must_use]
    pub fn is_worse_than(&self, known: &BTreeMap<String, Verdict>) -> bool {
        let before = known.get(&self.name).copied();
        match &self.result {
            Ok(judged) => before.is_some_and(|before| judged.verdict > before),
            Err(_) => std::env::var_os("TCPSTATE_TESTS_REQUIRE_KERNEL").is_some(),
        }
    }
}

/// How many cases of each verdict there are.
#[must_use]
pub fn totals(rows: &[Row]) -> String {
    let count =
        |wanted: &str, healthy: bool| rows.iter().filter(|r| r.healthy == healthy && r.word() == wanted).count();
    let faults = rows.iter().filter(|r| !r.healthy).count();
    let healthy = rows.len() - faults;
    format!(
        "{faults} faults: {} right, {} partly, {} missed, {} wrong, {} not run; {healthy} healthy places: {} silent, {} \
         false alarms, {} not run",
        count("right", false),
        count("partly", false),
        count("missed", false),
        count("wrong", false),
        count("not run", false),
        count("right", true),
        count("false alarm", true),
        count("not run", true),
    )
}

/// docs/TRUTH.md.
#[must_use]
pub fn page(rows: &[Row]) -> String {
    let mut out = String::from(HEAD);
    let _ = writeln!(out, "{}.\n", totals(rows));
    out.push_str(CALIBRATION);
    for (from, to, said) in bins(rows) {
        let right = said.iter().filter(|s| s.is_true).count();
        let mean = said.iter().map(|s| s.confidence).sum::<f64>() / said.len() as f64;
        let share = right as f64 / said.len() as f64;
        let _ = writeln!(out, "| {from:.2} to {to:.2} | {} | {mean:.2} | {share:.2} |", said.len());
    }
    out.push_str(UNTRUE);
    for row in rows {
        let mut untrue: Vec<&Said> = row.result.iter().flat_map(|j| &j.said).filter(|said| !said.is_true).collect();
        untrue.dedup_by(|a, b| a.words == b.words);
        for said in untrue {
            let _ = writeln!(out, "| {} | {:.2} | {} |", row.name, said.confidence, said.words.replace('|', "/"));
        }
    }
    out.push('\n');
    out.push_str(BLIND);
    out.push_str(CASES);
    for row in rows {
        let why = match &row.result {
            Ok(judged) => judged.why.join("; "),
            Err(why) => why.clone(),
        };
        let cells =
            [&row.name, &row.kind, row.word(), &row.title, &why].map(|cell| cell.replace('|', "/").replace('\n', " "));
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out
}

const HEAD: &str = "# How true the diagnosis is\n\n\
    Made by `cargo test --test truth -- --all --write`; failures stay in the table. Every case makes a fault or a healthy \
    place with real programs on the real kernel (`tests/truth/cases`), and has the doctor look at it. *Partly* means the \
    right rule with a wrong detail, *wrong* an untrue finding or cause, *missed* no finding.\n\n";
const CALIBRATION: &str = "## Calibration\n\n\
    Of the findings at warning and above that were said with a confidence in this range, the share that was true.\n\n\
    | confidence | findings | mean | true |\n| --- | --- | --- | --- |\n";
const UNTRUE: &str = "\nWhat was said and is not true, or not wholly: a finding that no case expects, or one with another process, \
    severity or cause than expected.\n\n| case | confidence | finding |\n| --- | --- | --- |\n";
/// What testers found who had read neither rules nor cases: written by hand after each such round.
const BLIND: &str = include_str!("blind.md");
const CASES: &str = "\n## Cases\n\n| case | kind | verdict | what | why |\n| --- | --- | --- | --- | --- |\n";

fn bins(rows: &[Row]) -> Vec<(f64, f64, Vec<&Said>)> {
    let said: Vec<&Said> = rows.iter().filter_map(|r| r.result.as_ref().ok()).flat_map(|j| &j.said).collect();
    [(0.0, 0.6), (0.6, 0.75), (0.75, 0.85), (0.85, 0.95), (0.95, 1.01)]
        .into_iter()
        .map(|(from, to)| {
            (
                from,
                f64::min(to, 1.0),
                said.iter().filter(|s| s.confidence >= from && s.confidence < to).copied().collect::<Vec<_>>(),
            )
        })
        .filter(|(_, _, said)| !said.is_empty())
        .collect()
}

/// The verdicts of a page, by case.
#[must_use]
pub fn verdicts(page: &str) -> BTreeMap<String, Verdict> {
    page.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let (name, verdict) = (cells.next()?, cells.nth(1)?);
            Some((name.to_owned(), Verdict::ALL.into_iter().find(|v| v.key() == verdict)?))
        })
        .collect()
}
