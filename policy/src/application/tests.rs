use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::{
    Layer, Snapshot, Trust,
    application::ask::{Act, Named, Query},
    check,
    source::{PolicyFile, PolicySource},
};

const SCHEMA: &str = r#"namespace Shop {
  entity Team;
  entity User in [Team] = { role?: String };
  entity Record = { owner: User, status: String };
  action view, edit appliesTo { principal: [User], resource: [Record], context: { soft?: Bool } };
}"#;
const MAPPING: &str = r#"namespace = "Shop"
callers = ["shop-backend"]
[types.user]
entity = "User"
[types.record]
entity = "Record"
trusted = ["status"]
[actions.read]
action = "view"
[actions.change]
action = "edit"
trusted = ["soft"]
"#;
const ENTITIES: &str = r#"[
  {"uid": {"type": "Shop::User", "id": "alice"}, "attrs": {}, "parents": [{"type": "Shop::Team", "id": "t"}]},
  {"uid": {"type": "Shop::User", "id": "bob"}, "attrs": {"role": "admin"}, "parents": []},
  {"uid": {"type": "Shop::Team", "id": "t"}, "attrs": {}, "parents": []},
  {"uid": {"type": "Shop::Record", "id": "1"},
   "attrs": {"owner": {"__entity": {"type": "Shop::User", "id": "alice"}}, "status": "open"}, "parents": []},
  {"uid": {"type": "Shop::Record", "id": "2"},
   "attrs": {"owner": {"__entity": {"type": "Shop::User", "id": "bob"}}, "status": "closed"}, "parents": []}
]"#;
const RULES: &str = r#"
@id("team-reads") permit (principal in Shop::Team::"t", action == Shop::Action::"view", resource);
@id("owner-edits") permit (principal, action, resource) when { resource.owner == principal };
@id("closed") @reason("it is closed")
forbid (principal, action == Shop::Action::"edit", resource)
when { resource.status == "closed" && !(context has soft && context.soft) };
"#;

fn source(files: &[(&str, &str)]) -> PolicySource {
    let files = files
        .iter()
        .map(|(name, text)| PolicyFile::new(format!("b/app/{name}"), *text))
        .collect();
    PolicySource {
        applications: vec![ApplicationSource {
            bundle: "b".into(),
            layer: Layer::User,
            files,
        }],
        ..PolicySource::default_pack()
    }
}

fn files<'a>() -> Vec<(&'a str, &'a str)> {
    vec![
        ("shop.cedarschema", SCHEMA),
        ("authzen.toml", MAPPING),
        ("entities.json", ENTITIES),
        ("shop.cedar", RULES),
    ]
}

fn shop() -> Arc<Application> {
    let set = Snapshot::load(&source(&files())).unwrap();
    Arc::clone(&set.applications()[0])
}

fn ask(subject: &str, action: &str, resource: &str, said: &Value, how: &Value) -> Answer {
    shop().ask(&Query {
        subject: Named {
            kind: "user",
            id: subject,
            properties: None,
        },
        action: Act {
            name: action,
            properties: how.as_object(),
        },
        resource: Named {
            kind: "record",
            id: resource,
            properties: said.as_object(),
        },
        context: None,
    })
}

#[test]
fn rules_of_the_namespace_answer_by_what_is_stored() {
    let none = Value::Null;
    for (subject, action, resource, code) in [
        ("alice", "read", "1", "allowed"),
        ("alice", "read", "2", "allowed"),
        ("bob", "read", "1", "default_deny"),
        ("alice", "change", "1", "allowed"),
        ("bob", "change", "2", "rule"),
        ("carol", "read", "1", "unknown"),
        ("alice", "read", "3", "unknown"),
        ("alice", "fly", "1", "unknown"),
    ] {
        let answer = ask(subject, action, resource, &none, &none);
        assert_eq!(
            answer.code, code,
            "{subject} {action} {resource}: {answer:?}"
        );
        assert_eq!(answer.allowed, code == "allowed");
    }
    let refused = ask("bob", "change", "2", &none, &none);
    assert_eq!(refused.reason, "it is closed");
    assert_eq!(&*refused.rules[0].id, "closed");
}

