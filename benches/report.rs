//! From runs to tables: medians, ratios per round, budgets and verdicts, as aligned text and as Markdown.
//!
//! Comes in: the runs of every subject, by round. Goes out: text. Never here: a clock or a process.
//!
//! Ratios are taken within a round, between runs that lie seconds apart, and then their median: what disturbs the
//! machine for a while disturbs both sides of a ratio.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use crate::subjects::{Budget, DUELS, FLOOR, Program, Run, SUMMARY_PEAK_MIB, Subject, WALK};

/// The runs of one subject by round number, or the reason why there are none.
pub type Outcome = Result<BTreeMap<usize, Run>, String>;

/// Everything measured on one population.
pub struct Section {
    pub title: String,
    /// What is there, in words.
    pub about: String,
    pub rows: Vec<(&'static Subject, Outcome)>,
}

const COLUMNS: usize = 9;
const HEADINGS: [&str; COLUMNS] =
    ["command", "median ms", "min..max", "cpu ms", "peak MiB", "x floor", "x cpu", "budget", "verdict"];
const DUEL_HEADINGS: [&str; 5] = ["peer", "against", "times faster", "budget", "verdict"];

pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => sorted.get(middle).copied(),
        _ => Some(f64::midpoint(*sorted.get(middle - 1)?, *sorted.get(middle)?)),
    }
}

/// Which share of its wall time the floor did not run: a dump never sleeps, so others had the cores.
pub fn share_waited(subjects: &[&Subject], outcomes: &[Outcome]) -> Option<f64> {
    let place = subjects.iter().position(|subject| subject.name == FLOOR)?;
    let runs = outcomes.get(place)?.as_ref().ok()?;
    median(runs.values().map(|run| 1.0 - run.cpu_ms / run.wall_ms))
}

impl Section {
    fn runs(&self, name: &str) -> Option<&BTreeMap<usize, Run>> {
        self.rows.iter().find(|(subject, _)| subject.name == name).and_then(|(_, outcome)| outcome.as_ref().ok())
    }

    fn wall_ms(&self, name: &str, round: usize) -> Option<f64> {
        self.runs(name)?.get(&round).map(|run| run.wall_ms)
    }

    /// The most milliseconds that `budget` allows in `round`.
    fn limit_ms(&self, budget: Budget, round: usize) -> Option<f64> {
        let floor = self.wall_ms(FLOOR, round);
        match budget {
            Budget::None => None,
            Budget::Ms(ms) => Some(ms),
            Budget::TimesFloor(times) => floor.map(|floor| floor * times),
            Budget::FloorPlusMs(ms) => floor.map(|floor| floor + ms),
            Budget::FloorPlusWalks(times) => Some(floor? + times * self.wall_ms(WALK, round)?),
            Budget::Times(times, floors) => {
                floors.iter().map(|name| self.wall_ms(name, round)).sum::<Option<f64>>().map(|sum| sum * times)
            }
        }
    }

    fn row(&self, subject: &Subject, outcome: &Outcome) -> [String; COLUMNS] {
        let dash = || "-".to_owned();
        let budget_text = match subject.budget {
            Budget::None => dash(),
            Budget::Ms(ms) => format!("<= {ms} ms"),
            Budget::TimesFloor(times) => format!("<= {times:.2} x floor"),
            Budget::FloorPlusMs(ms) => format!("<= floor + {ms} ms"),
            Budget::FloorPlusWalks(times) => format!("<= floor + {times} x walk"),
            Budget::Times(times, floors) => {
                let names: Vec<&str> = floors.iter().map(|name| name.trim_start_matches("floor: ")).collect();
                format!("<= {times:.2} x ({})", names.join(" + "))
            }
        };
        let reason = match outcome {
            Ok(runs) if runs.is_empty() => Some("no round was run"),
            Ok(_) => None,
            Err(reason) => Some(reason.as_str()),
        };
        let (None, Ok(runs)) = (reason, outcome) else {
            let mut row = [const { String::new() }; COLUMNS].map(|_| dash());
            subject.name.clone_into(&mut row[0]);
            row[COLUMNS - 2] = budget_text;
            row[COLUMNS - 1] = format!("n/a: {}", reason.unwrap_or("no reason known"));
            return row;
        };
        let of = |what: fn(&Run) -> f64| median(runs.values().map(what)).unwrap_or(f64::NAN);
        let walls = || runs.values().map(|run| run.wall_ms);
        let against_floor = |what: fn(&Run) -> f64| {
            let floor = self.runs(FLOOR)?;
            median(runs.iter().filter_map(|(round, run)| Some(what(run) / what(floor.get(round)?))))
                .map(|ratio| format!("{ratio:.2}"))
        };
        let limit = median(runs.keys().filter_map(|round| self.limit_ms(subject.budget, *round)));
        let used = median(
            runs.iter()
                .filter_map(|(round, run)| self.limit_ms(subject.budget, *round).map(|limit| run.wall_ms / limit)),
        );
        let peak = runs.values().map(|run| run.peak_kib).max().unwrap_or(0) as f64 / 1024.0;
        let mut verdict = match (subject.budget, used) {
            (Budget::None, _) => dash(),
            (_, None) => "n/a: no floor in the same round".to_owned(),
            (_, Some(used)) if used <= 1.0 => "ok".to_owned(),
            (_, Some(used)) => format!("OVER by {:.1} %", (used - 1.0) * 100.0),
        };
        if subject.program == Program::Tcpstate && subject.name.contains("summary") && peak > SUMMARY_PEAK_MIB {
            let _ = write!(verdict, "; OVER {SUMMARY_PEAK_MIB} MiB");
        }
        [
            subject.name.to_owned(),
            number(of(|run| run.wall_ms)),
            format!("{}..{}", number(walls().fold(f64::INFINITY, f64::min)), number(walls().fold(0.0, f64::max))),
            number(of(|run| run.cpu_ms)),
            format!("{peak:.1}"),
            against_floor(|run| run.wall_ms).unwrap_or_else(dash),
            against_floor(|run| run.cpu_ms).unwrap_or_else(dash),
            limit.map_or_else(|| budget_text.clone(), |limit| format!("{budget_text} = {} ms", number(limit))),
            verdict,
        ]
    }

