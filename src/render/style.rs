//! Colours, and whether to use them. Colour never carries meaning alone: every severity and state has its word.

use anstyle::{AnsiColor, Effects, Style as Ansi};

use crate::model::State;
use crate::text::width;

/// What is said beside the point.
pub const DIM: Ansi = Ansi::new().effects(Effects::DIMMED);
/// A queue at its limit.
pub const FULL: Ansi = Ansi::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red))).effects(Effects::BOLD);
/// Wrapped text has at least this many columns.
const NARROWEST: usize = 20;

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
        self.paint(DIM, text)
    }

    /// Appends text in lines that keep to the terminal; `indent` is that of the first line and of those after it.
    pub fn push_wrapped(self, out: &mut String, indent: [usize; 2], text: &str, ansi: Ansi) {
        let [mut before, rest] = indent;
        let mut line = String::new();
        let mut len = 0;
        let mut end = |line: &str, before: usize| {
            out.extend(std::iter::repeat_n(' ', before));
            out.push_str(&self.paint(ansi, line));
            out.push('\n');
        };
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let room = self.width.map_or(usize::MAX, |width| width.saturating_sub(before).max(NARROWEST));
            if len > 0 && len + 1 + width(word) > room {
                end(&line, before);
                line.clear();
                (len, before) = (0, rest);
            }
            if len > 0 {
                line.push(' ');
                len += 1;
            }
            line.push_str(word);
            len += width(word);
        }
        end(&line, before);
    }
}

/// The colour of a state: green for healthy, yellow for transient, red for those that do not go away by themselves.
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
