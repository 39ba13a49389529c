//! Parent proxies: what they are asked for, what becomes of their refusals, and that nothing goes
//! round them.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

use crate::names::Identity;

use crate::common::{
    CONFIG, House, Origin, POLICY, ask, bounded, connect, decisions, flows, get, get_through,
    house_from, house_plus, socks_name,
};

/// A parent that speaks HTTP CONNECT, notes every head, and either tunnels or answers `refusal`.
struct Parent {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Parent {
    async fn start(refusal: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, refusal, Arc::clone(&seen)));
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// The usual house behind it.
    fn house(&self, more: &str, rules: &str) -> House {
        let config = format!(
            "[[network.parents]]\nurl = \"http://{}\"\n{more}",
            self.address
        );
        house_plus(&config, rules)
    }
}

async fn carry(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    refusal: Option<&str>,
    heads: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    heads.lock().unwrap().push(head);
    if let Some(refusal) = refusal {
        client.write_all(refusal.as_bytes()).await.unwrap();
        return;
    }
    // Only the port matters here: everything is on loopback.
    let port: u16 = target.rsplit(':').next().unwrap().parse().unwrap();
    let mut origin = connect(([127, 0, 0, 1], port).into()).await;
    // In two parts, an interim response before it.
    client
        .write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")
        .await
        .unwrap();
    client.flush().await.unwrap();
    client
        .write_all(b"Connection established\r\nvia: x\r\n\r\n")
        .await
        .unwrap();
    let _over = tokio::io::copy_bidirectional(&mut client, &mut origin).await;
}

#[tokio::test]
async fn n10_a_parent_is_asked_for_the_address_that_was_checked() {
    let (parent, origin) = (Parent::start(None).await, Origin::start().await);
    let house = parent.house("", "");
    let port = origin.port();
    let target = format!("allowed.example:{port}");
    assert_eq!(ask(house.http, &get(&target, "/")).await.0, 200);
    let (code, mut tunnel) = socks_name(house.socks, b"allowed.example", port).await;
    assert_eq!(code, 0);
    assert_eq!(get_through(&mut tunnel).await, 200);
    drop(tunnel);
    // Special-use addresses are refused as ever, and the parent is not even asked.
    let refused = get(&format!("rebound.allowed.example:{port}"), "/");
    assert_eq!(ask(house.http, &refused).await.0, 403);
    let records = house.end().await;
    let expected = format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n");
    assert_eq!(parent.heads(), [expected.clone(), expected]);
    let asked = &flows(&records)[0]["net"];
    assert_eq!(
        (&asked["dst"], &asked["dport"]),
        (&"127.0.0.1".into(), &port.into())
    );
    assert_eq!(
        decisions(&records, "deny")[0]["reason"],
        "address_not_permitted"
    );
}

#[tokio::test]
async fn n10_a_parent_that_resolves_needs_a_permit_that_accepts_it() {
    let (parent, origin) = (Parent::start(None).await, Origin::start().await);
    let port = origin.port();
    let name = format!("somewhere.allowed.example:{port}");
    let accepting = "@id(\"accepting\") @address(\"unverified\") permit (principal, \
         action in Action::\"network\", resource in Domain::\"somewhere.allowed.example\");";
    let refusing = "@id(\"checked-only\") forbid (principal, action in Action::\"network\", \
         resource) when { context.address_unverified };";
    let table = [
        (String::new(), 403),
        (accepting.to_owned(), 200),
        (format!("{accepting}{refusing}"), 403),
    ];
    for (rules, code) in table {
        let house = parent.house("resolve = \"parent\"\n", &rules);
        let before = parent.heads().len();
        let mut client = house.client(house.http).await;
        for _request in 0..2 {
            // The second on the kept connection is held to the same.
            client.write_all(&get(&name, "/")).await.unwrap();
            let (head, _) = bounded(crate::common::message(&mut client)).await.unwrap();
            assert_eq!(crate::common::status(&head), code, "{rules}: {head}");
        }
        assert_eq!(
            socks_name(house.socks, b"somewhere.allowed.example", port)
                .await
                .0,
            if code == 200 { 0 } else { 2 }
        );
        // Nothing was looked up here.
        assert!(house.nameserver.asked().is_empty());
        let asked = parent.heads().split_off(before);
        let expected = format!("CONNECT {name} HTTP/1.1\r\nhost: {name}\r\n\r\n");
        assert_eq!(asked, vec![expected; if code == 200 { 2 } else { 0 }]);
        let records = house.end().await;
        let denied = decisions(&records, "deny").len();
        assert_eq!(denied, if code == 200 { 0 } else { 3 });
    }
    // An address is no name: it is classified here, whoever resolves names.
    let house = parent.house("resolve = \"parent\"\n", "");
    let literal = get(&format!("169.254.169.254:{port}"), "/");
    assert_eq!(ask(house.http, &literal).await.0, 403);
    house.end().await;
}

