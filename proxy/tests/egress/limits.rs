//! Every bound that can be configured: what ends at it, with what words, and what is let through
//! right beside it (N24).

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use cordon_proxy::{Caller, Callers, Credentials, Door, DoorSocket, Gateway, Stranger};
use cordon_session::config::{Claim, Speaks};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::common::{
    House, Origin, ask, bounded, decisions, flows, get, get_through, house_plus, message,
    socks_name, status,
};

fn limited(limits: &str) -> House {
    house_plus(&format!("[limits]\n{limits}"), "")
}

/// An origin that accepts and says nothing; gives back what it accepted.
async fn silent() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn n24_a_slow_head_ends_at_its_deadline() {
    let (house, origin) = (limited("head_seconds = 0.2\n"), Origin::start().await);
    let target = format!("allowed.example:{}", origin.port());
    let mut slow = house.client(house.http).await;
    slow.write_all(b"GET http://allowed.example/ HTTP/1.1\r\nhost:")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let _reset = bounded(slow.read_to_end(&mut rest)).await;
    // A whole head at once is answered.
    assert_eq!(ask(house.http, &get(&target, "/")).await.0, 200);
    let records = house.end().await;
    let denied = decisions(&records, "deny");
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert!(
        denied[0].to_string().contains("not complete within 0.2 s"),
        "{denied:?}"
    );
    assert_eq!(origin.reached(), 1);
}

