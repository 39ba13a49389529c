//! Refusals of gRPC calls, in the way that its clients show.
//!
//! A refusal in, a response without a body out. Such a client shows the status and the message of
//! gRPC, never the body of a 403, so without this it would not learn the reason.

use cordon_policy::DenyReason;
use hyper::{
    HeaderMap, Request, Response, StatusCode, Version,
    header::{self, HeaderValue},
};

use super::body::Body;
use crate::{
    refuse::{DECISION_FIELD, Refusal},
    session::Session,
};

/// Whether a request is a call of gRPC.
///
/// Source: gRPC over HTTP/2, "Requests": `application/grpc`, and a `+` or `;` with more.
pub(crate) fn is_call<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_2 && is_grpc(request.headers())
}

/// Whether what has these fields is a stream of messages of gRPC.
pub(super) fn is_grpc(fields: &HeaderMap) -> bool {
    let media = fields.get(header::CONTENT_TYPE);
    let rest = media.and_then(|media| media.as_bytes().strip_prefix(CALL.as_bytes()));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The refusal of a call.
///
/// Source: gRPC over HTTP/2, "Responses": a call that ends at once is 200 with the status in the
/// only header block.
pub(crate) fn refused(session: &Session, refusal: &Refusal) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(CALL));
    fields.insert("grpc-status", HeaderValue::from(code(refusal)));
    let line = refusal.line(session.contact());
    let line = line.strip_prefix("cordon: ").unwrap_or(&line);
    let message = format!("{}; {line}", refusal.phrase());
    if let Ok(message) = HeaderValue::from_str(&escaped(&message)) {
        fields.insert("grpc-message", message);
    }
    if let Ok(decision) = HeaderValue::from_str(&refusal.field(session.contact())) {
        fields.insert(DECISION_FIELD, decision);
    }
    response
}

/// Source: gRPC status codes; a client tries `UNAVAILABLE` again, and nothing else of these.
fn code(refusal: &Refusal) -> u16 {
    const INVALID_ARGUMENT: u16 = 3;
    const PERMISSION_DENIED: u16 = 7;
    const RESOURCE_EXHAUSTED: u16 = 8;
    const UNAVAILABLE: u16 = 14;
    match (refusal.deny_reason(), refusal.status()) {
        (Some(DenyReason::Limit), _) => RESOURCE_EXHAUSTED,
        (_, StatusCode::FORBIDDEN) => PERMISSION_DENIED,
        (_, status) if status.is_client_error() => INVALID_ARGUMENT,
        _ => UNAVAILABLE,
    }
}

/// Source: gRPC over HTTP/2, `Percent-Encoded`; bounded, because a rule's reason may be long.
fn escaped(message: &str) -> String {
    let mut escaped = String::new();
    for byte in message.bytes().take(MESSAGE_BYTES) {
        match byte {
            b' '..=b'~' if byte != b'%' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

const CALL: &str = "application/grpc";

/// Of a message before it is escaped.
const MESSAGE_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_version_and_media_type() {
        let is = |version, media: &str| {
            let request = Request::builder().version(version);
            is_call(&request.header("content-type", media).body(()).unwrap())
        };
        for media in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;x=y",
        ] {
            assert!(is(Version::HTTP_2, media), "{media}");
            assert!(!is(Version::HTTP_11, media), "{media}");
        }
        for media in ["application/grpc-web", "application/json", ""] {
            assert!(!is(Version::HTTP_2, media), "{media}");
        }
    }

    #[test]
    fn a06_a_message_is_escaped_and_bounded() {
        assert_eq!(escaped("50 % of \u{e4}\n"), "50 %25 of %C3%A4%0A");
        assert_eq!(escaped(&"x".repeat(5000)).len(), MESSAGE_BYTES);
    }
}