#[tokio::test]
async fn a_refusal_of_the_parent_is_told_as_such_and_nothing_goes_round_it() {
    let origin = Origin::start().await;
    let request = get(&format!("allowed.example:{}", origin.port()), "/");
    let long =
        Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(20_000)).into_boxed_str());
    let table: [(&'static str, u16, &str); 7] = [
        (
            "HTTP/1.1 407 No\r\nproxy-authenticate: Basic\r\n\r\nsecret words",
            502,
            "credentials",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\n\r\nsecret words",
            502,
            "refused with 403",
        ),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", 502, "does not reach"),
        ("HTTP/1.1 504 Late\r\n\r\n", 504, "in time"),
        ("SSH-2.0-parent\r\n\r\n", 502, "not HTTP/1"),
        ("HTTP/1.1 200 OK\r\n", 502, "broke off"),
        (long, 502, "over 16384 bytes"),
    ];
    for (answer, code, words) in table {
        let parent = Parent::start(Some(answer)).await;
        let house = parent.house("", "");
        let (status, _, body) = ask(house.http, &request).await;
        assert_eq!(status, code, "{answer:.40}: {body}");
        assert!(body.contains(words), "{answer:.40}: {body}");
        assert!(body.contains("parent proxy"), "{body}");
        assert!(!body.contains("secret"), "{body}");
        let records = house.end().await;
        assert_eq!(flows(&records)[0]["end"], "connect_failed");
    }
    // One that is not there at all.
    let gone = house_plus("[[network.parents]]\nurl = \"http://127.0.0.1:1\"\n", "");
    assert_eq!(ask(gone.http, &request).await.0, 502);
    gone.end().await;
    assert_eq!(origin.reached(), 0);
}

#[tokio::test]
async fn hosts_and_no_proxy_say_what_a_parent_carries() {
    let (parent, origin) = (Parent::start(None).await, Origin::start().await);
    let port = origin.port();
    let to = |name: &str| get(&format!("{name}:{port}"), "/");
    let table = [
        ("hosts = [\"allowed.example\"]\n", "", 1),
        ("hosts = [\"*.lab.example\"]\n", "", 0),
        ("", "no_proxy = \".allowed.example\"\n", 0),
        ("", "no_proxy = \"other.example, 10.0.0.0/8\"\n", 1),
    ];
    for (more, no_proxy, expected) in table {
        let before = parent.heads().len();
        let parents = format!(
            "[network]\n{no_proxy}{CONFIG}[[network.parents]]\nurl = \"http://{}\"\n{more}",
            parent.address
        );
        let house = house_from(&parents, POLICY);
        assert_eq!(
            ask(house.http, &to("allowed.example")).await.0,
            200,
            "{more}{no_proxy}"
        );
        assert_eq!(parent.heads().len() - before, expected, "{more}{no_proxy}");
        house.end().await;
    }
}

