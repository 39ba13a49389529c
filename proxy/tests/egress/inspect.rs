//! Requests inside TLS: decided one by one, in HTTP/1.1 and HTTP/2, with real handshakes on both
//! sides.

pub mod house;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Frame};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::house::{INSPECT, Inside, Version, empty};
use crate::common::{bounded, decisions, flows};

#[tokio::test]
async fn every_request_in_a_tunnel_is_decided_by_method_and_path() {
    for version in [Version::Http1, Version::Http2] {
        let mut inside = Inside::start(INSPECT, version).await;
        let mut client = inside.client(version).await;
        for (method, path, expected) in [
            ("GET", "/public/a?x=1", 200),
            ("GET", "/private", 403),
            ("POST", "/public/a", 403),
            ("GET", "/public/b", 200),
        ] {
            let (status, body) = client.ask(method, path).await;
            assert_eq!(status, expected, "{version:?} {method} {path}: {body}");
            if expected == 403 {
                assert!(body.contains("reason: default_deny"), "{body}");
                assert!(body.contains("lab.example"), "{body}");
            }
        }
        drop(client);
        let seen = inside.seen();
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(seen.iter().all(|seen| seen.version == version.name()));
        assert!(seen[0].fields.contains("cordon"), "{}", seen[0].fields);
        assert_eq!(inside.connections(), 1);

        inside.house.ended(3).await;
        let records = inside.end().await;
        let allowed = decisions(&records, "allow");
        let kinds: Vec<_> = allowed
            .iter()
            .map(|record| record["action"].to_string())
            .collect();
        assert_eq!(
            kinds,
            ["\"net.connect\"", "\"http.request\"", "\"http.request\""]
        );
        assert_eq!(allowed[1]["http"]["scheme"], "https");
        assert_eq!(allowed[1]["http"]["query_keys"][0], "x");
        assert_eq!(allowed[1]["net"]["tls"]["inspected"], true);
        assert_eq!(decisions(&records, "deny").len(), 2);
        // Both requests and the tunnel came to their end.
        let flows = flows(&records);
        assert_eq!(flows.len(), 3, "{flows:?}");
        assert!(
            flows.iter().all(|flow| flow["end"] == "completed"),
            "{flows:?}"
        );
        // What the tunnel moved holds what its requests did.
        let bytes_in = |flow: &&&serde_json::Value| flow["bytes_in"].as_u64().unwrap();
        let (tunnels, requests): (Vec<_>, Vec<_>) =
            flows.iter().partition(|flow| flow["http"].is_null());
        let inside: u64 = requests.iter().map(bytes_in).sum();
        assert_eq!((tunnels.len(), inside), (1, 10));
        assert!(bytes_in(&tunnels[0]) > inside, "{flows:?}");
    }
}

#[tokio::test]
async fn n21_a_rule_can_look_at_query_keys_type_size_and_credentials() {
    let rules = format!(
        "{INSPECT}\n@id(\"upload\")\n\
         permit (principal, action in Action::\"http\", resource == Host::\"lab.example\")\n\
         when {{ context.path == \"/up\" && context has content_type\n\
         && context.content_type == \"application/json\"\n\
         && context has content_length && context.content_length <= 10 }};\n\
         @id(\"no-tokens\")\n\
         forbid (principal, action in Action::\"http\", resource)\n\
         when {{ context.query_keys.contains(\"token\") || context.credential }};"
    );
    let inside = Inside::start(&rules, Version::Http1).await;
    let mut client = inside.client(Version::Http1).await;
    let post = |kind: &'static str, body: &'static str| {
        let request = Request::post("/up").header("content-type", kind);
        request.body(Full::new(Bytes::from(body)).boxed()).unwrap()
    };
    let get = |path: &str, field: (&'static str, &'static str)| {
        let request = Request::get(path).header(field.0, field.1);
        request.body(empty()).unwrap()
    };
    let plain = ("x-plain", "1");
    for (request, expected) in [
        (post("application/json; charset=utf-8", "{}"), 200),
        (post("text/plain", "{}"), 403),
        (post("application/json", "{\"long\": \"body\"}"), 403),
        (get("/public/a?id=1", plain), 200),
        (get("/public/a?id=1&to%6ben=x", plain), 403),
        (get("/public/a", ("authorization", "Bearer x")), 403),
    ] {
        let shown = format!("{request:?}");
        let (status, body) = client.send(request).await;
        assert_eq!(status, expected, "{shown}: {body}");
    }
    inside.end().await;
}

