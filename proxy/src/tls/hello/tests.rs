//! Hellos of a real client, and hellos no client sends.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

/// What rustls says first.
fn of_rustls(name: &str, alpn: &[&[u8]]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = name.to_owned().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn read(bytes: &[u8]) -> Progress {
    Reader::default().push(bytes)
}

fn hello_in(bytes: &[u8]) -> Hello {
    match read(bytes) {
        Progress::Hello(hello) => *hello,
        other => panic!("{other:?}"),
    }
}

/// A ClientHello with these extensions, in one record.
fn made(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    record(&message(extensions))
}

fn message(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, data) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(vector16(data));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(vector16(&[0x13, 0x01]));
    body.extend([1, 0]);
    body.extend(vector16(&list));
    let mut message = vec![CLIENT_HELLO, 0];
    message.extend(vector16(&body));
    message
}

fn record(fragment: &[u8]) -> Vec<u8> {
    let mut record = vec![HANDSHAKE, 3, 1];
    record.extend(vector16(fragment));
    record
}

fn vector16(bytes: &[u8]) -> Vec<u8> {
    let mut vector = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    vector.extend(bytes);
    vector
}

fn name_list(names: &[&[u8]]) -> Vec<u8> {
    let mut list = Vec::new();
    for name in names {
        list.push(HOST_NAME);
        list.extend(vector16(name));
    }
    vector16(&list)
}

#[test]
fn a_real_clients_hello_shows_what_it_asks_for() {
    let hello = hello_in(&of_rustls("API.Example.com", &[b"h2", b"http/1.1"]));
    assert_eq!(hello.sni.unwrap().as_str(), "api.example.com");
    assert_eq!(hello.alpn, ["h2", "http/1.1"]);
    assert_eq!(hello.version, Some("1.3"));
    assert!(!hello.ech);
    assert!(hello.ja4.starts_with("t13d"), "{}", hello.ja4);
    // Addresses are asked for without a name (RFC 6066 section 3).
    let hello = hello_in(&of_rustls("192.0.2.1", &[]));
    assert_eq!(hello.sni, None);
    assert!(hello.ja4.starts_with("t13i"), "{}", hello.ja4);
}

#[test]
fn n12_a_hello_reads_the_same_over_any_records_and_segments() {
    let whole = of_rustls("api.example.com", &[b"h2"]);
    let expected = hello_in(&whole);
    let message = &whole[RECORD_HEAD..];
    for size in [1, 2, 3, 7, 64, 200] {
        let records: Vec<u8> = message.chunks(size).flat_map(record).collect();
        assert_eq!(hello_in(&records), expected, "records of {size}");
        let mut reader = Reader::default();
        let mut last = None;
        for byte in &records {
            assert!(!matches!(last, Some(Progress::Hello(_))));
            last = Some(reader.push(&[*byte]));
        }
        assert!(matches!(last, Some(Progress::Hello(hello)) if *hello == expected));
        assert_eq!(reader.received(), records);
    }
}

#[test]
fn what_follows_a_hello_is_kept_and_not_judged() {
    let mut bytes = of_rustls("api.example.com", &[]);
    let expected = hello_in(&bytes);
    bytes.extend([20, 3, 3, 0, 1, 1]); // change cipher spec, as early data comes
    let mut reader = Reader::default();
    let Progress::Hello(hello) = reader.push(&bytes) else {
        panic!("a hello");
    };
    assert_eq!(*hello, expected);
    assert_eq!(reader.received(), bytes);
}