#[tokio::test]
async fn n03_credentials_go_to_the_parent_and_nowhere_else() {
    let (parent, mut origin) = (Parent::start(None).await, Origin::start().await);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "proxy-user:s3cret\n").unwrap();
    let more = format!("credentials_file = \"{}\"\n", file.path().display());
    let house = parent.house(&more, "");
    let target = format!("allowed.example:{}", origin.port());
    let mut request = get(&target, "/");
    request.truncate(request.len() - 2);
    request.extend(b"proxy-authorization: Basic Y2xpZW50\r\n\r\n");
    let (code, head, body) = ask(house.http, &request).await;
    assert_eq!(code, 200);
    let expected = format!(
        "proxy-authorization: Basic {}\r\n",
        STANDARD.encode("proxy-user:s3cret")
    );
    assert!(
        parent.heads()[0].contains(&expected),
        "{:?}",
        parent.heads()
    );
    assert!(!parent.heads()[0].contains("Y2xpZW50"));
    let seen = origin.head().await;
    assert!(
        !seen.to_ascii_lowercase().contains("proxy-authorization"),
        "{seen}"
    );
    let records = house.end().await;
    let all = format!("{records:?}{head}{body}");
    assert!(!all.contains("s3cret"), "{all}");
}

/// A parent that speaks SOCKS5 and wants this user and password (RFC 1929).
async fn socks_parent(login: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut methods = [0; 2];
                client.read_exact(&mut methods).await.unwrap();
                let mut offered = vec![0; methods[1].into()];
                client.read_exact(&mut offered).await.unwrap();
                if !offered.contains(&2) {
                    return client.write_all(&[5, 0xFF]).await.unwrap();
                }
                client.write_all(&[5, 2]).await.unwrap();
                let mut sent = vec![0; login.len()];
                client.read_exact(&mut sent).await.unwrap();
                let fits = u8::from(sent != login);
                client.write_all(&[1, fits]).await.unwrap();
                if fits != 0 {
                    return;
                }
                let mut request = [0; 10];
                client.read_exact(&mut request).await.unwrap();
                assert_eq!(request[..8], [5, 1, 0, 1, 127, 0, 0, 1]);
                let port = u16::from_be_bytes([request[8], request[9]]);
                let mut there = connect(([127, 0, 0, 1], port).into()).await;
                let reply = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
                client.write_all(&reply).await.unwrap();
                let _over = tokio::io::copy_bidirectional(&mut client, &mut there).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn n03_a_socks_parent_gets_its_credentials_and_refuses_wrong_ones() {
    let parent = socks_parent(b"\x01\x0aproxy-user\x06s3cret").await;
    let origin = Origin::start().await;
    let request = get(&format!("allowed.example:{}", origin.port()), "/");
    for (login, expected) in [
        (Some("proxy-user:s3cret"), 200),
        (Some("proxy-user:s4cret"), 502),
        (None, 502),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), login.unwrap_or_default()).unwrap();
        let more = match login {
            Some(_) => format!("credentials_file = \"{}\"\n", file.path().display()),
            None => String::new(),
        };
        let config = format!("[[network.parents]]\nurl = \"socks5://{parent}\"\n{more}");
        let house = house_plus(&config, "");
        let (code, head, body) = ask(house.http, &request).await;
        assert_eq!(code, expected, "{login:?}: {body}");
        if code == 502 {
            assert!(body.contains("does not accept the credentials"), "{body}");
        }
        let records = house.end().await;
        let all = format!("{records:?}{head}{body}");
        assert!(!all.contains("s3cret") && !all.contains("s4cret"), "{all}");
    }
    assert_eq!(origin.reached(), 1);
}

#[tokio::test]
async fn a_parent_can_be_spoken_to_inside_tls_where_its_certificate_holds() {
    let identity = Identity::new(None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let (acceptor, seen) = (identity.acceptor.clone(), Arc::clone(&heads));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    carry(stream, None, seen).await;
                }
            });
        }
    });
    let origin = Origin::start().await;
    let target = format!("allowed.example:{}", origin.port());
    for (name, code) in [("dns.test", 200), ("other.test", 502)] {
        let config = format!(
            "[network]\nextra_roots = [\"{}\"]\n{}[[network.parents]]\n\
             url = \"https://{name}:{port}\"\n",
            identity.roots.path().display(),
            CONFIG.replace(
                "[resolve.overrides]\n",
                &format!("[resolve.overrides]\n\"{name}\" = [\"127.0.0.1\"]\n")
            ),
        );
        let house = house_from(&config, POLICY);
        let (status, _, body) = ask(house.http, &get(&target, "/")).await;
        assert_eq!(status, code, "{name}: {body}");
        let (reply, mut tunnel) = socks_name(house.socks, b"allowed.example", origin.port()).await;
        if code == 200 {
            assert_eq!(reply, 0);
            assert_eq!(get_through(&mut tunnel).await, 200);
            tunnel.shutdown().await.unwrap();
            let mut rest = Vec::new();
            bounded(tunnel.read_to_end(&mut rest)).await.unwrap();
        } else {
            assert!(body.contains("TLS with it failed"), "{body}");
            assert_ne!(reply, 0);
        }
        let records = house.end().await;
        let ends: Vec<_> = flows(&records)
            .iter()
            .map(|flow| flow["end"].clone())
            .collect();
        let expected = if code == 200 {
            "completed"
        } else {
            "connect_failed"
        };
        assert!(ends.iter().all(|end| end == expected), "{ends:?}");
    }
    assert_eq!(heads.lock().unwrap().len(), 2);
    assert_eq!(origin.reached(), 2);
}

