//! What can stand at the cursor.

use std::collections::BTreeSet;

use super::{
    docs::{Attribute, Docs},
    token::{Token, TokenKind, actions_of, rule_at, tokens},
};

/// Names that a policy can mean, beside those of the schema: what an editor has gathered.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Host groups of the folder's data files.
    pub host_groups: BTreeSet<String>,
    /// Hosts that the log has seen.
    pub hosts: BTreeSet<String>,
    /// Users that the log has seen.
    pub users: BTreeSet<String>,
    /// Agent profiles.
    pub agents: BTreeSet<String>,
}

/// One proposal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Completion {
    /// What is shown and inserted.
    pub label: String,
    /// What kind of thing it is.
    pub kind: CompletionKind,
    /// A few words beside it.
    pub detail: String,
    /// Its documentation.
    pub documentation: String,
}

/// What a proposal is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CompletionKind {
    /// A word of the language.
    Keyword,
    /// An entity type.
    Type,
    /// An entity's id.
    Value,
    /// An attribute.
    Attribute,
    /// An annotation.
    Annotation,
}

/// Annotations that Cordon reads, and what they do.
pub(super) const ANNOTATIONS: [(&str, &str); 14] = [
    (
        "id",
        "The rule's name in the log and in summaries. Unique in a set; `[A-Za-z0-9-_.:/]`.",
    ),
    (
        "reason",
        "Why, told to people and to programs in the session. No secrets.",
    ),
    (
        "severity",
        "How much a refusal matters to those who review the log: `low`, `medium` or `high`.",
    ),
    (
        "observe",
        "A date (`2026-12-31`): until then the rule is recorded and not enforced.",
    ),
    (
        "durability",
        "`each`: every request waits until its record is on stable storage.",
    ),
    (
        "approvers",
        "`2` or `3`: so many different people must approve what the rule asks an approval for.",
    ),
    (
        "no_delete",
        "`strict`: on a grant: nothing is removed, renamed or replaced in it, whoever made it.",
    ),
    (
        "preserve",
        "`originals`: on a grant: what was there is kept before it is removed, replaced or written.",
    ),
    (
        "address",
        "`unverified`: accepts that a parent proxy resolves the name, so that its address is not \
         checked.",
    ),
    (
        "inspect",
        "`tls`: Cordon ends TLS itself and every request inside is decided (`http` actions).",
    ),
    (
        "walls",
        "On `start_session`: walls that must hold, else the session does not start: `second-wall`.",
    ),
    (
        "tls",
        "Handshakes accepted beside plain ones: a list of `no-sni`, `ech` and `not-tls`.",
    ),
    (
        "credential",
        "Name of a credential of the node's configuration, put into the request.",
    ),
    (
        "strip",
        "`client`: the client's own credentials are taken off the request.",
    ),
];

pub(super) const KEYWORDS: [&str; 14] = [
    "permit",
    "forbid",
    "when",
    "unless",
    "principal",
    "action",
    "resource",
    "context",
    "in",
    "is",
    "has",
    "like",
    "if",
    "true",
];

/// Most proposals of one kind.
const MOST: usize = 500;

/// Proposes what can stand at a byte offset of a `.cedar` text, or of a `.toml` data file where
/// `is_data` is set. Editors filter by what is typed already.
pub fn complete(text: &str, offset: usize, is_data: bool, known: &Known) -> Vec<Completion> {
    if is_data {
        return in_data(text, offset, known);
    }
    let all = tokens(text);
    let Before {
        rule,
        is_quoted,
        last,
    } = Before::of(&all, offset);
    match last {
        (_, "@") => annotations(),
        (kind, "::") => ids(kind, known, is_quoted),
        (variable, ".") => attributes(variable, &actions_of(rule)),
        _ if is_quoted => Vec::new(),
        _ => words(),
    }
}

/// What stands before the cursor.
pub(super) struct Before<'t, 'a> {
    /// The rule that it is in.
    pub(super) rule: &'t [Token<'a>],
    /// Whether it is in a text.
    pub(super) is_quoted: bool,
    /// The last two tokens that are written already.
    pub(super) last: (&'a str, &'a str),
}

