//! What a key does to the screen.
//!
//! Input: keys. Output: another state of the screen, and a [`Command`] for what only the caller can do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::draw::Drawn;
use super::drill::{of_finding, of_group, of_state};
use super::order::{Order, Table};
use super::state::{App, Command, Format, Input, Tab};
use crate::watch::next_key;

/// Intervals that `+` and `-` step through.
const INTERVALS_MS: [u64; 10] = [100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 300_000];

/// A way to move: in the list on screen, or in a page that is longer than the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Lines(isize),
    Pages(isize),
    First,
    Last,
}

impl Move {
    fn of(code: KeyCode) -> Option<Move> {
        Some(match code {
            KeyCode::Down | KeyCode::Char('j') => Move::Lines(1),
            KeyCode::Up | KeyCode::Char('k') => Move::Lines(-1),
            KeyCode::PageDown => Move::Pages(1),
            KeyCode::PageUp => Move::Pages(-1),
            KeyCode::Home => Move::First,
            KeyCode::End => Move::Last,
            _ => return None,
        })
    }
}

impl App {
    /// Moves in what is on screen. One socket, one finding and the help are read; only in a list does a move choose.
    pub(super) fn go(&mut self, to: Move, drawn: &Drawn) {
        let (now, last) = match (self.help, self.detail.is_some() || self.full) {
            (true, _) => (self.help_scroll, drawn.scroll),
            (_, true) => (self.detail_scroll, drawn.scroll),
            _ => (self.cursor(), self.len().saturating_sub(1)),
        };
        let lines = |n: isize| now.saturating_add_signed(n).min(last);
        let place = match to {
            Move::Lines(n) => lines(n),
            Move::Pages(n) => lines(n.saturating_mul(isize::try_from(drawn.page.max(1)).unwrap_or(1))),
            Move::First => 0,
            Move::Last => last,
        };
        match (self.help, self.detail.is_some() || self.full) {
            (true, _) => self.help_scroll = place,
            (_, true) => self.detail_scroll = place,
            _ if to == Move::First => self.choose_first(),
            _ => self.choose(place),
        }
    }

