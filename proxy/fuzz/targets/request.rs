//! Requests after their head was read: targets, and the fields that go on.

use cordon_policy::{Destination, Scheme};
use cordon_proxy::fuzzing;
use http_body_util::Empty;
use hyper::{
    Method, Request, Uri,
    body::Bytes,
    header::{self, HeaderName, HeaderValue},
};

type Asked = Request<Empty<Bytes>>;

/// A target is read as one destination and path, from which the same come again; inside a tunnel
/// to another host it is refused.
pub fn target(bytes: &[u8]) {
    let Some(mut request) = request(bytes) else {
        return;
    };
    if let Ok(read) = fuzzing::connect(&request) {
        let again = ask(&Method::CONNECT, &read.to_string(), &[]).expect("it is a target");
        assert_eq!(fuzzing::connect(&again), Ok(read));
    }
    if let Ok(read) = fuzzing::forward(&mut request) {
        assert!(!has_dots(&read.path), "{}", read.path);
        let url = format!("http://{}{}", read.host_field, read.path);
        let method = Method::from_bytes(read.method.as_bytes()).expect("it was one");
        let host = [(header::HOST, read.host_field.as_str())];
        let mut again = ask(&method, &url, &host).expect("it is a target");
        assert_eq!(fuzzing::forward(&mut again).as_ref(), Ok(&read));
        let named = Destination::from_http_authority(read.host_field.as_bytes());
        assert_eq!(named.as_ref(), Ok(&read.destination));
        // The same path inside a tunnel: to that host it passes, to another it does not.
        let authority = read.destination.to_string();
        let host = [(header::HOST, authority.as_str())];
        let mut inner = ask(&method, &read.path, &host).expect("it is a path");
        let passed = fuzzing::inside(&mut inner, &read.destination).expect("it names its tunnel");
        assert_eq!((passed.path, passed.method), (read.path, read.method));
        let other = Destination::from_url_authority(b"other.test:1", Scheme::Https);
        assert!(fuzzing::inside(&mut inner, &other.expect("it is one")).is_err());
    }
}

/// Nothing about one connection goes on, and `Host` is the target's.
pub fn fields(bytes: &[u8]) {
    let Some(mut request) = request(bytes) else {
        return;
    };
    let named: Vec<HeaderName> = request
        .headers()
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    counted(request.clone());
    let Ok(read) = fuzzing::forward(&mut request) else {
        return;
    };
    for http2 in [false, true] {
        let (uri, sent) = fuzzing::outbound(request.clone(), http2).expect("it was read");
        for name in [
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "transfer-encoding",
        ] {
            assert!(!sent.contains_key(name), "{name}");
        }
        let ours = [
            header::HOST,
            header::VIA,
            header::CONNECTION,
            header::UPGRADE,
            header::TE,
        ];
        for name in named.iter().filter(|name| !ours.contains(name)) {
            assert!(!sent.contains_key(name), "{name}");
        }
        let upgrading = sent.contains_key(header::UPGRADE);
        assert_eq!(upgrading, sent.contains_key(header::CONNECTION));
        assert!(
            !upgrading || fuzzing::leaves_http(&request),
            "only what was decided"
        );
        let via = sent.get_all(header::VIA).iter().next_back();
        assert_eq!(
            via.map(HeaderValue::as_bytes),
            Some(b"1.1 cordon".as_slice())
        );
        let hosts: Vec<_> = sent.get_all(header::HOST).iter().collect();
        if http2 {
            assert!(hosts.is_empty());
            assert_eq!(
                uri.authority().map(|name| name.as_str()),
                Some(&*read.host_field)
            );
        } else {
            assert_eq!(hosts, [&read.host_field]);
            assert!(uri.authority().is_none());
        }
        assert_eq!(uri.path(), read.path);
    }
}

/// `Max-Forwards` only ever goes down, by one, and at 0 nothing goes on.
fn counted(mut request: Asked) {
    let number = |request: &Asked| -> Option<u32> {
        let value = request.headers().get(header::MAX_FORWARDS)?;
        value.to_str().ok()?.parse().ok()
    };
    let before = number(&request);
    match fuzzing::hops(&mut request) {
        Ok(true) if request.method() == Method::OPTIONS => {
            assert_eq!(number(&request), before.map(|number| number - 1));
        }
        Ok(true) => assert_eq!(number(&request), before),
        Ok(false) => assert_eq!(before, Some(0)),
        Err(_malformed) => assert_eq!(request.method(), Method::OPTIONS),
    }
}

/// `METHOD target`, then `name: value` lines.
fn request(bytes: &[u8]) -> Option<Asked> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (method, target) = split(lines.next()?, b' ')?;
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::from_bytes(method).ok()?;
    *request.uri_mut() = Uri::try_from(target).ok()?;
    for line in lines.take(64) {
        let (name, value) = split(line, b':')?;
        let name = HeaderName::from_bytes(name).ok()?;
        let value = HeaderValue::from_bytes(value.trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == at)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn ask(method: &Method, target: &str, fields: &[(HeaderName, &str)]) -> Option<Asked> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = method.clone();
    *request.uri_mut() = target.parse().ok()?;
    for (name, value) in fields {
        request.headers_mut().append(name, value.parse().ok()?);
    }
    Some(request)
}

fn has_dots(path: &str) -> bool {
    let plain = path.replace("%2e", ".").replace("%2E", ".");
    plain
        .split(['/', '\\'])
        .any(|segment| matches!(segment, "." | ".."))
}
