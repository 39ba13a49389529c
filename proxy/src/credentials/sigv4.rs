//! AWS Signature Version 4, made anew over a request that the client signed with a placeholder.
//!
//! The head of a request in, the fields that carry its signature out. What is signed is what goes
//! on the wire: the host, the `x-amz-` fields and the type of the body.
//!
//! Source: "Create a signed AWS API request" (AWS IAM user guide). Own code, because the library of
//! AWS brings its whole runtime along; checked against the published test suite and botocore.

mod pieces;

use std::time::{SystemTime, UNIX_EPOCH};

use cordon_audit::rfc3339;
use cordon_policy::percent_decoded;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::{
    HeaderMap,
    header::{self, HeaderName},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use self::pieces::{Chain, Form};
pub(super) use self::pieces::{Pieces, Signed};
use super::{Checked, Problem, target::encoded};
use crate::limits;

/// Who signs, and for where.
pub(super) struct Signer<'a> {
    pub(super) id: &'a str,
    pub(super) key: &'a str,
    pub(super) service: &'a str,
    pub(super) region: &'a str,
}

/// What is signed beside the fields.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) host: &'a str,
    /// As on the wire.
    pub(super) path: &'a str,
    /// As on the wire.
    pub(super) query: &'a str,
    pub(super) payload: &'a Payload,
}

/// What the signature says about the body.
pub(super) struct Payload {
    hash: String,
    /// Whether a field says it too.
    is_told: bool,
    /// Where it is signed piece by piece.
    pieces: Option<Form>,
}

/// A signature.
pub(super) struct Made {
    /// The fields that carry it. They take the place of the client's.
    pub(super) fields: Vec<(HeaderName, String)>,
    /// What the pieces of the body are signed with.
    chain: Chain,
}

/// The field with the token of a temporary key.
pub(super) const TOKEN_FIELD: HeaderName = HeaderName::from_static("x-amz-security-token");
const DATE_FIELD: HeaderName = HeaderName::from_static("x-amz-date");
const PAYLOAD_FIELD: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// Whether a key of the query belongs to a signature that stands there.
pub(super) fn is_presigned(key: &str) -> bool {
    let keys = [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
        "X-Amz-SignedHeaders",
    ];
    keys.contains(&key)
}

/// What to say about the body: what the client says where that can stay, else its hash.
///
/// # Errors
/// A body that is signed in a way that cannot be made anew, or one that is too long to be read before
/// it is sent.
pub(super) async fn payload(
    fields: &HeaderMap,
    service: &str,
    body: &mut Checked,
) -> Result<Payload, Problem> {
    let told = fields
        .get(PAYLOAD_FIELD)
        .and_then(|value| value.to_str().ok());
    let pieces = match told {
        Some(told) => pieces::form(told, fields)?,
        None => None,
    };
    let hash = match told {
        Some(told) if told.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
            told.to_owned()
        }
        // Goes inside TLS, and the object store takes that.
        None if service == "s3" => "UNSIGNED-PAYLOAD".into(),
        _none => {
            let whole = body.whole(limits::SIGNED_BODY_BYTES).await.map_err(|_| {
                Problem(format!(
                    "its body cannot be signed: it broke off, or is longer than {} bytes",
                    limits::SIGNED_BODY_BYTES
                ))
            })?;
            hex(&Sha256::digest(whole))
        }
    };
    Ok(Payload {
        hash,
        is_told: told.is_some() || service == "s3",
        pieces,
    })
}

impl Payload {
    /// What signs the body on its way; none where it is not in pieces.
    ///
    /// # Errors
    /// The head does not say how long its content is.
    pub(super) fn in_pieces(
        &self,
        made: Made,
        fields: &HeaderMap,
    ) -> Result<Option<Pieces>, Problem> {
        let form = self.pieces.as_ref();
        form.map(|form| Pieces::new(made.chain, form, fields))
            .transpose()
    }
}

impl Signer<'_> {
    /// Signs a request made `at` a time.
    pub(super) fn sign(&self, request: &Request<'_>, fields: &HeaderMap, at: SystemTime) -> Made {
        let time = basic_time(at);
        let mut made = vec![(DATE_FIELD, time.clone())];
        if request.payload.is_told {
            made.push((PAYLOAD_FIELD, request.payload.hash.clone()));
        }
        let signed = signed_fields(request.host, fields, &made);
        let names: Vec<&str> = signed.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let lines: String = signed
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let canonical = format!(
            "{}\n{}\n{}\n{lines}\n{names}\n{}",
            request.method,
            self.canonical_path(request.path),
            canonical_query(request.query),
            request.payload.hash
        );
        let day = time.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let hash = hex(&Sha256::digest(canonical));
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}");
        let mut key = Zeroizing::new(format!("AWS4{}", self.key).into_bytes());
        for part in [day, self.region, self.service, "aws4_request"] {
            key = hmac(&key, part);
        }
        let signature = hex(&hmac(&key, &to_sign));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.id
        );
        made.push((header::AUTHORIZATION, authorization));
        Made {
            fields: made,
            chain: Chain {
                key,
                time,
                scope,
                last: signature,
            },
        }
    }

    /// The object store signs the path as it is; all others encode it once more.
    fn canonical_path(&self, path: &str) -> String {
        let encode = |segment: &str| {
            if self.service == "s3" {
                encoded(&percent_decoded(&segment.replace('+', "%2B")))
            } else {
                encoded(segment)
            }
        };
        let segments: Vec<String> = path.split('/').map(encode).collect();
        segments.join("/")
    }
}

/// The host, every `x-amz-` field and the body's type, by name; what is `made` goes before what the
/// client sent.
fn signed_fields(
    host: &str,
    fields: &HeaderMap,
    made: &[(HeaderName, String)],
) -> Vec<(String, String)> {
    let mut signed = vec![("host".to_owned(), host.to_owned())];
    for name in fields.keys() {
        let is_signed = name.as_str().starts_with("x-amz-") || name == header::CONTENT_TYPE;
        if !is_signed || made.iter().any(|(own, _)| own == name) {
            continue;
        }
        let values = fields.get_all(name).iter();
        let values: Vec<String> = values.map(|value| trimmed(value.as_bytes())).collect();
        signed.push((name.to_string(), values.join(",")));
    }
    signed.extend(
        made.iter()
            .map(|(name, value)| (name.to_string(), value.clone())),
    );
    signed.sort();
    signed
}

/// Without spaces around, and one for several inside.
fn trimmed(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    words.join(" ")
}

fn canonical_query(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(String, String)> = pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (
                encoded(&percent_decoded(key)),
                encoded(&percent_decoded(value)),
            )
        })
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join("&")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(key: &[u8], text: &str) -> Zeroizing<Vec<u8>> {
    // A key of any length is taken.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return Zeroizing::default();
    };
    mac.update(text.as_bytes());
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

/// `20150830T123600Z`.
fn basic_time(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    let text = rfc3339(seconds.saturating_mul(1_000_000));
    let plain = text.chars().filter(|c| !matches!(c, '-' | ':'));
    plain.take(15).chain(['Z']).collect()
}

#[cfg(test)]
mod tests;
