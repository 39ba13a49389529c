//! What happened in a session, counted: the summary in the record of its end.
//!
//! Bounded: the destinations with the most decisions are named, the rest are added up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What happened in a session, counted.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Totals {
    /// Every decision, by action and effect: `net.connect`, `folder.grant`, …
    pub actions: BTreeMap<String, Counted>,
    /// Decisions that rested on a human approval.
    pub approvals: u64,
    /// Bytes to the session, of all flows that ended before it did.
    pub bytes_in: u64,
    /// Bytes from the session, of the same flows.
    pub bytes_out: u64,
    /// What was done to the files of its grants, one line for each grant in which something was;
    /// absent where nobody could count it, empty where nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<ChangeTotals>>,
    /// Every decision, by effect.
    pub decisions: Counted,
    /// Destinations with the most decisions, most first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<DestinationTotals>,
    /// Folders and files.
    pub files: FileTotals,
    /// All other destinations together, where there are more than are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<DestinationTotals>,
    /// What was refused, by reason, in the order of the reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<ReasonTotals>,
    /// What the session's processes used, where the sandbox counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
}

/// What was done to the files of one grant. Sizes are lengths of regular files; absent where they are
/// not known.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ChangeTotals {
    /// Files opened for writing that the session did not make, each once.
    pub changed: u64,
    /// Their bytes at the end, of those that are still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_bytes: Option<u64>,
    /// The same files' bytes before they were first opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_bytes_before: Option<u64>,
    /// Files and other names made.
    pub created: u64,
    /// Bytes, at the end, of the files that it made and that are still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_bytes: Option<u64>,
    /// Names removed.
    pub deleted: u64,
    /// Bytes of the files that lost their last name by that.
    pub deleted_bytes: u64,
    /// Names changed.
    pub moved: u64,
    /// The grant's path on the host.
    pub path: String,
    /// Names that another was renamed over.
    pub replaced: u64,
    /// Bytes of the files that lost their last name by that.
    pub replaced_bytes: u64,
}

/// Decisions by effect.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counted {
    /// Allowed.
    pub allow: u64,
    /// Refused, but an approval would change it.
    pub ask: u64,
    /// Refused.
    pub deny: u64,
    /// Refused because deciding failed.
    pub error: u64,
}

/// One destination, or the sum of several.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct DestinationTotals {
    /// Decisions that allowed it.
    pub allowed: u64,
    /// Bytes to the session, of the flows that ended before the session did.
    pub bytes_in: u64,
    /// Bytes from the session, of the same flows.
    pub bytes_out: u64,
    /// Decisions that refused it.
    pub denied: u64,
    /// `host:port`; of a sum, how many destinations it is of.
    pub id: String,
    /// Allowed flows that led nowhere: no address, or no answer.
    pub unreached: u64,
}

/// Folders and files of a session.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct FileTotals {
    /// Grants that were made.
    pub granted: u64,
    /// Removals that were refused.
    pub kept: u64,
    /// Grants that were refused.
    pub refused: u64,
}

/// Refusals for one reason.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ReasonTotals {
    /// How often.
    pub count: u64,
    /// The reason: as `reason` of a record.
    pub reason: String,
}

/// What the processes of a session used.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Used {
    /// Processor time, in microseconds.
    pub cpu_us: u64,
    /// Most memory at a time, in bytes.
    pub memory_bytes: u64,
    /// Most processes at a time.
    pub processes: u64,
    /// Bytes read from storage; absent where the kernel does not count it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
    /// Bytes written to storage; absent where the kernel does not count it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<u64>,
}
