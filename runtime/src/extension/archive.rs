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
    let mut layout = Layout::new(Some(into));
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    /// An archive of files, each with its mode; `link` is a symbolic link.
    fn archive(files: &[(&str, u32)], link: Option<&str>) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (path, mode) in files {
            let options = SimpleFileOptions::default().unix_permissions(*mode);
            writer.start_file(*path, options).unwrap();
            writer.write_all(path.as_bytes()).unwrap();
        }
        if let Some(link) = link {
            writer
                .add_symlink(link, "/etc/passwd", SimpleFileOptions::default())
                .unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn extracted(bytes: &[u8]) -> Result<String, String> {
        let into = tempfile::tempdir().unwrap();
        extract(bytes, into.path()).map_err(|error| error.to_string())
    }

    /// Other bytes in place of some, everywhere.
    fn with(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        while let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
            bytes[at..at + from.len()].copy_from_slice(to);
        }
        bytes
    }

    #[test]
    fn p08_an_archive_has_the_digest_of_its_files() {
        let bytes = archive(&[("manifest.json", 0o644), ("bin/run", 0o755)], None);
        let into = tempfile::tempdir().unwrap();
        let digest = extract(&bytes, into.path()).unwrap();
        assert_eq!(super::super::digest(into.path()).unwrap(), digest);
        assert_ne!(
            extracted(&archive(
                &[("manifest.json", 0o644), ("bin/run", 0o644)],
                None
            )),
            Ok(digest)
        );
    }

    #[test]
    fn an_archive_that_deceives_is_refused() {
        for (bytes, why) in [
            (archive(&[("../evil", 0o644)], None), "leads elsewhere"),
            (archive(&[("a/../../evil", 0o644)], None), "leads elsewhere"),
            (archive(&[("/etc/evil", 0o644)], None), "leads elsewhere"),
            (archive(&[("a\\b", 0o644)], None), "a character"),
            (archive(&[("a", 0o644)], Some("link")), "a link"),
            (archive(&[("Same", 0o644), ("same", 0o644)], None), "twice"),
            (
                with(
                    &archive(&[("twin1", 0o644), ("twin2", 0o644)], None),
                    b"twin2",
                    b"twin1",
                ),
                "twice",
            ),
            (
                [archive(&[("a", 0o644)], None), b"behind it".to_vec()].concat(),
                "behind",
            ),
            (b"PK".to_vec(), "not accepted"),
        ] {
            let refused = extracted(&bytes).unwrap_err();
            assert!(refused.contains(why), "{why}: {refused}");
        }
    }
}
