//! A paused session's requests and answers wait, whoever makes them, and go on after it.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::common::{
    House, Origin, ask, bounded, decisions, flows, get, house, house_plus, message, socks_name,
    status,
};

const NO_HOSTS: &str = r#"
@id("no-hosts") forbid (principal, action in Action::"network", resource in Domain::"allowed.example");
"#;

/// Requests of another session have gone through, so whatever else could move has moved.
async fn others_move(house: &House) {
    let origin = Origin::start().await;
    let (http, proxy) = house.another("0190b5a0-0000-7000-8000-00000000000a".into());
    for _ in 0..8 {
        let authority = format!("allowed.example:{}", origin.port());
        assert_eq!(ask(http, &get(&authority, "/")).await.0, 200);
    }
    proxy.shutdown().await;
}

/// Whether nothing has come.
fn is_quiet(stream: &TcpStream) -> bool {
    let came = stream.try_read(&mut [0; 64]);
    came.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

async fn comes(stream: &mut TcpStream, expected: &str) {
    let mut came = vec![0; expected.len()];
    bounded(stream.read_exact(&mut came)).await.unwrap();
    assert_eq!(String::from_utf8(came).unwrap(), expected);
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A request that is under way: the client's side, and its origin's with the head read.
async fn begin(house: &House, method: &str, fields: &str) -> (TcpStream, TcpStream) {
    let (listener, port) = listen().await;
    let mut client = house.client(house.http).await;
    let request = format!(
        "{method} http://allowed.example:{port}/ HTTP/1.1\r\nhost: allowed.example:{port}\r\n{fields}\r\n"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut origin, _) = bounded(listener.accept()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(bounded(origin.read_u8()).await.unwrap());
    }
    (client, origin)
}

#[tokio::test]
async fn an_upload_stands_still_in_a_pause_and_then_goes_on() {
    let house = house();
    let (mut client, mut origin) = begin(&house, "POST", "content-length: 11\r\n").await;
    client.write_all(b"first").await.unwrap();
    comes(&mut origin, "first").await;

    house.pause(true);
    client.write_all(b"second").await.unwrap();
    others_move(&house).await;
    assert!(is_quiet(&origin));

    house.pause(false);
    comes(&mut origin, "second").await;
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    origin.write_all(answer).await.unwrap();
    let (head, _) = bounded(message(&mut client)).await.unwrap();
    assert_eq!(status(&head), 200);
    house.end().await;
}

#[tokio::test]
async fn an_answer_stands_still_in_a_pause_before_its_head_and_in_its_body() {
    let house = house();
    let (mut client, mut origin) = begin(&house, "GET", "").await;
    house.pause(true);
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n";
    origin.write_all(head.as_bytes()).await.unwrap();
    origin.write_all(b"\r\nall").await.unwrap();
    others_move(&house).await;
    assert!(is_quiet(&client), "its head");

    house.pause(false);
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\nall") {
        seen.push(bounded(client.read_u8()).await.unwrap());
    }
    house.pause(true);
    origin.write_all(b" of").await.unwrap();
    others_move(&house).await;
    assert!(is_quiet(&client), "its body");
    house.pause(false);
    origin.write_all(b" it").await.unwrap();
    comes(&mut client, " of it").await;
    house.end().await;
}

#[tokio::test]
async fn n19_what_policy_denies_in_a_pause_does_not_go_on_after_it() {
    let house = house();
    let (mut client, mut origin) = begin(&house, "GET", "").await;
    origin
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
        .await
        .unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(bounded(client.read_u8()).await.unwrap());
    }
    house.pause(true);
    origin.write_all(b"all of it").await.unwrap();
    others_move(&house).await;
    house.forbid_too(NO_HOSTS);
    let mut rest = Vec::new();
    let _reset = bounded(client.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "{rest:?}");
    let records = house.end().await;
    assert_eq!(decisions(&records, "deny").len(), 1);
    assert_eq!(flows(&records).last().unwrap()["end"], "revoked");
}

/// It was decided before the pause; its connection stands only in it, because a parent takes its time.
#[tokio::test]
async fn a_request_whose_connection_takes_long_is_not_sent_in_a_pause() {
    for denied in [false, true] {
        let (parent, port) = listen().await;
        let config = format!("[[network.parents]]\nurl = \"http://127.0.0.1:{port}\"\n");
        let house = house_plus(&config, "");
        let mut client = house.client(house.http).await;
        let request = get("allowed.example:443", "/late");
        client.write_all(&request).await.unwrap();
        let (mut origin, _) = bounded(parent.accept()).await.unwrap();
        let (head, _) = bounded(message(&mut origin)).await.unwrap();
        assert!(head.starts_with("CONNECT "), "{head}");

        house.pause(true);
        origin.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        for _ in 0..2000 {
            tokio::task::yield_now().await;
        }
        assert!(is_quiet(&origin));
        if denied {
            house.forbid_too(NO_HOSTS);
            let (head, body) = bounded(message(&mut client)).await.unwrap();
            assert_eq!(status(&head), 403, "{}", String::from_utf8_lossy(&body));
            house.pause(false);
            let mut rest = Vec::new();
            let _closed = bounded(origin.read_to_end(&mut rest)).await;
            assert!(rest.is_empty(), "nothing of it was sent");
        } else {
            house.pause(false);
            let (head, _) = bounded(message(&mut origin)).await.unwrap();
            assert!(head.starts_with("GET /late "), "the control: {head}");
        }
        drop((client, origin));
        house.end().await;
    }
}

/// What moves much goes through a pipe, and its source may never have nothing to send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_that_never_rests_stands_still_in_a_pause() {
    let house = house();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut origin, _) = listener.accept().unwrap();
        while std::io::Write::write_all(&mut origin, &[0; 64 * 1024]).is_ok() {}
    });
    let (code, mut tunnel) = socks_name(house.socks, b"allowed.example", port).await;
    assert_eq!(code, 0);
    let mut part = vec![0; 256 * 1024];
    for _ in 0..64 {
        bounded(tunnel.read_exact(&mut part)).await.unwrap();
    }
    house.pause(true);
    // What is under way arrives; a socket and a pipe hold some MiB.
    let mut rest = 0;
    while rest < 256 * 1024 * 1024 {
        let read = tokio::time::timeout(Duration::from_secs(1), tunnel.read(&mut part)).await;
        let Ok(read) = read else { break };
        rest += read.unwrap();
    }
    assert!(rest < 64 * 1024 * 1024, "{rest} bytes moved in the pause");
    house.pause(false);
    bounded(tunnel.read_exact(&mut part)).await.unwrap();
    drop(tunnel);
    house.end().await;
}

/// A pause is no silence of the origin's, and no rest of the connection's.
#[tokio::test]
async fn the_time_of_a_pause_is_nobodys_delay() {
    let house = house_plus("[limits]\nresponse_seconds = 0.3\nidle_seconds = 0.5\n", "");
    let (mut client, mut origin) = begin(&house, "GET", "").await;
    house.pause(true);
    let paused = tokio::time::Instant::now();
    while paused.elapsed().as_millis() < 1500 {
        others_move(&house).await;
    }
    house.pause(false);
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    origin.write_all(answer).await.unwrap();
    let (head, _) = bounded(message(&mut client)).await.unwrap();
    assert_eq!(status(&head), 200);

    let (mut client, _origin) = begin(&house, "GET", "").await;
    let (head, _) = bounded(message(&mut client)).await.unwrap();
    assert_eq!(
        status(&head),
        504,
        "the control: without a pause it is late"
    );
    house.end().await;
}
