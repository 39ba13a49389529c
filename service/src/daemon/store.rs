//! Small JSON files in a folder of their own, by name: written whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The file of one name. Whoever passes a name has checked that it is one.
pub fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.json"))
}

/// Reads one; none where there is none.
///
/// # Errors
/// It cannot be read, or is larger than anything that was written.
pub fn read(folder: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let opened = match File::open(file(folder, name)) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    opened.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= MAX_BYTES) {
        Ok(Some(text))
    } else {
        Err(io::Error::other(format!("larger than {MAX_BYTES} bytes")))
    }
}

/// Writes one, durably, 0600 in a 0700 folder.
///
/// # Errors
/// Then what was there before is still there.
pub fn write(folder: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_BYTES) {
        return Err(io::Error::other(format!("larger than {MAX_BYTES} bytes")));
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)?;
    let new = folder.join(format!(".{name}.new"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut opened = options.open(&new)?;
    opened.write_all(text)?;
    opened.sync_all()?;
    fs::rename(&new, file(folder, name))?;
    File::open(folder)?.sync_all()
}

/// All names, sorted.
///
/// # Errors
/// When the folder cannot be read.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
        names.extend(name.map(str::to_owned));
    }
    names.sort_unstable();
    Ok(names)
}

/// Largest file, in bytes.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
