//! Seals a full journal: turns it into static files in the C2SP tlog-tiles layout.
//!
//! One closed, durable and signed journal in; bundles, tiles and a manifest out. Everything is
//! written, synced, read back and checked before the manifest commits to it, and only then is the
//! journal dropped. Whenever it is stopped, doing it again from the start comes to the same end.
//!
//! Each record is hashed once and parsed once here: when it is read back from the disk. What is
//! read there makes the tree, the manifests and the postings, and the tree's root is held against
//! the signed one.

mod read_back;
pub(crate) mod tiles;

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File},
    io::{self, BufReader, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::syncfs;

use crate::{
    files,
    find::{keys::Leaf, postings},
    frame::{self, Header, Next},
    index::Index,
    merkle::Hash,
    segment::{SEGMENTS, Segment},
};
use read_back::{Part, read_from_disk, unlike};
use tiles::{Tile, WIDTH};

/// A journal that is closed: durable, signed up to its end, and never written to again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Closed {
    pub(crate) first: u64,
    pub(crate) end: u64,
    /// Root of the log's tree at its end.
    pub(crate) root: Hash,
}

/// Seals journals of one log.
pub(crate) struct Sealing<'a> {
    pub(crate) log: &'a Path,
    /// Records after which a segment is complete.
    pub(crate) segment_records: u64,
    /// Time after which a segment is complete, however few records it has.
    pub(crate) segment_age: Duration,
    /// Now, in microseconds since the epoch.
    pub(crate) now_us: u64,
    /// Asked before each change of a file; an error stops there, as a kill would.
    pub(crate) step: &'a dyn Fn(&'static str) -> io::Result<()>,
}

/// Files written under temporary names.
#[derive(Debug, Default)]
struct Written {
    files: Vec<Placed>,
    directories: BTreeSet<PathBuf>,
}

/// One of them: where it is, and where it belongs.
#[derive(Debug)]
struct Placed {
    temporary: PathBuf,
    path: PathBuf,
}

