//! Extensions: from a folder or an archive to checked content with a digest, a manifest and what
//! came of its signature.
//!
//! A path in, files in a new folder and a [`Package`] out. Nothing of it is run; never decides.

mod archive;
mod folder;
mod manifest;
mod signature;

use std::{
    fs,
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
    time::SystemTime,
};

use cordon_policy::Signature;
use rustix::fs::{FileType, Mode, OFlags, fstat};
use thiserror::Error;

pub use manifest::{Manifest, Start};
pub use signature::Trust;

/// An extension whose content was checked and laid out.
#[derive(Clone, Debug)]
pub struct Package {
    /// What it says about itself.
    pub manifest: Manifest,
    /// SHA-256 over every path, whether it can be run, and content, in the order of paths.
    pub digest: String,
    /// What came of its signature.
    pub signature: Finding,
}

/// What came of checking a signature (P07): four different things.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Finding {
    /// Good, by this publisher of the configuration.
    Trusted(String),
    /// Good, by somebody else: the subject of the certificate.
    Untrusted(String),
    /// There is one and it does not verify: why.
    Broken(String),
    /// There is none.
    Unsigned,
}

impl Finding {
    /// As policy knows it.
    pub fn signature(&self) -> Signature {
        match self {
            Self::Trusted(_) => Signature::Trusted,
            Self::Untrusted(_) => Signature::Untrusted,
            Self::Broken(_) => Signature::Broken,
            Self::Unsigned => Signature::Unsigned,
        }
    }

    /// The publisher or subject, or why it is broken.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Trusted(text) | Self::Untrusted(text) | Self::Broken(text) => Some(text),
            Self::Unsigned => None,
        }
    }
}

/// Why something is no extension. Nothing of it is kept then.
#[derive(Debug, Error)]
pub enum ExtensionError {
    /// It cannot be read or laid out.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The archive is damaged, or built to deceive.
    #[error("the archive is not accepted: {0}")]
    Archive(String),
    /// A path in it is not accepted.
    #[error("the path {0:?} in it is not accepted: {1}")]
    Path(String, &'static str),
    /// It is larger than is read.
    #[error("it is too large: {0}")]
    TooLarge(&'static str),
    /// Its manifest is not what the format says.
    #[error("`manifest.json` is not accepted: {0}")]
    Manifest(String),
}

/// Lays out an extension in `into`, a new and empty folder, and checks it. `now` is for the validity
/// of certificates.
///
/// # Errors
/// [`ExtensionError`]; what was laid out so far is for the caller to remove.
pub fn unpack(
    from: &Path,
    into: &Path,
    trust: &Trust,
    now: SystemTime,
) -> Result<Package, ExtensionError> {
    // What is opened is what is looked at; a pipe is not waited for.
    let opened = open(from, OFlags::NONBLOCK)?;
    let kind = FileType::from_raw_mode(fstat(&opened).map_err(io::Error::from)?.st_mode);
    let (digest, signature) = match kind {
        FileType::Directory => (folder::copy(&opened, Some(into))?, Finding::Unsigned),
        FileType::RegularFile => {
            let bytes = read(opened)?;
            let parts = signature::split(&bytes)?;
            let digest = archive::extract(&parts.content, into)?;
            (digest, signature::check(&parts, trust, now))
        }
        _other => return Err(io::Error::other("neither a folder nor a file").into()),
    };
    let text = fs::read(into.join("manifest.json")).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ExtensionError::Manifest("there is none".into()),
        _other => error.into(),
    })?;
    Ok(Package {
        manifest: Manifest::read(&text).map_err(ExtensionError::Manifest)?,
        digest,
        signature,
    })
}

/// The digest of content that was laid out.
///
/// # Errors
/// It cannot be read, or is nothing that was laid out.
pub fn digest(folder: &Path) -> Result<String, ExtensionError> {
    let opened = open(folder, OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
    folder::copy(&opened, None)
}

fn open(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn read(opened: OwnedFd) -> Result<Vec<u8>, ExtensionError> {
    let mut bytes = Vec::new();
    let file = fs::File::from(opened);
    file.take(MAX_ARCHIVE_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_ARCHIVE_BYTES) {
        Ok(bytes)
    } else {
        Err(ExtensionError::TooLarge("an archive has at most 128 MiB"))
    }
}

/// Largest archive.
const MAX_ARCHIVE_BYTES: u64 = 128 * 1024 * 1024;