#[tokio::test]
async fn n24_a_body_that_stalls_ends_with_the_idle_time() {
    let (house, (listener, port)) = (limited("idle_seconds = 0.2\n"), silent().await);
    let mut client = house.client(house.http).await;
    let head = format!(
        "POST http://allowed.example:{port}/ HTTP/1.1\r\nhost: allowed.example:{port}\r\n\
         content-length: 100\r\n\r\nhalf"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let (_held, _) = bounded(listener.accept()).await.unwrap();
    let mut rest = Vec::new();
    let _reset = bounded(client.read_to_end(&mut rest)).await;
    // One that arrives in time is carried.
    let origin = Origin::start().await;
    let target = format!("allowed.example:{}", origin.port());
    let whole = format!(
        "POST http://{target}/ HTTP/1.1\r\nhost: {target}\r\ncontent-length: 4\r\n\r\nbody"
    );
    assert_eq!(ask(house.http, whole.as_bytes()).await.0, 200);
    let records = house.end().await;
    assert_ne!(flows(&records)[0]["end"], "completed");
}

#[tokio::test]
async fn n24_a_tunnel_ends_when_nothing_moves_and_when_its_life_is_over() {
    for (limits, end) in [
        ("idle_seconds = 0.2\n", "timed_out"),
        ("flow_seconds = 0.3\n", "limit"),
    ] {
        let (house, origin) = (limited(limits), Origin::start().await);
        let (code, mut tunnel) = socks_name(house.socks, b"allowed.example", origin.port()).await;
        assert_eq!(code, 0);
        assert_eq!(get_through(&mut tunnel).await, 200);
        let mut rest = Vec::new();
        let _reset = bounded(tunnel.read_to_end(&mut rest)).await;
        let records = house.end().await;
        assert_eq!(flows(&records)[0]["end"], end, "{limits}");
        let refusals = decisions(&records, "deny");
        if end == "limit" {
            assert_eq!(refusals[0]["reason"], "limit");
            assert!(
                refusals[0].to_string().contains("limits.flow_seconds"),
                "{refusals:?}"
            );
        } else {
            assert!(refusals.is_empty());
        }
    }
}

#[tokio::test]
async fn n24_an_origin_that_never_answers_is_given_up() {
    let (house, (listener, port)) = (limited("response_seconds = 0.2\n"), silent().await);
    let request = get(&format!("allowed.example:{port}"), "/");
    let asked = ask(house.http, &request);
    let ((code, _, _), _held) = tokio::join!(asked, listener.accept());
    assert_eq!(code, 504);
    let records = house.end().await;
    assert_eq!(flows(&records)[0]["end"], "timed_out");
}

#[tokio::test]
async fn n24_a_client_that_left_is_not_waited_for() {
    // The default of response and idle time are far beyond what the test waits.
    let (house, (listener, port)) = (limited("half_closed_seconds = 0.3\n"), silent().await);
    let request = get(&format!("allowed.example:{port}"), "/");
    // Also where more was sent than has been read: a pipelined request, half a head.
    for (more, with_reset) in [("", false), ("GET http://x", false), ("", true)] {
        let mut client = house.client(house.http).await;
        client.write_all(&request).await.unwrap();
        let (mut origin, _) = bounded(listener.accept()).await.unwrap();
        assert!(message(&mut origin).await.is_some());
        client.write_all(more.as_bytes()).await.unwrap();
        if with_reset {
            let zero = Some(Duration::ZERO);
            socket2::SockRef::from(&client).set_linger(zero).unwrap();
        }
        drop(client);
        // The origin is let go of too.
        let left = bounded(origin.read(&mut [0])).await;
        assert!(!matches!(left, Ok(1)), "{more:?}");
    }
    // One that ended its side and still listens is answered within that time.
    let mut patient = house.client(house.http).await;
    patient.write_all(&request).await.unwrap();
    patient.shutdown().await.unwrap();
    let (mut origin, _) = bounded(listener.accept()).await.unwrap();
    assert!(message(&mut origin).await.is_some());
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    origin.write_all(answer).await.unwrap();
    let (head, body) = bounded(message(&mut patient)).await.unwrap();
    assert_eq!((status(&head), body.as_slice()), (200, b"ok".as_slice()));
    let records = house.end().await;
    let ends: Vec<_> = flows(&records)
        .iter()
        .map(|flow| flow["end"].clone())
        .collect();
    assert_eq!(ends, ["reset", "reset", "reset", "completed"]);
}

#[tokio::test]
async fn n24_a_reset_ends_the_request_at_once() {
    // Nothing but the reset can end it within this test.
    let (house, (listener, port)) = (limited("half_closed_seconds = 3600\n"), silent().await);
    let mut client = house.client(house.http).await;
    let request = get(&format!("allowed.example:{port}"), "/");
    client.write_all(&request).await.unwrap();
    let (mut origin, _) = bounded(listener.accept()).await.unwrap();
    assert!(message(&mut origin).await.is_some());
    let zero = Some(Duration::ZERO);
    socket2::SockRef::from(&client).set_linger(zero).unwrap();
    drop(client);
    let left = bounded(origin.read(&mut [0])).await;
    assert!(!matches!(left, Ok(1)));
    assert_eq!(flows(&house.end().await)[0]["end"], "reset");
}

/// Everybody is the same caller.
#[derive(Debug)]
struct Everybody(Caller);

impl Callers for Everybody {
    fn asks(&self, _claim: &Claim) -> bool {
        false
    }

    fn identify<'a>(
        &'a self,
        _claim: &'a Claim,
        _credentials: Option<&'a Credentials>,
    ) -> Pin<Box<dyn Future<Output = Result<Caller, Stranger>> + Send + 'a>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

/// A gateway with one door, to which everybody is this caller.
fn for_everybody(caller: &Caller) -> (Gateway, SocketAddr) {
    let door = Door {
        name: "door".into(),
        socket: DoorSocket::Tcp(std::net::TcpListener::bind("127.0.0.1:0").unwrap()),
        speaks: Speaks::Mixed,
        tls: None,
        proxy_protocol_from: Vec::new(),
    };
    let everybody = Arc::new(Everybody(caller.clone()));
    let gateway = Gateway::start(vec![door], everybody, caller).unwrap();
    let address = gateway.addresses().first().unwrap().1.unwrap();
    (gateway, address)
}

#[tokio::test]
async fn n24_connections_of_a_gateways_caller_are_bounded() {
    let (house, origin) = (limited("connections = 2\n"), Origin::start().await);
    let caller = house.caller();
    let (gateway, address) = for_everybody(&caller);
    let request = get(&format!("allowed.example:{}", origin.port()), "/");
    // A kept connection and a tunnel are two, and each has its place until it ends.
    let mut kept = house.client(address).await;
    kept.write_all(&request).await.unwrap();
    assert!(bounded(message(&mut kept)).await.is_some());
    let (code, mut tunnel) = socks_name(address, b"allowed.example", origin.port()).await;
    assert_eq!((code, get_through(&mut tunnel).await), (0, 200));
    let (code, _, body) = ask(address, &request).await;
    assert_eq!(code, 503, "{body}");
    assert!(body.contains("limits.connections"), "{body}");
    let (code, _) = socks_name(address, b"allowed.example", origin.port()).await;
    assert_ne!(code, 0);
    assert_eq!(origin.reached(), 2);
    kept.write_all(&request).await.unwrap();
    assert!(bounded(message(&mut kept)).await.is_some());
    // One leaves, and there is room again.
    drop(kept);
    house.ended(2).await;
    while ask(address, &request).await.0 == 503 {}
    drop(tunnel);
    assert!(gateway.drain(vec![caller], Duration::from_secs(10)).await);
    let records = house.end().await;
    assert!(
        decisions(&records, "deny")
            .iter()
            .all(|deny| deny["reason"] == "limit")
    );
}

#[tokio::test]
async fn n24_who_never_says_who_they_are_keeps_nobody_out() {
    let (house, origin) = (limited("connections_per_node = 8\n"), Origin::start().await);
    let caller = house.caller();
    let (gateway, address) = for_everybody(&caller);
    let request = get(&format!("allowed.example:{}", origin.port()), "/");
    let mut kept = house.client(address).await;
    kept.write_all(&request).await.unwrap();
    assert!(bounded(message(&mut kept)).await.is_some());
    let mut silent = Vec::new();
    for _stranger in 0..20 {
        silent.push(house.client(address).await);
    }
    assert_eq!(ask(address, &request).await.0, 200, "a new connection");
    kept.write_all(&request).await.unwrap();
    assert!(
        bounded(message(&mut kept)).await.is_some(),
        "one that is known"
    );
    // The oldest were put out, and the newest has its place.
    let mut newest = silent.pop().unwrap();
    for mut old in silent.drain(..18) {
        let left = bounded(old.read(&mut [0])).await;
        assert!(!matches!(left, Ok(1)));
    }
    newest.write_all(&request).await.unwrap();
    assert!(bounded(message(&mut newest)).await.is_some());
    drop((kept, newest, silent));
    assert!(gateway.drain(vec![caller], Duration::from_secs(10)).await);
    house.end().await;
}

#[tokio::test]
async fn n24_a_budget_of_bytes_ends_flows_and_says_so() {
    let table = [
        ("bytes_in_per_session = 300\n", true),
        ("bytes_out_per_session = 300\n", true),
        ("bytes_in_per_destination = 300\n", false),
        ("bytes_out_per_destination = 300\n", false),
    ];
    for (limits, whole_session) in table {
        let (house, origin) = (limited(limits), Origin::start().await);
        let (other, port) = (Origin::start().await, origin.port());
        let (code, mut tunnel) = socks_name(house.socks, b"allowed.example", port).await;
        assert_eq!(code, 0);
        // Under the budget everything goes through.
        assert_eq!(get_through(&mut tunnel).await, 200, "{limits}");
        let much = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(400));
        tunnel.write_all(much.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _reset = bounded(tunnel.read_to_end(&mut rest)).await;

        // What comes after is refused, with the limit's name.
        let again = ask(house.http, &get(&format!("allowed.example:{port}"), "/")).await;
        assert_eq!(again.0, 503, "{limits}: {}", again.2);
        let key = limits.split(' ').next().unwrap();
        assert!(again.2.contains(key), "{limits}: {}", again.2);
        // Another destination has its own budget, and the session's is for all.
        let elsewhere = get(&format!("lab.example:{}", other.port()), "/");
        let expected = if whole_session { 503 } else { 200 };
        assert_eq!(ask(house.http, &elsewhere).await.0, expected, "{limits}");

        let records = house.end().await;
        assert_eq!(flows(&records)[0]["end"], "limit", "{limits}");
        let refusals = decisions(&records, "deny");
        assert_eq!(refusals.len(), if whole_session { 3 } else { 2 });
        assert!(refusals.iter().all(|refusal| refusal["reason"] == "limit"));
    }
}

#[tokio::test]
async fn n24_a_budget_that_is_used_up_holds_on_a_kept_connection_too() {
    let (house, origin) = (
        limited("bytes_in_per_session = 300\n"),
        Origin::start().await,
    );
    let target = format!("allowed.example:{}", origin.port());
    let mut client = house.client(house.http).await;
    let mut codes = Vec::new();
    for _request in 0..4 {
        client.write_all(&get(&target, "/")).await.unwrap();
        let Some((head, _)) = bounded(message(&mut client)).await else {
            break;
        };
        codes.push(status(&head));
    }
    assert_eq!(codes.first(), Some(&200));
    assert_eq!(codes.last(), Some(&503), "{codes:?}");
    house.end().await;
}

#[tokio::test]
async fn n24_connections_to_one_destination_are_bounded() {
    let (house, origin) = (
        limited("connections_per_destination = 2\n"),
        Origin::start().await,
    );
    let other = Origin::start().await;
    let port = origin.port();
    let (_, mut one) = socks_name(house.socks, b"allowed.example", port).await;
    let (_, two) = socks_name(house.socks, b"allowed.example", port).await;
    assert_eq!(get_through(&mut one).await, 200);
    let (code, _) = socks_name(house.socks, b"allowed.example", port).await;
    assert_eq!(code, 2);
    let (code, _, body) = ask(house.http, &get(&format!("allowed.example:{port}"), "/")).await;
    assert_eq!(code, 503, "{body}");
    assert!(body.contains("connections_per_destination"), "{body}");
    // Another destination has room, and so has this one once a connection is over.
    let elsewhere = get(&format!("lab.example:{}", other.port()), "/");
    assert_eq!(ask(house.http, &elsewhere).await.0, 200);
    drop(two);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while socks_name(house.socks, b"allowed.example", port).await.0 != 0 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the room was not given back"
        );
    }
    house.end().await;
}

