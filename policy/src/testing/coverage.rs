//! What tests covered: rules that decided something, and clauses that were seen both ways.

use serde::Serialize;

use super::{
    Came, Expected,
    clauses::{self, Parts},
};
use crate::{Request, Rule, Snapshot, ask::Given};

/// What a run covered.
#[derive(Clone, Debug, Serialize)]
pub struct Coverage {
    /// Rules that determined the outcome of some request.
    pub rules: Share,
    /// Scopes and conjuncts that were seen true and seen false: two for each.
    pub clauses: Share,
    /// What is missing, in the order of the rules.
    pub gaps: Vec<Gap>,
}

/// So many of so many.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Share {
    /// How many were covered.
    pub covered: usize,
    /// Of how many.
    pub of: usize,
}

/// One thing that no test showed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Gap {
    /// The rule's id.
    pub rule: String,
    /// Its place: file and line.
    pub place: String,
    /// What was never seen, in words.
    pub missing: String,
}

/// Counts while tests run.
pub(super) struct Counter {
    rules: Vec<Counted>,
}

struct Counted {
    id: String,
    place: String,
    decided: bool,
    parts: Option<Parts>,
    /// The bundle of its application, where it is a rule of one.
    application: Option<String>,
}

impl Counted {
    fn new(rule: &Rule, parts: Option<Parts>, application: Option<&str>) -> Self {
        Self {
            id: rule.id.to_string(),
            place: format!("{}:{}", rule.file.display(), rule.line),
            decided: false,
            parts,
            application: application.map(Into::into),
        }
    }
}

impl Counter {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let parts = clauses::take_apart(snapshot);
        let own = snapshot.rules().iter().zip(parts);
        let own = own.map(|(rule, parts)| Counted::new(rule, parts, None));
        // Of those of applications only whether they decided something: their conditions are about
        // schemas of their own.
        let all = snapshot.applications().iter();
        let others = all.flat_map(|application| {
            let bundle = application.bundle();
            let rules = application.rules().iter();
            rules.map(move |rule| Counted::new(rule, None, Some(bundle)))
        });
        Self {
            rules: own.chain(others).collect(),
        }
    }

    /// Notes what one request showed. Where it would be asked about, its answer with an approval
    /// was looked at too.
    pub(super) fn count(
        &mut self,
        snapshot: &Snapshot,
        request: &Request,
        came: &Came,
        given: &Given,
    ) {
        let past = given.history();
        let Some(question) = clauses::question(snapshot, &past, request) else {
            return;
        };
        let approved = given.approved.unwrap_or(false);
        let own = self.rules.iter_mut();
        for rule in own.filter(|rule| rule.application.is_none()) {
            rule.decided |= came.rules.contains(&rule.id);
            if let Some(parts) = &mut rule.parts {
                parts.look(&question, approved);
                if came.outcome == Expected::Ask {
                    parts.look(&question, true);
                }
            }
        }
    }

    /// Notes what a question about the application of this bundle showed.
    pub(super) fn count_answer(&mut self, bundle: &str, came: &Came) {
        let all = self.rules.iter_mut();
        for rule in all.filter(|rule| rule.application.as_deref() == Some(bundle)) {
            rule.decided |= came.rules.contains(&rule.id);
        }
    }

    pub(super) fn coverage(self) -> Coverage {
        let mut coverage = Coverage {
            rules: Share { covered: 0, of: 0 },
            clauses: Share { covered: 0, of: 0 },
            gaps: Vec::new(),
        };
        for rule in &self.rules {
            coverage.rules.add(rule.decided);
            let mut gap = |missing: String| {
                coverage.gaps.push(Gap {
                    rule: rule.id.clone(),
                    place: rule.place.clone(),
                    missing,
                });
            };
            if !rule.decided {
                gap("it decided no request".into());
            }
            for clause in rule.parts.iter().flat_map(|parts| &parts.clauses) {
                coverage.clauses.add(clause.seen_true);
                coverage.clauses.add(clause.seen_false);
                let what = match &clause.words {
                    None => "its scope".to_owned(),
                    Some(words) => format!("`{}`", words.replace('`', "'")),
                };
                if !clause.seen_true && rule.decided {
                    gap(format!("{what} was never met"));
                }
                if !clause.seen_false && rule.decided {
                    gap(format!("{what} never failed to be met"));
                }
            }
        }
        coverage
    }
}

impl Share {
    fn add(&mut self, covered: bool) {
        self.of += 1;
        self.covered += usize::from(covered);
    }

    /// Whole per cent, rounded down; of nothing, all.
    pub fn percent(self) -> usize {
        (self.covered * 100).checked_div(self.of).unwrap_or(100)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} ({} %)", self.covered, self.of, self.percent())
    }
}
