//! HTTP without TLS inside tunnels: where rules speak of requests, each is decided, whichever door
//! the tunnel came by; where none does, and for what is no HTTP, nothing changes.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::common::{
    House, Origin, bounded, connect, decisions, flows, house, house_plus, message, socks_name,
    status,
};

/// After the usual permits of the whole network.
const NO_WRITING: &str = r#"
@id("no-writing") @reason("nothing is sent from here")
forbid (principal, action == Action::"http_write", resource);
"#;

const DOORS: [&str; 3] = ["connect", "socks5", "http2"];

/// A tunnel to `allowed.example`, by this door.
async fn tunnel(house: &House, door: &str, port: u16) -> TcpStream {
    let target = format!("allowed.example:{port}");
    match door {
        "socks5" => {
            let (code, stream) = socks_name(house.socks, b"allowed.example", port).await;
            assert_eq!(code, 0);
            stream
        }
        "http2" => over_http2(house, target).await,
        _ => {
            let mut stream = connect(house.http).await;
            let request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let (head, _) = bounded(message(&mut stream)).await.unwrap();
            assert_eq!(status(&head), 200, "{head}");
            stream
        }
    }
}

/// A stream of HTTP/2 as a socket.
async fn over_http2(house: &House, target: String) -> TcpStream {
    let stream = TokioIo::new(connect(house.http).await);
    let (mut sender, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    tokio::spawn(driver);
    let request = Request::connect(target).body(Full::<Bytes>::default());
    let response = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut inside = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = connect(listener.local_addr().unwrap()).await;
    let (mut far, _) = listener.accept().await.unwrap();
    tokio::spawn(async move {
        let _either_left = tokio::io::copy_bidirectional(&mut far, &mut inside).await;
        drop(sender);
    });
    near
}

fn request(method: &str, path: &str, port: u16, fields: &str, body: &str) -> String {
    let length = match body.len() {
        0 => String::new(),
        length => format!("content-length: {length}\r\n"),
    };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: allowed.example:{port}\r\n{fields}{length}\r\n{body}"
    )
}

async fn exchange(stream: &mut TcpStream, request: &str) -> (u16, String) {
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(stream).await
}

async fn answer(stream: &mut TcpStream) -> (u16, String) {
    let (head, body) = bounded(message(stream)).await.unwrap();
    (status(&head), head + &String::from_utf8_lossy(&body))
}

#[tokio::test]
async fn n13_a_forbidden_method_is_refused_inside_every_tunnel() {
    for door in DOORS {
        let (house, mut origin) = (house_plus("", NO_WRITING), Origin::start().await);
        let port = origin.port();
        let mut stream = tunnel(&house, door, port).await;
        let get = request("GET", "/a", port, "", "");
        assert_eq!(exchange(&mut stream, &get).await.0, 200, "{door}");
        assert!(origin.head().await.starts_with("GET /a "), "the control");
        let post = request("POST", "/b", port, "", "out with it");
        let (code, text) = exchange(&mut stream, &post).await;
        assert_eq!(code, 403, "{door}: {text}");
        assert!(text.contains("no-writing: nothing is sent"), "{text}");
        assert!(text.contains("x-cordon-decision: "), "{text}");
        drop(stream);
        assert!(origin.is_quiet(), "{door}");
        let records = house.end().await;
        let denied = decisions(&records, "deny");
        assert_eq!(denied.len(), 1, "{door}");
        assert_eq!(denied[0]["http"]["method"], "POST");
        // The tunnel, and the request that passed: as one that the proxy was asked.
        let allowed = decisions(&records, "allow");
        assert_eq!(allowed.len(), 2, "{door}");
        assert_eq!(allowed[1]["http"]["scheme"], "http");
        assert_eq!(flows(&records).len(), 2, "{door}");
    }
}

