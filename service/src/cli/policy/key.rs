//! `cordon policy key`: keys that sign bundles.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use cordon_policy::bundle::{Role, SigningKey};
use serde_json::json;

use super::{Format, files};
use crate::error::Failure;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key; print what belongs into the trust file
    New(NewArgs),
    /// Print a key's name, role and public half
    Show(ShowArgs),
}

/// Options of `cordon policy key new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// Its name, for example the owner's and the year: alice-2026
    #[arg(long)]
    id: String,
    /// What it is for: policy-publisher or policy-reviewer
    #[arg(long)]
    role: Role,
    /// The file to write: secret, readable by you alone [default: ID.key]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Options of `cordon policy key show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The key file
    file: PathBuf,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does it.
pub fn key(command: &KeyCommand) -> Result<u8, Failure> {
    match command {
        KeyCommand::New(args) => new(args),
        KeyCommand::Show(args) => {
            let key = SigningKey::parse(&args.file, &files::read_secret(&args.file)?)?;
            print(&key, None, args.format);
            Ok(0)
        }
    }
}

fn new(args: &NewArgs) -> Result<u8, Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| {
        Failure::new(format!("the system gives no random bytes: {error}"))
            .help("a key without them could be guessed; try on another machine")
    })?;
    let key = SigningKey::new(&args.id, args.role, seed)?;
    let default = PathBuf::from(format!("{}.key", args.id));
    let output = args.output.as_deref().unwrap_or(&default);
    files::write_secret(output, &key.to_secret_text())?;
    print(&key, Some(output), args.format);
    Ok(0)
}

fn print(key: &SigningKey, file: Option<&Path>, format: Format) {
    let public = key.public();
    match format {
        Format::Json => println!(
            "{}",
            json!({
                "id": key.id(),
                "role": key.role(),
                "public": public.to_string(),
                "fingerprint": public.fingerprint(),
                "file": file.map(|path| path.display().to_string()),
            })
        ),
        Format::Text => {
            if let Some(file) = file {
                eprintln!(
                    "The secret key is in {}: keep it off shared disks, and make a copy.\n\
                     For the trust file of the nodes (fill in `person` and `layers`):\n",
                    file.display()
                );
            }
            println!("{}", trust_entry(key));
        }
    }
}

fn trust_entry(key: &SigningKey) -> String {
    let public = key.public();
    format!(
        "[[key]]\n\
         id = \"{id}\"\n\
         person = \"{id}\"\n\
         public = \"{public}\"\n\
         roles = [\"{role}\"]\n\
         layers = [\"organisation\"]\n\
         # fingerprint {fingerprint}",
        id = key.id(),
        role = key.role(),
        fingerprint = public.fingerprint(),
    )
}
