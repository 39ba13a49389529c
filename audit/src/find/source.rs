//! Where records are looked for: sealed segments with their postings, and the tail that is not
//! sealed yet, which is read through.

use std::{io, ops::Range, path::Path};

use roaring::RoaringBitmap;

use super::{
    postings::{self, BLOCK, Builder, Postings},
    query::{Condition, Query},
    sealed::{BUNDLE, Bundle, Sealed},
};
use crate::{
    files,
    read::{ReadError, Reader},
};

/// A log as it is looked through.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    reader: &'a Reader,
    sealed: Vec<Sealed>,
}

/// Records of one segment that may fit.
#[derive(Debug)]
pub(crate) struct Candidates {
    pub(super) first: u64,
    pub(super) offsets: RoaringBitmap,
}

/// Leaves of sealed records, a bundle at a time.
#[derive(Debug)]
pub(crate) struct Bundles<'a> {
    log: &'a Path,
    number: Option<u64>,
    bundle: Bundle,
}

impl<'a> Source<'a> {
    pub(crate) fn new(reader: &'a Reader) -> Result<Self, ReadError> {
        let sealed =
            Sealed::list(reader.directory()).map_err(|error| fail(reader.directory(), &error))?;
        Ok(Self { reader, sealed })
    }

    pub(crate) fn sealed(&self) -> &[Sealed] {
        &self.sealed
    }

    pub(crate) fn bundles(&self) -> Bundles<'a> {
        Bundles {
            log: self.reader.directory(),
            number: None,
            bundle: Bundle::default(),
        }
    }

    /// Leaves from `from` on that are not sealed, with their sequences.
    pub(crate) fn tail(
        &self,
        from: u64,
    ) -> impl Iterator<Item = Result<(u64, Vec<u8>), ReadError>> + use<> {
        let sealed = self.sealed.last().map_or(0, |segment| segment.end);
        self.reader.leaves(sealed.max(from))
    }

    /// The records of a segment that may fit.
    pub(crate) fn candidates(
        &self,
        query: &Query,
        segment: &Sealed,
    ) -> Result<Candidates, ReadError> {
        if query.scan {
            return Ok(Candidates {
                first: segment.first,
                offsets: all(segment),
            });
        }
        self.with_postings(segment, &|postings| {
            Ok(Candidates {
                first: segment.first,
                offsets: fitting(postings, query)?,
            })
        })
    }

    /// Asks the postings of a segment. Where they are missing or damaged they are made again.
    pub(crate) fn with_postings<T>(
        &self,
        segment: &Sealed,
        ask: &dyn Fn(&Postings) -> io::Result<T>,
    ) -> Result<T, ReadError> {
        let path = postings::path_of(self.reader.directory(), segment.first);
        let range = segment.first..segment.end;
        let answer = Postings::open(&path, &range).and_then(|postings| ask(&postings));
        let error = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!(%error, first = segment.first, "postings are made again");
        }
        self.make(&path, &range)
            .and_then(|postings| ask(&postings))
            .map_err(|error| fail(self.reader.directory(), &error))
    }

    fn make(&self, path: &Path, range: &Range<u64>) -> io::Result<Postings> {
        let bytes = self.build(range)?;
        // Who may only read the log goes on with what is in memory.
        if let Err(error) = files::replace(path, &bytes) {
            tracing::debug!(%error, "postings not kept");
        }
        Postings::of_bytes(bytes, range)
    }

    fn build(&self, range: &Range<u64>) -> io::Result<Vec<u8>> {
        let mut builder = Builder::new(range.start);
        let mut bundles = self.bundles();
        for seq in range.clone() {
            let leaf = bundles.leaf(seq).map_err(io::Error::other)?;
            builder.add_leaf(seq, leaf).map_err(io::Error::other)?;
        }
        builder.finish()
    }
}

impl Bundles<'_> {
    /// The leaf of a sealed record.
    pub(crate) fn leaf(&mut self, seq: u64) -> Result<&[u8], ReadError> {
        let number = seq / BUNDLE;
        if self.number != Some(number) {
            self.bundle = Bundle::read(self.log, number).map_err(|error| fail(self.log, &error))?;
            self.number = Some(number);
        }
        let at = usize::try_from(seq % BUNDLE).unwrap_or(usize::MAX);
        self.bundle.leaf(at).ok_or_else(|| ReadError {
            message: format!("record {seq} is missing: run `cordon audit verify`"),
        })
    }
}

/// Makes the postings of all sealed segments that have none. Queries do so as well when they
/// come to one; this spares them the wait.
///
/// # Errors
/// [`ReadError`] when the log cannot be read or is damaged.
pub(crate) fn index(log: &Path) -> Result<(), ReadError> {
    let reader = Reader::at(log);
    let source = Source::new(&reader)?;
    for segment in source.sealed() {
        source.with_postings(segment, &|_| Ok(()))?;
    }
    Ok(())
}

/// What all conditions accept, as far as the postings know.
fn fitting(postings: &Postings, query: &Query) -> io::Result<RoaringBitmap> {
    let mut found = in_time(postings, query);
    for condition in &query.conditions {
        if found.is_empty() {
            break;
        }
        found &= accepted(postings, condition)?;
    }
    Ok(found)
}

fn accepted(postings: &Postings, condition: &Condition) -> io::Result<RoaringBitmap> {
    let exact: Option<Vec<&str>> = condition
        .any
        .iter()
        .map(|pattern| pattern.as_exact())
        .collect();
    let Some(exact) = exact else {
        return postings.lookup_if(condition.field, &|value| condition.accepts(value));
    };
    let mut found = RoaringBitmap::new();
    for value in exact {
        found |= postings.lookup(condition.field, value)?;
    }
    Ok(found)
}

/// The blocks of records that the query's time touches.
pub(super) fn in_time(postings: &Postings, query: &Query) -> RoaringBitmap {
    let count = postings.range().end - postings.range().start;
    let mut found = RoaringBitmap::new();
    for (block, (earliest, latest)) in (0_u64..).zip(postings.times()) {
        if query.touches(*earliest, *latest) {
            let end = ((block + 1) * BLOCK).min(count);
            found.insert_range(offset(block * BLOCK)..offset(end));
        }
    }
    found
}

fn all(segment: &Sealed) -> RoaringBitmap {
    let mut all = RoaringBitmap::new();
    all.insert_range(0..offset(segment.end - segment.first));
    all
}

fn offset(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn fail(log: &Path, error: &dyn std::fmt::Display) -> ReadError {
    ReadError {
        message: format!("`{}`: {error}", log.display()),
    }
}
