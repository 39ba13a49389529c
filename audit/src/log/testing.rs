//! What tests of the log share.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    merkle::{Frontier, Hash, leaf_hash},
    read::{ReadError, Reader},
    verify::{Report, VerifyError},
};

/// What the verifier, which shares no code with the writer, says of a log; what the reader reads
/// has to be the same.
pub(crate) fn verify(directory: &Path) -> Result<Report, VerifyError> {
    let report = crate::verify::verify(directory)?;
    if report.is_clean() {
        let (records, root) = tree(directory).unwrap();
        assert_eq!(records, report.records);
        assert_eq!(STANDARD.encode(root), report.root);
    }
    Ok(report)
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
    loop {
        let left = tempfile::tempdir().unwrap();
        let copied = files(directory).iter().try_for_each(|file| {
            let to = left.path().join(file.strip_prefix(directory).unwrap());
            fs::create_dir_all(to.parent().unwrap())?;
            fs::copy(file, to).map(drop)
        });
        match copied {
            Ok(()) => return left,
            // It is at work: what was there a moment ago has gone, and no moment was like this.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{error}"),
        }
    }
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
