//! Follows the log's keys: each is announced by a record that the one before it signed.
//!
//! Changes of key, and checkpoints whose roots are known to be right or wrong, in; the keys to
//! trust, and what is wrong, out.

use super::{
    Rotation, bad,
    note::{Key, Note},
    report::BadRecord,
    tree::Hash,
};

/// The keys that are trusted, oldest first, and what stands against that.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) keys: Vec<Key>,
    pub(super) problem: Option<String>,
    pub(super) bad: Option<BadRecord>,
}

impl Chain {
    /// Follows `rotations` from the key `first`. `right` tells whether a checkpoint states the root
    /// of the records that are there.
    pub(super) fn follow(
        first: Key,
        rotations: &[Rotation],
        notes: &[&Note],
        right: impl Fn(&Note) -> bool,
    ) -> Self {
        let mut chain = Self {
            keys: vec![first],
            problem: None,
            bad: None,
        };
        for rotation in rotations {
            let Some(current) = chain.keys.last() else {
                break;
            };
            if chain.repeats(rotation) {
                continue;
            }
            if rotation.old != current.id_text() {
                // Changes before the key that is trusted tell nothing about it.
                if chain.keys.len() > 1 {
                    let what = "it announces a key under one that is not the log's at that place";
                    chain.bad = Some(bad(rotation.seq, what));
                    break;
                }
                continue;
            }
            let Some(new) = Key::parse(&rotation.new).filter(|new| new.name == current.name) else {
                chain.bad = Some(bad(rotation.seq, "it announces a key that is none"));
                break;
            };
            let vouched = notes
                .iter()
                .any(|note| note.size > rotation.seq && current.signed(note) && right(note));
            if !vouched {
                if notes.iter().any(|note| new.signed(note)) {
                    chain.problem = Some(format!(
                        "no checkpoint that is signed with key {} covers record {}, which \
                         announces key {}",
                        current.id_text(),
                        rotation.seq,
                        new.id_text()
                    ));
                }
                break;
            }
            chain.keys.push(new);
        }
        chain
    }

    /// Whether a rotation is the last one once more, word for word: an announcement that was
    /// refused and came into the log all the same is made again. It gives no key any trust.
    fn repeats(&self, rotation: &Rotation) -> bool {
        match self.keys.as_slice() {
            [.., before, current] => {
                rotation.old == before.id_text()
                    && Key::parse(&rotation.new).as_ref() == Some(current)
            }
            _ => false,
        }
    }

    /// Which key signed a checkpoint, the newest that did.
    pub(super) fn signer(&self, note: &Note) -> Option<usize> {
        self.keys.iter().rposition(|key| key.signed(note))
    }
}

/// A checkpoint that an older key signed over more than its successor's first one covers. Takes
/// sizes with signers, by size.
pub(super) fn retired(signers: &[(u64, usize)]) -> Option<u64> {
    let mut newest = (0, 0);
    for (size, signer) in signers {
        if *signer < newest.1 && *size > newest.0 {
            return Some(*size);
        }
        if *signer > newest.1 {
            newest = (*size, *signer);
        }
    }
    None
}

/// Whether a note's root is the one that was computed for its size.
pub(super) fn is_right(note: &Note, computed: Option<&Hash>) -> bool {
    computed == Some(&note.root)
}
