//! Opens what is there: recovers the open segment, and holds it against the last checkpoint.
//!
//! Cuts off only what a crash left of an unfinished write. Anything else that is wrong is an
//! error of its own kind, and nothing is changed.

use std::{
    fs::File,
    io::{self, BufReader, Read as _, Seek as _},
    path::{Path, PathBuf},
};

use crate::{
    Kind, Record, RecordId,
    checkpoint::{Checkpoint, Signer},
    files,
    frame::{self, Header, Next},
    log::OpenError,
    merkle::{Frontier, leaf_hash},
    read::Reader,
    seal::{Closed, tiles::Edge},
    segment::Segment,
    side,
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
    /// Records that are sealed.
    pub(crate) sealed: u64,
    /// Closed journals that are not sealed yet, in order.
    pub(crate) unsealed: Vec<Closed>,
    /// Bytes of an unfinished write that were cut off.
    pub(crate) cut_bytes: u64,
}

/// Opens or creates the log in a directory that is locked.
pub(crate) fn recover(directory: &Path) -> Result<Recovered, OpenError> {
    let (mut signer, journals) = identity(directory)?;
    let sealed = sealed(directory)?;
    let nothing = journals.is_empty() && sealed.size() == 0;
    let checkpoint = checkpoint(directory, &signer, nothing)?;
    let mut replay = Replay::start(directory, &signer, checkpoint, sealed)?;
    let start = replay.frontier.size();
    let unsealed: Vec<u64> = journals.into_iter().filter(|j| *j >= start).collect();
    let last = match unsealed.split_last() {
        Some((last, closed)) => {
            for first in closed {
                replay.closed_journal(*first)?;
            }
            *last
        }
        None => {
            replay.finish()?;
            let path = files::path_of(directory, "journal", start, ".log");
            create_journal(directory, start, signer.origin())
                .map_err(|error| OpenError::io(&path, "made", &error))?;
            start
        }
    };
    let (journal, bytes, cut_bytes) = replay.open_journal(last)?;
    replay.finish()?;
    signer.settle(directory, replay.announced.as_deref(), || Checkpoint {
        size: replay.frontier.size(),
        root: replay.frontier.root(),
    })?;
    erase_again(directory, &replay.redacted)?;
    Ok(Recovered {
        journal,
        first: last,
        bytes,
        frontier: replay.frontier,
        signed: checkpoint.size,
        sealed: start,
        unsealed: replay.closed,
        cut_bytes,
        signer,
    })
}

/// Erases what redactions name: a stop between the record and the erasing leaves it to this.
fn erase_again(directory: &Path, redacted: &[(RecordId, String)]) -> Result<(), OpenError> {
    for (id, pointer) in redacted {
        let found = Reader::at(directory).by_id(*id);
        let found = found.map_err(|error| OpenError::integrity(error.to_string()))?;
        // One that was pruned took its values along.
        if let Some(record) = found {
            let values = side::erase(directory, record.seq, pointer)
                .map_err(|error| OpenError::io(directory, "redacted", &error))?;
            if values > 0 {
                tracing::warn!(
                    seq = record.seq,
                    values,
                    "an interrupted redaction was completed"
                );
            }
        }
    }
    Ok(())
}

/// Who the log is, and its journals; a new identity only where there is nothing at all.
fn identity(directory: &Path) -> Result<(Signer, Vec<u64>), OpenError> {
    let listed = |error| OpenError::io(directory, "listed", &error);
    let journals = files::numbered(directory, "journal", ".log").map_err(listed)?;
    if let Some(signer) = Signer::load(directory)? {
        return Ok((signer, journals));
    }
    let traces = [
        crate::checkpoint::CHECKPOINT,
        "tile",
        crate::segment::SEGMENTS,
    ];
    if !journals.is_empty() || traces.iter().any(|name| directory.join(name).exists()) {
        return Err(OpenError::integrity("its key is gone".into()));
    }
    Ok((Signer::create(directory)?, journals))
}

/// The tree over what is sealed, from the right edge of the tiles, held against the last
/// manifest. Reads a handful of files however large the log is.
fn sealed(directory: &Path) -> Result<Edge, OpenError> {
    let wrong = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => OpenError::io(directory, "read", &error),
        _ => OpenError::integrity(error.to_string()),
    };
    let Some(last) = Segment::last(directory).map_err(wrong)? else {
        return Ok(Edge::default());
    };
    let edge = Edge::load(directory, last.end).map_err(wrong)?;
    if last.has_root(&edge.root()) {
        Ok(edge)
    } else {
        Err(OpenError::integrity(format!(
            "the tiles over its first {} records are not those that were sealed",
            last.end
        )))
    }
}

