//! A file with one record a line, rotated by size. Synced before the cursor goes on.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use cordon_audit::{durable::sync_parent, export::Source};
use cordon_session::config::{FileSink, SinkFormat};

use super::Failure;
use crate::feed::{Entry, lines};

/// The file.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    format: SinkFormat,
    rotate_bytes: u64,
    keep: u32,
}

impl File {
    pub(super) fn new(config: &FileSink) -> Result<Self, String> {
        if !config.path.is_absolute() {
            return Err(format!(
                "`{}` is not an absolute path",
                config.path.display()
            ));
        }
        Ok(Self {
            path: config.path.clone(),
            format: config.format,
            rotate_bytes: config.rotate_bytes.max(1),
            keep: config.keep_files,
        })
    }

    pub(super) fn for_backfill(mut self, from: u64, to: u64) -> Self {
        let mut path = self.path.into_os_string();
        path.push(format!(".backfill-{from}-{to}"));
        self.path = path.into();
        self.rotate_bytes = u64::MAX;
        self
    }

    pub(super) fn deliver(&mut self, entries: &[Entry], source: &Source) -> Result<(), Failure> {
        self.append(&lines(entries, self.format, source))
            .map_err(|error| Failure::Retry(format!("`{}`: {error}", self.path.display())))
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(&self.path)?;
        let end = whole_lines(&mut file)?;
        file.set_len(end)?;
        if end > 0 && end.saturating_add(bytes.len() as u64) > self.rotate_bytes {
            drop(file);
            self.rotate()?;
            return self.append(bytes);
        }
        file.seek(SeekFrom::Start(end))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if end == 0 {
            sync_parent(&self.path)?;
        }
        Ok(())
    }

    /// `path` becomes `path.1`, that `path.2`, and so on; the oldest goes.
    fn rotate(&self) -> io::Result<()> {
        if self.keep == 0 {
            fs::remove_file(&self.path)?;
            return sync_parent(&self.path);
        }
        for number in (1..self.keep).rev() {
            match fs::rename(
                numbered(&self.path, number),
                numbered(&self.path, number + 1),
            ) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _renamed => {}
            }
        }
        fs::rename(&self.path, numbered(&self.path, 1))?;
        sync_parent(&self.path)
    }
}

/// Where the last whole line ends: what a crash left after it is delivered again.
fn whole_lines(file: &mut fs::File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut part = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(4096);
        let length = usize::try_from(end - start).unwrap_or(4096);
        let Some(part) = part.get_mut(..length) else {
            break;
        };
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn no_follow() -> i32 {
    // The flag is a small positive number on every platform we build for.
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default()
}
