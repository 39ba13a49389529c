//! Where things lie in a log's directory (C2SP tlog-tiles below it), for whoever reads a log
//! without the code that wrote it.
//!
//! Paths and bytes in, leaves and hashes out. Entries `[0, sealed)` lie in entry bundles with
//! Merkle tiles over them, the rest in the journal. Changes nothing.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use serde::Deserialize;

use super::{VerifyError, journal, tree::Hash};

/// Entries in a full bundle, and hashes in a full tile.
pub(crate) const WIDTH: u64 = 256;

/// A log's directory.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) directory: PathBuf,
    /// Entries before this one are to be read from bundles.
    pub(crate) sealed: u64,
    /// Entries before this one are pruned: their bundles and lowest tiles are gone.
    pub(crate) minimum: u64,
}

#[derive(Debug, Deserialize)]
struct Pruned {
    minimum: u64,
}

/// Longest leaf that a reader accepts: what the record schema allows.
const MAX_LEAF: usize = 16 * 1024;

/// Largest bundle: 256 leaves of the largest size with their lengths.
const MAX_BUNDLE: u64 = WIDTH * (2 + MAX_LEAF as u64);

impl Store {
    /// Finds out what lies where.
    pub(crate) fn open(directory: &Path) -> Result<Self, VerifyError> {
        let entries = directory.join("tile/entries");
        let fail = |error| VerifyError::io(&entries, &error);
        let bundled = match last_bundle(&entries, 0).map_err(fail)? {
            Some((number, width)) => number * WIDTH + width,
            None => 0,
        };
        // A journal that is still there holds its records, whatever a sealing has copied by now.
        let first_journal = journal::list(directory)?.first().map(|(first, _)| *first);
        Ok(Self {
            directory: directory.into(),
            sealed: first_journal.map_or(bundled, |first| first.min(bundled)),
            minimum: pruned(directory)?,
        })
    }

    /// The bytes of bundle `number` with at least `width` entries.
    pub(crate) fn bundle(&self, number: u64, width: u64) -> io::Result<Option<Vec<u8>>> {
        self.stored("entries", number, width, MAX_BUNDLE)
    }

    /// The hashes of a tile, at least `width` of them.
    pub(crate) fn tile(
        &self,
        level: u32,
        number: u64,
        width: u64,
    ) -> io::Result<Option<Vec<Hash>>> {
        let bytes = self.stored(&level.to_string(), number, width, WIDTH * 32)?;
        Ok(bytes.and_then(|bytes| {
            let (hashes, rest) = bytes.as_chunks::<32>();
            let enough = rest.is_empty() && hashes.len() as u64 >= width;
            enough.then(|| hashes.to_vec())
        }))
    }

    /// The full file, or else the narrowest partial one that is wide enough.
    fn stored(
        &self,
        kind: &str,
        number: u64,
        width: u64,
        limit: u64,
    ) -> io::Result<Option<Vec<u8>>> {
        let path = self
            .directory
            .join("tile")
            .join(kind)
            .join(tile_path(number));
        if let Some(bytes) = read_bounded(&path, limit)? {
            return Ok(Some(bytes));
        }
        let partials = partial_directory(&path);
        let mut widths = widths_in(&partials)?;
        widths.sort_unstable();
        match widths.into_iter().find(|have| *have >= width) {
            Some(have) => read_bounded(&partials.join(have.to_string()), limit),
            None => Ok(None),
        }
    }
}

/// The leaves of a bundle, in order; where it breaks, what is wrong there.
pub(crate) fn leaves(bundle: &[u8]) -> impl Iterator<Item = Result<&[u8], &'static str>> {
    let mut rest = Some(bundle).filter(|bundle| !bundle.is_empty());
    std::iter::from_fn(move || {
        let bytes = rest?;
        let Some((len, after)) = bytes.split_first_chunk::<2>() else {
            rest = None;
            return Some(Err("its bundle is cut short"));
        };
        let len = usize::from(u16::from_be_bytes(*len));
        if len > MAX_LEAF {
            rest = None;
            return Some(Err("its length is impossible"));
        }
        match after.split_at_checked(len) {
            Some((leaf, after)) => {
                rest = Some(after).filter(|after| !after.is_empty());
                Some(Ok(leaf))
            }
            None => {
                rest = None;
                Some(Err("its bundle is cut short"))
            }
        }
    })
}

/// `x001/x234/067` of 1234067.
pub(crate) fn tile_path(number: u64) -> PathBuf {
    let mut parts = vec![format!("{:03}", number % 1000)];
    let mut rest = number / 1000;
    while rest > 0 {
        parts.push(format!("x{:03}", rest % 1000));
        rest /= 1000;
    }
    parts.iter().rev().collect()
}

/// Where the partial tiles lie that come before the full one at `path`.
pub(crate) fn partial_directory(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".p");
    name.into()
}

/// Reads a file of at most `limit` bytes; `None` when it is not there. What is no file, a pipe for
/// instance, is an error and never waited for: whose log it is may be nobody's friend.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(no_wait())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let length = metadata.len();
    if length > limit {
        return Err(io::Error::other(format!("larger than {limit} bytes")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn no_wait() -> i32 {
    // The flag is a small positive number on every platform we build for.
    i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default()
}

/// Number and width of the last bundle below `directory`; deeper paths have larger numbers.
fn last_bundle(directory: &Path, prefix: u64) -> io::Result<Option<(u64, u64)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut last = None;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let found = if let Some(digits) = name.strip_prefix('x') {
            match three(digits).and_then(|part| prefix.checked_mul(1000)?.checked_add(part)) {
                Some(deeper) if deeper < u64::MAX / 1_000_000 => {
                    last_bundle(&entry.path(), deeper)?
                }
                _ => None,
            }
        } else if let Some(digits) = name.strip_suffix(".p") {
            let width = widths_in(&entry.path())?.into_iter().max();
            three(digits)
                .zip(width)
                .map(|(n, width)| (prefix * 1000 + n, width))
        } else {
            three(name).map(|n| (prefix * 1000 + n, WIDTH))
        };
        last = last.max(found);
    }
    Ok(last)
}

fn three(digits: &str) -> Option<u64> {
    let plain = digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

fn widths_in(directory: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut widths = Vec::new();
    for entry in entries {
        let width = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        widths.extend(width.filter(|width| (1..WIDTH).contains(width)));
    }
    Ok(widths)
}

/// The first entry that was not pruned.
pub(crate) fn pruned(directory: &Path) -> Result<u64, VerifyError> {
    let path = directory.join("pruned.json");
    let read = read_bounded(&path, 4096).map_err(|error| VerifyError::io(&path, &error))?;
    match read.map(|text| serde_json::from_slice::<Pruned>(&text)) {
        None => Ok(0),
        // Of the bundle that a pruning ends in nothing is gone.
        Some(Ok(pruned)) => Ok(pruned.minimum / WIDTH * WIDTH),
        Some(Err(_)) => Err(VerifyError {
            path,
            message: "it does not say up to where the log was pruned: put the file back".into(),
        }),
    }
}
