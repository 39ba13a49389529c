//! Why a request was refused: the `permit` that comes nearest and what of it does not hold, or
//! the `forbid` and what of it does.
//!
//! A request and a snapshot in, a [`WhyNot`] out. Made on demand, after deciding, and decides
//! nothing: every part of a rule is put to Cedar by itself.

use std::{fmt, ops::Range, path::PathBuf};

use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, EvalResult, Policy, PrincipalConstraint,
    ResourceConstraint, eval_expression,
};

use super::{
    Effect, Rule, Snapshot,
    clauses::{Clauses, Condition, Joint, joined},
    compile::on_large_stack,
    evaluate::{Subject, Verdict},
    slices::Within,
};
use crate::{History, Request, RuleRef};

/// Why a request was refused.
#[derive(Clone, Debug, serde::Serialize)]
pub struct WhyNot {
    /// The nearest `permit`, or the `forbid` that matched.
    pub rule: RuleRef,
    /// Which of the two.
    pub effect: Effect,
    /// The rule's file, as it was named.
    pub file: PathBuf,
    /// Line of its first word, from 1.
    pub line: usize,
    /// What of a `permit` does not hold: parts of its scope, or else the first condition.
    pub failed: Vec<Clause>,
    /// What of a `forbid` holds; empty for one that is about everything.
    pub matched: Vec<Clause>,
}

/// A part of a rule, as it stands in its file.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Clause {
    /// Which part.
    pub part: Part,
    /// Its text.
    pub text: String,
    /// Its line, from 1.
    pub line: usize,
}

/// A part of a rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Who, in the scope.
    Principal,
    /// What is done, in the scope.
    Action,
    /// To what, in the scope.
    Resource,
    /// A condition of `when` or `unless`.
    Condition,
}

/// Most rules that are looked at.
const MOST: usize = 4_096;
/// Most of those whose conditions are evaluated.
const MOST_EVALUATED: usize = 64;

impl Snapshot {
    /// Why a request is refused: nothing where it is allowed, where no rule comes near, or where
    /// the refusal is not the rules' (an evaluation error, a malformed request).
    pub fn why_not(&self, request: &Request) -> Option<WhyNot> {
        self.why_not_after(&History::default(), request)
    }

    /// As [`Self::why_not`], in a session that did this before.
    pub fn why_not_after(&self, past: &History, request: &Request) -> Option<WhyNot> {
        let verdict = self.evaluate(past, request);
        let subject = Subject::of(request, self.by(past)).ok()?;
        // Parsing parts of rules takes the stack that parsing rules takes.
        let explained = on_large_stack(|| match verdict {
            Verdict::Forbid { rules } => {
                let rule = rules.first().and_then(|at| self.rules().get(*at))?;
                Some(matched(rule, &subject))
            }
            Verdict::Ask { .. } | Verdict::NoRule => self.nearest(&subject),
            Verdict::Allow { .. } | Verdict::Error { .. } | Verdict::Unasked(_) => None,
        });
        explained.ok().flatten()
    }

    fn nearest(&self, subject: &Subject<'_>) -> Option<WhyNot> {
        let within = &subject.within;
        let near = self.compiled.slices.near(within);
        let mut ranked: Vec<(Distance, usize)> = near
            .into_iter()
            .filter_map(|at| {
                let policy = &self.compiled.policies.get(at)?.policy;
                let is_permit = policy.effect() == cedar_policy::Effect::Permit;
                Some((is_permit.then(|| distance(policy, within))??, at))
            })
            .take(MOST)
            .collect();
        ranked.sort_unstable();
        // Scopes that are equally near are told apart by their conditions.
        let best = ranked.first()?.0;
        let nearest = ranked.into_iter().filter(|(distance, _)| *distance == best);
        nearest
            .take(MOST_EVALUATED)
            .filter_map(|(_, at)| failed(self.rules().get(at)?, subject))
            .min_by_key(|(left, _)| *left)
            .map(|(_, why)| why)
    }
}

