//! HTTP/2 to the proxy.

use std::convert::Infallible;

use bytes::Bytes;
use hyper::{Method, Request, body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{Origin, bounded, decisions, flows, house};

/// A body of at most one piece.
struct Piece(Option<Bytes>);

impl hyper::body::Body for Piece {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(
            self.0
                .take()
                .map(|piece| Ok(hyper::body::Frame::data(piece))),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

async fn client(house: &crate::common::House) -> http2::SendRequest<Piece> {
    let stream = house.client(house.http).await;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn request(method: Method, target: &str, body: Option<&str>) -> Request<Piece> {
    let piece = body.map(|text| Bytes::copy_from_slice(text.as_bytes()));
    Request::builder()
        .method(method)
        .uri(target)
        .body(Piece(piece))
        .unwrap()
}

async fn text(mut body: Incoming) -> String {
    let mut bytes = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|cx| hyper::body::Body::poll_frame(std::pin::Pin::new(&mut body), cx))
            .await
    {
        bytes.extend_from_slice(frame.unwrap().data_ref().unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn n13_requests_over_http2_are_decided_as_over_http1() {
    let (house, mut origin) = (house(), Origin::start().await);
    let mut client = client(&house).await;
    let port = origin.port();
    let denied = format!("http://denied.example:{port}/x");
    let answer = bounded(client.send_request(request(Method::GET, &denied, None)))
        .await
        .unwrap();
    assert_eq!(answer.status(), 403);
    assert!(answer.headers().contains_key("x-cordon-decision"));
    assert!(
        text(answer.into_body())
            .await
            .contains("denied: GET http://denied.example")
    );
    assert!(origin.is_quiet());
    let allowed = format!("http://allowed.example:{port}/y");
    let answer = bounded(client.send_request(request(Method::POST, &allowed, Some("a body"))))
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert!(bounded(text(answer.into_body())).await.ends_with("a body"));
    let seen = origin.head().await.to_ascii_lowercase();
    assert!(seen.starts_with("post /y http/1.1\r\n"), "{seen}");
    assert!(
        seen.contains(&format!("host: allowed.example:{port}\r\n")),
        "{seen}"
    );
    assert!(seen.contains("via: 2.0 cordon\r\n"), "{seen}");
    let records = house.end().await;
    assert_eq!(decisions(&records, "deny").len(), 1);
    assert_eq!(decisions(&records, "allow").len(), 1);
    assert_eq!(flows(&records)[0]["end"], "completed");
}

#[tokio::test]
async fn connect_over_http2_is_a_tunnel_by_stream() {
    let (house, origin) = (house(), Origin::start().await);
    let mut client = client(&house).await;
    let port = origin.port();
    let denied = request(Method::CONNECT, &format!("denied.example:{port}"), None);
    assert_eq!(
        bounded(client.send_request(denied)).await.unwrap().status(),
        403
    );
    assert_eq!(origin.reached(), 0);
    for _ in 0..2 {
        let allowed = request(Method::CONNECT, &format!("allowed.example:{port}"), None);
        let answer = bounded(client.send_request(allowed)).await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut tunnel = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
        let through = b"GET /through HTTP/1.1\r\nhost: x\r\n\r\n";
        tunnel.write_all(through).await.unwrap();
        tunnel.shutdown().await.unwrap();
        let mut answer = String::new();
        bounded(tunnel.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(origin.reached(), 2);
    let records = house.end().await;
    let ends: Vec<_> = flows(&records).iter().map(|flow| &flow["end"]).collect();
    assert_eq!(ends, ["completed", "completed"]);
}

#[tokio::test]
async fn n22_what_http2_must_not_carry_is_refused() {
    let (house, mut origin) = (house(), Origin::start().await);
    let mut client = client(&house).await;
    let target = format!("http://allowed.example:{}/", origin.port());
    for (mut refused, code) in [
        (request(Method::TRACE, &target, None), 405),
        (request(Method::GET, &target, Some("hidden")), 400),
        (
            request(Method::GET, &target.replace("http:", "https:"), None),
            400,
        ),
        (request(Method::GET, &target, None), 421),
    ] {
        if code == 421 {
            let other = "denied.example".parse().unwrap();
            refused.headers_mut().insert("host", other);
        }
        let answer = bounded(client.send_request(refused)).await.unwrap();
        assert_eq!(answer.status(), code);
    }
    let allowed = request(Method::GET, &target, None);
    assert_eq!(
        bounded(client.send_request(allowed))
            .await
            .unwrap()
            .status(),
        200
    );
    assert!(origin.head().await.starts_with("GET / "));
    assert!(origin.is_quiet());
    let records = house.end().await;
    assert_eq!(decisions(&records, "deny").len(), 4);
}

/// A frame of RFC 9113 section 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// The head of a CONNECT, its fields as literals that are not indexed (RFC 7541 section 6.2.2).
fn connect_head(authority: &str) -> Vec<u8> {
    let mut head = vec![2, 7];
    head.extend(b"CONNECT");
    head.extend([1, u8::try_from(authority.len()).unwrap()]);
    head.extend(authority.as_bytes());
    head
}

/// Says all of `frames` on a connection of its own until it is ended; the error code that the proxy
/// left with, where that was not lost to the reset behind it.
async fn flood(house: &crate::common::House, frames: &[u8]) -> Option<u32> {
    let mut stream = house.client(house.http).await;
    let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    said.extend(frame(SETTINGS, 0, 0, &[]));
    said.extend(frames);
    let (mut read, mut write) = stream.split();
    let mut heard = Vec::new();
    let saying = async {
        // It breaks off where the proxy has had enough.
        let _cut = write.write_all(&said).await;
    };
    let hearing = async {
        let _reset = read.read_to_end(&mut heard).await;
    };
    bounded(async { tokio::join!(saying, hearing) }).await;
    let mut rest = heard.as_slice();
    let mut left_with = None;
    while let Some((head, more)) = rest.split_first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some((payload, more)) = more.split_at_checked(length) else {
            break;
        };
        if head[3] == GOAWAY {
            left_with = payload
                .get(4..8)
                .map(|code| u32::from_be_bytes(code.try_into().unwrap()));
        }
        rest = more;
    }
    left_with
}

#[tokio::test]
async fn n24_floods_of_http2_end_their_connection_and_nothing_else() {
    const ENHANCE_YOUR_CALM: u32 = 11;
    let (house, origin) = (house(), Origin::start().await);
    let target = format!("allowed.example:{}", origin.port());
    let head = connect_head(&target);
    // Streams that are reset as soon as they are opened (CVE-2023-44487).
    let resets: Vec<u8> = (0..20_000_u32)
        .flat_map(|n| {
            let opened = frame(HEADERS, END_HEADERS, 2 * n + 1, &head);
            [
                opened,
                frame(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes()),
            ]
            .concat()
        })
        .collect();
    let left = flood(&house, &resets).await;
    assert!(
        left.is_none_or(|code| code == ENHANCE_YOUR_CALM),
        "{left:?}"
    );
    // A head that never ends (CVE-2024-27316).
    let mut endless = frame(HEADERS, 0, 1, &head);
    let filler = [&[0, 1, b'x', 0x7f, 0x81, 0x7c][..], &[b'y'; 16_000]].concat();
    for _ in 0..2_000 {
        endless.extend(frame(CONTINUATION, 0, 1, &filler));
    }
    let left = flood(&house, &endless).await;
    assert!(
        left.is_none_or(|code| code == ENHANCE_YOUR_CALM),
        "{left:?}"
    );
    // Hardly any of it was worked on, and others are served as before.
    assert!(origin.reached() < 200, "{}", origin.reached());
    let mut client = client(&house).await;
    let target = format!("http://{target}/");
    let answer = bounded(client.send_request(request(Method::GET, &target, None)));
    assert_eq!(answer.await.unwrap().status(), 200);
    let records = house.end().await;
    assert!(decisions(&records, "allow").len() < 400);
}

#[tokio::test]
async fn n24_an_http2_connection_that_rests_is_ended() {
    let house = crate::common::house_plus("[limits]\nhead_seconds = 0.2\n", "");
    let origin = Origin::start().await;
    let stream = house.client(house.http).await;
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut client, connection) = handshake.await.unwrap();
    let ended = tokio::spawn(connection);
    // A tunnel is no rest, however long nothing moves in it.
    let target = format!("allowed.example:{}", origin.port());
    let connect = request(Method::CONNECT, &target, None);
    let answer = bounded(client.send_request(connect)).await.unwrap();
    let mut tunnel = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert!(!ended.is_finished());
    let through = b"GET /through HTTP/1.1\r\nhost: x\r\n\r\n";
    tunnel.write_all(through).await.unwrap();
    tunnel.shutdown().await.unwrap();
    let mut answer = String::new();
    bounded(tunnel.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    bounded(ended).await.unwrap().unwrap();
    house.end().await;
}

#[tokio::test]
async fn draining_ends_an_http2_connection_that_has_nothing_to_do() {
    let (house, origin) = (house(), Origin::start().await);
    let mut client = client(&house).await;
    let target = format!("http://allowed.example:{}/", origin.port());
    let answer = bounded(client.send_request(request(Method::GET, &target, None)));
    assert_eq!(answer.await.unwrap().status(), 200);
    let records = bounded(house.drain(std::time::Duration::from_secs(20))).await;
    assert_eq!(flows(&records)[0]["end"], "completed");
}

#[tokio::test]
async fn the_page_and_the_configuration_are_there_over_http2() {
    let house = house();
    let mut client = client(&house).await;
    for (path, words) in [
        ("/", "user: alice".to_owned()),
        ("/proxy.pac", format!("return \"PROXY {}\";", house.http)),
    ] {
        let asked = request(Method::GET, &format!("http://cordon.internal{path}"), None);
        let answer = bounded(client.send_request(asked)).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let told = text(answer.into_body()).await;
        assert!(told.contains(&words), "{told}");
    }
    house.end().await;
}
