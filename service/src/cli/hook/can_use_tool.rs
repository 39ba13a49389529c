//! `cordon hook can-use-tool`: answers an agent's control protocol, a JSON object a line, with what
//! the hook would have answered.
//!
//! `control_request` in, `control_response` out, in the documented shapes. Whatever goes wrong is a
//! denial; an answer to what was cancelled is never given.
//!
//! Source: the Agent SDK's control protocol, `can_use_tool` and `hook_callback`.

use std::{
    collections::HashMap,
    io::{self, BufRead as _, Read as _},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use clap::Args;
use hyper::Method;
use serde_json::{Map, Value, json};

use super::{LONGEST, asked_of, policy_of, tell};
use crate::{cli::api, error::Failure, hook_input};

/// Options of `cordon hook can-use-tool`.
#[derive(Debug, Args)]
pub struct CanUseToolArgs {
    /// Packs, policy files (*.cedar, *.toml) or directories that decide, as `cordon run --policy`
    #[arg(long, value_name = "FILE|DIR|NAME")]
    policy: Vec<PathBuf>,
    /// The folder that the agent works in; the current one when left out
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// The agent's own session, so that its hooks and this are decided as one; a new one when left out
    #[arg(long, value_name = "ID")]
    session_id: Option<String>,
}

/// What is the same for every request.
struct About {
    session: String,
    cwd: PathBuf,
    policy: Vec<PathBuf>,
    /// Whether somebody ended the session: then nothing is allowed any more.
    over: AtomicBool,
}

/// Who decides: the daemon's hook endpoint, and whatever a test puts in its place.
type Decide = dyn Fn(Value) -> Result<Value, Failure> + Send + Sync;

/// Requests that are being decided, each with whether it was cancelled.
type Open = Arc<Mutex<HashMap<String, bool>>>;

/// Answers until standard input ends.
pub fn can_use_tool(args: &CanUseToolArgs) -> Result<u8, Failure> {
    let cwd = match &args.cwd {
        Some(cwd) => cwd.canonicalize()?,
        None => std::env::current_dir()?,
    };
    let session = args.session_id.clone();
    let is_own = session.is_none();
    let about = About {
        session: session.unwrap_or_else(|| format!("can-use-tool-{}", uuid::Uuid::new_v4())),
        cwd,
        policy: policy_of(&args.policy)?,
        over: AtomicBool::new(false),
    };
    let about = Arc::new(about);
    let answered = answer_all(
        &mut io::stdin().lock(),
        Arc::new(Mutex::new(io::stdout())),
        &about,
        &(Arc::new(super::ask) as Arc<Decide>),
    );
    if is_own {
        end(&about);
    }
    answered.map(|()| 0)
}

/// Ends the session that was opened for this alone. One that is not there any more is over.
fn end(about: &About) {
    let over = json!({"session_id": about.session, "cordon_policy": about.policy});
    let body = over.to_string().into_bytes();
    let path = "/v1/hooks/claude-code/session-end";
    match api::ask(&Method::POST, path, body, super::DEADLINE) {
        Ok(reply) if matches!(reply.status, 204 | 404) => {}
        Ok(reply) => tell(&format!(
            "cordon: the session was not ended: {}",
            reply.failure()
        )),
        Err(failure) => tell(&format!("cordon: the session was not ended: {failure}")),
    }
}

/// Requests are decided side by side, so that one can be cancelled.
fn answer_all<W: io::Write + Send + 'static>(
    from: &mut impl io::BufRead,
    to: Arc<Mutex<W>>,
    about: &Arc<About>,
    decide: &Arc<Decide>,
) -> Result<(), Failure> {
    let open = Open::default();
    let mut workers = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = from
            .by_ref()
            .take(LONGEST + 1)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        if u64::try_from(read).is_ok_and(|read| read > LONGEST) {
            return Err(Failure::new(format!("a line is over {LONGEST} bytes")));
        }
        let message = match cordon_runtime::read(&line) {
            Ok(Value::Object(message)) => message,
            // Without an id there is nobody to answer; nothing was allowed.
            Ok(_) | Err(_) => {
                tell("cordon: a line that is no message of the control protocol was left out");
                continue;
            }
        };
        match (kind(&message), text(&message, "request_id")) {
            (Some("control_request"), Some(id)) => {
                workers.retain(|worker: &thread::JoinHandle<()>| !worker.is_finished());
                if workers.len() >= MOST_OPEN || !begin(&open, id) {
                    put(
                        &to,
                        &error(id, "too many requests wait, or another one has this id"),
                    )?;
                    continue;
                }
                let (id, to, open) = (id.to_owned(), Arc::clone(&to), Arc::clone(&open));
                let (about, decide) = (Arc::clone(about), Arc::clone(decide));
                workers.push(thread::spawn(move || {
                    let answer = answer(&id, &message, &about, decide.as_ref());
                    // Held from the end of a request to its answer: whoever finds none open may leave.
                    let mut to = locked(&to);
                    if finish(&open, &id) {
                        // Where nobody reads any more nothing was allowed.
                        let _written = write_line(&mut *to, &answer);
                    }
                    if about.over.load(Relaxed) && is_empty(&open) {
                        // The reader waits for a line, and there is nothing to answer any more.
                        std::process::exit(0);
                    }
                }));
            }
            (Some("control_cancel_request"), Some(id)) => cancel(&open, id),
            // What an agent says beside is for others.
            _other => {}
        }
    }
    for worker in workers {
        let _ended = worker.join();
    }
    Ok(())
}

