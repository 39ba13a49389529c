//! What was seen of a connection and of a request on it, as Cedar values. Only what some rule
//! looks at is made.

use std::collections::BTreeSet;

use cedar_policy::RestrictedExpression;

use super::{
    Context, Unaskable, Uses,
    facts::{string, text},
};
use crate::{Destination, Holder, HttpFacts, MAX_LENGTH, NormalizedHost, Seen, TlsFacts};

pub(super) fn add_connection(
    context: &mut Context,
    destination: &Destination,
    seen: &Seen,
    uses: Uses,
) -> Result<(), Unaskable> {
    if uses.tls
        && let Some(tls) = &seen.tls
    {
        context.push(("tls".into(), handshake(tls, destination)?));
    }
    if uses.names && !seen.names.is_empty() {
        context.push(("names".into(), names(&seen.names)));
    }
    if uses.unverified {
        context.push(boolean("address_unverified", seen.address_unverified));
    }
    if uses.process
        && let Some(process) = seen.process.as_ref().and_then(|process| process.only())
    {
        context.push(("process".into(), program(process)?));
    }
    Ok(())
}

pub(super) fn add_request(context: &mut Context, facts: &HttpFacts, uses: Uses) {
    if !uses.http_facts {
        return;
    }
    context.push(text("scheme", facts.scheme.as_str()));
    context.push(("query_keys".into(), set(&facts.query_keys)));
    if let Some(kind) = &facts.content_type {
        context.push(text("content_type", kind));
    }
    if let Some(length) = facts.content_length {
        let length = i64::try_from(length.min(MAX_LENGTH)).unwrap_or(i64::MAX);
        let length = RestrictedExpression::new_long(length);
        context.push(("content_length".into(), length));
    }
    context.push(boolean("credential", facts.credential));
    if let Some(protocol) = &facts.upgrade {
        context.push(text("upgrade", protocol));
    }
}

fn handshake(tls: &TlsFacts, destination: &Destination) -> Result<RestrictedExpression, Unaskable> {
    let mut fields = vec![
        text("kind", tls.kind.as_str()),
        ("alpn".into(), set(&tls.alpn)),
        boolean("ech", tls.ech),
        boolean("inspected", tls.inspected),
        boolean("sni_matches", tls.sni_matches(destination)),
    ];
    for (name, value) in [
        ("sni", &tls.sni),
        ("ja4", &tls.ja4),
        ("version", &tls.version),
    ] {
        fields.extend(value.iter().map(|value| text(name, value)));
    }
    RestrictedExpression::new_record(fields).map_err(|error| Unaskable::Fact(error.to_string()))
}

fn program(process: &Holder) -> Result<RestrictedExpression, Unaskable> {
    let mut fields = vec![
        text("executable", &process.executable),
        ("ancestors".into(), set(&process.ancestors)),
    ];
    fields.extend(process.digest.iter().map(|digest| text("digest", digest)));
    RestrictedExpression::new_record(fields).map_err(|error| Unaskable::Fact(error.to_string()))
}

/// Each name and every domain above it, so that a rule can ask for a domain and mean all of it.
fn names(names: &[NormalizedHost]) -> RestrictedExpression {
    let all: BTreeSet<&str> = names.iter().flat_map(NormalizedHost::suffixes).collect();
    RestrictedExpression::new_set(all.into_iter().map(string))
}

fn set(texts: &[String]) -> RestrictedExpression {
    RestrictedExpression::new_set(texts.iter().map(|text| string(text)))
}

pub(super) fn boolean(name: &str, value: bool) -> (String, RestrictedExpression) {
    (name.to_owned(), RestrictedExpression::new_bool(value))
}
