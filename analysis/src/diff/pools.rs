//! What the two sets name: literals, hosts, ports, people. Requests are made from it.
//!
//! What a rule can see of a host is which mentioned domains and groups it is in. Hosts that agree in
//! that are one class, with a real name for each class.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{EntityUid, Policy, PolicyId};
use cordon_policy::{NormalizedHost, Snapshot, source::PolicySource};

use super::{
    Sides,
    groups::{self, Groups},
};

/// Names of both sets.
pub(super) struct Pools {
    pub(super) old: Vec<Policy>,
    /// With groups that have other members under another name; see [`NEW`].
    pub(super) new: Vec<Policy>,
    /// Ids of literals by their type.
    pub(super) literals: BTreeMap<String, BTreeSet<String>>,
    /// Classes of hosts: what they are in, and real names.
    pub(super) hosts: BTreeMap<BTreeSet<String>, Vec<NormalizedHost>>,
    /// Everything about hosts that rules name, as Cedar writes it, in the order of [`Self::hosts`].
    pub(super) host_literals: BTreeSet<String>,
    /// Whether there are classes for all that is named.
    pub(super) has_all_hosts: bool,
    pub(super) ports: BTreeSet<u16>,
    /// What rules call a granted folder.
    pub(super) names: BTreeSet<String>,
}

/// What stands behind the name of a group whose members differ between the sets: for the solver it
/// is another group.
const NEW: &str = " (new)";
const MOST_HOSTS: usize = 50_000;
const MOST_CLASSES: usize = 4_000;
const MOST_PER_CLASS: usize = 3;
const MOST_PORTS: usize = 24;
const MOST_NAMES: usize = 24;
/// First label of hosts below a mentioned name.
pub(super) const BELOW: &str = "any";
/// A host that no rule names.
const ELSEWHERE: &str = "elsewhere.example";

impl Pools {
    pub(super) fn of(
        old: &PolicySource,
        new: &PolicySource,
        sides: &Sides,
    ) -> Result<Self, String> {
        let (old_groups, new_groups) = (groups::of(old)?, groups::of(new)?);
        let differs = old_groups != new_groups;
        let old = parse(&sides.old)?;
        let mut new = parse(&sides.new)?;
        let mut uids: BTreeSet<EntityUid> = old.iter().flat_map(Policy::entity_literals).collect();
        if differs {
            new = new.iter().map(renamed).collect::<Result<_, _>>()?;
        }
        uids.extend(new.iter().flat_map(Policy::entity_literals));
        let mut literals: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for uid in &uids {
            literals
                .entry(uid.type_name().to_string())
                .or_default()
                .insert(uid.id().unescaped().to_owned());
        }
        let mut pools = Self {
            ports: ports(sides),
            names: names(sides),
            old,
            new,
            literals,
            hosts: BTreeMap::new(),
            host_literals: BTreeSet::new(),
            has_all_hosts: true,
        };
        pools.add_hosts(sides, &[&old_groups, &new_groups], differs);
        Ok(pools)
    }

