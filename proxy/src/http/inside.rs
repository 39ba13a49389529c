//! What a request inside a tunnel that is looked into asks for, in its one spelling, or what is wrong with it.
//!
//! The same rules as for a plain one, and of its own:
//!
//! | request | rule |
//! |---|---|
//! | target | a path, or in HTTP/2 the tunnel's scheme and host; nothing else |
//! | `Host`, `:authority` | both name the host that the tunnel was decided for (N12) |
//! | CONNECT | refused: a tunnel in a tunnel would be looked into by nobody (N22) |
//! | Upgrade | to one protocol, in HTTP/1.1; an action of its own |

use cordon_policy::{Destination, Scheme, Seen};
use hyper::{HeaderMap, Method, Request, Version, body::Body, header};

use super::{
    head,
    normalize::{self, Asked, Fault, Problem},
};

/// Reads a request that came through a tunnel to `destination`, in TLS where it is `https`.
pub(crate) fn target<B: Body>(
    request: &mut Request<B>,
    destination: &Destination,
    scheme: Scheme,
    seen: &Seen,
) -> Result<Asked, Problem> {
    if request.method() == Method::CONNECT {
        return Err(Problem::new(
            Fault::Method,
            "CONNECT inside a tunnel that is inspected is not carried; ask the proxy itself",
        ));
    }
    normalize::method(request.method())?;
    same_host(request, destination, scheme)?;
    if !request.uri().path().starts_with('/') {
        return Err(Problem::malformed("the target is not a path"));
    }
    let path = normalize::path(request)?;
    normalize::body(request)?;
    let mut facts = normalize::facts(request)?;
    facts.scheme = scheme;
    facts.upgrade = upgrade(request)?;
    facts.seen = seen.clone();
    Ok(Asked {
        destination: destination.clone(),
        method: request.method().as_str().to_owned(),
        path,
        facts,
    })
}

fn same_host<B>(
    request: &Request<B>,
    destination: &Destination,
    scheme: Scheme,
) -> Result<(), Problem> {
    let uri = request.uri();
    let http2 = request.version() == Version::HTTP_2;
    let named = match (uri.scheme_str(), uri.authority()) {
        (Some(said), Some(authority)) if http2 && said == scheme.as_str() => {
            Some(authority.as_str().as_bytes())
        }
        (None, None) => None,
        _ if http2 => {
            return Err(Problem::malformed(
                "the target's scheme is not the tunnel's",
            ));
        }
        _ => {
            return Err(Problem::malformed(
                "inside a tunnel send the path alone as the target",
            ));
        }
    };
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Problem::malformed("more than one `Host` field")),
        (host, None) => host.map(|host| host.as_bytes()),
    };
    if named.is_none() && host.is_none() {
        return Err(Problem::malformed("the request names no host"));
    }
    for name in named.into_iter().chain(host) {
        let meant = Destination::from_url_authority(name, scheme);
        if meant.as_ref() != Ok(destination) {
            return Err(Problem::new(
                Fault::Misdirected,
                format!("the request names another host than its tunnel, {destination}"),
            ));
        }
    }
    Ok(())
}

/// The protocol that the client wants to change to. Without `Connection: upgrade` it asks for
/// nothing (RFC 9110 section 7.8), and a further version of HTTP need not be gone to.
pub(crate) fn upgrade<B: Body>(request: &Request<B>) -> Result<Option<String>, Problem> {
    let fields = request.headers();
    let mut protocols = items(fields, &header::UPGRADE)
        .filter(|protocol| !head::is_http(protocol.as_bytes()))
        .map(str::to_ascii_lowercase);
    let Some(protocol) = protocols.next() else {
        return Ok(None);
    };
    let asked = items(fields, &header::CONNECTION).any(|name| name.eq_ignore_ascii_case("upgrade"));
    if !asked || request.version() != Version::HTTP_11 {
        return Ok(None);
    }
    if protocols.next().is_some() {
        return Err(Problem::malformed(
            "an upgrade to several protocols at once; offer one",
        ));
    }
    if request.method() != Method::GET || !request.body().is_end_stream() {
        return Err(Problem::malformed("an upgrade that is no GET without body"));
    }
    Ok(Some(protocol))
}

