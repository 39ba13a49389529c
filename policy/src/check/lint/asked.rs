//! What can be asked: every action of the schema with the types it applies to.

use std::collections::{HashMap, HashSet};

use cedar_policy::{EntityUid, Schema};

use super::rule::Scope;

/// The schema's actions, their groups, and what they apply to.
pub(super) struct Asked {
    actions: HashMap<EntityUid, HashSet<EntityUid>>,
    environments: Vec<Environment>,
    /// For each type: itself and the types that an entity of it can be in.
    within: HashMap<String, HashSet<String>>,
}

/// One combination that a request can have.
pub(super) struct Environment {
    pub(super) principal: String,
    pub(super) action: String,
    pub(super) resource: String,
}

impl Asked {
    pub(super) fn new(schema: &Schema) -> Self {
        let groups = schema.action_entities().ok();
        let mut asked = Self {
            actions: HashMap::new(),
            environments: Vec::new(),
            within: HashMap::new(),
        };
        for env in schema.request_envs() {
            let action = env.action();
            let above = groups
                .iter()
                .flat_map(|entities| entities.ancestors(action));
            asked
                .actions
                .entry(action.clone())
                .or_insert_with(|| above.flatten().cloned().collect());
            asked.environments.push(Environment {
                principal: env.principal().to_string(),
                action: action.id().unescaped().to_owned(),
                resource: env.resource().to_string(),
            });
        }
        for kind in schema.entity_types() {
            let above = schema.ancestors(kind).into_iter().flatten();
            let kinds = above.chain([kind]).map(ToString::to_string);
            asked.within.insert(kind.to_string(), kinds.collect());
        }
        asked
    }

    /// Every action that applies to something, with the groups it is in.
    pub(super) fn actions(&self) -> impl Iterator<Item = (&EntityUid, &HashSet<EntityUid>)> {
        self.actions.iter()
    }

    /// What the action applies to.
    pub(super) fn environments_of(&self, action: &str) -> impl Iterator<Item = &Environment> {
        self.environments
            .iter()
            .filter(move |env| env.action == action)
    }

    /// Whether an entity of this type can be in the scope.
    pub(super) fn can_match(&self, scope: &Scope, kind: &str) -> bool {
        let is_kind = scope.kind.as_deref().is_none_or(|wanted| wanted == kind);
        let is_within = scope.exact
            || scope.entity.as_ref().is_none_or(|entity| {
                let above = self.within.get(kind);
                above.is_some_and(|kinds| kinds.contains(&entity.kind))
            });
        is_kind && is_within
    }
}
