//! Credentials that an answer sends back: masked, refused or let through, as each one says.

#![expect(clippy::indexing_slicing, reason = "a test's helpers fail loudly")]

use std::os::unix::fs::PermissionsExt as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::Request;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::{
    common::{House, bounded, connect, decisions, flows, house_under, message, status},
    inspect::house::{Inside, Version, empty, pieces},
};

const SECRET: &str = "r3al-forge-t0ken-value";
const STARS: &str = "**********************";

/// What the origin answers, by the end of the path.
fn answer(path: &str, head: &str) -> String {
    let plain = |fields: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\n{fields}content-length: {length}\r\n\r\n{body}")
    };
    let (first, second) = SECRET.split_at(9);
    match path {
        "header" => plain(&format!("location: /?key={SECRET}\r\n"), "a body"),
        "name" => plain(&format!("x-{SECRET}: 1\r\n"), "a body"),
        "reason" => plain("", "a body").replacen("OK", SECRET, 1),
        "body" => plain("", &format!("<{SECRET}>")),
        "base64" => plain("", &STANDARD.encode(format!("me:{SECRET}!"))),
        "chunks" => format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
             9\r\n<{}\r\n1\r\n{}\r\n{:x}\r\n{second}>\r\n0\r\n\r\n",
            &first[..8],
            &first[8..],
            second.len() + 1
        ),
        // A message that ends as a value begins; the next one is never sent.
        "call" => {
            let message = "\0\0\0\0\u{6}<r3al-";
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n\
                 transfer-encoding: chunked\r\n\r\nb\r\n{message}\r\n"
            )
        }
        "gzip" => plain("content-encoding: gzip\r\n", "not looked into"),
        "named" => plain(
            "connection: content-encoding\r\ncontent-encoding: gzip\r\n",
            "not looked into",
        ),
        "deflated" => "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                       upgrade: websocket\r\n\r\n\u{41}\u{5}bytes"
            .into(),
        "range" if head.contains("range: bytes=1-9") => {
            plain("content-range: bytes 1-9/24\r\n", first).replacen("200 OK", "206 Partial", 1)
        }
        "range" => plain("", &format!("<{SECRET}>")),
        "forced" => plain("content-range: bytes 1-9/24\r\n", first).replacen("200", "206", 1),
        "socket" => {
            // Two frames of one message.
            let second = u8::try_from(second.len()).unwrap();
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\
                 \u{1}\u{9}{first}"
            ) + &String::from_utf8(vec![second]).unwrap()
        }
        _clean => plain("x-other: text\r\n", "nothing of it"),
    }
}

struct Scene {
    house: House,
    port: u16,
    heads: mpsc::UnboundedReceiver<String>,
    _folder: TempDir,
}

/// One credential and one rule for each way.
fn texts(host: &str, further: &str, folder: &TempDir) -> (String, String) {
    let file = folder.path().join("token");
    std::fs::write(&file, SECRET).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    ["mask", "refuse", "allow"]
        .into_iter()
        .map(|echo| {
            let config = format!(
                "[[credentials]]\nname = {echo:?}\nhosts = [{host:?}]\nas = \"bearer\"\n\
                 from = \"file:{}\"\necho = {echo:?}\n{further}\n",
                file.display()
            );
            let rule = format!(
                "@id(\"{echo}\") @credential(\"{echo}\")\n\
                 permit (principal, action in Action::\"http\", resource == Host::\"{host}\")\n\
                 when {{ context.path like \"/{echo}/*\" }};\n"
            );
            (config, rule)
        })
        .unzip()
}

