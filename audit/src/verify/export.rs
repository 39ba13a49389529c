//! Verifies an export against its signed manifest, with a public key alone.
//!
//! Files in, an [`ExportReport`] out. Reads no log; of a tlog export, the exported one.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Evidence, VerifyError, hash_text,
    lines::{self, Lines},
    note::{Key, MAX_NOTE},
    report::{BadRecord, Completeness, Integrity},
    store::read_bounded,
    tree::{Hash, Tree, leaf_hash},
    verify_with,
};
use crate::export::Manifest;

/// What verifying an export found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExportReport {
    /// What its manifest states.
    pub manifest: Manifest,
    /// Whether what is there is as it was exported.
    pub integrity: Integrity,
    /// Whether all that was exported is there.
    pub completeness: Completeness,
    /// The first bad record: its line from 0 (in a tlog export: its place in the log).
    pub first_bad: Option<BadRecord>,
}

impl ExportReport {
    /// Whether it is as it was exported.
    pub fn is_clean(&self) -> bool {
        self.integrity == Integrity::Intact && self.completeness == Completeness::Complete
    }
}

/// Verifies the export at `path` with its manifest's text and the key that signed it, or several of
/// the log's keys, one a line. With the file of its lines' hashes (`FILE.lines`) the first wrong
/// line is told exactly.
///
/// # Errors
/// [`VerifyError`] when it cannot be read, or no key signed the manifest; what is wrong with the
/// export itself is in the report.
pub fn verify_export(
    path: &Path,
    manifest: &str,
    key: &str,
    hashes: Option<&Path>,
) -> Result<ExportReport, VerifyError> {
    let fail = |why: String| VerifyError::new(path, why);
    let keys = Key::parse_all(key)
        .ok_or_else(|| fail("the key is no Ed25519 key of a signed note (`name+id+key`)".into()))?;
    let manifest = open_manifest(manifest, &keys).map_err(|why| {
        fail(format!(
            "its manifest {why}; name the right key with `--key`"
        ))
    })?;
    if manifest.format == "tlog" {
        return verify_tlog(path, manifest, key);
    }
    let found = Found::read(path, manifest.format == "jsonl")
        .map_err(|error| VerifyError::io(path, &error))?;
    let mut report = found.judge(manifest);
    if let (Integrity::Broken, Some(hashes), Some(root)) =
        (report.integrity, hashes, &report.manifest.lines_root)
    {
        let compared = lines::compare(path, hashes, root);
        match compared.map_err(|error| VerifyError::io(hashes, &error))? {
            Lines::Wrong(line) => report.first_bad = Some(line),
            // Without them, the guess by the records stands.
            Lines::Right | Lines::OtherHashes => {}
        }
    }
    Ok(report)
}

/// The manifest in a signed note; what is wrong with it, as the rest of a sentence.
fn open_manifest(text: &str, keys: &[Key]) -> Result<Manifest, &'static str> {
    if text.len() as u64 > MAX_NOTE {
        return Err("is too large");
    }
    let split = text.rfind("\n\n").ok_or("is no signed note")?;
    let (body, signatures) = text.split_at(split + 1);
    if !keys.iter().any(|key| key.signed_text(body, signatures)) {
        return Err("is not signed with a key that was given");
    }
    Manifest::from_body(body)
}

fn verify_tlog(path: &Path, manifest: Manifest, keys: &str) -> Result<ExportReport, VerifyError> {
    // The exported checkpoint is signed by one of them, which is enough to prove all of it.
    let mut report = None;
    for key in keys.lines() {
        let evidence = Evidence {
            public_key: Some(key.into()),
            ..Evidence::default()
        };
        let found = verify_with(path, &evidence)?;
        let clean = found.is_clean();
        report = Some(found);
        if clean {
            break;
        }
    }
    let report = report.ok_or_else(|| VerifyError::new(path, "there is no key to verify with"))?;
    let same = report.checkpoint_size == Some(manifest.size) && report.root == manifest.root;
    let completeness = match report.completeness {
        Completeness::Complete if !same => Completeness::Incomplete,
        other => other,
    };
    Ok(ExportReport {
        manifest,
        integrity: report.integrity,
        completeness,
        first_bad: report.first_bad,
    })
}

