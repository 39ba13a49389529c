//! N12: what a tunnel's handshake says, held against what was decided, before the destination hears
//! a byte.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::{
    common::{House, bounded, connect, decisions, flows, house_under, message, socks_name, status},
    trust,
};

const PERMIT: &str = r#"
@id("network")
permit (principal, action in Action::"network", resource in HostGroup::"lab");
@id("literal")
permit (principal, action in Action::"network", resource == Address::"127.0.0.1");
"#;

/// [`PERMIT`] with an annotation on its first rule.
fn permit_with(annotation: &str) -> String {
    PERMIT.replacen("@id(\"network\")", &format!("@id(\"network\") {annotation}"), 1)
}

/// An origin that says what it hears: each piece of bytes, of any connection.
struct Ear {
    port: u16,
    heard: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Ear {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (says, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let says = says.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 * 1024];
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        let _test_over = says.send(buffer[..read].to_vec());
                        if stream.write_all(b"heard").await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, heard }
    }

    /// All that it heard so far.
    fn all(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Ok(piece) = self.heard.try_recv() {
            all.extend(piece);
        }
        all
    }

    /// A house in which TLS is expected on this origin's port.
    fn expected(&self, rules: &str) -> House {
        house_under(rules, &format!("\n[tls]\nports = [{}]\n", self.port))
    }
}

