//! `cordon import`: settings of other tools as rules, and a report of what could not be expressed.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use cordon_runtime::import::{self, Imported, NoteKind, Places};
use serde_json::json;

use super::{
    Format, exit,
    policy::new::{bundle_name, refuse_unless_empty, write},
};
use crate::{error::Failure, paths::Paths};

/// What to read.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Settings of Claude Code: permission rules, and what its sandbox may reach
    ClaudeSettings(FileArgs),
    /// Settings of a sandbox runtime: hosts, and folders to read and write
    SrtSettings(FileArgs),
    /// A platform's baseline: hosts, mounts, variables, and what changed
    CoworkBaseline(BaselineArgs),
}

/// Options of the imports of settings.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// The file
    file: PathBuf,
    /// Where relative paths in it begin; the file's folder when left out
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    #[command(flatten)]
    out: OutArgs,
}

/// Options of `cordon import cowork-baseline`.
#[derive(Debug, Args)]
pub struct BaselineArgs {
    /// The file
    file: PathBuf,
    /// The baseline before, to say what changed
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// Write a policy pack (`policy/`) and session defaults (`session.toml`) into this directory, which
    /// is not there yet, or empty; instead of the rules on standard output
    #[arg(long = "out", value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    out: OutArgs,
}

/// How it is given out.
#[derive(Debug, Args)]
struct OutArgs {
    /// Give the rules out although a refusal of the settings is not in them
    #[arg(long)]
    accept_lost: bool,
    /// How to print it: the rules on standard output and the report on standard error, or all of it as
    /// one object on standard output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Does it. Exit 1 and no rules where a refusal got lost.
pub fn run(command: &Command) -> Result<u8, Failure> {
    match command {
        Command::ClaudeSettings(args) => settings(args, import::claude_settings),
        Command::SrtSettings(args) => settings(args, import::srt_settings),
        Command::CoworkBaseline(args) => baseline(args),
    }
}

fn settings(
    args: &FileArgs,
    read_settings: fn(&[u8], &Places) -> Result<Imported, String>,
) -> Result<u8, Failure> {
    let text = read(&args.file)?;
    let base = match &args.base {
        Some(base) => base.canonicalize()?,
        None => {
            let file = args.file.canonicalize()?;
            file.parent().map(Path::to_owned).unwrap_or_default()
        }
    };
    let home = Paths::from_env(|name| std::env::var_os(name))?.home;
    let imported = read_settings(&text, &Places { home, base });
    let imported = imported.map_err(|why| unusable(&args.file, &why))?;
    give(&imported, &args.out, json!({}))
}

fn baseline(args: &BaselineArgs) -> Result<u8, Failure> {
    let text = read(&args.file)?;
    let previous = args.previous.as_deref().map(read).transpose()?;
    let name = match &args.directory {
        Some(directory) => {
            refuse_unless_empty(directory)?;
            bundle_name(directory)?
        }
        None => "baseline".into(),
    };
    let read = import::cowork_baseline(&text, previous.as_deref(), &name);
    let read = read.map_err(|why| unusable(&args.file, &why))?;
    if args.out.format == Format::Text {
        for line in &read.changes {
            eprintln!("{}", line.escape_debug());
        }
        for variable in &read.env_strip {
            eprintln!("variable {}: taken away", variable.escape_debug());
        }
    }
    let mut beside = json!({
        "mounts": read.mounts,
        "env_strip": read.env_strip,
        "changes": read.changes,
    });
    let Some(directory) = &args.directory else {
        return give(&read.imported, &args.out, beside);
    };
    if read.imported.loses() && !args.out.accept_lost {
        return give(&read.imported, &args.out, beside);
    }
    let pack = directory.join("policy");
    let mut files = Vec::new();
    for (path, text) in &read.pack {
        files.push(write(&pack, path, text)?);
    }
    files.push(write(directory, "session.toml", &read.defaults)?);
    let is_json = args.out.format == Format::Json;
    if let (Some(beside), true) = (beside.as_object_mut(), is_json) {
        beside.insert("files".into(), json!(files));
    }
    // The rules are in the pack.
    let imported = Imported {
        rules: String::new(),
        ..read.imported
    };
    let code = give(&imported, &args.out, beside)?;
    if !is_json {
        for file in &files {
            println!("{}", file.display());
        }
        let shown = directory.display();
        eprintln!("\nLook at it, then:");
        eprintln!("  cordon policy test {shown}/policy");
        eprintln!("  cordon run --policy {shown}/policy --defaults {shown}/session.toml -- claude");
    }
    Ok(code)
}

fn give(imported: &Imported, out: &OutArgs, beside: serde_json::Value) -> Result<u8, Failure> {
    let stops = imported.loses() && !out.accept_lost;
    match out.format {
        Format::Json => {
            let notes: Vec<_> = imported
                .notes
                .iter()
                .map(|note| {
                    json!({"place": note.place, "kind": note.kind.as_str(), "what": note.what})
                })
                .collect();
            let rules = (!stops).then_some(&imported.rules);
            let mut object = json!({"rules": rules, "notes": notes});
            if let (Some(object), Some(beside)) = (object.as_object_mut(), beside.as_object()) {
                object.extend(beside.clone());
            }
            println!("{object}");
        }
        Format::Text => {
            for note in &imported.notes {
                eprintln!(
                    "{:8}  {}: {}",
                    note.kind.as_str(),
                    note.place.escape_debug(),
                    note.what.escape_debug()
                );
            }
            if !stops {
                print!("{}", imported.rules);
            }
        }
    }
    if stops {
        let lost = imported
            .notes
            .iter()
            .filter(|note| note.kind == NoteKind::Lost);
        let count = lost.count();
        super::print_failure(
            &Failure::new(format!(
                "{count} of its refusals cannot be expressed, so there are no rules"
            ))
            .help("look at what is `lost` above; --accept-lost gives the rules out without them"),
        );
        return Ok(exit::FAILED);
    }
    Ok(0)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let named = |error: std::io::Error| Failure::new(format!("`{}`: {error}", path.display()));
    let mut text = Vec::new();
    let file = File::open(path).map_err(named)?;
    // One byte more than is taken, so that a longer file is refused and not cut.
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(named)?;
    Ok(text)
}

fn unusable(path: &Path, why: &str) -> Failure {
    Failure::new(format!("`{}` is not usable: {why}", path.display()))
}

/// Largest file, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;
