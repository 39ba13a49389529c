//! Whether a bundle may be used: its signatures, its counter and its validity.
//!
//! A bundle, a trust root, a moment and what was accepted before in; [`Accepted`] or one distinct
//! [`Refusal`] out. Who signed is settled first: what a bundle says of its revision and validity
//! counts only once it is known who says it.

use std::{collections::BTreeSet, time::SystemTime};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    Bundle, Role, TrustRoot, moment,
    signature::{self, Received},
    trust::TrustedKey,
};
use crate::Layer;

/// A bundle that may be used, as it is remembered: the next one of its source is held against it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// Its name.
    pub name: String,
    /// Its revision.
    pub revision: u64,
    /// Its digest.
    pub digest: String,
    /// Whose signatures counted; empty where nobody is trusted to sign.
    pub signers: Vec<Signer>,
}

/// Whose signature counted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// The key's name.
    pub key: String,
    /// Whose key it is.
    pub person: String,
    /// What they signed as.
    pub role: Role,
}

/// Why a bundle may not be used.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Refusal {
    /// It has no signature, and never had one as far as is known.
    #[error("it is not signed")]
    Unsigned,
    /// It has no signature where it, or the one before it, had one.
    #[error("its signatures were taken away")]
    Stripped,
    /// `bundle.sig` is no such file.
    #[error("its signatures cannot be read: {why}")]
    Unreadable {
        /// What is wrong with it.
        why: String,
    },
    /// Signed by a key that is not in the trust root.
    #[error("key `{key}` is not a trusted one")]
    UnknownKey {
        /// The name that the signature gives.
        key: String,
    },
    /// Signed by another key than the trusted one of that name.
    #[error("it was signed by another key than the trusted `{key}`")]
    WrongKey {
        /// The name that the signature gives.
        key: String,
    },
    /// The signature does not fit what it says.
    #[error("the signature of key `{key}` is wrong")]
    BadSignature {
        /// The key.
        key: String,
    },
    /// Signed in a role that the key does not have.
    #[error("key `{key}` does not have the role `{role}` that it signed in")]
    NoRole {
        /// The key.
        key: String,
        /// The role.
        role: Role,
    },
    /// Signed by a key that may not sign this bundle.
    #[error("key `{key}` may not sign bundle `{bundle}` of layer `{layer}`")]
    OutOfScope {
        /// The key.
        key: String,
        /// The bundle.
        bundle: String,
        /// Its layer.
        layer: Layer,
    },
    /// Signed by a key that is not valid yet, or not any more.
    #[error("key `{key}` is not valid at this time")]
    KeyOutOfValidity {
        /// The key.
        key: String,
    },
    /// What was signed is not what is there.
    #[error("its content is not what key `{key}` signed")]
    Tampered {
        /// The key.
        key: String,
    },
    /// Signatures of fewer people than needed.
    #[error("{have} signed it and {needed} must{}", because(.further.as_deref()))]
    TooFew {
        /// People whose signature counts.
        have: usize,
        /// People who must sign.
        needed: usize,
        /// Why a further signature does not count.
        further: Option<Box<Refusal>>,
    },
    /// Signed by reviewers alone.
    #[error("only reviewers signed it, and no publisher")]
    NoPublisher,
    /// Another bundle than the one before.
    #[error("it is bundle `{name}` where `{last}` was accepted before")]
    OtherName {
        /// Its name.
        name: String,
        /// The name before.
        last: String,
    },
    /// An older revision than the one before.
    #[error("it is revision {revision}, and {last} was accepted before")]
    Stale {
        /// Its revision.
        revision: u64,
        /// The revision before.
        last: u64,
    },
    /// The same revision as before with other content.
    #[error("it is revision {revision} with another content than was accepted before")]
    SameRevision {
        /// The revision.
        revision: u64,
    },
    /// Its validity has not begun.
    #[error("it is valid from {from} on")]
    NotYetValid {
        /// When it begins, RFC 3339.
        from: String,
    },
    /// Its validity is over.
    #[error("it was valid until {until}")]
    Expired {
        /// When it ended, RFC 3339.
        until: String,
    },
}

