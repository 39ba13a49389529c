//! Every class of OCSF event that records become validates against the published 1.8.0 schema.
//!
//! Skipped with a message where `CORDON_TEST_PYTHON` names no Python with `ocsf-json-schema` and
//! `jsonschema`.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use cordon_audit::{
    Record,
    export::{Format, Source, one},
};
use serde_json::{Value, json};

/// One record of each shape that becomes a class or an activity of its own.
fn records() -> Vec<Value> {
    let decision = |action: &str, kind: &str, id: &str, effect: &str| {
        let rules = if effect == "allow" {
            json!(["allow-api"])
        } else {
            json!([])
        };
        json!({
            "kind": "decision", "action": action, "effect": effect,
            "enforced": if effect == "allow" { "allowed" } else { "blocked" },
            "reason": if effect == "allow" { "rule" } else { "default_deny" },
            "rules": rules,
            "policy": {"set": "default", "sha256": "00ff"},
            "resource": {"id": id, "type": kind},
        })
    };
    let mut all = Vec::new();
    for effect in ["allow", "deny", "ask", "error"] {
        for (host, dst) in [("api.example.com", None), ("192.0.2.7", Some("192.0.2.7"))] {
            let mut connect = decision("net.connect", "network", "x:443", effect);
            connect["net"] = json!({"proto": "tcp", "via": "socks5", "host": host, "dport": 443});
            if let Some(dst) = dst {
                connect["net"]["dst"] = json!(dst);
            }
            all.push(connect.clone());
            for method in ["GET", "POST", "CONNECT", "PATCH", "PROPFIND"] {
                let mut request = connect.clone();
                request["action"] = json!("http.request");
                request["http"] = json!({"method": method, "path": "/v1/x"});
                all.push(request);
            }
            let mut lookup = connect;
            lookup["action"] = json!("dns.query");
            all.push(lookup);
        }
        all.push(decision("folder.grant", "folder", "/home/ann/work", effect));
        all.push(decision(
            "path.delete",
            "path",
            "/home/ann/project/x",
            effect,
        ));
        all.push(decision(
            "file.write",
            "path",
            "/home/ann/project/x",
            effect,
        ));
        all.push(decision("proc.exec", "program", "git", effect));
        all.push(decision("session.start", "program", "claude", effect));
        all.push(decision("tool.call", "tool", "files/read", effect));
        all.push(decision("connector.enable", "connector", "mail", effect));
    }
    let mut malformed = decision("malformed", "network", "x", "deny");
    malformed["raw"] = json!({"door": "http", "problem": "no port", "text": "a\u{1b}b\n"});
    all.push(malformed);
    for kind in [
        "flow.close",
        "session.start",
        "session.end",
        "start",
        "stop",
        "log.gap",
        "export",
        "log.origin",
        "key.rotate",
        "retention.prune",
        "originals.purge",
        "retention.hold",
        "retention.release",
        "redaction",
    ] {
        all.push(
            json!({"kind": kind, "lost": 3, "end": "completed", "bytes_out": 10, "bytes_in": 20,
            "dur_us": 1500, "exit_code": 1}),
        );
    }
    for (seq, record) in all.iter_mut().enumerate() {
        let id = format!("01890a5d-ac96-774b-bcce-{seq:012x}");
        for (key, value) in [
            ("v", json!(1)),
            ("seq", json!(seq)),
            ("id", json!(id)),
            ("mode", json!("enforce")),
            ("ts_us", json!(1_780_000_000_000_000_u64)),
            ("mono_us", json!(5)),
            ("session", json!("01890a5d-ac96-774b-bcce-b302099a8057")),
            ("principal", json!({"id": "ann", "type": "user"})),
        ] {
            record[key] = value;
        }
    }
    // And the least that a record can say.
    let mut bare = all.clone();
    for record in &mut bare {
        for key in [
            "net",
            "http",
            "resource",
            "session",
            "principal",
            "policy",
            "rules",
            "raw",
        ] {
            record.as_object_mut().unwrap().remove(key);
        }
    }
    all.extend(bare);
    all
}

/// What the validator says to these events.
fn validate(events: &[Vec<u8>]) -> Option<(bool, String)> {
    let python = std::env::var("CORDON_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let there = Command::new(&python)
        .args(["-c", "import ocsf_json_schema, jsonschema"])
        .output();
    if !there.is_ok_and(|output| output.status.success()) {
        println!("skipped: CORDON_TEST_PYTHON names no Python with ocsf-json-schema");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/verifiers/ocsf.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&events.concat()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    Some((output.status.success(), said))
}

#[test]
fn every_event_of_every_class_validates() {
    let source = Source {
        origin: "cordon/01890a5d-ac96-774b-bcce-b302099a8057".into(),
        host: "host.example.com".into(),
    };
    let events: Vec<Vec<u8>> = records()
        .into_iter()
        .map(|record| {
            let record: Record = serde_json::from_value(record).unwrap();
            one(Format::Ocsf, &record, b"", &source).unwrap()
        })
        .collect();
    let Some((good, said)) = validate(&events) else {
        return;
    };
    assert!(good, "{said}");
    for class in [1001, 1007, 2004, 3003, 4001, 4002, 4003, 6002, 6003] {
        assert!(said.contains(&format!("{class}=")), "{class}: {said}");
    }
    // The validator refuses what is wrong.
    for (from, to) in [
        ("\"severity_id\":", "\"severity\":"),
        ("\"activity_id\":1,", "\"activity_id\":77,"),
    ] {
        let changed: Vec<Vec<u8>> = events
            .iter()
            .map(|event| {
                String::from_utf8(event.clone())
                    .unwrap()
                    .replace(from, to)
                    .into_bytes()
            })
            .collect();
        let (good, said) = validate(&changed).unwrap();
        assert!(!good, "{from}: {said}");
    }
}
