//! Where the static files of the sealed log lie, and what is in them (C2SP tlog-tiles).
//!
//! A hash tile holds up to 256 hashes of one level, an entry bundle up to 256 leaves, each after
//! its length as two bytes, big-endian. Knows names and bytes; decides nothing.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use crate::{
    files,
    merkle::{Hash, empty_root, node_hash},
};

/// Hashes in a full tile, and leaves in a full bundle.
pub(crate) const WIDTH: u64 = 256;

/// A kind of tile.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Tile {
    /// Hashes of a level; level 0 are the leaves' own.
    Hashes(u8),
    /// The leaves.
    Entries,
}

impl Tile {
    /// Where tile `n` lies; `width` is less than [`WIDTH`] for a partial one.
    pub(crate) fn path(self, log: &Path, n: u64, width: u64) -> PathBuf {
        if width == WIDTH {
            return self.stem(log, n);
        }
        self.partials(log, n).join(width.to_string())
    }

    /// The directory of the partial forms of tile `n`.
    pub(crate) fn partials(self, log: &Path, n: u64) -> PathBuf {
        let mut name = self.stem(log, n).into_os_string();
        name.push(".p");
        name.into()
    }

    fn stem(self, log: &Path, n: u64) -> PathBuf {
        let level = match self {
            Self::Hashes(level) => level.to_string(),
            Self::Entries => "entries".into(),
        };
        log.join("tile").join(level).join(number(n))
    }

    /// Leaves under one entry of it.
    pub(crate) fn span(self) -> u64 {
        match self {
            Self::Hashes(level) => WIDTH.saturating_pow(level.into()),
            Self::Entries => 1,
        }
    }
}

/// `1234067` is `x001/x234/067`.
fn number(mut n: u64) -> String {
    let mut path = format!("{:03}", n % 1000);
    while n >= 1000 {
        n /= 1000;
        path = format!("x{:03}/{path}", n % 1000);
    }
    path
}

/// The right edge of the tree as tiles: for each level the hashes that fill no tile yet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Edge {
    size: u64,
    // INVARIANT: level l has (size / 256^l) mod 256 hashes; trailing levels may be absent.
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// Reads the edge of a tree of `size` leaves from its partial tiles.
    pub(crate) fn load(log: &Path, size: u64) -> io::Result<Self> {
        let mut levels = Vec::new();
        for level in 0_u8..8 {
            let tile = Tile::Hashes(level);
            let count = size / tile.span();
            if count == 0 {
                break;
            }
            let width = count % WIDTH;
            levels.push(match width {
                0 => Vec::new(),
                _ => read_hashes(&tile.path(log, count / WIDTH, width), width)?,
            });
        }
        Ok(Self { size, levels })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf by its hash; `full` takes each tile that this fills, lowest level first.
    pub(crate) fn push(
        &mut self,
        leaf: Hash,
        mut full: impl FnMut(u8, u64, &[Hash]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut hash = leaf;
        for level in 0_u8..8 {
            let at = usize::from(level);
            if self.levels.len() == at {
                self.levels.push(Vec::new());
            }
            let Some(hashes) = self.levels.get_mut(at) else {
                break;
            };
            hashes.push(hash);
            if hashes.len() < 256 {
                break;
            }
            let n = self.size / Tile::Hashes(level).span().saturating_mul(WIDTH);
            full(level, n, hashes)?;
            hash = perfect_root(hashes);
            hashes.clear();
        }
        self.size += 1;
        Ok(())
    }

    /// The partial tiles: level, number, hashes.
    pub(crate) fn partials(&self) -> impl Iterator<Item = (u8, u64, &[Hash])> {
        (0_u8..)
            .zip(&self.levels)
            .filter(|(_, hashes)| !hashes.is_empty())
            .map(|(level, hashes)| {
                let n = self.size / Tile::Hashes(level).span().saturating_mul(WIDTH);
                (level, n, hashes.as_slice())
            })
    }

    /// Roots of the perfect subtrees, largest first.
    pub(crate) fn roots(&self) -> Vec<Hash> {
        let mut roots = Vec::new();
        for hashes in self.levels.iter().rev() {
            let mut rest = hashes.as_slice();
            for bit in (0..8).rev() {
                if hashes.len() >> bit & 1 == 1
                    && let Some((subtree, after)) = rest.split_at_checked(1 << bit)
                {
                    roots.push(perfect_root(subtree));
                    rest = after;
                }
            }
        }
        roots
    }

    /// Root of the tree.
    pub(crate) fn root(&self) -> Hash {
        let roots = self.roots().into_iter().rev();
        roots
            .reduce(|right, left| node_hash(&left, &right))
            .unwrap_or_else(empty_root)
    }
}

/// Appends a leaf to a bundle.
pub(crate) fn bundle(out: &mut Vec<u8>, leaf: &[u8]) -> io::Result<()> {
    let len = u16::try_from(leaf.len()).map_err(io::Error::other)?;
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(leaf);
    Ok(())
}

/// Where the leaves of a bundle stand in it; `None` when it is no bundle of `count` leaves.
pub(crate) fn entries(bytes: &[u8], count: u64) -> Option<Vec<Range<usize>>> {
    let mut found = Vec::with_capacity(usize::try_from(count).ok()?);
    let mut at = 0;
    while at < bytes.len() {
        let len = u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?);
        let start = at + 2;
        at = start + usize::from(len);
        bytes.get(start..at)?;
        found.push(start..at);
    }
    (u64::try_from(found.len()) == Ok(count)).then_some(found)
}

