//! Destinations from every door.

use super::*;

fn connect(raw: &str) -> Result<String, TargetError> {
    Destination::from_authority(raw.as_bytes()).map(|d| d.to_string())
}

#[test]
fn connect_targets_are_read_by_the_grammar() {
    let cases = [
        ("example.com:443", "example.com:443"),
        ("Example.COM.:443", "example.com:443"),
        ("192.0.2.7:80", "192.0.2.7:80"),
        ("[2001:DB8::1]:8443", "[2001:db8::1]:8443"),
        ("[::ffff:192.0.2.7]:443", "192.0.2.7:443"),
        ("example.com:1", "example.com:1"),
        ("example.com:65535", "example.com:65535"),
    ];
    for (raw, expected) in cases {
        assert_eq!(connect(raw).as_deref(), Ok(expected), "{raw:?}");
        assert_eq!(connect(expected).as_deref(), Ok(expected), "{raw:?} again");
    }
}

#[test]
fn n02_n03_bytes_that_no_host_has_are_refused_at_every_door() {
    for raw in [
        &b"evil.com\0.allowed.com"[..],
        b"allowed.com\r\nX: y",
        b"allowed .com",
        b"allowed.com\xff",
        b"allowed.com\xc0\x80",
        b"",
    ] {
        let with_port = [raw, b":443"].concat();
        assert!(Destination::from_authority(&with_port).is_err(), "{raw:?}");
        assert!(
            Destination::from_http_authority(&with_port).is_err(),
            "{raw:?}"
        );
        assert!(Destination::from_parts(raw, 443).is_err(), "{raw:?}");
    }
    assert!(Destination::from_parts(b"allowed.com", 443).is_ok());
}

#[test]
fn n04_zone_ids_are_refused() {
    for raw in [
        "[fe80::1%eth0]:443",
        "[fe80::1%25eth0]:443",
        "[::ffff:127.0.0.1%x.github.com]:443",
    ] {
        assert!(
            matches!(connect(raw), Err(TargetError::Host(HostError::Zone { .. }))),
            "{raw:?}: {:?}",
            connect(raw)
        );
    }
    assert!(Destination::from_parts(b"fe80::1%eth0", 443).is_err());
    assert!(Destination::from_parts(b"fe80::1", 443).is_ok());
}

#[test]
fn n05_inet_aton_spellings_are_one_address() {
    let cases = [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f.0.0.1", "127.0.0.1"),
        ("0x7F000001", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("2852039166", "169.254.169.254"),
        ("0xa9fea9fe", "169.254.169.254"),
        ("169.254.43518", "169.254.169.254"),
        ("4294967295", "255.255.255.255"),
        ("1.16777215", "1.255.255.255"),
        ("[::ffff:a9fe:a9fe]", "169.254.169.254"),
        ("[::FFFF:169.254.169.254]", "169.254.169.254"),
        ("::ffff:7f00:1", "127.0.0.1"),
    ];
    for (raw, expected) in cases {
        let read = Destination::from_parts(raw.as_bytes(), 80).unwrap();
        assert_eq!(
            read.host,
            Host::Address(expected.parse().unwrap()),
            "{raw:?}"
        );
    }
    for raw in [
        "256.0.0.1",
        "1.2.3.256",
        "1.2.65536",
        "1.16777216",
        "4294967296",
        "1.2.3.4.5",
        "09",
        "1.2.3.08",
        "0x",
        "1..2",
        ".1",
        "1.2.3.0x1g.4",
        "-1",
        "+1",
        "1.2.3.+4",
        "example.1",
        "99999999999999999999",
        "0x100000000",
    ] {
        let read = Destination::from_parts(raw.as_bytes(), 80);
        assert!(read.is_err(), "{raw:?}: {read:?}");
    }
}

#[test]
fn n07_an_authority_is_host_and_port_alone() {
    for raw in [
        "user@example.com:443",
        "user:pw@example.com:443",
        "example.com/path:443",
        "evil.com\\allowed.com:443",
        "evil.com?allowed.com:443",
        "evil.com#allowed.com:443",
        "http://allowed.com:80",
        "::1:443",
        "2001:db8::1:443",
        "[::1]443",
        "[::1",
        "[::1]x:443",
    ] {
        assert!(
            matches!(connect(raw), Err(TargetError::NotAuthority { .. })),
            "{raw:?}: {:?}",
            connect(raw)
        );
    }
    for raw in [
        "x%2ecom:443",
        "\u{ff58}.com:443",
        "[127.0.0.1]:443",
        "[example.com]:443",
        ":443",
    ] {
        assert!(connect(raw).is_err(), "{raw:?}");
    }
}

#[test]
fn n08_ports_are_plain_decimal_from_1_to_65535() {
    for port in [
        "0",
        "65536",
        "+80",
        "-1",
        "080",
        "00",
        "",
        " 80",
        "80 ",
        "8_0",
        "0x50",
        "999999",
        "443.allowed.com",
        "\u{664}",
    ] {
        let raw = format!("evil.com:{port}");
        assert!(connect(&raw).is_err(), "{raw:?}: {:?}", connect(&raw));
        assert!(
            Destination::from_http_authority(raw.as_bytes()).is_err(),
            "{raw:?}"
        );
    }
    assert_eq!(
        connect("evil.com:443.allowed.com"),
        Err(TargetError::BadPort {
            text: "443.allowed.com".into()
        })
    );
    assert_eq!(connect("evil.com:22").as_deref(), Ok("evil.com:22"));
    assert!(Destination::from_parts(b"example.com", 0).is_err());
    assert!(Destination::from_address([192, 0, 2, 1].into(), 0).is_err());
}

#[test]
fn only_http_targets_have_a_default_port() {
    let read = |raw: &str| Destination::from_http_authority(raw.as_bytes()).map(|d| d.to_string());
    assert_eq!(read("example.com").as_deref(), Ok("example.com:80"));
    assert_eq!(read("[2001:db8::1]").as_deref(), Ok("[2001:db8::1]:80"));
    assert_eq!(read("example.com:8080").as_deref(), Ok("example.com:8080"));
    assert!(matches!(
        connect("example.com"),
        Err(TargetError::NoPort { .. })
    ));
    assert!(matches!(
        connect("[2001:db8::1]"),
        Err(TargetError::NoPort { .. })
    ));
}

#[test]
fn n13_every_door_builds_the_same_destination() {
    let one = Destination::from_authority(b"example.com:80").unwrap();
    assert_eq!(
        Destination::from_http_authority(b"EXAMPLE.com"),
        Ok(one.clone())
    );
    assert_eq!(Destination::from_parts(b"example.com.", 80), Ok(one));
    let two = Destination::from_authority(b"192.0.2.1:80").unwrap();
    let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
    assert_eq!(Destination::from_address(mapped, 80), Ok(two));
}

#[test]
fn long_targets_are_refused() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}.:65535", "b".repeat(61));
    assert!(connect(&longest).is_ok());
    assert!(connect(&format!("a{longest}")).is_err());
    assert!(connect(&"a".repeat(100_000)).is_err());
}
