//! What Claude Code asks before a tool runs: its `PreToolUse` hook, tool by tool mapped to requests.
//!
//! The hook's input in, the documented object out, always. A tool that this does not know is denied
//! by name, and so is everything that goes wrong (P01, P02).
//!
//! Source: the hook reference of Claude Code, `PreToolUse`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Extension, Request, State},
    http::{Method as HttpMethod, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use cordon_audit::SessionEnd;
use cordon_policy::{
    DenyReason, Destination, ExtensionFacts, GrantMode, GrantSource, HttpFacts, Method, Operation,
    Scheme, Signature, ToolCall, query_keys,
};
use cordon_runtime::mcp::definition_digest;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    BODY_BYTES, Caller, Daemon, Peer,
    decide::{DOOR, PAUSED, Undecided, decide_waiting},
    fields::Fields,
    operation::{Access, Wanted},
    problem::{Code, Problem},
    sessions::{not_opened, read},
};
use crate::{
    control::GrantAsked,
    daemon::{
        approvals::own,
        hosted::{self, Wish},
        live::Live,
    },
    hook_input,
};

/// What Claude Code says before it runs a tool. Other fields are for others.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PreToolUse {
    /// Its own session.
    session_id: String,
    /// The folder that it works in.
    #[schema(value_type = String)]
    cwd: PathBuf,
    /// `PreToolUse`.
    hook_event_name: String,
    /// The tool.
    tool_name: String,
    /// What the tool is to do.
    #[schema(value_type = Object)]
    tool_input: Fields,
    /// Policies that decide it, as `--policy` of `cordon run` names them; ours, put in by
    /// `cordon hook pre-tool-use`.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    cordon_policy: Vec<PathBuf>,
}

/// An agent's session that is over.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionOver {
    /// Its own session, as in its hooks.
    session_id: String,
    /// Policies that decided it, as in its hooks.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    cordon_policy: Vec<PathBuf>,
}

/// The documented answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookAnswer {
    hook_specific_output: HookOutput,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct HookOutput {
    /// `PreToolUse`.
    hook_event_name: &'static str,
    /// `allow`, `deny` or `ask`.
    permission_decision: &'static str,
    /// Why.
    permission_decision_reason: String,
}

/// Decides whether a tool of Claude Code may run.
#[utoipa::path(post, path = "/v1/hooks/claude-code/pre-tool-use", tag = "hooks",
    request_body = PreToolUse, responses((status = 200, body = HookAnswer)))]
pub async fn pre_tool_use(
    State(daemon): State<Arc<Daemon>>,
    Extension(peer): Extension<Peer>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Json<HookAnswer> {
    let asked = serde_json::from_slice::<Fields>(&body)
        .and_then(|_unique| serde_json::from_slice::<PreToolUse>(&body));
    Json(match asked {
        Ok(asked) if asked.hook_event_name == EVENT => answer(&daemon, peer, &caller, &asked).await,
        Ok(_other) => deny("Cordon decides the event `PreToolUse` and no other"),
        Err(error) => deny(format!(
            "Cordon cannot read what the hook was given: {error}"
        )),
    })
}

/// Ends the session of Cordon's that an agent's own one was decided in.
#[utoipa::path(post, path = "/v1/hooks/claude-code/session-end", tag = "hooks",
    request_body = SessionOver, responses((status = 204), (status = 400, body = Problem),
        (status = 404, body = Problem)))]
pub async fn session_end(
    State(daemon): State<Arc<Daemon>>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let over: SessionOver = read(&body)?;
    let theirs = theirs(&over.session_id, &over.cordon_policy);
    let known = daemon.hook_sessions.lock().await.leave(&theirs);
    let unknown = || Problem::new(Code::NoSession, "no session of an agent is called so");
    let id = known.ok_or_else(unknown)?;
    match hosted::end(&daemon, &id, SessionEnd::Exited).await {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(unknown()),
    }
}

