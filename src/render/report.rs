//! Findings as prose, for the terminal and for a monitoring system.
//!
//! Comes in: a diagnosis. Goes out: text. Never here: judging, or another number than the finding's own.

use std::fmt::Write;

use anstyle::{AnsiColor, Effects, Style as Ansi};

use crate::diagnose::finding::confidence_word;
use crate::diagnose::{self, Diagnosis, Evidence, Finding, Incident, Measure, Severity, Subject};
use crate::model::pattern;
use crate::render::style::Style;
use crate::render::{course, sanitize};
use crate::text;
use crate::watch::Course;

/// What a monitoring system reads.
mod nagios;
/// What all of it comes to.
mod verdict;
pub use nagios::nagios;
pub use verdict::Ran;

/// The colour of a severity; its word is always there too.
#[must_use]
pub fn severity_style(severity: Severity) -> Ansi {
    match severity {
        Severity::Info => AnsiColor::Cyan.on_default(),
        Severity::Warning => AnsiColor::Yellow.on_default(),
        Severity::High => AnsiColor::Red.on_default(),
        Severity::Critical => AnsiColor::Red.on_default().effects(Effects::BOLD.insert(Effects::INVERT)),
    }
}

/// What a report shows of a diagnosis.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'c> {
    pub at_least: Severity,
    pub ran: Ran,
    /// Everything of every finding, under the keys of JSON.
    pub verbose: bool,
    /// Over a stretch of time: what was found when, on which host.
    pub course: Option<(&'c Course, &'c str)>,
}

/// Width of a report in a pipe: its lines are sentences, not records.
const PIPE_WIDTH: usize = 100;

/// Appends a table of incidents, then each in detail, then the rules that could not be judged.
pub fn write_report(out: &mut String, diagnosis: &Diagnosis, shown: Shown<'_>, style: Style) {
    let mut incidents: Vec<&Incident> = diagnosis.incidents.iter().filter(|i| i.severity >= shown.at_least).collect();
    // What could not be seen is no fault: it comes behind what is one.
    incidents.sort_by_key(|i| is_unseen(diagnosis, i));
    let over = shown.course.map(|(course, _)| course);
    if let Some((course, host)) = shown.course {
        line(out, "", &course::head(course, host), style, Ansi::new());
        out.push('\n');
    }
    let is_short = incidents.len() <= 1 && incidents.iter().all(|i| i.consequences.is_empty());
    if !incidents.is_empty() && (over.is_some() || !is_short) {
        write_table(out, diagnosis, &incidents, over, style);
        out.push('\n');
    }
    let style = Style { width: style.width.or(Some(PIPE_WIDTH)), ..style };
    for (number, incident) in incidents.iter().enumerate() {
        let mut label = String::new();
        if incidents.len() > 1 {
            // Writing into a String cannot fail.
            let _ = write!(label, "{}  ", number + 1);
        }
        write_incident(out, diagnosis, incident, (&label, shown.verbose), over, style);
        out.push('\n');
    }
    let below = diagnosis.incidents.len() - incidents.len();
    let verdict = verdict::verdict(diagnosis, shown.ran, incidents.len(), below, shown.at_least.key());
    line(out, "", &verdict, style, Ansi::new());
    for text in verdict::not_checked(diagnosis, shown.verbose) {
        line(out, "not checked: ", &text, style, Ansi::new().effects(Effects::DIMMED));
    }
}

/// Columns of the table of incidents on a terminal of 80: severity, what, who, since, left.
const TABLE: [usize; 5] = [8, 27, 22, 7, 7];

