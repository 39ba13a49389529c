//! The sessions that run now.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::policies::{Follower, observe_of};
use crate::control::SessionLine;

/// The sessions that run now, by id.
#[derive(Debug, Default)]
pub struct Registry {
    sessions: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    command: String,
    agent: Option<String>,
    policy: Arc<Follower>,
    opened: Instant,
}

/// A place in the registry; the session leaves it when this is dropped.
#[derive(Debug)]
pub struct Place<'a> {
    registry: &'a Registry,
    session: String,
}

impl Registry {
    /// Enters a session.
    pub fn enter(
        &self,
        session: &str,
        command: &str,
        agent: Option<&str>,
        policy: Arc<Follower>,
    ) -> Place<'_> {
        self.stay(session, command, agent, policy);
        Place {
            registry: self,
            session: session.into(),
        }
    }

    /// Enters a session that stays until the daemon ends.
    pub fn stay(&self, session: &str, command: &str, agent: Option<&str>, policy: Arc<Follower>) {
        let entry = Entry {
            command: command.into(),
            agent: agent.map(Into::into),
            policy,
            opened: Instant::now(),
        };
        self.lock().insert(session.into(), entry);
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// One line for each.
    pub fn lines(&self) -> Vec<SessionLine> {
        let line = |(session, entry): (&String, &Entry)| SessionLine {
            session: session.clone(),
            command: entry.command.clone(),
            agent: entry.agent.clone(),
            policy: policy_words(&entry.policy),
            observe: observe_of(&entry.policy.current().live),
            age_seconds: entry.opened.elapsed().as_secs(),
        };
        self.lock().iter().map(line).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.session);
    }
}

/// Name, revision and the first digits of the digest of what decides a session now.
pub fn policy_words(follower: &Follower) -> String {
    let now = follower.current();
    let digest = now.live.digest();
    let digest = digest.get(..12).unwrap_or(digest);
    match now.live.revision() {
        Some(revision) => format!("{} revision {revision} {digest}", now.live.name()),
        None => format!("{} {digest}", now.live.name()),
    }
}
