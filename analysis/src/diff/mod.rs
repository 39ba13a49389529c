//! Compares two policy sets: what is newly allowed and newly denied, each with a request as proof.
//!
//! Two sets in, a [`Report`] out. Three ways find differences: the solver, where it is installed,
//! over all requests; probes, which are requests made from what rules and data name; and the
//! bundles' own tests. Whatever way found it, a difference is listed only if our own engine decides
//! the request differently under the two sets: nothing is believed of the solver but where to look.

mod groups;
mod late;
mod pools;
mod probes;
mod realise;
mod rules;
mod symbolic;
mod terms;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use cordon_policy::{
    Request, Snapshot, ask,
    source::{LoadError, PolicySource},
};
use serde::Serialize;

pub use self::{
    groups::GroupChange,
    rules::{RuleChange, RuleChangeKind},
    symbolic::{Check, CheckKind, Environment, Verdict, find_solver},
};
use self::{pools::Pools, symbolic::Plan};
use crate::outcome::{Change, Outcome};

/// How to compare.
pub struct Options<'a> {
    /// The solver, where there is one.
    pub solver: Option<PathBuf>,
    /// Longest time for each question to the solver.
    pub limit: Duration,
    /// Whether to check every rule of the new set on its own as well.
    pub checks: bool,
    /// Requests of tests and of the log, to be compared as well.
    pub requests: Vec<(Finder, Request)>,
    /// Called before each environment, with its words, its number and how many there are.
    pub progress: &'a (dyn Fn(&str, usize, usize) + Sync),
}

/// What differs.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Rules that were added, removed or changed, by id.
    pub rules: Vec<RuleChange>,
    /// Host groups whose members changed.
    pub groups: Vec<GroupChange>,
    /// Refused before, allowed now.
    pub newly_allowed: Vec<Difference>,
    /// Allowed before, refused now.
    pub newly_denied: Vec<Difference>,
    /// Refused before and now, but an approval would help now, or no longer. Looked for by probes,
    /// tests and records only.
    pub refused_otherwise: Vec<Difference>,
    /// What the solver says, one environment after the other; empty without a solver.
    pub environments: Vec<Environment>,
    /// What holds of the rules of the new set, each on its own.
    pub checks: Vec<Check>,
    /// Requests compared by our own engine.
    pub compared: usize,
    /// Whether the solver has answered for every environment, so that what is not listed by kind
    /// does not differ.
    pub is_complete: bool,
}

/// One kind of difference: the same action, decided by the same rules.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// The action and what is asked for, in words that every tool reads: the first such request.
    pub request: String,
    /// Who asked: user, groups, agent, platform; and when.
    pub given: ask::Given,
    /// Under the old set.
    pub old: Outcome,
    /// Under the new set.
    pub new: Outcome,
    /// What found it first.
    pub found_by: Finder,
    /// Other requests of this kind that were met, and the first few of them.
    pub others: usize,
    /// The first few others, in words.
    pub examples: Vec<String>,
}

/// What found a difference.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finder {
    /// The solver.
    Solver,
    /// A request made from what rules and data name.
    Probe,
    /// A bundle's own test.
    Test,
    /// A recorded request.
    Record,
}

/// Why two sets were not compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// A set does not load.
    #[error(transparent)]
    Policy(#[from] LoadError),
    /// Something of our own went wrong.
    #[error("not compared: {0}")]
    Inner(String),
}

