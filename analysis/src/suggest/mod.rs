//! Proposes the fewest rules that would allow what was refused, or what a person had to approve,
//! each with its evidence.
//!
//! A log and the current policy set in, a [`Report`] and the text of a draft out. Never writes a
//! rule that is live (P06): who owns the policy reads the draft and takes from it what is meant.

mod draft;
mod evidence;
mod plan;
mod unused;

use std::collections::BTreeMap;

use cordon_audit::read::{ReadError, Reader};
use cordon_policy::{
    Snapshot,
    source::{LoadError, PolicySource},
};
use serde::Serialize;

use self::evidence::{Gathered, Item};
pub use self::{
    draft::Draft,
    evidence::{Elsewhere, Evidence},
    plan::Suggestion,
    unused::{Unused, unused},
};
use crate::{outcome::Outcome, records::Selection};

/// What to propose from, and how carefully.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which records.
    pub selection: Selection,
    /// For whom the rules are.
    pub scope: Scope,
    /// How many different names below one domain make `everything below it` of them; never above
    /// the registrable domain. None: every name on its own.
    pub generalise_from: Option<usize>,
}

/// For whom a proposed rule is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Scope {
    /// For the agent whose sessions asked; for everyone where there was no agent.
    #[default]
    Agent,
    /// For the user who asked.
    User,
    /// For everyone.
    Everyone,
}

/// What was refused, and what would allow it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Decisions read.
    pub decisions: u64,
    /// Refused because no rule allows it, or let through by observe mode alone.
    pub refused: u64,
    /// Went through because a person had approved it.
    pub approved: u64,
    /// Of both, allowed by the current set by now.
    pub allowed_by_now: u64,
    /// Proposed rules, most evidence first.
    pub rules: Vec<Suggestion>,
    /// Refused by a `forbid`, by rule: no `permit` lifts that.
    pub forbidden: BTreeMap<String, u64>,
    /// Refused by something that no rule lifts, and what does.
    pub elsewhere: Vec<Elsewhere>,
    /// Decisions that nothing is proposed from, by reason in words.
    pub left_out: BTreeMap<String, u64>,
    /// The draft: rules and data. Empty when nothing is proposed.
    #[serde(skip)]
    pub draft: Draft,
}

/// Why nothing could be proposed.
#[derive(Debug, thiserror::Error)]
pub enum SuggestError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The current set, or the draft beside it, does not load.
    #[error(transparent)]
    Policy(#[from] LoadError),
}

/// Proposes rules for what `options` select, beside the set `current`.
///
/// # Errors
/// [`SuggestError`]; a draft that does not load beside the current set is never returned.
pub fn suggest(
    log: &Reader,
    current: &PolicySource,
    options: &Options,
) -> Result<Report, SuggestError> {
    let snapshot = Snapshot::load(current)?;
    let gathered = evidence::gather(log, &snapshot, options)?;
    propose(current, &snapshot, gathered, options)
}

fn propose(
    current: &PolicySource,
    snapshot: &Snapshot,
    gathered: Gathered,
    options: &Options,
) -> Result<Report, SuggestError> {
    let mut rules = plan::plan(&gathered.items, options.generalise_from);
    let names = draft::Prefix::free_in(current);
    plan::name(&mut rules, &names);
    let draft = Draft::of(&rules);
    let with_draft = Snapshot::load(&draft.within(current))?;
    check(&mut rules, &gathered.items, snapshot, &with_draft);
    Ok(Report {
        decisions: gathered.decisions,
        refused: gathered.refused,
        approved: gathered.approved,
        allowed_by_now: gathered.allowed_by_now,
        rules,
        forbidden: gathered.forbidden,
        elsewhere: gathered.elsewhere,
        left_out: gathered.left_out,
        draft,
    })
}

/// Decides every piece of evidence again with the draft beside the current set, and says what the
/// draft allows beyond it.
fn check(rules: &mut [Suggestion], items: &[Item], current: &Snapshot, with_draft: &Snapshot) {
    for rule in rules {
        for item in rule.items(items) {
            let now = Outcome::of(with_draft, &item.request);
            if now.effect != cordon_audit::Effect::Allow {
                rule.still_refused.push(format!(
                    "{}: {}",
                    cordon_audit::escape(&item.request.operation.to_string()),
                    now.words()
                ));
            }
        }
        for probe in rule.probes(items) {
            let allows = |snapshot: &Snapshot| {
                Outcome::of(snapshot, &probe).effect == cordon_audit::Effect::Allow
            };
            if allows(with_draft) && !allows(current) {
                rule.beyond
                    .push(cordon_audit::escape(&probe.operation.to_string()).to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests;
