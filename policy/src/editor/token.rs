//! Tokens of a policy's text, half written or not.

use std::ops::Range;

use crate::engine::bounds::{Token as Kind, next_token};

/// One token with its place; no gaps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) start: usize,
    pub(super) kind: TokenKind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TokenKind {
    Word,
    /// With its quotes; the closing one may be missing.
    Text,
    /// `::`.
    Path,
    Other,
}

impl Token<'_> {
    pub(super) fn range(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    /// Whether the offset is in the token or right behind it.
    pub(super) fn touches(&self, offset: usize) -> bool {
        self.start <= offset && offset <= self.start + self.text.len()
    }

    /// The text between the quotes, as far as it is written.
    pub(super) fn unquoted(&self) -> &str {
        let inner = self.text.strip_prefix('"').unwrap_or(self.text);
        inner.strip_suffix('"').unwrap_or(inner)
    }
}

/// The tokens of a text, gaps left out. A string that is not closed ends with its line, so that
/// what follows is still understood.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..)
        && let Some((kind, length)) = next_token(rest)
    {
        let whole = rest.get(..length).unwrap_or(rest);
        let (text, kind) = match kind {
            Kind::Gap => {
                at += length;
                continue;
            }
            Kind::Word => (whole, TokenKind::Word),
            _ if whole.starts_with('"') => (to_line_end(whole), TokenKind::Text),
            _ if rest.starts_with("::") => ("::", TokenKind::Path),
            _ => (whole, TokenKind::Other),
        };
        found.push(Token {
            text,
            start: at,
            kind,
        });
        at += text.len();
    }
    found
}

fn to_line_end(text: &str) -> &str {
    match text.find(['\n', '\r']) {
        Some(end) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

/// The tokens of the rule that the offset is in: from behind the last `;` before it to the next.
pub(super) fn rule_at<'t, 'a>(tokens: &'t [Token<'a>], offset: usize) -> &'t [Token<'a>] {
    let is_end = |token: &Token<'_>| token.text == ";";
    let before = tokens.partition_point(|token| token.start < offset);
    let start = tokens
        .get(..before)
        .and_then(|before| before.iter().rposition(is_end))
        .map_or(0, |at| at + 1);
    let rest = tokens.get(start..).unwrap_or_default();
    let length = rest.iter().position(is_end).unwrap_or(rest.len());
    rest.get(..length).unwrap_or_default()
}

/// Names of the actions that a rule mentions.
pub(super) fn actions_of<'a>(rule: &[Token<'a>]) -> Vec<&'a str> {
    rule.windows(3)
        .filter_map(|window| match window {
            [kind, path, name]
                if kind.text == "Action"
                    && path.kind == TokenKind::Path
                    && name.kind == TokenKind::Text =>
            {
                let inner = name.text.strip_prefix('"').unwrap_or(name.text);
                Some(inner.strip_suffix('"').unwrap_or(inner))
            }
            _ => None,
        })
        .collect()
}
