//! `cordon policy`: work on policies.

mod change;
mod check;
mod diff;
mod doc;
mod effective;
mod explain;
pub(super) mod files;
mod fmt;
mod import;
pub mod inputs;
mod key;
mod lsp;
pub(super) mod new;
mod pack;
mod packs;
mod promote;
mod publish;
mod replay;
mod rollback;
mod rollout;
mod sarif;
mod set;
mod sign;
pub mod status;
mod suggest;
mod test;
mod verify;

use clap::Subcommand;

use super::Format;
use crate::error::Failure;

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate policies against the schema; say where and why
    Check(check::CheckArgs),
    /// Show where bundles come from, what is in force, what is tried out
    Status(status::StatusArgs),
    /// Show what a running session is decided by
    Effective(effective::EffectiveArgs),
    /// Ask a bundle beside what is in force, and record both answers
    Try(rollout::TryArgs),
    /// Let a bundle decide for some sessions
    Rollout(rollout::RolloutArgs),
    /// Put what is tried out, rolled out or waiting into force for all
    Promote(promote::PromoteArgs),
    /// Put a bundle into force for all
    Publish(publish::PublishArgs),
    /// Take the candidate back, or go back to an earlier revision
    Rollback(rollback::RollbackArgs),
    /// Say what a policy answers to one request, and why
    Explain(explain::ExplainArgs),
    /// Run a policy's tests and say what they cover
    Test(test::TestArgs),
    /// Lay out policy files in one way
    Fmt(fmt::FmtArgs),
    /// Make a bundle that is ready to edit, with tests that pass
    New(new::NewArgs),
    /// Write a page that says in plain words what a policy allows
    Doc(doc::DocArgs),
    /// List the policies that are shipped
    Packs(packs::PacksArgs),
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
    /// Serve an editor: mistakes while writing, meanings, proposals, formatting
    Lsp(lsp::LspArgs),
}

/// Does it. Exit 0 when there is nothing wrong, 1 when there is.
pub fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Check(args) => check::check(&args),
        Command::Status(args) => status::status(&args),
        Command::Effective(args) => effective::effective(&args),
        Command::Try(args) => rollout::try_out(&args),
        Command::Rollout(args) => rollout::roll_out(&args),
        Command::Promote(args) => promote::promote(&args),
        Command::Publish(args) => publish::publish(&args),
        Command::Rollback(args) => rollback::rollback(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Test(args) => test::test(&args),
        Command::Fmt(args) => fmt::fmt(&args),
        Command::New(args) => new::new(&args),
        Command::Doc(args) => doc::doc(&args),
        Command::Packs(args) => packs::packs(&args),
        Command::Pack(args) => pack::pack(&args),
        Command::Sign(args) => sign::sign(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Key(command) => key::key(&command),
        Command::Diff(args) => diff::diff(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Suggest(args) => suggest::suggest(&args),
        Command::Import(args) => import::import(&args),
        Command::Lsp(args) => lsp::lsp(&args),
    }
}
