//! Host groups: empty ones, ones that nothing names, and members that are whole public suffixes.
//! And what is known about one entity being in another.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    rule::{Linted, Named},
    wording::public_suffix_of,
};
use crate::{
    NormalizedHost,
    check::{Code, Finding, Findings, Severity},
    engine::data::{HostGroup, HostGroups, Member},
    source::PolicyFile,
};

pub(super) fn lint(
    rules: &[Linted<'_>],
    groups: &HostGroups,
    data: &[&PolicyFile],
    findings: &mut Findings,
) {
    let named: HashSet<String> = rules
        .iter()
        .flat_map(|rule| rule.policy.entity_literals())
        .filter(|literal| literal.type_name().to_string() == "HostGroup")
        .map(|literal| literal.id().unescaped().to_owned())
        .collect();
    let nested: HashSet<usize> = groups.groups.iter().flat_map(HostGroup::nested).collect();
    for (index, group) in groups.groups.iter().enumerate() {
        let at = |code, severity, message: String| Finding {
            severity,
            ..declaration(data, &group.name, message).with_code(code)
        };
        if group.members.is_empty() {
            findings.note(|| {
                let message = format!(
                    "host group `{}` has no members: rules about it match nothing",
                    group.name
                );
                at(Code::EmptyGroup, Severity::Note, message)
                    .with_help("put hosts into it, or take it and its rules out")
            });
        }
        if !named.contains(&group.name) && !nested.contains(&index) {
            findings.note(|| {
                let message = format!("no rule names host group `{}`", group.name);
                at(Code::UnusedGroup, Severity::Note, message)
                    .with_help("take it out, unless `permit_addresses` of `cordon.toml` names it")
            });
        }
        for member in &group.members {
            if let Member::Below(suffix) = member
                && let Some(severity) = public_suffix_of(suffix.as_str())
            {
                findings.note(|| {
                    let message = format!(
                        "`*.{suffix}` in host group `{}`: many people have names below it",
                        group.name
                    );
                    at(Code::PublicSuffix, severity, message)
                        .with_help("name the domains that are meant")
                });
            }
        }
    }
}

/// Where a data file declares the group.
fn declaration(data: &[&PolicyFile], name: &str, message: String) -> Finding {
    let starts = |text: &str| {
        let mut at = 0;
        text.split_inclusive('\n').find_map(|line| {
            let start = at;
            at += line.len();
            let rest = line.trim_start().trim_start_matches(['"', '\'']);
            let rest = rest.strip_prefix(name)?.trim_start_matches(['"', '\'']);
            rest.trim_start().starts_with('=').then_some(start)
        })
    };
    let found = data
        .iter()
        .find_map(|file| Some((*file, starts(&file.text)?)));
    match (found, data.first()) {
        (Some((file, at)), _) => Finding::at(&file.path, &file.text, at, message),
        (None, Some(file)) => Finding::in_file(&file.path, message),
        (None, None) => Finding::in_file("", message),
    }
}

/// What is known of an entity being in another, before any request: by name, path, prefix and
/// group membership.
pub(super) struct Membership {
    /// For each name, and each suffix below which everything is a member: the groups.
    exactly: HashMap<String, BTreeSet<String>>,
    below: HashMap<String, BTreeSet<String>>,
    /// For each group: itself and those that it is part of.
    containing: HashMap<String, BTreeSet<String>>,
}

impl Membership {
    pub(super) fn new(groups: &HostGroups) -> Self {
        let mut known = Self {
            exactly: HashMap::new(),
            below: HashMap::new(),
            containing: HashMap::new(),
        };
        for (group, containing) in groups.groups.iter().zip(groups.containing()) {
            let all: BTreeSet<String> = containing
                .into_iter()
                .filter_map(|index| Some(groups.groups.get(index)?.name.clone()))
                .collect();
            for member in &group.members {
                let (map, host) = match member {
                    Member::Exactly(host) => (&mut known.exactly, host),
                    Member::Below(host) => (&mut known.below, host),
                    Member::Group(_) => continue,
                };
                map.entry(host.to_string()).or_default().extend(all.clone());
            }
            known.containing.insert(group.name.clone(), all);
        }
        known
    }

    /// The entity itself and everything that it is known to be in. Complete for names, groups,
    /// folders and networks.
    pub(super) fn above(&self, entity: &Named) -> Vec<Named> {
        let Named { kind, id } = entity;
        let mut found = vec![entity.clone()];
        match kind.as_str() {
            "Host" | "Domain" => self.above_name(kind, id, &mut found),
            "HostGroup" => found.extend(groups(self.containing.get(id))),
            "Folder" | "File" => found.extend(folders_above(id)),
            "Address" | "Network" => found.extend(networks_above(id)),
            _ => {}
        }
        found
    }

    fn above_name(&self, kind: &str, id: &str, found: &mut Vec<Named>) {
        let Ok(host) = id.parse::<NormalizedHost>() else {
            return;
        };
        for suffix in host.suffixes() {
            let is_whole = suffix.len() == id.len();
            found.push(Named::new("Domain", suffix));
            // A domain holds its own name too, which `*.name` does not.
            found.extend(groups(match (is_whole, kind) {
                (true, "Host") => self.exactly.get(suffix),
                (true, _) => None,
                (false, _) => self.below.get(suffix),
            }));
        }
    }

    /// Whether the one is in the other, or is it.
    pub(super) fn is_in(&self, entity: &Named, other: &Named) -> bool {
        self.above(entity).contains(other)
    }
}

fn groups(names: Option<&BTreeSet<String>>) -> impl Iterator<Item = Named> {
    names
        .into_iter()
        .flatten()
        .map(|name| Named::new("HostGroup", name))
}

fn folders_above(path: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let mut rest = path;
    while let Some((above, _)) = rest.rsplit_once('/').filter(|_| rest != "/") {
        rest = if above.is_empty() { "/" } else { above };
        found.push(Named::new("Folder", rest));
    }
    found
}

fn networks_above(id: &str) -> Vec<Named> {
    let network = id
        .parse::<IpNet>()
        .or_else(|_| id.parse::<IpAddr>().map(IpNet::from));
    let Ok(network) = network else {
        return Vec::new();
    };
    (0..=network.prefix_len())
        .filter_map(|prefix| IpNet::new(network.addr(), prefix).ok())
        .map(|above| Named::new("Network", &above.trunc().to_string()))
        .collect()
}