#[test]
fn only_trusted_properties_count_and_they_win_over_stored_ones() {
    let none = Value::Null;
    let soft = json!({"soft": true});
    for (said, how, code) in [
        (json!({"status": "open"}), &none, "allowed"),
        (none.clone(), &soft, "allowed"),
        // Whose it is is not the caller's to say.
        (
            json!({"owner": {"__entity": {"type": "Shop::User", "id": "alice"}}}),
            &none,
            "rule",
        ),
        (json!({"status": 1}), &none, "malformed"),
        (
            json!({"status": {"__extn": {"fn": "ip", "arg": "::1"}}}),
            &none,
            "malformed",
        ),
    ] {
        let answer = ask("bob", "change", "2", &said, how);
        assert_eq!(answer.code, code, "{said} {how}: {answer:?}");
    }
    let answer = ask("alice", "change", "2", &json!({"status": "open"}), &none);
    assert_eq!(answer.code, "default_deny", "the twin: it is bob's");
    let wrong = ask("bob", "change", "2", &none, &json!({"soft": "yes"}));
    assert_eq!(wrong.code, "malformed");
}

#[test]
fn searches_go_through_what_is_stored_page_by_page() {
    let shop = shop();
    let resource = Named {
        kind: "record",
        id: "1",
        properties: None,
    };
    let act = Act {
        name: "read",
        properties: None,
    };
    let search = |wanted: Wanted<'_>, after: Option<&str>, found: usize| {
        let page = shop.search(
            &wanted,
            Search {
                context: None,
                after,
                found,
                evaluated: 100,
                until: Instant::now() + Duration::from_secs(60),
            },
        );
        let ids: Vec<String> = page.found.into_iter().map(|found| found.id).collect();
        (ids, page.after)
    };
    let who = Named {
        kind: "user",
        id: "alice",
        properties: None,
    };
    let subjects = Wanted::Subject {
        kind: "user",
        action: act,
        resource,
    };
    assert_eq!(search(subjects, None, 10), (vec!["alice".into()], None));
    let resources = Wanted::Resource {
        subject: who,
        action: act,
        kind: "record",
    };
    assert_eq!(search(resources, None, 10).0, ["1", "2"]);
    assert_eq!(
        search(resources, None, 1),
        (vec!["1".into()], Some("1".into()))
    );
    assert_eq!(search(resources, Some("1"), 1), (vec!["2".into()], None));
    let actions = Wanted::Action {
        subject: who,
        resource,
    };
    assert_eq!(search(actions, None, 10).0, ["change", "read"]);
    let nobody = Wanted::Subject {
        kind: "spaceship",
        action: act,
        resource,
    };
    assert_eq!(search(nobody, None, 10).0, [""; 0]);
    // Time that is over ends a page after one candidate, never before.
    let late = shop.search(
        &resources,
        Search {
            context: None,
            after: None,
            found: 10,
            evaluated: 10,
            until: Instant::now(),
        },
    );
    assert_eq!((late.evaluated, late.after.as_deref()), (1, Some("1")));
}

