//! The postings of one sealed segment: for each term, which records have it.
//!
//! Leaves in, one static file out; a term in, the records that have it out. Only a shortcut:
//! whatever is found by it is held against the record itself, and a file that is missing or
//! damaged is made again from the truth. Never proves anything.
//!
//! ```text
//! header   64 bytes, with the lengths of all that follows, and CRC-32C
//! filter   Bloom filter over the terms: an absent one costs this one read
//! times    earliest and latest time of each block of 256 records
//! terms    sorted by field and value, front coded: value, count, length and CRC-32C of its list
//! lists    one Roaring bitmap for each term, of offsets from the first record
//! ```
//!
//! A field whose values in one segment are longer than [`MAX_VALUES_BYTES`] together names the
//! first of them; the records with any other value share one list, and are candidates for each of
//! those. So a session that makes up long names cannot make the postings as large as the records.
//!
//! Source of the lists' form: the Roaring bitmap specification, version 1.

mod build;
mod filter;
mod format;

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use roaring::RoaringBitmap;

use self::{
    filter::Filter,
    format::{Entries, Entry, Header},
};
use super::keys::Field;
use crate::files;

pub(crate) use build::Builder;

/// The postings of one segment, opened.
#[derive(Debug)]
pub struct Postings {
    file: Source,
    header: Header,
    filter: Filter,
    times: Vec<(u64, u64)>,
    terms: std::sync::OnceLock<Vec<u8>>,
}

/// One term of a segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Term {
    /// Its field.
    pub field: Field,
    /// Its value; `None` stands for all the values that are not named.
    pub value: Option<String>,
    /// How many records have it.
    pub count: u64,
}

#[derive(Debug)]
enum Source {
    File(File),
    Memory(Vec<u8>),
}

/// Where the postings of the segment from `first` on are, in the log's directory.
pub fn path_of(log: &Path, first: u64) -> PathBuf {
    files::path_of(log, "postings", first, ".idx")
}

/// Writes the postings of the records that `leaves` gives, in order, from `first_seq` on. The
/// file is whole or not there.
///
/// # Errors
/// When a leaf is no record, `leaves` has gaps or more than 2^24 records, or the file cannot be
/// written.
pub fn write(
    path: &Path,
    first_seq: u64,
    leaves: &mut dyn Iterator<Item = (u64, &[u8])>,
) -> io::Result<()> {
    let mut builder = Builder::new(first_seq);
    for (seq, leaf) in leaves {
        builder.add_leaf(seq, leaf).map_err(io::Error::other)?;
    }
    files::replace(path, &builder.finish()?)
}

impl Postings {
    /// Opens the postings of the records `range`.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or is of other records.
    pub fn open(path: &Path, range: &Range<u64>) -> io::Result<Self> {
        let file = files::open_to_read(path)?;
        Self::load(Source::File(file), range)
    }

    /// From the bytes that a [`Builder`] made.
    pub(crate) fn of_bytes(bytes: Vec<u8>, range: &Range<u64>) -> io::Result<Self> {
        Self::load(Source::Memory(bytes), range)
    }

    fn load(file: Source, range: &Range<u64>) -> io::Result<Self> {
        // The header says how much more there is; mostly it is all within the first read.
        let mut start = file.read(0, FIRST_READ, true)?;
        let header = Header::read(&start)?;
        if header.range() != *range {
            return Err(format::damaged("it is of other records"));
        }
        let (from, to) = (Header::BYTES, header.terms_at());
        if start.len() < to {
            start = file.read(0, to, false)?;
        }
        let front = start
            .get(from..to)
            .ok_or_else(|| format::damaged("it is cut off"))?;
        let (filter, times) = header.split_front(front)?;
        Ok(Self {
            filter: Filter::of_bytes(filter),
            times: format::times(times),
            terms: std::sync::OnceLock::new(),
            file,
            header,
        })
    }

    /// The records with exactly this term, as offsets from the first one; some more where the
    /// field has too many values to name.
    ///
    /// # Errors
    /// When the file is damaged.
    pub(crate) fn lookup(&self, field: Field, value: &str) -> io::Result<RoaringBitmap> {
        let others = self.others(field)?;
        if !self.filter.may_hold(field, value) {
            return Ok(others);
        }
        for (entry, at) in self.entries()? {
            if entry.field == field.number() && entry.value == value.as_bytes() {
                return self.list(&entry, at);
            }
        }
        Ok(others)
    }