#[test]
fn n12_a_name_that_could_be_read_in_two_ways_is_malformed() {
    let long = "a".repeat(300);
    let table: [(Vec<u8>, &str); 11] = [
        (name_list(&[b"a.test", b"b.test"]), "two names"),
        (name_list(&[]), "none"),
        (name_list(&[b""]), "empty"),
        (name_list(&[b"a.test\0.b.test"]), "NUL"),
        (name_list(&[b"127.0.0.1"]), "an address"),
        (name_list(&[b"0x7f.1"]), "an address in another spelling"),
        (name_list(&[b"::1"]), "IPv6"),
        (name_list(&[b"a.test:443"]), "a port"),
        (name_list(&["b\u{fc}cher.test".as_bytes()]), "not ASCII"),
        (name_list(&[long.as_bytes()]), "too long"),
        (Vec::new(), "no list at all"),
    ];
    for (data, what) in table {
        let bytes = made(&[(SERVER_NAME, &data)]);
        assert!(matches!(read(&bytes), Progress::Malformed(_)), "{what}");
    }
    let mut other_type = name_list(&[b"a.test"]);
    other_type[2] = 1;
    let bytes = made(&[(SERVER_NAME, &other_type)]);
    assert!(matches!(read(&bytes), Progress::Malformed(_)));

    let good = name_list(&[b"A.test."]);
    let hello = hello_in(&made(&[(SERVER_NAME, &good)]));
    assert_eq!(hello.sni.unwrap().as_str(), "a.test");
    let twice = made(&[
        (SERVER_NAME, &good),
        (SERVER_NAME, &name_list(&[b"b.test"])),
    ]);
    assert!(matches!(read(&twice), Progress::Malformed(_)));
}

#[test]
fn n28_what_is_not_tls_is_told_from_what_is_broken() {
    let hello = made(&[]);
    let table: [(&[u8], &str); 18] = [
        (b"GET / HTTP/1.1\r\n", "NotTls"),
        (b"SSH-2.0-x\r\n", "NotTls"),
        (&[0x16, 0x02, 0x00], "More"),
        // A length of 22 or 278 and a number, as MongoDB's clients begin.
        (&[0x16, 0x01, 0, 0, 1, 0, 0, 0], "NotTls"),
        (
            b"\x16\x01\0\0\x2c\x01\0\0\0\0\0\0\xdd\x07\0\0 and so on, as long as that one is",
            "NotTls",
        ),
        (b"\x16\x01\0\0\0\x01\0\0\0\0\0\0\xdd\x07\0\0", "NotTls"),
        (b"\x16\x01\0\0\x01\x01\0\0\0\0\0\0\xdd\x07\0\0", "NotTls"),
        // A game's ping, a terminal's option, and a length of 21.
        (&[0xfe, 0x01], "NotTls"),
        (&[0xff, 0xfb, 0x01], "NotTls"),
        (b"\x15\x01\0\0\x02\0\0\0", "NotTls"),
        (b"\x15\x03\x01\0\x02", "More"),
        (b"\x80\x08\x01\x03", "NotTls"), // too short for a hello
        (&[0x16, 0x20, 0x00], "NotTls"),
        (b"\x80\x2e\x01\x00\x02", "NotTls"), // SSL 2
        (b"\x80\x2e\x01", "More"),
        (b"\x80\x04\x95\x00", "NotTls"), // a pickle
        (&[0x16], "More"),
        (&hello[..20], "More"),
    ];
    for (bytes, expected) in table {
        assert_eq!(format!("{:?}", read(bytes)), expected, "{bytes:?}");
    }
    let message = message(&[]);
    let mut two = message.clone();
    two.extend(&message);
    let mut interrupted = record(&message[..10]);
    interrupted.extend([23, 3, 3, 0, 1, 0]);
    let mut cut = message.clone();
    cut.truncate(40);
    cut[3] = 36;
    let mut trailing = message.clone();
    trailing.push(0);
    trailing[3] += 1;
    for (bytes, what) in [
        (record(&[]), "an empty record"),
        (record(&two), "two messages"),
        (record(&[2, 0, 0, 0]), "a ServerHello"),
        (record(&[1, 0xff, 0, 0]), "a length of 16 MiB"),
        (interrupted, "another record in between"),
        (record(&cut), "too short"),
        (record(&trailing), "bytes after the extensions"),
        (vec![22, 3, 1, 0xff, 0xff], "a record that is too long"),
        (b"\x80\x2e\x01\x03\x03".to_vec(), "TLS in a record of SSL 2"),
        (
            [b"\x15\x03\x01\0\x02\x01\x5a".as_slice(), &hello].concat(),
            "a warning before it",
        ),
        (
            [b"\x15\x02\x01\0\x02\x01\x5a".as_slice(), &hello].concat(),
            "one of another version",
        ),
    ] {
        assert!(matches!(read(&bytes), Progress::Malformed(_)), "{what}");
    }
}

