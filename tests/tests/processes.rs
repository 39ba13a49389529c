//! The program behind a connection: what policy sees of it, and what the record says.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may end the test"
)]

use std::fs;

use cordon_tests::{World, for_both};
use serde_json::Value;

/// Asks through each way out of a session in turn and prints `200`, `403` or what went wrong.
const ASK: &str = r#"
import socket, sys
name, port = sys.argv[1], int(sys.argv[2])
def through_proxy():
    stream = socket.create_connection(("127.0.0.1", 3128), 10)
    stream.sendall(f"GET http://{name}:{port}/ HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode())
    return stream.recv(65536).split()[1].decode()
def captured():
    stream = socket.create_connection((name, port), 10)
    stream.sendall(f"GET / HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode())
    return (stream.recv(65536) + b" closed closed").split()[1].decode()
for way in (through_proxy, captured):
    try:
        print(way(), end=" ", flush=True)
    except OSError:
        print("refused", end=" ", flush=True)
"#;

/// Connects, shares the connection with a child, and only then asks.
const SHARE: &str = r#"
import os, socket, sys, time
name, port = sys.argv[1], sys.argv[2]
stream = socket.socket()
ready, go = os.pipe()
child = os.fork()
if child == 0:
    os.read(ready, 1)
    os._exit(0)
stream.connect(("127.0.0.1", 3128))
stream.sendall(f"GET http://{name}:{port}/ HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode())
print(stream.recv(65536).split()[1].decode())
os.write(go, b"x")
os.waitpid(child, 0)
"#;

fn only_by(world: &mut World, program: &str, name: &str) {
    let rule = format!(
        "permit (principal, action in Action::\"network\", resource == Host::\"{name}\")\n\
         when {{ context has process && context.process.executable == \"{program}\" }};"
    );
    world.policy.rule(&rule);
}

/// What the session's program is called in the end, links resolved.
fn resolved(program: &str) -> String {
    fs::canonicalize(program).unwrap().display().to_string()
}

fn asked<'a>(records: &'a [Value], effect: &str) -> Vec<&'a Value> {
    let network = |record: &&Value| record["resource"]["type"] == "network";
    let decided = |record: &&Value| record["effect"] == effect;
    records.iter().filter(network).filter(decided).collect()
}

for_both! {
    /// Through the proxy and captured alike.
    fn a_host_for_one_program_is_refused_to_another(world) {
        let origin = world.origin("one.test");
        let port = origin.port().to_string();
        let (curl, python) = (resolved("/usr/bin/curl"), resolved("/usr/bin/python3"));
        only_by(world, &curl, "one.test");

        let url = origin.url("one.test", "/");
        for ways in [&["-s", &url][..], &["-s", "--noproxy", "*", &url]] {
            let mut command = vec!["/usr/bin/curl"];
            command.extend(ways);
            let outcome = world.session(&command).run();
            outcome.expect_code(0).expect_stdout("hello from one.test");
            let records = world.records(&outcome.session());
            let allowed = asked(&records, "allow");
            assert!(!allowed.is_empty(), "{records:?}");
            for record in allowed {
                assert_eq!(record["process"]["exe"], curl.as_str(), "{record}");
                assert!(record["process"]["pid"].as_u64().unwrap() > 1, "{record}");
                let digest = record["process"]["exe_sha256"].as_str().unwrap_or_default();
                let sum = world.host("/usr/bin/sha256sum", &[&curl]).text();
                assert!(sum.starts_with(digest) && digest.len() == 64, "{record}");
            }
        }
        let outcome = world
            .session(&["/usr/bin/python3", "-c", ASK, "one.test", &port])
            .run();
        assert_eq!(outcome.text().trim(), "403 403", "{outcome}");
        let records = world.records(&outcome.session());
        let denied = asked(&records, "deny");
        assert_eq!(denied.len(), 2, "{records:?}");
        for record in denied {
            assert_eq!(record["process"]["exe"], python.as_str(), "{record}");
        }

        // The control: the same rule with the other program.
        only_by(world, &python, "one.test");
        let outcome = world
            .session(&["/usr/bin/python3", "-c", ASK, "one.test", &port])
            .run();
        assert_eq!(outcome.text().trim(), "200 200", "{outcome}");
    }

    /// Also by whom it was started, and by what is in it.
    fn policy_sees_parents_and_digests(world) {
        let origin = world.origin("two.test");
        let curl = resolved("/usr/bin/curl");
        let shell = resolved("/bin/bash");
        let sum = world.host("/usr/bin/sha256sum", &[&curl]).text();
        let digest = sum.split(' ').next().unwrap_or_default().to_owned();
        let rule = format!(
            "permit (principal, action in Action::\"network\", resource == Host::\"two.test\")\n\
             when {{ context has process.digest && context.process.digest == \"{digest}\" &&\n\
             context.process.ancestors.contains(\"{shell}\") }};"
        );
        world.policy.rule(&rule);
        let url = origin.url("two.test", "/");
        world
            .session(&["/usr/bin/curl", "-sf", &url])
            .run()
            .expect_code(22);
        let script = format!("/usr/bin/curl -sf {url}; exit $?");
        let outcome = world.session(&["/bin/bash", "-c", &script]).run();
        outcome.expect_code(0).expect_stdout("hello from two.test");
        let records = world.records(&outcome.session());
        let allowed = asked(&records, "allow");
        let parents = &allowed[0]["process"]["ancestors"];
        assert_eq!(parents[0], shell.as_str(), "{parents}");
    }

    /// Which of them speaks is not known, so a rule that names one of them permits neither.
    fn a_connection_that_two_processes_hold_is_nobodys(world) {
        let origin = world.origin("three.test");
        let port = origin.port().to_string();
        let python = resolved("/usr/bin/python3");
        only_by(world, &python, "three.test");
        let outcome = world
            .session(&["/usr/bin/python3", "-c", SHARE, "three.test", &port])
            .run();
        assert_eq!(outcome.text().trim(), "403", "{outcome}");
        let records = world.records(&outcome.session());
        let denied = asked(&records, "deny");
        let process = &denied[0]["process"];
        assert_eq!(process["exe"], python.as_str(), "{process}");
        assert_eq!(process["shared"][0], python.as_str(), "{process}");
    }
}
