//! What an export holds, as a signed note beside it.
//!
//! The text of the note is the line `cordon-export/v1` and one line of JSON. Its first line can
//! never be a log's name, so that no manifest passes for a checkpoint.

use serde::{Deserialize, Serialize};

use super::Select;

/// First line of the text of a manifest's note.
pub(crate) const FIRST_LINE: &str = "cordon-export/v1";

/// What an export holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Bytes of the exported file.
    pub bytes: u64,
    /// Number of records.
    pub count: u64,
    /// The first record; absent of an empty export.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Leaf>,
    /// Format of the file.
    pub format: String,
    /// The last record; absent of an empty export.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Leaf>,
    /// Root of the tree over the lines of the file (RFC 6962, each without its line feed), base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines_root: Option<String>,
    /// The log's name.
    pub origin: String,
    /// What was asked for.
    pub query: Select,
    /// Root of the log that the export was made of, base64.
    pub root: String,
    /// Root of the tree over the exported records alone (RFC 6962), base64.
    pub set_root: String,
    /// SHA-256 of the exported file, base64.
    pub sha256: String,
    /// Size of the log that the export was made of; nothing newer is in it.
    pub size: u64,
}

/// A record by its place and hash.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Leaf {
    /// Leaf hash (RFC 6962), base64.
    pub hash: String,
    /// Its place in the log.
    pub seq: u64,
}

impl Manifest {
    /// The text that the log signs.
    ///
    /// # Errors
    /// Never in practice: there is nothing in it that JSON cannot hold.
    pub fn to_body(&self) -> serde_json::Result<String> {
        Ok(format!("{FIRST_LINE}\n{}\n", serde_json::to_string(self)?))
    }

    /// Reads the text that the log signed.
    pub(crate) fn from_body(body: &str) -> Result<Self, &'static str> {
        let json = body
            .strip_prefix(FIRST_LINE)
            .and_then(|rest| rest.strip_prefix('\n'))
            .ok_or("is no manifest of an export")?;
        serde_json::from_str(json).map_err(|_| "is a manifest that this version cannot read")
    }
}
