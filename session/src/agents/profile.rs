//! The format of `policies/agents/*.toml`, and what makes a profile acceptable.
//!
//! Text in, a checked [`AgentProfile`] out. Unknown keys are errors. Never touches the host.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use cordon_policy::GrantMode;
use serde::Deserialize;

use super::AgentError;

/// What a known agent needs of the host. Everything it names is asked for, not given.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct AgentProfile {
    /// Its name: `--agent NAME`, and the agent that policy and log see.
    pub name: String,
    /// Commands that it is chosen for, by the last component of their path.
    pub commands: Vec<String>,
    /// The mode in which the working directory is asked for.
    pub grant_mode: GrantMode,
    /// Arguments that go before the user's own.
    #[serde(default)]
    pub args: Vec<String>,
    /// `[program]`: what of its installation is shown.
    #[serde(default)]
    pub program: ProgramRules,
    /// Files and folders outside the home, absolute, read-only where present: an
    /// administrator's settings that the agent must keep obeying.
    #[serde(default)]
    pub system: Vec<PathBuf>,
    /// `[relocation]`: the variable by which the user moves the agent's folder.
    pub relocation: Option<Relocation>,
    /// `[[home]]`: what of the user's home is shown, where present. All else in the session's home
    /// is new and ends with it.
    #[serde(default)]
    pub home: Vec<HomeEntry>,
    /// `[environment]`: its variables.
    #[serde(default)]
    pub environment: Environment,
    /// `[network]`: what it talks to. Opens nothing; policy does.
    #[serde(default)]
    pub network: Network,
}

/// `[program]`: what of an installation is shown, read-only and at its own path.
///
/// A pattern is a run of path components, `*` for any one of them; a path is cut after the last
/// place where it matches. Without a match the program's file alone is shown.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ProgramRules {
    /// Patterns of the folder that holds the program, most wanted first.
    pub roots: Vec<String>,
    /// Packages beside it that it starts, relative to that folder; shown where they really are.
    pub companions: Vec<String>,
    /// Patterns of the folder that holds a script's interpreter.
    pub interpreter_roots: Vec<String>,
}

/// `[relocation]`: `directory` of the home is elsewhere when `variable` is set on the host.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Relocation {
    /// Name of the variable. It does not pass: inside, everything is at its usual place.
    pub variable: String,
    /// The folder it replaces, relative to the home.
    pub directory: PathBuf,
}

/// `[[home]]`: one file or folder of the user's home.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct HomeEntry {
    /// Relative to the home, the same inside and outside.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// How it is shown.
    pub mode: ProfileMode,
    /// Where it is below the relocated folder, when `path` is not below the usual one.
    pub relocated: Option<PathBuf>,
}

/// A file or a folder.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder with all that is in it.
    Dir,
}

/// How an entry of a profile is shown.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum ProfileMode {
    /// The host's own, read only.
    Ro,
    /// The host's own file, its contents writable. It cannot be replaced by renaming another over
    /// it (the kernel refuses that for a mounted file), so only for programs that then write in
    /// place.
    Rw,
    /// A private copy made at the start; what is written to it ends with the session. Files only.
    Copy,
    /// As `copy`; at the end what was written goes back, unless the host's file changed meanwhile.
    /// Files only.
    CopyBack,
}

/// `[environment]`: variables of the agent.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Environment {
    /// Names that pass from the host where set.
    pub pass: Vec<String>,
    /// Names with values that are set inside.
    pub set: BTreeMap<String, String>,
    /// Whether the user's git name and mail address pass, so that the agent can commit; nothing
    /// else of the user's git configuration does.
    pub git_identity: bool,
}

/// `[network]`: what the agent itself talks to, for the policy's author.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Host groups of the policy set that it needs.
    pub host_groups: Vec<String>,
    /// Hosts without which it does not work (port 443).
    pub needed: Vec<String>,
    /// Hosts that it tries and does without: telemetry, updates, extras.
    pub optional: Vec<String>,
}

