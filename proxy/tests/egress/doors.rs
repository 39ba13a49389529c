//! What a listener answers beside plain requests: its own page, upgrades, refusals and the state of
//! the connection behind them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{
    Origin, ask, bounded, decisions, field, flows, get, house, message, socks_name, status,
};

#[tokio::test]
async fn n26_the_reserved_name_is_answered_here_whatever_way_it_is_asked_for() {
    let (house, origin) = (house(), Origin::start().await);
    let denied = format!("denied.example:{}", origin.port());
    ask(house.http, &get(&denied, "/")).await;
    let (code, _, body) = ask(house.http, &get("cordon.internal", "/")).await;
    assert_eq!(code, 200);
    for words in [
        "session: 0190b5a0",
        "user: alice",
        "Every session may reach `allowed.example` and everything below it over the network.",
        "      rule allowed-host",
        "GET http://denied.example",
    ] {
        assert!(body.contains(words), "{words} in {body}");
    }
    let request = "GET http://Cordon.Internal.:8080/ HTTP/1.1\r\nhost: cordon.internal:8080\r\n\
                   accept: application/json\r\n\r\n";
    let (code, _, body) = ask(house.http, request.as_bytes()).await;
    assert_eq!(code, 200);
    let page: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(page["policy"]["name"], "test");
    assert_eq!(page["refused"][0]["times"], 1);
    assert_eq!(page["allowed"]["network"][0]["rule"], "allowed-host");
    let (code, head, body) = ask(house.http, &get("cordon.internal", "/proxy.pac")).await;
    assert_eq!(code, 200);
    assert!(body.contains(&format!("PROXY {}", house.http)), "{body}");
    let direct = body.lines().filter(|line| line.contains("DIRECT"));
    assert!(direct.eq([body.lines().nth(1).unwrap()]), "{body}");
    assert!(
        body.contains("host == \"localhost\"") && !body.contains("isPlainHostName"),
        "{body}"
    );
    assert!(field(&head, "content-type").unwrap().contains("autoconfig"));
    let (code, _, body) = ask(house.http, &get("cordon.internal", "/ca.pem")).await;
    assert_eq!(code, 200);
    let authority = house.egress.authority(&house.session()).unwrap();
    assert_eq!(body, authority.certificate());
    assert!(body.starts_with("-----BEGIN CERTIFICATE-----"), "{body}");
    assert!(!body.contains("PRIVATE"), "{body}");
    let connect = b"CONNECT cordon.internal:80 HTTP/1.1\r\nhost: cordon.internal\r\n\r\n";
    assert_eq!(ask(house.http, connect).await.0, 400);
    let (code, mut stream) = socks_name(house.socks, b"x.cordon.internal", 80).await;
    assert_eq!(code, 0);
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: cordon.internal\r\n\r\n")
        .await
        .unwrap();
    let (head, body) = bounded(message(&mut stream)).await.unwrap();
    assert_eq!(status(&head), 200);
    assert!(String::from_utf8(body).unwrap().contains("user: alice"));
    assert_eq!(origin.reached(), 0);
    let records = house.end().await;
    assert_eq!(decisions(&records, "allow").len(), 0);
    assert_eq!(flows(&records).len(), 0);
}

#[tokio::test]
async fn the_connection_behind_a_refusal_is_as_the_table_says() {
    let (house, origin) = (house(), Origin::start().await);
    let allowed = format!("allowed.example:{}", origin.port());
    let long = "a".repeat(cordon_proxy::limits::TARGET_BYTES);
    let table: [(String, u16, bool); 12] = [
        (
            "GET http://denied.example/ HTTP/1.1\r\nhost: denied.example\r\n\r\n".to_owned(),
            403,
            true,
        ),
        (
            format!("GET http://{allowed}/ HTTP/1.1\r\nhost: denied.example\r\n\r\n"),
            421,
            true,
        ),
        (
            format!("TRACE http://{allowed}/ HTTP/1.1\r\nhost: {allowed}\r\n\r\n"),
            405,
            true,
        ),
        (
            format!("GET / HTTP/1.1\r\nhost: {allowed}\r\n\r\n"),
            400,
            true,
        ),
        (
            "GET http://nowhere.allowed.example/ HTTP/1.1\r\nhost: nowhere.allowed.example\r\n\r\n".to_owned(),
            502,
            true,
        ),
        (
            "POST http://denied.example/ HTTP/1.1\r\nhost: denied.example\r\ncontent-length: 3\r\n\r\nabc".to_owned(),
            403,
            false,
        ),
        (
            "CONNECT denied.example:1 HTTP/1.1\r\nhost: denied.example\r\n\r\n".to_owned(),
            403,
            false,
        ),
        (
            format!("GET http://{allowed}/{long} HTTP/1.1\r\nhost: {allowed}\r\n\r\n"),
            414,
            false,
        ),
        (
            format!("GET http://{allowed}/ HTTP/1.1\r\nhost: {allowed}\r\nexpect: x\r\n\r\n"),
            417,
            false,
        ),
        (
            format!(
                "GET http://{allowed}/ HTTP/1.1\r\nhost: {allowed}\r\ntransfer-encoding: gzip\r\n\r\n"
            ),
            501,
            false,
        ),
        (
            format!("GET http://{allowed}/ HTTP/1.2\r\nhost: {allowed}\r\n\r\n"),
            505,
            false,
        ),
        (
            format!("GET http://{allowed}/ HTTP/1.1\r\nhost: {allowed}\r\nx : y\r\n\r\n"),
            400,
            false,
        ),
    ];
    for (request, code, kept) in &table {
        let mut stream = house.client(house.http).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = bounded(message(&mut stream)).await.unwrap();
        let shown = request.chars().take(90).collect::<String>();
        assert_eq!(status(&head), *code, "{shown}: {head}");
        assert!(!body.is_empty(), "{shown}");
        assert!(
            field(&head.to_ascii_lowercase(), "x-cordon-decision").is_some(),
            "{shown}: {head}"
        );
        let closing = field(&head.to_ascii_lowercase(), "connection") == Some("close");
        assert_eq!(closing, !kept, "{shown}: {head}");
        if *kept {
            stream.write_all(&get(&allowed, "/")).await.unwrap();
            let (head, _) = bounded(message(&mut stream)).await.unwrap();
            assert_eq!(status(&head), 200, "{shown}");
        } else {
            // A further request is not read as one.
            let _closed = stream.write_all(&get(&allowed, "/")).await;
            let mut rest = Vec::new();
            let _reset = bounded(stream.read_to_end(&mut rest)).await;
            assert!(rest.is_empty(), "{shown}: {}", rest.escape_ascii());
        }
    }
    house.end().await;
}