    fn table(&self) -> Vec<[String; COLUMNS]> {
        self.rows.iter().map(|(subject, outcome)| self.row(subject, outcome)).collect()
    }

    fn duels(&self) -> Vec<[String; 5]> {
        let mut rows = Vec::new();
        for (peer, ours, wanted) in DUELS {
            // A duel without one of its sides in the section was not wanted here.
            if [peer, ours].iter().any(|name| !self.rows.iter().any(|(subject, _)| subject.name == **name)) {
                continue;
            }
            let ratios = self
                .runs(peer)
                .into_iter()
                .flatten()
                .filter_map(|(round, run)| self.wall_ms(ours, *round).map(|ours_ms| run.wall_ms / ours_ms));
            let (times, verdict) = match (median(ratios), self.reason(peer), self.reason(ours)) {
                (Some(times), ..) if times >= *wanted => (format!("{times:.1}"), "ok".to_owned()),
                (Some(times), ..) => (format!("{times:.1}"), "SLOWER than wanted".to_owned()),
                (None, Some(reason), _) => ("-".to_owned(), format!("n/a: {reason}")),
                (None, None, Some(reason)) => ("-".to_owned(), format!("n/a: {ours}: {reason}")),
                (None, None, None) => ("-".to_owned(), "n/a: never ran in one round".to_owned()),
            };
            rows.push([(*peer).to_owned(), (*ours).to_owned(), times, format!(">= {wanted}"), verdict]);
        }
        rows
    }

    fn reason(&self, name: &str) -> Option<String> {
        match self.rows.iter().find(|(subject, _)| subject.name == name) {
            None => Some("not measured".to_owned()),
            Some((_, outcome)) => outcome.as_ref().err().cloned(),
        }
    }

    pub fn as_text(&self) -> String {
        let mut out = format!("\n{}\n{}\n\n", self.title, self.about);
        align(&mut out, &HEADINGS, &self.table(), 1..7);
        let duels = self.duels();
        if !duels.is_empty() {
            out.push('\n');
            align(&mut out, &DUEL_HEADINGS, &duels, 2..3);
        }
        out
    }

    pub fn as_markdown(&self) -> String {
        let mut out = format!("### {}\n\n{}\n\n", self.title, self.about);
        bars(&mut out, &HEADINGS, &self.table());
        let duels = self.duels();
        if !duels.is_empty() {
            out.push('\n');
            bars(&mut out, &DUEL_HEADINGS, &duels);
        }
        out
    }
}

/// Three significant digits are all that a benchmark on a shared machine can claim.
fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Aligned columns; those in `numbers` to the right.
fn align<const N: usize>(out: &mut String, headings: &[&str; N], rows: &[[String; N]], numbers: Range<usize>) {
    let mut widths = headings.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut line = |cells: [&str; N]| {
        for (column, (cell, width)) in cells.into_iter().zip(widths).enumerate() {
            // Nothing behind the last column.
            let padding = " ".repeat(width - cell.len());
            let _ = match (numbers.contains(&column), column + 1 == N) {
                (true, _) => write!(out, "{padding}{cell}  "),
                (false, true) => write!(out, "{cell}"),
                (false, false) => write!(out, "{cell}{padding}  "),
            };
        }
        out.push('\n');
    };
    line(*headings);
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
}

fn bars<const N: usize>(out: &mut String, headings: &[&str; N], rows: &[[String; N]]) {
    let _ = writeln!(out, "| {} |", headings.join(" | "));
    let _ = writeln!(out, "|{}", "---|".repeat(N));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
}

pub const TABLE_BEGIN: &str = "<!-- table:begin -->";
pub const TABLE_END: &str = "<!-- table:end -->";

/// `document` with what is between its two markers replaced; `None` when it has not both, in order.
pub fn with_table(document: &str, table: &str) -> Option<String> {
    let begin = document.find(TABLE_BEGIN)? + TABLE_BEGIN.len();
    let end = begin + document.get(begin..)?.find(TABLE_END)?;
    Some(format!("{}\n\n{}\n{}", document.get(..begin)?, table.trim_end(), document.get(end..)?))
}