fn answer(id: &str, message: &Map<String, Value>, about: &About, decide: &Decide) -> Value {
    let request = message.get("request").and_then(Value::as_object);
    let Some(request) = request else {
        return error(id, "a request without a `request`");
    };
    match text(request, "subtype") {
        Some("can_use_tool") => match permission(request, about, decide) {
            Ok(answer) => success(id, answer),
            Err(why) => success(
                id,
                denied(&format!("Cordon cannot decide, so it is denied: {why}")),
            ),
        },
        Some("hook_callback") => match hook(request, about, decide) {
            Ok(answer) => success(id, answer),
            Err(why) => success(
                id,
                json!({"hookSpecificOutput": {
                    "hookEventName": "PreToolUse",
                    "permissionDecision": "deny",
                    "permissionDecisionReason": format!("Cordon cannot decide, so it is denied: {why}"),
                }}),
            ),
        },
        _other => error(
            id,
            "Cordon answers `can_use_tool` and `hook_callback`, and nothing else",
        ),
    }
}

fn permission(
    request: &Map<String, Value>,
    about: &About,
    decide: &Decide,
) -> Result<Value, Failure> {
    let missing =
        |name: &str| Failure::new(format!("`{name}` is missing, or not what it should be"));
    let tool = text(request, "tool_name").ok_or_else(|| missing("tool_name"))?;
    let input = request.get("input").and_then(Value::as_object);
    let input = input.ok_or_else(|| missing("input"))?;
    let asked = json!({
        "session_id": about.session,
        "cwd": about.cwd,
        "hook_event_name": "PreToolUse",
        "tool_name": tool,
        "tool_input": input,
    });
    let output = decide(asked_of(asked, &about.policy)?)?;
    let (decision, reason) = read(&output).ok_or_else(|| missing("the daemon's answer"))?;
    Ok(match decision {
        // The input as it was asked about, so that no other one is used.
        "allow" => json!({"behavior": "allow", "updatedInput": input}),
        "ask" => denied(&format!(
            "{reason}: it needs an approval, and this is where there is none"
        )),
        _deny => {
            if reason.contains(hook_input::OVER) {
                about.over.store(true, Relaxed);
            }
            denied(reason)
        }
    })
}

/// The input of a hook is the whole question; its session and folder are its own.
fn hook(request: &Map<String, Value>, about: &About, decide: &Decide) -> Result<Value, Failure> {
    let input = request.get("input").cloned().unwrap_or_default();
    decide(asked_of(input, &about.policy)?)
}

fn read(output: &Value) -> Option<(&str, &str)> {
    let output = output.get("hookSpecificOutput")?;
    let decision = output.get("permissionDecision")?.as_str()?;
    Some((decision, output.get("permissionDecisionReason")?.as_str()?))
}

fn denied(why: &str) -> Value {
    json!({"behavior": "deny", "message": why})
}

fn success(id: &str, response: Value) -> Value {
    json!({"type": "control_response", "response": {
        "subtype": "success", "request_id": id, "response": response,
    }})
}

fn error(id: &str, why: &str) -> Value {
    json!({"type": "control_response", "response": {
        "subtype": "error", "request_id": id, "error": why,
    }})
}

fn put<W: io::Write>(to: &Mutex<W>, answer: &Value) -> io::Result<()> {
    write_line(&mut *locked(to), answer)
}

fn write_line(to: &mut impl io::Write, answer: &Value) -> io::Result<()> {
    writeln!(to, "{answer}")?;
    to.flush()
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// False when a request of this id is being decided.
fn begin(open: &Open, id: &str) -> bool {
    let mut open = locked(open);
    if open.contains_key(id) {
        return false;
    }
    open.insert(id.into(), false);
    true
}

fn cancel(open: &Open, id: &str) {
    let mut open = locked(open);
    if let Some(cancelled) = open.get_mut(id) {
        *cancelled = true;
    }
}

/// Whether it is still to be answered.
fn finish(open: &Open, id: &str) -> bool {
    let mut open = locked(open);
    open.remove(id) == Some(false)
}

fn is_empty(open: &Open) -> bool {
    locked(open).is_empty()
}

fn kind(message: &Map<String, Value>) -> Option<&str> {
    text(message, "type")
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name)?.as_str()
}

