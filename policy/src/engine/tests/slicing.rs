//! Slicing is only work saved: on random sets and requests, the engine and plain Cedar over the
//! whole set with the whole store agree on outcome and rules.

use std::collections::HashSet;

use cedar_policy::{
    Context, Entities, Entity, EntityUid, PolicySet, RestrictedExpression as Expression,
};
use proptest::{prelude::*, sample::select};

use super::*;
use crate::{Host, schema::schema};

pub(super) const PRINCIPALS: &[&str] = &[
    "",
    "is Session",
    "in Group::\"staff\"",
    "in Group::\"other\"",
    "in User::\"alice\"",
    "in Agent::\"claude\"",
    "is Session in Platform::\"linux\"",
    "== Session::\"0190a5c2-0000-7000-8000-000000000001\"",
];

/// Action and resource scopes that fit each other.
pub(super) const SCOPES: &[(&str, &str)] = &[
    ("", ""),
    ("in Action::\"network\"", ""),
    ("in Action::\"network\"", "is Host"),
    ("in Action::\"network\"", "in Domain::\"example.com\""),
    ("in Action::\"http\"", "in Domain::\"api.example.com\""),
    ("== Action::\"connect\"", "== Host::\"api.example.com\""),
    ("== Action::\"connect\"", "is Host in Domain::\"com\""),
    (
        "in [Action::\"connect\", Action::\"network\"]",
        "in HostGroup::\"a\"",
    ),
    (
        "in [Action::\"http_read\", Action::\"http_write\"]",
        "in HostGroup::\"b\"",
    ),
    ("", "in HostGroup::\"c\""),
    ("in Action::\"network\"", "in HostGroup::\"d\""),
    ("in Action::\"network\"", "in Network::\"192.0.2.0/24\""),
    ("== Action::\"connect\"", "== Address::\"192.0.2.7\""),
    ("== Action::\"connect\"", "in Network::\"0.0.0.0/0\""),
    ("in Action::\"files\"", "in Folder::\"/home\""),
    ("in Action::\"grant\"", "== Folder::\"/home/alice\""),
    ("== Action::\"delete\"", "in Folder::\"/home/alice\""),
    ("== Action::\"start_session\"", "== Backend::\"bubblewrap\""),
];

pub(super) const CONDITIONS: &[&str] = &[
    "",
    "when { context has port && context.port == 443 }",
    "unless { context has port && context.port == 443 }",
    "when { context has approval }",
    "unless { context has approval }",
    "when { context has port && context.port + 9223372036854775807 > 0 }",
    "when { resource has labels && resource.labels == 3 }",
    "when { resource has labels && resource.labels * 9223372036854775807 > 0 }",
    "when { resource has kind && resource.kind == \"documentation\" }",
    "when { resource has name && resource.name like \"*a*\" }",
    "when { context.time > datetime(\"2026-01-01\") }",
    "when { context.time > datetime(\"2027-01-01\") }",
    "when { principal has user && principal.user in Group::\"developers\" }",
    "when { action in Action::\"http\" }",
    "when { HostGroup::\"a\" in HostGroup::\"d\" }",
    "when { Host::\"api.example.com\" in Domain::\"example.com\" }",
    "when { Domain::\"api.example.com\" in Domain::\"com\" }",
    "when { context has mode && context.mode == \"rwd\" } unless { context has source && context.source == \"profile\" }",
];

const MEMBERS: &[&str] = &[
    "api.example.com",
    "example.com",
    "*.example.com",
    "*.com",
    "*.api.example.com",
    "other.org",
    "*.org",
    "xample.com",
];

const HOSTS: &[&str] = &[
    "api.example.com",
    "example.com",
    "v1.api.example.com",
    "other.org",
    "a.other.org",
    "notexample.com",
    "192.0.2.7",
    "192.0.2.8",
    "10.0.0.1",
    "com",
];

const PATHS: &[&str] = &["/", "/home", "/home/alice", "/home/alice/project", "/etc"];

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) rules: String,
    /// Members of groups `a` to `d`; a later group may contain earlier ones.
    groups: Vec<(Vec<&'static str>, Vec<usize>)>,
    pub(super) request: Request,
}

fn rule() -> impl Strategy<Value = String> {
    (any::<bool>(), select(PRINCIPALS), select(SCOPES), select(CONDITIONS)).prop_map(
        |(permit, principal, (action, resource), condition)| {
            let effect = if permit { "permit" } else { "forbid" };
            format!("{effect} (principal {principal}, action {action}, resource {resource}) {condition};\n")
        },
    )
}

fn groups() -> impl Strategy<Value = Vec<(Vec<&'static str>, Vec<usize>)>> {
    prop::collection::vec(
        (
            prop::collection::hash_set(select(MEMBERS), 0..4),
            prop::collection::hash_set(0_usize..4, 0..3),
        ),
        4,
    )
    .prop_map(|groups| {
        let earlier = |at: usize, nested: HashSet<usize>| {
            nested.into_iter().filter(|inner| *inner < at).collect()
        };
        groups
            .into_iter()
            .enumerate()
            .map(|(at, (members, nested))| (members.into_iter().collect(), earlier(at, nested)))
            .collect()
    })
}

