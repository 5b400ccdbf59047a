//! The full screen of `watch`.
//!
//! Comes in: keys and frames ([`state::App`]). Goes out: cells of a buffer ([`draw`]), and commands for whoever samples.
//! Never here: a terminal, a clock, a thread.

mod draw;
pub mod history;
mod machine;
pub mod state;
mod svg;
mod theme;
mod views;

pub use draw::draw;
pub use state::{App, Command};
pub use svg::svg;
pub use theme::Theme;

#[cfg(test)]
mod tests;
