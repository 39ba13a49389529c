//! What a record's decision was about, in words, and what would have allowed it.

use std::{sync::Arc, time::SystemTime};

use cordon_audit::{
    Record, past,
    record::{Access, AccessEntity},
};
use cordon_policy::{Backend, DenyReason, Operation, Request, SessionFacts, suggest};
use serde::de::DeserializeOwned;

/// In words: the operation, or the raw text that was none. Not escaped.
pub fn words(record: &Record) -> String {
    if let Ok(operation) = past::operation(record) {
        return operation.to_string();
    }
    if let Some(access) = &record.access {
        return access_words(access);
    }
    match (&record.raw, &record.resource) {
        (Some(raw), _) => malformed(&raw.door, &raw.text),
        (None, Some(resource)) => {
            format!(
                "{} {}",
                record.action.as_deref().unwrap_or("?"),
                resource.id
            )
        }
        (None, None) => record.action.clone().unwrap_or_default(),
    }
}

/// In words: what a caller of the decision API asked. Not escaped.
fn access_words(access: &Access) -> String {
    let entity = |entity: &Option<AccessEntity>| match entity {
        None => "?".to_owned(),
        Some(entity) => match &entity.id {
            None => format!("any {}", entity.kind),
            Some(id) => format!("{} {id}", entity.kind),
        },
    };
    let what = format!(
        "{} {} {}",
        entity(&access.subject),
        access.action.as_deref().unwrap_or("may do what to"),
        entity(&access.resource),
    );
    match &access.sought {
        None => what,
        Some(_) => format!("search {what}, of which {} fit", access.found.unwrap_or(0)),
    }
}

/// In words: input that was no request. Not escaped.
pub fn malformed(door: &str, text: &str) -> String {
    format!("malformed {door} request {text}")
}

/// Why it was denied, in words.
pub fn why(record: &Record) -> String {
    if let Some(problem) = record
        .raw
        .as_ref()
        .map(|raw| &raw.problem)
        .or(record.err.first())
    {
        return problem.clone();
    }
    let rule = record.rules.iter().flatten().next();
    match (&record.message, rule, reason(record)) {
        (Some(message), Some(rule), _) => format!("{message} (rule `{rule}`)"),
        (None, Some(rule), Some(reason)) => format!("{} (rule `{rule}`)", reason.words()),
        (_, _, Some(reason)) => reason.words().into(),
        (_, _, None) => record.reason.clone().unwrap_or_default(),
    }
}

/// What would have allowed a denied record.
pub fn suggestion(record: &Record) -> Option<String> {
    let request = Request {
        session: Arc::new(SessionFacts {
            id: record.session.clone().unwrap_or_default(),
            user: record
                .principal
                .as_ref()
                .map(|user| user.id.clone())
                .unwrap_or_default(),
            groups: Vec::new(),
            agent: record.agent.as_ref().map(|agent| agent.name.clone()),
            platform: std::env::consts::OS.into(),
            backend: Backend::Bubblewrap,
        }),
        operation: past::operation(record).ok()?,
        at: SystemTime::UNIX_EPOCH,
    };
    allow_with(&request, reason(record)?)
}

/// One line that would allow a refused request: a rule for the policy, or an entry for
/// `cordon.toml`. None where a rule forbids it or nothing should allow it.
pub fn allow_with(request: &Request, reason: DenyReason) -> Option<String> {
    match (reason, &request.operation) {
        // A rule alone would not do: what may disappear is the grant's mode.
        (DenyReason::DefaultDeny | DenyReason::GrantMode, Operation::DeletePath { .. }) => {
            Some("grant its folder with delete: --grant DIR:rwd".into())
        }
        (DenyReason::DefaultDeny, _) => Some(suggest(request)).filter(|rule| !rule.is_empty()),
        (DenyReason::AddressNotPermitted, Operation::ReachAddress { .. }) => {
            Some(format!("in cordon.toml: {}", suggest(request)))
        }
        (
            DenyReason::AddressNotPermitted
            | DenyReason::Rule
            | DenyReason::ApprovalRequired
            | DenyReason::EvaluationError
            | DenyReason::GrantMode
            | DenyReason::Malformed
            | DenyReason::ProtectedFolder
            | DenyReason::Unavailable
            | DenyReason::TlsMismatch
            | DenyReason::TlsHidden
            | DenyReason::NotTls
            | DenyReason::Limit
            | DenyReason::Credential,
            _,
        ) => None,
    }
}

fn reason(record: &Record) -> Option<DenyReason> {
    vocabulary(record.reason.as_deref()?)
}

/// A word of a fixed vocabulary as its type reads it.
fn vocabulary<T: DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(word.into())).ok()
}

/// The word that a fixed vocabulary has for a value.
pub fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => String::new(),
    }
}
