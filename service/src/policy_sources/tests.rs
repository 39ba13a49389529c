//! Against servers on loopback that behave as asked, well or badly, and one real registry.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

/// A server that gives prepared answers, in order, and keeps the request heads.
struct Server {
    address: SocketAddr,
    answers: Arc<Mutex<VecDeque<Vec<u8>>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Arc<Mutex<VecDeque<Vec<u8>>>> = Arc::default();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (given, seen) = (Arc::clone(&answers), Arc::clone(&heads));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let head = read_head(&mut stream).await;
                seen.lock().unwrap().push(head);
                let answer = given.lock().unwrap().pop_front().unwrap_or_default();
                let _client_had_enough = stream.write_all(&answer).await;
            }
        });
        Self {
            address,
            answers,
            heads,
        }
    }

    fn answer(&self, status: &str, fields: &str, body: &[u8]) {
        let mut answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{fields}\r\n",
            body.len()
        )
        .into_bytes();
        answer.extend_from_slice(body);
        self.answers.lock().unwrap().push_back(answer);
    }

    fn heads(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.lock().unwrap())
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_gone) => break,
        }
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

fn source(text: &str) -> Source {
    let config = format!("layer = \"organisation\"\nsource = \"{text}\"\n");
    Source::new(
        &toml::from_str(&config).unwrap(),
        Some(Arc::new(HttpClient::new(None).unwrap())),
    )
}

fn write_bundle(folder: &Path) -> Bundle {
    std::fs::write(
        folder.join("bundle.toml"),
        "name = \"house\"\nschema = 1\nrevision = 4\nlayer = \"organisation\"\n",
    )
    .unwrap();
    std::fs::write(
        folder.join("rules.cedar"),
        "permit (principal, action, resource);",
    )
    .unwrap();
    Bundle::read(folder).unwrap()
}

fn packed() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    write_bundle(folder.path()).pack().unwrap()
}

fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

async fn revision(source: &mut Source) -> Option<u64> {
    match source.fetch().await.unwrap() {
        Fetched::Bundle(bundle) => Some(bundle.manifest().revision),
        Fetched::Unchanged => None,
    }
}

async fn failure(source: &mut Source) -> String {
    source.fetch().await.unwrap_err().message
}

#[tokio::test]
async fn a_bundle_comes_once_and_again_when_it_was_not_taken() {
    let server = Server::start().await;
    let mut source = source(&format!("http://{}/house.tar.gz", server.address));
    server.answer("200 OK", "etag: \"one\"\r\n", &packed());
    assert_eq!(revision(&mut source).await, Some(4));
    server.answer("304 Not Modified", "", b"");
    assert_eq!(revision(&mut source).await, None);
    source.forget();
    server.answer("200 OK", "", &packed());
    assert_eq!(revision(&mut source).await, Some(4));
    let heads = server.heads();
    let asked: Vec<bool> = heads
        .iter()
        .map(|head| head.contains("if-none-match: \"one\""))
        .collect();
    assert_eq!(asked, [false, true, false]);
    assert!(
        heads[0].starts_with("get /house.tar.gz http/1.1\r\n"),
        "{}",
        heads[0]
    );
}

#[tokio::test]
async fn f03_every_bad_answer_is_an_error_that_says_why() {
    let server = Server::start().await;
    let mut source = source(&format!("http://{}/", server.address));
    let table: [(&str, &str, Vec<u8>, &str); 7] = [
        (
            "302 Found",
            "location: http://127.0.0.1:9/\r\n",
            Vec::new(),
            "redirects",
        ),
        ("404 Not Found", "", b"no".to_vec(), "404"),
        ("401 Unauthorized", "", Vec::new(), "401"),
        ("304 Not Modified", "", Vec::new(), "304"),
        (
            "200 OK",
            "",
            b"<html>log in</html>".to_vec(),
            "bundle not accepted",
        ),
        ("200 OK", "", vec![0; archive_limit() + 1], "length limit"),
        (
            "200 OK",
            "content-length: 99999\r\n",
            b"short".to_vec(),
            "not reached",
        ),
    ];
    for (status, fields, body, expected) in table {
        server.answer(status, fields, &body);
        let why = failure(&mut source).await;
        assert!(why.contains(expected), "{status} {expected:?}: {why}");
    }
    // Broken off in the middle of the body.
    let mut cut = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n".to_vec();
    cut.extend_from_slice(&packed()[..100]);
    server.answers.lock().unwrap().push_back(cut);
    let why = failure(&mut source).await;
    assert!(why.contains("127.0.0.1"), "{why}");
    // And after all of them a good one is taken.
    server.answer("200 OK", "", &packed());
    assert_eq!(revision(&mut source).await, Some(4));
}

