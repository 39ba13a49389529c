//! The decision API when its daemon is killed in the middle of a call: every operation that changes
//! or records something, none left out.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod calls;
mod told;

use std::collections::BTreeSet;

use cordon_tests::{
    World,
    api::{Remote, ask, curl, end, hosted, send},
    bundle::Bundle,
    for_both,
};
use serde_json::{Value, json};

use self::told::{TRACKER, Told};

for_both! {
    /// Whenever the daemon is killed while it does a call: what it had answered is so afterwards,
    /// and what it had not is done whole or not at all, as the log says.
    fn a02_a_call_that_a_kill_cuts_off_is_done_or_is_not(world) {
        let folder = world.folder("home/more");
        let id = hosted(world, &[]);
        let grants = format!("/v1/sessions/{id}/grants");
        let give = json!({"path": folder, "mode": "ro"}).to_string();
        let new = json!({"program": "harness", "policy": ["host-tools"]}).to_string();
        let mode = json!({"grant": "more", "mode": "rw"}).to_string();
        for moment in ["0", "0.002", "0.005", "0.01", "0.02"] {
            // A folder is handed over.
            let (answered, _) = cut_off(world, "POST", &grants, &give, moment);
            let there = granted(world, &id);
            assert!(there.is_some() || answered != 201, "{moment}: it was answered, and is gone");
            if there.is_none() {
                assert_eq!(send(world, "POST", &grants, &give).0, 201, "{moment}: not half done");
            }
            // Its mode changes.
            let (answered, _) = cut_off(world, "PATCH", &grants, &mode, moment);
            let now = granted(world, &id).unwrap();
            assert!(now == "rw" || (answered != 200 && now == "ro"), "{moment}: {answered} {now}");
            // It is taken back.
            let (answered, _) = cut_off(world, "DELETE", &format!("{grants}?grant=more"), "", moment);
            let there = granted(world, &id);
            assert!(there.is_none() || answered != 200, "{moment}: it was taken back, and is there");
            if there.is_some() {
                assert_eq!(curl(world, &format!("{grants}?grant=more"), &["-X", "DELETE"]).0, 200);
            }
            // A session begins, and each that runs began in the log and did not end there.
            let before = sessions(world);
            let (answered, _) = cut_off(world, "POST", "/v1/sessions", &new, moment);
            let after = sessions(world);
            assert!(before.is_subset(&after), "{moment}: none is lost");
            assert!(after.len() > before.len() || answered != 201, "{moment}: it was answered, and is gone");
            let (begun, ended) = (logged(world, "session.start"), logged(world, "session.end"));
            assert!(after.is_subset(&begun), "{moment}: {after:?} {begun:?}");
            assert!(after.is_disjoint(&ended), "{moment}: {after:?} {ended:?}");
            // And ends.
            for one in after.iter().filter(|one| **one != id) {
                let (answered, _) = cut_off(world, "DELETE", &format!("/v1/sessions/{one}"), "", moment);
                let runs = sessions(world).contains(one);
                assert!(!runs || answered != 204, "{moment}: it was ended, and runs");
                assert_eq!(runs, !logged(world, "session.end").contains(one), "{moment}: as the log says");
                if runs {
                    end(world, one);
                }
            }
        }
        world.cordon(&["audit", "verify"]).expect_code(0);
        end(world, &id);
    }

    /// What was answered is so afterwards, what is so is on record, and what the log says is so, as far
    /// as a daemon says that it keeps it: connectors, loaded servers and the browser are off.
    fn a02_what_a_kill_cuts_off_is_as_the_log_says(world) {
        world.config.push_str(TRACKER);
        let told = Told::new(world);
        let (id, mut tried) = (told.id.clone(), BTreeSet::new());
        for (operation, step) in calls::steps() {
            tried.insert(operation.to_owned());
            for moment in ["0.002", "0.006", "0.015"] {
                let call = step(&told);
                assert!(!(call.done)(&told), "{operation}: not yet");
                let before = (call.logged)(&told);
                let (code, answer) = cut_off(world, operation, &call.path, &call.body, moment);
                let (done, logged) = ((call.done)(&told), (call.logged)(&told) > before);
                let all = format!("{operation} {moment}: {code} {answer} done {done} logged {logged}");
                assert!(done || code != call.answered || !call.kept, "answered, and gone: {all}");
                assert!(logged || !done, "done, and not on record: {all}");
                assert!(done || !logged || !call.rebuilt, "on record, and not so: {all}");
            }
        }
        // As a kill leaves it that comes while an extension is laid out.
        assert!(world.home().join(".local/share/cordon/extensions").exists(), "where they lie");
        let left = world.folder("home/.local/share/cordon/extensions/.new-left");
        for (operation, path, body) in told.questions() {
            tried.insert(operation.to_owned());
            let (code, answer) = cut_off(world, operation, &path, &body, "0.004");
            if let Some(decision) = answer["decision_id"].as_str().filter(|_| code == 200) {
                let found = world.records(&id).iter().any(|record| record["id"] == decision);
                assert!(found, "{operation}: {answer} is not on record");
            }
        }
        // Every operation that is there, and no other.
        tried.extend(ELSEWHERE.iter().map(|(operation, _why)| (*operation).to_owned()));
        let (_, described) = curl(world, "/v1/openapi.json", &[]);
        let all: BTreeSet<String> = described["paths"].as_object().unwrap().iter().flat_map(|(path, operations)| {
            let methods = operations.as_object().unwrap().keys();
            methods.filter(|method| *method != "get").map(move |method| format!("{} {path}", method.to_uppercase()))
        }).collect();
        assert_eq!(all, tried);
        assert!(!left.exists(), "what was laid out and not installed is gone");
        world.cordon(&["audit", "verify"]).expect_code(0);
        // With those that an agent opened.
        world.cordon(&["stop", "--force"]).expect_code(0);
    }
}

