//! `cordon policy doc`: a page that says in plain words what a policy allows.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use cordon_policy::{
    Snapshot,
    plain_words::Overview,
    testing::{self, TestFile},
};

use super::{files, set, test};
use crate::error::Failure;

/// Options of `cordon policy doc`.
#[derive(Debug, Args)]
pub struct DocArgs {
    /// The policy: files, a directory, a bundle, or the name of a shipped pack
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// Where to write it; standard output when left out
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: PageFormat,
}

/// How the page is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum PageFormat {
    /// For a terminal.
    Text,
    /// For a repository or a wiki.
    #[default]
    Markdown,
    /// One file for a browser, without scripts.
    Html,
    /// For machines.
    Json,
}

/// Does it.
pub fn doc(args: &DocArgs) -> Result<u8, Failure> {
    let source = set::read(&args.paths)?;
    let snapshot = Snapshot::load(&source)?;
    let overview = Overview::of(&snapshot).with_groups(&source);
    let overview = match tests(args)? {
        Some(tests) => overview.with_tests(&testing::run(&snapshot, &tests, None)),
        None => overview,
    };
    let page = match args.format {
        PageFormat::Text => overview.to_string(),
        PageFormat::Markdown => overview.markdown(),
        PageFormat::Html => overview.html(),
        PageFormat::Json => format!("{}\n", serde_json::to_string_pretty(&overview)?),
    };
    match &args.output {
        Some(path) => files::replace(path, page.as_bytes())?,
        None => print!("{page}"),
    }
    Ok(0)
}

/// The tests of a policy that is one pack or one directory with tests.
fn tests(args: &DocArgs) -> Result<Option<Vec<(String, TestFile)>>, Failure> {
    match args.paths.as_slice() {
        [path] if !path.is_dir() || path.join("tests").is_dir() => test::of_policy(path),
        _several => Ok(None),
    }
}
