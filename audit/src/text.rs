//! Text from outside: cut to a bound, and escaped wherever a person sees it (A06).

use std::fmt::{self, Write as _};

/// Longest prefix of `text` of at most `limit` bytes that ends between characters.
pub(crate) fn prefix(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Shows `text` so that no character of it can act on a terminal or start a line: controls,
/// line and paragraph separators, bidirectional and other invisible characters, and the
/// backslash itself appear as escapes.
pub fn escape(text: &str) -> impl fmt::Display + '_ {
    Escaped { text, lines: false }
}

/// As [`escape`], of text that has lines of its own: their ends and tabs stay, and backslashes, which
/// tell nothing apart there.
pub fn escape_lines(text: &str) -> impl fmt::Display + '_ {
    Escaped { text, lines: true }
}

struct Escaped<'a> {
    text: &'a str,
    lines: bool,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.text.chars() {
            match c {
                '"' | '\'' => fmt::Write::write_char(f, c)?,
                '\n' | '\t' | '\\' if self.lines => fmt::Write::write_char(f, c)?,
                _ => c.escape_debug().fmt(f)?,
            }
        }
        Ok(())
    }
}

/// The same JSON with everything escaped that [`escape`] escapes and that JSON lets stand as it is:
/// controls beyond ASCII, separators, bidirectional and other invisible characters.
pub fn escape_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        // ASCII is JSON's own: its controls can only be line ends between values, or escaped.
        if c.is_ascii() && c != '\u{7f}' || c.escape_debug().len() == 1 {
            shown.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _infallible = write!(shown, "\\u{unit:04x}");
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a06_hostile_text_is_shown_escaped() {
        for (text, shown) in [
            ("plain.example", "plain.example"),
            ("it's \"quoted\"", "it's \"quoted\""),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("x\u{202e}y", "x\\u{202e}y"),
            ("x\u{2028}y\u{0}", "x\\u{2028}y\\0"),
            ("back\\slash", "back\\\\slash"),
            ("gr\u{fc}n", "gr\u{fc}n"),
        ] {
            assert_eq!(escape(text).to_string(), shown, "{text:?}");
        }
        let lines = "a\tb\\c\nd\r\u{1b}[2J\u{9b}m\u{202e}e\u{2028}f";
        assert_eq!(
            escape_lines(lines).to_string(),
            "a\tb\\c\nd\\r\\u{1b}[2J\\u{9b}m\\u{202e}e\\u{2028}f"
        );
    }

    #[test]
    fn a06_json_for_a_terminal_is_the_same_json() {
        let hostile = "a\"\\\n\u{1b}[2J\u{7f}\u{9b}31m\u{202e}\u{2028}\u{e0001}gr\u{fc}n";
        let json = serde_json::to_string(hostile).unwrap();
        let shown = escape_json(&json);
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), hostile);
        assert!(!shown.contains(['\u{7f}', '\u{9b}', '\u{202e}', '\u{2028}', '\u{e0001}']));
        assert!(shown.contains("gr\u{fc}n"), "{shown}");
        assert!(shown.contains("\\udb40\\udc01"), "{shown}");
    }

    #[test]
    fn prefixes_end_between_characters() {
        for (text, limit, kept) in [
            ("abc", 5, "abc"),
            ("abc", 2, "ab"),
            ("a\u{20ac}", 3, "a"),
            ("\u{20ac}", 2, ""),
        ] {
            assert_eq!(prefix(text, limit), kept, "{text:?} {limit}");
        }
    }
}
