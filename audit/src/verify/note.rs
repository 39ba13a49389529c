//! Opens signed notes (C2SP signed-note, Ed25519) that carry a checkpoint (C2SP tlog-checkpoint),
//! and the cosignatures of witnesses (C2SP tlog-cosignature).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::tree::Hash;

/// Whose signature counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Key {
    pub(crate) name: String,
    id: [u8; 4],
    algorithm: u8,
    key: VerifyingKey,
}

/// A checkpoint: what it states, and the text that its signatures are over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Note {
    pub(crate) origin: String,
    pub(crate) size: u64,
    pub(crate) root: Hash,
    text: String,
    body_end: usize,
}

/// A signature of a note in general.
const ED25519: u8 = 1;

/// A timestamped cosignature of a witness.
const COSIGNATURE: u8 = 4;

/// Largest note that is read.
pub(crate) const MAX_NOTE: u64 = 64 * 1024;

impl Key {
    /// Reads the key of a log, `name+id+key`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::parse_as(text, ED25519)
    }

    /// Reads several keys of a log, one a line; `None` when there is none, or one is none.
    pub(crate) fn parse_all(text: &str) -> Option<Vec<Self>> {
        let keys: Option<Vec<Self>> = text.lines().map(Self::parse).collect();
        keys.filter(|keys| !keys.is_empty())
    }

    /// Reads the key of a witness.
    pub(crate) fn parse_witness(text: &str) -> Option<Self> {
        Self::parse_as(text, COSIGNATURE)
    }

    fn parse_as(text: &str, wanted: u8) -> Option<Self> {
        let (name, rest) = text.trim_end().split_once('+')?;
        let (id, key) = rest.split_once('+')?;
        let eight = id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = u32::from_str_radix(id, 16)
            .ok()
            .filter(|_| eight)?
            .to_be_bytes();
        let key = STANDARD.decode(key).ok()?;
        let (algorithm, bytes) = key.split_first()?;
        let hash = Sha256::digest([name.as_bytes(), b"\n", &key].concat());
        if *algorithm != wanted || !hash.starts_with(&id) || name.is_empty() {
            return None;
        }
        Some(Self {
            name: name.into(),
            id,
            algorithm: wanted,
            key: VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()?,
        })
    }

    /// The origin that journals carry, where the name is one of ours.
    pub(crate) fn origin(&self) -> Option<[u8; 16]> {
        let uuid: Uuid = self.name.strip_prefix("cordon/")?.parse().ok()?;
        Some(uuid.into_bytes())
    }

    /// Its id as file names and records spell it.
    pub(crate) fn id_text(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(self.id))
    }

    /// Opens a note; says what is wrong with it, as the rest of a sentence.
    pub(crate) fn open(&self, text: &str) -> Result<Note, &'static str> {
        let note = Note::parse(text)?;
        if note.origin != self.name {
            return Err("is of another log");
        }
        if !self.signed(&note) {
            return Err("is not signed with the log's key");
        }
        Ok(note)
    }

    /// Whether this key signed the note.
    pub(crate) fn signed(&self, note: &Note) -> bool {
        self.signed_text(note.body(), note.signatures())
    }

    /// Whether this key signed `body` in one of the lines of `signatures`.
    pub(crate) fn signed_text(&self, body: &str, signatures: &str) -> bool {
        signatures
            .lines()
            .any(|line| self.line(body, line) == Some(true))
    }

    fn line(&self, body: &str, line: &str) -> Option<bool> {
        let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let bytes = STANDARD.decode(signature).ok()?;
        let (id, signature) = bytes.split_first_chunk::<4>()?;
        if name != self.name || *id != self.id {
            return None;
        }
        if self.algorithm == ED25519 {
            let signature = Signature::from_slice(signature).ok()?;
            return Some(self.key.verify_strict(body.as_bytes(), &signature).is_ok());
        }
        let (time, signature) = signature.split_first_chunk::<8>()?;
        let time = u64::from_be_bytes(*time);
        let signature = Signature::from_slice(signature).ok()?;
        let message = format!("cosignature/v1\ntime {time}\n{body}");
        Some(
            self.key
                .verify_strict(message.as_bytes(), &signature)
                .is_ok(),
        )
    }
}

impl Note {
    /// Reads a checkpoint without asking who signed it; says what is wrong with it, as the rest
    /// of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        // The last empty line ends the text; the text ends with its line feed.
        let split = text.rfind("\n\n").ok_or("is no signed note")?;
        let (body, _) = text.split_at(split + 1);
        let mut lines = body.lines();
        let (Some(name), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err("is no checkpoint");
        };
        let plain =
            size.bytes().all(|b| b.is_ascii_digit()) && (size == "0" || !size.starts_with('0'));
        let size = size.parse().ok().filter(|_| plain);
        let root = STANDARD.decode(root).ok().and_then(|b| b.try_into().ok());
        Ok(Self {
            origin: name.into(),
            size: size.ok_or("states no size")?,
            root: root.ok_or("states no root")?,
            text: text.into(),
            body_end: split + 1,
        })
    }

    /// This note with the signatures of another one over the same text beside its own.
    pub(crate) fn with_signatures_of(&self, other: &Self) -> Self {
        let mut note = self.clone();
        if other.body() == self.body() {
            for line in other.signatures().lines() {
                if self.signatures().lines().all(|own| own != line) {
                    note.text.push_str(line);
                    note.text.push('\n');
                }
            }
        }
        note
    }

    /// What signatures are over.
    pub(crate) fn body(&self) -> &str {
        self.text.get(..self.body_end).unwrap_or_default()
    }

    /// The lines with signatures.
    pub(crate) fn signatures(&self) -> &str {
        self.text.get(self.body_end + 1..).unwrap_or_default()
    }

    /// All of it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}
