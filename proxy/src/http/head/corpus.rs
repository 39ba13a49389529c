//! The same bytes read by us and by `hyper` alone: what we let through, `hyper` must read as the
//! same messages, byte for byte.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use hyper::{
    Request, Response, body::Body as _, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    sync::Mutex,
};

use super::super::{
    body::Body,
    screen::{Flaw, Screen},
};

type Seen = Arc<Mutex<Vec<Message>>>;

/// A request's line, its body as far as it came, and whether it came to its end.
type Message = (String, Vec<u8>, bool);

/// What `hyper` reads.
async fn by_hyper(bytes: &[u8]) -> Vec<Message> {
    let (mut client, server) = duplex(1 << 20);
    let seen: Seen = Arc::default();
    let noted = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let noted = Arc::clone(&noted);
        async move {
            let line = format!("{} {}", request.method(), request.uri());
            let mut body = request.into_body();
            let mut read = Vec::new();
            let whole = loop {
                let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
                match frame {
                    Some(Ok(frame)) => read.extend(frame.data_ref().into_iter().flatten()),
                    Some(Err(_broken)) => break false,
                    None => break true,
                }
            };
            noted.lock().await.push((line, read, whole));
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }
    });
    let serving = http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(server), service);
    let bytes = bytes.to_vec();
    let writing = async move {
        client.write_all(&bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut waste = Vec::new();
        let _reset = client.read_to_end(&mut waste).await;
    };
    let _broken = tokio::join!(serving, writing);
    let seen = seen.lock().await;
    seen.clone()
}

/// What the screen lets through, and whether it found something wrong.
async fn by_us(bytes: &[u8]) -> (Vec<u8>, bool) {
    let (mut client, server) = duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let mut screen = Screen::new(server);
    let mut through = Vec::new();
    screen.read_to_end(&mut through).await.unwrap();
    (
        through,
        matches!(
            screen.take_flaw(),
            Some(Flaw::Refused(..) | Flaw::Answered(..))
        ),
    )
}

