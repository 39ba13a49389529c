//! `cordon policy new`: a bundle that is ready to edit, with tests that pass.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use cordon_policy::packs;

use super::files;
use crate::error::Failure;

/// Options of `cordon policy new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// Where to make it: a directory that is not there yet, or empty
    directory: PathBuf,
    /// The shipped pack to begin with; `cordon policy packs` lists them
    #[arg(long, value_name = "NAME", default_value = "default")]
    pack: String,
}

/// Does it.
pub fn new(args: &NewArgs) -> Result<u8, Failure> {
    let pack = packs::find(&args.pack).ok_or_else(|| {
        Failure::new(format!("there is no pack {:?}", args.pack))
            .help(format!("the packs are {}", packs::names()))
            .usage()
    })?;
    let directory = &args.directory;
    let name = bundle_name(directory)?;
    refuse_unless_empty(directory)?;
    for (path, text) in pack.files {
        let text = if path.ends_with("bundle.toml") {
            text.replacen(
                &format!("name = {:?}", pack.name),
                &format!("name = {name:?}"),
                1,
            )
        } else {
            (*text).to_owned()
        };
        println!("{}", write(directory, path, &text)?.display());
    }
    let shown = directory.display();
    eprintln!("\nEdit the rules and host groups, then:");
    eprintln!("  cordon policy check {shown}");
    eprintln!("  cordon policy test {shown}");
    eprintln!("  cordon policy explain --policy {shown} connect example.com:443");
    eprintln!("  cordon policy doc {shown}");
    Ok(0)
}

/// Writes one file of a bundle, and says where it is.
pub fn write(directory: &Path, path: &str, text: &str) -> Result<PathBuf, Failure> {
    let path = directory.join(path);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| {
            Failure::new(format!("`{}` cannot be made: {error}", folder.display()))
        })?;
    }
    files::replace(&path, text.as_bytes())?;
    Ok(path)
}

/// The directory's own name, which becomes the bundle's.
pub fn bundle_name(directory: &Path) -> Result<String, Failure> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    directory
        .file_name()
        .and_then(|name| name.to_str())
        .filter(|name| name.len() <= 64 && name.bytes().all(plain) && !name.starts_with(['.', '-']))
        .map(str::to_owned)
        .ok_or_else(|| {
            Failure::new(format!("`{}` is no name for a bundle", directory.display()))
                .help("name a directory with 1 to 64 of `a-z`, `0-9`, `-`, `_` and `.`")
                .usage()
        })
}

/// Nothing is overwritten.
pub fn refuse_unless_empty(directory: &Path) -> Result<(), Failure> {
    let is_free = match fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if is_free {
        return Ok(());
    }
    Err(
        Failure::new(format!("`{}` is there and not empty", directory.display()))
            .help("name a directory that is not there yet; nothing is overwritten")
            .usage(),
    )
}
