//! A house for tests: a real engine, a real log, listeners on loopback, and an origin that counts
//! who reaches it.

pub mod nameserver;

use std::{
    net::{SocketAddr, TcpListener as StdListener, UdpSocket as StdUdp},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cordon_audit::{Log, LogOptions};
use cordon_policy::{
    Backend, SessionFacts, Snapshot,
    source::{PolicyFile, PolicySource},
};
use cordon_proxy::{Bytes, Caller, Egress, Listeners, SessionProxy};
use cordon_session::{Config, Gate, InForce, PolicyFeed};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
};

/// Permits two names, one by its group, and two literals; everything else is denied by default.
/// `forbidden.example` is forbidden by a rule with a reason.
pub const POLICY: &str = r#"
@id("allowed-host")
permit (principal, action in Action::"network", resource in Domain::"allowed.example");
@id("grouped")
permit (principal, action in Action::"network", resource in HostGroup::"lab");
@id("literal")
permit (principal, action in Action::"network", resource == Address::"127.0.0.1");
@id("metadata")
permit (principal, action in Action::"network", resource == Address::"169.254.169.254");
@id("no-forbidden") @reason("this host is known to be bad")
forbid (principal, action in Action::"network", resource in Domain::"forbidden.example");
"#;

/// Host group of [`POLICY`].
pub const GROUPS: &str = "[host_groups]\nlab = [\"lab.example\", \"*.lab.example\"]\n";

/// Puts the names on loopback. Only `allowed.example` itself and the group may be there.
pub const CONFIG: &str = r#"
[resolve]
nameservers = ["NAMESERVER"]
[resolve.overrides]
"allowed.example" = ["127.0.0.1"]
"rebound.allowed.example" = ["127.0.0.1"]
"mixed.allowed.example" = ["10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"]
"lab.example" = ["127.0.0.1"]
"forbidden.example" = ["127.0.0.1"]
"denied.example" = ["127.0.0.1"]
[[network.permit_addresses]]
host = "allowed.example"
addresses = ["127.0.0.1/32"]
[[network.permit_addresses]]
group = "lab"
addresses = ["127.0.0.0/8"]
[[network.permit_addresses]]
host = "denied.example"
addresses = ["127.0.0.1/32"]
"#;

pub use nameserver::Nameserver;

/// One session with everything behind it.
pub struct House {
    pub egress: Arc<Egress>,
    pub http: SocketAddr,
    pub socks: SocketAddr,
    pub capture: SocketAddr,
    pub dns: SocketAddr,
    pub nameserver: Nameserver,
    policy: Arc<PolicyFeed>,
    log: Log,
    gate: Gate,
    proxy: SessionProxy,
    _directory: tempfile::TempDir,
}

/// Starts a session with the usual policy and configuration.
pub fn house() -> House {
    house_with(|egress, gate, listeners| egress.attach(gate, listeners).unwrap())
}

/// As [`house`], under these rules and with this text after the usual configuration.
pub fn house_under(rules: &str, config: &str) -> House {
    house_from(&format!("{CONFIG}{config}"), rules)
}

/// As [`house`], attached in the caller's way.
pub fn house_with(attach: impl FnOnce(&Arc<Egress>, Gate, Listeners) -> SessionProxy) -> House {
    house_of(CONFIG, POLICY, attach)
}

/// As [`house`], with `config` after the usual configuration and `rules` after the usual policy.
pub fn house_plus(config: &str, rules: &str) -> House {
    house_from(&format!("{CONFIG}{config}"), &format!("{POLICY}{rules}"))
}

/// As [`house`], with another configuration and policy. `NAMESERVER` stands for the test's own.
pub fn house_from(config: &str, rules: &str) -> House {
    house_of(config, rules, |egress, gate, listeners| {
        egress.attach(gate, listeners).unwrap()
    })
}

fn house_of(
    config: &str,
    rules: &str,
    attach: impl FnOnce(&Arc<Egress>, Gate, Listeners) -> SessionProxy,
) -> House {
    let directory = tempfile::tempdir().unwrap();
    let config_file = directory.path().join("cordon.toml");
    let nameserver = Nameserver::start();
    let config = config.replace("NAMESERVER", &nameserver.address.to_string());
    std::fs::write(&config_file, config).unwrap();
    let config = Config::load(&[&config_file]).unwrap();
    let log = Log::open(&directory.path().join("log"), LogOptions::default()).unwrap();
    let egress = Arc::new(Egress::new(&config).unwrap());
    let policy = Arc::new(PolicyFeed::new(InForce::alone(Arc::new(snapshot(rules)))));
    let gate = Gate::following(Arc::new(facts()), Arc::clone(&policy), log.clone());
    let listeners = listeners();
    let [http, socks, capture] = [
        &listeners.http,
        &listeners.socks,
        listeners.capture.first().unwrap(),
    ]
    .map(|listener| listener.local_addr().unwrap());
    let dns = listeners.dns.local_addr().unwrap();
    let proxy = attach(&egress, gate.clone(), listeners);
    House {
        egress,
        http,
        socks,
        capture,
        dns,
        nameserver,
        policy,
        log,
        gate,
        proxy,
        _directory: directory,
    }
}

