//! What the mouse does to the screen.
//!
//! Input: what was drawn where (`hits`), clicks and turns of the wheel. Output: another state of the screen, and a
//! [`Command`] for what only the caller can do. What is drawn says itself what a click on it means, so that no second place
//! knows the layout.

use ratatui::crossterm::event::{KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Position;

use super::draw::Drawn;
use super::hits::Target;
use super::keys::Move;
use super::state::{App, Command, Input, Tab};

/// Lines that a turn of the wheel moves.
const TURN: isize = 3;

impl App {
    /// What a click or a turn of the wheel does.
    pub fn on_mouse(&mut self, event: MouseEvent, drawn: &Drawn) -> Option<Command> {
        match event.kind {
            MouseEventKind::Down(MouseButton::Left) => {
                self.notice = None;
                if self.input.is_none() && std::mem::take(&mut self.help) {
                    return None;
                }
                self.click(drawn.hits.at(Position::new(event.column, event.row))?, drawn)
            }
            MouseEventKind::ScrollDown => self.turn(TURN, drawn),
            MouseEventKind::ScrollUp => self.turn(-TURN, drawn),
            _ => None,
        }
    }

    fn turn(&mut self, lines: isize, drawn: &Drawn) -> Option<Command> {
        if self.input.is_none() {
            self.notice = None;
            self.go(Move::Lines(lines), drawn);
        }
        None
    }

    fn click(&mut self, target: Target, drawn: &Drawn) -> Option<Command> {
        match (&mut self.input, target) {
            (Some(Input::Sort(_, _, at)), Target::Choice(choice)) => {
                *at = choice;
                return self.take_column();
            }
            // What is being typed stays.
            (Some(_), _) => return None,
            (None, _) => {}
        }
        match target {
            Target::Tab(tab) => self.open_tab(tab),
            Target::Back => self.back(),
            Target::Key(code) => self.on_key(KeyEvent::new(code, KeyModifiers::NONE), drawn),
            Target::Sort(table, column) => self.sort_by(table, column),
            Target::Line(tab, index) => {
                let states = |tab| matches!(tab, Tab::States | Tab::Machine);
                let here = self.tab == tab || states(self.tab) && states(tab);
                if here && self.cursor() == index {
                    return self.enter();
                }
                let command = if here { None } else { self.open_tab(tab) };
                self.choose(index);
                command
            }
            Target::Socket(index) if self.cursor() == index => self.enter(),
            Target::Socket(index) => {
                self.choose(index);
                None
            }
            Target::Choice(_) => None,
        }
    }
}