#[tokio::test]
async fn credentials_go_where_they_belong_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let login = folder.path().join("login");
    std::fs::write(&login, "ada:secret\n").unwrap();
    let server = Server::start().await;
    let mut here = source(&format!("http://{}/", server.address));
    here.credentials = Some(login.clone());
    server.answer("200 OK", "", &packed());
    assert_eq!(revision(&mut here).await, Some(4));
    // base64 of `ada:secret`, lower-cased as all of the head.
    assert!(server.heads()[0].contains("authorization: basic ywrhonnly3jlda=="));
    let mut elsewhere = source("http://policy.test/");
    elsewhere.credentials = Some(login);
    let why = failure(&mut elsewhere).await;
    assert!(why.contains("without TLS"), "{why}");
}

#[tokio::test]
async fn a_server_is_trusted_by_its_certificate_alone() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![key.cert.der().clone()],
        rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap(),
    )
    .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = [0; 1024];
            let _read = stream.read(&mut head).await;
            let body = packed();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            let _sent = stream.write_all(&[head.into_bytes(), body].concat()).await;
            let _closed = stream.shutdown().await;
        }
    });
    let url = format!("https://localhost:{port}/");
    let mut stranger = source(&url);
    let why = failure(&mut stranger).await;
    assert!(why.contains("certificate"), "{why}");
    let mut trusting = source(&url);
    trusting.http = Some(Arc::new(HttpClient::new(Some(&key.cert.pem())).unwrap()));
    assert_eq!(revision(&mut trusting).await, Some(4));
}

fn manifest(layer: &[u8], media: &str) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": digest(b"{}"),
            "size": 2,
        },
        "layers": [{ "mediaType": media, "digest": digest(layer), "size": layer.len() }],
    }))
    .unwrap()
}

#[tokio::test]
async fn an_image_is_fetched_with_a_token_and_only_when_it_is_another() {
    let server = Server::start().await;
    let elsewhere = Server::start().await;
    let mut source = source(&format!("oci://{}/policy/main:stable", server.address));
    let layer = packed();
    let challenge = format!(
        "www-authenticate: Bearer realm=\"http://{}/token\",service=\"a b\"\r\n",
        server.address
    );
    server.answer("401 Unauthorized", &challenge, b"");
    server.answer("200 OK", "", b"{\"token\":\"t0k\"}");
    server.answer("200 OK", "", &manifest(&layer, oci::LAYER));
    let location = format!("location: http://{}/blob\r\n", elsewhere.address);
    server.answer("307 Temporary Redirect", &location, b"");
    elsewhere.answer("200 OK", "", &layer);
    assert_eq!(revision(&mut source).await, Some(4));
    let heads = server.heads();
    assert!(
        heads[0].starts_with("get /v2/policy/main/manifests/stable "),
        "{heads:?}"
    );
    let token = "get /token?service=a%20b&scope=repository%3apolicy%2fmain%3apull ";
    assert!(heads[1].starts_with(token), "{heads:?}");
    assert!(heads[2].contains("authorization: bearer t0k"), "{heads:?}");
    assert!(
        heads[3].contains(&format!("/blobs/{} ", digest(&layer))),
        "{heads:?}"
    );
    assert!(
        !elsewhere.heads()[0].contains("authorization"),
        "the token stays with the registry"
    );

    server.answer("200 OK", "", &manifest(&layer, oci::LAYER));
    assert_eq!(revision(&mut source).await, None, "the same layer");
}

