//! Finds a program on the host, and what of its installation it needs.
//!
//! A command and the host's `PATH` in, paths out. Reads links, permissions and first lines.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Read,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Component, Path, PathBuf},
};

use super::{AgentError, HostEnvironment, ProgramRules};

/// Directories of the host that every session sees, read-only.
const SYSTEM: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];

/// A program's installation: what must be shown for it to run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Installation {
    /// Files and folders, canonical, outside the system's directories.
    pub(super) shown: Vec<PathBuf>,
    /// Directories among them to look commands up in.
    pub(super) path_dirs: Vec<PathBuf>,
}

/// Every executable file that `command` may stand for, in the order a shell would take them.
///
/// A command with a slash is a path, relative to the directory of this process.
pub(super) fn candidates<'a>(
    env: &HostEnvironment<'_>,
    command: &'a OsStr,
) -> impl Iterator<Item = PathBuf> + use<'a> {
    let places: Vec<PathBuf> = if command.as_bytes().contains(&b'/') {
        vec![PathBuf::from(command)]
    } else {
        let path = env("PATH").unwrap_or_else(|| OsString::from(DEFAULT_PATH));
        std::env::split_paths(&path)
            // An empty or relative entry means the working directory; nobody means that.
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(command))
            .collect()
    };
    places.into_iter().filter(|path| is_executable(path))
}

/// Whether a canonical path lies where every session sees it.
pub(super) fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|directory| path.starts_with(directory))
}

/// What must be shown for `program` (canonical) to run.
///
/// # Errors
/// [`AgentError::Wrapper`] and [`AgentError::NoInterpreter`].
pub(super) fn installation(
    env: &HostEnvironment<'_>,
    home: &Path,
    rules: &ProgramRules,
    program: &Path,
) -> Result<Installation, AgentError> {
    let mut found = Installation::default();
    let root = root_of(home, &rules.roots, program);
    if !is_system(program) {
        found
            .shown
            .push(root.clone().unwrap_or_else(|| program.to_path_buf()));
    }
    for companion in root
        .iter()
        .flat_map(|root| rules.companions.iter().map(|c| root.join(c)))
    {
        // Absent is normal: one per platform, and most installations have them within.
        if let Ok(real) = companion.canonicalize() {
            found.add(real);
        }
    }
    if let Some(interpreter) = interpreter_of(program)? {
        found.add_interpreter(env, home, rules, program, root.is_some(), &interpreter)?;
    }
    Ok(found)
}

impl Installation {
    fn add(&mut self, path: PathBuf) {
        if !is_system(&path) && !self.shown.iter().any(|shown| path.starts_with(shown)) {
            self.shown.push(path);
        }
    }

    fn add_interpreter(
        &mut self,
        env: &HostEnvironment<'_>,
        home: &Path,
        rules: &ProgramRules,
        program: &Path,
        has_root: bool,
        interpreter: &OsStr,
    ) -> Result<(), AgentError> {
        let missing = || AgentError::NoInterpreter {
            path: program.to_path_buf(),
            interpreter: interpreter.to_string_lossy().into_owned(),
        };
        let found = candidates(env, interpreter).next().ok_or_else(missing)?;
        let real = found.canonicalize().map_err(|_gone| missing())?;
        let is_shell = real
            .file_name()
            .is_some_and(|name| SHELLS.iter().any(|s| name == *s));
        if is_shell && !has_root && !is_system(program) {
            return Err(AgentError::Wrapper {
                path: program.to_path_buf(),
            });
        }
        if is_system(&real) {
            return Ok(());
        }
        // `#!/usr/bin/env node` looks it up inside by the name it has here.
        self.path_dirs.extend(real.parent().map(Path::to_path_buf));
        self.add(root_of(home, &rules.interpreter_roots, &real).unwrap_or(real));
        Ok(())
    }
}

/// The folder that a pattern finds above `path`; never the home or anything above it.
fn root_of(home: &Path, patterns: &[String], path: &Path) -> Option<PathBuf> {
    patterns
        .iter()
        .filter_map(|pattern| cut(path, pattern))
        .find(|root| !home.starts_with(root) && root != path)
}

/// `path` up to the end of the last place where `pattern` matches whole components of it.
fn cut(path: &Path, pattern: &str) -> Option<PathBuf> {
    let wanted: Vec<&str> = pattern.split('/').collect();
    let parts: Vec<Component<'_>> = path.components().collect();
    let matches = |run: &[Component<'_>]| {
        run.iter()
            .zip(&wanted)
            .all(|(part, want)| *want == "*" || part.as_os_str() == *want)
    };
    let last = parts.windows(wanted.len()).rposition(matches)?;
    Some(parts.iter().take(last + wanted.len()).collect())
}

/// The interpreter that a script's first line names; `None` for a binary.
fn interpreter_of(program: &Path) -> Result<Option<OsString>, AgentError> {
    let read = |source| AgentError::Io {
        path: program.to_path_buf(),
        doing: "read",
        source,
    };
    let mut start = Vec::with_capacity(SHEBANG_BYTES);
    File::open(program)
        .map_err(read)?
        .take(SHEBANG_BYTES as u64)
        .read_to_end(&mut start)
        .map_err(read)?;
    let Some(line) = start.strip_prefix(b"#!") else {
        return Ok(None);
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line
        .split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty());
    let first = words.next().map(OsStr::from_bytes);
    if first.and_then(|path| Path::new(path).file_name()) != Some(OsStr::new("env")) {
        return Ok(first.map(OsStr::to_os_string));
    }
    // `env -S NAME=VALUE node --flag`: the first word that is neither option nor assignment.
    Ok(words
        .find(|word| !word.starts_with(b"-") && !word.contains(&b'='))
        .map(|word| OsStr::from_bytes(word).to_os_string()))
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
const SHELLS: [&str; 5] = ["sh", "bash", "dash", "zsh", "busybox"];

/// As much of a first line as the kernel itself looks at.
const SHEBANG_BYTES: usize = 256;
