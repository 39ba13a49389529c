//! `[check]`: what is tried before anything is trusted.
//!
//! ```toml
//! [check]
//! before_first_session = true   # the walls, before the first session after a start
//! ```

use serde::Deserialize;

/// `[check]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckConfig {
    /// Whether the walls are tried before the first session after a start of the machine, and
    /// after a change of what they are made of. Default true.
    pub before_first_session: Option<bool>,
}

impl CheckConfig {
    /// Whether the walls are tried by themselves.
    pub fn before_first_session(&self) -> bool {
        self.before_first_session.unwrap_or(true)
    }

    /// Once switched on by an earlier file, a later one does not switch it off.
    pub(super) fn extend(&mut self, later: &Self) {
        if self.before_first_session.is_none() {
            self.before_first_session = later.before_first_session;
        }
    }
}