    /// Ids of one type that rules name.
    pub(super) fn of_type(&self, kind: &str) -> impl Iterator<Item = &str> {
        self.literals
            .get(kind)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    fn add_hosts(&mut self, sides: &Sides, groups: &[&Groups], differs: bool) {
        for kind in ["Host", "Domain", "HostGroup"] {
            let named: Vec<String> = self
                .of_type(kind)
                .map(|id| format!("{kind}::{id:?}"))
                .collect();
            self.host_literals.extend(named);
        }
        let mut names: BTreeSet<&str> =
            self.of_type("Host").chain(self.of_type("Domain")).collect();
        for member in groups.iter().flat_map(|groups| groups.values().flatten()) {
            if !member.starts_with('@') {
                names.insert(member.strip_prefix("*.").unwrap_or(member));
            }
        }
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        self.has_all_hosts = names.len() <= MOST_HOSTS;
        let candidates = std::iter::once(ELSEWHERE.to_owned()).chain(
            names
                .iter()
                .take(MOST_HOSTS)
                .flat_map(|name| [name.clone(), format!("{BELOW}.{name}")]),
        );
        for candidate in candidates {
            let Ok(host) = candidate.parse::<NormalizedHost>() else {
                continue;
            };
            let class = self.class(sides, &host, differs);
            if self.hosts.len() >= MOST_CLASSES && !self.hosts.contains_key(&class) {
                self.has_all_hosts = false;
                continue;
            }
            let members = self.hosts.entry(class).or_default();
            if members.len() < MOST_PER_CLASS {
                members.push(host);
            }
        }
    }

    /// Which of the named things a host is in, as Cedar writes them.
    pub(super) fn class(
        &self,
        sides: &Sides,
        host: &NormalizedHost,
        differs: bool,
    ) -> BTreeSet<String> {
        let mut class = BTreeSet::new();
        let mut note = |kind: &str, id: &str| {
            let text = format!("{kind}::{id:?}");
            if self.host_literals.contains(&text) {
                class.insert(text);
            }
        };
        note("Host", host.as_str());
        for suffix in host.suffixes() {
            note("Domain", suffix);
        }
        for group in sides.old.host_groups_of(host) {
            note("HostGroup", &group);
        }
        for group in sides.new.host_groups_of(host) {
            let name = if differs {
                format!("{group}{NEW}")
            } else {
                group.to_string()
            };
            note("HostGroup", &name);
        }
        class
    }
}

/// The rules as Cedar has them. They loaded, so they parse.
fn parse(snapshot: &Snapshot) -> Result<Vec<Policy>, String> {
    snapshot
        .rules()
        .iter()
        .map(|rule| {
            Policy::parse(Some(PolicyId::new(&*rule.id)), &rule.text)
                .map_err(|error| format!("rule `{}`: {error}", rule.id))
        })
        .collect()
}

/// The rule with every group under its name in the new set.
fn renamed(policy: &Policy) -> Result<Policy, String> {
    let groups = policy
        .entity_literals()
        .into_iter()
        .filter(|uid| uid.type_name().to_string() == "HostGroup")
        .map(|uid| {
            let id = cedar_policy::EntityId::new(format!("{}{NEW}", uid.id().unescaped()));
            let new = EntityUid::from_type_name_and_id(uid.type_name().clone(), id);
            (uid, new)
        })
        .collect();
    policy
        .sub_entity_literals(groups)
        .map_err(|error| error.to_string())
}

/// Every text of a rule that looks at `context.name`.
fn names(sides: &Sides) -> BTreeSet<String> {
    let rules = sides.old.rules().iter().chain(sides.new.rules());
    rules
        .filter(|rule| rule.text.contains("context.name"))
        .flat_map(|rule| rule.text.split('"').skip(1).step_by(2))
        .filter(|text| !text.is_empty() && !text.contains(['/', '\\', '*']))
        .take(MOST_NAMES)
        .map(str::to_owned)
        .collect()
}

/// Numbers of the rules that can be ports, and their neighbours, where a comparison turns; and
/// the usual ones.
fn ports(sides: &Sides) -> BTreeSet<u16> {
    let mut ports: BTreeSet<u16> = [443, 80, 22].into();
    let rules = sides.old.rules().iter().chain(sides.new.rules());
    for number in rules
        .filter(|rule| rule.text.contains("port"))
        .flat_map(|rule| rule.text.split(|c: char| !c.is_ascii_digit()))
        .filter_map(|digits| digits.parse::<u16>().ok())
        .filter(|number| *number > 0)
    {
        if ports.len() >= MOST_PORTS {
            break;
        }
        ports.extend([
            number,
            number.saturating_add(1),
            number.saturating_sub(1).max(1),
        ]);
    }
    ports
}
