//! Records of every kind for tests: operations, events, decisions, and the leaves made of them.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use cordon_policy::{
    ApprovalRef, ApprovalScope, Asked, Backend, Basis, BrowserAct, Decided, Deny, Destination,
    ExtensionFacts, GivenApproval, GrantMode, GrantSource, Host, Layer, Method, Obligation,
    Operation, Origin, Port, RawRequest, Request, RuleRef, Scheme, SeccompProfile, SessionAct,
    SessionFacts, Shadow, ShadowEffect, Signature, Transport,
};
use uuid::Uuid;

use super::*;
use crate::{
    AccessEvent, AccessOutcome, ApprovalEvent, ApprovalStep, DecidedBy, FlowEnd, PolicyBundle,
    PolicyChange, PolicyEvent, SessionEnd, SessionOrigin,
    record::{Access, AccessEntity, Approval, Export, KeyChange, Upkeep},
};

pub(crate) fn facts_of(id: &str) -> Arc<SessionFacts> {
    Arc::new(SessionFacts {
        id: id.into(),
        user: "ann".into(),
        groups: vec!["staff".into()],
        agent: Some("claude".into()),
        platform: "linux".into(),
        backend: Backend::Bubblewrap,
    })
}

pub(crate) fn place() -> Place {
    Place {
        seq: 7,
        id: RecordId(Uuid::from_u128(1)),
        ts_us: 1_763_683_200_000_000,
        mono_us: 5,
        queue_us: 3,
    }
}

pub(crate) static IDENTITY: LazyLock<Identity> = LazyLock::new(|| Identity {
    boot: "boot".into(),
    host: Some("host.test".into()),
    instance: Some("cordon/1".into()),
    organisation: Some("example".into()),
});

pub(crate) fn of(decision: &Decision) -> Draft {
    Draft::of_decision(decision, &Secrets::default())
}

pub(crate) fn leaf(mut draft: Draft) -> Vec<u8> {
    let mut out = Vec::new();
    let mut identity = IDENTITY.clone();
    draft.write_leaf(place(), &mut identity, &mut out).unwrap();
    assert_eq!(identity.host, IDENTITY.host, "it was lent");
    out
}

pub(crate) fn raw(text: &str, problem: &str, rules: usize) -> Decision {
    Decided::<Deny>::deny(
        Asked::Raw(RawRequest {
            session: facts_of(text),
            door: "http",
            text: text.into(),
            at: std::time::SystemTime::UNIX_EPOCH,
            problem: problem.into(),
        }),
        DenyReason::Malformed,
        Basis {
            rules: (0..rules)
                .map(|n| RuleRef {
                    id: format!("{text}{n}").into(),
                    reason: Some(text.into()),
                    layer: Layer::User,
                })
                .collect(),
            errors: vec![problem.into(); rules],
            policy: text.into(),
            digest: problem.into(),
            evaluation: Duration::from_micros(3),
            ..Basis::default()
        },
    )
    .into()
}

pub(crate) fn deny(operation: Operation) -> Decision {
    Decided::<Deny>::deny(
        Asked::Request(Request {
            session: facts_of("s"),
            operation,
            at: std::time::SystemTime::UNIX_EPOCH,
        }),
        DenyReason::DefaultDeny,
        Basis::default(),
    )
    .into()
}

pub(crate) fn literal() -> Destination {
    Destination {
        host: Host::Address("2001:db8::1".parse().unwrap()),
        port: Port(443.try_into().unwrap()),
    }
}

