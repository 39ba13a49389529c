//! The numbers of the daemon: on its own listener and by command, and out of every session's reach.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
};

use cordon_tests::{Origin, for_both, origin::http::Reply};
use serde_json::Value;

/// A port that nobody listens on just now.
fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// What one request on a new connection gets, head and body.
#[expect(clippy::disallowed_methods, reason = "the test is the scraper here")]
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The value of a metric without labels.
fn value(text: &str, name: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {text}"))
        .parse()
        .unwrap()
}

const INSPECT: &str = r#"
@id("inside") @inspect("tls")
permit (principal, action == Action::"connect", resource == Host::"inside.test");
@id("inside-read")
permit (principal, action == Action::"http_read", resource == Host::"inside.test");
"#;

for_both! {
    fn n26_numbers_are_served_beside_sessions_and_not_to_them(world) {
        let listen = free();
        world.config = format!("[metrics]\nlisten = \"{listen}\"\n");
        let origin = world.allowed_origin("allowed.test");
        // Policy and configuration permit it, and it is refused all the same.
        world.policy.allow("numbers.test");
        world.route("numbers.test", listen);
        let script = format!(
            "curl -sf http://allowed.test:{}/ >&2; curl -s -o /dev/null -w '%{{http_code}} ' \
             http://numbers.test:{}/metrics; curl -s -o /dev/null -w '%{{http_code}}' \
             http://unknown.test/",
            origin.port(),
            listen.port(),
        );
        world
            .session(&["sh", "-c", &script])
            .run()
            .expect_code(0)
            .expect_stdout("403 403");

        let served = ask(listen, "GET /metrics");
        assert!(served.starts_with("HTTP/1.1 200"), "{served}");
        for text in [served, world.cordon(&["status", "--metrics"]).text()] {
            assert!(value(&text, "cordon_decisions_allowed_total") >= 2.0);
            assert!(value(&text, "cordon_bytes_in_total") > 0.0);
            assert_eq!(value(&text, "cordon_flows_open"), 0.0);
            assert_eq!(value(&text, "cordon_log_healthy"), 1.0);
            for line in [
                "cordon_decisions_denied_total{reason=\"address_not_permitted\"} 1",
                "cordon_decisions_denied_total{reason=\"default_deny\"} 1",
                "cordon_step_seconds_count{step=\"record\"}",
            ] {
                assert!(text.contains(line), "{line} in {text}");
            }
            assert!(!text.contains("allowed.test"), "{text}");
        }
        assert!(ask(listen, "GET /").starts_with("HTTP/1.1 404"));
        assert!(ask(listen, "POST /metrics").starts_with("HTTP/1.1 405"));
    }

    /// What waits for room, and what is refused for a bound, is counted and told (N24).
    fn n24_what_meets_a_bound_is_counted(world) {
        world.config = "[limits]\nconnections = 2\nbytes_out_per_destination = 4000\n".into();
        let origin = world.allowed_origin("allowed.test");
        let place = format!("allowed.test:{}", origin.port());
        let tcp = place.replace(':', "/");
        let script = format!(
            "exec 3<>/dev/tcp/{tcp} 4<>/dev/tcp/{tcp}
             curl -s -m 1 http://{place}/; echo waited $?
             exec 3>&-
             curl -s -m 20 -o /dev/null -w 'then %{{http_code}}\n' http://{place}/
             exec 4>&-
             head -c 9000 /dev/zero | curl -s -o /dev/null -m 20 --data-binary @- http://{place}/
             curl -s -m 20 http://{place}/"
        );
        let outcome = world.session(&["bash", "-c", &script]).run();
        let told = outcome.text();
        assert!(told.starts_with("waited 28\nthen 200\n"), "{outcome}");
        assert!(told.contains("bytes_out_per_destination"), "{outcome}");
        let text = world.cordon(&["status", "--metrics"]).text();
        assert!(value(&text, "cordon_connections_waited_total") >= 1.0, "{text}");
        assert!(value(&text, "cordon_limits_hit_total") >= 1.0, "{text}");
        let records = world.records(&outcome.session());
        assert!(records.iter().any(|one| one["reason"] == "limit"), "{records:?}");
    }

    /// Flows and refusals by their decisions' ids, and nothing of what was asked for.
    fn traces_reach_a_receiver_on_loopback(world) {
        let receiver = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = receiver.local_addr().unwrap();
        let taken = std::thread::spawn(move || take(&receiver));
        let headers = world.write("otlp-headers", "Authorization: Bearer tok-3141592\n");
        fs::set_permissions(&headers, fs::Permissions::from_mode(0o600)).unwrap();
        world.config = format!(
            "[telemetry]\notlp = \"http://{address}\"\nheaders_file = {headers:?}\n"
        );
        let origin = world.allowed_origin("allowed.test");
        let authority = world.authority();
        let inside = Origin::https(&authority, "inside.test", |_request| Reply::ok("hello\n"));
        world.route("inside.test", inside.address());
        world.policy.rule(INSPECT);
        let script = format!(
            "curl -sf http://allowed.test:{}/secret-path >&2; curl -s -o /dev/null \
             http://refused.test/; curl -sf https://inside.test:{}/secret-path >&2",
            origin.port(),
            inside.port()
        );
        let outcome = world.session(&["sh", "-c", &script]).run();
        let records = world.records(&outcome.session());
        let asked = |effect: &str| {
            let of = |record: &&Value| {
                record["effect"] == effect && record["resource"]["type"] == "network"
            };
            let found = records.iter().find(of).unwrap_or_else(|| panic!("{records:?}"));
            found["id"].as_str().unwrap().to_owned()
        };
        let (allowed, denied) = (asked("allow"), asked("deny"));
        // What is under way is sent before the daemon leaves.
        world.cordon(&["stop"]).expect_code(0);
        let sent = taken.join().unwrap();
        assert!(sent.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{sent}");
        for part in [
            "application/x-protobuf",
            "Bearer tok-3141592",
            &allowed,
            &denied,
            "allowed.test",
            "default_deny",
            "resolve",
            "connect",
            "refused",
            "first_byte",
            // Its length, so that it is the whole name.
            "*\u{3}tls",
        ] {
            assert!(sent.contains(part), "{part} in {sent}");
        }
        assert!(!sent.contains("secret-path"), "{sent}");
    }
}

/// All that one client sends, each request answered with an empty 200, until it leaves.
fn take(receiver: &TcpListener) -> String {
    let (stream, _peer) = receiver.accept().unwrap();
    let mut stream = BufReader::new(stream);
    let mut sent = Vec::new();
    loop {
        let mut length = 0;
        loop {
            let mut line = Vec::new();
            if stream.read_until(b'\n', &mut line).unwrap() == 0 {
                return String::from_utf8_lossy(&sent).into_owned();
            }
            sent.extend_from_slice(&line);
            let line = String::from_utf8_lossy(&line).to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        sent.extend(body);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.get_mut().write_all(answer).unwrap();
    }
}
