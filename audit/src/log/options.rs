//! How a log is opened: limits, times, and who it belongs to.

use std::time::Duration;

use crate::Secret;

/// How to open a log. Built with [`Default`]; every field has its unit in its name.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Records after which a journal is sealed and the next one begins, at multiples of it.
    /// Default 65,536: the records under a full tile of level 1.
    pub segment_records: u64,
    /// Time after which a journal is sealed, however few records it has. Default 24 h.
    pub seal_after: Duration,
    /// Time after which a segment is complete, however few records it has: what is kept and goes
    /// together is no longer than that. Default 24 h.
    pub segment_age: Duration,
    /// Time that a key signs. Default 24 h.
    pub key_lifetime: Duration,
    /// Time between checkpoints that are kept for good, beside those at the end of a journal and
    /// at a change of keys. Default 1 h.
    pub keep_checkpoint_every: Duration,
    /// Time after which new records are signed. Default 1 s.
    pub checkpoint_every: Duration,
    /// Number of new records that are signed at once. Default 4,096.
    pub checkpoint_records: u64,
    /// Time within which written records are synced. Default 20 ms.
    pub sync_within: Duration,
    /// Records that may wait for the writer; beyond that callers wait. Default 4,096.
    pub queue_records: usize,
    /// Cache of the index, in bytes. Default 64 MiB.
    pub index_cache_bytes: u64,
    /// The organisation, as every record names it. Default none.
    pub organisation: Option<String>,
    /// Which installation this is, as every record names it. Default the log's name.
    pub instance: Option<String>,
    /// Values that no record may hold: each becomes `[secret]`. Default none.
    pub secrets: Vec<Secret>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_records: 65_536,
            seal_after: DAY,
            segment_age: DAY,
            key_lifetime: DAY,
            keep_checkpoint_every: Duration::from_secs(3600),
            checkpoint_every: Duration::from_secs(1),
            checkpoint_records: 4_096,
            sync_within: Duration::from_millis(20),
            queue_records: 4_096,
            index_cache_bytes: 64 * 1024 * 1024,
            organisation: None,
            instance: None,
            secrets: Vec::new(),
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);
