//! Verifies a log offline. Shares no code with the writer.
//!
//! Files in, a [`Report`] out: whether every record is intact, whether all that a checkpoint
//! covers is there, and which record is the first bad one. Needs only a public key; a verifier
//! who does not trust the log's host brings key and checkpoint from elsewhere.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

mod chain;
mod evidence;
mod export;
pub(crate) mod journal;
mod lines;
pub(crate) mod note;
mod proof;
mod report;
mod scan;
mod sealed;
pub(crate) mod store;
pub(crate) mod tree;

use chain::{Chain, is_right};
use evidence::{Keys, Notes};
pub use export::{ExportReport, read_text, verify_export};
use note::{Key, Note};
pub use proof::{ProofReport, verify_proof};
pub(crate) use proof::{check_consistency, check_inclusion};
pub use report::{BadRecord, Completeness, Evidence, Integrity, Report, VerifyError};
use scan::{Scan, Scope};
use store::Store;

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

/// As [`verify`], with key, checkpoint or witnesses from elsewhere.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(directory: &Path, evidence: &Evidence) -> Result<Report, VerifyError> {
    let keys = Keys::read(directory, evidence)?;
    let mut tries = 0;
    loop {
        // The checkpoints are read before the records: a log that goes on meanwhile only has more.
        let notes = Notes::read(directory, evidence, &keys.name)?;
        let store = Store::open(directory)?;
        let scope = Scope {
            store: &store,
            origin: keys.origin,
            sizes: &notes.sizes(),
            segment_of: evidence.segment_of,
        };
        let found = scope.run()?;
        tries += 1;
        // A sealing takes the journal away once its files stand: look again, where they now lie.
        if tries < 3 && Store::open(directory)?.sealed != store.sealed {
            continue;
        }
        return judge(&keys, notes, found, &store, evidence);
    }
}

/// Puts together what was found with who signed what.
fn judge(
    keys: &Keys,
    mut notes: Notes,
    found: Scan,
    store: &Store,
    evidence: &Evidence,
) -> Result<Report, VerifyError> {
    let Some(first) = keys.first(&found.rotations) else {
        return Err(VerifyError::new(
            &store.directory,
            "there is no key to verify with",
        ));
    };
    let chain = {
        let right = |note: &Note| is_right(note, found.roots.get(&note.size));
        Chain::follow(first, &found.rotations, &notes.all(), right)
    };
    let signed = signed_notes(keys, &chain, &mut notes);
    let covered = signed.keys().next_back().copied().unwrap_or_default();
    if let Some(why) = evidence
        .segment_of
        .and_then(|seq| no_such(seq, &found, store, covered))
    {
        return Err(VerifyError::new(&store.directory, why));
    }
    let wrong = first_wrong(&found, &signed);
    let unexplained = unexplained(&found, store, covered, evidence);
    let incomplete = found.records < covered || wrong.is_some() || unexplained.is_some();
    let bad = [&chain.bad, &unexplained, &found.first_bad(&signed, wrong)]
        .into_iter()
        .flatten()
        .min_by_key(|bad| bad.seq)
        .cloned();
    let broken = found.fault.is_some()
        || found.misplaced.is_some()
        || found.differs.is_some()
        || chain.bad.is_some()
        || wrong.is_some();
    let cosigned = cosigners(&notes, &signed, evidence, store)?;
    if let (Some(missing), None) = (cosigned.1, &notes.problem) {
        notes.problem = Some(missing);
    }
    Ok(Report {
        origin: keys.name.clone(),
        records: found.records,
        pruned_below: store.minimum,
        sealed: store.sealed,
        checked: evidence.segment_of.map(|_| found.checked),
        root: found.tree.root_text(),
        keys: chain.keys.iter().map(Key::id_text).collect(),
        checkpoints: signed
            .keys()
            .filter(|size| found.roots.contains_key(size))
            .count() as u64,
        witnesses: cosigned.0,
        checkpoint_size: notes.own.as_ref().map(|note| note.size),
        against_size: notes.against.as_ref().map(|note| note.size),
        integrity: if broken {
            Integrity::Broken
        } else {
            Integrity::Intact
        },
        completeness: match notes.problem.or(chain.problem) {
            Some(reason) => Completeness::Unproven { reason },
            None if incomplete => Completeness::Incomplete,
            None => Completeness::Complete,
        },
        first_bad: bad,
        unfinished_bytes: found.unfinished_bytes,
    })
}

/// Why there is no record `seq` whose segment could be verified.
fn no_such(seq: u64, found: &Scan, store: &Store, covered: u64) -> Option<String> {
    let size = found.records.max(covered);
    if seq < store.minimum {
        let first = store.minimum;
        Some(format!("record {seq} was pruned: name one from {first} on"))
    } else if seq >= size && found.fault.is_none() {
        Some(format!("there is no record {seq}: the log has {size}"))
    } else {
        None
    }
}