/// A session's listeners, on loopback.
fn listeners() -> Listeners {
    let tcp = || StdListener::bind("127.0.0.1:0").unwrap();
    Listeners {
        http: tcp(),
        socks: tcp(),
        capture: vec![tcp()],
        dns: StdUdp::bind("127.0.0.1:0").unwrap(),
        processes: None,
    }
}

fn snapshot(rules: &str) -> Snapshot {
    let file = |path: &str, text: &str| PolicyFile::new(path, text);
    let source = PolicySource::new(
        "test",
        vec![file("test.cedar", rules), file("groups.toml", GROUPS)],
    );
    Snapshot::load(&source).unwrap()
}

fn facts() -> SessionFacts {
    SessionFacts {
        id: "0190b5a0-0000-7000-8000-000000000001".into(),
        user: "alice".into(),
        groups: vec!["staff".into()],
        agent: None,
        platform: "linux".into(),
        backend: Backend::Bubblewrap,
    }
}

impl House {
    /// What the proxy has counted so far.
    pub fn bytes(&self) -> Bytes {
        self.proxy.bytes()
    }

    /// Ends the session and gives back all its records.
    pub async fn end(self) -> Vec<Value> {
        self.proxy.shutdown().await;
        Self::records(&self.log)
    }

    /// Drains the session and gives back all its records.
    pub async fn drain(self, grace: Duration) -> Vec<Value> {
        self.proxy.drain(grace).await;
        Self::records(&self.log)
    }

    fn records(log: &Log) -> Vec<Value> {
        // Writes what is queued, ends of flows included.
        log.close();
        let session = facts().id;
        let records = log.session(&session).unwrap();
        records
            .iter()
            .map(|record| serde_json::to_value(record).unwrap())
            .collect()
    }

    /// Puts [`POLICY`] and further rules into force.
    pub fn forbid_too(&self, rules: &str) {
        let next = Arc::new(snapshot(&format!("{POLICY}{rules}")));
        self.policy.replace(InForce::alone(next));
    }

    /// Puts these rules into force and no others.
    pub fn govern(&self, rules: &str) {
        self.policy
            .replace(InForce::alone(Arc::new(snapshot(rules))));
    }

    /// Waits until so many flows have ended, and are in the log as ended.
    pub async fn ended(&self, count: usize) {
        let ended = async {
            loop {
                let records = self.log.session(&facts().id).unwrap();
                let closes = |record: &serde_json::Value| record["kind"] == "flow.close";
                let values = records
                    .iter()
                    .map(|record| serde_json::to_value(record).unwrap());
                if values.filter(closes).count() >= count {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        bounded(ended).await;
    }

    /// Id of its session.
    pub fn session(&self) -> String {
        facts().id
    }

    /// The same session as seen through another door.
    pub fn caller(&self) -> Caller {
        Caller::new(&self.egress, self.gate.clone())
    }

    /// One more session of this user in the same house: where its HTTP listener is, and its proxy.
    pub fn another(&self, id: String) -> (SocketAddr, SessionProxy) {
        let facts = Arc::new(SessionFacts { id, ..facts() });
        let gate = Gate::following(facts, Arc::clone(&self.policy), self.log.clone());
        let listeners = listeners();
        let http = listeners.http.local_addr().unwrap();
        (http, self.egress.attach(gate, listeners).unwrap())
    }

    /// The records of one session.
    pub fn records_of(&self, id: &str) -> Vec<Value> {
        let records = self.log.session(id).unwrap();
        records
            .iter()
            .map(|record| serde_json::to_value(record).unwrap())
            .collect()
    }

    /// Pauses the session, or lets it go on.
    pub fn pause(&self, paused: bool) {
        self.gate.pause(paused);
    }

    /// Takes the log away.
    pub fn close_log(&self) {
        self.log.close();
    }

    /// Connects to one of its listeners.
    pub async fn client(&self, listener: SocketAddr) -> TcpStream {
        connect(listener).await
    }
}

/// Decisions among records with this effect.
pub fn decisions<'a>(records: &'a [Value], effect: &str) -> Vec<&'a Value> {
    records
        .iter()
        .filter(|record| record["kind"] == "decision" && record["effect"] == effect)
        .collect()
}

/// Ends of flows among records.
pub fn flows(records: &[Value]) -> Vec<&Value> {
    let of_kind = |record: &&Value| record["kind"] == "flow.close";
    records.iter().filter(of_kind).collect()
}

#[expect(clippy::disallowed_methods, reason = "the test is the client here")]
pub async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// An HTTP origin that counts connections, and answers each request with the head it received.
pub struct Origin {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: mpsc::UnboundedReceiver<String>,
}

impl Origin {
    /// Starts one on loopback.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (seen, heads) = mpsc::unbounded_channel();
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _peer)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(answer(stream, seen.clone()));
            }
        });
        Self {
            address,
            connections,
            heads,
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections have reached it, ever. A connection is counted when it is accepted,
    /// so ask after something later has gone through or been refused.
    pub fn reached(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The next request head it saw.
    pub async fn head(&mut self) -> String {
        self.heads.recv().await.unwrap()
    }

    /// Whether no further request arrived.
    pub fn is_quiet(&mut self) -> bool {
        self.heads.try_recv().is_err()
    }
}

async fn answer(mut stream: TcpStream, seen: mpsc::UnboundedSender<String>) {
    while let Some((head, body)) = message(&mut stream).await {
        let answer = if head.starts_with("HEAD ") {
            String::new()
        } else {
            format!("{head}{}", String::from_utf8_lossy(&body))
        };
        let length = answer.len();
        let _test_over = seen.send(head);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n"
        );
        if stream.write_all((head + &answer).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// One HTTP/1 message as head and body; its body by length or chunks.
pub async fn message(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let fields = head.to_ascii_lowercase();
    let mut body = Vec::new();
    if let Some(length) = field(&fields, "content-length") {
        body.resize(length.parse().unwrap(), 0);
        stream.read_exact(&mut body).await.ok()?;
    } else if field(&fields, "transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(&line(stream).await?, 16).unwrap();
            let mut chunk = vec![0; size];
            stream.read_exact(&mut chunk).await.ok()?;
            body.extend(chunk);
            line(stream).await?;
            if size == 0 {
                break;
            }
        }
    }
    Some((head, body))
}

async fn line(stream: &mut TcpStream) -> Option<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(line).unwrap().trim_end().into())
}

