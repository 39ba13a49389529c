//! The index of the open segment, in sled: where in the journal each session's records stand.
//!
//! Never the truth, only a quick way to it: sled's `flush` is no `fsync` on Linux, so nothing is
//! acknowledged on it, and it is made again from the journal whenever a log is opened that has
//! one. sled panics on bad data; every call into it is fenced.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{files, frame};

/// The index of one segment. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    db: Arc<Open>,
    first: u64,
    journal: PathBuf,
}

/// An open sled. It panics when it cannot write at its end: that is fenced as well, or the thread
/// that lets go of it last would end with it.
#[derive(Debug)]
struct Open(Option<sled::Db>);

/// One record as the index takes it.
#[derive(Debug)]
pub(crate) struct Indexed<'a> {
    pub(crate) seq: u64,
    pub(crate) session: Option<&'a str>,
    /// Where its frame stands in the journal.
    pub(crate) at: u64,
}

impl Index {
    /// Makes an empty index, in place of whatever is there.
    pub(crate) fn create(log: &Path, first: u64, cache: u64) -> Result<Self, String> {
        Self::remove(log, first)?;
        Self::open(log, first, cache)
    }

    /// Removes the index of a segment.
    pub(crate) fn remove(log: &Path, first: u64) -> Result<(), String> {
        files::remove(&directory(log, first)).map_err(|error| error.to_string())
    }

    /// The segment's first record.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Takes records, all or none. One entry for all of a session: an insertion costs as much as
    /// all else that is done for a record.
    pub(crate) fn feed<'a>(
        &self,
        records: impl Iterator<Item = Indexed<'a>>,
    ) -> Result<(), String> {
        let mut sessions: HashMap<&str, (u64, Vec<u8>)> = HashMap::new();
        for record in records {
            let Some(session) = record.session else {
                continue;
            };
            let run = sessions.entry(session);
            let (_, places) = run.or_insert_with(|| (record.seq, Vec::new()));
            places.extend_from_slice(&record.seq.to_be_bytes());
            places.extend_from_slice(&record.at.to_be_bytes());
        }
        let mut batch = sled::Batch::default();
        for (session, (seq, places)) in sessions {
            let mut key = prefix(session);
            key.extend_from_slice(&seq.to_be_bytes());
            batch.insert(key, places);
        }
        let db = self.db()?;
        fenced(|| db.apply_batch(batch))
    }

    /// Leaves of a session, in order.
    pub(crate) fn session(&self, session: &str) -> Result<Vec<Vec<u8>>, String> {
        let db = self.db()?;
        let runs: Vec<sled::IVec> = fenced(|| db.scan_prefix(prefix(session)).values().collect())?;
        let mut journal = Frames::open(&self.journal).map_err(|error| error.to_string())?;
        let places = runs.iter().flat_map(|run| run.chunks_exact(PLACE));
        places
            .map(|place| {
                let (seq, at) = place.split_first_chunk().ok_or("a place is damaged")?;
                let at = at.try_into().map_err(|_| "a place is damaged")?;
                journal.leaf(u64::from_be_bytes(*seq), u64::from_be_bytes(at))
            })
            .collect()
    }

    fn open(log: &Path, first: u64, cache: u64) -> Result<Self, String> {
        let directory = directory(log, first);
        let db = fenced(|| {
            sled::Config::new()
                .path(&directory)
                .cache_capacity(cache)
                .open()
        })?;
        let journal = files::path_of(log, "journal", first, ".log");
        Ok(Self {
            db: Arc::new(Open(Some(db))),
            first,
            journal,
        })
    }

    fn db(&self) -> Result<&sled::Db, String> {
        self.db.0.as_ref().ok_or_else(|| "it is closed".to_owned())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let db = self.0.take();
        let closed = fenced(|| {
            drop(db);
            Ok(())
        });
        if let Err(error) = closed {
            tracing::warn!(%error, "an index was not closed in good order; it is made again");
        }
    }
}

/// A journal, read here and there; mostly onwards.
struct Frames {
    reader: BufReader<File>,
    at: u64,
}

impl Frames {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            reader: BufReader::new(files::open_to_read(path)?),
            at: 0,
        })
    }

    /// The leaf of record `seq`, whose frame stands at `at`.
    fn leaf(&mut self, seq: u64, at: u64) -> Result<Vec<u8>, String> {
        let text = |error: io::Error| error.to_string();
        let from_here = i128::from(at) - i128::from(self.at);
        let from_here = i64::try_from(from_here).map_err(|_| "a place is damaged")?;
        self.reader.seek_relative(from_here).map_err(text)?;
        match frame::read(&mut self.reader).map_err(text)? {
            frame::Next::Frame(frame) if frame.seq == seq => {
                let len = u64::try_from(frame::FRAME + frame.leaf.len()).unwrap_or_default();
                self.at = at + len;
                Ok(frame.leaf)
            }
            _ => Err(format!("record {seq} is not where it should be")),
        }
    }
}

fn fenced<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("sled panicked".into()),
    }
}

/// Length first, so that no session's keys begin with another's.
fn prefix(session: &str) -> Vec<u8> {
    let len = u32::try_from(session.len()).unwrap_or(u32::MAX);
    let mut key = len.to_be_bytes().to_vec();
    key.extend_from_slice(session.as_bytes());
    key
}

fn directory(log: &Path, first: u64) -> PathBuf {
    files::path_of(log, "index", first, "")
}

/// Length of a place: sequence, and offset in the journal.
const PLACE: usize = 16;
