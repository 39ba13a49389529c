//! Counts: what they say, and that they stay bounded whatever a session does.

use std::{sync::Arc, time::Duration};

use cordon_audit::{FlowEnd, Log, LogOptions, RecordId};
use cordon_policy::{
    Backend, Destination, GrantMode, GrantSource, SessionFacts, Snapshot, Transport,
    source::PolicySource,
};

use super::{destinations::MAX_DESTINATIONS, *};
use crate::{Durability, Gate, GateError};

struct World {
    gate: Gate,
    runtime: tokio::runtime::Runtime,
    _log: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let policy = directory.path().join("policy.cedar");
        let text = "@id(\"web\")\npermit (principal, action == Action::\"connect\", resource)\n\
                    when { context.port == 443 };\n\
                    @id(\"inside\")\npermit (principal, action == Action::\"http_read\", resource);\n\
                    @id(\"work\")\npermit (principal, action == Action::\"grant_ro\", resource);\n";
        std::fs::write(&policy, text).unwrap();
        let source = PolicySource::read(&[policy.as_path()]).unwrap();
        let snapshot = Snapshot::load(&source).unwrap();
        let log = Log::open(&directory.path().join("log"), LogOptions::default()).unwrap();
        let facts = SessionFacts {
            id: "s".into(),
            user: "ann".into(),
            groups: Vec::new(),
            agent: None,
            platform: "linux".into(),
            backend: Backend::Bubblewrap,
        };
        Self {
            gate: Gate::new(Arc::new(facts), Arc::new(snapshot), log),
            runtime: tokio::runtime::Runtime::new().unwrap(),
            _log: directory,
        }
    }

    /// Asks for a connection; the record's id where it was allowed.
    fn connect(&self, to: &str) -> Option<RecordId> {
        let operation = Operation::Connect {
            destination: Destination::from_authority(to.as_bytes()).unwrap(),
            transport: Transport::Socks5,
            seen: cordon_policy::Seen::default(),
        };
        self.ask(operation)
    }

    fn ask(&self, operation: Operation) -> Option<RecordId> {
        let admitted = self.gate.admit(operation, Durability::Synced);
        match self.runtime.block_on(admitted) {
            Ok(permit) => Some(permit.id()),
            Err(GateError::Denied(_)) => None,
            Err(GateError::NotRecorded(error)) => panic!("{error}"),
        }
    }

    fn close(&self, decision: RecordId, end: FlowEnd) {
        self.gate.event_later(Event::FlowClosed {
            session: Arc::clone(self.gate.session()),
            decision,
            peer: None,
            bytes_out: 3,
            bytes_in: 5,
            duration: Duration::ZERO,
            status: None,
            tls: None,
            end,
        });
    }
}

#[test]
fn a_request_like_the_last_one_is_counted_as_it_and_another_is_not() {
    let world = World::new();
    let read = |method: &str, to: &str, scheme| {
        world.ask(Operation::HttpRequest {
            destination: Destination::from_authority(to.as_bytes()).unwrap(),
            method: cordon_policy::Method(method.into()),
            path: "/".into(),
            facts: Box::new(cordon_policy::HttpFacts {
                scheme,
                ..cordon_policy::HttpFacts::default()
            }),
        })
    };
    let (a, b) = ("a.example.com:80", "b.example.com:80");
    let asked = [
        ("GET", a, Scheme::Http),
        ("GET", a, Scheme::Http),
        ("GET", b, Scheme::Http),
        ("HEAD", b, Scheme::Http),
        ("HEAD", b, Scheme::Https),
        ("GET", a, Scheme::Http),
        ("GET", a, Scheme::Http),
    ];
    let ids = asked.map(|(method, to, scheme)| read(method, to, scheme).unwrap());
    assert!(read("POST", a, Scheme::Http).is_none());
    for id in ids {
        world.close(id, FlowEnd::Completed);
    }
    let totals = world.gate.tally().totals();
    assert_eq!((totals.decisions.allow, totals.decisions.deny), (7, 1));
    let of = |id: &str| {
        let found = totals.destinations.iter().find(|d| d.id == id).unwrap();
        (found.allowed, found.denied, found.bytes_in)
    };
    // Of what went inside a tunnel the bytes are the tunnel's.
    assert_eq!((of(a), of(b)), ((4, 1, 20), (3, 0, 10)));
    let lines = world.gate.tally().lines();
    let counts: Vec<_> = lines.lines.iter().map(|line| line.count).collect();
    assert_eq!(counts, [4, 1, 1, 1, 1]);
    assert_eq!(
        (lines.bytes_in, lines.bytes_out, lines.records),
        (30, 18, 15)
    );
}

