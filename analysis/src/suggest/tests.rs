//! Proposals rest on evidence, allow it, and go no further than they say.

use std::collections::BTreeSet;

use cordon_policy::{ApprovalRef, ApprovalScope, GivenApproval, Operation};
use proptest::prelude::*;

use super::{
    plan::{Member, members},
    *,
};
use crate::fixture::{Recorded, START, asked, loaded, session, set};

fn options() -> Options {
    Options {
        selection: Selection::default(),
        scope: Scope::Agent,
        generalise_from: Some(3),
    }
}

fn from(rules: &str, words: &[&str], options: &Options) -> Report {
    let ann = session("s-1", "ann", Some("claude"));
    let requests = words.iter().map(|words| asked(&ann, words)).collect();
    let recorded = Recorded::of(&loaded(rules), requests);
    suggest(&recorded.log(), &set(rules, ""), options).unwrap()
}

#[test]
fn what_was_refused_is_proposed_with_its_evidence() {
    let report = from(
        START,
        &[
            "connect api.example.com:443",
            "connect api.example.com:443",
            "GET http://api.example.com:80/x",
            "POST http://api.example.com:80/y",
            "connect 192.0.2.7:22",
            "grant rw /srv/project",
        ],
        &options(),
    );
    let texts: Vec<&str> = report
        .rules
        .iter()
        .map(|rule| rule.cedar.as_str())
        .collect();
    assert_eq!(report.rules.len(), 4, "{texts:#?}");
    assert_eq!(report.refused, 6);
    let first = report
        .rules
        .iter()
        .find(|rule| rule.cedar.contains("connect") && rule.cedar.contains("api"));
    let first = first.unwrap();
    assert_eq!((first.evidence.count, first.evidence.sessions), (2, 1));
    assert_eq!(first.evidence.users, ["ann"]);
    assert_eq!(
        first.cedar,
        format!(
            "@id({:?})\npermit (\n  principal in Agent::\"claude\",\n  action == Action::\"connect\",\n  resource == Host::\"api.example.com\"\n)\nwhen {{ context.port == 443 }};\n",
            first.id
        )
    );
    // Reading and writing are one rule: nothing is added by it.
    assert!(
        texts
            .iter()
            .any(|text| text.contains("[Action::\"http_read\", Action::\"http_write\"]"))
    );
    assert!(
        report
            .rules
            .iter()
            .all(|rule| rule.still_refused.is_empty() && rule.beyond.is_empty())
    );
}

#[test]
fn what_people_approve_again_and_again_is_proposed_and_only_proposed() {
    let asks = format!(
        "{START}@id(\"ask\") permit (principal, action == Action::\"connect\", resource) \
         when {{ context has approval }};"
    );
    let snapshot = loaded(&asks);
    let given = ApprovalRef {
        id: "a".into(),
        digest: "d".into(),
        given: Some(GivenApproval {
            scope: ApprovalScope::Once,
            by: vec!["bob".into()],
            at: std::time::SystemTime::UNIX_EPOCH,
        }),
    };
    let ann = session("s-1", "ann", Some("claude"));
    let words = [
        "connect a.test:443",
        "connect a.test:443",
        "connect a.test:443",
    ];
    let requests = || words.iter().map(|words| asked(&ann, words)).collect();
    let approved = Recorded::by(requests(), |request| match &request.operation {
        Operation::Connect { .. } => snapshot.decide_approved(request, given.clone()),
        _start => snapshot.decide(request),
    });
    let report = suggest(&approved.log(), &set(&asks, ""), &options()).unwrap();
    assert_eq!((report.refused, report.approved), (0, 3));
    let [rule] = &report.rules[..] else {
        panic!("{:#?}", report.rules)
    };
    assert_eq!((rule.evidence.count, rule.evidence.approved), (3, 3));
    assert!(rule.cedar.contains("Host::\"a.test\"") && rule.still_refused.is_empty());
    // What only waited for a person is no evidence for a rule.
    let waited = Recorded::of(&snapshot, requests());
    let report = suggest(&waited.log(), &set(&asks, ""), &options()).unwrap();
    assert!(
        report.rules.is_empty() && report.approved == 0,
        "{report:?}"
    );
}

