//! Ports of a session that are reached from outside, and who may have them reached.

#![expect(clippy::unwrap_used, reason = "helpers of tests may end the test")]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    time::Duration,
};

use cordon_tests::{
    Bundle, World, for_both,
    process::{Running, eventually},
};
use rustix::process::Signal;
use serde_json::Value;

/// Listens on port 3000 inside and echoes.
const ECHO: &str = r#"
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(4096):
            self.request.sendall(data)
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("127.0.0.1", 3000), Echo).serve_forever()
"#;

fn may_publish(port: u16) -> String {
    format!(
        "permit (principal, action == Action::\"publish\", resource == Address::\"127.0.0.1\")\n\
         when {{ context.port == {port} && context.inside == 3000 }};"
    )
}

/// A port that nobody listens on.
fn free() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[expect(clippy::disallowed_methods, reason = "the test is the client here")]
fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// Whether a word comes back over an open connection.
fn echoes(stream: &mut TcpStream) -> bool {
    let mut word = [0; 4];
    stream.write_all(b"word").is_ok() && stream.read_exact(&mut word).is_ok() && word == *b"word"
}

/// A connection that has echoed once.
fn stands(port: u16) -> TcpStream {
    let mut standing = None;
    eventually("the published port answers", || {
        standing = connect(port)
            .ok()
            .and_then(|mut stream| echoes(&mut stream).then_some(stream));
        standing.is_some()
    });
    standing.unwrap()
}

fn end(world: &World, session: Running) -> Vec<Value> {
    session.signal(Signal::TERM);
    let outcome = session.finish();
    world.remember(&outcome);
    world.records(&outcome.session())
}

fn decisions<'a>(records: &'a [Value], effect: &str) -> Vec<&'a Value> {
    let published = |record: &&Value| record["action"] == "port.publish";
    let decided = |record: &&Value| record["effect"] == effect;
    records.iter().filter(published).filter(decided).collect()
}

for_both! {
    /// Loopback of the host leads to loopback inside; it ends with the session.
    fn a_published_port_is_reached_decided_and_recorded(world) {
        let port = free();
        world.policy.rule(&may_publish(port));
        let session = world
            .session(&["/usr/bin/python3", "-c", ECHO])
            .option("--publish", format!("{port}:3000"))
            .start();
        let mut stream = stands(port);
        assert!(echoes(&mut stream));
        let listed = world.cordon(&["session", "list", "--format", "json"]);
        let shown: Value = serde_json::from_str(listed.text().trim()).unwrap();
        let expected = serde_json::json!([{"address": "127.0.0.1", "port": port, "inside": 3000}]);
        assert_eq!(shown["published"], expected);
        let shown = world.cordon(&["session", "show", shown["session"].as_str().unwrap()]);
        let line = format!("127.0.0.1:{port} -> 3000 inside");
        assert!(shown.text().contains(&line), "{shown}");
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"", "the end goes through as well");
        let records = end(world, session);
        assert!(connect(port).is_err(), "nobody listens any more");

        let allowed = decisions(&records, "allow");
        assert!(allowed.len() >= 2, "the port and each connection: {records:?}");
        let name = format!("127.0.0.1:{port}:3000");
        assert!(allowed.iter().all(|record| record["resource"]["id"] == name.as_str()));
        let whole = |record: &&Value| record["bytes_out"] == 8 && record["bytes_in"] == 8;
        let closed = records.iter().find(whole).unwrap_or_else(|| panic!("{records:?}"));
        assert_eq!(closed["end"], "completed", "{closed}");
    }

    /// Also where another port, or the same on every address, is permitted.
    fn a_port_that_policy_does_not_name_is_not_published(world) {
        let port = free();
        world.session(&["true"]).option("--publish", port.to_string()).run().expect_code(3);
        world.policy.rule(&may_publish(port));
        for other in [
            format!("{port}:3001"),
            format!("{}:3000", free()),
            format!("0.0.0.0:{port}:3000"),
        ] {
            let outcome = world.session(&["true"]).option("--publish", &other).run();
            outcome.expect_code(3);
        }
        // The control.
        let own = format!("{port}:3000");
        world.session(&["true"]).option("--publish", &own).run().expect_code(0);
        // Without walls there is no inside.
        let outcome = world
            .session(&["true"])
            .option("--publish", &own)
            .option("--backend", "none")
            .run();
        outcome.expect_code(64);
    }

    /// Nothing listens inside: the connection closes, and the record says why.
    fn a_published_port_with_nobody_behind_it_closes(world) {
        let port = free();
        world.policy.rule(&may_publish(port));
        let session = world
            .session(&["sleep", "60"])
            .option("--publish", format!("{port}:3000"))
            .start();
        eventually("it is closed", || {
            let mut rest = Vec::new();
            connect(port).is_ok_and(|mut stream| stream.read_to_end(&mut rest).is_ok())
        });
        let records = end(world, session);
        let failed = records.iter().any(|record| record["end"] == "connect_failed");
        assert!(failed, "{records:?}");
    }

    /// Open connections too.
    fn n19_a_published_port_follows_policy(world) {
        let port = free();
        let folder = Bundle::house(1).rule(&may_publish(port)).write(world, "house");
        world.organisation(&format!("dir:{}", folder.display()), "");
        let session = world
            .session(&["/usr/bin/python3", "-c", ECHO])
            .built_in_policy()
            .option("--publish", format!("{port}:3000"))
            .start();
        let mut open = stands(port);
        Bundle::house(2).write(world, "house");
        eventually("revision 2 is in force", || world.live_revision() == Some(2));
        eventually("the connection is closed", || !echoes(&mut open));
        let refused = connect(port).is_ok_and(|mut stream| !echoes(&mut stream));
        assert!(refused, "a new one is closed at once");
        let records = end(world, session);
        assert!(records.iter().any(|record| record["end"] == "revoked"), "{records:?}");
        assert!(!decisions(&records, "deny").is_empty(), "{records:?}");
    }
}