/// Decides whether a bundle may be used where somebody is trusted to sign.
///
/// Each person counts once, whatever number of keys they have; a signature that does not count
/// takes nothing away from those that do, so that keys can be changed while both are in use.
/// `last` is what the same source gave before.
///
/// # Errors
/// [`Refusal`]; where several signatures fail, the first one's. [`Refusal::Expired`] is given where
/// nothing else is wrong.
pub fn verify(
    bundle: &Bundle,
    trust: &TrustRoot,
    now: SystemTime,
    last: Option<&Accepted>,
) -> Result<Accepted, Refusal> {
    if !bundle.is_signed() {
        let was_signed = last.is_some() || bundle.manifest().signed;
        return Err(if was_signed {
            Refusal::Stripped
        } else {
            Refusal::Unsigned
        });
    }
    let signers = check_signatures(bundle, trust, now)?;
    if let Some(last) = last {
        check_counter(bundle, last)?;
    }
    check_validity(bundle, now)?;
    Ok(accepted(bundle, signers))
}

/// Decides whether a bundle may be used where nobody is trusted to sign: its validity counts, and
/// that it is not one that says it is always signed and is not. Its counter does not: whoever can
/// change the bundle can change that, too.
///
/// # Errors
/// [`Refusal`]; [`Refusal::Expired`] where nothing else is wrong.
pub fn accept_unsigned(bundle: &Bundle, now: SystemTime) -> Result<Accepted, Refusal> {
    if bundle.manifest().signed && !bundle.is_signed() {
        return Err(Refusal::Stripped);
    }
    check_validity(bundle, now)?;
    Ok(accepted(bundle, Vec::new()))
}

fn accepted(bundle: &Bundle, signers: Vec<Signer>) -> Accepted {
    Accepted {
        name: bundle.manifest().name.clone(),
        revision: bundle.manifest().revision,
        digest: bundle.digest().to_owned(),
        signers,
    }
}

/// One signer for each person who counts: enough of them, and a publisher among them.
fn check_signatures(
    bundle: &Bundle,
    trust: &TrustRoot,
    now: SystemTime,
) -> Result<Vec<Signer>, Refusal> {
    let received = signature::read(bundle.signatures().unwrap_or_default())
        .map_err(|why| Refusal::Unreadable { why })?;
    let mut signers: Vec<Signer> = Vec::new();
    let mut first_refusal = None;
    for signature in &received {
        match check_signature(signature, bundle, trust, now) {
            Ok(key) => signers.push(Signer {
                key: key.id.clone(),
                person: key.person.clone(),
                role: signature.statement.predicate.role,
            }),
            Err(refusal) => {
                first_refusal.get_or_insert(refusal);
            }
        }
    }
    let people: BTreeSet<&str> = signers.iter().map(|s| s.person.as_str()).collect();
    let (have, needed) = (people.len(), trust.needed(bundle.manifest().layer));
    match first_refusal {
        Some(refusal) if have == 0 => Err(refusal),
        further if have < needed => Err(Refusal::TooFew {
            have,
            needed,
            further: further.map(Box::new),
        }),
        _enough if !signers.iter().any(|s| s.role == Role::PolicyPublisher) => {
            Err(Refusal::NoPublisher)
        }
        _enough => Ok(signers),
    }
}

/// The trusted key that made this signature for this bundle.
fn check_signature<'a>(
    received: &Received,
    bundle: &Bundle,
    trust: &'a TrustRoot,
    now: SystemTime,
) -> Result<&'a TrustedKey, Refusal> {
    let stated = &received.statement.predicate;
    let key = || stated.key.chars().take(64).collect::<String>();
    let trusted = trust
        .key(&stated.key)
        .ok_or_else(|| Refusal::UnknownKey { key: key() })?;
    if trusted.public.fingerprint() != stated.fingerprint {
        return Err(Refusal::WrongKey { key: key() });
    }
    if !trusted
        .public
        .verifies(&received.signed_bytes(), &received.signature)
    {
        return Err(Refusal::BadSignature { key: key() });
    }
    if !received.statement.is_about(bundle) {
        return Err(Refusal::Tampered { key: key() });
    }
    if !trusted.roles.contains(&stated.role) {
        return Err(Refusal::NoRole {
            key: key(),
            role: stated.role,
        });
    }
    let manifest = bundle.manifest();
    if !trusted.may_sign(manifest.layer, &manifest.name) {
        return Err(Refusal::OutOfScope {
            key: key(),
            bundle: manifest.name.clone(),
            layer: manifest.layer,
        });
    }
    if !trusted.is_valid(now) {
        return Err(Refusal::KeyOutOfValidity { key: key() });
    }
    Ok(trusted)
}