impl Scene {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (config, rules) = texts("allowed.example", "plain = true", &folder);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, heads) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let seen = seen.clone();
                tokio::spawn(async move {
                    while let Some((head, _)) = message(&mut stream).await {
                        let path = head.split(' ').nth(1).unwrap().to_owned();
                        let path = path.rsplit('/').next().unwrap();
                        let answer = socket_or(path, answer(path, &head));
                        let _test_over = seen.send(head);
                        if stream.write_all(&answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self {
            house: house_under(&rules, &config),
            port,
            heads,
            _folder: folder,
        }
    }

    async fn begin(&self, path: &str, fields: &str) -> TcpStream {
        let mut stream = connect(self.house.http).await;
        let authority = format!("allowed.example:{}", self.port);
        let request = format!(
            "GET http://{authority}{path} HTTP/1.1\r\nhost: {authority}\r\n\
             accept-encoding: gzip\r\nrange: bytes=1-9\r\n{fields}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Head and body in one; `None` where it broke off.
    async fn ask(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = self.begin(path, "").await;
        let (head, body) = bounded(message(&mut stream)).await?;
        let body = String::from_utf8(body).unwrap();
        Some((status(&head), format!("{head}{body}")))
    }
}

/// What follows the switch is no text.
fn socket_or(path: &str, answer: String) -> Vec<u8> {
    let mut answer = answer.into_bytes();
    if path == "socket" {
        let length = answer.pop().unwrap();
        answer.extend([0x80, length]);
        answer.extend(&SECRET.as_bytes()[9..]);
    }
    answer
}

fn reasons(records: &[Value]) -> Vec<&str> {
    decisions(records, "deny")
        .iter()
        .map(|record| record["err"][0].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn n21_what_is_masked_comes_whole_and_uncompressed_and_without_its_value() {
    let mut scene = Scene::start().await;
    for path in ["header", "body", "base64", "chunks", "range", "clean"] {
        let (code, text) = scene.ask(&format!("/mask/{path}")).await.unwrap();
        assert_eq!(code, 200, "{path}: {text}");
        assert!(!text.contains(SECRET), "{path}: {text}");
        match path {
            "base64" => {
                let stars = text.matches('*').count();
                assert!(stars >= SECRET.len() * 4 / 3 - 2, "{text}");
            }
            "clean" => assert!(
                text.ends_with("nothing of it") && !text.contains('*'),
                "{text}"
            ),
            _ => assert!(text.contains(STARS), "{path}: {text}"),
        }
        let head = scene.heads.recv().await.unwrap().to_ascii_lowercase();
        assert!(
            head.contains(&format!("bearer {SECRET}")),
            "it arrived: {head}"
        );
        let asked = head.contains("accept-encoding: identity") && !head.contains("range:");
        assert!(asked, "{head}");
    }
    for path in ["name", "reason"] {
        let (code, text) = scene.ask(&format!("/mask/{path}")).await.unwrap();
        let is_gone = code == 200 && !text.contains(SECRET) && text.ends_with("a body");
        assert!(is_gone, "{path}: {text}");
        let (_, text) = scene.ask(&format!("/allow/{path}")).await.unwrap();
        assert!(text.contains(SECRET), "the control: {text}");
    }
    let (code, _) = scene.ask("/mask/gzip").await.unwrap();
    assert_eq!(code, 200, "not asked for, and let through");
    let records = scene.house.end().await;
    assert!(decisions(&records, "deny").is_empty());
}

#[tokio::test]
async fn n21_what_refuses_lets_nothing_of_the_value_through_and_records_it() {
    let scene = Scene::start().await;
    for path in ["header", "name", "reason", "gzip", "named", "forced"] {
        let (code, text) = scene.ask(&format!("/refuse/{path}")).await.unwrap();
        assert_eq!(code, 403, "{path}: {text}");
        assert!(text.contains("reason: credential\n"), "{path}: {text}");
    }
    for path in ["body", "base64", "chunks", "range"] {
        let mut stream = scene.begin(&format!("/refuse/{path}"), "").await;
        let mut all = Vec::new();
        let _reset = bounded(stream.read_to_end(&mut all)).await;
        let all = String::from_utf8(all).unwrap();
        assert!(!all.contains("r3al") && !all.contains(">"), "{path}: {all}");
    }
    let (code, text) = scene.ask("/refuse/clean").await.unwrap();
    assert!(
        code == 200 && text.ends_with("nothing of it"),
        "the control: {text}"
    );
    let records = scene.house.end().await;
    let told = reasons(&records);
    let count = |what: &str| told.iter().filter(|why| why.contains(what)).count();
    assert_eq!(
        (
            count("sends its credential back"),
            count("compressed"),
            count("a range")
        ),
        (7, 2, 1),
        "{told:?}"
    );
    let refused = flows(&records)
        .iter()
        .filter(|flow| flow["end"] == "refused")
        .count();
    assert_eq!(refused, 10);
    assert!(!serde_json::to_string(&records).unwrap().contains(SECRET));
}

#[tokio::test]
async fn a_message_of_grpc_does_not_wait_for_the_next() {
    let scene = Scene::start().await;
    let mut stream = scene.begin("/mask/call", "").await;
    let mut all = Vec::new();
    while !all.ends_with(b"<r3al-\r\n") {
        all.push(bounded(stream.read_u8()).await.unwrap());
    }
    drop(stream);
    scene.house.end().await;
}

#[tokio::test]
async fn n21_what_is_allowed_goes_through_as_it_is() {
    let mut scene = Scene::start().await;
    for path in ["header", "body", "chunks"] {
        let (code, text) = scene.ask(&format!("/allow/{path}")).await.unwrap();
        assert!(code == 200 && text.contains(SECRET), "{path}: {text}");
        let head = scene.heads.recv().await.unwrap();
        assert!(
            head.contains("gzip") && head.contains("bytes=1-9"),
            "{head}"
        );
    }
    assert_eq!(scene.ask("/allow/range").await.unwrap().0, 206);
    scene.house.end().await;
}

#[tokio::test]
async fn n21_messages_of_a_websocket_are_masked_or_the_upgrade_refused() {
    let mut scene = Scene::start().await;
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-extensions: permessage-deflate\r\n";
    let (first, second) = SECRET.split_at(9);
    for (echo, shown) in [("mask", false), ("allow", true)] {
        let mut stream = scene.begin(&format!("/{echo}/socket"), upgrade).await;
        let (head, _) = bounded(message(&mut stream)).await.unwrap();
        assert_eq!(status(&head), 101, "{head}");
        let (first, second) = match shown {
            true => (first, second),
            false => (&STARS[..9], &STARS[9..]),
        };
        let length = u8::try_from(second.len()).unwrap();
        let expected = [
            &[1, 9],
            first.as_bytes(),
            &[0x80, length],
            second.as_bytes(),
        ]
        .concat();
        let mut frames = vec![0; expected.len()];
        bounded(stream.read_exact(&mut frames)).await.unwrap();
        assert_eq!(frames, expected, "{echo}");
        let head = scene.heads.recv().await.unwrap();
        assert_eq!(head.contains("permessage-deflate"), shown, "{head}");
    }
    let mut stream = scene.begin("/refuse/socket", upgrade).await;
    let (head, body) = bounded(message(&mut stream)).await.unwrap();
    let body = String::from_utf8(body).unwrap();
    assert!(
        status(&head) == 403 && body.contains("cannot be looked into"),
        "{head}{body}"
    );
    assert!(scene.heads.try_recv().is_err(), "nothing of it arrived");
    drop(stream);
    scene.house.end().await;
}

/// An origin answers before it has the whole request, and reads on after its answer is refused.
#[tokio::test]
async fn n21_a_request_whose_answer_is_refused_is_sent_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let (config, rules) = texts("lab.example", "", &folder);
    let tunnel = "@id(\"tunnel\") @inspect(\"tls\")\n\
                  permit (principal, action == Action::\"connect\", resource == Host::\"lab.example\");\n";
    let rules = format!("{tunnel}{rules}");
    let inside = Inside::start_with("lab.example", &rules, &config, Version::Http2).await;
    let mut client = inside.client(Version::Http2).await;
    let piece = || bytes::Bytes::from_static(b"piece");
    for (path, status) in [("head", 403), ("body", 200)] {
        let (send, body) = pieces();
        let url = inside.url(&format!("/refuse/{path}/reads-on"));
        let response = client.begin(Request::post(url).body(body).unwrap()).await;
        assert_eq!(response.status(), status, "{path}");
        let answer = http_body_util::BodyExt::collect(response.into_body());
        let answer = bounded(answer).await;
        assert_eq!(answer.is_ok(), status == 403, "{path}: its own words alone");
        bounded(async { while send.send(piece()).await.is_ok() {} }).await;
    }
    let (send, body) = pieces();
    let url = inside.url("/mask/body/reads-on");
    let response = client.begin(Request::post(url).body(body).unwrap()).await;
    for _ in 0..64 {
        bounded(send.send(piece())).await.unwrap();
    }
    drop(send);
    let answer = http_body_util::BodyExt::collect(response.into_body());
    let answer = bounded(answer).await.unwrap().to_bytes();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert_eq!(answer, format!("Bearer {STARS} 320 bytes"), "the control");
    drop(client);
    assert_eq!(reasons(&inside.end().await).len(), 2);
}

/// What nobody agreed on ends it, and the log tells why.
#[tokio::test]
async fn n21_a_websocket_that_cannot_be_looked_into_is_cut_on_record() {
    let scene = Scene::start().await;
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    let mut stream = scene.begin("/mask/deflated", upgrade).await;
    let (head, _) = bounded(message(&mut stream)).await.unwrap();
    assert_eq!(status(&head), 101, "{head}");
    let mut all = Vec::new();
    let _reset = bounded(stream.read_to_end(&mut all)).await;
    assert!(all.is_empty(), "{all:?}");
    let mut stream = scene.begin("/allow/deflated", upgrade).await;
    bounded(message(&mut stream)).await.unwrap();
    let mut frame = [0; 7];
    bounded(stream.read_exact(&mut frame)).await.unwrap();
    assert_eq!(&frame, b"\x41\x05bytes", "the control");
    drop(stream);
    scene.house.ended(2).await;
    let records = scene.house.end().await;
    let told = reasons(&records);
    assert!(
        told.len() == 1 && told[0].ends_with("compressed or extended, which nobody agreed on"),
        "{told:?}"
    );
    let refused = flows(&records)
        .iter()
        .filter(|flow| flow["end"] == "refused")
        .count();
    assert_eq!(refused, 1);
}

/// The origin sends its request's fields back, in a field and in the body.
#[tokio::test]
async fn n21_it_is_the_same_inside_tls_in_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let (config, rules) = texts("lab.example", "", &folder);
    let tunnel = "@id(\"tunnel\") @inspect(\"tls\")\n\
                  permit (principal, action == Action::\"connect\", resource == Host::\"lab.example\");\n";
    let rules = format!("{tunnel}{rules}");
    for version in [Version::Http1, Version::Http2] {
        let inside = Inside::start_with("lab.example", &rules, &config, version).await;
        let mut client = inside.client(version).await;
        for (echo, expected) in [("mask", 200), ("allow", 200), ("refuse", 403)] {
            let path = format!("/{echo}/fields");
            let target = match version {
                Version::Http1 => path,
                Version::Http2 => inside.url(&path),
            };
            let request = Request::get(target).body(empty()).unwrap();
            let response = client.begin(request).await;
            let head = format!("{:?}", response.headers());
            assert_eq!(response.status(), expected, "{version:?} {echo}: {head}");
            let body = http_body_util::BodyExt::collect(response.into_body());
            let body = bounded(body).await.unwrap().to_bytes();
            let text = format!("{head}{}", String::from_utf8_lossy(&body));
            assert_eq!(text.contains(SECRET), echo == "allow", "{text}");
            assert_eq!(
                text.matches(STARS).count(),
                if echo == "mask" { 2 } else { 0 },
                "{text}"
            );
        }
        drop(client);
        let records = inside.end().await;
        assert_eq!(reasons(&records), ["its answer sends its credential back"]);
    }
}
