//! Markdown as text for a terminal: headings, lists, tables, code and emphasis.
//!
//! Input: a page of `docs/`. Output: wrapped text. Without colour code keeps its backticks, so that a command in a
//! sentence is still seen as one.

use anstyle::{AnsiColor, Effects, Style as Ansi};
use comfy_table::{Cell, ContentArrangement, Table, presets};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::render::style::Style;
use crate::text::width;

const CODE: Ansi = AnsiColor::Cyan.on_default();
const ITALIC: Ansi = Ansi::new().effects(Effects::ITALIC);
const BOLD: Ansi = Ansi::new().effects(Effects::BOLD);
/// Where the output is no terminal, and the most on one that is wider: long lines are hard to read.
const COLUMNS: usize = 100;
/// By how much code stands to the right.
const CODE_INDENT: usize = 4;

/// Appends a page.
pub fn write(out: &mut String, page: &str, style: Style) {
    let columns = style.width.map_or(COLUMNS, |width| width.min(COLUMNS));
    let mut writer = Writer {
        out,
        style,
        columns,
        words: Vec::new(),
        apart: false,
        emphasis: Vec::new(),
        lists: Vec::new(),
        bullet: String::new(),
        heading: false,
        code: false,
        rows: None,
    };
    for event in Parser::new_ext(page, Options::ENABLE_TABLES) {
        writer.event(event);
    }
}

/// A word: pieces without a blank between them.
type Word = Vec<(String, Ansi)>;

struct Writer<'a> {
    out: &'a mut String,
    style: Style,
    columns: usize,
    /// The words of the open paragraph.
    words: Vec<Word>,
    /// Whether the next piece begins a word.
    apart: bool,
    emphasis: Vec<Ansi>,
    /// Of each open list its next number.
    lists: Vec<Option<u64>>,
    /// What begins the first line of an item.
    bullet: String,
    heading: bool,
    code: bool,
    /// The rows of the open table; the first is its head.
    rows: Option<Vec<Vec<String>>>,
}

