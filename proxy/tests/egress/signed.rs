//! Bodies that a client signs piece by piece with its placeholder arrive under the node's key.

use std::os::unix::fs::PermissionsExt as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

use crate::common::{House, ask, decisions, flows, house_under};

const ID: &str = "AKIDEXAMPLE";
const KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const NOBODYS: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// An origin that keeps each request it gets.
struct Scene {
    house: House,
    port: u16,
    requests: mpsc::UnboundedReceiver<(String, Vec<u8>)>,
    _folder: TempDir,
}

impl Scene {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, format!("{ID}\n{KEY}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let config = format!(
            "[[credentials]]\nname = \"store\"\nhosts = [\"allowed.example\"]\nas = \"aws-sigv4\"\n\
             service = \"s3\"\nregion = \"eu-central-1\"\nplain = true\nfrom = \"file:{}\"\n",
            file.display()
        );
        let rule = r#"@id("store") @credential("store")
            permit (principal, action in Action::"http", resource == Host::"allowed.example");"#;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let seen = seen.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else {
                            return;
                        };
                        head.push(byte);
                    }
                    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                    let length = crate::common::field(&head, "content-length").unwrap();
                    let mut body = vec![0; length.parse().unwrap()];
                    if stream.read_exact(&mut body).await.is_ok() {
                        let _test_over = seen.send((head, body));
                        let _gone = stream
                            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                            .await;
                    }
                });
            }
        });
        Self {
            house: house_under(rule, &config),
            port,
            requests,
            _folder: folder,
        }
    }

    async fn put(&self, form: &str, decoded: usize, body: &str) -> (u16, String) {
        let authority = format!("allowed.example:{}", self.port);
        let request = format!(
            "PUT http://{authority}/bucket/key HTTP/1.1\r\nhost: {authority}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature={NOBODYS}\r\n\
             content-encoding: aws-chunked\r\nx-amz-content-sha256: {form}\r\n\
             x-amz-trailer: x-amz-checksum-crc32c\r\nx-amz-decoded-content-length: {decoded}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, _, answer) = ask(self.house.http, request.as_bytes()).await;
        (status, answer)
    }
}

const PLAIN: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const TRAILED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";

fn pieces(contents: &[&str], end: &str) -> String {
    let pieces: String = contents
        .iter()
        .map(|content| {
            let length = content.len();
            format!("{length:x};chunk-signature={NOBODYS}\r\n{content}\r\n")
        })
        .collect();
    format!("{pieces}0;chunk-signature={NOBODYS}\r\n{end}")
}

fn trailer() -> String {
    format!("x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:{NOBODYS}\r\n\r\n")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// The body as whoever has the key writes it, over the signature of this head.
fn expected(head: &str, sent: &str) -> String {
    let time = crate::common::field(head, "x-amz-date")
        .unwrap()
        .to_ascii_uppercase();
    let (_, seed) = head.split_once("signature=").unwrap();
    let mut last = seed[..64].to_owned();
    let scope = format!("{}/eu-central-1/s3/aws4_request", &time[..8]);
    let mut key = format!("AWS4{KEY}").into_bytes();
    for part in scope.split('/') {
        key = mac(&key, part);
    }
    let mut out = String::new();
    for part in sent.split_inclusive(NOBODYS) {
        let Some(before) = part.strip_suffix(NOBODYS) else {
            out.push_str(part);
            continue;
        };
        out.push_str(before);
        let rest = &sent[out.len() + 64..];
        let text = if before.ends_with("x-amz-trailer-signature:") {
            let hash = hex(&Sha256::digest("x-amz-checksum-crc32c:sOO8/Q==\n"));
            format!("AWS4-HMAC-SHA256-TRAILER\n{time}\n{scope}\n{last}\n{hash}")
        } else {
            let size = before.rsplit("\r\n").next().unwrap();
            let size = usize::from_str_radix(size.split(';').next().unwrap(), 16).unwrap();
            let hash = hex(&Sha256::digest(&rest[2..2 + size]));
            format!("AWS4-HMAC-SHA256-PAYLOAD\n{time}\n{scope}\n{last}\n{EMPTY}\n{hash}")
        };
        last = hex(&mac(&key, &text));
        out.push_str(&last);
    }
    out
}

#[tokio::test]
async fn n21_a_body_signed_piece_by_piece_arrives_under_the_nodes_key() {
    let mut scene = Scene::start().await;
    let long = "0123456789abcdef".repeat(8192);
    for (form, contents, end) in [
        (PLAIN, vec!["hello ", "world"], "\r\n".to_owned()),
        (PLAIN, vec![], "\r\n".to_owned()),
        (TRAILED, vec![&*long, "and more"], trailer()),
    ] {
        let sent = pieces(&contents, &end);
        let decoded = contents.iter().map(|content| content.len()).sum();
        let (status, answer) = scene.put(form, decoded, &sent).await;
        assert_eq!(status, 200, "{form}: {answer}");
        let (head, body) = scene.requests.recv().await.unwrap();
        assert!(
            head.contains(&format!("credential={}/", ID.to_ascii_lowercase())),
            "{head}"
        );
        assert_eq!(
            String::from_utf8(body).unwrap(),
            expected(&head, &sent),
            "{form}"
        );
    }
    let records = scene.house.end().await;
    assert_eq!(decisions(&records, "allow").len(), 3);
}

#[tokio::test]
async fn n21_what_cannot_be_signed_anew_is_refused_and_recorded() {
    let mut scene = Scene::start().await;
    let placeholders = scene.house.egress.placeholders(&scene.house.session());
    let (first, second) = placeholders[0].1.split_at(20);
    let whole = pieces(&["hello"], "\r\n");
    for (form, decoded, body, problem) in [
        (PLAIN, 6, whole.clone(), "shorter than its head says"),
        (PLAIN, 4, whole.clone(), "longer than its head says"),
        (PLAIN, 5, whole.replace("5;", "4;"), "another length"),
        (PLAIN, 5, format!("{whole}more"), "behind its end"),
        (PLAIN, 5, pieces(&["hello"], &trailer()), "behind its end"),
        (TRAILED, 5, whole.clone(), "not signed"),
        // Behind a border of pieces it is a placeholder all the same.
        (
            PLAIN,
            first.len() + second.len(),
            pieces(&[first, second], "\r\n"),
            "placeholder of credential `store` stands in the body",
        ),
        (
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
            5,
            whole.clone(),
            "cannot be made anew",
        ),
    ] {
        let (status, answer) = scene.put(form, decoded, &body).await;
        assert_eq!(status, 403, "{problem}: {answer}");
        assert!(
            answer.contains("reason: credential\n") && answer.contains(problem),
            "{problem}: {answer}"
        );
    }
    assert!(scene.requests.try_recv().is_err(), "none arrived whole");
    let (status, answer) = scene.put(PLAIN, 5, &whole).await;
    assert_eq!(status, 200, "the control: {answer}");
    let records = scene.house.end().await;
    assert_eq!(decisions(&records, "deny").len(), 8);
    let refused = flows(&records)
        .iter()
        .filter(|flow| flow["end"] == "refused")
        .count();
    assert_eq!(refused, 7, "the last was refused before it began");
}
