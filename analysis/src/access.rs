//! Recorded questions about the application of a bundle, asked again.
//!
//! A record and a policy set in, what its application says now out.

use cordon_audit::{
    Effect, Record,
    past::NotAgain,
    record::{Access, AccessEntity},
};
use cordon_policy::{
    Application, DenyReason, Snapshot,
    application::{Act, Named, Query},
};
use serde_json::{Map, Value};

use crate::outcome::Outcome;

/// The question in words, and its outcome.
pub(crate) fn again(
    access: &Access,
    record: &Record,
    snapshot: &Snapshot,
) -> Result<(String, Outcome), NotAgain> {
    if access.sought.is_some() {
        return Err(NotAgain::Search);
    }
    let is_of_it = |field: &str| field.starts_with("access.");
    if record.trunc.iter().any(|cut| is_of_it(&cut.field)) {
        return Err(NotAgain::Cut);
    }
    if record.masked.iter().any(|field| is_of_it(field)) {
        return Err(NotAgain::Masked);
    }
    let asked = Asked::of(access).ok_or(NotAgain::Incomplete)?;
    let mut all = snapshot.applications().iter();
    let application = all.find(|one| one.has_type(asked.subject.0));
    let answer = application
        .ok_or(NotAgain::NoApplication)?
        .ask(&asked.query());
    let reason = Application::deny_reason(&answer);
    let outcome = Outcome {
        effect: match reason {
            None => Effect::Allow,
            Some(DenyReason::EvaluationError) => Effect::Error,
            Some(_refused) => Effect::Deny,
        },
        reason,
        rules: answer
            .rules
            .iter()
            .map(|rule| rule.id.to_string())
            .collect(),
    };
    Ok((asked.words(), outcome))
}

/// A question as it was asked, with what counted of what was said about it.
struct Asked<'a> {
    subject: (&'a str, &'a str),
    action: &'a str,
    resource: (&'a str, &'a str),
    /// Of the subject, the action, the resource and the context.
    said: [Map<String, Value>; 4],
}

const PLACES: [&str; 4] = ["subject", "action", "resource", "context"];

impl<'a> Asked<'a> {
    fn of(access: &'a Access) -> Option<Self> {
        fn named(entity: &AccessEntity) -> Option<(&str, &str)> {
            Some((entity.kind.as_str(), entity.id.as_deref()?))
        }
        let mut said: [Map<String, Value>; 4] = Default::default();
        for one in &access.said {
            let (place, rest) = one.split_once('.')?;
            let (name, value) = rest.split_once('=')?;
            let at = PLACES.iter().position(|known| *known == place)?;
            said.get_mut(at)?
                .insert(name.to_owned(), serde_json::from_str(value).ok()?);
        }
        Some(Self {
            subject: named(access.subject.as_ref()?)?,
            action: access.action.as_deref()?,
            resource: named(access.resource.as_ref()?)?,
            said,
        })
    }

    fn query(&self) -> Query<'_> {
        let [subject, action, resource, context] = &self.said;
        let named = |(kind, id), properties| Named {
            kind,
            id,
            properties: Some(properties),
        };
        Query {
            subject: named(self.subject, subject),
            action: Act {
                name: self.action,
                properties: Some(action),
            },
            resource: named(self.resource, resource),
            context: Some(context),
        }
    }

    fn words(&self) -> String {
        let ((kind, id), (of, which)) = (self.subject, self.resource);
        format!("{kind} {id} {} {of} {which}", self.action)
    }
}
