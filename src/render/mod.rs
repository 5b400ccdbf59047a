//! From values to text: tables, reports, JSON, CSV.
//!
//! Comes in: rows, counts, findings. Goes out: text, written into whatever the caller gives. Never here: asking the
//! kernel, owning a stream, deciding what is shown.

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
