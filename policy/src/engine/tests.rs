//! The engine, by what it decides.

mod conformance;
mod corpus;
mod decisions;
mod kept;
mod layers;
mod observe;
mod oracle;
mod past;
mod slicing;
mod traps;
mod why_not;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use super::*;
use crate::{
    Backend, BrowserAct, Destination, ExtensionFacts, GrantMode, GrantSource, Holder, HttpFacts,
    Method, Operation, Origin, ProcessFacts, Scheme, SeccompProfile, Seen, SessionFacts, Signature,
    TlsFacts, Transport, source::PolicyFile,
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
        seen: Seen::default(),
    })
}

fn seen_connect(target: &str, seen: Seen) -> Request {
    asked(Operation::Connect {
        destination: Destination::from_authority(target.as_bytes()).unwrap(),
        transport: Transport::HttpConnect,
        seen,
    })
}

/// Everything that can be seen of a connection.
fn handshake(sni: Option<&str>) -> Seen {
    Seen {
        tls: Some(Arc::new(TlsFacts {
            sni: sni.map(str::to_owned),
            alpn: vec!["h2".into(), "http/1.1".into()],
            ech: true,
            ja4: Some("t13d1516h2_8daaf6152771_e5627efa2ab1".into()),
            version: Some("1.3".into()),
            ..TlsFacts::default()
        })),
        names: vec!["edge.cdn.test".parse().unwrap()],
        address_unverified: true,
        process: Some(Arc::new(curl_of_bash(true))),
    }
}

/// One process; `complete` or not.
fn curl_of_bash(complete: bool) -> ProcessFacts {
    ProcessFacts {
        holders: vec![Holder {
            pid: 7,
            executable: "/usr/bin/curl".into(),
            digest: Some("00ff".into()),
            ancestors: vec!["/usr/bin/bash".into()],
            ..Holder::default()
        }],
        complete,
    }
}

fn http(method: &str, target: &str, path: &str) -> Request {
    asked(Operation::HttpRequest {
        destination: Destination::from_http_authority(target.as_bytes()).unwrap(),
        method: Method(method.into()),
        path: path.into(),
        facts: Box::default(),
    })
}

/// A request to go on as a WebSocket.
fn upgrade(method: &str, target: &str) -> Request {
    let mut request = http(method, target, "/ws");
    if let Operation::HttpRequest { facts, .. } = &mut request.operation {
        facts.upgrade = Some("websocket".into());
    }
    request
}

fn grant(path: &str, mode: GrantMode, source: GrantSource) -> Request {
    asked(Operation::GrantFolder {
        path: path.into(),
        mode,
        source,
        name: None,
    })
}

fn delete(path: &str, mode: GrantMode) -> Request {
    asked(Operation::DeletePath {
        path: PathBuf::from(path),
        mode,
    })
}

/// What puts every fact into a question, whether a rule looks at it or not.
/// A session that did nothing yet.
static NOTHING: LazyLock<History> = LazyLock::new(History::default);

fn all_facts(snapshot: &Snapshot) -> Asker<'_> {
    Asker {
        uses: question::Uses {
            time: true,
            host_facts: true,
            approval: true,
            tls: true,
            names: true,
            unverified: true,
            process: true,
            http_facts: true,
            past: true,
        },
        ..snapshot.by(&NOTHING).asker
    }
}

/// What a decision rests on.
fn basis(snapshot: &Snapshot, request: Request) -> crate::Basis {
    match snapshot.decide(request) {
        Decision::Allow(allow) => allow.verdict().basis.clone(),
        Decision::Deny(deny) => deny.verdict().basis.clone(),
    }
}

