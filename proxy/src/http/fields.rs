//! Which header fields go on, both ways.
//!
//! Source: RFC 9110 sections 7.6.1 (connection-specific fields) and 7.6.3 (`Via`), RFC 9112
//! section 3.2.2 (`Host`).

use hyper::{
    HeaderMap, Request, Response, Uri, Version,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
};

use super::normalize::Asked;
use crate::refuse::DECISION_FIELD;

/// Fields that are about one connection, whether or not `Connection` names them. Framing is made
/// anew by `hyper`, so a length and a coding that disagree never go on both.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The request as it goes to the origin.
pub(super) fn outbound(request: Request<Incoming>, asked: &Asked) -> Request<Incoming> {
    let (mut parts, body) = request.into_parts();
    strip(&mut parts.headers);
    // Only means something together with `Upgrade: h2c`.
    parts.headers.remove("http2-settings");
    add_via(&mut parts.headers, parts.version);
    // From the target, never from what the client wrote there.
    if let Ok(host) = HeaderValue::from_str(&asked.host_field()) {
        parts.headers.insert(header::HOST, host);
    }
    parts.uri = match parts.uri.path_and_query() {
        Some(path) => Uri::from(path.clone()),
        None => Uri::default(),
    };
    parts.version = Version::HTTP_11;
    Request::from_parts(parts, body)
}

/// The response as it goes to the client.
pub(super) fn inbound(mut response: Response<Incoming>) -> Response<Incoming> {
    let version = response.version();
    strip(response.headers_mut());
    // Ours to say: an origin must not pass for the proxy.
    response.headers_mut().remove(DECISION_FIELD);
    add_via(response.headers_mut(), version);
    *response.version_mut() = Version::HTTP_11;
    response
}

fn strip(fields: &mut HeaderMap) {
    if fields.contains_key(header::CONNECTION) {
        for name in named_by_connection(fields) {
            fields.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        fields.remove(name);
    }
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
    let via = HeaderValue::from_static(match received {
        Version::HTTP_10 => "1.0 cordon",
        Version::HTTP_2 => "2.0 cordon",
        _ => "1.1 cordon",
    });
    fields.append(header::VIA, via);
}

#[cfg(test)]
mod tests {
    use super::*;

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