pub(crate) fn events() -> Vec<Event> {
    vec![
        Event::ServiceStarted,
        Event::ServiceStopped,
        Event::SessionStarted {
            session: facts_of("s"),
            origin: SessionOrigin {
                parent: Some("p".into()),
                image: Some("sha256:00".into()),
            },
        },
        Event::Approval(Box::new(ApprovalEvent {
            session: facts_of("s"),
            operation: operations().remove(5),
            step: ApprovalStep::Granted,
            approval: approved(),
            at: std::time::SystemTime::UNIX_EPOCH,
            why: Some("for the release".into()),
        })),
        Event::Access(Box::new(asked(AccessOutcome::Allowed(Vec::new())))),
        Event::Access(Box::new(asked(AccessOutcome::Failed {
            evaluated: false,
            why: "there is no such type".into(),
        }))),
        Event::SessionEnded {
            session: facts_of("s"),
            end: SessionEnd::LauncherLost,
            exit_code: Some(-1),
            totals: Some(Box::default()),
        },
        Event::FlowClosed {
            session: facts_of("s"),
            decision: RecordId(Uuid::from_u128(9)),
            peer: Some("[::1]:80".parse().unwrap()),
            bytes_out: 1,
            bytes_in: u64::MAX,
            duration: Duration::MAX,
            status: Some(204),
            tls: Some(Arc::default()),
            end: FlowEnd::TimedOut,
        },
        Event::Exported {
            user: "ann".into(),
            export: Export {
                count: 2,
                first: Some(1),
                format: "jsonl".into(),
                last: Some(2),
                query: "{}".into(),
                root: "AA==".into(),
                sink: Some("siem".into()),
            },
        },
        Event::Policy(Box::new(PolicyEvent {
            change: PolicyChange::Promote,
            bundle: Some(PolicyBundle {
                name: "corp".into(),
                layer: Layer::Organisation,
                revision: 7,
                digest: "ab".repeat(32),
            }),
            source: Some("dir:/etc/policy".into()),
            by: Some("alice".into()),
            why: Some("it was asked for".into()),
            session: Some(facts_of("s")),
        })),
        Event::KeyRotated {
            key: KeyChange {
                new: "cordon/1+00000000+AAAA".into(),
                old: "00000000".into(),
            },
        },
        Event::Upkeep {
            kind: Kind::RetentionHold,
            by: Some("ann".into()),
            upkeep: Box::new(Upkeep {
                because: Some("a case".into()),
                hold: Some(1),
                session: Some("s".into()),
                ..Upkeep::default()
            }),
        },
    ]
}

pub(crate) fn extension() -> ExtensionFacts {
    ExtensionFacts {
        id: "com.example.tools".into(),
        publisher: Some("Example".into()),
        version: "1.2".into(),
        digest: "cd".repeat(32),
        signature: Signature::Trusted,
    }
}

/// One operation of each kind.
pub(crate) fn operations() -> Vec<Operation> {
    let path = || "/home/ann/work".into();
    let mode = GrantMode::Rw;
    let origin = || Origin {
        scheme: Scheme::Https,
        destination: literal(),
    };
    let mut all = vec![
        Operation::StartSession {
            command: "claude".into(),
            profile: SeccompProfile::Default,
        },
        Operation::ExecInSession {
            command: "bash".into(),
            profile: SeccompProfile::Build,
        },
        Operation::PublishPort {
            address: "127.0.0.1".parse().unwrap(),
            port: 8080,
            inside: 3000,
        },
        Operation::GrantFolder {
            path: path(),
            mode,
            source: GrantSource::CommandLine,
            name: Some("n".into()),
        },
        Operation::DeletePath { path: path(), mode },
        Operation::ReadPath { path: path(), mode },
        Operation::WritePath { path: path(), mode },
        Operation::Connect {
            destination: literal(),
            transport: Transport::Socks5,
            seen: cordon_policy::Seen::default(),
        },
        Operation::HttpRequest {
            destination: literal(),
            method: Method("GET".into()),
            path: "/x".into(),
            facts: Box::default(),
        },
        Operation::ReachAddress {
            destination: literal(),
            address: "10.0.0.1".parse().unwrap(),
        },
        Operation::EnableConnector {
            connector: "issues".into(),
        },
        Operation::UseScope {
            connector: "issues".into(),
            scope: "read".into(),
        },
        Operation::InstallExtension {
            extension: extension(),
        },
        Operation::LoadExtension {
            extension: extension(),
        },
        Operation::UsePermission {
            extension: extension(),
            permission: "files:read".into(),
        },
        Operation::CallTool {
            extension: extension(),
            tool: "search".into(),
            call: Box::new(cordon_policy::ToolCall {
                arguments: vec!["repo=a/b".into()],
                ..cordon_policy::ToolCall::default()
            }),
        },
        Operation::EnableBrowser,
        Operation::OpenOrigin { origin: origin() },
        Operation::ActInOrigin {
            origin: origin(),
            act: BrowserAct::Submit,
        },
        Operation::Approve {
            asking: facts_of("other"),
        },
        Operation::PublishPolicy {
            bundle: "org".into(),
        },
        Operation::ReadLog {
            log: "host.test".into(),
        },
    ];
    all.extend(SessionAct::ALL.map(|act| Operation::ManageSession {
        act,
        of: facts_of("other"),
    }));
    all
}

