//! The sealed part of a log as it lies in files: manifests of segments, and entry bundles.
//!
//! Source: C2SP tlog-tiles, "Entry bundles".

use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::files;

/// A sealed segment: its first record, and the first one after it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sealed {
    /// Its first record.
    pub first: u64,
    /// The first one after it.
    pub end: u64,
}

impl Sealed {
    /// The sealed segments of a log that are still kept, in order.
    ///
    /// # Errors
    /// When a manifest cannot be read, or segments do not follow one on another.
    pub fn list(log: &Path) -> io::Result<Vec<Self>> {
        let entries = match fs::read_dir(log.join("segments")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut segments = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let manifest = path
                .extension()
                .is_some_and(|extension| extension == "json");
            // One that was listed and then pruned is gone like any other.
            if let Some(text) = manifest
                .then(|| files::read_small(&path, MAX_MANIFEST))
                .transpose()?
                .flatten()
            {
                segments.push(serde_json::from_slice::<Self>(&text)?);
            }
        }
        segments.sort_unstable_by_key(|segment| segment.first);
        let follow = segments.windows(2).all(|pair| match pair {
            [before, after] => before.end == after.first,
            _ => true,
        });
        let sound = segments.iter().all(|segment| {
            segment.first < segment.end
                && segment.first % BUNDLE == 0
                && segment.end - segment.first <= MAX_RECORDS
        });
        match follow && sound {
            true => Ok(segments),
            false => Err(io::Error::other(
                "its segments do not follow one on another: run `cordon audit verify`",
            )),
        }
    }
}

/// The leaves of entry bundle `number`: the full one, or else the longest partial one.
pub(crate) fn bundle(log: &Path, number: u64) -> io::Result<Vec<Vec<u8>>> {
    let full = log.join("tile/entries").join(spelled(number));
    let bytes = match read(&full)? {
        Some(bytes) => Some(bytes),
        None => partial(&full)?,
    };
    let bytes = bytes
        .ok_or_else(|| io::Error::other("an entry bundle is missing: run `cordon audit verify`"))?;
    leaves(&bytes)
        .ok_or_else(|| io::Error::other("an entry bundle is damaged: run `cordon audit verify`"))
}

fn partial(full: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut directory = full.as_os_str().to_owned();
    directory.push(".p");
    let directory = PathBuf::from(directory);
    let mut longest = None;
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name();
        let width = name.to_str().and_then(|name| name.parse::<u16>().ok());
        longest = longest.max(width);
    }
    match longest {
        Some(width) => read(&directory.join(width.to_string())),
        None => Ok(None),
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match files::open_to_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BUNDLE).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Each leaf after its length as two bytes, big-endian.
fn leaves(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut leaves = Vec::new();
    while !bytes.is_empty() {
        let (len, rest) = bytes.split_first_chunk::<2>()?;
        let (leaf, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
        leaves.push(leaf.to_vec());
        bytes = rest;
    }
    Some(leaves)
}

/// `1234067` is `x001/x234/067`.
pub(crate) fn spelled(mut number: u64) -> String {
    let mut path = format!("{:03}", number % 1000);
    while number >= 1000 {
        number /= 1000;
        path = format!("x{:03}/{path}", number % 1000);
    }
    path
}

/// Records in one entry bundle.
pub(crate) const BUNDLE: u64 = 256;

/// Largest bundle: each leaf has at most 65,535 bytes.
const MAX_BUNDLE: u64 = BUNDLE * (2 + 65_535);

const MAX_MANIFEST: u64 = 16 * 1024 * 1024;

const MAX_RECORDS: u64 = 1 << 24;
