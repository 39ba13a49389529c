//! Reads journal files as the format says, from the bytes alone.
//!
//! File: `CORDONJ1`, u64 first sequence, 16 bytes origin, u32 version 1, u32 CRC-32C of these 36
//! bytes; then frames: u32 length, u32 CRC-32C of length, sequence, synced and leaf, u64 sequence,
//! u64 synced, leaf. Little-endian.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use super::{Claim, Said, VerifyError, store::read_bounded};

/// One journal file, whole in memory: a segment is bounded.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// Where in the file `bytes` begins.
    base: u64,
    bytes: Vec<u8>,
    at: usize,
}

/// Largest journal: the records of a segment at their largest.
const MAX_JOURNAL: u64 = 40 + 65_536 * (24 + 16 * 1024);

/// Most that writes under way can have left: far more than is written within a sync. Each place of
/// it is looked at for a frame.
const MAX_UNFINISHED: u64 = 64 * 1024 * 1024;

/// A leaf, and what it says that matters to whoever verifies.
type Entry<'a> = (&'a [u8], Option<Said>);

/// What is wrong at a place.
#[derive(Debug)]
pub(crate) enum Fault {
    /// No whole frame with a right checksum: damaged, or never finished.
    NoFrame(&'static str),
    /// A whole frame that does not belong here.
    Wrong(String),
}

impl Journal {
    pub(crate) fn open(path: &Path) -> Result<Self, VerifyError> {
        let bytes = read_bounded(path, MAX_JOURNAL)
            .and_then(|bytes| bytes.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(|error| VerifyError::io(path, &error))?;
        Ok(Self {
            path: path.into(),
            base: 0,
            bytes,
            at: 0,
        })
    }

    /// The file that it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets go of what was read and reads what was written since; false when there is nothing, or
    /// the file is gone.
    pub(crate) fn grow(&mut self) -> Result<bool, VerifyError> {
        let fail = |error| VerifyError::io(&self.path, &error);
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(fail(error)),
        };
        let have = self.bytes.len() as u64;
        file.seek(SeekFrom::Start(self.base + have)).map_err(fail)?;
        let mut more = Vec::new();
        file.read_to_end(&mut more).map_err(fail)?;
        if more.is_empty() {
            return Ok(false);
        }
        self.base += self.at as u64;
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend(more);
        Ok(true)
    }

    /// Checks the header of the journal that is `named` by its first record, where the records
    /// before `expected` are in sealed files or in the journal before it.
    pub(crate) fn check_header(
        &mut self,
        named: u64,
        expected: u64,
        origin: Option<&[u8; 16]>,
    ) -> Result<(), &'static str> {
        let header = self.bytes.get(..40).ok_or("its journal has no header")?;
        if !header.starts_with(b"CORDONJ1") {
            return Err("its journal is no journal");
        }
        if le32(header, 36) != header.get(..36).map(crc32c::crc32c) {
            return Err("its journal's header has a wrong checksum");
        }
        if le32(header, 32) != Some(1) {
            return Err("its journal is of another version");
        }
        if origin.is_some_and(|origin| header.get(16..32) != Some(origin.as_slice())) {
            return Err("its journal belongs to another log");
        }
        if le64(header, 8) != Some(named) {
            return Err("its journal is under another's name");
        }
        if named > expected {
            return Err("its journal is missing: the next one begins elsewhere");
        }
        self.at = 40;
        Ok(())
    }

