//! Approvals as a person and a runtime meet them: by command line, API, proxy and hook; and what
//! is left of them when the daemon is killed.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use cordon_tests::{
    Authority, Bundle, Origin, Outcome, World,
    api::{Remote, ask, curl, end, hosted, kill_daemon, only_session, send},
    binary, for_both,
    origin::http::Reply,
    process,
};
use rustix::process::Pid;
use serde_json::{Value, json};

for_both! {
    /// Exactly what was asked is approved, as often as was said; no other answer counts.
    fn p04_an_approval_is_of_exactly_one_request(world) {
        let id = hosted(world, &[]);
        let told = ask(world, &id, BASH);
        assert_eq!((&told["allowed"], &told["code"]), (&json!(false), &json!("approval_required")), "{told}");
        let approval = told["approval"]["id"].as_str().unwrap().to_owned();
        assert_eq!(ask(world, &id, BASH)["approval"]["id"], approval, "it waits once");
        let listed = world.cordon(&["approve", "list"]);
        listed.expect_code(0).expect_told(&approval).expect_told("call Bash of claude-code");
        let look = decide(world, &id, &["--look"], BASH);
        assert_eq!(look.code, 3, "{look}");
        let said = world.cordon(&["approve", &approval, "--uses", "2", "--for", "10m", "--reason", "for the build"]);
        said.expect_code(0).expect_told("for 2 uses");
        // Twice answered.
        let again = world.cordon(&["approve", &approval]);
        again.expect_code(1).expect_stderr("answered before");
        // A look uses nothing up; another request is another one.
        assert_eq!(decide(world, &id, &["--look"], BASH).code, 0);
        let other = ask(world, &id, &["call", "create", "of", "tracker"]);
        assert_ne!(other["approval"]["id"], approval, "{other}");
        for _use in 0..2 {
            let told = ask(world, &id, BASH);
            assert_eq!(told["allowed"], true, "{told}");
        }
        let used_up = ask(world, &id, BASH);
        assert_eq!(used_up["allowed"], false, "{used_up}");
        assert_ne!(used_up["approval"]["id"], approval);
        // No, and taken back.
        let second = used_up["approval"]["id"].as_str().unwrap();
        world.cordon(&["approve", second, "--deny"]).expect_code(0);
        let refused = ask(world, &id, BASH);
        assert_eq!(refused["approval"]["id"], second, "nobody is asked again: {refused}");
        assert!(refused["reason"].as_str().unwrap().contains("said no"), "{refused}");
        let third = other["approval"]["id"].as_str().unwrap();
        world.cordon(&["approve", third, "--session"]).expect_code(0).expect_told("for this session");
        world.cordon(&["approve", third, "--deny"]).expect_code(0).expect_told("withdrawn");
        assert_eq!(ask(world, &id, &["call", "create", "of", "tracker"])["allowed"], false);
        // Every step is a record with the approval's id.
        let records = world.records(&id);
        let steps: Vec<String> = records.iter().filter(|record| record["approval"]["ref"] == approval).map(|record| {
            format!("{} {}{}", record["kind"].as_str().unwrap(), record["state"].as_str().unwrap_or(""), record["effect"].as_str().unwrap_or(""))
        }).collect();
        assert_eq!(steps, [
            "approval requested", "decision ask", "decision ask", "approval granted",
            "decision allow", "decision allow",
        ]);
        let whole = world.cordon(&["audit", "verify"]);
        whole.expect_code(0);
        end(world, &id);
    }

    /// An answer comes while the caller waits; nobody's answer is no.
    fn p04_a_caller_can_wait_for_the_answer(world) {
        world.config.push_str("[approvals]\ndeadline_seconds = 3\n");
        let id = hosted(world, &[]);
        let waiting = wait_for(world, &id, BASH, 60);
        let approval = pending(world);
        world.cordon(&["approve", &approval]).expect_code(0);
        let told: Value = serde_json::from_slice(&waiting.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(told["allowed"], true, "{told}");
        // Not answered: the deadline answers.
        let waiting = wait_for(world, &id, BASH, 60);
        let approval = pending(world);
        let told: Value = serde_json::from_slice(&waiting.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(told["allowed"], false, "{told}");
        let (_, shown) = curl(world, &format!("/v1/approvals/{approval}"), &[]);
        assert_eq!(shown["state"], "expired", "{shown}");
        let late = world.cordon(&["approve", &approval]);
        late.expect_code(1).expect_stderr("in time");
        end(world, &id);
    }

    /// A daemon that is killed knows afterwards what the log says: what waits, what is given and
    /// how much of it is used.
    fn a02_p04_a_killed_daemon_forgets_no_approval(world) {
        let id = hosted(world, &[]);
        let first = ask(world, &id, BASH)["approval"]["id"].as_str().unwrap().to_owned();
        let tool = ["call", "create", "of", "tracker"];
        let second = ask(world, &id, &tool)["approval"]["id"].as_str().unwrap().to_owned();
        world.cordon(&["approve", &second, "--uses", "2"]).expect_code(0);
        assert_eq!(ask(world, &id, &tool)["allowed"], true);
        kill_daemon(world);
        world.session(&["true"]).run().expect_code(0);
        let (code, session) = curl(world, &format!("/v1/sessions/{id}"), &[]);
        assert_eq!((code, &session["state"]), (200, &json!("running")), "{session}");
        assert_eq!(ask(world, &id, BASH)["approval"]["id"], first, "it still waits");
        world.cordon(&["approve", &first]).expect_code(0);
        kill_daemon(world);
        world.session(&["true"]).run().expect_code(0);
        assert_eq!(ask(world, &id, BASH)["allowed"], true);
        assert_eq!(ask(world, &id, BASH)["allowed"], false, "used up");
        assert_eq!(ask(world, &id, &tool)["allowed"], true);
        assert_eq!(ask(world, &id, &tool)["allowed"], false, "used up, once of it before the kill");
        end(world, &id);
    }

    /// Who may answer is policy; a session never answers itself.
    fn p06_only_those_whom_policy_permits_answer(world) {
        let nobody = hosted(world, &["administration"]);
        let approval = ask(world, &nobody, BASH)["approval"]["id"].as_str().unwrap().to_owned();
        let refused = world.cordon(&["approve", &approval]);
        refused.expect_code(3).expect_stderr("approve");
        assert_eq!(ask(world, &nobody, BASH)["allowed"], false);
        // The refusal is a record too.
        let found = world.cordon(&["audit", "query", "--action", "approve", "--format", "json"]);
        assert!(found.text().contains("\"effect\":\"deny\""), "{found}");
        end(world, &nobody);
        // A process of the session that asks may not, even where its user may: inside walls it
        // does not reach the API, without them it is recognised.
        world.policy.rule(
            "permit (principal, action == Action::\"run_without_sandbox\", resource);
             @id(\"ask\") permit (principal, action == Action::\"call_tool\", resource)
             when { context has approval };",
        );
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        let approval = ask(world, &id, BASH)["approval"]["id"].as_str().unwrap().to_owned();
        let socket = world.runtime().join("api.sock");
        let own = exec(world, &id, &["curl", "-sS", "--unix-socket", socket.to_str().unwrap(), "-d",
            "{\"answer\": \"approve\"}", &format!("http://localhost/v1/approvals/{approval}")]);
        assert_ne!(own.code, 0, "{own}");
        // The twin: its user may, from outside.
        world.cordon(&["approve", &approval]).expect_code(0);
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
        let script = format!(
            "ask() {{ curl -sS --unix-socket {0} \"$@\"; }}
             approval=$(ask -d '{{\"ask\": [\"call\", \"Bash\", \"of\", \"claude-code\"]}}' \
                 http://localhost/v1/sessions/$CORDON_SESSION/decisions | sed 's/.*\"approval\":{{\"id\":\"\\([^\"]*\\).*/\\1/')
             ask -d '{{\"answer\": \"approve\"}}' http://localhost/v1/approvals/$approval
             setsid -w sh -c 'exec curl -sS --unix-socket {0} -d \"$1\" $2' sh '{{\"answer\": \"approve\"}}' \
                 http://localhost/v1/approvals/$approval",
            socket.display()
        );
        let unwalled = world.session(&["sh", "-c", &script]).option("--backend", "none").run();
        let refusals = unwalled.text().matches("a process of the session").count();
        assert_eq!(refusals, 2, "{unwalled}");
    }

    /// A program in the session is told which approval its connection waits for, and gets through
    /// once it is given.
    fn p04_the_proxy_names_the_approval(world) {
        let origin = world.allowed_origin("open.test");
        world.policy.withdraw("open.test");
        world.policy.rule(
            "@id(\"ask-net\") @reason(\"somebody looks\") permit (principal, action in Action::\"network\", resource == Host::\"open.test\")
             when { context has approval };",
        );
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        let url = format!("http://open.test:{}/x", origin.port());
        let get = |url: &str| exec(world, &id, &["curl", "-sS", "-H", "accept: application/json", "-w", "\n%{http_code}", url]);
        let told = get(&url).text();
        let (body, code) = told.rsplit_once('\n').unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!((code, &body["reason"]), ("403", &json!("approval_required")), "{told}");
        let approval = body["approval"].as_str().unwrap();
        world.cordon(&["approve", approval, "--session"]).expect_code(0);
        for _time in 0..2 {
            assert!(get(&url).text().ends_with("200"), "it goes through");
        }
        // Another path is another request.
        assert!(get(&format!("{url}y")).text().ends_with("403"));
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
        assert_eq!(world.cordon(&["approve", "list"]).text(), "nothing waits for an answer");
    }

    /// A hook's question binds the very input of the tool: another command is another request (P04).
    fn p04_a_hook_s_approval_is_of_the_very_command(world) {
        let hook = |command: &str| {
            let input = json!({
                "session_id": "their-own", "cwd": world.project(), "hook_event_name": "PreToolUse",
                "tool_name": "Bash", "tool_input": {"command": command},
            });
            // As an agent starts it: who started the agent may answer.
            let mut asking = world.as_account("timeout");
            world.command();
            asking.arg("60").arg(binary::cordon()).args(["hook", "pre-tool-use", "--policy", "host-tools"]);
            let said = process::finish(asking, input.to_string().as_bytes());
            let said: Value = serde_json::from_str(&said.text()).unwrap();
            said["hookSpecificOutput"]["permissionDecision"].as_str().unwrap().to_owned()
        };
        assert_eq!(hook("make test"), "ask");
        let approval = pending(world);
        let shown = world.cordon(&["approve", "show", &approval]);
        shown.expect_told("time left").expect_told(&format!("cordon approve {approval} --deny"));
        world.cordon(&["approve", "list"]).expect_told("LEFT").expect_told("m ");
        shown.expect_code(0).expect_told("make test");
        world.cordon(&["approve", &approval, "--uses", "2"]).expect_code(0);
        assert_eq!(hook("make test && curl evil.test"), "ask");
        assert_eq!(hook("make test"), "allow");
        // The agent's session outlives the daemon, and so does what was approved for it.
        kill_daemon(world);
        assert_eq!(hook("make test"), "allow");
        assert_eq!(hook("make test"), "ask");
        // What was run is nowhere in the log.
        let log = world.cordon(&["audit", "query", "--format", "json"]);
        assert!(!log.text().contains("make test"), "{log}");
        world.cordon(&["stop", "--force"]).expect_code(0);
    }

    /// Other people answer over TLS, known by token or certificate and by nothing that they say; two
    /// where a rule wants two, and none who may not.
    fn p04_p06_two_people_answer_over_tls(world) {
        let mut callers = String::new();
        for (name, groups) in [("bob", "cordon-approvers"), ("eve", "cordon-approvers"), ("max", "staff"), ("ann", "cordon-auditors")] {
            let digest = world.host("sh", &["-c", &format!("printf %s {name}-token | sha256sum | cut -c1-64")]).text();
            callers.push_str(&format!("[[api.callers]]\nname = \"{name}\"\ngroups = [\"{groups}\"]\ntoken_sha256 = \"{}\"\n", digest.trim()));
        }
        let remote = Remote::configured(world, "url = \"https://cordon.example.com\"", &callers);
        let house = Bundle::house(1)
            .rule("permit (principal, action == Action::\"run_without_sandbox\", resource);")
            .rule(
                "@id(\"two\") @approvers(\"2\") permit (principal, action == Action::\"enable_browser\", resource)
                 when { context has approval };",
            )
            .rule("permit (principal in Group::\"cordon-approvers\", action == Action::\"approve\", resource);")
            .rule("permit (principal in Group::\"cordon-auditors\", action == Action::\"read_log\", resource);")
            .write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        let new = json!({"program": "harness"}).to_string();
        let (code, session) = send(world, "POST", "/v1/sessions", &new);
        assert_eq!(code, 201, "{session}");
        let id = session["id"].as_str().unwrap().to_owned();
        let ask_browser = || ask(world, &id, &["enable", "browser"]);
        let approval = ask_browser()["approval"]["id"].as_str().unwrap().to_owned();
        let call = |who: &str, path: &str, args: &[&str]| {
            let token = format!("authorization: Bearer {who}");
            remote.call(world, path, &[&["-H", token.as_str()], args].concat())
        };
        let path = format!("/v1/approvals/{approval}");
        let yes = |who: &str| call(who, &path, &["-d", "{\"answer\": \"approve\"}"]);
        // Nobody, and those who may not: to them it is not even there.
        assert_eq!(yes("wrong").0, 401);
        assert_eq!(call("", &path, &[]).0, 401);
        assert_eq!(call("max-token", &path, &[]).0, 404);
        assert_eq!(yes("max-token").0, 403);
        for path in ["/v1/sessions", &format!("/v1/sessions/{id}"), "/v1/events"] {
            assert_eq!(call("bob-token", path, &[]).0, 403, "{path}");
        }
        let evaluation = call("bob-token", "/access/v1/evaluation", &["-H", "content-type: application/json", "-d", "{}"]);
        assert_eq!(evaluation.0, 403);
        assert_eq!(call("ann-token", "/v1/events", &[]).0, 200, "auditors read");
        let (_, listed) = call("bob-token", "/v1/approvals", &[]);
        assert_eq!(listed["approvals"][0]["id"], approval, "{listed}");
        // Who may is told with it, to people too.
        let (_, whole) = call("bob-token", &path, &[]);
        let words = "Members of group `cordon-approvers` may answer requests of any session.";
        assert_eq!(whole["may_answer"].as_array().map(Vec::len), Some(1), "{whole}");
        assert_eq!(whole["may_answer"][0]["words"], words);
        let user = &world.account().name;
        assert!(whole["explain"].as_str().unwrap().starts_with(&format!("approve for {user}")), "{whole}");
        let shown = world.cordon(&["approve", "show", &approval]);
        shown.expect_told(words).expect_told(&format!("--user NAME approve for {user}"));
        // One is not enough, nor the same one twice.
        assert_eq!(yes("bob-token").1["state"], "pending");
        assert_eq!(ask_browser()["allowed"], false);
        assert_eq!(yes("bob-token").0, 409);
        let (_, given) = yes("eve-token");
        assert_eq!(given["state"], "given");
        let decided = world.cordon(&["audit", "show", "--format", "json", given["decision_id"].as_str().unwrap()]).text();
        let decided: Value = serde_json::from_str(decided.lines().next().unwrap()).unwrap();
        let record = &decided["record"];
        assert_eq!((&record["action"], &record["effect"], &record["principal"]["id"]), (&json!("approve"), &json!("allow"), &json!("eve")));
        assert_eq!(ask_browser()["allowed"], true);
        let records = world.records(&id);
        let used = records.iter().find(|record| record["effect"] == "allow" && record["approval"]["ref"] == approval).unwrap();
        assert_eq!(used["approval"]["by"], json!(["bob", "eve"]));
        let (_, metadata) = call("bob-token", "/.well-known/authzen-configuration", &[]);
        assert_eq!(metadata["policy_decision_point"], "https://cordon.example.com");
        // Without TLS nothing is said.
        let plain = world.host("curl", &["-sS", "--http0.9", &format!("http://localhost:{}/v1/approvals", remote.port())]);
        assert!(!plain.text().contains("approvals"), "{plain}");
        end(world, &id);
    }

    /// A command of the configuration is told of each request, and of nothing that is secret.
    fn people_are_told_by_a_command(world) {
        let told = world.home().join("told");
        let script = format!("#!/bin/sh\ncat >> {0}\necho >> {0}\nenv > {0}.env\n", told.display());
        let program = world.write("notice", script);
        world.host("chmod", &["700", program.to_str().unwrap()]).expect_code(0);
        world.config.push_str(&format!("[approvals]\ncommand = [{:?}]\n", program.to_str().unwrap()));
        let id = hosted(world, &[]);
        let approval = ask(world, &id, BASH)["approval"]["id"].as_str().unwrap().to_owned();
        process::eventually("the command was told", || {
            let text = std::fs::read_to_string(&told).unwrap_or_default();
            text.ends_with('\n') && text.contains(&approval)
        });
        ask(world, &id, BASH);
        let text = std::fs::read_to_string(&told).unwrap();
        assert_eq!(text.lines().count(), 1, "once: {text}");
        let notice: Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(notice["request"], "call Bash of claude-code");
        let environment = std::fs::read_to_string(format!("{}.env", told.display())).unwrap_or_default();
        assert!(!environment.contains("XDG_STATE_HOME"), "{environment}");
        end(world, &id);
    }

    /// An address is posted to, once for each request, without secrets; one that does not answer
    /// holds nothing up.
    fn people_are_told_by_a_url(world) {
        let told = Origin::http(|_request| {
            std::thread::sleep(Duration::from_secs(5));
            Reply::ok("")
        });
        let url = format!("http://{}/hook?key=of-the-hook", told.address());
        world.config.push_str(&format!("[approvals]\nurl = {url:?}\nnotify_seconds = 1\n"));
        let id = hosted(world, &[]);
        let asked = Instant::now();
        let approval = ask(world, &id, BASH)["approval"]["id"].as_str().unwrap().to_owned();
        let second = ask(world, &id, &["call", "create", "of", "tracker"])["approval"]["id"].clone();
        assert!(asked.elapsed() < Duration::from_secs(4), "nobody waits for it");
        ask(world, &id, BASH);
        process::eventually("both were posted", || told.connections() == 2);
        process::eventually("both were read", || told.requests().len() == 2);
        let mut posted: Vec<Value> = told.requests().iter().map(|request| {
            assert!(request.header("authorization").is_none(), "no secret");
            serde_json::from_slice(&request.body).unwrap()
        }).collect();
        posted.sort_by_key(|notice| notice["id"] != approval.as_str());
        assert_eq!((&posted[0]["id"], &posted[1]["id"]), (&json!(approval), &second));
        assert_eq!((&posted[0]["request"], &posted[0]["shown"]), (&json!("call Bash of claude-code"), &Value::Null));
        // It answers too late, and the request waits all the same.
        world.cordon(&["approve", &approval]).expect_code(0);
        assert_eq!(ask(world, &id, BASH)["allowed"], true);
        assert_eq!(told.connections(), 2, "once each");
        end(world, &id);
    }

    /// A command that hangs is ended with its children, and an address where nobody is is given up: each
    /// is a message, and the request waits for its answer all the same.
    fn a_notice_that_hangs_or_finds_nobody_holds_nothing_up(world) {
        let child = world.home().join("child");
        let script = format!("#!/bin/sh\nsleep 600 &\necho $! > {0}.new && mv {0}.new {0}\nwait\n", child.display());
        let program = world.write("notice", script);
        world.host("chmod", &["700", program.to_str().unwrap()]).expect_code(0);
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        world.config.push_str(&format!(
            "[approvals]\ncommand = [{:?}]\nurl = \"http://{nobody}/\"\nnotify_seconds = 1\n", program.to_str().unwrap()));
        let id = hosted(world, &[]);
        let approval = ask(world, &id, BASH)["approval"]["id"].as_str().unwrap().to_owned();
        let number = || std::fs::read_to_string(&child).ok().and_then(|text| text.trim().parse::<i32>().ok());
        process::eventually("the command runs", || number().is_some());
        let hangs = Pid::from_raw(number().unwrap()).unwrap();
        world.cordon(&["approve", &approval]).expect_code(0);
        assert_eq!(ask(world, &id, BASH)["allowed"], true, "nobody waits for it");
        assert!(process::gone(hangs, process::DEADLINE), "its child too");
        let said = || std::fs::read_to_string(world.state().join("daemon.log")).unwrap_or_default();
        process::eventually("both are told of", || {
            said().contains("was not done in time") && said().contains("an approval was not posted")
        });
        end(world, &id);
    }

    /// Of two people who say yes at the same time one has answered, and the other is told so.
    fn p04_two_answers_at_once_are_one(world) {
        let id = hosted(world, &[]);
        let approval = ask(world, &id, BASH)["approval"]["id"].as_str().unwrap().to_owned();
        let both = [(); 2].map(|()| {
            let mut command = world.command();
            command.args(["approve", &approval]).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        });
        let mut told = both.map(|one| one.wait_with_output().unwrap());
        told.sort_by_key(|one| one.status.code());
        assert_eq!(told.each_ref().map(|one| one.status.code()), [Some(0), Some(1)], "{told:?}");
        assert!(String::from_utf8_lossy(&told[1].stderr).contains("answered before"), "{told:?}");
        let records = world.records(&id);
        let granted = records.iter().filter(|one| one["kind"] == "approval" && one["state"] == "granted");
        assert_eq!(granted.count(), 1);
        assert_eq!(ask(world, &id, BASH)["allowed"], true);
        assert_eq!(ask(world, &id, BASH)["allowed"], false, "once");
        end(world, &id);
    }

    /// Somebody is known by a name in their certificate, of the authority that is configured, and
    /// one without a certificate is not even spoken to.
    fn p06_an_approver_is_known_by_a_certificate(world) {
        let authority = world.authority();
        let ca = world.write("config/clients.pem", authority.certificate());
        let callers = "[[api.callers]]\nname = \"bob\"\ngroups = [\"cordon-approvers\"]\ncertificate = \"bob.test\"\n";
        let remote = Remote::configured(world, &format!("client_ca = {:?}", ca.to_str().unwrap()), callers);
        let house = Bundle::house(1)
            .rule("permit (principal, action == Action::\"run_without_sandbox\", resource);")
            .rule("permit (principal, action == Action::\"enable_browser\", resource) when { context has approval };")
            .rule("permit (principal in Group::\"cordon-approvers\", action == Action::\"approve\", resource);")
            .write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        let (_, session) = send(world, "POST", "/v1/sessions", &json!({"program": "harness"}).to_string());
        let id = session["id"].as_str().unwrap().to_owned();
        let approval = ask(world, &id, &["enable", "browser"])["approval"]["id"].as_str().unwrap().to_owned();
        let path = format!("/v1/approvals/{approval}");
        let shows = |world: &World, by: &Authority, name: &str| {
            let (key, certificate) = by.server_pem(name);
            let key = world.write(format!("{name}.key"), key).display().to_string();
            let certificate = world.write(format!("{name}.pem"), certificate).display().to_string();
            remote.call(world, &path, &["--cert", &certificate, "--key", &key, "-d", "{\"answer\": \"approve\"}"])
        };
        assert_eq!(remote.call(world, &path, &[]).0, 0, "without a certificate there is no connection");
        assert_eq!(shows(world, &Authority::new(), "bob.test").0, 0, "nor with one of another authority");
        assert_eq!(shows(world, &authority, "eve.test").0, 401);
        assert_eq!(ask(world, &id, &["enable", "browser"])["allowed"], false);
        let (code, given) = shows(world, &authority, "bob.test");
        assert_eq!((code, &given["approved_by"]), (200, &json!(["bob"])), "{given}");
        assert_eq!(ask(world, &id, &["enable", "browser"])["allowed"], true);
        end(world, &id);
    }

    /// What a runtime or an agent has started does not answer for it; the runtime itself may, and so
    /// may its user from elsewhere (P06).
    fn p06_what_a_runtime_started_does_not_answer(world) {
        hosted(world, &[]);
        let socket = world.runtime().join("api.sock");
        let script = format!(
            "import http.client, json, os, socket, subprocess, sys
class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect({:?})
def call(path, body):
    link = Unix('localhost')
    link.request('POST', path, json.dumps(body))
    answer = link.getresponse()
    return answer.status, json.loads(answer.read())
def approve(one):
    child = subprocess.run(['setsid', '-w', 'sh', '-c', '{} approve ' + one], capture_output=True, text=True)
    return child.returncode, child.stderr
asked = {{'ask': ['call', 'Bash', 'of', 'claude-code']}}
_, session = call('/v1/sessions', {{'program': 'runtime', 'policy': ['host-tools']}})
_, told = call('/v1/sessions/' + session['id'] + '/decisions', asked)
one = told['approval']['id']
below = approve(one)
own = call('/v1/approvals/' + one, {{'answer': 'approve'}})
hook = subprocess.run(['sh', '-c', '{} hook pre-tool-use --policy host-tools; true'], capture_output=True, text=True,
    input=json.dumps({{'session_id': 'theirs', 'cwd': os.getcwd(), 'hook_event_name': 'PreToolUse', 'tool_name': 'Bash', 'tool_input': {{'command': 'x'}}}}))
reason = json.loads(hook.stdout)['hookSpecificOutput']['permissionDecisionReason']
other = reason.split('cordon approve ')[1].split('`')[0]
print(json.dumps({{'below': below, 'own': own[0], 'agent': approve(other), 'other': other,
    'itself': call('/v1/approvals/' + other, {{'answer': 'approve'}})[0]}}))",
            socket.to_str().unwrap(), binary::cordon().display(), binary::cordon().display(),
        );
        let said = world.host("python3", &["-c", &script]);
        let told: Value = serde_json::from_str(said.text().trim()).unwrap_or_else(|_| panic!("{said}"));
        for who in ["below", "agent"] {
            assert_ne!(told[who][0], 0, "{told}");
            assert!(told[who][1].as_str().unwrap().contains("a process of the session"), "{who}: {told}");
        }
        assert_eq!(told["own"], 200, "{told}");
        assert_eq!(told["itself"], 403, "an agent is no runtime: {told}");
        world.cordon(&["approve", told["other"].as_str().unwrap()]).expect_code(0);
        world.cordon(&["stop", "--force"]).expect_code(0);
    }
}

const BASH: &[&str] = &["call", "Bash", "of", "claude-code"];

fn decide(world: &World, id: &str, options: &[&str], words: &[&str]) -> Outcome {
    world.cordon(&[&["decide", "--session", id], options, words].concat())
}

/// Asks, and waits for a person.
fn wait_for(world: &World, id: &str, words: &[&str], seconds: u32) -> std::process::Child {
    let socket = world.runtime().join("api.sock");
    let mut command: Command = world.as_account("curl");
    command.args(["-sS", "--unix-socket", socket.to_str().unwrap()]);
    command.args(["-H", &format!("prefer: wait={seconds}")]);
    command.args(["-d", &json!({"ask": words}).to_string()]);
    command.arg(format!("http://localhost/v1/sessions/{id}/decisions"));
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// The one approval that waits, once it does.
fn pending(world: &World) -> String {
    let mut id = String::new();
    process::eventually("an approval waits", || {
        let (_, listed) = curl(world, "/v1/approvals?state=pending", &[]);
        id = listed["approvals"][0]["id"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        !id.is_empty()
    });
    id
}

fn exec(world: &World, id: &str, command: &[&str]) -> Outcome {
    world.cordon(&[&["session", "exec", id, "--"], command].concat())
}
