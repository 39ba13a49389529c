//! What policies and data mention, indexed, so that a request's entity gets exactly the parents
//! that some rule can ask about.
//!
//! Parents that no rule names cannot change a decision: the schema has no attribute that holds a
//! domain, group, network or folder, so the right side of every `in` is a literal of a rule.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use cedar_policy::EntityUid;
use ipnet::IpNet;

use super::{
    data::{HostGroups, Member},
    vocabulary::{Vocabulary, uid},
};
use crate::NormalizedHost;

/// Suffixes, networks and folders that matter.
#[derive(Debug, Default)]
pub(crate) struct Mentions {
    suffixes: HashMap<Box<str>, Suffix>,
    groups: Vec<Group>,
    networks: HashMap<IpNet, EntityUid>,
    /// Prefix lengths of `networks`, so that a lookup tries only those.
    prefixes: BTreeSet<u8>,
    folders: HashMap<Box<str>, EntityUid>,
}

/// What is known about one DNS suffix.
#[derive(Debug, Default)]
struct Suffix {
    domain: Option<EntityUid>,
    /// Groups that name exactly this host.
    exactly: Vec<usize>,
    /// Groups that name everything below it.
    below: Vec<usize>,
}

#[derive(Debug)]
struct Group {
    name: Arc<str>,
    uid: EntityUid,
    mentioned: bool,
    /// Itself and every group it is part of.
    containing: Vec<usize>,
}

impl Mentions {
    /// Indexes the groups, and the literals that rules contain.
    pub(crate) fn new(
        vocabulary: &Vocabulary,
        groups: &HostGroups,
        literals: &HashSet<EntityUid>,
    ) -> Self {
        let mut mentions = Self {
            suffixes: HashMap::new(),
            groups: Vec::with_capacity(groups.groups.len()),
            networks: HashMap::new(),
            prefixes: BTreeSet::new(),
            folders: HashMap::new(),
        };
        mentions.add_groups(vocabulary, groups, literals);
        for literal in literals {
            mentions.add_literal(vocabulary, literal);
        }
        mentions
    }

    fn add_groups(
        &mut self,
        vocabulary: &Vocabulary,
        groups: &HostGroups,
        literals: &HashSet<EntityUid>,
    ) {
        for ((index, group), containing) in
            groups.groups.iter().enumerate().zip(groups.containing())
        {
            let group_uid = uid(&vocabulary.types.host_group, &group.name);
            self.groups.push(Group {
                name: group.name.as_str().into(),
                mentioned: literals.contains(&group_uid),
                uid: group_uid,
                containing,
            });
            for member in &group.members {
                match member {
                    Member::Exactly(host) => self.suffix(host.as_str()).exactly.push(index),
                    Member::Below(host) => self.suffix(host.as_str()).below.push(index),
                    Member::Group(_) => {}
                }
            }
        }
    }

    fn add_literal(&mut self, vocabulary: &Vocabulary, literal: &EntityUid) {
        let types = &vocabulary.types;
        let id = literal.id().unescaped();
        if *literal.type_name() == types.domain {
            self.suffix(id).domain = Some(literal.clone());
        } else if *literal.type_name() == types.folder {
            self.folders.insert(id.into(), literal.clone());
        } else if *literal.type_name() == types.network
            && let Ok(network) = id.parse::<IpNet>()
        {
            self.prefixes.insert(network.prefix_len());
            self.networks.insert(network, literal.clone());
        }
    }

    fn suffix(&mut self, name: &str) -> &mut Suffix {
        self.suffixes.entry(name.into()).or_default()
    }

    /// Mentioned domains and groups that a host is in.
    pub(crate) fn parents_of_host(&self, host: &NormalizedHost) -> Vec<EntityUid> {
        let mut parents: Vec<EntityUid> = self
            .known_suffixes(host)
            .filter_map(|(_, suffix)| suffix.domain.clone())
            .collect();
        parents.extend(
            self.groups_of(host)
                .filter(|group| group.mentioned)
                .map(|group| group.uid.clone()),
        );
        parents
    }

    /// Names of every group that a host is in, in the order of declaration.
    pub(crate) fn group_names_of(&self, host: &NormalizedHost) -> Vec<Arc<str>> {
        self.groups_of(host)
            .map(|group| Arc::clone(&group.name))
            .collect()
    }

    fn groups_of(&self, host: &NormalizedHost) -> impl Iterator<Item = &Group> {
        let mut indices: Vec<usize> = self
            .known_suffixes(host)
            .flat_map(|(is_whole, suffix)| {
                if is_whole {
                    &suffix.exactly
                } else {
                    &suffix.below
                }
            })
            .filter_map(|index| self.groups.get(*index))
            .flat_map(|group| &group.containing)
            .copied()
            .collect();
        indices.sort_unstable();
        indices.dedup();
        indices
            .into_iter()
            .filter_map(|index| self.groups.get(index))
    }

