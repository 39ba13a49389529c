//! Verifies a single proof file with a public key alone: that one record is in the log (C2SP
//! tlog-proof), or that the log only grew from one checkpoint to another.
//!
//! Text in, a [`ProofReport`] out. Reads no log.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use super::{
    hash_from_text,
    note::{Key, Note},
    tree::{Hash, leaf_hash, node},
};

/// What a proof proves.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "proof")]
pub enum ProofReport {
    /// A record is in the log.
    Inclusion {
        /// The log's name.
        origin: String,
        /// The record's place.
        seq: u64,
        /// Size of the log that the checkpoint covers.
        size: u64,
        /// The record itself, exactly as it was hashed.
        record: String,
    },
    /// The log that the new checkpoint covers begins with all that the old one covers.
    Consistency {
        /// The log's name.
        origin: String,
        /// Size that the old checkpoint covers.
        old_size: u64,
        /// Size that the new one covers.
        new_size: u64,
    },
}

/// First line of a C2SP tlog-proof.
pub(crate) const PROOF_LINE: &str = "c2sp.org/tlog-proof@v1";

const NO_KEY: &str = "the key is no Ed25519 key of a signed note (`name+id+key`): name the right \
                      one with `--key`";

/// Most hashes that a proof can have.
const MAX_HASHES: usize = 63;

/// Verifies a proof file: of inclusion, or of consistency with `against`, the old checkpoint.
/// `key` is the key that signed, or several of the log's keys, one a line.
///
/// # Errors
/// Says what is wrong with the proof, the key or the old checkpoint.
pub fn verify_proof(text: &str, key: &str, against: Option<&str>) -> Result<ProofReport, String> {
    let keys = Key::parse_all(key).ok_or(NO_KEY)?;
    let (head, checkpoint) = text
        .split_once("\n\n")
        .ok_or("the proof has no checkpoint")?;
    let note = open(&keys, checkpoint).map_err(|why| {
        format!("the checkpoint in the proof {why}; the log's keys of all times lie in `keys/`")
    })?;
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    if first == PROOF_LINE {
        inclusion(lines.collect(), &note)
    } else if let Some(old) = first.strip_prefix("old ") {
        let against = against.ok_or(
            "a proof of consistency is from an old checkpoint to a new one: name the old one with \
             `--against FILE`",
        )?;
        let old_note = open(&keys, against)
            .map_err(|why| format!("the checkpoint to verify against {why}"))?;
        let old = number(old).ok_or("the proof does not say from which size it is")?;
        if old != old_note.size {
            let size = old_note.size;
            return Err(format!(
                "the proof is from size {old}, the old checkpoint covers {size}"
            ));
        }
        let hashes = hashes(lines)?;
        if !check_consistency(old, note.size, &old_note.root, &note.root, &hashes) {
            return Err(format!(
                "the log of {} records does not begin with the {old} records that the old \
                 checkpoint covers: it was changed, replaced or rolled back",
                note.size
            ));
        }
        Ok(ProofReport::Consistency {
            origin: note.origin.clone(),
            old_size: old,
            new_size: note.size,
        })
    } else {
        Err("it is no proof: it begins neither with `c2sp.org/tlog-proof@v1` nor with `old`".into())
    }
}

/// Opens a checkpoint with the key that signed it.
fn open(keys: &[Key], text: &str) -> Result<Note, &'static str> {
    let mut why = "is not signed with a key that was given";
    for key in keys {
        match key.open(text) {
            Ok(note) => return Ok(note),
            Err(problem) => why = problem,
        }
    }
    Err(why)
}

fn inclusion(lines: Vec<&str>, note: &Note) -> Result<ProofReport, String> {
    let mut lines = lines.into_iter();
    let record = lines
        .next()
        .and_then(|line| line.strip_prefix("extra "))
        .and_then(|text| STANDARD.decode(text).ok())
        .ok_or("the proof does not carry its record (line `extra`)")?;
    let seq = lines
        .next()
        .and_then(|line| number(line.strip_prefix("index ")?))
        .ok_or("the proof does not say which record it is of (line `index`)")?;
    let hashes = hashes(lines)?;
    if !check_inclusion(&leaf_hash(&record), seq, note.size, &hashes, &note.root) {
        return Err(format!(
            "this record is not record {seq} of the {} that the checkpoint covers",
            note.size
        ));
    }
    let record = String::from_utf8(record).map_err(|_| "the record is not text")?;
    Ok(ProofReport::Inclusion {
        origin: note.origin.clone(),
        seq,
        size: note.size,
        record,
    })
}

fn hashes<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Hash>, String> {
    let hashes: Option<Vec<Hash>> = lines.take(MAX_HASHES + 1).map(hash_from_text).collect();
    hashes
        .filter(|hashes| hashes.len() <= MAX_HASHES)
        .ok_or_else(|| "a line of the proof is no SHA-256 hash, or there are too many".into())
}

fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// Whether `hashes` lead from a leaf to the root of a tree. Source: RFC 9162 section 2.1.3.2.
pub(crate) fn check_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    hashes: &[Hash],
    root: &Hash,
) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in hashes {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `hashes` show that the tree of `new` entries begins with the one of `old`. Source:
/// RFC 9162 section 2.1.4.2.
pub(crate) fn check_consistency(
    old: u64,
    new: u64,
    old_root: &Hash,
    new_root: &Hash,
    hashes: &[Hash],
) -> bool {
    if old > new {
        return false;
    }
    if old == new {
        return hashes.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return hashes.is_empty() && *old_root == super::tree::root_of(&[]);
    }
    // A complete old tree is itself the first hash, which is left out then.
    let mut path: Vec<Hash> = Vec::with_capacity(hashes.len() + 1);
    if old.is_power_of_two() {
        path.push(*old_root);
    }
    path.extend_from_slice(hashes);
    let Some((first, rest)) = path.split_first() else {
        return false;
    };
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old_hash = node(sibling, &old_hash);
            new_hash = node(sibling, &new_hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node(&new_hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}
