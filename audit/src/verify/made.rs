//! Makes a log's directory from the specifications alone, for tests: shares no code with the
//! writer, nor with the verifier.
//!
//! C2SP tlog-tiles and checkpoints; the journal as its format says.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};

pub(crate) type Hash = [u8; 32];

/// Origin of every log that is made here.
pub(crate) const NAME: &str = "cordon/01890a5d-ac96-774b-bcce-b302099a8057";

/// A log under construction.
pub(crate) struct Made {
    pub(crate) directory: PathBuf,
    pub(crate) leaves: Vec<Vec<u8>>,
    hashes: Vec<Hash>,
}

impl Made {
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.into(),
            leaves: Vec::new(),
            hashes: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, leaf: Vec<u8>) {
        self.hashes.push(hash(&[0], &leaf, &[]));
        self.leaves.push(leaf);
    }

    /// Adds records until there are `count`.
    pub(crate) fn fill(&mut self, count: usize) {
        for seq in self.leaves.len()..count {
            self.push(leaf(seq, "decision", ""));
        }
    }

    /// Adds the announcement of a key.
    pub(crate) fn rotate(&mut self, old: u8, new: u8) {
        let (old, new) = (key_id(old), verifier_key(new));
        let fields = format!(r#""key":{{"new":"{new}","old":"{old}"}},"#);
        self.push(leaf(self.leaves.len(), "key.rotate", &fields));
    }

    /// Bundles and tiles over the first `sealed` records.
    pub(crate) fn seal(&self, sealed: usize) {
        for (number, bundle) in self.leaves[..sealed].chunks(256).enumerate() {
            let bytes: Vec<u8> = bundle
                .iter()
                .flat_map(|leaf| {
                    let length = u16::try_from(leaf.len()).unwrap().to_be_bytes();
                    [&length[..], leaf].concat()
                })
                .collect();
            self.write(&tile("entries", number, bundle.len()), &bytes);
        }
        let mut level = self.hashes[..sealed].to_vec();
        let mut number = 0;
        while !level.is_empty() {
            for (index, tile_hashes) in level.chunks(256).enumerate() {
                let path = tile(&number.to_string(), index, tile_hashes.len());
                self.write(&path, &tile_hashes.concat());
            }
            level = level.chunks_exact(256).map(root).collect();
            number += 1;
        }
    }

    /// A journal with the records from `first` on.
    pub(crate) fn journal(&self, first: usize) {
        let origin = u128::from_str_radix(&NAME[7..].replace('-', ""), 16).unwrap();
        let mut bytes = [
            b"CORDONJ1",
            &(first as u64).to_le_bytes()[..],
            &origin.to_be_bytes(),
            &1_u32.to_le_bytes(),
        ]
        .concat();
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        for (seq, leaf) in self.leaves.iter().enumerate().skip(first) {
            let length = u32::try_from(leaf.len()).unwrap().to_le_bytes();
            let synced = (bytes.len() as u64).to_le_bytes();
            let rest = [&(seq as u64).to_le_bytes()[..], &synced, leaf].concat();
            let crc = crc32c::crc32c(&[&length[..], &rest].concat()).to_le_bytes();
            bytes.extend([&length[..], &crc, &rest].concat());
        }
        self.write(&format!("journal-{first:020}.log"), &bytes);
    }

    /// The checkpoint over the first `size` records, signed with key `key`.
    pub(crate) fn note(&self, size: usize, key: u8) -> String {
        sign(
            &format!(
                "{NAME}\n{size}\n{}\n",
                STANDARD.encode(root(&self.hashes[..size]))
            ),
            key,
        )
    }

    /// Writes a checkpoint, as the newest one and into the history, and the key.
    pub(crate) fn checkpoint(&self, size: usize, key: u8) {
        let note = self.note(size, key);
        self.write("checkpoint", note.as_bytes());
        self.write(&format!("checkpoints/{size}"), note.as_bytes());
        let text = verifier_key(key) + "\n";
        self.write("log.pub", text.as_bytes());
        self.write(&format!("keys/{}.pub", key_id(key)), text.as_bytes());
    }

    /// A whole log: sealed, a journal for the rest, one checkpoint over all.
    pub(crate) fn whole(directory: &Path, sealed: usize, count: usize) -> Self {
        let mut made = Self::new(directory);
        made.fill(count);
        made.seal(sealed);
        made.journal(sealed);
        made.checkpoint(count, 1);
        made
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A record as it lies in the log.
pub(crate) fn leaf(seq: usize, kind: &str, fields: &str) -> Vec<u8> {
    format!(
        r#"{{"action":"net.connect","effect":"allow","enforced":"allowed","eval_ns":41000,"id":"01890a5d-ac96-774b-bcce-{seq:012x}",{fields}"kind":"{kind}","mode":"enforce","mono_us":{},"net":{{"dport":443,"host":"api.example.com","proto":"tcp","via":"http-connect"}},"policy":{{"set":"default","sha256":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}},"reason":"rule","rules":["allow-api"],"seq":{seq},"session":"01890a5d-ac96-774b-bcce-b302099a8057","ts_us":{},"v":1}}"#,
        1_000 + seq,
        1_780_000_000_000_000_u64 + seq as u64,
    )
    .into_bytes()
}

/// Signs a note's text with key `key`.
pub(crate) fn sign(body: &str, key: u8) -> String {
    let signature = signing_key(key).sign(body.as_bytes()).to_bytes();
    let signature = [&id_bytes(key)[..], &signature].concat();
    format!("{body}\n\u{2014} {NAME} {}\n", STANDARD.encode(signature))
}

/// `name+id+key`.
pub(crate) fn verifier_key(key: u8) -> String {
    let bytes = [&[1], signing_key(key).verifying_key().as_bytes().as_slice()].concat();
    format!("{NAME}+{}+{}", key_id(key), STANDARD.encode(bytes))
}

pub(crate) fn key_id(key: u8) -> String {
    id_bytes(key)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn id_bytes(key: u8) -> [u8; 4] {
    let public = signing_key(key).verifying_key();
    let text = [NAME.as_bytes(), b"\n\x01", public.as_bytes()].concat();
    Sha256::digest(text)[..4].try_into().unwrap()
}

fn signing_key(key: u8) -> SigningKey {
    SigningKey::from_bytes(&[key; 32])
}

/// RFC 6962 by its definition: split at the largest power of two below the size.
pub(crate) fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(split);
            hash(&[1], &root(left), &root(right))
        }
    }
}

fn hash(prefix: &[u8], first: &[u8], second: &[u8]) -> Hash {
    Sha256::digest([prefix, first, second].concat()).into()
}

/// Path of a tile below the log's directory.
pub(crate) fn tile(kind: &str, number: usize, width: usize) -> String {
    let mut path = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    let partial = if width < 256 {
        format!(".p/{width}")
    } else {
        String::new()
    };
    format!("tile/{kind}/{path}{partial}")
}
