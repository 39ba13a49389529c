//! Spellings of hosts and ports, and what names resolve to.

use crate::common::{House, Origin, ask, decisions, flows, get, get_through, house, socks_name};

/// Asks for a target by all three protocols that carry one; the statuses, SOCKS replies first.
async fn ask_all(house: &House, host: &str, port: &str) -> (Option<u8>, u16, u16) {
    let socks = match port.parse() {
        Ok(port) => Some(socks_name(house.socks, host.as_bytes(), port).await.0),
        Err(_) => None,
    };
    let target = format!("{host}:{port}");
    let connect = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
    let (connect, _, _) = ask(house.http, connect.as_bytes()).await;
    let (plain, _, _) = ask(house.http, &get(&target, "/")).await;
    (socks, connect, plain)
}

#[tokio::test]
async fn n02_n07_hosts_that_are_no_hosts_reach_nobody() {
    let (house, origin) = (house(), Origin::start().await);
    let port = origin.port();
    let names: [&[u8]; 9] = [
        b"evil\0.allowed.example",
        b"allowed.example\0",
        b"allowed.example\r\nx: y",
        b"a b.allowed.example",
        b"user@allowed.example",
        b"allowed.example\\.evil.example",
        b"allowed%2eexample",
        "allowed\u{ff0e}example".as_bytes(),
        b"\xff\xfe.allowed.example",
    ];
    for name in names {
        let (code, _) = socks_name(house.socks, name, port).await;
        assert_ne!(code, 0, "{name:?}");
    }
    // Names that are well-formed, and not the allowed one.
    for name in ["evilallowed.example", "allowed.example.evil.example"] {
        let denied = ask_all(&house, name, &port.to_string()).await;
        assert_eq!(denied, (Some(2), 403, 403), "{name}");
    }
    assert_eq!(origin.reached(), 0);
    let (code, mut stream) = socks_name(house.socks, b"allowed.example", port).await;
    assert_eq!(code, 0);
    assert_eq!(get_through(&mut stream).await, 200);
    assert!(house.nameserver.asked().is_empty());
    drop(stream);
    let records = house.end().await;
    assert_eq!(decisions(&records, "deny").len(), names.len() + 6);
    assert_eq!(decisions(&records, "allow").len(), 1);
}

#[tokio::test]
async fn n05_spellings_of_an_address_are_one_address() {
    let (house, origin) = (house(), Origin::start().await);
    let port = origin.port().to_string();
    // Policy permits the address; configuration does not name it, so it is not dialled. That
    // both were asked shows that it was one address by then.
    for spelling in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
    ] {
        let refused = ask_all(&house, spelling, &port).await;
        assert_eq!(refused, (Some(2), 403, 403), "{spelling}");
    }
    for spelling in ["2852039166", "[::ffff:a9fe:a9fe]"] {
        let (_, connect, plain) = ask_all(&house, spelling, &port).await;
        assert_eq!((connect, plain), (403, 403), "{spelling}");
    }
    assert_eq!(origin.reached(), 0);
    assert_eq!(
        ask(house.http, &get(&format!("allowed.example:{port}"), "/"))
            .await
            .0,
        200
    );
    let records = house.end().await;
    let denied = decisions(&records, "deny");
    assert_eq!(denied.len(), 5 * 3 + 2 * 3);
    for record in denied {
        assert_eq!(record["reason"], "address_not_permitted", "{record}");
    }
}

#[tokio::test]
async fn n06_case_and_a_trailing_dot_do_not_matter() {
    let (house, origin) = (house(), Origin::start().await);
    let port = origin.port().to_string();
    for spelling in ["ALLOWED.example", "allowed.EXAMPLE.", "allowed.example"] {
        assert_eq!(
            ask_all(&house, spelling, &port).await,
            (Some(0), 200, 200),
            "{spelling}"
        );
    }
    for spelling in ["FORBIDDEN.example", "forbidden.example."] {
        assert_eq!(
            ask_all(&house, spelling, &port).await,
            (Some(2), 403, 403),
            "{spelling}"
        );
    }
    let records = house.end().await;
    for record in decisions(&records, "allow") {
        assert!(record.to_string().contains("\"allowed.example"), "{record}");
    }
}