fn items<'a>(
    fields: &'a HeaderMap,
    name: &header::HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let values = fields.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct None0;

    impl Body for None0 {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
            std::task::Poll::Ready(None)
        }

        fn is_end_stream(&self) -> bool {
            true
        }
    }

    fn asked(
        version: Version,
        method: &str,
        uri: &str,
        fields: &[(&'static str, &'static str)],
    ) -> Result<Asked, Fault> {
        let mut request = Request::builder().method(method).uri(uri).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let destination = Destination::from_authority(b"a.test:443").unwrap();
        let mut request = request.body(None0).unwrap();
        target(&mut request, &destination, Scheme::Https, &Seen::default())
            .map_err(|problem| problem.fault)
    }

    #[test]
    fn n12_every_name_in_a_request_is_the_tunnels() {
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        for (version, uri, fields, expected) in [
            (one, "/x", &[("host", "a.test")] as &[_], None),
            (one, "/x", &[("host", "A.test:443")], None),
            (one, "/x", &[("host", "b.test")], Some(Fault::Misdirected)),
            (
                one,
                "/x",
                &[("host", "a.test:444")],
                Some(Fault::Misdirected),
            ),
            (
                one,
                "/x",
                &[("host", "a.test:80")],
                Some(Fault::Misdirected),
            ),
            (
                one,
                "/x",
                &[("host", "a.test"), ("host", "a.test")],
                Some(Fault::Malformed),
            ),
            (one, "/x", &[], Some(Fault::Malformed)),
            (
                one,
                "https://a.test/x",
                &[("host", "a.test")],
                Some(Fault::Malformed),
            ),
            (
                one,
                "http://b.test/x",
                &[("host", "a.test")],
                Some(Fault::Malformed),
            ),
            (two, "https://a.test/x", &[], None),
            (
                two,
                "https://a.test/x",
                &[("host", "b.test")],
                Some(Fault::Misdirected),
            ),
            (
                two,
                "https://b.test/x",
                &[("host", "a.test")],
                Some(Fault::Misdirected),
            ),
            (two, "http://a.test/x", &[], Some(Fault::Malformed)),
        ] {
            let found = asked(version, "GET", uri, fields).err();
            assert_eq!(found, expected, "{version:?} {uri} {fields:?}");
        }
    }

    #[test]
    fn n22_what_would_hide_something_is_refused() {
        let host = ("host", "a.test");
        for (method, uri, expected) in [
            ("CONNECT", "a.test:443", Fault::Method),
            ("TRACE", "/", Fault::Method),
            ("get", "/", Fault::Method),
            ("GET", "/a/%2e%2e/b", Fault::Malformed),
            ("OPTIONS", "*", Fault::Malformed),
        ] {
            let found = asked(Version::HTTP_11, method, uri, &[host]).err();
            assert_eq!(found, Some(expected), "{method} {uri}");
        }
        let several = [host, ("connection", "Upgrade"), ("upgrade", "websocket, x")];
        let found = asked(Version::HTTP_11, "GET", "/", &several).err();
        assert_eq!(found, Some(Fault::Malformed));
    }

    #[test]
    fn an_upgrade_is_a_fact_where_it_is_asked_for() {
        let host = ("host", "a.test");
        let upgrade = |fields: &[_]| {
            let asked = asked(Version::HTTP_11, "GET", "/", fields).unwrap();
            asked.facts.upgrade
        };
        let connection = ("connection", "keep-alive, Upgrade");
        let websocket = ("upgrade", "WebSocket");
        assert_eq!(
            upgrade(&[host, connection, websocket]).as_deref(),
            Some("websocket")
        );
        assert_eq!(upgrade(&[host, websocket]), None);
        assert_eq!(upgrade(&[host, connection, ("upgrade", "h2c")]), None);
    }
}
