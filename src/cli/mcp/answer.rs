//! One call: the command runs inside the server, and its two forms are kept short enough for a language model.
//!
//! Input: words of a command line. Output: the text for people, and the JSON document with what was left out of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::rc::Rc;

use serde_json::{Map, Value as Json};

use crate::cli::env::Env;
use crate::text;

/// The document, as compact JSON; twenty thousand tokens.
const DOCUMENT_BYTES: usize = 64 << 10;
const TEXT_BYTES: usize = 32 << 10;

/// What a command said.
pub(super) struct Answer {
    pub text: String,
    pub document: Json,
}

/// Runs a command.
///
/// # Errors
/// What it says on standard error, in one line.
pub(super) fn answer(words: &[OsString]) -> Result<Answer, String> {
    let [text, notes, document] = [(); 3].map(|()| Buffer::default());
    let mut env = Env::both(text.stream(), notes.stream(), document.stream());
    crate::cli::serve(words, &mut env)?;
    drop(env);
    let document = document.bytes();
    let mut document: Json =
        serde_json::from_slice(&document).map_err(|error| format!("the document cannot be read: {error}"))?;
    let cut_off = shorten(&mut document, DOCUMENT_BYTES);
    let mut text = String::from_utf8_lossy(&text.bytes()).into_owned();
    cut(&mut text, TEXT_BYTES);
    text.push_str(&String::from_utf8_lossy(&notes.bytes()));
    text.push_str(&note(&cut_off));
    Ok(Answer { text, document })
}

/// Bytes that a command writes and the server reads.
#[derive(Clone, Default)]
struct Buffer(Rc<RefCell<Vec<u8>>>);

impl Buffer {
    fn stream(&self) -> Box<dyn Write> {
        Box::new(self.clone())
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.take()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Shortens the longest lists of a document until it has at most so many bytes. Returns how many entries each lost, and adds
/// that to what the document says it lacks.
fn shorten(document: &mut Json, most: usize) -> BTreeMap<String, u64> {
    let mut lost = BTreeMap::new();
    while size(document) > most {
        let mut longest = (0, String::new());
        find_longest(document, "", &mut longest);
        let (_, path) = longest;
        let Some(list) = at_path(document, &path) else { break };
        let kept = list.len() / 2;
        *lost.entry(path).or_default() += (list.len() - kept) as u64;
        list.truncate(kept);
    }
    if let Json::Object(map) = document
        && !lost.is_empty()
    {
        let left_out = map.entry("left_out").or_insert_with(|| Json::Object(Map::new()));
        for (path, n) in &lost {
            let before = left_out.get(path).and_then(Json::as_u64).unwrap_or(0);
            left_out[path] = Json::from(before + n);
        }
    }
    lost
}

fn size(value: &Json) -> usize {
    serde_json::to_vec(value).map_or(0, |bytes| bytes.len())
}

/// The list with the most bytes, below objects only, and its path.
fn find_longest(value: &Json, path: &str, longest: &mut (usize, String)) {
    match value {
        Json::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                find_longest(value, &path, longest);
            }
        }
        Json::Array(list) if !list.is_empty() => {
            let bytes = size(value);
            if bytes > longest.0 {
                *longest = (bytes, path.to_owned());
            }
        }
        _ => {}
    }
}

fn at_path<'d>(document: &'d mut Json, path: &str) -> Option<&'d mut Vec<Json>> {
    path.split('.').try_fold(document, |value, key| value.get_mut(key))?.as_array_mut()
}

/// The sentence about what the document lost.
fn note(lost: &BTreeMap<String, u64>) -> String {
    if lost.is_empty() {
        return String::new();
    }
    let lost: Vec<String> = lost.iter().map(|(path, n)| format!("{} of `{path}`", text::grouped(*n))).collect();
    format!("note: the document is cut, to keep the answer short: it lacks {}; narrow the call\n", lost.join(", "))
}

/// Cuts a text behind a line.
fn cut(text: &mut String, most: usize) {
    if text.len() <= most {
        return;
    }
    let end = text.as_bytes()[..most].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let lines = text[end..].lines().count() as u64;
    text.truncate(end);
    text.push_str(&format!("... {}\n", text::count(lines, "line is left out", "lines are left out")));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_long_document_loses_the_ends_of_its_longest_lists_and_counts_them() {
        let row = json!({ "state": "established", "text": "x".repeat(40) });
        let mut document = json!({
            "total": 100, "sockets": vec![row.clone(); 100], "groups": { "by": { "rows": vec![row; 20] } }, "gaps": [],
            "left_out": { "sockets": 900 },
        });
        let lost = shorten(&mut document, 2000);
        assert!(size(&document) <= 2000 && size(&document) > 500, "{document}");
        let rows = document["groups"]["by"]["rows"].as_array().unwrap().len() as u64;
        let sockets = document["sockets"].as_array().unwrap().len() as u64;
        let left_out = &document["left_out"];
        assert_eq!(left_out["sockets"].as_u64(), Some(1000 - sockets));
        assert_eq!(left_out["groups.by.rows"].as_u64().unwrap_or(0), 20 - rows);
        assert_eq!(lost["sockets"], 100 - sockets);
        assert!(note(&lost).contains(&format!("{} of `sockets`", 100 - sockets)), "{}", note(&lost));
    }

    #[test]
    fn what_cannot_be_shortened_stays_and_ends() {
        let mut document = json!({ "page": "x".repeat(100), "findings": [{ "evidence": vec!["y"; 100] }] });
        shorten(&mut document, 10);
        assert_eq!(document["findings"], json!([]));
        assert_eq!(document["left_out"]["findings"], json!(1));
        let mut short = json!({ "a": [1] });
        assert_eq!(note(&shorten(&mut short, 100)), "");
        assert_eq!(short, json!({ "a": [1] }));
    }

    #[test]
    fn a_long_text_ends_with_a_line() {
        let mut text = "äöü\n".repeat(10);
        cut(&mut text, 24);
        assert_eq!(text, format!("{}... 7 lines are left out\n", "äöü\n".repeat(3)));
        let mut short = "a\n".to_owned();
        cut(&mut short, 24);
        assert_eq!(short, "a\n");
    }
}