#[tokio::test]
async fn n08_ports_are_plain_and_part_of_the_target() {
    let (house, origin) = (house(), Origin::start().await);
    let port = origin.port();
    for bad in [
        "0",
        "65536",
        "+80",
        "080",
        "80x",
        "",
        " 80",
        "-1",
        "443.allowed.example",
    ] {
        for request in [
            format!("CONNECT allowed.example:{bad} HTTP/1.1\r\nhost: x\r\n\r\n"),
            format!("GET http://allowed.example:{bad}/ HTTP/1.1\r\nhost: allowed.example\r\n\r\n"),
        ] {
            let (code, _, _) = ask(house.http, request.as_bytes()).await;
            assert_eq!(code, 400, "{request}");
        }
    }
    // Without a port CONNECT is refused; it is never guessed.
    let request = "CONNECT allowed.example HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(ask(house.http, request.as_bytes()).await.0, 400);
    let (code, _) = socks_name(house.socks, b"allowed.example", 0).await;
    assert_ne!(code, 0);
    assert_eq!(origin.reached(), 0);
    let (code, mut stream) = socks_name(house.socks, b"allowed.example", port).await;
    assert_eq!(code, 0);
    assert_eq!(get_through(&mut stream).await, 200);
    drop(stream);
    let records = house.end().await;
    assert_eq!(decisions(&records, "allow").len(), 1);
    assert_eq!(decisions(&records, "deny").len(), 9 * 2 + 2);
}

#[tokio::test]
async fn n09_an_allowed_name_on_a_special_address_is_refused_unless_named() {
    let (house, origin) = (house(), Origin::start().await);
    let port = origin.port();
    for name in [
        "rebound.allowed.example",    // an override
        "mixed.allowed.example",      // several, all special
        "metadata.allowed.example",   // DNS: link-local
        "six.allowed.example",        // DNS: IPv4-mapped
        "translated.allowed.example", // DNS: NAT64
    ] {
        let refused = ask_all(&house, name, &port.to_string()).await;
        assert_eq!(refused, (Some(2), 403, 403), "{name}");
    }
    assert_eq!(origin.reached(), 0);
    // Named for this very host, for its group, and by DNS for a member of the group.
    for name in ["allowed.example", "lab.example", "here.lab.example"] {
        let (code, _, body) = ask(house.http, &get(&format!("{name}:{port}"), "/")).await;
        assert_eq!(code, 200, "{name}: {body}");
    }
    // Named for the host does not mean allowed.
    let (code, _, _) = ask(house.http, &get(&format!("denied.example:{port}"), "/")).await;
    assert_eq!(code, 403);
    let records = house.end().await;
    let special = decisions(&records, "deny")
        .into_iter()
        .filter(|record| record["reason"] == "address_not_permitted")
        .count();
    assert_eq!(special, 5 * 3);
}

#[tokio::test]
async fn n11_nothing_is_looked_up_before_the_allow() {
    let (house, origin) = (house(), Origin::start().await);
    let port = origin.port().to_string();
    let leaky = "c2VjcmV0.denied.example";
    assert_eq!(ask_all(&house, leaky, &port).await, (Some(2), 403, 403));
    assert!(house.nameserver.asked().is_empty());
    // An allowed one is looked up, so the nameserver would have noticed.
    let (code, _) = socks_name(house.socks, b"nowhere.allowed.example", origin.port()).await;
    assert_eq!(code, 4);
    let asked = house.nameserver.asked();
    assert!(!asked.is_empty());
    for name in asked {
        assert_eq!(name.to_ascii_lowercase(), "nowhere.allowed.example.");
    }
    let records = house.end().await;
    assert_eq!(flows(&records).len(), 1);
}

#[tokio::test]
async fn n26_own_listeners_are_no_destinations_even_where_the_address_is_permitted() {
    let (house, origin, own) = (house(), Origin::start().await, Origin::start().await);
    house.egress.protect(own.address);
    for name in ["allowed.example", "lab.example"] {
        let refused = ask_all(&house, name, &own.port().to_string()).await;
        assert_eq!(refused, (Some(2), 403, 403), "{name}");
    }
    assert_eq!(own.reached(), 0);
    // The same name on another port of the same address is permitted.
    let request = get(&format!("allowed.example:{}", origin.port()), "/");
    assert_eq!(ask(house.http, &request).await.0, 200);
    house.end().await;
}

#[tokio::test]
async fn n26_an_own_listener_on_every_address_is_found_on_each() {
    let (house, own) = (house(), Origin::start().await);
    house.egress.protect(([0, 0, 0, 0], own.port()).into());
    let request = get(&format!("lab.example:{}", own.port()), "/");
    assert_eq!(ask(house.http, &request).await.0, 403);
    assert_eq!(own.reached(), 0);
    house.end().await;
}
