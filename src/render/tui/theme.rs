//! Colours of the full screen: the sixteen that every terminal has, or none. Colour never carries meaning alone:
//! every state and severity has its word, and the selected line is reversed.
#![allow(clippy::unused_self, reason = "a theme answers for every style, whether or not it depends on colour")]

use ratatui::style::{Color, Modifier, Style};

use crate::diagnose::Severity;
use crate::model::State;

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    pub color: bool,
}

#[allow(clippy::unused_self, reason = "styles are asked of the theme, whether it has a colour for them or not")]
impl Theme {
    fn foreground(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    /// Green for healthy, yellow for transient, red for what does not go away by itself: as in `render::style`.
    pub(super) fn state(self, state: State) -> Style {
        match state {
            State::Established => self.foreground(Color::Green),
            // Plain blue is hardly legible on black.
            State::Listen => self.foreground(Color::LightBlue),
            State::CloseWait => self.foreground(Color::Red),
            State::TimeWait | State::BoundInactive | State::Close => self.foreground(Color::Cyan),
            State::Unknown(_) => self.foreground(Color::Magenta),
            _ => self.foreground(Color::Yellow),
        }
    }

    pub(super) fn severity(self, severity: Severity) -> Style {
        match severity {
            Severity::Info => self.foreground(Color::Cyan),
            Severity::Warning => self.foreground(Color::Yellow),
            Severity::High => self.foreground(Color::Red).add_modifier(Modifier::BOLD),
            Severity::Critical => self.foreground(Color::Red).add_modifier(Modifier::BOLD | Modifier::REVERSED),
        }
    }

    pub(super) fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn alert(self) -> Style {
        self.foreground(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    pub(super) fn curve(self) -> Style {
        self.foreground(Color::Cyan)
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