/// One line per incident, its consequences below it.
fn write_table(out: &mut String, diagnosis: &Diagnosis, incidents: &[&Incident], over: Option<&Course>, style: Style) {
    let mut rows: Vec<(String, Severity, [String; 5])> = Vec::new();
    for (number, incident) in incidents.iter().enumerate() {
        for i in incident.members() {
            let finding = &diagnosis.findings[i];
            let time = |m: Option<Measure<u64>>| {
                m.map_or_else(|| "-".to_owned(), |m| m.text(|ms| text::compact_ms(ms).to_string()))
            };
            let is_cause = i == incident.cause;
            let label = if is_cause { (number + 1).to_string() } else { String::new() };
            let title = diagnose::title(finding.rule);
            let what = if is_cause { title.to_owned() } else { format!("└ {title}") };
            let who = sanitize::clean(&who(&finding.subject));
            // The line of an incident has its worst severity; what follows from it may be worse than the cause.
            let severity = if is_cause { incident.severity } else { finding.severity };
            let [from, to] = match over {
                Some(course) => course::cells(course, &finding.id),
                None => [time(finding.lasting_ms), time(finding.exhausted_in_ms)],
            };
            let cells = [severity.key().to_owned(), what, who, from, to];
            rows.push((label, severity, cells));
        }
    }
    let times = if over.is_some() { ["FROM", "TO"] } else { ["SINCE", "LEFT"] };
    let head = ["SEVERITY", "WHAT", "WHO", times[0], times[1]].map(str::to_owned);
    let narrow = over.map_or(TABLE, course::widths);
    let mut widths = narrow;
    for (column, width) in widths.iter_mut().enumerate() {
        let needed = rows.iter().map(|(.., cells)| cells[column].chars().count()).max().unwrap_or(0);
        let needed = needed.max(head[column].len());
        *width = match style.width {
            // On a terminal the two texts share what the others leave.
            Some(width) if column == 1 || column == 2 => needed.min(narrow[column] + width.saturating_sub(80) / 2),
            _ => needed,
        };
    }
    let mut push = |label: &str, cells: &[String; 5], severity: Option<Severity>| {
        let mut line = format!("{label:<3}");
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let cell = text::shorten_end(cell, width);
            let padded = format!("{cell}{}", " ".repeat(width - cell.chars().count()));
            line.push_str(&match severity {
                Some(severity) if column == 0 => style.paint(severity_style(severity), &padded),
                Some(_) => padded,
                None => style.heading(&padded),
            });
            line.push_str("  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    };
    push("", &head, None);
    for (label, severity, cells) in &rows {
        push(label, cells, Some(*severity));
    }
}

/// Whom a finding is about, in one short phrase.
fn who(subject: &Subject) -> String {
    let place = subject.listener.or(subject.destination).map(|at| match at.port {
        0 => at.addr.to_string(),
        _ => at.to_string(),
    });
    match (&subject.comm, subject.pid, place) {
        (Some(comm), Some(pid), _) => text::named(comm, pid).to_string(),
        (Some(comm), None, _) => comm.clone(),
        (None, _, Some(place)) => place,
        (None, Some(pid), None) => format!("pid {pid}"),
        (None, None, None) => subject.object.clone().unwrap_or_else(|| "this host".to_owned()),
    }
}

/// The cause in full, and what follows from it in a sentence each.
fn write_incident(
    out: &mut String,
    diagnosis: &Diagnosis,
    incident: &Incident,
    (label, verbose): (&str, bool),
    over: Option<&Course>,
    style: Style,
) {
    let cause = &diagnosis.findings[incident.cause];
    if is_unseen(diagnosis, incident) && !verbose {
        return write_unseen(out, cause, label, style);
    }
    // The heading says who is hurt by all of it: what follows from a cause may be worse than the cause by itself.
    write_numbered(out, cause, Told { severity: incident.severity, label, verbose, over }, style);
    let (alike, others): (Vec<usize>, Vec<usize>) =
        incident.consequences.iter().partition(|i| diagnosis.findings[**i].rule == cause.rule);
    for (heading, members) in [("  alike     ", alike), ("  because of this", others)] {
        if members.is_empty() {
            continue;
        }
        if verbose {
            for i in members {
                let finding = &diagnosis.findings[i];
                write_numbered(out, finding, Told { severity: finding.severity, label, verbose, over }, style);
            }
            continue;
        }
        out.push_str(&style.dim(heading.trim_end()));
        out.push('\n');
        for i in members {
            let finding = &diagnosis.findings[i];
            line(out, "            ", &format!("{}: {}", finding.severity.key(), finding.summary), style, Ansi::new());
        }
    }
}

/// Whether an incident is an explanation of what could not be seen, and nothing else.
fn is_unseen(diagnosis: &Diagnosis, incident: &Incident) -> bool {
    incident.severity == Severity::Info && incident.members().all(|i| diagnose::is_about_owners(&diagnosis.findings[i]))
}

/// What could not be seen, in a few lines: why, the way out, and where the rest is.
fn write_unseen(out: &mut String, finding: &Finding, label: &str, style: Style) {
    write_headline(out, finding, finding.severity, label, style);
    if let Some(first) = finding.causes.left.first() {
        let cause = if finding.causes.left.len() == 1 { "  cause     " } else { "  one of    " };
        line(out, cause, first.cause.text, style, Ansi::new());
    }
    if let Some(step) = finding.remedy.first() {
        line(out, "  do        ", step, style, Ansi::new());
    }
    line(out, "  more      ", &format!("--verbose, or tcpstate explain {}", finding.rule), style, Ansi::new());
}

/// Evidence that a person reads first.
const FIRST_FACTS: usize = 6;
/// Causes that a person reads of those that are left, and of those that are ruled out.
const FIRST_CAUSES: usize = 3;
/// A cause with no more than this share of belief stands out from none.
const LIKELY: f64 = 0.25;
/// How many of the causes that do not stand out are named.
const NAMED_CAUSES: usize = 5;

/// How much is told of one finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Everything, under the keys of JSON.
    Full,
    /// As a report has it.
    Usual,
    /// What is wrong, why, what to do, and how to check it.
    Short,
}

/// Appends one finding.
pub fn write_finding(out: &mut String, finding: &Finding, length: Length, style: Style) {
    let told = Told { severity: finding.severity, label: "", verbose: length == Length::Full, over: None };
    if length != Length::Short {
        return write_numbered(out, finding, told, style);
    }
    write_headline(out, finding, told.severity, told.label, style);
    write_causes(out, finding, 1, style);
    write_steps(out, finding, style);
    write_check(out, finding, style);
    write_facts(out, finding, told.verbose, style);
}

/// How a finding is told: as how bad, under which number, with everything or not, and with its times.
#[derive(Clone, Copy)]
struct Told<'a> {
    severity: Severity,
    label: &'a str,
    verbose: bool,
    over: Option<&'a Course>,
}

