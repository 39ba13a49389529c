//! Speaks to the doors of a session byte by byte, through `probe.py` run inside.

use crate::{Outcome, World, fixtures, origin::raw::Echo};

const PYTHON: &str = "/usr/bin/python3";

/// Runs `probe.py` in a session.
#[track_caller]
pub fn run(world: &World, args: &[&str]) -> Outcome {
    fixtures::probe(world);
    let mut command = vec![PYTHON, "probe.py"];
    command.extend(args);
    world.session(&command).run()
}

/// Sends a CONNECT for `authority`, byte for byte, to the session's HTTP door.
#[track_caller]
pub fn connect(world: &World, authority: &[u8]) -> Outcome {
    fixtures::probe(world);
    let mut bytes = b"CONNECT ".to_vec();
    bytes.extend_from_slice(authority);
    bytes.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    bytes.extend_from_slice(authority);
    bytes.extend_from_slice(b"\r\n\r\n");
    world
        .session(&[PYTHON, "probe.py", "bytes", "127.0.0.1", "3128"])
        .stdin(bytes)
        .run()
}

/// Asks the session's SOCKS door for a name, byte for byte.
#[track_caller]
pub fn socks(world: &World, name: &[u8], port: u16) -> Outcome {
    let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    run(world, &["socks", &hex, &port.to_string()])
}

/// An origin led to by `name` that greets; policy is not told.
pub fn greeter(world: &mut World, name: &str) -> Echo {
    let echo = Echo::start("good day\n");
    world.route(name, echo.address());
    echo
}

/// Fails unless CONNECT was answered with 200 and the origin's greeting came through.
#[track_caller]
pub fn expect_tunnel(outcome: &Outcome) {
    let text = outcome.text();
    assert!(
        text.starts_with("HTTP/1.1 200") && text.contains("good day"),
        "{outcome}"
    );
}

/// Fails unless the answer has one of these HTTP statuses.
#[track_caller]
pub fn expect_status(outcome: &Outcome, statuses: &[u16]) {
    let text = outcome.text();
    let given = statuses
        .iter()
        .any(|status| text.starts_with(&format!("HTTP/1.1 {status}")));
    assert!(given, "one of {statuses:?} in {outcome}");
}

/// Allows every kind of network request to an address, by policy.
pub fn allow_address(world: &mut World, address: &str) {
    world.policy.rule(&format!(
        "@id(\"allow-{address}\") permit (principal, action in Action::\"network\", resource == Address::\"{address}\");"
    ));
}
