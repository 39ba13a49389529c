//! Rules of the current set that determined nothing for a while.

use std::{collections::HashSet, time::SystemTime};

use cordon_audit::read::{ReadError, Reader};
use cordon_policy::{Effect, Snapshot};
use serde::Serialize;

use crate::records::{Selection, each_decision};

/// What was not needed.
#[derive(Clone, Debug, Serialize)]
pub struct Unused {
    /// Decisions looked at.
    pub decisions: u64,
    /// Time of the first of them, microseconds since the epoch. Where the log begins later than
    /// asked for, the answer is only as good.
    pub first_us: Option<u64>,
    /// Rules that determined none of them, in the order of the files.
    pub rules: Vec<UnusedRule>,
}

/// A rule that determined nothing.
#[derive(Clone, Debug, Serialize)]
pub struct UnusedRule {
    /// Its id.
    pub id: String,
    /// What it does. A `forbid` that never fired may be just what it is there for.
    pub effect: Effect,
    /// Its file.
    pub file: String,
    /// Its line.
    pub line: usize,
}

/// Rules of `current` that determined no decision since then.
///
/// # Errors
/// [`ReadError`] when the log cannot be read or is damaged.
pub fn unused(log: &Reader, current: &Snapshot, since: SystemTime) -> Result<Unused, ReadError> {
    let mut used: HashSet<String> = HashSet::new();
    let known: HashSet<&str> = current.rules().iter().map(|rule| &*rule.id).collect();
    let mut decisions = 0;
    let mut first_us = None;
    let selection = Selection {
        since: Some(since),
        ..Selection::default()
    };
    each_decision(log, &selection, |record, _sessions| {
        decisions += 1;
        first_us.get_or_insert(record.ts_us);
        for rule in record.rules.iter().flatten() {
            if known.contains(rule.as_str()) && !used.contains(rule) {
                used.insert(rule.clone());
            }
        }
        Ok(())
    })?;
    let rules = current
        .rules()
        .iter()
        .filter(|rule| !used.contains(&*rule.id))
        .map(|rule| UnusedRule {
            id: rule.id.to_string(),
            effect: rule.effect,
            file: rule.file.display().to_string(),
            line: rule.line,
        })
        .collect();
    Ok(Unused {
        decisions,
        first_us,
        rules,
    })
}