/// Reads a tile of `width` hashes.
pub(crate) fn read_hashes(path: &Path, width: u64) -> io::Result<Vec<Hash>> {
    let named = |what: &str| io::Error::other(format!("`{}`: {what}", path.display()));
    let bytes = files::read_small(path, 32 * WIDTH)?.ok_or_else(|| named("it is missing"))?;
    let (hashes, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || u64::try_from(hashes.len()) != Ok(width) {
        return Err(named("it is no tile of its width"));
    }
    Ok(hashes.to_vec())
}

/// Root over a power of two of hashes.
fn perfect_root(hashes: &[Hash]) -> Hash {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[left, right]| node_hash(left, right))
            .collect();
    }
    level.first().copied().unwrap_or_else(empty_root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{Frontier, leaf_hash};

    #[test]
    fn numbers_are_spelled_as_the_specification_does() {
        for (n, text) in [
            (0, "000"),
            (999, "999"),
            (1_000, "x001/000"),
            (1_234_067, "x001/x234/067"),
        ] {
            assert_eq!(number(n), text, "{n}");
        }
        let log = Path::new("log");
        assert_eq!(
            Tile::Hashes(0).path(log, 1, 7),
            Path::new("log/tile/0/001.p/7")
        );
        assert_eq!(
            Tile::Entries.path(log, 1_000, WIDTH),
            Path::new("log/tile/entries/x001/000")
        );
    }

    #[test]
    fn an_edge_has_the_root_and_the_subtrees_of_the_frontier_at_every_size() {
        let mut edge = Edge::default();
        let mut frontier = Frontier::default();
        for n in 0..66_100_u32 {
            if n % 251 == 0 || (65_500..65_600).contains(&n) {
                assert_eq!(edge.root(), frontier.root(), "{n}");
                assert_eq!(edge.roots(), frontier.roots(), "{n}");
            }
            let leaf = leaf_hash(&n.to_be_bytes());
            frontier.push(leaf);
            edge.push(leaf, |_, _, _| Ok(())).unwrap();
        }
        assert_eq!(edge.root(), frontier.root());
    }

    #[test]
    fn bundles_come_back_and_damaged_ones_do_not() {
        let mut bytes = Vec::new();
        for leaf in [b"one".as_slice(), b"", b"three"] {
            bundle(&mut bytes, leaf).unwrap();
        }
        let found = entries(&bytes, 3).unwrap();
        let leaves: Vec<&[u8]> = found.into_iter().map(|range| &bytes[range]).collect();
        assert_eq!(leaves, [b"one".as_slice(), b"", b"three"]);
        for len in 0..bytes.len() {
            assert!(entries(&bytes[..len], 3).is_none(), "{len}");
        }
        assert!(entries(&bytes, 2).is_none() && entries(&bytes, 4).is_none());
        assert!(bundle(&mut Vec::new(), &[0; 65_536]).is_err());
    }
}
