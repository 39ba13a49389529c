//! Reads a log from its files, beside or without a running daemon.
//!
//! Changes nothing and takes no lock. What a running daemon has written shows at once, so a
//! record can show some milliseconds before it is durable; [`crate::verify`] is what proves.

use std::{
    io,
    path::{Path, PathBuf},
};

use memchr::memmem;
use thiserror::Error;

use crate::{Record, RecordId, Revealed, files, retention, segment::Segment, side};

mod follow;
mod place;

pub use follow::Follow;
use place::{OpenBundle, OpenJournal, Place, Step};

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
    place: Option<Place>,
}

impl Reader {
    /// Opens the log in `directory` for reading.
    ///
    /// # Errors
    /// [`ReadError`] when there is no log.
    pub fn open(directory: &Path) -> Result<Self, ReadError> {
        if journals(directory)?.is_empty() && sealed(directory)? == 0 {
            return Err(ReadError::new(directory, "there is no log in it"));
        }
        Ok(Self::at(directory))
    }

    /// Where the log is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn at(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// Records from sequence `from` on, or from the first that was not pruned.
    pub fn records(&self, from: u64) -> Records {
        Records {
            directory: self.directory.clone(),
            next: from,
            place: None,
        }
    }

    /// The record with sequence `seq`; `None` when there is none, or when it was pruned.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read or is damaged.
    pub fn record(&self, seq: u64) -> Result<Option<Record>, ReadError> {
        let found = self.records(seq).next().transpose()?;
        Ok(found.filter(|record| record.seq == seq))
    }

    /// The record with this id. Ids are in the order of records unless the clock was set back, so
    /// that a few reads find one among any number; only where they do not, all are read.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read or is damaged.
    pub fn by_id(&self, id: RecordId) -> Result<Option<Record>, ReadError> {
        let (mut low, mut high) = (self.minimum()?, sealed(&self.directory)?);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.record(middle)? {
                Some(record) if record.id == id => return Ok(Some(record)),
                Some(record) if record.id < id => low = middle + 1,
                _ => high = middle,
            }
        }
        let find = |from| {
            self.records(from)
                .find(|record| record.as_ref().map_or(true, |record| record.id == id))
                .transpose()
        };
        match find(low)? {
            None if low > 0 => find(0),
            found => Ok(found),
        }
    }

    /// Leaves from sequence `from` on, each exactly as it was hashed, with its sequence.
    pub fn leaves(
        &self,
        from: u64,
    ) -> impl Iterator<Item = Result<(u64, Vec<u8>), ReadError>> + use<> {
        let mut records = self.records(from);
        std::iter::from_fn(move || {
            let leaf = records.next_leaf().transpose()?;
            Some(leaf.map(|leaf| (records.next.saturating_sub(1), leaf)))
        })
    }

    /// The first record that is there: 0 unless older ones were pruned.
    ///
    /// # Errors
    /// [`ReadError`] when that cannot be read.
    pub fn minimum(&self) -> Result<u64, ReadError> {
        minimum(&self.directory)
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
        self.session_until(session, u64::MAX)
    }

    /// What became of the value that a record commits to under `pointer`.
    ///
    /// # Errors
    /// [`ReadError`] when the record commits to no such value, or the side store cannot be read.
    pub fn reveal(&self, record: &Record, pointer: &str) -> Result<Revealed, ReadError> {
        side::reveal(&self.directory, record, pointer)
            .map_err(|error| ReadError::new(&self.directory, &error.to_string()))
    }

    /// As [`Reader::session`], of the records before `end`.
    pub(crate) fn session_until(&self, session: &str, end: u64) -> Result<Vec<Record>, ReadError> {
        let needle = serde_json::to_string(session)
            .map(|quoted| format!("\"session\":{quoted}"))
            .map_err(|error| ReadError::new(&self.directory, &error.to_string()))?;
        let needle = memmem::Finder::new(&needle);
        let mut found = Vec::new();
        let mut records = self.records(0);
        for segment in self.segments()? {
            if segment.may_hold(session) {
                records.seek(segment.first);
                records.collect_of(session, &needle, segment.end.min(end), &mut found)?;
            }
            records.seek(segment.end);
        }
        records.collect_of(session, &needle, end, &mut found)?;
        Ok(found)
    }

    /// Sealed segments that are there, in order.
    fn segments(&self) -> Result<Vec<Segment>, ReadError> {
        let fail = |error: io::Error| ReadError::new(&self.directory, &error.to_string());
        let minimum = self.minimum()?;
        let mut segments = Vec::new();
        for first in Segment::list(&self.directory).map_err(fail)? {
            match Segment::load(&self.directory, first) {
                Ok(segment) => segments.push(segment),
                // Pruned meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(fail(error)),
            }
        }
        segments.retain(|segment| segment.end > minimum);
        Ok(segments)
    }

    /// The sequence that the next record will have.
    fn end(&self) -> Result<u64, ReadError> {
        let last = journals(&self.directory)?.last().copied();
        let last = last.unwrap_or_default().max(sealed(&self.directory)?);
        let mut records = self.records(last);
        while records.next_leaf()?.is_some() {}
        Ok(records.next)
    }
}

