//! One record: the schema of a leaf, version 1.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Id of a record: UUIDv7, returned to whoever caused it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct RecordId(pub Uuid);

/// One record as it lies in the log. Field by field in the JSON of a leaf; integers are at most
/// 2^53-1, times are microseconds since the epoch, absent is absent (never null).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// Schema version: 1.
    pub v: u32,
    /// Position in the log, from 0, gap-free.
    pub seq: u64,
    /// Its id.
    pub id: RecordId,
    // The audit author completes this: ts_us, mono_us, boot, kind, mode, session, principal,
    // agent, action, resource, net, http, effect, reason, rules, policy, eval_ns, bytes_out,
    // bytes_in, dur_us, status, end, exit_code, trunc.
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
