//! `cordon audit key`: the keys that sign the log.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use cordon_audit::Task;
use serde::Serialize;

use super::{Format, directory, order::carry_out};
use crate::error::Failure;

/// What to do with the keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Show the public keys of all times; the first is the one the log is known by
    List(ListArgs),
    /// Sign with a new key from now on; the daemon does so once a day by itself
    Rotate(RotateArgs),
}

/// Options of `cordon audit key list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Options of `cordon audit key rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// One public key.
#[derive(Debug, Serialize)]
struct Shown {
    /// As a signed note's verifier key.
    key: String,
    /// Whether the log is known by it.
    first: bool,
}

/// Does it.
pub fn key(command: &KeyCommand) -> Result<u8, Failure> {
    match command {
        KeyCommand::List(args) => list(args),
        KeyCommand::Rotate(args) => {
            carry_out(args.log.as_ref(), Task::RotateKey, "asked for")?;
            println!("the key changes as soon as that is recorded");
            Ok(0)
        }
    }
}

fn list(args: &ListArgs) -> Result<u8, Failure> {
    let log = directory(args.log.as_ref())?;
    let keys = keys(&log).map_err(|error| {
        Failure::new(format!("keys not read: {error}"))
            .help("the first `cordon run` makes the log; `--log DIR` names another")
    })?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&keys)?),
        Format::Text => {
            for key in keys {
                println!("{}{}", key.key, if key.first { "  (first)" } else { "" });
            }
        }
    }
    Ok(0)
}

/// In the order of their files' times: the first one first.
fn keys(log: &Path) -> std::io::Result<Vec<Shown>> {
    let first = fs::read_to_string(log.join("log.pub"))?;
    let mut files = Vec::new();
    for entry in fs::read_dir(log.join("keys"))? {
        let entry = entry?;
        files.push((entry.metadata()?.modified()?, entry.path()));
    }
    files.sort();
    files
        .into_iter()
        .map(|(_, path)| {
            let text = fs::read_to_string(path)?;
            Ok(Shown {
                first: text.trim_end() == first.trim_end(),
                key: text.trim_end().into(),
            })
        })
        .collect()
}
