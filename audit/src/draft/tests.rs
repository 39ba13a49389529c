//! Drafts and leaves: bounded, canonical, exact.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cordon_policy::{
    ApprovalRef, ApprovalScope, Asked, Backend, Basis, BrowserAct, Decided, Deny, Destination,
    ExtensionFacts, GivenApproval, GrantMode, GrantSource, Host, Layer, Method, Obligation,
    Operation, Origin, Port, RawRequest, Request, RuleRef, Scheme, SeccompProfile, SessionFacts,
    Shadow, ShadowEffect, Signature, Transport,
};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::*;
use crate::{
    AccessEvent, AccessOutcome, ApprovalEvent, ApprovalStep, DecidedBy, FlowEnd, PolicyBundle,
    PolicyChange, PolicyEvent, SessionEnd, SessionOrigin,
    record::{Access, AccessEntity, Approval, Export, KeyChange, Upkeep},
};

fn facts_of(id: &str) -> Arc<SessionFacts> {
    Arc::new(SessionFacts {
        id: id.into(),
        user: "ann".into(),
        groups: vec!["staff".into()],
        agent: Some("claude".into()),
        platform: "linux".into(),
        backend: Backend::Bubblewrap,
    })
}

fn place() -> Place {
    Place {
        seq: 7,
        id: RecordId(Uuid::from_u128(1)),
        ts_us: 1_763_683_200_000_000,
        mono_us: 5,
        queue_us: 3,
    }
}

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| Identity {
    boot: "boot".into(),
    host: Some("host.test".into()),
    instance: Some("cordon/1".into()),
    organisation: Some("example".into()),
});

fn of(decision: &Decision) -> Draft {
    Draft::of_decision(decision, &Secrets::default())
}

pub(crate) fn leaf(mut draft: Draft) -> Vec<u8> {
    let mut out = Vec::new();
    let mut identity = IDENTITY.clone();
    draft.write_leaf(place(), &mut identity, &mut out).unwrap();
    assert_eq!(identity.host, IDENTITY.host, "it was lent");
    out
}

