//! Where records are read from: bundles of sealed ones, and journals.
//!
//! A place in the log in, its leaves out, one after the other. Changes nothing.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Seek as _, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
};

use super::{ReadError, journals, sealed};
use crate::{
    Record, files,
    frame::{self, Header, Next},
    seal::tiles::{self, Tile, WIDTH},
};

/// Where the next record is read from.
#[derive(Debug)]
pub(super) enum Place {
    Bundle(OpenBundle),
    Journal(OpenJournal),
}

/// A bundle of sealed records, whole in memory: at most 256 leaves.
#[derive(Debug)]
pub(super) struct OpenBundle {
    bytes: Vec<u8>,
    entries: std::vec::IntoIter<Range<usize>>,
}

/// A journal, and where in it the next frame stands.
#[derive(Debug)]
pub(super) struct OpenJournal {
    path: PathBuf,
    reader: BufReader<File>,
    first: u64,
    pub(super) seq: u64,
    at: u64,
    /// Whether there is something after it, so that it is complete.
    closed: bool,
}

/// What a place has next.
pub(super) enum Step {
    Leaf(Vec<u8>),
    /// Nothing, or nothing whole, by now.
    Nothing,
    /// Nothing ever.
    Complete,
}

impl OpenBundle {
    /// Opens the bundle that holds the sealed record `seq`, at that record.
    pub(super) fn open(directory: &Path, seq: u64, sealed: u64) -> Result<Self, ReadError> {
        let n = seq / WIDTH;
        let width = WIDTH.min(sealed - n * WIDTH);
        let path = Tile::Entries.path(directory, n, width);
        let bytes = files::read_small(&path, MAX_BUNDLE)
            .and_then(|bytes| bytes.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(|error: io::Error| ReadError::new(&path, &error.to_string()))?;
        let damaged = "it is damaged: run `cordon audit verify`";
        let entries =
            tiles::entries(&bytes, width).ok_or_else(|| ReadError::new(&path, damaged))?;
        let mut entries = entries.into_iter();
        for _ in n * WIDTH..seq {
            entries.next();
        }
        Ok(Self { bytes, entries })
    }

    pub(super) fn step(&mut self) -> Step {
        match self.entries.next() {
            Some(range) => Step::Leaf(self.bytes.get(range).unwrap_or_default().to_vec()),
            None => Step::Complete,
        }
    }
}

impl OpenJournal {
    pub(super) fn open(directory: &Path, first: u64) -> Result<Self, ReadError> {
        let path = files::path_of(directory, "journal", first, ".log");
        let fail = |error: io::Error| ReadError::new(&path, &error.to_string());
        let file = OpenOptions::new().read(true).open(&path).map_err(fail)?;
        let mut reader = BufReader::with_capacity(256 * 1024, file);
        match Header::read(&mut reader).map_err(fail)? {
            Ok(header) if header.first_seq == first => Ok(Self {
                reader,
                path,
                first,
                seq: first,
                at: frame::HEADER,
                closed: false,
            }),
            Ok(_) => Err(ReadError::new(&path, "it is under another's name")),
            Err(why) => Err(ReadError::new(&path, why)),
        }
    }

    pub(super) fn step(&mut self, directory: &Path) -> Result<Step, ReadError> {
        loop {
            let fail = |error: io::Error| ReadError::new(&self.path, &error.to_string());
            let why = match frame::read(&mut self.reader).map_err(fail)? {
                Next::Frame(frame) if frame.seq == self.seq => {
                    self.seq += 1;
                    let len = u64::try_from(frame::FRAME + frame.leaf.len());
                    self.at += len.unwrap_or_default();
                    return Ok(Step::Leaf(frame.leaf));
                }
                Next::Frame(_) => "it is out of order",
                Next::End if self.closed => return Ok(Step::Complete),
                Next::End => "it is missing",
                Next::Bad(why) => why,
            };
            if self.closed {
                let what = format!("record {}: {why}: run `cordon audit verify`", self.seq);
                return Err(ReadError::new(&self.path, &what));
            }
            // It may be in the middle of being written: look again from here, next time.
            self.reader.seek(SeekFrom::Start(self.at)).map_err(fail)?;
            // A journal after it, or that it was sealed, says that nothing more comes.
            let later = journals(directory)?.into_iter().any(|j| j > self.first);
            self.closed = later || sealed(directory)? > self.first;
            if !self.closed {
                return Ok(Step::Nothing);
            }
            // Complete by now: what came since the last look is read once more.
        }
    }
}

/// Largest bundle: 256 leaves of the largest size.
const MAX_BUNDLE: u64 = 256 * (Record::MAX_BYTES as u64 + 2);
