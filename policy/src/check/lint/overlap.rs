//! Rules beside each other: duplicates, rules that a broader one covers, and forbids with nothing
//! to forbid. Only what scopes prove.

use std::collections::{BTreeSet, HashMap};

use cedar_policy::Effect;

use super::{
    groups::Membership,
    rule::{Linted, Named, Scope},
};
use crate::{
    Trust,
    check::{Code, Findings, Severity},
};

pub(super) fn lint(
    rules: &[Linted<'_>],
    membership: &Membership,
    trust: Trust,
    findings: &mut Findings,
) {
    let duplicates = duplicates(rules, findings);
    let broad = Broad::new(rules);
    for (at, rule) in rules.iter().enumerate() {
        if duplicates.contains(&at) {
            continue;
        }
        if let Some(cover) = broad.covering(rules, at, rule.effect, membership) {
            findings.note(|| {
                let message = format!("{} says the same for all of it", cover.name());
                rule.finding(Code::Shadowed, Severity::Warning, with_rule(&message))
                    .with_help("take this rule out, or narrow the broader one")
            });
        } else if rule.effect == Effect::Permit
            && let Some(cover) = broad.covering(rules, at, Effect::Forbid, membership)
        {
            findings.note(|| {
                let message = format!("{} forbids all that this rule permits", cover.name());
                rule.finding(Code::Overruled, Severity::Warning, with_rule(&message))
                    .with_help("a forbid always wins: narrow it, or take this rule out")
            });
        }
    }
    nothing_to_forbid(rules, membership, trust, findings);
}

fn duplicates(rules: &[Linted<'_>], findings: &mut Findings) -> BTreeSet<usize> {
    let mut first: HashMap<&str, &Linted<'_>> = HashMap::new();
    let mut found = BTreeSet::new();
    for (at, rule) in rules.iter().enumerate() {
        match first.get(rule.meaning.as_str()) {
            Some(other) => {
                found.insert(at);
                findings.note(|| {
                    let message = format!("{} says exactly the same", other.name());
                    rule.finding(Code::Duplicate, Severity::Warning, with_rule(&message))
                        .with_help("take one of them out")
                });
            }
            None => {
                first.insert(&rule.meaning, rule);
            }
        }
    }
    found
}

/// Rules without a condition, found by what their scope names.
struct Broad(HashMap<Key, Vec<usize>>);

/// Whether it permits, and what principal and resource name.
type Key = (bool, Option<Named>, Option<Named>);

impl Broad {
    fn new(rules: &[Linted<'_>]) -> Self {
        let mut by_scope: HashMap<_, Vec<usize>> = HashMap::new();
        for (at, rule) in rules.iter().enumerate() {
            if rule.conditions.is_empty() {
                let key = (
                    rule.effect == Effect::Permit,
                    rule.principal.entity.clone(),
                    rule.resource.entity.clone(),
                );
                by_scope.entry(key).or_default().push(at);
            }
        }
        Self(by_scope)
    }

    /// A rule of this effect that takes in everything that `rules[at]` does. Of two that take in
    /// each other the first stays.
    fn covering<'r, 'a>(
        &self,
        rules: &'r [Linted<'a>],
        at: usize,
        effect: Effect,
        membership: &Membership,
    ) -> Option<&'r Linted<'a>> {
        let rule = rules.get(at)?;
        let principals = wider(&rule.principal, membership);
        let resources = wider(&rule.resource, membership);
        let mut candidates = principals.iter().flat_map(|principal| {
            resources.iter().flat_map(|resource| {
                let key = (
                    effect == Effect::Permit,
                    principal.clone(),
                    resource.clone(),
                );
                self.0.get(&key).into_iter().flatten().copied()
            })
        });
        candidates.find_map(|other| {
            let cover = rules.get(other)?;
            let is_cover = other != at
                && covers(cover, rule, membership)
                && (effect != rule.effect
                    || other < at
                    || !(rule.conditions.is_empty() && covers(rule, cover, membership)));
            is_cover.then_some(cover)
        })
    }
}

/// What a scope that takes in this one can name.
fn wider(scope: &Scope, membership: &Membership) -> Vec<Option<Named>> {
    let above = scope
        .entity
        .iter()
        .flat_map(|entity| membership.above(entity));
    above.map(Some).chain([None]).collect()
}

/// Whether every request in the scope of `narrow` is in the scope of `broad`.
fn covers(broad: &Linted<'_>, narrow: &Linted<'_>, membership: &Membership) -> bool {
    narrow.actions.is_subset(&broad.actions)
        && scope_covers(&broad.principal, &narrow.principal, membership)
        && scope_covers(&broad.resource, &narrow.resource, membership)
}

fn scope_covers(broad: &Scope, narrow: &Scope, membership: &Membership) -> bool {
    let kind = broad.kind.is_none() || broad.kind == narrow.kind;
    let entity = match (&broad.entity, &narrow.entity) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(inner)) if broad.exact => narrow.exact && wide == inner,
        (Some(wide), Some(inner)) => membership.is_in(inner, wide),
    };
    kind && entity
}

