//! What the decision API does with what is no request: every operation of its own OpenAPI
//! description, none left out.

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
                let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
                let takes_null = schema.to_string().contains(r#"{"type":"null"}"#);
                for body in ["{", "{\"zz\": 1, \"zz\": 2}", "{\"zz\": 1}", "[]", "7", "null", "\"x\"", "\u{1}"] {
                    if body == "null" && takes_null {
                        continue;
                    }
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

fn sessions(world: &World) -> BTreeSet<String> {
    let (code, listed) = curl(world, "/v1/sessions", &[]);
    assert_eq!(code, 200, "{listed}");
    let ids = listed.as_array().unwrap().iter();
    ids.map(|session| session["id"].as_str().unwrap().to_owned())
        .collect()
}
