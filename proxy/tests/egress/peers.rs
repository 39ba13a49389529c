//! The same bytes through us and through two other proxies, where they are installed: what we let
//! through arrives at the origin as the same messages as through them. We may be stricter (the unit
//! tests have a table of what is refused), never laxer and never different.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::common::{Origin, bounded, house};

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

fn bytes(authority: &str, fields: &str, body: &str) -> Vec<u8> {
    format!(
        "POST http://{authority}/first HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n{body}\
         GET http://{authority}/next HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    )
    .into_bytes()
}

/// The request lines that arrive behind a proxy, both of them.
async fn arrives(proxy: SocketAddr, origin: &mut Origin, bytes: &[u8]) -> [String; 2] {
    let mut stream = crate::common::connect(proxy).await;
    stream.write_all(bytes).await.unwrap();
    let mut lines = [String::new(), String::new()];
    for line in &mut lines {
        let head = bounded(origin.head()).await;
        *line = head.lines().next().unwrap_or_default().into();
    }
    lines
}

#[tokio::test]
async fn n22_what_we_let_through_others_read_as_the_same_messages() {
    let (house, mut origin) = (house(), Origin::start().await);
    let port = origin.port();
    let folder = tempfile::tempdir().unwrap();
    let peers = [haproxy(folder.path(), port), squid(folder.path())];
    for (fields, body) in FIRST {
        let shown = format!("{}{}", fields.escape_default(), body.escape_default());
        let ours = bytes(&format!("allowed.example:{port}"), fields, body);
        let ours = arrives(house.http, &mut origin, &ours).await;
        assert_eq!(
            ours,
            ["POST /first HTTP/1.1", "GET /next HTTP/1.1"],
            "{shown}"
        );
        for peer in peers.iter().flatten() {
            peer.wait().await;
            let theirs = bytes(&format!("127.0.0.1:{port}"), fields, body);
            let theirs = arrives(peer.address, &mut origin, &theirs).await;
            let path = |line: &String| line.replace(&format!("http://127.0.0.1:{port}"), "");
            assert_eq!(theirs.each_ref().map(path), ours, "{} {shown}", peer.name);
        }
    }
    assert!(origin.is_quiet());
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
    let text = format!(
        "http_port {address}\nhttp_access allow all\ncache deny all\naccess_log none\n\
         cache_log /dev/null\npid_filename none\ncache_store_log none\npinger_enable off\n\
         shutdown_lifetime 0 seconds\nserver_persistent_connections on\n"
    );
    std::fs::write(&file, text).unwrap();
    Peer::start("squid", address, &["-N", "-f", file.to_str()?])
}
