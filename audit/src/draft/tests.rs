//! Drafts and leaves: bounded, canonical, exact.

use std::{sync::Arc, time::Duration};

use cordon_policy::{
    Backend, Decided, Deny, GrantMode, GrantSource, Layer, Method, Port, RuleRef, Transport,
};
use proptest::prelude::*;

use super::*;
use crate::{FlowEnd, SessionEnd};

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

fn place() -> Place<'static> {
    Place {
        seq: 7,
        id: RecordId(Uuid::from_u128(1)),
        ts_us: 1_763_683_200_000_000,
        mono_us: 5,
        queue_us: 3,
        boot: "boot",
    }
}

fn leaf(mut draft: Draft) -> Vec<u8> {
    let mut out = Vec::new();
    draft.write_leaf(place(), &mut out).unwrap();
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
            },
            ["net.connect", "network", "[2001:db8::1]:443"],
        ),
        (
            Operation::HttpRequest {
                destination: literal(),
                method: Method("GET".into()),
                path: "/x".into(),
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
        let record = Record::from_leaf(&leaf(Draft::of_decision(&deny(operation)))).unwrap();
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

#[test]
fn leaves_are_canonical_json() {
    let events = [
        Event::ServiceStarted,
        Event::ServiceStopped,
        Event::SessionStarted {
            session: facts_of("s"),
        },
        Event::SessionEnded {
            session: facts_of("s"),
            end: SessionEnd::LauncherLost,
            exit_code: Some(-1),
        },
        Event::FlowClosed {
            session: facts_of("s"),
            decision: RecordId(Uuid::from_u128(9)),
            peer: Some("[::1]:80".parse().unwrap()),
            bytes_out: 1,
            bytes_in: u64::MAX,
            duration: Duration::MAX,
            status: Some(204),
            end: FlowEnd::TimedOut,
        },
    ];
    let drafts = events
        .iter()
        .map(Draft::of_event)
        .chain([Draft::of_gap(3, 9), Draft::of_decision(&raw("x", "y", 2))])
        .chain([
            Draft::of_decision(&deny(Operation::HttpRequest {
                destination: literal(),
                method: Method("GET".into()),
                path: "/x".into(),
            })),
            Draft::of_decision(&deny(Operation::GrantFolder {
                path: "/x".into(),
                mode: GrantMode::Ro,
                source: GrantSource::Profile,
            })),
        ]);
    for draft in drafts {
        assert_canonical(&leaf(draft));
    }
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
        let bytes = leaf(Draft::of_decision(&raw(&text, "p", 1)));
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
    let bytes = leaf(Draft::of_decision(&deny(Operation::HttpRequest {
        destination: literal(),
        method: Method("GET".into()),
        path: path.clone(),
    })));
    assert!(bytes.len() <= Record::MAX_BYTES);
    let record = Record::from_leaf(&bytes).unwrap();
    let kept = record.http.unwrap().path.unwrap();
    assert!(
        kept.len() <= MAX_TEXT && path.starts_with(&kept),
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
        let bytes = leaf(Draft::of_decision(&raw(&text, &text, 500)));
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
    let draft = Draft::of_decision(&deny(Operation::DeletePath {
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
        let record = Record::from_leaf(&leaf(Draft::of_decision(&decision))).unwrap();
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
    let record =
        Record::from_leaf(&leaf(Draft::of_decision(&raw("a\u{1b}[2J\nb", "no", 1)))).unwrap();
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
