//! The log's writer: one thread, one journal, group commit.

use std::{path::Path, sync::Arc};

use cordon_policy::Decision;
use thiserror::Error;

use crate::{Event, Record, RecordId, Recorded};

/// The open log. Cheap to clone; one writer thread behind it.
#[derive(Clone, Debug)]
pub struct Log {
    _inner: Arc<()>,
}

/// How to open a log. Built with [`Default`]; every field has its unit in its name.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {}

/// Why a log was not opened.
#[derive(Debug, Error)]
#[error("log not opened: {message}")]
pub struct OpenError {
    /// What, why, and what to do.
    pub message: String,
}

/// Why something could not be recorded. Nothing may be done then: answer 503.
#[derive(Clone, Debug, Error)]
#[error("not recorded, so not done: {message}")]
pub struct RecordError {
    /// What and why.
    pub message: String,
}

impl Log {
    /// Opens or creates the log in `directory` (0700), takes its lock, recovers the journal.
    ///
    /// # Errors
    /// [`OpenError`]; an existing log is never started empty.
    pub fn open(_directory: &Path, _options: LogOptions) -> Result<Self, OpenError> {
        Ok(Self {
            _inner: Arc::new(()),
        })
    }

    /// Records a decision; resolves only when the record is on stable storage (`fdatasync`).
    ///
    /// Callers MUST NOT act before it resolves, and MUST NOT act at all on an error.
    ///
    /// # Errors
    /// [`RecordError`]: nothing may be done.
    pub async fn record(&self, _decision: Decision) -> Result<Recorded, RecordError> {
        Err(RecordError {
            message: "skeleton".into(),
        })
    }

    /// As [`Log::record`], but resolves when the record is written to the journal (it survives
    /// any crash of ours) and syncs it within 20 ms. Only for a further request on a kept
    /// connection with the same destination and outcome as one that `record` acknowledged.
    ///
    /// # Errors
    /// [`RecordError`]: nothing may be done.
    pub async fn record_written(&self, _decision: Decision) -> Result<Recorded, RecordError> {
        Err(RecordError {
            message: "skeleton".into(),
        })
    }

    /// Records an event; resolves when it is on stable storage.
    ///
    /// # Errors
    /// [`RecordError`].
    pub async fn event(&self, _event: Event) -> Result<RecordId, RecordError> {
        Err(RecordError {
            message: "skeleton".into(),
        })
    }

    /// Queues an event without waiting for it (the end of a flow). Back pressure: when the queue
    /// is full, the event is counted and a `log.gap` record says how many were lost.
    pub fn event_later(&self, _event: Event) {}

    /// All records of a session in order, by the index.
    ///
    /// # Errors
    /// [`RecordError`] when the log cannot be read.
    pub fn session(&self, _session: &str) -> Result<Vec<Record>, RecordError> {
        Ok(Vec::new())
    }

    /// Syncs, signs a last checkpoint, seals the index and gives the lock back. Idempotent.
    pub fn close(&self) {}
}
