//! Keys that sign bundles: Ed25519, in small TOML files that say whose they are and what for.
//!
//! Text in, keys out, and back. Randomness comes from the caller; no file is touched here. A
//! secret is never shown: not by `Debug`, not in an error.

use std::{fmt, path::Path, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use toml::Spanned;

use super::{BundleError, error::Artefact, hex, manifest::is_name};

/// What a key is for. It stands in each signature, so that one made in a role counts in no other.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Publishes policy. Every accepted bundle has the signature of one.
    PolicyPublisher,
    /// Has looked at policy that another publishes; counts where two must sign.
    PolicyReviewer,
}

/// A private key with its name and role.
pub struct SigningKey {
    id: String,
    role: Role,
    key: ed25519_dalek::SigningKey,
}

/// A public key. Shape: `ed25519:` and base64 of its 32 bytes.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct PublicKey(VerifyingKey);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    id: Spanned<String>,
    role: Role,
    secret: Spanned<String>,
}

const PREFIX: &str = "ed25519:";
const MAX_KEY_FILE_BYTES: usize = 16 << 10;
const FORM: &str = "a key file has `id`, `role` and `secret`; `cordon policy key new` makes one";
const NAME_HELP: &str =
    "use 1 to 64 of `a-z`, `0-9`, `-`, `_` and `.`, beginning with a letter or digit";

impl SigningKey {
    /// A key of 32 random bytes, which the caller got from the operating system.
    ///
    /// # Errors
    /// [`BundleError`] when `id` is no name.
    pub fn new(id: &str, role: Role, seed: [u8; 32]) -> Result<Self, BundleError> {
        if !is_name(id) {
            let message = format!("{id:.100?} is not the name of a key");
            return Err(Artefact::Key.error(message, NAME_HELP));
        }
        Ok(Self {
            id: id.into(),
            role,
            key: ed25519_dalek::SigningKey::from_bytes(&seed),
        })
    }

    /// Reads a key file's text. `path` is for messages.
    ///
    /// # Errors
    /// [`BundleError`] says where and why, without the secret.
    pub fn parse(path: &Path, text: &str) -> Result<Self, BundleError> {
        if text.len() > MAX_KEY_FILE_BYTES {
            let message = format!("`{}` is too large", path.display());
            return Err(Artefact::Key.error(message, FORM));
        }
        // The parser's own message may quote the file.
        let file: KeyFile = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            Artefact::Key.error_at((path, text, offset), "it is no key file", FORM)
        })?;
        let seed = file
            .secret
            .get_ref()
            .strip_prefix(PREFIX)
            .and_then(|secret| STANDARD.decode(secret).ok())
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| {
                let at = (path, text, file.secret.span().start);
                Artefact::Key.error_at(at, "`secret` is no Ed25519 key", FORM)
            })?;
        Self::new(file.id.get_ref(), file.role, seed)
    }

    /// The key file's text. Whoever has it can sign.
    pub fn to_secret_text(&self) -> String {
        format!(
            "# SECRET. Whoever has this file can sign policy as `{id}`.\n\
             id = \"{id}\"\n\
             role = \"{role}\"\n\
             secret = \"{PREFIX}{secret}\"\n",
            id = self.id,
            role = self.role,
            secret = STANDARD.encode(self.key.to_bytes()),
        )
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key())
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl PublicKey {
    /// SHA-256 over its bytes, lower-case hex: two keys of one name differ here.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes()))
    }

    /// Whether it made this signature. Strict: each key and message has one signature.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let encoded = text.strip_prefix(PREFIX).ok_or(())?;
        let bytes: [u8; 32] = STANDARD
            .decode(encoded)
            .map_err(|_| ())?
            .try_into()
            .map_err(|_| ())?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| ())?;
        // For a weak key anybody can make signatures.
        if key.is_weak() {
            Err(())
        } else {
            Ok(Self(key))
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Role {
    /// As it stands in key files and signatures.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PolicyPublisher => "policy-publisher",
            Self::PolicyReviewer => "policy-reviewer",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::PolicyPublisher, Self::PolicyReviewer]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| "the roles are `policy-publisher` and `policy-reviewer`".into())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
