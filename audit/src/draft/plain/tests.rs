//! What is written straight as text is what a record of the same says, byte for byte.

use cordon_policy::{
    Backend, Decision, Method, Scheme, Snapshot, Transport,
    source::{PolicyFile, PolicySource},
};
use proptest::prelude::*;

use super::*;
use crate::{
    draft::{
        Draft, Form,
        samples::{leaf, operations},
    },
    secrets::Secret,
};

fn session(id: &str, user: &str, agent: Option<&str>) -> Arc<SessionFacts> {
    Arc::new(SessionFacts {
        id: id.into(),
        user: user.into(),
        groups: Vec::new(),
        agent: agent.map(str::to_owned),
        platform: "linux".into(),
        backend: Backend::Bubblewrap,
    })
}

fn snapshot(rules: &str) -> Snapshot {
    let files = vec![PolicyFile::new("test.cedar", rules)];
    let mut source = PolicySource::new("a \"set\"", files);
    source.revision = Some(7);
    Snapshot::load(&source).unwrap()
}

const PERMIT: &str = r#"
    @id("all-of_it:1") @reason("because \"so\"") @durability("each") permit (principal, action, resource);
    @id("again") permit (principal, action in Action::"network", resource);
"#;

fn decide(snapshot: &Snapshot, session: &Arc<SessionFacts>, operation: Operation) -> Decision {
    snapshot.decide(Request {
        session: Arc::clone(session),
        operation,
        at: std::time::SystemTime::UNIX_EPOCH,
    })
}

fn is_plain(draft: &Draft) -> bool {
    matches!(draft.0, Form::Plain(_))
}

/// Whether the decision is written straight; that it comes to the same is asserted.
fn straight(decision: &Decision, secrets: &Secrets) -> bool {
    let draft = Draft::of_decision(decision, secrets);
    let straight = is_plain(&draft);
    let record = Draft::of_decision_with(decision, secrets, Vec::new());
    assert!(!is_plain(&record));
    assert_eq!(draft.kind(), record.kind());
    let session = |draft: &Draft| draft.session().map(|owner| owner.as_str().to_owned());
    assert_eq!(session(&draft), session(&record));
    let [straight_leaf, record_leaf] =
        [leaf(draft), leaf(record)].map(|leaf| String::from_utf8(leaf).unwrap());
    assert_eq!(straight_leaf, record_leaf);
    straight
}

fn end_is_straight(event: &Event, secrets: &Secrets) -> bool {
    let draft = Draft::of_event(event, secrets);
    let straight = is_plain(&draft);
    let record = Draft::of_event_with(event, secrets, Vec::new());
    let [straight_leaf, record_leaf] =
        [leaf(draft), leaf(record)].map(|leaf| String::from_utf8(leaf).unwrap());
    assert_eq!(straight_leaf, record_leaf);
    straight
}

fn http(target: &str, path: &str, facts: HttpFacts) -> Operation {
    Operation::HttpRequest {
        destination: Destination::from_http_authority(target.as_bytes()).unwrap(),
        method: Method("GET".into()),
        path: path.into(),
        facts: Box::new(facts),
    }
}

fn closed(session: &Arc<SessionFacts>) -> Event {
    Event::FlowClosed {
        session: Arc::clone(session),
        decision: RecordId(uuid::Uuid::from_u128(9)),
        peer: Some("[::1]:80".parse().unwrap()),
        bytes_out: 1,
        bytes_in: u64::MAX,
        duration: Duration::MAX,
        status: Some(204),
        tls: None,
        end: FlowEnd::TimedOut,
    }
}

#[test]
fn what_every_operation_was_allowed_reads_the_same() {
    let snapshot = snapshot(PERMIT);
    let session = session("s", "ann", Some("claude"));
    let mut written = Vec::new();
    for operation in operations() {
        let decision = decide(&snapshot, &session, operation.clone());
        if straight(&decision, &Secrets::default()) {
            written.push(action_of(&operation));
        }
    }
    assert_eq!(written, ["net.connect", "http.request"]);
}