fn raw(text: &str, problem: &str, rules: usize) -> Decision {
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

fn deny(operation: Operation) -> Decision {
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

fn literal() -> Destination {
    Destination {
        host: Host::Address("2001:db8::1".parse().unwrap()),
        port: Port(443.try_into().unwrap()),
    }
}

#[test]
fn each_operation_has_its_action_and_resource() {
    let path = || "/home/ann/work".into();
    let cases = [
        (
            Operation::StartSession {
                command: "claude".into(),
                profile: SeccompProfile::Default,
            },
            ["session.start", "program", "claude"],
        ),
        (
            Operation::GrantFolder {
                path: path(),
                mode: GrantMode::Rw,
                source: GrantSource::CommandLine,
            },
            ["folder.grant", "folder", "/home/ann/work"],
        ),
        (
            Operation::DeletePath {
                path: path(),
                mode: GrantMode::Rwd,
            },
            ["path.delete", "path", "/home/ann/work"],
        ),
        (
            Operation::Connect {
                destination: literal(),
                transport: Transport::Socks5,
                seen: cordon_policy::Seen::default(),
            },
            ["net.connect", "network", "[2001:db8::1]:443"],
        ),
        (
            Operation::HttpRequest {
                destination: literal(),
                method: Method("GET".into()),
                path: "/x".into(),
                facts: Box::default(),
            },
            ["http.request", "network", "[2001:db8::1]:443"],
        ),
        (
            Operation::ReachAddress {
                destination: literal(),
                address: "10.0.0.1".parse().unwrap(),
            },
            ["net.reach", "network", "[2001:db8::1]:443"],
        ),
    ];
    for (operation, [action, kind, id]) in cases {
        let shown = format!("{operation:?}");
        let record = Record::from_leaf(&leaf(of(&deny(operation)))).unwrap();
        assert_eq!(record.action.as_deref(), Some(action), "{shown}");
        let resource = record.resource.unwrap();
        assert_eq!(
            (resource.kind.as_str(), resource.id.as_str()),
            (kind, id),
            "{shown}"
        );
        assert_eq!(record.effect, Some(Effect::Deny));
        assert_eq!(record.reason.as_deref(), Some("default_deny"));
        assert_eq!(
            record.rules,
            Some(Vec::new()),
            "empty is present: default deny"
        );
        assert_eq!(record.session.as_deref(), Some("s"));
    }
}

fn events() -> Vec<Event> {
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
            tls: Some(Box::default()),
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

fn extension() -> ExtensionFacts {
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
    vec![
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
    ]
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
fn asked(outcome: AccessOutcome) -> AccessEvent {
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

#[test]
fn a_question_of_the_decision_api_says_who_asked_what_in_its_own_words() {
    let event = Event::Access(Box::new(asked(AccessOutcome::Denied(Vec::new()))));
    let record = Draft::of_event(&event, &Secrets::default());
    let record = Record::from_leaf(&leaf(record)).unwrap();
    assert_eq!(
        (record.kind, record.effect),
        (Kind::Decision, Some(Effect::Deny))
    );
    assert_eq!(record.action.as_deref(), Some("access.search"));
    assert_eq!(record.reason.as_deref(), Some("default_deny"));
    assert_eq!(record.session, None);
    assert_eq!(record.principal.unwrap().id, "ann");
    let access = record.access.unwrap();
    assert_eq!(access.subject.unwrap().kind, "user");
    assert_eq!(
        access.found,
        Some((1 << 53) - 1),
        "what every reader keeps exactly"
    );
}

fn approved() -> Approval {
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

#[test]
fn a_step_of_an_approval_says_whose_request_it_is_and_what_was_given() {
    let event = events()
        .into_iter()
        .find(|event| matches!(event, Event::Approval(_)));
    let record = Draft::of_event(&event.unwrap(), &Secrets::default());
    let record = Record::from_leaf(&leaf(record)).unwrap();
    assert_eq!(record.kind, Kind::Approval);
    assert_eq!(record.state.as_deref(), Some("granted"));
    assert_eq!(record.approval, Some(approved()));
    assert!(record.action.is_some() && record.resource.is_some());
    assert_eq!(record.effect, None, "it decides nothing");
}

/// A refusal with all that a basis can say.
fn shadowed() -> Decision {
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

#[test]
fn a_basis_is_recorded_with_layers_revision_obligations_and_the_candidate() {
    let record = Record::from_leaf(&leaf(of(&shadowed()))).unwrap();
    assert_eq!(record.rules, Some(vec!["no-socks".into()]));
    assert_eq!(record.layers, ["team"]);
    assert_eq!(record.obligations, ["durability=each"]);
    assert_eq!(record.policy.unwrap().revision, Some(7));
    let shadow = record.shadow.unwrap();
    assert_eq!(
        (shadow.effect, shadow.policy.revision),
        (Effect::Allow, Some(8))
    );
    assert_eq!(shadow.rules, ["socks-is-fine"]);
    assert_eq!(record.host.as_deref(), Some("host.test"));
    assert_eq!(record.instance.as_deref(), Some("cordon/1"));
    assert_eq!(record.organisation.as_deref(), Some("example"));
}

#[test]
fn leaves_are_canonical_json() {
    for leaf in leaves() {
        assert_canonical(&leaf);
    }
}

/// Against a canonicaliser that others wrote, where it is installed: PyPI `rfc8785`.
#[test]
fn leaves_are_what_pypi_rfc8785_makes_of_them() {
    const PROGRAM: &str = "import json, sys, rfc8785\n\
        for line in sys.stdin.buffer:\n \
        line = line.rstrip(b'\\n')\n \
        assert rfc8785.dumps(json.loads(line)) == line, line\n\
        print('same')";
    let python = std::env::var("CORDON_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let run = |program: &str, input: &[u8]| {
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, input, 0).unwrap();
        let mut python = std::process::Command::new(&python);
        python.args(["-c", program]).stdin(file).output()
    };
    if !run("import rfc8785", b"").is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: the Python package `rfc8785` is not installed");
        return;
    }
    let mut lines: Vec<Vec<u8>> = leaves();
    lines.push(leaf(of(&raw("\u{1}\u{7f}\u{20ac}\u{10ffff}\"\\/", "p", 1))));
    let output = run(PROGRAM, &lines.join(&b'\n')).unwrap();
    assert_eq!(
        output.stdout,
        b"same\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let bad = run(PROGRAM, b"{\"b\": 1, \"a\": 2}").unwrap();
    assert!(
        !bad.status.success(),
        "the twin: what is not canonical is refused"
    );
}

fn assert_canonical(leaf: &[u8]) {
    let text = std::str::from_utf8(leaf).unwrap();
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json_canonicalizer::to_string(&value).unwrap(), text);
    assert!(!text.contains("null"), "{text}");
}

proptest! {
    #[test]
    fn a06_any_text_is_stored_exactly_and_canonically(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}|.{0,40}") {
        let bytes = leaf(of(&raw(&text, "p", 1)));
        assert_canonical(&bytes);
        let record = Record::from_leaf(&bytes).unwrap();
        prop_assert!(record.trunc.is_empty());
        prop_assert_eq!(&record.raw.as_ref().unwrap().text, &text);
        let line = record.summary_line();
        prop_assert!(!line.chars().any(char::is_control), "{:?}", line);
    }
}

#[test]
fn a06_huge_texts_are_cut_and_leave_length_and_hash() {
    let path = format!("/{}", "\u{20ac}".repeat(2_000));
    let bytes = leaf(of(&deny(Operation::HttpRequest {
        destination: literal(),
        method: Method("GET".into()),
        path: path.clone(),
        facts: Box::default(),
    })));
    assert!(bytes.len() <= Record::MAX_BYTES);
    let record = Record::from_leaf(&bytes).unwrap();
    let kept = record.http.unwrap().path.unwrap();
    assert!(
        kept.len() <= LIMITS[0].0 && path.starts_with(&kept),
        "{}",
        kept.len()
    );
    let cut = &record.trunc[0];
    assert_eq!((cut.field.as_str(), cut.len), ("http.path", 6_001));
    assert_eq!(cut.sha256, hex(&Sha256::digest(path.as_bytes())));
}

#[test]
fn a06_no_text_makes_a_leaf_too_large() {
    // Controls become six bytes each in JSON.
    for text in ["\u{1}", "\"", "\u{20ac}", "\u{10ffff}", "a"] {
        let text = text.repeat(5_000);
        let bytes = leaf(of(&raw(&text, &text, 500)));
        assert!(bytes.len() <= Record::MAX_BYTES, "{}", bytes.len());
        assert_canonical(&bytes);
        let record = Record::from_leaf(&bytes).unwrap();
        assert!(record.trunc.iter().any(|cut| cut.field == "raw.text"));
        let rules = record
            .trunc
            .iter()
            .find(|cut| cut.field == "rules")
            .unwrap();
        assert_eq!(rules.len, 500);
    }
}

#[test]
fn a_path_that_is_not_utf8_keeps_its_bytes() {
    use std::os::unix::ffi::OsStringExt as _;
    let path = std::ffi::OsString::from_vec(b"/x/\xff".to_vec());
    let draft = of(&deny(Operation::DeletePath {
        path: path.into(),
        mode: GrantMode::Rw,
    }));
    let resource = Record::from_leaf(&leaf(draft)).unwrap().resource.unwrap();
    assert_eq!(resource.id, "/x/\u{fffd}");
    assert_eq!(resource.bytes.unwrap(), STANDARD.encode(b"/x/\xff"));
}

#[test]
fn an_ask_and_an_evaluation_error_have_their_own_effects() {
    for (reason, effect) in [
        (DenyReason::ApprovalRequired, Effect::Ask),
        (DenyReason::EvaluationError, Effect::Error),
        (DenyReason::Rule, Effect::Deny),
    ] {
        let decision = Decided::<Deny>::deny(
            Asked::Raw(RawRequest {
                session: facts_of("s"),
                door: "dns",
                text: "x".into(),
                at: std::time::SystemTime::UNIX_EPOCH,
                problem: "p".into(),
            }),
            reason,
            Basis::default(),
        )
        .into();
        let record = Record::from_leaf(&leaf(of(&decision))).unwrap();
        assert_eq!(record.effect, Some(effect), "{reason:?}");
        assert_eq!(record.enforced, Some(Enforced::Blocked), "{reason:?}");
    }
}

#[test]
fn another_schema_version_is_not_read() {
    let text = String::from_utf8(leaf(Draft::of_gap(1, 0))).unwrap();
    assert!(Record::from_leaf(text.as_bytes()).is_ok());
    let newer = text.replace("\"v\":1", "\"v\":2");
    assert!(
        Record::from_leaf(newer.as_bytes())
            .unwrap_err()
            .contains("version 2")
    );
}

#[test]
fn a_summary_is_one_line_that_says_what_and_why() {
    let record = Record::from_leaf(&leaf(of(&raw("a\u{1b}[2J\nb", "no", 1)))).unwrap();
    let line = record.summary_line();
    for part in [
        "2025-11-21T00:00:00",
        " deny ",
        "malformed",
        "text=a\\u{1b}[2J\\nb",
        "reason=malformed",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
}
