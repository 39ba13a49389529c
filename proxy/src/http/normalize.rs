//! What an HTTP request asks for, in its one spelling, or what is wrong with it (N22).
//!
//! The rules, on top of what [`super::head`] refuses by its spelling:
//!
//! | request | rule |
//! |---|---|
//! | CONNECT | `host:port` alone, no body; a `Host` field names the same host |
//! | others | absolute form, scheme `http`; origin form and `https` are told what to do |
//! | method | upper-case letters, digits, `-`, `_`; TRACE and TRACK are not forwarded |
//! | path | `.` segments are taken out, before policy sees it and before it is sent; no `..` segment and no encoded `.`: a rule about a path must mean that path |
//! | `Host` | at most one, exactly one from HTTP/1.1 on; names the target or is refused |
//! | GET, HEAD with a body | refused: a rule about reading must not let a body out |
//! | query | at most 64 keys: a rule about keys must see all of them |
//! | Upgrade | to HTTP/2 or TLS: ignored, as a proxy may; to one other protocol: an action of its own |
//! | `Max-Forwards` | one plain number, on OPTIONS; at 0 the proxy answers itself |

use std::{
    borrow::Cow,
    sync::{Mutex, PoisonError},
};

use cordon_policy::{
    Destination, Host, HttpFacts, MAX_LENGTH, Method as PolicyMethod, Operation, Scheme,
    TargetError, query_keys,
};
use hyper::{
    HeaderMap, Method, Request, Uri, Version,
    body::Body,
    header::{self, HeaderName},
    http::uri::{Authority, PathAndQuery},
};

use super::inside;
pub(super) use crate::refuse::Fault;
use crate::status;

/// Methods that are named to a client whose own is refused.
pub(super) const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT";

/// One plain HTTP request in canonical form.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) destination: Destination,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) facts: HttpFacts,
}

/// What the last request of a connection named, by its very text: mostly the next names the same.
#[derive(Debug, Default)]
pub(super) struct Named(Mutex<Option<(Box<str>, Destination)>>);

/// What is wrong with a request, and what to do.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(super) fault: Fault,
    pub(super) text: String,
}

impl Asked {
    /// The `Host` field that names the destination; the port only where it is not the default.
    pub(crate) fn host_field(&self) -> String {
        let Destination { host, port } = &self.destination;
        let Host::Name(name) = host else {
            return match port.get() == self.facts.scheme.default_port() {
                true => host.to_string(),
                false => self.destination.to_string(),
            };
        };
        // Made for each request: put together by hand, in memory of the right size.
        let mut field = String::with_capacity(name.as_str().len() + ":65535".len());
        field.push_str(name.as_str());
        if port.get() != self.facts.scheme.default_port() {
            field.push(':');
            field.push_str(&port.get().to_string());
        }
        field
    }

    /// Whether it came inside TLS.
    pub(crate) fn scheme(&self) -> Scheme {
        self.facts.scheme
    }

    /// Where to.
    pub(crate) fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Its method.
    pub(crate) fn method(&self) -> &str {
        &self.method
    }

    /// Its path, without query.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The protocol that it asks to change to.
    pub(crate) fn upgrade(&self) -> Option<&str> {
        self.facts.upgrade.as_deref()
    }

    pub(crate) fn operation(&self) -> Operation {
        Operation::HttpRequest {
            destination: self.destination.clone(),
            method: PolicyMethod(self.method.clone()),
            path: self.path.clone(),
            facts: Box::new(self.facts.clone()),
        }
    }
}

impl Named {
    /// Reads the authority of an `http` URL.
    fn read(&self, authority: &str) -> Result<Destination, TargetError> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((text, destination)) = &*last
            && **text == *authority
        {
            return Ok(destination.clone());
        }
        let destination = Destination::from_http_authority(authority.as_bytes())?;
        *last = Some((authority.into(), destination.clone()));
        Ok(destination)
    }
}

