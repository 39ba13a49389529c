//! The log's keys: the one that signs, the one that follows it, and the public ones of all times.
//!
//! `log.key` (0600) signs; `log.pub` is the first public key, which the log is known by;
//! `keys/<id>.pub` are all of them. A key signs for a day: the next one is made as `log.key.next`,
//! announced by a `key.rotate` record under the old one, and then takes its place, which destroys
//! the old one. So whoever steals a key cannot sign what was signed before it. All key files are
//! as the `note` package of Go's checksum database reads them. Never prints a private key.

use std::{
    fmt, fs,
    fs::DirBuilder,
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    checkpoint::Checkpoint,
    draft::hex,
    files,
    log::{OpenError, OpenErrorKind},
    merkle::Hash,
};

/// The log's identity for life, and the key it signs with now.
#[derive(Debug)]
pub(crate) struct Signer {
    origin: Uuid,
    name: String,
    key: Key,
}

/// A key to sign with.
#[derive(Clone)]
pub(crate) struct Key(SigningKey);

/// A key to verify with, under its log's name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PublicKey {
    name: String,
    key: VerifyingKey,
}

const KEY: &str = "log.key";
const NEXT: &str = "log.key.next";
const FIRST_PUBLIC_KEY: &str = "log.pub";
const PUBLIC_KEYS: &str = "keys";

/// Ed25519 in a signed note.
const ALGORITHM: u8 = 1;

impl Signer {
    /// Reads the identity kept in `log`; `None` when there is none.
    pub(crate) fn load(log: &Path) -> Result<Option<Self>, OpenError> {
        let path = log.join(KEY);
        let read = files::read_small(&path, MAX_KEY_FILE);
        let Some(text) = read.map_err(|error| OpenError::io(&path, "read", &error))? else {
            return Ok(None);
        };
        let signer = Self::parse(&text).ok_or_else(|| {
            OpenError::new(
                OpenErrorKind::Integrity,
                format!(
                    "`{}` is not the log's key: put the file back as it was, or begin a new log \
                     with `cordon audit new-origin`",
                    path.display()
                ),
            )
        })?;
        signer.check_public_keys(log)?;
        Ok(Some(signer))
    }

    /// Makes a new identity, durable before it returns.
    pub(crate) fn create(log: &Path) -> Result<Self, OpenError> {
        let path = log.join(KEY);
        let fail = |error| OpenError::io(&path, "made", &error);
        let origin = Uuid::now_v7();
        let signer = Self {
            origin,
            name: format!("cordon/{origin}"),
            key: Key::create().map_err(fail)?,
        };
        let text = signer.key.secret_text(&signer.name);
        files::replace(&path, text.as_bytes()).map_err(fail)?;
        signer.check_public_keys(log)?;
        Ok(signer)
    }