    /// The leaf that stands next, if it is record `seq`, and what it says; `None` at the end of the
    /// file.
    pub(super) fn next_record(&mut self, seq: u64) -> Result<Option<Entry<'_>>, Fault> {
        let Some((stands, leaf)) = self.peek()? else {
            return Ok(None);
        };
        if stands != seq {
            return Err(Fault::Wrong(format!("record {stands} stands in its place")));
        }
        let length = 24 + leaf.len();
        let said = Claim::read(leaf, seq).map_err(Fault::Wrong)?;
        let start = self.at + 24;
        self.at += length;
        let leaf = self.bytes.get(start..self.at).unwrap_or_default();
        Ok(Some((leaf, said)))
    }

    /// Passes over records before `seq`: sealed files hold them as well.
    pub(crate) fn skip_to(&mut self, seq: u64) -> Result<(), Fault> {
        while let Some((stands, leaf)) = self.peek()? {
            if stands >= seq {
                break;
            }
            self.at += 24 + leaf.len();
        }
        Ok(())
    }

    /// Sequence and leaf of what stands next, and goes past it; `None` where nothing whole does.
    pub(crate) fn take(&mut self) -> Option<(u64, Vec<u8>)> {
        let (seq, leaf) = self.peek().ok()??;
        let leaf = leaf.to_vec();
        self.at += 24 + leaf.len();
        Some((seq, leaf))
    }

    fn peek(&self) -> Result<Option<(u64, &[u8])>, Fault> {
        let Some(rest) = self.bytes.get(self.at..).filter(|rest| !rest.is_empty()) else {
            return Ok(None);
        };
        let (seq, _, leaf) = frame(rest).map_err(Fault::NoFrame)?;
        Ok(Some((seq, leaf)))
    }

    /// Bytes from the place that was reached.
    pub(super) fn rest(&self) -> u64 {
        u64::try_from(self.bytes.len() - self.at).unwrap_or(u64::MAX)
    }
}

impl Fault {
    /// Whether this can be the end of a write that was not finished: no whole frame, and none
    /// after it that was written when this place was already synced.
    pub(super) fn may_be_unfinished(&self, journal: &Journal) -> bool {
        let synced_here = u64::try_from(journal.at).unwrap_or(u64::MAX);
        match self {
            Self::Wrong(_) => false,
            Self::NoFrame(_) if journal.rest() > MAX_UNFINISHED => false,
            Self::NoFrame(_) => (journal.at + 1..journal.bytes.len()).all(|at| {
                let rest = journal.bytes.get(at..).unwrap_or_default();
                le64(rest, 16).is_none_or(|synced| synced <= synced_here) || frame(rest).is_err()
            }),
        }
    }

    pub(super) fn problem(&self) -> &str {
        match self {
            Self::NoFrame(why) => why,
            Self::Wrong(why) => why,
        }
    }
}

/// Journal files with the sequence that their name says, in order.
pub(crate) fn list(directory: &Path) -> Result<Vec<(u64, PathBuf)>, VerifyError> {
    let fail = |error| VerifyError::io(directory, &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| {
            let digits = name.strip_prefix("journal-")?.strip_suffix(".log")?;
            digits.parse().ok()
        });
        found.extend(number.map(|number: u64| (number, entry.path())));
    }
    found.sort_unstable();
    Ok(found)
}

/// Sequence, `synced` and leaf of the frame at the beginning of `bytes`.
fn frame(bytes: &[u8]) -> Result<(u64, u64, &[u8]), &'static str> {
    let cut = "it is cut short";
    let len = le32(bytes, 0).ok_or(cut)?;
    if len == 0 || len > 16 * 1024 {
        return Err("its length is impossible");
    }
    let end = 24 + usize::try_from(len).map_err(|_| cut)?;
    let (Some(stored), Some(seq), Some(synced), Some(rest), Some(leaf)) = (
        le32(bytes, 4),
        le64(bytes, 8),
        le64(bytes, 16),
        bytes.get(8..end),
        bytes.get(24..end),
    ) else {
        return Err(cut);
    };
    let crc = crc32c::crc32c_append(crc32c::crc32c(&len.to_le_bytes()), rest);
    if crc != stored {
        return Err("its checksum is wrong");
    }
    Ok((seq, synced, leaf))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|chunk| u32::from_le_bytes(*chunk))
}

fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|chunk| u64::from_le_bytes(*chunk))
}
