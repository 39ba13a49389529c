use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;

use super::*;
use crate::{
    Backend, Definition, GrantMode, GrantSource, Handshake, Holder, HttpFacts, ProcessFacts,
    SeccompProfile, Seen, SessionFacts, ToolCall, ToolHints, ToolKind, Transport,
};

#[test]
fn every_form_is_read_and_written_back() {
    let cases = [
        "start claude",
        "exec bash with build",
        "publish port 127.0.0.1:8080 to 3000",
        "publish port [::1]:8080 to 80",
        "grant rw /home/alice/project",
        "grant ro /srv/data from profile",
        "grant rw /srv/data named uploads from profile",
        "grant ro /srv/data named \"two words\"",
        "grant rwd \"/home/alice/two words\" from working-directory",
        "read /srv/data/a.txt in ro",
        "write /srv/data/a.txt",
        "delete /srv/data/a.txt in rwd",
        "connect api.example.com:443",
        "connect 192.0.2.7:22 via capture",
        "connect [2001:db8::1]:443 via socks5",
        "connect a.test:443 tls hello sni a.test alpn h2 alpn http/1.1 version 1.3 ech inspected",
        "connect a.test:443 tls not-tls cname b.test cname c.test unverified",
        "GET http://a.test:80/x key a key b",
        "POST https://a.test:443/x type application/json length 7 credential",
        "GET https://a.test:443/ upgrade websocket tls hello sni b.test inspected",
        "GET https://a.test:443/ tls none",
        "GET http://mirror.example.com:80/debian/",
        "PATCH http://192.0.2.7:8080/",
        "reach db.example.com:5432 at 10.0.0.7",
        "enable connector tracker",
        "use scope read:issues of tracker",
        "install extension com.example.notes version 1.2 signed trusted by acme digest 00ff",
        "load extension com.example.notes",
        "use permission files:read of com.example.notes signed broken",
        "call \"add note\" of com.example.notes version 2",
        "call search of tracker definition first read-only harmless closed with a=1 with \"b=x y\"",
        "call resource:file:///a of tracker as resource definition accepted",
        "enable browser",
        "open https://shop.example.com",
        "open http://shop.example.com:8080",
        "open https://[2001:db8::1]",
        "click in https://shop.example.com:8443",
        "upload in https://shop.example.com",
        "approve for bob",
        "approve for user session group research group staff agent claude platform macos backend none session 7",
        "publish policy house",
        "read log node7",
    ];
    for text in cases {
        let operation = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(words(&operation), text, "{text}");
    }
}

#[test]
fn what_is_usual_may_be_left_out_and_spellings_are_normalised() {
    let cases = [
        (
            "  connect   API.Example.com.:443  ",
            "connect api.example.com:443",
        ),
        ("connect 2130706433:80", "connect 127.0.0.1:80"),
        (
            "connect a.example:443 via http-connect",
            "connect a.example:443",
        ),
        ("GET http://example.com", "GET http://example.com:80/"),
        ("grant ro /a from command-line", "grant ro /a"),
        ("grant ro /b/a named a", "grant ro /b/a"),
        ("read /a in rw", "read /a"),
        ("open https://Example.com:443/", "open https://example.com"),
        ("approve for session 42", "approve for somebody session 42"),
    ];
    for (text, expected) in cases {
        assert_eq!(words(&parse(text).unwrap()), expected, "{text}");
    }
}

