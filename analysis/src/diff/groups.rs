//! Host groups of two sets as data: who is in and who is out.

use std::collections::{BTreeMap, BTreeSet};

use cordon_policy::source::{PolicyFile, PolicySource};
use serde::{Deserialize, Serialize};

/// A group whose own members changed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct GroupChange {
    /// Its name.
    pub name: String,
    /// New members, as the data file has them.
    pub added: Vec<String>,
    /// Members that are gone.
    pub removed: Vec<String>,
}

pub(super) type Groups = BTreeMap<String, BTreeSet<String>>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct DataFile {
    host_groups: Groups,
}

/// The groups of a set that has loaded, so names and members are well formed.
pub(super) fn of(source: &PolicySource) -> Result<Groups, String> {
    let mut groups = Groups::new();
    for file in &source.files {
        groups.extend(read(file)?);
    }
    Ok(groups)
}

fn read(file: &PolicyFile) -> Result<Groups, String> {
    let shown = |error: &dyn std::fmt::Display| format!("`{}`: {error}", file.path.display());
    match file.path.extension().and_then(|ending| ending.to_str()) {
        Some("toml") => toml::from_str(&file.text)
            .map(|data: DataFile| data.host_groups)
            .map_err(|error| shown(&error)),
        Some("json") => serde_json::from_str(&file.text)
            .map(|data: DataFile| data.host_groups)
            .map_err(|error| shown(&error)),
        _rules => Ok(Groups::new()),
    }
}

/// Groups that differ, in the order of their names.
pub(super) fn changes(old: &PolicySource, new: &PolicySource) -> Result<Vec<GroupChange>, String> {
    let (old, new) = (of(old)?, of(new)?);
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let none = BTreeSet::new();
    Ok(names
        .into_iter()
        .map(|name| {
            let before = old.get(name).unwrap_or(&none);
            let after = new.get(name).unwrap_or(&none);
            GroupChange {
                name: name.clone(),
                added: after.difference(before).cloned().collect(),
                removed: before.difference(after).cloned().collect(),
            }
        })
        .filter(|change| !change.added.is_empty() || !change.removed.is_empty())
        .collect())
}
