//! Opens signed notes (C2SP signed-note, Ed25519) that carry a checkpoint (C2SP tlog-checkpoint).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Whose signature counts.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    /// The origin that journals carry.
    pub(super) origin: [u8; 16],
    id: [u8; 4],
    key: VerifyingKey,
}

/// A checkpoint whose signature is good.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) size: u64,
    pub(super) root: String,
}

impl Key {
    /// Reads `name+id+key`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('+')?;
        let (id, key) = rest.split_once('+')?;
        let eight = id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = u32::from_str_radix(id, 16)
            .ok()
            .filter(|_| eight)?
            .to_be_bytes();
        let key = STANDARD.decode(key).ok()?;
        let (algorithm, bytes) = key.split_first()?;
        let hash = Sha256::digest([name.as_bytes(), b"\n", &key].concat());
        if *algorithm != 1 || !hash.starts_with(&id) {
            return None;
        }
        Some(Self {
            name: name.into(),
            origin: name
                .strip_prefix("cordon/")?
                .parse::<Uuid>()
                .ok()?
                .into_bytes(),
            id,
            key: VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()?,
        })
    }

    /// Opens a note; says what is wrong with it, as the rest of a sentence.
    pub(super) fn open(&self, text: &str) -> Result<Note, &'static str> {
        // The last empty line ends the text; the text ends with its line feed.
        let split = text.rfind("\n\n").ok_or("is no signed note")?;
        let (body, signatures) = text.split_at(split + 1);
        let mut lines = body.lines();
        let (Some(name), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err("is no checkpoint");
        };
        if name != self.name {
            return Err("is of another log");
        }
        if !signatures.lines().any(|line| self.signed(body, line)) {
            return Err("is not signed with the log's key");
        }
        let plain = !size.starts_with('+') && (size == "0" || !size.starts_with('0'));
        match size.parse() {
            Ok(size) if plain => Ok(Note {
                size,
                root: root.into(),
            }),
            Ok(_) | Err(_) => Err("states no size"),
        }
    }

    fn signed(&self, body: &str, line: &str) -> bool {
        let signature = || {
            let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
            let bytes = STANDARD.decode(signature).ok()?;
            let (id, signature) = bytes.split_first_chunk::<4>()?;
            let ours = name == self.name && *id == self.id;
            ours.then(|| Signature::from_slice(signature).ok())?
        };
        signature()
            .is_some_and(|signature| self.key.verify_strict(body.as_bytes(), &signature).is_ok())
    }
}
