//! Agent profiles: what a known agent's program needs of the host, as data.
//!
//! A command's name in, a [`ResolvedAgent`] out: the program, what of the host is shown for it, its
//! variables. Reads names and links of the host's files and the program's first line. Opens nothing
//! for the agent, decides nothing: each [`ProfileGrant`] is a request like any other.

mod copy;
mod error;
mod profile;
mod program;
mod resolve;

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use cordon_policy::GrantMode;

pub use copy::{CopiedFile, GivenBack};
pub use error::AgentError;
pub use profile::{
    AgentProfile, EntryKind, Environment, HomeEntry, Network, ProfileMode, ProgramRules, Relocation,
};
pub use resolve::{PlainProgram, resolve_plain};

/// An agent as this host and this user have it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResolvedAgent {
    /// The profile's name.
    pub name: String,
    /// The program: no symlinks, absolute, at the same path inside.
    pub program: PathBuf,
    /// What the program is told as its own name.
    pub argv0: OsString,
    /// Arguments that go before the user's own.
    pub args: Vec<String>,
    /// What is shown of the host; parents before what lies in them.
    pub mounts: Vec<ProfileGrant>,
    /// Variables set inside, sorted by name.
    pub env: Vec<(String, String)>,
    /// Directories, visible inside, that belong in front of `PATH`.
    pub path_dirs: Vec<PathBuf>,
    /// Whether the user's git name and mail address pass.
    pub git_identity: bool,
    /// In which mode the working directory is asked for.
    pub grant_mode: GrantMode,
}

/// One file or folder of the host that a profile asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProfileGrant {
    /// Canonical path on the host; it exists.
    pub host: PathBuf,
    /// Where it appears: absolute, or relative to the session's own home.
    pub inside: PathBuf,
    /// How.
    pub mode: ProfileMode,
    /// A folder, not a file.
    pub is_dir: bool,
}

/// Looks a variable of the host up.
pub type HostEnvironment<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

impl AgentProfile {
    /// The profiles that come with the program.
    ///
    /// # Errors
    /// [`AgentError::Profile`] names the profile and what is wrong with it; a test keeps the
    /// shipped ones free of it.
    pub fn builtin() -> Result<Vec<Self>, AgentError> {
        BUILTIN
            .iter()
            .map(|(name, text)| Self::from_toml(name, text))
            .collect()
    }

    /// The built-in profile of a command, by the last component of its path.
    ///
    /// # Errors
    /// As [`AgentProfile::builtin`].
    pub fn for_command(command: &OsStr) -> Result<Option<Self>, AgentError> {
        let name = std::path::Path::new(command).file_name();
        Ok(Self::builtin()?.into_iter().find(|profile| {
            profile
                .commands
                .iter()
                .any(|known| name == Some(OsStr::new(known)))
        }))
    }

    /// The built-in profile of that name (`--agent NAME`).
    ///
    /// # Errors
    /// As [`AgentProfile::builtin`].
    pub fn named(name: &str) -> Result<Option<Self>, AgentError> {
        Ok(Self::builtin()?
            .into_iter()
            .find(|profile| profile.name == name))
    }
}

/// Name and text of each built-in profile.
const BUILTIN: [(&str, &str); 2] = [
    ("claude", include_str!("../../policies/agents/claude.toml")),
    ("codex", include_str!("../../policies/agents/codex.toml")),
];

#[cfg(test)]
mod tests;
