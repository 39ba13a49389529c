//! Why a log was not opened, or something not recorded: what, why, and what to do.

use std::path::Path;

use thiserror::Error;

/// Why a log was not opened.
#[derive(Debug, Error)]
#[error("log not opened: {message}")]
pub struct OpenError {
    /// What kind of reason.
    pub kind: OpenErrorKind,
    /// What, why, and what to do.
    pub message: String,
}

/// Kinds of reasons why a log was not opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpenErrorKind {
    /// A file could not be read or written.
    Io,
    /// Another process has it open.
    Locked,
    /// The directory is not one that a log may be in.
    Invalid,
    /// The log is not what its checkpoint states, or is damaged. Nothing was changed.
    Integrity,
}

/// Why something could not be recorded. Nothing may be done then: answer 503.
#[derive(Clone, Debug, Error)]
#[error("not recorded, so not done: {message}")]
pub struct RecordError {
    /// What and why.
    pub message: String,
}

impl OpenError {
    pub(crate) fn new(kind: OpenErrorKind, message: String) -> Self {
        Self { kind, message }
    }

    pub(crate) fn io(path: &Path, done: &str, error: &std::io::Error) -> Self {
        Self::new(
            OpenErrorKind::Io,
            format!(
                "`{}` cannot be {done}: {error}: nothing runs without its log, so see to the \
                 disk, its space and its permissions",
                path.display()
            ),
        )
    }

    pub(crate) fn integrity(what: String) -> Self {
        Self::new(
            OpenErrorKind::Integrity,
            format!(
                "the log is not whole: {what}. Nothing was changed. `cordon audit verify` names \
                 the first bad record; to go on, `cordon audit new-origin --because TEXT` keeps \
                 this log as evidence and begins a new one that names it"
            ),
        )
    }
}
