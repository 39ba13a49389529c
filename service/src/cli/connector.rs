//! `cordon connector`: services of the configuration, and which a session may use.

use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::{Format, api, decide::details, exit};
use crate::error::Failure;

/// What to do with connectors.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Those of the configuration, with their scopes
    List(ListArgs),
    /// Enable one in a running session, with the scopes that are named and no others
    Enable(EnableArgs),
    /// Disable one in a running session, at once
    Disable(DisableArgs),
}

/// Options of `cordon connector list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// A running session, to say what is enabled in it
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Options of `cordon connector enable`.
#[derive(Debug, Args)]
pub struct EnableArgs {
    /// The connector
    name: String,
    /// The running session: its id, or a unique beginning of it
    #[arg(long, value_name = "ID", env = "CORDON_SESSION")]
    session: String,
    /// A scope; can be given several times
    #[arg(long, value_name = "SCOPE", required = true)]
    scope: Vec<String>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Options of `cordon connector disable`.
#[derive(Debug, Args)]
pub struct DisableArgs {
    /// The connector
    name: String,
    /// The running session: its id, or a unique beginning of it
    #[arg(long, value_name = "ID", env = "CORDON_SESSION")]
    session: String,
}

/// Does it.
pub fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::List(args) => list(&args),
        Command::Enable(args) => enable(&args),
        Command::Disable(args) => disable(&args),
    }
}

fn list(args: &ListArgs) -> Result<u8, Failure> {
    let path = match &args.session {
        None => "/v1/connectors".to_owned(),
        Some(session) => format!("/v1/sessions/{}/connectors", api::session(session)?),
    };
    let all = send(&Method::GET, &path, &Value::Null)?;
    match args.format {
        Format::Json => println!("{all}"),
        Format::Text => {
            let all = all.as_array().map(Vec::as_slice).unwrap_or_default();
            if all.is_empty() {
                println!("no connector: `[connectors]` in the configuration names them");
            }
            for one in all {
                print!("{}", as_text(one, args.session.is_some()));
            }
        }
    }
    Ok(0)
}

fn enable(args: &EnableArgs) -> Result<u8, Failure> {
    let path = place(&args.session, &args.name)?;
    let answer = send(&Method::PUT, &path, &json!({"scopes": args.scope}))?;
    let allowed = answer.get("allowed") == Some(&Value::Bool(true));
    match args.format {
        Format::Json => println!("{answer}"),
        Format::Text => {
            let connector = answer.get("connector").cloned().unwrap_or_default();
            print!("{}", line(&args.name, &connector));
            let scopes = answer.get("scopes").and_then(Value::as_object);
            for (scope, told) in scopes.into_iter().flatten() {
                print!("{}", line(&format!("{}/{scope}", args.name), told));
            }
            if !allowed {
                println!("nothing was changed");
            }
        }
    }
    Ok(if allowed { 0 } else { exit::DENIED })
}

fn disable(args: &DisableArgs) -> Result<u8, Failure> {
    send(
        &Method::DELETE,
        &place(&args.session, &args.name)?,
        &json!({}),
    )?;
    println!("disabled {}", args.name.escape_debug());
    Ok(0)
}

fn place(session: &str, connector: &str) -> Result<String, Failure> {
    let (session, connector) = (api::session(session)?, segment(connector)?);
    Ok(format!("/v1/sessions/{session}/connectors/{connector}"))
}

/// A part of a path that needs no escaping.
fn segment(text: &str) -> Result<&str, Failure> {
    crate::daemon::server_name(text)
        .map(|()| text)
        .map_err(|_unusable| Failure::new(format!("`{}` is no name", text.escape_debug())).usage())
}

fn send(method: &Method, path: &str, body: &Value) -> Result<Value, Failure> {
    api::send(method, path, body, DEADLINE)
}

fn line(what: &str, told: &Value) -> String {
    let allowed = told.get("allowed") == Some(&Value::Bool(true));
    let word = if allowed { "allowed" } else { "denied" };
    let reason = told
        .get("reason")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let details = match allowed {
        true => String::new(),
        false => details(told),
    };
    format!(
        "{word} {}: {}\n{details}",
        what.escape_debug(),
        reason.escape_debug()
    )
}

fn as_text(one: &Value, in_session: bool) -> String {
    let text = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
    let enabled = one.get("enabled").and_then(Value::as_array);
    let state = match (in_session, enabled) {
        (false, _) => "",
        (true, None) => "  (not enabled)",
        (true, Some(_)) => "  (enabled)",
    };
    let mut out = format!(
        "{}{state}\n  {} {}\n",
        text("name").escape_debug(),
        text("kind"),
        text("description").escape_debug()
    );
    let scopes = one.get("scopes").and_then(Value::as_object);
    for (scope, what) in scopes.into_iter().flatten() {
        let is_on = enabled.is_some_and(|all| all.iter().any(|on| on == scope.as_str()));
        let mark = if is_on { "*" } else { " " };
        let what = what.as_str().unwrap_or_default();
        out.push_str(&format!(
            "  {mark} {}  {}\n",
            scope.escape_debug(),
            what.escape_debug()
        ));
    }
    out
}

/// Longer than the daemon takes at most for a few decisions.
const DEADLINE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_enabled_in_a_session_is_marked() {
        let mut one = json!({"name": "tracker", "kind": "mcp", "description": "Issues",
            "scopes": {"read": "Read\u{7}", "write": "Write"}});
        assert!(as_text(&one, true).starts_with("tracker  (not enabled)\n"));
        one["enabled"] = json!(["read"]);
        let shown = as_text(&one, true);
        assert!(shown.contains("* read  Read\\u{7}\n    write"), "{shown}");
    }
}
