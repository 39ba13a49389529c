//! Verifies a log offline. Shares no code with the writer.
//!
//! Files in, a [`Report`] out: whether every record is intact, whether all that a checkpoint
//! covers is there, and which record is the first bad one. Needs only the public key; a verifier
//! who does not trust the log's host brings key and checkpoint from elsewhere.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

mod journal;
mod note;
mod tree;

use journal::{Fault, Journal};
use note::{Key, Note};
use tree::Tree;

/// What verifying found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The log's name, as its key carries it.
    pub origin: String,
    /// Intact records from the beginning, up to the first bad one or the end.
    pub records: u64,
    /// Root of the tree over them, base64 as in a checkpoint.
    pub root: String,
    /// Size that the log's own checkpoint states.
    pub checkpoint_size: Option<u64>,
    /// Size that the checkpoint brought from elsewhere states.
    pub against_size: Option<u64>,
    /// Whether what is there is as it was written.
    pub integrity: Integrity,
    /// Whether everything is there.
    pub completeness: Completeness,
    /// The first bad record.
    pub first_bad: Option<BadRecord>,
    /// Bytes after the last record that are no record: a write in progress, or one that a crash
    /// cut short. No fault by themselves.
    pub unfinished_bytes: u64,
}

/// Whether what is there is as it was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Integrity {
    /// It is: all that a checkpoint covers by its root, what is newer by its checksums alone.
    Intact,
    /// It is not.
    Broken,
}

/// Whether everything is there, judged by signed checkpoints.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// All that every checkpoint covers is there, and is what they cover.
    Complete,
    /// Less, or something else, is there than a checkpoint covers.
    Incomplete,
    /// No valid checkpoint says how much there should be.
    Unproven {
        /// Why not.
        reason: String,
    },
}

/// A bad record.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct BadRecord {
    /// Its place in the log. Where no stored hash tells it from its neighbours, the first of
    /// those that the failed checkpoint covers and an intact one does not.
    pub seq: u64,
    /// What is wrong.
    pub problem: String,
}

/// What to verify with. [`Default`] takes everything from the log's own directory.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The log's public key (`name+id+key`); the file `log.pub` if absent.
    pub public_key: Option<String>,
    /// Text of a checkpoint kept elsewhere: what it covers has to be there still.
    pub checkpoint: Option<String>,
}

/// Why nothing could be verified.
#[derive(Debug, Error)]
#[error("log not verified: `{path}`: {message}", path = path.display())]
pub struct VerifyError {
    /// The file.
    pub path: PathBuf,
    /// What, why, what to do.
    pub message: String,
}

impl Report {
    /// Whether the log is whole: intact, and complete by its checkpoints.
    pub fn is_clean(&self) -> bool {
        self.integrity == Integrity::Intact && self.completeness == Completeness::Complete
    }
}

/// Verifies the log in `directory` against its own key and checkpoint.
///
/// # Errors
/// [`VerifyError`] when its files cannot be read; anything wrong *in* them is in the report.
pub fn verify(directory: &Path) -> Result<Report, VerifyError> {
    verify_with(directory, &Evidence::default())
}

/// As [`verify`], and against a checkpoint that was kept elsewhere: shows a log that was rolled
/// back or replaced as a whole.
///
/// # Errors
/// As [`verify`].
pub fn verify_against(directory: &Path, checkpoint: &str) -> Result<Report, VerifyError> {
    verify_with(
        directory,
        &Evidence {
            checkpoint: Some(checkpoint.into()),
            ..Evidence::default()
        },
    )
}

/// As [`verify`], with key or checkpoint from elsewhere.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(directory: &Path, evidence: &Evidence) -> Result<Report, VerifyError> {
    let key = public_key(directory, evidence)?;
    // The checkpoint is read before the journals: a log that goes on meanwhile only has more.
    let (own, mut problem) = own_checkpoint(directory, &key)?;
    let against = match &evidence.checkpoint {
        None => None,
        Some(text) => match key.open(text) {
            Ok(note) => Some(note),
            Err(why) => {
                problem = Some(format!("the checkpoint to verify against {why}"));
                None
            }
        },
    };
    let expected: BTreeMap<u64, Vec<Note>> =
        own.iter()
            .chain(&against)
            .fold(BTreeMap::new(), |mut map, note| {
                map.entry(note.size).or_default().push(note.clone());
                map
            });
    let found = Scan::run(directory, &key, &expected)?;
    let covered = expected.keys().next_back().copied().unwrap_or_default();
    let first_bad = found.first_bad(directory, &expected)?;
    let incomplete = found.records < covered || found.wrong_root.is_some();
    Ok(Report {
        origin: key.name.clone(),
        records: found.records,
        root: found.root,
        checkpoint_size: own.as_ref().map(|note| note.size),
        against_size: against.as_ref().map(|note| note.size),
        integrity: if found.fault.is_some() || found.wrong_root.is_some() {
            Integrity::Broken
        } else {
            Integrity::Intact
        },
        completeness: match problem {
            Some(reason) => Completeness::Unproven { reason },
            None if incomplete => Completeness::Incomplete,
            None => Completeness::Complete,
        },
        first_bad,
        unfinished_bytes: found.unfinished_bytes,
    })
}

fn public_key(directory: &Path, evidence: &Evidence) -> Result<Key, VerifyError> {
    let path = directory.join("log.pub");
    let text = match &evidence.public_key {
        Some(text) => text.clone(),
        None => fs::read_to_string(&path).map_err(|error| VerifyError::io(&path, &error))?,
    };
    Key::parse(text.trim_end()).ok_or_else(|| VerifyError {
        path,
        message: "it is no Ed25519 key of a signed note (`name+id+key`): name the right one".into(),
    })
}

