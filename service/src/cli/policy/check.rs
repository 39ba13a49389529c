//! `cordon policy check`: validates policies, says where and why not, and what is dubious.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use cordon_policy::{
    check::{self, Finding, Severity},
    source::PolicySource,
};

use super::sarif::sarif;
use crate::{cli::exit, error::Failure};

/// Options of `cordon policy check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Policy files (`*.cedar`), data files (`*.toml`), or directories of them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Fail on warnings too
    #[arg(long)]
    deny_warnings: bool,
    /// Leave notes out: what is fine and good to know
    #[arg(long, short)]
    quiet: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: CheckFormat,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum CheckFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON array.
    Json,
    /// For code hosts and editors: SARIF 2.1.0.
    Sarif,
}

/// Does it. Exit 0 when the set loads, 1 when it does not, or with `--deny-warnings` when there
/// are warnings.
pub fn check(args: &CheckArgs) -> Result<u8, Failure> {
    let paths: Vec<_> = args.paths.iter().map(PathBuf::as_path).collect();
    let source = PolicySource::read(&paths)?;
    let mut findings = check::check(&source);
    findings.retain(|finding| !args.quiet || finding.severity != Severity::Note);
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    match args.format {
        CheckFormat::Json => println!("{}", serde_json::to_string(&findings)?),
        CheckFormat::Sarif => println!("{}", serde_json::to_string_pretty(&sarif(&findings))?),
        CheckFormat::Text => {
            for finding in &findings {
                println!("{}\n", coloured(finding));
            }
            let counts = [
                (errors, "error"),
                (warnings, "warning"),
                (count(Severity::Note), "note"),
            ];
            let files = counted(&[(source.files.len(), "file")]);
            match (errors + warnings, counted(&counts)) {
                (0, notes) if notes.is_empty() => println!("{files} checked, nothing wrong"),
                (0, notes) => println!("{files} checked, nothing wrong, {notes}"),
                (_, found) => println!("{files} checked, {found}"),
            }
        }
    }
    let failed = errors > 0 || (args.deny_warnings && warnings > 0);
    Ok(if failed { exit::FAILED } else { 0 })
}

/// `2 errors, 1 note`; zeroes are left out.
fn counted(counts: &[(usize, &str)]) -> String {
    let words: Vec<String> = counts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}{}", if *n == 1 { "" } else { "s" }))
        .collect();
    words.join(", ")
}

/// The finding, its first word in colour on a terminal.
fn coloured(finding: &Finding) -> String {
    let text = finding.to_string();
    if !io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return text;
    }
    let colour = match finding.severity {
        Severity::Error => 31,
        Severity::Warning => 33,
        Severity::Note => 36,
    };
    match text.split_once(':') {
        Some((head, rest)) => format!("\u{1b}[1;{colour}m{head}\u{1b}[0m:{rest}"),
        None => text,
    }
}