/// The last checkpoint. The first one, of nothing, is older than the first journal, so that a
/// missing one always means that it was taken away.
fn checkpoint(
    directory: &Path,
    signer: &Signer,
    nothing_there: bool,
) -> Result<Checkpoint, OpenError> {
    match signer.last(directory)? {
        Some(checkpoint) if nothing_there && checkpoint.size > 0 => {
            Err(OpenError::integrity(format!(
                "its checkpoint states {} records and there are none",
                checkpoint.size
            )))
        }
        Some(checkpoint) => Ok(checkpoint),
        None if nothing_there => {
            let nothing = Checkpoint {
                size: 0,
                root: Frontier::default().root(),
            };
            let path = directory.join(crate::checkpoint::CHECKPOINT);
            signer
                .publish(directory, nothing, false)
                .map_err(|error| OpenError::io(&path, "written", &error))?;
            Ok(nothing)
        }
        None => Err(OpenError::integrity("its checkpoint is gone".into())),
    }
}

/// The replay of journals that are not sealed.
struct Replay<'a> {
    directory: &'a Path,
    origin: [u8; 16],
    checkpoint: Checkpoint,
    /// Whether the tree was seen at the checkpoint's size, with its root.
    checked: bool,
    frontier: Frontier,
    closed: Vec<Closed>,
    /// The key that the last `key.rotate` announces.
    announced: Option<String>,
    /// Values whose erasure is recorded, and may have been interrupted.
    redacted: Vec<(RecordId, String)>,
}

impl<'a> Replay<'a> {
    /// Begins after what is sealed.
    fn start(
        directory: &'a Path,
        signer: &Signer,
        checkpoint: Checkpoint,
        sealed: Edge,
    ) -> Result<Self, OpenError> {
        let frontier = Frontier::from_parts(sealed.size(), sealed.roots())
            .ok_or_else(|| OpenError::integrity("its tiles do not fit its size".into()))?;
        if checkpoint.size < frontier.size() {
            // Only what is signed is sealed.
            return Err(OpenError::integrity(format!(
                "{} records are sealed and its checkpoint states {}: it is an older one",
                frontier.size(),
                checkpoint.size
            )));
        }
        let mut replay = Self {
            directory,
            origin: signer.origin(),
            checkpoint,
            checked: false,
            frontier,
            closed: Vec::new(),
            announced: None,
            redacted: Vec::new(),
        };
        replay.check()?;
        Ok(replay)
    }

    /// Replays a journal that has one after it, so that every byte of it must be right.
    fn closed_journal(&mut self, first: u64) -> Result<(), OpenError> {
        let (path, mut reader) = self.begin(first)?;
        match self.frames(&path, &mut reader)? {
            (_, Next::End) => {
                self.closed.push(Closed {
                    first,
                    end: self.frontier.size(),
                    root: self.frontier.root(),
                });
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
            self.note(record);
            self.frontier.push(leaf_hash(&frame.leaf));
            self.check()?;
            at += u64::try_from(frame::FRAME + frame.leaf.len()).unwrap_or_default();
        }
    }

    /// Notes what there may be left to do of what a record says.
    fn note(&mut self, record: Record) {
        if record.kind == Kind::KeyRotate {
            self.announced = record.key.map(|key| key.new);
        } else if record.kind == Kind::Redaction
            && let Some(upkeep) = record.upkeep
        {
            self.redacted.extend(upkeep.record.zip(upkeep.pointer));
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

    /// Fails unless the checkpoint was met.
    fn finish(&self) -> Result<(), OpenError> {
        match self.checked {
            true => Ok(()),
            false => Err(OpenError::integrity(format!(
                "it has {} records and its checkpoint states {}",
                self.frontier.size(),
                self.checkpoint.size
            ))),
        }
    }

    fn damaged(&self, path: &Path, at: u64, why: &str) -> OpenError {
        OpenError::integrity(format!(
            "record {} in `{}` at byte {at}: {why}",
            self.frontier.size(),
            path.display()
        ))
    }
}
