//! Signatures as others make them: AWS's own test suite (`get-vanilla`), and botocore 1.44.

use std::time::Duration;

use hyper::header::HeaderValue;

use super::*;

const ID: &str = "AKIDEXAMPLE";
const KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

struct Case {
    what: [&'static str; 3],
    target: (&'static str, &'static str),
    fields: &'static [(&'static str, &'static str)],
    hash: &'static str,
    region: &'static str,
    signed: &'static str,
    signature: &'static str,
}

const CASES: &[Case] = &[
    Case {
        what: ["GET", "service", "example.amazonaws.com"],
        target: ("/", ""),
        fields: &[],
        hash: EMPTY,
        region: "us-east-1",
        signed: "host;x-amz-date",
        signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    },
    Case {
        what: ["POST", "dynamodb", "dynamodb.eu-central-1.amazonaws.com"],
        target: ("/", ""),
        fields: &[
            ("content-type", "application/x-amz-json-1.0"),
            ("x-amz-target", "DynamoDB_20120810.ListTables"),
        ],
        // Of `{}`.
        hash: "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        region: "eu-central-1",
        signed: "content-type;host;x-amz-date;x-amz-target",
        signature: "27cfed56b98cf41c68fae40a5d182ff7100073c430d5489a8fc784419bccd8ac",
    },
    Case {
        what: ["GET", "lambda", "lambda.us-east-1.amazonaws.com"],
        target: ("/2015-03-31/functions/arn%3Aaws%3Alambda/a%20b", ""),
        fields: &[],
        hash: EMPTY,
        region: "us-east-1",
        signed: "host;x-amz-date",
        signature: "d8063e5efc54b1733dff62508a305506699768679b1cae34b63836e9550c40f4",
    },
    Case {
        what: ["GET", "s3", "bucket.s3.eu-central-1.amazonaws.com"],
        target: ("/a%20b/c%2Bd", "list-type=2&prefix=x%2Fy&delimiter=%2F"),
        fields: &[("x-amz-content-sha256", EMPTY)],
        hash: EMPTY,
        region: "eu-central-1",
        signed: "host;x-amz-content-sha256;x-amz-date",
        signature: "98b04492d57f581a8638b64c83f9dd24fbdfd5d709a6347116da8495ebb48f8c",
    },
    Case {
        what: ["PUT", "s3", "bucket.s3.eu-central-1.amazonaws.com"],
        target: ("/key", ""),
        fields: &[
            ("content-type", "text/plain"),
            (
                "x-amz-content-sha256",
                "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            ),
        ],
        // Of `hello`.
        hash: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        region: "eu-central-1",
        signed: "content-type;host;x-amz-content-sha256;x-amz-date",
        signature: "583aff46a83ad4d7a18a6729ca243ff0b48778cbb9b6078f3893c79e6a3155e5",
    },
    Case {
        what: ["GET", "sts", "sts.amazonaws.com"],
        target: ("/", "Version=2011-06-15&Action=GetCallerIdentity"),
        fields: &[("x-amz-security-token", "TOKEN/with+chars=")],
        hash: EMPTY,
        region: "us-east-1",
        signed: "host;x-amz-date;x-amz-security-token",
        signature: "09f2c690b4d8d2e369fb8463ae56a6f29e4a1b55ddbdfe87a309d33aee5d5c36",
    },
];

#[test]
fn signatures_are_those_that_others_make() {
    // 2015-08-30T12:36:00Z.
    let at = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
    for case in CASES {
        let [method, service, host] = case.what;
        let mut fields = HeaderMap::new();
        // What the client signed at another time, with another key.
        fields.insert(DATE_FIELD, HeaderValue::from_static("20140101T000000Z"));
        for (name, value) in case.fields {
            fields.insert(*name, HeaderValue::from_static(value));
        }
        let signer = Signer {
            id: ID,
            key: KEY,
            service,
            region: case.region,
        };
        let payload = Payload {
            hash: case.hash.into(),
            is_told: service == "s3",
            pieces: None,
        };
        let request = Request {
            method,
            host,
            path: case.target.0,
            query: case.target.1,
            payload: &payload,
        };
        let signed = signer.sign(&request, &fields, at).fields;
        let expected = format!(
            "AWS4-HMAC-SHA256 Credential={ID}/20150830/{}/{service}/aws4_request, \
             SignedHeaders={}, Signature={}",
            case.region, case.signed, case.signature
        );
        let of = |name: HeaderName| {
            signed
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| v.as_str())
        };
        assert_eq!(
            of(header::AUTHORIZATION),
            Some(&*expected),
            "{:?}",
            case.what
        );
        assert_eq!(of(DATE_FIELD), Some("20150830T123600Z"));
        let told = of(PAYLOAD_FIELD);
        assert_eq!(told.is_some(), service == "s3", "{:?}", case.what);
    }
}

#[test]
fn a_query_is_signed_in_one_order_and_one_spelling() {
    for (query, expected) in [
        ("", ""),
        ("b=1&a=2", "a=2&b=1"),
        ("a=2&a=1", "a=1&a=2"),
        ("flag&x=", "flag=&x="),
        ("k=a:b,c", "k=a%3Ab%2Cc"),
        ("k=%7e%2f", "k=~%2F"),
    ] {
        assert_eq!(canonical_query(query), expected, "{query}");
    }
}
