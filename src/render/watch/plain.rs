//! A timestamped block per interval, for a pipe, a log or `--plain`. It begins with the time, ends with an empty
//! line and moves no cursor.

use std::fmt::Write;

use super::{clock, line_label};
use crate::aggregate::Flow;
use crate::model::State;
use crate::model::column::Names;
use crate::render::style::{self, Style};
use crate::render::summary;
use crate::render::{report, sanitize};
use crate::text::{self, grouped, rate};
use crate::watch::{Frame, Sighting, TimeWaitOwners, TraceStatus};

/// Appends one block.
pub fn write_block(out: &mut String, frame: &Frame, names: &dyn Names, style: Style) {
    let all = frame.all();
    let since = match frame.elapsed_ms {
        None => "first sample".to_owned(),
        Some(ms) => format!("after {}", text::compact_ms(ms)),
    };
    let filter = if frame.filter.is_empty() { String::new() } else { format!(", {}", frame.filter) };
    let late = match (frame.is_late(), frame.skipped) {
        (true, 0) => ", late: a sample takes longer than the interval".to_owned(),
        (true, n) => format!(", late: {} left out", text::count(n, "interval", "intervals")),
        _ => String::new(),
    };
    // Writing into a String cannot fail.
    let _ = writeln!(
        out,
        "{}  {}",
        style.heading(&format!(
            "{} UTC  {}",
            clock(frame.taken_at_ms),
            text::count(all.total(), "TCP socket", "TCP sockets")
        )),
        style.dim(&format!("{since}{}{late}", sanitize::clean(&filter)))
    );
    let _ = writeln!(out, "{}", style.heading("STATE              COUNT     IN/s    OUT/s"));
    for state in State::ALL {
        let (n, entered, left) = (all.get(state), frame.matrix.entered(state), frame.matrix.left(state));
        if !frame.shown.contains(state) || n + entered + left == 0 {
            continue;
        }
        let name = style.paint(style::state(state), &format!("{:14}", state.name()));
        let (entered, left) = (rate(frame.per_second(entered)), rate(frame.per_second(left)));
        let _ = writeln!(out, "{name} {:>9} {entered:>8} {left:>8}", grouped(n));
    }
    if all.unknown() > 0 {
        let _ = writeln!(out, "UNKNOWN STATE  {:>9}", grouped(all.unknown()));
    }
    let width = style.width.unwrap_or(usize::MAX);
    let mut labelled = |label: &str, text: &str| {
        let _ = writeln!(out, "{label:9} {}", fold(text, width.saturating_sub(10)));
    };
    if frame.elapsed_ms.is_some() {
        let changes = frame.matrix.changes();
        if !changes.is_empty() {
            labelled("changes", &changes_text(frame));
        }
        labelled("accounts", &accounts(frame));
        if let Some(trace) = &frame.trace {
            labelled("trace", &trace_text(trace));
        }
    }
    if let Some(attribution) = frame.time_wait_owners.filter(|a| a.total() > 0) {
        let share = |n: u64| format!("{} ({:.0}%)", grouped(n), n as f64 * 100.0 / attribution.total() as f64);
        let traced = if attribution.traced > 0 {
            format!(", of them {} traced", share(attribution.traced))
        } else {
            String::new()
        };
        labelled(
            "owners",
            &format!(
                "of TIME_WAIT: {} exact{traced}, {} likely, {} unknown",
                share(attribution.exact),
                share(attribution.likely),
                share(attribution.unknown)
            ),
        );
    }
    if let Some(groups) = &frame.groups {
        for group in &groups.rows {
            let states: Vec<String> = State::ALL
                .into_iter()
                .filter(|s| group.counts.get(*s) > 0)
                .map(|s| format!("{} {}", s.name(), grouped(group.counts.get(s))))
                .collect();
            let label = sanitize::clean(&line_label(group, names));
            labelled(groups.by.name(), &format!("{label}: {} ({})", grouped(group.counts.total()), states.join(", ")));
        }
        if let Some((n, counts)) = &groups.rest {
            labelled(groups.by.name(), &format!("{n} more: {}", grouped(counts.total())));
        }
    }
    // Resolved findings are shown until the rules run again.
    let shown = |s: &&Sighting| !s.is_gone() || s.gone_ms == frame.judged_at_ms;
    for sighting in frame.findings.iter().filter(shown) {
        let finding = &sighting.finding;
        let word = match sighting.gone_ms {
            None => style.paint(report::severity_style(finding.severity), &format!("{:9}", finding.severity.key())),
            Some(_) => style.dim(&format!("{:9}", "gone")),
        };
        let until = sighting.gone_ms.map_or_else(String::new, |ms| format!(", gone at {}", clock(ms)));
        let times = format!("(since {}{until})", clock(sighting.first_ms));
        let text = fold(&format!("{} {times}", sanitize::clean(&finding.summary)), width.saturating_sub(10));
        let _ = writeln!(out, "{word} {text}");
    }
    summary::write_gaps(out, &frame.gaps, style);
    out.push('\n');
}

