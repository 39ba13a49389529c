//! How a rule is written: ids, reasons, patterns on names, open ports, public suffixes.

use cedar_policy::Effect;
use serde_json::Value;

use super::rule::{Linted, Scope};
use crate::check::{Code, Findings, Severity};

pub(super) fn lint(rule: &Linted<'_>, findings: &mut Findings) {
    if rule.policy.annotation("id").is_none() {
        findings.note(|| {
            rule.finding(Code::NoId, Severity::Note, "the rule has no `@id`".into())
                .with_help("write `@id(\"a-name\")` before it: the log and summaries show it")
        });
    }
    if rule.policy.annotation("reason").is_some_and(looks_secret) {
        findings.note(|| {
            let message = "the `@reason` looks like it holds a secret".into();
            rule.finding(Code::SecretInReason, Severity::Warning, message)
                .with_help(
                    "reasons are shown to people and to programs in the session: take it out",
                )
        });
    }
    if rule
        .conditions
        .iter()
        .any(|condition| patterns_on_name(&condition.body))
    {
        findings.note(|| {
            let message = "`like` on a host name does not keep to whole labels".into();
            rule.finding_in(Code::PatternOnName, Severity::Warning, "like", message)
                .with_help("write `resource in Domain::\"example.com\"`, or a host group")
        });
    }
    any_port(rule, findings);
    public_suffix(rule, findings);
}

/// A permit of whole domains or groups that does not look at the port.
fn any_port(rule: &Linted<'_>, findings: &mut Findings) {
    let is_broad = |scope: &Scope| {
        !scope.exact
            && !matches!(
                scope.named().map(|(kind, _)| kind),
                Some("Address" | "Host")
            )
    };
    if rule.effect == Effect::Permit
        && rule.actions.contains("connect")
        && is_broad(&rule.resource)
        && !rule.looks_at("context", "port")
    {
        findings.note(|| {
            let message = "the rule permits connections to every port of these hosts".into();
            rule.finding(Code::AnyPort, Severity::Note, message)
                .with_help("add `when { context.port == 443 }` where one port is meant")
        });
    }
}

/// Everybody can register a name below a public suffix.
fn public_suffix(rule: &Linted<'_>, findings: &mut Findings) {
    let domain = match rule.resource.named() {
        Some(("Domain", id)) if rule.effect == Effect::Permit => id,
        _ => return,
    };
    if let Some(severity) = public_suffix_of(domain) {
        findings.note(|| {
            let message = format!("`{domain}` is a public suffix: many people have names below it");
            rule.finding_in(
                Code::PublicSuffix,
                severity,
                &format!("{domain:?}"),
                message,
            )
            .with_help("name the domains that are meant, or put them into a host group")
        });
    }
}

/// Whether the name is a public suffix, and how bad that is: below a registry's suffix everybody
/// can be, below a company's its customers.
pub(super) fn public_suffix_of(name: &str) -> Option<Severity> {
    let suffix = psl::suffix(name.as_bytes())?;
    match suffix.typ()? {
        _ if suffix.as_bytes() != name.as_bytes() => None,
        psl::Type::Icann => Some(Severity::Warning),
        psl::Type::Private => Some(Severity::Note),
    }
}

/// `resource.name like "*.example.com"`, anywhere in the condition.
fn patterns_on_name(body: &Value) -> bool {
    let mut open = vec![body];
    while let Some(value) = open.pop() {
        if let Some(access) = value
            .get("like")
            .and_then(|like| like.get("left"))
            .and_then(|left| left.get("."))
            && access.get("attr").and_then(Value::as_str) == Some("name")
            && access
                .get("left")
                .and_then(|left| left.get("Var"))
                .is_some()
            && value.get("like").is_some_and(suffix_pattern)
        {
            return true;
        }
        match value {
            Value::Object(fields) => open.extend(fields.values()),
            Value::Array(list) => open.extend(list),
            _ => {}
        }
    }
    false
}

/// A pattern that begins with a star and goes on with a name: a suffix was meant.
fn suffix_pattern(like: &Value) -> bool {
    let parts = like.get("pattern").and_then(Value::as_array);
    parts.is_some_and(|parts| {
        let is_star = |part: &Value| part.as_str() == Some("Wildcard");
        let dotted = parts
            .iter()
            .filter_map(|part| part.get("Literal").and_then(Value::as_str))
            .any(|text| text.contains('.'));
        parts.first().is_some_and(is_star) && dotted
    })
}

/// Marks that keys and tokens carry. A reason in words has none of them.
fn looks_secret(reason: &str) -> bool {
    const MARKS: [&str; 9] = [
        "AKIA",
        "ghp_",
        "github_pat_",
        "glpat-",
        "sk-",
        "xoxb-",
        "xoxp-",
        "eyJhbGciOi",
        "PRIVATE KEY",
    ];
    let long_token = |word: &str| {
        word.len() >= 32
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+/=_-".contains(&b))
            && word.bytes().any(|b| b.is_ascii_digit())
            && word.bytes().any(|b| b.is_ascii_alphabetic())
    };
    reason.split_whitespace().any(|word| {
        MARKS
            .iter()
            .any(|mark| word.starts_with(mark) && word.len() > mark.len() + 8)
            || long_token(word)
    }) || reason.contains("PRIVATE KEY")
}
