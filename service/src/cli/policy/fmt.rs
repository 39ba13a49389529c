//! `cordon policy fmt`: lays out `.cedar` files in one way. Data and test files are left alone.

use std::path::{Path, PathBuf};

use clap::Args;
use cordon_policy::format;

use super::{files, set};
use crate::{cli::exit, error::Failure};

/// Options of `cordon policy fmt`.
#[derive(Debug, Args)]
pub struct FmtArgs {
    /// `.cedar` files, or directories of them (also below `rules/`)
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// Change nothing; exit 1 when a file would change
    #[arg(long)]
    check: bool,
}

/// Most files of one run, and the deepest folder below the one that was named.
const MAX_FILES: usize = 1_000;
const MAX_DEPTH: usize = 5;
/// Most bytes of a file; more is no policy.
const MAX_BYTES: usize = 4 << 20;

/// Does it. Exit 1 when `--check` found something, or a file could not be read as policy.
pub fn fmt(args: &FmtArgs) -> Result<u8, Failure> {
    let mut paths = Vec::new();
    for path in &args.paths {
        collect(path, 0, &mut paths)?;
    }
    if paths.is_empty() {
        return Err(Failure::new("there is no `.cedar` file").usage());
    }
    let (mut changed, mut failed) = (0, 0);
    for path in &paths {
        let text = set::read_text(path, MAX_BYTES)?;
        match format::format(&text) {
            Err(error) => {
                failed += 1;
                eprintln!("error: `{}` {error}", path.display());
            }
            Ok(formatted) if formatted == text => {}
            Ok(formatted) => {
                changed += 1;
                if args.check {
                    println!("{} would change", path.display());
                } else {
                    files::replace(path, formatted.as_bytes())?;
                    println!("{}", path.display());
                }
            }
        }
    }
    if failed > 0 {
        eprintln!("help: `cordon policy check` says what is wrong");
    }
    Ok(if failed > 0 || (args.check && changed > 0) {
        exit::FAILED
    } else {
        0
    })
}

fn collect(path: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(format!("`{}` cannot be read: {error}", path.display()))
    };
    // A link's target is somebody else's file: only one that was named is followed.
    let kind = if depth == 0 {
        path.metadata()
    } else {
        path.symlink_metadata()
    }
    .map_err(unreadable)?;
    let is_cedar = path.extension().is_some_and(|found| found == "cedar");
    if kind.is_file() && (is_cedar || depth == 0) {
        found.push(path.to_owned());
    } else if kind.is_dir() && depth < MAX_DEPTH {
        let mut inside = Vec::new();
        for entry in path.read_dir().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                inside.push(entry.path());
            }
        }
        inside.sort();
        for path in &inside {
            collect(path, depth + 1, found)?;
        }
    }
    if found.len() > MAX_FILES {
        return Err(Failure::new(format!("there are more than {MAX_FILES} files")).usage());
    }
    Ok(())
}
