//! Who is asked: the gate of the session, near or far.

use cordon_policy::{ToolHints, ToolKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Decides and records what a client or a server of MCP wants.
pub trait Judge {
    /// Decides one use and records it.
    fn decide(&self, asked: Asked) -> impl Future<Output = Ruling> + Send;

    /// What may be shown of what a server lists, one fate for each, in order.
    ///
    /// # Errors
    /// In words; then nothing of it is shown.
    fn sort(&self, listed: Vec<Listed>) -> impl Future<Output = Result<Vec<Fate>, String>> + Send;

    /// Records that something was refused that is no request at all.
    fn refuse(&self, what: String, why: String) -> impl Future<Output = ()> + Send;
}

/// One use of a server, as policy is asked about it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// What is used.
    pub kind: ToolKind,
    /// The tool's name, with its prefix where it is no tool.
    pub name: String,
    /// Digest of the definition that the server gave for it, where it gave one.
    #[serde(default)]
    pub digest: Option<String>,
    /// What the definition says.
    #[serde(default)]
    pub hints: ToolHints,
    /// Arguments that are facts, each `name=value`.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Digest of everything that it is given: an approval is of exactly that.
    #[serde(default)]
    pub input: Option<String>,
}

/// One entry of what a server lists.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// What it is.
    pub kind: ToolKind,
    /// Its name, with its prefix where it is no tool.
    pub name: String,
    /// Everything that the server says of it, where that is held on to.
    #[serde(default)]
    pub definition: Option<Value>,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It could be allowed: shown.
    Shown,
    /// Policy refuses it whatever is asked: not shown.
    Hidden,
    /// It is not what it was: not shown until a person accepts it (P08).
    Changed,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq)]
pub enum Ruling {
    /// It may be done, and is recorded.
    Allowed,
    /// It may not.
    Refused {
        /// Why, in words.
        reason: String,
        /// For machines: code, rules, decision id, what to do.
        data: Value,
    },
}
