//! The launcher's side of a session that the API opens: `cordon run`, started by the daemon.
//!
//! What it is handed is read from standard input, which is nothing for the command then.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use cordon_sandbox::places::{self, Shown};

use super::Args;
use crate::{control::Handed, error::Failure};

impl Args {
    /// Takes what the daemon handed over, where it started us.
    ///
    /// # Errors
    /// When that cannot be read.
    pub(super) fn take_what_is_handed_over(&mut self) -> Result<(), Failure> {
        if !self.handed_over {
            return Ok(());
        }
        // The daemon's terminal, and what is typed there, is not for the session.
        let _own_session = rustix::process::setsid();
        let mut text = Vec::new();
        io::stdin().lock().take(MAX_BYTES).read_to_end(&mut text)?;
        let nothing = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        let handed: Handed = serde_json::from_slice(&text)?;
        let variables = handed.variables.iter();
        self.env
            .extend(variables.map(|(name, value)| format!("{name}={value}")));
        self.handed = handed;
        Ok(())
    }

    /// The folder that is worked in, as it is named on the host.
    pub(super) fn workspace(&self, directory: &Path) -> Option<PathBuf> {
        if self.handed_over {
            return self.handed.workspace.clone();
        }
        Some(directory.into())
    }

    /// Where the command starts, when it was handed a folder to work in and that is granted.
    pub(super) fn starts_in<'g, S: Shown + 'g>(
        &self,
        grants: impl IntoIterator<Item = &'g S>,
    ) -> Option<PathBuf> {
        let folder = self.handed.workspace.as_ref()?.canonicalize().ok()?;
        let inside = places::inside(grants, &folder);
        inside
            .filter(|_| folder.is_dir())
            .map(|(_grant, inside)| inside)
    }
}

/// Longest that is read; what the API takes is shorter.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
