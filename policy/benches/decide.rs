//! A warm network decision with 10,000 hosts, beside plain `Authorizer` over the same hosts.
//!
//! Three sets: hosts in groups (data), one rule for each host, and the default pack.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark fails loudly"
)]

use std::{collections::HashSet, fmt::Write, hint::black_box, sync::Arc, time::SystemTime};

use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityUid, PolicySet, RestrictedExpression,
};
use cordon_policy::{
    Backend, Destination, GrantMode, GrantSource, Operation, Request, SessionFacts, Snapshot,
    Transport,
    source::{PolicyFile, PolicySource},
};
use criterion::{Criterion, criterion_group, criterion_main};

const HOSTS: usize = 10_000;
const TARGET: &str = "api.h5000.example.com";

fn decisions(c: &mut Criterion) {
    let grouped = grouped();
    let by_rule = load(&rules(), "");
    let default = Snapshot::load(&PolicySource::default_pack()).unwrap();
    let session = session();
    let mut group = c.benchmark_group("decide");
    group.bench_function("10,000 hosts in groups", |b| {
        let request = connect(&session, TARGET);
        b.iter(|| grouped.decide(black_box(request.clone())));
    });
    group.bench_function("10,000 rules", |b| {
        let request = connect(&session, TARGET);
        b.iter(|| by_rule.decide(black_box(request.clone())));
    });
    group.bench_function("default pack, allow", |b| {
        let request = connect(&session, "api.github.com");
        b.iter(|| default.decide(black_box(request.clone())));
    });
    group.bench_function("default pack, deny", |b| {
        let request = connect(&session, "example.com");
        b.iter(|| default.decide(black_box(request.clone())));
    });
    group.bench_function("default pack, grant", |b| {
        let request = Request {
            session: Arc::clone(&session),
            operation: Operation::GrantFolder {
                path: "/home/alice/project".into(),
                mode: GrantMode::Rw,
                source: GrantSource::CommandLine,
            },
            at: SystemTime::UNIX_EPOCH,
        };
        b.iter(|| default.decide(black_box(request.clone())));
    });
    group.finish();
    plain_cedar(c);
    let rules = rules();
    c.bench_function("load 10,000 rules", |b| {
        b.iter(|| load(black_box(&rules), ""))
    });
}

/// `Authorizer` over one rule for each host, with the smallest store that answers.
fn plain_cedar(c: &mut Criterion) {
    let set: PolicySet = rules().parse().unwrap();
    let uid = |text: &str| -> EntityUid { text.parse().unwrap() };
    let host = uid(&format!("Host::\"{TARGET}\""));
    let domain = uid("Domain::\"h5000.example.com\"");
    let connect = uid("Action::\"connect\"");
    let entities = Entities::from_entities(
        [
            Entity::new_no_attrs(host.clone(), HashSet::from([domain])),
            Entity::new_no_attrs(connect.clone(), HashSet::from([uid("Action::\"network\"")])),
        ],
        None,
    )
    .unwrap();
    let authorizer = Authorizer::new();
    c.bench_function("plain Authorizer, 10,000 rules", |b| {
        b.iter(|| {
            let port = RestrictedExpression::new_long(443);
            let context = Context::from_pairs([("port".to_owned(), port)]).unwrap();
            let request = cedar_policy::Request::new(
                uid("Session::\"s\""),
                connect.clone(),
                host.clone(),
                context,
                None,
            )
            .unwrap();
            authorizer.is_authorized(black_box(&request), &set, &entities)
        });
    });
}

fn rules() -> String {
    let mut text = String::new();
    for number in 0..HOSTS {
        writeln!(
            text,
            "permit (principal, action in Action::\"network\", resource in Domain::\"h{number}.example.com\");"
        )
        .unwrap();
    }
    text
}

fn grouped() -> Snapshot {
    let mut hosts = String::from("[host_groups]\n");
    for group in 0..10 {
        write!(hosts, "g{group} = [").unwrap();
        for number in (group * HOSTS / 10)..((group + 1) * HOSTS / 10) {
            write!(hosts, "\"*.h{number}.example.com\",").unwrap();
        }
        hosts.push_str("]\n");
    }
    load(
        "permit (principal, action in Action::\"network\", resource in HostGroup::\"g5\");
         permit (principal, action in Action::\"network\", resource in HostGroup::\"g1\");
         forbid (principal, action in Action::\"network\", resource) when { context.port == 25 };",
        &hosts,
    )
}

fn load(rules: &str, hosts: &str) -> Snapshot {
    let file = |path: &str, text: &str| PolicyFile::new(path, text);
    Snapshot::load(&PolicySource::new(
        "bench",
        vec![file("bench.cedar", rules), file("hosts.toml", hosts)],
    ))
    .expect("the benchmark's set loads")
}

fn session() -> Arc<SessionFacts> {
    Arc::new(SessionFacts {
        id: "0190a5c2-0000-7000-8000-000000000001".into(),
        user: "alice".into(),
        groups: vec!["alice".into(), "developers".into()],
        agent: Some("claude".into()),
        platform: "linux".into(),
        backend: Backend::Bubblewrap,
    })
}

fn connect(session: &Arc<SessionFacts>, host: &str) -> Request {
    Request {
        session: Arc::clone(session),
        operation: Operation::Connect {
            destination: Destination::from_parts(host.as_bytes(), 443).unwrap(),
            transport: Transport::HttpConnect,
        },
        at: SystemTime::UNIX_EPOCH,
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = decisions
}
criterion_main!(benches);
