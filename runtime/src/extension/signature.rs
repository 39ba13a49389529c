//! The signature at the end of an archive: `MCPB_SIG_V1`, a length, a detached PKCS#7 signature, and
//! `MCPB_SIG_END`.
//!
//! The archive in, one of four findings out (P07). What cannot be followed is broken, never "none".

use std::time::{SystemTime, UNIX_EPOCH};

use asn1_rs::{Any, Class, FromDer};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use sha2::{Digest as _, Sha256};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring};
use x509_parser::prelude::X509Certificate;

use super::{
    ExtensionError, Finding,
    archive::{END_BYTES, END_MARK},
};

/// Whose signatures are trusted: names of publishers, each with certificates (DER) that are their
/// own, or of an authority that signs for them alone.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Name and certificate.
    pub publishers: Vec<(String, Vec<u8>)>,
}

/// An archive without its signature.
pub(super) struct Parts<'a> {
    /// What is read as an archive: nothing behind its end.
    pub(super) content: Vec<u8>,
    /// What may have been signed: tools differ in whether they set the comment's length before or
    /// after they sign.
    signed: Vec<Vec<u8>>,
    signature: Option<Result<&'a [u8], &'static str>>,
}

/// Takes an archive and its signature apart.
pub(super) fn split(bytes: &[u8]) -> Result<Parts<'_>, ExtensionError> {
    let Some(block) = bytes
        .windows(HEADER.len())
        .rposition(|window| window == HEADER)
        .filter(|_| ends_with_footer(bytes))
    else {
        let marked = ends_with_footer(bytes);
        return Ok(Parts {
            content: bytes.to_vec(),
            signed: Vec::new(),
            signature: marked.then_some(Err("it has an end and no beginning")),
        });
    };
    let (content, rest) = bytes.split_at_checked(block).unwrap_or((bytes, &[]));
    let mut plain = content.to_vec();
    let comment = plain.len().checked_sub(END_BYTES);
    let Some(end) = comment.and_then(|start| plain.get_mut(start..)) else {
        return Err(ExtensionError::Archive(
            "it has no end of its directory".into(),
        ));
    };
    if !end.starts_with(END_MARK) {
        return Err(ExtensionError::Archive(
            "something stands before its signature".into(),
        ));
    }
    if let Some(length) = end.get_mut(END_BYTES - 2..) {
        length.fill(0);
    }
    Ok(Parts {
        signed: vec![content.to_vec(), plain.clone()],
        content: plain,
        signature: Some(message(rest)),
    })
}

/// What came of it.
pub(super) fn check(parts: &Parts<'_>, trust: &Trust, now: SystemTime) -> Finding {
    let message = match &parts.signature {
        None => return Finding::Unsigned,
        Some(Err(why)) => return Finding::Broken((*why).into()),
        Some(Ok(message)) => message,
    };
    match verified(message, &parts.signed) {
        Err(why) => Finding::Broken(why),
        Ok(signer) => match signer.publisher(trust, now) {
            Some(publisher) => Finding::Trusted(publisher),
            None => Finding::Untrusted(signer.subject()),
        },
    }
}

fn ends_with_footer(bytes: &[u8]) -> bool {
    bytes.ends_with(FOOTER)
}

/// The PKCS#7 message of a block; zeros may stand behind it.
fn message(block: &[u8]) -> Result<&[u8], &'static str> {
    let rest = block.strip_prefix(HEADER).unwrap_or_default();
    let (length, rest) = rest.split_first_chunk::<4>().ok_or("it breaks off")?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let body = rest.strip_suffix(FOOTER).ok_or("it breaks off")?;
    let (message, padding) = body.split_at_checked(length).ok_or("its length is wrong")?;
    if padding.iter().all(|byte| *byte == 0) && block.len() <= MAX_BLOCK_BYTES {
        Ok(message)
    } else {
        Err("something stands behind it")
    }
}

/// Who signed, by a signature that is good.
struct Signer<'a> {
    certificate: &'a [u8],
    others: Vec<&'a [u8]>,
}

