//! One rule as the lints look at it: scope, actions and conditions as data.

use std::{
    collections::{BTreeSet, HashSet},
    ops::Range,
};

use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicyId, PolicySet, PrincipalConstraint,
    ResourceConstraint,
};
use serde_json::Value;

use super::{asked::Asked, statements};
use crate::{
    check::{Code, Finding, Severity},
    source::PolicyFile,
};

/// A rule and where it stands.
pub(super) struct Linted<'a> {
    pub(super) file: &'a PolicyFile,
    pub(super) range: Range<usize>,
    pub(super) policy: Policy,
    pub(super) effect: Effect,
    pub(super) principal: Scope,
    pub(super) resource: Scope,
    /// Every action that applies to something and that the scope takes in.
    pub(super) actions: BTreeSet<String>,
    /// Bodies of `when` and `unless`, in Cedar's JSON form.
    pub(super) conditions: Vec<Condition>,
    /// Everything a rule says but its annotations, to tell duplicates.
    pub(super) meaning: String,
}

/// What a scope says about principal or resource. Nothing given: any.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Scope {
    /// `is T`, or the type of the entity that `==` names.
    pub(super) kind: Option<String>,
    /// The entity that `==` or `in` names.
    pub(super) entity: Option<Named>,
    /// Whether it was `==`.
    pub(super) exact: bool,
}

/// An entity by the names of its type and of itself.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Named {
    pub(super) kind: String,
    pub(super) id: String,
}

/// `when { body }` or `unless { body }`.
pub(super) struct Condition {
    pub(super) unless: bool,
    pub(super) body: Value,
}

impl<'a> Linted<'a> {
    /// The rules of one file. One that cannot be read again is left out: it was reported before.
    pub(super) fn of_file(file: &'a PolicyFile, asked: &Asked) -> Vec<Self> {
        let Ok(set) = file.text.parse::<PolicySet>() else {
            return Vec::new();
        };
        statements(file)
            .into_iter()
            .enumerate()
            .filter_map(|(number, statement)| {
                let policy = set.policy(&PolicyId::new(format!("policy{number}")))?;
                Some(Self::new(file, statement.range, policy.clone(), asked))
            })
            .collect()
    }

    fn new(file: &'a PolicyFile, range: Range<usize>, policy: Policy, asked: &Asked) -> Self {
        let actions = actions(&policy.action_constraint(), asked);
        let mut json = policy.to_json().unwrap_or_default();
        let conditions = json
            .get("conditions")
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Condition::read).collect())
            .unwrap_or_default();
        if let Some(fields) = json.as_object_mut() {
            fields.remove("annotations");
        }
        Self {
            effect: policy.effect(),
            principal: Scope::of_principal(policy.principal_constraint()),
            resource: Scope::of_resource(policy.resource_constraint()),
            actions,
            conditions,
            meaning: json.to_string(),
            file,
            range,
            policy,
        }
    }

    /// The rule's text with its annotations.
    pub(super) fn text(&self) -> &'a str {
        self.file.text.get(self.range.clone()).unwrap_or_default()
    }

    /// How to name it: its `@id`, or file and line.
    pub(super) fn name(&self) -> String {
        match self.policy.annotation("id") {
            Some(id) => format!("`{id}`"),
            None => {
                let (line, _, _) = crate::check::locate(&self.file.text, self.first_word());
                format!("at {}:{line}", self.file.path.display())
            }
        }
    }

    /// A finding at the rule's first word behind its annotations.
    pub(super) fn finding(&self, code: Code, severity: Severity, message: String) -> Finding {
        self.finding_at(code, severity, self.first_word(), message)
    }

    /// A finding where `clause` stands in the rule, or at its first word.
    pub(super) fn finding_in(
        &self,
        code: Code,
        severity: Severity,
        clause: &str,
        message: String,
    ) -> Finding {
        let start = self.first_word();
        let at = self
            .file
            .text
            .get(start..self.range.end)
            .and_then(|text| text.find(clause))
            .map_or(start, |found| start + found);
        self.finding_at(code, severity, at, message)
    }

    fn finding_at(&self, code: Code, severity: Severity, at: usize, message: String) -> Finding {
        Finding {
            severity,
            ..Finding::at(&self.file.path, &self.file.text, at, message).with_code(code)
        }
    }

    /// Where `permit` or `forbid` stands. Annotations come first; their values are strings.
    fn first_word(&self) -> usize {
        let word = match self.effect {
            Effect::Permit => "permit",
            Effect::Forbid => "forbid",
        };
        let mut in_string = false;
        let mut escaped = false;
        for (at, c) in self.text().char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if in_string => escaped = true,
                '"' => in_string = !in_string,
                _ if !in_string && self.text().get(at..).is_some_and(|t| t.starts_with(word)) => {
                    return self.range.start + at;
                }
                _ => {}
            }
        }
        self.range.start
    }

    /// Whether a condition looks at `variable.attribute`, or whether it is there.
    pub(super) fn looks_at(&self, variable: &str, attribute: &str) -> bool {
        self.conditions
            .iter()
            .any(|condition| looks_at(&condition.body, variable, attribute))
    }
}

