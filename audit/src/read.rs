//! Reads a log from its files, beside or without a running daemon.
//!
//! Changes nothing and takes no lock. What a running daemon has written shows at once, so a
//! record can show some milliseconds before it is durable; [`crate::verify`] is what proves.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Seek as _, SeekFrom},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
};
use thiserror::Error;

use crate::{
    Record, files,
    frame::{self, Header, Next},
    segment::Segment,
};

/// A log to be read.
#[derive(Clone, Debug)]
pub struct Reader {
    directory: PathBuf,
}

/// Why a log was not read.
#[derive(Debug, Error)]
#[error("log not read: {message}")]
pub struct ReadError {
    /// What, why, and what to do.
    pub message: String,
}

/// Records in order, up to what is written by now. After the last one it ends; asked again, it
/// goes on with what was written since.
#[derive(Debug)]
pub struct Records {
    directory: PathBuf,
    next: u64,
    journal: Option<OpenJournal>,
}

/// Records in order, waiting for new ones.
#[derive(Debug)]
pub struct Follow {
    records: Records,
    changes: OwnedFd,
}

/// A journal, and where in it the next frame stands.
#[derive(Debug)]
struct OpenJournal {
    path: PathBuf,
    reader: BufReader<File>,
    first: u64,
    seq: u64,
    at: u64,
    /// The first record of the journal after it. With one, it is complete.
    after: Option<u64>,
}

/// What a journal has next.
enum Step {
    Leaf(Vec<u8>),
    /// Nothing, or nothing whole, by now.
    Nothing,
    /// Nothing ever.
    Complete,
}

impl Reader {
    /// Opens the log in `directory` for reading.
    ///
    /// # Errors
    /// [`ReadError`] when there is no log.
    pub fn open(directory: &Path) -> Result<Self, ReadError> {
        let reader = Self {
            directory: directory.to_owned(),
        };
        if journals(directory)?.is_empty() {
            return Err(ReadError::new(directory, "there is no log in it"));
        }
        Ok(reader)
    }

    /// Where the log is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Records from sequence `from` on.
    pub fn records(&self, from: u64) -> Records {
        Records {
            directory: self.directory.clone(),
            next: from,
            journal: None,
        }
    }

    /// The last `count` records.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read or is damaged.
    pub fn last(&self, count: u64) -> Result<Vec<Record>, ReadError> {
        let from = self.end()?.saturating_sub(count);
        self.records(from).collect()
    }

    /// All records of a session, in order.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read or is damaged.
    pub fn session(&self, session: &str) -> Result<Vec<Record>, ReadError> {
        self.session_between(session, 0, u64::MAX)
    }

    /// Records from `from` on (`None`: from now on), waiting for new ones.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read or watched.
    pub fn follow(&self, from: Option<u64>) -> Result<Follow, ReadError> {
        let fail = |error: rustix::io::Errno| ReadError::new(&self.directory, &error.to_string());
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let changes = inotify::init(flags).map_err(fail)?;
        let watched = inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&changes, &self.directory, watched).map_err(fail)?;
        // Watched before the end is looked for, so that nothing falls between.
        let from = match from {
            Some(from) => from,
            None => self.end()?,
        };
        Ok(Follow {
            records: self.records(from),
            changes,
        })
    }

    /// As [`Reader::session`], of the records in `start..end`; both are segments' bounds.
    pub(crate) fn session_between(
        &self,
        session: &str,
        start: u64,
        end: u64,
    ) -> Result<Vec<Record>, ReadError> {
        let needle = serde_json::to_string(session)
            .map(|quoted| format!("\"session\":{quoted}"))
            .map_err(|error| ReadError::new(&self.directory, &error.to_string()))?;
        let mut found = Vec::new();
        for first in journals(&self.directory)? {
            let skip = Segment::load(&self.directory, first)
                .is_ok_and(|segment| !segment.may_hold(session));
            if skip || !(start..end).contains(&first) {
                continue;
            }
            let mut journal = OpenJournal::open(&self.directory, first)?;
            while let Step::Leaf(leaf) = journal.step(&self.directory)? {
                // Quotes within a text are escaped in a leaf: this can only be the field itself.
                if leaf
                    .windows(needle.len())
                    .any(|part| part == needle.as_bytes())
                {
                    found.push(journal.parse(&leaf)?);
                }
            }
        }
        Ok(found)
    }

    /// The sequence that the next record will have.
    fn end(&self) -> Result<u64, ReadError> {
        let last = journals(&self.directory)?
            .last()
            .copied()
            .unwrap_or_default();
        let mut records = self.records(last);
        while records.next_leaf()?.is_some() {}
        Ok(records.next)
    }
}

impl Records {
    /// The sequence of the record after the last one that was read.
    pub(crate) fn next_seq(&self) -> u64 {
        self.next
    }

