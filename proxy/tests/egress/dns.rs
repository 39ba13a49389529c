//! The DNS responder.

use std::{net::Ipv4Addr, str::FromStr};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, RecordType},
};

use crate::common::{House, bounded, datagram, decisions, house};

async fn look_up(house: &House, name: Name, kind: RecordType) -> Message {
    let mut query = Message::new(4711, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name, kind));
    exchange(house, &query).await
}

async fn exchange(house: &House, query: &Message) -> Message {
    let answer = datagram(house.dns, &query.to_vec().unwrap()).await;
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(answer.metadata.id, query.metadata.id);
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    answer
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn address(message: &Message) -> Option<Ipv4Addr> {
    match message.answers.first()?.data {
        RData::A(address) => Some(address.0),
        _ => None,
    }
}

#[tokio::test]
async fn n11_any_name_has_an_address_of_its_own_and_nobody_is_asked() {
    let house = house();
    let mut seen = Vec::new();
    for host in [
        "allowed.example.",
        "denied.example.",
        "c2VjcmV0.evil.example.",
    ] {
        let answer = look_up(&house, name(host), RecordType::A).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        let address = address(&answer).unwrap();
        assert_eq!(&address.octets()[..2], [198, 18], "{host}");
        assert!(!seen.contains(&address), "{host}");
        seen.push(address);
    }
    // The same name in another spelling is the same name.
    let again = look_up(&house, name("ALLOWED.Example."), RecordType::A).await;
    assert_eq!(address(&again), Some(seen[0]));
    assert!(house.nameserver.asked().is_empty());
    // Looking up is not asking for anything: there is nothing to decide yet.
    let records = house.end().await;
    assert!(decisions(&records, "deny").is_empty());
}

#[tokio::test]
async fn other_types_have_no_data_and_reverse_names_are_known() {
    let house = house();
    let forward = look_up(&house, name("allowed.example."), RecordType::A).await;
    for kind in [
        RecordType::AAAA,
        RecordType::HTTPS,
        RecordType::MX,
        RecordType::TXT,
    ] {
        let answer = look_up(&house, name("allowed.example."), kind).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert!(answer.answers.is_empty(), "{kind}");
    }
    let reverse = Name::from(std::net::IpAddr::V4(address(&forward).unwrap()));
    let answer = look_up(&house, reverse, RecordType::PTR).await;
    assert!(
        matches!(&answer.answers[0].data, RData::PTR(host) if host.0 == name("allowed.example."))
    );
    for unknown in [
        "8.8.8.8.in-addr.arpa.",
        "9.0.18.198.in-addr.arpa.",
        "18.198.in-addr.arpa.",
    ] {
        let answer = look_up(&house, name(unknown), RecordType::PTR).await;
        assert_eq!(
            answer.metadata.response_code,
            ResponseCode::NXDomain,
            "{unknown}"
        );
    }
    house.end().await;
}

#[tokio::test]
async fn localhost_is_the_sessions_own() {
    let house = house();
    for host in ["localhost.", "x.LOCALHOST."] {
        let answer = look_up(&house, name(host), RecordType::A).await;
        assert_eq!(address(&answer), Some(Ipv4Addr::LOCALHOST), "{host}");
    }
    house.end().await;
}

#[tokio::test]
async fn n02_n05_names_that_are_no_hosts_do_not_exist() {
    let house = house();
    let labels: [&[&[u8]]; 5] = [
        &[b"evil\0", b"allowed", b"example"],
        &[b"evil.com", b"allowed", b"example"],
        &[b"127", b"1"],
        &[b"a b", b"example"],
        &[b"\xff", b"example"],
    ];
    for labels in labels {
        let mut bad = Name::from_labels(labels.iter().copied()).unwrap();
        bad.set_fqdn(true);
        let answer = look_up(&house, bad, RecordType::A).await;
        assert_eq!(
            answer.metadata.response_code,
            ResponseCode::NXDomain,
            "{labels:?}"
        );
        assert!(answer.answers.is_empty());
    }
    let records = house.end().await;
    assert_eq!(decisions(&records, "deny").len(), labels.len());
}

#[tokio::test]
async fn odd_messages_get_an_error_or_nothing() {
    let house = house();
    let mut none = Message::new(1, MessageType::Query, OpCode::Query);
    assert_eq!(
        exchange(&house, &none).await.metadata.response_code,
        ResponseCode::FormErr
    );
    none.metadata.op_code = OpCode::Status;
    assert_eq!(
        exchange(&house, &none).await.metadata.response_code,
        ResponseCode::NotImp
    );
    let mut chaos = Query::query(name("version.bind."), RecordType::TXT);
    chaos.set_query_class(DNSClass::CH);
    let mut query = Message::new(2, MessageType::Query, OpCode::Query);
    query.add_query(chaos);
    assert_eq!(
        exchange(&house, &query).await.metadata.response_code,
        ResponseCode::NotImp
    );

    // Neither garbage nor a response is answered; a query behind them is.
    let mut response = Message::new(3, MessageType::Response, OpCode::Query);
    response.add_query(Query::query(name("allowed.example."), RecordType::A));
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(house.dns).await.unwrap();
    let mut good = Message::new(4, MessageType::Query, OpCode::Query);
    good.add_query(Query::query(
        Name::from_str("allowed.example.").unwrap(),
        RecordType::A,
    ));
    for bytes in [
        b"\xff".to_vec(),
        vec![0; cordon_proxy::limits::DNS_QUERY_BYTES + 1],
        response.to_vec().unwrap(),
        good.to_vec().unwrap(),
    ] {
        socket.send(&bytes).await.unwrap();
    }
    let mut buffer = [0; 512];
    let read = bounded(socket.recv(&mut buffer)).await.unwrap();
    assert_eq!(Message::from_vec(&buffer[..read]).unwrap().metadata.id, 4);
    house.end().await;
}