    pub(crate) fn origin(&self) -> [u8; 16] {
        self.origin.into_bytes()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// How long the key has signed.
    pub(crate) fn age(&self, log: &Path) -> io::Result<Duration> {
        let since = fs::metadata(log.join(KEY))?.modified()?;
        // A clock that was set back makes it new.
        Ok(SystemTime::now().duration_since(since).unwrap_or_default())
    }

    /// Makes the next key, durable; gives its public text and the id of the current one, which
    /// the `key.rotate` record has to state. One that is there already stays the next one: its
    /// announcement may have been refused and be in the log all the same.
    pub(crate) fn prepare_next(&self, log: &Path) -> io::Result<(String, String)> {
        let old = hex(&self.key.public(&self.name).id());
        if let Some(new) = self.next(log)? {
            return Ok((new.key.public(&self.name).text(), old));
        }
        let next = Key::create()?;
        let text = next.secret_text(&self.name);
        files::replace(&log.join(NEXT), text.as_bytes())?;
        Ok((next.public(&self.name).text(), old))
    }

    /// Whether the key of this public text is the next one.
    pub(crate) fn is_next(&self, log: &Path, public: &str) -> io::Result<bool> {
        let next = self.next(log)?;
        Ok(next.is_some_and(|next| next.key.public(&self.name).text() == public))
    }

    fn next(&self, log: &Path) -> io::Result<Option<Self>> {
        let text = files::read_small(&log.join(NEXT), MAX_KEY_FILE)?;
        let next = text.and_then(|text| Self::parse(&text));
        Ok(next.filter(|next| next.name == self.name))
    }

    /// Puts the announced next key in place of the current one, which is destroyed. The current
    /// one has to have signed a checkpoint over the announcement.
    pub(crate) fn take_next(&mut self, log: &Path) -> io::Result<()> {
        let next = self
            .next(log)?
            .ok_or_else(|| io::Error::other("the next key is not there"))?;
        next.write_public_key(log)?;
        let old = files::open(&log.join(KEY))?;
        fs::rename(log.join(NEXT), log.join(KEY))?;
        files::sync_directory(log)?;
        self.key = next.key;
        // The name is gone; its content goes as far as the file system lets it.
        let len = usize::try_from(old.metadata()?.len()).unwrap_or_default();
        (&old).write_all(&vec![0; len])?;
        old.sync_all()
    }

    /// Ends a change of keys that a crash interrupted: completes it where `announced` (the public
    /// text in the last `key.rotate` record) is the next key, else drops that.
    pub(crate) fn settle(
        &mut self,
        log: &Path,
        announced: Option<&str>,
        now: impl FnOnce() -> Checkpoint,
    ) -> Result<(), OpenError> {
        let path = log.join(NEXT);
        let fail = |error| OpenError::io(&path, "settled", &error);
        let Some(text) = files::read_small(&path, MAX_KEY_FILE).map_err(fail)? else {
            return Ok(());
        };
        let next = Self::parse(&text).map(|next| next.key.public(&next.name).text());
        if next.is_none() || next.as_deref() != announced {
            return files::remove(&path).map_err(fail);
        }
        self.publish(log, now(), true).map_err(fail)?;
        self.take_next(log).map_err(fail)
    }

    /// The public keys of all times.
    pub(crate) fn public_keys(&self, log: &Path) -> Result<Vec<PublicKey>, OpenError> {
        let directory = log.join(PUBLIC_KEYS);
        let fail = |error| OpenError::io(&directory, "read", &error);
        let mut keys = Vec::new();
        for entry in fs::read_dir(&directory).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let text = files::read_small(&path, MAX_KEY_FILE).map_err(fail)?;
            let key = text.and_then(|text| PublicKey::parse(std::str::from_utf8(&text).ok()?));
            keys.extend(key.filter(|key| key.name == self.name));
        }
        Ok(keys)
    }

    /// Checks that the first public key is there and of this log, and makes what a stop left out.
    fn check_public_keys(&self, log: &Path) -> Result<(), OpenError> {
        let path = log.join(FIRST_PUBLIC_KEY);
        let fail = |error| OpenError::io(&path, "written", &error);
        let first = files::read_small(&path, MAX_KEY_FILE).map_err(fail)?;
        let Some(first) = first else {
            if log.join(PUBLIC_KEYS).exists() {
                return Err(OpenError::integrity(format!(
                    "`{}` is gone: put the oldest of `keys/` there",
                    path.display()
                )));
            }
            let text = self.key.public(&self.name).text();
            files::replace(&path, text.as_bytes()).map_err(fail)?;
            return self.write_public_key(log).map_err(fail);
        };
        self.write_public_key(log).map_err(fail)?;
        let first = std::str::from_utf8(&first).ok().and_then(PublicKey::parse);
        match first {
            Some(first) if self.public_keys(log)?.contains(&first) => Ok(()),
            _ => Err(OpenError::integrity(format!(
                "`{}` is no public key of this log",
                path.display()
            ))),
        }
    }

    fn write_public_key(&self, log: &Path) -> io::Result<()> {
        let public = self.key.public(&self.name);
        let directory = log.join(PUBLIC_KEYS);
        let path = directory.join(format!("{}.pub", hex(&public.id())));
        if path.exists() {
            return Ok(());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        files::replace(&path, public.text().as_bytes())?;
        files::sync_directory(log)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim_end();
        let mut parts = text.strip_prefix("PRIVATE+KEY+")?.splitn(3, '+');
        let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
        let origin = name.strip_prefix("cordon/")?.parse().ok()?;
        let key = STANDARD.decode(key).ok()?;
        let seed: [u8; 32] = key.strip_prefix(&[ALGORITHM])?.try_into().ok()?;
        let key = Key(SigningKey::from_bytes(&seed));
        (hex(&key.public(name).id()) == id).then(|| Self {
            origin,
            name: name.into(),
            key,
        })
    }
}

impl Key {
    fn create() -> io::Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    pub(crate) fn public(&self, name: &str) -> PublicKey {
        PublicKey {
            name: name.into(),
            key: self.0.verifying_key(),
        }
    }

