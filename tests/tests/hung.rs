//! A daemon that hangs, and one whose log does: nobody waits for ever, and nothing is allowed.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use cordon_tests::{
    Outcome, World,
    api::{curl, daemon_pid, hosted},
    for_both,
    link::Link,
    process::{self, Running},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

for_both! {
    /// Stopped, it takes connections and says nothing. Whoever asks gives up well before an agent
    /// that runs the tool when its hook is late.
    fn p02_a_daemon_that_hangs_holds_nobody_up_and_its_hook_says_no(world) {
        let id = hosted(world, &[]);
        assert_eq!(permission(&hook(world).finish(), 0), "allow", "the control");
        let daemon = daemon_pid(world);
        kill_process(daemon, Signal::STOP).unwrap();
        let began = Instant::now();
        let mut asking = vec![hook(world)];
        let request = json!({"type": "control_request", "request_id": "1", "request": {
            "subtype": "can_use_tool", "tool_name": "Read", "input": {"file_path": "a"}}});
        let arguments = ["hook", "can-use-tool", "--policy", "host-tools"];
        asking.push(start(world, &arguments, &format!("{request}\n")));
        let commands: [&[&str]; 11] = [
            &["decide", "--session", &id, "call", "Bash", "of", "claude-code"],
            &["approve", "list"],
            &["connector", "list"],
            &["extension", "list"],
            &["session", "list"],
            &["session", "end", &id],
            &["status"],
            &["policy", "status"],
            &["mcp", "wrap", "--server", "tracker", "--", "true"],
            &["run", "--", "true"],
            &["stop"],
        ];
        asking.extend(commands.iter().map(|arguments| start(world, arguments, "")));
        let done: Vec<Outcome> = asking.into_iter().map(Running::finish).collect();
        let took = began.elapsed();
        kill_process(daemon, Signal::CONT).unwrap();
        assert!(took < Duration::from_secs(50), "the agent's own limit is 60 s: {took:?}");
        let [hook_said, control, others @ ..] = &done[..] else {
            panic!("each of them ended");
        };
        assert_eq!(permission(hook_said, 2), "deny");
        let told: Value = serde_json::from_slice(&control.stdout).unwrap();
        assert_eq!(told["response"]["response"]["behavior"], "deny", "{told}");
        for one in others {
            assert_ne!(one.code, 0, "{one}");
            assert!(one.stderr.contains("not answer") && one.stderr.contains("kill -CONT"), "{one}");
        }
        // It goes on where it was.
        assert_eq!(permission(&hook(world).finish(), 0), "allow");
        world.cordon(&["stop", "--force"]).expect_code(0);
    }

    /// The log takes the question and never says that it is on disk: that is a denial for whoever
    /// asked, on every channel, and a record when it can be written again.
    fn p02_a_decision_that_is_late_is_a_denial_and_recorded(world) {
        if !rustix::process::getuid().is_root() {
            eprintln!("not run: only root can hold threads of another's process");
            return;
        }
        let id = hosted(world, &[]);
        let file = world.project_file("a", "x");
        assert_eq!(permission(&hook(world).finish(), 0), "allow", "the control");
        let theirs = hooked_session(world, &id);
        let walled = world.session(&["sh", "-c", "touch up; exec sleep 600"]).start();
        let up = world.project().join("up");
        process::eventually("it runs", || up.exists());
        let inside = walled_session(world);
        world.cordon(&["session", "exec", &inside, "--", "true"]).expect_code(0);
        let mut held = hold_log(daemon_pid(world));
        let waiting = hook(world);
        let further = start(world, &["session", "exec", &inside, "--", "touch", "further"], "");
        // Side by side, since each is given all of its time.
        let grants = json!({"path": world.folder("home/more"), "mode": "ro"});
        let calls = [
            (format!("/v1/sessions/{id}/decisions"), json!({"ask": ["read", file]})),
            (format!("/v1/sessions/{id}/grants"), grants),
            ("/v1/sessions".to_owned(), json!({"program": "late", "policy": ["host-tools"]})),
        ];
        let links = calls.map(|(path, body)| (Link::unix(world), path, body.to_string()));
        thread::scope(|scope| {
            let calls = links.map(|(mut link, path, body)| {
                scope.spawn(move || link.call("POST", &path, &[], &body).unwrap())
            });
            for said in calls.map(|call| call.join().unwrap()) {
                let told = said.json();
                assert_eq!((said.status, &told["type"]), (503, &json!("urn:cordon:problem:late")), "{told}");
            }
        });
        let said = waiting.finish();
        assert_eq!(permission(&said, 0), "deny", "{said}");
        further.finish().expect_code(1).expect_stderr("not decided in time");
        drop(held.stdin.take());
        assert!(held.wait().unwrap().success());
        for session in [&id, &theirs] {
            process::eventually("the denial is recorded", || {
                world.records(session).iter().any(|record| {
                    record.to_string().contains("it was not decided in time")
                })
            });
        }
        assert_eq!(permission(&hook(world).finish(), 0), "allow", "it goes on");
        assert!(!world.project().join("further").exists());
        world.cordon(&["stop", "--force"]).expect_code(0);
        world.remember(&walled.finish());
    }
}