impl Signer<'_> {
    fn publisher(&self, trust: &Trust, now: SystemTime) -> Option<String> {
        let publishers = trust.publishers.iter();
        let own = publishers
            .clone()
            .find(|(_, known)| known == self.certificate);
        if let Some((name, certificate)) = own {
            // Pinned: it still has to be valid today.
            let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
            let seconds = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
            let today = i64::try_from(seconds).ok()?;
            let validity = parsed.validity();
            let holds =
                validity.not_before.timestamp() <= today && today <= validity.not_after.timestamp();
            return holds.then(|| name.clone());
        }
        let mut publishers = publishers;
        publishers
            .find(|(_, authority)| self.is_issued_by(authority, now))
            .map(|(name, _)| name.clone())
    }

    fn is_issued_by(&self, authority: &[u8], now: SystemTime) -> bool {
        let authority = CertificateDer::from(authority);
        let certificate = CertificateDer::from(self.certificate);
        let others: Vec<CertificateDer<'_>> = self
            .others
            .iter()
            .map(|other| CertificateDer::from(*other))
            .collect();
        let (Ok(anchor), Ok(end)) = (
            anchor_from_trusted_cert(&authority),
            EndEntityCert::try_from(&certificate),
        ) else {
            return false;
        };
        let Ok(since) = now.duration_since(UNIX_EPOCH) else {
            return false;
        };
        let now = UnixTime::since_unix_epoch(since);
        let usage = KeyUsage::required(CODE_SIGNING);
        end.verify_for_usage(ALGORITHMS, &[anchor], &others, now, usage, None, None)
            .is_ok()
    }

    fn subject(&self) -> String {
        match X509Certificate::from_der(self.certificate) {
            Ok((_, parsed)) => parsed.subject().to_string().chars().take(256).collect(),
            Err(_unreadable) => "an unreadable certificate".into(),
        }
    }
}

/// Verifies a detached signature with signed attributes over one of `contents`.
///
/// Source: RFC 5652, sections 5.1 to 5.4.
fn verified<'a>(message: &'a [u8], contents: &[Vec<u8>]) -> Result<Signer<'a>, String> {
    let signed = SignedData::read(message).ok_or("it is no PKCS#7 signature")?;
    let info = SignerInfo::read(signed.signer).ok_or("what it says of its signer is not usable")?;
    if info.digest_algorithm != SHA256 {
        return Err("its digest is not SHA-256".into());
    }
    if info
        .attribute(CONTENT_TYPE)
        .is_none_or(|value| value != DATA)
    {
        return Err("it is not about plain content".into());
    }
    let digest = info.attribute(MESSAGE_DIGEST).ok_or("it has no digest")?;
    let digest = part(digest)
        .filter(|part| part.0 == 4)
        .ok_or("it has no digest")?;
    let is_signed = |content: &Vec<u8>| Sha256::digest(content).as_slice() == digest.1;
    if !contents.iter().any(is_signed) {
        return Err("it is not about this content".into());
    }
    let mut certificates = signed.certificates;
    let own = certificates
        .iter()
        .position(|certificate| info.is_of(certificate));
    let own = own.ok_or("the signer's certificate is not in it")?;
    let certificate = certificates.swap_remove(own);
    // Signed is the set itself, not the tag that it stands under in the message.
    let mut attributes = info.attributes.to_vec();
    if let Some(tag) = attributes.first_mut() {
        *tag = SET;
    }
    let der = CertificateDer::from(certificate);
    let end = EndEntityCert::try_from(&der).map_err(|error| format!("its certificate: {error}"))?;
    let good = |algorithm: &&dyn SignatureVerificationAlgorithm| {
        end.verify_signature(*algorithm, &attributes, info.signature)
            .is_ok()
    };
    if !ALGORITHMS.iter().any(good) {
        return Err("it does not verify".into());
    }
    Ok(Signer {
        certificate,
        others: certificates,
    })
}

struct SignedData<'a> {
    certificates: Vec<&'a [u8]>,
    signer: &'a [u8],
}

