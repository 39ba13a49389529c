//! SOCKS5.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{Origin, bounded, decisions, flows, get_through, house, socks, socks_name};

const NOT_ALLOWED: u8 = 2;
const HOST_UNREACHABLE: u8 = 4;
const CONNECTION_REFUSED: u8 = 5;
const COMMAND_NOT_SUPPORTED: u8 = 7;

#[tokio::test]
async fn names_and_literals_go_through_where_allowed() {
    let (house, origin) = (house(), Origin::start().await);
    let (code, _) = socks_name(house.socks, b"denied.example", origin.port()).await;
    assert_eq!(code, NOT_ALLOWED);
    assert_eq!(origin.reached(), 0);
    let (code, mut stream) = socks_name(house.socks, b"allowed.example", origin.port()).await;
    assert_eq!(code, 0);
    assert_eq!(get_through(&mut stream).await, 200);
    // A literal is decided as an address, and its class still counts: policy permits this one,
    // configuration does not.
    let (code, _) = socks(house.socks, 1, &[1, 127, 0, 0, 1], origin.port()).await;
    assert_eq!(code, NOT_ALLOWED);
    assert_eq!(origin.reached(), 1);
    drop(stream);
    let records = house.end().await;
    let denied = decisions(&records, "deny");
    let reasons: Vec<_> = denied.iter().map(|record| &record["reason"]).collect();
    assert_eq!(reasons, ["default_deny", "address_not_permitted"]);
    assert_eq!(flows(&records).len(), 1);
}

#[tokio::test]
async fn what_a_client_sends_before_the_reply_arrives() {
    let (house, mut origin) = (house(), Origin::start().await);
    let mut stream = house.client(house.socks).await;
    let mut bytes = vec![5, 1, 0, 5, 1, 0, 3, 15];
    bytes.extend(b"allowed.example");
    bytes.extend(origin.port().to_be_bytes());
    bytes.extend(b"GET /early HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(&bytes).await.unwrap();
    assert!(bounded(origin.head()).await.starts_with("GET /early "));
    house.end().await;
}

#[tokio::test]
async fn a_destination_that_does_not_answer_has_its_own_reply() {
    let house = house();
    let closed = {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        unused.local_addr().unwrap().port()
    };
    let (code, _) = socks_name(house.socks, b"allowed.example", closed).await;
    assert_eq!(code, CONNECTION_REFUSED);
    let records = house.end().await;
    assert_eq!(flows(&records)[0]["end"], "connect_failed");
}

#[tokio::test]
async fn n25_bind_udp_and_socks4_are_refused_with_their_code() {
    let (house, origin) = (house(), Origin::start().await);
    for command in [2, 3] {
        let (code, _) = socks(house.socks, command, &[1, 127, 0, 0, 1], origin.port()).await;
        assert_eq!(code, COMMAND_NOT_SUPPORTED, "command {command}");
    }
    let mut stream = house.client(house.socks).await;
    stream
        .write_all(&[4, 1, 0, 80, 127, 0, 0, 1, 0])
        .await
        .unwrap();
    let mut answer = Vec::new();
    bounded(stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, [0, 0x5b, 0, 0, 0, 0, 0, 0]);
    assert_eq!(origin.reached(), 0);
    let records = house.end().await;
    assert_eq!(decisions(&records, "deny").len(), 3);
}

#[tokio::test]
async fn n28_http_and_tls_on_this_listener_are_told_so() {
    let house = house();
    let mut stream = house.client(house.socks).await;
    stream
        .write_all(b"GET http://allowed.example/ HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    bounded(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("SOCKS5 listener"), "{answer}");

    let mut stream = house.client(house.socks).await;
    stream.write_all(&[0x16, 3, 1, 0, 5]).await.unwrap();
    let mut answer = Vec::new();
    bounded(stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, [0u8; 0]);
    let records = house.end().await;
    assert_eq!(decisions(&records, "deny").len(), 2);
}

#[tokio::test]
async fn a_client_without_a_method_for_no_credentials_is_refused() {
    let house = house();
    let mut stream = house.client(house.socks).await;
    stream.write_all(&[5, 1, 2]).await.unwrap();
    let mut answer = Vec::new();
    bounded(stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, [5, 0xff]);
    let records = house.end().await;
    assert_eq!(decisions(&records, "deny").len(), 1);
}

#[tokio::test]
async fn an_allowed_name_that_does_not_resolve_has_its_own_reply() {
    let house = house();
    let (code, _) = socks_name(house.socks, b"nowhere.allowed.example", 80).await;
    assert_eq!(code, HOST_UNREACHABLE);
    let records = house.end().await;
    assert_eq!(decisions(&records, "allow").len(), 1);
    assert_eq!(flows(&records)[0]["end"], "resolve_failed");
}
