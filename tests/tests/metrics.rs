//! The numbers of the daemon: on its own listener and by command, and out of every session's reach.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
};

use cordon_tests::for_both;

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
}
