//! Bundles kept on disk by their digest: what is in force when its source is away, and what may
//! be gone back to.
//!
//! A bundle in, the same one out: its digest is checked when it is read. Never trusts what it
//! reads: signatures are checked again by whoever loads it.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
};

use cordon_audit::durable::replace;
use cordon_policy::bundle::{Bundle, Limits};

/// The directory of kept bundles.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// Opens nothing; the directory is made with the first bundle.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Keeps a bundle; durable when this returns. One that is there with other signatures is
    /// replaced.
    ///
    /// # Errors
    /// When it cannot be packed or written.
    pub fn keep(&self, bundle: &Bundle) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        let bytes = bundle.pack().map_err(io::Error::other)?;
        replace(&self.path(bundle.digest()), &bytes)
    }

    /// Reads a bundle that was kept.
    ///
    /// # Errors
    /// When it is not there, or is not what its name says.
    pub fn read(&self, digest: &str) -> io::Result<Bundle> {
        let bytes = fs::read(self.path(digest))?;
        let bundle = Bundle::read_archive(&bytes, &Limits::default()).map_err(io::Error::other)?;
        if bundle.digest() == digest {
            Ok(bundle)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the kept bundle {digest} is damaged: its content has another digest"),
            ))
        }
    }

    /// Lets go of everything that is not `needed`. What cannot be removed costs space, no more.
    pub fn keep_only(&self, needed: &[&str]) {
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let digest = name.strip_suffix(SUFFIX).unwrap_or(&name);
            if !needed.contains(&digest) {
                let _costs_space = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, digest: &str) -> PathBuf {
        // A digest comes from a board or a bundle; never let it lead elsewhere all the same.
        let name: String = digest.chars().filter(char::is_ascii_hexdigit).collect();
        self.directory.join(format!("{name}{SUFFIX}"))
    }
}

const SUFFIX: &str = ".tar.gz";
