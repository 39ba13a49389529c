//! What a session did before a request, as far as policy may know it: counts and labels.
//!
//! Plain values, filled by whoever counts (the gate). Never decides, never counts.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

/// What a session did before a request, the request itself not among it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum History {
    /// This.
    Known(Box<Past>),
    /// Nobody knows (a count was lost). A rule that looks at it cannot be evaluated, and that is a
    /// deny.
    Unknown,
}

/// Counts and labels.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Past {
    /// Of the whole session.
    pub session: SessionPast,
    /// Of the destination that is asked for.
    pub destination: DestinationPast,
}

/// What a whole session did. Everything that was allowed counts, also where it led nowhere.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionPast {
    /// Labels of what it read.
    pub labels: BTreeSet<Arc<str>>,
    /// Connections, HTTP requests that could be read, and pages opened.
    pub requests: u64,
    /// Different destinations of those.
    pub destinations: u64,
    /// Bytes to all destinations.
    pub bytes_sent: u64,
    /// Bytes from all destinations.
    pub bytes_received: u64,
    /// Removals that were asked one by one: of paths, and HTTP `DELETE`.
    pub deletes: u64,
    /// Calls of tools.
    pub tool_calls: u64,
}

/// What a session did with one destination: a host and port.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DestinationPast {
    /// Whether anything was allowed there before.
    pub seen: bool,
    /// Connections, HTTP requests that could be read, and pages opened.
    pub requests: u64,
    /// Bytes to it.
    pub bytes_sent: u64,
    /// Bytes from it.
    pub bytes_received: u64,
}

impl Default for History {
    /// Of a session that did nothing yet.
    fn default() -> Self {
        Self::Known(Box::default())
    }
}

/// The labels that a `@label` gives.
pub fn labels_in(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

/// Longest name of a label, in bytes.
pub const MAX_LABEL_BYTES: usize = 64;

/// Whether a text can name a label: lower-case letters, digits and `-`.
pub fn is_label(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_LABEL_BYTES).contains(&name.len()) && name.bytes().all(plain)
}
