//! Reads journal files as the format says, from the bytes alone.
//!
//! File: `CORDONJ1`, u64 first sequence, 16 bytes origin, u32 version 1, u32 CRC-32C of these 36
//! bytes; then frames: u32 length, u32 CRC-32C of length, sequence, synced and leaf, u64 sequence,
//! u64 synced, leaf. Little-endian.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Claim, VerifyError, tree::Hash};

/// One journal file, whole in memory: a segment is bounded.
#[derive(Debug)]
pub(super) struct Journal {
    bytes: Vec<u8>,
    at: usize,
}

/// What is wrong at a place.
#[derive(Debug)]
pub(super) enum Fault {
    /// No whole frame with a right checksum: damaged, or never finished.
    NoFrame(&'static str),
    /// A whole frame that does not belong here.
    Wrong(String),
}

impl Journal {
    pub(super) fn open(path: &Path) -> Result<Self, VerifyError> {
        let bytes = fs::read(path).map_err(|error| VerifyError::io(path, &error))?;
        Ok(Self { bytes, at: 0 })
    }

    pub(super) fn check_header(
        &mut self,
        named: u64,
        expected: u64,
        origin: &[u8; 16],
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
        if header.get(16..32) != Some(origin.as_slice()) {
            return Err("its journal belongs to another log");
        }
        if le64(header, 8) != Some(expected) || named != expected {
            return Err("its journal is missing: the next one begins elsewhere");
        }
        self.at = 40;
        Ok(())
    }

    /// The leaf that stands next, if it is record `seq`; `None` at the end of the file.
    pub(super) fn next_record(&mut self, seq: u64) -> Result<Option<&[u8]>, Fault> {
        let Some(rest) = self.bytes.get(self.at..).filter(|rest| !rest.is_empty()) else {
            return Ok(None);
        };
        let (stands, _, leaf) = frame(rest).map_err(Fault::NoFrame)?;
        if stands != seq {
            return Err(Fault::Wrong(format!("record {stands} stands in its place")));
        }
        let claim: Claim = serde_json::from_slice(leaf)
            .map_err(|error| Fault::Wrong(format!("it is no record: {error}")))?;
        if claim.v != 1 {
            return Err(Fault::Wrong(format!("it is of version {}", claim.v)));
        }
        if claim.seq != seq {
            return Err(Fault::Wrong(format!(
                "it says that it is record {}",
                claim.seq
            )));
        }
        self.at += 24 + leaf.len();
        Ok(Some(leaf))
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
pub(super) fn list(directory: &Path) -> Result<Vec<(u64, PathBuf)>, VerifyError> {
    numbered(directory, "journal-", ".log")
}

/// Stored leaf hashes of the first `size` records, as many as there are.
pub(super) fn stored_hashes(directory: &Path, size: u64) -> Result<Vec<Hash>, VerifyError> {
    let mut hashes = Vec::new();
    for (first, path) in numbered(directory, "leaves-", ".sha256")? {
        let bytes = fs::read(&path).map_err(|error| VerifyError::io(&path, &error))?;
        if u64::try_from(hashes.len()) != Ok(first) {
            break;
        }
        hashes.extend(bytes.as_chunks::<32>().0);
    }
    hashes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    Ok(hashes)
}

fn numbered(
    directory: &Path,
    prefix: &str,
    suffix: &str,
) -> Result<Vec<(u64, PathBuf)>, VerifyError> {
    let fail = |error| VerifyError::io(directory, &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| {
            let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
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
