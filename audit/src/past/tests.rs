//! What was decided comes back from its record as it was, or not at all.

use std::{path::PathBuf, sync::Arc};

use cordon_policy::{Asked, Basis, Decided, Decision, Deny};

use super::*;
use crate::{
    draft::{Draft, samples as drafts},
    secrets::Secrets,
};

fn facts() -> Arc<SessionFacts> {
    Arc::new(SessionFacts {
        id: "s-1".into(),
        user: "ann".into(),
        groups: vec!["staff".into(), "lab".into()],
        agent: Some("claude".into()),
        platform: "linux".into(),
        backend: Backend::Bubblewrap,
    })
}

fn record_of(operation: Operation, reason: DenyReason) -> Record {
    let decision: Decision = Decided::<Deny>::deny(
        Asked::Request(Request {
            session: facts(),
            operation,
            at: SystemTime::UNIX_EPOCH,
        }),
        reason,
        Basis::default(),
    )
    .into();
    let leaf = drafts::leaf(Draft::of_decision(&decision, &Secrets::default()));
    Record::from_leaf(&leaf).unwrap()
}

fn denied(operation: Operation) -> Record {
    record_of(operation, DenyReason::DefaultDeny)
}

fn at(target: &str) -> Destination {
    Destination::from_authority(target.as_bytes()).unwrap()
}

fn everything_seen() -> Seen {
    Seen {
        tls: Some(Arc::new(TlsFacts {
            kind: Handshake::NoHello,
            sni: Some("a.example.com".into()),
            alpn: vec!["h2".into(), "http/1.1".into()],
            ech: true,
            ja4: Some("t13d1516h2_8daaf6152771_e5627efa2ab1".into()),
            version: Some("1.3".into()),
            inspected: true,
        })),
        names: vec![
            "b.example.net".parse().unwrap(),
            "a.example.org".parse().unwrap(),
        ],
        address_unverified: true,
        process: Some(Arc::new(ProcessFacts {
            holders: vec![Holder {
                pid: 7,
                start_us: 3,
                executable: "/usr/bin/curl".into(),
                digest: Some("ab".repeat(32)),
                ancestors: vec!["/usr/bin/bash".into()],
            }],
            complete: true,
        })),
    }
}

fn extension_facts() -> ExtensionFacts {
    ExtensionFacts {
        id: "org/notes".into(),
        publisher: Some("corp".into()),
        version: "1".into(),
        digest: "d".into(),
        signature: Signature::Untrusted,
    }
}

#[test]
fn what_was_asked_comes_back_as_it_was() {
    let path: PathBuf = OsString::from_vec(b"/srv/\xff\xfe x".to_vec()).into();
    let mode = GrantMode::Rw;
    let operations = [
        Operation::StartSession {
            command: "npm".into(),
            profile: SeccompProfile::Default,
        },
        Operation::ExecInSession {
            command: "npm".into(),
            profile: SeccompProfile::Build,
        },
        Operation::PublishPort {
            address: "127.0.0.1".parse().unwrap(),
            port: 8080,
            inside: 3000,
        },
        Operation::PublishPort {
            address: "::1".parse().unwrap(),
            port: 1,
            inside: 65535,
        },
        Operation::GrantFolder {
            path: path.clone(),
            mode,
            source: GrantSource::Profile,
            name: Some("uploads".into()),
        },
        Operation::DeletePath {
            path: "/srv/a".into(),
            mode: GrantMode::Rwd,
        },
        Operation::ReadPath {
            path: path.clone(),
            mode,
        },
        Operation::WritePath { path, mode },
        Operation::Connect {
            destination: at("api.example.com:443"),
            transport: Transport::Socks5,
            seen: Seen::default(),
        },
        Operation::Connect {
            destination: at("[2001:db8::1]:22"),
            transport: Transport::Capture,
            seen: everything_seen(),
        },
        Operation::HttpRequest {
            destination: at("example.com:8080"),
            method: Method("BREW".into()),
            path: "/a b".into(),
            facts: Box::default(),
        },
        Operation::HttpRequest {
            destination: at("example.com:443"),
            method: Method("POST".into()),
            path: "/".into(),
            facts: Box::new(HttpFacts {
                scheme: Scheme::Https,
                query_keys: vec!["".into(), "a b".into(), "key".into()],
                content_type: Some("application/json".into()),
                content_length: Some(cordon_policy::MAX_LENGTH),
                credential: true,
                upgrade: Some("websocket".into()),
                seen: everything_seen(),
            }),
        },
        Operation::ReachAddress {
            destination: at("db.example.com:5432"),
            address: "10.0.0.7".parse().unwrap(),
        },
        Operation::EnableConnector {
            connector: "tracker".into(),
        },
        Operation::UseScope {
            connector: "tracker".into(),
            scope: "read:a/b".into(),
        },
        Operation::EnableBrowser,
        Operation::OpenOrigin {
            origin: origin("https://example.com").unwrap(),
        },
        Operation::OpenOrigin {
            origin: origin("http://[2001:db8::1]:8080").unwrap(),
        },
        Operation::PublishPolicy {
            bundle: "corp".into(),
        },
        Operation::ReadLog { log: "h1".into() },
        Operation::InstallExtension {
            extension: extension_facts(),
        },
        Operation::LoadExtension {
            extension: extension_facts(),
        },
        Operation::UsePermission {
            extension: extension_facts(),
            permission: "files:read/all".into(),
        },
        Operation::CallTool {
            extension: extension_facts(),
            tool: "create/issue".into(),
            call: Box::new(ToolCall {
                kind: ToolKind::Prompt,
                definition: Definition::Accepted,
                hints: ToolHints {
                    read_only: true,
                    destructive: false,
                    open_world: false,
                },
                arguments: vec!["repo=a/b".into()],
                input: Some("00ff".into()),
            }),
        },
        Operation::ActInOrigin {
            origin: origin("https://example.com").unwrap(),
            act: BrowserAct::Upload,
        },
    ];
    for expected in operations {
        let record = denied(expected.clone());
        assert_eq!(operation(&record), Ok(expected.clone()));
        let request = request(&record, facts()).unwrap();
        assert_eq!(request.operation, expected);
        assert_eq!(
            request.at,
            SystemTime::UNIX_EPOCH + Duration::from_micros(record.ts_us - 3)
        );
    }
}

