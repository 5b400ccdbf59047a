//! The first screen: states, what the selected line was over time, the largest groups, what is wrong.
//!
//! Input: the state of the screen and the frame on it. Output: cells. What is wrong always has a line, however small the
//! screen is. Not here: the curves (`chart`), the lists that other views have too (`views`).

use ratatui::style::Style;

use super::chart::Curve;
use super::history::{Rate, SAMPLES, Series};
use super::hits::Target;
use super::list::Headings;
use super::order::Table;
use super::pen::Pen;
use super::state::{App, Tab};
use super::{chart, findings, machine, views};
use crate::aggregate::Flow;
use crate::model::column::Names;
use crate::model::{State, StateSet};
use crate::render::watch::plain;
use crate::text::{self, grouped, rate, signed_rate};
use crate::watch::Frame;

/// From this width on, the chart stands beside the states.
const WIDE: u16 = 100;
/// From this width on, the states beside the chart say what came in and went out.
const FLOWING: u16 = 116;
/// The chart beside them is no narrower than this for their histories.
const CHART: u16 = 44;
/// From this width on, a table of states says what came in and went out.
const FLOWS: u16 = 64;
/// So many lines of edges say something.
const EDGES: u16 = 5;
/// From this width on, the machine stands beside the groups.
const WITH_MACHINE: u16 = 170;

/// Draws it.
pub(super) fn draw(app: &App, frame: &Frame, names: &dyn Names, pen: &mut Pen<'_>) {
    let (width, height) = (pen.area.width, pen.area.height);
    let present = frame.present().count();
    let wanted = u16::try_from(frame.findings.len()).unwrap_or(u16::MAX).saturating_add(1);
    // A small screen has a line for the worst, a larger one a list.
    let incidents = if height < 24 { 1 } else { wanted.clamp(2, (height / 4).max(6)) };
    let main = height - incidents;
    let lines = u16::try_from(app.states().len() + Rate::ALL.len() + 1).unwrap_or(u16::MAX);
    let sentences = accounts(frame);
    let below = if width >= WIDE {
        let left = if width >= FLOWING { (width - CHART).clamp(68, 82) } else { 56 };
        let told: usize = sentences.iter().map(|s| s.chars().count().div_ceil(usize::from(left) - 6)).sum();
        let groups = frame.groups.as_ref().map_or(0, |g| g.rows.len() + 2 + usize::from(g.rest.is_some()));
        let groups = u16::try_from(groups).unwrap_or(u16::MAX).clamp(4, 20.max(main / 3));
        let lower = if width >= WITH_MACHINE { groups.max(machine::HEIGHT + 1) } else { groups };
        let needed = lines.saturating_add(u16::try_from(told + 1).unwrap_or(0)).min(main.saturating_sub(8));
        let upper = main.saturating_sub(lower).max(needed).max(lines).min(main);
        let mut list = pen.part(0, 0, left, upper);
        let y = table(app, frame, &mut list);
        let y = write_accounts(&sentences, y + 1, &mut list) + 1;
        // What is left beside a tall chart shows who went where; a selection of states has no edges of its own.
        if frame.shown == StateSet::ALL && y + EDGES <= upper {
            machine::table(app, frame, &mut pen.part(0, y, left, upper - y));
        }
        history(app, frame, names, &mut pen.part(left + 1, 0, width - left - 2, upper));
        upper
    } else {
        let tall = main >= lines + 24;
        let y = table(app, frame, &mut pen.part(0, 0, width, main.min(lines)));
        let y = write_accounts(&sentences, y + 1, &mut pen.part(0, 0, width, main));
        if tall { y + history(app, frame, names, &mut pen.part(1, y + 1, width - 2, 10)) + 1 } else { y }
    };
    if below + 3 <= main {
        let rest = main - below - 1;
        let beside = width >= WITH_MACHINE && rest >= machine::HEIGHT;
        let groups = if beside { width - machine::WIDTH - 3 } else { width };
        let mut part = pen.part(0, below + 1, groups, rest);
        if frame.groups.is_some() {
            views::group_table(app, frame, names, &mut part, None);
        }
        if beside {
            let states = app.states();
            let shown = machine::Shown::new(app, frame, &states, true);
            machine::draw(frame, &shown, &mut pen.part(groups + 1, below + 1, machine::WIDTH, rest));
        }
    }
    let mut last = pen.part(0, main, width, incidents);
    if incidents > 1 {
        findings::list(frame, &mut last, 0, None);
    } else {
        worst(frame, present, &mut last);
    }
}

/// The worst of what is wrong in one line, with the number of the others.
fn worst(frame: &Frame, present: usize, pen: &mut Pen<'_>) {
    let theme = pen.theme;
    let more = if present > 1 { format!(" +{} under 4", present - 1) } else { String::new() };
    let room = pen.area.width.saturating_sub(u16::try_from(more.len()).unwrap_or(0));
    if findings::worst(frame, 1, &mut pen.part(0, 0, room, 1)) {
        pen.text(room, 0, &more, theme.dim());
    } else {
        let text = if frame.judged_at_ms.is_some() { "nothing wrong found" } else { "rules: not run yet" };
        pen.text(1, 0, text, theme.dim());
    }
}

