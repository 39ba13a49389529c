//! From refused things to rules: what goes together, what may be generalised.
//!
//! Items in, [`Suggestion`]s out. A name is generalised only to a domain that somebody can
//! register: never to a public suffix, and not at all where the suffix list does not know it.

use std::collections::{BTreeMap, BTreeSet};

use cordon_policy::{Destination, Host, NormalizedHost, Operation, Port, Request};
use serde::Serialize;

use super::{
    draft::Prefix,
    evidence::{Evidence, Item},
};

/// One proposed rule.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Suggestion {
    /// Its `@id`.
    pub id: String,
    /// The rule as it stands in the draft.
    pub cedar: String,
    /// The host group that goes with it into a data file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// Domains that stand for several names of the evidence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub generalised: Vec<String>,
    /// What it rests on.
    pub evidence: Evidence,
    /// Evidence that would be refused all the same, and why: a `forbid` stands against it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub still_refused: Vec<String>,
    /// Examples of what it allows beyond the evidence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub beyond: Vec<String>,
    #[serde(skip)]
    shape: Shape,
}

/// A host group of the draft.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its members, as a data file has them.
    pub members: Vec<String>,
}

/// What a rule is about, before it has names.
#[derive(Clone, Debug, Default)]
struct Shape {
    scope: String,
    actions: BTreeSet<&'static str>,
    ports: BTreeSet<u16>,
    target: Resource,
    /// Positions of the items it is for.
    items: BTreeSet<usize>,
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Resource {
    One(&'static str, String),
    Hosts(BTreeSet<Member>),
}

/// A host of the evidence, or a domain in the place of several.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Member {
    Exactly(String),
    Below(String),
}

/// The rules for `items`, most evidence first. They have no names yet.
pub(super) fn plan(items: &[Item], generalise_from: Option<usize>) -> Vec<Suggestion> {
    let mut shapes = hosts(items, generalise_from);
    shapes.extend(others(items));
    let shapes = merge(merge(shapes, |s| &mut s.ports), |s| &mut s.actions);
    let mut rules: Vec<Suggestion> = shapes
        .into_iter()
        .map(|shape| Suggestion {
            evidence: Item::together(shape.items.iter().filter_map(|at| items.get(*at))),
            generalised: shape.target.generalised(),
            shape,
            ..Suggestion::default()
        })
        .collect();
    rules.sort_by(|a, b| {
        (b.evidence.count, &a.shape.target, &a.shape.actions).cmp(&(
            a.evidence.count,
            &b.shape.target,
            &b.shape.actions,
        ))
    });
    rules
}

/// Gives every rule its id, its group and its text.
pub(super) fn name(rules: &mut [Suggestion], prefix: &Prefix) {
    for (rule, number) in rules.iter_mut().zip(1_usize..) {
        rule.id = prefix.name(number);
        if let Resource::Hosts(members) = &rule.shape.target
            && members.len() > 1
        {
            rule.group = Some(Group {
                name: rule.id.clone(),
                members: members.iter().map(Member::text).collect(),
            });
        }
        rule.cedar = rule.shape.cedar(&rule.id);
    }
}

/// Names per scope, action and port; those below one domain as one member.
fn hosts(items: &[Item], generalise_from: Option<usize>) -> Vec<Shape> {
    let mut by_door: BTreeMap<(&str, &'static str, Option<u16>), BTreeMap<&str, usize>> =
        BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        if item.names.resource_type == "Host" {
            by_door
                .entry((&item.scope, item.names.action, item.port))
                .or_default()
                .insert(&item.names.resource_id, at);
        }
    }
    by_door
        .into_iter()
        .map(|((scope, action, port), hosts)| Shape {
            scope: scope.to_owned(),
            actions: [action].into(),
            ports: port.into_iter().collect(),
            target: Resource::Hosts(members(&hosts.keys().copied().collect(), generalise_from)),
            items: hosts.into_values().collect(),
        })
        .collect()
}

/// Everything that is no host: each resource on its own.
fn others(items: &[Item]) -> impl Iterator<Item = Shape> {
    items
        .iter()
        .enumerate()
        .filter(|(_, item)| item.names.resource_type != "Host")
        .map(|(at, item)| Shape {
            scope: item.scope.clone(),
            actions: [item.names.action].into(),
            ports: item.port.into_iter().collect(),
            target: Resource::One(item.names.resource_type, item.names.resource_id.clone()),
            items: [at].into(),
        })
}

/// Shapes that differ in one part only become one with both, so nothing is added by it.
fn merge<T: Ord + Clone>(
    shapes: Vec<Shape>,
    part: impl Fn(&mut Shape) -> &mut BTreeSet<T>,
) -> Vec<Shape> {
    type Rest = (String, BTreeSet<&'static str>, BTreeSet<u16>, Resource);
    let mut merged: BTreeMap<Rest, (BTreeSet<T>, BTreeSet<usize>)> = BTreeMap::new();
    for mut shape in shapes {
        let own = std::mem::take(part(&mut shape));
        let rest = (shape.scope, shape.actions, shape.ports, shape.target);
        let entry = merged.entry(rest).or_default();
        entry.0.extend(own);
        entry.1.extend(shape.items);
    }
    merged
        .into_iter()
        .map(|((scope, actions, ports, target), (own, items))| {
            let mut shape = Shape {
                scope,
                actions,
                ports,
                target,
                items,
            };
            *part(&mut shape) = own;
            shape
        })
        .collect()
}

/// Members for `hosts`: where at least `from` of them lie below one domain, that domain, the
/// deepest first.
pub(super) fn members(hosts: &BTreeSet<&str>, from: Option<usize>) -> BTreeSet<Member> {
    let mut left = hosts.clone();
    let mut found = BTreeSet::new();
    if let Some(from) = from {
        let mut domains: BTreeMap<&str, usize> = BTreeMap::new();
        for domain in hosts.iter().flat_map(|host| domains_above(host)) {
            *domains.entry(domain).or_default() += 1;
        }
        let mut deepest: Vec<&str> = domains
            .into_iter()
            .filter(|(_, count)| *count >= from)
            .map(|(domain, _)| domain)
            .collect();
        deepest.sort_by_key(|domain| (std::cmp::Reverse(domain.matches('.').count()), *domain));
        for domain in deepest {
            let below: Vec<&str> = left
                .iter()
                .copied()
                .filter(|host| is_below(host, domain))
                .collect();
            if below.len() >= from {
                for host in below {
                    left.remove(host);
                }
                found.insert(Member::Below(domain.to_owned()));
            }
        }
    }
    found.extend(
        left.into_iter()
            .map(|host| Member::Exactly(host.to_owned())),
    );
    found
}

/// Domains strictly above a host, up to the one that somebody registered. None where the public
/// suffix list does not know the suffix: there nobody can say how far up is too far.
fn domains_above(host: &str) -> impl Iterator<Item = &str> {
    let registrable = psl::domain(host.as_bytes())
        .filter(|domain| domain.suffix().is_known())
        .map_or(usize::MAX, |domain| domain.as_bytes().len());
    let mut rest = host;
    std::iter::from_fn(move || {
        rest = rest.split_once('.')?.1;
        (rest.len() >= registrable).then_some(rest)
    })
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|front| front.ends_with('.'))
}

impl Suggestion {
    /// The items that it is for.
    pub(super) fn items<'a>(&self, items: &'a [Item]) -> impl Iterator<Item = &'a Item> + use<'a> {
        let wanted = self.shape.items.clone();
        items
            .iter()
            .enumerate()
            .filter(move |(at, _)| wanted.contains(at))
            .map(|(_, item)| item)
    }

