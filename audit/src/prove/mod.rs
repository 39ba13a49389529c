//! Makes proofs from a log's files: that a record is in it, and that it only grew.
//!
//! A directory and a place or two sizes in, hashes with a signed checkpoint out. Needs no key and
//! no daemon; changes nothing. Each proof is checked before it is given out, so that damaged files
//! give an error and never a proof that fails elsewhere.

mod hashes;
mod leaves;

use std::{
    io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use thiserror::Error;

use crate::{
    RecordId,
    verify::{
        VerifyError, check_consistency, check_inclusion, hash_text,
        note::{MAX_NOTE, Note},
        store::{Store, pruned, read_bounded},
        tree::{Hash, leaf_hash},
    },
};
use hashes::Hashes;
pub use leaves::Leaves;

/// A proof that a record is in the log: C2SP tlog-proof.
#[derive(Clone, Debug)]
pub struct Inclusion {
    /// The record's place.
    pub seq: u64,
    /// The record, exactly as it was hashed.
    pub leaf: Vec<u8>,
    hashes: Vec<Hash>,
    note: Note,
}

/// A proof that the log of one size begins with the log of another.
#[derive(Clone, Debug)]
pub struct Consistency {
    /// The smaller size.
    pub old: u64,
    hashes: Vec<Hash>,
    note: Note,
}

/// Why there is no proof.
#[derive(Debug, Error)]
#[error("nothing proven: {message}")]
pub struct ProveError {
    /// What, why, and what to do.
    pub message: String,
}

/// A proof for machines: hashes are base64.
#[derive(Debug, Serialize)]
struct Parts<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    old_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaf: Option<String>,
    size: u64,
    root: String,
    hashes: Vec<String>,
    checkpoint: &'a str,
}

/// Proves that record `seq` is in the log in `directory`, by its newest checkpoint.
///
/// # Errors
/// [`ProveError`]: there is no such record, no checkpoint covers it yet, or files are damaged.
pub fn inclusion(directory: &Path, seq: u64) -> Result<Inclusion, ProveError> {
    let note = newest(directory)?;
    if seq >= note.size {
        return Err(ProveError::new(format!(
            "the checkpoint covers {} records, so not record {seq}: it is covered a second after \
             it was written, if there is such a record",
            note.size
        )));
    }
    let store = Store::open(directory)?;
    if seq < store.minimum {
        return Err(ProveError::new(format!(
            "record {seq} was pruned: the log begins at record {}",
            store.minimum
        )));
    }
    let mut hashes = Hashes::new(store)?;
    let leaf = Leaves::from(directory, seq)
        .next()
        .ok_or_else(|| damaged(&format!("record {seq} is missing")))??
        .1;
    let path = hashes.inclusion(seq, note.size)?;
    let whole = check_inclusion(&leaf_hash(&leaf), seq, note.size, &path, &note.root);
    if !whole {
        return Err(damaged("the hashes do not lead to the checkpoint's root"));
    }
    Ok(Inclusion {
        seq,
        leaf,
        hashes: path,
        note,
    })
}

/// Proves that the log of `new` records begins with the `old` ones. For `new` there has to be a
/// checkpoint: the newest (`None`), or one of the history.
///
/// # Errors
/// [`ProveError`]: there is no such checkpoint, or files are damaged.
pub fn consistency(
    directory: &Path,
    old: u64,
    new: Option<u64>,
) -> Result<Consistency, ProveError> {
    let note = match new {
        None => newest(directory)?,
        Some(size) => checkpoint_of(directory, size)?,
    };
    consistency_to(directory, old, note)
}

/// As [`consistency`], to a checkpoint that is at hand as text.
///
/// # Errors
/// As [`consistency`].
pub fn consistency_with(
    directory: &Path,
    old: u64,
    checkpoint: &str,
) -> Result<Consistency, ProveError> {
    let note =
        Note::parse(checkpoint).map_err(|why| ProveError::new(format!("the checkpoint {why}")))?;
    consistency_to(directory, old, note)
}

fn consistency_to(directory: &Path, old: u64, note: Note) -> Result<Consistency, ProveError> {
    if old > note.size {
        return Err(ProveError::new(format!(
            "{old} is larger than {}: name the older size first",
            note.size
        )));
    }
    let mut hashes = Hashes::new(Store::open(directory)?)?;
    let path = hashes.consistency(old, note.size)?;
    let old_root = hashes.root(old)?;
    if !check_consistency(old, note.size, &old_root, &note.root, &path) {
        return Err(damaged("the hashes do not lead to the checkpoint's root"));
    }
    Ok(Consistency {
        old,
        hashes: path,
        note,
    })
}

/// Text of the newest checkpoint of the log in `directory`.
///
/// # Errors
/// [`ProveError`] when there is none.
pub fn checkpoint(directory: &Path) -> Result<String, ProveError> {
    Ok(newest(directory)?.text().to_owned())
}

/// Size that the text of a checkpoint states; `None` when it is none.
pub fn checkpoint_size(text: &str) -> Option<u64> {
    Note::parse(text).ok().map(|note| note.size)
}

