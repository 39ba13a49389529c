//! `http://cordon.internal/`: what the proxy tells a session about itself, `/proxy.pac`, and
//! `/ca.pem`, the certificate of the authority that its inspected tunnels are signed by.
//!
//! A session and a path in, a page out. The name is reserved: it is answered here in whatever way it
//! is asked for, is never looked up, and never leaves. Says what is permitted to this session, in words and
//! not in the text of rules, and what was refused.

use std::{convert::Infallible, fmt, net::SocketAddr, sync::Arc, time::SystemTime};

use cordon_policy::{Asked, Destination, Host, plain_words::Allowed};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    door::Who,
    http::body::Body,
    limits, linger,
    refuse::{shown, wants_json},
    session::Session,
    tls::Prefixed,
};

/// The reserved name.
pub(crate) const NAME: &str = "cordon.internal";

/// Permits of the network, permits of other things, host groups and refusals that are shown at most.
const MOST: usize = 50;

/// Where a client reaches the proxy, on TCP, as its configuration would say it.
#[derive(Clone, Debug)]
pub(crate) enum Reached {
    /// In clear.
    Plain(SocketAddr),
    /// Inside TLS, by this name or address and port.
    Tls(Arc<str>),
}

impl Reached {
    /// Where a connection's client reached us; `None` where it came by no TCP.
    pub(crate) fn of(who: &Who, stream: &TcpStream) -> Option<Self> {
        let secured = who.secured().cloned();
        secured.or_else(|| Some(Self::Plain(stream.local_addr().ok()?)))
    }

    /// By the name that the client's handshake gave (checked by `rustls` to be one), because the
    /// certificate is good for a name; by the address where it gave none.
    pub(crate) fn inside_tls(name: Option<&str>, local: SocketAddr) -> Self {
        Self::Tls(match name {
            Some(name) => format!("{name}:{}", local.port()).into(),
            None => local.to_string().into(),
        })
    }
}

impl fmt::Display for Reached {
    /// As `FindProxyForURL` answers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(address) => write!(f, "PROXY {address}"),
            Self::Tls(authority) => write!(f, "HTTPS {authority}"),
        }
    }
}

/// Whether a destination is the proxy itself, or below it.
pub(crate) fn is_reserved(destination: &Destination) -> bool {
    let Host::Name(name) = &destination.host else {
        return false;
    };
    let name = name.as_str();
    name.strip_suffix(NAME)
        .is_some_and(|below| below.is_empty() || below.ends_with('.'))
}

/// Whether a URL's authority can be a spelling of the proxy itself, or of a name below it: only its
/// case can differ, and what is percent-encoded is looked at.
pub(crate) fn may_be_reserved(authority: &str) -> bool {
    let text = authority.as_bytes();
    let mut places = text.windows(NAME.len());
    places.any(|part| part.eq_ignore_ascii_case(NAME.as_bytes())) || !plain(text)
}

fn plain(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii() && *byte != b'%')
}

