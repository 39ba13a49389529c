//! `cordon policy lsp`: a language server for editors, on standard input and output.

use std::path::PathBuf;

use clap::Args;

use crate::{error::Failure, lsp, paths::Paths};

/// Options of `cordon policy lsp`.
#[derive(Debug, Args)]
pub struct LspArgs {
    /// Do not propose hosts and users that the log has seen
    #[arg(long)]
    no_log: bool,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR", conflicts_with = "no_log")]
    log: Option<PathBuf>,
    /// Speak over standard input and output; the only way, accepted because editors pass it
    #[arg(long, hide = true)]
    stdio: bool,
}

/// Serves until the editor says goodbye.
pub fn lsp(args: &LspArgs) -> Result<u8, Failure> {
    let log = match (&args.log, args.no_log) {
        (_, true) => None,
        (Some(directory), false) => Some(directory.clone()),
        // Without a home there is no log to propose from, and everything else works.
        (None, false) => Paths::from_env(|name| std::env::var_os(name))
            .ok()
            .map(|paths| paths.log()),
    };
    lsp::serve(log)?;
    Ok(0)
}
