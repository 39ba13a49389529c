//! `cordon decide`: asks whether a running session may do something, and has the answer recorded.

use std::time::Duration;

use clap::Args;
use cordon_audit::escape;
use cordon_policy::ask;
use hyper::Method;
use serde_json::{Value, json};

use super::{Format, api, exit};
use crate::error::Failure;

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
    let id = api::session(&args.session)?;
    let body = json!({"ask": args.request, "look": args.look});
    let path = format!("/v1/sessions/{id}/decisions");
    let told = &api::send(&Method::POST, &path, &body, DEADLINE)?;
    let allowed = told.get("allowed") == Some(&Value::Bool(true));
    match args.format {
        Format::Json => println!("{told}"),
        Format::Text => print!("{}", as_text(told, allowed)),
    }
    Ok(if allowed { 0 } else { exit::DENIED })
}

/// What was decided, and what can be done about it.
pub fn as_text(told: &Value, allowed: bool) -> String {
    let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or_default();
    let word = if allowed { "allowed" } else { "denied" };
    format!("{word}: {}\n{}", escape(text("reason")), details(told))
}

/// Rules, record, and what could be done, a line each.
pub fn details(told: &Value) -> String {
    let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or_default();
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
    let there = optional.iter().filter(|(_, value)| !value.is_empty());
    there
        .map(|(name, value)| format!("  {name}: {}\n", escape(value)))
        .collect()
}

/// Longer than the daemon takes at most.
const DEADLINE: Duration = Duration::from_secs(15);