#[test]
fn what_is_no_request_is_told_with_its_form() {
    let cases = [
        ("", "there is no request"),
        ("fetch example.com", "no request begins with \"fetch\""),
        ("connect", "host and port is missing"),
        ("connect example.com", "has no port"),
        (
            "connect example.com:443 over socks5",
            "\"over\" stands where",
        ),
        ("connect example.com:443 via", "is missing"),
        ("connect example.com:443 via udp", "wants `http-connect`"),
        ("connect evil\u{0}.example.com:443", "host not accepted"),
        ("GET ftp://example.com/", "an `http://` or `https://` URL"),
        ("GET http://example.com/#top", "without fragment"),
        ("POST http://example.com/ length many", "a number of bytes"),
        ("POST http://example.com/ credential yes", "nothing more"),
        ("connect example.com:443 tls maybe", "`not-tls`"),
        ("connect example.com:443 sni a.test", "nothing more"),
        ("connect example.com:443 cname a..b", "host not accepted"),
        ("grant all /a", "wants `ro`, `rw` or `rwd`"),
        ("grant rw relative", "an absolute path"),
        ("grant rw /a named b/c", "one name of a folder"),
        ("grant rw /a named ..", "one name of a folder"),
        ("grant rw /a named \"\"", "one name of a folder"),
        ("grant rw /home/two words", "wants nothing more"),
        ("grant rw \"/home/a", "not well formed"),
        ("grant rw \"/home\"a", "not well formed"),
        ("enable", "`connector` or `browser` is missing"),
        ("use scope read", "of is missing"),
        ("open ftp://example.com", "wants `https://HOST`"),
        ("approve bob", "wants for"),
        ("click https://example.com", "wants in"),
    ];
    for (text, expected) in cases {
        let error = parse(text).unwrap_err();
        assert!(error.to_string().contains(expected), "{text:?}: {error}");
        assert!(!error.hint().is_empty(), "{text:?}");
    }
    let long = format!("start {}", "a".repeat(MAX_BYTES));
    assert_eq!(parse(&long), Err(AskError::TooLong));
    assert_eq!(parse(&"a ".repeat(300)), Err(AskError::TooLong));
    assert_eq!(parse_words(&vec!["a"; 300]), Err(AskError::TooLong));
}

#[test]
fn only_a_refused_target_is_a_malformed_request() {
    for text in [
        "connect a..b:443",
        "connect example.com:0",
        "GET http://u@example.com/",
    ] {
        assert!(parse(text).unwrap_err().is_malformed_target(), "{text}");
    }
    for text in ["connect", "nonsense", "grant rw a"] {
        assert!(!parse(text).unwrap_err().is_malformed_target(), "{text}");
    }
}

#[test]
fn the_shell_s_words_are_one_word_each() {
    let operation = parse_words(&["grant", "rw", "/home/two words"]).unwrap();
    assert_eq!(words(&operation), "grant rw \"/home/two words\"");
    assert_eq!(
        parse_words(&["connect a.example:443"]).unwrap(),
        parse("connect a.example:443").unwrap()
    );
}

#[test]
fn moments_are_read_in_any_offset() {
    let cases = [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-02", 86_400_000),
        ("2000-02-29T00:00:00Z", 951_782_400_000),
        ("2025-11-21T01:06:37.123+01:00", 1_763_683_597_123),
        ("2025-11-21T00:06:37.123", 1_763_683_597_123),
        ("1969-12-31T23:59:59Z", -1_000),
    ];
    for (text, millis) in cases {
        let Moment(at) = text.parse().unwrap();
        let apart = Duration::from_millis(i64::unsigned_abs(millis));
        let expected = if millis < 0 {
            SystemTime::UNIX_EPOCH - apart
        } else {
            SystemTime::UNIX_EPOCH + apart
        };
        assert_eq!(at, expected, "{text}");
    }
    for text in [
        "",
        "noon",
        "12:00:00",
        "2026-13-01",
        "2026-02-30T00:00:00Z x",
    ] {
        assert!(text.parse::<Moment>().is_err(), "{text}");
    }
    let default = Given::default();
    assert_eq!(Moment(default.at()).to_string(), "2026-01-05T12:00:00.000Z");
}

#[test]
fn a_test_s_facts_go_before_the_defaults() {
    let defaults = Given {
        user: Some("bob".into()),
        agent: Some("claude".into()),
        ..Given::default()
    };
    let own = Given {
        agent: Some(String::new()),
        ..Given::default()
    };
    let facts = own.or(&defaults).session();
    assert_eq!((facts.user.as_str(), facts.agent), ("bob", None));
}

fn profile() -> impl Strategy<Value = SeccompProfile> {
    proptest::sample::select(SeccompProfile::ALL.to_vec())
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z:._-]{1,12}",
        "\\PC{1,12}",
        "(of|by|via|session|user|group|in|log)"
    ]
}

