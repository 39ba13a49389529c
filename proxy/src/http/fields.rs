//! Which header fields go on, both ways.
//!
//! Source: RFC 9110 sections 7.6.1 (connection-specific fields) and 7.6.3 (`Via`), RFC 9112
//! section 3.2.2 (`Host`).

use hyper::{
    HeaderMap, Response, Uri, Version,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
    http::{request::Parts, uri::PathAndQuery},
};

use super::normalize::Asked;
use crate::refuse::DECISION_FIELD;

/// Only means something together with `Upgrade: h2c`, which goes no further.
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Fields that are about one connection, whether or not `Connection` names them. Framing is made
/// anew by `hyper`, so a length and a coding that disagree never go on both.
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HTTP2_SETTINGS,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The request's head as it goes to the origin, in HTTP/2 or HTTP/1.1.
pub(super) fn outbound(parts: &mut Parts, asked: &Asked, http2: bool) {
    let received = parts.version;
    let trailers = wants_trailers(&parts.headers);
    strip(&mut parts.headers);
    add_via(&mut parts.headers, received);
    // An empty path calls itself `/` and is written as nothing.
    let path = parts.uri.path_and_query().cloned();
    let path = path.filter(|path| path.as_str() != "/");
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    if http2 {
        // The target says it; two of them could differ.
        parts.headers.remove(header::HOST);
        if trailers {
            let trailers = HeaderValue::from_static("trailers");
            parts.headers.insert(header::TE, trailers);
        }
        if let Some(uri) = whole(asked, path) {
            parts.uri = uri;
        }
        parts.version = Version::HTTP_2;
        return;
    }
    // From the target, never from what the client wrote there.
    if let Ok(host) = HeaderValue::from_str(&asked.host_field()) {
        parts.headers.insert(header::HOST, host);
    }
    if received == Version::HTTP_2 {
        join_cookies(&mut parts.headers);
    }
    if let Some(protocol) = asked.upgrade()
        && let Ok(protocol) = HeaderValue::from_str(protocol)
    {
        parts.headers.insert(header::UPGRADE, protocol);
        let upgrade = HeaderValue::from_static("upgrade");
        parts.headers.insert(header::CONNECTION, upgrade);
    }
    parts.uri = Uri::from(path);
    parts.version = Version::HTTP_11;
}

/// The target with scheme and authority, as HTTP/2 carries it.
fn whole(asked: &Asked, path: PathAndQuery) -> Option<Uri> {
    let uri = Uri::builder()
        .scheme(asked.scheme().as_str())
        .authority(asked.host_field())
        .path_and_query(path);
    uri.build().ok()
}

/// Why an answer cannot be passed on, in words: whoever reads it next may take another length for
/// its body, or a coding for its content. As with requests nothing of that is repaired (N22).
///
/// Source: RFC 9112 sections 6.1 and 6.3.
pub(super) fn ambiguous<B>(response: &Response<B>) -> Option<&'static str> {
    let fields = response.headers();
    // Two that say the same, too: whoever adds them up reads another.
    if fields
        .get_all(header::CONTENT_LENGTH)
        .iter()
        .nth(1)
        .is_some()
    {
        return Some("the destination answered with more than one `Content-Length`");
    }
    let coding = fields.get(header::TRANSFER_ENCODING)?;
    if fields.contains_key(header::CONTENT_LENGTH) {
        return Some("the destination answered with `Content-Length` and `Transfer-Encoding`");
    }
    let once = fields.get_all(header::TRANSFER_ENCODING).iter().count() == 1;
    let is_chunked = once && coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    (!is_chunked).then_some("the destination answered with a transfer coding other than `chunked`")
}

/// The response as it goes to the client.
pub(super) fn inbound(mut response: Response<Incoming>) -> Response<Incoming> {
    let version = response.version();
    strip(response.headers_mut());
    // Ours to say: an origin must not pass for the proxy.
    response.headers_mut().remove(DECISION_FIELD);
    add_via(response.headers_mut(), version);
    // Each side frames it in its own version.
    *response.version_mut() = Version::HTTP_11;
    response
}

/// The answer that changes protocols, as it goes to the client.
pub(super) fn switching(mut response: Response<Incoming>, protocol: &str) -> Response<Incoming> {
    response = inbound(response);
    let fields = response.headers_mut();
    if let Ok(protocol) = HeaderValue::from_str(protocol) {
        fields.insert(header::UPGRADE, protocol);
    }
    let upgrade = HeaderValue::from_static("upgrade");
    fields.insert(header::CONNECTION, upgrade);
    response
}

/// Whether the client reads trailers; gRPC asks for that.
///
/// Source: RFC 9113 section 8.2.2: the one value of `TE` that HTTP/2 knows.
fn wants_trailers(fields: &HeaderMap) -> bool {
    let mut values = fields.get_all(header::TE).iter();
    values.any(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"))
}

/// HTTP/2 may send cookies in several fields, HTTP/1 not.
///
/// Source: RFC 9113 section 8.2.3.
fn join_cookies(fields: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = fields
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(b"; ".as_slice()))
    {
        fields.insert(header::COOKIE, joined);
    }
}

fn strip(fields: &mut HeaderMap) {
    strip_named(fields);
    // Mostly there is none: to look at what is there takes less than to look for each of them.
    if fields.keys().any(|name| HOP_BY_HOP.contains(name)) {
        for name in &HOP_BY_HOP {
            fields.remove(name);
        }
    }
}

/// Takes off what `Connection` names, and `Connection`: what is put in from now on stays. `TE` says
/// whether trailers are wanted, and is looked at later.
pub(super) fn strip_named(fields: &mut HeaderMap) {
    let Some(first) = fields.get(header::CONNECTION) else {
        return;
    };
    // Servers mostly name `Keep-Alive` alone, which goes anyway.
    if !first.as_bytes().eq_ignore_ascii_case(b"keep-alive")
        || fields.get_all(header::CONNECTION).iter().nth(1).is_some()
    {
        for name in named_by_connection(fields) {
            if name != header::TE {
                fields.remove(name);
            }
        }
    }
    fields.remove(header::CONNECTION);
}

fn named_by_connection(fields: &HeaderMap) -> Vec<HeaderName> {
    fields
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}

fn add_via(fields: &mut HeaderMap, received: Version) {
    let via = match received {
        Version::HTTP_10 => HeaderValue::from_static("1.0 cordon"),
        Version::HTTP_2 => HeaderValue::from_static("2.0 cordon"),
        _ => HeaderValue::from_static("1.1 cordon"),
    };
    fields.append(header::VIA, via);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_of_http2_are_one_field_in_http1() {
        let mut fields = HeaderMap::new();
        for cookie in ["a=1", "b=2"] {
            fields.append(header::COOKIE, HeaderValue::from_static(cookie));
        }
        join_cookies(&mut fields);
        let cookies: Vec<_> = fields.get_all(header::COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }

    #[test]
    fn connection_fields_go_no_further() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Secret"),
            ("connection", "x-other"),
            ("x-secret", "1"),
            ("x-other", "2"),
            ("proxy-authorization", "Basic eA=="),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("x-kept", "3"),
        ] {
            let name = HeaderName::from_static(name);
            fields.append(name, HeaderValue::from_static(value));
        }
        strip(&mut fields);
        let left: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-kept"]);
    }
}