/// The log's own checkpoint, and why there is none that counts.
fn own_checkpoint(
    directory: &Path,
    key: &Key,
) -> Result<(Option<Note>, Option<String>), VerifyError> {
    let path = directory.join("checkpoint");
    match fs::read(&path) {
        Ok(bytes) => Ok(match key.open(&String::from_utf8_lossy(&bytes)) {
            Ok(note) => (Some(note), None),
            Err(why) => (None, Some(format!("the log's checkpoint {why}"))),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok((None, Some("the log's checkpoint is gone".into())))
        }
        Err(error) => Err(VerifyError::io(&path, &error)),
    }
}

/// One pass over all journals.
#[derive(Debug, Default)]
struct Scan {
    records: u64,
    root: String,
    /// The first fault in the files themselves.
    fault: Option<BadRecord>,
    /// The first checkpoint whose root is not that of its records, and the last one before it
    /// whose root is.
    wrong_root: Option<u64>,
    proven: u64,
    unfinished_bytes: u64,
    hashes: Vec<tree::Hash>,
}

impl Scan {
    fn run(
        directory: &Path,
        key: &Key,
        expected: &BTreeMap<u64, Vec<Note>>,
    ) -> Result<Self, VerifyError> {
        let mut scan = Self::default();
        let mut tree = Tree::default();
        let covered = expected.keys().next_back().copied().unwrap_or_default();
        let journals = journal::list(directory)?;
        scan.compare(&tree, expected);
        for (number, (first, path)) in journals.iter().enumerate() {
            let open = number + 1 == journals.len();
            let mut journal = Journal::open(path)?;
            if let Err(why) = journal.check_header(*first, scan.records, &key.origin) {
                scan.fault = Some(bad(scan.records, why));
                break;
            }
            match scan.read(&mut journal, &mut tree, expected) {
                Ok(()) => {}
                // Past all checkpoints, at the end of the last journal, and nothing synced after
                // it: what a crash leaves, or a write that is under way.
                Err(fault)
                    if open && scan.records >= covered && fault.may_be_unfinished(&journal) =>
                {
                    scan.unfinished_bytes = journal.rest();
                }
                Err(fault) => {
                    scan.fault = Some(bad(scan.records, fault.problem()));
                    break;
                }
            }
        }
        scan.root = tree.root_text();
        Ok(scan)
    }

    /// Takes the records of one journal.
    fn read(
        &mut self,
        journal: &mut Journal,
        tree: &mut Tree,
        expected: &BTreeMap<u64, Vec<Note>>,
    ) -> Result<(), Fault> {
        while let Some(leaf) = journal.next_record(self.records)? {
            let hash = tree::leaf_hash(leaf);
            tree.push(hash);
            self.hashes.push(hash);
            self.records += 1;
            self.compare(tree, expected);
        }
        Ok(())
    }

    /// Holds the tree against the checkpoints of its size.
    fn compare(&mut self, tree: &Tree, expected: &BTreeMap<u64, Vec<Note>>) {
        let Some(notes) = expected.get(&self.records) else {
            return;
        };
        let root = tree.root_text();
        if notes.iter().all(|note| note.root == root) {
            if self.wrong_root.is_none() {
                self.proven = self.records;
            }
        } else {
            self.wrong_root.get_or_insert(self.records);
        }
    }

    /// The first bad record. A root tells that something under it is bad, not what; the stored
    /// leaf hashes tell what, where a checkpoint proves them to be the ones it was made of.
    fn first_bad(
        &self,
        directory: &Path,
        expected: &BTreeMap<u64, Vec<Note>>,
    ) -> Result<Option<BadRecord>, VerifyError> {
        let missing = expected.keys().copied().find(|size| *size > self.records);
        let Some(size) = self.wrong_root.or(missing) else {
            return Ok(self.fault.clone());
        };
        let stored = journal::stored_hashes(directory, size)?;
        let mut tree = Tree::default();
        stored.iter().for_each(|hash| tree.push(*hash));
        let root = tree.root_text();
        let proven = expected
            .get(&size)
            .is_some_and(|notes| notes.iter().all(|note| note.root == root));
        if proven {
            let differs = (0..)
                .zip(stored.iter().zip(&self.hashes))
                .find(|(_, (a, b))| a != b);
            if let Some((seq, _)) = differs {
                return Ok(Some(bad(
                    seq,
                    "it is not the record that the checkpoint covers",
                )));
            }
        }
        Ok(Some(match (&self.fault, self.wrong_root) {
            (Some(fault), None) => fault.clone(),
            (_, Some(size)) => bad(
                self.proven,
                &format!("the first {size} records are not those that the checkpoint covers"),
            ),
            (None, None) => bad(self.records, "it is missing: a checkpoint covers it"),
        }))
    }
}

impl VerifyError {
    fn io(path: &Path, error: &io::Error) -> Self {
        Self {
            path: path.into(),
            message: format!("{error}: name the directory of a log that you may read"),
        }
    }
}

fn bad(seq: u64, problem: &str) -> BadRecord {
    BadRecord {
        seq,
        problem: problem.into(),
    }
}

/// What every leaf says of itself.
#[derive(Debug, Deserialize)]
struct Claim {
    v: u32,
    seq: u64,
}

#[cfg(test)]
mod tests;