async fn answer(
    daemon: &Arc<Daemon>,
    peer: Peer,
    caller: &Caller,
    asked: &PreToolUse,
) -> HookAnswer {
    let live = match &caller.session {
        Some(_) if !asked.cordon_policy.is_empty() => {
            return deny("whoever has a session's token does not choose its policy");
        }
        Some(own) => daemon
            .registry
            .of_id(own)
            .ok_or_else(|| "the session is over".into()),
        None => session(daemon, peer, asked).await,
    };
    let live = match live {
        Ok(live) => live,
        Err(why) => return deny(why),
    };
    daemon.hosted.touch(live.id());
    // One value is decided, approved and shown, whatever else was sent with it.
    let given = Fields(hook_input::reduced(asked.tool_input.0.clone()));
    // The folder is a part of it: the same command does something else in another one.
    let input = definition_digest(&json!({"cwd": asked.cwd, "input": given.0}));
    let wanted = match wanted(&asked.tool_name, &given, &asked.cwd, &input) {
        Ok(wanted) => wanted,
        Err(why) => {
            let tool = asked.tool_name.as_bytes();
            let _refused = live.gate().refuse_raw(DOOR, tool, why.clone()).await;
            return deny(why);
        }
    };
    let mut reason = String::new();
    let mut ask = None;
    // Every one must be allowed; a refusal that a person can lift counts less than one that none can.
    for one in wanted {
        match decide_waiting(daemon, &live, one, Duration::ZERO).await {
            Ok(verdict) if verdict.allowed => reason = verdict.reason,
            Ok(verdict) if verdict.code == DenyReason::ApprovalRequired.code() => {
                let why = told(&verdict.reason, verdict.decision_id.as_deref());
                let why = match &verdict.approval {
                    Some(waits) => {
                        let shown = hook_input::shown(&asked.cwd, &given.0);
                        daemon.approvals.describe(&waits.id, &shown);
                        format!("{why}; or `cordon approve {}`", waits.id)
                    }
                    None => why,
                };
                ask.get_or_insert(why);
            }
            Ok(verdict) => return deny(told(&verdict.reason, verdict.decision_id.as_deref())),
            Err(Undecided::NotRecorded(why)) => {
                return deny(format!(
                    "nothing is done while the log cannot take it: {why}"
                ));
            }
            Err(Undecided::Paused) => return deny(PAUSED),
            Err(Undecided::Late) => return deny("it was not decided in time"),
        }
    }
    match ask {
        Some(why) => output("ask", why),
        None => output("allow", format!("Cordon: {reason}")),
    }
}

/// The session that belongs to the agent's; opened with its first question.
async fn session(
    daemon: &Arc<Daemon>,
    peer: Peer,
    asked: &PreToolUse,
) -> Result<Arc<Live>, String> {
    let cwd = &asked.cwd;
    if !cwd.is_absolute() || !(1..=128).contains(&asked.session_id.len()) {
        return Err("the hook's `cwd` is not absolute, or its `session_id` is no id".into());
    }
    // With another policy it is another session: whoever came first does not choose for the rest.
    let theirs = theirs(&asked.session_id, &asked.cordon_policy);
    let mut known = daemon.hook_sessions.lock().await;
    if let Some(live) = known.get(&theirs).and_then(|id| daemon.registry.of_id(id)) {
        daemon.hosted.touch(live.id());
        // One that is not known to hold it could answer what it asks itself.
        return match live.hold(own::agent_of(peer.0)) {
            true => Ok(live),
            false => Err("too many agents are at it with this session at once".into()),
        };
    }
    if known.is_over(&theirs)? {
        return Err(hook_input::OVER.into());
    }
    known.retain(|id| daemon.registry.of_id(id).is_some());
    let folder = GrantAsked {
        path: cwd.clone(),
        mode: GrantMode::Rw,
        name: None,
        source: GrantSource::WorkingDirectory,
        inside: None,
    };
    let wish = Wish {
        program: AGENT.into(),
        agent: Some(AGENT.into()),
        grants: vec![folder],
        workspace: Some(cwd.clone()),
        policy: asked.cordon_policy.clone(),
        holder: own::agent_of(peer.0),
        hook: Some(theirs.clone()),
        // Nobody else's hook asks here, and by the token of a session none is opened.
        by: daemon.policies.own_user(),
        ..Wish::default()
    };
    let live = hosted::create(daemon, wish)
        .await
        .map_err(|answer| not_opened(daemon, answer).words())?;
    known.enter(theirs, live.id().into());
    Ok(live)
}

