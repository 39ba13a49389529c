//! `cordon session grant`, `revoke` and `mode`: folders come, go and change while a session runs.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use cordon_policy::{GrantMode, GrantSource};
use cordon_session::grants::GrantFlag;
use serde_json::json;

use super::{SessionAnswer, SessionAsk, ask_of_one, changes::shown, unexpected};
use crate::{
    cli::{Format, exit},
    control::{GrantAsked, GrantLine, Holder, Refused},
    error::Failure,
    paths::Paths,
    summary::bytes,
};

/// Options of `cordon session grant`.
#[derive(Debug, clap::Args)]
pub struct GrantArgs {
    /// Its id, or the first digits of it
    #[arg(value_name = "SESSION")]
    session: String,
    /// The folder or file: DIR[:ro|rw|rwd][=NAME], read-only unless said otherwise
    #[arg(value_name = "DIR[:MODE][=NAME]")]
    grant: String,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Options of `cordon session revoke`.
#[derive(Debug, clap::Args)]
pub struct RevokeArgs {
    /// Its id, or the first digits of it
    #[arg(value_name = "SESSION")]
    session: String,
    /// The grant, by its name below `mnt`, or its path here or inside
    #[arg(value_name = "NAME|PATH")]
    grant: PathBuf,
    /// End the processes that still have files of it open, or work in it
    #[arg(long)]
    kill: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Options of `cordon session mode`.
#[derive(Debug, clap::Args)]
pub struct ModeArgs {
    /// Its id, or the first digits of it
    #[arg(value_name = "SESSION")]
    session: String,
    /// The grant, by its name below `mnt`, or its path here or inside
    #[arg(value_name = "NAME|PATH")]
    grant: PathBuf,
    /// What may be done beneath it from now on
    #[arg(value_enum)]
    mode: Mode,
    /// End the processes that have files open for writing, which keep it from becoming read-only
    #[arg(long)]
    kill: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A grant's mode as it is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// Read only
    Ro,
    /// Create, write, rename; nothing that was there disappears
    Rw,
    /// As rw, and delete
    Rwd,
}

/// Gives a folder.
pub fn grant(args: GrantArgs) -> Result<u8, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let flag = GrantFlag::parse(&args.grant, Path::exists).map_err(|error| {
        Failure::from(error)
            .usage()
            .help("`cordon session grant SESSION DIR[:ro|rw|rwd][=NAME]`")
    })?;
    let ask = SessionAsk::Grant {
        session: args.session,
        grant: GrantAsked {
            path: std::env::current_dir()?.join(flag.path),
            mode: flag.mode,
            name: flag.name,
            source: GrantSource::CommandLine,
            inside: None,
        },
        home: paths.home,
    };
    tell(ask, args.format, "granted")
}

/// Takes a folder.
pub fn revoke(args: &RevokeArgs) -> Result<u8, Failure> {
    let ask = SessionAsk::Revoke {
        session: args.session.clone(),
        grant: as_granted(&args.grant),
        kill: args.kill,
    };
    tell(ask, args.format, "taken away")
}

/// Changes a mode.
pub fn mode(args: &ModeArgs) -> Result<u8, Failure> {
    let ask = SessionAsk::Mode {
        session: args.session.clone(),
        grant: as_granted(&args.grant),
        mode: match args.mode {
            Mode::Ro => GrantMode::Ro,
            Mode::Rw => GrantMode::Rw,
            Mode::Rwd => GrantMode::Rwd,
        },
        kill: args.kill,
    };
    tell(ask, args.format, "changed")
}

/// A path of this host as it was granted, anything else as it is.
fn as_granted(which: &Path) -> PathBuf {
    let is_name =
        which.components().count() == 1 && !which.is_absolute() && which != Path::new(".");
    if is_name {
        return which.to_path_buf();
    }
    which
        .canonicalize()
        .unwrap_or_else(|_absent| which.to_path_buf())
}

fn tell(ask: SessionAsk, format: Format, done: &str) -> Result<u8, Failure> {
    match ask_of_one(ask)? {
        SessionAnswer::Granted { grant, used } => {
            match format {
                Format::Json => println!("{}", json!({ "grant": grant, "used": used })),
                Format::Text => print_grant(&grant, &used, done),
            }
            Ok(0)
        }
        SessionAnswer::Refused(refused) => {
            match format {
                Format::Json => println!("{}", json!({ "refused": refused })),
                Format::Text => print_refused(&refused),
            }
            Ok(exit::DENIED)
        }
        _other => Err(unexpected()),
    }
}

/// What a user has to know of a grant whose originals cannot be cloned.
pub fn copied(path: &Path, most: u64) -> String {
    format!(
        "{}: what policy wants preserved is copied when it is changed, because its file system \
         shares no blocks with the place where it is kept: files up to {}; a larger one cannot be \
         changed",
        shown(path),
        bytes(most)
    )
}

fn print_grant(grant: &GrantLine, used: &[Holder], done: &str) {
    println!(
        "{done}: {} as {} ({})",
        grant.path.display(),
        grant.inside.display(),
        grant.mode
    );
    if let Some(most) = grant.copied_up_to {
        eprintln!("cordon: {}", copied(&grant.path, most));
    }
    for holder in used {
        let what = if holder.ended {
            "ended"
        } else {
            "still uses it"
        };
        eprintln!(
            "cordon: process {} ({}) {what}: {} open, {} mapped{}",
            holder.pid,
            holder.name.escape_default(),
            holder.files,
            holder.mapped,
            if holder.directory {
                ", works in it"
            } else {
                ""
            }
        );
    }
    if used.iter().any(|holder| !holder.ended) {
        eprintln!("help: what is open stays open until it is closed; `--kill` ends the processes");
    }
}

fn print_refused(refused: &Refused) {
    eprintln!("denied: {}: {}", refused.what, refused.why);
    if let Some(rule) = &refused.allow_with {
        eprintln!("help: to allow it: {rule}");
    }
    eprintln!("record: {}", refused.decision);
}
