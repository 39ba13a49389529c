//! Which policy a command is about: shipped packs by name, files, directories and bundles.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use cordon_policy::{packs, source::PolicySource};

use crate::error::Failure;

/// Reads what `--policy` names: the name of a shipped pack (a file of that name is `./NAME`), or
/// a path. Several make one set.
pub fn read(paths: &[PathBuf]) -> Result<PolicySource, Failure> {
    let (names, files): (Vec<&Path>, Vec<&Path>) = paths
        .iter()
        .map(PathBuf::as_path)
        .partition(|path| pack(path).is_some());
    let built_in = names.into_iter().filter_map(pack);
    let own = (!files.is_empty())
        .then(|| read_files(&files))
        .transpose()?;
    built_in
        .chain(own)
        .reduce(PolicySource::join)
        .ok_or_else(|| Failure::new("no policy is named").usage())
}

/// Reads a text file of at most `most` bytes.
pub fn read_text(path: &Path, most: usize) -> Result<String, Failure> {
    let cannot = |why: &dyn std::fmt::Display| {
        Failure::new(format!("`{}` cannot be read: {why}", path.display()))
            .help("check the path and that the user may read it")
    };
    // Before opening: opening a pipe waits for its other end.
    if !path.metadata().map_err(|error| cannot(&error))?.is_file() {
        return Err(cannot(&"it is not a regular file"));
    }
    let mut text = String::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    let file = File::open(path).map_err(|error| cannot(&error))?;
    file.take(limit.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(|error| cannot(&error))?;
    if text.len() > most {
        return Err(cannot(&format!("it has more than {most} bytes")));
    }
    Ok(text)
}

fn pack(path: &Path) -> Option<PolicySource> {
    PolicySource::pack(path.to_str()?)
}

fn read_files(files: &[&Path]) -> Result<PolicySource, Failure> {
    PolicySource::read(files).map_err(|error| {
        let is_bare = |path: &&Path| path.components().count() == 1 && !path.exists();
        let missing = files.iter().find(|path| is_bare(path));
        let failure = Failure::from(error);
        if missing.is_some() {
            failure.help(format!(
                "name a file or a directory, or one of {}",
                packs::names()
            ))
        } else {
            failure
        }
    })
}
