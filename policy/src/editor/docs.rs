//! The schema's documentation, taken from its comments, by what it documents.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use cedar_policy::Schema;

use crate::schema::{SCHEMA_TEXT, schema};

/// Everything the schema declares, with the comments above it.
#[derive(Debug, Default)]
pub(super) struct Docs {
    pub(super) entities: BTreeMap<String, Declared>,
    pub(super) actions: BTreeMap<String, Action>,
    types: BTreeMap<String, Declared>,
}

/// Something with a comment, and its attributes.
#[derive(Debug, Default)]
pub(super) struct Declared {
    pub(super) doc: String,
    pub(super) attributes: BTreeMap<String, Attribute>,
}

/// One attribute.
#[derive(Clone, Debug)]
pub(super) struct Attribute {
    pub(super) doc: String,
    /// Its type as the schema writes it.
    pub(super) kind: String,
    pub(super) optional: bool,
}

/// An action, what it applies to, and what its context holds.
#[derive(Debug, Default)]
pub(super) struct Action {
    pub(super) doc: String,
    /// Actions below it; itself alone where it is no group.
    pub(super) members: BTreeSet<String>,
    pub(super) principals: BTreeSet<String>,
    pub(super) resources: BTreeSet<String>,
    context: BTreeMap<String, Attribute>,
    /// Name of the context's type, where it has one.
    context_type: Option<String>,
}

impl Docs {
    /// The schema's, read once.
    pub(super) fn get() -> &'static Self {
        static DOCS: LazyLock<Docs> = LazyLock::new(|| Docs::read(SCHEMA_TEXT));
        &DOCS
    }

    fn read(text: &str) -> Self {
        let mut reader = Reader::default();
        for line in text.lines() {
            reader.line(line.trim());
        }
        let mut docs = reader.docs;
        if let Ok(schema) = schema() {
            docs.add_environments(schema);
        }
        docs
    }

    /// Attributes that the context of these actions can hold; of all, where none is known.
    pub(super) fn context_of(&self, actions: &[&str]) -> BTreeMap<&str, &Attribute> {
        let known: Vec<&Action> = self.members_of(actions).collect();
        known
            .into_iter()
            .flat_map(|action| {
                let named = action.context_type.as_ref();
                let named = named.and_then(|name| self.types.get(name));
                named
                    .into_iter()
                    .flat_map(|kind| &kind.attributes)
                    .chain(&action.context)
            })
            .map(|(name, attribute)| (name.as_str(), attribute))
            .collect()
    }

    /// Attributes that the resource of these actions can have.
    pub(super) fn resource_of(&self, actions: &[&str]) -> BTreeMap<&str, &Attribute> {
        self.attributes(
            self.members_of(actions)
                .flat_map(|action| &action.resources),
        )
    }

    /// Attributes that the principal of these actions can have.
    pub(super) fn principal_of(&self, actions: &[&str]) -> BTreeMap<&str, &Attribute> {
        self.attributes(
            self.members_of(actions)
                .flat_map(|action| &action.principals),
        )
    }

    fn attributes<'a>(
        &'a self,
        kinds: impl Iterator<Item = &'a String>,
    ) -> BTreeMap<&'a str, &'a Attribute> {
        kinds
            .filter_map(|kind| self.entities.get(kind))
            .flat_map(|entity| &entity.attributes)
            .map(|(name, attribute)| (name.as_str(), attribute))
            .collect()
    }

    /// The actions below those that a rule names.
    fn members_of<'a>(&'a self, actions: &[&str]) -> impl Iterator<Item = &'a Action> {
        let named: BTreeSet<&String> = actions
            .iter()
            .filter_map(|name| self.actions.get(*name))
            .flat_map(|action| &action.members)
            .collect();
        self.actions
            .iter()
            .filter(move |(name, _)| named.is_empty() || named.contains(name))
            .map(|(_, action)| action)
    }

    fn add_environments(&mut self, schema: &Schema) {
        let groups = schema.action_entities().ok();
        for env in schema.request_envs() {
            let name = env.action().id().unescaped().to_owned();
            let above = groups.iter().flat_map(|all| all.ancestors(env.action()));
            for group in above.flatten() {
                let group = group.id().unescaped();
                if let Some(group) = self.actions.get_mut(group) {
                    group.members.insert(name.clone());
                }
            }
            if let Some(action) = self.actions.get_mut(&name) {
                action.members.insert(name);
                action.principals.insert(env.principal().to_string());
                action.resources.insert(env.resource().to_string());
            }
        }
    }
}

