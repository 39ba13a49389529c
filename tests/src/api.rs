//! The decision API as a runtime's client sees it, and the daemon behind it.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{World, process};

/// Status and body of an answer to curl with these arguments; starts the daemon where none runs.
pub fn curl(world: &World, path: &str, args: &[&str]) -> (u16, Value) {
    let socket = world.runtime().join("api.sock");
    if !socket.exists() {
        // It stays for a while.
        world.session(&["true"]).run().expect_code(0);
    }
    let url = format!("http://localhost{path}");
    let socket = socket.to_str().expect("a path of ours");
    let fixed = ["-sS", "--unix-socket", socket, "-w", "\n%{http_code}"];
    let said = world.host("curl", &[&fixed, args, &[&url]].concat()).text();
    let (body, code) = said.rsplit_once('\n').unwrap_or(("", &said));
    (
        code.parse().expect("curl prints the status"),
        serde_json::from_str(body).unwrap_or_default(),
    )
}

/// The same with a method and a body of JSON.
pub fn send(world: &World, method: &str, path: &str, body: &str) -> (u16, Value) {
    let kind = "content-type: application/json";
    let args = ["-X", method, "-H", kind, "--data-binary", body];
    curl(world, path, &args)
}

/// The id of the one session that runs, once its command does.
pub fn only_session(world: &World) -> String {
    let mut id = String::new();
    process::eventually("the session runs", || {
        let listed = world
            .cordon(&["session", "list", "--format", "json"])
            .text();
        let first = listed.lines().next().unwrap_or_default();
        let Ok(session) = serde_json::from_str::<Value>(first) else {
            return false;
        };
        id = session["session"].as_str().unwrap_or_default().to_owned();
        session["state"] == "running"
    });
    id
}

/// Ends the daemon with no time to tidy up.
pub fn kill_daemon(world: &World) {
    let status = world.cordon(&["status", "--format", "json"]);
    let status: Value = serde_json::from_str(&status.text()).expect("it prints JSON");
    let pid = status["pid"]
        .as_u64()
        .and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.and_then(Pid::from_raw).expect("the daemon's number");
    kill_process(pid, Signal::KILL).expect("it runs");
    assert!(process::gone(pid, process::DEADLINE));
}
