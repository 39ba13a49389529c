//! The few rules that can apply to a request, found without looking at the others.
//!
//! Rules are kept by the scope they declare: action, then resource, then principal. A rule whose
//! scope says `resource ==` or `in` X can only match where X is the resource or one of its
//! parents, so the slices of the request's own entities and the "any" slices hold every rule that
//! can match. A rule outside them has a false scope, and a false scope has no errors either.

use std::{collections::HashMap, sync::Arc};

use cedar_policy::{
    ActionConstraint, Entity, EntityUid, Policy, PolicySet, PolicySetError, PrincipalConstraint,
    ResourceConstraint,
};

use super::question::Question;

/// Every rule, by its scope.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    any_action: ByResource,
    by_action: HashMap<EntityUid, ByResource>,
}

/// Rules of one scope, ready to be evaluated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slice {
    pub(crate) rules: PolicySet,
    /// Entities that the rules' conditions name.
    pub(crate) named: HashMap<EntityUid, Entity>,
}

type ByResource = Scoped<ByPrincipal>;
type ByPrincipal = Scoped<Arc<Slice>>;

/// Things by the entity that a scope names, and those whose scope names none.
#[derive(Debug, Default)]
struct Scoped<T> {
    any: Option<T>,
    by_entity: HashMap<EntityUid, T>,
}

impl Slices {
    /// Adds a rule under every scope it declares.
    pub(crate) fn add(
        &mut self,
        rule: &Policy,
        named: &[Entity],
    ) -> Result<(), Box<PolicySetError>> {
        let actions = match rule.action_constraint() {
            ActionConstraint::Any => {
                return add_scoped(&mut self.any_action, rule, named);
            }
            ActionConstraint::Eq(action) => vec![action],
            ActionConstraint::In(mut actions) => {
                // The same action twice is one scope.
                actions.sort();
                actions.dedup();
                actions
            }
        };
        for action in actions {
            add_scoped(self.by_action.entry(action).or_default(), rule, named)?;
        }
        Ok(())
    }

    /// The slices that can hold a rule for this question. A rule that names an action and its
    /// group is in two of them, and says the same in both.
    pub(crate) fn of(&self, question: &Question<'_>) -> Vec<Arc<Slice>> {
        let mut found = Vec::with_capacity(8);
        let by_action = question
            .action
            .scopes
            .iter()
            .filter_map(|scope| self.by_action.get(scope));
        for by_resource in by_action.chain([&self.any_action]) {
            for by_principal in by_resource.under(&question.resources) {
                found.extend(by_principal.under(&question.principals).cloned());
            }
        }
        found
    }
}

impl<T: Default> Scoped<T> {
    fn entry(&mut self, entity: Option<EntityUid>) -> &mut T {
        match entity {
            Some(entity) => self.by_entity.entry(entity).or_default(),
            None => self.any.get_or_insert_default(),
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
            .chain(&self.any)
    }
}

fn add_scoped(
    by_resource: &mut ByResource,
    rule: &Policy,
    named: &[Entity],
) -> Result<(), Box<PolicySetError>> {
    let slice = by_resource
        .entry(resource_scope(rule))
        .entry(principal_scope(rule));
    // Nobody shares it while the set is loaded, so this copies nothing.
    let slice = Arc::make_mut(slice);
    slice.rules.add(rule.clone()).map_err(Box::new)?;
    for entity in named {
        slice.named.insert(entity.uid(), entity.clone());
    }
    Ok(())
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
