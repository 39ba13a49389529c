//! Reads what a sealing wrote back from the disk, and makes of it all that is to be known of it.
//!
//! Bundles as they are on the disk in; tiles, manifests and postings out, once the tree over those
//! records has the signed root. Believes nothing that it did not read there.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use rustix::fs::{Advice, fadvise};

use super::{
    Closed, Sealing, Written, damaged,
    tiles::{self, Edge, Tile, WIDTH},
};
use crate::{
    files,
    find::{keys::Leaf, postings::Builder},
    merkle::leaf_hash,
    segment::Segment,
};

/// Tiles that were written: where, and what is in them.
pub(super) type Tiles = Vec<(PathBuf, Vec<u8>)>;

/// A segment, and its postings where all its records are read here.
pub(super) struct Part {
    pub(super) segment: Segment,
    pub(super) postings: Option<Builder>,
}

impl Sealing<'_> {
    /// Reads the bundles, recomputes the tree from their leaves and writes its tiles under
    /// temporary names. Gives what follows from the records, and the tiles, to be read back too.
    pub(super) fn read_back(
        &self,
        written: &mut Written,
        last: Option<Segment>,
        journal: Closed,
    ) -> io::Result<(Vec<Part>, Tiles)> {
        let mut edge = Edge::load(self.log, journal.first)?;
        let segments = self.segments(last, journal).into_iter();
        let mut parts: Vec<Part> = segments.map(Part::new).collect();
        let mut tiles = Tiles::new();
        let mut seq = journal.first;
        while seq < journal.end {
            let n = seq / WIDTH;
            let start = n * WIDTH;
            let width = WIDTH.min(journal.end - start);
            let path = files::temporary(&Tile::Entries.path(self.log, n, width));
            let bytes = read_from_disk(&path)?;
            let entries = tiles::entries(&bytes, width).ok_or_else(|| unlike(&path))?;
            for (at, range) in (start..).zip(entries) {
                if at < seq {
                    continue;
                }
                let leaf = bytes.get(range).unwrap_or_default();
                edge.push(leaf_hash(leaf), |level, n, hashes| {
                    let bytes = hashes.concat();
                    let path = self.put(written, Tile::Hashes(level), n, WIDTH, &bytes)?;
                    tiles.push((path, bytes));
                    Ok(())
                })?;
                let part = parts.iter_mut().rev().find(|part| part.begins_by(at));
                part.ok_or_else(|| damaged(format!("record {at} is in no segment")))?
                    .add(at, leaf)
                    .map_err(damaged)?;
            }
            seq = start + width;
        }
        if edge.root() != journal.root {
            return Err(damaged("what was read back is not what was signed"));
        }
        for (level, n, hashes) in edge.partials() {
            let width = u64::try_from(hashes.len()).unwrap_or_default();
            let bytes = hashes.concat();
            let path = self.put(written, Tile::Hashes(level), n, width, &bytes)?;
            tiles.push((path, bytes));
        }
        if let Some(last) = parts.last_mut() {
            last.segment.commit_to(journal.first, &journal.root);
        }
        Ok((parts, tiles))
    }
}

impl Part {
    fn new(segment: Segment) -> Self {
        let is_new = segment.first == segment.end;
        Self {
            postings: is_new.then(|| Builder::new(segment.first)),
            segment,
        }
    }

    fn begins_by(&self, seq: u64) -> bool {
        self.segment.first <= seq
    }

    fn add(&mut self, seq: u64, leaf: &[u8]) -> Result<(), String> {
        let leaf = Leaf::read(leaf).map_err(|error| format!("record {seq}: {error}"))?;
        self.segment.add(&leaf)?;
        match &mut self.postings {
            Some(postings) => postings.add(&leaf),
            None => Ok(()),
        }
    }
}

/// Reads a file past the page cache, as far as the kernel allows.
pub(super) fn read_from_disk(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    // Clean pages go; where it is not supported, the check is one of the files alone.
    let _unsupported = fadvise(&file, 0, None, Advice::DontNeed);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn unlike(path: &Path) -> io::Error {
    damaged(format!("`{}` is not what was written", path.display()))
}
