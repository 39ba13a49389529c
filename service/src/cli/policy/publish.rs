//! `cordon policy publish`: a bundle into force for all, without a rollout before.

use std::path::PathBuf;

use clap::Args;

use super::{
    Format,
    change::{absolute, change},
};
use crate::{control::PolicyAsk, error::Failure};

/// Options of `cordon policy publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// The bundle: a directory or an archive
    bundle: PathBuf,
    /// Only if it is just the one that waits for a second signature
    #[arg(long)]
    second: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does it. Exit 0 when it is in force, 3 when it may not be or waits for a second signature.
pub fn publish(args: &PublishArgs) -> Result<u8, Failure> {
    let ask = PolicyAsk::Publish {
        bundle: absolute(&args.bundle)?,
        second: args.second,
    };
    change(ask, args.format)
}
