//! Where a policy set comes from: built in, or files, directories and bundles.
//!
//! Paths in, bounded text out; nothing is parsed here. What is read is a regular file: a pipe or
//! device would block, and a symlink is followed only where the caller named it.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    Layer, Observe, Trust,
    bundle::{Bundle, BundleError, BundleRef},
    check::{Finding, Severity, plain},
    engine::bounds::{MAX_FILE_BYTES, MAX_FILES, MAX_SET_BYTES},
};

/// The text of a policy set, read and bounded, not yet parsed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySource {
    /// `default`, or the path given.
    pub name: String,
    /// Files in the order of their names.
    pub files: Vec<PolicyFile>,
    /// Which layers may `permit`.
    pub trust: Trust,
    /// Revision of the bundle, where the set is one.
    pub revision: Option<u64>,
    /// Until when the whole set only observes, where it does.
    pub observe: Option<Observe>,
    /// The bundles it is made of, from the most to the least trusted.
    pub bundles: Vec<BundleRef>,
    /// Namespaces of their own that its bundles have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub applications: Vec<ApplicationSource>,
}

/// The text of an application: the folder `app/` of a bundle.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationSource {
    /// Name of the bundle.
    pub bundle: String,
    /// Whose it is.
    pub layer: Layer,
    /// Files in the order of their names.
    pub files: Vec<PolicyFile>,
}

/// One file of a policy set.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// Path as shown in messages.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// Whose it is.
    pub layer: Layer,
}

/// Why a policy set was not loaded: file, line where known, what, and what to do.
#[derive(Debug, Error)]
#[error("policy not loaded: {message}")]
pub struct LoadError {
    /// What and where.
    pub message: String,
    /// What to do, where there is a hint; shown after `help:`.
    pub help: Option<String>,
    /// Everything that was found, where the files could be read.
    pub findings: Vec<Finding>,
}

impl PolicyFile {
    /// A file of the user's own layer.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
            layer: Layer::User,
        }
    }
}

impl ApplicationSource {
    /// Makes it, and all in it, another layer's.
    pub(crate) fn set_layer(&mut self, layer: Layer) {
        self.layer = layer;
        for file in &mut self.files {
            file.layer = layer;
        }
    }
}

impl PolicySource {
    /// A set that is no bundle, where no organisation limits who may permit.
    pub fn new(name: impl Into<String>, files: Vec<PolicyFile>) -> Self {
        Self {
            name: name.into(),
            files,
            trust: Trust::WITHOUT_ORGANISATION,
            revision: None,
            observe: None,
            bundles: Vec::new(),
            applications: Vec::new(),
        }
    }

    /// The pack that is used when no `--policy` is given.
    pub fn default_pack() -> Self {
        let file = |path, text| PolicyFile {
            layer: Layer::Organisation,
            ..PolicyFile::new(path, text)
        };
        Self::new(
            "default",
            vec![
                file(
                    "default/default.cedar",
                    include_str!("../../policies/default/default.cedar"),
                ),
                file(
                    "default/data/hosts.toml",
                    include_str!("../../policies/default/data/hosts.toml"),
                ),
            ],
        )
    }

    /// SHA-256 over the schema, the trust, and the files with their layers, lower-case hex. Folders
    /// do not count.
    pub fn digest(&self) -> String {
        crate::engine::digest(self)
    }

    /// This set and another as one, under this one's trust.
    #[must_use]
    pub fn join(mut self, other: Self) -> Self {
        self.name = format!("{} + {}", self.name, other.name);
        self.files.extend(other.files);
        self.bundles.extend(other.bundles);
        self.applications.extend(other.applications);
        self
    }

    /// Reads files (`*.cedar`, `*.toml`), directories (those within them, sorted by name) and
    /// bundles (a directory with `bundle.toml`, or an archive `*.tar.gz`). Nothing is verified
    /// here: see [`crate::bundle::verify`].
    ///
    /// A bundle on its own keeps what it says of itself: layer, trust, revision, observe mode.
    /// Among other paths it is read for its rules, data and application alone, in the user's layer.
    ///
    /// # Errors
    /// [`LoadError`] when a path cannot be read, is too large, or holds no policy.
    pub fn read(paths: &[&Path]) -> Result<Self, LoadError> {
        if let [path] = paths
            && is_bundle(path)
        {
            return Ok(Bundle::read(path)?.source());
        }
        let mut reader = Reader::default();
        for path in paths {
            let kind = fs::metadata(path).map_err(|error| LoadError::io(path, &error))?;
            if is_bundle(path) {
                reader.bundle(path)?;
            } else if kind.is_dir() {
                reader.directory(path)?;
            } else {
                reader.file(path)?;
            }
        }
        let names: Vec<String> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        if !reader
            .files
            .iter()
            .any(|file| has_extension(&file.path, "cedar"))
        {
            return Err(LoadError::new(
                format!("there is no `.cedar` file in `{}`", names.join("`, `")),
                "name a `.cedar` file, or a directory with one; an empty one denies everything",
            ));
        }
        Ok(Self {
            applications: reader.applications,
            ..Self::new(names.join(","), reader.files)
        })
    }
}

#[derive(Default)]
struct Reader {
    files: Vec<PolicyFile>,
    applications: Vec<ApplicationSource>,
    bytes: usize,
}

