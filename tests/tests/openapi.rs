//! The API against its own description: Schemathesis, which others wrote, makes requests of it, right
//! ones and wrong ones, and looks at every answer.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command, thread};

use cordon_tests::{
    api::{Remote, curl, end, hosted, send},
    for_both,
    link::Link,
};
use serde_json::{Value, json};

/// Whose token is `secret`.
const DIGEST: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

for_both! {
    /// Statuses, media types, bodies, methods, and what is refused: as it is described. The same
    /// requests every time.
    fn every_operation_does_what_its_description_says(world) {
        let Some(python) = std::env::var_os("CORDON_TEST_PYTHON").map(PathBuf::from) else {
            return;
        };
        let name = world.account().name.clone();
        // The daemon's own user, over TLS: whom everything is open to.
        let caller = format!("[[api.callers]]\nname = {name:?}\ntoken_sha256 = \"{DIGEST}\"\n");
        let remote = Remote::configured(world, "", &caller);
        let (id, other) = (hosted(world, &[]), hosted(world, &[]));
        let told = Command::new(python.with_file_name("schemathesis"))
            .current_dir(world.folder("schemathesis"))
            .envs([("SESSION", &id), ("OTHER", &other)])
            .args(["--config-file", concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/schemathesis.toml"), "--no-color", "run"])
            .arg(format!("https://localhost:{}/v1/openapi.json", remote.port()))
            .args(["--tls-verify", remote.ca(), "-H", "Authorization: Bearer secret"])
            // One worker: two threads that parse Python at once can fail each other in CPython 3.11
            // (github.com/python/cpython/issues/106905), and the same requests come every time.
            .args(["--seed", "1", "-n", "10", "--workers", "1", "--continue-on-failure"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&told.stdout);
        assert!(told.status.success(), "{said}{}", String::from_utf8_lossy(&told.stderr));
        // It did try them: each operation, many times.
        let (_, described) = curl(world, "/v1/openapi.json", &[]);
        let all = described["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len());
        let all: usize = all.sum();
        assert!(said.contains(&format!("Tested: {all}\n")), "{said}");
        let tried = said.lines().find_map(|line| line.trim().split_once(" generated, ")?.0.parse::<usize>().ok());
        assert!(tried.is_some_and(|tried| tried > 20 * all), "{tried:?} of {all} operations");
        for id in [id, other] {
            assert_eq!(curl(world, &format!("/v1/sessions/{id}"), &[]).0, 200, "the session is still there");
            end(world, &id);
        }
        let _leftover = fs::remove_dir_all(world.home().join("schemathesis"));
    }

    /// Wherever a key is described one is taken: the same call has the same answer, another is told
    /// so; and everything that changes something describes one, or decides each time.
    fn a_key_is_taken_wherever_one_is_described(world) {
        let id = hosted(world, &[]);
        let (_, described) = curl(world, "/v1/openapi.json", &[]);
        let mut link = Link::unix(world);
        let mut tried = 0;
        for (path, operations) in described["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let method = method.to_uppercase();
                let parameters = operation["parameters"].as_array();
                let takes = parameters.is_some_and(|all| all.iter().any(|one| one["name"] == "Idempotency-Key"));
                // The session that is asked is not ended or cancelled by it.
                let ends = path.ends_with("/cancel") || (path == "/v1/sessions/{id}" && method == "DELETE");
                let session = if ends { "nobody" } else { &id };
                let path = path.replace("{id}", session).replace("{name}", "x").replace("{server}", "x");
                let key = format!("idempotency-key: {tried}");
                let more = [key.as_str()];
                let first = link.call(&method, &path, &more, "{\"n\": 1}").unwrap();
                let again = link.call(&method, &path, &more, "{\"n\": 1}").unwrap();
                let other = link.call(&method, &path, &more, "{\"n\": 2}").unwrap();
                let replayed = again.head.contains("idempotency-replayed: true");
                assert_eq!((replayed, other.status == 422), (takes, takes), "{method} {path}: {}", other.json());
                if takes {
                    assert_eq!((first.status, &first.body), (again.status, &again.body), "{method} {path}");
                    tried += 1;
                }
                // Whatever is refused is a problem with all its parts; the standard's are a text.
                let problem = first.json();
                if first.status >= 400 && !path.starts_with("/access/") {
                    assert!(first.head.contains("content-type: application/problem+json"), "{method} {path}: {}", first.head);
                    assert_eq!(problem["status"], first.status);
                    for part in ["type", "title", "detail", "help"] {
                        assert!(problem[part].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}: {problem}");
                    }
                }
            }
        }
        assert!(tried >= 15, "{tried}");
        assert_eq!(curl(world, &format!("/v1/sessions/{id}"), &[]).0, 200);
        end(world, &id);
    }

    /// What is asked of a session that does not run is refused on record, however it is asked; a flood
    /// of it is a few records.
    fn a_refusal_without_a_session_is_recorded(world) {
        let id = hosted(world, &[]);
        let refused = || {
            let raw = |record: &Value| record["reason"] == "malformed" && record["session"] == "administration";
            let found = world.cordon(&["audit", "query", "--format", "json", "--limit", "1000", "--effect", "deny"]);
            let found: Value = serde_json::from_str(&found.text()).unwrap();
            found["records"].as_array().unwrap().iter().filter(|record| raw(record)).count()
        };
        let asked = json!({"ask": ["connect", "a.test:443"]}).to_string();
        assert_eq!(refused(), 0);
        assert_eq!(send(world, "POST", "/v1/sessions/nobody/decisions", &asked).0, 404);
        assert_eq!(refused(), 1);
        let wrong = "authorization: Bearer cordon-session.x.y";
        assert_eq!(curl(world, "/v1/sessions", &["-H", wrong]).0, 401);
        assert_eq!(refused(), 2);
        // To look is not to ask, and what runs is asked as ever.
        assert_eq!(curl(world, "/v1/sessions/nobody", &[]).0, 404);
        assert_eq!(send(world, "POST", &format!("/v1/sessions/{id}/decisions"), &asked).0, 200);
        assert_eq!(refused(), 2);
        let mut link = Link::unix(world);
        for _ in 0..200 {
            assert_eq!(link.call("POST", "/v1/sessions/nobody/decisions", &[], &asked).unwrap().status, 404);
        }
        assert!((16..=64).contains(&refused()), "{}", refused());
        end(world, &id);
    }

    /// Whatever is asked of a session that is paused waits and is refused, as it is described.
    fn what_is_asked_of_a_paused_session_is_answered_as_described(world) {
        let id = hosted(world, &[]);
        let (_, described) = curl(world, "/v1/openapi.json", &[]);
        assert_eq!(send(world, "POST", &format!("/v1/sessions/{id}/pause"), "").0, 200);
        let calls = [
            ("post", "decisions", json!({"ask": ["connect", "a.test:443"]})),
            ("put", "browser", Value::Null),
            ("post", "browser/navigations", json!({"url": "https://a.test/"})),
            ("post", "browser/actions", json!({"url": "https://a.test/", "kind": "click"})),
            ("post", "mcp/notes", Value::Null),
            ("post", "mcp/notes/decisions", json!({"kind": "tool", "name": "x"})),
        ];
        // Side by side, since each waits for as long as a decision may.
        let answered = thread::scope(|scope| {
            let all: Vec<_> = calls.iter().map(|(method, what, body)| {
                let mut link = Link::unix(world);
                let (path, body) = (format!("/v1/sessions/{id}/{what}"), body.to_string());
                scope.spawn(move || link.call(&method.to_uppercase(), &path, &[], &body).unwrap())
            }).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        for ((method, what, _body), said) in calls.iter().zip(answered) {
            assert_eq!(said.status, 409, "{method} {what}: {}", said.json());
            let template = what.replace("notes", "{server}");
            let responses = &described["paths"][format!("/v1/sessions/{{id}}/{template}")][method]["responses"];
            assert!(responses["409"].is_object(), "{method} {what}: {responses}");
        }
        assert_eq!(send(world, "POST", &format!("/v1/sessions/{id}/resume"), "").0, 200);
        end(world, &id);
    }

    /// Whatever decides says by which record, allowed or not, and the description says that it does.
    fn every_answer_of_a_decision_carries_its_record(world) {
        world.config.push_str("[connectors.tracker]\ndescription = \"Issues\"\nkind = \"http\"\n[connectors.tracker.scopes]\n\"read\" = \"Read\"\n");
        let rules = |effect: &str| format!("{effect} (principal, action in [Action::\"connectors\", Action::\"extensions\", \
            Action::\"browser\", Action::\"connect\", Action::\"grant\"], resource);");
        let open = |effect: &str| {
            let file = world.write(format!("home/{effect}.cedar"), rules(effect));
            let new = json!({"program": "harness", "policy": ["host-tools", file]}).to_string();
            let (code, session) = send(world, "POST", "/v1/sessions", &new);
            assert_eq!(code, 201, "{session}");
            session["id"].as_str().unwrap().to_owned()
        };
        let (may, may_not) = (open("permit"), open("forbid"));
        let folder = world.folder("home/more");
        let strict = json!({"program": "harness"});
        let evaluation = |id: &str| json!({
            "subject": {"type": "Session", "id": id}, "action": {"name": "connect"},
            "resource": {"type": "Host", "id": "a.test"}, "context": {"port": 443},
        });
        let mut described = deciding(&curl(world, "/v1/openapi.json", &[]).1);
        for (operation, body) in [
            ("POST /v1/sessions", json!({"program": "harness", "policy": ["host-tools"]})),
            ("POST /v1/sessions/{id}/decisions", json!({"ask": ["connect", "a.test:443"]})),
            ("POST /v1/sessions/{id}/grants", json!({"path": folder, "mode": "ro"})),
            ("PATCH /v1/sessions/{id}/grants", json!({"grant": "more", "mode": "rw"})),
            ("PUT /v1/sessions/{id}/connectors/tracker", json!({"scopes": ["read"]})),
            ("POST /v1/sessions/{id}/connectors/tracker/uses", json!({"scope": "read"})),
            ("PUT /v1/sessions/{id}/browser", Value::Null),
            ("POST /v1/sessions/{id}/browser/navigations", json!({"url": "https://a.test"})),
            ("POST /v1/sessions/{id}/browser/actions", json!({"url": "https://a.test", "kind": "click"})),
            ("POST /v1/sessions/{id}/mcp/notes", Value::Null),
            ("POST /v1/sessions/{id}/mcp/notes/decisions", json!({"kind": "tool", "name": "add"})),
            ("POST /access/v1/evaluation", Value::Null),
            ("POST /access/v1/evaluations", Value::Null),
        ] {
            let (method, path) = operation.split_once(' ').unwrap();
            for (id, expected) in [(&may, true), (&may_not, false)] {
                let body = match path {
                    "/v1/sessions" if !expected => strict.clone(),
                    "/access/v1/evaluation" => evaluation(id),
                    "/access/v1/evaluations" => json!({"evaluations": [evaluation(id)]}),
                    _other => body.clone(),
                };
                // A mode is changed of a grant that is there, a tool is called of what is loaded.
                let needs_more = operation.starts_with("PATCH") || path.ends_with("/mcp/notes/decisions");
                if needs_more && !expected {
                    continue;
                }
                let (code, said) = send(world, method, &path.replace("{id}", id), &body.to_string());
                let told = format!("{operation} {expected}: {code} {said}");
                let decision = find_id(&said).unwrap_or_else(|| panic!("no record: {told}"));
                let shown = world.cordon(&["audit", "show", "--format", "json", &decision]);
                let record: Value = serde_json::from_str(shown.text().lines().next().unwrap_or_default()).unwrap_or_default();
                let record = &record["record"];
                assert_eq!((&record["id"], record["effect"] == "allow"), (&json!(decision), expected), "{told}: {shown}");
            }
            let named = operation.replace("tracker", "{name}").replace("notes", "{server}");
            assert!(described.remove(&named) || path.starts_with("/access/"), "{named} is not described so");
        }
        // Taking back is no decision, and shows that of the grant; the last needs an extension.
        for other in [
            "DELETE /v1/sessions/{id}/grants", "POST /v1/sessions/{id}/extensions/{name}/permissions",
            // Acts of the user for themselves; `approvals`, `extension` and `manage` try them.
            "POST /v1/approvals/{id}", "POST /v1/extensions", "POST /v1/extensions/{name}/approve", "POST /v1/sessions/{id}/tokens",
        ] {
            assert!(described.remove(other), "{other}");
        }
        assert!(described.is_empty(), "untried: {described:?}");
        world.cordon(&["stop", "--force"]).expect_code(0);
    }

    /// Limits that its description names are kept.
    fn a_number_beyond_its_limit_is_refused(world) {
        let id = hosted(world, &[]);
        for (path, code) in [
            ("/v1/approvals?wait=300", 200),
            ("/v1/approvals?wait=301", 400),
            ("/v1/approvals?seen=9007199254740992&wait=0", 400),
            ("/v1/events?after=9007199254740991", 200),
            ("/v1/events?after=9007199254740992", 400),
            ("/v1/sessions?limit=1000", 200),
            ("/v1/sessions?limit=1001", 400),
            ("/v1/sessions?limit=0", 400),
            ("/v1/sessions?surprise=1", 400),
        ] {
            let (status, said) = curl(world, path, &[]);
            assert_eq!(status, code, "{path}: {said}");
        }
        // A method that is not taken is that, whatever key it came with before.
        let key = "idempotency-key: k";
        let body = json!({"program": "harness", "policy": ["host-tools"]}).to_string();
        assert_eq!(curl(world, "/v1/sessions", &["-H", key, "-d", &body]).0, 201);
        assert_eq!(curl(world, "/v1/sessions", &["-H", key, "-X", "PATCH", "-d", &body]).0, 405);
        assert_eq!(curl(world, "/v1/sessions", &["-H", key, "-d", "{}"]).0, 422, "the control");
        end(world, &id);
        world.cordon(&["stop", "--force"]).expect_code(0);
    }
}

/// The operations that change or ask something and answer with the record of a decision, as they are
/// described.
fn deciding(described: &Value) -> BTreeSet<String> {
    let schemas = &described["components"]["schemas"];
    let mut found = BTreeSet::new();
    for (path, operations) in described["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let answers = ["200", "201"].map(|status| &operation["responses"][status]);
            if method != "get" && answers.into_iter().any(|answer| has_id(answer, schemas, 0)) {
                found.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    found
}

fn has_id(part: &Value, schemas: &Value, depth: usize) -> bool {
    match part {
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            let referred = value.as_str().filter(|_| name == "$ref" && depth < 8);
            let referred = referred.and_then(|path| path.rsplit('/').next());
            name == "decision_id"
                || referred.is_some_and(|name| has_id(&schemas[name], schemas, depth + 1))
                || has_id(value, schemas, depth)
        }),
        Value::Array(all) => all.iter().any(|one| has_id(one, schemas, depth)),
        _other => false,
    }
}

/// The first record that an answer names as its decision, its own before those of its parts.
fn find_id(said: &Value) -> Option<String> {
    if let Some(id) = said["decision_id"].as_str() {
        return Some(id.to_owned());
    }
    match said {
        Value::Object(fields) => fields.values().find_map(find_id),
        Value::Array(all) => all.iter().find_map(find_id),
        _other => None,
    }
}