    /// Requests near the evidence and not in it: another port, another name below the same
    /// domain, below its registrable domain, and beside that.
    pub(super) fn probes(&self, items: &[Item]) -> Vec<Request> {
        let mut probes = Vec::new();
        let Some(item) = self.items(items).next() else {
            return probes;
        };
        let Resource::Hosts(members) = &self.shape.target else {
            return probes;
        };
        let unseen = (1..=u16::MAX).rfind(|port| !self.shape.ports.contains(port));
        for member in members {
            let (Member::Exactly(name) | Member::Below(name)) = member;
            let mut around = vec![(format!("{PROBE}.{name}"), None), (name.clone(), unseen)];
            for above in domains_above(name) {
                around.push((format!("{PROBE}.{above}"), None));
            }
            if let Some(suffix) = psl::suffix_str(name) {
                around.push((format!("{PROBE}.{suffix}"), None));
            }
            for (host, port) in around {
                let is_evidence =
                    members.contains(&Member::Exactly(host.clone())) && port.is_none();
                if !is_evidence && let Some(probe) = at(&item.request, &host, port) {
                    probes.push(probe);
                }
            }
        }
        probes
    }
}

/// The request, to another host or port.
fn at(request: &Request, host: &str, port: Option<u16>) -> Option<Request> {
    let host: NormalizedHost = host.parse().ok()?;
    let mut request = request.clone();
    let (Operation::Connect { destination, .. } | Operation::HttpRequest { destination, .. }) =
        &mut request.operation
    else {
        return None;
    };
    let port = port.map_or(Ok(destination.port), Port::new).ok()?;
    *destination = Destination {
        host: Host::Name(host),
        port,
    };
    Some(request)
}

impl Shape {
    fn cedar(&self, id: &str) -> String {
        let actions: Vec<String> = self
            .actions
            .iter()
            .map(|action| format!("Action::\"{action}\""))
            .collect();
        let action = match actions.as_slice() {
            [one] => format!("action == {one}"),
            several => format!("action in [{}]", several.join(", ")),
        };
        let resource = match &self.target {
            Resource::One(kind, name) => format!("resource == {kind}::{name:?}"),
            Resource::Hosts(members) => match members.first().filter(|_| members.len() == 1) {
                Some(Member::Exactly(host)) => format!("resource == Host::{host:?}"),
                Some(Member::Below(domain)) => format!("resource in Domain::{domain:?}"),
                None => format!("resource in HostGroup::{id:?}"),
            },
        };
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        let condition = match ports.as_slice() {
            [] => String::new(),
            [one] => format!("\nwhen {{ context.port == {one} }}"),
            several => format!(
                "\nwhen {{ [{}].contains(context.port) }}",
                several.join(", ")
            ),
        };
        format!(
            "@id({id:?})\npermit (\n  {},\n  {action},\n  {resource}\n){condition};\n",
            self.scope
        )
    }
}

impl Resource {
    fn generalised(&self) -> Vec<String> {
        match self {
            Self::One(..) => Vec::new(),
            Self::Hosts(members) => members
                .iter()
                .filter_map(|member| match member {
                    Member::Below(domain) => Some(domain.clone()),
                    Member::Exactly(_) => None,
                })
                .collect(),
        }
    }
}

impl Default for Resource {
    fn default() -> Self {
        Self::Hosts(BTreeSet::new())
    }
}

impl Member {
    fn text(&self) -> String {
        match self {
            Self::Exactly(host) => host.clone(),
            Self::Below(domain) => format!("*.{domain}"),
        }
    }
}

/// First label of names that no evidence has.
const PROBE: &str = "cordon-probe";
