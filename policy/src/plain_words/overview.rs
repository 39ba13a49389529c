//! A whole policy set in words, in the order in which people ask: may it start, what does it
//! reach, which files, and the rest.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::{
    actions::{self, Kind},
    parse, quoted, sentence,
};
use crate::{
    Effect, Layer, Rule, Snapshot,
    check::Findings,
    engine::{
        compile::{is_data, on_large_stack},
        data::{HostGroup, HostGroups, Member},
    },
    source::PolicySource,
    testing::Report,
};

/// What a policy set says, in words.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Overview {
    /// Name of the set.
    pub policy: String,
    /// Its digest.
    pub digest: String,
    /// Rules by what they are about; sections without rules are left out.
    pub sections: Vec<Section>,
    /// Host groups, where the data files were at hand.
    pub groups: Vec<GroupInWords>,
    /// What its tests cover, where they were at hand.
    pub tests: Option<String>,
}

/// Rules about one kind of request.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// What they are about.
    pub title: &'static str,
    /// First what is forbidden, because that wins.
    pub rules: Vec<RuleInWords>,
}

/// One rule.
#[derive(Clone, Debug, Serialize)]
pub struct RuleInWords {
    /// Its `@id`, or file and line.
    pub id: String,
    /// What it does.
    pub effect: Effect,
    /// Whose it is.
    pub layer: Layer,
    /// What it says.
    pub words: String,
    /// Its `@reason`.
    pub reason: Option<String>,
    /// Its file.
    pub file: PathBuf,
    /// Its line.
    pub line: usize,
}

/// One host group.
#[derive(Clone, Debug, Serialize)]
pub struct GroupInWords {
    /// Its name.
    pub name: String,
    /// Its members as a data file spells them.
    pub members: Vec<String>,
}

impl Overview {
    /// The rules of a snapshot in words.
    pub fn of(snapshot: &Snapshot) -> Self {
        let rules = on_large_stack(|| snapshot.rules().iter().map(in_words).collect::<Vec<_>>())
            .unwrap_or_default();
        let mut by_kind: BTreeMap<Kind, Vec<RuleInWords>> = BTreeMap::new();
        for (kind, rule) in rules {
            by_kind.entry(kind).or_default().push(rule);
        }
        let mut sections: Vec<Section> = Vec::new();
        for (kind, rules) in by_kind {
            match sections
                .last_mut()
                .filter(|last| last.title == kind.section())
            {
                Some(last) => last.rules.extend(rules),
                None => sections.push(Section {
                    title: kind.section(),
                    rules,
                }),
            }
        }
        for section in &mut sections {
            section
                .rules
                .sort_by_key(|rule| rule.effect == Effect::Permit);
        }
        Self {
            policy: snapshot.name().to_owned(),
            digest: snapshot.digest().to_owned(),
            sections,
            groups: Vec::new(),
            tests: None,
        }
    }

    /// With the host groups of the set's data files.
    #[must_use]
    pub fn with_groups(mut self, source: &PolicySource) -> Self {
        let files: Vec<_> = source.files.iter().filter(|file| is_data(file)).collect();
        let groups = HostGroups::read(&files, &mut Findings::default());
        self.groups = groups
            .groups
            .iter()
            .map(|group| GroupInWords {
                name: group.name.clone(),
                members: group
                    .members
                    .iter()
                    .map(|m| member(m, &groups.groups))
                    .collect(),
            })
            .collect();
        self
    }

    /// With what its tests cover.
    #[must_use]
    pub fn with_tests(mut self, report: &Report) -> Self {
        let failed = report.tests.iter().filter(|test| !test.passed()).count();
        self.tests = Some(format!(
            "{} tests, {failed} failed. They cover {} rules and {} sides of conditions.",
            report.tests.len(),
            report.coverage.rules,
            report.coverage.clauses
        ));
        self
    }

    /// How many rules there are.
    pub fn rules(&self) -> usize {
        self.sections
            .iter()
            .map(|section| section.rules.len())
            .sum()
    }
}

pub(super) fn member(member: &Member, groups: &[HostGroup]) -> String {
    match member {
        Member::Exactly(host) => host.to_string(),
        Member::Below(host) => format!("*.{host}"),
        Member::Group(at) => {
            let name = groups.get(*at).map_or("", |group| group.name.as_str());
            format!("@{name}")
        }
    }
}

fn in_words(rule: &Rule) -> (Kind, RuleInWords) {
    let parsed = parse(&rule.text);
    let kind = parsed.as_ref().map_or(Kind::Several, |policy: &Value| {
        Kind::of(&actions::names(&policy["action"]))
    });
    let words = parsed.map_or_else(|| quoted(&rule.text), |policy| sentence(&policy));
    let rule = RuleInWords {
        id: rule.id.to_string(),
        effect: rule.effect,
        layer: rule.layer,
        words,
        reason: rule.reason.as_ref().map(ToString::to_string),
        file: rule.file.clone(),
        line: rule.line,
    };
    (kind, rule)
}

impl fmt::Display for Overview {
    /// For a terminal: a section, its rules, the id at the end of each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, section) in self.sections.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            writeln!(f, "{}", section.title)?;
            for rule in &section.rules {
                let sign = match rule.effect {
                    Effect::Permit => '+',
                    Effect::Forbid => '-',
                };
                writeln!(f, "  {sign} {}", rule.words)?;
                let id = crate::check::plain(&rule.id);
                writeln!(f, "      {} rule `{id}`", rule.layer)?;
            }
        }
        Ok(())
    }
}
