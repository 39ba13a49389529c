//! What the decision API does with what is no request, and with a daemon that is killed in the
//! middle of one: every operation of its own OpenAPI description, none left out.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::BTreeSet;

use cordon_tests::{
    World,
    api::{curl, end, hosted, send},
    for_both,
};
use serde_json::{Value, json};

/// The hook's answer is always the documented object: the agent takes any other for leave to go on.
const HOOK: &str = "/v1/hooks/claude-code/pre-tool-use";

for_both! {
    /// Each is told what is wrong, by a code that stays, and nothing is lost by it.
    fn every_operation_refuses_what_is_no_request(world) {
        let id = hosted(world, &[]);
        let big = world.write("big.json", format!("{{\"a\": \"{}\"}}", "x".repeat(10_000_000)));
        let big = format!("@{}", big.display());
        let (_, described) = curl(world, "/v1/openapi.json", &[]);
        let mut tried = 0;
        for (path, operations) in described["paths"].as_object().unwrap() {
            let path = filled(path, &id);
            for (method, operation) in operations.as_object().unwrap() {
                if operation.get("requestBody").is_none() {
                    continue;
                }
                let method = method.to_uppercase();
                for body in ["{", "{\"zz\": 1, \"zz\": 2}", "{\"zz\": 1}", "[]", "7", "null", "\"x\"", "\u{1}"] {
                    refused(&path, body, &send(world, &method, &path, body));
                }
                // Curl waits for the answer before it sends so much; the hook reads it all first.
                let all = ["-X", &method, "-H", "expect: 100-continue", "--expect100-timeout", "60", "--data-binary", &big];
                let (code, answer) = curl(world, &path, &all);
                if path == HOOK {
                    refused(&path, "much", &(code, answer));
                } else {
                    assert_eq!((code, &answer["type"]), (413, &json!("urn:cordon:problem:too-large")), "{method} {path}");
                }
                tried += 1;
            }
            let (code, problem) = curl(world, &path, &["-X", "BREW"]);
            assert_eq!((code, &problem["type"]), (405, &json!("urn:cordon:problem:method")), "BREW {path}");
        }
        assert!(tried > 20, "{tried}");
        for path in ["/", "/v1", "/v1/", "/v1/sessions/../sessions", "/v1/sessions/%2e%2e", "/v1/sessions/%00", "/v1//sessions"] {
            let (code, answer) = curl(world, path, &["--path-as-is"]);
            assert_eq!(code, 404, "{path}: {answer}");
        }
        // The control: what is a request is done, by the session that was there before.
        let asked = json!({"ask": ["connect", "a.test:443"]}).to_string();
        let (code, told) = send(world, "POST", &format!("/v1/sessions/{id}/decisions"), &asked);
        assert_eq!((code, told["allowed"].is_boolean()), (200, true), "{told}");
        assert_eq!(sessions(world), BTreeSet::from([id.clone()]), "nothing else began");
        end(world, &id);
    }

    /// Whenever the daemon is killed while it does a call: what it had answered is so afterwards,
    /// and what it had not is done whole or not at all, as the log says.
    fn a02_a_call_that_a_kill_cuts_off_is_done_or_is_not(world) {
        let folder = world.folder("home/more");
        let id = hosted(world, &[]);
        let grants = format!("/v1/sessions/{id}/grants");
        let give = json!({"path": folder, "mode": "ro"}).to_string();
        let new = json!({"program": "harness", "policy": ["host-tools"]}).to_string();
        let mode = json!({"grant": "more", "mode": "rw"}).to_string();
        for moment in ["0", "0.002", "0.005", "0.01", "0.02"] {
            // A folder is handed over.
            let answered = cut_off(world, "POST", &grants, &give, moment);
            let there = granted(world, &id);
            assert!(there.is_some() || answered != 201, "{moment}: it was answered, and is gone");
            if there.is_none() {
                assert_eq!(send(world, "POST", &grants, &give).0, 201, "{moment}: not half done");
            }
            // Its mode changes.
            let answered = cut_off(world, "PATCH", &grants, &mode, moment);
            let now = granted(world, &id).unwrap();
            assert!(now == "rw" || (answered != 200 && now == "ro"), "{moment}: {answered} {now}");
            // It is taken back.
            let answered = cut_off(world, "DELETE", &format!("{grants}?grant=more"), "", moment);
            let there = granted(world, &id);
            assert!(there.is_none() || answered != 200, "{moment}: it was taken back, and is there");
            if there.is_some() {
                assert_eq!(curl(world, &format!("{grants}?grant=more"), &["-X", "DELETE"]).0, 200);
            }
            // A session begins, and each that runs began in the log and did not end there.
            let before = sessions(world);
            let answered = cut_off(world, "POST", "/v1/sessions", &new, moment);
            let after = sessions(world);
            assert!(before.is_subset(&after), "{moment}: none is lost");
            assert!(after.len() > before.len() || answered != 201, "{moment}: it was answered, and is gone");
            let (begun, ended) = (logged(world, "session.start"), logged(world, "session.end"));
            assert!(after.is_subset(&begun), "{moment}: {after:?} {begun:?}");
            assert!(after.is_disjoint(&ended), "{moment}: {after:?} {ended:?}");
            // And ends.
            for one in after.iter().filter(|one| **one != id) {
                let answered = cut_off(world, "DELETE", &format!("/v1/sessions/{one}"), "", moment);
                let runs = sessions(world).contains(one);
                assert!(!runs || answered != 204, "{moment}: it was ended, and runs");
                assert_eq!(runs, !logged(world, "session.end").contains(one), "{moment}: as the log says");
                if runs {
                    end(world, one);
                }
            }
        }
        world.cordon(&["audit", "verify"]).expect_code(0);
        end(world, &id);
    }
}

