//! Bundles: how a policy set travels, as a directory or as an archive of it, with signatures.
//!
//! Bytes and moments in, values out. Files are read in `read.rs` alone. No clock is read here, and
//! no rule is parsed: [`crate::Snapshot::load`] does that with what [`Bundle::source`] gives.

mod archive;
mod contents;
mod error;
pub(crate) mod json;
mod key;
mod layers;
mod manifest;
mod moment;
mod path;
mod read;
mod signature;
mod trust;
mod verify;
mod workspace;

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

pub(crate) use self::path::{APPLICATION_ENTITIES, APPLICATION_MAPPING};
use self::{
    contents::Contents,
    path::{Kind, SIGNATURES},
};
pub use self::{
    contents::Limits,
    error::{Artefact, BundleError},
    key::{PublicKey, Role, SigningKey},
    layers::{BundleRef, Layers},
    manifest::{Credential, CredentialSource, Manifest},
    signature::{Signed, sign},
    trust::{TrustRoot, TrustedKey},
    verify::{Accepted, Refusal, Signer, accept_unsigned, verify},
    workspace::{WORKSPACE_POLICY, read_workspace},
};
use crate::source::{ApplicationSource, PolicyFile, PolicySource};

/// One revision of a policy set with its data, its tests and its signatures: read, bounded, and
/// its manifest checked. Neither its rules nor its signatures are: see [`crate::Snapshot::load`]
/// and [`verify`].
#[derive(Clone, Debug)]
pub struct Bundle {
    manifest: Manifest,
    contents: Contents,
    digest: String,
    /// What its files are called in messages: the directory, or its own name.
    shown: PathBuf,
}

impl Bundle {
    /// Reads a directory, or an archive from a file.
    ///
    /// # Errors
    /// [`BundleError`] says what is wrong, where, and what to do.
    pub fn read(path: &Path) -> Result<Self, BundleError> {
        if path.is_dir() {
            Self::read_directory(path)
        } else {
            let limits = Limits::default();
            Self::read_archive(&read::archive_bytes(path, &limits)?, &limits)
        }
    }

    /// Reads a directory. Hidden files and backups (`*~`) are left out; a file in it that no
    /// bundle has is an error, because a misspelt name would otherwise drop its rules silently.
    ///
    /// # Errors
    /// [`BundleError`] says what is wrong, where, and what to do. A symlink is one: what it leads
    /// to can change without the bundle.
    pub fn read_directory(path: &Path) -> Result<Self, BundleError> {
        let contents = read::directory(path, &Limits::default())?;
        Self::new(contents, Some(path))
    }

    /// Reads a gzip-compressed tar archive, as [`Bundle::pack`] makes it or any tar program.
    ///
    /// # Errors
    /// [`BundleError`] for anything but plain files and directories in their places, and beyond
    /// the limits. Memory and time are bounded by `limits`, whatever the archive says of itself.
    pub fn read_archive(bytes: &[u8], limits: &Limits) -> Result<Self, BundleError> {
        Self::new(archive::unpack(bytes, limits)?, None)
    }

    fn new(contents: Contents, directory: Option<&Path>) -> Result<Self, BundleError> {
        let manifest = Manifest::read(&contents, directory)?;
        let digest = dir_hash(&contents);
        let shown = directory.map_or_else(|| PathBuf::from(&manifest.name), Path::to_path_buf);
        Ok(Self {
            manifest,
            contents,
            digest,
            shown,
        })
    }

    /// What `bundle.toml` says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 over names and contents of all files but the signatures, lower-case hex; the same
    /// for a directory and its archive. It is in-toto's `dirHash`, which is one line of shell:
    /// `find . -type f | cut -c3- | LC_ALL=C sort | xargs sha256sum | sha256sum`.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Name, revision and digest, as they are recorded.
    pub fn reference(&self) -> BundleRef {
        BundleRef {
            name: self.manifest.name.clone(),
            layer: self.manifest.layer,
            revision: self.manifest.revision,
            digest: self.digest.clone(),
        }
    }

    /// The rules and data, ready to be loaded, in the bundle's own layer and under its own trust.
    pub fn source(&self) -> PolicySource {
        let of = |wanted: fn(Kind) -> bool| -> Vec<PolicyFile> {
            self.files(wanted)
                .map(|(path, text)| PolicyFile {
                    layer: self.manifest.layer,
                    ..PolicyFile::new(self.shown.join(path), text)
                })
                .collect()
        };
        let files = of(|kind| matches!(kind, Kind::Rules | Kind::Data));
        let application = ApplicationSource {
            bundle: self.manifest.name.clone(),
            layer: self.manifest.layer,
            files: of(|kind| kind == Kind::Application),
        };
        let has_one = !application.files.is_empty();
        PolicySource {
            trust: self.manifest.trust,
            revision: Some(self.manifest.revision),
            observe: self.manifest.observe,
            bundles: vec![self.reference()],
            applications: has_one.then_some(application).into_iter().collect(),
            ..PolicySource::new(&self.manifest.name, files)
        }
    }

    /// The test files: path as shown in messages, and text.
    pub fn tests(&self) -> impl Iterator<Item = (PathBuf, &str)> {
        self.files(|kind| kind == Kind::Tests)
            .map(|(path, text)| (self.shown.join(path), text))
    }

    /// Whether there are signatures; not whether they are any good.
    pub fn is_signed(&self) -> bool {
        self.signatures()
            .is_some_and(|text| !text.trim().is_empty())
    }

    /// The bundle as an archive: the same bytes for the same contents, whatever the files' dates,
    /// owners and order were.
    ///
    /// # Errors
    /// [`BundleError`] when it cannot be compressed.
    pub fn pack(&self) -> Result<Vec<u8>, BundleError> {
        archive::pack(&self.contents)
    }

    /// The bundle with these signatures in place of its own.
    #[must_use]
    pub fn with_signatures(mut self, signed: &Signed) -> Self {
        self.contents.put(SIGNATURES, signed.text.clone());
        self
    }

    fn signatures(&self) -> Option<&str> {
        self.contents.get(SIGNATURES)
    }

    fn files(&self, wanted: impl Fn(Kind) -> bool) -> impl Iterator<Item = (&str, &str)> {
        self.contents
            .files()
            .filter(move |(_, kind, _)| wanted(*kind))
            .map(|(path, _, text)| (path, text))
    }
}

/// The hash that Go's module proxy calls `h1`, in hex: one line for each file, in the order of
/// their names, of its SHA-256, two spaces and its name.
fn dir_hash(contents: &Contents) -> String {
    let mut lines = Sha256::new();
    for (path, kind, text) in contents.files() {
        if kind != Kind::Signatures {
            let line = format!("{}  {path}\n", hex(&Sha256::digest(text.as_bytes())));
            lines.update(line.as_bytes());
        }
    }
    hex(&lines.finalize())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