#[test]
fn what_the_record_does_not_hold_is_not_guessed() {
    // As records were before they held these.
    let extension = extension_facts();
    let mut old = denied(Operation::LoadExtension { extension });
    old.extension = None;
    assert_eq!(operation(&old), Err(NotAgain::Incomplete));
    let mut old = denied(Operation::ActInOrigin {
        origin: origin("https://example.com").unwrap(),
        act: BrowserAct::Click,
    });
    if let Some(resource) = &mut old.resource {
        resource.act = None;
    }
    assert_eq!(operation(&old), Err(NotAgain::Incomplete));
    let long = denied(Operation::GrantFolder {
        path: format!("/{}", "a".repeat(2_000)).into(),
        mode: GrantMode::Ro,
        source: GrantSource::CommandLine,
        name: None,
    });
    assert_eq!(operation(&long), Err(NotAgain::Cut));
    let mut strange = denied(Operation::EnableBrowser);
    strange.action = Some("teleport".into());
    assert_eq!(operation(&strange), Err(NotAgain::UnknownAction));
}

#[test]
fn a08_what_a_secret_was_taken_out_of_is_not_decided_again() {
    let asked = |path: &str| {
        let operation = Operation::HttpRequest {
            destination: at("example.com:80"),
            method: Method("GET".into()),
            path: path.into(),
            facts: Box::default(),
        };
        let request = Request {
            session: facts(),
            operation,
            at: SystemTime::UNIX_EPOCH,
        };
        let decision: Decision = Decided::<Deny>::deny(
            Asked::Request(request),
            DenyReason::DefaultDeny,
            Basis::default(),
        )
        .into();
        let secrets = Secrets::new(&["hunter2-and-more".to_owned().into()]).unwrap();
        operation_of_leaf(&drafts::leaf(Draft::of_decision(&decision, &secrets)))
    };
    assert_eq!(asked("/x/hunter2-and-more"), Err(NotAgain::Masked));
    assert!(asked("/x/other").is_ok());
}

fn operation_of_leaf(leaf: &[u8]) -> Result<Operation, NotAgain> {
    operation(&Record::from_leaf(leaf).unwrap())
}

#[test]
fn what_policy_did_not_refuse_is_not_put_to_it_again() {
    let asked = || Operation::StartSession {
        command: "npm".into(),
        profile: SeccompProfile::Default,
    };
    for (reason, expected) in [
        (DenyReason::DefaultDeny, None),
        (DenyReason::Rule, None),
        (DenyReason::Malformed, Some(NotAgain::Malformed)),
        (DenyReason::GrantMode, Some(NotAgain::NotByPolicy)),
        (DenyReason::ProtectedFolder, Some(NotAgain::NotByPolicy)),
        (DenyReason::Unavailable, Some(NotAgain::NotByPolicy)),
        (DenyReason::AddressNotPermitted, Some(NotAgain::NotByPolicy)),
        (DenyReason::TlsMismatch, Some(NotAgain::NotByPolicy)),
        (DenyReason::TlsHidden, Some(NotAgain::NotByPolicy)),
        (DenyReason::NotTls, Some(NotAgain::NotByPolicy)),
        (DenyReason::Limit, Some(NotAgain::NotByPolicy)),
        (DenyReason::Credential, Some(NotAgain::NotByPolicy)),
    ] {
        let got = request(&record_of(asked(), reason), facts()).err();
        assert_eq!(got, expected, "{reason:?}");
    }
}

#[test]
fn the_facts_of_a_session_come_from_its_start() {
    let start = denied(Operation::StartSession {
        command: "npm".into(),
        profile: SeccompProfile::Default,
    });
    let mut sessions = Sessions::default();
    sessions.note(&start);
    assert_eq!(sessions.known["s-1"].as_deref(), Some(&*facts()));

    let mut cut = start.clone();
    cut.session = Some("s-2".into());
    cut.trunc.push(crate::record::Cut {
        field: "facts.groups".into(),
        len: 900,
        sha256: String::new(),
    });
    sessions.note(&cut);
    assert_eq!(sessions.known["s-2"], None);
}