/// Records that are gone from the beginning have to be explained: by a record that a checkpoint
/// covers and that says that they were pruned. Whether such a one is in another segment than the
/// one that was asked for is not seen.
fn unexplained(
    found: &Scan,
    store: &Store,
    covered: u64,
    evidence: &Evidence,
) -> Option<BadRecord> {
    let whole = evidence.segment_of.is_none() && found.fault.is_none();
    if store.minimum == 0 || !whole {
        return None;
    }
    let explained = found
        .prunings
        .iter()
        .any(|pruning| pruning.seq < covered && pruning.minimum >= store.minimum);
    let what = format!(
        "it and all before record {} are gone, and no record that a checkpoint covers says that \
         they were pruned",
        store.minimum
    );
    (!explained).then(|| bad(0, &what))
}

/// The checkpoints that count, by size. Those that no trusted key signed are objected to; but
/// what was signed before the key that was given is not, for it cannot be told.
fn signed_notes(keys: &Keys, chain: &Chain, notes: &mut Notes) -> BTreeMap<u64, Vec<Note>> {
    let mut signed: BTreeMap<u64, Vec<Note>> = BTreeMap::new();
    let mut signers = Vec::new();
    let mut problems = Vec::new();
    let first = notes
        .all()
        .iter()
        .find_map(|note| chain.signer(note).map(|_| note.size));
    for note in notes.all() {
        if let Some(signer) = chain.signer(note) {
            signers.push((note.size, signer));
            signed.entry(note.size).or_default().push(note.clone());
        } else if Some(note) == notes.own.as_ref() {
            problems.push("the log's checkpoint is not signed with the log's key".to_owned());
        } else if Some(note) == notes.against.as_ref() {
            let what = "the checkpoint to verify against is not signed with the log's key";
            problems.push(what.to_owned());
        } else if keys.given.is_none() || first.is_some_and(|first| note.size > first) {
            let size = note.size;
            problems.push(format!(
                "checkpoint {size} is not signed with the log's key"
            ));
        }
    }
    if let Some(size) = chain::retired(&signers) {
        problems.push(format!(
            "checkpoint {size} is signed with a key that had been retired"
        ));
    }
    if let (None, Some(problem)) = (&notes.problem, problems.into_iter().next_back()) {
        notes.problem = Some(problem);
    }
    signed
}

/// The smallest checkpoint whose root is not that of its records.
fn first_wrong(found: &Scan, signed: &BTreeMap<u64, Vec<Note>>) -> Option<u64> {
    let wrong = |(size, notes): &(&u64, &Vec<Note>)| {
        let root = found.roots.get(size);
        root.is_some() && notes.iter().any(|note| !is_right(note, root))
    };
    signed.iter().find(wrong).map(|(size, _)| *size)
}

/// Which of the witnesses asked for have cosigned the newest checkpoint that any of them has; and
/// what is wrong when one has not.
fn cosigners(
    notes: &Notes,
    signed: &BTreeMap<u64, Vec<Note>>,
    evidence: &Evidence,
    store: &Store,
) -> Result<(Vec<String>, Option<String>), VerifyError> {
    let mut witnesses = Vec::new();
    for text in &evidence.witnesses {
        witnesses.push(Key::parse_witness(text).ok_or_else(|| {
            let what = "a witness's key is no Ed25519 cosigning key (`name+id+key`)";
            VerifyError::new(&store.directory, what)
        })?);
    }
    let mut best: Vec<&Key> = Vec::new();
    for note in notes.all().into_iter().rev() {
        let counts = signed
            .get(&note.size)
            .is_some_and(|notes| notes.contains(note));
        let by: Vec<&Key> = witnesses
            .iter()
            .filter(|key| counts && key.signed(note))
            .collect();
        if by.len() > best.len() {
            best = by;
        }
    }
    let missing = witnesses.iter().find(|key| !best.contains(key));
    let missing = missing.map(|key| format!("no checkpoint is cosigned by witness {}", key.name));
    Ok((best.iter().map(|key| key.name.clone()).collect(), missing))
}

