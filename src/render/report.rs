//! Findings as prose, for the terminal and for a monitoring system.
//!
//! Comes in: a diagnosis. Goes out: text. Never here: judging, or another number than the finding's own.

use std::fmt::Write;

use anstyle::{AnsiColor, Effects, Style as Ansi};

use crate::diagnose::finding::confidence_word;
use crate::diagnose::{Diagnosis, Evidence, Finding, Severity, Subject};
use crate::render::style::Style;
use crate::render::{sanitize, value};

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

/// Appends every finding at or above a severity, then the rules that could not be judged.
pub fn write_report(
    out: &mut String,
    diagnosis: &Diagnosis,
    at_least: Severity,
    sockets: usize,
    rules: usize,
    style: Style,
) {
    let shown: Vec<&Finding> = diagnosis.findings.iter().filter(|f| f.severity >= at_least).collect();
    for finding in &shown {
        write_finding(out, finding, style);
        out.push('\n');
    }
    let hidden = diagnosis.findings.len() - shown.len();
    let judged = rules - diagnosis.not_checked.len();
    let verdict = match (shown.len(), hidden) {
        (0, 0) => "nothing wrong found".to_owned(),
        (0, n) => format!("nothing at or above {}; {n} below it", at_least.key()),
        (n, 0) => format!("{n} finding{}", if n == 1 { "" } else { "s" }),
        (n, h) => format!("{n} finding{}, {h} below {}", if n == 1 { "" } else { "s" }, at_least.key()),
    };
    line(out, "", &format!("{verdict} ({judged} of {rules} rules judged {sockets} sockets)"), style, Ansi::new());
    // Rules that were not judged for the same reason share a line.
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (rule, why) in &diagnosis.not_checked {
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, rules)) => rules.push(rule),
            None => reasons.push((why, vec![rule])),
        }
    }
    for (why, rules) in reasons {
        let text = format!("{}: {why}", rules.join(", "));
        line(out, "not checked: ", &text, style, Ansi::new().effects(Effects::DIMMED));
    }
}

/// Appends one finding.
pub fn write_finding(out: &mut String, finding: &Finding, style: Style) {
    let word = finding.severity.key().to_ascii_uppercase();
    let mut headline = String::new();
    let bold = Ansi::new().effects(Effects::BOLD);
    push_wrapped(&mut headline, word.len() + 2, &sanitize::clean(&finding.summary), style.width, style, bold);
    // Writing into a String cannot fail.
    let _ = write!(out, "{}  {}", style.paint(severity_style(finding.severity), &word), headline.trim_start());
    let subject = subject_text(&finding.subject);
    if !subject.is_empty() {
        line(out, "  who       ", &subject, style, Ansi::new());
    }
    let evidence: Vec<String> =
        finding.evidence.iter().map(|(name, value)| format!("{name} {}", evidence_text(value))).collect();
    if !evidence.is_empty() {
        line(out, "  evidence  ", &evidence.join(", "), style, Ansi::new());
    }
    let sure = format!(
        "{} ({:.2}){}",
        confidence_word(finding.confidence),
        finding.confidence,
        if finding.confidence_reason.is_empty() { String::new() } else { format!(": {}", finding.confidence_reason) }
    );
    line(out, "  certainty ", &sure, style, Ansi::new());
    line(out, "  why       ", &finding.why, style, Ansi::new());
    for (i, step) in finding.remedy.iter().enumerate() {
        let label = if i == 0 { "  do        " } else { "            " };
        line(out, label, &format!("{}. {step}", i + 1), style, Ansi::new());
    }
    for (i, step) in finding.avoid.iter().enumerate() {
        // The label says the first word of each line.
        let step = step.strip_prefix("Don't ").unwrap_or(step);
        line(out, if i == 0 { "  don't     " } else { "            " }, step, style, Ansi::new());
    }
    // A command is to be copied: the terminal may break it, we must not.
    line(out, "  next      ", &finding.next, Style { width: None, ..style }, Ansi::new());
    line(out, "  rule      ", &format!("{0} (tcpstate explain {0})", finding.rule), style, Ansi::new());
}

/// One line per finding, for `summary`.
pub fn write_brief(out: &mut String, findings: &[Finding], style: Style) {
    if findings.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{}", style.heading("FINDINGS"));
    for finding in findings {
        let word = format!("{:8}", finding.severity.key());
        let label = style.paint(severity_style(finding.severity), &word);
        let mut text = String::new();
        push_wrapped(&mut text, 9, &sanitize::clean(&finding.summary), style.width, style, Ansi::new());
        let _ = write!(out, "{label} {}", text.trim_start());
    }
    let _ = writeln!(out, "{}", style.dim("run `tcpstate doctor` for evidence and remedies"));
}