fn write_headline(out: &mut String, finding: &Finding, severity: Severity, label: &str, style: Style) {
    let word = severity.key().to_ascii_uppercase();
    let mut headline = String::new();
    let bold = Ansi::new().effects(Effects::BOLD);
    let indent = label.len() + word.len() + 2;
    style.push_wrapped(&mut headline, [indent; 2], &sanitize::clean(&finding.summary), bold);
    // Writing into a String cannot fail.
    let _ = write!(out, "{label}{}  {}", style.paint(severity_style(severity), &word), headline.trim_start());
}

fn write_numbered(out: &mut String, finding: &Finding, told: Told<'_>, style: Style) {
    let Told { severity, label, verbose, over } = told;
    write_headline(out, finding, severity, label, style);
    let subject = subject_text(&finding.subject);
    if !subject.is_empty() {
        line(out, "  who       ", &subject, style, Ansi::new());
    }
    if let Some((course, run)) = over.and_then(|course| Some((course, course.of(&finding.id)?))) {
        line(out, "  seen      ", &course::seen(course, run), style, Ansi::new());
    }
    let most = if verbose { usize::MAX } else { FIRST_CAUSES };
    write_causes(out, finding, most, style);
    write_ruled_out(out, finding, most, style);
    write_facts(out, finding, verbose, style);
    // It is about what is seen; of several causes each has its own share.
    let open = if finding.causes.left.len() > 1 { " that it happens, the cause is open" } else { "" };
    let sure = format!(
        "{} ({:.2}){open}{}",
        confidence_word(finding.confidence),
        finding.confidence,
        if finding.confidence_reason.is_empty() { String::new() } else { format!(": {}", finding.confidence_reason) }
    );
    line(out, "  certainty ", &sure, style, Ansi::new());
    line(out, "  why       ", &finding.why, style, Ansi::new());
    write_steps(out, finding, style);
    for (i, step) in finding.avoid.iter().enumerate() {
        let step = step.strip_prefix("Don't ").unwrap_or(step);
        line(out, if i == 0 { "  don't     " } else { "            " }, step, style, Ansi::new());
    }
    write_check(out, finding, style);
    line(out, "  more      ", &format!("tcpstate explain {}", finding.rule), style, Ansi::new());
}

