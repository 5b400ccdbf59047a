//! Foreign text on terminals: process names, cgroups, host names.
//!
//! Everything that could move the cursor, change colours or reorder letters becomes a visible escape. JSON, and CSV off
//! a terminal, keep the text as it is.

/// Appends `text`, with control, bidirectional, zero-width and invalid characters made visible as `\x1b` or `\u{202e}`.
pub fn push(out: &mut String, text: &str) {
    use std::fmt::Write;
    // Nearly every name.
    if text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        out.push_str(text);
        return;
    }
    for c in text.chars() {
        if !is_hostile(c) {
            out.push(c);
        } else if u32::from(c) < 0x100 {
            // Writing into a String cannot fail.
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        } else {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
    }
}

/// The text with everything hostile made visible.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push(&mut out, text);
    out
}

/// The same of several lines, which stay lines.
#[must_use]
pub fn lines(text: &str) -> String {
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_the_cursor_or_reorders_text_passes() {
        assert_eq!(clean("\x1b[31mroot\x07"), "\\x1b[31mroot\\x07");
        assert_eq!(clean("a\u{202e}b\u{200b}"), "a\\u{202e}b\\u{200b}");
        assert_eq!(clean("\u{9b}1m"), "\\x9b1m");
        assert_eq!(clean("nginx: worker ümlaut 日本"), "nginx: worker ümlaut 日本");
    }
}
