//! What is known about a word, the list of such words, and the state machine with a live count on every state.
//!
//! Input: pages in Markdown, columns, counts. Output: text, or JSON. Not here: finding the page of a word.

use std::fmt::Write;

use anstyle::Style as Ansi;
use serde_json::{Value as Json, json};

use crate::aggregate::Counts;
use crate::model::State;
use crate::model::column::Column;
use crate::render::markdown;
use crate::render::style::{self, Style};
use crate::render::topics::first_sentence;
use crate::text::grouped;

/// Width of the names in the list of topics.
const NAMES: usize = 28;
/// The chapters of the list: kind, title.
const CHAPTERS: [(&str, &str); 3] = [("state", "states"), ("topic", "errors, settings, words"), ("rule", "rules")];

/// What is known about a word.
pub struct Known {
    /// `state`, `topic`, `rule` or `column`.
    pub kind: &'static str,
    pub name: &'static str,
    /// In Markdown.
    pub page: Option<&'static str>,
    pub column: Option<&'static Column>,
    /// The topic that says more about a column.
    pub more: Option<&'static str>,
}

impl Known {
    /// Something with a page of its own.
    #[must_use]
    pub const fn paged(kind: &'static str, name: &'static str, page: &'static str) -> Known {
        Known { kind, name, page: Some(page), column: None, more: None }
    }

    /// One sentence.
    fn summary(&self) -> String {
        match (self.page, self.column) {
            (Some(page), _) => first_sentence(page),
            (None, column) => column.map_or_else(String::new, |c| c.help.to_owned()),
        }
    }
}

/// Appends what is known.
pub fn write(out: &mut String, known: &Known, style: Style) {
    if let Some(column) = known.column {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{} ({}): {}", column.name, column.kind.name(), column.help);
    }
    if let Some(page) = known.page {
        markdown::write(out, page, style);
    }
    if let Some(more) = known.more {
        let _ = writeln!(out, "more: tcpstate explain {more}");
    }
}

/// The same as JSON.
#[must_use]
pub fn page_document(known: &Known) -> Json {
    let column =
        known.column.map(|c| json!({ "name": c.name, "unit": c.kind.name(), "json_key": c.json.key, "help": c.help }));
    document(
        "topic",
        &json!({
            "kind": known.kind,
            "name": known.name,
            "summary": known.summary(),
            "page": known.page,
            "column": column,
            "more": known.more,
        }),
    )
}

/// Appends the list of topics, each with a whole sentence.
pub fn write_topics(out: &mut String, topics: &[Known], style: Style) {
    let _ = writeln!(out, "{}", style.heading("machine"));
    out.push_str("  the TCP state machine with the live count on every state\n");
    for (kind, title) in CHAPTERS {
        let _ = writeln!(out, "\n{}", style.heading(title));
        for topic in topics.iter().filter(|t| t.kind == kind) {
            let mut sentence = String::new();
            style.push_wrapped(&mut sentence, [NAMES + 3; 2], &topic.summary(), Ansi::new());
            let name = topic.name.replace('_', "-");
            let _ = write!(out, "  {name:NAMES$} {}", sentence.trim_start());
        }
    }
    let _ = writeln!(out, "\n{}", style.heading("columns"));
    out.push_str("  any name of `tcpstate list --list-columns`\n");
}

/// The same as JSON.
#[must_use]
pub fn topics_document(topics: &[Known]) -> Json {
    let of = |t: &Known| json!({ "kind": t.kind, "name": t.name, "summary": t.summary() });
    document("topics", &topics.iter().map(of).collect())
}

/// A document that reads no socket: its head names only itself.
fn document(key: &str, value: &Json) -> Json {
    json!({ "schema": "tcpstate/1", "command": "explain", "version": env!("CARGO_PKG_VERSION"), key: value })
}

/// The picture: a `{name}` is replaced by the state and its count, centred in the width of the placeholder.
const MACHINE: &str = "                            {bound_inactive      }
                              | listen()       \\  connect(): send SYN
          {listen           }<-'                `->{syn_sent     }
                 | receive SYN, send SYN+ACK         |
                 v                                   | receive SYN+ACK, send ACK
          {syn_recv         }                        |
                 | receive ACK                       |
                 `------->  {established        } <--'
                              |              |
   we close first: send FIN   |              |   peer closes first: receive FIN
                 .------------'              '------------.
                 v                                        v
          {fin_wait1        }--receive FIN--.           {close_wait   }
                 | receive ACK              v             | close(): send FIN
                 v                        {closing   }    v
          {fin_wait2        }               |           {last_ack     }
                 | receive FIN              |             | receive ACK
                 v                          |             v
          {time_wait        }<--receive ACK-'           (gone)
                 | 60 s
                 v
               (gone)
";

/// Appends the TCP state machine (RFC 9293, figure 5) with the count of every state.
pub fn write_machine(out: &mut String, counts: &Counts, style: Style) {
    let mut rest = MACHINE;
    while let Some(open) = rest.find('{') {
        let close = rest[open..].find('}').map_or(rest.len(), |i| open + i);
        out.push_str(&rest[..open]);
        let name = rest[open + 1..close].trim_end();
        let hole = close - open + 1;
        match State::parse(name) {
            Some(state) => {
                let text = format!("{} {}", state.name(), grouped(counts.get(state)));
                let pad = hole.saturating_sub(text.len());
                out.push_str(&style.paint(style::state(state), &text));
                out.push_str(&" ".repeat(pad));
            }
            None => out.push_str(name),
        }
        rest = rest.get(close + 1..).unwrap_or("");
    }
    out.push_str(rest);
    let trimmed: Vec<&str> = out.lines().map(str::trim_end).collect();
    *out = trimmed.join("\n") + "\n";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_shows_every_state_once_with_its_count_and_fits_80_columns() {
        let mut counts = Counts::default();
        for (i, state) in State::ALL.into_iter().enumerate() {
            counts.add_many(state, 100 + i as u64);
        }
        let mut out = String::new();
        write_machine(&mut out, &counts, Style::PLAIN);
        for (i, state) in State::ALL.into_iter().enumerate() {
            if state != State::Close {
                assert!(out.contains(&format!("{} {}", state.name(), 100 + i)), "{state}\n{out}");
            }
        }
        // A large count does not run into an arrow.
        let mut large = Counts::default();
        large.add_many(State::TimeWait, 262_144);
        large.add_many(State::FinWait1, 65_536);
        let mut picture = String::new();
        write_machine(&mut picture, &large, Style::PLAIN);
        assert!(picture.contains("TIME_WAIT 262,144  <--") && picture.contains("FIN_WAIT1 65,536   --"), "{picture}");
        assert!(!out.contains('{') && out.lines().all(|l| l.len() <= 80), "{out}");
    }
}