fn refused(path: &str, body: &str, (code, answer): &(u16, Value)) {
    if path == HOOK {
        let said = &answer["hookSpecificOutput"]["permissionDecision"];
        assert_eq!((*code, said), (200, &json!("deny")), "{body:?}: {answer}");
    } else if path.starts_with("/access/") {
        assert_eq!(
            (*code, answer.is_string()),
            (400, true),
            "{path} {body:?}: {answer}"
        );
    } else {
        let kind = &answer["type"];
        assert_eq!(
            (*code, kind),
            (400, &json!("urn:cordon:problem:malformed")),
            "{path} {body:?}: {answer}"
        );
        assert!(answer["detail"].is_string(), "{answer}");
    }
}

/// A path of the description, with this session wherever one is named.
fn filled(path: &str, session: &str) -> String {
    let filled = path.replace("/v1/sessions/{id}", &format!("/v1/sessions/{session}"));
    let parts = filled.split('/').map(|part| {
        if part.starts_with('{') {
            "nothing"
        } else {
            part
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Sends a call and kills the daemon so many seconds later; the status that was still answered, or
/// 0. The next daemon runs then.
fn cut_off(world: &World, method: &str, path: &str, body: &str, moment: &str) -> u16 {
    let socket = world.runtime().join("api.sock");
    let status = world.cordon(&["status", "--format", "json"]);
    let status: Value = serde_json::from_str(&status.text()).unwrap();
    let script = format!(
        "curl -s -o /dev/null -w '%{{http_code}}' --unix-socket '{}' -X {method} \
         -H 'content-type: application/json' --data-binary '{body}' 'http://localhost{path}' & \
         sleep {moment}; kill -9 {}; wait $!; true",
        socket.display(),
        status["pid"]
    );
    let said = world.host("sh", &["-c", &script]).text();
    world.session(&["true"]).run().expect_code(0);
    said.trim().parse().unwrap_or(0)
}

/// The mode of the folder that comes and goes.
fn granted(world: &World, id: &str) -> Option<String> {
    let (code, listed) = curl(world, &format!("/v1/sessions/{id}/grants"), &[]);
    assert_eq!(code, 200, "{listed}");
    let all = listed
        .as_array()
        .or_else(|| listed["grants"].as_array())
        .unwrap();
    let more = all
        .iter()
        .find(|grant| grant["path"].as_str().unwrap().ends_with("/more"));
    more.map(|grant| grant["mode"].as_str().unwrap().to_owned())
}

fn sessions(world: &World) -> BTreeSet<String> {
    let (code, listed) = curl(world, "/v1/sessions", &[]);
    assert_eq!(code, 200, "{listed}");
    let ids = listed.as_array().unwrap().iter();
    ids.map(|session| session["id"].as_str().unwrap().to_owned())
        .collect()
}

/// The sessions of which the log has such a record.
fn logged(world: &World, kind: &str) -> BTreeSet<String> {
    let found = world.cordon(&[
        "audit", "query", "--kind", kind, "--limit", "1000", "--format", "json",
    ]);
    let found: Value = serde_json::from_str(&found.text()).unwrap();
    let records = found["records"].as_array().unwrap().iter();
    records
        .filter_map(|record| Some(record["session"].as_str()?.to_owned()))
        .collect()
}
