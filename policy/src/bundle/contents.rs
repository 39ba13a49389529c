//! The files of a bundle, checked one by one as they come.
//!
//! Names and bytes from a hostile place in, bounded UTF-8 text by name out.

use std::collections::{BTreeMap, HashSet};

use super::{
    BundleError,
    error::Artefact,
    path::{Kind, PLACES, kind_of},
};
use crate::engine::bounds::{MAX_FILE_BYTES, MAX_FILES, MAX_SET_BYTES};

/// How much a bundle may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Most bytes of an archive as it comes. Default 16 MiB.
    pub packed_bytes: usize,
    /// Most bytes of all files together. Default 16 MiB.
    pub total_bytes: usize,
    /// Most bytes of one file. Default 4 MiB.
    pub file_bytes: usize,
    /// Most files. Default 1000.
    pub files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packed_bytes: MAX_SET_BYTES,
            total_bytes: MAX_SET_BYTES,
            file_bytes: MAX_FILE_BYTES,
            files: MAX_FILES,
        }
    }
}

/// The files of a bundle by name, in the order of their names.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    files: BTreeMap<String, (Kind, String)>,
}

impl Contents {
    pub(super) fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(|(_, text)| text.as_str())
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&str, Kind, &str)> {
        self.files
            .iter()
            .map(|(path, (kind, text))| (path.as_str(), *kind, text.as_str()))
    }

    /// Replaces a file that every bundle may have.
    pub(super) fn put(&mut self, path: &str, text: String) {
        if let Ok(kind) = kind_of(path) {
            self.files.insert(path.to_owned(), (kind, text));
        }
    }
}

/// Takes files one by one and refuses the first that does not belong.
pub(super) struct Collector<'a> {
    limits: &'a Limits,
    contents: Contents,
    /// In lower case: on some systems names that differ in case alone are one file.
    names: HashSet<String>,
    bytes: usize,
}

impl<'a> Collector<'a> {
    pub(super) fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            contents: Contents::default(),
            names: HashSet::new(),
            bytes: 0,
        }
    }

    /// Checks a file's name and size before its bytes are looked at.
    pub(super) fn admit(&mut self, path: &[u8], size: u64) -> Result<Place, BundleError> {
        let refuse = |why: &str| {
            let shown = String::from_utf8_lossy(path);
            Artefact::Bundle.error(format!("{shown:.200?}: {why}"), PLACES)
        };
        let name = std::str::from_utf8(path).map_err(|_| refuse("its name is not UTF-8"))?;
        let kind = kind_of(name).map_err(refuse)?;
        if !self.names.insert(name.to_ascii_lowercase()) {
            return Err(Artefact::Bundle.error(
                format!("`{name}` is there twice, or in another case"),
                "keep one of them",
            ));
        }
        if self.names.len() > self.limits.files {
            return Err(Artefact::Bundle.error(
                format!("it has more than {} files", self.limits.files),
                "put several rules into one file",
            ));
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > self.limits.file_bytes {
            return Err(Artefact::Bundle.error(
                format!("`{name}` has more than {} bytes", self.limits.file_bytes),
                "split it into several files",
            ));
        }
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.total_bytes {
            return Err(too_much(self.limits));
        }
        let path = name.to_owned();
        Ok(Place { path, kind })
    }

    /// Takes the bytes of a file that was admitted.
    pub(super) fn take(&mut self, place: Place, bytes: Vec<u8>) -> Result<(), BundleError> {
        let Place { path, kind } = place;
        let text = String::from_utf8(bytes).map_err(|_| {
            Artefact::Bundle.error(format!("`{path}` is not UTF-8 text"), "save it as UTF-8")
        })?;
        self.contents.files.insert(path, (kind, text));
        Ok(())
    }

    pub(super) fn finish(self) -> Contents {
        self.contents
    }
}

/// A name that was admitted.
pub(super) struct Place {
    path: String,
    kind: Kind,
}

pub(super) fn too_much(limits: &Limits) -> BundleError {
    Artefact::Bundle.error(
        format!(
            "its files have more than {} bytes together",
            limits.total_bytes
        ),
        "a bundle of this size is a mistake, or needs host groups in data files",
    )
}