/// An agent takes every answer but 200 for leave to go on, so its hook gets no other (P01): who asks
/// is not known, the body is too long, and whatever else refuses before a decision.
pub async fn always(request: Request, next: Next) -> Response {
    let is_hook = request.uri().path() == HOOK && request.method() == HttpMethod::POST;
    if !is_hook {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let Some(body) = whole(body).await else {
        let why = format!("what the hook was given is over {BODY_BYTES} bytes, or came too slowly");
        return Json(deny(why)).into_response();
    };
    let response = next.run(Request::from_parts(head, body.into())).await;
    if response.status() == StatusCode::OK {
        return response;
    }
    let why = format!("Cordon did not decide it ({})", response.status());
    Json(deny(why)).into_response()
}

/// A body; none where it is too long. What is too long is read to its end all the same, and thrown
/// away: an answer while the agent still sends would be lost with the connection.
async fn whole(mut body: Body) -> Option<Bytes> {
    let mut kept = Vec::new();
    let mut read = 0_usize;
    let reading = async {
        while let Some(frame) = body.frame().await {
            let data = frame.ok()?.into_data().unwrap_or_default();
            read = read.saturating_add(data.len());
            if read > MOST_READ {
                return None;
            }
            if read <= BODY_BYTES {
                kept.extend_from_slice(&data);
            }
        }
        Some(())
    };
    let ended = tokio::time::timeout(READING, reading).await;
    ended.ok().flatten()?;
    (read <= BODY_BYTES).then(|| kept.into())
}

/// Bytes that are read of a hook's input, whatever is kept of them.
const MOST_READ: usize = 256 * 1024 * 1024;

/// Time for that.
const READING: Duration = Duration::from_secs(10);

/// How an agent's own session is known here.
fn theirs(session: &str, policy: &[PathBuf]) -> String {
    format!("{session} {policy:?}")
}

/// What a tool's use comes to.
///
/// # Errors
/// The tool is not known, or what it is given is not what it takes.
fn wanted(tool: &str, input: &Fields, cwd: &Path, digest: &str) -> Result<Vec<Wanted>, String> {
    let text = |name: &str| input.0.get(name).and_then(Value::as_str);
    let missing = |name: &str| format!("`{tool}` without `{name}`");
    let path = |name: &str| {
        text(name)
            .map(|path| cwd.join(path))
            .ok_or_else(|| missing(name))
    };
    let own = || Wanted::Operation(call(EXTENSION, tool, digest));
    Ok(match tool {
        "Read" => vec![Wanted::File(Access::Read, path("file_path")?)],
        "NotebookRead" => vec![Wanted::File(Access::Read, path("notebook_path")?)],
        "Write" | "Edit" | "MultiEdit" => vec![Wanted::File(Access::Write, path("file_path")?)],
        "NotebookEdit" => vec![Wanted::File(Access::Write, path("notebook_path")?)],
        "Glob" | "Grep" | "LS" => {
            let folder = text("path").map_or_else(|| cwd.to_owned(), |path| cwd.join(path));
            vec![Wanted::File(Access::Read, folder)]
        }
        "WebFetch" => vec![Wanted::Operation(fetch(
            text("url").ok_or_else(|| missing("url"))?,
        )?)],
        // What a command does with files and hosts cannot be told from its text.
        "Bash" | "BashOutput" | "KillShell" | "KillBash" => vec![own()],
        "Agent"
        | "AskUserQuestion"
        | "EnterPlanMode"
        | "ExitPlanMode"
        | "ListMcpResourcesTool"
        | "ReadMcpResourceTool"
        | "Skill"
        | "SlashCommand"
        | "Task"
        | "TaskOutput"
        | "TaskStop"
        | "TodoWrite"
        | "ToolSearch"
        | "WebSearch" => vec![own()],
        _other => match tool
            .strip_prefix("mcp__")
            .and_then(|rest| rest.split_once("__"))
        {
            Some((server, name)) if !server.is_empty() && !name.is_empty() => {
                vec![Wanted::Operation(call(server, name, digest))]
            }
            _ => {
                return Err(format!(
                    "Cordon does not know what the tool `{}` does, so it is denied",
                    tool.chars().take(64).collect::<String>().escape_default()
                ));
            }
        },
    })
}

fn call(extension: &str, tool: &str, input: &str) -> Operation {
    Operation::CallTool {
        extension: ExtensionFacts {
            id: extension.into(),
            publisher: None,
            version: String::new(),
            digest: String::new(),
            signature: Signature::Unsigned,
        },
        tool: tool.into(),
        call: Box::new(ToolCall {
            input: Some(input.into()),
            ..ToolCall::default()
        }),
    }
}

/// The tool upgrades `http` to `https` by itself, so that is what is decided.
fn fetch(url: &str) -> Result<Operation, String> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let rest = rest.ok_or("`WebFetch` of something that is no web address")?;
    let rest = rest.split('#').next().unwrap_or(rest);
    let (authority, target) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at_checked(at).unwrap_or((rest, "")),
        None => (rest, ""),
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !path
        .chars()
        .chain(query.chars())
        .all(|c| c.is_ascii_graphic())
    {
        return Err("`WebFetch` of an address with a character that no address has".into());
    }
    Ok(Operation::HttpRequest {
        destination: Destination::from_url_authority(authority.as_bytes(), Scheme::Https)
            .map_err(|error| format!("`WebFetch`: {error}"))?,
        method: Method("GET".into()),
        path: if path.is_empty() { "/" } else { path }.into(),
        facts: Box::new(HttpFacts {
            scheme: Scheme::Https,
            query_keys: query_keys(query).map_err(|error| error.to_string())?,
            ..HttpFacts::default()
        }),
    })
}

