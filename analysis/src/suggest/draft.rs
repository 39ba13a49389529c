//! The text of a draft: rules in Cedar, host groups in TOML, each with its evidence as comments.

use std::fmt::Write as _;

use cordon_policy::source::{PolicyFile, PolicySource};

use super::{evidence::Evidence, plan::Suggestion};

/// A draft's two files. It is no live set: somebody reads it and takes from it what is meant.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Draft {
    /// The rules.
    pub cedar: String,
    /// The host groups that they name; empty where there are none.
    pub toml: String,
}

/// What names of the draft begin with: nothing in the current set does.
#[derive(Debug)]
pub(super) struct Prefix(String);

impl Prefix {
    pub(super) fn free_in(current: &PolicySource) -> Self {
        let is_taken = |prefix: &str| current.files.iter().any(|file| file.text.contains(prefix));
        let mut prefix = "suggested-".to_owned();
        let mut round = 1_u32;
        while is_taken(&prefix) {
            round += 1;
            prefix = format!("suggested-{round}-");
        }
        Self(prefix)
    }

    pub(super) fn name(&self, number: usize) -> String {
        format!("{}{number}", self.0)
    }
}

impl Draft {
    pub(super) fn of(rules: &[Suggestion]) -> Self {
        let mut cedar = String::new();
        let mut toml = String::new();
        for rule in rules {
            if !cedar.is_empty() {
                cedar.push('\n');
            }
            comment(&mut cedar, rule);
            cedar.push_str(&rule.cedar);
            if let Some(group) = &rule.group {
                if toml.is_empty() {
                    toml.push_str("[host_groups]\n");
                }
                // Writing to a string cannot fail.
                let _infallible = writeln!(toml, "{} = [", group.name);
                for member in &group.members {
                    let _infallible = writeln!(toml, "  {member:?},");
                }
                toml.push_str("]\n");
            }
        }
        Self { cedar, toml }
    }

    /// The set with the draft in it. It is its owner who would take the draft over, so the draft
    /// speaks in the most trusted layer that the set has.
    pub fn within(&self, current: &PolicySource) -> PolicySource {
        let layers = current.files.iter().map(|file| file.layer);
        let layer = layers.min().unwrap_or_default();
        let file = |path, text: &str| PolicyFile {
            layer,
            ..PolicyFile::new(path, text)
        };
        let files = vec![
            file("draft.cedar", &self.cedar),
            file("draft.toml", &self.toml),
        ];
        current.clone().join(PolicySource::new("draft", files))
    }
}

fn comment(cedar: &mut String, rule: &Suggestion) {
    let Evidence {
        count,
        sessions,
        users,
        examples,
        record,
        ..
    } = &rule.evidence;
    let lines = [
        format!(
            "Refused {count} time(s) in {sessions} session(s) of {}; first in record {record}.",
            users.join(", ")
        ),
        format!("For example: {}.", examples.join("; ")),
    ];
    let generalised = (!rule.generalised.is_empty()).then(|| {
        format!(
            "Stands for several names below it, and allows the others as well: {}.",
            rule.generalised.join(", ")
        )
    });
    for line in lines.into_iter().chain(generalised) {
        let _infallible = writeln!(cedar, "// {}", line.replace(['\n', '\r'], " "));
    }
}