/// Requests that are decided at a time.
const MOST_OPEN: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Answers by the tool's name; remembers nothing.
    fn fake(asked: Value) -> Result<Value, Failure> {
        let tool = asked["tool_name"].as_str().unwrap();
        if tool == "Broken" {
            return Err(Failure::new("no daemon"));
        }
        let decision = if tool == "Read" {
            "allow"
        } else if tool == "Bash" {
            "ask"
        } else {
            "deny"
        };
        assert_eq!(asked["cordon_policy"], json!(["host-tools"]));
        Ok(json!({"hookSpecificOutput": {
            "hookEventName": "PreToolUse", "permissionDecision": decision,
            "permissionDecisionReason": "because",
        }}))
    }

    fn answers(lines: &[Value], decide: Arc<Decide>) -> Vec<Value> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let to = Arc::new(Mutex::new(Vec::new()));
        let about = Arc::new(About {
            session: "s".into(),
            cwd: "/project".into(),
            policy: vec!["host-tools".into()],
            over: AtomicBool::new(false),
        });
        answer_all(&mut text.as_bytes(), Arc::clone(&to), &about, &decide).unwrap();
        let out = String::from_utf8(to.lock().unwrap().clone()).unwrap();
        let mut all: Vec<Value> = out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        all.sort_by_key(|one| one["response"]["request_id"].as_str().unwrap().to_owned());
        all
    }

    fn ask(id: &str, request: Value) -> Value {
        json!({"type": "control_request", "request_id": id, "request": request})
    }

    fn tool(name: &str) -> Value {
        json!({"subtype": "can_use_tool", "tool_name": name,
            "input": {"file_path": "/a", "limit": 3}, "tool_use_id": "t"})
    }

    #[test]
    fn p01_every_answer_has_the_documented_shape() {
        let given = answers(
            &[
                ask("1", tool("Read")),
                ask("2", tool("Write")),
                ask("3", tool("Bash")),
                ask("4", tool("Broken")),
                ask("5", json!({"subtype": "initialize"})),
                ask(
                    "6",
                    json!({"subtype": "can_use_tool", "tool_name": 1, "input": {}}),
                ),
                ask(
                    "7",
                    json!({"subtype": "hook_callback", "callback_id": "c",
                    "input": {"tool_name": "Read", "tool_input": {}}}),
                ),
                json!({"type": "assistant", "message": {}}),
                json!([1]),
            ],
            Arc::new(fake),
        );
        let body = |at: usize| given[at]["response"]["response"].clone();
        let whole = json!({"type": "control_response", "response": {
            "subtype": "success", "request_id": "1",
            "response": {"behavior": "allow", "updatedInput": {"file_path": "/a", "limit": 3}},
        }});
        assert_eq!(given[0], whole);
        assert_eq!(body(1), json!({"behavior": "deny", "message": "because"}));
        assert_eq!(body(2)["behavior"], "deny");
        assert!(
            body(2)["message"]
                .as_str()
                .unwrap()
                .contains("needs an approval")
        );
        assert!(body(3)["message"].as_str().unwrap().contains("no daemon"));
        assert_eq!(given[4]["response"]["subtype"], "error");
        assert_eq!(body(5)["behavior"], "deny");
        assert_eq!(body(6)["hookSpecificOutput"]["permissionDecision"], "allow");
        assert_eq!(given.len(), 7);
    }

    #[test]
    fn p01_what_is_cancelled_is_not_answered_and_an_id_in_use_is_refused() {
        let (go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let decide = move |asked: Value| {
            // Decided once everything was read: the other side hangs up below.
            let _gone = wait.lock().unwrap().recv();
            fake(asked)
        };
        let lines = [
            ask("1", tool("Read")),
            ask("1", tool("Read")),
            json!({"type": "control_cancel_request", "request_id": "1"}),
            json!({"type": "control_cancel_request", "request_id": "unknown"}),
        ];
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        // The end of input lets the decision go on.
        struct Ends<'a>(&'a [u8], Option<mpsc::Sender<()>>);
        impl io::Read for Ends<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let read = self.0.read(buffer)?;
                if read == 0 {
                    self.1 = None;
                }
                Ok(read)
            }
        }
        let to = Arc::new(Mutex::new(Vec::new()));
        let about = Arc::new(About {
            session: "s".into(),
            cwd: "/project".into(),
            policy: vec!["host-tools".into()],
            over: AtomicBool::new(false),
        });
        let mut from = io::BufReader::new(Ends(text.as_bytes(), Some(go)));
        let decide: Arc<Decide> = Arc::new(decide);
        answer_all(&mut from, Arc::clone(&to), &about, &decide).unwrap();
        let out = String::from_utf8(to.lock().unwrap().clone()).unwrap();
        assert_eq!(out.lines().count(), 1, "{out}");
        assert!(out.contains(r#""subtype":"error""#), "{out}");
    }
}
