//! Decides: an immutable snapshot of one policy set, sliced so that a decision costs
//! microseconds whatever the set's size.

use crate::{
    Decision, Request,
    source::{LoadError, PolicySource},
};

/// One validated policy set, ready to decide. Immutable; share it behind an `Arc`.
#[derive(Debug)]
pub struct Snapshot {
    name: std::sync::Arc<str>,
}

impl Snapshot {
    /// Parses, validates strictly against the schema, and indexes a policy set.
    ///
    /// # Errors
    /// [`LoadError`] names the file, the line and what to do. Nothing is ever half loaded.
    pub fn load(source: &PolicySource) -> Result<Self, LoadError> {
        Ok(Self {
            name: source.name.as_str().into(),
        })
    }

    /// Name of the policy set.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Decides one request. Pure: same request and snapshot, same decision. An evaluation error
    /// anywhere is a deny.
    pub fn decide(&self, _request: Request) -> Decision {
        unreachable!("skeleton")
    }
}
