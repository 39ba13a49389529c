//! Signatures: `bundle.sig`, one DSSE envelope with an in-toto statement on each line.
//!
//! A bundle and a key in, a line out; hostile text in, well-formed envelopes out. Whether a
//! signature counts is for `verify.rs`. The signed bytes are those of the envelope, as they came:
//! nothing is parsed before they are checked and written again after.
//!
//! Sources: DSSE v1 (secure-systems-lab/dsse), in-toto Statement v1 and its `dirHash`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{Bundle, BundleError, Role, SigningKey, error::Artefact};
use crate::Layer;

/// The text of a `bundle.sig`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signed {
    /// To be written to `bundle.sig`.
    pub text: String,
    /// Signatures by other keys that are for this content and were kept.
    pub kept: usize,
    /// Signatures that were for other content and were left out.
    pub dropped: usize,
}

/// Signs a bundle, beside the signatures of others that it has. An earlier one by the same key is
/// replaced.
///
/// # Errors
/// [`BundleError`] when the bundle's `bundle.sig` is no such file.
pub fn sign(bundle: &Bundle, key: &SigningKey) -> Result<Signed, BundleError> {
    let envelopes = read(bundle.signatures().unwrap_or_default()).map_err(|why| {
        Artefact::Bundle.error(why, "delete `bundle.sig`, and let everybody sign again")
    })?;
    let statement = Statement::about(bundle, key);
    let mut lines = Vec::new();
    let mut dropped = 0;
    for envelope in envelopes {
        if !envelope.statement.is_about(bundle) {
            dropped += 1;
        } else if envelope.statement.predicate.key != key.id() {
            lines.push(envelope.line);
        }
    }
    let kept = lines.len();
    lines.push(envelope(&statement, key).map_err(|error| {
        Artefact::Bundle.error(format!("it cannot be signed: {error}"), "please report it")
    })?);
    if lines.len() > MAX_SIGNATURES {
        return Err(Artefact::Bundle.error(
            format!("it has {MAX_SIGNATURES} signatures already"),
            "delete `bundle.sig`, and let those sign who must",
        ));
    }
    Ok(Signed {
        text: lines.join("\n") + "\n",
        kept,
        dropped,
    })
}

/// Most signatures of a bundle.
const MAX_SIGNATURES: usize = 16;
const MAX_LINE_BYTES: usize = 8 << 10;

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "urn:cordon:policy-bundle:v1";

/// One signature as it came: not checked beyond its form.
#[derive(Debug)]
pub(super) struct Received {
    line: String,
    payload: Vec<u8>,
    pub(super) statement: Statement,
    pub(super) signature: [u8; 64],
}

/// What a key states about a bundle.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: [Subject; 1],
    #[serde(rename = "predicateType")]
    predicate_type: String,
    pub(super) predicate: Predicate,
}

#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    name: String,
    digest: DirHash,
}

#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct DirHash {
    #[serde(rename = "dirHash")]
    dir_hash: String,
}

#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Predicate {
    revision: u64,
    layer: Layer,
    not_before: Option<String>,
    not_after: Option<String>,
    pub(super) key: String,
    pub(super) fingerprint: String,
    pub(super) role: Role,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: [EnvelopeSignature; 1],
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    keyid: String,
    sig: String,
}

/// Reads a `bundle.sig`: every line, or why not.
pub(super) fn read(text: &str) -> Result<Vec<Received>, String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        if found.len() >= MAX_SIGNATURES {
            return Err(format!("it has more than {MAX_SIGNATURES} signatures"));
        }
        let received =
            read_line(line).map_err(|why| format!("`bundle.sig` line {}: {why}", number + 1))?;
        found.push(received);
    }
    Ok(found)
}

fn read_line(line: &str) -> Result<Received, &'static str> {
    if line.len() > MAX_LINE_BYTES {
        return Err("the line is too long");
    }
    let envelope: Envelope =
        serde_json::from_str(line).map_err(|_| "it is no DSSE envelope with one signature")?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err("its payload is no in-toto statement");
    }
    let payload = STANDARD
        .decode(&envelope.payload)
        .map_err(|_| "its payload is not base64")?;
    let statement: Statement =
        serde_json::from_slice(&payload).map_err(|_| "its statement is not about a bundle")?;
    if statement.kind != STATEMENT_TYPE || statement.predicate_type != PREDICATE_TYPE {
        return Err("its statement is not about a bundle");
    }
    let [signature] = envelope.signatures;
    if signature.keyid != statement.predicate.key {
        return Err("it names one key outside and another inside");
    }
    let signature = STANDARD
        .decode(&signature.sig)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or("its signature is not 64 bytes of base64")?;
    Ok(Received {
        line: line.to_owned(),
        payload,
        statement,
        signature,
    })
}

fn envelope(statement: &Statement, key: &SigningKey) -> Result<String, serde_json::Error> {
    let payload = serde_json::to_vec(statement)?;
    serde_json::to_string(&Envelope {
        payload_type: PAYLOAD_TYPE.into(),
        payload: STANDARD.encode(&payload),
        signatures: [EnvelopeSignature {
            keyid: key.id().into(),
            sig: STANDARD.encode(key.sign(&pre_authentication_encoding(&payload))),
        }],
    })
}

/// What DSSE signs: type and payload, each with its length, so that neither can be taken for the
/// other.
fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    )
    .into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Received {
    /// The bytes that were signed.
    pub(super) fn signed_bytes(&self) -> Vec<u8> {
        pre_authentication_encoding(&self.payload)
    }
}

impl Statement {
    fn about(bundle: &Bundle, key: &SigningKey) -> Self {
        let manifest = bundle.manifest();
        let (not_before, not_after) = manifest.validity();
        Self {
            kind: STATEMENT_TYPE.into(),
            subject: [Subject {
                name: manifest.name.clone(),
                digest: DirHash {
                    dir_hash: bundle.digest().into(),
                },
            }],
            predicate_type: PREDICATE_TYPE.into(),
            predicate: Predicate {
                revision: manifest.revision,
                layer: manifest.layer,
                not_before,
                not_after,
                key: key.id().into(),
                fingerprint: key.public().fingerprint(),
                role: key.role(),
            },
        }
    }

    /// Whether what it states is true of this bundle.
    pub(super) fn is_about(&self, bundle: &Bundle) -> bool {
        let manifest = bundle.manifest();
        let [subject] = &self.subject;
        let stated = &self.predicate;
        subject.digest.dir_hash == bundle.digest()
            && subject.name == manifest.name
            && stated.revision == manifest.revision
            && stated.layer == manifest.layer
            && (stated.not_before.clone(), stated.not_after.clone()) == manifest.validity()
    }
}