#[test]
fn every_part_of_a_request_reads_the_same() {
    let everything = HttpFacts {
        scheme: Scheme::Https,
        query_keys: vec!["a".into(), "b\"".into()],
        content_type: Some("text/plain".into()),
        content_length: Some(u64::MAX),
        credential: true,
        upgrade: Some("websocket".into()),
        seen: Seen::default(),
    };
    let connect = |transport| Operation::Connect {
        destination: Destination::from_authority(b"[2001:db8::1]:443").unwrap(),
        transport,
        seen: Seen::default(),
    };
    let cases = [
        http("a.test", "/", HttpFacts::default()),
        http(
            "a.test:8080",
            "/\u{20ac}\u{1}\u{7f}\"\\",
            everything.clone(),
        ),
        http("192.0.2.1", "/x", everything),
        connect(Transport::HttpConnect),
        connect(Transport::Socks5),
        connect(Transport::Capture),
    ];
    for rules in [PERMIT, "permit (principal, action, resource);"] {
        let snapshot = snapshot(rules);
        for session in [
            session("s", "ann", None),
            session("", "a\u{2028}", Some("\"")),
        ] {
            for operation in &cases {
                let decision = decide(&snapshot, &session, operation.clone());
                assert!(straight(&decision, &Secrets::default()), "{operation:?}");
            }
        }
    }
}

#[test]
fn the_process_that_asked_reads_the_same() {
    let holder = |pid, digest: Option<&str>, ancestors: &[&str]| cordon_policy::Holder {
        pid,
        start_us: u64::MAX,
        executable: format!("/usr/bin/\"{pid}"),
        digest: digest.map(str::to_owned),
        ancestors: ancestors.iter().map(|&path| path.into()).collect(),
    };
    let one = holder(7, Some("ab"), &["/bin/sh", "/bin/b\u{1}sh"]);
    let other = holder(u32::MAX, None, &[]);
    let cases = [
        (vec![], true),
        (vec![one.clone()], true),
        (vec![one.clone()], false),
        (vec![other.clone(), one, other], true),
    ];
    let (snapshot, session) = (snapshot(PERMIT), session("s", "ann", None));
    let seen = |holders, complete| Seen {
        process: Some(Arc::new(ProcessFacts { holders, complete })),
        ..Seen::default()
    };
    let connect = |seen| Operation::Connect {
        destination: Destination::from_authority(b"a.test:443").unwrap(),
        transport: Transport::Capture,
        seen,
    };
    for (holders, complete) in cases {
        let facts = HttpFacts {
            seen: seen(holders.clone(), complete),
            ..HttpFacts::default()
        };
        for operation in [
            http("a.test", "/", facts),
            connect(seen(holders.clone(), complete)),
        ] {
            let decision = decide(&snapshot, &session, operation.clone());
            assert!(straight(&decision, &Secrets::default()), "{operation:?}");
        }
    }
    let many = vec![holder(1, None, &["/x"; 65])];
    let decision = decide(&snapshot, &session, connect(seen(many, true)));
    assert!(
        !straight(&decision, &Secrets::default()),
        "a list to be cut"
    );
    let known = Secrets::new(&[Secret::from("/bin/sh-secret".to_owned())]).unwrap();
    let named = vec![holder(1, None, &["/bin/sh-secret"])];
    let decision = decide(&snapshot, &session, connect(seen(named, true)));
    assert!(!straight(&decision, &known), "a secret to be masked");
}

#[test]
fn the_end_of_a_flow_reads_the_same() {
    let session = session("s", "ann", Some("claude"));
    let whole = closed(&session);
    assert!(end_is_straight(&whole, &Secrets::default()));
    let mut bare = whole.clone();
    if let Event::FlowClosed {
        peer, status, end, ..
    } = &mut bare
    {
        (*peer, *status, *end) = (None, None, FlowEnd::Completed);
    }
    assert!(end_is_straight(&bare, &Secrets::default()));
    let handshakes = [
        TlsFacts::default(),
        TlsFacts {
            kind: cordon_policy::Handshake::NoHello,
            ..TlsFacts::default()
        },
        TlsFacts {
            sni: Some("a.test".into()),
            alpn: vec!["h2".into(), "\"".into()],
            ech: true,
            ja4: Some("t13d".into()),
            version: Some("1.3".into()),
            inspected: true,
            ..TlsFacts::default()
        },
    ];
    for seen in handshakes {
        for mut event in [whole.clone(), bare.clone()] {
            if let Event::FlowClosed { tls, .. } = &mut event {
                *tls = Some(Arc::new(seen.clone()));
            }
            assert!(end_is_straight(&event, &Secrets::default()), "{seen:?}");
        }
    }
    let mut long = whole;
    if let Event::FlowClosed { tls, .. } = &mut long {
        *tls = Some(Arc::new(TlsFacts {
            alpn: vec!["h2".into(); 65],
            ..TlsFacts::default()
        }));
    }
    assert!(!end_is_straight(&long, &Secrets::default()));
    assert!(!end_is_straight(
        &Event::ServiceStopped,
        &Secrets::default()
    ));
}

