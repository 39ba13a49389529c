//! Slicing is only work saved: on random sets and requests, the engine and plain Cedar over the
//! whole set with the whole store agree on outcome and rules.

use std::collections::HashSet;

use proptest::{prelude::*, sample::select};

use super::*;

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
    ("== Action::\"connect\"", "in Network::\"::/0\""),
    ("in Action::\"files\"", "in Folder::\"/home\""),
    ("in Action::\"grant\"", "== Folder::\"/home/alice\""),
    ("== Action::\"delete\"", "in Folder::\"/home/alice\""),
    ("== Action::\"start_session\"", "== Backend::\"bubblewrap\""),
    ("in Action::\"session\"", "is Backend"),
    ("in Action::\"connectors\"", "in Connector::\"tracker\""),
    (
        "== Action::\"enable_connector\"",
        "== Connector::\"tracker\"",
    ),
    (
        "== Action::\"use_scope\"",
        "== ConnectorScope::\"tracker/read:issues\"",
    ),
    ("in Action::\"extensions\"", "in Publisher::\"acme\""),
    ("in Action::\"extensions\"", "in Extension::\"acme.notes\""),
    ("== Action::\"load_extension\"", "is Extension"),
    (
        "== Action::\"use_permission\"",
        "== ExtensionPermission::\"acme.notes/files:read\"",
    ),
    (
        "== Action::\"call_tool\"",
        "is ExtensionTool in Publisher::\"acme\"",
    ),
    ("== Action::\"enable_browser\"", "== Platform::\"linux\""),
    ("in Action::\"browser\"", "in Domain::\"github.com\""),
    ("in Action::\"browser\"", "in HostGroup::\"a\""),
    (
        "== Action::\"open\"",
        "== Origin::\"https://api.github.com\"",
    ),
    ("in Action::\"administration\"", ""),
    ("== Action::\"approve\"", "in Group::\"developers\""),
    ("== Action::\"approve\"", "in User::\"bob\""),
    ("in Action::\"manage_sessions\"", "in User::\"bob\""),
    ("== Action::\"steer_session\"", "is Session"),
    ("== Action::\"publish_policy\"", "== PolicyBundle::\"acme\""),
    ("== Action::\"read_log\"", "is AuditLog"),
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
    "when { resource has signature && resource.signature == \"trusted\" }",
    "unless { context has kind && context.kind == \"submit\" }",
    "when { resource has scheme && resource.scheme == \"https\" }",
    "when { resource has user && resource.user in Group::\"staff\" }",
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
    "*.github.com",
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
    pub(super) groups: Vec<(Vec<&'static str>, Vec<usize>)>,
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
            .prop_map(|(destination, transport)| Operation::Connect { destination, transport, seen: Seen::default() }),
        3 => (target(), select(&["GET", "POST", "DELETE", "X"][..])).prop_map(
            |(destination, method)| Operation::HttpRequest {
                destination,
                method: Method(method.into()),
                path: "/".into(),
                facts: Box::default(),
            }
        ),
        2 => (select(PATHS), mode(), select(&[GrantSource::CommandLine, GrantSource::Profile][..]))
            .prop_map(|(path, mode, source)| Operation::GrantFolder {
                path: path.into(), mode, source, name: None,
            }),
        1 => (select(PATHS), mode())
            .prop_map(|(path, mode)| Operation::DeletePath { path: path.into(), mode }),
        1 => Just(Operation::StartSession { command: "claude".into(), profile: SeccompProfile::Build }),
    ];
    prop_oneof![
        3 => operation.prop_map(asked),
        // Every kind of request that there is.
        2 => select(every_kind()).prop_filter("rules are not asked about it", |request| {
            !matches!(request.operation, Operation::ReachAddress { .. })
        }),
    ]
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

pub(super) const NAMES: [&str; 4] = ["a", "b", "c", "d"];

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
}

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
