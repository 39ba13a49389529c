//! `cordon policy`: work on policies.

mod check;

use clap::Subcommand;

use super::Format;
use crate::error::Failure;

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate policies against the schema; say where and why
    Check(check::CheckArgs),
}

/// Does it. Exit 0 when there is nothing wrong, 1 when there is.
pub fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Check(args) => check::check(&args),
    }
}
