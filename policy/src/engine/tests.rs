//! The engine, by what it decides.

mod conformance;
mod decisions;
mod slicing;
mod traps;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::SystemTime};

use super::*;
use crate::{
    Backend, Destination, GrantMode, GrantSource, Method, Operation, SessionFacts, Transport,
    source::PolicyFile,
};

/// A policy set of one rule file and one data file.
fn source(rules: &str, hosts: &str) -> PolicySource {
    let mut files = vec![PolicyFile::new("test.cedar", rules)];
    if !hosts.is_empty() {
        files.push(PolicyFile::new(
            "hosts.toml",
            format!("[host_groups]\n{hosts}"),
        ));
    }
    PolicySource::new("test", files)
}

fn load(rules: &str, hosts: &str) -> Snapshot {
    Snapshot::load(&source(rules, hosts)).unwrap_or_else(|e| panic!("{e}\n{rules}"))
}

fn refusal(rules: &str, hosts: &str) -> String {
    let error = Snapshot::load(&source(rules, hosts)).expect_err(rules);
    format!("{error}\nhelp: {}", error.help.clone().unwrap_or_default())
}

fn session() -> Arc<SessionFacts> {
    Arc::new(SessionFacts {
        id: "0190a5c2-0000-7000-8000-000000000001".into(),
        user: "alice".into(),
        groups: vec!["developers".into(), "staff".into()],
        agent: Some("claude".into()),
        platform: "linux".into(),
        backend: Backend::Bubblewrap,
    })
}

fn asked(operation: Operation) -> Request {
    Request {
        session: session(),
        operation,
        // 2026-11-20, a Friday, 09:00 UTC.
        at: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_795_165_200),
    }
}

fn connect(target: &str) -> Request {
    connect_by(target, Transport::HttpConnect)
}

fn connect_by(target: &str, transport: Transport) -> Request {
    asked(Operation::Connect {
        destination: Destination::from_authority(target.as_bytes()).unwrap(),
        transport,
    })
}

fn http(method: &str, target: &str, path: &str) -> Request {
    asked(Operation::HttpRequest {
        destination: Destination::from_http_authority(target.as_bytes()).unwrap(),
        method: Method(method.into()),
        path: path.into(),
    })
}

fn grant(path: &str, mode: GrantMode, source: GrantSource) -> Request {
    asked(Operation::GrantFolder {
        path: path.into(),
        mode,
        source,
    })
}

fn delete(path: &str, mode: GrantMode) -> Request {
    asked(Operation::DeletePath {
        path: PathBuf::from(path),
        mode,
    })
}

/// Outcome and rules in one line: `allow a`, `default_deny`, `rule b,c`.
fn outcome(snapshot: &Snapshot, request: Request) -> String {
    let (word, basis) = match snapshot.decide(request) {
        Decision::Allow(allow) => ("allow".to_owned(), allow.verdict().basis.clone()),
        Decision::Deny(deny) => {
            let deny = deny.verdict();
            let word = serde_json::to_value(deny.reason).unwrap();
            (word.as_str().unwrap().to_owned(), deny.basis.clone())
        }
    };
    let rules: Vec<&str> = basis.rules.iter().map(|rule| &*rule.id).collect();
    format!("{word} {}", rules.join(",")).trim_end().to_owned()
}

/// Every kind of request once.
fn every_kind() -> Vec<Request> {
    let address: IpAddr = "10.0.0.1".parse().unwrap();
    let mut unwalled = asked(Operation::StartSession {
        command: "true".into(),
    });
    unwalled.session = Arc::new(SessionFacts {
        backend: Backend::None,
        agent: None,
        groups: Vec::new(),
        ..(*session()).clone()
    });
    vec![
        asked(Operation::StartSession {
            command: "claude".into(),
        }),
        unwalled,
        grant("/", GrantMode::Ro, GrantSource::CommandLine),
        grant(
            "/home/alice/project",
            GrantMode::Rw,
            GrantSource::WorkingDirectory,
        ),
        grant(
            "/home/alice/project/b",
            GrantMode::Rwd,
            GrantSource::Profile,
        ),
        delete("/home/alice/project/a.txt", GrantMode::Rwd),
        connect("api.github.com:443"),
        connect_by("192.0.2.7:22", Transport::Socks5),
        connect_by("[2001:db8::7]:22", Transport::Capture),
        http("GET", "example.com", "/a"),
        http("POST", "example.com:8080", "/a"),
        http("DELETE", "192.0.2.7", "/a"),
        http("PROPFIND", "example.com", "/a"),
        asked(Operation::ReachAddress {
            destination: Destination::from_authority(b"example.com:443").unwrap(),
            address,
        }),
    ]
}