fn request() -> impl Strategy<Value = Request> {
    let target = || {
        (select(HOSTS), select(&[443_u16, 80][..]))
            .prop_map(|(host, port)| Destination::from_parts(host.as_bytes(), port).unwrap())
    };
    let mode = || select(&[GrantMode::Ro, GrantMode::Rw, GrantMode::Rwd][..]);
    let operation = prop_oneof![
        4 => (target(), select(&[Transport::HttpConnect, Transport::Socks5][..]))
            .prop_map(|(destination, transport)| Operation::Connect { destination, transport }),
        3 => (target(), select(&["GET", "POST", "DELETE", "X"][..])).prop_map(
            |(destination, method)| Operation::HttpRequest {
                destination,
                method: Method(method.into()),
                path: "/".into(),
            }
        ),
        2 => (select(PATHS), mode(), select(&[GrantSource::CommandLine, GrantSource::Profile][..]))
            .prop_map(|(path, mode, source)| Operation::GrantFolder {
                path: path.into(), mode, source,
            }),
        1 => (select(PATHS), mode())
            .prop_map(|(path, mode)| Operation::DeletePath { path: path.into(), mode }),
        1 => Just(Operation::StartSession { command: "claude".into() }),
    ];
    operation.prop_map(asked)
}

pub(super) fn case() -> impl Strategy<Value = Case> {
    (prop::collection::vec(rule(), 0..12), groups(), request()).prop_map(
        |(rules, groups, request)| Case {
            rules: rules.concat(),
            groups,
            request,
        },
    )
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

impl Case {
    pub(super) fn data(&self) -> String {
        let line = |(name, (members, nested)): (&str, &(Vec<&str>, Vec<usize>))| {
            let nested = nested.iter().map(|at| format!("\"@{}\"", NAMES[*at]));
            let members = members.iter().map(|member| format!("\"{member}\""));
            format!(
                "{name} = [{}]\n",
                members.chain(nested).collect::<Vec<_>>().join(", ")
            )
        };
        NAMES.into_iter().zip(&self.groups).map(line).collect()
    }

    /// The store as a person would write it down: every entity there is, parents one step up.
    fn store(&self, question: &Question<'_>) -> Entities {
        let mut entities: Vec<Entity> = question
            .entities
            .iter()
            .filter(|entity| {
                let kind = entity.uid().type_name().to_string();
                kind == "Session" || kind == "User"
            })
            .cloned()
            .collect();
        for (name, (at, _)) in NAMES.into_iter().zip(self.groups.iter().enumerate()) {
            let outer = self
                .groups
                .iter()
                .enumerate()
                .filter(|(_, group)| group.1.contains(&at));
            let parents = outer
                .map(|(outer, _)| euid("HostGroup", NAMES[outer]))
                .collect();
            entities.push(Entity::new_no_attrs(euid("HostGroup", name), parents));
        }
        let mut names = vec!["api.example.com".to_owned()];
        let mut addresses = vec!["192.0.2.7".to_owned()];
        let mut paths = Vec::new();
        match &self.request.operation {
            Operation::Connect { destination, .. } | Operation::HttpRequest { destination, .. } => {
                match &destination.host {
                    Host::Name(name) => names.push(name.to_string()),
                    Host::Address(address) => addresses.push(address.to_string()),
                }
            }
            Operation::GrantFolder { path, .. } => paths.push(("Folder", path)),
            Operation::DeletePath { path, .. } => paths.push(("File", path)),
            Operation::StartSession { .. } | Operation::ReachAddress { .. } => {}
            other => unreachable!("{other:?} is not among the generated requests"),
        }
        self.add_names(names, &mut entities);
        for address in addresses {
            let v4 = address.starts_with("192.0.2.").then_some("192.0.2.0/24");
            let nets = v4
                .into_iter()
                .chain(["0.0.0.0/0"])
                .map(|net| euid("Network", net));
            entities.push(resource_like(question, "Address", &address, nets.collect()));
        }
        for (kind, path) in paths {
            let path = path.to_str().unwrap();
            let above = std::path::Path::new(path).ancestors().skip(1);
            let parents = above
                .map(|above| euid("Folder", above.to_str().unwrap()))
                .collect();
            entities.push(resource_like(question, kind, path, parents));
        }
        dedup(&mut entities);
        Entities::from_entities(entities, Some(schema().unwrap())).unwrap()
    }

    fn add_names(&self, names: Vec<String>, entities: &mut Vec<Entity>) {
        for name in names {
            let mut parents: HashSet<EntityUid> = HashSet::from([euid("Domain", &name)]);
            for (group, (members, _)) in NAMES.into_iter().zip(&self.groups) {
                let within = members.iter().any(|member| match member.strip_prefix('*') {
                    Some(dotted) => name.ends_with(dotted),
                    None => *member == name,
                });
                if within {
                    parents.insert(euid("HostGroup", group));
                }
            }
            let facts = [
                ("name", Expression::new_string(name.clone())),
                (
                    "length",
                    Expression::new_long(i64::try_from(name.len()).unwrap()),
                ),
                (
                    "labels",
                    Expression::new_long(i64::try_from(name.split('.').count()).unwrap()),
                ),
                ("longest_label", Expression::new_long(0)),
                ("entropy", Expression::new_long(0)),
            ];
            let facts = facts
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect();
            entities.push(Entity::new(euid("Host", &name), facts, parents).unwrap());
            let mut rest = name.as_str();
            while let Some((_, above)) = rest.split_once('.') {
                let parent = HashSet::from([euid("Domain", above)]);
                entities.push(Entity::new_no_attrs(euid("Domain", rest), parent));
                rest = above;
            }
            entities.push(Entity::new_no_attrs(euid("Domain", rest), HashSet::new()));
        }
    }

    /// What Cedar itself says about the whole set: outcome and rules as [`outcome`] writes them.
    fn expected(&self, snapshot: &Snapshot) -> String {
        let asker = all_facts(snapshot);
        let question = asker.ask(&self.request).unwrap();
        let store = self.store(&question);
        let set = whole_set(&self.rules);
        let plain = whole(&question, question.context.clone(), &set, &store);
        if plain != "default_deny" && !plain.starts_with("rule") {
            return plain;
        }
        let mut context = question.context.clone();
        context.push(question::hypothetical_approval().unwrap());
        match whole(&question, context, &set, &store).strip_prefix("allow") {
            Some(rules) => format!("approval_required{rules}"),
            None => plain,
        }
    }
}

fn euid(kind: &str, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.parse().unwrap(), cedar_policy::EntityId::new(id))
}

