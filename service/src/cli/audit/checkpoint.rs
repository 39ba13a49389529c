//! `cordon audit checkpoint`: the newest signed checkpoint, to be kept elsewhere.

use std::path::PathBuf;

use clap::Args;
use cordon_audit::prove;

use super::{Format, directory};
use crate::error::Failure;

/// Options of `cordon audit checkpoint`.
#[derive(Debug, Args)]
pub struct CheckpointArgs {
    /// How to print it: `text` is the signed note itself
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Does it.
pub fn checkpoint(args: &CheckpointArgs) -> Result<u8, Failure> {
    let note = prove::checkpoint(&directory(args.log.as_ref())?)?;
    match args.format {
        Format::Text => print!("{note}"),
        Format::Json => {
            let size = prove::checkpoint_size(&note);
            println!("{}", serde_json::json!({"size": size, "checkpoint": note}));
        }
    }
    Ok(0)
}