impl Scope {
    fn of_principal(constraint: PrincipalConstraint) -> Self {
        match constraint {
            PrincipalConstraint::Any => Self::default(),
            PrincipalConstraint::Is(kind) => Self::is(kind.to_string(), None),
            PrincipalConstraint::IsIn(kind, entity) => Self::is(kind.to_string(), Some(entity)),
            PrincipalConstraint::In(entity) => Self::within(entity),
            PrincipalConstraint::Eq(entity) => Self::exactly(entity),
        }
    }

    fn of_resource(constraint: ResourceConstraint) -> Self {
        match constraint {
            ResourceConstraint::Any => Self::default(),
            ResourceConstraint::Is(kind) => Self::is(kind.to_string(), None),
            ResourceConstraint::IsIn(kind, entity) => Self::is(kind.to_string(), Some(entity)),
            ResourceConstraint::In(entity) => Self::within(entity),
            ResourceConstraint::Eq(entity) => Self::exactly(entity),
        }
    }

    fn is(kind: String, entity: Option<EntityUid>) -> Self {
        Self {
            kind: Some(kind),
            entity: entity.as_ref().map(Named::of),
            exact: false,
        }
    }

    fn within(entity: EntityUid) -> Self {
        Self {
            kind: None,
            entity: Some(Named::of(&entity)),
            exact: false,
        }
    }

    fn exactly(entity: EntityUid) -> Self {
        Self {
            kind: Some(entity.type_name().to_string()),
            entity: Some(Named::of(&entity)),
            exact: true,
        }
    }

    /// The named entity's type and id.
    pub(super) fn named(&self) -> Option<(&str, &str)> {
        let entity = self.entity.as_ref()?;
        Some((&entity.kind, &entity.id))
    }
}

impl Named {
    pub(super) fn new(kind: &str, id: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            id: id.to_owned(),
        }
    }

    fn of(entity: &EntityUid) -> Self {
        Self::new(&entity.type_name().to_string(), entity.id().unescaped())
    }
}

impl Condition {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            unless: value.get("kind")?.as_str()? == "unless",
            body: value.get("body")?.clone(),
        })
    }
}

/// The askable actions that the scope takes in.
fn actions(constraint: &ActionConstraint, asked: &Asked) -> BTreeSet<String> {
    let named: HashSet<&EntityUid> = match constraint {
        ActionConstraint::Any => HashSet::new(),
        ActionConstraint::Eq(action) => HashSet::from([action]),
        ActionConstraint::In(actions) => actions.iter().collect(),
    };
    let any = matches!(constraint, ActionConstraint::Any);
    let exact = matches!(constraint, ActionConstraint::Eq(_));
    asked
        .actions()
        .filter(|(uid, groups)| {
            any || named.contains(uid) || !exact && groups.iter().any(|group| named.contains(group))
        })
        .map(|(uid, _)| uid.id().unescaped().to_owned())
        .collect()
}

/// A loop over the expression; its depth is bounded when the set is loaded, and costs no stack.
pub(super) fn looks_at(body: &Value, variable: &str, attribute: &str) -> bool {
    let is_variable = |value: &Value| value.get("Var").and_then(Value::as_str) == Some(variable);
    let mut open = vec![body];
    while let Some(value) = open.pop() {
        if let Some(access) = value.get(".").or_else(|| value.get("has"))
            && access.get("left").is_some_and(is_variable)
        {
            if access.get("attr").and_then(Value::as_str) == Some(attribute) {
                return true;
            }
            continue;
        }
        match value {
            Value::Object(fields) => open.extend(fields.values()),
            Value::Array(list) => open.extend(list),
            _ => {}
        }
    }
    false
}
