//! From a profile to this host: where everything is, and what is missing.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{
    AgentError, AgentProfile, EntryKind, HomeEntry, HostEnvironment, ProfileGrant, ProfileMode,
    ResolvedAgent,
    program::{candidates, installation, is_system},
};

/// What a command without a profile stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlainProgram {
    /// In a directory that every session sees; run it by this path.
    System(PathBuf),
    /// In one of the folders given as granted; canonical.
    Granted {
        /// Canonical path on the host.
        host: PathBuf,
        /// Which of them.
        folder: usize,
    },
    /// On the host, and not visible inside.
    Hidden(PathBuf),
}

/// Where the program of `command` is, and whether the session will see it.
///
/// `granted` are canonical folders. A name without a slash is looked up in the host's `PATH`; the
/// first place that is visible wins over an earlier one that is not.
///
/// # Errors
/// [`AgentError::NotFound`].
pub fn resolve_plain(
    env: &HostEnvironment<'_>,
    granted: &[PathBuf],
    command: &OsStr,
) -> Result<PlainProgram, AgentError> {
    let mut hidden = None;
    for found in candidates(env, command) {
        let Ok(real) = found.canonicalize() else {
            continue;
        };
        if is_system(&real) && is_system(&found) {
            // Not the canonical path: programs like busybox go by the name they are called.
            return Ok(PlainProgram::System(found));
        }
        if is_system(&real) {
            return Ok(PlainProgram::System(real));
        }
        if let Some(folder) = granted.iter().position(|folder| real.starts_with(folder)) {
            return Ok(PlainProgram::Granted { host: real, folder });
        }
        hidden.get_or_insert(real);
    }
    hidden
        .map(PlainProgram::Hidden)
        .ok_or_else(|| not_found(command))
}

impl AgentProfile {
    /// Finds everything the profile names on this host. What is absent is left out; what is there
    /// and is not what the profile says it is, is an error.
    ///
    /// # Errors
    /// Every [`AgentError`] but `Profile` and `TooLarge`.
    pub fn resolve(
        &self,
        env: &HostEnvironment<'_>,
        home: &Path,
        command: &OsStr,
    ) -> Result<ResolvedAgent, AgentError> {
        let found = candidates(env, command)
            .next()
            .ok_or_else(|| not_found(command))?;
        let program = found.canonicalize().map_err(|source| AgentError::Io {
            path: found.clone(),
            doing: "read",
            source,
        })?;
        let home = home.canonicalize().map_err(|source| AgentError::Io {
            path: home.to_path_buf(),
            doing: "read",
            source,
        })?;
        let installed = installation(env, &home, &self.program, &program)?;
        let mut mounts: Vec<ProfileGrant> = installed.shown.into_iter().map(shown).collect();
        mounts.extend(self.system_mounts());
        mounts.extend(self.home_mounts(env, &home)?);
        // A folder is mounted before what lies in it.
        mounts.sort_by(|a, b| a.inside.cmp(&b.inside));
        Ok(ResolvedAgent {
            name: self.name.clone(),
            program,
            argv0: found.file_name().unwrap_or(command).to_os_string(),
            args: self.args.clone(),
            mounts,
            env: self.variables(env)?,
            path_dirs: installed.path_dirs,
            git_identity: self.environment.git_identity,
            grant_mode: self.grant_mode,
        })
    }

    fn system_mounts(&self) -> impl Iterator<Item = ProfileGrant> + '_ {
        self.system.iter().filter_map(|path| {
            let host = path.canonicalize().ok()?;
            Some(ProfileGrant {
                is_dir: host.is_dir(),
                host,
                inside: path.clone(),
                mode: ProfileMode::Ro,
            })
        })
    }

    fn home_mounts(
        &self,
        env: &HostEnvironment<'_>,
        home: &Path,
    ) -> Result<Vec<ProfileGrant>, AgentError> {
        let relocated = self.relocated(env)?;
        let mut mounts = Vec::with_capacity(self.home.len());
        for entry in &self.home {
            let host = self.host_path(entry, home, relocated.as_deref());
            // Absent (or a dangling link) is normal: not every user has every file.
            if let Ok(real) = host.canonicalize() {
                mounts.push(entry.grant(real)?);
            }
        }
        Ok(mounts)
    }

    /// Where an entry is on the host.
    fn host_path(&self, entry: &HomeEntry, home: &Path, relocated: Option<&Path>) -> PathBuf {
        let usual = self
            .relocation
            .as_ref()
            .map(|relocation| &relocation.directory);
        let below = usual.and_then(|usual| entry.path.strip_prefix(usual).ok());
        match (relocated, entry.relocated.as_deref().or(below)) {
            (Some(directory), Some(below)) => directory.join(below),
            (None, _) | (_, None) => home.join(&entry.path),
        }
    }

    fn relocated(&self, env: &HostEnvironment<'_>) -> Result<Option<PathBuf>, AgentError> {
        let Some(relocation) = &self.relocation else {
            return Ok(None);
        };
        let value = env(&relocation.variable).filter(|value| !value.is_empty());
        let Some(directory) = value.map(PathBuf::from) else {
            return Ok(None);
        };
        if directory.is_absolute() {
            return Ok(Some(directory));
        }
        Err(AgentError::Variable {
            name: relocation.variable.clone(),
            problem: "is not an absolute path",
        })
    }

    fn variables(&self, env: &HostEnvironment<'_>) -> Result<Vec<(String, String)>, AgentError> {
        let mut all = self.environment.set.clone();
        for name in &self.environment.pass {
            let Some(value) = env(name) else {
                continue;
            };
            let value = value.into_string().map_err(|_bytes| AgentError::Variable {
                name: name.clone(),
                problem: "is not UTF-8",
            })?;
            all.insert(name.clone(), value);
        }
        Ok(all.into_iter().collect())
    }
}

impl HomeEntry {
    fn grant(&self, host: PathBuf) -> Result<ProfileGrant, AgentError> {
        let (fits, expected) = match self.kind {
            EntryKind::File => (host.is_file(), "regular file"),
            EntryKind::Dir => (host.is_dir(), "folder"),
        };
        if !fits {
            return Err(AgentError::WrongKind {
                path: host,
                expected,
            });
        }
        Ok(ProfileGrant {
            host,
            inside: self.path.clone(),
            mode: self.mode,
            is_dir: self.kind == EntryKind::Dir,
        })
    }
}

/// A part of an installation: read-only, at its own path, so that its own links keep working.
fn shown(path: PathBuf) -> ProfileGrant {
    ProfileGrant {
        is_dir: path.is_dir(),
        inside: path.clone(),
        host: path,
        mode: ProfileMode::Ro,
    }
}

fn not_found(command: &OsStr) -> AgentError {
    let bounded = command
        .as_bytes()
        .get(..COMMAND_BYTES)
        .unwrap_or(command.as_bytes());
    AgentError::NotFound {
        command: String::from_utf8_lossy(bounded).into_owned(),
    }
}

/// As much of a command as an error repeats.
const COMMAND_BYTES: usize = 200;
