//! Answers one question about an application.
//!
//! A question in the caller's words in, an [`Answer`] out. Pure: same application and question,
//! same answer. What cannot be asked, and every error while evaluating, is a refusal.

use cedar_policy::{Context, Decision, Entities, Entity, EntityId, EntityUid, Request};
use serde_json::{Map, Value, json};

use super::{Application, Kind};
use crate::RuleRef;

/// A subject or resource as the caller names it.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// Its type.
    pub kind: &'a str,
    /// Its id.
    pub id: &'a str,
    /// What the caller says about it.
    pub properties: Option<&'a Map<String, Value>>,
}

/// An action as the caller names it.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    /// Its name.
    pub name: &'a str,
    /// What the caller says about it.
    pub properties: Option<&'a Map<String, Value>>,
}

/// May this subject do this to this resource?
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Who.
    pub subject: Named<'a>,
    /// What.
    pub action: Act<'a>,
    /// To what.
    pub resource: Named<'a>,
    /// What else the caller says.
    pub context: Option<&'a Map<String, Value>>,
}

/// What the rules of an application say.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Whether it may be done.
    pub allowed: bool,
    /// `allowed`, `rule`, `default_deny`, `evaluation_error`, `unknown` for what is not there,
    /// `malformed` for what fits no schema.
    pub code: &'static str,
    /// Why, in words.
    pub reason: String,
    /// The rules that decided.
    pub rules: Vec<RuleRef>,
}

impl Application {
    /// Answers a question.
    pub fn ask(&self, query: &Query<'_>) -> Answer {
        self.try_ask(query).unwrap_or_else(|refused| refused)
    }

    /// What of a question's properties counts, each `place.name=value` with the value as JSON.
    pub fn said(&self, query: &Query<'_>) -> Vec<String> {
        let (subject, resource) = (Some(query.subject), Some(query.resource));
        self.said_of(subject, Some(query.action), resource, query.context)
    }

    /// As [`Self::said`], of the parts that there are.
    pub fn said_of(
        &self,
        subject: Option<Named<'_>>,
        action: Option<Act<'_>>,
        resource: Option<Named<'_>>,
        context: Option<&Map<String, Value>>,
    ) -> Vec<String> {
        let mut said = Vec::new();
        let mut add = |place: &str, fields: Option<&Map<String, Value>>, trusted: &[String]| {
            let fields = fields.into_iter().flatten();
            let counts = fields.filter(|(name, _)| trusted.contains(name));
            said.extend(counts.map(|(name, value)| format!("{place}.{name}={value}")));
        };
        for (place, named) in [("subject", subject), ("resource", resource)] {
            let kind = named.and_then(|named| self.types.get(named.kind));
            if let (Some(named), Some(kind)) = (named, kind) {
                add(place, named.properties, &kind.trusted);
            }
        }
        let known = action.and_then(|action| self.actions.get(action.name));
        if let (Some(action), Some(known)) = (action, known) {
            add("action", action.properties, &known.trusted);
        }
        add("context", context, &self.context);
        said
    }

    fn try_ask(&self, query: &Query<'_>) -> Result<Answer, Answer> {
        let (subject, known) = self.entity(query.subject)?;
        let (resource, also) = self.entity(query.resource)?;
        if subject == resource && known != also {
            return Err(malformed(
                "subject and resource are one, described in two ways",
            ));
        }
        let entities = self.entities_with(known.into_iter().chain(also))?;
        let (action, context) = self.act(query.action, query.context)?;
        self.decide(subject, action, resource, context, &entities)
    }

    /// Evaluates the rules; an error in any of them is a refusal, as everywhere.
    pub(super) fn decide(
        &self,
        subject: EntityUid,
        action: EntityUid,
        resource: EntityUid,
        context: Context,
        entities: &Entities,
    ) -> Result<Answer, Answer> {
        let request = Request::new(subject, action, resource, context, Some(&self.schema))
            .map_err(|error| malformed(error.to_string()))?;
        let response = self
            .authorizer
            .is_authorized(&request, &self.rules, entities);
        let found = response.diagnostics();
        if let Some(error) = found.errors().next() {
            return Err(Answer {
                code: "evaluation_error",
                ..malformed(error.to_string())
            });
        }
        let mut rules: Vec<RuleRef> = found
            .reason()
            .filter_map(|id| self.by_id.get(id).cloned())
            .collect();
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        let said = rules.iter().find_map(|rule| rule.reason.as_deref());
        let (code, usual) = match (response.decision(), rules.is_empty()) {
            (Decision::Allow, _) => ("allowed", "a rule permits it"),
            (Decision::Deny, false) => ("rule", "a rule forbids it"),
            (Decision::Deny, true) => ("default_deny", "no rule allows it"),
        };
        Ok(Answer {
            allowed: response.decision() == Decision::Allow,
            code,
            reason: said.unwrap_or(usual).to_owned(),
            rules,
        })
    }

