//! Connectors: those of the configuration, and which are enabled in which session with which scopes
//! (P10). Never decides.

use std::collections::{BTreeMap, BTreeSet};

use cordon_session::config::ConnectorConfig;

use super::switches::Switches;

/// What the daemon knows about connectors.
#[derive(Debug)]
pub struct Connectors {
    all: BTreeMap<String, ConnectorConfig>,
    enabled: Switches<BTreeSet<String>>,
}

impl Connectors {
    /// Those of the configuration; none is enabled anywhere.
    pub fn new(all: BTreeMap<String, ConnectorConfig>) -> Self {
        Self {
            all,
            enabled: Switches::default(),
        }
    }

    /// All of them, by name.
    pub fn all(&self) -> &BTreeMap<String, ConnectorConfig> {
        &self.all
    }

    /// Which are enabled where, each with its scopes and no others.
    pub fn enabled(&self) -> &Switches<BTreeSet<String>> {
        &self.enabled
    }

    /// The scopes that are enabled; none where it is not.
    pub fn scopes(&self, session: &str, connector: &str) -> Option<BTreeSet<String>> {
        self.enabled.look(session, connector, BTreeSet::clone)
    }
}
