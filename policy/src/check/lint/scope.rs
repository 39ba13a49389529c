//! Scopes that match nothing, and conditions that never or always hold.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::{
    asked::Asked,
    rule::{Condition, Linted, Scope},
};
use crate::check::{Code, Finding, Findings, Severity};

/// Whether the rule never matches and a finding says why.
pub(super) fn lint(rule: &Linted<'_>, asked: &Asked, findings: &mut Findings) -> bool {
    let never_in_scope = never_in_scope(rule, asked);
    let is_never_in_scope = never_in_scope.is_some();
    if let Some(finding) = never_in_scope {
        findings.note(|| finding);
    }
    let is_never_true = conditions(rule, findings);
    is_never_in_scope || is_never_true
}

/// Says which part of the scope rules out every combination of types, and what to write.
fn never_in_scope(rule: &Linted<'_>, asked: &Asked) -> Option<Finding> {
    let environments = || {
        rule.actions
            .iter()
            .flat_map(|action| asked.environments_of(action))
    };
    let fits = |scope: &Scope, kind: &str| asked.can_match(scope, kind);
    if environments()
        .any(|env| fits(&rule.principal, &env.principal) && fits(&rule.resource, &env.resource))
    {
        return None;
    }
    let warn = |clause: &str, message: String, help: String| {
        let finding = rule.finding_in(Code::NeverInScope, Severity::Warning, clause, message);
        Some(finding.with_help(help))
    };
    if rule.actions.is_empty() {
        return warn(
            "action",
            "the rule's actions apply to nothing, so it never matches".into(),
            "`policies/cordon.cedarschema` lists the actions and what they apply to".into(),
        );
    }
    if !environments().any(|env| fits(&rule.principal, &env.principal)) {
        let kinds = list(environments().map(|env| env.principal.as_str()).collect());
        return warn(
            "principal",
            format!("the principal is a {kinds}, so the rule never matches"),
            within_instead(&rule.principal, "principal"),
        );
    }
    let kinds = list(environments().map(|env| env.resource.as_str()).collect());
    warn(
        "resource",
        format!(
            "the resource of {} is a {kinds}, so the rule never matches",
            actions(rule)
        ),
        within_instead(&rule.resource, "resource"),
    )
}

/// `==` on something that a request is in: the usual mistake, with what was meant.
fn within_instead(scope: &Scope, variable: &str) -> String {
    match (scope.exact, scope.named()) {
        (true, Some((kind @ ("User" | "Group" | "Agent" | "Platform"), id)))
            if variable == "principal" =>
        {
            format!("a session is in its {kind}: write `principal in {kind}::{id:?}`")
        }
        (true, Some((kind @ ("Domain" | "HostGroup" | "Network"), id))) => {
            format!("write `resource in {kind}::{id:?}`")
        }
        _ => "`policies/cordon.cedarschema` says what each action applies to".into(),
    }
}

/// Whether they are never true.
fn conditions(rule: &Linted<'_>, findings: &mut Findings) -> bool {
    let mut is_never_true = false;
    for condition in &rule.conditions {
        let keyword = if condition.unless { "unless" } else { "when" };
        match condition.body.get("Value").and_then(Value::as_bool) {
            Some(value) if value == condition.unless => {
                is_never_true = true;
                findings.note(|| {
                    let message = format!("`{keyword} {{ {value} }}` makes the rule do nothing");
                    rule.finding_in(Code::NeverTrue, Severity::Warning, keyword, message)
                        .with_help("take the rule out, or correct the condition")
                });
            }
            Some(value) => findings.note(|| {
                let message = format!("`{keyword} {{ {value} }}` changes nothing");
                let finding =
                    rule.finding_in(Code::AlwaysTrue, Severity::Warning, keyword, message);
                finding.with_help("take the condition out, or write the one that is meant")
            }),
            None => {}
        }
    }
    if let Some((attribute, one, other)) = contradiction(&rule.conditions) {
        is_never_true = true;
        findings.note(|| {
            let message = format!("{attribute} cannot be both {one} and {other}");
            let finding = rule.finding_in(Code::NeverTrue, Severity::Warning, "when", message);
            finding.with_help("write `||`, or `[a, b].contains(...)` for one of several values")
        });
    }
    is_never_true
}

/// Two `==` that must both hold, of one attribute with two literals.
fn contradiction(conditions: &[Condition]) -> Option<(String, Value, Value)> {
    let mut values: HashMap<String, (String, &Value)> = HashMap::new();
    let mut open: Vec<&Value> = conditions
        .iter()
        .filter(|condition| !condition.unless)
        .map(|condition| &condition.body)
        .collect();
    while let Some(body) = open.pop() {
        if let Some(both) = body.get("&&") {
            open.extend(["left", "right"].iter().filter_map(|side| both.get(side)));
            continue;
        }
        let Some((attribute, path, literal)) = body.get("==").and_then(equality) else {
            continue;
        };
        match values.get(&attribute) {
            Some((_, other)) if *other != literal => {
                return Some((path, literal.clone(), (*other).clone()));
            }
            Some(_) => {}
            None => {
                values.insert(attribute, (path, literal));
            }
        }
    }
    None
}

/// `context.port == 443`, either way round: the attribute, how it is written, and the literal.
fn equality(sides: &Value) -> Option<(String, String, &Value)> {
    let (left, right) = (sides.get("left")?, sides.get("right")?);
    let (attribute, literal) = match (left.get("Value"), right.get("Value")) {
        (None, Some(literal)) => (left, literal),
        (Some(literal), None) => (right, literal),
        _ => return None,
    };
    let access = attribute.get(".")?;
    let variable = access.get("left")?.get("Var")?.as_str()?;
    let name = access.get("attr")?.as_str()?;
    Some((
        attribute.to_string(),
        format!("`{variable}.{name}`"),
        literal,
    ))
}

/// The rule's actions, as a sentence has them.
fn actions(rule: &Linted<'_>) -> String {
    let names = rule.actions.iter().map(String::as_str).collect();
    format!(
        "`{}`",
        list(names).replace(" or ", "` or `").replace(", ", "`, `")
    )
}

/// `a`, `a or b`, `a, b or c`.
fn list(names: BTreeSet<&str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
