//! The decision API, `cordon decide` and the hooks of agents, as a runtime meets them: curl on the
//! unix socket, and what a session may really do beside what it was told.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::{fs::File, io, process::Stdio};

use cordon_tests::{
    Outcome, World,
    api::{curl, only_session, send},
    for_both, process,
};
use serde_json::{Value, json};

for_both! {
    /// The same requests by command line, AuthZEN, words, and really done inside: one answer.
    fn p03_every_channel_gives_the_same_answer(world) {
        let open = world.allowed_origin("open.test");
        let shut = world.origin("shut.test");
        world.policy.rule(
            "@id(\"files\") permit (principal, action in [Action::\"read\", Action::\"write\"], \
             resource);",
        );
        let inside = world.project_file("inside", "x");
        let outside = world.write("outside", "x");
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        for (host, port, allowed) in [
            ("open.test", open.port(), true),
            ("OPEN.test.", open.port(), true),
            ("shut.test", shut.port(), false),
            ("open.test.shut.test", open.port(), false),
            ("169.254.169.254", 80, false),
        ] {
            let context = json!({"port": port, "scheme": "http"});
            let kind = if host.starts_with("169") { "Address" } else { "Host" };
            for action in ["connect", "http_read"] {
                let told = evaluate(world, &id, action, kind, host, context.clone());
                assert_eq!(told["decision"], allowed, "{action} {host}: {told}");
                assert!(told["context"]["decision_id"].is_string(), "{told}");
            }
            let url = format!("http://{host}:{port}/");
            for words in [
                vec!["connect".to_owned(), format!("{host}:{port}")],
                vec!["GET".to_owned(), url.clone()],
            ] {
                let decided = decide(world, &id, &words);
                assert_eq!(decided.code, if allowed { 0 } else { 3 }, "{words:?}: {decided}");
            }
            for way in [&["-sS", "--fail-with-body"][..], &["-sSp", "--fail-with-body"], &["-sSf", "--socks5-hostname", "127.0.0.1:1080"]] {
                let done = exec(world, &id, &[&["curl"], way, &["--max-time", "20", &url]].concat());
                assert_eq!(done.code == 0, allowed, "{way:?} {host}: {done}");
            }
        }
        for (path, allowed) in [(&inside, true), (&outside, false)] {
            let path = path.to_str().unwrap();
            for action in ["read", "write"] {
                let told = evaluate(world, &id, action, "File", path, json!({}));
                assert_eq!(told["decision"], allowed, "{action} {path}: {told}");
                let decided = decide(world, &id, &[action.to_owned(), path.to_owned()]);
                assert_eq!(decided.code, if allowed { 0 } else { 3 }, "{decided}");
            }
            let told = evaluate(world, &id, "delete", "File", path, json!({}));
            assert_eq!(told["decision"], false, "delete {path}: {told}");
        }
        let name = inside.file_name().unwrap().to_str().unwrap();
        exec(world, &id, &["cat", name]).expect_code(0);
        assert_ne!(exec(world, &id, &["rm", "-f", name]).code, 0);
        assert_ne!(exec(world, &id, &["cat", outside.to_str().unwrap()]).code, 0);
        assert_eq!(shut.connections(), 0);
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
        let whole = world.cordon(&["audit", "verify"]);
        whole.expect_code(0);
    }

    /// What the standard asks of errors, batches and the metadata.
    fn authzen_answers_as_the_standard_says(world) {
        world.policy.allow("open.test");
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        let host = |name: &str| json!({"type": "Host", "id": name});
        let one = json!({
            "subject": {"type": "Session", "id": id},
            "action": {"name": "connect"},
            "resource": host("open.test"),
            "context": {"port": 443},
        });
        let (code, answer) = send(world, "POST", EVALUATION, &one.to_string());
        assert_eq!((code, &answer["decision"]), (200, &json!(true)), "{answer}");
        let without = |field: &str| {
            let mut asked = one.clone();
            asked.as_object_mut().unwrap().remove(field);
            asked.to_string()
        };
        let with = |field: &str, value: Value| {
            let mut asked = one.clone();
            asked[field] = value;
            asked.to_string()
        };
        for wrong in [
            String::new(),
            "{".into(),
            "[]".into(),
            "null".into(),
            without("subject"),
            without("action"),
            without("resource"),
            with("subject", json!("alice")),
            with("subject", json!({"type": "Session"})),
            with("resource", json!({"id": "open.test"})),
            with("action", json!({"name": 1})),
            with("context", json!([])),
            one.to_string().replacen('{', r#"{"context": {"port": 22}, "#, 1),
        ] {
            let (code, answer) = send(world, "POST", EVALUATION, &wrong);
            assert_eq!(code, 400, "{wrong}: {answer}");
            assert!(answer.is_string(), "{answer}");
        }
        let plain = curl(world, EVALUATION, &["-H", "content-type: text/plain", "-d", &one.to_string()]);
        assert_eq!(plain.0, 400);
        // Unknown fields are nobody's business; an unknown session or action is refused.
        let (code, answer) = send(world, "POST", EVALUATION, &with("more", json!({"a": 1})));
        assert_eq!((code, &answer["decision"]), (200, &json!(true)), "{answer}");
        for (field, value) in [
            ("subject", json!({"type": "Session", "id": "nobody"})),
            ("subject", json!({"type": "User", "id": "alice"})),
            ("action", json!({"name": "fly"})),
            ("context", json!({"port": 0})),
        ] {
            let (code, answer) = send(world, "POST", EVALUATION, &with(field, value));
            assert_eq!((code, &answer["decision"]), (200, &json!(false)), "{answer}");
        }
        let items = json!([
            {"resource": host("open.test")},
            {"resource": host("shut.test")},
            {"resource": {"type": "Host"}},
            {"resource": host("open.test"), "context": {}},
            {"resource": host("open.test")},
        ]);
        for (semantic, expected) in [
            ("execute_all", &[true, false, false, false, true][..]),
            ("deny_on_first_deny", &[true, false]),
            ("permit_on_first_permit", &[true]),
        ] {
            let mut batch = one.clone();
            batch["evaluations"] = items.clone();
            batch["options"] = json!({"evaluations_semantic": semantic});
            let (code, answer) = send(world, "POST", "/access/v1/evaluations", &batch.to_string());
            assert_eq!(code, 200);
            let given: Vec<bool> = answer["evaluations"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["decision"].as_bool().unwrap())
                .collect();
            assert_eq!(given, expected, "{semantic}: {answer}");
        }
        let (_, metadata) = curl(world, "/.well-known/authzen-configuration", &[]);
        let base = metadata["policy_decision_point"].as_str().unwrap();
        let endpoint = metadata["access_evaluation_endpoint"].as_str().unwrap();
        assert_eq!(endpoint, format!("{base}/access/v1/evaluation"));
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
    }

    /// A runtime's session: refused by the built-in policy, opened by one that allows it, its folders
    /// decided one by one, gone when it is ended; bad input is told what is wrong with it.
    fn a_runtime_holds_a_session_of_its_own(world) {
        let project = world.project();
        let file = world.project_file("a", "x");
        let new = |policy: Value| {
            json!({
                "program": "harness",
                "policy": policy,
                "grants": [{"path": project, "mode": "rw"}],
            })
            .to_string()
        };
        let (code, problem) = send(world, "POST", "/v1/sessions", &new(json!([])));
        assert_eq!(code, 403, "{problem}");
        assert_eq!(problem["type"], "urn:cordon:problem:denied");
        assert!(problem["detail"].as_str().unwrap().contains("never-without-walls"), "{problem}");
        assert!(problem["decision_id"].is_string());
        let (code, session) = send(world, "POST", "/v1/sessions", &new(json!(["host-tools"])));
        assert_eq!(code, 201, "{session}");
        let id = session["id"].as_str().unwrap();
        assert_eq!(session["backend"], "none");
        let ask = |words: &[&str]| {
            let body = json!({"ask": words}).to_string();
            send(world, "POST", &format!("/v1/sessions/{id}/decisions"), &body)
        };
        let path = file.to_str().unwrap();
        let (_, told) = ask(&["read", path]);
        assert_eq!((&told["allowed"], &told["path"]), (&json!(true), &json!(path)), "{told}");
        let (_, told) = ask(&["delete", path]);
        assert_eq!((&told["allowed"], &told["code"]), (&json!(false), &json!("grant_mode")), "{told}");
        for (path, body, expected, kind) in [
            ("/v1/sessions", "{", 400, "malformed"),
            ("/v1/sessions", r#"{"program": "x", "surprise": 1}"#, 400, "malformed"),
            ("/v1/sessions", r#"{"program": "x", "grants": [{"path": "a", "mode": "rw"}]}"#, 400, "malformed"),
            ("/v1/sessions", r#"{"program": "x", "grants": [{"path": "/a", "mode": "all"}]}"#, 400, "malformed"),
            ("/v1/sessions/none/decisions", r#"{"ask": ["enable", "browser"]}"#, 404, "no-session"),
            ("/v1/nothing", "{}", 404, "not-found"),
            ("/v1/openapi.json", "{}", 405, "method"),
        ] {
            let (code, problem) = send(world, "POST", path, body);
            assert_eq!(code, expected, "{path} {body}: {problem}");
            assert_eq!(problem["type"], format!("urn:cordon:problem:{kind}"));
        }
        let large = world.write("large", vec![b' '; 10_000_000]);
        let at = format!("@{}", large.display());
        let (code, problem) = curl(world, "/v1/sessions", &["--data-binary", &at]);
        assert_eq!(code, 413, "{problem}");
        let (_, document) = curl(world, "/v1/openapi.json", &[]);
        assert_eq!(document["openapi"], "3.1.0");
        assert!(document["paths"]["/access/v1/evaluation"]["post"].is_object());
        // What is no request is a recorded refusal too.
        assert_eq!(ask(&["fly", "away"]).0, 400);
        let gone = format!("/v1/sessions/{id}");
        assert_eq!(curl(world, &gone, &["-X", "DELETE"]).0, 204);
        assert_eq!(curl(world, &gone, &[]).0, 404);
        let shown = world.cordon(&["audit", "show", id]);
        shown.expect_code(0);
        for told in ["host-tools-files", "fly away"] {
            assert!(shown.text().contains(told), "{told}: {shown}");
        }
    }

    /// The documented object and exit code, whatever comes; what a tool comes to is decided by the
    /// folder that the agent works in.
    fn p01_p02_a_hook_never_fails_open(world) {
        let project = world.project();
        world.project_file("a", "x");
        let input = |tool: &str, given: Value| {
            json!({
                "session_id": "their-own", "transcript_path": "/x", "cwd": project,
                "permission_mode": "bypassPermissions", "hook_event_name": "PreToolUse",
                "tool_name": tool, "tool_input": given, "tool_use_id": "t",
            })
            .to_string()
        };
        for (tool, given, expected) in [
            ("Read", json!({"file_path": project.join("a")}), "allow"),
            ("Write", json!({"file_path": "new", "content": "x"}), "allow"),
            ("Read", json!({"file_path": "/etc/passwd"}), "deny"),
            ("Edit", json!({"file_path": "../../outside"}), "deny"),
            ("WebFetch", json!({"url": "https://shut.test/"}), "deny"),
            ("Bash", json!({"command": "true"}), "ask"),
            ("mcp__tracker__create", json!({}), "ask"),
            ("NewTool", json!({}), "deny"),
        ] {
            let said = hook(world, &input(tool, given));
            assert_eq!(said.code, 0, "{tool}: {said}");
            assert_eq!(decision(&said), expected, "{tool}: {said}");
        }
        // The same session of theirs under another policy is not the session that was opened before.
        let mut other_policy = world.command();
        other_policy.args(["hook", "pre-tool-use"]);
        let given = input("Read", json!({"file_path": project.join("a")}));
        let said = process::finish(other_policy, given.as_bytes());
        assert_eq!(decision(&said), "deny", "{said}");
        assert!(said.text().contains("never-without-walls"), "{said}");
        let wrong = input("Read", json!({"file_path": 1}));
        assert_eq!(decision(&hook(world, &wrong)), "deny");
        for broken in ["", "null", "[]", "{", &"[".repeat(100_000)] {
            let said = hook(world, broken);
            assert_eq!((said.code, decision(&said).as_str()), (2, "deny"), "{said}");
        }
        let other = input("Read", json!({"file_path": "a"})).replace("PreToolUse", "PostToolUse");
        assert_eq!(decision(&hook(world, &other)), "deny");
        // No daemon, and none can be started.
        world.cordon(&["stop", "--force"]).expect_code(0);
        world.config.push_str("mistake = ");
        let said = hook(world, &input("Read", json!({"file_path": "a"})));
        assert_eq!((said.code, decision(&said).as_str()), (2, "deny"), "{said}");
    }

    /// An agent runs the tool on any exit code but 2: also where nothing can be written, and where its
    /// settings have a flag that is not known.
    fn p01_a_hook_that_cannot_say_no_still_blocks(world) {
        let file = world.project_file("a", "x");
        let input = json!({"session_id": "their-own", "cwd": world.project(),
            "hook_event_name": "PreToolUse", "tool_name": "Read", "tool_input": {"file_path": file}});
        let (read, unread) = (input.to_string(), "{".to_owned());
        let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
        let closed = || Stdio::from(io::pipe().unwrap().1);
        let nowhere = Stdio::null;
        let code = |input: &str, more: &[&str], out: Stdio, err: Stdio| {
            let input = world.write("input.json", input);
            let mut command = world.command();
            command.current_dir(world.project());
            command.args(["hook", "pre-tool-use", "--policy", "host-tools"]).args(more);
            command.stdin(File::open(input).unwrap()).stdout(out).stderr(err);
            command.status().unwrap().code()
        };
        assert_eq!(code(&read, &[], nowhere(), nowhere()), Some(0), "the control: it is allowed");
        assert_eq!(code(&read, &[], nowhere(), full()), Some(0), "nothing is said there");
        for input in [&read, &unread] {
            assert_eq!(code(input, &[], full(), full()), Some(2), "{input}");
            assert_eq!(code(input, &[], closed(), closed()), Some(2), "{input}");
            assert_eq!(code(input, &[], full(), nowhere()), Some(2), "{input}");
        }
        assert_eq!(code(&unread, &[], nowhere(), full()), Some(2));
        assert_eq!(code(&read, &["--unknown"], nowhere(), nowhere()), Some(2));
        assert_eq!(code(&read, &["--unknown"], full(), full()), Some(2));
        // Another command's wrong usage is that, and its failure one also where nobody reads it.
        world.cordon(&["hook", "install", "--unknown"]).expect_code(64);
        let mut other = world.command();
        other.args(["session", "show", "nobody"]).stdout(full()).stderr(full());
        assert_eq!(other.status().unwrap().code(), Some(1));
        world.cordon(&["stop", "--force"]).expect_code(0);
    }

    /// No session reaches the API: not by its socket, not through the proxy's own name.
    fn n26_the_decision_api_is_not_there_for_a_session(world) {
        let socket = world.runtime().join("api.sock");
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        let sessions = curl(world, "/v1/sessions", &[]);
        assert_eq!(sessions.0, 200);
        let at = socket.to_str().unwrap();
        let tried = exec(world, &id, &["curl", "-sS", "--unix-socket", at, "http://localhost/v1/sessions"]);
        assert_ne!(tried.code, 0, "{tried}");
        for path in ["/v1/sessions", "/access/v1/evaluation"] {
            let url = format!("http://cordon.internal{path}");
            let tried = exec(world, &id, &["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", &url]);
            assert_eq!(tried.text(), "404", "{tried}");
        }
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
    }
}

const EVALUATION: &str = "/access/v1/evaluation";

fn evaluate(world: &World, id: &str, action: &str, kind: &str, of: &str, context: Value) -> Value {
    let asked = json!({
        "subject": {"type": "Session", "id": id},
        "action": {"name": action},
        "resource": {"type": kind, "id": of},
        "context": context,
    });
    let (code, answer) = send(world, "POST", EVALUATION, &asked.to_string());
    assert_eq!(code, 200, "{asked}: {answer}");
    answer
}

fn decide(world: &World, id: &str, words: &[String]) -> Outcome {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    world.cordon(&[&["decide", "--session", id], &words[..]].concat())
}

fn exec(world: &World, id: &str, command: &[&str]) -> Outcome {
    world.cordon(&[&["session", "exec", id, "--"], command].concat())
}

fn hook(world: &World, input: &str) -> Outcome {
    let mut command = world.command();
    command.current_dir(world.project());
    command.args(["hook", "pre-tool-use", "--policy", "host-tools"]);
    process::finish(command, input.as_bytes())
}

fn decision(said: &Outcome) -> String {
    let answer: Value = serde_json::from_str(&said.text()).unwrap_or_default();
    let output = &answer["hookSpecificOutput"];
    assert_eq!(output["hookEventName"], "PreToolUse", "{said}");
    assert!(output["permissionDecisionReason"].is_string(), "{said}");
    output["permissionDecision"].as_str().unwrap().to_owned()
}
