//! Why an agent could not be made ready.

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why an agent could not be made ready. Nothing was shown or started.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The profile itself is wrong.
    #[error("agent profile not accepted: `{profile}`: {message}")]
    Profile {
        /// Its name.
        profile: String,
        /// What is wrong with it.
        message: String,
    },
    /// No such program.
    #[error("command not found: {command:?}")]
    NotFound {
        /// As it was asked for.
        command: String,
    },
    /// The program is a script that starts something the profile cannot see.
    #[error("agent not started: `{}` is a script that starts another program", path.display())]
    Wrapper {
        /// The script.
        path: PathBuf,
    },
    /// The script's interpreter is missing.
    #[error("agent not started: `{}` needs `{interpreter}`, which was not found", path.display())]
    NoInterpreter {
        /// The script.
        path: PathBuf,
        /// What its first line names.
        interpreter: String,
    },
    /// A path of the profile is something else on this host.
    #[error("agent not started: `{}` is not a {expected}", path.display())]
    WrongKind {
        /// The path.
        path: PathBuf,
        /// What the profile says it is.
        expected: &'static str,
    },
    /// A variable of the host cannot be used.
    #[error("agent not started: the variable {name} {problem}")]
    Variable {
        /// Its name; its value may be a secret.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file is larger than a private copy may be.
    #[error("`{}` not copied: it is larger than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is copied.
        limit_bytes: u64,
    },
    /// The host's file system refused.
    #[error("`{}` not {doing}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Past participle of what was tried: read, written.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl AgentError {
    /// What to do; shown after `help:`.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Profile { .. } => "the format is described in docs/agents.md",
            Self::NotFound { .. } => "install it, or add its directory to PATH",
            Self::Wrapper { .. } => {
                "name the program it starts instead, or use --agent none and grant what it needs"
            }
            Self::NoInterpreter { .. } => "install the interpreter, or add its directory to PATH",
            Self::WrongKind { .. } => "move it out of the way",
            Self::Variable { .. } => "correct or unset it",
            Self::TooLarge { .. } => "make the file smaller; the agent can do without its history",
            Self::Io { .. } => "check the owner and the permissions of the file",
        }
    }
}
