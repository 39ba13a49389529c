//! `cordon policy sign`: puts a signature into a bundle.

use std::path::PathBuf;

use clap::Args;
use cordon_policy::bundle::{self, Bundle, SigningKey};
use serde_json::json;

use super::{Format, files, pack};
use crate::error::Failure;

/// Options of `cordon policy sign`.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// The bundle: a directory, which gets a `bundle.sig`, or an archive, which is written again
    bundle: PathBuf,
    /// The key file (`cordon policy key new`)
    #[arg(short, long, value_name = "FILE")]
    key: PathBuf,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does it. A bundle that would not load is not signed.
pub fn sign(args: &SignArgs) -> Result<u8, Failure> {
    let bundle = Bundle::read(&args.bundle)?;
    let key = SigningKey::parse(&args.key, &files::read_secret(&args.key)?)?;
    pack::refuse_broken(&bundle)?;
    let signed = bundle::sign(&bundle, &key)?;
    if args.bundle.is_dir() {
        files::replace(&args.bundle.join("bundle.sig"), signed.text.as_bytes())?;
    } else {
        let bytes = bundle.clone().with_signatures(&signed).pack()?;
        files::replace(&args.bundle, &bytes)?;
    }
    match args.format {
        Format::Json => println!(
            "{}",
            json!({
                "bundle": bundle.reference(),
                "key": key.id(),
                "role": key.role(),
                "other_signatures_kept": signed.kept,
                "other_signatures_dropped": signed.dropped,
            })
        ),
        Format::Text => {
            println!("{}", pack::title(&bundle));
            println!("signed by {} as {}", key.id(), key.role());
            if signed.kept > 0 {
                println!("{} other signature(s) kept", signed.kept);
            }
            if signed.dropped > 0 {
                println!(
                    "{} signature(s) for other content taken out",
                    signed.dropped
                );
            }
        }
    }
    Ok(0)
}
