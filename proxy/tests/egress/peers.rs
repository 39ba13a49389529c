//! The same bytes through us and through two other proxies: what we let through arrives at the origin
//! as the same messages as through them, to the last byte of their bodies, and of what can be read in
//! two ways nothing arrives behind us. Without the peers there is nothing to compare; where the suite
//! has installed them that is a failure.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{io::AsyncWriteExt, net::TcpStream, sync::mpsc, time::timeout};

use crate::common::{bounded, field, house, message, status};

/// Messages that we let through: how a first one may be framed, and a second behind it.
const FIRST: [(&str, &str); 10] = [
    ("", ""),
    ("Content-Length: 0\r\n", ""),
    ("Content-Length: 3\r\n", "abc"),
    ("content-length:3\r\n", "abc"),
    ("Content-Length: \t3 \r\n", "abc"),
    ("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ("transfer-encoding: CHUNKED\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    (
        "Transfer-Encoding: chunked\r\n",
        "3;x=y\r\nabc\r\n0\r\n\r\n",
    ),
    ("Transfer-Encoding: chunked\r\n", "03\r\nabc\r\n00\r\n\r\n"),
    ("X-Empty:\r\nX-Latin: \u{e9}\r\n", ""),
];

/// Messages that two readers may take for different ones. Nothing of them goes on behind us.
const AMBIGUOUS: [(&str, &str); 16] = [
    ("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"),
    ("Content-Length: 3\r\nContent-Length: 0\r\n", "abc"),
    ("Content-Length: 3, 3\r\n", "abc"),
    ("Content-Length: +3\r\n", "abc"),
    ("Content-Length : 3\r\n", "abc"),
    ("X: y\r\n Content-Length: 3\r\n", "abc"),
    ("X: y\nContent-Length: 3\r\n", "abc"),
    (
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 14\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: gzip, chunked\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
    ),
    ("Transfer-Encoding: xchunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ("Transfer-Encoding : chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", "3\nabc\n0\n\n"),
    ("Transfer-Encoding: chunked\r\n", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("Host: other.example\r\n", ""),
];

fn bytes(authority: &str, fields: &str, body: &str) -> Vec<u8> {
    format!(
        "POST http://{authority}/first HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n{body}\
         GET http://{authority}/next HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    )
    .into_bytes()
}

/// A message as its origin reads it.
#[derive(Debug, Eq, PartialEq)]
struct Read {
    /// Without the authority, which a proxy may leave out.
    line: String,
    host: String,
    body: Vec<u8>,
}

/// An origin that answers everything, and tells what it reads.
async fn origin() -> (u16, mpsc::UnboundedReceiver<Read>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, reads) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                while let Some((head, body)) = message(&mut stream).await {
                    let authority = format!("http://allowed.example:{port}");
                    let line = head.lines().next().unwrap_or_default();
                    let lower = head.to_ascii_lowercase();
                    let read = Read {
                        line: line.replace(&authority, ""),
                        host: field(&lower, "host").unwrap_or_default().into(),
                        body,
                    };
                    let _test_over = seen.send(read);
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, reads)
}

/// What arrives behind a proxy of two messages.
async fn arrives(
    proxy: SocketAddr,
    reads: &mut mpsc::UnboundedReceiver<Read>,
    bytes: &[u8],
) -> Vec<Read> {
    let mut stream = crate::common::connect(proxy).await;
    stream.write_all(bytes).await.unwrap();
    for _answer in 0..2 {
        // One that refuses may leave it open, or wait for more of what it takes for a body.
        let answer = timeout(Duration::from_secs(2), message(&mut stream)).await;
        if !matches!(&answer, Ok(Some((head, _))) if status(head) == 200) {
            break;
        }
    }
    let mut all = Vec::new();
    while let Ok(read) = reads.try_recv() {
        all.push(read);
    }
    all
}

#[tokio::test]
async fn n22_what_we_let_through_others_read_as_the_same_messages() {
    let (house, (port, mut reads)) = (house(), origin().await);
    let folder = tempfile::tempdir().unwrap();
    let peers = [haproxy(folder.path(), port), squid(folder.path())];
    for peer in peers.iter().flatten() {
        peer.wait().await;
    }
    let (mut looser, authority) = (0, format!("allowed.example:{port}"));
    let good = FIRST.map(|message| (message, true));
    for ((fields, body), good) in good.into_iter().chain(AMBIGUOUS.map(|bad| (bad, false))) {
        let shown = format!("{}{}", fields.escape_default(), body.escape_default());
        let bytes = bytes(&authority, fields, body);
        let ours = arrives(house.http, &mut reads, &bytes).await;
        let lines: Vec<&str> = ours.iter().map(|read| read.line.as_str()).collect();
        let expected: &[&str] = match good {
            true => &["POST /first HTTP/1.1", "GET /next HTTP/1.1"],
            false => &[],
        };
        assert_eq!(lines, expected, "{shown}");
        for peer in peers.iter().flatten() {
            let theirs = arrives(peer.address, &mut reads, &bytes).await;
            if good {
                assert_eq!(theirs, ours, "{} {shown}", peer.name);
            }
            looser += usize::from(!good && !theirs.is_empty());
        }
    }
    if peers.iter().any(Option::is_some) {
        assert!(looser > 0, "the control: these bytes do reach an origin");
    }
    house.end().await;
}

/// Another proxy that runs; it ends with the test.
struct Peer {
    name: &'static str,
    address: SocketAddr,
    child: Child,
}

impl Peer {
    fn start(name: &'static str, address: SocketAddr, args: &[&str]) -> Option<Self> {
        let child = Command::new(name)
            .args(args)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(Self {
                name,
                address,
                child,
            }),
            Err(error) => {
                let installed = std::env::var_os("CORDON_TEST_CLIENTS").is_some();
                assert!(!installed, "{name}, which the suite installs: {error}");
                eprintln!("not compared with {name}: {error}");
                None
            }
        }
    }

    /// Until it accepts. It is another's program: there is nothing to wait for but that.
    async fn wait(&self) {
        let accepts = async {
            #[expect(clippy::disallowed_methods, reason = "the test is the client here")]
            while TcpStream::connect(self.address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        bounded(accepts).await;
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn unused() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn haproxy(folder: &Path, origin: u16) -> Option<Peer> {
    let (address, file) = (unused(), folder.join("haproxy.cfg"));
    let text = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n\
         listen all\n bind {address}\n server origin 127.0.0.1:{origin}\n"
    );
    std::fs::write(&file, text).unwrap();
    Peer::start("haproxy", address, &["-db", "-f", file.to_str()?])
}

fn squid(folder: &Path) -> Option<Peer> {
    let (address, file) = (unused(), folder.join("squid.conf"));
    let hosts = folder.join("hosts");
    std::fs::write(&hosts, "127.0.0.1 allowed.example\n").unwrap();
    let text = format!(
        "http_port {address}\nhosts_file {}\nhttp_access allow all\ncache deny all\naccess_log none\n\
         cache_log /dev/null\npid_filename none\ncache_store_log none\npinger_enable off\n\
         shutdown_lifetime 0 seconds\nserver_persistent_connections on\n",
        hosts.display()
    );
    std::fs::write(&file, text).unwrap();
    Peer::start("squid", address, &["-N", "-f", file.to_str()?])
}