/// The evidence: all of it under the keys of JSON, or the first of it in the units of people.
fn write_facts(out: &mut String, finding: &Finding, verbose: bool, style: Style) {
    let known = finding.evidence.iter().filter(|(_, value)| verbose || *value != Evidence::Unknown);
    let facts: Vec<String> = if verbose {
        known.map(|(name, value)| format!("{name} {}", evidence_text(value))).collect()
    } else {
        known.take(FIRST_FACTS).map(|(name, value)| fact(name, value)).collect()
    };
    if !facts.is_empty() {
        line(out, "  evidence  ", &facts.join(", "), style, Ansi::new());
    }
}

/// What to do, in its order.
fn write_steps(out: &mut String, finding: &Finding, style: Style) {
    for (i, step) in finding.remedy.iter().enumerate() {
        let label = if i == 0 { "  do        " } else { "            " };
        line(out, label, &format!("{}. {step}", i + 1), style, Ansi::new());
    }
}

/// A command is to be copied: the terminal may break it, we must not.
fn write_check(out: &mut String, finding: &Finding, style: Style) {
    line(out, "  check     ", &finding.next, Style { width: None, ..style }, Ansi::new());
}

/// How many causes there are besides those that were told.
fn write_more(out: &mut String, finding: &Finding, (told, all): (usize, usize), style: Style) {
    if all > told {
        let text = format!("and {} more: tcpstate explain {}", all - told, finding.rule);
        line(out, "            ", &text, style, Ansi::new().effects(Effects::DIMMED));
    }
}

/// The cause, or the first of several that are left, with what decides.
fn write_causes(out: &mut String, finding: &Finding, most: usize, style: Style) {
    match &finding.causes.left[..] {
        [] => {}
        [one] => line(out, "  cause     ", one.cause.text, style, Ansi::new()),
        // Sorted: no other one has more.
        several if several[0].confidence <= LIKELY && several.len() > most => write_open_cause(out, finding, style),
        several => {
            for (i, h) in several.iter().take(most).enumerate() {
                let label = if i == 0 { "  one of    " } else { "            " };
                line(out, label, &format!("{} ({:.0} %)", h.cause.text, h.confidence * 100.0), style, Ansi::new());
                line(out, "              decided by ", h.cause.decided_by, style, Ansi::new());
            }
            write_more(out, finding, (most, several.len()), style);
        }
    }
}

/// What is ruled out, and why.
fn write_ruled_out(out: &mut String, finding: &Finding, most: usize, style: Style) {
    for (i, (cause, why)) in finding.causes.ruled_out.iter().take(most).enumerate() {
        let label = if i == 0 { "  ruled out " } else { "            " };
        line(out, label, &format!("{}: {why}", cause.text), style, Ansi::new());
    }
    write_more(out, finding, (most, finding.causes.ruled_out.len()), style);
}

/// Many causes of which none stands out, by name, and what decides between them.
fn write_open_cause(out: &mut String, finding: &Finding, style: Style) {
    let left = &finding.causes.left;
    let named = left.iter().take(NAMED_CAUSES).map(|h| h.cause.text).collect::<Vec<_>>().join("; ");
    let more = match left.len().saturating_sub(NAMED_CAUSES) {
        0 => String::new(),
        n => format!("; and {n} more: tcpstate explain {}", finding.rule),
    };
    line(out, "  cause     ", &format!("not known, one of {}: {named}{more}", left.len()), style, Ansi::new());
    let mut decides: Vec<&str> = Vec::new();
    for hypothesis in left {
        if !decides.contains(&hypothesis.cause.decided_by) {
            decides.push(hypothesis.cause.decided_by);
        }
    }
    for (i, step) in decides.iter().take(FIRST_CAUSES).enumerate() {
        line(out, if i == 0 { "  to decide " } else { "            " }, step, style, Ansi::new());
    }
}

/// `unread 1.1 MiB`: the key without its unit, and the value as people say it.
fn fact(name: &str, value: &Evidence) -> String {
    let name =
        ["_ms", "_bytes", "_percent", "_per_second"].iter().fold(name, |n, unit| n.strip_suffix(unit).unwrap_or(n));
    let name = name.replace('_', " ");
    match value {
        Evidence::Count(n) => format!("{name} {}", text::grouped(*n)),
        Evidence::Bytes(n) => format!("{name} {}", text::bytes(*n)),
        Evidence::Millis(ms @ 0..1000) => format!("{name} {ms} ms"),
        Evidence::Millis(ms) => format!("{name} {}", text::duration(*ms)),
        Evidence::PerSecond(n) => format!("{name} {} a second", decimal(*n)),
        Evidence::Percent(n) => format!("{name} {} %", decimal(*n)),
        other => format!("{name} {}", evidence_text(other)),
    }
}

