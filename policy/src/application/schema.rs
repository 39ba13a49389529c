//! The schema of an application: one namespace, complete by itself.
//!
//! Text in, Cedar's schema and the names of its attributes out. Because nothing of Cordon's schema
//! is joined to it, it can neither change nor even name what Cordon decides about.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Schema, SchemaFragment};
use serde_json::{Map, Value};

use crate::engine::bounds::{MAX_NESTING, Token, next_token};

/// A schema, and what its types have.
pub(super) struct Own {
    pub(super) schema: Schema,
    /// Attributes of each entity type, by its name within the namespace.
    pub(super) types: BTreeMap<String, Attributes>,
    /// Attributes of the context of each action that can be asked about.
    pub(super) actions: BTreeMap<String, Attributes>,
}

/// Names of attributes; `None` where they cannot be told, so that any may be there.
pub(super) type Attributes = Option<BTreeSet<String>>;

/// Reads the schema of a namespace.
///
/// # Errors
/// The byte offset of what is wrong where that is known, and what it is.
pub(super) fn read(text: &str, namespace: &str) -> Result<Own, (usize, String)> {
    check_depth(text)?;
    let whole = |why: String| (0, why);
    let (fragment, _warnings) = SchemaFragment::from_cedarschema_str(text).map_err(|error| {
        let label = miette::Diagnostic::labels(&error).and_then(|mut labels| labels.next());
        (label.map_or(0, |label| label.offset()), error.to_string())
    })?;
    let json = fragment.clone().to_json_value();
    let json = json.map_err(|error| whole(error.to_string()))?;
    let declared = json.as_object().into_iter().flatten();
    let names: Vec<&str> = declared
        .filter(|(name, body)| !name.is_empty() || declares(body))
        .map(|(name, _)| name.as_str())
        .collect();
    if names.contains(&"") {
        let why = "something stands outside of a namespace, where Cordon's own names are";
        return Err(whole(format!(
            "{why}; put it into `namespace {namespace} {{ ... }}`"
        )));
    }
    if names != [namespace] {
        let found = names.join("`, `");
        return Err(whole(format!(
            "it has to declare the namespace `{namespace}` alone, and declares `{found}`"
        )));
    }
    if namespace.split("::").next() == Some("Cordon") {
        return Err(whole(
            "the namespace `Cordon` is kept for Cordon itself".into(),
        ));
    }
    let schema = Schema::from_schema_fragments([fragment]);
    let schema = schema.map_err(|error| whole(error.to_string()))?;
    let body = json.get(namespace).and_then(Value::as_object);
    let body = body.ok_or_else(|| whole("the namespace is empty".into()))?;
    Ok(Own {
        schema,
        types: types(body),
        actions: actions(body),
    })
}

/// Whether a namespace has anything in it.
fn declares(body: &Value) -> bool {
    let mut parts = body.as_object().into_iter().flatten();
    parts.any(|(_, part)| !part.as_object().is_some_and(Map::is_empty))
}

fn types(body: &Map<String, Value>) -> BTreeMap<String, Attributes> {
    let declared = body.get("entityTypes").and_then(Value::as_object);
    let declared = declared.into_iter().flatten();
    declared
        .map(|(name, kind)| (name.clone(), attributes(body, kind.get("shape"))))
        .collect()
}

fn actions(body: &Map<String, Value>) -> BTreeMap<String, Attributes> {
    let declared = body.get("actions").and_then(Value::as_object);
    let declared = declared.into_iter().flatten();
    declared
        .filter_map(|(name, action)| {
            // One without it is a group: it can be named in rules, and not be asked about.
            let applies = action
                .get("appliesTo")
                .filter(|applies| !applies.is_null())?;
            Some((name.clone(), attributes(body, applies.get("context"))))
        })
        .collect()
}

/// The attributes of a record, through the names that stand for one.
fn attributes(body: &Map<String, Value>, shape: Option<&Value>) -> Attributes {
    let Some(mut shape) = shape else {
        return Some(BTreeSet::new());
    };
    // Cedar has refused names that stand for each other in a circle.
    for _step in 0..MAX_NESTING {
        if let Some(found) = shape.get("attributes").and_then(Value::as_object) {
            return Some(found.keys().cloned().collect());
        }
        let name = shape.get("name").or_else(|| shape.get("type"))?.as_str()?;
        let name = name.rsplit("::").next()?;
        shape = body.get("commonTypes")?.get(name)?;
    }
    None
}

/// Cedar's parser recurses without a guard.
pub(crate) fn check_depth(text: &str) -> Result<(), (usize, String)> {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some((kind, length)) = next_token(text.get(at..).unwrap_or_default()) {
        let sign = text.get(at..at + length).unwrap_or_default();
        match kind {
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            Token::Other if sign == "<" => depth += 1,
            Token::Other if sign == ">" => depth = depth.saturating_sub(1),
            Token::Gap | Token::Semicolon | Token::Word | Token::Other => {}
        }
        if depth > MAX_NESTING {
            return Err((
                at,
                format!("brackets are nested more than {MAX_NESTING} deep"),
            ));
        }
        at += length;
    }
    Ok(())
}
