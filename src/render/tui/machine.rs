//! The state machine as a picture and as a table: sockets in each state, and how many took each edge.
//!
//! Input: the counts of a sample, and what moved (`edges`). Output: cells.

use ratatui::style::Style;

use super::chart::{self, Curve};
use super::edges::{Count, EDGES, count};
use super::history::{Moves, SAMPLES, SMOOTHED_MS};
use super::hits::Target;
use super::pen::Pen;
use super::state::{App, Tab};
use crate::model::{State, StateSet};
use crate::text::{self, grouped};
use crate::watch::Frame;

/// The size of the picture in cells.
pub(super) const WIDTH: u16 = 80;
pub(super) const HEIGHT: u16 = 20;
/// The lines of the table with every edge that Linux takes, and its heading.
pub(super) const TABLE_HEIGHT: u16 = 26;

/// The time over which edges are counted.
const MINUTE_MS: u64 = 60_000;

/// `{state}` is a node, `[edge]` a count; each is as wide as written here. Lines go on through what they leave free.
const PICTURE: [&str; HEIGHT as usize] = [
    "                       {bound_inactive        }",
    "        listen() [listened ]│     │connect(): send SYN [active    ]",
    "  {listen         }◄────────┘     └───────────►{syn_sent         } × [cut_ss   ]",
    "     │ × [unlisten] └┄┄┄┄┄┄┄┄┄ send() ┄┄┄┄┄┄┄┄┄┄┄┘ │ │ receive SYN+ACK",
    "     ▼ receive SYN [syn    ] ┌─ both call [bcall ]─┘ │ [connected ]",
    "  {syn_recv        }◄────────┘ × [cut_sr   ]         │",
    "     │ └ receive ACK ─┐                              │",
    "     │   [passive   ] └──────►{established         }◄┘ × [cut_es   ]",
    "     │ close()                   │             │ the peer closes",
    "     │ [early   ]     send FIN   │             │ receive FIN",
    "     │          ┌─[close      ]──┘             └─────┐ [closed    ]",
    "     ▼          ▼                                    ▼",
    "┌┄{fin_wait1        } × [cut_f1  ]               {close_wait      } × [cut_cw  ]",
    "┆    │ receive ACK   └── receive FIN ──┐ [bclose ]   │ close(): send FIN",
    "┆    ▼ [ack       ]                    ▼             ▼ [last_ack  ]",
    "┆ {fin_wait2        } × [cut_f2]  {closing       } {last_ack       } × [cut_la ]",
    "┆    │ receive FIN                     │ × [cut_cg]  │ receive ACK",
    "┆    ▼ [fin       ]                    │ receive ACK ▼ [done      ]",
    "└┄►{time_wait        }◄────────────────┘ [closing  ] gone",
    "     └─► gone after 60 s or reused [expired] × reset, timeout, abort ┄ not Linux",
];

/// What the picture shows besides the frame.
pub(super) struct Shown<'a> {
    /// The states with a line in the list, and the selected one of them, or those of the sockets that are open.
    pub states: &'a [State],
    pub selected: StateSet,
    /// What moved; `None` before the second sample.
    pub moves: Option<Moves>,
    /// Rates, not counts.
    pub per_second: bool,
}

impl Shown<'_> {
    /// What happened lately, per second, or within a minute.
    pub(super) fn new<'a>(app: &App, frame: &Frame, states: &'a [State], per_second: bool) -> Shown<'a> {
        let selected = states.get(app.cursor()).map_or(StateSet::EMPTY, |state| StateSet::of(&[*state]));
        let ms = if per_second { SMOOTHED_MS } else { MINUTE_MS };
        Shown { states, selected, moves: app.history.moves(frame.seq, ms), per_second }
    }

    /// Where sockets are that stand in a list of their own.
    pub(super) fn of_rows(app: &App, frame: &Frame, selected: StateSet) -> Shown<'static> {
        Shown { states: &[], selected, moves: app.history.moves(frame.seq, MINUTE_MS), per_second: false }
    }

    /// What the numbers at the edges are.
    fn period(&self) -> String {
        match &self.moves {
            None => "after the next sample".into(),
            Some(_) if self.per_second => "per second".into(),
            Some(moves) => format!("in the last {}", text::compact_ms(moves.ms)),
        }
    }
}

