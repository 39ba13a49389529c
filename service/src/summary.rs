//! What happened in a session: made from its counts when it ends, or later from its records.

mod asked;
mod counted;
mod ended;
mod render;

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
};

use cordon_audit::{Effect, Kind, Record, RecordId, record::Enforced};

use cordon_sandbox::limits::Used;
use serde::{Deserialize, Serialize};

pub use asked::{allow_with, suggestion, why, words};
pub use render::{bytes, change_words, processor_time, render, storage_words};

use crate::control::{GrantChanges, GrantMade};

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
    /// Whether it ran without walls: decisions and log only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unwalled: bool,
    /// Until when policy only observed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe: Option<String>,
    /// Folders and files that were granted.
    pub grants: Vec<GrantLine>,
    /// What was allowed beside the grants, by what and rule.
    pub allowed: Vec<AllowedLine>,
    /// What was denied, by what and rule.
    pub denied: Vec<DeniedLine>,
    /// Decisions that are in no line, because there were too many different ones.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
    /// Bytes from outside into the session.
    pub bytes_in: u64,
    /// Bytes from the session to the outside.
    pub bytes_out: u64,
    /// What its processes used: processor time, and the most memory and processes at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
    /// What was done to the files of its grants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<GrantChanges>,
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
    /// Where policy wants originals kept and they are copied: the largest file, in bytes, that is; a
    /// larger one was not changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_up_to: Option<u64>,
}

/// One thing that was allowed, so and so often.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedLine {
    /// In words: `connect api.example.com:443`.
    pub what: String,
    /// How often.
    pub count: u64,
    /// How often it was allowed and the destination could not be reached all the same.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreached: u64,
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
    /// Whether it was let through all the same, because policy only observes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observed: bool,
    /// One policy line that would allow it, where one could.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_with: Option<String>,
}

impl Summary {
    /// Counts a session's records.
    pub fn of(session: &str, records: &[Record]) -> Self {
        let mut summary = Self {
            session: session.into(),
            records: records.len(),
            ..Self::default()
        };
        let mut allowed: BTreeMap<(String, String), Counted> = BTreeMap::new();
        let unreached: HashSet<RecordId> = records.iter().filter_map(unreached).collect();
        let mut denied: BTreeMap<String, DeniedLine> = BTreeMap::new();
        for record in records {
            match record.kind {
                Kind::Decision if record.effect == Some(Effect::Allow) => {
                    summary.count_allowed(record, &unreached, &mut allowed);
                }
                Kind::Decision => count_denied(record, &mut denied),
                Kind::FlowClose => {
                    summary.bytes_in += record.bytes_in.unwrap_or(0);
                    summary.bytes_out += record.bytes_out.unwrap_or(0);
                }
                Kind::SessionEnd => {
                    summary.exit_code = record.exit_code;
                    if let Some(totals) = &record.summary {
                        summary.used = totals.used.as_ref().map(ended::used);
                        summary.changes = ended::changes(totals);
                    }
                }
                Kind::SessionStart
                | Kind::SessionState
                | Kind::Approval
                | Kind::Start
                | Kind::Stop
                | Kind::LogGap
                | Kind::Export
                | Kind::LogOrigin
                | Kind::KeyRotate
                | Kind::RetentionPrune
                | Kind::OriginalsPurge
                | Kind::RetentionHold
                | Kind::RetentionRelease
                | Kind::Redaction
                | Kind::PolicyLoad
                | Kind::PolicyRefused
                | Kind::PolicyPending
                | Kind::PolicyTry
                | Kind::PolicyRollout
                | Kind::PolicyPromote
                | Kind::PolicyRollback => {}
            }
        }
        summary.agent = records
            .iter()
            .find_map(|record| Some(record.agent.as_ref()?.name.clone()));
        summary.unwalled = records
            .iter()
            .filter_map(|record| record.facts.as_ref())
            .any(|facts| facts.backend == "none");
        summary.seconds = seconds(records);
        summary.allowed = allowed
            .into_iter()
            .map(|((what, rule), counted)| AllowedLine {
                what,
                count: counted.all,
                unreached: counted.unreached,
                rule,
            })
            .collect();
        summary.denied = denied.into_values().collect();
        summary
    }

    /// Says where the granted folders appeared and how originals in them are kept, which the log does
    /// not know.
    pub fn name_grants(&mut self, made: &[GrantMade]) {
        let mut left: Vec<&GrantMade> = made.iter().collect();
        for line in &mut self.grants {
            if let Some(at) = left.iter().position(|grant| grant.path == line.path) {
                let made = left.remove(at);
                line.inside.clone_from(&made.inside);
                line.copied_up_to = made.copied_up_to;
            }
        }
    }

    fn count_allowed(
        &mut self,
        record: &Record,
        unreached: &HashSet<RecordId>,
        allowed: &mut BTreeMap<(String, String), Counted>,
    ) {
        let policy = record.policy.as_ref().filter(|_| self.policy.is_empty());
        if let Some(policy) = policy {
            let digest = policy.sha256.get(..12).unwrap_or(&policy.sha256);
            self.policy = format!("{} {digest}", policy.set);
        }
        let rule = record
            .rules
            .iter()
            .flatten()
            .next()
            .cloned()
            .unwrap_or_default();
        match record.action.as_deref() {
            // The first is the session's own; the following are further commands in it.
            Some("session.start") if self.command.is_empty() => {
                self.command = record
                    .resource
                    .as_ref()
                    .map(|r| r.id.clone())
                    .unwrap_or_default();
            }
            Some("folder.grant") => {
                let Some(resource) = &record.resource else {
                    return;
                };
                self.grants.push(GrantLine {
                    path: resource.id.clone().into(),
                    inside: PathBuf::new(),
                    mode: resource.mode.clone().unwrap_or_default(),
                    source: resource.source.clone().unwrap_or_default(),
                    rule,
                    copied_up_to: None,
                });
            }
            _other => {
                let counted = allowed.entry((asked::words(record), rule)).or_default();
                counted.all += 1;
                counted.unreached += u64::from(unreached.contains(&record.id));
            }
        }
    }
}

#[derive(Default)]
struct Counted {
    all: u64,
    unreached: u64,
}

/// The decision of a flow that led nowhere.
fn unreached(record: &Record) -> Option<RecordId> {
    let failed = matches!(record.end.as_deref()?, "resolve_failed" | "connect_failed");
    record
        .decision
        .filter(|_| record.kind == Kind::FlowClose && failed)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde calls"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn count_denied(record: &Record, denied: &mut BTreeMap<String, DeniedLine>) {
    let what = asked::words(record);
    let rule = asked::why(record);
    let line = denied
        .entry(format!("{what}\0{rule}"))
        .or_insert_with(|| DeniedLine {
            what,
            count: 0,
            reason: record.reason.clone().unwrap_or_default(),
            rule,
            observed: record.enforced == Some(Enforced::Observed),
            allow_with: asked::suggestion(record),
        });
    line.count += 1;
}

fn seconds(records: &[Record]) -> f64 {
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        return 0.0;
    };
    std::time::Duration::from_micros(last.ts_us.saturating_sub(first.ts_us)).as_secs_f64()
}
