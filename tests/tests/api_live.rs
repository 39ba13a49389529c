//! Running sessions over the API: events, calls that are done once, folders that come and go, and
//! sessions that are paused and cancelled.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};

use cordon_tests::{
    World,
    api::{ask, curl, end, hosted, kill_daemon, only_session, send},
    for_both,
    link::Link,
    process,
};
use serde_json::{Value, json};

for_both! {
    /// What happens is told once, in order, also to a client that comes back.
    fn events_are_streamed_and_go_on_where_a_client_left(world) {
        let id = hosted(world, &[]);
        let other = hosted(world, &[]);
        let path = format!("/v1/sessions/{id}/events");
        let mut stream = Stream::open(world, &path, &[]);
        ask(world, &id, &["connect", "a.test:443"]);
        ask(world, &other, &["connect", "other.test:443"]);
        ask(world, &id, &["connect", "b.test:443"]);
        let first = stream.next_decision();
        assert_eq!((first.kind.as_str(), &first.data["resource"]["id"]), ("decision", &json!("a.test:443")));
        assert_eq!(first.data["seq"], first.id.parse::<u64>().unwrap());
        drop(stream);
        let mut again = Stream::open(world, &path, &["-H", &format!("last-event-id: {}", first.id)]);
        let second = again.next().unwrap();
        assert_eq!(second.data["resource"]["id"], "b.test:443", "nothing of another session, nothing twice");
        // The same page by page, from the beginning.
        let (mut after, mut kinds, mut pages) = (None, Vec::new(), 0);
        loop {
            let from = after.map_or_else(String::new, |after: u64| format!("&after={after}"));
            let (code, page) = curl(world, &format!("{path}?limit=2{from}"), &[]);
            assert_eq!(code, 200, "{page}");
            let events = page["events"].as_array().unwrap();
            if events.is_empty() {
                break;
            }
            kinds.extend(events.iter().map(|event| event["kind"].as_str().unwrap().to_owned()));
            after = page["next"].as_u64();
            pages += 1;
        }
        assert!(pages > 1 && kinds.contains(&"session.start".to_owned()), "{kinds:?}");
        // An approval is an event, and so is the end, which is the last one.
        let waits = ask(world, &id, &["call", "Bash", "of", "claude-code"]);
        assert_eq!(waits["code"], "approval_required");
        assert_eq!(again.next().unwrap().data["state"], "requested");
        assert_eq!(curl(world, &format!("/v1/sessions/{id}/cancel"), &["-X", "POST"]).0, 200);
        let rest: Vec<String> = std::iter::from_fn(|| again.next()).map(|event| event.kind).collect();
        assert_eq!(rest.last().map(String::as_str), Some("session.end"), "{rest:?}");
        for (path, code) in [
            ("/v1/events?limit=0", 400),
            ("/v1/events?surprise=1", 400),
            ("/v1/sessions/nobody/events", 404),
        ] {
            assert_eq!(curl(world, path, &[]).0, code, "{path}");
        }
        assert_eq!(curl(world, "/v1/events", &["-H", "last-event-id: x"]).0, 400);
        end(world, &other);
    }

    /// A client that followed goes on where it was when the daemon was killed, and misses nothing of
    /// what it had not read; page by page it is the same.
    fn a02_events_go_on_after_a_kill(world) {
        let id = hosted(world, &[]);
        let path = format!("/v1/sessions/{id}/events");
        let mut stream = Stream::open(world, &path, &[]);
        ask(world, &id, &["connect", "a.test:443"]);
        let first = stream.next_decision();
        ask(world, &id, &["connect", "b.test:443"]);
        kill_daemon(world);
        drop(stream);
        world.session(&["true"]).run().expect_code(0);
        ask(world, &id, &["connect", "c.test:443"]);
        let mut again = Stream::open(world, &path, &["-H", &format!("last-event-id: {}", first.id)]);
        let mut told = Vec::new();
        while told.last().is_none_or(|event: &Sent| event.data["resource"]["id"] != "c.test:443") {
            told.push(again.next().unwrap());
        }
        assert_eq!(told[0].data["resource"]["id"], "b.test:443", "what came before the kill and was not read");
        let (_, page) = curl(world, &format!("{path}?after={}&limit=1000", first.id), &[]);
        let page: Vec<Value> = page["events"].as_array().unwrap().iter().map(|event| event["seq"].clone()).collect();
        let told: Vec<Value> = told.iter().map(|event| event.data["seq"].clone()).collect();
        assert_eq!(page, told);
        end(world, &id);
    }

    /// A call with a key is done once, whoever repeats it and whatever happens in between.
    fn a_call_with_a_key_is_done_once(world) {
        let new = |program: &str| json!({"program": program, "policy": ["host-tools"]}).to_string();
        let create = |key: &str, body: &str| curl(world, "/v1/sessions", &["-H", &format!("idempotency-key: {key}"), "-d", body]);
        let (code, first) = create("k1", &new("one"));
        assert_eq!(code, 201, "{first}");
        let (code, again) = create("k1", &new("one"));
        assert_eq!((code, &again["id"]), (201, &first["id"]));
        let (code, other) = create("k1", &new("two"));
        assert_eq!((code, &other["type"]), (422, &json!("urn:cordon:problem:key-reused")), "{other}");
        let (_, second) = create("k2", &new("one"));
        assert_ne!(second["id"], first["id"]);
        // A daemon that is killed knows which session it opened for the call.
        kill_daemon(world);
        world.session(&["true"]).run().expect_code(0);
        let (code, after) = create("k1", &new("one"));
        assert_eq!((code, &after["id"]), (201, &first["id"]), "{after}");
        let id = first["id"].as_str().unwrap();
        let words = json!({"ask": ["connect", "a.test:443"]}).to_string();
        let decide = || curl(world, &format!("/v1/sessions/{id}/decisions"), &["-H", "idempotency-key: d1", "-d", &words]);
        // What only decides is decided, and recorded, each time: an allow holds when it is given.
        let (first, second) = (decide().1, decide().1);
        assert_ne!(first["decision_id"], second["decision_id"], "{second}");
        let ids: Vec<Value> = world.records(id).iter().map(|record| record["id"].clone()).collect();
        assert!(ids.contains(&first["decision_id"]) && ids.contains(&second["decision_id"]));
        for wrong in ["", "a b", &"x".repeat(256)] {
            let (code, problem) = create(wrong, &new("one"));
            // curl sends no field that is empty.
            assert!(code == 400 || (wrong.is_empty() && code == 201), "{wrong:?}: {problem}");
        }
        world.cordon(&["stop", "--force"]).expect_code(0);
    }

    /// Folders of a runtime's session come and go, each decided, and are still there after a kill.
    fn f03_f16_folders_are_handed_over_changed_and_taken_back(world) {
        let id = hosted(world, &[]);
        let folder = world.folder("home/more");
        let file = world.write("home/more/a", "x");
        let grants = format!("/v1/sessions/{id}/grants");
        let at = |path: &str| curl(world, &format!("/v1/sessions/{id}/path?path={path}"), &[]);
        let (_, before) = at(file.to_str().unwrap());
        assert_eq!((&before["read"]["allowed"], &before["inside"]), (&json!(false), &Value::Null), "{before}");
        let give = |path: &str, mode: &str| curl(world, &grants, &["-d", &json!({"path": path, "mode": mode}).to_string()]);
        let (code, given) = give(folder.to_str().unwrap(), "rw");
        assert_eq!(code, 201, "{given}");
        let inside = given["grant"]["inside"].as_str().unwrap().to_owned();
        assert!(inside.ends_with("/mnt/more"), "{given}");
        let allowed = |told: &Value| ["read", "write", "create", "delete"].map(|one| told[one]["allowed"] == true);
        let (_, told) = at(&format!("{inside}/a"));
        assert_eq!(told["path"], file.to_str().unwrap(), "both ways: {told}");
        assert_eq!((told["inside"].as_str().unwrap(), allowed(&told)), (format!("{inside}/a").as_str(), [true, true, true, false]));
        let (code, changed) = curl(world, &grants, &["-X", "PATCH", "-d", &json!({"grant": "more", "mode": "ro"}).to_string()]);
        assert_eq!((code, &changed["grant"]["mode"]), (200, &json!("ro")), "{changed}");
        assert_eq!(allowed(&at(file.to_str().unwrap()).1), [true, false, false, false]);
        kill_daemon(world);
        world.session(&["true"]).run().expect_code(0);
        assert_eq!(allowed(&at(file.to_str().unwrap()).1), [true, false, false, false]);
        assert_eq!(curl(world, &format!("{grants}?grant=more"), &["-X", "DELETE"]).0, 200);
        assert_eq!(at(file.to_str().unwrap()).1["read"]["allowed"], false);
        let home = world.host("sh", &["-c", "getent passwd \"$(id -u)\" | cut -d: -f6"]).text();
        for (refused, code, kind) in [
            (give(home.trim(), "ro"), 403, "denied"),
            (give("/", "ro"), 403, "denied"),
            (give(world.state().to_str().unwrap(), "ro"), 403, "denied"),
            (give("relative", "ro"), 400, "malformed"),
            (give(folder.to_str().unwrap(), "all"), 400, "malformed"),
            (curl(world, &format!("{grants}?grant=none"), &["-X", "DELETE"]), 404, "no-grant"),
        ] {
            assert_eq!((refused.0, &refused.1["type"]), (code, &json!(format!("urn:cordon:problem:{kind}"))), "{}", refused.1);
        }
        end(world, &id);
    }

    /// A sandboxed session is steered over the API like by command line.
    fn a_sandboxed_session_is_paused_resumed_and_cancelled(world) {
        let folder = world.folder("home/more");
        world.write("home/more/a", "hello");
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        let steer = |what: &str| curl(world, &format!("/v1/sessions/{id}/{what}"), &["-X", "POST"]);
        let given = curl(world, &format!("/v1/sessions/{id}/grants"), &["-d", &json!({"path": folder, "mode": "ro"}).to_string()]);
        assert_eq!(given.0, 201, "{}", given.1);
        let inside = format!("{}/a", given.1["grant"]["inside"].as_str().unwrap());
        let read = world.cordon(&["session", "exec", &id, "--", "cat", &inside]);
        read.expect_code(0).expect_stdout("hello");
        assert_eq!(steer("pause").1["state"], "paused");
        assert_eq!(curl(world, &format!("/v1/sessions/{id}"), &[]).1["state"], "paused");
        assert_eq!(steer("resume").1["state"], "running");
        let (_, usage) = curl(world, &format!("/v1/sessions/{id}/usage"), &[]);
        assert!(usage["processes"]["count"].as_u64().unwrap() >= 1, "{usage}");
        assert_eq!(steer("cancel").1["state"], "ended");
        running.finish();
        assert_eq!(steer("pause").0, 404);
    }

    /// A session is ended whole, also where whoever ends it does not stay for the answer.
    fn a_session_is_ended_whole_when_whoever_ends_it_leaves(world) {
        let all: Vec<String> = (0..20).map(|_| hosted(world, &[])).collect();
        for id in &all {
            let call = format!("DELETE /v1/sessions/{id} HTTP/1.1\r\nhost: localhost\r\n\r\n");
            Link::unix(world).send(call).unwrap();
        }
        // Whoever left before the call was read has ended nothing.
        let state = |id: &str| curl(world, &format!("/v1/sessions/{id}"), &[]).1["state"].clone();
        let settled = |id: &str| state(id).is_null() || state(id) == "running";
        process::eventually("none is half ended", || all.iter().all(|id| settled(id)));
        let (gone, left): (Vec<_>, Vec<_>) = all.iter().partition(|id| state(id).is_null());
        assert!(!gone.is_empty(), "some were ended");
        for id in left {
            end(world, id);
        }
        let ends = world.cordon(&["audit", "query", "--format", "json", "--limit", "1000", "--kind", "session.end"]);
        let ends: Value = serde_json::from_str(&ends.text()).unwrap();
        let ended = ends["records"].as_array().unwrap().iter().map(|one| one["session"].as_str().unwrap());
        let mut ended: Vec<_> = ended.filter(|id| all.iter().any(|one| one == id)).collect();
        ended.sort_unstable();
        let mut all: Vec<_> = all.iter().map(String::as_str).collect();
        all.sort_unstable();
        assert_eq!(ended, all, "each once");
    }

    /// What stands in the way of a request is looked at when it is decided: what was switched off
    /// while its session was paused is off.
    fn p10_what_is_disabled_in_a_pause_is_refused_after_it(world) {
        world.config.push_str("\n[connectors.notes]\nkind = \"mcp\"\n[connectors.notes.scopes]\nread = \"Read\"\n");
        world.policy.rule("permit (principal, action in [Action::\"enable_connector\", Action::\"use_scope\"], resource);");
        let policy = world.policy_folder();
        let id = hosted(world, &[policy.to_str().unwrap()]);
        let own = format!("/v1/sessions/{id}");
        let enabled = send(world, "PUT", &format!("{own}/connectors/notes"), r#"{"scopes": ["read"]}"#);
        assert_eq!((enabled.0, &enabled.1["allowed"]), (200, &json!(true)), "{}", enabled.1);
        let uses = format!("{own}/connectors/notes/uses");
        let body = r#"{"scope": "read"}"#;
        assert_eq!(send(world, "POST", &uses, body).1["allowed"], true, "the control");
        assert_eq!(send(world, "POST", &format!("{own}/pause"), "").0, 200);
        let mut waits = Link::unix(world);
        let length = body.len();
        waits.send(format!("POST {uses} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")).unwrap();
        assert_eq!(send(world, "DELETE", &format!("{own}/connectors/notes"), "").0, 204);
        assert_eq!(send(world, "POST", &format!("{own}/resume"), "").0, 200);
        let told = waits.answer().unwrap();
        assert_eq!((told.status, &told.json()["allowed"]), (200, &json!(false)), "{}", told.json());
        end(world, &id);
    }

    /// Of a session that a runtime holds nothing is decided while it is paused, also after a kill of
    /// the daemon; what was asked goes on when it does.
    fn a_session_that_a_runtime_holds_is_paused_and_resumed(world) {
        let id = hosted(world, &[]);
        let steer = |what: &str| curl(world, &format!("/v1/sessions/{id}/{what}"), &["-X", "POST"]).1["state"].clone();
        let decisions = format!("/v1/sessions/{id}/decisions");
        let asked = |look: bool| {
            let body = json!({"ask": ["connect", "github.com:443"], "look": look}).to_string();
            curl(world, &decisions, &["-d", &body])
        };
        assert_eq!(asked(false).0, 200, "the control");
        assert_eq!(steer("pause"), "paused");
        assert_eq!(asked(true).0, 200, "a look has no effect");
        kill_daemon(world);
        world.session(&["true"]).built_in_policy().run().expect_code(0);
        assert_eq!(curl(world, &format!("/v1/sessions/{id}"), &[]).1["state"], "paused");
        let (code, problem) = asked(false);
        assert_eq!(code, 409, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("paused"), "{problem}");
        let refused = world.records(&id);
        assert!(refused.iter().any(|one| one["effect"] == "deny" && one.to_string().contains("paused")), "on record");
        // What waits when it goes on is decided.
        let both = r#"curl -sS --unix-socket "$1" -d "$2" "http://localhost$3/decisions" & waits=$!
            curl -sS --unix-socket "$1" -X POST "http://localhost$3/resume" && wait $waits"#;
        let socket = world.runtime().join("api.sock");
        let body = r#"{"ask": ["connect", "github.com:443"]}"#;
        let own = format!("/v1/sessions/{id}");
        let both = world.host("sh", &["-c", both, "sh", socket.to_str().unwrap(), body, &own]);
        both.expect_code(0);
        assert!(both.text().contains("\"running\"") && both.text().contains("\"allowed\":true"), "{both}");
        let session = world.cordon(&["session", "pause", &id]);
        session.expect_code(0);
        world.cordon(&["session", "resume", &id]).expect_code(0);
        assert_eq!(asked(false).0, 200);
        end(world, &id);
    }
}

/// A stream of server-sent events.
struct Stream {
    child: Child,
    lines: BufReader<ChildStdout>,
}

struct Sent {
    id: String,
    kind: String,
    data: Value,
}

impl Stream {
    /// Opened, and known to be: its head has been read.
    fn open(world: &World, path: &str, args: &[&str]) -> Self {
        let socket = world.runtime().join("api.sock");
        let mut command: Command = world.as_account("curl");
        command.args([
            "-sSNi",
            "--max-time",
            "60",
            "--unix-socket",
            socket.to_str().unwrap(),
        ]);
        command.args(["-H", "accept: text/event-stream"]);
        command.args(args).arg(format!("http://localhost{path}"));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "no head");
        }
        Self { child, lines }
    }

    /// The next event but the session's start, which is written behind the answer that opens it and may
    /// come after a stream was opened.
    fn next_decision(&mut self) -> Sent {
        let next = self.next().unwrap();
        match next.kind.as_str() {
            "session.start" => self.next().unwrap(),
            _other => next,
        }
    }

    fn next(&mut self) -> Option<Sent> {
        let (mut id, mut kind, mut data) = (String::new(), String::new(), Value::Null);
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", value)) => id = value.into(),
                Some(("event", value)) => kind = value.into(),
                Some(("data", value)) => data = serde_json::from_str(value).unwrap(),
                _ if !kind.is_empty() => return Some(Sent { id, kind, data }),
                _ => {}
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
