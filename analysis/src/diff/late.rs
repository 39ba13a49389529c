//! What a model says was seen of a connection and of a request, in the words that every tool reads.
//!
//! A model's context in, words out. A model holds facts for independent that are not (a server
//! name and whether it matches): the words say what can be, and the real decision counts.

use std::fmt::Write as _;

use cedar_policy::EvalResult;
use cordon_policy::{Destination, Host};

/// A look at one fact of the model's context.
pub(super) type Look<'a> = &'a dyn Fn(&str) -> Option<EvalResult>;

/// Words behind the target of a connection, the likeliest first: without any, as the model has
/// them, and with the real host as the server name, because the model's own host is another.
pub(super) fn of_connection(look: Look<'_>, to: &Destination) -> Vec<String> {
    let own = connection(look, None);
    let matching = match &to.host {
        Host::Name(host) => connection(look, Some(host.as_str())),
        Host::Address(_) => own.clone(),
    };
    let mut words = vec![String::new(), own, matching];
    words.dedup();
    words
}

fn connection(look: Look<'_>, sni: Option<&str>) -> String {
    let mut words = String::new();
    if let Some(EvalResult::Record(tls)) = look("tls") {
        let within = |name: &str| tls.get(name).cloned();
        words.push_str(&handshake(&within, sni));
    }
    for name in texts(look("names")) {
        if name.parse::<cordon_policy::NormalizedHost>().is_ok() {
            let _infallible = write!(words, " cname {name}");
        }
    }
    if is(look("address_unverified")) {
        words.push_str(" unverified");
    }
    words
}

/// Words behind the URL of a request.
pub(super) fn of_request(look: Look<'_>) -> String {
    let mut words = String::new();
    for key in texts(look("query_keys")) {
        let _infallible = write!(words, " key {key:?}");
    }
    if let Some(kind) = text(look("content_type")) {
        let _infallible = write!(words, " type {kind:?}");
    }
    if let Some(EvalResult::Long(length)) = look("content_length") {
        let _infallible = write!(words, " length {}", length.max(0));
    }
    if is(look("credential")) {
        words.push_str(" credential");
    }
    if let Some(protocol) = text(look("upgrade")) {
        let _infallible = write!(words, " upgrade {protocol:?}");
    }
    words
}

/// The scheme of a request; the model's other words mean plain.
pub(super) fn scheme(look: Look<'_>) -> &'static str {
    match text(look("scheme")).as_deref() {
        Some("https") => "https",
        _another => "http",
    }
}

fn handshake(look: Look<'_>, sni: Option<&str>) -> String {
    let kind = match text(look("kind")).as_deref() {
        Some("not-tls") => "not-tls",
        _another => "hello",
    };
    let sni = sni.map(str::to_owned).or_else(|| text(look("sni")));
    let mut words = format!(" tls {kind}");
    let mut option = |keyword: &str, value: Option<String>| {
        if let Some(value) = value {
            let _infallible = write!(words, " {keyword} {value:?}");
        }
    };
    option("sni", sni);
    for protocol in texts(look("alpn")) {
        option("alpn", Some(protocol));
    }
    option("version", text(look("version")));
    option("ja4", text(look("ja4")));
    for flag in ["ech", "inspected"] {
        if is(look(flag)) {
            let _infallible = write!(words, " {flag}");
        }
    }
    words
}

fn text(value: Option<EvalResult>) -> Option<String> {
    match value? {
        EvalResult::String(text) => Some(text),
        _another => None,
    }
}

fn texts(value: Option<EvalResult>) -> Vec<String> {
    let Some(EvalResult::Set(set)) = value else {
        return Vec::new();
    };
    set.iter()
        .filter_map(|item| text(Some(item.clone())))
        .collect()
}

fn is(value: Option<EvalResult>) -> bool {
    matches!(value, Some(EvalResult::Bool(true)))
}
