//! Sessions that the API starts: a command inside walls, as `cordon run` would, for a runtime that
//! only has the socket.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use cordon_tests::{
    World,
    api::{Remote, curl, end, kill_daemon, send},
    for_both, process,
};
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};

/// Whose token is `secret`.
const DIGEST: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

for_both! {
    /// It runs inside walls with what it was given, is steered like any other, and what it said can
    /// be read when it is over.
    fn a_command_is_started_steered_and_read(world) {
        let folder = world.project();
        world.project_file("a", "hello\n");
        // Another one than of the scenario that runs beside this.
        let secret = format!("s3cret-of-{}", world.account().name);
        let script = "cat a; pwd; echo \"$TOKEN\" >&2; echo new > b; touch /etc/x 2>/dev/null || echo walled; \
            read line || echo end of input; exec sleep 600";
        let new = json!({
            "command": ["sh", "-c", script], "policy": [world.policy_folder()], "workspace": folder,
            "grants": [{"path": folder, "mode": "rw"}], "env": {"TOKEN": secret},
            "limits": {"processes": 64, "wall_seconds": 300}, "platform": std::env::consts::OS,
        });
        let (code, session) = send(world, "POST", "/v1/sessions", &new.to_string());
        assert_eq!((code, &session["state"]), (201, &json!("running")), "{session}");
        let started = world.records(session["id"].as_str().unwrap());
        let started = started.iter().find(|record| record["action"] == "session.start").unwrap();
        assert_eq!(session["decision_id"], started["id"]);
        assert_eq!((&session["backend"], &session["grants"][0]["mode"]), (&json!("bubblewrap"), &json!("rw")));
        let held = |name: &str| session["limits"].as_array().unwrap().iter().find(|limit| limit["name"] == name).unwrap().clone();
        assert_eq!((&held("processes")["value"], &held("wall_seconds")["value"]), (&json!(64), &json!(300)), "{session}");
        let id = session["id"].as_str().unwrap();
        let said = until(world, id, "stdout", "end of input");
        let inside = session["grants"][0]["inside"].as_str().unwrap();
        assert_eq!(said, format!("hello\n{inside}\nwalled\nend of input\n"));
        assert_eq!(std::fs::read_to_string(folder.join("b")).unwrap(), "new\n");
        // No argument of any process tells its variables.
        let host = world.host("sh", &["-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"]).text();
        assert!(host.contains("--handed-over") && !host.contains(&secret), "the control, and the secret");
        let of = |rest: &str| format!("/v1/sessions/{id}{rest}");
        assert_eq!(send(world, "POST", &of("/pause"), "").1["state"], "paused");
        assert_eq!(send(world, "POST", &of("/resume"), "").1["state"], "running");
        let more = world.folder("home/more");
        world.write("home/more/c", "given");
        let given = send(world, "POST", &of("/grants"), &json!({"path": more, "mode": "ro"}).to_string());
        assert_eq!(given.0, 201, "{}", given.1);
        let inside = format!("{}/c", given.1["grant"]["inside"].as_str().unwrap());
        world.cordon(&["session", "exec", id, "--", "cat", &inside]).expect_stdout("given");
        assert!(curl(world, &of("/usage"), &[]).1["processes"]["count"].as_u64().unwrap() >= 1);
        assert_eq!(curl(world, &of(""), &["-X", "DELETE"]).0, 204);
        assert_eq!(curl(world, &of(""), &[]).0, 404);
        // Read back by the page, by the command, and still after the daemon's end.
        let (code, page) = curl(world, &of("/output?limit=1"), &[]);
        assert_eq!((code, page["said"].as_array().unwrap().len(), &page["over"]), (200, 1, &json!(false)), "{page}");
        // What begins within a line goes on behind it.
        let (_, page) = curl(world, &of("/output?after=1&limit=1"), &[]);
        assert_eq!((page["said"].as_array().unwrap().len(), &page["over"]), (1, &json!(false)), "{page}");
        world.cordon(&["stop"]).expect_code(0);
        let logs = world.cordon(&["session", "logs", "--output", "--follow", id]);
        logs.expect_code(0);
        let said = String::from_utf8_lossy(&logs.stdout).into_owned();
        assert!(said.contains("end of input") && !said.contains(&secret), "{logs}");
        assert_eq!(logs.stderr.trim(), secret, "{logs}");
        assert_eq!(curl(world, &of("/output"), &["-X", "DELETE"]).0, 204);
        assert_eq!(curl(world, &of("/output"), &[]).0, 404);
        let end = world.records(id);
        let end = end.iter().find(|record| record["kind"] == "session.end").unwrap();
        assert_eq!(end["end"], "ended", "{end}");
    }

    /// What does not start says why, in the problem; nothing of it stays.
    fn f14_what_does_not_start_says_why(world) {
        let policy = world.policy_folder();
        let try_it = |more: Value| {
            let mut new = json!({"command": ["true"], "policy": [policy]});
            new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            send(world, "POST", "/v1/sessions", &new.to_string())
        };
        let (code, ran) = try_it(json!({}));
        assert_eq!(code, 201, "the control: {ran}");
        let strict = world.write("home/strict.cedar", "forbid (principal, action == Action::\"start_session\", resource);");
        for (more, code, words) in [
            (json!({"policy": [policy, strict]}), 403, "strict"),
            (json!({"grants": [{"path": world.state(), "mode": "ro"}]}), 403, "Cordon"),
            (json!({"grants": [{"path": "/nowhere", "mode": "ro"}]}), 403, "/nowhere"),
            (json!({"agent": "nobody"}), 400, "no agent profile"),
            (json!({"parent": "ffff"}), 409, "no session is started for another one"),
            (json!({"limits": {"memory_bytes": 1}}), 409, "memory_bytes"),
            (json!({"backend": "none"}), 400, "without walls"),
            (json!({"platform": "plan9"}), 400, "runs on"),
            (json!({"backend": "container"}), 400, "image"),
            (json!({"surprise": 1}), 400, "surprise"),
        ] {
            let (answered, problem) = try_it(more.clone());
            assert_eq!(answered, code, "{more}: {problem}");
            assert!(problem["detail"].as_str().unwrap().contains(words), "{more}: {problem}");
            assert_eq!(answered == 403, problem["decision_id"].is_string(), "{more}: {problem}");
        }
        // A command that is not there ran into that, inside.
        let (code, session) = try_it(json!({"command": ["/nowhere/at-all"]}));
        assert_eq!(code, 201, "{session}");
        until(world, session["id"].as_str().unwrap(), "stderr", "/nowhere/at-all");
        // Those that ran are over by themselves, in their time.
        process::eventually("nothing runs", || curl(world, "/v1/sessions", &[]).1 == json!([]));
        forget(world);
    }

    /// The same call twice starts one; and one that is cut off by a kill leaves none running.
    fn a02_a_command_is_started_once_and_ends_with_its_daemon(world) {
        world.session(&["true"]).run().expect_code(0);
        let new = json!({"command": ["sleep", "600"], "policy": [world.policy_folder()]}).to_string();
        let key = ["-H", "idempotency-key: k", "-d", &new];
        let (code, first) = curl(world, "/v1/sessions", &key);
        assert_eq!(code, 201, "{first}");
        assert_eq!(curl(world, "/v1/sessions", &key).1["id"], first["id"]);
        assert_eq!(curl(world, "/v1/sessions", &[]).1.as_array().unwrap().len(), 1);
        let pid = Pid::from_raw(i32::try_from(first["pid"].as_i64().unwrap()).unwrap()).unwrap();
        assert!(test_kill_process(pid).is_ok(), "the control");
        kill_daemon(world);
        assert!(process::gone(pid, process::DEADLINE));
        world.session(&["true"]).run().expect_code(0);
        let (code, again) = curl(world, "/v1/sessions", &key);
        assert_eq!(code, 201, "the first is over with its daemon: {again}");
        assert_ne!(again["id"], first["id"]);
        let both = [&first, &again].map(|one| format!("/v1/sessions/{}/output", one["id"].as_str().unwrap()));
        assert_eq!(both.map(|path| curl(world, &path, &["-X", "DELETE"]).0), [204, 409], "of one that runs it stays");
        world.cordon(&["stop", "--force"]).expect_code(0);
        forget(world);
    }

    /// Session defaults hold for what the API hands over as they do for flags.
    fn a_command_has_session_defaults(world) {
        let text = "strip_env = [\"SECRET\"]\n[[grant]]\nname = \"uploads\"\nmode = \"ro\"\npath = \"up\"\n";
        let file = world.write("home/session.toml", text);
        world.folder("home/up");
        let other = world.folder("home/other/uploads");
        let open = |more: Value| {
            let mut new = json!({"command": ["sleep", "600"], "policy": [world.policy_folder()], "defaults": file});
            new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            send(world, "POST", "/v1/sessions", &new.to_string())
        };
        let (code, session) = open(json!({"env": {"PLAIN": "x"}}));
        assert_eq!(code, 201, "{session}");
        let inside = session["grants"][0]["inside"].as_str().unwrap();
        assert!(inside.ends_with("/uploads") && session["grants"][0]["mode"] == "ro", "{session}");
        for (more, named) in [
            (json!({"env": {"SECRET": "x"}}), "SECRET"),
            (json!({"grants": [{"path": other, "mode": "rw"}]}), "session defaults"),
            (json!({"defaults": "session.toml"}), "absolute"),
            (json!({"defaults": "/nowhere/session.toml"}), "--defaults"),
        ] {
            let (code, problem) = open(more.clone());
            assert_eq!(code, 400, "{more}: {problem}");
            assert!(problem["detail"].as_str().unwrap().contains(named), "{more}: {problem}");
        }
        let (code, session) = open(json!({"grants": [{"path": other, "mode": "ro", "name": "uploads"}]}));
        assert_eq!((code, session["grants"].as_array().map(Vec::len)), (201, Some(1)), "the control: {session}");
        world.cordon(&["stop", "--force"]).expect_code(0);
        forget(world);
    }

    /// A runtime that holds a session says what it runs on, policy decides by that, and it ends when
    /// its time is up.
    fn a_runtime_says_its_platform_and_its_time(world) {
        let rule = "forbid (principal, action in [Action::\"start_session\", Action::\"run_without_sandbox\"], \
            resource) unless { principal.platform == \"macos\" };";
        let gate = world.write("home/gate.cedar", rule);
        let open = |platform: Value, limits: Value| {
            let new = json!({"program": "harness", "policy": ["host-tools", gate], "platform": platform, "limits": limits});
            send(world, "POST", "/v1/sessions", &new.to_string())
        };
        for refused in [json!("windows"), Value::Null] {
            let (code, problem) = open(refused.clone(), json!({}));
            assert_eq!((code, &problem["type"]), (403, &json!("urn:cordon:problem:denied")), "{refused}: {problem}");
        }
        let (code, session) = open(json!("macos"), json!({}));
        assert_eq!(code, 201, "{session}");
        // The pack by itself has its platforms too.
        let by_pack = |platform: &str| {
            let new = json!({"program": "harness", "policy": ["host-tools"], "platform": platform});
            send(world, "POST", "/v1/sessions", &new.to_string())
        };
        let (code, refused) = by_pack("windows");
        assert_eq!((code, &refused["type"]), (403, &json!("urn:cordon:problem:denied")), "{refused}");
        for enabled in ["linux", "macos"] {
            let (code, one) = by_pack(enabled);
            assert_eq!(code, 201, "{enabled}: {one}");
            end(world, one["id"].as_str().unwrap());
        }
        assert_eq!(open(json!("macos"), json!({"processes": 5})).0, 400);
        let (code, short) = open(json!("macos"), json!({"wall_seconds": 2}));
        assert_eq!(code, 201, "{short}");
        let [id, short] = [session, short].map(|one| one["id"].as_str().unwrap().to_owned());
        // Also when the daemon was another meanwhile.
        kill_daemon(world);
        world.session(&["true"]).run().expect_code(0);
        assert_eq!(curl(world, &format!("/v1/sessions/{id}"), &[]).0, 200);
        process::eventually("its time is up", || curl(world, &format!("/v1/sessions/{short}"), &[]).0 == 404);
        let end = world.records(&short);
        assert_eq!(end.iter().find(|record| record["kind"] == "session.end").unwrap()["end"], "over_limit");
        assert_eq!(curl(world, &format!("/v1/sessions/{id}"), &["-X", "DELETE"]).0, 204);
    }

    /// From another machine nobody starts a command whom the configuration does not let.
    fn n18_a_command_is_not_started_from_afar_unless_it_is_said_so(world) {
        let name = world.account().name.clone();
        let callers = format!(
            "[[api.callers]]\nname = {name:?}\ntoken_sha256 = \"{DIGEST}\"\n#commands\n"
        );
        let remote = Remote::configured(world, "", &callers);
        let new = json!({"command": ["true"], "policy": [world.policy_folder()]}).to_string();
        let create = |world: &World| remote.call(world, "/v1/sessions", &["-H", "authorization: Bearer secret", "-d", &new]);
        let by_socket = send(world, "POST", "/v1/sessions", &new);
        assert_eq!(by_socket.0, 201, "{}", by_socket.1);
        let (code, refused) = create(world);
        assert_eq!((code, &refused["type"]), (403, &json!("urn:cordon:problem:not-open")), "{refused}");
        world.cordon(&["stop", "--force"]).expect_code(0);
        world.config = world.config.replace("#commands", "commands = true");
        assert_eq!(send(world, "POST", "/v1/sessions", &new).0, 201);
        let (code, started) = create(world);
        assert_eq!(code, 201, "{started}");
        world.cordon(&["stop", "--force"]).expect_code(0);
        forget(world);
    }
}

/// What the command of a session said on a stream, once `words` are among it.
fn until(world: &World, id: &str, stream: &str, words: &str) -> String {
    let (mut said, mut after) = (String::new(), 0);
    loop {
        let path = format!("/v1/sessions/{id}/output?after={after}&wait=30");
        let (code, page) = curl(world, &path, &[]);
        assert_eq!(code, 200, "{page}");
        let all = page["said"].as_array().unwrap().iter();
        for one in all.filter(|one| one["stream"] == stream) {
            said.push_str(one["text"].as_str().unwrap());
        }
        if said.contains(words) {
            return said;
        }
        assert!(
            page["over"] == false && page["next"].as_u64() > Some(after),
            "{said}: {page}"
        );
        after = page["next"].as_u64().unwrap();
    }
}

/// What commands said stays for whoever started them; nothing else does.
fn forget(world: &World) {
    let kept = world.state().join("output");
    assert!(std::fs::read_dir(&kept).unwrap().count() > 0);
    std::fs::remove_dir_all(kept).unwrap();
}