#[tokio::test]
async fn n24_a_client_that_left_inside_tls_is_not_waited_for() {
    for version in [Version::Http1, Version::Http2] {
        let config = "[limits]\nhalf_closed_seconds = 0.3\n";
        let inside = Inside::start_with("lab.example", INSPECT, config, version).await;
        let mut client = inside.client(version).await;
        assert_eq!(client.ask("GET", "/public/a").await.0, 200);
        // Its origin sends a part, and then nothing any more.
        let endless = client.request("GET", "/public/endless");
        let response = client.begin(endless).await;
        assert_eq!(response.status(), 200);
        drop((response, client));
        // Both requests and the tunnel end, long before their idle time.
        inside.house.ended(3).await;
        let records = inside.end().await;
        // Of the two requests, the one that was answered and the one that was given up.
        let mut requests: Vec<_> = flows(&records)
            .into_iter()
            .filter(|flow| !flow["http"].is_null())
            .map(|flow| flow["end"].to_string())
            .collect();
        requests.sort();
        assert_eq!(requests, ["\"completed\"", "\"reset\""], "{version:?}");
    }
}

#[tokio::test]
async fn n22_max_forwards_is_counted_inside_tls_too() {
    let rules = format!(
        "{INSPECT}\n@id(\"options\")\n\
         permit (principal, action in Action::\"http\", resource == Host::\"lab.example\")\n\
         when {{ context.method == \"OPTIONS\" }};"
    );
    for version in [Version::Http1, Version::Http2] {
        let mut inside = Inside::start(&rules, version).await;
        let mut client = inside.client(version).await;
        for (left, expected) in [("0", 200), ("-1", 400), ("3", 200)] {
            let request = client.request("OPTIONS", "/a");
            let (mut parts, body) = request.into_parts();
            parts.headers.insert("max-forwards", left.parse().unwrap());
            let (status, body) = client.send(Request::from_parts(parts, body)).await;
            assert_eq!(status, expected, "{version:?} {left}: {body}");
        }
        // Only the last went on, one hop less.
        let seen = inside.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert!(
            seen[0].fields.contains("max-forwards: 2"),
            "{}",
            seen[0].fields
        );
        inside.end().await;
    }
}

#[tokio::test]
async fn n12_a_request_that_names_another_host_is_misdirected() {
    for version in [Version::Http1, Version::Http2] {
        let mut inside = Inside::start(INSPECT, version).await;
        let mut client = inside.client(version).await;
        let (status, body) = client.ask_host("forbidden.example", "/public/a").await;
        assert_eq!(status, 421, "{version:?} {body}");
        let (status, _) = client.ask("GET", "/public/a").await;
        assert_eq!(status, 200);
        assert_eq!(inside.seen().len(), 1);
        let records = inside.end().await;
        assert_eq!(decisions(&records, "deny")[0]["reason"], "malformed");
    }
}

