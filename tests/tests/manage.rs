//! Who may do what with sessions: a decision of policy for everybody who asks, by the API and by the
//! command line; this daemon's own user may by default, and may always end what runs.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::BTreeSet;

use cordon_tests::{
    Authority, Bundle, World,
    api::{Remote, ask, curl, end, send},
    for_both,
    link::Link,
};
use serde_json::{Value, json};

/// What the organisation says: who operates may look, pause and end; who builds may open by a command.
const OTHERS: &str = r#"
permit (principal, action == Action::"run_without_sandbox", resource);
@id("operators") permit (principal in Group::"operators",
    action in [Action::"read_session", Action::"steer_session", Action::"end_session"], resource);
@id("askers") permit (principal in Group::"askers", action == Action::"ask_session", resource);
@id("operators-not-secret") forbid (principal in Group::"operators", action in Action::"manage_sessions", resource)
when { resource has agent && resource.agent == Agent::"secret" };
"#;

for_both! {
    /// Somebody who is known by a certificate may what a rule permits them, session by session, and
    /// nothing else; each decision is on record.
    fn others_may_what_policy_permits(world) {
        let authority = world.authority();
        let ca = world.write("config/clients.pem", authority.certificate());
        let caller = |name: &str, group: &str| format!("[[api.callers]]\nname = \"{name}\"\ngroups = [\"{group}\"]\ncertificate = \"{name}.test\"\n");
        let callers = [caller("ann", "operators"), caller("bob", "staff"), caller("cat", "askers")].concat();
        let remote = Remote::configured(world, &format!("client_ca = {:?}", ca.to_str().unwrap()), &callers);
        let house = Bundle::house(1).rule(OTHERS).write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        for name in ["ann", "bob", "cat"] {
            shown(world, &authority, name);
        }
        let open = |agent: &str| {
            let (code, session) = send(world, "POST", "/v1/sessions", &json!({"program": "harness", "agent": agent}).to_string());
            assert_eq!(code, 201, "{session}");
            session["id"].as_str().unwrap().to_owned()
        };
        let (secret, id) = (open("secret"), open("harness"));
        let call = |who: &str, method: &str, path: &str, body: &str| {
            let file = |end: &str| world.home().join(format!("{who}.{end}")).display().to_string();
            let json = "content-type: application/json";
            remote.call(world, path, &["--cert", &file("pem"), "--key", &file("key"), "-X", method, "-H", json, "-d", body])
        };
        let of = |rest: &str| format!("/v1/sessions/{id}{rest}");
        // What she sees is what she may see.
        let (code, listed) = call("ann", "GET", "/v1/sessions", "");
        assert_eq!((code, listed.as_array().unwrap().len(), &listed[0]["id"]), (200, 1, &json!(id)), "{listed}");
        assert_eq!(send(world, "GET", "/v1/sessions", "").1.as_array().unwrap().len(), 2, "the control");
        let first = call("ann", "GET", "/v1/sessions?limit=1", "");
        assert_eq!((first.0, &first.1[0]["id"]), (200, &json!(id)), "one that she may not see comes before: {}", first.1);
        let connects = json!({"ask": ["connect", "a.test:443"]}).to_string();
        let folder = json!({"path": world.folder("home/more"), "mode": "ro"}).to_string();
        let new = json!({"program": "harness"}).to_string();
        for (method, path, body, ann) in [
            ("GET", of(""), "", 200),
            ("GET", of("/usage"), "", 200),
            ("POST", of("/pause"), "", 200),
            ("POST", of("/resume"), "", 200),
            ("POST", of("/decisions"), &*connects, 403),
            ("GET", of("/path?path=/tmp"), "", 403),
            ("POST", of("/heartbeat"), "", 403),
            ("POST", of("/grants"), &folder, 403),
            ("PUT", of("/browser"), "", 403),
            ("POST", of("/tokens"), "", 403),
            ("POST", "/v1/sessions".into(), &new, 403),
            ("GET", of("/events"), "", 403),
            ("GET", "/v1/events".into(), "", 403),
            ("GET", "/v1/extensions".into(), "", 403),
            ("GET", "/v1/connectors".into(), "", 403),
            ("GET", format!("/v1/sessions/{secret}"), "", 403),
            ("POST", format!("/v1/sessions/{secret}/pause"), "", 403),
            ("DELETE", format!("/v1/sessions/{secret}"), "", 403),
        ] {
            let (code, said) = call("ann", method, &path, body);
            assert_eq!(code, ann, "ann {method} {path}: {said}");
            let (code, said) = call("bob", method, &path, body);
            assert_eq!(code, 403, "bob {method} {path}: {said}");
        }
        // The id in another spelling is the same session's or none's.
        let spelt = format!("/v1/sessions/%{:02x}{}/grants", secret.as_bytes()[0], &secret[1..]);
        assert_eq!(call("ann", "POST", &spelt, &folder).0, 403);
        assert_eq!(call("ann", "GET", &format!("/v1/sessions/{}", &id[..8]), "").0, 404, "an id is whole");
        assert!(ask(world, &id, &["connect", "a.test:443"])["decision_id"].is_string(), "the own user asks");
        let (code, asked) = call("cat", "POST", &of("/decisions"), &connects);
        assert_eq!((code, asked["decision_id"].is_string()), (200, true), "{asked}");
        assert_eq!(call("cat", "POST", &of("/heartbeat"), "").0, 200);
        assert_eq!(call("cat", "POST", &of("/pause"), "").0, 403);
        assert_eq!(call("ann", "DELETE", &of(""), "").0, 204);
        assert_eq!(curl(world, &of(""), &[]).0, 404);
        assert_eq!(curl(world, &format!("/v1/sessions/{secret}"), &[]).0, 200);
        let by = |who: &str, action: &str| records(world, action).into_iter().filter(|record| record["principal"]["id"] == who).collect::<Vec<_>>();
        let [paused, resumed, refused] = &by("ann", "manage.steer")[..] else { panic!("three") };
        assert_eq!((&paused["effect"], &paused["rules"], &paused["resource"]["id"]), (&json!("allow"), &json!(["operators"]), &json!(id)));
        assert_eq!((&resumed["effect"], &refused["effect"], &refused["resource"]["id"]), (&json!("allow"), &json!("deny"), &json!(secret)));
        assert_eq!(by("bob", "manage.token")[0]["reason"], "default_deny");
        let looked: Vec<_> = by("ann", "manage.read").iter().map(|record| record["effect"].clone()).collect();
        assert_eq!(looked, ["deny"], "only to look is not recorded");
        // Who asked in its name is; what they asked is its user's in the session's own records.
        let asked: Vec<_> = records(world, "manage.ask").iter().filter(|record| record["effect"] == "allow").map(|record| (record["principal"]["id"].clone(), record["resource"]["id"].clone())).collect();
        assert_eq!(asked, [(json!("cat"), json!(id)), (json!("cat"), json!(id))], "the own user's are not");
        end(world, &secret);
        world.cordon(&["stop", "--force"]).expect_code(0);
    }

    /// Somebody whom policy lets open sessions has a command started, though this daemon's own user
    /// may not: it is decided for whoever asks.
    fn a_command_is_opened_for_whoever_asks(world) {
        let digest = world.host("sh", &["-c", "printf secret | sha256sum | cut -c1-64"]).text();
        let caller = format!("[[api.callers]]\nname = \"ann\"\ngroups = [\"builders\"]\ncommands = true\ntoken_sha256 = \"{}\"\n", digest.trim());
        let remote = Remote::configured(world, "", &caller);
        let house = Bundle::house(1)
            .rule("permit (principal in Group::\"builders\", action == Action::\"open_session\", resource);")
            .rule("@id(\"not-here\") forbid (principal, action == Action::\"open_session\", resource) unless { principal in Group::\"builders\" };")
            .write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        let refused = world.session(&["true"]).built_in_policy().run();
        refused.expect_code(3).expect_stderr("not-here");
        let new = json!({"command": ["sleep", "600"]}).to_string();
        let (code, said) = send(world, "POST", "/v1/sessions", &new);
        assert_eq!((code, said["decision_id"].is_string()), (403, true), "{said}");
        let bearer = ["-H", "authorization: Bearer secret", "-d", &new];
        let (code, session) = remote.call(world, "/v1/sessions", &bearer);
        assert_eq!(code, 201, "{session}");
        let effects: Vec<_> = records(world, "manage.open").iter().map(|record| (record["principal"]["id"] == "ann", record["effect"].clone())).collect();
        assert_eq!(effects, [(false, json!("deny")), (false, json!("deny")), (true, json!("allow"))]);
        assert_eq!(records(world, "session.start").len(), 1, "nothing else was started");
        world.cordon(&["stop", "--force"]).expect_code(0);
        // What commands said stays for whoever started them.
        std::fs::remove_dir_all(world.state().join("output")).unwrap();
    }

    /// What a rule forbids this daemon's own user it is refused by every way; but nobody takes away
    /// that they end what runs.
    fn the_own_user_is_decided_too_and_may_always_end(world) {
        let house = Bundle::house(1)
            .rule("permit (principal, action == Action::\"run_without_sandbox\", resource);")
            .rule("@id(\"not-banned\") forbid (principal, action == Action::\"open_session\", resource)
                 when { resource has agent && resource.agent == Agent::\"banned\" };")
            .rule("@id(\"as-it-is\") forbid (principal, action in [Action::\"change_session\", Action::\"steer_session\",
                 Action::\"read_log\", Action::\"end_session\", Action::\"issue_token\"], resource);")
            .write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        let open = |agent: &str| send(world, "POST", "/v1/sessions", &json!({"program": "harness", "agent": agent}).to_string());
        let (code, refused) = open("banned");
        assert_eq!(code, 403, "{refused}");
        let record = records(world, "manage.open").pop().unwrap();
        assert_eq!((&record["id"], &record["effect"], &record["rules"]), (&refused["decision_id"], &json!("deny"), &json!(["not-banned"])));
        assert_eq!(records(world, "session.start").len(), 1, "that by which the daemon was started");
        let (code, session) = open("other");
        assert_eq!(code, 201, "{session}");
        let id = session["id"].as_str().unwrap();
        let folder = world.folder("home/more").display().to_string();
        let grant = json!({"path": folder, "mode": "ro"}).to_string();
        for (method, rest, body) in [("POST", "/grants", &*grant), ("POST", "/pause", ""), ("POST", "/tokens", ""), ("GET", "/events", "")] {
            let (code, said) = send(world, method, &format!("/v1/sessions/{id}{rest}"), body);
            assert_eq!((code, said["decision_id"].is_string()), (403, true), "{method} {rest}: {said}");
        }
        world.cordon(&["session", "pause", id]).expect_code(3).expect_stderr("as-it-is");
        world.cordon(&["session", "grant", id, &format!("{folder}:ro")]).expect_code(3).expect_stderr("as-it-is");
        world.cordon(&["session", "show", id]).expect_code(0);
        assert_eq!(curl(world, &format!("/v1/sessions/{id}/usage"), &[]).0, 200, "what is not forbidden");
        assert_eq!(ask(world, id, &["connect", "a.test:443"])["allowed"], false);
        world.cordon(&["session", "end", id]).expect_code(0);
        let ended = records(world, "manage.end").pop().unwrap();
        assert_eq!((&ended["effect"], &ended["rules"]), (&json!("allow"), &json!(["own-user-manages"])));
        world.cordon(&["stop"]).expect_code(0);
    }

    /// What is forbidden to a group is forbidden to this daemon's own user in it over TLS as well, where
    /// the configuration says nothing of their groups.
    fn the_own_user_keeps_their_groups_over_tls(world) {
        let said = |command: &str| world.host("sh", &["-c", command]).text().trim().to_owned();
        let (name, group) = (said("id -un"), said("id -gn"));
        let digest = said("printf secret | sha256sum | cut -c1-64");
        let remote = Remote::configured(world, "", &format!("[[api.callers]]\nname = \"{name}\"\ntoken_sha256 = \"{digest}\"\n"));
        let house = Bundle::house(1)
            .rule("permit (principal, action == Action::\"run_without_sandbox\", resource);")
            .rule(&format!("@id(\"no-new-folders\") forbid (principal in Group::\"{group}\", action == Action::\"change_session\", resource);"))
            .write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        let (code, session) = send(world, "POST", "/v1/sessions", &json!({"program": "harness"}).to_string());
        assert_eq!(code, 201, "{session}");
        let path = |rest: &str| format!("/v1/sessions/{}{rest}", session["id"].as_str().unwrap());
        let folder = json!({"path": world.folder("home/more"), "mode": "ro"}).to_string();
        let call = |rest: &str, body: &str| {
            remote.call(world, &path(rest), &["-H", "authorization: Bearer secret", "-H", "content-type: application/json", "-X", "POST", "-d", body])
        };
        let (code, refused) = call("/grants", &folder);
        assert_eq!(code, 403, "{refused}");
        let record = records(world, "manage.change").pop().unwrap();
        assert_eq!((&record["id"], &record["rules"]), (&refused["decision_id"], &json!(["no-new-folders"])));
        assert_eq!(send(world, "POST", &path("/grants"), &folder).0, 403, "as over the socket");
        assert_eq!(call("/pause", "").0, 200, "the control");
        assert_eq!(call("/cancel", "").0, 200);
        world.cordon(&["stop"]).expect_code(0);
    }

    /// A session that may not be seen is told of nowhere, and the log only where it may be read.
    fn what_may_not_be_read_the_daemon_does_not_tell(world) {
        let seen = cordon_tests::api::hosted(world, &[]);
        world.cordon(&["audit", "show", &seen]).expect_code(0).expect_told(&seen);
        world.cordon(&["audit", "export", "--format", "jsonl"]).expect_code(0);
        world.cordon(&["stop", "--force"]).expect_code(0);
        let house = Bundle::house(1)
            .rule("permit (principal, action == Action::\"run_without_sandbox\", resource);")
            .rule("@id(\"asked\") permit (principal, action == Action::\"enable_browser\", resource) when { context has approval };")
            .rule("@id(\"not-secret\") forbid (principal, action == Action::\"read_session\", resource)
                 when { resource has agent && resource.agent == Agent::\"secret\" };")
            .rule("@id(\"not-the-log\") forbid (principal, action == Action::\"read_log\", resource);")
            .write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        let open = |agent: &str| {
            let (code, session) = send(world, "POST", "/v1/sessions", &json!({"program": "harness", "agent": agent}).to_string());
            assert_eq!(code, 201, "{session}");
            let id = session["id"].as_str().unwrap().to_owned();
            let waits = ask(world, &id, &["enable", "browser"])["approval"]["id"].as_str().unwrap().to_owned();
            (id, waits)
        };
        let ((open, open_waits), (secret, secret_waits)) = (open("harness"), open("secret"));
        for command in [&["status"][..], &["session", "list"], &["approve", "list"]] {
            let said = world.cordon(command);
            let (seen, hidden) = if command[0] == "approve" { (&open_waits, &secret_waits) } else { (&open, &secret) };
            said.expect_code(0).expect_told(seen);
            assert!(!said.text().contains(hidden.as_str()), "{command:?}: {said}");
        }
        assert_eq!(curl(world, &format!("/v1/approvals/{open_waits}"), &[]).0, 200);
        assert_eq!(curl(world, &format!("/v1/approvals/{secret_waits}"), &[]).0, 404);
        world.cordon(&["policy", "effective", &open]).expect_code(0).expect_told("asked");
        world.cordon(&["policy", "effective", &secret]).expect_code(3).expect_stderr("not-secret");
        for refused in [&["audit", "show", &open][..], &["audit", "export", "--format", "jsonl"]] {
            world.cordon(refused).expect_code(3).expect_stderr("not-the-log");
        }
        let denied = records(world, "manage.read").pop().unwrap();
        assert_eq!((&denied["effect"], &denied["resource"]["id"]), (&json!("deny"), &json!(secret)));
        // A record of its own is found without asking what a session is: a refusal can be looked up.
        world.cordon(&["audit", "show", denied["id"].as_str().unwrap()]).expect_code(0).expect_told("not-secret");
        world.cordon(&["stop", "--force"]).expect_code(0);
    }

    /// Whatever changes a session says by which decision, on record, it was let; as it is described.
    fn what_changes_a_session_names_its_decision(world) {
        world.config.push_str("[connectors.tracker]\ndescription = \"Issues\"\nkind = \"http\"\n[connectors.tracker.scopes]\n\"read\" = \"Read\"\n");
        let id = cordon_tests::api::hosted(world, &[]);
        let (_, described) = curl(world, "/v1/openapi.json", &[]);
        let mut named: BTreeSet<String> = BTreeSet::new();
        for (path, operations) in described["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let done = operation["responses"].as_object().unwrap().iter().filter(|(status, _)| status.starts_with('2'));
                if done.into_iter().any(|(_, response)| response["headers"]["cordon-decision"].is_object()) {
                    named.insert(format!("{} {path}", method.to_uppercase()));
                }
            }
        }
        let folder = json!({"path": world.folder("home/more"), "mode": "ro"}).to_string();
        let mut link = Link::unix(world);
        let session = format!("/v1/sessions/{id}");
        for (operation, body, action) in [
            ("POST /v1/sessions", "{\"program\": \"harness\", \"policy\": [\"host-tools\"]}", "open"),
            ("POST /v1/sessions/{id}/pause", "", "steer"),
            ("POST /v1/sessions/{id}/resume", "", "steer"),
            ("POST /v1/sessions/{id}/tokens", "", "token"),
            ("DELETE /v1/sessions/{id}/tokens", "", "token"),
            ("POST /v1/sessions/{id}/grants", &*folder, "change"),
            ("PATCH /v1/sessions/{id}/grants", "{\"grant\": \"more\", \"mode\": \"rw\"}", "change"),
            ("DELETE /v1/sessions/{id}/grants?grant=more", "", "change"),
            ("PUT /v1/sessions/{id}/connectors/{name}", "{\"scopes\": [\"read\"]}", "change"),
            ("DELETE /v1/sessions/{id}/connectors/{name}", "", "change"),
            ("PUT /v1/sessions/{id}/browser", "", "change"),
            ("DELETE /v1/sessions/{id}/browser", "", "change"),
            ("POST /v1/sessions/{id}/mcp/{server}", "", "change"),
            // The same call again is not decided again, and says by what it was.
            ("POST /v1/sessions/{id}/cancel", "", "end"),
            ("POST /v1/sessions/{id}/cancel", "", "end"),
        ] {
            let (method, path) = operation.split_once(' ').unwrap();
            let target = path.replace("/v1/sessions/{id}", &session).replace("{name}", "tracker").replace("{server}", "notes");
            let said = link.call(method, &target, &["content-type: application/json", &format!("idempotency-key: {}", operation.replace(' ', "_"))], body).unwrap();
            let head = said.head.lines().find_map(|line| line.strip_prefix("cordon-decision: "));
            let decision = head.unwrap_or_else(|| panic!("{operation}: {} {}", said.head, said.json()));
            let record = records(world, &format!("manage.{action}")).pop().unwrap();
            assert_eq!((&record["id"], &record["effect"]), (&json!(decision), &json!("allow")), "{operation}");
            let in_body = &said.json()["decision_id"];
            if path.ends_with("/tokens") && method == "POST" {
                assert_eq!(in_body, decision);
            }
            named.remove(&format!("{method} {}", path.split('?').next().unwrap()));
        }
        // Ended it is already; the rest is of extensions, which `extension` and `mcp` try.
        let elsewhere = ["DELETE /v1/extensions/{name}", "DELETE /v1/mcp/{server}", "DELETE /v1/sessions/{id}", "POST /v1/mcp/{server}/accept"];
        assert_eq!(named, elsewhere.map(str::to_owned).into());
        world.cordon(&["stop", "--force"]).expect_code(0);
    }
}

/// Writes a certificate of somebody, for curl.
fn shown(world: &World, authority: &Authority, name: &str) {
    let (key, certificate) = authority.server_pem(&format!("{name}.test"));
    world.write(format!("home/{name}.key"), key);
    world.write(format!("home/{name}.pem"), certificate);
}

/// The decisions about an action, in order.
fn records(world: &World, action: &str) -> Vec<Value> {
    let args = [
        "audit", "query", "--format", "json", "--limit", "1000", "--action", action,
    ];
    let found: Value = serde_json::from_str(&world.cordon(&args).text()).unwrap();
    let mut all: Vec<Value> = found["records"].as_array().unwrap().clone();
    all.sort_by_key(|record| record["seq"].as_u64());
    all
}
