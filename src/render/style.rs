//! Colours, and whether to use them.
//!
//! Comes in: whether the stream takes colour. Goes out: text with or without escapes. Never here: reading the
//! environment. Colour never carries meaning alone: every severity and state has its word.

use anstyle::{AnsiColor, Effects, Style as Ansi};

use crate::model::State;

/// How to print on one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub color: bool,
    /// Columns of the terminal; `None` when it is not one: then nothing is cut or padded.
    pub width: Option<usize>,
}

impl Style {
    /// No colour, not a terminal.
    pub const PLAIN: Style = Style { color: false, width: None };

    /// The text in a style.
    #[must_use]
    pub fn paint(self, ansi: Ansi, text: &str) -> String {
        if !self.color || ansi == Ansi::new() || text.is_empty() {
            return text.to_owned();
        }
        format!("{}{text}{}", ansi.render(), ansi.render_reset())
    }

    #[must_use]
    pub fn heading(self, text: &str) -> String {
        self.paint(Ansi::new().effects(Effects::BOLD), text)
    }

    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.paint(Ansi::new().effects(Effects::DIMMED), text)
    }
}

/// The colour of a state: green for healthy, yellow for on its way, red for those that do not go away by themselves.
#[must_use]
pub fn state(state: State) -> Ansi {
    let color = match state {
        State::Established => AnsiColor::Green,
        State::Listen => AnsiColor::Blue,
        State::CloseWait => AnsiColor::Red,
        State::TimeWait | State::BoundInactive | State::Close => return Ansi::new().effects(Effects::DIMMED),
        State::Unknown(_) => AnsiColor::Magenta,
        _ => AnsiColor::Yellow,
    };
    color.on_default()
}
