//! One record: the schema of a leaf, version 1.
//!
//! A leaf is the RFC 8785 form of a record: fields in the order of their names, no white space,
//! integers up to 2^53-1, absent instead of null. Fields are declared in that order here, so that
//! plain serialising is already canonical; a test holds it against an independent canonicaliser.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::text::{escape, rfc3339};

mod upkeep;

pub use upkeep::{Commitment, KeyChange, Upkeep};

/// Id of a record: UUIDv7, returned to whoever caused it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct RecordId(pub Uuid);

/// One record as it lies in the log. Field by field in the JSON of a leaf; integers are at most
/// 2^53-1, times are microseconds since the epoch, absent is absent (never null).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// What was asked: `net.connect`, `http.request`, `net.reach`, `folder.grant`,
    /// `path.delete`, `session.start`; `malformed` for what was no request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The agent that the session runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
    /// Boot id of the kernel, which `mono_us` counts from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot: String,
    /// Bytes from the destination to the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    /// Bytes from the session to the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
    /// `log.gap`: bytes of an unfinished write that opening the log cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_bytes: Option<u64>,
    /// Of the end of a flow: the decision that opened it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<RecordId>,
    /// Microseconds from the decision to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dur_us: Option<u64>,
    /// What was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// How a flow or session ended: [`FlowEnd`](crate::FlowEnd), [`SessionEnd`](crate::SessionEnd).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// What was done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforced: Option<Enforced>,
    /// Texts of evaluation errors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub err: Vec<String>,
    /// Nanoseconds spent evaluating policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_ns: Option<u64>,
    /// Exit status as a shell shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What was exported, by the principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,
    /// Facts of the session, where it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
    /// HTTP facts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// Its id.
    pub id: RecordId,
    /// `key.rotate`: the log's new key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyChange>,
    /// What kind of record it is.
    pub kind: Kind,
    /// `log.gap`: how many records were refused or lost since the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// What the determining rule says to the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether decisions are enforced.
    pub mode: Mode,
    /// Microseconds since boot, suspend included: shows steps of the wall clock.
    pub mono_us: u64,
    /// Network facts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<Net>,
    /// The policy set that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// On whose behalf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// Microseconds from the call to `record` until the record was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_us: Option<u64>,
    /// Input that could not be normalised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<Raw>,
    /// Why: `rule` for what a rule decided, else a [`DenyReason`](cordon_policy::DenyReason).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was asked for, in its canonical form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// Ids of the determining rules. Empty is present in a decision: default deny.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<String>>,
    /// Salted commitments to values that are not here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sd: Vec<Commitment>,
    /// Position in the log, from 0, gap-free.
    pub seq: u64,
    /// The service itself, where it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// The session it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Texts that are not here in full.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trunc: Vec<Cut>,
    /// When, in microseconds since the epoch (UTC).
    pub ts_us: u64,
    /// What was done to the log itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upkeep: Option<Box<Upkeep>>,
    /// Schema version: 1.
    pub v: u32,
}

/// What kind of record it is: a fixed vocabulary.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Kind {
    /// Something was asked and decided.
    #[serde(rename = "decision")]
    Decision,
    /// An allowed flow is over.
    #[serde(rename = "flow.close")]
    FlowClose,
    /// A session's command was started.
    #[serde(rename = "session.start")]
    SessionStart,
    /// A session ended.
    #[serde(rename = "session.end")]
    SessionEnd,
    /// The service opened the log.
    #[serde(rename = "start")]
    Start,
    /// The service closed the log in good order.
    #[serde(rename = "stop")]
    Stop,
    /// Something could not be recorded, or an unfinished write was cut off.
    #[serde(rename = "log.gap")]
    LogGap,
    /// Records were exported.
    #[serde(rename = "export")]
    Export,
    /// The first record of a log that follows another one.
    #[serde(rename = "log.origin")]
    LogOrigin,
    /// From the next checkpoint on, another key signs.
    #[serde(rename = "key.rotate")]
    KeyRotate,
    /// Old segments go.
    #[serde(rename = "retention.prune")]
    RetentionPrune,
    /// Records are kept however old they are.
    #[serde(rename = "retention.hold")]
    RetentionHold,
    /// A hold is over.
    #[serde(rename = "retention.release")]
    RetentionRelease,
    /// A sensitive value is erased.
    #[serde(rename = "redaction")]
    Redaction,
}

/// What was decided.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Go ahead.
    Allow,
    /// No.
    Deny,
    /// No, but an approval would change it.
    Ask,
    /// No, because deciding failed.
    Error,
}

/// What was done about a decision.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforced {
    /// It was let through.
    Allowed,
    /// It was stopped.
    Blocked,
}

/// Whether decisions are enforced.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They are.
    Enforce,
}

/// An agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Agent {
    /// Name of its profile.
    pub name: String,
}

/// What was exported.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Export {
    /// Number of records.
    pub count: u64,
    /// Place of the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// `ocsf`, `ecs`, `cef`, `jsonl`, `csv`, `otlp`, `tlog`.
    pub format: String,
    /// Place of the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// What was asked for, as JSON.
    pub query: String,
    /// Root of the tree over the exported records, base64.
    pub root: String,
}

