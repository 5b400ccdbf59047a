//! The full screen of `watch`.
//!
//! Input: keys and frames ([`state::App`]). Output: cells of a buffer (the function [`draw()`]), and commands for
//! the sampler. The terminal, the clock and the threads are in `cli::watch::screen`.

mod about;
mod chart;
mod dashboard;
mod draw;
mod drill;
mod edges;
mod findings;
pub mod history;
mod hits;
mod keys;
mod list;
mod machine;
mod mouse;
pub mod order;
mod pen;
mod playback;
mod sockets;
pub mod state;
mod svg;
mod theme;
mod views;

pub use draw::{Drawn, draw};
pub use state::{App, Command, Format, Playback};
pub use svg::{svg, text};
pub use theme::{Depth, Palette, Theme};

#[cfg(test)]
pub(crate) mod finding_tests;
#[cfg(test)]
mod size_tests;
#[cfg(test)]
mod tests;