impl WhyNot {
    fn new(rule: &Rule) -> Self {
        Self {
            rule: rule.to_ref(),
            effect: rule.effect,
            file: rule.file.clone(),
            line: rule.line,
            failed: Vec::new(),
            matched: Vec::new(),
        }
    }
}

/// What of a permit does not hold, and how many of its conditions are left from there.
fn failed(rule: &Rule, subject: &Subject<'_>) -> Option<(usize, WhyNot)> {
    let clauses = Clauses::of(&rule.text)?;
    let mut why = WhyNot::new(rule);
    for (part, range) in scope(rule, &clauses) {
        if !subject.holds(&rule.text, &range) {
            why.failed.push(clause(rule, part, range));
        }
    }
    // Conditions are written for what the scope lets in; elsewhere they may fail to evaluate.
    if !why.failed.is_empty() {
        return Some((0, why));
    }
    let conditions: Vec<(bool, Range<usize>)> = clauses
        .conditions
        .iter()
        .flat_map(|condition| conjuncts(rule, condition))
        .collect();
    let at = conditions
        .iter()
        .position(|(negated, range)| subject.holds(&rule.text, range) == *negated)?;
    let (_, range) = conditions.get(at)?;
    why.failed
        .push(clause(rule, Part::Condition, range.clone()));
    Some((conditions.len() - at, why))
}

/// What of a forbid holds: its scope, and of each condition the part that made it true.
fn matched(rule: &Rule, subject: &Subject<'_>) -> WhyNot {
    let mut why = WhyNot::new(rule);
    let Some(clauses) = Clauses::of(&rule.text) else {
        return why;
    };
    for (part, range) in scope(rule, &clauses) {
        why.matched.push(clause(rule, part, range));
    }
    for condition in &clauses.conditions {
        let alternatives = joined(&rule.text, condition.body.clone(), Joint::Or);
        let held = alternatives
            .into_iter()
            .find(|range| !condition.negated && subject.holds(&rule.text, range));
        let range = held.unwrap_or_else(|| condition.body.clone());
        why.matched.push(clause(rule, Part::Condition, range));
    }
    why
}

/// The parts of the scope that say something.
fn scope(rule: &Rule, clauses: &Clauses) -> Vec<(Part, Range<usize>)> {
    let parts = [Part::Principal, Part::Action, Part::Resource];
    let says_something = |range: &Range<usize>| {
        let text = rule.text.get(range.clone()).unwrap_or_default();
        !matches!(text, "principal" | "action" | "resource")
    };
    let scope = parts.into_iter().zip(clauses.scope.iter().cloned());
    scope.filter(|(_, range)| says_something(range)).collect()
}

/// The parts of a condition that must all hold. What an `unless` holds off stays whole.
fn conjuncts(rule: &Rule, condition: &Condition) -> Vec<(bool, Range<usize>)> {
    if condition.negated {
        return vec![(true, condition.body.clone())];
    }
    let parts = joined(&rule.text, condition.body.clone(), Joint::And);
    parts.into_iter().map(|range| (false, range)).collect()
}

fn clause(rule: &Rule, part: Part, range: Range<usize>) -> Clause {
    let before = rule.text.get(..range.start).unwrap_or_default();
    let text = rule.text.get(range).unwrap_or_default();
    let leading = text.len() - text.trim_start().len();
    let blank = text.get(..leading).unwrap_or_default();
    Clause {
        part,
        line: rule.line + before.matches('\n').count() + blank.matches('\n').count(),
        text: text.trim().to_owned(),
    }
}

impl Subject<'_> {
    /// Whether a part of a rule holds, by itself. One that cannot be evaluated does not.
    fn holds(&self, text: &str, range: &Range<usize>) -> bool {
        let expression = text.get(range.clone()).and_then(|text| text.parse().ok());
        expression.is_some_and(|expression| {
            let result = eval_expression(&self.request, &self.entities, &expression);
            matches!(result, Ok(EvalResult::Bool(true)))
        })
    }
}

