//! Whose rule it is: who may permit, and that a workspace can only narrow.

use proptest::{prelude::*, sample::select};

use super::*;
use crate::Trust;

const PERMIT: &str = "\n@id(\"p\")\npermit (principal, action, resource);";

fn layered(files: &[(&str, Layer, &str)], trust: Trust) -> PolicySource {
    let files = files.iter().map(|(name, layer, text)| PolicyFile {
        layer: *layer,
        ..PolicyFile::new(*name, *text)
    });
    PolicySource {
        trust,
        ..PolicySource::new("layers", files.collect())
    }
}

const STRICT: Trust = Trust {
    team: false,
    user: false,
};

#[test]
fn f02_a_permit_of_a_layer_without_trust_is_refused_by_file_and_line() {
    let layers = [
        Layer::Organisation,
        Layer::Team,
        Layer::User,
        Layer::Workspace,
    ];
    for trust in [STRICT, Trust::WITHOUT_ORGANISATION] {
        for layer in layers {
            let source = layered(&[("rules.cedar", layer, PERMIT)], trust);
            let loaded = Snapshot::load(&source);
            assert_eq!(loaded.is_ok(), trust.may_permit(layer), "{layer} {trust:?}");
            if let Err(error) = loaded {
                let text = format!("{error} {}", error.help.clone().unwrap_or_default());
                assert!(text.contains("`rules.cedar` line 2"), "{text}");
                assert!(text.contains(&format!("{layer}'s layer")), "{text}");
                assert!(text.contains("write a `forbid`"), "{text}");
            }
            // The control: every layer may forbid.
            let forbid = PERMIT.replace("permit", "forbid");
            let source = layered(&[("rules.cedar", layer, &forbid)], trust);
            assert!(Snapshot::load(&source).is_ok(), "{layer} {trust:?}");
        }
    }
}

#[test]
fn f02_a_workspace_cannot_fill_a_group_that_a_more_trusted_layer_names() {
    let rule = "@id(\"p\") permit (principal, action, resource in HostGroup::\"g\");";
    let group = "[host_groups]\ng = [\"example.com\"]";
    let nested = "[host_groups]\nouter = [\"@g\"]";
    let with = |group_layer, rule_layer| {
        let files = [
            ("rules.cedar", rule_layer, rule),
            ("hosts.toml", group_layer, group),
        ];
        Snapshot::load(&layered(&files, Trust::WITHOUT_ORGANISATION))
    };
    let refused = with(Layer::Workspace, Layer::Organisation).unwrap_err();
    assert!(
        refused.to_string().contains("is the workspace's"),
        "{refused}"
    );
    assert!(with(Layer::User, Layer::Team).is_err());
    assert!(with(Layer::Organisation, Layer::Organisation).is_ok());
    assert!(with(Layer::Organisation, Layer::User).is_ok());
    for (outer, inner, is_ok) in [
        (Layer::Organisation, Layer::Workspace, false),
        (Layer::Workspace, Layer::Organisation, true),
    ] {
        let files = [
            ("rules.cedar", Layer::Organisation, ""),
            ("a.toml", outer, nested),
            ("b.toml", inner, group),
        ];
        assert_eq!(Snapshot::load(&layered(&files, STRICT)).is_ok(), is_ok);
    }
}

#[test]
fn n19_a_decision_carries_the_revision_and_each_rule_its_layer() {
    let mut source = layered(
        &[
            ("org.cedar", Layer::Organisation, PERMIT),
            (
                "ws.cedar",
                Layer::Workspace,
                "@id(\"n\") forbid (principal, action, resource == Host::\"no.test\");",
            ),
        ],
        STRICT,
    );
    source.revision = Some(7);
    let snapshot = Snapshot::load(&source).unwrap();
    for (target, layer) in [
        ("a.test:443", Layer::Organisation),
        ("no.test:443", Layer::Workspace),
    ] {
        let basis = basis(&snapshot, connect(target));
        assert_eq!(basis.rules[0].layer, layer, "{target}");
        assert_eq!(basis.revision, Some(7));
    }
}

/// What a workspace might write: every scope and condition, as a `forbid`.
fn narrowing() -> impl Strategy<Value = String> {
    let line = (
        select(slicing::PRINCIPALS),
        select(slicing::SCOPES),
        select(slicing::CONDITIONS),
    );
    let line = line.prop_map(|(principal, (action, resource), condition)| {
        format!(
            "forbid (principal {principal}, action {action}, resource {resource}) {condition};\n"
        )
    });
    prop::collection::vec(line, 0..6).prop_map(|lines| lines.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn f02_a_workspace_never_widens(case in slicing::case(), workspace in narrowing()) {
        let data = format!("[host_groups]\n{}", case.data());
        let mut files = vec![
            ("test.cedar", Layer::Organisation, case.rules.as_str()),
            ("hosts.toml", Layer::Organisation, data.as_str()),
        ];
        let alone = Snapshot::load(&layered(&files, STRICT)).unwrap();
        files.push(("ws.cedar", Layer::Workspace, &workspace));
        let with = Snapshot::load(&layered(&files, STRICT)).unwrap();
        let (before, after) = (
            outcome(&alone, case.request.clone()),
            outcome(&with, case.request.clone()),
        );
        let rank = |outcome: &str| match outcome.split(' ').next() {
            Some("allow") => 2,
            Some("approval_required") => 1,
            _ => 0,
        };
        prop_assert!(rank(&after) <= rank(&before), "{} became {}\n{}", before, after, workspace);
    }

    /// Whatever the other layers permit, and wherever the one that refuses stands among them.
    #[test]
    fn a_deny_anywhere_in_a_chain_of_layers_is_a_deny(
        case in slicing::case(),
        chain in prop::collection::vec(
            (select(vec![Layer::Organisation, Layer::Team, Layer::User, Layer::Workspace]), narrowing()),
            1..4,
        ),
        at in any::<prop::sample::Index>(),
    ) {
        let trust = Trust::WITHOUT_ORGANISATION;
        let is_deny = |outcome: &str| {
            !matches!(outcome.split(' ').next(), Some("allow" | "approval_required"))
        };
        let data = format!("[host_groups]\n{}", case.data());
        let denies = |layer: Layer, rules: &str| {
            let files = [
                ("open.cedar", Layer::Organisation, PERMIT),
                ("hosts.toml", Layer::Organisation, data.as_str()),
                ("one.cedar", layer, rules),
            ];
            let alone = Snapshot::load(&layered(&files, trust)).unwrap();
            is_deny(&outcome(&alone, case.request.clone()))
        };
        let (layer, rules) = at.get(&chain);
        let names: Vec<String> = (0..chain.len()).map(|n| format!("{n}.cedar")).collect();
        let mut files = vec![
            ("test.cedar", Layer::Organisation, case.rules.as_str()),
            ("open.cedar", Layer::Organisation, PERMIT),
            ("hosts.toml", Layer::Organisation, data.as_str()),
        ];
        for (name, (layer, rules)) in names.iter().zip(&chain) {
            files.push((name, *layer, rules));
        }
        let all = outcome(&Snapshot::load(&layered(&files, trust)).unwrap(), case.request.clone());
        if denies(*layer, rules) {
            prop_assert!(is_deny(&all), "{all}\n{layer}: {rules}");
        }
    }
}
