//! What the thing under the cursor means: the schema's documentation, or what a group holds.

use std::{fmt::Write as _, ops::Range};

use super::{
    docs::{Attribute, Docs},
    token::{Token, TokenKind, actions_of, rule_at, tokens},
};

/// An explanation in Markdown, and what it is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hover {
    /// Bytes of the text that it is about.
    pub range: Range<usize>,
    /// Markdown.
    pub markdown: String,
}

/// Explains what stands at a byte offset of a `.cedar` text.
pub fn hover(text: &str, offset: usize) -> Option<Hover> {
    let all = tokens(text);
    let rule = rule_at(&all, offset);
    let at = rule.iter().position(|token| {
        token.touches(offset) && matches!(token.kind, TokenKind::Word | TokenKind::Text)
    })?;
    let token = rule.get(at)?;
    let before = |n: usize| at.checked_sub(n).and_then(|at| rule.get(at));
    let after = rule.get(at + 1);
    let markdown = match token.kind {
        TokenKind::Text => {
            let kind = before(2).filter(|_| is_path(before(1)))?;
            named(kind.text, token.unquoted())
        }
        _ if before(1).is_some_and(|token| token.text == "@") => annotation(token.text),
        _ if before(1).is_some_and(|token| token.text == ".") => {
            attribute(before(2)?.text, token.text, &actions_of(rule))
        }
        _ if is_path(after) => entity(token.text),
        _ => keyword(token.text)
            .map(str::to_owned)
            .or_else(|| entity(token.text)),
    }?;
    Some(Hover {
        range: token.range(),
        markdown,
    })
}

fn is_path(token: Option<&Token<'_>>) -> bool {
    token.is_some_and(|token| token.kind == TokenKind::Path)
}

/// `Type::"id"`.
fn named(kind: &str, id: &str) -> Option<String> {
    let docs = Docs::get();
    if kind != "Action" {
        return entity(kind);
    }
    let action = docs.actions.get(id)?;
    let mut text = format!("**action** `{id}`\n\n{}", action.doc);
    let list = |names: &std::collections::BTreeSet<String>| {
        names
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("`, `")
    };
    if action.members.len() == 1 && action.members.contains(id) {
        let _ = write!(
            text,
            "\n\nprincipal: `{}`, resource: `{}`",
            list(&action.principals),
            list(&action.resources)
        );
        write_attributes(&mut text, "context", docs.context_of(&[id]).into_iter());
    } else {
        let _ = write!(
            text,
            "\n\nA group of `{}`. Write `action in`.",
            list(&action.members)
        );
    }
    Some(text)
}

fn entity(kind: &str) -> Option<String> {
    let entity = Docs::get().entities.get(kind)?;
    let mut text = format!("**entity** `{kind}`\n\n{}", entity.doc);
    let attributes = entity.attributes.iter();
    write_attributes(
        &mut text,
        "",
        attributes.map(|(name, a)| (name.as_str(), a)),
    );
    Some(text)
}

fn attribute(variable: &str, name: &str, actions: &[&str]) -> Option<String> {
    let docs = Docs::get();
    let attributes = match variable {
        "context" => docs.context_of(actions),
        "resource" => docs.resource_of(actions),
        "principal" => docs.principal_of(actions),
        _ => return None,
    };
    let found = attributes.get(name)?;
    let absent = if found.optional {
        format!("\n\nIt can be absent: ask `{variable} has {name}` first.")
    } else {
        String::new()
    };
    Some(format!(
        "`{variable}.{name}: {}`\n\n{}{absent}",
        found.kind, found.doc
    ))
}

fn write_attributes<'a>(
    text: &mut String,
    owner: &str,
    attributes: impl Iterator<Item = (&'a str, &'a Attribute)>,
) {
    let dot = if owner.is_empty() { "" } else { "." };
    for (at, (name, attribute)) in attributes.enumerate() {
        let gap = if at == 0 { "\n\n" } else { "\n" };
        let _ = write!(
            text,
            "{gap}- `{owner}{dot}{name}: {}`{} {}",
            attribute.kind,
            if attribute.optional {
                " (optional)"
            } else {
                ""
            },
            attribute.doc
        );
    }
}

fn annotation(name: &str) -> Option<String> {
    let (_, doc) = super::complete::ANNOTATIONS
        .iter()
        .find(|(known, _)| *known == name)?;
    Some(format!("**annotation** `@{name}`\n\n{doc}"))
}

fn keyword(word: &str) -> Option<&'static str> {
    Some(match word {
        "permit" => "Allows what the scope and the conditions take in, unless a `forbid` matches.",
        "forbid" => "Refuses what the scope and the conditions take in, whatever is permitted.",
        "when" => "The rule applies only where this is true.",
        "unless" => "The rule applies only where this is false.",
        "principal" => {
            "Who asks: a `Session`, which is in its user, the user's groups, its agent and its \
             platform. Write `principal in User::\"...\"`."
        }
        "action" => "What is asked: `action == Action::\"connect\"`, or a group with `in`.",
        "resource" => "What it is about: a host, an address, a folder, ...",
        "context" => "The facts of this one request: port, method, time, ...",
        "in" => "Is the entity, or below it: `resource in Domain::\"example.com\"`.",
        "is" => "Has this type: `resource is Address`.",
        "has" => "Whether an optional attribute is there: `context has approval`.",
        "like" => "A pattern with `*` for anything: `context.path like \"/debian/*\"`.",
        _ => return None,
    })
}
