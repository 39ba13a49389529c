//! Conditions in words: what makes a rule match.
//!
//! Cedar's JSON form of an expression in, a clause out, either as it stands or denied.

use serde_json::Value;

use super::{
    actions::Kind,
    entity::{self, named},
    list, quoted,
    term::{self, is_time, term},
};

/// All `when` and `unless` of a rule, with what joins them to the sentence.
pub(super) fn all(conditions: &Value) -> String {
    let of = |kind: &str| -> Vec<String> {
        conditions
            .as_array()
            .into_iter()
            .flatten()
            .filter(|condition| condition["kind"] == kind)
            .map(|condition| clause(&condition["body"], true))
            .collect()
    };
    let (when, unless) = (of("when"), of("unless"));
    let mut text = String::new();
    if !when.is_empty() {
        text.push_str(", if ");
        text.push_str(&when.join(" and "));
    }
    if !unless.is_empty() {
        text.push_str(", unless ");
        text.push_str(&unless.join(" or "));
    }
    text
}

/// One clause; with `holds` false, its contrary.
pub(super) fn clause(body: &Value, holds: bool) -> String {
    let Some((operator, arguments)) = term::operator(body) else {
        return source(body, holds);
    };
    let (left, right) = (&arguments["left"], &arguments["right"]);
    match operator {
        "Value" => match arguments.as_bool() {
            Some(value) if value == holds => "always".into(),
            Some(_) => "never".into(),
            None => source(body, holds),
        },
        "!" => clause(&arguments["arg"], !holds),
        "&&" | "||" => joined(body, operator, holds),
        "==" => equal(left, right, holds),
        "!=" => equal(left, right, !holds),
        "in" => within(left, right, holds),
        "<" | "<=" | ">" | ">=" => compared(left, operator, right, holds),
        "contains" => contains(left, right, holds),
        "containsAll" => format!("{} {} all of {}", term(left), has(holds), set(right, "and")),
        "containsAny" => format!("{} {} any of {}", term(left), has(holds), set(right, "or")),
        "isEmpty" => format!("{} {} empty", term(&arguments["arg"]), is(holds)),
        "has" => known(left, &arguments["attr"], holds),
        "hasTag" => format!("{} {} a tag {}", term(left), has(holds), term(right)),
        "like" => like(left, &arguments["pattern"], holds),
        "is" => is_a(arguments, holds),
        "if-then-else" => format!(
            "{}(where {}: {}; otherwise: {})",
            if holds { "" } else { "not " },
            clause(&arguments["if"], true),
            clause(&arguments["then"], true),
            clause(&arguments["else"], true),
        ),
        "." | "getTag" => format!("{} {} true", term(body), is(holds)),
        _function => called(operator, arguments, holds).unwrap_or_else(|| source(body, holds)),
    }
}

fn is(holds: bool) -> &'static str {
    if holds { "is" } else { "is not" }
}

fn has(holds: bool) -> &'static str {
    if holds { "has" } else { "does not have" }
}

/// A chain of one operator, flat; another chain inside it in brackets.
fn joined(body: &Value, operator: &str, holds: bool) -> String {
    let mut parts = Vec::new();
    let mut open = vec![body];
    while let Some(next) = open.pop() {
        match next.get(operator) {
            Some(arguments) => {
                open.push(&arguments["right"]);
                open.push(&arguments["left"]);
            }
            None => parts.push(next),
        }
    }
    let other = if operator == "&&" { "||" } else { "&&" };
    let parts: Vec<String> = parts
        .iter()
        .map(|part| {
            let text = clause(part, true);
            if part.get(other).is_some() {
                format!("({text})")
            } else {
                text
            }
        })
        .collect();
    let text = parts.join(if operator == "&&" { " and " } else { " or " });
    match (holds, operator) {
        (true, _) => text,
        (false, _) => format!("it is not so that ({text})"),
    }
}

fn equal(left: &Value, right: &Value, holds: bool) -> String {
    for (literal, other) in [(right, left), (left, right)] {
        if let Some(value) = literal.get("Value").and_then(Value::as_bool) {
            return clause(other, value == holds);
        }
    }
    format!("{} {} {}", term(left), is(holds), term(right))
}

fn within(left: &Value, right: &Value, holds: bool) -> String {
    let not = if holds { "" } else { " not" };
    let subject = left.get("Var").and_then(Value::as_str);
    let places = match right.get("Set").and_then(Value::as_array) {
        Some(items) => items.iter().collect(),
        None => vec![right],
    };
    let place = |entity: &Value| -> String {
        let literal = entity.get("Value").and_then(|value| value.get("__entity"));
        match (literal.and_then(named), subject) {
            (Some((name @ ("User" | "Group"), id)), Some("principal")) => {
                format!("of {} {}", name.to_lowercase(), quoted(id))
            }
            (Some(("Agent", id)), Some("principal")) => format!("with agent {}", quoted(id)),
            (Some(("HostGroup", id)), _) => format!("in host group {}", quoted(id)),
            (Some((name @ ("Domain" | "Folder"), id)), _) => {
                let _same_for_both = name;
                format!("{} or below it", quoted(id))
            }
            (Some((name, id)), _) => format!("in {}", entity::within(name, id, Kind::Several)),
            (None, _) => format!("in {}", term(entity)),
        }
    };
    let places: Vec<String> = places.into_iter().map(place).collect();
    format!("{} is{not} {}", term(left), list(&places, "or"))
}

