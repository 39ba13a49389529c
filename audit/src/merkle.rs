//! The Merkle tree over all leaves (RFC 6962 section 2.1), as its right edge.
//!
//! Leaf hashes in, roots out; keeps one hash per bit of the size, so it never grows.

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash.
pub(crate) type Hash = [u8; 32];

/// The right edge of a tree: the roots of its perfect subtrees, largest first.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Frontier {
    size: u64,
    // INVARIANT: one hash for each set bit of `size`, highest bit first.
    roots: Vec<Hash>,
}

impl Frontier {
    /// A frontier as kept, where the number of hashes fits the size.
    pub(crate) fn from_parts(size: u64, roots: Vec<Hash>) -> Option<Self> {
        (usize::try_from(size.count_ones()) == Ok(roots.len())).then_some(Self { size, roots })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    #[cfg(test)]
    pub(crate) fn roots(&self) -> &[Hash] {
        &self.roots
    }

    /// Appends a leaf by its hash.
    pub(crate) fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        let mut size = self.size;
        while size & 1 == 1 {
            if let Some(left) = self.roots.pop() {
                hash = node_hash(&left, &hash);
            }
            size >>= 1;
        }
        self.roots.push(hash);
        self.size += 1;
    }

    /// Root of the tree as it is now.
    pub(crate) fn root(&self) -> Hash {
        let mut subtrees = self.roots.iter().rev();
        match subtrees.next() {
            None => empty_root(),
            Some(last) => subtrees.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

/// Hash of a leaf.
pub(crate) fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([0])
        .chain_update(leaf)
        .finalize()
        .into()
}

/// Root of the tree over nothing.
pub(crate) fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// Hash of an inner node.
pub(crate) fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::hex;

    /// RFC 6962 by its definition: split at the largest power of two below the size.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(split);
                node_hash(&by_definition(left), &by_definition(right))
            }
        }
    }

    #[test]
    fn roots_are_those_of_the_definition_at_every_size() {
        let leaves: Vec<Hash> = (0..130_u32).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut frontier = Frontier::default();
        for (size, leaf) in leaves.iter().enumerate() {
            assert_eq!(frontier.root(), by_definition(&leaves[..size]), "{size}");
            let kept = Frontier::from_parts(frontier.size(), frontier.roots().to_vec());
            assert_eq!(kept.as_ref(), Some(&frontier));
            frontier.push(*leaf);
        }
    }

    /// Vectors of the certificate-transparency reference implementation.
    #[test]
    fn roots_are_those_of_the_published_vectors() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let mut frontier = Frontier::default();
        let mut roots = vec![hex(&frontier.root())];
        for leaf in leaves {
            frontier.push(leaf_hash(leaf));
            roots.push(hex(&frontier.root()));
        }
        assert_eq!(
            roots[0],
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            roots[1],
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        assert_eq!(
            roots[8],
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
        );
    }

    #[test]
    fn a_frontier_with_the_wrong_number_of_hashes_is_refused() {
        assert_eq!(Frontier::from_parts(3, vec![[0; 32]]), None);
        assert!(Frontier::from_parts(4, vec![[0; 32]]).is_some());
    }
}
