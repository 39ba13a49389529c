//! `cordon policy packs`: the policies that are shipped.

use clap::Args;
use cordon_policy::packs::PACKS;
use serde_json::json;

use super::Format;
use crate::error::Failure;

/// Options of `cordon policy packs`.
#[derive(Debug, Args)]
pub struct PacksArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does it.
pub fn packs(args: &PacksArgs) -> Result<u8, Failure> {
    match args.format {
        Format::Json => {
            let packs = PACKS
                .iter()
                .map(|pack| json!({ "name": pack.name, "description": pack.description() }));
            println!("{}", serde_json::Value::from_iter(packs));
        }
        Format::Text => {
            let widest = PACKS.iter().map(|pack| pack.name.len()).max().unwrap_or(0);
            for pack in PACKS {
                println!("{:widest$}  {}", pack.name, pack.description());
            }
        }
    }
    Ok(0)
}