/// What is filled in.
struct Hole<'p> {
    x: u16,
    cells: usize,
    /// Of a state; otherwise of an edge.
    is_node: bool,
    name: &'p str,
    /// A line goes on behind it: to its arrow, or through.
    arrow: bool,
    through: bool,
}

/// The holes of a line of the picture.
fn holes(line: &str) -> Vec<Hole<'_>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = line[from..].find(['{', '[']).map(|at| from + at) {
        let is_node = line[at..].starts_with('{');
        let Some(len) = line[at..].find(if is_node { '}' } else { ']' }).map(|end| end + 1) else { break };
        let (before, after) = (&line[..at], &line[at + len..]);
        found.push(Hole {
            x: u16::try_from(before.chars().count()).unwrap_or(0),
            cells: len,
            is_node,
            name: line[at + 1..at + len - 1].trim_end(),
            arrow: after.starts_with('◄'),
            through: after.starts_with('─'),
        });
        from = at + len;
    }
    found
}

/// Draws the picture; the selected state is reversed. A click on a state selects it in the list of states.
pub(super) fn draw(frame: &Frame, shown: &Shown<'_>, pen: &mut Pen<'_>) {
    let line_style = pen.theme.dim();
    for (line, y) in PICTURE.iter().zip(0..) {
        let holes = holes(line);
        let mut cells: Vec<char> = line.chars().collect();
        for hole in &holes {
            let fill = if hole.arrow || hole.through { '─' } else { ' ' };
            let from = usize::from(hole.x);
            cells[from..from + hole.cells + usize::from(hole.arrow)].fill(fill);
        }
        pen.text(0, y, &cells.iter().collect::<String>(), line_style);
        for hole in &holes {
            let end = if hole.is_node { node(frame, shown, hole, y, pen) } else { edge(shown, hole, y, pen) };
            if hole.arrow {
                pen.text(end, y, " ◄", line_style);
            }
        }
    }
    pen.text(1, 0, &shown.period(), pen.theme.heading());
}

/// One state and the number of its sockets; returns the column behind it.
fn node(frame: &Frame, shown: &Shown<'_>, hole: &Hole<'_>, y: u16, pen: &mut Pen<'_>) -> u16 {
    let theme = pen.theme;
    let Some(state) = State::parse(hole.name) else { return hole.x };
    let n = frame.all().get(state);
    let count = if frame.shown.contains(state) || n > 0 { grouped(n) } else { "-".into() };
    let style = if n == 0 { theme.dim() } else { theme.state(state) };
    let style = if shown.selected.contains(state) { style.patch(theme.selected()) } else { style };
    let end = pen.text(hole.x, y, &format!("{} {count}", state.name()), style);
    if let Some(at) = shown.states.iter().position(|s| *s == state) {
        pen.target((hole.x, y), (end - hole.x, 1), Target::Line(Tab::Machine, at));
    }
    end
}

/// How many took an edge; returns the column behind it.
fn edge(shown: &Shown<'_>, hole: &Hole<'_>, y: u16, pen: &mut Pen<'_>) -> u16 {
    let Some(moves) = &shown.moves else { return hole.x };
    let count = count(hole.name, moves);
    let text = count.text(hole.cells, shown.per_second.then_some(moves.ms));
    let style = if count.number() == 0 { pen.theme.dim() } else { pen.theme.heading() };
    let end = pen.text(hole.x, y, &text, style);
    if hole.through { pen.text(end, y, " ", style) } else { end }
}

