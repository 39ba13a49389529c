//! Policy snapshots: the built-in pack loaded once, others loaded when a session names them and
//! shared while their files are the same.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use cordon_policy::{
    Snapshot, packs,
    source::{LoadError, PolicySource},
};

/// Whether `--policy` names a shipped pack by this, and not a file.
pub fn is_pack(path: &Path) -> bool {
    path.to_str()
        .is_some_and(|name| packs::find(name).is_some())
}

/// Snapshots kept beside the built-in one; all are let go when there are more (sessions keep theirs).
const KEPT: usize = 32;

/// The snapshots of a daemon.
#[derive(Debug)]
pub struct Policies {
    builtin: Arc<Snapshot>,
    by_digest: Mutex<HashMap<String, Arc<Snapshot>>>,
}

impl Policies {
    /// Loads the built-in pack.
    ///
    /// # Errors
    /// [`LoadError`]; a build whose own pack does not load is broken.
    pub fn new() -> Result<Self, LoadError> {
        let builtin = Arc::new(Snapshot::load(&PolicySource::default_pack())?);
        Ok(Self {
            builtin,
            by_digest: Mutex::default(),
        })
    }

    /// The snapshot of these files and directories; of none, the built-in one. The files are read
    /// every time, so what is decided by is what lies there now.
    ///
    /// # Errors
    /// [`LoadError`]: the session is refused; a broken policy never falls back to another.
    pub async fn snapshot(&self, paths: &[PathBuf]) -> Result<Arc<Snapshot>, LoadError> {
        if paths.is_empty() {
            return Ok(Arc::clone(&self.builtin));
        }
        let paths = paths.to_vec();
        let read = move || {
            let (names, files): (Vec<_>, Vec<_>) = paths
                .iter()
                .map(PathBuf::as_path)
                .partition(|path| is_pack(path));
            let packs = names
                .into_iter()
                .filter_map(|name| PolicySource::pack(name.to_str()?));
            let own = (!files.is_empty())
                .then(|| PolicySource::read(&files))
                .transpose()?;
            let joined = packs.chain(own).reduce(PolicySource::join);
            Ok(joined.unwrap_or_else(PolicySource::default_pack))
        };
        let source = blocking(read).await?;
        let digest = format!("{} {}", source.digest(), source.name);
        if let Some(snapshot) = self.lock().get(&digest) {
            return Ok(Arc::clone(snapshot));
        }
        let snapshot = Arc::new(blocking(move || Snapshot::load(&source)).await?);
        let mut kept = self.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(digest, Arc::clone(&snapshot));
        Ok(snapshot)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Snapshot>>> {
        self.by_digest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(LoadError {
            message: format!("loading broke off: {error}"),
            help: None,
            findings: Vec::new(),
        }),
    }
}
