//! Splits the text of a filter into words and operators, with their positions.

use std::ops::Range;

use super::Problem;
use super::expr::Cmp;

/// One word or operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tok {
    /// `quoted`: part of it was in quotes, so it is a value and never a keyword.
    Word {
        text: String,
        quoted: bool,
    },
    Open,
    Close,
    And,
    Or,
    Not,
    Op(Cmp),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub tok: Tok,
    pub at: Range<usize>,
}

/// Whether a character can be in an unquoted word.
pub(super) fn is_word_char(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, '(' | ')' | '|' | '&' | '!' | '=' | '<' | '>' | '~' | '"' | '\'')
}

/// The operator at the start of the text, with its length.
fn sign(rest: &str) -> Option<(Tok, usize)> {
    const SIGNS: [(&str, Tok); 16] = [
        ("||", Tok::Or),
        ("|", Tok::Or),
        ("&&", Tok::And),
        ("&", Tok::And),
        ("(", Tok::Open),
        (")", Tok::Close),
        ("!=", Tok::Op(Cmp::Ne)),
        ("!~", Tok::Op(Cmp::HasNot)),
        ("!", Tok::Not),
        ("==", Tok::Op(Cmp::Eq)),
        ("=", Tok::Op(Cmp::Eq)),
        ("<=", Tok::Op(Cmp::Le)),
        ("<", Tok::Op(Cmp::Lt)),
        (">=", Tok::Op(Cmp::Ge)),
        (">", Tok::Op(Cmp::Gt)),
        ("~", Tok::Op(Cmp::Has)),
    ];
    SIGNS.into_iter().find(|(text, _)| rest.starts_with(text)).map(|(text, tok)| (tok, text.len()))
}

/// Splits the text. A word may mix bare and quoted parts, as in a shell; there are no escapes, so the `\x2d` of
/// systemd's unit names needs no quoting.
pub(super) fn lex(text: &str) -> Result<Vec<Token>, (Range<usize>, Problem)> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c.is_whitespace() {
            at += c.len_utf8();
        } else if let Some((tok, len)) = sign(&text[at..]) {
            tokens.push(Token { tok, at: at..at + len });
            at += len;
        } else {
            let (token, end) = word(text, at)?;
            tokens.push(token);
            at = end;
        }
    }
    Ok(tokens)
}

fn word(text: &str, start: usize) -> Result<(Token, usize), (Range<usize>, Problem)> {
    let mut value = String::new();
    let mut quoted = false;
    let mut at = start;
    while let Some(c) = text[at..].chars().next() {
        if c == '"' || c == '\'' {
            let Some(len) = text[at + 1..].find(c) else {
                let problem = Problem::new("the quote is not closed", format!("a {c} at the end of the value"));
                return Err((at..at + 1, problem));
            };
            value.push_str(&text[at + 1..at + 1 + len]);
            quoted = true;
            at += len + 2;
        } else if is_word_char(c) {
            value.push(c);
            at += c.len_utf8();
        } else {
            break;
        }
    }
    Ok((Token { tok: Tok::Word { text: value, quoted }, at: start..at }, at))
}
