//! Connectors: what a session may use of a service is what was enabled in it, scope by scope.

use std::{io::Write as _, process::Stdio};

use cordon_tests::{
    api::{only_session, send},
    for_both, process,
};
use rustix::process::Pid;
use serde_json::{Value, json};

for_both! {
    /// A scope that was not enabled in this session is refused by every way in, whatever policy says;
    /// enabling is recorded scope by scope, and off is off at once.
    fn p10_a_scope_that_was_not_enabled_is_refused(world) {
        world.config.push_str(TRACKER);
        world.policy.rule(RULES);
        let running = world.session(&["sleep", "600"]).start();
        let id = only_session(world);
        let ask = |scope: &str| {
            let path = format!("/v1/sessions/{id}/connectors/tracker/uses");
            send(world, "POST", &path, &json!({"scope": scope}).to_string()).1
        };
        let words = |scope: &str| {
            world.cordon(&["decide", "--session", &id, "use", "scope", scope, "of", "tracker"])
        };
        let authzen = |scope: &str| {
            let asked = json!({
                "subject": {"type": "Session", "id": id},
                "action": {"name": "use_scope"},
                "resource": {"type": "ConnectorScope", "id": format!("tracker/{scope}")},
            });
            send(world, "POST", "/access/v1/evaluation", &asked.to_string()).1
        };
        let everywhere = |scope: &str, allowed: bool| {
            let told = ask(scope);
            assert_eq!(told["allowed"], allowed, "{scope}: {told}");
            assert!(told["decision_id"].is_string(), "{told}");
            words(scope).expect_code(if allowed { 0 } else { 3 });
            assert_eq!(authzen(scope)["decision"], allowed, "{scope}");
        };
        everywhere("read:issues", false);
        let enable = |scopes: &[&str]| {
            let mut words = vec!["connector", "enable", "tracker", "--session", &id];
            for scope in scopes {
                words.extend(["--scope", scope]);
            }
            world.cordon(&words)
        };
        // One refused scope, and nothing is enabled.
        enable(&["read:issues", "admin"]).expect_code(3);
        everywhere("read:issues", false);
        enable(&["read:nothing"]).expect_code(64);
        let none = format!("/v1/sessions/{id}/connectors/tracker");
        assert_eq!(send(world, "PUT", &none, r#"{"scopes": []}"#).0, 400);
        enable(&["read:issues"]).expect_code(0);
        everywhere("read:issues", true);
        everywhere("write:issues", false);
        // Policy is still asked: it never allows this one.
        everywhere("admin", false);
        let listed = world.cordon(&["connector", "list", "--session", &id]);
        listed.expect_told("* read:issues  Read issues");
        enable(&["write:issues"]).expect_code(0);
        everywhere("write:issues", true);
        everywhere("read:issues", false);
        world.cordon(&["connector", "disable", "tracker", "--session", &id]).expect_code(0);
        let records = world.records(&id);
        let said = |record: &&Value| record["message"] == "connector tracker disabled";
        assert_eq!(records.iter().filter(said).count(), 1);
        everywhere("write:issues", false);
        let unknown = world.cordon(&["connector", "disable", "nothing", "--session", &id]);
        assert_ne!(unknown.code, 0);
        let records = world.records(&id);
        let about = |action: &str, resource: &str, effect: &str| {
            let is = |record: &&Value| {
                record["action"] == action
                    && record["resource"]["id"] == resource
                    && record["effect"] == effect
            };
            records.iter().filter(is).count()
        };
        assert_eq!(about("connector.enable", "tracker", "allow"), 3);
        // Enabled once, and used in three ways.
        assert_eq!(about("connector.scope", "tracker/read:issues", "allow"), 4);
        assert!(about("connector.scope", "tracker/write:issues", "deny") >= 6);
        world.cordon(&["session", "end", &id]).expect_code(0);
        running.finish();
    }

    /// A session of an agent that a person ended stays ended: the agent's next question opens no
    /// other one behind their back. A new session of the agent does.
    fn p02_an_agents_session_that_was_ended_stays_ended(world) {
        let file = world.project_file("a", "x");
        let ask = |theirs: &str| {
            let asked = json!({"session_id": theirs, "cwd": world.project(),
                "hook_event_name": "PreToolUse", "tool_name": "Read", "tool_input": {"file_path": file}});
            let mut product = world.command();
            product.args(["hook", "pre-tool-use", "--policy", "host-tools"]);
            let told = process::finish(product, asked.to_string().as_bytes());
            let told: Value = serde_json::from_slice(&told.stdout).unwrap();
            told["hookSpecificOutput"].clone()
        };
        assert_eq!(ask("one")["permissionDecision"], "allow");
        let id = only_session(world);
        world.cordon(&["session", "end", &id]).expect_code(0);
        for _again in 0..2 {
            let told = ask("one");
            assert_eq!(told["permissionDecision"], "deny", "{told}");
            assert!(told["permissionDecisionReason"].as_str().unwrap().contains("was ended"), "{told}");
        }
        assert_eq!(ask("two")["permissionDecision"], "allow");
        // Whoever answers the agent's control protocol for it says so, and leaves: its input is open.
        let mut product = world.command();
        product.args(["hook", "can-use-tool", "--session-id", "one", "--policy", "host-tools"]);
        let mut product = product.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let asked = json!({"type": "control_request", "request_id": "1", "request": {
            "subtype": "can_use_tool", "tool_name": "Read", "input": {"file_path": file}}});
        let mut input = product.stdin.take().unwrap();
        writeln!(input, "{asked}").unwrap();
        assert!(process::gone(Pid::from_child(&product), process::DEADLINE));
        let done = product.wait_with_output().unwrap();
        let told: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(told["response"]["response"]["behavior"], "deny", "{told}");
        drop(input);
        world.cordon(&["stop", "--force"]).expect_code(0);
    }

    /// The agent's control protocol gives the answers that its hook gives, in its own shapes.
    fn p03_the_control_protocol_answers_as_the_hook_does(world) {
        let project = world.project();
        world.project_file("a", "x");
        let request = |id: &str, tool: &str, input: Value| {
            json!({"type": "control_request", "request_id": id, "request": {
                "subtype": "can_use_tool", "tool_name": tool, "input": input, "tool_use_id": "t",
            }})
        };
        let cases = [
            ("1", "Read", json!({"file_path": project.join("a")}), "allow"),
            ("2", "Write", json!({"file_path": "new", "content": "x"}), "allow"),
            ("3", "Read", json!({"file_path": "/etc/passwd"}), "deny"),
            ("4", "WebFetch", json!({"url": "https://shut.test/"}), "deny"),
            // What the hook leaves to the agent's own question is refused where there is none.
            ("5", "Bash", json!({"command": "true"}), "deny"),
            ("6", "NewTool", json!({}), "deny"),
        ];
        let lines: String = cases
            .iter()
            .map(|(id, tool, input, _)| format!("{}\n", request(id, tool, input.clone())))
            .collect();
        let mut product = world.command();
        product.args(["hook", "can-use-tool", "--policy", "host-tools"]);
        let done = process::finish(product, lines.as_bytes());
        done.expect_code(0);
        let answers: Vec<Value> = done
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(answers.len(), cases.len(), "{done}");
        for (id, tool, input, expected) in cases {
            let is = |answer: &&Value| answer["response"]["request_id"] == id;
            let answer = answers.iter().find(is).unwrap();
            assert_eq!(answer["type"], "control_response");
            let body = &answer["response"]["response"];
            assert_eq!(body["behavior"], expected, "{tool}: {answer}");
            if expected == "allow" {
                assert_eq!(body["updatedInput"], input);
            } else {
                assert!(!body["message"].as_str().unwrap().is_empty());
            }
        }
        // The session stays for the agent's hooks until nobody asks any more.
        world.cordon(&["stop", "--force"]).expect_code(0);
    }
}

const TRACKER: &str = r#"
[connectors.tracker]
description = "Issues"
kind = "mcp"
[connectors.tracker.scopes]
"admin" = "Everything"
"read:issues" = "Read issues"
"write:issues" = "Write issues"
"#;

const RULES: &str = r#"
permit (principal, action == Action::"enable_connector", resource);
permit (principal, action == Action::"use_scope", resource) unless { resource.name == "admin" };
"#;