/// Reads the target of a CONNECT.
pub(super) fn connect_target<B: Body>(request: &Request<B>) -> Result<Destination, Problem> {
    let uri = request.uri();
    // What would follow then is a body to some and the tunnel's first bytes to others.
    if !request.body().is_end_stream() {
        return Err(Problem::malformed("CONNECT with a body"));
    }
    let authority = match uri.authority() {
        Some(authority) if uri.scheme().is_none() && uri.path_and_query().is_none() => authority,
        _ => return Err(Problem::malformed("CONNECT takes `host:port` alone")),
    };
    let destination = Destination::from_authority(authority.as_str().as_bytes())?;
    connect_host(request.headers(), authority.as_str(), &destination)?;
    Ok(destination)
}

/// Clients leave the port of a CONNECT out of `Host`, or the whole field; what is there must not
/// name another host (N12).
fn connect_host(fields: &HeaderMap, authority: &str, target: &Destination) -> Result<(), Problem> {
    let Some(host) = fields.get(header::HOST) else {
        return Ok(());
    };
    // What reads like the target's own text is the target.
    if host.as_bytes() == authority.as_bytes() {
        return Ok(());
    }
    let whole = Destination::from_authority(host.as_bytes());
    let bare = || Destination::from_http_authority(host.as_bytes());
    let agrees = match whole {
        Ok(host) => host == *target,
        Err(TargetError::NoPort { .. }) => bare().is_ok_and(|host| host.host == target.host),
        Err(_) => false,
    };
    if agrees {
        return Ok(());
    }
    Err(misdirected(target))
}

fn misdirected(target: &Destination) -> Problem {
    Problem::new(
        Fault::Misdirected,
        format!("the `Host` field does not name the target {target}"),
    )
}

/// Reads any other request.
pub(super) fn forward_target<B: Body>(
    request: &mut Request<B>,
    named: &Named,
) -> Result<Asked, Problem> {
    method(request.method())?;
    let destination = absolute(request, named)?;
    let path = path(request)?;
    let authority = request.uri().authority().map(Authority::as_str);
    host(
        request.version(),
        request.headers(),
        authority,
        &destination,
    )?;
    body(request)?;
    let mut facts = facts(request)?;
    facts.upgrade = inside::upgrade(request)?;
    Ok(Asked {
        destination,
        method: request.method().as_str().to_owned(),
        path,
        facts,
    })
}

/// What else policy may look at. Of the query only its keys, of credentials only that there are
/// some.
pub(super) fn facts<B: Body>(request: &Request<B>) -> Result<HttpFacts, Problem> {
    let fields = request.headers();
    let keys = query_keys(request.uri().query().unwrap_or_default())
        .map_err(|error| Problem::malformed(error.to_string()))?;
    Ok(HttpFacts {
        query_keys: keys,
        content_type: content_type(fields)?,
        content_length: request
            .body()
            .size_hint()
            .exact()
            .map(|n| n.min(MAX_LENGTH)),
        credential: CREDENTIALS.iter().any(|name| fields.contains_key(name)),
        ..HttpFacts::default()
    })
}

/// Fields that carry a client's own credentials. `Proxy-Authorization` is for this proxy and goes
/// no further.
const CREDENTIALS: [HeaderName; 2] = [header::AUTHORIZATION, header::COOKIE];

/// Source: RFC 9110 section 8.3; one that is there twice may be read as either.
fn content_type(fields: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut all = fields.get_all(header::CONTENT_TYPE).iter();
    let (Some(first), None) = (all.next(), all.next()) else {
        return if fields.contains_key(header::CONTENT_TYPE) {
            Err(Problem::malformed("more than one `Content-Type` field"))
        } else {
            Ok(None)
        };
    };
    let text = first
        .to_str()
        .map_err(|_| Problem::malformed("the `Content-Type` field is not ASCII"))?;
    let essence = text.split(';').next().unwrap_or_default().trim();
    Ok(Some(essence.to_ascii_lowercase()))
}

