//! RFC 6962 hashes, as a list of perfect subtrees that merge when they are of equal height.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

pub(super) type Hash = [u8; 32];

/// Subtrees from left to right, each with its height.
#[derive(Debug, Default)]
pub(super) struct Tree(Vec<(u32, Hash)>);

impl Tree {
    pub(super) fn push(&mut self, leaf: Hash) {
        let mut right = (0, leaf);
        while let Some(left) = self.0.pop_if(|left| left.0 == right.0) {
            right = (left.0 + 1, node(&left.1, &right.1));
        }
        self.0.push(right);
    }

    /// The root, as a checkpoint spells it.
    pub(super) fn root_text(&self) -> String {
        let root = self
            .0
            .iter()
            .rev()
            .map(|(_, hash)| *hash)
            .reduce(|right, left| node(&left, &right));
        STANDARD.encode(root.unwrap_or_else(|| Sha256::digest(b"").into()))
    }
}

pub(super) fn leaf_hash(leaf: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0x00]);
    hasher.update(leaf);
    hasher.finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0x01]);
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}
