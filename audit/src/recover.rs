//! Opens what is there: recovers the open segment, and holds it against the last checkpoint.
//!
//! Cuts off only what a crash left of an unfinished write. Anything else that is wrong is an
//! error of its own kind, and nothing is changed.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, Read as _, Seek as _},
    path::{Path, PathBuf},
};

use crate::{
    Record,
    checkpoint::{Checkpoint, Signer},
    files,
    frame::{self, Header, Next},
    log::OpenError,
    merkle::{Frontier, Hash, leaf_hash},
    segment::Segment,
    writer::create_journal,
};

/// A log as it was found, ready to be written on.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) signer: Signer,
    /// The open journal, durable up to `bytes`.
    pub(crate) journal: File,
    pub(crate) first: u64,
    pub(crate) bytes: u64,
    pub(crate) frontier: Frontier,
    /// Size of the last checkpoint.
    pub(crate) signed: u64,
    pub(crate) sessions: BTreeSet<String>,
    pub(crate) leaves: Vec<Hash>,
    /// Bytes of an unfinished write that were cut off.
    pub(crate) cut_bytes: u64,
}

/// Opens or creates the log in a directory that is locked.
pub(crate) fn recover(directory: &Path) -> Result<Recovered, OpenError> {
    let (signer, journals) = identity(directory)?;
    let checkpoint = checkpoint(directory, &signer, &journals)?;
    let journals = if journals.is_empty() {
        let path = files::path_of(directory, "journal", 0, ".log");
        create_journal(directory, 0, signer.origin())
            .map_err(|error| OpenError::io(&path, "made", &error))?;
        vec![0]
    } else {
        journals
    };
    let mut replay = Replay::start(directory, &signer, checkpoint, &journals)?;
    let Some((last, closed)) = journals.split_last() else {
        return Err(OpenError::integrity("it has no journal".into()));
    };
    let start = replay.frontier.size();
    for first in closed.iter().filter(|first| **first >= start) {
        replay.closed_journal(*first)?;
    }
    let (journal, bytes, cut_bytes) = replay.open_journal(*last)?;
    replay.finish()?;
    Ok(Recovered {
        journal,
        first: *last,
        bytes,
        frontier: replay.frontier,
        signed: checkpoint.size,
        sessions: replay.sessions,
        leaves: replay.leaves,
        cut_bytes,
        signer,
    })
}

/// Who the log is, and its journals; a new identity only where there is nothing at all.
fn identity(directory: &Path) -> Result<(Signer, Vec<u64>), OpenError> {
    let journals = files::numbered(directory, "journal", ".log")
        .map_err(|error| OpenError::io(directory, "listed", &error))?;
    if let Some(signer) = Signer::load(directory)? {
        return Ok((signer, journals));
    }
    if !journals.is_empty() || directory.join(crate::checkpoint::CHECKPOINT).exists() {
        return Err(OpenError::integrity("its key is gone".into()));
    }
    Ok((Signer::create(directory)?, journals))
}

/// The last checkpoint. The first one, of nothing, is older than the first journal, so that a
/// missing one always means that it was taken away.
fn checkpoint(
    directory: &Path,
    signer: &Signer,
    journals: &[u64],
) -> Result<Checkpoint, OpenError> {
    match signer.last(directory)? {
        Some(checkpoint) if journals.is_empty() && checkpoint.size > 0 => {
            Err(OpenError::integrity(format!(
                "its checkpoint states {} records and there is no journal",
                checkpoint.size
            )))
        }
        Some(checkpoint) => Ok(checkpoint),
        None if journals.is_empty() => {
            let nothing = Checkpoint {
                size: 0,
                root: Frontier::default().root(),
            };
            let path = directory.join(crate::checkpoint::CHECKPOINT);
            signer
                .publish(directory, nothing)
                .map_err(|error| OpenError::io(&path, "written", &error))?;
            Ok(nothing)
        }
        None => Err(OpenError::integrity("its checkpoint is gone".into())),
    }
}

/// The replay of journals that no closed segment stands for.
struct Replay<'a> {
    directory: &'a Path,
    origin: [u8; 16],
    checkpoint: Checkpoint,
    /// Whether the tree was seen at the checkpoint's size, with its root.
    checked: bool,
    frontier: Frontier,
    sessions: BTreeSet<String>,
    leaves: Vec<Hash>,
    /// Full segments that a kill kept from being written down.
    unlisted: Vec<Segment>,
}

impl<'a> Replay<'a> {
    /// Begins after the last closed segment that the checkpoint covers.
    fn start(
        directory: &'a Path,
        signer: &Signer,
        checkpoint: Checkpoint,
        journals: &[u64],
    ) -> Result<Self, OpenError> {
        let mut replay = Self {
            directory,
            origin: signer.origin(),
            checkpoint,
            checked: false,
            frontier: Frontier::default(),
            sessions: BTreeSet::new(),
            leaves: Vec::new(),
            unlisted: Vec::new(),
        };
        let segments = files::numbered(directory, "segment", ".json")
            .map_err(|error| OpenError::io(directory, "listed", &error))?;
        let mut end = 0;
        for first in segments {
            let segment = Segment::load(directory, first)?;
            // A directory listing and one `stat` each: whole files are what `verify` reads.
            let path = files::path_of(directory, "journal", first, ".log");
            let found = std::fs::metadata(&path).map(|metadata| metadata.len());
            if first != end {
                // A kill came before one was written down: from there on, replay.
                break;
            }
            if !found.is_ok_and(|len| len == segment.bytes) {
                return Err(OpenError::integrity(format!(
                    "`{}` is not as it was when its segment was closed",
                    path.display()
                )));
            }
            end = segment.end;
            if end <= checkpoint.size && journals.contains(&end) {
                replay.frontier = segment.frontier()?;
            }
        }
        replay.check()?;
        Ok(replay)
    }