    /// The next leaf, exactly as it was hashed; `None` at the end of what is written by now.
    pub(crate) fn next_leaf(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        loop {
            let journal = match &mut self.journal {
                Some(journal) => journal,
                None => {
                    let opened = OpenJournal::before(&self.directory, self.next)?;
                    self.journal.insert(opened)
                }
            };
            match journal.step(&self.directory)? {
                Step::Leaf(leaf) if journal.seq > self.next => {
                    self.next = journal.seq;
                    return Ok(Some(leaf));
                }
                Step::Leaf(_) => {}
                Step::Nothing => return Ok(None),
                Step::Complete => {
                    self.next = self.next.max(journal.seq);
                    self.journal = None;
                }
            }
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_leaf() {
            Ok(None) => None,
            Ok(Some(leaf)) => Some(match &self.journal {
                Some(journal) => journal.parse(&leaf),
                None => Err(ReadError::new(&self.directory, "its journal is gone")),
            }),
            Err(error) => Some(Err(error)),
        }
    }
}

impl Follow {
    /// The next record; `None` when there is none within `patience`.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read or is damaged.
    pub fn next_within(&mut self, patience: Duration) -> Result<Option<Record>, ReadError> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(record) = self.records.next() {
                return record.map(Some);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.wait(left)? {
                return Ok(None);
            }
        }
    }

    /// Waits until a file of the log changes; false when none does in time.
    fn wait(&self, limit: Duration) -> Result<bool, ReadError> {
        let directory = &self.records.directory;
        let fail = |error: rustix::io::Errno| ReadError::new(directory, &error.to_string());
        let limit = Timespec::try_from(limit)
            .map_err(|_| ReadError::new(directory, "that is too long to wait"))?;
        let mut watched = [PollFd::new(&self.changes, PollFlags::IN)];
        match poll(&mut watched, Some(&limit)) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(true),
            Err(error) => return Err(fail(error)),
        }
        // Which file it was does not matter, only that the next look may find more.
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.changes, &mut buffer);
        loop {
            match events.next() {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(true),
                Err(error) => return Err(fail(error)),
            }
        }
    }
}

impl OpenJournal {
    /// Opens the journal that holds, or will hold, the record `seq`.
    fn before(directory: &Path, seq: u64) -> Result<Self, ReadError> {
        let holding = journals(directory)?
            .into_iter()
            .rfind(|first| *first <= seq);
        match holding {
            Some(first) => Self::open(directory, first),
            None => Err(ReadError::new(directory, "its first journal is gone")),
        }
    }

    fn open(directory: &Path, first: u64) -> Result<Self, ReadError> {
        let path = files::path_of(directory, "journal", first, ".log");
        let fail = |error: io::Error| ReadError::new(&path, &error.to_string());
        let file = OpenOptions::new().read(true).open(&path).map_err(fail)?;
        let mut reader = BufReader::with_capacity(256 * 1024, file);
        match Header::read(&mut reader).map_err(fail)? {
            Ok(header) if header.first_seq == first => Ok(Self {
                reader,
                path,
                first,
                seq: first,
                at: frame::HEADER,
                after: None,
            }),
            Ok(_) => Err(ReadError::new(&path, "it is under another's name")),
            Err(why) => Err(ReadError::new(&path, why)),
        }
    }

    fn step(&mut self, directory: &Path) -> Result<Step, ReadError> {
        loop {
            let fail = |error: io::Error| ReadError::new(&self.path, &error.to_string());
            let why = match frame::read(&mut self.reader).map_err(fail)? {
                Next::Frame(frame) if frame.seq == self.seq => {
                    self.seq += 1;
                    let len = u64::try_from(frame::FRAME + frame.leaf.len());
                    self.at += len.unwrap_or_default();
                    return Ok(Step::Leaf(frame.leaf));
                }
                Next::Frame(_) => "it is out of order",
                Next::End if self.after == Some(self.seq) => return Ok(Step::Complete),
                Next::End => "it is missing",
                Next::Bad(why) => why,
            };
            if self.after.is_some() {
                let what = format!("record {}: {why}: run `cordon audit verify`", self.seq);
                return Err(ReadError::new(&self.path, &what));
            }
            // It may be in the middle of being written: look again from here, next time.
            self.reader.seek(SeekFrom::Start(self.at)).map_err(fail)?;
            self.after = journals(directory)?
                .into_iter()
                .find(|first| *first > self.first);
            if self.after.is_none() {
                return Ok(Step::Nothing);
            }
            // Complete by now: what came since the last look is read once more.
        }
    }

    fn parse(&self, leaf: &[u8]) -> Result<Record, ReadError> {
        Record::from_leaf(leaf).map_err(|error| {
            let what = format!("record {}: {error}", self.seq.saturating_sub(1));
            ReadError::new(&self.path, &what)
        })
    }
}

impl ReadError {
    fn new(path: &Path, what: &str) -> Self {
        Self {
            message: format!("`{}`: {what}", path.display()),
        }
    }
}

fn journals(directory: &Path) -> Result<Vec<u64>, ReadError> {
    files::numbered(directory, "journal", ".log")
        .map_err(|error| ReadError::new(directory, &error.to_string()))
}
