//! Colours of the full screen.
//!
//! Input: how many colours the terminal has, and which palette. Output: a style for each role. Every colour is legible on
//! black and on white, because a program cannot know what is behind it. Colour never carries meaning alone: every state
//! and severity has its word, and the selected line is reversed.
#![allow(clippy::unused_self, reason = "a theme answers for every style, whether or not it depends on colour")]

use ratatui::style::{Color, Modifier, Style};

use crate::diagnose::Severity;
use crate::model::State;

/// The colours that a terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    None,
    Sixteen,
    /// Any.
    True,
}

/// Which of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Palette {
    #[default]
    Usual,
    /// Told apart without red and green, or without blue and yellow.
    ColorBlind,
}

impl Palette {
    pub const ALL: [Palette; 2] = [Palette::Usual, Palette::ColorBlind];

    /// The word of `--theme` and of the configuration.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Palette::Usual => "default",
            Palette::ColorBlind => "color-blind",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Palette> {
        Palette::ALL.into_iter().find(|palette| palette.key() == word)
    }
}

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Healthy,
    Waiting,
    Transient,
    /// Does not go away by itself.
    Stuck,
    Ending,
    Odd,
}

impl Role {
    const fn of(state: State) -> Role {
        match state {
            State::Established => Role::Healthy,
            State::Listen => Role::Waiting,
            State::CloseWait => Role::Stuck,
            State::TimeWait | State::BoundInactive | State::Close => Role::Ending,
            State::Unknown(_) => Role::Odd,
            _ => Role::Transient,
        }
    }

    /// Of the sixteen only those that every common terminal draws neither too light nor too dark; `Reset` is the
    /// terminal's own ink.
    const fn of_sixteen(self, palette: Palette) -> Color {
        match (palette, self) {
            (_, Role::Stuck) => Color::LightRed,
            (_, Role::Healthy | Role::Waiting) => Color::LightBlue,
            (_, Role::Ending) | (Palette::ColorBlind, Role::Transient) => Color::Reset,
            (_, Role::Transient | Role::Odd) => Color::Magenta,
        }
    }

    const fn of_all(self, palette: Palette) -> Color {
        let rgb = match (palette, self) {
            (Palette::Usual, Role::Healthy) => 0x002f_9e44,
            (Palette::Usual, Role::Waiting) => 0x003f_83f0,
            (Palette::Usual, Role::Transient) => 0x00b8_860b,
            (Palette::Usual, Role::Stuck) => 0x00e5_383b,
            (Palette::Usual, Role::Ending) => 0x0015_90a5,
            (Palette::ColorBlind, Role::Healthy) => 0x000b_6fb8,
            (Palette::ColorBlind, Role::Waiting) => 0x0055_96d6,
            (Palette::ColorBlind, Role::Transient) => 0x00a0_8a50,
            (Palette::ColorBlind, Role::Stuck) => 0x00d9_480f,
            (Palette::ColorBlind, Role::Ending) => 0x007d_7d7d,
            (_, Role::Odd) => 0x00b4_5bc9,
        };
        Color::from_u32(rgb)
    }
}

/// The style of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    pub depth: Depth,
    pub palette: Palette,
}

impl Theme {
    /// No colours.
    #[cfg(test)]
    pub const PLAIN: Theme = Theme { depth: Depth::None, palette: Palette::Usual };

    fn role(self, role: Role) -> Style {
        let color = match self.depth {
            Depth::None => return Style::new(),
            Depth::Sixteen => role.of_sixteen(self.palette),
            Depth::True => role.of_all(self.palette),
        };
        if color == Color::Reset { Style::new() } else { Style::new().fg(color) }
    }

    pub(super) fn state(self, state: State) -> Style {
        self.role(Role::of(state))
    }

    pub(super) fn severity(self, severity: Severity) -> Style {
        match severity {
            Severity::Info => self.role(Role::Waiting),
            Severity::Warning => self.role(Role::Transient).add_modifier(Modifier::BOLD),
            Severity::High => self.role(Role::Stuck).add_modifier(Modifier::BOLD),
            Severity::Critical => self.role(Role::Stuck).add_modifier(Modifier::BOLD | Modifier::REVERSED),
        }
    }

    pub(super) fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn alert(self) -> Style {
        self.role(Role::Transient).add_modifier(Modifier::BOLD)
    }

    pub(super) fn curve(self) -> Style {
        self.role(Role::Waiting)
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 6] = [Role::Healthy, Role::Waiting, Role::Transient, Role::Stuck, Role::Ending, Role::Odd];