impl ProfileMode {
    /// The mode in which policy is asked: what can happen to the host's own file.
    pub fn grant_mode(self) -> GrantMode {
        match self {
            Self::Ro | Self::Copy => GrantMode::Ro,
            Self::Rw | Self::CopyBack => GrantMode::Rw,
        }
    }
}

impl AgentProfile {
    /// Reads and checks a profile. `source` names it in messages.
    ///
    /// # Errors
    /// [`AgentError::Profile`]: not TOML, an unknown key, or a value that [`AgentProfile`]'s fields
    /// do not allow.
    pub fn from_toml(source: &str, text: &str) -> Result<Self, AgentError> {
        let refuse = |message: String| AgentError::Profile {
            profile: source.to_owned(),
            message,
        };
        let profile: Self = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        profile.check().map_err(refuse)?;
        Ok(profile)
    }

    fn check(&self) -> Result<(), String> {
        if self.name.is_empty() || self.commands.is_empty() {
            return Err("`name` and `commands` must not be empty".into());
        }
        for path in &self.system {
            if !path.is_absolute() || !plain(path) {
                return Err(format!(
                    "system path {path:?} must be absolute, without `..`"
                ));
            }
        }
        if let Some(relocation) = &self.relocation {
            relative(&relocation.directory)?;
        }
        self.home.iter().try_for_each(HomeEntry::check)?;
        for companion in &self.program.companions {
            relative(Path::new(companion))?;
        }
        self.environment.check()
    }
}

impl HomeEntry {
    fn check(&self) -> Result<(), String> {
        relative(&self.path)?;
        if let Some(path) = &self.relocated {
            relative(path)?;
        }
        match (self.kind, self.mode) {
            (EntryKind::Dir, ProfileMode::Copy | ProfileMode::CopyBack) => Err(format!(
                "{:?} is a folder: only files are copied",
                self.path
            )),
            // A writable folder of the home is a grant of its own, not a detail of a profile.
            (EntryKind::Dir, ProfileMode::Rw) => Err(format!(
                "{:?} is a folder: only files may be writable",
                self.path
            )),
            (EntryKind::Dir, ProfileMode::Ro) | (EntryKind::File, _) => Ok(()),
        }
    }
}

impl Environment {
    fn check(&self) -> Result<(), String> {
        for name in self.pass.iter().chain(self.set.keys()) {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(format!("{name:?} cannot be the name of a variable"));
            }
            if injects(name) {
                return Err(format!(
                    "the variable {name} makes other programs run code; it may not be in a profile"
                ));
            }
        }
        match self.set.iter().find(|(_, value)| value.contains('\0')) {
            Some((name, _)) => Err(format!("the value of {name} contains a zero byte")),
            None => Ok(()),
        }
    }
}

/// Whether a variable makes programs that know nothing of the agent load or run something.
fn injects(name: &str) -> bool {
    INJECTING_PREFIXES
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || INJECTING.contains(&name)
}

fn relative(path: &Path) -> Result<(), String> {
    let below = path.components().next().is_some() && path.is_relative() && plain(path);
    if below {
        return Ok(());
    }
    Err(format!(
        "path {path:?} must be relative, below its folder, without `.` or `..`"
    ))
}

fn plain(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::RootDir))
}

const INJECTING_PREFIXES: [&str; 9] = [
    "BASH_FUNC_",
    "DYLD_",
    "GIT_",
    "LD_",
    "NPM_CONFIG_",
    "PERL5",
    "PYTHON",
    "RUBY",
    "npm_config_",
];

const INJECTING: [&str; 14] = [
    "BASH_ENV",
    "BUN_OPTIONS",
    "CLASSPATH",
    "EDITOR",
    "ENV",
    "GCONV_PATH",
    "JAVA_TOOL_OPTIONS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PAGER",
    "PROMPT_COMMAND",
    "PS4",
    "SHELLOPTS",
    "VISUAL",
];