/// Reads the schema line by line. The file is part of the program and keeps to one declaration or
/// attribute a line; a test holds that against Cedar's own reading.
#[derive(Default)]
struct Reader {
    docs: Docs,
    comments: Vec<String>,
    owner: Option<Owner>,
}

enum Owner {
    Entity(String),
    Type(String),
    Action(String),
}

impl Reader {
    fn line(&mut self, line: &str) {
        if let Some(comment) = line.strip_prefix("//") {
            self.comments.push(comment.trim().to_owned());
            return;
        }
        if line.is_empty() {
            self.comments.clear();
            return;
        }
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        let name = words.next().unwrap_or_default();
        let name = name.trim_end_matches([';', ',']).to_owned();
        match first {
            "entity" => {
                let entity = Declared {
                    doc: self.doc(),
                    ..Declared::default()
                };
                self.docs.entities.insert(name.clone(), entity);
                self.owner = Some(Owner::Entity(name));
            }
            "type" => {
                self.docs.types.entry(name.clone()).or_default().doc = self.doc();
                self.owner = Some(Owner::Type(name));
            }
            "action" => {
                let action = Action {
                    doc: self.doc(),
                    ..Action::default()
                };
                self.docs.actions.insert(name.clone(), action);
                self.owner = Some(Owner::Action(name));
                self.attributes_in(line);
            }
            _ => self.attributes_in(line),
        }
    }

    /// `name?: Type,`, or several of `principal: [...]`, `resource: [...]`, `context: Type`.
    fn attributes_in(&mut self, line: &str) {
        if let Some((_, rest)) = line.split_once("context:") {
            let kind = rest.trim().trim_end_matches([',', ';', '}']).trim();
            if let Some(Owner::Action(name)) = &self.owner
                && !kind.starts_with('{')
                && let Some(action) = self.docs.actions.get_mut(name)
            {
                action.context_type = Some(kind.to_owned());
            }
            return;
        }
        let Some((name, kind)) = line.split_once(':') else {
            return;
        };
        let is_name = |b: u8| b.is_ascii_lowercase() || b == b'_';
        let bare = name.trim_end_matches('?');
        if !bare.bytes().all(is_name) || matches!(bare, "principal" | "resource") {
            return;
        }
        let attribute = Attribute {
            doc: self.doc(),
            kind: kind.trim().trim_end_matches(',').to_owned(),
            optional: name.ends_with('?'),
        };
        let attributes = match &self.owner {
            Some(Owner::Entity(owner)) => self
                .docs
                .entities
                .get_mut(owner)
                .map(|entity| &mut entity.attributes),
            Some(Owner::Type(owner)) => self
                .docs
                .types
                .get_mut(owner)
                .map(|kind| &mut kind.attributes),
            Some(Owner::Action(owner)) => self
                .docs
                .actions
                .get_mut(owner)
                .map(|action| &mut action.context),
            None => None,
        };
        if let Some(attributes) = attributes {
            attributes.insert(bare.to_owned(), attribute);
        }
    }

    fn doc(&mut self) -> String {
        std::mem::take(&mut self.comments).join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_cedar_reads_in_the_schema_is_known_here() {
        let docs = Docs::get();
        let schema = schema().unwrap();
        for kind in schema.entity_types() {
            assert!(docs.entities.contains_key(&kind.to_string()), "{kind}");
        }
        for action in schema.actions() {
            let name = action.id().unescaped();
            assert!(docs.actions.contains_key(name), "{name}");
        }
        let json: serde_json::Value =
            cedar_policy::schema_str_to_json_with_resolved_types(SCHEMA_TEXT)
                .map(|(json, _)| json)
                .unwrap();
        let mut attributes = 0;
        for (name, entity) in json[""]["entityTypes"].as_object().unwrap() {
            let fields = entity["shape"]["attributes"].as_object();
            for field in fields.into_iter().flatten() {
                let known = &docs.entities[name].attributes[field.0];
                let required = field.1["required"].as_bool().unwrap_or(true);
                assert_eq!(known.optional, !required, "{name}.{}", field.0);
                assert!(!known.doc.is_empty(), "{name}.{} has no comment", field.0);
                attributes += 1;
            }
        }
        assert!(attributes > 10, "{attributes}");
        assert!(docs.context_of(&["connect"])["port"].doc.contains("port"));
        assert!(docs.context_of(&["http"]).contains_key("method"));
        assert!(!docs.context_of(&["connect"]).contains_key("method"));
        assert!(docs.resource_of(&["connect"]).contains_key("entropy"));
        assert!(docs.principal_of(&[]).contains_key("backend"));
    }
}