impl Sealing<'_> {
    /// Seals a journal and drops it.
    ///
    /// # Errors
    /// Nothing is lost: the journal is still there, and sealing it can be tried again.
    pub(crate) fn seal(&self, journal: Closed) -> io::Result<()> {
        let last = Segment::last(self.log)?;
        let sealed = last.as_ref().map_or(0, |last| last.end);
        if journal.end > sealed {
            if journal.first != sealed {
                return Err(damaged(format!(
                    "journal {} does not follow on {sealed} sealed records",
                    journal.first
                )));
            }
            self.commit(last, journal)?;
        }
        self.clean()
    }

    /// Removes what the committed segments have superseded. Idempotent.
    pub(crate) fn clean(&self) -> io::Result<()> {
        let Some(last) = Segment::last(self.log)? else {
            return Ok(());
        };
        self.complete_the_one_before(&last)?;
        for first in files::numbered(self.log, "journal", ".log")? {
            if first < last.end {
                (self.step)("remove the index")?;
                Index::remove(self.log, first).map_err(io::Error::other)?;
                (self.step)("remove the journal")?;
                files::remove(&files::path_of(self.log, "journal", first, ".log"))?;
            }
        }
        self.clean_partials(&last)?;
        files::sync_directory(self.log)
    }

    fn commit(&self, last: Option<Segment>, journal: Closed) -> io::Result<()> {
        let mut written = Written::default();
        self.write_bundles(&mut written, journal)?;
        self.sync()?;
        let (mut parts, tiles) = self.read_back(&mut written, last, journal)?;
        self.sync()?;
        for (path, bytes) in tiles {
            if read_from_disk(&path)? != bytes {
                return Err(unlike(&path));
            }
        }
        for file in &written.files {
            (self.step)("rename a tile")?;
            fs::rename(&file.temporary, &file.path)?;
        }
        for directory in &written.directories {
            (self.step)("sync a directory of tiles")?;
            files::sync_directory(directory)?;
        }
        self.make_directory(&self.log.join(SEGMENTS))?;
        files::sync_directory(self.log)?;
        for part in &mut parts {
            self.index(part)?;
        }
        // The last manifest is the one that commits; the one before it follows from it.
        for part in parts.iter().rev() {
            (self.step)("write a manifest")?;
            part.segment.save(self.log)?;
        }
        Ok(())
    }

    /// All files at once: a sync of each would take a commit of the file system's journal of each,
    /// five hundred for a segment. It reports errors of writing back (Linux 5.8).
    fn sync(&self) -> io::Result<()> {
        (self.step)("sync the file system")?;
        Ok(syncfs(File::open(self.log)?)?)
    }

    /// Writes the postings of a segment that has all its records from here. Where that fails the
    /// next query makes them, as those of a segment that was added to.
    fn index(&self, part: &mut Part) -> io::Result<()> {
        let Some(builder) = part.postings.take() else {
            return Ok(());
        };
        (self.step)("write postings")?;
        let path = postings::path_of(self.log, part.segment.first);
        let written = builder
            .finish()
            .and_then(|bytes| files::replace(&path, &bytes));
        if let Err(error) = written {
            tracing::warn!(%error, "postings not made; the next query makes them");
        }
        Ok(())
    }

    /// Writes the records into bundles under temporary names.
    fn write_bundles(&self, written: &mut Written, journal: Closed) -> io::Result<()> {
        let mut bundle = match journal.first % WIDTH {
            0 => Vec::new(),
            width => {
                let path = Tile::Entries.path(self.log, journal.first / WIDTH, width);
                fs::read(path)?
            }
        };
        self.leaves(journal, |seq, leaf| {
            tiles::bundle(&mut bundle, leaf)?;
            if (seq + 1).is_multiple_of(WIDTH) {
                self.put(written, Tile::Entries, seq / WIDTH, WIDTH, &bundle)?;
                bundle.clear();
            }
            Ok(())
        })?;
        let width = journal.end % WIDTH;
        if width > 0 {
            let n = journal.end / WIDTH;
            self.put(written, Tile::Entries, n, width, &bundle)?;
        }
        Ok(())
    }

    /// Writes one under its temporary name, which it gives back.
    fn put(
        &self,
        written: &mut Written,
        tile: Tile,
        n: u64,
        width: u64,
        bytes: &[u8],
    ) -> io::Result<PathBuf> {
        let path = tile.path(self.log, n, width);
        let directory = files::parent(&path);
        if written.directories.insert(directory.to_owned()) {
            self.make_directory(directory)?;
            // Its own entry, in each directory down from the log's.
            let above = directory.ancestors().skip(1);
            let above = above.take_while(|path| path.starts_with(self.log));
            written.directories.extend(above.map(Path::to_owned));
        }
        let temporary = files::temporary(&path);
        (self.step)("write a tile")?;
        files::create(&temporary)?.write_all(bytes)?;
        written.files.push(Placed {
            temporary: temporary.clone(),
            path,
        });
        Ok(temporary)
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        (self.step)("make a directory")?;
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// The segments that the journal's records belong to: the last one, and a new one from the
    /// next multiple of 256 on where that is complete.
    fn segments(&self, last: Option<Segment>, journal: Closed) -> Vec<Segment> {
        let Some(last) = last else {
            return vec![Segment::new(0)];
        };
        let age = Duration::from_micros(self.now_us.saturating_sub(last.from_us));
        let complete = last.end - last.first >= self.segment_records || age >= self.segment_age;
        let boundary = last.end.next_multiple_of(WIDTH);
        match complete && boundary < journal.end {
            true => vec![last, Segment::new(boundary)],
            false => vec![last],
        }
    }

    /// A stop between two manifests leaves the one before the last without its last records.
    fn complete_the_one_before(&self, last: &Segment) -> io::Result<()> {
        let firsts = Segment::list(self.log)?;
        let Some(before) = firsts.iter().rev().nth(1) else {
            return Ok(());
        };
        let mut before = Segment::load(self.log, *before)?;
        if before.end == last.first {
            return Ok(());
        }
        let n = before.end / WIDTH;
        let path = Tile::Entries.path(self.log, n, WIDTH);
        let bytes = fs::read(&path)?;
        let entries = tiles::entries(&bytes, WIDTH).ok_or_else(|| unlike(&path))?;
        for (at, range) in (n * WIDTH..).zip(entries) {
            if at == before.end {
                let leaf = Leaf::read(bytes.get(range).unwrap_or_default());
                leaf.and_then(|leaf| before.add(&leaf)).map_err(damaged)?;
            }
        }
        if before.end != last.first {
            return Err(damaged(format!("no segment holds record {}", before.end)));
        }
        (self.step)("complete a manifest")?;
        before.save(self.log)
    }

    /// Removes partial tiles that wider ones stand for.
    fn clean_partials(&self, last: &Segment) -> io::Result<()> {
        let kinds = std::iter::once(Tile::Entries).chain((0..8).map(Tile::Hashes));
        for tile in kinds {
            for size in [last.previous, last.end] {
                let count = size / tile.span();
                let (n, width) = (count / WIDTH, count % WIDTH);
                let partials = tile.partials(self.log, n);
                if !partials.is_dir() {
                    continue;
                }
                if last.end / tile.span() / WIDTH > n {
                    (self.step)("remove partial tiles")?;
                    files::remove(&partials)?;
                } else if size == last.end {
                    for entry in fs::read_dir(&partials)? {
                        let entry = entry?;
                        if entry.file_name().to_str() != Some(&width.to_string()) {
                            (self.step)("remove a partial tile")?;
                            files::remove(&entry.path())?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// All leaves of the journal, in order.
    fn leaves(
        &self,
        journal: Closed,
        mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let path = files::path_of(self.log, "journal", journal.first, ".log");
        let mut reader = BufReader::with_capacity(1 << 20, File::open(&path)?);
        let header = Header::read(&mut reader)?.map_err(damaged)?;
        if header.first_seq != journal.first {
            return Err(damaged(format!("`{}` is another's", path.display())));
        }
        for seq in journal.first..journal.end {
            match frame::read(&mut reader)? {
                Next::Frame(frame) if frame.seq == seq => take(seq, &frame.leaf)?,
                Next::Frame(_) | Next::End => {
                    return Err(damaged(format!("record {seq} is not in its journal")));
                }
                Next::Bad(why) => return Err(damaged(format!("record {seq}: {why}"))),
            }
        }
        // The journal goes once it is sealed: nothing may be in it that is not.
        match frame::read(&mut reader)? {
            Next::End => Ok(()),
            Next::Frame(_) | Next::Bad(_) => Err(damaged(format!(
                "journal {} has more than the records before {}",
                journal.first, journal.end
            ))),
        }
    }
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests;
