//! Applications: a bundle's own namespace of entities and actions, beside Cordon's.
//!
//! The folder `app/` of a bundle in, answers to "may this subject do that to this resource?" out.
//! An application stands alone: its schema, rules and entities know nothing of Cordon's and are
//! never asked about a session, so it can neither open nor close anything of the sandbox.

mod ask;
mod load;
mod mapping;
mod schema;
mod search;

use std::{collections::HashMap, sync::Arc};

use cedar_policy::{Authorizer, Entities, EntityTypeName, EntityUid, PolicyId, PolicySet, Schema};

pub use self::{
    ask::{Act, Answer, Named, Query},
    load::MAX_ENTITIES,
    search::{Found, Page, Search, Wanted},
};
pub(crate) use self::{
    load::{applications, check_sizes},
    schema::check_depth,
};
use crate::{DenyReason, Rule, RuleRef, source::ApplicationSource};

/// One application, ready to answer. Immutable.
#[derive(Debug)]
pub struct Application {
    bundle: Arc<str>,
    namespace: Arc<str>,
    callers: Vec<String>,
    types: HashMap<String, Kind>,
    actions: HashMap<String, Action>,
    /// Facts of the context that are taken from whoever asks.
    context: Vec<String>,
    schema: Schema,
    rules: PolicySet,
    by_id: HashMap<PolicyId, RuleRef>,
    /// The same rules as they stand in their files, in their order.
    written: Vec<Rule>,
    entities: Entities,
    authorizer: Authorizer,
}

/// A type of subjects and resources.
#[derive(Debug)]
struct Kind {
    entity: EntityTypeName,
    /// Properties that are taken from whoever asks, over what is stored.
    trusted: Vec<String>,
    /// Whether ids that are not stored can be asked about.
    unknown: bool,
    /// Ids that are stored, in their order.
    ids: Vec<String>,
}

/// An action.
#[derive(Debug)]
struct Action {
    uid: EntityUid,
    /// Properties that become facts of the context.
    trusted: Vec<String>,
}

impl Application {
    /// Name of the bundle that it came with.
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// Its namespace in Cedar.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its rules, in the order of files and lines.
    pub fn rules(&self) -> &[Rule] {
        &self.written
    }

    /// Whether a caller of the API who is not the daemon's user may ask about it.
    pub fn serves(&self, caller: &str) -> bool {
        self.callers.iter().any(|name| name == caller)
    }

    /// The kind of refusal that an answer is; none of an allow.
    pub fn deny_reason(answer: &Answer) -> Option<DenyReason> {
        match answer.code {
            "allowed" => None,
            "rule" => Some(DenyReason::Rule),
            "default_deny" => Some(DenyReason::DefaultDeny),
            "evaluation_error" => Some(DenyReason::EvaluationError),
            _unknown_or_malformed => Some(DenyReason::Malformed),
        }
    }

    /// Whether it has this type, as callers name it.
    pub fn has_type(&self, name: &str) -> bool {
        self.types.contains_key(name)
    }
}

impl ApplicationSource {
    /// The file of this name in it.
    fn file(&self, name: &str) -> Option<&crate::source::PolicyFile> {
        let mut files = self.files.iter();
        files.find(|file| file.path.file_name().is_some_and(|found| found == name))
    }
}

#[cfg(test)]
mod tests;
