//! A decision of the API as the relay takes it.

use cordon_runtime::mcp::Ruling;
use serde_json::{Value, json};

/// What was decided. Anything but `allowed: true` is a refusal.
pub fn ruling(told: Value) -> Ruling {
    if told.get("allowed") == Some(&Value::Bool(true)) {
        return Ruling::Allowed;
    }
    let reason = told.get("reason").and_then(Value::as_str);
    let reason = reason.unwrap_or("policy does not allow it").to_owned();
    let mut data = told;
    if let Some(fields) = data.as_object_mut() {
        fields.remove("allowed");
        let how = match fields.remove("allow_with") {
            Some(Value::String(rule)) => format!("a rule that would allow it: {rule}"),
            _none => "ask whoever writes the policy".into(),
        };
        fields.entry("how").or_insert(Value::from(how));
    }
    Ruling::Refused { reason, data }
}

/// Nothing is done that is not decided.
pub fn undecided(why: String) -> Ruling {
    let data = json!({
        "code": "undecided",
        "reason": why,
        "how": "`cordon status` says how the daemon does",
    });
    Ruling::Refused {
        reason: format!("it cannot be decided: {why}"),
        data,
    }
}
