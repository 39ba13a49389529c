//! `cordon policy check`: validates policies and says where and why not.

use std::path::PathBuf;

use clap::Args;
use cordon_policy::{
    check::{self, Severity},
    source::PolicySource,
};

use super::Format;
use crate::{cli::exit, error::Failure};

/// Options of `cordon policy check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Policy files (`*.cedar`), data files (`*.toml`), or directories of them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does it. Exit 0 when there is nothing wrong, 1 when there is.
pub fn check(args: &CheckArgs) -> Result<u8, Failure> {
    let paths: Vec<_> = args.paths.iter().map(PathBuf::as_path).collect();
    let source = PolicySource::read(&paths)?;
    let findings = check::check(&source);
    let errors = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&findings)?),
        Format::Text => {
            for finding in &findings {
                println!("{finding}\n");
            }
            let files = source.files.len();
            let found = match (errors, findings.len() - errors) {
                (0, 0) => "nothing wrong".to_owned(),
                (errors, warnings) => format!("{errors} error(s), {warnings} warning(s)"),
            };
            println!("{files} file(s) checked, {found}");
        }
    }
    Ok(if errors == 0 { 0 } else { exit::FAILED })
}