/// One question of an agent's hook, about a file that may be read.
fn hook(world: &World) -> Running {
    let asked = json!({
        "session_id": "theirs", "cwd": world.project(), "hook_event_name": "PreToolUse",
        "tool_name": "Read", "tool_input": {"file_path": world.project_file("a", "x")},
    });
    let arguments = ["hook", "pre-tool-use", "--policy", "host-tools"];
    start(world, &arguments, &asked.to_string())
}

fn start(world: &World, arguments: &[&str], input: &str) -> Running {
    let mut command = world.command();
    command.args(arguments);
    process::start(command, input.as_bytes())
}

/// What the hook answers, in the documented shape.
#[track_caller]
fn permission(said: &Outcome, code: i32) -> String {
    said.expect_code(code);
    let told: Value = serde_json::from_slice(&said.stdout).unwrap();
    let told = &told["hookSpecificOutput"];
    assert_eq!(told["hookEventName"], "PreToolUse", "{said}");
    told["permissionDecision"].as_str().unwrap().to_owned()
}

/// The session of the hook's agent, beside ours.
fn hooked_session(world: &World, ours: &str) -> String {
    listed(world, |session| session["id"] != ours)
}

/// The session that has walls.
fn walled_session(world: &World) -> String {
    listed(world, |session| session["backend"] == "bubblewrap")
}

/// The id of the first session that is as asked.
fn listed(world: &World, is: impl Fn(&Value) -> bool) -> String {
    let (code, listed) = curl(world, "/v1/sessions", &[]);
    assert_eq!(code, 200, "{listed}");
    let found = listed.as_array().unwrap().iter().find(|one| is(one));
    found.unwrap()["id"].as_str().unwrap().to_owned()
}

/// Holds the threads of the daemon's log, as a disk that hangs would, until its input is closed.
fn hold_log(daemon: Pid) -> Child {
    let mut holder = Command::new("/usr/bin/python3")
        .args(["-c", HOLDER, &daemon.as_raw_nonzero().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let out = holder.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    holder.stdin.as_mut().unwrap().flush().unwrap();
    holder
}

/// PTRACE_SEIZE and PTRACE_INTERRUPT; the threads go on when their tracer ends.
const HOLDER: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
held = 0
for tid in os.listdir(f"/proc/{sys.argv[1]}/task"):
    with open(f"/proc/{sys.argv[1]}/task/{tid}/comm") as comm:
        if not comm.read().startswith("log-"):
            continue
    for request in (0x4206, 0x4207):
        if libc.ptrace(request, int(tid), 0, 0):
            sys.exit(os.strerror(ctypes.get_errno()))
    os.waitpid(int(tid), 0x40000000)
    held += 1
assert held
print("held", flush=True)
sys.stdin.read()
"#;
