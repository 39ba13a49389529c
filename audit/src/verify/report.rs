//! What verifying finds, and what it is given to verify with.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use thiserror::Error;

/// What verifying found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The log's name, as its key carries it.
    pub origin: String,
    /// Intact records from the beginning, up to the first bad one or the end.
    pub records: u64,
    /// Records before this one were pruned; their hashes are still proven.
    pub pruned_below: u64,
    /// Records before this one lie in sealed files, the rest in the journal.
    pub sealed: u64,
    /// The records that were read and hashed, where not all were asked for: first, and first after.
    pub checked: Option<(u64, u64)>,
    /// Root of the tree over them, base64 as in a checkpoint.
    pub root: String,
    /// Ids of the keys that signed, from the first that was trusted on, each announced under the
    /// one before it.
    pub keys: Vec<String>,
    /// Signed checkpoints that were held against the records.
    pub checkpoints: u64,
    /// Names of the witnesses that were asked for and have cosigned the newest cosigned checkpoint.
    pub witnesses: Vec<String>,
    /// Size that the log's own checkpoint states.
    pub checkpoint_size: Option<u64>,
    /// Size that the checkpoint brought from elsewhere states.
    pub against_size: Option<u64>,
    /// Whether what is there is as it was written.
    pub integrity: Integrity,
    /// Whether everything is there.
    pub completeness: Completeness,
    /// The first bad record.
    pub first_bad: Option<BadRecord>,
    /// Bytes after the last record that are no record: a write in progress, or one that a crash
    /// cut short. No fault by themselves.
    pub unfinished_bytes: u64,
}

/// Whether what is there is as it was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Integrity {
    /// It is: all that a checkpoint covers by its root, what is newer by its checksums alone.
    Intact,
    /// It is not.
    Broken,
}

/// Whether everything is there, judged by signed checkpoints.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// All that every checkpoint covers is there, and is what they cover.
    Complete,
    /// Less, or something else, is there than a checkpoint covers.
    Incomplete,
    /// No valid checkpoint says how much there should be.
    Unproven {
        /// Why not.
        reason: String,
    },
}

/// A bad record.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct BadRecord {
    /// Its place in the log. Where no stored hash tells it from its neighbours, the first of
    /// those that the failed checkpoint covers and an intact one does not.
    pub seq: u64,
    /// What is wrong.
    pub problem: String,
}

/// What to verify with. [`Default`] takes everything from the log's own directory.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The key that is trusted (`name+id+key`), the first or a later one of the log; if absent the
    /// log's own first key.
    pub public_key: Option<String>,
    /// Text of a checkpoint kept elsewhere: what it covers has to be there still.
    pub checkpoint: Option<String>,
    /// Keys of witnesses that have to have cosigned.
    pub witnesses: Vec<String>,
    /// Only the records of the segment that holds this one are read; the others are taken by their
    /// stored hashes, which the root proves.
    pub segment_of: Option<u64>,
}

/// Why nothing could be verified.
#[derive(Debug, Error)]
#[error("not verified: `{path}`: {message}", path = path.display())]
pub struct VerifyError {
    /// The file.
    pub path: PathBuf,
    /// What, why, what to do.
    pub message: String,
}

impl Report {
    /// Whether the log is whole: intact, and complete by its checkpoints.
    pub fn is_clean(&self) -> bool {
        self.integrity == Integrity::Intact && self.completeness == Completeness::Complete
    }
}

impl VerifyError {
    pub(crate) fn new(path: &Path, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }

    pub(crate) fn io(path: &Path, error: &io::Error) -> Self {
        Self::new(
            path,
            format!("{error}: name the directory of a log that you may read"),
        )
    }
}
