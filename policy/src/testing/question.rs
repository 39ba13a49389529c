//! A question of a test about an application: who, what, to what, as callers of AuthZEN name them.
//!
//! A table of TOML in, what the application says out.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Came, Expected};
use crate::{
    Application, DenyReason, Snapshot,
    application::{Act, Answer, Named, Query},
};

/// One question.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    subject: Thing,
    action: Action,
    resource: Thing,
    #[serde(default)]
    context: Option<Map<String, Value>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thing {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    #[serde(default)]
    properties: Option<Map<String, Value>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "an action's name, or a table with `name` and `properties`"
)]
enum Action {
    Name(String),
    More(Described),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    name: String,
    #[serde(default)]
    properties: Option<Map<String, Value>>,
}

impl Question {
    /// In words.
    pub fn words(&self) -> String {
        format!(
            "may {} {:?} {} {} {:?}",
            self.subject.kind,
            self.subject.id,
            self.query().action.name,
            self.resource.kind,
            self.resource.id
        )
    }

    /// The application that it is about, by its subject's type.
    pub fn application<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Application> {
        let mut all = snapshot.applications().iter();
        let found = all.find(|one| one.has_type(&self.subject.kind));
        found.map(AsRef::as_ref)
    }

    /// From words as [`Question::words`] writes them, without quotes, or from one object of JSON.
    /// None where they are neither.
    pub fn parse(words: &[String]) -> Option<Result<Self, String>> {
        match words {
            [json] if json.starts_with('{') => {
                Some(serde_json::from_str(json).map_err(|error| error.to_string()))
            }
            [may, subject, subject_id, action, resource, resource_id] if may == "may" => {
                let thing = |kind: &str, id: &str| Thing {
                    kind: kind.into(),
                    id: id.into(),
                    properties: None,
                };
                Some(Ok(Self {
                    subject: thing(subject, subject_id),
                    action: Action::Name(action.clone()),
                    resource: thing(resource, resource_id),
                    context: None,
                }))
            }
            [may, ..] if may == "may" => Some(Err(
                "a question is `may TYPE ID ACTION TYPE ID`, or an object with `subject`, `action` \
                 and `resource`"
                    .into(),
            )),
            _other => None,
        }
    }

    /// What the application of its subject's type says.
    pub fn came(&self, snapshot: &Snapshot) -> Came {
        match self.application(snapshot) {
            Some(application) => came(application.ask(&self.query())),
            None => Came {
                outcome: Expected::Deny,
                reason: Some(DenyReason::Malformed),
                rules: Vec::new(),
                message: Some(format!(
                    "no application of this set has a type {:?}",
                    self.subject.kind
                )),
            },
        }
    }

    fn query(&self) -> Query<'_> {
        let (name, properties) = match &self.action {
            Action::Name(name) => (name, None),
            Action::More(action) => (&action.name, action.properties.as_ref()),
        };
        Query {
            subject: self.subject.named(),
            action: Act { name, properties },
            resource: self.resource.named(),
            context: self.context.as_ref(),
        }
    }
}

impl Thing {
    fn named(&self) -> Named<'_> {
        Named {
            kind: &self.kind,
            id: &self.id,
            properties: self.properties.as_ref(),
        }
    }
}

fn came(answer: Answer) -> Came {
    Came {
        outcome: match answer.allowed {
            true => Expected::Allow,
            false => Expected::Deny,
        },
        reason: Application::deny_reason(&answer),
        rules: answer
            .rules
            .iter()
            .map(|rule| rule.id.to_string())
            .collect(),
        message: (!answer.allowed).then_some(answer.reason),
    }
}