/// For `summary`: of each incident its cause, before it what hurts more, and how many findings go with them.
pub fn write_brief(out: &mut String, diagnosis: &Diagnosis, incidents: &[&Incident], style: Style) {
    if incidents.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{}", style.heading("INCIDENTS"));
    for incident in incidents {
        let of = |i: usize| &diagnosis.findings[i];
        let worse = incident.consequences.iter().copied().find(|i| of(*i).severity == incident.severity);
        let worse = worse.filter(|_| of(incident.cause).severity < incident.severity);
        let shown: Vec<usize> = worse.into_iter().chain([incident.cause]).collect();
        let more = match incident.members().count() - shown.len() {
            0 => String::new(),
            n => format!("; {} to it", text::count(n as u64, "more finding belongs", "more findings belong")),
        };
        for (place, i) in shown.iter().enumerate() {
            let finding = of(*i);
            let label = style.paint(severity_style(finding.severity), &format!("{:8}", finding.severity.key()));
            let more = if place + 1 == shown.len() { more.as_str() } else { "" };
            let mut text = String::new();
            let sentence = format!("{}{more}", sanitize::clean(&finding.summary));
            style.push_wrapped(&mut text, [9; 2], &sentence, Ansi::new());
            let _ = write!(out, "{label} {}", text.trim_start());
        }
    }
    let _ = writeln!(out, "{}", style.dim("run `tcpstate doctor` for evidence and remedies"));
}

/// The subject in words.
#[must_use]
pub fn subject_text(subject: &Subject) -> String {
    let mut parts = Vec::new();
    match (&subject.comm, subject.pid) {
        (Some(comm), Some(pid)) => parts.push(text::named(comm, pid).to_string()),
        (Some(comm), None) => parts.push(comm.clone()),
        (None, Some(pid)) => parts.push(format!("pid {pid}")),
        (None, None) => {}
    }
    if subject.pids.len() > 1 {
        let pids: Vec<String> = subject.pids.iter().take(8).map(ToString::to_string).collect();
        let more = if subject.pids.len() > 8 { ", ..." } else { "" };
        parts.push(format!("pids {}{more}", pids.join(", ")));
    }
    if let Some(unit) = &subject.unit {
        parts.push(format!("unit {unit}"));
    }
    if let Some(container) = &subject.container {
        parts.push(format!("container {}", pattern::shortened(container)));
    }
    if let Some(pod) = &subject.pod {
        parts.push(format!("pod {}", pattern::shortened(pod)));
    }
    if let Some(listener) = subject.listener {
        parts.push(format!("listener {listener}"));
    }
    if let Some(source) = subject.source {
        parts.push(format!("from {source}"));
    }
    if let Some(destination) = subject.destination {
        parts.push(format!("to {destination}"));
    }
    if let Some(object) = &subject.object {
        parts.push(object.clone());
    }
    if let Some(netns) = subject.netns.filter(|_| parts.is_empty()) {
        parts.push(format!("network namespace {netns}"));
    }
    parts.join(", ")
}

/// Evidence for people; its name carries the unit, so only durations and rates are written differently.
#[must_use]
pub fn evidence_text(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Count(n) | Evidence::Bytes(n) => n.to_string(),
        Evidence::Millis(ms) => format!("{ms} ({})", text::duration(*ms)),
        Evidence::PerSecond(n) | Evidence::Percent(n) => decimal(*n),
        Evidence::Text(text) => text.clone(),
        Evidence::List(items) => format!("[{}]", items.join("; ")),
        Evidence::Unknown => "?".into(),
    }
}

/// Two digits after the point for small numbers, none for large ones.
fn decimal(n: f64) -> String {
    if n.abs() >= 100.0 || n.fract() == 0.0 { format!("{n:.0}") } else { format!("{n:.2}") }
}

/// A label and its text, the text wrapped under itself on a terminal.
fn line(out: &mut String, label: &str, text: &str, style: Style, ansi: Ansi) {
    if text.is_empty() {
        return;
    }
    out.push_str(&style.dim(label));
    let mut body = String::new();
    style.push_wrapped(&mut body, [label.chars().count(); 2], &sanitize::clean(text), ansi);
    out.push_str(body.trim_start());
}

#[cfg(test)]
mod tests;
