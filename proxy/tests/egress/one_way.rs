//! One way for every protocol and every client.

use crate::common::{Origin, ask, decisions, get, house, socks_name};

#[tokio::test]
async fn n13_every_protocol_gets_the_same_outcome_from_the_same_rule() {
    let (house, origin) = (house(), Origin::start().await);
    let port = origin.port();
    for (host, allowed) in [
        ("allowed.example", true),
        ("lab.example", true),
        ("denied.example", false),
        ("forbidden.example", false),
        ("rebound.allowed.example", false),
    ] {
        let (socks, _) = socks_name(house.socks, host.as_bytes(), port).await;
        let connect = format!("CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n");
        let (connect, _, _) = ask(house.http, connect.as_bytes()).await;
        let (plain, _, _) = ask(house.http, &get(&format!("{host}:{port}"), "/")).await;
        let outcome = (socks == 0, connect == 200, plain == 200);
        assert_eq!(outcome, (allowed, allowed, allowed), "{host}");
    }
    let records = house.end().await;
    let denied = decisions(&records, "deny");
    assert_eq!(denied.len(), 9);
    for three in denied.chunks(3) {
        for record in three {
            assert_eq!(record["reason"], three[0]["reason"]);
            assert_eq!(record["rules"], three[0]["rules"]);
        }
    }
}

#[tokio::test]
async fn n14_the_user_agent_does_not_matter() {
    let (house, origin) = (house(), Origin::start().await);
    for (host, expected) in [("allowed.example", 200), ("denied.example", 403)] {
        for agent in ["curl/8.0", "Mozilla/5.0", ""] {
            let authority = format!("{host}:{}", origin.port());
            let request = format!(
                "GET http://{authority}/ HTTP/1.1\r\nhost: {authority}\r\nuser-agent: {agent}\r\n\r\n"
            );
            let (code, _, _) = ask(house.http, request.as_bytes()).await;
            assert_eq!(code, expected, "{host} {agent:?}");
        }
    }
    house.end().await;
}

#[tokio::test]
async fn n17_private_destinations_are_decided_like_any_other() {
    let (house, origin) = (house(), Origin::start().await);
    let port = origin.port();
    for host in [
        "10.0.0.1",
        "192.168.1.1",
        "localhost",
        "172.16.0.1",
        "[::1]",
        "[fd00::1]",
    ] {
        let (code, _, _) = ask(house.http, &get(&format!("{host}:{port}"), "/")).await;
        assert_eq!(code, 403, "{host}");
    }
    assert_eq!(origin.reached(), 0);
    assert!(house.nameserver.asked().is_empty());
    let (code, _, _) = ask(house.http, &get(&format!("lab.example:{port}"), "/")).await;
    assert_eq!(code, 200);
    house.end().await;
}
