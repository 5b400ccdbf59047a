//! From values to text: tables, reports, JSON, CSV.
//!
//! Comes in: rows, counts, findings. Goes out: text, written into whatever the caller gives. Never here: asking the
//! kernel, owning a stream, deciding what is shown.

pub mod csv;
pub mod explain;
pub mod gap;
pub mod json;
pub mod report;
pub mod rows;
pub mod rules;
pub mod sanitize;
pub mod schema;
pub mod style;
pub mod summary;
pub mod table;
pub mod trace;
pub mod tui;
pub mod value;
pub mod watch;

pub use style::Style;
