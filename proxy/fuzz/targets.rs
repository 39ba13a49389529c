//! What is fuzzed: hostile bytes in, and what must hold whatever they are.
//!
//! The same functions run under libFuzzer (`fuzz_targets/`) and, on the stable toolchain with the
//! corpus and mutations of it, in `src/fuzzing/smoke.rs`.

#[expect(dead_code, reason = "shared with the integration tests")]
#[expect(
    clippy::duplicate_mod,
    reason = "the unit tests of the capture have it too"
)]
#[path = "../tests/common/mod.rs"]
mod common;
#[path = "targets/live.rs"]
pub mod live;
#[path = "targets/request.rs"]
pub mod request;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use cordon_policy::{
    Destination, Host, NormalizedHost, Scheme,
    address::{AddressClass, classify},
};
use cordon_proxy::fuzzing::{self, Handshake, Names, Placeholder};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RData, RecordType},
};

/// One parser and what must hold of it.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: [(&str, Target); 14] = [
    ("authority", authority),
    ("address", address),
    ("request_target", request::target),
    ("fields", request::fields),
    ("head", live::head),
    ("chunks", chunks),
    ("socks", live::socks),
    ("hello", hello),
    ("dns", dns),
    ("proxy_header", proxy_header),
    ("parent_answer", live::parent_answer),
    ("placeholder", placeholder),
    ("pieces", pieces),
    ("frames", frames),
];

/// What a target is: one spelling, from which the same comes again, at every door; or refused.
pub fn authority(bytes: &[u8]) {
    if let Ok(read) = Destination::from_authority(bytes) {
        let written = read.to_string();
        assert_eq!(
            Destination::from_authority(written.as_bytes()),
            Ok(read.clone())
        );
        assert_eq!(Destination::from_http_authority(bytes), Ok(read.clone()));
        let url = Destination::from_url_authority(bytes, Scheme::Https);
        assert_eq!(url, Ok(read.clone()), "a port that is named is the port");
        assert!(written.len() <= Destination::MAX_AUTHORITY_BYTES && one_word(&written));
        let louder = bytes.to_ascii_uppercase();
        let quieter = bytes.to_ascii_lowercase();
        assert_eq!(Destination::from_authority(&louder), Ok(read.clone()));
        assert_eq!(Destination::from_authority(&quieter), Ok(read.clone()));
        if let Host::Address(address) = read.host {
            let parts = Destination::from_address(address, read.port.get());
            assert_eq!(parts, Ok(read), "an address is written in one way");
        }
    }
    if let Ok(read) = Destination::from_parts(bytes, 443) {
        let written = read.host.to_string();
        assert_eq!(
            Destination::from_parts(written.as_bytes(), 443),
            Ok(read.clone())
        );
        let joined = [bytes, b":443"].concat();
        // Without brackets an authority cannot hold colons, SOCKS can; and it says a length.
        let bounded = bytes.len() <= 255;
        if bounded && (!bytes.contains(&b':') || bytes.starts_with(b"[")) {
            assert_eq!(Destination::from_authority(&joined), Ok(read.clone()));
        }
        if let Host::Name(name) = read.host {
            assert_eq!(name.as_str().parse::<NormalizedHost>(), Ok(name.clone()));
            assert!(name.as_str().parse::<IpAddr>().is_err(), "{name}");
        }
    }
}

/// An address in another dress is not less special, and has one spelling.
pub fn address(bytes: &[u8]) {
    if let Some(four) = bytes.first_chunk::<4>() {
        let four = Ipv4Addr::from(*four);
        let number = u32::from(four);
        let spellings = [
            four.to_string(),
            number.to_string(),
            format!("{number:#x}"),
            format!("{:#o}", number).replacen("0o", "0", 1),
            format!("[::ffff:{four}]"),
        ];
        for text in spellings {
            let read = Destination::from_parts(text.as_bytes(), 80);
            assert_eq!(read, Destination::from_address(four.into(), 80), "{text}");
        }
        let bits = u128::from(number);
        let dressed = [
            0xffff_0000_0000 | bits,
            bits,
            0x0064_ff9b_u128 << 96 | bits,
            0x2002_u128 << 112 | bits << 80,
            0x2001_u128 << 112 | (bits ^ 0xffff_ffff),
            0x2600_u128 << 112 | 0x5efe_u128 << 32 | bits,
        ];
        for bits in dressed {
            let class = classify(Ipv6Addr::from(bits).into());
            assert_ne!(class, AddressClass::Global, "{}", Ipv6Addr::from(bits));
            let inner = classify(four.into());
            // Translators and tunnels are special even with a global address inside.
            assert!(inner == AddressClass::Global || class == inner || bits >> 32 == 0);
        }
    }
    if let Some(six) = bytes.first_chunk::<16>() {
        let six = Ipv6Addr::from(*six);
        let class = classify(six.into());
        let unicast = six.to_bits() >> 125 == 1;
        assert!(unicast || class != AddressClass::Global, "{six}");
        assert_eq!(
            class,
            classify(six.to_string().parse().expect("it was written"))
        );
        let read = Destination::from_parts(six.to_string().as_bytes(), 80);
        assert_eq!(read, Destination::from_address(six.into(), 80));
    }
}