    fn rgb(color: Color) -> [u8; 3] {
        let Color::Rgb(r, g, b) = color else { panic!("{color}") };
        [r, g, b]
    }

    /// Linear light.
    fn linear(rgb: [u8; 3]) -> [f64; 3] {
        rgb.map(|c| f64::from(c) / 255.0)
            .map(|c| if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) })
    }

    /// The contrast of WCAG 2 on black and on white.
    fn contrasts(rgb: [u8; 3]) -> [f64; 2] {
        let [r, g, b] = linear(rgb);
        let luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        [(luminance + 0.05) / 0.05, 1.05 / (luminance + 0.05)]
    }

    #[test]
    fn every_colour_is_legible_on_black_and_on_white() {
        for palette in Palette::ALL {
            for role in ROLES {
                let contrasts = contrasts(rgb(role.of_all(palette)));
                assert!(contrasts.iter().all(|c| *c >= 3.0), "{palette:?} {role:?} {contrasts:?}");
                // What xterm, the console of Linux and GNOME's terminal draw.
                let drawn: [[u8; 3]; 3] = match role.of_sixteen(palette) {
                    Color::LightRed => [[255, 0, 0], [255, 85, 85], [239, 41, 41]],
                    Color::LightBlue => [[92, 92, 255], [85, 85, 255], [114, 159, 207]],
                    Color::Magenta => [[205, 0, 205], [170, 0, 170], [117, 80, 123]],
                    Color::Reset => continue,
                    other => panic!("{other} is not legible everywhere"),
                };
                for rgb in drawn {
                    assert!(contrasts_of(rgb) >= 2.7, "{palette:?} {role:?} {rgb:?}");
                }
            }
        }
    }

    fn contrasts_of(rgb: [u8; 3]) -> f64 {
        contrasts(rgb).into_iter().fold(f64::MAX, f64::min)
    }

    /// What somebody sees who lacks one kind of cone (Machado, Oliveira and Fernandes 2009), and who lacks none.
    const EYES: [[[f64; 3]; 3]; 4] = [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.152_286, 1.052_583, -0.204_868], [0.114_503, 0.786_281, 0.099_216], [-0.003_882, -0.048_116, 1.051_998]],
        [[0.367_322, 0.860_646, -0.227_968], [0.280_085, 0.672_501, 0.047_413], [-0.011_820, 0.042_940, 0.968_881]],
        [[1.255_528, -0.076_749, -0.178_779], [-0.078_411, 0.930_809, 0.147_602], [0.004_733, 0.691_367, 0.303_900]],
    ];

    /// CIE L*a*b* of a colour in these eyes.
    fn lab(rgb: [u8; 3], eyes: [[f64; 3]; 3]) -> [f64; 3] {
        // Of linear light, relative to the white of a screen.
        const TO_XYZ: [[f64; 3]; 3] = [
            [0.4124 / 0.950_47, 0.3576 / 0.950_47, 0.1805 / 0.950_47],
            [0.2126, 0.7152, 0.0722],
            [0.0193 / 1.088_83, 0.1192 / 1.088_83, 0.9505 / 1.088_83],
        ];
        let times = |matrix: [[f64; 3]; 3], of: [f64; 3]| {
            matrix.map(|row| row.iter().zip(of).map(|(factor, part)| factor * part).sum::<f64>())
        };
        let seen = times(eyes, linear(rgb)).map(|part| part.clamp(0.0, 1.0));
        let xyz = times(TO_XYZ, seen);
        let [x, y, z] = xyz.map(|t| if t > 0.008_856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 });
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    #[test]
    fn the_roles_are_told_apart_whatever_cones_are_missing() {
        let states = &ROLES[..5];
        for eyes in EYES {
            for (i, a) in states.iter().enumerate() {
                for b in &states[i + 1..] {
                    let [a_lab, b_lab] = [a, b].map(|role| lab(rgb(role.of_all(Palette::ColorBlind)), eyes));
                    let distance: f64 = a_lab.iter().zip(b_lab).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
                    assert!(distance >= 14.0, "{a:?} and {b:?}: {distance}");
                }
            }
        }
    }

    #[test]
    fn a_theme_has_a_word_and_none_has_no_colour() {
        for palette in Palette::ALL {
            assert_eq!(Palette::parse(palette.key()), Some(palette));
            let theme = Theme { depth: Depth::None, palette };
            assert!(State::ALL.iter().all(|state| theme.state(*state).fg.is_none()));
        }
        assert_eq!(Palette::parse("blue"), None);
    }
}
