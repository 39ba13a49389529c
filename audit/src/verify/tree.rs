//! RFC 6962 hashes, as a list of perfect subtrees that merge when they are of equal height.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Subtrees from left to right, each with its height.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree(Vec<(u32, Hash)>);

impl Tree {
    pub(crate) fn push(&mut self, leaf: Hash) {
        self.push_subtree(0, leaf);
    }

    /// Appends a perfect subtree of 2^`height` leaves. What is there already has to end at a
    /// multiple of its size; the caller goes from left to right, so it does.
    pub(crate) fn push_subtree(&mut self, height: u32, hash: Hash) {
        let mut right = (height, hash);
        while let Some(left) = self.0.pop_if(|left| left.0 == right.0) {
            right = (left.0 + 1, node(&left.1, &right.1));
        }
        self.0.push(right);
    }

    pub(crate) fn root(&self) -> Hash {
        let subtrees = self.0.iter().rev().map(|(_, hash)| *hash);
        let root = subtrees.reduce(|right, left| node(&left, &right));
        root.unwrap_or_else(|| Sha256::digest(b"").into())
    }

    /// The root, as a checkpoint spells it.
    pub(crate) fn root_text(&self) -> String {
        STANDARD.encode(self.root())
    }
}

/// Root over leaf hashes.
pub(crate) fn root_of(leaves: &[Hash]) -> Hash {
    let mut tree = Tree::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    tree.root()
}

pub(crate) fn leaf_hash(leaf: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0x00]);
    hasher.update(leaf);
    hasher.finalize().into()
}

pub(crate) fn node(left: &Hash, right: &Hash) -> Hash {
    let mut both = [0x01; 65];
    let (_, hashes) = both.split_at_mut(1);
    let (first, second) = hashes.split_at_mut(32);
    first.copy_from_slice(left);
    second.copy_from_slice(right);
    Sha256::digest(both).into()
}
