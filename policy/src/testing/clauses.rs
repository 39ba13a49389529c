//! A rule taken apart: its scope and each `when` and `unless` conjunct, each asked on its own.
//!
//! A request in, for each part whether it was seen true or false, as the rule itself would look
//! at them: in their order, and none after the first that is false.

use std::collections::HashSet;

use cedar_policy::{
    ActionConstraint, Authorizer, Context, Decision, Entities, Entity, EntityUid, Policy,
    PolicySet, PrincipalConstraint, Request as CedarRequest, ResourceConstraint,
};
use serde_json::{Value, json};

use crate::{
    History, Request, Rule, Snapshot,
    engine::{
        compile::on_large_stack,
        question::{Question, hypothetical_approval},
    },
    plain_words,
};

/// One part of a rule.
pub(super) struct Clause {
    /// The conjunct in words; none for the scope.
    pub(super) words: Option<String>,
    pub(super) seen_true: bool,
    pub(super) seen_false: bool,
    /// A rule that permits everything under this conjunct alone.
    alone: PolicySet,
}

/// One rule in its parts, the scope first.
pub(super) struct Parts {
    principal: PrincipalConstraint,
    action: ActionConstraint,
    resource: ResourceConstraint,
    pub(super) clauses: Vec<Clause>,
    named: Vec<Entity>,
}

/// Every rule of a snapshot in its parts.
pub(super) fn take_apart(snapshot: &Snapshot) -> Vec<Option<Parts>> {
    on_large_stack(|| {
        let rules = snapshot.rules().iter();
        rules.map(|rule| parts(snapshot, rule)).collect()
    })
    .unwrap_or_default()
}

fn parts(snapshot: &Snapshot, rule: &Rule) -> Option<Parts> {
    let policy = Policy::parse(None, &*rule.text).ok()?;
    let json = policy.to_json().ok()?;
    let mut clauses = vec![Clause {
        words: None,
        seen_true: false,
        seen_false: false,
        alone: PolicySet::new(),
    }];
    let conditions = json.get("conditions").and_then(Value::as_array);
    for condition in conditions.into_iter().flatten() {
        for conjunct in conjuncts(&condition["body"], condition["kind"] == "when") {
            clauses.push(clause(&conjunct, &condition["kind"])?);
        }
    }
    let nothing = History::default();
    let asker = snapshot.asker(&nothing);
    let literals: HashSet<EntityUid> = policy.entity_literals().into_iter().collect();
    let named = literals
        .iter()
        .filter_map(|literal| asker.literal(literal).ok().flatten())
        .collect();
    Some(Parts {
        principal: policy.principal_constraint(),
        action: policy.action_constraint(),
        resource: policy.resource_constraint(),
        clauses,
        named,
    })
}

/// The parts that a `when` joins by `&&`; an `unless` is one part for each that `||` joins, since
/// each lifts the rule on its own.
fn conjuncts(body: &Value, is_when: bool) -> Vec<Value> {
    let operator = if is_when { "&&" } else { "||" };
    let mut parts = Vec::new();
    let mut open = vec![body];
    while let Some(next) = open.pop() {
        match next.get(operator) {
            Some(arguments) => {
                open.push(&arguments["right"]);
                open.push(&arguments["left"]);
            }
            None => parts.push(next.clone()),
        }
    }
    parts
}

fn clause(body: &Value, kind: &Value) -> Option<Clause> {
    let alone = json!({
        "effect": "permit",
        "principal": { "op": "All" },
        "action": { "op": "All" },
        "resource": { "op": "All" },
        "conditions": [{ "kind": kind, "body": body }],
    });
    let policy = Policy::from_json(None, alone).ok()?;
    let words = plain_words::conditions(&json!([{ "kind": kind, "body": body }]));
    Some(Clause {
        words: Some(words),
        seen_true: false,
        seen_false: false,
        alone: PolicySet::from_policies([policy]).ok()?,
    })
}

impl Parts {
    /// Looks at the parts as the rule would for this request, and notes what was seen.
    pub(super) fn look(&mut self, asked: &Question<'_>, approved: bool) {
        let in_scope = self.is_in_scope(asked);
        let mut clauses = self.clauses.iter_mut();
        if let Some(scope) = clauses.next() {
            scope.note(in_scope);
        }
        if !in_scope {
            return;
        }
        let Some((request, entities)) = put(asked, &self.named, approved) else {
            return;
        };
        for clause in clauses {
            let answer = Authorizer::new().is_authorized(&request, &clause.alone, &entities);
            if answer.diagnostics().errors().next().is_some() {
                return;
            }
            let holds = answer.decision() == Decision::Allow;
            clause.note(holds);
            if !holds {
                return;
            }
        }
    }

    fn is_in_scope(&self, asked: &Question<'_>) -> bool {
        let actions = asked.within.actions;
        let principals = &asked.within.principals;
        let resources = &asked.within.resources;
        let (principal, resource) = (&asked.principal, &asked.resource);
        let action_fits = match &self.action {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(uid) => asked.action.uid == *uid,
            ActionConstraint::In(uids) => uids.iter().any(|uid| actions.contains(uid)),
        };
        let principal_fits = || match &self.principal {
            PrincipalConstraint::Any => true,
            PrincipalConstraint::Eq(uid) => principal == uid,
            PrincipalConstraint::In(uid) => principals.contains(uid),
            PrincipalConstraint::Is(kind) => principal.type_name() == kind,
            PrincipalConstraint::IsIn(kind, uid) => {
                principal.type_name() == kind && principals.contains(uid)
            }
        };
        let resource_fits = || match &self.resource {
            ResourceConstraint::Any => true,
            ResourceConstraint::Eq(uid) => resource == uid,
            ResourceConstraint::In(uid) => resources.contains(uid),
            ResourceConstraint::Is(kind) => resource.type_name() == kind,
            ResourceConstraint::IsIn(kind, uid) => {
                resource.type_name() == kind && resources.contains(uid)
            }
        };
        action_fits && principal_fits() && resource_fits()
    }
}

impl Clause {
    fn note(&mut self, holds: bool) {
        if holds {
            self.seen_true = true;
        } else {
            self.seen_false = true;
        }
    }
}

/// The question with everything that a rule's conditions can look at.
fn put(asked: &Question<'_>, named: &[Entity], approved: bool) -> Option<(CedarRequest, Entities)> {
    let mut entities = asked.entities.clone();
    let known: HashSet<EntityUid> = entities.iter().map(Entity::uid).collect();
    entities.extend(
        named
            .iter()
            .filter(|entity| !known.contains(&entity.uid()))
            .cloned(),
    );
    let mut context = asked.context.clone();
    if approved && asked.can_be_approved {
        context.push(hypothetical_approval().ok()?);
    }
    let request = CedarRequest::new(
        asked.principal.clone(),
        asked.action.uid.clone(),
        asked.resource.clone(),
        Context::from_pairs(context).ok()?,
        None,
    )
    .ok()?;
    Some((request, Entities::from_entities(entities, None).ok()?))
}

/// The question that a request puts, where it can be put.
pub(super) fn question<'a>(
    snapshot: &'a Snapshot,
    past: &'a History,
    request: &Request,
) -> Option<Question<'a>> {
    snapshot.asker(past).ask(request).ok()
}
