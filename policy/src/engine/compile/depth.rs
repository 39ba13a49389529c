//! How deep a rule's expression is.
//!
//! Cedar's evaluator recurses, and refuses with an error when less than 100 KiB of stack are
//! left; an error in a `forbid` would skip it. The bound here keeps any accepted rule far from
//! that on the 2 MiB stack of an async worker; an error is a deny all the same.

use cedar_policy::Policy;
use serde_json::Value;

/// Most steps from the top of a condition to its deepest part. `a || b || c` counts two.
pub(crate) const MAX_STEPS: usize = 120;

/// Levels of Cedar's JSON form for one step: the operator, its side, its list.
const LEVELS_PER_STEP: usize = 2;

/// Whether the rule is deeper than may be evaluated. Every step costs a token at least, so only
/// long rules are looked at closely.
pub(super) fn is_too_deep(policy: &Policy, tokens: usize) -> bool {
    if tokens <= MAX_STEPS {
        return false;
    }
    policy
        .to_json()
        .map_or(true, |json| levels(&json) > MAX_STEPS * LEVELS_PER_STEP)
}

/// Nesting of a JSON value, by a loop.
fn levels(value: &Value) -> usize {
    let mut deepest = 0;
    let mut open = vec![(value, 1)];
    while let Some((value, level)) = open.pop() {
        deepest = deepest.max(level);
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, level + 1))),
            Value::Object(fields) => open.extend(fields.values().map(|item| (item, level + 1))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    deepest
}