/// A leaf of each kind of record that can be made.
pub(crate) fn leaves() -> Vec<Vec<u8>> {
    let event = |event: &Event| Draft::of_event(event, &Secrets::default());
    let decisions = operations()
        .into_iter()
        .map(|operation| of(&deny(operation)));
    let others = [Draft::of_gap(3, 9), of(&raw("x", "y", 2)), of(&shadowed())];
    let drafts: Vec<Draft> = events()
        .iter()
        .map(event)
        .chain(others)
        .chain(decisions)
        .collect();
    drafts.into_iter().map(leaf).collect()
}

/// A search for subjects of an application.
pub(crate) fn asked(outcome: AccessOutcome) -> AccessEvent {
    let entity = |kind: &str, id: Option<&str>| AccessEntity {
        id: id.map(str::to_owned),
        kind: kind.into(),
    };
    AccessEvent {
        caller: "ann".into(),
        access: Access {
            action: Some("read".into()),
            application: Some("shop".into()),
            evaluated: Some(2),
            found: Some(u64::MAX),
            request: Some("r-1".into()),
            resource: Some(entity("record", Some("1"))),
            said: vec!["resource.status=\"open\"".into()],
            sought: Some("subject".into()),
            subject: Some(entity("user", None)),
        },
        policy: Some(DecidedBy {
            set: "house".into(),
            digest: "ab".repeat(32),
            revision: Some(7),
        }),
        outcome,
    }
}

pub(crate) fn approved() -> Approval {
    Approval {
        at_us: Some(7),
        by: vec!["bob".into(), "eve".into()],
        digest: "ab".repeat(32),
        needs: Some(2),
        reference: "0193".into(),
        scope: Some("uses".into()),
        ttl_s: Some(600),
        uses: Some(3),
    }
}

/// A refusal with all that a basis can say.
pub(crate) fn shadowed() -> Decision {
    let rule = |id: &str| RuleRef {
        id: id.into(),
        reason: None,
        layer: Layer::Team,
    };
    Decided::<Deny>::deny(
        Asked::Request(Request {
            session: facts_of("s"),
            operation: operations().remove(5),
            at: std::time::SystemTime::UNIX_EPOCH,
        }),
        DenyReason::Rule,
        Basis {
            rules: vec![rule("no-socks")],
            policy: "org".into(),
            digest: "ab".repeat(32).into(),
            revision: Some(7),
            obligations: vec![Obligation {
                name: "durability".into(),
                value: "each".into(),
            }],
            approval: Some(Box::new(ApprovalRef {
                id: "0193".into(),
                digest: "ef".repeat(32).into(),
                given: Some(GivenApproval {
                    scope: ApprovalScope::Session,
                    by: vec!["bob".into()],
                    at: std::time::SystemTime::UNIX_EPOCH,
                }),
            })),
            shadow: Some(Box::new(Shadow {
                policy: "org".into(),
                digest: "cd".repeat(32).into(),
                revision: Some(8),
                effect: ShadowEffect::Allow,
                rules: vec![rule("socks-is-fine")],
            })),
            ..Basis::default()
        },
    )
    .into()
}
