//! A question to Cedar made ready, kept for sessions that ask the same again.
//!
//! Building the entities costs several times what evaluating the rules does, and requests of one
//! session about one thing share them whole. Where they share the context too, or no rule that can
//! apply looks at it, they are one question, and what Cedar answered to it is kept with it; else
//! the rules are evaluated every time. What is kept is a function of what it is found by, so
//! keeping it changes no decision: a new revision, a new session or a fact that a rule reads is
//! another question. The least used make way, and one that is asked about once
//! does not push out what is asked about again and again: a session that scans costs itself time.

mod topic;

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, OnceLock},
};

use cedar_policy::{Entities, EntityUid, PolicyId, PolicySet};
use quick_cache::{Equivalent, sync::Cache};

pub(crate) use self::topic::Topic;
use super::evaluate::Said;
use crate::SessionFacts;

/// A question: who, what, on what, every entity, every rule that can apply.
pub(crate) struct Prepared {
    pub(crate) principal: EntityUid,
    pub(crate) action: EntityUid,
    pub(crate) resource: EntityUid,
    pub(crate) entities: Entities,
    /// Whether the schema knows an approval of it.
    pub(crate) can_be_approved: bool,
    pub(crate) rules: Arc<Rules>,
    /// The question in its context, where every request that finds this has the same one, or no
    /// rule that can apply looks at it.
    pub(crate) request: Option<cedar_policy::Request>,
    /// What Cedar answered to that, once it did.
    pub(crate) said: OnceLock<Said>,
}

/// Rules that can apply to a question, ready to be evaluated. Questions share them.
#[derive(Default)]
pub(crate) struct Rules {
    pub(crate) enforced: PolicySet,
    /// Those that are written to observe. Apart, because Cedar names no permits where a `forbid`
    /// matched. Nearly always empty.
    pub(crate) observing: PolicySet,
    /// Where each of them stands in the whole set, in the order of their names.
    pub(crate) positions: Vec<(PolicyId, usize)>,
    /// Whether any of them can look at the context.
    pub(crate) read_context: bool,
    /// Whether any of them can look at what the session did before: then no answer is kept.
    pub(crate) read_past: bool,
}

/// What was prepared lately, of all sessions.
pub(crate) struct Kept {
    questions: Cache<Key, Arc<Prepared>>,
    /// The session, its user and the action: in memory once for all that is asked of them.
    stores: Cache<(SameFacts, EntityUid), Arc<Entities>>,
    rules: Cache<Box<[usize]>, Arc<Rules>>,
}

/// A session's facts, told apart by their address in memory. A key holds them, so that the
/// address cannot come to mean other facts while it is a key.
struct SameFacts(Arc<SessionFacts>);

/// A key that is kept.
struct Key {
    facts: Arc<SessionFacts>,
    topic: Topic<'static>,
}

/// A key that is looked for.
struct Sought<'a> {
    facts: &'a Arc<SessionFacts>,
    topic: &'a Topic<'a>,
}

/// Most questions that are kept: some kilobytes each, and room for what several dozen sessions
/// use at a time.
const MOST_QUESTIONS: usize = 4_096;
/// Most stores that are kept: some actions of several dozen sessions.
const MOST_STORES: usize = 512;
/// Most sets of rules that are kept. Questions differ more than the rules that apply to them.
const MOST_RULES: usize = 1_024;

impl Default for Kept {
    fn default() -> Self {
        Self {
            questions: Cache::new(MOST_QUESTIONS),
            stores: Cache::new(MOST_STORES),
            rules: Cache::new(MOST_RULES),
        }
    }
}

impl Kept {
    /// What was prepared for the same session and topic.
    pub(crate) fn find(
        &self,
        facts: &Arc<SessionFacts>,
        topic: &Topic<'_>,
    ) -> Option<Arc<Prepared>> {
        self.questions.get(&Sought { facts, topic })
    }

    pub(crate) fn keep(
        &self,
        facts: &Arc<SessionFacts>,
        topic: Topic<'_>,
        question: Arc<Prepared>,
    ) {
        let facts = Arc::clone(facts);
        let topic = topic.into_owned();
        self.questions.insert(Key { facts, topic }, question);
    }

    /// What is in the store for every request of this session and action.
    pub(crate) fn store<E>(
        &self,
        facts: &Arc<SessionFacts>,
        action: &EntityUid,
        make: impl FnOnce() -> Result<Entities, E>,
    ) -> Result<Arc<Entities>, E> {
        let key = (SameFacts(Arc::clone(facts)), action.clone());
        if let Some(store) = self.stores.get(&key) {
            return Ok(store);
        }
        let store = Arc::new(make()?);
        self.stores.insert(key, Arc::clone(&store));
        Ok(store)
    }

    /// The rules at these positions, made ready where they are not yet.
    pub(crate) fn rules<E>(
        &self,
        positions: &[usize],
        make: impl FnOnce() -> Result<Rules, E>,
    ) -> Result<Arc<Rules>, E> {
        if let Some(rules) = self.rules.get(positions) {
            return Ok(rules);
        }
        let rules = Arc::new(make()?);
        self.rules.insert(positions.into(), Arc::clone(&rules));
        Ok(rules)
    }

    #[cfg(test)]
    pub(crate) fn questions(&self) -> usize {
        self.questions.len()
    }
}

impl Hash for SameFacts {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).addr().hash(state);
    }
}

impl PartialEq for SameFacts {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SameFacts {}

impl Key {
    fn sought(&self) -> Sought<'_> {
        Sought {
            facts: &self.facts,
            topic: &self.topic,
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sought().hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.sought().equivalent(other)
    }
}

impl Eq for Key {}

impl Hash for Sought<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(self.facts).addr().hash(state);
        self.topic.hash(state);
    }
}

impl Equivalent<Key> for Sought<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        Arc::ptr_eq(self.facts, &key.facts) && *self.topic == key.topic
    }
}
