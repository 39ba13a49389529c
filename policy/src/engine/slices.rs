//! The few rules that can apply to a request, found without looking at the others.
//!
//! Rules are kept by the scope they declare: action, then resource, then principal. A rule whose
//! scope says `resource ==` or `in` X can only match where X is the resource or one of its
//! parents, so the slices of the request's own entities and the "any" slices hold every rule that
//! can match. A rule outside them has a false scope, and a false scope has no errors either.

use std::collections::HashMap;

use cedar_policy::{ActionConstraint, EntityUid, Policy, PrincipalConstraint, ResourceConstraint};

/// Positions of every rule, by its scope. Knows nothing of any schema.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    any_action: ByResource,
    by_action: HashMap<EntityUid, ByResource>,
}

/// The entities that a scope can name and still hold for a request: each is the request's own
/// action, principal or resource, which is the first of its list, or one that it is in.
pub(crate) struct Within<'a> {
    pub(crate) actions: &'a [EntityUid],
    pub(crate) principals: Vec<EntityUid>,
    pub(crate) resources: Vec<EntityUid>,
}

type ByResource = Scoped<ByPrincipal>;
type ByPrincipal = Scoped<Vec<usize>>;

/// Things by the entity that a scope names, and those whose scope names none.
#[derive(Debug, Default)]
struct Scoped<T> {
    any: T,
    by_entity: HashMap<EntityUid, T>,
}

impl Slices {
    /// Adds a rule, by its position, under every scope it declares.
    pub(crate) fn add(&mut self, at: usize, rule: &Policy) {
        match rule.action_constraint() {
            ActionConstraint::Any => self.any_action.add(at, rule),
            ActionConstraint::Eq(action) => self.by_action.entry(action).or_default().add(at, rule),
            ActionConstraint::In(actions) => {
                for action in actions {
                    self.by_action.entry(action).or_default().add(at, rule);
                }
            }
        }
    }

    /// Every rule that can match, by its position: each once, in the order of the set.
    pub(crate) fn of(&self, within: &Within<'_>) -> Vec<usize> {
        let mut found = Vec::new();
        let by_action = within.actions.iter();
        let by_action = by_action.filter_map(|action| self.by_action.get(action));
        for by_resource in by_action.chain([&self.any_action]) {
            for by_principal in by_resource.under(&within.resources) {
                for rules in by_principal.under(&within.principals) {
                    found.extend_from_slice(rules);
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Rules that come near: those about the action, whatever else they say, and those about the
    /// resource and the principal, whatever action they name.
    pub(crate) fn near(&self, within: &Within<'_>) -> Vec<usize> {
        let actions = within.actions.iter();
        let by_action = actions.filter_map(|action| self.by_action.get(action));
        let about = by_action.chain([&self.any_action]);
        let mut found: Vec<usize> = about
            .flat_map(Scoped::all)
            .flat_map(Scoped::all)
            .flatten()
            .copied()
            .collect();
        for by_resource in self.by_action.values() {
            for by_principal in by_resource.under(&within.resources) {
                for rules in by_principal.under(&within.principals) {
                    found.extend_from_slice(rules);
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl ByResource {
    fn add(&mut self, at: usize, rule: &Policy) {
        self.entry(resource_scope(rule))
            .entry(principal_scope(rule))
            .push(at);
    }
}

impl<T: Default> Scoped<T> {
    fn entry(&mut self, entity: Option<EntityUid>) -> &mut T {
        match entity {
            Some(entity) => self.by_entity.entry(entity).or_default(),
            None => &mut self.any,
        }
    }

    fn under<'a>(&'a self, entities: &[EntityUid]) -> impl Iterator<Item = &'a T> {
        let scoped = if self.by_entity.is_empty() {
            &[]
        } else {
            entities
        };
        scoped
            .iter()
            .filter_map(|entity| self.by_entity.get(entity))
            .chain([&self.any])
    }

    fn all(&self) -> impl Iterator<Item = &T> {
        self.by_entity.values().chain([&self.any])
    }
}

fn resource_scope(rule: &Policy) -> Option<EntityUid> {
    match rule.resource_constraint() {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
        ResourceConstraint::In(entity)
        | ResourceConstraint::Eq(entity)
        | ResourceConstraint::IsIn(_, entity) => Some(entity),
    }
}

fn principal_scope(rule: &Policy) -> Option<EntityUid> {
    match rule.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        PrincipalConstraint::In(entity)
        | PrincipalConstraint::Eq(entity)
        | PrincipalConstraint::IsIn(_, entity) => Some(entity),
    }
}