#[test]
fn the_draft_allows_the_evidence_and_nothing_beside_it() {
    let words = [
        "connect a.example.com:443",
        "connect b.example.org:443",
        "connect c.example.net:443",
        "connect c.example.net:8443",
        "connect b.example.org:8443",
        "connect a.example.com:8443",
    ];
    let report = from(START, &words, &options());
    assert_eq!(report.rules.len(), 1, "{:#?}", report.rules);
    assert_eq!(
        report.rules[0].group.as_ref().unwrap().members,
        ["a.example.com", "b.example.org", "c.example.net"]
    );
    let with = Snapshot::load(&report.draft.within(&set(START, ""))).unwrap();
    let ann = session("s-2", "bob", Some("claude"));
    let allows =
        |words: &str| Outcome::of(&with, &asked(&ann, words)).effect == cordon_audit::Effect::Allow;
    for words in words {
        assert!(allows(words), "{words}");
    }
    for words in [
        "connect a.example.com:80",
        "connect x.a.example.com:443",
        "connect example.com:443",
        "GET http://a.example.com:443/",
    ] {
        assert!(!allows(words), "{words}");
    }
}

#[test]
fn names_below_one_domain_become_that_domain_and_say_so() {
    let words: Vec<String> = ["a", "b", "c", "d"]
        .map(|name| format!("connect {name}.api.example.com:443"))
        .into();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let report = from(START, &words, &options());
    let [rule] = report.rules.as_slice() else {
        panic!("{:#?}", report.rules);
    };
    assert!(
        rule.cedar
            .contains("resource in Domain::\"api.example.com\""),
        "{}",
        rule.cedar
    );
    assert_eq!(rule.generalised, ["api.example.com"]);
    assert!(
        rule.beyond
            .iter()
            .any(|words| words.contains("api.example.com"))
    );
    assert!(
        !rule
            .beyond
            .iter()
            .any(|words| words.ends_with("-probe.example.com:443"))
    );
    assert!(report.draft.cedar.contains("allows the others as well"));
    let each = Options {
        generalise_from: None,
        ..options()
    };
    assert!(from(START, &words, &each).rules[0].generalised.is_empty());
}

#[test]
fn nothing_is_proposed_against_a_forbid_and_what_no_rule_lifts_says_what_does() {
    let rules = format!(
        "{START}@id(\"no\") forbid (principal, action == Action::\"connect\", resource in Domain::\"bad.example.com\");"
    );
    let report = from(
        &rules,
        &[
            "connect x.bad.example.com:443",
            "delete /srv/a in rw",
            "connect ok.example.com:443",
        ],
        &options(),
    );
    assert_eq!(report.rules.len(), 1);
    assert_eq!(report.forbidden, [("no".to_owned(), 1)].into());
    assert_eq!(report.elsewhere.len(), 1);
    assert!(report.elsewhere[0].remedy.contains("rwd"));
}

#[test]
fn what_is_allowed_by_now_needs_no_rule() {
    let ann = session("s-1", "ann", None);
    let recorded = Recorded::of(
        &loaded(START),
        vec![asked(&ann, "connect a.example.com:443")],
    );
    let now = set(
        &format!("{START}permit (principal, action == Action::\"connect\", resource);"),
        "",
    );
    let report = suggest(&recorded.log(), &now, &options()).unwrap();
    assert!(report.rules.is_empty() && report.draft == Draft::default());
    assert_eq!((report.refused, report.allowed_by_now), (1, 1));
}