fn seen() -> impl Strategy<Value = Seen> {
    let kind = prop_oneof![Just(Handshake::Hello), Just(Handshake::NoHello)];
    let some = || prop::option::of(name());
    let tls = (kind, some(), some(), some(), any::<[bool; 2]>()).prop_map(
        |(kind, sni, ja4, version, [ech, inspected])| {
            Arc::new(TlsFacts {
                kind,
                alpn: ja4.iter().cloned().collect(),
                sni,
                ech,
                ja4,
                version,
                inspected,
            })
        },
    );
    let host = "[a-z]{1,9}\\.test".prop_map(|text| text.parse().unwrap());
    let names = prop::collection::vec(host, 0..3);
    let process = prop::option::of(process());
    (prop::option::of(tls), names, any::<bool>(), process).prop_map(
        |(tls, names, address_unverified, process)| Seen {
            tls,
            names,
            address_unverified,
            process: process.map(Arc::new),
        },
    )
}

fn process() -> impl Strategy<Value = ProcessFacts> {
    let parents = prop::collection::vec(name(), 0..3);
    (name(), prop::option::of(name()), parents).prop_map(|(executable, digest, ancestors)| {
        let holder = Holder {
            executable,
            digest,
            ancestors,
            ..Holder::default()
        };
        ProcessFacts {
            holders: vec![holder],
            complete: true,
        }
    })
}

fn read() -> impl Strategy<Value = HttpFacts> {
    let scheme = prop_oneof![Just(crate::Scheme::Https), Just(crate::Scheme::Http)];
    let keys = prop::collection::btree_set(name(), 0..3);
    let length = prop::option::of(0..=crate::MAX_LENGTH);
    let some = || prop::option::of(name());
    (scheme, keys, some(), length, any::<bool>(), some(), seen()).prop_map(
        |(scheme, keys, content_type, content_length, credential, upgrade, seen)| HttpFacts {
            scheme,
            query_keys: keys.into_iter().collect(),
            content_type,
            content_length,
            credential,
            upgrade,
            seen,
        },
    )
}

fn destination() -> impl Strategy<Value = crate::Destination> {
    let host = prop_oneof![
        "[a-z]{1,9}(\\.[a-z0-9]{1,9}){0,2}\\.[a-z]{2,5}",
        any::<std::net::Ipv4Addr>().prop_map(|a| a.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|a| a.to_string()),
    ];
    (host, 1_u16..)
        .prop_map(|(host, port)| crate::Destination::from_parts(host.as_bytes(), port).unwrap())
}

fn extension() -> impl Strategy<Value = crate::ExtensionFacts> {
    use crate::Signature::{Broken, Trusted, Unsigned, Untrusted};
    let signature = prop_oneof![Just(Trusted), Just(Untrusted), Just(Broken), Just(Unsigned)];
    (
        name(),
        prop::option::of(name()),
        "[0-9.]{0,5}",
        "[0-9a-f]{0,8}",
        signature,
    )
        .prop_map(
            |(id, publisher, version, digest, signature)| crate::ExtensionFacts {
                id,
                publisher,
                version,
                digest,
                signature,
            },
        )
}

fn session() -> impl Strategy<Value = SessionFacts> {
    let backend = prop_oneof![Just(Backend::Bubblewrap), Just(Backend::None)];
    let groups = prop::collection::vec(name(), 0..3);
    (
        name(),
        name(),
        groups,
        prop::option::of("[a-z]{1,5}"),
        name(),
        backend,
    )
        .prop_map(
            |(id, user, groups, agent, platform, backend)| SessionFacts {
                id,
                user,
                groups,
                agent,
                platform,
                backend,
            },
        )
}

