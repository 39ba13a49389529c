//! Content of an archive (ZIP), laid out bounded: what it says about sizes is not believed.

use std::{io::Cursor, path::Path};

use zip::ZipArchive;

use super::{ExtensionError, folder::Layout};

/// Lays out an archive; its digest is that of the same files in a folder.
pub(super) fn extract(bytes: &[u8], into: &Path) -> Result<String, ExtensionError> {
    let refused = |error: zip::result::ZipError| ExtensionError::Archive(error.to_string());
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(refused)?;
    if archive.len() != central_entries(bytes)? {
        // The library keeps one of two entries with one name.
        return Err(ExtensionError::Archive("a name is in it twice".into()));
    }
    if archive.len() > MOST_ENTRIES {
        return Err(ExtensionError::TooLarge("it has more than 40,000 entries"));
    }
    let mut layout = Layout::new(into);
    for at in 0..archive.len() {
        let entry = archive.by_index(at).map_err(refused)?;
        let Ok(path) = std::str::from_utf8(entry.name_raw()) else {
            let shown = String::from_utf8_lossy(entry.name_raw()).into_owned();
            return Err(ExtensionError::Path(shown, "it is not UTF-8"));
        };
        let path = path.to_owned();
        let mode = entry.unix_mode().unwrap_or(0o644);
        match mode & FILE_TYPE {
            0 | REGULAR | FOLDER => {}
            _other => return Err(ExtensionError::Path(path, "it is a link or no file")),
        }
        if entry.encrypted() {
            return Err(ExtensionError::Path(path, "it is encrypted"));
        }
        if entry.is_dir() || mode & FILE_TYPE == FOLDER {
            continue;
        }
        layout.add(&path, mode & 0o111 != 0, entry)?;
    }
    Ok(layout.digest())
}

/// Entries as the end of the central directory counts them.
fn central_entries(bytes: &[u8]) -> Result<usize, ExtensionError> {
    let no_end = || ExtensionError::Archive("it has no end of its directory".into());
    let start = bytes.len().checked_sub(END_BYTES).ok_or_else(no_end)?;
    let end = bytes.get(start..).ok_or_else(no_end)?;
    if !end.starts_with(END_MARK) {
        return Err(ExtensionError::Archive(
            "something stands behind the end of its directory".into(),
        ));
    }
    match end.get(10..12) {
        Some([low, high]) => Ok(usize::from(u16::from_le_bytes([*low, *high]))),
        _short => Err(no_end()),
    }
}

pub(super) const END_MARK: &[u8] = b"PK\x05\x06";
/// Without a comment.
pub(super) const END_BYTES: usize = 22;
const MOST_ENTRIES: usize = 40_000;
const FILE_TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
