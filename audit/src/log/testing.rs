//! What tests of the log share.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    checkpoint::Signer,
    merkle::{Frontier, Hash, leaf_hash},
    read::{ReadError, Reader},
};

/// What [`verify`] found.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) records: u64,
    pub(crate) checkpoint_size: Option<u64>,
    right: bool,
}

impl Report {
    pub(crate) fn is_clean(&self) -> bool {
        self.right
    }
}

/// Reads a closed log and holds its root against its checkpoint.
pub(crate) fn verify(directory: &Path) -> Result<Report, ReadError> {
    let (records, root) = tree(directory)?;
    let signer = Signer::load(directory).unwrap().unwrap();
    let checkpoint = signer.last(directory).unwrap().unwrap();
    Ok(Report {
        records,
        checkpoint_size: Some(checkpoint.size),
        right: checkpoint.size == records && checkpoint.root == root,
    })
}

/// Size and root of the tree over all leaves that can be read.
pub(crate) fn tree(directory: &Path) -> Result<(u64, Hash), ReadError> {
    let mut frontier = Frontier::default();
    for leaf in Reader::open(directory)?.leaves(0) {
        let (seq, leaf) = leaf?;
        assert_eq!(seq, frontier.size());
        frontier.push(leaf_hash(&leaf));
    }
    Ok((frontier.size(), frontier.root()))
}

/// What a kill would leave of a log.
pub(crate) fn killed(directory: &Path) -> tempfile::TempDir {
    let left = tempfile::tempdir().unwrap();
    for file in files(directory) {
        let to = left.path().join(file.strip_prefix(directory).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&file, to).unwrap();
    }
    left
}

/// All files below a directory, in order.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
