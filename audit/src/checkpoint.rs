//! Who the log is, and its signed checkpoints (C2SP tlog-checkpoint in a C2SP signed note).
//!
//! Writer's side only: [`crate::verify`] reads notes by itself. Both key files are as the `note`
//! package of Go's checksum database reads them, so that others' tools verify ours.

use std::{io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey, Verifier as _};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    draft::hex,
    files,
    log::{OpenError, OpenErrorKind},
    merkle::Hash,
};

/// The log's identity for life: its origin and the key it signs with.
#[derive(Debug)]
pub(crate) struct Signer {
    origin: Uuid,
    name: String,
    key: SigningKey,
}

/// What a checkpoint states.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Checkpoint {
    pub(crate) size: u64,
    pub(crate) root: Hash,
}

/// Name of the checkpoint file in the log's directory.
pub(crate) const CHECKPOINT: &str = "checkpoint";
const KEY: &str = "log.key";
const PUBLIC_KEY: &str = "log.pub";

/// Ed25519 in a signed note.
const ALGORITHM: u8 = 1;

impl Signer {
    /// Reads the identity kept in `directory`; `None` when there is none.
    pub(crate) fn load(directory: &Path) -> Result<Option<Self>, OpenError> {
        let path = directory.join(KEY);
        let read = files::read_small(&path, 4096);
        let Some(text) = read.map_err(|error| OpenError::io(&path, "read", &error))? else {
            return Ok(None);
        };
        let invalid = || {
            OpenError::new(
                OpenErrorKind::Integrity,
                format!(
                    "`{}` is not the log's key: put the file back as it was, or move the whole \
                     directory aside to start a new log",
                    path.display()
                ),
            )
        };
        let signer = Self::parse(&text).ok_or_else(invalid)?;
        signer.write_public_key(directory)?;
        Ok(Some(signer))
    }

    /// Makes a new identity, durable before it returns.
    pub(crate) fn create(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join(KEY);
        let fail = |error| OpenError::io(&path, "made", &error);
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| fail(io::Error::other(error)))?;
        let origin = Uuid::now_v7();
        let signer = Self {
            origin,
            name: format!("cordon/{origin}"),
            key: SigningKey::from_bytes(&seed),
        };
        files::replace(&path, signer.secret_text().as_bytes()).map_err(fail)?;
        signer.write_public_key(directory)?;
        Ok(signer)
    }

    pub(crate) fn origin(&self) -> [u8; 16] {
        self.origin.into_bytes()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Signs a checkpoint and puts it in place of the last one.
    pub(crate) fn publish(&self, directory: &Path, checkpoint: Checkpoint) -> io::Result<()> {
        let note = self.sign(checkpoint);
        files::replace(&directory.join(CHECKPOINT), note.as_bytes())
    }

    /// Reads the last checkpoint and checks that this log signed it; `None` when there is none.
    pub(crate) fn last(&self, directory: &Path) -> Result<Option<Checkpoint>, OpenError> {
        let path = directory.join(CHECKPOINT);
        let read = files::read_small(&path, 16 * 1024);
        let Some(note) = read.map_err(|error| OpenError::io(&path, "read", &error))? else {
            return Ok(None);
        };
        let checkpoint = std::str::from_utf8(&note)
            .ok()
            .and_then(|note| self.check(note));
        checkpoint.map(Some).ok_or_else(|| {
            OpenError::integrity(format!("`{}` is not signed by this log", path.display()))
        })
    }

    fn sign(&self, checkpoint: Checkpoint) -> String {
        let body = format!(
            "{}\n{}\n{}\n",
            self.name,
            checkpoint.size,
            STANDARD.encode(checkpoint.root)
        );
        let mut signature = self.key_id().to_vec();
        signature.extend_from_slice(&self.key.sign(body.as_bytes()).to_bytes());
        format!(
            "{body}\n\u{2014} {} {}\n",
            self.name,
            STANDARD.encode(signature)
        )
    }

    fn check(&self, note: &str) -> Option<Checkpoint> {
        let (body, signatures) = note.split_once("\n\n")?;
        let prefix = format!("\u{2014} {} ", self.name);
        let signature = signatures
            .lines()
            .find_map(|line| line.strip_prefix(&prefix))?;
        let signature = STANDARD.decode(signature).ok()?;
        let signature = signature.strip_prefix(&self.key_id())?.try_into().ok()?;
        let verifying = self.key.verifying_key();
        verifying
            .verify(format!("{body}\n").as_bytes(), &signature)
            .ok()?;
        let mut lines = body.lines();
        let (name, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let root = STANDARD.decode(root).ok()?.try_into().ok()?;
        (name == self.name).then_some(Checkpoint {
            size: size.parse().ok()?,
            root,
        })
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim_end();
        let mut parts = text.strip_prefix("PRIVATE+KEY+")?.splitn(3, '+');
        let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
        let origin = name.strip_prefix("cordon/")?.parse().ok()?;
        let key = STANDARD.decode(key).ok()?;
        let seed: [u8; 32] = key.strip_prefix(&[ALGORITHM])?.try_into().ok()?;
        let signer = Self {
            origin,
            name: name.into(),
            key: SigningKey::from_bytes(&seed),
        };
        (hex(&signer.key_id()) == id).then_some(signer)
    }

    fn secret_text(&self) -> String {
        let key = [&[ALGORITHM], self.key.as_bytes().as_slice()].concat();
        let (name, id) = (&self.name, hex(&self.key_id()));
        format!("PRIVATE+KEY+{name}+{id}+{}\n", STANDARD.encode(key))
    }

    fn public_text(&self) -> String {
        let key = [&[ALGORITHM], self.key.verifying_key().as_bytes().as_slice()].concat();
        let (name, id) = (&self.name, hex(&self.key_id()));
        format!("{name}+{id}+{}\n", STANDARD.encode(key))
    }

    fn write_public_key(&self, directory: &Path) -> Result<(), OpenError> {
        let path = directory.join(PUBLIC_KEY);
        let fail = |error| OpenError::io(&path, "written", &error);
        let text = self.public_text();
        match files::read_small(&path, 4096).map_err(fail)? {
            None => files::replace(&path, text.as_bytes()).map_err(fail),
            Some(kept) if kept == text.as_bytes() => Ok(()),
            Some(_) => Err(OpenError::integrity(format!(
                "`{}` is not the public half of the log's key",
                path.display()
            ))),
        }
    }

    fn key_id(&self) -> [u8; 4] {
        let hash: Hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ALGORITHM])
            .chain_update(self.key.verifying_key().as_bytes())
            .finalize()
            .into();
        let [a, b, c, d, ..] = hash;
        [a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_and_a_changed_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let signer = Signer::create(directory.path()).unwrap();
        let checkpoint = Checkpoint {
            size: 70_000,
            root: [9; 32],
        };
        signer.publish(directory.path(), checkpoint).unwrap();
        assert_eq!(signer.last(directory.path()).unwrap(), Some(checkpoint));

        let path = directory.path().join(CHECKPOINT);
        let note = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, note.replace("70000", "70001")).unwrap();
        let refused = signer.last(directory.path()).unwrap_err();
        assert_eq!(refused.kind, OpenErrorKind::Integrity);
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
        std::fs::copy(other.path().join(KEY), directory.path().join(KEY)).unwrap();
        let refused = Signer::load(directory.path()).unwrap_err();
        assert_eq!(refused.kind, OpenErrorKind::Integrity);
    }
}