    /// What a key does.
    pub fn on_key(&mut self, key: KeyEvent, drawn: &Drawn) -> Option<Command> {
        self.notice = None;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Some(Command::Quit),
            KeyCode::Char('z') if control => return Some(Command::Suspend),
            KeyCode::Char('l') if control => return Some(Command::Redraw),
            _ => {}
        }
        match self.input {
            Some(Input::Filter(_)) => return self.type_filter(key.code, control),
            Some(Input::Sort(..)) => return self.type_column(key.code, control),
            None => {}
        }
        if let Some(to) = Move::of(key.code) {
            self.go(to, drawn);
            return None;
        }
        if self.help {
            self.help = false;
            return (key.code == KeyCode::Char('q')).then_some(Command::Quit);
        }
        match key.code {
            KeyCode::Char('q') => return Some(Command::Quit),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => (self.help, self.help_scroll) = (true, 0),
            KeyCode::Char(c @ '1'..='4') => return self.open_tab(Tab::ALL[c as usize - '1' as usize]),
            KeyCode::Char('m') => return self.open_tab(Tab::Machine),
            KeyCode::Char('f') => return self.open_tab(Tab::Findings),
            KeyCode::Tab => return self.open_tab(Tab::ALL[(self.tab as usize + 1) % 4]),
            KeyCode::BackTab => return self.open_tab(Tab::ALL[(self.tab as usize + 3) % 4]),
            KeyCode::Esc | KeyCode::Backspace => return self.back(),
            KeyCode::Enter => return self.enter(),
            KeyCode::Char('g') => {
                self.by = next_key(self.by, self.owners);
                if self.tab == Tab::Groups && self.drill.is_none() {
                    self.choose_first();
                }
                return Some(Command::Sample);
            }
            KeyCode::Char('s') => self.ask_for_column(),
            KeyCode::Char('<') => return self.sort_beside(-1),
            KeyCode::Char('>') => return self.sort_beside(1),
            KeyCode::Char('r') => {
                let table = self.table()?;
                return self.sort_by(table, self.order(table).column);
            }
            KeyCode::Char(' ' | 'p') if self.playback.is_some() => return self.play(),
            KeyCode::Left | KeyCode::Char('[') if self.playback.is_some() => return self.step_recorded(-1),
            KeyCode::Right | KeyCode::Char(']') if self.playback.is_some() => return self.step_recorded(1),
            KeyCode::Char(',') => return self.seek(-1),
            KeyCode::Char('.') => return self.seek(1),
            KeyCode::Char('n') if self.playback.is_some() => {
                self.held = None;
                return Some(Command::NextFinding);
            }
            KeyCode::Char(' ' | 'p') => {
                self.held = match self.held {
                    None => self.history.latest().map(|f| f.seq),
                    Some(_) => None,
                };
            }
            KeyCode::Left | KeyCode::Char('[') => self.step(-1),
            KeyCode::Right | KeyCode::Char(']') => self.step(1),
            KeyCode::Char('+' | '=') => return self.change_interval(1),
            KeyCode::Char('-') => return self.change_interval(-1),
            KeyCode::Char('/') => self.input = Some(Input::Filter(self.typed_filter.clone())),
            KeyCode::Char('e') => return Some(Command::Export(Format::Svg)),
            KeyCode::Char('E') => return Some(Command::Export(Format::Text)),
            KeyCode::Char('t') if self.tab == Tab::Machine => self.per_second = !self.per_second,
            KeyCode::Char('d') if self.detail.is_none() && self.sighting().is_some() => {
                self.full = true;
                self.detail_scroll = 0;
                // It stays this one.
                self.choose(self.cursor());
            }
            KeyCode::Char('M') => return Some(self.turn_mouse()),
            KeyCode::Char('c') => {
                let command = self.command();
                let more = self.command_note().map(|note| format!(" ({note})")).unwrap_or_default();
                self.notice = Some(format!("copied, if the terminal allows it{more}: {command}"));
                return Some(Command::Copy(command));
            }
            _ => {}
        }
        None
    }

    /// Takes the mouse, or leaves it to the terminal.
    fn turn_mouse(&mut self) -> Command {
        self.mouse = !self.mouse;
        let what = if self.mouse { "the mouse is ours" } else { "the mouse is the terminal's, to select text" };
        self.notice = Some(format!("{what}; M changes it"));
        Command::Mouse(self.mouse)
    }

    fn type_filter(&mut self, code: KeyCode, control: bool) -> Option<Command> {
        let Some(Input::Filter(text)) = &mut self.input else { return None };
        match code {
            KeyCode::Esc => self.input = None,
            KeyCode::Enter => {
                let text = text.trim().to_owned();
                self.input = None;
                return Some(Command::Filter(text));
            }
            KeyCode::Backspace => {
                text.pop();
            }
            KeyCode::Char('u') if control => text.clear(),
            KeyCode::Char(c) if !control && !c.is_control() && text.chars().count() < 500 => text.push(c),
            _ => {}
        }
        None
    }

    fn type_column(&mut self, code: KeyCode, control: bool) -> Option<Command> {
        let Some(Input::Sort(table, text, at)) = &mut self.input else { return None };
        let matching = table.matching(text);
        match code {
            KeyCode::Esc => self.input = None,
            KeyCode::Enter => return self.take_column(),
            KeyCode::Tab | KeyCode::Right | KeyCode::Down => *at = (*at + 1).min(matching.len().saturating_sub(1)),
            KeyCode::BackTab | KeyCode::Left | KeyCode::Up => *at = at.saturating_sub(1),
            KeyCode::Backspace => {
                text.pop();
                *at = 0;
            }
            KeyCode::Char(c) if !control && !c.is_control() && text.chars().count() < 40 => {
                text.push(c);
                *at = 0;
            }
            _ => {}
        }
        None
    }

    /// Sorts by the column that is chosen.
    pub(super) fn take_column(&mut self) -> Option<Command> {
        let Some(Input::Sort(table, text, at)) = &self.input else { return None };
        let (table, column) = (*table, table.matching(text).get(*at).copied());
        let Some(column) = column else {
            self.notice = Some(format!("no column is called `{text}`"));
            return None;
        };
        self.input = None;
        self.set_column(table, Order { column, descending: table.descends(column) })
    }

    fn ask_for_column(&mut self) {
        let Some(table) = self.table() else {
            self.notice = Some("this view has its own order; lists of states, groups and sockets can be sorted".into());
            return;
        };
        self.input = Some(Input::Sort(table, String::new(), 0));
    }

    /// Sorts a table by a column; once more reverses it.
    pub(super) fn sort_by(&mut self, table: Table, column: &'static str) -> Option<Command> {
        let now = self.order(table);
        let descending = if now.column == column { !now.descending } else { table.descends(column) };
        self.set_column(table, Order { column, descending })
    }

    /// Sorts by the column beside the present one.
    fn sort_beside(&mut self, by: isize) -> Option<Command> {
        let table = self.table()?;
        let columns = table.columns();
        let at = columns.iter().position(|column| *column == self.order(table).column).unwrap_or(0);
        let column = columns[at.saturating_add_signed(by).min(columns.len() - 1)];
        self.set_column(table, Order { column, descending: table.descends(column) })
    }

    fn set_column(&mut self, table: Table, order: Order) -> Option<Command> {
        self.set_order(table, order);
        // The sampler sorts the others: a frame has only the first of them.
        (table != Table::States).then_some(Command::Sample)
    }

    pub(super) fn open_tab(&mut self, tab: Tab) -> Option<Command> {
        let had_rows = self.drill.is_some();
        self.tab = tab;
        self.drill = None;
        self.detail = None;
        self.full = false;
        // The list may have been sorted anew while another was on screen.
        self.follow();
        had_rows.then_some(Command::Sample)
    }

    pub(super) fn back(&mut self) -> Option<Command> {
        if std::mem::take(&mut self.full) {
            return None;
        }
        if self.detail.take().is_some() || self.drill.take().is_some() {
            self.follow();
            return Some(Command::Sample);
        }
        if self.held.take().is_none() && !self.typed_filter.is_empty() {
            return Some(Command::Filter(String::new()));
        }
        None
    }

    pub(super) fn step(&mut self, by: i64) {
        let Some(now) = self.frame().map(|f| f.seq) else { return };
        let wanted = now.saturating_add_signed(by);
        let last = self.history.latest().map_or(0, |f| f.seq);
        // Past the newest sample there is only the live one.
        self.held = if wanted > last { None } else { self.history.at(wanted).map(|f| f.seq) };
        if by < 0 && self.held == Some(now) {
            self.notice = Some("this is the oldest sample that is kept".into());
        }
        self.follow();
    }

    fn change_interval(&mut self, by: i32) -> Option<Command> {
        let next = if by > 0 {
            INTERVALS_MS.iter().find(|ms| **ms > self.interval_ms)
        } else {
            INTERVALS_MS.iter().rev().find(|ms| **ms < self.interval_ms)
        };
        self.interval_ms = *next?;
        Some(Command::Interval(self.interval_ms))
    }

    pub(super) fn enter(&mut self) -> Option<Command> {
        if self.detail.is_some() {
            return None;
        }
        if std::mem::take(&mut self.full) && self.drill.is_some() {
            return None;
        }
        let cursor = self.cursor();
        if self.rate().is_some() {
            self.notice = Some("a rate has no sockets; c copies the command that shows each event".into());
            return None;
        }
        if self.drill.is_some() {
            let line = self.lines().get(cursor)?.clone();
            self.choose(cursor);
            self.detail = Some(Box::new(line));
            self.detail_scroll = 0;
            return Some(Command::Sample);
        }
        let drill = match self.tab {
            Tab::States | Tab::Machine => of_state(*self.states().get(cursor)?),
            Tab::Groups => {
                let groups = self.frame()?.groups.as_ref()?;
                of_group(groups.by, &groups.rows.get(cursor)?.id)
            }
            Tab::Findings => {
                let Some(drill) = of_finding(&self.frame()?.findings.get(cursor)?.finding, self.several) else {
                    self.notice = Some("this finding is about no particular socket; c copies its next command".into());
                    return None;
                };
                drill
            }
        };
        self.choose(cursor);
        self.drill = Some(drill);
        self.choose_first();
        // Rows are current, not historical.
        self.held = None;
        Some(Command::Sample)
    }
}