/// Attributes as the question has them, where it is about this very entity.
fn resource_like(
    question: &Question<'_>,
    kind: &str,
    id: &str,
    parents: HashSet<EntityUid>,
) -> Entity {
    let facts: Vec<(&str, Expression)> = match kind {
        "Address" => vec![
            ("ip", Expression::new_ip(id)),
            (
                "kind",
                Expression::new_string(crate::address::classify(id.parse().unwrap()).to_string()),
            ),
        ],
        _ => vec![
            ("path", Expression::new_string(id.to_owned())),
            (
                "name",
                Expression::new_string(
                    std::path::Path::new(id)
                        .file_name()
                        .map_or("/", |n| n.to_str().unwrap())
                        .to_owned(),
                ),
            ),
        ],
    };
    let facts = facts
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    assert!(question.resource.type_name().to_string() != "Backend" || kind == "Address");
    Entity::new(euid(kind, id), facts, parents).unwrap()
}

fn dedup(entities: &mut Vec<Entity>) {
    let mut seen = HashSet::new();
    entities.retain(|entity| seen.insert(entity.uid()));
}

fn whole_set(rules: &str) -> PolicySet {
    let mut set = PolicySet::new();
    for (number, rule) in rules.lines().enumerate() {
        let id = PolicyId::new(format!("test.cedar:{}", number + 1));
        set.add(cedar_policy::Policy::parse(Some(id), rule).unwrap())
            .unwrap();
    }
    set
}

fn whole(
    question: &Question<'_>,
    context: question::Context,
    set: &PolicySet,
    store: &Entities,
) -> String {
    let request = cedar_policy::Request::new(
        question.principal.clone(),
        question.action.uid.clone(),
        question.resource.clone(),
        Context::from_pairs(context).unwrap(),
        Some(schema().unwrap()),
    )
    .unwrap();
    let response = Authorizer::new().is_authorized(&request, set, store);
    let mut rules: Vec<String> = response
        .diagnostics()
        .reason()
        .map(|id| id.to_string())
        .collect();
    rules.sort_by_key(|id| id.rsplit(':').next().unwrap().parse::<usize>().unwrap());
    let failed = response.diagnostics().errors().next().is_some();
    let word = match (failed, response.decision(), rules.is_empty()) {
        (true, cedar_policy::Decision::Allow, _) => return "evaluation_error".into(),
        (true, cedar_policy::Decision::Deny, _) => "evaluation_error",
        (false, cedar_policy::Decision::Allow, _) => "allow",
        (false, cedar_policy::Decision::Deny, true) => "default_deny",
        (false, cedar_policy::Decision::Deny, false) => "rule",
    };
    format!("{word} {}", rules.join(",")).trim_end().to_owned()
}

use crate::engine::question::Question;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn slicing_is_whole_set_evaluation(case in case()) {
        let snapshot = load(&case.rules, &case.data());
        // The second time it is answered from what was kept.
        for _time in 0..2 {
            prop_assert_eq!(
                outcome(&snapshot, case.request.clone()),
                case.expected(&snapshot),
                "{}\n{}\n{:?}", case.rules, case.data(), case.request
            );
        }
    }
}