/// N12: servers do not look at a record's version, so nor is a hello let off by it.
#[test]
fn n12_a_hello_is_one_whatever_version_its_record_says() {
    let good = name_list(&[b"a.test"]);
    let mut bytes = made(&[(SERVER_NAME, &good)]);
    for version in [[3, 1], [3, 5], [3, 0xff], [2, 0], [0, 0], [15, 9]] {
        bytes[1..3].copy_from_slice(&version);
        let hello = hello_in(&bytes);
        assert_eq!(hello.sni.unwrap().as_str(), "a.test", "{version:?}");
        // Over two records as well.
        let (first, second) = bytes[5..].split_at(30);
        let mut split = Vec::new();
        for part in [first, second] {
            split.extend([
                22,
                version[0],
                version[1],
                0,
                u8::try_from(part.len()).unwrap(),
            ]);
            split.extend(part);
        }
        let hello = hello_in(&split);
        assert_eq!(hello.sni.unwrap().as_str(), "a.test", "{version:?}");
    }
}

#[test]
fn n24_a_hello_without_end_is_given_up() {
    let mut reader = Reader::default();
    // One byte of the message per record: the wrapping grows, the message does not end.
    let mut message = message(&[(21, &[0; 8000])]);
    message.truncate(4000);
    let mut given_up = None;
    for byte in &message {
        if let Progress::Malformed(why) = reader.push(&record(&[*byte])) {
            given_up = Some(why);
            break;
        }
    }
    assert!(given_up.is_some());
    assert!(reader.received().len() <= limits::HELLO_BYTES + RECORD_HEAD + 1);
}

#[test]
fn grease_changes_nothing_and_ech_is_seen() {
    let plain = made(&[(43, &[2, 3, 4]), (16, &[0, 3, 2, b'h', b'2'])]);
    let greased = made(&[
        (0x0a0a, &[]),
        (43, &[4, 0xfa, 0xfa, 3, 4]),
        (16, &[0, 3, 2, b'h', b'2']),
        (0xdada, &[0]),
    ]);
    assert_eq!(hello_in(&plain), hello_in(&greased));
    for kind in [ENCRYPTED_CLIENT_HELLO, ENCRYPTED_SNI] {
        assert!(hello_in(&made(&[(kind, &[0, 1, 2])])).ech);
    }
    let odd = hello_in(&made(&[(16, &[0, 6, 2, 0x1a, 0x1a, 2, 0xff, b'\n'])]));
    assert_eq!(odd.alpn, ["\\xff\\n"]);
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_judged_and_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        tls in any::<bool>(),
        cut in 1_usize..50,
    ) {
        let mut bytes = bytes;
        if tls {
            bytes.splice(0..0, [22, 3, 1, 0, 80, 1, 0, 0, 76, 3, 3]);
        }
        let whole = format!("{:?}", read(&bytes));
        let mut reader = Reader::default();
        let mut last = String::from("More");
        for piece in bytes.chunks(cut) {
            last = format!("{:?}", reader.push(piece));
            if last != "More" {
                break;
            }
        }
        prop_assert_eq!(whole, last);
    }

    #[test]
    fn a_hello_with_one_byte_changed_is_judged_the_same_in_any_pieces(
        at in 0_usize..240,
        with in any::<u8>(),
        size in 1_usize..30,
    ) {
        let mut message = of_rustls("api.example.com", &[b"h2"])[RECORD_HEAD..].to_vec();
        let index = at.min(message.len() - 1);
        message[index] = with;
        let one = format!("{:?}", read(&record(&message)));
        let many: Vec<u8> = message.chunks(size).flat_map(record).collect();
        let many = format!("{:?}", read(&many));
        // A length that is too long waits in both; one that is too short is wrong in both, and
        // in small records before the rest has come.
        prop_assert_eq!(one.starts_with("Hello"), many.starts_with("Hello"));
        prop_assert_eq!(one == "More", many == "More");
    }
}
