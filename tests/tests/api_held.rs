//! Sessions that a runtime holds: how long they stay, what of them is on record, and that one which
//! was ended is not open again.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::os::unix::fs::symlink;

use cordon_tests::{
    World,
    api::{curl, end, hosted, kill_daemon, send},
    for_both, process,
};
use serde_json::{Value, json};

for_both! {
    /// One whose runtime is gone ends after the time that was said; a heartbeat, or a question by any
    /// way in, puts that off.
    fn a_held_session_lives_as_long_as_its_runtime(world) {
        world.session(&["true"]).run().expect_code(0);
        let open = || {
            let new = json!({"program": "harness", "policy": ["host-tools"], "idle_seconds": 10}).to_string();
            let (code, session) = send(world, "POST", "/v1/sessions", &new);
            assert_eq!(code, 201, "{session}");
            session["id"].as_str().unwrap().to_owned()
        };
        let [beats, asks, silent] = [open(), open(), open()];
        let evaluation = json!({
            "subject": {"type": "Session", "id": asks}, "action": {"name": "connect"},
            "resource": {"type": "Host", "id": "a.test"}, "context": {"port": 443},
        }).to_string();
        process::eventually("the silent one is over", || {
            let beat = send(world, "POST", &format!("/v1/sessions/{beats}/heartbeat"), "");
            assert_eq!((beat.0, &beat.1["state"]), (200, &json!("running")));
            assert_eq!(send(world, "POST", "/access/v1/evaluation", &evaluation).0, 200);
            // To look at it is not to hold it.
            curl(world, &format!("/v1/sessions/{silent}"), &[]).0 == 404
        });
        assert_eq!(send(world, "POST", &format!("/v1/sessions/{silent}/heartbeat"), "").0, 404);
        let over = world.records(&silent);
        assert!(over.iter().any(|record| record["kind"] == "session.end" && record["end"] == "stopped"));
        for id in [beats, asks] {
            end(world, &id);
        }
    }

    /// What the configuration says of time holds where nothing was asked for, and for hooks too.
    fn the_configured_time_ends_a_held_session(world) {
        world.config.push_str("[sandbox.limits]\nwall_seconds = 1\n");
        let id = hosted(world, &[]);
        process::eventually("its time is over", || curl(world, &format!("/v1/sessions/{id}"), &[]).0 == 404);
        let records = world.records(&id);
        assert!(records.iter().any(|record| record["kind"] == "session.end" && record["end"] == "over_limit"), "{records:?}");
    }

    /// A folder that is granted already is not on record as granted otherwise; who hands one over is.
    fn a_grant_is_on_record_as_it_is_with_who_gave_it(world) {
        let id = hosted(world, &[]);
        let grants = format!("/v1/sessions/{id}/grants");
        let give = |path: &std::path::Path, mode: &str| {
            send(world, "POST", &grants, &json!({"path": path, "mode": mode}).to_string())
        };
        let decided = || world.records(&id).iter().filter(|one| one["action"] == "folder.grant").count();
        let before = decided();
        let (code, problem) = give(&world.project(), "ro");
        assert_eq!((code, decided()), (409, before), "{problem}");
        let (code, given) = give(&world.folder("home/more"), "ro");
        assert_eq!((code, decided()), (201, before + 1), "the control: {given}");
        let records = world.records(&id);
        let decision = records.iter().find(|one| one["id"] == given["grant"]["decision_id"]);
        assert_eq!(decision.unwrap()["effect"], "allow", "{given}");
        let told = records.iter().filter_map(|one| one["message"].as_str());
        let by = format!("granted ro, by {} by the API, process", world.account().name);
        assert!(told.clone().any(|told| told.contains(&by)), "{:?}", told.collect::<Vec<_>>());
        // Also by the command line, of one with walls.
        let running = world.session(&["sleep", "600"]).start();
        let walled = cordon_tests::api::only_running(world, &id);
        world.cordon(&["session", "grant", &walled, world.folder("home/other").to_str().unwrap()]).expect_code(0);
        let by = format!("by {} by the command line", world.account().name);
        let told = world.records(&walled);
        assert!(told.iter().any(|one| one["message"].as_str().is_some_and(|told| told.ends_with(&by))));
        world.cordon(&["session", "end", &walled]).expect_code(0);
        running.finish();
        end(world, &id);
    }

    /// What would be made behind a link that leads out of a grant is not in the grant.
    fn f07_a_new_path_is_where_it_leads_to(world) {
        let id = hosted(world, &[]);
        let outside = world.folder("home/outside");
        symlink(&outside, world.project().join("way")).unwrap();
        let at = |name: &str| {
            let path = world.project().join(name);
            curl(world, &format!("/v1/sessions/{id}/path?path={}", path.display()), &[]).1
        };
        let through = at("way/new");
        assert_eq!(through["path"], outside.join("new").to_str().unwrap(), "{through}");
        assert_eq!((&through["inside"], &through["mode"], &through["create"]["allowed"]), (&Value::Null, &Value::Null, &json!(false)));
        let new = at("new");
        assert_eq!((&new["mode"], &new["create"]["allowed"]), (&json!("rw"), &json!(true)), "the control: {new}");
        assert!(new["inside"].as_str().unwrap().ends_with("/mnt/project/new"), "{new}");
        end(world, &id);
    }

    /// An agent's session that somebody ended is not opened again by its next question, nor after a
    /// restart of the daemon, however that came.
    fn p01_an_agent_that_was_ended_stays_so_over_a_restart(world) {
        world.project_file("a", "x");
        world.session(&["true"]).run().expect_code(0);
        assert_eq!(ask_hook(world, "one"), "allow");
        let listed = curl(world, "/v1/sessions", &[]).1;
        end(world, listed[0]["id"].as_str().unwrap());
        assert_eq!(ask_hook(world, "one"), "deny");
        kill_daemon(world);
        world.session(&["true"]).run().expect_code(0);
        assert_eq!(ask_hook(world, "one"), "deny");
        world.cordon(&["stop", "--force"]).expect_code(0);
        world.session(&["true"]).run().expect_code(0);
        assert_eq!(ask_hook(world, "one"), "deny");
        assert_eq!(ask_hook(world, "another"), "allow", "the control");
        world.cordon(&["stop", "--force"]).expect_code(0);
        // Where that is not known any more no agent begins.
        let kept = world.state().join("ended-hooks");
        let text = std::fs::read_to_string(&kept).unwrap();
        std::fs::write(&kept, format!("{{}}\n{text}")).unwrap();
        world.session(&["true"]).run().expect_code(0);
        assert_eq!(ask_hook(world, "a third"), "deny");
        world.cordon(&["stop", "--force"]).expect_code(0);
    }
}

/// What the hook says to a file of the project being read, in a session of that name.
fn ask_hook(world: &World, session: &str) -> String {
    let asked = json!({
        "session_id": session, "cwd": world.project(), "hook_event_name": "PreToolUse",
        "tool_name": "Read", "tool_input": {"file_path": "a"}, "cordon_policy": ["host-tools"],
    });
    let hook = "/v1/hooks/claude-code/pre-tool-use";
    let (code, said) = send(world, "POST", hook, &asked.to_string());
    assert_eq!(code, 200, "{said}");
    let decision = said["hookSpecificOutput"]["permissionDecision"].as_str();
    decision.unwrap().to_owned()
}
