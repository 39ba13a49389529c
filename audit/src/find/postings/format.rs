//! The bytes of a postings file: header, times and terms. Reads nothing that is not checked.

use std::{io, ops::Range};

use crate::find::keys::Field;

/// The first bytes of a file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) first: u64,
    pub(super) count: u32,
    /// Bit n: field n has records whose values are not named.
    pub(super) others: u32,
    pub(super) filter: u32,
    pub(super) blocks: u32,
    pub(super) terms: u32,
    /// CRC-32C of filter and times, and of the terms.
    pub(super) front_crc: u32,
    pub(super) terms_crc: u32,
}

/// One term as it stands in a file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Entry {
    /// Number of its field; with [`super::OTHERS`], the records whose values are not named.
    pub(super) field: u8,
    pub(super) value: Vec<u8>,
    pub(super) count: u64,
    /// Length of its list.
    pub(super) len: usize,
    pub(super) crc: u32,
}

impl Header {
    pub(super) const BYTES: usize = 64;

    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.first.to_le_bytes());
        for number in [
            self.count,
            self.others,
            self.filter,
            self.blocks,
            self.terms,
            self.front_crc,
            self.terms_crc,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.resize(Self::BYTES - 4, 0);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> io::Result<Self> {
        let Some((body, crc)) = bytes
            .get(..Self::BYTES)
            .and_then(|bytes| bytes.split_last_chunk::<4>())
        else {
            return Err(damaged("it is cut off"));
        };
        if !body.starts_with(MAGIC) || crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(damaged("its header is not as it was written"));
        }
        let number = |at: usize| {
            let bytes = body.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_le_bytes(bytes.unwrap_or_default())
        };
        let header = Self {
            first: u64::from(number(8)) | u64::from(number(12)) << 32,
            count: number(16),
            others: number(20),
            filter: number(24),
            blocks: number(28),
            terms: number(32),
            front_crc: number(36),
            terms_crc: number(40),
        };
        if header.filter > MAX_FILTER || header.terms > MAX_TERMS || header.blocks > MAX_BLOCKS {
            return Err(damaged("it is larger than it can be"));
        }
        Ok(header)
    }

    pub(super) fn range(&self) -> Range<u64> {
        self.first..self.first.saturating_add(self.count())
    }

    pub(super) fn count(&self) -> u64 {
        self.count.into()
    }

    pub(super) fn has_others(&self, field: Field) -> bool {
        self.others >> field.number() & 1 == 1
    }

    pub(super) fn terms_at(&self) -> usize {
        Self::BYTES + size(self.filter) + size(self.blocks) * TIMES
    }

    pub(super) fn terms_len(&self) -> usize {
        size(self.terms)
    }

    pub(super) fn lists_at(&self) -> usize {
        self.terms_at() + self.terms_len()
    }

    /// Filter and times, out of what follows the header.
    pub(super) fn split_front<'a>(&self, front: &'a [u8]) -> io::Result<(&'a [u8], &'a [u8])> {
        if crc32c::crc32c(front) != self.front_crc {
            return Err(damaged("its filter is not as it was written"));
        }
        front
            .split_at_checked(size(self.filter))
            .ok_or_else(|| damaged("it is cut off"))
    }

    pub(super) fn check_terms(&self, terms: &[u8]) -> io::Result<()> {
        if crc32c::crc32c(terms) == self.terms_crc {
            Ok(())
        } else {
            Err(damaged("its terms are not as they were written"))
        }
    }
}

/// Earliest and latest times.
pub(super) fn times(bytes: &[u8]) -> Vec<(u64, u64)> {
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    bytes
        .chunks_exact(TIMES)
        .filter_map(|pair| pair.split_at_checked(8))
        .map(|(earliest, latest)| (number(earliest), number(latest)))
        .collect()
}

/// Writes terms; each shares the beginning of the one before.
#[derive(Debug, Default)]
pub(super) struct TermWriter {
    pub(super) bytes: Vec<u8>,
    before: Vec<u8>,
}

impl TermWriter {
    pub(super) fn add(&mut self, entry: &Entry) {
        let pairs = self.before.iter().zip(&entry.value);
        let shared = pairs.take_while(|(a, b)| a == b).count();
        let rest = entry.value.get(shared..).unwrap_or_default();
        self.bytes.push(entry.field);
        put(&mut self.bytes, shared);
        put(&mut self.bytes, rest.len());
        self.bytes.extend_from_slice(rest);
        put(&mut self.bytes, usize::try_from(entry.count).unwrap_or(usize::MAX));
        put(&mut self.bytes, entry.len);
        self.bytes.extend_from_slice(&entry.crc.to_le_bytes());
        self.before.clone_from(&entry.value);
    }
}

/// Reads terms, each with where its list begins.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    bytes: &'a [u8],
    value: Vec<u8>,
    list_at: usize,
}

impl<'a> Entries<'a> {
    pub(super) fn new(bytes: &'a [u8], lists_at: usize) -> Self {
        Self {
            bytes,
            value: Vec::new(),
            list_at: lists_at,
        }
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(taken)
    }

    /// LEB128, at most five bytes.
    fn number(&mut self) -> Option<usize> {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let byte = *self.take(1)?.first()?;
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn entry(&mut self) -> Option<(Entry, usize)> {
        let field = *self.take(1)?.first()?;
        let shared = self.number()?;
        let rest = self.number()?;
        self.value.truncate(shared);
        let rest = self.take(rest)?;
        self.value.extend_from_slice(rest);
        let count = u64::try_from(self.number()?).ok()?;
        let len = self.number()?;
        let crc = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
        let at = self.list_at;
        self.list_at = at.checked_add(len)?;
        let entry = Entry {
            field,
            value: self.value.clone(),
            count,
            len,
            crc,
        };
        Some((entry, at))
    }
}

impl Iterator for Entries<'_> {
    type Item = (Entry, usize);

    /// Ends at the end; the bytes were checked as a whole, so nothing else ends it.
    fn next(&mut self) -> Option<Self::Item> {
        self.entry()
    }
}

/// LEB128.
fn put(bytes: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// What is wrong with a postings file.
pub(super) fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("postings not read: {why}"))
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

const MAGIC: &[u8] = b"CRDNPST1";

/// Bytes of one pair of times.
pub(super) const TIMES: usize = 16;

const MAX_FILTER: u32 = 1 << 20;
const MAX_BLOCKS: u32 = 1 << 16;
const MAX_TERMS: u32 = 1 << 27;

