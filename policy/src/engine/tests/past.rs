//! What a session did before: rules look at it, no kept answer stands for it, and where it is not
//! known nothing that rests on it is allowed.

use super::*;
use crate::{DestinationPast, Past, SessionPast};

fn past(labels: &[&str], session: SessionPast, destination: DestinationPast) -> History {
    let labels = labels.iter().map(|label| Arc::from(*label)).collect();
    History::Known(Box::new(Past {
        session: SessionPast { labels, ..session },
        destination,
    }))
}

fn outcome_after(snapshot: &Snapshot, history: &History, request: Request) -> &'static str {
    match snapshot.decide_after(history, request, None) {
        Decision::Allow(_) => "allow",
        Decision::Deny(deny) => deny.verdict().reason.code(),
    }
}

const LABELS: &str =
    "[labels.confidential]\nfolders = [\"/srv/c\"]\n[labels.untrusted]\nhosts = [\"*\"]\n";

fn with_labels(rules: &str, data: &str) -> Result<Snapshot, String> {
    let files = vec![
        PolicyFile::new("test.cedar", rules),
        PolicyFile::new("labels.toml", data),
    ];
    Snapshot::load(&PolicySource::new("test", files)).map_err(|error| {
        let help = error.help.clone().unwrap_or_default();
        format!("{error}\nhelp: {help}")
    })
}

#[test]
fn rules_look_at_what_the_session_did() {
    let many = past(
        &["confidential", "untrusted"],
        SessionPast {
            requests: 10,
            destinations: 3,
            bytes_sent: 1_000,
            bytes_received: 2_000,
            deletes: 4,
            tool_calls: 5,
            ..SessionPast::default()
        },
        DestinationPast {
            seen: true,
            requests: 7,
            bytes_sent: 70,
            bytes_received: 71,
        },
    );
    for condition in [
        "context.session.labels.containsAll([\"confidential\", \"untrusted\"])",
        "context.session.labels.contains(\"untrusted\")",
        "context.session.requests == 10 && context.session.destinations == 3",
        "context.session.bytes_sent >= 1000 && context.session.bytes_received > 1999",
        "context.session.deletes == 4 && context.session.tool_calls == 5",
        "context.destination.seen",
        "context.destination.requests == 7",
        "context.destination.bytes_sent == 70 && context.destination.bytes_received == 71",
        "context has session && context.session.requests > 9",
        "context[\"sess\\u{69}on\"].requests == 10",
        "(if context.port == 443 then context.session else context.session).requests == 10",
    ] {
        let rule = format!(
            "permit (principal, action == Action::\"connect\", resource) when {{ {condition} }};"
        );
        let snapshot = with_labels(&rule, LABELS).unwrap();
        assert!(snapshot.reads_past(), "{condition}");
        // Twice, in both orders: no answer of the one is the other's.
        for _round in 0..2 {
            let ask = |history| outcome_after(&snapshot, history, connect("a.test:443"));
            assert_eq!(ask(&NOTHING), "default_deny", "{condition}");
            assert_eq!(ask(&many), "allow", "{condition}");
            assert_eq!(ask(&History::Unknown), "evaluation_error", "{condition}");
        }
    }
}

