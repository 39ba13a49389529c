//! The policy sets and requests that are measured.

use std::{collections::HashSet, fmt::Write, sync::Arc, time::SystemTime};

use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityUid, PolicySet, Response, RestrictedExpression,
};
use cordon_policy::{
    Backend, Destination, GrantMode, Method, Operation, Request, SessionFacts, Snapshot, Transport,
    source::{PolicyFile, PolicySource},
};

const HOSTS: usize = 10_000;

/// What applies to a host of group `g5`: two rules of three.
const GROUP_RULES: &str = "
permit (principal, action in Action::\"network\", resource in HostGroup::\"g5\");
permit (principal, action in Action::\"network\", resource in HostGroup::\"g1\");
forbid (principal, action in Action::\"network\", resource) when { context.port == 25 };
permit (principal in Group::\"developers\", action in [Action::\"connect\", Action::\"http_read\"], resource in Domain::\"example.com\")
when { context.port == 443 };";

/// 10,000 hosts with their subdomains, in ten groups.
pub(crate) fn grouped() -> Snapshot {
    let mut hosts = String::from("[host_groups]\n");
    for group in 0..10 {
        write!(hosts, "g{group} = [").unwrap();
        for number in (group * HOSTS / 10)..((group + 1) * HOSTS / 10) {
            write!(hosts, "\"*.h{number}.example.com\",").unwrap();
        }
        hosts.push_str("]\n");
    }
    load(GROUP_RULES, &hosts)
}

/// One rule for each host.
pub(crate) fn rules() -> String {
    let mut text = String::new();
    for number in 0..HOSTS {
        writeln!(
            text,
            "@id(\"h{number}\") permit (principal, action in Action::\"network\", resource in Domain::\"h{number}.example.com\");"
        )
        .unwrap();
    }
    text
}

pub(crate) fn by_rule() -> Snapshot {
    load(&rules(), "")
}

/// 1,000 folders that may be read, and two rules about all of them.
pub(crate) fn folders() -> Snapshot {
    let mut text = String::from(
        "forbid (principal, action == Action::\"delete\", resource) when { context.mode != \"rwd\" };
         forbid (principal, action in Action::\"files\", resource is File) when { resource.name == \".netrc\" };\n",
    );
    for number in 0..1_000 {
        writeln!(
            text,
            "permit (principal, action == Action::\"read\", resource in Folder::\"/srv/p{number}\");"
        )
        .unwrap();
    }
    load(&text, "")
}

pub(crate) fn source(rules: &str, hosts: &str) -> PolicySource {
    let file = |path: &str, text: &str| PolicyFile::new(path, text);
    PolicySource::new(
        "bench",
        vec![file("bench.cedar", rules), file("hosts.toml", hosts)],
    )
}

fn load(rules: &str, hosts: &str) -> Snapshot {
    Snapshot::load(&source(rules, hosts)).expect("the benchmark's set loads")
}

pub(crate) fn session() -> Arc<SessionFacts> {
    Arc::new(SessionFacts {
        id: "0190a5c2-0000-7000-8000-000000000001".into(),
        user: "alice".into(),
        groups: vec!["alice".into(), "developers".into()],
        agent: Some("claude".into()),
        platform: "linux".into(),
        backend: Backend::Bubblewrap,
    })
}

pub(crate) fn connect(session: &Arc<SessionFacts>, host: &str) -> Request {
    asked(
        session,
        Operation::Connect {
            destination: Destination::from_parts(host.as_bytes(), 443).unwrap(),
            transport: Transport::HttpConnect,
            seen: cordon_policy::Seen::default(),
        },
    )
}

/// A request of which a rule that applies reads what may differ: evaluated each time.
pub(crate) fn get(session: &Arc<SessionFacts>, host: &str) -> Request {
    asked(
        session,
        Operation::HttpRequest {
            destination: Destination::from_parts(host.as_bytes(), 443).unwrap(),
            method: Method("GET".into()),
            path: "/index.html".into(),
            facts: Box::default(),
        },
    )
}

pub(crate) fn read(session: &Arc<SessionFacts>, path: &str) -> Request {
    asked(
        session,
        Operation::ReadPath {
            path: path.into(),
            mode: GrantMode::Ro,
        },
    )
}

fn asked(session: &Arc<SessionFacts>, operation: Operation) -> Request {
    Request {
        session: Arc::clone(session),
        operation,
        at: SystemTime::UNIX_EPOCH,
    }
}

/// Cedar alone, with the smallest store that answers: entities stand ready for each host, and so
/// may the request.
pub(crate) struct Bare {
    set: PolicySet,
    /// Of each host: what is asked, and the store.
    hosts: Vec<(EntityUid, cedar_policy::Request, Entities)>,
}

impl Bare {
    /// The rules of [`grouped`] that apply.
    pub(crate) fn grouped(hosts: &[String]) -> Self {
        let applies = GROUP_RULES.replace(
            "permit (principal, action in Action::\"network\", resource in HostGroup::\"g1\");",
            "",
        );
        Self::new(&applies, hosts)
    }

    /// All of [`rules`].
    pub(crate) fn by_rule(hosts: &[String]) -> Self {
        Self::new(&rules(), hosts)
    }

    fn new(rules: &str, hosts: &[String]) -> Self {
        Self {
            set: rules.parse().unwrap(),
            hosts: hosts.iter().map(|host| Self::host(host)).collect(),
        }
    }

    fn host(name: &str) -> (EntityUid, cedar_policy::Request, Entities) {
        let domain = name.strip_prefix("api.").unwrap();
        let host = uid(&format!("Host::\"{name}\""));
        let parents = [
            uid(&format!("Domain::\"{domain}\"")),
            uid("Domain::\"example.com\""),
            uid("HostGroup::\"g5\""),
        ];
        let action = uid("Action::\"connect\"");
        let entities = [
            Entity::new_no_attrs(host.clone(), HashSet::from(parents)),
            Entity::new_no_attrs(action, HashSet::from([uid("Action::\"network\"")])),
            Entity::new_no_attrs(
                uid("Session::\"s\""),
                HashSet::from([uid("Group::\"developers\"")]),
            ),
        ];
        let store = Entities::from_entities(entities, None).unwrap();
        (host.clone(), asked_of(&host), store)
    }

    /// Request and context are built, as they must be where nothing is kept.
    pub(crate) fn answer(&self, at: usize) -> Response {
        let (host, _, store) = &self.hosts[at % self.hosts.len()];
        Authorizer::new().is_authorized(&asked_of(host), &self.set, store)
    }

    /// The request stands ready, too: evaluation and nothing else.
    pub(crate) fn evaluate(&self, at: usize) -> Response {
        let (_, request, store) = &self.hosts[at % self.hosts.len()];
        Authorizer::new().is_authorized(request, &self.set, store)
    }
}

fn asked_of(host: &EntityUid) -> cedar_policy::Request {
    let pairs = [
        ("port".to_owned(), RestrictedExpression::new_long(443)),
        (
            "transport".to_owned(),
            RestrictedExpression::new_string("http-connect".to_owned()),
        ),
    ];
    cedar_policy::Request::new(
        SESSION.with(Clone::clone),
        ACTION.with(Clone::clone),
        host.clone(),
        Context::from_pairs(pairs).unwrap(),
        None,
    )
    .unwrap()
}

thread_local! {
    static SESSION: EntityUid = uid("Session::\"s\"");
    static ACTION: EntityUid = uid("Action::\"connect\"");
}

fn uid(text: &str) -> EntityUid {
    text.parse().unwrap()
}