impl Records {
    /// The next leaf, exactly as it was hashed; `None` at the end of what is written by now.
    fn next_leaf(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        loop {
            let place = match &mut self.place {
                Some(place) => place,
                None => match self.locate()? {
                    Some(place) => self.place.insert(place),
                    None => return Ok(None),
                },
            };
            let step = match place {
                Place::Bundle(bundle) => bundle.step(),
                Place::Journal(journal) => match journal.step(&self.directory)? {
                    // Before the place that was asked for.
                    Step::Leaf(_) if journal.seq <= self.next => continue,
                    step => step,
                },
            };
            match step {
                Step::Leaf(leaf) => {
                    self.next += 1;
                    return Ok(Some(leaf));
                }
                Step::Nothing => return Ok(None),
                Step::Complete => self.place = None,
            }
        }
    }

    /// Finds out where the next record is: sealed, in a journal, or not written yet.
    fn locate(&mut self) -> Result<Option<Place>, ReadError> {
        self.next = self.next.max(minimum(&self.directory)?);
        let mut attempts = 0;
        loop {
            let sealed = sealed(&self.directory)?;
            let opened = if self.next < sealed {
                OpenBundle::open(&self.directory, self.next, sealed).map(Place::Bundle)
            } else {
                // One that begins before is sealed and about to go.
                match journals(&self.directory)?
                    .into_iter()
                    .rfind(|first| (sealed..=self.next).contains(first))
                {
                    Some(first) => OpenJournal::open(&self.directory, first).map(Place::Journal),
                    None if self.next == sealed => return Ok(None),
                    None => Err(ReadError::new(
                        &self.directory,
                        &format!("record {} is gone: run `cordon audit verify`", self.next),
                    )),
                }
            };
            attempts += 1;
            match opened {
                Ok(place) => return Ok(Some(place)),
                // Sealed, or pruned, between two looks.
                Err(_) if attempts < ATTEMPTS => {
                    self.next = self.next.max(minimum(&self.directory)?);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Goes on from `seq`, unless that is where it is.
    fn seek(&mut self, seq: u64) {
        if self.next != seq {
            self.next = seq;
            self.place = None;
        }
    }

    /// Takes a session's records before `end`; the leaf of each has `needle`.
    fn collect_of(
        &mut self,
        session: &str,
        needle: &memmem::Finder<'_>,
        end: u64,
        found: &mut Vec<Record>,
    ) -> Result<(), ReadError> {
        while self.next < end {
            let Some(leaf) = self.next_leaf()? else {
                break;
            };
            if needle.find(&leaf).is_none() {
                continue;
            }
            let record = self.parse(&leaf)?;
            // Others name the session too: what holds its records, or purges its originals.
            if record.session.as_deref() == Some(session) {
                found.push(record);
            }
        }
        Ok(())
    }

    fn parse(&self, leaf: &[u8]) -> Result<Record, ReadError> {
        Record::from_leaf(leaf).map_err(|error| {
            let what = format!("record {}: {error}", self.next.saturating_sub(1));
            ReadError::new(&self.directory, &what)
        })
    }
}

impl Iterator for Records {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let leaf = self.next_leaf().transpose()?;
        Some(leaf.and_then(|leaf| self.parse(&leaf)))
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

/// How many records are sealed.
fn sealed(directory: &Path) -> Result<u64, ReadError> {
    Segment::last(directory)
        .map(|last| last.map_or(0, |last| last.end))
        .map_err(|error| ReadError::new(directory, &error.to_string()))
}

fn minimum(directory: &Path) -> Result<u64, ReadError> {
    retention::minimum(directory).map_err(|error| ReadError::new(directory, &error.to_string()))
}

/// Looks at a log that is being sealed, until they agree.
const ATTEMPTS: usize = 5;
