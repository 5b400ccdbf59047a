//! The page as Markdown, for a ticket that shows no HTML.
//!
//! Input: a [`Page`]. Output: text. A chart becomes a table of what was at first, at most and at last.

use std::fmt::Write;

use super::{Page, RATES, end_of_move};
use crate::diagnose::Finding;
use crate::diagnose::finding::confidence_word;
use crate::render::{course, gap, report, sanitize};

/// Text in a cell or a line: what Markdown would read as markup is escaped.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in sanitize::clean(text).chars() {
        if matches!(c, '|' | '<' | '>' | '*' | '_' | '`' | '[' | ']' | '\\' | '#') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A command, as it is typed.
fn code(text: &str) -> String {
    format!("`{}`", sanitize::clean(text).replace('`', "'"))
}

/// Writes the page.
#[must_use]
pub fn markdown(page: &Page<'_>) -> String {
    let mut out = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(out, "# TCP on {}\n", plain(page.host));
    let _ = writeln!(out, "{}\n\n**{}**", plain(&course::head(page.course, page.host)), page.verdict());
    for incident in page.incidents() {
        let of = |at: usize| &page.diagnosis.findings[at];
        finding(&mut out, page, of(incident.cause));
        for consequence in incident.consequences.iter().map(|at| of(*at)) {
            let _ = writeln!(out, "- because of this: {}: {}", consequence.severity.key(), plain(&consequence.summary));
        }
    }
    over_time(&mut out, page);
    if !page.moves.is_empty() {
        out.push_str("\n## Changes of state between the looks\n\n| from | to | sockets |\n| --- | --- | ---: |\n");
        for (from, to, n) in page.moves {
            let (from, to) = (end_of_move(*from, "(new)"), end_of_move(*to, "(gone)"));
            let _ = writeln!(out, "| {from} | {to} | {n} |");
        }
    }
    if !page.groups.is_empty() {
        out.push_str("\n## Processes\n\n| process | at first | at most | at last |\n| --- | ---: | ---: | ---: |\n");
        for group in page.groups {
            let _ = writeln!(out, "| {} | {} | {} | {} |", plain(&group.label), group.first, group.most, group.last);
        }
    }
    if !page.gaps.is_empty() || !page.diagnosis.not_checked.is_empty() {
        out.push_str("\n## What was not seen\n\n");
        for gap in page.gaps {
            let _ = writeln!(out, "- {}", plain(&gap::line(gap)));
        }
        for (rule, why) in &page.diagnosis.not_checked {
            let _ = writeln!(out, "- not checked: {rule}: {}", plain(why));
        }
    }
    let version = env!("CARGO_PKG_VERSION");
    let (file, kernel, again) = (plain(page.file), plain(page.kernel), code(page.again));
    let _ = writeln!(out, "\ntcpstate {version}, from {file}; kernel {kernel}. The same again: {again}");
    out
}

fn finding(out: &mut String, page: &Page<'_>, finding: &Finding) {
    let _ = writeln!(out, "\n## {}: {}\n", finding.severity.key(), plain(&finding.summary));
    let line = |out: &mut String, name: &str, text: &str| {
        if !text.is_empty() {
            let _ = writeln!(out, "- **{name}** {}", plain(text));
        }
    };
    line(out, "who", &report::subject_text(&finding.subject));
    line(out, "seen", &page.course.of(&finding.id).map_or_else(String::new, |run| course::seen(page.course, run)));
    match &finding.causes.left[..] {
        [one] => line(out, "cause", one.cause.text),
        several => {
            for h in several {
                line(out, "one of", &format!("{} ({:.0} %)", h.cause.text, h.confidence * 100.0));
            }
        }
    }
    let facts: Vec<String> =
        finding.evidence.iter().map(|(name, value)| format!("{name} {}", report::evidence_text(value))).collect();
    line(out, "evidence", &facts.join(", "));
    line(out, "certainty", &format!("{} ({:.2})", confidence_word(finding.confidence), finding.confidence));
    for (place, step) in finding.remedy.iter().enumerate() {
        line(out, &format!("do {}", place + 1), step);
    }
    for step in &finding.avoid {
        line(out, "don't", step.strip_prefix("Don't ").unwrap_or(step));
    }
    if !finding.next.is_empty() {
        let _ = writeln!(out, "- **check** {}", code(&finding.next));
    }
}

fn over_time(out: &mut String, page: &Page<'_>) {
    let (Some(first), Some(last)) = (page.points.first(), page.points.last()) else { return };
    out.push_str("\n## Over time\n\n| | at first | at most | at last |\n| --- | ---: | ---: | ---: |\n");
    for state in page.states() {
        let most = page.points.iter().map(|point| point.counts.get(state)).max().unwrap_or(0);
        let _ = writeln!(out, "| {state} | {} | {most} | {} |", first.counts.get(state), last.counts.get(state));
    }
    for (name, rate) in RATES {
        let known: Vec<f64> = page.points.iter().filter_map(rate).collect();
        if let (Some(first), Some(last)) = (known.first(), known.last()) {
            let most = known.iter().copied().fold(0.0, f64::max);
            let _ = writeln!(out, "| {name} | {first:.1} | {most:.1} | {last:.1} |");
        }
    }
}
