//! Whether a rule speaks of HTTP requests, and not only of the network as a whole.
//!
//! One parsed rule in, yes or no out; rather too often than too seldom. Where no rule of a set does,
//! nobody looks for requests inside a tunnel: a set that permits the network decides them as it did
//! the tunnel, and one that permits no more than `connect` has let a tunnel be that, whatever is in
//! it.

use cedar_policy::ActionConstraint;

use super::Parsed;

/// What only a request has, in the words of its context, the name of its actions, and the action
/// itself: all but `connect` are requests too.
const OF_REQUESTS: [&str; 10] = [
    "\"Var\":\"action\"",
    "\"http",
    "\"method\"",
    "\"path\"",
    "\"scheme\"",
    "\"query_keys\"",
    "\"content_type\"",
    "\"content_length\"",
    "\"credential\"",
    "\"upgrade\"",
];

/// Whether it does.
pub(super) fn speaks_of(rule: &Parsed<'_>) -> bool {
    let is_open = match rule.policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(action) => return is_of_http(action.id().unescaped()),
        ActionConstraint::In(actions) => {
            let mut names = actions.iter().map(|action| action.id().unescaped());
            if names.any(is_of_http) {
                return true;
            }
            let mut names = actions.iter().map(|action| action.id().unescaped());
            names.any(|name| name == "network")
        }
    };
    is_open && rule.policy.has_non_scope_constraint() && conditions_speak(rule)
}

fn is_of_http(action: &str) -> bool {
    action == "http" || action.starts_with("http_")
}

fn conditions_speak(rule: &Parsed<'_>) -> bool {
    let conditions = rule.policy.to_json().ok();
    let conditions = conditions.as_ref().and_then(|json| json.get("conditions"));
    // What cannot be looked into may speak of anything.
    conditions.is_none_or(|conditions| {
        let text = conditions.to_string();
        OF_REQUESTS.iter().any(|word| text.contains(word))
    })
}