/// How far a scope is from holding, and, where it is about another resource, how little the two
/// names have in common.
type Distance = (usize, usize);

/// Another resource is further off than another principal, and that than another action of a rule
/// that names this very resource: a person who asks looks for the rule about this very thing. A
/// rule about another action that names nothing of what was asked is not near at all.
fn distance(policy: &Policy, within: &Within<'_>) -> Option<Distance> {
    let is_of = |list: &[EntityUid], kind: &EntityTypeName| {
        list.first().is_some_and(|own| own.type_name() == kind)
    };
    let is_own = |list: &[EntityUid], entity: &EntityUid| list.first() == Some(entity);
    let (principals, resources) = (&within.principals, &within.resources);
    let (resource, named) = match policy.resource_constraint() {
        ResourceConstraint::Any => (true, None),
        ResourceConstraint::Is(kind) => (is_of(resources, &kind), None),
        ResourceConstraint::Eq(entity) => (is_own(resources, &entity), Some(entity)),
        ResourceConstraint::In(entity) => (resources.contains(&entity), Some(entity)),
        ResourceConstraint::IsIn(kind, entity) => (
            is_of(resources, &kind) && resources.contains(&entity),
            Some(entity),
        ),
    };
    let principal = is_about(policy, principals);
    let action = match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(action) => within.actions.contains(&action),
        ActionConstraint::In(actions) => actions.iter().any(|a| within.actions.contains(a)),
    };
    let named_it = named.is_some();
    let strange = match (resource, named, resources.first()) {
        (false, Some(named), Some(own)) => strangeness(&named, own),
        _ => 0,
    };
    let is_about_it = resource && named_it;
    if !action && !is_about_it {
        return None;
    }
    let steps = usize::from(!resource) * 4 + usize::from(!principal) * 2 + usize::from(!action);
    Some((steps, strange))
}

/// Whether a rule's scope holds for a principal, which is the first of these, and in the others.
pub(crate) fn is_about(policy: &Policy, principals: &[EntityUid]) -> bool {
    let own = principals.first();
    let is_of = |kind: &EntityTypeName| own.is_some_and(|own| own.type_name() == kind);
    match policy.principal_constraint() {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::Is(kind) => is_of(&kind),
        PrincipalConstraint::Eq(entity) => own == Some(&entity),
        PrincipalConstraint::In(entity) => principals.contains(&entity),
        PrincipalConstraint::IsIn(kind, entity) => is_of(&kind) && principals.contains(&entity),
    }
}

/// How many parts of a name the other has not in common: labels from the right, folders from the
/// left.
fn strangeness(named: &EntityUid, own: &EntityUid) -> usize {
    let (named, own) = (named.id().unescaped(), own.id().unescaped());
    let common = if own.starts_with('/') {
        let parts = named.split('/').zip(own.split('/'));
        parts.take_while(|(a, b)| a == b).count()
    } else {
        let parts = named.rsplit('.').zip(own.rsplit('.'));
        parts.take_while(|(a, b)| a == b).count()
    };
    usize::MAX - common
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = crate::check::plain(&self.file.display().to_string());
        let place = |line: usize| format!("`{file}` line {line}");
        match self.effect {
            Effect::Permit => write!(f, "the nearest permit is `{}`", self.rule.id)?,
            Effect::Forbid => write!(f, "`{}` forbids it", self.rule.id)?,
        }
        write!(f, " ({})", place(self.line))?;
        let (clauses, word) = match self.effect {
            Effect::Permit => (&self.failed, "does not hold"),
            Effect::Forbid => (&self.matched, "holds"),
        };
        for clause in clauses {
            let text = crate::check::plain(&clause.text);
            let part = clause.part.as_str();
            write!(f, "\n  line {}: {part} `{text}` {word}", clause.line)?;
        }
        Ok(())
    }
}

impl Part {
    /// As it is called in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Action => "action",
            Self::Resource => "resource",
            Self::Condition => "condition",
        }
    }
}