/// Compares `old` and `new`.
///
/// # Errors
/// [`DiffError`] where a set does not load. A solver that fails or takes too long is no error: its
/// environment says so.
pub fn diff(
    old: &PolicySource,
    new: &PolicySource,
    options: &Options<'_>,
) -> Result<Report, DiffError> {
    let sides = Sides {
        old: Snapshot::load(old)?,
        new: Snapshot::load(new)?,
    };
    // Conditions that are made here nest deeper than a thread's usual stack bears.
    let run = || {
        let pools = Pools::of(old, new, &sides).map_err(DiffError::Inner)?;
        let mut found = Found::new(&sides);
        for (finder, request) in &options.requests {
            found.compare(request, *finder);
        }
        probes::each(&pools, |request| found.compare(request, Finder::Probe));
        let mut report = Report {
            rules: rules::changes(&sides),
            groups: groups::changes(old, new).map_err(DiffError::Inner)?,
            ..Report::default()
        };
        if let Some(solver) = &options.solver {
            let plan = Plan {
                solver,
                limit: options.limit,
                checks: options.checks,
                progress: options.progress,
            };
            let answers = symbolic::ask(&plan, &pools, &mut found).map_err(DiffError::Inner)?;
            report.is_complete = answers.environments.iter().all(Environment::is_answered);
            report.environments = answers.environments;
            report.checks = answers.checks;
        }
        report.compared = found.compared;
        found.finish(&mut report);
        Ok(report)
    };
    std::thread::scope(|scope| {
        let work = std::thread::Builder::new()
            .name("diff".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, run)
            .map_err(|error| DiffError::Inner(error.to_string()))?;
        work.join()
            .unwrap_or_else(|_| Err(DiffError::Inner("comparing broke off".into())))
    })
}

const STACK_BYTES: usize = 256 << 20;

/// Both sets, loaded.
pub(crate) struct Sides {
    pub(crate) old: Snapshot,
    pub(crate) new: Snapshot,
}

/// Differences found so far, by kind.
pub(crate) struct Found<'a> {
    pub(crate) sides: &'a Sides,
    compared: usize,
    kinds: BTreeMap<(Change, String, Vec<String>, Vec<String>), Difference>,
}

impl<'a> Found<'a> {
    const MOST_KINDS: usize = 5_000;
    const MOST_EXAMPLES: usize = 3;

    fn new(sides: &'a Sides) -> Self {
        Self {
            sides,
            compared: 0,
            kinds: BTreeMap::new(),
        }
    }

    /// Decides a request under both sets and notes a difference; says whether there is one.
    pub(crate) fn compare(&mut self, request: &Request, finder: Finder) -> Option<Change> {
        self.compared += 1;
        let old = Outcome::of(&self.sides.old, request);
        let new = Outcome::of(&self.sides.new, request);
        let change = Change::between(old.effect, new.effect)?;
        let words = ask::words(&request.operation);
        let action = cordon_policy::Names::of(request).map_or("", |names| names.action);
        let key = (
            change,
            action.to_owned(),
            old.rules.clone(),
            new.rules.clone(),
        );
        if let Some(kind) = self.kinds.get_mut(&key) {
            if kind.request != words {
                kind.others += 1;
                if kind.examples.len() < Self::MOST_EXAMPLES && !kind.examples.contains(&words) {
                    kind.examples.push(words);
                }
            }
        } else if self.kinds.len() < Self::MOST_KINDS {
            let difference = Difference {
                request: words,
                given: given(request),
                old,
                new,
                found_by: finder,
                others: 0,
                examples: Vec::new(),
            };
            self.kinds.insert(key, difference);
        }
        Some(change)
    }

    fn finish(self, report: &mut Report) {
        for ((change, ..), difference) in self.kinds {
            match change {
                Change::NewlyAllowed => report.newly_allowed.push(difference),
                Change::NewlyDenied => report.newly_denied.push(difference),
                Change::OtherRefusal => report.refused_otherwise.push(difference),
            }
        }
    }
}

/// Who asks and when, as tests and `explain` take it.
fn given(request: &Request) -> ask::Given {
    let session = &request.session;
    ask::Given {
        user: Some(session.user.clone()),
        groups: Some(session.groups.clone()),
        agent: session.agent.clone(),
        platform: Some(session.platform.clone()),
        backend: Some(session.backend),
        time: Some(ask::Moment(request.at)),
        session: None,
        destination: None,
        approved: None,
    }
}

#[cfg(test)]
mod tests;
