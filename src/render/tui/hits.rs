//! What was drawn where, for the mouse.

use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Position, Rect};

use super::order::Table;
use super::state::Tab;

/// What a click means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Tab(Tab),
    /// From one socket to the list that it was in, and from there to the tab.
    Back,
    /// A line of the list of a tab, which may be drawn on another tab.
    Line(Tab, usize),
    /// A line of a list of sockets.
    Socket(usize),
    /// The heading of a column.
    Sort(Table, &'static str),
    /// A column that what is being typed may mean.
    Choice(usize),
    /// The name of a key.
    Key(KeyCode),
}

/// Where each is.
#[derive(Debug, Default)]
pub struct Hits(Vec<(Rect, Target)>);

impl Hits {
    pub(super) fn add(&mut self, area: Rect, target: Target) {
        self.0.push((area, target));
    }

    /// Where each is of those that are wanted.
    #[cfg(test)]
    pub(super) fn of(&self, is_wanted: impl Fn(Target) -> bool) -> Vec<(Rect, Target)> {
        self.0.iter().copied().filter(|(_, target)| is_wanted(*target)).collect()
    }

    /// What is there; of several the one that was drawn last.
    #[must_use]
    pub fn at(&self, position: Position) -> Option<Target> {
        self.0.iter().rev().find(|(area, _)| area.contains(position)).map(|(_, target)| *target)
    }
}