#[test]
fn what_is_out_of_the_ordinary_is_left_to_the_record() {
    let snapshot = snapshot(PERMIT);
    let ann = session("s", "ann", None);
    let none = Secrets::default();
    let seen = Seen {
        address_unverified: true,
        ..Seen::default()
    };
    let with_seen = HttpFacts {
        seen,
        ..HttpFacts::default()
    };
    let many = HttpFacts {
        query_keys: (0..65).map(|n| n.to_string()).collect(),
        ..HttpFacts::default()
    };
    let large = HttpFacts {
        query_keys: (0..64).map(|n| n.to_string().repeat(100)).collect(),
        ..HttpFacts::default()
    };
    let cases = [
        http("a.test", &"/x".repeat(513), HttpFacts::default()),
        http("a.test", "/", with_seen),
        http("a.test", "/", many),
        http("a.test", "/", large),
    ];
    for operation in cases {
        let decision = decide(&snapshot, &ann, operation.clone());
        assert!(!straight(&decision, &none), "{operation:?}");
    }
    let observing = r#"
        permit (principal, action, resource);
        @observe("2026-12-31") forbid (principal, action, resource == Host::"a.test");
    "#;
    let observed = decide(
        &self::snapshot(observing),
        &ann,
        http("a.test", "/", HttpFacts::default()),
    );
    assert!(!straight(&observed, &none));
    let candidate = self::snapshot("");
    let beside = snapshot.decide_beside(
        &cordon_policy::History::default(),
        Request {
            session: ann,
            operation: http("a.test", "/", HttpFacts::default()),
            at: std::time::SystemTime::UNIX_EPOCH,
        },
        None,
        &candidate,
    );
    assert!(!straight(&beside, &none));
}

#[test]
fn p04_an_allow_that_rests_on_an_approval_says_so() {
    let snapshot = snapshot("permit (principal, action, resource) when { context has approval };");
    let given = cordon_policy::GivenApproval {
        by: vec!["bob".into()],
        at: std::time::SystemTime::UNIX_EPOCH,
        scope: cordon_policy::ApprovalScope::Once,
    };
    let approval = cordon_policy::ApprovalRef {
        id: "a".into(),
        digest: "d".into(),
        given: Some(given),
    };
    let request = Request {
        session: session("s", "ann", None),
        operation: http("a.test", "/", HttpFacts::default()),
        at: std::time::SystemTime::UNIX_EPOCH,
    };
    let decision = snapshot.decide_approved(request, approval);
    assert!(
        matches!(decision, Decision::Allow(_)),
        "the positive control"
    );
    assert!(!straight(&decision, &Secrets::default()));
}

#[test]
fn a08_a_known_secret_anywhere_is_masked() {
    let secrets = Secrets::new(&[Secret::from("t0p\"secret".to_owned())]).unwrap();
    let snapshot = snapshot(PERMIT);
    let ann = session("s", "ann", None);
    let path = |path: &str| decide(&snapshot, &ann, http("a.test", path, HttpFacts::default()));
    assert!(
        straight(&path("/nothing"), &secrets),
        "the positive control"
    );
    for hidden in ["/t0p\"secret", "/x/T0P%22SECRET", "/dDBwInNlY3JldA"] {
        let decision = path(hidden);
        assert!(!straight(&decision, &secrets), "{hidden}");
        let leaf = leaf(Draft::of_decision(&decision, &secrets));
        let record = Record::from_leaf(&leaf).unwrap();
        assert_eq!(record.masked, ["http.path"], "{hidden}");
    }
    let of_host = decide(
        &snapshot,
        &ann,
        http("t0p-secret.test", "/", HttpFacts::default()),
    );
    let named = Secrets::new(&[Secret::from("t0p-secret".to_owned())]).unwrap();
    assert!(!straight(&of_host, &named));
    let by = session("s", "t0p\"secret", None);
    assert!(!end_is_straight(&closed(&by), &secrets));
    assert!(end_is_straight(&closed(&ann), &secrets));
}

proptest! {
    #[test]
    fn a06_any_text_reads_the_same(
        path in "\\PC{0,40}|[\\x00-\\x7f]{0,40}|.{0,40}",
        key in ".{0,20}",
        user in ".{0,20}",
    ) {
        let snapshot = snapshot(PERMIT);
        let facts = HttpFacts { query_keys: vec![key], ..HttpFacts::default() };
        let decision = decide(&snapshot, &session("s", &user, None), http("a.test", &path, facts));
        let allowed = matches!(decision, Decision::Allow(_));
        prop_assert_eq!(straight(&decision, &Secrets::default()), allowed);
    }
}
