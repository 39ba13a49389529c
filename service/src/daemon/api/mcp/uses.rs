//! What a gateway for a tool server may do, wherever the gateway is: in a process of its own, or in the
//! daemon.

use std::sync::Arc;

use cordon_policy::{Definition, DenyReason, ExtensionFacts, Operation, ToolCall, ToolKind};
use cordon_runtime::mcp::{
    Asked, Fate, INSTRUCTIONS, Listed, Standing, definition_digest, hints_of,
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::{
    Daemon,
    decide::{DOOR, Verdict, by_policy, decide, in_time, refusal},
    extensions::held_back,
    floors::{refused as refuse_by_floor, switched_off, unapproved},
    operation::Wanted,
    problem::{Code, Problem},
    sessions::Told,
};
use crate::{
    control::{Answer, Refused},
    daemon::{
        live::Live,
        mcp::{Servers, server_name},
    },
};

/// What passes of a server, for its gateway.
#[derive(Debug, Serialize, ToSchema)]
pub struct Attached {
    /// Largest answer that is passed on, in bytes.
    pub result_bytes: usize,
    /// Names of arguments that are facts for policy.
    pub arguments: Vec<String>,
    /// The recorded decision, where one was just made.
    decision_id: Option<String>,
}

/// Decides whether a session may use a server.
///
/// # Errors
/// It may not, or that could not be decided.
pub async fn attach(daemon: &Arc<Daemon>, live: &Live, server: &str) -> Result<Attached, Problem> {
    let verdict = loading(daemon, live, server).await?;
    if !verdict.allowed {
        return Err(denied(&format!("load extension {server}"), verdict));
    }
    Ok(Attached {
        decision_id: verdict.decision_id,
        ..passing(daemon, server)
    })
}

/// The same for a session that is for the server alone, before anything of it runs.
///
/// # Errors
/// The answer to give.
pub async fn load(daemon: &Arc<Daemon>, live: &Live, server: &str) -> Result<(), Answer> {
    let failed = |why: String| Answer::Failed {
        message: why,
        help: None,
    };
    server_name(server).map_err(failed)?;
    let verdict = loading(daemon, live, server).await;
    let verdict = verdict.map_err(|problem| failed(problem.to_string()))?;
    if verdict.allowed {
        return Ok(());
    }
    Err(Answer::Refused(Refused {
        what: format!("load extension {server}"),
        why: verdict.reason,
        allow_with: verdict.allow_with,
        decision: verdict.decision_id.unwrap_or_default(),
    }))
}

/// What passes of a server, where a session has loaded it.
pub fn passing(daemon: &Daemon, server: &str) -> Attached {
    let config = daemon.mcp.config();
    Attached {
        result_bytes: config.result_bytes(),
        arguments: config.arguments(server).to_vec(),
        decision_id: None,
    }
}

async fn loading(daemon: &Arc<Daemon>, live: &Live, server: &str) -> Result<Verdict, Problem> {
    if let Some(verdict) = held_back(daemon, live, server).await? {
        return Ok(verdict);
    }
    let load = Operation::LoadExtension {
        extension: facts(daemon, server)?,
    };
    let verdict = decide(daemon, live, Wanted::Operation(load.clone())).await?;
    if !verdict.allowed {
        return Ok(verdict);
    }
    let lives = |session: &str| daemon.registry.of_id(session).is_some();
    daemon.mcp.attach(live.id(), server, lives);
    live.policy().hold([load.clone()]);
    // Held from here on; a policy that came since it was decided is asked once more (N19).
    if let Err(deny) = live.gate().review(load.clone()) {
        daemon.mcp.detach_from(live.id(), server);
        live.policy().release(&load);
        return Ok(refusal(live.gate().refuse(deny).await, None)?);
    }
    Ok(verdict)
}

/// Decides one use of a server that the session has loaded.
///
/// # Errors
/// It could not be decided.
pub async fn decide_use(
    daemon: &Daemon,
    live: &Live,
    server: &str,
    asked: Asked,
) -> Result<Told, Problem> {
    let said = format!("{server} {asked:?}");
    // What stands in its way is looked at when the session is not paused (any more).
    let verdict: Result<Verdict, Problem> = in_time(live, &said, async || {
        used(daemon, live, server, asked).await
    })
    .await;
    Ok(verdict?.into())
}

async fn used(
    daemon: &Daemon,
    live: &Live,
    server: &str,
    asked: Asked,
) -> Result<Verdict, Problem> {
    let definition = match (&asked.digest, asked.kind) {
        (Some(digest), ToolKind::Tool) => daemon
            .mcp
            .standing(server, &asked.name, digest)
            .map_err(|why| Problem::new(Code::Conflict, why))?,
        _undefined => Definition::Unseen,
    };
    let call = ToolCall {
        kind: asked.kind,
        definition,
        hints: asked.hints,
        arguments: asked.arguments,
        input: asked.input.map(Into::into),
    };
    let name = asked.name;
    let operation = called(facts(daemon, server)?, name.clone(), call);
    // It can have changed, gone or been switched off since it was loaded.
    let installed = daemon.extensions.get(server);
    let installed = installed.map_err(|why| Problem::new(Code::Conflict, why))?;
    let off = || switched_off(daemon, live, server, &name);
    let stops = installed.as_ref().and_then(unapproved).or_else(off);
    if let Some((reason, why)) = stops {
        return Ok(refuse_by_floor(live, operation, reason, why).await?);
    }
    match definition {
        Definition::Changed => changed(live, operation, server).await,
        _same => Ok(by_policy(live, Wanted::Operation(operation)).await?),
    }
}

/// Says what of a list may be shown, one fate for each, and holds on to what tools are.
///
/// # Errors
/// Then nothing of it is shown.
pub async fn sort(
    daemon: &Daemon,
    live: &Live,
    server: &str,
    listed: &[Listed],
) -> Result<Vec<Fate>, Problem> {
    let extension = facts(daemon, server)?;
    let defined: Vec<(&str, &Value)> = listed
        .iter()
        .filter_map(|one| Some((one.name.as_str(), one.definition.as_ref()?)))
        .collect();
    let seen = daemon.mcp.see(server, &defined);
    let seen = seen.map_err(|why| Problem::new(Code::Conflict, why))?;
    let mut standings = defined.iter().zip(seen);
    let mut fates = Vec::with_capacity(listed.len());
    for one in listed {
        let fate = match &one.definition {
            None => look(daemon, live, &extension, one, Definition::Unseen),
            Some(definition) => match standings.next() {
                Some((_, Standing::Changed)) => {
                    tell_changed(daemon, live, &extension, one, definition).await?;
                    Fate::Changed
                }
                Some((_, Standing::New | Standing::Same)) if one.name == INSTRUCTIONS => {
                    Fate::Shown
                }
                Some((_, Standing::New | Standing::Same)) => {
                    let digest = definition_digest(definition);
                    let standing = daemon.mcp.standing(server, &one.name, &digest);
                    let standing = standing.map_err(|why| Problem::new(Code::Conflict, why))?;
                    look(daemon, live, &extension, one, standing)
                }
                None => Fate::Hidden,
            },
        };
        fates.push(fate);
    }
    Ok(fates)
}

/// Records what was refused because it is no request.
pub async fn refuse(live: &Live, server: &str, what: &str, why: &str) {
    let why = format!("{server}: {why}");
    // It is refused whether or not it can be recorded.
    let _refused = live.gate().refuse_raw(DOOR, what.as_bytes(), why).await;
}

fn denied(what: &str, verdict: Verdict) -> Problem {
    let help = verdict
        .allow_with
        .map(|rule| format!("a rule that allows it: {rule}"));
    let problem = Problem::new(Code::Denied, format!("{what}: {}", verdict.reason)).help(help);
    match verdict.decision_id {
        Some(id) => problem.decision(id),
        None => problem,
    }
}

/// What is known of a server: its record where it is installed as an extension.
pub fn facts(daemon: &Daemon, server: &str) -> Result<ExtensionFacts, Problem> {
    match daemon.extensions.get(server) {
        Ok(Some(installed)) => Ok(installed.facts()),
        Ok(None) => Ok(Servers::facts(server)),
        Err(why) => Err(Problem::new(Code::Conflict, why)),
    }
}

fn called(extension: ExtensionFacts, tool: String, call: ToolCall) -> Operation {
    Operation::CallTool {
        extension,
        tool,
        call: Box::new(call),
    }
}

/// The recorded refusal of a tool that is not what it was, whatever policy says of it (P08).
async fn changed(live: &Live, operation: Operation, server: &str) -> Result<Verdict, Problem> {
    let why = format!(
        "its description, schema or annotations are not what they were: `cordon mcp show {server}` \
         says what changed, `cordon mcp accept {server}` accepts it"
    );
    Ok(refuse_by_floor(live, operation, DenyReason::ApprovalRequired, why).await?)
}

/// Records a change when it is first seen, also where nobody calls the tool.
async fn tell_changed(
    daemon: &Daemon,
    live: &Live,
    extension: &ExtensionFacts,
    one: &Listed,
    definition: &Value,
) -> Result<(), Problem> {
    let server = extension.id.as_str();
    let digest = definition_digest(definition);
    if !daemon.mcp.is_news(server, &one.name, &digest) {
        return Ok(());
    }
    let call = ToolCall {
        kind: one.kind,
        definition: Definition::Changed,
        hints: hints_of(definition),
        arguments: Vec::new(),
        input: None,
    };
    let operation = called(extension.clone(), one.name.clone(), call);
    changed(live, operation, server).await.map(|_refused| ())
}

/// Whether an entry could be allowed: with an approval, or with other arguments, is enough.
fn look(
    daemon: &Daemon,
    live: &Live,
    extension: &ExtensionFacts,
    one: &Listed,
    definition: Definition,
) -> Fate {
    let call = ToolCall {
        kind: one.kind,
        definition,
        hints: one.definition.as_ref().map(hints_of).unwrap_or_default(),
        arguments: Vec::new(),
        input: None,
    };
    if switched_off(daemon, live, &extension.id, &one.name).is_some() {
        return Fate::Hidden;
    }
    match live
        .gate()
        .review(called(extension.clone(), one.name.clone(), call))
    {
        Ok(_basis) => Fate::Shown,
        Err(deny) => match deny.verdict().reason {
            DenyReason::ApprovalRequired => Fate::Shown,
            DenyReason::DefaultDeny | DenyReason::Rule
                if one.kind == ToolKind::Tool
                    && !daemon.mcp.config().arguments(&extension.id).is_empty()
                    && reads_arguments(live) =>
            {
                Fate::Shown
            }
            _never => Fate::Hidden,
        },
    }
}

/// Whether a rule in force looks at arguments. The word in a comment is enough: then more is shown,
/// and each call is decided all the same.
fn reads_arguments(live: &Live) -> bool {
    let policy = live.gate().policy();
    let mut rules = policy.rules().iter();
    rules.any(|rule| rule.text.contains("arguments"))
}
