//! The life of a session's egress: its end, its bounds, the log's refusal.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{Origin, ask, bounded, flows, get, get_through, house, socks_name};

#[tokio::test]
async fn the_end_of_a_session_closes_every_flow_and_says_so() {
    let (house, origin) = (house(), Origin::start().await);
    let (_, mut tunnel) = socks_name(house.socks, b"allowed.example", origin.port()).await;
    assert_eq!(get_through(&mut tunnel).await, 200);

    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut plain = house.client(house.http).await;
    let request = get(&format!("allowed.example:{port}"), "/");
    plain.write_all(&request).await.unwrap();
    let (_held, _) = bounded(silent.accept()).await.unwrap();

    let records = bounded(house.end()).await;
    let closed = flows(&records);
    assert_eq!(closed.len(), 2);
    for flow in closed {
        assert_eq!(flow["end"], "session_ended", "{flow}");
    }
    let mut rest = Vec::new();
    // Closed or reset, but over.
    let _reset = bounded(tunnel.read_to_end(&mut rest)).await;
    let _reset = bounded(plain.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_reset_by_the_origin_is_a_reset_for_the_client() {
    let house = house();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = socks_name(house.socks, b"allowed.example", port);
    let ((code, mut tunnel), origin) = tokio::join!(client, listener.accept());
    assert_eq!(code, 0);
    let (origin, _) = origin.unwrap();
    socket2::SockRef::from(&origin)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    drop(origin);
    let mut rest = Vec::new();
    let error = bounded(tunnel.read_to_end(&mut rest)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let records = house.end().await;
    assert_eq!(flows(&records)[0]["end"], "reset");
}

/// Before a byte of either side, too: the look at the first bytes must not swallow the reset.
#[tokio::test]
async fn a_reset_by_the_client_is_a_reset_for_the_origin() {
    for said in [b"".as_slice(), b"hello"] {
        let house = house();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = socks_name(house.socks, b"allowed.example", port);
        let ((code, mut tunnel), origin) = tokio::join!(client, listener.accept());
        assert_eq!(code, 0);
        let (mut origin, _) = origin.unwrap();
        tunnel.write_all(said).await.unwrap();
        let mut heard = vec![0; said.len()];
        bounded(origin.read_exact(&mut heard)).await.unwrap();
        assert_eq!(heard, said);
        socket2::SockRef::from(&tunnel)
            .set_linger(Some(std::time::Duration::ZERO))
            .unwrap();
        drop(tunnel);
        let mut rest = Vec::new();
        let error = bounded(origin.read_to_end(&mut rest)).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let records = house.end().await;
        assert_eq!(flows(&records)[0]["end"], "reset", "after {said:?}");
    }
}

#[tokio::test]
async fn half_a_tunnel_may_end_before_the_other() {
    let house = house();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = socks_name(house.socks, b"allowed.example", port);
    let ((_, mut tunnel), origin) = tokio::join!(client, listener.accept());
    let (mut origin, _) = origin.unwrap();
    tunnel.write_all(b"question").await.unwrap();
    tunnel.shutdown().await.unwrap();
    let mut question = Vec::new();
    bounded(origin.read_to_end(&mut question)).await.unwrap();
    assert_eq!(question, b"question");
    // Much more than any buffer on the way.
    let answer = vec![7; 3_000_000];
    let sent = answer.clone();
    let origin = tokio::spawn(async move {
        origin.write_all(&sent).await.unwrap();
    });
    let mut received = Vec::new();
    bounded(tunnel.read_to_end(&mut received)).await.unwrap();
    origin.await.unwrap();
    assert_eq!(received.len(), answer.len());
    let records = house.end().await;
    let closed = flows(&records);
    assert_eq!(closed[0]["end"], "completed");
    assert_eq!(closed[0]["bytes_in"], 3_000_000);
    assert_eq!(closed[0]["bytes_out"], 8);
}

#[tokio::test]
async fn a03_without_the_log_nothing_is_done() {
    let (house, origin) = (house(), Origin::start().await);
    let request = get(&format!("allowed.example:{}", origin.port()), "/");
    assert_eq!(ask(house.http, &request).await.0, 200);
    house.close_log();
    let (code, _, body) = ask(house.http, &request).await;
    assert_eq!(code, 503, "{body}");
    assert!(body.contains("could not be recorded"), "{body}");
    let (code, _) = socks_name(house.socks, b"allowed.example", origin.port()).await;
    assert_eq!(code, 1);
    assert_eq!(origin.reached(), 1);
    house.end().await;
}
