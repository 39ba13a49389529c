//! `cordon policy`: work on policies.

mod check;
mod lsp;
mod sarif;

use clap::Subcommand;

use crate::error::Failure;

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate policies against the schema; say where and why
    Check(check::CheckArgs),
    /// Serve an editor: mistakes while writing, meanings, proposals, formatting
    Lsp(lsp::LspArgs),
}

/// Does it. Exit 0 when there is nothing wrong, 1 when there is.
pub fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Check(args) => check::check(&args),
        Command::Lsp(args) => lsp::lsp(&args),
    }
}
