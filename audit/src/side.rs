//! The side store: sensitive values, beside the log and never in it.
//!
//! A record holds only a salted commitment to such a value; salt and value lie in
//! `side/values-<first>.log`, named for the journal that the record was written to, durable before the
//! record is. Erasing one changes no leaf, so every proof stays valid; without the salt nobody
//! can guess the value from the commitment. Never shows a value that is not the committed one.
//!
//! File: frames of u32 length, u32 CRC-32C, then as many bytes: u8 1 (0 when erased), u64
//! sequence, u16 length of the pointer, pointer, 16 bytes salt, value. Little-endian.

use std::{
    fmt,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{
    Record,
    draft::{hex, int},
    files,
    record::Commitment,
    secrets::Secrets,
};

/// A value that must not be in the log. Its record commits to it.
#[derive(Clone)]
pub struct Sensitive {
    /// Where in the record it would stand, as a JSON pointer of at most 256 bytes.
    pub pointer: String,
    /// The value. One of more than [`Sensitive::MAX_BYTES`] is committed to and not kept.
    pub value: Vec<u8>,
}

/// What became of a value that a record commits to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Revealed {
    /// It is kept; this is it, and it is what the record commits to.
    Value(Vec<u8>),
    /// It is erased, or was never kept.
    Gone,
}

/// A value with its salt.
#[derive(Clone)]
pub(crate) struct Salted {
    pointer: String,
    salt: [u8; 16],
    value: Vec<u8>,
}

/// Writes values of the open journal's records.
#[derive(Debug)]
pub(crate) struct SideWriter {
    log: PathBuf,
    file: Option<(u64, File, u64)>,
}

/// A frame as it stands in a file.
struct Frame {
    at: u64,
    kept: bool,
    seq: u64,
    salted: Salted,
}

impl Sensitive {
    /// Longest value that is kept.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Takes the values of known secrets out.
    pub(crate) fn mask(&mut self, secrets: &Secrets) {
        if secrets.is_empty() {
            return;
        }
        // Lossless where there is nothing to mask: what is no text stays as it is.
        let mut text = String::from_utf8_lossy(&self.value).into_owned();
        if secrets.mask(&mut text) {
            self.value = text.into_bytes();
        }
    }

    /// Salts the value; gives what the record says of it, and what the side store keeps.
    pub(crate) fn commit(self) -> io::Result<(Commitment, Salted)> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(io::Error::other)?;
        if self.pointer.len() > MAX_POINTER {
            return Err(io::Error::other(
                "the pointer of a sensitive value is too long",
            ));
        }
        let commitment = Commitment {
            h: commitment(&salt, &self.value),
            len: int(self.value.len() as u128),
            ptr: self.pointer.clone(),
        };
        let salted = Salted {
            pointer: self.pointer,
            salt,
            value: self.value,
        };
        Ok((commitment, salted))
    }
}

impl SideWriter {
    pub(crate) fn new(log: &Path) -> Self {
        Self {
            log: log.into(),
            file: None,
        }
    }

    /// Makes values durable. `journal` is the first record of the journal that theirs go to.
    pub(crate) fn append<'a>(
        &mut self,
        journal: u64,
        values: impl Iterator<Item = (u64, &'a Salted)>,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (seq, salted) in values {
            if salted.value.len() <= Sensitive::MAX_BYTES {
                bytes.extend(salted.frame(true, seq));
            }
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if self.file.as_ref().is_none_or(|open| open.0 != journal) {
            self.file = Some(self.open(journal)?);
        }
        let Some((_, file, end)) = &mut self.file else {
            return Err(io::Error::other("the side store is not open"));
        };
        file.write_all_at(&bytes, *end)?;
        file.sync_data()?;
        *end += u64::try_from(bytes.len()).unwrap_or_default();
        Ok(())
    }

    /// Opens the file of a journal at its end; what a crash left half written goes.
    fn open(&self, journal: u64) -> io::Result<(u64, File, u64)> {
        let path = path(&self.log, journal);
        if !path.exists() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(files::parent(&path))?;
            files::replace(&path, &[])?;
            files::sync_directory(&self.log)?;
        }
        let file = files::open(&path)?;
        let mut end = 0;
        frames(&fs::read(&path)?, |_, after| {
            end = after;
            Ok(())
        })?;
        file.set_len(end)?;
        Ok((journal, file, end))
    }
}

