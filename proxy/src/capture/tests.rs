//! Captured connections, with original destinations that the test names.

#[expect(dead_code, reason = "shared with the integration tests")]
#[path = "../../tests/common/mod.rs"]
mod common;

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RData, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use self::common::{House, Origin, bounded, datagram, decisions, flows, get_through, house_with};
use crate::accept::SessionProxy;

/// Where each client, by its own address, was going.
static MEANT_FOR: Mutex<Option<HashMap<SocketAddr, SocketAddr>>> = Mutex::new(None);

fn meant_for(stream: &TcpStream) -> io::Result<SocketAddr> {
    let client = stream.peer_addr()?;
    let known = MEANT_FOR.lock().unwrap();
    let destination = known.as_ref().and_then(|known| known.get(&client).copied());
    destination.ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn house() -> House {
    house_with(|egress, gate, listeners| {
        SessionProxy::start_with(Arc::clone(egress), gate, listeners, meant_for).unwrap()
    })
}

fn note(client: SocketAddr, destination: SocketAddr) {
    let mut known = MEANT_FOR.lock().unwrap();
    known.get_or_insert_default().insert(client, destination);
}

/// Connects as a program in the session does whose connection is captured.
async fn captured(house: &House, destination: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let client = socket.local_addr().unwrap();
    note(client, destination);
    socket.connect(house.capture).await.unwrap()
}

async fn look_up(house: &House, name: &str) -> Ipv4Addr {
    let mut query = Message::new(1, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    let answer = datagram(house.dns, &query.to_vec().unwrap()).await;
    match Message::from_vec(&answer).unwrap().answers[0].data {
        RData::A(address) => address.0,
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_captured_connection_is_decided_by_its_name() {
    let (house, origin) = (house(), Origin::start().await);
    let denied = look_up(&house, "denied.example.").await;
    let mut stream = captured(&house, (denied, origin.port()).into()).await;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    bounded(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 403 Denied by cordon: default_deny\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("denied: connection to denied.example"),
        "{answer}"
    );
    assert!(answer.contains("x-cordon-decision: "), "{answer}");
    assert_eq!(origin.reached(), 0);

    let allowed = look_up(&house, "allowed.example.").await;
    let mut stream = captured(&house, (allowed, origin.port()).into()).await;
    assert_eq!(get_through(&mut stream).await, 200);
    drop(stream);
    let records = house.end().await;
    assert_eq!(decisions(&records, "allow").len(), 1);
    assert_eq!(decisions(&records, "deny").len(), 1);
    assert_eq!(flows(&records).len(), 1);
}

#[tokio::test]
async fn a_refusal_speaks_the_clients_protocol() {
    let house = house();
    let denied = look_up(&house, "forbidden.example.").await;
    let hello = [0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3];
    let mut stream = captured(&house, (denied, 443).into()).await;
    stream.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    bounded(stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 49]);

    let mut stream = captured(&house, (denied, 22).into()).await;
    stream.write_all(b"SSH-2.0-test\r\n").await.unwrap();
    let mut answer = Vec::new();
    bounded(stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"SSH-2.0-"));
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("forbidden.example:22"), "{text:?}");
    assert!(
        text.contains("no-forbidden: this host is known to be bad"),
        "{text:?}"
    );

    // Nothing said, or nothing known: a reset at once, never a wait without an end.
    for bytes in [b"".as_slice(), b"\0\0\0\x08\x04\xd2\x16\x2f"] {
        let mut stream = captured(&house, (denied, 5432).into()).await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let error = bounded(stream.read_to_end(&mut answer)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    house.end().await;
}

#[tokio::test]
async fn n05_n09_literals_are_decided_as_addresses_and_classified() {
    let (house, origin) = (house(), Origin::start().await);
    let port = origin.port();
    let table: [(SocketAddr, &str); 5] = [
        // Not permitted at all.
        (([203, 0, 113, 7], port).into(), "default_deny"),
        // Permitted by policy, of special use, not named in configuration.
        (([127, 0, 0, 1], port).into(), "address_not_permitted"),
        (([169, 254, 169, 254], 80).into(), "address_not_permitted"),
        (
            "[::ffff:169.254.169.254]:80".parse().unwrap(),
            "address_not_permitted",
        ),
        // A synthetic address that nobody asked for.
        (([198, 18, 77, 77], port).into(), "malformed"),
    ];
    for (destination, _) in table {
        let mut stream = captured(&house, destination).await;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        bounded(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 40"), "{destination}: {answer}");
    }
    assert_eq!(origin.reached(), 0);
    let records = house.end().await;
    let reasons: Vec<_> = decisions(&records, "deny")
        .into_iter()
        .map(|record| record["reason"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(reasons, table.map(|(_, reason)| reason));
}

#[tokio::test]
async fn n13_the_same_rule_decides_as_for_a_proxied_request() {
    let (house, origin) = (house(), Origin::start().await);
    let allowed = look_up(&house, "lab.example.").await;
    let mut stream = captured(&house, (allowed, origin.port()).into()).await;
    assert_eq!(get_through(&mut stream).await, 200);
    let (code, mut proxied) = common::socks_name(house.socks, b"lab.example", origin.port()).await;
    assert_eq!(code, 0);
    assert_eq!(get_through(&mut proxied).await, 200);
    drop((stream, proxied));
    let records = house.end().await;
    let allowed = decisions(&records, "allow");
    assert_eq!(allowed.len(), 2);
    assert_eq!(allowed[0]["rules"], allowed[1]["rules"]);
    assert_eq!(allowed[0]["resource"], allowed[1]["resource"]);
}

#[tokio::test]
async fn n13_a_forbidden_method_is_refused_inside_a_captured_connection() {
    let (house, mut origin) = (house(), Origin::start().await);
    house.forbid_too(
        "@id(\"no-writing\") forbid (principal, action == Action::\"http_write\", resource);",
    );
    let allowed = look_up(&house, "allowed.example.").await;
    let mut stream = captured(&house, (allowed, origin.port()).into()).await;
    let host = format!("host: allowed.example:{}\r\n", origin.port());
    for (method, expected) in [("GET", 200), ("POST", 403)] {
        let request = format!("{method} / HTTP/1.1\r\n{host}content-length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, _) = bounded(common::message(&mut stream)).await.unwrap();
        assert_eq!(common::status(&head), expected, "{head}");
    }
    drop(stream);
    assert!(origin.head().await.starts_with("GET / "));
    assert!(origin.is_quiet());
    let records = house.end().await;
    assert_eq!(decisions(&records, "deny").len(), 1);
}

#[tokio::test]
async fn n26_connecting_to_the_capture_itself_leads_nowhere() {
    let house = house();
    let own = house.capture;
    // Its own address as the destination, and no destination known at all.
    let direct = common::connect(own).await;
    for mut stream in [captured(&house, own).await, direct] {
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        bounded(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    let records = house.end().await;
    assert_eq!(decisions(&records, "deny").len(), 2);
}

#[tokio::test]
async fn the_kernel_knows_no_destination_of_what_was_not_redirected() {
    let house = house_with(|egress, gate, listeners| egress.attach(gate, listeners).unwrap());
    let mut stream = common::connect(house.capture).await;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    bounded(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    house.end().await;
}