#[test]
fn an_application_that_is_not_whole_or_leaves_its_namespace_does_not_load() {
    let with = |name: &str, text: String| {
        let mut all: Vec<(&str, String)> = files()
            .into_iter()
            .filter(|(other, _)| *other != name)
            .map(|(name, text)| (name, text.to_owned()))
            .collect();
        if !text.is_empty() {
            all.push((name, text));
        }
        let all: Vec<(&str, &str)> = all.iter().map(|(n, t)| (*n, t.as_str())).collect();
        check::check(&source(&all))
            .into_iter()
            .filter(|finding| finding.severity == check::Severity::Error)
            .map(|finding| finding.to_string())
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(with("shop.cedar", RULES.into()), "", "the twin");
    let schema = |text: &str| with("shop.cedarschema", text.into());
    let mapping = |from: &str, to: &str| with("authzen.toml", MAPPING.replacen(from, to, 1));
    let rules = |text: &str| with("shop.cedar", text.into());
    let twice = ENTITIES.replacen(
        r#""status": "open""#,
        r#""status": "open", "status": "x""#,
        1,
    );
    let deep = format!(
        "namespace Shop {{ type T = {}String{}; }}",
        "Set<".repeat(500),
        ">".repeat(500)
    );
    for (said, expected) in [
        (
            schema("entity Session; namespace Shop { entity User; }"),
            "outside of a namespace",
        ),
        (
            schema(&format!("{SCHEMA} namespace Other {{ entity X; }}")),
            "alone",
        ),
        (schema("namespace Other { entity X; }"), "declares `Other`"),
        (
            schema("namespace Shop { entity User in [Session]; }"),
            "Session",
        ),
        (schema("namespace Shop {"), "shop.cedarschema"),
        (schema(&deep), "nested more than"),
        (schema(""), "just one schema"),
        (
            with("entities.json", String::new()),
            "without `app/entities.json`",
        ),
        (with("entities.json", "{}".into()), "not a list"),
        (with("entities.json", twice), "entities.json"),
        (
            with("entities.json", ENTITIES.replace("Shop::Team", "Group")),
            "Group",
        ),
        (
            with("entities.json", ENTITIES.replacen(r#""open""#, "1", 1)),
            "entities.json",
        ),
        (
            mapping("namespace = \"Shop\"", "namespace = \"Cordon\""),
            "Cordon",
        ),
        (
            mapping("entity = \"User\"", "entity = \"Host\""),
            "no entity type `Host`",
        ),
        (
            mapping("action = \"view\"", "action = \"connect\""),
            "no action `connect`",
        ),
        (
            mapping("trusted = [\"status\"]", "trusted = [\"state\"]"),
            "no `state`",
        ),
        (mapping("[types.user]", "[types.Session]"), "Cordon's own"),
        (mapping("callers", "caller"), "unknown field"),
        (
            rules("permit (principal is Session, action, resource);"),
            "Session",
        ),
        (
            rules("permit (principal, action == Action::\"connect\", resource);"),
            "connect",
        ),
        (
            rules(
                "permit (principal, action == Shop::Action::\"view\", resource) when { resource.ownr == principal };",
            ),
            "ownr",
        ),
        (
            rules(
                "@observe(\"2099-01-01\") forbid (principal, action == Shop::Action::\"view\", resource);",
            ),
            "carries out",
        ),
        (rules("permit("), "shop.cedar"),
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let mut lower = source(&files());
    lower.trust = Trust {
        user: false,
        ..lower.trust
    };
    let said = Snapshot::load(&lower).unwrap_err().to_string();
    assert!(said.contains("may only `forbid`"), "{said}");
    let mut two = source(&files());
    two.applications.push(two.applications[0].clone());
    let said = Snapshot::load(&two).unwrap_err().to_string();
    assert!(said.contains("already"), "{said}");
}

#[test]
fn an_application_is_part_of_the_digest_and_of_nothing_else() {
    let (with, without) = (source(&files()), PolicySource::default_pack());
    assert_ne!(with.digest(), without.digest());
    let (with, without) = (
        Snapshot::load(&with).unwrap(),
        Snapshot::load(&without).unwrap(),
    );
    assert_eq!(with.rules().len(), without.rules().len());
    assert!(shop().serves("shop-backend") && !shop().serves("bob"));
}

#[test]
fn entities_in_each_other_too_often_are_refused_before_they_cost_memory() {
    let entity = |n: usize| {
        let parents: Vec<Value> = match n {
            0 => Vec::new(),
            n => vec![json!({"type": "Shop::Team", "id": (n - 1).to_string()})],
        };
        json!({"uid": {"type": "Shop::Team", "id": n.to_string()}, "attrs": {}, "parents": parents})
    };
    let chain: Vec<Value> = (0..5_000).map(entity).collect();
    let mut all = files();
    let text = Value::Array(chain).to_string();
    all.retain(|(name, _)| *name != "entities.json");
    all.push(("entities.json", &text));
    let said = Snapshot::load(&source(&all)).unwrap_err().to_string();
    assert!(said.contains("in each other more than"), "{said}");
}

#[test]
fn tests_of_a_bundle_ask_its_application() {
    use crate::testing::{parse, run};

    let files = [
        ("shop.cedarschema", SCHEMA),
        ("authzen.toml", MAPPING),
        ("entities.json", ENTITIES),
        ("shop.cedar", RULES),
    ];
    let snapshot = Snapshot::load(&source(&files)).unwrap();
    let run = |text: &str| {
        let file = parse(text).unwrap_or_else(|error| panic!("{error}"));
        run(&snapshot, &[("t.toml".into(), file)], None)
    };
    let passing = r#"
[[test]]
name = "the team reads"
ask = [
    { subject = { type = "user", id = "alice" }, action = "read", resource = { type = "record", id = "2" } },
    { subject = { type = "user", id = "alice" }, action = "read", resource = { type = "record", id = "1" } },
]
then = "allow"
rule = "team-reads"
[[test]]
name = "what is closed is closed, but softly"
ask = [{ subject = { type = "user", id = "bob" }, action = "change", resource = { type = "record", id = "2" } }]
then = "deny"
reason = "rule"
rule = "closed"
message = "it is closed"
[[test]]
name = "what the caller says counts where it is trusted"
ask = [{ subject = { type = "user", id = "bob" }, action = { name = "change", properties = { soft = true } }, resource = { type = "record", id = "2" } }]
then = "allow"
[[test]]
name = "no such type"
ask = [{ subject = { type = "robot", id = "x" }, action = "read", resource = { type = "record", id = "2" } }]
then = "deny"
reason = "malformed"
"#;
    let report = run(passing);
    let failed: Vec<_> = report.tests.iter().filter(|test| !test.passed()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(
        report.tests.iter().map(|test| test.requests).sum::<usize>(),
        5
    );
    let report = run(&passing
        .replacen("id = \"alice\"", "id = \"bob\"", 1)
        .replace("\"2\"", "\"1\""));
    let failures: Vec<_> = report
        .tests
        .iter()
        .flat_map(|test| &test.failures)
        .collect();
    assert_eq!(failures[0].when, "may user \"bob\" read record \"1\"");

    for (wrong, told) in [
        (
            "when = \"connect a.test:443\"\nask = [{ subject = { type = \"u\", id = \"a\" }, action = \"x\", resource = { type = \"r\", id = \"1\" } }]\nthen = \"deny\"",
            "or `ask` as many",
        ),
        ("then = \"deny\"", "or `ask` as many"),
        (
            "ask = [{ subject = { type = \"u\", id = \"a\" }, action = \"x\", resource = { type = \"r\", id = \"1\" } }]\nthen = \"ask\"",
            "no approval",
        ),
        (
            "ask = [{ subject = { type = \"u\" }, action = \"x\", resource = { type = \"r\", id = \"1\" } }]\nthen = \"deny\"",
            "id",
        ),
        (
            "ask = [{ subject = { type = \"u\", id = \"a\", role = \"x\" }, action = \"x\", resource = { type = \"r\", id = \"1\" } }]\nthen = \"deny\"",
            "role",
        ),
    ] {
        let error = parse(&format!("[[test]]\nname = \"n\"\n{wrong}\n")).unwrap_err();
        assert!(error.to_string().contains(told), "{wrong}: {error}");
    }
}
