//! What a session did decides what it may do next: labels and budgets, through every way in.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::path::{Path, PathBuf};

use cordon_tests::{
    Origin, World,
    api::{curl, kill_daemon, send},
    for_both,
    origin::http::Reply,
    probe, process,
};
use serde_json::{Value, json};

for_both! {
    /// The three things together: after both labels a new place needs a person, in the API, in
    /// AuthZEN, and after the daemon was killed. Where the session was before it may go on.
    fn p04_a_new_place_after_both_labels_needs_a_person(world) {
        world.folder("home/secret");
        let secret = world.write("home/secret/plan", "x");
        let id = hosted(world, &secret);
        let connect = |world: &World, to: &str| ask(world, &id, &["connect", to]);
        assert_eq!(connect(world, "old.test:443")["allowed"], true);
        let read = ["read", secret.to_str().unwrap()];
        // A look is no reading.
        let look = json!({"ask": read, "look": true}).to_string();
        assert_eq!(send(world, "POST", &format!("/v1/sessions/{id}/decisions"), &look).1["allowed"], true);
        assert_eq!(past(world, &id)["labels"], json!([]));
        assert_eq!(ask(world, &id, &read)["allowed"], true);
        assert_eq!(connect(world, "one.test:443")["allowed"], true, "one label alone");
        assert_eq!(connect(world, "forum.test:443")["allowed"], true);
        assert_eq!(past(world, &id), json!({
            "labels": ["confidential", "untrusted"], "requests": 3, "destinations": 3,
            "bytes_sent": 0, "bytes_received": 0, "deletes": 0, "tool_calls": 0,
        }));
        let shown = world.cordon(&["session", "show", &id]);
        shown.expect_told("confidential, untrusted").expect_told("3 requests to 3 destinations");
        for again in ["before", "after"] {
            let told = connect(world, "new.test:443");
            assert_eq!((&told["allowed"], &told["code"]), (&json!(false), &json!("approval_required")), "{again}: {told}");
            let evaluated = evaluate(world, &id, "new.test");
            assert_eq!(evaluated["decision"], false, "{again}: {evaluated}");
            assert_eq!(evaluated["context"]["approval"]["id"], told["approval"]["id"], "{again}: {evaluated}");
            assert_eq!(connect(world, "old.test:443")["allowed"], true, "{again}");
            assert_eq!(evaluate(world, &id, "old.test")["decision"], true, "{again}");
            if again == "before" {
                kill_daemon(world);
                world.session(&["true"]).run().expect_code(0);
                assert_eq!(past(world, &id)["labels"], json!(["confidential", "untrusted"]));
                assert_eq!(past(world, &id)["destinations"], 3);
            }
        }
        let waiting = connect(world, "new.test:443")["approval"]["id"].as_str().unwrap().to_owned();
        world.cordon(&["approve", &waiting]).expect_code(0);
        assert_eq!(connect(world, "new.test:443")["allowed"], true);
        assert_eq!(connect(world, "new.test:443")["allowed"], true, "it is not new any more");
        assert_eq!(connect(world, "new.test:444")["allowed"], false, "another port is another place");
        let labels: Vec<Value> = world.records(&id).iter()
            .filter(|record| record["state"] == "labels")
            .map(|record| record["message"].clone())
            .collect();
        assert_eq!(labels, [json!("confidential"), json!("untrusted")], "once each");
        curl(world, &format!("/v1/sessions/{id}"), &["-X", "DELETE"]);
    }

    /// The same by the agent's hook, tool by tool.
    fn p03_p04_a_hook_asks_about_what_is_new_after_both_labels(world) {
        let project = world.project();
        world.folder("home/project/secret");
        world.project_file("secret/plan", "x");
        let guard = policy(world, &project.join("secret"));
        let hook = |world: &World, tool: &str, given: Value| {
            let input = json!({
                "session_id": "theirs", "cwd": project, "hook_event_name": "PreToolUse",
                "tool_name": tool, "tool_input": given,
            });
            let mut command = world.command();
            command.current_dir(&project).args(["hook", "pre-tool-use", "--policy"]).arg(&guard);
            command.args(["--policy", "trifecta-guard"]);
            let said = process::finish(command, input.to_string().as_bytes());
            let answer: Value = serde_json::from_str(&said.text()).unwrap_or_default();
            let decision = answer["hookSpecificOutput"]["permissionDecision"].as_str().map(str::to_owned);
            decision.unwrap_or_else(|| panic!("{said}"))
        };
        let fetch = |host: &str| json!({"url": format!("https://{host}/")});
        assert_eq!(hook(world, "WebFetch", fetch("old.test")), "allow");
        assert_eq!(hook(world, "Bash", json!({"command": "ls"})), "allow");
        assert_eq!(hook(world, "WebSearch", json!({"query": "x"})), "allow");
        assert_eq!(hook(world, "WebFetch", fetch("second.test")), "allow");
        // Of the folder above it, too: what is in it is read.
        assert_eq!(hook(world, "Grep", json!({"pattern": "x"})), "allow");
        assert_eq!(hook(world, "WebFetch", fetch("new.test")), "ask");
        assert_eq!(hook(world, "Bash", json!({"command": "ls"})), "ask");
        assert_eq!(hook(world, "mcp__mail__send", json!({})), "ask");
        assert_eq!(hook(world, "WebFetch", fetch("old.test")), "allow");
        assert_eq!(hook(world, "TodoWrite", json!({"todos": []})), "allow");
        world.cordon(&["stop", "--force"]).expect_code(0);
    }

    /// The same in a sandbox through the proxy; a labelled folder counts as read once it is mounted.
    fn n20_p04_the_proxy_asks_about_what_is_new_after_both_labels(world) {
        let secret = world.folder("home/secret");
        let guard = policy(world, &secret);
        let (old, forum) = (world.allowed_origin("old.test"), world.allowed_origin("forum.test"));
        let new = world.allowed_origin("new.test");
        let urls = [old.url("old.test", "/"), forum.url("forum.test", "/"), new.url("new.test", "/")];
        let get = "for url in \"$@\"; do curl -sS -o /dev/null -w '%{http_code} ' \"$url\"; done";
        let run = |world: &World, grant: bool| {
            let [old, forum, new] = urls.each_ref().map(String::as_str);
            let session = world.session(&["sh", "-c", get, "sh", old, forum, new, old, new]);
            let session = session.policy(&guard).policy("trifecta-guard");
            let session = if grant { session.grant(format!("{}:ro", secret.display())) } else { session };
            session.run()
        };
        // With one label alone everything is as it was.
        assert_eq!(run(world, false).text().trim(), "200 200 200 200 200");
        let said = run(world, true);
        assert_eq!(said.text().trim(), "200 200 403 200 403", "{said}");
        assert_eq!(new.requests().len(), 2, "of the first session alone");
        let id = said.session();
        let labels: Vec<Value> = world.records(&id).iter()
            .filter(|record| record["state"] == "labels")
            .map(|record| record["message"].clone())
            .collect();
        assert_eq!(labels, [json!("confidential"), json!("untrusted")]);
    }

    /// A tunnel that is open when its session takes on a label by which its destination is refused
    /// ends within a second; one to another place goes on.
    fn p04_a_label_ends_what_is_open_to_a_place_that_it_closes(world) {
        let guard = policy(world, &world.folder("home/secret"));
        world.write("home/labels/closed.cedar", "@id(\"closed\")
            forbid (principal, action == Action::\"connect\", resource == Host::\"old.test\")
            when { context.session.labels.contains(\"untrusted\") };");
        let [old, other] = ["old.test", "other.test"].map(|name| probe::greeter(world, name));
        let forum = world.allowed_origin("forum.test");
        let script = "import socket, subprocess, sys, time\n\
            def tunnel(to):\n \
            \u{20}way = socket.create_connection(('127.0.0.1', 3128))\n \
            \u{20}way.sendall(f'CONNECT {to} HTTP/1.1\\r\\nHost: {to}\\r\\n\\r\\n'.encode())\n \
            \u{20}seen = b''\n \
            \u{20}while b'good day' not in seen:\n \
            \u{20} seen += way.recv(4096) or sys.exit('no tunnel')\n \
            \u{20}way.settimeout(20)\n \
            \u{20}return way\n\
            old, other = tunnel(sys.argv[1]), tunnel(sys.argv[2])\n\
            subprocess.run(['curl', '-sS', '-o', '/dev/null', sys.argv[3]], check=True)\n\
            since = time.monotonic()\n\
            try:\n \
            \u{20}left = old.recv(100).strip()\n\
            except ConnectionResetError:\n \
            \u{20}left = b''\n\
            print(left, time.monotonic() - since < 1)\n\
            other.sendall(b'still\\n')\n\
            print(other.recv(100).strip())\n";
        let tunnels = [("old.test", &old), ("other.test", &other)]
            .map(|(name, to)| format!("{name}:{}", to.address().port()));
        let url = forum.url("forum.test", "/");
        let session = world.session(&["python3", "-c", script, &tunnels[0], &tunnels[1], &url]);
        let said = session.policy(&guard).run();
        assert_eq!(said.text(), "b'' True\nb'still'", "{said}");
        let closed = world.records(&said.session()).into_iter()
            .find(|one| one["rules"] == json!(["closed"]));
        assert!(closed.is_some(), "why it ended is on record");
    }

    /// Counts are exact: of requests at once no more go through than a budget has, and bytes count
    /// while they move.
    fn n20_a_budget_is_not_overrun(world) {
        let big = "x".repeat(200_000);
        let origin = Origin::http(move |request| {
            Reply::ok(if request.path() == "/big" { big.clone() } else { "small".into() })
        });
        world.route("a.test", origin.address());
        world.policy.rule(
            "@id(\"budget\") permit (principal, action in Action::\"network\", resource == Host::\"a.test\")
             when { context.session.requests < 5 && context.destination.bytes_received < 300000 };",
        );
        let at_once = "for n in 1 2 3 4 5 6 7 8 9; do curl -sS -o /dev/null -w '%{http_code}\n' \"$1\" & done; wait";
        let said = world.session(&["sh", "-c", at_once, "sh", &origin.url("a.test", "/")]).run();
        let through = said.text().lines().filter(|code| *code == "200").count();
        assert_eq!((through, origin.requests().len()), (5, 5), "{said}");
        let in_turn = "for n in 1 2 3 4; do curl -sS -o /dev/null -w '%{http_code} ' \"$1\"; done";
        let said = world.session(&["sh", "-c", in_turn, "sh", &origin.url("a.test", "/big")]).run();
        assert_eq!(said.text().trim(), "200 200 403 403", "two of them are more than the bytes: {said}");
    }
}

/// Rules that permit everything asked here, and a label for a folder or file of the scenario.
fn policy(world: &World, secret: &Path) -> PathBuf {
    let rules = "@id(\"all\") permit (principal, action, resource)
        unless { action in Action::\"grant\" && resource == Folder::\"/\" };";
    let folder = world.folder("home/labels");
    world.write("home/labels/all.cedar", rules);
    let data = format!(
        "[labels.confidential]\nfolders = [{:?}]\n[labels.untrusted]\nhosts = [\"forum.test\"]\n",
        secret.to_str().unwrap()
    );
    world.write("home/labels/labels.toml", data);
    folder
}

fn hosted(world: &World, secret: &Path) -> String {
    let guard = policy(world, secret);
    // A grant alone is no reading where each file is asked for.
    let folder = secret.parent().unwrap();
    let new = json!({
        "program": "harness", "policy": [guard, "trifecta-guard"],
        "grants": [{"path": folder, "mode": "rw"}],
    });
    let (code, session) = send(world, "POST", "/v1/sessions", &new.to_string());
    assert_eq!(code, 201, "{session}");
    session["id"].as_str().unwrap().to_owned()
}

fn ask(world: &World, id: &str, words: &[&str]) -> Value {
    let body = json!({"ask": words}).to_string();
    let (code, told) = send(
        world,
        "POST",
        &format!("/v1/sessions/{id}/decisions"),
        &body,
    );
    assert_eq!(code, 200, "{told}");
    told
}

fn evaluate(world: &World, id: &str, host: &str) -> Value {
    let asked = json!({
        "subject": {"type": "Session", "id": id}, "action": {"name": "connect"},
        "resource": {"type": "Host", "id": host}, "context": {"port": 443},
    });
    send(world, "POST", "/access/v1/evaluation", &asked.to_string()).1
}

fn past(world: &World, id: &str) -> Value {
    curl(world, &format!("/v1/sessions/{id}"), &[]).1["past"].clone()
}
