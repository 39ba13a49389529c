//! Which rules look at what their session did before, and for which labels.
//!
//! Parsed rules in; what each looks at, and findings where it looks for a label that nothing gives,
//! out. Goes by the rule's own expressions: a rule that is missed here would get an answer that was
//! kept from before.

use serde_json::Value;

use super::Parsed;
use crate::{
    check::{Code, Findings},
    engine::labels::Labels,
};

/// What one rule looks at.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Look {
    /// Whether that is what the session did before.
    pub(super) at_past: bool,
    /// The labels that it names.
    labels: Vec<String>,
}

/// What each rule looks at, in their order.
pub(super) fn looks(parsed: &[Parsed<'_>]) -> Vec<Look> {
    parsed.iter().map(Look::of).collect()
}

/// Checks that something gives the labels that rules look for: a `forbid` on one that is misspelt
/// would silently not fire.
pub(super) fn check(
    parsed: &[Parsed<'_>],
    looks: &[Look],
    labels: &Labels,
    findings: &mut Findings,
) {
    if looks.iter().all(|look| look.labels.is_empty()) {
        return;
    }
    let by_rule = |name: &str| {
        parsed.iter().any(|rule| {
            let given = rule.terms.obligations.iter();
            let mut given = given.filter(|obligation| &*obligation.name == "label");
            given.any(|label| crate::labels_in(&label.value).any(|label| label == name))
        })
    };
    for (rule, look) in parsed.iter().zip(looks) {
        for name in &look.labels {
            if labels.are_there(name) || by_rule(name) {
                continue;
            }
            findings.error(|| {
                rule.finding(format!("nothing gives the label {name:.100?}"))
                    .with_code(Code::UnknownLabel)
                    .with_help(
                        "give it under `[labels.NAME]` in a `.toml` file, or by `@label(\"NAME\")` \
                         on a `permit`",
                    )
            });
        }
    }
}

/// Attributes of the context that hold it.
const PAST: [&str; 2] = ["session", "destination"];

impl Look {
    fn of(rule: &Parsed<'_>) -> Self {
        let text = rule.text();
        // A name stands there as it is, or with an escape.
        let may = text.contains("context")
            && (text.contains('\\') || PAST.iter().any(|name| text.contains(name)));
        if !may {
            return Self::default();
        }
        let json = rule.policy.to_json().ok();
        let conditions = json.as_ref().and_then(|json| json.get("conditions"));
        // What cannot be looked into may look at anything.
        conditions.map(Self::in_conditions).unwrap_or(Self {
            at_past: true,
            labels: Vec::new(),
        })
    }

    /// By a loop, so that depth costs no stack.
    fn in_conditions(conditions: &Value) -> Self {
        let mut look = Self::default();
        let mut open = vec![conditions];
        while let Some(value) = open.pop() {
            match value {
                Value::Array(items) => open.extend(items),
                Value::Object(fields) => {
                    for (operator, arguments) in fields {
                        match operator.as_str() {
                            "." | "has" if is_context(&arguments["left"]) => {
                                look.at_past |= names_past(&arguments["attr"]);
                            }
                            // The context as a whole.
                            "Var" if arguments == "context" => look.at_past = true,
                            _ => {
                                look.note_labels(operator, arguments);
                                open.push(arguments);
                            }
                        }
                    }
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        look
    }

    fn note_labels(&mut self, operator: &str, arguments: &Value) {
        if !matches!(
            operator,
            "contains" | "containsAll" | "containsAny" | "==" | "!="
        ) {
            return;
        }
        let (left, right) = (&arguments["left"], &arguments["right"]);
        for (set, other) in [(left, right), (right, left)] {
            if is_labels(set) {
                self.labels.extend(texts(other));
            }
        }
    }
}

fn is_context(value: &Value) -> bool {
    value["Var"] == "context"
}

fn names_past(attribute: &Value) -> bool {
    attribute.as_str().is_none_or(|name| PAST.contains(&name))
}

/// `context.session.labels`.
fn is_labels<'a>(value: &'a Value) -> bool {
    let attribute = |value: &'a Value, name: &str| {
        let read = value.get(".")?;
        read.get("left")
            .filter(|_| read.get("attr").is_some_and(|attr| attr == name))
    };
    attribute(value, "labels")
        .and_then(|session| attribute(session, "session"))
        .is_some_and(is_context)
}

/// A text, or the texts of a set.
fn texts(value: &Value) -> Vec<String> {
    let items = value["Set"].as_array();
    let one = std::slice::from_ref(value);
    let texts = items.map_or(one, Vec::as_slice).iter();
    texts
        .filter_map(|item| Some(item["Value"].as_str()?.to_owned()))
        .collect()
}
