//! What policy may know about a call of a tool, beside whose tool it is.

use serde::{Deserialize, Serialize};

/// Facts of one call. What is not known is the least harmless: a definition that nobody saw, and
/// the hints that the protocol assumes where a server says nothing.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct ToolCall {
    /// What is used.
    pub kind: ToolKind,
    /// What is known about the definition.
    pub definition: Definition,
    /// What the server says of it.
    pub hints: ToolHints,
    /// Arguments that the configuration chose as facts, each `name=value`, sorted.
    pub arguments: Vec<String>,
    /// SHA-256 of everything that the tool is given, lower-case hex, where whoever asks told it. No
    /// fact for policy: it binds an approval to this very call.
    pub input: Option<Box<str>>,
}

/// What of a tool server is used.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolKind {
    /// A tool, by its name.
    #[default]
    Tool,
    /// A resource; the tool's name is `resource:` and its URI.
    Resource,
    /// A prompt; the tool's name is `prompt:` and its name.
    Prompt,
    /// The server asks the client's model something; the name is `client:sampling`.
    Sampling,
    /// The server asks the client's user something; the name is `client:elicitation`.
    Elicitation,
    /// The server asks which folders the client works in; the name is `client:roots`.
    Roots,
}

/// What is known about a tool's definition: description, schema, annotations.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Definition {
    /// Whoever asks did not show it.
    #[default]
    Unseen,
    /// As it was when it was first seen; no person has accepted it.
    First,
    /// As a person accepted it.
    Accepted,
    /// Not as it was seen or accepted.
    Changed,
}

/// What a server says about a tool (MCP's annotations). A server can lie: good for a `forbid`,
/// for a `permit` only where the server is trusted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct ToolHints {
    /// It changes nothing.
    pub read_only: bool,
    /// What it changes may be lost.
    pub destructive: bool,
    /// It reaches things that are not its own.
    pub open_world: bool,
}

impl Default for ToolHints {
    /// Source: MCP 2025-11-25, `ToolAnnotations`.
    fn default() -> Self {
        Self {
            read_only: false,
            destructive: true,
            open_world: true,
        }
    }
}

impl ToolKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Tool,
        Self::Resource,
        Self::Prompt,
        Self::Sampling,
        Self::Elicitation,
        Self::Roots,
    ];

    /// As it stands in records and in policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Resource => "resource",
            Self::Prompt => "prompt",
            Self::Sampling => "sampling",
            Self::Elicitation => "elicitation",
            Self::Roots => "roots",
        }
    }
}

impl Definition {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unseen, Self::First, Self::Accepted, Self::Changed];

    /// As it stands in records and in policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::First => "first",
            Self::Accepted => "accepted",
            Self::Changed => "changed",
        }
    }
}
