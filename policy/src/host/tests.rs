//! Names, one spelling each.

use proptest::prelude::*;

use super::*;

fn parse(raw: &str) -> Result<String, HostError> {
    raw.parse::<NormalizedHost>().map(|h| h.to_string())
}

#[test]
fn accepted_names_have_one_spelling() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    let cases = [
        ("example.com", "example.com"),
        ("EXAMPLE.Com", "example.com"),
        ("example.com.", "example.com"),
        ("_acme-challenge.example.com", "_acme-challenge.example.com"),
        ("r3---sn-4g5e.example.com", "r3---sn-4g5e.example.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("localhost", "localhost"),
        ("1.example", "1.example"),
        ("1e100.net", "1e100.net"),
        ("0xg", "0xg"),
        (longest.as_str(), longest.as_str()),
    ];
    for (raw, expected) in cases {
        let host: NormalizedHost = raw.parse().unwrap_or_else(|e| panic!("{raw:?}: {e}"));
        assert_eq!(host.as_str(), expected, "{raw:?}");
        assert_eq!(host.to_string().parse(), Ok(host.clone()), "{raw:?}");
    }
}

#[test]
fn n02_bytes_that_no_name_has_are_refused() {
    for raw in [
        "evil.com\0.allowed.com",
        "allowed.com\0",
        "allowed.com\n",
        "allowed.com\r\nHost: x",
        "allowed .com",
        " allowed.com",
        "allowed.com\t",
        "allowed.com\x7f",
        "allowed.com,evil.com",
        "allowed.com;evil.com",
        "*.allowed.com",
        "allowed.com?",
        "allowed.com#",
        "\"allowed.com\"",
    ] {
        assert!(
            matches!(parse(raw), Err(HostError::BadByte { .. })),
            "{raw:?}: {:?}",
            parse(raw)
        );
    }
    assert_eq!(parse("allowed.com").as_deref(), Ok("allowed.com"));
}

#[test]
fn n04_zones_and_addresses_are_not_names() {
    for raw in [
        "::ffff:127.0.0.1%x.github.com",
        "fe80::1%eth0",
        "[fe80::1%25eth0]",
    ] {
        assert!(parse(raw).is_err(), "{raw:?}");
    }
    for raw in ["::1", "[::1]", "[::1", "::1]", "a:b"] {
        assert!(
            matches!(parse(raw), Err(HostError::BadIpv6 { .. })),
            "{raw:?}"
        );
    }
    assert_eq!(parse("x.github.com").as_deref(), Ok("x.github.com"));
}

#[test]
fn n05_numbers_are_not_names() {
    for raw in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "0x",
        "127.0.0.1.",
        "1.2.3.4.5",
        "example.256",
        "example.0xff",
        "foo.09",
        "0X7F.1",
    ] {
        assert!(
            matches!(parse(raw), Err(HostError::EndsInNumber { .. })),
            "{raw:?}: {:?}",
            parse(raw)
        );
    }
    assert_eq!(parse("127.example").as_deref(), Ok("127.example"));
}

#[test]
fn n06_case_and_one_trailing_dot_do_not_make_another_host() {
    let one: NormalizedHost = "api.github.com".parse().unwrap();
    for raw in ["API.GitHub.com", "api.github.com.", "Api.Github.Com."] {
        assert_eq!(raw.parse(), Ok(one.clone()), "{raw:?}");
    }
    for raw in [
        "api.github.com..",
        ".api.github.com",
        "api..github.com",
        ".",
    ] {
        assert!(parse(raw).is_err(), "{raw:?}");
    }
}

#[test]
fn n07_look_alikes_are_refused() {
    for raw in [
        "x\u{ff0e}com",
        "x\u{3002}com",
        "gith\u{443}b.com",
        "b\u{fc}cher.example",
        "\u{212a}ubernetes.io",
    ] {
        assert!(
            matches!(parse(raw), Err(HostError::NotAscii { .. })),
            "{raw:?}"
        );
    }
    for raw in [
        "x%2ecom",
        "user@x.com",
        "x.com\\evil.com",
        "x.com/evil.com",
        "http://x.com",
    ] {
        assert!(parse(raw).is_err(), "{raw:?}");
    }
    for raw in [
        "xn--",
        "xn--a",
        "xn--99999999999.example",
        "xn--xn--bcher-kva",
    ] {
        assert!(
            matches!(
                parse(raw),
                Err(HostError::BadALabel { .. } | HostError::BadLabel { .. })
            ),
            "{raw:?}: {:?}",
            parse(raw)
        );
    }
    assert_eq!(
        parse("xn--bcher-kva.example").as_deref(),
        Ok("xn--bcher-kva.example")
    );
}

#[test]
fn labels_and_names_have_bounds() {
    let long_label = format!("{}.com", "a".repeat(64));
    let long_name = format!("{}a", "abcdefg.".repeat(32));
    for raw in [long_label.as_str(), "-a.com", "a-.com", "a.-b.com"] {
        assert!(
            matches!(parse(raw), Err(HostError::BadLabel { .. })),
            "{raw:?}"
        );
    }
    assert_eq!(parse(&long_name), Err(HostError::TooLong { length: 257 }));
    assert_eq!(parse(""), Err(HostError::Empty));
    assert!(parse(&format!("{}.com", "a".repeat(63))).is_ok());
}

#[test]
fn suffixes_are_cut_at_labels_only() {
    let host: NormalizedHost = "a.xb.com".parse().unwrap();
    assert_eq!(
        host.suffixes().collect::<Vec<_>>(),
        ["a.xb.com", "xb.com", "com"]
    );
}

#[test]
fn errors_are_bounded() {
    let raw = "\u{fc}".repeat(10_000);
    let text = parse(&raw).unwrap_err().to_string();
    assert!(text.len() < 1_000, "{}", text.len());
}

/// Pieces that names are made of, and those that they must not be.
fn anything() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z0-9_-]{1,12}",
        3 => Just(".".to_owned()),
        1 => "[a-z0-9]{60,66}",
        1 => "(xn--|XN--)[a-z0-9-]{0,8}",
        1 => "0x[0-9a-f]{0,4}",
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn n06_a_host_has_one_spelling_or_is_refused(raw in anything(), flips in any::<u64>()) {
        let respelt: String = raw
            .chars()
            .enumerate()
            .map(|(at, char)| match flips >> (at % 64) & 1 {
                0 => char.to_ascii_lowercase(),
                _ => char.to_ascii_uppercase(),
            })
            .collect();
        match raw.parse::<NormalizedHost>() {
            Ok(host) => {
                let text = host.as_str();
                prop_assert_eq!(text.parse(), Ok(host.clone()));
                prop_assert_eq!(respelt.parse(), Ok(host.clone()));
                if !raw.ends_with('.') {
                    prop_assert_eq!(format!("{raw}.").parse(), Ok(host.clone()));
                }
                prop_assert!(text.len() <= NormalizedHost::MAX_BYTES);
                let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
                prop_assert!(text.bytes().all(plain));
                prop_assert!(text.split('.').all(|label| (1..=63).contains(&label.len())));
                prop_assert!(text.parse::<std::net::IpAddr>().is_err());
            }
            Err(_) => prop_assert!(respelt.parse::<NormalizedHost>().is_err()),
        }
    }
}
