//! The HTTP forward proxy.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{
    Origin, ask, bounded, decision, decisions, field, flows, get, get_through, house, house_plus,
    message, status,
};

#[tokio::test]
async fn an_allowed_request_goes_through_and_a_denied_one_never_arrives() {
    let (house, mut origin) = (house(), Origin::start().await);
    let (code, _, body) = ask(
        house.http,
        &get(&format!("denied.example:{}", origin.port()), "/secret"),
    )
    .await;
    assert_eq!(code, 403, "{body}");
    for expected in [
        "denied: GET http://denied.example",
        "default_deny",
        "decision: ",
    ] {
        assert!(body.contains(expected), "{body}");
    }
    assert!(origin.is_quiet());
    let (code, head, _) = ask(
        house.http,
        &get(&format!("allowed.example:{}", origin.port()), "/a?b=c"),
    )
    .await;
    assert_eq!(code, 200, "{head}");
    let seen = origin.head().await;
    assert!(seen.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{seen}");
    assert_eq!(origin.reached(), 1);

    let records = house.end().await;
    let denied = decisions(&records, "deny");
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0]["reason"], "default_deny");
    let allowed = decisions(&records, "allow");
    assert_eq!(allowed.len(), 1);
    assert_eq!(allowed[0]["rules"][0], "allowed-host");
    let closed = flows(&records);
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0]["decision"], allowed[0]["id"]);
    assert_eq!(closed[0]["end"], "completed");
    assert!(closed[0]["bytes_in"].as_u64().unwrap() > 0);
    assert!(closed[0]["bytes_out"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_refusal_names_the_rule_in_text_and_json() {
    let house = house();
    let (code, head, body) = ask(house.http, &get("forbidden.example", "/")).await;
    assert_eq!(code, 403);
    assert!(
        body.contains("rule: no-forbidden: this host is known to be bad"),
        "{body}"
    );
    let id = decision(&head);
    assert!(body.contains(&format!("decision: {id}\n")), "{body}");
    let told = field(&head, "x-cordon-decision").unwrap();
    let expected = format!(
        "id=\"{id}\", reason=rule, rules=(\"no-forbidden\"), says=\"this host is known to be bad\", \
         help=\"a rule forbids this; ask whoever owns the policy\""
    );
    assert_eq!(told, expected);

    let request = "GET http://forbidden.example/ HTTP/1.1\r\nhost: forbidden.example\r\n\
                   accept: application/json\r\n\r\n";
    let (code, head, body) = ask(house.http, request.as_bytes()).await;
    assert_eq!(code, 403);
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["rules"][0]["id"], "no-forbidden");
    assert_eq!(json["reason"], "rule");
    assert_eq!(json["decision"], decision(&head));
    house.end().await;
}

#[tokio::test]
async fn whom_to_ask_is_told_where_asking_helps() {
    let contact = "[policy]\ncontact = \"the policy team, policy@example.com\"\n";
    let house = house_plus(contact, "");
    let told = "ask=\"the policy team, policy@example.com\"";
    for (host, reason) in [
        ("denied.example", "default_deny"),
        ("forbidden.example", "rule"),
    ] {
        let (code, head, body) = ask(house.http, &get(host, "/")).await;
        assert_eq!(code, 403);
        let told_here = field(&head, "x-cordon-decision").unwrap();
        assert!(
            told_here.contains(&format!("reason={reason}, ")),
            "{told_here}"
        );
        assert!(told_here.ends_with(told), "{told_here}");
        assert!(
            body.ends_with("ask: the policy team, policy@example.com\n"),
            "{body}"
        );
    }
    let connect = "CONNECT denied.example:443 HTTP/1.1\r\nhost: denied.example\r\n\r\n";
    let (code, head, _) = ask(house.http, connect.as_bytes()).await;
    assert_eq!(code, 403);
    assert!(
        field(&head, "x-cordon-decision").unwrap().ends_with(told),
        "{head}"
    );
    let (_, _, page) = ask(house.http, &get("cordon.internal", "/")).await;
    let asked = "ask for more: the policy team, policy@example.com\n";
    assert!(page.ends_with(asked), "{page}");
    // A rule that forbids shows where it refused, and nowhere else.
    assert_eq!(page.matches("no-forbidden").count(), 1, "{page}");
    // Nobody can permit a malformed request.
    let (code, head, body) = ask(house.http, b"GET / HTTP/1.1\r\nhost: x.example\r\n\r\n").await;
    assert_eq!(code, 400);
    let told = field(&head, "x-cordon-decision").unwrap();
    assert!(told.contains("reason=malformed"), "{told}");
    assert!(
        !told.contains("policy@") && !body.contains("policy@"),
        "{head}{body}"
    );
    house.end().await;
}

#[tokio::test]
async fn connect_opens_a_tunnel_only_where_allowed() {
    let (house, origin) = (house(), Origin::start().await);
    let port = origin.port();
    let denied = format!("CONNECT denied.example:{port} HTTP/1.1\r\nhost: denied.example\r\n\r\n");
    let (code, _, body) = ask(house.http, denied.as_bytes()).await;
    assert_eq!(code, 403, "{body}");

    let mut stream = house.client(house.http).await;
    let allowed =
        format!("CONNECT allowed.example:{port} HTTP/1.1\r\nhost: allowed.example\r\n\r\n");
    stream.write_all(allowed.as_bytes()).await.unwrap();
    let (head, _) = bounded(message(&mut stream)).await.unwrap();
    assert_eq!(status(&head), 200);
    assert_eq!(get_through(&mut stream).await, 200);
    assert_eq!(origin.reached(), 1);
    // Our half ends, the origin's follows, and the flow is complete.
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    bounded(stream.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());

    let moved = house.bytes();
    assert!(moved.out > 0 && moved.r#in > 0);
    let records = house.end().await;
    let closed = flows(&records);
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0]["end"], "completed");
    assert_eq!(closed[0]["bytes_out"], moved.out);
    assert_eq!(closed[0]["bytes_in"], moved.r#in);
}

#[tokio::test]
async fn what_a_client_sends_right_behind_connect_arrives() {
    let (house, mut origin) = (house(), Origin::start().await);
    let mut stream = house.client(house.http).await;
    let request = format!(
        "CONNECT allowed.example:{} HTTP/1.1\r\nhost: allowed.example\r\n\r\nGET /early HTTP/1.1\r\nhost: x\r\n\r\n",
        origin.port()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(origin.head().await.starts_with("GET /early "));
    house.end().await;
}

#[tokio::test]
async fn a_kept_connection_is_decided_request_by_request_and_dialled_once() {
    let (house, mut origin) = (house(), Origin::start().await);
    let allowed = format!("allowed.example:{}", origin.port());
    let denied = format!("denied.example:{}", origin.port());
    let mut stream = house.client(house.http).await;
    for (authority, expected) in [
        (&allowed, 200),
        (&denied, 403),
        (&allowed, 200),
        (&allowed, 200),
    ] {
        stream.write_all(&get(authority, "/")).await.unwrap();
        let (head, _) = bounded(message(&mut stream)).await.unwrap();
        assert_eq!(status(&head), expected, "{authority}");
    }
    assert_eq!(origin.reached(), 1);
    for _ in 0..3 {
        origin.head().await;
    }
    assert!(origin.is_quiet());
    let records = house.end().await;
    assert_eq!(decisions(&records, "allow").len(), 3);
    assert_eq!(decisions(&records, "deny").len(), 1);
    assert_eq!(flows(&records).len(), 3);
}

#[tokio::test]
async fn an_upstream_that_closed_is_dialled_again() {
    let house = house();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut stream = house.client(house.http).await;
    for _ in 0..2 {
        stream
            .write_all(&get(&format!("allowed.example:{port}"), "/"))
            .await
            .unwrap();
        let (mut origin, _) = bounded(listener.accept()).await.unwrap();
        message(&mut origin).await.unwrap();
        origin
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await
            .unwrap();
        drop(origin);
        let (head, body) = bounded(message(&mut stream)).await.unwrap();
        assert_eq!((status(&head), body.as_slice()), (200, b"ok".as_slice()));
    }
    house.end().await;
}

#[tokio::test]
async fn connection_fields_stop_here_and_via_is_added() {
    let (house, mut origin) = (house(), Origin::start().await);
    let authority = format!("allowed.example:{}", origin.port());
    let request = format!(
        "GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\nConnection: x-mine\r\n\
         X-Mine: 1\r\nProxy-Authorization: Basic eDp5\r\nProxy-Connection: keep-alive\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAA\r\nX-Kept: 1\r\n\r\n"
    );
    let (code, answer, _) = ask(house.http, request.as_bytes()).await;
    assert_eq!(code, 200);
    let seen = origin.head().await.to_ascii_lowercase();
    for gone in [
        "x-mine",
        "proxy-authorization",
        "proxy-connection",
        "upgrade",
        "http2-settings",
    ] {
        assert_eq!(field(&seen, gone), None, "{gone} in {seen}");
    }
    assert_eq!(field(&seen, "x-kept"), Some("1"));
    assert_eq!(field(&seen, "via"), Some("1.1 cordon"));
    assert_eq!(field(&seen, "host"), Some(authority.as_str()));
    // And on the way back.
    assert_eq!(field(&answer, "x-hop"), None, "{answer}");
    assert_eq!(field(&answer, "via"), Some("1.1 cordon"));
    house.end().await;
}

#[tokio::test]
async fn bodies_stream_both_ways_by_length_and_by_chunks() {
    let (house, _origin) = (house(), Origin::start().await);
    let authority = format!("allowed.example:{}", _origin.port());
    let bytes = "x".repeat(300_000);
    let by_length = format!(
        "POST http://{authority}/ HTTP/1.1\r\nhost: {authority}\r\ncontent-length: {}\r\n\r\n{bytes}",
        bytes.len()
    );
    let by_chunks = format!(
        "POST http://{authority}/ HTTP/1.1\r\nhost: {authority}\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x}\r\n{bytes}\r\n0\r\n\r\n",
        bytes.len()
    );
    for request in [by_length, by_chunks] {
        let (code, _, body) = bounded(ask(house.http, request.as_bytes())).await;
        assert_eq!(code, 200);
        assert!(body.ends_with(&bytes), "{} bytes came back", body.len());
    }
    house.end().await;
}

#[tokio::test]
async fn requests_that_are_not_for_a_forward_proxy_are_told_so() {
    let (house, mut origin) = (house(), Origin::start().await);
    let authority = format!("allowed.example:{}", origin.port());
    let table: [(&str, u16, &str); 14] = [
        (
            "GET http://HOST/a/../b HTTP/1.1\r\nhost: HOST\r\n\r\n",
            400,
            "segment",
        ),
        (
            "GET http://HOST/a/%2E%2e/b HTTP/1.1\r\nhost: HOST\r\n\r\n",
            400,
            "segment",
        ),
        (
            "GET http://HOST/a/%2e HTTP/1.1\r\nhost: HOST\r\n\r\n",
            400,
            "segment",
        ),
        (
            "CONNECT HOST HTTP/1.1\r\nhost: HOST\r\ncontent-length: 1\r\n\r\nx",
            400,
            "body",
        ),
        ("GET / HTTP/1.1\r\nhost: HOST\r\n\r\n", 400, "forward proxy"),
        (
            "GET https://HOST/ HTTP/1.1\r\nhost: HOST\r\n\r\n",
            400,
            "CONNECT",
        ),
        (
            "GET ftp://HOST/ HTTP/1.1\r\nhost: HOST\r\n\r\n",
            400,
            "scheme",
        ),
        (
            "TRACE http://HOST/ HTTP/1.1\r\nhost: HOST\r\n\r\n",
            405,
            "TRACE",
        ),
        (
            "get http://HOST/ HTTP/1.1\r\nhost: HOST\r\n\r\n",
            405,
            "upper-case",
        ),
        ("GET http://HOST/ HTTP/1.1\r\n\r\n", 400, "without a `Host`"),
        (
            "GET http://HOST/ HTTP/1.1\r\nhost: HOST\r\nhost: HOST\r\n\r\n",
            400,
            "more than one",
        ),
        (
            "GET http://HOST/ HTTP/1.1\r\nhost: HOST\r\ncontent-length: 1\r\n\r\nx",
            400,
            "with a body",
        ),
        (
            "POST http://HOST/ HTTP/1.1\r\nhost: HOST\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
            400,
            "upgrade",
        ),
        (
            "CONNECT HOST HTTP/1.1\r\nhost: denied.example\r\n\r\n",
            421,
            "does not name the target",
        ),
    ];
    for (request, code, words) in table {
        let request = request.replace("HOST", &authority);
        let (found, head, body) = ask(house.http, request.as_bytes()).await;
        assert_eq!(found, code, "{request}: {body}");
        assert!(body.contains(words), "{request}: {body}");
        assert!(
            field(&head, "x-cordon-decision").is_some(),
            "{request}: {head}"
        );
    }
    assert!(origin.is_quiet());
    assert_eq!(ask(house.http, &get(&authority, "/")).await.0, 200);
    assert_eq!(origin.head().await.lines().count(), 4);
    assert_eq!(origin.reached(), 1);
    let records = house.end().await;
    assert_eq!(decisions(&records, "deny").len(), table.len());
}

#[tokio::test]
async fn n03_n28_bytes_that_are_no_http_are_refused_and_recorded() {
    let (house, origin) = (house(), Origin::start().await);
    let mut refused = 0;
    let table: [&[u8]; 6] = [
        b"PRI * HTTP/2.0\r\nx: y\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"\x05\x01\x00",
        b"GET http://allowed.example/ HTTP/1.1\r\nhost : a\r\n\r\n",
        b"GET http://allowed.example/ HTTP/1.1\r\nx: a\r\n b\r\nhost: a\r\n\r\n",
        b"GET http://al lowed.example/ HTTP/1.1\r\nhost: a\r\n\r\n",
    ];
    for bytes in table {
        let mut stream = house.client(house.http).await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is an answer too.
        let _reset = bounded(stream.read_to_end(&mut answer)).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{bytes:?}");
        refused += 1;
    }
    assert_eq!(origin.reached(), 0);
    assert_eq!(refused, table.len());
    let records = house.end().await;
    let recorded = decisions(&records, "deny");
    assert_eq!(recorded.len(), table.len(), "{recorded:#?}");
    for record in recorded {
        assert_eq!(record["reason"], "malformed");
    }
}

#[tokio::test]
async fn n12_a_host_field_that_differs_is_misdirected() {
    let (house, origin) = (house(), Origin::start().await);
    let authority = format!("allowed.example:{}", origin.port());
    let request = format!("GET http://{authority}/ HTTP/1.1\r\nhost: denied.example\r\n\r\n");
    let (code, _, body) = ask(house.http, request.as_bytes()).await;
    assert_eq!(code, 421, "{body}");
    assert_eq!(origin.reached(), 0);
    // The same host in another spelling agrees.
    let request = format!(
        "GET http://{authority}/ HTTP/1.1\r\nhost: ALLOWED.example.:{}\r\n\r\n",
        origin.port()
    );
    assert_eq!(ask(house.http, request.as_bytes()).await.0, 200);
    house.end().await;
}

#[tokio::test]
async fn n23_a_redirect_is_passed_on_and_not_followed() {
    let house = house();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = tokio::spawn(async move {
        let request = get(&format!("allowed.example:{port}"), "/");
        ask(house.http, &request).await.0
    });
    let (mut origin, _) = bounded(listener.accept()).await.unwrap();
    message(&mut origin).await.unwrap();
    origin
        .write_all(
            format!(
                "HTTP/1.1 302 Found\r\nlocation: http://denied.example:{port}/\r\ncontent-length: 0\r\n\r\n"
            )
            .as_bytes(),
        )
        .await
        .unwrap();
    assert_eq!(client.await.unwrap(), 302);
}

#[tokio::test]
async fn n24_a_head_beyond_the_bounds_is_refused() {
    let (house, origin) = (house(), Origin::start().await);
    let authority = format!("allowed.example:{}", origin.port());
    let long = "y".repeat(cordon_proxy::limits::HEAD_BYTES);
    let many: String = (0..150).map(|i| format!("x-{i}: 1\r\n")).collect();
    for fields in [format!("x: {long}\r\n"), many] {
        let request =
            format!("GET http://{authority}/ HTTP/1.1\r\nhost: {authority}\r\n{fields}\r\n");
        let mut stream = house.client(house.http).await;
        // The proxy may close before it has all been sent.
        let _closed = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _reset = bounded(stream.read_to_end(&mut answer)).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
    assert_eq!(origin.reached(), 0);
    assert_eq!(ask(house.http, &get(&authority, "/")).await.0, 200);
    let records = house.end().await;
    assert_eq!(decisions(&records, "deny").len(), 2);
}

/// As many fields as may be, `Host` and two that stop here among them; and one more.
#[tokio::test]
async fn n24_the_last_field_that_may_be_passes_and_the_next_is_recorded() {
    let (house, origin) = (house(), Origin::start().await);
    let authority = format!("allowed.example:{}", origin.port());
    let request = |more: usize| {
        let fields: String = (0..more).map(|i| format!("x-{i}: 1\r\n")).collect();
        format!(
            "GET http://{authority}/ HTTP/1.1\r\nhost: {authority}\r\nkeep-alive: 5\r\n\
             proxy-connection: keep-alive\r\n{fields}\r\n"
        )
        .into_bytes()
    };
    let most = cordon_proxy::limits::HEAD_FIELDS - 3;
    assert_eq!(ask(house.http, &request(most)).await.0, 200);
    assert_eq!(ask(house.http, &request(most + 1)).await.0, 431);
    assert_eq!(origin.reached(), 1);
    let records = house.end().await;
    assert_eq!(decisions(&records, "allow").len(), 1);
    assert_eq!(decisions(&records, "deny").len(), 1);
}
