//! What was dialled is what was decided: random hosts, addresses, spellings and doors; what the
//! origins saw, what the log says and what was asked for must agree.

#![expect(clippy::indexing_slicing, reason = "a test's helpers fail loudly")]

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use proptest::{prelude::*, sample::select};
use tokio::net::TcpListener;

use crate::common::{ask, bounded, decisions, flows, get, house_from, socks_name};

/// One host of a random world.
#[derive(Clone, Debug)]
struct Place {
    /// Where its name leads: origins by number, and addresses that nobody may dial.
    origins: Vec<u8>,
    special: bool,
    allowed: bool,
}

/// One request: which host, in which spelling, by which door.
#[derive(Clone, Debug)]
struct Ask {
    host: usize,
    loud: bool,
    dot: bool,
    door: Door,
}

#[derive(Clone, Copy, Debug)]
enum Door {
    Socks,
    Connect,
    Plain,
}

const ORIGINS: u8 = 4;

fn place() -> impl Strategy<Value = Place> {
    let origins = prop::collection::btree_set(0..ORIGINS, 0..3);
    (origins, any::<bool>(), any::<bool>()).prop_map(|(origins, special, allowed)| Place {
        special: special || origins.is_empty(),
        origins: origins.into_iter().collect(),
        allowed,
    })
}

fn asks(hosts: usize) -> impl Strategy<Value = Vec<Ask>> {
    let door = select(vec![Door::Socks, Door::Connect, Door::Plain]);
    let one = (0..hosts, any::<bool>(), any::<bool>(), door);
    let one = one.prop_map(|(host, loud, dot, door)| Ask {
        host,
        loud,
        dot,
        door,
    });
    prop::collection::vec(one, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn n06_n09_what_was_dialled_is_what_was_decided(
        places in prop::collection::vec(place(), 3),
        asks in asks(3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(bounded(agree(&places, &asks)));
    }
}

async fn agree(places: &[Place], asks: &[Ask]) {
    let (port, reached) = origins().await;
    let house = house_from(&config(places), &rules(places));
    let mut expected = BTreeMap::new();
    let mut allowed = 0;
    for ask in asks {
        let place = &places[ask.host];
        let opened = bounded(open(&house, ask, port)).await;
        let leads = place.allowed && !place.origins.is_empty();
        assert_eq!(opened, leads, "{ask:?} {place:?}");
        allowed += usize::from(leads);
        let seen: Vec<u8> = std::mem::take(&mut *reached.lock().unwrap());
        assert!(
            seen.iter().all(|origin| place.origins.contains(origin)),
            "{seen:?} {place:?}"
        );
        assert!(leads || seen.is_empty(), "{seen:?} {ask:?}");
        *expected
            .entry(format!("host{}.example", ask.host))
            .or_insert(0) += 1;
    }
    let records = house.end().await;
    let mut decided = BTreeMap::new();
    let mut permitted = BTreeMap::new();
    for record in decisions(&records, "allow") {
        let host = record["net"]["host"].as_str().unwrap().to_owned();
        permitted.insert(record["id"].as_str().unwrap().to_owned(), host.clone());
        *decided.entry(host).or_insert(0) += 1;
    }
    let denied = decisions(&records, "deny");
    for record in denied
        .iter()
        .filter(|record| record["net"]["dst"].is_null())
    {
        let host = record["net"]["host"].as_str().unwrap().to_owned();
        *decided.entry(host).or_insert(0) += 1;
    }
    assert_eq!(decided, expected, "one decision each, by the one spelling");
    let ends: Vec<_> = flows(&records)
        .into_iter()
        .filter(|flow| !flow["net"]["dst"].is_null())
        .collect();
    assert_eq!(ends.len(), allowed, "{ends:?}");
    for flow in ends {
        let host = &permitted[flow["decision"].as_str().unwrap()];
        let place = &places[host[4..5].parse::<usize>().unwrap()];
        let address: IpAddr = flow["net"]["dst"].as_str().unwrap().parse().unwrap();
        assert!(
            place.origins.iter().any(|origin| at(*origin) == address),
            "{flow}"
        );
    }
}

/// Origins on addresses of their own, on one port; each notes that it was reached.
async fn origins() -> (u16, Arc<Mutex<Vec<u8>>>) {
    let reached = Arc::new(Mutex::new(Vec::new()));
    let mut port = 0;
    for origin in 0..ORIGINS {
        let listener = TcpListener::bind(SocketAddr::new(at(origin), port))
            .await
            .unwrap();
        port = listener.local_addr().unwrap().port();
        let reached = Arc::clone(&reached);
        tokio::spawn(async move {
            while let Ok((mut stream, _peer)) = listener.accept().await {
                reached.lock().unwrap().push(origin);
                tokio::spawn(async move {
                    use tokio::io::{AsyncReadExt, AsyncWriteExt};
                    let mut waste = [0; 1024];
                    while matches!(stream.read(&mut waste).await, Ok(1..)) {
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        let _gone = stream.write_all(answer).await;
                    }
                });
            }
        });
    }
    (port, reached)
}

fn at(origin: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 7, origin + 1).into()
}

fn config(places: &[Place]) -> String {
    let mut text = "[resolve]\nnameservers = [\"NAMESERVER\"]\n[resolve.overrides]\n".to_owned();
    for (index, place) in places.iter().enumerate() {
        // What nobody named comes first: to be passed over, or refused where it is alone.
        let special = place.special.then(|| "\"10.0.0.1\"".to_owned()).into_iter();
        let named = place
            .origins
            .iter()
            .map(|origin| format!("\"{}\"", at(*origin)));
        let all: Vec<String> = special.chain(named).collect();
        text.push_str(&format!("\"host{index}.example\" = [{}]\n", all.join(", ")));
    }
    for index in 0..places.len() {
        text.push_str(&format!(
            "[[network.permit_addresses]]\nhost = \"host{index}.example\"\n\
             addresses = [\"127.0.7.0/24\"]\n"
        ));
    }
    text
}

fn rules(places: &[Place]) -> String {
    let mut text = String::new();
    for (index, place) in places.iter().enumerate() {
        let effect = if place.allowed { "permit" } else { "forbid" };
        text.push_str(&format!(
            "@id(\"r{index}\") {effect} (principal, action in Action::\"network\", \
             resource in Domain::\"host{index}.example\");\n"
        ));
    }
    text
}

/// Whether it led to an origin.
async fn open(house: &crate::common::House, asked: &Ask, port: u16) -> bool {
    let mut name = format!("host{}.example", asked.host);
    if asked.loud {
        name = name.to_ascii_uppercase();
    }
    if asked.dot {
        name.push('.');
    }
    let authority = format!("{name}:{port}");
    match asked.door {
        Door::Socks => {
            let (code, mut tunnel) = socks_name(house.socks, name.as_bytes(), port).await;
            code == 0 && crate::common::get_through(&mut tunnel).await == 200
        }
        Door::Connect => {
            let request = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
            through(house, request.as_bytes()).await
        }
        Door::Plain => ask(house.http, &get(&authority, "/")).await.0 == 200,
    }
}

/// As a client of a tunnel: asks, and then the origin answers.
async fn through(house: &crate::common::House, request: &[u8]) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut client = house.client(house.http).await;
    client.write_all(request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    head.starts_with(b"HTTP/1.1 200") && crate::common::get_through(&mut client).await == 200
}
