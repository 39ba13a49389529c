//! Decides past decisions again under the very policy set that was recorded with them, and
//! reports any that come out differently.
//!
//! A log and the policy sets that are at hand in, a [`Report`] out.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use cordon_audit::{
    Record, escape,
    past::decided_at,
    read::{ReadError, Reader},
};
use cordon_policy::Snapshot;
use serde::Serialize;

use crate::{
    access,
    outcome::{Outcome, word},
    pasts::{Again, Counting, Pasts},
    records::{Selection, each_record, request_of},
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
    let mut pasts = Pasts::new(log, selection, Counting::AsRecorded)?;
    each_record(log, selection, |record, is_selected, sessions| {
        if !is_selected {
            return pasts.pass(record, sessions);
        }
        report.decisions += 1;
        let leave_out = |report: &mut Report, why: &str| {
            *report.not_again.entry(why.into()).or_default() += 1;
        };
        let policy = record.policy.as_ref();
        let Some(snapshot) = policy.and_then(|policy| sets.by_digest(&policy.sha256)) else {
            match (request_of(record, sessions, log)?, policy) {
                (Err(why), _) if record.access.is_none() => {
                    leave_out(&mut report, &why.to_string())
                }
                (_, None) => leave_out(&mut report, NO_POLICY),
                (_, Some(policy)) => {
                    leave_out(&mut report, NOT_AT_HAND);
                    let key = (policy.set.clone(), policy.sha256.clone());
                    if let Some(count) = missing.entry(key, || 0) {
                        *count += 1;
                    }
                }
            }
            return pasts.pass(record, sessions);
        };
        if let Some(access) = &record.access {
            match access::again(access, record, snapshot) {
                Ok((what, outcome)) => report.compare_to(record, &what, &[outcome]),
                Err(why) => leave_out(&mut report, &why.to_string()),
            }
            return Ok(());
        }
        match pasts.decide(record, snapshot, sessions)? {
            Ok(again) => report.compare(record, again, snapshot),
            Err(why) => leave_out(&mut report, &why.to_string()),
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

    fn compare(&mut self, record: &Record, again: Again, snapshot: &Snapshot) {
        // The record's time is taken a moment after the decision's. Where a rule's hour began
        // between the two, either answer is the right one.
        let queued = Duration::from_micros(record.queue_us.unwrap_or_default());
        let what = again.request.operation.to_string();
        let a_moment_later = match is_as_recorded(record, &again.outcome) {
            true => None,
            false => Some(again.at(decided_at(record) + queued, record, snapshot)),
        };
        let outcomes: Vec<Outcome> = std::iter::once(again.outcome)
            .chain(a_moment_later)
            .collect();
        self.compare_to(record, &what, &outcomes);
    }

    /// It is as recorded where one of these is; the first is what is shown.
    fn compare_to(&mut self, record: &Record, what: &str, outcomes: &[Outcome]) {
        self.decided_again += 1;
        if outcomes
            .iter()
            .any(|outcome| is_as_recorded(record, outcome))
        {
            self.same += 1;
            return;
        }
        self.different += 1;
        if let Some(again) = outcomes.first()
            && self.differences.len() < Self::MOST_LISTED
        {
            self.differences.push(Difference {
                record: record.id.to_string(),
                seq: record.seq,
                what: escape(what).to_string(),
                recorded: recorded_words(record),
                again: again.clone(),
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