    /// The records with a term of the field that `wanted` accepts.
    ///
    /// # Errors
    /// When the file is damaged.
    pub(crate) fn lookup_if(
        &self,
        field: Field,
        wanted: &dyn Fn(&str) -> bool,
    ) -> io::Result<RoaringBitmap> {
        let mut found = self.others(field)?;
        for (entry, at) in self.entries()? {
            let value = std::str::from_utf8(&entry.value).unwrap_or_default();
            if entry.field == field.number() && wanted(value) {
                found |= self.list(&entry, at)?;
            }
        }
        Ok(found)
    }

    /// The terms of a field, each with its records.
    ///
    /// # Errors
    /// When the file is damaged.
    pub(crate) fn terms_of(&self, field: Field) -> io::Result<Vec<(Term, RoaringBitmap)>> {
        let mut found = Vec::new();
        for (entry, at) in self.entries()? {
            if entry.field & !OTHERS == field.number() {
                let value = (entry.field & OTHERS == 0)
                    .then(|| String::from_utf8_lossy(&entry.value).into_owned());
                let term = Term {
                    field,
                    value,
                    count: entry.count,
                };
                found.push((term, self.list(&entry, at)?));
            }
        }
        Ok(found)
    }

    /// Records of the segment.
    pub(crate) fn range(&self) -> Range<u64> {
        self.header.range()
    }

    /// Earliest and latest time in each block of [`BLOCK`] records, in microseconds.
    pub(crate) fn times(&self) -> &[(u64, u64)] {
        &self.times
    }

    /// Whether the field has values that are not named.
    pub(crate) fn is_partial(&self, field: Field) -> bool {
        self.header.has_others(field)
    }

    /// The records whose values of the field are not named.
    fn others(&self, field: Field) -> io::Result<RoaringBitmap> {
        if !self.header.has_others(field) {
            return Ok(RoaringBitmap::new());
        }
        for (entry, at) in self.entries()? {
            if entry.field == field.number() | OTHERS {
                return self.list(&entry, at);
            }
        }
        Err(format::damaged("a list of its is missing"))
    }

    fn entries(&self) -> io::Result<Entries<'_>> {
        if self.terms.get().is_none() {
            let at = self.header.terms_at();
            let terms = self.file.read(at, self.header.terms_len(), false)?;
            self.header.check_terms(&terms)?;
            // Another thread that read the same first is as good.
            let _same = self.terms.set(terms);
        }
        let terms = self.terms.get().map(Vec::as_slice).unwrap_or_default();
        Ok(Entries::new(terms, self.header.lists_at()))
    }

    fn list(&self, entry: &Entry, at: usize) -> io::Result<RoaringBitmap> {
        let bytes = self.file.read(at, entry.len, false)?;
        if crc32c::crc32c(&bytes) != entry.crc {
            return Err(format::damaged("a list of its is not as it was written"));
        }
        let list = RoaringBitmap::deserialize_from(bytes.as_slice())?;
        let last = list.max().map_or(0, u64::from);
        if last >= self.header.count() || list.len() != entry.count {
            return Err(format::damaged(
                "a list of its names records that are not there",
            ));
        }
        Ok(list)
    }
}

impl Source {
    /// `len` bytes from `at` on; fewer only at the end and only when `short` is fine.
    fn read(&self, at: usize, len: usize, short: bool) -> io::Result<Vec<u8>> {
        let bytes = match self {
            Self::Memory(bytes) => {
                let end = bytes.len().min(at.saturating_add(len));
                bytes.get(at..end).unwrap_or_default().to_vec()
            }
            Self::File(file) => read_at(file, at, len)?,
        };
        if bytes.len() < len && !short {
            return Err(format::damaged("it is cut off"));
        }
        Ok(bytes)
    }
}

fn read_at(file: &File, at: usize, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let (mut done, mut offset) = (0, u64::try_from(at).unwrap_or(u64::MAX));
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let read = match file.read_at(rest, offset) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if read == 0 {
            break;
        }
        done += read;
        offset += u64::try_from(read).unwrap_or_default();
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Records that share one pair of times.
pub(crate) const BLOCK: u64 = 256;

/// Bytes of all values of one field that are named in one segment.
pub const MAX_VALUES_BYTES: usize = 2 * 1024 * 1024;

/// Marks the list of the records whose values are not named.
const OTHERS: u8 = 0x80;

const FIRST_READ: usize = 16 * 1024;

#[cfg(test)]
mod tests;
