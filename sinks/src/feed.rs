//! The records that a sink gets next, read from the log's files.
//!
//! Reads only what a signed checkpoint covers. One batch in memory at a time.

use std::path::{Path, PathBuf};

use cordon_audit::{
    Record,
    export::{self, Format, Source},
    prove::{Leaves, minimum},
};
use cordon_session::config::SinkFormat;

/// Neighbouring records, in order.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<Entry>,
    pub(crate) bytes: usize,
}

/// One record.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) leaf: Vec<u8>,
    /// As read; `None` for one of a later version, which is passed on as it is.
    pub(crate) record: Option<Record>,
}

/// Reads on from a place.
#[derive(Debug)]
pub(crate) struct Feed {
    directory: PathBuf,
    next: u64,
    leaves: Leaves,
}

/// Most bytes of leaves in a batch.
const MAX_BYTES: usize = 4 << 20;

impl Feed {
    /// From `next` on; what was pruned by then is passed over, and the number of it given.
    pub(crate) fn new(directory: &Path, next: u64) -> Result<(Self, u64), String> {
        let first = minimum(directory).map_err(|error| error.to_string())?;
        let start = next.max(first);
        let feed = Self {
            directory: directory.into(),
            next: start,
            leaves: Leaves::from(directory, start),
        };
        Ok((feed, start - next))
    }

    /// Adds to `batch` until it holds `limit` records or reaches `covered`. Blocks on files.
    pub(crate) fn fill(
        &mut self,
        batch: &mut Batch,
        limit: usize,
        covered: u64,
    ) -> Result<(), String> {
        while batch.entries.len() < limit && batch.bytes < MAX_BYTES && self.next < covered {
            let (seq, leaf) = match self.leaves.next() {
                Some(Ok(next)) => next,
                Some(Err(error)) => {
                    self.leaves = Leaves::from(&self.directory, self.next);
                    return Err(error.to_string());
                }
                None => {
                    self.leaves = Leaves::from(&self.directory, self.next);
                    return Err(format!(
                        "record {} is missing, though a checkpoint covers it: run \
                         `cordon audit verify`",
                        self.next
                    ));
                }
            };
            self.next = seq + 1;
            batch.bytes += leaf.len();
            let record = Record::from_leaf(&leaf).ok();
            batch.entries.push(Entry { seq, leaf, record });
        }
        Ok(())
    }
}

impl Entry {
    /// The record in a form with one line a record, with its line end.
    pub(crate) fn line(&self, format: SinkFormat, source: &Source) -> Vec<u8> {
        let made = self
            .record
            .as_ref()
            .and_then(|record| export::one(form(format), record, &self.leaf, source).ok());
        made.unwrap_or_else(|| [self.leaf.as_slice(), b"\n"].concat())
    }
}

/// The form of an export that a sink's form is.
pub(crate) fn form(format: SinkFormat) -> Format {
    match format {
        SinkFormat::Jsonl => Format::Jsonl,
        SinkFormat::Ocsf => Format::Ocsf,
        SinkFormat::Ecs => Format::Ecs,
        SinkFormat::Cef => Format::Cef,
    }
}

/// All entries, one a line.
pub(crate) fn lines(entries: &[Entry], format: SinkFormat, source: &Source) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|entry| entry.line(format, source))
        .collect()
}
