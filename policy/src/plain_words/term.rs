//! Values in words: what a condition compares.

use cedar_policy::Policy;
use serde_json::{Value, json};

use super::{
    condition::clause,
    entity::{exactly, named},
    list, quoted,
};

/// The operator of an expression and its arguments; every expression has exactly one.
pub(super) fn operator(body: &Value) -> Option<(&str, &Value)> {
    let (name, arguments) = body.as_object()?.iter().next()?;
    Some((name, arguments))
}

pub(super) fn term(body: &Value) -> String {
    let Some((operator, arguments)) = operator(body) else {
        return quoted(&source(body));
    };
    let binary = |word: &str| {
        format!(
            "{} {word} {}",
            term(&arguments["left"]),
            term(&arguments["right"])
        )
    };
    match operator {
        "Value" => literal(arguments),
        "Var" => match arguments.as_str() {
            Some("principal") => "the one who asks".into(),
            Some("action") => "the action".into(),
            Some("resource") => "it".into(),
            _context => "the context".into(),
        },
        "." => attribute(
            &arguments["left"],
            arguments["attr"].as_str().unwrap_or_default(),
        ),
        "getTag" => format!(
            "the tag {} of {}",
            term(&arguments["right"]),
            term(&arguments["left"])
        ),
        "+" => binary("plus"),
        "-" => binary("minus"),
        "*" => binary("times"),
        "neg" => format!("minus {}", term(&arguments["arg"])),
        "Set" => list(&items(body).unwrap_or_default(), "or"),
        "if-then-else" => format!(
            "({} if {}, otherwise {})",
            term(&arguments["then"]),
            clause(&arguments["if"], true),
            term(&arguments["else"]),
        ),
        "Record" | "Slot" | "Unknown" => quoted(&source(body)),
        _function => called(operator, arguments).unwrap_or_else(|| quoted(&source(body))),
    }
}

/// The members of a set that is written out.
pub(super) fn items(body: &Value) -> Option<Vec<String>> {
    if let Some(items) = body.get("Set").and_then(Value::as_array) {
        return Some(items.iter().map(term).collect());
    }
    let items = body.get("Value").and_then(Value::as_array)?;
    Some(items.iter().map(literal).collect())
}

/// Whether it is a moment, a date, or a time of day.
pub(super) fn is_time(body: &Value) -> bool {
    const FUNCTIONS: [&str; 6] = [
        "datetime",
        "duration",
        "offset",
        "toDate",
        "toTime",
        "durationSince",
    ];
    operator(body).is_some_and(|(name, arguments)| {
        FUNCTIONS.contains(&name)
            || (name == "." && arguments["attr"] == "time")
            || (name == "Value"
                && arguments.pointer("/__extn/fn").and_then(Value::as_str) == Some("datetime"))
    })
}

/// The expression as Cedar writes it.
pub(super) fn source(body: &Value) -> String {
    let rule = json!({
        "effect": "permit",
        "principal": { "op": "All" },
        "action": { "op": "All" },
        "resource": { "op": "All" },
        "conditions": [{ "kind": "when", "body": body }],
    });
    let text = Policy::from_json(None, rule)
        .ok()
        .and_then(|policy| policy.to_cedar())
        .unwrap_or_default();
    let inner = text
        .split_once('{')
        .and_then(|(_, rest)| rest.rsplit_once('}'))
        .map(|(inner, _)| inner.trim().to_owned());
    inner.unwrap_or_else(|| body.to_string())
}

fn literal(value: &Value) -> String {
    if let Some((name, id)) = value.get("__entity").and_then(named) {
        return exactly(name, id);
    }
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => list(&items.iter().map(literal).collect::<Vec<_>>(), "or"),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Null | Value::Object(_) => quoted(&source(&json!({ "Value": value }))),
    }
}

fn attribute(of: &Value, name: &str) -> String {
    let owner = of.get("Var").and_then(Value::as_str);
    let words = match (owner, name) {
        (Some("context"), "source") => "its source",
        (Some("context"), "name") => "its name inside",
        (Some("context"), "command") => "the program",
        (Some("context"), "kind") => "the kind of act",
        (Some("context"), "tls") => "the TLS facts",
        (Some("context"), other) => return format!("the {}", spaced(other)),
        (Some("resource"), "length") => "the length of its name",
        (Some("resource"), "labels") => "the number of its labels",
        (Some("resource"), "longest_label") => "the length of its longest label",
        (Some("resource"), "entropy") => "the entropy of its name",
        (Some("resource"), "ip") => "its address",
        (Some("resource"), other) => return format!("its {}", spaced(other)),
        (Some("principal"), other) => return format!("the session's {}", spaced(other)),
        (_, other) => return format!("the {} of {}", spaced(other), term(of)),
    };
    words.into()
}

/// An attribute's name as words, where it is one; it may be any text.
fn spaced(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.is_empty() && name.len() <= 40 && name.chars().all(plain) {
        name.replace('_', " ")
    } else {
        quoted(name)
    }
}

/// Functions of Cedar's extensions that are values.
fn called(function: &str, arguments: &Value) -> Option<String> {
    let argument = |at: usize| arguments.get(at).map(term);
    let first = argument(0)?;
    Some(match function {
        "ip" | "decimal" | "datetime" | "duration" => first,
        "offset" => format!("{first} plus {}", argument(1)?),
        "durationSince" => format!("the time from {} to {first}", argument(1)?),
        "toDate" => format!("the date of {first}"),
        "toTime" if first == "the time" => "the time of day (UTC)".into(),
        "toTime" => format!("the time of day of {first}"),
        "toMilliseconds" => format!("{first} in milliseconds"),
        "toSeconds" => format!("{first} in seconds"),
        "toMinutes" => format!("{first} in minutes"),
        "toHours" => format!("{first} in hours"),
        "toDays" => format!("{first} in days"),
        _other => return None,
    })
}
