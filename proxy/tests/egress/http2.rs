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