/// States and rates: counts, changes, curves. Returns the next free line.
fn table(app: &App, frame: &Frame, pen: &mut Pen<'_>) -> u16 {
    let theme = pen.theme;
    let width = pen.area.width;
    let flows = width >= FLOWS;
    let curve = if flows { 51 } else { 35 };
    let headings = Headings(Table::States, app.order(Table::States));
    headings.left(1, "state", "STATE", pen);
    headings.right(24, "count", "COUNT", pen);
    headings.right(33, "change", "CHANGE/s", pen);
    if flows {
        headings.right(41, "in", "IN/s", pen);
        headings.right(49, "out", "OUT/s", pen);
    }
    if width >= curve + 7 {
        pen.text(curve, 0, "HISTORY", theme.heading());
    }
    let states = app.states();
    let total = states.len() + Rate::ALL.len();
    let rows = usize::from(pen.area.height.saturating_sub(1));
    let first = (app.cursor() + 1).saturating_sub(rows).min(total.saturating_sub(rows));
    let mut y = 1;
    let mut curves = Vec::new();
    for i in (first..total).take(rows) {
        let (series, style) = match states.get(i) {
            Some(state) => (Series::State(*state), theme.state(*state)),
            None => (Series::Rate(Rate::ALL[i - states.len()]), theme.curve()),
        };
        match &series {
            Series::State(state) => state_cells(app, frame, *state, flows, y, pen),
            Series::Rate(of) => {
                pen.text(1, y, of.name(), Style::new());
                let now = series.value(frame);
                pen.right(24, y, &now.map_or_else(|| "?".into(), |n| rate(Some(n))), Style::new());
            }
            Series::Group(_) => {}
        }
        curves.push(Curve { y, values: app.history.curve(&series, frame.seq, SAMPLES), style });
        pen.target((0, y), (width, 1), Target::Line(Tab::States, i));
        y += 1;
    }
    chart::curves(&curves, curve, pen);
    if let Some(at) = app.cursor().checked_sub(first).filter(|at| *at < curves.len()) {
        pen.select(u16::try_from(at + 1).unwrap_or(u16::MAX));
    }
    y
}

/// One state: its name, its count, what changes.
fn state_cells(app: &App, frame: &Frame, state: State, flows: bool, y: u16, pen: &mut Pen<'_>) {
    let theme = pen.theme;
    let n = frame.all().get(state);
    let quiet = |idle: bool| if idle { theme.dim() } else { Style::new() };
    pen.text(1, y, state.name(), if n == 0 { theme.dim() } else { theme.state(state) });
    let count = if frame.unseen.contains(state) && n == 0 { "?".into() } else { grouped(n) };
    pen.right(24, y, &count, quiet(n == 0));
    let slope = app.history.slope(&Series::State(state), frame.seq);
    let still = slope.is_none_or(|s| s.abs() < 0.05);
    let change = slope.map_or_else(|| "-".to_owned(), signed_rate);
    pen.right(33, y, &change, quiet(still));
    if flows {
        let flow = app.history.flow(state, frame.seq);
        for (end, n) in [(41, flow.map(|f| f.0)), (49, flow.map(|f| f.1))] {
            pen.right(end, y, &rate(n), quiet(n.is_none_or(|n| n == 0.0)));
        }
    }
}

/// The chart of what is selected; returns its height.
fn history(app: &App, frame: &Frame, names: &dyn Names, pen: &mut Pen<'_>) -> u16 {
    if let Some(series) = app.series() {
        views::history(app, frame, &series, names, pen);
    }
    pen.area.height
}

/// Writes the accounts from a line on, each that has room as a whole; returns the next free line.
fn write_accounts(sentences: &[String], mut y: u16, pen: &mut Pen<'_>) -> u16 {
    for text in sentences {
        let lines = views::lines(pen, 1, text);
        if y + lines <= pen.area.height {
            y += views::paragraph(pen, 1, y, text, Style::new());
        }
    }
    y
}

/// The accounts in sentences.
fn accounts(frame: &Frame) -> Vec<String> {
    let mut lines = Vec::new();
    if frame.elapsed_ms.is_some() {
        let ledger = &frame.since_start;
        let number = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), grouped);
        let signed = |n: Option<i64>| n.map_or_else(|| "?".to_owned(), plain::signed);
        let over = text::compact_ms(ledger.elapsed_ms);
        let parts = |flow: &Flow| flow.unseen.map_or_else(|| "? unseen".into(), |unseen| plain::hidden(flow, unseen));
        match frame.ledger_gap {
            None => lines.push(format!(
                "{over} since the start: opened {} ({}), into TIME_WAIT {} ({}), ended otherwise {}",
                number(ledger.opened.total()),
                parts(&ledger.opened),
                number(ledger.time_wait.total()),
                parts(&ledger.time_wait),
                signed(ledger.ended)
            )),
            Some(why) => lines.push(format!(
                "{over} since the start: opened {} seen, into TIME_WAIT {} seen; unseen: not known, {why}",
                grouped(ledger.opened.seen),
                grouped(ledger.time_wait.seen)
            )),
        }
        // The kernel has no counters for a selection.
        lines.extend(ledger.active_opens.or(ledger.resets).map(|_| {
            format!(
                "namespace: {} active opens, {} passive, {} failed attempts, {} resets",
                number(ledger.active_opens),
                number(ledger.passive_opens),
                number(ledger.attempt_fails),
                number(ledger.resets)
            )
        }));
    }
    if let Some(a) = frame.time_wait_owners.filter(|a| a.total() > 0) {
        lines.push(format!("TIME_WAIT owners: {}", plain::time_wait_owners(&a)));
    }
    lines
}
