//! What is ours beside the standard: whose application it is, who may ask, what is recorded, and
//! that an application can open nothing of a session.

use cordon_tests::{
    api::{kill_daemon, only_session, send},
    for_both,
};
use serde_json::{Value, json};

use super::certification::{call, listen};
use crate::{access_records, ask, get, house, ids, install, serve};

for_both! {
    /// Each question says in the log who asked what; what is no question is there too. Rules of the
    /// application decide about it alone, and Cordon's about sessions.
    fn an_application_decides_about_itself_and_nothing_else(world) {
        let folder = serve(world, "certification");
        let question = json!({
            "subject": {"type": "user", "id": "bob"},
            "action": {"name": "write"},
            "resource": {"type": "record", "id": "record-1", "properties": {"status": "archived", "owner": "bob"}},
        });
        let (_, answer) = ask(world, "evaluation", &question);
        assert_eq!(answer["decision"], true, "{answer}");
        assert_eq!(answer["context"]["rules"], json!(["admins-write-archived"]));
        let unknown = json!({
            "subject": {"type": "spaceship", "id": "x"}, "action": {"name": "read"},
            "resource": {"type": "record", "id": "record-1"},
        });
        let (code, answer) = ask(world, "evaluation", &unknown);
        assert_eq!((code, &answer["decision"]), (200, &json!(false)));
        let records = access_records(world);
        let [first, second] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!(first["access"]["said"], json!(["resource.status=\"archived\""]), "what counted, no more");
        assert_eq!(first["access"]["application"], "house");
        assert_eq!(first["principal"]["id"], world.account().name);
        assert_eq!((&first["effect"], &second["effect"]), (&json!("allow"), &json!("deny")));
        let shown = world.cordon(&["audit", "show", first["id"].as_str().unwrap()]);
        shown.expect_code(0).expect_told("user bob write record record-1");
        // `permit (principal, action, resource)` of an application permits no session anything.
        let open = "@id(\"all\") permit (principal, action, resource);";
        install(world, "certification", &folder, |name, text| {
            if name == "cert.cedar" { open.into() } else { text }
        });
        house(2).write(world, "house");
        world.cordon(&["stop"]).expect_code(0);
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        assert_eq!(world.live_revision(), Some(2));
        let connect = json!({
            "subject": {"type": "Session", "id": id}, "action": {"name": "connect"},
            "resource": {"type": "Host", "id": "shut.test"}, "context": {"port": 443},
        });
        let (_, answer) = ask(world, "evaluation", &connect);
        assert_eq!(answer["decision"], false, "{answer}");
        let (_, answer) = ask(world, "evaluation", &json!({
            "subject": {"type": "user", "id": "bob"}, "action": {"name": "write"},
            "resource": {"type": "record", "id": "record-1"},
        }));
        assert_eq!(answer["decision"], true, "the twin: {answer}");
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
    }

    /// The author's own tools know it: its tests ask it, and what was asked is replayed under a
    /// candidate.
    fn an_application_is_tested_and_replayed(world) {
        let folder = serve(world, "certification");
        let question = |action: &str| json!({
            "subject": {"type": "user", "id": "bob"}, "action": {"name": action},
            "resource": {"type": "record", "id": "record-1",
                "properties": {"status": "archived", "owner": "bob"}},
        });
        for action in ["read", "write"] {
            ask(world, "evaluation", &question(action));
        }
        let bundle = folder.to_str().unwrap();
        let replay = || {
            let told = world.cordon(&["policy", "replay", "--format", "json", "--with", bundle]);
            told.expect_code(0);
            serde_json::from_slice::<Value>(&told.stdout).unwrap()
        };
        let same = replay();
        assert_eq!((&same["newly_denied"], &same["newly_allowed"]), (&json!(0), &json!(0)), "{same}");
        let replayed = same["replayed"].as_u64().unwrap();
        assert!(replayed >= 2, "{same}");
        let test = r#"
            [[test]]
            name = "admins write what is archived"
            ask = [{ subject = { type = "user", id = "bob" }, action = "write",
                resource = { type = "record", id = "record-1", properties = { status = "archived" } } }]
            then = "allow"
            rule = "admins-write-archived"
        "#;
        let test = test.replace("action = \"write\",\n                ", "action = \"write\", ");
        world.folder(folder.join("tests"));
        world.write(folder.join("tests/app.toml"), test);
        let tested = || world.cordon(&["policy", "test", bundle]);
        tested().expect_code(0);
        // Its rules count: one of them decided nothing yet.
        let told = world.cordon(&["policy", "test", "--format", "json", bundle]);
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        let missing = |rule: &str| told["coverage"]["gaps"].as_array().unwrap().iter().any(|gap| gap["rule"] == rule);
        assert!(!missing("admins-write-archived") && missing("alice-deletes-softly"), "{told}");
        let explained = |words: &[&str]| world.cordon(&[&["policy", "explain", "--policy", bundle, "--format", "json"], words].concat());
        let json = r#"{"subject": {"type": "user", "id": "bob"}, "action": "write", "resource":
            {"type": "record", "id": "record-1", "properties": {"status": "archived"}}}"#;
        let why = explained(&[json]);
        why.expect_code(0).expect_told("admins-write-archived");
        explained(&["may", "user", "nobody", "write", "record", "record-1"]).expect_code(3);
        explained(&["may", "cat", "tom", "write", "record", "record-1"]).expect_code(64).expect_told("no application");
        explained(&["may", "user", "bob"]).expect_code(64).expect_told("may TYPE ID ACTION TYPE ID");
        install(world, "certification", &folder, |name, text| {
            if name == "cert.cedar" { text.replace("permit (", "forbid (") } else { text }
        });
        tested().expect_code(1).expect_told("admins write what is archived");
        let changed = replay();
        assert_eq!(changed["replayed"], replayed, "{changed}");
        assert_eq!(changed["newly_denied"], 2, "{changed}");
        assert_eq!(changed["changes"][1]["what"], "user bob write record record-1", "{changed}");
        let verified = world.cordon(&["audit", "replay-verify", "--format", "json"]);
        verified.expect_code(0);
        let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
        assert_eq!(verified["different"], 0, "{verified}");
    }

    /// What leaves its namespace, or is written wrongly, is refused where it is checked, and by the
    /// daemon: no session starts with half a bundle.
    fn an_application_that_reaches_for_cordons_names_is_refused(world) {
        let folder = house(1).write(world, "house");
        let check = || world.cordon(&["policy", "check", folder.to_str().unwrap()]);
        install(world, "certification", &folder, |_, text| text);
        check().expect_code(0);
        for (file, from, to, told) in [
            ("cert.cedarschema", "namespace Cert {", "entity Session; namespace Cert {", "outside of a namespace"),
            ("cert.cedarschema", "entity User =", "entity User in [Host] =", "Host"),
            ("cert.cedar", "Cert::Action::\"read\"", "Action::\"connect\"", "connect"),
            ("authzen.toml", "[types.user]", "[types.Session]", "Cordon's own"),
            ("authzen.toml", "namespace", "surprise = 1\nnamespace", "surprise"),
            ("entities.json", "Cert::Record", "Folder", "Folder"),
        ] {
            install(world, "certification", &folder, |name, text| {
                if name == file { text.replacen(from, to, 1) } else { text }
            });
            let checked = check();
            assert_ne!(checked.code, 0, "{file} {to}: {checked}");
            assert!(checked.to_string().contains(told), "{file} {to}: {checked}");
        }
        world.organisation(&format!("dir:{}", folder.display()), "");
        assert_ne!(world.session(&["true"]).run().code, 0);
        install(world, "certification", &folder, |_, text| text);
        world.cordon(&["stop"]).expect_code(0);
        world.session(&["true"]).run().expect_code(0);
    }

    /// A caller of the API may ask about the application that names it, and about nothing else.
    fn p06_who_may_ask_is_said_by_the_application(world) {
        let folder = house(1).write(world, "house");
        install(world, "certification", &folder, |name, text| match name {
            "authzen.toml" => format!("callers = [\"shop\"]\n{text}"),
            _ => text,
        });
        world.organisation(&format!("dir:{}", folder.display()), "");
        let remote = listen(world, &[("shop", "shop-token"), ("eve", "eve-token")]);
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        let (alice, session) = (json!({"type": "user", "id": "alice"}), json!({"type": "Session", "id": id}));
        let record = json!({"type": "record", "id": "record-1"});
        let read = json!({"name": "read"});
        let post = |token: &str, path: &str, body: Value| {
            let body = body.to_string();
            let args = ["-H", "content-type: application/json", "-d", &body];
            let (code, _, answer) = call(world, &remote, token, &format!("/access/v1/{path}"), &args);
            (code, answer)
        };
        let own = || json!({"subject": alice, "action": read, "resource": record});
        let (code, answer) = post("shop-token", "evaluation", own());
        assert_eq!((code, &answer["decision"]), (200, &json!(true)), "{answer}");
        assert_eq!(answer["context"]["decision_id"], access_records(world)[0]["id"]);
        assert_eq!(post("shop-token", "search/action", json!({"subject": alice, "resource": record})).0, 200);
        for (token, path, body) in [
            ("eve-token", "evaluation", own()),
            ("eve-token", "search/action", json!({"subject": alice, "resource": record})),
            ("shop-token", "evaluation", json!({"subject": session, "action": {"name": "connect"}, "resource": {"type": "Host", "id": "a.test"}})),
            ("shop-token", "search/subject", json!({"subject": {"type": "Session"}, "action": {"name": "connect"}, "resource": {"type": "Host", "id": "a.test"}})),
            ("shop-token", "evaluation", json!({"subject": {"type": "spaceship", "id": "x"}, "action": read, "resource": record})),
        ] {
            let (code, answer) = post(token, path, body.clone());
            assert_eq!(code, 403, "{token} {path} {body}: {answer}");
        }
        assert_eq!(call(world, &remote, "shop-token", "/v1/sessions", &[]).0, 403);
        let asked = access_records(world);
        assert!(asked.iter().all(|record| record["principal"]["id"] == "shop"), "{asked:?}");
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
    }

    /// Which running session may, and what one may do, as its decisions would say; nothing of it is
    /// a decision of a session.
    fn sessions_are_searched_too(world) {
        let (open, shut) = (world.allowed_origin("open.test"), world.origin("shut.test"));
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        let search = |kind: &str, body: Value| {
            let (code, answer) = ask(world, &format!("search/{kind}"), &body);
            assert_eq!(code, 200, "{answer}");
            ids(&answer)
        };
        let host = |name: &str| json!({"type": "Host", "id": name});
        for (name, port, expected) in [("open.test", open.port(), vec![id.clone()]), ("shut.test", shut.port(), vec![])] {
            let asked = json!({
                "subject": {"type": "Session"}, "action": {"name": "connect"},
                "resource": host(name), "context": {"port": port},
            });
            assert_eq!(search("subject", asked), expected, "{name}");
            let asked = json!({
                "subject": {"type": "Session", "id": id}, "resource": host(name),
                "context": {"port": port, "scheme": "http"},
            });
            let may = search("action", asked);
            assert_eq!(may.contains(&"connect".to_owned()), !expected.is_empty(), "{may:?}");
            assert!(!may.contains(&"read".to_owned()), "{may:?}");
        }
        let records = world.records(&id);
        let decided = records.iter().filter(|record| record["action"] == "net.connect").count();
        assert_eq!(decided, 0, "{records:?}");
        assert_eq!(access_records(world).len(), 4);
        assert_eq!((open.connections(), shut.connections()), (0, 0));
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
    }

    /// After a kill the next daemon answers the same; a token of the one before fits no more.
    fn applications_outlive_the_daemon(world) {
        serve(world, "search");
        let asked = |page: Value| json!({
            "subject": {"type": "user", "id": "alice"}, "action": {"name": "view"},
            "resource": {"type": "record"}, "page": page,
        });
        let (_, first) = ask(world, "search/resource", &asked(json!({"limit": 15})));
        assert_eq!(ids(&first).len(), 15);
        let token = first["page"]["next_token"].clone();
        let (_, rest) = ask(world, "search/resource", &asked(json!({"token": token})));
        assert_eq!((ids(&rest).len(), &rest["page"]["next_token"]), (5, &json!("")));
        kill_daemon(world);
        world.session(&["true"]).run().expect_code(0);
        let (code, refused) = ask(world, "search/resource", &asked(json!({"token": token})));
        assert_eq!(code, 400, "{refused}");
        let (_, again) = ask(world, "search/resource", &asked(json!({"limit": 15})));
        assert_eq!(ids(&again), ids(&first));
        assert_eq!(get(world, "/v1/sessions").0, 200);
        assert_eq!(send(world, "GET", "/access/v1/search/resource", "").0, 405);
    }
}
