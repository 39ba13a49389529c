//! Decides past decisions again under the very policy set that was recorded with them, and
//! reports any that come out differently.
//!
//! A log and the policy sets that are at hand in, a [`Report`] out.

use std::collections::{BTreeMap, HashMap};

use cordon_audit::{
    Record, escape,
    past::decided_at,
    read::{ReadError, Reader},
};
use cordon_policy::{Request, Snapshot};
use serde::Serialize;

use crate::{
    outcome::{Outcome, word},
    records::{Selection, each_decision, request_of},
    replay::recorded_words,
    tally::Bounded,
};

/// What came of deciding again.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Decisions read.
    pub decisions: u64,
    /// Decided again under the recorded set.
    pub decided_again: u64,
    /// Came out as recorded.
    pub same: u64,
    /// Came out differently.
    pub different: u64,
    /// The first ones that came out differently.
    pub differences: Vec<Difference>,
    /// Could not be decided again, by reason in words.
    pub not_again: BTreeMap<String, u64>,
    /// Policy sets that were recorded and are not at hand, with how many decisions they made.
    pub missing_sets: Vec<MissingSet>,
}

/// A decision that comes out differently.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Id of the record.
    pub record: String,
    /// Its place in the log.
    pub seq: u64,
    /// What was asked, in words.
    pub what: String,
    /// What was recorded.
    pub recorded: String,
    /// What comes out now.
    pub again: Outcome,
}

/// A policy set that is not at hand.
#[derive(Clone, Debug, Serialize)]
pub struct MissingSet {
    /// Its name.
    pub name: String,
    /// Its digest.
    pub digest: String,
    /// How many decisions it made.
    pub decisions: u64,
}

/// Finds a policy set by its digest, where it is at hand.
pub trait Sets {
    /// The set with exactly this digest.
    fn by_digest(&mut self, digest: &str) -> Option<&Snapshot>;
}

/// Decides again what `selection` selects.
///
/// # Errors
/// [`ReadError`] when the log cannot be read or is damaged.
pub fn verify(
    log: &Reader,
    sets: &mut impl Sets,
    selection: &Selection,
) -> Result<Report, ReadError> {
    let mut report = Report::default();
    let mut missing: Bounded<(String, String), u64> = Bounded::new(Report::MOST_SETS);
    each_decision(log, selection, |record, sessions| {
        report.decisions += 1;
        let request = match request_of(record, sessions, log)? {
            Ok(request) => request,
            Err(why) => {
                *report.not_again.entry(why.to_string()).or_default() += 1;
                return Ok(());
            }
        };
        let Some(policy) = &record.policy else {
            *report.not_again.entry(NO_POLICY.into()).or_default() += 1;
            return Ok(());
        };
        match sets.by_digest(&policy.sha256) {
            Some(snapshot) => report.compare(record, request, snapshot),
            None => {
                *report.not_again.entry(NOT_AT_HAND.into()).or_default() += 1;
                let key = (policy.set.clone(), policy.sha256.clone());
                if let Some(count) = missing.entry(key, || 0) {
                    *count += 1;
                }
            }
        }
        Ok(())
    })?;
    report.missing_sets = listed(missing.into_kept());
    Ok(report)
}

impl Report {
    /// Most differences that are listed; all are counted.
    pub const MOST_LISTED: usize = 100;
    /// Most missing sets that are listed.
    pub const MOST_SETS: usize = 1_000;

    fn compare(&mut self, record: &Record, request: Request, snapshot: &Snapshot) {
        self.decided_again += 1;
        let again = Outcome::of_recorded(snapshot, &request, record);
        if is_as_recorded(record, &again) {
            self.same += 1;
            return;
        }
        // The record's time is taken a moment after the decision's. Where a rule's hour began
        // between the two, either answer is the right one.
        let a_moment_later = Request {
            at: decided_at(record)
                + std::time::Duration::from_micros(record.queue_us.unwrap_or_default()),
            ..request.clone()
        };
        if is_as_recorded(
            record,
            &Outcome::of_recorded(snapshot, &a_moment_later, record),
        ) {
            self.same += 1;
            return;
        }
        self.different += 1;
        if self.differences.len() < Self::MOST_LISTED {
            self.differences.push(Difference {
                record: record.id.to_string(),
                seq: record.seq,
                what: escape(&request.operation.to_string()).to_string(),
                recorded: recorded_words(record),
                again,
            });
        }
    }
}

/// Same effect, same kind of refusal, same rules. Of a list of rules that was cut, as far as it
/// goes.
fn is_as_recorded(record: &Record, again: &Outcome) -> bool {
    let recorded = record.rules.as_deref().unwrap_or_default();
    let is_cut = record.trunc.iter().any(|cut| cut.field == "rules");
    let same_rules = if is_cut {
        recorded.len() <= again.rules.len()
    } else {
        recorded == again.rules
    };
    let reason = again.reason.map_or("rule", cordon_policy::DenyReason::code);
    record.effect.map(word) == Some(word(again.effect))
        && record.reason.as_deref() == Some(reason)
        && same_rules
}

fn listed(missing: HashMap<(String, String), u64>) -> Vec<MissingSet> {
    let mut sets: Vec<MissingSet> = missing
        .into_iter()
        .map(|((name, digest), decisions)| MissingSet {
            name: escape(&name).to_string(),
            digest: escape(&digest).to_string(),
            decisions,
        })
        .collect();
    sets.sort_by(|a, b| {
        b.decisions
            .cmp(&a.decisions)
            .then_with(|| a.digest.cmp(&b.digest))
    });
    sets
}

const NO_POLICY: &str = "it does not say which policy set decided it";
const NOT_AT_HAND: &str = "the policy set that decided it is not at hand; name it with --policy";
