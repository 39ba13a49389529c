//! N19: what was allowed under an old policy ends when the new one refuses it, and only then.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{
    House, Origin, bounded, decisions, flows, get, get_through, house, socks_name,
};

const NO_LAB: &str = r#"
@id("no-lab") @reason("the lab is closed")
forbid (principal, action in Action::"network", resource in HostGroup::"lab");
"#;

#[tokio::test]
async fn n19_a_tunnel_that_the_new_policy_denies_is_closed_and_another_stays() {
    let (house, origin) = (house(), Origin::start().await);
    let (_, mut stays) = socks_name(house.socks, b"allowed.example", origin.port()).await;
    let (_, mut ends) = socks_name(house.socks, b"lab.example", origin.port()).await;
    assert_eq!(get_through(&mut stays).await, 200);
    assert_eq!(get_through(&mut ends).await, 200);

    house.forbid_too(NO_LAB);
    let changed = std::time::Instant::now();
    let mut rest = Vec::new();
    let error = bounded(ends.read_to_end(&mut rest)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(
        changed.elapsed().as_secs_f64() < 1.0,
        "{:?}",
        changed.elapsed()
    );
    assert_eq!(get_through(&mut stays).await, 200, "allowed under both");

    let records = house.end().await;
    let denied = decisions(&records, "deny");
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(denied[0]["rules"][0], "no-lab");
    // In either order: the session ended while the refusal was still being recorded.
    let mut ends: Vec<_> = flows(&records)
        .iter()
        .map(|flow| flow["end"].as_str().unwrap().to_owned())
        .collect();
    ends.sort();
    assert_eq!(ends, ["revoked", "session_ended"]);
}

#[tokio::test]
async fn n19_a_change_while_the_destination_is_dialled_is_not_missed() {
    let (house, origin) = (house(), Origin::start().await);
    let tunnel = socks_name(house.socks, b"lab.example", origin.port());
    // Whenever the change comes, before or after the decision, no tunnel outlives it.
    let ((_code, mut tunnel), ()) = tokio::join!(tunnel, async { house.forbid_too(NO_LAB) });
    let mut rest = Vec::new();
    let _closed = bounded(tunnel.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"");
    house.end().await;
}

#[tokio::test]
async fn n19_a_download_that_the_new_policy_denies_breaks_off_and_another_goes_on() {
    let house = house();
    let (mut lab, mut lab_origin) = begin_download(&house, "lab.example").await;
    let (mut other, mut other_origin) = begin_download(&house, "allowed.example").await;

    house.forbid_too(NO_LAB);
    let mut rest = Vec::new();
    // Broken off: the announced length never comes.
    let _reset = bounded(lab.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "{rest:?}");
    let _refused = lab_origin.write_all(b"late").await;

    other_origin.write_all(b"all of it").await.unwrap();
    let mut body = [0; 9];
    bounded(other.read_exact(&mut body)).await.unwrap();
    assert_eq!(&body, b"all of it");

    let records = house.end().await;
    assert_eq!(decisions(&records, "deny").len(), 1);
    let mut ends: Vec<_> = flows(&records)
        .iter()
        .map(|flow| flow["end"].as_str().unwrap().to_owned())
        .collect();
    ends.sort();
    assert_eq!(ends[1], "revoked", "{ends:?}");
}

#[tokio::test]
async fn n19_a_request_that_waits_for_its_answer_is_refused() {
    let house = house();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = house.client(house.http).await;
    let request = get(&format!("lab.example:{port}"), "/slow");
    client.write_all(&request).await.unwrap();
    let (mut origin, _) = bounded(listener.accept()).await.unwrap();
    let head = bounded(crate::common::message(&mut origin))
        .await
        .unwrap()
        .0;
    assert!(head.starts_with("GET /slow"), "{head}");

    house.forbid_too(NO_LAB);
    let (head, body) = bounded(crate::common::message(&mut client)).await.unwrap();
    assert_eq!(crate::common::status(&head), 403);
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("no-lab"), "{body}");
    house.end().await;
}

/// A download whose head has arrived and whose body has not.
async fn begin_download(
    house: &House,
    name: &str,
) -> (tokio::net::TcpStream, tokio::net::TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = house.client(house.http).await;
    let request = get(&format!("{name}:{port}"), "/");
    client.write_all(&request).await.unwrap();
    let (mut origin, _) = bounded(listener.accept()).await.unwrap();
    bounded(crate::common::message(&mut origin)).await.unwrap();
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n";
    origin.write_all(head).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(bounded(client.read_u8()).await.unwrap());
    }
    (client, origin)
}