#[test]
fn names_of_a_draft_never_meet_those_of_the_set() {
    let rules = format!(
        "{START}@id(\"suggested-1\") permit (principal, action == Action::\"read\", resource);"
    );
    let report = from(&rules, &["connect a.example.com:443"], &options());
    assert_eq!(report.rules[0].id, "suggested-2-1");
}

#[test]
fn hostile_names_of_users_stay_inside_their_quotes() {
    let eve = session(
        "s-1",
        "eve\"); permit (principal, action, resource); //\n",
        None,
    );
    let recorded = Recorded::of(
        &loaded(START),
        vec![asked(&eve, "connect a.example.com:443")],
    );
    let by_user = Options {
        scope: Scope::User,
        ..options()
    };
    let report = suggest(&recorded.log(), &set(START, ""), &by_user).unwrap();
    let with = Snapshot::load(&report.draft.within(&set(START, ""))).unwrap();
    assert_eq!(with.rules().len(), 2);
}

#[test]
fn rules_that_determined_nothing_are_listed() {
    let rules = format!(
        "{START}@id(\"used\") permit (principal, action == Action::\"connect\", resource == Host::\"a.example.com\");\n\
         @id(\"idle\") permit (principal, action == Action::\"connect\", resource == Host::\"b.example.com\");"
    );
    let ann = session("s-1", "ann", None);
    let snapshot = loaded(&rules);
    let recorded = Recorded::of(&snapshot, vec![asked(&ann, "connect a.example.com:443")]);
    let found = unused(
        &recorded.log(),
        &snapshot,
        std::time::SystemTime::UNIX_EPOCH,
    )
    .unwrap();
    let ids: Vec<&str> = found.rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!((ids.as_slice(), found.decisions), (&["idle"][..], 2));
}

fn host() -> impl Strategy<Value = String> {
    let suffix = prop::sample::select(vec![
        "example.com",
        "example.co.uk",
        "com",
        "co.uk",
        "github.io",
        "user.github.io",
        "corp",
        "intranet.corp",
        "example.city.kawasaki.jp",
    ]);
    ("([a-c]\\.){0,3}[a-c]", suffix).prop_map(|(front, suffix)| format!("{front}.{suffix}"))
}

proptest! {
    /// Every host is covered, and what stands for several is never above what somebody can
    /// register, nor below a suffix that the list does not know.
    #[test]
    fn a_suggestion_never_goes_above_the_registrable_domain(
        hosts in prop::collection::btree_set(host(), 1..40),
        from in 2_usize..5,
    ) {
        let hosts: BTreeSet<&str> = hosts.iter().map(String::as_str).collect();
        let members = members(&hosts, Some(from));
        for host in &hosts {
            let is_covered = members.iter().any(|member| match member {
                Member::Exactly(name) => name == host,
                Member::Below(domain) => host.ends_with(&format!(".{domain}")),
            });
            prop_assert!(is_covered, "{host} {members:?}");
        }
        for member in &members {
            match member {
                Member::Exactly(name) => prop_assert!(hosts.contains(name.as_str())),
                Member::Below(domain) => {
                    let registrable = psl::domain(domain.as_bytes());
                    prop_assert!(registrable.is_some_and(|found| found.suffix().is_known()), "{domain}");
                    let below = hosts.iter().filter(|host| host.ends_with(&format!(".{domain}")));
                    prop_assert!(below.count() >= from, "{domain}");
                }
            }
        }
    }
}

#[test]
fn p06_a_draft_for_an_organisations_bundle_loads_in_its_layer() {
    let mut current = set(START, "");
    current.trust = cordon_policy::Trust {
        team: false,
        user: false,
    };
    for file in &mut current.files {
        file.layer = cordon_policy::Layer::Organisation;
    }
    let draft = Draft {
        cedar: "@id(\"d\") permit (principal, action, resource == Host::\"a.test\");".into(),
        toml: String::new(),
    };
    let loaded = Snapshot::load(&draft.within(&current)).unwrap();
    assert!(loaded.rules().iter().any(|rule| &*rule.id == "d"));
}