/// A proxy of the distribution, ended when dropped.
struct Real {
    child: Child,
    address: SocketAddr,
    _files: tempfile::TempDir,
}

impl Drop for Real {
    fn drop(&mut self) {
        // Asked to, so that it takes its own children and files along. Gone already is fine too.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _status = self.child.wait();
    }
}

/// Starts one where it is installed; `None`, said aloud, where it is not.
async fn real(program: &str, config: &str, arguments: &[&str]) -> Option<Real> {
    if !std::path::Path::new(program).exists() {
        eprintln!("skipped: `{program}` is not installed");
        return None;
    }
    let files = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let path = files.path().join("proxy.conf");
    let config = config
        .replace("PORT", &address.port().to_string())
        .replace("DIRECTORY", &files.path().display().to_string());
    std::fs::write(&path, config).unwrap();
    let child = Command::new(program)
        .args(arguments)
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let real = Real {
        child,
        address,
        _files: files,
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "`{program}` does not start"
        );
        tokio::task::yield_now().await;
    }
    Some(real)
}

/// Plain HTTP and a tunnel, both through `url`.
async fn carries(url: &str) {
    let origin = Origin::start().await;
    let house = house_plus(&format!("[[network.parents]]\nurl = \"{url}\"\n"), "");
    let target = format!("allowed.example:{}", origin.port());
    let (code, _, body) = ask(house.http, &get(&target, "/")).await;
    assert_eq!(code, 200, "{url}: {body}");
    let (code, mut tunnel) = socks_name(house.socks, b"allowed.example", origin.port()).await;
    assert_eq!(code, 0, "{url}");
    assert_eq!(get_through(&mut tunnel).await, 200, "{url}");
    drop(tunnel);
    house.end().await;
}

#[tokio::test]
async fn tinyproxy_carries_what_is_allowed() {
    let config = "Port PORT\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\n";
    if let Some(parent) = real("/usr/bin/tinyproxy", config, &["-d", "-c"]).await {
        carries(&format!("http://{}", parent.address)).await;
    }
}

#[tokio::test]
async fn squid_carries_what_is_allowed() {
    let config = "http_port 127.0.0.1:PORT\nhttp_access allow all\ncache deny all\n\
                  access_log none\ncache_log /dev/null\npid_filename none\n\
                  workers 1\nshutdown_lifetime 0 seconds\n";
    if let Some(parent) = real(
        "/usr/sbin/squid",
        config,
        &["-N", "-n", &format!("cordon{}", std::process::id()), "-f"],
    )
    .await
    {
        carries(&format!("http://{}", parent.address)).await;
    }
}

#[tokio::test]
async fn danted_carries_what_is_allowed() {
    let config = "internal: 127.0.0.1 port = PORT\nexternal: lo\nsocksmethod: none\n\
                  clientmethod: none\nuser.privileged: root\nuser.unprivileged: root\n\
                  client pass { from: 0/0 to: 0/0 }\nsocks pass { from: 0/0 to: 0/0 }\n";
    if let Some(parent) = real("/usr/sbin/danted", config, &["-f"]).await {
        carries(&format!("socks5://{}", parent.address)).await;
    }
}