    /// The host's suffixes that anything is known about, and whether it is the whole name.
    fn known_suffixes(&self, host: &NormalizedHost) -> impl Iterator<Item = (bool, &Suffix)> {
        let whole = host.as_str().len();
        host.suffixes().filter_map(move |text| {
            let suffix = self.suffixes.get(text)?;
            Some((text.len() == whole, suffix))
        })
    }

    /// Mentioned networks that an address is in.
    pub(crate) fn parents_of_address(&self, address: IpAddr) -> Vec<EntityUid> {
        self.enclosing(IpNet::from(address), None)
    }

    /// Mentioned networks that contain another one.
    pub(crate) fn parents_of_network(&self, network: IpNet) -> Vec<EntityUid> {
        self.enclosing(network, Some(network.prefix_len()))
    }

    fn enclosing(&self, network: IpNet, shorter_than: Option<u8>) -> Vec<EntityUid> {
        self.prefixes
            .iter()
            .filter(|prefix| {
                **prefix <= network.prefix_len()
                    && shorter_than.is_none_or(|limit| **prefix < limit)
            })
            .filter_map(|prefix| IpNet::new(network.addr(), *prefix).ok())
            .filter_map(|candidate| self.networks.get(&candidate.trunc()).cloned())
            .collect()
    }

    /// Mentioned domains that a domain is below.
    pub(crate) fn parents_of_domain(&self, domain: &NormalizedHost) -> Vec<EntityUid> {
        self.known_suffixes(domain)
            .filter(|(is_whole, _)| !is_whole)
            .filter_map(|(_, suffix)| suffix.domain.clone())
            .collect()
    }

    /// Mentioned groups that a group is part of.
    pub(crate) fn parents_of_group(&self, name: &str) -> Vec<EntityUid> {
        self.groups
            .iter()
            .filter(|group| &*group.name == name)
            .flat_map(|group| &group.containing)
            .filter_map(|index| self.groups.get(*index))
            .filter(|group| group.mentioned && &*group.name != name)
            .map(|group| group.uid.clone())
            .collect()
    }

    /// Mentioned folders above a canonical absolute path.
    pub(crate) fn parents_of_path(&self, path: &str) -> Vec<EntityUid> {
        let mut parents = Vec::new();
        let mut rest = path;
        while let Some((above, _)) = rest.rsplit_once('/').filter(|_| rest != "/") {
            let above = if above.is_empty() { "/" } else { above };
            parents.extend(self.folders.get(above).cloned());
            rest = above;
        }
        parents
    }
}

#[cfg(test)]
mod tests {
    use cedar_policy::Schema;

    use super::*;
    use crate::schema::SCHEMA_TEXT;

    fn mentions(literals: &[&str]) -> Mentions {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA_TEXT).unwrap();
        let vocabulary = Vocabulary::new(&schema).unwrap();
        let literals = literals.iter().map(|text| text.parse().unwrap()).collect();
        Mentions::new(&vocabulary, &HostGroups::default(), &literals)
    }

    fn shown(uids: &[EntityUid]) -> Vec<&str> {
        uids.iter().map(|uid| uid.id().unescaped()).collect()
    }

    #[test]
    fn a_path_is_in_mentioned_folders_above_it_only() {
        let index = mentions(&[
            "Folder::\"/\"",
            "Folder::\"/home/a\"",
            "Folder::\"/home/ab\"",
        ]);
        assert_eq!(shown(&index.parents_of_path("/home/a/b")), ["/home/a", "/"]);
        assert_eq!(shown(&index.parents_of_path("/home/a")), ["/"]);
        assert_eq!(shown(&index.parents_of_path("/")), [""; 0]);
    }

    #[test]
    fn an_address_is_in_mentioned_networks_of_its_family() {
        let index = mentions(&[
            "Network::\"10.0.0.0/8\"",
            "Network::\"10.1.0.0/16\"",
            "Network::\"0.0.0.0/0\"",
            "Network::\"::/0\"",
        ]);
        let parents = |text: &str| {
            let mut found = shown(&index.parents_of_address(text.parse().unwrap()))
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>();
            found.sort();
            found
        };
        assert_eq!(
            parents("10.1.2.3"),
            ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16"]
        );
        assert_eq!(parents("192.0.2.1"), ["0.0.0.0/0"]);
        assert_eq!(parents("2001:db8::1"), ["::/0"]);
        let network = index.parents_of_network("10.1.0.0/16".parse().unwrap());
        assert_eq!(shown(&network), ["0.0.0.0/0", "10.0.0.0/8"]);
    }

    #[test]
    fn n07_a_domain_is_matched_at_labels() {
        let index = mentions(&["Domain::\"x.com\""]);
        let inside = |text: &str| !index.parents_of_host(&text.parse().unwrap()).is_empty();
        assert!(inside("x.com") && inside("a.x.com") && inside("a.b.x.com"));
        assert!(!inside("evilx.com") && !inside("x.com.evil.com") && !inside("com"));
    }
}