    pub(crate) fn sign(&self, body: &[u8]) -> [u8; 64] {
        self.0.sign(body).to_bytes()
    }

    fn secret_text(&self, name: &str) -> String {
        let key = [&[ALGORITHM], self.0.as_bytes().as_slice()].concat();
        let id = hex(&self.public(name).id());
        format!("PRIVATE+KEY+{name}+{id}+{}\n", STANDARD.encode(key))
    }
}

impl PublicKey {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id(&self) -> [u8; 4] {
        let hash: Hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ALGORITHM])
            .chain_update(self.key.as_bytes())
            .finalize()
            .into();
        let [a, b, c, d, ..] = hash;
        [a, b, c, d]
    }

    /// As the file of a public key has it, without the line's end.
    pub(crate) fn text(&self) -> String {
        let key = [&[ALGORITHM], self.key.as_bytes().as_slice()].concat();
        let (name, id) = (&self.name, hex(&self.id()));
        format!("{name}+{id}+{}", STANDARD.encode(key))
    }

    pub(crate) fn signed(&self, body: &[u8], signature: [u8; 64]) -> bool {
        let signature = Signature::from_bytes(&signature);
        self.key.verify(body, &signature).is_ok()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim_end().splitn(3, '+');
        let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
        let key = STANDARD.decode(key).ok()?;
        let key: [u8; 32] = key.strip_prefix(&[ALGORITHM])?.try_into().ok()?;
        let public = Self {
            name: name.into(),
            key: VerifyingKey::from_bytes(&key).ok()?,
        };
        (hex(&public.id()) == id).then_some(public)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

const MAX_KEY_FILE: u64 = 4096;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            size: 7,
            root: [7; 32],
        }
    }

    #[test]
    fn the_identity_is_kept_and_another_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Signer::load(directory.path()).unwrap().is_none());
        let made = Signer::create(directory.path()).unwrap();
        let kept = Signer::load(directory.path()).unwrap().unwrap();
        assert_eq!(kept.name(), made.name());

        let other = tempfile::tempdir().unwrap();
        Signer::create(other.path()).unwrap();
        fs::copy(other.path().join(KEY), directory.path().join(KEY)).unwrap();
        let refused = Signer::load(directory.path()).unwrap_err();
        assert_eq!(refused.kind, OpenErrorKind::Integrity);
    }

    #[test]
    fn the_next_key_takes_over_and_the_old_one_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path();
        let mut signer = Signer::create(log).unwrap();
        let old_text = fs::read_to_string(log.join(KEY)).unwrap();
        let held = fs::File::open(log.join(KEY)).unwrap();
        signer.publish(log, checkpoint(), false).unwrap();
        let (public, old) = signer.prepare_next(log).unwrap();
        let mode = fs::metadata(log.join(NEXT)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        signer.take_next(log).unwrap();

        let kept = Signer::load(log).unwrap().unwrap();
        assert_eq!(kept.key().public(kept.name()).text(), public);
        assert!(!log.join(NEXT).exists());
        assert!(log.join(format!("keys/{old}.pub")).exists());
        assert_eq!(
            kept.last(log).unwrap(),
            Some(checkpoint()),
            "what the old one signed stays valid"
        );
        let rest = io::read_to_string(held).unwrap();
        assert!(rest.bytes().all(|byte| byte == 0), "the old key is wiped");
        assert!(!old_text.is_empty());
        let first = fs::read_to_string(log.join(FIRST_PUBLIC_KEY)).unwrap();
        assert!(first.contains(&old), "the log is known by its first key");
    }

    #[test]
    fn an_interrupted_change_is_completed_only_when_it_was_announced() {
        for announced in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let log = directory.path();
            let signer = Signer::create(log).unwrap();
            let (public, _) = signer.prepare_next(log).unwrap();
            let mut signer = Signer::load(log).unwrap().unwrap();
            signer
                .settle(log, announced.then_some(public.as_str()), checkpoint)
                .unwrap();
            let now = signer.key().public(signer.name()).text();
            assert_eq!(now == public, announced);
            assert!(!log.join(NEXT).exists());
            assert_eq!(log.join("checkpoints/7").exists(), announced);
        }
    }
}