#[tokio::test]
async fn n22_a_smuggled_request_is_no_request() {
    let (house, mut origin) = (house(), Origin::start().await);
    let allowed = format!("allowed.example:{}", origin.port());
    let hidden = format!("GET http://{allowed}/hidden HTTP/1.1\r\nhost: {allowed}\r\n\r\n");
    for first in [
        format!(
            "POST http://{allowed}/ HTTP/1.1\r\nhost: {allowed}\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!(
            "POST http://{allowed}/ HTTP/1.1\r\nhost: {allowed}\r\ntransfer-encoding: chunked\r\n\r\n3\nabc\n0\n\n"
        ),
        "CONNECT denied.example:1 HTTP/1.1\r\nhost: denied.example\r\n\r\n".to_owned(),
    ] {
        let mut stream = house.client(house.http).await;
        stream
            .write_all(format!("{first}{hidden}").as_bytes())
            .await
            .unwrap();
        let mut answer = Vec::new();
        let _reset = bounded(stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains(" 200 "), "{first}: {answer}");
    }
    assert_eq!(ask(house.http, hidden.as_bytes()).await.0, 200);
    assert_eq!(
        origin.head().await.lines().next(),
        Some("GET /hidden HTTP/1.1")
    );
    assert!(origin.is_quiet());
    house.end().await;
}

#[tokio::test]
async fn an_upgrade_is_decided_and_then_carried() {
    let house = house();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let upgrade = |host: &str| {
        format!(
            "GET http://{host}:{port}/ws HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n"
        )
    };
    assert_eq!(
        ask(house.http, upgrade("denied.example").as_bytes())
            .await
            .0,
        403
    );
    let mut stream = house.client(house.http).await;
    stream
        .write_all(upgrade("allowed.example").as_bytes())
        .await
        .unwrap();
    let (mut origin, _) = bounded(listener.accept()).await.unwrap();
    let (head, _) = bounded(message(&mut origin)).await.unwrap();
    assert_eq!(
        field(&head.to_ascii_lowercase(), "upgrade"),
        Some("websocket"),
        "{head}"
    );
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nfirst";
    origin.write_all(switch).await.unwrap();
    let (head, _) = bounded(message(&mut stream)).await.unwrap();
    assert_eq!(status(&head), 101, "{head}");
    let mut first = [0; 5];
    bounded(stream.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"first");
    stream.write_all(b"\x81\x00\n\n").await.unwrap();
    let mut frame = [0; 4];
    bounded(origin.read_exact(&mut frame)).await.unwrap();
    assert_eq!(&frame, b"\x81\x00\n\n");
    drop(origin);
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let _reset = bounded(stream.read_to_end(&mut rest)).await;
    drop(stream);
    let records = house.end().await;
    assert_eq!(decisions(&records, "allow").len(), 1);
    assert_eq!(flows(&records).len(), 1);
}

#[tokio::test]
async fn n22_informational_answers_of_an_origin_go_no_further() {
    let house = house();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = format!("allowed.example:{}", listener.local_addr().unwrap().port());
    let request = get(&authority, "/");
    let asked = ask(house.http, &request);
    let answered = async {
        let (mut origin, _) = listener.accept().await.unwrap();
        message(&mut origin).await.unwrap();
        let answer = b"HTTP/1.1 103 Early Hints\r\nx-cordon-decision: 1\r\nlink: </a>\r\n\r\n\
            HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        origin.write_all(answer).await.unwrap();
        origin
    };
    let ((code, head, body), _origin) = tokio::join!(asked, answered);
    assert_eq!((code, body.as_str()), (200, "ok"));
    assert!(!head.contains("link"), "{head}");
    house.end().await;
}

#[tokio::test]
async fn max_forwards_is_counted_down_and_ends_here_at_zero() {
    let (house, mut origin) = (house(), Origin::start().await);
    let authority = format!("allowed.example:{}", origin.port());
    let options = |left: &str| {
        format!(
            "OPTIONS http://{authority}/ HTTP/1.1\r\nhost: {authority}\r\nmax-forwards: {left}\r\n\r\n"
        )
    };
    let (code, head, _) = ask(house.http, options("0").as_bytes()).await;
    assert_eq!(code, 200);
    assert!(field(&head, "allow").unwrap().contains("GET"), "{head}");
    assert!(origin.is_quiet());
    assert_eq!(ask(house.http, options("-1").as_bytes()).await.0, 400);
    assert_eq!(ask(house.http, options("3").as_bytes()).await.0, 200);
    let seen = origin.head().await.to_ascii_lowercase();
    assert_eq!(field(&seen, "max-forwards"), Some("2"), "{seen}");
    house.end().await;
}