/// The first record that is still there; the ones before it were pruned.
///
/// # Errors
/// [`io::Error`] when the log cannot be read.
pub fn minimum(directory: &Path) -> io::Result<u64> {
    pruned(directory).map_err(io::Error::other)
}

/// Place of the record with an id, looked for from the newest segment back.
///
/// # Errors
/// [`ProveError`]: there is none, or the log cannot be read.
pub fn seq_of(directory: &Path, id: RecordId) -> Result<u64, ProveError> {
    let needle = format!("\"id\":\"{id}\"");
    let store = Store::open(directory)?;
    let end = newest(directory)?.size.max(store.sealed);
    let mut until = u64::MAX;
    let mut from = end.saturating_sub(STEP).max(store.minimum);
    loop {
        for leaf in Leaves::from(directory, from) {
            let (seq, leaf) = leaf?;
            if seq >= until {
                break;
            }
            // Quotes within a text are escaped in a leaf: this can only be the field itself.
            if memchr::memmem::find(&leaf, needle.as_bytes()).is_some() {
                return Ok(seq);
            }
        }
        if from <= store.minimum {
            return Err(ProveError::new(format!(
                "there is no record {id} in the log; `cordon audit tail` shows the newest"
            )));
        }
        until = from;
        from = from.saturating_sub(STEP).max(store.minimum);
    }
}

/// Records that are looked through at a time.
const STEP: u64 = 65_536;

impl Inclusion {
    /// As a C2SP tlog-proof; the record is its extra data, so that the file stands by itself.
    pub fn to_text(&self) -> String {
        format!(
            "c2sp.org/tlog-proof@v1\nextra {}\nindex {}\n{}\n{}",
            STANDARD.encode(&self.leaf),
            self.seq,
            lines(&self.hashes),
            self.note.text()
        )
    }

    /// For machines.
    ///
    /// # Errors
    /// Never in practice: there is nothing in it that JSON cannot hold.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Parts {
            old_size: None,
            index: Some(self.seq),
            leaf: Some(STANDARD.encode(&self.leaf)),
            ..Parts::of(&self.note, &self.hashes)
        })
    }
}

impl Consistency {
    /// As the request `add-checkpoint` of a C2SP tlog-witness has it: old size, hashes, new
    /// checkpoint.
    pub fn to_text(&self) -> String {
        format!(
            "old {}\n{}\n{}",
            self.old,
            lines(&self.hashes),
            self.note.text()
        )
    }

    /// For machines.
    ///
    /// # Errors
    /// Never in practice: there is nothing in it that JSON cannot hold.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Parts {
            old_size: Some(self.old),
            ..Parts::of(&self.note, &self.hashes)
        })
    }
}

impl<'a> Parts<'a> {
    fn of(note: &'a Note, hashes: &[Hash]) -> Self {
        Self {
            old_size: None,
            index: None,
            leaf: None,
            size: note.size,
            root: hash_text(&note.root),
            hashes: hashes.iter().map(hash_text).collect(),
            checkpoint: note.text(),
        }
    }
}

impl ProveError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl From<VerifyError> for ProveError {
    fn from(error: VerifyError) -> Self {
        Self::new(format!("`{}`: {}", error.path.display(), error.message))
    }
}

fn newest(directory: &Path) -> Result<Note, ProveError> {
    let path = directory.join("checkpoint");
    let help = "the log writes one a second after its first record";
    let newest = read_note(&path)?.ok_or_else(|| {
        ProveError::new(format!(
            "there is no checkpoint `{}`: {help}",
            path.display()
        ))
    })?;
    // The history's copy carries the cosignatures that witnesses have added since.
    let kept = read_note(&history(directory, newest.size))?;
    Ok(kept.map_or_else(|| newest.clone(), |kept| newest.with_signatures_of(&kept)))
}

fn checkpoint_of(directory: &Path, size: u64) -> Result<Note, ProveError> {
    if let Some(note) = read_note(&history(directory, size))? {
        return Ok(note);
    }
    let newest = newest(directory)?;
    if newest.size == size {
        return Ok(newest);
    }
    Err(ProveError::new(format!(
        "there is no checkpoint of size {size}: the newest covers {}, `checkpoints/` holds older \
         ones",
        newest.size
    )))
}

/// Where the checkpoint of a size is kept.
pub(crate) fn history(directory: &Path, size: u64) -> PathBuf {
    directory.join("checkpoints").join(size.to_string())
}

fn read_note(path: &Path) -> Result<Option<Note>, ProveError> {
    let fail = |why: &str| ProveError::new(format!("`{}` {why}", path.display()));
    let Some(bytes) = read_bounded(path, MAX_NOTE).map_err(|error| fail(&error.to_string()))?
    else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|_| fail("is not text"))?;
    Note::parse(&text).map(Some).map_err(fail)
}

fn damaged(what: &str) -> ProveError {
    ProveError::new(format!(
        "{what}: run `cordon audit verify`, the log is damaged"
    ))
}

fn lines(hashes: &[Hash]) -> String {
    hashes.iter().map(|hash| hash_text(hash) + "\n").collect()
}

#[cfg(test)]
mod tests;
