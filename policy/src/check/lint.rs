//! What is dubious about a set that loads: rules that do nothing, and rules that do more than
//! their author thinks.
//!
//! Files that have passed every check in, findings out. Says nothing that it cannot prove: where
//! two scopes may or may not overlap, they are taken to. Near-linear in the number of rules.

mod asked;
mod groups;
mod overlap;
mod rule;
mod scope;
mod upgrade;
mod wording;

use std::{collections::HashSet, path::PathBuf};

use self::{asked::Asked, groups::Membership, rule::Linted};
use super::{Finding, Findings, locate};
use crate::{
    engine::{
        bounds::{self, Statement},
        compile::is_data,
        data::HostGroups,
    },
    schema::schema,
    source::{PolicyFile, PolicySource},
};

/// What was found.
#[derive(Default)]
pub(crate) struct Linting {
    pub(crate) findings: Vec<Finding>,
    /// Rules that never match, by file and first line, for which a finding says why.
    pub(crate) explained: HashSet<(PathBuf, usize)>,
}

/// Looks over a set that loads. Must run on a large stack, like everything that parses.
pub(crate) fn lint(source: &PolicySource) -> Linting {
    let Ok(schema) = schema() else {
        return Linting::default();
    };
    let asked = Asked::new(schema);
    let (data, rules): (Vec<&PolicyFile>, Vec<&PolicyFile>) =
        source.files.iter().partition(|file| is_data(file));
    let host_groups = HostGroups::read(&data, &mut Findings::default());
    let membership = Membership::new(&host_groups);
    let linted: Vec<Linted<'_>> = rules
        .into_iter()
        .flat_map(|file| Linted::of_file(file, &asked))
        .collect();

    let mut findings = Findings::default();
    let mut explained = HashSet::new();
    for rule in &linted {
        if scope::lint(rule, &asked, &mut findings) {
            let (line, _, _) = locate(&rule.file.text, rule.range.start);
            explained.insert((rule.file.path.clone(), line));
        }
        wording::lint(rule, &mut findings);
        upgrade::lint(rule, &mut findings);
    }
    overlap::lint(&linted, &membership, source.trust, &mut findings);
    groups::lint(&linted, &host_groups, &data, &mut findings);
    Linting {
        findings: findings.into_list(),
        explained,
    }
}

/// Whether a file is within what the parser takes; a set that loads is.
fn statements(file: &PolicyFile) -> Vec<Statement> {
    bounds::scan(&file.text).unwrap_or_default()
}

#[cfg(test)]
mod tests;