impl<'a> SignedData<'a> {
    fn read(message: &'a [u8]) -> Option<Self> {
        let outer = parts(part(message)?.1)?;
        let [kind, content] = outer.as_slice() else {
            return None;
        };
        if kind.raw != SIGNED_DATA || content.tag != 0 || content.class != Class::ContextSpecific {
            return None;
        }
        let fields = parts(part(content.inside)?.1)?;
        let mut certificates = Vec::new();
        for field in fields
            .iter()
            .filter(|field| field.class == Class::ContextSpecific)
        {
            if field.tag == 0 {
                certificates.extend(parts(field.inside)?.iter().map(|one| one.raw));
            }
        }
        let signers = parts(fields.last()?.inside)?;
        match signers.as_slice() {
            // One signature says one thing.
            [only] => Some(Self {
                certificates,
                signer: only.inside,
            }),
            _several => None,
        }
    }
}

struct SignerInfo<'a> {
    issuer: &'a [u8],
    serial: &'a [u8],
    digest_algorithm: &'a [u8],
    /// With their tag.
    attributes: &'a [u8],
    signature: &'a [u8],
}

impl<'a> SignerInfo<'a> {
    fn read(inside: &'a [u8]) -> Option<Self> {
        let fields = parts(inside)?;
        let [_version, who, digest, attributes, _algorithm, signature, ..] = fields.as_slice()
        else {
            return None;
        };
        if attributes.class != Class::ContextSpecific || attributes.tag != 0 {
            return None;
        }
        let who = parts(who.inside)?;
        let [issuer, serial] = who.as_slice() else {
            return None;
        };
        Some(Self {
            issuer: issuer.raw,
            serial: serial.inside,
            digest_algorithm: parts(digest.inside)?.first()?.raw,
            attributes: attributes.raw,
            signature: signature.inside,
        })
    }

    /// The one value of the one attribute of this type.
    fn attribute(&self, kind: &[u8]) -> Option<&'a [u8]> {
        let all = parts(part(self.attributes)?.1)?;
        let mut found = None;
        for one in all {
            let fields = parts(one.inside)?;
            let [name, values] = fields.as_slice() else {
                return None;
            };
            if name.raw == kind {
                let values = parts(values.inside)?;
                match (values.as_slice(), found) {
                    ([only], None) => found = Some(only.raw),
                    _several => return None,
                }
            }
        }
        found
    }

    fn is_of(&self, certificate: &[u8]) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
            return false;
        };
        parsed.issuer().as_raw() == self.issuer && parsed.raw_serial() == self.serial
    }
}

/// One element of DER.
struct Part<'a> {
    class: Class,
    tag: u32,
    /// With its tag and length.
    raw: &'a [u8],
    inside: &'a [u8],
}

/// Tag and inside of an element that is all there is.
fn part(der: &[u8]) -> Option<(u32, &[u8])> {
    let all = parts(der)?;
    match all.as_slice() {
        [only] => Some((only.tag, only.inside)),
        _several => None,
    }
}

/// The elements that follow each other in `der`, all of it.
fn parts(mut der: &[u8]) -> Option<Vec<Part<'_>>> {
    let mut all = Vec::new();
    while !der.is_empty() {
        if all.len() >= MOST_PARTS {
            return None;
        }
        let (rest, any) = Any::from_der(der).ok()?;
        let raw = der.get(..der.len().checked_sub(rest.len())?)?;
        all.push(Part {
            class: any.header.class(),
            tag: any.header.tag().0,
            raw,
            inside: any.data,
        });
        der = rest;
    }
    Some(all)
}

const HEADER: &[u8] = b"MCPB_SIG_V1";
const FOOTER: &[u8] = b"MCPB_SIG_END";
const MAX_BLOCK_BYTES: usize = 64 * 1024;
const MOST_PARTS: usize = 64;
const SET: u8 = 0x31;

/// Algorithms of signatures that are taken.
const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    ring::RSA_PKCS1_2048_8192_SHA256,
    ring::ECDSA_P256_SHA256,
    ring::ECDSA_P384_SHA256,
    ring::ED25519,
];

// Object identifiers as they stand in DER.
const SIGNED_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
const DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
const CONTENT_TYPE: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03";
const MESSAGE_DIGEST: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04";
const SHA256: &[u8] = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01";

/// 1.3.6.1.5.5.7.3.3, without tag and length, as webpki wants it.
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
