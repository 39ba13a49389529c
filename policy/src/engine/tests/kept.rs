//! What is kept changes no decision: a set that was asked before answers as one that was not.

use std::time::Duration;

use cedar_policy::{Entities, Entity};

use super::*;
use crate::engine::prepared::Topic;

/// Every kind of request, each also with every fact another.
fn variations() -> Vec<Request> {
    let mut all = every_kind();
    for transport in [Transport::Socks5, Transport::Capture] {
        all.push(connect_by("api.github.com:443", transport));
        all.push(connect_by("api.github.com:22", transport));
        all.push(connect_by("192.0.2.7:443", transport));
    }
    // One destination, each time seen a little more of.
    let whole = handshake(Some("api.github.com"));
    let parts = [
        Seen {
            tls: None,
            ..whole.clone()
        },
        Seen {
            names: Vec::new(),
            ..whole.clone()
        },
        Seen {
            address_unverified: false,
            ..whole.clone()
        },
        Seen {
            process: Some(Arc::new(curl_of_bash(false))),
            ..whole.clone()
        },
        handshake(Some("other.github.com")),
        whole,
    ];
    all.extend(parts.map(|seen| seen_connect("api.github.com:443", seen)));
    for method in ["GET", "HEAD", "POST", "DELETE", "get"] {
        for target in ["example.com", "example.com:8080", "other.example.com"] {
            all.extend(["/a", "/b"].map(|path| http(method, target, path)));
        }
    }
    for path in [
        "/home/alice/project/a.txt",
        "/home/alice/project/./a.txt",
        "/home/alice/project//a.txt",
        "/home/alice/project/a.txt/",
        "/home/alice/project",
        "/home/alice/project/",
    ] {
        for mode in [GrantMode::Ro, GrantMode::Rw, GrantMode::Rwd] {
            let path = PathBuf::from(path);
            all.push(asked(Operation::ReadPath {
                path: path.clone(),
                mode,
            }));
            all.push(asked(Operation::WritePath {
                path: path.clone(),
                mode,
            }));
            all.push(asked(Operation::DeletePath {
                path: path.clone(),
                mode,
            }));
            for source in [GrantSource::CommandLine, GrantSource::Profile] {
                let path = path.clone();
                for name in ["project", "inside"] {
                    all.push(asked(Operation::grant(path.clone(), mode, source, name)));
                }
            }
        }
    }
    let facts = session();
    for request in &mut all {
        // One session, told apart from others by where its facts are.
        if *request.session == *facts {
            request.session = Arc::clone(&facts);
        }
    }
    all
}

/// Every fact of a question, in words; or why it is none.
fn question(snapshot: &Snapshot, request: &Request) -> (String, String) {
    match all_facts(snapshot).ask(request) {
        Ok(question) => {
            let entities = Entities::from_entities(question.entities, None).unwrap();
            let mut store: Vec<String> = entities.iter().map(in_words).collect();
            store.sort();
            let who = (question.principal, &question.action.uid, question.resource);
            let can = question.can_be_approved;
            (
                format!("{who:?} {can} {store:?}"),
                format!("{:?}", question.context),
            )
        }
        Err(why) => (format!("{why:?}"), String::new()),
    }
}

/// An entity with its parents in one order.
fn in_words(entity: &Entity) -> String {
    let mut json = entity.to_json_value().unwrap();
    let parents = json["parents"].as_array_mut().unwrap();
    parents.sort_by_key(ToString::to_string);
    json.to_string()
}

#[test]
fn requests_with_one_topic_are_one_question() {
    let snapshot = load(RULES, "");
    let all = variations();
    let known: Vec<_> = all.iter().map(|r| (r, question(&snapshot, r))).collect();
    let (mut same, mut but_for_context) = (0, 0);
    for (a, (facts_of_a, context_of_a)) in &known {
        for (b, (facts_of_b, context_of_b)) in &known {
            let topic = Topic::of(&a.operation);
            let is_one_session = Arc::ptr_eq(&a.session, &b.session);
            if !is_one_session || topic != Topic::of(&b.operation) {
                continue;
            }
            assert_eq!(facts_of_a, facts_of_b, "{a:?} {b:?}");
            if topic.fixes_context() {
                assert_eq!(context_of_a, context_of_b, "{a:?} {b:?}");
                same += 1;
            } else if context_of_a != context_of_b {
                but_for_context += 1;
            }
        }
    }
    // The controls: there are such pairs, and those that differ in their context alone.
    assert!(
        same > 50 && but_for_context > 50,
        "{same} {but_for_context}"
    );
}

