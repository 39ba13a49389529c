//! What a record about the log itself holds: keys, retention, holds, redactions, a new origin.

use serde::{Deserialize, Serialize};

use crate::RecordId;

/// `key.rotate`: from the next checkpoint on, another key signs.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct KeyChange {
    /// The key that signs from then on, as a signed note's verifier key (`name+id+key`).
    pub new: String,
    /// Id of the key that signed until then, lower-case hex.
    pub old: String,
}

/// What was done to the log, by whom and why. Who is the record's `principal`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Upkeep {
    /// Why, in the words of whoever did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// A hold: it concerns records from this time on, in microseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_us: Option<u64>,
    /// A hold: its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<u64>,
    /// `retention.prune`: the first record that is kept; all before it go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<u64>,
    /// `log.origin`: name of the log that this one follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// `redaction`: which value, as a JSON pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// `redaction`: of which record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordId>,
    /// `log.origin`: root that the last checkpoint of the log before states, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// A hold: it concerns this session. `originals.purge`: whose originals go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// `log.origin`: number of records that the last checkpoint of the log before states.
    /// `originals.purge`: bytes that go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// A hold: it concerns records up to this time, in microseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_us: Option<u64>,
    /// A hold: it concerns this user's records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A salted commitment to a value that is not in the record. Who is shown value and salt can
/// check that they belong to it; without them it says nothing but the length.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Commitment {
    /// SHA-256 over 16 bytes of salt and the value, lower-case hex.
    pub h: String,
    /// Length of the value in bytes.
    pub len: u64,
    /// Where in the record the value would stand, as a JSON pointer.
    pub ptr: String,
}