pub(super) fn method(method: &Method) -> Result<(), Problem> {
    // A server may read `get` as GET; then the rule that was asked is not the one that counts.
    let plain = |byte: u8| {
        byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
    };
    let text = method.as_str();
    if !text.bytes().all(plain) {
        return Err(Problem::new(
            Fault::Method,
            "a method is upper-case letters, digits, `-` and `_`",
        ));
    }
    // They send the request back, credentials included.
    if matches!(text, "TRACE" | "TRACK") {
        let problem = format!("{text} is not forwarded; use another method");
        return Err(Problem::new(Fault::Method, problem));
    }
    Ok(())
}

/// Whether a request is for the proxy's own page.
pub(super) fn is_own<B>(request: &Request<B>) -> bool {
    let uri = request.uri();
    uri.scheme_str() == Some("http")
        && uri.authority().is_some_and(|authority| {
            // Nearly every host is told apart without being read.
            status::may_be_reserved(authority.as_str())
                && Destination::from_http_authority(authority.as_str().as_bytes())
                    .is_ok_and(|destination| status::is_reserved(&destination))
        })
}

fn absolute<B>(request: &Request<B>, named: &Named) -> Result<Destination, Problem> {
    let uri = request.uri();
    let Some(authority) = uri.authority() else {
        return Err(Problem::malformed(
            "this is a forward proxy: send the whole URL as the target (`GET http://host/path`), \
             or CONNECT; most programs do when `http_proxy` is set",
        ));
    };
    match uri.scheme_str() {
        Some("http") => named.read(authority.as_str()).map_err(Problem::from),
        Some("https") => Err(Problem::malformed(
            "https is not forwarded in clear: open a tunnel with CONNECT",
        )),
        _ => Err(Problem::malformed("the scheme is not `http`")),
    }
}

/// The path in its one spelling. The request is given it too, so that what is decided is what is
/// sent.
pub(super) fn path<B>(request: &mut Request<B>) -> Result<String, Problem> {
    let path = request.uri().path();
    let plain = without_dots(path)?;
    if let Cow::Owned(plain) = &plain {
        let target = match request.uri().query() {
            Some(query) => PathAndQuery::try_from(format!("{plain}?{query}")),
            None => PathAndQuery::try_from(plain.as_str()),
        };
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = Some(target.map_err(not_a_path)?);
        let plain = plain.clone();
        *request.uri_mut() = Uri::from_parts(parts).map_err(not_a_path)?;
        return Ok(plain);
    }
    Ok(plain.into_owned())
}

fn not_a_path<E>(_error: E) -> Problem {
    Problem::malformed("the path is none without its `.` segments")
}

/// Takes out segments that mean nothing (apt writes them) and refuses those that mean another
/// place, or mean nothing to some only.
///
/// Source: RFC 3986 section 5.2.4.
fn without_dots(path: &str) -> Result<Cow<'_, str>, Problem> {
    if !path.contains(['.', '%']) {
        return Ok(path.into());
    }
    let mut kept: Vec<&str> = path.split('/').filter(|&segment| segment != ".").collect();
    if path.ends_with("/.") {
        kept.push("");
    }
    let dots = |segment: &str| {
        let plain = segment.replace("%2e", ".").replace("%2E", ".");
        plain == "." || plain == ".."
    };
    if kept.iter().flat_map(|part| part.split('\\')).any(dots) {
        return Err(Problem::malformed(
            "the path has a `..` segment, or a `.` that is encoded; send the path that is meant",
        ));
    }
    let plain = kept.join("/");
    Ok(if plain == path {
        path.into()
    } else {
        plain.into()
    })
}

/// Source: RFC 9112 section 3.2; a mismatch is refused rather than repaired, because it is how a
/// request is fronted by a host that is allowed (N12).
fn host(
    version: Version,
    fields: &HeaderMap,
    authority: Option<&str>,
    target: &Destination,
) -> Result<(), Problem> {
    let mut all = fields.get_all(header::HOST).iter();
    match (all.next(), all.next()) {
        (_, Some(_)) => Err(Problem::malformed("more than one `Host` field")),
        (None, None) if version == Version::HTTP_11 => {
            Err(Problem::malformed("HTTP/1.1 without a `Host` field"))
        }
        (None, None) => Ok(()),
        (Some(host), None) => {
            // What reads like the target's own text is the target.
            let same = authority.is_some_and(|authority| authority.as_bytes() == host.as_bytes());
            if same || Destination::from_http_authority(host.as_bytes()).as_ref() == Ok(target) {
                return Ok(());
            }
            Err(misdirected(target))
        }
    }
}

