//! `cordon policy`: work on policies.

mod check;
mod diff;
mod files;
mod import;
pub mod inputs;
mod key;
mod pack;
mod replay;
mod sign;
mod suggest;
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
    /// Show what a change newly allows and newly denies, each with a request as proof
    Diff(diff::DiffArgs),
    /// Decide recorded requests again under a candidate; show what changes
    Replay(replay::ReplayArgs),
    /// Propose rules for what was refused, with the evidence
    Suggest(suggest::SuggestArgs),
    /// Make a draft from an allow list of another program
    Import(import::ImportArgs),
}

/// Does it. Exit 0 when there is nothing wrong, 1 when there is.
pub fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Check(args) => check::check(&args),
        Command::Pack(args) => pack::pack(&args),
        Command::Sign(args) => sign::sign(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Key(command) => key::key(&command),
        Command::Diff(args) => diff::diff(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Suggest(args) => suggest::suggest(&args),
        Command::Import(args) => import::import(&args),
    }
}
