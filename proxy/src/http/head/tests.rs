use super::*;

#[test]
fn heads_by_the_letter_go_on_with_their_framing() {
    let table: [(&str, Framing); 14] = [
        ("GET http://a.test/ HTTP/1.1\nHost: a.test", Framing::Empty),
        ("GET http://a.test/ HTTP/1.0", Framing::Empty),
        (
            "GET http://a.test/?a=b&c=%20 HTTP/1.1\nhost:a.test",
            Framing::Empty,
        ),
        (
            "M-SEARCH http://a.test/ HTTP/1.1\nHost: a.test\nX: \u{e9}",
            Framing::Empty,
        ),
        (
            "GET http://a.test/ HTTP/1.1\nHost: a.test\nx:",
            Framing::Empty,
        ),
        (
            "POST http://a.test/ HTTP/1.1\nHost: a.test\nContent-Length: 5",
            Framing::Length(5),
        ),
        (
            "POST http://a.test/ HTTP/1.1\nHost: a.test\nContent-Length: 005",
            Framing::Length(5),
        ),
        (
            "POST http://a.test/ HTTP/1.0\nContent-Length: 5",
            Framing::Length(5),
        ),
        (
            "POST http://a.test/ HTTP/1.1\nHost: a.test\nContent-Length: 0",
            Framing::Empty,
        ),
        (
            "POST http://a.test/ HTTP/1.1\nHost: a.test\nTransfer-Encoding: Chunked",
            Framing::Chunked,
        ),
        (
            "POST http://a.test/ HTTP/1.1\nHost: a.test\nExpect: 100-Continue\nContent-Length: 1",
            Framing::Length(1),
        ),
        ("CONNECT a.test:443 HTTP/1.1\nHost: a.test", Framing::Tunnel),
        (
            "GET http://a.test/ HTTP/1.1\nHost: a.test\nConnection: keep-alive, Upgrade\nUpgrade: websocket",
            Framing::Tunnel,
        ),
        (
            "GET http://a.test/ HTTP/1.1\nHost: a.test\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c",
            Framing::Empty,
        ),
    ];
    for (head, expected) in table {
        let bytes = format!("{}\r\n\r\n", head.replace('\n', "\r\n"));
        assert_eq!(read(bytes.as_bytes()).unwrap(), expected, "{head}");
    }
}

