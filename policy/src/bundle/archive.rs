//! Archives: tar in gzip, in and out.
//!
//! Hostile bytes in, checked files out; files in, the same bytes each time out. What tar can say
//! beyond names and contents (links, devices, owners, long names, extensions) is refused, so that
//! every program reads an archive as we do.

use std::io::{Read as _, Write as _};

use flate2::{Compression, GzBuilder, bufread::GzDecoder};
use tar::{Archive, EntryType, Header};

use super::{
    BundleError, Limits,
    contents::{Collector, Contents, too_much},
    error::Artefact,
    path::is_folder,
};

/// Bytes that tar adds to each file, at most: a header and what fills its last block.
const OVERHEAD_PER_FILE: usize = 1_024;
/// Bytes that tar programs fill the end up with, at most, folders included.
const OVERHEAD: usize = 256 << 10;
/// Most entries that are folders; a bundle has a handful.
const MAX_FOLDERS: usize = 64;

/// Reads an archive.
pub(super) fn unpack(bytes: &[u8], limits: &Limits) -> Result<Contents, BundleError> {
    if bytes.len() > limits.packed_bytes {
        return Err(Artefact::Bundle.error(
            format!("the archive has more than {} bytes", limits.packed_bytes),
            "check that it is a policy bundle",
        ));
    }
    let tar = gunzip(bytes, limits)?;
    let mut rest = tar.as_slice();
    let mut archive = Archive::new(&mut rest);
    let mut collector = Collector::new(limits);
    let mut folders = 0_usize;
    // Raw: the library would gather long names and extensions in memory, and act on them.
    for entry in archive.entries().map_err(|e| broken(&e))?.raw(true) {
        let mut entry = entry.map_err(|e| broken(&e))?;
        let name = entry.path_bytes().into_owned();
        let name = name.strip_prefix(b"./").unwrap_or(&name);
        match entry.header().entry_type() {
            EntryType::Regular => {
                let place = collector.admit(name, entry.size())?;
                let mut content = Vec::new();
                entry.read_to_end(&mut content).map_err(|e| broken(&e))?;
                if u64::try_from(content.len()) != Ok(entry.size()) {
                    return Err(broken_archive("it ends within a file"));
                }
                collector.take(place, content)?;
            }
            EntryType::Directory => {
                folders += 1;
                check_folder(name, entry.size(), folders)?;
            }
            other => return Err(wrong_type(name, other)),
        }
    }
    // Nothing after the end: another program might read on.
    if rest.iter().any(|byte| *byte != 0) {
        return Err(broken_archive("there is something after its end"));
    }
    Ok(collector.finish())
}

/// The bundle as an archive.
pub(super) fn pack(contents: &Contents) -> Result<Vec<u8>, BundleError> {
    let fail = |error: std::io::Error| {
        Artefact::Bundle.error(format!("it cannot be packed: {error}"), "please report it")
    };
    // No name and no time in the gzip header; in tar's neither time nor owner.
    let gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    let mut tar = tar::Builder::new(gzip);
    for (path, _, text) in contents.files() {
        let mut header = Header::new_ustar();
        header.set_path(path).map_err(fail)?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(u64::try_from(text.len()).unwrap_or(u64::MAX));
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        tar.append(&header, text.as_bytes()).map_err(fail)?;
    }
    let mut gzip = tar.into_inner().map_err(fail)?;
    gzip.flush().map_err(fail)?;
    gzip.finish().map_err(fail)
}

/// Unpacks the one gzip member, at most what the limits allow with tar's own overhead.
fn gunzip(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, BundleError> {
    let most = limits
        .files
        .saturating_mul(OVERHEAD_PER_FILE)
        .saturating_add(limits.total_bytes)
        .saturating_add(OVERHEAD);
    let mut decoder = GzDecoder::new(bytes);
    let mut tar = Vec::new();
    let read = (&mut decoder)
        .take(u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1))
        .read_to_end(&mut tar)
        .map_err(|e| broken(&e))?;
    if read > most {
        return Err(too_much(limits));
    }
    if !decoder.into_inner().is_empty() {
        return Err(broken_archive("there is something after its end"));
    }
    Ok(tar)
}

fn check_folder(name: &[u8], size: u64, count: usize) -> Result<(), BundleError> {
    let path = std::str::from_utf8(name).unwrap_or("/");
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_known = matches!(path, "" | ".") || is_folder(path);
    if is_known && size == 0 && count <= MAX_FOLDERS {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(name);
    Err(Artefact::Bundle.error(
        format!("no bundle has the folder {shown:.200?}"),
        "its files lie at the top of the archive, in `rules/`, `data/` and `tests/`: \
         pack it with `cordon policy pack`, or with `tar -C FOLDER -czf FILE .`",
    ))
}

fn wrong_type(name: &[u8], kind: EntryType) -> BundleError {
    let words = match kind {
        EntryType::Symlink => "a symlink",
        EntryType::Link => "a hard link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a pipe",
        EntryType::GNULongName | EntryType::GNULongLink => "a name of more than 100 bytes",
        EntryType::XHeader | EntryType::XGlobalHeader => "a pax extension",
        EntryType::GNUSparse => "a sparse file",
        _other => "of an unknown type",
    };
    let shown = String::from_utf8_lossy(name);
    Artefact::Bundle.error(
        format!("the archive's entry {shown:.200?} is {words}; only plain files are accepted"),
        "pack it with `cordon policy pack`, or with `tar --format=ustar`",
    )
}

fn broken(error: &std::io::Error) -> BundleError {
    broken_archive(&error.to_string())
}

fn broken_archive(why: &str) -> BundleError {
    Artefact::Bundle.error(
        format!("the archive is broken, or no tar archive in gzip: {why:.200}"),
        "get it again, or pack it again with `cordon policy pack`",
    )
}
