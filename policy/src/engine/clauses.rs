//! A rule's text taken apart: the three parts of its scope and its conditions, each as it stands
//! in the file and each an expression that can be evaluated by itself.
//!
//! Text that was parsed before in, spans out. Knows strings, comments and brackets, and splits
//! only where that cannot change the meaning: at `&&` and `||` that are in nothing else.

use std::ops::Range;

use super::bounds::{Token, next_token};

/// A rule's parts, as ranges of its text.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Clauses {
    /// Principal, action, resource.
    pub(super) scope: Vec<Range<usize>>,
    pub(super) conditions: Vec<Condition>,
}

/// What stands in the braces of one `when` or `unless`.
#[derive(Debug, PartialEq)]
pub(super) struct Condition {
    /// Whether it is an `unless`.
    pub(super) negated: bool,
    pub(super) body: Range<usize>,
}

/// A sign that joins two expressions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Joint {
    And,
    Or,
}

struct Piece {
    kind: Token,
    range: Range<usize>,
}

impl Clauses {
    /// Takes a rule apart; nothing for a text of another shape.
    pub(super) fn of(text: &str) -> Option<Self> {
        let pieces = pieces(text, 0..text.len());
        let is = |at: usize, word: &str| {
            let range = pieces.get(at).map(|piece| piece.range.clone());
            range.and_then(|range| text.get(range)) == Some(word)
        };
        // Annotations are bracketed too; the effect is the first plain word of its kind.
        let effect = (0..pieces.len()).find(|at| {
            let stands_alone = *at == 0 || !is(at.saturating_sub(1), "@");
            stands_alone && (is(*at, "permit") || is(*at, "forbid")) && is(at + 1, "(")
        })?;
        let (scope, mut at) = bracketed(&pieces, effect + 1)?;
        let mut clauses = Self {
            scope: split(text, scope, |piece| piece == ","),
            conditions: Vec::new(),
        };
        while is(at, "when") || is(at, "unless") {
            let negated = is(at, "unless");
            let (body, next) = bracketed(&pieces, at + 1)?;
            clauses.conditions.push(Condition { negated, body });
            at = next;
        }
        (clauses.scope.len() == 3 && is(at, ";")).then_some(clauses)
    }
}

/// The parts of an expression that are joined by a sign, where that sign binds the least; the
/// whole expression where it does not.
pub(super) fn joined(text: &str, body: Range<usize>, joint: Joint) -> Vec<Range<usize>> {
    let (sign, looser) = match joint {
        Joint::And => ("&&", Some("||")),
        Joint::Or => ("||", None),
    };
    let words = outer(text, body.clone());
    // `if` takes in everything to its right, and `||` binds less than `&&`.
    let is_loose = |word: &str| word == "if" || Some(word) == looser;
    if words.iter().any(|(word, _)| is_loose(word)) {
        return vec![trimmed(text, body)];
    }
    split(text, body, |piece| piece == sign)
}

/// Splits a range at pieces that are in no bracket. Empty parts are left out.
fn split(text: &str, body: Range<usize>, is_sign: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = body.start;
    for (word, range) in outer(text, body.clone()) {
        if is_sign(word) {
            parts.push(start..range.start);
            start = range.end;
        }
    }
    parts.push(start..body.end);
    let parts = parts.into_iter().map(|part| trimmed(text, part));
    parts.filter(|part| !part.is_empty()).collect()
}

/// The words and signs of a range that are in no bracket.
fn outer(text: &str, body: Range<usize>) -> Vec<(&str, Range<usize>)> {
    let mut depth = 0_usize;
    let mut found = Vec::new();
    for piece in pieces(text, body) {
        match piece.kind {
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            Token::Gap | Token::Semicolon | Token::Word | Token::Other => {
                if depth == 0
                    && let Some(word) = text.get(piece.range.clone())
                {
                    found.push((word, piece.range));
                }
            }
        }
    }
    found
}

/// The inside of a bracket that opens at a piece, and the piece after it.
fn bracketed(pieces: &[Piece], open: usize) -> Option<(Range<usize>, usize)> {
    let start = pieces.get(open)?.range.end;
    let mut depth = 0_usize;
    for (at, piece) in pieces.iter().enumerate().skip(open) {
        match piece.kind {
            Token::Open => depth += 1,
            Token::Close => depth = depth.checked_sub(1)?,
            Token::Gap | Token::Semicolon | Token::Word | Token::Other => {}
        }
        if depth == 0 {
            return Some((start..piece.range.start, at + 1));
        }
    }
    None
}

/// Everything but space and comments. `&&` and `||` are one piece.
fn pieces(text: &str, range: Range<usize>) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut at = range.start;
    while let Some((kind, length)) = text.get(at..range.end).and_then(next_token) {
        let here = at..at + length;
        at += length;
        if matches!(kind, Token::Gap) {
            continue;
        }
        if let Some(last) = pieces.last_mut() {
            let both = text.get(last.range.start..here.end);
            if last.range.end == here.start && matches!(both, Some("&&" | "||")) {
                last.range.end = here.end;
                continue;
            }
        }
        pieces.push(Piece { kind, range: here });
    }
    pieces
}

/// Without space and comments at both ends.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let pieces = pieces(text, range.clone());
    match (pieces.first(), pieces.last()) {
        (Some(first), Some(last)) => first.range.start..last.range.end,
        _ => range.start..range.start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_taken_apart() {
        let text = "@id(\"permit (x)\") @reason(\"when { a }\") // permit (\n\
            permit (principal in Group::\"a,b\", action in [A::\"x\", A::\"y\"], resource,)\n\
            when { a.b == \"}\" && (c || d) /* no comment */ }\nunless { e } when { };";
        let clauses = Clauses::of(text).unwrap();
        let scope: Vec<&str> = clauses.scope.iter().map(|r| &text[r.clone()]).collect();
        assert_eq!(
            scope,
            [
                "principal in Group::\"a,b\"",
                "action in [A::\"x\", A::\"y\"]",
                "resource"
            ]
        );
        let conditions: Vec<(bool, &str)> = clauses
            .conditions
            .iter()
            .map(|c| (c.negated, text[c.body.clone()].trim()))
            .collect();
        assert_eq!(conditions.len(), 3);
        assert_eq!(conditions[1], (true, "e"));
        assert_eq!(Clauses::of("permit (principal, action);"), None);
        assert_eq!(Clauses::of(""), None);
        assert_eq!(Clauses::of("@permit(\"x\")"), None);
    }

    #[test]
    fn only_signs_that_bind_least_split() {
        let cases: &[(&str, Joint, &[&str])] = &[
            ("a && b&&c", Joint::And, &["a", "b", "c"]),
            (
                "a && (b || c) && [d && e]",
                Joint::And,
                &["a", "(b || c)", "[d && e]"],
            ),
            ("a && b || c", Joint::And, &["a && b || c"]),
            ("a && b || c", Joint::Or, &["a && b", "c"]),
            (
                "if a && b then c else d && e",
                Joint::And,
                &["if a && b then c else d && e"],
            ),
            (
                "if a then b else c || d",
                Joint::Or,
                &["if a then b else c || d"],
            ),
            (
                " a == \"&&\" // && b\n && c ",
                Joint::And,
                &["a == \"&&\"", "c"],
            ),
            ("", Joint::And, &[]),
        ];
        for (text, joint, expected) in cases {
            let parts = joined(text, 0..text.len(), *joint);
            let parts: Vec<&str> = parts.into_iter().map(|range| &text[range]).collect();
            assert_eq!(parts, *expected, "{text}");
        }
    }
}