#[tokio::test]
async fn n22_connect_and_trace_inside_a_tunnel_are_refused() {
    let mut inside = Inside::start(INSPECT, Version::Http1).await;
    for (request, expected) in [
        (
            "CONNECT forbidden.example:443 HTTP/1.1\r\nhost: forbidden.example:443\r\n\r\n",
            405,
        ),
        ("TRACE /public/a HTTP/1.1\r\nhost: HOST\r\n\r\n", 405),
        (
            "GET https://forbidden.example/ HTTP/1.1\r\nhost: HOST\r\n\r\n",
            400,
        ),
        ("GET /public/../private HTTP/1.1\r\nhost: HOST\r\n\r\n", 400),
        ("GET /public/a HTTP/1.1\r\nhost: HOST\r\n\r\n", 200),
    ] {
        let mut stream = inside.tls(&[b"http/1.1"]).await.unwrap();
        let request = request.replace("HOST", &inside.authority());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = bounded(stream.read(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        let status = format!("HTTP/1.1 {expected} ");
        assert!(answer.starts_with(&status), "{request}: {answer}");
    }
    assert_eq!(inside.seen().len(), 1);
    inside.end().await;
}

#[tokio::test]
async fn http2_streams_both_ways_at_once_and_carries_trailers() {
    let inside = Inside::start(INSPECT, Version::Http2).await;
    let mut client = inside.client(Version::Http2).await;
    let (says, said) = tokio::sync::mpsc::unbounded_channel::<Frame<Bytes>>();
    let body = Said(said);
    let request = Request::post(inside.url("/public/echo"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(BodyExt::boxed(body))
        .unwrap();
    let response = bounded(client.begin(request)).await;
    assert_eq!(response.status(), 200);
    let mut back = response.into_body();
    for word in ["one", "two", "three"] {
        says.send(Frame::data(Bytes::from(word))).unwrap();
        let frame = bounded(back.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), word);
    }
    let mut trailers = hyper::HeaderMap::new();
    trailers.insert("x-last", "7".parse().unwrap());
    says.send(Frame::trailers(trailers)).unwrap();
    drop(says);
    let frame = bounded(back.frame()).await.unwrap().unwrap();
    let trailers = frame.into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["x-last"], "7");
    drop((client, back));
    let records = inside.end().await;
    let flows = flows(&records);
    let request = flows
        .iter()
        .find(|flow| flow["http"]["status"] == 200)
        .unwrap();
    assert_eq!(
        (&request["bytes_out"], &request["bytes_in"]),
        (&11.into(), &11.into())
    );
}

#[tokio::test]
async fn many_requests_at_once_share_one_connection() {
    let mut inside = Inside::start(INSPECT, Version::Http2).await;
    let client = inside.client(Version::Http2).await;
    let all = (0..50).map(|n| {
        let mut client = client.clone();
        let path = format!("/public/{n}");
        tokio::spawn(async move { client.ask("GET", &path).await })
    });
    for answered in all.collect::<Vec<_>>() {
        let (status, body) = bounded(answered).await.unwrap();
        assert_eq!(status, 200, "{body}");
    }
    assert_eq!(inside.seen().len(), 50);
    assert_eq!(inside.connections(), 1);
    drop(client);
    let records = inside.end().await;
    assert_eq!(flows(&records).len(), 51);
}

#[tokio::test]
async fn an_upgrade_is_a_decision_of_its_own_and_carries_what_follows() {
    let rules = format!(
        "{INSPECT}\n@id(\"sockets\")\n\
         permit (principal, action == Action::\"http_upgrade\", resource)\n\
         when {{ context.path == \"/public/ws\" }};"
    );
    let inside = Inside::start(&rules, Version::Http1).await;
    let upgrade = |path: &str| {
        Request::get(path)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(empty())
            .unwrap()
    };
    let mut client = inside.client(Version::Http1).await;
    // What may be read there is not what may be gone on with as something else.
    let read = Request::get("/public/closed").body(empty()).unwrap();
    let (status, body) = client.send(read).await;
    assert_ne!(status, 403, "{body}");
    let (status, body) = client.send(upgrade("/public/closed")).await;
    assert_eq!(status, 403, "{body}");
    // Nobody reads what comes behind that.
    let mut client = inside.client(Version::Http1).await;
    let response = client.begin(upgrade("/public/ws")).await;
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["upgrade"], "websocket");
    assert_eq!(response.headers()["sec-websocket-accept"], "yes");
    let mut stream = TokioIo::new(bounded(hyper::upgrade::on(response)).await.unwrap());
    stream.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    bounded(stream.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"ping");
    drop((stream, client));
    let records = inside.end().await;
    let allowed = decisions(&records, "allow");
    assert_eq!(allowed.last().unwrap()["http"]["upgrade"], "websocket");
    assert_eq!(decisions(&records, "deny").len(), 1);
}

#[tokio::test]
async fn n19_a_request_that_is_under_way_ends_with_its_permission() {
    for version in [Version::Http1, Version::Http2] {
        let inside = Inside::start(INSPECT, version).await;
        let mut client = inside.client(version).await;
        let request = client.request("GET", "/public/endless");
        let response = bounded(client.begin(request)).await;
        let mut body = response.into_body();
        bounded(body.frame()).await.unwrap().unwrap();
        inside
            .house
            .govern(&INSPECT.replace("/public/*", "/other/*"));
        let ended = bounded(async {
            loop {
                match body.frame().await {
                    Some(Ok(_before)) => {}
                    end => return end,
                }
            }
        });
        assert!(
            matches!(ended.await, Some(Err(_))),
            "{version:?}: broken off"
        );
        drop((body, client));
        let records = inside.end().await;
        let flows = flows(&records);
        assert!(
            flows.iter().any(|flow| flow["end"] == "revoked"),
            "{flows:?}"
        );
        assert_eq!(decisions(&records, "deny").len(), 1);
    }
}

#[tokio::test]
async fn n19_a_tunnel_whose_host_is_no_longer_permitted_is_closed() {
    let inside = Inside::start(INSPECT, Version::Http1).await;
    let mut stream = inside.tls(&[b"http/1.1"]).await.unwrap();
    inside.house.govern(
        "permit (principal, action == Action::\"connect\", resource == Host::\"other.example\");",
    );
    let mut rest = Vec::new();
    let _closed = bounded(stream.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
    let records = inside.end().await;
    assert_eq!(flows(&records)[0]["end"], "revoked");
}

#[tokio::test]
async fn a_destination_whose_certificate_is_not_good_is_told_and_not_reached() {
    let mut inside = Inside::start_as("other.example", INSPECT, Version::Http1).await;
    let mut client = inside.client(Version::Http1).await;
    let (status, body) = client.ask("GET", "/public/a").await;
    assert_eq!(status, 502, "{body}");
    assert!(body.contains("certificate"), "{body}");
    assert!(inside.seen().is_empty());
    drop(client);
    let records = inside.end().await;
    assert_eq!(flows(&records)[0]["end"], "connect_failed");
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_session_gets_nothing_through() {
    let mut inside = Inside::start(INSPECT, Version::Http1).await;
    let root = crate::trust::Authority::new().certificate();
    let error = inside.tls_trusting(root, &[b"http/1.1"]).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(inside.seen().is_empty());
    inside.end().await;
}

#[tokio::test]
async fn what_is_not_http_cannot_pass_where_requests_are_decided() {
    let mut inside = Inside::start(INSPECT, Version::Http1).await;
    assert!(inside.tls(&[b"mqtt"]).await.is_err());
    // Nor without TLS at all, on whatever port.
    let mut plain = inside.tunnel().await;
    plain
        .write_all(b"GET /private HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut rest = Vec::new();
    assert!(bounded(plain.read_to_end(&mut rest)).await.is_err());
    assert!(inside.seen().is_empty());
    let records = inside.end().await;
    let reasons: Vec<_> = decisions(&records, "deny")
        .iter()
        .map(|r| r["reason"].clone())
        .collect();
    assert_eq!(reasons, ["malformed", "not_tls"]);
}

#[tokio::test]
async fn a_client_can_resume_its_handshake() {
    let inside = Inside::start(INSPECT, Version::Http1).await;
    let config = crate::trust::client(inside.root(), &[b"http/1.1"]);
    let mut kinds = Vec::new();
    for _connection in 0..2 {
        let mut stream = inside.tls_as(std::sync::Arc::clone(&config)).await.unwrap();
        let request = format!(
            "GET /public/a HTTP/1.1\r\nhost: {}\r\n\r\n",
            inside.authority()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        bounded(stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        kinds.push(stream.get_ref().1.handshake_kind().unwrap());
    }
    assert_eq!(
        kinds,
        [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]
    );
    inside.end().await;
}

#[tokio::test]
async fn a_kept_tunnel_reaches_its_destination_again_when_that_closed() {
    let mut inside = Inside::start(INSPECT, Version::Http1).await;
    let mut client = inside.client(Version::Http1).await;
    for path in ["/public/close", "/public/a"] {
        let (status, body) = client.ask("GET", path).await;
        assert_eq!(status, 200, "{body}");
    }
    assert_eq!(inside.seen().len(), 2);
    assert_eq!(inside.connections(), 2);
    inside.end().await;
}

/// A body that a test says piece by piece.
struct Said(tokio::sync::mpsc::UnboundedReceiver<Frame<Bytes>>);

impl hyper::body::Body for Said {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}
