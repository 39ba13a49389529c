//! The sessions that run now.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    live::Live,
    policies::{Follower, observe_of},
};
use crate::control::{SessionLine, State};

/// The sessions that run now, by id.
#[derive(Debug, Default)]
pub struct Registry {
    sessions: Mutex<BTreeMap<String, Arc<Live>>>,
}

/// A place in the registry; the session leaves it when this is dropped.
#[derive(Debug)]
pub struct Place<'a> {
    registry: &'a Registry,
    live: Arc<Live>,
}

impl Registry {
    /// Enters a session.
    pub fn enter(&self, live: Arc<Live>) -> Place<'_> {
        self.stay(Arc::clone(&live));
        Place {
            registry: self,
            live,
        }
    }

    /// Enters a session that stays until the daemon ends.
    pub fn stay(&self, live: Arc<Live>) {
        self.lock().insert(live.id().into(), live);
    }

    /// Takes a session out that stayed.
    pub fn leave(&self, id: &str) {
        self.lock().remove(id);
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// All of them, oldest first.
    pub fn all(&self) -> Vec<Arc<Live>> {
        self.lock().values().cloned().collect()
    }

    /// Those whose id comes after `after`, oldest first, at most `most`; and whether there are more.
    pub fn page(&self, after: Option<&str>, most: usize) -> (Vec<Arc<Live>>, bool) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let sessions = self.lock();
        let mut rest = sessions.range::<str, _>((from, Bound::Unbounded));
        let page = rest.by_ref().take(most).map(|(_id, live)| live);
        let page = page.cloned().collect();
        (page, rest.next().is_some())
    }

    /// The one session whose id is `name` or begins with it.
    ///
    /// # Errors
    /// In words: there is none, or more than one.
    pub fn find(&self, name: &str) -> Result<Arc<Live>, String> {
        let sessions = self.lock();
        if let Some(live) = sessions.get(name) {
            return Ok(Arc::clone(live));
        }
        let shown = name.chars().take(64).collect::<String>();
        let shown = shown.escape_default();
        let mut found = sessions
            .iter()
            .filter(|(id, _)| !name.is_empty() && id.starts_with(name));
        match (found.next(), found.next()) {
            (Some((_, live)), None) => Ok(Arc::clone(live)),
            (None, _) => Err(format!("no running session begins with `{shown}`")),
            (Some(_), Some(_)) => Err(format!(
                "more than one running session begins with `{shown}`"
            )),
        }
    }

    /// The session of exactly this id.
    pub fn of_id(&self, id: &str) -> Option<Arc<Live>> {
        self.lock().get(id).cloned()
    }

    /// The session of this id, for whoever knows its token.
    pub fn by_token(&self, session: &str, token: &str) -> Option<Arc<Live>> {
        let live = self.lock().get(session).cloned()?;
        live.has_token(token).then_some(live)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Live>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// The session in it.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.registry.lock().remove(self.live.id());
        if !self.live.state().is_over() {
            self.live.enter(State::Failed);
        }
    }
}

/// One line of it.
pub fn line(live: &Live) -> SessionLine {
    SessionLine {
        session: live.id().into(),
        state: live.state(),
        command: live.command().into(),
        agent: live.facts().agent.clone(),
        policy: policy_words(live.policy()),
        observe: observe_of(&live.policy().current().live),
        age_seconds: live.age().as_secs(),
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