#[tokio::test]
async fn f03_an_image_that_is_not_what_its_digest_says_is_refused() {
    let server = Server::start().await;
    let layer = packed();
    let good = manifest(&layer, oci::LAYER);
    let image = |reference: &str| source(&format!("oci://{}/p{reference}", server.address));
    let by_digest = format!("@{}", digest(&good));

    server.answer("200 OK", "", &good);
    server.answer("200 OK", "", &layer);
    assert_eq!(revision(&mut image(&by_digest)).await, Some(4));

    let mut other = good.clone();
    other.push(b' ');
    server.answer("200 OK", "", &other);
    let why = failure(&mut image(&by_digest)).await;
    assert!(why.contains("other bytes"), "{why}");

    server.answer("200 OK", "", &good);
    server.answer("200 OK", "", b"other");
    let why = failure(&mut image(":t")).await;
    assert!(why.contains("other bytes"), "{why}");

    server.answer("200 OK", "", &manifest(&layer, "application/json"));
    let why = failure(&mut image(":t")).await;
    assert!(why.contains("no layer"), "{why}");

    server.answer("200 OK", "", b"{\"manifests\":[]}");
    let why = failure(&mut image(":t")).await;
    assert!(why.contains("not an image's"), "{why}");

    server.answer("200 OK", "", &good);
    server.answer(
        "307 Temporary Redirect",
        "location: http://198.51.100.1/b\r\n",
        b"",
    );
    let why = failure(&mut image(":t")).await;
    assert!(why.contains("no https address"), "{why}");

    let realm = "www-authenticate: Bearer realm=\"http://198.51.100.1/token\"\r\n";
    server.answer("401 Unauthorized", realm, b"");
    let why = failure(&mut image(":t")).await;
    assert!(why.contains("without TLS"), "{why}");

    server.answer(
        "401 Unauthorized",
        "www-authenticate: Basic realm=\"r\"\r\n",
        b"",
    );
    let why = failure(&mut image(":t")).await;
    assert!(why.contains("who is there"), "{why}");
}

/// Debian's `docker-registry`, ended with the test.
struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test]
async fn a_real_registry_gives_what_was_pushed_by_tag_and_by_digest() {
    let folder = tempfile::tempdir().unwrap();
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        free.local_addr().unwrap().port()
    };
    let config = folder.path().join("config.yml");
    std::fs::write(
        &config,
        format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: \
             127.0.0.1:{port}\n",
            folder.path().join("data").display()
        ),
    )
    .unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&config);
    let Ok(child) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
        eprintln!("not run: Debian's `docker-registry` is not installed");
        return;
    };
    let _registry = Registry(child);
    let http = HttpClient::new(None).unwrap();
    let url = |path: &str| HttpUrl::parse(&format!("http://127.0.0.1:{port}{path}")).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while http.get(&url("/v2/"), &[], 1024).await.is_err() {
        assert!(
            std::time::Instant::now() < until,
            "the registry does not answer"
        );
        tokio::task::yield_now().await;
    }
    let layer = packed();
    let manifest = manifest(&layer, oci::LAYER);
    push_blob(port, &layer).await;
    push_blob(port, b"{}").await;
    let put = request(
        port,
        "PUT",
        "/v2/policy/main/manifests/stable",
        "application/vnd.oci.image.manifest.v1+json",
        &manifest,
    )
    .await;
    assert!(put.starts_with("HTTP/1.1 201"), "{put}");

    let mut by_tag = source(&format!("oci://127.0.0.1:{port}/policy/main:stable"));
    assert_eq!(revision(&mut by_tag).await, Some(4));
    assert_eq!(revision(&mut by_tag).await, None);
    let reference = digest(&manifest);
    let mut by_digest = source(&format!("oci://127.0.0.1:{port}/policy/main@{reference}"));
    assert_eq!(revision(&mut by_digest).await, Some(4));
    let mut absent = source(&format!("oci://127.0.0.1:{port}/policy/main:none"));
    assert!(failure(&mut absent).await.contains("404"));
}

async fn push_blob(port: u16, bytes: &[u8]) {
    let begun = request(
        port,
        "POST",
        "/v2/policy/main/blobs/uploads/",
        "text/plain",
        b"",
    )
    .await;
    let location = begun
        .lines()
        .find_map(|line| line.strip_prefix("Location: "))
        .unwrap_or_else(|| panic!("{begun}"));
    let path = location.trim_start_matches(&format!("http://127.0.0.1:{port}"));
    let path = format!("{path}&digest={}", digest(bytes).replace(':', "%3A"));
    let put = request(port, "PUT", &path, "application/octet-stream", bytes).await;
    assert!(put.starts_with("HTTP/1.1 201"), "{put}");
}

#[expect(clippy::disallowed_methods, reason = "the test is the client here")]
async fn request(port: u16, method: &str, path: &str, media: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: {media}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