/// The edges as a table: who went where, those that most took first.
pub(super) fn table(app: &App, frame: &Frame, pen: &mut Pen<'_>) {
    const COUNT: u16 = 36;
    const RATE: u16 = 45;
    const REST: u16 = 48;
    let theme = pen.theme;
    let width = pen.area.width;
    let shown = Shown::new(app, frame, &[], false);
    pen.text(1, 0, "FROM", theme.heading());
    pen.text(15, 0, "TO", theme.heading());
    let Some(moves) = &shown.moves else {
        pen.text(1, 1, &shown.period(), theme.dim());
        return;
    };
    pen.right(COUNT.min(width), 0, &format!("LAST {}", text::compact_ms(moves.ms)), theme.heading());
    pen.right(RATE, 0, "NOW/s", theme.heading());
    let lately = app.history.moves(frame.seq, SMOOTHED_MS);
    // The curve comes first where there is room for one more.
    let curve = if width >= REST + 18 { (width - REST).min(60) } else { 0 };
    let words = if width >= REST + curve + 42 { REST + curve + 2 } else { width };
    if curve > 0 {
        pen.text(REST, 0, "HISTORY", theme.heading());
        pen.text(words, 0, "WHEN", theme.heading());
    }
    let each: Vec<(u64, Option<Moves>)> = app.history.each_moves(frame.seq, SAMPLES).collect();
    let mut edges: Vec<_> = EDGES.iter().map(|edge| (edge, count(edge.key, moves))).collect();
    edges.sort_by_key(|(_, count)| std::cmp::Reverse(count.number()));
    let mut curves = Vec::new();
    for ((edge, took), y) in edges.into_iter().zip(1..pen.area.height) {
        let style = if took.number() == 0 { theme.dim() } else { Style::new() };
        pen.text(1, y, edge.from, style);
        let cut = edge.key.starts_with("cut");
        pen.text(13, y, if cut { "×" } else { ">" }, theme.dim());
        pen.text(15, y, edge.to, style);
        pen.right(COUNT.min(width), y, &took.text(9, None), style);
        if let Some(lately) = &lately {
            let now = count(edge.key, lately);
            let style = if now.number() == 0 { theme.dim() } else { theme.heading() };
            pen.right(RATE, y, now.text(7, Some(lately.ms)).trim_end_matches("/s"), style);
        }
        let value = |moves: &Moves| match count(edge.key, moves) {
            Count::Unknown | Count::AtLeast(0) => None,
            count => Some(count.number() as f64 * 1000.0 / moves.ms as f64),
        };
        if curve > 0 {
            let values = each.iter().map(|(ms, moves)| (*ms, moves.as_ref().and_then(value))).collect();
            curves.push(Curve { y, values, style: theme.curve() });
        }
        pen.text(words, y, edge.when, theme.dim());
    }
    chart::curves(&curves, 0, &mut pen.part(REST, 0, curve, pen.area.height));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_and_edge_has_its_place_in_80_columns() {
        let text = PICTURE.join("\n");
        assert!(PICTURE.iter().all(|l| l.chars().count() <= 80), "{PICTURE:#?}");
        let all: Vec<_> = PICTURE.iter().flat_map(|line| holes(line)).collect();
        for state in State::ALL.into_iter().filter(|s| *s != State::Close) {
            assert_eq!(all.iter().filter(|h| h.is_node && h.name == state.key()).count(), 1, "{state}");
        }
        for edge in &EDGES {
            let holes = all.iter().filter(|h| !h.is_node && h.name == edge.key).count();
            assert_eq!(holes, 1, "{}", edge.key);
        }
        assert_eq!(usize::from(TABLE_HEIGHT), EDGES.len() + 1);
        // What Linux does not do has a line and no number.
        assert_eq!(all.len(), State::ALL.len() - 1 + EDGES.len(), "and nothing else");
        assert!(text.contains("send()") && text.contains("└┄►"));
    }
}