impl Reader {
    fn bundle(&mut self, path: &Path) -> Result<(), LoadError> {
        let source = Bundle::read(path)?.source();
        for file in source.files {
            self.add(PolicyFile {
                layer: Layer::User,
                ..file
            })?;
        }
        for mut application in source.applications {
            application.set_layer(Layer::User);
            self.applications.push(application);
        }
        Ok(())
    }

    /// The policy files right in a directory, hidden ones left out as a shell does.
    fn directory(&mut self, path: &Path) -> Result<(), LoadError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(path).map_err(|error| LoadError::io(path, &error))? {
            let entry = entry.map_err(|error| LoadError::io(path, &error))?;
            let file = entry.path();
            let kind = entry
                .file_type()
                .map_err(|error| LoadError::io(&file, &error))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() {
                refuse_rules_below(&file)?;
            } else if is_policy(&file) {
                refuse_unless_regular(&file, kind.is_file())?;
                found.push(file);
            }
            if found.len() > MAX_FILES {
                return Err(LoadError::too_large(path));
            }
        }
        found.sort();
        found.iter().try_for_each(|file| self.file(file))
    }

    fn file(&mut self, path: &Path) -> Result<(), LoadError> {
        if !is_policy(path) {
            return Err(LoadError::new(
                format!("`{}` is neither `.cedar` nor `.toml`", path.display()),
                "rules are in `.cedar` files, host groups in `.toml` files",
            ));
        }
        if self.files.iter().any(|file| file.path == path) {
            return Ok(());
        }
        self.add(PolicyFile::new(path, read_text(path)?))
    }

    fn add(&mut self, file: PolicyFile) -> Result<(), LoadError> {
        self.bytes = self.bytes.saturating_add(file.text.len());
        if self.bytes > MAX_SET_BYTES || self.files.len() >= MAX_FILES {
            return Err(LoadError::too_large(&file.path));
        }
        self.files.push(file);
        Ok(())
    }
}

/// Whether a path is a bundle: a directory with `bundle.toml`, or a file called `*.tar.gz`.
pub fn is_bundle(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    path.join("bundle.toml").is_file() || name.ends_with(b".tar.gz")
}

/// Rules further down are not read. Leaving them out silently could leave out a `forbid`.
fn refuse_rules_below(folder: &Path) -> Result<(), LoadError> {
    for entry in fs::read_dir(folder).map_err(|error| LoadError::io(folder, &error))? {
        let path = entry.map_err(|error| LoadError::io(folder, &error))?.path();
        if has_extension(&path, "cedar") {
            return Err(LoadError::new(
                format!(
                    "`{}` lies in a folder of the folder that was named",
                    path.display()
                ),
                "name its folder too, or move it up",
            ));
        }
    }
    Ok(())
}

fn refuse_unless_regular(path: &Path, is_regular: bool) -> Result<(), LoadError> {
    if is_regular {
        return Ok(());
    }
    Err(LoadError::new(
        format!("`{}` is not a regular file", path.display()),
        "put the file itself into the directory, or name it on its own",
    ))
}

fn read_text(path: &Path) -> Result<String, LoadError> {
    let io = |error: std::io::Error| LoadError::io(path, &error);
    // Before opening: opening a pipe waits for its other end.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(LoadError::new(
            format!("`{}` is not a regular file", path.display()),
            "name a `.cedar` or `.toml` file",
        ));
    }
    let file = File::open(path).map_err(io)?;
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(LoadError::too_large(path));
    }
    String::from_utf8(bytes).map_err(|_| {
        LoadError::new(
            format!("`{}` is not UTF-8 text", path.display()),
            "save it as UTF-8",
        )
    })
}

fn is_policy(path: &Path) -> bool {
    has_extension(path, "cedar") || has_extension(path, "toml")
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

impl From<BundleError> for LoadError {
    fn from(error: BundleError) -> Self {
        Self::new(error.message().to_owned(), error.hint())
    }
}

impl LoadError {
    fn new(message: String, help: &str) -> Self {
        Self {
            message: plain(&message),
            help: Some(help.into()),
            findings: Vec::new(),
        }
    }

    fn io(path: &Path, error: &std::io::Error) -> Self {
        Self::new(
            format!("`{}`: {error}", path.display()),
            "check the path and that the user may read it",
        )
    }

    fn too_large(path: &Path) -> Self {
        Self::new(
            format!(
                "`{}`: more than {MAX_FILE_BYTES} bytes in a file, {MAX_SET_BYTES} in a set, or {MAX_FILES} files",
                path.display()
            ),
            "a policy set of this size is a mistake, or needs host groups in data files",
        )
    }

    /// The first error leads; the others are with it.
    pub(crate) fn from_findings(findings: Vec<Finding>) -> Self {
        let errors = || findings.iter().filter(|f| f.severity == Severity::Error);
        let further = match errors().count() {
            0 | 1 => String::new(),
            2 => " (and 1 more error)".into(),
            n => format!(" (and {} more errors)", n - 1),
        };
        let first = errors().next();
        Self {
            message: first.map_or_else(
                || "it has errors".to_owned(),
                |finding| format!("{}{further}", finding.headline()),
            ),
            help: first.and_then(|finding| finding.help.clone()),
            findings,
        }
    }
}

#[cfg(test)]
mod tests;
