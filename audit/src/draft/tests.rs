//! Drafts and leaves: bounded, canonical, exact.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cordon_policy::{
    Asked, Basis, Decided, Deny, GrantMode, GrantSource, Method, Operation, RawRequest,
    SeccompProfile, Transport,
};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::{samples::*, *};
use crate::AccessOutcome;

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
                name: None,
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