for_both! {
    /// Of two people who must say yes, the first one's stays said, and the second one's counts or does
    /// not, as the log says.
    fn a02_p04_a_second_yes_that_a_kill_cuts_off_counts_or_does_not(world) {
        let digest = world.host("sh", &["-c", "printf %s bob-token | sha256sum | cut -c1-64"]).text();
        let callers = format!("[[api.callers]]\nname = \"bob\"\ntoken_sha256 = \"{}\"\n", digest.trim());
        let remote = Remote::configured(world, "", &callers);
        let house = Bundle::house(1)
            .rule("permit (principal, action in [Action::\"run_without_sandbox\", Action::\"approve\"], resource);")
            .rule("@approvers(\"2\") permit (principal, action == Action::\"enable_browser\", resource) when { context has approval };")
            .write(world, "house");
        world.organisation(&format!("dir:{}", house.display()), "");
        for moment in ["0", "0.003", "0.008", "0.02"] {
            let (code, session) = send(world, "POST", "/v1/sessions", "{\"program\": \"harness\"}");
            assert_eq!(code, 201, "{session}");
            let id = session["id"].as_str().unwrap();
            let waits = ask(world, id, &["enable", "browser"]);
            let path = format!("/v1/approvals/{}", waits["approval"]["id"].as_str().unwrap());
            let yes = "{\"answer\": \"approve\"}";
            let bob = remote.call(world, &path, &["-H", "authorization: Bearer bob-token", "-d", yes]);
            assert_eq!((bob.0, &bob.1["state"]), (200, &json!("pending")), "one of two: {}", bob.1);
            let (answered, _) = cut_off(world, "POST", &path, yes, moment);
            let (code, now) = curl(world, &path, &[]);
            assert_eq!(code, 200, "{now}");
            let said = now["approved_by"].as_array().unwrap();
            assert!(said.contains(&json!("bob")), "{moment}: {now}");
            let given = world.records(id).iter().any(|one| one["kind"] == "approval" && one["state"] == "granted");
            assert_eq!((now["state"] == "given", said.len() == 2), (given, given), "{moment}: {now}");
            assert!(given || answered != 200, "{moment}: it was answered, and is gone");
            if !given {
                assert_eq!(send(world, "POST", &path, yes).1["state"], "given", "{moment}: not half done");
            }
            assert_eq!(ask(world, id, &["enable", "browser"])["allowed"], true, "{moment}");
            end(world, id);
        }
    }
}

