//! Rules in plain English, for people who read what a policy allows and do not write it.
//!
//! A rule in, a sentence out. Every construct of Cedar has words; what ever has none is shown as
//! its source. Text from rules is escaped and bounded. A sentence explains, it never decides.

mod actions;
mod allowed;
mod condition;
mod entity;
mod overview;
mod page;
mod term;

use cedar_policy::Policy;
use serde_json::Value;

pub use allowed::{Allowed, GroupShown, PermitInWords};
pub use overview::{GroupInWords, Overview, RuleInWords, Section};

use crate::{Rule, engine::compile::on_large_stack};

/// One rule as a sentence: `Sessions of group `developers` may open connections to the host
/// `git.example.com`, if the port is 22.`
pub fn rule(rule: &Rule) -> String {
    text(&rule.text)
}

/// The text of one rule as a sentence; the text itself where it is no rule.
pub fn text(cedar: &str) -> String {
    on_large_stack(|| parse(cedar).map(|policy| sentence(&policy)))
        .ok()
        .flatten()
        .unwrap_or_else(|| quoted(cedar))
}

/// The `when` and `unless` of Cedar's JSON form as words that stand on their own.
pub(crate) fn conditions(json: &Value) -> String {
    let text = condition::all(json);
    text.strip_prefix(", ").unwrap_or(&text).to_owned()
}

/// A rule's text in Cedar's JSON form; only for text that was within bounds when it was loaded.
fn parse(cedar: &str) -> Option<Value> {
    Policy::parse(None, cedar).ok()?.to_json().ok()
}

fn sentence(policy: &Value) -> String {
    let actions = actions::names(&policy["action"]);
    let may = policy["effect"] != "forbid";
    let who = entity::who(&policy["principal"], actions::Kind::of(&actions), may);
    let resource = |kind| entity::what(&policy["resource"], kind);
    let what = actions::phrase(&actions, resource, may);
    let conditions = condition::all(&policy["conditions"]);
    format!("{who} {what}{conditions}.")
}

/// Text of a rule as it may be shown anywhere: in back quotes, without what a terminal or a page
/// would act on, and bounded.
fn quoted(text: &str) -> String {
    const MAX_CHARS: usize = 300;
    let mut shown = String::from("`");
    for c in text.chars().take(MAX_CHARS) {
        match c {
            '`' => shown.push('\''),
            '"' | '\'' | '\\' => shown.push(c),
            '\n' | '\r' | '\t' => shown.push(' '),
            _other => shown.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(MAX_CHARS).is_some() {
        shown.push_str("...");
    }
    shown.push('`');
    shown
}

/// `a`, `b` and `c`.
fn list(items: &[String], last: &str) -> String {
    match items {
        [] => "nothing".into(),
        [only] => only.clone(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests;