/// Heads of request smuggling and their legitimate neighbours. A first message, then one that must
/// only ever be a message of its own.
fn corpus() -> Vec<(String, bool)> {
    let mut all = Vec::new();
    let next = "GET http://a.test/next HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let post = |fields: &str, body: &str| {
        format!("POST http://a.test/first HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n{body}")
    };
    for (fields, body, good) in [
        ("Content-Length: 3\r\n", "abc", true),
        ("content-length:3\r\n", "abc", true),
        ("Content-Length: \t3 \r\n", "abc", true),
        ("Content-Length: 003\r\n", "abc", true),
        ("Content-Length: 0\r\n", "", true),
        ("", "", true),
        (
            "Transfer-Encoding: chunked\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            true,
        ),
        (
            "transfer-encoding: CHUNKED\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            true,
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            "3;x=y\r\nabc\r\n0\r\n\r\n",
            true,
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            "03\r\nabc\r\n00\r\n\r\n",
            true,
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            "a\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
            true,
        ),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", "abc", false),
        ("Content-Length: 3\r\nContent-Length: 0\r\n", "abc", false),
        ("Content-Length: 3, 3\r\n", "abc", false),
        ("Content-Length: +3\r\n", "abc", false),
        ("Content-Length: 3 \x0b\r\n", "abc", false),
        ("Content-Length: 3;\r\n", "abc", false),
        ("Content-Length: 0x3\r\n", "abc", false),
        ("Content-Length: -1\r\n", "abc", false),
        ("Content-Length: 18446744073709551617\r\n", "abc", false),
        ("Content-Length : 3\r\n", "abc", false),
        (" Content-Length: 3\r\n", "abc", false),
        ("X: y\r\n Content-Length: 3\r\n", "abc", false),
        ("X: y\rContent-Length: 3\r\n", "abc", false),
        ("X: y\nContent-Length: 3\r\n", "abc", false),
        ("X: y\n\r\n", "abc", false),
        ("Content-Length: 3\n", "abc", false),
        ("Content\0-Length: 3\r\n", "abc", false),
        (
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
            false,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            "0\r\n\r\n",
            false,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
            false,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            "0\r\n\r\n",
            false,
        ),
        (
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
            false,
        ),
        ("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n", false),
        ("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n", false),
        ("Transfer-Encoding: chunked,\r\n", "0\r\n\r\n", false),
        ("Transfer-Encoding: ,chunked\r\n", "0\r\n\r\n", false),
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n", false),
        ("Transfer-Encoding: chunkedx\r\n", "0\r\n\r\n", false),
        ("Transfer-Encoding: 'chunked'\r\n", "0\r\n\r\n", false),
        ("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n", false),
        ("Transfer-Encoding: \x0cchunked\r\n", "0\r\n\r\n", false),
        ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n", false),
        ("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n", false),
        ("Transfer-Encoding\r\n: chunked\r\n", "0\r\n\r\n", false),
        ("Transfer-Encoding: chunked\r\n", "3\nabc\n0\n\n", false),
        (
            "Transfer-Encoding: chunked\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            false,
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            "0x3\r\nabc\r\n0\r\n\r\n",
            false,
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            "+3\r\nabc\r\n0\r\n\r\n",
            false,
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            "3 \r\nabc\r\n0\r\n\r\n",
            false,
        ),
        ("Transfer-Encoding: chunked\r\n", "3\r\nabc0\r\n\r\n", false),
        (
            "Transfer-Encoding: chunked\r\n",
            "fffffffffffffffff3\r\nabc\r\n0\r\n\r\n",
            false,
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            "3;\nabc\r\n0\r\n\r\n",
            false,
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            "0\r\nContent-Length: 5\r\n\r\n",
            false,
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            "0\r\nHost: b.test\r\n\r\n",
            false,
        ),
        ("Host: a.test\r\n", "", false),
        ("Host: b.test\r\n", "", false),
        ("Expect: 100-continued\r\n", "", false),
        (
            "Connection: content-length\r\nContent-Length: 3\r\n",
            "abc",
            false,
        ),
        ("Connection: close, host\r\n", "", false),
        ("No-Colon\r\n", "", false),
        (": empty\r\n", "", false),
        ("b@d: 1\r\n", "", false),
    ] {
        all.push((format!("{}{next}", post(fields, body)), good));
    }
    for head in [
        "GET http://a.test/\r\n\r\n",
        "GET http://a.test/ HTTP/1.1\r\n\r\n",
        "GET  http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET http://a.test/ HTTP/1.1 \r\nHost: a.test\r\n\r\n",
        "GET http://a.test/ x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET http://a.test/ HTTP/1.10\r\nHost: a.test\r\n\r\n",
        "GET http://a.test/#f HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "\r\n\r\nGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "\nGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ] {
        all.push((head.into(), false));
    }
    all
}

#[tokio::test]
async fn n22_we_are_never_laxer_than_hyper_and_never_frame_differently() {
    let corpus = corpus();
    assert!(corpus.len() >= 60, "{} messages", corpus.len());
    for (bytes, good) in &corpus {
        let shown = bytes.as_bytes().escape_ascii();
        let (through, refused) = by_us(bytes.as_bytes()).await;
        assert_eq!(refused, !good, "{shown}");
        let alone = by_hyper(bytes.as_bytes()).await;
        if *good {
            assert_eq!(through, bytes.as_bytes(), "{shown}");
            assert_eq!(alone.len(), 2, "{shown}: {alone:?}");
            assert_eq!(
                alone[1],
                ("GET http://a.test/next".to_owned(), Vec::new(), true),
                "{shown}"
            );
        }
        // What goes through is read by `hyper` as a beginning of what it reads by itself: the
        // screen takes messages away, and never makes others of them.
        let screened = by_hyper(&through).await;
        assert!(screened.len() <= alone.len(), "{shown}: {screened:?}");
        let last = screened.len().saturating_sub(1);
        for (at, (message, other)) in screened.iter().zip(&alone).enumerate() {
            let ((line, body, whole), (others_line, others_body, _)) = (message, other);
            assert_eq!(line, others_line, "{shown}");
            if *whole {
                assert_eq!(message, other, "{shown}");
            } else {
                // Where it was taken away in the middle of a body.
                assert_eq!(at, last, "{shown}");
                assert!(others_body.starts_with(body), "{shown}");
            }
        }
    }
}