#[tokio::test]
async fn n13_n22_the_cuts_of_the_stream_and_pipelines_make_no_difference() {
    let (house, mut origin) = (house_plus("", NO_WRITING), Origin::start().await);
    let port = origin.port();
    let mut stream = tunnel(&house, "connect", port).await;
    stream.set_nodelay(true).unwrap();
    let both = request("GET", "/a", port, "", "") + &request("POST", "/b", port, "", "x");
    for piece in both.as_bytes().chunks(3) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(answer(&mut stream).await.0, 200);
    assert_eq!(answer(&mut stream).await.0, 403);
    assert!(origin.head().await.starts_with("GET /a "));
    for (bytes, expected) in [
        (
            "\r\n\r\nPOST / HTTP/1.1\r\nhost: allowed.example\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\nhost: allowed.example\n\n", 400),
        ("POST\u{b}/ HTTP/1.1\r\n\r\n", 400),
        ("POST /b?\u{1} HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("POST /b?\0 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /old\r\n\r\n", 505),
        ("CONNECT allowed.example:1 HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        ("GET http://a.test/ HTTP/1.1\r\nhost: a.test\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: other.example\r\n\r\n", 421),
    ] {
        let mut stream = tunnel(&house, "socks5", port).await;
        let (code, text) = exchange(&mut stream, bytes).await;
        assert_eq!(code, expected, "{bytes:?}: {text}");
    }
    // The end is a line end to some servers.
    let mut stream = tunnel(&house, "socks5", port).await;
    stream.write_all(b"POST /b HTTP/1.1").await.unwrap();
    stream.shutdown().await.unwrap();
    let (code, text) = answer(&mut stream).await;
    assert_eq!(code, 400, "{text}");
    assert!(text.contains("ended within a head"), "{text}");
    assert!(origin.is_quiet());
    let records = house.end().await;
    assert_eq!(decisions(&records, "deny").len(), 11);
}

#[tokio::test]
async fn n13_an_upgrade_inside_a_tunnel_is_decided_as_one() {
    let rules = r#"
@id("no-sockets")
forbid (principal, action == Action::"http_upgrade", resource) when { context.path == "/shut" };"#;
    let house = house_plus("", rules);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let fields = "connection: upgrade\r\nupgrade: websocket\r\n";
    let mut stream = tunnel(&house, "connect", port).await;
    let (mut origin, _) = bounded(listener.accept()).await.unwrap();
    let shut = request("GET", "/shut", port, fields, "");
    // What comes behind it might be another protocol, which nobody reads.
    let (code, text) = exchange(&mut stream, &shut).await;
    assert_eq!(code, 403, "{text}");
    assert!(text.contains("connection: close"), "{text}");
    drop(stream);
    let mut stream = tunnel(&house, "connect", port).await;
    let (mut second, _) = bounded(listener.accept()).await.unwrap();
    let open = request("GET", "/open", port, fields, "");
    stream.write_all(open.as_bytes()).await.unwrap();
    let (head, _) = bounded(message(&mut second)).await.unwrap();
    assert!(head.starts_with("GET /open "), "{head}");
    let switch =
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhi";
    second.write_all(switch).await.unwrap();
    let (head, _) = bounded(message(&mut stream)).await.unwrap();
    assert_eq!(status(&head), 101, "{head}");
    let mut first = [0; 2];
    bounded(stream.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"hi");
    drop((stream, second));
    let mut nothing = Vec::new();
    let _reset = bounded(origin.read_to_end(&mut nothing)).await;
    assert_eq!(nothing, b"", "what was refused did not arrive");
    house.end().await;
}

#[tokio::test]
async fn n13_http2_without_tls_is_decided_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: Request<Incoming>| async move {
                let text = format!("{:?} {}", request.version(), request.uri());
                Ok::<_, hyper::Error>(Response::new(Full::<Bytes>::from(text)))
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    let house = house_plus("", NO_WRITING);
    let stream = TokioIo::new(tunnel(&house, "socks5", port).await);
    let (mut sender, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    tokio::spawn(driver);
    for (method, expected) in [("GET", 200), ("POST", 403), ("GET", 200)] {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://allowed.example:{port}/a"))
            .body(Full::<Bytes>::default())
            .unwrap();
        let response = bounded(sender.send_request(request)).await.unwrap();
        let code = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body);
        assert_eq!(code, expected, "{method}: {body}");
        let arrived = body == format!("HTTP/2.0 http://allowed.example:{port}/a");
        assert_eq!(arrived, expected == 200, "{body}");
    }
    drop(sender);
    let records = house.end().await;
    assert_eq!(decisions(&records, "deny").len(), 1);
}

/// What is said first, and by whom, is what the other side hears, byte for byte.
#[tokio::test]
async fn n13_what_is_no_http_passes_as_it_is() {
    let house = house_plus("", NO_WRITING);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for door in DOORS {
        for said in [
            b"SSH-2.0-client\r\n".as_slice(),
            b"*1\r\n$4\r\nPING\r\n",
            b"get key\r\n",
            &[0, 0, 0, 8, 4, 210, 22, 47],
        ] {
            let mut stream = tunnel(&house, door, port).await;
            let (mut origin, _) = bounded(listener.accept()).await.unwrap();
            stream.write_all(said).await.unwrap();
            let mut heard = vec![0; said.len()];
            bounded(origin.read_exact(&mut heard)).await.unwrap();
            assert_eq!(heard, said, "{door}");
            origin.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
            let mut back = [0; 17];
            bounded(stream.read_exact(&mut back)).await.unwrap();
        }
        // The server's greeting comes before anything is waited for.
        let mut stream = tunnel(&house, door, port).await;
        let (mut origin, _) = bounded(listener.accept()).await.unwrap();
        origin.write_all(b"220 hello\r\n").await.unwrap();
        let mut heard = [0; 11];
        bounded(stream.read_exact(&mut heard)).await.unwrap();
        stream.write_all(b"EHLO me\r\n").await.unwrap();
        let mut heard = [0; 9];
        bounded(origin.read_exact(&mut heard)).await.unwrap();
    }
    let records = house.end().await;
    assert_eq!(decisions(&records, "deny").len(), 0);
}

/// Where no rule speaks of requests a tunnel is bytes, also half a request.
#[tokio::test]
async fn rules_about_networks_alone_wait_for_nothing() {
    let house = house();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut stream = tunnel(&house, "connect", port).await;
    let (mut origin, _) = bounded(listener.accept()).await.unwrap();
    stream.write_all(b"POST /hal").await.unwrap();
    let mut heard = [0; 9];
    bounded(origin.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"POST /hal");
    drop((stream, origin));
    house.end().await;
}

/// N19: who began as bytes does not stay so once rules say more of requests; what is none does.
#[tokio::test]
async fn n19_a_tunnel_of_requests_ends_when_rules_begin_to_speak_of_them() {
    let house = house();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tunnels = Vec::new();
    for said in ["POST / HTTP/1.1\r\n", "SSH-2.0-client\r\n"] {
        let mut stream = tunnel(&house, "connect", port).await;
        let (mut origin, _) = bounded(listener.accept()).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut heard = vec![0; said.len()];
        bounded(origin.read_exact(&mut heard)).await.unwrap();
        tunnels.push((stream, origin));
    }
    house.forbid_too(NO_WRITING);
    let [(http, _), (other, far)] = tunnels.as_mut_slice() else {
        panic!("two tunnels");
    };
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(1), http.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "within 1 s");
    far.write_all(b"still").await.unwrap();
    let mut heard = [0; 5];
    bounded(other.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"still");
    drop(tunnels);
    house.end().await;
}