impl<'t, 'a> Before<'t, 'a> {
    pub(super) fn of(all: &'t [Token<'a>], offset: usize) -> Self {
        let rule = rule_at(all, offset);
        // The word or string that is being written does not count as what stands before it.
        let is_written = |token: &&Token<'_>| {
            let touches = token.touches(offset);
            !(touches && matches!(token.kind, TokenKind::Word | TokenKind::Text))
        };
        let mut before = rule.iter().filter(|token| token.start < offset);
        let is_quoted = before
            .clone()
            .any(|token| token.kind == TokenKind::Text && token.touches(offset));
        let mut written = before.by_ref().filter(is_written).rev();
        let mut next = || written.next().map_or("", |token| token.text);
        let last = next();
        Self {
            rule,
            is_quoted,
            last: (next(), last),
        }
    }
}

pub(super) fn annotations() -> Vec<Completion> {
    let annotation = |(name, doc): &(&str, &str)| Completion {
        label: (*name).to_owned(),
        kind: CompletionKind::Annotation,
        detail: "annotation".into(),
        documentation: (*doc).to_owned(),
    };
    ANNOTATIONS.iter().map(annotation).collect()
}

/// Ids behind `Type::`; with quotes where they are not there yet.
fn ids(kind: &str, known: &Known, is_quoted: bool) -> Vec<Completion> {
    let docs = Docs::get();
    let of = |names: &BTreeSet<String>, detail: &str| -> Vec<(String, String, String)> {
        let entry = |name: &String| (name.clone(), detail.to_owned(), String::new());
        names.iter().take(MOST).map(entry).collect()
    };
    let found = match kind {
        "Action" => docs
            .actions
            .iter()
            .map(|(name, action)| {
                let is_group = !action.members.contains(name);
                let detail = if is_group { "action group" } else { "action" };
                (name.clone(), detail.to_owned(), action.doc.clone())
            })
            .collect(),
        "HostGroup" => of(&known.host_groups, "host group"),
        "Host" | "Domain" => of(&known.hosts, "seen in the log"),
        "User" => of(&known.users, "seen in the log"),
        "Agent" => of(&known.agents, "agent profile"),
        "Backend" => ["bubblewrap", "container", "none", "gateway"]
            .map(|name| (name.to_owned(), "backend".to_owned(), String::new()))
            .into(),
        "Platform" => ["linux", "macos", "windows"]
            .map(|name| (name.to_owned(), "platform".to_owned(), String::new()))
            .into(),
        _ => Vec::new(),
    };
    found
        .into_iter()
        .map(|(name, detail, documentation)| Completion {
            label: if is_quoted { name } else { format!("{name:?}") },
            kind: CompletionKind::Value,
            detail,
            documentation,
        })
        .collect()
}

fn attributes(variable: &str, actions: &[&str]) -> Vec<Completion> {
    let docs = Docs::get();
    let found = match variable {
        "context" => docs.context_of(actions),
        "resource" => docs.resource_of(actions),
        "principal" => docs.principal_of(actions),
        _ => return Vec::new(),
    };
    let completion = |(name, attribute): (&str, &Attribute)| Completion {
        label: name.to_owned(),
        kind: CompletionKind::Attribute,
        detail: attribute.kind.clone(),
        documentation: attribute.doc.clone(),
    };
    found.into_iter().map(completion).collect()
}

fn words() -> Vec<Completion> {
    let keyword = |word: &&str| Completion {
        label: (*word).to_owned(),
        kind: CompletionKind::Keyword,
        detail: "keyword".into(),
        documentation: String::new(),
    };
    let action = Completion {
        label: "Action".into(),
        kind: CompletionKind::Type,
        detail: "type of actions".into(),
        documentation: String::new(),
    };
    let types = Docs::get()
        .entities
        .iter()
        .map(|(name, entity)| Completion {
            label: name.clone(),
            kind: CompletionKind::Type,
            detail: "entity type".into(),
            documentation: entity.doc.clone(),
        });
    KEYWORDS
        .iter()
        .map(keyword)
        .chain([action])
        .chain(types)
        .collect()
}

/// In a string of a data file: hosts, and other groups behind an `@`.
fn in_data(text: &str, offset: usize, known: &Known) -> Vec<Completion> {
    let before = text.get(..offset).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    let Some(open) = line
        .rfind('"')
        .filter(|_| line.matches('"').count() % 2 == 1)
    else {
        return Vec::new();
    };
    let typed = line.get(open + 1..).unwrap_or_default();
    let value = |label: &String, detail: &str| Completion {
        label: label.clone(),
        kind: CompletionKind::Value,
        detail: detail.to_owned(),
        documentation: String::new(),
    };
    if typed.starts_with('@') {
        return known
            .host_groups
            .iter()
            .map(|name| value(name, "host group"))
            .collect();
    }
    let hosts = known.hosts.iter().take(MOST);
    hosts.map(|host| value(host, "seen in the log")).collect()
}