impl Writer<'_> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.code => {
                for line in text.lines() {
                    self.out.push_str(&" ".repeat(CODE_INDENT + self.indent()));
                    self.out.push_str(line);
                    self.out.push('\n');
                }
            }
            Event::Text(text) if self.heading => self.text(&text.to_uppercase(), BOLD),
            Event::Text(text) => {
                let ansi = self.emphasis.last().copied().unwrap_or_default();
                self.text(&text, ansi);
            }
            Event::Code(code) if self.style.color && self.rows.is_none() => self.text(&code, CODE),
            Event::Code(code) => self.text(&format!("`{code}`"), Ansi::new()),
            Event::SoftBreak | Event::HardBreak => self.apart = true,
            _ => {}
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Heading { .. } => {
                self.blank();
                self.heading = true;
            }
            // The first paragraph of an item follows its bullet.
            Tag::Paragraph if self.bullet.is_empty() => self.blank(),
            Tag::CodeBlock(_) => {
                self.flush();
                self.blank();
                self.code = true;
            }
            Tag::List(first) => {
                if self.lists.is_empty() {
                    self.blank();
                } else {
                    self.flush();
                }
                self.lists.push(*first);
            }
            Tag::Item => {
                self.bullet = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{:2}. ", *number - 1)
                    }
                    _ => "- ".to_owned(),
                };
            }
            Tag::Emphasis => self.emphasis.push(ITALIC),
            Tag::Strong => self.emphasis.push(BOLD),
            Tag::Table(_) => {
                self.blank();
                self.rows = Some(Vec::new());
            }
            Tag::TableHead | Tag::TableRow => {
                if let Some(rows) = &mut self.rows {
                    rows.push(Vec::new());
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) => {
                self.flush();
                self.heading = false;
            }
            TagEnd::Paragraph | TagEnd::Item => self.flush(),
            TagEnd::CodeBlock => self.code = false,
            TagEnd::List(_) => {
                self.lists.pop();
            }
            TagEnd::Emphasis | TagEnd::Strong => {
                self.emphasis.pop();
            }
            TagEnd::TableCell => {
                let words = std::mem::take(&mut self.words);
                let text = |word: &Word| word.iter().map(|(piece, _)| piece.as_str()).collect::<String>();
                let cell = words.iter().map(text).collect::<Vec<String>>().join(" ");
                if let Some(row) = self.rows.as_mut().and_then(|rows| rows.last_mut()) {
                    row.push(cell);
                }
            }
            TagEnd::Table => self.table(),
            _ => {}
        }
    }

    /// Adds text to the open paragraph, word by word.
    fn text(&mut self, text: &str, ansi: Ansi) {
        for (i, piece) in text.split(char::is_whitespace).enumerate() {
            self.apart |= i > 0;
            if piece.is_empty() {
                continue;
            }
            let piece = (piece.to_owned(), ansi);
            match self.words.last_mut() {
                Some(word) if !self.apart => word.push(piece),
                _ => self.words.push(vec![piece]),
            }
            self.apart = false;
        }
    }

    fn indent(&self) -> usize {
        let of = |number: &Option<u64>| if number.is_some() { 4 } else { 2 };
        self.lists.iter().map(of).sum()
    }

    /// Ends a paragraph: its words in lines that keep to the edge.
    fn flush(&mut self) {
        let words = std::mem::take(&mut self.words);
        self.apart = false;
        if words.is_empty() {
            return;
        }
        let indent = self.indent();
        let bullet = std::mem::take(&mut self.bullet);
        let mut used = indent;
        self.out.push_str(&" ".repeat(indent.saturating_sub(bullet.len())));
        self.out.push_str(&bullet);
        for (i, word) in words.iter().enumerate() {
            let len: usize = word.iter().map(|(piece, _)| width(piece)).sum();
            if i > 0 && used + 1 + len > self.columns {
                self.out.push('\n');
                self.out.push_str(&" ".repeat(indent));
                used = indent;
            } else if i > 0 {
                self.out.push(' ');
                used += 1;
            }
            for (piece, ansi) in word {
                self.out.push_str(&self.style.paint(*ansi, piece));
            }
            used += len;
        }
        self.out.push('\n');
    }

    /// One empty line, but none at the beginning.
    fn blank(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    fn table(&mut self) {
        let rows = self.rows.take().unwrap_or_default();
        let columns = rows.first().map_or(0, Vec::len);
        let widest = |i: usize| rows.iter().filter_map(|row| row.get(i)).map(|cell| width(cell)).max().unwrap_or(0);
        let fits = (0..columns).map(|i| widest(i) + 2).sum::<usize>() <= self.columns;
        let mut table = Table::new();
        // Where cells are wrapped a line tells rows apart.
        table.load_style(if fits { presets::NOTHING } else { presets::ASCII_HORIZONTAL_ONLY });
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(self.columns).unwrap_or(u16::MAX));
        if self.style.color {
            table.enforce_styling();
        }
        let mut rows = rows.into_iter();
        if let Some(head) = rows.next() {
            table.set_header(head.iter().map(|cell| Cell::new(self.style.heading(cell))));
        }
        for row in rows {
            table.add_row(row);
        }
        for line in table.lines() {
            self.out.push_str(line.trim_end());
            self.out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# A title\n\nSome `code` and *weight*, in one\nparagraph.\n\n```sh\nls  -l\n```\n\n\
                        - a point of two\n  lines\n- another\n\n1. first\n2. second\n\n| a | b |\n| --- | --- |\n\
                        | 1 | `x` |\n";

    fn render(page: &str, style: Style) -> String {
        let mut out = String::new();
        write(&mut out, page, style);
        out
    }

    #[test]
    fn a_page_is_text_without_its_marks() {
        let text = render(PAGE, Style { color: false, width: Some(80) });
        assert_eq!(
            text,
            "A TITLE\n\nSome `code` and weight, in one paragraph.\n\n    ls  -l\n\n- a point of two lines\n- another\n\n \
             1. first\n 2. second\n\n a  b\n 1  `x`\n"
        );
    }

    #[test]
    fn colour_takes_the_place_of_marks() {
        let text = render("Some `code` and *weight*.\n", Style { color: true, width: Some(80) });
        let painted = |ansi: Ansi, word: &str| Style { color: true, width: None }.paint(ansi, word);
        assert_eq!(text, format!("Some {} and {}.\n", painted(CODE, "code"), painted(ITALIC, "weight")));
    }

    #[test]
    fn every_page_keeps_to_the_edge_and_loses_no_word() {
        for (name, page) in crate::diagnose::RULES.iter().map(|r| (r.id, r.page)) {
            let text = render(page, Style { color: false, width: Some(80) });
            // Commands are to be copied: they stay in one line.
            let long = |l: &&str| width(l) > 80 && !l.starts_with("    ") && l.contains(' ');
            assert_eq!(text.lines().find(long), None, "{name}");
            assert!(!text.contains("```") && !text.contains("| --- |") && !text.contains("\n\n\n"), "{name}: {text}");
            // A narrow cell breaks a long word, and a link has only its text.
            let has_words = |line: &&str| !line.trim_start().starts_with(['|', '`']) && !line.contains("](");
            let lines = page.lines().filter(has_words);
            let text = text.to_lowercase();
            for word in lines.flat_map(|line| line.split(|c: char| !c.is_alphanumeric())).filter(|w| w.len() > 2) {
                assert!(text.contains(&word.to_lowercase()), "{name}: {word}");
            }
        }
    }
}
