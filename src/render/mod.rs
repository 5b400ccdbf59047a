//! From values to text: tables, reports, JSON, CSV.
//!
//! Input: rows, counts, findings. Output: text, written into a buffer or stream of the caller.

pub(crate) mod csv;
pub(crate) mod explain;
pub mod gap;
pub mod json;
pub(crate) mod report;
pub(crate) mod rows;
pub(crate) mod rules;
pub(crate) mod sanitize;
pub mod schema;
pub(crate) mod style;
pub(crate) mod summary;
pub(crate) mod table;
pub(crate) mod trace;
pub(crate) mod tui;
pub(crate) mod value;
pub(crate) mod watch;

pub use style::Style;
