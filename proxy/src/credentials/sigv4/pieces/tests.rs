//! Against the two examples that AWS publishes, and against what they are not.

use hyper::header::HeaderValue;
use proptest::prelude::*;

use super::*;

/// What a client with a placeholder for its key writes; its signatures are worth nothing.
const CLIENTS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

struct Example {
    seed: &'static str,
    signatures: [&'static str; 3],
    trailer: Option<&'static str>,
}

const PLAIN_EXAMPLE: Example = Example {
    seed: "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    signatures: [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ],
    trailer: None,
};

const TRAILER_EXAMPLE: Example = Example {
    seed: "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    signatures: [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ],
    trailer: Some("d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"),
};

impl Example {
    fn pieces(&self) -> Pieces {
        let mut key = Zeroizing::new(b"AWS4wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_vec());
        for part in ["20130524", "us-east-1", "s3", "aws4_request"] {
            key = hmac(&key, part);
        }
        let chain = Chain {
            key,
            time: "20130524T000000Z".into(),
            scope: "20130524/us-east-1/s3/aws4_request".into(),
            last: self.seed.into(),
        };
        let mut fields = HeaderMap::new();
        fields.insert(LENGTH_FIELD, HeaderValue::from_static("66560"));
        fields.insert(
            TRAILER_FIELD,
            HeaderValue::from_static("x-amz-checksum-crc32c"),
        );
        let told = self.trailer.map_or(PLAIN, |_| WITH_TRAILERS);
        let form = form(told, &fields).unwrap().unwrap();
        Pieces::new(chain, &form, &fields).unwrap()
    }

    /// The body of the example under these signatures.
    fn body(&self, signatures: [&str; 3], trailer: &str) -> String {
        let [first, second, last] = signatures;
        let content = "a".repeat(65536);
        let end = match self.trailer {
            None => "\r\n".to_owned(),
            Some(_) => format!(
                "x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:{trailer}\r\n\r\n"
            ),
        };
        format!(
            "10000;chunk-signature={first}\r\n{content}\r\n400;chunk-signature={second}\r\n{}\r\n\
             0;chunk-signature={last}\r\n{end}",
            &content[..1024]
        )
    }

    fn as_sent(&self) -> String {
        self.body([CLIENTS; 3], CLIENTS)
    }

    fn as_signed(&self) -> String {
        self.body(self.signatures, self.trailer.unwrap_or_default())
    }
}

fn run<'a>(
    mut pieces: Pieces,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<String, Broken> {
    let mut out = Vec::new();
    for part in parts {
        pieces.push(part);
        while let Some(signed) = pieces.next()? {
            out.extend(signed.sent);
        }
    }
    if let Some(signed) = pieces.finish()? {
        out.extend(signed.sent);
    }
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn n21_pieces_get_the_signatures_of_the_published_examples() {
    for example in [PLAIN_EXAMPLE, TRAILER_EXAMPLE] {
        let out = run(example.pieces(), [example.as_sent().as_bytes()]).unwrap();
        assert_eq!(out.len(), example.as_sent().len());
        assert!(out == example.as_signed(), "{}", &out[out.len() - 300..]);
    }
}

#[test]
fn n21_trailers_end_their_lines_in_any_way_that_clients_do() {
    let sent = TRAILER_EXAMPLE.as_sent();
    let signature = TRAILER_EXAMPLE.trailer.unwrap();
    for end in ["\r\n", "\n", "\n\r\n"] {
        let sent = sent.replace("sOO8/Q==\r\n", &format!("sOO8/Q=={end}"));
        let out = run(TRAILER_EXAMPLE.pieces(), [sent.as_bytes()]).unwrap();
        assert!(out.contains(&format!("{end}x-amz-trailer-signature:{signature}\r\n\r\n")));
    }
}

#[test]
fn n21_n22_framing_that_is_not_exact_is_refused() {
    let (plain, trailed) = (PLAIN_EXAMPLE.as_sent(), TRAILER_EXAMPLE.as_sent());
    let head = format!("400;chunk-signature={CLIENTS}\r\n");
    for (example, body, problem) in [
        (PLAIN_EXAMPLE, String::new(), "ends in the middle"),
        (
            PLAIN_EXAMPLE,
            plain[..70000 - 4000].into(),
            "ends in the middle",
        ),
        (PLAIN_EXAMPLE, plain.trim_end().into(), "ends in the middle"),
        (PLAIN_EXAMPLE, format!("{plain}x"), "behind its end"),
        (PLAIN_EXAMPLE, format!("{plain}{head}"), "behind its end"),
        (
            PLAIN_EXAMPLE,
            plain.replace(&head, &head.replace("400", "401")),
            "longer than its head",
        ),
        (
            PLAIN_EXAMPLE,
            plain.replace(&head, &head.replace("400", "3ff")),
            "another length",
        ),
        (
            PLAIN_EXAMPLE,
            plain.replace("10000;", "110000;"),
            "longer than 1 MiB",
        ),
        (
            PLAIN_EXAMPLE,
            plain.replace("10000;", "000010000;"),
            "size and signature",
        ),
        (
            PLAIN_EXAMPLE,
            plain.replace("10000;", "+1000;"),
            "size and signature",
        ),
        (
            PLAIN_EXAMPLE,
            plain.replace("10000;", "10000 ;"),
            "size and signature",
        ),
        (
            PLAIN_EXAMPLE,
            plain.replace("10000;", ";"),
            "size and signature",
        ),
        (
            PLAIN_EXAMPLE,
            plain.replace(CLIENTS, &CLIENTS.replace('0', "A")),
            "size and signature",
        ),
        (
            PLAIN_EXAMPLE,
            plain.replace("chunk-signature", "x-signature"),
            "size and signature",
        ),
        (
            PLAIN_EXAMPLE,
            format!("0;chunk-signature={CLIENTS}\r\n\r\n"),
            "shorter than its head",
        ),
        (TRAILER_EXAMPLE, plain.clone(), "not signed"),
        (PLAIN_EXAMPLE, trailed.clone(), "behind its end"),
        (TRAILER_EXAMPLE, format!("{trailed}x"), "do not end with"),
        (
            TRAILER_EXAMPLE,
            trailed.replace("x-amz-checksum-crc32c:", "x-amz-meta-other:"),
            "not announced",
        ),
        (
            TRAILER_EXAMPLE,
            trailed.replace("x-amz-checksum-crc32c:", "x-amz-checksum-crc32c"),
            "no field",
        ),
        (TRAILER_EXAMPLE, trailed.replace("sOO8", "s\rO8"), "no text"),
        (
            TRAILER_EXAMPLE,
            trailed.replace("sOO8", &"s".repeat(TRAILERS_BYTES)),
            "too long",
        ),
    ] {
        let error = run(example.pieces(), [body.as_bytes()]).unwrap_err();
        assert!(error.contains(problem), "{problem}: {error}");
    }
}

#[test]
fn n21_ways_of_signing_are_told_apart() {
    let fields = HeaderMap::new();
    for (told, expected) in [
        ("UNSIGNED-PAYLOAD", Some(None)),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", Some(None)),
        (EMPTY_HASH, Some(None)),
        (PLAIN, Some(Some(Form::Plain))),
        (WITH_TRAILERS, Some(Some(Form::Trailers(Vec::new())))),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", None),
        ("STREAMING-AWS4-HMAC-SHA256-EVENTS", None),
    ] {
        assert_eq!(form(told, &fields).ok(), expected, "{told}");
    }
}

proptest! {
    /// However a body is cut on its way, it is signed as it would be whole.
    #[test]
    fn n21_the_cuts_of_a_signed_body_make_no_difference(
        cuts in prop::collection::vec(0_usize..67_000, 0..8),
        tail in prop::collection::vec(66_400_usize..67_100, 0..12),
    ) {
        let body = TRAILER_EXAMPLE.as_sent();
        let mut cuts: Vec<usize> = cuts.into_iter().chain(tail).collect();
        cuts.retain(|cut| *cut < body.len());
        cuts.sort_unstable();
        cuts.push(body.len());
        let mut from = 0;
        let parts = cuts.into_iter().map(|cut| {
            let part = &body.as_bytes()[from..cut];
            from = cut;
            part
        });
        let parts: Vec<&[u8]> = parts.collect();
        let out = run(TRAILER_EXAMPLE.pieces(), parts);
        prop_assert!(out == Ok(TRAILER_EXAMPLE.as_signed()));
    }
}
