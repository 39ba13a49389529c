//! One error for a person: what, why (the chain), what to do.

use std::{error::Error, fmt};

use cordon_audit::{OpenError, OpenErrorKind};
use cordon_policy::{bundle::BundleError, source::LoadError};
use cordon_sandbox::{launch::LaunchError, terminal::StdioError};
use cordon_session::agents::AgentError;

use crate::{cli::exit, control::ClientError};

/// Why a command failed, as it is printed: `error:` with the chain of causes, then `help:`.
#[derive(Debug)]
pub struct Failure {
    message: String,
    help: Option<String>,
    code: u8,
}

impl Failure {
    /// What failed, and why.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            code: exit::FAILED,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// It was not asked correctly: another exit code.
    #[must_use]
    pub fn usage(self) -> Self {
        self.with_code(exit::USAGE)
    }

    /// With an exit code of its own.
    #[must_use]
    pub fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The exit code that says what kind of failure it is.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// What to do, where it is known.
    pub fn help_text(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Any error becomes a failure; its chain of causes is written once, each part after a colon, and
/// what it says about what to do is kept.
impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            message.push_str(": ");
            message.push_str(&source.to_string());
            cause = source.source();
        }
        let error: &(dyn Error + 'static) = &error;
        let opening = error.downcast_ref::<OpenError>();
        let integrity = opening.is_some_and(|error| error.kind == OpenErrorKind::Integrity);
        Self {
            help: help_of(error),
            code: if integrity {
                exit::INTEGRITY
            } else {
                exit::FAILED
            },
            message,
        }
    }
}

/// What the errors of the floors below say about what to do.
fn help_of(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<LoadError>() {
        return error.help.clone();
    }
    if let Some(error) = error.downcast_ref::<BundleError>() {
        return Some(error.hint().into());
    }
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Failed { help, .. }) => return help.clone(),
        Some(ClientError::Silent) => return Some(SILENT.into()),
        _other => {}
    }
    if let Some(error) = error.downcast_ref::<LaunchError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<StdioError>() {
        return Some(error.hint().into());
    }
    let hint = error.downcast_ref::<AgentError>().map(AgentError::hint);
    hint.map(Into::into)
}

/// What to do about a daemon that does not answer.
pub const SILENT: &str = "it is stopped or stuck: `pgrep -a cordon` shows its process, `kill -CONT \
    PID` lets a stopped one go on, and `kill -KILL PID` ends it; its log stays whole";
