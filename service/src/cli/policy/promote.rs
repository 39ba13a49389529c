//! `cordon policy promote`: the candidate, or the bundle that waits, into force for all.

use clap::Args;
use cordon_policy::Layer;

use super::{
    Format,
    change::{change, layer},
};
use crate::{control::PolicyAsk, error::Failure};

/// Options of `cordon policy promote`.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// Of which layer
    #[arg(long, value_parser = layer)]
    layer: Option<Layer>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does it. Exit 0 when it is in force, 3 when it may not be or waits for a second signature.
pub fn promote(args: &PromoteArgs) -> Result<u8, Failure> {
    change(PolicyAsk::Promote { layer: args.layer }, args.format)
}
