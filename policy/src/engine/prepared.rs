//! What a question needs beside its context, kept for sessions that ask about a host again.
//!
//! Building the entities costs several times what evaluating the rules does, and requests of one
//! session to one host share them whole. What is kept is a function of what it is found by, so
//! keeping it changes no decision: the session's facts are found by their address in memory, and
//! an entry holds them, so that the address cannot come to mean other facts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cedar_policy::{Entities, EntityUid, PolicySet};

use super::target::{Resource, Target};
use crate::SessionFacts;

/// A question but for its context: who, what, on what, every entity, every rule that can apply.
pub(crate) struct Prepared {
    pub(crate) principal: EntityUid,
    pub(crate) action: EntityUid,
    pub(crate) resource: EntityUid,
    pub(crate) entities: Entities,
    /// Whether the schema knows an approval of it.
    pub(crate) can_be_approved: bool,
    /// The rules that can apply.
    pub(crate) rules: PolicySet,
    /// Those of them that are written to observe. Apart, because Cedar names no permits where a
    /// `forbid` matched. Nearly always empty.
    pub(crate) observing: PolicySet,
}

/// Prepared questions of the hosts that were asked about lately.
#[derive(Default)]
pub(crate) struct Kept(Mutex<HashMap<Key, Entry>>);

#[derive(Eq, Hash, PartialEq)]
struct Key {
    session: usize,
    target: Target,
}

struct Entry {
    _facts: Arc<SessionFacts>,
    prepared: Arc<Prepared>,
}

impl Kept {
    /// What was prepared for the same session and target.
    pub(crate) fn find(&self, facts: &Arc<SessionFacts>, target: &Target) -> Option<Arc<Prepared>> {
        if !is_kept(target) {
            return None;
        }
        let key = Key::new(facts, target);
        let found = self.lock();
        found.get(&key).map(|entry| Arc::clone(&entry.prepared))
    }

    /// Keeps what was prepared. A session that asks about ever new hosts only costs itself time:
    /// all are let go when there are too many.
    pub(crate) fn keep(
        &self,
        facts: &Arc<SessionFacts>,
        target: &Target,
        prepared: &Arc<Prepared>,
    ) {
        if !is_kept(target) {
            return;
        }
        let entry = Entry {
            _facts: Arc::clone(facts),
            prepared: Arc::clone(prepared),
        };
        let mut kept = self.lock();
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(Key::new(facts, target), entry);
    }

    /// Each entry is put in whole, so a holder that panicked left nothing half done.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key {
    fn new(facts: &Arc<SessionFacts>, target: &Target) -> Self {
        Self {
            session: Arc::as_ptr(facts).addr(),
            target: target.clone(),
        }
    }
}

/// Paths are asked about once; hosts again and again, and their names are short.
fn is_kept(target: &Target) -> bool {
    matches!(target.resource, Resource::Host(_) | Resource::Address(_))
}

/// Some kilobytes each.
const MOST: usize = 256;