/// `ESTABLISHED > TIME_WAIT 5, new > ESTABLISHED 3`, largest first.
#[must_use]
pub fn changes_text(frame: &Frame) -> String {
    let mut changes = frame.matrix.changes();
    changes.sort_by_key(|(_, _, n)| std::cmp::Reverse(*n));
    let name = |state: Option<State>, none: &'static str| state.map_or(none, State::name);
    let words: Vec<String> = changes
        .iter()
        .map(|(from, to, n)| format!("{} > {} {}", name(*from, "new"), name(*to, "gone"), grouped(n * frame.scale)))
        .collect();
    words.join(", ")
}

/// `opened 24 (20 seen, 4 unseen); into TIME_WAIT 12; ended otherwise 12, of them 2 resets`.
#[must_use]
pub fn accounts(frame: &Frame) -> String {
    let ledger = &frame.ledger;
    let flow = |name: &str, flow: &Flow| match (flow.total(), flow.unseen) {
        (Some(total), Some(0)) if flow.traced == 0 => format!("{name} {}", grouped(total)),
        (Some(total), Some(unseen)) => format!("{name} {} ({})", grouped(total), parts(flow, unseen)),
        _ => format!("{name} {} seen, ? unseen", grouped(flow.seen)),
    };
    let number = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), grouped);
    let ended = ledger.ended.map_or_else(|| "?".to_owned(), signed);
    let mut text = format!(
        "{}; {}; ended otherwise {ended}; of the whole namespace: resets {}, failed attempts {}",
        flow("opened", &ledger.opened),
        flow("into TIME_WAIT", &ledger.time_wait),
        number(ledger.resets),
        number(ledger.attempt_fails)
    );
    if let Some(why) = frame.ledger_gap {
        let _ = write!(text, " (unseen is not known: {why})");
    }
    text
}

/// `20 seen, 3 only traced, 1 unseen`; traced only where there is any.
#[must_use]
pub fn parts(flow: &Flow, unseen: u64) -> String {
    format!("{} seen, {}", grouped(flow.seen), hidden(flow, unseen))
}

/// `3 only traced, 1 unseen`, or `1 unseen`: what no sample showed.
#[must_use]
pub fn hidden(flow: &Flow, unseen: u64) -> String {
    let traced = if flow.traced > 0 { format!("{} only traced, ", grouped(flow.traced)) } else { String::new() };
    format!("{traced}{} unseen", grouped(unseen))
}

/// `20 exact (12 traced), 4 likely, 1 unknown`.
#[must_use]
pub fn time_wait_owners(a: &TimeWaitOwners) -> String {
    let traced = if a.traced > 0 { format!(" ({} traced)", grouped(a.traced)) } else { String::new() };
    format!("{} exact{traced}, {} likely, {} unknown", grouped(a.exact), grouped(a.likely), grouped(a.unknown))
}

/// `by bpf: 1,204 changes, none lost`.
#[must_use]
pub fn trace_text(trace: &TraceStatus) -> String {
    let lost =
        if trace.lost == 0 { "none lost".to_owned() } else { format!("{} LOST since the start", grouped(trace.lost)) };
    format!("by {}: {} changes, {lost}", trace.via, grouped(trace.changes))
}

/// A number that a late counter may have made negative.
#[must_use]
pub fn signed(n: i64) -> String {
    format!("{}{}", if n < 0 { "-" } else { "" }, grouped(n.unsigned_abs()))
}

/// The text in lines of at most `width`, later ones indented under the first.
fn fold(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let len = word.chars().count();
        if used > 0 && used + 1 + len > width.max(20) {
            out.push_str("\n          ");
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += len;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::column::NoNames;
    use crate::watch::testkit;

    #[test]
    fn a_block_begins_with_the_time_and_ends_with_an_empty_line() {
        let mut out = String::new();
        write_block(&mut out, &testkit::frame(), &NoNames, Style::PLAIN);
        insta::assert_snapshot!(out);
        assert!(out.ends_with("\n\n") && out.lines().all(|l| !l.ends_with(' ')), "{out:?}");
        let mut narrow = String::new();
        write_block(&mut narrow, &testkit::frame(), &NoNames, Style { color: false, width: Some(80) });
        assert!(narrow.lines().all(|l| l.chars().count() <= 80), "{narrow}");
    }
}
