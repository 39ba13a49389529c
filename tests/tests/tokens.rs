//! Tokens of one session, over TLS and over the socket: what they open, and everything else.

use std::fs;

use cordon_tests::{
    api::{Remote, curl, end, hosted, kill_daemon, send},
    for_both,
};
use serde_json::{Value, json};

for_both! {
    /// A07: refusals of nobody beyond the first are counted, and their number is on record also where
    /// the daemon stops before the minute is over.
    fn a07_refusals_that_were_left_out_are_told_when_it_stops(world) {
        let remote = Remote::configured(world, "", "");
        hosted(world, &[]);
        for _wrong in 0..20 {
            assert_eq!(remote.call(world, "/v1/sessions", &["-H", "authorization: Bearer wrong"]).0, 401);
        }
        world.cordon(&["stop", "--force"]).expect_code(0);
        let all = world.cordon(&["audit", "query", "--format", "json", "--limit", "1000", "--effect", "deny"]);
        let told = all.text().matches("4 more were refused within a minute").count();
        assert_eq!(told, 1, "{all}");
    }

    /// Whoever has a session's token asks for that session, and for nothing else, until it ends.
    fn n26_a_token_is_of_one_session(world) {
        let remote = Remote::configured(world, "", "");
        let (own, other) = (hosted(world, &[]), hosted(world, &[]));
        let (code, made) = send(world, "POST", &format!("/v1/sessions/{own}/tokens"), "");
        assert_eq!((code, &made["session"]), (201, &json!(own)), "{made}");
        let token = made["token"].as_str().unwrap().to_owned();
        let bearer = format!("authorization: Bearer {token}");
        let kind = "content-type: application/json";
        let call = |method: &str, path: &str, body: &Value| {
            let body = body.to_string();
            let mut args = vec!["-X", method, "-H", bearer.as_str(), "-H", kind];
            if method != "GET" {
                args.extend(["-d", body.as_str()]);
            }
            let over_tls = remote.call(world, path, &args);
            // The same over the socket: whoever sends it has what it opens and no more.
            let here = curl(world, path, &args);
            assert_eq!(over_tls.0, here.0, "{method} {path}: {} {}", over_tls.1, here.1);
            over_tls
        };
        let words = json!({"ask": ["connect", "github.com:443"]});
        let evaluation = |id: &str| json!({
            "subject": {"type": "Session", "id": id}, "action": {"name": "connect"},
            "resource": {"type": "Host", "id": "github.com"}, "context": {"port": 443},
        });
        let (code, told) = call("POST", &format!("/v1/sessions/{own}/decisions"), &words);
        assert_eq!((code, &told["allowed"]), (200, &json!(true)), "{told}");
        assert!(world.records(&own).iter().any(|record| record["id"] == told["decision_id"]));
        assert_eq!(call("POST", "/access/v1/evaluation", &evaluation(&own)).1["decision"], true);
        assert_eq!(call("GET", &format!("/v1/sessions/{own}"), &Value::Null).1["id"], own);
        assert_eq!(call("GET", &format!("/v1/sessions/{own}/events"), &Value::Null).0, 200);
        let several = |last: &str| json!({
            "subject": {"type": "Session", "id": own}, "action": {"name": "connect"}, "context": {"port": 443},
            "evaluations": [{"resource": {"type": "Host", "id": "a.test"}},
                {"subject": {"type": "Session", "id": last}, "resource": {"type": "Host", "id": "a.test"}}],
        });
        assert_eq!(call("POST", "/access/v1/evaluations", &several(&own)).0, 200);
        // A question in the shape of a list has a subject too, and is none.
        let positional = json!({"evaluations": [[{"type": "Session", "id": other}, {"name": "connect"},
            {"type": "Host", "id": "github.com"}, {"port": 443}]]});
        let before = world.records(&other).len();
        let (code, told) = call("POST", "/access/v1/evaluations", &positional);
        assert_eq!((code, &told["evaluations"][0]["context"]["code"]), (200, &json!("malformed")), "{told}");
        assert_eq!(world.records(&other).len(), before, "nothing was asked as the other");
        for (method, path, body) in [
            ("POST", "/access/v1/evaluations", several(&other)),
            ("POST", "/access/v1/evaluation", evaluation(&other)),
            ("POST", "/access/v1/evaluation", json!({"subject": {"type": "user", "id": "x"}, "action": {"name": "x"}, "resource": {"type": "x", "id": "x"}})),
            ("POST", &format!("/v1/sessions/{own}/mcp/notes/listing"), json!({"listed": []})),
            ("GET", &format!("/v1/sessions/{other}") as &str, Value::Null),
            ("POST", &format!("/v1/sessions/{other}/decisions"), words.clone()),
            ("GET", &format!("/v1/sessions/{other}/events"), Value::Null),
            ("GET", "/v1/sessions", Value::Null),
            ("POST", "/v1/sessions", json!({"program": "x", "policy": ["host-tools"]})),
            ("GET", "/v1/events", Value::Null),
            ("GET", "/v1/approvals", Value::Null),
            ("POST", "/v1/approvals/x", json!({"answer": "approve"})),
            ("POST", &format!("/v1/sessions/{own}/grants"), json!({"path": "/tmp", "mode": "rw"})),
            ("POST", &format!("/v1/sessions/{own}/tokens"), Value::Null),
            ("DELETE", &format!("/v1/sessions/{own}"), Value::Null),
        ] {
            let (code, said) = call(method, path, &body);
            assert_eq!(code, 403, "{method} {path}: {said}");
            // AuthZEN's answers are texts.
            let problem = (!path.starts_with("/access/")).then_some("urn:cordon:problem:not-open");
            assert_eq!(said["type"].as_str(), problem, "{method} {path}: {said}");
        }
        // That it was made is on record: by whom, for how long, and nothing that could be used.
        let made = world.records(&own).into_iter().find(|record| record["message"].as_str().is_some_and(|said| said.starts_with("token ")));
        let said = made.unwrap()["message"].as_str().unwrap().to_owned();
        let by = format!("made by {}; ends with the session", world.account().name);
        assert!(said.ends_with(&by), "{said}");
        // It is nowhere but with whoever was given it, and survives the daemon.
        let secret = token.rsplit('.').next().unwrap();
        let folders = [world.state(), world.runtime()];
        let [state, runtime] = folders.each_ref().map(|folder| folder.to_str().unwrap());
        let found = world.host("sh", &["-c", "grep -rl \"$@\" || true", "sh", secret, state, runtime]);
        assert_eq!(found.text(), "", "{found}");
        let kept = world.host("sh", &["-c", "grep -rl \"$@\" || true", "sh", &own, state]);
        assert_ne!(kept.text(), "", "the control");
        kill_daemon(world);
        world.session(&["true"]).run().expect_code(0);
        assert_eq!(call("POST", &format!("/v1/sessions/{own}/decisions"), &words).0, 200);
        // Wrong ones.
        let session = format!("/v1/sessions/{own}");
        for wrong in [format!("{token}0"), token.replace(&own, &other), "cordon-session.x".into(), "cordon-session..".into()] {
            let wrong = format!("authorization: Bearer {wrong}");
            for said in [remote.call(world, &session, &["-H", &wrong]), curl(world, &session, &["-H", &wrong])] {
                assert_eq!((said.0, &said.1["type"]), (401, &json!("urn:cordon:problem:unknown-caller")), "{wrong}: {}", said.1);
            }
        }
        assert_eq!(remote.call(world, &session, &[]).0, 401);
        // Taken back, and gone with its session.
        let again = send(world, "POST", &format!("{session}/tokens"), "").1["token"].as_str().unwrap().to_owned();
        assert_eq!(send(world, "DELETE", &format!("{session}/tokens"), "").0, 204);
        let back = world.records(&own).iter().filter(|record| record["message"].as_str().is_some_and(|said| said.starts_with("tokens taken back by"))).count();
        assert_eq!(back, 1);
        assert_eq!(call("GET", &session, &Value::Null).0, 401);
        assert_eq!(curl(world, &session, &["-H", &format!("authorization: Bearer {again}")]).0, 401);
        let last = send(world, "POST", &format!("{session}/tokens"), "").1["token"].as_str().unwrap().to_owned();
        assert_eq!(send(world, "DELETE", &session, "").0, 204);
        assert_eq!(remote.call(world, &session, &["-H", &format!("authorization: Bearer {last}")]).0, 401);
        world.cordon(&["stop", "--force"]).expect_code(0);
    }

    /// What is taken back stays so for the next daemon, also where the first call could not keep it.
    fn n26_a_token_that_was_taken_back_does_not_return(world) {
        let id = hosted(world, &[]);
        let (session, tokens) = (format!("/v1/sessions/{id}"), format!("/v1/sessions/{id}/tokens"));
        let token = send(world, "POST", &tokens, "").1["token"].as_str().unwrap().to_owned();
        let bearer = format!("authorization: Bearer {token}");
        let restarted = || {
            kill_daemon(world);
            world.session(&["true"]).built_in_policy().run().expect_code(0);
            curl(world, &session, &["-H", &bearer]).0
        };
        assert_eq!(restarted(), 200, "the control: it outlives a daemon");
        let (kept, aside) = (world.state().join("hosted"), world.state().join("aside"));
        fs::rename(&kept, &aside).unwrap();
        fs::write(&kept, "in the way").unwrap();
        let (code, problem) = send(world, "DELETE", &tokens, "");
        assert_eq!(code, 409, "{problem}");
        assert_eq!(curl(world, &session, &["-H", &bearer]).0, 401, "it is not good any more");
        fs::remove_file(&kept).unwrap();
        fs::rename(&aside, &kept).unwrap();
        assert_eq!(send(world, "DELETE", &tokens, "").0, 204);
        assert_eq!(restarted(), 401);
        end(world, &id);
    }

    /// An agent's HTTP hook is known by a session's token and is decided in that session. It takes
    /// every answer but 200 for leave to go on, so there is no other (P01).
    fn p01_an_http_hook_asks_by_a_session_s_token(world) {
        let remote = Remote::configured(world, "", "");
        let id = hosted(world, &[]);
        let (_, made) = send(world, "POST", &format!("/v1/sessions/{id}/tokens"), "");
        let token = made["token"].as_str().unwrap().to_owned();
        world.project_file("a", "x");
        let hook = |token: &str, tool: &str, given: Value, more: Value| {
            let mut input = json!({
                "session_id": "anything", "cwd": world.project(), "hook_event_name": "PreToolUse",
                "tool_name": tool, "tool_input": given,
            });
            input.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
            let bearer = format!("authorization: Bearer {token}");
            let (code, said) = remote.call(world, "/v1/hooks/claude-code/pre-tool-use", &["-H", &bearer, "--data-binary", &format!("@{}", world.write("input", input.to_string()).display())]);
            assert_eq!(code, 200, "{said}");
            let output = &said["hookSpecificOutput"];
            assert_eq!(output["hookEventName"], "PreToolUse", "{said}");
            output["permissionDecision"].as_str().unwrap().to_owned()
        };
        let none = || json!({});
        let inside = world.project().join("a");
        assert_eq!(hook(&token, "Read", json!({"file_path": inside}), none()), "allow");
        assert_eq!(hook(&token, "Read", json!({"file_path": "/etc/passwd"}), none()), "deny");
        assert_eq!(hook(&token, "Bash", json!({"command": "ls"}), none()), "ask");
        assert_eq!(hook(&token, "Read", json!({"file_path": inside}), json!({"cordon_policy": ["host-tools"]})), "deny");
        for wrong in ["", "x", "cordon-session.x.y", &format!("{token}0")] {
            assert_eq!(hook(wrong, "Read", json!({"file_path": inside}), none()), "deny", "{wrong:?}");
        }
        let long = json!({"file_path": inside, "url": "x".repeat(2 << 20)});
        assert_eq!(hook(&token, "Read", long, none()), "deny", "longer than a body may be");
        let asked = world.records(&id).iter().filter(|record| record["kind"] == "decision").count();
        assert_eq!(asked, 5, "the start, the folder, and what was decided of its own");
        // What is shown and approved is what is decided, whatever else is said of it (P04).
        let pending = curl(world, "/v1/approvals?state=pending", &[]).1["approvals"][0].clone();
        let in_project = |command: &str| format!("in {}: {command}", world.project().display());
        assert_eq!(pending["shown"], in_project("ls"), "{pending}");
        let said = json!({"cordon_shown": "ls", "cordon_input": "00".repeat(32)});
        assert_eq!(hook(&token, "Bash", json!({"command": "curl evil.test"}), said), "ask");
        let all = curl(world, "/v1/approvals?state=pending", &[]).1["approvals"].clone();
        let shown: Vec<&str> = all.as_array().unwrap().iter().map(|one| one["shown"].as_str().unwrap()).collect();
        assert_eq!(shown, [in_project("ls"), in_project("curl evil.test")]);
        assert_ne!(all[0]["digest"], all[1]["digest"]);
        world.cordon(&["stop", "--force"]).expect_code(0);
    }
}