impl Scan {
    /// The first bad record. A root tells that something under it is bad, not what; the hashes in
    /// tiles tell what, where a checkpoint proves them to be the ones it was made of.
    fn first_bad(
        &self,
        signed: &BTreeMap<u64, Vec<Note>>,
        wrong: Option<u64>,
    ) -> Option<BadRecord> {
        let found = [&self.fault, &self.misplaced].into_iter().flatten();
        let found = found.min_by_key(|bad| bad.seq).cloned();
        if let Some(size) = wrong {
            let proven = signed.get(&size).is_some_and(|notes| {
                notes
                    .iter()
                    .all(|note| is_right(note, self.stored_roots.get(&size)))
            });
            if let (true, Some(seq)) = (proven, self.differs) {
                return Some(bad(seq, "it is not the record that the checkpoint covers"));
            }
            let intact = signed.range(..size).next_back().map(|(size, _)| size);
            let from = intact.copied().unwrap_or_default();
            let what = format!("the first {size} records are not those that the checkpoint covers");
            let unlike = found.filter(|bad| bad.seq < size && bad.seq >= from);
            return Some(unlike.unwrap_or_else(|| bad(from, &what)));
        }
        let tile = self.differs.map(|seq| {
            bad(
                seq,
                "the tile that holds its hash is missing, or one of the two is damaged",
            )
        });
        let missing = signed
            .keys()
            .next_back()
            .filter(|size| **size > self.records);
        let missing = missing.map(|_| bad(self.records, "it is missing: a checkpoint covers it"));
        let first = [found, tile]
            .into_iter()
            .flatten()
            .min_by_key(|bad| bad.seq);
        first.or(missing)
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
struct Claim<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    v: u32,
    seq: u64,
}

/// A change of the log's key, as its record announces it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Rotation {
    seq: u64,
    /// Id of the key that the log signed with until then.
    old: String,
    /// The key that it signs with from then on (`name+id+key`).
    new: String,
}

/// Records that were let go, as the record of that says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Pruned {
    seq: u64,
    /// The first record that was kept.
    minimum: u64,
}

/// What a record says that matters to whoever verifies.
#[derive(Debug)]
enum Said {
    Rotation(Rotation),
    Pruned(Pruned),
}

/// What a record of kind `retention.prune` holds.
#[derive(Debug, Deserialize)]
struct Pruning {
    upkeep: PruningDone,
}

#[derive(Debug, Deserialize)]
struct PruningDone {
    minimum: u64,
}

/// What a record of kind `key.rotate` holds.
#[derive(Debug, Deserialize)]
struct Announcement {
    key: AnnouncedKey,
}

#[derive(Debug, Deserialize)]
struct AnnouncedKey {
    old: String,
    new: String,
}

impl Claim<'_> {
    /// Checks that `leaf` claims to be record `seq`; gives what it says that matters here.
    fn read(leaf: &[u8], seq: u64) -> Result<Option<Said>, String> {
        let fail = |error: serde_json::Error| format!("it is no record: {error}");
        let claim: Claim<'_> = serde_json::from_slice(leaf).map_err(fail)?;
        if claim.v != 1 {
            return Err(format!("it is of version {}", claim.v));
        }
        if claim.seq != seq {
            return Err(format!("it says that it is record {}", claim.seq));
        }
        match &*claim.kind {
            "key.rotate" => {
                let Announcement { key } = serde_json::from_slice(leaf).map_err(fail)?;
                Ok(Some(Said::Rotation(Rotation {
                    seq,
                    old: key.old,
                    new: key.new,
                })))
            }
            "retention.prune" => {
                let Pruning { upkeep } = serde_json::from_slice(leaf).map_err(fail)?;
                let minimum = upkeep.minimum;
                Ok(Some(Said::Pruned(Pruned { seq, minimum })))
            }
            _other => Ok(None),
        }
    }
}

/// Whether `text` is the key of a witness (`name+id+key`, Ed25519 cosignatures).
pub fn is_witness_key(text: &str) -> bool {
    Key::parse_witness(text).is_some()
}

/// The checkpoint `note` with the signatures that `kept`, another copy of it, has beside it.
///
/// # Errors
/// Says why `note` is no checkpoint, as the rest of a sentence.
pub fn join_signatures(note: &str, kept: &str) -> Result<String, &'static str> {
    let note = Note::parse(note)?;
    Ok(match Note::parse(kept) {
        Ok(kept) => note.with_signatures_of(&kept).text().to_owned(),
        Err(_) => note.text().to_owned(),
    })
}

/// Whether two notes state the same checkpoint, whoever has signed which.
pub fn same_checkpoint(one: &str, other: &str) -> bool {
    match (Note::parse(one), Note::parse(other)) {
        (Ok(one), Ok(other)) => one.body() == other.body(),
        _ => false,
    }
}

/// The checkpoint `note` with those of the signature `lines` that are good ones of a witness.
///
/// # Errors
/// Says why none is, as the rest of a sentence.
pub fn add_cosignature(note: &str, lines: &str, witness: &str) -> Result<String, &'static str> {
    let key = Key::parse_witness(witness).ok_or("cannot be checked without the witness's key")?;
    let parsed = Note::parse(note)?;
    let good: String = lines
        .lines()
        .filter(|line| key.signed_text(parsed.body(), line))
        .map(|line| format!("{line}\n"))
        .collect();
    if good.is_empty() {
        return Err("holds no good cosignature of its key");
    }
    Ok(format!("{note}{good}"))
}

/// A hash as base64, as checkpoints and proofs spell it.
pub(crate) fn hash_text(hash: &tree::Hash) -> String {
    STANDARD.encode(hash)
}

/// Reads [`hash_text`].
pub(crate) fn hash_from_text(text: &str) -> Option<tree::Hash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
pub(crate) mod made;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_sealed;
