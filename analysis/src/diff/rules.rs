//! Rules of two sets by id: added, removed, changed.

use std::collections::BTreeMap;

use cordon_policy::{Rule, Snapshot};
use serde::Serialize;

use super::Sides;

/// A rule that is not as it was.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RuleChange {
    /// Its id.
    pub id: String,
    /// What became of it.
    pub kind: RuleChangeKind,
}

/// What became of a rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its text, its layer or its observe mode is another.
    Changed,
}

pub(super) fn changes(sides: &Sides) -> Vec<RuleChange> {
    let (old, new) = (by_id(&sides.old), by_id(&sides.new));
    let mut changes: Vec<RuleChange> = Vec::new();
    let mut add = |id: &str, kind| {
        changes.push(RuleChange {
            id: id.to_owned(),
            kind,
        });
    };
    for (id, rule) in &old {
        match new.get(id) {
            None => add(id, RuleChangeKind::Removed),
            Some(now) if !is_same(rule, now) => add(id, RuleChangeKind::Changed),
            Some(_) => {}
        }
    }
    for id in new.keys().filter(|id| !old.contains_key(*id)) {
        add(id, RuleChangeKind::Added);
    }
    changes.sort_by(|a, b| a.id.cmp(&b.id));
    changes
}

fn by_id(snapshot: &Snapshot) -> BTreeMap<&str, &Rule> {
    snapshot
        .rules()
        .iter()
        .map(|rule| (&*rule.id, rule))
        .collect()
}

fn is_same(old: &Rule, new: &Rule) -> bool {
    old.text == new.text && old.layer == new.layer && old.observe == new.observe
}