const RULES: &str = r#"
@id("web") permit (principal, action == Action::"connect", resource) when { context.port == 443 };
@id("ssh") permit (principal, action == Action::"connect", resource) when { context.port == 22 && context.transport == "capture" };
@id("cdn") permit (principal, action == Action::"connect", resource) when { context has names && context.names.contains("cdn.test") && context has tls && context.tls.sni_matches };
@id("a") permit (principal, action in Action::"network", resource is Host) when { context has path && context.path == "/a" };
@id("post") permit (principal, action == Action::"http_write", resource == Host::"example.com") when { context.method == "POST" && context.port == 8080 };
@id("files") permit (principal, action in Action::"files", resource in Folder::"/home/alice/project");
@id("no") forbid (principal, action == Action::"delete", resource) when { context.mode != "rwd" };
@id("asked") permit (principal, action == Action::"grant_rwd", resource) when { context has approval };
@id("tools") permit (principal, action == Action::"call_tool", resource);
"#;

/// None of these looks at a context, but for one that applies to one host alone.
const WITHOUT_CONTEXT: &str = r#"
@id("all") permit (principal, action in Action::"network", resource is Host);
@id("path") forbid (principal, action in Action::"network", resource == Host::"example.com") when { context has path && context.path == "/a" };
@id("asked") permit (principal, action == Action::"grant_rwd", resource) when { context has approval };
@id("files") permit (principal, action in Action::"files", resource);
"#;

#[test]
fn a_set_that_was_asked_before_answers_as_one_that_was_not() {
    let expected = ["allow web", "allow ssh", "allow a", "allow post", "rule no"];
    asked_before_and_not(RULES, &expected);
    let expected = ["allow all", "rule path", "allow files"];
    asked_before_and_not(WITHOUT_CONTEXT, &expected);
}

fn asked_before_and_not(rules: &str, expected: &[&str]) {
    let warm = load(rules, "");
    let all = variations();
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..2 {
        for request in &all {
            let fresh = outcome(&load(rules, ""), request.clone());
            let kept = outcome(&warm, request.clone());
            assert_eq!(kept, fresh, "round {round}: {request:?}");
            seen.insert(kept);
        }
    }
    assert!(warm.kept.questions() > 0);
    for expected in expected {
        assert!(seen.contains(*expected), "{expected}: {seen:?}");
    }
}

#[test]
fn f07_what_is_kept_of_a_path_does_not_answer_for_another_spelling_of_it() {
    let snapshot = load(RULES, "");
    let facts = session();
    let read = |path: &str| {
        let request = Request {
            session: Arc::clone(&facts),
            ..asked(Operation::ReadPath {
                path: path.into(),
                mode: GrantMode::Ro,
            })
        };
        outcome(&snapshot, request)
    };
    assert_eq!(read("/home/alice/project/a"), "allow files");
    for path in [
        "/home/alice/project/./a",
        "/home/alice/project//a",
        "/home/alice/project/a/",
    ] {
        assert_eq!(PathBuf::from(path), PathBuf::from("/home/alice/project/a"));
        assert_eq!(read(path), "malformed", "{path}");
    }
    assert_eq!(read("/home/alice/project/a"), "allow files");
}

#[test]
fn the_time_is_asked_for_anew() {
    let snapshot = load(
        r#"@id("day") permit (principal, action, resource) when { context.time < datetime("2026-11-21") };"#,
        "",
    );
    let today = connect("a.test:443");
    let tomorrow = Request {
        at: today.at + Duration::from_secs(86_400),
        ..today.clone()
    };
    for _ in 0..2 {
        assert_eq!(outcome(&snapshot, today.clone()), "allow day");
        assert_eq!(outcome(&snapshot, tomorrow.clone()), "default_deny");
    }
    assert_eq!(snapshot.kept.questions(), 1);
}
