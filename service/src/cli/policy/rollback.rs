//! `cordon policy rollback`: the candidate taken back, or an earlier revision in force again.

use clap::Args;
use cordon_policy::Layer;

use super::{
    Format,
    change::{change, layer},
};
use crate::{control::PolicyAsk, error::Failure};

/// Options of `cordon policy rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// To this revision; without it the candidate is taken back, or, where there is none, the
    /// revision before is in force again
    #[arg(long, value_name = "REVISION")]
    to: Option<u64>,
    /// Of which layer
    #[arg(long, value_parser = layer)]
    layer: Option<Layer>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does it. Exit 0 when it is done, 3 when it may not be.
pub fn rollback(args: &RollbackArgs) -> Result<u8, Failure> {
    let ask = PolicyAsk::Rollback {
        layer: args.layer,
        to: args.to,
    };
    change(ask, args.format)
}
