//! Signed checkpoints (C2SP tlog-checkpoint in a C2SP signed note): made, put in place, read back.
//!
//! Writer's side only: [`crate::verify`] reads notes by itself.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    files,
    keys::{Key, PublicKey},
    log::OpenError,
    merkle::Hash,
};

pub(crate) use crate::keys::Signer;

/// What a checkpoint states.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Checkpoint {
    pub(crate) size: u64,
    pub(crate) root: Hash,
}

/// Name of the checkpoint file in the log's directory.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// Directory of the checkpoints that are kept, each under its size.
const HISTORY: &str = "checkpoints";

impl Signer {
    /// Signs a checkpoint and puts it in place of the last one; `keep` keeps it for good as well.
    pub(crate) fn publish(&self, log: &Path, checkpoint: Checkpoint, keep: bool) -> io::Result<()> {
        let note = checkpoint.sign(self.name(), self.key());
        let path = kept(log, checkpoint.size);
        // The first of its size stays: at a change of keys that is the old key's, which vouches
        // for the new one.
        if keep && !path.exists() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(files::parent(&path))?;
            files::replace(&path, note.as_bytes())?;
        }
        files::replace(&log.join(CHECKPOINT), note.as_bytes())
    }

    /// Reads the last checkpoint and checks that this log signed it; `None` when there is none.
    pub(crate) fn last(&self, log: &Path) -> Result<Option<Checkpoint>, OpenError> {
        let path = log.join(CHECKPOINT);
        let read = files::read_small(&path, 16 * 1024);
        let Some(note) = read.map_err(|error| OpenError::io(&path, "read", &error))? else {
            return Ok(None);
        };
        let note = String::from_utf8(note).unwrap_or_default();
        // Between two keys, the one before may have signed last.
        let mut keys = vec![self.key().public(self.name())];
        keys.extend(self.public_keys(log)?);
        keys.iter()
            .find_map(|key| Checkpoint::open(&note, key))
            .map(Some)
            .ok_or_else(|| {
                OpenError::integrity(format!("`{}` is not signed by this log", path.display()))
            })
    }
}

impl Checkpoint {
    fn sign(&self, name: &str, key: &Key) -> String {
        let body = format!("{name}\n{}\n{}\n", self.size, STANDARD.encode(self.root));
        let mut signature = key.public(name).id().to_vec();
        signature.extend_from_slice(&key.sign(body.as_bytes()));
        format!("{body}\n\u{2014} {name} {}\n", STANDARD.encode(signature))
    }

    fn open(note: &str, key: &PublicKey) -> Option<Self> {
        let (body, signatures) = note.split_once("\n\n")?;
        let prefix = format!("\u{2014} {} ", key.name());
        let signed = signatures
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix))
            .filter_map(|signature| STANDARD.decode(signature).ok())
            .any(|signature| {
                signature
                    .strip_prefix(&key.id())
                    .and_then(|signature| signature.try_into().ok())
                    .is_some_and(|signature| key.signed(format!("{body}\n").as_bytes(), signature))
            });
        let mut lines = body.lines();
        let (name, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let root = STANDARD.decode(root).ok()?.try_into().ok()?;
        (signed && name == key.name()).then_some(Self {
            size: size.parse().ok()?,
            root,
        })
    }
}

fn kept(log: &Path, size: u64) -> PathBuf {
    log.join(HISTORY).join(size.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::OpenErrorKind;

    #[test]
    fn a_checkpoint_comes_back_and_a_changed_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path();
        let signer = Signer::create(log).unwrap();
        let checkpoint = Checkpoint {
            size: 70_000,
            root: [9; 32],
        };
        signer.publish(log, checkpoint, true).unwrap();
        assert_eq!(signer.last(log).unwrap(), Some(checkpoint));
        let path = log.join(CHECKPOINT);
        let note = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            note,
            std::fs::read_to_string(kept(log, 70_000)).unwrap(),
            "the kept one is the same"
        );

        std::fs::write(&path, note.replace("70000", "70001")).unwrap();
        let refused = signer.last(log).unwrap_err();
        assert_eq!(refused.kind, OpenErrorKind::Integrity);
    }
}