/// Answers one request. `proxy` is where this client reaches the proxy, where that is known.
pub(crate) fn answer<B>(
    session: &Session,
    request: &Request<B>,
    proxy: Option<&Reached>,
) -> Response<Body> {
    let json = request
        .headers()
        .get(header::ACCEPT)
        .is_some_and(wants_json);
    let (status, media, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/") if json => {
            (StatusCode::OK, JSON, format!("{}\n", page(session)))
        }
        (&Method::GET | &Method::HEAD, "/") => (StatusCode::OK, TEXT, text(&page(session))),
        (&Method::GET | &Method::HEAD, "/proxy.pac") => match proxy {
            Some(proxy) => (StatusCode::OK, PAC, pac(proxy)),
            None => (
                StatusCode::NOT_FOUND,
                TEXT,
                "cordon: this connection does not tell the proxy's address; ask for it through the \
                 HTTP proxy itself\n"
                    .into(),
            ),
        },
        (&Method::GET | &Method::HEAD, "/ca.pem") => match session.inspector() {
            Some(inspector) => (StatusCode::OK, PEM, inspector.certificate()),
            None => (
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "cordon: TLS cannot be inspected here; the log of the service says why\n".into(),
            ),
        },
        (&Method::GET | &Method::HEAD, _) => (
            StatusCode::NOT_FOUND,
            TEXT,
            "cordon: there are `/`, `/proxy.pac` and `/ca.pem`\n".into(),
        ),
        _ => (
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "cordon: this page is only read\n".into(),
        ),
    };
    let text = if request.method() == Method::HEAD {
        String::new()
    } else {
        text
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Answers whatever a connection asks that was opened to the reserved name; `first` has been read
/// from it already.
pub(crate) async fn serve(session: Arc<Session>, first: Vec<u8>, stream: TcpStream) {
    let stream = Prefixed::new(first, stream);
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&session, &request, None);
        async move { Ok::<_, Infallible>(response) }
    });
    let talk = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HANDSHAKE_DEADLINE)
        .max_buf_size(limits::HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .without_shutdown();
    if let Ok(parts) = talk.await
        && let Some(stream) = parts.io.into_inner().into_stream()
    {
        linger::close(stream).await;
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// Source: RFC 8555 section 9.1.
const PEM: &str = "application/pem-certificate-chain";
const PAC: &str = "application/x-ns-proxy-autoconfig";

/// The page as data.
fn page(session: &Session) -> Value {
    let gate = session.gate();
    let facts = gate.session();
    let policy = gate.policy();
    let lines = gate.tally().lines().lines;
    let refused: Vec<_> = lines
        .iter()
        .rev()
        .filter(|line| line.refused.is_some() && !line.observed)
        .take(MOST)
        .map(|line| {
            let asked = match &*line.asked {
                Asked::Request(request) => shown(&request.operation),
                Asked::Raw(raw) => format!("request refused: {}", raw.problem),
            };
            json!({ "asked": asked, "why": line.why, "rule": line.rule, "times": line.count })
        })
        .collect();
    json!({
        "session": facts.id,
        "user": facts.user,
        "agent": facts.agent,
        "policy": {
            "name": policy.name(),
            "revision": policy.revision(),
            "digest": policy.digest(),
        },
        "observe_until": policy.observe().filter(|observe| observe.is_on(SystemTime::now())),
        "allowed": Allowed::of(&policy, facts, MOST),
        "refused": refused,
        "ask": session.contact(),
    })
}

/// The page for people.
fn text(page: &Value) -> String {
    let word = |value: &Value| match value {
        Value::String(text) => text.replace(char::is_control, " "),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let at = |pointer: &str| page.pointer(pointer).map(word).unwrap_or_default();
    let revision = match at("/policy/revision") {
        none if none.is_empty() => none,
        revision => format!(", revision {revision}"),
    };
    let mut text = format!(
        "cordon: this session's way out\nsession: {}\nuser: {}\npolicy: {}{revision}, digest {}\n",
        at("/session"),
        at("/user"),
        at("/policy/name"),
        at("/policy/digest"),
    );
    let list = |pointer: &str| {
        page.pointer(pointer)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let until = at("/observe_until");
    if !until.is_empty() {
        text.push_str(&format!(
            "observing until {until}: what would be refused is let through and recorded\n"
        ));
    }
    let permits = |text: &mut String, key: &str| {
        for rule in list(&format!("/allowed/{key}")) {
            let of = |key: &str| rule.get(key).map(word).unwrap_or_default();
            let (words, rule, reason) = (of("words"), of("rule"), of("reason"));
            text.push_str(&match reason.is_empty() {
                true => format!("  {words}\n      rule {rule}\n"),
                false => format!("  {words}\n      rule {rule}: {reason}\n"),
            });
        }
        match at(&format!("/allowed/{key}_not_shown")).as_str() {
            "0" => {}
            more => text.push_str(&format!("  and {more} more rules\n")),
        }
    };
    text.push_str("\nmay reach, where no rule forbids it:\n");
    if list("/allowed/network").next().is_none() {
        text.push_str("  nothing\n");
    }
    permits(&mut text, "network");
    for group in list("/allowed/groups") {
        let of = |key: &str| group.get(key).map(word).unwrap_or_default();
        let members = group.get("members").and_then(Value::as_array);
        let members: Vec<_> = members.into_iter().flatten().map(word).collect();
        let more = match of("not_shown").as_str() {
            "0" => String::new(),
            more => format!(" and {more} more"),
        };
        let (name, members) = (of("name"), members.join(", "));
        text.push_str(&format!("  group `{name}`: {members}{more}\n"));
    }
    text.push_str("\nmay otherwise, where no rule forbids it:\n");
    permits(&mut text, "other");
    text.push_str("\nrefused so far, the latest kind first:\n");
    for line in list("/refused") {
        let of = |key: &str| line.get(key).map(word).unwrap_or_default();
        // Why it was says which rule, too.
        let (times, asked, why) = (of("times"), of("asked"), of("why"));
        text.push_str(&format!("  {times}x {asked}: {why}\n"));
    }
    let whom = at("/ask");
    if !whom.is_empty() {
        text.push_str(&format!("\nask for more: {whom}\n"));
    }
    text
}

/// Everything by the proxy but what is this machine's own. A name without a dot is a host of the
/// network's like any other.
fn pac(proxy: &Reached) -> String {
    format!(
        "function FindProxyForURL(url, host) {{\n  if (host == \"localhost\" || host == \
         \"127.0.0.1\" || host == \"[::1]\") return \"DIRECT\";\n  return \"{proxy}\";\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserved_name_is_known_in_any_spelling() {
        for (authority, expected) in [
            ("cordon.internal:80", true),
            ("CORDON.Internal.:443", true),
            ("a.cordon.internal:1", true),
            ("xcordon.internal:80", false),
            ("cordon.internal.test:80", false),
            ("127.0.0.1:80", false),
        ] {
            let destination = Destination::from_authority(authority.as_bytes()).unwrap();
            assert_eq!(is_reserved(&destination), expected, "{authority}");
        }
    }
}
