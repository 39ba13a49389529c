//! Tells which line of an export is not the one that was exported.
//!
//! The file, the hashes of its lines that were written beside it, and their root from the signed
//! manifest in; the first wrong line out. Reads both as streams.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use super::{
    bad,
    report::BadRecord,
    tree::{Hash, Tree},
};

/// What the lines of a file were found to be.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Lines {
    /// All are what was exported.
    Right,
    /// The first that is not, counted from 0.
    Wrong(BadRecord),
    /// The hashes are not those that the manifest states.
    OtherHashes,
}

/// Holds each line of `file` against its hash in `hashes`, which have to give `root`.
pub(super) fn compare(file: &Path, hashes: &Path, root: &str) -> io::Result<Lines> {
    let mut tree = Tree::default();
    let mut stated = Stated::open(hashes)?;
    while let Some(hash) = stated.next()? {
        tree.push(hash);
    }
    if tree.root_text() != root {
        return Ok(Lines::OtherHashes);
    }
    let mut stated = Stated::open(hashes)?;
    let mut found = Found(BufReader::with_capacity(1 << 20, File::open(file)?));
    let mut line = 0;
    loop {
        let (is, was) = (found.next()?, stated.next()?);
        if is == was && is.is_some() {
            line += 1;
            continue;
        }
        let problem = match (is, was) {
            (None, None) => return Ok(Lines::Right),
            (None, Some(_)) => "it is missing, and all after it",
            (Some(_), None) => "there are more lines than were exported",
            (Some(_), Some(_)) => differ(is, was, found.next()?, stated.next()?),
        };
        return Ok(Lines::Wrong(bad(line, problem)));
    }
}

/// What has happened where a line is not the one that was, by the next ones.
fn differ(
    is: Option<Hash>,
    was: Option<Hash>,
    next_is: Option<Hash>,
    next_was: Option<Hash>,
) -> &'static str {
    match (is == next_was, next_is == was) {
        (true, true) => "it and the next line have changed places",
        (true, false) => "the line that was exported here is missing",
        (false, true) => "it was put in: the line that was exported here follows",
        (false, false) => "it is not what was exported",
    }
}

/// The hashes that were written beside the export.
struct Stated(BufReader<File>);

impl Stated {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(BufReader::with_capacity(1 << 16, File::open(path)?)))
    }

    fn next(&mut self) -> io::Result<Option<Hash>> {
        if self.0.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut hash = [0; 32];
        match self.0.read_exact(&mut hash) {
            Ok(()) => Ok(Some(hash)),
            // A part of one is none that the manifest's root was made of.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Some([0; 32])),
            Err(error) => Err(error),
        }
    }
}

/// The lines of a file, as leaf hashes of their bytes without the line feed.
struct Found<R>(R);

impl<R: BufRead> Found<R> {
    /// In pieces: how long a line is, is nobody's promise.
    fn next(&mut self) -> io::Result<Option<Hash>> {
        let mut hash = Sha256::new_with_prefix([0]);
        let mut any = false;
        loop {
            let bytes = self.0.fill_buf()?;
            if bytes.is_empty() {
                return Ok(any.then(|| hash.finalize().into()));
            }
            any = true;
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let line = end.map_or(bytes, |end| bytes.get(..end).unwrap_or_default());
            hash.update(line);
            let used = line.len() + usize::from(end.is_some());
            self.0.consume(used);
            if end.is_some() {
                return Ok(Some(hash.finalize().into()));
            }
        }
    }
}
