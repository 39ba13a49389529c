//! Connectors: those of the configuration, and which are enabled in which session with which scopes
//! (P10). Never decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use cordon_session::config::ConnectorConfig;

/// What the daemon knows about connectors.
#[derive(Debug)]
pub struct Connectors {
    all: BTreeMap<String, ConnectorConfig>,
    /// Scopes by session and connector. What a session has ends with it.
    enabled: Mutex<BTreeMap<(String, String), BTreeSet<String>>>,
}

impl Connectors {
    /// Those of the configuration; none is enabled anywhere.
    pub fn new(all: BTreeMap<String, ConnectorConfig>) -> Self {
        Self {
            all,
            enabled: Mutex::default(),
        }
    }

    /// All of them, by name.
    pub fn all(&self) -> &BTreeMap<String, ConnectorConfig> {
        &self.all
    }

    /// Enables one with these scopes, and with no others. `lives` says which sessions there still
    /// are.
    pub fn enable(
        &self,
        session: &str,
        connector: &str,
        scopes: BTreeSet<String>,
        lives: impl Fn(&str) -> bool,
    ) {
        let mut enabled = self.lock();
        enabled.retain(|(session, _), _| lives(session));
        enabled.insert((session.into(), connector.into()), scopes);
    }

    /// From now on nothing of it is allowed. False when it was not enabled.
    pub fn disable(&self, session: &str, connector: &str) -> bool {
        let key = (session.to_owned(), connector.to_owned());
        self.lock().remove(&key).is_some()
    }

    /// The scopes that are enabled; none where it is not.
    pub fn scopes(&self, session: &str, connector: &str) -> Option<BTreeSet<String>> {
        let key = (session.to_owned(), connector.to_owned());
        self.lock().get(&key).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), BTreeSet<String>>> {
        self.enabled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p10_what_is_enabled_is_so_in_one_session_until_it_ends() {
        let connectors = Connectors::new(BTreeMap::new());
        let scopes = BTreeSet::from(["read".to_owned()]);
        connectors.enable("one", "tracker", scopes.clone(), |_| true);
        assert_eq!(connectors.scopes("one", "tracker"), Some(scopes.clone()));
        assert_eq!(connectors.scopes("two", "tracker"), None);
        connectors.enable("one", "tracker", BTreeSet::new(), |_| true);
        assert_eq!(connectors.scopes("one", "tracker"), Some(BTreeSet::new()));
        connectors.enable("two", "tracker", scopes, |session| session == "two");
        assert_eq!(connectors.scopes("one", "tracker"), None);
        assert!(connectors.disable("two", "tracker"));
        assert!(!connectors.disable("two", "tracker"));
    }
}