/// The value that a record commits to under `pointer`.
pub(crate) fn reveal(log: &Path, record: &Record, pointer: &str) -> io::Result<Revealed> {
    let Some(commitment) = record.sd.iter().find(|sd| sd.ptr == pointer) else {
        return Err(io::Error::other("the record commits to no such value"));
    };
    let Some(path) = file_of(log, record.seq)? else {
        return Ok(Revealed::Gone);
    };
    let mut found = Revealed::Gone;
    frames(&fs::read(&path)?, |frame, _| {
        // A crash can leave a value whose record was never written; another record has its place.
        if frame.kept && frame.seq == record.seq && frame.salted.is(commitment) {
            found = Revealed::Value(frame.salted.value);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Erases the values of `seq` under `pointer`, durable before it returns; says how many.
pub(crate) fn erase(log: &Path, seq: u64, pointer: &str) -> io::Result<usize> {
    match file_of(log, seq)? {
        None => Ok(0),
        Some(path) => erase_in(&path, |frame| {
            frame.seq == seq && frame.salted.pointer == pointer
        }),
    }
}

/// Erases all values of records before `minimum`; `open` is the journal that is written to.
pub(crate) fn prune(log: &Path, minimum: u64, open: u64) -> io::Result<()> {
    for first in list(log)?.into_iter().filter(|first| *first < minimum) {
        let path = path(log, first);
        erase_in(&path, |frame| frame.seq < minimum)?;
        let mut kept = 0;
        frames(&fs::read(&path)?, |frame, _| {
            kept += usize::from(frame.kept);
            Ok(())
        })?;
        if kept == 0 && first != open {
            files::remove(&path)?;
        }
    }
    Ok(())
}

fn erase_in(path: &Path, which: impl Fn(&Frame) -> bool) -> io::Result<usize> {
    let file = files::open(path)?;
    let mut erased = 0;
    frames(&fs::read(path)?, |mut frame, _| {
        if frame.kept && which(&frame) {
            frame.salted.salt = [0; 16];
            frame.salted.value.fill(0);
            // The same place and length, so that the bytes themselves are overwritten.
            file.write_all_at(&frame.salted.frame(false, frame.seq), frame.at)?;
            erased += 1;
        }
        Ok(())
    })?;
    file.sync_all()?;
    Ok(erased)
}

impl Salted {
    fn is(&self, commitment_made: &Commitment) -> bool {
        self.pointer == commitment_made.ptr
            && commitment(&self.salt, &self.value) == commitment_made.h
    }

    fn frame(&self, kept: bool, seq: u64) -> Vec<u8> {
        let mut body = vec![u8::from(kept)];
        body.extend_from_slice(&seq.to_le_bytes());
        // At most MAX_POINTER.
        let len = u16::try_from(self.pointer.len()).unwrap_or_default();
        body.extend_from_slice(&len.to_le_bytes());
        body.extend_from_slice(self.pointer.as_bytes());
        body.extend_from_slice(&self.salt);
        body.extend_from_slice(&self.value);
        let mut frame = u32::try_from(body.len())
            .unwrap_or_default()
            .to_le_bytes()
            .to_vec();
        frame.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        frame.extend(body);
        frame
    }

    fn parse(body: &[u8], at: u64) -> Option<Frame> {
        let (kept, body) = body.split_first()?;
        let (seq, body) = body.split_first_chunk()?;
        let (len, body) = body.split_first_chunk()?;
        let (pointer, body) = body.split_at_checked(u16::from_le_bytes(*len).into())?;
        let (salt, value) = body.split_first_chunk()?;
        Some(Frame {
            at,
            kept: *kept == 1,
            seq: u64::from_le_bytes(*seq),
            salted: Self {
                pointer: std::str::from_utf8(pointer).ok()?.into(),
                salt: *salt,
                value: value.to_vec(),
            },
        })
    }
}

/// Goes through the frames of a file, each with where it ends. One that an interrupted erasing
/// damaged is passed over; the first that is not there in full ends it.
fn frames(bytes: &[u8], mut take: impl FnMut(Frame, u64) -> io::Result<()>) -> io::Result<()> {
    let mut rest = bytes;
    let mut at = 0;
    while let Some((len, after)) = rest.split_first_chunk() {
        let len = u32::from_le_bytes(*len);
        let Some((crc, after)) = after.split_first_chunk() else {
            break;
        };
        let Some((body, after)) =
            after.split_at_checked(usize::try_from(len).unwrap_or(usize::MAX))
        else {
            break;
        };
        let end = at + 8 + u64::from(len);
        if u32::from_le_bytes(*crc) == crc32c::crc32c(body)
            && let Some(frame) = Salted::parse(body, at)
        {
            take(frame, end)?;
        }
        (rest, at) = (after, end);
    }
    Ok(())
}

fn commitment(salt: &[u8; 16], value: &[u8]) -> String {
    let hash = Sha256::new().chain_update(salt).chain_update(value);
    hex(&hash.finalize())
}

fn file_of(log: &Path, seq: u64) -> io::Result<Option<PathBuf>> {
    let first = list(log)?.into_iter().rfind(|first| *first <= seq);
    Ok(first.map(|first| path(log, first)))
}

fn list(log: &Path) -> io::Result<Vec<u64>> {
    match files::numbered(&log.join(SIDE), "values", ".log") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed,
    }
}

fn path(log: &Path, first: u64) -> PathBuf {
    files::path_of(&log.join(SIDE), "values", first, ".log")
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Sensitive");
        shown
            .field("pointer", &self.pointer)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Salted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Salted");
        shown
            .field("pointer", &self.pointer)
            .finish_non_exhaustive()
    }
}

const SIDE: &str = "side";
const MAX_POINTER: usize = 256;