fn check_counter(bundle: &Bundle, last: &Accepted) -> Result<(), Refusal> {
    let manifest = bundle.manifest();
    if manifest.name != last.name {
        return Err(Refusal::OtherName {
            name: manifest.name.clone(),
            last: last.name.clone(),
        });
    }
    let revision = manifest.revision;
    if revision < last.revision {
        return Err(Refusal::Stale {
            revision,
            last: last.revision,
        });
    }
    if revision == last.revision && bundle.digest() != last.digest {
        return Err(Refusal::SameRevision { revision });
    }
    Ok(())
}

fn check_validity(bundle: &Bundle, now: SystemTime) -> Result<(), Refusal> {
    let manifest = bundle.manifest();
    match (manifest.not_before, manifest.not_after) {
        (Some(from), _) if now < from => Err(Refusal::NotYetValid {
            from: moment::write(from),
        }),
        (_, Some(until)) if until <= now => Err(Refusal::Expired {
            until: moment::write(until),
        }),
        _within => Ok(()),
    }
}

fn because(further: Option<&Refusal>) -> String {
    further.map_or_else(String::new, |refusal| format!(" ({refusal})"))
}

impl Refusal {
    /// Its word in records and in answers to machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Stripped => "stripped",
            Self::Unreadable { .. } => "unreadable_signature",
            Self::UnknownKey { .. } => "unknown_key",
            Self::WrongKey { .. } => "wrong_key",
            Self::BadSignature { .. } => "bad_signature",
            Self::NoRole { .. } => "no_role",
            Self::OutOfScope { .. } => "out_of_scope",
            Self::KeyOutOfValidity { .. } => "key_out_of_validity",
            Self::Tampered { .. } => "tampered",
            Self::TooFew { .. } => "too_few_signatures",
            Self::NoPublisher => "no_publisher",
            Self::OtherName { .. } => "other_name",
            Self::Stale { .. } => "stale",
            Self::SameRevision { .. } => "same_revision",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Expired { .. } => "expired",
        }
    }

    /// What to do; shown after `help:`.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unsigned => "sign it: `cordon policy sign BUNDLE --key KEYFILE`",
            Self::Stripped => "get it again with its `bundle.sig`, and ask who changed it",
            Self::Unreadable { .. } => "get it again; if it is the same, sign it again",
            Self::UnknownKey { .. } => {
                "ask who signed it; a key that should count belongs into the trust file"
            }
            Self::WrongKey { .. } => {
                "ask the key's owner: either they have a new key, or somebody uses their name"
            }
            Self::BadSignature { .. } | Self::Tampered { .. } => {
                "do not use it; get it again from who signed it, and ask what happened between"
            }
            Self::NoRole { .. } | Self::OutOfScope { .. } => {
                "let somebody sign whom the trust file names for this, or change the trust file"
            }
            Self::KeyOutOfValidity { .. } => {
                "sign it with a valid key, or prolong the key in the trust file"
            }
            Self::TooFew { .. } => {
                "let another person sign it, too: `cordon policy sign BUNDLE --key KEYFILE`"
            }
            Self::NoPublisher => "let somebody sign whose key has the role `policy-publisher`",
            Self::OtherName { .. } => {
                "a source keeps its bundle; for another one configure another source"
            }
            Self::Stale { .. } => {
                "to go back, publish the old rules under a new revision, or roll back on the node"
            }
            Self::SameRevision { .. } => "count `revision` up in bundle.toml and sign it again",
            Self::NotYetValid { .. } => "wait, or check the clock",
            Self::Expired { .. } => {
                "publish a new revision with a later `not_after`, or check the clock"
            }
        }
    }
}
