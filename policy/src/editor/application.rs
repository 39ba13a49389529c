//! What can stand at the cursor in the rules of an application.
//!
//! Its schema and entities in, proposals out. A schema that cannot be read proposes nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    complete::{Before, Completion, CompletionKind, KEYWORDS, annotations},
    token::{actions_of, tokens},
};
use crate::application::check_depth;

/// The names of an application.
#[derive(Clone, Debug, Default)]
pub struct Names {
    namespace: String,
    types: BTreeMap<String, Attributes>,
    actions: BTreeMap<String, Action>,
    /// Ids of its entities, by type.
    ids: BTreeMap<String, BTreeSet<String>>,
}

/// Attributes with their types.
type Attributes = BTreeMap<String, String>;

#[derive(Clone, Debug, Default)]
struct Action {
    principals: Vec<String>,
    resources: Vec<String>,
    context: Attributes,
}

/// Most proposals of one kind.
const MOST: usize = 500;

impl Names {
    /// Of an application with this schema and these entities; none where the schema cannot be read.
    pub fn read(schema: &str, entities: &str) -> Option<Self> {
        check_depth(schema).ok()?;
        let (schema, _warnings) =
            cedar_policy::schema_str_to_json_with_resolved_types(schema).ok()?;
        let (namespace, declared) = schema
            .as_object()?
            .iter()
            .find(|(name, _)| !name.is_empty())?;
        let bare = |name: &str| name.rsplit("::").next().unwrap_or(name).to_owned();
        let mut names = Self {
            namespace: namespace.clone(),
            ..Self::default()
        };
        for (name, kind) in fields(declared.get("entityTypes")) {
            let attributes = attributes(kind.get("shape"));
            names.types.insert(name.clone(), attributes);
        }
        for (name, action) in fields(declared.get("actions")) {
            let to = action.get("appliesTo");
            let kinds = |key: &str| -> Vec<String> {
                let kinds = to.and_then(|to| to.get(key)).and_then(Value::as_array);
                let kinds = kinds.into_iter().flatten().filter_map(Value::as_str);
                kinds.map(bare).collect()
            };
            let action = Action {
                principals: kinds("principalTypes"),
                resources: kinds("resourceTypes"),
                context: attributes(to.and_then(|to| to.get("context"))),
            };
            names.actions.insert(name.clone(), action);
        }
        let entities: Value = serde_json::from_str(entities).unwrap_or_default();
        for entity in entities.as_array().into_iter().flatten() {
            let field = |name: &str| entity.get("uid")?.get(name)?.as_str();
            if let (Some(kind), Some(id)) = (field("type"), field("id")) {
                names.ids.entry(bare(kind)).or_default().insert(id.into());
            }
        }
        Some(names)
    }

    /// Proposes what can stand at a byte offset of the rules.
    pub fn complete(&self, text: &str, offset: usize) -> Vec<Completion> {
        let all = tokens(text);
        let before = Before::of(&all, offset);
        match before.last {
            (_, "@") => annotations().into_iter().filter(is_of_rules).collect(),
            (namespace, "::") if namespace == self.namespace => self.kinds(""),
            (kind, "::") => self.ids(kind, before.is_quoted),
            (variable, ".") => self.attributes(variable, &actions_of(before.rule)),
            _ if before.is_quoted => Vec::new(),
            _ => {
                let keywords = KEYWORDS.iter();
                let keywords =
                    keywords.map(|word| completion(word, CompletionKind::Keyword, "keyword"));
                keywords
                    .chain(self.kinds(&format!("{}::", self.namespace)))
                    .collect()
            }
        }
    }

    fn kinds(&self, prefix: &str) -> Vec<Completion> {
        let kind = |name: &str, detail| {
            completion(&format!("{prefix}{name}"), CompletionKind::Type, detail)
        };
        let types = self.types.keys().map(|name| kind(name, "entity type"));
        std::iter::once(kind("Action", "type of actions"))
            .chain(types)
            .collect()
    }

    /// Ids behind `Type::`; with quotes where they are not there yet.
    fn ids(&self, kind: &str, is_quoted: bool) -> Vec<Completion> {
        let shown = |name: &String, detail| {
            let label = if is_quoted {
                name.clone()
            } else {
                format!("{name:?}")
            };
            completion(&label, CompletionKind::Value, detail)
        };
        if kind == "Action" {
            return self
                .actions
                .keys()
                .map(|name| shown(name, "action"))
                .collect();
        }
        let ids = self.ids.get(kind).into_iter().flatten().take(MOST);
        ids.map(|id| shown(id, "entity")).collect()
    }

    /// Of the actions that a rule names; of all where it names none.
    fn attributes(&self, variable: &str, actions: &[&str]) -> Vec<Completion> {
        let named = self
            .actions
            .iter()
            .filter(|(name, _)| actions.is_empty() || actions.contains(&name.as_str()));
        let of = |kinds: &[String]| -> Attributes {
            let known = kinds.iter().filter_map(|kind| self.types.get(kind));
            known
                .flatten()
                .map(|(name, kind)| (name.clone(), kind.clone()))
                .collect()
        };
        let found: Attributes = named
            .flat_map(|(_, action)| match variable {
                "context" => action.context.clone(),
                "principal" => of(&action.principals),
                "resource" => of(&action.resources),
                _other => Attributes::new(),
            })
            .collect();
        let shown = found.iter();
        shown
            .map(|(name, kind)| completion(name, CompletionKind::Attribute, kind))
            .collect()
    }
}

/// Rules of an application carry no obligations and are never tried out.
fn is_of_rules(annotation: &Completion) -> bool {
    matches!(annotation.label.as_str(), "id" | "reason")
}

fn fields(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

fn attributes(record: Option<&Value>) -> Attributes {
    let attributes = fields(record.and_then(|record| record.get("attributes")));
    attributes
        .map(|(name, attribute)| {
            let text = |key: &str| attribute.get(key).and_then(Value::as_str);
            let kind = text("name").or_else(|| text("type")).unwrap_or_default();
            let required = attribute.get("required").and_then(Value::as_bool);
            let optional = if required.unwrap_or(true) {
                ""
            } else {
                ", can be absent"
            };
            (name.clone(), format!("{kind}{optional}"))
        })
        .collect()
}

fn completion(label: &str, kind: CompletionKind, detail: &str) -> Completion {
    Completion {
        label: label.to_owned(),
        kind,
        detail: detail.to_owned(),
        documentation: String::new(),
    }
}
