//! The rules and groups of a document, and where a name is declared.

use std::ops::Range;

use super::token::{Token, TokenKind, tokens};
use crate::engine::bounds;

/// One rule of a `.cedar` text, or one group of a data file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Symbol {
    /// `@id`, or the rule's first words; a group's name.
    pub name: String,
    /// `permit`, `forbid` or `host group`.
    pub detail: &'static str,
    /// All of it.
    pub range: Range<usize>,
    /// Its name in it.
    pub name_range: Range<usize>,
}

/// The rules of a `.cedar` text, or the host groups of a data file.
pub fn symbols(text: &str, is_data: bool) -> Vec<Symbol> {
    if is_data {
        return groups(text);
    }
    let Ok(statements) = bounds::scan(text) else {
        return Vec::new();
    };
    statements
        .into_iter()
        .filter_map(|statement| rule(text, statement.range))
        .collect()
}

fn rule(text: &str, range: Range<usize>) -> Option<Symbol> {
    let inner = text.get(range.clone())?;
    let all = tokens(inner);
    let effect = all.iter().enumerate().find_map(|(at, token)| {
        // Behind an `@` it is the name of an annotation.
        let is_annotation = at > 0 && all.get(at - 1).is_some_and(|before| before.text == "@");
        match token.text {
            _ if is_annotation => None,
            "permit" => Some((token, "permit")),
            "forbid" => Some((token, "forbid")),
            _ => None,
        }
    })?;
    let id = all.windows(4).find_map(|window| match window {
        [sign, name, open, value]
            if sign.text == "@"
                && name.text == "id"
                && open.text == "("
                && value.kind == TokenKind::Text =>
        {
            Some(value)
        }
        _ => None,
    });
    let (name, token): (String, &Token<'_>) = match id {
        Some(value) => (value.unquoted().to_owned(), value),
        None => (format!("{} (no @id)", effect.1), effect.0),
    };
    let inside = token.range();
    Some(Symbol {
        name,
        detail: effect.1,
        name_range: range.start + inside.start..range.start + inside.end,
        range,
    })
}

/// Keys behind `[host_groups]`, one a line, as far as they can be read.
fn groups(text: &str) -> Vec<Symbol> {
    let mut found = Vec::new();
    let mut is_inside = false;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let here = start;
        start += line.len();
        let trimmed = line.trim_start();
        if trimmed.starts_with('[') && !trimmed.starts_with("[\"") {
            is_inside = trimmed.trim_end() == "[host_groups]";
            continue;
        }
        let Some((key, _)) = trimmed.split_once('=').filter(|_| is_inside) else {
            continue;
        };
        let name = key.trim().trim_matches(['"', '\'']);
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(plain) {
            continue;
        }
        let at = here + line.find(name).unwrap_or_default();
        found.push(Symbol {
            name: name.to_owned(),
            detail: "host group",
            range: here..here + line.trim_end().len(),
            name_range: at..at + name.len(),
        });
    }
    found
}

/// The host group that a rule (`HostGroup::"name"`) or a data file (`"@name"`) names at a byte
/// offset; look for it among the [`symbols`] of the data files.
pub fn definition(text: &str, offset: usize, is_data: bool) -> Option<String> {
    let all = tokens(text);
    let at = all
        .iter()
        .position(|token| token.kind == TokenKind::Text && token.touches(offset))?;
    let token = all.get(at)?;
    if is_data {
        return token.unquoted().strip_prefix('@').map(str::to_owned);
    }
    let before = |n: usize| at.checked_sub(n).and_then(|at| all.get(at));
    let is_group = before(1).is_some_and(|token| token.kind == TokenKind::Path)
        && before(2).is_some_and(|token| token.text == "HostGroup");
    is_group.then(|| token.unquoted().to_owned())
}
