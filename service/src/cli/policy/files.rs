//! Files that the commands about bundles read and write.
//!
//! What is written is whole or not there.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use cordon_audit::durable::replace_shared;

use crate::error::Failure;

/// Puts `bytes` where `path` says, in place of what was there.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let fail = |error: io::Error| {
        Failure::new(format!("`{}` cannot be written: {error}", path.display()))
            .help("check the path and that the user may write there")
    };
    replace_shared(path, bytes).map_err(fail)
}

/// Makes a file that only its owner may read; one that is there is never replaced.
pub fn write_secret(path: &Path, text: &str) -> Result<(), Failure> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::AlreadyExists => {
                "a key is never overwritten: name another file, or move that one aside"
            }
            _other => "check the path and that the user may write there",
        };
        Failure::new(format!("`{}` cannot be written: {error}", path.display())).help(help)
    })
}

/// Reads a file that others must not be able to read.
pub fn read_secret(path: &Path) -> Result<String, Failure> {
    let file = open(path)?;
    let mode = file.metadata()?.mode();
    if mode & 0o077 != 0 {
        return Err(Failure::new(format!(
            "`{}` can be read or written by others (mode {:o})",
            path.display(),
            mode & 0o777
        ))
        .help(format!(
            "if nobody else has it: chmod 600 '{}'; otherwise make a new key",
            path.display()
        )));
    }
    read(file, path)
}

/// Reads a small text file.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    read(open(path)?, path)
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| {
        Failure::new(format!("`{}` cannot be read: {error}", path.display()))
            .help("check the path and that the user may read it")
    })
}

fn read(file: File, path: &Path) -> Result<String, Failure> {
    const MOST: u64 = 1 << 20;
    let mut text = String::new();
    let read = file.take(MOST + 1).read_to_string(&mut text);
    match read {
        Ok(length) if length as u64 <= MOST => Ok(text),
        Ok(_) => Err(Failure::new(format!("`{}` is too large", path.display()))
            .help(format!("such a file has at most {MOST} bytes"))),
        Err(error) => Err(
            Failure::new(format!("`{}` cannot be read: {error}", path.display()))
                .help("check that it is the right file"),
        ),
    }
}