#[tokio::test]
async fn n24_a_flood_of_connections_waits_its_turn() {
    let (house, origin) = (
        limited("new_connections_per_second = 5\n"),
        Origin::start().await,
    );
    let request = get(&format!("allowed.example:{}", origin.port()), "/");
    let since = std::time::Instant::now();
    // The burst at once, the rest in turn; nobody is turned away.
    for _client in 0..8 {
        assert_eq!(ask(house.http, &request).await.0, 200);
    }
    assert!(
        since.elapsed() >= Duration::from_millis(500),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(origin.reached(), 8);
    house.end().await;
}

#[tokio::test]
async fn n24_limits_can_differ_by_session() {
    let config = "[limits]\nbytes_in_per_session = 1\n[[limits.sessions]]\ngroup = \"staff\"\n\
                  limits = { bytes_in_per_session = 1000000 }\n";
    let (house, origin) = (house_plus(config, ""), Origin::start().await);
    let request = get(&format!("allowed.example:{}", origin.port()), "/");
    for _request in 0..3 {
        assert_eq!(ask(house.http, &request).await.0, 200);
    }
    house.end().await;
}

#[tokio::test]
async fn draining_lets_flows_end_and_cuts_those_that_do_not() {
    let (house, origin) = (house_plus("", ""), Origin::start().await);
    let (_, mut open) = socks_name(house.socks, b"allowed.example", origin.port()).await;
    assert_eq!(get_through(&mut open).await, 200);
    let socks = house.socks;
    let drained = tokio::spawn(house.drain(Duration::from_secs(20)));
    // It still works while it is being drained, and ends by itself.
    assert_eq!(get_through(&mut open).await, 200);
    open.shutdown().await.unwrap();
    let mut rest = Vec::new();
    bounded(open.read_to_end(&mut rest)).await.unwrap();
    let records = bounded(drained).await.unwrap();
    assert_eq!(flows(&records)[0]["end"], "completed");
    assert!(
        std::net::TcpStream::connect_timeout(&socks, Duration::from_secs(5)).is_err(),
        "nothing new is accepted"
    );

    let house = house_plus("", "");
    let (_, mut stuck) = socks_name(house.socks, b"allowed.example", origin.port()).await;
    assert_eq!(get_through(&mut stuck).await, 200);
    let records = bounded(house.drain(Duration::from_millis(100))).await;
    assert_eq!(flows(&records)[0]["end"], "drained");
}