/// The subject in words.
#[must_use]
pub fn subject_text(subject: &Subject) -> String {
    let mut parts = Vec::new();
    match (&subject.comm, subject.pid) {
        (Some(comm), Some(pid)) => parts.push(format!("{comm}({pid})")),
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
        parts.push(format!("container {container}"));
    }
    if let Some(pod) = &subject.pod {
        parts.push(format!("pod {pod}"));
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
        Evidence::Millis(ms) => format!("{ms} ({})", value::millis(*ms)),
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

/// The line of a monitoring plugin: status, the worst finding, perfdata.
#[must_use]
pub fn nagios(diagnosis: &Diagnosis, perfdata: &[(String, u64)]) -> (u8, String) {
    let worst = diagnosis.findings.first().map(|f| f.severity);
    let (code, word) = match worst {
        Some(Severity::Critical | Severity::High) => (2, "CRITICAL"),
        Some(Severity::Warning) => (1, "WARNING"),
        Some(Severity::Info) | None => (0, "OK"),
    };
    let loud: Vec<&Finding> = diagnosis.findings.iter().filter(|f| f.severity >= Severity::Warning).collect();
    let text = match loud.as_slice() {
        [] => "no finding at warning or above".to_owned(),
        [only] => only.summary.clone(),
        [first, rest @ ..] => format!("{} (and {} more)", first.summary, rest.len()),
    };
    // `|` begins the perfdata.
    let text = sanitize::clean(&text).replace('|', "/");
    let data: Vec<String> = perfdata.iter().map(|(name, n)| format!("{name}={n}")).collect();
    let mut out = format!("TCPSTATE {word} - {text} | {}\n", data.join(" "));
    for finding in loud {
        out.push_str(&format!(
            "{}: {}: {}\n",
            finding.severity.key(),
            finding.rule,
            sanitize::clean(&finding.summary).replace('|', "/")
        ));
    }
    (code, out)
}

/// A label and its text, the text wrapped under itself on a terminal.
fn line(out: &mut String, label: &str, text: &str, style: Style, ansi: Ansi) {
    if text.is_empty() {
        return;
    }
    out.push_str(&style.dim(label));
    let mut body = String::new();
    push_wrapped(&mut body, label.chars().count(), &sanitize::clean(text), style.width, style, ansi);
    out.push_str(body.trim_start());
}

/// Appends text in lines that all begin at the same column.
pub fn push_wrapped(out: &mut String, indent: usize, text: &str, width: Option<usize>, style: Style, ansi: Ansi) {
    let room = width.map_or(usize::MAX, |w| w.saturating_sub(indent).max(20));
    let blank = " ".repeat(indent);
    let mut line = String::new();
    let mut len = 0;
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        let n = word.chars().count();
        if len > 0 && len + 1 + n > room {
            let _ = writeln!(out, "{blank}{}", style.paint(ansi, &line));
            line.clear();
            len = 0;
        }
        if len > 0 {
            line.push(' ');
            len += 1;
        }
        line.push_str(word);
        len += n;
    }
    let _ = writeln!(out, "{blank}{}", style.paint(ansi, &line));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity) -> Finding {
        Finding::new("close-wait-leak", severity, 0.95, "java (812) does not close 250 connections | really")
            .because("growth in two samples")
            .evidence("count", Evidence::Count(250))
            .evidence("oldest_age_ms", Evidence::Millis(250_000))
            .evidence("fd_share_percent", Evidence::Percent(24.414))
            .why("The peer sent FIN. The kernel waits for close() with no timer at all.")
            .remedy(["close on EOF and on error", "restart it"])
            .avoid(["Don't look for a sysctl"])
            .next("tcpstate list state close-wait and pid = 812")
    }

    #[test]
    fn a_report_fits_the_terminal_and_says_everything() {
        let mut long = finding(Severity::Critical);
        long.summary = "a sentence that says ".repeat(8) + "everything";
        long.next = format!("tcpstate list {}", "state close-wait or ".repeat(5) + "state last-ack");
        let next = long.next.clone();
        let diagnosis = Diagnosis {
            findings: vec![finding(Severity::High), long],
            not_checked: vec![
                ("abort-storm", "needs a second sample".into()),
                ("orphan-limit", "no permission".into()),
                ("syn-flood", "needs a second sample".into()),
            ],
            ..Diagnosis::default()
        };
        let mut out = String::new();
        write_report(&mut out, &diagnosis, Severity::Info, 5, 36, Style { color: false, width: Some(80) });
        for part in [
            "HIGH",
            "250000 (4m10s)",
            "24.41",
            "1. close on EOF",
            "2. restart",
            "  don't     look for",
            "33 of 36 rules",
            "not checked: abort-storm, syn-flood: needs a second sample",
            "not checked: orphan-limit: no permission",
        ] {
            assert!(out.contains(part), "{part}: {out}");
        }
        assert!(out.contains(&next), "a command stays in one piece: {out}");
        let fits = |l: &str| l.chars().count() <= 80 || l.contains(&next);
        assert!(out.lines().all(|l| fits(l) && l.trim_end() == l), "{out}");
        assert!(out.contains("\n          sentence"), "under itself: {out}");
    }

    #[test]
    fn the_monitoring_line_has_one_bar_and_the_code_of_the_worst() {
        for (severity, code) in
            [(Severity::Info, 0), (Severity::Warning, 1), (Severity::High, 2), (Severity::Critical, 2)]
        {
            let diagnosis = Diagnosis { findings: vec![finding(severity)], ..Diagnosis::default() };
            let (got, text) = nagios(&diagnosis, &[("established".into(), 5)]);
            assert_eq!(got, code);
            assert_eq!(text.lines().next().unwrap().matches('|').count(), 1, "{text}");
            assert!(text.contains("| established=5\n"), "{text}");
        }
    }
}
