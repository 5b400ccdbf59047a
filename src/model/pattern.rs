//! Words that stand for a name: with `*`, or as the beginning of an id.
//!
//! Input: the word and the text. Output: whether the word means it. Not here: operators, which are the filter's.

/// Digits of an id that podman, docker and crictl print; as many of ours mean the whole.
pub const SHORT_ID: usize = 12;

/// `*` matches any bytes. Backtracks to the last star only, so it takes at most `pattern * text` steps.
#[must_use]
pub fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            p = at + 1;
            t = from + 1;
            star = Some((at, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// Whether a word is a whole text, or matches it with `*`.
#[must_use]
pub fn is(word: &str, text: &str) -> bool {
    if word.contains('*') { glob(word.as_bytes(), text.as_bytes()) } else { word == text }
}

/// Whether a word can be the beginning of an id: as many digits as runtimes print, or more.
#[must_use]
pub fn is_short_id(word: &str) -> bool {
    (SHORT_ID..=64).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether a word is the beginning of an id of 64 digits.
#[must_use]
pub fn begins_id(word: &str, id: &str) -> bool {
    is_short_id(word) && is_id(id) && id.starts_with(word)
}

/// OCI runtimes use ids of 64 hexadecimal digits.
#[must_use]
pub fn is_id(word: &str) -> bool {
    word.len() == 64 && is_short_id(word)
}

/// An id as runtimes print it; anything else as it is.
#[must_use]
pub fn shortened(name: &str) -> &str {
    if is_id(name) { &name[..SHORT_ID] } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("nginx", "nginx", true),
            ("nginx*", "nginx: worker", true),
            ("*worker", "nginx: worker", true),
            ("n*x*r", "nginx: worker", true),
            ("n*z", "nginx", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("*ab*ab*", "aabab", true),
            ("*aab", "aaab", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn twelve_digits_are_an_id_and_eleven_are_a_name() {
        let id = "4f5e0b2a9c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f";
        assert!(begins_id(&id[..12], id) && begins_id(id, id));
        assert!(!begins_id(&id[..11], id) && !begins_id("5f5e0b2a9c8d", id) && !begins_id(&id[..12], &id[..40]));
        assert!(!is_short_id("4F5E0B2A9C8D") && !is_short_id("web-frontend"));
        assert!(is("web-*", "web-1") && is("web", "web") && !is("web", "web-1"));
    }
}
