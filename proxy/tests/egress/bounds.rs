//! N24: bounds of names, connections and room that hold before anything is said to a destination.

use std::{
    net::{SocketAddr, TcpStream as StdStream, UdpSocket},
    time::Duration,
};

use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::common::{
    CONFIG, House, Origin, POLICY, ask, bounded, decisions, flows, get, get_through, house_from,
    house_plus, message, socks_name, status,
};

#[tokio::test]
async fn n24_a_name_that_nobody_answers_for_is_given_up() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = CONFIG.replace("NAMESERVER", &silent.local_addr().unwrap().to_string());
    let house = house_from(
        &format!("{config}[limits]\nresolve_seconds = 0.3\n"),
        POLICY,
    );
    let since = std::time::Instant::now();
    let slow = get("slow.allowed.example:80", "/");
    let (code, _, body) = bounded(ask(house.http, &slow)).await;
    assert_eq!(code, 502, "{body}");
    assert!(since.elapsed() < Duration::from_secs(5), "{body}");
    // A name that needs no asking is reached.
    let origin = Origin::start().await;
    let known = get(&format!("allowed.example:{}", origin.port()), "/");
    assert_eq!(ask(house.http, &known).await.0, 200);
    let records = house.end().await;
    assert_eq!(flows(&records)[0]["end"], "resolve_failed");
}

/// A listener whose backlog is full: the kernel answers nobody.
fn full() -> (socket2::Socket, SocketAddr, Vec<StdStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let wait = Duration::from_millis(300);
    let held = std::iter::from_fn(|| connect(address, wait)).collect();
    (socket, address, held)
}

fn connect(address: SocketAddr, wait: Duration) -> Option<StdStream> {
    StdStream::connect_timeout(&address, wait).ok()
}

#[tokio::test]
async fn n24_an_address_that_does_not_answer_is_given_up() {
    let (_listener, address, _held) = full();
    let house = house_plus("[limits]\nconnect_seconds = 0.3\n", "");
    let request = get(&format!("allowed.example:{}", address.port()), "/");
    let since = std::time::Instant::now();
    let (code, _, body) = bounded(ask(house.http, &request)).await;
    assert_eq!(code, 504, "{body}");
    assert!(since.elapsed() < Duration::from_secs(5), "{body}");
    let origin = Origin::start().await;
    let request = get(&format!("allowed.example:{}", origin.port()), "/");
    assert_eq!(ask(house.http, &request).await.0, 200, "the control");
    let records = house.end().await;
    assert_eq!(flows(&records)[0]["end"], "connect_failed");
}

/// A connection with a tunnel on it.
async fn tunnel(house: &House, origin: &Origin) -> TcpStream {
    let (code, mut tunnel) = socks_name(house.socks, b"allowed.example", origin.port()).await;
    assert_eq!((code, get_through(&mut tunnel).await), (0, 200));
    tunnel
}

/// Two are open, so the third waits; `other` still is what another session gets.
async fn third_waits(limits: &str, other: bool) {
    let house = house_plus(&format!("[limits]\n{limits}"), "");
    let origin = Origin::start().await;
    let (one, _two) = (tunnel(&house, &origin).await, tunnel(&house, &origin).await);
    let request = get(&format!("allowed.example:{}", origin.port()), "/");
    let mut third = house.client(house.http).await;
    third.write_all(&request).await.unwrap();
    let (http, proxy) = house.another("0190b5a0-0000-7000-8000-00000000000b".into());
    if other {
        assert_eq!(bounded(ask(http, &request)).await.0, 200);
    } else {
        for _ in 0..2000 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(origin.reached(), if other { 3 } else { 2 });
    let unread = third.try_read(&mut [0; 1]);
    assert!(unread.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    // Nobody is turned away: once one has left it is its turn.
    drop(one);
    let (head, _) = bounded(message(&mut third)).await.unwrap();
    assert_eq!(status(&head), 200);
    proxy.shutdown().await;
    assert!(decisions(&house.end().await, "deny").is_empty());
}

#[tokio::test]
async fn n24_connections_of_a_session_are_bounded_and_its_neighbour_has_its_own() {
    third_waits("connections = 2\n", true).await;
}

#[tokio::test]
async fn n24_connections_of_the_node_are_bounded() {
    third_waits("connections_per_node = 2\n", false).await;
}
