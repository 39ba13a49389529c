//! The set whose applications answer callers of AuthZEN: bundles in force, no session's files.
//!
//! A bundle that is tried out or rolled out answers nobody yet: who asks is no session that could
//! have a part in it.

use std::sync::Arc;

use cordon_policy::{Snapshot, source::LoadError};

use super::{
    Policies,
    compose::{Brought, join},
};

impl Policies {
    /// Whether any application may be asked by this caller of the API, who is not the daemon's user.
    pub async fn serve(&self, caller: &str) -> bool {
        let set = self.applications().await;
        set.is_ok_and(|set| set.applications().iter().any(|one| one.serves(caller)))
    }

    /// The set, as of now.
    ///
    /// # Errors
    /// [`LoadError`] where a layer has no usable bundle: what it forbids would be missing.
    pub async fn applications(&self) -> Result<Arc<Snapshot>, LoadError> {
        let generation = self.generation();
        if let Some((at, set)) = &*self.lock_applications()
            && *at == generation
        {
            return Ok(Arc::clone(set));
        }
        let source = join(&self.state(), &Brought::default(), None)?;
        let set = self.cache.snapshot(source).await?;
        *self.lock_applications() = Some((generation, Arc::clone(&set)));
        Ok(set)
    }
}
