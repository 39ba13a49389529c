//! The schema: what it says is what is written, word for word; and no text escapes the bounds.

use std::collections::BTreeSet;

use cordon_policy::{
    BrowserAct, DenyReason, GrantMode, GrantSource, Layer, SeccompProfile, Signature, Transport,
};
use serde_json::{Map, Value, json};

use super::*;
use crate::{
    ApprovalStep, FlowEnd, Secret, SessionEnd, SessionState,
    draft::{Draft, samples as drafts},
    secrets::Secrets,
};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../record.schema.json")).unwrap()
}

/// Fails unless `leaf` is what the schema says.
pub(crate) fn assert_valid(leaf: &[u8]) {
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("record.json", schema()).unwrap();
    let compiled = compiler.compile("record.json", &mut schemas).unwrap();
    let value: Value = serde_json::from_slice(leaf).unwrap();
    if let Err(error) = schemas.validate(&value, compiled) {
        panic!("{error:#}\n{value:#}");
    }
}

/// A value of everything that a schema allows, with `text` wherever a text is free.
fn instance(part: &Value, root: &Value, text: &str) -> Value {
    if let Some(name) = part["$ref"]
        .as_str()
        .and_then(|r| r.strip_prefix("#/$defs/"))
    {
        return instance(&root["$defs"][name], root, text);
    }
    if let Some(first) = part["enum"].get(0).or(part.get("const")) {
        return first.clone();
    }
    match part["type"].as_str().unwrap() {
        "integer" => json!(1),
        "boolean" => json!(true),
        "string" => match part["pattern"].as_str() {
            None => json!(text),
            Some(pattern) if pattern.contains('-') && pattern.len() > 40 => {
                json!("01890a5d-ac96-774b-bcce-b302099a8057")
            }
            Some(pattern) => {
                let digits = pattern.trim_matches(|c: char| !c.is_ascii_digit() && c != '{');
                let count = digits.rsplit('{').next().unwrap();
                json!("a".repeat(count.trim_end_matches("}$").parse().unwrap()))
            }
        },
        "array" => json!([instance(&part["items"], root, text)]),
        "object" => {
            let fields = part["properties"].as_object().cloned().unwrap_or_default();
            let filled = fields
                .iter()
                .map(|(name, of)| (name.clone(), instance(of, root, text)));
            Value::Object(filled.collect::<Map<_, _>>())
        }
        other => panic!("{other}"),
    }
}

/// A record with every field.
fn full(text: &str) -> Record {
    let schema = schema();
    let mut record: Record = serde_json::from_value(instance(&schema, &schema, text)).unwrap();
    // Nothing that becomes a draft has been cut yet.
    record.trunc.clear();
    record
}

#[test]
fn a_record_with_every_field_is_read_written_canonically_and_valid() {
    let schema = schema();
    let value = instance(&schema, &schema, "some text");
    let record: Record = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(
        serde_json::to_value(&record).unwrap(),
        value,
        "nothing is lost"
    );
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json_canonicalizer::to_string(&value).unwrap(), text);
    assert_valid(text.as_bytes());
}