/// An open tunnel to `lab.example`, by CONNECT.
async fn tunnel(house: &House, port: u16) -> TcpStream {
    let mut stream = connect(house.http).await;
    let request = format!("CONNECT lab.example:{port} HTTP/1.1\r\nhost: lab.example:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let (head, _) = bounded(message(&mut stream)).await.unwrap();
    assert_eq!(status(&head), 200, "{head}");
    stream
}

/// What a real client says first that asks for `name`.
fn hello(name: &str) -> Vec<u8> {
    let root = trust::Authority::new().certificate();
    let config = trust::client(root, &[b"h2", b"http/1.1"]);
    let name = name.to_owned().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(config, name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// A hello in one record with this extension beside the server name.
fn hello_with(name: &str, kind: u16, data: &[u8]) -> Vec<u8> {
    let mut names = vec![0];
    names.extend(vector(name.as_bytes()));
    let mut list = Vec::new();
    for (kind, data) in [(0, vector(&names)), (kind, data.to_vec())] {
        list.extend(u16::to_be_bytes(kind));
        list.extend(vector(&data));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(vector(&list));
    let mut message = vec![1, 0];
    message.extend(vector(&body));
    let mut record = vec![22, 3, 1];
    record.extend(vector(&message));
    record
}

fn vector(bytes: &[u8]) -> Vec<u8> {
    let mut vector = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    vector.extend(bytes);
    vector
}

/// The same handshake message in records of one byte.
fn in_pieces(record: &[u8]) -> Vec<u8> {
    let bytes = record[5..].iter();
    bytes.flat_map(|byte| [22, 3, 1, 0, 1, *byte]).collect()
}

const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// Says `bytes` in the tunnel and expects them at the origin.
async fn goes_through(mut stream: TcpStream, ear: &mut Ear, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    let mut answer = [0; 5];
    bounded(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"heard");
    drop(stream);
    let heard = ear.all();
    assert!(bytes.starts_with(&heard) && !heard.is_empty(), "{heard:?}");
}

/// Says `bytes` in the tunnel and expects an alert, and nothing at the origin.
async fn is_refused(mut stream: TcpStream, ear: &mut Ear, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    bounded(stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, ACCESS_DENIED);
    assert_eq!(ear.all(), b"");
}

async fn reasons(house: House) -> Vec<String> {
    let records = house.end().await;
    let reason = |record: &&Value| record["reason"].as_str().unwrap().to_owned();
    decisions(&records, "deny").iter().map(reason).collect()
}

#[tokio::test]
async fn n12_a_server_name_other_than_the_decided_host_is_refused_at_every_door() {
    let mut ear = Ear::start().await;
    let house = ear.expected(PERMIT);
    for (name, allowed) in [
        ("lab.example", true),
        ("forbidden.example", false),
        ("x.lab.example", false),
        ("lab.example.evil.test", false),
    ] {
        for hello in [hello(name), in_pieces(&hello(name))] {
            let by_connect = tunnel(&house, ear.port).await;
            let (code, by_socks) = socks_name(house.socks, b"lab.example", ear.port).await;
            assert_eq!(code, 0);
            for stream in [by_connect, by_socks] {
                if allowed {
                    goes_through(stream, &mut ear, &hello).await;
                } else {
                    is_refused(stream, &mut ear, &hello).await;
                }
            }
        }
    }
    let records = house.end().await;
    let denied = decisions(&records, "deny");
    assert_eq!(denied.len(), 12);
    for record in denied {
        assert_eq!(record["reason"], "tls_mismatch");
        assert!(record["net"]["sni"].as_str().unwrap().ends_with(".example") 
            || record["net"]["sni"] == "lab.example.evil.test");
    }
    // What went through ended with what its handshake showed.
    let flows = flows(&records);
    assert_eq!(flows.len(), 4, "{flows:?}");
    assert_eq!(flows[0]["net"]["sni"], "lab.example");
    assert_eq!(flows[0]["net"]["tls"]["alpn"][0], "h2");
}

#[tokio::test]
async fn n12_a_handshake_is_looked_at_on_any_port() {
    let mut ear = Ear::start().await;
    let house = house_under(PERMIT, "");
    is_refused(tunnel(&house, ear.port).await, &mut ear, &hello("b.example")).await;
    is_refused(tunnel(&house, ear.port).await, &mut ear, &in_pieces(&hello("b.example"))).await;
    goes_through(tunnel(&house, ear.port).await, &mut ear, &hello("lab.example")).await;
    // And what is no TLS goes on as it is.
    goes_through(tunnel(&house, ear.port).await, &mut ear, b"hello there").await;
    assert_eq!(reasons(house).await, ["tls_mismatch", "tls_mismatch"]);
}

#[tokio::test]
async fn n12_no_server_name_is_refused_unless_a_permit_accepts_it() {
    let mut ear = Ear::start().await;
    // By an address a client asks for no name.
    let nameless = hello("127.0.0.1");
    let house = ear.expected(PERMIT);
    is_refused(tunnel(&house, ear.port).await, &mut ear, &nameless).await;
    assert_eq!(reasons(house).await, ["tls_hidden"]);

    let house = ear.expected(&permit_with("@tls(\"no-sni\")"));
    goes_through(tunnel(&house, ear.port).await, &mut ear, &nameless).await;
    // Accepted is no name, not another one.
    is_refused(tunnel(&house, ear.port).await, &mut ear, &hello("b.example")).await;
    assert_eq!(reasons(house).await, ["tls_mismatch"]);
}

#[tokio::test]
async fn n12_an_encrypted_hello_is_refused_unless_a_permit_accepts_it() {
    let mut ear = Ear::start().await;
    let outer = hello_with("lab.example", 0xfe0d, &[0, 0, 1, 0, 1, 9, 0, 0, 0, 1, 7]);
    let plain = hello_with("lab.example", 0x0015, &[0, 0]);
    let house = ear.expected(PERMIT);
    is_refused(tunnel(&house, ear.port).await, &mut ear, &outer).await;
    goes_through(tunnel(&house, ear.port).await, &mut ear, &plain).await;
    assert_eq!(reasons(house).await, ["tls_hidden"]);

    let house = ear.expected(&permit_with("@tls(\"ech\")"));
    goes_through(tunnel(&house, ear.port).await, &mut ear, &outer).await;
    let fronted = hello_with("front.example", 0xfe0d, &[0]);
    is_refused(tunnel(&house, ear.port).await, &mut ear, &fronted).await;
    assert_eq!(reasons(house).await, ["tls_mismatch"]);
}

#[tokio::test]
async fn n12_what_is_not_tls_is_refused_where_tls_is_expected() {
    let mut ear = Ear::start().await;
    let house = ear.expected(PERMIT);
    let mut stream = tunnel(&house, ear.port).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: secret.example\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let error = bounded(stream.read_to_end(&mut answer)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(ear.all(), b"");
    assert_eq!(reasons(house).await, ["not_tls"]);

    let house = ear.expected(&permit_with("@tls(\"not-tls\")"));
    goes_through(tunnel(&house, ear.port).await, &mut ear, b"SSH-2.0-x\r\n").await;
    assert!(reasons(house).await.is_empty());
}

#[tokio::test]
async fn n28_a_broken_hello_is_refused_whatever_is_accepted() {
    let mut ear = Ear::start().await;
    let house = ear.expected(&permit_with("@tls(\"no-sni,ech,not-tls\")"));
    let twice = hello_with("lab.example", 0, &[0]);
    is_refused(tunnel(&house, ear.port).await, &mut ear, &twice).await;
    // One that never becomes whole.
    let mut stream = tunnel(&house, ear.port).await;
    stream.write_all(&hello("lab.example")[..60]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    bounded(stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, ACCESS_DENIED);
    assert_eq!(ear.all(), b"");
    assert_eq!(reasons(house).await, ["malformed", "malformed"]);
}

#[tokio::test]
async fn n12_rules_decide_by_what_the_handshake_shows() {
    let mut ear = Ear::start().await;
    let rules = format!(
        "{PERMIT}\n@id(\"no-h2\") @reason(\"one protocol at a time\")\n\
         forbid (principal, action == Action::\"connect\", resource)\n\
         when {{ context has tls && context.tls.alpn.contains(\"h2\") }};"
    );
    let house = ear.expected(&rules);
    is_refused(tunnel(&house, ear.port).await, &mut ear, &hello("lab.example")).await;
    let plain = hello_with("lab.example", 0x0015, &[0, 0]);
    goes_through(tunnel(&house, ear.port).await, &mut ear, &plain).await;
    let records = house.end().await;
    let denied = decisions(&records, "deny");
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0]["rules"][0], "no-h2");
    assert_eq!(denied[0]["net"]["tls"]["alpn"][0], "h2");
}

#[tokio::test]
async fn a_destination_that_speaks_first_is_not_kept_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let house = house_under(PERMIT, "");
    let mut stream = tunnel(&house, port).await;
    let (mut origin, _) = bounded(listener.accept()).await.unwrap();
    origin.write_all(b"220 ready").await.unwrap();
    let mut greeting = [0; 9];
    bounded(stream.read_exact(&mut greeting)).await.unwrap();
    stream.write_all(b"EHLO").await.unwrap();
    let mut command = [0; 4];
    bounded(origin.read_exact(&mut command)).await.unwrap();
    assert_eq!(&command, b"EHLO");
    house.end().await;
}

#[tokio::test]
async fn n19_a_rule_about_the_handshake_ends_an_open_tunnel() {
    let mut ear = Ear::start().await;
    let house = ear.expected(PERMIT);
    let mut stream = tunnel(&house, ear.port).await;
    stream.write_all(&hello("lab.example")).await.unwrap();
    let mut answer = [0; 5];
    bounded(stream.read_exact(&mut answer)).await.unwrap();
    assert!(!ear.all().is_empty());
    house.govern(&format!(
        "{PERMIT}\nforbid (principal, action, resource)\n\
         when {{ context has tls && context.tls.alpn.contains(\"h2\") }};"
    ));
    let mut rest = Vec::new();
    let error = bounded(stream.read_to_end(&mut rest)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(reasons(house).await, ["rule"]);
}
