//! What is kept about a closed segment, so that opening the log replays only the open one.
//!
//! Written once, when a segment is full and everything in it is durable and signed. Only a
//! shortcut: [`crate::verify`] recomputes everything from the journals and does not read it.

use std::{collections::BTreeSet, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    draft::hex,
    files,
    log::OpenError,
    merkle::{Frontier, Hash},
};

/// A closed segment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Segment {
    /// Format version: 1.
    v: u32,
    /// Its first record.
    pub(crate) first: u64,
    /// The first record after it.
    pub(crate) end: u64,
    /// Length of its journal file.
    pub(crate) bytes: u64,
    /// The log's tree up to its end: the roots of the perfect subtrees, largest first.
    roots: Vec<String>,
    /// The sessions in it; absent when there are too many to list.
    sessions: Option<BTreeSet<String>>,
}

impl Segment {
    pub(crate) fn new(
        first: u64,
        bytes: u64,
        frontier: &Frontier,
        sessions: &BTreeSet<String>,
    ) -> Self {
        Self {
            v: VERSION,
            first,
            end: frontier.size(),
            bytes,
            roots: frontier.roots().iter().map(|root| hex(root)).collect(),
            sessions: (sessions.len() <= MAX_SESSIONS).then(|| sessions.clone()),
        }
    }

    pub(crate) fn save(&self, directory: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        files::replace(
            &files::path_of(directory, "segment", self.first, ".json"),
            &text,
        )
    }

    pub(crate) fn load(directory: &Path, first: u64) -> Result<Self, OpenError> {
        let path = files::path_of(directory, "segment", first, ".json");
        let read = files::read_small(&path, MAX_FILE);
        let text = read.map_err(|error| OpenError::io(&path, "read", &error))?;
        text.and_then(|text| serde_json::from_slice::<Self>(&text).ok())
            .filter(|segment| segment.v == VERSION && segment.first == first)
            .ok_or_else(|| OpenError::integrity(format!("`{}` is damaged", path.display())))
    }

    /// The tree at its end.
    pub(crate) fn frontier(&self) -> Result<Frontier, OpenError> {
        let roots: Option<Vec<Hash>> = self.roots.iter().map(|text| unhex(text)).collect();
        roots
            .and_then(|roots| Frontier::from_parts(self.end, roots))
            .ok_or_else(|| {
                OpenError::integrity(format!("the tree of segment {} is damaged", self.first))
            })
    }

    /// Whether a session can have records in it.
    pub(crate) fn may_hold(&self, session: &str) -> bool {
        self.sessions
            .as_ref()
            .is_none_or(|sessions| sessions.contains(session))
    }
}

fn unhex(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(hash)
}

const VERSION: u32 = 1;
const MAX_SESSIONS: usize = 4096;
const MAX_FILE: u64 = 16 * 1024 * 1024;