    /// Replays a journal that has one after it, so that every byte of it must be right.
    fn closed_journal(&mut self, first: u64) -> Result<(), OpenError> {
        let (path, mut reader) = self.begin(first)?;
        match self.frames(&path, &mut reader)? {
            (bytes, Next::End) => {
                let segment = Segment::new(first, bytes, &self.frontier, &self.sessions);
                self.unlisted.push(segment);
                Ok(())
            }
            (at, Next::Bad(why)) => Err(self.damaged(&path, at, why)),
            (at, Next::Frame(_)) => Err(self.damaged(&path, at, "it is out of order")),
        }
    }

    /// Replays the last journal; cuts off an unfinished write.
    fn open_journal(&mut self, first: u64) -> Result<(File, u64, u64), OpenError> {
        let (path, mut reader) = self.begin(first)?;
        let fail = |error| OpenError::io(&path, "recovered", &error);
        let (at, next) = self.frames(&path, &mut reader)?;
        let journal = files::open(&path).map_err(fail)?;
        let len = journal.metadata().map_err(fail)?.len();
        let why = match next {
            Next::End => None,
            Next::Bad(why) => Some(why),
            Next::Frame(_) => Some("it is out of order"),
        };
        if let Some(why) = why {
            let mut tail = Vec::new();
            reader.seek(io::SeekFrom::Start(at)).map_err(fail)?;
            reader.read_to_end(&mut tail).map_err(fail)?;
            let signed = self.frontier.size() < self.checkpoint.size;
            if signed || matches!(next, Next::Frame(_)) || frame::later_synced(&tail, at) {
                return Err(self.damaged(&path, at, why));
            }
            journal.set_len(at).map_err(fail)?;
            tracing::warn!(bytes = len - at, "an unfinished write was cut off the log");
        }
        // What a killed process had only written counts from here on, so it has to be durable.
        journal.sync_all().map_err(fail)?;
        Ok((journal, at, len - at))
    }

    fn begin(&mut self, first: u64) -> Result<(PathBuf, BufReader<File>), OpenError> {
        self.sessions.clear();
        self.leaves.clear();
        let path = files::path_of(self.directory, "journal", first, ".log");
        let fail = |error| OpenError::io(&path, "read", &error);
        let mut reader = BufReader::with_capacity(1 << 20, files::open(&path).map_err(fail)?);
        let expected = Header {
            first_seq: self.frontier.size(),
            origin: self.origin,
        };
        match Header::read(&mut reader).map_err(fail)? {
            Ok(header) if header == expected && first == expected.first_seq => Ok((path, reader)),
            Ok(_) => Err(OpenError::integrity(format!(
                "`{}` does not follow on record {} of this log",
                path.display(),
                expected.first_seq
            ))),
            Err(why) => Err(OpenError::integrity(format!("`{}`: {why}", path.display()))),
        }
    }

    /// Takes frames until there is none that follows, and says where that is.
    fn frames(
        &mut self,
        path: &Path,
        reader: &mut BufReader<File>,
    ) -> Result<(u64, Next), OpenError> {
        let mut at = frame::HEADER;
        loop {
            let next = frame::read(reader).map_err(|error| OpenError::io(path, "read", &error))?;
            let Next::Frame(frame) = &next else {
                return Ok((at, next));
            };
            if frame.seq != self.frontier.size() {
                return Ok((at, next));
            }
            let record = Record::from_leaf(&frame.leaf)
                .ok()
                .filter(|record| record.seq == frame.seq)
                .ok_or_else(|| self.damaged(path, at, "it is no record of this place"))?;
            self.sessions.extend(record.session);
            let hash = leaf_hash(&frame.leaf);
            self.leaves.push(hash);
            self.frontier.push(hash);
            self.check()?;
            at += u64::try_from(frame::FRAME + frame.leaf.len()).unwrap_or_default();
        }
    }

    /// Compares roots where the checkpoint stands.
    fn check(&mut self) -> Result<(), OpenError> {
        if self.frontier.size() == self.checkpoint.size {
            if self.frontier.root() != self.checkpoint.root {
                return Err(OpenError::integrity(format!(
                    "its first {} records are not those that its checkpoint states",
                    self.checkpoint.size
                )));
            }
            self.checked = true;
        }
        Ok(())
    }

    /// Fails unless the checkpoint was met; then writes down what a kill left out.
    fn finish(&self) -> Result<(), OpenError> {
        if !self.checked {
            return Err(OpenError::integrity(format!(
                "it has {} records and its checkpoint states {}",
                self.frontier.size(),
                self.checkpoint.size
            )));
        }
        for segment in &self.unlisted {
            // One that is not signed yet is left for the next start.
            if segment.end <= self.checkpoint.size {
                segment
                    .save(self.directory)
                    .map_err(|error| OpenError::io(self.directory, "written to", &error))?;
            }
        }
        Ok(())
    }

    fn damaged(&self, path: &Path, at: u64, why: &str) -> OpenError {
        OpenError::integrity(format!(
            "record {} in `{}` at byte {at}: {why}",
            self.frontier.size(),
            path.display()
        ))
    }
}