/// Outcome and rules in one line: `allow a`, `default_deny`, `rule b,c`.
fn outcome(snapshot: &Snapshot, request: Request) -> String {
    let (word, basis) = match snapshot.decide(request) {
        Decision::Allow(allow) => ("allow", allow.verdict().basis.clone()),
        Decision::Deny(deny) => {
            let deny = deny.verdict();
            (deny.reason.code(), deny.basis.clone())
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
        profile: SeccompProfile::Default,
    });
    unwalled.session = Arc::new(SessionFacts {
        backend: Backend::None,
        agent: None,
        groups: Vec::new(),
        ..(*session()).clone()
    });
    let extension = ExtensionFacts {
        id: "acme.notes".into(),
        publisher: Some("acme".into()),
        version: "1.2.0".into(),
        digest: "0".repeat(64),
        signature: Signature::Trusted,
    };
    let origin = |host: &str| Origin {
        scheme: Scheme::Https,
        destination: Destination::from_parts(host.as_bytes(), 443).unwrap(),
    };
    let asking = Arc::new(SessionFacts {
        id: "0190a5c2-0000-7000-8000-000000000002".into(),
        user: "bob".into(),
        ..(*session()).clone()
    });
    let file = |path: &str| PathBuf::from(path);
    let mode = GrantMode::Rw;
    let mut all = vec![
        asked(Operation::ExecInSession {
            command: "true".into(),
            profile: SeccompProfile::Build,
        }),
        asked(Operation::PublishPort {
            address: "127.0.0.1".parse().unwrap(),
            port: 8080,
            inside: 3000,
        }),
        asked(Operation::StartSession {
            command: "claude".into(),
            profile: SeccompProfile::Default,
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
        upgrade("GET", "example.com"),
        seen_connect("api.github.com:443", handshake(Some("api.github.com"))),
        seen_connect("192.0.2.7:443", handshake(None)),
        asked(Operation::HttpRequest {
            destination: Destination::from_authority(b"api.github.com:443").unwrap(),
            method: Method("POST".into()),
            path: "/a".into(),
            facts: Box::new(HttpFacts {
                scheme: Scheme::Https,
                query_keys: vec!["a".into(), "b".into()],
                content_type: Some("application/json".into()),
                content_length: Some(u64::MAX),
                credential: true,
                upgrade: Some("websocket".into()),
                seen: handshake(Some("api.github.com")),
            }),
        }),
        asked(Operation::ReachAddress {
            destination: Destination::from_authority(b"example.com:443").unwrap(),
            address,
        }),
        connect_by("xn--bcher-kva.example:443", Transport::Capture),
        grant("/home/alice", GrantMode::Rwd, GrantSource::CommandLine),
        asked(Operation::ReadPath {
            path: file("/home/alice/project/a.txt"),
            mode,
        }),
        asked(Operation::WritePath {
            path: file("/home/alice/project/a.txt"),
            mode,
        }),
        asked(Operation::EnableConnector {
            connector: "tracker".into(),
        }),
        asked(Operation::UseScope {
            connector: "tracker".into(),
            scope: "read:issues".into(),
        }),
        asked(Operation::InstallExtension {
            extension: extension.clone(),
        }),
        asked(Operation::LoadExtension {
            extension: extension.clone(),
        }),
        asked(Operation::UsePermission {
            extension: extension.clone(),
            permission: "files:read".into(),
        }),
        asked(Operation::CallTool {
            extension: ExtensionFacts {
                publisher: None,
                signature: Signature::Unsigned,
                ..extension
            },
            tool: "search".into(),
            call: Box::new(crate::ToolCall {
                arguments: vec!["repo=a/b".into()],
                ..crate::ToolCall::default()
            }),
        }),
        asked(Operation::EnableBrowser),
        asked(Operation::OpenOrigin {
            origin: origin("api.github.com"),
        }),
        asked(Operation::ActInOrigin {
            origin: origin("192.0.2.7"),
            act: BrowserAct::Submit,
        }),
        asked(Operation::Approve { asking }),
        asked(Operation::Approve { asking: session() }),
        asked(Operation::PublishPolicy {
            bundle: "acme".into(),
        }),
        asked(Operation::ReadLog {
            log: "node.example.com".into(),
        }),
    ];
    all.extend(
        crate::SessionAct::ALL.map(|act| asked(Operation::ManageSession { act, of: session() })),
    );
    all
}
