//! AWS Signature Version 4 for one request with its body at hand.
//!
//! Source: "Signature Version 4 signing process", AWS General Reference; checked against its
//! published example.

use std::time::{SystemTime, UNIX_EPOCH};

use cordon_audit::rfc3339;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// Who signs, and for where.
pub(crate) struct Credentials {
    id: String,
    secret: String,
    region: String,
}

/// What is signed.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    /// Already percent-encoded, without a query.
    pub(crate) path: &'a str,
    pub(crate) body: &'a [u8],
}

impl Credentials {
    pub(crate) fn new(id: &str, secret: &str, region: &str) -> Self {
        Self {
            id: id.into(),
            secret: secret.into(),
            region: region.into(),
        }
    }

    /// The headers that carry the signature of a request made `at` a time.
    pub(crate) fn sign(
        &self,
        request: &Request<'_>,
        at: SystemTime,
    ) -> Vec<(&'static str, String)> {
        let time = basic_time(at);
        let body = hex(&Sha256::digest(request.body));
        let Request {
            method, host, path, ..
        } = request;
        let names = "host;x-amz-content-sha256;x-amz-date";
        let canonical = format!(
            "{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:{body}\nx-amz-date:{time}\n\n\
             {names}\n{body}"
        );
        let day = time.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let hash = hex(&Sha256::digest(canonical));
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}");
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in [day, &self.region, "s3", "aws4_request"] {
            key = hmac(&key, part);
        }
        let signature = hex(&hmac(&key, &to_sign));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}",
            self.id
        );
        vec![
            ("authorization", authorization),
            ("x-amz-content-sha256", body),
            ("x-amz-date", time),
        ]
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "credentials for {}", self.region)
    }
}

/// A path with everything encoded but unreserved characters and slashes.
pub(crate) fn encode_path(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return Vec::new();
    };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// `20130524T000000Z`.
fn basic_time(at: SystemTime) -> String {
    let seconds = at
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let text = rfc3339(seconds.saturating_mul(1_000_000));
    let digits: String = text
        .chars()
        .filter(|c| !matches!(c, '-' | ':'))
        .take(15)
        .collect();
    digits + "Z"
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The values that the signing process gives for this request were computed with botocore's
    /// `S3SigV4Auth`.
    #[test]
    fn a_signature_is_the_one_that_botocore_makes() {
        let credentials = Credentials::new(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "us-east-1",
        );
        let request = Request {
            method: "PUT",
            host: "s3.example.com",
            path: &encode_path("/bucket/cordon/a b/1-2.jsonl"),
            body: b"{}\n",
        };
        let at = UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let headers = credentials.sign(&request, at);
        let of = |wanted: &str| {
            headers
                .iter()
                .find(|(name, _)| *name == wanted)
                .unwrap()
                .1
                .clone()
        };
        assert_eq!(of("x-amz-date"), "20130524T000000Z");
        assert!(of("authorization").ends_with(SIGNATURE), "{headers:?}");
    }

    const SIGNATURE: &str =
        "Signature=7142178a32e3a8d45462aa235674d7ea183c571eb58de5810a8d423c8c56bd63";

    #[test]
    fn paths_are_encoded_but_for_slashes() {
        assert_eq!(
            encode_path("/b/a b+\u{e4}~.jsonl"),
            "/b/a%20b%2B%C3%A4~.jsonl"
        );
    }
}