/// Facts of a session.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Facts {
    /// What holds its walls.
    pub backend: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// Its operating system.
    pub platform: String,
}

/// HTTP facts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Http {
    /// Method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Path without query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// Network facts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Net {
    /// Destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
    /// Destination address, as decided or as connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst: Option<String>,
    /// Destination name or address, as asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Transport protocol.
    pub proto: String,
    /// The way it arrived: `http-connect`, `socks5`, `capture`, `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}

/// A policy set.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Policy {
    /// Its name.
    pub set: String,
    /// SHA-256 over its files, lower-case hex.
    pub sha256: String,
}

/// On whose behalf something was asked.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Principal {
    /// Login name.
    pub id: String,
    /// `user`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Input that could not be normalised.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Raw {
    /// Where it came in.
    pub door: String,
    /// What is wrong with it.
    pub problem: String,
    /// The text itself. Hostile: show it with [`escape`] only.
    pub text: String,
}

/// What was asked for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Resource {
    /// Base64 of the exact bytes, where `id` is not valid UTF-8 and so only resembles them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
    /// Canonical text: `host:port`, a path, a program's name.
    pub id: String,
    /// Mode of a grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Who asked for a grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `network`, `folder`, `path`, `program`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The service itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Service {
    /// Name of the host.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Version of the program.
    pub version: String,
}

/// A text that is not here in full.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Cut {
    /// Which field.
    pub field: String,
    /// Its length in bytes, or in entries for a list.
    pub len: u64,
    /// SHA-256 of the whole, lower-case hex (of a list: its entries joined by line feeds).
    pub sha256: String,
}

impl Record {
    /// The schema version that this code writes and reads.
    pub const VERSION: u32 = 1;

    /// Largest leaf, in bytes.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// Reads a leaf.
    ///
    /// # Errors
    /// Says what is wrong: not JSON, not of version 1, a field missing or of another type.
    pub fn from_leaf(leaf: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(leaf).map_err(|error| error.to_string())?;
        if record.v == Self::VERSION {
            Ok(record)
        } else {
            Err(format!(
                "schema version {} is not {}: read it with the version that wrote it",
                record.v,
                Self::VERSION
            ))
        }
    }

    /// One line for a person: time, outcome, what, why. Whatever came from outside is escaped,
    /// so that it is one line and nothing else.
    pub fn summary_line(&self) -> String {
        let mut line = format!("{} {:<6} ", rfc3339(self.ts_us), self.outcome());
        let mut add = |label: &str, text: &str| {
            if !line.ends_with(' ') {
                line.push(' ');
            }
            line.push_str(label);
            line.push_str(&escape(text).to_string());
        };
        add("", self.action.as_deref().unwrap_or(self.kind.as_str()));
        if let Some(http) = &self.http {
            if let (Some(method), Some(path)) = (&http.method, &http.path) {
                add("", method);
                add("path=", path);
            }
            if let Some(status) = http.status {
                add("status=", &status.to_string());
            }
        }
        if let Some(resource) = &self.resource {
            add("", &resource.id);
            if let Some(mode) = &resource.mode {
                add("mode=", mode);
            }
        }
        if let Some(raw) = &self.raw {
            add("door=", &raw.door);
            add("text=", &raw.text);
            add("problem=", &raw.problem);
        }
        let dst = self.net.as_ref().and_then(|net| net.dst.as_deref());
        let fields = [
            ("dst=", dst.map(str::to_owned)),
            ("out=", self.bytes_out.map(|n| n.to_string())),
            ("in=", self.bytes_in.map(|n| n.to_string())),
            ("end=", self.end.clone()),
            ("exit=", self.exit_code.map(|n| n.to_string())),
            ("lost=", self.lost.map(|n| n.to_string())),
            ("cut=", self.cut_bytes.map(|n| n.to_string())),
            ("reason=", self.reason.clone()),
            (
                "rules=",
                self.rules
                    .as_ref()
                    .filter(|r| !r.is_empty())
                    .map(|r| r.join(",")),
            ),
        ];
        for (label, text) in fields {
            if let Some(text) = text {
                add(label, &text);
            }
        }
        add("id=", &self.id.to_string());
        line
    }

    fn outcome(&self) -> &'static str {
        match self.effect {
            Some(Effect::Allow) => "allow",
            Some(Effect::Deny) => "deny",
            Some(Effect::Ask) => "ask",
            Some(Effect::Error) => "error",
            None => "-",
        }
    }
}

impl Effect {
    /// As it stands in a leaf.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Ask => "ask",
            Self::Error => "error",
        }
    }
}

impl Kind {
    /// As it stands in a leaf.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::FlowClose => "flow.close",
            Self::SessionStart => "session.start",
            Self::SessionEnd => "session.end",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::LogGap => "log.gap",
            Self::Export => "export",
            Self::LogOrigin => "log.origin",
            Self::KeyRotate => "key.rotate",
            Self::RetentionPrune => "retention.prune",
            Self::RetentionHold => "retention.hold",
            Self::RetentionRelease => "retention.release",
            Self::Redaction => "redaction",
        }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