#[test]
fn what_is_not_known_refuses_only_what_rests_on_it() {
    let snapshot = with_labels(
        "permit (principal, action == Action::\"connect\", resource);
         forbid (principal, action == Action::\"connect\", resource == Host::\"b.test\")
         when { context.session.requests >= 10 };",
        LABELS,
    )
    .unwrap();
    let ask = |history, target| outcome_after(&snapshot, history, connect(target));
    assert_eq!(ask(&NOTHING, "a.test:443"), "allow");
    assert_eq!(ask(&NOTHING, "b.test:443"), "allow");
    assert_eq!(ask(&History::Unknown, "a.test:443"), "allow");
    assert_eq!(ask(&History::Unknown, "b.test:443"), "evaluation_error");
    // A rule that observes is evaluated too.
    let observing = with_labels(
        "permit (principal, action, resource);
         @observe(\"2099-01-01\") forbid (principal, action == Action::\"connect\", resource)
         when { context.session.requests >= 10 };",
        LABELS,
    )
    .unwrap();
    let asked = outcome_after(&observing, &History::Unknown, connect("a.test:443"));
    assert_eq!(asked, "evaluation_error");
}

#[test]
fn an_approval_does_not_stand_for_what_is_not_known() {
    let rule = "permit (principal, action == Action::\"connect\", resource)
                when { context has approval && context.session.requests < 10 };";
    let snapshot = with_labels(rule, LABELS).unwrap();
    let approval = || crate::ApprovalRef {
        id: "a".into(),
        digest: "d".into(),
        given: Some(crate::GivenApproval {
            scope: crate::ApprovalScope::Once,
            by: vec!["bob".into()],
            at: SystemTime::UNIX_EPOCH,
        }),
    };
    let decide = |history: &History| match snapshot.decide_after(
        history,
        connect("a.test:443"),
        Some(approval()),
    ) {
        Decision::Allow(_) => "allow",
        Decision::Deny(deny) => deny.verdict().reason.code(),
    };
    assert_eq!(decide(&NOTHING), "allow");
    assert_eq!(decide(&History::Unknown), "evaluation_error");
}

#[test]
fn a_label_that_nothing_gives_is_refused_when_it_is_loaded() {
    let rule = |name: &str, more: &str| {
        let text = format!(
            "{more} permit (principal, action == Action::\"connect\", resource);
             forbid (principal, action, resource == Host::\"a.test\")
             when {{ context.session.labels.containsAny([\"untrusted\", \"{name}\"]) }};"
        );
        with_labels(&text, LABELS)
    };
    assert!(rule("confidential", "").is_ok());
    let refused = rule("confidental", "").unwrap_err();
    assert!(
        refused.contains("nothing gives the label \"confidental\""),
        "{refused}"
    );
    assert!(rule("confidental", "@label(\"confidental\")").is_ok());
    let wrong = rule("confidential", "@label(\"Not A Label\")").unwrap_err();
    assert!(wrong.contains("@label"), "{wrong}");
}

#[test]
fn data_files_that_label_nothing_sensible_are_refused() {
    for (data, expected) in [
        ("[labels.Secret]\n", "not the name of a label"),
        ("[labels.a]\nfolders = [\"srv\"]\n", "not a canonical path"),
        (
            "[labels.a]\nfolders = [\"/srv/\"]\n",
            "not a canonical path",
        ),
        ("[labels.a]\nhosts = [\"*.\"]\n", "labels.toml"),
        ("[labels.a]\nhosts = [\"@none\"]\n", "no host group"),
        ("[labels.a]\nconnectors = [\"\"]\n", "neither a name"),
        ("[labels.a]\nextensions = [\"/x\"]\n", "neither a name"),
        ("[labels.a]\nfiles = [\"/srv\"]\n", "unknown field"),
    ] {
        let refused = with_labels("permit (principal, action, resource);", data).unwrap_err();
        assert!(refused.contains(expected), "{data}: {refused}");
    }
    let many: String = (0..65).map(|n| format!("[labels.l{n}]\n")).collect();
    let refused = with_labels("permit (principal, action, resource);", &many).unwrap_err();
    assert!(refused.contains("more than 64 labels"), "{refused}");
}

#[test]
fn what_is_read_gives_its_labels() {
    let data = "[host_groups]\nintranet = [\"*.corp.test\", \"@wiki\"]\nwiki = [\"wiki.test\"]\n\
                [labels.confidential]\nfolders = [\"/srv/c\", \"/srv/one.txt\"]\nhosts = [\"@intranet\"]\n\
                connectors = [\"mail\", \"tracker/read:issues\"]\nextensions = [\"notes\"]\n\
                [labels.untrusted]\nhosts = [\"*.forum.test\", \"forum.test\"]\nextensions = [\"claude-code/WebSearch\"]\n\
                [labels.any]\nhosts = [\"*\"]\n";
    let snapshot = with_labels("permit (principal, action, resource);", data).unwrap();
    let ask = |words: &str| -> String {
        let operation = crate::ask::parse(words).unwrap();
        let labels = snapshot.labels_of(&operation);
        labels
            .iter()
            .map(|label| &**label)
            .collect::<Vec<_>>()
            .join(" ")
    };
    for (words, labels) in [
        ("read /srv/c/a in ro", "confidential"),
        ("read /srv/c in ro", "confidential"),
        ("read /srv/one.txt in ro", "confidential"),
        // A folder has in it what is in it.
        ("grant ro /srv", "confidential"),
        ("grant rw /srv/c/deep", "confidential"),
        ("read / in ro", "confidential"),
        ("read /srv/cc in ro", ""),
        ("grant ro /home/a", ""),
        ("write /srv/c/a in rw", ""),
        ("delete /srv/c/a in rwd", ""),
        ("connect a.corp.test:443", "any confidential"),
        ("connect corp.test:443", "any"),
        ("GET https://wiki.test/", "any confidential"),
        ("connect forum.test:22", "any untrusted"),
        ("open https://x.forum.test", "any untrusted"),
        ("click in https://x.forum.test", "any untrusted"),
        ("connect 192.0.2.7:443", "any"),
        ("use scope send of mail", "confidential"),
        ("use scope read:issues of tracker", "confidential"),
        ("use scope write:issues of tracker", ""),
        ("enable connector mail", ""),
        ("call search of notes", "confidential"),
        ("call send of mail", "confidential"),
        ("call WebSearch of claude-code", "untrusted"),
        ("call Bash of claude-code", ""),
    ] {
        assert_eq!(ask(words), labels, "{words}");
    }
}