fn told(reason: &str, decision: Option<&str>) -> String {
    match decision {
        Some(id) => format!("{reason} (Cordon, decision {id})"),
        None => format!("{reason} (Cordon)"),
    }
}

fn deny(why: impl Into<String>) -> HookAnswer {
    output("deny", why.into())
}

fn output(decision: &'static str, reason: String) -> HookAnswer {
    HookAnswer {
        hook_specific_output: HookOutput {
            hook_event_name: EVENT,
            permission_decision: decision,
            permission_decision_reason: reason,
        },
    }
}

/// The endpoint.
pub const HOOK: &str = "/v1/hooks/claude-code/pre-tool-use";

const EVENT: &str = "PreToolUse";

/// How the agent's profile is called.
const AGENT: &str = "claude";

/// Under which name policy knows the agent's own tools.
const EXTENSION: &str = "claude-code";

#[cfg(test)]
mod tests {
    use super::*;

    fn map(tool: &str, input: &str) -> Result<Vec<Wanted>, String> {
        wanted(
            tool,
            &serde_json::from_str(input).unwrap(),
            Path::new("/project"),
            "00ff",
        )
    }

    fn words(text: &str) -> Wanted {
        Wanted::Operation(cordon_policy::ask::parse(text).unwrap())
    }

    #[test]
    fn p03_a_tool_is_the_request_that_it_comes_to() {
        let file = |access, path: &str| Wanted::File(access, path.into());
        let table = [
            (
                "Read",
                r#"{"file_path": "/a/b"}"#,
                file(Access::Read, "/a/b"),
            ),
            (
                "Edit",
                r#"{"file_path": "src/x", "old_string": "", "new_string": ""}"#,
                file(Access::Write, "/project/src/x"),
            ),
            (
                "Grep",
                r#"{"pattern": "x"}"#,
                file(Access::Read, "/project"),
            ),
            (
                "Glob",
                r#"{"pattern": "*", "path": ".."}"#,
                file(Access::Read, "/project/.."),
            ),
            (
                "WebFetch",
                r#"{"url": "http://Example.com/a?x=1#y"}"#,
                words("GET https://example.com/a?x tls none"),
            ),
            (
                "WebFetch",
                r#"{"url": "https://example.com?x"}"#,
                words("GET https://example.com/?x tls none"),
            ),
            (
                "Bash",
                r#"{"command": "ls"}"#,
                words("call Bash of claude-code input 00ff"),
            ),
            (
                "mcp__tracker__create__issue",
                "{}",
                words("call create__issue of tracker input 00ff"),
            ),
        ];
        for (tool, input, same) in table {
            assert_eq!(map(tool, input).unwrap(), [same], "{tool} {input}");
        }
    }

    #[test]
    fn p03_what_is_not_known_is_denied_by_name() {
        for (tool, input) in [
            ("Teleport", "{}"),
            ("bash", r#"{"command": "ls"}"#),
            ("mcp__", "{}"),
            ("mcp__server", "{}"),
            ("Read", "{}"),
            ("Read", r#"{"file_path": 1}"#),
            ("WebFetch", r#"{"url": "file:///etc/passwd"}"#),
            ("WebFetch", r#"{"url": "https://u:p@example.com/"}"#),
            (
                "WebFetch",
                r#"{"url": "https://example.com\u0000.evil.test/"}"#,
            ),
        ] {
            let why = map(tool, input).unwrap_err();
            assert!(why.contains(tool), "{tool}: {why}");
        }
    }

    #[test]
    fn p01_the_answer_is_the_documented_object() {
        assert_eq!(
            serde_json::to_string(&deny("no")).unwrap(),
            r#"{"hookSpecificOutput":{"hookEventName":"PreToolUse","permissionDecision":"deny","permissionDecisionReason":"no"}}"#
        );
    }
}
