//! `cordon decide`: asks whether a running session may do something, and has the answer recorded.

use std::time::Duration;

use clap::Args;
use cordon_policy::ask;
use hyper::Method;
use serde_json::{Value, json};

use super::{Format, api, connect, exit};
use crate::{
    control::{Answer, Ask, SessionAnswer, SessionAsk},
    error::Failure,
    paths::Paths,
};

/// Options of `cordon decide`.
#[derive(Debug, Args)]
#[command(after_help = forms())]
pub struct DecideArgs {
    /// The running session that asks: its id, or a unique beginning of it
    #[arg(long, value_name = "ID", env = "CORDON_SESSION")]
    session: String,
    /// Only look: nothing is done after it, so nothing is recorded
    #[arg(long)]
    look: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The request in words, for example `connect api.example.com:443`
    #[arg(required = true, trailing_var_arg = true, value_name = "REQUEST")]
    request: Vec<String>,
}

fn forms() -> String {
    format!(
        "Requests:\n  {}\n\nExit codes: 0 allowed, 3 denied. `cordon session list` shows the \
         running sessions;\n`cordon policy explain` asks a policy without one.",
        ask::FORMS.join("\n  ")
    )
}

/// Does it. Exit 0 when it is allowed, 3 when it is not.
pub fn decide(args: &DecideArgs) -> Result<u8, Failure> {
    let id = whole_id(&args.session)?;
    let body = json!({"ask": args.request, "look": args.look});
    let path = format!("/v1/sessions/{id}/decisions");
    let reply = api::ask(
        &Method::POST,
        &path,
        body.to_string().into_bytes(),
        DEADLINE,
    )?;
    if reply.status != 200 {
        return Err(reply.failure());
    }
    let told = &reply.body;
    let allowed = told.get("allowed") == Some(&Value::Bool(true));
    match args.format {
        Format::Json => println!("{told}"),
        Format::Text => print!("{}", as_text(told, allowed)),
    }
    Ok(if allowed { 0 } else { exit::DENIED })
}

/// The whole id of the one running session that begins so.
fn whole_id(session: &str) -> Result<String, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let help = "`cordon session list` shows the running sessions";
    let Some(mut client) = connect::reach_running(&paths)? else {
        return Err(Failure::new("no daemon runs, so no session does")
            .help(help)
            .usage());
    };
    let show = Ask::Session(SessionAsk::Show {
        session: session.into(),
    });
    match client.ask(&show)? {
        Answer::Session(SessionAnswer::Show(shown)) => Ok(shown.session),
        _other => Err(Failure::new("the daemon answered something unexpected")),
    }
}

fn as_text(told: &Value, allowed: bool) -> String {
    let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut out = format!(
        "{}: {}\n",
        if allowed { "allowed" } else { "denied" },
        text("reason")
    );
    let rules = told.get("rules").and_then(Value::as_array);
    let rules: Vec<&str> = rules
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let approval = told.pointer("/approval/id").and_then(Value::as_str);
    let optional = [
        ("rules", rules.join(", ")),
        ("path", text("path").to_owned()),
        ("decision", text("decision_id").to_owned()),
        (
            "approve with",
            approval.map_or_else(String::new, |id| format!("cordon approve {id}")),
        ),
        ("allow with", text("allow_with").to_owned()),
    ];
    for (name, value) in optional.iter().filter(|(_, value)| !value.is_empty()) {
        out.push_str(&format!("  {name}: {value}\n"));
    }
    out
}

/// Longer than the daemon takes at most.
const DEADLINE: Duration = Duration::from_secs(15);
