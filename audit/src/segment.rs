//! Manifests: what is known of each sealed segment, in `segments/<first>.json`.
//!
//! The manifest with the greatest `first` says how far the log is sealed: writing it is what
//! commits a sealing. It states the tree there, which opening the log holds against the tiles.
//! Only a shortcut: [`crate::verify`] recomputes everything and does not read it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    draft::hex,
    files,
    find::{keys::Leaf, postings},
    merkle::Hash,
    retention::Class,
};

/// A sealed segment: records that are kept, and go, together.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Segment {
    /// Format version: 1.
    v: u32,
    /// Its first record; a multiple of 256.
    pub(crate) first: u64,
    /// The first record after it. Of all but the last segment: where the next one begins.
    pub(crate) end: u64,
    /// How far the log was sealed before `end`.
    pub(crate) previous: u64,
    /// Root of the log's tree at `end`, lower-case hex.
    root: String,
    /// Time of its first record, in microseconds since the epoch.
    pub(crate) from_us: u64,
    /// Times of its newest records, by what they tell.
    pub(crate) newest: Newest,
    /// The sessions in it; absent when there are too many to list.
    sessions: Option<BTreeSet<String>>,
}

/// Times of the newest records of each class, in microseconds since the epoch; 0 for none.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Newest {
    pub(crate) administration_us: u64,
    pub(crate) decisions_us: u64,
    pub(crate) flows_us: u64,
}

impl Segment {
    /// A segment that begins with `first` and has nothing in it yet.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            v: VERSION,
            first,
            end: first,
            previous: first,
            root: String::new(),
            from_us: 0,
            newest: Newest::default(),
            sessions: Some(BTreeSet::new()),
        }
    }

    /// Notes the record that comes next.
    pub(crate) fn add(&mut self, record: &Leaf<'_>) -> Result<(), String> {
        if record.seq != self.end {
            return Err(format!(
                "record {} stands in place of {}",
                record.seq, self.end
            ));
        }
        if self.end == self.first {
            self.from_us = record.ts_us;
        }
        self.newest.note(Class::of(record.kind), record.ts_us);
        if let Some(session) = record.session()
            && let Some(sessions) = &mut self.sessions
        {
            if !sessions.contains(session) {
                sessions.insert(session.to_owned());
            }
            if sessions.len() > MAX_SESSIONS {
                self.sessions = None;
            }
        }
        self.end += 1;
        Ok(())
    }

    /// States the tree at its end.
    pub(crate) fn commit_to(&mut self, previous: u64, root: &Hash) {
        self.previous = previous;
        self.root = hex(root);
    }

    /// Whether the tree at its end has this root.
    pub(crate) fn has_root(&self, root: &Hash) -> bool {
        self.root == hex(root)
    }

    /// Whether a session can have records in it.
    pub(crate) fn may_hold(&self, session: &str) -> bool {
        self.sessions
            .as_ref()
            .is_none_or(|sessions| sessions.contains(session))
    }

    /// Puts the manifest in place, durable.
    pub(crate) fn save(&self, log: &Path) -> io::Result<()> {
        files::replace(&path(log, self.first), &serde_json::to_vec(self)?)
    }

    /// Reads the manifest of the segment from `first`.
    pub(crate) fn load(log: &Path, first: u64) -> io::Result<Self> {
        let path = path(log, first);
        let Some(text) = files::read_small(&path, MAX_FILE)? else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("`{}` is missing", path.display()),
            ));
        };
        serde_json::from_slice::<Self>(&text)
            .ok()
            .filter(|segment| {
                segment.v == VERSION
                    && segment.first == first
                    && segment.first <= segment.end
                    && segment.previous <= segment.end
            })
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("`{}` is damaged", path.display()),
                )
            })
    }

    /// The last segment; `None` when nothing is sealed.
    pub(crate) fn last(log: &Path) -> io::Result<Option<Self>> {
        match Self::list(log)?.last() {
            Some(first) => Self::load(log, *first).map(Some),
            None => Ok(None),
        }
    }

    /// First records of all sealed segments, in order.
    pub(crate) fn list(log: &Path) -> io::Result<Vec<u64>> {
        let listing = match fs::read_dir(log.join(SEGMENTS)) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut firsts = Vec::new();
        for entry in listing {
            let name = entry?.file_name();
            let first = name.to_str().and_then(|name| name.strip_suffix(".json"));
            firsts.extend(first.and_then(|first| first.parse::<u64>().ok()));
        }
        firsts.sort_unstable();
        Ok(firsts)
    }

    /// Removes the manifest and the postings of the segment from `first`.
    pub(crate) fn remove(log: &Path, first: u64) -> io::Result<()> {
        files::remove(&postings::path_of(log, first))?;
        files::remove(&path(log, first))
    }
}

impl Newest {
    /// Time of the newest record.
    pub(crate) fn latest_us(&self) -> u64 {
        self.administration_us
            .max(self.decisions_us)
            .max(self.flows_us)
    }

    fn note(&mut self, class: Class, ts_us: u64) {
        let newest = match class {
            Class::Administration => &mut self.administration_us,
            Class::Decisions => &mut self.decisions_us,
            Class::Flows => &mut self.flows_us,
        };
        *newest = ts_us.max(*newest);
    }
}

fn path(log: &Path, first: u64) -> PathBuf {
    log.join(SEGMENTS).join(format!("{first}.json"))
}

/// Directory of the manifests.
pub(crate) const SEGMENTS: &str = "segments";

const VERSION: u32 = 1;
const MAX_SESSIONS: usize = 1024;
const MAX_FILE: u64 = 1024 * 1024;