#[test]
fn decisions_flows_and_refusals_are_counted() {
    let world = World::new();
    let one = world.connect("a.example.com:443").unwrap();
    let two = world.connect("a.example.com:443").unwrap();
    assert!(world.connect("a.example.com:80").is_none());
    assert!(world.connect("b.example.com:80").is_none());
    world.close(one, FlowEnd::Completed);
    world.close(two, FlowEnd::ConnectFailed);
    world.close(two, FlowEnd::Completed);
    let folder = |mode| Operation::GrantFolder {
        path: "/srv/work".into(),
        mode,
        source: GrantSource::CommandLine,
        name: None,
    };
    assert!(world.ask(folder(GrantMode::Ro)).is_some());
    assert!(world.ask(folder(GrantMode::Rwd)).is_none());
    let raw = world
        .gate
        .refuse_raw("http", b"\x1b[2J", "no host name: send one".into());
    assert!(matches!(world.runtime.block_on(raw), GateError::Denied(_)));

    let totals = world.gate.tally().totals();
    assert_eq!((totals.decisions.allow, totals.decisions.deny), (3, 4));
    assert_eq!(totals.actions["net.connect"].allow, 2);
    assert_eq!(totals.actions["malformed"].deny, 1);
    assert_eq!((totals.files.granted, totals.files.refused), (1, 1));
    assert_eq!((totals.bytes_in, totals.bytes_out), (15, 9));
    let reasons: Vec<_> = totals
        .refused
        .iter()
        .map(|r| (r.reason.as_str(), r.count))
        .collect();
    assert_eq!(reasons, [("default_deny", 3), ("malformed", 1)]);
    let first = &totals.destinations[0];
    assert_eq!(
        (first.id.as_str(), first.allowed, first.unreached),
        ("a.example.com:443", 2, 1)
    );
    assert_eq!(
        (first.bytes_in, first.bytes_out),
        (10, 6),
        "the third end is of no flow"
    );
    assert_eq!(totals.others, None);

    let lines = world.gate.tally().lines();
    assert_eq!(lines.records, 10);
    let line = &lines.lines[0];
    assert_eq!(
        (line.count, line.unreached, line.rule.as_str()),
        (2, 1, "web")
    );
    assert!(
        lines
            .lines
            .iter()
            .any(|line| line.why == "no host name: send one")
    );
}

#[test]
fn what_a_session_does_is_counted_in_bounded_space() {
    let tally = Tally::default();
    let count = u64::try_from(MAX_DESTINATIONS + 500).unwrap();
    for n in 0..count {
        let counts = &mut *tally.lock();
        let destination = counts.destinations.place(format!("h{n}.example.com:443"));
        counts.destinations.at(destination).denied += 1 + u64::from(n == 7);
        counts.count("net.connect", Some(DenyReason::DefaultDeny));
        let raw = || {
            Asked::Raw(cordon_policy::RawRequest {
                session: Arc::new(SessionFacts {
                    id: "s".into(),
                    user: "ann".into(),
                    groups: Vec::new(),
                    agent: None,
                    platform: "linux".into(),
                    backend: Backend::None,
                }),
                door: "http",
                text: n.to_string(),
                at: std::time::SystemTime::UNIX_EPOCH,
                problem: "p".into(),
            })
        };
        let refused = Some(DenyReason::Malformed);
        counts.line(key(true, "p", n), refused, || {
            new_line(raw(), refused, "p".into(), &Basis::default())
        });
    }
    let totals = tally.totals();
    assert_eq!(totals.decisions.deny, count);
    assert_eq!(totals.destinations.len(), NAMED);
    assert_eq!(
        totals.destinations[0].id, "h7.example.com:443",
        "most decisions first"
    );
    let others = totals.others.unwrap();
    let named: u64 = totals.destinations.iter().map(|of| of.denied).sum();
    assert_eq!(others.denied + named, count + 1, "none is lost");
    assert!(others.id.starts_with("at least "), "{}", others.id);
    let lines = tally.lines();
    assert_eq!(lines.lines.len(), MAX_LINES);
    let counted: u64 = lines.lines.iter().map(|line| line.count).sum();
    assert_eq!(lines.more.deny + counted, count);
}

#[test]
fn bytes_of_a_request_inside_a_tunnel_are_counted_with_the_tunnel() {
    let world = World::new();
    let tunnel = world.connect("a.test:443").unwrap();
    let request = Operation::HttpRequest {
        destination: Destination::from_authority(b"a.test:443").unwrap(),
        method: cordon_policy::Method("GET".into()),
        path: "/".into(),
        facts: Box::new(cordon_policy::HttpFacts {
            scheme: Scheme::Https,
            ..cordon_policy::HttpFacts::default()
        }),
    };
    let request = world.ask(request).unwrap();
    for (decision, bytes) in [(request, 60), (tunnel, 100)] {
        world.gate.event_later(Event::FlowClosed {
            session: Arc::clone(world.gate.session()),
            decision,
            peer: None,
            bytes_out: bytes,
            bytes_in: bytes,
            duration: Duration::ZERO,
            status: None,
            tls: None,
            end: FlowEnd::Completed,
        });
    }
    let totals = world.gate.tally().totals();
    assert_eq!((totals.bytes_out, totals.bytes_in), (100, 100));
    assert_eq!(totals.destinations[0].bytes_out, 100);
}

#[test]
fn what_was_asked_and_why_are_told_apart_whatever_stands_in_them() {
    let keys = [
        key(false, "a", "b"),
        key(true, "a", "b"),
        key(false, "ab", ""),
        key(false, "", "ab"),
        key(false, "", "1:ab"),
        key(false, "1:a", "b"),
    ];
    let different: std::collections::HashSet<_> = keys.iter().collect();
    assert_eq!(different.len(), keys.len());
}
