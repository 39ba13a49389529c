//! The decision API as a runtime's client sees it, and the daemon behind it.

use std::net::TcpListener;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{World, process};

/// Status and body of an answer to curl with these arguments; starts the daemon where none runs.
pub fn curl(world: &World, path: &str, args: &[&str]) -> (u16, Value) {
    let socket = world.runtime().join("api.sock");
    if !socket.exists() {
        // It stays for a while.
        let session = world.session(&["true"]).built_in_policy();
        session.run().expect_code(0);
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

/// The id of a session that a runtime holds, with the project to write in; decided by `host-tools`
/// and `more`.
pub fn hosted(world: &World, more: &[&str]) -> String {
    let policy: Vec<&str> = ["host-tools"].iter().chain(more).copied().collect();
    let grants = json!([{"path": world.project(), "mode": "rw"}]);
    let new = json!({"program": "harness", "policy": policy, "grants": grants});
    let (code, session) = send(world, "POST", "/v1/sessions", &new.to_string());
    assert_eq!(code, 201, "{session}");
    let id = session["id"].as_str();
    id.expect("a session has an id").to_owned()
}

/// Ends one.
pub fn end(world: &World, id: &str) {
    let ended = curl(world, &format!("/v1/sessions/{id}"), &["-X", "DELETE"]);
    assert_eq!(ended.0, 204, "{}", ended.1);
}

/// What is decided for it, in the words of `cordon policy explain`.
pub fn ask(world: &World, id: &str, words: &[&str]) -> Value {
    let body = json!({"ask": words}).to_string();
    let path = format!("/v1/sessions/{id}/decisions");
    let (code, told) = send(world, "POST", &path, &body);
    assert_eq!(code, 200, "{told}");
    told
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

/// The id of the one session beside `known` that runs, once its command does.
pub fn only_running(world: &World, known: &str) -> String {
    let mut id = String::new();
    process::eventually("another session runs", || {
        let (_, listed) = curl(world, "/v1/sessions", &[]);
        let mut all = listed.as_array().into_iter().flatten();
        let other = all.find(|one| one["id"] != known && one["state"] == "running");
        id = other.map_or_else(String::new, |one| {
            one["id"].as_str().unwrap_or_default().into()
        });
        !id.is_empty()
    });
    id
}

/// The daemon's process.
pub fn daemon_pid(world: &World) -> Pid {
    let status = world.cordon(&["status", "--format", "json"]);
    let status: Value = serde_json::from_str(&status.text()).expect("it prints JSON");
    let pid = status["pid"]
        .as_u64()
        .and_then(|pid| i32::try_from(pid).ok());
    pid.and_then(Pid::from_raw).expect("the daemon's number")
}

/// Ends the daemon with no time to tidy up.
pub fn kill_daemon(world: &World) {
    let pid = daemon_pid(world);
    kill_process(pid, Signal::KILL).expect("it runs");
    assert!(process::gone(pid, process::DEADLINE));
}

/// The API over TLS, for other people and other machines.
#[derive(Debug)]
pub struct Remote {
    port: u16,
    ca: String,
}

impl Remote {
    /// Configures it for a daemon that is still to start; `callers` is what `[api]` says of them.
    pub fn configured(world: &mut World, more: &str, callers: &str) -> Self {
        let authority = world.authority();
        let (key, certificate) = authority.server_pem("localhost");
        let write = |name: &str, text: &str| {
            let written = world.write(format!("config/{name}"), text);
            written.display().to_string()
        };
        let (key, certificate) = (write("key.pem", &key), write("cert.pem", &certificate));
        let ca = write("ca.pem", &authority.certificate());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it listens").port();
        drop(listener);
        world.config.push_str(&format!(
            "[api]\nlisten = \"127.0.0.1:{port}\"\ncertificate = {certificate:?}\nkey = {key:?}\n\
             {more}\n{callers}"
        ));
        Self { port, ca }
    }

    /// Where the authority of its certificate is.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Status and body of an answer to curl with these arguments; 0 where there is no connection.
    pub fn call(&self, world: &World, path: &str, args: &[&str]) -> (u16, Value) {
        let url = format!("https://localhost:{}{path}", self.port);
        let fixed = ["-sS", "--cacert", &self.ca, "-w", "\n%{http_code}"];
        let mut curl = world.as_account("curl");
        curl.args([&fixed, args, &[&url]].concat());
        let said = process::finish(curl, b"").text();
        let (body, code) = said.rsplit_once('\n').unwrap_or(("", &said));
        (
            code.parse().unwrap_or_default(),
            serde_json::from_str(body).unwrap_or_default(),
        )
    }
}
