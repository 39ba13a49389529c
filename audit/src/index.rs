//! The index of the open segment, in sled: its records by session, in order.
//!
//! Never the truth, only a quick way to it: sled's `flush` is no `fsync` on Linux, so nothing is
//! acknowledged on it, and it is made again from the journal whenever a log is opened that has
//! one. sled panics on bad data; every call into it is fenced.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use crate::files;

/// The index of one segment. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    db: sled::Db,
    first: u64,
}

/// One record as the index takes it.
#[derive(Debug)]
pub(crate) struct Indexed<'a> {
    pub(crate) seq: u64,
    pub(crate) session: Option<&'a str>,
    pub(crate) leaf: &'a [u8],
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

    /// Takes records, all or none. One entry each: an insertion costs as much as all else that is
    /// done for a record.
    pub(crate) fn feed<'a>(
        &self,
        records: impl Iterator<Item = Indexed<'a>>,
    ) -> Result<(), String> {
        let mut batch = sled::Batch::default();
        for record in records {
            let mut key = prefix(record.session);
            key.extend_from_slice(&record.seq.to_be_bytes());
            batch.insert(key, record.leaf);
        }
        fenced(|| self.db.apply_batch(batch))
    }

    /// Leaves of a session, in order.
    pub(crate) fn session(&self, session: &str) -> Result<Vec<Vec<u8>>, String> {
        fenced(|| {
            let found = self.db.scan_prefix(prefix(Some(session))).values();
            found.map(|leaf| leaf.map(|leaf| leaf.to_vec())).collect()
        })
    }

    fn open(log: &Path, first: u64, cache: u64) -> Result<Self, String> {
        let directory = directory(log, first);
        let db = fenced(|| {
            sled::Config::new()
                .path(&directory)
                .cache_capacity(cache)
                .open()
        })?;
        Ok(Self { db, first })
    }
}

fn fenced<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("sled panicked".into()),
    }
}

/// Length first, so that no session's keys begin with another's. Records of no session lie apart.
fn prefix(session: Option<&str>) -> Vec<u8> {
    let Some(session) = session else {
        return b"r".to_vec();
    };
    let len = u32::try_from(session.len()).unwrap_or(u32::MAX);
    let mut key = vec![b's'];
    key.extend_from_slice(&len.to_be_bytes());
    key.extend_from_slice(session.as_bytes());
    key
}

fn directory(log: &Path, first: u64) -> PathBuf {
    files::path_of(log, "index", first, "")
}
