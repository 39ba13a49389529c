//! Where a sink goes on: one small file per sink, replaced at once and synced.
//!
//! Written after a delivery, never before: a crash between the two delivers again.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use cordon_audit::durable::replace;
use serde::{Deserialize, Serialize};

/// A sink's place in the log, on disk.
#[derive(Debug)]
pub(crate) struct Cursor {
    path: PathBuf,
    pub(crate) kept: Kept,
}

/// What the file holds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    /// The log that it is a place in; empty before the first delivery.
    pub(crate) origin: String,
    /// The next record.
    pub(crate) next: u64,
    /// Records that the sink will never get.
    pub(crate) lost: u64,
}

impl Cursor {
    /// Opens the cursor `name` in `directory`; without one it stands at the beginning.
    pub(crate) fn open(directory: &Path, name: &str) -> io::Result<Self> {
        let path = directory.join(format!("{name}.json"));
        let kept = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let path = path.display();
                io::Error::other(format!(
                    "its cursor `{path}` is damaged ({error}): remove it to deliver everything again"
                ))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, kept })
    }

    /// Makes the log of `origin` the one that the place is in; another one begins anew, which it
    /// tells.
    pub(crate) fn belong_to(&mut self, origin: &str) -> bool {
        let other = self.kept.origin != origin;
        if other {
            self.kept = Kept {
                origin: origin.into(),
                ..Kept::default()
            };
        }
        other
    }

    /// Keeps the place, durable before it returns.
    pub(crate) fn save(&self) -> io::Result<()> {
        replace(&self.path, &serde_json::to_vec(&self.kept)?)
    }
}

/// Makes the directory of the cursors, 0700.
pub(crate) fn make_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_one_of_another_log_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let mut cursor = Cursor::open(directory.path(), "siem").unwrap();
        assert_eq!(cursor.kept, Kept::default());
        cursor.belong_to("log-a");
        cursor.kept.next = 70_000;
        cursor.save().unwrap();
        let mut cursor = Cursor::open(directory.path(), "siem").unwrap();
        cursor.belong_to("log-a");
        assert_eq!(cursor.kept.next, 70_000);
        cursor.belong_to("log-b");
        assert_eq!(cursor.kept.next, 0);
    }

    #[test]
    fn a_damaged_cursor_is_an_error_not_a_beginning() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("siem.json"), "{\"next\":").unwrap();
        let error = Cursor::open(directory.path(), "siem").unwrap_err();
        assert!(error.to_string().contains("remove it"), "{error}");
    }
}
