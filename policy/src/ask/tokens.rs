//! Splits a text into words: at white space, with double quotes as in JSON.

use super::AskError;
use crate::host::shown;

/// Most words of one request.
pub(super) const MAX_WORDS: usize = 256;

pub(super) fn split(text: &str) -> Result<Vec<String>, AskError> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if words.len() >= MAX_WORDS {
            return Err(AskError::TooLong);
        }
        let end = if rest.starts_with('"') {
            quoted_length(rest).ok_or_else(|| bad(rest))?
        } else {
            rest.find(char::is_whitespace).unwrap_or(rest.len())
        };
        let (word, after) = rest.split_at_checked(end).ok_or_else(|| bad(rest))?;
        words.push(if word.starts_with('"') {
            serde_json::from_str(word).map_err(|_| bad(word))?
        } else {
            word.to_owned()
        });
        rest = after.trim_start();
    }
    Ok(words)
}

/// The word as [`split`] reads it back.
pub(super) fn quote(word: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control();
    if !word.is_empty() && !word.starts_with('"') && word.chars().all(plain) {
        word.to_owned()
    } else {
        serde_json::Value::from(word).to_string()
    }
}

/// Bytes of a quoted word with its quotes; it must end where a word ends.
fn quoted_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _any if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => {
                let end = at + 1;
                let rest = text.get(end..)?;
                return (rest.is_empty() || rest.starts_with(char::is_whitespace)).then_some(end);
            }
            _other => {}
        }
    }
    None
}

fn bad(word: &str) -> AskError {
    AskError::BadQuote { text: shown(word) }
}