pub(super) fn body<B: Body>(request: &Request<B>) -> Result<(), Problem> {
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    if reading && !request.body().is_end_stream() {
        let problem = format!("{} with a body; use another method", request.method());
        return Err(Problem::malformed(problem));
    }
    Ok(())
}

impl Problem {
    pub(super) fn new(fault: Fault, text: impl Into<String>) -> Self {
        Self {
            fault,
            text: text.into(),
        }
    }

    pub(crate) fn malformed(text: impl Into<String>) -> Self {
        Self::new(Fault::Malformed, text)
    }
}

impl From<TargetError> for Problem {
    fn from(error: TargetError) -> Self {
        Self::malformed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n22_a_path_has_one_spelling_or_is_refused() {
        for (sent, decided) in [
            ("/", "/"),
            ("/a/b.c/...", "/a/b.c/..."),
            ("/debian/./Packages", "/debian/Packages"),
            ("/./././x", "/x"),
            ("/.", "/"),
            ("/./.", "/"),
            ("/a/.", "/a/"),
            ("/a/./", "/a/"),
            (".//a", "/a"),
            ("/a/.//b", "/a//b"),
            ("/a%2fb", "/a%2fb"),
            ("/.hidden/x.", "/.hidden/x."),
        ] {
            assert_eq!(without_dots(sent).unwrap(), decided, "{sent}");
            assert_eq!(without_dots(decided).unwrap(), decided, "{sent}");
        }
        for refused in [
            "/..",
            "/a/../b",
            "/a/./../b",
            "/%2e",
            "/a/%2E/b",
            "/.%2e/x",
            "/a\\.\\b",
            "/a\\..",
        ] {
            assert!(without_dots(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn n12_a_kept_connection_is_read_by_what_each_request_names() {
        let named = Named::default();
        for authority in [
            "a.test",
            "a.test",
            "A.test:80",
            "b.test:8080",
            "a.test:81",
            "a.test",
        ] {
            let read = named.read(authority).unwrap();
            let alone = Destination::from_http_authority(authority.as_bytes()).unwrap();
            assert_eq!(read, alone, "{authority}");
        }
        // What is refused leaves nothing behind that another could be taken for.
        for refused in ["user@a.test", "", "a..test"] {
            assert!(named.read(refused).is_err(), "{refused}");
            assert!(named.read(refused).is_err(), "{refused} again");
        }
        assert_eq!(named.read("a.test").unwrap().port.get(), 80);
    }

    #[test]
    fn n12_the_host_field_of_a_connect_names_its_target() {
        for (host, agrees) in [
            (None, true),
            (Some("a.test:443"), true),
            (Some("A.TEST:443"), true),
            (Some("a.test"), true),
            (Some("a.test:444"), false),
            (Some("b.test:443"), false),
            (Some("b.test"), false),
            (Some("a.test:443 "), false),
            (Some(""), false),
        ] {
            let mut request = Request::builder().method(Method::CONNECT).uri("a.test:443");
            if let Some(host) = host {
                request = request.header(header::HOST, host);
            }
            let request = request.body(String::new()).unwrap();
            assert_eq!(connect_target(&request).is_ok(), agrees, "{host:?}");
        }
    }

    #[test]
    fn n22_the_path_that_is_decided_is_the_one_that_is_sent() {
        for (sent, decided) in [
            ("http://a.test/x/./y?k=/./", "http://a.test/x/y?k=/./"),
            ("http://a.test/./", "http://a.test/"),
            ("/./x", "/x"),
            ("/.//b.test/x", "//b.test/x"),
            ("/x?..", "/x?.."),
        ] {
            let mut request = Request::builder().uri(sent).body(()).unwrap();
            let path = path(&mut request).unwrap();
            assert_eq!(request.uri(), decided, "{sent}");
            assert_eq!(request.uri().path(), path, "{sent}");
        }
    }
}