/// A body in signed pieces is one thing, however it is cut, and only its signatures change.
pub fn pieces(bytes: &[u8]) {
    let Some((head, body)) = bytes.split_at_checked(3) else {
        return;
    };
    let length = u16::from_be_bytes([head[0], head[1]]);
    let trailers = head[2] & 1 == 1;
    let whole = fuzzing::pieces(body, length, trailers, usize::MAX);
    for cut in [1, 7] {
        assert_eq!(fuzzing::pieces(body, length, trailers, cut), whole);
    }
    if let Ok(signed) = whole {
        assert_eq!(signed.len(), body.len());
        let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        for (new, old) in signed.iter().zip(body) {
            assert!(new == old || (is_hex(new) && is_hex(old)));
        }
    }
}

/// What a WebSocket's origin sends keeps its length and its order, but for the value in it.
pub fn frames(bytes: &[u8]) {
    let whole = fuzzing::frames(bytes, usize::MAX);
    for cut in [1, 5] {
        assert_eq!(fuzzing::frames(bytes, cut), whole);
    }
    assert!(whole.0.len() <= bytes.len());
    for (new, old) in whole.0.iter().zip(bytes) {
        assert!(new == old || *new == b'*');
    }
}

/// A chunked body ends at one place, however it is cut, and nothing behind it matters.
pub fn chunks(bytes: &[u8]) {
    let whole = fuzzing::chunks(bytes, usize::MAX);
    for cut in [1, 2, 7, 64] {
        let pieces = fuzzing::chunks(bytes, cut);
        assert_eq!(
            pieces.is_ok(),
            whole.is_ok(),
            "cut {cut}: {pieces:?} {whole:?}"
        );
        if whole.is_ok() {
            assert_eq!(pieces, whole, "cut {cut}");
        }
    }
    if let Ok((taken, true)) = whole {
        let body = &bytes[..taken];
        assert!(body.ends_with(b"\r\n\r\n"));
        assert_eq!(
            fuzzing::chunks(&body[..taken - 1], 9),
            Ok((taken - 1, false))
        );
        let more = [body, b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(fuzzing::chunks(&more, usize::MAX), Ok((taken, true)));
    }
}

/// A ClientHello is the same in any segments, and what it shows has one spelling.
pub fn hello(bytes: &[u8]) {
    // Beyond its bound it depends on what comes first.
    let bytes = &bytes[..bytes.len().min(12_000)];
    let whole = fuzzing::handshake(bytes, usize::MAX);
    for cut in [1, 3, 5, 100] {
        assert_eq!(fuzzing::handshake(bytes, cut), whole, "cut {cut}");
    }
    match &whole {
        Handshake::Hello(facts) => {
            let ja4 = facts.ja4.as_deref().unwrap_or_default();
            let parts: Vec<&str> = ja4.split('_').collect();
            assert_eq!(
                parts.iter().map(|part| part.len()).collect::<Vec<_>>(),
                [10, 12, 12]
            );
            assert!(
                ja4.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            );
            let named = &ja4[3..4];
            assert_eq!(named, if facts.sni.is_some() { "d" } else { "i" });
            if let Some(sni) = &facts.sni {
                let name: NormalizedHost = sni.parse().expect("it was read as a name");
                assert_eq!(name.as_str(), sni);
            }
            assert!(
                facts
                    .alpn
                    .iter()
                    .all(|name| one_word(name) || name.contains(' '))
            );
        }
        Handshake::NotTls => assert!(!bytes.starts_with(&[22, 3])),
        // A handshake record or an alert of some version, or a record of SSL 2.
        Handshake::Malformed => {
            assert!(matches!(bytes, [21 | 22, ..0x10, ..] | [0x80..=0xbf, ..]));
        }
        Handshake::More => assert!(bytes.len() < 6 || matches!(bytes, [22, ..0x10, ..])),
    }
    // Over two records instead of one it says the same.
    if let (Handshake::Hello(_), [22, major, minor, high, low, fragment @ ..]) = (&whole, bytes) {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(fragment.len());
        let (first, second) = fragment[..length].split_at(length / 2);
        let mut split = Vec::new();
        for part in [first, second] {
            split.extend([22, *major, *minor]);
            split.extend(
                u16::try_from(part.len())
                    .expect("it is short")
                    .to_be_bytes(),
            );
            split.extend(part);
        }
        split.extend(&fragment[length..]);
        assert_eq!(fuzzing::handshake(&split, usize::MAX), whole);
    }
}

/// A query gets one answer of its own, synthetic and the same every time; an answer gets none.
pub fn dns(bytes: &[u8]) {
    let names = Names::default();
    let Some(answer) = names.respond(bytes) else {
        return;
    };
    assert_eq!(
        names.respond(bytes).as_ref(),
        Some(&answer),
        "the same again"
    );
    assert_eq!(names.respond(&answer), None, "answers are not answered");
    assert_eq!(answer[..2], bytes[..2], "its id");
    let read = Message::from_vec(&answer).expect("it is well formed");
    assert_eq!(read.metadata.message_type, MessageType::Response);
    assert!(read.answers.len() <= 1 && answer.len() <= 1232 + bytes.len());
    for record in &read.answers {
        let RData::A(address) = &record.data else {
            continue;
        };
        if address.0.is_loopback() {
            continue;
        }
        assert_eq!(classify(address.0.into()), AddressClass::Benchmarking);
        let [a, b, c, d] = address.0.octets();
        let name = Name::from_ascii(format!("{d}.{c}.{b}.{a}.in-addr.arpa.")).expect("a name");
        let mut back = Message::new(7, MessageType::Query, OpCode::Query);
        back.add_query(Query::query(name, RecordType::PTR));
        let back = names
            .respond(&back.to_vec().expect("it is written"))
            .expect("an answer");
        let back = Message::from_vec(&back).expect("it is well formed");
        let RData::PTR(name) = &back.answers[0].data else {
            panic!("{back}");
        };
        let (one, other) = (name.to_ascii(), record.name.to_ascii());
        let root = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
        assert_eq!(root(&one), root(&other), "one name, one address");
    }
}

/// Exactly the header is taken, the same in pieces; what is behind it does not matter.
pub fn proxy_header(bytes: &[u8]) {
    let (read, taken) = fuzzing::proxy_header(bytes, usize::MAX);
    for cut in [1, 5] {
        assert_eq!(
            fuzzing::proxy_header(bytes, cut),
            (read.clone(), taken),
            "cut {cut}"
        );
    }
    assert!(taken <= 16 + 2048);
    if read.is_ok() {
        let other = [&bytes[..taken], b"\r\n\r\nPROXY"].concat();
        assert_eq!(fuzzing::proxy_header(&other, usize::MAX), (read, taken));
        let (cut_off, _) = fuzzing::proxy_header(&bytes[..taken - 1], usize::MAX);
        assert!(cut_off.is_err(), "not without its last byte");
    }
}

/// A placeholder is found whatever stands around it, plain and in base64, and across any border.
pub fn placeholder(bytes: &[u8]) {
    const TEXT: &str = "cordon-placeholder-0123456789abcdef0123456789abcdef0123";
    let known = Placeholder::new(TEXT);
    let bytes = &bytes[..bytes.len().min(4096)];
    let at = bytes.first().map_or(0, |at| usize::from(*at)) % (bytes.len() + 1);
    let (before, after) = bytes.split_at(at);
    let whole = [before, TEXT.as_bytes(), after].concat();
    assert!(known.is_in(&whole), "plain");
    assert!(known.is_in(STANDARD.encode(&whole).as_bytes()), "base64");
    assert!(
        known.is_in(URL_SAFE_NO_PAD.encode(&whole).as_bytes()),
        "base64url"
    );
    let step = 1 + whole.len() / 16;
    for border in (0..=whole.len()).step_by(step) {
        let (one, two) = whole.split_at(border);
        let again = one.len().saturating_sub(known.overlap());
        let joined = [&one[again..], two].concat();
        assert!(known.is_in(one) || known.is_in(&joined), "border {border}");
    }
    if known.is_in(bytes) {
        assert!(known.is_in(&[b"x", bytes, b"y"].concat()));
        let decoded = String::from_utf8_lossy(bytes);
        assert!(bytes.len() >= 48, "not in so little: {decoded}");
    }
}

/// Visible ASCII without blanks.
fn one_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
