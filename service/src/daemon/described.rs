//! `session.json`: what a running session is, as a file for tools. Written anew at each change of
//! its state, gone when the session is over.
//!
//! It lies at `sessions/ID/session.json` below the state directory, 0600 in directories that only
//! the user can enter, and holds what `cordon session show --format json` says. Nothing reads it
//! back.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tracing::warn;

use crate::control::SessionStatus;

/// The file of one session. Removed when dropped.
#[derive(Debug)]
pub struct Described {
    directory: PathBuf,
    /// Held while it is written, so that a later state is not overwritten by an earlier one.
    writing: Mutex<()>,
}

impl Described {
    /// Of the session `id`, below `sessions`.
    pub fn new(sessions: &Path, id: &str) -> Self {
        Self {
            directory: sessions.join(id),
            writing: Mutex::default(),
        }
    }

    /// Writes what `status` says at the time. A failure is a message: nothing depends on the file.
    pub fn write(&self, status: impl FnOnce() -> SessionStatus) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.try_write(&status()) {
            let place = self.directory.display();
            warn!(%error, %place, "session.json was not written");
        }
    }

    fn try_write(&self, status: &SessionStatus) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        // Another session that ends may take the directory above away just now.
        builder
            .create(&self.directory)
            .or_else(|_gone| builder.create(&self.directory))?;
        let new = self.directory.join("session.json.new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new)?;
        // At once: the serialiser writes each word by itself.
        let mut text = serde_json::to_vec_pretty(status)?;
        text.push(b'\n');
        file.write_all(&text)?;
        // Whoever reads sees one state or the other, whole.
        std::fs::rename(new, self.directory.join("session.json"))
    }
}

impl Described {
    /// Removes the file: the session is over.
    pub fn remove(&self) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let _never_written = std::fs::remove_dir_all(&self.directory);
        if let Some(sessions) = self.directory.parent() {
            // The last one leaves nothing.
            let _others = std::fs::remove_dir(sessions);
        }
    }
}

impl Drop for Described {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes what a killed daemon left. Only for the one that holds the daemon's lock.
pub fn clean(sessions: &Path) {
    match std::fs::remove_dir_all(sessions) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(%error, "descriptions of former sessions were not removed");
        }
        _gone => {}
    }
}
