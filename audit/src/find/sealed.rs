//! The sealed part of a log as it lies in files: manifests of segments, and entry bundles.
//!
//! Source: C2SP tlog-tiles, "Entry bundles".

use std::{fs, io, io::Read as _, ops::Range, path::Path};

use crate::{
    files,
    seal::tiles::{self, Tile, WIDTH},
    segment::Segment,
};

/// A sealed segment: its first record, and the first one after it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sealed {
    /// Its first record.
    pub first: u64,
    /// The first one after it.
    pub end: u64,
}

impl Sealed {
    /// The sealed segments of a log that are still kept, in order.
    ///
    /// # Errors
    /// When a manifest cannot be read, or segments do not follow one on another.
    pub fn list(log: &Path) -> io::Result<Vec<Self>> {
        let firsts = Segment::list(log)?;
        let Some(last) = firsts.last() else {
            return Ok(Vec::new());
        };
        // Only the last manifest tells more than its name: all others end where the next begins.
        let end = Segment::load(log, *last)?.end;
        let ends = firsts.iter().skip(1).copied().chain([end]);
        let segments: Vec<Self> = firsts
            .iter()
            .zip(ends)
            .map(|(first, end)| Self { first: *first, end })
            .collect();
        let sound = segments.iter().all(|segment| {
            let len = segment.end.saturating_sub(segment.first);
            segment.first % BUNDLE == 0 && (1..=MAX_RECORDS).contains(&len)
        });
        match sound {
            true => Ok(segments),
            false => Err(io::Error::other(
                "its segments do not follow one on another: run `cordon audit verify`",
            )),
        }
    }
}

/// The leaves of an entry bundle, as they were read.
#[derive(Debug, Default)]
pub(crate) struct Bundle {
    bytes: Vec<u8>,
    entries: Vec<Range<usize>>,
}

impl Bundle {
    /// Reads bundle `number`: the full one, or else the longest partial one.
    pub(crate) fn read(log: &Path, number: u64) -> io::Result<Self> {
        let found = match read(&Tile::Entries.path(log, number, WIDTH))? {
            Some(bytes) => Some((bytes, WIDTH)),
            None => partial(&Tile::Entries.partials(log, number))?,
        };
        let wrong = |how| {
            io::Error::other(format!(
                "an entry bundle is {how}: run `cordon audit verify`"
            ))
        };
        let (bytes, width) = found.ok_or_else(|| wrong("missing"))?;
        let entries = tiles::entries(&bytes, width).ok_or_else(|| wrong("damaged"))?;
        Ok(Self { bytes, entries })
    }

    /// The leaf at a place of it.
    pub(crate) fn leaf(&self, at: usize) -> Option<&[u8]> {
        self.bytes.get(self.entries.get(at)?.clone())
    }
}

fn partial(directory: &Path) -> io::Result<Option<(Vec<u8>, u64)>> {
    let mut longest = None;
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name();
        let width = name.to_str().and_then(|name| name.parse::<u64>().ok());
        longest = longest.max(width.filter(|width| *width < WIDTH));
    }
    let Some(width) = longest else {
        return Ok(None);
    };
    let bytes = read(&directory.join(width.to_string()))?;
    Ok(bytes.map(|bytes| (bytes, width)))
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match files::open_to_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BUNDLE).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Records in one entry bundle.
pub(crate) const BUNDLE: u64 = WIDTH;

/// Largest bundle: each leaf has at most 65,535 bytes.
const MAX_BUNDLE: u64 = BUNDLE * (2 + 65_535);

const MAX_RECORDS: u64 = 1 << 24;
