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

pub(crate) use self::load::{applications, check_sizes};
pub use self::{
    ask::{Act, Answer, Named, Query},
    load::MAX_ENTITIES,
    search::{Found, Page, Search, Wanted},
};
use crate::{RuleRef, source::ApplicationSource};

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

    /// Whether a caller of the API who is not the daemon's user may ask about it.
    pub fn serves(&self, caller: &str) -> bool {
        self.callers.iter().any(|name| name == caller)
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
