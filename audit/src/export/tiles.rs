//! The log as a directory of static files (C2SP tlog-tiles) for whoever verifies with tools of
//! their own: entry bundles, Merkle tiles, the checkpoint and the keys.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{Leaf, Manifest, Select, newest};
use crate::{
    prove::{self, Leaves},
    verify::{
        hash_text,
        store::{WIDTH, partial_directory, tile_path},
        tree::{Hash, Tree, leaf_hash, root_of},
    },
};

/// Writes all records that the newest checkpoint covers to `out`, a directory that is made, and
/// says what it wrote. The tiles are computed from the records, not copied.
///
/// # Errors
/// [`io::Error`] when `out` exists or cannot be written, the log was pruned (then its tiles cannot
/// be made from its records), or its records do not give the checkpoint's root.
pub fn copy_log(directory: &Path, out: &Path) -> io::Result<Manifest> {
    let note = newest(directory).map_err(io::Error::other)?;
    if prove::minimum(directory)? > 0 {
        return Err(io::Error::other(
            "the log was pruned, so its tiles cannot be made from its records: copy the log's own \
             `tile` directory, or export as jsonl",
        ));
    }
    private_directory(out)?;
    let mut tiles = Tiles::new(out);
    let mut tree = Tree::default();
    let (mut first, mut last) = (None, None);
    for leaf in Leaves::from(directory, 0) {
        let (seq, leaf) = leaf.map_err(io::Error::other)?;
        if seq >= note.size {
            break;
        }
        let hash = leaf_hash(&leaf);
        tree.push(hash);
        tiles.push(&leaf, hash)?;
        let place = Leaf {
            hash: hash_text(&hash),
            seq,
        };
        first.get_or_insert_with(|| place.clone());
        last = Some(place);
    }
    if tree.root() != note.root {
        return Err(io::Error::other(
            "the records do not give the root that the checkpoint states: run `cordon audit verify`",
        ));
    }
    let bytes = tiles.end()?;
    private_file(&out.join("checkpoint"), note.text().as_bytes())?;
    copy_keys(directory, out)?;
    Ok(Manifest {
        bytes,
        count: note.size,
        first,
        format: "tlog".into(),
        last,
        lines_root: None,
        origin: note.origin.clone(),
        query: Select::default(),
        root: hash_text(&note.root),
        set_root: hash_text(&note.root),
        sha256: hash_text(&Sha256::digest(note.text()).into()),
        size: note.size,
    })
}

/// Files under construction.
#[derive(Debug)]
struct Tiles {
    out: PathBuf,
    bundle: Vec<u8>,
    bytes: u64,
    /// Per level: number of the tile, and its hashes so far.
    levels: Vec<(u64, Vec<Hash>)>,
}

impl Tiles {
    fn new(out: &Path) -> Self {
        Self {
            out: out.into(),
            bundle: Vec::new(),
            bytes: 0,
            levels: vec![(0, Vec::new())],
        }
    }

    fn push(&mut self, leaf: &[u8], hash: Hash) -> io::Result<()> {
        let length = u16::try_from(leaf.len()).map_err(io::Error::other)?;
        self.bundle.extend_from_slice(&length.to_be_bytes());
        self.bundle.extend_from_slice(leaf);
        self.bytes += leaf.len() as u64;
        self.add(0, hash)
    }

    fn add(&mut self, level: usize, hash: Hash) -> io::Result<()> {
        if self.levels.len() <= level {
            self.levels.push((0, Vec::new()));
        }
        let Some((number, hashes)) = self.levels.get_mut(level) else {
            return Ok(());
        };
        hashes.push(hash);
        if (hashes.len() as u64) < WIDTH {
            return Ok(());
        }
        let full = std::mem::take(hashes);
        let number = std::mem::replace(number, *number + 1);
        if level == 0 {
            let bundle = std::mem::take(&mut self.bundle);
            self.write("entries", number, WIDTH, &bundle)?;
        }
        self.write(&level.to_string(), number, WIDTH, &full.concat())?;
        self.add(level + 1, root_of(&full))
    }

    fn end(mut self) -> io::Result<u64> {
        let bundle = std::mem::take(&mut self.bundle);
        for (level, (number, hashes)) in std::mem::take(&mut self.levels).into_iter().enumerate() {
            let width = hashes.len() as u64;
            if width > 0 {
                self.write(&level.to_string(), number, width, &hashes.concat())?;
            }
            if level == 0 && width > 0 {
                self.write("entries", number, width, &bundle)?;
            }
        }
        Ok(self.bytes)
    }

    fn write(&self, kind: &str, number: u64, width: u64, bytes: &[u8]) -> io::Result<()> {
        let mut path = self.out.join("tile").join(kind).join(tile_path(number));
        if width < WIDTH {
            path = partial_directory(&path).join(width.to_string());
        }
        if let Some(parent) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)?;
        }
        private_file(&path, bytes)
    }
}

fn copy_keys(directory: &Path, out: &Path) -> io::Result<()> {
    let keys = directory.join("keys");
    let mut files = vec![PathBuf::from("log.pub")];
    if keys.is_dir() {
        private_directory(&out.join("keys"))?;
        for entry in fs::read_dir(&keys)? {
            files.push(Path::new("keys").join(entry?.file_name()));
        }
    }
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|end| end == "pub"))
    {
        match fs::read(directory.join(file)) {
            Ok(bytes) => private_file(&out.join(file), &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

fn private_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}
