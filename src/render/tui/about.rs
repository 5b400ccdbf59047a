//! A list of sockets, and what stands beside and below it where it leaves room: the report of the finding that they are of, the other
//! sockets of its process, where all of them are in the state machine, and their number over time.
//!
//! Input: the list that is open. Output: cells. Not here: the list itself (`sockets`).

use std::sync::Arc;

use ratatui::layout::Rect;

use super::history::{SAMPLES, Series};
use super::pen::Pen;
use super::state::App;
use super::{findings, machine, sockets, views};
use crate::aggregate::Key;
use crate::model::column::Names;
use crate::model::{State, StateSet};
use crate::text::{self, grouped};
use crate::watch::{Frame, GroupId, Lines, RowOwner, Sighting};

/// From this width on, the list has a column beside it.
const BESIDE: u16 = 180;
/// Fewer lines below a list say nothing.
const LEAST: u16 = 4;
/// From this height on, a long list of a finding leaves room for its report.
const TALL: u16 = 30;
/// A chart has at least so many lines, and no more than this.
const CHART: (u16, u16) = (8, 16);

/// The width and height of a list that needs so many lines, in an area.
fn room_of_list(app: &App, needed: u16, area: Rect) -> (u16, u16) {
    let is_of_finding = app.sighting().is_some();
    let width = if area.width >= BESIDE { area.width - (area.width / 20 * 9).clamp(84, 120) } else { area.width };
    let height = if needed.saturating_add(LEAST + 1) <= area.height {
        needed
    } else if is_of_finding && width == area.width && area.height >= TALL {
        area.height / 5 * 3
    } else {
        area.height
    };
    (width, height)
}

/// Draws the list, and fills what it leaves of the area.
pub(super) fn draw(app: &App, frame: &Frame, names: &dyn Names, pen: &mut Pen<'_>) {
    let Some(lines) = app.open_lines() else {
        let why = if app.is_held() { "rows are kept for the newest samples only" } else { "the rows are on their way" };
        pen.text(1, 1, why, pen.theme.dim());
        return;
    };
    let (width, height) = room_of_list(app, sockets::height(frame, lines), pen.area);
    sockets::list(app, frame, lines, names, &mut pen.part(0, 0, width, height));
    let about = About { app, frame, lines, names, sighting: app.sighting() };
    let (right, below) = (pen.area.width - width, pen.area.height - height);
    if right == 0 {
        let mut free = Free::new(pen.part(0, height, width, below), true);
        for block in [About::report, About::others, About::history, About::machine, About::edges] {
            block(&about, &mut free);
        }
        return;
    }
    // The machine comes below a short list, else below the report.
    let mut free = Free::new(pen.part(0, height, width, below), true);
    about.others(&mut free);
    let has_machine = free.has_room_for_machine();
    about.machine(&mut free);
    about.chart(&mut free, below);
    let mut free = Free::new(pen.part(width + 1, 0, right - 1, pen.area.height), false);
    about.report(&mut free);
    if !has_machine {
        about.machine(&mut free);
    }
    about.edges(&mut free);
}

/// What is left of a column, from its top.
struct Free<'a> {
    pen: Pen<'a>,
    used: u16,
}

impl<'a> Free<'a> {
    /// `is_below`: something stands above it, so that a line stays blank.
    fn new(pen: Pen<'a>, is_below: bool) -> Free<'a> {
        let used = u16::from(is_below).min(pen.area.height);
        Free { pen, used }
    }

    fn height(&self) -> u16 {
        self.pen.area.height - self.used
    }

    fn has_room_for_machine(&self) -> bool {
        self.height() > machine::HEIGHT && self.pen.area.width >= machine::WIDTH
    }

    /// Draws in the rest; what is drawn says how many lines it took.
    fn draw(&mut self, block: impl FnOnce(&mut Pen<'_>) -> u16) {
        let (width, rest) = (self.pen.area.width, self.height());
        let lines = block(&mut self.pen.part(0, self.used, width, rest)).min(rest);
        // A line between two blocks.
        self.used = (self.used + lines + 1).min(self.pen.area.height);
    }
}

struct About<'a> {
    app: &'a App,
    frame: &'a Frame,
    lines: &'a Lines,
    names: &'a dyn Names,
    sighting: Option<&'a Sighting>,
}

impl About<'_> {
    fn report(&self, free: &mut Free<'_>) {
        let Some(sighting) = self.sighting.filter(|_| free.height() >= LEAST) else { return };
        free.draw(|pen| findings::report(sighting, findings::fitting(sighting, pen), pen));
    }