/// Most pairs of rules that are compared; beyond it nothing is claimed.
const MOST_PAIRS: usize = 2_000_000;

/// Forbids that no permit of the set overlaps. A layer that may only forbid narrows what others
/// permit, and a set without permits is made for that, so there nothing is said.
fn nothing_to_forbid(
    rules: &[Linted<'_>],
    membership: &Membership,
    trust: Trust,
    findings: &mut Findings,
) {
    let permits: Vec<&Linted<'_>> = rules
        .iter()
        .filter(|rule| rule.effect == Effect::Permit)
        .collect();
    if permits.is_empty() {
        return;
    }
    let mut pairs = 0;
    for rule in rules {
        if rule.effect == Effect::Permit || !trust.may_permit(rule.file.layer) {
            continue;
        }
        let overlapped = permits.iter().any(|permit| {
            pairs += 1;
            pairs > MOST_PAIRS || !are_disjoint(permit, rule, membership)
        });
        if !overlapped && !rule.actions.is_empty() {
            findings.note(|| {
                let message = "no rule permits anything of what this one forbids".into();
                rule.finding(Code::NothingToForbid, Severity::Note, message)
                    .with_help("it may stand as a safeguard; otherwise look for a misspelt name")
            });
        }
    }
}

fn are_disjoint(one: &Linted<'_>, other: &Linted<'_>, membership: &Membership) -> bool {
    one.actions.is_disjoint(&other.actions)
        || scopes_are_disjoint(&one.resource, &other.resource, membership)
        || scopes_are_disjoint(&one.principal, &other.principal, membership)
}

fn scopes_are_disjoint(one: &Scope, other: &Scope, membership: &Membership) -> bool {
    let kinds = one.kind.is_some() && other.kind.is_some() && one.kind != other.kind;
    let (Some(a), Some(b)) = (&one.entity, &other.entity) else {
        return kinds;
    };
    let apart = match (one.exact, other.exact) {
        (true, true) => a != b,
        (true, false) => is_decidable(a, b) && !membership.is_in(a, b),
        (false, true) => is_decidable(b, a) && !membership.is_in(b, a),
        (false, false) => is_a_tree(a, b) && !membership.is_in(a, b) && !membership.is_in(b, a),
    };
    kinds || apart
}

/// Whether it is known, without a request, that the one is or is not in the other.
fn is_decidable(entity: &Named, other: &Named) -> bool {
    matches!(
        (entity.kind.as_str(), other.kind.as_str()),
        ("Host", "Domain" | "HostGroup") | ("Folder" | "File", "Folder") | ("Address", "Network")
    )
}

/// Whether what is in both must be in one of them within the other. A session has one user, one
/// agent and one platform, so two of them are apart.
fn is_a_tree(one: &Named, other: &Named) -> bool {
    let trees = ["Domain", "Folder", "Network", "User", "Agent", "Platform"];
    one.kind == other.kind && trees.contains(&one.kind.as_str())
}

/// `rule` before a name, `the rule at` before a place.
fn with_rule(text: &str) -> String {
    match text.strip_prefix("at ") {
        Some(place) => format!("the rule at {place}"),
        None => format!("rule {text}"),
    }
}
