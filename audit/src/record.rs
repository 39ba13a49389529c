//! One record: the schema of a leaf, version 1.
//!
//! A leaf is the RFC 8785 form of a record: fields in the order of their names, no white space,
//! integers up to 2^53-1, absent instead of null. Fields are declared in that order here, so that
//! plain serialising is already canonical; a test holds it against an independent canonicaliser.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod line;
mod parts;
mod totals;
mod upkeep;

pub use parts::{
    Access, AccessEntity, Agent, Approval, Cut, Export, Extension, Facts, Http, Net, Policy,
    Principal, Process, Raw, Resource, Service, Shadow, Tls, Tool, Trace,
};
pub use totals::{
    ChangeTotals, Counted, DestinationTotals, FileTotals, ReasonTotals, Totals, Used,
};
pub use upkeep::{Commitment, KeyChange, Upkeep};

/// Id of a record: UUIDv7, returned to whoever caused it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct RecordId(pub Uuid);

/// One record as it lies in the log. Field by field in the JSON of a leaf; integers are at most
/// 2^53-1, times are microseconds since the epoch, absent is absent (never null).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// `access.evaluate`, `access.search`: what a caller of the decision API asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// What was asked, of a fixed vocabulary: `net.connect`, `folder.grant`, `path.delete`, …;
    /// `malformed` for what was no request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The agent that the session runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
    /// The human approval that the decision rests on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
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
    /// What the extension or tool server is that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension: Option<Extension>,
    /// Facts of the session, where it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
    /// Name of the host that the service runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// HTTP facts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// Its id.
    pub id: RecordId,
    /// Which installation of the service: as configured, else the log's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// `key.rotate`: the log's new key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyChange>,
    /// What kind of record it is.
    pub kind: Kind,
    /// The layer of each of `rules`, in the same order; absent where policy has no layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// `log.gap`: how many records were refused or lost since the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Fields in which the value of a known secret was replaced by `[secret]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<String>,
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
    /// What the determining rules oblige the enforcement point to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obligations: Vec<String>,
    /// For whom the principal acts, where that is someone else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<Principal>,
    /// The organisation, as configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// The session that started this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The policy set that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Who asked: the user whose session it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// The process that asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
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
    /// What a candidate policy would have decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// What a session is now: [`SessionState`](crate::SessionState).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// `session.end`: what happened in the session, counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Box<Totals>>,
    /// The tool that was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<Tool>,
    /// Where it belongs in a distributed trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
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
    /// A session was paused, runs again, or was asked to end.
    #[serde(rename = "session.state")]
    SessionState,
    /// A session ended.
    #[serde(rename = "session.end")]
    SessionEnd,
    /// A step of a person's approval: asked for, answered, over.
    #[serde(rename = "approval")]
    Approval,
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
    /// What a session kept of files goes.
    #[serde(rename = "originals.purge")]
    OriginalsPurge,
    /// Records are kept however old they are.
    #[serde(rename = "retention.hold")]
    RetentionHold,
    /// A hold is over.
    #[serde(rename = "retention.release")]
    RetentionRelease,
    /// A sensitive value is erased.
    #[serde(rename = "redaction")]
    Redaction,
    /// A policy bundle came into force from its source.
    #[serde(rename = "policy.load")]
    PolicyLoad,
    /// A policy bundle was refused.
    #[serde(rename = "policy.refused")]
    PolicyRefused,
    /// A policy bundle waits for a second signature.
    #[serde(rename = "policy.pending")]
    PolicyPending,
    /// A policy bundle is tried out beside what is in force.
    #[serde(rename = "policy.try")]
    PolicyTry,
    /// A policy bundle decides for some sessions.
    #[serde(rename = "policy.rollout")]
    PolicyRollout,
    /// A policy bundle was put into force by somebody.
    #[serde(rename = "policy.promote")]
    PolicyPromote,
    /// A policy bundle was taken back.
    #[serde(rename = "policy.rollback")]
    PolicyRollback,
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
    /// It had begun and was cut off.
    Reset,
    /// It was let through because policy only observes.
    Observed,
}

/// Whether decisions are enforced.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They are.
    Enforce,
    /// Only recorded: what would be denied goes ahead.
    Observe,
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
            Self::SessionState => "session.state",
            Self::SessionEnd => "session.end",
            Self::Approval => "approval",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::LogGap => "log.gap",
            Self::Export => "export",
            Self::LogOrigin => "log.origin",
            Self::KeyRotate => "key.rotate",
            Self::RetentionPrune => "retention.prune",
            Self::OriginalsPurge => "originals.purge",
            Self::RetentionHold => "retention.hold",
            Self::RetentionRelease => "retention.release",
            Self::Redaction => "redaction",
            Self::PolicyLoad => "policy.load",
            Self::PolicyRefused => "policy.refused",
            Self::PolicyPending => "policy.pending",
            Self::PolicyTry => "policy.try",
            Self::PolicyRollout => "policy.rollout",
            Self::PolicyPromote => "policy.promote",
            Self::PolicyRollback => "policy.rollback",
        }
    }
}

impl Enforced {
    /// As it stands in a leaf.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Blocked => "blocked",
            Self::Reset => "reset",
            Self::Observed => "observed",
        }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests;