    /// What else the processes have that the finding is about.
    fn others(&self, free: &mut Free<'_>) {
        let others = &self.lines.others;
        let total = others.counts.total();
        let Some(sighting) = self.sighting.filter(|_| total > 0 && free.height() >= LEAST) else { return };
        let subject = &sighting.finding.subject;
        let (comm, pid) = (subject.comm.as_deref().unwrap_or_default(), subject.pid.unwrap_or_default());
        let more = match subject.pids.len() {
            0 | 1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let states = State::ALL.into_iter().filter(|state| others.counts.get(*state) > 0);
        let states: Vec<String> = states.map(|s| format!("{} {}", grouped(others.counts.get(s)), s.name())).collect();
        let name = text::named(comm, pid);
        let title = format!("{} OTHER SOCKETS OF {name}{more}: {}", grouped(total), states.join(", "));
        free.draw(|pen| {
            pen.marked(1, 0, &title, pen.theme.heading());
            let (width, rest) = (pen.area.width, pen.area.height - 1);
            // The chart below keeps its room.
            let room = if rest >= CHART.0 * 2 { rest - CHART.0 - 1 } else { rest };
            let interval_ms = self.frame.interval_ms;
            1 + sockets::others(&others.lines, total, interval_ms, self.names, &mut pen.part(0, 1, width, room))
        });
    }

    /// The states of the listed sockets.
    fn states(&self) -> StateSet {
        StateSet::of(&self.lines.lines.iter().map(|line| line.socket.state).collect::<Vec<_>>())
    }

    fn machine(&self, free: &mut Free<'_>) {
        if !free.has_room_for_machine() {
            return;
        }
        let shown = machine::Shown::of_rows(self.app, self.frame, self.states());
        free.draw(|pen| {
            let (width, theme) = (pen.area.width, pen.theme);
            pen.text(1, 0, "THE STATE MACHINE", theme.heading());
            pen.marked(20, 0, "reversed: where these sockets are; the numbers are of all", theme.dim());
            machine::draw(self.frame, &shown, &mut pen.part(0, 1, width, machine::HEIGHT));
            machine::HEIGHT + 1
        });
    }

    /// Who went where, of all sockets.
    fn edges(&self, free: &mut Free<'_>) {
        if free.height() < CHART.0 {
            return;
        }
        free.draw(|pen| {
            machine::table(self.app, self.frame, pen);
            machine::TABLE_HEIGHT
        });
    }

    fn history(&self, free: &mut Free<'_>) {
        self.chart(free, CHART.1);
    }

    /// The group that is open, or that of the process that a finding is about.
    fn group(&self) -> Option<GroupId> {
        if let Some((_, id)) = self.app.drill.as_ref().and_then(|drill| drill.of.group.as_ref()) {
            return Some(id.clone());
        }
        self.sighting?;
        let groups = self.frame.groups.as_ref().filter(|groups| groups.by == Key::Process)?;
        let mut held = self.lines.lines.iter().chain(&self.lines.others.lines).filter_map(|line| match &line.owner {
            RowOwner::Holds(label) => Some(GroupId::Owner(Arc::clone(label))),
            _ => None,
        });
        held.find(|id| groups.rows.iter().any(|group| group.id == *id))
    }

    /// How many there were over time, in at most so many lines: of the group, or of the state that all of them are in.
    fn chart(&self, free: &mut Free<'_>, most: u16) {
        let states = self.states();
        let mut only = State::ALL.into_iter().filter(|state| states.contains(*state));
        let series = match (self.group(), only.next(), only.next()) {
            (Some(id), ..) => Series::Group(id),
            (None, Some(state), None) => Series::State(state),
            _ => return,
        };
        let is_known = self.app.history.curve(&series, self.frame.seq, SAMPLES).iter().any(|(_, n)| n.is_some());
        if free.height() < CHART.0 || free.pen.area.width < 40 || !is_known {
            return;
        }
        free.draw(|pen| {
            let (width, height) = (pen.area.width, pen.area.height.min(most));
            views::history(self.app, self.frame, &series, self.names, &mut pen.part(1, 0, width - 2, height));
            height
        });
    }
}