/// What an exported file holds.
#[derive(Debug, Default)]
struct Found {
    bytes: u64,
    sha256: Hash,
    /// Of a file with the records as they were hashed.
    records: Option<Records>,
}

#[derive(Debug, Default)]
struct Records {
    count: u64,
    tree: Tree,
    first: Option<Hash>,
    last: Option<Hash>,
    bad: Option<BadRecord>,
}

#[derive(Debug, Deserialize)]
struct Place {
    seq: u64,
}

/// Longest line that is read: a leaf with its line end.
const MAX_LINE: u64 = 16 * 1024 + 1;

impl Found {
    fn read(path: &Path, leaves: bool) -> std::io::Result<Self> {
        let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
        let mut found = Self::default();
        let mut hash = Sha256::new();
        let mut records = Records::default();
        let mut after = None;
        loop {
            let mut line = Vec::new();
            (&mut file).take(MAX_LINE).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                break;
            }
            hash.update(&line);
            found.bytes += line.len() as u64;
            if leaves {
                let leaf = line.strip_suffix(b"\n").unwrap_or(&line);
                records.take(leaf, &mut after);
            }
        }
        found.sha256 = hash.finalize().into();
        found.records = leaves.then_some(records);
        Ok(found)
    }

    fn judge(self, manifest: Manifest) -> ExportReport {
        let same = self.bytes == manifest.bytes && hash_text(&self.sha256) == manifest.sha256;
        let short = match &self.records {
            Some(records) => records.count < manifest.count,
            None => self.bytes < manifest.bytes,
        };
        let first_bad = self
            .records
            .filter(|_| !same)
            .map(|records| records.first_bad(&manifest));
        ExportReport {
            integrity: if same {
                Integrity::Intact
            } else {
                Integrity::Broken
            },
            completeness: if short {
                Completeness::Incomplete
            } else {
                Completeness::Complete
            },
            first_bad,
            manifest,
        }
    }
}

impl Records {
    fn take(&mut self, leaf: &[u8], after: &mut Option<u64>) {
        let hash = leaf_hash(leaf);
        let place = serde_json::from_slice::<Place>(leaf)
            .ok()
            .map(|place| place.seq);
        let problem = match (place, *after) {
            (None, _) => Some("it is no record".to_owned()),
            (Some(seq), Some(before)) if seq <= before => {
                Some(format!("record {seq} stands after record {before}"))
            }
            (Some(_), _) => None,
        };
        if let (Some(problem), None) = (problem, &self.bad) {
            self.bad = Some(BadRecord {
                seq: self.count,
                problem,
            });
        }
        *after = place.or(*after);
        self.tree.push(hash);
        self.first.get_or_insert(hash);
        self.last = Some(hash);
        self.count += 1;
    }

    /// The first bad line, as far as it can be told: the manifest has one root for all lines.
    fn first_bad(self, manifest: &Manifest) -> BadRecord {
        let bad = |seq, problem: &str| BadRecord {
            seq,
            problem: problem.into(),
        };
        let is = |hash: Option<Hash>, leaf: &Option<crate::export::Leaf>| {
            hash.map(|hash| hash_text(&hash)) == leaf.as_ref().map(|leaf| leaf.hash.clone())
        };
        if let Some(bad) = self.bad {
            bad
        } else if !is(self.first, &manifest.first) {
            bad(0, "it is not the first record that was exported")
        } else if self.count < manifest.count {
            bad(self.count, "lines are missing, from here or from before")
        } else if self.count > manifest.count {
            bad(manifest.count, "there are more lines than were exported")
        } else if !is(self.last, &manifest.last) {
            bad(
                self.count.saturating_sub(1),
                "it is not the last record that was exported",
            )
        } else {
            bad(
                0,
                "one of the lines is not what was exported; the manifest does not tell which",
            )
        }
    }
}

/// Reads a manifest or proof file.
///
/// # Errors
/// [`VerifyError`] when it cannot be read or is too large.
pub fn read_text(path: &Path) -> Result<String, VerifyError> {
    let bytes = read_bounded(path, MAX_NOTE).map_err(|error| VerifyError::io(path, &error))?;
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| {
            VerifyError::new(path, "it is not there, or is not text: name the right one")
        })
}