/// The value of a field in a lower-cased head.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value.trim())
}

/// The id of the decision that a lower-cased head tells.
pub fn decision(head: &str) -> &str {
    let told = field(head, "x-cordon-decision").unwrap();
    let id = told.strip_prefix("id=\"").unwrap();
    id.split('"').next().unwrap()
}

/// The status of a response head.
pub fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Sends a request's bytes on a new connection and brings the response, with all that follows
/// until the proxy closes or the response is complete.
pub async fn ask(proxy: SocketAddr, request: &[u8]) -> (u16, String, String) {
    let mut stream = connect(proxy).await;
    stream.write_all(request).await.unwrap();
    let (head, body) = bounded(message(&mut stream)).await.unwrap();
    (status(&head), head, String::from_utf8_lossy(&body).into())
}

/// A GET through the proxy, as a client with `http_proxy` set sends it.
pub fn get(authority: &str, path: &str) -> Vec<u8> {
    format!("GET http://{authority}{path} HTTP/1.1\r\nhost: {authority}\r\n\r\n").into_bytes()
}

/// A SOCKS5 CONNECT with a name; gives the reply code and the stream after it.
pub async fn socks_name(proxy: SocketAddr, host: &[u8], port: u16) -> (u8, TcpStream) {
    let mut address = vec![3, u8::try_from(host.len()).unwrap()];
    address.extend(host);
    socks(proxy, 1, &address, port).await
}

/// A SOCKS5 command.
pub async fn socks(proxy: SocketAddr, command: u8, address: &[u8], port: u16) -> (u8, TcpStream) {
    let mut stream = connect(proxy).await;
    stream.write_all(&[5, 1, 0]).await.unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).await.unwrap();
    assert_eq!(method, [5, 0]);
    let mut request = vec![5, command, 0];
    request.extend(address);
    request.extend(port.to_be_bytes());
    stream.write_all(&request).await.unwrap();
    let mut reply = [0; 10];
    bounded(stream.read_exact(&mut reply)).await.unwrap();
    (reply[1], stream)
}

/// One GET over an open tunnel; proves that it leads to the origin.
pub async fn get_through(stream: &mut TcpStream) -> u16 {
    let request = b"GET /through HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let (head, _body) = bounded(message(stream)).await.unwrap();
    status(&head)
}

/// Sends a datagram and waits for its answer.
pub async fn datagram(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(to).await.unwrap();
    socket.send(bytes).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = bounded(socket.recv(&mut answer)).await.unwrap();
    answer.truncate(read);
    answer
}

/// Fails a test that would hang.
pub async fn bounded<F: Future>(future: F) -> F::Output {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(output) => output,
        Err(_elapsed) => panic!("nothing happened for 20 s"),
    }
}
