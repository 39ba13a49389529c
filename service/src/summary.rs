//! What happened in a session, made from its records alone.

mod render;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use render::render;

/// What happened in a session. Printed at its end; with `--format json` as this object.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Session id.
    pub session: String,
    /// The command, as text.
    pub command: String,
    /// Agent profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// As a shell shows it: 128+n for a signal; absent when the command never ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Policy set and the first digits of its digest.
    pub policy: String,
    /// Folders and files that were granted.
    pub grants: Vec<GrantLine>,
    /// What was allowed beside the grants, by what and rule.
    pub allowed: Vec<AllowedLine>,
    /// What was denied, by what and rule.
    pub denied: Vec<DeniedLine>,
    /// Bytes from outside into the session.
    pub bytes_in: u64,
    /// Bytes from the session to the outside.
    pub bytes_out: u64,
    /// Seconds from start to end.
    pub seconds: f64,
    /// Records of this session in the log.
    pub records: usize,
}

/// One granted folder or file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GrantLine {
    /// On the host.
    pub path: PathBuf,
    /// In the session.
    pub inside: PathBuf,
    /// `ro`, `rw`, `rwd` or `copy`.
    pub mode: String,
    /// `command-line`, `working-directory` or `profile`.
    pub source: String,
    /// The rule that allowed it.
    pub rule: String,
}

/// One thing that was allowed, so and so often.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedLine {
    /// In words: `connect api.example.com:443`.
    pub what: String,
    /// How often.
    pub count: u64,
    /// The rule that allowed it.
    pub rule: String,
}

/// One thing that was denied, so and so often.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DeniedLine {
    /// In words.
    pub what: String,
    /// How often.
    pub count: u64,
    /// Code from the fixed vocabulary: `default_deny`, `rule`, …
    pub reason: String,
    /// The rule that denied it, or words for why none was needed.
    pub rule: String,
    /// One policy line that would allow it, where one could.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_with: Option<String>,
}