    pub(super) fn kind(&self, name: &str) -> Result<&Kind, Answer> {
        self.types
            .get(name)
            .ok_or_else(|| unknown(format!("there is no type {name:.100?}")))
    }

    /// The entity that is meant, and how it is for this question where that is not as stored.
    pub(super) fn entity(&self, named: Named<'_>) -> Result<(EntityUid, Option<Entity>), Answer> {
        let kind = self.kind(named.kind)?;
        let uid = kind.uid(named.id);
        let stored = self.entities.get(&uid);
        if stored.is_none() && !kind.unknown {
            let why = format!("there is no {:.100?} {:.100?}", named.kind, named.id);
            return Err(unknown(why));
        }
        let said: Vec<(&String, &Value)> = named
            .properties
            .into_iter()
            .flatten()
            .filter(|(name, _)| kind.trusted.contains(name))
            .collect();
        if stored.is_some() && said.is_empty() {
            return Ok((uid, None));
        }
        let mut json = match stored {
            Some(entity) => entity
                .to_json_value()
                .map_err(|e| malformed(e.to_string()))?,
            None => json!({
                "uid": {"type": kind.entity.to_string(), "id": named.id},
                "attrs": {}, "parents": [],
            }),
        };
        for (name, value) in said {
            if let Some(attributes) = json.get_mut("attrs").and_then(Value::as_object_mut) {
                attributes.insert(name.clone(), value.clone());
            }
        }
        let entity = Entity::from_json_value(json, Some(&self.schema));
        let entity = entity.map_err(|error| malformed(words(&error)))?;
        Ok((uid, Some(entity)))
    }

    /// What is stored, with these in place of what it says of them.
    pub(super) fn entities_with(
        &self,
        others: impl Iterator<Item = Entity>,
    ) -> Result<std::borrow::Cow<'_, Entities>, Answer> {
        let others: Vec<Entity> = others.collect();
        if others.is_empty() {
            return Ok(std::borrow::Cow::Borrowed(&self.entities));
        }
        let entities = self.entities.clone();
        let entities = entities.upsert_entities(others, Some(&self.schema));
        let entities = entities.map_err(|error| malformed(words(&error)))?;
        Ok(std::borrow::Cow::Owned(entities))
    }

    /// The action, and the context that it has with what the caller says.
    pub(super) fn act(
        &self,
        act: Act<'_>,
        context: Option<&Map<String, Value>>,
    ) -> Result<(EntityUid, Context), Answer> {
        let action = self
            .actions
            .get(act.name)
            .ok_or_else(|| unknown(format!("there is no action {:.100?}", act.name)))?;
        let mut facts = Map::new();
        let said = context.into_iter().flatten();
        for (name, value) in said.filter(|(name, _)| self.context.contains(name)) {
            facts.insert(name.clone(), value.clone());
        }
        let said = act.properties.into_iter().flatten();
        for (name, value) in said.filter(|(name, _)| action.trusted.contains(name)) {
            if facts
                .insert(name.clone(), value.clone())
                .is_some_and(|other| other != *value)
            {
                return Err(malformed(format!(
                    "{name:.100?} stands there with two values"
                )));
            }
        }
        let context =
            Context::from_json_value(Value::Object(facts), Some((&self.schema, &action.uid)));
        let context = context.map_err(|error| malformed(words(&error)))?;
        Ok((action.uid.clone(), context))
    }
}

impl Kind {
    pub(super) fn uid(&self, id: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.entity.clone(), EntityId::new(id))
    }
}

fn malformed(why: impl Into<String>) -> Answer {
    refused("malformed", why.into())
}

fn unknown(why: impl Into<String>) -> Answer {
    refused("unknown", why.into())
}

fn refused(code: &'static str, reason: String) -> Answer {
    Answer {
        allowed: false,
        code,
        reason: crate::check::plain(&reason),
        rules: Vec::new(),
    }
}

/// An error with what is behind it: Cedar says there which value it is about.
fn words(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
