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
    Escaped(text)
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '"' | '\'' => fmt::Write::write_char(f, c)?,
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

/// Microseconds since the epoch as RFC 3339 in UTC.
pub fn rfc3339(us: u64) -> String {
    let (days, second) = (us / 86_400_000_000, us / 1_000_000 % 86_400);
    // Days to a civil date: eras of 400 years that begin on 1 March, so that a leap day is last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60,
        us % 1_000_000
    )
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

    #[test]
    fn times_are_rfc_3339() {
        for (us, shown) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (1_709_251_199_999_999, "2024-02-29T23:59:59.999999Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
            (1_767_225_599_000_000, "2025-12-31T23:59:59.000000Z"),
        ] {
            assert_eq!(rfc3339(us), shown);
        }
    }
}