#[test]
fn every_field_of_a_record_is_in_the_schema_and_described() {
    let field = |line: &str| {
        let (name, _type) = line.strip_prefix("    pub ")?.split_once(": ")?;
        Some(name.to_owned())
    };
    let source = include_str!("../record.rs");
    let body = source.split_once("pub struct Record {").unwrap().1;
    let body = body.split_once("\n}").unwrap().0;
    let fields: BTreeSet<String> = body.lines().filter_map(field).collect();
    let schema = schema();
    let described: BTreeSet<String> = schema["properties"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(fields, described);
    assert_described(&schema);
}

fn assert_described(part: &Value) {
    for (name, of) in part["properties"].as_object().into_iter().flatten() {
        let text = of["description"].as_str();
        assert!(text.is_some_and(|text| text.ends_with('.')), "{name}: {of}");
        assert_described(of);
        assert_described(&of["items"]);
    }
    for of in part["$defs"].as_object().into_iter().flat_map(Map::values) {
        assert_described(of);
    }
}

#[test]
fn every_record_that_is_made_is_valid() {
    for leaf in drafts::leaves() {
        assert_valid(&leaf);
    }
    let bad = json!({"v": 1, "kind": "decision"}).to_string();
    let refused = std::panic::catch_unwind(|| assert_valid(bad.as_bytes()));
    assert!(refused.is_err(), "the twin: what is no record is not valid");
}

/// Every value, from the first on; a new variant that is not in here does not compile.
fn chain<T: Copy>(first: T, next: impl Fn(T) -> Option<T>) -> Vec<T> {
    std::iter::successors(Some(first), |value| next(*value)).collect()
}

fn words<T: Serialize>(values: Vec<T>) -> BTreeSet<String> {
    let word = |value: T| match serde_json::to_value(value).unwrap() {
        Value::String(word) => word,
        other => panic!("{other}"),
    };
    values.into_iter().map(word).collect()
}

fn listed(pointer: &str) -> BTreeSet<String> {
    let schema = schema();
    let list = schema.pointer(pointer).unwrap().as_array().unwrap();
    list.iter()
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn fixed_vocabularies_are_the_same_in_code_and_schema() {
    let kinds = chain(Kind::Decision, |kind| match kind {
        Kind::Decision => Some(Kind::FlowClose),
        Kind::FlowClose => Some(Kind::SessionStart),
        Kind::SessionStart => Some(Kind::SessionState),
        Kind::SessionState => Some(Kind::SessionEnd),
        Kind::SessionEnd => Some(Kind::Approval),
        Kind::Approval => Some(Kind::Start),
        Kind::Start => Some(Kind::Stop),
        Kind::Stop => Some(Kind::LogGap),
        Kind::LogGap => Some(Kind::Export),
        Kind::Export => Some(Kind::LogOrigin),
        Kind::LogOrigin => Some(Kind::KeyRotate),
        Kind::KeyRotate => Some(Kind::RetentionPrune),
        Kind::RetentionPrune => Some(Kind::OriginalsPurge),
        Kind::OriginalsPurge => Some(Kind::RetentionHold),
        Kind::RetentionHold => Some(Kind::RetentionRelease),
        Kind::RetentionRelease => Some(Kind::Redaction),
        Kind::Redaction => Some(Kind::PolicyLoad),
        Kind::PolicyLoad => Some(Kind::PolicyRefused),
        Kind::PolicyRefused => Some(Kind::PolicyPending),
        Kind::PolicyPending => Some(Kind::PolicyTry),
        Kind::PolicyTry => Some(Kind::PolicyRollout),
        Kind::PolicyRollout => Some(Kind::PolicyPromote),
        Kind::PolicyPromote => Some(Kind::PolicyRollback),
        Kind::PolicyRollback => None,
    });
    assert!(
        kinds
            .iter()
            .all(|kind| words(vec![*kind]).contains(kind.as_str()))
    );
    assert_eq!(listed("/properties/kind/enum"), words(kinds));
    let effects = chain(Effect::Allow, |effect| match effect {
        Effect::Allow => Some(Effect::Deny),
        Effect::Deny => Some(Effect::Ask),
        Effect::Ask => Some(Effect::Error),
        Effect::Error => None,
    });
    assert!(
        effects
            .iter()
            .all(|effect| words(vec![*effect]).contains(effect.as_str()))
    );
    assert_eq!(listed("/properties/effect/enum"), words(effects));
    let enforced = chain(Enforced::Allowed, |enforced| match enforced {
        Enforced::Allowed => Some(Enforced::Blocked),
        Enforced::Blocked => Some(Enforced::Reset),
        Enforced::Reset => Some(Enforced::Observed),
        Enforced::Observed => None,
    });
    assert!(
        enforced
            .iter()
            .all(|done| words(vec![*done]).contains(done.as_str()))
    );
    assert_eq!(listed("/properties/enforced/enum"), words(enforced));
    let modes = chain(Mode::Enforce, |mode| match mode {
        Mode::Enforce => Some(Mode::Observe),
        Mode::Observe => None,
    });
    assert_eq!(listed("/properties/mode/enum"), words(modes));
    let mut reasons = words(chain(DenyReason::DefaultDeny, |reason| match reason {
        DenyReason::DefaultDeny => Some(DenyReason::Rule),
        DenyReason::Rule => Some(DenyReason::ApprovalRequired),
        DenyReason::ApprovalRequired => Some(DenyReason::EvaluationError),
        DenyReason::EvaluationError => Some(DenyReason::Malformed),
        DenyReason::Malformed => Some(DenyReason::AddressNotPermitted),
        DenyReason::AddressNotPermitted => Some(DenyReason::GrantMode),
        DenyReason::GrantMode => Some(DenyReason::ProtectedFolder),
        DenyReason::ProtectedFolder => Some(DenyReason::Unavailable),
        DenyReason::Unavailable => Some(DenyReason::TlsMismatch),
        DenyReason::TlsMismatch => Some(DenyReason::TlsHidden),
        DenyReason::TlsHidden => Some(DenyReason::NotTls),
        DenyReason::NotTls => Some(DenyReason::Limit),
        DenyReason::Limit => Some(DenyReason::Credential),
        DenyReason::Credential => None,
    }));
    reasons.insert("rule".into());
    assert_eq!(listed("/properties/reason/enum"), reasons);
    let in_summary = "/properties/summary/properties/refused/items/properties/reason/enum";
    assert_eq!(listed(in_summary), reasons);
}

#[test]
fn ends_and_actions_are_the_same_in_code_and_schema() {
    let flows = chain(FlowEnd::Completed, |end| match end {
        FlowEnd::Completed => Some(FlowEnd::ResolveFailed),
        FlowEnd::ResolveFailed => Some(FlowEnd::ConnectFailed),
        FlowEnd::ConnectFailed => Some(FlowEnd::Reset),
        FlowEnd::Reset => Some(FlowEnd::SessionEnded),
        FlowEnd::SessionEnded => Some(FlowEnd::TimedOut),
        FlowEnd::TimedOut => Some(FlowEnd::Revoked),
        FlowEnd::Revoked => Some(FlowEnd::Refused),
        FlowEnd::Refused => Some(FlowEnd::Limit),
        FlowEnd::Limit => Some(FlowEnd::Drained),
        FlowEnd::Drained => None,
    });
    let sessions = chain(SessionEnd::Exited, |end| match end {
        SessionEnd::Exited => Some(SessionEnd::LauncherLost),
        SessionEnd::LauncherLost => Some(SessionEnd::Failed),
        SessionEnd::Failed => Some(SessionEnd::Stopped),
        SessionEnd::Stopped => Some(SessionEnd::Ended),
        SessionEnd::Ended => Some(SessionEnd::OverLimit),
        SessionEnd::OverLimit => Some(SessionEnd::Unresponsive),
        SessionEnd::Unresponsive => None,
    });
    let states = chain(SessionState::Running, |state| match state {
        SessionState::Running => Some(SessionState::Paused),
        SessionState::Paused => Some(SessionState::Ending),
        SessionState::Ending => Some(SessionState::Grants),
        SessionState::Grants => Some(SessionState::Labels),
        SessionState::Labels => None,
    });
    let steps = chain(ApprovalStep::Requested, |step| match step {
        ApprovalStep::Requested => Some(ApprovalStep::Seconded),
        ApprovalStep::Seconded => Some(ApprovalStep::Granted),
        ApprovalStep::Granted => Some(ApprovalStep::Refused),
        ApprovalStep::Refused => Some(ApprovalStep::Expired),
        ApprovalStep::Expired => Some(ApprovalStep::Withdrawn),
        ApprovalStep::Withdrawn => None,
    });
    assert!(
        steps
            .iter()
            .all(|step| words(vec![*step]).contains(step.as_str()))
    );
    let both = &words(states) | &words(steps);
    assert_eq!(listed("/properties/state/enum"), both);
    let mut ends = words(flows);
    ends.extend(words(sessions));
    assert_eq!(listed("/properties/end/enum"), ends);
    let mut actions: BTreeSet<String> = drafts::operations()
        .iter()
        .map(|operation| crate::action_of(operation).to_owned())
        .collect();
    let others = ["malformed", "access.evaluate", "access.search"];
    actions.extend(others.map(str::to_owned));
    assert_eq!(listed("/properties/action/enum"), actions);
    let named = "/properties/summary/properties/actions/propertyNames/enum";
    assert_eq!(listed(named), actions);
}

#[test]
fn facts_of_policy_are_the_same_in_code_and_schema() {
    let layers = [
        Layer::Organisation,
        Layer::Team,
        Layer::User,
        Layer::Workspace,
    ];
    assert_eq!(
        listed("/properties/layers/items/enum"),
        words(layers.to_vec())
    );
    let resource = |field: &str| listed(&format!("/properties/resource/properties/{field}/enum"));
    let mut modes = words(vec![GrantMode::Ro, GrantMode::Rw, GrantMode::Rwd]);
    // The usual profile of a program goes without saying.
    modes.extend(words(vec![SeccompProfile::Strict, SeccompProfile::Build]));
    assert_eq!(resource("mode"), modes);
    let sources = [
        GrantSource::CommandLine,
        GrantSource::WorkingDirectory,
        GrantSource::Profile,
        GrantSource::Api,
    ];
    assert_eq!(resource("source"), words(sources.to_vec()));
    let acts = chain(BrowserAct::Click, |act| match act {
        BrowserAct::Click => Some(BrowserAct::Type),
        BrowserAct::Type => Some(BrowserAct::Submit),
        BrowserAct::Submit => Some(BrowserAct::Upload),
        BrowserAct::Upload => Some(BrowserAct::Download),
        BrowserAct::Download => Some(BrowserAct::Script),
        BrowserAct::Script => None,
    });
    assert_eq!(resource("act"), words(acts));
    let signatures = [
        Signature::Trusted,
        Signature::Untrusted,
        Signature::Broken,
        Signature::Unsigned,
    ];
    let listed_signatures = listed("/properties/extension/properties/signature/enum");
    assert_eq!(listed_signatures, words(signatures.to_vec()));
    let mut ways = words(vec![
        Transport::HttpConnect,
        Transport::Socks5,
        Transport::Capture,
    ]);
    ways.insert("http".into());
    assert_eq!(listed("/properties/net/properties/via/enum"), ways);
}

#[test]
fn a08_a_known_secret_stands_in_no_field_of_a_leaf() {
    let secret = "hunter2-and-more";
    let text = format!("before {secret} after");
    let secrets = Secrets::new(&[Secret::from(secret.to_owned())]).unwrap();
    let leaf = |secrets: &Secrets| drafts::leaf(Draft::of_record(full(&text), secrets));
    let masked = String::from_utf8(leaf(&secrets)).unwrap();
    assert!(!masked.contains(secret), "{masked}");
    assert!(masked.contains("before [secret] after"));
    let record = Record::from_leaf(masked.as_bytes()).unwrap();
    for field in [
        "raw.text",
        "http.path",
        "resource.id",
        "net.sni",
        "rules",
        "tool.name",
    ] {
        assert!(
            record.masked.iter().any(|masked| masked == field),
            "{field}"
        );
    }
    assert_valid(masked.as_bytes());
    let open = String::from_utf8(leaf(&Secrets::default())).unwrap();
    assert!(
        open.contains(secret),
        "the twin: what is not known is stored"
    );
}

#[test]
fn a08_the_digest_of_a_cut_text_does_not_help_to_guess_a_secret() {
    let secret = "hunter2-and-more";
    let secrets = Secrets::new(&[Secret::from(secret.to_owned())]).unwrap();
    // The secret lies across the cut.
    let text = format!("{}{secret}{}", "x".repeat(1020), "y".repeat(3_000));
    let leaf = drafts::leaf(Draft::of_record(full(&text), &secrets));
    let shown = String::from_utf8(leaf.clone()).unwrap();
    assert!(!shown.contains("hunt"), "not even a part of it");
    let record = Record::from_leaf(&leaf).unwrap();
    let cut = record
        .trunc
        .iter()
        .find(|cut| cut.field == "raw.text")
        .unwrap();
    assert_ne!(
        cut.sha256,
        crate::draft::hex(&sha2::Digest::finalize(sha2::Digest::chain_update(
            <sha2::Sha256 as sha2::Digest>::new(),
            text.as_bytes(),
        )))
    );
}

#[test]
fn a06_no_field_makes_a_leaf_too_large() {
    for text in ["\u{1}", "\"", "\u{20ac}", "a"] {
        let text = text.repeat(3_000);
        let leaf = drafts::leaf(Draft::of_record(full(&text), &Secrets::default()));
        assert!(leaf.len() <= Record::MAX_BYTES, "{}", leaf.len());
        let record = Record::from_leaf(&leaf).unwrap();
        for field in [
            "raw.text",
            "summary.changes",
            "summary.destinations",
            "shadow.rules",
            "extension.id",
            "parent",
        ] {
            assert!(record.trunc.iter().any(|cut| cut.field == field), "{field}");
        }
        assert_valid(&leaf);
    }
}

#[test]
fn a_reader_passes_over_fields_that_it_does_not_know() {
    let mut value = serde_json::to_value(full("x")).unwrap();
    value["zzz_of_a_later_version"] = json!({"a": 1});
    let record = Record::from_leaf(value.to_string().as_bytes()).unwrap();
    assert_eq!(record, full("x"));
}
