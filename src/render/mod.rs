//! From values to text: tables, reports, JSON, CSV.
//!
//! Input: rows, counts, findings. Output: text, written into a buffer or stream of the caller.

pub(crate) mod binding;
pub(crate) mod course;
pub(crate) mod csv;
pub(crate) mod difference;
pub(crate) mod explain;
pub(crate) mod fan;
pub mod gap;
pub(crate) mod grid;
pub(crate) mod groups;
pub mod json;
pub(crate) mod kill;
pub(crate) mod markdown;
pub mod metrics;
pub(crate) mod page;
pub(crate) mod report;
pub(crate) mod rows;
pub(crate) mod rules;
pub(crate) mod sanitize;
pub mod schema;
pub(crate) mod style;
pub(crate) mod summary;
pub(crate) mod table;
pub(crate) mod topics;
pub(crate) mod trace;
pub(crate) mod tsv;
pub(crate) mod tui;
pub(crate) mod value;
pub(crate) mod watch;

pub use style::Style;

use crate::model::column::{Column, Needs};
use rows::Format;

fn nothing(_: &[&Column], _: bool) -> Needs {
    Needs::NONE
}

/// Every format of `list`, the default one first: a new one is a file, its `mod` above and a line here.
pub(crate) static FORMATS: [Format; 5] = [
    Format { name: "table", help: "Aligned columns for people", needs: nothing, writer: table::rows },
    Format { name: "json", help: "One JSON document", needs: json::rows::needs, writer: json::rows::document },
    Format { name: "jsonl", help: "One JSON object per line", needs: json::rows::needs, writer: json::rows::lines },
    Format { name: "tsv", help: "The cells of the table, one tab between them", needs: nothing, writer: tsv::rows },
    Format { name: "csv", help: "Comma-separated values", needs: nothing, writer: csv::rows },
];

/// The format of this name.
pub(crate) fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}
