//! `cordon policy`: work on policies.

mod check;
mod files;
mod key;
mod pack;
mod sign;
mod verify;

use clap::Subcommand;

use super::Format;
use crate::error::Failure;

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate policies against the schema; say where and why
    Check(check::CheckArgs),
    /// Make an archive of a bundle's directory
    Pack(pack::PackArgs),
    /// Sign a bundle
    Sign(sign::SignArgs),
    /// Say whether a node would take a bundle: signatures, revision, validity, rules
    Verify(verify::VerifyArgs),
    /// Make and show keys that sign bundles
    #[command(subcommand)]
    Key(key::KeyCommand),
}

/// Does it. Exit 0 when there is nothing wrong, 1 when there is.
pub fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Check(args) => check::check(&args),
        Command::Pack(args) => pack::pack(&args),
        Command::Sign(args) => sign::sign(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Key(command) => key::key(&command),
    }
}