#[test]
fn n22_heads_that_two_readers_may_read_in_two_ways_are_refused() {
    use Fault::{Expectation, HeadTooLarge, Malformed, NotCarried, TargetTooLong, Version};
    let many = "x: 1\n".repeat(limits::HEAD_FIELDS + 1);
    let long = "a".repeat(limits::TARGET_BYTES);
    let ok = "Host: a.test\n";
    let table = [
        ("GET http://a.test/".to_owned(), Version),
        (
            "GET  http://a.test/ HTTP/1.1\nHost: a.test".into(),
            Malformed,
        ),
        (
            "GET http://a.test/ HTTP/1.1 \nHost: a.test".into(),
            Malformed,
        ),
        (
            " GET http://a.test/ HTTP/1.1\nHost: a.test".into(),
            Malformed,
        ),
        (
            "GET\thttp://a.test/ HTTP/1.1\nHost: a.test".into(),
            Malformed,
        ),
        (
            "GE(T http://a.test/ HTTP/1.1\nHost: a.test".into(),
            Malformed,
        ),
        ("GET http://a.test/ HTTP/1.2\nHost: a.test".into(), Version),
        ("GET http://a.test/ HTTP/2.0\nHost: a.test".into(), Version),
        ("GET http://a.test/ HTTP/01.1\nHost: a.test".into(), Version),
        (
            "GET http://a.test/ http/1.1\nHost: a.test".into(),
            Malformed,
        ),
        (
            "GET http://a.test/#x HTTP/1.1\nHost: a.test".into(),
            Malformed,
        ),
        (
            "GET http://a.test/\\x HTTP/1.1\nHost: a.test".into(),
            Malformed,
        ),
        (
            "GET http://a.test/\u{e9} HTTP/1.1\nHost: a.test".into(),
            Malformed,
        ),
        (
            "GET http://a.test/\0 HTTP/1.1\nHost: a.test".into(),
            Malformed,
        ),
        (
            format!("GET http://a.test/{long} HTTP/1.1\nHost: a.test"),
            TargetTooLong,
        ),
        (
            "OPTIONS http://a.test HTTP/1.1\nHost: a.test".into(),
            Malformed,
        ),
        ("GET http://a.test/ HTTP/1.1".into(), Malformed),
        (
            format!("GET http://a.test/ HTTP/1.1\n{ok}host: a.test"),
            Malformed,
        ),
        (
            format!("GET http://a.test/ HTTP/1.1\n{ok} folded"),
            Malformed,
        ),
        (format!("GET http://a.test/ HTTP/1.1\n{ok}x : 1"), Malformed),
        (format!("GET http://a.test/ HTTP/1.1\n{ok}: 1"), Malformed),
        (
            format!("GET http://a.test/ HTTP/1.1\n{ok}x y: 1"),
            Malformed,
        ),
        (
            format!("GET http://a.test/ HTTP/1.1\n{ok}x\u{e9}: 1"),
            Malformed,
        ),
        (
            format!("GET http://a.test/ HTTP/1.1\n{ok}no colon"),
            Malformed,
        ),
        (
            format!("GET http://a.test/ HTTP/1.1\n{ok}x: a\0b"),
            Malformed,
        ),
        (
            format!("GET http://a.test/ HTTP/1.1\n{ok}x: a\x7fb"),
            Malformed,
        ),
        (
            format!("GET http://a.test/ HTTP/1.1\n{ok}{many}y: 1"),
            HeadTooLarge,
        ),
        (
            format!("GET http://a.test/ HTTP/1.1\n{ok}Expect: 200-ok"),
            Expectation,
        ),
        (
            format!("GET http://a.test/ HTTP/1.1\n{ok}Connection: host"),
            Malformed,
        ),
        (
            format!("GET http://a.test/ HTTP/1.1\n{ok}Connection: close, Content-Length"),
            Malformed,
        ),
        (
            format!("GET http://a.test/ HTTP/1.1\n{ok}Connection: authorization"),
            Malformed,
        ),
        (
            format!("POST http://a.test/ HTTP/1.1\n{ok}Content-Length: 5\nContent-Length: 5"),
            Malformed,
        ),
        (
            format!("POST http://a.test/ HTTP/1.1\n{ok}Content-Length: 5\nContent-Length: 6"),
            Malformed,
        ),
        (
            format!("POST http://a.test/ HTTP/1.1\n{ok}Content-Length: 5, 5"),
            Malformed,
        ),
        (
            format!("POST http://a.test/ HTTP/1.1\n{ok}Content-Length: +5"),
            Malformed,
        ),
        (
            format!("POST http://a.test/ HTTP/1.1\n{ok}Content-Length: -5"),
            Malformed,
        ),
        (
            format!("POST http://a.test/ HTTP/1.1\n{ok}Content-Length: 0x5"),
            Malformed,
        ),
        (
            format!("POST http://a.test/ HTTP/1.1\n{ok}Content-Length: 5 5"),
            Malformed,
        ),
        (
            format!("POST http://a.test/ HTTP/1.1\n{ok}Content-Length:"),
            Malformed,
        ),
        (
            format!("POST http://a.test/ HTTP/1.1\n{ok}Content-Length: 99999999999999999999"),
            Malformed,
        ),
        (
            format!(
                "POST http://a.test/ HTTP/1.1\n{ok}Content-Length: 5\nTransfer-Encoding: chunked"
            ),
            Malformed,
        ),
        (
            format!(
                "POST http://a.test/ HTTP/1.1\n{ok}Transfer-Encoding: chunked\nContent-Length: 0"
            ),
            Malformed,
        ),
        (
            format!(
                "POST http://a.test/ HTTP/1.1\n{ok}Transfer-Encoding: chunked\nTransfer-Encoding: chunked"
            ),
            Malformed,
        ),
        (
            format!("POST http://a.test/ HTTP/1.1\n{ok}Transfer-Encoding: gzip, chunked"),
            NotCarried,
        ),
        (
            format!("POST http://a.test/ HTTP/1.1\n{ok}Transfer-Encoding: chunked, identity"),
            NotCarried,
        ),
        (
            format!("POST http://a.test/ HTTP/1.1\n{ok}Transfer-Encoding: xchunked"),
            NotCarried,
        ),
        (
            format!("POST http://a.test/ HTTP/1.1\n{ok}Transfer-Encoding: \x0bchunked"),
            Malformed,
        ),
        (
            format!("POST http://a.test/ HTTP/1.1\n{ok}Transfer-Encoding: \"chunked\""),
            NotCarried,
        ),
        (
            format!(
                "POST http://a.test/ HTTP/1.1\n{ok}Transfer_Encoding: chunked\nTransfer-Encoding : chunked"
            ),
            Malformed,
        ),
        (
            "POST http://a.test/ HTTP/1.0\nTransfer-Encoding: chunked".into(),
            Malformed,
        ),
        (
            format!("CONNECT a.test:443 HTTP/1.1\n{ok}Content-Length: 5"),
            Malformed,
        ),
        (
            format!("CONNECT a.test:443 HTTP/1.1\n{ok}Transfer-Encoding: chunked"),
            Malformed,
        ),
        (
            format!(
                "GET http://a.test/ HTTP/1.1\n{ok}Connection: upgrade\nUpgrade: websocket\nContent-Length: 5"
            ),
            Malformed,
        ),
    ];
    for (head, fault) in table {
        let bytes = format!("{}\r\n\r\n", head.replace('\n', "\r\n"));
        let refused = read(bytes.as_bytes()).expect_err(&head);
        assert_eq!(refused.fault, fault, "{head}: {}", refused.text);
    }
}

/// The screen lets everything pass behind an upgrade; the request must then be one that leaves
/// HTTP, so that its refusal closes the connection and nothing passes unread.
#[test]
fn n22_the_screen_and_the_request_agree_on_where_http_ends() {
    use crate::fuzzing::{leaves_http, messages};
    for (connection, upgrade, expected) in [
        ("upgrade", "websocket", Some(true)),
        ("keep-alive, Upgrade", "a, h2c", Some(true)),
        ("upgrade", "h2c", Some(false)),
        ("upgrade", "h2c/1", Some(false)),
        ("upgrade", "tls", Some(false)),
        ("upgrade", "TLS/1.0, HTTP", Some(false)),
        ("close", "websocket", Some(false)),
        ("upgrade", "web\u{e9}", None),
        ("upgrade, \u{e9}", "websocket", None),
    ] {
        let head = format!(
            "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: {connection}\r\n\
             Upgrade: {upgrade}\r\n\r\n"
        );
        let framed = messages(head.as_bytes());
        let tunnel = framed.first().map(|message| message.tunnel);
        assert_eq!(tunnel, expected, "{head}");
        let request = hyper::Request::builder()
            .header("connection", connection)
            .header("upgrade", upgrade)
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        assert!(expected != Some(true) || leaves_http(&request), "{head}");
        assert!(expected != Some(false) || !leaves_http(&request), "{head}");
    }
}
