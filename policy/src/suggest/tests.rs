//! A suggestion allows exactly what was refused.

use std::{sync::Arc, time::SystemTime};

use super::*;
use crate::{
    Backend, Decision, Destination, GrantMode, GrantSource, Method, SeccompProfile, SessionFacts,
    Snapshot, Transport,
    source::{PolicyFile, PolicySource},
};

fn asked(operation: Operation) -> Request {
    Request {
        session: Arc::new(SessionFacts {
            id: "s".into(),
            user: "alice".into(),
            groups: Vec::new(),
            agent: None,
            platform: "linux".into(),
            backend: Backend::Bubblewrap,
        }),
        operation,
        at: SystemTime::UNIX_EPOCH,
    }
}

fn connect(target: &str) -> Request {
    asked(Operation::Connect {
        destination: Destination::from_authority(target.as_bytes()).unwrap(),
        transport: Transport::Capture,
        seen: crate::Seen::default(),
    })
}

fn http(method: &str, target: &str) -> Request {
    asked(Operation::HttpRequest {
        destination: Destination::from_http_authority(target.as_bytes()).unwrap(),
        method: Method(method.into()),
        path: "/x".into(),
        facts: Box::default(),
    })
}

fn grant(path: &str, mode: GrantMode) -> Request {
    asked(Operation::GrantFolder {
        path: path.into(),
        mode,
        source: GrantSource::CommandLine,
        name: None,
    })
}

fn allows(rules: &str, request: &Request) -> bool {
    let snapshot = Snapshot::load(&PolicySource::new(
        "t",
        vec![PolicyFile::new("t.cedar", rules)],
    ))
    .unwrap_or_else(|error| panic!("{error}: {rules}"));
    matches!(snapshot.decide(request.clone()), Decision::Allow(_))
}

#[test]
fn adding_the_line_allows_the_request_and_not_its_neighbour() {
    let cases = [
        (connect("example.com:443"), connect("example.com:22")),
        (connect("example.com:443"), connect("a.example.com:443")),
        (connect("192.0.2.7:22"), connect("192.0.2.8:22")),
        (connect("[2001:db8::1]:22"), connect("[2001:db8::2]:22")),
        (http("GET", "example.com"), http("POST", "example.com")),
        (http("BREW", "example.com:81"), http("BREW", "example.com")),
        (
            grant("/home/a", GrantMode::Rw),
            grant("/home/a", GrantMode::Rwd),
        ),
        (
            grant("/home/a \"b\" \\c\u{e9}\t'", GrantMode::Ro),
            grant("/home", GrantMode::Ro),
        ),
        (
            grant("/home/a\u{301}\n\u{7f}", GrantMode::Ro),
            grant("/home/a", GrantMode::Ro),
        ),
        (
            asked(Operation::DeletePath {
                path: "/a/b".into(),
                mode: GrantMode::Rwd,
            }),
            asked(Operation::DeletePath {
                path: "/a/c".into(),
                mode: GrantMode::Rwd,
            }),
        ),
        (
            asked(Operation::StartSession {
                command: "true".into(),
                profile: SeccompProfile::Default,
            }),
            asked(Operation::StartSession {
                command: "true".into(),
                profile: SeccompProfile::Build,
            }),
        ),
    ];
    for (request, neighbour) in cases {
        let line = suggest(&request);
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(!allows("", &request), "{line}");
        assert!(allows(&line, &request), "{line}");
        assert!(!allows(&line, &neighbour), "{line}");
        let with_others =
            format!("permit (principal, action == Action::\"read\", resource);\n{line}\n");
        assert!(allows(&with_others, &request), "{line}");
    }
}

#[test]
fn the_line_reads_as_a_person_would_write_it() {
    assert_eq!(
        suggest(&connect("Example.com.:443")),
        "permit (principal, action == Action::\"connect\", resource == Host::\"example.com\") when { context.port == 443 };"
    );
}

#[test]
fn a_special_use_address_is_opened_in_configuration() {
    let request = asked(Operation::ReachAddress {
        destination: Destination::from_authority(b"db.example.com:5432").unwrap(),
        address: "10.0.0.7".parse().unwrap(),
    });
    let line = suggest(&request);
    let table: toml::Table = line.parse().unwrap();
    let permit = &table["network"]["permit_addresses"][0];
    assert_eq!(permit["host"].as_str(), Some("db.example.com"));
    assert_eq!(permit["addresses"][0].as_str(), Some("10.0.0.7/32"));
}

#[test]
fn nothing_is_suggested_for_a_path_that_is_not_canonical() {
    assert_eq!(suggest(&grant("/home/../etc", GrantMode::Ro)), "");
}
