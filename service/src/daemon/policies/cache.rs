//! Compiled policy sets, shared by the sessions that are decided by the same.
//!
//! It holds every snapshot that a session uses, so that the last one to let go of a large set is
//! never a decision: freeing ten thousand rules takes milliseconds.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cordon_policy::{
    Snapshot,
    source::{LoadError, PolicySource},
};

use crate::policy_sets::PolicySets;

/// Snapshots that nobody uses are kept up to this many.
const UNUSED: usize = 8;

/// Snapshots by what they were made of.
#[derive(Debug)]
pub struct Cache {
    kept: Mutex<HashMap<String, Arc<Snapshot>>>,
    sets: PolicySets,
}

impl Cache {
    /// An empty one. What is loaded is kept in `sets`, for those who read the log later.
    pub fn new(sets: PolicySets) -> Self {
        Self {
            kept: Mutex::default(),
            sets,
        }
    }

    /// The snapshot of a set: the one that is there, or a new one.
    ///
    /// # Errors
    /// [`LoadError`] with everything that is wrong.
    pub async fn snapshot(&self, source: PolicySource) -> Result<Arc<Snapshot>, LoadError> {
        let key = key_of(&source);
        if let Some(snapshot) = self.lock().get(&key) {
            return Ok(Arc::clone(snapshot));
        }
        let sets = self.sets.clone();
        let load = tokio::task::spawn_blocking(move || load(&source, &sets)).await;
        let snapshot = load.unwrap_or_else(|error| {
            Err(LoadError {
                message: format!("loading broke off: {error}"),
                help: None,
                findings: Vec::new(),
            })
        })?;
        let mut kept = self.lock();
        // Another session may have loaded the same meanwhile; both then use one.
        let snapshot = Arc::clone(kept.entry(key).or_insert_with(|| Arc::new(snapshot)));
        let unused: Vec<String> = kept
            .iter()
            .filter(|(_, snapshot)| Arc::strong_count(snapshot) == 1)
            .map(|(key, _)| key.clone())
            .collect();
        let surplus: Vec<_> = unused
            .iter()
            .take(unused.len().saturating_sub(UNUSED))
            .filter_map(|key| kept.remove(key))
            .collect();
        drop(kept);
        if !surplus.is_empty() {
            tokio::task::spawn_blocking(move || drop(surplus));
        }
        Ok(snapshot)
    }

    /// Loads a set now. Blocks.
    ///
    /// # Errors
    /// [`LoadError`] with everything that is wrong.
    pub fn keep(&self, source: &PolicySource) -> Result<(), LoadError> {
        let snapshot = Arc::new(load(source, &self.sets)?);
        self.lock().insert(key_of(source), snapshot);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Snapshot>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Loads a set and keeps its text. Without it records are explained less well, and nothing else.
fn load(source: &PolicySource, sets: &PolicySets) -> Result<Snapshot, LoadError> {
    let snapshot = Snapshot::load(source)?;
    if let Err(error) = sets.keep(source) {
        tracing::warn!(set = source.name, %error, "a policy set was not kept for the log's readers");
    }
    Ok(snapshot)
}

/// Everything that a snapshot depends on or shows: the same rules under another trust are another
/// set.
pub(super) fn key_of(source: &PolicySource) -> String {
    let mut key = format!(
        "{} {:?} {:?} {:?} {:?} {:?}",
        source.digest(),
        source.name,
        source.trust,
        source.revision,
        source.observe,
        source.bundles
    );
    for file in &source.files {
        // Writing to a string cannot fail.
        let _written = write!(key, "\n{} {}", file.layer, file.path.display());
    }
    key
}