fn compared(left: &Value, operator: &str, right: &Value, holds: bool) -> String {
    let operator = match (operator, holds) {
        (same, true) => same,
        ("<", false) => ">=",
        ("<=", false) => ">",
        (">", false) => "<=",
        (_least, false) => "<",
    };
    let words = match (operator, is_time(left) || is_time(right)) {
        ("<", false) => "less than",
        ("<=", false) => "at most",
        (">", false) => "more than",
        (_least, false) => "at least",
        ("<", true) => "before",
        ("<=", true) => "at or before",
        (">", true) => "after",
        (_from, true) => "at or after",
    };
    format!("{} is {words} {}", term(left), term(right))
}

/// `["a", "b"].contains(x)` is read as "x is a or b".
fn contains(set_of: &Value, item: &Value, holds: bool) -> String {
    if term::items(set_of).is_none() {
        let verb = if holds { "contains" } else { "does not contain" };
        return format!("{} {verb} {}", term(set_of), term(item));
    }
    let neither = if holds { "is" } else { "is none of" };
    format!("{} {neither} {}", term(item), set(set_of, "or"))
}

fn set(value: &Value, last: &str) -> String {
    match term::items(value) {
        Some(items) => list(&items, last),
        None => term(value),
    }
}

fn known(left: &Value, attribute: &Value, holds: bool) -> String {
    let path: Vec<&str> = match attribute {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _none => Vec::new(),
    };
    let subject = left.get("Var").and_then(Value::as_str);
    match (subject, path.as_slice(), holds) {
        (Some("context"), ["approval"], true) => "a person has approved it".into(),
        (Some("context"), ["approval"], false) => "nobody has approved it".into(),
        (Some("principal"), ["agent"], true) => "the session has an agent profile".into(),
        (Some("principal"), ["agent"], false) => "the session has no agent profile".into(),
        (Some("context"), path, _) => format!("{} {} known", quoted(&path.join(".")), is(holds)),
        (_, path, _) => format!("{} {} {}", term(left), has(holds), quoted(&path.join("."))),
    }
}

fn like(left: &Value, pattern: &Value, holds: bool) -> String {
    let mut pieces = vec![String::new()];
    for element in pattern.as_array().into_iter().flatten() {
        match (element["Literal"].as_str(), pieces.last_mut()) {
            (Some(text), Some(piece)) => piece.push_str(text),
            _wildcard => pieces.push(String::new()),
        }
    }
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let (yes, no, text) = match pieces.as_slice() {
        [whole] => ("is", "is not", (*whole).to_owned()),
        [start, ""] => ("begins with", "does not begin with", (*start).to_owned()),
        ["", end] => ("ends with", "does not end with", (*end).to_owned()),
        ["", middle, ""] => ("has in it", "does not have in it", (*middle).to_owned()),
        several => ("is like", "is not like", several.join("*")),
    };
    let verb = if holds { yes } else { no };
    format!("{} {verb} {}", term(left), quoted(&text))
}

fn is_a(arguments: &Value, holds: bool) -> String {
    let name = arguments["entity_type"].as_str().unwrap_or_default();
    let type_name = match name {
        "Host" => "a host name".to_owned(),
        "Address" => "an address by number".to_owned(),
        other => format!("of type {}", quoted(other)),
    };
    let text = format!("{} {} {type_name}", term(&arguments["left"]), is(holds));
    match arguments.get("in").filter(|place| !place.is_null()) {
        Some(place) if holds => {
            format!("{text} and {}", within(&arguments["left"], place, true))
        }
        Some(place) => format!("{text} or {}", within(&arguments["left"], place, false)),
        None => text,
    }
}

/// Functions of Cedar's extensions that are true or false.
fn called(function: &str, arguments: &Value, holds: bool) -> Option<String> {
    let first = term(arguments.get(0)?);
    let second = arguments.get(1).map(term).unwrap_or_default();
    let is = is(holds);
    Some(match function {
        "isInRange" => format!("{first} {is} in {second}"),
        "isIpv4" => format!("{first} {is} an IPv4 address"),
        "isIpv6" => format!("{first} {is} an IPv6 address"),
        "isLoopback" => format!("{first} {is} a loopback address"),
        "isMulticast" => format!("{first} {is} a multicast address"),
        "lessThan" => format!("{first} {is} less than {second}"),
        "lessThanOrEqual" => format!("{first} {is} at most {second}"),
        "greaterThan" => format!("{first} {is} more than {second}"),
        "greaterThanOrEqual" => format!("{first} {is} at least {second}"),
        _other => return None,
    })
}

/// What has no words, as Cedar.
fn source(body: &Value, holds: bool) -> String {
    let text = quoted(&term::source(body));
    if holds {
        format!("{text} holds")
    } else {
        format!("{text} does not hold")
    }
}