/// Operations that are cut off in another scenario of this file, or have nothing to lose.
const ELSEWHERE: &[(&str, &str)] = &[
    ("POST /v1/sessions", "above"),
    ("DELETE /v1/sessions/{id}", "above"),
    ("POST /v1/sessions/{id}/grants", "above"),
    ("PATCH /v1/sessions/{id}/grants", "above"),
    ("DELETE /v1/sessions/{id}/grants", "above"),
    (
        "POST /v1/sessions/{id}/heartbeat",
        "puts off an end, and nothing of it is kept",
    ),
    (
        "DELETE /v1/sessions/{id}/output",
        "removes files that nothing else is said of",
    ),
    (
        "POST /v1/sessions/{id}/connectors/{name}/mcp",
        "a gateway, which ends with its daemon",
    ),
    (
        "DELETE /v1/sessions/{id}/connectors/{name}/mcp",
        "a gateway, which ends with its daemon",
    ),
];

/// Makes a call (`METHOD` and whatever follows it) and kills the daemon so many seconds later; the
/// status that was still answered, or 0, and the answer. The next daemon runs then.
fn cut_off(world: &World, operation: &str, path: &str, body: &str, moment: &str) -> (u16, Value) {
    let (method, _path) = operation.split_once(' ').unwrap_or((operation, ""));
    let socket = world.runtime().join("api.sock");
    let status = world.cordon(&["status", "--format", "json"]);
    let status: Value = serde_json::from_str(&status.text()).unwrap();
    let script = format!(
        "curl -s -w '\\n%{{http_code}}' --unix-socket '{}' -X {method} \
         -H 'content-type: application/json' --data-binary '{body}' 'http://localhost{path}' & \
         sleep {moment}; kill -9 {}; wait $!; true",
        socket.display(),
        status["pid"]
    );
    let said = world.host("sh", &["-c", &script]).text();
    let next = world.session(&["true"]).built_in_policy();
    next.run().expect_code(0);
    let (body, code) = said.rsplit_once('\n').unwrap_or(("", &said));
    let answer = serde_json::from_str(body).unwrap_or_default();
    (code.trim().parse().unwrap_or(0), answer)
}

/// The mode of the folder that comes and goes.
fn granted(world: &World, id: &str) -> Option<String> {
    let (code, listed) = curl(world, &format!("/v1/sessions/{id}/grants"), &[]);
    assert_eq!(code, 200, "{listed}");
    let all = listed
        .as_array()
        .or_else(|| listed["grants"].as_array())
        .unwrap();
    let more = all
        .iter()
        .find(|grant| grant["path"].as_str().unwrap().ends_with("/more"));
    more.map(|grant| grant["mode"].as_str().unwrap().to_owned())
}

fn sessions(world: &World) -> BTreeSet<String> {
    let (code, listed) = curl(world, "/v1/sessions", &[]);
    assert_eq!(code, 200, "{listed}");
    let ids = listed.as_array().unwrap().iter();
    ids.map(|session| session["id"].as_str().unwrap().to_owned())
        .collect()
}

/// The sessions of which the log has such a record.
fn logged(world: &World, kind: &str) -> BTreeSet<String> {
    let found = world.cordon(&[
        "audit", "query", "--kind", kind, "--limit", "1000", "--format", "json",
    ]);
    let found: Value = serde_json::from_str(&found.text()).unwrap();
    let records = found["records"].as_array().unwrap().iter();
    records
        .filter_map(|record| Some(record["session"].as_str()?.to_owned()))
        .collect()
}