fn call() -> impl Strategy<Value = ToolCall> {
    let arguments = prop::collection::btree_set("[a-z]{1,4}=\\PC{0,9}", 0..3);
    (
        prop::sample::select(&ToolKind::ALL[..]),
        prop::sample::select(&Definition::ALL[..]),
        any::<[bool; 3]>(),
        arguments,
        prop::option::of("[0-9a-f]{64}"),
    )
        .prop_map(|(kind, definition, hints, arguments, input)| ToolCall {
            kind,
            definition,
            hints: ToolHints {
                read_only: hints[0],
                destructive: hints[1],
                open_world: hints[2],
            },
            arguments: arguments.into_iter().collect(),
            input: input.map(Into::into),
        })
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let path = || "(/\\PC{0,9}){1,3}".prop_map(std::path::PathBuf::from);
    let mode = || {
        prop_oneof![
            Just(GrantMode::Ro),
            Just(GrantMode::Rw),
            Just(GrantMode::Rwd)
        ]
    };
    let source = prop_oneof![
        Just(GrantSource::CommandLine),
        Just(GrantSource::WorkingDirectory),
        Just(GrantSource::Profile)
    ];
    let is_component = |name: &String| !name.contains('/') && name != "." && name != "..";
    let component = name().prop_filter("no one name of a folder", is_component);
    let transport = prop_oneof![
        Just(Transport::HttpConnect),
        Just(Transport::Socks5),
        Just(Transport::Capture)
    ];
    let origin = || {
        let scheme = prop_oneof![Just(crate::Scheme::Https), Just(crate::Scheme::Http)];
        (scheme, destination()).prop_map(|(scheme, destination)| crate::Origin {
            scheme,
            destination,
        })
    };
    let act = prop_oneof![
        Just(crate::BrowserAct::Click),
        Just(crate::BrowserAct::Script)
    ];
    prop_oneof![
        (name(), profile())
            .prop_map(|(command, profile)| Operation::StartSession { command, profile }),
        (path(), mode(), source, component)
            .prop_map(|(path, mode, source, name)| Operation::grant(path, mode, source, &name)),
        (path(), mode()).prop_map(|(path, mode)| Operation::DeletePath { path, mode }),
        (path(), mode()).prop_map(|(path, mode)| Operation::ReadPath { path, mode }),
        (path(), mode()).prop_map(|(path, mode)| Operation::WritePath { path, mode }),
        (destination(), transport, seen()).prop_map(|(destination, transport, seen)| {
            Operation::Connect {
                destination,
                transport,
                seen,
            }
        }),
        (
            destination(),
            "[A-Z]{3,7}",
            "(/[a-z0-9%._~-]{0,6}){1,3}",
            read()
        )
            .prop_map(
                |(destination, method, path, facts)| Operation::HttpRequest {
                    destination,
                    method: crate::Method(method),
                    path,
                    facts: Box::new(facts),
                }
            ),
        (destination(), any::<std::net::IpAddr>()).prop_map(|(destination, address)| {
            Operation::ReachAddress {
                destination,
                address: address.to_canonical(),
            }
        }),
        name().prop_map(|connector| Operation::EnableConnector { connector }),
        (name(), name()).prop_map(|(connector, scope)| Operation::UseScope { connector, scope }),
        extension().prop_map(|extension| Operation::InstallExtension { extension }),
        extension().prop_map(|extension| Operation::LoadExtension { extension }),
        (extension(), name()).prop_map(|(extension, permission)| Operation::UsePermission {
            extension,
            permission
        }),
        (extension(), name(), call()).prop_map(|(extension, tool, call)| Operation::CallTool {
            extension,
            tool,
            call: Box::new(call),
        }),
        Just(Operation::EnableBrowser),
        origin().prop_map(|origin| Operation::OpenOrigin { origin }),
        (origin(), act).prop_map(|(origin, act)| Operation::ActInOrigin { origin, act }),
        session().prop_map(|asking| Operation::Approve {
            asking: asking.into()
        }),
        (prop::sample::select(&crate::SessionAct::ALL[..]), session())
            .prop_map(|(act, of)| { Operation::ManageSession { act, of: of.into() } }),
        name().prop_map(|bundle| Operation::PublishPolicy { bundle }),
        name().prop_map(|log| Operation::ReadLog { log }),
    ]
}

proptest! {
    #[test]
    fn words_read_back_to_the_same_request(operation in any_operation()) {
        let text = words(&operation);
        prop_assert_eq!(parse(&text), Ok(operation), "{}", text);
    }

    #[test]
    fn a_summary_s_words_are_read_and_shown_the_same(operation in any_operation()) {
        // `Display` quotes nothing, so it is read back only where no word has a space or a quote.
        let shown = operation.to_string();
        prop_assume!(!shown.contains('"'));
        if let Ok(again) = parse(&shown) {
            let again = again.to_string();
            prop_assert!(again.split_whitespace().eq(shown.split_whitespace()), "{}", shown);
        }
    }

    #[test]
    fn no_text_breaks_the_reader(text in "\\PC{0,80}") {
        if let Ok(operation) = parse(&text) {
            prop_assert_eq!(parse(&words(&operation)), Ok(operation));
        }
    }
}
